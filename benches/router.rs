//! What the router of models adds to a call, beside a bare client and, where they run, beside gateways of others.
//! `make bench-router` starts what is needed and prints the table.
//!
//! Every contender asks the same server on the loopback address, one call after the other, in turns within one run: what else
//! the machine does falls on all of them. Only ratios and counts fail; times inform.

#[path = "router/contenders.rs"]
mod contenders;
#[path = "router/server.rs"]
mod server;
#[path = "router/table.rs"]
mod table;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use backstop::core::chain::{
    breaker::{Tenant, Terms},
    call::{Call, Event, Next},
    deadline::Allowance,
    fleet::Fleet,
    moment::Moment,
};
use clap::{Parser, Subcommand};

use contenders::{Bare, Case, Gateway, Router, chain};
use table::{Row, Samples};

#[derive(Parser)]
struct Args {
    /// What `cargo bench` adds to each command line.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the same answer to every call, and 503 below `/bad`.
    Serve,
    /// Measures.
    Measure {
        /// Where `serve` listens.
        #[arg(long)]
        server: String,
        /// A gateway before that server: NAME=URL.
        #[arg(long)]
        gateway: Vec<String>,
        /// A header for all gateways: NAME=VALUE.
        #[arg(long)]
        header: Vec<String>,
        /// Rounds, of which each asks everybody.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Calls of the bare client and of the router in a round.
        #[arg(long, default_value_t = 600)]
        calls: usize,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        None => {
            println!("router: `make bench-router` measures");
            Ok(())
        }
        Some(Command::Serve) => server::serve().await,
        Some(Command::Measure { server, gateway, header, rounds, calls }) => {
            // Log lines are written as the product writes them, and go nowhere.
            tracing_subscriber::fmt().json().with_writer(std::io::sink).init();
            let gateways = gateway.iter().map(|said| Gateway::of(said, &header)).collect::<anyhow::Result<Vec<_>>>()?;
            measure(&server, &gateways, rounds, calls).await
        }
    }
}

async fn measure(server: &str, gateways: &[Gateway], rounds: usize, calls: usize) -> anyhow::Result<()> {
    let case = Case::of_file()?;
    let bare = Bare::new(server, &case)?;
    let router = Router::new(server, &["good"])?;
    for number in 0..calls {
        bare.good().await?;
        router.ask(&case, number).await?;
    }
    let few = (calls / 20).max(10);
    for gateway in gateways {
        for _ in 0..few {
            bare.through(gateway).await?;
        }
    }
    let before = server::hits(server).await?;
    let mut direct = Samples::new(rounds);
    let mut routed = Samples::new(rounds);
    let (mut two, mut failover) = (Samples::new(rounds), Samples::new(rounds));
    let mut through: Vec<Samples> = gateways.iter().map(|_| Samples::new(rounds)).collect();
    for round in 0..rounds {
        // One by one in turns: what disturbs the machine disturbs both.
        for number in 0..calls {
            direct.take(round, bare.good()).await?;
            routed.take(round, router.ask(&case, number)).await?;
        }
        for _ in 0..few {
            for (gateway, samples) in gateways.iter().zip(&mut through) {
                samples.take(round, bare.through(gateway)).await?;
            }
        }
        // Each failover begins with upstreams of which nothing is known: after one, the first is not asked for a while.
        for number in 0..calls / 4 {
            // One right after the other: the second of two calls finds a server that is awake.
            two.take(round, bare.bad_and_good()).await?;
            let pair = router.afresh(server, &["bad", "good"])?;
            failover.take(round, pair.ask(&case, number)).await?;
        }
    }
    let hits = server::hits(server).await? - before;
    let asked = rounds * (2 * calls + few * gateways.len() + calls / 4 * 4);
    let rows: Vec<Row> = gateways.iter().zip(through).map(|(gateway, it)| Row::new(&gateway.name, it)).collect();
    table::print(&direct, &routed, &two, &failover, &rows, &decisions(server)?);
    table::judge(&direct, &routed, &two, &failover, &rows, (hits, asked))
}

/// How long one choice among eight upstreams takes, with its begin and its end, in each of several stretches.
fn decisions(server: &str) -> anyhow::Result<Vec<Duration>> {
    const STRETCH: u32 = 2000;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let chain = chain(server, &names)?;
    let mut fleet = Fleet::new(&chain, Terms::default());
    let tenant: Tenant = "shop".into();
    let began = Instant::now();
    let mut stretches = Vec::new();
    for stretch in 0..20 {
        let from = Instant::now();
        for number in 0..STRETCH {
            let now = Moment(began.elapsed());
            let chance = f64::from(number) / f64::from(STRETCH);
            let mut call = Call::new(&fleet, 0, Some(tenant.clone()), 0, Allowance::new(Duration::from_secs(60), now));
            let step = call.step(&mut fleet, Event::Begin, now, chance);
            anyhow::ensure!(matches!(step.next, Next::Attempt(_)), "nothing was chosen");
            black_box(call.step(&mut fleet, Event::Answered, now, chance));
        }
        // The first ones warm up.
        if stretch > 2 {
            stretches.push(from.elapsed() / STRETCH);
        }
    }
    stretches.sort();
    Ok(stretches)
}

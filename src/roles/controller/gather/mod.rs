//! Reads what a step needs: quorum reads, each with a deadline. Nothing is decided here.

mod alerts;
mod declared;
mod lists;
mod reach;
mod records;
mod target;

use crate::api::v1alpha1::{Incident, Time};
use crate::core::{
    incident::{Books, Flight, JudgementInputs, Need, Seen, Target, Watched, WriteAndJudgement},
    surroundings,
    workload::Workload,
};

use super::context::{Context, Error};

pub use alerts::firing;
pub use declared::{Freshness, rules};
pub use records::{answers, diagnosed};
pub use target::read_workload;

use reach::{reach, with_neighbours};
use records::{books, grant, investigation, remediation, valid_approvals};
use target::{presence, workload};

/// Reads what `need` says about `incident`.
pub async fn gather(ctx: &Context, incident: &Incident, need: Need, now: Time) -> Result<Seen, Error> {
    Ok(match need {
        Need::Nothing => Seen::Nothing,
        Need::Notice => Seen::Notice,
        Need::Rules => Seen::Rules(Box::new(rules(ctx, incident, Freshness::AtHand).await?)),
        Need::Round => Seen::Round(investigation(ctx, incident).await?.map(Box::new)),
        Need::Judgement => Seen::Judgement(Box::new(Box::pin(case(ctx, incident, now)).await?)),
        Need::Approvals => {
            let (firing, approvals) = tokio::try_join!(firing(ctx, incident), valid_approvals(ctx, incident, now))?;
            Seen::Approvals { firing: firing.is_some(), approvals }
        }
        Need::Write(flight) => Seen::Write(remediation(ctx, incident, flight).await?.map(Box::new)),
        Need::WriteAndJudgement(flight) => {
            let repair = async {
                match flight {
                    Flight::Repair => Ok(None),
                    Flight::Undo | Flight::Replacement => remediation(ctx, incident, Flight::Repair).await,
                }
            };
            let (remediation, repair, grant, case) = tokio::try_join!(
                remediation(ctx, incident, flight),
                repair,
                grant(ctx, incident),
                case(ctx, incident, now)
            )?;
            Seen::WriteAndJudgement(Box::new(WriteAndJudgement { remediation, repair, grant, case }))
        }
        Need::Target => {
            let (repair, workload) =
                tokio::try_join!(remediation(ctx, incident, Flight::Repair), workload(ctx, incident, now))?;
            Seen::Target(Box::new(Target { repair, workload }))
        }
        Need::Watch => {
            let (repair, workload, firing) = tokio::try_join!(
                remediation(ctx, incident, Flight::Repair),
                workload(ctx, incident, now),
                firing(ctx, incident)
            )?;
            let known = ctx.incidents.state();
            let successor = surroundings::successor(incident, known.iter().map(AsRef::as_ref));
            Seen::Watch(Box::new(Watched { repair, workload, firing: firing.is_some(), successor }))
        }
    })
}

/// Everything that a decision depends on.
async fn case(ctx: &Context, incident: &Incident, now: Time) -> Result<JudgementInputs, Error> {
    let target = async {
        let workload = workload(ctx, incident, now).await?;
        let presence = match &workload {
            Ok(workload) => presence(ctx, workload).await,
            Err(_) => vec![],
        };
        Ok((workload, presence))
    };
    let (firing, rules, books, investigation, (workload, presence)) = tokio::try_join!(
        Box::pin(firing(ctx, incident)),
        Box::pin(rules(ctx, incident, Freshness::Quorum)),
        Box::pin(books(ctx, incident, now)),
        Box::pin(investigation(ctx, incident)),
        Box::pin(target),
    )?;
    let fires = firing.is_some();
    let books = Books { presence, alert_labels: firing.unwrap_or_default(), ..books };
    let workload = workload.map(|workload| Workload { pod_security_at: rules.pod_security_at, ..workload });
    let fits = workload.as_ref().ok().filter(|target| target.is_broken());
    let (books, reach) = tokio::join!(
        with_neighbours(ctx, incident, books, fits, now),
        reach(ctx, incident, fits.is_some() && rules.enrolled)
    );
    let workloads = books.workloads_of_namespace;
    let reach = reach.map(|read| {
        read.map(|mut reach| {
            reach.workloads = workloads;
            reach
        })
    });
    let books = Books { reach, ..books };
    Ok(JudgementInputs { firing: fires, rules, investigation, workload, books })
}

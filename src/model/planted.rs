//! A rung of unit tests: all that a new rung needs is a file like this one and its line in the registry.

use std::time::Duration;

use futures::future::BoxFuture;

use super::log::{Log, Spent};
use super::rung::{Asked, Budget, Rung, Why};
use crate::{
    api::v1alpha1::{Cause, Diagnosis, Mode},
    core::rules::FactBundle,
};

/// How a planted rung behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It answers, and claims to be the rules.
    Answers,
    /// It fails after it has spent tokens.
    Fails,
    /// It fails in a way after which no other may be asked.
    Stops,
    /// It never answers.
    Hangs,
}

/// A rung that behaves as its name says: `planted-answers`, `planted-fails`, `planted-stops`, `planted-hangs`.
pub struct Planted(pub Behaviour);

impl Rung for Planted {
    fn name(&self) -> &str {
        match self.0 {
            Behaviour::Answers => "planted-answers",
            Behaviour::Fails => "planted-fails",
            Behaviour::Stops => "planted-stops",
            Behaviour::Hangs => "planted-hangs",
        }
    }

    fn ceiling(&self) -> Mode {
        Mode::Suggest
    }

    fn ask<'a>(&'a self, _: FactBundle<'a>, budget: Budget, _: &'a Log) -> BoxFuture<'a, Asked> {
        let spent = Spent { tokens: budget.tokens / 2, nano_dollars: 7 };
        Box::pin(async move {
            let answer = match self.0 {
                Behaviour::Answers => Ok(Diagnosis {
                    diagnoser: "rules".into(),
                    ceiling: Mode::Auto,
                    cause: Cause::BadRollout,
                    ..Diagnosis::default()
                }),
                Behaviour::Fails => Err(Why::Unavailable),
                Behaviour::Stops => Err(Why::Stopped),
                Behaviour::Hangs => {
                    tokio::time::sleep(Duration::from_secs(86_400)).await;
                    Err(Why::Timeout)
                }
            };
            Asked { spent, last: self.0 == Behaviour::Stops, ..Asked::free(answer) }
        })
    }
}

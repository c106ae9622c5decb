//! The embedded rules as a rung: no client, no cost, always an answer.

use futures::future::BoxFuture;

use super::log::Log;
use super::rung::{Asked, Budget, Rung};
use crate::{
    api::v1alpha1::{Diagnosis, Mode},
    core::rules::{self, FactBundle},
};

/// The last rung of every chain.
pub struct Rules;

impl Rules {
    /// What the rules say.
    pub fn diagnose(&self, case: FactBundle<'_>) -> Diagnosis {
        rules::diagnose(case)
    }
}

impl Rung for Rules {
    fn name(&self) -> &str {
        rules::NAME
    }

    fn ceiling(&self) -> Mode {
        rules::CEILING
    }

    fn ask<'a>(&'a self, case: FactBundle<'a>, _: Budget, _: &'a Log) -> BoxFuture<'a, Asked> {
        Box::pin(async move { Asked::free(Ok(self.diagnose(case))) })
    }
}

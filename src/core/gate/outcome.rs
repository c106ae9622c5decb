//! What a check says, and what follows from it.

use crate::api::v1alpha1::Verdict;
use crate::core::reason::Reason;

/// What a refusal means for the incident, besides that nothing is written. Without one a person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Time may turn it: pods that have not failed yet.
    Wait,
    /// What it rests on is too old to act upon, and may be seen anew. A person can be asked all the same: what is approved is
    /// judged on a new reading.
    Stale,
    /// There is nothing to wait for, whatever else refuses.
    Final,
    /// What was proposed is not true of the cluster, or too much fails at once: it counts for the cascade breaker.
    Anomaly,
    /// What was said is not true of the facts or of the cluster: it counts for the cascade breaker, and the answer of the
    /// model that said it decides nothing.
    Ungrounded,
    /// Whoever diagnosed is not sure enough: another may be asked.
    Unsure,
    /// The target is one of many that fail at once: that is what people are told, whatever else refuses.
    Shared,
    /// Only a person's approval is missing, if nothing else refuses.
    AskApproval,
    /// The incident is over by itself.
    Resolve,
}

/// The outcome of one check before its name is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it lets the action through.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The same in one sentence.
    pub message: String,
    /// What follows from a refusal.
    pub effect: Option<Effect>,
}

impl Outcome {
    fn new(verdict: Verdict, reason: Reason, message: impl Into<String>) -> Outcome {
        Outcome { verdict, reason, message: message.into(), effect: None }
    }

    /// Time may turn it.
    pub fn wait(self) -> Outcome {
        self.with(Effect::Wait)
    }

    /// There is nothing to wait for.
    pub fn ends_wait(self) -> Outcome {
        self.with(Effect::Final)
    }

    /// It counts for the cascade breaker.
    pub fn anomaly(self) -> Outcome {
        self.with(Effect::Anomaly)
    }

    /// It counts for the cascade breaker, and what was said decides nothing.
    pub fn ungrounded(self) -> Outcome {
        self.with(Effect::Ungrounded)
    }

    /// With this effect.
    pub fn with(self, effect: Effect) -> Outcome {
        Outcome { effect: Some(effect), ..self }
    }

    /// It does not let the action through by itself.
    pub fn refuses(&self) -> bool {
        matches!(self.verdict, Verdict::Refused | Verdict::Unknown)
    }
}

/// Lets the action through.
pub fn pass(message: impl Into<String>) -> Outcome {
    Outcome::new(Verdict::Passed, Reason::Ok, message)
}

/// Does not let the action through.
pub fn refuse(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome::new(Verdict::Refused, reason, message)
}

/// What the check needs could not be read: the action is not let through.
pub fn unknown(reason: Reason, message: impl Into<String>) -> Outcome {
    Outcome::new(Verdict::Unknown, reason, message)
}

/// An earlier check has refused what this one would look at. Where no check refused, it counts as a refusal.
pub fn not_asked(message: impl Into<String>) -> Outcome {
    Outcome::new(Verdict::NotAsked, Reason::NotAsked, message)
}

//! The timeline of an incident, and the moments from which durations are computed.

use crate::api::v1alpha1::{Actor, IncidentStatus, Time, TimelineEntry};

const MAX_ENTRIES: usize = 200;

/// What a line of the timeline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The intake received the first alert.
    AlertReceived,
    /// The plan was written.
    PlanWritten,
    /// A round of investigation ended.
    Diagnosed,
    /// A round of investigation did not end in time, and the rules are asked alone.
    RoundGivenUp,
    /// An answer of a model turned out not to be grounded.
    AnswerRefused,
    /// A stronger rung is asked.
    Rerouted,
    /// The gate decided.
    Judged,
    /// A person was asked for an Approval.
    ApprovalAsked,
    /// The exact write was written down.
    RemediationCreated,
    /// The Grant was opened.
    GrantOpened,
    /// The API server accepted the write.
    Fired,
    /// A stuck pod was evicted.
    PodEvicted,
    /// The target was seen healthy.
    Healthy,
    /// The write is to be taken back.
    UndoCreated,
    /// It was taken back.
    Undone,
    /// The incident is over.
    Resolved,
    /// The target is not watched any more.
    WatchEnded,
    /// The target failed again, and is investigated again.
    Reopened,
    /// A person has it.
    Escalated,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 19] = [
        Event::AlertReceived,
        Event::PlanWritten,
        Event::Diagnosed,
        Event::RoundGivenUp,
        Event::AnswerRefused,
        Event::Rerouted,
        Event::Judged,
        Event::ApprovalAsked,
        Event::RemediationCreated,
        Event::GrantOpened,
        Event::Fired,
        Event::PodEvicted,
        Event::Healthy,
        Event::UndoCreated,
        Event::Undone,
        Event::Resolved,
        Event::WatchEnded,
        Event::Reopened,
        Event::Escalated,
    ];

    /// The constant, as it stands in `status.timeline`.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::AlertReceived => "AlertReceived",
            Event::PlanWritten => "PlanWritten",
            Event::Diagnosed => "Diagnosed",
            Event::RoundGivenUp => "RoundGivenUp",
            Event::AnswerRefused => "AnswerRefused",
            Event::Rerouted => "Rerouted",
            Event::Judged => "Judged",
            Event::ApprovalAsked => "ApprovalAsked",
            Event::RemediationCreated => "RemediationCreated",
            Event::GrantOpened => "GrantOpened",
            Event::Fired => "Fired",
            Event::PodEvicted => "PodEvicted",
            Event::Healthy => "Healthy",
            Event::UndoCreated => "UndoCreated",
            Event::Undone => "Undone",
            Event::Resolved => "Resolved",
            Event::WatchEnded => "WatchEnded",
            Event::Reopened => "Reopened",
            Event::Escalated => "Escalated",
        }
    }

    /// The event of this name; `None` for one of a newer version.
    pub fn named(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

/// Adds a line. Past the bound the oldest lines after the first ten are dropped: how it began and how it ends matter.
pub fn note(status: &mut IncidentStatus, at: Time, actor: Actor, event: Event, message: impl Into<String>) {
    let message: String = message.into().chars().take(1000).collect();
    if status.timeline.len() >= MAX_ENTRIES {
        status.timeline.remove(10);
    }
    status.timeline.push(TimelineEntry { at, actor, event: event.as_str().into(), message });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end() {
        let mut status = IncidentStatus::default();
        for index in 0..500 {
            note(&mut status, Time::UNIX_EPOCH, Actor::Controller, Event::Judged, format!("{index}"));
        }
        assert_eq!(status.timeline.len(), MAX_ENTRIES);
        assert_eq!(status.timeline[0].message, "0");
        assert_eq!(status.timeline[199].message, "499");
    }
}

//! The timeline of an incident, and the moments from which durations are computed.

use crate::api::v1alpha1::{Actor, IncidentStatus, Time, TimelineEntry};

const MAX_ENTRIES: usize = 200;

/// Adds a line. Past the bound the oldest lines after the first ten are dropped: how it began and how it ends matter.
pub fn note(status: &mut IncidentStatus, at: Time, actor: Actor, event: &str, message: impl Into<String>) {
    let message: String = message.into().chars().take(1000).collect();
    if status.timeline.len() >= MAX_ENTRIES {
        status.timeline.remove(10);
    }
    status.timeline.push(TimelineEntry { at, actor, event: event.into(), message });
}

/// Whether a line of this kind is there.
pub fn has(status: &IncidentStatus, event: &str) -> bool {
    status.timeline.iter().any(|entry| entry.event == event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_story_keeps_its_beginning_and_its_end() {
        let mut status = IncidentStatus::default();
        for index in 0..500 {
            note(&mut status, Time::UNIX_EPOCH, Actor::Controller, &format!("E{index}"), "");
        }
        assert_eq!(status.timeline.len(), MAX_ENTRIES);
        assert_eq!(status.timeline[0].event, "E0");
        assert_eq!(status.timeline[199].event, "E499");
    }
}

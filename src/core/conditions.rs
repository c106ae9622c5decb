//! Standard conditions: the transition time moves only when the status flips.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;

use crate::api::v1alpha1::{Condition, Time};

/// Sets one condition.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: i64,
    now: Time,
) {
    let status = if status { "True" } else { "False" };
    let mut condition = Condition {
        type_: kind.into(),
        status: status.into(),
        reason: if reason.is_empty() { "Unknown".into() } else { reason.into() },
        message: message.chars().take(1000).collect(),
        observed_generation: Some(generation),
        last_transition_time: MetaTime(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time = old.last_transition_time.clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_stays_while_the_status_does() {
        let at = |s| Time::from_second(s).unwrap();
        let mut conditions = vec![];
        set(&mut conditions, "Ready", true, "Compiled", "", 1, at(1));
        set(&mut conditions, "Ready", true, "Compiled", "again", 2, at(2));
        assert_eq!(conditions[0].last_transition_time, MetaTime(at(1)));
        set(&mut conditions, "Ready", false, "Broken", "", 3, at(3));
        assert_eq!(conditions[0].last_transition_time, MetaTime(at(3)));
        assert_eq!(conditions.len(), 1);
    }
}

//! The state of a Grant while no write needs it.

use jiff::SignedDuration;

use crate::api::v1alpha1::{GrantSpec, Time};

use super::reason::Reason;

/// A Grant is opened for this long at most, with what clocks may differ by; one that ends later was not opened by us.
const LONGEST: SignedDuration = SignedDuration::from_secs(120);
/// A Grant that expired this long ago is abandoned: its incident ended while no controller was running.
const ABANDONED: SignedDuration = SignedDuration::from_secs(60);

/// What a Grant has to be changed to; `None` when it may stay as it is. `keep_closed` says why it may not be opened.
pub fn kept(grant: Option<&GrantSpec>, keep_closed: Option<Reason>, now: Time) -> Option<GrantSpec> {
    let closed = || GrantSpec { open: None, closed_because: keep_closed.map(|reason| reason.as_str().to_owned()) };
    let Some(grant) = grant else { return Some(closed()) };
    match &grant.open {
        Some(open) => {
            let over = now.duration_since(open.not_after);
            (over > ABANDONED || over < -LONGEST).then(closed)
        }
        None => (grant.closed_because != closed().closed_because).then(closed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Time {
        Time::from_second(1_800_000_000 + second).unwrap()
    }

    fn open(not_after: i64) -> GrantSpec {
        serde_json::from_value(json!({"open": {
            "actionId": "0".repeat(32), "action": "rollout-undo", "remediation": "r", "epoch": 1, "uid": "u",
            "write": {"field": {"path": "/spec/template", "before": 1, "after": 2}}, "notAfter": at(not_after).to_string(),
        }}))
        .unwrap()
    }

    #[test]
    fn a_missing_grant_is_recreated_closed() {
        let made = kept(None, Some(Reason::AuditNotDurable), at(0)).unwrap();
        assert_eq!((made.open, made.closed_because.as_deref()), (None, Some("AuditNotDurable")));
        assert_eq!(kept(None, None, at(0)).unwrap(), GrantSpec { open: None, closed_because: None });
    }

    #[test]
    fn an_open_grant_is_left_alone_until_it_is_long_past_its_end() {
        assert_eq!(kept(Some(&open(0)), None, at(60)), None);
        assert_eq!(kept(Some(&open(0)), None, at(61)).unwrap().open, None);
    }

    #[test]
    fn a_grant_that_ends_later_than_any_that_was_opened_is_closed() {
        assert_eq!(kept(Some(&open(120)), None, at(0)), None);
        assert_eq!(kept(Some(&open(121)), None, at(0)).unwrap().open, None);
    }

    #[test]
    fn a_closed_grant_says_why_it_stays_closed_and_stops_saying_so() {
        let closed = GrantSpec { open: None, closed_because: None };
        assert_eq!(kept(Some(&closed), None, at(0)), None);
        let held = kept(Some(&closed), Some(Reason::AuditNotDurable), at(0)).unwrap();
        assert_eq!(held.closed_because.as_deref(), Some("AuditNotDurable"));
        assert_eq!(kept(Some(&held), Some(Reason::AuditNotDurable), at(0)), None);
        assert_eq!(kept(Some(&held), None, at(0)).unwrap(), closed);
    }
}

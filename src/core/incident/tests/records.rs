//! What the audit log says of a write.

use jiff::SignedDuration;

use super::{Fault, World, drive};
use crate::api::v1alpha1::{OpenGrant, Write};
use crate::core::incident::{Entry, step};
use crate::core::reason::Reason;

fn opening(world: &World) -> Vec<&Entry> {
    world.records.iter().filter(|record| record.kind == "GrantOpening").collect()
}

#[test]
fn who_approved_what_and_by_which_rules_is_on_record_before_the_grant_opens() {
    let mut world = World { mode: Some("approve".into()), approves: true, ..World::new() };
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    let [record] = opening(&world)[..] else { panic!("{:?}", world.audit) };
    let details = &record.details;
    let remediation = world.remediations.values().next().unwrap();
    let spec = &remediation.spec;
    assert_eq!(details["digest"], spec.digest.as_str());
    assert_eq!(details["mode"], "approve");
    let approval = &details["approvals"][0];
    assert_eq!((&approval["approver"], &approval["name"]), (&"ann".into(), &"ann".into()));
    assert_eq!((&approval["uid"], &approval["digest"]), (&"uid-ann".into(), &spec.digest.as_str().into()));
    let change = &details["change"];
    assert_eq!(change["path"], "/spec/template");
    assert!(change["beforeSha256"] != change["afterSha256"] && change["afterSha256"].as_str().unwrap().len() == 64);
    assert!(!change["fields"][0]["path"].as_str().unwrap().is_empty());
    assert_eq!(details["verdicts"]["passed"], details["verdicts"]["of"]);
    assert_eq!(details["verdicts"]["reason"], Reason::AllChecksPassed.as_str());
    assert_eq!((&details["diagnoser"], &details["incidentUid"]), (&"rules".into(), &"uid-incident".into()));
    assert!(details.contains_key("policies") && details.contains_key("runbooks"));
}

#[test]
fn while_another_grant_is_open_nothing_is_recorded() {
    let mut world = World::new();
    let until = world.now + SignedDuration::from_secs(20);
    world.grant.spec.open = Some(OpenGrant {
        action_id: "0".repeat(32),
        action: "rollout-undo".into(),
        remediation: "another".into(),
        epoch: 1,
        uid: "uid-other".into(),
        write: Write::Evict(serde_json::from_value(serde_json::json!({"pod": {"kind": "Pod", "name": "p"}})).unwrap()),
        not_after: until,
    });
    assert!(drive(&mut world, step, |_| Fault::None).ended);
    assert_eq!((opening(&world).len(), world.opened.len()), (1, 1));
}

#[test]
fn a_grant_that_has_to_be_opened_again_has_the_same_record() {
    let mut world = World::new();
    let mut conflicts = 0;
    // The Grant changes just before it is written, a few times.
    drive(&mut world, step, |_| Fault::None);
    let first = opening(&world)[0].clone();
    let mut world = World::new();
    drive(&mut world, step, |n| {
        let fault = n > 8 && conflicts < 6;
        conflicts += usize::from(fault);
        if fault { Fault::Conflict } else { Fault::None }
    });
    for record in opening(&world) {
        assert_eq!(record.details, first.details, "the log writes it once");
    }
}

//! For each kind of claim the truth that it is for, and the lies that a fluent diagnoser would tell.

use serde_json::json;

use super::of;
use crate::api::v1alpha1::{
    Claim, ClaimKind, ConfigFact, Fact, FactData, FieldChange, PodFact, PodFailure, RevisionDiffFact, RevisionFact,
    WorkloadFact,
};
use crate::core::gate::testing::{at, claim, fact, object, reading};
use crate::core::workload::Workload;

/// A claim over these facts.
struct Told {
    claim: Claim,
    facts: Vec<Fact>,
    workload: Workload,
}

impl Told {
    fn supported(&self) -> bool {
        (of(self.claim.kind).supported)(&self.claim, &self.facts.iter().collect::<Vec<_>>())
    }

    fn holds(&self) -> bool {
        (of(self.claim.kind).holds)(&self.claim, &self.workload)
    }
}

fn about(data: FactData) -> Fact {
    fact("f1", object("Deployment", "api"), data)
}

fn pod(revision: i64, failure: PodFailure) -> Fact {
    about(FactData::Pod(PodFact {
        revision: Some(revision),
        failure,
        ready: failure == PodFailure::None,
        ..PodFact::default()
    }))
}

fn recorded(number: i64, current: bool, ready: i32) -> Fact {
    about(FactData::Revision(RevisionFact {
        number,
        current,
        ready,
        created_at: Some(at(-10)),
        ..RevisionFact::default()
    }))
}

fn differs(from: i64, to: i64, changes: usize) -> Fact {
    let changes = vec![FieldChange::default(); changes];
    about(FactData::RevisionDiff(RevisionDiffFact { from, to, restart_only: changes.is_empty(), changes }))
}

fn complete() -> Fact {
    about(FactData::Workload(WorkloadFact { desired: 2, ready: 2, ..WorkloadFact::default() }))
}

fn config(exists: bool, changed: Option<i64>) -> Fact {
    let data = ConfigFact { exists, changed_at: changed.map(at), ..ConfigFact::default() };
    fact("f1", object("ConfigMap", "settings"), FactData::Config(data))
}

/// A true claim of each kind.
fn truth(kind: ClaimKind) -> Told {
    let (revision, facts, workload) = match kind {
        ClaimKind::PodsFailing => (None, vec![pod(2, PodFailure::CrashLoop)], reading().crash_looping()),
        ClaimKind::FailingPodsRunRevision => {
            (Some(2), vec![recorded(2, true, 0), pod(2, PodFailure::CrashLoop)], reading().crash_looping())
        }
        ClaimKind::TemplateChanged => (Some(1), vec![differs(1, 2, 1)], reading().crash_looping()),
        ClaimKind::TemplateUnchanged => {
            (Some(2), vec![recorded(2, true, 0), config(true, Some(-5))], reading().crash_looping())
        }
        ClaimKind::RevisionReady => (Some(1), vec![recorded(1, false, 1)], reading().crash_looping()),
        ClaimKind::OnlyOneRevision => {
            let mut workload = reading().crash_looping();
            workload.revisions.truncate(1);
            (Some(2), vec![recorded(2, true, 0)], workload)
        }
        ClaimKind::NothingFails => (None, vec![complete(), pod(2, PodFailure::None)], reading().healthy()),
    };
    let failure = (kind == ClaimKind::PodsFailing).then_some(PodFailure::CrashLoop);
    Told { claim: Claim { failure, ..claim(kind, revision, &["f1"]) }, facts, workload }
}

#[test]
fn the_truth_is_supported_and_holds() {
    for kind in ClaimKind::ALL {
        let told = truth(*kind);
        assert!(told.supported(), "{kind:?} is not supported");
        assert!(told.holds(), "{kind:?} does not hold");
    }
}

#[test]
fn nothing_is_supported_by_nothing_or_by_facts_of_another_sort() {
    for kind in ClaimKind::ALL {
        for facts in [vec![], vec![about(FactData::Workload(WorkloadFact::default()))]] {
            assert!(!Told { facts, ..truth(*kind) }.supported(), "{kind:?}");
        }
    }
}

#[test]
fn a_claim_about_a_revision_that_names_none_or_another_is_neither_supported_nor_true() {
    for kind in ClaimKind::ALL.iter().filter(|kind| truth(**kind).claim.revision.is_some()) {
        for revision in [None, Some(0), Some(9), Some(-1)] {
            let mut told = truth(*kind);
            told.claim.revision = revision;
            assert!(!told.supported(), "{kind:?} {revision:?}");
            assert!(!told.holds(), "{kind:?} {revision:?}");
        }
    }
}

#[test]
fn nothing_is_true_of_a_workload_of_which_nothing_is_known() {
    for kind in ClaimKind::ALL {
        let mut told = truth(*kind);
        told.workload.pods.clear();
        told.workload.revisions.clear();
        assert!(!told.holds(), "{kind:?}");
    }
}

/// Lies that the cited facts do not carry.
#[test]
fn a_lie_is_not_supported() {
    use ClaimKind::*;
    let never_ready =
        PodFact { revision: Some(2), failure: PodFailure::CrashLoop, ran_seconds: Some(1), ..PodFact::default() };
    let lies: Vec<(ClaimKind, Vec<Fact>, &str)> = vec![
        (PodsFailing, vec![pod(2, PodFailure::OutOfMemory)], "the pod fails in another way"),
        (PodsFailing, vec![pod(2, PodFailure::Starting)], "the pod only starts"),
        (PodsFailing, vec![pod(2, PodFailure::CrashLoop), pod(2, PodFailure::None)], "one of the pods is fine"),
        (FailingPodsRunRevision, vec![pod(1, PodFailure::CrashLoop)], "the pod runs another revision"),
        (FailingPodsRunRevision, vec![pod(2, PodFailure::None)], "the pod does not fail"),
        (
            FailingPodsRunRevision,
            vec![pod(2, PodFailure::CrashLoop), pod(1, PodFailure::CrashLoop)],
            "one runs another",
        ),
        (TemplateChanged, vec![differs(2, 1, 1)], "the difference is of another revision"),
        (TemplateChanged, vec![differs(1, 2, 0)], "it was only restarted"),
        (TemplateUnchanged, vec![about(FactData::Pod(never_ready))], "the pod shows nothing that worked"),
        (TemplateUnchanged, vec![pod(1, PodFailure::None)], "a pod of another revision"),
        (TemplateUnchanged, vec![recorded(2, true, 0)], "the revision is ten seconds old"),
        (TemplateUnchanged, vec![differs(1, 2, 1)], "the template did change"),
        (TemplateUnchanged, vec![recorded(2, true, 0), config(true, Some(-20))], "it changed before the revision"),
        (TemplateUnchanged, vec![config(true, Some(-5))], "nothing says when the revision was created"),
        (RevisionReady, vec![recorded(1, false, 0)], "it has no ready replica"),
        (RevisionReady, vec![recorded(2, true, 1)], "another one is ready"),
        (OnlyOneRevision, vec![recorded(2, true, 0), recorded(1, false, 0)], "there is an earlier one"),
        (OnlyOneRevision, vec![recorded(2, false, 0)], "it is not the current one"),
        (NothingFails, vec![complete()], "no pod was looked at"),
        (NothingFails, vec![pod(2, PodFailure::None)], "the workload was not looked at"),
        (NothingFails, vec![complete(), pod(2, PodFailure::CrashLoop)], "a pod fails"),
        (NothingFails, vec![complete(), pod(2, PodFailure::Starting)], "a pod is still starting"),
    ];
    for (kind, facts, lie) in lies {
        assert!(!Told { facts, ..truth(kind) }.supported(), "{kind:?}: {lie}");
    }
}

/// Lies whose facts were made up to carry them; the reading tells otherwise.
#[test]
fn a_lie_does_not_hold() {
    use ClaimKind::*;
    type Bend = fn(&mut Workload);
    let lies: Vec<(ClaimKind, Bend, &str)> = vec![
        (PodsFailing, |w| *w = reading().healthy(), "nothing fails"),
        (PodsFailing, |w| w.pods[1].fact.failure = PodFailure::ImagePull, "it fails in another way"),
        (FailingPodsRunRevision, |w| *w = reading().healthy(), "nothing fails"),
        (FailingPodsRunRevision, |w| w.pods[0].fact.failure = PodFailure::CrashLoop, "an old pod fails too"),
        (TemplateChanged, |w| w.revisions[1].template = w.revisions[0].template.clone(), "the templates are the same"),
        (
            TemplateChanged,
            |w| {
                w.revisions[0].template = w.revisions[1].template.clone();
                let restarted = json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
                w.revisions[0].template["metadata"]["annotations"] = restarted;
            },
            "it was only restarted",
        ),
        (TemplateUnchanged, |w| w.revisions[0].fact.current = false, "the template is another one now"),
        (RevisionReady, |w| w.revisions[1].fact.ready = 0, "no replica of it is ready"),
        (OnlyOneRevision, |w| *w = reading().crash_looping(), "there is an earlier one"),
        (NothingFails, |w| *w = reading().crash_looping(), "a pod fails"),
    ];
    for (kind, bend, lie) in lies {
        let mut told = truth(kind);
        bend(&mut told.workload);
        assert!(told.supported(), "{kind:?}: the facts still carry it");
        assert!(!told.holds(), "{kind:?}: {lie}");
    }
}

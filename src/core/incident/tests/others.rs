//! What others do in the world of the tests: investigator, executor, people, and the target itself.

use jiff::SignedDuration;
use serde_json::json;

use super::world::{Aftermath, Delayed, Executor, Investigator, World};
use crate::api::v1alpha1::{
    AlertRef, Approval, ApprovalAnswer, Attempt, Diagnosis, Fact, IncidentPhase, InvestigationPhase,
    InvestigationStatus, Mode, OpenGrant, PodFailure, Purpose, Receipt, ReceiptStep, RemediationPhase, RemediationSpec,
    RemediationStatus, Time,
};
use crate::core::{gate::testing, incident::Effect, names, reason::Reason, workload::Pod};

impl World {
    /// The others do what they do meanwhile.
    pub fn others(&mut self) {
        if self.kill_switch && !self.remediations.is_empty() {
            self.mode = Some("observe".into());
        }
        let opening = |(_, request): &(Time, Delayed)| matches!(request, Delayed::Effect(Effect::OpenGrant { .. }));
        if !self.remediations.is_empty() && std::mem::take(&mut self.heals_before_write) {
            self.workload = testing::reading().healthy();
        }
        if self.kill_switch_once_sent && self.delayed.iter().any(opening) {
            self.mode = Some("observe".into());
        }
        if self.alert_ends_when_asked && self.phase() == IncidentPhase::AwaitingApproval {
            self.firing = false;
        }
        // Requests take no time here: what joins in the moment in which people are asked is no other question by the clock.
        let asked = self.status().times.decided.is_some_and(|at| self.now > at);
        if self.phase() == IncidentPhase::AwaitingApproval
            && asked
            && let Some((severity, alertname)) = self.joins_when_asked.take()
        {
            let spec = &mut self.incident.spec;
            let joining = AlertRef { name: "joining".into(), alertname: alertname.into(), ..spec.alerts[0].clone() };
            spec.alerts.push(joining);
            spec.severity = spec.severity.max(severity);
            self.incident.metadata.resource_version = Some(self.bump());
        }
        self.time_passes();
        if self.investigator == Investigator::Answers {
            let (facts, by_rules, now) = (self.facts.clone(), self.diagnosis.clone(), self.now);
            let (model, review) = (self.model, self.review.clone());
            for investigation in self.investigations.values_mut() {
                let made = investigation.metadata.creation_timestamp.as_ref().map_or(now, |made| made.0);
                // Sources are asked at once, and what the rules say follows from what they saw.
                let begun = investigation.status.get_or_insert_with(|| InvestigationStatus {
                    phase: InvestigationPhase::Running,
                    facts: facts.iter().cloned().map(|fact| Fact { seen_at: made, ..fact }).collect(),
                    second_opinion: Some(by_rules.clone()),
                    ..InvestigationStatus::default()
                });
                let asks = investigation.spec.model_chain.is_some();
                let takes = if asks { self.models_take } else { SignedDuration::ZERO };
                let answers = !(asks && self.models_hang) && now.duration_since(made) >= takes;
                if begun.phase == InvestigationPhase::Running && answers {
                    let (facts, by_rules) = (begun.facts.clone(), begun.second_opinion.clone().unwrap());
                    let rungs = investigation.spec.chain.iter().filter(|rung| *rung != "rules");
                    let mut attempts = vec![];
                    let found = rungs.clone().find_map(|rung| {
                        let answer = model(rung, &by_rules);
                        let outcome = if answer.is_some() { "Answered" } else { "Unavailable" };
                        let upstream = format!("{rung}-1");
                        attempts.push(Attempt {
                            rung: rung.clone(),
                            upstream,
                            outcome: outcome.into(),
                            cost_nano_dollars: 2_000_000,
                            ..Attempt::default()
                        });
                        answer.map(|answer| Diagnosis { diagnoser: rung.clone(), ceiling: Mode::Approve, ..answer })
                    });
                    let calls = i64::try_from(attempts.len()).unwrap();
                    let second_opinion = found.is_some().then(|| by_rules.clone());
                    investigation.status = Some(InvestigationStatus {
                        phase: InvestigationPhase::Complete,
                        facts,
                        diagnosis: Some(found.unwrap_or_else(|| by_rules.clone())),
                        second_opinion,
                        review: review.clone(),
                        attempts,
                        tokens: calls * 100,
                        cost_nano_dollars: calls * 2_000_000,
                        // A clock that is wrong decides nothing.
                        completed_at: Some(Time::UNIX_EPOCH),
                        ..InvestigationStatus::default()
                    });
                }
            }
        }
        const ANN: &[(&str, &str, ApprovalAnswer)] = &[("ann", "people", ApprovalAnswer::Approve)];
        if self.phase() == IncidentPhase::AwaitingApproval
            && let Some(digest) = self.incident.status.as_ref().and_then(|s| s.decision.as_ref()?.digest.clone())
            && !self.approvals.iter().any(|approval| approval.spec.digest == digest)
        {
            for (approver, group, answer) in if self.approves { ANN } else { self.answers } {
                let spec = json!({
                    "approver": approver, "groups": [group], "incident": "api-0123456789", "digest": digest,
                    "answer": answer, "expiresAt": (self.now + SignedDuration::from_hours(1)).to_string(),
                });
                let mut approval = Approval::new(approver, serde_json::from_value(spec).unwrap());
                approval.metadata.uid = Some(format!("uid-{approver}"));
                self.approvals.push(approval);
            }
        }
        let names: Vec<String> = self.remediations.keys().cloned().collect();
        for name in names {
            self.execute(&name);
        }
    }

    fn execute(&mut self, name: &str) {
        let Some(mut remediation) = self.remediations.get(name).cloned() else { return };
        let mut status = remediation.status.clone().unwrap_or_default();
        let spec = remediation.spec.clone();
        let abort = |status: &mut RemediationStatus, reason: Reason| {
            status.phase = RemediationPhase::Aborted;
            status.reason = reason.as_str().into();
        };
        match (self.executor, status.phase) {
            (_, phase) if phase.is_final() => return,
            (Executor::Silent, _) => return,
            (Executor::ReportsLate, _) if self.unreported.contains_key(name) => {
                if !self.phase().is_final() {
                    return;
                }
                status = self.unreported[name].clone();
            }
            (_, RemediationPhase::Pending) => {
                status.phase = RemediationPhase::Claimed;
                status.epoch = 1;
            }
            (Executor::Dies, _) => return,
            (Executor::AbortsLate(_), _) if !self.phase().is_final() => return,
            (Executor::AbortsLate(reason), _) => abort(&mut status, reason),
            (Executor::FindsAnnotation, _) => {
                status.phase = RemediationPhase::Unproven;
                status.reason = Reason::WriteUnproven.as_str().into();
                self.workload.annotations.insert(names::LAST_ACTION.into(), spec.action_id.clone());
            }
            (Executor::Aborts(reason), _) => abort(&mut status, reason),
            (Executor::FiresAndAbortsUndo(reason), _) if spec.purpose == Purpose::Undo => abort(&mut status, reason),
            (Executor::FiresAndAbortsEviction(reason), _) if spec.purpose == Purpose::ReplacePod => {
                abort(&mut status, reason);
            }
            (Executor::FiresAndFindsPodGone, _) if spec.purpose == Purpose::ReplacePod => {
                abort(&mut status, Reason::TargetGone);
                self.stuck_pod_goes();
            }
            (_, _) => {
                let granted =
                    self.grant.spec.open.clone().filter(|open| {
                        open.remediation == name && open.epoch == status.epoch && open.not_after > self.now
                    });
                let Some(open) = granted else { return };
                if self.executor == Executor::Reclaims && self.reclaimed.insert(name.to_owned()) {
                    status.epoch += 1;
                } else {
                    self.fire(&spec, &open);
                    status.phase = RemediationPhase::Fired;
                    // The executor's clock is far ahead.
                    let at = self.now + SignedDuration::from_hours(5);
                    for step in [ReceiptStep::Fired, ReceiptStep::ReadBack] {
                        let epoch = status.epoch;
                        status.receipts.push(Receipt { step, at, resource_version: String::new(), epoch });
                    }
                    match self.executor {
                        Executor::ReportsLate => {
                            self.unreported.insert(name.to_owned(), status);
                            return;
                        }
                        Executor::WritesUnproven => {
                            status.phase = RemediationPhase::Unproven;
                            status.receipts.clear();
                        }
                        _ => {}
                    }
                }
            }
        }
        remediation.status = Some(status);
        self.remediations.insert(name.to_owned(), remediation);
    }

    /// The pod that was in the way is gone, and the target recovers.
    fn stuck_pod_goes(&mut self) {
        let repair = self.remediations.values().find(|it| it.spec.purpose == Purpose::Repair).cloned();
        if let Some(repair) = repair {
            self.rolled_back(&repair.spec, Pods::Ready);
        }
    }

    /// What happens by itself, some time after the write.
    fn time_passes(&mut self) {
        let begun = self.now.duration_since(testing::at(0));
        if self.alert_ends_after.is_some_and(|after| begun >= after) {
            self.firing = false;
        }
        if let Some((_, diagnosis)) = self.fails_after.take_if(|(after, _)| begun >= *after) {
            (self.workload, self.diagnosis) = (self.broken.clone(), diagnosis);
            self.facts = testing::bad_rollout().facts;
        }
        let Some(fired) = self.fired else { return };
        let since = self.now.duration_since(fired);
        let passed = |seconds| since >= SignedDuration::from_secs(seconds);
        if self.alert_lasts.is_some_and(|lasts| since >= lasts) {
            self.firing = false;
        }
        let repair = self.remediations.values().find(|it| it.spec.purpose == Purpose::Repair).cloned();
        let Some(repair) = repair else { return };
        match self.aftermath {
            Aftermath::RecoversSlowly if passed(100) => self.rolled_back(&repair.spec, Pods::Ready),
            Aftermath::RecoversSlowly if passed(50) => self.rolled_back(&repair.spec, Pods::HalfReady),
            Aftermath::StuckAndGoes if self.remediations.len() > 1 => self.rolled_back(&repair.spec, Pods::Ready),
            Aftermath::Relapses if passed(12) => self.rolled_back(&repair.spec, Pods::Failing),
            Aftermath::IsReverted if passed(12) => {
                self.workload = self.broken.clone();
                self.workload.annotations.insert(names::LAST_ACTION.into(), repair.spec.action_id.clone());
            }
            _ => {}
        }
    }

    fn fire(&mut self, spec: &RemediationSpec, open: &OpenGrant) {
        assert_eq!(spec.write, open.write, "the Grant names another write");
        self.writes.push((spec.purpose, spec.write.clone()));
        self.fired = Some(self.now);
        match (spec.purpose, self.aftermath) {
            (Purpose::Undo, _) => self.workload = self.broken.clone(),
            (Purpose::Repair, Aftermath::Stuck | Aftermath::StuckAndGoes) => self.rolled_back(spec, Pods::Stuck),
            (Purpose::Repair, Aftermath::StaysBroken) => self.rolled_back(spec, Pods::Failing),
            (Purpose::Repair, Aftermath::RecoversSlowly) => self.rolled_back(spec, Pods::Starting),
            (Purpose::Repair, Aftermath::MakesItWorse) => self.rolled_back(spec, Pods::AllFailing),
            (Purpose::Repair, Aftermath::IsScaledDown) => {
                self.rolled_back(spec, Pods::Failing);
                (self.workload.state.desired, self.workload.state.ready) = (0, 0);
                self.workload.pods.clear();
            }
            (Purpose::Repair, Aftermath::Recovers | Aftermath::Relapses | Aftermath::IsReverted)
            | (Purpose::ReplacePod, _) => {
                let repair = self.remediations.values().find(|it| it.spec.purpose == Purpose::Repair).cloned();
                self.rolled_back(&repair.map_or_else(|| spec.clone(), |it| it.spec), Pods::Ready);
            }
            (Purpose::Repair, Aftermath::ChangedByOthers) => {
                self.workload.template = json!({"spec": {"containers": [{"name": "app", "image": "api:9"}]}});
            }
        }
        if spec.purpose != Purpose::ReplacePod {
            self.workload.annotations.insert(names::LAST_ACTION.into(), spec.action_id.clone());
        }
    }

    /// The workload has the value that was written.
    fn rolled_back(&mut self, spec: &RemediationSpec, pods: Pods) {
        let Some(field) = spec.write.field() else { return };
        let mut workload = self.broken.clone();
        if field.path == "/spec/template" {
            workload.template = field.after.clone();
            for revision in &mut workload.revisions {
                revision.fact.current = revision.template == field.after;
            }
            // A template that is not among the revisions becomes one.
            if workload.current().is_none() {
                let mut newest = workload.revisions[0].clone();
                (newest.object.name, newest.object.uid) = ("api-next".into(), "uid-api-next".into());
                (newest.fact.number, newest.fact.current) = (newest.fact.number + 1, true);
                newest.template = field.after.clone();
                workload.revisions.insert(0, newest);
            }
        } else {
            workload.spec = json!({ "replicas": field.after });
            workload.state.desired = field.after.as_i64().and_then(|replicas| replicas.try_into().ok()).unwrap();
        }
        workload.annotations.insert(names::LAST_ACTION.into(), spec.action_id.clone());
        let good = workload.current().map(|revision| revision.fact.number);
        let desired = workload.state.desired;
        match pods {
            Pods::Ready => {
                workload.pods = (0..desired)
                    .map(|index| {
                        let mut pod: Pod = self.broken.pods[0].clone();
                        pod.object.name = format!("ready-{index}");
                        pod.object.uid = format!("uid-ready-{index}");
                        pod.fact = crate::api::v1alpha1::PodFact {
                            revision: good,
                            ready: true,
                            phase: "Running".into(),
                            ready_since: Some(self.now),
                            ..crate::api::v1alpha1::PodFact::default()
                        };
                        pod
                    })
                    .collect();
                workload.state.updated = desired;
                workload.state.ready = desired;
                workload.state.available = desired;
            }
            // The pods of the bad revision are still there.
            Pods::Stuck => {}
            Pods::Starting => {
                for pod in workload.pods.iter_mut().filter(|pod| pod.fact.failure.is_hard()) {
                    (pod.fact.revision, pod.fact.failure) = (good, PodFailure::Starting);
                }
            }
            Pods::HalfReady => {
                workload.pods.retain(|pod| !pod.fact.failure.is_hard());
                workload.pods.push(testing::pod("half", good.unwrap_or_default(), PodFailure::None));
                workload.pods.push(testing::pod("slow", good.unwrap_or_default(), PodFailure::Starting));
                workload.state.updated = 2;
            }
            Pods::AllFailing => {
                for pod in &mut workload.pods {
                    (pod.fact.revision, pod.fact.failure, pod.fact.ready) = (good, PodFailure::CrashLoop, false);
                }
                (workload.state.ready, workload.state.available) = (0, 0);
            }
            Pods::Failing => {
                for pod in workload.pods.iter_mut().filter(|pod| pod.fact.failure.is_hard()) {
                    pod.fact.revision = good;
                }
            }
        }
        self.workload = workload;
    }
}

enum Pods {
    Ready,
    Stuck,
    Failing,
    AllFailing,
    Starting,
    HalfReady,
}

//! The story of an incident, as lines: pure, so that it can be tested without a cluster.

use std::collections::{BTreeMap, HashSet};

use kube::ResourceExt as _;

use crate::api::v1alpha1::{
    Actor, CheckVerdict, Decision, DecisionOutcome, Fact, Incident, IncidentStatus, Investigation, Purpose,
    ReceiptStep, Remediation, Severity, Time, TimelineEntry, Verdict,
};

use crate::core::{actions, timeline::Event};

use super::{
    belief::{believed, difference, manifest},
    text::{Line, Stamp, Tone},
};

/// Lines of one fact that are shown unless all were asked for.
const SHORT_FACT: usize = 2;
/// The longest line of a fact that is shown whole unless all were asked for.
const SHORT_LINE: usize = 160;

/// What is known at one moment.
pub struct View {
    /// The incident.
    pub incident: Incident,
    /// Its rounds of looking, by number.
    investigations: BTreeMap<i32, Investigation>,
    /// Its writes, by name.
    remediations: BTreeMap<String, Remediation>,
    /// The target's rollout as last seen.
    pub rollout: Option<Rollout>,
    /// Nothing more will be known: tell what is there.
    pub complete: bool,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// When it was seen.
    pub at: Time,
    /// Its controller has seen the latest template.
    pub seen: bool,
    /// Replicas asked for.
    pub desired: i32,
    /// Replicas of any template.
    pub total: i32,
    /// Replicas of the latest template.
    pub updated: i32,
    /// Replicas that the rollout leaves on an earlier template: below the partition of a StatefulSet, or all with
    /// `OnDelete`.
    pub held_back: i32,
    /// Ready replicas of any template.
    pub ready: i32,
}

impl View {
    /// Only the incident is known yet.
    pub fn new(incident: Incident) -> View {
        View {
            incident,
            investigations: BTreeMap::new(),
            remediations: BTreeMap::new(),
            rollout: None,
            complete: false,
        }
    }

    /// A round of looking is there or changed.
    pub fn investigation(&mut self, investigation: Investigation) {
        self.investigations.insert(investigation.spec.round, investigation);
    }

    /// A write is there or changed.
    pub fn remediation(&mut self, remediation: Remediation) {
        self.remediations.insert(remediation.name_any(), remediation);
    }

    /// The incident has reached its last phase.
    pub fn has_ended(&self) -> bool {
        self.incident.status.as_ref().is_some_and(|status| status.phase.is_final())
    }

    fn status(&self) -> IncidentStatus {
        self.incident.status.clone().unwrap_or_default()
    }
}

/// Some lines that belong together and are told once.
struct Paragraph {
    key: String,
    at: Time,
    actor: &'static str,
    tone: Tone,
    head: String,
    details: Vec<(Tone, String)>,
}

/// What was told already.
pub struct Story {
    told: HashSet<String>,
    full: bool,
    ended: bool,
}

impl Story {
    /// Nothing was told yet. With `full`, every fact, step and verdict is told whole; else facts that the diagnosis
    /// cites, and verdicts that are no pass.
    pub fn new(full: bool) -> Story {
        Story { told: HashSet::new(), full, ended: false }
    }

    /// Nothing is left to tell.
    pub fn is_over(&self, view: &View) -> bool {
        let status = view.status();
        let awaited = status.escalation.as_ref().is_some_and(|escalation| escalation.deliveries.is_empty());
        self.ended && !awaited
    }

    /// Lines for what is new.
    pub fn tell(&mut self, view: &View) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.told.insert("title".into()) {
            lines.extend(title(&view.incident).map(|text| Line { stamp: None, text, tone: Tone::Title }));
        }
        let opened = view.incident.spec.opened_at;
        let mut paragraphs = self.paragraphs(view);
        paragraphs.retain(|paragraph| self.told.insert(paragraph.key.clone()));
        paragraphs.sort_by_key(|paragraph| paragraph.at);
        for Paragraph { at, actor, tone, head, details, .. } in paragraphs {
            let since = at.duration_since(opened).as_secs_f64();
            lines.push(Line { stamp: Some(Stamp { at, since, actor }), text: head, tone });
            lines.extend(details.into_iter().map(|(tone, text)| Line { stamp: None, text, tone }));
        }
        lines
    }

    fn paragraphs(&mut self, view: &View) -> Vec<Paragraph> {
        let status = view.status();
        let mut all = Vec::new();
        let mut round = 0;
        let mut held = false;
        for entry in &status.timeline {
            let event = Event::named(&entry.event);
            round += i32::from(matches!(event, Some(Event::Diagnosed | Event::RoundGivenUp)));
            let investigation = view.investigations.get(&round).filter(|found| is_over(found));
            if event == Some(Event::Diagnosed) && investigation.is_none() && !view.complete {
                // Its facts are on their way; what follows waits, so that the order is kept.
                held = true;
                break;
            }
            // The timeline is bounded: a line's place in it can change, its moment and its text do not.
            let key = match event {
                Some(Event::Fired) => fired_key(entry.at),
                _ => format!("{}/{}/{}", entry.at, entry.event, entry.message),
            };
            if !self.told.contains(&key) {
                all.push(self.entry(view, &status, entry, investigation, key));
            }
        }
        if held {
            return all;
        }
        all.extend(waiting(&status));
        let opened = view.incident.spec.opened_at;
        all.extend(view.remediations.values().flat_map(|remediation| receipts(remediation, opened)));
        all.extend(rollout(view, &status));
        all.extend(told_people(&status));
        if view.has_ended() {
            self.ended = true;
        }
        all
    }

    fn entry(
        &mut self,
        view: &View,
        status: &IncidentStatus,
        entry: &TimelineEntry,
        investigation: Option<&Investigation>,
        key: String,
    ) -> Paragraph {
        let (tone, head, details) = match Event::named(&entry.event) {
            Some(Event::AlertReceived) => (Tone::Bad, entry.message.clone(), vec![]),
            Some(Event::PlanWritten) => (Tone::Plain, format!("plan: {}", entry.message), plan(status, self.full)),
            Some(Event::Diagnosed) => match investigation {
                Some(found) => self.diagnosis(found, entry),
                // It is gone or cannot be read; what it found stands on the Incident too.
                None => (Tone::Plain, format!("diagnosis: {}", entry.message), believed(status)),
            },
            Some(Event::RoundGivenUp) => (Tone::Warn, format!("given up: {}", entry.message), vec![]),
            Some(Event::AnswerRefused) => (Tone::Warn, format!("refused: {}", entry.message), vec![]),
            Some(Event::Rerouted) => (Tone::Plain, format!("re-routed: {}", entry.message), vec![]),
            Some(Event::Judged) => match status.decision.as_ref().filter(|decision| decision.decided_at == entry.at) {
                Some(decision) => judged(decision, self.full),
                None => (Tone::Plain, format!("judged: {}", entry.message), vec![]),
            },
            Some(Event::RemediationCreated) => (Tone::Plain, "the exact write:".to_string(), diff(status, entry)),
            Some(Event::GrantOpened) => (Tone::Plain, format!("grant opened {}", entry.message), vec![]),
            Some(Event::Fired) => (Tone::Good, format!("written: {}", entry.message), vec![]),
            Some(Event::Healthy) => {
                (Tone::Good, format!("healthy: {}; watching that it stays so", entry.message), vec![])
            }
            Some(Event::Resolved) => (Tone::Good, format!("resolved: {}", entry.message), durations(view, status)),
            Some(Event::Escalated) => {
                let details = difference(status).into_iter().chain(manifest(status)).chain(next_step(status)).collect();
                (Tone::Warn, format!("handed over to the on-call: {}", entry.message), details)
            }
            Some(Event::ApprovalAsked) => (Tone::Warn, format!("approval: {}", entry.message), vec![]),
            Some(Event::UndoCreated) => (Tone::Warn, format!("taking the write back: {}", entry.message), vec![]),
            Some(Event::Undone) => (Tone::Plain, format!("taken back: {}", entry.message), vec![]),
            Some(Event::WatchEnded) => (Tone::Plain, format!("not watched any more: {}", entry.message), vec![]),
            Some(Event::Reopened) => (Tone::Warn, format!("goes on: {}", entry.message), vec![]),
            Some(Event::PodEvicted) => (Tone::Good, format!("pod replaced: {}", entry.message), vec![]),
            None => (Tone::Plain, format!("{}: {}", entry.event, entry.message), vec![]),
        };
        Paragraph { key, at: entry.at, actor: actor(entry.actor), tone, head, details }
    }

    fn diagnosis(&mut self, found: &Investigation, entry: &TimelineEntry) -> (Tone, String, Vec<(Tone, String)>) {
        let status = found.status.clone().unwrap_or_default();
        let cited =
            |fact: &Fact| status.diagnosis.iter().flat_map(|d| &d.claims).any(|claim| claim.cites.contains(&fact.id));
        let wanted: Vec<&Fact> = status.facts.iter().filter(|fact| self.full || cited(fact)).collect();
        let hidden = status.facts.len() - wanted.len();
        // A later round repeats most of what an earlier one saw.
        let fresh: Vec<&Fact> = wanted
            .iter()
            .filter(|fact| self.told.insert(format!("fact/{}/{}/{}", fact.source.as_str(), fact.object, fact.text)))
            .copied()
            .collect();
        let again = wanted.len() - fresh.len();
        let mut details: Vec<(Tone, String)> = fresh.iter().flat_map(|fact| self.fact(fact)).collect();
        if hidden > 0 {
            details.push((Tone::Quiet, format!("{hidden} facts that the diagnosis does not cite (--full shows them)")));
        }
        if again > 0 {
            details.push((Tone::Quiet, format!("{again} facts are as they were told before")));
        }
        let Some(diagnosis) = status.diagnosis else {
            details.push((Tone::Warn, entry.message.clone()));
            return (Tone::Plain, format!("{} facts, round {}:", status.facts.len(), found.spec.round), details);
        };
        details.push((
            Tone::Strong,
            format!("diagnosis by {}: {:?}, {}%", diagnosis.diagnoser, diagnosis.cause, diagnosis.confidence),
        ));
        details.push((Tone::Plain, diagnosis.hypothesis.clone()));
        for claim in &diagnosis.claims {
            details.push((Tone::Quiet, format!("claim [{}] {}", claim.cites.join(" "), claim.text)));
        }
        let proposal = match &diagnosis.proposal {
            Some(p) => format!("proposes {} of {}", (actions::of(p.action.kind()).describe)(&p.action), p.target),
            None => "proposes no action".to_string(),
        };
        details.push((Tone::Plain, proposal));
        if !diagnosis.advice.is_empty() {
            details.push((Tone::Plain, format!("advice: {}", diagnosis.advice)));
        }
        (Tone::Plain, format!("{} facts, round {}:", status.facts.len(), found.spec.round), details)
    }

    fn fact(&self, fact: &Fact) -> Vec<(Tone, String)> {
        let lead = format!("{:<4} {:<16} ", fact.id, fact.source.as_str());
        let lines: Vec<&str> = fact.text.lines().filter(|line| !line.trim().is_empty()).collect();
        // The end of a log tells most: when something is cut, it is the middle.
        let shown: Vec<String> = match lines.len() {
            n if self.full || n <= SHORT_FACT => lines.iter().map(|line| line.to_string()).collect(),
            n => {
                let rest = &lines[n - SHORT_FACT + 1..];
                let left_out = format!("{} (… {} more lines, --full shows them)", lines[0], n - SHORT_FACT);
                std::iter::once(left_out).chain(rest.iter().map(|line| line.to_string())).collect()
            }
        };
        let cut = |line: String| match line.char_indices().nth(SHORT_LINE) {
            Some((end, _)) if !self.full => format!("{}…", &line[..end]),
            _ => line,
        };
        shown
            .into_iter()
            .map(cut)
            .enumerate()
            .map(|(index, line)| match index {
                0 => (Tone::Quiet, format!("{lead}{line}")),
                _ => (Tone::Quiet, format!("{:21} {line}", "")),
            })
            .collect()
    }
}

fn is_over(investigation: &Investigation) -> bool {
    let phase = investigation.status.as_ref().map(|status| status.phase).unwrap_or_default();
    phase.is_final()
}

fn title(incident: &Incident) -> impl Iterator<Item = String> + use<> {
    let target = incident.spec.target.as_ref().map_or("target unknown".to_string(), ToString::to_string);
    let severity = match incident.spec.severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "critical",
    };
    let opened = incident.spec.opened_at;
    [
        format!("Incident {} in namespace {}", incident.name_any(), incident.namespace().unwrap_or_default()),
        format!("{target}, severity {severity}, opened {opened:.0} (times are UTC, + is since the alert was received)"),
    ]
    .into_iter()
}

fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::Alert => "alert",
        Actor::Controller => "controller",
        Actor::Investigator => "investigator",
        Actor::Executor => "executor",
    }
}

fn plan(status: &IncidentStatus, full: bool) -> Vec<(Tone, String)> {
    let Some(plan) = status.plan.as_ref().filter(|_| full) else { return vec![] };
    let steps: Vec<String> = plan.steps.iter().map(|step| format!("{} ({})", step.name, step.mode)).collect();
    let budgets: Vec<String> = plan.budgets.iter().map(|budget| format!("{} {}", budget.name, budget.limit)).collect();
    let mut details = vec![
        (Tone::Quiet, format!("steps: {}", steps.join(", "))),
        (Tone::Quiet, format!("diagnosed by: {}; at most: {}", plan.diagnosers.join(", "), budgets.join(", "))),
    ];
    let declared = [
        ("Runbooks", &plan.runbooks),
        ("Policies", &plan.policies),
        ("Policies that may match", &plan.possible_policies),
    ];
    for (what, names) in declared {
        if !names.is_empty() {
            details.push((Tone::Quiet, format!("{what}: {}", names.join(", "))));
        }
    }
    details
}

fn judged(decision: &Decision, full: bool) -> (Tone, String, Vec<(Tone, String)>) {
    let passed = decision.checks.iter().filter(|check| check.verdict == Verdict::Passed).count();
    let (tone, outcome) = match decision.outcome {
        DecisionOutcome::Act => (Tone::Good, "act"),
        DecisionOutcome::Wait => (Tone::Plain, "wait for better evidence"),
        DecisionOutcome::AwaitApproval => (Tone::Warn, "a person has to approve"),
        DecisionOutcome::Resolve => (Tone::Good, "nothing left to do"),
        DecisionOutcome::Escalate => (Tone::Warn, "do not act, call the on-call"),
    };
    let count = decision.checks.len();
    if !full {
        let told = |check: &&CheckVerdict| matches!(check.verdict, Verdict::Refused | Verdict::Unknown);
        let details = decision.checks.iter().filter(told).map(check).collect();
        let head =
            format!("{passed} of {count} checks passed, on the controller's own reading of the cluster: {outcome}");
        return (tone, head, details);
    }
    let mut details: Vec<(Tone, String)> = decision.checks.iter().map(check).collect();
    details.push((tone, format!("{passed} of {count} checks passed: {outcome}")));
    (Tone::Plain, format!("{count} checks, on the controller's own reading of the cluster:"), details)
}

fn check(check: &CheckVerdict) -> (Tone, String) {
    let (tone, sign) = match check.verdict {
        Verdict::Passed => (Tone::Good, "ok  "),
        Verdict::Refused => (Tone::Bad, "NO  "),
        Verdict::Unknown => (Tone::Warn, "??  "),
        Verdict::NotAsked => (Tone::Quiet, "-   "),
    };
    let reason = match check.verdict {
        Verdict::Refused | Verdict::Unknown => format!("{}: ", check.reason),
        Verdict::Passed | Verdict::NotAsked => String::new(),
    };
    (tone, format!("{sign}{:<30} {reason}{}", check.check, check.message))
}

fn diff(status: &IncidentStatus, entry: &TimelineEntry) -> Vec<(Tone, String)> {
    let Some(decision) = &status.decision else { return vec![(Tone::Plain, entry.message.clone())] };
    let mut lines = Vec::new();
    for change in &decision.diff {
        lines.push((Tone::Plain, change.path.clone()));
        let sides = [(Tone::Bad, '-', &change.before), (Tone::Good, '+', &change.after)];
        for (tone, sign, value) in sides {
            lines.extend(value.lines().map(|line| (tone, format!("  {sign} {line}"))));
        }
    }
    lines.push((
        Tone::Quiet,
        format!(
            "action {}, digest {}",
            decision.action_id.as_deref().unwrap_or("none"),
            decision.digest.as_deref().unwrap_or("none")
        ),
    ));
    lines
}

/// A decision to wait has no entry of its own.
fn waiting(status: &IncidentStatus) -> Option<Paragraph> {
    let decision = status.decision.as_ref().filter(|decision| decision.outcome == DecisionOutcome::Wait)?;
    Some(Paragraph {
        key: format!("waiting/{}", decision.reason),
        at: decision.decided_at,
        actor: "controller",
        tone: Tone::Plain,
        head: format!("waits for better evidence: {}: {}", decision.reason, decision.message),
        details: vec![],
    })
}

/// The write is told by the receipt, or by the incident's own entry: by whichever is seen first.
fn fired_key(at: Time) -> String {
    format!("fired/{at}")
}

fn receipts(remediation: &Remediation, opened: Time) -> Vec<Paragraph> {
    let status = remediation.status.clone().unwrap_or_default();
    let back = if remediation.spec.purpose == Purpose::Undo { " (taking back)" } else { "" };
    let steps = status.receipts.iter().map(|receipt| {
        let text = match receipt.step {
            ReceiptStep::RevisionMarked => "marked the revision to return to",
            ReceiptStep::Armed => "armed the target",
            ReceiptStep::WrongValueRefused => "dry-run of a wrong value: refused by the API server, as it must be",
            ReceiptStep::RightValueShown => "dry-run of the right value: shows exactly the granted value",
            ReceiptStep::Fired => {
                let took = receipt.at.duration_since(opened).as_secs_f64();
                return Paragraph {
                    key: fired_key(receipt.at),
                    at: receipt.at,
                    actor: "executor",
                    tone: Tone::Good,
                    head: format!(
                        "written{back}: the API server accepted the write {took:.3} s after the alert was received"
                    ),
                    details: vec![],
                };
            }
            ReceiptStep::ReadBack => "read back: the object holds exactly the granted value",
            ReceiptStep::Disarmed => "disarmed the target without a change",
            ReceiptStep::RevisionUnmarked => "took the mark off the revision",
        };
        Paragraph {
            key: format!("receipt/{}/{}/{:?}/{}", remediation.name_any(), receipt.epoch, receipt.step, receipt.at),
            at: receipt.at,
            actor: "executor",
            tone: Tone::Plain,
            head: format!("{text}{back}"),
            details: vec![],
        }
    });
    steps.collect()
}

/// From the write until the target is healthy.
fn rollout(view: &View, status: &IncidentStatus) -> Option<Paragraph> {
    let rollout = view.rollout?;
    let fired = status.times.fired?;
    if status.times.healthy.is_some() || rollout.at < fired || !rollout.seen {
        return None;
    }
    let Rollout { at, desired, total, updated, held_back, ready, .. } = rollout;
    let (old, to_update) = ((total - updated).max(0), desired - held_back);
    let kept = if held_back > 0 { format!(" ({held_back} kept by its update strategy)") } else { String::new() };
    let text = format!("rollout: {updated} of {to_update} pods updated, {ready} ready, {old} old{kept}");
    Some(Paragraph { key: text.clone(), at, actor: "cluster", tone: Tone::Quiet, head: text, details: vec![] })
}

fn next_step(status: &IncidentStatus) -> Vec<(Tone, String)> {
    status.escalation.iter().map(|escalation| (Tone::Plain, format!("next: {}", escalation.next_step))).collect()
}

fn told_people(status: &IncidentStatus) -> Vec<Paragraph> {
    let (Some(escalation), Some(ended)) = (&status.escalation, status.times.ended) else { return vec![] };
    let deliveries = escalation.deliveries.iter().map(|delivery| {
        let (tone, outcome) = match delivery.delivered {
            true => (Tone::Plain, "delivered".to_string()),
            false => (Tone::Bad, format!("not delivered after {} attempts: {}", delivery.attempts, delivery.detail)),
        };
        let text = format!("told by {}: {outcome}", delivery.channel);
        Paragraph { key: text.clone(), at: ended, actor: "controller", tone, head: text, details: vec![] }
    });
    deliveries.collect()
}

fn durations(view: &View, status: &IncidentStatus) -> Vec<(Tone, String)> {
    let opened = view.incident.spec.opened_at;
    let times = &status.times;
    let steps = [
        ("plan", times.planned),
        ("first source", times.first_source),
        ("diagnosis", times.diagnosed),
        ("decision", times.decided),
        ("write accepted", times.fired),
        ("healthy", times.healthy),
        ("verified", times.ended),
    ];
    let text: Vec<String> = steps
        .into_iter()
        .filter_map(|(what, at)| at.map(|at| format!("{what} {:.3} s", at.duration_since(opened).as_secs_f64())))
        .collect();
    vec![(Tone::Quiet, format!("after the alert was received: {}", text.join(", ")))]
}

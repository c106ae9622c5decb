//! How right diagnoses are, apart from being safe: compared with what really was broken, and counted by class of fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::gate::grounding::{self, undo_to};
use super::money::NanoDollars;
use crate::api::v1alpha1::{Cause, Diagnosis, Fact};

/// Says in [`Expected::objects`] that naming no object is right.
pub const NOTHING: &str = "none";

/// What a bundle shows. It is written from what was broken, never from an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// Class of the fault, a row of the table.
    pub fault: String,
    /// Causes of which each is right.
    pub causes: Vec<Cause>,
    /// Objects of which each is right, as `Kind/name`; [`NOTHING`] where naming none is.
    pub objects: Vec<String>,
    /// The revision to return to. Absent: any action is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_to: Option<i64>,
}

/// What was expected of bundles, by their names.
pub type Table = BTreeMap<String, Expected>;

/// What one diagnosis got right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// It names the object at fault, or none where none is.
    pub object: bool,
    /// It names the kind of cause.
    pub cause: bool,
    /// It proposes the action that helps, or none where none does.
    pub action: bool,
    /// It proposes an action that does not help. (Proposing none where one does is not right, and does no harm.)
    pub harmful: bool,
    /// The facts carry what it claims and show what it names.
    pub grounded: bool,
}

/// Compares a diagnosis of `facts` with what was expected.
pub fn score(expected: &Expected, diagnosis: &Diagnosis, facts: &[Fact]) -> Score {
    let named = named(diagnosis);
    let undo_to = undo_to(diagnosis);
    Score {
        object: expected.objects.contains(&named),
        cause: expected.causes.contains(&diagnosis.cause),
        action: undo_to == expected.undo_to,
        harmful: undo_to.is_some() && undo_to != expected.undo_to,
        grounded: grounding::flaw(diagnosis, facts).is_none(),
    }
}

/// What a diagnosis says, in the words of [`Expected`].
pub fn said(diagnosis: &Diagnosis) -> String {
    let action = undo_to(diagnosis).map_or("no action".to_owned(), |to| format!("undo to {to}"));
    format!("{}, {}, {action}", diagnosis.cause.as_str(), named(diagnosis))
}

/// The same of what was expected.
pub fn wanted(expected: &Expected) -> String {
    let causes: Vec<&str> = expected.causes.iter().map(|cause| cause.as_str()).collect();
    let action = expected.undo_to.map_or("no action".to_owned(), |to| format!("undo to {to}"));
    format!("{}, {}, {action}", causes.join("|"), expected.objects.join("|"))
}

fn named(diagnosis: &Diagnosis) -> String {
    match &diagnosis.suspect {
        Some(suspect) => format!("{}/{}", suspect.kind, suspect.name),
        None => NOTHING.to_owned(),
    }
}

/// What the diagnoses of some bundles got right, and what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bundles.
    pub bundles: usize,
    /// With the right object.
    pub objects: usize,
    /// With the right cause.
    pub causes: usize,
    /// With the right action, none included.
    pub actions: usize,
    /// With an action that does not help.
    pub harmful: usize,
    /// Grounded in the facts.
    pub grounded: usize,
    /// Tokens of models.
    pub tokens: i64,
    /// Cost in billionths of a US dollar.
    pub nano_dollars: i64,
    /// Time in milliseconds, of all together.
    pub milliseconds: i64,
}

impl Tally {
    /// Adds a diagnosis.
    pub fn add(&mut self, score: Score, tokens: i64, nano_dollars: i64, milliseconds: i64) {
        let Score { object, cause, action, harmful, grounded } = score;
        self.bundles += 1;
        self.objects += usize::from(object);
        self.causes += usize::from(cause);
        self.actions += usize::from(action);
        self.harmful += usize::from(harmful);
        self.grounded += usize::from(grounded);
        self.tokens = self.tokens.saturating_add(tokens);
        self.nano_dollars = self.nano_dollars.saturating_add(nano_dollars);
        self.milliseconds = self.milliseconds.saturating_add(milliseconds);
    }
}

/// Tallies by class of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    classes: BTreeMap<String, Tally>,
    all: Tally,
}

impl Tallies {
    /// Adds a diagnosis of a bundle of this class.
    pub fn add(&mut self, fault: &str, score: Score, tokens: i64, nano_dollars: i64, milliseconds: i64) {
        self.classes.entry(fault.to_owned()).or_default().add(score, tokens, nano_dollars, milliseconds);
        self.all.add(score, tokens, nano_dollars, milliseconds);
    }

    /// All classes together.
    pub fn all(&self) -> Tally {
        self.all
    }

    /// A table with a row for each class and one for all. `spent`: with tokens, cost and seconds, which differ from run
    /// to run.
    pub fn render(&self, spent: bool) -> String {
        let mut text = format!(
            "{:<18} {:>7} {:>13} {:>13} {:>13} {:>8} {:>13}",
            "class of fault", "bundles", "right object", "right class", "right action", "harmful", "grounded"
        );
        if spent {
            let _ = write!(text, " {:>9} {:>11} {:>8}", "tokens", "cost", "seconds");
        }
        text.push('\n');
        for (name, tally) in &self.classes {
            text.push_str(&row(name, tally, spent));
        }
        text.push_str(&row("all", &self.all, spent));
        text
    }
}

fn row(name: &str, tally: &Tally, spent: bool) -> String {
    let Tally { bundles, objects, causes, actions, harmful, grounded, tokens, nano_dollars, milliseconds } = *tally;
    let share = |count: usize| match bundles {
        0 => "-".to_owned(),
        bundles => format!("{count} {:>4.0} %", count as f64 * 100.0 / bundles as f64),
    };
    let mut text = format!(
        "{name:<18} {bundles:>7} {:>13} {:>13} {:>13} {harmful:>8} {:>13}",
        share(objects),
        share(causes),
        share(actions),
        share(grounded)
    );
    if spent {
        let cost = NanoDollars(nano_dollars.max(0).unsigned_abs()).to_string();
        let _ = write!(text, " {tokens:>9} {cost:>11} {:>8.1}", milliseconds as f64 / 1000.0);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{Action, ObjectRef, Proposal, RolloutUndo};

    fn expected(undo_to: Option<i64>) -> Expected {
        let objects = vec!["Deployment/api".to_owned(), "ConfigMap/settings".to_owned()];
        Expected { fault: "CrashLoop".into(), causes: vec![Cause::BadRollout], objects, undo_to }
    }

    fn diagnosis(name: &str, undo_to: Option<i64>) -> Diagnosis {
        let target = ObjectRef { kind: "Deployment".into(), name: name.into(), ..ObjectRef::default() };
        let proposal = undo_to.map(|to_revision| Proposal {
            action: Action::RolloutUndo(RolloutUndo { to_revision }),
            target: target.clone(),
        });
        Diagnosis { cause: Cause::BadRollout, suspect: Some(target), proposal, ..Diagnosis::default() }
    }

    #[test]
    fn an_action_where_none_helps_is_harmful_and_none_where_one_helps_is_only_wrong() {
        for (wanted, done, action, harmful) in [
            (Some(1), Some(1), true, false),
            (Some(1), Some(2), false, true),
            (Some(1), None, false, false),
            (None, None, true, false),
            (None, Some(1), false, true),
        ] {
            let score = score(&expected(wanted), &diagnosis("api", done), &[]);
            assert_eq!((score.action, score.harmful), (action, harmful), "{wanted:?} {done:?}");
        }
    }

    #[test]
    fn any_of_the_objects_and_causes_is_right_and_no_object_only_where_that_is_said() {
        let wanted = expected(None);
        assert!(score(&wanted, &diagnosis("api", None), &[]).object);
        assert!(!score(&wanted, &diagnosis("db", None), &[]).object);
        let nameless = Diagnosis { suspect: None, ..diagnosis("api", None) };
        assert!(!score(&wanted, &nameless, &[]).object);
        assert!(score(&Expected { objects: vec![NOTHING.into()], ..wanted.clone() }, &nameless, &[]).object);
        assert!(!score(&wanted, &Diagnosis { cause: Cause::Recovered, ..nameless }, &[]).cause);
    }

    #[test]
    fn the_table_counts_each_class_and_all() {
        let mut tallies = Tallies::default();
        for (fault, name) in [("CrashLoop", "api"), ("CrashLoop", "db"), ("Healthy", "api")] {
            tallies.add(fault, score(&expected(None), &diagnosis(name, None), &[]), 10, 2_000_000_000, 1500);
        }
        assert_eq!((tallies.all().bundles, tallies.all().objects, tallies.all().tokens), (3, 2, 30));
        let table = tallies.render(true);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.lines().last().unwrap().starts_with("all "), "{table}");
        assert!(table.contains("1   50 %"), "{table}");
        assert!(!tallies.render(false).contains("seconds"));
    }
}

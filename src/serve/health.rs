//! Readiness: a list of named conditions, each reported by whoever knows it. And life: what only a new process cures.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether a part of the process lives; else why it does not.
type Lives = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a role needs before it may get work. Cheap to clone; add every condition before the server starts.
#[derive(Clone, Default)]
pub struct Health {
    conditions: Vec<(&'static str, watch::Receiver<Result<(), String>>)>,
    notes: Vec<(&'static str, watch::Receiver<String>)>,
    lives: Vec<Lives>,
}

impl Health {
    /// Nothing is needed.
    pub fn new() -> Health {
        Health::default()
    }

    /// Needs the condition `name`, which holds while `state` is `Ok`. The error says what is missing.
    #[must_use]
    pub fn with(mut self, name: &'static str, state: watch::Receiver<Result<(), String>>) -> Health {
        self.conditions.push((name, state));
        self
    }

    /// Shows what `text` says, while it says anything. It does not count: whoever asks gets it beside the answer.
    #[must_use]
    pub fn with_note(mut self, name: &'static str, text: watch::Receiver<String>) -> Health {
        self.notes.push((name, text));
        self
    }

    /// The process counts as dead once `lives` says why it is, and whoever asks starts it anew. It is asked each time, and has to
    /// answer at once.
    #[must_use]
    pub fn alive_while(mut self, lives: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Health {
        self.lives.push(Arc::new(lives));
        self
    }

    /// # Errors
    ///
    /// Why only a new process helps.
    pub fn alive(&self) -> Result<(), String> {
        self.lives.iter().try_for_each(|lives| lives())
    }

    /// The notes that say something, by name.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let notes = self.notes.iter().map(|(name, text)| (*name, text.borrow().clone()));
        notes.filter(|(_, text)| !text.is_empty()).collect()
    }

    /// The conditions that do not hold, each with its sentence. A condition whose reporter is gone does not hold.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let mut missing = Vec::new();
        for (name, state) in &self.conditions {
            if let Err(why) = &*state.borrow() {
                missing.push((*name, why.clone()));
            } else if state.has_changed().is_err() {
                missing.push((*name, "the part that reports it has ended".into()));
            }
        }
        missing
    }
}

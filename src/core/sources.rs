//! What is known about each source of facts before it is asked: whether every investigation asks it, and what it
//! needs. How each is asked is in `observe::sources`.

use crate::api::v1alpha1::SourceName;

/// Facts about one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: SourceName,
    /// Every investigation asks it. The others are asked when a Runbook names them.
    pub by_default: bool,
    /// What it needs besides the API server.
    pub requires: Requirement,
}

/// What a source needs besides the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    Nothing,
    /// A store of metrics: the setting `prometheusUrl`.
    MetricStore,
}

/// What the settings of this installation offer to sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// A store of metrics is configured.
    pub metric_store: bool,
}

impl Offered {
    fn meets(self, requirement: Requirement) -> bool {
        match requirement {
            Requirement::Nothing => true,
            Requirement::MetricStore => self.metric_store,
        }
    }
}

/// What is known about `name`. Whoever adds a source is asked here by the compiler.
pub fn of(name: SourceName) -> Spec {
    let (by_default, requires) = match name {
        SourceName::Workload => (true, Requirement::Nothing),
        SourceName::Pods => (true, Requirement::Nothing),
        SourceName::RolloutHistory => (true, Requirement::Nothing),
        SourceName::ConfigReferences => (true, Requirement::Nothing),
        SourceName::Events => (true, Requirement::Nothing),
        SourceName::Logs => (true, Requirement::Nothing),
        SourceName::Metrics => (true, Requirement::MetricStore),
        #[cfg(test)]
        SourceName::Planted => (false, Requirement::Nothing),
    };
    Spec { name, by_default, requires }
}

/// What an investigation asks, in the order in which facts are numbered: the default bundle as far as its
/// requirements are met, and what Runbooks add. A source that a Runbook names and that lacks something is asked
/// too: its failure is a fact that says what is missing.
pub fn bundle(offered: Offered, added: impl IntoIterator<Item = SourceName>) -> Vec<SourceName> {
    let added: Vec<SourceName> = added.into_iter().collect();
    let asked = |name: &SourceName| {
        let Spec { name: _, by_default, requires } = of(*name);
        added.contains(name) || (by_default && offered.meets(requires))
    };
    SourceName::ALL.iter().copied().filter(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_names_is_the_one_that_the_definition_admits_in_the_order_of_the_type() {
        let schema = serde_json::to_value(schemars::schema_for!(SourceName)).unwrap();
        let words: Vec<String> = schema["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|variant| variant["const"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(words, SourceName::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>());
        assert!(SourceName::ALL.is_sorted());
        for name in SourceName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
            assert_eq!(SourceName::named(name.as_str()), Some(*name));
        }
    }

    #[test]
    fn metrics_are_asked_only_where_there_is_a_store_or_a_runbook_names_them() {
        let asks = |metric_store, added: &[SourceName]| {
            bundle(Offered { metric_store }, added.iter().copied()).contains(&SourceName::Metrics)
        };
        assert!(!asks(false, &[]));
        assert!(asks(true, &[]));
        assert!(asks(false, &[SourceName::Metrics]));
    }

    #[test]
    fn a_source_outside_of_the_default_bundle_is_asked_when_a_runbook_names_it_and_once() {
        let all = bundle(Offered::default(), [SourceName::Planted, SourceName::Pods]);
        assert_eq!(all.iter().filter(|name| **name == SourceName::Pods).count(), 1);
        assert_eq!(all.last(), Some(&SourceName::Planted));
        assert!(!bundle(Offered::default(), []).contains(&SourceName::Planted));
    }
}

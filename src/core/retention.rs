//! Retention: which finished objects are deleted.

use jiff::SignedDuration;

use crate::api::v1alpha1::Time;

/// A finished object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID; only this very object is deleted.
    pub uid: String,
    /// Time at which it ended.
    pub ended: Time,
}

/// Those older than `keep`, and the oldest of those beyond `bound` in one namespace.
pub fn expired(mut finished: Vec<Finished>, keep: SignedDuration, bound: usize, now: Time) -> Vec<Finished> {
    finished.sort_by(|a, b| a.namespace.cmp(&b.namespace).then(b.ended.cmp(&a.ended)));
    let mut namespace = String::new();
    let mut count = 0;
    finished.retain(|object| {
        if object.namespace != namespace {
            namespace.clone_from(&object.namespace);
            count = 0;
        }
        count += 1;
        count > bound || now.duration_since(object.ended) > keep
    });
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, ended: i64) -> Finished {
        let name = format!("{namespace}-{ended}");
        Finished { namespace: namespace.into(), uid: name.clone(), name, ended: Time::from_second(ended).unwrap() }
    }

    #[test]
    fn the_old_and_the_surplus_go_and_each_namespace_counts_for_itself() {
        let all = vec![object("a", 100), object("a", 200), object("a", 300), object("b", 50), object("b", 290)];
        let gone = expired(all, SignedDuration::from_secs(225), 2, Time::from_second(300).unwrap());
        assert_eq!(gone.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a-100", "b-50"]);
    }
}

//! Names of Kubernetes objects: the one place that says what may become part of an API path.

/// RFC 1123 label, at most 63 characters: what a namespace may be called.
pub fn is_label(value: &str) -> bool {
    value.len() <= 63 && is_part(value)
}

/// RFC 1123 subdomain, at most 253 characters: what an object may be called. Nothing that passes can lead to another
/// path than that of one object.
pub fn is_subdomain(value: &str) -> bool {
    value.len() <= 253 && value.split('.').all(is_part)
}

/// Lower-case letters, digits and `-`, with a letter or digit at both ends.
fn is_part(value: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    match value.as_bytes() {
        [] => false,
        [first, .., last] if !(edge(*first) && edge(*last)) => false,
        [only] if !edge(*only) => false,
        all => all.iter().all(|&c| edge(c) || c == b'-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_NAMES: &[&str] =
        &["", "../kube-system", "a/b", "a?b=c", "a%2fb", "A", "a..b", "-a", "a-", "a.", ".a", "a\n", "a b", "ä", "-"];

    #[test]
    fn nothing_but_a_name_becomes_part_of_a_path() {
        for name in ["a", "checkout-7d9f", "0.a-b.c"] {
            assert!(is_subdomain(name), "{name}");
        }
        for name in NO_NAMES {
            assert!(!is_subdomain(name) && !is_label(name), "{name:?}");
        }
        assert!(is_subdomain(&vec!["a".repeat(50); 4].join(".")) && !is_subdomain(&"a".repeat(254)));
    }

    #[test]
    fn a_namespace_has_no_dot_and_at_most_63_characters() {
        assert!(is_label("kube-system") && is_label(&"a".repeat(63)));
        assert!(!is_label("a.b") && !is_label(&"a".repeat(64)));
    }
}

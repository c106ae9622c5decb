use proptest::prelude::*;
use serde_json::json;

use super::*;

fn redacted(input: &str) -> String {
    text(input, MAX_INPUT)
}

#[test]
fn secrets_of_every_known_kind_are_taken_out() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXZhbHVl";
    for (secret, input) in [
        ("abcdef123456789", "Authorization: Bearer abcdef123456789"),
        ("dXNlcjpwYXNz", "authorization: Basic dXNlcjpwYXNz"),
        ("AKIAIOSFODNN7EXAMPLE", "using key AKIAIOSFODNN7EXAMPLE in eu-west-1"),
        ("wJalrXUtnFEMI", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("MIIEpAIBAAKCAQEA", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"),
        ("MIIEpAIBAAKCAQEA", "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA and the end was cut"),
        ("s3cr3t", "dial postgres://app:s3cr3t@db:5432/shop failed"),
        ("s3cr3t", "redis://:s3cr3t@cache:6379"),
        ("hunter2", "password=hunter2"),
        ("hunter2", "{\"db_password\": \"hunter2\"}"),
        ("hunter2", "DB_PASSWD: 'hunter2'"),
        ("two words", "password: \"two words\""),
        ("0123456789", "api-key = 0123456789"),
        ("c2lnbmF0dXJlLXZhbHVl", jwt),
        ("ghp_abcdefghijklmnopqrstuvwxyz012345", "git clone with ghp_abcdefghijklmnopqrstuvwxyz012345"),
        ("xoxb-1234567890-abc", "slack xoxb-1234567890-abc"),
        ("sk-abcdefghijklmnop1234", "key sk-abcdefghijklmnop1234"),
    ] {
        let out = redacted(input);
        assert!(!out.contains(secret), "{out}");
        assert!(out.contains(REDACTED), "{out}");
    }
}

#[test]
fn ordinary_words_stay() {
    for input in [
        "panic: cannot connect to db:5432: connection refused",
        "GET /tokens/count 200 in 3 ms",
        "image shop:2 not found",
        "http://checkout.shop:8080/healthz returned 500",
    ] {
        assert_eq!(redacted(input), input);
    }
}

#[test]
fn the_rest_of_a_line_stays_readable() {
    assert_eq!(redacted("user=bob password=hunter2 host=db"), "user=bob password=<redacted> host=db");
    assert_eq!(redacted("postgres://app:s3cr3t@db:5432/x"), "postgres://app:<redacted>@db:5432/x");
}

#[test]
fn values_in_json_are_taken_out_by_the_name_beside_them() {
    let env = json!([{"name": "DB_PASSWORD", "value": "plain words"}, {"name": "LEVEL", "value": "info"}]);
    let out = json_text(&env);
    assert!(!out.contains("plain words") && out.contains("info"), "{out}");
    let reference = json!({"secretKeyRef": {"name": "db", "key": "password"}, "apiKey": "abc"});
    let out = json_text(&reference);
    assert!(out.contains("\"db\"") && !out.contains("abc"), "{out}");
}

fn json_text(value: &serde_json::Value) -> String {
    json(value, 4096)
}

#[test]
fn control_characters_escape_sequences_and_marks_that_hide_text_go() {
    assert_eq!(clean("\u{1b}[31;1mred\u{1b}[0m\u{7}\u{0} \u{202e}txt\u{200b}\tend\r\n"), "red txt\tend\n");
}

#[test]
fn a_secret_hidden_by_a_control_character_is_still_found() {
    let out = redacted("pass\u{200b}word=hunter2");
    assert!(!out.contains("hunter2"), "{out}");
}

#[test]
fn a_cut_never_splits_a_character_and_is_marked() {
    assert_eq!(clip("äöü", 4), "…");
    assert_eq!(clip("abcdef", 5), "ab…");
    assert_eq!(clip("abc", 3), "abc");
}

proptest! {
    #[test]
    fn any_text_is_redacted_without_a_panic_and_within_the_limit(input in "(?s).{0,400}", limit in 0usize..300) {
        prop_assert!(text(&input, limit).len() <= limit);
        prop_assert!(!clean(&input).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }

    #[test]
    fn a_password_never_survives(value in "[A-Za-z0-9!#%_+-][A-Za-z0-9!#%_+'\"-]{5,30}", before in "[a-z ]{0,20}") {
        let line = format!("{before} password={value} end");
        prop_assert!(!redacted(&line).contains(&value) || REDACTED.contains(&value));
    }
}

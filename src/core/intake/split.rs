//! Cuts a payload into its alerts without reading them: each is then read alone, so that one which cannot be read costs
//! no other, the memory for reading is that of one alert, and of a body that was cut off all whole alerts are found.

use std::borrow::Cow;
use std::ops::Range;

/// Longest alert that is read, in bytes: some hundred times what is kept of one.
pub const MAX_ALERT: usize = 1 << 20;
/// Longest rest of a payload beside its alerts that is read whole, in bytes. Of a longer one, as where a rule's template
/// puts a log into an annotation that all alerts of the group share, only what is asked for is read.
pub const MAX_ENVELOPE: usize = 1 << 20;
/// Longest value that is read of a longer one, in bytes.
const MAX_FIELD: usize = 1 << 10;

/// A payload, with the place of its list of alerts.
#[derive(Debug)]
pub struct Split<'a> {
    payload: &'a [u8],
    /// Where the list begins, its bracket included, and where it ends.
    list: Range<usize>,
    /// The payload ends inside the list.
    pub open: bool,
}

impl<'a> Split<'a> {
    /// Finds the list in the field `key` of a JSON object. `None`: it is no object, or has no such list.
    pub fn of(payload: &'a [u8], key: &str) -> Option<Split<'a>> {
        let mut at = blank(payload, 0);
        (payload.get(at) == Some(&b'{')).then_some(())?;
        at += 1;
        loop {
            let (name, start) = field(payload, at)?;
            at = start;
            if name == key.as_bytes() && payload.get(at) == Some(&b'[') {
                let mut elements = Elements { payload, at: at + 1, ended: false };
                elements.by_ref().for_each(drop);
                let (list, open) = (at..elements.at, !elements.ended);
                return Some(Split { payload, list, open });
            }
            at = value(payload, at)?;
        }
    }

    /// The payload with an empty list; closed behind it, if it was `cut_off`. Of one that is longer than [`MAX_ENVELOPE`],
    /// the fields `asked`, as far as they are short.
    pub fn envelope(&self, asked: &[&str], cut_off: bool) -> Vec<u8> {
        let after: &[u8] = if cut_off { b"}" } else { &self.payload[self.list.end..] };
        if self.list.start + 2 + after.len() <= MAX_ENVELOPE {
            return [&self.payload[..self.list.start], b"[]", after].concat();
        }
        let mut fields: Vec<Vec<u8>> = Vec::new();
        let mut at = blank(self.payload, 0) + 1;
        while let Some((name, start)) = field(self.payload, at) {
            let end = if start == self.list.start { Some(self.list.end) } else { value(self.payload, start) };
            let Some(end) = end else {
                at = start;
                break;
            };
            if end - start <= MAX_FIELD && asked.iter().any(|asked| name == asked.as_bytes()) {
                fields.push([b"\"", name, b"\":", &self.payload[start..end]].concat());
            }
            at = end;
        }
        // What has no end although nothing was cut off stays what it is, which is no JSON.
        let ends = cut_off || self.payload.get(separators(self.payload, at)) == Some(&b'}');
        let end: &[u8] = if ends { b"}" } else { b"" };
        [b"{", fields.join(&b',').as_slice(), end].concat()
    }

    /// The whole elements of the list, as they stand there.
    pub fn elements(&self) -> impl Iterator<Item = &'a [u8]> + Send + use<'a> {
        let payload = self.payload;
        Elements { payload, at: self.list.start + 1, ended: false }.map(move |range| &payload[range])
    }
}

/// Steps through the elements of a list.
struct Elements<'a> {
    payload: &'a [u8],
    at: usize,
    /// The closing bracket was seen.
    ended: bool,
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = separators(self.payload, self.at);
        match self.payload.get(start) {
            Some(b']') if !self.ended => (self.at, self.ended) = (start + 1, true),
            Some(_) if !self.ended => {
                let end = value(self.payload, start)?;
                self.at = end;
                return Some(start..end);
            }
            _ => {}
        }
        None
    }
}

/// The field of an object that comes next: its name as it is written, and where its value begins. `None` where there is
/// none.
fn field(payload: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let at = separators(payload, at);
    let end = string(payload, at)?;
    let colon = blank(payload, end);
    (payload.get(colon) == Some(&b':')).then_some(())?;
    Some((payload.get(at + 1..end - 1)?, blank(payload, colon + 1)))
}

/// Behind spaces.
fn blank(payload: &[u8], at: usize) -> usize {
    at + payload[at.min(payload.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Behind spaces and commas.
fn separators(payload: &[u8], at: usize) -> usize {
    let skipped = |byte: &&u8| byte.is_ascii_whitespace() || **byte == b',';
    at + payload[at.min(payload.len())..].iter().take_while(skipped).count()
}

/// Behind the string that begins here; `None` when none does, or it does not end.
fn string(payload: &[u8], at: usize) -> Option<usize> {
    (payload.get(at) == Some(&b'"')).then_some(())?;
    let mut at = at + 1;
    loop {
        match payload.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Behind the value that begins here; `None` when it does not end.
fn value(payload: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0_usize;
    loop {
        match payload.get(at)? {
            b'"' => at = string(payload, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' if depth > 0 => (at, depth) = (at + 1, depth - 1),
            // What is not JSON must not stop the search: one byte at least is taken.
            _ if depth > 0 => at += 1,
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b",]}\"[{:".contains(byte);
                at += 1 + payload[at + 1..].iter().position(ends)?;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The text with what no Unicode string can hold replaced by U+FFFD: bytes that are not UTF-8, and the escapes of half a
/// surrogate pair, which some JSON libraries write. One odd character must not cost the alert.
pub fn mend(text: &[u8]) -> Cow<'_, [u8]> {
    let mut mended: Cow<'_, [u8]> = match String::from_utf8_lossy(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    let mut at = 0;
    while at < mended.len() {
        let step = match (mended[at], unit(&mended, at), unit(&mended, at + 6)) {
            (b'\\', Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (b'\\', Some(0xD800..0xE000), _) => {
                mended.to_mut()[at + 2..at + 6].copy_from_slice(b"FFFD");
                6
            }
            (b'\\', _, _) => 2,
            _ => 1,
        };
        at += step;
    }
    mended
}

/// The code unit of the escape `\uXXXX` that begins here.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let escape = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn parts(payload: &str) -> Option<(Vec<String>, bool)> {
        let split = Split::of(payload.as_bytes(), "alerts")?;
        Some((split.elements().map(|part| String::from_utf8_lossy(part).into_owned()).collect(), split.open))
    }

    #[test]
    fn the_alerts_are_found_wherever_the_list_stands() {
        let rows: &[(&str, &[&str], bool)] = &[
            (r#"{"alerts":[]}"#, &[], false),
            (
                r#" { "a" : "}\"]" , "alerts" : [ {"x":"]"} , 5,"s\\"] , "version":"4"} "#,
                &[r#"{"x":"]"}"#, "5", r#""s\\""#],
                false,
            ),
            (r#"{"deep":{"alerts":[1]},"list":[[]],"alerts":[{"alerts":[2]}]}"#, &[r#"{"alerts":[2]}"#], false),
            (r#"{"alerts":[{"a":1},{"b":NaN},nul"#, &[r#"{"a":1}"#, r#"{"b":NaN}"#], true),
            (r#"{"alerts":[{"a":1},{"b":"}"#, &[r#"{"a":1}"#], true),
            (r#"{"alerts":["#, &[], true),
            (r#"{"alerts":[1]"#, &["1"], false),
        ];
        for (payload, elements, cut) in rows {
            let expected = (elements.iter().map(|text| text.to_string()).collect(), *cut);
            assert_eq!(parts(payload), Some(expected), "{payload}");
        }
        for none in ["", "[]", "{}", r#"{"alerts":5}"#, r#"{"alerts":null}"#, r#"{"alerts""#, "x"] {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    #[test]
    fn the_envelope_is_the_payload_without_its_alerts() {
        let envelope = |payload: &str, cut_off| {
            let envelope = Split::of(payload.as_bytes(), "alerts").unwrap().envelope(&["status"], cut_off);
            serde_json::from_slice::<Value>(&envelope).unwrap()
        };
        let expected = json!({"status": "firing", "alerts": [], "version": "4"});
        assert_eq!(envelope(r#"{"status":"firing","alerts":[{"x":1},NaN],"version":"4"}"#, false), expected);
        for cut_off in [r#"{"status":"firing","alerts":[{"x":1},{"#, r#"{"status":"firing","alerts":[{"x":1}],"vers"#] {
            assert_eq!(envelope(cut_off, true), json!({"status": "firing", "alerts": []}));
        }
    }

    #[test]
    fn of_a_long_envelope_only_what_is_asked_for_is_read_on_either_side_of_the_alerts() {
        let log = "x".repeat(MAX_ENVELOPE);
        let asked = ["status", "version", "count", "long"];
        let envelope = |payload: &str, cut_off| {
            let envelope = Split::of(payload.as_bytes(), "alerts").unwrap().envelope(&asked, cut_off);
            assert!(envelope.len() < 100, "{}", envelope.len());
            serde_json::from_slice::<Value>(&envelope).unwrap()
        };
        let before = format!(
            r#" {{"log":{{"status":"{log}"}}, "status" : "firing","alerts":[{{"status":"y"}}],"version":"4"}}"#
        );
        let after = format!(
            r#"{{"status":"firing","alerts":[{{"x":1}}],"count":7,"log":["{log}"],"long":"{log}","version":"4"}}"#
        );
        assert_eq!(envelope(&before, false), json!({"status": "firing", "version": "4"}));
        assert_eq!(envelope(&after, false), json!({"status": "firing", "count": 7, "version": "4"}));
        let cut = &before[..before.len() - 5];
        assert_eq!(envelope(cut, true), json!({"status": "firing"}), "a value without its end is none");
        for open in [&before[..before.len() - 1], &after[..after.len() - 2]] {
            let envelope = Split::of(open.as_bytes(), "alerts").unwrap().envelope(&asked, false);
            assert!(serde_json::from_slice::<Value>(&envelope).is_err(), "what does not end is no JSON");
        }
    }

    #[test]
    fn half_a_character_is_replaced_and_whole_ones_are_kept() {
        let read = |text: &[u8]| serde_json::from_slice::<String>(&mend(text)).unwrap();
        assert_eq!(read(br#""a\ud800b""#), "a\u{FFFD}b");
        assert_eq!(read(br#""\udc00\ud83d\udc1f\\ud800""#), "\u{FFFD}🐟\\ud800");
        assert_eq!(read(b"\"a\xFFb\""), "a\u{FFFD}b");
        assert!(matches!(mend("\"🐟 \\n\"".as_bytes()), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let payload = [b"{\"alerts\":[".as_slice(), &bytes].concat();
            for text in [&bytes, &payload] {
                if let Some(split) = Split::of(text, "alerts") {
                    split.elements().for_each(drop);
                    split.envelope(&["status"], true);
                }
                mend(text);
            }
        }

        #[test]
        fn wherever_a_body_is_cut_the_alerts_before_are_found(at in 0_usize..200) {
            let alerts: Vec<Value> = (0..9).map(|i| json!({"labels": {"a\"]}": format!("\\{i}[{{")}})).collect();
            let whole = json!({"alerts": alerts}).to_string();
            let cut = &whole.as_bytes()[..at.min(whole.len())];
            if let Some(split) = Split::of(cut, "alerts") {
                let found: Vec<Value> = split.elements().map(|part| serde_json::from_slice(part).unwrap()).collect();
                prop_assert_eq!(&found[..], &alerts[..found.len()]);
            }
        }
    }
}

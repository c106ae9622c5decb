//! Expressions as somebody writes them who wants to stop the operator: the same for the same number, on every machine.

/// Longest expression of a Policy, in characters.
const MAX_TEXT: usize = 2048;

/// A sequence of numbers that follows from its seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to and without `high`.
    fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low) as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.within(0, of.len())]
    }
}

const MACROS: &[&str] = &["all", "exists", "exists_one", "map", "filter"];
const VARIABLES: &[&str] = &[
    "target.annotations",
    "target.labels",
    "incident.alerts",
    "diagnosis.claims",
    "action.fields",
    "target.annotations.map(k, target.annotations[k])",
];
const METHODS: &[&str] = &[
    "size()",
    "split('')",
    "split(',')",
    "join()",
    "join(',')",
    "sort()",
    "distinct()",
    "flatten()",
    "flatten(9)",
    "reverse()",
    "lowerAscii()",
    "trim()",
    "substring(1)",
    "charAt(0)",
    "replace('', 'aaaa')",
    "replace('a', 'aaaaaaaa')",
    "contains('a')",
    "indexOf('a')",
    "lastIndexOf('a')",
    "matches('a+')",
    "find('a+')",
    "findAll('a*')",
    "format(['a'])",
    "startsWith('a')",
    "first()",
    "last().value()",
    "min()",
    "sum()",
    "isSorted()",
    "slice(0, 1)",
    "value()",
    "getQuery()",
    "getHost()",
    "major()",
    "asInteger()",
    "add(quantity('1'))",
    "validate('a.b')",
    "getFullYear()",
];
const FUNCTIONS: &[&str] = &[
    "size",
    "string",
    "int",
    "uint",
    "double",
    "bytes",
    "duration",
    "timestamp",
    "quantity",
    "isQuantity",
    "semver",
    "isSemver",
    "ip",
    "isIP",
    "cidr",
    "url",
    "isURL",
    "lists.range",
    "strings.quote",
    "base64.encode",
    "base64.decode",
    "jsonpatch.escapeKey",
    "math.abs",
    "math.greatest",
    "optional.of",
    "format.named",
    "max",
    "type",
    "dyn",
    "cel.bind",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "7",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615u",
    "1e308",
    "1e-320",
    "0.1",
    "100000",
    "4294967296",
    "0x7fffffffffffffff",
];
const TEXTS: &[&str] = &[
    "''",
    "'a'",
    "'a,b,c'",
    "b'abc'",
    "'%s%s%s'",
    "'%.99999999f'",
    "'1e2147483647'",
    "'9999-12-31T23:59:59Z'",
    "'\\u00e4'",
    "'http://a/?a&b&c&d&e&f'",
    "'999999999999999999999h'",
    "'::1'",
    "'(a+)+$'",
    "r'\\d+'",
    "'''a'''",
];
const PATTERNS: &[&str] = &[
    "(a+)+$",
    "(a|aa)+$",
    "(a|a?)+b",
    "((a{100}){100}){100}",
    "a{1000}",
    "(?:a?){500}a{500}",
    "(x+x+)+y",
    "\\\\w{200}",
    "(.*)(.*)(.*)(.*)(.*)[^a]",
    "[ab]*a[ab]{14}c",
    "(?i)(ä|ö|ü){50}",
    "\\\\p{L}{40}",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(",
    "[",
    "(((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))",
    "(a*)*b",
    ".*.*.*.*.*.*.*=.*",
    "\\\\b\\\\B\\\\b",
];

/// Expression number `number`.
pub fn expression(number: u64) -> String {
    let mut dice = Dice(number);
    let text = match number % 12 {
        0 => nested(&mut dice),
        1 => growth(&mut dice),
        2 => shared(&mut dice),
        3 => pattern(&mut dice),
        4 => deep(&mut dice),
        5 => numbers(&mut dice),
        6 => methods(&mut dice),
        7 => soup(&mut dice),
        8 => long(&mut dice),
        9 => over_variables(&mut dice),
        10 => {
            let text = any(&mut dice, 0);
            format!("{text} == {}", any(&mut dice, 0))
        }
        _ => {
            let text = expression(number.wrapping_mul(31).wrapping_add(7) / 12 * 12 + number % 11);
            damaged(&mut dice, text)
        }
    };
    text.chars().take(MAX_TEXT).collect()
}

fn items(dice: &mut Dice) -> String {
    let (count, item) = (dice.within(1, 80), dice.one(&["1", "'a'", "[1]", "1.5", "{}", "true"]));
    format!("[{}]", vec![item; count].join(","))
}

/// Loops in loops.
fn nested(dice: &mut Dice) -> String {
    let levels = dice.within(1, 9);
    let mut open = String::new();
    for level in 0..levels {
        let range = if dice.within(0, 3) == 0 { format!("lists.range({})", dice.within(1, 5000)) } else { items(dice) };
        let joined = dice.one(&["", "true || ", "false || ", "!", "nobody || "]);
        open.push_str(&format!("{joined}{range}.{}(x{level},", dice.one(MACROS)));
    }
    format!("{open}{}{}", dice.one(&["true", "x0 == x0", "false", "1", "nobody", "x0 + x0 != x0"]), ")".repeat(levels))
}

/// Each stage is a few times as long as the one before.
fn growth(dice: &mut Dice) -> String {
    let seed = dice.one(&["['aaaaaaaa']", "[[1]]", "[b'aaaa']", "[target.annotations.map(k, k)]", "['%s,']"]);
    let times = dice.within(2, 9);
    let stage = match dice.within(0, 5) {
        0 => format!(".map(a,{})", vec!["a"; times].join("+")),
        1 => ".map(a,a.replace('',a))".to_string(),
        2 => format!(".map(a,[{}].join(a))", vec!["a"; times].join(",")),
        3 => format!(".map(a,'{}'.format([{}]))", "%s".repeat(times), vec!["a"; times].join(",")),
        _ => format!(".map(a,[{}].flatten())", vec!["a"; times].join(",")),
    };
    let ending = dice.one(&["[0].size() > 0", " == []", ".size() > 0", ".join('') == ''", "[0]"]);
    format!("{seed}{}{ending}", stage.repeat(dice.within(1, 40)))
}

/// A value whose parts are shared: few steps to make, and more than the world holds when it is copied.
fn shared(dice: &mut Dice) -> String {
    let seed = dice.one(&["[[1]]", "['aaaaaaaaaaaaaaaa']", "[{'a': 1}]", "[target]"]);
    let times = dice.within(2, 9);
    let part = match dice.within(0, 2) {
        0 => format!("[{}]", vec!["a"; times].join(",")),
        _ => format!("{{{}}}", (0..times).map(|n| format!("'{n}':a")).collect::<Vec<_>>().join(",")),
    };
    let value = format!("{seed}{}", format!(".map(a,{part})").repeat(dice.within(1, 24)));
    match dice.within(0, 7) {
        0 => format!("{value} == {value}"),
        1 => format!("{value}.join(',') == ''"),
        2 => format!("'%s'.format([{value}]) == ''"),
        3 => format!("int({value}) == 0"),
        4 => format!("{value} in [{value}]"),
        5 => format!("{value} + 1 == 2"),
        _ => format!("optional.of({value}).orValue([]).distinct() == []"),
    }
}

fn pattern(dice: &mut Dice) -> String {
    let (pattern, text) = (dice.one(PATTERNS), dice.one(&["a", "ab", "ä", "aaaaaaaaab", " ", "xy"]));
    let (text, call) = (text.repeat(dice.within(1, 200)), dice.one(&["matches", "find", "findAll"]));
    match dice.within(0, 3) {
        0 => format!("'{text}'.{call}('{pattern}') == ''"),
        1 => format!("lists.range({}).all(x, '{text}'.{call}('{pattern}') != '')", dice.within(1, 5000)),
        _ => format!("lists.range(200).all(x, '{text}'.{call}('{pattern}' + string(x)) != '' || true)"),
    }
}

fn deep(dice: &mut Dice) -> String {
    let count = dice.within(1, 1024);
    match dice.within(0, 12) {
        0 => format!("{}1{}", "(".repeat(count), ")".repeat(count)),
        1 => format!("{}{}", "[".repeat(count), "]".repeat(count)),
        2 => format!("{}true", "!".repeat(count)),
        3 => format!("{}1", "-".repeat(count)),
        4 => format!("a{}", ".a".repeat(count)),
        5 => format!("a{}", "[0]".repeat(count)),
        6 => format!("{}1", "true?1:".repeat(count)),
        7 => format!("1{}", dice.one(&["+1", "==1", "&&1", "||1", " in 1"]).repeat(count)),
        8 => format!("a{}", ".map(a,a)".repeat(count)),
        9 => format!("{}1{}", "{1:".repeat(count), "}".repeat(count)),
        10 => format!("{}1{}", "size(".repeat(count), ")".repeat(count)),
        _ => "(".repeat(count),
    }
}

fn numbers(dice: &mut Dice) -> String {
    let (a, b) = (dice.one(NUMBERS), dice.one(NUMBERS));
    match dice.within(0, 5) {
        0 => format!("{a} {} {b}", dice.one(&["+", "-", "*", "/", "%", "<", "=="])),
        1 => format!("lists.range({a}).{}", dice.one(METHODS)),
        2 => format!("lists.range({}).{}", dice.within(0, 100_000), dice.one(METHODS)),
        3 => format!("'abc'.substring({a}, {b}) + 'abc'.charAt({a})"),
        _ => format!("{}({a})", dice.one(FUNCTIONS)),
    }
}

fn methods(dice: &mut Dice) -> String {
    let mut text = match dice.within(0, 4) {
        0 => format!("'{}'", dice.one(&["a", "a,", "%s", "ä", "1.", "http://a/?a&"]).repeat(dice.within(1, 400))),
        1 => format!("lists.range({})", dice.within(0, 20_000)),
        2 => dice.one(VARIABLES).to_string(),
        _ => format!("{}({})", dice.one(FUNCTIONS), dice.one(TEXTS)),
    };
    for _ in 0..dice.within(1, 12) {
        text = format!("{text}.{}", dice.one(METHODS));
    }
    text
}

/// For the parser.
fn soup(dice: &mut Dice) -> String {
    const TOKENS: &[&str] = &[
        "(", ")", "[", "]", "{", "}", ",", ":", "?", ".", "+", "-", "*", "/", "%", "!", "==", "!=", "<", ">=", "&&",
        "||", " in ", "a", "1", "'a'", "true", "null", "\"", "'", "r'", "b'", "\\", "\n", "//", ".?", "[?", "has(",
        ".all(x,", "ä", "\0", "0x", "1e", "1u", "@result", "`a`", "$",
    ];
    (0..dice.within(1, 400)).map(|_| dice.one(TOKENS)).collect()
}

fn long(dice: &mut Dice) -> String {
    let text = dice.one(&["a", "ä", "\\n", "%", "\\x00", "🦀"]).repeat(dice.within(1, 1500));
    match dice.within(0, 4) {
        0 => format!("'{text}' == '{text}'"),
        1 => format!("{}('{text}')", dice.one(FUNCTIONS)),
        2 => format!("'{text}'.{}", dice.one(METHODS)),
        _ => format!("lists.range({}).map(x, '{text}' + string(x))", dice.within(1, 100_000)),
    }
}

fn over_variables(dice: &mut Dice) -> String {
    let levels = dice.within(1, 5);
    let mut open = String::new();
    for level in 0..levels {
        open.push_str(&format!("{}.{}(x{level},", dice.one(VARIABLES), dice.one(MACROS)));
    }
    let inner = dice.one(&[
        "x0 in target.annotations",
        "target.annotations == target.labels",
        "string(x0).split('').distinct().size() > 0",
        "[target.annotations, target.labels].join(',') != ''",
        "'%s'.format([target]) != ''",
        "true",
    ]);
    format!("{open}{inner}{}", ")".repeat(levels))
}

/// Whatever the grammar allows.
fn any(dice: &mut Dice, depth: usize) -> String {
    if depth > 5 {
        return dice.one(&["1", "'a'", "target", "x", "true", "[]", "null", "1.5"]).to_string();
    }
    let part = |dice: &mut Dice| any(dice, depth + 1);
    match dice.within(0, 12) {
        0 => format!("({} {} {})", part(dice), dice.one(&["+", "-", "*", "/", "%"]), part(dice)),
        1 => format!("({} {} {})", part(dice), dice.one(&["&&", "||", "==", "!=", "<", "in"]), part(dice)),
        2 => format!("({} ? {} : {})", part(dice), part(dice), part(dice)),
        3 => format!("{}.{}(x, {})", part(dice), dice.one(MACROS), part(dice)),
        4 => format!("{}.{}", part(dice), dice.one(METHODS)),
        5 => format!("{}({})", dice.one(FUNCTIONS), part(dice)),
        6 => format!("[{}, {}, {}]", part(dice), part(dice), part(dice)),
        7 => format!("{{'a': {}, 1: {}}}", part(dice), part(dice)),
        8 => format!("{}[{}]", part(dice), part(dice)),
        9 => dice.one(TEXTS).to_string(),
        10 => dice.one(NUMBERS).to_string(),
        _ => dice.one(VARIABLES).to_string(),
    }
}

/// The same with a few characters taken out, put in or repeated.
fn damaged(dice: &mut Dice, text: String) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..dice.within(1, 6) {
        let at = dice.within(0, characters.len() + 1);
        match dice.within(0, 3) {
            0 if at < characters.len() => {
                characters.remove(at);
            }
            1 => {
                characters.insert(at, dice.one(&["(", ")", "'", "[", ".", "x", "0", "+"]).chars().next().unwrap_or('x'))
            }
            _ => {
                let until = (at + dice.within(1, 60)).min(characters.len());
                let again: Vec<char> = characters[at.min(until)..until].to_vec();
                characters.splice(at..at, again);
            }
        }
    }
    characters.into_iter().collect()
}

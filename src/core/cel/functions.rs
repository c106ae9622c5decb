//! The functions that an expression may call, and what each costs. What is not in the table cannot be called: there is
//! no bound for what we do not know.

use kube_cel::cel::Value;

use super::meter::{MAX_PARSED, Meter, Stop, units};
use super::patterns::Search;

/// A function or an operator of the library.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// As the library knows it; with its prefix, if it has one.
    pub name: &'static str,
    /// What it costs.
    pub cost: Cost,
}

/// What a function costs beside reading its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing: a result no larger than a few times the operands, in one pass.
    Linear,
    /// Its text is parsed, and may not be long.
    Parse,
    /// The same, and each part of the text can become a value.
    Parts,
    /// Each part of one operand is held against each of the other.
    Product,
    /// Each item is held against each other.
    Square,
    /// The items are sorted.
    Sort,
    /// A text becomes as many values as it has parts.
    Split,
    /// Each occurrence is replaced by what may be longer.
    Replace,
    /// A separator is put between items, which may be printed.
    Join,
    /// Values are printed, numbers with as many digits as the text says.
    Format,
    /// A list as long as a number says.
    Range,
    /// A regular expression; ours.
    Pattern(Search),
}

/// Printed, a value is at most so many times as long as it weighs: each byte may be escaped.
const PRINTED: u64 = 16;
/// Digits after the point that a text may ask for.
const MAX_DIGITS: usize = 32;
/// A printed number has at most so many bytes before the point.
const NUMBER: usize = 352;

macro_rules! functions {
    ($($cost:expr => $($name:literal)+;)+) => {
        const FUNCTIONS: &[Function] = &[$($(Function { name: $name, cost: $cost },)+)+];
    };
}

functions! {
    Cost::Linear =>
        "_+_" "_-_" "_*_" "_/_" "_%_" "-_" "!_" "_==_" "_!=_" "_<_" "_<=_" "_>_" "_>=_" "@in" "_[_]" "_[?_]" "_?._"
        "size" "startsWith" "endsWith" "string" "bytes" "min" "max"
        "optional.none" "optional.of" "optional.ofNonZeroValue" "value" "hasValue" "or" "orValue"
        "getFullYear" "getMonth" "getDayOfYear" "getDayOfMonth" "getDate" "getDayOfWeek" "getHours" "getMinutes"
        "getSeconds" "getMilliseconds"
        "charAt" "lowerAscii" "upperAscii" "substring" "trim" "strings.quote" "reverse"
        "isSorted" "sum" "slice" "flatten" "first" "last"
        "isGreaterThan" "isLessThan" "compareTo" "isInteger" "asInteger" "asApproximateFloat" "sign" "add" "sub"
        "major" "minor" "patch"
        "family" "isLoopback" "isUnspecified" "isLinkLocalMulticast" "isLinkLocalUnicast" "isGlobalUnicast"
        "prefixLength" "masked"
        "getScheme" "getHost" "getHostname" "getPort" "getEscapedPath"
        "base64.encode" "base64.decode" "jsonpatch.escapeKey"
        "math.ceil" "math.floor" "math.round" "math.trunc" "math.abs" "math.sign" "math.isInf" "math.isNaN"
        "math.isFinite" "math.bitAnd" "math.bitOr" "math.bitXor" "math.bitNot" "math.bitShiftLeft"
        "math.bitShiftRight" "math.sqrt" "math.greatest" "math.least"
        "format.dns1123Label" "format.dns1123Subdomain" "format.dns1035Label" "format.dns1035LabelPrefix"
        "format.dns1123LabelPrefix" "format.dns1123SubdomainPrefix" "format.qualifiedName" "format.labelValue"
        "format.uri" "format.uuid" "format.byte" "format.date" "format.datetime" "format.named";
    Cost::Parse =>
        "int" "uint" "double" "duration" "timestamp" "quantity" "isQuantity" "semver" "isSemver" "ip" "isIP"
        "ip.isCanonical" "isIPv4" "isIPv6" "cidr" "isCIDR" "isCIDRv4" "isCIDRv6" "containsIP" "containsCIDR" "url"
        "isURL";
    Cost::Parts => "getQuery" "validate";
    Cost::Product => "contains" "indexOf" "lastIndexOf" "sets.contains" "sets.equivalent" "sets.intersects";
    Cost::Square => "distinct";
    Cost::Sort => "sort";
    Cost::Split => "split";
    Cost::Replace => "replace";
    Cost::Join => "join";
    Cost::Format => "format";
    Cost::Range => "lists.range";
    Cost::Pattern(Search::Matches) => "matches";
    Cost::Pattern(Search::Find) => "find";
    Cost::Pattern(Search::FindAll) => "findAll";
}

/// The function with this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Charges a call of a function that costs no more than to read its operands.
pub(super) fn charge_reading(operands: &[&Value], meter: &mut Meter) -> Result<(), Stop> {
    meter.charge(4)?;
    operands.iter().try_for_each(|operand| meter.weigh(operand).map(drop))
}

/// Charges a call with these operands, the one in front of the dot first. Whatever the call makes is no larger than a
/// fixed multiple of what is charged here.
pub(super) fn charge(cost: Cost, operands: &[Value], meter: &mut Meter) -> Result<(), Stop> {
    meter.charge(4)?;
    let mut weights = [0; 3];
    for (at, operand) in operands.iter().enumerate() {
        weights[at.min(2)] += meter.weigh(operand)?;
    }
    let [first, second, rest] = weights;
    let all = first + second + rest;
    match cost {
        Cost::Linear => Ok(()),
        Cost::Parse | Cost::Parts => {
            let long = |value: &Value| matches!(value, Value::String(text) if text.len() > MAX_PARSED);
            if operands.iter().any(long) {
                return Err(Stop::failed(format_args!("a text that is parsed may have {MAX_PARSED} bytes")));
            }
            meter.charge(if cost == Cost::Parts { MAX_PARSED as u64 / 2 } else { 0 })
        }
        Cost::Product => meter.charge(first.saturating_mul(second)),
        Cost::Square => meter.charge(first.saturating_mul(first)),
        Cost::Sort => meter.charge(first.saturating_mul(16)),
        Cost::Split => match operands {
            [Value::String(text), Value::String(separator), ..] => {
                meter.charge(2 * (text.len() / separator.len().max(1)) as u64)
            }
            _ => Ok(()),
        },
        Cost::Replace => replace(operands, meter),
        Cost::Join => join(operands, all, meter),
        Cost::Format => format(operands, all, meter),
        Cost::Range => match operands {
            [Value::Int(length), ..] => meter.charge(u64::try_from(*length).unwrap_or(0)),
            _ => Ok(()),
        },
        Cost::Pattern(_) => Ok(()),
    }
}

fn replace(operands: &[Value], meter: &mut Meter) -> Result<(), Stop> {
    let [Value::String(text), Value::String(old), Value::String(new), ..] = operands else { return Ok(()) };
    let occurrences = if old.is_empty() { text.len() + 1 } else { text.matches(old.as_str()).count() };
    meter.charge(occurrences as u64)?;
    meter.charge_bytes(occurrences.saturating_mul(new.len()))
}

fn join(operands: &[Value], weight: u64, meter: &mut Meter) -> Result<(), Stop> {
    let Some(Value::List(items)) = operands.first() else { return Ok(()) };
    if !items.iter().all(|item| matches!(item, Value::String(_))) {
        meter.charge(weight.saturating_mul(PRINTED))?;
    }
    match operands.get(1) {
        Some(Value::String(separator)) => meter.charge_bytes(items.len().saturating_mul(separator.len())),
        _ => Ok(()),
    }
}

fn format(operands: &[Value], weight: u64, meter: &mut Meter) -> Result<(), Stop> {
    let Some(Value::String(text)) = operands.first() else { return Ok(()) };
    let mut verbs = 0u64;
    for part in text.split('%').skip(1) {
        verbs += 1;
        let Some(digits) = part.strip_prefix('.') else { continue };
        let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
        if !digits.is_empty() && !digits.parse::<usize>().is_ok_and(|digits| digits <= MAX_DIGITS) {
            return Err(Stop::failed(format_args!("format prints at most {MAX_DIGITS} digits after the point")));
        }
    }
    meter.charge(weight.saturating_mul(PRINTED))?;
    meter.charge(verbs.saturating_mul(units(NUMBER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_listed_once() {
        let mut names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

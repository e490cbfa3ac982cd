//! Numbers and quantities in a resource: what its elements say of a value and its unit.
use super::extract::text;
use super::number::{Ends, number};
use super::plan::Leaf;
use super::unit::{CURRENCIES, Canonical, UCUM};
use super::{Quantity, Span};
use octofhir_ucum::Number;
use serde_json::Value;

/// The number of a member.
fn member(value: &Value, name: &str) -> Option<Number> {
    match value.get(name)? {
        Value::Number(found) => number(found.as_str()),
        _ => None,
    }
}

/// A number, or a range of them.
pub(super) fn amount(leaf: Leaf, value: &Value) -> Option<Span> {
    match (leaf, value) {
        (Leaf::Decimal, Value::Number(found)) => Ends::point(number(found.as_str())?).span(None),
        (Leaf::Range, _) => range(value)?.0.span(None),
        _ => None,
    }
}

/// A quantity of any form.
pub(super) fn quantity(leaf: Leaf, value: &Value) -> Option<Quantity<&str>> {
    let (ends, unit) = match leaf {
        Leaf::Quantity => {
            let ends = Ends::compared(member(value, "value")?, text(value, "comparator"))?;
            (ends, Unit::of(value))
        }
        Leaf::Money => {
            let code = text(value, "currency").unwrap_or_default();
            let unit = Unit {
                system: if code.is_empty() { "" } else { CURRENCIES },
                code,
                words: "",
            };
            (Ends::point(member(value, "value")?), unit)
        }
        Leaf::Range => range(value)?,
        Leaf::SampledData => sampled(value)?,
        _ => return None,
    };
    let canonical = (unit.system == UCUM)
        .then(|| Canonical::of(unit.code))
        .flatten();
    let canonical = match canonical {
        Some(canonical) => Some((canonical.unit.clone(), ends.span(Some(&canonical))?)),
        None => None,
    };
    Some(Quantity {
        value: ends.span(None)?,
        system: unit.system,
        code: unit.code,
        unit: unit.words,
        canonical,
    })
}

#[derive(PartialEq)]
struct Unit<'a> {
    system: &'a str,
    code: &'a str,
    words: &'a str,
}

impl<'a> Unit<'a> {
    fn of(quantity: &'a Value) -> Self {
        let member = |name: &str| text(quantity, name).unwrap_or_default();
        Self {
            system: member("system"),
            code: member("code"),
            words: member("unit"),
        }
    }
}

/// The ends of a `Range`, which are of one unit, or it says nothing.
fn range(value: &Value) -> Option<(Ends, Unit<'_>)> {
    let end = |name: &str| match value.get(name) {
        None => Some(None),
        Some(end) => Some(Some((member(end, "value")?, Unit::of(end)))),
    };
    let (low, high) = (end("low")?, end("high")?);
    let closed = |end: &Option<(Number, Unit<'_>)>| end.as_ref().map(|(number, _)| (*number, true));
    let ends = Ends {
        low: closed(&low),
        high: closed(&high),
    };
    let unit = match (low, high) {
        (Some((_, low)), Some((_, high))) => (low == high).then_some(low)?,
        (Some((_, one)), None) | (None, Some((_, one))) => one,
        (None, None) => return None,
    };
    Some((ends, unit))
}

/// From the least to the greatest of the samples; open where one was below or above what could be
/// measured.
fn sampled(value: &Value) -> Option<(Ends, Unit<'_>)> {
    let origin = value.get("origin")?;
    let zero = member(origin, "value")?;
    let factor = match value.get("factor") {
        None => Number::ONE,
        Some(_) => member(value, "factor")?,
    };
    let mut extremes: Option<(Number, Number)> = None;
    let (mut below, mut above) = (false, false);
    for sample in text(value, "data")?.split_ascii_whitespace() {
        match sample {
            "E" => {}
            "L" => below = true,
            "U" => above = true,
            sample => {
                let sample = number(sample)?.checked_mul(factor)?.checked_add(zero)?;
                extremes = Some(match extremes {
                    None => (sample, sample),
                    Some((least, greatest)) => (
                        if is_less(sample, least) {
                            sample
                        } else {
                            least
                        },
                        if is_less(greatest, sample) {
                            sample
                        } else {
                            greatest
                        },
                    ),
                });
            }
        }
    }
    let closed = |end: fn((Number, Number)) -> Number| extremes.map(|both| (end(both), true));
    let ends = Ends {
        low: if below {
            None
        } else {
            closed(|(least, _)| least)
        },
        high: if above {
            None
        } else {
            closed(|(_, greatest)| greatest)
        },
    };
    Some((ends, Unit::of(origin)))
}

fn is_less(a: Number, b: Number) -> bool {
    a.checked_sub(b).is_some_and(Number::is_negative)
}

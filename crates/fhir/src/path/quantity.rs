//! Quantities: values of different units, as far as they compare (FHIRPath 2.0, sections 6.1 and 6.2).
//!
//! The words of the calendar for lengths of time that are always the same (`week` to `millisecond`) are
//! UCUM's units of these names. A calendar's years and months are months, and nothing else: how many
//! days they have, only a date can tell.
use super::value::unit;
use crate::search::{Amount, Canonical, number};
use octofhir_ucum::Number;
use rust_decimal::Decimal;
use std::cmp::Ordering;
use std::sync::Arc;

/// UCUM's code of a unit.
fn code(text: &str) -> &str {
    match unit(text) {
        "week" => "wk",
        "day" => "d",
        "hour" => "h",
        "minute" => "min",
        "second" => "s",
        "millisecond" => "ms",
        code => code,
    }
}

/// Months of a calendar's word.
fn months(text: &str) -> Option<Decimal> {
    match unit(text) {
        "year" => Some(Decimal::from(12)),
        "month" => Some(Decimal::ONE),
        _ => None,
    }
}

fn exact(value: Decimal) -> Option<Number> {
    number(&value.to_string())
}

fn plain(value: Number) -> Option<Decimal> {
    let (digits, exponent) = value.to_integer_and_exponent();
    let scale = u32::try_from(-i64::from(exponent)).ok();
    match scale {
        Some(scale) => Decimal::try_from_i128_with_scale(digits, scale).ok(),
        None => {
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Decimal::try_from_i128_with_scale(digits.checked_mul(power)?, 0).ok()
        }
    }
}

/// What two units have in common, if anything.
fn canonical(one: &str, other: &str) -> Option<(Arc<Canonical>, Arc<Canonical>)> {
    let (one, other) = (Canonical::of(code(one))?, Canonical::of(code(other))?);
    (one.unit == other.unit).then_some((one, other))
}

/// Whether quantities in these units compare.
pub(super) fn comparable(one: &str, other: &str) -> bool {
    unit(one) == unit(other)
        || (months(one).is_some() && months(other).is_some())
        || canonical(one, other).is_some()
}

/// The order of two quantities; `None` where their units don't compare.
pub(super) fn compare(a: Decimal, x: &str, b: Decimal, y: &str) -> Option<Ordering> {
    if unit(x) == unit(y) {
        return Some(a.cmp(&b));
    }
    if let (Some(x), Some(y)) = (months(x), months(y)) {
        return Some(a.checked_mul(x)?.cmp(&b.checked_mul(y)?));
    }
    let (x, y) = canonical(x, y)?;
    let (a, b) = (x.canonical(exact(a)?)?, y.canonical(exact(b)?)?);
    Some(Amount::of(a).cmp(&Amount::of(b)))
}

/// Two quantities in the larger of their units, in which their digits are compared when they are about
/// the same.
pub(super) fn in_one_unit(a: Decimal, x: &str, b: Decimal, y: &str) -> Option<(Decimal, Decimal)> {
    if unit(x) == unit(y) {
        return Some((a, b));
    }
    if let (Some(x), Some(y)) = (months(x), months(y)) {
        return Some((a.checked_mul(x)?, b.checked_mul(y)?));
    }
    let (x, y) = canonical(x, y)?;
    let one = Number::from_i64(1);
    let zero = Number::from_i64(0);
    let size = |unit: &Canonical| unit.canonical(one)?.checked_sub(unit.canonical(zero)?);
    let (of_x, of_y) = (size(&x)?, size(&y)?);
    let in_larger = |value: Decimal, from: &Canonical, to: &Canonical, to_size: Number| {
        let value = from
            .canonical(exact(value)?)?
            .checked_sub(to.canonical(zero)?)?;
        plain(value.checked_div(to_size)?).map(|value| value.normalize())
    };
    if of_x >= of_y {
        Some((a, in_larger(b, &y, &x, of_x)?))
    } else {
        Some((in_larger(a, &x, &y, of_y)?, b))
    }
}

/// A text that is the same for quantities that are equal.
pub(super) fn key(value: Decimal, text: &str) -> String {
    if let Some(each) = months(text) {
        return format!("{} months", (value * each).normalize());
    }
    let canonical = Canonical::of(code(text));
    let found = canonical.and_then(|unit| Some((unit.canonical(exact(value)?)?, unit)));
    match found {
        Some((value, unit)) => format!("{:?} {}", Amount::of(value), unit.unit),
        None => format!("{} {}", value.normalize(), unit(text)),
    }
}

/// The unit of a product or a quotient.
pub(super) fn joined(one: &str, by: char, other: &str) -> String {
    let part = |text: &str| {
        let code = code(text);
        if code.contains(['/', '.']) {
            format!("({code})")
        } else {
            code.to_owned()
        }
    };
    let unit = format!("{}{by}{}", part(one), part(other));
    // As `1` where all of it goes away.
    match Canonical::of(&unit) {
        Some(found)
            if found.unit == "1"
                && found.canonical(Number::from_i64(1)) == Some(Number::from_i64(1)) =>
        {
            "1".to_owned()
        }
        _ => unit,
    }
}

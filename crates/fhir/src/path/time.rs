//! Comparing and moving dates and times of any precision.
use super::value::unit;
use crate::date::{Parts, civil, days, days_in_month};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::cmp::Ordering;

/// Two dates or date-times, part by part, until one part decides or only one of them has it.
pub(super) fn moments(a: Parts, b: Parts) -> Option<Ordering> {
    if a.has_time() && b.has_time() {
        // What is said of one zone and of none in particular can't be told apart.
        if a.offset_min.is_some() != b.offset_min.is_some() {
            return None;
        }
        return fields(&calendar(utc(a)), &calendar(utc(b)));
    }
    fields(&calendar(a), &calendar(b))
}

/// The same moment in UTC with the same precision; without a zone, UTC is assumed.
fn utc(parts: Parts) -> Parts {
    if parts.offset_min.unwrap_or(0) == 0 {
        return parts;
    }
    let shifted = Parts::from_unix_ms(parts.start_ms());
    Parts {
        minute: parts.minute.and(shifted.minute),
        second: parts.second.and(shifted.second),
        millisecond: parts.millisecond.and(shifted.millisecond),
        ..shifted
    }
}

fn calendar(parts: Parts) -> Vec<Option<i64>> {
    let mut list = vec![
        Some(parts.year),
        parts.month.map(i64::from),
        parts.day.map(i64::from),
    ];
    list.extend(clock(parts));
    list
}

/// Hour, minute and milliseconds (seconds and their fraction are one precision).
pub(super) fn clock(parts: Parts) -> [Option<i64>; 3] {
    let second = parts
        .second
        .map(|second| i64::from(second) * 1000 + i64::from(parts.millisecond.unwrap_or(0)));
    [
        parts.hour.map(i64::from),
        parts.minute.map(i64::from),
        second,
    ]
}

pub(super) fn fields(a: &[Option<i64>], b: &[Option<i64>]) -> Option<Ordering> {
    for (a, b) in a.iter().zip(b) {
        match (a, b) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => return Some(a.cmp(b)),
            (None, None) => return Some(Ordering::Equal),
            _ => return None,
        }
    }
    Some(Ordering::Equal)
}

/// A date or time of day plus an amount of time. `Err` when the unit is none of time, `Ok(None)`
/// when the result lies outside of the years 1 to 9999.
pub(super) fn add_time(
    parts: Parts,
    is_time: bool,
    amount: Decimal,
    text: &str,
) -> Result<Option<Parts>, ()> {
    // UCUM's year and month are lengths of time (365.25 days, a twelfth of it), not steps of a calendar,
    // and can't be added to a date.
    let unit = unit(text);
    let Some(whole) = amount
        .trunc()
        .to_i64()
        .filter(|whole| whole.abs() < 1 << 40)
    else {
        return Ok(None);
    };
    let milliseconds = match unit {
        "year" | "month" if is_time => return Err(()),
        "year" => return Ok(add_months(parts, whole.saturating_mul(12))),
        "month" => return Ok(add_months(parts, whole)),
        "week" => whole * 7 * 86_400_000,
        "day" => whole * 86_400_000,
        "hour" => whole * 3_600_000,
        "minute" => whole * 60_000,
        "second" => (amount * Decimal::ONE_THOUSAND)
            .trunc()
            .to_i64()
            .unwrap_or(0),
        "millisecond" => whole,
        _ => return Err(()),
    };
    // What the date doesn't say can't be counted up: smaller amounts only count in whole steps of
    // its precision, a month as 30 days and a year as 365.
    let added_days = milliseconds / 86_400_000;
    if !is_time && parts.day.is_none() {
        return Ok(add_months(
            parts,
            if parts.month.is_none() {
                added_days / 365 * 12
            } else {
                added_days / 30
            },
        ));
    }
    if is_time || parts.has_time() {
        let local = Parts {
            offset_min: None,
            ..parts
        };
        let base = if is_time {
            local.start_ms() - days(1, 1, 1) * 86_400_000
        } else {
            local.start_ms()
        };
        let moved = base + milliseconds;
        let moved = Parts::from_unix_ms(if is_time {
            moved.rem_euclid(86_400_000)
        } else {
            moved
        });
        let fine_fraction = moved
            .millisecond
            .filter(|fraction| *fraction > 0 && parts.second.is_some());
        let moved = Parts {
            month: parts.month.and(moved.month),
            day: parts.day.and(moved.day),
            minute: parts.minute.and(moved.minute),
            second: parts.second.and(moved.second),
            millisecond: parts.millisecond.and(moved.millisecond).or(fine_fraction),
            offset_min: parts.offset_min,
            ..moved
        };
        return Ok(Some(moved).filter(|moved| (1..=9999).contains(&moved.year)));
    }
    let (month, day) = (parts.month.unwrap_or(1), parts.day.unwrap_or(1));
    let (year, month, day) = civil(days(parts.year, month, day) + added_days);
    Ok(Some(Parts {
        year,
        month: Some(month),
        day: Some(day),
        ..parts
    })
    .filter(|moved| (1..=9999).contains(&moved.year)))
}

fn add_months(parts: Parts, months: i64) -> Option<Parts> {
    let count = parts.year * 12 + i64::from(parts.month.unwrap_or(1)) - 1 + months;
    let year = Some(count.div_euclid(12)).filter(|year| (1..=9999).contains(year))?;
    let month = u8::try_from(count.rem_euclid(12) + 1).ok()?;
    Some(Parts {
        year,
        month: parts.month.and(Some(month)),
        day: parts.day.map(|day| day.min(days_in_month(year, month))),
        ..parts
    })
}

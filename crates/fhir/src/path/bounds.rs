//! `precision`, `lowBoundary` and `highBoundary` (FHIRPath 3.0, section 5.8): what a value of limited
//! precision may be at the least and at the most.
use super::value::{It, date_part};
use crate::date::{Parts, days_in_month};
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};

/// Digits after the point that a number gets where none are asked for.
const DIGITS: i64 = 8;
/// The most digits after the point that a number here can have.
const DIGITS_MAX: i64 = 28;
/// Digits of a date, of a date-time and of a time of day with everything said.
const DATE: i64 = 8;
const DATE_TIME: i64 = 17;
const TIME: i64 = 9;
/// The zones in which a moment comes first and last, in minutes east of Greenwich.
const EARLIEST_MIN: i16 = 14 * 60;
const LATEST_MIN: i16 = -12 * 60;

/// How many digits a value has: after the point, or of the date or time.
pub(super) fn precision(item: &It<'_>) -> Option<i64> {
    Some(match item {
        It::Int(_) => 0,
        It::Dec(value) => i64::from(value.scale()),
        It::Date(parts) | It::DateTime(parts) => match () {
            () if parts.second.is_some() => seconds_digits(parts, 14, DATE_TIME),
            () if parts.minute.is_some() => 12,
            () if parts.hour.is_some() => 10,
            () if parts.day.is_some() => 8,
            () if parts.month.is_some() => 6,
            () => 4,
        },
        It::Time(parts) => match () {
            () if parts.second.is_some() => seconds_digits(parts, 6, TIME),
            () if parts.minute.is_some() => 4,
            () => 2,
        },
        _ => return None,
    })
}

fn seconds_digits(parts: &Parts, whole: i64, with_fraction: i64) -> i64 {
    if parts.millisecond.is_some() {
        with_fraction
    } else {
        whole
    }
}

/// The least (or, if `high`, the greatest) that a value can be, to a number of digits. Empty where the
/// digits are more than there can be, or none of the value's kind.
pub(super) fn boundary(item: It<'_>, high: bool, digits: Option<i64>) -> Option<It<'_>> {
    match item {
        It::Int(value) => number(Decimal::from(value), high, digits).map(It::Dec),
        It::Dec(value) => number(value, high, digits).map(It::Dec),
        It::Qty(value, unit) => Some(It::Qty(number(value, high, digits)?, unit)),
        It::Date(parts) => {
            let digits = digits.unwrap_or(DATE);
            (digits <= DATE).then_some(())?;
            moment(parts, high, digits).map(It::Date)
        }
        It::DateTime(parts) => moment(parts, high, digits.unwrap_or(DATE_TIME)).map(It::DateTime),
        It::Time(parts) => time(parts, high, digits.unwrap_or(TIME)).map(It::Time),
        _ => None,
    }
}

fn number(value: Decimal, high: bool, digits: Option<i64>) -> Option<Decimal> {
    let digits = digits.unwrap_or(DIGITS);
    if !(0..=DIGITS_MAX).contains(&digits) {
        return None;
    }
    let half = Decimal::new(5, value.scale().checked_add(1)?);
    let (edge, towards) = if high {
        (
            value.checked_add(half)?,
            RoundingStrategy::ToPositiveInfinity,
        )
    } else {
        (
            value.checked_sub(half)?,
            RoundingStrategy::ToNegativeInfinity,
        )
    };
    let digits = digits.to_u32()?;
    let mut edge = edge.round_dp_with_strategy(digits, towards);
    edge.rescale(digits);
    // Too many digits before the point leave no room for those behind it.
    (edge.scale() == digits).then_some(edge)
}

/// A date or date-time, its missing parts filled in, cut to a number of digits.
fn moment(parts: Parts, high: bool, digits: i64) -> Option<Parts> {
    let month = parts.month.unwrap_or(if high { 12 } else { 1 });
    let day = parts.day.unwrap_or(if high {
        days_in_month(parts.year, month)
    } else {
        1
    });
    let with_day = Parts {
        month: Some(month),
        day: Some(day),
        ..parts
    };
    Some(match digits {
        4 => Parts {
            month: None,
            day: None,
            ..date_part(parts)
        },
        6 => Parts {
            day: None,
            ..date_part(with_day)
        },
        8 => date_part(with_day),
        10 | 12 | 14 | 17 => {
            let zone = if high { LATEST_MIN } else { EARLIEST_MIN };
            Parts {
                offset_min: Some(parts.offset_min.unwrap_or(zone)),
                ..time(with_day, high, digits - 8)?
            }
        }
        _ => return None,
    })
}

fn time(parts: Parts, high: bool, digits: i64) -> Option<Parts> {
    let fill = |part: Option<u8>, most: u8| Some(part.unwrap_or(if high { most } else { 0 }));
    let full = Parts {
        hour: fill(parts.hour, 23),
        minute: fill(parts.minute, 59),
        second: fill(parts.second, 59),
        millisecond: Some(parts.millisecond.unwrap_or(if high { 999 } else { 0 })),
        ..parts
    };
    Some(match digits {
        2 => Parts {
            minute: None,
            second: None,
            millisecond: None,
            ..full
        },
        4 => Parts {
            second: None,
            millisecond: None,
            ..full
        },
        6 => Parts {
            millisecond: None,
            ..full
        },
        9 => full,
        _ => return None,
    })
}

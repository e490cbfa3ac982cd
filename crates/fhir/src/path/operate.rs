//! Operators on whole collections, and arithmetic.
use super::PathError;
use super::eval::{Items, Outcome, overflow, single_raw};
use super::parse::Operator;
use super::quantity::joined;
use super::time::add_time;
use super::value::{It, equal, equivalent};
use crate::date::Parts;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::borrow::Cow;

pub(super) fn collections_equal(a: &[It<'_>], b: &[It<'_>]) -> Option<bool> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = Some(true);
    for (a, b) in a.iter().zip(b) {
        match equal(a, b) {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

pub(super) fn collections_equivalent(a: &[It<'_>], b: &[It<'_>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|item| b.iter().any(|other| equivalent(item, other)))
}

pub(super) fn membership<'a>(item: Items<'a>, list: &[It<'a>], position: usize) -> Outcome<'a> {
    Ok(single_raw(item, position)?
        .map(|item| It::Bool(list.iter().any(|other| equal(&item, other) == Some(true))))
        .into_iter()
        .collect())
}

/// `+ - * / div mod`; `None` for empty, as for a division by zero.
pub(super) fn arithmetic<'a>(
    operator: Operator,
    a: It<'a>,
    b: It<'a>,
    position: usize,
) -> Result<Option<It<'a>>, PathError> {
    use Operator::*;
    let too_big = || overflow(position);
    Ok(match (operator, a, b) {
        (Add, It::Str(a), It::Str(b)) => Some(It::Str(Cow::Owned(a.into_owned() + &b))),
        (Add, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_add(b).ok_or_else(too_big)?)),
        (Subtract, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_sub(b).ok_or_else(too_big)?)),
        (Multiply, It::Int(a), It::Int(b)) => Some(It::Int(a.checked_mul(b).ok_or_else(too_big)?)),
        (Div, It::Int(a), It::Int(b)) => a.checked_div(b).map(It::Int),
        (Mod, It::Int(a), It::Int(b)) => a.checked_rem(b).map(It::Int),
        (
            Add | Subtract,
            date @ (It::Date(_) | It::DateTime(_) | It::Time(_) | It::Str(_)),
            amount,
        ) => {
            let (parts, back): (Parts, fn(Parts) -> It<'a>) = match date {
                It::Date(parts) => (parts, It::Date),
                It::DateTime(parts) => (parts, It::DateTime),
                It::Time(parts) => (parts, It::Time),
                // A text of a type that isn't known may well be a date.
                It::Str(text) => match Parts::parse(&text) {
                    Some(parts) if parts.has_time() => (parts, It::DateTime),
                    Some(parts) => (parts, It::Date),
                    None => {
                        return Err(PathError::new(
                            position,
                            "values of these types can't be added or subtracted",
                        ));
                    }
                },
                _ => return Ok(None),
            };
            let is_time = matches!(back(parts), It::Time(_));
            let wrong = || {
                PathError::new(
                    position,
                    "an amount of time is wanted here, such as `3 days`",
                )
            };
            let (It::Qty(..) | It::Node(_)) = amount else {
                return Err(wrong());
            };
            let (value, unit) = amount.quantity().ok_or_else(wrong)?;
            let value = if operator == Subtract { -value } else { value };
            add_time(parts, is_time, value, &unit)
                .map_err(|()| wrong())?
                .map(back)
        }
        (operator, a, b) => {
            let plain = |item: &It<'a>| match item {
                It::Int(value) => Some(Decimal::from(*value)),
                It::Dec(value) => Some(*value),
                _ => None,
            };
            if let (Some(a), Some(b)) = (plain(&a), plain(&b)) {
                return match operator {
                    Add => a
                        .checked_add(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    Subtract => a
                        .checked_sub(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    Multiply => a
                        .checked_mul(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                    _ if b.is_zero() => Ok(None),
                    Divide => a
                        .checked_div(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value.normalize()))),
                    Div => a
                        .checked_div(b)
                        .and_then(|value| value.trunc().to_i64())
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Int(value))),
                    _ => a
                        .checked_rem(b)
                        .ok_or_else(too_big)
                        .map(|value| Some(It::Dec(value))),
                };
            }
            let (Some((x, first)), Some((y, second))) = (a.quantity(), b.quantity()) else {
                return Err(PathError::new(
                    position,
                    "values of these types can't be calculated with",
                ));
            };
            let same = first == second;
            match operator {
                Add if same => Some(It::Qty(x.checked_add(y).ok_or_else(too_big)?, first)),
                Subtract if same => Some(It::Qty(x.checked_sub(y).ok_or_else(too_big)?, first)),
                Multiply if second == "1" => {
                    Some(It::Qty(x.checked_mul(y).ok_or_else(too_big)?, first))
                }
                Multiply if first == "1" => {
                    Some(It::Qty(x.checked_mul(y).ok_or_else(too_big)?, second))
                }
                Divide if y.is_zero() => None,
                Divide if same => Some(It::Qty(
                    x.checked_div(y).ok_or_else(too_big)?.normalize(),
                    Cow::Borrowed("1"),
                )),
                Divide if second == "1" => Some(It::Qty(
                    x.checked_div(y).ok_or_else(too_big)?.normalize(),
                    first,
                )),
                Multiply => Some(It::Qty(
                    x.checked_mul(y).ok_or_else(too_big)?,
                    Cow::Owned(joined(&first, '.', &second)),
                )),
                Divide => Some(It::Qty(
                    x.checked_div(y).ok_or_else(too_big)?.normalize(),
                    Cow::Owned(joined(&first, '/', &second)),
                )),
                // A sum would be in one unit or the other; which, the specification doesn't say.
                _ => None,
            }
        }
    })
}

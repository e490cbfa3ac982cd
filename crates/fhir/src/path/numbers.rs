//! Rounding and the functions of mathematics (FHIRPath 2.0, section 5.7).
use super::PathError;
use super::eval::overflow;
use super::functions::Function;
use super::value::It;
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, MathematicalOps, RoundingStrategy};

/// `abs`, `ceiling`, `floor`, `round` and `truncate` of a number or quantity.
pub(super) fn rounded<'a>(
    function: Function,
    item: It<'a>,
    digits: i64,
    position: usize,
) -> Result<It<'a>, PathError> {
    let whole = |value: Decimal| {
        value
            .to_i64()
            .map(It::Int)
            .ok_or_else(|| overflow(position))
    };
    Ok(match (function, item) {
        (Function::Abs, It::Int(value)) => {
            It::Int(value.checked_abs().ok_or_else(|| overflow(position))?)
        }
        (Function::Abs, It::Dec(value)) => It::Dec(value.abs()),
        (Function::Abs, It::Qty(value, unit)) => It::Qty(value.abs(), unit),
        (Function::Round, It::Int(value)) => It::Dec(Decimal::from(value)),
        (_, It::Int(value)) => It::Int(value),
        (Function::Ceiling, It::Dec(value)) => whole(value.ceil())?,
        (Function::Floor, It::Dec(value)) => whole(value.floor())?,
        (Function::Truncate, It::Dec(value)) => whole(value.trunc())?,
        (_, It::Dec(value)) => {
            let digits = u32::try_from(digits)
                .map_err(|_| PathError::new(position, "the number of digits is negative"))?;
            It::Dec(value.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero))
        }
        _ => return Err(PathError::new(position, "a number is wanted here")),
    })
}

/// Digits that are right of what is calculated by series.
const DIGITS: u32 = 20;

/// `exp`, `ln`, `sqrt`, `log` and `power`; `None` where there is no real number for it.
pub(super) fn calculated<'a>(
    function: Function,
    item: &It<'a>,
    argument: Option<&It<'a>>,
    position: usize,
) -> Result<Option<It<'a>>, PathError> {
    let plain = |item: &It<'a>| match item {
        It::Int(value) => Ok(Decimal::from(*value)),
        It::Dec(value) => Ok(*value),
        _ => Err(PathError::new(position, "a number is wanted here")),
    };
    let too_big = || overflow(position);
    let value = plain(item)?;
    let other = argument.map(plain).transpose()?;
    let logarithm = |value: Decimal| value.checked_ln();
    let result = match (function, other) {
        (Function::Exp, _) => Some(value.checked_exp().ok_or_else(too_big)?),
        (Function::Ln, _) => logarithm(value),
        (Function::Sqrt, _) => value.sqrt(),
        (Function::Log, Some(base)) => match (logarithm(value), logarithm(base)) {
            (Some(value), Some(base)) if !base.is_zero() => value.checked_div(base),
            _ => None,
        },
        (Function::Power, Some(exponent)) => {
            if let (It::Int(base), Some(It::Int(exponent))) = (item, argument)
                && *exponent >= 0
            {
                let exponent = u32::try_from(*exponent).map_err(|_| too_big())?;
                let power = base.checked_pow(exponent).ok_or_else(too_big)?;
                return Ok(Some(It::Int(power)));
            }
            if (value.is_sign_negative() && !exponent.fract().is_zero())
                || (value.is_zero() && exponent.is_sign_negative())
            {
                return Ok(None);
            }
            Some(value.checked_powd(exponent).ok_or_else(too_big)?)
        }
        _ => None,
    };
    Ok(result.map(|value| It::Dec(value.round_dp(DIGITS).normalize())))
}

//! Numbers and quantities as a search compares them: exactly, and by value whatever the unit.
//!
//! A resource says a point (`5.4`) or a [`Span`] (a `Range`, a comparator, sampled data); a query asks
//! for an [`Asked`]: a value, what its digits stand for (100 is `[99.5, 100.5)`), and what is near it.
use super::Prefix;
use super::unit::Canonical;
use octofhir_ucum::Number;
use std::cmp::Ordering;

/// Digits that count in a comparison. The arithmetic has 28; what it rounds off is gone with the rest,
/// so that 98.6 °F and 37 °C are the same.
const DIGITS: u32 = 24;
/// The longest number that is read, in characters.
const LONGEST: usize = 128;
/// Greatest and least power of ten that has a position of its own.
const EXPONENT_MAX: i64 = 49;
/// Positions of one power of ten: 1.00 to 9.99.
const A_DECADE: i64 = 900;
/// All positions are in `-POSITION_MAX..=POSITION_MAX`.
pub const POSITION_MAX: i64 = (2 * EXPONENT_MAX + 1) * A_DECADE;

/// A decimal number of 24 significant digits and any magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    sign: i8,
    /// The power of ten of the first digit.
    exponent: i32,
    /// All digits, the first of them not zero, unless the number is.
    digits: u128,
}

impl Amount {
    /// A number as JSON or a query writes it; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::of(number(text)?))
    }

    pub(crate) fn of(number: Number) -> Self {
        let (whole, exponent) = number.to_integer_and_exponent();
        let mut digits = whole.unsigned_abs();
        let Some(places) = digits.checked_ilog10() else {
            return Self {
                sign: 0,
                exponent: 0,
                digits: 0,
            };
        };
        let mut exponent = exponent.saturating_add(i32::try_from(places).unwrap_or(0));
        if places < DIGITS {
            digits *= 10_u128.pow(DIGITS - 1 - places);
        } else {
            let cut = 10_u128.pow(places + 1 - DIGITS);
            digits = (digits + cut / 2) / cut;
            if digits == 10_u128.pow(DIGITS) {
                digits /= 10;
                exponent = exponent.saturating_add(1);
            }
        }
        Self {
            sign: if whole < 0 { -1 } else { 1 },
            exponent,
            digits,
        }
    }

    /// Where the number stands among all numbers: greater ones never stand before smaller ones, and two
    /// with the same first three digits and magnitude stand together. Those beyond 10^±49 stand with the
    /// last before them.
    #[must_use]
    pub fn position(&self) -> i64 {
        if self.sign == 0 {
            return 0;
        }
        let exponent = i64::from(self.exponent);
        let place = if exponent < -EXPONENT_MAX {
            1
        } else if exponent > EXPONENT_MAX {
            POSITION_MAX
        } else {
            let first = i64::try_from(self.digits / 10_u128.pow(DIGITS - 3)).unwrap_or(999);
            (exponent + EXPONENT_MAX) * A_DECADE + first - 99
        };
        place * i64::from(self.sign)
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitudes = (self.exponent, self.digits).cmp(&(other.exponent, other.digits));
        self.sign.cmp(&other.sign).then(match self.sign {
            0 => Ordering::Equal,
            1.. => magnitudes,
            _ => magnitudes.reverse(),
        })
    }
}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A decimal number, digits kept.
pub(crate) fn number(text: &str) -> Option<Number> {
    let is_number = text.len() <= LONGEST && text.contains(|digit: char| digit.is_ascii_digit());
    Number::parse(text).filter(|_| is_number)
}

/// One end of a [`Span`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct End {
    /// Where it is.
    pub at: Amount,
    /// Whether the value there belongs to the span.
    pub is_in: bool,
}

/// What a resource says: a value is somewhere from `low` to `high`. `None` is an end that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// From.
    pub low: Option<End>,
    /// To.
    pub high: Option<End>,
}

/// Two numbers, before they are compared: still in the unit that they were written in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) low: Option<(Number, bool)>,
    pub(super) high: Option<(Number, bool)>,
}

impl Ends {
    pub(super) fn point(number: Number) -> Self {
        let end = Some((number, true));
        Self {
            low: end,
            high: end,
        }
    }

    /// A value with a comparator (`<`, `<=`, `>=`, `>`).
    pub(super) fn compared(number: Number, comparator: Option<&str>) -> Option<Self> {
        let (low, high) = match comparator {
            None => return Some(Self::point(number)),
            Some("<") => (None, Some((number, false))),
            Some("<=") => (None, Some((number, true))),
            Some(">=") => (Some((number, true)), None),
            Some(">") => (Some((number, false)), None),
            Some(_) => return None,
        };
        Some(Self { low, high })
    }

    /// As they are compared, in a unit's canonical one if that is given; `None` for nonsense.
    pub(super) fn span(self, unit: Option<&Canonical>) -> Option<Span> {
        let end = |end: Option<(Number, bool)>| match end {
            None => Some(None),
            Some((number, is_in)) => {
                let at = Amount::of(match unit {
                    Some(unit) => unit.canonical(number)?,
                    None => number,
                });
                Some(Some(End { at, is_in }))
            }
        };
        let span = Span {
            low: end(self.low)?,
            high: end(self.high)?,
        };
        let is_some = span.low.is_some() || span.high.is_some();
        let rises = match (span.low, span.high) {
            (Some(low), Some(high)) => low.at <= high.at,
            _ => true,
        };
        (is_some && rises).then_some(span)
    }
}

/// What a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The number as it stands.
    pub value: Amount,
    /// The numbers that its digits stand for, the upper end not among them.
    pub means: (Amount, Amount),
    /// The numbers that are near it: a tenth to either side.
    pub near: (Amount, Amount),
}

/// A query's number, before it is compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    value: Number,
    half: Number,
    tenth: Number,
}

impl Written {
    /// Reads a number and the precision that its digits imply (R4, section 3.1.1.4.6): half a unit of the
    /// last digit to either side. A single digit with an exponent counts as if a zero followed it,
    /// because the specification's own example has 1e2 stand for 95 to 105.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = number(text)?;
        let (body, exponent) = match text.split_once(['e', 'E']) {
            Some((body, exponent)) => (body, Some(exponent.parse::<i32>().ok()?)),
            None => (text, None),
        };
        let digits = body.bytes().filter(u8::is_ascii_digit).count();
        let mut decimals = body
            .split_once('.')
            .map_or(0, |(_, decimals)| decimals.len());
        if exponent.is_some() && digits == 1 {
            decimals += 1;
        }
        let last = exponent
            .unwrap_or(0)
            .checked_sub(i32::try_from(decimals).ok()?)?;
        let half = Number::from_i64(5).checked_mul(Number::power_of_ten(last.checked_sub(1)?))?;
        let tenth = value.abs().checked_mul(Number::power_of_ten(-1))?;
        Some(Self { value, half, tenth })
    }

    /// As it is compared, in a unit's canonical one if that is given.
    pub(super) fn asked(self, unit: Option<&Canonical>) -> Option<Asked> {
        let at = |number: Number| {
            Some(Amount::of(match unit {
                Some(unit) => unit.canonical(number)?,
                None => number,
            }))
        };
        let means = (
            at(self.value.checked_sub(self.half)?)?,
            at(self.value.checked_add(self.half)?)?,
        );
        let near = (
            at(self.value.checked_sub(self.tenth)?)?.min(means.0),
            at(self.value.checked_add(self.tenth)?)?.max(means.1),
        );
        Some(Asked {
            value: at(self.value)?,
            means,
            near,
        })
    }
}

impl Asked {
    /// Whether what a resource says stands in a relation to what is asked for. Where the resource
    /// doesn't say a point, it matches if one of the values that it may be does, and for `eq`, `sa` and
    /// `eb` if all of them do.
    #[must_use]
    pub fn matches(&self, prefix: Prefix, found: &Span) -> bool {
        let Self { value, means, near } = self;
        // Whether some value of the span is at a place or above it, or below.
        let reaches = |at: &Amount, with: bool| match &found.high {
            None => true,
            Some(high) => high.at > *at || with && high.at == *at && high.is_in,
        };
        let begins = |at: &Amount, with: bool| match &found.low {
            None => true,
            Some(low) => low.at < *at || with && low.at == *at && low.is_in,
        };
        let within = || match (&found.low, &found.high) {
            (Some(low), Some(high)) => {
                low.at >= means.0 && (high.at < means.1 || high.at == means.1 && !high.is_in)
            }
            _ => false,
        };
        match prefix {
            Prefix::Eq => within(),
            Prefix::Ne => !within(),
            Prefix::Gt => reaches(value, false),
            Prefix::Ge => reaches(value, true),
            Prefix::Lt => begins(value, false),
            Prefix::Le => begins(value, true),
            Prefix::Sa => !begins(value, true),
            Prefix::Eb => !reaches(value, true),
            Prefix::Ap => reaches(&near.0, true) && begins(&near.1, true),
        }
    }
}

//! Whether two records are of one person: comparisons field by field, weighed as Fellegi and Sunter
//! (1969) do, with a reason for each field.
//!
//! Everything here is a function of its arguments: no store, no clock, no randomness, no environment.
//! The same matcher answers `Patient/$match`, traces by demographics and looks for duplicates.
//!
//! Start reading at [`Matcher`]; `fields.rs` is what is compared and how alike it may be, `compare.rs`
//! tells which it is, `weights.rs` what that is worth, [`blocking`] and [`doors`] who is compared with
//! whom, and [`train`] where the weights come from.

pub mod batch;
pub mod blocking;
mod compare;
pub mod doors;
mod fields;
mod frequency;
pub mod nicknames;
pub mod normal;
mod person;
pub mod train;
mod weights;

pub use compare::compare;
pub use fields::{FIELDS, Field, Level, Levels};
pub(crate) use fields::{birth, given};
pub use frequency::Frequencies;
pub use person::{
    Address, Day, IDENTIFIERS_MAX, Identifier, NAMES_MAX, Name, PLACES_MAX, Person, Sex,
};
pub use weights::{Weights, WeightsError};

use self::frequency::Common;

/// Probability from which a match is certain: one in a hundred of those just above it is wrong, and
/// most are far above it.
pub const CERTAIN: f64 = 0.99;
/// Probability from which a match is probable: more likely than not.
pub const PROBABLE: f64 = 0.5;
/// Probability from which a match is possible. Below, nobody should have to look.
pub const POSSIBLE: f64 = 0.01;

/// Records among which a probability is one where nobody says how many there are. A fixed number, so that a grade means
/// the same in every house and tomorrow; where there are fewer records, matches are surer than they are called, and
/// where there are more they are less sure.
pub const POPULATION: u64 = 1_000_000;

/// The matcher with the weights and frequencies that are shipped, for [`POPULATION`] records.
#[must_use]
pub fn shipped() -> Matcher<'static> {
    Matcher::new(Weights::shipped(), Frequencies::shipped(), POPULATION)
}

/// How sure a match is (FHIR R4, value set `match-grade`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// `certainly-not`.
    CertainlyNot,
    /// `possible`.
    Possible,
    /// `probable`.
    Probable,
    /// `certain`.
    Certain,
}

impl Grade {
    /// The grade of a probability (0–1).
    #[must_use]
    pub fn of(probability: f64) -> Self {
        match probability {
            certain if certain >= CERTAIN => Self::Certain,
            probable if probable >= PROBABLE => Self::Probable,
            possible if possible >= POSSIBLE => Self::Possible,
            _ => Self::CertainlyNot,
        }
    }

    /// Its code in FHIR.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::CertainlyNot => "certainly-not",
            Self::Possible => "possible",
            Self::Probable => "probable",
            Self::Certain => "certain",
        }
    }
}

/// Compares persons of one population.
#[derive(Debug, Clone)]
pub struct Matcher<'a> {
    weights: &'a Weights,
    frequencies: &'a Frequencies,
    /// log₂ of the odds that any two records are of one person.
    prior_bits: f64,
    /// log₂ of the odds that any two people live together.
    relatives_bits: f64,
    /// What a level is worth, and what it is worth if the two are relatives.
    bits: Box<[[(f64, f64); weights::LEVELS_MAX]; FIELDS]>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Bits by which the records speak for one person rather than two.
    pub bits: f64,
    /// Probability (0–1) that they are of one person, in this population.
    pub probability: f64,
}

/// Why a score is as it is: one of its summands.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Name of the field, or `population`, `moved`, `relatives`.
    pub field: &'static str,
    /// Name of the level, or nothing where the reason is of no field.
    pub level: &'static str,
    /// Bits that it adds.
    pub bits: f64,
    /// A sentence.
    pub why: String,
}

/// Parts of a score, in bits.
struct Parts {
    /// Fields other than those of the place, without commonness.
    who: f64,
    /// Fields of the place.
    place: f64,
    /// Whether any field of the place was compared.
    has_place: bool,
    /// All fields, if the two are relatives.
    relatives: f64,
    /// Commonness of given name, family name, town, postcode.
    common: [f64; 4],
}

const COMMON: [(Common, Field); 4] = [
    (Common::Given, Field::Given),
    (Common::Family, Field::Family),
    (Common::City, Field::City),
    (Common::Postcode, Field::Postcode),
];

impl<'a> Matcher<'a> {
    /// A matcher for a population of so many records, at least two.
    #[must_use]
    pub fn new(weights: &'a Weights, frequencies: &'a Frequencies, population: u64) -> Self {
        let population = population.max(2) as f64;
        let mut bits = Box::new([[(0.0, 0.0); weights::LEVELS_MAX]; FIELDS]);
        for field in Field::ALL {
            for level in 0..field.levels().len() {
                bits[field as usize][level] = (
                    weights.bits(field, level),
                    weights.bits_of_relatives(field, level),
                );
            }
        }
        Self {
            weights,
            frequencies,
            prior_bits: (weights.expected / population).log2(),
            relatives_bits: (weights.relatives / population).log2(),
            bits,
        }
    }

    /// Compares two persons.
    #[must_use]
    pub fn score(&self, one: &Person, other: &Person) -> Score {
        self.sum(&self.parts(compare(one, other), one, other))
    }

    /// The bits of the fields alone: how alike two are, whoever lives with them and wherever they may have moved.
    #[must_use]
    pub fn bits_of_fields(&self, one: &Person, other: &Person) -> f64 {
        let parts = self.parts(compare(one, other), one, other);
        parts.who + parts.place + parts.common.iter().sum::<f64>()
    }

    /// The summands of a score, those of the fields in the order of [`Field::ALL`] and after them what
    /// is of no field. Their bits, but for the first (`population`), add up to [`Score::bits`].
    #[must_use]
    pub fn explain(&self, one: &Person, other: &Person) -> Vec<Reason> {
        let levels = compare(one, other);
        let parts = self.parts(levels, one, other);
        let mut reasons = vec![Reason {
            field: "population",
            level: "",
            bits: self.prior_bits,
            why: "Any two records of so many are rarely of one person.".to_owned(),
        }];
        for field in Field::ALL {
            let Some(level) = levels.of(field) else {
                continue;
            };
            let known = &field.levels()[level];
            let mut bits = self.bits[field as usize][level].0;
            let mut why = sentence(known.why);
            if let Some(at) = COMMON.iter().position(|(_, common)| *common == field) {
                bits += parts.common[at];
                if parts.common[at] > 1.0 {
                    why.push_str(" Few people have this one.");
                } else if parts.common[at] < -1.0 {
                    why.push_str(" Many people have this one.");
                }
            }
            reasons.push(Reason {
                field: field.name(),
                level: known.name,
                bits,
                why,
            });
        }
        let moved = self.moved(&parts);
        if parts.has_place && moved.abs() >= 0.05 {
            reasons.push(Reason {
                field: "moved",
                level: "",
                bits: moved,
                why: "Somebody who has moved has another address, all of it.".to_owned(),
            });
        }
        let relatives = self.relatives(&parts);
        if relatives <= -0.05 {
            reasons.push(Reason {
                field: "relatives",
                level: "",
                bits: relatives,
                why: "Relatives who live together have as much in common.".to_owned(),
            });
        }
        reasons
    }

    /// The bits from which the probability (above 0, below 1) that two records are of one person is at
    /// least this.
    #[must_use]
    pub fn bits_of(&self, probability: f64) -> f64 {
        (probability / (1.0 - probability)).log2() - self.prior_bits
    }

    fn parts(&self, levels: Levels, one: &Person, other: &Person) -> Parts {
        let mut parts = Parts {
            who: 0.0,
            place: 0.0,
            has_place: false,
            relatives: 0.0,
            common: [0.0; 4],
        };
        for field in Field::ALL {
            let Some(level) = levels.of(field) else {
                continue;
            };
            let (bits, relatives) = self.bits[field as usize][level];
            parts.relatives += relatives;
            if field.is_of_place() {
                parts.place += bits;
                parts.has_place = true;
            } else {
                parts.who += bits;
            }
        }
        for (at, (common, field)) in COMMON.into_iter().enumerate() {
            if levels.of(field) == Some(0)
                && let Some(share) = self.share(common, one, other)
            {
                parts.common[at] = (self.weights.u[field as usize][0] / share).log2();
            }
        }
        parts
    }

    /// How common the value is that two persons share.
    fn share(&self, field: Common, one: &Person, other: &Person) -> Option<f64> {
        fn shared<'p, T>(ones: &'p [T], others: &[T], value: fn(&T) -> &str) -> Option<&'p str> {
            ones.iter()
                .map(value)
                // What both don't have they don't have in common.
                .filter(|shared| !shared.is_empty())
                .find(|shared| others.iter().any(|other| value(other) == *shared))
        }
        let shared = match field {
            Common::Given => shared(&one.names, &other.names, Name::first),
            Common::Family => shared(&one.names, &other.names, |name| &name.family_joined),
            Common::City => shared(&one.addresses, &other.addresses, |place| &place.city),
            Common::Postcode => shared(&one.addresses, &other.addresses, |place| &place.postcode),
        }?;
        self.frequencies.share(field, shared)
    }

    /// Bits that are added because somebody may have moved.
    fn moved(&self, parts: &Parts) -> f64 {
        if !parts.has_place {
            return 0.0;
        }
        let place = parts.place + parts.common[2] + parts.common[3];
        let moved = self.weights.moved;
        log2_sum(place + (1.0 - moved).log2(), moved.log2()) - place
    }

    /// Bits that are taken off because they may be relatives.
    fn relatives(&self, parts: &Parts) -> f64 {
        let relatives = self.relatives_bits + parts.relatives + parts.common.iter().sum::<f64>();
        -log2_sum(0.0, relatives)
    }

    fn sum(&self, parts: &Parts) -> Score {
        let bits = parts.who
            + parts.place
            + parts.common.iter().sum::<f64>()
            + self.moved(parts)
            + self.relatives(parts);
        Score {
            bits,
            probability: 1.0 / (1.0 + (-(bits + self.prior_bits)).exp2()),
        }
    }
}

/// log₂(2^one + 2^other), without leaving the range of numbers.
fn log2_sum(one: f64, other: f64) -> f64 {
    let most = one.max(other);
    most + (1.0 + (one.min(other) - most).exp2()).log2()
}

fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).chain(['.']).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;

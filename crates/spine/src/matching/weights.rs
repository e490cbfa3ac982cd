//! How often each level comes about: among records of one person (m), of people who have nothing to do
//! with each other (u), and of relatives who live together (r). Fellegi and Sunter (1969) weigh a level
//! by log₂(m/u) bits; relatives are a second way not to be one person, and having moved a second way
//! to be one.
//!
//! Weights are data: JSON, in `data/` those that Cairn brings along.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::fields::{FIELDS, Field};

/// Most levels that a field has.
pub(super) const LEVELS_MAX: usize = 8;

/// Shares of levels, by field and level.
pub(super) type Shares = [[f64; LEVELS_MAX]; FIELDS];

/// The weights of a matcher.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// What they were learnt from.
    pub source: String,
    /// Further records that a person has on average in a population, in which somebody is looked for.
    pub expected: f64,
    /// People on average who live with somebody and bear the same name or address.
    pub relatives: f64,
    /// Share of pairs of records of one person between which they have moved.
    pub moved: f64,
    pub(super) m: Shares,
    pub(super) u: Shares,
    pub(super) r: Shares,
}

/// Why a file of weights can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It isn't JSON of the shape of weights.
    #[error("the weights are not JSON as they are written: {0}")]
    Shape(#[source] serde_json::Error),
    /// A level is missing or unknown.
    #[error("the weights of {field} have to have the levels {expected}, and no others")]
    Levels {
        /// Field.
        field: &'static str,
        /// Its levels.
        expected: String,
    },
    /// A share is no share.
    #[error("{what} of the weights is {value}, which has to be above 0 and at most {most}")]
    Share {
        /// What has the value.
        what: String,
        /// The value.
        value: f64,
        /// The bound.
        most: f64,
    },
}

/// Weights as they are written: `[m, u, r]` for each level of each field.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    source: String,
    expected: f64,
    relatives: f64,
    moved: f64,
    fields: BTreeMap<String, BTreeMap<String, [f64; 3]>>,
}

/// The weights that Cairn brings along, learnt on made-up people (`docs/spine/matching.md`).
static SHIPPED: LazyLock<Weights> = LazyLock::new(|| {
    Weights::from_json(include_str!("../../data/weights.json"))
        .unwrap_or_else(|error| panic!("the weights that come with Cairn: {error}"))
});

impl Weights {
    /// The weights that Cairn brings along.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// Reads weights.
    ///
    /// # Errors
    /// When they are of another shape, lack a level, or have a share that is none.
    pub fn from_json(text: &str) -> Result<Self, WeightsError> {
        let written: Written = serde_json::from_str(text).map_err(WeightsError::Shape)?;
        let mut weights = Self {
            source: written.source,
            expected: bounded("expected", written.expected, 100.0)?,
            relatives: bounded("relatives", written.relatives, 100.0)?,
            moved: bounded("moved", written.moved, 1.0)?,
            m: [[0.0; LEVELS_MAX]; FIELDS],
            u: [[0.0; LEVELS_MAX]; FIELDS],
            r: [[0.0; LEVELS_MAX]; FIELDS],
        };
        for field in Field::ALL {
            let names = || field.levels().iter().map(|level| level.name);
            let found = written.fields.get(field.name());
            let found = found
                .filter(|found| {
                    found.len() == names().count() && names().all(|name| found.contains_key(name))
                })
                .ok_or_else(|| WeightsError::Levels {
                    field: field.name(),
                    expected: names().collect::<Vec<_>>().join(", "),
                })?;
            for (level, name) in names().enumerate() {
                let [m, u, r] = found[name];
                for (shares, share) in [
                    (&mut weights.m, m),
                    (&mut weights.u, u),
                    (&mut weights.r, r),
                ] {
                    let what = format!("{name} of {}", field.name());
                    shares[field as usize][level] = bounded(&what, share, 1.0)?;
                }
            }
        }
        Ok(weights)
    }

    /// The weights as they are written, a line for each level.
    #[must_use]
    pub fn to_json(&self) -> String {
        let head = |name: &str, value: f64| format!("  \"{name}\": {},\n", short(value));
        let mut text = format!(
            "{{\n  \"source\": {},\n",
            serde_json::Value::from(self.source.as_str())
        );
        text += &head("expected", self.expected);
        text += &head("relatives", self.relatives);
        text += &head("moved", self.moved);
        text += "  \"fields\": {\n";
        for (index, field) in Field::ALL.into_iter().enumerate() {
            text += &format!("    \"{}\": {{\n", field.name());
            for (level, known) in field.levels().iter().enumerate() {
                let share = |shares: &Shares| short(shares[field as usize][level]);
                let comma = if level + 1 < field.levels().len() {
                    ","
                } else {
                    ""
                };
                text += &format!(
                    "      \"{}\": [{}, {}, {}]{comma}\n",
                    known.name,
                    share(&self.m),
                    share(&self.u),
                    share(&self.r)
                );
            }
            text += if index + 1 < FIELDS {
                "    },\n"
            } else {
                "    }\n"
            };
        }
        text + "  }\n}\n"
    }

    /// Bits by which a level speaks for one person rather than for two that have nothing to do with
    /// each other.
    #[must_use]
    pub fn bits(&self, field: Field, level: usize) -> f64 {
        (self.m[field as usize][level] / self.u[field as usize][level]).log2()
    }

    /// Bits by which a level speaks for relatives rather than for two that have nothing to do with each
    /// other.
    pub(super) fn bits_of_relatives(&self, field: Field, level: usize) -> f64 {
        (self.r[field as usize][level] / self.u[field as usize][level]).log2()
    }
}

/// Four digits that count.
fn short(value: f64) -> String {
    let text = format!("{value:.3e}");
    text.parse::<f64>().unwrap_or(value).to_string()
}

fn bounded(what: &str, value: f64, most: f64) -> Result<f64, WeightsError> {
    if value > 0.0 && value <= most {
        Ok(value)
    } else {
        Err(WeightsError::Share {
            what: what.to_owned(),
            value,
            most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_written_as_they_are_read() {
        let text = include_str!("../../data/weights.json");
        assert_eq!(Weights::from_json(text).expect("weights").to_json(), text);
    }

    #[test]
    fn each_fault_of_a_file_is_told() {
        let text = Weights::shipped().to_json();
        for (from, to, expected) in [
            ("\"moved\"", "\"moves\"", "not JSON as they are written"),
            (
                "\"nickname\"",
                "\"nick\"",
                "the weights of given have to have the levels exact, nickname",
            ),
            ("\"sex\"", "\"gender\"", "the weights of sex have to have"),
            (
                "\"relatives\": ",
                "\"relatives\": -",
                "relatives of the weights is -",
            ),
        ] {
            let error = Weights::from_json(&text.replacen(from, to, 1)).expect_err(from);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

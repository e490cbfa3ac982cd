//! Classes of time that people stay at a step: what histograms count and lists are filtered by.

use crate::time::{DAY_MS, HOUR_MS};

/// Code, words, and where the class ends.
const CLASSES: [(&str, &str, u64); 9] = [
    ("1h", "under 1 hour", HOUR_MS),
    ("6h", "1 to 6 hours", 6 * HOUR_MS),
    ("24h", "6 to 24 hours", DAY_MS),
    ("2d", "1 to 2 days", 2 * DAY_MS),
    ("3d", "2 to 3 days", 3 * DAY_MS),
    ("7d", "3 to 7 days", 7 * DAY_MS),
    ("14d", "7 to 14 days", 14 * DAY_MS),
    ("30d", "14 to 30 days", 30 * DAY_MS),
    ("longer", "30 days or longer", u64::MAX),
];

/// A class of time that somebody stayed somewhere. Codes are stored in tokens, so they are for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stay(usize);

impl Stay {
    /// How many classes there are.
    pub const COUNT: usize = CLASSES.len();

    /// All classes, the shortest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }
    /// The class of a time, milliseconds.
    #[must_use]
    pub fn of(stayed_ms: u64) -> Self {
        let place = CLASSES.iter().position(|(.., limit)| stayed_ms < *limit);
        Self(place.unwrap_or(Self::COUNT - 1))
    }
    /// From its code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::all().find(|stay| stay.code() == code)
    }
    /// Its code, for addresses.
    #[must_use]
    pub fn code(self) -> &'static str {
        CLASSES[self.0].0
    }
    /// In words: `1 to 2 days`.
    #[must_use]
    pub fn words(self) -> &'static str {
        CLASSES[self.0].1
    }
    /// Its place among all.
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_one_class() {
        for (stayed_ms, code) in [
            (0, "1h"),
            (HOUR_MS - 1, "1h"),
            (HOUR_MS, "6h"),
            (DAY_MS, "2d"),
            (30 * DAY_MS - 1, "30d"),
            (30 * DAY_MS, "longer"),
            (u64::MAX, "longer"),
        ] {
            assert_eq!(Stay::of(stayed_ms).code(), code);
        }
        for stay in Stay::all() {
            assert_eq!(Stay::parse(stay.code()), Some(stay));
        }
        assert_eq!(Stay::parse("5d"), None);
    }
}

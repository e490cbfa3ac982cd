//! How common names and places are: that two people are called Zbigniew says more than that both are
//! called John.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::LazyLock;

use xxhash_rust::xxh3::Xxh3Default;

use super::person::Person;

/// Values that are the rarest still say no more than that one in so many has them: below, a table
/// tells of its own size more than of people.
const RAREST: f64 = 1e-6;

type Table = HashMap<String, u32, BuildHasherDefault<Xxh3Default>>;

/// Shares of values of a field.
#[derive(Debug, Clone, Default)]
struct Shares {
    counts: Table,
    total: f64,
    /// Share of a value that the table doesn't have.
    rest: f64,
}

/// How common values are in a population.
#[derive(Debug, Clone, Default)]
pub struct Frequencies {
    given: Shares,
    family: Shares,
    city: Shares,
    postcode: Shares,
}

/// Fields whose values are commoner or rarer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Common {
    Given,
    Family,
    City,
    Postcode,
}

static SHIPPED: LazyLock<Frequencies> = LazyLock::new(|| Frequencies {
    given: Shares::per_million(include_str!("../../data/given.tsv")),
    family: Shares::per_million(include_str!("../../data/family.tsv")),
    ..Frequencies::default()
});

impl Shares {
    /// A table of names and how many of a million people have each.
    fn per_million(text: &str) -> Self {
        let counts: Table = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
            .collect();
        let rest = counts
            .values()
            .min()
            .map_or(RAREST, |least| f64::from(*least) / 2e6);
        Self {
            counts,
            total: 1e6,
            rest,
        }
    }

    fn count(&mut self, value: &str) {
        if value.is_empty() {
            return;
        }
        self.total += 1.0;
        match self.counts.get_mut(value) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(value.to_owned(), 1);
            }
        }
    }

    fn of(&self, value: &str) -> Option<f64> {
        if self.total == 0.0 {
            return None;
        }
        let share = self
            .counts
            .get(value)
            .map_or(self.rest, |count| f64::from(*count) / self.total);
        Some(share.max(RAREST))
    }
}

impl Frequencies {
    /// Those that Cairn brings along: names in the United States in 1990 (Census Bureau). Places have
    /// none.
    #[must_use]
    pub fn shipped() -> &'static Self {
        &SHIPPED
    }

    /// None: every value is as common as any other.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a population.
    #[must_use]
    pub fn counted<'a>(people: impl IntoIterator<Item = &'a Person>) -> Self {
        let mut found = Self::default();
        for person in people {
            found.count(person);
        }
        found.close();
        found
    }

    /// Counts one more person.
    pub(super) fn count(&mut self, person: &Person) {
        if let Some(name) = person.names.first() {
            self.given.count(name.first());
            self.family.count(&name.family_joined);
        }
        if let Some(address) = person.addresses.first() {
            self.city.count(&address.city);
            self.postcode.count(&address.postcode);
        }
    }

    /// Everybody is counted: whatever is not there is rarer than what was there once.
    pub(super) fn close(&mut self) {
        for shares in [
            &mut self.given,
            &mut self.family,
            &mut self.city,
            &mut self.postcode,
        ] {
            shares.rest = if shares.total > 0.0 {
                0.5 / shares.total
            } else {
                0.0
            };
        }
    }

    /// The share of people who have a value; `None` where nothing is known of the field.
    pub(super) fn share(&self, field: Common, value: &str) -> Option<f64> {
        match field {
            Common::Given => &self.given,
            Common::Family => &self.family,
            Common::City => &self.city,
            Common::Postcode => &self.postcode,
        }
        .of(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_names_are_rarer() {
        let shipped = Frequencies::shipped();
        let share = |name| shipped.share(Common::Family, name).expect("a share");
        assert!((share("smith") - 0.01006).abs() < 1e-9);
        assert!(share("smith") > share("oconnor"));
        assert!(share("oconnor") > share("zbrzezny"));
        assert!(shipped.share(Common::City, "leeds").is_none());
    }
}

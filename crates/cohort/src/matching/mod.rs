//! How well the matcher finds who is who: sets of records of which it is known whose they are, weights
//! learnt on them, and what comes of it beside Splink.

pub mod curve;
pub mod febrl;
pub mod hard;
mod names;
pub mod splink;
pub mod train;

#[cfg(test)]
mod tests;

use spine::matching::{Address, Day, Identifier, Name, Person, Sex};

/// System of the numbers that the sets' people have for life.
pub const NUMBERS: &str = "http://hl7.org/fhir/sid/us-ssn";

/// A record as a set has it: text, possibly empty or wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Given name.
    pub given: String,
    /// Further given names.
    pub middle: String,
    /// Family name.
    pub family: String,
    /// `female`, `male` or nothing.
    pub sex: String,
    /// Day of birth, eight digits.
    pub birth: String,
    /// Number of the house.
    pub number: String,
    /// Street.
    pub street: String,
    /// Second line of the address.
    pub further: String,
    /// Town.
    pub city: String,
    /// Postcode.
    pub postcode: String,
    /// State or county.
    pub state: String,
    /// Number that a person has for life.
    pub identifier: String,
    /// Telephone number.
    pub phone: String,
    /// E-mail address.
    pub email: String,
}

impl Record {
    /// As the matcher sees it.
    #[must_use]
    pub fn person(&self) -> Person {
        let name = Name::new(&self.family, [self.given.as_str(), self.middle.as_str()]);
        let street = format!("{} {}", self.number, self.street);
        let address = Address::new(
            &[street.trim(), &self.further],
            &self.city,
            &self.postcode,
            &self.state,
        );
        let mut person = Person {
            names: Vec::new(),
            birth_date: Day::parse(&self.birth),
            sex: match self.sex.as_str() {
                "female" => Some(Sex::Female),
                "male" => Some(Sex::Male),
                _ => None,
            },
            addresses: Vec::new(),
            phones: spine::matching::normal::phone(&self.phone)
                .into_iter()
                .collect(),
            emails: spine::matching::normal::email(&self.email)
                .into_iter()
                .collect(),
            identifiers: Identifier::new(NUMBERS, &self.identifier)
                .into_iter()
                .collect(),
        };
        if !name.family.is_empty() || !name.given.is_empty() {
            person.names.push(name);
        }
        if address != Address::default() {
            person.addresses.push(address);
        }
        person
    }
}

/// A set of records.
#[derive(Debug, Clone)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The records.
    pub records: Vec<Record>,
    /// Whose each record is.
    pub owners: Vec<u32>,
    /// In which household each owner lives, for sets that know; else empty.
    pub households: Vec<u32>,
    /// Where the second of two lists begins that have each person at most once; else the set is one
    /// list.
    pub second: Option<u32>,
}

impl Set {
    /// The records as the matcher sees them.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        self.records.iter().map(Record::person).collect()
    }

    /// Whether a pair is asked about at all.
    #[must_use]
    pub fn is_asked(&self, one: u32, other: u32) -> bool {
        self.second
            .is_none_or(|second| (one < second) != (other < second))
    }

    /// How many records one is compared with: all, or those of the other list.
    #[must_use]
    pub fn choices(&self) -> u64 {
        let all = self.records.len() as u64;
        self.second.map_or(all, |second| {
            (all - u64::from(second)).max(u64::from(second))
        })
    }

    /// Whether two records are of one person.
    #[must_use]
    pub fn is_same(&self, one: u32, other: u32) -> bool {
        self.owners[one as usize] == self.owners[other as usize]
    }

    /// All pairs of records that are of one person and asked about.
    #[must_use]
    pub fn same_pairs(&self) -> Vec<(u32, u32)> {
        let mut by_owner: Vec<(u32, u32)> = self.owners.iter().copied().zip(0..).collect();
        by_owner.sort_unstable();
        let mut pairs = Vec::new();
        for records in by_owner.chunk_by(|one, other| one.0 == other.0) {
            for (at, (_, one)) in records.iter().enumerate() {
                for (_, other) in &records[at + 1..] {
                    if self.is_asked(*one, *other) {
                        pairs.push((*one, *other));
                    }
                }
            }
        }
        pairs
    }

    /// All pairs of records of two people of one household.
    #[must_use]
    pub fn relatives(&self) -> Vec<(u32, u32)> {
        let mut by_home: Vec<(u32, u32)> = (0..)
            .zip(&self.owners)
            .filter_map(|(record, owner)| Some((*self.households.get(*owner as usize)?, record)))
            .collect();
        by_home.sort_unstable();
        let mut pairs = Vec::new();
        for home in by_home.chunk_by(|one, other| one.0 == other.0) {
            for (at, (_, one)) in home.iter().enumerate() {
                for (_, other) in &home[at + 1..] {
                    if !self.is_same(*one, *other) {
                        pairs.push((*one, *other));
                    }
                }
            }
        }
        pairs
    }
}

//! Who is compared with whom: persons that share a key. A key is a name and a value; whoever keeps keys
//! keeps them as keyed tokens, which can be equal or not and tell nothing else. So every key is one of
//! equality, and what is to be found in spite of a slip is found by another key that the slip left
//! alone.

use std::collections::BTreeSet;

use super::compare::area;
use super::nicknames;
use super::person::{Address, Name, Person};

/// Keys of one person. Who has more (eight names, each short for three others) is found by the first
/// of them: identifiers and contacts come first, then the keys of the first name.
pub const KEYS_MAX: usize = 64;
/// Letters from which halves of an identifier are keys of their own.
const HALVES_LETTERS: usize = 6;
/// Letters of a word that stand for its sound where the alphabet has none that is known.
const LETTERS: usize = 6;

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is made of; one of [`NAMES`].
    pub name: &'static str,
    /// The value. It tells of a person in the clear; only tokens of it may be kept.
    pub value: String,
}

/// Names of all keys.
pub const NAMES: [&str; 12] = [
    "identifier",
    "identifier-half",
    "phone",
    "email",
    "birth",
    "birth-name",
    "birth-area",
    "names",
    "names-year",
    "names-day",
    "postcode-name",
    "house",
];

/// All keys of a person, none twice, at most [`KEYS_MAX`].
#[must_use]
pub fn keys(person: &Person) -> Vec<Key> {
    let mut keys = Keys::default();
    for identifier in &person.identifiers {
        keys.add("identifier", &[&identifier.system, &identifier.value]);
        let value = identifier.value.as_str();
        // A slip is in one half of it.
        if identifier.is_one_for_life && value.len() >= HALVES_LETTERS && value.is_ascii() {
            let (first, second) = value.split_at(value.len() / 2);
            keys.add("identifier-half", &[&identifier.system, first, "<"]);
            keys.add("identifier-half", &[&identifier.system, second, ">"]);
        }
    }
    for phone in &person.phones {
        keys.add("phone", &[phone]);
    }
    for email in &person.emails {
        keys.add("email", &[email]);
    }
    let birth = person.birth_date.filter(|day| day.is_whole());
    let whole = birth.map(|day| format!("{:04}{:02}{:02}", day.year, day.month, day.day));
    // Day and month in order of size, so that it is one key also where they have changed places.
    let day =
        birth.map(|day| format!("{:02}{:02}", day.day.min(day.month), day.day.max(day.month)));
    let year = person.birth_date.map(|day| day.year.to_string());
    if let Some(whole) = &whole {
        keys.add("birth", &[whole]);
    }
    for name in &person.names {
        let given = given_sounds(name);
        let family = family_sounds(name);
        let one_of_both: BTreeSet<&String> = given.iter().chain(&family).collect();
        if let Some(whole) = &whole {
            for sound in &one_of_both {
                keys.add("birth-name", &[whole, sound]);
            }
        }
        for given in &given {
            for family in &family {
                // In order, so that it is one key also where they have changed places.
                let (first, second) = (given.min(family), given.max(family));
                keys.add("names", &[first, second]);
                if let Some(year) = &year {
                    keys.add("names-year", &[first, second, year]);
                }
                if let Some(day) = &day {
                    keys.add("names-day", &[first, second, day]);
                }
            }
        }
        for Address { postcode, .. } in person
            .addresses
            .iter()
            .filter(|place| !place.postcode.is_empty())
        {
            for sound in &one_of_both {
                keys.add("postcode-name", &[postcode, sound]);
            }
        }
    }
    for place in &person.addresses {
        if let Some(whole) = &whole
            && !place.postcode.is_empty()
        {
            keys.add("birth-area", &[whole, area(&place.postcode)]);
        }
        if !place.number.is_empty() {
            // By its postcode, or by its street where that was mistyped.
            if !place.postcode.is_empty() {
                keys.add("house", &[&place.number, &place.postcode]);
            }
            if !place.street.is_empty() {
                keys.add("house", &[&place.number, &place.street, &place.city]);
            }
        }
    }
    keys.list
}

#[derive(Default)]
struct Keys {
    list: Vec<Key>,
}

impl Keys {
    fn add(&mut self, name: &'static str, parts: &[&str]) {
        let key = Key {
            name,
            value: parts.join("|"),
        };
        if self.list.len() < KEYS_MAX && !self.list.contains(&key) {
            self.list.push(key);
        }
    }
}

/// What a given name sounds like, and what the full names sound like that it is short for.
fn given_sounds(name: &Name) -> BTreeSet<String> {
    let first = name.first();
    if first.is_empty() {
        return BTreeSet::new();
    }
    std::iter::once(heard(&name.given_sound, first))
        .chain(nicknames::full_names(first).map(|full| heard(&super::person::sound(full), full)))
        .collect()
}

/// What a family name sounds like, and each part of one that has several.
fn family_sounds(name: &Name) -> BTreeSet<String> {
    if name.family.is_empty() {
        return BTreeSet::new();
    }
    let mut sounds = BTreeSet::from([heard(&name.family_sound, &name.family_joined)]);
    if name.family.contains(' ') {
        sounds.extend(
            name.family
                .split(' ')
                .filter(|word| word.chars().count() > 3)
                .map(|word| heard(&super::person::sound(word), word)),
        );
    }
    sounds
}

fn heard(sound: &str, word: &str) -> String {
    if sound.is_empty() {
        word.chars().take(LETTERS).collect()
    } else {
        sound.to_owned()
    }
}

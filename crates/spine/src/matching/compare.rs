//! How alike two persons are, field by field. Where one has several names or addresses, the two that
//! are most alike are compared.

use std::cmp::min;

use strsim::osa_distance;

use super::fields::{
    Field, Levels, birth, city, email, family, further, given, identifier, number, phone, postcode,
    sex, state, street,
};
use super::nicknames;
use super::person::{Address, Day, Identifier, Name, Person};

/// Jaro–Winkler similarity from which two words are one word with a slip (Winkler 1990 took 0.94 for
/// exact assignment and 0.88 for near; these lie at the bends of the curves of FEBRL's sets and of
/// the hard set).
const CLOSE: f64 = 0.92;
/// Jaro–Winkler similarity from which two words are still alike.
const SIMILAR: f64 = 0.82;
/// Words shorter than this are no longer one word after one slip.
const SLIP_LETTERS: usize = 4;

/// Compares two persons.
#[must_use]
pub fn compare(one: &Person, other: &Person) -> Levels {
    let mut levels = Levels::none();
    let (given, family) = names(&one.names, &other.names);
    levels.set(Field::Given, given);
    levels.set(Field::Family, family);
    levels.set(
        Field::BirthDate,
        one.birth_date
            .zip(other.birth_date)
            .map(|(one, other)| days(one, other)),
    );
    levels.set(
        Field::Sex,
        one.sex.zip(other.sex).map(|(one, other)| {
            if one == other {
                sex::SAME
            } else {
                sex::DIFFERENT
            }
        }),
    );
    addresses(&one.addresses, &other.addresses, &mut levels);
    levels.set(
        Field::Identifier,
        identifiers(&one.identifiers, &other.identifiers),
    );
    levels.set(Field::Phone, best(&one.phones, &other.phones, phones));
    levels.set(Field::Email, best(&one.emails, &other.emails, emails));
    levels
}

/// The best level of any of `ones` with any of `others`.
fn best<T>(ones: &[T], others: &[T], compare: impl Fn(&T, &T) -> u8) -> Option<u8> {
    ones.iter()
        .flat_map(|one| others.iter().map(move |other| (one, other)))
        .map(|(one, other)| compare(one, other))
        .min()
}

/// Levels of given and family name of the two names that are most alike. Where they have changed
/// places, that is told once, at the given name.
fn names(ones: &[Name], others: &[Name]) -> (Option<u8>, Option<u8>) {
    let mut found = (None, None);
    let mut least = (u8::MAX, None, None);
    for one in ones {
        for other in others {
            let (given, family) = name(one, other);
            // What is missing counts as the middle: it beats what differs, not what agrees.
            let rank = given.unwrap_or(given::INITIAL) + 2 * family.unwrap_or(family::PART);
            // Of pairs that are as far apart one is taken that does not depend on which record stands first.
            let rank = (rank, given, family);
            if rank < least {
                least = rank;
                found = (given, family);
            }
        }
    }
    found
}

fn name(one: &Name, other: &Name) -> (Option<u8>, Option<u8>) {
    let has_given = !one.given.is_empty() && !other.given.is_empty();
    let has_family = !one.family.is_empty() && !other.family.is_empty();
    let given = has_given.then(|| given_names(one, other));
    let family = has_family.then(|| family_names(one, other));
    let is_apart = |level: Option<u8>, from: u8| level.is_none_or(|level| level >= from);
    if is_apart(given, given::SIMILAR)
        && is_apart(family, family::SIMILAR)
        && have_changed_places(one, other)
    {
        return (Some(given::SWAPPED), None);
    }
    (given, family)
}

/// Whether the given name of one is the family name of the other: both ways, or one way where the
/// rest is missing.
fn have_changed_places(one: &Name, other: &Name) -> bool {
    // All given names, or the first of several: a middle name stays where it was.
    let crossed = |given: &Name, family: &str| match (given.given.is_empty(), family.is_empty()) {
        (false, false) => Some(
            words_are_close(&given.given_joined, family) || words_are_close(given.first(), family),
        ),
        _ => None,
    };
    match (
        crossed(one, &other.family_joined),
        crossed(other, &one.family_joined),
    ) {
        (None, None) => false,
        (first, second) => first.unwrap_or(true) && second.unwrap_or(true),
    }
}

/// Jaro–Winkler similarity (0–1), the same whichever word stands first: who is matched with whom in it depends on that.
fn jaro_winkler(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(one.min(other), one.max(other))
}

/// Same word but for a slip.
fn words_are_close(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let shorter = min(one.chars().count(), other.chars().count());
    shorter >= SLIP_LETTERS && (jaro_winkler(one, other) >= CLOSE || is_one_slip(one, other))
}

/// One letter more, less, another, or two neighbours that changed places.
fn is_one_slip(one: &str, other: &str) -> bool {
    one.len().abs_diff(other.len()) <= 4 && osa_distance(one, other) <= 1
}

fn given_names(one: &Name, other: &Name) -> u8 {
    let (first, second) = (one.first(), other.first());
    if first == second || one.given_joined == other.given_joined {
        return if is_initial(first) && one.given_joined != other.given_joined {
            given::INITIAL
        } else {
            given::EXACT
        };
    }
    if nicknames::are_related(first, second) {
        return given::NICKNAME;
    }
    if words_are_close(first, second) || words_are_close(&one.given_joined, &other.given_joined) {
        return given::CLOSE;
    }
    if (is_initial(first) || is_initial(second)) && first.chars().next() == second.chars().next() {
        return given::INITIAL;
    }
    let is_middle = |first: &str, name: &Name| {
        !is_initial(first) && name.given.iter().skip(1).any(|given| given == first)
    };
    if is_middle(first, other) || is_middle(second, one) {
        return given::MIDDLE;
    }
    if sounds_alike(&one.given_sound, &other.given_sound)
        || jaro_winkler(first, second) >= SIMILAR
        || is_two_slips(first, second)
    {
        return given::SIMILAR;
    }
    given::DIFFERENT
}

fn family_names(one: &Name, other: &Name) -> u8 {
    let (first, second) = (&one.family_joined, &other.family_joined);
    if first == second {
        return family::EXACT;
    }
    if words_are_close(first, second) {
        return family::CLOSE;
    }
    let is_part =
        |whole: &str, part: &str| whole.contains(' ') && whole.split(' ').any(|word| word == part);
    if is_part(&one.family, &other.family) || is_part(&other.family, &one.family) {
        return family::PART;
    }
    if sounds_alike(&one.family_sound, &other.family_sound)
        || jaro_winkler(first, second) >= SIMILAR
        || is_two_slips(first, second)
    {
        return family::SIMILAR;
    }
    family::DIFFERENT
}

fn is_initial(name: &str) -> bool {
    name.chars().count() == 1
}

/// Sounds of two letters and more: what sounds like one consonant sounds like too much.
fn sounds_alike(one: &str, other: &str) -> bool {
    one.len() >= 2 && one == other
}

/// Two slips in a word long enough to be one still.
fn is_two_slips(one: &str, other: &str) -> bool {
    min(one.len(), other.len()) > SLIP_LETTERS
        && one.len().abs_diff(other.len()) <= 2
        && osa_distance(one, other) <= 2
}

fn days(one: Day, other: Day) -> u8 {
    if one == other {
        return if one.is_whole() {
            birth::EXACT
        } else {
            birth::PARTIAL
        };
    }
    if !one.is_whole() || !other.is_whole() {
        let agrees = |one: u8, other: u8| one == 0 || other == 0 || one == other;
        let is_same =
            one.year == other.year && agrees(one.month, other.month) && agrees(one.day, other.day);
        return if is_same {
            birth::PARTIAL
        } else {
            birth::DIFFERENT
        };
    }
    if one.year == other.year && one.month == other.day && one.day == other.month {
        return birth::SWAPPED;
    }
    let slips = slips(one.digits(), other.digits());
    if slips == 1 {
        return birth::SLIP;
    }
    let parts = [
        one.year == other.year,
        one.month == other.month,
        one.day == other.day,
    ];
    if !parts[0] && parts[1] && parts[2] && one.year.abs_diff(other.year) == 1 {
        return birth::YEAR_OFF;
    }
    if parts.iter().filter(|part| **part).count() == 2 {
        return birth::TWO_PARTS;
    }
    if slips == 2 {
        return birth::TWO_SLIPS;
    }
    birth::DIFFERENT
}

/// Digits that differ, two neighbours that changed places counted as one.
fn slips(one: [u8; 8], other: [u8; 8]) -> usize {
    let mut slips = 0;
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            slips += 1;
            if at + 1 < one.len() && one[at] == other[at + 1] && one[at + 1] == other[at] {
                at += 1;
            }
        }
        at += 1;
    }
    slips
}

/// Fields of an address, in the order in which `place` answers.
const PLACE: [Field; 6] = [
    Field::Number,
    Field::Street,
    Field::Further,
    Field::City,
    Field::Postcode,
    Field::State,
];

fn addresses(ones: &[Address], others: &[Address], levels: &mut Levels) {
    let mut least = (u32::MAX, [None; 6]);
    for one in ones {
        for other in others {
            let place = place(one, other);
            // In quarters of how far apart a field can be; what is missing counts as half.
            let rank = PLACE
                .iter()
                .zip(place)
                .map(|(field, level)| {
                    level.map_or(2, |level| {
                        u32::from(level) * 4 / (field.levels().len() as u32 - 1)
                    })
                })
                .sum();
            let rank = (rank, place);
            if rank < least {
                least = rank;
                for (field, level) in PLACE.into_iter().zip(place) {
                    levels.set(field, level);
                }
            }
        }
    }
}

fn place(one: &Address, other: &Address) -> [Option<u8>; 6] {
    let both = |one: &str, other: &str| !one.is_empty() && !other.is_empty();
    [
        both(&one.number, &other.number).then(|| {
            if one.number == other.number {
                number::EXACT
            } else if is_number_slip(&one.number, &other.number) {
                number::CLOSE
            } else {
                number::DIFFERENT
            }
        }),
        streets(one, other),
        both(&one.further, &other.further).then(|| {
            if one.further == other.further {
                further::EXACT
            } else if places_are_close(&one.further, &other.further) {
                further::CLOSE
            } else {
                further::DIFFERENT
            }
        }),
        both(&one.city, &other.city).then(|| {
            if one.city == other.city {
                city::EXACT
            } else if places_are_close(&one.city, &other.city) {
                city::CLOSE
            } else {
                city::DIFFERENT
            }
        }),
        both(&one.postcode, &other.postcode).then(|| postcodes(&one.postcode, &other.postcode)),
        both(&one.state, &other.state).then(|| {
            if one.state == other.state {
                state::EXACT
            } else {
                state::DIFFERENT
            }
        }),
    ]
}

/// A digit more, less or another, or the letter of a house left out.
fn is_number_slip(one: &str, other: &str) -> bool {
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    (min(one.len(), other.len()) >= 2 && osa_distance(one, other) <= 1)
        || digits(one) == digits(other)
}

fn places_are_close(one: &str, other: &str) -> bool {
    let (first, second): (String, String) = (one.split(' ').collect(), other.split(' ').collect());
    first == second
        || (min(first.len(), second.len()) >= SLIP_LETTERS
            && (jaro_winkler(&first, &second) >= CLOSE || is_two_slips(&first, &second)))
}

fn streets(one: &Address, other: &Address) -> Option<u8> {
    let both = |one: &str, other: &str| !one.is_empty() && !other.is_empty();
    let crossed =
        |street: &str, further: &str| both(street, further) && places_are_close(street, further);
    let is_in_another_line =
        crossed(&one.street, &other.further) || crossed(&other.street, &one.further);
    if !both(&one.street, &other.street) {
        return is_in_another_line.then_some(street::PART);
    }
    if one.street == other.street {
        return Some(street::EXACT);
    }
    if places_are_close(&one.street, &other.street) {
        return Some(street::CLOSE);
    }
    // The kind of street (the last word) is shared by half of them.
    let names = |street: &str| {
        street
            .rsplit_once(' ')
            .map_or(street, |(names, _)| names)
            .to_owned()
    };
    let (first, second) = (names(&one.street), names(&other.street));
    let is_shared = first
        .split(' ')
        .any(|word| word.len() >= SLIP_LETTERS && second.split(' ').any(|other| other == word));
    Some(
        if is_shared || is_in_another_line || words_are_close(&first, &second) {
            street::PART
        } else {
            street::DIFFERENT
        },
    )
}

fn postcodes(one: &str, other: &str) -> u8 {
    if one == other {
        return postcode::EXACT;
    }
    if osa_distance(one, other) <= 1 {
        return postcode::SLIP;
    }
    let (first, second) = (area(one), area(other));
    if !first.is_empty() && first == second {
        return postcode::AREA;
    }
    postcode::DIFFERENT
}

/// The part of a postcode that many share: the outward code of the United Kingdom's (all but the last
/// three characters), the sectional centre of the United States' ZIP code (the first three of five or
/// nine digits), the first half of any other.
pub(super) fn area(postcode: &str) -> &str {
    let is_digits = postcode.bytes().all(|byte| byte.is_ascii_digit());
    let until = match postcode.len() {
        5 | 9 if is_digits => 3,
        length @ 5..=7 if postcode.is_ascii() && !is_digits => length - 3,
        length => length / 2,
    };
    postcode.get(..until).unwrap_or_default()
}

fn identifiers(ones: &[Identifier], others: &[Identifier]) -> Option<u8> {
    let mut found: Option<u8> = None;
    for one in ones {
        for other in others.iter().filter(|other| other.system == one.system) {
            let level = if one.value == other.value {
                Some(identifier::EXACT)
            } else if min(one.value.len(), other.value.len()) < 6 {
                // Neighbouring short numbers are those of neighbours.
                one.is_one_for_life.then_some(identifier::DIFFERENT)
            } else if one.is_one_for_life {
                Some(match osa_distance(&one.value, &other.value) {
                    0 | 1 => identifier::SLIP,
                    2 => identifier::TWO_SLIPS,
                    _ => identifier::DIFFERENT,
                })
            } else {
                None
            };
            found = match (found, level) {
                (Some(found), Some(level)) => Some(min(found, level)),
                (found, level) => found.or(level),
            };
        }
    }
    found
}

fn phones(one: &String, other: &String) -> u8 {
    if one == other {
        phone::EXACT
    } else if is_one_slip(one, other) {
        phone::SLIP
    } else {
        phone::DIFFERENT
    }
}

fn emails(one: &String, other: &String) -> u8 {
    if one == other {
        return email::EXACT;
    }
    let local = |address: &str| address.split('@').next().unwrap_or_default().to_owned();
    // "info" and "j" are many people's.
    let is_same_mailbox = local(one) == local(other) && local(one).len() > SLIP_LETTERS;
    if is_same_mailbox || is_one_slip(one, other) {
        email::CLOSE
    } else {
        email::DIFFERENT
    }
}

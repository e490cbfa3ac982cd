//! A person as the matcher sees them: what may tell them from others, each in one form.

use rphonetic::DoubleMetaphone;
use serde_json::Value;

use super::normal;

/// Names of one person that are looked at. A person with more (spellings, maiden names, aliases) is
/// compared by the first of them.
pub const NAMES_MAX: usize = 8;
/// Addresses of one person that are looked at, and as many telephone numbers and e-mail addresses.
pub const PLACES_MAX: usize = 6;
/// Identifiers of one person that are looked at.
pub const IDENTIFIERS_MAX: usize = 16;
/// Given names of one name that are looked at, and lines of one address.
pub const PARTS_MAX: usize = 5;
/// Letters of a family name, of a given name, of a town or a postcode that are looked at.
pub const WORD_LETTERS_MAX: usize = 64;
/// Letters of a line of an address that are looked at.
pub const LINE_LETTERS_MAX: usize = 128;
/// What stands in the place of a number that nobody knows.
const NO_NUMBERS: [&str; 12] = [
    "unknown",
    "unk",
    "none",
    "na",
    "nil",
    "null",
    "notknown",
    "notavailable",
    "notapplicable",
    "tbc",
    "tbd",
    "missing",
];
/// Letters of a code of how a name sounds. Double Metaphone's usual four make "Johnson" and "Johnston"
/// one and so do six; beyond that nothing is gained by names as long as people have.
const SOUND_LETTERS: usize = 6;

/// Systems of identifiers of which a person has one for life, so that two that differ speak against
/// one person. In every other system somebody who was taken in twice has two numbers.
const ONE_FOR_LIFE: &[&str] = &[
    "https://fhir.nhs.uk/Id/nhs-number",
    "http://hl7.org/fhir/sid/us-ssn",
    "urn:oid:2.16.840.1.113883.4.1",
    "http://ns.electronichealth.net.au/id/hi/ihi/1.0",
    "https://standards.digital.health.nz/ns/nhi-id",
];

/// Whether records are of one person. Everything is in one form already ([`normal`]).
#[derive(Clone, Default, PartialEq)]
pub struct Person {
    /// All names, the current one first as the record has them.
    pub names: Vec<Name>,
    /// The day of birth, as far as it is known.
    pub birth_date: Option<Day>,
    /// Administrative gender.
    pub sex: Option<Sex>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Telephone numbers, the last nine digits of each.
    pub phones: Vec<String>,
    /// E-mail addresses in lower case.
    pub emails: Vec<String>,
    /// Identifiers.
    pub identifiers: Vec<Identifier>,
}

/// One name.
#[derive(Clone, PartialEq)]
pub struct Name {
    /// Family name, words apart by a blank; empty if there is none.
    pub family: String,
    /// Given names, a word each, the first of them first.
    pub given: Vec<String>,
    pub(super) family_joined: String,
    pub(super) given_joined: String,
    pub(super) family_sound: String,
    pub(super) given_sound: String,
}

/// Administrative gender (FHIR R4, `AdministrativeGender`); `unknown` is as if nothing were said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sex {
    /// `female`.
    Female,
    /// `male`.
    Male,
    /// `other`.
    Other,
}

/// A day, of which month and day may be unknown (0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    /// Year, four digits.
    pub year: u16,
    /// Month from 1, or 0. What was mistyped may be beyond 12.
    pub month: u8,
    /// Day of the month from 1, or 0. What was mistyped may be beyond 31.
    pub day: u8,
}

/// One address.
#[derive(Clone, Default, PartialEq)]
pub struct Address {
    /// Number of the house, with its letter.
    pub number: String,
    /// Street without the number.
    pub street: String,
    /// What stands in further lines: the name of a house, an estate, a district.
    pub further: String,
    /// Town or suburb.
    pub city: String,
    /// Postcode without blanks.
    pub postcode: String,
    /// State, province or county.
    pub state: String,
}

/// A number that somebody gave to a person.
#[derive(Clone, PartialEq)]
pub struct Identifier {
    /// Its system.
    pub system: String,
    /// Letters and digits of its value.
    pub value: String,
    /// A person has one in this system for life, so that two that differ speak against one person.
    pub is_one_for_life: bool,
}

/// Details of people stand in no log, whoever writes one of these there.
macro_rules! hide {
    ($($kind:ident),*) => {$(
        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($kind)).finish_non_exhaustive()
            }
        }
    )*};
}
hide!(Person, Name, Address, Identifier);

/// Code of how a word sounds in English (Double Metaphone, Philips 2000). Empty where the alphabet is
/// another.
pub(super) fn sound(word: &str) -> String {
    // The coder cuts texts by bytes; beside a letter of several it would cut one in two.
    if !word.is_ascii() {
        return String::new();
    }
    DoubleMetaphone::new(Some(SOUND_LETTERS))
        .double_metaphone(word)
        .primary()
}

impl Name {
    /// A name out of what is written: `given` may hold several names in one text.
    #[must_use]
    pub fn new<'a>(family: &str, given: impl IntoIterator<Item = &'a str>) -> Self {
        let words = |text| {
            let words = normal::words(normal::cut(text, WORD_LETTERS_MAX));
            normal::cut(&words, WORD_LETTERS_MAX).trim_end().to_owned()
        };
        let family = words(family);
        let given: Vec<String> = given
            .into_iter()
            .take(PARTS_MAX)
            .flat_map(|text| {
                words(text)
                    .split(' ')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .take(PARTS_MAX)
            .collect();
        let family_joined: String = family.split(' ').collect();
        let given_joined: String = given.concat();
        Self {
            family_sound: sound(&family_joined),
            given_sound: given.first().map(|first| sound(first)).unwrap_or_default(),
            family,
            given,
            family_joined,
            given_joined,
        }
    }

    /// The first given name, or nothing.
    #[must_use]
    pub fn first(&self) -> &str {
        self.given.first().map_or("", String::as_str)
    }

    fn is_empty(&self) -> bool {
        self.family.is_empty() && self.given.is_empty()
    }
}

impl Day {
    /// Out of `1970`, `1970-02`, `1970-02-01`, `19700201`, or a time that begins with one of them.
    /// Days that no calendar has are taken too: who was mistyped is still to be found.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let date = text.split('T').next().unwrap_or_default();
        let (year, month, day) = match date.len() {
            8 if !date.contains('-') => (date.get(..4)?, date.get(4..6)?, date.get(6..)?),
            _ => {
                let mut parts = date.split('-');
                let mut next = || parts.next().unwrap_or("0");
                (next(), next(), next())
            }
        };
        (year.len() == 4).then_some(())?;
        Some(Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
            day: day.parse().ok()?,
        })
    }

    /// Whether year, month and day are all known.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.month != 0 && self.day != 0
    }

    /// Year, month and day as eight digits.
    #[must_use]
    pub fn digits(self) -> [u8; 8] {
        let mut rest =
            u32::from(self.year) * 10_000 + u32::from(self.month) * 100 + u32::from(self.day);
        let mut digits = [0; 8];
        for place in digits.iter_mut().rev() {
            *place = (rest % 10) as u8;
            rest /= 10;
        }
        digits
    }
}

/// Words before the number of a flat, which is not the number of the house.
const UNIT_WORDS: &[&str] = &["apartment", "apt", "flat", "room", "suite", "unit"];

impl Address {
    /// An address out of its lines. The first line that has a number is the street.
    #[must_use]
    pub fn new(lines: &[&str], city: &str, postcode: &str, state: &str) -> Self {
        let cut = |text, written: fn(&str) -> String, letters| {
            let text = written(normal::cut(text, letters));
            normal::cut(&text, letters).trim_end().to_owned()
        };
        let mut address = Self {
            city: cut(city, normal::words, WORD_LETTERS_MAX),
            postcode: cut(postcode, normal::joined, WORD_LETTERS_MAX),
            state: cut(state, normal::words, WORD_LETTERS_MAX),
            ..Self::default()
        };
        let lines: Vec<String> = lines
            .iter()
            .take(PARTS_MAX)
            .map(|line| cut(line, normal::street, LINE_LETTERS_MAX))
            .filter(|line| !line.is_empty())
            .collect();
        let at = lines
            .iter()
            .position(|line| line.contains(|letter: char| letter.is_ascii_digit()))
            .unwrap_or(0);
        let mut further = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            if index == at {
                (address.number, address.street) = house(line);
            } else {
                further.push(line.as_str());
            }
        }
        address.further = further.join(" ");
        address
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Number and street of a line.
fn house(line: &str) -> (String, String) {
    let mut number = "";
    let mut unit = "";
    let mut street = Vec::new();
    let mut before = "";
    for word in line.split(' ') {
        if !word.contains(|letter: char| letter.is_ascii_digit()) {
            if !UNIT_WORDS.contains(&word) {
                street.push(word);
            }
        } else if UNIT_WORDS.contains(&before) {
            unit = word;
        } else if number.is_empty() {
            number = word;
        } else {
            street.push(word);
        }
        before = word;
    }
    let number = if number.is_empty() { unit } else { number };
    (number.to_owned(), street.join(" "))
}

impl Identifier {
    /// An identifier, or nothing where it tells of nobody: without a system, so that nobody knows whose number it is;
    /// without a letter or digit, or with more than 64 of them; a word for a number that isn't known, or one digit
    /// again and again.
    #[must_use]
    pub fn new(system: &str, value: &str) -> Option<Self> {
        if system.is_empty() || normal::cut(value, 2 * WORD_LETTERS_MAX).len() < value.len() {
            return None;
        }
        let value = normal::joined(value);
        let is_no_number = value.is_empty()
            || value.chars().count() > WORD_LETTERS_MAX
            || NO_NUMBERS.contains(&value.as_str())
            || ((value.len() >= 4 || value.starts_with('0'))
                && normal::is_one_again_and_again(&value));
        (!is_no_number).then(|| Self {
            is_one_for_life: ONE_FOR_LIFE.contains(&system),
            system: system.to_owned(),
            value,
        })
    }
}

impl Person {
    /// What a FHIR R4 `Patient` says of a person. What is missing or of another shape is as if it
    /// weren't said; nothing is refused here.
    #[must_use]
    pub fn of(patient: &Value) -> Self {
        let mut person = Self::default();
        for name in list(patient, "name").take(NAMES_MAX) {
            let name = name_of(name);
            if !name.is_empty() && !person.names.contains(&name) {
                person.names.push(name);
            }
        }
        person.birth_date = patient["birthDate"].as_str().and_then(Day::parse);
        person.sex = match patient["gender"].as_str() {
            Some("female") => Some(Sex::Female),
            Some("male") => Some(Sex::Male),
            Some("other") => Some(Sex::Other),
            _ => None,
        };
        for address in list(patient, "address").take(PLACES_MAX) {
            let lines: Vec<&str> = list(address, "line").filter_map(Value::as_str).collect();
            let address = Address::new(
                &lines,
                text(address, "city"),
                text(address, "postalCode"),
                text(address, "state"),
            );
            if !address.is_empty() {
                person.addresses.push(address);
            }
        }
        for telecom in list(patient, "telecom") {
            let value = text(telecom, "value");
            match text(telecom, "system") {
                "phone" | "sms" if person.phones.len() < PLACES_MAX => {
                    person.phones.extend(normal::phone(value));
                }
                "email" if person.emails.len() < PLACES_MAX => {
                    person.emails.extend(normal::email(value));
                }
                _ => {}
            }
        }
        person.identifiers = list(patient, "identifier")
            // One that was given until there is another is of nobody afterwards.
            .filter(|identifier| text(identifier, "use") != "temp")
            .filter_map(|identifier| {
                Identifier::new(text(identifier, "system"), text(identifier, "value"))
            })
            .take(IDENTIFIERS_MAX)
            .collect();
        person
    }

    /// Whether there is nothing to compare anybody by.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn name_of(name: &Value) -> Name {
    let given: Vec<&str> = list(name, "given").filter_map(Value::as_str).collect();
    let family = text(name, "family");
    if !family.is_empty() || !given.is_empty() {
        return Name::new(family, given);
    }
    // Only as a text: what comes last is the family name, as English writes names.
    let whole = text(name, "text").trim();
    match whole.rsplit_once(char::is_whitespace) {
        Some((given, family)) => Name::new(family, [given]),
        None => Name::new(whole, []),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patient_becomes_a_person() {
        let person = Person::of(&json!({
            "resourceType": "Patient",
            "name": [
                { "family": "O'Neill-Smith", "given": ["Anne Marie", "J."] },
                { "use": "nickname", "text": "Annie Smith" },
                { "given": 7 }
            ],
            "birthDate": "1970-02",
            "gender": "female",
            "address": [{ "line": ["Rose Cottage", "Flat 3, 12a High St"], "city": "Leeds", "postalCode": "ls1 4ap" }],
            "telecom": [
                { "system": "phone", "value": "+44 113 496 0000" },
                { "system": "email", "value": "Anne@Example.com" },
                { "system": "fax", "value": "0113 496 0001" }
            ],
            "identifier": [
                { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": "900 000 0009" },
                { "system": "urn:mrn", "value": "-" }
            ]
        }));
        assert_eq!(person.names.len(), 2);
        assert_eq!(person.names[0].family, "oneill smith");
        assert_eq!(person.names[0].given, ["anne", "marie", "j"]);
        assert_eq!(person.names[1].first(), "annie");
        assert_eq!(
            person.birth_date,
            Some(Day {
                year: 1970,
                month: 2,
                day: 0
            })
        );
        assert_eq!(person.sex, Some(Sex::Female));
        let address = &person.addresses[0];
        assert_eq!(
            (
                address.number.as_str(),
                address.street.as_str(),
                address.further.as_str()
            ),
            ("12a", "high street", "rose cottage")
        );
        assert_eq!(address.postcode, "ls14ap");
        assert_eq!(person.phones, ["134960000"]);
        assert_eq!(person.emails, ["anne@example.com"]);
        assert_eq!(person.identifiers.len(), 1);
        assert!(person.identifiers[0].is_one_for_life);
    }

    #[test]
    fn shapes_that_nothing_can_be_made_of_are_nothing() {
        for odd in [
            json!(null),
            json!([]),
            json!({ "name": "Smith", "birthDate": 1970, "address": [{ "line": 3 }], "telecom": [{}] }),
            json!({ "name": [{ "family": "--" }], "birthDate": "yesterday", "gender": "unknown" }),
        ] {
            assert!(Person::of(&odd).is_empty(), "{odd}");
        }
    }

    #[test]
    fn numbers_that_tell_of_nobody_are_none() {
        for (system, value) in [
            ("", "1"),
            ("urn:mrn", "unknown"),
            ("urn:mrn", "N/A"),
            ("urn:mrn", "0000000000"),
            ("urn:mrn", "999999999"),
            ("urn:mrn", "0"),
        ] {
            assert_eq!(Identifier::new(system, value), None, "{system} {value}");
        }
        assert_eq!(Identifier::new("urn:mrn", &"12".repeat(40)), None);
        assert!(Identifier::new("urn:mrn", "7").is_some());
        let temporary =
            json!({"identifier": [{"use": "temp", "system": "urn:mrn", "value": "T12345"}]});
        assert!(Person::of(&temporary).is_empty());
    }

    #[test]
    fn what_is_longer_than_a_name_is_cut() {
        let long = "ab".repeat(100_000);
        let person = Person::of(&json!({
            "name": [{"family": long, "given": vec!["x"; 1000]}],
            "address": [{"line": vec![long.as_str(); 1000], "city": long, "postalCode": long, "state": long}],
            "telecom": [{"system": "email", "value": format!("{long}@example.com")}],
        }));
        let name = &person.names[0];
        assert_eq!(
            (name.family.len(), name.given.len()),
            (WORD_LETTERS_MAX, PARTS_MAX)
        );
        let place = &person.addresses[0];
        assert!(
            place.street.len() <= LINE_LETTERS_MAX
                && place.further.len() <= PARTS_MAX * (LINE_LETTERS_MAX + 1)
        );
        assert_eq!(
            [place.city.len(), place.postcode.len(), place.state.len()],
            [WORD_LETTERS_MAX; 3]
        );
        assert!(person.emails.is_empty());
    }

    #[test]
    fn details_are_in_no_debug_text() {
        let person =
            Person::of(&json!({"name": [{"family": "Abernathy"}], "birthDate": "1974-03-12"}));
        let text = format!("{person:?} {:?}", person.names);
        assert!(
            !text.contains("abernathy") && !text.contains("1974"),
            "{text}"
        );
    }

    #[test]
    fn days_are_read_as_far_as_they_are_known() {
        let day = |year, month, day| Some(Day { year, month, day });
        for (text, expected) in [
            ("1970", day(1970, 0, 0)),
            ("1970-02", day(1970, 2, 0)),
            ("1970-02-01", day(1970, 2, 1)),
            ("1970-02-01T10:00:00Z", day(1970, 2, 1)),
            ("19701332", day(1970, 13, 32)),
            ("70-2-1", None),
            ("", None),
        ] {
            assert_eq!(Day::parse(text), expected, "{text}");
        }
        assert_eq!(
            Day::parse("19081209").expect("a day").digits(),
            [1, 9, 0, 8, 1, 2, 0, 9]
        );
    }
}

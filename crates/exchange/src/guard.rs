//! The last look before words leave by a channel that isn't cleared for patient details: does the
//! subject or the text hold something by which the patient could be known?
//!
//! The journey's checker keeps such words out of templates; this catches what it missed (a name typed
//! into a template, a value that a template took from where it shouldn't). It can't catch everything:
//! a diagnosis is a word like others, and a town is often also the clinic's. Single names are looked
//! for as they are written, as whole words, so that Mr Day can get a message that says "each day".

use fhir::Resource;
use fhir::search::normalise;
use serde_json::Value;

/// Numbers shorter than this are too common to say who somebody is.
const DIGITS_MIN: usize = 7;
/// Identifiers shorter than this are not looked for.
const IDENTIFIER_MIN: usize = 5;
/// Names of a letter or two are not looked for by themselves.
const NAME_MIN: usize = 3;
/// Lines of an address shorter than this are not looked for.
const LINE_MIN: usize = 6;

/// The first kind of detail that one of `texts` holds.
pub(crate) fn find(patient: &Resource, texts: &[&str]) -> Option<&'static str> {
    let seen: Vec<Seen> = texts.iter().map(|text| Seen::new(text)).collect();
    let any = |test: &dyn Fn(&Seen) -> bool| seen.iter().any(test);
    for name in items(patient, "name") {
        if names(name)
            .iter()
            .any(|name| any(&|text| text.has_name(name)))
        {
            return Some("name");
        }
    }
    let birth_date = patient.text_at(&["birthDate"]);
    if birth_date.is_some_and(|date| {
        date_forms(date)
            .iter()
            .any(|form| any(&|text| text.has_words(form)))
    }) {
        return Some("date of birth");
    }
    for identifier in items(patient, "identifier") {
        let value = identifier
            .get("value")
            .and_then(Value::as_str)
            .map(squeeze)
            .unwrap_or_default();
        if value.len() >= IDENTIFIER_MIN && any(&|text| text.squeezed.contains(&value)) {
            return Some("identifier");
        }
    }
    for telecom in items(patient, "telecom") {
        let value = telecom
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        // The country code is left away often, so the last digits decide.
        let tail = &digits[digits.len().saturating_sub(10)..];
        let by_digits = !value.contains('@')
            && tail.len() >= DIGITS_MIN
            && any(&|text| text.digits.contains(tail));
        let by_words =
            value.contains('@') && any(&|text| text.lower.contains(&value.trim().to_lowercase()));
        if by_digits || by_words {
            return Some("telephone number or e-mail address");
        }
    }
    for address in items(patient, "address") {
        let lines = address
            .get("line")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let postal_code = address
            .get("postalCode")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut lines = lines.filter(|line| line.len() >= LINE_MIN);
        if lines.any(|line| any(&|text| text.has_words(line)))
            || (postal_code.len() >= 4 && any(&|text| text.has_words(postal_code)))
        {
            return Some("address");
        }
    }
    None
}

/// One text in the forms that are looked into.
struct Seen {
    /// Words as they are written.
    words: Vec<String>,
    /// Words with case and accents folded, with a space before, between and after.
    folded: String,
    /// Lower case.
    lower: String,
    /// Letters and digits only, lower case.
    squeezed: String,
    /// Digits only, where nothing but what parts telephone numbers lies between.
    digits: String,
}

impl Seen {
    fn new(text: &str) -> Self {
        Self {
            words: words(text),
            folded: fold(text),
            lower: text.to_lowercase(),
            squeezed: squeeze(text),
            digits: digit_runs(text),
        }
    }

    fn has_words(&self, wanted: &str) -> bool {
        let wanted = fold(wanted);
        !wanted.trim().is_empty() && self.folded.contains(&wanted)
    }

    fn has_name(&self, name: &Name) -> bool {
        match name {
            Name::Whole(whole) => self.has_words(whole),
            Name::Part(part) => {
                let wanted = words(part);
                let loud: Vec<String> = wanted.iter().map(|word| word.to_uppercase()).collect();
                let plain: Vec<String> = wanted.iter().map(|word| unaccented(word)).collect();
                [wanted, loud, plain].iter().any(|wanted| {
                    !wanted.is_empty()
                        && self
                            .words
                            .windows(wanted.len())
                            .any(|window| window == wanted.as_slice())
                })
            }
        }
    }
}

enum Name {
    /// Given and family name together: looked for however it is written.
    Whole(String),
    /// One of them: looked for as it is written, or in capitals, or without accents.
    Part(String),
}

fn names(name: &Value) -> Vec<Name> {
    let family = name
        .get("family")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let given: Vec<&str> = name
        .get("given")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut found = Vec::new();
    for one in given.iter().copied().chain([family]) {
        if one.chars().count() >= NAME_MIN {
            found.push(Name::Part(one.to_owned()));
        }
        if one != family && !family.is_empty() {
            found.push(Name::Whole(format!("{one} {family}")));
            found.push(Name::Whole(format!("{family} {one}")));
        }
    }
    if let Some(text) = name
        .get("text")
        .and_then(Value::as_str)
        .filter(|text| text.contains(' '))
    {
        found.push(Name::Whole(text.to_owned()));
    }
    found
}

/// The ways in which a date of birth is commonly written. A date that is only a year is not one.
fn date_forms(date: &str) -> Vec<String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let mut parts = date.split('-');
    let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (Ok(month_number), Ok(day_number)) = (month.parse::<usize>(), day.parse::<u32>()) else {
        return Vec::new();
    };
    let mut forms = vec![
        format!("{year} {month} {day}"),
        format!("{day} {month} {year}"),
        format!("{month} {day} {year}"),
        format!("{day_number} {month_number} {year}"),
        format!("{month_number} {day_number} {year}"),
        format!("{year}{month}{day}"),
    ];
    if let Some(name) = month_number
        .checked_sub(1)
        .and_then(|place| MONTHS.get(place))
    {
        for name in [name, &name[..3]] {
            forms.push(format!("{day_number} {name} {year}"));
            forms.push(format!("{name} {day_number} {year}"));
            forms.push(format!("{name} {day} {year}"));
            forms.push(format!("{day} {name} {year}"));
        }
    }
    forms
}

fn items<'a>(patient: &'a Resource, name: &str) -> impl Iterator<Item = &'a Value> {
    patient
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn words(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn fold(text: &str) -> String {
    format!(" {} ", words(&normalise(text)).join(" "))
}

fn squeeze(text: &str) -> String {
    text.chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// The word without accents, with its first letter as large as before.
fn unaccented(word: &str) -> String {
    let folded = normalise(word);
    let large = word.chars().next().is_some_and(char::is_uppercase);
    let mut letters = folded.chars();
    match letters.next() {
        Some(first) if large => first.to_uppercase().chain(letters).collect(),
        _ => folded,
    }
}

/// Digits, with everything dropped that people put between the parts of a telephone number, and one
/// space for all else.
fn digit_runs(text: &str) -> String {
    let mut runs = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            runs.push(letter);
        } else if !matches!(letter, ' ' | '-' | '.' | '(' | ')' | '/' | '+') && !runs.ends_with(' ')
        {
            runs.push(' ');
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patient(given: &str, family: &str) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Patient", "id": "p", "birthDate": "1941-03-07",
            "identifier": [{ "system": "urn:x", "value": "MRN-00.812.77" }, { "system": "urn:y", "value": "12" }],
            "name": [{ "family": family, "given": [given, "J"], "text": format!("Dr. {given} {family}") }],
            "telecom": [
                { "system": "phone", "value": "+1-617-555-0142" },
                { "system": "email", "value": "o.quandt@example.com" }
            ],
            "address": [{ "line": ["12 Alder Street"], "city": "Ashbrook", "postalCode": "01991" }]
        }))
        .expect("a patient")
    }

    #[test]
    fn finds_details_in_the_forms_people_write_them() {
        let quandt = patient("Zoë", "Quandt-Müller");
        let table = [
            ("Your care team has a question. See {link}", None),
            ("Dear Zoë, see {link}", Some("name")),
            ("Dear Zoe, see {link}", Some("name")),
            ("Dear ZOË,", Some("name")),
            ("dear zoë quandt-müller", Some("name")),
            ("QUANDT MULLER, ZOE", Some("name")),
            ("Mrs Quandt-Müller", Some("name")),
            ("For J. only", None),
            ("born 1941-03-07", Some("date of birth")),
            ("born 07.03.1941", Some("date of birth")),
            ("born 3/7/1941", Some("date of birth")),
            ("born on March 7, 1941", Some("date of birth")),
            ("born on 7 Mar 1941", Some("date of birth")),
            ("since 1941", None),
            ("number mrn 0081277", Some("identifier")),
            ("within 12 hours", None),
            (
                "call (617) 555-0142",
                Some("telephone number or e-mail address"),
            ),
            (
                "call 6175550142",
                Some("telephone number or e-mail address"),
            ),
            ("call 617 555 0143", None),
            (
                "O.Quandt@Example.com",
                Some("telephone number or e-mail address"),
            ),
            ("at 12 alder street", Some("address")),
            ("MA 01991", Some("address")),
            ("in 019912 days", None),
            ("the clinic in Ashbrook", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                find(&quandt, &["A message from your care team", text]),
                expected,
                "{text}"
            );
            assert_eq!(find(&quandt, &[text, "Nothing here"]), expected, "{text}");
        }
    }

    #[test]
    fn common_words_are_no_names() {
        let text = "Please weigh yourself each day. It will take a long minute and hope is fine.";
        for (given, family) in [
            ("Will", "Day"),
            ("Hope", "Long"),
            ("Li", "Fine"),
            ("Mai", "Do"),
        ] {
            assert_eq!(
                find(&patient(given, family), &[text]),
                None,
                "{given} {family}"
            );
        }
        assert_eq!(find(&patient("Will", "Day"), &["Dear Will,"]), Some("name"));
    }

    #[test]
    fn an_empty_record_has_nothing_to_find() {
        let nobody = Resource::from_value(json!({
            "resourceType": "Patient", "id": "p", "name": [{ "family": "", "given": [""] }],
            "identifier": [{ "value": "" }], "telecom": [{ "value": "" }], "address": [{ "line": [""], "postalCode": "" }]
        }))
        .expect("a patient");
        assert_eq!(find(&nobody, &["", "Anything at all"]), None);
    }
}

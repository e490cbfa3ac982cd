//! Telephone numbers as text messages need them (ITU-T E.164).

use std::fmt;

use phonenumber::metadata::DATABASE;
use phonenumber::{Mode, country, is_valid, parse};

/// The longest text that is looked at as a number: fifteen digits (E.164) with what people put between them.
const TEXT_CHARS_MAX: usize = 40;

/// The country that numbers without one are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country(country::Id);

impl Country {
    /// By its two letters (ISO 3166-1).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// The digits of its numbers before all others.
    fn code(self) -> Option<u16> {
        let known = DATABASE.by_id(self.0.as_ref())?;
        Some(known.country_code())
    }
}

/// A number with its country: `+16175550142`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number(String);

impl fmt::Debug for Number {
    /// Shows nothing of it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Number(…)")
    }
}

/// A number as the library has it; nothing where the text is none, or none that is given out.
///
/// What it says is held against what was written: asked for a number of another country than the one it is told, it was
/// seen to take away a digit that is a prefix in that country, and the number of somebody else was left.
///
/// Without a country, a number has to say its own: it begins with a plus.
fn read(text: &str, country: Option<Country>) -> Option<phonenumber::PhoneNumber> {
    let is_plain = |letter: char| letter.is_ascii_digit() || " +-./()\u{a0}".contains(letter);
    // What people write, and nothing that the library would have to guess at.
    if text.chars().count() > TEXT_CHARS_MAX || !text.chars().all(is_plain) {
        return None;
    }
    // The zero of a national number beside the country's.
    let text = text.replacen("(0)", "", usize::from(text.starts_with('+')));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    // No national number begins with two zeros.
    let whole = match text.strip_prefix('+') {
        Some(_) => Some(digits.as_str()),
        // How one dials abroad differs from country to country.
        None => country.and_then(|_| digits.strip_prefix("00")),
    };
    let number = match whole {
        Some(whole) => parse(None, format!("+{whole}")).ok()?,
        None => parse(Some(country?.0), &text).ok()?,
    };
    let found = number.format().mode(Mode::E164).to_string();
    let is_same = match whole {
        Some(whole) => found.strip_prefix('+') == Some(whole),
        // A prefix of one digit may be in the place of the country.
        None => digits.get(1..).is_some_and(|rest| found.ends_with(rest)),
    };
    let is_here = whole.is_some() || number.country().code() == country?.code()?;
    (is_same && is_here && is_valid(&number)).then_some(number)
}

impl Number {
    /// A number as somebody wrote it. `country` is that of numbers that are written without one, where one is known.
    #[must_use]
    pub fn parse(text: &str, country: Option<Country>) -> Option<Self> {
        let number = read(text.trim(), country)?;
        Some(Self(number.format().mode(Mode::E164).to_string()))
    }

    /// As it is dialled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Ways in which people write it.
    pub(crate) fn forms(&self, country: Option<Country>) -> Vec<String> {
        let Some(number) = read(&self.0, country) else {
            return vec![self.0.clone()];
        };
        let plain = self.0.trim_start_matches('+').to_owned();
        let international = number.format().mode(Mode::International).to_string();
        let national = number.format().mode(Mode::National).to_string();
        let code = number.country().code();
        let groups = |text: &str| -> Vec<String> {
            let groups = text.split(|letter: char| !letter.is_ascii_digit());
            let groups = groups.filter(|group| !group.is_empty());
            groups.map(str::to_owned).collect()
        };
        let (whole, own) = (groups(&international), groups(&national));
        let mut forms = vec![
            self.0.clone(),
            plain,
            own.concat(),
            national.replace(") ", ")"),
            format!("+{code} {national}"),
            format!("{code} {national}"),
            format!("{code}{}", own.concat()),
            international,
            national,
        ];
        for between in ["-", " ", ".", "/"] {
            let joined = whole.join(between);
            forms.push(format!("+{joined}"));
            forms.push(joined);
            forms.push(own.join(between));
        }
        forms.sort();
        forms.dedup();
        forms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(text: &str) -> Option<Country> {
        (!text.is_empty()).then(|| Country::parse(text).expect("a country"))
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, of, expected) in [
            ("+1-617-555-0142", "US", Some("+16175550142")),
            ("(617) 555-0142", "US", Some("+16175550142")),
            ("617.555.0142", "US", Some("+16175550142")),
            ("1 617 555 0142", "US", Some("+16175550142")),
            ("+1 (617) 555-0142 ", "DE", Some("+16175550142")),
            ("0151 23456789", "DE", Some("+4915123456789")),
            ("0049 151 23456789", "DE", Some("+4915123456789")),
            ("+49 151 23456789", "US", Some("+4915123456789")),
            ("07400 123456", "GB", Some("+447400123456")),
            ("+44 (0)7400 123456", "GB", Some("+447400123456")),
            ("+44 7400 123456", "US", Some("+447400123456")),
            ("+1 617 555 0142", "DE", Some("+16175550142")),
            ("+7 912 345-67-89", "US", Some("+79123456789")),
            ("8 912 345-67-89", "RU", Some("+79123456789")),
            ("06 12345678", "NL", Some("+31612345678")),
            ("+39 347 1234567", "US", Some("+393471234567")),
            ("347 123 4567", "IT", Some("+393471234567")),
            ("0049 151 23456789", "US", Some("+4915123456789")),
            ("416 555 0142", "US", Some("+14165550142")),
            // By the prefix of another country's exchange: not told from a national number for certain.
            ("011 49 151 23456789", "US", None),
            ("555-0142", "US", None),
            // Nobody has said of which country those without one are.
            ("+1-617-555-0142", "", Some("+16175550142")),
            ("+49 151 23456789", "", Some("+4915123456789")),
            ("(617) 555-0142", "", None),
            ("1 617 555 0142", "", None),
            ("0151 23456789", "", None),
            ("0049 151 23456789", "", None),
            ("0151 23456789", "US", None),
            ("911", "US", None),
            ("", "US", None),
            ("+", "US", None),
            ("+16175550142;phone-context=x", "US", None),
            ("o.quandt@example.com", "US", None),
            (
                "+1617555014212345678901234567890123456789012345",
                "US",
                None,
            ),
        ] {
            let found = Number::parse(text, country(of));
            let found = found.as_ref().map(Number::as_str);
            assert_eq!(found, expected, "{text} {of}");
        }
        assert!(Country::parse("XX").is_none() && Country::parse("us ").is_none());
    }

    #[test]
    fn forms_hold_the_usual_ones_and_nothing_is_shown_by_chance() {
        let number = Number::parse("+16175550142", country("US")).expect("a number");
        let forms = number.forms(country("US"));
        for form in [
            "+16175550142",
            "+1-617-555-0142",
            "(617) 555-0142",
            "617-555-0142",
            "6175550142",
            "617.555.0142",
            "617 555 0142",
            "617/555/0142",
            "(617)555-0142",
            "+1 (617) 555-0142",
            "1 (617) 555-0142",
            "1-617-555-0142",
            "1 617 555 0142",
            "1.617.555.0142",
            "+1.617.555.0142",
            "+1 617 555 0142",
            "16175550142",
        ] {
            assert!(forms.iter().any(|one| one == form), "{form} in {forms:?}");
        }
        assert!(!format!("{number:?}").contains("555"));
    }
}

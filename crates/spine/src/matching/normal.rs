//! One form for what is written in many: letters without accents and case, numbers without blanks.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Letters that have no decomposition in Unicode and are written with others by those who lack them.
fn spelt(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'þ' => "th",
        'ı' => "i",
        'ħ' => "h",
        _ => return None,
    })
}

/// Lower case, no accents, letters and digits only, words apart by one blank. Apostrophes and full
/// stops join ("O'Brien" is "obrien"), all other signs part.
#[must_use]
pub fn words(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut is_apart = false;
    for letter in text.nfkd().filter(|letter| !is_combining_mark(*letter)) {
        if matches!(letter, '\'' | '’' | '`' | '.') {
            continue;
        }
        for lower in letter
            .to_lowercase()
            .filter(|lower| !is_combining_mark(*lower))
        {
            if !lower.is_alphanumeric() {
                is_apart = true;
                continue;
            }
            if is_apart && !result.is_empty() {
                result.push(' ');
            }
            is_apart = false;
            match spelt(lower) {
                Some(letters) => result.push_str(letters),
                None => result.push(lower),
            }
        }
    }
    result
}

/// [`words`] without the blanks between them.
#[must_use]
pub fn joined(text: &str) -> String {
    let mut result = words(text);
    result.retain(|letter| letter != ' ');
    result
}

/// The digits of a telephone number, the last nine of them: what is before is a country's number or
/// the zero that stands for it. Fewer than six are no number to find anybody by.
#[must_use]
pub fn phone(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    (digits.len() >= 6).then(|| digits[digits.len().saturating_sub(9)..].to_owned())
}

/// An e-mail address in lower case, without blanks around it.
#[must_use]
pub fn email(text: &str) -> Option<String> {
    let address = text.trim().to_lowercase();
    address
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        .then_some(address)
}

/// Words of streets that are written short, as they are written long.
const STREET_WORDS: &[(&str, &str)] = &[
    ("av", "avenue"),
    ("ave", "avenue"),
    ("blvd", "boulevard"),
    ("cct", "circuit"),
    ("cir", "circle"),
    ("cl", "close"),
    ("cr", "crescent"),
    ("cres", "crescent"),
    ("ct", "court"),
    ("dr", "drive"),
    ("gdns", "gardens"),
    ("gr", "grove"),
    ("hwy", "highway"),
    ("la", "lane"),
    ("ln", "lane"),
    ("pde", "parade"),
    ("pk", "park"),
    ("pl", "place"),
    ("rd", "road"),
    ("sq", "square"),
    ("st", "street"),
    ("tce", "terrace"),
    ("ter", "terrace"),
];

/// A street by its words, those that are often written short written long. "St" before another word
/// may be a saint; it becomes a street there too, in every record alike.
#[must_use]
pub fn street(text: &str) -> String {
    let text = words(text);
    let long: Vec<Cow<'_, str>> = text
        .split(' ')
        .map(|word| {
            let found = STREET_WORDS.iter().find(|(short, _)| *short == word);
            Cow::Borrowed(found.map_or(word, |(_, long)| long))
        })
        .collect();
    long.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_of_names() {
        for (written, expected) in [
            ("  O'Brien ", "obrien"),
            ("Smith-Jones", "smith jones"),
            ("MÜLLER", "muller"),
            ("Straße", "strasse"),
            ("Łukasz", "lukasz"),
            ("Nguyễn Thị", "nguyen thi"),
            ("J.", "j"),
            ("İbrahim", "ibrahim"),
            ("王 小明", "王 小明"),
            ("--", ""),
        ] {
            assert_eq!(words(written), expected, "{written}");
        }
        assert_eq!(joined("De la Cruz"), "delacruz");
    }

    #[test]
    fn one_form_of_contacts_and_streets() {
        assert_eq!(phone("+44 (0)20 7946 0000").as_deref(), Some("079460000"));
        assert_eq!(phone("020 7946 0000").as_deref(), Some("079460000"));
        assert_eq!(phone("12345"), None);
        assert_eq!(
            email(" Ann@Example.COM ").as_deref(),
            Some("ann@example.com")
        );
        assert_eq!(email("@example.com"), None);
        assert_eq!(street("12 High St."), "12 high street");
    }
}

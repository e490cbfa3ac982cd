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
        'ø' | 'ɔ' => "o",
        'đ' | 'ð' | 'ɗ' => "d",
        'ł' => "l",
        'þ' => "th",
        'ı' => "i",
        'ħ' => "h",
        'ə' | 'ɛ' | 'ǝ' => "e",
        'ŋ' => "n",
        'ŧ' => "t",
        'ɓ' => "b",
        'ƙ' | 'ĸ' => "k",
        'ƴ' => "y",
        'ſ' => "s",
        _ => return None,
    })
}

/// Signs within a word: apostrophes, those that are letters to Unicode (U+02BB of Hawaiian and Uzbek, U+02BC) among
/// them, and full stops.
const WITHIN: [char; 9] = ['\'', '’', '‘', '`', '´', 'ʻ', 'ʼ', 'ʹ', '.'];

/// The first letters of a text, so many at most. Comparing takes the square of a length, and a text may be as long as
/// what it came in.
#[must_use]
pub fn cut(text: &str, letters_max: usize) -> &str {
    let end = text.char_indices().nth(letters_max);
    end.map_or(text, |(end, _)| &text[..end])
}

/// Lower case, no accents, letters and digits only, words apart by one blank. Apostrophes and full
/// stops join ("O'Brien" is "obrien"), all other signs part.
#[must_use]
pub fn words(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut is_apart = false;
    for letter in text.nfkd().filter(|letter| !is_combining_mark(*letter)) {
        if WITHIN.contains(&letter) {
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
/// the zero that stands for it. Fewer than six are no number to find anybody by, and one digit again and again is what
/// is written where there is none.
#[must_use]
pub fn phone(text: &str) -> Option<String> {
    let digits: String = cut(text, CONTACT_LETTERS_MAX)
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let digits = &digits[digits.len().saturating_sub(9)..];
    (digits.len() >= 6 && !is_one_again_and_again(digits)).then(|| digits.to_owned())
}

/// Whether a text is one letter or digit, again and again.
pub(super) fn is_one_again_and_again(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next();
    letters.all(|letter| Some(letter) == first)
}

/// The most letters of a telephone number or an e-mail address (RFC 5321, section 4.5.3.1.3, allows 254 of these).
const CONTACT_LETTERS_MAX: usize = 254;

/// An e-mail address in lower case, without blanks around it; none that is longer than one can be.
#[must_use]
pub fn email(text: &str) -> Option<String> {
    let text = text.trim();
    if cut(text, CONTACT_LETTERS_MAX).len() < text.len() {
        return None;
    }
    let address = text.to_lowercase();
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
            ("Cəfərov", "ceferov"),
            ("Gʻulomov", "gulomov"),
            ("Hawaiʻi", "hawaii"),
            ("Sjɔgren", "sjogren"),
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
        assert_eq!(phone("+44 000000000"), None);
        assert_eq!(phone("9999999999"), None);
        assert_eq!(
            email(" Ann@Example.COM ").as_deref(),
            Some("ann@example.com")
        );
        assert_eq!(email("@example.com"), None);
        assert_eq!(street("12 High St."), "12 high street");
    }
}

//! What somebody answers by text message to a question of a form. Pure.
//!
//! The whole text has to be the answer: what stands beside one is something that a person has to read. So `yes` is an
//! answer, and `yes, but I can't breathe` is none.

use fhir::search::normalise;
use serde_json::{Map, Number, Value, json};

/// The most options that are answered by their number, which is one digit.
pub const OPTIONS_MAX: usize = 9;
/// The most digits before the point.
const DIGITS_MAX: usize = 7;
/// The most digits behind it. Three may be thousands, as some write them.
const PARTS_MAX: usize = 2;

/// Words for yes and for no by language. A word that means yes in one may mean no in another, or something else, so
/// those of the language that was written in count, and no others.
type Words = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);
const YES_NO: [Words; 21] = [
    ("en", &["yes", "y"], &["no", "n", "nope", "nah"]),
    ("ar", &["نعم"], &["لا"]),
    ("da", &["ja"], &["nej"]),
    ("de", &["ja", "j"], &["nein", "n"]),
    ("es", &["sí"], &["no"]),
    ("fil", &["oo"], &["hindi"]),
    ("fr", &["oui"], &["non"]),
    ("ht", &["wi"], &["non"]),
    ("it", &["sì"], &["no"]),
    ("ko", &["예", "네"], &["아니요", "아니오"]),
    ("nb", &["ja"], &["nei"]),
    ("nl", &["ja"], &["nee"]),
    ("nn", &["ja"], &["nei"]),
    ("no", &["ja"], &["nei"]),
    ("pl", &["tak"], &["nie"]),
    ("pt", &["sim"], &["não"]),
    ("ru", &["да"], &["нет"]),
    ("sv", &["ja"], &["nej"]),
    ("tr", &["evet"], &["hayır"]),
    ("uk", &["так"], &["ні"]),
    ("zh", &["是"], &["否"]),
];

/// The words of a language (BCP 47), if they are known.
fn yes_no_of(language: &str) -> Option<&'static Words> {
    let language = language.split('-').next().unwrap_or_default();
    let language = match language {
        "tl" => "fil",
        other => other,
    };
    YES_NO.iter().find(|(known, ..)| *known == language)
}

/// Whether words for yes and no are known in a language.
#[must_use]
pub fn knows(language: &str) -> bool {
    yes_no_of(language).is_some()
}

/// The words of a text, folded.
fn words(text: &str) -> Vec<String> {
    let text = normalise(text);
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn is_of(list: &[&str], word: &str) -> bool {
    list.iter().any(|one| normalise(one) == word)
}

/// Whether a text is a word for yes in a language, or one for no; nothing where it is neither, or more than that.
#[must_use]
pub fn yes_no(text: &str, language: &str) -> Option<bool> {
    let (_, yes, no) = yes_no_of(language)?;
    let words = words(text);
    let [word] = words.as_slice() else {
        return None;
    };
    match (is_of(yes, word), is_of(no, word)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Whether a text that asks names a word for yes and one for no in its language, so that whoever reads it knows what to
/// send.
#[must_use]
pub fn says_how(text: &str, language: &str) -> bool {
    let Some((_, yes, no)) = yes_no_of(language) else {
        return false;
    };
    // A letter by itself is easily overlooked, and stands in other words' stead.
    let mut words = words(text);
    words.retain(|word| word.chars().count() > 1 || !word.is_ascii());
    let names = |list: &[&str]| words.iter().any(|word| is_of(list, word));
    names(yes) && names(no)
}

/// Digits of other scripts as those of ASCII.
fn ascii(letter: char) -> char {
    const ZEROS: [u32; 4] = [0x660, 0x6f0, 0x966, 0xff10];
    let digit = ZEROS.iter().find_map(|zero| {
        let digit = u32::from(letter).checked_sub(*zero)?;
        char::from_digit(digit, 10).filter(|_| digit < 10)
    });
    match letter {
        '\u{2212}' | '\u{2013}' => '-',
        _ => digit.unwrap_or(letter),
    }
}

/// A number as JSON writes it, if a text is one and nothing else. No unit: nobody knows whether it is the right one.
fn number(text: &str) -> Option<String> {
    let text: String = text.trim().chars().map(ascii).collect();
    let text = text.trim_end_matches(['.', '!']).trim();
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = match text.split_once(['.', ',']) {
        Some((whole, part)) => (whole, Some(part)),
        None => (text, None),
    };
    let is_digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_digits(whole, DIGITS_MAX) || part.is_some_and(|part| !is_digits(part, PARTS_MAX)) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let part = part.map_or_else(String::new, |part| format!(".{part}"));
    Some(format!("{sign}{whole}{part}"))
}

/// `minValue` or `maxValue` of an item of a `Questionnaire`.
fn bound(item: &Value, name: &str) -> Option<f64> {
    let url = format!("http://hl7.org/fhir/StructureDefinition/{name}");
    let mut extensions = item["extension"].as_array()?.iter();
    let found = extensions.find(|extension| extension["url"] == url.as_str())?;
    let whole = found["valueInteger"].as_f64();
    whole.or_else(|| found["valueDecimal"].as_f64())
}

fn is_within(item: &Value, number: f64) -> bool {
    bound(item, "minValue").is_none_or(|least| number >= least)
        && bound(item, "maxValue").is_none_or(|most| number <= most)
}

/// Whether two options are the same to who answers by their words.
#[must_use]
pub fn same_words(one: &str, other: &str) -> bool {
    words(one) == words(other)
}

/// Whether an option's words would be read as the number of one.
#[must_use]
pub fn is_number(text: &str) -> bool {
    number(text).is_some()
}

/// The answers that an item offers, each with its words in all languages that are there.
fn options(item: &Value) -> Vec<(Vec<&str>, Value)> {
    let options = item["answerOption"].as_array();
    let options = options.into_iter().flatten().filter_map(|option| {
        let mut members = option.as_object()?.iter();
        let (member, value) = members.find(|(member, _)| member.starts_with("value"))?;
        let mut said: Vec<&str> = Vec::new();
        said.extend(value.as_str().or_else(|| value["display"].as_str()));
        let others = value["_display"]["extension"].as_array();
        for other in others.into_iter().flatten() {
            let parts = other["extension"].as_array();
            let mut parts = parts.into_iter().flatten();
            let content = parts.find(|part| part["url"] == "content");
            said.extend(content.and_then(|part| part["valueString"].as_str()));
        }
        let mut value = value.clone();
        if let Some(coding) = value.as_object_mut() {
            coding.remove("_display");
        }
        let mut answer = Map::new();
        answer.insert(member.clone(), value);
        Some((said, Value::Object(answer)))
    });
    options.collect()
}

/// The answer that a text gives to an item of a `Questionnaire`, as a `QuestionnaireResponse` has it: to a `boolean`
/// yes or no in the language that was asked in, to an `integer` or a `decimal` a number within its bounds, to a `choice`
/// the number of an option in their order, or its words in any language of the form. Nothing where the text is no answer,
/// or more than one.
#[must_use]
pub fn answer(item: &Value, text: &str, language: &str) -> Option<Value> {
    match item["type"].as_str()? {
        "boolean" => yes_no(text, language).map(|yes| json!({"valueBoolean": yes})),
        "integer" => {
            let whole: i64 = number(text)?.parse().ok()?;
            #[allow(clippy::cast_precision_loss, reason = "of seven digits at most")]
            is_within(item, whole as f64).then(|| json!({"valueInteger": whole}))
        }
        "decimal" => {
            let number: Number = number(text)?.parse().ok()?;
            let is_within = is_within(item, number.as_f64()?);
            is_within.then(|| json!({"valueDecimal": number}))
        }
        "choice" => {
            let options = options(item);
            if let Some(number) = number(text) {
                let place: usize = number.parse().ok()?;
                return options
                    .into_iter()
                    .take(OPTIONS_MAX)
                    .nth(place.checked_sub(1)?)
                    .map(|(_, answer)| answer);
            }
            let is_said = |(said, _): &(Vec<&str>, Value)| {
                let mut said = said.iter();
                said.any(|one| !words(one).is_empty() && same_words(one, text))
            };
            let mut found = options.into_iter().filter(is_said);
            match (found.next(), found.next()) {
                (Some((_, answer)), None) => Some(answer),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_and_no_stand_alone() {
        for (language, text, expected) in [
            ("en", "yes", Some(true)),
            ("en-GB", " YES. ", Some(true)),
            ("en", "y", Some(true)),
            ("es", "Sí", Some(true)),
            ("es-MX", "si", Some(true)),
            ("fr", "oui!", Some(true)),
            ("de", "ja", Some(true)),
            ("ar", "نعم", Some(true)),
            ("ko", "예", Some(true)),
            ("en", "NO", Some(false)),
            ("en", "\"no\"", Some(false)),
            ("pt-BR", "não", Some(false)),
            ("de-AT", "nein", Some(false)),
            ("tr", "HAYIR", Some(false)),
            ("ko", "아니요", Some(false)),
            ("ar", "لا", Some(false)),
            ("tl", "hindi", Some(false)),
            // "No" is a sort of yes in Polish, "tak" is thanks in Danish, and "hindi" is a language in English.
            ("pl", "no", None),
            ("da", "tak", None),
            ("en", "hindi", None),
            ("en", "ja", None),
            ("de", "yes", None),
            ("en", "yes no", None),
            ("en", "yes yes", None),
            ("en", "yes but I can't breathe", None),
            ("en", "not", None),
            ("en", "know", None),
            ("en", "stop", None),
            ("en", "1", None),
            ("en", "", None),
            ("en", "👍", None),
            ("cy", "ie", None),
            ("", "yes", None),
        ] {
            assert_eq!(yes_no(text, language), expected, "{language} {text}");
        }
        for (language, yes, no) in YES_NO {
            for (words, expected) in [(yes, true), (no, false)] {
                for word in words {
                    assert_eq!(yes_no(word, language), Some(expected), "{language} {word}");
                    // What ends or begins texts is heard before it is an answer.
                    assert_eq!(crate::sms::word(word), crate::sms::Word::Other, "{word}");
                }
            }
        }
    }

    #[test]
    fn a_question_says_what_to_send() {
        for (language, text, expected) in [
            ("en", "Did you go out today? Reply YES or NO.", true),
            ("es", "¿Salió hoy? Responda SÍ o NO.", true),
            ("en", "¿Salió hoy? Responda SÍ o NO.", false),
            ("en", "Reply Y/N", false),
            ("en", "Reply YES.", false),
            ("en", "Is there no news? Reply YES.", true),
            ("en", "How are you?", false),
            ("cy", "Reply YES or NO.", false),
        ] {
            assert_eq!(says_how(text, language), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_within_their_bounds_and_have_no_unit() {
        let bounds = |kind: &str| {
            json!({"type": kind, "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/minValue", "valueInteger": -5},
                {"url": "http://hl7.org/fhir/StructureDefinition/maxValue", "valueDecimal": 300}
            ]})
        };
        for (text, whole, decimal) in [
            ("82", Some("82"), Some("82")),
            (" 82. ", Some("82"), Some("82")),
            ("+082", Some("82"), Some("82")),
            ("-5", Some("-5"), Some("-5")),
            ("−5", Some("-5"), Some("-5")),
            ("82.5", None, Some("82.5")),
            ("82,5", None, Some("82.5")),
            ("82,50", None, Some("82.50")),
            ("٨٢", Some("82"), Some("82")),
            ("８２", Some("82"), Some("82")),
            ("300", Some("300"), Some("300")),
            ("301", None, None),
            ("-6", None, None),
            ("1,234", None, None),
            ("82.", Some("82"), Some("82")),
            (".5", None, None),
            ("82 kg", None, None),
            ("120/80", None, None),
            ("8 2", None, None),
            ("1e2", None, None),
            ("eighty", None, None),
            ("", None, None),
            ("-", None, None),
            ("99999999999999999999", None, None),
        ] {
            let given = |kind: &str, member: &str| {
                let answer = answer(&bounds(kind), text, "en")?;
                Some(answer[member].to_string())
            };
            let found = given("integer", "valueInteger");
            assert_eq!(found.as_deref(), whole, "{text}");
            let found = given("decimal", "valueDecimal");
            assert_eq!(found.as_deref(), decimal, "{text}");
        }
    }

    #[test]
    fn choices_are_answered_by_number_or_words() {
        let option = |code: &str, words: &str, german: &str| {
            json!({"valueCoding": {"code": code, "display": words, "_display": {"extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/translation", "extension": [
                    {"url": "lang", "valueCode": "de"}, {"url": "content", "valueString": german}
                ]}
            ]}}})
        };
        let item = json!({"type": "choice", "answerOption": [
            option("b", "Better", "Besser"), option("s", "About the same", "Etwa gleich"), option("w", "Worse", "Schlechter")
        ]});
        for (text, code) in [
            ("1", Some("b")),
            (" 3.", Some("w")),
            ("better", Some("b")),
            ("About the SAME!", Some("s")),
            ("schlechter", Some("w")),
            ("0", None),
            ("4", None),
            ("1.5", None),
            ("-1", None),
            ("1 2", None),
            ("b", None),
            ("much better", None),
            ("", None),
        ] {
            let found = answer(&item, text, "en");
            let found = found.as_ref().and_then(|answer| {
                assert!(answer["valueCoding"].get("_display").is_none());
                answer["valueCoding"]["code"].as_str()
            });
            assert_eq!(found, code, "{text}");
        }
    }

    #[test]
    fn other_questions_are_not_answered_so() {
        for kind in ["text", "date", "string", "group", "open-choice"] {
            assert_eq!(answer(&json!({"type": kind}), "yes", "en"), None, "{kind}");
        }
        assert_eq!(answer(&json!({}), "yes", "en"), None);
    }
}

//! The language of a message: that which the patient prefers, where the journey has it. Pure.

use crate::template::Template;
use fhir::Resource;
use icu_locale_core::subtags::{Language, Region, Script, Variant};
use serde_json::Value;
use std::fmt::Display;

/// What the words of a journey are written in that doesn't say.
pub(crate) const ENGLISH: &str = "en";

/// A step's message in another language.
#[derive(Debug, Clone)]
pub(crate) struct Translation {
    /// BCP 47, in canonical form.
    pub(crate) language: String,
    pub(crate) title: String,
    pub(crate) words: Template,
    pub(crate) reminder: Option<Template>,
    /// What is said of a visit that was called off.
    pub(crate) called_off: Option<Template>,
    pub(crate) email: Option<(Template, Template)>,
    pub(crate) sms: Option<Template>,
    pub(crate) voice: Option<Template>,
    /// The number of a recording that says it.
    pub(crate) script: Option<String>,
    /// What is said to a reply that is no answer.
    pub(crate) again: Option<Template>,
    /// The questions of a form.
    pub(crate) questions: Vec<Asked>,
}

/// A question in another language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its `linkId`.
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) help: Option<String>,
    /// The words of its options by code.
    pub(crate) options: Vec<(String, String)>,
}

/// A language tag in canonical form (`pt-br` is `pt-BR`; RFC 5646, section 2.1.1); nothing where the text is none.
/// Extensions and private parts say nothing about words and are none here.
pub(crate) fn tag(text: &str) -> Option<String> {
    let mut parts = text.split('-').peekable();
    let language = Language::try_from_str(parts.next()?).ok()?;
    // Any language at all is no language to write in.
    if language == Language::UNKNOWN {
        return None;
    }
    let mut tag = language.to_string();
    let mut add = |part: &dyn Display| {
        tag.push('-');
        tag.push_str(&part.to_string());
    };
    if let Some(script) = parts
        .peek()
        .and_then(|part| Script::try_from_str(part).ok())
    {
        add(&script);
        parts.next();
    }
    if let Some(region) = parts
        .peek()
        .and_then(|part| Region::try_from_str(part).ok())
    {
        add(&region);
        parts.next();
    }
    for part in parts {
        add(&Variant::try_from_str(part).ok()?);
    }
    Some(tag)
}

/// The languages of `Patient.communication`, the preferred ones first, each in canonical form.
fn preferred(patient: &Resource) -> Vec<String> {
    let all = patient.get("communication").and_then(Value::as_array);
    let mut all: Vec<&Value> = all.into_iter().flatten().collect();
    all.sort_by_key(|one| one["preferred"] != Value::Bool(true));
    let codes = all.iter().flat_map(|one| {
        let codings = one["language"]["coding"].as_array();
        let codes = codings.into_iter().flatten();
        codes.filter_map(|coding| tag(coding["code"].as_str()?))
    });
    codes.collect()
}

/// Which of the languages that are there fits a range best: the range itself, or what is left of it when its last
/// parts are taken off, one by one (RFC 4647, section 3.4, "Lookup").
fn look_up<'a>(range: &str, there: &[&'a str]) -> Option<&'a str> {
    let mut range = range;
    loop {
        if let Some(found) = there.iter().find(|tag| **tag == range) {
            return Some(found);
        }
        (range, _) = range.rsplit_once('-')?;
    }
}

/// What fits a range: by look-up, or else what is of the same language, whichever its region or script. Somebody who
/// reads Portuguese is better written to in that of Brazil than in English.
fn fitting<'a>(range: &str, there: &[&'a str]) -> Option<&'a str> {
    fn language(tag: &str) -> &str {
        tag.split('-').next().unwrap_or(tag)
    }
    look_up(range, there).or_else(|| {
        let mut there = there.iter().copied();
        there.find(|tag| language(tag) == language(range))
    })
}

/// The translation for a patient; nothing where the journey's own words are the right ones: they prefer that
/// language, or none that is there.
pub(crate) fn choose<'a>(
    patient: Option<&Resource>,
    own: &str,
    translations: &'a [Translation],
) -> Option<&'a Translation> {
    if translations.is_empty() {
        return None;
    }
    let there: Vec<&str> = translations
        .iter()
        .map(|one| one.language.as_str())
        .collect();
    let found = preferred_language(patient?, own, &there)?;
    translations.iter().find(|one| one.language == found)
}

/// Which of the other languages of something a patient prefers, as their messages choose theirs; nothing where what it
/// is written in is the right one: they prefer that, or none that is there. Tags are BCP 47, in any form.
#[must_use]
pub fn preferred_language<'a>(
    patient: &Resource,
    own: &str,
    others: &[&'a str],
) -> Option<&'a str> {
    let own = tag(own).unwrap_or_else(|| ENGLISH.to_owned());
    let others: Vec<(String, &'a str)> = others
        .iter()
        .filter_map(|other| Some((tag(other)?, *other)))
        .collect();
    let there: Vec<&str> = std::iter::once(own.as_str())
        .chain(others.iter().map(|(tag, _)| tag.as_str()))
        .collect();
    let wanted = preferred(patient);
    let found = wanted.iter().find_map(|range| fitting(range, &there))?;
    if found == own {
        return None;
    }
    let mut others = others.iter();
    others
        .find(|(tag, _)| tag == found)
        .map(|(_, other)| *other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_are_read_and_brought_into_one_form() {
        let table = [
            ("es", Some("es")),
            ("PT-br", Some("pt-BR")),
            ("zh-hant-tw", Some("zh-Hant-TW")),
            ("spanish!", None),
            ("", None),
            ("und", None),
            ("e", None),
        ];
        for (text, expected) in table {
            assert_eq!(tag(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_patient_s_language_is_chosen_among_those_that_are_there() {
        let one = |language: &str| Translation {
            language: language.to_owned(),
            title: String::new(),
            words: Template::default(),
            reminder: None,
            called_off: None,
            email: None,
            sms: None,
            voice: None,
            script: None,
            again: None,
            questions: Vec::new(),
        };
        let translations = [one("es"), one("pt-BR"), one("zh-Hant")];
        let said = |languages: &[(&str, bool)]| {
            let all: Vec<Value> = (languages.iter())
                .map(|(code, preferred)| {
                    json!({"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}, "preferred": preferred})
                })
                .collect();
            let patient = json!({"resourceType": "Patient", "communication": all});
            Resource::from_value(patient).unwrap()
        };
        type Row<'a> = (&'a [(&'a str, bool)], Option<&'a str>);
        let table: [Row<'_>; 10] = [
            (&[], None),
            (&[("es", true)], Some("es")),
            (&[("es-MX", false)], Some("es")),
            (&[("es", false), ("pt-BR", true)], Some("pt-BR")),
            (&[("pt", true), ("es", false)], Some("pt-BR")),
            (&[("zh-TW", true)], Some("zh-Hant")),
            (&[("fr", true), ("es", false)], Some("es")),
            // Their own language is the journey's.
            (&[("en-GB", true), ("es", false)], None),
            (&[("zh-hant-HK", true)], Some("zh-Hant")),
            (&[("nonsense!", true)], None),
        ];
        for (languages, expected) in table {
            let patient = said(languages);
            let found = choose(Some(&patient), ENGLISH, &translations);
            let found = found.map(|found| found.language.as_str());
            assert_eq!(found, expected, "{languages:?}");
        }
        // The journey's own goes before others of that language.
        let british = said(&[("en", true), ("es", false)]);
        let american = [one("es"), one("en-US")];
        assert!(choose(Some(&british), "en-GB", &american).is_none());
        assert!(choose(None, ENGLISH, &translations).is_none());
        assert!(choose(Some(&said(&[("es", true)])), "es", &translations[1..]).is_none());
    }
}

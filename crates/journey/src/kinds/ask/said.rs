//! A form in other languages: FHIR's `translation` beside each of its texts.

use super::{Ask, Question};
use crate::check::Check;
use crate::definition::{Definition, Step};
use crate::languages::{Asked, ENGLISH};
use crate::spec::TRANSLATIONS;
use crate::yaml::Node;
use fhir::nearest;
use serde_json::{Value, json};

/// FHIR's extension for a text in another language.
const TRANSLATION: &str = "http://hl7.org/fhir/StructureDefinition/translation";

/// Says a text of an object in other languages, by language.
pub(super) fn translate<'a>(
    object: &mut Value,
    name: &str,
    said: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let said: Vec<Value> = said
        .map(|(language, text)| {
            json!({"url": TRANSLATION, "extension": [
                {"url": "lang", "valueCode": language},
                {"url": "content", "valueString": text},
            ]})
        })
        .collect();
    if !said.is_empty() {
        object[format!("_{name}")] = json!({"extension": said});
    }
}

impl Ask {
    /// A question in other languages.
    pub(super) fn said<'a>(&'a self, question: &Question) -> Vec<(&'a str, &'a Asked)> {
        let translations = self.invitation.translations.iter();
        translations
            .filter_map(|one| {
                let mut questions = one.questions.iter();
                let asked = questions.find(|asked| asked.id == question.id)?;
                Some((one.language.as_str(), asked))
            })
            .collect()
    }

    /// Says which language a resource is in, where that isn't clear, and its name in the others.
    pub(super) fn name_in_languages(&self, made: &mut Value, definition: &Definition, name: &str) {
        let translations = &self.invitation.translations;
        let said = translations.iter();
        let said = said.map(|one| (one.language.as_str(), one.title.as_str()));
        translate(made, name, said);
        if !translations.is_empty() || definition.language != ENGLISH {
            made["language"] = json!(definition.language);
        }
    }

    /// What is asked in another language is what is asked.
    pub(super) fn check_translations(&self, check: &mut Check<'_, '_>, step: &Step) {
        let own = check.definition.language.clone();
        let Some(node) = check.node(step, &["ask", TRANSLATIONS]).cloned() else {
            return;
        };
        for ((key, node), one) in node.members().iter().zip(&self.invitation.translations) {
            let language = &one.language;
            if *language == own {
                continue;
            }
            let mut found = Vec::new();
            let items = node.get("questions").map(Node::items).unwrap_or_default();
            for (index, (item, asked)) in items.iter().zip(&one.questions).enumerate() {
                let id = &asked.id;
                if one.questions[..index].iter().any(|other| other.id == *id) {
                    let words = format!("question `{id}` stands twice in `{language}`");
                    found.push(("J024", true, item.place, words));
                }
                match self.questions.iter().find(|question| question.id == *id) {
                    Some(question) => {
                        for (error, words) in question.differs(asked, language, &own) {
                            found.push(("J065", error, item.place, words));
                        }
                    }
                    None => {
                        let known = self.questions.iter().map(|question| question.id.as_str());
                        let near = nearest(id, known)
                            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                        let words = format!("this form has no question `{id}`{near}");
                        found.push(("J065", true, item.place, words));
                    }
                }
            }
            let there =
                |question: &&Question| one.questions.iter().all(|asked| asked.id != question.id);
            let missing: Vec<String> = (self.questions.iter().filter(there))
                .map(|question| format!("`{}`", question.id))
                .collect();
            if !missing.is_empty() {
                let words = format!(
                    "of this form's questions {} aren't there in `{language}`: whoever prefers that is asked in `{own}`; add them to `questions`",
                    missing.join(", ")
                );
                found.push(("J065", false, key.place, words));
            }
            for (code, error, place, words) in found {
                if error {
                    check.findings.error(code, place, words);
                } else {
                    check.findings.warning(code, place, words);
                }
            }
        }
    }
}

impl Question {
    /// What a question lacks in another language, or has there and not in its own; whether that is an error.
    fn differs(&self, asked: &Asked, language: &str, own: &str) -> Vec<(bool, String)> {
        let id = &self.id;
        let mut found = Vec::new();
        let has = |options: &[(String, String)], code: &String| {
            options.iter().any(|(other, _)| other == code)
        };
        for (code, _) in &asked.options {
            if !has(&self.options, code) {
                let known = self.options.iter().map(|(code, _)| code.as_str());
                let near = nearest(code, known)
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                found.push((
                    true,
                    format!("question `{id}` has no option `{code}`{near}"),
                ));
            }
        }
        let missing: Vec<String> = (self.options.iter())
            .filter(|(code, _)| !has(&asked.options, code))
            .map(|(code, _)| format!("`{code}`"))
            .collect();
        if !missing.is_empty() {
            found.push((
                false,
                format!(
                    "of question `{id}` the options {} aren't there in `{language}`: they are shown in `{own}`",
                    missing.join(", ")
                ),
            ));
        }
        match (&self.help, &asked.help) {
            (Some(_), None) => found.push((
                false,
                format!("the help of question `{id}` isn't there in `{language}`: it is shown in `{own}`"),
            )),
            (None, Some(_)) => found.push((
                true,
                format!("question `{id}` has help in `{language}` and none in `{own}`, so it is never shown"),
            )),
            _ => {}
        }
        found
    }
}

//! Languages of messages, and how hard they are to read.

use super::Check;
use crate::definition::{Message, Step};
use crate::reading;
use crate::spec::TRANSLATIONS;
use crate::template::{Piece, Template};
use crate::yaml::{Node, Place};
use std::collections::BTreeSet;

impl Check<'_, '_> {
    pub(super) fn languages(&mut self) {
        let definition = self.definition;
        let messages = || {
            let steps = definition.steps.iter();
            steps.flat_map(|step| {
                let messages = step.kind.messages().into_iter();
                messages.map(move |(within, message)| (step, within, message))
            })
        };
        let all: BTreeSet<&str> = messages()
            .flat_map(|(_, _, message)| &message.translations)
            .map(|one| one.language.as_str())
            .collect();
        for (step, within, message) in messages() {
            let path = [&[step.kind_name()], within].concat();
            self.translations(step, &path, message, &all);
            self.reading(step, &path, message);
        }
    }

    fn translations(
        &mut self,
        step: &Step,
        path: &[&str],
        message: &Message,
        all: &BTreeSet<&str>,
    ) {
        let own = self.definition.language.as_str();
        let (has_email, has_sms) = (message.email.is_some(), message.sms.is_some());
        let node = self.node(step, &[path, &[TRANSLATIONS]].concat());
        let places: Vec<Place> = (node.into_iter().flat_map(Node::members))
            .map(|(key, _)| key.place)
            .collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (one, place) in message.translations.iter().zip(places) {
            let language = &one.language;
            if language == own {
                let words = format!(
                    "`{language}` is the journey's own language; its words stand in the message itself"
                );
                self.findings.error("J055", place, words);
            } else if !seen.insert(language) {
                let words = format!("`{language}` stands twice, written in two ways");
                self.findings.error("J055", place, words);
            } else if has_email && one.email.is_none() {
                let words = format!(
                    "the e-mail isn't there in `{language}`: it would come in `{own}`; add `email`"
                );
                self.findings.warning("J057", place, words);
            } else if has_sms && one.sms.is_none() {
                let words = format!(
                    "the text message isn't there in `{language}`: it would come in `{own}`; add `sms`"
                );
                self.findings.warning("J057", place, words);
            }
        }
        let missing: Vec<String> = (all.difference(&seen))
            .filter(|language| **language != own)
            .map(|language| format!("`{language}`"))
            .collect();
        if !missing.is_empty() {
            let words = format!(
                "this message is not there in {}, in which others of the journey are: whoever prefers that gets it in `{own}`",
                missing.join(", ")
            );
            let place = self.at(step, &[path, &["words"]].concat());
            self.findings.warning("J057", place, words);
        }
    }

    fn reading(&mut self, step: &Step, path: &[&str], message: &Message) {
        let Some(body) = self.node(step, path).cloned() else {
            return;
        };
        let own = self.definition.language.clone();
        self.words_of(&body, &own);
        let translations = body.get(TRANSLATIONS).map(Node::members);
        let translations = translations.unwrap_or_default().iter();
        for ((_, node), one) in translations.zip(&message.translations) {
            self.words_of(node, &one.language);
            self.leads_to_the_message(node);
        }
    }

    /// How the words of one language read: the message, a form's reminder, the e-mail.
    fn words_of(&mut self, node: &Node, language: &str) {
        let Some(most) = self.definition.reading_level else {
            return;
        };
        let email = node.get("email").and_then(|email| email.get("text"));
        let sms = node.get("sms").and_then(|sms| sms.get("words"));
        let all = ["words", "reminder", "called_off"].map(|name| node.get(name));
        let all = all.into_iter().chain([email, sms]);
        for words in all.flatten() {
            if let Some(Ok(template)) = words.text().map(Template::parse) {
                self.grade(&template, language, most, words.place);
            }
        }
    }

    fn grade(&mut self, words: &Template, language: &str, most: u8, place: Place) {
        let Some(grade) = reading::grade(&plain(words), language) else {
            return;
        };
        if grade > most {
            let grade = match grade {
                13 => "13 or more".to_owned(),
                grade => grade.to_string(),
            };
            let words = format!(
                "these words take a school grade of {grade} to be read (`{language}`), and `reading_level` is {most}: shorter sentences and shorter words help"
            );
            self.findings.warning("J056", place, words);
        }
    }
}

/// The words as most patients read them: what is filled in is a name or the like.
fn plain(template: &Template) -> String {
    let pieces = template.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.as_str(),
        Piece::Variable { fallback, .. } => fallback.as_deref().unwrap_or("Ann"),
    });
    pieces.collect()
}

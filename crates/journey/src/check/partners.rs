//! What a journey tells partners, held against who they are: only who publishes knows them.

use super::clinical::{Does, is_german, telling};
use crate::Finding;
use crate::definition::{Channel, Definition, Step};
use crate::yaml::{Node, Place};
use fhir::suggestion;
use std::collections::BTreeSet;
use trust::partners::{Carries, DataClass, NotCleared, Partners};

/// What is wrong with the calls of a journey at a time: partners that aren't known or not bound, and what they are not
/// cleared for. Fixed words are looked at where `words` says so.
pub(crate) fn partners(
    definition: &Definition,
    partners: &Partners,
    now_ms: u64,
    words: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &definition.steps {
        findings.extend(carried(step, definition, partners, now_ms));
        let Some(outside) = step.kind.calls() else {
            continue;
        };
        let name = outside.partner.as_str();
        let at = place(step, &["partner"]);
        let Some(partner) = partners.get(name) else {
            let near = suggestion(name, partners.all().map(|partner| partner.name.as_str()));
            let message = format!("there is no partner `{name}` in partners.toml{near}");
            findings.push(finding("J060", at, message));
            continue;
        };
        if partner.base.is_empty() {
            let message =
                format!("{name} takes files, and has no address at which it is called (`base`)");
            findings.push(finding("J060", at, message));
            continue;
        }
        // Nothing of a patient, to see what is wrong whatever is told.
        let nothing = BTreeSet::new();
        match partner.refuses(definition.purpose, &nothing, now_ms) {
            Some(why @ (NotCleared::NoContract | NotCleared::Ended(_))) => {
                findings.push(finding("J060", at, capital(&why.words(name))));
                continue;
            }
            Some(why) => {
                findings.push(finding("J061", at, capital(&why.words(name))));
                continue;
            }
            None => {}
        }
        for (path, classes) in step.kind.tells(definition) {
            if let Some(why) = partner.refuses(definition.purpose, &classes, now_ms) {
                let message = format!(
                    "`{}` would be told to {name}: {}",
                    path.last().copied().unwrap_or_default(),
                    why.words(name)
                );
                findings.push(finding("J061", place(step, &path), message));
            }
        }
        let health = BTreeSet::from([DataClass::Health]);
        let refuses = partner.refuses(definition.purpose, &health, now_ms);
        if words && refuses.is_some() {
            findings.extend(fixed(step, definition).into_iter().filter_map(|fixed| {
                let mut told = telling(fixed.text()?, is_german(&definition.language)).into_iter();
                let told = told.find(|told| told.does == Does::Tells)?;
                let message = format!(
                    "“{}” tells what the patient is treated for, and {name} is not cleared for the data class `health`",
                    told.text
                );
                Some(finding("J061", fixed.place, message))
            }));
        }
    }
    findings
}

/// What is wrong with messages that leave as files: nobody takes them, or who does isn't cleared for what they tell. What
/// is spoken tells nothing but a number, because its words are those of an open channel; a letter may tell all that the
/// patient reads behind login.
fn carried(step: &Step, definition: &Definition, partners: &Partners, now_ms: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (within, message) in step.kind.messages() {
        for channel in &message.channels {
            let what = match channel {
                Channel::Letter => Carries::Letters,
                Channel::Voice => Carries::Calls,
                Channel::Email | Channel::Sms | Channel::Push | Channel::Portal => continue,
            };
            let path = [within, &["channels"]].concat();
            let words = match partners.carrier(what) {
                None => format!(
                    "no partner carries {0}: nobody would get a message by `{1}`. Say in partners.toml who does (`carries = [\"{0}\"]`)",
                    what.name(),
                    channel.name()
                ),
                Some(partner) => match partner.refuses(definition.purpose, &what.tells(), now_ms) {
                    Some(why) => format!(
                        "a message would go by `{}`: {}",
                        channel.name(),
                        why.words(&partner.name)
                    ),
                    None => continue,
                },
            };
            findings.push(finding("J088", place(step, &path), words));
        }
    }
    findings
}

/// A member of a step's own part.
fn node<'a>(step: &'a Step, path: &[&str]) -> Option<&'a Node> {
    let own = step.said.get(step.kind_name())?;
    path.iter().try_fold(own, |node, name| node.get(name))
}

/// Where a member of a step's own part stands.
fn place(step: &Step, path: &[&str]) -> Place {
    node(step, path).map_or(step.place, |node| node.place)
}

/// The fixed words that a call tells: of its values, and of its addresses.
fn fixed<'a>(step: &'a Step, definition: &Definition) -> Vec<&'a Node> {
    let values = step.kind.tells(definition).into_iter();
    let values = values.filter_map(|(path, _)| node(step, &path));
    let words = values.flat_map(|value| ["is", "or"].map(|name| value.get(name)));
    let addresses = [&["path"][..], &["compensate", "path"], &["operation", "on"]];
    let addresses = addresses.map(|path| node(step, path));
    words.chain(addresses).flatten().collect()
}

fn finding(code: &str, at: Place, message: String) -> Finding {
    Finding {
        code: code.to_owned(),
        error: true,
        line: at.line.max(1),
        column: at.column.max(1),
        message,
    }
}

fn capital(words: &str) -> String {
    let mut characters = words.chars();
    let first = characters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(characters).collect()
}

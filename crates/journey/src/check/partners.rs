//! What a journey tells partners, held against who they are: only who publishes knows them.

use crate::Finding;
use crate::definition::{Definition, Step};
use crate::yaml::{Node, Place};
use fhir::suggestion;
use std::collections::BTreeSet;
use trust::partners::{NotCleared, Partners};

/// What is wrong with the calls of a journey at a time: partners that aren't known or not bound, and what they are not
/// cleared for.
pub(crate) fn partners(definition: &Definition, partners: &Partners, now_ms: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &definition.steps {
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
    }
    findings
}

/// Where a member of a step's own part stands.
fn place(step: &Step, path: &[&str]) -> Place {
    let own = step.said.get(step.kind_name());
    let node = path
        .iter()
        .try_fold(own, |node: Option<&Node>, name| Some(node?.get(name)))
        .flatten();
    node.map_or(step.place, |node| node.place)
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

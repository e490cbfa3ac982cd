//! Names in conditions and words: whether they mean something, and whether they may stand there.

use super::Check;
use super::clinical::is_german;
use crate::decode;
use crate::definition::{Path, Step};
use crate::spec::{self, Clearance, Shape};
use crate::template::{self, Class, Template};
use crate::yaml::inside;
use fhir::nearest;
use fhir::path::{Given, Wanted};

/// The whole file.
static WHOLE: Shape = Shape::Record(&spec::JOURNEY);

impl Check<'_, '_> {
    /// Members that a step gives to what the journey has learnt.
    pub(super) fn members(&self, step: &str) -> Option<Vec<&str>> {
        let gives = self.definition.step(step)?.kind.gives();
        Some(gives.into_iter().map(|(name, _)| name).collect())
    }

    /// Whether words may name this of an anchor.
    fn is_of_anchor(&self, anchor: &str, member: &str) -> bool {
        let mut anchors = self.definition.entry.anchors.iter();
        matches!(member, "day" | "time") && anchors.any(|(name, _)| name == anchor)
    }

    /// What is wrong with an expression on what the journey has learnt: a name that it never learns, or what its steps
    /// can't give. Whether anything was found.
    pub(crate) fn learnt(&mut self, path: &Path, wanted: Wanted) -> bool {
        let source = self.findings.source;
        let at = |position| inside(source, path.place, &path.text, position);
        if let Some((position, message)) = self.unlearnt(&path.text) {
            self.findings.error("J016", at(position), message);
            return true;
        }
        let steps = self.definition.steps.iter();
        let steps = steps.map(|step| (step.id.as_str(), Given::Members(step.kind.gives())));
        let faults = (path.expression).faults_of(&Given::Members(steps.collect()), wanted);
        for found in &faults {
            let (place, message) = (at(found.position), &found.message);
            match (found.certain, found.is_name) {
                (true, true) => self.findings.error("J016", place, message),
                (true, false) => {
                    let words = format!("this can't be of what the journey has learnt: {message}");
                    self.findings.error("J038", place, words);
                }
                (false, _) => self.findings.warning("J049", place, message),
            }
        }
        !faults.is_empty()
    }

    /// The first name in a condition that the journey never learns, with its position.
    fn unlearnt(&self, text: &str) -> Option<(usize, String)> {
        for (position, path) in paths(text) {
            let mut names = path.iter();
            let step = names.next()?;
            let Some(members) = self.members(step) else {
                let near = nearest(
                    step,
                    self.definition.steps.iter().map(|step| step.id.as_str()),
                )
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Some((
                    position,
                    format!(
                        "`{step}` is no step{near} A condition names answers and outcomes as `step.member`"
                    ),
                ));
            };
            let Some(member) = names.next() else { continue };
            if !members.contains(&member.as_str()) {
                let near = nearest(member, members.iter().copied())
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let known = if members.is_empty() {
                    "it gives nothing".to_owned()
                } else {
                    format!("it gives {}", members.join(", "))
                };
                return Some((
                    position,
                    format!("`{step}` gives no `{member}`{near} ({known})"),
                ));
            }
        }
        None
    }

    /// Variables in lines that take none: they would be shown as they are written.
    pub(super) fn lines(&mut self) {
        let mut found = Vec::new();
        decode::lines(("", self.root), &WHOLE, &mut found);
        for (name, line) in found {
            let Some(text) = line.text() else { continue };
            // What is no template is no variable either: a brace that is meant as one.
            let Ok(template) = Template::parse(text) else {
                continue;
            };
            let is_name = |name: &str| name.starts_with(|first: char| first.is_ascii_alphabetic());
            let mut variables = template.variables();
            if let Some((variable, _, position)) = variables.find(|(name, ..)| is_name(name)) {
                let place = inside(self.findings.source, line.place, text, position);
                let words = format!(
                    "`{name}` takes no variables: `{{{variable}}}` would be shown as it stands here. Say it in words that take some (`words`, a task's `reason`)"
                );
                self.findings.error("J018", place, words);
            }
        }
    }

    pub(super) fn words(&mut self, step: &Step) {
        let Some(node) = self.root.get("steps").and_then(|steps| steps.get(&step.id)) else {
            return;
        };
        let Some((kind, body)) = node
            .members()
            .iter()
            .find_map(|(key, body)| spec::kind(&key.name).map(|kind| (kind, body)))
        else {
            return;
        };
        let mut found = Vec::new();
        decode::words(body, &kind.body, None, &mut found);
        for said in found {
            let (words, clearance) = (said.node, said.clearance);
            let Some(text) = words.text() else { continue };
            let Ok(template) = Template::parse(text) else {
                continue;
            };
            let title = self.definition.title.to_lowercase();
            if clearance.is_open()
                && (text.to_lowercase().contains(&title) || text.contains(&self.definition.name))
            {
                self.findings.error("J017", words.place, "these words go over a channel that isn't cleared for PHI (e-mail, text message, telephone), and name the journey, which tells what the patient is treated for");
            }
            if clearance.is_open() {
                let language = said.language.unwrap_or(&self.definition.language);
                self.open_words(words.place, text, is_german(language));
            }
            for (name, fallback, position) in template.variables() {
                let place = inside(self.findings.source, words.place, text, position);
                let known = |step: &str, member: &str| {
                    self.members(step)
                        .is_some_and(|members| members.contains(&member))
                        || self.is_of_anchor(step, member)
                };
                let Some((class, always)) = template::class(name, &known) else {
                    let near = nearest(name, template::VARIABLES.iter().map(|(name, ..)| *name))
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    self.findings.error("J018", place, format!("`{{{name}}}` is no variable{near} Known are {}, and `step.member` for what the journey has learnt, and `anchor.day` and `anchor.time`", template::VARIABLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")));
                    continue;
                };
                if clearance.is_open() && class == Class::Phi {
                    self.findings.error("J017", place, format!("`{{{name}}}` is PHI and these words go over a channel that isn't cleared for it (e-mail, text message, telephone); name it in `words`, which are shown behind login, and send the link"));
                }
                if class == Class::Link && clearance == Clearance::Spoken {
                    let words = "`{link}` can't be spoken on the telephone: say where the patient finds the message";
                    self.findings.error("J089", place, words.to_owned());
                } else if class == Class::Link && clearance != Clearance::Open {
                    self.findings.error(
                        "J018",
                        place,
                        "`{link}` is for e-mails and text messages; behind login the patient is there already",
                    );
                }
                let fits = match name {
                    "due.day" | "visit.day" | "visit.time" => step.kind.has_time(name),
                    _ => true,
                };
                if !fits {
                    self.findings.error(
                        "J018",
                        place,
                        format!("`{{{name}}}` has no meaning in a `{}` step", kind.name),
                    );
                } else if !always && !fallback && !name.starts_with("visit.") {
                    self.findings.error(
                        "J019",
                        place,
                        format!("`{{{name}}}` may be empty; give a fallback: `{{{name}|...}}`"),
                    );
                }
            }
        }
    }
}

/// The names that a FHIRPath expression starts at its focus, with their positions.
pub(crate) fn names_in(text: &str) -> Vec<(usize, String)> {
    let paths = paths(text).into_iter();
    paths
        .filter_map(|(position, names)| Some((position, names.into_iter().next()?)))
        .collect()
}

/// The paths that a FHIRPath expression starts at its focus, as names.
pub(crate) fn paths_in(text: &str) -> Vec<Vec<String>> {
    paths(text).into_iter().map(|(_, names)| names).collect()
}

/// The paths that a FHIRPath expression starts at its focus, outside of function arguments: position
/// and names. A rough reading that is good enough to find misspelt names.
fn paths(text: &str) -> Vec<(usize, Vec<String>)> {
    const WORDS: &[&str] = &[
        "and", "or", "xor", "implies", "is", "as", "div", "mod", "in", "contains", "true", "false",
    ];
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut calls: Vec<bool> = Vec::new();
    let mut place = 0;
    let mut name_before = false;
    while place < characters.len() {
        let character = characters[place];
        match character {
            '\'' | '`' => {
                place += 1;
                while place < characters.len() && characters[place] != character {
                    place += if characters[place] == '\\' { 2 } else { 1 };
                }
                place += 1;
                name_before = false;
            }
            '(' => {
                calls.push(name_before);
                name_before = false;
                place += 1;
            }
            ')' => {
                calls.pop();
                name_before = false;
                place += 1;
            }
            '%' | '$' | '@' => {
                place += 1;
                while place < characters.len()
                    && (characters[place].is_alphanumeric() || "_-:.".contains(characters[place]))
                {
                    place += 1;
                }
                name_before = false;
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let start = place;
                let mut names = Vec::new();
                loop {
                    let from = place;
                    while place < characters.len()
                        && (characters[place].is_ascii_alphanumeric() || characters[place] == '_')
                    {
                        place += 1;
                    }
                    names.push(characters[from..place].iter().collect::<String>());
                    if characters.get(place) == Some(&'.')
                        && characters
                            .get(place + 1)
                            .is_some_and(|c| c.is_ascii_alphabetic() || *c == '_')
                    {
                        place += 1;
                    } else {
                        break;
                    }
                }
                let call = characters.get(place) == Some(&'(');
                name_before = call;
                if call {
                    names.pop();
                }
                let continues = start > 0 && characters[start - 1] == '.';
                let plain = names
                    .first()
                    .is_some_and(|name| !WORDS.contains(&name.as_str()));
                if plain && !continues && !calls.contains(&true) {
                    found.push((start, names));
                }
            }
            c => {
                if !c.is_whitespace() {
                    name_before = false;
                }
                place += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_conditions_are_found() {
        let table: &[(&str, &[&str])] = &[
            ("symptoms.breathless = true", &["symptoms.breathless"]),
            (
                "symptoms.a = 'it.was' or (tasks.b and not_a_call.c.exists())",
                &["symptoms.a", "tasks.b", "not_a_call.c"],
            ),
            (
                "survey.score.where($this > 3 and inner.x = 1).exists()",
                &["survey.score"],
            ),
            ("%now > @2026-01-01 and a.b", &["a.b"]),
        ];
        for (text, expected) in table {
            let found: Vec<String> = paths(text)
                .into_iter()
                .map(|(_, names)| names.join("."))
                .collect();
            assert_eq!(&found, expected, "{text}");
        }
    }
}

//! Where those go on whose step another version doesn't name, as a file: one line for each step, with the step of
//! the other version, `stay` or `hold`.

use super::steers;
use crate::decode::Findings;
use crate::definition::Definition;
use crate::engine::{Goes, Map};
use crate::yaml::{Node, Place};
use crate::{Finding, JourneyError, Journeys};
use fhir::suggestion;
use std::collections::BTreeMap;
use trust::Permit;

/// The longest file; one that names each of 200 steps is a sixth of it.
const MAP_BYTES_MAX: usize = 64 * 1024;

/// Reads such a file for two versions of a journey.
fn read(source: &str, from: &Definition, to: &Definition) -> Result<Map, Vec<Finding>> {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    let top = Place { line: 1, column: 1 };
    if source.len() > MAP_BYTES_MAX {
        let words = format!("the file is longer than {MAP_BYTES_MAX} bytes");
        findings.error("J035", top, words);
        return Err(findings.list);
    }
    let mut map = Map::new();
    match Node::parse(source) {
        Err(error) => {
            let words = format!("this is no YAML: {}", error.message);
            findings.error("J001", error.place, words);
        }
        // A file of comments alone says nothing, and that is right.
        Ok(root) if root.kind() == "nothing" => {}
        Ok(root) if root.kind() != "a map" => {
            let words = format!(
                "this must be lines of `step: step of the other version`, not {}",
                root.kind()
            );
            findings.error("J004", root.place, words);
        }
        Ok(root) => lines(&mut findings, &mut map, &root, (from, to)),
    }
    if findings.failed() {
        return Err(findings.list);
    }
    Ok(map)
}

fn lines(
    findings: &mut Findings<'_>,
    map: &mut Map,
    root: &Node,
    (from, to): (&Definition, &Definition),
) {
    let named = |definition: &Definition, name: &str| {
        let steps = definition.steps.iter().map(|step| step.id.as_str());
        suggestion(name, steps)
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, value) in root.members() {
        let step = key.name.as_str();
        if let Some(line) = seen.insert(step, key.place.line) {
            let words = format!("`{step}` stands twice; the first is on line {line}");
            findings.error("J024", key.place, words);
            continue;
        }
        if from.step(step).is_none() {
            let (version, near) = (from.version, named(from, step));
            let words = format!("`{step}` is no step of version {version}{near}");
            findings.error("J006", key.place, words);
        }
        let Some(goes) = value.text() else {
            let kind = value.kind();
            let words = format!("a step of the other version, `stay` or `hold`, not {kind}");
            findings.error("J004", value.place, words);
            continue;
        };
        let goes = match goes {
            "stay" => Goes::Stay,
            "hold" => Goes::Hold,
            step => {
                let version = to.version;
                match to.step(step) {
                    None => {
                        let near = named(to, step);
                        let words = format!("`{step}` is no step of version {version}{near}");
                        findings.error("J006", value.place, words);
                    }
                    Some(found) if found.kind.watches() => {
                        let words = format!(
                            "nobody can go on at `{step}`: it watches everybody in version {version}, and nobody is at it"
                        );
                        findings.error("J006", value.place, words);
                    }
                    Some(_) => {}
                }
                Goes::Step(step.to_owned())
            }
        };
        map.insert(step.to_owned(), goes);
    }
}

impl Journeys {
    /// Reads a file that says where those go on whose step another version doesn't name, or shall go elsewhere: one
    /// line for each step, `step: step of the other version`, `step: stay` or `step: hold`.
    ///
    /// # Errors
    /// `Unknown`, where there is no such version; `Findings`, each at its place; `Trust`.
    pub async fn map_in(
        &self,
        permit: &Permit,
        (journey, from, to): (&str, u32, u32),
        source: &str,
    ) -> Result<Map, JourneyError> {
        steers(permit)?;
        let books = self.books(permit.tenant()).await?;
        let version = |version| Self::published(&books, journey, Some(version));
        let (from, to) = (version(from)?, version(to)?);
        read(source, &from.definition, &to.definition).map_err(JourneyError::Findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn journey(number: u32) -> Arc<Definition> {
        let source = include_str!("../../../../journeys/heart-failure-discharge.yaml");
        Definition::compile(source, number).unwrap()
    }

    #[track_caller]
    fn found(source: &str) -> Vec<(String, usize, usize, String)> {
        let found = read(source, &journey(1), &journey(2)).unwrap_err();
        let place = |one: Finding| (one.code, one.line, one.column, one.message);
        found.into_iter().map(place).collect()
    }

    #[test]
    fn a_map_says_for_each_step_where_they_go_on() {
        let source = "# who waits goes on\nwelcome: day_two\nday_two: stay\nsymptoms: hold\n";
        let map = read(source, &journey(1), &journey(2)).unwrap();
        assert_eq!(map["welcome"], Goes::Step("day_two".to_owned()));
        assert_eq!(
            (&map["day_two"], &map["symptoms"]),
            (&Goes::Stay, &Goes::Hold)
        );
        for nothing in ["", "# nobody goes elsewhere\n"] {
            assert!(read(nothing, &journey(1), &journey(2)).unwrap().is_empty());
        }
    }

    #[test]
    fn each_mistake_is_told_at_its_place() {
        for (source, code, line, column, words) in [
            ("welcome: [a", "J001", 1, 10, "no YAML"),
            ("- welcome\n", "J004", 1, 1, "not a list"),
            (
                "welcome: day_two\nwelcom: stay\n",
                "J006",
                2,
                1,
                "version 1; did you mean",
            ),
            (
                "welcome:\n  day_too\n",
                "J006",
                2,
                3,
                "version 2; did you mean",
            ),
            ("welcome: 7\n", "J004", 1, 10, "not a number"),
            ("welcome: stay\nwelcome: hold\n", "J024", 2, 1, "on line 1"),
        ] {
            let found = found(source);
            let (of, at_line, at_column, message) = &found[0];
            assert_eq!(
                (of.as_str(), *at_line, *at_column),
                (code, line, column),
                "{source}: {found:?}"
            );
            assert!(message.contains(words), "{source}: {message}");
        }
        let long = format!("welcome: {}", "x".repeat(MAP_BYTES_MAX));
        assert_eq!(found(&long)[0].0, "J035");
    }
}

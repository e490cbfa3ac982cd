//! A journey's file looked at as publishing would look at it, before anybody is led along it: what is wrong with
//! it, its graph, and what it changes against the version that is live. Nothing is kept of it.

use crate::books::Books;
use crate::counts::VersionCounts;
use crate::definition::Definition;
use crate::service::staff;
use crate::yaml::Node;
use crate::{
    Change, Finding, GraphView, JourneyError, Journeys, VersionStage, VersionView, check, diff,
};
use std::collections::BTreeMap;
use trust::Permit;

/// Errors and warnings at a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// What stops publishing.
    pub errors: usize,
    /// What doesn't.
    pub warnings: usize,
}

/// What a file changes against the version that is live.
#[derive(Debug, Clone)]
pub struct AgainstLive {
    /// That version.
    pub version: u32,
    /// What changes, as patients and staff meet it. Nothing where only comments or the order differ.
    pub changes: Vec<Change>,
    /// Whether it is the very text that is live.
    pub is_same_text: bool,
    /// The text that is live.
    pub source: String,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What the checker finds, as publishing would; by place.
    pub findings: Vec<Finding>,
    /// The graph, without counts; where the file's form is right.
    pub graph: Option<GraphView>,
    /// Where in the graph something is found, by step.
    pub marks: BTreeMap<String, Marks>,
    /// Against the version that is live, if one is and the file's form is right.
    pub against_live: Option<AgainstLive>,
}

impl Looked {
    /// How many errors there are: with one it can't be published.
    #[must_use]
    pub fn errors(&self) -> usize {
        let errors = self.findings.iter().filter(|finding| finding.error);
        errors.count()
    }
}

/// At which step a finding stands: what stands before the next step, and before what comes after the steps.
fn marks(root: &Node, findings: &[Finding]) -> BTreeMap<String, Marks> {
    let mut begins: Vec<(usize, Option<&str>)> = root
        .members()
        .iter()
        .map(|(key, _)| (key.place.line, None))
        .collect();
    let steps = root.get("steps").map(Node::members).unwrap_or_default();
    begins.extend(
        steps
            .iter()
            .map(|(key, _)| (key.place.line, Some(key.name.as_str()))),
    );
    begins.sort_unstable();
    let mut marks: BTreeMap<String, Marks> = BTreeMap::new();
    for finding in findings {
        let before = begins.partition_point(|(line, _)| *line <= finding.line);
        let at = before.checked_sub(1).and_then(|place| begins[place].1);
        if let Some(step) = at {
            let marks = marks.entry(step.to_owned()).or_default();
            if finding.error {
                marks.errors += 1;
            } else {
                marks.warnings += 1;
            }
        }
    }
    marks
}

impl Journeys {
    /// What publishing a file would say, with the journeys that are live beside it, the partners and the limits of
    /// messages of this organisation; its graph; and what it changes. Nothing is kept or written.
    ///
    /// It works for as long as the checker does. Whoever answers requests meanwhile has it done elsewhere.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn look_at_file(
        &self,
        permit: &Permit,
        source: &str,
    ) -> Result<Looked, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let (definition, mut findings) = check::compile(source);
        let Some(definition) = definition else {
            return Ok(Looked {
                findings,
                graph: None,
                marks: BTreeMap::new(),
                against_live: None,
            });
        };
        let begins = |step: &crate::definition::Step| step.kind.begins().is_some();
        if definition.steps.iter().any(begins) {
            // What another server has published may not have been heard of here.
            let engine = self.engine_permit(permit.tenant()).await?;
            books.read_definitions(self.vault(), &engine).await?;
        }
        findings.extend(check::others(&definition, &|name| books.begins(name)));
        findings.extend(self.uncleared(&definition, true));
        findings.extend(self.among_others(&books, &definition));
        let place = |finding: &Finding| (finding.line, finding.column, finding.code.clone());
        findings.sort_by_key(place);
        findings.dedup();
        let root = Node::parse(source).ok();
        let marks = root.as_ref().map(|root| marks(root, &findings));
        let against_live = root.and_then(|root| against_live(&books, &definition, source, &root));
        Ok(Looked {
            graph: Some(graph(&definition, source)),
            marks: marks.unwrap_or_default(),
            against_live,
            findings,
        })
    }
}

fn against_live(
    books: &Books,
    definition: &Definition,
    source: &str,
    root: &Node,
) -> Option<AgainstLive> {
    let live = books.live(&definition.name)?;
    // What is live was read when it went live.
    let before = Node::parse(&live.stored.source).ok()?;
    Some(AgainstLive {
        version: live.stored.version,
        changes: diff::between(&before, root),
        is_same_text: live.stored.source == source,
        source: live.stored.source.clone(),
    })
}

/// The graph of what nobody has gone along.
fn graph(definition: &Definition, source: &str) -> GraphView {
    let (nodes, edges) = VersionCounts::default().graph(definition);
    GraphView {
        version: VersionView {
            name: definition.name.clone(),
            title: definition.title.clone(),
            version: 0,
            published_ms: 0,
            published_by: String::new(),
            running: 0,
            ended: 0,
            live: false,
            stage: VersionStage::Draft,
            share: 0,
            sites: Vec::new(),
            findings: Vec::new(),
        },
        started: 0,
        moved_in: 0,
        moved_out: 0,
        nodes,
        edges,
        endings: Vec::new(),
        source: source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_at_their_steps() {
        let source = "name: a\nsteps:\n  one:\n    title: x\n  two:\n    title: y\n    wait: z\nexits:\n  out: w\n";
        let root = Node::parse(source).unwrap();
        let finding = |line, error| Finding {
            code: "J001".to_owned(),
            error,
            line,
            column: 1,
            message: String::new(),
        };
        let findings = [
            finding(1, true),
            finding(2, true),
            finding(3, true),
            finding(4, false),
            finding(7, true),
            finding(8, true),
            finding(99, true),
        ];
        let marks = marks(&root, &findings);
        let of = |errors, warnings| Marks { errors, warnings };
        let expected = [("one".to_owned(), of(1, 1)), ("two".to_owned(), of(1, 0))];
        assert_eq!(marks, BTreeMap::from(expected));
    }
}

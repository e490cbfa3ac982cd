//! Files of what the journeys of a folder share. What a journey names of them becomes part of its text, so that each
//! version keeps what it was published with.

use crate::Finding;
use crate::decode::{Findings, shared_form};
use crate::diff::same;
use crate::spec::Record;
use crate::yaml::{Key, Node, Place};

/// A sort of what is shared.
pub(crate) struct Shared {
    /// The member that holds it, in a journey and in the file.
    pub(crate) member: &'static str,
    /// One of it, in words.
    pub(crate) one: &'static str,
    /// The form of the file.
    pub(crate) form: &'static Record,
    /// What is wrong with a file of that form.
    pub(crate) sense: fn(&mut Findings<'_>, &Node),
    /// What a journey names of it, each with its place.
    pub(crate) named: fn(&Node) -> Vec<(String, Place)>,
    /// Code of what can't be taken as it is written.
    pub(crate) code: &'static str,
}

impl Shared {
    /// Checks a file. Pure.
    pub(crate) fn check(&self, source: &str) -> Vec<Finding> {
        let mut findings = Findings {
            source,
            list: Vec::new(),
        };
        if let Some(root) = shared_form(&mut findings, self.form) {
            (self.sense)(&mut findings, &root);
        }
        let mut list = findings.list;
        list.sort_by(|a, b| (a.line, a.column, &a.code).cmp(&(b.line, b.column, &b.code)));
        list.dedup();
        list
    }

    /// A journey's text with what it names of a shared file and doesn't have itself. Where it has none of its own they
    /// stand behind everything else, so that its lines keep their numbers.
    pub(crate) fn taken(&self, journey: &str, shared: &str) -> Result<String, Vec<Finding>> {
        let Ok(root) = Node::parse(journey) else {
            // What is wrong with it is for the checker to say.
            return Ok(journey.to_owned());
        };
        let own = root.get(self.member);
        let has = |name: &str| own.is_some_and(|own| own.get(name).is_some());
        let mut missing: Vec<String> = Vec::new();
        for (name, _) in (self.named)(&root) {
            if !has(&name) && !missing.contains(&name) {
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return Ok(journey.to_owned());
        }
        let mut findings = self.check(shared);
        findings.retain(|finding| finding.error);
        if !findings.is_empty() {
            return Err(findings);
        }
        let Ok(from) = Node::parse(shared) else {
            return Ok(journey.to_owned());
        };
        let members = from.get(self.member).map(Node::members).unwrap_or_default();
        let lines: Vec<&str> = shared.lines().collect();
        let column = own
            .and_then(|own| own.members().first())
            .map(|(key, _)| key.place.column);
        let mut taken = String::new();
        for (index, (key, _)) in members.iter().enumerate() {
            if missing.contains(&key.name) {
                let next = members.get(index + 1).map(|(next, _)| next);
                taken.push_str(&excerpt(&lines, key, next, column));
            }
        }
        if taken.is_empty() {
            return Ok(journey.to_owned());
        }
        let text = insert(journey, &root, self.member, &taken);
        let whole = Node::parse(&text).ok();
        let is_taken = |name: &String| {
            let get = |root: &Node| root.get(self.member).and_then(|all| all.get(name)).cloned();
            get(&from).is_none_or(|meant| {
                let found = whole.as_ref().and_then(get);
                same(Some(&meant), found.as_ref())
            })
        };
        if missing.iter().all(is_taken) {
            return Ok(text);
        }
        let place = from.get(self.member).map_or(from.place, |node| node.place);
        Err(vec![Finding {
            code: self.code.to_owned(),
            error: true,
            line: place.line,
            column: place.column,
            message: format!(
                "these can't be taken into a journey as they are written: begin each {} on a line of its own, without braces and aliases",
                self.one
            ),
        }])
    }
}

/// The lines of one of them with the comment above it, at a column.
fn excerpt(lines: &[&str], key: &Key, next: Option<&Key>, column: Option<usize>) -> String {
    let first = |key: &Key| {
        let mut first = key.place.line.saturating_sub(1);
        while first > 0 && lines[first - 1].trim_start().starts_with('#') {
            first -= 1;
        }
        first
    };
    let begin = first(key);
    let end = next.map_or(lines.len(), first).max(begin);
    let is = key.place.column.saturating_sub(1);
    let wanted = column.map_or(is.max(2), |column| column.saturating_sub(1));
    let mut out = String::new();
    for line in &lines[begin..end] {
        let own = line.len() - line.trim_start_matches(' ').len();
        if line.trim().is_empty() {
            out.push('\n');
            continue;
        }
        out.push_str(&" ".repeat((own + wanted).saturating_sub(is)));
        out.push_str(line.trim_start_matches(' '));
        out.push('\n');
    }
    out
}

/// A journey's text with more in a member of it.
fn insert(journey: &str, root: &Node, member: &str, taken: &str) -> String {
    let mut text = journey.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if root.get(member).is_none() {
        return format!("{text}\n{member}:\n{taken}");
    }
    // Behind the last line of what it has: before the member that follows, or at the end.
    let mut members = root.members().iter();
    members.find(|(key, _)| key.name == member);
    let Some((
        Key {
            place: Place { line, .. },
            ..
        },
        _,
    )) = members.next()
    else {
        return format!("{text}{taken}");
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut at = line.saturating_sub(1).min(lines.len());
    while at > 0 && (lines[at - 1].starts_with('#') || lines[at - 1].trim().is_empty()) {
        at -= 1;
    }
    let (before, after) = lines.split_at(at);
    format!("{}\n{taken}{}\n", before.join("\n"), after.join("\n"))
}

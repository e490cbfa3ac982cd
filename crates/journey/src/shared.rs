//! Files of what the journeys of a folder share. What a journey names of them becomes part of its text, so that each
//! version keeps what it was published with.

use crate::Finding;
use crate::decode::{Findings, shared_form};
use crate::diff::same;
use crate::spec::Record;
use crate::yaml::{Content, Key, Node, Place};

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

/// A journey's text with what it names of a shared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The text.
    pub text: String,
    /// What was put into it, if anything was.
    pub inserted: Option<Inserted>,
    /// What whoever wrote the journey may not know, at places in the journey as it was.
    pub warnings: Vec<Finding>,
}

impl Merged {
    fn unchanged(journey: &str, warnings: Vec<Finding>) -> Self {
        Self {
            text: journey.to_owned(),
            inserted: None,
            warnings,
        }
    }
}

/// Lines of a shared file in a journey's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted {
    /// The first of them in the text, from 1.
    first: usize,
    /// Where each of them stands in the shared file, from 1.
    lines: Vec<usize>,
    /// By how many columns further to the right they stand in the text.
    further: isize,
}

impl Inserted {
    /// Where a place of the text is: in the shared file (`true`) or in the journey as it was, and its line and column.
    #[must_use]
    pub fn origin(&self, line: usize, column: usize) -> (bool, usize, usize) {
        let Some(behind) = line.checked_sub(self.first) else {
            return (false, line, column);
        };
        match self.lines.get(behind) {
            Some(line) => {
                let column = column.checked_add_signed(-self.further);
                (true, *line, column.unwrap_or(1).max(1))
            }
            None => (false, line - self.lines.len(), column),
        }
    }
}

/// Why a journey can't take what it names of a shared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMerged {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Whether that is with the journey, at places in it as it was, and not with the shared file.
    pub in_journey: bool,
}

impl NotMerged {
    fn one(in_journey: bool, code: &str, place: Place, message: String) -> Self {
        let finding = Finding {
            code: code.to_owned(),
            error: true,
            line: place.line.max(1),
            column: place.column.max(1),
            message,
        };
        Self {
            findings: vec![finding],
            in_journey,
        }
    }
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
    pub(crate) fn merged(&self, journey: &str, shared: &str) -> Result<Merged, NotMerged> {
        let Ok(root) = Node::parse(journey) else {
            // What is wrong with it is for the checker to say.
            return Ok(Merged::unchanged(journey, Vec::new()));
        };
        let from = Node::parse(shared).ok();
        let known = from.as_ref().and_then(|from| from.get(self.member));
        let own = root.get(self.member);
        if own.is_some_and(|own| !matches!(own.content, Content::Map(_) | Content::Null)) {
            // So it is with what holds nothing that has a name.
            return Ok(Merged::unchanged(journey, Vec::new()));
        }
        let warnings = self.hidden(own, known);
        let has = |name: &str| own.is_some_and(|own| own.get(name).is_some());
        let mut missing: Vec<String> = Vec::new();
        for (name, _) in (self.named)(&root) {
            if !has(&name) && !missing.contains(&name) {
                missing.push(name);
            }
        }
        if missing.is_empty() {
            return Ok(Merged::unchanged(journey, warnings));
        }
        let mut findings = self.check(shared);
        findings.retain(|finding| finding.error);
        if !findings.is_empty() {
            return Err(NotMerged {
                findings,
                in_journey: false,
            });
        }
        let members = known.map(Node::members).unwrap_or_default();
        let wanted = |key: &Key| missing.contains(&key.name);
        let meant: Vec<&(Key, Node)> = members.iter().filter(|(key, _)| wanted(key)).collect();
        let Some((first, _)) = meant.first() else {
            return Ok(Merged::unchanged(journey, warnings));
        };
        let lines: Vec<&str> = shared.lines().collect();
        let column = own
            .and_then(|own| own.members().first())
            .map(|(key, _)| key.place.column);
        let mut taken = Taken::default();
        for (index, (key, _)) in members.iter().enumerate() {
            if wanted(key) {
                let next = members.get(index + 1).map(|(next, _)| next);
                taken.excerpt(&lines, key, next, column);
            }
        }
        // By themselves first, so that what is wrong is told of the file where it is.
        let alone = Node::parse(&format!("{}:\n{}", self.member, taken.text)).ok();
        let alone = alone.as_ref().and_then(|alone| alone.get(self.member));
        let is_alone = |(key, node): &&&(Key, Node)| {
            same(Some(node), alone.and_then(|alone| alone.get(&key.name)))
        };
        if let Some((key, _)) = meant.iter().find(|meant| !is_alone(meant)) {
            let words = format!(
                "these can't be taken into a journey as they are written: begin each {} on a line of its own, without braces and aliases",
                self.one
            );
            return Err(NotMerged::one(false, self.code, key.place, words));
        }
        // A text at the end of the journey may keep the empty lines behind it.
        let mut changed = None;
        for apart in [true, false] {
            let (text, inserted) = self.insert(journey, &root, (&taken, first), apart);
            match self.changed(&root, &meant, &text) {
                None => {
                    return Ok(Merged {
                        text,
                        inserted: Some(inserted),
                        warnings,
                    });
                }
                Some(place) => changed = Some(place),
            }
        }
        let place = changed.unwrap_or(root.place);
        let is_brace = |node: &Node| at(journey, node.place) == Some('{');
        let (place, words) = match own {
            _ if is_brace(&root) => (
                root.place,
                format!(
                    "no {} of the shared file can be taken into a journey in braces; write its members without them",
                    self.one
                ),
            ),
            Some(own) if is_brace(own) => (
                own.place,
                format!(
                    "the journey's own `{}` are in braces, so none of the shared file can be put beside them: begin each {} on a line of its own",
                    self.member, self.one
                ),
            ),
            _ => (
                place,
                format!(
                    "this would say something else with the {} that the journey takes of the shared file: give anchors (`&name`) other names than that file's, and let no text that keeps empty lines (`|+`) end the file or its `{}`",
                    self.member, self.member
                ),
            ),
        };
        Err(NotMerged::one(true, self.code, place, words))
    }

    /// What the journey has itself under a name that means something else in the shared file.
    fn hidden(&self, own: Option<&Node>, known: Option<&Node>) -> Vec<Finding> {
        let own = own.map(Node::members).unwrap_or_default().iter();
        let hidden = own.filter(|(key, node)| {
            let shared = known.and_then(|known| known.get(&key.name));
            shared.is_some() && !same(shared, Some(node))
        });
        let said = hidden.map(|(key, _)| Finding {
            code: self.code.to_owned(),
            error: false,
            line: key.place.line,
            column: key.place.column,
            message: format!(
                "the shared file has a {} `{}`, too, which says something else; the journey's own counts",
                self.one, key.name
            ),
        });
        said.collect()
    }

    /// Where a journey's text with more in it says something else than the journey and what was taken; nothing where it
    /// doesn't.
    fn changed(&self, root: &Node, meant: &[&(Key, Node)], text: &str) -> Option<Place> {
        let whole = Node::parse(text);
        let Ok(whole) = whole else {
            return Some(root.place);
        };
        for (key, node) in root.members() {
            if key.name != self.member && !same(Some(node), whole.get(&key.name)) {
                return Some(key.place);
            }
        }
        let own = root.get(self.member);
        let own_members = own.map(Node::members).unwrap_or_default();
        let place = own.map_or(root.place, |own| own.place);
        let found = whole.get(self.member);
        let has =
            |key: &Key, node: &Node| same(Some(node), found.and_then(|found| found.get(&key.name)));
        if let Some((key, _)) = own_members.iter().find(|(key, node)| !has(key, node)) {
            return Some(key.place);
        }
        // Nothing besides what is the journey's and what was taken.
        let members = root.members().len() + usize::from(own.is_none());
        let entries = own_members.len() + meant.len();
        let is_whole = meant.iter().all(|(key, node)| has(key, node))
            && whole.members().len() == members
            && found.map(Node::members).unwrap_or_default().len() == entries;
        (!is_whole).then_some(place)
    }

    /// A journey's text with more in its member. `apart` has an empty line before a member that it didn't have.
    fn insert(
        &self,
        journey: &str,
        root: &Node,
        (taken, first): (&Taken, &Key),
        apart: bool,
    ) -> (String, Inserted) {
        let mut text = journey.to_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut more = taken.text.clone();
        let mut lines = taken.lines.clone();
        let mut before = text.lines().count();
        if root.get(self.member).is_none() {
            let heading = if apart { "\n" } else { "" };
            more = format!("{heading}{}:\n{more}", self.member);
            lines.splice(0..0, heading.lines().chain([""]).map(|_| first.place.line));
        } else {
            // Behind the last line of what it has: before the member that follows, or at the end.
            let mut members = root.members().iter();
            members.find(|(key, _)| key.name == self.member);
            if let Some((next, _)) = members.next() {
                let rows: Vec<&str> = text.lines().collect();
                before = next.place.line.saturating_sub(1).min(rows.len());
                let is_between = |row: &str| row.starts_with('#') || row.trim().is_empty();
                while before > 0 && is_between(rows[before - 1]) {
                    before -= 1;
                }
            }
        }
        // Each line keeps the end that it has.
        let rows = text.split_inclusive('\n').take(before);
        let at = rows.map(str::len).sum();
        text.insert_str(at, &more);
        let inserted = Inserted {
            first: before + 1,
            lines,
            further: taken.further,
        };
        (text, inserted)
    }
}

/// The character at a place.
fn at(source: &str, place: Place) -> Option<char> {
    let mut lines = source.lines().skip(place.line.saturating_sub(1));
    lines.next()?.chars().nth(place.column.saturating_sub(1))
}

/// What is taken of a file.
#[derive(Debug, Default)]
struct Taken {
    text: String,
    /// Where each line of it stands in the file, from 1.
    lines: Vec<usize>,
    /// By how many columns it is further to the right.
    further: isize,
}

impl Taken {
    /// Takes the lines of one with the comment above it, at a column.
    fn excerpt(&mut self, lines: &[&str], key: &Key, next: Option<&Key>, column: Option<usize>) {
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
        let wanted = column.map_or(is.max(2), |column| column.saturating_sub(1).max(1));
        self.further = wanted.cast_signed() - is.cast_signed();
        for (index, line) in lines.iter().enumerate().take(end).skip(begin) {
            self.lines.push(index + 1);
            let own = line.len() - line.trim_start_matches(' ').len();
            if !line.trim().is_empty() {
                let pad = (own + wanted).saturating_sub(is);
                self.text.push_str(&" ".repeat(pad));
                self.text.push_str(line.trim_start_matches(' '));
            }
            self.text.push('\n');
        }
    }
}

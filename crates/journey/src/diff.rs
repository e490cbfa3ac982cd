//! What one definition changes against another, as patients and staff meet it.
//!
//! The files are compared member by member along the language's tables, so a kind of step needs no word
//! here: what its table calls words, times and ways is told as such.

use crate::spec::{self, Field, Record, Shape};
use crate::yaml::{Content, Node};
use crate::{Finding, check};
use std::fmt::Write as _;

/// What kind of thing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changes {
    /// A step is new.
    Added,
    /// A step is gone.
    Removed,
    /// Where a step leads.
    Ways,
    /// What is said.
    Words,
    /// When something happens.
    Times,
    /// Anything else.
    Other,
}

impl Changes {
    /// What stands above those of this kind.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Added => "Steps that are new",
            Self::Removed => "Steps that are gone",
            Self::Ways => "Ways",
            Self::Words => "Words",
            Self::Times => "Times",
            Self::Other => "Everything else",
        }
    }
}

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// What kind of thing.
    pub what: Changes,
    /// Where in the file, `steps.welcome.send.words`.
    pub place: String,
    /// How it was.
    pub before: Option<String>,
    /// How it is.
    pub after: Option<String>,
}

/// What the second file changes against the first. The order of steps and members means nothing.
///
/// # Errors
/// The checker's errors of the first file that has some.
pub fn diff(before: &str, after: &str) -> Result<Vec<Change>, Vec<Finding>> {
    let read = |source: &str| -> Result<Node, Vec<Finding>> {
        let mut findings = check(source);
        findings.retain(|finding| finding.error);
        if !findings.is_empty() {
            return Err(findings);
        }
        Node::parse(source).map_err(|_| Vec::new())
    };
    let (before, after) = (read(before)?, read(after)?);
    Ok(between(&before, &after))
}

/// What one file says otherwise than another, whatever is wrong with them.
pub(crate) fn between(before: &Node, after: &Node) -> Vec<Change> {
    let mut found = Vec::new();
    record(&mut found, &spec::JOURNEY, "", Some(before), Some(after));
    found.sort_by_key(|change| change.what);
    found
}

/// The changes for people.
#[must_use]
pub fn diff_text(changes: &[Change]) -> String {
    let mut text = String::new();
    let mut last = None;
    for change in changes {
        if last != Some(change.what) {
            let _ = writeln!(text, "{}:", change.what.heading());
            last = Some(change.what);
        }
        let _ = writeln!(text, "  {}", change.place);
        for (sign, value) in [('-', &change.before), ('+', &change.after)] {
            if let Some(value) = value {
                let _ = writeln!(text, "    {sign} {value}");
            }
        }
    }
    text
}

/// Whether two steps say other words to those who meet them.
pub(crate) fn other_words(before: &Node, after: &Node) -> bool {
    let mut found = Vec::new();
    step(&mut found, "", before, after);
    found.iter().any(|change| change.what == Changes::Words)
}

fn push(
    found: &mut Vec<Change>,
    what: Changes,
    place: &str,
    before: Option<&Node>,
    after: Option<&Node>,
) {
    found.push(Change {
        what,
        place: place.to_owned(),
        before: before.map(say),
        after: after.map(say),
    });
}

fn names<'a>(before: Option<&'a Node>, after: Option<&'a Node>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in [before, after]
        .into_iter()
        .flatten()
        .flat_map(Node::members)
    {
        if !names.contains(&key.name.as_str()) {
            names.push(&key.name);
        }
    }
    names
}

fn record(
    found: &mut Vec<Change>,
    record: &'static Record,
    at: &str,
    before: Option<&Node>,
    after: Option<&Node>,
) {
    for name in names(before, after) {
        let field = record.fields.iter().find(|field| field.name == name);
        member(found, field, at, name, before, after);
    }
}

fn member(
    found: &mut Vec<Change>,
    field: Option<&'static Field>,
    at: &str,
    name: &str,
    before: Option<&Node>,
    after: Option<&Node>,
) {
    let place = if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    };
    let get = |node: Option<&'_ Node>| node.and_then(|node| node.get(name)).cloned();
    let (before, after) = (get(before), get(after));
    let shape = field.map(|field| &field.shape);
    value(found, shape, &place, before.as_ref(), after.as_ref());
}

fn value(
    found: &mut Vec<Change>,
    shape: Option<&'static Shape>,
    place: &str,
    before: Option<&Node>,
    after: Option<&Node>,
) {
    if same(before, after) {
        return;
    }
    let maps = [before, after]
        .into_iter()
        .flatten()
        .all(|node| matches!(node.content, Content::Map(_)));
    match shape {
        Some(Shape::Steps) => steps(found, place, before, after),
        Some(Shape::Record(inner) | Shape::TargetOr(inner)) if maps => {
            record(found, inner, place, before, after);
        }
        Some(Shape::Languages(inner)) if maps => {
            for name in names(before, after) {
                let get = |node: Option<&'_ Node>| node.and_then(|node| node.get(name)).cloned();
                let (before, after) = (get(before), get(after));
                let place = format!("{place}.{name}");
                match (&before, &after) {
                    (Some(before), Some(after)) => {
                        record(found, inner, &place, Some(before), Some(after));
                    }
                    _ => push(
                        found,
                        Changes::Words,
                        &place,
                        before.as_ref(),
                        after.as_ref(),
                    ),
                }
            }
        }
        Some(Shape::Map(_, inner)) if maps => {
            for name in names(before, after) {
                let get = |node: Option<&'_ Node>| node.and_then(|node| node.get(name)).cloned();
                let (before, after) = (get(before), get(after));
                value(
                    found,
                    Some(inner),
                    &format!("{place}.{name}"),
                    before.as_ref(),
                    after.as_ref(),
                );
            }
        }
        Some(Shape::List(inner)) => list(found, inner, place, before, after),
        Some(shape) => push(found, sort(shape), place, before, after),
        None => push(found, Changes::Other, place, before, after),
    }
}

/// What a change of a value of this shape is to people.
fn sort(shape: &Shape) -> Changes {
    match shape {
        Shape::Words(_) | Shape::Line | Shape::Language | Shape::Languages(_) => Changes::Words,
        Shape::Duration | Shape::Moment | Shape::Span | Shape::Zone | Shape::Clock => {
            Changes::Times
        }
        Shape::Target | Shape::TargetOr(_) => Changes::Ways,
        Shape::List(inner) | Shape::Map(_, inner) => sort(inner),
        _ => Changes::Other,
    }
}

fn list(
    found: &mut Vec<Change>,
    inner: &'static Shape,
    place: &str,
    before: Option<&Node>,
    after: Option<&Node>,
) {
    let (Shape::Record(_), Some(left), Some(right)) = (inner, before, after) else {
        push(found, sort(inner), place, before, after);
        return;
    };
    // Items that have an id are the same thing wherever they stand; others are what stands there.
    let id = |node: &Node, index: usize| {
        let named = node.get("id").and_then(Node::text);
        named.map_or_else(|| (index + 1).to_string(), str::to_owned)
    };
    let items = |node: &Node| -> Vec<(String, Node)> {
        let items = node.items().iter().enumerate();
        items
            .map(|(index, item)| (id(item, index), item.clone()))
            .collect()
    };
    let (left, right) = (items(left), items(right));
    let of = |items: &[(String, Node)], id: &str| {
        let mut found = items.iter().filter(|(name, _)| name == id);
        found.next().map(|(_, item)| item.clone())
    };
    let mut all: Vec<&String> = Vec::new();
    for (id, _) in left.iter().chain(&right) {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    for id in all {
        let (before, after) = (of(&left, id), of(&right, id));
        value(
            found,
            Some(inner),
            &format!("{place}.{id}"),
            before.as_ref(),
            after.as_ref(),
        );
    }
}

fn steps(found: &mut Vec<Change>, at: &str, before: Option<&Node>, after: Option<&Node>) {
    for id in names(before, after) {
        let get = |node: Option<&'_ Node>| node.and_then(|node| node.get(id)).cloned();
        let place = format!("{at}.{id}");
        match (get(before), get(after)) {
            (Some(before), Some(after)) => step(found, &place, &before, &after),
            (before, after) => {
                let what = if before.is_some() {
                    Changes::Removed
                } else {
                    Changes::Added
                };
                let title = |node: Option<Node>| {
                    let node = node?;
                    node.get("title").and_then(Node::text).map(str::to_owned)
                };
                found.push(Change {
                    what,
                    place,
                    before: title(before),
                    after: title(after),
                });
            }
        }
    }
}

fn step(found: &mut Vec<Change>, place: &str, before: &Node, after: &Node) {
    let kind = |node: &Node| {
        let mut members = node.members().iter();
        members.find_map(|(key, _)| spec::kind(&key.name))
    };
    let (old, new) = (kind(before), kind(after));
    for name in names(Some(before), Some(after)) {
        let kinds = [new, old].into_iter().flatten();
        let body = kinds.clone().find(|kind| kind.name == name);
        if let Some(kind) = body {
            let get = |node: &'_ Node| node.get(name).cloned();
            let (before, after) = (get(before), get(after));
            let place = format!("{place}.{name}");
            value(
                found,
                Some(&kind.body),
                &place,
                before.as_ref(),
                after.as_ref(),
            );
            continue;
        }
        let ways = kinds.flat_map(|kind| kind.ways);
        let field = spec::STEP_COMMON
            .iter()
            .chain(ways)
            .find(|field| field.name == name);
        member(found, field, place, name, Some(before), Some(after));
    }
}

/// A value on one line; members in the order of their names, because it means nothing.
fn say(node: &Node) -> String {
    match &node.content {
        Content::Null => "nothing".to_owned(),
        Content::Bool(value) => value.to_string(),
        Content::Number(value) => value.to_string(),
        Content::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Content::List(items) => {
            let items: Vec<String> = items.iter().map(say).collect();
            format!("[{}]", items.join(", "))
        }
        Content::Map(members) => {
            let mut members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{}: {}", key.name, say(value)))
                .collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// Whether two values mean the same, wherever they stand.
pub(crate) fn same(before: Option<&Node>, after: Option<&Node>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return before.is_none() && after.is_none();
    };
    match (&before.content, &after.content) {
        (Content::List(left), Content::List(right)) => {
            let mut pairs = left.iter().zip(right);
            left.len() == right.len() && pairs.all(|(left, right)| same(Some(left), Some(right)))
        }
        (Content::Map(left), Content::Map(right)) => {
            let mut members = left.iter();
            left.len() == right.len()
                && members.all(|(key, value)| same(Some(value), after.get(&key.name)))
        }
        (left, right) => left == right,
    }
}

//! The canonical form of a journey's file, comments kept.
//!
//! No YAML library for Rust that we know writes a file back with its comments where they were. So this
//! changes white space and the order of the file's first members, and nothing else: each line keeps its
//! text, and a change is taken only when the file still says the same to the parser. What can't be made
//! canonical that way stays as it is.

use crate::Finding;
use crate::decode::{Findings, SOURCE_BYTES_MAX};
use crate::diff::same;
use crate::spec;
use crate::yaml::{Content, Node, Place};
use std::collections::BTreeMap;

/// Columns of one step to the right.
const INDENT: usize = 2;

/// The file in its canonical form.
///
/// # Errors
/// What is wrong with it, when it is no YAML.
pub fn format(source: &str) -> Result<String, Vec<Finding>> {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    if source.len() > SOURCE_BYTES_MAX {
        let top = Place { line: 1, column: 1 };
        let words = format!("the file is longer than {SOURCE_BYTES_MAX} bytes; split the journey");
        findings.error("J035", top, words);
        return Err(findings.list);
    }
    let meant = match Node::parse(source) {
        Ok(meant) => meant,
        Err(error) => {
            findings.error(
                "J001",
                error.place,
                format!("this is no YAML: {}", error.message),
            );
            return Err(findings.list);
        }
    };
    let mut text = source.to_owned();
    // To YAML a carriage return alone ends a line; to what counts lines here it doesn't.
    if text.replace("\r\n", "\n").contains('\r') {
        return Ok(text);
    }
    for pass in [ends, blanks, indent, order] {
        let next = pass(&text);
        if next != text && keeps(&meant, &text, &next) {
            text = next;
        }
    }
    Ok(text)
}

/// Whether the second text says the same as the first, with the same visible lines.
fn keeps(meant: &Node, before: &str, after: &str) -> bool {
    fn lines(text: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort_unstable();
        lines
    }
    lines(before) == lines(after)
        && Node::parse(after).is_ok_and(|node| same(Some(meant), Some(&node)))
}

/// Lines end in `\n` without white space before it.
fn ends(text: &str) -> String {
    let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// No blank lines at the beginning and end, and never two together.
fn blanks(text: &str) -> String {
    let mut out = String::new();
    let mut blank = false;
    for line in text.lines() {
        if line.trim().is_empty() {
            blank = true;
            continue;
        }
        if blank && !out.is_empty() {
            out.push('\n');
        }
        blank = false;
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The first members in the order of the reference, each with the comment right above it. A comment that a
/// blank line parts from the first member is the file's and stays at its head.
fn order(text: &str) -> String {
    let Ok(node) = Node::parse(text) else {
        return text.to_owned();
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut starts: Vec<(usize, &str)> = Vec::new();
    for (key, _) in node.members() {
        if key.place.column != 1 {
            return text.to_owned();
        }
        let mut first = key.place.line - 1;
        while first > 0 && lines[first - 1].starts_with('#') {
            first -= 1;
        }
        starts.push((first, &key.name));
    }
    let head = starts.first().map_or(lines.len(), |(first, _)| *first);
    let rank = |name: &str| {
        let mut fields = spec::JOURNEY.fields.iter();
        fields
            .position(|field| field.name == name)
            .unwrap_or(usize::MAX)
    };
    let mut parts: Vec<(usize, &[&str])> = starts
        .iter()
        .enumerate()
        .map(|(index, (first, name))| {
            let end = starts.get(index + 1).map_or(lines.len(), |(next, _)| *next);
            (rank(name), &lines[*first..end])
        })
        .collect();
    if parts.is_sorted_by_key(|(rank, _)| *rank) {
        return text.to_owned();
    }
    parts.sort_by_key(|(rank, _)| *rank);
    let mut out: Vec<&str> = lines[..head].to_vec();
    for (_, part) in parts {
        // Long parts stand alone; what was last may have had no blank line after it.
        let long = part.len() > 1;
        if long && out.last().is_some_and(|line| !line.trim().is_empty()) && !out.is_empty() {
            out.push("");
        }
        out.extend(part);
    }
    blanks(&(out.join("\n") + "\n"))
}

/// Each step to the right is two columns, and items stand to the right of their member.
fn indent(text: &str) -> String {
    let Ok(node) = Node::parse(text) else {
        return text.to_owned();
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut columns = BTreeMap::new();
    place(&node, &lines, 0, &mut columns);
    let width = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut out = String::new();
    // What begins nothing itself (words that go on, comments at the end) moves with what is above it.
    let mut moved: (usize, usize) = (0, 0);
    for (index, line) in lines.iter().enumerate() {
        if line.trim().is_empty() {
            out.push('\n');
            continue;
        }
        let own = width(line);
        let next = columns.range(index..).next();
        let column = match (columns.get(&index), next) {
            (Some(column), _) => {
                moved = (own, *column);
                *column
            }
            // A comment stands with what it is about, which is below it.
            (None, Some((below, column)))
                if is_comment(&lines[index..*below]) && width(lines[*below]) == own =>
            {
                *column
            }
            _ => (own + moved.1).saturating_sub(moved.0),
        };
        out.push_str(&" ".repeat(column));
        out.push_str(line.trim_start_matches(' '));
        out.push('\n');
    }
    out
}

fn is_comment(lines: &[&str]) -> bool {
    let mut lines = lines.iter().map(|line| line.trim_start());
    lines.all(|line| line.is_empty() || line.starts_with('#'))
}

/// Notes in which column the lines begin that members and items begin.
fn place(node: &Node, lines: &[&str], column: usize, columns: &mut BTreeMap<usize, usize>) {
    let opens = |line: usize, column: usize| {
        // Braces and brackets: what stands within is not placed by columns.
        let row = lines.get(line - 1).map(|row| row.chars().nth(column - 1));
        row.flatten()
    };
    match &node.content {
        Content::Map(members) => {
            if opens(node.place.line, node.place.column) == Some('{') {
                return;
            }
            for (key, value) in members {
                let first = lines.get(key.place.line - 1).copied().unwrap_or_default();
                let before: String = first.chars().take(key.place.column - 1).collect();
                if before.trim().is_empty() {
                    columns.insert(key.place.line - 1, column);
                }
                place(value, lines, column + INDENT, columns);
            }
        }
        Content::List(items) => {
            if opens(node.place.line, node.place.column) == Some('[') {
                return;
            }
            for item in items {
                let first = lines.get(item.place.line - 1).copied().unwrap_or_default();
                let mut within = INDENT;
                if first.trim_start().starts_with('-') {
                    columns.entry(item.place.line - 1).or_insert(column);
                    // What stands behind the dash stays as far from it as it is.
                    let dash = first.chars().take_while(|c| *c == ' ').count();
                    within = (item.place.column - 1).saturating_sub(dash).max(1);
                }
                place(item, lines, column + within, columns);
            }
        }
        _ => {}
    }
}

//! XML Patch (RFC 5261) on the XML form of a resource (R4, section 3.1.0.5).
//!
//! Selectors are held to what names elements and attributes of FHIR: steps by name, `*`, places
//! (`[2]`), and criteria on an attribute of the element or of one below it (`[f:use/@value='home']`).
//! A narrative is one thing, as it is everywhere here: replaced as a whole, and byte for byte as it was
//! otherwise.
use super::check_count;
use crate::json::NESTING_MAX;

/// The longest selector, bytes.
const SELECTOR_BYTES_MAX: usize = 2_000;
use crate::{IssueCode, OperationOutcome};
use quick_xml::NsReader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use serde_json::Value;

/// FHIR's name space, and that of narratives.
const FHIR: &str = "http://hl7.org/fhir";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

#[derive(Debug, Clone)]
enum Node {
    Element(Element),
    /// A narrative, as it stands.
    Narrative(String),
    /// What is to be the value of an attribute.
    Text(String),
}

#[derive(Debug, Clone)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
}

impl Element {
    fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Self::Element(element) => &element.name,
            Self::Narrative(_) => "div",
            Self::Text(_) => "",
        }
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    place: usize,
    path: Vec<Step>,
    attribute: Option<String>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Add(Position, Vec<Node>),
    AddAttribute(String, String),
    Replace(Node),
    ReplaceAttribute(String),
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Prepend,
    Append,
    Before,
    After,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    name: String,
    tests: Vec<Test>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Place(usize),
    Attribute {
        below: Vec<String>,
        name: String,
        value: String,
    },
}

type Fault = (IssueCode, &'static str);

fn wrong(place: usize, (code, words): Fault) -> OperationOutcome {
    OperationOutcome::at(code, words, format!("/*/*[{}]", place + 1))
}

fn broken(words: &str) -> OperationOutcome {
    OperationOutcome::error(IssueCode::Structure, format!("no XML patch: {words}"))
}

pub(super) fn operations(text: &[u8]) -> Result<Vec<Operation>, OperationOutcome> {
    let text = std::str::from_utf8(text).map_err(|_| broken("it is no UTF-8"))?;
    let root = tree(text)?;
    if !matches!(root.name.as_str(), "diff" | "patch") {
        return Err(broken("the outer element is not `diff`"));
    }
    check_count(root.children.len())?;
    let operations = root.children.into_iter().enumerate();
    operations
        .map(|(place, node)| operation(place, node).map_err(|fault| wrong(place, fault)))
        .collect()
}

fn operation(place: usize, node: Node) -> Result<Operation, Fault> {
    let Node::Element(element) = node else {
        return Err((IssueCode::Structure, "is none of add, replace, remove"));
    };
    let select = element
        .attribute("sel")
        .ok_or((IssueCode::Required, "`sel` is missing"))?;
    let no_selector = "`sel` is no selector that is understood here: names, `*`, [2], [@a='x'], [f:b/@value='x'], /@a at the end";
    let (path, attribute) = selector(select).ok_or((IssueCode::NotSupported, no_selector))?;
    let position = match element.attribute("pos") {
        None => Position::Append,
        Some("prepend") => Position::Prepend,
        Some("before") => Position::Before,
        Some("after") => Position::After,
        Some(_) => {
            let words = "`pos` is none of prepend, before, after";
            return Err((IssueCode::CodeInvalid, words));
        }
    };
    let kind = element.attribute("type").map(str::to_owned);
    let text = |nodes: &[Node]| match nodes {
        [] => Ok(String::new()),
        [Node::Text(text)] => Ok(text.clone()),
        _ => Err((IssueCode::Value, "the value of an attribute is text")),
    };
    let elements = |nodes: Vec<Node>| {
        if nodes.iter().any(|node| matches!(node, Node::Text(_))) {
            return Err((IssueCode::Value, "FHIR has no text between elements"));
        }
        Ok(nodes)
    };
    let what = match (element.name.as_str(), &attribute, kind) {
        ("add", None, None) => What::Add(position, elements(element.children)?),
        ("add", None, Some(kind)) => match kind.strip_prefix('@') {
            Some(name) => What::AddAttribute(name.to_owned(), text(&element.children)?),
            None => return Err((IssueCode::NotSupported, "`type` is no attribute")),
        },
        ("add", Some(_), _) => return Err((IssueCode::Value, "`sel` is an attribute")),
        ("replace", None, _) => {
            let mut nodes = elements(element.children)?;
            match (nodes.pop(), nodes.is_empty()) {
                (Some(node), true) => What::Replace(node),
                _ => return Err((IssueCode::Value, "an element is replaced by one element")),
            }
        }
        ("replace", Some(_), _) => What::ReplaceAttribute(text(&element.children)?),
        ("remove", ..) => What::Remove,
        _ => return Err((IssueCode::CodeInvalid, "is none of add, replace, remove")),
    };
    Ok(Operation {
        place,
        path,
        attribute,
        what,
    })
}

/// A name without its prefix, which is FHIR's.
fn plain(name: &str) -> Option<String> {
    let name = name.rsplit(':').next()?;
    let fine = name == "*"
        || (!name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
    fine.then(|| name.to_owned())
}

/// Splits at a letter that is in no brackets and no quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut quote, mut depth, mut from) = (None, 0_usize, 0);
    let mut parts = Vec::new();
    for (place, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => depth = depth.saturating_sub(1),
            (None, _) if letter == at && depth == 0 => {
                parts.push(&text[from..place]);
                from = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn selector(text: &str) -> Option<(Vec<Step>, Option<String>)> {
    let text = text.trim();
    // Each of its tests looks through all that the steps before have selected.
    if text.len() > SELECTOR_BYTES_MAX {
        return None;
    }
    let mut parts = split(text.strip_prefix('/').unwrap_or(text), '/');
    let attribute = match parts.last()?.strip_prefix('@') {
        Some(name) => {
            parts.pop();
            Some(plain(name)?)
        }
        None => None,
    };
    let steps: Option<Vec<Step>> = parts.into_iter().map(step).collect();
    steps
        .filter(|steps| !steps.is_empty())
        .map(|steps| (steps, attribute))
}

fn step(text: &str) -> Option<Step> {
    let (name, mut rest) = match text.find('[') {
        Some(place) => text.split_at(place),
        None => (text, ""),
    };
    let mut tests = Vec::new();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[')?;
        let mut quote = None;
        // Brackets within quotes are no ends.
        let end = inner.char_indices().find_map(|(place, letter)| {
            match (quote, letter) {
                (Some(open), _) if open == letter => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None, ']') => return Some(place),
                _ => {}
            }
            None
        })?;
        let (test, after) = (inner.get(..end)?, inner.get(end + 1..)?);
        tests.push(self::test(test.trim())?);
        rest = after.trim_start();
    }
    Some(Step {
        name: plain(name.trim())?,
        tests,
    })
}

fn test(text: &str) -> Option<Test> {
    if let Ok(place) = text.parse::<usize>() {
        return (place > 0).then_some(Test::Place(place));
    }
    let (path, value) = text.split_once('=')?;
    let value = value.trim();
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let value = value.strip_prefix(quote)?.strip_suffix(quote)?;
    if value.contains(quote) {
        return None;
    }
    let mut below: Vec<&str> = path.trim().split('/').collect();
    let name = plain(below.pop()?.strip_prefix('@')?)?;
    let below: Option<Vec<String>> = below.into_iter().map(plain).collect();
    Some(Test::Attribute {
        below: below?,
        name,
        value: value.to_owned(),
    })
}

fn holds(element: &Element, below: &[String], name: &str, value: &str) -> bool {
    let Some((first, rest)) = below.split_first() else {
        return element.attribute(name) == Some(value);
    };
    element.children.iter().any(|child| match child {
        Node::Element(child) if first == "*" || child.name == *first => {
            holds(child, rest, name, value)
        }
        _ => false,
    })
}

/// Which of some nodes a step selects.
fn selected(nodes: &[Node], step: &Step) -> Vec<usize> {
    let named = |node: &Node| match node {
        Node::Text(_) => false,
        _ => step.name == "*" || node.name() == step.name,
    };
    let mut places: Vec<usize> = (0..nodes.len()).filter(|at| named(&nodes[*at])).collect();
    for test in &step.tests {
        match test {
            Test::Place(place) => {
                places = places.into_iter().skip(place - 1).take(1).collect();
            }
            Test::Attribute { below, name, value } => places.retain(|at| match &nodes[*at] {
                Node::Element(element) => holds(element, below, name, value),
                _ => false,
            }),
        }
    }
    places
}

/// The ways to all that a path selects.
fn ways(nodes: &[Node], path: &[Step]) -> Vec<Vec<usize>> {
    let Some((step, rest)) = path.split_first() else {
        return vec![Vec::new()];
    };
    let mut found = Vec::new();
    for at in selected(nodes, step) {
        let children: &[Node] = match &nodes[at] {
            Node::Element(element) => &element.children,
            _ => &[],
        };
        for mut way in ways(children, rest) {
            way.insert(0, at);
            found.push(way);
        }
    }
    found
}

pub(super) fn apply(operations: &[Operation], value: &mut Value) -> Result<(), OperationOutcome> {
    let root = tree(&crate::xml::write(value)?)?;
    let mut nodes = vec![Node::Element(root)];
    for operation in operations {
        one(operation, &mut nodes).map_err(|fault| wrong(operation.place, fault))?;
    }
    let mut text = String::new();
    for node in &nodes {
        write(node, true, &mut text);
    }
    *value = crate::xml::parse(text.as_bytes())?;
    Ok(())
}

/// The list of nodes that a way ends in.
fn list_mut<'a>(nodes: &'a mut Vec<Node>, way: &[usize]) -> Option<&'a mut Vec<Node>> {
    way.iter()
        .try_fold(nodes, |nodes, at| match nodes.get_mut(*at)? {
            Node::Element(element) => Some(&mut element.children),
            _ => None,
        })
}

fn one(operation: &Operation, root: &mut Vec<Node>) -> Result<(), Fault> {
    let nothing = (IssueCode::NotFound, "`sel` selects nothing");
    let mut found = ways(root, &operation.path);
    let way = match (found.pop(), found.is_empty()) {
        (Some(way), true) => way,
        (None, _) => return Err(nothing),
        (Some(_), false) => {
            let words = "`sel` selects several, where one is wanted";
            return Err((IssueCode::MultipleMatches, words));
        }
    };
    let (last, above) = way.split_last().ok_or(nothing)?;
    let is_root = above.is_empty();
    if way.len() >= NESTING_MAX {
        return Err((IssueCode::Structure, "nests too deeply"));
    }
    let siblings = list_mut(root, above).ok_or(nothing)?;
    let outside =
        "the resource itself has no neighbours, and is not replaced or removed by a patch";
    let only_elements = (
        IssueCode::NotSupported,
        "a narrative is replaced as a whole",
    );
    match (&operation.what, &operation.attribute) {
        (What::Add(position @ (Position::Before | Position::After), added), _) => {
            if is_root {
                return Err((IssueCode::BusinessRule, outside));
            }
            let at = last + usize::from(*position == Position::After);
            siblings.splice(at..at, added.iter().cloned());
        }
        (What::Replace(node), _) if !is_root => siblings[*last] = node.clone(),
        (What::Remove, None) if !is_root => {
            siblings.remove(*last);
        }
        (What::Replace(_), _) | (What::Remove, None) => {
            return Err((IssueCode::BusinessRule, outside));
        }
        (what, attribute) => {
            let Node::Element(element) = &mut siblings[*last] else {
                return Err(only_elements);
            };
            match (what, attribute) {
                (What::Add(position, added), _) => {
                    let at = match position {
                        Position::Prepend => 0,
                        _ => element.children.len(),
                    };
                    element.children.splice(at..at, added.iter().cloned());
                }
                (What::AddAttribute(name, value), _) => {
                    if element.attribute(name).is_some() {
                        return Err((IssueCode::Duplicate, "the attribute is there already"));
                    }
                    element.attributes.push((name.clone(), value.clone()));
                }
                (What::ReplaceAttribute(value), Some(name)) => {
                    let mut attributes = element.attributes.iter_mut();
                    let own = attributes.find(|(own, _)| own == name).ok_or(nothing)?;
                    own.1.clone_from(value);
                }
                (_, Some(name)) => {
                    let before = element.attributes.len();
                    element.attributes.retain(|(own, _)| own != name);
                    if element.attributes.len() == before {
                        return Err(nothing);
                    }
                }
                _ => return Err(nothing),
            }
        }
    }
    Ok(())
}

fn write(node: &Node, is_root: bool, out: &mut String) {
    match node {
        Node::Narrative(text) => out.push_str(text),
        Node::Text(text) => out.push_str(&escape(text.as_str())),
        Node::Element(element) => {
            out.push('<');
            out.push_str(&element.name);
            if is_root {
                out.push_str(" xmlns=\"");
                out.push_str(FHIR);
                out.push('"');
            }
            for (name, value) in &element.attributes {
                out.push(' ');
                out.push_str(name);
                out.push_str("=\"");
                // White space that isn't escaped would become spaces.
                let value = escape(value.as_str());
                let value = value.replace('\n', "&#10;").replace('\r', "&#13;");
                out.push_str(&value.replace('\t', "&#9;"));
                out.push('"');
            }
            out.push('>');
            for child in &element.children {
                write(child, false, out);
            }
            out.push_str("</");
            out.push_str(&element.name);
            out.push('>');
        }
    }
}

/// Reads XML whose elements are FHIR's; narratives are taken as they stand.
fn tree(text: &str) -> Result<Element, OperationOutcome> {
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    // The elements that are open.
    let mut open: Vec<Element> = Vec::new();
    // How deep in a narrative, and where it began.
    let mut narrative: Option<(usize, usize)> = None;
    let malformed = || broken("it is not well-formed");
    loop {
        let start = usize::try_from(reader.buffer_position()).map_err(|_| malformed())?;
        let (space, event) = reader.read_resolved_event().map_err(|_| malformed())?;
        if let Some((depth, from)) = &mut narrative {
            match event {
                Event::Start(_) => *depth += 1,
                Event::End(_) if *depth > 0 => *depth -= 1,
                Event::End(_) => {
                    let end = usize::try_from(reader.buffer_position()).map_err(|_| malformed())?;
                    let whole = text.get(*from..end).ok_or_else(malformed)?.to_owned();
                    narrative = None;
                    let holder = open.last_mut().ok_or_else(malformed)?;
                    holder.children.push(Node::Narrative(whole));
                }
                Event::Eof => return Err(malformed()),
                _ => {}
            }
            continue;
        }
        match event {
            Event::Start(tag) => {
                let space = match space {
                    ResolveResult::Bound(space) => space.0.to_owned(),
                    _ => FHIR.to_owned(),
                };
                if space == XHTML && !open.is_empty() {
                    narrative = Some((0, start));
                    continue;
                }
                if space != FHIR && !open.is_empty() {
                    return Err(broken("an element is not in FHIR's name space"));
                }
                if open.len() >= NESTING_MAX {
                    return Err(broken("more than 64 levels of nesting"));
                }
                open.push(element(&tag)?);
            }
            Event::End(_) => {
                let done = open.pop().ok_or_else(malformed)?;
                match open.last_mut() {
                    Some(holder) => holder.children.push(Node::Element(done)),
                    None => return Ok(done),
                }
            }
            Event::Text(words) => add_text(&mut open, &words),
            Event::CData(words) => add_text(&mut open, &words),
            Event::GeneralRef(entity) => {
                let whole = format!("&{};", &*entity);
                let words = unescape(&whole).map_err(|_| malformed())?;
                add_text(&mut open, &words);
            }
            Event::DocType(_) => return Err(broken("document types are refused")),
            Event::Eof => return Err(broken("it ends too early")),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::Empty(_) => {}
        }
    }
}

fn add_text(open: &mut [Element], words: &str) {
    let Some(holder) = open.last_mut() else {
        return;
    };
    match holder.children.last_mut() {
        Some(Node::Text(text)) => text.push_str(words),
        _ if words.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
        _ => holder.children.push(Node::Text(words.to_owned())),
    }
}

fn element(tag: &BytesStart<'_>) -> Result<Element, OperationOutcome> {
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| broken("an attribute is not well-formed"))?;
        let name = attribute.key.as_ref().to_owned();
        if name == "xmlns" || name.starts_with("xmlns:") {
            continue;
        }
        let value =
            unescape(&attribute.value).map_err(|_| broken("an attribute is not well-formed"))?;
        attributes.push((name, value.into_owned()));
    }
    Ok(Element {
        name: tag.local_name().as_ref().to_owned(),
        attributes,
        children: Vec::new(),
    })
}

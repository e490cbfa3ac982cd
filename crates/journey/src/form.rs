//! Files that go with a journey (scenarios, behaviour) as tables: their members, forms and meanings.
//!
//! As with the language itself, the reader that finds every mistake at its place and the JSON Schema are
//! made from the same tables. The language has tables of its own (`spec.rs`), because its forms are
//! others.

use crate::decode::Findings;
use crate::schema::DIALECT;
use crate::spec::START_ANCHOR;
use crate::time::{self, Moment};
use crate::yaml::{Content, Key, Node, Place};
use fhir::{ResourceType, suggestion};
use serde_json::{Map, Value, json};

/// The longest file that is read; a scenario for each way of the largest journey is a quarter of it.
const SOURCE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Form of a member's value.
#[derive(Debug)]
pub(crate) enum Form {
    /// Text of one line.
    Line,
    /// A length of time.
    Duration,
    /// A time: RFC 3339, or a moment that hangs on an anchor.
    Time,
    /// A time in RFC 3339.
    Instant,
    /// A share, from 0 to 1.
    Share,
    /// A number, zero or more.
    Amount,
    /// Any number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Anything.
    Any,
    /// Text or a list of texts: the steps that are named.
    Steps,
    /// A step's id.
    Step,
    /// The members of a FHIR resource.
    Fhir,
    /// One of these values (value, meaning).
    Choice(&'static [(&'static str, &'static str)]),
    /// A list.
    List(&'static Form),
    /// A map from names of this kind.
    Map(&'static str, &'static Form),
    /// An object.
    Table(&'static Table),
}

/// A member of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) needed: bool,
    pub(crate) doc: &'static str,
}

/// An object.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) members: &'static [Member],
    /// At most one of these members may be there.
    pub(crate) one_of: &'static [&'static str],
}

pub(crate) const fn needs(name: &'static str, form: Form, doc: &'static str) -> Member {
    Member {
        name,
        form,
        needed: true,
        doc,
    }
}
pub(crate) const fn takes(name: &'static str, form: Form, doc: &'static str) -> Member {
    Member {
        name,
        form,
        needed: false,
        doc,
    }
}

/// What the names in a file may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) steps: &'a [String],
    pub(crate) anchors: &'a [String],
}

/// Reads a file of a table. What is found is in the findings; the node is there when it is YAML.
pub(crate) fn read(
    findings: &mut Findings<'_>,
    table: &'static Table,
    known: Known<'_>,
) -> Option<Node> {
    let top = Place { line: 1, column: 1 };
    if findings.source.len() > SOURCE_BYTES_MAX {
        let message = format!("the file is longer than {SOURCE_BYTES_MAX} bytes");
        findings.error("J035", top, message);
        return None;
    }
    match Node::parse(findings.source) {
        Ok(root) => {
            let mut reader = Reader { findings, known };
            reader.table(&root, table, root.place);
            Some(root)
        }
        Err(error) => {
            let message = format!("this is no YAML: {}", error.message);
            findings.error("J001", error.place, message);
            None
        }
    }
}

struct Reader<'a, 'b> {
    findings: &'a mut Findings<'b>,
    known: Known<'a>,
}

impl Reader<'_, '_> {
    fn wrong(&mut self, node: &Node, name: &str, wanted: &str) {
        let message = format!("`{name}` must be {wanted}, not {}", node.kind());
        self.findings.error("J004", node.place, message);
    }

    fn twice(&mut self, members: &[(Key, Node)]) {
        for (place, (key, _)) in members.iter().enumerate() {
            let first = members[..place]
                .iter()
                .find(|(earlier, _)| earlier.name == key.name);
            if let Some((first, _)) = first {
                let message = format!(
                    "`{}` stands twice; the first is on line {}",
                    key.name, first.place.line
                );
                self.findings.error("J024", key.place, message);
            }
        }
    }

    fn table(&mut self, node: &Node, table: &'static Table, at: Place) {
        let Content::Map(members) = &node.content else {
            self.wrong(node, table.name, "a map");
            return;
        };
        self.twice(members);
        for (key, value) in members {
            let member = table.members.iter().find(|member| member.name == key.name);
            if let Some(member) = member {
                self.form(value, &member.form, member.name);
            } else {
                let names = || table.members.iter().map(|member| member.name);
                let near = suggestion(&key.name, names());
                let known: Vec<&str> = names().collect();
                let message = format!(
                    "`{}` is not known in {}{near} (known: {})",
                    key.name,
                    table.name,
                    known.join(", ")
                );
                self.findings.error("J002", key.place, message);
            }
        }
        for member in table.members {
            if member.needed && node.get(member.name).is_none() {
                let message = format!("{} needs `{}`: {}", table.name, member.name, member.doc);
                self.findings.error("J003", at, message);
            }
        }
        let there: Vec<&str> = table
            .one_of
            .iter()
            .copied()
            .filter(|name| node.get(name).is_some())
            .collect();
        if there.len() > 1 {
            let message = format!(
                "{} has {}, which don't go together; make one of each",
                table.name,
                there.join(" and ")
            );
            self.findings.error("J003", at, message);
        }
    }

    fn form(&mut self, node: &Node, form: &'static Form, name: &str) {
        match form {
            Form::Any => {}
            Form::Line => {
                let good = node
                    .text()
                    .is_some_and(|text| !text.trim().is_empty() && !text.trim().contains('\n'));
                if !good {
                    self.wrong(node, name, "text of one line");
                }
            }
            Form::Duration => self.parsed(node, name, "a duration such as `24h`", |text| {
                time::duration(text).map(drop)
            }),
            Form::Instant => self.parsed(
                node,
                name,
                "a time such as `2026-03-02T10:00:00Z`",
                |text| instant(text).map(drop),
            ),
            Form::Time => {
                let anchors = self.known.anchors;
                let wanted = "a time such as `start + 2d` or `2026-03-02T10:00:00Z`";
                self.parsed(node, name, wanted, |text| check_time(text, anchors));
            }
            Form::Share => self.number(node, name, "a share from 0 to 1", |value| {
                (0.0..=1.0).contains(&value)
            }),
            Form::Amount => {
                self.number(node, name, "a number, zero or more", |value| value >= 0.0);
            }
            Form::Number => self.number(node, name, "a number", f64::is_finite),
            Form::Flag => {
                if !matches!(node.content, Content::Bool(_)) {
                    self.wrong(node, name, "`true` or `false`");
                }
            }
            Form::Step => self.step(node, name),
            Form::Steps => match &node.content {
                Content::List(items) => items.iter().for_each(|item| self.step(item, name)),
                _ => self.step(node, name),
            },
            Form::Fhir => self.fhir(node, name),
            Form::Choice(values) => {
                let known = || values.iter().map(|(value, _)| *value);
                match node.text() {
                    Some(text) if known().any(|value| value == text) => {}
                    Some(text) => {
                        let near = suggestion(text, known());
                        let all: Vec<&str> = known().collect();
                        let message = format!(
                            "`{name}` can't be `{text}`{near} (one of {})",
                            all.join(", ")
                        );
                        self.findings.error("J004", node.place, message);
                    }
                    None => self.wrong(node, name, "text"),
                }
            }
            Form::List(inner) => match &node.content {
                Content::List(items) => {
                    for item in items {
                        self.form(item, inner, name);
                    }
                }
                _ => self.wrong(node, name, "a list"),
            },
            Form::Map(what, inner) => match &node.content {
                Content::Map(members) => {
                    self.twice(members);
                    for (key, value) in members {
                        if *what == "step" {
                            self.named(&key.name, key.place);
                        }
                        self.form(value, inner, &key.name);
                    }
                }
                _ => self.wrong(node, name, "a map"),
            },
            Form::Table(table) => self.table(node, table, node.place),
        }
    }

    fn parsed(
        &mut self,
        node: &Node,
        name: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<(), String>,
    ) {
        match node.text().map(parse) {
            Some(Ok(())) => {}
            Some(Err(message)) => {
                self.findings
                    .error("J009", node.place, format!("`{name}`: {message}"));
            }
            None => self.wrong(node, name, wanted),
        }
    }

    fn number(&mut self, node: &Node, name: &str, wanted: &str, good: impl Fn(f64) -> bool) {
        match node.content {
            Content::Number(value) if good(value) => {}
            _ => {
                let message = format!("`{name}` must be {wanted}");
                self.findings.error("J004", node.place, message);
            }
        }
    }

    fn step(&mut self, node: &Node, name: &str) {
        match node.text() {
            Some(text) => self.named(text, node.place),
            None => self.wrong(node, name, "a step's id"),
        }
    }

    fn named(&mut self, step: &str, place: Place) {
        if !self.known.steps.iter().any(|known| known == step) {
            let near = suggestion(step, self.known.steps.iter().map(String::as_str));
            let message = format!("there is no step `{step}`{near}");
            self.findings.error("J006", place, message);
        }
    }

    fn fhir(&mut self, node: &Node, name: &str) {
        if !matches!(node.content, Content::Map(_)) {
            self.wrong(node, name, "a map (a FHIR resource)");
            return;
        }
        if let Some(kind) = node.get("resourceType") {
            let known = kind.text().and_then(ResourceType::parse);
            if known.is_none() {
                let said = kind.text().unwrap_or_default();
                let near = suggestion(said, ResourceType::all().map(ResourceType::name));
                let message = format!("`{said}` is no FHIR R4 resource type{near}");
                self.findings.error("J004", kind.place, message);
            }
        }
    }
}

/// A time in RFC 3339.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| format!("`{text}` is no time; write it like `2026-03-02T10:00:00Z`"))
}

fn check_time(text: &str, anchors: &[String]) -> Result<(), String> {
    if instant(text).is_ok() {
        return Ok(());
    }
    let moment = Moment::parse(text)?;
    if moment.anchor == START_ANCHOR || anchors.contains(&moment.anchor) {
        return Ok(());
    }
    let near = suggestion(
        &moment.anchor,
        anchors.iter().map(String::as_str).chain([START_ANCHOR]),
    );
    Err(format!("there is no anchor `{}`{near}", moment.anchor))
}

/// A node as JSON, for the members of resources.
pub(crate) fn json_of(node: &Node) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::Bool(value) => json!(value),
        Content::Number(value) => number(*value),
        Content::Text(text) => json!(text),
        Content::List(items) => items.iter().map(json_of).collect(),
        Content::Map(members) => Value::Object(object_of(members)),
    }
}

fn object_of(members: &[(Key, Node)]) -> Map<String, Value> {
    members
        .iter()
        .map(|(key, value)| (key.name.clone(), json_of(value)))
        .collect()
}

/// A whole number stays one: FHIR tells integers from decimals by their digits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "only taken when nothing is cut off"
)]
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

/// The JSON Schema (2020-12) of a table.
pub(crate) fn schema(id: &str, title: &str, table: &'static Table) -> Value {
    let mut schema = json!({"$schema": DIALECT, "$id": id, "title": title});
    if let (Value::Object(schema), Value::Object(mut members)) = (&mut schema, table_schema(table))
    {
        schema.append(&mut members);
    }
    schema
}

fn table_schema(table: &'static Table) -> Value {
    let properties: Map<String, Value> = table
        .members
        .iter()
        .map(|member| {
            let mut value = form_schema(&member.form);
            value["description"] = json!(member.doc);
            (member.name.to_owned(), value)
        })
        .collect();
    let needed: Vec<&str> = table
        .members
        .iter()
        .filter(|member| member.needed)
        .map(|member| member.name)
        .collect();
    let mut value = json!({
        "description": table.doc, "type": "object", "properties": properties, "additionalProperties": false
    });
    if !needed.is_empty() {
        value["required"] = json!(needed);
    }
    value
}

fn form_schema(form: &'static Form) -> Value {
    const STEP: &str = "^[a-z][a-z0-9_]*$";
    match form {
        Form::Line | Form::Duration | Form::Time => json!({"type": "string", "minLength": 1}),
        Form::Instant => json!({"type": "string", "format": "date-time"}),
        Form::Share => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Form::Amount => json!({"type": "number", "minimum": 0}),
        Form::Number => json!({"type": "number"}),
        Form::Flag => json!({"type": "boolean"}),
        Form::Any => json!({}),
        Form::Step => json!({"type": "string", "pattern": STEP}),
        Form::Steps => json!({"anyOf": [
            {"type": "string", "pattern": STEP},
            {"type": "array", "items": {"type": "string", "pattern": STEP}}
        ]}),
        Form::Fhir => json!({"type": "object"}),
        Form::Choice(values) => {
            json!({"oneOf": values.iter().map(|(value, doc)| json!({"const": value, "description": doc})).collect::<Vec<_>>()})
        }
        Form::List(inner) => json!({"type": "array", "items": form_schema(inner)}),
        Form::Map(_, inner) => {
            json!({"type": "object", "additionalProperties": form_schema(inner)})
        }
        Form::Table(table) => table_schema(table),
    }
}

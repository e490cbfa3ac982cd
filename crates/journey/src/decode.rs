//! From YAML nodes to a definition: every member against the language's tables, every mistake found.

pub(crate) mod build;

use crate::Finding;
use crate::dates::Begins;
use crate::definition::Definition;
use crate::kinds::goes_outside;
use crate::languages;
use crate::spec::{self, Clearance, END, Field, Record, Shape};
use crate::template::Template;
use crate::time::{self, Moment};
use crate::units;
use crate::yaml::{Content, Key, Node, Place, inside};
use fhir::path::Expression;
use fhir::{ResourceType, nearest, suggestion};

/// Longest file that is read; a journey of 200 steps with long words is a third of this.
pub(crate) const SOURCE_BYTES_MAX: usize = 512 * 1024;
/// Most steps of one journey: more can't be read as a graph, and the engine's bound on moves of one
/// cause rests on it.
pub(crate) const STEPS_MAX: usize = 200;

/// Findings as they are gathered.
pub(crate) struct Findings<'a> {
    pub(crate) source: &'a str,
    pub(crate) list: Vec<Finding>,
}

impl Findings<'_> {
    pub(crate) fn error(&mut self, code: &str, place: Place, message: impl Into<String>) {
        self.push(code, true, place, message.into());
    }
    pub(crate) fn warning(&mut self, code: &str, place: Place, message: impl Into<String>) {
        self.push(code, false, place, message.into());
    }
    fn push(&mut self, code: &str, error: bool, place: Place, message: String) {
        self.list.push(Finding {
            code: code.to_owned(),
            error,
            line: place.line.max(1),
            column: place.column.max(1),
            message,
        });
    }
    pub(crate) fn failed(&self) -> bool {
        self.list.iter().any(|finding| finding.error)
    }
}

/// Reads a file. The definition is there when its form is right; whether it makes sense is for `check`.
pub(crate) fn decode(findings: &mut Findings<'_>) -> Option<(Node, Definition)> {
    let top = Place { line: 1, column: 1 };
    if findings.source.len() > SOURCE_BYTES_MAX {
        findings.error(
            "J035",
            top,
            format!("the file is longer than {SOURCE_BYTES_MAX} bytes; split the journey"),
        );
        return None;
    }
    let root = match Node::parse(findings.source) {
        Ok(root) => root,
        Err(error) => {
            findings.error(
                "J001",
                error.place,
                format!("this is no YAML: {}", error.message),
            );
            return None;
        }
    };
    let steps = root
        .get("steps")
        .map(|node| {
            node.members()
                .iter()
                .map(|(key, _)| key.name.clone())
                .collect()
        })
        .unwrap_or_default();
    let mut reader = Reader { findings, steps };
    reader.record(&root, &spec::JOURNEY, &[], root.place);
    reader.entry_form(&root);
    if reader.findings.failed() {
        return None;
    }
    let definition = reader.definition(&root);
    definition.map(|definition| (root, definition))
}

/// Reads a file of segments that journeys share, if its form is right.
pub(crate) fn segments_form(findings: &mut Findings<'_>) -> Option<Node> {
    let top = Place { line: 1, column: 1 };
    if findings.source.len() > SOURCE_BYTES_MAX {
        let words = format!("the file is longer than {SOURCE_BYTES_MAX} bytes");
        findings.error("J035", top, words);
        return None;
    }
    let root = match Node::parse(findings.source) {
        Ok(root) => root,
        Err(error) => {
            let words = format!("this is no YAML: {}", error.message);
            findings.error("J001", error.place, words);
            return None;
        }
    };
    let mut reader = Reader {
        findings,
        steps: Vec::new(),
    };
    reader.record(&root, &spec::SHARED, &[], root.place);
    (!reader.findings.failed()).then_some(root)
}

struct Reader<'a, 'b> {
    findings: &'a mut Findings<'b>,
    steps: Vec<String>,
}

fn no_language(text: &str) -> String {
    format!("`{text}` is no language: write a BCP 47 tag such as `es`, `pt-BR` or `zh-Hant`")
}

/// Ids of steps, questions, anchors and exits: they are names in FHIRPath, so no hyphen.
fn is_id(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && text.len() <= 60
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl Reader<'_, '_> {
    fn record(&mut self, node: &Node, record: &'static Record, more: &[&'static Field], at: Place) {
        let Content::Map(members) = &node.content else {
            let wanted: Vec<&str> = record
                .fields
                .iter()
                .filter(|field| field.required)
                .map(|field| field.name)
                .collect();
            self.findings.error(
                "J004",
                node.place,
                format!(
                    "{} must be a map{}, not {}",
                    record.name,
                    if wanted.is_empty() {
                        String::new()
                    } else {
                        format!(" with {}", wanted.join(", "))
                    },
                    node.kind()
                ),
            );
            return;
        };
        let fields: Vec<&'static Field> =
            record.fields.iter().chain(more.iter().copied()).collect();
        self.duplicates(members);
        for (key, value) in members {
            match fields.iter().find(|field| field.name == key.name) {
                Some(field) => self.shape(value, &field.shape, field.name),
                None => {
                    let near = suggestion(&key.name, fields.iter().map(|field| field.name));
                    let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                    self.findings.error(
                        "J002",
                        key.place,
                        format!(
                            "`{}` is not known in {}{near} (known: {})",
                            key.name,
                            record.name,
                            known.join(", ")
                        ),
                    );
                }
            }
        }
        for field in fields
            .iter()
            .filter(|field| field.required && node.get(field.name).is_none())
        {
            let code = match field.name {
                "purpose" => "J008",
                "at_most" => "J029",
                "due" => "J014",
                "give_up_after" => "J012",
                _ => "J003",
            };
            self.findings.error(
                code,
                at,
                format!("{} needs `{}`: {}", record.name, field.name, field.doc),
            );
        }
        if !record.one_of.is_empty() {
            let there: Vec<&str> = record
                .one_of
                .iter()
                .copied()
                .filter(|name| node.get(name).is_some())
                .collect();
            if there.len() != 1 {
                let what = if there.is_empty() {
                    "has none".to_owned()
                } else {
                    format!("has {}", there.join(" and "))
                };
                self.findings.error(
                    "J003",
                    at,
                    format!(
                        "{} needs exactly one of {}; it {what}",
                        record.name,
                        record.one_of.join(", ")
                    ),
                );
            }
        }
    }

    /// What starts a journey, and what belongs to that: more than the tables can say.
    fn entry_form(&mut self, root: &Node) {
        let Some(entry) = root.get("entry") else {
            return;
        };
        let has = |name: &str| entry.get(name).is_some();
        let starts = has("event") || has("date") || has("segment") || has("request");
        if !starts && matches!(entry.content, Content::Map(_)) {
            self.findings.error(
                "J003",
                entry.place,
                "`entry` needs `event`, `date`, `segment` or `request`: what starts the journey",
            );
        }
        if has("event")
            && let Some(node) = entry.get("date")
        {
            let words = "an `event` starts the journey or a `date`, not both: write two journeys, or give the other a `request`";
            self.findings.error("J070", node.place, words);
        }
        if has("date")
            && let Some(node) = entry.get("where")
        {
            let words = "beside `date` the condition stands in `date: where`";
            self.findings.error("J070", node.place, words);
        }
        for (name, needed_by) in [("where", &["event"][..]), ("anchors", &["event", "date"])] {
            for what in needed_by {
                if has(what) && !has(name) {
                    let words = format!("`entry` needs `{name}` beside `{what}`");
                    self.findings.error("J003", entry.place, words);
                }
            }
            if !has("event")
                && !has("date")
                && !has("segment")
                && has("request")
                && let Some(node) = entry.get(name)
            {
                let words = format!(
                    "`{name}` is about an event's resource, and requests alone start this journey; their times are in `request: asks`"
                );
                self.findings.error("J050", node.place, words);
            }
        }
    }

    fn duplicates(&mut self, members: &[(Key, Node)]) {
        for (place, (key, _)) in members.iter().enumerate() {
            if let Some((first, _)) = members[..place]
                .iter()
                .find(|(earlier, _)| earlier.name == key.name)
            {
                self.findings.error(
                    "J024",
                    key.place,
                    format!(
                        "`{}` stands twice; the first is on line {}. Rename or remove one",
                        key.name, first.place.line
                    ),
                );
            }
        }
    }

    fn wrong(&mut self, node: &Node, name: &str, wanted: &str) {
        let hint = match node.content {
            Content::Number(_) | Content::Bool(_) if wanted.contains("text") => {
                "; put it in quotes"
            }
            _ => "",
        };
        self.findings.error(
            "J004",
            node.place,
            format!("`{name}` must be {wanted}, not {}{hint}", node.kind()),
        );
    }

    fn text<'n>(&mut self, node: &'n Node, name: &str, wanted: &str) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            self.wrong(node, name, wanted);
        }
        text
    }

    fn shape(&mut self, node: &Node, shape: &'static Shape, name: &str) {
        match shape {
            Shape::Line => {
                if let Some(text) = self.text(node, name, "text of one line") {
                    if text.trim().is_empty() || text.contains('\n') || text.chars().count() > 300 {
                        self.findings.error("J004", node.place, format!("`{name}` must be one line of 1 to 300 characters"));
                    } else if name == "id" && !is_id(text) {
                        self.findings.error("J007", node.place, format!("`{text}` is no id: lower-case letters, digits and underscores, beginning with a letter"));
                    }
                }
            }
            Shape::Words(_) => {
                if let Some(text) = self.text(node, name, "text") {
                    if text.trim().is_empty() || text.chars().count() > 4000 {
                        self.findings.error("J004", node.place, format!("`{name}` must have 1 to 4,000 characters"));
                    }
                    if let Err((position, message)) = Template::parse(text) {
                        let place = inside(self.findings.source, node.place, text, position);
                        self.findings.error("J018", place, format!("`{name}`: {message}"));
                    }
                }
            }
            Shape::Name => {
                if let Some(text) = self.text(node, name, "text")
                    && (text.len() > 64 || !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
                {
                    self.findings.error("J007", node.place, format!("`{text}` is no {}: lower-case letters, digits and hyphens, beginning with a letter, at most 64", if name == "partner" { "partner's name" } else { "journey name" }));
                }
            }
            Shape::Duration => self.parsed(node, name, "a duration such as `24h`", "J009", |text| time::duration(text).map(drop)),
            Shape::Moment => self.parsed(node, name, "a moment such as `discharge + 2d`", "J009", |text| Moment::parse(text).map(drop)),
            Shape::Begins => self.parsed(node, name, "a moment such as `visit - 14d`", "J009", |text| Begins::parse(text).map(drop)),
            Shape::Span => self.parsed(node, name, "a length such as `12mo`", "J009", |text| Begins::span(text).map(drop)),
            Shape::Zone => self.parsed(node, name, "text", "J031", |text| time::zone(text).map(drop)),
            Shape::Clock => self.parsed(node, name, "a time of day such as `21:00`, in quotes", "J009", |text| trust::consent::time_of_day(text).map(drop)),
            Shape::Loinc => self.parsed(node, name, "a LOINC code as text", "J021", |text| {
                if units::is_loinc(text) { Ok(()) } else { Err(format!("`{text}` is no LOINC code: digits, a hyphen and the check digit that belongs to them, e.g. `29463-7`")) }
            }),
            Shape::Unit => self.parsed(node, name, "a UCUM unit as text", "J022", |text| {
                if units::is_unit(text) { Ok(()) } else { Err(format!("`{text}` is no unit that rules can be written in{}; use one of {}", suggestion(text, units::all_units()), units::all_units().collect::<Vec<_>>().join(", "))) }
            }),
            Shape::Resource => self.parsed(node, name, "a FHIR resource type", "J004", |text| {
                ResourceType::parse(text).map(drop).ok_or_else(|| format!("`{text}` is no FHIR R4 resource type{}", suggestion(text, ResourceType::all().map(ResourceType::name))))
            }),
            Shape::Path(_) => {
                if let Some(text) = self.text(node, name, "a FHIRPath expression as text")
                    && let Err(error) = Expression::compile(text)
                {
                    let place = inside(self.findings.source, node.place, text, error.position);
                    self.findings.error("J015", place, format!("`{name}` is no FHIRPath that Cairn can run: {}", error.message));
                }
            }
            Shape::Target => self.target(node, name),
            Shape::Integer(least, most) => match node.content {
                #[allow(clippy::cast_precision_loss, reason = "bounds are small")]
                Content::Number(value) if value.fract() == 0.0 && value >= *least as f64 && value <= *most as f64 => {}
                Content::Number(_) => self.findings.error("J004", node.place, format!("`{name}` must be a whole number from {least} to {most}")),
                _ => self.wrong(node, name, "a whole number"),
            },
            Shape::Positive => match node.content {
                Content::Number(value) if value > 0.0 && value.is_finite() => {}
                Content::Number(_) => self.findings.error("J023", node.place, format!("`{name}` must be greater than zero")),
                _ => self.wrong(node, name, "a number"),
            },
            Shape::Flag => {
                if !matches!(node.content, Content::Bool(_)) {
                    self.wrong(node, name, "`true` or `false`");
                }
            }
            Shape::Choice(values) => {
                if let Some(text) = self.text(node, name, "text")
                    && !values.iter().any(|(value, _)| *value == text)
                {
                    let known: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
                    let code = match name {
                        "purpose" => "J008",
                        "channels" => "J020",
                        _ => "J004",
                    };
                    self.findings.error(code, node.place, format!("`{name}` can't be `{text}`{} (one of {})", suggestion(text, known.iter().copied()), known.join(", ")));
                }
            }
            Shape::List(inner) => match &node.content {
                Content::List(items) if !items.is_empty() => {
                    for item in items {
                        self.shape(item, inner, name);
                    }
                }
                Content::List(_) => self.findings.error("J004", node.place, format!("`{name}` must have at least one item")),
                _ => self.wrong(node, name, "a list"),
            },
            Shape::Map(what, inner) => match &node.content {
                Content::Map(members) if !members.is_empty() => {
                    self.duplicates(members);
                    for (key, value) in members {
                        if !is_id(&key.name) {
                            self.findings.error("J007", key.place, format!("`{}` is no id for an {what}: lower-case letters, digits and underscores, beginning with a letter", key.name));
                        }
                        if let Shape::Record(record) = inner {
                            self.record(value, record, &[], key.place);
                        } else {
                            self.shape(value, inner, &key.name);
                        }
                    }
                }
                Content::Map(_) => self.findings.error("J004", node.place, format!("`{name}` must have at least one member")),
                _ => self.wrong(node, name, "a map"),
            },
            Shape::Language => self.parsed(node, name, "a language such as `es`", "J055", |text| {
                languages::tag(text).map(drop).ok_or_else(|| no_language(text))
            }),
            Shape::Languages(record) => match &node.content {
                Content::Map(members) if !members.is_empty() => {
                    self.duplicates(members);
                    for (key, value) in members {
                        if languages::tag(&key.name).is_none() {
                            self.findings.error("J055", key.place, no_language(&key.name));
                        }
                        self.record(value, record, &[], key.place);
                    }
                }
                Content::Map(_) => self.findings.error("J004", node.place, format!("`{name}` must have at least one member")),
                _ => self.wrong(node, name, "a map from languages"),
            },
            Shape::Record(record) => self.record(node, record, &[], node.place),
            Shape::TargetOr(record) => {
                if matches!(node.content, Content::Map(_)) {
                    self.record(node, record, &[], node.place);
                } else {
                    self.target(node, name);
                }
            }
            Shape::Steps => self.step_map(node),
        }
    }

    fn parsed(
        &mut self,
        node: &Node,
        name: &str,
        wanted: &str,
        code: &str,
        parse: impl Fn(&str) -> Result<(), String>,
    ) {
        if let Some(text) = self.text(node, name, wanted)
            && let Err(message) = parse(text)
        {
            self.findings
                .error(code, node.place, format!("`{name}`: {message}"));
        }
    }

    fn target(&mut self, node: &Node, name: &str) {
        let items = match &node.content {
            Content::List(items) if !items.is_empty() => items.as_slice(),
            Content::Text(_) => std::slice::from_ref(node),
            _ => {
                self.wrong(node, name, "a step's id, a list of them, or `end`");
                return;
            }
        };
        for (place, item) in items.iter().enumerate() {
            let Some(text) = self.text(item, name, "a step's id as text") else {
                continue;
            };
            if text == END {
                if items.len() > 1 {
                    self.findings.error(
                        "J006",
                        item.place,
                        "`end` can't stand in a list; leave it out",
                    );
                }
            } else if !self.steps.iter().any(|step| step == text) {
                let near = suggestion(text, self.steps.iter().map(String::as_str));
                self.findings.error(
                    "J006",
                    item.place,
                    format!("there is no step `{text}`{near}"),
                );
            } else if items[..place]
                .iter()
                .any(|earlier| earlier.text() == Some(text))
            {
                self.findings.error(
                    "J024",
                    item.place,
                    format!("`{text}` stands twice in one list"),
                );
            }
        }
    }

    fn step_map(&mut self, node: &Node) {
        let Content::Map(members) = &node.content else {
            self.wrong(node, "steps", "a map from step ids to steps");
            return;
        };
        if members.is_empty() || members.len() > STEPS_MAX {
            self.findings.error(
                "J035",
                node.place,
                format!("a journey has 1 to {STEPS_MAX} steps"),
            );
        }
        self.duplicates(members);
        for (key, step) in members {
            if !is_id(&key.name) || key.name == END {
                self.findings.error("J007", key.place, format!("`{}` can't be a step's id: lower-case letters, digits and underscores, beginning with a letter, and not `end`", key.name));
            }
            self.step(key, step);
        }
    }

    fn step(&mut self, key: &Key, node: &Node) {
        let Content::Map(members) = &node.content else {
            self.wrong(node, &key.name, "a map (a step)");
            return;
        };
        let kinds: Vec<&'static spec::Kind> = members
            .iter()
            .filter_map(|(member, _)| spec::kind(&member.name))
            .collect();
        let names: Vec<&str> = spec::KINDS.iter().map(|kind| kind.name).collect();
        let [kind] = kinds.as_slice() else {
            if kinds.is_empty() {
                let common = |name: &str| {
                    spec::STEP_COMMON.iter().any(|field| field.name == name)
                        || spec::KINDS
                            .iter()
                            .any(|kind| kind.ways.iter().any(|way| way.name == name))
                };
                let near = members
                    .iter()
                    .filter(|(member, _)| !common(&member.name))
                    .find_map(|(member, _)| {
                        nearest(&member.name, names.iter().copied()).map(|near| (member, near))
                    });
                let (place, hint) = near.map_or((key.place, String::new()), |(member, near)| {
                    (
                        member.place,
                        format!("; did you mean `{near}` where it says `{}`?", member.name),
                    )
                });
                self.findings.error(
                    "J005",
                    place,
                    format!(
                        "step `{}` has no kind{hint} (one of {})",
                        key.name,
                        names.join(", ")
                    ),
                );
            } else {
                let found: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
                self.findings.error(
                    "J005",
                    key.place,
                    format!(
                        "step `{}` has {} kinds ({}); make a step of each",
                        key.name,
                        found.len(),
                        found.join(", ")
                    ),
                );
            }
            return;
        };
        self.duplicates(members);
        for (member, value) in members {
            if member.name == kind.name {
                if let Shape::Record(record) = &kind.body {
                    self.record(value, record, &[], member.place);
                }
            } else if let Some(field) = spec::STEP_COMMON
                .iter()
                .chain(kind.ways)
                .find(|field| field.name == member.name)
            {
                self.shape(value, &field.shape, field.name);
            } else {
                let known: Vec<&str> = spec::STEP_COMMON
                    .iter()
                    .chain(kind.ways)
                    .map(|field| field.name)
                    .collect();
                let near = suggestion(&member.name, known.iter().copied());
                self.findings.error(
                    "J002",
                    member.place,
                    format!(
                        "`{}` is not known beside `{}`{near} (known: {})",
                        member.name,
                        kind.name,
                        known.join(", ")
                    ),
                );
            }
        }
        for field in spec::STEP_COMMON
            .iter()
            .chain(kind.ways)
            .filter(|field| field.required && node.get(field.name).is_none())
        {
            // A missing way out is the graph's fault, a missing title the step's.
            let code = if kind.ways.iter().any(|way| way.name == field.name) {
                "J011"
            } else {
                "J003"
            };
            self.findings.error(
                code,
                key.place,
                format!("step `{}` needs `{}`: {}", key.name, field.name, field.doc),
            );
        }
    }
}

/// Words of a file.
pub(crate) struct Said<'n> {
    pub(crate) node: &'n Node,
    pub(crate) clearance: Clearance,
    /// The language that they are translated to; the journey's own where it is none.
    pub(crate) language: Option<&'n str>,
}

/// The words with their clearance and place, for the flow of PHI.
pub(crate) fn words<'n>(
    node: &'n Node,
    shape: &'static Shape,
    language: Option<&'n str>,
    found: &mut Vec<Said<'n>>,
) {
    match shape {
        Shape::Words(clearance) => found.push(Said {
            node,
            clearance: *clearance,
            language,
        }),
        Shape::Record(record) => words_of(node, record, language, found),
        Shape::List(inner) => node
            .items()
            .iter()
            .for_each(|item| words(item, inner, language, found)),
        Shape::Languages(record) => {
            for (key, translation) in node.members() {
                words_of(translation, record, Some(&key.name), found);
            }
        }
        _ => {}
    }
}

/// The lines of plain text that people read, which take no variables, with the names of their members.
pub(crate) fn lines<'n>(
    (name, node): (&str, &'n Node),
    shape: &'static Shape,
    found: &mut Vec<(String, &'n Node)>,
) {
    match shape {
        Shape::Line => found.push((name.to_owned(), node)),
        // A partner's machine reads these, and braces may be its own.
        Shape::Record(record) if goes_outside(record) => {}
        Shape::Record(record) | Shape::TargetOr(record) => lines_of(node, record.fields, found),
        Shape::List(inner) => node
            .items()
            .iter()
            .for_each(|item| lines((name, item), inner, found)),
        Shape::Map(_, inner) => node
            .members()
            .iter()
            .for_each(|(key, value)| lines((key.name.as_str(), value), inner, found)),
        Shape::Languages(record) => node
            .members()
            .iter()
            .for_each(|(_, translation)| lines_of(translation, record.fields, found)),
        Shape::Steps => {
            for (_, step) in node.members() {
                lines_of(step, spec::STEP_COMMON, found);
                let mut members = step.members().iter();
                let body = members.find_map(|(key, body)| Some((body, spec::kind(&key.name)?)));
                if let Some((body, kind)) = body {
                    lines((kind.name, body), &kind.body, found);
                }
            }
        }
        _ => {}
    }
}

fn lines_of<'n>(node: &'n Node, fields: &'static [Field], found: &mut Vec<(String, &'n Node)>) {
    for (key, value) in node.members() {
        if let Some(field) = fields.iter().find(|field| field.name == key.name) {
            lines((field.name, value), &field.shape, found);
        }
    }
}

fn words_of<'n>(
    node: &'n Node,
    record: &'static Record,
    language: Option<&'n str>,
    found: &mut Vec<Said<'n>>,
) {
    for (key, value) in node.members() {
        if let Some(field) = record.fields.iter().find(|field| field.name == key.name) {
            words(value, &field.shape, language, found);
        }
    }
}

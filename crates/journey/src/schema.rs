//! The JSON Schema and the reference page, made from the language's tables.

use crate::kinds::call_table::BESIDE_A_CONNECTOR;
use crate::spec::{self, END, Field, Record, Shape};
use crate::{template, units};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// JSON Schema as of 2020-12.
pub(crate) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The form of a language tag; which tags mean something is for the checker.
const LANGUAGE: &str = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{2,8})*$";

/// The language as JSON Schema (2020-12), for completion and checks in an editor.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = record(&spec::JOURNEY, &[], &mut definitions);
    let kinds: Vec<Value> = spec::KINDS
        .iter()
        .map(|kind| {
            let mut properties = Map::new();
            let mut required: Vec<&str> = vec![kind.name];
            properties.insert(kind.name.to_owned(), described(shape(&kind.body, &mut definitions), kind.doc));
            for field in spec::STEP_COMMON.iter().chain(kind.ways) {
                properties.insert(field.name.to_owned(), described(shape(&field.shape, &mut definitions), field.doc));
                if field.required {
                    required.push(field.name);
                }
            }
            json!({"title": kind.name, "description": kind.doc, "type": "object", "properties": properties, "required": required, "additionalProperties": false})
        })
        .collect();
    definitions.insert("step".to_owned(), json!({"description": "A step: exactly one kind, its ways out, and its titles.", "oneOf": kinds}));
    definitions.insert(
        "target".to_owned(),
        json!({
            "description": "Where to go: a step's id, several to go on side by side, or `end`, which ends the branch.",
            "anyOf": [
                {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
                {"type": "array", "items": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}, "minItems": 1, "uniqueItems": true}
            ]
        }),
    );
    let mut schema =
        json!({"$schema": DIALECT, "$id": "urn:cairn:schema:journey", "title": "Cairn journey"});
    if let (Value::Object(schema), Value::Object(members)) = (&mut schema, &mut root) {
        schema.append(members);
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

/// The form of files of segments that journeys share (`segments.yaml`) as JSON Schema (2020-12).
#[must_use]
pub fn segments_schema() -> Value {
    shared_schema(&spec::SHARED)
}

/// The form of files of connectors that journeys share (`connectors.yaml`) as JSON Schema (2020-12).
#[must_use]
pub fn connectors_schema() -> Value {
    shared_schema(&spec::SHARED_CONNECTORS)
}

fn shared_schema(of: &'static Record) -> Value {
    let mut definitions = Map::new();
    let mut root = record(of, &[], &mut definitions);
    let name = of.name;
    let mut schema = json!({"$schema": DIALECT, "$id": format!("urn:cairn:schema:{name}"), "title": format!("Cairn {name}")});
    if let (Value::Object(schema), Value::Object(members)) = (&mut schema, &mut root) {
        schema.append(members);
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema
}

fn described(mut value: Value, doc: &str) -> Value {
    // Beside `$ref`, 2020-12 allows other members, so each place can say what it is for.
    if let Value::Object(members) = &mut value {
        members.insert("description".to_owned(), json!(doc));
    }
    value
}

fn record(
    record: &'static Record,
    more: &'static [Field],
    definitions: &mut Map<String, Value>,
) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in record.fields.iter().chain(more) {
        properties.insert(
            field.name.to_owned(),
            described(shape(&field.shape, definitions), field.doc),
        );
        if field.required {
            required.push(field.name);
        }
    }
    let mut value = json!({"description": record.doc, "type": "object", "properties": properties, "additionalProperties": false});
    if let Value::Object(members) = &mut value {
        if !required.is_empty() {
            members.insert("required".to_owned(), json!(required));
        }
        if record.name == spec::ENTRY {
            let either = [
                vec!["event", "where", "anchors"],
                vec!["date", "anchors"],
                vec!["segment"],
                vec!["request"],
            ];
            let either = either.map(|names| json!({"required": names}));
            members.insert("anyOf".to_owned(), either.into());
        }
        if !record.one_of.is_empty() {
            let is_call = record.name == spec::CALL;
            let names = record.one_of.iter();
            let each = names.map(|name| match *name {
                // A connector may name the partner itself, and says all that doesn't stand beside it.
                "path" | "operation" if is_call => {
                    let others = ["connector", "with"].map(|name| json!({"required": [name]}));
                    json!({"required": ["partner", name], "not": {"anyOf": others}})
                }
                "connector" if is_call => {
                    let fields = record.fields.iter();
                    let others = fields.filter(|field| !BESIDE_A_CONNECTOR.contains(&field.name));
                    let others = others.map(|field| json!({"required": [field.name]}));
                    json!({"required": [name], "not": {"anyOf": others.collect::<Vec<_>>()}})
                }
                name => json!({"required": [name]}),
            });
            members.insert("oneOf".to_owned(), each.collect());
        }
    }
    value
}

fn defined(inner: &'static Record, definitions: &mut Map<String, Value>) -> Value {
    let name = inner.name.replace(' ', "_");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let value = record(inner, &[], definitions);
        definitions.insert(name.clone(), value);
    }
    json!({"$ref": format!("#/$defs/{name}")})
}

fn shape(shape_of: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape_of {
        Shape::Line => {
            json!({"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^\\n]*$"})
        }
        Shape::Words(_) => json!({"type": "string", "minLength": 1, "maxLength": 4000}),
        Shape::Path(_) => json!({"type": "string", "minLength": 1}),
        Shape::Name => json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$"}),
        Shape::Duration => {
            json!({"type": "string", "pattern": "^([0-9]+[mhdwMHDW])+$|^P.*$", "examples": ["24h", "2d", "1d12h"]})
        }
        Shape::Moment => {
            json!({"type": "string", "examples": ["discharge + 2d", "discharge + 2d at 09:00", "start + 30d"]})
        }
        Shape::Begins => {
            json!({"type": "string", "examples": ["visit - 14d", "visit - 14d at 09:00", "birth + 65y at 09:00", "birth"]})
        }
        Shape::Span => {
            json!({"type": "string", "pattern": "^([0-9]+(y|mo|w|d|h|m))+$", "examples": ["12mo", "1y", "90d", "36h"]})
        }
        Shape::Clock => {
            json!({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "examples": ["21:00"]})
        }
        Shape::Zone => {
            json!({"type": "string", "examples": ["UTC", "Europe/London", "America/New_York"]})
        }
        Shape::Loinc => json!({"type": "string", "pattern": "^[0-9]{1,7}-[0-9]$"}),
        Shape::Unit => json!({"enum": units::all_units().collect::<Vec<_>>()}),
        Shape::Resource => json!({"type": "string", "pattern": "^[A-Z][A-Za-z]+$"}),
        Shape::Target => json!({"$ref": "#/$defs/target"}),
        Shape::Integer(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::Positive => json!({"type": "number", "exclusiveMinimum": 0}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Choice(values) => {
            json!({"oneOf": values.iter().map(|(value, doc)| json!({"const": value, "description": doc})).collect::<Vec<_>>()})
        }
        Shape::List(inner) => {
            json!({"type": "array", "minItems": 1, "items": shape(inner, definitions)})
        }
        Shape::Map(_, inner) => {
            json!({"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"}, "additionalProperties": shape(inner, definitions)})
        }
        Shape::Language => {
            json!({"type": "string", "pattern": LANGUAGE, "examples": ["en", "es", "pt-BR"]})
        }
        Shape::Languages(inner) => {
            json!({"type": "object", "minProperties": 1, "propertyNames": {"pattern": LANGUAGE}, "additionalProperties": defined(inner, definitions)})
        }
        Shape::Record(inner) => defined(inner, definitions),
        Shape::TargetOr(inner) => {
            json!({"anyOf": [{"$ref": "#/$defs/target"}, defined(inner, definitions)]})
        }
        Shape::Steps => {
            json!({"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"}, "additionalProperties": {"$ref": "#/$defs/step"}})
        }
    }
}

/// The reference page of the language (`docs/journeys/reference.md`), in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Language reference\n\nMade from the language's tables; a test keeps this page equal to them. The same tables make \
         [journey.schema.json](journey.schema.json). New here? Read the [guide](guide.md) first. What the checker says is explained in [checks.md](checks.md).\n\n\
         A journey is one YAML file. Its last part, `steps`, is a map from ids to steps; a step has a `title`, exactly one *kind* with its settings, and beside the kind its *ways out*.\n",
    );
    let mut shown: Vec<&str> = Vec::new();
    for record in spec::records() {
        section(&mut page, record, "##", &mut shown);
    }
    page.push_str("\n## Steps\n\nEvery step has:\n\n");
    table(&mut page, spec::STEP_COMMON);
    let _ = writeln!(
        page,
        "\nA way out names a step's id, a list of ids that go on side by side, or `{END}`, which ends the branch. When every branch has ended, the journey is completed."
    );
    for kind in spec::KINDS {
        let _ = write!(
            page,
            "\n### `{}`\n\n{}\n\n```yaml\n{}```\n\n",
            kind.name, kind.doc, kind.example
        );
        if let Shape::Record(body) = &kind.body {
            table(&mut page, body.fields);
            one_of(&mut page, body);
            if !kind.ways.is_empty() {
                page.push_str("\nWays out:\n\n");
                table(&mut page, kind.ways);
            }
            for field in body.fields.iter().chain(kind.ways) {
                if let Some(inner) = spec::record_in(&field.shape) {
                    section(&mut page, inner, "####", &mut shown);
                }
            }
        }
    }
    page.push_str("\n## Words and variables\n\nIn words, `{name|fallback}` stands for a value, and the fallback for when there is none. A brace that is meant is doubled. Each variable has a data class; PHI never goes into an open channel.\n\n| variable | class | meaning |\n|---|---|---|\n");
    for (name, class, _, meaning) in template::VARIABLES {
        let class = match class {
            template::Class::Link => "link",
            template::Class::Phi => "PHI",
        };
        let _ = writeln!(page, "| `{name}` | {class} | {meaning} |");
    }
    page.push_str(
        "| `step.member` | PHI | What the journey has learnt at a step, see below. |\n\
         | `anchor.day`, `anchor.time` | PHI | Day and time of day of an anchor (`surgery.day`), in the journey's time zone, as the anchor is when the message is made. Each needs a fallback. A message that waits for its hour keeps the day that it was made with. |\n\n## What conditions can name\n\nA `when` is FHIRPath over what the journey has learnt, one object per step:\n\n\
         | step kind | members |\n|---|---|\n| `ask` | each question's id, e.g. `symptoms.breathless`, and each score's |\n| `task` | `outcome` |\n| `observe` | of the newest firing: `rise`, `from`, `to`, `unit`, `hours`; of a mean `mean`, `readings`, `unit`, `hours`; of a silence `hours` |\n\
         | `goal` | `reached` |\n| `check` | `holds` |\n| `split` | `arm` |\n| `repeat` | `rounds`: how many have begun |\n| `book` | `status`, `day` |\n| `send` | `delivered_by` |\n| `call` | `status`, and what its `learns` names |\n| `journey` | `ended` |\n\nWhat each may be is known, and the checker holds conditions to it: a yes-no question is `true` or `false`, a choice one of its options, an `outcome` one of those that the task names (or `done`, `not done`, `overdue`, `not_confirmed`), an `arm` one of the split's. What a partner answers, and how another journey ended, may be anything.\n\nIn `where` of `exits`, `wait`, `goal` and `check`, the focus is the event's resource; `%entry.id` is the id of the resource that started the journey, and `%entry.NAME` the time of an anchor.\n\n\
         ## Durations and moments\n\n`90m`, `24h`, `2d`, `1w`, sums such as `1d12h`, and the ISO 8601 forms (`PT24H`, `P2D`). A moment is `ANCHOR`, `ANCHOR + DURATION` or `ANCHOR - DURATION`; with `at HH:MM` the days are counted in the journey's time zone. `begins` of a date knows years and months besides (`birth + 65y`, `seen + 6mo`) and counts by the calendar of the patient's time zone; its hours and minutes are lengths of time.\n",
    );
    page
}

fn section(page: &mut String, record: &'static Record, level: &str, shown: &mut Vec<&'static str>) {
    if shown.contains(&record.name) {
        return;
    }
    shown.push(record.name);
    let _ = write!(page, "\n{level} {}\n\n{}\n\n", record.name, record.doc);
    table(page, record.fields);
    one_of(page, record);
}

fn one_of(page: &mut String, record: &Record) {
    if !record.one_of.is_empty() {
        let names: Vec<String> = record
            .one_of
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let _ = writeln!(page, "\nExactly one of {} is given.", names.join(", "));
    }
}

fn table(page: &mut String, fields: &[Field]) {
    page.push_str("| member | value | meaning |\n|---|---|---|\n");
    for field in fields {
        let needed = if field.required { " (needed)" } else { "" };
        let _ = writeln!(
            page,
            "| `{}`{needed} | {} | {} |",
            field.name,
            say(&field.shape),
            field.doc.replace('|', "\\|")
        );
    }
}

fn say(shape: &Shape) -> String {
    match shape {
        Shape::Line => "text".into(),
        Shape::Words(spec::Clearance::Closed) => "words, may hold PHI".into(),
        Shape::Words(spec::Clearance::Open | spec::Clearance::Spoken) => "words without PHI".into(),
        Shape::Name => "`lower-case-name`".into(),
        Shape::Duration => "duration".into(),
        Shape::Moment => "moment".into(),
        Shape::Begins => "moment, in years (`y`) and months (`mo`) too".into(),
        Shape::Span => "length of time, in years (`y`) and months (`mo`) too".into(),
        Shape::Path(spec::Focus::Resource) => "FHIRPath on the resource".into(),
        Shape::Path(spec::Focus::Facts) => "FHIRPath on what the journey has learnt".into(),
        Shape::Path(spec::Focus::Answer) => "FHIRPath on the answer".into(),
        Shape::Target => "step, list of steps, or `end`".into(),
        Shape::Zone => "time zone".into(),
        Shape::Clock => "time of day, `\"HH:MM\"`".into(),
        Shape::Loinc => "LOINC code".into(),
        Shape::Unit => "UCUM unit".into(),
        Shape::Resource => "FHIR resource type".into(),
        Shape::Integer(least, most) => format!("whole number, {least} to {most}"),
        Shape::Positive => "number above 0".into(),
        Shape::Flag => "`true` or `false`".into(),
        Shape::Choice(values) => values
            .iter()
            .map(|(value, doc)| format!("`{value}` ({})", doc.trim_end_matches('.')))
            .collect::<Vec<_>>()
            .join("; "),
        Shape::List(inner) => format!("list of: {}", say(inner)),
        Shape::Map(what, inner) => format!("map from {what} to: {}", say(inner)),
        Shape::Language => "language (BCP 47)".into(),
        Shape::Languages(record) => format!("map from language (BCP 47) to: {}", record.name),
        Shape::Record(record) => record.name.to_owned(),
        Shape::TargetOr(record) => format!("step, or {}", record.name),
        Shape::Steps => "map from step id to step".into(),
    }
}

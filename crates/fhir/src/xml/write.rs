//! JSON to XML.
use super::FHIR;
use super::read::is_attribute;
use crate::facts::{Structure, TypeId, structures};
use crate::json::NESTING_MAX;
use crate::{IssueCode, OperationOutcome, ResourceType};
use serde_json::{Map, Value};

/// Writes a resource, its elements in the order of their definitions.
///
/// # Errors
/// Where the JSON has what XML has no place for: a member that FHIR doesn't know, a value of the wrong
/// JSON type, a character that XML 1.0 can't hold, a narrative that isn't XHTML. The path is named, the
/// content isn't. Nothing is left out instead.
pub fn write(resource: &Value) -> Result<String, OperationOutcome> {
    written(resource, false)
}

/// As [`write`], each element in a line of its own.
///
/// # Errors
/// As [`write`].
pub fn write_pretty(resource: &Value) -> Result<String, OperationOutcome> {
    written(resource, true)
}

fn written(resource: &Value, pretty: bool) -> Result<String, OperationOutcome> {
    let mut writer = Writer {
        out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>"),
        path: Vec::new(),
        pretty,
        depth: 0,
    };
    writer.resource(resource, 0)?;
    Ok(writer.out)
}

struct Writer {
    out: String,
    path: Vec<String>,
    pretty: bool,
    /// Elements that are open.
    depth: usize,
}

impl Writer {
    fn error(&self, words: &str) -> OperationOutcome {
        let path: Vec<String> = self
            .path
            .iter()
            .map(|name| {
                name.chars()
                    .filter(char::is_ascii_alphanumeric)
                    .take(64)
                    .collect()
            })
            .collect();
        OperationOutcome::error(
            IssueCode::NotSupported,
            format!("{} can't be written as XML: {words}", path.join(".")),
        )
    }

    fn resource(&mut self, value: &Value, level: usize) -> Result<(), OperationOutcome> {
        let name = value
            .get("resourceType")
            .and_then(Value::as_str)
            .and_then(ResourceType::parse);
        let known =
            name.and_then(|kind| structures().find(kind.name()).map(|id| (kind.name(), id)));
        let (Some((name, id)), Value::Object(members)) = (known, value) else {
            return Err(self.error("it is no resource of FHIR R4"));
        };
        self.path.push(name.to_owned());
        self.open(name);
        if level == 0 {
            self.out.push_str(" xmlns=\"");
            self.out.push_str(FHIR);
            self.out.push('"');
        }
        self.body(name, id, members, level)?;
        self.path.pop();
        Ok(())
    }

    /// The rest of an element whose start tag is open: attributes, elements, end.
    fn body(
        &mut self,
        name: &str,
        kind: TypeId,
        members: &Map<String, Value>,
        level: usize,
    ) -> Result<(), OperationOutcome> {
        if level >= NESTING_MAX {
            return Err(self.error("it is nested too deeply"));
        }
        let structure = structures().get(kind);
        for name in ["id", "url"] {
            if let Some(value) = members.get(name).filter(|_| is_attribute(structure, name)) {
                let Some(text) = value.as_str() else {
                    return Err(self.error(&format!("`{name}` is no text")));
                };
                self.attribute(name, text)?;
            }
        }
        for member in members.keys() {
            self.known(structure, member)?;
        }
        self.out.push('>');
        let opened = self.out.len();
        for element in &structure.elements {
            if is_attribute(structure, element.name) {
                continue;
            }
            if element.choice.is_empty() {
                self.member(element.name, element.types[0], members, level)?;
            }
            for (member, kind) in element.choice.iter().zip(&element.types) {
                self.member(member, *kind, members, level)?;
            }
        }
        if self.out.len() == opened {
            self.out.pop();
            self.close();
        } else {
            self.end(name);
        }
        Ok(())
    }

    fn known(&mut self, structure: &Structure, member: &str) -> Result<(), OperationOutcome> {
        let plain = member.strip_prefix('_').unwrap_or(member);
        let found = structure
            .member(plain)
            .map(|(_, kind)| structures().get(kind));
        let fine = match found {
            Some(kind) if plain.len() < member.len() => {
                kind.is_primitive() && !is_attribute(structure, plain)
            }
            Some(_) => true,
            None => member == "resourceType" && structure.element("meta").is_some(),
        };
        if fine {
            return Ok(());
        }
        self.path.push(member.to_owned());
        Err(self.error(&format!("it is no element of {}", structure.name)))
    }

    /// A member, which may be many elements, or none.
    fn member(
        &mut self,
        name: &str,
        kind: TypeId,
        members: &Map<String, Value>,
        level: usize,
    ) -> Result<(), OperationOutcome> {
        let value = members.get(name);
        let structure = structures().get(kind);
        let extra = structure
            .is_primitive()
            .then(|| members.get(&format!("_{name}")))
            .flatten();
        if value.is_none() && extra.is_none() {
            return Ok(());
        }
        self.path.push(name.to_owned());
        fn list(value: Option<&Value>) -> &[Value] {
            match value {
                Some(Value::Array(items)) => items,
                Some(value) => std::slice::from_ref(value),
                None => &[],
            }
        }
        let (values, extras) = (list(value), list(extra));
        if values.is_empty() && extras.is_empty() {
            return Err(self.error("it is an empty array"));
        }
        for place in 0..values.len().max(extras.len()) {
            let extra = extras.get(place).filter(|extra| !extra.is_null());
            match values.get(place).unwrap_or(&Value::Null) {
                Value::Null if extra.is_none() => return Err(self.error("it is null")),
                value if structure.name == "xhtml" => self.narrative(value)?,
                value if structure.is_primitive() => {
                    self.primitive(name, structure, value, extra, level)?;
                }
                value if structure.name == "Resource" => {
                    self.open(name);
                    self.out.push('>');
                    self.resource(value, level + 1)?;
                    self.end(name);
                }
                Value::Object(inner) => {
                    self.open(name);
                    self.body(name, kind, inner, level + 1)?;
                }
                _ => {
                    return Err(self.error(&format!(
                        "it is no object, but its type is {}",
                        structure.name
                    )));
                }
            }
        }
        self.path.pop();
        Ok(())
    }

    fn primitive(
        &mut self,
        name: &str,
        structure: &Structure,
        value: &Value,
        extra: Option<&Value>,
        level: usize,
    ) -> Result<(), OperationOutcome> {
        self.open(name);
        let empty = Map::new();
        let extra = match extra {
            Some(Value::Object(extra)) => extra,
            Some(_) => return Err(self.error("beside it is no object with id and extensions")),
            None => &empty,
        };
        if let Some(known) = extra
            .keys()
            .find(|name| !matches!(name.as_str(), "id" | "extension"))
        {
            let words = format!(
                "`{}` has no place beside a primitive value",
                known.escape_debug()
            );
            return Err(self.error(&words));
        }
        if let Some(id) = extra.get("id") {
            let Some(id) = id.as_str() else {
                return Err(self.error("its `id` is no text"));
            };
            self.attribute("id", id)?;
        }
        let fits = match structure.name {
            "boolean" => value.is_boolean(),
            "integer" | "positiveInt" | "unsignedInt" | "decimal" => value.is_number(),
            _ => value.is_string(),
        };
        match value {
            Value::Null => {}
            _ if !fits => {
                return Err(self.error(&format!(
                    "it has the wrong JSON type for {}",
                    structure.name
                )));
            }
            Value::String(text) => self.attribute("value", text)?,
            Value::Number(number) => self.attribute("value", number.as_str())?,
            _ => self.attribute(
                "value",
                if *value == Value::Bool(true) {
                    "true"
                } else {
                    "false"
                },
            )?,
        }
        let Some(extensions) = extra.get("extension") else {
            self.close();
            return Ok(());
        };
        let (Value::Array(extensions), Some(kind)) = (extensions, structures().find("Extension"))
        else {
            return Err(self.error("its extensions are no array"));
        };
        self.out.push('>');
        for extension in extensions {
            let Value::Object(inner) = extension else {
                return Err(self.error("an extension of it is no object"));
            };
            self.open("extension");
            self.body("extension", kind, inner, level + 1)?;
        }
        self.end(name);
        Ok(())
    }

    /// A narrative goes out as it came in, if it is one element that is well-formed by itself.
    fn narrative(&mut self, value: &Value) -> Result<(), OperationOutcome> {
        let text = value.as_str().unwrap_or("").trim();
        if !super::read::is_narrative(text) {
            return Err(self.error("it is no XHTML in a `div` with its name space"));
        }
        self.line();
        self.out.push_str(text);
        Ok(())
    }

    /// Where an element begins or ends: in a line of its own if that is wanted, and the first always.
    fn line(&mut self) {
        if self.pretty || self.out.ends_with("?>") {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", self.depth));
        }
    }

    /// The beginning of a start tag.
    fn open(&mut self, name: &str) {
        self.line();
        self.depth += 1;
        self.out.push('<');
        self.out.push_str(name);
    }

    /// The end of a start tag that is an end tag, too.
    fn close(&mut self) {
        self.depth -= 1;
        self.out.push_str("/>");
    }

    /// The end tag.
    fn end(&mut self, name: &str) {
        self.depth -= 1;
        self.line();
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), OperationOutcome> {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        for c in value.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                // Plain ones would come back as spaces.
                '\n' => self.out.push_str("&#10;"),
                '\r' => self.out.push_str("&#13;"),
                '\t' => self.out.push_str("&#9;"),
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                    return Err(self.error("it has a character that XML can't hold"));
                }
                _ => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}

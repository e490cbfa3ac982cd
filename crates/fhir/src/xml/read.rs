//! XML to JSON.
use super::{FHIR, XHTML};
use crate::facts::{Structure, TypeId, structures};
use crate::json::NESTING_MAX;
use crate::{IssueCode, OperationOutcome, ResourceType};
use quick_xml::NsReader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use serde_json::{Map, Number, Value};

/// Parses a resource. The members come in the order of the elements.
///
/// # Errors
/// What is wrong and in which line, without content: no XML, a document type, another name space, an
/// element or attribute that FHIR doesn't know there, text between elements, a value that isn't of its
/// element's type in JSON (`boolean`, numbers), more than 64 levels.
pub fn parse(text: &[u8]) -> Result<Value, OperationOutcome> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let words = format!(
            "not XML that FHIR allows: no UTF-8 at byte {}",
            error.valid_up_to()
        );
        OperationOutcome::error(IssueCode::Structure, words)
    })?;
    let mut xml = NsReader::from_str(text);
    xml.config_mut().expand_empty_elements = true;
    let mut reader = Reader { xml, text };
    let Next::Start(root) = reader.next()? else {
        return Err(reader.error("there is no element"));
    };
    let value = reader.resource(&root, 0)?;
    match reader.next()? {
        Next::Eof => Ok(value),
        _ => Err(reader.error("there is something after the resource")),
    }
}

struct Reader<'a> {
    xml: NsReader<&'a [u8]>,
    text: &'a str,
}

/// The start of an element.
struct Tag {
    name: String,
    is_narrative: bool,
    attributes: Vec<(String, String)>,
    /// Where it begins in the text.
    start: usize,
}

enum Next {
    Start(Tag),
    /// The end of the element that is read.
    End,
    /// The end of the text.
    Eof,
}

/// What a member holds so far: values, and beside each its id and extensions.
struct Member {
    name: String,
    many: bool,
    primitive: bool,
    values: Vec<(Value, Option<Value>)>,
}

impl Reader<'_> {
    fn at(&self) -> usize {
        usize::try_from(self.xml.buffer_position()).unwrap_or(usize::MAX)
    }

    fn error(&self, words: &str) -> OperationOutcome {
        let before = &self.text.as_bytes()[..self.at().min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        OperationOutcome::error(
            IssueCode::Structure,
            format!("not XML that FHIR allows: {words} (line {line})"),
        )
    }

    /// The next element or end; white space, comments and processing instructions are passed over.
    fn next(&mut self) -> Result<Next, OperationOutcome> {
        loop {
            let start = self.at();
            let Ok((space, event)) = self.xml.read_resolved_event() else {
                // The parser's words may hold names from the text.
                return Err(self.error("it is not well-formed"));
            };
            let wrong = match event {
                Event::Start(tag) => {
                    let space = match space {
                        ResolveResult::Bound(space) => space.0.to_owned(),
                        _ => String::new(),
                    };
                    return self.tag(&tag.into_owned(), &space, start).map(Next::Start);
                }
                Event::End(_) => return Ok(Next::End),
                Event::Eof => return Ok(Next::Eof),
                Event::Text(text) if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {
                    continue;
                }
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => continue,
                Event::DocType(_) => "document types are refused",
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    "there is text between elements"
                }
                Event::Empty(_) => "an element is neither begun nor ended",
            };
            return Err(self.error(wrong));
        }
    }

    /// The next element within the one that is read, or `None` at its end.
    fn child(&mut self) -> Result<Option<Tag>, OperationOutcome> {
        match self.next()? {
            Next::Start(tag) => Ok(Some(tag)),
            Next::End => Ok(None),
            Next::Eof => Err(self.error("it ends too early")),
        }
    }

    fn tag(
        &self,
        tag: &BytesStart<'_>,
        space: &str,
        start: usize,
    ) -> Result<Tag, OperationOutcome> {
        let is_narrative = space == XHTML;
        if !is_narrative && space != FHIR {
            return Err(self.error(&format!("an element is not in the name space {FHIR}")));
        }
        let mut attributes = Vec::new();
        // A narrative is taken as it stands.
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| self.error("an attribute is not well-formed"))?;
            let name = attribute.key.as_ref().to_owned();
            if is_narrative
                || name == "xmlns"
                || name.starts_with("xmlns:")
                || name.starts_with("xsi:")
            {
                continue;
            }
            // Line ends and tabs in an attribute are spaces (XML 1.0, section 3.3.3); written as
            // character references they stay what they are.
            let raw = attribute
                .value
                .replace("\r\n", " ")
                .replace(['\r', '\n', '\t'], " ");
            let value = unescape(&raw)
                .map_err(|_| self.error("an attribute has an entity that XML doesn't know"))?;
            attributes.push((name, value.into_owned()));
        }
        Ok(Tag {
            name: tag.local_name().as_ref().to_owned(),
            is_narrative,
            attributes,
            start,
        })
    }

    fn resource(&mut self, tag: &Tag, level: usize) -> Result<Value, OperationOutcome> {
        let kind = ResourceType::parse(&tag.name).and_then(|kind| structures().find(kind.name()));
        let Some(kind) = kind.filter(|_| !tag.is_narrative) else {
            return Err(self.error("an element is no resource of FHIR R4"));
        };
        let mut members = Map::new();
        members.insert("resourceType".to_owned(), tag.name.as_str().into());
        self.complex(tag, kind, level, members).map(Value::Object)
    }

    /// The members of an element that isn't primitive, to its end.
    fn complex(
        &mut self,
        tag: &Tag,
        kind: TypeId,
        level: usize,
        mut members: Map<String, Value>,
    ) -> Result<Map<String, Value>, OperationOutcome> {
        if level >= NESTING_MAX {
            return Err(self.error(&format!("more than {NESTING_MAX} levels of nesting")));
        }
        let structure = structures().get(kind);
        for (name, value) in &tag.attributes {
            if !is_attribute(structure, name) {
                return Err(self.error("an element has an attribute that FHIR doesn't know there"));
            }
            members.insert(name.clone(), value.as_str().into());
        }
        let mut found: Vec<Member> = Vec::new();
        while let Some(tag) = self.child()? {
            let known = structure
                .member(&tag.name)
                .filter(|_| !is_attribute(structure, &tag.name));
            let Some((element, kind)) = known else {
                let name: String = tag
                    .name
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .take(64)
                    .collect();
                return Err(self.error(&format!("`{name}` is no element of {}", structure.name)));
            };
            let inner = structures().get(kind);
            if tag.is_narrative != (inner.name == "xhtml") {
                return Err(self.error("an element is in the wrong name space"));
            }
            let pair = match inner.name {
                "xhtml" => (self.narrative(&tag)?, None),
                "Resource" => (self.inner_resource(&tag, level + 1)?, None),
                _ if inner.is_primitive() => self.primitive(&tag, inner, level + 1)?,
                _ => (
                    Value::Object(self.complex(&tag, kind, level + 1, Map::new())?),
                    None,
                ),
            };
            match found.iter_mut().find(|member| member.name == tag.name) {
                Some(member) if member.many => member.values.push(pair),
                Some(_) => {
                    return Err(self.error(&format!("`{}` is there more than once", tag.name)));
                }
                None => found.push(Member {
                    many: element.many,
                    primitive: inner.is_primitive() && inner.name != "xhtml",
                    values: vec![pair],
                    name: tag.name,
                }),
            }
        }
        for member in found {
            member.into_json(&mut members);
        }
        Ok(members)
    }

    /// A primitive element: its value, or null, and its id and extensions.
    fn primitive(
        &mut self,
        tag: &Tag,
        structure: &Structure,
        level: usize,
    ) -> Result<(Value, Option<Value>), OperationOutcome> {
        let (mut value, mut extra) = (Value::Null, Map::new());
        for (name, text) in &tag.attributes {
            match name.as_str() {
                "value" => value = self.typed(structure, text)?,
                "id" => {
                    extra.insert("id".to_owned(), text.as_str().into());
                }
                _ => {
                    return Err(
                        self.error("an element has an attribute that FHIR doesn't know there")
                    );
                }
            }
        }
        let mut extensions = Vec::new();
        while let Some(tag) = self.child()? {
            let Some(kind) = structures()
                .find("Extension")
                .filter(|_| tag.name == "extension")
            else {
                return Err(self.error("only extensions can be in a primitive element"));
            };
            extensions.push(Value::Object(self.complex(
                &tag,
                kind,
                level,
                Map::new(),
            )?));
        }
        if !extensions.is_empty() {
            extra.insert("extension".to_owned(), Value::Array(extensions));
        }
        if value.is_null() && extra.is_empty() {
            return Err(self.error("an element has neither value nor extension"));
        }
        Ok((value, (!extra.is_empty()).then_some(Value::Object(extra))))
    }

    fn typed(&self, structure: &Structure, text: &str) -> Result<Value, OperationOutcome> {
        Ok(match structure.name {
            "boolean" => match text {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(self.error("a boolean is neither `true` nor `false`")),
            },
            "integer" | "positiveInt" | "unsignedInt" | "decimal" => text
                .parse::<Number>()
                .map(Value::Number)
                .map_err(|_| self.error("a number is none"))?,
            _ => text.into(),
        })
    }

    /// An element whose content is one resource.
    fn inner_resource(&mut self, tag: &Tag, level: usize) -> Result<Value, OperationOutcome> {
        if !tag.attributes.is_empty() {
            return Err(self.error("an element has an attribute that FHIR doesn't know there"));
        }
        let Some(inner) = self.child()? else {
            return Err(self.error("an element has no resource in it"));
        };
        let value = self.resource(&inner, level)?;
        match self.child()? {
            None => Ok(value),
            Some(_) => Err(self.error("an element has two resources in it")),
        }
    }

    /// A narrative's `div`, byte for byte.
    fn narrative(&mut self, tag: &Tag) -> Result<Value, OperationOutcome> {
        let name = self.text[tag.start..].strip_prefix("<div");
        if !name.is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/')
        }) {
            return Err(self.error("a narrative's `div` has a prefix; write it without one"));
        }
        let mut depth = 1;
        while depth > 0 {
            match self.xml.read_event() {
                Ok(Event::Start(_)) => depth += 1,
                Ok(Event::End(_)) => depth -= 1,
                Ok(Event::Eof | Event::DocType(_)) | Err(_) => {
                    return Err(self.error("a narrative is not well-formed"));
                }
                Ok(_) => {}
            }
        }
        Ok(self.text[tag.start..self.at()].into())
    }
}

/// What XML writes as attributes: the ids of elements and the URLs of extensions.
pub(super) fn is_attribute(structure: &Structure, name: &str) -> bool {
    match name {
        "id" => structure
            .element("id")
            .is_some_and(|element| structures().get(element.types[0]).name != "id"),
        "url" => structure.name == "Extension",
        _ => false,
    }
}

impl Member {
    fn into_json(self, members: &mut Map<String, Value>) {
        if !self.primitive {
            let mut values = self.values.into_iter().map(|(value, _)| value);
            let value = if self.many {
                Some(Value::Array(values.collect()))
            } else {
                values.next()
            };
            members.extend(value.map(|value| (self.name, value)));
            return;
        }
        let (values, extras): (Vec<Value>, Vec<Option<Value>>) = self.values.into_iter().unzip();
        let has_values = values.iter().any(|value| !value.is_null());
        let has_extras = extras.iter().any(Option::is_some);
        let extras = extras
            .into_iter()
            .map(|extra| extra.unwrap_or(Value::Null))
            .collect();
        let shape = |mut list: Vec<Value>| {
            if self.many {
                Value::Array(list)
            } else {
                list.pop().unwrap_or(Value::Null)
            }
        };
        if has_values {
            members.insert(self.name.clone(), shape(values));
        }
        if has_extras {
            members.insert(format!("_{}", self.name), shape(extras));
        }
    }
}

/// Whether a text is one `div` of XHTML, whole and well-formed.
pub(crate) fn is_narrative(text: &str) -> bool {
    let mut xml = NsReader::from_str(text);
    xml.config_mut().expand_empty_elements = true;
    let mut reader = Reader { xml, text };
    let Ok(Next::Start(tag)) = reader.next() else {
        return false;
    };
    tag.is_narrative
        && tag.start == 0
        && reader.narrative(&tag).is_ok()
        && reader.at() == text.len()
}

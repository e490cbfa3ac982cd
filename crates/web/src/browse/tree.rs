//! A resource as a tree of its elements, and as JSON; both with references as links.

use fhir::Reference;
use maud::{Markup, Render, html};
use serde_json::{Map, Value};

use crate::layout::escaped;

/// The page of what a reference points at, if it points into this record.
fn target(text: &str) -> Option<String> {
    let (place, version) = match text.split_once("/_history/") {
        Some((place, version)) => (place, Some(version)),
        None => (text, None),
    };
    let (kind, id) = Reference::relative(place)?;
    let address = super::address(kind.name(), id);
    match version {
        None => Some(address),
        Some(version) => {
            let is_number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| format!("{address}/history/{version}"))
        }
    }
}

/// A `Reference` in words: its display, else where it points.
pub(super) fn reference(value: &Value) -> Markup {
    let to = value["reference"].as_str().unwrap_or_default();
    let words = value["display"].as_str().unwrap_or(to);
    html! {
        @match target(to) {
            Some(address) => a href=(address) { (words) },
            None => (words),
        }
    }
}

/// Text, as a link where it is a reference.
fn text(name: &str, text: &str) -> Markup {
    match target(text).filter(|_| name == "reference") {
        Some(address) => html! { a href=(address) { (text) } },
        None => html! { (text) },
    }
}

/// The elements of a resource.
pub(super) fn tree(resource: &Value) -> Markup {
    match resource {
        Value::Object(members) => elements(members),
        other => html! { (value("", other)) },
    }
}

fn elements(members: &Map<String, Value>) -> Markup {
    html! {
        dl class="tree" {
            @for (name, member) in members {
                dt class="mono" { (name) }
                dd { (value(name, member)) }
            }
        }
    }
}

fn value(name: &str, value: &Value) -> Markup {
    match value {
        Value::Object(members) => elements(members),
        Value::Array(members) => html! {
            ol class="tree-list" { @for member in members { li { (self::value(name, member)) } } }
        },
        Value::String(words) if name == "div" => html! {
            details { summary { "Narrative" } code class="wrap" { (words) } }
        },
        Value::String(words) => text(name, words),
        Value::Null => html! { span class="quiet" { "–" } },
        other => html! { (other.to_string()) },
    }
}

/// JSON, two blanks a level, as it would be downloaded.
pub(super) struct Json<'a>(pub(super) &'a Value);

impl Render for Json<'_> {
    fn render_to(&self, buffer: &mut String) {
        write(buffer, self.0, "", 0);
    }
}

fn write(buffer: &mut String, value: &Value, name: &str, depth: usize) {
    let line = |buffer: &mut String, depth: usize| {
        buffer.push('\n');
        (0..depth).for_each(|_| buffer.push_str("  "));
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            buffer.push('{');
            for (place, (name, member)) in members.iter().enumerate() {
                if place > 0 {
                    buffer.push(',');
                }
                line(buffer, depth + 1);
                buffer.push_str("<b>");
                escaped(&Value::from(name.as_str()).to_string()).render_to(buffer);
                buffer.push_str("</b>: ");
                write(buffer, member, name, depth + 1);
            }
            line(buffer, depth);
            buffer.push('}');
        }
        Value::Array(members) if !members.is_empty() => {
            buffer.push('[');
            for (place, member) in members.iter().enumerate() {
                if place > 0 {
                    buffer.push(',');
                }
                line(buffer, depth + 1);
                write(buffer, member, name, depth + 1);
            }
            line(buffer, depth);
            buffer.push(']');
        }
        Value::String(words) => {
            let address = target(words).filter(|_| name == "reference");
            let shown = escaped(&value.to_string());
            match address {
                Some(address) => html! { a href=(address) { (shown) } }.render_to(buffer),
                None => shown.render_to(buffer),
            }
        }
        other => escaped(&other.to_string()).render_to(buffer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_lead_to_their_page_and_nowhere_else() {
        for (text, expected) in [
            ("Patient/p1", Some("/console/record/Patient/p1")),
            (
                "Patient/p1/_history/2",
                Some("/console/record/Patient/p1/history/2"),
            ),
            ("Patient/p1/_history/", None),
            ("Patient/p1/_history/x", None),
            ("#contained", None),
            ("urn:uuid:7", None),
            ("https://elsewhere.example/Patient/p1", None),
            ("Nothing/p1", None),
            ("Patient/../../sign-out", None),
        ] {
            assert_eq!(target(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn json_is_what_is_kept_and_nothing_in_it_is_markup() {
        let value =
            json!({"a": "<script>&\"", "b": [1.50, {}, []], "subject": {"reference": "Patient/p"}});
        let shown = html! { (Json(&value)) }.into_string();
        assert!(!shown.contains("<script"));
        let plain = shown
            .replace("<b>", "")
            .replace("</b>", "")
            .replace("<a href=\"/console/record/Patient/p\">", "")
            .replace("</a>", "")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        assert_eq!(plain, serde_json::to_string_pretty(&value).unwrap());
    }
}

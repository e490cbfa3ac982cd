//! The official tests of patches.
use std::path::Path;

use fhir::Resource;
use fhir::patch::Patch;
use serde_json::{Value, json};

use super::Tally;

/// Runs a file of tests, and says whether all passed.
pub(super) fn run(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).expect("the file of tests can be read");
    let results = if file
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        json_cases(&text)
    } else {
        path_cases(&text)
    };
    let mut tally = Tally::default();
    let mut fine = true;
    for (name, result) in results {
        tally.note("patches", result.is_ok());
        if let Err(words) = result {
            println!("FAIL {name}: {words}");
            fine = false;
        }
    }
    tally.print();
    fine
}

type Results = Vec<(String, Result<(), String>)>;

/// What is between a start tag (its attributes included) and its end tag, and what comes after.
fn within<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (_, rest) = text.split_once(&format!("<{name}"))?;
    let (attributes, rest) = rest.split_once('>')?;
    if attributes.ends_with('/') {
        return Some((attributes, "", rest));
    }
    let (content, rest) = rest.split_once(&format!("</{name}>"))?;
    Some((attributes, content, rest))
}

fn attribute(attributes: &str, name: &str) -> String {
    let rest = attributes.split_once(&format!("{name}=\""));
    let value = rest.and_then(|(_, rest)| rest.split_once('"'));
    value.map_or("", |(value, _)| value).to_owned()
}

fn path_cases(mut text: &str) -> Results {
    let mut results = Vec::new();
    while let Some((attributes, content, rest)) = within(text, "case") {
        results.push((attribute(attributes, "name"), path_case(content)));
        text = rest;
    }
    results
}

fn path_case(content: &str) -> Result<(), String> {
    let part = |name: &str| {
        let (_, xml, _) = within(content, name).ok_or(format!("no {name}"))?;
        fhir::xml::parse(xml.trim().as_bytes())
            .and_then(Resource::from_value)
            .map_err(|outcome| format!("{name}: {outcome}"))
    };
    let input = part("input")?;
    let diff = part("diff")?;
    let patched = Patch::from_parameters(&diff).and_then(|patch| patch.apply(&input));
    match (within(content, "error"), patched) {
        (Some(_), Ok(_)) => Err("no error, though one is wanted".to_owned()),
        (Some(_), Err(_)) => Ok(()),
        (None, patched) => {
            let patched = patched.map_err(|outcome| outcome.to_string())?;
            same(&close(patched), &close(part("output")?))
        }
    }
}

/// The narrative without white space and escapes of quotes, in which these tests differ from themselves.
fn close(resource: Resource) -> Value {
    let mut value = resource.into_value();
    if let Some(Value::String(div)) = value.pointer_mut("/text/div") {
        *div = div.replace("&quot;", "\"");
        div.retain(|letter| !letter.is_whitespace());
    }
    value
}

fn same(found: &Value, wanted: &Value) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!("{found}, not {wanted}"))
}

/// The documents of these tests are any JSON, so each is put into an extension of a resource.
fn json_cases(text: &str) -> Results {
    let cases: Vec<Value> = serde_json::from_str(text).expect("the tests are JSON");
    let case = |case: &Value| {
        let name = case["comment"].as_str().unwrap_or("?").to_owned();
        (name, json_case(case))
    };
    cases.iter().map(case).collect()
}

fn json_case(case: &Value) -> Result<(), String> {
    let dressed = |document: &Value| {
        Resource::from_value(json!({"resourceType": "Basic", "doc": document}))
            .map_err(|outcome| outcome.to_string())
    };
    let document = dressed(&case["doc"])?;
    let mut patch = case["patch"].clone();
    for operation in patch.as_array_mut().into_iter().flatten() {
        for name in ["path", "from"] {
            if let Some(Value::String(pointer)) = operation.get_mut(name) {
                pointer.insert_str(0, "/doc");
            }
        }
    }
    let patched =
        Patch::parse_json(patch.to_string().as_bytes()).and_then(|patch| patch.apply(&document));
    match (case.get("error"), patched) {
        (Some(_), Ok(_)) => Err("no error, though one is wanted".to_owned()),
        (Some(_), Err(_)) => Ok(()),
        (None, Err(outcome)) => Err(outcome.to_string()),
        (None, Ok(patched)) => match case.get("expected") {
            Some(expected) => same(patched.as_value(), dressed(expected)?.as_value()),
            None => Ok(()),
        },
    }
}

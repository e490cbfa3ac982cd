//! Runs what others have written to test FHIRPath and FHIR's two forms, from folders on this machine:
//!
//! - `conformance fhirpath TESTS.xml FOLDER`: the official FHIRPath tests (`tests-fhir-r4.xml` of
//!   `FHIR/fhir-test-cases`), with the resources that they name in FOLDER;
//! - `conformance forms FOLDER`: every resource in FOLDER (`.json` and `.xml`) through the other form
//!   and back; where both forms of one name are there, it is also told whether they say the same;
//! - `conformance patch FILE`: the official tests of patches (`fhir-patch-tests.xml` or
//!   `json-patch-tests.json` of `FHIR/fhir-test-cases`).
//!
//! It prints what passed and what failed, by group, and ends with 1 if anything failed that isn't named
//! in `EXCEPTIONS` with its reason.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a command for whoever develops this"
)]

mod patch;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use fhir::path::{Environment, Expression};
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

/// Official tests that are not passed, and why.
const EXCEPTIONS: [(&str, &str); 13] = [
    ("testSimpleFail", NOT_STRICT),
    ("testSimpleWithWrongContext", NOT_STRICT),
    ("testPolymorphismAsB", NOT_STRICT),
    (
        "testDollarOrderNotAllowed",
        "children keep the order of the JSON, so they can be skipped",
    ),
    ("testPolymorphismB", JSON_NAMES),
    ("testPolymorphicsB", JSON_NAMES),
    (
        "testFHIRPathAsFunction21",
        "`as` filters several items, since R4's own search expressions use it so",
    ),
    (
        "testPlusDate19",
        "a tenth of a second is 100 ms, which the date-time can say",
    ),
    (
        "LowBoundaryDecimal15",
        "-0.0 is above -0.0034, so it is no low boundary; -0.1 is one",
    ),
    (
        "HighBoundaryDecimal15",
        "0.0 is below 0.0034, so it is no high boundary; 0.1 is one",
    ),
    (
        "HighBoundaryDecimal16",
        "the minus stands before the whole of it, and 0.1 is the boundary of 0.0034",
    ),
    (
        "HighBoundaryDateTimeMillisecond1",
        "08 is an hour of 60 minutes; the test takes it for 08:00",
    ),
    (
        "HighBoundaryDateTimeMillisecond3",
        "08 is an hour of 60 minutes; the test takes it for 08:00",
    ),
];
const NOT_STRICT: &str = "unknown elements are empty; there is no strict mode";
const JSON_NAMES: &str =
    "a choice may be named by its JSON member, as R4's own search expressions do";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let fine = match arguments.as_slice() {
        ["fhirpath", tests, folder] => fhirpath(Path::new(tests), Path::new(folder)),
        ["forms", folder] => forms(Path::new(folder)),
        ["patch", file] => patch::run(Path::new(file)),
        _ => {
            println!(
                "conformance fhirpath TESTS.xml FOLDER | conformance forms FOLDER | conformance patch FILE"
            );
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(!fine))
}

/// How many of a kind passed, of how many.
#[derive(Default)]
struct Tally(BTreeMap<String, (usize, usize)>);

impl Tally {
    fn note(&mut self, kind: &str, passed: bool) {
        let (fine, all) = self.0.entry(kind.to_owned()).or_default();
        *fine += usize::from(passed);
        *all += 1;
    }
    fn print(&self) {
        for (kind, (fine, all)) in &self.0 {
            println!("{fine:>5} of {all:>5}  {kind}");
        }
        let fine: usize = self.0.values().map(|(fine, _)| fine).sum();
        let all: usize = self.0.values().map(|(_, all)| all).sum();
        println!("{fine:>5} of {all:>5}  all");
    }
}

#[derive(Default, Debug)]
struct Test {
    group: String,
    name: String,
    input: Option<String>,
    predicate: bool,
    expression: String,
    /// `syntax`, `semantic`, `execution` where an error is wanted.
    invalid: Option<String>,
    ordered: bool,
    /// Type, if it is given, and text.
    outputs: Vec<(Option<String>, String)>,
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok().flatten()?;
    Some(unescape(&attribute.value).ok()?.into_owned())
}

fn read_tests(file: &Path) -> Vec<Test> {
    let text = std::fs::read_to_string(file).expect("the file of tests can be read");
    let mut reader = Reader::from_str(&text);
    reader.config_mut().expand_empty_elements = true;
    let (mut group, mut test, mut words) = (String::new(), Test::default(), String::new());
    let (mut kind, mut tests) = (None, Vec::new());
    loop {
        match reader.read_event().expect("the tests are XML") {
            Event::Start(tag) => match tag.name().as_ref() {
                "group" => group = attribute(&tag, "name").unwrap_or_default(),
                "test" => {
                    test = Test {
                        group: group.clone(),
                        name: attribute(&tag, "name").unwrap_or_default(),
                        input: attribute(&tag, "inputfile"),
                        predicate: attribute(&tag, "predicate").as_deref() == Some("true"),
                        ordered: attribute(&tag, "ordered").as_deref() != Some("false"),
                        ..Test::default()
                    };
                }
                "expression" => {
                    test.invalid = attribute(&tag, "invalid").filter(|kind| kind != "false");
                    words.clear();
                }
                "output" => {
                    kind = attribute(&tag, "type");
                    words.clear();
                }
                _ => {}
            },
            Event::Text(text) => words.push_str(&text),
            Event::CData(text) => words.push_str(&text),
            Event::GeneralRef(entity) => {
                let whole = format!("&{};", &*entity);
                words.push_str(&unescape(&whole).expect("an entity of XML"));
            }
            Event::End(tag) => match tag.name().as_ref() {
                "test" => tests.push(std::mem::take(&mut test)),
                "expression" => test.expression = std::mem::take(&mut words),
                "output" => test.outputs.push((kind.take(), std::mem::take(&mut words))),
                _ => {}
            },
            Event::Eof => return tests,
            _ => {}
        }
    }
}

fn fhirpath(tests: &Path, folder: &Path) -> bool {
    let mut tally = Tally::default();
    let (mut fine, mut excepted) = (true, 0);
    for test in read_tests(tests) {
        let input = match &test.input {
            None => Value::Null,
            Some(name) => match resource(&folder.join(name)) {
                Ok(value) => value,
                Err(words) => {
                    println!("FAIL {}: {name}: {words}", test.name);
                    tally.note(&test.group, false);
                    fine = false;
                    continue;
                }
            },
        };
        let result = check(&test, &input);
        let reason = EXCEPTIONS.iter().find(|(name, _)| *name == test.name);
        tally.note(&test.group, result.is_ok());
        match (result, reason) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                println!("PASS {}, though it is among the exceptions", test.name);
                fine = false;
            }
            (Err(words), Some((_, reason))) => {
                println!("EXCEPTION {}: {words} ({reason})", test.name);
                excepted += 1;
            }
            (Err(words), None) => {
                println!(
                    "FAIL {} {}: `{}`: {words}",
                    test.group,
                    test.name,
                    test.expression.trim()
                );
                fine = false;
            }
        }
    }
    tally.print();
    println!("{excepted} exceptions");
    fine
}

fn check(test: &Test, input: &Value) -> Result<(), String> {
    let environment = Environment {
        now_ms: Some(1_764_547_200_123),
        ..Environment::default()
    };
    let compiled = Expression::compile(test.expression.trim());
    let result = compiled
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|expression| {
            expression
                .evaluate(input, &environment)
                .map_err(|error| error.to_string())
        });
    if let Some(kind) = &test.invalid {
        return match (kind.as_str(), compiled.is_err(), &result) {
            ("syntax", false, _) => Err("it compiles, though it is wrong".to_owned()),
            (_, _, Ok(items)) => Err(format!("no error ({kind}), but {items:?}")),
            _ => Ok(()),
        };
    }
    let items: Vec<Value> = result?.iter().map(|item| item.value().clone()).collect();
    let items = if test.predicate {
        vec![match items.as_slice() {
            [] => false.into(),
            [Value::Bool(value)] => (*value).into(),
            _ => true.into(),
        }]
    } else {
        items
    };
    let mut found: Vec<String> = items.iter().map(words).collect();
    let mut wanted: Vec<String> = test
        .outputs
        .iter()
        .map(|(kind, text)| normal(kind.as_deref(), text))
        .collect();
    if !test.ordered {
        found.sort();
        wanted.sort();
    }
    if found == wanted {
        for (item, (kind, _)) in items.iter().zip(&test.outputs) {
            let fits = match kind.as_deref() {
                Some("boolean") => item.is_boolean(),
                Some("integer") => item.as_i64().is_some(),
                Some("decimal") => item.is_number(),
                Some("string" | "code" | "id" | "date" | "dateTime" | "time") => item.is_string(),
                _ => true,
            };
            if !fits {
                return Err(format!("{item} is not of type {kind:?}"));
            }
        }
        return Ok(());
    }
    Err(format!("{found:?}, not {wanted:?}"))
}

/// A result as the tests write it.
fn words(item: &Value) -> String {
    match item {
        Value::String(text) => text.clone(),
        Value::Object(members) if members.contains_key("value") && members.contains_key("unit") => {
            format!(
                "{} '{}'",
                members["value"],
                members["unit"].as_str().unwrap_or("")
            )
        }
        other => other.to_string(),
    }
}

fn normal(kind: Option<&str>, text: &str) -> String {
    let text = match kind {
        Some("date" | "dateTime" | "time") | None => text
            .trim()
            .strip_prefix("@T")
            .or(text.trim().strip_prefix('@'))
            .unwrap_or(text),
        _ => text,
    };
    if matches!(kind, Some("string")) {
        text.to_owned()
    } else {
        text.trim().to_owned()
    }
}

fn resource(file: &Path) -> Result<Value, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    if file.extension().is_some_and(|extension| extension == "xml") {
        return fhir::xml::parse(&text).map_err(|outcome| format!("{:?}", outcome.issues));
    }
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn forms(folder: &Path) -> bool {
    let mut tally = Tally::default();
    let mut fine = true;
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "xml" || extension == "json")
        })
        .collect();
    files.sort();
    for file in files {
        let json = file
            .extension()
            .is_some_and(|extension| extension == "json");
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let value = match resource(&file) {
            Ok(value) if value.get("resourceType").is_none() => continue,
            Ok(value) => value,
            Err(words) => {
                println!("FAIL {name}: {words}");
                tally.note(if json { "JSON" } else { "XML" }, false);
                fine = false;
                continue;
            }
        };
        let back = fhir::xml::write(&value)
            .and_then(|text| fhir::xml::parse(text.as_bytes()))
            .map_err(|outcome| format!("{:?}", outcome.issues));
        let same = back.as_ref() == Ok(&value);
        if !same {
            println!(
                "FAIL {name}: {}",
                back.map_or_else(|words| words, |back| difference(&value, &back, ""))
            );
        }
        tally.note(
            if json {
                "JSON to XML and back"
            } else {
                "XML to JSON to XML to JSON"
            },
            same,
        );
        fine &= same;
        let other = file.with_extension("xml");
        if json && other.exists() {
            let same = resource(&other).as_ref() == Ok(&value);
            if !same {
                println!(
                    "DIFFER {name}: {}",
                    resource(&other)
                        .map_or_else(|words| words, |other| difference(&value, &other, ""))
                );
            }
            // Those who published them wrote some of them differently, so this decides nothing.
            tally.note("both forms as published say the same", same);
        }
    }
    tally.print();
    fine
}

/// Where two values differ first.
fn difference(one: &Value, other: &Value, path: &str) -> String {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                match b.get(name) {
                    None => return format!("{path}.{name} is missing in the second"),
                    Some(other) if other != value => {
                        return difference(value, other, &format!("{path}.{name}"));
                    }
                    Some(_) => {}
                }
            }
            let more = b.keys().find(|name| !a.contains_key(*name));
            format!("{path} has more in the second: {more:?}")
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let place = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(0);
            difference(&a[place], &b[place], &format!("{path}[{place}]"))
        }
        _ => format!("{path}: {one} and {other}"),
    }
}

//! `$apply` on the examples of R4 itself: each `PlanDefinition` and `ActivityDefinition` of the specification's package
//! is written to the record with what it refers to and applied to a patient over HTTP.
//!
//! The package is installed by `scripts/test`; nothing of it is in the repository but what has to come of each, in
//! `applied_examples.txt`. Most of the examples ask in CQL, which is refused here: those are applied once more with
//! each condition in CQL answered with yes, without values in CQL, and with stand-ins for definitions that the package
//! doesn't have. `WRITE_DOCS=1 cargo nextest run -p cairn applied_examples` writes `docs/applied-examples.md` anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::clients::peer;
use crate::house::{House, NOON_MS, house, put};

/// What has to come, an example a line: its name, ` | `, as it is, ` | `, with CQL answered (`-` where it isn't asked).
const FACTS: &str = include_str!("applied_examples.txt");
/// What is written to the record.
const TYPES: [&str; 6] = [
    "ActivityDefinition",
    "Library",
    "Location",
    "PlanDefinition",
    "Questionnaire",
    "StructureMap",
];
/// Words of refusals, and what the page says for them.
const SHORT: [(&str, &str); 3] = [
    ("is in CQL, which is not evaluated here;", "CQL"),
    ("is not carried out here; values are set by", "StructureMap"),
    (
        "names no definition that is here for you",
        "not in the package",
    ),
];

fn examples() -> BTreeMap<String, Value> {
    let folder = peer("fhir-examples/package");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a name").to_owned();
        let kind = name.split_once('-').map_or("", |(kind, _)| kind);
        if TYPES.contains(&kind) {
            let text = std::fs::read_to_string(&path).expect("a file");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            let id = value["id"].as_str().expect("an id").to_owned();
            found.insert(format!("{kind}/{id}"), value);
        }
    }
    found
}

/// All that stands under a name, wherever.
fn each<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, name, found)),
        Value::Object(members) => {
            found.extend(members.get(name));
            members.values().for_each(|part| each(part, name, found));
        }
        _ => {}
    }
}

/// A moment as so long after the plan begins.
fn after(text: &Value) -> String {
    let parsed = text.as_str().and_then(fhir::date::parse);
    let parsed = parsed.unwrap_or_else(|| panic!("no moment: {text}"));
    let noon_ms = i64::try_from(NOON_MS).expect("a moment");
    let hours = (parsed.start_ms - noon_ms) / 3_600_000;
    match hours {
        0 => "at once".to_owned(),
        hours if hours % 24 == 0 => format!("{:+} d", hours / 24),
        hours => format!("{hours:+} h"),
    }
}

/// A `[x]` that says when something is, in short.
fn time(of: &str, value: &Value) -> String {
    match of {
        "DateTime" => after(value),
        "Period" => {
            let end = value
                .get("end")
                .map_or_else(String::new, |end| format!(" to {}", after(end)));
            format!("{}{end}", after(&value["start"]))
        }
        _ => {
            if let Some(events) = value["event"].as_array() {
                let all: Vec<String> = events.iter().map(after).collect();
                return all.join(", ");
            }
            let bounds = &value["repeat"]["boundsPeriod"];
            format!(
                "{} times, {}",
                value["repeat"]["count"],
                time("Period", bounds)
            )
        }
    }
}

fn time_of(holder: &Map<String, Value>, element: &str) -> Option<String> {
    holder.iter().find_map(|(name, value)| {
        let of = name.strip_prefix(element)?;
        Some(time(of, value))
    })
}

/// The actions of a group: how many there are, and the times of those that say one.
fn actions(list: &Value, place: &str, count: &mut usize, times: &mut Vec<String>) {
    for (number, action) in list.as_array().into_iter().flatten().enumerate() {
        *count += 1;
        let place = format!("{place}.{}", number + 1);
        if let Some(time) = time_of(action.as_object().expect("an action"), "timing") {
            times.push(format!("{} {time}", &place[1..]));
        }
        actions(&action["action"], &place, count, times);
    }
}

/// A request's own times and amounts.
fn of_request(request: &Value) -> String {
    let mut said = Vec::new();
    let members = request.as_object().expect("a resource");
    said.extend(time_of(members, "occurrence"));
    let timings = request["dosageInstruction"].as_array();
    for dose in timings.into_iter().flatten() {
        if dose["timing"]["event"].is_array() {
            said.push(format!("doses {}", time("Timing", &dose["timing"])));
        }
    }
    let dispensed = &request["dispenseRequest"];
    if let Some(quantity) = dispensed.get("quantity") {
        let unit = quantity["unit"].as_str().unwrap_or_default();
        said.push(format!("{} {unit}", quantity["value"]));
    }
    if let Some(repeats) = dispensed.get("numberOfRepeatsAllowed") {
        said.push(format!("{repeats} repeats"));
    }
    said.join(", ")
}

/// What was made, in a line.
fn told(made: &Value) -> String {
    let kind = made["resourceType"].as_str().expect("a type");
    let contained = made["contained"].as_array().cloned().unwrap_or_default();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for one in &contained {
        let kind = one["resourceType"].as_str().expect("a type");
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    // Whatever refers to something within leads somewhere, and nothing lies there for nothing.
    let mut pointed = Vec::new();
    for name in ["reference", "valueCanonical", "answerValueSet"] {
        each(made, name, &mut pointed);
    }
    let pointed: Vec<&str> = pointed
        .into_iter()
        .filter_map(|one| one.as_str()?.strip_prefix('#'))
        .collect();
    let ids: Vec<&str> = contained
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    for id in &pointed {
        assert!(ids.contains(id), "#{id} leads nowhere: {made}");
    }
    for id in &ids {
        assert!(pointed.contains(id), "nothing refers to #{id}: {made}");
    }
    let mut line = kind.to_owned();
    if !kinds.is_empty() {
        let all: Vec<String> = kinds
            .iter()
            .map(|(kind, many)| format!("{many} {kind}"))
            .collect();
        let _ = write!(line, " with {}", all.join(", "));
    }
    let (mut count, mut times) = (0, Vec::new());
    let groups = || {
        contained
            .iter()
            .filter(|one| one["resourceType"] == "RequestGroup")
    };
    for group in groups() {
        actions(&group["action"], "", &mut count, &mut times);
    }
    if groups().next().is_some() {
        let _ = write!(line, "; actions: {count}");
    }
    for time in times {
        let _ = write!(line, "; {time}");
    }
    for request in contained.iter().chain([made]) {
        let said = of_request(request);
        if !said.is_empty() {
            let kind = request["resourceType"].as_str().expect("a type");
            let _ = write!(line, "; {kind}: {said}");
        }
    }
    line
}

/// What came of applying a definition, in a line.
async fn outcome(house: &House, name: &str, own: Option<&Value>) -> String {
    let (kind, _) = name.split_once('/').expect("a type");
    let answer = match own {
        None => {
            let path =
                format!("/fhir/r4/{name}/$apply?subject=Patient/p&practitioner=Practitioner/d");
            house.asked(Method::GET, &path).send().await
        }
        Some(definition) => {
            let parameter = match kind {
                "PlanDefinition" => "planDefinition",
                _ => "activityDefinition",
            };
            let asked = json!({"resourceType": "Parameters", "parameter": [
                {"name": parameter, "resource": definition},
                {"name": "subject", "valueString": "Patient/p"},
                {"name": "practitioner", "valueString": "Practitioner/d"}]});
            let path = format!("/fhir/r4/{kind}/$apply");
            house.sent(Method::POST, &path, &asked).send().await
        }
    };
    let answer = answer.expect("an answer");
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.expect("JSON");
    if status != 200 {
        assert_eq!(body["resourceType"], "OperationOutcome", "{name}: {body}");
        let issue = &body["issue"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words = text(&issue["diagnostics"]);
        let short = SHORT.iter().find(|(begin, _)| words.starts_with(begin));
        let words = short.map_or(words.clone(), |(_, short)| (*short).to_owned());
        let (code, place) = (text(&issue["code"]), text(&issue["expression"][0]));
        return format!("{status} {code} at {place}: {words}");
    }
    // It is something that the record takes.
    let kind = body["resourceType"].as_str().expect("a type");
    let path = format!("/fhir/r4/{kind}");
    let written = house.sent(Method::POST, &path, &body).send().await;
    let written = written.expect("an answer");
    let status = written.status();
    assert_eq!(
        status,
        201,
        "{name}: {}",
        written.text().await.unwrap_or_default()
    );
    told(&body)
}

/// The same definition with what it asks in CQL answered with yes, and without the values that CQL would give.
fn answered(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !is_value_in_cql(item));
            items.iter_mut().for_each(answered);
        }
        Value::Object(members) => {
            if members.get("kind") == Some(&json!("applicability"))
                && is_cql(&members["expression"])
            {
                members["expression"] = json!({"language": "text/fhirpath", "expression": "true"});
            }
            members.values_mut().for_each(answered);
            // An empty list is no FHIR.
            members.retain(|_, part| part.as_array().is_none_or(|list| !list.is_empty()));
        }
        _ => {}
    }
}

fn is_cql(expression: &Value) -> bool {
    let language = expression["language"].as_str();
    language.is_some_and(|language| language.starts_with("text/cql"))
}

fn is_value_in_cql(dynamic: &Value) -> bool {
    dynamic.get("path").is_some() && dynamic.get("expression").is_some_and(is_cql)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_the_examples_of_r4() {
    let house = house().await;
    put(&house, &json!({"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1990-04-05"})).await;
    put(&house, &json!({"resourceType": "Practitioner", "id": "d"})).await;
    let examples = examples();
    let definitions: Vec<(&String, &Value)> = examples
        .iter()
        .filter(|(name, _)| name.starts_with("PlanDef") || name.starts_with("ActivityDef"))
        .collect();
    // Whatever a definition names comes along; not each of the others is what R4 says it is.
    let named: String = definitions.iter().map(|(_, one)| one.to_string()).collect();
    for (name, resource) in &examples {
        let url = resource["url"].as_str();
        let is_named = named.contains(&format!("\"{name}\""))
            || url.is_some_and(|url| named.contains(&format!("\"{url}\"")));
        if is_named || definitions.iter().any(|(one, _)| *one == name) {
            put(&house, resource).await;
        }
    }
    assert!(definitions.len() > 20, "{} definitions", definitions.len());
    let mut found = Vec::new();
    for (name, _) in &definitions {
        found.push((
            (*name).clone(),
            outcome(&house, name, None).await,
            "-".to_owned(),
        ));
    }
    // What the package lacks.
    for (_, definition) in &definitions {
        let mut canonicals = Vec::new();
        each(definition, "definitionCanonical", &mut canonicals);
        for canonical in canonicals.into_iter().filter_map(Value::as_str) {
            let Some((kind, id)) = canonical.split_once('/') else {
                continue;
            };
            if kind == "ActivityDefinition" && !examples.contains_key(canonical) {
                put(
                    &house,
                    &json!({"resourceType": kind, "id": id, "status": "draft", "kind": "Task"}),
                )
                .await;
            }
        }
    }
    for ((name, definition), line) in definitions.iter().zip(&mut found) {
        if name.starts_with("PlanDef") && line.1.starts_with('4') {
            let mut definition = (*definition).clone();
            answered(&mut definition);
            line.2 = outcome(&house, name, Some(&definition)).await;
        }
    }
    house.end().await;
    let lines: Vec<String> = found
        .iter()
        .map(|(name, as_it_is, answered)| format!("{name} | {as_it_is} | {answered}"))
        .collect();
    let known: Vec<&str> = FACTS
        .lines()
        .filter(|line| !line.starts_with("# "))
        .collect();
    assert_eq!(lines, known, "\n{}\n", lines.join("\n"));
    check_page(&page(&found));
}

fn page(found: &[(String, String, String)]) -> String {
    let refused = |line: &str| line.starts_with('4');
    let applied = found.iter().filter(|(_, line, _)| !refused(line)).count();
    let answered = found
        .iter()
        .filter(|(_, line, again)| refused(line) && again != "-" && !refused(again))
        .count();
    let mut page = format!(
        "# The examples of R4, applied\n\nWhat `$apply` makes of the {} `PlanDefinition`s and `ActivityDefinition`s among the examples of FHIR R4 (the package `hl7.fhir.r4.examples`, which `scripts/test` installs). A test writes each to a running server with what it refers to and applies it to a patient; it fails where something else comes than this page says (`crates/cairn/tests/server/applied_examples.rs`, and `WRITE_DOCS=1` writes the page anew).\n\n{applied} are applied as they are. Most of the others ask in CQL, which is refused as a whole and with its element ([decision 100](decisions/0100-definitions-applied.md), [127](decisions/0127-examples-of-r4-applied.md)). The last column has what comes of these with each condition in CQL answered with yes, without the values that CQL would give, and with a task for each definition that the package names and doesn't have: {answered} more are applied then.\n\n`CQL` stands for \"is in CQL, which is not evaluated here\", `StructureMap` for \"is not carried out here\", `not in the package` for \"names no definition that is here for you\". `1.2` is the second action of the first; times are counted from when it is applied.\n\n| example | as it is | with CQL answered |\n|---|---|---|\n",
        found.len()
    );
    for (name, as_it_is, again) in found {
        let again = if again == "-" { "–" } else { again.as_str() };
        let _ = writeln!(page, "| `{name}` | {as_it_is} | {again} |");
    }
    page
}

fn check_page(made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/applied-examples.md");
    #[allow(
        clippy::disallowed_methods,
        reason = "how a developer asks for the page to be written anew"
    )]
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, made).expect("the page is written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/applied-examples.md is not what the server does; run the test with WRITE_DOCS=1"
    );
}

//! Security labels that codes stand for (HL7 DS4P), told with the rows over HTTP: on every way the same, and
//! never stored by who writes back what they read.

use reqwest::{Method, header::ETAG};
use serde_json::{Value, json};

use crate::bulk::laid_out;
use crate::house::{House, header, house};

const FHIR: &str = "/fhir/r4/";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const CLASSIFIER: &str =
    "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-sec-label-classifier";

async fn sent(house: &House, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let asked = house.sent(method, &format!("{FHIR}{path}"), body);
    let asked = asked.header("prefer", "return=representation");
    let answer = asked.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn put(house: &House, resource: &Value) -> Value {
    let text = |name: &str| resource[name].as_str().expect("text");
    let path = format!("{}/{}", text("resourceType"), text("id"));
    let (status, body) = sent(house, Method::PUT, &path, resource).await;
    assert!((200..300).contains(&status), "{status} {body}");
    body
}

async fn get(house: &House, path: &str) -> Value {
    let asked = house.asked(Method::GET, &format!("{FHIR}{path}"));
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

fn condition(id: &str, code: &str, security: &Value) -> Value {
    let mut condition = json!({"resourceType": "Condition", "id": id,
        "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]}});
    if !security.is_null() {
        condition["meta"] = json!({"security": security});
    }
    condition
}

/// Labels of a resource: the code, and whether it says that it was found here.
fn labels(resource: &Value) -> Vec<(String, bool)> {
    let security = resource["meta"]["security"].as_array();
    let of = |label: &Value| {
        let found = label["extension"][0]["url"] == CLASSIFIER;
        (label["code"].as_str().expect("a code").to_owned(), found)
    };
    security.into_iter().flatten().map(of).collect()
}

fn expected(labels: &[(&str, bool)]) -> Vec<(String, bool)> {
    let owned = |(code, found): &(&str, bool)| ((*code).to_owned(), *found);
    labels.iter().map(owned).collect()
}

fn entry<'a>(bundle: &'a Value, id: &str) -> &'a Value {
    let entries = bundle["entry"].as_array().expect("entries");
    let mut found = entries.iter().map(|entry| &entry["resource"]);
    found.find(|one| one["id"] == id).expect("an entry")
}

/// The manifest of an export, and of each file: type, `Warning` and rows.
async fn exported(house: &House) -> (Value, Vec<(String, String, Vec<Value>)>) {
    let get = async |path: &str| {
        let asked = house.asked(Method::GET, path);
        let asked = asked.header("prefer", "respond-async");
        asked.send().await.expect("an answer")
    };
    let path_of = |url: &str| url[url.find(FHIR).expect("an address here")..].to_owned();
    let begun = get(&format!("{FHIR}$export?_type=Condition,Patient")).await;
    let status = path_of(header(&begun, "content-location"));
    let manifest = laid_out(async || get(&status).await).await;
    let mut files = Vec::new();
    for file in manifest["output"].as_array().expect("files") {
        let url = path_of(file["url"].as_str().expect("an address"));
        let answer = get(&url).await;
        let warning = header(&answer, "warning").to_owned();
        let text = answer.text().await.expect("text");
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let rows = lines.map(|line| line.expect("a resource")).collect();
        let kind = file["type"].as_str().expect("a type").to_owned();
        files.push((kind, warning, rows));
    }
    (manifest, files)
}

/// Conditions of one patient: heart failure, HIV, and opioids with a label that was said.
async fn record(house: &House) {
    put(house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(house, &condition("plain", "I50.9", &Value::Null)).await;
    put(house, &condition("hiv", "B20", &Value::Null)).await;
    let said = json!([{"system": ACT_CODE, "code": "OPIOIDUD"}]);
    put(house, &condition("said", "F11.20", &said)).await;
}

#[tokio::test]
async fn every_answer_tells_the_labels_that_codes_stand_for() {
    let house = house().await;
    record(&house).await;
    let told = [
        ("plain", &[][..]),
        ("hiv", &[("R", true), ("HIV", true)]),
        ("said", &[("OPIOIDUD", false), ("R", true)]),
    ];
    for path in [
        "Condition?patient=p",
        "Condition?patient=p&_sort=_id",
        "Condition?patient=p&_elements=code",
        "Condition?code=I50.9,B20,F11.20&_lastUpdated=gt2000-01-01",
        "Patient?_id=p&_revinclude=Condition:patient",
        "Patient/p/$everything",
        "Patient/p/*",
        "Condition/_history",
        "?_type=Condition,Patient",
    ] {
        let bundle = get(&house, path).await;
        for (id, labels_told) in told {
            let found = labels(entry(&bundle, id));
            assert_eq!(found, expected(labels_told), "{path} {id}");
        }
        // The high-water mark.
        assert_eq!(labels(&bundle), expected(&[("R", true)]), "{path}");
    }
    for (id, labels_told) in told {
        for path in [
            format!("Condition/{id}"),
            format!("Condition/{id}/_history/1"),
        ] {
            let row = get(&house, &path).await;
            assert_eq!(labels(&row), expected(labels_told), "{path}");
        }
        let meta = get(&house, &format!("Condition/{id}/$meta")).await;
        let meta = json!({"meta": meta["parameter"][0]["valueMeta"]});
        assert_eq!(labels(&meta), expected(labels_told), "{id}");
    }
    let (_, files) = exported(&house).await;
    let rows = files.iter().filter(|(kind, ..)| kind == "Condition");
    let rows: Vec<&Value> = rows.flat_map(|(.., rows)| rows).collect();
    assert_eq!(rows.len(), told.len());
    for row in rows {
        let id = row["id"].as_str().expect("an id");
        let (_, labels_told) = told.iter().find(|(one, _)| *one == id).expect("a row");
        assert_eq!(labels(row), expected(labels_told), "{id} in an export");
    }
    // What is ordinary has no mark, and neither has a count.
    for path in ["Condition?_id=plain", "Condition?patient=p&_summary=count"] {
        let bundle = get(&house, path).await;
        assert_eq!(bundle["meta"], Value::Null, "{path}");
    }
    // A batch is as confidential as what it brings.
    let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Condition/hiv"}},
        {"request": {"method": "GET", "url": "Condition?_id=hiv"}}]});
    let (status, bundle) = sent(&house, Method::POST, "", &batch).await;
    assert_eq!(status, 200, "{bundle}");
    assert_eq!(labels(&bundle), expected(&[("R", true)]));
    assert_eq!(
        labels(&bundle["entry"][1]["resource"]),
        expected(&[("R", true)])
    );
    // What is found is what was said: no index has the others.
    for (query, count) in [
        ("_security=HIV", 0),
        ("_security=OPIOIDUD", 1),
        ("_security=R", 0),
    ] {
        let bundle = get(&house, &format!("Condition?{query}")).await;
        let found = bundle["entry"].as_array().map_or(0, Vec::len);
        assert_eq!(found, count, "{query}");
    }
    house.end().await;
}

#[tokio::test]
async fn who_writes_back_what_they_read_stores_no_labels_and_loses_none() {
    let house = house().await;
    record(&house).await;
    let row = get(&house, "Condition/hiv").await;
    let both = expected(&[("R", true), ("HIV", true)]);
    assert_eq!(labels(&row), both);
    // The answer to the write is as a read, and the labels aren't stored: said ones would have no mark.
    assert_eq!(labels(&put(&house, &row).await), both);
    assert_eq!(labels(&get(&house, "Condition/hiv").await), both);
    let bundle = get(&house, "Condition?_security=HIV").await;
    assert_eq!(bundle["entry"], Value::Null);

    // An entity tag is the version's, whatever is told with it.
    let asked = house.asked(Method::GET, &format!("{FHIR}Condition/hiv"));
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.headers()[ETAG], "W/\"2\"");

    // The code goes, and what it stood for stays: that is now what the client says. A level would be a seal.
    let mut row = get(&house, "Condition/hiv").await;
    row["code"] = json!({"text": "infection"});
    let kept = expected(&[("HIV", false), ("R", true)]);
    assert_eq!(labels(&put(&house, &row).await), kept);
    assert_eq!(labels(&get(&house, "Condition/hiv").await), kept);
    let bundle = get(&house, "Condition?_security=HIV").await;
    assert_eq!(labels(entry(&bundle, "hiv")), kept);
    // And can be taken away as any other.
    row["meta"] = json!({});
    assert_eq!(labels(&put(&house, &row).await), expected(&[]));

    // In a transaction, too.
    put(&house, &condition("hiv", "B20", &Value::Null)).await;
    let row = get(&house, "Condition/hiv").await;
    let transaction = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": row, "request": {"method": "PUT", "url": "Condition/hiv"}}]});
    let (status, bundle) = sent(&house, Method::POST, "", &transaction).await;
    assert_eq!(status, 200, "{bundle}");
    assert_eq!(labels(&bundle["entry"][0]["resource"]), both);
    assert_eq!(labels(&get(&house, "Condition/hiv").await), both);

    // A label can be said that codes stand for already, and not be taken away from codes that are there.
    let meta = |code: &str| {
        json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {
            "security": [{"system": ACT_CODE, "code": code}]}}]})
    };
    let versions = async || {
        let bundle = get(&house, "Condition/hiv/_history").await;
        bundle["entry"].as_array().map_or(0, Vec::len)
    };
    let before = versions().await;
    let path = "Condition/hiv/$meta-delete";
    let (status, body) = sent(&house, Method::POST, path, &meta("HIV")).await;
    assert_eq!(status, 200, "{body}");
    let shown = json!({"meta": body["parameter"][0]["valueMeta"]});
    assert_eq!((labels(&shown), versions().await), (both, before));
    let path = "Condition/hiv/$meta-add";
    let (status, body) = sent(&house, Method::POST, path, &meta("HIV")).await;
    assert_eq!(status, 200, "{body}");
    let said = expected(&[("HIV", false), ("R", true)]);
    assert_eq!(labels(&get(&house, "Condition/hiv").await), said);
    assert_eq!(versions().await, before + 1);
    house.end().await;
}

/// The notice of 42 CFR 2.32 goes with an export, whose files begin before anybody has seen their rows.
// Proves: 42 CFR 2.32(a)
#[tokio::test]
async fn an_export_carries_the_notices_of_what_may_be_in_it() {
    let house = house().await;
    record(&house).await;
    let text = "42 CFR part 2 prohibits unauthorized use or disclosure of these records.";
    let (manifest, files) = exported(&house).await;
    let label = json!({"system": ACT_CODE, "code": "42CFRPart2"});
    assert_eq!(
        manifest["extension"]["urn:cairn:notices"],
        json!([{"securityLabel": label, "text": text}])
    );
    assert_eq!(files.len(), 2);
    for (kind, warning, rows) in files {
        assert!(!rows.is_empty(), "{kind}");
        // Who the patients are is under no such rule.
        let expected = match kind.as_str() {
            "Condition" => format!("299 - \"{text}\""),
            _ => String::new(),
        };
        assert_eq!(warning, expected, "{kind}");
    }
    house.end().await;
}

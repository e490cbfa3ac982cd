//! `_typeFilter` of bulk exports: the same resources that a search finds, as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bulk::{Site, group, names, observation, patient, refusal};
use crate::house::{assert_outcome, header};

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn of_status(id: &str, patient: &str, value: f64, status: &str) -> Value {
    let mut made = observation(id, patient, value);
    made["status"] = json!(status);
    made["code"] = json!({"coding": [{"system": "http://loinc.org", "code": "8867-4"}]});
    made
}

/// What a search of a type finds, by name.
async fn found(site: &Site, query: &str) -> BTreeSet<String> {
    let mark = if query.contains('?') { '&' } else { '?' };
    let path = format!("{query}{mark}_count=1000");
    let answer = site.to(0, Method::GET, &path).send().await;
    let bundle: Value = (answer.expect("an answer").json().await).expect("JSON");
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let name = |entry: Value| {
        let part = |name: &str| entry["resource"][name].as_str().expect("text").to_owned();
        format!("{}/{}", part("resourceType"), part("id"))
    };
    entries.into_iter().map(name).collect()
}

/// What an export has; it is ended then, since a client has few at once.
async fn exported(site: &Site, path: &str) -> BTreeMap<String, Value> {
    let status = site.began(path).await;
    let manifest = site.manifest(&status).await;
    let lines = site.lines(&manifest, "output").await;
    let ended = site.to(0, Method::DELETE, &status).send().await;
    assert_eq!(ended.expect("an answer").status(), 202);
    lines
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn story(site: &Site) {
    for id in ["a", "b", "c"] {
        site.put(&patient(id)).await;
        for number in 0..6_u8 {
            let status = ["final", "amended", "preliminary"][usize::from(number) % 3];
            let id_of = format!("{id}{number}");
            site.put(&of_status(&id_of, id, f64::from(number), status))
                .await;
        }
    }
    site.put(&group("g", &["a", "b"])).await;
    let exported_names =
        async |path: &str| -> BTreeSet<String> { exported(site, path).await.into_keys().collect() };

    // Whatever a search of the type finds, and nothing else.
    for filters in [
        vec!["Observation?status=final"],
        vec!["Observation?status=final,amended"],
        vec!["Observation?status=final", "Observation?value-quantity=gt3"],
        vec!["Observation?status:not=final"],
        vec!["Observation?patient=Patient/a&status=final"],
        vec!["Observation?code=http://loinc.org|8867-4&value-quantity=lt2"],
        vec!["Observation?_lastUpdated=gt2020-01-01&status=amended"],
        vec!["Observation?_lastUpdated=lt2020-01-01"],
        vec!["Observation?_filter=status eq final and value-quantity gt 2"],
        vec!["Observation?_tag=t&_id=a1,b2"],
        vec!["Observation?status=nothing-at-all"],
        vec!["Patient?family=berg-a", "Observation?status=final"],
    ] {
        let mut expected = BTreeSet::new();
        for filter in &filters {
            let (kind, query) = filter.split_once('?').expect("a query");
            let query = query.split('&').map(|pair| {
                let (name, value) = pair.split_once('=').expect("a pair");
                format!("{name}={}", encoded(value))
            });
            let query: Vec<String> = query.collect();
            expected.extend(found(site, &format!("{kind}?{}", query.join("&"))).await);
        }
        if !filters.iter().any(|filter| filter.starts_with("Patient")) {
            expected.extend(found(site, "Patient").await);
        }
        // As parameters of their own, and as one with commas.
        let apart = filters
            .iter()
            .map(|filter| format!("&_typeFilter={}", encoded(filter)));
        let apart: String = apart.collect();
        let together = format!("&_typeFilter={}", encoded(&filters.join(",")));
        for asked in [apart, together] {
            let path = format!("$export?_type=Observation,Patient{asked}");
            assert_eq!(exported_names(&path).await, expected, "{filters:?}");
        }
    }

    // Of a group, by a body.
    let body = json!({"resourceType": "Parameters", "parameter": [
        {"name": "_type", "valueString": "Observation"},
        {"name": "_typeFilter", "valueString": "Observation?status=final"},
        {"name": "patient", "valueReference": {"reference": "Patient/b"}},
    ]});
    let answer = site
        .to(0, Method::POST, "Group/g/$export")
        .header("prefer", "respond-async")
        .header("content-type", "application/fhir+json")
        .body(body.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 202);
    let manifest = site.manifest(header(&answer, "content-location")).await;
    let lines = site.lines(&manifest, "output").await;
    assert_eq!(names(&lines), ["Observation/b0", "Observation/b3"]);

    // As it was: what matched then and does not now, and the other way round.
    let path = format!(
        "$export?_type=Observation&_typeFilter={}",
        encoded("Observation?status=final&patient=a,b")
    );
    let manifest = site.manifest(&site.began(&path).await).await;
    sleep(Duration::from_millis(20)).await;
    site.put(&of_status("a0", "a", 0.0, "cancelled")).await;
    site.put(&of_status("a1", "a", 0.0, "final")).await;
    let then = [
        "Observation/a0",
        "Observation/a3",
        "Observation/b0",
        "Observation/b3",
    ];
    for _ in 0..2 {
        let lines = site.lines(&manifest, "output").await;
        assert_eq!(names(&lines), then);
        assert_eq!(lines["Observation/a0"]["status"], "final");
    }
    let now = exported_names(&path).await;
    assert_eq!(
        now,
        set(&[
            "Observation/a1",
            "Observation/a3",
            "Observation/b0",
            "Observation/b3"
        ])
    );
    // A filter shows nothing that a consent hides, and cutting goes with it.
    site.put(&refusal("no", "b")).await;
    let lines = exported(site, &format!("{path}&_elements=Observation.code")).await;
    assert_eq!(names(&lines), ["Observation/a1", "Observation/a3"]);
    assert!(lines["Observation/a1"].get("valueQuantity").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_is_a_search_as_it_was() {
    let site = Site::in_folder().await;
    story(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_is_a_search_as_it_was_in_a_database() {
    let site = Site::in_database().await;
    story(&site).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_filter_is_refused_or_told() {
    let site = Site::in_folder().await;
    site.put(&patient("a")).await;
    site.put(&of_status("a0", "a", 1.0, "final")).await;
    site.put(&of_status("a1", "a", 1.0, "amended")).await;
    for (level, filter, code) in [
        ("$export?", "Observation", "value"),
        ("$export?", "Zanzibar?a=b", "value"),
        ("$export?", "Observation?zanzibar=a", "not-supported"),
        ("$export?", "Observation?date=soon", "not-supported"),
        ("$export?", "Observation?_sort=date", "not-supported"),
        ("$export?", "Observation?patient.name=a", "not-supported"),
        (
            "$export?",
            "Observation?code:in=http://x/vs",
            "not-supported",
        ),
        (
            "$export?_type=Patient&",
            "Observation?status=final",
            "value",
        ),
        ("Patient/$export?", "Organization?name=a", "value"),
    ] {
        let answer = site
            .kick_off(&format!("{level}_typeFilter={}", encoded(filter)))
            .await;
        assert_eq!(answer.status(), 400, "{filter}");
        let outcome: Value = answer.json().await.expect("JSON");
        assert_eq!(outcome["issue"][0]["code"], code, "{filter}: {outcome}");
        assert_eq!(
            outcome["issue"][0]["expression"][0], "_typeFilter",
            "{filter}"
        );
    }
    // What may not be searched has no filter either.
    let answer = site
        .kick_off(&format!(
            "$export?_typeFilter={}",
            encoded("AuditEvent?action=R")
        ))
        .await;
    assert_outcome(answer, 403, "forbidden").await;

    // Who is lenient gets more rather than less, and a file says so.
    let filter = encoded("Observation?status=final,Observation?patient.name=a");
    let path = format!("$export?_type=Observation&organizeOutputBy=Patient&_typeFilter={filter}");
    let asked = site.to(0, Method::GET, &path);
    let asked = asked.header("prefer", "respond-async, handling=lenient");
    let answer = asked.send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let manifest = site.manifest(header(&answer, "content-location")).await;
    let lines = site.lines(&manifest, "output").await;
    assert_eq!(names(&lines), ["Observation/a0", "Observation/a1"]);
    let url = manifest["error"][0]["url"].as_str().expect("an address");
    let answer = site.to(0, Method::GET, url).send().await;
    let notes = answer.expect("an answer").text().await.expect("text");
    let notes: Vec<Value> = (notes.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let told: Vec<&Value> = (notes.iter())
        .map(|note| &note["issue"][0]["expression"][0])
        .collect();
    assert_eq!(told, ["organizeOutputBy", "_typeFilter"]);
    site.end().await;
}

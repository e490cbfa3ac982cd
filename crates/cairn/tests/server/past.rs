//! History of a type and of everything, over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{House, assert_outcome, house};

async fn get(house: &House, path: &str) -> Value {
    let answer = house.asked(Method::GET, path).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

fn next(bundle: &Value) -> Option<String> {
    let links = bundle["link"].as_array().expect("links");
    let next = links.iter().find(|link| link["relation"] == "next")?;
    let url = next["url"].as_str().expect("an address");
    Some(url[url.find("/fhir/").expect("FHIR")..].to_owned())
}

#[tokio::test]
async fn what_was_written_is_listed_by_type_and_as_a_whole() {
    let house = house().await;
    let mut written = Vec::new();
    for (kind, id) in [("Patient", "p"), ("Organization", "o"), ("Patient", "q")] {
        let path = format!("/fhir/r4/{kind}/{id}");
        for active in [true, false] {
            let body = json!({"resourceType": kind, "id": id, "active": active});
            let put = house.asked(Method::PUT, &path).json(&body).send().await;
            assert!(put.expect("an answer").status().is_success());
            written.push(format!("PUT {kind}/{id}"));
        }
    }
    let deleted = house.asked(Method::DELETE, "/fhir/r4/Organization/o");
    assert!(
        deleted
            .send()
            .await
            .expect("an answer")
            .status()
            .is_success()
    );
    written.push("DELETE Organization/o".to_owned());
    written.reverse();

    for (path, kind) in [
        ("/fhir/r4/_history", ""),
        ("/fhir/r4/Patient/_history", "Patient/"),
    ] {
        let expected: Vec<_> = (written.iter())
            .filter(|entry| entry.contains(kind))
            .collect();
        for count in [1, 2, 50] {
            let mut found = Vec::new();
            let mut page = Some(format!("{path}?_count={count}"));
            while let Some(asked) = page {
                let bundle = get(&house, &asked).await;
                assert_eq!(bundle["type"], "history");
                for entry in bundle["entry"].as_array().into_iter().flatten() {
                    let request = &entry["request"];
                    let text = |name: &str| request[name].as_str().expect("text").to_owned();
                    found.push(format!("{} {}", text("method"), text("url")));
                }
                page = next(&bundle);
            }
            // The house may hold more that was there before.
            found.truncate(expected.len());
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{path} {count}");
        }
    }
    for (path, status, code) in [
        ("/fhir/r4/AuditEvent/_history", 405, "not-supported"),
        ("/fhir/r4/Nothing/_history", 404, "not-supported"),
        ("/fhir/r4/_history?_at=then", 400, "value"),
        ("/fhir/r4/Patient/_history?name=x", 400, "not-supported"),
    ] {
        let answer = house.asked(Method::GET, path).send().await;
        assert_outcome(answer.expect("an answer"), status, code).await;
    }
    for path in ["/fhir/r4/_history", "/fhir/r4/Patient/_history"] {
        let answer = house.bare(Method::GET, path).send().await;
        assert_outcome(answer.expect("an answer"), 401, "login").await;
        let answer = house
            .asked(Method::POST, path)
            .json(&json!({}))
            .send()
            .await;
        assert_outcome(answer.expect("an answer"), 405, "not-supported").await;
        // In XML, too, and lenient about what isn't known.
        let xml = house.asked(Method::GET, &format!("{path}?name=x"));
        let xml = xml.header("accept", "application/fhir+xml");
        let answer = xml.header("prefer", "handling=lenient").send().await;
        let text = answer.expect("an answer").text().await.expect("text");
        assert!(text.contains("<type value=\"history\"/>"), "{text}");
    }
    house.end().await;
}

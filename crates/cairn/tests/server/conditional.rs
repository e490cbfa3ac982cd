//! Conditional writes over HTTP, also by many clients at once.
use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{assert_outcome, house};

const CLIENTS: usize = 32;

fn patient(number: &str) -> Value {
    json!({"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": number}]})
}

/// Writes until the answer is no "try again"; the id that the answer shows.
async fn made(request: reqwest::RequestBuilder) -> String {
    loop {
        let again = request.try_clone().expect("a body in memory");
        let answer = again.send().await.expect("an answer");
        match answer.status().as_u16() {
            200 | 201 => {
                let body: Value = answer.json().await.expect("JSON");
                return body["id"].as_str().expect("an id").to_owned();
            }
            409 => {}
            status => panic!("{status}: {}", answer.text().await.unwrap_or_default()),
        }
    }
}

// Proves: 45 CFR 164.312(c)(1)
#[tokio::test]
async fn clients_that_race_make_one() {
    let house = house().await;
    let bundle =
        |entry: Value| json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]});
    for round in 0..3 {
        let number = format!("round-{round}");
        let criteria = format!("identifier=urn:mrn%7C{number}");
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let body = patient(&number);
            // Creates alone, updates alone, and then both and those of transactions.
            let way = match round {
                0 => 0,
                1 => 1,
                _ => client % 4,
            };
            let url = format!("Patient?{criteria}");
            let request = match way {
                0 => house
                    .sent(Method::POST, "/fhir/r4/Patient", &body)
                    .header("if-none-exist", &criteria),
                1 => house.sent(Method::PUT, &format!("/fhir/r4/{url}"), &body),
                2 => house.sent(Method::POST, "/fhir/r4", &bundle(json!({"resource": body, "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria}}))),
                _ => house.sent(Method::POST, "/fhir/r4", &bundle(json!({"resource": body, "request": {"method": "PUT", "url": url}}))),
            };
            tasks.spawn(async move {
                if way < 2 {
                    return Some(made(request).await);
                }
                // Which id it is shows in the entry; that there is one is counted below.
                loop {
                    let again = request.try_clone().expect("a body in memory");
                    match again.send().await.expect("an answer").status().as_u16() {
                        200 => return None,
                        409 => {}
                        status => panic!("{status}"),
                    }
                }
            });
        }
        let ids: HashSet<String> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(ids.len(), 1, "round {round}");
        let found = house.asked(
            Method::GET,
            &format!("/fhir/r4/Patient?{criteria}&_total=accurate"),
        );
        let found: Value = found
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        assert_eq!(found["total"], 1, "round {round}");
    }
    house.end().await;
}

#[tokio::test]
async fn each_conditional_write_has_its_route() {
    let house = house().await;
    let path = "/fhir/r4/Patient?identifier=urn:mrn%7C1&_format=json";
    let put = house.sent(Method::PUT, path, &patient("1")).send().await;
    assert_eq!(put.expect("an answer").status(), 201);
    let patch = house
        .asked(Method::PATCH, path)
        .header("content-type", "application/json-patch+json")
        .body(r#"[{"op":"add","path":"/active","value":true}]"#)
        .send()
        .await
        .expect("an answer");
    assert_eq!(patch.status(), 200);
    let patched: Value = patch.json().await.expect("JSON");
    assert_eq!(patched["active"], true);
    let delete = house.asked(Method::DELETE, path).send().await;
    assert_eq!(delete.expect("an answer").status(), 204);
    let again = house.asked(Method::DELETE, path).send().await;
    assert_eq!(again.expect("an answer").status(), 204);
    for method in [Method::PUT, Method::DELETE] {
        // Without criteria it would be of everything.
        let all = house
            .sent(method, "/fhir/r4/Patient", &patient("1"))
            .send()
            .await;
        assert_outcome(all.expect("an answer"), 400, "invalid").await;
    }
    house.end().await;
}

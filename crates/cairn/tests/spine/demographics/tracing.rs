//! Traces: who is found by what is known of them, and what was changed since.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Spine, marked, patient};

/// Five persons: two Smiths, one restricted, one invalidated, one superseded.
async fn furnished() -> Spine {
    let spine = Spine::new().await;
    let person = |family: &str, given: &str| {
        json!({"name": [
            {"use": "usual", "family": family, "given": [given]},
            {"use": "maiden", "family": "Before", "given": [given]},
        ]})
    };
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    spine
        .keep(&patient("r2", "9000000017", &person("Smythe", "Janet")))
        .await;
    let mut restricted = person("Smiley", "Rose");
    restricted["meta"] = marked("R");
    spine.keep(&patient("r3", "9000000025", &restricted)).await;
    let mut gone = person("Smiley", "Gone");
    gone["meta"] = marked("REDACTED");
    spine.keep(&patient("r4", "9000000033", &gone)).await;
    let mut superseded = person("Formerly", "Jane");
    superseded["link"] = json!([{"type": "replaced-by", "other": {"reference": "Patient/r1"}}]);
    spine.keep(&patient("r5", "9111231130", &superseded)).await;
    // Who has no number is nobody here.
    let mut stranger = patient("r6", "9000000009", &person("Smithson", "Jim"));
    stranger["identifier"] = json!([{"system": "urn:other", "value": "9000000009"}]);
    spine.keep(&stranger).await;
    spine
}

#[tokio::test]
async fn who_is_found_by_what() {
    let spine = furnished().await;
    let born = "birthdate=eq2010-10-22";
    for (query, expected) in [
        ("family=Smith", &["9000000009"][..]),
        ("family=SMITH&given=jane", &["9000000009"]),
        ("family=Smith&given=Jane&given=Anne", &["9000000009"]),
        ("family=Smith&given=Jane&given=Kate", &[]),
        ("family=Smith&given=Ja%2A", &["9000000009"]),
        ("family=Smith&given=An%2A", &[]),
        ("family=Sm%2Ath%2A", &["9000000009", "9000000017"]),
        ("family=Sm%2A", &["9000000009", "9000000017", "9000000025"]),
        ("family=Sm%2A&gender=male", &[]),
        ("family=Smith&general-practitioner=y12345", &["9000000009"]),
        ("family=Smith&general-practitioner=Y1", &[]),
        ("family=Smith&email=JANE.SMITH@example.com", &["9000000009"]),
        ("family=Smith&email=jane@example.com", &[]),
        ("family=Smith&phone=01632960587", &["9000000009"]),
        ("family=Smith&phone=0163", &[]),
        ("family=Smith&address-postalcode=ls16ae", &["9000000009"]),
        ("family=Smith&address-postcode=LS1%2A", &["9000000009"]),
        ("family=Smith&address-postalcode=LS2", &[]),
        // Of before, where that is asked for.
        ("family=Before", &[]),
        ("family=Before&_history=true&given=Janet", &["9000000017"]),
        // Restricted: by name, and never by where they are.
        ("family=Smiley", &["9000000025"]),
        ("family=Smiley&address-postalcode=LS1+6AE", &[]),
        ("family=Smiley&general-practitioner=Y12345", &[]),
        // Superseded: who has taken the place.
        ("family=Formerly", &["9000000009"]),
        ("family=Smithson", &[]),
        ("family=Smith&_exact-match=true", &["9000000009"]),
        ("family=Sm%2A&_exact-match=true", &[]),
    ] {
        let answer = spine.get(&format!("/Patient?{query}&{born}")).await;
        assert_eq!(answer.numbers(), expected, "{query}");
        assert_eq!(answer.body["total"], expected.len(), "{query}");
    }
    for (birth, found) in [
        ("birthdate=ge2010-10-21&birthdate=le2010-10-23", 1),
        ("birthdate=le2010-10-22", 1),
        ("birthdate=ge2010-10-23", 0),
        ("birthdate=2010-10-22", 1),
    ] {
        let answer = spine.get(&format!("/Patient?family=Smith&{birth}")).await;
        assert_eq!(answer.numbers().len(), found, "{birth}");
    }
    let answer = spine.get(&format!("/Patient?family=Sm%2A&{born}")).await;
    let entries = answer.body["entry"].as_array().expect("entries");
    for entry in entries {
        let score = entry["search"]["score"].as_f64().expect("a score");
        assert!((0.0..=1.0).contains(&score));
        assert!(entry["resource"]["name"][0]["use"] == "usual", "{entry}");
        assert!(entry["resource"]["name"].as_array().map(Vec::len) == Some(1));
    }
    let restricted = entries
        .iter()
        .find(|entry| entry["resource"]["id"] == "9000000025");
    let restricted = &restricted.expect("they are found")["resource"];
    assert!(restricted.get("address").is_none() && restricted.get("telecom").is_none());
    assert!(answer.body["timestamp"].is_string());
    spine.house.end().await;
}

#[tokio::test]
async fn searches_that_are_not_made() {
    let spine = furnished().await;
    for (query, status, code) in [
        ("", 400, "UNSUPPORTED_SERVICE"),
        ("?family=Smith", 400, "MISSING_VALUE"),
        (
            "?email=j.smith@example.com&phone=0163",
            400,
            "MISSING_VALUE",
        ),
        ("?birthdate=eq2010-10-22", 400, "INVALID_SEARCH_DATA"),
        ("?family=Smith&birthdate=20101022", 400, "INVALID_VALUE"),
        (
            "?family=Smith&birthdate=eq2010-10-22&death-date=20101022",
            400,
            "INVALID_VALUE",
        ),
        (
            "?family=Smith&birthdate=eq2010-10-22&gender=mal",
            400,
            "INVALID_VALUE",
        ),
        ("?family=S%2A&birthdate=eq2010-10-22", 400, "INVALID_VALUE"),
        (
            "?family=Smith&birthdate=eq2010-10-22&invalidParam=123",
            400,
            "ADDITIONAL_PROPERTIES",
        ),
        (
            "?family=Smith&birthdate=eq2010-10-22&_max-results=51",
            400,
            "INVALID_VALUE",
        ),
        (
            "?family=Smith&birthdate=eq2010-10-22&address-postcode=LS1&address-postalcode=LS1",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "?family=Smith&birthdate=eq2010-10-22&_fuzzy-match=true",
            400,
            "INVALID_SEARCH_DATA",
        ),
        (
            "?family=Sm%2A&given=Jane&birthdate=eq2010-10-22&_fuzzy-match=true",
            400,
            "INVALID_SEARCH_DATA",
        ),
    ] {
        let answer = spine.get(&format!("/Patient{query}")).await;
        answer.refused(status, code);
        // Nothing of what was sent is said again.
        let text = answer.body.to_string();
        assert!(
            !text.contains("Smith") && !text.contains("20101022"),
            "{text}"
        );
    }
    spine.house.end().await;
}

#[tokio::test]
async fn more_than_are_answered() {
    let spine = furnished().await;
    let born = "birthdate=eq2010-10-22";
    let many = format!("/Patient?family=Sm%2A&{born}");
    for path in [
        format!("{many}&_max-results=2"),
        format!("{many}&_max-results=1"),
    ] {
        let answer = spine.get(&path).await;
        answer.refused(200, "TOO_MANY_MATCHES");
        assert_eq!(answer.body["issue"][0]["code"], "multiple-matches");
    }
    assert_eq!(
        spine
            .get(&format!("{many}&_max-results=3"))
            .await
            .numbers()
            .len(),
        3
    );
    // Systems by themselves get one, or none.
    let app = spine.house.token.clone();
    spine
        .get_as(&app, &many)
        .await
        .refused(200, "TOO_MANY_MATCHES");
    let one = format!("/Patient?family=Smith&{born}");
    assert_eq!(spine.get_as(&app, &one).await.numbers(), ["9000000009"]);
    assert_eq!(
        spine
            .get_as(&app, &format!("{one}&_max-results=1"))
            .await
            .numbers()
            .len(),
        1
    );
    let more = spine.get_as(&app, &format!("{one}&_max-results=2")).await;
    more.refused(403, "INVALID_VALUE");
    // As FHIR has it, who prefers that: the best, how many there are, and that these are not all.
    let preferred = |token: &str| {
        let request = spine.ask_as(token, Method::GET, &format!("{many}&_max-results=2"));
        request.header("prefer", "multiple-matches=bundle")
    };
    let answer = Answer::of(preferred(&spine.worker)).await;
    let body = answer.fine();
    assert_eq!(body["total"], 3);
    let entries = body["entry"].as_array().expect("entries");
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["search"]["mode"], "match");
    assert_eq!(entries[2]["search"]["mode"], "outcome");
    assert_eq!(entries[2]["resource"]["resourceType"], "OperationOutcome");
    // None is picked for a system by chance.
    let request = spine.ask_as(&app, Method::GET, &many);
    let answer = Answer::of(request.header("prefer", "multiple-matches=bundle")).await;
    answer.refused(200, "TOO_MANY_MATCHES");
    spine.house.end().await;
}

#[tokio::test]
async fn what_was_changed_since_is_told() {
    let spine = furnished().await;
    let patches = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    let changed = Answer::of(spine.patch("9000000009", 1, &patches)).await;
    changed.fine();
    let path = "/fhir/r4/Patient/r2";
    let gone = spine.house.asked(Method::DELETE, path).send().await;
    assert!(gone.expect("an answer").status().is_success());
    let answer = spine
        .get("/Patient/_history?_since=2026-01-01T00:00:00Z&_count=100")
        .await;
    let body = answer.fine();
    assert_eq!(body["type"], "history");
    let text = body.to_string();
    // Neither ids of the record, nor who has no number, nor where a restricted person is.
    assert!(
        !text.contains("Patient/r") && !text.contains("Smithson"),
        "{text}"
    );
    let of = |number: &str| -> Vec<&Value> {
        let entries = body["entry"].as_array().expect("entries").iter();
        let address = spine
            .house
            .url(&format!("{}/Patient/{number}", super::BASE));
        entries
            .filter(|entry| entry["fullUrl"] == address.as_str())
            .collect()
    };
    let changed = of("9000000009");
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[0]["resource"]["gender"], "male");
    assert_eq!(changed[0]["resource"]["meta"]["versionId"], "2");
    let deleted = of("9000000017");
    assert_eq!(deleted[0]["request"]["method"], "DELETE");
    assert!(deleted[0].get("resource").is_none());
    assert!(of("9000000025")[0]["resource"].get("address").is_none());
    let invalidated = of("9000000033");
    assert_eq!(invalidated[0]["request"]["method"], "DELETE");
    assert!(invalidated[0].get("resource").is_none());
    let superseded = of("9111231130");
    assert_eq!(superseded[0]["resource"]["active"], false);
    // Page by page, under this service's own address.
    let mut path = format!("{}/Patient/_history?_count=2", spine.house.url(super::BASE));
    let mut seen = 0;
    for _ in 0..20 {
        let local = path.replace(&spine.house.url(super::BASE), "");
        let page = spine.get(&local).await;
        seen += page.fine()["entry"].as_array().map_or(0, Vec::len);
        let links = page.body["link"].as_array().expect("links");
        let next = links.iter().find(|link| link["relation"] == "next");
        match next {
            Some(next) => next["url"]
                .as_str()
                .expect("an address")
                .clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(seen, body["entry"].as_array().map_or(0, Vec::len));
    spine
        .get("/Patient/_history?_since=soon")
        .await
        .refused(400, "VALIDATION_ERROR");
    spine
        .get("/Patient/_history?name=x")
        .await
        .refused(400, "ADDITIONAL_PROPERTIES");
    spine.house.end().await;
}

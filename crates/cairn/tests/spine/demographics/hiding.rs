//! Nobody is found by what is hidden of them, whichever of their records or versions is asked, and nobody is made a
//! second time whom somebody may not see.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use super::{Answer, Spine, marked, patient};
use crate::house::token;

const BORN: &str = "birthdate=eq2010-10-22";

fn replaced_by(id: &str) -> Value {
    json!([{"type": "replaced-by", "other": {"reference": format!("Patient/{id}")}}])
}

fn called(family: &str) -> Value {
    json!([{"use": "usual", "family": family, "given": ["Jane"]}])
}

/// A request for a new person like those of [`patient`].
fn newcomer(family: &str, postcode: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "name": [{"use": "usual", "given": ["Jane"], "family": family, "period": {"start": "2010-10-22"}}],
        "address": [{"use": "home", "line": ["1 Boar Lane", "Leeds"], "postalCode": postcode, "period": {"start": "2020-01-01"}}],
        "gender": "female", "birthDate": "2010-10-22",
        "extension": [{"url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-RegisteringAuthority", "extension": [{"url": "organisationIdentifier", "valueString": "RGS"}]}],
    })
}

/// Patients in the audit.
async fn looked_at(spine: &Spine, id: &str) -> u64 {
    let officer = token(&spine.house.server, Role::PrivacyOfficer).await;
    let path = format!("/fhir/r4/AuditEvent?_summary=count&patient=Patient/{id}");
    let request = spine.house.bare(Method::GET, &path).bearer_auth(&officer);
    let request = request.header("x-purpose-of-use", "HOPERAT");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let found: Value = answer.json().await.expect("JSON");
    found["total"].as_u64().expect("a number")
}

#[tokio::test]
async fn who_is_restricted_is_found_by_no_place_through_a_record_of_before() {
    let spine = Spine::new().await;
    // The record of before says where they live; so does that of before it.
    let now = json!({"meta": marked("R"), "name": called("Renamed")});
    spine.keep(&patient("b", "9000000009", &now)).await;
    let before = json!({"link": replaced_by("b"), "name": called("Hidden")});
    spine.keep(&patient("a", "9000000017", &before)).await;
    let older = json!({"link": replaced_by("a"), "name": called("Hiding")});
    spine.keep(&patient("o", "9000000025", &older)).await;
    for family in ["Hidden", "Hiding"] {
        for fuzzy in ["", "&_fuzzy-match=true"] {
            for (place, expected) in [
                ("", &["9000000009"][..]),
                ("&address-postalcode=LS1+6AE", &[]),
                ("&address-postalcode=LS2+6AE", &[]),
                ("&general-practitioner=Y12345", &[]),
            ] {
                let path = format!("/Patient?family={family}&given=Jane&{BORN}{place}{fuzzy}");
                assert_eq!(spine.get(&path).await.numbers(), expected, "{path}");
            }
        }
        let wild = format!("/Patient?family={family}&{BORN}&address-postalcode=LS%2A");
        assert!(spine.get(&wild).await.numbers().is_empty());
        // Who asks for a new record learns nothing of the place either.
        let mut answers = Vec::new();
        for postcode in ["LS1 6AE", "G1 1AA"] {
            let answer = Answer::of(spine.post(&newcomer(family, postcode))).await;
            answer.refused(200, "SINGLE_MATCH");
            answers.push(answer.body);
        }
        assert_eq!(answers[0], answers[1]);
    }
    assert_eq!(spine.versions().await, 3);
    spine.house.end().await;
}

#[tokio::test]
async fn what_is_hidden_now_is_not_told_of_before() {
    let spine = Spine::new().await;
    let all = [
        ("r", "9000000009", json!({"meta": marked("R")})),
        ("g", "9000000017", json!({"meta": marked("REDACTED")})),
        ("s", "9000000025", json!({"link": replaced_by("u")})),
        ("v", "9000000033", json!({"meta": marked("V")})),
        ("d", "9111231130", json!({})),
    ];
    for (id, number, changes) in &all {
        spine.keep(&patient(id, number, &json!({}))).await;
        if *id != "d" {
            spine.keep(&patient(id, number, changes)).await;
        }
    }
    let gone = spine.house.asked(Method::DELETE, "/fhir/r4/Patient/d");
    assert!(gone.send().await.expect("an answer").status().is_success());
    let answer = spine
        .get("/Patient/_history?_since=2020-01-01T00:00:00Z&_count=200")
        .await;
    let body = answer.fine();
    let entries = body["entry"].as_array().expect("entries");
    assert_eq!(entries.len(), 10, "{body}");
    for entry in entries {
        let text = entry.to_string();
        for hidden in ["LS1 6AE", "01632960587", "Y12345"] {
            assert!(!text.contains(hidden), "{text}");
        }
        let url = entry["fullUrl"].as_str().expect("an address");
        for (number, member) in [
            ("9000000009", true),
            ("9000000017", false),
            ("9111231130", false),
        ] {
            if url.ends_with(number) {
                assert_eq!(entry.get("resource").is_some(), member, "{text}");
            }
        }
        if !url.ends_with("9000000009") {
            assert!(!text.contains("Smith"), "{text}");
        }
    }
    spine
        .get("/Patient/_history?_count=201")
        .await
        .refused(400, "INVALID_VALUE");
    spine.house.end().await;
}

#[tokio::test]
async fn whoever_is_hidden_is_not_made_again() {
    let spine = Spine::new().await;
    spine
        .keep(&patient(
            "v",
            "9000000009",
            &json!({"meta": marked("V"), "name": called("Secret")}),
        ))
        .await;
    let before = spine.versions().await;
    for postcode in ["LS1 6AE", "G1 1AA"] {
        let answer = Answer::of(spine.post(&newcomer("Secret", postcode))).await;
        answer.refused(200, "MULTIPLE_MATCHES");
        assert!(!answer.body.to_string().contains("90000000"), "{answer:?}");
    }
    assert_eq!(spine.versions().await, before);
    spine.house.end().await;
}

#[tokio::test]
async fn a_number_of_somebody_whose_record_is_deleted_is_nobody_else_s() {
    let spine = Spine::new().await;
    let mut numbers: Vec<String> = Vec::new();
    for _ in 0..3 {
        let answer = Answer::of(spine.post(&newcomer("Mouse", "G1 1AA"))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let number = answer.body["id"].as_str().expect("a number").to_owned();
        assert!(!numbers.contains(&number), "{numbers:?} {number}");
        let path = format!("/fhir/r4/Patient?identifier={number}");
        let found = spine
            .house
            .asked(Method::GET, &path)
            .send()
            .await
            .expect("an answer");
        let found: Value = found.json().await.expect("JSON");
        let id = found["entry"][0]["resource"]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let gone = spine
            .house
            .asked(Method::DELETE, &format!("/fhir/r4/Patient/{id}"));
        assert!(gone.send().await.expect("an answer").status().is_success());
        numbers.push(number);
    }
    spine.house.end().await;
}

#[tokio::test]
async fn the_audit_names_those_who_are_told() {
    let spine = Spine::new().await;
    for (id, number, changes) in [
        ("a", "9000000009", json!({})),
        ("b", "9000000017", json!({})),
        ("c", "9000000025", json!({})),
        (
            "old",
            "9000000033",
            json!({"name": called("Before"), "link": replaced_by("a")}),
        ),
    ] {
        spine.keep(&patient(id, number, &changes)).await;
    }
    let seen = async || {
        let mut all = Vec::new();
        for id in ["a", "b", "c", "old"] {
            all.push(looked_at(&spine, id).await);
        }
        all
    };
    let before = seen().await;
    let path = format!("/Patient?family=Smith&{BORN}&_max-results=2");
    spine.get(&path).await.refused(200, "TOO_MANY_MATCHES");
    assert_eq!(seen().await, before, "nobody was told");
    let request = spine.ask(Method::GET, &path);
    let answer = Answer::of(request.header("prefer", "multiple-matches=bundle")).await;
    assert_eq!(answer.fine()["total"], 3);
    let told: u64 = seen()
        .await
        .iter()
        .zip(&before)
        .map(|(now, before)| now - before)
        .sum();
    assert_eq!(told, 2, "the best two");
    // By the record of before: who has taken its place is told, and nobody else.
    let before = seen().await;
    let found = spine.get(&format!("/Patient?family=Before&{BORN}")).await;
    assert_eq!(found.numbers(), ["9000000009"]);
    let now = seen().await;
    assert_eq!(now[0], before[0] + 1);
    assert_eq!(now[1..], before[1..]);
    spine.house.end().await;
}

#[tokio::test]
async fn related_people_tell_where_nobody_is_who_is_hidden() {
    let spine = Spine::new().await;
    spine
        .keep(&patient("child", "9000000009", &json!({})))
        .await;
    for (id, number, code) in [
        ("m", "9000000017", "R"),
        ("n", "9000000025", "V"),
        ("u", "9000000033", "U"),
    ] {
        spine
            .keep(&patient(id, number, &json!({"meta": marked(code)})))
            .await;
    }
    let person = |id: &str, number: Option<&str>, changes: &Value| {
        let mut person = json!({
            "resourceType": "RelatedPerson", "id": id, "patient": {"reference": "Patient/child"},
            "name": [{"family": format!("Relative-{id}")}], "relationship": [{"text": "Guardian"}],
            "address": [{"line": [format!("Place-{id}")]}], "telecom": [{"system": "phone", "value": format!("0113-{id}")}],
            "extension": [{"url": "urn:other", "valueString": format!("Other-{id}")}],
        });
        if let Some(number) = number {
            person["identifier"] = json!([{"system": super::NUMBERS, "value": number}]);
        }
        for (name, value) in changes.as_object().into_iter().flatten() {
            person[name] = value.clone();
        }
        person
    };
    for related in [
        person("pm", Some("9000000017"), &json!({})),
        person("pn", Some("9000000025"), &json!({})),
        person("pu", Some("9000000033"), &json!({})),
        person("px", Some("9111231130"), &json!({})),
        person("pr", None, &json!({"meta": marked("R")})),
        person("pv", None, &json!({"meta": marked("V")})),
        person("po", None, &json!({})),
    ] {
        spine.keep(&related).await;
    }
    let answer = spine.get("/Patient/9000000009/RelatedPerson").await;
    let text = answer.fine().to_string();
    for (id, named, placed) in [
        ("pm", true, false),
        ("pn", false, false),
        ("pu", true, true),
        ("px", true, false),
        ("pr", true, false),
        ("pv", false, false),
        ("po", true, true),
    ] {
        assert_eq!(
            text.contains(&format!("Relative-{id}")),
            named,
            "{id} {text}"
        );
        assert_eq!(text.contains(&format!("Place-{id}")), placed, "{id} {text}");
        assert_eq!(text.contains(&format!("0113-{id}")), placed, "{id} {text}");
        assert!(!text.contains(&format!("Other-{id}")), "{id} {text}");
    }
    assert_eq!(answer.body["total"], 5);
    spine.house.end().await;
}

#[tokio::test]
async fn a_change_keeps_the_reference_to_the_practice() {
    let spine = Spine::new().await;
    let practice = json!([{"reference": "Organization/o", "display": "Park Surgery",
        "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Y12345"}}]);
    spine
        .keep(&json!({"resourceType": "Organization", "id": "o", "name": "Park Surgery"}))
        .await;
    spine
        .keep(&patient(
            "r1",
            "9000000009",
            &json!({"generalPractitioner": practice}),
        ))
        .await;
    let patches = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    Answer::of(spine.patch("9000000009", 1, &patches))
        .await
        .fine();
    let path = "/fhir/r4/Patient?general-practitioner=Organization/o";
    let found = spine
        .house
        .asked(Method::GET, path)
        .send()
        .await
        .expect("an answer");
    let found: Value = found.json().await.expect("JSON");
    let kept = &found["entry"][0]["resource"];
    assert_eq!(kept["gender"], "male", "{found}");
    assert_eq!(kept["generalPractitioner"][0]["display"], "Park Surgery");
    spine.house.end().await;
}

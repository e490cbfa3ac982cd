//! By number: who is told of, what is hidden, and what every request has to say of itself.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use super::{Answer, BASE, Spine, marked, new_id, patient};
use crate::house::{header, house, token};

#[tokio::test]
async fn a_patient_is_told_of_by_number() {
    let spine = Spine::new().await;
    spine
        .keep(&patient(
            "r1",
            "9000000009",
            &json!({"maritalStatus": {"text": "x"}}),
        ))
        .await;
    let id = new_id();
    let request = spine
        .house
        .bare(Method::GET, &format!("{BASE}/Patient/9000000009"))
        .bearer_auth(&spine.worker)
        .header("x-request-id", &id)
        .header("x-correlation-id", "11C46F5F.any thing")
        .header("nhsd-session-urid", "555254240100");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "etag"), "W/\"1\"");
    assert_eq!(header(&answer, "x-request-id"), id);
    assert_eq!(header(&answer, "x-correlation-id"), "11C46F5F.any thing");
    let told: Value = answer.json().await.expect("JSON");
    assert_eq!(told["id"], "9000000009");
    assert_eq!(told["identifier"][0]["value"], "9000000009");
    assert_eq!(told["meta"]["versionId"], "1");
    assert_eq!(told["meta"]["security"][0]["code"], "U");
    assert_eq!(told["meta"]["security"][0]["display"], "unrestricted");
    assert_eq!(told["address"][0]["postalCode"], "LS1 6AE");
    assert_eq!(told["name"][0]["given"], json!(["Jane", "Anne"]));
    // What the service does not tell, and ids of the record.
    let text = told.to_string();
    assert!(
        !text.contains("maritalStatus") && !text.contains("\"r1\""),
        "{text}"
    );
    spine.house.end().await;
}

#[tokio::test]
async fn numbers_that_nobody_has_or_can_have() {
    let spine = Spine::new().await;
    for (number, status, code) in [
        ("9111231130", 404, "RESOURCE_NOT_FOUND"),
        ("9000000000", 400, "INVALID_RESOURCE_ID"),
        ("900000000", 400, "INVALID_RESOURCE_ID"),
        ("abc", 400, "INVALID_RESOURCE_ID"),
        ("%ff", 400, "INVALID_RESOURCE_ID"),
    ] {
        spine
            .get(&format!("/Patient/{number}"))
            .await
            .refused(status, code);
        let related = format!("/Patient/{number}/RelatedPerson");
        spine.get(&related).await.refused(status, code);
    }
    spine.house.end().await;
}

#[tokio::test]
async fn confidentiality_hides_where_somebody_is() {
    let spine = Spine::new().await;
    let birth_place = json!([{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Leeds"}}]);
    for (id, number, code) in [
        ("r1", "9000000009", "U"),
        ("r2", "9000000017", "R"),
        ("r3", "9000000025", "V"),
        ("r4", "9000000033", "REDACTED"),
    ] {
        let changes = json!({"meta": marked(code), "extension": birth_place});
        spine.keep(&patient(id, number, &changes)).await;
        let related = json!({"resourceType": "RelatedPerson", "id": format!("p{id}"), "patient": {"reference": format!("Patient/{id}")}, "relationship": [{"text": "Guardian"}]});
        spine.keep(&related).await;
    }
    let open = spine.get("/Patient/9000000009").await;
    assert!(open.fine()["telecom"].is_array());
    let restricted = spine.get("/Patient/9000000017").await;
    let told = restricted.fine();
    for name in [
        "address",
        "telecom",
        "generalPractitioner",
        "contact",
        "extension",
    ] {
        assert!(told.get(name).is_none(), "{name}: {told}");
    }
    assert_eq!(told["name"][0]["family"], "Smith");
    assert_eq!(told["meta"]["security"][0]["display"], "restricted");
    let very = spine.get("/Patient/9000000025").await;
    assert!(very.fine().get("name").is_none());
    let redacted = spine.get("/Patient/9000000033").await;
    redacted.refused(404, "INVALIDATED_RESOURCE");
    // Related persons: of nobody who is restricted.
    for (number, expected) in [("9000000009", 1), ("9000000017", 0), ("9000000025", 0)] {
        let answer = spine.get(&format!("/Patient/{number}/RelatedPerson")).await;
        assert_eq!(answer.fine()["total"], expected, "{number}");
    }
    let answer = spine.get("/Patient/9000000033/RelatedPerson").await;
    answer.refused(404, "INVALIDATED_RESOURCE");
    spine.house.end().await;
}

#[tokio::test]
async fn rules_of_consents_that_seal_entries_hide_no_more_of_a_patient() {
    let spine = Spine::with(|options| options.consent_rules = "england".to_owned()).await;
    for (id, number, code) in [("r1", "9000000009", "U"), ("r2", "9000000017", "R")] {
        let changes = json!({"meta": marked(code)});
        spine.keep(&patient(id, number, &changes)).await;
    }
    spine.get("/Patient/9000000009").await.fine();
    let restricted = spine.get("/Patient/9000000017").await;
    assert!(restricted.fine().get("address").is_none());
    let found = spine
        .get("/Patient?family=Smith&birthdate=eq2010-10-22")
        .await;
    assert_eq!(found.numbers(), ["9000000009", "9000000017"]);
    spine.house.end().await;
}

#[tokio::test]
async fn a_superseded_number_leads_to_the_new_record() {
    let spine = Spine::new().await;
    spine.keep(&patient("new", "9000000009", &json!({}))).await;
    let link = json!([{"type": "replaced-by", "other": {"reference": "Patient/new"}}]);
    // Also where the record that was replaced is not to be used any more.
    spine
        .keep(&patient(
            "old",
            "9000000017",
            &json!({"link": link, "meta": marked("REDACTED")}),
        ))
        .await;
    let link = json!([{"type": "replaced-by", "other": {"reference": "Patient/old"}}]);
    spine
        .keep(&patient("older", "9000000025", &json!({"link": link})))
        .await;
    // And where the new record has the number of before.
    let both = json!({"identifier": [
        {"system": super::NUMBERS, "use": "old", "value": "9000000033"},
        {"system": super::NUMBERS, "value": "9111231130"},
    ]});
    spine.keep(&patient("other", "9111231130", &both)).await;
    for (number, expected) in [
        ("9000000009", "9000000009"),
        ("9000000017", "9000000009"),
        ("9000000025", "9000000009"),
        ("9000000033", "9111231130"),
    ] {
        let answer = spine.get(&format!("/Patient/{number}")).await;
        assert_eq!(answer.fine()["id"], expected, "{number}");
    }
    // Only the present record is changed.
    let patches = json!([{"op": "replace", "path": "/gender", "value": "male"}]);
    let answer = Answer::of(spine.patch("9000000017", 1, &patches)).await;
    answer.refused(403, "FORBIDDEN_UPDATE");
    // Records that lead in a circle lead nowhere.
    let link = json!([{"type": "replaced-by", "other": {"reference": "Patient/older"}}]);
    spine
        .keep(&patient("new", "9000000009", &json!({"link": link})))
        .await;
    spine
        .get("/Patient/9000000009")
        .await
        .refused(404, "RESOURCE_NOT_FOUND");
    // A number that two records have at once is nobody's alone.
    spine.keep(&patient("twin", "9111231130", &json!({}))).await;
    spine
        .get("/Patient/9111231130")
        .await
        .refused(409, "MULTIPLE_MATCHES");
    spine.house.end().await;
}

#[tokio::test]
async fn what_a_request_says_of_itself() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    let path = format!("{BASE}/Patient/9000000009");
    let with = |method: Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = spine.house.bare(method, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    };
    let bearer = format!("Bearer {}", spine.worker);
    let id = new_id();
    let search = format!("{BASE}/Patient?family=Smith&birthdate=eq2010-10-22");
    for path in [&path, &search] {
        for (headers, status, code) in [
            (vec![("x-request-id", id.as_str())], 401, "ACCESS_DENIED"),
            (
                vec![("x-request-id", &id), ("authorization", "Bearer")],
                401,
                "ACCESS_DENIED",
            ),
            (
                vec![
                    ("x-request-id", &id),
                    ("authorization", "Bearer abcdef123456789"),
                ],
                401,
                "ACCESS_DENIED",
            ),
            (vec![("authorization", &bearer)], 400, "MISSING_VALUE"),
            (
                vec![("authorization", &bearer), ("x-request-id", "")],
                400,
                "MISSING_VALUE",
            ),
            (
                vec![("authorization", &bearer), ("x-request-id", "1234")],
                400,
                "INVALID_VALUE",
            ),
            (
                vec![
                    ("authorization", &bearer),
                    ("x-request-id", "0123456789abcdef"),
                ],
                400,
                "INVALID_VALUE",
            ),
            (
                vec![
                    ("authorization", &bearer),
                    ("x-request-id", &id),
                    ("nhsd-session-urid", "invalid"),
                ],
                400,
                "INVALID_VALUE",
            ),
            (
                vec![
                    ("authorization", &bearer),
                    ("x-request-id", &id),
                    ("nhsd-session-urid", ""),
                ],
                400,
                "INVALID_VALUE",
            ),
        ] {
            let answer = Answer::of(with(Method::GET, path, &headers)).await;
            answer.refused(status, code);
            assert!(!answer.body.to_string().contains("1234"), "{answer:?}");
        }
    }
    // Systems by themselves have no role of a session; what they send is passed over.
    let app = format!("Bearer {}", spine.house.token);
    let headers = [
        ("authorization", app.as_str()),
        ("x-request-id", &id),
        ("nhsd-session-urid", "invalid"),
    ];
    Answer::of(with(Method::GET, &path, &headers)).await.fine();
    // What there isn't.
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-request-id", id.as_str()),
    ];
    for (method, path, code) in [
        (Method::GET, "/HelloWorld", "UNSUPPORTED_REQUEST"),
        (Method::GET, "/Patient!", "UNSUPPORTED_REQUEST"),
        (Method::PUT, "/Patient/9000000009", "UNSUPPORTED_SERVICE"),
        (Method::DELETE, "/Patient/9000000009", "UNSUPPORTED_SERVICE"),
        (Method::PUT, "/Patient", "UNSUPPORTED_SERVICE"),
    ] {
        let answer = Answer::of(with(method, &format!("{BASE}{path}"), &headers)).await;
        answer.refused(400, code);
    }
    spine.house.end().await;
}

#[tokio::test]
async fn it_is_served_where_a_tenant_wants_it() {
    // Off: nobody learns of it who isn't let in, and who is, is told that there is none.
    let quiet = house().await;
    let path = format!("{BASE}/Patient/9000000009");
    let answer = Answer::of(quiet.bare(Method::GET, &path)).await;
    answer.refused(401, "ACCESS_DENIED");
    let asked = quiet
        .asked(Method::GET, &path)
        .header("x-request-id", new_id());
    Answer::of(asked).await.refused(404, "UNSUPPORTED_SERVICE");
    quiet.end().await;
    let spine = Spine::with(|options| options.demographics.base = "/pds".to_owned()).await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    let at = |path: &str| {
        let request = spine.house.bare(Method::GET, path);
        request
            .bearer_auth(&spine.worker)
            .header("x-request-id", new_id())
    };
    let search = "/pds/Patient?family=Smith&birthdate=eq2010-10-22";
    let found = Answer::of(at(search)).await;
    let url = found.fine()["entry"][0]["fullUrl"]
        .as_str()
        .expect("an address");
    assert_eq!(url, spine.house.url("/pds/Patient/9000000009"));
    let elsewhere = at(&path).send().await.expect("an answer").status();
    assert_eq!(elsewhere, StatusCode::NOT_FOUND);
    spine.house.end().await;
}

#[tokio::test]
async fn a_client_is_told_how_often_it_may_ask() {
    let spine = Spine::with(|options| options.demographics.per_second = 3).await;
    let ask = async || {
        let request = spine.ask(Method::GET, "/Patient/9111231130");
        request.send().await.expect("an answer")
    };
    let mut limited = None;
    for asked in 0..200 {
        let answer = ask().await;
        assert_eq!(header(&answer, "ratelimit-policy"), "\"client\";q=3;w=1");
        assert!(header(&answer, "ratelimit").starts_with("\"client\";r="));
        if asked == 0 {
            assert_eq!(header(&answer, "ratelimit"), "\"client\";r=2;t=1");
        }
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(header(&answer, "retry-after"), "1");
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
    let body: Value = limited.expect("a limit").json().await.expect("JSON");
    assert_eq!(
        body["issue"][0]["details"]["coding"][0]["code"],
        "TOO_MANY_REQUESTS"
    );
    // Another client has a limit of its own.
    let other = token(&spine.house.server, Role::Clinician).await;
    spine
        .get_as(&other, "/Patient/9111231130")
        .await
        .refused(404, "RESOURCE_NOT_FOUND");
    spine.house.end().await;
}

#[tokio::test]
async fn who_may_not_look_is_told_nothing_and_each_look_is_audited() {
    let spine = Spine::new().await;
    spine.keep(&patient("r1", "9000000009", &json!({}))).await;
    let squad = token(&spine.house.server, Role::Squad).await;
    for path in [
        "/Patient/9000000009",
        "/Patient/9000000009/RelatedPerson",
        "/Patient?family=Smith&birthdate=eq2010-10-22",
        "/Patient/_history",
    ] {
        let refused = spine.get_as(&squad, path).await;
        refused.refused(403, "ACCESS_DENIED");
        assert!(!refused.body.to_string().contains("Smith"));
    }
    let audited = async || {
        let officer = token(&spine.house.server, Role::PrivacyOfficer).await;
        let path = "/fhir/r4/AuditEvent?_summary=count&patient=Patient/r1";
        let request = spine.house.bare(Method::GET, path).bearer_auth(&officer);
        let request = request.header("x-purpose-of-use", "HOPERAT");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let found: Value = answer.json().await.expect("JSON");
        found["total"].as_u64().expect("a number")
    };
    let before = audited().await;
    spine.get("/Patient/9000000009").await.fine();
    assert_eq!(audited().await, before + 1);
    let found = spine
        .get("/Patient?family=Smith&birthdate=eq2010-10-22")
        .await;
    assert_eq!(found.numbers(), ["9000000009"]);
    assert_eq!(audited().await, before + 2);
    // Who isn't found isn't said to have been looked at.
    let none = spine
        .get("/Patient?family=Smith&birthdate=eq2010-10-22&gender=male")
        .await;
    assert!(none.numbers().is_empty());
    assert_eq!(audited().await, before + 2);
    spine.house.end().await;
}

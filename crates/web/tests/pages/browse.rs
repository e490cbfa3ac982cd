//! The record browser: search, resource, history, change.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Browser, Page, TENANT, World, check_html};

const NASTY: &str = "<script>alert(1)</script>";

async fn search(browser: &mut Browser, kind: &str, query: &str) -> Page {
    let fields = [("kind", kind), ("query", query)];
    let page = browser
        .act("/console/record", "/console/record", &fields)
        .await;
    check_html("/console/record", &page.body);
    page
}

fn weight(id: &str, patient: &str, kg: &str) -> serde_json::Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7", "display": NASTY }] },
        "subject": { "reference": format!("Patient/{patient}") },
        "effectiveDateTime": "2026-02-28",
        "valueQuantity": { "value": serde_json::from_str::<serde_json::Number>(kg).unwrap(), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_searched_for_is_found_and_in_no_address() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    for _ in 0..3 {
        world
            .put(vec![weight(&world.id_of(&ida), &ida, "72.50")])
            .await;
    }
    let mut devi = world.staff("devi").await;
    devi.get("/console/record").await.shows("No search yet");
    devi.get("/console/record?kind=Observation")
        .await
        .shows("What Observation can be searched by");

    let query = format!("subject=Patient/{ida}&code=http://loinc.org|29463-7&_count=2");
    let first = search(&mut devi, "Observation", &query).await;
    first.shows("2 resources");
    first.shows(&format!("href=\"/console/record/Patient/{ida}\""));
    assert!(!first.has(NASTY));
    let at = first
        .body
        .find("/console/record/Observation?cursor=")
        .unwrap();
    let next = first.body[at..].split('"').next().unwrap();
    assert!(!next.contains(&ida) && !next.contains("29463"), "{next}");
    let last = devi.get(next).await;
    last.shows("1 resource found");
    check_html(next, &last.body);

    search(&mut devi, "Observation", "code=none")
        .await
        .shows("Nothing found");
    let wrong = search(&mut devi, "Observation", "colour=red").await;
    wrong.shows("This can't be searched for");
    wrong.shows("colour");
    search(&mut devi, "Observation", "date=yesterday")
        .await
        .shows("This can't be searched for");
    for kind in ["Parameters", "Nothing"] {
        let fields = [("kind", kind), ("query", "")];
        let page = devi
            .act("/console/record", "/console/record", &fields)
            .await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{kind}");
    }
    let forged = devi.get("/console/record/Observation?cursor=s0000").await;
    forged.shows("This can't be searched for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_explained() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    for _ in 0..2 {
        world
            .put(vec![weight(&world.id_of(&ida), &ida, "72.50")])
            .await;
    }
    let mut devi = world.staff("devi").await;
    let query = "subject:Patient.family=berg&code:not=1-8&value-quantity=72.5";
    let mut explain = async |kind: &str, query: &str| {
        let fields = [("kind", kind), ("query", query), ("do", "explain")];
        let page = devi
            .act("/console/record", "/console/record", &fields)
            .await;
        check_html("/console/record", &page.body);
        page
    };
    let page = explain("Observation", query).await;
    page.shows("How Observation is searched");
    // What was typed stays in the search box, to be searched or changed.
    page.shows("subject:Patient.family=berg");
    for words in [
        "code:not",
        "Left out",
        "Looked up",
        "what it refers to by subject: Patient, by family",
        "100,000 candidates",
    ] {
        page.shows(words);
    }
    // How many rows were opened depends on which end of a link is followed, and that on hidden rows.
    assert!(!page.has("turned down by the check"));
    let page = explain("Observation", "value-quantity=72.5").await;
    page.shows("2 matched, 0 turned down by the check");
    page.shows("the lists of <code>value-quantity</code>");
    assert!(!page.has("Ida"), "an explanation shows no resource");
    let page = explain("Observation", "status:contains=x").await;
    page.shows("This can't be searched for");
    let page = explain("Patient", "given:contains=da&_sort=birthdate").await;
    page.shows("Checked one by one");
    page.shows("All rows of Patient are candidates");
    page.shows("1<span class=\"quiet\">, exact</span>");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_shows_its_elements_its_json_and_its_versions() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    world.put(vec![weight(&id, &ida, "72.50")]).await;
    world.change(weight(&id, &ida, "73.10"), 1).await;
    let mut devi = world.staff("devi").await;
    let here = format!("/console/record/Observation/{id}");

    let page = devi.get(&here).await;
    page.shows("73.10");
    page.shows(&format!("href=\"/console/record/Patient/{ida}\""));
    page.shows("version 2");
    assert!(!page.has(NASTY));
    assert!(
        page.body.contains("<title>Observation"),
        "no detail in the title"
    );
    let raw = devi.get(&format!("{here}?as=json")).await;
    raw.shows("<b>\"value\"</b>: 73.10");
    let file = devi.get(&format!("{here}/file")).await;
    assert!(file.body.contains("73.10") && file.body.starts_with('{'));
    let former = devi.get(&format!("{here}/file?version=1")).await;
    assert!(former.body.contains("72.50"));

    let history = devi.get(&format!("{here}/history")).await;
    history.shows(&format!("href=\"{here}/history/1\""));
    history.shows(&format!("href=\"{here}/changes/2\""));
    assert!(!history.has(&format!("href=\"{here}/changes/1\"")));
    let former = devi.get(&format!("{here}/history/1")).await;
    former.shows("72.50");
    former.shows("This is version 1, as it was.");
    let change = devi.get(&format!("{here}/changes/2")).await;
    for line in ["\"value\": 72.50", "\"value\": 73.10"] {
        change.shows(line);
    }
    assert!(!change.has("\"code\": \"29463-7\""), "only what changed");
    for (path, page) in [
        ("elements", &page),
        ("json", &raw),
        ("history", &history),
        ("version", &former),
        ("change", &change),
    ] {
        check_html(path, &page.body);
    }
    for none in [
        format!("{here}/history/3"),
        format!("{here}/changes/1"),
        format!("{here}/changes/0"),
        "/console/record/Observation/none".to_owned(),
        format!("/console/record/Nothing/{id}"),
    ] {
        assert_eq!(
            devi.get(&none).await.status,
            StatusCode::NOT_FOUND,
            "{none}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_long_is_a_file() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    let note = "x".repeat(300_000);
    let mut observation = weight(&id, &ida, "72.50");
    observation["note"] = json!([{ "text": note }]);
    world.put(vec![observation]).await;
    let mut devi = world.staff("devi").await;
    let page = devi.get(&format!("/console/record/Observation/{id}")).await;
    page.shows("Too long for a page");
    assert!(page.body.len() < 100_000);
    let file = devi
        .get(&format!("/console/record/Observation/{id}/file"))
        .await;
    assert!(file.body.contains(&note));
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_sees_nothing() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    world.put(vec![weight(&id, &ida, "72.50")]).await;
    let page = format!("/console/record/Observation/{id}");
    let mut own = world.patients_browser(&ida).await;
    assert_eq!(own.get(&page).await.status, StatusCode::FORBIDDEN);
    for user in ["sam", "ada", "priya"] {
        let mut browser = world.staff(user).await;
        let answer = browser.get(&page).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{user}");
        assert!(!answer.has("72.50"), "{user}");
        let found = browser.get("/console/record").await;
        let fields = [
            ("csrf", found.field("csrf")),
            ("kind", "Observation".to_owned()),
        ];
        let fields = fields
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let answer = browser.post("/console/record", &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{user}");
    }
    world.staff("devi").await.get(&page).await.shows("72.50");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_parameter_shows_how_far_it_is() {
    let world = World::new().await;
    world.patient("Ida", "Berg").await;
    let trust = &world.trust;
    let caller = record::Caller {
        agent: trust::Agent {
            tenant: TENANT,
            id: "operator".to_owned(),
            name: "Operator".to_owned(),
            role: trust::Role::Administrator,
            patient: None,
            access: None,
            signed_in: trust::SignedIn::default(),
        },
        purpose: trust::Purpose::Administration,
        request_id: "r".to_owned(),
        base: String::new(),
        lenient: false,
        freshness: trust::Freshness::default(),
        prefer_return: record::PreferReturn::Representation,
        once: None,
    };
    let definition = json!({"resourceType": "SearchParameter", "id": "nick", "url": "http://example.org/nick",
        "name": "nick", "status": "active", "description": "Nickname", "code": "nick", "base": ["Patient"],
        "type": "string", "expression": "Patient.name.given"});
    record::Record::new(trust.clone())
        .update(
            &caller,
            fhir::ResourceType::SearchParameter,
            "nick",
            None,
            definition.to_string().as_bytes(),
        )
        .await
        .expect("it is written");
    let mut ada = world.staff("ada").await;
    let here = "/console/record/SearchParameter/nick";
    let page = ada.get(here).await;
    page.shows("Indexing");
    page.shows("Patient: 0 of 1 indexed");
    check_html(here, &page.body);
    let mut devi = world.staff("devi").await;
    let page = search(&mut devi, "Patient", "nick=id").await;
    page.shows("Ida Berg");
    page.shows("string, your own");
    assert!(!devi.get(here).await.has("of 1 indexed"));
}

// Proves: 45 CFR 164.502(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_biller_browses_what_is_billed() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    let mut row = weight(&id, &ida, "72.50");
    row["note"] = json!([{"text": "a clinical note"}]);
    world.put(vec![row]).await;
    let mut bill = world.staff("bill").await;
    let found = search(&mut bill, "Observation", &format!("subject=Patient/{ida}")).await;
    found.shows("1 resource");
    let here = format!("/console/record/Observation/{id}");
    for path in [
        here.clone(),
        format!("{here}/history/1"),
        format!("{here}?as=json"),
    ] {
        let page = bill.get(&path).await;
        page.shows("29463-7");
        assert!(!page.has("72.50") && !page.has("a clinical note"), "{path}");
        check_html(&path, &page.body);
    }
    let fields = [("kind", "Observation"), ("query", "value-quantity=gt5")];
    let refused = bill
        .act("/console/record", "/console/record", &fields)
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.has("is not shown to the role biller for HPAYMT"));
    for path in ["/console/audit", "/console/accounts"] {
        assert_eq!(bill.get(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

/// Who is not of the programme gets the notice of 42 CFR 2.32 with what is shown, on the page and beside a file.
// Proves: 42 CFR 2.32(a)
#[tokio::test(flavor = "multi_thread")]
async fn a_biller_is_told_whose_records_may_not_be_disclosed() {
    let notice = "42 CFR part 2 prohibits unauthorized use or disclosure of these records.";
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let claim = |security: Value| {
        json!({ "resourceType": "Claim", "id": world.id_of(&ida), "meta": { "security": security },
            "status": "active", "use": "claim", "created": "2026-02-01", "type": { "text": "bill" },
            "priority": { "text": "normal" }, "provider": { "display": "Here" },
            "insurance": [{ "sequence": 1, "focal": true, "coverage": { "display": "Payer" } }],
            "patient": { "reference": format!("Patient/{ida}") } })
    };
    let act = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
    let plain = claim(json!([{ "system": act, "code": "SDV" }]));
    let part_2 = claim(json!([{ "system": act, "code": "42CFRPart2" }]));
    let path = |claim: &Value| {
        let id = claim["id"].as_str().unwrap();
        format!("/console/record/Claim/{id}")
    };
    let reason = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
    let purposes = ["TREAT", "HPAYMT", "HOPERAT"];
    let purposes = purposes.map(|code| json!({ "system": reason, "code": code }));
    let consent = json!({ "resourceType": "Consent", "id": world.id_of(&ida), "status": "active",
        "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
        "category": [{ "text": "privacy" }], "dateTime": "2026-02-01",
        "patient": { "reference": format!("Patient/{ida}") },
        "policy": [{ "uri": "urn:here" }],
        "provision": { "type": "permit", "purpose": purposes } });
    world
        .put(vec![plain.clone(), part_2.clone(), consent])
        .await;
    let mut bill = world.staff("bill").await;
    for (claim, is_told) in [(&plain, false), (&part_2, true)] {
        let page = bill.get(&path(claim)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert_eq!(page.has(notice), is_told, "{}", page.body);
        let file = bill.get(&format!("{}/file", path(claim))).await;
        let warning = file
            .headers
            .get("warning")
            .is_some_and(|value| value.to_str().unwrap() == format!("299 - \"{notice}\""));
        assert_eq!((file.status, warning), (StatusCode::OK, is_told));
    }
}

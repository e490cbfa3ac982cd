//! What an application is about beside the patient (SMART App Launch 2.2, "Launch context"): an encounter that is
//! chosen, and the resource that it was opened from.

use super::*;

const VISIT: &str = "launch/encounter online_access patient/Encounter.rs patient/Observation.rs";

fn visit(id: &str, patient: &str, day: &str) -> Value {
    json!({
        "resourceType": "Encounter", "id": id, "status": "finished", "class": {"code": "AMB"},
        "type": [{"text": format!("Clinic {id}")}], "period": {"start": day, "end": format!("{day}T12:00:00Z")},
        "subject": {"reference": format!("Patient/{patient}")},
    })
}

/// Two patients, of whom one was here twice.
pub(super) async fn visited(house: &House) {
    furnished(house).await;
    for (id, patient, day) in [
        ("new", "ann", "2026-02-03"),
        ("old", "ann", "2025-11-02"),
        ("hers", "bob", "2026-01-04"),
    ] {
        put(house, &visit(id, patient, day)).await;
    }
}

/// Sends a form of the flow.
async fn form(
    browser: &mut Browser<'_>,
    page: &Page,
    pairs: &[(String, String)],
    more: &[(&str, &str)],
) -> Page {
    let csrf = page.field("csrf");
    let mut form = borrowed(pairs);
    form.push(("csrf", csrf.as_str()));
    form.extend(more);
    browser.post("/oauth/authorize", &form).await
}

async fn told(house: &House, client: &str, done: &Page) -> Value {
    let code = done.told("code").expect("a code");
    tokens(exchange(house, client, &code).await).await
}

/// Hides one of ann's visits from those who treat her.
async fn hide(house: &House, id: &str) {
    put(
        house,
        &json!({"resourceType": "Organization", "id": "here", "name": "Here"}),
    )
    .await;
    let hidden =
        json!([{"meaning": "instance", "reference": {"reference": format!("Encounter/{id}")}}]);
    let consent = json!({
        "resourceType": "Consent", "id": "c", "status": "active", "dateTime": "2026-02-04",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/ann"}, "policyRule": {"text": "privacy"},
        "organization": [{"reference": "Organization/here"}],
        "provision": {"type": "permit", "provision": [{"type": "deny", "data": hidden}]},
    });
    put(house, &consent).await;
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn staff_choose_a_patient_and_an_encounter_of_theirs() {
    let house = house().await;
    visited(&house).await;
    let client = app(&house).await;
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    let pairs = request(&house, &client, VISIT, &[]);
    let page = browser.get(&address(&pairs)).await;
    page.shows("Whose record is Growth Chart about?");
    let ann = [("decision", "choose"), ("patient", "ann")];
    let page = form(&mut browser, &page, &pairs, &ann).await;
    page.shows("Which visit is Growth Chart about?");
    page.shows("T Berg");
    page.shows("Clinic new");
    // The latest first, and no other patient's.
    assert_eq!(page.fields("encounter"), ["new", "old", "?"]);
    let on = async |browser: &mut Browser<'_>, day: &str| {
        form(browser, &page, &pairs, &[ann[0], ann[1], ("day", day)]).await
    };
    let old = on(&mut browser, "2025-11-02").await;
    assert_eq!(old.fields("encounter"), ["old", "?"]);
    let none = on(&mut browser, "2025-11-03").await;
    none.shows("Nothing on that day");
    // A stay is of each of its days, and of those to come while it lasts.
    let mut stay = visit("old", "ann", "2025-11-02");
    for (end, days) in [
        (json!("2025-11-04"), [true, true, false]),
        (Value::Null, [true, true, true]),
    ] {
        stay["period"] = json!({"start": "2025-11-02"});
        if end.is_string() {
            stay["period"]["end"] = end;
        }
        put(&house, &stay).await;
        for (day, is_of) in ["2025-11-03", "2025-11-04", "2025-11-05"].iter().zip(days) {
            let found = on(&mut browser, day).await.fields("encounter");
            assert_eq!(found.contains(&"old".to_owned()), is_of, "{day}");
        }
    }
    assert_eq!(none.fields("encounter"), ["?"]);
    let wrong = on(&mut browser, "yesterday").await;
    wrong.shows("That can't be searched for");
    // Nothing is let in while it is not chosen, and what is not hers can't be.
    let hasty = [
        ("decision", "allow"),
        ("patient", "ann"),
        ("agreed", "patient/Encounter.rs"),
    ];
    let asked = form(&mut browser, &page, &pairs, &hasty).await;
    asked.shows("Which visit is Growth Chart about?");
    for encounter in ["hers", "nothing", "lab-ann", "../x", "new/_history/1"] {
        for decision in ["choose", "allow"] {
            let more = [
                ("decision", decision),
                ("patient", "ann"),
                ("encounter", encounter),
                ("agreed", "patient/Encounter.rs"),
            ];
            let page = form(&mut browser, &page, &pairs, &more).await;
            assert_eq!(page.status, StatusCode::NOT_FOUND, "{encounter}");
        }
    }

    let more = [ann[0], ann[1], ("encounter", "new")];
    let page = form(&mut browser, &page, &pairs, &more).await;
    page.shows("Let Growth Chart in?");
    page.shows("Visit or stay: ");
    page.shows("Clinic new");
    page.shows("3 Feb 2026");
    let done = agree(&mut browser, &page, &pairs, None).await;
    let first = told(&house, &client, &done).await;
    assert_eq!(
        (text(&first, "patient"), text(&first, "encounter")),
        ("ann", "new")
    );
    assert_eq!(first["need_patient_banner"], true);
    assert!(first.get("fhirContext").is_none(), "{first}");
    assert_eq!(
        first["scope"],
        "launch/encounter online_access patient/Encounter.rs patient/Observation.rs"
    );
    // That it is about one lets it see no more and no less.
    let token = text(&first, "access_token");
    for (row, seen) in [("new", true), ("old", true), ("hers", false)] {
        let answer = get(&house, token, &format!("/fhir/r4/Encounter/{row}")).await;
        assert_eq!(answer.status().is_success(), seen, "{row}");
    }
    let told_again = refresh(&house, &client, text(&first, "refresh_token"), &[]).await;
    let again = tokens(told_again).await;
    assert_eq!(again["encounter"], "new");
    assert_eq!(again["scope"], first["scope"]);
    let narrow = [("scope", "patient/Observation.rs")];
    let narrow = refresh(&house, &client, text(&again, "refresh_token"), &narrow).await;
    let narrow = tokens(narrow).await;
    assert_eq!(narrow["encounter"], "new");
    let answer = get(
        &house,
        text(&narrow, "access_token"),
        "/fhir/r4/Encounter/new",
    )
    .await;
    assert_outcome(answer, 403, "forbidden").await;
    // One that is gone is not told any more; the patient is.
    let gone = house.asked(Method::DELETE, "/fhir/r4/Encounter/new").send();
    assert!(gone.await.expect("an answer").status().is_success());
    let left = refresh(&house, &client, text(&narrow, "refresh_token"), &[]).await;
    let left = tokens(left).await;
    assert!(left.get("encounter").is_none(), "{left}");
    assert_eq!(left["patient"], "ann");
    assert_eq!(
        left["scope"],
        "online_access patient/Encounter.rs patient/Observation.rs"
    );
    house.end().await;
}

#[tokio::test]
async fn an_encounter_that_is_hidden_is_none_to_choose() {
    let house = house().await;
    visited(&house).await;
    hide(&house, "old").await;
    let client = app(&house).await;
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    let pairs = request(&house, &client, VISIT, &[]);
    let page = browser.get(&address(&pairs)).await;
    let ann = [("decision", "choose"), ("patient", "ann")];
    let page = form(&mut browser, &page, &pairs, &ann).await;
    assert_eq!(page.fields("encounter"), ["new", "?"]);
    assert!(!page.body.contains("Clinic old"));
    let old = [ann[0], ann[1], ("encounter", "old")];
    let refused = form(&mut browser, &page, &pairs, &old).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    for path in [
        "/console/patients/ann/apps?about=Encounter/old",
        "/console/record/Encounter/old",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
    }
    // Who goes on without one has not granted it.
    let without = [ann[0], ann[1], ("encounter", "?")];
    let page = form(&mut browser, &page, &pairs, &without).await;
    assert!(!page.body.contains("Visit or stay"));
    let done = agree(&mut browser, &page, &pairs, None).await;
    let given = told(&house, &client, &done).await;
    assert!(given.get("encounter").is_none(), "{given}");
    assert_eq!(
        given["scope"],
        "online_access patient/Encounter.rs patient/Observation.rs"
    );
    // Of who was never here there is nothing to choose.
    let gone = house
        .asked(Method::DELETE, "/fhir/r4/Encounter/hers")
        .send();
    assert!(gone.await.expect("an answer").status().is_success());
    let page = browser.get(&address(&pairs)).await;
    let bob = [("decision", "choose"), ("patient", "bob")];
    let page = form(&mut browser, &page, &pairs, &bob).await;
    page.shows("Let Growth Chart in?");
    house.end().await;
}

#[tokio::test]
async fn a_patient_chooses_a_visit_of_their_own_and_the_app_asks_what_its_token_is() {
    let house = house().await;
    visited(&house).await;
    let signer = Signer::curve("key-1");
    let client = app_with(&house, SystemKeys::Set(signer.jwks()), BACK).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let pairs = request(&house, &client, VISIT, &[]);
    let page = ann.get(&address(&pairs)).await;
    page.shows("Which visit is Growth Chart about?");
    assert_eq!(page.fields("encounter"), ["new", "old", "?"]);
    let hers = [("decision", "choose"), ("encounter", "hers")];
    let refused = form(&mut ann, &page, &pairs, &hers).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    // Another's record is none to choose, whatever the form says.
    let others = [
        ("decision", "choose"),
        ("patient", "bob"),
        ("encounter", "hers"),
    ];
    let refused = form(&mut ann, &page, &pairs, &others).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    let old = [("decision", "choose"), ("encounter", "old")];
    let page = form(&mut ann, &page, &pairs, &old).await;
    let done = agree(&mut ann, &page, &pairs, None).await;
    let code = done.told("code").expect("a code");
    let number = std::cell::Cell::new(0);
    let proved = async |path: &str, form: &[(&str, &str)]| {
        number.set(number.get() + 1);
        let claims = json!({
            "iss": client, "sub": client, "aud": house.url("/oauth/token"),
            "exp": SystemClock.now_ms() / 1000 + 240, "jti": number.get().to_string(),
        });
        let proof = signer.sign(&signer.header(), &claims);
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let mut all = vec![
            ("client_assertion_type", kind),
            ("client_assertion", proof.as_str()),
        ];
        all.extend(form);
        tokens(post(&house, path, &all).await).await
    };
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    let given = proved("/oauth/token", &form).await;
    assert_eq!(
        (text(&given, "patient"), text(&given, "encounter")),
        ("ann", "old")
    );
    let named = ["access_token", "refresh_token"];
    for name in named {
        let state = proved("/oauth/introspect", &[("token", text(&given, name))]).await;
        assert_eq!(
            (text(&state, "patient"), text(&state, "encounter")),
            ("ann", "old")
        );
        assert_eq!(state["scope"], given["scope"]);
    }
    // A resource stays its patient's; one that is gone is nobody's context any more.
    let mut moved = visit("old", "ann", "2025-11-02");
    moved["status"] = "entered-in-error".into();
    moved["subject"] = json!({"reference": "Patient/bob"});
    let sent = house
        .sent(Method::PUT, "/fhir/r4/Encounter/old", &moved)
        .send();
    assert!(sent.await.expect("an answer").status().is_client_error());
    let gone = house.asked(Method::DELETE, "/fhir/r4/Encounter/old").send();
    assert!(gone.await.expect("an answer").status().is_success());
    for name in named {
        let state = proved("/oauth/introspect", &[("token", text(&given, name))]).await;
        assert!(state.get("encounter").is_none(), "{state}");
        assert!(
            !text(&state, "scope").contains("launch/encounter"),
            "{state}"
        );
    }
    house.end().await;
}

/// The address that an application is opened at from a page, and the request that it then makes.
async fn opened(
    house: &House,
    browser: &mut Browser<'_>,
    client: &str,
    about: &str,
    scope: &str,
) -> Vec<(String, String)> {
    let page = browser
        .get(&format!("/console/patients/ann/apps?about={about}"))
        .await;
    assert_eq!(page.field("about"), about);
    let (csrf, app) = (page.field("csrf"), page.field("app"));
    let fields = [("csrf", csrf.as_str()), ("app", &app), ("about", about)];
    let opened = browser.post("/console/patients/ann/apps", &fields).await;
    let at = opened.body.find("https://app.example.org/launch?");
    let rest = &opened.body[at.expect("a link")..];
    let link = unescaped(rest.split('"').next().expect("an address"));
    assert!(!link.contains("ann") && !link.contains("new"), "{link}");
    let query = link.split_once('?').expect("a query").1.as_bytes();
    let found = form_urlencoded::parse(query).find(|(name, _)| name == "launch");
    let launch = found.expect("a launch").1.into_owned();
    request(house, client, scope, &[("launch", &launch)])
}

#[tokio::test]
async fn an_app_opens_from_the_page_of_an_encounter_or_of_another_resource() {
    let house = house().await;
    visited(&house).await;
    let client = app(&house).await;
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    let record = browser.get("/console/record/Encounter/new").await;
    record.shows("href=\"/console/patients/ann/apps?about=Encounter/new\"");
    let page = browser
        .get("/console/patients/ann/apps?about=Encounter/new")
        .await;
    page.shows("Visit or stay: ");
    page.shows("Clinic new");

    // With the scope launch alone it is told what it was opened for.
    let scope = "launch online_access patient/Observation.rs";
    let pairs = opened(&house, &mut browser, &client, "Encounter/new", scope).await;
    let page = browser.get(&address(&pairs)).await;
    page.shows("T Berg");
    page.shows("Clinic new");
    // Another in the form is not the one that it was opened for.
    let forged = [
        ("decision", "allow"),
        ("agreed", "patient/Observation.rs"),
        ("patient", "bob"),
        ("encounter", "old"),
    ];
    let done = form(&mut browser, &page, &pairs, &forged).await;
    let given = told(&house, &client, &done).await;
    assert_eq!(
        (text(&given, "patient"), text(&given, "encounter")),
        ("ann", "new")
    );
    assert_eq!(
        given["scope"],
        "launch online_access patient/Observation.rs"
    );
    let again = refresh(&house, &client, text(&given, "refresh_token"), &[]).await;
    assert_eq!(tokens(again).await["encounter"], "new");

    // From another page it is about that, and of the visits one may be chosen.
    let about = "Observation/lab-ann";
    let pairs = opened(&house, &mut browser, &client, about, scope).await;
    let page = browser.get(&address(&pairs)).await;
    page.shows("About: ");
    let done = agree(&mut browser, &page, &pairs, None).await;
    let given = told(&house, &client, &done).await;
    let context = json!([{"reference": about, "type": "Observation"}]);
    assert_eq!(given["fhirContext"], context);
    assert!(given.get("encounter").is_none(), "{given}");
    let both = "launch launch/encounter online_access patient/Observation.rs";
    let pairs = opened(&house, &mut browser, &client, about, both).await;
    let page = browser.get(&address(&pairs)).await;
    let old = [("decision", "choose"), ("encounter", "old")];
    let page = form(&mut browser, &page, &pairs, &old).await;
    let done = agree(&mut browser, &page, &pairs, None).await;
    let given = told(&house, &client, &done).await;
    assert_eq!(given["fhirContext"], context);
    assert_eq!(given["encounter"], "old");
    assert_eq!(given["scope"], both);

    // What is not this patient's, or no resource to be about, opens nothing.
    let csrf = browser
        .get("/console/patients/ann/apps")
        .await
        .field("csrf");
    for about in [
        "Encounter/hers",
        "Encounter/nothing",
        "Encounter/new/_history/1",
        "Patient/ann",
        "Patient/bob",
        "Observation/lab-bob",
        "Nothing/new",
        "new",
    ] {
        let page = browser
            .get(&format!("/console/patients/ann/apps?about={about}"))
            .await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{about}");
        let fields = [("csrf", csrf.as_str()), ("app", &client), ("about", about)];
        let page = browser.post("/console/patients/ann/apps", &fields).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{about}");
    }
    // What is gone before it is agreed to is not told.
    let pairs = opened(&house, &mut browser, &client, "Encounter/old", scope).await;
    let page = browser.get(&address(&pairs)).await;
    let gone = house.asked(Method::DELETE, "/fhir/r4/Encounter/old").send();
    assert!(gone.await.expect("an answer").status().is_success());
    let refused = agree(&mut browser, &page, &pairs, None).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.told("code").is_none());
    house.end().await;
}

#[tokio::test]
async fn what_the_server_says_of_contexts_is_so() {
    let house = house().await;
    for path in [
        "/fhir/r4/.well-known/smart-configuration",
        "/.well-known/oauth-authorization-server/fhir/r4",
    ] {
        let answer = house.bare(Method::GET, path).send().await;
        let told: Value = answer.expect("an answer").json().await.expect("JSON");
        let has = |list: &str, name: &str| {
            let all = told[list].as_array().expect("a list");
            all.iter().any(|one| one == name)
        };
        for name in [
            "context-banner",
            "context-ehr-patient",
            "context-ehr-encounter",
            "context-standalone-patient",
            "context-standalone-encounter",
        ] {
            assert!(has("capabilities", name), "{name}");
        }
        // Pages have no style of their own for applications.
        assert!(!has("capabilities", "context-style"));
        assert!(has("scopes_supported", "launch/encounter"));
    }
    house.end().await;
}

//! CDS Hooks: who is answered, and what is said at each hook.

use ledger::{Clock as _, SystemClock};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, assert_outcome, house, house_with, put, token};
use crate::smart::System;

const RUNNING: &str = "name: after-surgery
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 60d
entry:
  request: {by: [system]}
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
  scanned: {title: Scanned, event: ServiceRequest, where: code.coding.exists(code = '77477000')}
start: call
steps:
  call:
    title: Call the patient
    task: {title: Call the patient, reason: Surgery, role: coordinator, due: 1d}
    next: end
    overdue: end
";

/// One that begins by a stay that is over, or a visit that is booked.
fn beginning(kind: &str, condition: &str) -> String {
    let entry = format!(
        "  event: {kind}\n  where: {condition}\n  anchors: {{at: meta.lastUpdated}}\n  within: 30d\n"
    );
    let anchor = if kind == "Encounter" {
        "period.end"
    } else {
        "start"
    };
    RUNNING
        .replace("after-surgery", &format!("by-{}", kind.to_lowercase()))
        .replace("After surgery", &format!("By {kind}"))
        .replace(
            "  request: {by: [system]}\n",
            &entry.replace("meta.lastUpdated", anchor),
        )
}

struct Ehr<'a> {
    house: &'a House,
    system: System,
}

impl Ehr<'_> {
    fn proof(&self, path: &str, jti: &str, more: &Value) -> String {
        let now_s = SystemClock.now_ms() / 1000;
        let mut claims = json!({"iss": self.system.id, "aud": self.house.url(path), "iat": now_s, "exp": now_s + 240, "jti": jti});
        let members = more.as_object().expect("claims").clone();
        claims.as_object_mut().expect("claims").extend(members);
        self.system
            .signer
            .sign(&self.system.signer.header(), &claims)
    }

    async fn send(&self, path: &str, proof: &str, body: &Value) -> Response {
        let sent = self.house.bare(Method::POST, path).bearer_auth(proof);
        let sent = sent
            .header("content-type", "application/json")
            .body(body.to_string());
        sent.send().await.expect("an answer")
    }

    /// The cards of a service.
    async fn cards(&self, service: &str, jti: &str, body: &Value) -> Vec<Value> {
        let path = format!("/cds-services/{service}");
        let answer = self
            .send(&path, &self.proof(&path, jti, &json!({})), body)
            .await;
        let status = answer.status();
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(status, 200, "{answer}");
        let cards = answer["cards"].as_array().expect("cards").clone();
        for card in &cards {
            // What every card has to have (CDS Hooks 2.0).
            assert!(
                card["summary"]
                    .as_str()
                    .is_some_and(|words| words.len() < 140),
                "{card}"
            );
            assert!(
                ["info", "warning", "critical"]
                    .contains(&card["indicator"].as_str().unwrap_or_default())
            );
            assert!(card["source"]["label"].is_string() && card["uuid"].is_string());
            assert_eq!(
                card.get("suggestions").is_some(),
                card.get("selectionBehavior").is_some()
            );
        }
        cards
    }
}

fn asked(hook: &str, context: Value) -> Value {
    let mut context = context;
    context["userId"] = json!("Practitioner/d");
    json!({"hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context})
}

async fn publish(house: &House, source: &str) {
    let squad = token(&house.server, Role::Squad).await;
    let sent = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = sent
        .body(source.to_owned())
        .send()
        .await
        .expect("an answer");
    let status = published.status();
    assert_eq!(status, 200, "{}", published.text().await.expect("text"));
}

async fn start(house: &House, patient: &str) {
    start_one(house, patient, "after-surgery").await;
}

async fn start_one(house: &House, patient: &str, journey: &str) {
    let parameter = |name: &str, value: &str| json!({"name": name, "valueString": value});
    let body = json!({"resourceType": "Parameters", "parameter": [
        parameter("journey", journey), parameter("key", "k"), parameter("reason", "Hip replaced")]});
    let path = format!("/fhir/r4/Patient/{patient}/$start-journey");
    let answer = house
        .sent(Method::POST, &path, &body)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
}

const SCOPES: &str = "system/Patient.rs system/CarePlan.rs system/Task.rs system/Encounter.rs";

#[tokio::test(flavor = "multi_thread")]
async fn cards_say_what_journeys_have_to_say() {
    let house = house().await;
    publish(&house, RUNNING).await;
    publish(&house, &beginning("Encounter", "status = 'finished'")).await;
    publish(&house, &beginning("Appointment", "status = 'booked'")).await;
    for one in [
        json!({"resourceType": "Patient", "id": "p"}),
        json!({"resourceType": "Patient", "id": "q"}),
        json!({"resourceType": "Encounter", "id": "e", "status": "in-progress", "class": {"code": "IMP"}, "subject": {"reference": "Patient/p"}}),
    ] {
        put(&house, &one).await;
    }
    start(&house, "p").await;
    let system = System::new(&house, SCOPES).await;
    let ehr = Ehr {
        house: &house,
        system,
    };

    let found = house
        .bare(Method::GET, "/cds-services")
        .send()
        .await
        .expect("an answer");
    let found: Value = found.json().await.expect("JSON");
    let hooks: Vec<&str> = found["services"]
        .as_array()
        .expect("services")
        .iter()
        .filter_map(|service| service["hook"].as_str())
        .collect();
    assert_eq!(
        hooks,
        [
            "patient-view",
            "order-sign",
            "encounter-discharge",
            "appointment-book"
        ]
    );

    let of = |patient: &str| asked("patient-view", json!({"patientId": patient}));
    let cards = ehr.cards("journeys-of-patient", "1", &of("p")).await;
    assert_eq!(cards.len(), 1, "{cards:?}");
    assert_eq!(
        cards[0]["summary"],
        "After surgery: one thing is to be done"
    );
    assert_eq!(cards[0]["indicator"], "info");
    assert!(
        cards[0]["detail"]
            .as_str()
            .is_some_and(|words| words.contains("Call the patient, due 2026-03-02")),
        "{cards:?}"
    );
    house.clock.advance(2 * 86_400_000);
    for (patient, jti) in [("q", "2"), ("nobody", "3")] {
        assert!(
            ehr.cards("journeys-of-patient", jti, &of(patient))
                .await
                .is_empty(),
            "{patient}"
        );
    }

    let order = |code: &str| {
        let order = json!({"resourceType": "ServiceRequest", "status": "draft", "intent": "order", "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]}});
        asked(
            "order-sign",
            json!({"patientId": "p", "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": order}]}}),
        )
    };
    put(&house, &json!({"resourceType": "Patient", "id": "r"})).await;
    start(&house, "r").await;
    let of_r = |mut asked: Value| {
        asked["context"]["patientId"] = json!("r");
        asked
    };
    let cards = ehr
        .cards("journeys-and-orders", "4", &of_r(order("77477000")))
        .await;
    assert_eq!(cards[0]["detail"], "It asks about: 77477000");
    assert!(
        ehr.cards("journeys-and-orders", "5", &of_r(order("1")))
            .await
            .is_empty()
    );

    // What begins, and what can be asked for; not what the patient is in.
    let summaries = |cards: &[Value]| -> Vec<String> {
        cards
            .iter()
            .map(|card| card["summary"].as_str().expect("words").to_owned())
            .collect()
    };
    let leaving = |patient: &str| {
        asked(
            "encounter-discharge",
            json!({"patientId": patient, "encounterId": "e"}),
        )
    };
    let cards = ehr.cards("journeys-at-discharge", "6", &leaving("p")).await;
    assert!(
        summaries(&cards).contains(&"By Encounter will begin".to_owned()),
        "{cards:?}"
    );
    let visit = json!({"resourceType": "Appointment", "status": "proposed", "start": "2026-03-04T10:00:00Z", "end": "2026-03-04T11:00:00Z",
        "participant": [{"actor": {"reference": "Patient/q"}, "status": "accepted"}]});
    let booking = asked(
        "appointment-book",
        json!({"patientId": "q", "appointments": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": visit}]}}),
    );
    let cards = ehr.cards("journeys-at-booking", "7", &booking).await;
    let mut said = summaries(&cards);
    said.sort_unstable();
    assert_eq!(
        said,
        [
            "After surgery can be asked for",
            "By Appointment will begin"
        ]
    );
    let asks = cards
        .iter()
        .find(|card| card.get("suggestions").is_some())
        .expect("a suggestion");
    let task = &asks["suggestions"][0]["actions"][0]["resource"];
    assert_eq!(task["instantiatesUri"], "urn:cairn:journey:after-surgery");
    assert_eq!(task["status"], "draft", "this system writes no tasks here");
    let resource = fhir::Resource::from_value(task.clone()).expect("a task");
    assert!(fhir::validate::check(&resource).is_empty());

    let path = "/cds-services/journeys-at-booking/feedback";
    let told = json!({"feedback": [{"card": asks["uuid"], "outcome": "accepted", "outcomeTimestamp": "2026-03-01T12:00:00Z"}]});
    let answer = ehr
        .send(path, &ehr.proof(path, "8", &json!({})), &told)
        .await;
    assert_eq!(answer.status(), 200);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_proves_itself_and_may_is_answered() {
    let house = house().await;
    publish(&house, RUNNING).await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(&house, &json!({"resourceType": "Patient", "id": "q"})).await;
    put(&house, &json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"}, "subject": {"reference": "Patient/q"}})).await;
    let system = System::new(&house, SCOPES).await;
    let ehr = Ehr {
        house: &house,
        system,
    };
    let path = "/cds-services/journeys-of-patient";
    let body = asked("patient-view", json!({"patientId": "p"}));
    let now_s = SystemClock.now_ms() / 1000;
    for (jti, more) in [
        ("a", json!({"aud": house.url("/oauth/token")})),
        ("b", json!({"exp": now_s - 3600})),
        ("c", json!({"exp": now_s + 3600})),
        ("d", json!({"iss": "somebody"})),
        ("e", json!({"sub": "somebody"})),
        ("f", json!({"jti": ""})),
    ] {
        let answer = ehr.send(path, &ehr.proof(path, jti, &more), &body).await;
        assert_eq!(answer.status(), 401, "{more}");
    }
    // Each proof is good once; neither a token nor nothing is a proof.
    let proof = ehr.proof(path, "once", &json!({}));
    assert_eq!(ehr.send(path, &proof, &body).await.status(), 200);
    assert_eq!(ehr.send(path, &proof, &body).await.status(), 401);
    assert_eq!(ehr.send(path, &house.token, &body).await.status(), 401);
    let bare = house
        .bare(Method::POST, path)
        .body(body.to_string())
        .send()
        .await;
    assert_eq!(bare.expect("an answer").status(), 401);
    // At the token's door a proof has to name its subject all the same.
    let form = [
        ("grant_type", "client_credentials".to_owned()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
        ),
        (
            "client_assertion",
            ehr.proof("/oauth/token", "g", &json!({})),
        ),
        ("scope", "system/Patient.rs".to_owned()),
    ];
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(&form);
    let sent = house
        .bare(Method::POST, "/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = sent.body(encoded.finish()).send().await.expect("an answer");
    assert_eq!(answer.status(), 401);

    for (number, (path, body, status)) in [
        ("/cds-services/nothing", body.clone(), 404),
        (path, asked("order-sign", json!({"patientId": "p"})), 400),
        (
            path,
            json!({"hook": "patient-view", "context": {"patientId": "p"}}),
            400,
        ),
        (path, asked("patient-view", json!({})), 400),
        (
            "/cds-services/journeys-and-orders",
            asked("order-sign", json!({"patientId": "p"})),
            400,
        ),
        (
            "/cds-services/journeys-at-discharge",
            asked("encounter-discharge", json!({"patientId": "p"})),
            400,
        ),
        (
            "/cds-services/journeys-at-discharge",
            asked(
                "encounter-discharge",
                json!({"patientId": "p", "encounterId": "e"}),
            ),
            400,
        ),
        (
            "/cds-services/journeys-of-patient/feedback",
            json!({"feedback": [{"card": "x", "outcome": "liked"}]}),
            400,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = ehr
            .send(
                path,
                &ehr.proof(path, &format!("n{number}"), &json!({})),
                &body,
            )
            .await;
        assert_eq!(answer.status(), status, "{path} {body}");
    }
    // Who is registered for something else is told nothing of plans.
    let other = Ehr {
        house: &house,
        system: System::new(&house, "system/Observation.rs").await,
    };
    let answer = other
        .send(path, &other.proof(path, "1", &json!({})), &body)
        .await;
    assert_eq!(answer.status(), 403);
    house.end().await;
}

/// Where the rules ask for a relationship, a system without one is told of no journeys.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_do_with_a_patient_gets_no_cards() {
    let house = house_with(|options| "england".clone_into(&mut options.consent_rules)).await;
    publish(&house, RUNNING).await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    let system = System::new(&house, SCOPES).await;
    let ehr = Ehr {
        house: &house,
        system,
    };
    let body = asked("patient-view", json!({"patientId": "p"}));
    assert!(
        ehr.cards("journeys-of-patient", "1", &body)
            .await
            .is_empty()
    );
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_what_it_leaves_out() {
    let house = house().await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    for number in 0..12 {
        let name = format!("after-surgery-{number}");
        publish(&house, &RUNNING.replace("after-surgery", &name)).await;
        start_one(&house, "p", &name).await;
    }
    let system = System::new(&house, SCOPES).await;
    let ehr = Ehr {
        house: &house,
        system,
    };
    let body = asked("patient-view", json!({"patientId": "p"}));
    let cards = ehr.cards("journeys-of-patient", "1", &body).await;
    assert_eq!(cards.len(), 10);
    assert_eq!(
        cards[9]["summary"],
        "There are 3 more that are not shown here"
    );
    let mut ids: Vec<&str> = cards
        .iter()
        .filter_map(|card| card["uuid"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 10, "each card has a uuid of its own");
    // Plans of others count among those that are looked at.
    for number in 0..40 {
        let plan = json!({"resourceType": "CarePlan", "id": format!("other-{number}"), "status": "active", "intent": "plan",
            "subject": {"reference": "Patient/p"}});
        put(&house, &plan).await;
    }
    let cards = ehr.cards("journeys-of-patient", "2", &body).await;
    let last = cards.last().expect("a card");
    assert_eq!(
        last["summary"],
        "The patient has more care plans than the 50 that were looked at"
    );
    assert_eq!(last["indicator"], "warning");
    house.end().await;
}

/// The stay as the EHR has it decides what begins, whether the record knows it or not; a token that is sent along has
/// to have its form.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_along_is_looked_at() {
    let house = house().await;
    publish(
        &house,
        &beginning("Encounter", "status = 'finished' and class.code = 'IMP'"),
    )
    .await;
    put(&house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(&house, &json!({"resourceType": "Encounter", "id": "known", "status": "in-progress", "class": {"code": "AMB"}, "subject": {"reference": "Patient/p"}})).await;
    let system = System::new(&house, SCOPES).await;
    let ehr = Ehr {
        house: &house,
        system,
    };
    let found = house.bare(Method::GET, "/cds-services").send().await;
    let found: Value = found.expect("an answer").json().await.expect("JSON");
    let templates: Vec<&Value> = found["services"]
        .as_array()
        .expect("services")
        .iter()
        .filter_map(|service| service.get("prefetch"))
        .collect();
    assert_eq!(
        templates,
        [&json!({"encounter": "Encounter/{{context.encounterId}}"})]
    );
    let stay = |id: &str, of: &str| {
        json!({"resourceType": "Encounter", "id": id, "status": "in-progress", "class": {"code": "IMP"},
        "subject": {"reference": format!("Patient/{of}")}})
    };
    let leaving = |id: &str, prefetch: Value| {
        let mut asked = asked(
            "encounter-discharge",
            json!({"patientId": "p", "encounterId": id}),
        );
        asked["prefetch"] = prefetch;
        asked["fhirServer"] = json!("https://ehr.test/fhir");
        asked["fhirAuthorization"] = Value::Null;
        asked
    };
    let mut broken = stay("known", "p");
    broken["status"] = json!(3);
    let mut absolute = stay("known", "p");
    absolute["subject"]["reference"] = json!("https://ehr.test/fhir/Patient/p");
    let service = "journeys-at-discharge";
    for (number, (id, prefetch, cards)) in [
        ("unknown", json!({}), 0),
        ("unknown", json!({"encounter": null}), 0),
        ("unknown", json!({"encounter": stay("unknown", "p")}), 1),
        // The record has it as an ambulatory one, the EHR knows better.
        ("known", json!({}), 0),
        ("known", json!({"encounter": stay("known", "p")}), 1),
        ("known", Value::Null, 0),
        // One that isn't as FHIR has it is passed over, and the record's own looked at.
        ("known", json!({"encounter": broken}), 0),
        // A patient at the EHR's own address is the same one.
        ("known", json!({"encounter": absolute}), 1),
        // What nobody asked for is passed over.
        (
            "known",
            json!({"patient": {"resourceType": "Patient", "id": "q"}}),
            0,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let made = ehr
            .cards(
                service,
                &format!("s{number}"),
                &leaving(id, prefetch.clone()),
            )
            .await;
        assert_eq!(made.len(), cards, "{id} {prefetch}: {made:?}");
    }
    let path = "/cds-services/journeys-at-discharge";
    for (number, prefetch) in [
        json!([]),
        json!({"encounter": stay("other", "p")}),
        json!({"encounter": stay("known", "q")}),
        json!({"encounter": {"resourceType": "Patient", "id": "known"}}),
    ]
    .into_iter()
    .enumerate()
    {
        let proof = ehr.proof(path, &format!("w{number}"), &json!({}));
        let answer = ehr
            .send(path, &proof, &leaving("known", prefetch.clone()))
            .await;
        assert_eq!(answer.status(), 400, "{prefetch}");
    }
    let token = json!({"access_token": "secret-of-the-ehr", "token_type": "Bearer", "expires_in": 300,
        "scope": "user/Patient.read", "subject": "cds-service", "patient": "p"});
    let without = |name: &str| {
        let mut token = token.clone();
        token.as_object_mut().expect("members").shift_remove(name);
        token
    };
    let with = |name: &str, value: Value| {
        let mut token = token.clone();
        token[name] = value;
        token
    };
    for (number, (server, token, status)) in [
        (json!("https://ehr.test/fhir"), token.clone(), 200),
        (json!("https://ehr.test/fhir"), without("patient"), 200),
        (
            json!("https://ehr.test/fhir"),
            with("patient", Value::Null),
            200,
        ),
        (Value::Null, Value::Null, 200),
        (Value::Null, token.clone(), 400),
        (json!("ehr"), token.clone(), 400),
        (json!("https://ehr.test/fhir"), without("access_token"), 400),
        (json!("https://ehr.test/fhir"), without("scope"), 400),
        (json!("https://ehr.test/fhir"), without("subject"), 400),
        (
            json!("https://ehr.test/fhir"),
            with("token_type", json!("mac")),
            400,
        ),
        (
            json!("https://ehr.test/fhir"),
            with("expires_in", json!("soon")),
            400,
        ),
        (
            json!("https://ehr.test/fhir"),
            with("expires_in", json!(0)),
            400,
        ),
        (
            json!("https://ehr.test/fhir"),
            with("patient", json!("q")),
            400,
        ),
        (
            json!("https://ehr.test/fhir"),
            json!("secret-of-the-ehr"),
            400,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut asked = leaving("known", json!({}));
        asked["fhirServer"] = server;
        asked["fhirAuthorization"] = token;
        let proof = ehr.proof(path, &format!("t{number}"), &json!({}));
        let answer = ehr.send(path, &proof, &asked).await;
        assert_eq!(answer.status(), status, "{asked}");
        let words = answer.text().await.expect("text");
        assert!(!words.contains("secret-of-the-ehr"), "{words}");
    }
    house.end().await;
}

/// A system that may write tasks is given one that starts the journey when it is created here.
#[tokio::test(flavor = "multi_thread")]
async fn a_suggestion_starts_a_journey() {
    let house = house().await;
    publish(&house, RUNNING).await;
    let timed = RUNNING
        .replace("after-surgery", "timed")
        .replace("After surgery", "Timed")
        .replace("by: [system]", "by: [system], asks: {surgery: Day}");
    publish(&house, &timed).await;
    for id in ["p", "q"] {
        put(&house, &json!({"resourceType": "Patient", "id": id})).await;
    }
    let system = System::new(&house, &format!("{SCOPES} system/Task.c")).await;
    let ehr = Ehr {
        house: &house,
        system,
    };
    let booking = |patient: &str| {
        asked(
            "appointment-book",
            json!({"patientId": patient, "appointments": {"resourceType": "Bundle", "type": "collection", "entry": []}}),
        )
    };
    let cards = ehr.cards("journeys-at-booking", "1", &booking("p")).await;
    let suggested = |cards: &[Value], label: &str| -> Value {
        let suggestions = cards.iter().map(|card| &card["suggestions"][0]);
        let mut found = suggestions.filter(|one| one["label"] == label);
        found.next().unwrap_or_else(|| panic!("{label}: {cards:?}"))["actions"][0]["resource"]
            .clone()
    };
    // Times are for people to say.
    let by_people = suggested(&cards, "Have somebody start Timed");
    assert_eq!(by_people["status"], "draft");
    let task = suggested(&cards, "Start After surgery");
    let create = async |task: &Value| {
        let sent = house.sent(Method::POST, "/fhir/r4/Task", task).send().await;
        let answer = sent.expect("an answer");
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.expect("JSON"),
        )
    };
    let plans = async || {
        let path = "/fhir/r4/CarePlan?status=active&patient=Patient/p";
        let found = house.asked(Method::GET, path).send().await;
        let found: Value = found.expect("an answer").json().await.expect("JSON");
        found["total"].as_u64().expect("a total")
    };
    // One for people starts nothing.
    assert_eq!(create(&by_people).await.0, 201);
    assert_eq!(plans().await, 0);
    let (status, stored) = create(&task).await;
    assert_eq!(status, 201, "{stored}");
    assert_eq!(stored["status"], "completed");
    let instance = stored["output"][0]["valueString"]
        .as_str()
        .expect("an instance")
        .to_owned();
    assert_eq!(plans().await, 1);
    // The same again starts nothing more, and says the same.
    let (status, again) = create(&task).await;
    assert_eq!(
        (status, again["output"][0]["valueString"].as_str()),
        (200, Some(instance.as_str()))
    );
    assert_eq!(again["id"], stored["id"]);
    assert_eq!(
        stored["output"][1],
        json!({"type": {"text": "started"}, "valueBoolean": true})
    );
    assert_eq!(plans().await, 1);
    // Only alone, by POST, does one start anything; elsewhere it isn't stored.
    let mut elsewhere = task.clone();
    elsewhere["id"] = json!("elsewhere");
    elsewhere["identifier"][0]["value"] = json!("elsewhere");
    let sent = house.sent(Method::PUT, "/fhir/r4/Task/elsewhere", &elsewhere);
    assert_outcome(sent.send().await.expect("an answer"), 422, "business-rule").await;
    let entry =
        json!([{"resource": elsewhere, "request": {"method": "PUT", "url": "Task/elsewhere"}}]);
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entry});
    let sent = house.sent(Method::POST, "/fhir/r4", &bundle).send().await;
    assert_outcome(sent.expect("an answer"), 422, "business-rule").await;
    elsewhere["status"] = json!("draft");
    put(&house, &elsewhere).await;
    let patch = json!([{"op": "replace", "path": "/status", "value": "requested"}]);
    let sent = house.bare(Method::PATCH, "/fhir/r4/Task/elsewhere");
    let sent = sent
        .bearer_auth(&house.token)
        .header("content-type", "application/json-patch+json")
        .body(patch.to_string());
    assert_outcome(sent.send().await.expect("an answer"), 422, "business-rule").await;
    assert_eq!(plans().await, 1);
    // Who is in it already, asked for anew: nothing is written either.
    let mut other = task.clone();
    other["identifier"][0]["value"] = json!("another");
    let (status, said) = create(&other).await;
    assert_eq!(
        (status, &said["issue"][0]["code"]),
        (409, &json!("conflict")),
        "{said}"
    );
    for (member, status) in [
        ("instantiatesUri", 400),
        ("identifier", 400),
        ("for", 400),
        ("description", 400),
    ] {
        let mut lacking = other.clone();
        lacking
            .as_object_mut()
            .expect("members")
            .shift_remove(member);
        assert_eq!(create(&lacking).await.0, status, "{member}");
    }
    // With the times that a journey asks for.
    let mut with_times = other.clone();
    with_times["instantiatesUri"] = json!("urn:cairn:journey:timed");
    assert_eq!(create(&with_times).await.0, 400, "without them");
    with_times["input"] = json!([{"type": {"text": "surgery"}, "valueDateTime": "2026-03-01"}]);
    assert_eq!(create(&with_times).await.0, 201);
    assert_eq!(plans().await, 2);
    // Whoever may not start it doesn't by writing it.
    let mut of_q = task.clone();
    of_q["for"]["reference"] = json!("Patient/q");
    let clinician = token(&house.server, Role::Clinician).await;
    let sent = house
        .bare(Method::POST, "/fhir/r4/Task")
        .bearer_auth(clinician);
    let sent = sent
        .header("content-type", "application/fhir+json")
        .body(of_q.to_string());
    assert_eq!(sent.send().await.expect("an answer").status(), 403);
    // The card is gone once the patient is in it.
    let cards = ehr.cards("journeys-at-booking", "2", &booking("p")).await;
    assert!(cards.is_empty(), "{cards:?}");
    house.end().await;
}

//! Calls of journeys to partners, through the server, to an HTTP server of Python's standard library.

mod away;
mod connectors;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cairn::store::TENANT;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use trust::Role;

use crate::balp;
use crate::collector::events;
use crate::house::{House, house_with, put, token};
use crate::patience::Patience;
use crate::policies;
use crate::subscriptions::signed::by_python;

const SECRET: &str = "t0ken-of-the-partner";

/// The partner's process.
pub(crate) struct Partner {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Partner {
    pub(crate) fn start(folder: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/calls/partner.py");
        let log = folder.join("partner.log");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        (BufReader::new(out).read_line(&mut line)).expect("a port");
        Self {
            child,
            port: line.trim().parse().expect("a port"),
            log,
        }
    }

    /// What it was asked.
    pub(crate) fn got(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

fn partners(port: u16, secret: &Path, until: &str, data: &str) -> String {
    let secret = secret.display();
    format!(
        "[[partner]]\nname = 'rides'\ntitle = 'Rides of the county'\nbase = 'http://127.0.0.1:{port}'\n\
         contract = 'baa'\nuntil = '{until}'\ndata = [{data}]\npurposes = ['TREAT']\n\
         token_file = '{secret}'\nsigning_key_file = '{secret}'\ntimeout_s = 2\n"
    )
}

/// A journey that begins when a stay ends and calls by a way of the partner's.
fn journey(name: &str, way: &str) -> String {
    format!(
        "name: {name}
title: Ride home by {way}
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished' and reasonCode.coding.code.first() = '{way}'
  anchors: {{discharge: period.end}}
  within: 9d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: ride
steps:
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /{way}/bookings
      values:
        name: {{patient: family}}
        phone: {{patient: phone, or: none}}
        kind: {{is: wheelchair}}
      learns:
        booking: {{path: booking.id, class: contact}}
        fits: {{path: fits, class: contact}}
      timeout_s: 2
      retry: {{times: 4, backoff_s: 1}}
      up_to: 12h
      compensate:
        path: /{way}/cancellations
        values: {{booking: {{learnt: ride.booking, or: unknown}}}}
    next: booked
    failed: phone
    timed_out: phone
  booked:
    title: Booked
    task: {{title: \"Tell them {way}\", reason: \"Booked as {{ride.booking|nothing}}.\", role: coordinator, due: 2d}}
    next: end
    overdue: {{role: clinician, priority: stat}}
  phone:
    title: Phone them
    task: {{title: \"Phone them {way}\", reason: No ride., role: coordinator, due: 2d}}
    next: end
    overdue: {{role: clinician, priority: stat}}
"
    )
}

struct Scene {
    house: House,
    policies: TempDir,
    /// Where the partner's log and the secret lie.
    _own: TempDir,
    secret: PathBuf,
    partner: Partner,
    squad: String,
}

impl Scene {
    async fn new() -> Self {
        let policies = policies::folder();
        let own = tempfile::tempdir().expect("a folder");
        let partner = Partner::start(own.path());
        let secret = own.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).expect("written");
        let text = partners(partner.port, &secret, "2026-12-31", "'identity', 'contact'");
        policies::put(&policies, "partners.toml", &text);
        let folder = policies.path().to_owned();
        let house = house_with(|options| options.policy_folder = Some(folder)).await;
        let squad = token(&house.server, Role::Squad).await;
        Self {
            house,
            policies,
            _own: own,
            secret,
            partner,
            squad,
        }
    }

    async fn publish(&self, source: &str) -> (u16, Value) {
        let asked = self.house.bare(Method::POST, "/api/journeys");
        let asked = asked.bearer_auth(&self.squad).body(source.to_owned());
        let answer = asked.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// A patient whose stay has ended, with a reason that begins a journey.
    async fn discharge(&self, id: &str, way: &str) {
        let telecom = json!([{"system": "phone", "value": "+1-617-555-0100"}]);
        put(
            &self.house,
            &json!({"resourceType": "Patient", "id": id, "name": [{"family": format!("Berg-{id}")}], "telecom": telecom}),
        )
        .await;
        put(
            &self.house,
            &json!({"resourceType": "Encounter", "id": format!("e-{id}-{way}"), "status": "finished",
                "subject": {"reference": format!("Patient/{id}")},
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                "period": {"start": "2026-02-20T10:00:00Z", "end": "2026-03-01T08:00:00Z"},
                "reasonCode": [{"coding": [{"system": "http://example.org", "code": way}]}]}),
        )
        .await;
    }

    async fn tasks(&self, patient: &str) -> Vec<Value> {
        let path = format!("/fhir/r4/Task?patient=Patient/{patient}&_count=100");
        let found = self.house.asked(Method::GET, &path).send().await;
        let found: Value = found.expect("an answer").json().await.expect("JSON");
        let entries = found["entry"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| entry["resource"].clone())
            .collect()
    }

    async fn task_of(&self, patient: &str, code: &str, words: &str) -> Option<Value> {
        let tasks = self.tasks(patient).await;
        tasks.into_iter().find(|task| {
            task["code"]["coding"][0]["code"] == code
                && task["code"]["text"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(words))
        })
    }

    /// Waits until there is work for staff; the clock goes on, so that pauses end.
    async fn until_work(&self, patient: &str, words: &str) -> Value {
        let mut patience = Patience::new();
        loop {
            if let Some(task) = self.task_of(patient, "staff-task", words).await {
                return task;
            }
            self.house.clock.advance(250);
            let said = format!("no work {words}: {:#?}", self.tasks(patient).await);
            patience.wait(&said).await;
        }
    }

    async fn put_partners(&self, until: &str, data: &str) {
        let text = partners(self.partner.port, &self.secret, until, data);
        policies::put(&self.policies, "partners.toml", &text);
        let mut patience = Patience::new();
        let in_force = || {
            let partner = self.house.server.trust().partner("rides");
            partner.is_some_and(|rides| {
                rides.until == until && rides.data.len() == data.split(',').count()
            })
        };
        while !in_force() {
            patience.wait("the partners are not in force").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_is_told_what_the_file_says_and_its_answer_moves_the_journey() {
    let scene = Scene::new().await;
    let (status, said) = scene.publish(&journey("ride", "ok")).await;
    assert_eq!(status, 200, "{said}");
    // Two whose records lie in one shard, whose number an id begins with.
    let mint = || scene.house.server.ledger().mint_own_id(TENANT);
    let (first, mut second) = (mint(), mint());
    while first[..2] != second[..2] {
        second = mint();
    }
    let patients = [first.as_str(), second.as_str()];
    for patient in patients {
        scene.discharge(patient, "ok").await;
    }
    let mut keys = Vec::new();
    for patient in patients {
        let task = scene.until_work(patient, "Tell them").await;
        let call = scene.task_of(patient, "call", "Order a ride").await;
        let call = call.expect("the order");
        let key = call["id"].as_str().expect("an id").to_owned();
        assert_eq!(call["status"], "completed", "{call:#}");
        let reason = task["reasonCode"]["text"].as_str().expect("words");
        assert_eq!(reason, format!("Booked as B-{}.", &key[..8]));
        // Of the answer nothing is kept but what the file names.
        assert!(!call.to_string().contains("not to be kept"), "{call:#}");
        keys.push(key);
    }
    assert_ne!(
        keys[0], keys[1],
        "two patients' calls have keys of their own"
    );
    let got = scene.partner.got();
    assert_eq!(got.len(), 2, "{got:#?}");
    for (patient, key) in patients.into_iter().zip(&keys) {
        let mut asked = got.iter();
        let asked = asked.find(|asked| asked["headers"]["idempotency-key"] == json!(key));
        let asked = asked.expect("the call");
        assert_eq!(
            (&asked["method"], &asked["path"]),
            (&json!("POST"), &json!("/ok/bookings"))
        );
        assert_eq!(
            asked["headers"]["authorization"],
            format!("Bearer {SECRET}")
        );
        let text = asked["body"].as_str().expect("a body");
        let body: Value = serde_json::from_str(text).expect("JSON");
        let expected = json!({"name": format!("Berg-{patient}"), "phone": "+1-617-555-0100", "kind": "wheelchair"});
        assert_eq!(body, expected, "nothing else leaves");
        let signed = asked["headers"]["cairn-signature"]
            .as_str()
            .expect("signed");
        let (at, known) = signed
            .strip_prefix("t=")
            .and_then(|rest| rest.split_once(",v1="))
            .expect("a signature");
        let at_s = at.parse().expect("a second");
        let made = trust::partners::signature(SECRET.as_bytes(), at_s, key, text.as_bytes());
        assert_eq!(known, made);
        // As Standard Webhooks has it, too, which a library checks that nobody here wrote: its secret is that text.
        assert_eq!(asked["headers"]["webhook-id"], json!(key));
        let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, SECRET);
        let checked =
            json!({"key": format!("whsec_{secret}"), "headers": asked["headers"], "body": text});
        assert_eq!(by_python(&[checked]), ["ok"]);
    }
    // The audit says who was told what, and why that was lawful.
    let officer = token(&scene.house.server, Role::PrivacyOfficer).await;
    let events = events(&scene.house, &officer).await;
    let told: Vec<&Value> = events
        .iter()
        .filter(|event| balp::pattern(event) == Some("disclose"))
        .collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for event in told {
        assert_eq!(balp::faults(event), Vec::<String>::new(), "{event:#}");
        let words = event["outcomeDesc"].as_str().expect("words");
        assert_eq!(
            words,
            "ride/1: rides is told identity, contact (contract baa until 2026-12-31, consents allow it)"
        );
        let text = event.to_string();
        assert!(
            text.contains(&format!(
                "\"address\":\"http://127.0.0.1:{}\"",
                scene.partner.port
            )),
            "{event:#}"
        );
        assert!(
            !text.contains("Berg") && !text.contains("555-0100") && !text.contains(SECRET),
            "{event:#}"
        );
        assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "TREAT");
    }
    scene.house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_answers_take_the_way_for_failure_and_lead_nowhere() {
    let scene = Scene::new().await;
    let ways = [
        "refuse", "later", "redirect", "huge", "broken", "silent", "sullen", "odd", "full",
    ];
    for way in ways {
        let (status, said) = scene.publish(&journey(&format!("ride-{way}"), way)).await;
        assert_eq!(status, 200, "{said}");
        scene.discharge(way, way).await;
    }
    for (way, words, code) in [
        ("refuse", "Phone them", Some("permanent-failure")),
        ("later", "Tell them", None),
        ("redirect", "Phone them", Some("permanent-failure")),
        ("huge", "Phone them", Some("bad-answer")),
        ("broken", "Phone them", Some("bad-answer")),
        ("silent", "Phone them", Some("retries-exhausted")),
        ("sullen", "Phone them", Some("permanent-failure")),
        ("odd", "Tell them", None),
        ("full", "Phone them", Some("permanent-failure")),
    ] {
        let task = scene.until_work(way, words).await;
        let call = scene
            .task_of(way, "call", "Order a ride")
            .await
            .expect("the order");
        let found = call["statusReason"]["coding"][0]["code"].as_str();
        assert_eq!(found, code, "{way}: {call:#}");
        if way == "odd" {
            // What isn't one plain value is not learnt.
            assert_eq!(task["reasonCode"]["text"], "Booked as nothing.");
        }
    }
    let got = scene.partner.got();
    assert!(
        !got.iter().any(|asked| asked["path"] == "/ok/elsewhere"),
        "nobody is followed"
    );
    let asked = |path: &str| got.iter().filter(|asked| asked["path"] == path).count();
    assert_eq!(asked("/later/bookings"), 3);
    assert_eq!(asked("/silent/bookings"), 5, "one attempt, and four more");
    // What may have been done is taken back, and what was refused isn't.
    let mut patience = Patience::new();
    loop {
        let got = scene.partner.got();
        let backs = |way: &str| {
            let path = format!("/{way}/cancellations");
            got.iter()
                .filter(|asked| asked["path"] == json!(path))
                .count()
        };
        // Who refuses it in the end may have done it at first.
        if ["huge", "broken", "silent", "sullen"]
            .iter()
            .all(|way| backs(way) > 0)
        {
            for way in ["refuse", "redirect", "full", "later", "odd"] {
                assert_eq!(backs(way), 0, "{way}");
            }
            break;
        }
        scene.house.clock.advance(250);
        patience
            .wait("what may have been done is not taken back")
            .await;
    }
    scene.house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_and_clearance_are_asked_when_it_is_published_and_again_when_it_goes_out() {
    let scene = Scene::new().await;
    let ride = journey("ride", "ok");
    let findings = |said: &Value| -> Vec<(String, u64, u64)> {
        let findings = said["findings"].as_array().cloned().unwrap_or_default();
        let number = |finding: &Value, name: &str| finding[name].as_u64().unwrap_or_default();
        findings
            .iter()
            .map(|finding| {
                let code = finding["code"].as_str().unwrap_or_default().to_owned();
                (code, number(finding, "line"), number(finding, "column"))
            })
            .collect()
    };
    let (status, said) = scene
        .publish(&ride.replace("partner: rides", "partner: taxis"))
        .await;
    assert_eq!(
        (status, findings(&said)),
        (422, vec![("J060".to_owned(), 20, 16)]),
        "{said}"
    );
    scene
        .put_partners("2026-02-01", "'identity', 'contact'")
        .await;
    let (status, said) = scene.publish(&ride).await;
    assert_eq!(
        (status, findings(&said)),
        (422, vec![("J060".to_owned(), 20, 16)]),
        "{said}"
    );
    scene.put_partners("2026-12-31", "'contact'").await;
    let (status, said) = scene.publish(&ride).await;
    assert_eq!(
        (status, findings(&said)),
        (422, vec![("J061".to_owned(), 23, 15)]),
        "{said}"
    );
    scene
        .put_partners("2026-12-31", "'identity', 'contact'")
        .await;
    let (status, said) = scene.publish(&ride).await;
    assert_eq!(status, 200, "{said}");

    // The contract ends between publishing and sending.
    scene
        .put_partners("2026-02-28", "'identity', 'contact'")
        .await;
    scene.discharge("p", "ok").await;
    scene.until_work("p", "Phone them").await;
    let call = scene
        .task_of("p", "call", "Order a ride")
        .await
        .expect("the order");
    assert_eq!(
        call["statusReason"]["coding"][0]["code"], "no-contract",
        "{call:#}"
    );
    // A clearance is taken away.
    scene.put_partners("2026-12-31", "'contact'").await;
    scene.discharge("q", "ok").await;
    scene.until_work("q", "Phone them").await;
    let call = scene
        .task_of("q", "call", "Order a ride")
        .await
        .expect("the order");
    assert_eq!(
        call["statusReason"]["coding"][0]["code"], "not-cleared",
        "{call:#}"
    );
    // The partner is taken out.
    std::fs::remove_file(scene.policies.path().join("partners.toml")).expect("removed");
    let mut patience = Patience::new();
    while scene.house.server.trust().partner("rides").is_some() {
        patience.wait("the partner is still there").await;
    }
    scene.discharge("r", "ok").await;
    let mut patience = Patience::new();
    loop {
        let call = scene.task_of("r", "call", "Order a ride").await;
        if call.is_some_and(|call| call["statusReason"]["coding"][0]["code"] == "unknown-partner") {
            break;
        }
        // Nobody looks each time where nobody is called; a look comes within half a minute.
        patience.wait("nobody said that there is no partner").await;
    }
    assert_eq!(scene.partner.got(), Vec::<Value>::new(), "nothing was sent");
    scene.house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_that_is_broken_off_takes_its_call_back_once() {
    let scene = Scene::new().await;
    let (status, said) = scene.publish(&journey("ride", "ok")).await;
    assert_eq!(status, 200, "{said}");
    scene.discharge("p", "ok").await;
    scene.until_work("p", "Tell them").await;
    let call = scene
        .task_of("p", "call", "Order a ride")
        .await
        .expect("the order");
    let key = call["id"].as_str().expect("an id");
    // The patient dies: an exit rule of the journey.
    put(
        &scene.house,
        &json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Berg-p"}], "deceasedBoolean": true}),
    )
    .await;
    let mut patience = Patience::new();
    let back = loop {
        let done = scene.task_of("p", "call", "Take back").await;
        if let Some(done) = done.filter(|done| done["status"] == "completed") {
            break done;
        }
        scene.house.clock.advance(250);
        patience.wait("the call is not taken back").await;
    };
    let got = scene.partner.got();
    assert_eq!(got.len(), 2, "{got:#?}");
    let asked = &got[1];
    assert_eq!(asked["path"], "/ok/cancellations");
    assert_eq!(asked["headers"]["compensates"], json!(key));
    assert_eq!(asked["headers"]["idempotency-key"], back["id"]);
    assert_ne!(asked["headers"]["idempotency-key"], json!(key));
    // It tells the partner what it has said itself, and nothing of the patient.
    let body: Value = serde_json::from_str(asked["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(body, json!({"booking": format!("B-{}", &key[..8])}));
    scene.house.end().await;
}

/// Held and let go on while an attempt is put off: one chain of attempts goes on, with those that it has had.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_held_and_let_go_is_tried_no_more_often() {
    let scene = Scene::new().await;
    let (status, said) = scene.publish(&journey("ride", "never")).await;
    assert_eq!(status, 200, "{said}");
    scene.discharge("p", "never").await;
    let order = async |what: &str, is: &dyn Fn(&Value) -> bool| {
        let mut patience = Patience::new();
        loop {
            let found = scene.task_of("p", "call", "Order a ride").await;
            if let Some(found) = found.filter(|order| is(order)) {
                return found;
            }
            patience.wait(&format!("the order is not {what}")).await;
        }
    };
    let put_off = |order: &Value| {
        let said = order["businessStatus"]["text"].as_str();
        said.is_some_and(|said| said.starts_with("Attempt 1 put off"))
    };
    order("put off", &put_off).await;
    for (plan, is) in [("on-hold", "on-hold"), ("active", "in-progress")] {
        let path = "/fhir/r4/CarePlan?patient=Patient/p";
        let found = scene.house.asked(Method::GET, path).send().await;
        let found: Value = found.expect("an answer").json().await.expect("JSON");
        let mut found = found["entry"][0]["resource"].clone();
        found["status"] = json!(plan);
        put(&scene.house, &found).await;
        order(is, &|order: &Value| order["status"] == is).await;
    }
    let on = order("let go on", &|_: &Value| true).await;
    let codes = on["businessStatus"]["coding"].as_array().expect("codes");
    let codes: Vec<&str> = codes
        .iter()
        .filter_map(|one| one["code"].as_str())
        .collect();
    // The second attempt may have been made by now.
    assert!(
        matches!(codes[..], ["1" | "2", "1"]),
        "let go on once: {on:#}"
    );
    scene.until_work("p", "Phone them").await;
    // Whatever else would be tried has been by now.
    for _ in 0..80 {
        scene.house.clock.advance(1_000);
        tokio::task::yield_now().await;
    }
    let got = scene.partner.got();
    let asked = got
        .iter()
        .filter(|asked| asked["path"] == "/never/bookings");
    assert_eq!(asked.count(), 5, "one attempt, and four more");
    let order = scene.task_of("p", "call", "Order a ride").await;
    let order = order.expect("the order");
    let code = &order["statusReason"]["coding"][0]["code"];
    assert_eq!(code, "retries-exhausted", "{order:#}");
    scene.house.end().await;
}

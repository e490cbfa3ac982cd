//! What systems are registered for: they ask for that and for nothing else, whichever way they ask.

use cairn::store::TENANT;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use trust::identity::{Contract, Registered};
use trust::{Agent, Purpose, Role};

use crate::house::{House, administers, assert_outcome, cairn, house, keyed_folder, put};

const FHIR: &str = "/fhir/r4";

async fn system(house: &House, purposes: &str, contract: Contract) -> String {
    let by = Agent::system(TENANT, "command-line");
    let registered = Registered::parse(purposes, contract).expect("purposes");
    let identity = house.server.trust().identity();
    identity
        .create_client_for(&by, "system", Role::Client, Some(&registered))
        .await
        .expect("a token")
}

async fn get(house: &House, token: &str, purpose: &str, path: &str) -> Response {
    let asked = house.bare(Method::GET, &format!("{FHIR}/{path}"));
    let asked = asked.bearer_auth(token).header("prefer", "respond-async");
    let asked = asked.header("x-purpose-of-use", purpose);
    asked.send().await.expect("an answer")
}

async fn patients(house: &House) {
    for id in ["p", "q"] {
        put(house, &json!({"resourceType": "Patient", "id": id})).await;
        put(
            house,
            &json!({"resourceType": "Observation", "id": format!("o-{id}"), "status": "final",
                "code": {"text": "weight"}, "subject": {"reference": format!("Patient/{id}")}}),
        )
        .await;
    }
}

const WAYS: [&str; 5] = [
    "Observation/o-p",
    "Observation?patient=p",
    "Observation/o-p/_history",
    "Patient/p/$everything",
    "$export",
];

#[tokio::test]
async fn a_system_asks_for_what_it_is_registered_for() {
    let house = house().await;
    patients(&house).await;
    let payer = system(&house, "HPAYMT", Contract::Signed).await;
    for path in WAYS {
        let fine = get(&house, &payer, "HPAYMT", path).await.status();
        assert!(fine.is_success(), "{path}: {fine}");
        for purpose in ["TREAT", "CAREMGT", "HOPERAT", "ETREAT", "HRESCH", "PATRQT"] {
            let refused = get(&house, &payer, purpose, path).await;
            assert_eq!(refused.status(), 403, "{path} for {purpose}");
            let outcome: Value = refused.json().await.expect("JSON");
            assert_eq!(outcome["resourceType"], "OperationOutcome");
            let words = outcome["issue"][0]["diagnostics"].as_str().expect("words");
            assert!(words.contains(purpose), "{words}");
            assert!(words.ends_with("registered for HPAYMT"), "{words}");
        }
    }
    // Several requests in one ask for the same.
    let bundle = json!({"resourceType": "Bundle", "type": "transaction",
        "entry": [{"request": {"method": "GET", "url": "Observation/o-p"}}]});
    let sent = house.bare(Method::POST, FHIR).bearer_auth(&payer);
    let sent = sent.header("content-type", "application/fhir+json");
    let sent = sent.header("x-purpose-of-use", "TREAT");
    let sent = sent.body(bundle.to_string()).send().await;
    assert_outcome(sent.expect("an answer"), 403, "forbidden").await;

    // What is changed counts at the next request, of a token that it had before.
    let identity = house.server.trust().identity();
    let id = identity.bearer(&payer).await.expect("an agent").id;
    let permit = administers(&house.server).await;
    let other = Registered::parse("TREAT", Contract::NotNeeded).expect("purposes");
    let changed = identity.set_registered(&permit, &id, &other);
    changed.await.expect("changed");
    assert_eq!(get(&house, &payer, "TREAT", WAYS[0]).await.status(), 200);
    assert_eq!(get(&house, &payer, "HPAYMT", WAYS[0]).await.status(), 403);
    let nobody = identity.set_registered(&permit, "nobody", &other);
    assert!(nobody.await.is_err());
    house.end().await;
}

#[tokio::test]
async fn who_said_nothing_of_purposes_has_no_emergency_and_no_research() {
    let house = house().await;
    patients(&house).await;
    for (purpose, status) in [
        ("TREAT", 200),
        ("CAREMGT", 200),
        ("HPAYMT", 200),
        ("HOPERAT", 200),
        ("ETREAT", 403),
        ("HRESCH", 403),
    ] {
        let answer = get(&house, &house.token, purpose, "Observation/o-p").await;
        assert_eq!(answer.status(), status, "{purpose}");
    }
    house.end().await;
}

/// IHE PCF's purpose "research": nothing without an authorization, and with one its patient alone.
#[tokio::test]
async fn registered_research_sees_whom_it_is_authorized_to_see() {
    let house = house().await;
    patients(&house).await;
    let research = system(&house, "HRESCH", Contract::Signed).await;
    let seen = async || {
        let found = get(&house, &research, "HRESCH", "Observation?_total=accurate").await;
        assert_eq!(found.status(), 200);
        let bundle: Value = found.json().await.expect("JSON");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        assert_eq!(bundle["total"], entries.len());
        let id = |entry: &Value| entry["resource"]["id"].as_str().map(str::to_owned);
        let ids: Vec<String> = entries.iter().filter_map(id).collect();
        let one = get(&house, &research, "HRESCH", "Observation/o-p").await;
        assert_eq!(one.status() == 200, ids.iter().any(|id| id == "o-p"));
        ids
    };
    assert_eq!(seen().await, Vec::<String>::new());
    let mut authorization = json!({
        "resourceType": "Consent", "id": "c", "status": "active", "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"}, "policyRule": {"text": "privacy"},
        "provision": {"type": "permit", "purpose": [{"system": Purpose::SYSTEM, "code": "HRESCH"}]},
    });
    put(&house, &authorization).await;
    assert_eq!(seen().await, ["o-p"]);
    // It looks, and at nothing else.
    for path in ["Consent/c", "Claim?patient=p", "Task?patient=p"] {
        let refused = get(&house, &research, "HRESCH", path).await;
        assert_eq!(refused.status(), 403, "{path}");
    }
    authorization["status"] = json!("inactive");
    put(&house, &authorization).await;
    assert_eq!(seen().await, Vec::<String>::new());
    house.end().await;
}

#[tokio::test]
async fn a_partner_without_a_contract_is_told_no() {
    let house = house().await;
    patients(&house).await;
    let partner = system(&house, "TREAT", Contract::None).await;
    for path in WAYS {
        let refused = get(&house, &partner, "TREAT", path).await;
        assert_eq!(refused.status(), 403, "{path}");
        let outcome: Value = refused.json().await.expect("JSON");
        let words = outcome["issue"][0]["diagnostics"].as_str().expect("words");
        assert!(words.contains("there is no contract"), "{words}");
    }
    let identity = house.server.trust().identity();
    let id = identity.bearer(&partner).await.expect("an agent").id;
    let signed = Registered::parse("TREAT", Contract::Signed).expect("purposes");
    let permit = administers(&house.server).await;
    let done = identity.set_registered(&permit, &id, &signed);
    done.await.expect("changed");
    assert_eq!(get(&house, &partner, "TREAT", WAYS[0]).await.status(), 200);
    house.end().await;
}

#[test]
fn purposes_are_registered_by_command() {
    let folder = keyed_folder();
    let client = |arguments: &[&str]| {
        let mut command = cairn();
        command.arg("client").args(&arguments[..1]).arg("--data");
        command.arg(folder.path()).args(&arguments[1..]);
        let done = command.output().expect("cairn runs");
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.success(), out, told)
    };
    for (arguments, words) in [
        (
            &["--purposes", "ETREAT"][..],
            "no system can ask for ETREAT",
        ),
        (&["--purposes", "TREATMENT"], "a purpose is one of"),
        (
            &["--purposes", "TREAT", "--role", "biller"],
            "a biller is registered for HPAYMT",
        ),
        (
            &["--purposes", "HOPERAT", "--role", "squad"],
            "client and biller alone",
        ),
        (&["--contract", "maybe"], "not-needed, signed or none"),
    ] {
        let all = [&["create", "--name", "x"], arguments].concat();
        let (fine, _, told) = client(&all);
        assert!(!fine && told.contains(words), "{arguments:?}: {told}");
    }
    let payer = ["create", "--name", "payer", "--purposes", "HOPERAT,HPAYMT"];
    assert!(client(&payer).0);
    assert!(client(&["create", "--name", "partner", "--contract", "none"]).0);
    assert!(client(&["create", "--name", "bills", "--role", "biller"]).0);
    let (_, list, _) = client(&["list"]);
    let line = |name: &str| {
        let found = list.lines().find(|line| line.ends_with(name));
        found.expect("a line").to_owned()
    };
    assert!(line("payer").contains("  HPAYMT HOPERAT  "));
    assert!(line("partner").contains("  TREAT CAREMGT HPAYMT HOPERAT (no contract)  "));
    assert!(line("bills").contains("  HPAYMT  "));
    let id = |line: String| line.split_whitespace().nth(2).expect("an id").to_owned();
    let payer = id(line("payer"));
    assert!(!client(&["purposes", &payer]).0, "nothing is said");
    let (fine, out, told) = client(&["purposes", &payer, "--purposes", "HRESCH"]);
    assert!(fine && out.contains("Registered for HRESCH."), "{told}");
    let (_, list, _) = client(&["list"]);
    assert!(
        list.lines()
            .any(|line| line.contains("  HRESCH  ") && line.ends_with("payer"))
    );
}

//! Purposes of use of an organisation's own, from its policy folder.

use std::process::Stdio;

use cairn::store::TENANT;
use ledger::TenantId;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use trust::identity::{Contract, Registered};
use trust::{Agent, PolicySet, Purpose, Role, Trust};

use crate::house::{
    House, administers, assert_outcome, cairn, house_with, keyed_folder, known_as, put, token,
};
use crate::patience::until;
use crate::policies::{folder, put as write};
use crate::tenants::{NORTH, SOUTH, Two};

/// The purpose of IHE PCF's example for one.
const FOO_BAR: &str = "[[purpose]]\nsystem = \"urn:purposes\"\ncode = \"FooBar\"\n\
    display = \"the FooBar study\"\nis = \"HRESCH\"\n";

fn folder_with_foo_bar() -> TempDir {
    let folder = folder();
    write(&folder, "purposes.toml", FOO_BAR);
    folder
}

async fn house(folder: &TempDir) -> House {
    let folder = folder.path().to_owned();
    house_with(|options| options.policy_folder = Some(folder)).await
}

async fn registered(trust: &Trust, tenant: TenantId, purposes: &str) -> String {
    let by = Agent::system(tenant, "command-line");
    let set = trust.policy_set();
    let registered = Registered::parse_among(set.purposes(), purposes, Contract::Signed);
    let registered = registered.expect("purposes");
    let identity = trust.identity();
    let made = identity.create_client_for(&by, "system", Role::Client, Some(&registered));
    made.await.expect("a token")
}

/// A system of an organization.
async fn system(house: &House, purposes: &str, organization: &str) -> String {
    let token = registered(house.server.trust(), TENANT, purposes).await;
    known_as(house, &token, &[organization]).await;
    token
}

async fn get(house: &House, token: &str, purpose: &str, path: &str) -> Response {
    let asked = house.bare(Method::GET, &format!("/fhir/r4/{path}"));
    let asked = asked.bearer_auth(token).header("x-purpose-of-use", purpose);
    asked.send().await.expect("an answer")
}

async fn status(house: &House, token: &str, purpose: &str, path: &str) -> u16 {
    get(house, token, purpose, path).await.status().as_u16()
}

async fn refused(answer: Response, status: u16) -> String {
    assert_eq!(answer.status(), status);
    let outcome: Value = answer.json().await.expect("JSON");
    let words = outcome["issue"][0]["diagnostics"].as_str();
    words.expect("words").to_owned()
}

async fn patient(house: &House) {
    put(house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(
        house,
        &json!({"resourceType": "Observation", "id": "o", "status": "final",
            "code": {"text": "weight"}, "subject": {"reference": "Patient/p"}}),
    )
    .await;
}

/// The consent of the example, to one organization.
fn consent(purpose: &Value) -> Value {
    json!({
        "resourceType": "Consent", "id": "c", "status": "active", "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"}, "policyRule": {"text": "privacy"},
        "provision": {"type": "permit", "purpose": [purpose], "actor": [{
            "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
            "reference": {"reference": "Organization/research"},
        }]},
    })
}

const WAYS: [&str; 4] = [
    "Observation/o",
    "Observation?patient=p",
    "Observation/o/_history",
    "Patient/p/$everything",
];

/// Whether a system is shown the observation, by each way the same.
async fn shows(house: &House, token: &str, purpose: &str) -> bool {
    let mut seen = Vec::new();
    for path in WAYS {
        let answer = get(house, token, purpose, path).await;
        let text = answer.text().await.expect("text");
        seen.push(text.contains("weight"));
    }
    assert!(
        seen.iter().all(|one| *one == seen[0]),
        "{purpose}: {seen:?}"
    );
    seen[0]
}

/// IHE PCF's example of a purpose: one organization, for one study, and nobody and nothing else.
// Proves: 45 CFR 164.508(a)(1), 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_names_one_organization_and_its_study() {
    let folder = folder_with_foo_bar();
    let house = house(&folder).await;
    patient(&house).await;
    let research = system(&house, "FooBar HRESCH", "Organization/research").await;
    let other = system(&house, "FooBar", "Organization/other").await;
    let plain = system(&house, "HRESCH", "Organization/research").await;
    assert!(!shows(&house, &research, "FooBar").await, "nothing is said");
    let foo_bar = json!({"system": "urn:purposes", "code": "FooBar"});
    put(&house, &consent(&foo_bar)).await;
    for (token, purpose, expected) in [
        (&research, "FooBar", true),
        (&research, "urn:purposes|FooBar", true),
        (&research, "HRESCH", false),
        (&plain, "HRESCH", false),
        (&other, "FooBar", false),
    ] {
        assert_eq!(shows(&house, token, purpose).await, expected, "{purpose}");
    }
    // What somebody is registered for is each purpose by its name.
    let words = refused(get(&house, &plain, "FooBar", WAYS[0]).await, 403).await;
    assert!(
        words.ends_with("not registered for FooBar; it is registered for HRESCH"),
        "{words}"
    );
    let words = refused(get(&house, &other, "HRESCH", WAYS[0]).await, 403).await;
    assert!(words.ends_with("registered for FooBar"), "{words}");
    for unknown in ["FooBaz", "urn:other|FooBar", "urn:purposes|", "foobar"] {
        let words = refused(get(&house, &research, unknown, WAYS[0]).await, 400).await;
        assert!(words.ends_with("HSYSADMIN, FooBar"), "{words}");
    }
    // A consent to research is one to this study, too.
    put(&house, &consent(&Purpose::Research.coding())).await;
    for purpose in ["FooBar", "HRESCH"] {
        assert!(shows(&house, &research, purpose).await, "{purpose}");
    }
    assert!(!shows(&house, &other, "FooBar").await);

    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let path = "AuditEvent?entity=Observation/o&_count=50";
    let found: Value = get(&house, &officer, "HOPERAT", path)
        .await
        .json()
        .await
        .expect("JSON");
    let foo_bar = json!([{"coding": [
        {"system": "urn:purposes", "code": "FooBar", "display": "the FooBar study"},
        {"system": Purpose::SYSTEM, "code": "HRESCH"},
    ]}]);
    let events = found["entry"].as_array().expect("events");
    let told = |event: &&Value| {
        event["resource"]["purposeOfEvent"] == foo_bar
            && event["resource"]["agent"][0]["purposeOfUse"] == foo_bar
    };
    assert!(events.iter().any(|event| told(&event)), "{found}");
    house.end().await;
}

/// A consent that names no actor opens rows to whoever asks for its purpose: nobody does whose token has no registration.
// Proves: 45 CFR 164.508(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_can_t_be_registered_asks_for_no_own_purpose() {
    let folder = folder();
    write(
        &folder,
        "purposes.toml",
        &FOO_BAR.replace("HRESCH", "TREAT"),
    );
    let house = house(&folder).await;
    patient(&house).await;
    let mut to_all = consent(&json!({"system": "urn:purposes", "code": "FooBar"}));
    let provision = to_all["provision"].as_object_mut().expect("a provision");
    provision.remove("actor");
    put(&house, &to_all).await;
    let clinician = token(&house.server, Role::Clinician).await;
    let study = system(&house, "FooBar", "Organization/research").await;
    assert!(shows(&house, &study, "FooBar").await);
    // Treatment needs no consent under these rules; what the study is for does.
    assert!(shows(&house, &clinician, "TREAT").await);
    assert!(!shows(&house, &clinician, "FooBar").await);
    let words = refused(get(&house, &clinician, "FooBar", WAYS[0]).await, 403).await;
    assert!(
        words.contains("the role clinician, and no registration for FooBar"),
        "{words}"
    );
    house.end().await;
}

/// Whatever becomes of the file, nothing is shown for a purpose that is not there, and nothing else breaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_comes_changes_and_goes_while_the_server_runs() {
    let folder = folder();
    let house = house(&folder).await;
    patient(&house).await;
    put(
        &house,
        &consent(&json!({"system": "urn:purposes", "code": "FooBar"})),
    )
    .await;
    let operator = Agent::system(TENANT, "command-line");
    let is = async |token: &str, expected: u16| {
        until("it is so", async || {
            status(&house, token, "FooBar", WAYS[0]).await == expected
        })
        .await;
    };
    is(&house.token, 400).await;
    write(&folder, "purposes.toml", FOO_BAR);
    // It is known now, and what is not registered for it is told so.
    is(&house.token, 403).await;
    let research = system(&house, "FooBar,TREAT", "Organization/research").await;
    assert_eq!(status(&house, &research, "FooBar", WAYS[0]).await, 200);
    let identity = house.server.trust().identity();
    let gone = async || {
        let permit = administers(&house.server).await;
        let clients = identity.clients(&permit).await.expect("clients").rows;
        let set = house.server.trust().policy_set();
        let of = clients
            .iter()
            .filter_map(|client| client.registered.as_ref());
        of.map(|one| one.gone(set.purposes()).count())
            .sum::<usize>()
    };
    assert_eq!(gone().await, 0);

    // One that is none is refused, and the one in force stays.
    write(
        &folder,
        "purposes.toml",
        &FOO_BAR.replace("HRESCH", "ETREAT"),
    );
    until("it is refused", async || {
        house.server.trust().policy_status().refused.is_some()
    })
    .await;
    let faults = house
        .server
        .trust()
        .policy_status()
        .refused
        .expect("why")
        .faults;
    assert!(
        faults[0]
            .to_string()
            .starts_with("purposes.toml:5:6: ETREAT has no kinds"),
        "{}",
        faults[0]
    );
    assert_eq!(status(&house, &research, "FooBar", WAYS[0]).await, 200);

    std::fs::remove_file(folder.path().join("purposes.toml")).expect("removed");
    is(&research, 400).await;
    assert_eq!(gone().await, 1);
    assert_eq!(status(&house, &research, "TREAT", WAYS[0]).await, 200);
    // What was begun for it before is decided anew as well.
    let set =
        PolicySet::load(Some(folder_with_foo_bar().path())).unwrap_or_else(|_| panic!("a set"));
    let before = set.purposes().parse("FooBar").expect("a purpose");
    let agent = identity.bearer(&research).await.expect("an agent");
    let trust = house.server.trust();
    let target = trust::Target::default();
    let decided = trust
        .decide(&agent, before, trust::Action::Search, target, "r")
        .await;
    let Err(refused) = decided else {
        panic!("a no");
    };
    let words = refused.to_string();
    assert!(
        words.contains("FooBar (urn:purposes) is no purpose of this organisation's any more"),
        "{words}"
    );
    let target = trust::Target::default();
    let part = trust
        .decide(&operator, before, trust::Action::Administer, target, "r")
        .await;
    assert!(part.is_err(), "nobody is let do anything for it");

    // It means what is said of it now: treatment needs no consent.
    write(
        &folder,
        "purposes.toml",
        &FOO_BAR.replace("HRESCH", "TREAT"),
    );
    is(&research, 200).await;
    put(&house, &json!({"resourceType": "Patient", "id": "q"})).await;
    assert_eq!(status(&house, &research, "FooBar", "Patient/q").await, 200);
    let decided = trust.decide(
        &agent,
        before,
        trust::Action::Search,
        trust::Target::default(),
        "r",
    );
    assert_eq!(
        decided.await.expect("a permit").purpose().standard(),
        Purpose::Treatment
    );
    house.end().await;
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_does_not_know_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let in_south = folder.path().join("s");
    std::fs::create_dir_all(&in_south).expect("a folder");
    for (name, text) in PolicySet::built_in_files().chain([("purposes.toml", FOO_BAR)]) {
        std::fs::write(in_south.join(name), text).expect("written");
    }
    std::fs::write(folder.path().join("south.toml"), "policy_folder = 's'\n").expect("written");
    let two = Two::with(|options| options.tenants_folder = Some(folder.path().to_owned())).await;
    let in_south = registered(&two.trust(TENANT), TENANT, "FooBar").await;
    let in_north = registered(&two.trust(two.north), two.north, "HRESCH").await;
    let asked = async |host: &str, token: &str, purpose: &str| {
        let address = two.server.address();
        let asked = two
            .http
            .get(format!("http://{address}/fhir/r4/Patient?gender=female"));
        let asked = asked
            .header("host", host)
            .header("x-purpose-of-use", purpose);
        asked.bearer_auth(token).send().await.expect("an answer")
    };
    assert_eq!(asked(SOUTH, &in_south, "FooBar").await.status(), 200);
    let words = refused(asked(NORTH, &in_north, "FooBar").await, 400).await;
    assert!(!words.contains("FooBar"), "{words}");
    assert_outcome(
        asked(NORTH, &in_north, "urn:purposes|FooBar").await,
        400,
        "value",
    )
    .await;
    // One that comes to be decided there is none there.
    let south = two.trust(TENANT).policy_set();
    let foreign = south.purposes().parse("FooBar").expect("a purpose");
    let trust = two.trust(two.north);
    let agent = trust.identity().bearer(&in_north).await.expect("an agent");
    let target = trust::Target::default();
    let decided = trust
        .decide(&agent, foreign, trust::Action::Search, target, "r")
        .await;
    assert!(decided.is_err());
    two.end().await;
}

#[test]
fn commands_know_the_purposes_of_a_folder() {
    let (policies, store) = (folder_with_foo_bar(), keyed_folder());
    let run = |arguments: &[&str]| {
        let mut command = cairn();
        command.args(arguments).stdin(Stdio::null());
        let done = command.output().expect("cairn runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            done.status.success(),
            text(&done.stdout),
            text(&done.stderr),
        )
    };
    let place = policies.path().to_str().expect("UTF-8");
    let data = store.path().to_str().expect("UTF-8");
    let why = |purpose: &str, folder: &[&str]| {
        let asked = [
            "policy",
            "why",
            "--role",
            "client",
            "--action",
            "read",
            "--type",
            "Patient",
            "--purpose",
        ];
        run(&[&asked[..], &[purpose], folder].concat())
    };
    for purpose in ["FooBar", "urn:purposes|FooBar"] {
        let (permitted, out, _) = why(purpose, &["--folder", place]);
        assert!(
            permitted && out.contains("may read Patient for FooBar"),
            "{out}"
        );
        assert!(
            out.contains("HRESCH, CAREMGT, FooBar") || out.contains(", FooBar."),
            "{out}"
        );
    }
    let (_, _, told) = why("FooBar", &[]);
    assert!(told.contains("--purpose FooBar: there are TREAT"), "{told}");
    let (_, matrix, _) = run(&["policy", "matrix", "--folder", place]);
    assert!(matrix.contains("FooBar"), "{matrix}");
    let create = |more: &[&str]| {
        let named = [
            "client",
            "create",
            "--data",
            data,
            "--name",
            "study",
            "--purposes",
            "FooBar",
        ];
        run(&[&named[..], more].concat())
    };
    let (made, _, told) = create(&[]);
    assert!(!made && told.contains("a purpose is one of"), "{told}");
    let (made, _, told) = create(&["--policy-folder", place]);
    assert!(made, "{told}");
    let (_, list, _) = run(&["client", "list", "--data", data]);
    assert!(list.contains("  FooBar  study"), "{list}");
    write(&policies, "purposes.toml", "[[purpose]]\n");
    let (_, _, told) = run(&["policy", "check", place]);
    assert!(told.contains("purposes.toml:1:1: missing field"), "{told}");
}

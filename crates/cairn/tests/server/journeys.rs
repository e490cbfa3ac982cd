//! `POST /api/journeys`, and dead letters on the command line.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use cairn::store::{self, TENANT};
use fhir::Resource;
use journey::Journeys;
use ledger::{Expected, Owner, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use trust::{Action, Agent, Change, Internal, Purpose, Target, Trust, TrustOptions, Unit, kinds};

use crate::house::{cairn, header, house, house_with, keyed_folder, put, token};
use crate::patience::Patience;
use crate::policies;

const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");

#[tokio::test]
async fn a_squad_publishes_and_nobody_else() {
    let house = house().await;
    let publish = |token: String, source: &str| {
        house
            .bare(Method::POST, "/api/journeys")
            .bearer_auth(token)
            .body(source.to_owned())
            .send()
    };
    let stranger = house
        .bare(Method::POST, "/api/journeys")
        .body(JOURNEY)
        .send()
        .await
        .expect("an answer");
    assert_eq!(stranger.status(), 401);
    assert_ne!(header(&stranger, "www-authenticate"), "");
    assert_eq!(
        publish("wrong".to_owned(), JOURNEY)
            .await
            .expect("an answer")
            .status(),
        401
    );
    assert_eq!(
        publish(house.token.clone(), JOURNEY)
            .await
            .expect("an answer")
            .status(),
        403
    );

    let squad = token(&house.server, trust::Role::Squad).await;
    let broken = publish(squad.clone(), "name: broken\nsteps: nonsense\n")
        .await
        .expect("an answer");
    assert_eq!(broken.status(), 422);
    let broken: Value = broken.json().await.expect("JSON");
    assert!(
        broken["findings"]
            .as_array()
            .is_some_and(|findings| !findings.is_empty()),
        "{broken}"
    );

    for _ in 0..2 {
        let published = publish(squad.clone(), JOURNEY).await.expect("an answer");
        assert_eq!(published.status(), 200);
        let published: Value = published.json().await.expect("JSON");
        // The same text again is the same version.
        assert_eq!(
            (published["name"].as_str(), published["version"].as_u64()),
            (Some("heart-failure-discharge"), Some(1))
        );
    }
    house.end().await;
}

/// What policies refuse to the engine waits until they let it; nothing is passed over and nobody moved meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn journeys_stand_still_while_policies_refuse_the_engine() {
    let folder = policies::folder();
    let house = house_with(|options| options.policy_folder = Some(folder.path().to_owned())).await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let asked = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let published = asked.body(JOURNEY).send().await.expect("an answer");
    assert_eq!(published.status(), 200);
    let may = async || {
        let engine = Agent::system(TENANT, "journey-engine");
        let (purpose, target) = (Purpose::CareManagement, Target::default());
        let trust = house.server.trust();
        (trust
            .decide(&engine, purpose, Action::Orchestrate, target, "test")
            .await)
            .is_ok()
    };
    let messages = async || -> usize {
        let path = "/fhir/r4/Communication?subject=Patient/p";
        let found = house.asked(Method::GET, path).send().await;
        let found: Value = found.expect("an answer").json().await.expect("JSON");
        found["entry"].as_array().map_or(0, Vec::len)
    };
    // The parts' own cases say that the engine may.
    std::fs::remove_file(folder.path().join("parts.test.toml")).expect("removed");
    let words = "@id(\"no-journeys\")\n@says(\"Journeys stand still.\")\n\
        forbid (principal in Part::\"journey-engine\", action == Action::\"orchestrate\", resource);\n";
    policies::put(&folder, "own.cedar", words);
    let tested = "[[case]]\nname = \"no journeys\"\npart = \"journey-engine\"\npurpose = \"CAREMGT\"\n\
        action = \"orchestrate\"\nexpect = \"deny\"\nby = [\"no-journeys\"]\n";
    policies::put(&folder, "own.test.toml", tested);
    let mut looks = Patience::new();
    while may().await {
        looks.wait("the policy is not in force").await;
    }
    for resource in [
        json!({"resourceType": "Patient", "id": "p", "name": [{"family": "Berg"}]}),
        json!({"resourceType": "Encounter", "id": "e", "status": "finished", "subject": {"reference": "Patient/p"},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "period": {"start": "2026-02-20T10:00:00Z", "end": "2026-03-01T08:00:00Z"},
            "reasonCode": [{"coding": [{"system": "http://snomed.info/sct", "code": "84114007"}]}]}),
    ] {
        put(&house, &resource).await;
    }
    for _ in 0..30 {
        assert_eq!(messages().await, 0, "somebody was moved");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for own in ["own.cedar", "own.test.toml"] {
        std::fs::remove_file(folder.path().join(own)).expect("removed");
    }
    let mut looks = Patience::new();
    while messages().await == 0 {
        looks.wait("nobody was welcomed").await;
    }
    assert!(may().await);
    house.end().await;
}

/// A store of a folder, opened as the command line does.
async fn opened(folder: &Path) -> Trust {
    let key = store::root_key_path(folder);
    let ledger = store::open(
        store::in_folder(folder),
        &key,
        Arc::new(SystemClock),
        16 << 20,
    )
    .await
    .expect("a store");
    Trust::new(TrustOptions {
        ledger,
        wall_clock: Arc::new(SystemClock),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })
    .expect("trust")
}

async fn permit(trust: &Trust, part: &str, purpose: Purpose, action: Action) -> trust::Permit {
    let agent = Agent::system(TENANT, part);
    trust
        .decide(&agent, purpose, action, Target::default(), "test")
        .await
        .expect("a permit")
}

/// Writes resources of a patient's record and lets the journeys work on them.
async fn written(trust: &Trust, resources: Vec<Value>) {
    let importer = permit(trust, "importer", Purpose::Operations, Action::Import).await;
    let changes = resources
        .into_iter()
        .map(|resource| Change::Put {
            resource: Resource::from_value(resource).expect("a resource"),
            expected: Expected::Absent,
        })
        .collect();
    let unit = Unit {
        changes,
        ..Unit::default()
    };
    trust
        .vault()
        .commit(&importer, unit)
        .await
        .expect("written");
    Journeys::new(trust.clone())
        .drain(TENANT)
        .await
        .expect("drained");
}

/// Puts a body in the place of an instance's; returns what was there.
async fn replaced(trust: &Trust, patient: &str, instance: &str, body: Vec<u8>) -> Vec<u8> {
    let engine = permit(
        trust,
        "journey-engine",
        Purpose::CareManagement,
        Action::Orchestrate,
    )
    .await;
    let found = trust
        .vault()
        .internal(&engine, kinds::JOURNEY_INSTANCE, instance)
        .await
        .expect("read")
        .expect("there");
    let internal = Internal {
        kind: kinds::JOURNEY_INSTANCE,
        id: instance.to_owned(),
        owner: Owner::Patient(patient.to_owned()),
        expected: Expected::Version(found.version),
        body,
        deleted: false,
        tokens: vec![
            ("patient".to_owned(), patient.to_owned()),
            ("state".to_owned(), "running".to_owned()),
        ],
    };
    let unit = Unit {
        internals: vec![internal],
        ..Unit::default()
    };
    trust.vault().commit(&engine, unit).await.expect("written");
    found.body
}

#[tokio::test]
async fn dead_letters_are_listed_and_played_again_from_the_command_line() {
    let folder = keyed_folder();
    let run = |arguments: &[&str]| -> Output {
        cairn()
            .arg("journey")
            .args(arguments)
            .arg("--data")
            .arg(folder.path())
            .output()
            .expect("cairn runs")
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let trust = opened(folder.path()).await;
    let squad = permit(&trust, "command-line", Purpose::Operations, Action::Publish).await;
    Journeys::new(trust.clone())
        .publish(&squad, JOURNEY)
        .await
        .expect("published");
    let ledger = trust.vault().ledger().clone();
    let now = fhir::date::instant(ledger.clock().now_ms());
    let patient = ledger.mint_own_id(TENANT);
    let mint = || ledger.mint_id(TENANT, &Owner::Patient(patient.clone()));
    let subject = json!({ "reference": format!("Patient/{patient}") });
    written(&trust, vec![
        json!({ "resourceType": "Patient", "id": patient, "birthDate": "1941-03-07" }),
        json!({
            "resourceType": "Encounter", "id": mint(), "status": "finished", "subject": subject,
            "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP" },
            "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] }],
            "period": { "end": now },
        }),
    ])
    .await;
    let demo = permit(&trust, "demo", Purpose::Operations, Action::Observe).await;
    let instance = Journeys::new(trust.clone())
        .of_patient(&demo, &patient)
        .await
        .expect("views")
        .remove(0)
        .id;
    let good = replaced(&trust, &patient, &instance, b"{\"f\":1}".to_vec()).await;
    let weight = |kg: f64| {
        json!({
            "resourceType": "Observation", "id": mint(), "status": "final", "subject": subject,
            "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7" }] },
            "effectiveDateTime": now, "valueQuantity": { "value": kg, "system": "http://unitsofmeasure.org", "code": "kg" },
        })
    };
    written(&trust, vec![weight(80.0)]).await;
    ledger.close().await.expect("closed");

    let listed = run(&["dead-letters"]);
    assert_eq!(listed.status.code(), Some(1), "{listed:?}");
    assert!(
        text(&listed).contains(&format!("Observation of journey {instance}")),
        "{}",
        text(&listed)
    );
    let lines = text(&run(&["dead-letters", "--json"]));
    let letters: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(!letters.is_empty());
    assert_eq!(letters[0]["instance"], instance.as_str());
    let left = run(&["retry", "--all"]);
    assert_eq!(left.status.code(), Some(1), "{left:?}");
    assert!(text(&left).contains("does not parse"), "{}", text(&left));

    let trust = opened(folder.path()).await;
    replaced(&trust, &patient, &instance, good).await;
    trust.vault().ledger().close().await.expect("closed");
    let mut ids: Vec<&str> = letters
        .iter()
        .map(|letter| letter["id"].as_str().expect("an id"))
        .collect();
    ids.insert(0, "retry");
    let played = run(&ids);
    assert!(played.status.success(), "{played:?}");
    let listed = run(&["dead-letters"]);
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(text(&listed).trim(), "There are none.");
}

//! Who is told is decided when it is told: by all that a search of theirs would be decided by at that moment.

use std::collections::BTreeSet;

use cairn::store::TENANT;
use reqwest::Method;
use serde_json::{Value, json};
use trust::Role;

use super::again::{again_of, replayed, until_replayed};
use super::receiver::Looks;
use super::{
    FHIR, PAYLOAD, Receiver, WEIGHTS, get, house_of, json_of, observation, patient, put, put_by,
    revoke, subscribed, subscription, until_decided, until_rested, until_stands, until_waiting,
    weight, with,
};
use crate::apps;
use crate::house::{House, administers, house_with, token};
use crate::policies;
use crate::smart::System;
use crate::tenants::{NORTH, SOUTH, Two};

const HOUR_MS: u64 = 3_600_000;

pub(super) fn consent(patient: &str, status: &str) -> Value {
    json!({"resourceType": "Consent", "id": format!("c-{patient}"), "status": status, "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": format!("Patient/{patient}")}, "policyRule": {"text": "privacy"},
        "provision": {"type": "deny"}})
}

#[tokio::test]
async fn a_consent_stops_what_is_on_its_way() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    for id in ["p", "q"] {
        put(&house, &patient(id)).await;
    }
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    subscribed(&house, &house.token, &asked).await;
    receiver.answer(&[500]);
    put(&house, &weight("w", "p")).await;
    receiver.until(1).await;
    until_waiting(&house, 1).await;
    put(&house, &consent("p", "active")).await;
    house.clock.advance(60_000);
    // Not even that there is something.
    until_waiting(&house, 0).await;
    put(&house, &weight("x", "p")).await;
    until_waiting(&house, 0).await;
    until_decided(&house, &receiver, "q", 1).await;
    until_waiting(&house, 0).await;
    // Taken back, it hides nothing more.
    put(&house, &consent("p", "inactive")).await;
    until_decided(&house, &receiver, "p", 2).await;
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_those_of_the_moment() {
    let folder = policies::folder();
    let receiver = Receiver::start().await;
    let house = house_with(|options| {
        options.policy_folder = Some(folder.path().to_owned());
        options.subscription_origins = receiver.origin();
    })
    .await;
    put(&house, &patient("p")).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    until_decided(&house, &receiver, "p", 0).await;
    std::fs::remove_file(folder.path().join("client.test.toml")).expect("removed");
    let words = "@id(\"no-observations\")\n@says(\"Nobody looks at observations.\")\n\
        forbid (principal in Role::\"client\", action in Action::\"look\", resource == Kind::\"Observation\");\n";
    policies::put(&folder, "own.cedar", words);
    let tested = "[[case]]\nname = \"no observations\"\nrole = \"client\"\npurpose = \"TREAT\"\n\
        action = \"search\"\ntype = \"Observation\"\nexpect = \"deny\"\nby = [\"no-observations\"]\n";
    policies::put(&folder, "own.test.toml", tested);
    let mut patience = Looks::new();
    while get(&house, &house.token, WEIGHTS).await.0 != 403 {
        patience.wait("the policy is not in force").await;
    }
    let clinician = token(&house.server, Role::Clinician).await;
    put_by(&house, &clinician, &weight("w", "p")).await;
    let error = until_stands(&house, &id, "error").await;
    assert!(error.contains("search Observation for TREAT"), "{error}");
    until_waiting(&house, 0).await;
    receiver.until(1).await;
    // What it was not told is sent again when its owner asks, who waits until somebody mends the policies.
    let since = json!([{"name": "since", "valueInstant": "2026-03-01T00:00:00Z"}]);
    let replay = replayed(&house, &id, since).await;
    until_waiting(&house, 2).await;
    until_rested(&house).await;
    receiver.until(1).await;
    std::fs::remove_file(folder.path().join("own.cedar")).expect("removed");
    std::fs::remove_file(folder.path().join("own.test.toml")).expect("removed");
    let mut patience = Looks::new();
    while get(&house, &house.token, WEIGHTS).await.0 != 200 {
        patience.wait("the policy is still in force").await;
    }
    house.clock.advance(2 * HOUR_MS);
    until_replayed(&house, &id, &replay).await;
    assert_eq!(until_stands(&house, &id, "active").await, "");
    assert_eq!(again_of(&receiver.until(3).await, &replay).len(), 2);
    until_decided(&house, &receiver, "p", 3).await;
    house.end().await;
}

#[tokio::test]
async fn scopes_hold_after_their_token_is_over_and_nothing_after_its_system() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let scopes = "system/Subscription.cruds system/Observation.rs?code=http://loinc.org|29463-7";
    let system = System::new(&house, scopes).await;
    let held = system.token(&house, "1", scopes).await;
    let all = subscription(
        "Observation?status=final",
        &receiver.endpoint(),
        Some(PAYLOAD),
    );
    let id = subscribed(&house, &held, &all).await;
    // What it may not search for it can't ask for.
    let other = subscription("Patient?name=x", &receiver.endpoint(), None);
    let sent = with(&house, &held, Method::POST, "Subscription", &other).send();
    assert_eq!(json_of(sent.await).await.0, 403);
    put(&house, &observation("pulse", "p", "8867-4")).await;
    until_decided(&house, &receiver, "p", 0).await;
    assert_eq!(receiver.paths(), ["/hook/Observation/last-0-p"]);
    // What is on its way stops with the system.
    receiver.answer(&[500]);
    put(&house, &weight("w", "p")).await;
    receiver.until(2).await;
    until_stands(&house, &id, "error").await;
    revoke(&house, &system.id).await;
    house.clock.advance(60_000);
    let error = until_stands(&house, &id, "off").await;
    assert_eq!(error, "who asked for it is let in no more");
    until_waiting(&house, 0).await;
    receiver.until(2).await;
    house.end().await;
}

#[tokio::test]
async fn a_token_without_a_key_ends_it_as_well() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let other = token(&house.server, Role::Client).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &other, &asked).await;
    until_decided(&house, &receiver, "p", 0).await;
    let identity = house.server.trust().identity();
    let client = identity.bearer(&other).await.expect("an agent").id;
    revoke(&house, &client).await;
    put(&house, &weight("w", "p")).await;
    until_stands(&house, &id, "off").await;
    until_waiting(&house, 0).await;
    receiver.until(1).await;
    house.end().await;
}

#[tokio::test]
async fn no_more_is_sent_than_the_purpose_needs_or_asked_by() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let pays = |subscription: &Value| {
        let asked = with(
            &house,
            &house.token,
            Method::POST,
            "Subscription",
            subscription,
        );
        asked.header("x-purpose-of-use", "HPAYMT").send()
    };
    let probe = subscription(
        "Observation?value-quantity=gt80",
        &receiver.endpoint(),
        None,
    );
    let (status, body) = json_of(pays(&probe).await).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.to_string().contains("value-quantity"), "{body}");
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    assert_eq!(json_of(pays(&asked).await).await.0, 201);
    let mut weight = weight("w", "p");
    weight["note"] = json!([{"text": "zyzzyva"}]);
    put(&house, &weight).await;
    let got = receiver.until(1).await;
    let sent: Value = serde_json::from_str(&got[0].body).expect("JSON");
    assert_eq!(sent["code"]["coding"][0]["code"], "29463-7");
    assert_eq!(
        (&sent["note"], &sent["valueQuantity"]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        sent["meta"]["tag"].to_string().contains("SUBSETTED"),
        "{sent}"
    );
    // It is told of as a look of who asked, for their purpose.
    let officer = token(&house.server, Role::PrivacyOfficer).await;
    let path = "AuditEvent?entity=Observation/w&_count=50";
    let looked = house
        .bare(Method::GET, &format!("{FHIR}{path}"))
        .bearer_auth(officer);
    let looked = looked.header("x-purpose-of-use", "HOPERAT").send().await;
    let (_, found) = json_of(looked).await;
    let looks: Vec<&Value> = found["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| &entry["resource"])
        .filter(|event| event["action"] == "E" && event.to_string().contains("HPAYMT"))
        .collect();
    assert_eq!(looks.len(), 1, "{found}");
    assert_eq!(looks[0]["outcome"], "0", "{found}");
    house.end().await;
}

#[tokio::test]
async fn organisations_know_nothing_of_each_others() {
    let (ours, theirs) = (Receiver::start().await, Receiver::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let own = |name: &str, receiver: &Receiver| {
        let text = format!("subscription_origins = '{}'\n", receiver.origin());
        std::fs::write(folder.path().join(name), text).expect("written");
    };
    own("south.toml", &ours);
    let two = Two::with(|options| {
        options.tenants_folder = Some(folder.path().to_owned());
        // What the server's own configuration names is nobody's of several.
        options.subscription_origins = theirs.origin();
    })
    .await;
    let south = two.token(TENANT, Role::Client).await;
    let north = two.token(two.north, Role::Client).await;
    let post = async |host: &str, token: &str, body: &Value| {
        let url = format!("http://{}/fhir/r4/Subscription", two.server.address());
        let asked = two.http.post(url).header("host", host).bearer_auth(token);
        let asked = asked.header("content-type", PAYLOAD).body(body.to_string());
        json_of(asked.send().await).await
    };
    let asked = subscription(WEIGHTS, &theirs.endpoint(), None);
    let (status, body) = post(NORTH, &north, &asked).await;
    assert_eq!(status, 422);
    assert!(body.to_string().contains("subscriptions.origins"), "{body}");
    assert_eq!(post(SOUTH, &south, &asked).await.0, 422);
    let asked = subscription(WEIGHTS, &ours.endpoint(), Some(PAYLOAD));
    assert_eq!(post(SOUTH, &north, &asked).await.0, 401);
    let (status, made) = post(SOUTH, &south, &asked).await;
    assert_eq!(status, 201, "{made}");
    let path = format!(
        "/fhir/r4/Subscription/{}",
        made["id"].as_str().expect("an id")
    );
    let who = crate::routes::Who::Token(north.clone());
    for method in [Method::GET, Method::DELETE] {
        let answer = two.ask(NORTH, &method, &path, &who).await;
        let never = two
            .ask(NORTH, &method, "/fhir/r4/Subscription/never", &who)
            .await;
        assert_eq!(answer.status, never.status, "{method}");
    }
    for (host, token, id) in [(NORTH, &north, "n"), (SOUTH, &south, "s")] {
        two.put(host, token, &patient("p")).await;
        two.put(host, token, &weight(id, "p")).await;
    }
    ours.until(1).await;
    assert_eq!(ours.paths(), ["/hook/Observation/s"]);
    assert!(theirs.got().is_empty());
    two.end().await;
}

/// Whoever subscribes is told of what they would find, whatever hides or cuts rows.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_notified_of_what_is_what_a_search_would_list() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let patients: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    for (n, id) in patients.iter().enumerate() {
        put(&house, &patient(id)).await;
        if n % 3 == 0 {
            put(&house, &consent(id, "active")).await;
        }
    }
    let scopes = "system/Subscription.cruds system/Observation.rs?status=final";
    let system = System::new(&house, scopes).await;
    let held = system.token(&house, "1", scopes).await;
    let criteria = [
        WEIGHTS.to_owned(),
        "Observation?".to_owned(),
        "Observation?status:not=final".to_owned(),
        "Observation?date=ge2026-02-03&code=8867-4".to_owned(),
        "Observation?value-quantity:missing=true".to_owned(),
        format!("Observation?subject={}", house.url("/fhir/r4/Patient/p1")),
        "Observation?_filter=status eq preliminary or code eq 8867-4".to_owned(),
        "Observation?_id=o3,o4,o5,o6&_lastUpdated=gt2026".to_owned(),
    ];
    let mut all = Vec::new();
    for (token, purpose, who) in [
        (&house.token, "TREAT", "client"),
        (&house.token, "HPAYMT", "payer"),
        (&held, "TREAT", "system"),
    ] {
        for (n, criteria) in criteria.iter().enumerate() {
            let endpoint = format!("{}/{who}-{n}", receiver.origin());
            let asked = subscription(criteria, &endpoint, Some(PAYLOAD));
            let sent = with(&house, token, Method::POST, "Subscription", &asked);
            let sent = sent.header("x-purpose-of-use", purpose).send().await;
            let (status, body) = json_of(sent).await;
            // What is not shown can't be asked for, as no search could.
            let hidden = purpose == "HPAYMT" && criteria.contains("value-quantity");
            assert_eq!(status, if hidden { 403 } else { 201 }, "{criteria}: {body}");
            if !hidden {
                all.push((token, purpose, format!("/{who}-{n}/"), criteria));
            }
        }
    }
    let mut dice = 12345_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % sides
    };
    for n in 0..60 {
        let whose = &patients[usize::try_from(roll(6)).expect("small")];
        let code = ["29463-7", "8867-4", "75622-1"][usize::try_from(roll(3)).expect("small")];
        let mut one = observation(&format!("o{n}"), whose, code);
        one["status"] =
            json!(["final", "preliminary", "amended"][usize::try_from(roll(3)).expect("small")]);
        one["effectiveDateTime"] = json!(format!("2026-02-0{}", 1 + roll(5)));
        if roll(3) == 0 {
            one.as_object_mut()
                .expect("an object")
                .remove("valueQuantity");
        }
        put(&house, &one).await;
    }
    let mut some = 0;
    for (token, purpose, prefix, criteria) in all {
        let address = criteria.replace(' ', "%20").replace('|', "%7C");
        let asked = house.bare(Method::GET, &format!("{FHIR}{address}&_count=1000"));
        let asked = asked.bearer_auth(token).header("x-purpose-of-use", purpose);
        let (status, found) = json_of(asked.send().await).await;
        assert_eq!(status, 200, "{criteria}: {found}");
        let entries = found["entry"].as_array().cloned().unwrap_or_default();
        let id = |entry: &Value| entry["resource"]["id"].as_str().expect("an id").to_owned();
        let listed: BTreeSet<String> = entries.iter().map(id).collect();
        some += listed.len();
        let mut patience = Looks::new();
        loop {
            let told = receiver.paths().into_iter();
            let told = told.filter_map(|path| {
                Some(
                    path.strip_prefix(&prefix)?
                        .strip_prefix("Observation/")?
                        .to_owned(),
                )
            });
            let told: BTreeSet<String> = told.collect();
            if told == listed {
                break;
            }
            assert!(
                told.is_subset(&listed),
                "{prefix} {criteria}: {told:?} {listed:?}"
            );
            patience
                .wait(&format!("{prefix} {criteria}: {told:?} of {listed:?}"))
                .await;
        }
    }
    assert!(some > 100, "{some}");
    until_waiting(&house, 0).await;
    let paths = receiver.paths();
    assert_eq!(paths.len(), some, "each once");
    house.end().await;
}

#[tokio::test]
async fn an_application_is_told_as_long_as_its_person_lets_it() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let client = apps::app(&house).await;
    let dora = apps::Staff::new(&house, "dora", Role::Clinician).await;
    let mut browser = apps::Browser::new(&house);
    browser.staff(&dora, "/sign-in").await;
    let mut granted = async |scopes: &str| {
        let pairs = apps::request(&house, &client, scopes, &[]);
        let code = apps::code(&mut browser, &pairs).await;
        let told = apps::tokens(apps::exchange(&house, &client, &code).await).await;
        apps::text(&told, "access_token").to_owned()
    };
    let held = granted("offline_access user/Observation.rs user/Subscription.cruds").await;
    let all = subscription(
        "Observation?status=final",
        &receiver.endpoint(),
        Some(PAYLOAD),
    );
    let id = subscribed(&house, &held, &all).await;
    until_decided(&house, &receiver, "p", 0).await;
    // It has been let in again for less, and what was given first is taken away.
    granted("offline_access user/Patient.rs user/Subscription.cruds").await;
    let permit = administers(&house.server).await;
    let identity = house.server.trust().identity();
    let grants = identity.grants_of_account(&permit, &dora.id).await;
    let grants = grants.expect("grants");
    assert_eq!(grants.len(), 2);
    let (less, more): (Vec<_>, Vec<_>) =
        (grants.iter()).partition(|grant| grant.scopes.to_string().contains("Patient"));
    let ended = identity.end_grant_of(&permit, &dora.id, &more[0].id).await;
    ended.expect("taken away");
    put(&house, &weight("w", "p")).await;
    let error = until_stands(&house, &id, "error").await;
    assert!(error.contains("scopes"), "{error}");
    let ended = identity.end_grant_of(&permit, &dora.id, &less[0].id).await;
    ended.expect("taken away");
    put(&house, &weight("w", "p")).await;
    until_stands(&house, &id, "off").await;
    until_waiting(&house, 0).await;
    receiver.until(1).await;
    house.end().await;
}

#[tokio::test]
async fn who_asks_for_payment_changes_and_ends_it_too() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    put(&house, &patient("p")).await;
    let other_token = token(&house.server, Role::Client).await;
    for purpose in ["HPAYMT", "HOPERAT"] {
        let send = |method: Method, path: &str, body: &Value| {
            let asked = with(&house, &house.token, method, path, body);
            let sent = asked.header("x-purpose-of-use", purpose).send();
            async { json_of(sent.await).await }
        };
        let asked = subscription("Observation?status=final", &receiver.endpoint(), None);
        let (status, made) = send(Method::POST, "Subscription", &asked).await;
        assert_eq!(status, 201, "{purpose}: {made}");
        let path = format!("Subscription/{}", made["id"].as_str().expect("an id"));
        let mut other = asked.clone();
        other["id"] = made["id"].clone();
        other["criteria"] = json!("Observation?status=amended");
        let (status, put) = send(Method::PUT, &path, &other).await;
        assert_eq!(status, 200, "{purpose}: {put}");
        // What is shown in part can be changed by nobody else for the purpose.
        let weight = weight("w", "p");
        let (status, refused) = send(Method::PUT, "Observation/w", &weight).await;
        assert_eq!(status, 403, "{purpose}: {refused}");
        // Nor does a patch that guesses tell what somebody else asked for.
        let mut told = Vec::new();
        for guess in ["Observation?status=amended", "Observation?status=final"] {
            let patch = json!([{"op": "test", "path": "/criteria", "value": guess}]);
            let asked = house.bare(Method::PATCH, &format!("{FHIR}{path}"));
            let asked = asked.bearer_auth(&other_token).body(patch.to_string());
            let asked = asked.header("content-type", "application/json-patch+json");
            let answer = asked.header("x-purpose-of-use", purpose).send().await;
            told.push(json_of(answer).await);
        }
        assert_eq!(told[0].0, 422, "{told:?}");
        assert_eq!(told[0].1["issue"], told[1].1["issue"], "{told:?}");
        let (status, gone) = send(Method::DELETE, &path, &json!({})).await;
        assert_eq!(status, 204, "{purpose}: {gone}");
    }
    house.end().await;
}

/// Writes a document of the store's own over a search parameter.
async fn write_over(house: &House, body: Vec<u8>) {
    let ledger = house.server.ledger();
    let kind = ledger::Kind(fhir::ResourceType::SearchParameter.code());
    let before = ledger.get(TENANT, kind, "eyes").await.expect("the store");
    let mut commit = ledger::Commit::new(TENANT);
    commit.documents.push(ledger::Draft {
        kind,
        id: "eyes".to_owned(),
        owner: ledger::Owner::Tenant,
        expected: ledger::Expected::Version(before.expect("a definition").version),
        body,
        deleted: false,
        tokens: Vec::new(),
    });
    commit.audit = Some(ledger::AuditDraft {
        kind: ledger::Kind(fhir::ResourceType::AuditEvent.code()),
        id: ledger.mint_own_id(TENANT),
        shard: ledger::Shard(0),
        body: b"{}".to_vec(),
        parts: Vec::new(),
        tokens: Vec::new(),
    });
    ledger.commit(commit).await.expect("written");
}

/// Waits until it stands so; something is written at each look, because what nobody writes is not looked at.
async fn until_found(house: &House, id: &str, status: &str) -> String {
    let mut patience = Looks::new();
    loop {
        put(house, &patient("other")).await;
        let (now, error) = super::stands(house, id).await;
        if now == status {
            return error;
        }
        patience.wait(&format!("{now} ({error})")).await;
    }
}

#[tokio::test]
async fn criteria_that_can_not_be_read_for_a_while_end_nothing() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let of = |method: Method, body: &Value| {
        let asked = with(&house, &house.token, method, "SearchParameter/eyes", body);
        let sent = asked.header("x-purpose-of-use", "HOPERAT").send();
        async { json_of(sent.await).await }
    };
    let definition = json!({"resourceType": "SearchParameter", "id": "eyes", "url": "urn:eyes", "name": "eyes",
        "status": "active", "description": "eyes", "code": "eyes", "base": ["Patient"], "type": "token",
        "expression": "Patient.extension.where(url = 'urn:eyes').value"});
    let (status, made) = of(Method::PUT, &definition).await;
    assert_eq!(status, 201, "{made}");
    let eyed = |id: &str| {
        let mut eyed = patient(id);
        eyed["extension"] = json!([{"url": "urn:eyes", "valueCode": "blue"}]);
        eyed
    };
    let asked = subscription("Patient?eyes=blue", &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    put(&house, &eyed("p")).await;
    receiver.until(1).await;
    let ledger = house.server.ledger();
    let kind = ledger::Kind(fhir::ResourceType::SearchParameter.code());
    let whole = ledger.get(TENANT, kind, "eyes").await.expect("the store");
    write_over(&house, b"{}".to_vec()).await;
    let error = until_found(&house, &id, "error").await;
    assert!(error.contains("can't be read"), "{error}");
    write_over(&house, whole.expect("a definition").body).await;
    // It goes on with what is written from now on.
    let mut patience = Looks::new();
    while receiver.got().len() == 1 {
        put(&house, &eyed("q")).await;
        patience.wait("nothing is notified").await;
    }
    assert_eq!(until_stands(&house, &id, "active").await, "");
    let (status, gone) = of(Method::DELETE, &json!({})).await;
    assert_eq!(status, 204, "{gone}");
    let error = until_found(&house, &id, "off").await;
    assert!(error.contains("not understood any more"), "{error}");
    house.end().await;
}

//! What patients' consents hide, over HTTP: every way to a row tells the same of it, from the next request on.

use std::collections::BTreeSet;

use cairn::store::TENANT;
use reqwest::Method;
use serde_json::{Value, json};
use trust::identity::{Contract, Registered};
use trust::{Agent, Purpose, Role};

use crate::bulk::laid_out;
use crate::house::{House, administers, house, house_with, known_as, names, put, token};

const FHIR: &str = "/fhir/r4/";

/// A patient with an encounter, observations about weight and HIV, one of them outside the encounter, a
/// prescription by another practitioner, and a task.
async fn record(house: &House) {
    let subject = json!({"reference": "Patient/p"});
    let observation = |id: &str, code: &str| {
        json!({"resourceType": "Observation", "id": id, "status": "final", "subject": subject,
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "effectiveDateTime": "2026-02-01"})
    };
    put(house, &json!({"resourceType": "Patient", "id": "p"})).await;
    put(
        house,
        &json!({"resourceType": "Encounter", "id": "e", "status": "finished", "subject": subject,
            "class": {"code": "AMB"}, "period": {"start": "2026-02-01"}}),
    )
    .await;
    let mut weight = observation("weight", "29463-7");
    weight["encounter"] = json!({"reference": "Encounter/e"});
    put(house, &weight).await;
    put(house, &observation("old-weight", "29463-7")).await;
    put(house, &observation("hiv", "75622-1")).await;
    put(
        house,
        &json!({"resourceType": "Task", "id": "t", "status": "requested", "intent": "order",
            "for": subject, "encounter": {"reference": "Encounter/e"}}),
    )
    .await;
}

const ALL: [&str; 5] = [
    "Encounter/e",
    "Observation/hiv",
    "Observation/old-weight",
    "Observation/weight",
    "Task/t",
];

async fn json_of(house: &House, token: &str, path: &str) -> (u16, Value) {
    let asked = house.bare(Method::GET, path).bearer_auth(token);
    let answer = asked.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// What a bulk export gives somebody, if they may have one.
async fn exported(house: &House, token: &str) -> Option<BTreeSet<String>> {
    exported_for(house, token, "TREAT").await
}

async fn exported_for(house: &House, token: &str, purpose: &str) -> Option<BTreeSet<String>> {
    let get = async |path: &str| {
        let asked = house.bare(Method::GET, path).bearer_auth(token);
        let asked = asked.header("x-purpose-of-use", purpose);
        let asked = asked.header("prefer", "respond-async");
        asked.send().await.expect("an answer")
    };
    let path_of = |url: &str| url[url.find(FHIR).expect("an address here")..].to_owned();
    let begun = get(&format!("{FHIR}$export")).await;
    if begun.status() == 403 {
        return None;
    }
    assert_eq!(begun.status(), 202);
    let status = path_of(crate::house::header(&begun, "content-location"));
    let manifest = laid_out(async || get(&status).await).await;
    let mut found = BTreeSet::new();
    for file in manifest["output"].as_array().expect("files") {
        let url = path_of(file["url"].as_str().expect("an address"));
        let text = get(&url).await.text().await.expect("text");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("a resource");
            let text = |name: &str| line[name].as_str().expect("text").to_owned();
            found.insert(format!("{}/{}", text("resourceType"), text("id")));
        }
    }
    Some(found)
}

/// Which of the record's rows somebody sees. Each way to them has to say the same.
async fn seen(house: &House, token: &str) -> Vec<&'static str> {
    let mut seen = Vec::new();
    let (_, everything) = json_of(
        house,
        token,
        &format!("{FHIR}Patient/p/$everything?_count=100"),
    )
    .await;
    let (_, included) = json_of(
        house,
        token,
        &format!("{FHIR}Patient?_id=p&_revinclude=Observation:patient&_revinclude=Encounter:patient&_revinclude=Task:patient"),
    )
    .await;
    let (_, compartment) = json_of(house, token, &format!("{FHIR}Patient/p/*?_count=100")).await;
    let exported = exported(house, token).await;
    for row in ALL {
        let (kind, id) = row.split_once('/').expect("a reference");
        let (status, _) = json_of(house, token, &format!("{FHIR}{row}")).await;
        let (version, _) = json_of(house, token, &format!("{FHIR}{row}/_history/1")).await;
        let (past, _) = json_of(house, token, &format!("{FHIR}{row}/_history")).await;
        let found = json_of(
            house,
            token,
            &format!("{FHIR}{kind}?_id={id}&_total=accurate"),
        )
        .await
        .1;
        let sorted = json_of(house, token, &format!("{FHIR}{kind}?_id={id}&_sort=_id"))
            .await
            .1;
        let chained = json_of(
            house,
            token,
            &format!("{FHIR}Patient?_has:{kind}:patient:_id={id}"),
        )
        .await
        .1;
        let is_seen = status == 200;
        if let Some(exported) = &exported {
            assert_eq!(exported.contains(row), is_seen, "{row}: export");
        }
        assert!(is_seen || status == 404, "{row}: {status}");
        assert_eq!(version == 200, is_seen, "{row}: version {version}");
        assert_eq!(past == 200, is_seen, "{row}: history {past}");
        assert_eq!(found["total"], u64::from(is_seen), "{row}: {found}");
        for (way, bundle) in [
            ("search", &found),
            ("sorted", &sorted),
            ("everything", &everything),
            ("included", &included),
            ("compartment", &compartment),
        ] {
            // R4's compartment of a patient has no tasks.
            let is_there = is_seen && (way != "compartment" || kind != "Task");
            assert_eq!(
                names(bundle).contains(row),
                is_there,
                "{row}: {way} {bundle}"
            );
        }
        assert_eq!(
            names(&chained).contains("Patient/p"),
            is_seen,
            "{row}: chained"
        );
        if is_seen {
            seen.push(row);
        }
    }
    seen
}

fn consent(id: &str, date: &str, provision: &Value) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active", "dateTime": date,
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"}, "policyRule": {"text": "privacy"}, "provision": provision,
    })
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[tokio::test]
async fn a_consent_hides_what_it_is_about_and_nothing_else() {
    let house = house().await;
    record(&house).await;
    let clinician = token(&house.server, Role::Clinician).await;
    assert_eq!(seen(&house, &house.token).await, ALL);
    let hiv =
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]);
    let related = json!([{"meaning": "related", "reference": {"reference": "Encounter/e"}}]);
    for (provision, expected) in [
        (
            json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": hiv}]}),
            &[
                "Encounter/e",
                "Observation/old-weight",
                "Observation/weight",
                "Task/t",
            ][..],
        ),
        (
            json!({"type": "permit", "provision": [{"type": "deny", "data": related}]}),
            &["Observation/hiv", "Observation/old-weight"],
        ),
        (
            json!({"type": "deny", "class": [{"code": "Observation"}],
                "provision": [{"type": "permit", "code": [{"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}]}]}),
            &[
                "Encounter/e",
                "Observation/old-weight",
                "Observation/weight",
                "Task/t",
            ],
        ),
        (json!({"type": "deny"}), &["Task/t"]),
        (json!({"type": "permit"}), &ALL),
    ] {
        put(&house, &consent("c", "2026-02-02", &provision)).await;
        assert_eq!(seen(&house, &house.token).await, expected, "{provision}");
        assert_eq!(seen(&house, &clinician).await, ALL, "{provision}");
    }
    // Agreed to, it binds those who treat the patient, too.
    let mut agreed = consent("c", "2026-02-02", &json!({"type": "deny"}));
    agreed["organization"] = json!([{"reference": "Organization/here"}]);
    put(
        &house,
        &json!({"resourceType": "Organization", "id": "here", "name": "Here"}),
    )
    .await;
    put(&house, &agreed).await;
    assert_eq!(seen(&house, &clinician).await, ["Task/t"]);
    // In an emergency it doesn't, once they have said that there is one: for that patient, and no longer.
    let in_emergency = async |path: &str| {
        let asked = house.bare(Method::GET, &format!("{FHIR}{path}"));
        let asked = asked.bearer_auth(&clinician);
        let asked = asked.header("x-purpose-of-use", "ETREAT").send().await;
        asked.expect("an answer").status().as_u16()
    };
    assert_eq!(in_emergency("Observation/hiv").await, 403);
    let identity = house.server.trust().identity();
    let agent = identity.bearer(&clinician).await.expect("an agent");
    // Asked for twice at once, as by a double click.
    let ask = || identity.break_glass(&agent, "p", "Unconscious, nobody to ask", "r");
    let (begun, again) = tokio::join!(ask(), ask());
    let begun = begun.expect("emergency access");
    assert_eq!(again.expect("emergency access").patient, "p");
    put(&house, &json!({"resourceType": "Patient", "id": "q"})).await;
    let mut other = json!({"resourceType": "Observation", "id": "other", "status": "final"});
    other["code"] = json!({"text": "x"});
    other["subject"] = json!({"reference": "Patient/q"});
    put(&house, &other).await;
    assert_eq!(in_emergency("Observation/hiv").await, 200);
    assert_eq!(in_emergency("Observation/other").await, 404);
    // What another patient, who is in no emergency, said of a row that names both holds.
    other["id"] = json!("both");
    other["subject"] = json!({"reference": "Patient/p"});
    other["performer"] = json!([{"reference": "Patient/q"}]);
    put(&house, &other).await;
    assert_eq!(in_emergency("Observation/both").await, 200);
    let mut of_other = agreed.clone();
    of_other["id"] = json!("of-q");
    of_other["patient"] = json!({"reference": "Patient/q"});
    put(&house, &of_other).await;
    assert_eq!(in_emergency("Observation/both").await, 404);
    assert_eq!(in_emergency("Observation/hiv").await, 200);
    let second = identity.break_glass(&agent, "q", "Unconscious, nobody to ask", "r");
    second.await.expect("emergency access");
    // Which of the two it is about is known by whose the resource is, or by whom a search names.
    assert_eq!(in_emergency("Observation/hiv").await, 200);
    assert_eq!(in_emergency("Observation/hiv/_history").await, 200);
    assert_eq!(in_emergency("Observation/hiv/_history/1").await, 200);
    assert_eq!(in_emergency("Observation/other").await, 200);
    assert_eq!(in_emergency("Observation?patient=p").await, 200);
    assert_eq!(in_emergency("Observation?subject=Patient/q").await, 200);
    assert_eq!(in_emergency("Patient/p/Observation").await, 200);
    assert_eq!(in_emergency("Observation").await, 403);
    assert_eq!(in_emergency("Observation?patient=p,q").await, 403);
    assert_eq!(in_emergency("Observation/nothing").await, 403);
    // A third one's is as if it were not there.
    put(&house, &json!({"resourceType": "Patient", "id": "r"})).await;
    let mut third = json!({"resourceType": "Observation", "id": "third", "status": "final"});
    third["code"] = json!({"text": "x"});
    third["subject"] = json!({"reference": "Patient/r"});
    put(&house, &third).await;
    assert_eq!(in_emergency("Observation/third").await, 403);
    assert_eq!(in_emergency("Observation?patient=r").await, 403);
    let posted = house
        .bare(Method::POST, &format!("{FHIR}Observation/_search"))
        .bearer_auth(&clinician)
        .header("x-purpose-of-use", "ETREAT")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("patient=p&_count=1")
        .send()
        .await
        .expect("an answer");
    assert_eq!(posted.status(), 200);
    for patient in ["p", "q"] {
        let mut ended = 0;
        while let Some(access) = identity.emergency(&agent, patient).await.expect("read") {
            let end = identity.end_emergency(&agent, &access.id, "r");
            end.await.expect("ended");
            ended += 1;
        }
        assert!(ended > 0);
    }
    assert_eq!(in_emergency("Observation/hiv").await, 403);
    assert_eq!(begun.patient, "p");
    house.end().await;
}

// Proves: 45 CFR 164.508(a)(1)
#[tokio::test]
async fn a_rule_pack_says_what_holds_without_a_consent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("opt-in.toml");
    let pack = r#"
name = "opt-in"
[default]
permit = ["ETREAT"]
permitted = "an emergency"
denied = "nothing is shown without a consent"
[bound]
client = "always"
"#;
    std::fs::write(&file, pack).expect("a file");
    let name = file.to_str().expect("a path").to_owned();
    let house = house_with(|options| options.consent_rules = name).await;
    record(&house).await;
    assert_eq!(seen(&house, &house.token).await, ["Task/t"]);
    put(
        &house,
        &consent("c", "2026-02-02", &json!({"type": "permit"})),
    )
    .await;
    assert_eq!(seen(&house, &house.token).await, ALL);
    house.end().await;
}

#[tokio::test]
async fn who_is_known_is_told_apart() {
    let house = house().await;
    record(&house).await;
    let actor = json!([{
        "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
        "reference": {"reference": "Organization/there"},
    }]);
    put(
        &house,
        &json!({"resourceType": "Organization", "id": "there", "name": "There"}),
    )
    .await;
    let provision = json!({"type": "permit", "provision": [{"type": "deny", "actor": actor}]});
    put(&house, &consent("c", "2026-02-02", &provision)).await;
    // It may be the one that is meant.
    assert_eq!(seen(&house, &house.token).await, ["Task/t"]);
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    let clients = trust.identity().clients(&permit).await.expect("clients");
    let client = &clients.rows.first().expect("a client").id;
    for (known_as, expected) in [
        ("Organization/here", &ALL[..]),
        ("Organization/there", &["Task/t"]),
        ("Organization/here", &ALL),
    ] {
        let known_as = [known_as.to_owned()];
        let said = trust.identity().set_known_as(&permit, client, &known_as);
        said.await.expect("it is said");
        assert_eq!(seen(&house, &house.token).await, expected, "{known_as:?}");
    }
    for (client, known_as) in [
        (client.as_str(), "Patient/p"),
        (client, "Organization"),
        (client, "Organization/there/_history/1"),
        ("nobody", "Organization/here"),
    ] {
        let known_as = [known_as.to_owned()];
        let said = trust.identity().set_known_as(&permit, client, &known_as);
        assert!(said.await.is_err(), "{client} {known_as:?}");
    }
    house.end().await;
}

// Proves: 42 CFR 2.12, 2.13(a), 2.13(c), 2.31(a), 2.32(a), 2.33(a)
#[tokio::test]
async fn records_under_part_2_go_out_with_their_notice() {
    let house = house().await;
    record(&house).await;
    let part_2 = json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "42CFRPart2"}]);
    let condition = json!({"resourceType": "Condition", "id": "c", "meta": {"security": part_2},
        "subject": {"reference": "Patient/p"}, "code": {"text": "opioid use"}});
    put(&house, &condition).await;
    let notices = async |path: &str, purpose: &str| {
        let asked = house.asked(Method::GET, &format!("{FHIR}{path}"));
        let answer = asked.header("x-purpose-of-use", purpose).send().await;
        let answer = answer.expect("an answer");
        let notice = crate::house::header(&answer, "warning").to_owned();
        (answer.status().as_u16(), notice)
    };
    let notice =
        "299 - \"42 CFR part 2 prohibits unauthorized use or disclosure of these records.\"";
    let found = |notice: &str| (200, notice.to_owned());
    assert_eq!(notices("Condition/c", "TREAT").await, (404, String::new()));
    // No system declares an emergency by itself.
    assert_eq!(notices("Condition/c", "ETREAT").await, (403, String::new()));
    let files = exported(&house, &house.token).await.expect("an export");
    assert!(files.contains("Observation/weight"));
    assert!(!files.contains("Condition/c"));
    let tpo =
        ["TREAT", "HPAYMT", "HOPERAT"].map(|code| json!({"system": Purpose::SYSTEM, "code": code}));
    put(
        &house,
        &consent(
            "c",
            "2026-02-02",
            &json!({"type": "permit", "purpose": tpo}),
        ),
    )
    .await;
    for path in [
        "Condition/c",
        "Condition?patient=p",
        "Patient/p/$everything",
        "Condition/c/_history",
    ] {
        assert_eq!(notices(path, "TREAT").await, found(notice), "{path}");
    }
    assert_eq!(notices("Observation/weight", "TREAT").await, found(""));
    house.end().await;
}

/// What a patient has paid for in full is kept from the payer (45 CFR 164.522(a)(1)(vi)), by a consent as the
/// pages draft it: the visit and what belongs to it, for payment, and from nobody else.
// Proves: 45 CFR 164.522(a)(1)(vi)
#[tokio::test]
async fn what_is_paid_in_full_is_kept_from_the_payer() {
    let house = house().await;
    record(&house).await;
    put(
        &house,
        &json!({"resourceType": "Claim", "id": "bill", "status": "active", "use": "claim", "created": "2026-02-01",
            "type": {"text": "bill"}, "priority": {"text": "normal"}, "provider": {"display": "Here"}, "insurance": [{"sequence": 1, "focal": true, "coverage": {"display": "Payer"}}],
            "patient": {"reference": "Patient/p"},
            "item": [{"sequence": 1, "productOrService": {"text": "visit"}, "encounter": [{"reference": "Encounter/e"}]}]}),
    )
    .await;
    let identity = house.server.trust().identity();
    let operator = Agent::system(TENANT, "command-line");
    let mut tokens = Vec::new();
    let for_bills = Registered::parse("HPAYMT HOPERAT", Contract::Signed).expect("purposes");
    for name in ["payer", "clearing-house"] {
        let made = identity.create_client_for(&operator, name, Role::Client, Some(&for_bills));
        let made = made.await.expect("a token");
        known_as(&house, &made, &[&format!("Organization/{name}")]).await;
        tokens.push(made);
    }
    let [payer, other] = [&tokens[0], &tokens[1]];
    let draft = trust::consent::Draft {
        actors: vec!["Organization/payer".to_owned()],
        instance: Some("Encounter/e".to_owned()),
        related: true,
        purposes: vec![Purpose::Payment, Purpose::Operations],
        by_patient: true,
        ..trust::consent::Draft::default()
    };
    let paid = draft
        .consent("p", crate::house::NOON_MS)
        .expect("a consent");
    let mut paid = paid.into_value();
    paid["id"] = json!("paid");
    let all = [
        "Claim/bill",
        "Encounter/e",
        "Observation/hiv",
        "Observation/old-weight",
        "Observation/weight",
    ];
    let ways = async |token: &str, purpose: &str| {
        let get = async |path: &str| {
            let asked = house.bare(Method::GET, &format!("{FHIR}{path}"));
            let asked = asked.bearer_auth(token).header("x-purpose-of-use", purpose);
            asked.send().await.expect("an answer")
        };
        let everything = get("Patient/p/$everything?_count=100").await.json().await;
        let everything = names(&everything.expect("JSON"));
        let files = exported_for(&house, token, purpose).await.expect("files");
        let mut seen = Vec::new();
        for row in all {
            let (kind, id) = row.split_once('/').expect("a reference");
            let is_seen = get(row).await.status() == 200;
            let found = get(&format!("{kind}?patient=p&_id={id}&_total=accurate")).await;
            let found: Value = found.json().await.expect("JSON");
            assert_eq!(
                found["total"],
                u64::from(is_seen),
                "{row} for {purpose}: search"
            );
            assert_eq!(
                everything.contains(row),
                is_seen,
                "{row} for {purpose}: everything"
            );
            assert_eq!(files.contains(row), is_seen, "{row} for {purpose}: export");
            seen.extend(is_seen.then_some(row));
        }
        seen
    };
    for purpose in ["HPAYMT", "HOPERAT"] {
        assert_eq!(ways(payer, purpose).await, all, "{purpose}");
    }
    put(&house, &paid).await;
    // A later yes to everything takes nothing back of what was said of this visit.
    let general = consent("general", "2026-02-28", &json!({"type": "permit"}));
    for later in [None, Some(&general)] {
        if let Some(later) = later {
            put(&house, later).await;
        }
        for purpose in ["HPAYMT", "HOPERAT"] {
            assert_eq!(
                ways(payer, purpose).await,
                ["Observation/hiv", "Observation/old-weight"],
                "{purpose}"
            );
            assert_eq!(ways(other, purpose).await, all, "{purpose}");
        }
    }
    // And the payer says nothing else than what it is registered for.
    for purpose in ["TREAT", "CAREMGT", "ETREAT"] {
        for path in ["Encounter/e", "Patient/p/$everything", "$export"] {
            let asked = house.bare(Method::GET, &format!("{FHIR}{path}"));
            let asked = asked.bearer_auth(payer).header("x-purpose-of-use", purpose);
            let asked = asked.header("prefer", "respond-async").send().await;
            assert_eq!(asked.expect("an answer").status(), 403, "{path} {purpose}");
        }
    }
    paid["status"] = json!("inactive");
    put(&house, &paid).await;
    assert_eq!(ways(payer, "HPAYMT").await, all);
    house.end().await;
}

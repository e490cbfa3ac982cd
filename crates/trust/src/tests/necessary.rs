//! The minimum necessary on every way out of the vault, for rules that chance makes: what is hidden is in no
//! answer's bytes, what is shown is what it was, and a search is either refused or finds what it always finds.
use std::sync::atomic::AtomicUsize;

use ledger::Number;

use super::*;
use crate::{ExportJob, ExportOf, PastQuery, PolicySet, Versioned};

/// Elements that a rule may hide. What is in one holds the word `secret-` and the element's path.
const ELEMENTS: [&str; 12] = [
    "identifier",
    "category",
    "code",
    "encounter",
    "effective",
    "value",
    "interpretation",
    "note",
    "bodySite",
    "method",
    "component",
    "component.value",
];

/// Searches of observations, with the elements that each looks at; `*` is all of them.
const SEARCHES: [(&str, &str, &[&str]); 17] = [
    ("_id", "o1", &[]),
    ("patient", "Patient/p", &[]),
    ("identifier", "secret-identifier", &["identifier"]),
    ("category", "secret-category", &["category"]),
    ("category:not", "other", &["category"]),
    ("_filter", "category eq secret-category", &["category"]),
    ("code", "secret-code", &["code"]),
    ("encounter", "Encounter/e", &["encounter"]),
    ("encounter:Encounter.status", "finished", &["encounter"]),
    ("_include", "Observation:encounter", &["encounter"]),
    ("date", "2026", &["effective"]),
    ("value-string", "secret-value", &["value"]),
    ("value-string:missing", "true", &["value"]),
    ("method:missing", "false", &["method"]),
    ("component-code", "secret-component.code", &["component"]),
    ("combo-code", "secret-code", &["code", "component"]),
    ("_content", "secret-note", &["*"]),
];

fn an_observation(id: &str, date: &str) -> Value {
    let coded =
        |path: &str| json!({"coding": [{"system": "http://c", "code": format!("secret-{path}")}]});
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "text": {"status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">secret-text</div>"},
        "contained": [{"resourceType": "Device", "id": "d", "lotNumber": "secret-contained"}],
        "extension": [{"url": "http://e", "valueString": "secret-extension"}],
        "identifier": [{"value": "secret-identifier"}],
        "category": [coded("category")],
        "code": coded("code"),
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e", "display": "secret-encounter"},
        "effectiveDateTime": date,
        "_effectiveDateTime": {"id": "secret-effective"},
        "valueString": "secret-value",
        "interpretation": [coded("interpretation")],
        "note": [{"text": "secret-note"}],
        "bodySite": coded("bodySite"),
        "method": coded("method"),
        "device": {"reference": "#d"},
        "component": [{
            "code": coded("component.code"),
            "valueString": "secret-component.value",
        }],
    })
}

/// A vault over the same store under a rule that hides some elements from systems that ask for payment.
pub(super) fn under(house: &House, rule: &str) -> Trust {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in PolicySet::built_in_files() {
        if !name.starts_with("necessary") {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
    }
    // In the place of the built-in ones.
    std::fs::write(folder.path().join("necessary.elements.toml"), rule).unwrap();
    Trust::new(TrustOptions {
        ledger: house.ledger().clone(),
        wall_clock: Arc::new(house.wall.clone()),
        policy_folder: Some(folder.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 12 * 3600,
    })
    .unwrap()
}

async fn permit(trust: &Trust, purpose: Purpose, action: Action) -> Permit {
    let client = staff(Role::Client);
    let decided = trust.decide(&client, purpose, action, Target::default(), "r");
    decided.await.unwrap()
}

/// What is not shown is not there, and what is shown is as it was.
fn check(row: &Resource, whole: &Resource, hidden: &[&str], why: &str) {
    let text = String::from_utf8(row.to_json()).unwrap();
    for gone in hidden.iter().chain(&["text", "contained", "extension"]) {
        assert!(
            !text.contains(&format!("secret-{gone}")),
            "{why} {gone}: {text}"
        );
    }
    for element in ELEMENTS {
        let is_hidden = |gone: &&str| element.starts_with(*gone) || gone.starts_with(element);
        if !hidden.iter().any(is_hidden) && !element.contains('.') && element != "effective" {
            let member = if element == "value" {
                "valueString"
            } else {
                element
            };
            assert_eq!(row.get(member), whole.get(member), "{why} {element}");
        }
    }
    assert_eq!(row.get("subject"), whole.get("subject"));
    assert!(fhir::subset::is_subsetted(row), "{why}");
    assert_eq!(fhir::validate::check(row), [], "{why}: {text}");
}

fn ids(rows: &[Versioned]) -> Vec<String> {
    let ids = rows.iter().map(|row| row.resource.id().unwrap().to_owned());
    ids.collect()
}

// Proves: 45 CFR 164.502(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_tells_what_a_rule_hides() {
    let house = House::new().await;
    house
        .put([
            a_patient("p", "Adams"),
            json!({"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"},
                "subject": {"reference": "Patient/p"}}),
            an_observation("o1", "2026-01-01"),
            an_observation("o2", "2026-02-01"),
            json!({"resourceType": "Observation", "id": "bare", "status": "final", "code": {"text": "x"},
                "subject": {"reference": "Patient/p"}}),
        ])
        .await;
    let mut seed: u64 = 0x5eed;
    for round in 0..10 {
        let mut hidden = Vec::new();
        for element in ELEMENTS {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (seed >> 33).is_multiple_of(3) {
                hidden.push(element);
            }
        }
        let why = format!("round {round} hides {hidden:?}");
        let trust = under(
            &house,
            &format!(
                "[[rule]]\nid = \"x\"\nsays = \"x\"\nrole = \"client\"\npurpose = \"HPAYMT\"\ntype = \"Observation\"\nhides = {hidden:?}"
            ),
        );
        rows_are_cut(&trust, &hidden, &why).await;
        searches_are_refused_or_whole(&trust, &hidden, &why).await;
    }
}

async fn rows_are_cut(trust: &Trust, hidden: &[&str], why: &str) {
    let vault = trust.vault();
    let kind = ResourceType::Observation;
    let whole = permit(trust, Purpose::Treatment, Action::Read).await;
    let whole = vault.read(&whole, kind, "o1").await.unwrap().unwrap();
    assert!(
        whole
            .resource
            .to_json()
            .windows(11)
            .any(|at| at == b"secret-text")
    );
    let check = |rows: &[Versioned], way: &str| {
        let mut found = false;
        for row in rows.iter().filter(|row| row.resource.id() == Some("o1")) {
            found = true;
            check(
                &row.resource,
                &whole.resource,
                hidden,
                &format!("{why}, {way}"),
            );
        }
        assert!(found, "{why}, {way}");
    };
    let read = permit(trust, Purpose::Payment, Action::Read).await;
    assert!(read.because().contains(&"elements:x".to_owned()));
    let row = vault.read(&read, kind, "o1").await.unwrap().unwrap();
    check(&[row], "read");
    let row = vault.read_version(&read, kind, "o1", 1).await.unwrap();
    check(&[row.unwrap()], "vread");
    let history = permit(trust, Purpose::Payment, Action::History).await;
    let rows = vault.history(&history, kind, "o1", None, 10).await.unwrap();
    check(&rows, "history");
    let past = PastQuery {
        kind: None,
        since: Number(0),
        during: None,
        count: 100,
        words: "_history".to_owned(),
    };
    let past = vault.past(&history, &past, None).await.unwrap();
    let rows: Vec<Versioned> = past.rows.into_iter().map(|past| past.row).collect();
    check(&rows, "history of all");
    let search = permit(trust, Purpose::Payment, Action::Search).await;
    let of_patient = query(kind, &[("patient", "Patient/p")]);
    let page = vault.search(&search, &of_patient, None).await.unwrap();
    check(&page.rows, "search");
    let sorted = query(kind, &[("_sort", "_id")]);
    let page = vault.search_sorted(&search, &sorted, None).await.unwrap();
    check(&page.rows, "sorted");
    let patients = query(
        ResourceType::Patient,
        &[("_id", "p"), ("_revinclude", "Observation:patient")],
    );
    let page = vault.search(&search, &patients, None).await.unwrap();
    check(&page.included, "_revinclude");
    let series = vault
        .series(&search, std::slice::from_ref(&of_patient), None, 10, &[])
        .await
        .unwrap();
    check(&series.rows, "series");
    let rows = vault
        .choose(&search, &of_patient, |rows| rows)
        .await
        .unwrap();
    check(&rows, "choose");
    let create = permit(trust, Purpose::Payment, Action::Create).await;
    let row = vault.load(&create, kind, "o1").await.unwrap().unwrap();
    check(&[row], "load");
    let page = vault.load_search(&create, &of_patient, None).await.unwrap();
    check(&page.rows, "load_search");
    let sought = vault.seek(&create, &[&of_patient]).await.unwrap();
    let rows: Vec<Versioned> = sought[0]
        .rows
        .iter()
        .map(|found| found.row.clone())
        .collect();
    check(&rows, "seek");
    exported(trust, hidden, why).await;
    // What is seen in part is not written.
    let transaction = permit(trust, Purpose::Payment, Action::Transaction).await;
    let resource = Resource::from_value(an_observation("o1", "2026-01-01")).unwrap();
    let unit = Unit {
        changes: vec![Change::Put {
            resource,
            expected: Expected::Version(1),
        }],
        ..Unit::default()
    };
    let refused = vault.commit(&transaction, unit).await.unwrap_err();
    assert!(
        matches!(&refused, TrustError::Refused(no) if no.reason.contains("is shown Observation in part")),
        "{refused:?}"
    );
}

async fn exported(trust: &Trust, hidden: &[&str], why: &str) {
    let vault = trust.vault();
    let permit = permit(trust, Purpose::Payment, Action::Export).await;
    let job = ExportJob {
        caller: permit.agent().id.clone(),
        purpose: Purpose::Payment,
        request: "x".to_owned(),
        kinds: vec!["Observation".to_owned()],
        of: ExportOf::System,
        since: None,
        elements: Vec::new(),
        filters: Vec::new(),
        ignored: Vec::new(),
        expires_ms: u64::MAX,
        layout: None,
    };
    let id = why.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let id = &id[..id.len().min(40)];
    vault.keep_export(&permit, id, &job).await.unwrap();
    let progress = AtomicUsize::new(0);
    vault.lay_out_export(TENANT, id, &progress).await.unwrap();
    let found = vault.export_job(&permit, id, 0).await.unwrap().unwrap();
    let mut text = String::new();
    for file in 0..found.job.layout.as_ref().unwrap().files.len() {
        let reading = vault.export_file(&permit, &found, file, Vec::new(), None);
        let mut reading = reading.await.unwrap();
        while let Some(part) = reading.next().await.unwrap() {
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
    }
    assert_eq!(text.matches("SUBSETTED").count(), 3, "{why}: {text}");
    for gone in hidden.iter().chain(&["text", "contained", "extension"]) {
        assert!(!text.contains(&format!("secret-{gone}")), "{why}: {text}");
    }
    let asked = query(ResourceType::Observation, &[("_content", "secret-note")]);
    let refused = vault
        .export_file(&permit, &found, 0, vec![asked], None)
        .await;
    assert!(matches!(refused, Err(TrustError::Refused(_))), "{why}");
}

async fn searches_are_refused_or_whole(trust: &Trust, hidden: &[&str], why: &str) {
    let vault = trust.vault();
    let treat = permit(trust, Purpose::Treatment, Action::Search).await;
    let pay = permit(trust, Purpose::Payment, Action::Search).await;
    let create = permit(trust, Purpose::Payment, Action::Create).await;
    for (name, value, looked_at) in SEARCHES {
        let asked = query(
            ResourceType::Observation,
            &[(name, value), ("_total", "accurate")],
        );
        // Its own part of a component is not its code.
        let hides = |gone: &&str| looked_at.contains(&"*") || looked_at.contains(gone);
        let is_refused = looked_at.contains(&"*") || hidden.iter().any(hides);
        let why = format!("{why}: {name}={value}");
        let whole = vault.search(&treat, &asked, None).await.unwrap();
        let refused = |error: TrustError| {
            assert!(is_refused, "{why}: {error:?}");
            assert!(
                matches!(&error, TrustError::Refused(no) if no.reason.contains("is not shown to the role client for HPAYMT (rule x)")),
                "{why}: {error:?}"
            );
        };
        match vault.search(&pay, &asked, None).await {
            Err(error) => refused(error),
            Ok(found) => {
                assert!(!is_refused, "{why}");
                texts_are_the_rows(vault, (&pay, &asked), None, &found).await;
                assert_eq!(ids(&found.rows), ids(&whole.rows), "{why}");
                assert_eq!(found.total, whole.total, "{why}");
                assert_eq!(ids(&found.included), ids(&whole.included), "{why}");
            }
        }
        let queries = std::slice::from_ref(&asked);
        let outcomes = [
            vault.explain(&pay, &asked).await.map(|told| {
                // Which candidates were turned down depends on what they hold.
                assert_eq!(told.looked_at, None);
            }),
            vault
                .search_types(&pay, queries, true, None)
                .await
                .map(drop),
            vault.search_many(&pay, queries).await.map(drop),
            vault.seek(&create, &[&asked]).await.map(drop),
            vault.load_all(&create, &asked).await.map(drop),
            vault.choose(&pay, &asked, |rows| rows).await.map(drop),
            vault.series(&pay, queries, None, 10, &[]).await.map(drop),
        ];
        for outcome in outcomes {
            match outcome {
                Err(TrustError::Invalid(_)) if asked.has_links() => {}
                Err(error) => refused(error),
                Ok(()) => assert!(!is_refused, "{why}"),
            }
        }
    }
    // From the other end, and in order.
    let linked = query(
        ResourceType::Patient,
        &[("_has:Observation:patient:value-string", "secret-value")],
    );
    let outcome = vault.search(&pay, &linked, None).await;
    assert_eq!(outcome.is_err(), hidden.contains(&"value"), "{why}");
    let sorted = query(ResourceType::Observation, &[("_sort", "date")]);
    let outcome = vault.search_sorted(&pay, &sorted, None).await;
    assert_eq!(outcome.is_err(), hidden.contains(&"effective"), "{why}");
}

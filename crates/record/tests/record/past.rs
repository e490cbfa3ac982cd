//! History of a type and of the whole record.
use fhir::ResourceType as T;
use record::Caller;
use serde_json::{Value, json};
use trust::{Purpose, Role};

use crate::house::{
    BASE, House, NOW_MS, TENANT, caller, client, json_of, link, observation, pairs, wrong,
};
use crate::privacy::deny;

/// Type, id, version and method of each entry.
type Row = (String, String, String, String);

fn rows(bundle: &Value) -> Vec<Row> {
    assert_eq!(bundle["type"], "history");
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    let row = |entry: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let url = text(&entry["request"]["url"]);
        let (kind, id) = url.split_once('/').unwrap();
        assert_eq!(entry["fullUrl"], format!("{BASE}/{url}"));
        let etag = text(&entry["response"]["etag"]);
        if let Some(resource) = entry.get("resource") {
            let version = text(&resource["meta"]["versionId"]);
            assert_eq!(etag, format!("W/\"{version}\""));
            assert_eq!(
                entry["response"]["lastModified"],
                resource["meta"]["lastUpdated"]
            );
        } else {
            assert_eq!(entry["request"]["method"], "DELETE");
        }
        (
            kind.to_owned(),
            id.to_owned(),
            etag,
            text(&entry["request"]["method"]),
        )
    };
    entries.iter().map(row).collect()
}

async fn page(house: &House, caller: &Caller, kind: Option<T>, asked: &str) -> Value {
    let answer = house.record.past(caller, kind, &pairs(asked)).await;
    json_of(&answer.unwrap())
}

/// All pages; between them something else is written, if asked for.
async fn all(
    house: &House,
    caller: &Caller,
    kind: Option<T>,
    asked: &str,
    write: bool,
) -> Vec<Row> {
    let mut parameters = pairs(asked);
    let mut found = Vec::new();
    loop {
        let answer = house.record.past(caller, kind, &parameters).await.unwrap();
        let bundle = json_of(&answer);
        found.extend(rows(&bundle));
        match link(&bundle, "next") {
            Some(next) => parameters = next,
            None => return found,
        }
        if write {
            house.clock.advance(1);
            house.patient("Meanwhile").await;
        }
    }
}

async fn update(house: &House, id: &str, family: &str) {
    house.clock.advance(1000);
    let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": family}]});
    let body = body.to_string();
    let caller = client();
    let written = house
        .record
        .update(&caller, T::Patient, id, None, body.as_bytes());
    written.await.unwrap();
}

async fn delete(house: &House, kind: T, id: &str) {
    let caller = client();
    let deleted = house.record.delete(&caller, kind, id, None);
    deleted.await.unwrap();
}

/// Audit events of looks at a patient, newest first.
async fn looks_at(house: &House, patient: &str) -> Vec<Value> {
    let officer = caller(Role::PrivacyOfficer, Purpose::Operations);
    let asked = pairs(&format!("entity=Patient/{patient}&_count=1000"));
    let answer = house.record.search(&officer, T::AuditEvent, &asked).await;
    let bundle = json_of(&answer.unwrap());
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry["resource"].clone())
        .collect()
}

/// What a look at each version of each resource by itself would show.
async fn one_by_one(house: &House, caller: &Caller, names: &[(T, String)]) -> Vec<Row> {
    let mut found = Vec::new();
    for (kind, id) in names {
        let parameters = pairs("_count=1000");
        let answer = house.record.history(caller, *kind, id, &parameters).await;
        if let Ok(answer) = answer {
            found.extend(rows(&json_of(&answer)));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_past_has_each_version_that_a_look_at_it_shows() {
    let house = House::new().await;
    let mut names = Vec::new();
    for number in 0..6 {
        house.clock.advance(1000);
        let patient = house.patient("Berg").await;
        let weight = house.create(&observation(&patient, "29463-7")).await;
        update(&house, &patient, &format!("Berg{number}")).await;
        names.push((T::Patient, patient.clone()));
        names.push((T::Observation, weight.clone()));
        if number % 2 == 0 {
            delete(&house, T::Observation, &weight).await;
        }
        if number == 4 {
            let mut body = observation(&patient, "8867-4");
            body["id"] = json!(weight);
            let body = body.to_string();
            let caller = client();
            let again =
                house
                    .record
                    .update(&caller, T::Observation, &weight, None, body.as_bytes());
            again.await.unwrap();
        }
    }
    let patients: Vec<_> = names
        .iter()
        .filter(|(kind, _)| *kind == T::Patient)
        .cloned()
        .collect();
    for (kind, names) in [(None, &names), (Some(T::Patient), &patients)] {
        let expected = one_by_one(&house, &client(), names).await;
        let whole = all(&house, &client(), kind, "_count=1000", false).await;
        for asked in ["_count=1", "_count=4", "_count=7&_summary=text"] {
            assert_eq!(
                all(&house, &client(), kind, asked, false).await,
                whole,
                "{asked}"
            );
        }
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
    }
    // What is written meanwhile lies in front; the pages neither miss nor repeat any.
    let whole = all(&house, &client(), Some(T::Patient), "", false).await;
    let moving = all(&house, &client(), Some(T::Patient), "_count=2", true).await;
    assert_eq!(moving, whole);

    let bundle = page(&house, &client(), Some(T::Observation), "").await;
    assert_eq!(bundle["total"], rows(&bundle).len());
    let statuses = |bundle: &Value| {
        let entries = bundle["entry"].as_array().unwrap().iter();
        let of = |entry: &Value| entry["response"]["status"].as_str().unwrap().to_owned();
        entries.map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        statuses(&bundle)[..4],
        [
            "201 Created",
            "201 Created",
            "204 No Content",
            "201 Created"
        ]
    );
    let first = page(&house, &client(), Some(T::Patient), "_count=1").await;
    assert_eq!(first.get("total"), None);
    // In a bundle, too.
    let entries = ["_history?_count=3", "Patient/_history?_count=3"];
    let entries = entries.map(|url| json!({"request": {"method": "GET", "url": url}}));
    for kind in ["batch", "transaction"] {
        let answer = house
            .bundle(&client(), kind, entries.to_vec())
            .await
            .unwrap();
        for entry in answer["entry"].as_array().unwrap() {
            assert_eq!(rows(&entry["resource"]).len(), 3, "{entry}");
        }
    }
}

#[tokio::test]
async fn the_past_is_bounded_in_time() {
    let house = House::new().await;
    // One a second: made, changed, changed, deleted; and one that was there all the time.
    let id = house.patient("Berg").await;
    let other = house.patient("Dahl").await;
    update(&house, &id, "Berg2").await;
    update(&house, &id, "Berg3").await;
    house.clock.advance(1000);
    house
        .record
        .delete(&client(), T::Patient, &id, None)
        .await
        .unwrap();
    let second = |second: u64| fhir::date::instant(NOW_MS + 1000 * second);
    let versions = async |asked: &str| {
        let found = all(&house, &client(), Some(T::Patient), asked, false).await;
        let name = |id: &str| if id == other { "other" } else { "own" };
        (found.iter())
            .map(|(_, id, etag, _)| format!("{} {}", name(id), etag.replace(['W', '/', '"'], "")))
            .collect::<Vec<_>>()
    };
    let own = async |asked: &str| {
        let answer = house
            .record
            .history(&client(), T::Patient, &id, &pairs(asked))
            .await;
        let found = rows(&json_of(&answer.unwrap()));
        found
            .iter()
            .map(|row| row.2.replace(['W', '/', '"'], ""))
            .collect::<Vec<_>>()
    };
    for (asked, expected) in [
        (format!("_since={}", second(2)), &["own 4", "own 3"][..]),
        (format!("_since={}", second(4)), &[]),
        // At an instant: the one that was current.
        (
            format!("_at={}", second(1).replace(".000", ".500")),
            &["own 2", "other 1"],
        ),
        (format!("_at={}", second(2)), &["own 3", "other 1"]),
        // A second: what it began with was current, too, unless it was followed at its beginning.
        ("_at=2026-11-26T00:00:01Z".to_owned(), &["own 2", "other 1"]),
        (
            "_at=2026-11-26T00:00Z".to_owned(),
            &["own 4", "own 3", "own 2", "other 1", "own 1"],
        ),
        (format!("_at={}", second(9)), &["other 1"]),
        ("_at=2025".to_owned(), &[]),
        // Later than any number that is given.
        ("_since=2528-01-01".to_owned(), &[]),
        ("_at=2528-01-01".to_owned(), &["other 1"]),
        (
            "_at=2026".to_owned(),
            &["own 4", "own 3", "own 2", "other 1", "own 1"],
        ),
        (
            format!("_at=2026&_since={}", second(1)),
            &["own 4", "own 3", "own 2"],
        ),
    ] {
        for count in ["", "&_count=1"] {
            let found = versions(&format!("{asked}{count}")).await;
            assert_eq!(found, expected, "{asked}{count}");
        }
        // The same for one resource.
        let expected: Vec<&str> = (expected.iter())
            .filter_map(|row| row.strip_prefix("own "))
            .collect();
        assert_eq!(own(&asked).await, expected, "{asked}");
    }
    let (caller, asked) = (client(), pairs("_at=2026"));
    let answer = house.record.history(&caller, T::Patient, "nobody", &asked);
    assert_eq!(wrong(answer.await).0, 404);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn the_past_is_shown_to_who_may_see_it() {
    let house = House::new().await;
    let (own, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let place = json!({"resourceType": "Organization", "name": "Ward"});
    let mut names = vec![
        (T::Patient, own.clone()),
        (T::Patient, other.clone()),
        (T::Organization, house.create(&place).await),
    ];
    for patient in [&own, &other] {
        let weight = house.create(&observation(patient, "29463-7")).await;
        let pulse = house.create(&observation(patient, "8867-4")).await;
        house
            .record
            .delete(&client(), T::Observation, &pulse, None)
            .await
            .unwrap();
        names.push((T::Observation, weight));
        names.push((T::Observation, pulse));
    }
    let sorted = async |caller: &Caller, kind: Option<T>| {
        let mut found = all(&house, caller, kind, "_count=2", false).await;
        found.sort();
        found
    };
    let mut patient = caller(Role::Patient, Purpose::PatientRequest);
    patient.agent.patient = Some(own.clone());
    let coordinator = caller(Role::Coordinator, Purpose::CareManagement);
    for caller in [&client(), &patient, &coordinator] {
        let expected = one_by_one(&house, caller, &names).await;
        assert!(!expected.is_empty());
        assert_eq!(
            sorted(caller, None).await,
            expected,
            "{:?}",
            caller.agent.role
        );
    }
    let theirs = sorted(&patient, Some(T::Patient)).await;
    assert_eq!(theirs.len(), 1);

    // What a consent hides is on no page, deletions with it.
    deny(&house, &other).await;
    let expected = one_by_one(&house, &client(), &names).await;
    let clinical = expected.iter().filter(|row| row.0 == "Observation").count();
    assert_eq!(clinical, 3, "those of one patient");
    let found = sorted(&client(), Some(T::Observation)).await;
    assert_eq!(found.len(), clinical);

    // A list that is audited once, with what it showed.
    let before = looks_at(&house, &own).await.len();
    page(&house, &client(), Some(T::Observation), "_count=10").await;
    let events = looks_at(&house, &own).await;
    assert_eq!(events.len(), before + 1);
    assert_eq!(events[0]["subtype"][0]["code"], "history-type");
    let shown = events[0]["entity"].as_array().unwrap();
    let what = |entity: &&Value| {
        let reference = entity["what"]["reference"].as_str();
        reference.is_some_and(|text| text.contains("Observation/"))
    };
    assert_eq!(shown.iter().filter(what).count(), clinical);
    assert!(shown.iter().any(|entity| entity.get("query").is_some()));

    // Whoever may see no history of a type is told so, and has it on no page of everything.
    let squad = caller(Role::Squad, Purpose::Operations);
    let refused = house.record.past(&squad, Some(T::Patient), &[]).await;
    assert_eq!(wrong(refused).0, 403);
    let directory = sorted(&squad, None).await;
    assert_eq!(directory, one_by_one(&house, &squad, &names).await);
    assert_eq!(directory.len(), 1);

    // Of a destroyed patient nothing is left.
    let ledger = house.trust.vault().ledger();
    let audit = ledger::AuditDraft {
        kind: ledger::Kind(T::AuditEvent.code()),
        id: ledger.mint_own_id(TENANT),
        shard: ledger::Shard(0),
        body: json!({"resourceType": "AuditEvent"})
            .to_string()
            .into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
    };
    ledger
        .destroy_patient_key(TENANT, &own, audit)
        .await
        .unwrap();
    let left = sorted(&client(), None).await;
    assert!(!left.is_empty());
    let gone = |row: &&Row| names.iter().any(|(_, id)| *id == row.1 && row.1 == own);
    assert_eq!(left.iter().filter(gone).count(), 0);
    assert_eq!(left.iter().filter(|row| row.0 == "Observation").count(), 0);
}

#[tokio::test]
async fn what_the_past_can_not_be_asked() {
    let house = House::new().await;
    for number in 0..4 {
        house.patient(&format!("Berg{number}")).await;
    }
    let ask = async |kind: Option<T>, asked: &str| {
        wrong(house.record.past(&client(), kind, &pairs(asked)).await)
    };
    for (asked, code) in [
        ("_count=1001", "value"),
        ("_since=yesterday", "value"),
        ("_at=gt2020", "value"),
        ("_at=2020&_at=2021", "not-supported"),
        ("_summary=count", "not-supported"),
        ("_count=0", "not-supported"),
        ("_list=1", "not-supported"),
        ("name=x", "not-supported"),
        ("_cursor=0000", "value"),
    ] {
        for kind in [None, Some(T::Patient)] {
            assert_eq!(ask(kind, asked).await, (400, code.to_owned()), "{asked}");
        }
    }
    assert_eq!(ask(Some(T::AuditEvent), "").await.0, 405);
    assert_eq!(ask(Some(T::Parameters), "").await.0, 404);
    // A cursor is good for the history that it was made for.
    let first = page(&house, &client(), Some(T::Patient), "_count=2").await;
    let cursor = link(&first, "next").unwrap().pop().unwrap();
    assert_eq!(cursor.0, "_cursor");
    let cursor = format!("_cursor={}", cursor.1);
    for (kind, asked) in [
        (None, cursor.clone()),
        (Some(T::Observation), cursor.clone()),
        (Some(T::Patient), format!("{cursor}&_since=2020")),
        (Some(T::Patient), format!("{cursor}0")),
    ] {
        assert_eq!(ask(kind, &asked).await.0, 400, "{asked}");
    }
    // How many a page shows may change on the way.
    let rest = page(
        &house,
        &client(),
        Some(T::Patient),
        &format!("_count=9&{cursor}"),
    )
    .await;
    assert_eq!(rows(&rest).len(), 2);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn a_cursor_tells_nothing_of_what_is_hidden() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let house = House::new().await;
    let (own, other) = (house.patient("Berg").await, house.patient("Dahl").await);
    let oldest = house.create(&observation(&own, "29463-7")).await;
    house.clock.advance(1000);
    // What lies between the rows that are shown, and can end a page.
    house.create(&observation(&other, "29463-7")).await;
    house.clock.advance(1000);
    let newest = house.create(&observation(&own, "8867-4")).await;
    let cursor = async || {
        let bundle = page(&house, &client(), Some(T::Observation), "_count=1").await;
        assert_eq!(rows(&bundle)[0].1, newest);
        let next = link(&bundle, "next").unwrap();
        let cursor = next.iter().find(|(name, _)| name == "_cursor").unwrap();
        (cursor.1.clone(), next.clone())
    };
    let (shown, _) = cursor().await;
    deny(&house, &other).await;
    let ((hidden, next), (again, _)) = (cursor().await, cursor().await);
    assert_eq!(shown.len(), hidden.len());
    assert_ne!(hidden, again, "two of one place have nothing in common");
    let bytes = URL_SAFE_NO_PAD.decode(&hidden).unwrap();
    for second in 0..=2 {
        // The number of a time begins with it.
        let number = ((NOW_MS + 1000 * second) << 20).to_be_bytes();
        let time = &number[1..5];
        assert!(!bytes.windows(4).any(|part| part == time), "{second}");
        let text: String = time.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!hidden.contains(&text), "{second}");
    }
    let answer = house
        .record
        .past(&client(), Some(T::Observation), &next)
        .await;
    let found = rows(&json_of(&answer.unwrap()));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, oldest);
}

//! Bulk exports of more files than one walk is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use fhir::{Resource, ResourceType};
use ledger::{Expected, Shard};
use serde_json::{Value, json};

use super::{House, TENANT, a_patient, staff};
use crate::{
    Action, Agent, Change, ExportFile, ExportFound, ExportJob, ExportLayout, ExportOf,
    ExportReading, Permit, Purpose, Role, TrustError, Unit,
};

fn organization(id: &str, name: &str) -> Value {
    json!({"resourceType": "Organization", "id": id, "name": name})
}

/// Begins an export and has it laid out.
async fn laid_out(house: &House, kind: ResourceType, of: ExportOf) -> (Permit, ExportFound) {
    let client = staff(Role::Client);
    let permit = house
        .permit(&client, Purpose::Treatment, Action::Export)
        .await
        .unwrap();
    let job = ExportJob {
        caller: client.id.clone(),
        purpose: Purpose::Treatment,
        request: "x".to_owned(),
        kinds: vec![kind.name().to_owned()],
        of,
        since: None,
        elements: Vec::new(),
        filters: Vec::new(),
        ignored: Vec::new(),
        expires_ms: u64::MAX,
        layout: None,
    };
    let vault = house.vault();
    vault.keep_export(&permit, "job", &job).await.unwrap();
    let progress = AtomicUsize::new(0);
    vault
        .lay_out_export(TENANT, "job", &progress)
        .await
        .unwrap();
    let found = vault.export_job(&permit, "job", 0).await.unwrap().unwrap();
    (permit, found)
}

fn layout(found: &ExportFound) -> &ExportLayout {
    found.job.layout.as_ref().unwrap()
}

/// The resources of a file, by id.
async fn read(
    house: &House,
    permit: &Permit,
    found: &ExportFound,
    file: usize,
) -> BTreeMap<String, Resource> {
    let reading = house
        .vault()
        .export_file(permit, found, file, Vec::new(), None)
        .await;
    let mut reading = reading.unwrap();
    let mut rows = BTreeMap::new();
    while let Some(lines) = reading.next().await.unwrap() {
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let row = Resource::parse(line).unwrap();
            let id = row.id().unwrap().to_owned();
            assert!(rows.insert(id, row).is_none());
        }
    }
    rows
}

#[tokio::test]
async fn files_of_one_walk_are_as_they_were_whatever_is_written_between_them() {
    let house = House::new().await;
    let ids: Vec<String> = (0..40).map(|number| format!("o{number}")).collect();
    house
        .put(ids.iter().map(|id| organization(id, "old")))
        .await;
    let (permit, found) = laid_out(&house, ResourceType::Organization, ExportOf::System).await;
    let files = layout(&found).files.len();
    assert!((9..=32).contains(&files), "{files}");
    // One walk for eight of them.
    let mut rows = read(&house, &permit, &found, 0).await;
    read(&house, &permit, &found, 7).await;
    assert_eq!(house.vault().export_walks(), 1);

    let gone = ids
        .iter()
        .find(|id| !rows.contains_key(*id))
        .unwrap()
        .clone();
    let changed = ids.iter().filter(|id| **id != gone);
    house.put(changed.map(|id| organization(id, "new"))).await;
    house
        .put((40..50).map(|number| organization(&format!("o{number}"), "late")))
        .await;
    let client = staff(Role::Client);
    let deleting = house
        .permit(&client, Purpose::Treatment, Action::Delete)
        .await
        .unwrap();
    let delete = Change::Delete {
        kind: ResourceType::Organization,
        id: gone.clone(),
        expected: Expected::Version(1),
        owner: ledger::Owner::Tenant,
    };
    let unit = Unit {
        changes: vec![delete],
        ..Unit::default()
    };
    house.vault().commit(&deleting, unit).await.unwrap();

    for file in 1..files {
        for (id, row) in read(&house, &permit, &found, file).await {
            assert!(
                rows.insert(id.clone(), row).is_none(),
                "{id} is in two files"
            );
        }
    }
    assert_eq!(house.vault().export_walks(), files.div_ceil(8));
    let expected: BTreeSet<String> = ids.into_iter().filter(|id| *id != gone).collect();
    let there: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(there, expected);
    for row in rows.values() {
        assert_eq!(row.get("name").and_then(Value::as_str), Some("old"));
    }
}

#[tokio::test]
async fn a_file_of_some_patients_has_all_that_is_theirs() {
    let house = House::new().await;
    let patients: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    house
        .put(patients.iter().map(|id| a_patient(id, "Berg")))
        .await;
    let observations = patients.iter().flat_map(|patient| {
        (0..3).map(move |number| {
            json!({"resourceType": "Observation", "id": format!("{patient}-{number}"), "status": "final",
                "code": {"text": "x"}, "subject": {"reference": format!("Patient/{patient}")}})
        })
    });
    house.put(observations).await;
    let some: BTreeSet<String> = patients.into_iter().skip(3).collect();
    let of = ExportOf::These(some.clone());
    let (permit, found) = laid_out(&house, ResourceType::Observation, of).await;
    let files = layout(&found).files.len();
    assert!(files > 1, "{files}");
    let mut there = BTreeSet::new();
    for file in 0..files {
        for id in read(&house, &permit, &found, file).await.into_keys() {
            assert!(there.insert(id));
        }
    }
    let expected = some
        .iter()
        .flat_map(|patient| (0..3).map(move |number| format!("{patient}-{number}")));
    assert_eq!(there, expected.collect::<BTreeSet<_>>());
}

/// A client with a token, and a file of its export that comes in several parts.
async fn long_file(house: &House, name: &str) -> (Agent, Permit, ExportFound) {
    let operator = Agent::system(TENANT, "command-line");
    let identity = house.trust.identity();
    let token = identity.create_client(&operator, name, Role::Client).await;
    let client = identity.bearer(&token.unwrap()).await.unwrap();
    let permit = house
        .permit(&client, Purpose::Treatment, Action::Export)
        .await
        .unwrap();
    let job = ExportJob {
        caller: client.id.clone(),
        purpose: Purpose::Treatment,
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
    let vault = house.vault();
    vault.keep_export(&permit, name, &job).await.unwrap();
    let progress = AtomicUsize::new(0);
    let laid_out = vault.lay_out_export(TENANT, name, &progress).await;
    laid_out.unwrap();
    let found = vault.export_job(&permit, name, 0).await.unwrap().unwrap();
    (client, permit, found)
}

/// Reads on, asking again as servers do.
async fn reading(
    house: &House,
    client: &Agent,
    permit: &Permit,
    (found, file): (&ExportFound, usize),
) -> ExportReading {
    let (trust, client) = (house.trust.clone(), client.clone());
    let reading = house
        .vault()
        .export_file(permit, found, file, Vec::new(), None)
        .await
        .unwrap();
    reading.asking_again(Box::new(move || {
        let (trust, client) = (trust.clone(), client.clone());
        Box::pin(async move {
            trust
                .decide_again(&client, Purpose::Treatment, Action::Export, "again")
                .await
        })
    }))
}

async fn revoke(house: &House, client: &str) {
    let operator = Agent::system(TENANT, "command-line");
    let administers = house
        .permit(&operator, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    house
        .trust
        .identity()
        .revoke_client(&administers, client, "its disk was stolen")
        .await
        .unwrap();
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn a_download_ends_within_half_a_minute_when_its_client_is_shut_out() {
    let house = House::new().await;
    // 128 rows are opened at a time, and a part ends after two megabytes: these are four.
    let long = "x".repeat(20_000);
    house.put([a_patient("p", "Berg")]).await;
    let rows = (0..500).map(|number| {
        json!({"resourceType": "Observation", "id": format!("o{number}"), "status": "final",
            "code": {"text": "x"}, "subject": {"reference": "Patient/p"}, "note": [{"text": long}]})
    });
    let rows: Vec<Value> = rows.collect();
    let mut shard = Shard(0);
    for some in rows.chunks(50) {
        shard = house.put(some.to_vec()).await[0].shard;
    }
    let file_of = |found: &ExportFound| {
        let mut files = layout(found).files.iter();
        let holds =
            |file: &ExportFile| file.kind.is_some() && (file.first..=file.last).contains(&shard.0);
        files.position(holds).unwrap()
    };
    // One that is let in still goes on, and has the whole.
    let (client, permit, found) = long_file(&house, "kept").await;
    let mut whole = reading(&house, &client, &permit, (&found, file_of(&found))).await;
    let (mut parts, mut rows) = (0, 0);
    while let Some(lines) = whole.next().await.unwrap() {
        parts += 1;
        rows += lines.iter().filter(|byte| **byte == b'\n').count();
        whole.grow_old();
    }
    assert!(parts > 2 && rows == 500, "{parts} {rows}");

    // One that is shut out gets nothing more, and is told that this is not the end.
    let (client, permit, found) = long_file(&house, "lost").await;
    let mut broken = reading(&house, &client, &permit, (&found, file_of(&found))).await;
    assert!(broken.next().await.unwrap().is_some());
    revoke(&house, &client.id).await;
    broken.grow_old();
    let ended = broken.next().await;
    assert!(matches!(ended, Err(TrustError::Refused(_))), "{ended:?}");
    assert_eq!(broken.next().await.unwrap(), None, "it begins nothing more");
    let told = house.audit_events(TENANT).await;
    let told = told[0].text_at(&["outcomeDesc"]).unwrap().to_owned();
    assert!(told.contains("let in no more"), "{told}");

    // Nobody to ask: it ends as well.
    let (_, permit, found) = long_file(&house, "alone").await;
    let alone = (house.vault()).export_file(&permit, &found, file_of(&found), Vec::new(), None);
    let mut alone = alone.await.unwrap();
    assert!(alone.next().await.unwrap().is_some());
    alone.grow_old();
    assert!(alone.next().await.is_err());
}

//! Bulk exports of more files than one walk is for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use fhir::{Resource, ResourceType};
use ledger::Expected;
use serde_json::{Value, json};

use super::{House, TENANT, a_patient, staff};
use crate::{
    Action, Change, ExportFound, ExportJob, ExportLayout, ExportOf, Permit, Purpose, Role, Unit,
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

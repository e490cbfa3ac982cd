//! Counts that are kept in the store: whoever opens the books takes them from there, learns the rest from
//! the feed, and counts everything anew where they are of no use.

use super::page_of;
use crate::world::{DAY, Mail, TENANT, World};
use fhir::Resource;
use journey::Journeys;
use ledger::{Expected, Kind, Owner};
use serde_json::{Value, json};
use trust::{Action, Change, Internal, InternalStored, Permit, Purpose, Unit};

/// Enough journeys that there are some in most shards; from so many on counts are kept here.
const MANY: usize = 1000;
const FEW: u64 = 300;
const AT_ONCE: usize = 100;
const KEPT_COUNTS: Kind = Kind(1052);
const NAME: &str = "reminder";
/// A reminder some days after each stay.
const SOURCE: &str = include_str!("../../../cohort/src/bench/journeys/reminder.yaml");

/// Patients whose stay is over.
async fn stays(world: &World, count: usize) {
    let permit = world
        .part("importer", Purpose::Operations, Action::Import)
        .await;
    let ledger = world.trust.vault().ledger();
    let mut left = count;
    while left > 0 {
        let mut unit = Unit::default();
        for _ in 0..left.min(AT_ONCE) {
            let patient = ledger.mint_own_id(TENANT);
            let stay = ledger.mint_id(TENANT, &Owner::Patient(patient.clone()));
            let subject = json!({"reference": format!("Patient/{patient}")});
            let consent = trust::consent::care_messages(&patient, true, world.now()).into_value();
            let mut consent = Resource::from_value(consent).unwrap();
            consent.set_id(&ledger.mint_id(TENANT, &Owner::Patient(patient.clone())));
            let rows = [
                json!({"resourceType": "Patient", "id": patient, "name": [{"family": "Quandt"}]}),
                consent.into_value(),
                json!({"resourceType": "Encounter", "id": stay, "status": "finished", "subject": subject,
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                    "period": {"end": fhir::date::instant(world.now() + DAY)}}),
            ];
            unit.changes.extend(rows.map(|row| Change::Put {
                resource: Resource::from_value(row).unwrap(),
                expected: Expected::Absent,
            }));
        }
        world.trust.vault().commit(&permit, unit).await.unwrap();
        left -= left.min(AT_ONCE);
    }
}

/// The same, which keeps counts though there are few journeys.
fn keeping(world: World) -> World {
    let journeys = Journeys::keeping_counts_from(world.trust.clone(), FEW);
    World { journeys, ..world }
}

async fn engine(world: &World) -> Permit {
    let purpose = Purpose::CareManagement;
    world
        .part("journey-engine", purpose, Action::Orchestrate)
        .await
}

async fn kept(world: &World) -> Vec<InternalStored> {
    let permit = engine(world).await;
    let vault = world.trust.vault();
    let kept = vault.internals(&permit, KEPT_COUNTS, &[], None, 1000);
    kept.await.unwrap()
}

/// Writes the kept counts anew.
async fn rewrite(world: &World, change: impl Fn(&mut Value)) {
    let permit = engine(world).await;
    let internals = kept(world).await.into_iter().map(|stored| {
        let mut body: Value = serde_json::from_slice(&stored.body).unwrap();
        change(&mut body);
        Internal {
            kind: KEPT_COUNTS,
            id: stored.id,
            owner: Owner::Tenant,
            expected: Expected::Version(stored.version),
            body: serde_json::to_vec(&body).unwrap(),
            deleted: false,
            tokens: Vec::new(),
        }
    });
    let unit = Unit {
        internals: internals.collect(),
        ..Unit::default()
    };
    world.trust.vault().commit(&permit, unit).await.unwrap();
}

/// Follows as the server does until so many are under way, and ends in order.
async fn follow_until(world: &World, running: u64) {
    let (stop, following) = world.follow();
    while page_of(world, &world.journeys, NAME).await["version"]["running"] != running {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    following.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_kept_and_the_rest_is_learnt() {
    let world = keeping(World::with(Mail::Delivers, SOURCE).await);
    // There are few at first.
    stays(&world, 40).await;
    follow_until(&world, 40).await;
    assert!(kept(&world).await.is_empty());
    stays(&world, MANY - 40).await;
    follow_until(&world, MANY as u64).await;
    let counted = page_of(&world, &world.journeys, NAME).await;
    let all = kept(&world).await;
    assert!(all.len() > 200, "{} shards", all.len());

    // Another server kept them in between: it doesn't matter whose they are.
    rewrite(&world, |_| {}).await;
    stays(&world, 10).await;
    follow_until(&world, MANY as u64 + 10).await;
    let later = kept(&world).await;
    assert!(later.iter().filter(|kept| kept.version >= 3).count() > 100);

    // A crash after some more have started and others have ended: the feed has what is not kept.
    stays(&world, 150).await;
    world.drain().await;
    world.clock.advance(2 * DAY);
    world.drain().await;
    stays(&world, 40).await;
    world.drain().await;
    let now = page_of(&world, &world.journeys, NAME).await;
    assert_ne!(now, counted);
    assert_eq!(now["version"]["running"], 40);
    assert_eq!(now["version"]["ended"], MANY as u64 + 160);
    let crashed = keeping(world.after_crash());
    assert_eq!(page_of(&crashed, &crashed.journeys, NAME).await, now);

    // They are taken from where they are kept: what is wrong there is wrong on the page ...
    rewrite(&crashed, |kept| {
        for version in kept["versions"].as_array_mut().unwrap() {
            let ended = version["counts"]["ended"].as_i64().unwrap();
            version["counts"]["ended"] = json!(ended + 1000);
        }
    })
    .await;
    let read = page_of(&crashed, &Journeys::new(crashed.trust.clone()), NAME).await;
    assert!(read["version"]["ended"].as_u64() > Some(100_000), "{read}");
    // ... what is of a time after the store's own is not read ...
    rewrite(&crashed, |kept| kept["to"] = json!(u64::MAX / 2)).await;
    let crashed = keeping(crashed.reopen().await);
    assert_eq!(page_of(&crashed, &crashed.journeys, NAME).await, now);
    // ... and what is of another form is counted anew, and kept in its place.
    rewrite(&crashed, |kept| kept["format"] = json!(0)).await;
    let crashed = keeping(crashed.reopen().await);
    assert_eq!(page_of(&crashed, &crashed.journeys, NAME).await, now);
    follow_until(&crashed, 40).await;
    let again: Vec<Value> = (kept(&crashed).await.iter())
        .map(|stored| serde_json::from_slice(&stored.body).unwrap())
        .collect();
    assert!(again.iter().all(|kept| kept["format"] == 2));
    let crashed = keeping(crashed.reopen().await);
    assert_eq!(page_of(&crashed, &crashed.journeys, NAME).await, now);
}

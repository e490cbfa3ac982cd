//! Batches whose turns are cut short, whom a batch could not reach told page by page, and looks that find no place.

use crate::migrating::{FIRST, moving, operated, second};
use crate::steers;
use crate::world::{Mail, TENANT, World};
use journey::{FailurePlace, JourneyError, Portion, Stage};
use ledger::{Expected, Kind, Owner};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;
use trust::{Action, Internal, Permit, Purpose, Role, Unit, kinds};

/// Polls once: what comes of it, if that is known by then.
async fn once<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

/// Those who are on the second version.
async fn moved(world: &World, patients: &[String]) -> usize {
    let mut moved = 0;
    for patient in patients {
        moved += usize::from(world.view(patient).await.version == 2);
    }
    moved
}

/// A batch's documents, as a server has written them.
struct Notes(Vec<(Kind, String, Vec<u8>)>);

async fn engine(world: &World) -> Permit {
    let (purpose, action) = (Purpose::CareManagement, Action::Orchestrate);
    world.part("journey-engine", purpose, action).await
}

async fn noted(world: &World) -> Notes {
    let permit = engine(world).await;
    let mut notes = Vec::new();
    for kind in [kinds::JOURNEY_MIGRATION, kinds::JOURNEY_BATCH_PART] {
        let stored = world.trust.vault().internals(&permit, kind, &[], None, 50);
        let stored = stored.await.unwrap().into_iter();
        notes.extend(stored.map(|stored| (kind, stored.id, stored.body)));
    }
    Notes(notes)
}

/// What the store would say had the server been killed before it wrote down what it has done since.
async fn killed(world: &World, before: &Notes) {
    let permit = engine(world).await;
    let vault = world.trust.vault();
    let mut internals = Vec::new();
    for (kind, id, body) in &before.0 {
        let now = vault.internal(&permit, *kind, id).await.unwrap().unwrap();
        let running =
            (*kind == kinds::JOURNEY_MIGRATION).then(|| ("stage".to_owned(), "running".to_owned()));
        internals.push(Internal {
            kind: *kind,
            id: id.clone(),
            owner: Owner::Tenant,
            expected: Expected::Version(now.version),
            body: body.clone(),
            deleted: false,
            tokens: running.into_iter().collect(),
        });
    }
    let unit = Unit {
        internals,
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
}

async fn finish(world: &World) {
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
}

/// A move of all, at so many a second.
async fn begun(world: &World, permit: &Permit, rate: u32) -> String {
    let asked = moving(&[], Portion::All);
    let begun = (world.journeys).begin_migration(permit, asked, "On", rate, None);
    begun.await.unwrap()
}

/// Takes a batch back; how many it was for.
async fn taken_back(world: &World, permit: &Permit, id: &str) -> usize {
    let back = (world.journeys).begin_take_back(permit, id, "Too early", 50);
    let back = back.await.unwrap();
    finish(world).await;
    let (batch, failures) = world.journeys.batch(permit, &back).await.unwrap();
    assert_eq!((batch.stage, failures), (Stage::Done, Vec::new()));
    batch.total
}

#[tokio::test]
async fn who_was_moved_before_a_kill_can_be_taken_back_at_once() {
    let world = World::with(Mail::Delivers, FIRST).await;
    let patients = operated(&world, 5).await;
    world.drain().await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 3).await;
    let before = noted(&world).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    killed(&world, &before).await;
    assert_eq!(moved(&world, &patients).await, 3);
    // Nobody goes on with it.
    assert!(world.journeys.cancel_batch(&permit, &id).await.unwrap());
    let head = world.journeys.batch_head(&permit, &id).await.unwrap();
    assert_eq!((head.next, head.total), (0, 5), "nothing was written down");
    assert_eq!(taken_back(&world, &permit, &id).await, 3);
    assert_eq!(moved(&world, &patients).await, 0);
}

/// Who was taken back stays so, also where the batch goes on that has not written down whom it had moved.
#[tokio::test]
async fn who_was_taken_back_is_not_moved_again_when_the_batch_goes_on() {
    let world = World::with(Mail::Delivers, FIRST).await;
    let patients = operated(&world, 5).await;
    world.drain().await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 3).await;
    let before = noted(&world).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    killed(&world, &before).await;
    assert!(world.journeys.pause_batch(&permit, &id).await.unwrap());
    assert_eq!(taken_back(&world, &permit, &id).await, 3);
    assert!(world.journeys.resume_batch(&permit, &id).await.unwrap());
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.stage, batch.failed), (Stage::Done, 3));
    assert!(failures.iter().all(|one| one.why == "it was taken back"));
    assert_eq!(moved(&world, &patients).await, 2, "the others alone");
}

#[tokio::test]
async fn so_can_who_had_to_wait_and_was_moved_before_a_kill() {
    let mut world = World::with(Mail::Silent, FIRST).await;
    let patients = operated(&world, 3).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 50).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    let head = world.journeys.batch_head(&permit, &id).await.unwrap();
    assert_eq!((head.next, head.waiting), (3, 3));
    world.mail = Mail::Delivers;
    world.drain().await;
    let before = noted(&world).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    assert_eq!(moved(&world, &patients).await, 3);
    killed(&world, &before).await;
    assert!(world.journeys.cancel_batch(&permit, &id).await.unwrap());
    assert_eq!(taken_back(&world, &permit, &id).await, 3);
    assert_eq!(moved(&world, &patients).await, 0);
}

#[tokio::test]
async fn a_rest_ends_a_turn_at_the_next_patient() {
    let world = World::with(Mail::Delivers, FIRST).await;
    let patients = operated(&world, 6).await;
    world.drain().await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 50).await;
    {
        let mut turn = pin!(world.journeys.batch_turn(TENANT));
        loop {
            assert!(once(turn.as_mut()).await.is_none(), "it has moved them all");
            if moved(&world, &patients).await > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        // While somebody is being moved. Who is shown to be moved then can be taken back, whatever is written down.
        assert!(world.journeys.pause_batch(&permit, &id).await.unwrap());
        turn.await.unwrap();
    }
    let head = world.journeys.batch_head(&permit, &id).await.unwrap();
    assert!(head.rests() && (1..=2).contains(&head.next), "{head:?}");
    assert_eq!(moved(&world, &patients).await, head.next);
    finish(&world).await;
    assert_eq!(moved(&world, &patients).await, head.next, "it rests");
    assert_eq!(taken_back(&world, &permit, &id).await, head.next);
    assert_eq!(moved(&world, &patients).await, 0);
    // The others, when it goes on.
    assert!(world.journeys.resume_batch(&permit, &id).await.unwrap());
    finish(&world).await;
    assert_eq!(moved(&world, &patients).await, 6 - head.next);
}

/// Those who wait are on the list still, where a rest comes before they were tried again.
#[tokio::test]
async fn a_rest_among_those_who_wait_loses_nobody() {
    let mut world = World::with(Mail::Silent, FIRST).await;
    let patients = operated(&world, 4).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 50).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    world.mail = Mail::Delivers;
    world.drain().await;
    {
        let mut turn = pin!(world.journeys.batch_turn(TENANT));
        loop {
            assert!(once(turn.as_mut()).await.is_none(), "it has moved them all");
            if moved(&world, &patients).await > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(world.journeys.pause_batch(&permit, &id).await.unwrap());
        turn.await.unwrap();
    }
    let head = world.journeys.batch_head(&permit, &id).await.unwrap();
    let by_then = moved(&world, &patients).await;
    assert!(by_then <= 2, "{by_then}");
    assert_eq!((head.next, head.waiting), (4, 4 - by_then), "{head:?}");
    assert!(world.journeys.resume_batch(&permit, &id).await.unwrap());
    finish(&world).await;
    let (batch, failures) = world.journeys.batch(&permit, &id).await.unwrap();
    assert_eq!((batch.stage, batch.waiting), (Stage::Done, 0));
    assert_eq!(failures, []);
    assert_eq!(moved(&world, &patients).await, 4);
}

/// How often the audit of a patient says that a batch's failure was told.
async fn told_of(world: &World, patient: &str) -> usize {
    let audits = world.audits(patient).await;
    let told = audits.iter().filter(|event| {
        let said = event.text_at(&["outcomeDesc"]);
        said.is_some_and(|said| said.contains("could not reach"))
    });
    told.count()
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn whom_it_could_not_reach_is_told_page_by_page_and_in_the_audit_of_each() {
    let world = World::with(Mail::Silent, FIRST).await;
    let patients = operated(&world, 5).await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let id = begun(&world, &permit, 50).await;
    // They end before it comes to them.
    let work = world.staff(Role::Coordinator, Action::Work).await;
    for patient in &patients {
        let instance = world.view(patient).await.id;
        let stopped = (world.journeys).stop_one(&work, patient, &instance, "Moved away");
        assert!(stopped.await.unwrap());
    }
    finish(&world).await;
    // Each page with a permit of its own, as requests have.
    let mut told = Vec::new();
    for (after, count, len, is_last) in [
        (None, 0, 0, true),
        (None, 3, 3, false),
        (Some("0.2"), 1, 1, false),
        (Some("0.3"), 3, 1, true),
        (Some("0.9"), 3, 0, true),
        (Some("7.0"), 3, 0, true),
    ] {
        let permit = steers(&world).await;
        let place = after.map(|text| FailurePlace::parse(text).unwrap());
        let page = world.journeys.batch_failures(&permit, &id, place, count);
        let (batch, page) = page.await.unwrap();
        assert_eq!((batch.failed, page.hidden), (5, 0));
        let found = (page.failures.len(), page.next.is_none());
        assert_eq!(found, (len, is_last), "{after:?} {count}");
        told.extend(page.failures.into_iter().map(|failure| failure.patient));
        let mut known = 0;
        for patient in &patients {
            let leaves = told_of(&world, patient).await;
            assert_eq!(leaves, usize::from(told.contains(patient)), "{after:?}");
            known += leaves;
        }
        assert_eq!(known, told.len());
    }
    told.sort_unstable();
    let mut all = patients.clone();
    all.sort_unstable();
    assert_eq!(told, all, "everybody once");
    for wrong in ["", "1", "x.1", "1.", "-1.0", "1.1.1"] {
        assert_eq!(FailurePlace::parse(wrong), None, "{wrong}");
    }
    // What is read each second tells of nobody.
    world.journeys.batch_head(&permit, &id).await.unwrap();
    assert_eq!(told_of(&world, &patients[0]).await, 1);
}

#[tokio::test]
async fn who_finds_no_place_to_look_ahead_is_told_to_come_again() {
    let world = World::with(Mail::Delivers, FIRST).await;
    operated(&world, 3).await;
    world.drain().await;
    world.publish(&second()).await;
    let permit = steers(&world).await;
    let asked = moving(&[], Portion::All);
    let journeys = &world.journeys;
    let mut first = Box::pin(journeys.preview_migration(&permit, &asked));
    let mut second = Box::pin(journeys.preview_named(&permit, &asked, None, 2));
    // Both are under way: what they end with is not written yet.
    assert!(once(first.as_mut()).await.is_none());
    assert!(once(second.as_mut()).await.is_none());
    let busy = |error: JourneyError| matches!(error, JourneyError::Busy { of_all: false });
    let third = journeys.preview_migration(&permit, &asked).await;
    assert!(busy(third.unwrap_err()));
    let third = journeys.preview_named(&permit, &asked, None, 2).await;
    assert!(busy(third.unwrap_err()));
    let third = journeys.begin_migration(&permit, asked.clone(), "On", 50, None);
    assert!(busy(third.await.unwrap_err()));
    // Who goes away leaves their place, and who has been answered, too.
    drop(first);
    let preview = journeys.preview_migration(&permit, &asked).await.unwrap();
    assert_eq!(preview.total, 3);
    assert_eq!(second.await.unwrap().each.len(), 2);
    let (one, other) = tokio::join!(
        journeys.preview_migration(&permit, &asked),
        journeys.preview_migration(&permit, &asked)
    );
    assert_eq!((one.unwrap().total, other.unwrap().total), (3, 3));
}

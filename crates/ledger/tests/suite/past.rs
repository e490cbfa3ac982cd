//! Versions of all documents, newest first.

use std::cmp::Reverse;

use ledger::{Commit, Expected, Hit, Ledger, LedgerError, Number, Shard, TenantId};

use super::{OBSERVATION, OTHER, PATIENT, Store, TENANT, commit_of, delete, draft, of, put, ready};

const NEWEST: Hit = Hit {
    number: Number(u64::MAX),
    shard: Shard(u16::MAX),
};

/// What is written in these tests: place, kind, version, whether it is a deletion.
type Written = (Hit, ledger::Kind, u32, bool);

async fn page(
    ledger: &Ledger,
    tenant: TenantId,
    behind: Hit,
    limit: usize,
    only: Option<ledger::Kind>,
) -> ledger::PastPage {
    let view = ledger.listing().unwrap();
    let wanted = |event: &ledger::Event| only.is_none_or(|only| event.kind == only);
    let page = view.past(tenant, behind, Number(0), limit, usize::MAX, wanted);
    page.await.unwrap()
}

fn said(events: &[ledger::Event]) -> Vec<Written> {
    (events.iter())
        .map(|event| (event.at, event.kind, event.version, event.deleted))
        .collect()
}

pub(crate) async fn the_past_is_listed_newest_first(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.create_tenant(OTHER).await.unwrap();
    assert!(said(&page(&ledger, TENANT, NEWEST, 10, None).await.events).is_empty());
    let mut written: Vec<Written> = Vec::new();
    let patients: Vec<String> = (0..40).map(|_| ledger.mint_own_id(TENANT)).collect();
    for patient in &patients {
        let at = put(
            &ledger,
            PATIENT,
            patient,
            patient,
            Expected::Absent,
            "p",
            &[],
        )
        .await;
        written.push((at, PATIENT, 1, false));
    }
    // Many of one shard in one group, more than a row of the feed holds.
    let busy = &patients[3];
    let many = (0..600).map(|number| {
        let id = format!("many-{number}");
        draft(
            &ledger,
            OBSERVATION,
            &id,
            of(busy),
            Expected::Absent,
            "o",
            &["a"],
        )
    });
    let receipt = ledger.commit(commit_of(&ledger, many.collect())).await;
    let documents = receipt.unwrap().documents;
    written.extend(documents.iter().map(|one| (one.at, OBSERVATION, 1, false)));
    for patient in patients.iter().step_by(3) {
        store.clock().advance(7);
        let version = Expected::Version(1);
        let at = put(&ledger, PATIENT, patient, patient, version, "again", &[]).await;
        written.push((at, PATIENT, 2, false));
        let at = delete(&ledger, PATIENT, patient, patient, 2).await;
        written.push((at, PATIENT, 3, true));
    }
    // Another tenant's, and what is the audit's, are none of it.
    let mut other = Commit::new(OTHER);
    other.documents = vec![draft(
        &ledger,
        PATIENT,
        "other",
        ledger::Owner::Tenant,
        Expected::Absent,
        "x",
        &[],
    )];
    other.audit = Some(super::audit(&ledger, Shard(0)));
    ledger.commit(other).await.unwrap();
    written.sort_by_key(|(at, ..)| (Reverse(at.number), at.shard));

    let all = page(&ledger, TENANT, NEWEST, 10_000, None).await;
    assert_eq!((said(&all.events), all.next), (written.clone(), None));
    let patients_only: Vec<Written> = (written.iter().copied())
        .filter(|(_, kind, ..)| *kind == PATIENT)
        .collect();
    for limit in [1, 7, 100, 333] {
        for only in [None, Some(PATIENT)] {
            let (mut found, mut behind) = (Vec::new(), NEWEST);
            loop {
                let page = page(&ledger, TENANT, behind, limit, only).await;
                assert!(page.events.len() <= limit, "{limit}");
                found.extend(said(&page.events));
                match page.next {
                    Some(next) => behind = next,
                    None => break,
                }
            }
            let expected = only.map_or(&written, |_| &patients_only);
            assert_eq!(&found, expected, "{limit} {only:?}");
        }
    }
    // No older than asked for, and no more passed than asked for.
    let view = ledger.listing().unwrap();
    let since = written[10].0.number;
    let some = view.past(TENANT, NEWEST, since, 100, usize::MAX, |_| true);
    assert_eq!(said(&some.await.unwrap().events), written[..=10]);
    let some = view.past(TENANT, NEWEST, Number(0), 100, 5, |event| {
        event.version == 1
    });
    let some = some.await.unwrap();
    // Whether others' are passed is the store's.
    assert_eq!((some.passed, some.next.is_some()), (5, true));

    // Each opens, and says what followed it.
    let mut rest = &all.events[..];
    while !rest.is_empty() {
        let opened = view.fetch_past(TENANT, rest).await.unwrap();
        assert!(!opened.is_empty() && opened.len() <= rest.len());
        for (event, past) in rest.iter().zip(&opened) {
            let past = past.as_ref().unwrap();
            let (id, version) = (&past.stored.id, event.version + 1);
            let next = ledger.version(TENANT, event.kind, id, version).await;
            assert_eq!(past.stored.at, event.at);
            assert_eq!(past.stored.version, event.version);
            assert_eq!(past.followed, next.unwrap().map(|next| next.at));
        }
        rest = &rest[opened.len()..];
    }
    // Which version there was at a time.
    let changed = &patients[0];
    let versions = ledger.history(TENANT, PATIENT, changed, None, 10).await;
    let versions = versions.unwrap();
    for (version, stored) in [(1, &versions[2]), (2, &versions[1]), (3, &versions[0])] {
        let number = stored.at.number;
        let newest = view.version_below(TENANT, PATIENT, changed, Number(number.0 + 1));
        assert_eq!(newest.await.unwrap(), Some(version));
        let older = view.version_below(TENANT, PATIENT, changed, number);
        assert_eq!(older.await.unwrap(), (version > 1).then_some(version - 1));
    }
    drop(view);

    // A destroyed patient's are listed and open no more.
    let audit = super::audit(&ledger, Shard(0));
    ledger
        .destroy_patient_key(TENANT, busy, audit)
        .await
        .unwrap();
    let view = ledger.listing().unwrap();
    let of_busy: Vec<ledger::Event> = (all.events.iter())
        .filter(|event| event.kind == OBSERVATION)
        .cloned()
        .collect();
    let opened = view.fetch_past(TENANT, &of_busy).await.unwrap();
    assert!(
        matches!(opened[0], Err(LedgerError::KeyDestroyed)),
        "{:?}",
        opened[0]
    );
}

pub(crate) async fn a_listing_of_the_past_says_up_to_where_it_is_whole(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "p",
        &[],
    )
    .await;
    let newest = ledger.last_number();
    // With nobody writing, all that there is is there; the first look may come before others are done.
    for _ in 0..600 {
        let view = ledger.listing().unwrap();
        let (last, whole) = view.settled().await.unwrap();
        assert!(last >= newest && whole <= last);
        if whole >= newest {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nobody writes, and a listing is not whole");
}

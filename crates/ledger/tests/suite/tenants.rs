//! Tenants: made, named, suspended, and destroyed so that nothing of them opens any more.

use std::sync::Arc;

use ledger::{
    BackupTarget, Commit, Expected, Ledger, LedgerError, Moment, OutboxDraft, OutboxKey, Query,
    RootKey, STORE_TENANT, Shard, Tenant, TenantId, TenantQuota, TenantState,
};

use super::backup::{Files, back_up, wanted};
use super::{
    PATIENT, Store, TENANT, Wanted, assert_sound, audit, draft, of, put, ready, text, timer,
};

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn invalid<T: std::fmt::Debug>(outcome: Result<T, LedgerError>, words: &str) {
    let error = outcome.expect_err(words);
    assert!(
        matches!(&error, LedgerError::Invalid(reason) if reason.contains(words)),
        "{error}"
    );
}

async fn on_list(ledger: &Ledger, id: TenantId) -> Tenant {
    let list = ledger.tenants().await.unwrap();
    list.into_iter().find(|tenant| tenant.id == id).unwrap()
}

/// A document, a timer and an outbox entry of a tenant, under ids that others use as well.
async fn fill(ledger: &Ledger, tenant: TenantId, id: u8) {
    let mut document = draft(
        ledger,
        PATIENT,
        "p",
        of("p"),
        Expected::Absent,
        "words",
        &[],
    );
    document.tokens = vec![ledger.token(tenant, PATIENT, "code", "a")];
    let mut timer = timer(3, 5, id, 7);
    timer.tenant = tenant;
    let commit = Commit {
        documents: vec![document],
        audit: Some(audit(ledger, Shard(0))),
        timers_set: vec![timer],
        outbox_add: vec![OutboxDraft {
            key: OutboxKey {
                shard: Shard(1),
                due_ms: 5,
                id: [id; 16],
            },
            owner: of("p"),
            channel: 4,
            attempt: 0,
            body: vec![id],
        }],
        ..Commit::new(tenant)
    };
    ledger.commit(commit).await.unwrap();
}

async fn queued(ledger: &Ledger, tenant: TenantId) -> (usize, usize) {
    let ledger = ledger.only(tenant);
    let timers = ledger.timers_due(7, 9, 9).await.unwrap();
    let look = ledger.outbox_look(&[4], 9, 9).await.unwrap();
    assert!(look.unreadable.is_empty());
    let due = (timers.first().map(|_| 5), look.entries.first().map(|_| 5));
    assert_eq!(ledger.next_timer_ms().await.unwrap(), due.0);
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), due.1);
    (timers.len(), look.entries.len())
}

/// Two tenants that are reached by names of their own.
async fn two(ledger: &Ledger) -> TenantId {
    invalid(
        ledger.add_tenant("north", &hosts(&["north.example"])).await,
        "each has a host name",
    );
    assert_eq!(ledger.tenants().await.unwrap().len(), 1);
    let main = hosts(&["main.example"]);
    ledger
        .set_tenant(TENANT, None, Some(&main), None)
        .await
        .unwrap();
    let north = ledger
        .add_tenant("north", &hosts(&["north.example", "n.example"]))
        .await
        .unwrap();
    north.id
}

pub(crate) async fn tenants_come_and_go(store: &dyn Store) {
    let ledger = ready(store).await;
    let first = on_list(&ledger, TENANT).await;
    assert_eq!((&*first.name, first.hosts.len()), ("main", 0));
    let north = two(&ledger).await;
    for (name, host, words) in [
        ("north", "other.example", "another tenant has that name"),
        ("other", "north.example", "is given already"),
        ("other", "127.0.0.1", "neither an address"),
        ("Other", "other.example", "a-z"),
    ] {
        invalid(ledger.add_tenant(name, &hosts(&[host])).await, words);
    }
    invalid(
        ledger.add_tenant("other", &[]).await,
        "each has a host name",
    );
    invalid(
        ledger.set_tenant(TENANT, None, Some(&[]), None).await,
        "each has a host name",
    );
    let quota = TenantQuota {
        requests_per_s: Some(5),
        ..TenantQuota::default()
    };
    let renamed = ledger
        .set_tenant(TENANT, Some("south"), None, Some(quota))
        .await;
    assert_eq!(renamed.unwrap().hosts, ["main.example"]);

    fill(&ledger, TENANT, 1).await;
    fill(&ledger, north, 2).await;
    assert_eq!(queued(&ledger, TENANT).await, (1, 1));
    assert_eq!(queued(&ledger, north).await, (1, 1));
    // Nothing is destroyed by mistake, nor under those who are at work.
    invalid(ledger.destroy_tenant(north).await, "is suspended before");
    invalid(ledger.destroy_tenant(TenantId(77)).await, "no such tenant");
    ledger.suspend_tenant(north, true).await.unwrap();
    invalid(ledger.destroy_tenant(north).await, "100 seconds");
    ledger.suspend_tenant(north, false).await.unwrap();
    assert_eq!(on_list(&ledger, north).await.state, TenantState::Active);
    ledger.suspend_tenant(north, true).await.unwrap();
    store.clock().advance(101_000);
    // The root key rotates with the list.
    ledger.close().await.unwrap();
    let ledger = store.open();
    let rotated = RootKey::from_bytes([8; 32]);
    ledger.rotate_root_key(&rotated).await.unwrap();
    ledger.rotate_tenant_keys(north, &|_| {}).await.unwrap();
    let end = ledger.destroy_tenant(north).await.unwrap();
    assert_eq!((end.secrets, end.patients_keys, end.queued), (2, 1, 2));

    is_gone(&ledger, north, "q").await;
    ledger.close().await.unwrap();
    let ledger = store.open_with(RootKey::from_bytes([8; 32])).unwrap();
    is_gone(&ledger, north, "r").await;
}

/// Nothing of a destroyed tenant opens, nothing of it comes again, and others go on.
async fn is_gone(ledger: &Ledger, north: TenantId, new: &str) {
    let gone = ledger.get(north, PATIENT, "p").await;
    assert!(matches!(gone, Err(LedgerError::KeyDestroyed)), "{gone:?}");
    let again = ledger.create_tenant(north).await;
    assert!(matches!(again, Err(LedgerError::KeyDestroyed)), "{again:?}");
    let written = ledger.commit(Commit::new(north)).await;
    assert!(written.is_err());
    assert_eq!(queued(ledger, TENANT).await, (1, 1));
    let kept = ledger.get(TENANT, PATIENT, "p").await.unwrap().unwrap();
    assert_eq!(text(&kept), "words");
    let remains = ledger.tenant_remains(north).await.unwrap();
    assert_eq!((remains.secrets, remains.patients_keys), (0, 1));
    invalid(ledger.tenant_remains(TENANT).await, "was not destroyed");
    invalid(ledger.destroy_tenant(north).await, "destroyed before");
    invalid(ledger.suspend_tenant(north, false).await, "no such tenant");
    // Its number and its name are nobody else's; its hosts may be.
    invalid(
        ledger.add_tenant("north", &hosts(&["x.example"])).await,
        "had it before",
    );
    let list = ledger.tenants().await.unwrap();
    let next = list.iter().map(|tenant| tenant.id.0).max().unwrap() + 1;
    let name = format!("t{next}");
    let added = ledger
        .add_tenant(&name, &hosts(&[&format!("{name}.example")]))
        .await;
    assert_eq!(added.unwrap().id, TenantId(next));
    put(ledger, PATIENT, new, new, Expected::Absent, "on", &[]).await;
    // The store's own keys are nobody's destruction's.
    assert!(ledger.seal_note(STORE_TENANT, "x", b"").is_ok());
    assert_sound(ledger).await;
}

/// To whoever has one tenant's handle, any other is one that there never was.
pub(crate) async fn a_handle_is_for_one_tenant(store: &dyn Store) {
    let ledger = ready(store).await;
    let north = two(&ledger).await;
    fill(&ledger, TENANT, 1).await;
    fill(&ledger, north, 2).await;
    let query = Query::Token(ledger.token(TENANT, PATIENT, "code", "a"));
    let hits = ledger.search(TENANT, &query, None, None, 9).await.unwrap();
    let at = hits[0];
    let note = ledger.seal_note(TENANT, "link", b"text").unwrap();
    let theirs = ledger.only(north);
    assert_eq!(theirs.tenant(), Some(north));
    for nobodys in [TENANT, TenantId(77)] {
        let unknown = |outcome: Result<(), LedgerError>| {
            let expected = LedgerError::UnknownTenant(nobodys.0).to_string();
            assert_eq!(outcome.unwrap_err().to_string(), expected);
        };
        unknown(theirs.get(nobodys, PATIENT, "p").await.map(drop));
        unknown(
            theirs
                .history(nobodys, PATIENT, "p", None, 9)
                .await
                .map(drop),
        );
        unknown(theirs.fetch(nobodys, at).await.map(drop));
        unknown(theirs.audit_leaf(nobodys, at).await.map(drop));
        unknown(theirs.open_note(nobodys, "link", &note).map(drop));
        unknown(theirs.seal_note(nobodys, "link", b"").map(drop));
        unknown(theirs.commit(Commit::new(nobodys)).await.map(drop));
        unknown(theirs.create_tenant(nobodys).await);
        unknown(theirs.rotate_patient_key(nobodys, "p").await.map(drop));
        let token = theirs.token(nobodys, PATIENT, "code", "a");
        assert_ne!(token, ledger.token(TENANT, PATIENT, "code", "a"));
        let query = Query::Token(token);
        let found = theirs.search(nobodys, &query, None, None, 9).await;
        unknown(found.map(drop));
    }
    assert!(theirs.fetch(north, at).await.unwrap().is_none());
    assert!(theirs.get(north, PATIENT, "p").await.unwrap().is_some());
    assert!(theirs.open_note(north, "link", &note).unwrap().is_none());
    invalid(theirs.suspend_tenant(north, true).await, "not one tenant's");
    assert_eq!(queued(&ledger, north).await, (1, 1));
}

pub(crate) async fn a_destroyed_tenant_leaves_the_backups(store: &dyn Store) {
    let ledger = ready(store).await;
    let files = Arc::new(Files::default());
    back_up(&ledger, &files).await;
    // Copies that somebody carries away: of before the tenant was made, and of before it was destroyed.
    let oldest = files.copy();
    let north = two(&ledger).await;
    fill(&ledger, TENANT, 1).await;
    fill(&ledger, north, 2).await;
    back_up(&ledger, &files).await;
    let old = files.copy();
    let (before, _) = store.restore(wanted(&files, Moment::Newest)).await.unwrap();
    let copy = before.open();
    assert!(copy.get(north, PATIENT, "p").await.unwrap().is_some());
    assert_eq!(
        copy.tenants().await.unwrap(),
        ledger.tenants().await.unwrap()
    );
    copy.close().await.unwrap();

    ledger.suspend_tenant(north, true).await.unwrap();
    store.clock().advance(101_000);
    let moment = ledger.last_number();
    ledger.destroy_tenant(north).await.unwrap();
    a_list_ends_tenants(store, &ledger, [&oldest, &old], north).await;
    // A copy in which it lives is not backed up where it is known to be destroyed: neither without its secret, which
    // nobody would miss before the restore, nor with it.
    let known = files.copy();
    back_up(&ledger, &known).await;
    let (restored, _) = store.restore(wanted(&old, Moment::Newest)).await.unwrap();
    let copy = restored.open();
    assert!(copy.get(north, PATIENT, "p").await.unwrap().is_some());
    let target = Arc::clone(&known) as Arc<dyn BackupTarget>;
    let refused = copy.backup(target, false, |_| {}).await;
    invalid(refused.map(drop), "back up to another place");
    let elsewhere = Arc::new(Files::default());
    back_up(&copy, &elsewhere).await;
    copy.close().await.unwrap();
    let (restored, report) = store.restore(wanted(&known, Moment::Newest)).await.unwrap();
    assert_eq!(report.destroyed_tenants, 1);
    is_destroyed(&restored.open(), north).await;
    let (restored, report) = (store.restore(wanted(&elsewhere, Moment::Newest)).await).unwrap();
    assert_eq!(report.destroyed_tenants, 0);
    let copy = restored.open();
    assert!(copy.get(north, PATIENT, "p").await.unwrap().is_some());
    copy.close().await.unwrap();
    another_of_its_number_lives(store, &oldest, &known, north).await;
    back_up(&ledger, &files).await;
    // Also as the store was before the destruction.
    for to in [Moment::Newest, Moment::Number(moment)] {
        let (restored, _) = store.restore(wanted(&files, to)).await.unwrap();
        let copy = restored.open();
        is_destroyed(&copy, north).await;
        let kept = copy.get(TENANT, PATIENT, "p").await.unwrap().unwrap();
        assert_eq!(text(&kept), "words");
        assert_sound(&copy).await;
        copy.close().await.unwrap();
    }
    ledger.close().await.unwrap();
}

/// A copy of before a tenant was made gives its number to another, whose secret stays in backups to where the first is
/// known to be destroyed.
async fn another_of_its_number_lives(
    store: &dyn Store,
    oldest: &Arc<Files>,
    known: &Arc<Files>,
    north: TenantId,
) {
    let (restored, _) = store.restore(wanted(oldest, Moment::Newest)).await.unwrap();
    let copy = restored.open();
    let another = two(&copy).await;
    assert_eq!(another, north);
    fill(&copy, another, 2).await;
    back_up(&copy, known).await;
    copy.close().await.unwrap();
    let (restored, report) = store.restore(wanted(known, Moment::Newest)).await.unwrap();
    assert_eq!(report.destroyed_tenants, 0);
    let copy = restored.open();
    assert!(copy.get(another, PATIENT, "p").await.unwrap().is_some());
    assert_eq!(on_list(&copy, another).await.state, TenantState::Active);
    // It can be destroyed as well, and then both are.
    copy.suspend_tenant(another, true).await.unwrap();
    store.clock().advance(101_000);
    copy.destroy_tenant(another).await.unwrap();
    back_up(&copy, known).await;
    copy.close().await.unwrap();
    let (restored, _) = store.restore(wanted(known, Moment::Newest)).await.unwrap();
    is_destroyed(&restored.open(), another).await;
}

/// Nothing of a tenant opens, and its number and name are nobody else's.
async fn is_destroyed(copy: &Ledger, north: TenantId) {
    let gone = copy.get(north, PATIENT, "p").await;
    assert!(matches!(gone, Err(LedgerError::KeyDestroyed)), "{gone:?}");
    let listed = on_list(copy, north).await;
    assert_eq!(listed.state, TenantState::Destroyed);
    assert_eq!((&*listed.name, listed.hosts.len()), ("north", 0));
    assert_eq!(copy.tenant_remains(north).await.unwrap().secrets, 0);
    let again = copy.create_tenant(north).await;
    assert!(matches!(again, Err(LedgerError::KeyDestroyed)), "{again:?}");
}

/// A restore that is told what was destroyed since brings no tenant back, however old the backup is.
async fn a_list_ends_tenants(
    store: &dyn Store,
    ledger: &Ledger,
    copies: [&Arc<Files>; 2],
    north: TenantId,
) {
    let list = ledger.shred_list().unwrap();
    for files in copies {
        let with_list = Wanted {
            shred_lists: vec![list.clone()],
            ..wanted(files, Moment::Newest)
        };
        let (restored, report) = store.restore(with_list).await.unwrap();
        assert_eq!(report.destroyed_tenants, 1);
        let copy = restored.open();
        is_destroyed(&copy, north).await;
        assert!(copy.tenant_remains(TENANT).await.is_err());
        // Its number is given to nobody else, whom the same list would destroy.
        let main = hosts(&["main.example"]);
        (copy.set_tenant(TENANT, None, Some(&main), None).await).unwrap();
        let next = copy.add_tenant("next", &hosts(&["next.example"])).await;
        assert_eq!(next.unwrap().id, TenantId(north.0 + 1));
        assert_sound(&copy).await;
        copy.close().await.unwrap();
    }
    // One that was changed ends nobody, and is not passed over; neither is one that calls itself another sort.
    for position in [0, 1, 20, list.len() - 1] {
        let mut changed = list.clone();
        changed[position] ^= if position == 0 { 3 } else { 1 };
        let with_list = Wanted {
            shred_lists: vec![changed],
            ..wanted(copies[1], Moment::Newest)
        };
        let outcome = store.restore(with_list).await;
        assert!(
            matches!(outcome.err(), Some(LedgerError::Damaged(_))),
            "{position}"
        );
    }
}

/// A commit of documents by their ids, and whether it is bounded.
async fn stored(
    ledger: &Ledger,
    drafts: &[(&str, Expected, bool)],
    bounded: bool,
) -> Result<(), LedgerError> {
    let documents = drafts.iter().map(|(id, expected, deleted)| {
        let body = if *deleted { "" } else { "words" };
        let mut document = draft(ledger, PATIENT, id, of(id), *expected, body, &[]);
        document.deleted = *deleted;
        if !*deleted {
            document.tokens = vec![ledger.kind_token(TENANT, PATIENT)];
        }
        document
    });
    let commit = Commit {
        documents: documents.collect(),
        audit: Some(audit(ledger, Shard(0))),
        bounded,
        ..Commit::new(TENANT)
    };
    ledger.commit(commit).await.map(drop)
}

fn full(outcome: &Result<(), LedgerError>) {
    assert!(
        matches!(outcome, Err(LedgerError::Full { most: 3 })),
        "{outcome:?}"
    );
}

/// Adds a document by the writer of a shard.
async fn added(ledger: &Ledger, shard: u16, id: &str) -> bool {
    let mut document = draft(ledger, PATIENT, id, of(id), Expected::Absent, "words", &[]);
    document.tokens = vec![ledger.kind_token(TENANT, PATIENT)];
    let commit = Commit {
        documents: vec![document],
        audit: Some(audit(ledger, Shard(shard))),
        bounded: true,
        ..Commit::new(TENANT)
    };
    match ledger.commit(commit).await {
        Ok(_) => true,
        Err(LedgerError::Full { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Writers of one process that begin to count at the same time, and that come to the bound at the same time.
async fn writers_count_together(store: &dyn Store, ledger: &Ledger) -> Ledger {
    ledger.close().await.unwrap();
    let ledger = store.open();
    let allow = async |documents| {
        let quota = TenantQuota {
            documents: Some(documents),
            ..TenantQuota::default()
        };
        (ledger.set_tenant(TENANT, None, None, Some(quota)).await).unwrap();
        ledger.tenants().await.unwrap();
    };
    let at_once = async |first: char| {
        let ids: Vec<String> = (0..16).map(|number| format!("{first}{number}")).collect();
        let tries = (0..).zip(&ids).map(|(shard, id)| added(&ledger, shard, id));
        let came_in = futures_util::future::join_all(tries).await;
        came_in.into_iter().filter(|came_in| *came_in).count()
    };
    allow(100).await;
    assert_eq!(at_once('x').await, 16);
    assert_eq!(ledger.stored(TENANT).await.unwrap(), Some(19));
    allow(24).await;
    assert_eq!(at_once('y').await, 5);
    assert_eq!(ledger.stored(TENANT).await.unwrap(), Some(24));
    let counted = ledger.count_stored(TENANT, &[PATIENT]).await;
    assert_eq!(counted.unwrap(), 24);
    ledger
}

pub(crate) async fn tenants_store_no_more_than_they_may(store: &dyn Store) {
    const NEW: Expected = Expected::Absent;
    let ledger = ready(store).await;
    // What is there before there is a bound is counted once.
    stored(&ledger, &[("p", NEW, false), ("q", NEW, false)], true)
        .await
        .unwrap();
    stored(&ledger, &[("q", Expected::Version(1), true)], true)
        .await
        .unwrap();
    assert_eq!(ledger.stored(TENANT).await.unwrap(), None);
    let quota = TenantQuota {
        documents: Some(3),
        ..TenantQuota::default()
    };
    (ledger.set_tenant(TENANT, None, None, Some(quota)).await).unwrap();
    assert_eq!(ledger.count_stored(TENANT, &[PATIENT]).await.unwrap(), 1);
    stored(&ledger, &[("r", NEW, false)], true).await.unwrap();
    // All of a commit or nothing of it.
    full(&stored(&ledger, &[("s", NEW, false), ("t", NEW, false)], true).await);
    assert_eq!(ledger.stored(TENANT).await.unwrap(), Some(2));
    stored(&ledger, &[("s", NEW, false)], true).await.unwrap();
    full(&stored(&ledger, &[("t", NEW, false)], true).await);
    // What takes the place of something, or takes it away, is always let in; so is what is not bounded.
    stored(&ledger, &[("s", Expected::Version(1), false)], true)
        .await
        .unwrap();
    stored(&ledger, &[("q", Expected::Version(2), false)], false)
        .await
        .unwrap();
    full(&stored(&ledger, &[("t", NEW, false)], true).await);
    stored(
        &ledger,
        &[("t", NEW, false), ("q", Expected::Version(3), true)],
        true,
    )
    .await
    .unwrap();
    stored(&ledger, &[("s", Expected::Version(2), true)], true)
        .await
        .unwrap();
    full(&stored(&ledger, &[("u", NEW, false)], true).await);
    stored(&ledger, &[("r", Expected::Version(1), true)], true)
        .await
        .unwrap();
    stored(&ledger, &[("u", NEW, false)], true).await.unwrap();
    full(&stored(&ledger, &[("v", NEW, false)], true).await);
    assert_eq!(ledger.stored(TENANT).await.unwrap(), Some(3));
    // Other tenants, audit records and the store's own kinds are not counted.
    let mut own = draft(
        &ledger,
        ledger::Kind(1000),
        "own",
        of("p"),
        NEW,
        "words",
        &[],
    );
    own.tokens.clear();
    let commit = Commit {
        documents: vec![own],
        audit: Some(audit(&ledger, Shard(0))),
        bounded: true,
        ..Commit::new(TENANT)
    };
    ledger.commit(commit).await.unwrap();

    // It is known after an opening, to others, and counts the same anew.
    ledger.close().await.unwrap();
    let ledger = store.open();
    ledger.tenants().await.unwrap();
    full(&stored(&ledger, &[("v", NEW, false)], true).await);
    assert_eq!(ledger.count_stored(TENANT, &[PATIENT]).await.unwrap(), 3);
    assert_eq!(ledger.stored(TENANT).await.unwrap(), Some(3));
    full(&stored(&ledger, &[("v", NEW, false)], true).await);
    // At once, no more than there is room for come in.
    stored(&ledger, &[("t", Expected::Version(1), true)], true)
        .await
        .unwrap();
    let ids: Vec<String> = (0..8).map(|number| format!("w{number}")).collect();
    let tries = ids.iter().map(|id| {
        let ledger = ledger.clone();
        async move {
            stored(&ledger, &[(id.as_str(), NEW, false)], true)
                .await
                .is_ok()
        }
    });
    let came_in = futures_util::future::join_all(tries).await;
    assert_eq!(came_in.iter().filter(|came_in| **came_in).count(), 1);
    let ledger = writers_count_together(store, &ledger).await;
    // Without a bound nothing is counted.
    (ledger
        .set_tenant(TENANT, None, None, Some(TenantQuota::default()))
        .await)
        .unwrap();
    ledger.forget_stored(TENANT).await.unwrap();
    ledger.tenants().await.unwrap();
    stored(&ledger, &[("v", NEW, false)], true).await.unwrap();
    assert_eq!(ledger.stored(TENANT).await.unwrap(), None);
    assert_sound(&ledger).await;
    ledger.close().await.unwrap();
}

//! The conformance suite: what every backend of the ledger has to do. Each case is a function over
//! "how to open a ledger"; `conformance!` makes tests of them.

mod model;

use std::collections::BTreeMap;

use ledger::{
    AuditDraft, Commit, CursorMove, Draft, Expected, Hit, Kind, Ledger, LedgerError, ManualClock,
    Number, OutboxDraft, OutboxKey, Owner, Query, RootKey, SHARDS, Shard, Stored, TenantId, Timer,
    TimerKey, Token,
};

pub(crate) use model::model_agrees;

/// A store that can be opened again and again.
pub(crate) trait Store {
    /// Opens it with another root key than it was made with, or the same.
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError>;
    /// The clock that it is opened with.
    fn clock(&self) -> &ManualClock;
    /// Opens it.
    fn open(&self) -> Ledger {
        self.open_with(RootKey::from_bytes([7; 32])).unwrap()
    }
}

/// Makes a test of each case; `$store` is an expression for a new, empty store.
#[macro_export]
macro_rules! conformance {
    ($store:expr) => {
        $crate::conformance! { $store;
            documents_are_written_read_and_kept, what_is_not_expected_is_refused_whole, searches_find_live_documents,
            ranges_are_found, pages_of_a_search_join, feeds_and_watchers_see_facts, timers_come_due,
            the_outbox_settles_once, cursors_move_once, tenants_see_only_their_own, everything_is_there_after_reopening,
            audits_verify_and_prove, a_destroyed_key_stays_destroyed, a_wrong_root_key_is_refused,
            racing_writers_lose_nothing, racing_followers_handle_once, misuse_is_refused, one_commit_may_be_large,
            a_closed_ledger_says_so, numbers_rise_when_the_clock_stands_or_falls
        }
        #[test]
        fn model_agrees() {
            suite::model_agrees(&|| Box::new($store));
        }
    };
    ($store:expr; $($case:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                suite::$case(&$store).await;
            }
        )*
    };
}

pub(crate) const TENANT: TenantId = TenantId(1);
pub(crate) const OTHER: TenantId = TenantId(2);
pub(crate) const PATIENT: Kind = Kind(1);
pub(crate) const OBSERVATION: Kind = Kind(2);
pub(crate) const AUDIT: Kind = Kind(900);

pub(crate) async fn ready(store: &dyn Store) -> Ledger {
    let ledger = store.open();
    ledger.create_tenant(TENANT).await.unwrap();
    ledger
}

pub(crate) fn audit(ledger: &Ledger, shard: Shard) -> AuditDraft {
    AuditDraft {
        kind: AUDIT,
        id: ledger.mint_own_id(TENANT),
        shard,
        body: b"{\"resourceType\":\"AuditEvent\"}".to_vec(),
        tokens: vec![ledger.token(TENANT, AUDIT, "agent", "someone")],
    }
}

pub(crate) fn draft(
    ledger: &Ledger,
    kind: Kind,
    id: &str,
    owner: Owner,
    expected: Expected,
    body: &str,
    codes: &[&str],
) -> Draft {
    Draft {
        kind,
        id: id.to_owned(),
        owner,
        expected,
        body: body.as_bytes().to_vec(),
        deleted: false,
        tokens: codes
            .iter()
            .map(|code| ledger.token(TENANT, kind, "code", code))
            .collect(),
    }
}

pub(crate) fn of(patient: &str) -> Owner {
    Owner::Patient(patient.to_owned())
}

pub(crate) fn commit_of(ledger: &Ledger, documents: Vec<Draft>) -> Commit {
    let shard = documents.first().map_or(Shard(0), |draft| {
        ledger.shard_of(TENANT, &draft.owner, &draft.id)
    });
    Commit {
        documents,
        audit: Some(audit(ledger, shard)),
        ..Commit::new(TENANT)
    }
}

async fn put(
    ledger: &Ledger,
    kind: Kind,
    id: &str,
    patient: &str,
    expected: Expected,
    body: &str,
    codes: &[&str],
) -> Hit {
    let draft = draft(ledger, kind, id, of(patient), expected, body, codes);
    ledger
        .commit(commit_of(ledger, vec![draft]))
        .await
        .unwrap()
        .documents[0]
        .at
}

async fn delete(ledger: &Ledger, kind: Kind, id: &str, patient: &str, version: u32) -> Hit {
    let mut draft = draft(
        ledger,
        kind,
        id,
        of(patient),
        Expected::Version(version),
        "",
        &["gone"],
    );
    draft.deleted = true;
    ledger
        .commit(commit_of(ledger, vec![draft]))
        .await
        .unwrap()
        .documents[0]
        .at
}

fn code(ledger: &Ledger, code: &str) -> Query {
    Query::Token(ledger.token(TENANT, OBSERVATION, "code", code))
}

async fn found(ledger: &Ledger, query: &Query) -> Vec<Hit> {
    ledger
        .search(TENANT, query, None, None, 1000)
        .await
        .unwrap()
}

fn text(stored: &Stored) -> &str {
    std::str::from_utf8(&stored.body).unwrap()
}

async fn assert_sound(ledger: &Ledger) {
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

pub(crate) async fn documents_are_written_read_and_kept(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    assert!(
        ledger
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_none()
    );
    let first = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    store.clock().advance(5);
    let second = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(1),
        "two",
        &[],
    )
    .await;
    let third = delete(&ledger, PATIENT, &patient, &patient, 2).await;
    let fourth = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(3),
        "four",
        &[],
    )
    .await;
    assert!(first < second && second < third && third < fourth);
    assert_eq!(
        second.number.unix_ms(),
        store.clock().clone().now_ms_for_tests()
    );

    let newest = ledger
        .get(TENANT, PATIENT, &patient)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (newest.version, newest.at, newest.deleted, text(&newest)),
        (4, fourth, false, "four")
    );
    assert_eq!(
        (newest.kind, newest.id.as_str()),
        (PATIENT, patient.as_str())
    );
    for (version, at, deleted, body) in [
        (1, first, false, "one"),
        (2, second, false, "two"),
        (3, third, true, ""),
        (4, fourth, false, "four"),
    ] {
        let stored = ledger
            .version(TENANT, PATIENT, &patient, version)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (stored.version, stored.at, stored.deleted, text(&stored)),
            (version, at, deleted, body)
        );
        let fetched = ledger.fetch(TENANT, at).await.unwrap().unwrap();
        assert_eq!(
            (fetched.version, fetched.deleted, text(&fetched)),
            (version, deleted, body)
        );
    }
    for version in [0, 5, u32::MAX] {
        assert!(
            ledger
                .version(TENANT, PATIENT, &patient, version)
                .await
                .unwrap()
                .is_none()
        );
    }
    let versions = async |before, limit| {
        let history = ledger
            .history(TENANT, PATIENT, &patient, before, limit)
            .await
            .unwrap();
        history
            .iter()
            .map(|stored| stored.version)
            .collect::<Vec<_>>()
    };
    assert_eq!(versions(None, 10).await, [4, 3, 2, 1]);
    assert_eq!(versions(None, 2).await, [4, 3]);
    assert_eq!(versions(Some(3), 10).await, [2, 1]);
    assert_eq!(versions(Some(1), 10).await, []);
    assert_eq!(versions(Some(0), 10).await, []);
    assert_eq!(versions(Some(99), 1).await, [4]);
    // The same id under another kind is another document.
    assert!(
        ledger
            .get(TENANT, OBSERVATION, &patient)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        ledger
            .fetch(
                TENANT,
                Hit {
                    number: Number(1),
                    shard: Shard(0)
                }
            )
            .await
            .unwrap()
            .is_none()
    );
    assert_sound(&ledger).await;
}

/// Tests read the clock through the trait; this keeps them from importing it everywhere.
trait NowForTests {
    fn now_ms_for_tests(&self) -> u64;
}

impl NowForTests for ManualClock {
    fn now_ms_for_tests(&self) -> u64 {
        ledger::Clock::now_ms(self)
    }
}

pub(crate) async fn what_is_not_expected_is_refused_whole(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    let timer = Timer {
        key: TimerKey {
            shard,
            due_ms: 5,
            id: [1; 16],
        },
        tenant: TENANT,
        consumer: 1,
        payload: b"x".to_vec(),
    };
    let entry = OutboxKey {
        shard,
        due_ms: 5,
        id: [2; 16],
    };
    for (expected, cursor_from, settle) in [
        (Expected::Absent, 0, false),
        (Expected::Version(0), 0, false),
        (Expected::Version(2), 0, false),
        (Expected::Version(1), 1, false),
        (Expected::Version(1), 0, true),
    ] {
        let new = ledger.mint_own_id(TENANT);
        let mut commit = commit_of(
            &ledger,
            vec![
                draft(
                    &ledger,
                    OBSERVATION,
                    &new,
                    of(&patient),
                    Expected::Absent,
                    "new",
                    &["a"],
                ),
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    expected,
                    "two",
                    &[],
                ),
            ],
        );
        commit.timers_set.push(timer.clone());
        commit.outbox_add.push(OutboxDraft {
            key: entry,
            owner: of(&patient),
            channel: 1,
            attempt: 0,
            body: vec![1],
        });
        if settle {
            commit.outbox_remove.push(OutboxKey {
                shard,
                due_ms: 9,
                id: [9; 16],
            });
        }
        commit.cursor = Some(CursorMove {
            consumer: "follower".into(),
            shard,
            from: Number(cursor_from),
            to: Number(8),
        });
        let audit_id = commit.audit.as_ref().unwrap().id.clone();
        let last = ledger.last_number();
        let outcome = ledger.commit(commit).await;
        match cursor_from {
            0 => assert!(matches!(outcome, Err(LedgerError::Conflict)), "{outcome:?}"),
            _ => assert!(
                matches!(&outcome, Err(LedgerError::CursorMoved { consumer }) if consumer == "follower"),
                "{outcome:?}"
            ),
        }
        assert_eq!(ledger.last_number(), last);
        assert!(
            ledger
                .get(TENANT, OBSERVATION, &new)
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            ledger
                .get(TENANT, AUDIT, &audit_id)
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(
            ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
                .version,
            1
        );
        assert_eq!(found(&ledger, &code(&ledger, "a")).await, []);
        assert_eq!(ledger.timers_due(1, 100, 10).await.unwrap(), []);
        assert!(ledger.outbox_due(1, 100, 10).await.unwrap().is_empty());
        assert_eq!(ledger.cursor("follower", shard).await.unwrap(), Number(0));
    }
    // Two drafts of one document in one commit follow each other, or not.
    let twice = |second| {
        commit_of(
            &ledger,
            vec![
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    Expected::Version(1),
                    "two",
                    &[],
                ),
                draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    second,
                    "three",
                    &[],
                ),
            ],
        )
    };
    assert!(matches!(
        ledger.commit(twice(Expected::Version(1))).await,
        Err(LedgerError::Conflict)
    ));
    let receipt = ledger.commit(twice(Expected::Version(2))).await.unwrap();
    assert_eq!(
        receipt
            .documents
            .iter()
            .map(|written| written.version)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    // An audit record is never written over.
    let record = receipt.audit.unwrap();
    let record = ledger.fetch(TENANT, record).await.unwrap().unwrap();
    for expected in [Expected::Absent, Expected::Version(1)] {
        let over = draft(
            &ledger,
            AUDIT,
            &record.id,
            Owner::Tenant,
            expected,
            "nothing happened",
            &[],
        );
        assert!(matches!(
            ledger.commit(commit_of(&ledger, vec![over])).await,
            Err(LedgerError::Conflict)
        ));
    }
    assert_sound(&ledger).await;
}

pub(crate) async fn searches_find_live_documents(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut at = BTreeMap::new();
    for (name, codes) in [
        ("ab", &["a", "b"][..]),
        ("a", &["a"]),
        ("bc", &["b", "c"]),
        ("abc", &["a", "b", "c"]),
    ] {
        let patient = ledger.mint_own_id(TENANT);
        at.insert(
            name,
            put(
                &ledger,
                OBSERVATION,
                name,
                &patient,
                Expected::Absent,
                name,
                codes,
            )
            .await,
        );
    }
    let token = |name: &str| code(&ledger, name);
    let all = Query::Token(ledger.kind_token(TENANT, OBSERVATION));
    let without = |with: Query, without: Query| Query::Without(Box::new(with), Box::new(without));
    let cases: Vec<(Query, &[&str])> = vec![
        (token("a"), &["abc", "a", "ab"]),
        (token("nothing"), &[]),
        (all.clone(), &["abc", "bc", "a", "ab"]),
        (Query::And(vec![token("a"), token("b")]), &["abc", "ab"]),
        (
            Query::And(vec![token("a"), token("b"), token("c")]),
            &["abc"],
        ),
        (Query::And(vec![token("a")]), &["abc", "a", "ab"]),
        (Query::And(vec![token("a"), token("nothing")]), &[]),
        (
            Query::Or(vec![token("a"), token("c")]),
            &["abc", "bc", "a", "ab"],
        ),
        (Query::Or(vec![]), &[]),
        (without(all.clone(), token("a")), &["bc"]),
        (without(token("a"), all.clone()), &[]),
        (without(token("nothing"), token("a")), &[]),
        (
            Query::And(vec![
                Query::Or(vec![token("c"), token("nothing")]),
                without(all.clone(), token("a")),
            ]),
            &["bc"],
        ),
    ];
    for (query, names) in &cases {
        let expected: Vec<_> = names.iter().map(|name| at[name]).collect();
        assert_eq!(found(&ledger, query).await, expected, "{query:?}");
    }
    // Bounds.
    let bounded = async |before: Option<&str>, since: Option<&str>, limit| {
        let (before, since) = (
            before.map(|name| at[name].number),
            since.map(|name| at[name].number),
        );
        ledger
            .search(TENANT, &all, before, since, limit)
            .await
            .unwrap()
    };
    assert_eq!(
        bounded(Some("abc"), None, 10).await,
        [at["bc"], at["a"], at["ab"]]
    );
    assert_eq!(
        bounded(None, Some("a"), 10).await,
        [at["abc"], at["bc"], at["a"]]
    );
    assert_eq!(bounded(Some("abc"), Some("bc"), 10).await, [at["bc"]]);
    assert_eq!(bounded(Some("ab"), None, 10).await, []);
    assert_eq!(bounded(None, None, 2).await, [at["abc"], at["bc"]]);
    assert_eq!(bounded(None, None, 0).await, []);
    assert_eq!(
        ledger
            .search(TENANT, &all, Some(Number(0)), None, 9)
            .await
            .unwrap(),
        []
    );

    // An update is found under its new values only, a deleted document not at all, a restored one again.
    let owner = ledger.mint_own_id(TENANT);
    let updated = put(
        &ledger,
        OBSERVATION,
        "a",
        &owner,
        Expected::Version(1),
        "a",
        &["c"],
    )
    .await;
    assert_eq!(found(&ledger, &token("a")).await, [at["abc"], at["ab"]]);
    assert_eq!(
        found(&ledger, &token("c")).await,
        [updated, at["abc"], at["bc"]]
    );
    delete(&ledger, OBSERVATION, "abc", &owner, 1).await;
    assert_eq!(found(&ledger, &token("a")).await, [at["ab"]]);
    assert_eq!(found(&ledger, &token("gone")).await, []);
    assert_eq!(found(&ledger, &all).await, [updated, at["bc"], at["ab"]]);
    let restored = put(
        &ledger,
        OBSERVATION,
        "abc",
        &owner,
        Expected::Version(2),
        "abc",
        &["a"],
    )
    .await;
    assert_eq!(found(&ledger, &token("a")).await, [restored, at["ab"]]);
    // Audit records are found like other documents.
    let records = Query::Token(ledger.token(TENANT, AUDIT, "agent", "someone"));
    assert_eq!(found(&ledger, &records).await.len(), 7);
    assert!(matches!(
        ledger
            .search(TENANT, &Query::And(vec![]), None, None, 1)
            .await,
        Err(LedgerError::Invalid(_))
    ));
}

pub(crate) async fn ranges_are_found(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let days = [-800_000, -1, 0, 7, 8, 19_000, 19_001, 19_064, 2_900_000];
    let mut places = Vec::new();
    for day in days {
        let mut draft = draft(
            &ledger,
            OBSERVATION,
            &format!("day{day}"),
            of(&patient),
            Expected::Absent,
            "",
            &[],
        );
        draft.tokens = ledger.range_tokens(TENANT, OBSERVATION, "date", day);
        places.push(
            ledger
                .commit(commit_of(&ledger, vec![draft]))
                .await
                .unwrap()
                .documents[0]
                .at,
        );
    }
    for (low, high) in [
        (0, 0),
        (0, 8),
        (-1, 7),
        (19_000, 19_063),
        (1, 2_932_896),
        (-719_162, 2_932_896),
        (9, 8),
    ] {
        let query = ledger
            .range_query(TENANT, OBSERVATION, "date", low, high)
            .unwrap();
        let mut expected: Vec<_> = (0..days.len())
            .filter(|at| (low..=high).contains(&days[*at]))
            .map(|at| places[at])
            .collect();
        expected.reverse();
        assert_eq!(found(&ledger, &query).await, expected, "{low}..={high}");
    }
}

pub(crate) async fn pages_of_a_search_join(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut expected = Vec::new();
    // More than a run's largest page, rare and common values mixed, over many shards.
    for round in 0..30 {
        let mut drafts = Vec::new();
        for number in 0..50 {
            let place = round * 50 + number;
            let mut codes = vec!["every"];
            if place % 3 == 0 {
                codes.push("third");
            }
            if place % 100 == 7 {
                codes.push("rare");
            }
            let patient = ledger.derive_own_id(TENANT, &format!("patient {number}"));
            drafts.push(draft(
                &ledger,
                OBSERVATION,
                &format!("o{place}"),
                of(&patient),
                Expected::Absent,
                "",
                &codes,
            ));
        }
        let receipt = ledger.commit(commit_of(&ledger, drafts)).await.unwrap();
        expected.extend(receipt.documents.iter().map(|written| written.at));
    }
    assert!(expected.is_sorted());
    let places = |wanted: &dyn Fn(usize) -> bool| -> Vec<Hit> {
        (0..expected.len())
            .rev()
            .filter(|place| wanted(*place))
            .map(|place| expected[place])
            .collect()
    };
    let token = |name: &str| code(&ledger, name);
    let without = Query::Without(Box::new(token("every")), Box::new(token("third")));
    for (query, wanted) in [
        (token("every"), places(&|_| true)),
        (
            Query::And(vec![token("every"), token("third")]),
            places(&|place| place % 3 == 0),
        ),
        (
            Query::And(vec![token("every"), token("third"), token("rare")]),
            places(&|place| place % 3 == 0 && place % 100 == 7),
        ),
        (without, places(&|place| place % 3 != 0)),
        (
            Query::Or(vec![token("rare"), token("third")]),
            places(&|place| place % 3 == 0 || place % 100 == 7),
        ),
    ] {
        for size in [1, 7, 1000] {
            let mut joined = Vec::new();
            let mut before = None;
            loop {
                let page = ledger
                    .search(TENANT, &query, before, None, size)
                    .await
                    .unwrap();
                joined.extend_from_slice(&page);
                before = page.last().map(|hit| hit.number);
                // One by one, the beginning is enough.
                if page.len() < size || size == 1 && joined.len() > 20 {
                    break;
                }
            }
            assert_eq!(joined, wanted[..joined.len()], "{query:?} by {size}");
            assert!(size == 1 || joined.len() == wanted.len());
        }
    }
}

pub(crate) async fn feeds_and_watchers_see_facts(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut watch = ledger.watch();
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    assert_eq!(ledger.shard_head(shard), Number(0));
    let first = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    assert_eq!(watch.try_recv().unwrap(), shard);
    assert_eq!(ledger.shard_head(shard), first.number);
    let mut gone = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Version(1),
        "",
        &[],
    );
    gone.deleted = true;
    let commit = Commit {
        cause: Some(first.number),
        ..commit_of(&ledger, vec![gone])
    };
    let receipt = ledger.commit(commit).await.unwrap();
    let second = receipt.documents[0].at;
    // The record of who did it comes after what was done, and is no event of the feed.
    assert!(receipt.audit.unwrap().number > second.number);
    assert_eq!(ledger.last_number(), receipt.audit.unwrap().number);
    assert_eq!(ledger.shard_head(shard), second.number);

    let events = ledger.events(shard, Number(0), 10).await.unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(
        (
            events[0].at,
            events[0].kind,
            events[0].version,
            events[0].deleted,
            events[0].cause
        ),
        (first, PATIENT, 1, false, None)
    );
    assert_eq!(
        (
            events[1].at,
            events[1].tenant,
            events[1].version,
            events[1].deleted,
            events[1].cause
        ),
        (second, TENANT, 2, true, Some(first.number))
    );
    assert_eq!(
        ledger.events(shard, first.number, 10).await.unwrap(),
        events[1..]
    );
    assert_eq!(
        ledger.events(shard, Number(0), 1).await.unwrap(),
        events[..1]
    );
    assert_eq!(ledger.events(shard, second.number, 10).await.unwrap(), []);
    assert_eq!(
        ledger
            .events(Shard((shard.0 + 1) % SHARDS), Number(0), 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(watch.try_recv().unwrap(), shard);

    // A read that is only audited wakes nobody.
    let read = Commit {
        audit: Some(audit(&ledger, shard)),
        ..Commit::new(TENANT)
    };
    let receipt = ledger.commit(read).await.unwrap();
    assert!(receipt.documents.is_empty() && receipt.leaf.is_some());
    assert!(watch.try_recv().is_err());
    assert_eq!(ledger.shard_head(shard), second.number);
}

fn timer(shard: u16, due_ms: u64, id: u8, consumer: u16) -> Timer {
    Timer {
        key: TimerKey {
            shard: Shard(shard),
            due_ms,
            id: [id; 16],
        },
        tenant: TENANT,
        consumer,
        payload: vec![id],
    }
}

pub(crate) async fn timers_come_due(store: &dyn Store) {
    let ledger = ready(store).await;
    let set = async |timers: &[Timer], clear: &[TimerKey]| {
        let commit = Commit {
            timers_set: timers.to_vec(),
            timers_clear: clear.to_vec(),
            ..Commit::new(TENANT)
        };
        ledger.commit(commit).await.unwrap();
    };
    assert_eq!(ledger.next_timer_ms().await.unwrap(), None);
    assert_eq!(ledger.timers_due(1, u64::MAX, 9).await.unwrap(), []);
    let timers = [
        timer(9, 10, 1, 1),
        timer(3, 10, 2, 1),
        timer(3, 10, 3, 2),
        timer(200, 20, 4, 1),
        timer(0, 30, 5, 1),
    ];
    set(&timers, &[]).await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(10));
    assert_eq!(ledger.timers_due(1, 9, 9).await.unwrap(), []);
    assert_eq!(
        ledger.timers_due(1, 10, 9).await.unwrap(),
        [timers[1].clone(), timers[0].clone()]
    );
    assert_eq!(
        ledger.timers_due(2, 99, 9).await.unwrap(),
        [timers[2].clone()]
    );
    assert_eq!(
        ledger.timers_due(1, 29, 9).await.unwrap(),
        [timers[1].clone(), timers[0].clone(), timers[3].clone()]
    );
    assert_eq!(
        ledger.timers_due(1, 29, 1).await.unwrap(),
        [timers[1].clone()]
    );
    // Clearing what is not there is no error; setting again replaces.
    set(
        &[],
        &[
            timers[0].key,
            timers[1].key,
            timers[2].key,
            timer(7, 7, 7, 7).key,
        ],
    )
    .await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(20));
    assert_eq!(ledger.timers_due(1, 19, 9).await.unwrap(), []);
    let moved = Timer {
        payload: vec![99],
        ..timers[3].clone()
    };
    set(std::slice::from_ref(&moved), &[moved.key]).await;
    assert_eq!(ledger.timers_due(1, 20, 9).await.unwrap(), [moved]);
    // One that is set for earlier than all that was looked at is seen.
    let early = timer(1, 2, 8, 1);
    set(std::slice::from_ref(&early), &[]).await;
    assert_eq!(ledger.next_timer_ms().await.unwrap(), Some(2));
    assert_eq!(ledger.timers_due(1, 5, 9).await.unwrap(), [early]);
    // More than a page, of two consumers.
    let many: Vec<_> = (0u16..700)
        .map(|number| Timer {
            key: TimerKey {
                id: [u8::try_from(number % 250).unwrap(); 16],
                ..timer(number % 256, 1000 + u64::from(number), 0, 0).key
            },
            ..timer(0, 0, 0, 5 + number % 2)
        })
        .collect();
    set(&many, &[]).await;
    let due = ledger.timers_due(5, 5000, 1000).await.unwrap();
    assert_eq!(due.len(), 350);
    assert!(due.is_sorted_by_key(|timer| timer.key.due_ms));
    assert_eq!(ledger.timers_due(6, 5000, 300).await.unwrap().len(), 300);
}

pub(crate) async fn the_outbox_settles_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    let key = |due_ms, id| OutboxKey {
        shard,
        due_ms,
        id: [id; 16],
    };
    let entry = |key, owner, attempt| OutboxDraft {
        key,
        owner,
        channel: 4,
        attempt,
        body: b"message".to_vec(),
    };
    let change = async |add: Vec<OutboxDraft>, remove: Vec<OutboxKey>| {
        ledger
            .commit(Commit {
                outbox_add: add,
                outbox_remove: remove,
                ..Commit::new(TENANT)
            })
            .await
    };
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
    change(
        vec![
            entry(key(20, 1), of(&patient), 0),
            entry(key(10, 2), Owner::Tenant, 3),
        ],
        vec![],
    )
    .await
    .unwrap();
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), Some(10));
    let due = ledger.outbox_due(4, 15, 9).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].key, due[0].tenant, due[0].channel, due[0].attempt),
        (key(10, 2), TENANT, 4, 3)
    );
    assert_eq!(due[0].body, b"message");
    assert!(ledger.outbox_due(5, 99, 9).await.unwrap().is_empty());
    assert_eq!(ledger.outbox_due(4, 99, 9).await.unwrap().len(), 2);
    assert_eq!(ledger.outbox_due(4, 99, 1).await.unwrap().len(), 1);
    // Put off: the same id, later.
    change(vec![entry(key(50, 2), Owner::Tenant, 4)], vec![key(10, 2)])
        .await
        .unwrap();
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), Some(20));
    // Settled, and never twice.
    change(vec![], vec![key(20, 1)]).await.unwrap();
    assert!(matches!(
        change(vec![], vec![key(20, 1)]).await,
        Err(LedgerError::Conflict)
    ));
    assert!(matches!(
        change(vec![], vec![key(10, 2)]).await,
        Err(LedgerError::Conflict)
    ));
    assert!(matches!(
        change(vec![], vec![key(50, 2), key(50, 2)]).await,
        Err(LedgerError::Conflict)
    ));
    let due = ledger.outbox_due(4, 99, 9).await.unwrap();
    assert_eq!((due.len(), due[0].key, due[0].attempt), (1, key(50, 2), 4));
    // Two at once: one wins.
    let both = tokio::join!(
        change(vec![], vec![key(50, 2)]),
        change(vec![], vec![key(50, 2)])
    );
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");
    assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
}

pub(crate) async fn cursors_move_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let step = async |consumer: &str, shard, from, to| {
        let cursor = Some(CursorMove {
            consumer: consumer.into(),
            shard: Shard(shard),
            from: Number(from),
            to: Number(to),
        });
        ledger
            .commit(Commit {
                cursor,
                ..Commit::new(TENANT)
            })
            .await
    };
    step("a", 1, 0, 5).await.unwrap();
    assert!(matches!(
        step("a", 1, 0, 6).await,
        Err(LedgerError::CursorMoved { .. })
    ));
    step("a", 1, 5, 7).await.unwrap();
    step("a", 2, 0, 1).await.unwrap();
    step("b", 1, 0, 2).await.unwrap();
    for (consumer, shard, at) in [
        ("a", 1, 7),
        ("a", 2, 1),
        ("b", 1, 2),
        ("b", 2, 0),
        ("c", 1, 0),
    ] {
        assert_eq!(
            ledger.cursor(consumer, Shard(shard)).await.unwrap(),
            Number(at),
            "{consumer} {shard}"
        );
    }
}

pub(crate) async fn tenants_see_only_their_own(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.create_tenant(OTHER).await.unwrap();
    let patient = ledger.mint_own_id(TENANT);
    let at = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "mine",
        &["a"],
    )
    .await;
    // Making a tenant again changes nothing.
    ledger.create_tenant(TENANT).await.unwrap();
    assert!(
        ledger
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        ledger
            .get(OTHER, PATIENT, &patient)
            .await
            .unwrap()
            .is_none()
    );
    assert!(ledger.fetch(OTHER, at).await.unwrap().is_none());
    let query = Query::Token(ledger.token(OTHER, PATIENT, "code", "a"));
    assert_eq!(
        ledger.search(OTHER, &query, None, None, 9).await.unwrap(),
        []
    );
    let query = Query::Token(ledger.kind_token(OTHER, PATIENT));
    assert_eq!(
        ledger.search(OTHER, &query, None, None, 9).await.unwrap(),
        []
    );
    assert!(ledger.prove(OTHER, at).await.unwrap().is_none());
    // Both may use one id.
    let mut theirs = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Absent,
        "theirs",
        &[],
    );
    theirs.tokens.clear();
    let commit = Commit {
        documents: vec![theirs],
        audit: Some(audit(&ledger, Shard(0))),
        ..Commit::new(OTHER)
    };
    ledger.commit(commit).await.unwrap();
    assert_eq!(
        text(&ledger.get(OTHER, PATIENT, &patient).await.unwrap().unwrap()),
        "theirs"
    );
    assert_eq!(
        text(
            &ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
        ),
        "mine"
    );
    let nobody = TenantId(3);
    assert!(matches!(
        ledger.get(nobody, PATIENT, &patient).await,
        Err(LedgerError::UnknownTenant(3))
    ));
    assert!(matches!(
        ledger.commit(Commit::new(nobody)).await,
        Err(LedgerError::UnknownTenant(3))
    ));
    let query = Query::Token(ledger.kind_token(nobody, PATIENT));
    assert!(matches!(
        ledger.search(nobody, &query, None, None, 9).await,
        Err(LedgerError::UnknownTenant(3))
    ));
}

pub(crate) async fn everything_is_there_after_reopening(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &[],
    )
    .await;
    let mut commit = commit_of(
        &ledger,
        vec![
            draft(
                &ledger,
                PATIENT,
                &patient,
                of(&patient),
                Expected::Version(1),
                "two",
                &[],
            ),
            draft(
                &ledger,
                OBSERVATION,
                "o",
                of(&patient),
                Expected::Absent,
                "observed",
                &["a"],
            ),
        ],
    );
    commit.timers_set.push(timer(shard.0, 5, 1, 1));
    commit.outbox_add.push(OutboxDraft {
        key: OutboxKey {
            shard,
            due_ms: 6,
            id: [6; 16],
        },
        owner: of(&patient),
        channel: 4,
        attempt: 1,
        body: b"message".to_vec(),
    });
    commit.cursor = Some(CursorMove {
        consumer: "a".into(),
        shard,
        from: Number(0),
        to: Number(3),
    });
    let receipt = ledger.commit(commit).await.unwrap();
    let (token, last, head) = (
        code(&ledger, "a"),
        ledger.last_number(),
        ledger.shard_head(shard),
    );
    let events = ledger.events(shard, Number(0), 9).await.unwrap();
    let derived = ledger.derive_id(TENANT, &of(&patient), "name");
    ledger.close().await.unwrap();
    drop(ledger);

    let ledger = store.open();
    assert_eq!(
        (ledger.last_number(), ledger.shard_head(shard)),
        (last, head)
    );
    assert_eq!(code(&ledger, "a"), token);
    assert_eq!(ledger.derive_id(TENANT, &of(&patient), "name"), derived);
    assert_eq!(
        text(
            &ledger
                .get(TENANT, PATIENT, &patient)
                .await
                .unwrap()
                .unwrap()
        ),
        "two"
    );
    assert_eq!(
        text(
            &ledger
                .version(TENANT, PATIENT, &patient, 1)
                .await
                .unwrap()
                .unwrap()
        ),
        "one"
    );
    assert_eq!(found(&ledger, &token).await, [receipt.documents[1].at]);
    assert_eq!(ledger.events(shard, Number(0), 9).await.unwrap(), events);
    assert_eq!(ledger.timers_due(1, 5, 9).await.unwrap().len(), 1);
    assert_eq!(
        ledger.outbox_due(4, 6, 9).await.unwrap()[0].body,
        b"message"
    );
    assert_eq!(ledger.cursor("a", shard).await.unwrap(), Number(3));
    assert_sound(&ledger).await;
    // It goes on where it was: numbers, trees, keys.
    store.clock().set(0);
    let third = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Version(2),
        "three",
        &[],
    )
    .await;
    assert!(third.number > last);
    let (leaf_shard, index) = receipt.leaf.unwrap();
    let records = found(&ledger, &Query::Token(ledger.kind_token(TENANT, AUDIT))).await;
    let proof = ledger.prove(TENANT, records[0]).await.unwrap().unwrap();
    assert_eq!((proof.shard, proof.leaf_index), (leaf_shard.0, index + 1));
    assert_sound(&ledger).await;
}

pub(crate) async fn audits_verify_and_prove(store: &dyn Store) {
    let ledger = ready(store).await;
    let empty = ledger.verify_audit(&|_| {}).await.unwrap();
    assert_eq!(
        (
            empty.trees,
            empty.leaves,
            empty.documents,
            empty.checkpoint_ok
        ),
        (0, 0, 0, true)
    );
    let mut records = Vec::new();
    for number in 0..20 {
        // A commit over two patients puts a leaf into both trees.
        let drafts = (0..2)
            .map(|which| {
                let patient =
                    ledger.derive_own_id(TENANT, &format!("patient {}", (number * 3 + which) % 5));
                draft(
                    &ledger,
                    OBSERVATION,
                    &format!("o{number}.{which}"),
                    of(&patient),
                    Expected::Absent,
                    "x",
                    &[],
                )
            })
            .collect();
        records.push(ledger.commit(commit_of(&ledger, drafts)).await.unwrap());
    }
    let checkpoint = ledger.checkpoint().await.unwrap();
    let counted = std::sync::atomic::AtomicU64::new(0);
    let report = ledger
        .verify_audit(&|leaves| counted.store(leaves, std::sync::atomic::Ordering::Relaxed))
        .await
        .unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
    assert_eq!((report.trees, report.leaves, report.documents), (5, 40, 60));
    assert_eq!(report.checkpoint, checkpoint);
    assert_eq!(counted.into_inner(), 40);
    for receipt in &records {
        let audit = receipt.audit.unwrap();
        let proof = ledger.prove(TENANT, audit).await.unwrap().unwrap();
        assert_eq!(receipt.leaf, Some((audit.shard, proof.leaf_index)));
        assert_eq!(proof.checkpoint, checkpoint);
        check_proof(&proof);
        // The document itself is no audit record.
        assert!(
            ledger
                .prove(TENANT, receipt.documents[0].at)
                .await
                .unwrap()
                .is_none()
        );
    }
    // A leaf that is newer than the checkpoint gets a newer checkpoint.
    let patient = ledger.derive_own_id(TENANT, "patient 0");
    let newer = draft(
        &ledger,
        OBSERVATION,
        "newer",
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    let receipt = ledger
        .commit(commit_of(&ledger, vec![newer]))
        .await
        .unwrap();
    let proof = ledger
        .prove(TENANT, receipt.audit.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_ne!(proof.checkpoint, checkpoint);
    check_proof(&proof);
}

/// Checks a proof with nothing of the ledger's: the libraries for notes and trees only.
fn check_proof(proof: &ledger::InclusionProof) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use tlog_tiles::Hash;
    let verifier = signed_note::StandardVerifier::new(&proof.verifier_key).unwrap();
    let note = signed_note::Note::from_bytes(proof.checkpoint.as_bytes()).unwrap();
    note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    let lines = std::str::from_utf8(note.text()).unwrap();
    let line = format!(
        "{:02x} {} {}",
        proof.shard, proof.tree_size, proof.root_hash
    );
    assert!(
        lines.lines().any(|signed| signed == line),
        "{line} in {lines}"
    );
    let path = proof
        .path
        .iter()
        .map(|hash| Hash::parse_hash(hash).unwrap())
        .collect();
    let record = STANDARD.decode(&proof.leaf_record).unwrap();
    let leaf = tlog_tiles::record_hash(&record);
    assert_eq!(leaf, Hash::parse_hash(&proof.leaf_hash).unwrap());
    let root = Hash::parse_hash(&proof.root_hash).unwrap();
    tlog_tiles::check_record(&path, proof.tree_size, root, proof.leaf_index, leaf).unwrap();
    let other = tlog_tiles::record_hash(b"another");
    assert!(
        tlog_tiles::check_record(&path, proof.tree_size, root, proof.leaf_index, other).is_err()
    );
}

pub(crate) async fn a_destroyed_key_stays_destroyed(store: &dyn Store) {
    let ledger = ready(store).await;
    let (patient, other) = (ledger.mint_own_id(TENANT), ledger.mint_own_id(TENANT));
    let at = put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "one",
        &["a"],
    )
    .await;
    put(
        &ledger,
        PATIENT,
        &other,
        &other,
        Expected::Absent,
        "another",
        &[],
    )
    .await;
    let key = OutboxKey {
        shard: at.shard,
        due_ms: 6,
        id: [6; 16],
    };
    let entry = OutboxDraft {
        key,
        owner: of(&patient),
        channel: 4,
        attempt: 1,
        body: b"message".to_vec(),
    };
    ledger
        .commit(Commit {
            outbox_add: vec![entry.clone()],
            ..Commit::new(TENANT)
        })
        .await
        .unwrap();
    assert_eq!(ledger.outbox_due(4, 9, 9).await.unwrap().len(), 1);
    ledger
        .destroy_patient_key(TENANT, &patient, audit(&ledger, at.shard))
        .await
        .unwrap();
    for _ in 0..2 {
        let ledger = store_after(&ledger).await;
        assert!(matches!(
            ledger.get(TENANT, PATIENT, &patient).await,
            Err(LedgerError::KeyDestroyed)
        ));
        assert!(matches!(
            ledger.version(TENANT, PATIENT, &patient, 1).await,
            Err(LedgerError::KeyDestroyed)
        ));
        assert!(matches!(
            ledger.fetch(TENANT, at).await,
            Err(LedgerError::KeyDestroyed)
        ));
        let again = draft(
            &ledger,
            OBSERVATION,
            "o",
            of(&patient),
            Expected::Absent,
            "x",
            &[],
        );
        assert!(matches!(
            ledger.commit(commit_of(&ledger, vec![again])).await,
            Err(LedgerError::KeyDestroyed)
        ));
        let again = Commit {
            outbox_add: vec![entry.clone()],
            ..Commit::new(TENANT)
        };
        assert!(matches!(
            ledger.commit(again).await,
            Err(LedgerError::KeyDestroyed)
        ));
        // What was to be sent is gone, and gone from the queue.
        assert!(ledger.outbox_due(4, 9, 9).await.unwrap().is_empty());
        assert_eq!(ledger.next_outbox_ms().await.unwrap(), None);
        assert_eq!(
            text(&ledger.get(TENANT, PATIENT, &other).await.unwrap().unwrap()),
            "another"
        );
        // That something was there, and who destroyed it, stays provable.
        assert_eq!(
            found(&ledger, &Query::Token(ledger.kind_token(TENANT, AUDIT)))
                .await
                .len(),
            3
        );
        assert_sound(&ledger).await;
    }
    ledger.close().await.unwrap();
    let ledger = store.open();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &patient).await,
        Err(LedgerError::KeyDestroyed)
    ));
    assert_eq!(
        text(&ledger.get(TENANT, PATIENT, &other).await.unwrap().unwrap()),
        "another"
    );
    assert_sound(&ledger).await;
}

async fn store_after(ledger: &Ledger) -> Ledger {
    tokio::task::yield_now().await;
    ledger.clone()
}

pub(crate) async fn a_wrong_root_key_is_refused(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.close().await.unwrap();
    let outcome = store.open_with(RootKey::from_bytes([8; 32]));
    assert!(
        matches!(outcome, Err(LedgerError::RootKey(_))),
        "{:?}",
        outcome.err()
    );
    store.open().close().await.unwrap();
}

pub(crate) async fn racing_writers_lose_nothing(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    put(
        &ledger,
        PATIENT,
        &patient,
        &patient,
        Expected::Absent,
        "0",
        &[],
    )
    .await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (ledger, patient) = (ledger.clone(), patient.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < 5 {
                let current = ledger
                    .get(TENANT, PATIENT, &patient)
                    .await
                    .unwrap()
                    .unwrap();
                let count: u32 = text(&current).parse().unwrap();
                let next = draft(
                    &ledger,
                    PATIENT,
                    &patient,
                    of(&patient),
                    Expected::Version(current.version),
                    &(count + 1).to_string(),
                    &["a"],
                );
                match ledger.commit(commit_of(&ledger, vec![next])).await {
                    Ok(_) => done += 1,
                    Err(LedgerError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    let last = ledger
        .get(TENANT, PATIENT, &patient)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((last.version, text(&last)), (41, "40"));
    let token = Query::Token(ledger.token(TENANT, PATIENT, "code", "a"));
    assert_eq!(found(&ledger, &token).await, [last.at]);
    assert_sound(&ledger).await;
}

pub(crate) async fn racing_followers_handle_once(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let shard = ledger.shard_of(TENANT, &of(&patient), &patient);
    for number in 0..10 {
        put(
            &ledger,
            OBSERVATION,
            &format!("o{number}"),
            &patient,
            Expected::Absent,
            "x",
            &[],
        )
        .await;
    }
    let end = ledger.shard_head(shard);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut handled = Vec::new();
            loop {
                let from = ledger.cursor("follower", shard).await.unwrap();
                let Some(event) = ledger.events(shard, from, 1).await.unwrap().pop() else {
                    break;
                };
                let to = event.at.number;
                if to > end {
                    break;
                }
                let mark = Timer {
                    payload: vec![],
                    ..timer(shard.0, to.0, 1, 3)
                };
                let cursor = Some(CursorMove {
                    consumer: "follower".into(),
                    shard,
                    from,
                    to,
                });
                match ledger
                    .commit(Commit {
                        cursor,
                        timers_set: vec![mark],
                        ..Commit::new(TENANT)
                    })
                    .await
                {
                    Ok(_) => handled.push(to),
                    Err(LedgerError::CursorMoved { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            handled
        });
    }
    let mut handled = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        handled.extend(outcome.unwrap());
    }
    handled.sort_unstable();
    let events: Vec<_> = ledger
        .events(shard, Number(0), 99)
        .await
        .unwrap()
        .iter()
        .map(|event| event.at.number)
        .collect();
    assert_eq!(handled, events);
    assert_eq!(ledger.timers_due(3, u64::MAX, 99).await.unwrap().len(), 10);
}

pub(crate) async fn misuse_is_refused(store: &dyn Store) {
    let ledger = ready(store).await;
    let good = || {
        commit_of(
            &ledger,
            vec![draft(
                &ledger,
                PATIENT,
                "p",
                Owner::Tenant,
                Expected::Absent,
                "x",
                &[],
            )],
        )
    };
    let changed = |change: &dyn Fn(&mut Commit)| {
        let mut commit = good();
        change(&mut commit);
        commit
    };
    let bad_timer = Timer {
        payload: vec![0; 5000],
        ..timer(0, 0, 0, 0)
    };
    for (what, commit) in [
        ("no audit", changed(&|commit| commit.audit = None)),
        ("no id", changed(&|commit| commit.documents[0].id.clear())),
        (
            "long id",
            changed(&|commit| commit.documents[0].id = "x".repeat(65)),
        ),
        (
            "deleted with a body",
            changed(&|commit| commit.documents[0].deleted = true),
        ),
        (
            "large body",
            changed(&|commit| commit.documents[0].body = vec![0; (16 << 20) + 1]),
        ),
        (
            "no such shard",
            changed(&|commit| commit.audit.as_mut().unwrap().shard = Shard(SHARDS)),
        ),
        (
            "no such shard",
            changed(&|commit| commit.timers_set.push(timer(SHARDS, 0, 0, 0))),
        ),
        (
            "large timer",
            changed(&|commit| commit.timers_set.push(bad_timer.clone())),
        ),
        (
            "nameless follower",
            changed(&|commit| {
                commit.cursor = Some(CursorMove {
                    consumer: String::new(),
                    shard: Shard(0),
                    from: Number(0),
                    to: Number(1),
                });
            }),
        ),
        (
            "too many",
            changed(&|commit| commit.documents = vec![commit.documents[0].clone(); 16_385]),
        ),
    ] {
        let outcome = ledger.commit(commit).await;
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{what}: {outcome:?}"
        );
    }
    ledger.commit(good()).await.unwrap();
    // Nothing to write is nothing wrong.
    let receipt = ledger.commit(Commit::new(TENANT)).await.unwrap();
    assert!(receipt.documents.is_empty() && receipt.leaf.is_none() && receipt.audit.is_none());
}

pub(crate) async fn one_commit_may_be_large(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let body = "{\"resourceType\":\"Observation\"}".repeat(10);
    let drafts = (0..2000)
        .map(|number| {
            draft(
                &ledger,
                OBSERVATION,
                &format!("o{number}"),
                of(&patient),
                Expected::Absent,
                &body,
                &["a"],
            )
        })
        .collect();
    let receipt = ledger.commit(commit_of(&ledger, drafts)).await.unwrap();
    assert_eq!(receipt.documents.len(), 2000);
    let hits = ledger
        .search(TENANT, &code(&ledger, "a"), None, None, 5000)
        .await
        .unwrap();
    assert_eq!(hits.len(), 2000);
    assert!(
        receipt
            .documents
            .iter()
            .map(|written| &written.at)
            .eq(hits.iter().rev())
    );
    let vast = draft(
        &ledger,
        OBSERVATION,
        "vast",
        of(&patient),
        Expected::Absent,
        &"x".repeat(16 << 20),
        &[],
    );
    ledger.commit(commit_of(&ledger, vec![vast])).await.unwrap();
    assert_eq!(
        ledger
            .get(TENANT, OBSERVATION, "vast")
            .await
            .unwrap()
            .unwrap()
            .body
            .len(),
        16 << 20
    );
    assert_sound(&ledger).await;
}

pub(crate) async fn a_closed_ledger_says_so(store: &dyn Store) {
    let ledger = ready(store).await;
    let clone = ledger.clone();
    let patient = ledger.mint_own_id(TENANT);
    // What was taken before the end is finished.
    let before = draft(
        &ledger,
        PATIENT,
        &patient,
        of(&patient),
        Expected::Absent,
        "x",
        &[],
    );
    let commit = commit_of(&ledger, vec![before]);
    let (committed, closed) = tokio::join!(ledger.commit(commit), clone.close());
    closed.unwrap();
    let written = match committed {
        Ok(_) => true,
        Err(LedgerError::Closed) => false,
        Err(error) => panic!("{error}"),
    };
    ledger.close().await.unwrap();
    assert!(matches!(
        ledger.get(TENANT, PATIENT, &patient).await,
        Err(LedgerError::Closed)
    ));
    assert!(matches!(
        ledger.commit(Commit::new(TENANT)).await,
        Err(LedgerError::Closed)
    ));
    assert!(matches!(
        ledger.verify_audit(&|_| {}).await,
        Err(LedgerError::Closed)
    ));
    // Clones that are still about don't keep the store.
    let again = store.open();
    assert_eq!(
        again
            .get(TENANT, PATIENT, &patient)
            .await
            .unwrap()
            .is_some(),
        written
    );
    assert_sound(&again).await;
}

pub(crate) async fn numbers_rise_when_the_clock_stands_or_falls(store: &dyn Store) {
    let ledger = ready(store).await;
    let mut last = ledger.last_number();
    for (step, now_ms) in [
        2_000_000_000_000u64,
        2_000_000_000_000,
        1_000,
        2_000_000_000_001,
    ]
    .into_iter()
    .enumerate()
    {
        store.clock().set(now_ms);
        for number in 0..3 {
            let at = put(
                &ledger,
                OBSERVATION,
                &format!("o{step}.{number}"),
                "p",
                Expected::Absent,
                "x",
                &[],
            )
            .await;
            assert!(at.number > last);
            last = at.number;
        }
    }
    assert_eq!(last.unix_ms(), 2_000_000_000_001);
}

/// Every token that a kind has in these tests; for the model.
pub(crate) fn token_of(ledger: &Ledger, code: &str) -> Token {
    ledger.token(TENANT, OBSERVATION, "code", code)
}

/// Whether bytes hold a needle. Journals are made with 64 MiB of holes, so empty stretches are
/// skipped.
pub(crate) fn has(bytes: &[u8], needle: &[u8]) -> bool {
    let full: Vec<u8> = bytes
        .chunks(4096)
        .filter(|chunk| *chunk != &[0; 4096][..chunk.len()])
        .flatten()
        .copied()
        .collect();
    full.windows(needle.len()).any(|window| window == needle)
}

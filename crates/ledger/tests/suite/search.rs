//! Searches over blind tokens.

use std::collections::BTreeMap;

use ledger::{Expected, Hit, LedgerError, Number, Query};

use super::{
    AUDIT, OBSERVATION, OTHER, Store, TENANT, code, commit_of, delete, draft, found, of, put, ready,
};

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
    let document = |id: &str| Query::Document(OBSERVATION, id.to_owned());
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
        (document("a"), &["a"]),
        (document("nothing"), &[]),
        (Query::Document(AUDIT, "a".into()), &[]),
        (Query::And(vec![token("a"), document("ab")]), &["ab"]),
        (Query::And(vec![document("bc"), token("a")]), &[]),
        (
            Query::Or(vec![document("ab"), document("bc"), document("ab")]),
            &["bc", "ab"],
        ),
        (without(token("a"), document("abc")), &["a", "ab"]),
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
    let one = async |before: Option<&str>, since: Option<&str>| {
        let place = |name: &str| at[name].number;
        let (before, since) = (before.map(place), since.map(place));
        let query = document("a");
        let found = ledger.search(TENANT, &query, before, since, 9);
        found.await.unwrap()
    };
    assert_eq!(one(None, Some("a")).await, [at["a"]]);
    assert_eq!(one(None, Some("bc")).await, []);
    assert_eq!(one(Some("bc"), None).await, [at["a"]]);
    assert_eq!(one(Some("a"), None).await, []);
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
    assert_eq!(found(&ledger, &document("abc")).await, []);
    assert_eq!(found(&ledger, &document("a")).await, [updated]);
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

pub(crate) async fn a_view_is_of_one_moment(store: &dyn Store) {
    let ledger = ready(store).await;
    let patient = ledger.mint_own_id(TENANT);
    let write = async |id: &str, expected: Expected, body: &str| {
        put(&ledger, OBSERVATION, id, &patient, expected, body, &["a"]).await
    };
    let old = write("moves", Expected::Absent, "one").await;
    let stays = write("stays", Expected::Absent, "one").await;
    let view = ledger.view().unwrap();
    // Its moment has come with the first read.
    let query = code(&ledger, "a");
    let before = view.search(TENANT, &query, None, None, 9).await.unwrap();
    assert_eq!(before, [stays, old]);
    let as_of = ledger.last_number();
    let moved = write("moves", Expected::Version(1), "two").await;
    let new = write("new", Expected::Absent, "one").await;
    assert!(moved.number > as_of);

    // In the view nothing has moved; page by page it is the same list.
    let first = view.search(TENANT, &query, None, None, 1).await.unwrap();
    let rest = view
        .search(TENANT, &query, Some(first[0].number), None, 9)
        .await
        .unwrap();
    assert_eq!([first, rest].concat(), [stays, old]);
    assert_eq!(found(&ledger, &query).await, [new, moved, stays]);
    let body = |stored: Option<ledger::Stored>| {
        stored.map(|stored| String::from_utf8(stored.body).unwrap())
    };
    let one = Some("one".to_owned());
    assert_eq!(
        body(view.get(TENANT, OBSERVATION, "moves").await.unwrap()),
        one
    );
    assert_eq!(
        body(view.get(TENANT, OBSERVATION, "new").await.unwrap()),
        None
    );
    assert_eq!(body(view.fetch(TENANT, old).await.unwrap()), one);
    let versions = view.history(TENANT, OBSERVATION, "moves", None, 9).await;
    assert_eq!(versions.unwrap().len(), 1);
    let second = view.version(TENANT, OBSERVATION, "moves", 2).await;
    assert!(second.unwrap().is_none());
    let opened = view.fetch_some(TENANT, &[stays, old]).await.unwrap();
    for stored in opened {
        assert_eq!(body(stored.unwrap()), one);
    }
    // What lies in a newer place is not there yet.
    assert_eq!(body(view.fetch(TENANT, moved).await.unwrap()), None);
}

pub(crate) async fn notes_are_for_their_tenant_and_purpose(store: &dyn Store) {
    let ledger = ready(store).await;
    ledger.create_tenant(OTHER).await.unwrap();
    let note = ledger.seal_note(TENANT, "search", b"family=Berg").unwrap();
    assert!(!note.windows(4).any(|part| part == b"Berg"));
    assert_ne!(
        note,
        ledger.seal_note(TENANT, "search", b"family=Berg").unwrap()
    );
    let open =
        |tenant, purpose: &str, note: &[u8]| ledger.open_note(tenant, purpose, note).unwrap();
    assert_eq!(open(TENANT, "search", &note), Some(b"family=Berg".to_vec()));
    assert_eq!(open(TENANT, "history", &note), None);
    assert_eq!(open(OTHER, "search", &note), None);
    for place in 0..note.len() {
        let mut changed = note.clone();
        changed[place] ^= 1;
        assert_eq!(open(TENANT, "search", &changed), None);
        assert_eq!(open(TENANT, "search", &note[..place]), None);
    }
    assert!(matches!(
        ledger.seal_note(ledger::TenantId(77), "search", b""),
        Err(LedgerError::UnknownTenant(77))
    ));
}

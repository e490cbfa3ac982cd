//! Lists that go on from another moment, while others write.

use ledger::{Commit, Expected, Ledger, Number, Shard};

use super::Database;
use super::patience::until;
use super::suite::{OBSERVATION, Store, TENANT, audit, code, commit_of, draft, of, put, ready};

/// Where the looks lie.
const LOOKS: Shard = Shard(3);

/// An audit record by itself, which is no event; its number. Its name lies in the shard that its id leads to:
/// here in the same, or it would now and then wait for another that is held up.
async fn look(ledger: &Ledger) -> Number {
    let here = |id: &String| ledger.shard_of(TENANT, &of(id), id) == LOOKS;
    let mut audit = audit(ledger, LOOKS);
    audit.id = std::iter::repeat_with(|| ledger.mint_own_id(TENANT))
        .find(here)
        .unwrap();
    let commit = Commit {
        audit: Some(audit),
        ..Commit::new(TENANT)
    };
    let receipt = ledger.commit(commit).await.unwrap();
    receipt.audit.unwrap().number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_group_is_no_part_of_an_earlier_list() {
    let database = Database::new();
    let first = ready(&database).await;
    let second = database.open();
    // One of another shard: the looks must not wait for the group that is held up.
    let elsewhere = |id: &String| first.shard_of(TENANT, &of(id), id) != LOOKS;
    let patient = std::iter::repeat_with(|| first.mint_own_id(TENANT))
        .find(elsewhere)
        .unwrap();
    let mut places = Vec::new();
    for id in ["x", "y", "z"] {
        let at = put(
            &first,
            OBSERVATION,
            id,
            &patient,
            Expected::Absent,
            "1",
            &["a"],
        )
        .await;
        places.insert(0, at);
    }
    reaches(&first, places[0].number).await;
    // The second's group has its numbers and can't be committed yet.
    let block = database
        .cluster
        .session("BEGIN; LOCK TABLE cairn.event IN SHARE MODE;");
    let update = draft(
        &second,
        OBSERVATION,
        "x",
        of(&patient),
        Expected::Version(1),
        "2",
        &["a"],
    );
    let commit = commit_of(&second, vec![update]);
    let late = {
        let second = second.clone();
        tokio::spawn(async move { second.commit(commit).await })
    };
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                 AND relation = 'cairn.event'::regclass";
    until("the group waits", async || {
        database.cluster.sql("cairn", "postgres", waits) != "0"
    })
    .await;
    // Meanwhile the first goes on; its numbers pass those of the group that waits.
    look(&first).await;
    let passed = look(&first).await;
    let view = first.listing().unwrap();
    let query = code(&first, "a");
    let page = view.search(TENANT, &query, None, None, 2).await.unwrap();
    assert_eq!(page, places[..2]);
    let as_of = view.as_of().await.unwrap();
    drop(view);

    drop(block);
    let late = late.await.unwrap().unwrap().documents[0].at;
    assert!(late.number < passed, "the group was to be late");
    // So a later page can tell that it was not there: it is behind neither what the first page showed
    // nor what was there then.
    assert!(as_of < late.number, "{as_of:?} {late:?}");
    assert!(as_of >= places[0].number, "{as_of:?}");

    // With nothing under way the horizon is all that there is, on either node.
    let last = look(&second).await;
    for ledger in [&first, &second] {
        let view = ledger.listing().unwrap();
        let hits = view.search(TENANT, &query, None, None, 9).await.unwrap();
        assert_eq!(hits.first(), Some(&late));
        reaches(ledger, last).await;
    }
}

/// Until a list that is asked for has everything up to a number: at once, unless somebody's look for
/// news is just under way.
async fn reaches(ledger: &Ledger, number: Number) {
    until("the horizon comes", async || {
        let view = ledger.listing().unwrap();
        let query = code(ledger, "a");
        view.search(TENANT, &query, None, None, 1).await.unwrap();
        view.as_of().await.unwrap() >= number
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_from_those_of_all_shards() {
    let database = Database::new();
    let first = ready(&database).await;
    let second = database.open();
    // The clock stands; each writes in shards that the other does not.
    let mut last = Number(0);
    for round in 0..20 {
        let ledger = if round % 2 == 0 { &first } else { &second };
        let commit = Commit {
            audit: Some(audit(ledger, Shard(round * 7 % 256))),
            ..Commit::new(TENANT)
        };
        let at = ledger.commit(commit).await.unwrap().audit.unwrap();
        assert!(at.number > last, "{at:?} after {last:?}");
        last = at.number;
    }
}

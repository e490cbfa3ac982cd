//! What rotations of token keys leave in a folder: there a document's list of tokens can lie in rows of
//! three sorts, and postings that have no row yet are told from lists.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use super::rotation::{OLD, open};
use super::suite::{self, AUDIT, OBSERVATION, TENANT, assert_sound, audit, code, put, token_of};
use super::{on_disk, options};
use crate::backend::{Backend, Snapshot, Table, Write};
use crate::doctor::doctor_on;
use crate::embedded::FjallBackend;
use crate::{
    Commit, DoctorReport, Expected, FolderTarget, Hit, Ledger, ManualClock, Query, RootKey, Shard,
    Token,
};

/// More audit records than are looked at at once.
const RECORDS: usize = 1100;

fn reopen(folder: &Path) -> (Arc<FjallBackend>, Ledger) {
    let backend = Arc::new(FjallBackend::open(folder, 1 << 20).unwrap());
    let ledger = open(backend.clone(), OLD).unwrap();
    (backend, ledger)
}

/// All rows of a table, some at a time.
fn rows(snapshot: &dyn Snapshot, table: Table) -> Vec<Write> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = snapshot.scan(table, after.as_ref(), 100).unwrap();
        let (count, last) = (page.len(), page.last().cloned());
        rows.extend(page);
        assert!(rows.len() < 1_000_000, "there is no end of {table:?} rows");
        if count < 100 {
            return rows;
        }
        after = last;
    }
}

/// All lists of tokens; no document has two.
fn lists(backend: &FjallBackend) -> Vec<(Hit, Vec<Token>)> {
    let rows = rows(&*backend.snapshot(), Table::Posted).into_iter();
    let lists: Vec<_> = rows
        .map(|row| match row {
            Write::Posted { at, tokens } => (at, tokens),
            row => panic!("{row:?}"),
        })
        .collect();
    let places: BTreeSet<Hit> = lists.iter().map(|(at, _)| *at).collect();
    assert_eq!(places.len(), lists.len(), "a document has two lists");
    lists
}

fn pairs(lists: Vec<(Hit, Vec<Token>)>) -> BTreeSet<(Token, Hit)> {
    let of = |(at, tokens): (Hit, Vec<Token>)| tokens.into_iter().map(move |token| (token, at));
    lists.into_iter().flat_map(of).collect()
}

fn postings(backend: &FjallBackend) -> BTreeSet<(Token, Hit)> {
    let rows = rows(&*backend.snapshot(), Table::Posting).into_iter();
    rows.map(|row| match row {
        Write::Posting { token, at } => (token, at),
        row => panic!("{row:?}"),
    })
    .collect()
}

/// All tokens that are stored, once lists and postings have turned out to say the same.
fn stored(backend: &FjallBackend) -> BTreeSet<Token> {
    let listed = pairs(lists(backend));
    assert_eq!(listed, postings(backend));
    listed.into_iter().map(|(token, _)| token).collect()
}

async fn check(backend: Arc<FjallBackend>, repair: bool) -> DoctorReport {
    let clock = ManualClock::new(1_700_000_000_000);
    let options = options(RootKey::from_bytes(OLD), &clock);
    doctor_on(backend, options, repair, |_| {}).await.unwrap()
}

/// That a closed store has no findings.
async fn is_sound(folder: &Path) {
    let backend = Arc::new(FjallBackend::open(folder, 1 << 20).unwrap());
    let report = check(backend, false).await;
    assert!(
        report.is_sound() && report.findings.is_empty(),
        "{report:?}"
    );
}

async fn read(ledger: &Ledger, times: usize) {
    let reads = (0..times).map(|_| {
        ledger.commit(Commit {
            audit: Some(audit(ledger, Shard(9))),
            ..Commit::new(TENANT)
        })
    });
    for outcome in join_all(reads).await {
        outcome.unwrap();
    }
}

async fn all(ledger: &Ledger) -> Vec<Vec<Hit>> {
    let mut answers = Vec::new();
    for query in [
        code(ledger, "all"),
        code(ledger, "old"),
        Query::Token(ledger.kind_token(TENANT, OBSERVATION)),
        Query::Token(ledger.kind_token(TENANT, AUDIT)),
        Query::Token(ledger.token(TENANT, AUDIT, "agent", "someone")),
    ] {
        let hits = ledger.search(TENANT, &query, None, None, 9999).await;
        answers.push(hits.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn each_document_has_one_list_behind_the_newest_key() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    for number in 0..12 {
        let id = format!("o{number}");
        let expected = Expected::Absent;
        put(&ledger, OBSERVATION, &id, "p", expected, "x", &["all"]).await;
        read(&ledger, RECORDS / 12).await;
    }
    let second = Expected::Version(1);
    put(&ledger, OBSERVATION, "o3", "p", second, "y", &["all"]).await;
    let answers = all(&ledger).await;
    assert!(answers[3].len() > 1024);
    let mut earlier = stored(&backend);
    assert!(earlier.contains(&token_of(&ledger, "all")));
    drop((backend, ledger));
    for _ in 0..2 {
        let (backend, ledger) = reopen(folder.path());
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
        let now = stored(&backend);
        assert!(now.is_disjoint(&earlier));
        assert_eq!(all(&ledger).await, answers);
        ledger.close().await.unwrap();
        drop((backend, ledger));
        let (backend, ledger) = reopen(folder.path());
        assert_eq!(stored(&backend), now);
        assert_eq!(all(&ledger).await, answers);
        ledger.close().await.unwrap();
        drop((backend, ledger));
        is_sound(folder.path()).await;
        earlier.extend(now);
    }
}

async fn rotates_from_format(format: u32) {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/fixtures/format-{format}.tar.gz"));
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(&fixture)
        .arg("-C")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(unpacked.success());
    let store = folder.path().join("store");
    let (backend, ledger) = reopen(&store);
    suite::earlier::find(&ledger).await;
    let mut earlier: BTreeSet<Token> = postings(&backend).iter().map(|pair| pair.0).collect();
    drop((backend, ledger));
    for round in 0..2 {
        let (backend, ledger) = reopen(&store);
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
        let now = stored(&backend);
        assert!(now.is_disjoint(&earlier));
        if round == 0 {
            suite::earlier::find(&ledger).await;
            suite::earlier::go_on(&ledger).await;
        }
        suite::earlier::went_on(&ledger).await;
        ledger.close().await.unwrap();
        drop((backend, ledger));
        let (backend, ledger) = reopen(&store);
        suite::earlier::went_on(&ledger).await;
        earlier.extend(stored(&backend));
        ledger.close().await.unwrap();
        drop((backend, ledger));
        is_sound(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_rotates() {
    rotates_from_format(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_2_rotates() {
    rotates_from_format(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_version_that_a_backup_waits_for_stays_unfound() {
    // A chain of before the first rotation is not gone on with, and holds the lists that wait for it.
    waits_for_a_backup(false).await;
    waits_for_a_backup(true).await;
}

async fn waits_for_a_backup(goes_on: bool) {
    let folder = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let target = Arc::new(FolderTarget::create(files.path()).unwrap());
    let (backend, ledger) = on_disk(folder.path()).await;
    if goes_on {
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    }
    let write = async |id: &str, expected, codes: &[&str]| {
        put(&ledger, OBSERVATION, id, "p", expected, "x", codes).await
    };
    let (first, second) = (Expected::Absent, Expected::Version(1));
    write("o1", first, &["all", "old"]).await;
    write("o2", first, &["all", "old"]).await;
    ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    let old = write("o3", first, &["all", "old"]).await;
    let new = write("o3", second, &["all"]).await;
    write("o1", second, &["all"]).await;
    let answers = all(&ledger).await;
    assert!(answers[0].contains(&new) && !answers[0].contains(&old));
    assert_eq!(answers[1].len(), 1);
    ledger.close().await.unwrap();
    drop((backend, ledger));
    for _ in 0..2 {
        let (backend, ledger) = reopen(folder.path());
        ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
        assert_eq!(all(&ledger).await, answers);
        assert!(lists(&backend).iter().any(|(at, _)| *at == old));
        ledger.close().await.unwrap();
        drop((backend, ledger));
        let (backend, ledger) = reopen(folder.path());
        assert_eq!(all(&ledger).await, answers);
        ledger.close().await.unwrap();
        drop((backend, ledger));
        is_sound(folder.path()).await;
    }
    let (backend, ledger) = reopen(folder.path());
    ledger.backup(target, false, |_| {}).await.unwrap();
    assert_sound(&ledger).await;
    let waits = lists(&backend).iter().any(|(at, _)| *at == old);
    assert_eq!(waits, !goes_on);
    ledger.close().await.unwrap();
    drop((backend, ledger));
    let (backend, ledger) = reopen(folder.path());
    assert_eq!(all(&ledger).await, answers);
    if goes_on {
        stored(&backend);
    }
    ledger.close().await.unwrap();
    drop((backend, ledger));
    is_sound(folder.path()).await;
}

/// Before, a rotation left each list where it lay and wrote another: what it has left is found, and goes.
#[tokio::test(flavor = "multi_thread")]
async fn lists_behind_an_earlier_key_are_found_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, ledger) = on_disk(folder.path()).await;
    let expected = Expected::Absent;
    put(&ledger, OBSERVATION, "o", "p", expected, "x", &["all"]).await;
    read(&ledger, 5).await;
    let earlier = lists(&backend);
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    let (answers, now) = (all(&ledger).await, stored(&backend));
    ledger.close().await.unwrap();
    let again = || {
        for (at, tokens) in &earlier {
            backend.list_again(*at, tokens);
        }
    };
    again();
    let report = check(backend.clone(), false).await;
    assert_eq!(
        (report.damaged, report.repairable),
        (0, earlier.len() as u64)
    );
    let finding = &report.findings[0];
    assert!(finding.what.contains("earlier key"), "{finding:?}");
    check(backend.clone(), true).await;
    assert_eq!(stored(&backend), now);
    let report = check(backend.clone(), false).await;
    assert!(report.findings.is_empty(), "{report:?}");
    // So does the next rotation.
    again();
    drop((backend, ledger));
    let (backend, ledger) = reopen(folder.path());
    ledger.rotate_token_keys(TENANT, &|_| {}).await.unwrap();
    assert!(stored(&backend).is_disjoint(&now));
    assert_eq!(all(&ledger).await, answers);
    ledger.close().await.unwrap();
    drop((backend, ledger));
    is_sound(folder.path()).await;
}

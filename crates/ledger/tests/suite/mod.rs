//! The conformance suite: what every backend of the ledger has to do. Each case is a function over
//! "how to open a ledger"; `conformance!` makes tests of them.

pub(crate) mod backup;
mod documents;
mod due;
pub(crate) mod earlier;
mod keeping;
pub(crate) mod logs;
mod model;
mod past;
mod queues;
mod relisting;
mod rotating;
mod search;
mod tenants;

use std::pin::Pin;
use std::sync::Arc;

use ledger::{
    AuditDraft, BackupTarget, Commit, Draft, Expected, Hit, InclusionProof, Kind, Ledger,
    LedgerError, ManualClock, Moment, OpenOptions, Owner, Query, RestoreOptions, RestoreReport,
    RootKey, Shard, Stored, TenantId, Timer, TimerKey, Token,
};

pub(crate) use backup::{
    a_backup_that_nobody_waits_for_ends, a_restored_outbox_is_held,
    a_shredded_patient_stays_shredded, backups_restore_to_every_moment,
    changed_backups_are_refused, destroyed_keys_go_from_the_files_of_others,
    interrupted_backups_can_be_run_again, old_chains_are_pruned,
};
pub(crate) use documents::{
    documents_are_written_read_and_kept, misuse_is_refused,
    numbers_rise_when_the_clock_stands_or_falls, one_commit_may_be_large,
    racing_writers_lose_nothing, tenants_see_only_their_own, what_is_not_expected_is_refused_whole,
};
pub(crate) use due::each_finds_what_is_due_of_its_own;
pub(crate) use earlier::a_history_is_found_again;
pub(crate) use keeping::{
    a_closed_ledger_says_so, a_destroyed_key_stays_destroyed, a_wrong_root_key_is_refused,
    audits_verify_and_prove, everything_is_there_after_reopening, proofs_show_words_in_parts,
};
pub(crate) use logs::{
    logs_are_read_tile_by_tile, trees_go_on_from_older_checkpoints,
    witnesses_are_asked_with_a_proof, witnesses_are_heard,
};
pub(crate) use model::model_agrees;
pub(crate) use past::{
    a_listing_of_the_past_says_up_to_where_it_is_whole, the_past_is_listed_newest_first,
};
pub(crate) use queues::{
    cursors_move_once, feeds_and_watchers_see_facts, racing_followers_handle_once,
    the_outbox_settles_once, timers_come_due,
};
pub(crate) use relisting::documents_get_more_tokens;
pub(crate) use rotating::{
    backups_restore_through_token_rotations, everything_is_readable_through_rotations,
    rotations_of_nothing_say_so, the_root_key_rotates, token_keys_rotate_under_every_query,
};
pub(crate) use search::{
    a_view_is_of_one_moment, notes_are_for_their_tenant_and_purpose, pages_of_a_search_join,
    ranges_are_found, searches_find_live_documents,
};
pub(crate) use tenants::{
    a_destroyed_tenant_leaves_the_backups, a_handle_is_for_one_tenant, tenants_come_and_go,
    tenants_store_no_more_than_they_may,
};

/// A store that can be opened again and again.
pub(crate) trait Store {
    /// Opens it with another root key than it was made with, or the same.
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError>;
    /// The clock that it is opened with.
    fn clock(&self) -> &ManualClock;
    /// Restores a backup into a new store of the same kind.
    fn restore(&self, wanted: Wanted) -> Restored<'_>;
    /// Whether a restore takes so long that only some are tried.
    fn restores_are_slow(&self) -> bool {
        false
    }
    /// Opens it.
    fn open(&self) -> Ledger {
        self.open_with(RootKey::from_bytes([7; 32])).unwrap()
    }
}

/// What to restore.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) source: Arc<dyn BackupTarget>,
    pub(crate) to: Moment,
    pub(crate) shred_lists: Vec<Vec<u8>>,
    pub(crate) release_outbox: bool,
}

impl Wanted {
    /// How a store is restored that is then opened with these options.
    pub(crate) fn options(self, open: OpenOptions) -> RestoreOptions {
        RestoreOptions {
            source: self.source,
            open,
            to: self.to,
            chain: None,
            shred_lists: self.shred_lists,
            release_outbox: self.release_outbox,
        }
    }
}

/// A restored store.
pub(crate) type Restored<'a> =
    Pin<Box<dyn Future<Output = Result<(Box<dyn Store>, RestoreReport), LedgerError>> + 'a>>;

/// Makes a test of each case; `$store` is an expression for a new, empty store, `$cases` how many
/// random histories the model is compared on.
#[macro_export]
macro_rules! conformance {
    ($store:expr, $cases:expr) => {
        $crate::conformance! { $store;
            documents_are_written_read_and_kept, what_is_not_expected_is_refused_whole, searches_find_live_documents,
            a_view_is_of_one_moment, notes_are_for_their_tenant_and_purpose,
            ranges_are_found, pages_of_a_search_join, feeds_and_watchers_see_facts, timers_come_due, each_finds_what_is_due_of_its_own,
            the_outbox_settles_once, cursors_move_once, tenants_see_only_their_own, tenants_come_and_go, a_handle_is_for_one_tenant, tenants_store_no_more_than_they_may, everything_is_there_after_reopening,
            logs_are_read_tile_by_tile, trees_go_on_from_older_checkpoints, witnesses_are_asked_with_a_proof, witnesses_are_heard,
            a_history_is_found_again, audits_verify_and_prove, proofs_show_words_in_parts, a_destroyed_key_stays_destroyed, a_wrong_root_key_is_refused,
            the_root_key_rotates, everything_is_readable_through_rotations, rotations_of_nothing_say_so,
            token_keys_rotate_under_every_query, documents_get_more_tokens,
            racing_writers_lose_nothing, racing_followers_handle_once, misuse_is_refused, one_commit_may_be_large,
            the_past_is_listed_newest_first, a_listing_of_the_past_says_up_to_where_it_is_whole,
            a_closed_ledger_says_so, numbers_rise_when_the_clock_stands_or_falls
        }
        #[test]
        fn model_agrees() {
            suite::model_agrees(&|| Box::new($store), $cases);
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

/// The cases of a store that the ledger itself backs up.
#[macro_export]
macro_rules! backups {
    ($store:expr) => {
        $crate::conformance! { $store;
            backups_restore_through_token_rotations,
            backups_restore_to_every_moment, a_shredded_patient_stays_shredded, changed_backups_are_refused,
            interrupted_backups_can_be_run_again, a_restored_outbox_is_held, a_backup_that_nobody_waits_for_ends,
            destroyed_keys_go_from_the_files_of_others, old_chains_are_pruned, a_destroyed_tenant_leaves_the_backups
        }
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

/// The proof of an audit document's leaf, by the document's place.
pub(crate) async fn proof(ledger: &Ledger, tenant: TenantId, audit: Hit) -> Option<InclusionProof> {
    let leaf = ledger.audit_leaf(tenant, audit).await.unwrap()?;
    Some(ledger.prove(&leaf).await.unwrap())
}

pub(crate) fn audit(ledger: &Ledger, shard: Shard) -> AuditDraft {
    AuditDraft {
        kind: AUDIT,
        id: ledger.mint_own_id(TENANT),
        shard,
        body: b"{\"resourceType\":\"AuditEvent\"}".to_vec(),
        parts: Vec::new(),
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

pub(crate) async fn put(
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

pub(crate) async fn delete(
    ledger: &Ledger,
    kind: Kind,
    id: &str,
    patient: &str,
    version: u32,
) -> Hit {
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

pub(crate) fn code(ledger: &Ledger, code: &str) -> Query {
    Query::Token(ledger.token(TENANT, OBSERVATION, "code", code))
}

pub(crate) async fn found(ledger: &Ledger, query: &Query) -> Vec<Hit> {
    ledger
        .search(TENANT, query, None, None, 1000)
        .await
        .unwrap()
}

pub(crate) fn text(stored: &Stored) -> &str {
    std::str::from_utf8(&stored.body).unwrap()
}

pub(crate) async fn assert_sound(ledger: &Ledger) {
    let report = ledger.verify_audit(&|_| {}).await.unwrap();
    assert!(
        report.broken.is_none() && report.checkpoint_ok,
        "{report:?}"
    );
}

pub(crate) fn timer(shard: u16, due_ms: u64, id: u8, consumer: u16) -> Timer {
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

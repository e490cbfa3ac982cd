//! Planning of a group of commits: which of them may go through, and what is then written.
//!
//! Everything here is worked out on copies; the writer takes it over when the batch is durable, so a
//! failing store leaves memory as it was.

mod layers;
mod stored;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tlog_tiles::record_hash;

use crate::backend::{
    Blind, Head, HeadKey, KeyRow, OutboxRow, Snapshot, SubjectKey, Touched, Write,
};
use crate::bootstrap::{ROOT, Rewrapping, TENANT, opens_row, secret_rows};
use crate::data_keys::DataKey;
use crate::due::Earliest;
use crate::keys::Secret;
use crate::leases::Lease;
use crate::outer::LayerStates;
use crate::redo::{Change, Entry, REDO, Redo, chain_row};
use crate::rows::Leaf;
use crate::stored::{OWN_KINDS, Room};
use crate::tree::{Tree, sha256_all};
use crate::{
    CursorMove, Event, Expected, Hit, Kind, LedgerError, Number, OutboxKey, Receipt, SHARDS, Shard,
    TenantId, Timer, TimerKey, Token, Written,
};

/// The meta row that says, by not being empty, that an overwritten key may still lie in the store's
/// files. Its value tells one such time from the next, so that a scrub that began before a key was
/// overwritten does not count for it.
pub(crate) const SCRUB_DUE: &str = "scrub-due";

/// A document, sealed by its caller; only its number is missing.
pub(crate) struct SealedDocument {
    pub(crate) key: HeadKey,
    pub(crate) kind: Kind,
    pub(crate) shard: Shard,
    pub(crate) expected: Expected,
    pub(crate) deleted: bool,
    pub(crate) audit: bool,
    /// The row as it will be stored.
    pub(crate) row: Vec<u8>,
    /// SHA-256 of `row`.
    pub(crate) digest: [u8; 32],
    /// All of its tokens, each once; none when deleted.
    pub(crate) tokens: Vec<Token>,
}

/// A commit, sealed by its caller.
pub(crate) struct SealedCommit {
    pub(crate) tenant: TenantId,
    pub(crate) documents: Vec<SealedDocument>,
    pub(crate) audit: Option<SealedDocument>,
    /// What the leaf says of the audit document's text.
    pub(crate) commitment: Option<[u8; 32]>,
    pub(crate) timers_set: Vec<Timer>,
    pub(crate) timers_clear: Vec<TimerKey>,
    pub(crate) outbox_add: Vec<OutboxRow>,
    pub(crate) outbox_remove: Vec<OutboxKey>,
    pub(crate) cursor: Option<CursorMove>,
    pub(crate) cause: Option<Number>,
    /// The shard that has to be held, and under which epoch.
    pub(crate) held: Option<(Shard, u64)>,
    /// The patients' keys that sealed something of it, each once.
    pub(crate) keys: Vec<Arc<DataKey>>,
    /// The patient whose key goes with this commit.
    pub(crate) destroy: Option<SubjectKey>,
    /// What has to be known of what its tenant stores, if that is bounded, and whether the bound is for it.
    pub(crate) room: Option<Room>,
    pub(crate) bounded: bool,
    pub(crate) always: Vec<Kind>,
}

impl SealedCommit {
    /// The shard of the audit record, or of whatever else is there.
    pub(crate) fn shard(&self) -> Option<Shard> {
        (self.audit.iter().chain(&self.documents))
            .map(|document| document.shard)
            .chain(self.cursor.iter().map(|step| step.shard))
            .chain(self.timers_set.iter().map(|timer| timer.key.shard))
            .chain(self.timers_clear.iter().map(|key| key.shard))
            .chain(self.outbox_add.iter().map(|row| row.key.shard))
            .chain(self.outbox_remove.iter().map(|key| key.shard))
            .next()
    }

    /// Adds what planning the commit reads, and the shards that it reads and writes in.
    pub(crate) fn touches(&self, touched: &mut Touched) {
        for document in self.documents.iter().chain(&self.audit) {
            touched.shards.insert(document.shard);
            touched.shards.extend(document.key.home.0);
            touched.heads.insert(document.key);
        }
        for key in (self.keys.iter().map(|key| key.row)).chain(self.destroy) {
            touched.shards.extend(key.home.0);
            touched.keys.insert(key);
        }
        let new_keys = self.keys.iter().filter(|key| !key.is_durable());
        touched.wrapping.extend(new_keys.map(|key| key.row.tenant));
        if self.destroy.is_some() {
            touched.metas.insert(SCRUB_DUE.to_owned());
        }
        touched
            .metas
            .extend(self.room.iter().map(|room| room.row.clone()));
        let timers = self.timers_set.iter().map(|timer| timer.key.shard);
        touched.shards.extend(timers);
        touched
            .shards
            .extend(self.timers_clear.iter().map(|key| key.shard));
        touched
            .shards
            .extend(self.outbox_add.iter().map(|row| row.key.shard));
        for key in &self.outbox_remove {
            touched.shards.insert(key.shard);
            touched.outbox.insert(*key);
        }
        touched.shards.extend(self.held.map(|(shard, _)| shard));
        if let Some(step) = &self.cursor {
            touched.shards.insert(step.shard);
            touched.cursors.insert((step.consumer.clone(), step.shard));
        }
    }
}

/// Key rows to take the place of others, each only if the one that was read is still there: a key may
/// have been destroyed or rotated since.
pub(crate) struct Rekeying {
    pub(crate) rows: Vec<Rekey>,
    /// A meta row that moves with them, from one value to another; not if it has moved already.
    pub(crate) position: Option<(String, Option<Vec<u8>>, Vec<u8>)>,
}

/// One more of the store's own secrets, written if there is none of its name.
pub(crate) struct NewSecret {
    /// What wraps it: refused if that is not the store's any more.
    pub(crate) root_wrap: Secret,
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

impl NewSecret {
    /// That there is one more is said in the row of the first shard.
    const SAID_IN: Shard = Shard(0);

    /// The row of the tenant's first secret, where this is a later one.
    fn first(&self) -> Option<&str> {
        let number = self.name.strip_prefix(TENANT)?.split_once('/')?.0;
        self.name.get(..TENANT.len() + number.len())
    }

    /// Adds what is compared and written.
    pub(crate) fn touches(&self, touched: &mut Touched) {
        touched.metas.insert(ROOT.to_owned());
        touched.metas.extend(self.first().map(str::to_owned));
        touched.shards.insert(Self::SAID_IN);
    }
}

/// One row of a [`Rekeying`].
pub(crate) struct Rekey {
    pub(crate) key: SubjectKey,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

pub(crate) use layers::{NewLayer, Retoken, Retokening};

/// How the writer wraps a patient's new key.
pub(crate) type Wrap<'a> = dyn Fn(&DataKey) -> Result<Vec<u8>, LedgerError> + 'a;

impl Rekeying {
    /// Adds the key rows, and the shards that they lie in.
    pub(crate) fn touches(&self, touched: &mut Touched) {
        for Rekey { key, .. } in &self.rows {
            touched.shards.extend(key.home.0);
            touched.keys.insert(*key);
        }
        touched.metas.insert(SCRUB_DUE.to_owned());
        touched
            .metas
            .extend(self.position.iter().map(|(name, ..)| name.clone()));
    }
}

/// What a group goes on from. The writer of a store that is its own keeps it from group to group;
/// where others write too it is read anew with each turn.
#[derive(Clone)]
pub(crate) struct State {
    /// Whether others write to the store too. Numbers of one shard then never equal those of another,
    /// because they leave the shard as the remainder: two processes that number at once in two shards
    /// can't meet, and a page of a list that ends at a number has shown all that bear it.
    pub(crate) shared: bool,
    /// Who this process is, and who holds the shards that a turn touches.
    pub(crate) node: Blind,
    pub(crate) leases: BTreeMap<Shard, Lease>,
    pub(crate) last: Number,
    pub(crate) trees: Vec<Tree>,
    /// Keys destroyed since opening: a commit may have been sealed before and come after.
    pub(crate) destroyed: HashSet<SubjectKey>,
    /// Tells one time that a scrub becomes due from the next, together with the process's name.
    pub(crate) scrubs: u64,
    pub(crate) redo: Redo,
}

/// How often this process has taken part in a shared store's turns, so that no two of them call a scrub
/// that becomes due the same.
static TURNS: AtomicU64 = AtomicU64::new(0);

impl State {
    /// What a turn at a shared store goes on from. Trees of shards that it does not touch are left
    /// empty, and nobody asks for them.
    pub(crate) fn shared(
        last: Number,
        touched: &BTreeMap<Shard, Tree>,
        node: Blind,
        leases: BTreeMap<Shard, Lease>,
    ) -> Self {
        let mut trees = vec![Tree::default(); usize::from(SHARDS)];
        for (shard, tree) in touched {
            trees[usize::from(shard.0)] = tree.clone();
        }
        Self {
            shared: true,
            node,
            leases,
            last,
            trees,
            destroyed: HashSet::new(),
            redo: Redo::default(),
            // One turn makes at most one commit's worth of them each, far below the next one's.
            scrubs: TURNS.fetch_add(1, Ordering::Relaxed) << 32,
        }
    }

    /// Whether this process holds a shard under an epoch.
    fn is_held(&self, shard: Shard, epoch: u64) -> bool {
        let lease = Lease {
            holder: Some(self.node),
            epoch,
        };
        !self.shared || self.leases.get(&shard) == Some(&lease)
    }

    /// The number after `last` for a document of a shard.
    fn number(&self, last: u64, shard: Shard) -> Result<u64, LedgerError> {
        let next = last.checked_add(1);
        let next = if self.shared {
            let ahead = |next: u64| {
                (u64::from(shard.0) + u64::from(SHARDS) - next % u64::from(SHARDS))
                    % u64::from(SHARDS)
            };
            next.and_then(|next| next.checked_add(ahead(next)))
        } else {
            next
        };
        next.ok_or(LedgerError::Invalid("the clock is past the last number"))
    }
}

/// What a group has become: taken over by the writer when it is durable.
pub(crate) struct Planned {
    pub(crate) writes: Vec<Write>,
    pub(crate) last: Number,
    /// The trees that have grown.
    pub(crate) trees: BTreeMap<Shard, Tree>,
    /// The newest event of each shard that has new ones.
    pub(crate) feeds: BTreeMap<Shard, Number>,
    pub(crate) stored_keys: Vec<Arc<DataKey>>,
    pub(crate) destroyed: Vec<SubjectKey>,
    /// Keys that have another version.
    pub(crate) grown: Vec<SubjectKey>,
    pub(crate) scrubs: u64,
    pub(crate) earliest_timers: Earliest,
    pub(crate) earliest_outbox: Earliest,
    pub(crate) commits: u64,
    pub(crate) documents: u64,
    /// The redo log as the group leaves it.
    pub(crate) redo: Redo,
}

/// A group of commits in the making.
pub(crate) struct Group<'a> {
    snapshot: &'a dyn Snapshot,
    state: &'a State,
    now_ms: u64,
    wrap: &'a Wrap<'a>,
    heads: HashMap<HeadKey, Head>,
    cursors: HashMap<(String, Shard), Number>,
    timers: BTreeMap<TimerKey, Option<Timer>>,
    outbox: BTreeMap<OutboxKey, Option<OutboxRow>>,
    keys: HashMap<SubjectKey, KeyRow>,
    metas: BTreeMap<String, Vec<u8>>,
    /// Versions that were written and superseded within the group; their postings are never stored.
    passed: HashSet<Hit>,
    /// Versions that were superseded and whose tokens a backup has yet to take.
    stale: Vec<Hit>,
    rows: Vec<Write>,
    /// Versions whose lists of tokens others have taken the place of.
    relisted: HashSet<Hit>,
    /// What goes of the redo log.
    trimmed: Vec<Write>,
    /// Where keys are others than before.
    keys_changed: BTreeSet<Shard>,
    /// Where the outer layers of tokens stand, once asked for.
    layers: Option<LayerStates>,
    planned: Planned,
}

impl<'a> Group<'a> {
    pub(crate) fn new(
        snapshot: &'a dyn Snapshot,
        state: &'a State,
        now_ms: u64,
        wrap: &'a Wrap<'a>,
    ) -> Self {
        Self {
            snapshot,
            state,
            now_ms,
            wrap,
            heads: HashMap::new(),
            cursors: HashMap::new(),
            timers: BTreeMap::new(),
            outbox: BTreeMap::new(),
            keys: HashMap::new(),
            metas: BTreeMap::new(),
            passed: HashSet::new(),
            stale: Vec::new(),
            relisted: HashSet::new(),
            trimmed: Vec::new(),
            keys_changed: BTreeSet::new(),
            layers: None,
            rows: Vec::new(),
            planned: Planned {
                writes: Vec::new(),
                last: state.last,
                trees: BTreeMap::new(),
                feeds: BTreeMap::new(),
                stored_keys: Vec::new(),
                destroyed: Vec::new(),
                grown: Vec::new(),
                scrubs: state.scrubs,
                earliest_timers: Earliest::default(),
                earliest_outbox: Earliest::default(),
                commits: 0,
                documents: 0,
                redo: state.redo.clone(),
            },
        }
    }

    /// Adds a commit, or says why it can't go through; then nothing of it is in the group.
    pub(crate) fn add(&mut self, commit: SealedCommit) -> Result<Receipt, LedgerError> {
        // First everything that can fail, on the side.
        if let Some((shard, epoch)) = commit.held
            && !self.state.is_held(shard, epoch)
        {
            return Err(LedgerError::Fenced(shard));
        }
        for key in &commit.keys {
            let destroyed = |row: &SubjectKey| {
                self.state.destroyed.contains(row)
                    || matches!(self.keys.get(row), Some(KeyRow::Destroyed { .. }))
            };
            if destroyed(&key.row) || commit.destroy == Some(key.row) {
                return Err(LedgerError::KeyDestroyed);
            }
            self.check_key(key)?;
        }
        let mut new_keys = Vec::new();
        for key in &commit.keys {
            if !key.is_durable() && !self.keys.contains_key(&key.row) {
                new_keys.push((Arc::clone(key), KeyRow::Wrapped((self.wrap)(key)?)));
            }
        }
        if let Some(step) = &commit.cursor {
            self.check_cursor(step)?;
        }
        self.check_outbox(&commit.outbox_remove)?;
        let SealedCommit {
            tenant,
            documents,
            audit,
            cause,
            ..
        } = &commit;
        let now = Number::at_ms(self.now_ms).0;
        let mut last = self.planned.last.0.max(now.saturating_sub(1));
        let mut heads: HashMap<HeadKey, Head> = HashMap::new();
        let mut rows = Vec::new();
        let mut passed = Vec::new();
        let mut stale = Vec::new();
        let (mut more, mut asked) = (0, 0);
        let mut places: BTreeMap<Shard, (Vec<Number>, Vec<[u8; 32]>)> = BTreeMap::new();
        let mut written = Vec::with_capacity(documents.len() + 1);
        for document in documents.iter().chain(audit) {
            let of_group = (heads.get(&document.key)).or_else(|| self.heads.get(&document.key));
            let is_new = of_group.is_some();
            let current = match of_group {
                Some(head) => Some(*head),
                None => self.snapshot.head(&document.key)?,
            };
            // A version comes after the one before, in whichever shard that lies.
            if !document.audit && document.kind.0 < OWN_KINDS {
                let was = current.is_some_and(|head| !head.deleted);
                let step = i64::from(!document.deleted) - i64::from(was);
                more += step;
                if !commit.always.contains(&document.kind) {
                    asked += step;
                }
            }
            let before = current.map_or(last, |head| last.max(head.at.number.0));
            last = self.state.number(before, document.shard)?;
            let at = Hit {
                number: Number(last),
                shard: document.shard,
            };
            let version = match (document.expected, current) {
                (Expected::Absent, None) => 1,
                (Expected::Version(expected), Some(head))
                    if head.version == expected && !head.audit =>
                {
                    expected
                        .checked_add(1)
                        .ok_or(LedgerError::Invalid("a document has too many versions"))?
                }
                _ => return Err(LedgerError::Conflict),
            };
            if let Some(head) = current {
                rows.push(Write::Superseded {
                    key: document.key,
                    version: head.version,
                    at: head.at,
                });
                if is_new {
                    passed.push(head.at);
                } else if !head.deleted {
                    for token in self.snapshot.posted(head.at)? {
                        rows.push(Write::DropPosting { token, at: head.at });
                    }
                    // Whoever has yet to back up that version needs its tokens.
                    if self.state.redo.on {
                        stale.push(head.at);
                    } else {
                        rows.push(Write::DropPosted { at: head.at });
                    }
                }
            }
            heads.insert(
                document.key,
                Head {
                    at,
                    version,
                    deleted: document.deleted,
                    audit: document.audit,
                },
            );
            let (numbers, digests) = places.entry(document.shard).or_default();
            numbers.push(at.number);
            digests.push(document.digest);
            written.push(Written { at, version });
        }
        let counted = self.counted(&commit, more, asked)?;
        let mut trees = BTreeMap::new();
        let mut leaf = None;
        if let (Some(audit), Some(audit_written)) = (audit, written.last()) {
            for (shard, (numbers, digests)) in places {
                let record = Leaf {
                    tenant: *tenant,
                    audit: audit_written.at,
                    numbers,
                    digest: sha256_all(digests.iter()),
                    commitment: commit.commitment,
                }
                .encode();
                let mut tree = self.tree(shard).clone();
                let index = tree.size();
                let stored = tree.append(record_hash(&record))?;
                rows.push(Write::Leaf {
                    shard,
                    index,
                    record,
                    nodes: stored.into_iter().map(|(_, hash)| hash.0).collect(),
                });
                trees.insert(shard, tree);
                if shard == audit.shard {
                    leaf = Some((shard, index));
                }
            }
        }

        // From here on nothing fails.
        for (document, written) in documents.iter().zip(&written) {
            self.planned.feeds.insert(document.shard, written.at.number);
            rows.push(Write::Event(Event {
                at: written.at,
                tenant: *tenant,
                kind: document.kind,
                version: written.version,
                deleted: document.deleted,
                cause: *cause,
            }));
        }
        let audit_hit = audit.as_ref().and(written.last()).map(|written| written.at);
        if let Some(last) = written.last() {
            self.planned.last = last.at.number;
        }
        self.planned.commits += 1;
        self.planned.documents += written.len() as u64;
        self.planned.trees.append(&mut trees);
        self.heads.extend(heads);
        self.passed.extend(passed);
        self.stale.extend(stale);
        self.rows.append(&mut rows);
        for (document, written) in commit
            .documents
            .into_iter()
            .chain(commit.audit)
            .zip(&written)
        {
            let at = written.at;
            self.rows.push(Write::Document {
                at,
                row: document.row,
            });
            // What is deleted has none.
            if !document.deleted {
                self.rows.push(Write::Listed {
                    at,
                    tokens: document.tokens,
                });
            }
        }
        for key in commit.timers_clear {
            self.timers.insert(key, None);
        }
        for timer in commit.timers_set {
            self.timers.insert(timer.key, Some(timer));
        }
        self.metas.extend(counted);
        for key in commit.outbox_remove {
            self.outbox.insert(key, None);
        }
        for row in commit.outbox_add {
            self.outbox.insert(row.key, Some(row));
        }
        if let Some(step) = commit.cursor {
            self.cursors.insert((step.consumer, step.shard), step.to);
        }
        for (key, row) in new_keys {
            self.keys.insert(key.row, row);
            self.planned.stored_keys.push(key);
        }
        if let Some(row) = commit.destroy {
            self.keys
                .insert(row, KeyRow::Destroyed { at_ms: self.now_ms });
            self.planned.destroyed.push(row);
            self.scrub_is_due();
        }
        let documents = written[..written.len() - usize::from(audit_hit.is_some())].to_vec();
        Ok(Receipt {
            documents,
            leaf,
            audit: audit_hit,
        })
    }

    /// Adds a row that no commit depends on; the last of a name stands.
    pub(crate) fn add_meta(&mut self, name: &str, value: Vec<u8>) {
        self.metas.insert(name.to_owned(), value);
    }

    /// Something secret has been overwritten.
    pub(crate) fn scrub_is_due(&mut self) {
        self.planned.scrubs += 1;
        // Other processes count as well, each under its name.
        let count = self.planned.scrubs.to_be_bytes();
        self.add_meta(SCRUB_DUE, [&self.state.node[..], &count].concat());
    }

    /// Puts key rows in the place of others; gives how many.
    pub(crate) fn rekey(&mut self, rekeying: Rekeying) -> Result<u64, LedgerError> {
        let mut changes = Vec::with_capacity(rekeying.rows.len());
        for Rekey { key, from, to } in rekeying.rows {
            let current = match self.keys.get(&key) {
                Some(row) => Some(row.clone()),
                None => self.snapshot.key(&key)?,
            };
            if current == Some(KeyRow::Wrapped(from)) {
                changes.push((key, KeyRow::Wrapped(to)));
            }
        }
        if let Some((name, from, to)) = rekeying.position
            && self.meta(&name)? == from
        {
            self.add_meta(&name, to);
        }
        // From here on nothing fails.
        let count = changes.len() as u64;
        if count > 0 {
            self.scrub_is_due();
        }
        self.keys.extend(changes);
        Ok(count)
    }

    /// Puts another version of a patient's key in the place of a row that was read, if that is still
    /// there; gives how many. It is wrapped here, by the newest secret of the tenant.
    pub(crate) fn grow(&mut self, from: Vec<u8>, grown: &DataKey) -> Result<u64, LedgerError> {
        let row = grown.row;
        let current = match self.keys.get(&row) {
            Some(current) => Some(current.clone()),
            None => self.snapshot.key(&row)?,
        };
        if current != Some(KeyRow::Wrapped(from)) {
            return Ok(0);
        }
        let wrapped = (self.wrap)(grown)?;
        // From here on nothing fails.
        self.keys.insert(row, KeyRow::Wrapped(wrapped));
        self.planned.grown.push(row);
        self.keys_changed.extend(row.home.0);
        Ok(1)
    }

    /// Puts everything under another root key, if what lies under the old one is still what was read.
    pub(crate) fn rewrap(&mut self, rewrapping: Rewrapping) -> Result<(), LedgerError> {
        if secret_rows(self.snapshot)? != rewrapping.from {
            return Err(LedgerError::Conflict);
        }
        for (name, value) in rewrapping.to {
            self.add_meta(&name, value);
        }
        self.scrub_is_due();
        Ok(())
    }

    /// A meta row as the group leaves it.
    pub(crate) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        match self.metas.get(name) {
            Some(value) => Ok(Some(value.clone())),
            None => self.snapshot.meta(name),
        }
    }

    /// A scrub has been done that began when `due` was the row's value.
    pub(crate) fn scrubbed(&mut self, due: &[u8]) -> Result<(), LedgerError> {
        if self.meta(SCRUB_DUE)?.as_deref() == Some(due) {
            self.add_meta(SCRUB_DUE, Vec::new());
        }
        Ok(())
    }

    /// Keeps a redo log from the next group on.
    pub(crate) fn start_redo(&mut self) {
        if !self.planned.redo.on {
            self.planned.redo.on = true;
            let next = self.planned.redo.next.to_be_bytes().to_vec();
            self.add_meta(REDO, next);
        }
    }

    /// A chain of backups has taken the redo log up to a sequence.
    pub(crate) fn redo_taken(&mut self, chain: &str, taken: u64) {
        self.planned.redo.taken = self.planned.redo.taken.max(taken);
        self.add_meta(&chain_row(chain), taken.to_be_bytes().to_vec());
    }

    /// Removes some of the redo log below a sequence; whether there may be more.
    pub(crate) fn trim_redo(&mut self, below: u64) -> Result<bool, LedgerError> {
        // Once a group, because the snapshot does not know what has gone already.
        if self.trimmed.is_empty() {
            self.trimmed = self.planned.redo.trim(self.snapshot, below)?;
        }
        Ok(!self.trimmed.is_empty())
    }

    /// Adds a secret, if what wraps it is the store's, and its tenant is not destroyed.
    pub(crate) fn add_secret(&mut self, secret: NewSecret) -> Result<(), LedgerError> {
        let root = self.meta(ROOT)?.unwrap_or_default();
        opens_row(&root, &secret.root_wrap)?;
        if let Some(first) = secret.first()
            && self.meta(first)?.is_none_or(|first| first.is_empty())
        {
            // Another process has destroyed the tenant since the secret was made.
            return Err(LedgerError::KeyDestroyed);
        }
        let NewSecret { name, value, .. } = secret;
        self.rows.push(Write::NewMeta { name, value });
        self.keys_changed.insert(NewSecret::SAID_IN);
        Ok(())
    }

    /// Removes an outbox entry if it is there.
    pub(crate) fn drop_outbox(&mut self, key: OutboxKey) {
        self.outbox.insert(key, None);
    }

    /// The tree as the group leaves it.
    pub(crate) fn tree(&self, shard: Shard) -> &Tree {
        self.planned
            .trees
            .get(&shard)
            .unwrap_or(&self.state.trees[usize::from(shard.0)])
    }

    /// Whether a tree has grown.
    pub(crate) fn has_leaves(&self) -> bool {
        !self.planned.trees.is_empty()
    }

    /// Whether the key that sealed something is the one that the store has or will have. Where others
    /// write too, any key may have been destroyed, and a new one been made by somebody else as well;
    /// else only a new one is asked for, since no key is destroyed without this writer.
    fn check_key(&self, key: &Arc<DataKey>) -> Result<(), LedgerError> {
        let stored = match self.keys.get(&key.row) {
            Some(_) if (self.planned.stored_keys.iter()).any(|ours| Arc::ptr_eq(ours, key)) => {
                return Ok(());
            }
            Some(row) => Some(row.clone()),
            None if key.is_durable() && !self.state.shared => return Ok(()),
            None => self.snapshot.key(&key.row)?,
        };
        match (stored, key.is_durable()) {
            (Some(KeyRow::Destroyed { .. }), _) => Err(LedgerError::KeyDestroyed),
            // Wrapped anew or with another version: what sealed is still in it.
            (Some(KeyRow::Wrapped(_)), true) | (None, false) => Ok(()),
            (None, true) => Err(LedgerError::Damaged(
                "the key of a record is missing".into(),
            )),
            (Some(KeyRow::Wrapped(_)), false) => {
                key.set_stale();
                Err(LedgerError::Storage(
                    "the patient's key was made by another at the same time; try again".into(),
                ))
            }
        }
    }

    fn check_cursor(&self, step: &CursorMove) -> Result<(), LedgerError> {
        let current = match self.cursors.get(&(step.consumer.clone(), step.shard)) {
            Some(at) => *at,
            None => self
                .snapshot
                .cursor(&step.consumer, step.shard)?
                .unwrap_or_default(),
        };
        if current == step.from {
            Ok(())
        } else {
            Err(LedgerError::CursorMoved {
                consumer: step.consumer.clone(),
            })
        }
    }

    fn check_outbox(&self, keys: &[OutboxKey]) -> Result<(), LedgerError> {
        let mut removed = BTreeSet::new();
        for key in keys {
            let there = match self.outbox.get(key) {
                Some(row) => row.is_some(),
                None => self.snapshot.has_outbox(key)?,
            };
            if !there || !removed.insert(*key) {
                return Err(LedgerError::Conflict);
            }
        }
        Ok(())
    }

    /// Everything that the group writes; no row twice.
    pub(crate) fn finish(mut self) -> Result<Planned, LedgerError> {
        if self.trimmed.is_empty() {
            self.trimmed = self.planned.redo.keep_small(self.snapshot)?;
        }
        let passed = &self.passed;
        let gone: HashSet<Hit> = (self.trimmed.iter())
            .filter_map(|write| match write {
                Write::DropPosted { at } => Some(*at),
                _ => None,
            })
            .collect();
        let mut writes = self.rows;
        if !passed.is_empty() || !gone.is_empty() {
            writes.retain(|write| match write {
                Write::Posting { at, .. } | Write::Listed { at, .. } => !passed.contains(at),
                Write::Posted { at, .. } => !passed.contains(at) && !gone.contains(at),
                _ => true,
            });
        }
        writes.extend(
            self.heads
                .into_iter()
                .map(|(key, head)| Write::Head(key, head)),
        );
        writes.extend(
            self.cursors
                .into_iter()
                .map(|((consumer, shard), at)| Write::Cursor {
                    consumer,
                    shard,
                    at,
                }),
        );
        for timer in self.timers.values().flatten() {
            let earliest = &mut self.planned.earliest_timers;
            earliest.add(timer.tenant, timer.consumer, timer.key.due_ms);
        }
        for row in self.outbox.values().flatten() {
            let earliest = &mut self.planned.earliest_outbox;
            earliest.add(row.tenant, row.channel, row.key.due_ms);
        }
        writes.extend(
            self.timers
                .into_iter()
                .map(|(key, timer)| timer.map_or(Write::DropTimer(key), Write::Timer)),
        );
        writes.extend(
            self.outbox
                .into_iter()
                .map(|(key, row)| row.map_or(Write::DropOutbox(key), Write::Outbox)),
        );
        writes.extend(self.keys.into_iter().map(|(key, row)| Write::Key(key, row)));
        writes.extend(self.keys_changed.into_iter().map(Write::KeysChanged));
        if self.state.redo.on {
            let entry = Entry {
                unix_ms: self.now_ms,
                through: self.planned.last,
                documents: (writes.iter())
                    .filter_map(|write| match write {
                        Write::Document { at, .. } => Some(*at),
                        _ => None,
                    })
                    .collect(),
                stale: self.stale,
                changes: writes.iter().filter_map(Change::of).collect(),
            };
            if !entry.documents.is_empty() || !entry.changes.is_empty() {
                writes.push(self.planned.redo.append(&entry));
            }
        }
        for write in std::mem::take(&mut self.trimmed) {
            match write {
                Write::Meta { name, value } => drop(self.metas.insert(name, value)),
                write => writes.push(write),
            }
        }
        writes.extend(
            self.metas
                .into_iter()
                .map(|(name, value)| Write::Meta { name, value }),
        );
        self.planned.writes = writes;
        Ok(self.planned)
    }
}

//! Taking a backup.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tlog_tiles::record_hash;

use super::manifest::{Manifest, Part, Position, put_with_mac};
use super::prune::SEGMENT_ENDING;
use super::secrets::{self, KeyFiles, METAS, each_key, metas, shred, shredded};
use super::segment::{Frame, Parts};
use super::target::BackupTarget;
use crate::backend::{Backend, Snapshot, Table};
use crate::outer::{Layer, LayerStates, take_off};
use crate::redo::{Change, Redo, chains, entry_of};
use crate::root_key::encode_hex;
use crate::rows::{Header, SealedBy};
use crate::shared::Core;
use crate::token_rotation::find_postings;
use crate::tree::{Heads, Tree, sha256};
use crate::writer::{CHECKPOINT, Request};
use crate::{Hit, Ledger, LedgerError, Number, OutboxKey, SHARDS, Shard, TimerKey, Token};

/// The meta row of the moment that the newest backup shows, by the care clock.
pub(super) const BACKED_UP: &str = "backed-up";
const PAGE: usize = 256;
/// Documents of a whole backup whose tokens are gathered at once.
const WINDOW: usize = 65_536;

/// What a backup took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupReport {
    /// The chain that it belongs to.
    pub chain: String,
    /// Its place in the chain; 1 is a whole backup, the others are what came since.
    pub backup: u32,
    /// Groups of commits.
    pub groups: u64,
    /// Document versions.
    pub documents: u64,
    /// Audit leaves.
    pub leaves: u64,
    /// Bytes written for them.
    pub bytes: u64,
    /// The earliest moment that the chain can restore.
    pub first: Position,
    /// The moment of this backup.
    pub last: Position,
    /// The signed checkpoint over all leaves of the chain: keep it elsewhere too.
    pub checkpoint: String,
}

impl Ledger {
    /// Backs up what has come since the last backup to the same place, or everything if there is
    /// none that goes on from here, or `whole` asks for it. Rows are copied sealed as they are
    /// stored; commits go on meanwhile. A store in PostgreSQL is taken whole each time. A backup that fails or is killed leaves the one before as it
    /// was, and can be run again. `progress` is told the number of documents taken so far.
    ///
    /// # Errors
    /// `Damaged` when the store's audit does not hold or the target's files are not those that this
    /// store wrote, `Invalid` when another backup is running or the target says that a tenant was destroyed that is
    /// there, `Storage`, `Closed`.
    pub async fn backup(
        &self,
        target: Arc<dyn BackupTarget>,
        whole: bool,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<BackupReport, LedgerError> {
        let Ok(alone) = self.backing_up().try_lock_owned() else {
            return Err(LedgerError::Invalid("another backup is running"));
        };
        let wanted = Wanted::default();
        // Should nobody wait for the outcome any more, the work ends soon.
        let _while_wanted = wanted.clone();
        let core = self.shared_core();
        let backend = self.backend()?;
        // A store that others write to has no one order of groups, so it keeps no redo log, and each
        // backup of it is a whole one.
        let has_redo = backend.shared().is_none();
        if has_redo {
            // From here on nothing is forgotten that the next backup needs.
            self.ask(1, Request::StartRedo).await?;
        }
        let whole = whole || !has_redo;
        // Whoever is next waits until this one is really over, and not only until nobody waits for it.
        let taking = tokio::task::spawn_blocking(move || {
            let _held = target.hold()?;
            let snapshot = backend.long_snapshot();
            let place = Place {
                core: &core,
                backend: &*backend,
                target: &*target,
                progress: &progress,
                wanted: &wanted,
            };
            let outcome = Taking::new(place, &*snapshot)?.run(whole);
            if outcome.is_err() && !wanted.by_somebody_else() {
                tracing::warn!(
                    "a backup was cut off by who had asked for it; the one before stands"
                );
            }
            outcome.map(|(report, taken)| (report, taken, alone))
        });
        let (report, taken, _alone) =
            (taking.await).map_err(|error| LedgerError::Storage(error.to_string()))??;
        let moment = (BACKED_UP.to_owned(), encode_moment(report.last.unix_ms));
        self.ask(1, |reply| Request::Meta(vec![moment], reply))
            .await?;
        if !has_redo {
            return Ok(report);
        }
        let chain = report.chain.clone();
        self.ask(1, |reply| Request::RedoTaken(chain, taken, reply))
            .await?;
        self.trim_redo().await?;
        Ok(report)
    }

    /// The moment that the newest backup shows, to whichever place it went; none before the first. A store that was
    /// restored knows of none: what was copied is what it was restored from.
    ///
    /// # Errors
    /// `Damaged`, `Storage`, `Closed`.
    pub async fn last_backup_ms(&self) -> Result<Option<u64>, LedgerError> {
        last_backup(&*self.backend()?.now())
    }

    /// Removes what all chains have taken from the redo log.
    pub(super) async fn trim_redo(&self) -> Result<(), LedgerError> {
        let below = {
            let snapshot = self.backend()?.snapshot();
            let first = Redo::load(&*snapshot)?.first;
            // A chain that the log has left behind can't go on, so nothing is kept for it.
            (chains(&*snapshot)?.into_iter())
                .map(|(_, taken)| taken + 1)
                .filter(|next| *next >= first)
                .min()
        };
        let Some(below) = below else {
            return Ok(());
        };
        while self.ask(1, |reply| Request::TrimRedo(below, reply)).await? {}
        Ok(())
    }
}

fn encode_moment(unix_ms: u64) -> Vec<u8> {
    unix_ms.to_be_bytes().to_vec()
}

/// The moment that the newest backup shows.
pub(crate) fn last_backup(rows: &dyn Snapshot) -> Result<Option<u64>, LedgerError> {
    let Some(row) = rows.meta(BACKED_UP)?.filter(|row| !row.is_empty()) else {
        return Ok(None);
    };
    let bytes = row.as_slice().try_into().map_err(|_| {
        LedgerError::Damaged("the moment of the newest backup does not decode".to_owned())
    })?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

/// Held by who waits for a backup and by who takes it.
#[derive(Clone, Default)]
struct Wanted(Arc<()>);

impl Wanted {
    fn by_somebody_else(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// What a backup is taken of, and where it goes.
struct Place<'a> {
    core: &'a Core,
    backend: &'a dyn Backend,
    target: &'a dyn BackupTarget,
    progress: &'a (dyn Fn(u64) + Send + Sync),
    wanted: &'a Wanted,
}

impl Place<'_> {
    /// Fails when nobody waits for the backup any more.
    fn check_wanted(&self) -> Result<(), LedgerError> {
        if self.wanted.by_somebody_else() {
            return Ok(());
        }
        Err(LedgerError::Storage("the backup was cut off".into()))
    }
}

struct Taking<'a> {
    place: Place<'a>,
    snapshot: &'a dyn Snapshot,
    manifest: Manifest,
    /// Tells the files of this try from those of others that failed or run at the same time.
    attempt: String,
    /// How the names of this backup's files begin.
    prefix: String,
    parts: Parts,
    report: BackupReport,
    /// Where the store's tokens lie, and where the backup's.
    states: LayerStates,
    layer: Option<Layer>,
}

/// How the names of the files of a backup begin.
fn prefix(chain: &str, backup: u32, attempt: &str) -> String {
    format!("{chain}-{backup:06}-{attempt}")
}

impl<'a> Taking<'a> {
    fn new(place: Place<'a>, snapshot: &'a dyn Snapshot) -> Result<Self, LedgerError> {
        let core = place.core;
        let mut id = [0; 8];
        core.entropy.fill(&mut id);
        let mut attempt = [0; 4];
        core.entropy.fill(&mut attempt);
        let attempt = encode_hex(&attempt);
        let last = Position {
            number: snapshot.last_number()?,
            unix_ms: core.clock.now_ms(),
        };
        let chain = encode_hex(&id);
        Ok(Self {
            place,
            snapshot,
            prefix: prefix(&chain, 1, &attempt),
            attempt,
            parts: Parts::new(),
            report: BackupReport {
                chain: chain.clone(),
                backup: 1,
                groups: 0,
                documents: 0,
                leaves: 0,
                bytes: 0,
                first: last,
                last,
                checkpoint: String::new(),
            },
            manifest: Manifest {
                format: Manifest::FORMAT,
                store: core.signer.origin().to_owned(),
                chain,
                backups: 1,
                first: last,
                last,
                redo: Redo::load(snapshot)?.next - 1,
                parts: Vec::new(),
                keys: Vec::new(),
                checkpoint: String::new(),
                tokens: None,
            },
            states: LayerStates::read(snapshot)?,
            layer: None,
        })
    }

    /// Takes the backup; gives the report and up to where the redo log is in.
    fn run(mut self, whole: bool) -> Result<(BackupReport, u64), LedgerError> {
        let Place { core, target, .. } = self.place;
        // Said before hours of copying, and looked at again at the end.
        secrets::known(target, &core.backup_key)?.leave_living(
            self.snapshot,
            &core.root_wrap(),
            &core.backup_key,
        )?;
        let known = Manifest::all(target, &core.backup_key)?;
        let goes_on = if whole {
            None
        } else {
            known
                .into_iter()
                .rev()
                .find_map(|chain| self.goes_on_from(chain).transpose())
        };
        let mut trees = vec![Tree::default(); usize::from(SHARDS)];
        let keys = match goes_on.transpose()? {
            None => {
                if !self.states.is_empty() {
                    let core = self.place.core;
                    let layer = (self.manifest).hide_tokens(&core.backup_key, &*core.entropy);
                    self.layer = Some(layer);
                }
                self.everything()?;
                self.all_keys()?
            }
            Some((chain, from)) => {
                trees = from;
                let taken = chain.redo;
                self.go_on(chain);
                self.layer = self.manifest.layer(&self.place.core.backup_key)?;
                let changed = self.since(taken)?;
                self.changed_keys(&changed)?
            }
        };
        self.leaves(&mut trees)?;
        let checkpoint = (self.place.core.signer).sign(&trees, self.report.last.unix_ms)?;
        self.push(&Frame::End {
            checkpoint: checkpoint.clone(),
        })?;
        let last_part = std::mem::replace(&mut self.parts, Parts::new()).finish();
        self.put_part(&last_part)?;
        self.manifest.keys.extend(keys);
        self.manifest.checkpoint.clone_from(&checkpoint);
        let Place {
            core,
            target,
            backend,
            ..
        } = self.place;
        let key = &core.backup_key;
        // As it is now, and not as it was when the backup began: this may have taken hours.
        let list = shredded(&*backend.now(), &core.root_wrap())?;
        let mut destroyed = shred(target, key, &*core.entropy, list)?;
        destroyed.leave_living(&*backend.now(), &core.root_wrap(), key)?;
        put_with_mac(target, key, METAS, metas(self.snapshot, &destroyed)?)?;
        self.place.check_wanted()?;
        // Only now is the backup part of the chain.
        self.manifest.put(target, key)?;
        self.report.checkpoint = checkpoint;
        Ok((self.report, self.manifest.redo))
    }

    /// The trees as a chain has them, if this store goes on from there.
    fn goes_on_from(&self, chain: Manifest) -> Result<Option<(Manifest, Vec<Tree>)>, LedgerError> {
        let redo = Redo::load(self.snapshot)?;
        let ours = chain.store == self.place.core.signer.origin();
        if !ours {
            return Err(LedgerError::Invalid(
                "the target holds the backups of another store; give each store a place of its own",
            ));
        }
        // A chain whose manifest knows more than the store was told of was killed between the two; one
        // that knows less is an older copy.
        let known = (chains(self.snapshot)?.into_iter()).any(|(name, _)| name == chain.chain);
        // A chain in which the first secret tells what a token stands for does not go on once that is over.
        let is_bare = chain.tokens.is_none() && !self.states.is_empty();
        if is_bare || !redo.on || !known || chain.redo + 1 < redo.first || chain.redo >= redo.next {
            return Ok(None);
        }
        let heads = self
            .place
            .core
            .signer
            .verify(&chain.checkpoint)
            .ok_or_else(|| {
                LedgerError::Damaged("the checkpoint of the last backup does not hold".into())
            })?;
        let mut trees = vec![Tree::default(); usize::from(SHARDS)];
        for (shard, size, root) in heads.trees {
            let holds = size <= self.snapshot.tree_size(shard)?;
            let tree = if holds {
                Tree::load(self.snapshot, shard, size)?
            } else {
                Tree::default()
            };
            if !holds || tree.root()? != root {
                return Err(LedgerError::Damaged(format!(
                    "audit tree {shard} does not go on from the last backup: run `cairn audit verify`, and see in \
                     docs/operations.md what to do after a restore"
                )));
            }
            trees[usize::from(shard.0)] = tree;
        }
        Ok(Some((chain, trees)))
    }

    /// This backup becomes the next one of a chain.
    fn go_on(&mut self, chain: Manifest) {
        let (last, redo) = (self.manifest.last, self.manifest.redo);
        self.manifest = Manifest {
            backups: chain.backups + 1,
            last,
            redo,
            ..chain
        };
        self.prefix = prefix(&self.manifest.chain, self.manifest.backups, &self.attempt);
        self.report.chain.clone_from(&self.manifest.chain);
        self.report.backup = self.manifest.backups;
        self.report.first = self.manifest.first;
    }

    fn push(&mut self, frame: &Frame) -> Result<(), LedgerError> {
        match frame {
            Frame::Group { .. } => self.report.groups += 1,
            Frame::Document { .. } => {
                self.report.documents += 1;
                if self.report.documents.is_multiple_of(1024) {
                    (self.place.progress)(self.report.documents);
                    self.place.check_wanted()?;
                }
            }
            Frame::Leaf { .. } => self.report.leaves += 1,
            Frame::Change(_) | Frame::End { .. } => {}
        }
        match self.parts.push(frame) {
            Some(part) => self.put_part(&part),
            None => Ok(()),
        }
    }

    fn put_part(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let name = format!(
            "{}-{:06}{SEGMENT_ENDING}",
            self.prefix,
            self.manifest.parts.len()
        );
        self.place.check_wanted()?;
        self.place.target.put(&name, bytes)?;
        self.report.bytes += bytes.len() as u64;
        self.manifest.parts.push(Part {
            name,
            bytes: bytes.len() as u64,
            sha256: encode_hex(&sha256(bytes)),
        });
        Ok(())
    }

    fn document(&mut self, at: Hit, tokens: Vec<Token>) -> Result<(), LedgerError> {
        let row = self.snapshot.document(at)?.ok_or_else(|| {
            LedgerError::Damaged(format!(
                "document {}/{} is missing; run `cairn doctor`",
                at.shard, at.number.0
            ))
        })?;
        let tokens = self.hidden(at, &row, tokens)?;
        self.push(&Frame::Document { at, tokens, row })
    }

    /// Tokens as they lie in the backup: behind no layer of the store's, which come and go, but behind
    /// that of the chain.
    fn hidden(
        &self,
        at: Hit,
        row: &[u8],
        mut tokens: Vec<Token>,
    ) -> Result<Vec<Token>, LedgerError> {
        if self.states.is_empty() || tokens.is_empty() {
            return Ok(tokens);
        }
        let tenant = Header::decode(row)?.0.key.tenant;
        let version = self.states.of(tenant).version_at(at);
        let outer = self.place.core.layer(self.snapshot, tenant, version)?;
        for token in &mut tokens {
            let inner = take_off(&outer, *token);
            *token = (self.layer.as_ref()).map_or(inner, |layer| layer.put_on(inner));
        }
        Ok(tokens)
    }

    /// A whole backup: all that the store holds, as one group.
    fn everything(&mut self) -> Result<(), LedgerError> {
        let Position { number, unix_ms } = self.report.last;
        self.push(&Frame::Group {
            unix_ms,
            through: number,
        })?;
        let mut window = Vec::new();
        let mut place = Hit {
            number: Number(0),
            shard: Shard(0),
        };
        loop {
            let page = self.snapshot.places(place, PAGE)?;
            let count = page.len();
            place = page.last().copied().unwrap_or(place);
            for at in page {
                window.push((at, self.snapshot.posted(at)?));
            }
            if window.len() >= WINDOW || count < PAGE {
                self.find_tokens(&mut window)?;
                for (at, tokens) in window.drain(..) {
                    self.document(at, tokens)?;
                }
            }
            if count < PAGE {
                break;
            }
        }
        self.timers_and_outbox()?;
        let mut after = None;
        loop {
            let page = self.snapshot.scan(Table::Cursor, after.as_ref(), PAGE)?;
            let count = page.len();
            for row in &page {
                if let Some(change) = Change::of(row) {
                    self.push(&Frame::Change(change))?;
                }
            }
            after = page.into_iter().last();
            if count < PAGE {
                return Ok(());
            }
        }
    }

    /// Finds the tokens of audit documents that an earlier program wrote, which had no list of them.
    fn find_tokens(&self, window: &mut [(Hit, Vec<Token>)]) -> Result<(), LedgerError> {
        let mut missing: HashMap<Hit, Vec<Token>> = HashMap::new();
        for (at, tokens) in window.iter() {
            if !tokens.is_empty() {
                continue;
            }
            if let Some(row) = self.snapshot.document(*at)?
                && Header::decode(&row)?.0.sealed_by == SealedBy::Audit
            {
                missing.insert(*at, Vec::new());
            }
        }
        find_postings(self.snapshot, &mut missing)?;
        for (at, tokens) in window {
            if let Some(found) = missing.remove(at) {
                *tokens = found;
            }
        }
        Ok(())
    }

    fn timers_and_outbox(&mut self) -> Result<(), LedgerError> {
        let mut from = TimerKey {
            shard: Shard(0),
            due_ms: 0,
            id: [0; 16],
        };
        loop {
            let page = self.snapshot.timers(from, u64::MAX, PAGE)?;
            let next = (page.last().filter(|_| page.len() == PAGE)).and_then(|last| {
                crate::due::following(last.key.due_ms, last.key.shard, last.key.id)
            });
            for timer in page {
                self.push(&Frame::Change(Change::Timer(timer)))?;
            }
            let Some((due_ms, shard, id)) = next else {
                break;
            };
            from = TimerKey { shard, due_ms, id };
        }
        let mut from = OutboxKey {
            shard: Shard(0),
            due_ms: 0,
            id: [0; 16],
        };
        loop {
            let page = self.snapshot.outbox(from, u64::MAX, PAGE)?;
            let next = (page.last().filter(|_| page.len() == PAGE)).and_then(|last| {
                crate::due::following(last.key.due_ms, last.key.shard, last.key.id)
            });
            for row in page {
                self.push(&Frame::Change(Change::Outbox(row)))?;
            }
            let Some((due_ms, shard, id)) = next else {
                return Ok(());
            };
            from = OutboxKey { shard, due_ms, id };
        }
    }

    /// All groups behind a sequence; gives whose keys have changed.
    fn since(&mut self, taken: u64) -> Result<BTreeSet<crate::backend::SubjectKey>, LedgerError> {
        let mut subjects = BTreeSet::new();
        let mut sequence = taken;
        loop {
            let page = self.snapshot.redo(sequence, PAGE)?;
            let count = page.len();
            for (found, row) in page {
                if found != sequence + 1 {
                    return Err(LedgerError::Damaged(format!(
                        "redo row {} is missing; take a whole backup with --whole",
                        sequence + 1
                    )));
                }
                sequence = found;
                let (_, entry) = entry_of(&row)?;
                self.push(&Frame::Group {
                    unix_ms: entry.unix_ms,
                    through: entry.through,
                })?;
                for at in entry.documents {
                    let tokens = self.snapshot.posted(at)?;
                    self.document(at, tokens)?;
                }
                for change in entry.changes {
                    if let Change::Key(subject) = change {
                        subjects.insert(subject);
                    } else {
                        self.push(&Frame::Change(change))?;
                    }
                }
            }
            if count < PAGE {
                return Ok(subjects);
            }
        }
    }

    fn key_files(&self) -> KeyFiles<'a> {
        let Place { core, target, .. } = self.place;
        KeyFiles::new(target, &core.backup_key, self.prefix.clone())
    }

    fn all_keys(&self) -> Result<Vec<String>, LedgerError> {
        let mut files = self.key_files();
        each_key(self.snapshot, |key, row| files.push(&key, &row))?;
        files.finish()
    }

    fn changed_keys(
        &self,
        changed: &BTreeSet<crate::backend::SubjectKey>,
    ) -> Result<Vec<String>, LedgerError> {
        let mut files = self.key_files();
        for subject in changed {
            if let Some(row) = self.snapshot.key(subject)? {
                files.push(subject, &row)?;
            }
        }
        files.finish()
    }

    /// The leaves that have come, checked against the newest checkpoint that the store signed: what
    /// is signed for the backup must go on from there.
    fn leaves(&mut self, trees: &mut [Tree]) -> Result<(), LedgerError> {
        let signed = (self.snapshot.meta(CHECKPOINT)?)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| self.place.core.signer.verify(&text))
            .ok_or_else(|| {
                LedgerError::Damaged("the signature of the newest checkpoint does not hold".into())
            })?;
        for (shard, tree) in (0..SHARDS).map(Shard).zip(trees) {
            loop {
                let page = self.snapshot.leaves(shard, tree.size(), PAGE)?;
                let count = page.len();
                for (index, record) in page {
                    if index != tree.size() {
                        return Err(LedgerError::Damaged(format!(
                            "leaf {} of audit tree {shard} is missing; run `cairn doctor`",
                            tree.size()
                        )));
                    }
                    tree.append(record_hash(&record))?;
                    check_signed(&signed, shard, tree)?;
                    self.push(&Frame::Leaf {
                        shard,
                        index,
                        record,
                    })?;
                }
                if count < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn check_signed(signed: &Heads, shard: Shard, tree: &Tree) -> Result<(), LedgerError> {
    match signed.of(shard) {
        Some((size, root)) if size == tree.size() && tree.root()? != root => {
            Err(LedgerError::Damaged(format!(
                "audit tree {shard} is not the one that was signed, so it is not backed up; run `cairn audit verify`"
            )))
        }
        _ => Ok(()),
    }
}

//! Restoring: the groups of a chain are played, up to a moment, into an empty store.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tlog_tiles::record_hash;

use super::manifest::{Manifest, Position, get_with_mac};
use super::play::{Layers, Player};
use super::secrets::{METAS, SHRED_LIST, Shredded, decode_metas, open_shred_list, read_keys};
use super::segment::{Frame, frames};
use super::target::BackupTarget;
use super::{OUTBOX_HELD, RESTORING};
use crate::backend::{Backend, KeyRow, Write};
use crate::bootstrap::{root_of, signer_of, unwrap_32};
use crate::embedded::FjallBackend;
use crate::keys::Secret;
use crate::outer::{Layer, LayerState, LayerStates, TOKEN_KEY, TOKENS, token_key_row};
use crate::root_key::encode_hex;
use crate::rows::Leaf;
use crate::tree::{Signer, Tree, sha256};
use crate::writer::{CHECKPOINT, MetaRow, NUMBER_FLOOR};
use crate::{
    AuditReport, Entropy, Ledger, LedgerError, Location, Number, OpenOptions, RootKey, SHARDS,
    Shard, TenantId,
};

/// Up to which moment to restore. Whole groups of commits only: what became durable at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The moment of the newest backup.
    Newest,
    /// Right after this number became durable.
    Number(Number),
    /// The last group that was written at this time or before, milliseconds since the Unix epoch.
    Time(u64),
}

/// How to restore.
pub struct RestoreOptions {
    /// Where the backup is.
    pub source: Arc<dyn BackupTarget>,
    /// The new store: a folder that is empty or not there yet.
    pub open: OpenOptions,
    /// Up to when.
    pub to: Moment,
    /// Which chain of backups; the newest one that holds the moment if not given.
    pub chain: Option<String>,
    /// Further lists of destroyed patients and tenants, as [`Ledger::shred_list`] makes them. The backup's own list is
    /// always applied, whatever the moment.
    pub shred_lists: Vec<Vec<u8>>,
    /// Lets the outbox go at once. If not, nothing leaves it until [`Ledger::release_outbox`]: what
    /// was sent between the moment and the loss would be sent again.
    pub release_outbox: bool,
}

/// What was restored.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The chain.
    pub chain: String,
    /// The moment that the store is of.
    pub at: Position,
    /// The latest moment that the chain holds.
    pub latest: Position,
    /// Document versions.
    pub documents: u64,
    /// Audit leaves.
    pub leaves: u64,
    /// Patients whose key is destroyed.
    pub destroyed_keys: u64,
    /// Tenants whose keys are.
    pub destroyed_tenants: u64,
    /// Entries that lie in the outbox.
    pub outbox: u64,
    /// Whether nothing leaves the outbox until it is released.
    pub outbox_held: bool,
    /// How the check of the whole audit came out: it is sound, or restoring is an error.
    pub audit: AuditReport,
}

/// Restores a backup into an empty folder and checks all of it by the audit trees. Until it is done
/// the folder can't be opened as a store.
///
/// `progress` is told the number of documents restored so far.
///
/// # Errors
/// `Invalid` when the folder is not empty, `NoSuchMoment` when no chain holds the moment, `RootKey` when the key is
/// another store's, `Damaged` when a file of the backup is missing, is not what was written, or the
/// audit does not hold; `Storage`.
pub async fn restore(
    options: RestoreOptions,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<RestoreReport, LedgerError> {
    let Location::Folder(path) = options.open.location.clone() else {
        return Err(LedgerError::Invalid("a restore goes into a folder"));
    };
    check_empty(&path)?;
    // Before anything is in the folder, so that who asked for the wrong moment need not empty it.
    let (open, wanted) = Wanted::of(options);
    let prepared = wanted.prepare().await?;
    let backend = FjallBackend::open(&path, open.cache_bytes)?;
    prepared.play_into(Arc::new(backend), open, progress).await
}

fn check_empty(path: &Path) -> Result<(), LedgerError> {
    let failed = |error| LedgerError::Storage(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(path).map_err(failed)?;
    if (std::fs::read_dir(path).map_err(failed)?).next().is_some() {
        return Err(LedgerError::Invalid(
            "a restore needs an empty folder: nothing is ever restored over a store",
        ));
    }
    Ok(())
}

/// Restores into an empty store of any kind.
#[cfg(test)]
pub(crate) async fn restore_on(
    backend: Arc<dyn Backend>,
    options: RestoreOptions,
    progress: impl Fn(u64) + Send + Sync + 'static,
) -> Result<RestoreReport, LedgerError> {
    let (open, wanted) = Wanted::of(options);
    let prepared = wanted.prepare().await?;
    prepared.play_into(backend, open, progress).await
}

fn meta(name: &str, value: Vec<u8>) -> Write {
    Write::Meta {
        name: name.to_owned(),
        value,
    }
}

/// Whether a meta row is the key of a layer that no token is behind.
fn is_token_key(row: &Write, states: &LayerStates) -> bool {
    let Write::Meta { name, .. } = row else {
        return false;
    };
    let newest = |(tenant, state): (TenantId, LayerState)| token_key_row(tenant, state.version);
    name.starts_with(TOKEN_KEY) && !states.each().map(newest).any(|newest| newest == *name)
}

struct Wanted {
    root_key: RootKey,
    source: Arc<dyn BackupTarget>,
    to: Moment,
    chain: Option<String>,
    shred_lists: Vec<Vec<u8>>,
    release_outbox: bool,
    entropy: Arc<dyn Entropy>,
    now_ms: u64,
}

/// How far playing has come.
struct Played {
    at: Position,
    /// Whether the moment has been reached: groups that follow are of the lost future.
    reached: bool,
    groups: u64,
    /// All leaves of the segments read, and those of the moment.
    trees: Vec<Tree>,
    kept: Vec<Tree>,
    leaves: u64,
}

impl Wanted {
    fn of(options: RestoreOptions) -> (OpenOptions, Self) {
        let open = options.open;
        let wanted = Self {
            root_key: open.root_key.clone(),
            source: options.source,
            to: options.to,
            chain: options.chain,
            shred_lists: options.shred_lists,
            release_outbox: options.release_outbox,
            entropy: Arc::clone(&open.entropy),
            now_ms: open.clock.now_ms(),
        };
        (open, wanted)
    }

    async fn prepare(self) -> Result<Prepared, LedgerError> {
        let preparing = tokio::task::spawn_blocking(move || self.read());
        preparing
            .await
            .map_err(|error| LedgerError::Storage(error.to_string()))?
    }

    /// Reads what the source says of itself, and chooses what to play.
    fn read(self) -> Result<Prepared, LedgerError> {
        let source = &*self.source;
        let nothing = || {
            LedgerError::Damaged(format!(
                "{} holds no backup: the file {METAS} is missing",
                source.describe()
            ))
        };
        // The key that proves the files is itself in one of them, wrapped.
        let raw = source.get(METAS)?.ok_or_else(nothing)?;
        let mut metas = decode_metas(&raw[..raw.len().saturating_sub(32)])?;
        let (signer, key) = signer_of(&self.root_key, |name| {
            let row = metas.iter().find(|(found, _)| found == name);
            row.map(|(_, value)| value.clone()).ok_or_else(|| {
                LedgerError::Damaged(format!("the backup's meta row {name} is missing"))
            })
        })?;
        get_with_mac(source, &key, METAS)?.ok_or_else(nothing)?;
        let all = Manifest::all(source, &key)?;
        let greatest = all.iter().map(|chain| chain.last.number).max();
        let chain = self.choose(all)?;
        let mut shredded = self.shredded(&key)?;
        let root = root_of(&self.root_key, |name| {
            let row = metas.iter().find(|(found, _)| found == name);
            row.map(|(_, value)| value.clone()).ok_or_else(nothing)
        })?;
        shredded.leave_others(&metas, &root, &key)?;
        shredded.end_tenants(&mut metas, &root, &*self.entropy)?;
        Ok(Prepared {
            greatest: greatest.unwrap_or_default(),
            wanted: self,
            metas,
            signer,
            key,
            chain,
            shredded,
        })
    }

    /// The chain to play: the newest that holds the moment.
    fn choose(&self, all: Vec<Manifest>) -> Result<Manifest, LedgerError> {
        let held = all.iter().map(|chain| {
            format!(
                "{}: numbers {} to {}, times {} to {} ms",
                chain.chain,
                chain.first.number.0,
                chain.last.number.0,
                chain.first.unix_ms,
                chain.last.unix_ms
            )
        });
        let held = held.collect::<Vec<_>>().join("; ");
        let holds = |chain: &Manifest| {
            let named = self.chain.as_ref().is_none_or(|name| *name == chain.chain);
            named
                && match self.to {
                    Moment::Newest => true,
                    Moment::Number(number) => {
                        chain.first.number <= number && number <= chain.last.number
                    }
                    Moment::Time(unix_ms) => chain.first.unix_ms <= unix_ms,
                }
        };
        all.into_iter().rev().find(holds).ok_or_else(|| {
            LedgerError::NoSuchMoment(format!(
                "no chain of backups in {} holds that moment. There are: {}",
                self.source.describe(),
                if held.is_empty() { "none" } else { &held }
            ))
        })
    }

    fn shredded(&self, key: &Secret) -> Result<Shredded, LedgerError> {
        let own = self.source.get(SHRED_LIST)?.ok_or_else(|| {
            LedgerError::Damaged(format!(
                "the file {SHRED_LIST} is missing in {}: without it destroyed records would be readable again",
                self.source.describe()
            ))
        })?;
        let mut shredded = open_shred_list(key, &own)?;
        for list in &self.shred_lists {
            shredded.extend(open_shred_list(key, list)?);
        }
        Ok(shredded)
    }
}

/// What is to be played.
struct Prepared {
    wanted: Wanted,
    metas: Vec<MetaRow>,
    signer: Signer,
    /// Proves the files.
    key: Secret,
    chain: Manifest,
    shredded: Shredded,
    /// The greatest number that any chain knows: none up to it is given out again.
    greatest: Number,
}

impl Prepared {
    async fn play_into(
        self,
        backend: Arc<dyn Backend>,
        open: OpenOptions,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<RestoreReport, LedgerError> {
        let into = Arc::clone(&backend);
        let playing = tokio::task::spawn_blocking(move || self.play(&*into, &progress));
        let mut report = playing
            .await
            .map_err(|error| LedgerError::Storage(error.to_string()))??;
        // Until all of it has been checked nobody else opens it, not even after a power cut.
        let ledger = Ledger::open_restored(Arc::clone(&backend), &open)?;
        let checked = ledger.verify_audit(&|_| {}).await;
        ledger.close().await?;
        report.audit = checked?;
        if report.audit.broken.is_some() || !report.audit.checkpoint_ok {
            return Err(LedgerError::Damaged(format!(
                "the audit of what was restored does not hold: {}",
                report.audit.broken.map_or_else(
                    || "the checkpoint is another".to_owned(),
                    |broken| format!(
                        "leaf {} of tree {:02x}: {}",
                        broken.leaf, broken.shard, broken.reason
                    )
                )
            )));
        }
        backend.apply(vec![meta(RESTORING, Vec::new())])?;
        Ok(report)
    }

    fn play(
        self,
        backend: &dyn Backend,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<RestoreReport, LedgerError> {
        if !backend.snapshot().metas("")?.is_empty() {
            return Err(LedgerError::Invalid(
                "a restore needs an empty store: nothing is ever restored over one",
            ));
        }
        backend.apply(vec![meta(RESTORING, vec![1])])?;
        let (played, documents) = self.groups(backend, progress)?;
        self.keys(backend)?;
        let outbox = count_outbox(backend)?;
        let held = !self.wanted.release_outbox;
        let floor = self.greatest.0.to_be_bytes().to_vec();
        let checkpoint = self.signer.sign(&played.kept, self.wanted.now_ms)?;
        let states = self.layer_states()?;
        let mut rows: Vec<Write> = (self.metas.into_iter())
            .map(|(name, value)| Write::Meta { name, value })
            .filter(|row| !is_token_key(row, &states))
            .collect();
        if !states.is_empty() {
            // All tokens were put behind the newest layer.
            rows.retain(|row| !matches!(row, Write::Meta { name, .. } if name == TOKENS));
            rows.push(meta(TOKENS, states.encode()));
        }
        rows.extend([
            meta(CHECKPOINT, checkpoint.into_bytes()),
            meta(NUMBER_FLOOR, floor),
            meta(OUTBOX_HELD, if held { vec![1] } else { Vec::new() }),
        ]);
        backend.apply(rows)?;
        Ok(RestoreReport {
            chain: self.chain.chain,
            at: played.at,
            latest: self.chain.last,
            documents,
            leaves: played.leaves,
            destroyed_keys: self.shredded.patients.len() as u64,
            destroyed_tenants: self.shredded.tenants.len() as u64,
            outbox,
            outbox_held: held,
            audit: AuditReport {
                trees: 0,
                leaves: 0,
                documents: 0,
                broken: None,
                checkpoint_ok: false,
                checkpoint: String::new(),
            },
        })
    }

    /// The newest layers of the store's tokens, on which none is being moved.
    fn layer_states(&self) -> Result<LayerStates, LedgerError> {
        let row = self.metas.iter().find(|(name, _)| name == TOKENS);
        let mut states = match row {
            Some((_, row)) => LayerStates::decode(row)?,
            None => LayerStates::default(),
        };
        for (tenant, state) in states.clone().each() {
            let moving = None;
            states.set(tenant, LayerState { moving, ..state });
        }
        Ok(states)
    }

    fn layers(&self) -> Result<Layers, LedgerError> {
        let find = |name: &str| {
            let row = self.metas.iter().find(|(found, _)| found == name);
            row.map(|(_, value)| value.clone()).ok_or_else(|| {
                LedgerError::Damaged(format!("the backup's meta row {name} is missing"))
            })
        };
        let mut tenants = HashMap::new();
        for (tenant, state) in self.layer_states()?.each() {
            let root = root_of(&self.wanted.root_key, find)?;
            let name = token_key_row(tenant, state.version);
            let secret = unwrap_32(&root, &name, &find(&name)?)?;
            tenants.insert(tenant, Layer::new(&secret));
        }
        let chain = self.chain.layer(&self.key)?;
        Ok(Layers { chain, tenants })
    }

    /// Whether a group is of the moment, given the newest number before it.
    fn takes(&self, before: Option<Number>, unix_ms: u64) -> bool {
        match (self.wanted.to, before) {
            // The first group is the whole backup, which can't be divided.
            (Moment::Newest, _) | (_, None) => true,
            (Moment::Number(number), Some(before)) => before < number,
            (Moment::Time(until_ms), _) => unix_ms <= until_ms,
        }
    }

    /// Plays the groups; gives how far it came, and how many documents there are.
    fn groups(
        &self,
        backend: &dyn Backend,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(Played, u64), LedgerError> {
        let source = &*self.wanted.source;
        let mut player = Player::new(backend, self.layers()?);
        let mut played = Played {
            at: self.chain.first,
            reached: false,
            groups: 0,
            trees: vec![Tree::default(); usize::from(SHARDS)],
            kept: vec![Tree::default(); usize::from(SHARDS)],
            leaves: 0,
        };
        let mut ended = true;
        for part in &self.chain.parts {
            if played.reached && ended {
                // The segment that holds the moment was read to its checkpoint.
                break;
            }
            let bytes = source.get(&part.name)?.ok_or_else(|| {
                LedgerError::Damaged(format!("{} is missing in {}", part.name, source.describe()))
            })?;
            if encode_hex(&sha256(&bytes)) != part.sha256 {
                return Err(LedgerError::Damaged(format!(
                    "{} in {} is not what was written: its SHA-256 is another",
                    part.name,
                    source.describe()
                )));
            }
            for frame in frames(&bytes)? {
                ended = matches!(frame, Ok(Frame::End { .. }));
                self.frame(frame?, &mut player, &mut played)?;
                progress(player.documents());
            }
        }
        if !ended {
            return Err(LedgerError::Damaged(
                "the last segment of the backup is not whole".into(),
            ));
        }
        let documents = player.finish()?;
        Ok((played, documents))
    }

    fn frame(
        &self,
        frame: Frame,
        player: &mut Player<'_>,
        played: &mut Played,
    ) -> Result<(), LedgerError> {
        match frame {
            Frame::Group { unix_ms, through } => {
                let before = (played.groups > 0).then_some(played.at.number);
                played.reached |= !self.takes(before, unix_ms);
                played.groups += 1;
                if !played.reached {
                    played.at = Position {
                        number: through,
                        unix_ms,
                    };
                }
            }
            Frame::Document { at, tokens, row } if !played.reached => {
                player.document(at, tokens, row)?;
            }
            Frame::Change(change) if !played.reached => player.change(change)?,
            Frame::Document { .. } | Frame::Change(_) => {}
            Frame::Leaf {
                shard,
                index,
                record,
            } => {
                let unknown = || LedgerError::Damaged("a backed-up leaf is out of place".into());
                let tree = (played.trees.get_mut(usize::from(shard.0))).ok_or_else(unknown)?;
                if tree.size() != index {
                    return Err(unknown());
                }
                let stored = tree.append(record_hash(&record))?;
                if Leaf::decode(&record)?.audit.number <= played.at.number {
                    played.kept[usize::from(shard.0)] = tree.clone();
                    played.leaves += 1;
                    player.leaf(
                        shard,
                        index,
                        record,
                        stored.into_iter().map(|(_, hash)| hash.0).collect(),
                    )?;
                }
            }
            Frame::End { checkpoint } => check_trees(&self.signer, &checkpoint, &played.trees)?,
        }
        Ok(())
    }

    /// Writes the newest key of every patient, and never one that has been destroyed.
    fn keys(&self, backend: &dyn Backend) -> Result<(), LedgerError> {
        let (source, shredded) = (&*self.wanted.source, &self.shredded.patients);
        // Newest first: what an older file says of the same patient is out of date.
        for name in self.chain.keys.iter().rev() {
            for page in read_keys(source, &self.key, name)?.chunks(1024) {
                let snapshot = backend.snapshot();
                let mut named = BTreeSet::new();
                let mut rows = Vec::new();
                for (subject, row) in page {
                    if !shredded.contains_key(subject)
                        && snapshot.key(subject)?.is_none()
                        && named.insert(*subject)
                    {
                        rows.push(Write::Key(*subject, row.clone()));
                    }
                }
                backend.apply(rows)?;
            }
        }
        let rows: Vec<Write> = (shredded.iter())
            .map(|(subject, at_ms)| Write::Key(*subject, KeyRow::Destroyed { at_ms: *at_ms }))
            .collect();
        backend.apply(rows)
    }
}

/// Whether the trees of all segments so far are those that the backup signed.
fn check_trees(signer: &Signer, checkpoint: &str, trees: &[Tree]) -> Result<(), LedgerError> {
    let heads = signer.verify(checkpoint).ok_or_else(|| {
        LedgerError::Damaged("the signature of a backup's checkpoint does not hold".into())
    })?;
    for (shard, tree) in (0..SHARDS).map(Shard).zip(trees) {
        let signed = heads.of(shard);
        let holds = match signed {
            None => tree.size() == 0,
            Some((size, root)) => size == tree.size() && tree.root()? == root,
        };
        if !holds {
            return Err(LedgerError::Damaged(format!(
                "audit tree {shard} of the backup is not the one that its checkpoint was signed over"
            )));
        }
    }
    Ok(())
}

fn count_outbox(backend: &dyn Backend) -> Result<u64, LedgerError> {
    let snapshot = backend.snapshot();
    let mut count = 0;
    let mut from = crate::OutboxKey {
        shard: Shard(0),
        due_ms: 0,
        id: [0; 16],
    };
    loop {
        let page = snapshot.outbox(from, u64::MAX, 256)?;
        count += page.len() as u64;
        let next = (page.last().filter(|_| page.len() == 256))
            .and_then(|last| crate::due::following(last.key.due_ms, last.key.shard, last.key.id));
        let Some((due_ms, shard, id)) = next else {
            return Ok(count);
        };
        from = crate::OutboxKey { shard, due_ms, id };
    }
}

//! Opening: what the store says of itself, and a new store's first rows.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::{Backend, Snapshot, Touched, Write, turn_at};
use crate::backup::{OUTBOX_HELD, RESTORING};
use crate::codec::Decoder;
use crate::keys::{Salt, Secret, TenantKeys, derive_for};
use crate::outer::TOKEN_KEY;
use crate::plan::State;
use crate::seal::{Choice, Packer, open, seal};
use crate::shared::{Core, Parts};
use crate::tenants::TENANTS;
use crate::tree::{Signer, Tree};
use crate::writer::{CHECKPOINT, MetaRow, load_state};
use crate::{Entropy, LedgerError, Location, Number, OpenOptions, RootKey, SHARDS, TenantId};

/// The format of the store as a whole. Format 1 had a row for each hash of an audit tree, where 2 has
/// them in the rows of leaves; format 2 had a row for each event and each list of tokens, where 3 has
/// rows of several. A store of an earlier format is opened, its rows are read as they are, and it is of
/// format 3 from then on. A store of format 4 is one whose token keys have been rotated: a program of
/// before would search it in vain.
const STORE_FORMAT: u32 = 3;
const STORE_FORMAT_ROTATED: u32 = 4;
/// The same two, of stores to which no program has written that gives no token to what is nobody's: programs that
/// make none refuse these. New stores are of this format, and those in a folder become so when they are opened;
/// one that servers share does not, because a neighbouring version may be among them.
const STORE_FORMAT_OWNERLESS: u32 = 5;
const STORE_FORMAT_OWNERLESS_ROTATED: u32 = 6;
pub(crate) const STORE: &str = "store";
/// The row of the salt and the check of the root key.
pub(crate) const ROOT: &str = "root";
const SIGNER: &str = "signer";
const DICTIONARY: &str = "dictionary/";
pub(crate) const TENANT: &str = "tenant/";
/// The meta row of the number from which on documents have all the tokens that today's programs give
/// them.
const INDEX: &str = "index";
/// The generation of these tokens. It rises when whoever makes tokens makes some that were not made
/// before; then older documents can't be found by them, and are told apart by their numbers. Generation 2
/// came with numbers and quantities; stores of generation 1 have no row.
const INDEX_GENERATION: u32 = 2;
/// The same for the token of documents that are nobody's in particular, which came later.
const INDEX_OWNERLESS: &str = "index/ownerless";
const INDEX_OWNERLESS_GENERATION: u32 = 1;
/// What is sealed under the root key to know it again.
const ROOT_CHECK: &[u8] = b"cairn ledger";
/// The format of the root row: this, the salt of the wrapping key, the sealed check. The first format
/// was the sealed check alone, which has another length.
const ROOT_FORMAT: u8 = 2;
const ROOT_ROW_BYTES: usize = 1 + 32 + 40;
/// The greatest dictionary, bytes; 64 KiB were measured to be enough.
const MAX_DICTIONARY_BYTES: usize = 1 << 20;

/// An opened store.
pub(crate) struct Opened {
    pub(crate) core: Arc<Core>,
    pub(crate) state: State,
    pub(crate) checkpoint: String,
    /// Why the audit trees are not those that were signed, if they are not. Then nothing may be
    /// written: a new checkpoint would vouch for the change.
    pub(crate) suspect: Option<String>,
}

fn dictionary_row(version: u32) -> String {
    format!("{DICTIONARY}{version:08x}")
}

/// A dictionary's bytes, if the store has it.
pub(crate) fn dictionary_of(
    rows: &dyn Snapshot,
    root: &Secret,
    version: u32,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let name = dictionary_row(version);
    let wrapped = rows.meta(&name)?;
    wrapped
        .map(|wrapped| unwrap(root, &name, &wrapped))
        .transpose()
}

/// The meta row of a tenant's first wrapped secret.
pub(crate) fn tenant_row(tenant: TenantId) -> String {
    format!("{TENANT}{:08x}", tenant.0)
}

/// The meta row of one of a tenant's later secrets.
pub(crate) fn tenant_version_row(tenant: TenantId, version: u32) -> String {
    format!("{}/{version:08x}", tenant_row(tenant))
}

/// Wraps one of the store's own secrets for its meta row.
pub(crate) fn wrap(root: &Secret, entropy: &dyn Entropy, name: &str, secret: &[u8]) -> Vec<u8> {
    seal(root, entropy, name.as_bytes(), secret.to_vec())
}

fn unwrap(root: &Secret, name: &str, wrapped: &[u8]) -> Result<Vec<u8>, LedgerError> {
    open(root, name.as_bytes(), wrapped)
        .ok_or_else(|| LedgerError::Damaged(format!("the secret {name} does not unwrap")))
}

pub(crate) fn unwrap_32(root: &Secret, name: &str, wrapped: &[u8]) -> Result<Secret, LedgerError> {
    unwrap(root, name, wrapped)?
        .try_into()
        .map_err(|_| LedgerError::Damaged(format!("the secret {name} has a wrong length")))
}

fn must(snapshot: &dyn Snapshot, name: &str) -> Result<Vec<u8>, LedgerError> {
    snapshot
        .meta(name)?
        .ok_or_else(|| LedgerError::Damaged(format!("the meta row {name} is missing")))
}

/// The salt in the root row, and the sealed check.
fn parse_root(row: &[u8]) -> Result<(Option<Salt>, &[u8]), LedgerError> {
    if row.len() != ROOT_ROW_BYTES {
        return Ok((None, row));
    }
    let mut decoder = Decoder::new(row, "root");
    if decoder.u8()? != ROOT_FORMAT {
        return Err(LedgerError::Damaged(
            "the root row has an unknown format".into(),
        ));
    }
    Ok((Some(decoder.array()?), decoder.rest()))
}

/// Whether a wrapping key is the one that the store's secrets lie under now.
pub(crate) fn opens(snapshot: &dyn Snapshot, root_wrap: &Secret) -> Result<(), LedgerError> {
    opens_row(&must(snapshot, ROOT)?, root_wrap)
}

/// Whether a wrapping key is the one of a root row.
pub(crate) fn opens_row(row: &[u8], root_wrap: &Secret) -> Result<(), LedgerError> {
    let (_, check) = parse_root(row)?;
    checks(root_wrap, check)
}

/// Writes a secret's row if there is none of its name and the key that wraps it is still the store's:
/// whoever rotates the root key compares under the same lock.
fn put_secret(
    backend: &dyn Backend,
    root_wrap: &Secret,
    name: String,
    value: Vec<u8>,
) -> Result<(), LedgerError> {
    let touched = Touched {
        metas: BTreeSet::from([ROOT.to_owned()]),
        ..Touched::default()
    };
    let turn = turn_at(backend, touched)?;
    opens(turn.rows(), root_wrap)?;
    turn.apply(vec![Write::NewMeta { name, value }], &BTreeMap::new())
}

fn checks(root_wrap: &Secret, check: &[u8]) -> Result<(), LedgerError> {
    if open(root_wrap, ROOT.as_bytes(), check).as_deref() == Some(ROOT_CHECK) {
        Ok(())
    } else {
        Err(LedgerError::RootKey(
            "it does not open this store, or not any more since another process rotated it".into(),
        ))
    }
}

/// A fresh wrapping key of a root key, and the root row that goes with it.
fn fresh_root(root_key: &RootKey, entropy: &dyn Entropy) -> Result<(Secret, Vec<u8>), LedgerError> {
    let mut salt = [0; 32];
    entropy.fill(&mut salt);
    let root_wrap = root_key.wrapping_key(Some(&salt))?;
    let check = wrap(&root_wrap, entropy, ROOT, ROOT_CHECK);
    Ok((root_wrap, [&[ROOT_FORMAT][..], &salt, &check].concat()))
}

/// The rows of everything that lies under the root key, and the check of it.
pub(crate) fn secret_rows(snapshot: &dyn Snapshot) -> Result<Vec<MetaRow>, LedgerError> {
    let mut rows = wrapped_rows(snapshot)?;
    rows.push((ROOT.to_owned(), must(snapshot, ROOT)?));
    Ok(rows)
}

/// The rows of everything that lies under the root key, the check of it apart.
fn wrapped_rows(snapshot: &dyn Snapshot) -> Result<Vec<MetaRow>, LedgerError> {
    let mut rows = vec![(SIGNER.to_owned(), must(snapshot, SIGNER)?)];
    for prefix in [DICTIONARY, TENANT, TOKEN_KEY] {
        let there = snapshot.metas(prefix)?.into_iter();
        // A destroyed key has an empty row.
        rows.extend(there.filter(|(_, wrapped)| !wrapped.is_empty()));
    }
    if let Some(list) = snapshot.meta(TENANTS)? {
        rows.push((TENANTS.to_owned(), list));
    }
    Ok(rows)
}

/// Everything that lies under a root key, wrapped anew for another.
pub(crate) struct Rewrapping {
    /// All rows as they were read: if one has come or changed since, the new ones are not all.
    pub(crate) from: Vec<MetaRow>,
    pub(crate) to: Vec<MetaRow>,
}

/// Wraps everything that lies under the root key anew for another; gives that one's wrapping key.
pub(crate) fn rewrap(
    snapshot: &dyn Snapshot,
    old: &Secret,
    new: &RootKey,
    entropy: &dyn Entropy,
) -> Result<(Secret, Rewrapping), LedgerError> {
    opens(snapshot, old)?;
    let (root_wrap, row) = fresh_root(new, entropy)?;
    let from = secret_rows(snapshot)?;
    let mut to = vec![(ROOT.to_owned(), row)];
    for (name, wrapped) in from.iter().filter(|(name, _)| name != ROOT) {
        let secret = unwrap(old, name, wrapped)?;
        let wrapped = wrap(&root_wrap, entropy, name, &secret);
        to.push((name.clone(), wrapped));
    }
    Ok((root_wrap, Rewrapping { from, to }))
}

fn is_set(snapshot: &dyn Snapshot, name: &str) -> Result<bool, LedgerError> {
    Ok(snapshot.meta(name)?.is_some_and(|value| !value.is_empty()))
}

/// The first rows of a new store.
fn found(backend: &dyn Backend, options: &OpenOptions) -> Result<(), LedgerError> {
    let entropy = &*options.entropy;
    let (root, root_row) = fresh_root(&options.root_key, entropy)?;
    let mut id = [0; 16];
    entropy.fill(&mut id);
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    // A checkpoint of nothing, so that a missing one is always a sign of damage.
    let checkpoint = Signer::new(&id, &seed)?.sign(
        &vec![Tree::default(); usize::from(SHARDS)],
        options.clock.now_ms(),
    )?;
    // Another process may be founding the same store: then the rows of the first stand, all of them.
    let row = |name: &str, value: Vec<u8>| Write::NewMeta {
        name: name.to_owned(),
        value,
    };
    backend.apply(vec![
        row(STORE, store_row(STORE_FORMAT_OWNERLESS, &id)),
        row(ROOT, root_row),
        row(SIGNER, wrap(&root, entropy, SIGNER, &seed)),
        row(CHECKPOINT, checkpoint.into_bytes()),
        row(INDEX, index_row(INDEX_GENERATION, Number(0))),
        row(
            INDEX_OWNERLESS,
            index_row(INDEX_OWNERLESS_GENERATION, Number(0)),
        ),
    ])
}

/// generation u32, number u64.
fn index_row(generation: u32, since: Number) -> Vec<u8> {
    [&generation.to_be_bytes()[..], &since.0.to_be_bytes()].concat()
}

/// From which number on documents have the tokens of a generation; notes it where a store was written to by
/// programs that made fewer.
fn indexed_since(
    backend: &dyn Backend,
    (name, generation): (&str, u32),
    last: Number,
) -> Result<Number, LedgerError> {
    if let Some(row) = backend.snapshot().meta(name)? {
        let mut decoder = Decoder::new(&row, "index");
        // A newer program's tokens are these and more.
        if decoder.u32()? >= generation {
            return Ok(Number(decoder.u64()?));
        }
    }
    check_alone(backend)?;
    let since = Number(last.0.saturating_add(1));
    backend.apply(vec![Write::Meta {
        name: name.to_owned(),
        value: index_row(generation, since),
    }])?;
    Ok(since)
}

fn store_row(format: u32, id: &[u8; 16]) -> Vec<u8> {
    [&format.to_be_bytes()[..], &SHARDS.to_be_bytes(), id].concat()
}

/// From which number on documents that are nobody's have their token; none where programs may write to the store
/// that give them none.
fn ownerless_since(
    backend: &dyn Backend,
    (format, id): (u32, &[u8; 16]),
    last: Number,
) -> Result<Number, LedgerError> {
    let becomes = match format {
        STORE_FORMAT_OWNERLESS | STORE_FORMAT_OWNERLESS_ROTATED => None,
        _ if backend.shared().is_some() => return Ok(Number(u64::MAX)),
        STORE_FORMAT_ROTATED => Some(STORE_FORMAT_OWNERLESS_ROTATED),
        _ => Some(STORE_FORMAT_OWNERLESS),
    };
    if let Some(format) = becomes {
        // What other programs have written since such a row was noted has no token.
        let since = Number(last.0.saturating_add(1));
        let meta = |name: &str, value| Write::Meta {
            name: name.to_owned(),
            value,
        };
        backend.apply(vec![
            meta(STORE, store_row(format, id)),
            meta(
                INDEX_OWNERLESS,
                index_row(INDEX_OWNERLESS_GENERATION, since),
            ),
        ])?;
        return Ok(since);
    }
    let of_ownerless = (INDEX_OWNERLESS, INDEX_OWNERLESS_GENERATION);
    indexed_since(backend, of_ownerless, last)
}

/// The row that says that the store's token keys have been rotated.
pub(crate) fn rotated_store_row(snapshot: &dyn Snapshot) -> Result<MetaRow, LedgerError> {
    let (format, id) = store_id(&must(snapshot, STORE)?)?;
    let rotated = match format {
        STORE_FORMAT_OWNERLESS | STORE_FORMAT_OWNERLESS_ROTATED => STORE_FORMAT_OWNERLESS_ROTATED,
        _ => STORE_FORMAT_ROTATED,
    };
    Ok((STORE.to_owned(), store_row(rotated, &id)))
}

/// The store's format and name.
fn store_id(store: &[u8]) -> Result<(u32, [u8; 16]), LedgerError> {
    let mut decoder = Decoder::new(store, "store");
    let format = decoder.u32()?;
    if !(1..=STORE_FORMAT_OWNERLESS_ROTATED).contains(&format) {
        return Err(LedgerError::Storage(format!(
            "the store has format {format}, and this program knows 1 to {STORE_FORMAT_OWNERLESS_ROTATED}: open it with \
             the program that wrote it, or a newer one"
        )));
    }
    let shards = decoder.u16()?;
    if shards != SHARDS {
        return Err(LedgerError::Storage(format!(
            "the store has {shards} shards, and this program has {SHARDS}"
        )));
    }
    let id = decoder.array()?;
    decoder.end()?;
    Ok((format, id))
}

/// Stores a dictionary under the next version that is free: another process may take one for another
/// dictionary at the same time.
fn keep_dictionary(
    backend: &dyn Backend,
    root: &Secret,
    options: &OpenOptions,
    dictionaries: &mut HashMap<u32, Vec<u8>>,
    bytes: &[u8],
) -> Result<u32, LedgerError> {
    loop {
        let version = dictionaries.keys().max().unwrap_or(&0) + 1;
        let name = dictionary_row(version);
        // Sealed, because a dictionary trained on patients' records is made of them.
        let value = wrap(root, &*options.entropy, &name, bytes);
        put_secret(backend, root, name, value)?;
        let stored = dictionary_of(&*backend.now(), root, version)?.ok_or_else(|| {
            LedgerError::Damaged(format!(
                "dictionary {version} is missing after it was stored"
            ))
        })?;
        let is_ours = stored == bytes;
        dictionaries.insert(version, stored);
        if is_ours {
            return Ok(version);
        }
    }
}

/// All dictionaries, and which are for new bodies; those that are new to the store are stored.
fn packer(
    backend: &dyn Backend,
    snapshot: &dyn Snapshot,
    root: &Secret,
    options: &OpenOptions,
) -> Result<Packer, LedgerError> {
    let mut dictionaries = HashMap::new();
    for (name, wrapped) in snapshot.metas(DICTIONARY)? {
        let version = u32::from_str_radix(&name[DICTIONARY.len()..], 16)
            .map_err(|_| LedgerError::Damaged(format!("the meta row {name} has a wrong name")))?;
        dictionaries.insert(version, unwrap(root, &name, &wrapped)?);
    }
    let mut choice = Choice::default();
    for dictionary in &options.dictionary {
        if dictionary.bytes.is_empty() || dictionary.bytes.len() > MAX_DICTIONARY_BYTES {
            return Err(LedgerError::Invalid(
                "a dictionary has at least a byte and at most 1 MiB",
            ));
        }
        let known = dictionaries
            .iter()
            .find(|(_, bytes)| **bytes == dictionary.bytes)
            .map(|(version, _)| *version);
        let version = match known {
            Some(version) => version,
            None => keep_dictionary(backend, root, options, &mut dictionaries, &dictionary.bytes)?,
        };
        if dictionary.kinds.is_empty() {
            choice.other = version;
        }
        for kind in &dictionary.kinds {
            choice.by_kind.insert(*kind, version);
        }
    }
    Ok(Packer::new(choice, &dictionaries))
}

/// The keys of all tenants; nothing for those whose keys have been destroyed.
fn tenants(
    snapshot: &dyn Snapshot,
    root: &Secret,
) -> Result<HashMap<TenantId, Option<Arc<TenantKeys>>>, LedgerError> {
    let mut tenants = HashMap::new();
    // By name, so a tenant's first secret comes before its others.
    for (name, _) in snapshot.metas(TENANT)? {
        let number = name[TENANT.len()..].split('/').next().unwrap_or_default();
        let tenant = u32::from_str_radix(number, 16)
            .map(TenantId)
            .map_err(|_| LedgerError::Damaged(format!("the meta row {name} has a wrong name")))?;
        if let Entry::Vacant(entry) = tenants.entry(tenant) {
            let keys = match tenant_keys(snapshot, root, tenant) {
                Ok(Some(keys)) => Some(Arc::new(keys)),
                Ok(None) => {
                    let row = tenant_row(tenant);
                    return Err(LedgerError::Damaged(format!(
                        "the meta row {row} is missing"
                    )));
                }
                Err(LedgerError::KeyDestroyed) => None,
                Err(error) => return Err(error),
            };
            entry.insert(keys);
        }
    }
    Ok(tenants)
}

/// A tenant's keys; `None` when there is no such tenant, `KeyDestroyed` when there was one.
pub(crate) fn tenant_keys(
    snapshot: &dyn Snapshot,
    root: &Secret,
    tenant: TenantId,
) -> Result<Option<TenantKeys>, LedgerError> {
    let name = tenant_row(tenant);
    let Some(wrapped) = snapshot.meta(&name)? else {
        return Ok(None);
    };
    if wrapped.is_empty() {
        return Err(LedgerError::KeyDestroyed);
    }
    let mut keys = TenantKeys::derive(tenant, &unwrap_32(root, &name, &wrapped)?);
    for (name, wrapped) in snapshot.metas(&format!("{name}/"))? {
        if name != tenant_version_row(tenant, keys.newest().version + 1) {
            return Err(LedgerError::Damaged(format!(
                "a secret before the meta row {name} is missing"
            )));
        }
        keys = keys.with(&unwrap_32(root, &name, &wrapped)?);
    }
    Ok(Some(keys))
}

/// Whether today's trees go on from those that were signed.
fn suspect(
    snapshot: &dyn Snapshot,
    signer: &Signer,
    state: &State,
    checkpoint: &str,
) -> Result<Option<String>, LedgerError> {
    let Some(heads) = signer.verify(checkpoint) else {
        return Ok(Some(
            "the signature of the newest checkpoint does not hold".into(),
        ));
    };
    for (shard, size, root) in heads.trees {
        let tree = &state.trees[usize::from(shard.0)];
        if tree.size() < size {
            return Ok(Some(format!(
                "audit tree {shard} has {} leaves, and {size} were signed",
                tree.size()
            )));
        }
        let signed = if tree.size() == size {
            tree.root()?
        } else {
            Tree::load(snapshot, shard, size)?.root()?
        };
        if signed != root {
            return Ok(Some(format!(
                "audit tree {shard} is not the one that was signed"
            )));
        }
    }
    Ok(None)
}

/// The wrapping key of the store that meta rows are of.
pub(crate) fn root_of(
    root_key: &RootKey,
    meta: impl Fn(&str) -> Result<Vec<u8>, LedgerError>,
) -> Result<Secret, LedgerError> {
    let row = meta(ROOT)?;
    let (salt, check) = parse_root(&row)?;
    let root = root_key.wrapping_key(salt.as_ref())?;
    checks(&root, check)?;
    Ok(root)
}

/// Who signs the checkpoints of the store that meta rows are of, and the key that its backups are
/// proved by.
pub(crate) fn signer_of(
    root_key: &RootKey,
    meta: impl Fn(&str) -> Result<Vec<u8>, LedgerError>,
) -> Result<(Signer, Secret), LedgerError> {
    let root = root_of(root_key, &meta)?;
    let (_, id) = store_id(&meta(STORE)?)?;
    let seed = unwrap_32(&root, SIGNER, &meta(SIGNER)?)?;
    Ok((Signer::new(&id, &seed)?, derive_for(&seed, b"backup", &[])))
}

/// Refuses a store that a restore has not finished.
pub(crate) fn check_whole(backend: &dyn Backend) -> Result<(), LedgerError> {
    if is_set(&*backend.snapshot(), RESTORING)? {
        return Err(LedgerError::Storage(
            "a restore into this store was begun and not finished: empty the folder or the database's schema, and \
             restore again"
                .into(),
        ));
    }
    Ok(())
}

/// Whether there is a store at a place. Makes nothing; blocks, so it is not for an asynchronous task.
///
/// # Errors
/// `Storage` when the database can't be asked.
pub fn store_exists(location: &Location) -> Result<bool, LedgerError> {
    match location {
        Location::Folder(path) => {
            Ok(std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()))
        }
        Location::Postgres(location) => crate::postgres::is_founded(location),
    }
}

/// Refuses to change what programs of a store have to know while others work on it. One of an older
/// version can't read what this one writes, and makes fewer tokens than this one asks for.
fn check_alone(backend: &dyn Backend) -> Result<(), LedgerError> {
    let others = match backend.shared() {
        Some(shared) => shared.others_alive([0; 16])?,
        None => 0,
    };
    if others == 0 {
        return Ok(());
    }
    Err(LedgerError::Storage(format!(
        "this program is newer than the store, and {others} other server(s) have it open that may be older and would not \
         understand what this one writes: stop them all, then start this one (one that was killed counts for some seconds)"
    )))
}

/// Opens the store in a backend, founding it if it is new.
pub(crate) fn open_store(
    backend: &Arc<dyn Backend>,
    options: &OpenOptions,
) -> Result<Opened, LedgerError> {
    if backend.snapshot().meta(STORE)?.is_none() {
        found(&**backend, options)?;
    }
    let snapshot = backend.snapshot();
    let store = must(&*snapshot, STORE)?;
    let (format, id) = store_id(&store)?;
    open_root(&*snapshot, options)?;
    if format < STORE_FORMAT {
        check_alone(&**backend)?;
        // Before any row of this format is written, so that an older program refuses the store.
        backend.apply(vec![Write::Meta {
            name: STORE.to_owned(),
            value: store_row(STORE_FORMAT, &id),
        }])?;
    }
    let checkpoint = String::from_utf8(must(&*snapshot, CHECKPOINT)?).unwrap_or_default();
    let state = load_state(&**backend)?;
    let core = open_core(backend, options, state.last)?;
    let since = indexed_since(&**backend, (INDEX, INDEX_GENERATION), state.last)?;
    core.indexed_since.store(since.0, Ordering::Relaxed);
    let since = ownerless_since(&**backend, (format, &id), state.last)?;
    core.ownerless_since.store(since.0, Ordering::Relaxed);
    let suspect = suspect(&*snapshot, &core.signer, &state, &checkpoint)?;
    Ok(Opened {
        core,
        state,
        checkpoint,
        suspect,
    })
}

/// The wrapping key of a store's root key.
fn open_root(snapshot: &dyn Snapshot, options: &OpenOptions) -> Result<Secret, LedgerError> {
    let root_row = must(snapshot, ROOT)?;
    let (salt, _) = parse_root(&root_row)?;
    let root = options.root_key.wrapping_key(salt.as_ref())?;
    opens(snapshot, &root)?;
    Ok(root)
}

/// What it takes to open the rows of a store that is there. Without a dictionary in the options
/// nothing is written.
pub(crate) fn open_core(
    backend: &Arc<dyn Backend>,
    options: &OpenOptions,
    last: Number,
) -> Result<Arc<Core>, LedgerError> {
    let snapshot = backend.snapshot();
    let root = open_root(&*snapshot, options)?;
    let (signer, backup_key) = signer_of(&options.root_key, |name| must(&*snapshot, name))?;
    let core = Core::new(Parts {
        clock: Arc::clone(&options.clock),
        entropy: Arc::clone(&options.entropy),
        packer: packer(&**backend, &*snapshot, &root, options)?,
        tenants: tenants(&*snapshot, &root)?,
        outbox_held: is_set(&*snapshot, OUTBOX_HELD)?,
        root_wrap: root,
        backup_key,
        signer,
        last,
        backend: Arc::clone(backend),
    })?;
    Ok(Arc::new(core))
}

/// The same rows as the first format had them: under the root key alone, without a salt.
#[cfg(test)]
pub(crate) fn as_first_format(
    snapshot: &dyn Snapshot,
    root_key: &RootKey,
) -> Result<Vec<MetaRow>, LedgerError> {
    let entropy = &crate::SystemEntropy;
    let root_row = must(snapshot, ROOT)?;
    let (salt, _) = parse_root(&root_row)?;
    let (now, then) = (
        root_key.wrapping_key(salt.as_ref())?,
        root_key.wrapping_key(None)?,
    );
    let mut rows = vec![(ROOT.to_owned(), wrap(&then, entropy, ROOT, ROOT_CHECK))];
    for (name, wrapped) in wrapped_rows(snapshot)? {
        let secret = unwrap(&now, &name, &wrapped)?;
        rows.push((name.clone(), wrap(&then, entropy, &name, &secret)));
    }
    Ok(rows)
}

//! What of a backup is rewritten: the store's own wrapped secrets, the patients' wrapped keys and the
//! list of those whose key was destroyed. They lie apart from the segments, so that a destroyed key
//! can be taken out of a backup that is there already.

use std::collections::BTreeMap;

use super::manifest::{get_with_mac, put_with_mac};
use super::target::BackupTarget;
use crate::backend::{KeyRow, Snapshot, SubjectKey, Table, Write};
use crate::bootstrap::tenant_row;
use crate::codec::{Decoder, put_varint};
use crate::embedded::rows::{blind_key, decode_key_row, decode_subject_key, encode_key_row};
use crate::keys::{Secret, derive_for};
use crate::plan::SCRUB_DUE;
use crate::redo::{CHAIN, REDO};
use crate::seal::{open, seal};
use crate::stored::STORED;
use crate::tenants::{self, TENANTS};
use crate::witness::COSIGNED;
use crate::writer::{CHECKPOINT, MetaRow, NUMBER_FLOOR};
use crate::{Entropy, Ledger, LedgerError, Tenant, TenantState};

pub(super) const METAS: &str = "metas";
pub(super) const SHRED_LIST: &str = "shred-list";
pub(super) const KEYS_ENDING: &str = ".keys";
/// Keys of one file; some 80 bytes each.
const KEYS_A_FILE: usize = 100_000;
const PAGE: usize = 1024;
const SHRED_FORMAT: u8 = 1;
const SHRED_FORMAT_TENANTS: u8 = 2;
const SALT_BYTES: usize = 16;

/// What was destroyed.
#[derive(Default)]
pub(super) struct Shredded {
    /// Patients whose key was, and when, milliseconds since the Unix epoch.
    pub(super) patients: BTreeMap<SubjectKey, u64>,
    /// Tenants whose keys were, by number and fingerprint: where a copy of before was restored, another tenant may
    /// have got the number.
    pub(super) tenants: BTreeMap<(u32, Option<String>), Tenant>,
}

/// Whether a tenant that was destroyed is the one with the same number that has this fingerprint. A program of before
/// took none, so all that is known then is the number.
fn is_same(ended: &Tenant, fingerprint: Option<&str>) -> bool {
    let both = ended.fingerprint.as_deref().zip(fingerprint);
    both.is_none_or(|(ended, found)| ended == found)
}

impl Shredded {
    /// Takes in what another list knows.
    pub(super) fn extend(&mut self, other: Self) {
        self.patients.extend(other.patients);
        for tenant in other.tenants.into_values() {
            self.add(tenant);
        }
    }

    fn add(&mut self, tenant: Tenant) {
        let name = (tenant.id.0, tenant.fingerprint.clone());
        // One that is over stays over, whatever a list of while it ended says.
        if self
            .tenants
            .get(&name)
            .is_none_or(|known| known.state != TenantState::Destroyed)
        {
            self.tenants.insert(name, tenant);
        }
    }

    /// Leaves out tenants whose number is another's in a store's rows.
    pub(super) fn leave_others(
        &mut self,
        rows: &[MetaRow],
        root_wrap: &Secret,
        key: &Secret,
    ) -> Result<(), LedgerError> {
        let mut others = Vec::new();
        for (name, ended) in &self.tenants {
            let row = tenant_row(ended.id);
            let secret = rows.iter().find(|(found, _)| *found == row);
            let secret = secret.map(|(_, value)| value.as_slice());
            let found = tenants::fingerprint(key, root_wrap, ended.id, secret)?;
            if !is_same(ended, found.as_deref()) {
                others.push(name.clone());
            }
        }
        others
            .iter()
            .for_each(|name| drop(self.tenants.remove(name)));
        Ok(())
    }

    /// Leaves out tenants whose number is another's in a store that is backed up.
    ///
    /// # Errors
    /// `Invalid` when one of them is there, as after a restore that was not told that it is destroyed: a backup
    /// without its secret would be worth nothing to it, and one with it would bring back what was destroyed.
    pub(super) fn leave_living(
        &mut self,
        rows: &dyn Snapshot,
        root_wrap: &Secret,
        key: &Secret,
    ) -> Result<(), LedgerError> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let (list, _) = tenants::read(rows, root_wrap)?;
        for tenant in list.iter().filter(|tenant| tenant.is_there()) {
            let secret = rows.meta(&tenant_row(tenant.id))?;
            let found = tenants::fingerprint(key, root_wrap, tenant.id, secret.as_deref())?;
            let of_number = |ended: &&Tenant| ended.id == tenant.id;
            let mut ended = self.tenants.values().filter(of_number);
            if ended.any(|ended| is_same(ended, found.as_deref())) {
                tracing::error!(
                    tenant = tenant.name,
                    number = tenant.id.0,
                    "the place of the backup says that this tenant was destroyed, and it is there"
                );
                return Err(LedgerError::Invalid(
                    "the place of the backup says that a tenant was destroyed that is there in this store, as after a \
                     restore without --shred-list: destroy the tenant here, or back up to another place (the log has \
                     its name and number)",
                ));
            }
            self.tenants.retain(|(number, _), _| *number != tenant.id.0);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.patients.is_empty() && self.tenants.is_empty()
    }

    /// Takes the secrets of destroyed tenants out of a store's rows, and says in its list of tenants that they are
    /// gone. Their numbers stay theirs, also where the rows are of before they were made.
    pub(super) fn end_tenants(
        &self,
        rows: &mut Vec<MetaRow>,
        root_wrap: &Secret,
        entropy: &dyn Entropy,
    ) -> Result<(), LedgerError> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let kept = rows.iter().position(|(name, _)| name == TENANTS);
        let mut list = match kept {
            Some(at) => tenants::decode(root_wrap, &rows[at].1)?,
            None => tenants::unnamed(rows.iter().map(|(name, _)| name.as_str())),
        };
        for ended in self.tenants.values() {
            let id = ended.id;
            let there = list.iter_mut().find(|tenant| tenant.id == id);
            if let Some(tenant) = there {
                if tenant.fingerprint.is_none() {
                    tenant.fingerprint.clone_from(&ended.fingerprint);
                }
                if tenant.state != TenantState::Destroyed {
                    tenant.state = ended.state;
                    tenant.since_ms = ended.since_ms;
                }
                tenant.hosts.clear();
            } else {
                let mut ended = ended.clone();
                // Whoever had the name then has it again.
                if list.iter().any(|tenant| tenant.name == ended.name) {
                    ended.name = format!("destroyed-{}", id.0);
                }
                list.push(ended);
            }
        }
        list.sort_by_key(|tenant| tenant.id);
        self.blank(rows);
        // Without any secret it would be a tenant that there never was.
        for id in self.tenants.values().map(|tenant| tenant.id) {
            let name = tenant_row(id);
            if !rows.iter().any(|(found, _)| *found == name) {
                rows.push((name, Vec::new()));
            }
        }
        rows.retain(|(name, _)| name != TENANTS);
        rows.push((
            TENANTS.to_owned(),
            tenants::encode(root_wrap, entropy, &list)?,
        ));
        Ok(())
    }

    /// Takes the secrets of destroyed tenants out of rows.
    fn blank(&self, rows: &mut [MetaRow]) {
        let secrets: Vec<String> = (self.tenants.values())
            .map(|tenant| tenant_row(tenant.id))
            .collect();
        for (name, value) in rows {
            let of = |first: &String| {
                name.strip_prefix(first.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if secrets.iter().any(of) {
                value.clear();
            }
        }
    }
}

/// Meta rows that are of one moment or of one copy of the store, and so are not restored.
fn is_of_the_moment(name: &str) -> bool {
    [
        CHECKPOINT,
        SCRUB_DUE,
        REDO,
        NUMBER_FLOOR,
        super::RESTORING,
        super::OUTBOX_HELD,
        super::take::BACKED_UP,
    ]
    .contains(&name)
        || name.starts_with(CHAIN)
        // What witnesses signed may be of a future that is lost; they sign again what goes on from it.
        || name.starts_with(COSIGNED)
        // What is there is counted anew.
        || name.starts_with(STORED)
        // Lists are restored as they were when their documents were backed up.
        || name.starts_with(crate::relist::INDEXED)
}

/// The store's own secrets and what else its meta rows say, as they are now, without those of tenants that are
/// destroyed by now.
pub(super) fn metas(snapshot: &dyn Snapshot, destroyed: &Shredded) -> Result<Vec<u8>, LedgerError> {
    let mut out = Vec::new();
    let mut rows = snapshot.metas("")?;
    destroyed.blank(&mut rows);
    for (name, value) in rows {
        if is_of_the_moment(&name) {
            continue;
        }
        for bytes in [name.as_bytes(), &value] {
            put_varint(&mut out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
    }
    Ok(out)
}

/// What [`metas`] wrote.
pub(super) fn decode_metas(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, LedgerError> {
    let mut decoder = Decoder::new(bytes, "backed-up meta");
    let mut rows = Vec::new();
    while decoder.remaining() > 0 {
        let length = decoder.small()?;
        let name = String::from_utf8(decoder.bytes(length)?.to_vec())
            .map_err(|_| LedgerError::Damaged("a backed-up meta row's name is no text".into()))?;
        let length = decoder.small()?;
        rows.push((name, decoder.bytes(length)?.to_vec()));
    }
    Ok(rows)
}

/// The destroyed keys of a store.
pub(super) fn shredded(
    snapshot: &dyn Snapshot,
    root_wrap: &Secret,
) -> Result<Shredded, LedgerError> {
    let mut all = Shredded::default();
    each_key(snapshot, |key, row| {
        if let KeyRow::Destroyed { at_ms } = row {
            all.patients.insert(key, at_ms);
        }
        Ok(())
    })?;
    let (list, _) = tenants::read(snapshot, root_wrap)?;
    tenants::ended(list).for_each(|tenant| all.add(tenant));
    Ok(all)
}

/// Hands on every key row.
pub(super) fn each_key(
    snapshot: &dyn Snapshot,
    mut take: impl FnMut(SubjectKey, KeyRow) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut after = None;
    loop {
        let page = snapshot.scan(Table::Key, after.as_ref(), PAGE)?;
        let count = page.len();
        after = page.last().cloned();
        for row in page {
            if let Write::Key(key, row) = row {
                take(key, row)?;
            }
        }
        if count < PAGE {
            return Ok(());
        }
    }
}

/// Seals a shred list, so that its holder learns nothing and can change nothing: a list that was made
/// up would destroy patients' records on the next restore.
///
/// A list without tenants is as it always was, so that a program of before reads it; one with tenants begins with
/// the length of what is said of them.
pub(super) fn seal_shred_list(
    key: &Secret,
    entropy: &dyn Entropy,
    list: &Shredded,
) -> Result<Vec<u8>, LedgerError> {
    let mut plain = Vec::with_capacity(list.patients.len() * 28);
    let mut format = SHRED_FORMAT;
    if !list.tenants.is_empty() {
        format = SHRED_FORMAT_TENANTS;
        let tenants: Vec<&Tenant> = list.tenants.values().collect();
        let tenants = serde_json::to_vec(&tenants)
            .map_err(|error| LedgerError::Storage(error.to_string()))?;
        put_varint(&mut plain, tenants.len() as u64);
        plain.extend_from_slice(&tenants);
    }
    for (key, at_ms) in &list.patients {
        plain.extend_from_slice(&blind_key(key.tenant, &key.subject));
        plain.extend_from_slice(&at_ms.to_be_bytes());
    }
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let key = derive_for(key, b"shred list", &salt);
    let sealed = seal(&key, entropy, &bound_to(format), plain);
    Ok([&[format], &salt[..], &sealed].concat())
}

/// What the seal of a shred list holds beside the list: its format, so that nobody passes one off as the other.
fn bound_to(format: u8) -> Vec<u8> {
    let mut name = SHRED_LIST.as_bytes().to_vec();
    if format != SHRED_FORMAT {
        name.push(format);
    }
    name
}

/// Opens a shred list of this store.
pub(super) fn open_shred_list(key: &Secret, bytes: &[u8]) -> Result<Shredded, LedgerError> {
    let refused = || {
        LedgerError::Damaged(
            "the shred list is not one of this store, or was changed: export it again with `cairn key shred-list`".into(),
        )
    };
    let (format, rest) = bytes.split_first().ok_or_else(refused)?;
    let (salt, sealed) = rest.split_at_checked(SALT_BYTES).ok_or_else(refused)?;
    if ![SHRED_FORMAT, SHRED_FORMAT_TENANTS].contains(format) {
        return Err(refused());
    }
    let key = derive_for(key, b"shred list", salt);
    let plain = open(&key, &bound_to(*format), sealed).ok_or_else(refused)?;
    let mut list = Shredded::default();
    let mut decoder = Decoder::new(&plain, "shred list");
    if *format == SHRED_FORMAT_TENANTS {
        let length = decoder.small()?;
        let tenants: Vec<Tenant> =
            serde_json::from_slice(decoder.bytes(length)?).map_err(|_| refused())?;
        tenants.into_iter().for_each(|tenant| list.add(tenant));
    }
    while decoder.remaining() > 0 {
        let key = decode_subject_key(decoder.bytes(20)?)?;
        list.patients.insert(key, decoder.u64()?);
    }
    Ok(list)
}

/// Wrapped keys on their way into files.
pub(super) struct KeyFiles<'a> {
    target: &'a dyn BackupTarget,
    key: &'a Secret,
    /// How the names begin.
    prefix: String,
    bytes: Vec<u8>,
    count: usize,
    pub(super) names: Vec<String>,
}

fn put_key(out: &mut Vec<u8>, key: &SubjectKey, row: &KeyRow) {
    out.extend_from_slice(&blind_key(key.tenant, &key.subject));
    let row = encode_key_row(row);
    put_varint(out, row.len() as u64);
    out.extend_from_slice(&row);
}

impl<'a> KeyFiles<'a> {
    pub(super) fn new(target: &'a dyn BackupTarget, key: &'a Secret, prefix: String) -> Self {
        Self {
            target,
            key,
            prefix,
            bytes: Vec::new(),
            count: 0,
            names: Vec::new(),
        }
    }

    /// Takes a key. Destroyed ones are in the shred list.
    pub(super) fn push(&mut self, key: &SubjectKey, row: &KeyRow) -> Result<(), LedgerError> {
        if matches!(row, KeyRow::Destroyed { .. }) {
            return Ok(());
        }
        put_key(&mut self.bytes, key, row);
        self.count += 1;
        if self.count >= KEYS_A_FILE {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        let name = format!("{}-{:04}{KEYS_ENDING}", self.prefix, self.names.len());
        put_with_mac(
            self.target,
            self.key,
            &name,
            std::mem::take(&mut self.bytes),
        )?;
        self.names.push(name);
        self.count = 0;
        Ok(())
    }

    /// Writes the last file; gives the names of all.
    pub(super) fn finish(mut self) -> Result<Vec<String>, LedgerError> {
        if self.count > 0 {
            self.close()?;
        }
        Ok(self.names)
    }
}

/// The keys of a file.
pub(super) fn read_keys(
    target: &dyn BackupTarget,
    key: &Secret,
    name: &str,
) -> Result<Vec<(SubjectKey, KeyRow)>, LedgerError> {
    let bytes = get_with_mac(target, key, name)?.ok_or_else(|| {
        LedgerError::Damaged(format!("{name} is missing in {}", target.describe()))
    })?;
    let mut decoder = Decoder::new(&bytes, "backed-up key");
    let mut keys = Vec::new();
    while decoder.remaining() > 0 {
        let key = decode_subject_key(decoder.bytes(20)?)?;
        let length = decoder.small()?;
        keys.push((key, decode_key_row(decoder.bytes(length)?)?));
    }
    Ok(keys)
}

/// What a target knows to be destroyed.
pub(super) fn known(target: &dyn BackupTarget, key: &Secret) -> Result<Shredded, LedgerError> {
    match target.get(SHRED_LIST)? {
        Some(bytes) => open_shred_list(key, &bytes),
        None => Ok(Shredded::default()),
    }
}

/// Takes destroyed keys out of all key files of a target, of whatever chain: those of this store and
/// those that the target knows of, which another store may have brought that was restored from it or is
/// its original.
///
/// The target's list says so first. Then who writes key files at the same time finds it there when they
/// look at it afterwards, or else their files are there already when these are gone through. That they
/// are gone through each time makes up for a time that was cut off. Gives all that is known to be destroyed.
pub(super) fn shred(
    target: &dyn BackupTarget,
    key: &Secret,
    entropy: &dyn Entropy,
    list: Shredded,
) -> Result<Shredded, LedgerError> {
    let known = known(target, key)?;
    // A list that knows more is of a later state than this store, which was restored: it is kept.
    let mut all = known;
    all.extend(list);
    target.put(SHRED_LIST, &seal_shred_list(key, entropy, &all)?)?;
    if all.is_empty() {
        return Ok(all);
    }
    for name in target.list()? {
        if !name.ends_with(KEYS_ENDING) {
            continue;
        }
        let keys = read_keys(target, key, &name)?;
        let (gone, kept): (Vec<_>, Vec<_>) =
            (keys.into_iter()).partition(|(subject, _)| all.patients.contains_key(subject));
        if !gone.is_empty() {
            let mut bytes = Vec::new();
            kept.iter()
                .for_each(|(subject, row)| put_key(&mut bytes, subject, row));
            put_with_mac(target, key, &name, bytes)?;
        }
    }
    Ok(all)
}

impl Ledger {
    /// The list of patients and tenants whose keys have been destroyed, sealed, to be kept beside backups: a
    /// restore that is given it leaves them destroyed, however old the backup is.
    ///
    /// # Errors
    /// `Storage`, `Closed`; `Damaged` when the list of tenants does not unwrap, as when another process has
    /// rotated the root key.
    pub fn shred_list(&self) -> Result<Vec<u8>, LedgerError> {
        let core = self.core();
        let list = shredded(&*self.backend()?.now(), &core.root_wrap())?;
        seal_shred_list(&core.backup_key, &*core.entropy, &list)
    }
}

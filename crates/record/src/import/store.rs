//! Writes resources in commits of one owner each.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use fhir::ResourceType;
use futures_util::{StreamExt, TryStreamExt, stream};
use ledger::{Expected, Owner};
use trust::{Change, Unit, Vault};

use super::entry::Original;
use super::index::Ready;
use super::person::is_another;
use super::unit::{Around, is_fatal};
use super::{CHUNK_ENTRIES, ImportError, lock};
use crate::error::is_conflict;
use crate::write::{check_owner, expected_over, pause};

/// How many owners' commits of one unit are under way at once, so that they share flushes.
const OWNERS_PARALLEL: usize = 8;
/// More than for a request: nobody waits for an answer, and several workers may write the same
/// practitioner.
const ATTEMPTS_MAX: u32 = 20;

/// How many earlier versions are looked through.
const HISTORY_MAX: usize = 100;

/// A resource to be written.
pub(super) struct Item {
    pub(super) line: u64,
    pub(super) index: Option<u64>,
    pub(super) original: Original,
    pub(super) ready: Ready,
}

impl Item {
    fn name(&self) -> (fhir::ResourceType, &str) {
        (
            self.ready.resource.kind(),
            self.ready.resource.id().unwrap_or_default(),
        )
    }
}

const MOVED: &str =
    "the resource is there already, in another patient's record; an import does not move it";
const OTHER: &str = "the patient is there already as another person, who shares no identifier and differs in name or birth date";
const OTHERS: &str = "the resource belongs to a patient who came in as another person than the one who has the id here";

/// Writes all items, those of one owner in their order.
pub(super) async fn write(around: &Around, items: Vec<Item>) -> Result<(), ImportError> {
    let mut owners: Vec<Vec<Item>> = Vec::new();
    let mut places: HashMap<Owner, usize> = HashMap::new();
    for item in items {
        let place = *places.entry(item.ready.owner.clone()).or_insert_with(|| {
            owners.push(Vec::new());
            owners.len() - 1
        });
        owners[place].push(item);
    }
    stream::iter(owners)
        .map(Ok)
        .try_for_each_concurrent(OWNERS_PARALLEL, |items| of_owner(around, items))
        .await
}

/// Cuts one owner's items into chunks in which no resource is twice. A patient goes first: whether it
/// is the one who is here decides about the rest.
async fn of_owner(around: &Around, mut items: Vec<Item>) -> Result<(), ImportError> {
    let is_patient = |item: &Item| item.ready.resource.kind() == ResourceType::Patient;
    items.sort_by_key(|item| !is_patient(item));
    if !items.first().is_some_and(is_patient) && is_of_other(around, &items) {
        return refuse_all(around, &items);
    }
    let mut chunk: Vec<Item> = Vec::new();
    let mut names: HashSet<(ResourceType, String)> = HashSet::new();
    let mut other = false;
    for item in items {
        let (kind, id) = item.name();
        let name = (kind, id.to_owned());
        if names.contains(&name) || chunk.len() == CHUNK_ENTRIES {
            other |= self::chunk(around, std::mem::take(&mut chunk), other).await?;
            names.clear();
        }
        names.insert(name);
        chunk.push(item);
    }
    self::chunk(around, chunk, other).await?;
    Ok(())
}

/// What came of a commit.
enum Outcome {
    Done,
    /// One of several is refused by the store.
    OneByOne,
    /// The patient is another person than the one who is here; all is refused.
    Other,
}

/// Whether the items belong to a patient who came in as another person.
fn is_of_other(around: &Around, items: &[Item]) -> bool {
    match items.first().map(|item| &item.ready.owner) {
        Some(Owner::Patient(id)) => lock(&around.import.others).contains(id),
        _ => false,
    }
}

/// Refuses a patient who is another person than the one here, and what belongs to them.
fn refuse_all(around: &Around, items: &[Item]) -> Result<(), ImportError> {
    for item in items {
        let (kind, id) = item.name();
        let (reason, other) = match kind {
            ResourceType::Patient => (OTHER, Some(id)),
            _ => (OTHERS, None),
        };
        let original = Some(item.original.bytes());
        around.refuse_as(item.line, item.index, reason, other, original)?;
    }
    Ok(())
}

/// Writes items, of which no two are the same resource; tells whether their patient is another person
/// than the one who is here, as `other` says that the chunk before did.
async fn chunk(around: &Around, items: Vec<Item>, other: bool) -> Result<bool, ImportError> {
    if other {
        refuse_all(around, &items)?;
        return Ok(true);
    }
    if items.is_empty() {
        return Ok(false);
    }
    match commit(around, &items).await? {
        Outcome::Done => return Ok(false),
        Outcome::Other => return Ok(true),
        Outcome::OneByOne => {}
    }
    // Something in it is refused by the store; one by one it shows what.
    for (place, item) in items.iter().enumerate() {
        if let Outcome::Other = commit(around, std::slice::from_ref(item)).await? {
            refuse_all(around, &items[place + 1..])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Commits items of one owner.
async fn commit(around: &Around, items: &[Item]) -> Result<Outcome, ImportError> {
    let import = &around.import;
    let vault = import.trust.vault();
    let refuse = |item: &Item, reason: &str| {
        around.refuse(item.line, item.index, reason, Some(item.original.bytes()))
    };
    // Mostly all is new or all is there. If the first is new, the rest is taken to be, and the commit
    // itself says when that was wrong.
    let mut look = false;
    for attempt in 0..ATTEMPTS_MAX {
        let mut changes = Vec::with_capacity(items.len());
        let mut unchanged = 0;
        let mut moved = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let (kind, id) = item.name();
            let known = item.ready.expected.filter(|_| attempt == 0);
            let expected = if let (Some(known), false) = (known, place == 0) {
                known
            } else if look || place == 0 {
                let existing = match vault.load(&import.permit, kind, id).await {
                    Ok(existing) => existing,
                    Err(error) if is_fatal(&error) => return Err(ImportError::Trust(error)),
                    Err(error) if items.len() == 1 => {
                        refuse(item, &error.to_string())?;
                        return Ok(Outcome::Done);
                    }
                    Err(_) => return Ok(Outcome::OneByOne),
                };
                let live = existing.as_ref().filter(|row| !row.deleted);
                look |= existing.is_some();
                let known = match live {
                    Some(row) => {
                        item.ready.keep
                            || same(vault, row, &item.ready.resource)
                            || was_before(around, item, row).await?
                    }
                    None => false,
                };
                if known {
                    unchanged += 1;
                    continue;
                }
                if check_owner(existing.as_ref(), &item.ready.owner).is_err() {
                    moved.push(item);
                    continue;
                }
                if live.is_some_and(|row| is_another(&row.resource, &item.ready.resource)) {
                    lock(&import.others).insert(id.to_owned());
                    refuse_all(around, items)?;
                    return Ok(Outcome::Other);
                }
                expected_over(existing.as_ref()).0
            } else {
                Expected::Absent
            };
            // What has the same name but another owner has another shard in its id.
            if expected == Expected::Absent && item.ready.named {
                match vault.twin(&import.permit, kind, id).await {
                    Ok(None) => {}
                    Ok(Some(_)) => {
                        moved.push(item);
                        continue;
                    }
                    Err(error) => return Err(ImportError::Trust(error)),
                }
            }
            changes.push(Change::Put {
                resource: item.ready.resource.clone(),
                expected,
            });
        }
        let written = changes.len() as u64;
        if written > 0 {
            let unit = Unit {
                changes,
                note: Some("import".to_owned()),
                ..Unit::default()
            };
            match vault.commit(&import.permit, unit).await {
                Ok(_) => {}
                Err(error) if is_conflict(&error) => {
                    look = true;
                    pause(attempt).await;
                    continue;
                }
                Err(error) if is_fatal(&error) => return Err(ImportError::Trust(error)),
                Err(error) if items.len() == 1 => {
                    refuse(&items[0], &error.to_string())?;
                    return Ok(Outcome::Done);
                }
                Err(_) => return Ok(Outcome::OneByOne),
            }
        }
        import.written.fetch_add(written, Ordering::Relaxed);
        import.unchanged.fetch_add(unchanged, Ordering::Relaxed);
        for item in moved {
            refuse(item, MOVED)?;
        }
        return Ok(Outcome::Done);
    }
    for item in items {
        refuse(
            item,
            "the resource was changed by others again and again at the same time",
        )?;
    }
    Ok(Outcome::Done)
}

/// Whether an earlier version says the same. Some bundles bring the same resource under the same URN
/// with different content each (Synthea's practitioners count their encounters so far); importing
/// them again must not bring back what is older than what is there.
async fn was_before(
    around: &Around,
    item: &Item,
    newest: &trust::Versioned,
) -> Result<bool, ImportError> {
    let import = &around.import;
    let Some(permit) = import
        .history
        .as_ref()
        .filter(|_| item.ready.derived && newest.version > 1)
    else {
        return Ok(false);
    };
    let (kind, id) = item.name();
    let older = import
        .trust
        .vault()
        .history(permit, kind, id, Some(newest.version), HISTORY_MAX)
        .await;
    match older {
        Ok(older) => Ok(older
            .iter()
            .any(|row| !row.deleted && same(import.trust.vault(), row, &item.ready.resource))),
        Err(error) if is_fatal(&error) => Err(ImportError::Trust(error)),
        Err(_) => Ok(false),
    }
}

/// Whether what is stored says the same: the order of members and what the server keeps of versions
/// don't matter, nor do labels that are told with what is read (a history tells them) and not stored.
fn same(vault: &Vault, row: &trust::Versioned, resource: &fhir::Resource) -> bool {
    let mut stored = row.resource.clone();
    stored.strip_meta();
    vault.take_labels_back(&mut stored);
    debug_assert_eq!(Vault::owner(&stored), Vault::owner(&row.resource));
    stored.members() == resource.members()
}

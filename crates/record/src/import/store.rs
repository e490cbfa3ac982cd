//! Writes resources in commits of one owner each.
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use ledger::{Expected, Owner};
use trust::{Change, Unit, Vault};

use super::entry::Original;
use super::index::Ready;
use super::unit::{Around, is_fatal};
use super::{CHUNK_ENTRIES, ImportError};
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

/// Cuts one owner's items into chunks in which no resource is twice.
async fn of_owner(around: &Around, items: Vec<Item>) -> Result<(), ImportError> {
    let mut chunk: Vec<Item> = Vec::new();
    let mut names: HashSet<(fhir::ResourceType, String)> = HashSet::new();
    for item in items {
        let (kind, id) = item.name();
        let fresh = names.insert((kind, id.to_owned()));
        if !fresh || chunk.len() == CHUNK_ENTRIES {
            let (kind, id) = (kind, id.to_owned());
            self::chunk(around, &mut chunk).await?;
            names.clear();
            names.insert((kind, id));
        }
        chunk.push(item);
    }
    self::chunk(around, &mut chunk).await
}

async fn chunk(around: &Around, items: &mut Vec<Item>) -> Result<(), ImportError> {
    let items = std::mem::take(items);
    if items.is_empty() || commit(around, &items).await? {
        return Ok(());
    }
    // Something in it is refused by the store; one by one it shows what.
    for item in &items {
        commit(around, std::slice::from_ref(item)).await?;
    }
    Ok(())
}

/// Commits items; `false` when one of several is refused.
async fn commit(around: &Around, items: &[Item]) -> Result<bool, ImportError> {
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
                        return Ok(true);
                    }
                    Err(_) => return Ok(false),
                };
                let live = existing.as_ref().filter(|row| !row.deleted);
                look |= existing.is_some();
                let known = match live {
                    Some(row) => {
                        item.ready.keep
                            || same(row, &item.ready.resource)
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
                expected_over(existing.as_ref()).0
            } else {
                Expected::Absent
            };
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
                    return Ok(true);
                }
                Err(_) => return Ok(false),
            }
        }
        import.written.fetch_add(written, Ordering::Relaxed);
        import.unchanged.fetch_add(unchanged, Ordering::Relaxed);
        for item in moved {
            refuse(
                item,
                "the resource is there already, in another patient's record; an import does not move it",
            )?;
        }
        return Ok(true);
    }
    for item in items {
        refuse(
            item,
            "the resource was changed by others again and again at the same time",
        )?;
    }
    Ok(true)
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
            .any(|row| !row.deleted && same(row, &item.ready.resource))),
        Err(error) if is_fatal(&error) => Err(ImportError::Trust(error)),
        Err(_) => Ok(false),
    }
}

/// Whether what is stored says the same: the order of members and what the server keeps of versions
/// don't matter.
fn same(row: &trust::Versioned, resource: &fhir::Resource) -> bool {
    let mut stored = row.resource.clone();
    stored.strip_meta();
    debug_assert_eq!(Vault::owner(&stored), Vault::owner(&row.resource));
    stored.members() == resource.members()
}

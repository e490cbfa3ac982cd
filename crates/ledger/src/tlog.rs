//! Each audit tree as a log of its own, in the form of C2SP `tlog-tiles`: checkpoints, tiles of
//! hashes and bundles of entries, as bytes for whoever serves or exports them.
//!
//! All that is given out lies under the newest signed checkpoint over all trees. It went to disk in
//! one batch with its leaves, so no answer is about a leaf that could still be lost, and a log's own
//! checkpoint needs no row: it follows from that one.

use std::ops::Range;

use tlog_tiles::{Hash, record_hash, stored_hash_index};

use crate::backend::Snapshot;
use crate::tree::Heads;
use crate::writer::CHECKPOINT;
use crate::{Ledger, LedgerError, SHARDS, Shard};

/// Hashes of a full tile, entries of a full bundle (`tlog-tiles`).
const WIDTH: u64 = 256;

/// The newest signed checkpoint over all trees.
#[derive(Debug, Clone)]
pub struct NewestCheckpoint {
    /// A C2SP signed note, see [`Ledger::checkpoint`].
    pub note: String,
    /// When it was signed, Unix milliseconds.
    pub unix_ms: u64,
    /// Each tree that has leaves, and how many, by shard.
    pub trees: Vec<(Shard, u64)>,
}

impl NewestCheckpoint {
    /// Leaves of all trees.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.trees.iter().map(|(_, size)| size).sum()
    }
}

/// Names a tile of hashes or a bundle of entries (`tlog-tiles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogTile {
    /// Level of a tile of hashes, 0 to 63; `None` for entries.
    level: Option<u8>,
    /// Index within the level.
    index: u64,
    /// Hashes or entries, 1 to 256.
    width: u64,
}

impl LogTile {
    /// The tile of a path after `tile/`: `<L>/<N>[.p/<W>]` or `entries/<N>[.p/<W>]`. `None` when it is
    /// not written as `tlog-tiles` says, to the letter.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.split_once('/')?;
        let level = match level {
            "entries" => None,
            level => Some(level.parse().ok().filter(|level| *level < 64)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, WIDTH),
            Some((number, width)) => (
                number,
                width
                    .parse()
                    .ok()
                    .filter(|width| (1..WIDTH).contains(width))?,
            ),
        };
        let mut index = 0u64;
        for element in number.split('/') {
            let part: u64 = element.trim_start_matches('x').parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(part)?;
        }
        let tile = Self {
            level,
            index,
            width,
        };
        (tile.path() == path).then_some(tile)
    }

    /// The path after `tile/`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut number = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1000);
            rest /= 1000;
        }
        let level = self
            .level
            .map_or_else(|| "entries".to_owned(), |level| level.to_string());
        let partial = if self.is_full() {
            String::new()
        } else {
            format!(".p/{}", self.width)
        };
        format!("{level}/{number}{partial}")
    }

    /// Whether it holds entries, which are the leaves' records.
    #[must_use]
    pub fn is_entries(&self) -> bool {
        self.level.is_none()
    }

    fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// All tiles of hashes of a log of `size` entries, and all bundles of entries, with the partial
    /// ones of that size only.
    pub fn of_log(size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..8).map(Some).chain([None]);
        levels.flat_map(move |level| {
            let there = size >> (8 * u32::from(level.unwrap_or(0)));
            (0..there.div_ceil(WIDTH)).map(move |index| Self {
                level,
                index,
                width: (there - index * WIDTH).min(WIDTH),
            })
        })
    }

    /// Whether a log of `size` entries has it.
    fn is_in(&self, size: u64) -> bool {
        // A tree of 2^64 leaves has hashes on levels 0 to 7.
        let level = u32::from(self.level.unwrap_or(0));
        let there = size.checked_shr(8 * level).unwrap_or(0);
        let end = self.index.checked_mul(WIDTH);
        end.and_then(|start| start.checked_add(self.width))
            .is_some_and(|end| end <= there)
    }
}

impl Ledger {
    /// The key that verifies checkpoints over all trees, then that of each tree's log (C2SP verifier
    /// keys).
    #[must_use]
    pub fn verifier_keys(&self) -> Vec<String> {
        let signer = &self.core().signer;
        let logs = (0..SHARDS).map(|shard| signer.log_verifier_key(Shard(shard)));
        std::iter::once(signer.verifier_key()).chain(logs).collect()
    }

    /// The newest signed checkpoint over all trees: at most a second older than the newest leaf.
    ///
    /// # Errors
    /// `Damaged` when it is missing or not signed by this store, `Storage`.
    pub async fn newest_checkpoint(&self) -> Result<NewestCheckpoint, LedgerError> {
        let (note, heads) = self.newest(&*self.backend()?.snapshot())?;
        let trees = heads.trees.iter().map(|(shard, size, _)| (*shard, *size));
        Ok(NewestCheckpoint {
            note,
            unix_ms: heads.unix_ms,
            trees: trees.collect(),
        })
    }

    /// The newest checkpoint of a tree's own log (C2SP `tlog-checkpoint`).
    ///
    /// # Errors
    /// As [`Ledger::newest_checkpoint`].
    pub async fn log_checkpoint(&self, shard: Shard) -> Result<String, LedgerError> {
        let (_, heads) = self.newest(&*self.backend()?.snapshot())?;
        self.core().signer.sign_log(shard, heads.head(shard))
    }

    /// The bytes of a tile of a tree's log (C2SP `tlog-tiles`); `None` when the log, as it was last
    /// signed, has no such tile.
    ///
    /// # Errors
    /// As [`Ledger::newest_checkpoint`].
    pub async fn log_tile(
        &self,
        shard: Shard,
        tile: LogTile,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let snapshot = self.backend()?.snapshot();
        let (_, heads) = self.newest(&*snapshot)?;
        if !tile.is_in(heads.head(shard).0) {
            return Ok(None);
        }
        let start = tile.index * WIDTH;
        match tile.level {
            Some(level) => hashes(&*snapshot, shard, level, start..start + tile.width),
            None => entries(&*snapshot, shard, start..start + tile.width),
        }
        .map(Some)
    }

    /// The newest checkpoint over all trees and what it vouches for.
    pub(crate) fn newest(&self, snapshot: &dyn Snapshot) -> Result<(String, Heads), LedgerError> {
        let note = snapshot
            .meta(CHECKPOINT)?
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let verified = note.and_then(|note| {
            let heads = self.core().signer.verify(&note)?;
            Some((note, heads))
        });
        verified.ok_or_else(|| {
            LedgerError::Damaged(
                "the newest checkpoint is missing or was not signed by this store".into(),
            )
        })
    }
}

/// The records of leaves that the log has.
fn records(
    snapshot: &dyn Snapshot,
    shard: Shard,
    range: Range<u64>,
) -> Result<Vec<Vec<u8>>, LedgerError> {
    let limit = usize::try_from(range.end - range.start).unwrap_or(0);
    let page = snapshot.leaves(shard, range.start, limit)?;
    let mut page = page.into_iter();
    let there = range.map(|index| {
        let next = page.next().filter(|(found, _)| *found == index);
        next.map(|(_, record)| record).ok_or_else(|| {
            LedgerError::Damaged(format!("leaf {index} of audit tree {shard} is missing"))
        })
    });
    there.collect()
}

fn hashes(
    snapshot: &dyn Snapshot,
    shard: Shard,
    level: u8,
    range: Range<u64>,
) -> Result<Vec<u8>, LedgerError> {
    if level == 0 {
        // One page instead of 256 rows.
        let records = records(snapshot, shard, range)?;
        let hashes = records.iter().flat_map(|record| record_hash(record).0);
        return Ok(hashes.collect());
    }
    let mut bytes = Vec::new();
    for number in range {
        let index = stored_hash_index(8 * level, number);
        let hash = snapshot.node(shard, index)?.ok_or_else(|| {
            LedgerError::Damaged(format!("hash {index} of audit tree {shard} is missing"))
        })?;
        bytes.extend_from_slice(&hash);
    }
    Ok(bytes)
}

fn entries(
    snapshot: &dyn Snapshot,
    shard: Shard,
    range: Range<u64>,
) -> Result<Vec<u8>, LedgerError> {
    let mut bytes = Vec::new();
    for (index, record) in range.clone().zip(records(snapshot, shard, range)?) {
        let length = u16::try_from(record.len()).map_err(|_| {
            LedgerError::Damaged(format!(
                "leaf {index} of audit tree {shard} is longer than an entry can be"
            ))
        })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&record);
    }
    Ok(bytes)
}

/// A tree as it was at an earlier size, as (size, root).
pub(crate) type Head = (u64, Hash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_named_to_the_letter() {
        for (path, level, index, width) in [
            ("0/000", Some(0), 0, 256),
            ("1/x001/x234/067", Some(1), 1_234_067, 256),
            ("63/999.p/1", Some(63), 999, 1),
            ("entries/x001/000.p/255", None, 1000, 255),
        ] {
            let tile = LogTile {
                level,
                index,
                width,
            };
            assert_eq!(LogTile::parse(path), Some(tile), "{path}");
            assert_eq!(tile.path(), path);
        }
        for wrong in [
            "",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "00/000",
            "+0/000",
            "64/000",
            "-1/000",
            "0/x000/001",
            "0/001/002",
            "0/xx01/002",
            "0/x001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/000.p/",
            "0/000.p/+1",
            "data/000",
            "entries/1000",
            "0/000/",
            "0/x018/x446/x744/x073/x709/x551/616",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(LogTile::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_log_has_the_tiles_that_the_specification_counts() {
        // The example of `tlog-tiles` for a tree of 70,000.
        let tiles: Vec<_> = LogTile::of_log(70_000).map(|tile| tile.path()).collect();
        let of = |level: &str| {
            let tiles = tiles.iter().filter(|path| path.starts_with(level));
            (
                tiles.clone().filter(|path| !path.contains(".p/")).count(),
                tiles
                    .filter(|path| path.contains(".p/"))
                    .cloned()
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(of("0/"), (273, vec!["0/273.p/112".to_owned()]));
        assert_eq!(of("1/"), (1, vec!["1/001.p/17".to_owned()]));
        assert_eq!(of("2/"), (0, vec!["2/000.p/1".to_owned()]));
        assert_eq!(of("entries/").0, 273);
        assert_eq!(tiles.len(), 274 + 2 + 1 + 274);
        assert_eq!(LogTile::of_log(0).count(), 0);
        let is_in = |path: &str, size| LogTile::parse(path).unwrap().is_in(size);
        for tile in LogTile::of_log(70_000) {
            assert!(tile.is_in(70_000), "{}", tile.path());
        }
        // Smaller partial tiles are of older checkpoints, and stay.
        assert!(is_in("0/273.p/111", 70_000) && is_in("0/000.p/1", 70_000));
        for wrong in [
            "0/273.p/113",
            "0/273",
            "1/001",
            "2/000.p/2",
            "8/000.p/1",
            "63/000.p/1",
            "entries/274.p/1",
        ] {
            assert!(!is_in(wrong, 70_000), "{wrong}");
        }
        assert!(!is_in("0/x018/x446/x744/x073/x709/x551/615", u64::MAX));
    }
}

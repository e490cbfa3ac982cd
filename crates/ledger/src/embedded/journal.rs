//! A look at fjall's journals before fjall opens them.
//!
//! Every batch is durable before the next one is written, so a power cut can tear one batch only: the
//! last, which nobody was told is done. fjall cuts off some such tears in silence, does not open on
//! others, and cuts off as silently what follows a spot that went bad in the middle, which somebody
//! *was* told is done. Here the three are told apart: a torn last batch is cut off and kept beside
//! the journal; anything else is [`LedgerError::Damaged`], and nothing is changed.
//!
//! The format is that of fjall 3 (version marker `FJL` 3): a batch is a start entry (tag 1, item
//! count u32, sequence number u64), its items (tag 2, value type, compression, keyspace u64, key
//! length u16, value length u32, stored length u32, key, value; or tag 4 with a keyspace), and an end
//! entry (tag 3, XXH3-64 of the items, `FJL` 3), integers little-endian. A test writes journals
//! with fjall itself, so that a change of the format is noticed.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::LedgerError;

const TRAILER: &[u8] = b"FJL\x03";
const START_BYTES: usize = 13;

/// What was cut off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// Where the bytes are now.
    pub(super) kept_in: PathBuf,
    pub(super) bytes: usize,
}

fn failed(path: &Path, error: &io::Error) -> LedgerError {
    LedgerError::Storage(format!("{}: {error}", path.display()))
}

/// Checks the journals of a store that nobody has open, and cuts off a torn last batch.
///
/// # Errors
/// `Damaged` when more than the last batch is not what was written; `Storage` when a file can't be
/// read or written, or another process has the store open.
pub(super) fn check(store: &Path) -> Result<Option<Torn>, LedgerError> {
    let lock_path = store.join("lock");
    let lock = match OpenOptions::new().read(true).write(true).open(&lock_path) {
        Ok(lock) => lock,
        // There is no store yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&lock_path, &error)),
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(super::fault(fjall::Error::Locked)),
        Err(TryLockError::Error(error)) => return Err(failed(&lock_path, &error)),
    }
    let journals = journals(store)?;
    let mut torn = None;
    for (position, path) in journals.iter().enumerate() {
        let bytes = written(path).map_err(|error| failed(path, &error))?;
        let Some(tail) = tail(&bytes) else {
            continue;
        };
        let last = position + 1 == journals.len();
        if !last || has_batch(&bytes[tail.start + 1..tail.end]) {
            return Err(LedgerError::Damaged(format!(
                "{} is not what was written at byte {}, and commits follow that place. Nothing was \
                 changed. Restore the newest backup, or ask for help before opening this folder \
                 with anything else",
                path.display(),
                tail.start
            )));
        }
        torn = Some(cut(store, path, &bytes, tail)?);
    }
    // Closing the file unlocks it as well; saying so keeps the order plain.
    lock.unlock().map_err(|error| failed(&lock_path, &error))?;
    Ok(torn)
}

pub(super) fn journals(store: &Path) -> Result<Vec<PathBuf>, LedgerError> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(store).map_err(|error| failed(store, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| failed(store, &error))?.path();
        let number = (path.extension() == Some(OsStr::new("jnl")))
            .then(|| path.file_stem()?.to_str()?.parse::<u64>().ok())
            .flatten();
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// What follows the last whole batch, without the zeros at the end; `None` when nothing does.
fn tail(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    while let Some(length) = batch(&bytes[start..]) {
        start += length;
    }
    let last = bytes[start..].iter().rposition(|byte| *byte != 0)?;
    Some(start..start + last + 1)
}

/// The bytes of a file up to the hole at its end: fjall makes journals of 64 MiB before it fills them.
fn written(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = data_end(&file)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.rewind()?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(target_os = "linux")]
fn data_end(file: &File) -> io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    let mut end = 0;
    loop {
        match seek(file, SeekFrom::Data(end)) {
            Ok(data) => end = seek(file, SeekFrom::Hole(data))?,
            // There is no data after this place.
            Err(rustix::io::Errno::NXIO) => return Ok(end),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn data_end(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}

/// Whether a whole batch begins somewhere.
fn has_batch(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|start| bytes[start] == 1 && batch(&bytes[start..]).is_some())
}

/// The length of the whole batch that begins here, if one does.
fn batch(bytes: &[u8]) -> Option<usize> {
    let (start, _) = bytes.split_at_checked(START_BYTES)?;
    if start[0] != 1 {
        return None;
    }
    let items = u32::from_le_bytes(start[1..5].try_into().ok()?);
    let mut at = START_BYTES;
    for _ in 0..items {
        at += item(bytes.get(at..)?)?;
    }
    let end = bytes.get(at..at + 1 + 8 + TRAILER.len())?;
    let sum = u64::from_le_bytes(end[1..9].try_into().ok()?);
    let mut hash = Xxh3::new();
    hash.update(&bytes[START_BYTES..at]);
    (end[0] == 3 && &end[9..] == TRAILER && hash.digest() == sum).then_some(at + end.len())
}

fn item(bytes: &[u8]) -> Option<usize> {
    let length = match bytes.first()? {
        2 => {
            let head = bytes.get(..21)?;
            let key = usize::from(u16::from_le_bytes(head[11..13].try_into().ok()?));
            let stored = u32::from_le_bytes(head[17..21].try_into().ok()?);
            21 + key + usize::try_from(stored).ok()?
        }
        4 => 9,
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// Keeps the torn bytes in a file of their own and cuts the journal before them.
fn cut(
    store: &Path,
    journal: &Path,
    bytes: &[u8],
    tail: std::ops::Range<usize>,
) -> Result<Torn, LedgerError> {
    let name = journal
        .file_stem()
        .and_then(OsStr::to_str)
        .unwrap_or("journal");
    let kept_in = store.join(format!("journal-{name}-from-{}.torn", tail.start));
    let keep = || {
        let mut file = File::create(&kept_in)?;
        file.write_all(&bytes[tail.clone()])?;
        file.sync_all()?;
        File::open(store)?.sync_all()
    };
    keep().map_err(|error| failed(&kept_in, &error))?;
    let shorten = || {
        let file = OpenOptions::new().write(true).open(journal)?;
        file.set_len(tail.start as u64)?;
        file.sync_all()
    };
    shorten().map_err(|error| failed(journal, &error))?;
    Ok(Torn {
        kept_in,
        bytes: tail.len(),
    })
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    const BATCHES: usize = 5;

    /// A store of five batches of a small and a large row each, and its journal.
    ///
    /// The journal ends where its last batch does, so that no test copies 64 MiB.
    fn store() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::builder(folder.path())
            .journal_compression(fjall::CompressionType::None)
            .open()
            .unwrap();
        let table = database
            .keyspace("t", KeyspaceCreateOptions::default)
            .unwrap();
        for number in 0..BATCHES {
            let mut batch = database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&table, format!("small{number}"), "value");
            batch.insert(
                &table,
                format!("large{number}"),
                vec![number as u8 + 1; 9000],
            );
            if number > 0 {
                batch.remove(&table, format!("small{}", number - 1));
            }
            batch.commit().unwrap();
        }
        drop((table, database));
        let journal = folder.path().join("0.jnl");
        let bytes = written(&journal).unwrap();
        let end = starts(&bytes)[BATCHES];
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        file.set_len(end as u64 + 1000).unwrap();
        (folder, journal)
    }

    /// Where the batches of a journal begin, and where the last ends.
    fn starts(bytes: &[u8]) -> Vec<usize> {
        let mut starts = vec![0];
        while let Some(length) = batch(&bytes[starts[starts.len() - 1]..]) {
            starts.push(starts[starts.len() - 1] + length);
        }
        starts
    }

    fn rows(folder: &Path) -> usize {
        let database = Database::builder(folder).open().unwrap();
        let table = database
            .keyspace("t", KeyspaceCreateOptions::default)
            .unwrap();
        table.iter().count()
    }

    #[test]
    fn whole_journals_are_left_alone() {
        let (folder, journal) = store();
        let before = std::fs::read(&journal).unwrap();
        assert_eq!(starts(&before).len(), BATCHES + 1);
        assert_eq!(check(folder.path()).unwrap(), None);
        assert_eq!(std::fs::read(&journal).unwrap(), before);
        assert_eq!(rows(folder.path()), BATCHES + 1);
        assert_eq!(check(&folder.path().join("nowhere")).unwrap(), None);
    }

    // Proves: 45 CFR 164.312(c)(1)
    #[test]
    fn a_torn_last_batch_is_cut_off_and_kept() {
        // From each sector of the last batch on, zeros; and each sector alone, zeros or rubbish.
        let (_kept, journal) = store();
        let whole = std::fs::read(journal).unwrap();
        let starts = starts(&whole);
        let (from, to) = (starts[BATCHES - 1], starts[BATCHES]);
        let sectors: Vec<_> = (from..to).step_by(512).collect();
        for (position, sector) in sectors.iter().enumerate() {
            for kind in 0..3 {
                let mut bytes = whole.clone();
                let end = (sector + 512).min(to);
                match kind {
                    0 => bytes[*sector..to].fill(0),
                    1 => bytes[*sector..end].fill(0),
                    _ => bytes[*sector..end].fill(0xa5),
                }
                let (folder, journal) = store();
                std::fs::write(&journal, &bytes).unwrap();
                let torn = check(folder.path()).unwrap();
                // The store opens and holds what came before, and nothing of the torn batch.
                assert_eq!(rows(folder.path()), BATCHES, "{kind} at {sector}");
                if position > 0 || kind > 0 {
                    let torn = torn.unwrap_or_else(|| panic!("{kind} at {sector}, {from} to {to}"));
                    let kept = std::fs::read(&torn.kept_in).unwrap();
                    assert_eq!(kept, bytes[from..from + torn.bytes], "{kind} at {sector}");
                }
                assert_eq!(check(folder.path()).unwrap(), None);
            }
        }
    }

    // Proves: 45 CFR 164.312(c)(2)
    #[test]
    fn what_commits_follow_is_damage_and_is_not_changed() {
        let (_kept, journal) = store();
        let whole = std::fs::read(journal).unwrap();
        let starts = starts(&whole);
        for number in 0..BATCHES - 1 {
            for sector in (starts[number]..starts[number + 1]).step_by(512) {
                let (folder, journal) = store();
                let mut bytes = whole.clone();
                let end = (sector + 512).min(starts[number + 1]);
                bytes[sector..end].fill(0);
                std::fs::write(&journal, &bytes).unwrap();
                let outcome = check(folder.path());
                assert!(
                    matches!(&outcome, Err(LedgerError::Damaged(text)) if text.contains(&format!("byte {}", starts[number]))),
                    "{sector}: {outcome:?}"
                );
                assert_eq!(std::fs::read(&journal).unwrap(), bytes);
            }
        }
        // The same in the last batch of a journal that another follows.
        let (folder, journal) = store();
        let mut bytes = whole.clone();
        bytes[starts[BATCHES] - 1] = 0;
        std::fs::write(&journal, &bytes).unwrap();
        std::fs::write(folder.path().join("1.jnl"), vec![0; 100]).unwrap();
        assert!(matches!(check(folder.path()), Err(LedgerError::Damaged(_))));
    }

    #[test]
    fn an_open_store_is_not_touched() {
        let (folder, _) = store();
        let database = Database::builder(folder.path()).open().unwrap();
        let outcome = check(folder.path());
        assert!(
            matches!(&outcome, Err(LedgerError::Storage(text)) if text.contains("another process")),
            "{outcome:?}"
        );
        drop(database);
        assert_eq!(check(folder.path()).unwrap(), None);
    }
}

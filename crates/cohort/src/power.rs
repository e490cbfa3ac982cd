//! A disk after a power loss, made from what the shim of `tests/power/shim.c` noted.
//!
//! The least that the disk may hold is what was synced; the most is what was written. [`rebuild`]
//! draws a disk between the two from a seed, sector by sector and name by name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::random::Random;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// How much of what was not synced the drawn disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing: the least that a disk may hold.
    Lost,
    /// Each sector and each name with probability one half.
    Torn,
}

/// Builds the disk that `live` (written under the shim with this `shadow`) leaves behind in
/// `target`, an empty folder.
///
/// # Errors
/// When a file can't be read or written.
pub fn rebuild(
    live: &Path,
    shadow: &Path,
    target: &Path,
    unsynced: Unsynced,
    random: &mut Random,
) -> io::Result<()> {
    let synced = match fs::read_to_string(shadow.join("d").join(inode(live)?.to_string())) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let mut names: BTreeMap<String, (u64, bool)> = synced.clone();
    if unsynced == Unsynced::Torn {
        for entry in fs::read_dir(live)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let written = (entry.metadata()?.ino(), entry.file_type()?.is_dir());
            // A new name, or a name that was given to another file, may have reached the disk.
            if synced.get(&name) != Some(&written) && random.coin() {
                names.insert(name, written);
            }
        }
    }
    for (name, (number, folder)) in names {
        let here = target.join(&name);
        if folder {
            fs::create_dir_all(&here)?;
            let there = live.join(&name);
            if there.is_dir() && inode(&there)? == number {
                rebuild(&there, shadow, &here, unsynced, random)?;
            }
            continue;
        }
        let mut kept = optional(&shadow.join("i").join(number.to_string()))?.unwrap_or_default();
        if unsynced == Unsynced::Torn {
            let there = live.join(&name);
            let written = if there.is_file() && inode(&there)? == number {
                fs::read(&there)?
            } else {
                optional(&shadow.join("k").join(number.to_string()))?.unwrap_or_default()
            };
            tear(&mut kept, &written, random);
        }
        fs::write(here, kept)?;
    }
    Ok(())
}

/// Lets sectors of `written` into `kept`, each with probability one half.
fn tear(kept: &mut Vec<u8>, written: &[u8], random: &mut Random) {
    if written.len() > kept.len() && random.coin() {
        kept.resize(written.len(), 0);
    }
    let common = kept.len().min(written.len());
    for start in (0..common).step_by(SECTOR_BYTES) {
        let end = (start + SECTOR_BYTES).min(common);
        if kept[start..end] != written[start..end] && random.coin() {
            kept[start..end].copy_from_slice(&written[start..end]);
        }
    }
}

fn parse(text: &str) -> BTreeMap<String, (u64, bool)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ' ');
            let number = parts.next()?.parse().ok()?;
            let folder = parts.next()? == "d";
            Some((parts.next()?.to_owned(), (number, folder)))
        })
        .collect()
}

fn optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn inode(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

//! The rejects file: what was refused, why, and what it was.
//!
//! No rejects file is ever removed: one that is not of this import is moved aside (`FILE.1`, `FILE.2`,
//! …) when the first entry is refused, because it may hold the only copy of what was refused before.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ImportError, lock};

/// How many old files may lie beside the new one.
const ASIDE_MAX: u32 = 9_999;

/// A refused entry of what somebody sent, for them to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedLine {
    /// The line, from 1.
    pub line: u64,
    /// The place in the line's bundle, from 0, if it is of one.
    pub entry: Option<u64>,
    /// Why.
    pub reason: String,
}

/// Where refused entries go.
pub(super) struct Rejects {
    path: PathBuf,
    /// Of what somebody sends: how many are kept in memory, and the file stays unused.
    kept_max: Option<usize>,
    state: Mutex<State>,
}

struct State {
    /// Opened with the first entry.
    file: Option<BufWriter<File>>,
    /// Whether what lies there is this import's own, from before it was stopped.
    ours: bool,
    /// Hashes of (source, line, entry, original): work that is done again after a stop must not refuse
    /// the same entry twice.
    seen: HashSet<u64>,
    /// How many entries of each source.
    counts: HashMap<String, u64>,
    kept: Vec<RejectedLine>,
}

/// What lies at the path before an import.
#[derive(Default)]
pub(super) struct Earlier {
    seen: HashSet<u64>,
    counts: HashMap<String, u64>,
    /// Patients whose entries were refused because another person has their id.
    pub(super) others: HashSet<String>,
    cut: bool,
}

impl Earlier {
    /// Reads the file; nothing when there is none.
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        earlier(path).map_err(|error| wrong(path, &error))
    }
    /// How many entries of a source are in it.
    pub(super) fn of(&self, source: &str) -> u64 {
        self.counts.get(source).copied().unwrap_or(0)
    }
}

/// A refused entry.
pub(super) struct Refused<'a> {
    pub(super) source: &'a str,
    pub(super) line: u64,
    pub(super) entry: Option<u64>,
    pub(super) reason: &'a str,
    /// The patient's id, when it is refused because somebody else has it.
    pub(super) other: Option<&'a str>,
    /// As it was read, if it could be held.
    pub(super) original: Option<&'a [u8]>,
}

#[derive(Serialize)]
struct Row<'a> {
    source: &'a str,
    line: u64,
    entry: Option<u64>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<&'a str>,
    original: Original<'a>,
}

/// The original as it was: as JSON when it is one line of JSON, or else as text, since one line of the
/// file must be one line. Parsing it would lose what is often the reason: a member that is there
/// twice, digits, escapes.
#[derive(Serialize)]
#[serde(untagged)]
enum Original<'a> {
    Nothing,
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl<'a> Original<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::Nothing;
        };
        let one_line = !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        match serde_json::from_slice(bytes) {
            Ok(raw) if one_line => Self::Json(raw),
            _ => Self::Text(String::from_utf8_lossy(bytes)),
        }
    }
}

#[derive(Deserialize)]
struct EarlierRow {
    source: String,
    line: u64,
    entry: Option<u64>,
    #[serde(default)]
    patient: Option<String>,
    #[serde(default)]
    original: Option<Box<RawValue>>,
}

fn name(source: &str, line: u64, entry: Option<u64>, original: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (source, line, entry, original).hash(&mut hasher);
    hasher.finish()
}

impl Rejects {
    /// Goes on with the file of an import that was stopped, or (`None`) makes a new one when needed.
    pub(super) fn open(path: PathBuf, earlier: Option<Earlier>) -> Result<Self, ImportError> {
        let ours = earlier.is_some();
        let earlier = earlier.unwrap_or_default();
        if earlier.cut {
            // A line that the stop cut off is ended, so that the next one stands alone.
            let ended = open(&path).and_then(|mut file| file.write_all(b"\n"));
            ended.map_err(|error| wrong(&path, &error))?;
        }
        let state = State {
            file: None,
            ours,
            seen: earlier.seen,
            counts: earlier.counts,
            kept: Vec::new(),
        };
        Ok(Self {
            path,
            kept_max: None,
            state: Mutex::new(state),
        })
    }
    /// Keeps up to so many in memory.
    pub(super) fn in_memory(most: usize) -> Self {
        let state = State {
            file: None,
            ours: false,
            seen: HashSet::new(),
            counts: HashMap::new(),
            kept: Vec::new(),
        };
        Self {
            path: PathBuf::new(),
            kept_max: Some(most),
            state: Mutex::new(state),
        }
    }
    /// Those that are kept in memory, by line.
    pub(super) fn take_kept(&self) -> Vec<RejectedLine> {
        let mut kept = std::mem::take(&mut lock(&self.state).kept);
        kept.sort_by_key(|rejected| (rejected.line, rejected.entry));
        kept
    }
    /// How many entries are in it.
    pub(super) fn count(&self) -> u64 {
        let state = lock(&self.state);
        (state.seen.len() + state.kept.len()) as u64
    }
    /// How many entries of each source are in it.
    pub(super) fn counts(&self) -> HashMap<String, u64> {
        lock(&self.state).counts.clone()
    }
    /// Writes an entry.
    pub(super) fn add(&self, refused: &Refused<'_>) -> Result<(), ImportError> {
        let Refused {
            source,
            line,
            entry,
            reason,
            other,
            original,
        } = *refused;
        if let Some(most) = self.kept_max {
            let kept = &mut lock(&self.state).kept;
            if kept.len() >= most {
                return Err(ImportError::TooManyRejects { most });
            }
            kept.push(RejectedLine {
                line,
                entry,
                reason: reason.to_owned(),
            });
            return Ok(());
        }
        let original = Original::of(original);
        let written = (|| {
            let shown = serde_json::to_string(&original)?;
            let row = serde_json::to_string(&Row {
                source,
                line,
                entry,
                reason,
                patient: other,
                original,
            })?;
            let mut state = lock(&self.state);
            if !state.seen.insert(name(source, line, entry, &shown)) {
                return Ok(());
            }
            *state.counts.entry(source.to_owned()).or_default() += 1;
            if state.file.is_none() {
                if !state.ours {
                    put_aside(&self.path)?;
                }
                state.file = Some(BufWriter::new(open(&self.path)?));
                sync_folder(&self.path)?;
            }
            match &mut state.file {
                Some(file) => writeln!(file, "{row}"),
                None => Ok(()),
            }
        })();
        written.map_err(|error| wrong(&self.path, &error))
    }
    /// Puts what was written on disk.
    pub(super) fn flush(&self) -> Result<(), ImportError> {
        match &mut lock(&self.state).file {
            Some(file) => file
                .flush()
                .and_then(|()| file.get_ref().sync_data())
                .map_err(|error| wrong(&self.path, &error)),
            None => Ok(()),
        }
    }
}

fn wrong(path: &Path, error: &io::Error) -> ImportError {
    ImportError::Rejects {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Opens the file to append; it holds patients' data, so nobody else may read it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Moves what lies at the path to the first number that is free.
fn put_aside(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return Ok(());
    }
    for number in 1..=ASIDE_MAX {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{number}"));
        let aside = PathBuf::from(aside);
        if !aside.try_exists()? {
            return std::fs::rename(path, aside);
        }
    }
    Err(io::Error::other("there are too many old rejects files"))
}

/// Makes the file's name durable, as its content will be: the marks rely on it.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn earlier(path: &Path) -> io::Result<Earlier> {
    let mut found = Earlier::default();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while {
        line.clear();
        reader.read_until(b'\n', &mut line)?
    } > 0
    {
        found.cut = line.last() != Some(&b'\n');
        if let Ok(row) = serde_json::from_slice::<EarlierRow>(&line) {
            let original = row.original.as_ref().map_or("null", |raw| raw.get());
            found
                .seen
                .insert(name(&row.source, row.line, row.entry, original));
            *found.counts.entry(row.source).or_default() += 1;
            found.others.extend(row.patient);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_stay_as_they_were() {
        for (original, expected) in [
            (
                r#"{"birthDate": "1950", "birthDate": "1951", "n": 1.10, "s": "\u00e9"}"#,
                r#"{"birthDate": "1950", "birthDate": "1951", "n": 1.10, "s": "\u00e9"}"#,
            ),
            ("{\n}", r#""{\n}""#),
            ("not json", r#""not json""#),
        ] {
            let shown = serde_json::to_string(&Original::of(Some(original.as_bytes()))).unwrap();
            assert_eq!(shown, expected);
        }
        assert_eq!(serde_json::to_string(&Original::of(None)).unwrap(), "null");
    }
}

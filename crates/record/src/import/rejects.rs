//! The rejects file: what was refused, why, and what it was.
use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{ImportError, lock};

/// Where refused entries go.
pub(super) struct Rejects {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Opened with the first entry.
    file: Option<BufWriter<File>>,
    /// Hashes of (source, line, entry, original): work that is done again after a stop must not refuse the same
    /// entry twice.
    seen: HashSet<u64>,
}

fn name(source: &str, line: u64, entry: Option<u64>, original: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    (source, line, entry, original.to_string()).hash(&mut hasher);
    hasher.finish()
}

impl Rejects {
    /// Goes on with the file of an import that was stopped, or makes place for a new one.
    pub(super) fn open(path: PathBuf, resumed: bool) -> Result<Self, ImportError> {
        let prepared = if resumed {
            earlier(&path)
        } else {
            remove(&path)
        };
        match prepared {
            Ok(seen) => Ok(Self {
                path,
                state: Mutex::new(State { file: None, seen }),
            }),
            Err(error) => Err(wrong(&path, &error)),
        }
    }
    /// How many entries are in it.
    pub(super) fn count(&self) -> u64 {
        lock(&self.state).seen.len() as u64
    }
    /// Writes an entry; `original` as it was read, if it could be held.
    pub(super) fn add(
        &self,
        source: &str,
        line: u64,
        entry: Option<u64>,
        reason: &str,
        original: Option<&[u8]>,
    ) -> Result<(), ImportError> {
        // One line of the file must be one line, however the original was laid out.
        let original = original.map_or(Value::Null, |bytes| {
            serde_json::from_slice(bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
        });
        let name = name(source, line, entry, &original);
        let row = json!({ "source": source, "line": line, "entry": entry, "reason": reason, "original": original });
        let mut state = lock(&self.state);
        if !state.seen.insert(name) {
            return Ok(());
        }
        let written = (|| {
            if state.file.is_none() {
                state.file = Some(BufWriter::new(open(&self.path)?));
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

fn remove(path: &Path) -> io::Result<HashSet<u64>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(HashSet::new()),
    }
}

/// What is in the file of an import that was stopped. A line that the stop cut off is ended, so that
/// the next one stands alone.
fn earlier(path: &Path) -> io::Result<HashSet<u64>> {
    let mut seen = HashSet::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(seen),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    let mut cut = false;
    while {
        line.clear();
        reader.read_until(b'\n', &mut line)?
    } > 0
    {
        cut = line.last() != Some(&b'\n');
        if let Ok(row) = serde_json::from_slice::<Value>(&line) {
            let source = row
                .get("source")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let (line, entry) = (
                row.get("line").and_then(Value::as_u64),
                row.get("entry").and_then(Value::as_u64),
            );
            seen.insert(name(
                source,
                line.unwrap_or(0),
                entry,
                row.get("original").unwrap_or(&Value::Null),
            ));
        }
    }
    if cut {
        open(path)?.write_all(b"\n")?;
    }
    Ok(seen)
}

//! Inputs: files, folders, standard input; plain, gzip or zstd, told apart by their first bytes.
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use super::{ImportError, LINE_BYTES_MAX, lock};
use crate::BUNDLE_BYTES_MAX;

const BUFFER_BYTES: usize = 256 * 1024;
/// How much of a file is looked at to know what is in it.
const HEAD_BYTES: u64 = 4096;
/// The largest zstd window that is accepted, as a power of two: 128 MiB, what the `zstd` tool takes too.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What somebody sends, to be read once.
type Stream = Arc<Mutex<Option<Box<dyn Read + Send>>>>;

/// One input.
#[derive(Clone)]
pub(super) struct Input {
    /// `None`: standard input, or what somebody sends. Neither can be read again.
    pub(super) path: Option<PathBuf>,
    stream: Option<Stream>,
    /// As it is named to people.
    pub(super) shown: String,
    size: u64,
    /// Path, size and time in one text: what it is recognised by after a stop.
    pub(super) fingerprint: String,
    /// Whether the first resource in it is a patient.
    pub(super) patients_first: bool,
}

fn wrong(path: &Path, error: &io::Error) -> ImportError {
    ImportError::Input {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// The files behind the paths; folders are walked in the order of names, without hidden files and
/// without the rejects of this import and earlier ones. Files that begin with a patient come first, as
/// in bulk exports a patient may turn out to be another person than the one who has the id here, and
/// what follows must know.
pub(super) fn expand(paths: &[PathBuf], rejects: &Path) -> Result<Vec<Input>, ImportError> {
    let rejects = full(rejects);
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input {
                path: None,
                stream: None,
                shown: "-".to_owned(),
                size: 0,
                fingerprint: String::new(),
                patients_first: false,
            });
        } else {
            walk(path, &rejects, true, &mut inputs)?;
        }
    }
    inputs.sort_by_key(|input| !input.patients_first);
    Ok(inputs)
}

/// The whole path of a file, which need not be there.
pub(super) fn full(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let there = path.canonicalize().ok();
    let named = || Some(folder.ok()?.join(path.file_name()?));
    there.or_else(named).unwrap_or_else(|| path.to_owned())
}

/// Whether a path is that of the rejects, or of rejects that were moved aside (`rejects.1`).
fn is_aside(path: &Path, rejects: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    text.strip_prefix(rejects.as_os_str().as_encoded_bytes())
        .is_some_and(|rest| match rest {
            [] => true,
            [b'.', number @ ..] => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
            _ => false,
        })
}

fn walk(
    path: &Path,
    rejects: &Path,
    named: bool,
    inputs: &mut Vec<Input>,
) -> Result<(), ImportError> {
    let data = path.metadata().map_err(|error| wrong(path, &error))?;
    if !data.is_dir() {
        let full = path.canonicalize().map_err(|error| wrong(path, &error))?;
        if named && full == rejects {
            return Err(ImportError::Input {
                path: path.display().to_string(),
                reason: "is also where refused entries go; rename it, or give another file with --rejects".to_owned(),
            });
        }
        if !named && is_aside(&full, rejects) {
            return Ok(());
        }
        let changed = data
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_nanos());
        let fingerprint = format!("{}\n{}\n{changed}", full.display(), data.len());
        let mut input = Input {
            path: Some(path.to_owned()),
            stream: None,
            shown: path.display().to_string(),
            size: data.len(),
            fingerprint,
            patients_first: false,
        };
        // What can't be read says so when it is its turn.
        input.patients_first = input.begins_with_patient().unwrap_or(false);
        inputs.push(input);
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(|error| wrong(path, &error))? {
        let entry = entry.map_err(|error| wrong(path, &error))?;
        let name = entry.file_name();
        // A link to a folder could lead round in a circle.
        let kind = entry.file_type().map_err(|error| wrong(path, &error))?;
        let circle = kind.is_symlink() && entry.path().is_dir();
        if !name.as_encoded_bytes().starts_with(b".") && !circle {
            names.push(name);
        }
    }
    names.sort();
    names
        .iter()
        .try_for_each(|name| walk(&path.join(name), rejects, false, inputs))
}

impl Input {
    /// What somebody sends.
    pub(super) fn sent(reader: Box<dyn Read + Send>) -> Self {
        Self {
            path: None,
            stream: Some(Arc::new(Mutex::new(Some(reader)))),
            shown: "the body".to_owned(),
            size: 0,
            fingerprint: String::new(),
            patients_first: false,
        }
    }
    /// The longest line: of what somebody else sends, no more than a transaction has.
    pub(super) fn line_bytes_max(&self) -> usize {
        match self.stream {
            Some(_) => BUNDLE_BYTES_MAX,
            None => LINE_BYTES_MAX,
        }
    }
    /// Its size, where it has one.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.path.as_ref().map(|_| self.size)
    }
    pub(super) fn error(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Input {
            path: self.shown.clone(),
            reason: reason.into(),
        }
    }
    /// Whether the first `resourceType` in its first few kilobytes says that it is a patient.
    fn begins_with_patient(&self) -> io::Result<bool> {
        const NAME: &[u8] = b"\"resourceType\"";
        let mut head = Vec::new();
        self.open(None)?.take(HEAD_BYTES).read_to_end(&mut head)?;
        let place = head.windows(NAME.len()).position(|part| part == NAME);
        Ok(place.is_some_and(|place| {
            let rest = head[place + NAME.len()..].trim_ascii_start();
            let value = rest.strip_prefix(b":").unwrap_or_default();
            value.trim_ascii_start().starts_with(b"\"Patient\"")
        }))
    }
    /// Opens it; what is read of it as stored is added to `counter`.
    pub(super) fn open<'a>(
        &self,
        counter: Option<&'a AtomicU64>,
    ) -> io::Result<Box<dyn BufRead + 'a>> {
        if let Some(stream) = &self.stream {
            let again = || io::Error::other("it can't be read again");
            let inner = lock(stream).take().ok_or_else(again)?;
            return decompress(Counted { inner, counter });
        }
        match &self.path {
            Some(path) => decompress(Counted {
                inner: std::fs::File::open(path)?,
                counter,
            }),
            None => decompress(Counted {
                inner: io::stdin(),
                counter,
            }),
        }
    }
}

struct Counted<'a, R> {
    inner: R,
    counter: Option<&'a AtomicU64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(counter) = self.counter {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }
}

fn decompress<'a>(mut raw: impl Read + 'a) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut magic = Vec::with_capacity(6);
    raw.by_ref().take(6).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let other = [
        (&b"PK\x03\x04"[..], "zip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
    ]
    .into_iter()
    .find(|(bytes, _)| magic.starts_with(bytes));
    if let Some((_, name)) = other {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{name} is not read; unpack it first (plain, gzip and zstd are)"),
        ));
    }
    let whole = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(magic).chain(raw));
    let mut text: Box<dyn BufRead + 'a> = if gzip {
        Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            flate2::bufread::MultiGzDecoder::new(whole),
        ))
    } else if zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
    } else {
        Box::new(whole)
    };
    // A byte order mark is no JSON, but Windows tools write it.
    if text.fill_buf()?.starts_with(&[0xef, 0xbb, 0xbf]) {
        text.consume(3);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_of_earlier_imports_are_known_by_their_names() {
        for (path, expected) in [
            ("/a/rejects.ndjson", true),
            ("/a/rejects.ndjson.1", true),
            ("/a/rejects.ndjson.12", true),
            ("/a/rejects.ndjson.", false),
            ("/a/rejects.ndjson.gz", false),
            ("/a/rejects.ndjson2", false),
            ("/b/rejects.ndjson", false),
        ] {
            let aside = is_aside(Path::new(path), Path::new("/a/rejects.ndjson"));
            assert_eq!(aside, expected, "{path}");
        }
    }
}

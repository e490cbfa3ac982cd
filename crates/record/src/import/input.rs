//! Inputs: files, folders, standard input; plain, gzip or zstd, told apart by their first bytes.
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::ImportError;

const BUFFER_BYTES: usize = 256 * 1024;
/// The largest zstd window that is accepted, as a power of two: 128 MiB, what the `zstd` tool takes too.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// One input.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// `None`: standard input.
    pub(super) path: Option<PathBuf>,
    /// As it is named to people.
    pub(super) shown: String,
    size: u64,
    /// Path, size and time in one text: what it is recognised by after a stop.
    pub(super) fingerprint: String,
}

fn wrong(path: &Path, error: &io::Error) -> ImportError {
    ImportError::Input {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// The files behind the paths; folders are walked in the order of names, without hidden files.
pub(super) fn expand(paths: &[PathBuf], rejects: &Path) -> Result<Vec<Input>, ImportError> {
    let rejects = rejects.canonicalize().ok();
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input {
                path: None,
                shown: "-".to_owned(),
                size: 0,
                fingerprint: String::new(),
            });
        } else {
            walk(path, rejects.as_deref(), &mut inputs)?;
        }
    }
    Ok(inputs)
}

fn walk(path: &Path, rejects: Option<&Path>, inputs: &mut Vec<Input>) -> Result<(), ImportError> {
    let data = path.metadata().map_err(|error| wrong(path, &error))?;
    if !data.is_dir() {
        let full = path.canonicalize().map_err(|error| wrong(path, &error))?;
        if rejects == Some(full.as_path()) {
            return Ok(());
        }
        let changed = data
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_nanos());
        let fingerprint = format!("{}\n{}\n{changed}", full.display(), data.len());
        inputs.push(Input {
            path: Some(path.to_owned()),
            shown: path.display().to_string(),
            size: data.len(),
            fingerprint,
        });
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
        .try_for_each(|name| walk(&path.join(name), rejects, inputs))
}

impl Input {
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
    /// Opens it; what is read of it as stored is added to `counter`.
    pub(super) fn open<'a>(
        &self,
        counter: Option<&'a AtomicU64>,
    ) -> io::Result<Box<dyn BufRead + 'a>> {
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

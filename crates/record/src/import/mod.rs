//! Import of FHIR bundles and NDJSON: streaming, resumable, idempotent.
//!
//! **What goes in.** An import is entry-wise, whatever the bundle's type: what is valid goes in, what
//! is refused goes to the rejects file with its reason and its original. Everything that one patient
//! has in a bundle goes in in commits of up to [`CHUNK_ENTRIES`] resources. A line of NDJSON is a
//! bundle or a resource; a document (which may be pretty-printed) is one of either. A row of a rejects
//! file, mended, is what it was before: an entry, a resource or a bundle.
//!
//! **Which id it gets.** `PUT Type/id` keeps that id. `ifNoneExist` and `PUT Type?criteria` mean the
//! resource that the criteria find, else an id derived from the criteria. An entry whose `fullUrl` is
//! a URN that names one thing in the world (`urn:uuid:` with a UUID, `urn:oid:`) gets an id derived
//! from it (and its patient, who decides the shard). Any other URN (`urn:uuid:patient`) is good in its
//! own bundle only: the id is derived from URN and content, and for a patient who has neither an
//! identifier nor a name with a birth date, from the whole bundle. An entry with an id of its own and
//! no URN keeps it; what has neither gets one derived from its content. Derived ids are
//! the same each time, so importing again finds what is there: the same content is left alone,
//! different content makes a new version. Content that an entry with a URN had in an earlier version
//! counts as there: bundles that bring one resource in several states don't swap them to and fro. (An
//! id of its own promises an order of states; an input that holds such a resource several times with
//! different content makes those versions each time.)
//!
//! **One id, two people.** Ids from several sources can be the same. A patient who is there already is
//! not overwritten by one who shares no identifier with them and differs in name or birth date: that
//! entry is refused, and so is all that belongs to them. (What says only `Patient/1`, and comes without
//! the patient, can't be told apart, unless the patient came before it in the same import; files that
//! begin with patients are read first.)
//!
//! **References** to entries of the same bundle follow them to their new ids, by `fullUrl` or by
//! `Type/id`. Conditional references are looked up by identifier in the bundle, then in the store;
//! when nothing is found they are tried once more after all that came before, and (for files) after
//! everything else, before their entry is refused. The same holds for a reference by a URN to a patient
//! of another bundle; any other URN that no entry of the bundle has is refused, because nothing could
//! ever be found by it. A literal reference (`Type/id`) to what is nowhere stays as it is.
//!
//! **Going on after a stop.** How far each file got is kept in the store and written after the data,
//! so an import that was stopped goes on about where it was; a file whose size or time changed starts
//! over, and so does one whose refused entries are not in the rejects file any more. When all is done
//! the marks are reset, so another run checks everything again. After a resumed run the count of rejects includes those that were in the rejects file already.
//!
//! **Memory** is bounded by the workers: a line has at most [`LINE_BYTES_MAX`], lines and documents
//! over [`SMALL_BYTES`] are read entry by entry (three times: patients, owners, writing).

mod entry;
mod index;
mod input;
mod mark;
mod person;
mod read;
mod rejects;
mod store;
mod stream;
mod unit;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trust::{Action, Agent, Permit, Purpose, Target, Trust, TrustError};

use input::Input;
use mark::Marks;
use read::Envelope;
use rejects::{Earlier, Rejects};

pub use rejects::RejectedLine;

/// Resources of one commit: enough to share the cost of an audit leaf, few enough that a commit takes
/// well under a tenth of a second.
pub const CHUNK_ENTRIES: usize = 500;
/// Lines and documents of up to this many bytes are parsed in one go.
pub const SMALL_BYTES: usize = 16 * 1024 * 1024;
/// The longest line of NDJSON, and the largest document on standard input, which can't be read twice.
pub const LINE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The most entries of one bundle; what is known of each takes about 100 bytes while it is read.
pub const BUNDLE_ENTRIES_MAX: u64 = 1_000_000;
/// The largest single resource.
pub const RESOURCE_BYTES_MAX: usize = 50 * 1024 * 1024;
/// The longest entry of a document that is read entry by entry: a resource, and what is around it.
const ENTRY_BYTES_MAX: u64 = RESOURCE_BYTES_MAX as u64 + 64 * 1024;
/// The most entries that wait for the end of the import; what is refused beyond that is refused at once.
const DEFERRED_MAX: usize = 1_000_000;
/// How many conditional references are remembered across bundles.
const FOUND_MAX: usize = 100_000;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const MARK_EVERY: Duration = Duration::from_secs(2);

/// What to import and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Files or folders; `-` is standard input.
    pub paths: Vec<PathBuf>,
    /// Where refused entries go (NDJSON: source, line, entry, reason, original). Made when the first
    /// one is refused; what is there from before is then moved aside (`FILE.1`, …), unless it is of
    /// this import, which was stopped. It can't be an input as well.
    pub rejects: PathBuf,
    /// How many bundles are worked on at once.
    pub parallel: usize,
}

/// Progress, told as it happens.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct ImportProgress {
    /// Bytes of input read (as stored, before decompression).
    pub bytes_read: u64,
    /// Bytes of input in all, where known.
    pub bytes_total: Option<u64>,
    /// Resources newly written.
    pub written: u64,
    /// Resources that were there already, the same.
    pub unchanged: u64,
    /// Entries refused.
    pub rejected: u64,
}

/// Why an import as a whole failed. What was imported until then stays, and running it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An input can't be read.
    #[error("{path}: {reason}")]
    Input {
        /// which
        path: String,
        /// why
        reason: String,
    },
    /// The rejects file can't be written.
    #[error("rejects file {path}: {reason}")]
    Rejects {
        /// which
        path: String,
        /// why
        reason: String,
    },
    /// More entries were refused than can be told of.
    #[error("more than {most} entries were refused")]
    TooManyRejects {
        /// how many are told of
        most: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Trust(TrustError),
}

/// Names an entry: input, line, place in the bundle.
type EntryName = (usize, u64, Option<u64>);

/// What all parts of a running import share.
struct Import {
    trust: Trust,
    permit: Permit,
    /// To look at earlier versions.
    history: Option<Permit>,
    inputs: Vec<Input>,
    rejects: Rejects,
    marks: Marks,
    bytes_read: AtomicU64,
    bytes_total: Option<u64>,
    written: AtomicU64,
    unchanged: AtomicU64,
    /// Conditional references found so far.
    found: Mutex<HashMap<String, String>>,
    /// Entries whose references wait for the end.
    deferred: Mutex<BTreeSet<EntryName>>,
    /// Ids of patients that came in as another person than the one who has the id here.
    others: Mutex<HashSet<String>>,
}

/// One way through the inputs.
struct Pass {
    /// Only these entries; `None`: all.
    only: Option<BTreeSet<EntryName>>,
}

impl Import {
    fn progress(&self) -> ImportProgress {
        ImportProgress {
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            bytes_total: self.bytes_total,
            written: self.written.load(Ordering::Relaxed),
            unchanged: self.unchanged.load(Ordering::Relaxed),
            rejected: self.rejects.count(),
        }
    }
}

/// A lock whose data stays usable when a holder panicked: counters and caches, all of them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs an import; `progress` is called often.
///
/// # Errors
/// [`ImportError`]; entries that are refused are counted, not errors.
pub async fn run(
    trust: &Trust,
    agent: &Agent,
    options: &ImportOptions,
    progress: &(dyn Fn(ImportProgress) + Send + Sync),
) -> Result<ImportProgress, ImportError> {
    run_marking(trust, agent, options, MARK_EVERY, progress).await
}

/// As [`run`], keeping in the store how far each file got every `mark_every`. Marks cost a commit each;
/// without one since, a stopped import looks at what it has done once more.
///
/// # Errors
/// As [`run`].
pub async fn run_marking(
    trust: &Trust,
    agent: &Agent,
    options: &ImportOptions,
    mark_every: Duration,
    progress: &(dyn Fn(ImportProgress) + Send + Sync),
) -> Result<ImportProgress, ImportError> {
    let inputs = {
        let options = options.clone();
        blocking(move || input::expand(&options.paths, &options.rejects)).await?
    };
    let mut random = [0; 8];
    trust.vault().ledger().entropy().fill(&mut random);
    let request_id = format!("import-{:016x}", u64::from_be_bytes(random));
    let decide = |action| {
        trust.decide(
            agent,
            Purpose::Operations,
            action,
            Target::default(),
            &request_id,
        )
    };
    let permit = decide(Action::Import).await.map_err(ImportError::Trust)?;
    let history = match decide(Action::History).await {
        Ok(permit) => Some(permit),
        // Without it, what an earlier version said counts as new.
        Err(TrustError::Refused(_)) => None,
        Err(error) => return Err(ImportError::Trust(error)),
    };
    let (file, mut earlier) = {
        let path = options.rejects.clone();
        blocking(move || Ok((input::full(&path), Earlier::read(&path)?))).await?
    };
    let file = file.display().to_string();
    let marks = Marks::load(trust.vault(), &permit, &inputs, file, &earlier)
        .await
        .map_err(ImportError::Trust)?;
    let others = std::mem::take(&mut earlier.others);
    let (rejects, others) = if marks.resumed() {
        let path = options.rejects.clone();
        let open = blocking(move || Rejects::open(path, Some(earlier))).await?;
        (open, others)
    } else {
        (
            Rejects::open(options.rejects.clone(), None)?,
            HashSet::new(),
        )
    };
    let bytes_total = inputs.iter().map(Input::bytes).sum();
    let import = Arc::new(Import {
        trust: trust.clone(),
        permit,
        history,
        rejects,
        marks,
        bytes_read: AtomicU64::new(0),
        bytes_total,
        written: AtomicU64::new(0),
        unchanged: AtomicU64::new(0),
        found: Mutex::default(),
        deferred: Mutex::default(),
        others: Mutex::new(others),
        inputs,
    });
    drive(&import, options.parallel.max(1), mark_every, progress).await?;
    let done = import.progress();
    progress(done);
    Ok(done)
}

/// Goes through the inputs until nothing waits any more.
async fn drive(
    import: &Arc<Import>,
    parallel: usize,
    mark_every: Duration,
    progress: &(dyn Fn(ImportProgress) + Send + Sync),
) -> Result<(), ImportError> {
    pass(import, Pass { only: None }, parallel, mark_every, progress).await?;
    let deferred = std::mem::take(&mut *lock(&import.deferred));
    if !deferred.is_empty() {
        let only = Some(deferred);
        pass(import, Pass { only }, parallel, mark_every, progress).await?;
    }
    import.rejects.flush()?;
    import
        .marks
        .reset(import.trust.vault(), &import.permit, &import.rejects)
        .await
        .map_err(ImportError::Trust)
}

/// Imports what somebody sends, plain, gzip or zstd, under their permits: `permit` to import, `history`
/// to look at earlier versions. Nothing of it is kept but what was written; refused entries come back, up
/// to `rejects_max` of them. Gives what was done until then also when it fails. Dropping it stops it.
pub(crate) async fn run_sent(
    trust: &Trust,
    permit: &Permit,
    history: Option<Permit>,
    reader: Box<dyn std::io::Read + Send>,
    rejects_max: usize,
    parallel: usize,
) -> (ImportProgress, Vec<RejectedLine>, Result<(), ImportError>) {
    let inputs = vec![Input::sent(reader)];
    let nothing = Earlier::default();
    let marks = Marks::load(trust.vault(), permit, &inputs, String::new(), &nothing).await;
    let marks = match marks {
        Ok(marks) => marks,
        Err(error) => {
            let failed = Err(ImportError::Trust(error));
            return (ImportProgress::default(), Vec::new(), failed);
        }
    };
    let import = Arc::new(Import {
        trust: trust.clone(),
        permit: permit.clone(),
        history,
        rejects: Rejects::in_memory(rejects_max),
        marks,
        bytes_read: AtomicU64::new(0),
        bytes_total: None,
        written: AtomicU64::new(0),
        unchanged: AtomicU64::new(0),
        found: Mutex::default(),
        deferred: Mutex::default(),
        others: Mutex::default(),
        inputs,
    });
    let outcome = drive(&import, parallel, MARK_EVERY, &|_| {}).await;
    (import.progress(), import.rejects.take_kept(), outcome)
}

/// Reads the inputs once and works on what comes out of them. Dropping it stops all of it.
async fn pass(
    import: &Arc<Import>,
    pass: Pass,
    parallel: usize,
    mark_every: Duration,
    progress: &(dyn Fn(ImportProgress) + Send + Sync),
) -> Result<(), ImportError> {
    let pass = Arc::new(pass);
    import.marks.rewind();
    let (sender, mut receiver) = mpsc::channel::<Envelope>(parallel);
    let mut reader = JoinSet::new();
    {
        let (import, pass) = (import.clone(), pass.clone());
        reader.spawn_blocking(move || read::all(&import, &pass, &sender));
    }
    let mut workers: JoinSet<Result<(), ImportError>> = JoinSet::new();
    let mut tick = tokio::time::interval(PROGRESS_EVERY.min(mark_every));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut marked = tokio::time::Instant::now();
    let mut open = true;
    while open || !workers.is_empty() {
        tokio::select! {
            envelope = receiver.recv(), if open && workers.len() < parallel => match envelope {
                Some(envelope) => {
                    workers.spawn(unit::work(import.clone(), pass.clone(), envelope));
                }
                None => open = false,
            },
            Some(done) = workers.join_next() => joined(done)?,
            _ = tick.tick() => {
                progress(import.progress());
                if marked.elapsed() >= mark_every {
                    // What a mark says is done must not be missing from the rejects.
                    let moved = import.marks.moved(&import.rejects);
                    import.rejects.flush()?;
                    import.marks.write(import.trust.vault(), &import.permit, &moved).await.map_err(ImportError::Trust)?;
                    marked = tokio::time::Instant::now();
                }
            }
        }
    }
    while let Some(done) = reader.join_next().await {
        joined(done)?;
    }
    progress(import.progress());
    Ok(())
}

/// The outcome of a task; a panic in it goes on in the caller.
fn joined<T>(done: Result<T, tokio::task::JoinError>) -> T {
    match done {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Runs what would hold up the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

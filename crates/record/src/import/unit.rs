//! Works on a unit: parses it, looks up what it needs, writes it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use trust::TrustError;

use super::entry::{Entry, Original};
use super::index::{Index, Ready, Unfinished};
use super::read::{Envelope, Line, Source, Work};
use super::rejects::Refused;
use super::store::{self, Item};
use super::stream::{self, describe};
use super::{
    BUNDLE_ENTRIES_MAX, CHUNK_ENTRIES, DEFERRED_MAX, Import, ImportError, Pass, RESOURCE_BYTES_MAX,
    blocking, lock,
};

/// A chunk of a large bundle ends at this many bytes, even if it has few entries.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// The types of bundles whose entries are resources to keep.
const BUNDLES: [&str; 6] = [
    "transaction",
    "batch",
    "collection",
    "searchset",
    "document",
    "message",
];

/// What a unit needs to know of its surroundings.
pub(super) struct Around {
    pub(super) import: Arc<Import>,
    pass: Arc<Pass>,
    sequence: u64,
    pub(super) input: usize,
}

impl Around {
    fn source(&self) -> &str {
        &self.import.inputs[self.input].shown
    }
    /// Whether what waits for others may wait for the end: what can't be read again, can't.
    fn may_wait(&self) -> bool {
        self.pass.only.is_none() && self.import.inputs[self.input].path.is_some()
    }
    fn wanted(&self, line: u64, index: Option<u64>) -> bool {
        self.pass
            .only
            .as_ref()
            .is_none_or(|only| only.contains(&(self.input, line, index)))
    }
    pub(super) fn refuse(
        &self,
        line: u64,
        index: Option<u64>,
        reason: &str,
        original: Option<&[u8]>,
    ) -> Result<(), ImportError> {
        self.refuse_as(line, index, reason, None, original)
    }
    /// The same; `other` is the patient whose id somebody else has.
    pub(super) fn refuse_as(
        &self,
        line: u64,
        entry: Option<u64>,
        reason: &str,
        other: Option<&str>,
        original: Option<&[u8]>,
    ) -> Result<(), ImportError> {
        self.import.rejects.add(&Refused {
            source: self.source(),
            line,
            entry,
            reason,
            other,
            original,
        })
    }
}

/// Works on a unit to its end.
pub(super) async fn work(
    import: Arc<Import>,
    pass: Arc<Pass>,
    envelope: Envelope,
) -> Result<(), ImportError> {
    let Envelope {
        sequence,
        input,
        last_line,
        work,
    } = envelope;
    let around = Around {
        import,
        pass,
        sequence,
        input,
    };
    let complete = matches!(work, Work::End);
    let held = match work {
        Work::Lines(lines) => self::lines(&around, lines).await?,
        Work::Document { line, source } => document(&around, line, source).await?,
        Work::TooLong { line } => {
            let words = format!(
                "the line has more than {} bytes; its original is not kept here",
                around.import.inputs[around.input].line_bytes_max()
            );
            around.refuse(line, None, &words, None)?;
            false
        }
        Work::End => false,
    };
    around
        .import
        .marks
        .finish(sequence, input, last_line, complete, held);
    Ok(())
}

#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(rename = "resourceType", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(rename = "type", borrow, default)]
    bundle: Option<&'a RawValue>,
    #[serde(borrow, default)]
    entry: Option<&'a RawValue>,
    /// Of a row of a rejects file: the entry or resource that was refused.
    #[serde(borrow, default)]
    original: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Option<&'a RawValue>,
    /// Of an entry.
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
}

/// What lines hold: single resources, bundles, and what is neither.
#[derive(Default)]
struct Parsed {
    alone: Vec<Entry>,
    bundles: Vec<Vec<Entry>>,
    /// Line, reason, original.
    wrong: Vec<(u64, String, Original)>,
}

fn parse_lines(lines: Vec<Line>) -> Parsed {
    let mut parsed = Parsed::default();
    for Line { number, bytes } in lines {
        let whole = Arc::new(bytes);
        let mut values = serde_json::Deserializer::from_slice(&whole).into_iter::<&RawValue>();
        let mut line = number;
        let mut counted = 0;
        loop {
            let begin = values.byte_offset();
            let Some(value) = values.next() else { break };
            match value {
                Ok(raw) => {
                    let start = values.byte_offset() - raw.get().len();
                    line += whole[counted..start]
                        .iter()
                        .filter(|byte| **byte == b'\n')
                        .count() as u64;
                    counted = start;
                    parse_value(
                        line,
                        Original::Part(whole.clone(), start..start + raw.get().len()),
                        raw,
                        &whole,
                        start,
                        false,
                        &mut parsed,
                    );
                }
                Err(error) => {
                    let reason = format!("the input {}", describe(&error));
                    parsed.wrong.push((
                        line,
                        reason,
                        Original::Part(whole.clone(), begin..whole.len()),
                    ));
                    break;
                }
            }
        }
    }
    parsed
}

/// Takes one value; `is_row` when it was the original in a row of a rejects file.
fn parse_value(
    line: u64,
    original: Original,
    raw: &RawValue,
    whole: &Arc<Vec<u8>>,
    start: usize,
    is_row: bool,
    parsed: &mut Parsed,
) {
    let Ok(outline) = serde_json::from_str::<Outline<'_>>(raw.get()) else {
        // Not an object, or a member twice: the parser of resources says it better.
        parsed.alone.push(Entry::alone(line, start, original));
        return;
    };
    let row = (outline.kind, outline.original, outline.reason);
    if let (false, (None, Some(inner), Some(_))) = (is_row, row) {
        // What was refused, and maybe mended since.
        let begin = start + (inner.get().as_ptr().addr() - raw.get().as_ptr().addr());
        let part = Original::Part(whole.clone(), begin..begin + inner.get().len());
        parse_value(line, part, inner, whole, begin, true, parsed);
        return;
    }
    if outline.kind.is_none() && outline.resource.is_some() {
        let entry = Entry::of_bundle(line, 0, original);
        parsed.bundles.push(entry.into_iter().collect());
        return;
    }
    if outline.kind.is_none_or(|kind| kind.get() != "\"Bundle\"") {
        parsed.alone.push(Entry::alone(line, start, original));
        return;
    }
    if let Err(reason) = check_bundle(outline.bundle.map(RawValue::get)) {
        parsed.wrong.push((line, reason, original));
        return;
    }
    let entries = outline.entry.map_or(Ok(Vec::new()), |entry| {
        serde_json::from_str::<Vec<&RawValue>>(entry.get())
    });
    let Ok(entries) = entries else {
        parsed
            .wrong
            .push((line, "Bundle.entry is no array".to_owned(), original));
        return;
    };
    let mut bundle = Vec::with_capacity(entries.len());
    // Entries are parts of the text that was read, which is kept for the rejects file; where a part
    // begins follows from where it lies in memory.
    let origin = raw.get().as_ptr().addr();
    for (index, entry) in entries.into_iter().enumerate() {
        let begin = start + (entry.get().as_ptr().addr() - origin);
        let part = Original::Part(whole.clone(), begin..begin + entry.get().len());
        bundle.extend(Entry::of_bundle(line, index as u64, part));
    }
    parsed.bundles.push(bundle);
}

/// Refuses bundles that are no set of resources; the type is given as JSON.
fn check_bundle(kind: Option<&str>) -> Result<(), String> {
    let kind = kind.and_then(|text| serde_json::from_str::<String>(text).ok());
    match kind.as_deref() {
        Some(known) if BUNDLES.contains(&known) => Ok(()),
        Some("history") => {
            Err("a history is not imported: it is not what a store holds now".to_owned())
        }
        Some("transaction-response" | "batch-response") => {
            Err("the answer to a bundle is not imported".to_owned())
        }
        _ => Err("Bundle.type is missing or unknown".to_owned()),
    }
}

/// Imports lines; tells whether something of them waits for the end.
async fn lines(around: &Around, lines: Vec<Line>) -> Result<bool, ImportError> {
    let Parsed {
        alone,
        bundles,
        wrong,
    } = blocking(move || parse_lines(lines)).await;
    for (line, reason, original) in wrong {
        if around.pass.only.is_none() {
            around.refuse(line, None, &reason, Some(original.bytes()))?;
        }
    }
    let mut held = false;
    for entries in bundles.into_iter().chain(Some(alone)) {
        held |= bundle(around, entries).await?;
    }
    Ok(held)
}

/// Imports entries that are in memory.
async fn bundle(around: &Around, entries: Vec<Entry>) -> Result<bool, ImportError> {
    if entries.is_empty() {
        return Ok(false);
    }
    let import = around.import.clone();
    let (mut index, entries) = blocking(move || {
        let mut index = Index::default();
        let nameless = entries.iter().any(Entry::is_nameless);
        for entry in &entries {
            index.first(&import, entry);
            if nameless {
                index.sum(&import, entry);
            }
        }
        index.firsts_are_done(&import);
        (index, entries)
    })
    .await;
    resolve(around, &mut index).await?;
    let import = around.import.clone();
    let (mut index, entries) = blocking(move || {
        let mut entries = entries;
        for entry in &mut entries {
            index.second(&import, entry);
        }
        (index, entries)
    })
    .await;
    meet(around, &mut index).await?;
    let (finished, index) = blocking(move || (finish(&index, entries), index)).await;
    settle(around, &index, finished).await
}

/// Looks up patients of other bundles; one who is not there yet may be on the way in an earlier unit.
async fn meet(around: &Around, index: &mut Index) -> Result<(), ImportError> {
    let import = &around.import;
    if index.meet(import).await.map_err(ImportError::Trust)? {
        import.marks.all_before(around.sequence).await;
        index.meet(import).await.map_err(ImportError::Trust)?;
    }
    Ok(())
}

/// Looks up what the index asks for; what is not there yet may be on its way in an earlier unit.
async fn resolve(around: &Around, index: &mut Index) -> Result<(), ImportError> {
    if !index.asks() {
        return Ok(());
    }
    let open = index
        .resolve(&around.import)
        .await
        .map_err(ImportError::Trust)?;
    if open {
        around.import.marks.all_before(around.sequence).await;
        index
            .resolve(&around.import)
            .await
            .map_err(ImportError::Trust)?;
    }
    Ok(())
}

type Finished = Vec<(Entry, Result<Ready, Unfinished>)>;

fn finish(index: &Index, entries: Vec<Entry>) -> Finished {
    let finish = |mut entry: Entry| {
        let finished = index.finish(&mut entry);
        (entry, finished)
    };
    entries.into_iter().map(finish).collect()
}

/// Writes what is ready, refuses what is wrong, puts off what waits.
async fn settle(around: &Around, index: &Index, finished: Finished) -> Result<bool, ImportError> {
    let all_wait = around.may_wait() && index.lacks_patient();
    let mut held = false;
    let mut items = Vec::with_capacity(finished.len());
    for (entry, finished) in finished {
        if !around.wanted(entry.line, entry.index) {
            continue;
        }
        let waits = match &finished {
            Ok(_) => all_wait,
            Err(Unfinished::Waits(_)) => around.may_wait(),
            Err(Unfinished::Refused(_)) => false,
        };
        if waits {
            let mut deferred = lock(&around.import.deferred);
            if deferred.len() < DEFERRED_MAX {
                around.import.marks.hold(around.input);
                deferred.insert((around.input, entry.line, entry.index));
                held = true;
                continue;
            }
        }
        match finished {
            Ok(mut ready) => {
                // What came out of here has labels that are told and not stored; with them nothing would be as
                // it is here.
                let vault = around.import.trust.vault();
                vault.take_labels_back(&mut ready.resource);
                items.push(Item {
                    line: entry.line,
                    index: entry.index,
                    original: entry.original,
                    ready,
                });
            }
            Err(Unfinished::Refused(reason)) => around.refuse(
                entry.line,
                entry.index,
                &reason,
                Some(entry.original.bytes()),
            )?,
            Err(Unfinished::Waits(words)) => {
                around.refuse(
                    entry.line,
                    entry.index,
                    &words,
                    Some(entry.original.bytes()),
                )?;
            }
        }
    }
    store::write(around, items).await?;
    Ok(held)
}

/// Imports something that is read entry by entry.
async fn document(around: &Around, line: u64, source: Source) -> Result<bool, ImportError> {
    // First way through: what it is, patients, identifiers, conditional references.
    let (import, again) = (around.import.clone(), source.clone());
    let outcome = blocking(move || {
        let mut index = Index::default();
        let mut count = 0;
        let outline = each(&import, &again, &AtomicU64::new(0), &mut |raw| {
            if let Some(entry) = Entry::of_bundle(line, count, Original::Own(raw)) {
                index.first(&import, &entry);
                index.sum(&import, &entry);
            }
            count += 1;
            count <= BUNDLE_ENTRIES_MAX
        });
        index.firsts_are_done(&import);
        outline.map(|outline| (outline, index))
    })
    .await;
    let (outline, mut index) = match outcome {
        Ok(known) => known,
        Err(Trouble::Reading(error)) => return Err(error),
        Err(Trouble::Json(reason)) => {
            around.refuse(
                line,
                None,
                &format!("the input {reason}; its original is too long to be kept here"),
                None,
            )?;
            return Ok(false);
        }
        Err(Trouble::Stopped) => {
            let words = format!(
                "the bundle has more than {BUNDLE_ENTRIES_MAX} entries; its original is too long to be kept here"
            );
            around.refuse(line, None, &words, None)?;
            return Ok(false);
        }
    };
    if !outline.is_bundle {
        return one_resource(around, line, source).await;
    }
    let kind = outline
        .kind
        .map(|kind| serde_json::Value::from(kind).to_string());
    if let Err(reason) = check_bundle(kind.as_deref()) {
        around.refuse(
            line,
            None,
            &format!("{reason}; its original is too long to be kept here"),
            None,
        )?;
        return Ok(false);
    }
    resolve(around, &mut index).await?;

    // Second way through: owners and ids.
    let (import, again) = (around.import.clone(), source.clone());
    let second = blocking(move || {
        let mut place = 0;
        let read = each(&import, &again, &AtomicU64::new(0), &mut |raw| {
            if let Some(mut entry) = Entry::of_bundle(line, place, Original::Own(raw)) {
                index.second(&import, &mut entry);
            }
            place += 1;
            true
        });
        read.map(|_| index)
    })
    .await;
    let mut index = match second {
        Ok(index) => index,
        Err(trouble) => return Err(changed(around, trouble)),
    };
    meet(around, &mut index).await?;
    write_document(around, line, source, Arc::new(index)).await
}

/// Third way through: writing, chunk by chunk.
async fn write_document(
    around: &Around,
    line: u64,
    source: Source,
    index: Arc<Index>,
) -> Result<bool, ImportError> {
    let first = around.pass.only.is_none();
    let is_input = matches!(source, Source::Input(_));
    let skip = if first && is_input {
        around.import.marks.done(around.input).entries
    } else {
        0
    };
    let (sender, mut receiver) = mpsc::channel::<(u64, Finished)>(1);
    let (import, known) = (around.import.clone(), index.clone());
    let mut reader = tokio::task::JoinSet::new();
    reader.spawn_blocking(move || {
        let counter = AtomicU64::new(0);
        let mut told = 0;
        let mut place = 0;
        let mut bytes = 0;
        let mut chunk: Vec<Entry> = Vec::new();
        let read = each(&import, &source, &counter, &mut |raw| {
            place += 1;
            if place <= skip {
                return true;
            }
            bytes += raw.get().len();
            chunk.extend(Entry::of_bundle(line, place - 1, Original::Own(raw)));
            if chunk.len() < CHUNK_ENTRIES && bytes < CHUNK_BYTES {
                return true;
            }
            bytes = 0;
            if first && is_input {
                let now = counter.load(Ordering::Relaxed);
                import.bytes_read.fetch_add(now - told, Ordering::Relaxed);
                told = now;
            }
            sender
                .blocking_send((place, finish(&known, std::mem::take(&mut chunk))))
                .is_ok()
        });
        if first && is_input {
            import
                .bytes_read
                .fetch_add(counter.load(Ordering::Relaxed) - told, Ordering::Relaxed);
        }
        match read {
            // Nobody listens only when the import is being dropped.
            Err(Trouble::Stopped) => Ok(()),
            Err(trouble) => Err(trouble),
            Ok(_) => {
                let _ = sender.blocking_send((place, finish(&known, chunk)));
                Ok(())
            }
        }
    });
    let mut held = false;
    while let Some((place, finished)) = receiver.recv().await {
        held |= settle(around, &index, finished).await?;
        if first && is_input {
            around.import.marks.entries(around.input, place);
        }
    }
    while let Some(done) = reader.join_next().await {
        super::joined(done).map_err(|trouble| changed(around, trouble))?;
    }
    Ok(held)
}

/// A resource that is alone in its input, and large.
async fn one_resource(around: &Around, line: u64, source: Source) -> Result<bool, ImportError> {
    let import = around.import.clone();
    let read = blocking(move || {
        let mut bytes = Vec::new();
        let reader = open(&import, &source, &AtomicU64::new(0)).and_then(|reader| {
            std::io::Read::read_to_end(
                &mut std::io::Read::take(reader, RESOURCE_BYTES_MAX as u64 + 1),
                &mut bytes,
            )
        });
        reader.map(|_| bytes)
    })
    .await;
    let bytes =
        read.map_err(|error| around.import.inputs[around.input].error(error.to_string()))?;
    if bytes.len() > RESOURCE_BYTES_MAX {
        let words = format!(
            "the resource has more than {RESOURCE_BYTES_MAX} bytes; its original is not kept here"
        );
        around.refuse(line, None, &words, None)?;
        return Ok(false);
    }
    let range = 0..bytes.len();
    bundle(
        around,
        vec![Entry::alone(
            line,
            0,
            Original::Part(Arc::new(bytes), range),
        )],
    )
    .await
}

enum Trouble {
    Reading(ImportError),
    Json(String),
    Stopped,
}

/// A file that could be read before and can't any more.
fn changed(around: &Around, trouble: Trouble) -> ImportError {
    let about = &around.import.inputs[around.input];
    match trouble {
        Trouble::Reading(error) => error,
        Trouble::Json(reason) => about.error(format!("changed while it was read: it {reason}")),
        Trouble::Stopped => about.error("was not read to its end"),
    }
}

fn open<'a>(
    import: &Import,
    source: &'a Source,
    counter: &'a AtomicU64,
) -> std::io::Result<Box<dyn std::io::BufRead + 'a>> {
    match source {
        Source::Input(input) => import.inputs[*input].open(Some(counter)),
        Source::Memory(bytes) => Ok(Box::new(bytes.as_slice())),
    }
}

fn each(
    import: &Import,
    source: &Source,
    counter: &AtomicU64,
    take: stream::Take<'_>,
) -> Result<stream::Outline, Trouble> {
    let reader = open(import, source, counter).map_err(|error| match source {
        Source::Input(input) => Trouble::Reading(import.inputs[*input].error(error.to_string())),
        Source::Memory(_) => Trouble::Json(error.to_string()),
    })?;
    stream::read(reader, take).map_err(|reason| reason.map_or(Trouble::Stopped, Trouble::Json))
}

/// Errors that say that the store, not an entry, is in trouble.
pub(super) fn is_fatal(error: &TrustError) -> bool {
    use ledger::LedgerError as L;
    match error {
        TrustError::Ledger(
            // A tenant that stores as much as it may gets its rejects, and others are imported.
            L::Conflict | L::CursorMoved { .. } | L::KeyDestroyed | L::Invalid(_) | L::Full { .. },
        ) => false,
        // A stored row that can't be opened says nothing of the entry that was to be written over it.
        TrustError::Ledger(_) | TrustError::Damaged(_) => true,
        _ => false,
    }
}

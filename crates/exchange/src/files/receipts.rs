//! What a partner tells of letters and calls: lists in a folder (`id,state,time`), each read once.
//!
//! Each line is one commit, and one that comes again changes nothing; so a process that ends within a list reads it again
//! from its beginning. A list that was read is put aside in `done`; lines that say nothing that is understood are written
//! into `rejected` before, each with its number and why. None of a line's content goes into the log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use trust::attempts::{Attempted, Did};
use trust::conventions::{FILE_STATE_URL, NOT_DONE_SYSTEM};
use trust::{Change, TrustError, Unit};

use super::folder::Folder;
use super::run::{FileDeliverer, Seen};
use super::{FileWay, Files, LetterDelivered, batch_of};
use crate::attempt::CONFLICTS_MAX;
use crate::check::Reason;
use crate::deliverer::DeliverError;
use crate::outcome::is_waiting;

/// The largest list that is read.
const BYTES_MAX: u64 = 4 << 20;
/// The most lists that are looked at in one look; the rest in the next.
const LISTS: usize = 64;
/// How far ahead of our clock a partner's may be.
const AHEAD_MS: i64 = 24 * 3_600_000;
/// Folders for what was read, and for lines that say nothing.
const DONE: &str = "done";
const REJECTED: &str = "rejected";

/// What a partner says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Says {
    state: &'static str,
    means: Means,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// It is on its way.
    UnderWay,
    /// It is where it was to go.
    Arrived,
    /// It won't arrive, and why.
    Failed(Reason),
}

/// By the partner's word for it.
fn says(files: &Files, state: &str) -> Option<Says> {
    use Means::{Arrived, Failed, UnderWay};
    let known = |state, means| Some(Says { state, means });
    let delivered_when = match &files.options.way {
        FileWay::Letters(letters) => letters.delivered_when,
        FileWay::Calls(_) => {
            return match state {
                "dialled" => known("dialled", UnderWay),
                "answered" => known("answered", Arrived),
                "machine" => known("machine", Failed(Reason::NoAnswer)),
                "no answer" => known("no answer", Failed(Reason::NoAnswer)),
                "refused" => known("refused", Failed(Reason::CallRefused)),
                _ => None,
            };
        }
    };
    match state {
        "printed" if delivered_when == LetterDelivered::Posted => known("printed", UnderWay),
        "printed" => known("printed", Arrived),
        "posted" => known("posted", Arrived),
        "returned" => known("returned", Failed(Reason::Returned)),
        "undeliverable" => known("undeliverable", Failed(Reason::PermanentFailure)),
        _ => None,
    }
}

/// A line that says something.
struct Line {
    id: String,
    says: Says,
    at_ms: i64,
}

/// Why a line says nothing.
type Rejected = &'static str;

fn parse(files: &Files, record: &csv::StringRecord, now_ms: i64) -> Result<Line, Rejected> {
    let [id, state, time] = [0, 1, 2].map(|place| record.get(place).map(str::trim));
    let (Some(id), Some(state), Some(time), 3) = (id, state, time, record.len()) else {
        return Err("it has not three columns (id, state, time)");
    };
    if !fhir::is_id(id) {
        return Err("its first column is no id");
    }
    let says = says(files, &state.to_lowercase()).ok_or("its state is none that is known")?;
    let at = (time.len() > 10).then(|| fhir::date::parse(time)).flatten();
    let at_ms = at
        .ok_or("its time is none (2026-12-01T10:00:00Z)")?
        .start_ms;
    if at_ms > now_ms.saturating_add(AHEAD_MS) {
        return Err("its time is yet to come");
    }
    Ok(Line {
        id: id.to_owned(),
        says,
        at_ms,
    })
}

/// The latest time of which a partner has told something of a message.
fn newest_ms(communication: &Resource) -> Option<i64> {
    let notes = communication.get("note").and_then(Value::as_array);
    let notes = notes.into_iter().flatten();
    let times = notes.filter_map(|note| {
        let text = note["text"].as_str()?.strip_prefix("Receipt: ")?;
        let (_, time) = text.strip_suffix(").")?.rsplit_once('(')?;
        Some(fhir::date::parse(time)?.start_ms)
    });
    times.max()
}

/// Whether the last that was told of a message is that it came back, or that nobody was reached.
fn has_failed(communication: &Resource) -> bool {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.into_iter().flatten();
    let state = extensions.find(|one| one["url"] == FILE_STATE_URL);
    let state = state.and_then(|one| one["valueCode"].as_str());
    matches!(
        state,
        Some("returned" | "undeliverable" | "machine" | "no-answer" | "refused")
    )
}

/// Writes what a partner says into a message. Whether that changes anything.
fn apply(communication: &mut Resource, line: &Line, now_ms: i64) -> bool {
    let time = fhir::date::instant(u64::try_from(line.at_ms).unwrap_or_default());
    let words = format!("Receipt: {} ({time}).", line.says.state);
    let notes = communication.get("note").and_then(Value::as_array);
    if notes
        .into_iter()
        .flatten()
        .any(|note| note["text"] == words.as_str())
    {
        return false;
    }
    let status = communication
        .text_at(&["status"])
        .unwrap_or_default()
        .to_owned();
    // What a partner tells of has left, whoever could not say so. When is not for the partner to say.
    if communication.get("sent").is_none() {
        let now = fhir::date::instant(u64::try_from(now_ms).unwrap_or_default());
        communication.set("sent", json!(now));
    }
    // Lists may be read in another order than things happened: the latest that did is what stands.
    let is_older = newest_ms(communication).is_some_and(|newest_ms| newest_ms > line.at_ms);
    let came_back = is_older && has_failed(communication);
    if !is_older {
        let extensions = communication.get("extension").and_then(Value::as_array);
        let mut extensions = extensions.cloned().unwrap_or_default();
        extensions.retain(|one| one["url"] != FILE_STATE_URL);
        extensions
            .push(json!({"url": FILE_STATE_URL, "valueCode": line.says.state.replace(' ', "-")}));
        communication.set("extension", Value::Array(extensions));
    }
    let did = match line.says.means {
        Means::UnderWay => Did::Delayed,
        Means::Arrived => Did::Arrived,
        Means::Failed(_) => Did::Returned,
    };
    let at_ms = u64::try_from(line.at_ms).unwrap_or_default();
    Attempted::new(did, words, at_ms).write(communication);
    match line.says.means {
        Means::UnderWay => {}
        // What has arrived has arrived, whatever the journey decided meanwhile; unless it came back later.
        Means::Arrived => {
            if !came_back && !matches!(status.as_str(), "completed" | "entered-in-error") {
                communication.set("status", json!("completed"));
                communication.remove("statusReason");
            }
        }
        // What counts as delivered stays so: its journey has gone on. The note says what came of it.
        Means::Failed(reason) => {
            if is_waiting(communication) || status == "on-hold" {
                communication.set("status", json!("not-done"));
                let reason = json!({
                    "coding": [{"system": NOT_DONE_SYSTEM, "code": reason.code()}],
                    "text": format!("The partner says: {}.", line.says.state),
                });
                communication.set("statusReason", reason);
            }
        }
    }
    true
}

/// A list as it was read.
struct List {
    lines: Vec<(u64, Line)>,
    rejected: Vec<(u64, Rejected, Vec<String>)>,
}

fn read(files: &Files, content: &[u8], now_ms: i64) -> List {
    let mut list = List {
        lines: Vec::new(),
        rejected: Vec::new(),
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(content);
    for record in reader.byte_records() {
        let Ok(bytes) = record else {
            list.rejected
                .push((0, "the list can't be read from here on", Vec::new()));
            break;
        };
        let number = bytes.position().map_or(0, csv::Position::line);
        // Id and state; whatever else stands there is not for others to read.
        let shown = || {
            (bytes.iter().take(2))
                .map(|field| String::from_utf8_lossy(field).chars().take(64).collect())
                .collect()
        };
        let Ok(record) = csv::StringRecord::from_byte_record(bytes.clone()) else {
            list.rejected.push((number, "it is no UTF-8", shown()));
            continue;
        };
        let is_head = number == 1
            && record.get(0).is_some_and(|id| {
                id.trim_start_matches('\u{feff}')
                    .trim()
                    .eq_ignore_ascii_case("id")
            });
        if is_head {
            continue;
        }
        match parse(files, &record, now_ms) {
            Ok(line) => list.lines.push((number, line)),
            Err(why) => list.rejected.push((number, why, shown())),
        }
    }
    list
}

impl FileDeliverer {
    /// Reads the lists that are there and have not changed since the look before. `told` is why lists are left where they
    /// are, said once. False where one of them could not be read, so that it is not tried again at once.
    pub(super) async fn read_returns(
        &self,
        seen: &mut Seen,
        told: &mut HashMap<PathBuf, String>,
    ) -> Result<bool, DeliverError> {
        let fault = |error: std::io::Error| {
            DeliverError::Compose(format!("the folder of receipts: {error}"))
        };
        let returns = self.files().options.returns.clone();
        let lists = spawn_blocking(move || lists(&returns)).await;
        let found =
            lists.map_err(|_| DeliverError::Compose("a look at receipts panicked".to_owned()))?;
        let found = found.map_err(fault)?;
        let mut ready: Vec<PathBuf> = Vec::new();
        let mut now = Seen::new();
        for (path, size, changed) in found {
            if seen.get(&path) == Some(&(size, changed)) && ready.len() < LISTS {
                ready.push(path.clone());
            }
            now.insert(path, (size, changed));
        }
        *seen = now;
        let mut all_read = true;
        for path in ready {
            if let Err(error) = self.take(&path).await {
                all_read = false;
                let words = error.to_string();
                if told.insert(path.clone(), words.clone()).as_ref() != Some(&words) {
                    let name = self.files().name();
                    tracing::error!(
                        error = words,
                        "{name}: a list of receipts could not be read; it stays where it is"
                    );
                }
            }
        }
        told.retain(|path, _| seen.contains_key(path));
        Ok(all_read)
    }

    /// Reads one list, and puts it aside.
    async fn take(&self, path: &Path) -> Result<(), DeliverError> {
        let files = self.files();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let now_ms =
            i64::try_from(self.trust().vault().ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let (returns, named) = (files.options.returns.clone(), name.clone());
        let opened = spawn_blocking(move || {
            let returns = Folder::open(&returns)?;
            // A list that can't be put aside isn't read either: it would be again and again.
            let done = returns.inner(DONE)?;
            if returns.stands(REJECTED)? {
                returns.inner(REJECTED)?;
            }
            let found = returns.read(&named, BYTES_MAX)?;
            Ok::<_, std::io::Error>((returns, done, found))
        });
        let opened = opened
            .await
            .map_err(|_| DeliverError::Compose("reading panicked".to_owned()))?;
        let (returns, done, found) =
            opened.map_err(|error| DeliverError::Compose(error.to_string()))?;
        let mut list = match &found.content {
            Some(content) => read(files, content, now_ms),
            None => List {
                lines: Vec::new(),
                rejected: vec![(0, "the list is larger than 4 MiB", Vec::new())],
            },
        };
        for (number, line) in list.lines {
            let said = self.note(&line).await?;
            let counted = if said.is_ok() {
                line.says.state
            } else {
                "rejected"
            };
            metrics::counter!(format!("{}_receipts_total", files.name()), "state" => counted)
                .increment(1);
            if let Err(why) = said {
                let row = vec![line.id.clone(), line.says.state.to_owned()];
                list.rejected.push((number, why, row));
            }
        }
        if !list.rejected.is_empty() {
            let count = list.rejected.len();
            tracing::warn!(
                count,
                list = name,
                "{}: lines of a list of receipts say nothing that is understood; see the folder `rejected`",
                files.name()
            );
        }
        let put = spawn_blocking(move || {
            if !list.rejected.is_empty() {
                write_rejected(&returns.inner(REJECTED)?, &name, list.rejected)?;
            }
            returns.move_to(&name, &found, &done)
        });
        let put = put
            .await
            .map_err(|_| DeliverError::Compose("putting a list aside panicked".to_owned()))?;
        put.map_err(|error| DeliverError::Compose(format!("a list can't be put aside: {error}")))
    }

    /// Writes one line down; or why it is of no message of ours.
    async fn note(&self, line: &Line) -> Result<Result<(), Rejected>, DeliverError> {
        let (vault, files) = (self.trust().vault(), self.files());
        let kind = ResourceType::Communication;
        let request = format!("{}-receipt", files.name());
        let of_nobody = self.permit(None, &request).await?;
        for _ in 0..CONFLICTS_MAX {
            let found = match vault.load(&of_nobody, kind, &line.id).await {
                // Its patient's record was destroyed.
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => None,
                found => found?,
            };
            let Some(found) = found.filter(|found| !found.deleted) else {
                return Ok(Err("there is no such message"));
            };
            let mut resource = found.resource;
            let medium = resource.text_at(&["medium", "0", "coding", "0", "code"]);
            if medium != Some(files.medium()) || batch_of(&resource).is_none() {
                return Ok(Err("the message was not handed over to this partner"));
            }
            let Some(patient) = resource.patient().map(str::to_owned) else {
                return Ok(Err("there is no such message"));
            };
            let now_ms = i64::try_from(vault.ledger().clock().now_ms()).unwrap_or(i64::MAX);
            if !apply(&mut resource, line, now_ms) {
                return Ok(Ok(()));
            }
            resource.strip_meta();
            let unit = Unit {
                changes: vec![Change::Put {
                    resource,
                    expected: Expected::Version(found.version),
                }],
                patient: Some(patient.clone()),
                note: Some(format!(
                    "receipt of a {}: {}",
                    files.words(),
                    line.says.state
                )),
                ..Unit::default()
            };
            let permit = self.permit(Some(&patient), &request).await?;
            match vault.commit(&permit, unit).await {
                Ok(_) => return Ok(Ok(())),
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }
}

type Found = (PathBuf, u64, Option<std::time::SystemTime>);

/// The lists of a folder, by name.
fn lists(returns: &Path) -> std::io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(returns)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_list = !name.starts_with('.') && name.to_lowercase().ends_with(".csv");
        // A link may lead anywhere.
        if !is_list || !entry.file_type()?.is_file() {
            continue;
        }
        let about = entry.metadata()?;
        found.push((entry.path(), about.len(), about.modified().ok()));
    }
    found.sort();
    Ok(found)
}

/// Writes down which lines say nothing, and why.
fn write_rejected(
    folder: &Folder,
    name: &str,
    mut rejected: Vec<(u64, Rejected, Vec<String>)>,
) -> std::io::Result<()> {
    rejected.sort_by_key(|(number, ..)| *number);
    let mut writer = csv::WriterBuilder::new()
        .flexible(true)
        .from_writer(Vec::new());
    writer.write_record(["line", "reason"])?;
    for (number, why, fields) in rejected {
        let row = [number.to_string(), why.to_owned()]
            .into_iter()
            .chain(fields);
        writer.write_record(row.collect::<Vec<_>>())?;
    }
    let content = writer
        .into_inner()
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    // A partner may use one name each day.
    folder.write(&folder.free(name)?, &content)
}

//! Bulk export (HL7 Bulk Data Access 2.0, section 2) and import.
//!
//! What an export is and keeps is in `trust::Vault`; here are HL7's words for it. `kickoff.rs` reads
//! what is asked, `filter.rs` which resources of a type, `import.rs` takes NDJSON in.

mod filter;
mod import;
mod kickoff;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fhir::subset::Subset;
use fhir::{Issue, IssueCode, OperationOutcome, ResourceType, Severity, date};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trust::{Action, ExportFile, ExportFound, ExportJob, ExportReading, Permit, TrustError};

use crate::write::wrap;
use crate::{Caller, Record, RecordError};

pub use import::{IMPORT_REJECTS_MAX, IMPORTS_MAX, ImportPart};
pub use kickoff::{ExportLevel, export_parameters_of};

/// The most jobs of one client at once. Kick-offs at the same instant on several servers may pass it.
pub const EXPORT_JOBS_MAX: usize = 10;
/// For how long a job is kept, milliseconds: a day, so that a nightly one can be looked into.
pub const EXPORT_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// The most files that one server gives out at once; each has up to two chunks of 2 MiB in memory.
pub const EXPORT_DOWNLOADS_MAX: usize = 16;
/// The name of the file that says what was passed over.
const NOTES: &str = "notes.OperationOutcome.ndjson";

/// How the cutting of a job into files goes.
enum Laying {
    Under(Arc<AtomicUsize>),
    Failed(TrustError),
}

/// What a server knows of exports and imports besides the store.
pub(crate) struct Bulk {
    laying: Mutex<HashMap<String, Laying>>,
    /// Tells those who lay out to stop.
    given_up: tokio::sync::watch::Sender<()>,
    /// Held from counting a client's jobs until the next is kept, so that they can't pass the limit at once.
    beginning: tokio::sync::Mutex<()>,
    downloads: Arc<Semaphore>,
    imports: Semaphore,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            laying: Mutex::default(),
            given_up: tokio::sync::watch::Sender::default(),
            beginning: tokio::sync::Mutex::default(),
            downloads: Arc::new(Semaphore::new(EXPORT_DOWNLOADS_MAX)),
            imports: Semaphore::new(IMPORTS_MAX),
        }
    }
}

impl Bulk {
    fn laying(&self) -> MutexGuard<'_, HashMap<String, Laying>> {
        self.laying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a job stands.
#[derive(Debug)]
pub enum ExportStatus {
    /// It is being cut into files: so many of so many types are done.
    Working {
        /// Types that are done.
        done: usize,
        /// Types in all.
        of: usize,
    },
    /// It can be downloaded.
    Complete {
        /// The manifest, JSON (Bulk Data Access, section 2.4.3.3).
        manifest: Vec<u8>,
        /// When it is over, milliseconds since the epoch.
        expires_ms: u64,
    },
}

/// A file of an export on its way to a client.
pub struct ExportDownload {
    first: Option<Vec<u8>>,
    reading: Option<ExportReading>,
    _place: OwnedSemaphorePermit,
}

impl ExportDownload {
    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// When the store fails: what was given out is not the whole file.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, TrustError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        match &mut self.reading {
            Some(reading) => reading.next().await,
            None => Ok(None),
        }
    }
}

impl Record {
    /// Begins a bulk export and gives its id. It is done in the background.
    ///
    /// # Errors
    /// 400, 403, 404 (no such group), 422; 429 when the client has too many.
    pub async fn export(
        &self,
        caller: &Caller,
        level: &ExportLevel,
        request: &str,
        parameters: &[(String, String)],
    ) -> Result<String, RecordError> {
        let permit = self.permit(caller, Action::Export, None, None).await?;
        let mut asked = kickoff::read(level, parameters, caller.lenient)?;
        let kinds = self.kinds(caller, level, &asked, &permit).await?;
        let owns = self.vault().owns(permit.tenant());
        let how = (caller.base.as_str(), caller.lenient, &owns);
        let filters = filter::read(&asked.filters, level, &asked.kinds, how)?;
        for (kind, _) in &filters.kept {
            if !kinds.contains(kind) {
                // Says why not, and leaves the trace of it.
                self.permit(caller, Action::Search, Some(*kind), None)
                    .await?;
                let words = format!("{kind} can't be exported");
                return Err(RecordError::new(403, IssueCode::Forbidden, words));
            }
        }
        for (kind, _) in &filters.kept {
            let queries = filter::of_kind(
                &filters.kept_texts(),
                *kind,
                (caller.base.as_str(), &owns),
                self.trust.wall_clock().now_ms(),
            )?;
            let shown = self.vault().may_search(&permit, &queries).await;
            shown.map_err(wrap(caller))?;
        }
        asked.ignored.extend(filters.ignored.iter().cloned());
        let of = self.of(caller, level, &asked).await?;
        let now_ms = self.trust.wall_clock().now_ms();
        let beginning = self.bulk.beginning.lock().await;
        let jobs = self
            .vault()
            .exports_of(&permit, now_ms)
            .await
            .map_err(wrap(caller))?;
        if jobs >= EXPORT_JOBS_MAX {
            let words = format!(
                "there are {jobs} exports of this client already; DELETE those that are done with"
            );
            return Err(RecordError::new(429, IssueCode::Throttled, words));
        }
        let job = ExportJob {
            caller: caller.agent.id.clone(),
            purpose: caller.purpose,
            request: request.to_owned(),
            kinds: kinds.iter().map(|kind| kind.name().to_owned()).collect(),
            of,
            since: asked.since_ms.map(|ms| ledger::Number::at_ms(ms).0),
            elements: asked.elements,
            filters: filters.kept_texts(),
            ignored: asked.ignored,
            expires_ms: now_ms + EXPORT_KEPT_MS,
            layout: None,
        };
        let mut random = [0; 16];
        self.vault().ledger().entropy().fill(&mut random);
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.vault()
            .keep_export(&permit, &id, &job)
            .await
            .map_err(wrap(caller))?;
        drop(beginning);
        self.lay_out(&permit, &id);
        Ok(id)
    }

    /// How an export stands. One that no server works on (the one that did was stopped) is taken up.
    ///
    /// # Errors
    /// 403; 404 for what is none of this client's; 500 when cutting it into files failed, which the next
    /// look tries again.
    pub async fn export_status(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<ExportStatus, RecordError> {
        let permit = self.permit(caller, Action::Export, None, None).await?;
        let found = self.job(caller, &permit, id).await?;
        if found.job.layout.is_some() {
            return Ok(ExportStatus::Complete {
                manifest: manifest(&found.job, &caller.base, id, &self.vault().notices(&permit)),
                expires_ms: found.job.expires_ms,
            });
        }
        let of = found.job.kinds.len();
        let failed = {
            let mut laying = self.bulk.laying();
            match laying.remove(id) {
                Some(Laying::Under(done)) => {
                    let count = done.load(Ordering::Relaxed);
                    laying.insert(id.to_owned(), Laying::Under(done));
                    return Ok(ExportStatus::Working { done: count, of });
                }
                Some(Laying::Failed(error)) => Some(error),
                None => None,
            }
        };
        if let Some(error) = failed {
            return Err(wrap(caller)(error));
        }
        self.lay_out(&permit, id);
        Ok(ExportStatus::Working { done: 0, of })
    }

    /// Gives an export up, or says that it is done with.
    ///
    /// # Errors
    /// As [`Record::export_status`].
    pub async fn end_export(&self, caller: &Caller, id: &str) -> Result<(), RecordError> {
        let permit = self.permit(caller, Action::Export, None, None).await?;
        let now_ms = self.trust.wall_clock().now_ms();
        let dropped = self.vault().drop_export(&permit, id, now_ms).await;
        if dropped.map_err(wrap(caller))? {
            return Ok(());
        }
        Err(no_job())
    }

    /// A file of an export, by the last part of its address.
    ///
    /// # Errors
    /// As [`Record::export_status`]; 409 while there are no files yet; 429 when too many are under way.
    pub async fn export_file(
        &self,
        caller: &Caller,
        id: &str,
        name: &str,
    ) -> Result<ExportDownload, RecordError> {
        let asks = self.permit(caller, Action::Export, None, None).await?;
        let found = self.job(caller, &asks, id).await?;
        let Some(layout) = &found.job.layout else {
            let words = "the export has no files yet; ask for its status";
            return Err(RecordError::new(409, IssueCode::Transient, words));
        };
        let Ok(place) = Arc::clone(&self.bulk.downloads).try_acquire_owned() else {
            let words = format!("{EXPORT_DOWNLOADS_MAX} files are under way; try again later");
            return Err(RecordError::new(429, IssueCode::Throttled, words));
        };
        if name == NOTES && !found.job.ignored.is_empty() {
            return Ok(ExportDownload {
                first: Some(notes(&found.job)),
                reading: None,
                _place: place,
            });
        }
        let file = (layout.files.iter().enumerate())
            .position(|(number, file)| file_name(number, file) == name);
        let Some(file) = file else {
            return Err(no_job());
        };
        // As at the beginning: what it was asked for decides what may be seen.
        let purpose = Caller {
            purpose: found.job.purpose,
            ..caller.clone()
        };
        let permit = self.permit(&purpose, Action::Export, None, None).await?;
        let kind = (layout.files[file].kind.as_deref()).and_then(ResourceType::parse);
        let owns = self.vault().owns(permit.tenant());
        let filters = match kind {
            Some(kind) => {
                let how = (caller.base.as_str(), &owns);
                filter::of_kind(&found.job.filters, kind, how, layout.as_of_ms())?
            }
            None => Vec::new(),
        };
        let subset = kind.and_then(|kind| elements(&found.job.elements, kind));
        let shape = subset.map(|subset| -> trust::ExportShape {
            Arc::new(move |resource| subset.apply(resource))
        });
        let mut reading = self
            .vault()
            .export_file(&permit, &found, file, filters, shape)
            .await
            .map_err(wrap(caller))?
            .asking_again(self.asking_again(purpose));
        // What goes wrong at the beginning is still an answer of its own.
        let first = reading.next().await.map_err(wrap(caller))?;
        Ok(ExportDownload {
            first,
            reading: Some(reading),
            _place: place,
        })
    }

    /// Asks again whether a download may go on: who asked for it may have been shut out, and what they may see
    /// may be less.
    fn asking_again(&self, caller: Caller) -> trust::AskAgain {
        let trust = self.trust.clone();
        // The file is read when the request's own task has answered: policies still know its network.
        let client = trust::origin::current();
        Box::new(move || {
            let (trust, caller) = (trust.clone(), caller.clone());
            Box::pin(async move {
                let (agent, purpose) = (&caller.agent, caller.purpose);
                let decided =
                    trust.decide_again(agent, purpose, Action::Export, &caller.request_id);
                let decided = trust::origin::by(client, None, decided).await?;
                Ok(decided.with(caller.freshness.clone()))
            })
        })
    }

    /// Removes exports that are over; to be called now and then. How many these were.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep_exports(&self, tenant: ledger::TenantId) -> Result<usize, TrustError> {
        let now_ms = self.trust.wall_clock().now_ms();
        self.vault().sweep_exports(tenant, now_ms).await
    }

    async fn job(
        &self,
        caller: &Caller,
        permit: &Permit,
        id: &str,
    ) -> Result<ExportFound, RecordError> {
        if !fhir::is_id(id) {
            return Err(no_job());
        }
        let now_ms = self.trust.wall_clock().now_ms();
        let found = self.vault().export_job(permit, id, now_ms).await;
        found.map_err(wrap(caller))?.ok_or_else(no_job)
    }

    /// Gives up what is worked on in the background for exports. Who asks for the status of a job has it begun anew.
    pub fn give_up_exports(&self) {
        self.bulk.given_up.send_replace(());
    }

    /// Has a job cut into files, in the background.
    fn lay_out(&self, permit: &Permit, id: &str) {
        let done = Arc::new(AtomicUsize::new(0));
        let under = Laying::Under(Arc::clone(&done));
        self.bulk.laying().insert(id.to_owned(), under);
        let (record, tenant, id) = (self.clone(), permit.tenant(), id.to_owned());
        let mut given_up = self.bulk.given_up.subscribe();
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = record.vault().lay_out_export(tenant, &id, &done) => outcome,
                // Whoever asks for it again has it begun anew.
                _ = given_up.changed() => {
                    record.bulk.laying().remove(&id);
                    return;
                }
            };
            let mut laying = record.bulk.laying();
            match outcome {
                Ok(()) => laying.remove(&id),
                Err(error) => laying.insert(id, Laying::Failed(error)),
            };
        });
    }
}

/// A name that a client sent, as it may be told again.
fn shown(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect()
}

/// The part of each resource of a type that is asked for; `None` is the whole.
fn elements(given: &[String], kind: ResourceType) -> Option<Subset> {
    let names = given.iter().filter_map(|name| match name.split_once('.') {
        Some((of, element)) => (of == kind.name()).then_some(element),
        None => Some(name.as_str()),
    });
    let names: Vec<String> = names.map(str::to_owned).collect();
    (!names.is_empty()).then_some(Subset::Elements(names))
}

fn file_name(number: usize, file: &ExportFile) -> String {
    let kind = file.kind.as_deref().unwrap_or("Bundle");
    format!("{number}.{kind}.ndjson")
}

/// The name of the manifest's extension with notices.
const NOTICES: &str = "urn:cairn:notices";
/// The system of the labels whose rows they belong to.
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// The manifest of a job that has been laid out. Notices belong to rows of a label, and go with the files
/// whether there are such rows or not: nobody has looked into them yet.
fn manifest(job: &ExportJob, base: &str, id: &str, notices: &[(&str, &str)]) -> Vec<u8> {
    let (mut output, mut deleted, mut error) = (Vec::new(), Vec::new(), Vec::new());
    let entry = |kind: &str, name: &str| -> Value {
        json!({"type": kind, "url": format!("{base}/$export/{id}/{name}")})
    };
    let files = job.layout.iter().flat_map(|layout| &layout.files);
    for (number, file) in files.enumerate() {
        let name = file_name(number, file);
        match &file.kind {
            Some(kind) => output.push(entry(kind, &name)),
            None => deleted.push(entry("Bundle", &name)),
        }
    }
    if !job.ignored.is_empty() {
        error.push(entry("OperationOutcome", NOTES));
    }
    let as_of_ms = job.layout.as_ref().map_or(0, trust::ExportLayout::as_of_ms);
    let mut manifest = json!({
        "transactionTime": date::instant(as_of_ms),
        "request": job.request,
        "requiresAccessToken": true,
        "output": output,
        "deleted": deleted,
        "error": error,
    });
    if !notices.is_empty() {
        let of = |(label, text): &(&str, &str)| {
            let label = json!({"system": ACT_CODE, "code": label});
            json!({"securityLabel": label, "text": text})
        };
        let notices: Vec<Value> = notices.iter().map(of).collect();
        manifest["extension"] = json!({ (NOTICES): notices });
    }
    manifest.to_string().into_bytes()
}

/// What was passed over under `Prefer: handling=lenient`, a line each.
fn notes(job: &ExportJob) -> Vec<u8> {
    let mut text = Vec::new();
    for name in &job.ignored {
        let issue = Issue {
            severity: Severity::Warning,
            code: IssueCode::NotSupported,
            diagnostics: "the parameter was ignored; the export is what it would be without it"
                .to_owned(),
            expression: Some(name.clone()),
        };
        let outcome = OperationOutcome {
            issues: vec![issue],
        };
        text.append(&mut outcome.to_resource().to_json());
        text.push(b'\n');
    }
    text
}

fn no_job() -> RecordError {
    let words = "there is no such export of this client; it may be over";
    RecordError::new(404, IssueCode::NotFound, words)
}

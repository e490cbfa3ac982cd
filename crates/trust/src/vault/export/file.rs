//! One file of a bulk export, as NDJSON, in chunks that are audited before they are given out. While
//! one is on its way the next is made, so memory has two of them and the places of the file's rows, and
//! who reads slowly is waited for. No view of the store is kept meanwhile.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Hit, LedgerError, Number, Shard, Stored};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{ExportFound, ExportOf};
use crate::audit::{Event, Record, Touched};
use crate::vault::{Hidden, Sight, Vault, mark, missed, named, open, open_live, redact, short};
use crate::{Permit, TrustError, tokens};

/// A chunk ends at so many bytes.
const CHUNK_BYTES: usize = 2 << 20;
/// And at so many resources.
const CHUNK_ROWS: usize = 4096;
/// And when so many were looked at, however few of them are in: what a filter leaves out.
const CHUNK_LOOKED_AT: usize = 16_384;
/// And before so many patients: an audit record names all of them, and has at most 16,384 tokens.
const CHUNK_PATIENTS: usize = 10_000;

/// A chunk that was made ahead is made anew when it was not asked for in this time.
const AHEAD_WITHIN: Duration = Duration::from_secs(10);

/// For how long it is taken that who asked for a file may have it. Then they are asked about again, however slowly
/// they read, and what comes after is what they may see by then.
const ASKED_WITHIN: Duration = Duration::from_secs(30);

/// Asks again whether a file may be had, and gives the permit for what is left of it.
pub type AskAgain =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Permit, TrustError>> + Send>> + Send + Sync>;

/// What becomes of each resource before it is written.
pub type ExportShape = Arc<dyn Fn(&mut Resource) + Send + Sync>;

struct Inside {
    vault: Vault,
    permit: Permit,
    of: ExportOf,
    kinds: Vec<ResourceType>,
    /// None where the file says what was deleted.
    kind: Option<ResourceType>,
    since: Number,
    as_of: Number,
    /// What one of these matches is in; without any, all is.
    filters: Vec<SearchQuery>,
    shape: Option<ExportShape>,
    places: Vec<Hit>,
}

/// Rows of a chunk, written and not yet audited.
struct Chunk {
    text: Vec<u8>,
    touched: Vec<Touched>,
    patients: BTreeSet<String>,
    /// Where it begins.
    from: usize,
    /// Where the next one begins.
    next: usize,
    /// When it was looked at what may be seen.
    since: Instant,
}

/// A file on its way out.
pub struct ExportReading {
    inside: Arc<Inside>,
    note: String,
    ahead: Option<JoinHandle<Result<Chunk, TrustError>>>,
    has_begun: bool,
    /// When it was last asked whether it may be had.
    asked: Instant,
    again: Option<AskAgain>,
}

impl Vault {
    /// Begins to read a file of a job: of the resources that one of the `filters` matches, or of all, if there
    /// are none. `shape` is what is done to each.
    ///
    /// # Errors
    /// `Refused` when the permit is for another action or does not let resources of the type be seen, and be
    /// searched where there are filters; `Invalid` when there is no such file, or a filter asks for other
    /// resources than it is given; `Ledger`.
    pub async fn export_file(
        &self,
        permit: &Permit,
        found: &ExportFound,
        file: usize,
        filters: Vec<SearchQuery>,
        shape: Option<ExportShape>,
    ) -> Result<ExportReading, TrustError> {
        self.require_export(permit).await?;
        check(&filters)?;
        self.require_shown(permit, &filters).await?;
        let job = &found.job;
        let layout = job.layout.as_ref();
        let layout = layout.filter(|layout| file < layout.files.len());
        let Some(layout) = layout else {
            return Err(TrustError::Invalid("there is no such file".to_owned()));
        };
        let number = file;
        let file = &layout.files[number];
        let kind = match &file.kind {
            Some(name) => Some(ResourceType::parse(name).ok_or_else(|| {
                TrustError::Damaged("a bulk export has a file of no type".to_owned())
            })?),
            None => None,
        };
        // What was deleted is told of those types only that may be seen now.
        let kinds: Vec<ResourceType> = (job.kinds()).filter(|kind| permit.shows(*kind)).collect();
        if let Some(kind) = kind {
            self.require_kind(permit, kind, !filters.is_empty()).await?;
            self.notify_ahead(permit, kind);
        }
        let tenant = permit.tenant();
        let as_of = Number(layout.as_of);
        let all = match kind {
            Some(kind) => {
                self.places_of_file(tenant, job, layout, number, kind)
                    .await?
            }
            None => {
                let mut all = Vec::new();
                for shard in file.first..=file.last {
                    self.deletions(tenant, job, as_of, Shard(shard), |hit| all.push(hit))
                        .await?;
                }
                all.sort_unstable_by_key(|hit| (hit.shard, hit.number));
                all.dedup();
                all
            }
        };
        let inside = Arc::new(Inside {
            vault: self.clone(),
            permit: permit.clone(),
            of: job.of.clone(),
            kinds,
            kind,
            since: Number(job.since.unwrap_or(0)),
            as_of,
            filters,
            shape,
            places: all,
        });
        Ok(ExportReading {
            note: match kind {
                Some(kind) => format!("bulk export of {kind}"),
                None => "bulk export of what was deleted".to_owned(),
            },
            ahead: Some(Inside::begin(&inside, 0)),
            inside,
            has_begun: false,
            asked: Instant::now(),
            again: None,
        })
    }
}

impl Vault {
    /// Whether resources of a type may be seen, and searched where there are filters.
    async fn require_kind(
        &self,
        permit: &Permit,
        kind: ResourceType,
        is_filtered: bool,
    ) -> Result<(), TrustError> {
        self.require(permit, crate::Action::Read, kind).await?;
        self.require_scope(permit, crate::Action::Search, kind)
            .await?;
        if is_filtered {
            self.require(permit, crate::Action::Search, kind).await?;
        }
        Ok(())
    }
}

impl ExportReading {
    /// The same, which asks again each half minute whether it may be had. One that can't ask ends by then.
    #[must_use]
    pub fn asking_again(mut self, again: AskAgain) -> Self {
        self.again = Some(again);
        self
    }

    /// Has it be half a minute later.
    #[cfg(test)]
    pub(crate) fn grow_old(&mut self) {
        self.asked = self.asked.checked_sub(ASKED_WITHIN).unwrap();
    }

    /// Asks again. What was made ahead was made under what was said before.
    async fn ask_again(&mut self) -> Result<(), TrustError> {
        let Some(again) = &self.again else {
            let words =
                "the file took too long, and nobody could be asked whether it may be had still";
            return Err(TrustError::Invalid(words.to_owned()));
        };
        let permit = again().await?;
        // Nothing is being made just now, so nobody else has it.
        let Some(inside) = Arc::get_mut(&mut self.inside) else {
            return Err(LedgerError::Closed.into());
        };
        inside.permit = permit;
        inside.may_still().await?;
        self.asked = Instant::now();
        Ok(())
    }

    /// The next part of the file, whole lines; `None` at its end. Its audit record is durable. The first
    /// call always leaves one, whatever there is.
    ///
    /// # Errors
    /// `Refused` when it may be had no more; `Ledger`, `Damaged`: the file ends there, and is not whole.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, TrustError> {
        loop {
            let Some(ahead) = self.ahead.take() else {
                return Ok(None);
            };
            let mut chunk = made(ahead).await?;
            let is_old = self.asked.elapsed() >= ASKED_WITHIN;
            if is_old {
                self.ask_again().await?;
            }
            let inside = &self.inside;
            if is_old || chunk.since.elapsed() > AHEAD_WITHIN {
                // Who reads slowly gets nothing that a consent or a destroyed key took away meanwhile.
                chunk = made(Inside::begin(inside, chunk.from)).await?;
            }
            if chunk.next < inside.places.len() {
                self.ahead = Some(Inside::begin(inside, chunk.next));
            }
            let is_first = !std::mem::replace(&mut self.has_begun, true);
            if chunk.touched.is_empty() && !is_first {
                continue;
            }
            let mut record = Record::under(&inside.permit, Event::of(crate::Action::Export));
            record.note = Some(&self.note);
            record.resources = chunk.touched;
            record.patients = chunk.patients;
            inside
                .vault
                .tell_relations(&inside.permit, &mut record)
                .await?;
            inside.vault.inner.auditor.commit(&record).await?;
            if !chunk.text.is_empty() {
                return Ok(Some(chunk.text));
            }
        }
    }
}

/// Refuses what can't be told from a resource alone: nobody has looked it up.
fn check(filters: &[SearchQuery]) -> Result<(), TrustError> {
    let looks_elsewhere =
        |query: &SearchQuery| query.has_links() || query.needs_codes() || query.depends_on_now();
    if filters.iter().any(looks_elsewhere) {
        let words = "a filter of an export asks for more than a resource says";
        return Err(TrustError::Invalid(words.to_owned()));
    }
    Ok(())
}

async fn made(ahead: JoinHandle<Result<Chunk, TrustError>>) -> Result<Chunk, TrustError> {
    match ahead.await {
        Ok(chunk) => chunk,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(LedgerError::Closed.into()),
    }
}

impl Inside {
    /// What a file is refused for at its beginning, it is refused for later, too.
    async fn may_still(&mut self) -> Result<(), TrustError> {
        let (vault, permit) = (&self.vault, &self.permit);
        vault.require_export(permit).await?;
        vault.require_shown(permit, &self.filters).await?;
        if let Some(kind) = self.kind {
            vault
                .require_kind(permit, kind, !self.filters.is_empty())
                .await?;
        }
        self.kinds.retain(|kind| self.permit.shows(*kind));
        Ok(())
    }

    /// Makes a chunk on a thread that may take its time.
    fn begin(inside: &Arc<Self>, from: usize) -> JoinHandle<Result<Chunk, TrustError>> {
        let inside = Arc::clone(inside);
        let handle = Handle::current();
        tokio::task::spawn_blocking(move || handle.block_on(inside.chunk(from)))
    }

    async fn chunk(&self, from: usize) -> Result<Chunk, TrustError> {
        let (vault, tenant) = (&self.vault, self.permit.tenant());
        let _look = vault.look().await?;
        let since = Instant::now();
        let view = Sight::now(vault.ledger().view()?);
        let mut hidden = Hidden::default();
        let mut chunk = Chunk {
            text: Vec::with_capacity(CHUNK_BYTES / 2),
            touched: Vec::new(),
            patients: BTreeSet::new(),
            from,
            next: from,
            since,
        };
        while chunk.next < self.places.len()
            && chunk.text.len() < CHUNK_BYTES
            && chunk.touched.len() < CHUNK_ROWS
            && chunk.next - from < CHUNK_LOOKED_AT
        {
            let rest = &self.places[chunk.next..];
            let opened = match self.kind {
                Some(_) => view.fetch_as_of(tenant, rest, self.as_of).await?,
                None => view.fetch_some(tenant, rest).await?,
            };
            for outcome in opened {
                let stored = match outcome {
                    Err(LedgerError::KeyDestroyed) => None,
                    outcome => outcome?,
                };
                let is_in = match (stored, self.kind) {
                    (None, _) => true,
                    (Some(stored), Some(kind)) => {
                        self.row(&view, kind, &stored, &mut hidden, &mut chunk)
                            .await?
                    }
                    (Some(stored), None) => {
                        self.deletion(&view, stored, &mut hidden, &mut chunk)
                            .await?
                    }
                };
                if !is_in {
                    return Ok(chunk);
                }
                chunk.next += 1;
            }
        }
        Ok(chunk)
    }

    /// Whether the permit and the consents let a resource be seen, and it is one of those asked for.
    async fn is_seen(
        &self,
        view: &Sight,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        Ok(self.of.has(resource)
            && self.permit.covers(crate::Action::Search, resource)
            && self.permit.covers(crate::Action::Read, resource)
            && !(self.vault)
                .hides(view, &self.permit, resource, hidden)
                .await?)
    }

    /// Writes a row, if it is to be seen. No when it needs a chunk of its own.
    async fn row(
        &self,
        view: &Sight,
        kind: ResourceType,
        stored: &Stored,
        hidden: &mut Hidden,
        chunk: &mut Chunk,
    ) -> Result<bool, TrustError> {
        // A token can stand for something else, and what was written since for something older.
        if stored.kind != tokens::kind(kind) || stored.at.number < self.since {
            return Ok(true);
        }
        // Where the content decides whether it may be seen, a part of it is not enough.
        let plain = self.shape.is_none() && self.filters.is_empty();
        let part = plain.then(|| short::part(&self.permit, stored, &[]));
        let part = match part.flatten() {
            Some(part) => {
                let row = (&part, stored.body.as_slice());
                let looked_into = (self.vault).consents_look_into(view, &self.permit, row, hidden);
                (!looked_into.await?).then_some(part)
            }
            None => None,
        };
        let (mut resource, is_part) = match part {
            Some(part) => (part, true),
            None => (open(stored)?.resource, false),
        };
        if !self.is_seen(view, &resource, hidden).await? {
            return Ok(true);
        }
        let patients = named(&resource);
        // What isn't shown must not be found by either, or it could be found out by asking.
        redact(&self.permit, &mut resource);
        let matches = |query: &SearchQuery| {
            tokens::last_updated_matches(query, stored.at.number) && query.matches(&resource)
        };
        if !self.filters.is_empty() && !self.filters.iter().any(matches) {
            return Ok(true);
        }
        if !chunk.has_room(&patients) {
            return Ok(false);
        }
        let touched = Touched {
            version: Some(stored.version),
            patient: patients.first().cloned(),
            ..missed(kind, &stored.id)
        };
        let (name, ms) = ((kind, stored.id.as_str()), stored.at.number.unix_ms());
        let text = &mut chunk.text;
        let is_written = is_part
            && !self.vault.may_label(kind, &stored.body)
            && fhir::stored::write_with_meta(name, &stored.body, stored.version, ms, text);
        if !is_written {
            let mut whole = if is_part {
                let mut whole = open(stored)?.resource;
                redact(&self.permit, &mut whole);
                whole
            } else {
                resource
            };
            mark(&self.permit, &mut whole);
            self.vault.label(&mut whole);
            if let Some(shape) = &self.shape {
                shape(&mut whole);
            }
            chunk.text.append(&mut whole.to_json());
        }
        chunk.text.push(b'\n');
        chunk.patients.extend(patients);
        chunk.touched.push(touched);
        Ok(true)
    }

    /// Writes that a resource was deleted, as a transaction that deletes it, if it might be seen before.
    async fn deletion(
        &self,
        view: &Sight,
        stored: Stored,
        hidden: &mut Hidden,
        chunk: &mut Chunk,
    ) -> Result<bool, TrustError> {
        let kind = ResourceType::from_code(stored.kind.0);
        let Some(kind) = kind.filter(|kind| stored.deleted && self.kinds.contains(kind)) else {
            return Ok(true);
        };
        let (id, version) = (stored.id.clone(), stored.version);
        let (_, before) = match open_live(view, self.permit.tenant(), stored).await {
            Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => return Ok(true),
            other => other?,
        };
        let Some(before) = before else {
            return Ok(true);
        };
        if !self.is_seen(view, &before, hidden).await? {
            return Ok(true);
        }
        let patients = named(&before);
        if !chunk.has_room(&patients) {
            return Ok(false);
        }
        let bundle = json!({
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": format!("{kind}/{id}")}}],
        });
        chunk.text.extend_from_slice(bundle.to_string().as_bytes());
        chunk.text.push(b'\n');
        chunk.touched.push(Touched {
            version: Some(version),
            patient: patients.first().cloned(),
            ..missed(kind, &id)
        });
        chunk.patients.extend(patients);
        Ok(true)
    }
}

impl Chunk {
    /// Whether a row with these patients has room; one alone always has.
    fn has_room(&self, patients: &[String]) -> bool {
        self.touched.is_empty() || self.patients.len() + patients.len() <= CHUNK_PATIENTS
    }
}

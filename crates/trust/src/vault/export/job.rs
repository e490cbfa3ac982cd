//! Keeping jobs: each is one sealed document of the tenant's, found by whom it belongs to.

use ledger::{Commit, Expected, LedgerError, Number, Owner, Query, Shard, TenantId};

use super::{ExportFound, ExportJob, ExportOf};
use crate::audit::{Event, Record};
use crate::vault::{Ahead, Internal, Vault, kinds};
use crate::{Action, Agent, Permit, TrustError};

/// What a job is found by.
const CALLER: &str = "caller";
/// The most jobs of one caller that are counted, those that are over and not yet swept among them.
const COUNTED: usize = 1000;
/// Jobs that one sweep looks at in one go.
const SWEPT: usize = 500;

impl Vault {
    /// Keeps a new job under an id; returns when it is durable.
    ///
    /// # Errors
    /// `Refused` for a permit of another action; `Ledger`.
    pub async fn keep_export(
        &self,
        permit: &Permit,
        id: &str,
        job: &ExportJob,
    ) -> Result<(), TrustError> {
        self.require_export(permit).await?;
        let mut record = Record::under(permit, Event::EXPORT_JOB);
        record.note = Some("bulk export asked for");
        record.queries.push(query(job));
        if let ExportOf::These(patients) = &job.of {
            record.patients.clone_from(patients);
        }
        self.write_job(permit.tenant(), id, Expected::Absent, Some(job), record)
            .await
    }

    /// How many jobs who asks has that are not over.
    ///
    /// # Errors
    /// As [`Vault::keep_export`].
    pub async fn exports_of(&self, permit: &Permit, now_ms: u64) -> Result<usize, TrustError> {
        self.require_export(permit).await?;
        let caller = [(CALLER, permit.agent().id.as_str())];
        let found = self
            .internals(permit, kinds::EXPORT, &caller, None, COUNTED)
            .await?;
        let mut live = 0;
        for stored in found {
            let job = read_job(&stored.body, &stored.id)?;
            live += usize::from(is_of(&job, permit, now_ms));
        }
        Ok(live)
    }

    /// A job of who asks. `None` also for others' jobs and for those that are over.
    ///
    /// # Errors
    /// As [`Vault::keep_export`].
    pub async fn export_job(
        &self,
        permit: &Permit,
        id: &str,
        now_ms: u64,
    ) -> Result<Option<ExportFound>, TrustError> {
        self.require_export(permit).await?;
        let Some(stored) = self.internal(permit, kinds::EXPORT, id).await? else {
            return Ok(None);
        };
        let job = read_job(&stored.body, id)?;
        Ok(is_of(&job, permit, now_ms).then_some(ExportFound {
            job,
            version: stored.version,
        }))
    }

    /// Gives a job up. Whether there was one.
    ///
    /// # Errors
    /// As [`Vault::keep_export`].
    pub async fn drop_export(
        &self,
        permit: &Permit,
        id: &str,
        now_ms: u64,
    ) -> Result<bool, TrustError> {
        loop {
            let Some(found) = self.export_job(permit, id, now_ms).await? else {
                return Ok(false);
            };
            let mut record = Record::under(permit, Event::EXPORT_JOB);
            record.note = Some("bulk export given up");
            let expected = Expected::Version(found.version);
            match self
                .write_job(permit.tenant(), id, expected, None, record)
                .await
            {
                // It was just laid out, which happens once, or given up twice.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                other => return other.map(|()| true),
            }
        }
    }

    /// Removes jobs that are over, and says how many these were. Of processes that share a store, one
    /// does it.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn sweep_exports(&self, tenant: TenantId, now_ms: u64) -> Result<usize, TrustError> {
        let ledger = self.ledger();
        if !ledger.holds(Shard(0)) {
            return Ok(0);
        }
        let agent = Agent::system(tenant, "exporter");
        let query = Query::Token(ledger.kind_token(tenant, kinds::EXPORT));
        let view = ledger.view()?;
        let (mut before, mut over) = (None, Vec::new());
        loop {
            let hits = view.search(tenant, &query, before, None, SWEPT).await?;
            let mut ahead = Ahead::default();
            for position in 0..hits.len() {
                let stored = ahead.first_of(&view, tenant, &hits[position..]).await?;
                let live = stored.filter(|stored| stored.kind == kinds::EXPORT && !stored.deleted);
                if let Some(stored) = live {
                    let body = stored.body.strip_prefix(b"\n").unwrap_or(&stored.body);
                    if read_job(body, &stored.id)?.expires_ms <= now_ms {
                        over.push((stored.id, stored.version));
                    }
                }
            }
            before = hits.last().map(|last| last.number);
            if hits.len() < SWEPT {
                break;
            }
        }
        drop(view);
        let mut removed = 0;
        for (id, version) in over {
            let mut record = Record::new(&agent, Event::SWEPT);
            record.note = Some("a bulk export that was over removed");
            let expected = Expected::Version(version);
            match self.write_job(tenant, &id, expected, None, record).await {
                Ok(()) => removed += 1,
                // Whoever changed it this moment has the next sweep to themselves.
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    pub(super) async fn require_export(&self, permit: &Permit) -> Result<(), TrustError> {
        if permit.action() == Action::Export {
            return Ok(());
        }
        Err(self.refuse(permit, Action::Export, None, None).await)
    }

    /// Writes a job, or its end, with its audit record.
    pub(super) async fn write_job(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        job: Option<&ExportJob>,
        mut record: Record<'_>,
    ) -> Result<(), TrustError> {
        record.anchor = Some(id);
        let body = job.map(written).transpose()?;
        let internal = Internal {
            kind: kinds::EXPORT,
            id: id.to_owned(),
            owner: Owner::Tenant,
            expected,
            deleted: body.is_none(),
            body: body.unwrap_or_default(),
            tokens: job.map_or_else(Vec::new, |job| {
                vec![(CALLER.to_owned(), job.caller.clone())]
            }),
        };
        let mut commit = Commit::new(tenant);
        commit.documents.push(self.internal_draft(tenant, internal));
        commit.audit = Some(self.inner.auditor.draft(&record));
        self.ledger().commit(commit).await?;
        Ok(())
    }
}

/// A job as it is kept. One with filters has the types under a name of their own ([`ExportJob::kinds`]).
fn written(job: &ExportJob) -> Result<Vec<u8>, TrustError> {
    let unwritten = |_| TrustError::Invalid("a job can't be written".to_owned());
    let mut kept = serde_json::to_value(job).map_err(unwritten)?;
    if !job.filters.is_empty()
        && let Some(members) = kept.as_object_mut()
        && let Some(kinds) = members.remove("kinds")
    {
        members.insert("kinds_filtered".to_owned(), kinds);
    }
    serde_json::to_vec(&kept).map_err(unwritten)
}

/// What was asked for, whether by an address or in a body, without the patients.
fn query(job: &ExportJob) -> String {
    let address = job.request.split('?').next().unwrap_or_default();
    let mut text = format!("{address}?_type={}", job.kinds.join(","));
    if let Some(since) = job.since {
        let since = fhir::date::instant(Number(since).unix_ms());
        text.push_str("&_since=");
        text.push_str(&since);
    }
    if !job.elements.is_empty() {
        text.push_str("&_elements=");
        text.push_str(&job.elements.join(","));
    }
    for filter in &job.filters {
        text.push_str("&_typeFilter=");
        text.push_str(filter);
    }
    text
}

/// Whether it belongs to who asks and is not over.
fn is_of(job: &ExportJob, permit: &Permit, now_ms: u64) -> bool {
    job.caller == permit.agent().id && job.expires_ms > now_ms
}

pub(super) fn read_job(body: &[u8], id: &str) -> Result<ExportJob, TrustError> {
    serde_json::from_slice(body)
        .map_err(|_| TrustError::Damaged(format!("bulk export {id} can't be read")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Purpose;

    /// A server of before there were filters must not give out everything.
    #[test]
    fn a_job_with_filters_is_none_for_who_knows_no_filters() {
        #[derive(Debug, serde::Deserialize)]
        struct Before {
            #[allow(dead_code, reason = "it has to be there")]
            kinds: Vec<String>,
        }
        let mut job = ExportJob {
            caller: "c".to_owned(),
            purpose: Purpose::Treatment,
            request: "https://cairn.example/fhir/r4/$export".to_owned(),
            kinds: vec!["Observation".to_owned()],
            of: ExportOf::System,
            since: None,
            elements: Vec::new(),
            filters: Vec::new(),
            ignored: Vec::new(),
            expires_ms: 1,
            layout: None,
        };
        for filters in [vec![], vec!["Observation?code=x".to_owned()]] {
            job.filters.clone_from(&filters);
            let kept = written(&job).unwrap();
            let read = read_job(&kept, "j").unwrap();
            assert_eq!((read.kinds, &read.filters), (job.kinds.clone(), &filters));
            let before = serde_json::from_slice::<Before>(&kept);
            assert_eq!(before.is_ok(), filters.is_empty(), "{before:?}");
        }
    }
}

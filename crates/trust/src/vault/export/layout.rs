//! Cutting a job into files. Looks at places only and opens nothing but the job.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fhir::ResourceType;
use ledger::{Expected, LedgerError, Number, Owner, Query, SHARDS, Shard, TenantId};

use super::job::read_job;
use super::{ExportFile, ExportJob, ExportLayout, ExportOf, places};
use crate::audit::{Event, Record};
use crate::vault::{Vault, kinds};
use crate::{Agent, TrustError, tokens};

/// Resources of one file, about: a hundred megabytes or two, so that asking for a file once more
/// after a break costs little. Each walk over the places of a type is for eight files, so many more files
/// would make that the larger part of the work. A single shard is never cut.
const FILE_RESOURCES: u64 = if cfg!(test) { 4 } else { 100_000 };
/// What a patient who was named counts for, whatever they have: a thousand of them are in a file.
const PATIENT_RESOURCES: u64 = 100;
/// For how long it is waited until everything that was there when the job came can be seen.
const HORIZON_WITHIN: Duration = Duration::from_secs(120);
const HORIZON_EVERY: Duration = Duration::from_millis(20);
/// Events read at a time.
const EVENTS: usize = 8192;

impl Vault {
    /// Cuts a job into files, unless that is done. `progress` counts the types that are done.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`; a job that is not there any more is no error.
    pub async fn lay_out_export(
        &self,
        tenant: TenantId,
        id: &str,
        progress: &AtomicUsize,
    ) -> Result<(), TrustError> {
        let ledger = self.ledger();
        let Some(stored) = ledger.get(tenant, kinds::EXPORT, id).await? else {
            return Ok(());
        };
        if stored.deleted {
            return Ok(());
        }
        let body = stored.body.strip_prefix(b"\n").unwrap_or(&stored.body);
        let mut job = read_job(body, id)?;
        if job.layout.is_some() {
            return Ok(());
        }
        let waited = tokio::time::Instant::now();
        let (look, view, as_of) = loop {
            let look = self.look().await?;
            let view = ledger.listing()?;
            let as_of = view.as_of().await?;
            if as_of >= stored.at.number {
                break (look, view, as_of);
            }
            if waited.elapsed() > HORIZON_WITHIN {
                let words = "what others were writing did not come to an end in time";
                return Err(LedgerError::Storage(words.to_owned()).into());
            }
            drop((view, look));
            tokio::time::sleep(HORIZON_EVERY).await;
        };
        // How many files there are must not tell of patients who were named what they have: a consent
        // may hide it. So their files follow from how many they are, and nothing is looked up.
        let of_these = match &job.of {
            ExportOf::These(patients) => {
                let mut counts = vec![0; usize::from(SHARDS)];
                for patient in patients {
                    let owner = Owner::Patient(patient.clone());
                    let shard = ledger.shard_of(tenant, &owner, patient);
                    counts[usize::from(shard.0)] += PATIENT_RESOURCES;
                }
                Some(counts)
            }
            ExportOf::System | ExportOf::Patients => None,
        };
        let mut files = Vec::new();
        for kind in job.kinds() {
            let mut counts = of_these.clone().unwrap_or(vec![0; usize::from(SHARDS)]);
            if of_these.is_none() {
                let query = Query::Token(ledger.kind_token(tenant, tokens::kind(kind)));
                places(&view, tenant, &query, job.since, |hit| {
                    counts[usize::from(hit.shard.0)] += 1;
                })
                .await?;
            }
            cut(Some(kind), &counts, &mut files);
            progress.fetch_add(1, Ordering::Relaxed);
        }
        drop((view, look));
        if job.since.is_some() {
            let mut counts = of_these.clone().unwrap_or(vec![0; usize::from(SHARDS)]);
            let counted = if of_these.is_none() { SHARDS } else { 0 };
            for shard in 0..counted {
                self.deletions(tenant, &job, as_of, Shard(shard), |_| {
                    counts[usize::from(shard)] += 1;
                })
                .await?;
            }
            cut(None, &counts, &mut files);
        }
        job.layout = Some(ExportLayout {
            as_of: as_of.0,
            files,
        });
        let agent = Agent::system(tenant, "exporter");
        let mut record = Record::new(&agent, Event::EXPORT_JOB);
        record.note = Some("bulk export laid out");
        let expected = Expected::Version(stored.version);
        match self
            .write_job(tenant, id, expected, Some(&job), record)
            .await
        {
            // Another server was quicker, or it was given up.
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(()),
            other => other,
        }
    }

    /// Calls `each` with the places of deletions of a shard that a job has to tell of, oldest first.
    /// Whether one is still the newest version is for the caller to see.
    pub(super) async fn deletions(
        &self,
        tenant: TenantId,
        job: &ExportJob,
        as_of: Number,
        shard: Shard,
        mut each: impl FnMut(ledger::Hit),
    ) -> Result<(), TrustError> {
        let kinds: Vec<u16> = job.kinds().map(ResourceType::code).collect();
        let mut after = Number(job.since.unwrap_or(0).saturating_sub(1));
        loop {
            let events = self.ledger().events(shard, after, EVENTS).await?;
            let told = events.iter().filter(|event| {
                event.deleted
                    && event.tenant == tenant
                    && event.at.number <= as_of
                    && kinds.contains(&event.kind.0)
            });
            told.for_each(|event| each(event.at));
            match events.last() {
                Some(last) if events.len() == EVENTS && last.at.number <= as_of => {
                    after = last.at.number;
                }
                _ => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Puts neighbouring shards together into files, of which there is always one at least: whether there
/// is any is for the download to say, which asks the consents. Shards without any places are in one too.
fn cut(kind: Option<ResourceType>, counts: &[u64], files: &mut Vec<ExportFile>) {
    let mut file = |first: usize, last: usize| {
        let shard = |place: usize| u16::try_from(place).unwrap_or(SHARDS - 1);
        files.push(ExportFile {
            kind: kind.map(|kind| kind.name().to_owned()),
            first: shard(first),
            last: shard(last),
        });
    };
    let (mut first, mut sum) = (0, 0);
    for (shard, count) in counts.iter().enumerate() {
        if sum > 0 && sum + count > FILE_RESOURCES {
            file(first, shard - 1);
            (first, sum) = (shard, 0);
        }
        sum += count;
    }
    file(first, counts.len() - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_is_in_exactly_one_file() {
        for (busy, expected) in [(0, 1), (1, 64), (2, 128), (3, 256), (12, 256)] {
            let mut files = Vec::new();
            cut(Some(ResourceType::Patient), &[busy; 256], &mut files);
            assert_eq!(files.len(), expected, "{busy}");
            let covered: Vec<u16> = (files.iter())
                .flat_map(|file| file.first..=file.last)
                .collect();
            let all: Vec<u16> = (0..256).collect();
            assert_eq!(covered, all);
        }
        let mut files = Vec::new();
        let mut counts = [0; 256];
        counts[200] = 1;
        cut(None, &counts, &mut files);
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].first, files[0].last), (0, 255));
    }
}

//! Where the resources of a file are.
//!
//! The store lists the places of a type by number, not by shard, so finding those of one file means going
//! through all of the type. One walk is for eight files that lie next to each other, and is kept for a minute:
//! a client fetches them one after the other, or several at once.
//!
//! What was found once serves later too. A walk comes after the number that the job is of, and finds of each
//! resource its newest version. Whatever becomes of the resource then, the way back from that version leads to
//! the one that the file shows, and what was deleted or can't be opened any more is left out when it is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fhir::ResourceType;
use ledger::{Hit, Owner, TenantId};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::{ExportJob, ExportLayout, ExportOf, places, queries};
use crate::TrustError;
use crate::vault::Vault;

/// Files that one walk is for: about 800,000 places, 13 MB.
const FILES: usize = 8;
/// Walks that one server keeps at most.
const KEPT: usize = 4;
/// For how long one is kept after a file has begun with it.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    tenant: TenantId,
    kind: ResourceType,
    since: Option<u64>,
    as_of: u64,
    /// The first and the last shard.
    shards: (u16, u16),
}

struct Walk {
    name: Name,
    found: Arc<OnceCell<Arc<Vec<Hit>>>>,
    used: Instant,
}

/// The walks of one server.
#[derive(Default)]
pub(in crate::vault) struct Walks(Mutex<Vec<Walk>>);

impl Walks {
    fn all(&self) -> MutexGuard<'_, Vec<Walk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The walk of a name, which may have to be done yet.
    fn of(&self, name: &Name) -> Arc<OnceCell<Arc<Vec<Hit>>>> {
        let mut all = self.all();
        if let Some(walk) = all.iter_mut().find(|walk| walk.name == *name) {
            walk.used = Instant::now();
            return Arc::clone(&walk.found);
        }
        if all.len() >= KEPT {
            let longest = (all.iter().enumerate()).min_by_key(|(_, walk)| walk.used);
            if let Some(longest) = longest.map(|(place, _)| place) {
                all.swap_remove(longest);
            }
        }
        let found = Arc::default();
        all.push(Walk {
            name: name.clone(),
            found: Arc::clone(&found),
            used: Instant::now(),
        });
        found
    }

    /// Lets those go that nobody has begun a file with for some time.
    fn let_go(&self) {
        self.all().retain(|walk| walk.used.elapsed() < KEPT_FOR);
    }
}

impl Vault {
    /// The places of a file's resources, in the order of shards and numbers, and maybe more that lie in
    /// its shards.
    pub(super) async fn places_of_file(
        &self,
        tenant: TenantId,
        job: &ExportJob,
        layout: &ExportLayout,
        file: usize,
        kind: ResourceType,
    ) -> Result<Vec<Hit>, TrustError> {
        let ledger = self.ledger();
        let own = (layout.files[file].first, layout.files[file].last);
        if let ExportOf::These(patients) = &job.of {
            // What belongs to a patient lies in the patient's shard.
            let lies = |patient: &&String| {
                let owner = Owner::Patient((*patient).clone());
                let shard = ledger.shard_of(tenant, &owner, patient).0;
                (own.0..=own.1).contains(&shard)
            };
            let some = patients.iter().filter(lies).cloned().collect();
            let of = ExportOf::These(some);
            return self.walk(tenant, kind, &of, job.since, own).await;
        }
        let (shards, files) = group(layout, file);
        if files == 1 {
            return self.walk(tenant, kind, &job.of, job.since, own).await;
        }
        let name = Name {
            tenant,
            kind,
            since: job.since,
            as_of: layout.as_of,
            shards,
        };
        let found = self.inner.exported.of(&name);
        let walk = async || {
            let found = self.walk(tenant, kind, &job.of, job.since, shards).await?;
            Ok::<_, TrustError>(Arc::new(found))
        };
        let all = Arc::clone(found.get_or_try_init(walk).await?);
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_FOR).await;
            if let Some(inner) = inner.upgrade() {
                inner.exported.let_go();
            }
        });
        let begin = all.partition_point(|hit| hit.shard.0 < own.0);
        let end = all.partition_point(|hit| hit.shard.0 <= own.1);
        Ok(all[begin..end].to_vec())
    }

    /// How many walks are kept.
    #[cfg(test)]
    pub(crate) fn export_walks(&self) -> usize {
        self.inner.exported.all().len()
    }

    async fn walk(
        &self,
        tenant: TenantId,
        kind: ResourceType,
        of: &ExportOf,
        since: Option<u64>,
        (first, last): (u16, u16),
    ) -> Result<Vec<Hit>, TrustError> {
        metrics::counter!("trust_export_walks_total").increment(1);
        let ledger = self.ledger();
        let mut all = Vec::new();
        let _look = self.look().await?;
        let view = ledger.view()?;
        for query in queries(ledger, tenant, kind, of) {
            places(&view, tenant, &query, since, |hit| {
                if (first..=last).contains(&hit.shard.0) {
                    all.push(hit);
                }
            })
            .await?;
        }
        // What belongs together was often written together: fewer keys and audit entities.
        all.sort_unstable_by_key(|hit| (hit.shard, hit.number));
        all.dedup();
        Ok(all)
    }
}

/// The first and the last shard of the files that a file's walk is for, and how many files these are.
fn group(layout: &ExportLayout, file: usize) -> ((u16, u16), usize) {
    let kind = &layout.files[file].kind;
    // Those of a type lie next to each other.
    let begin = (layout.files.iter()).position(|other| other.kind == *kind);
    let begin = begin.unwrap_or(file);
    let first = begin + (file - begin) / FILES * FILES;
    let files = (layout.files[first..].iter())
        .take_while(|other| other.kind == *kind)
        .take(FILES);
    let last = files.clone().last().map_or(0, |last| last.last);
    ((layout.files[first].first, last), files.count())
}

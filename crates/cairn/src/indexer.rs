//! Hears of search parameters of the organisation's own, and goes over what was there before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fhir::search::Own;
use ledger::TenantId;
use tokio::sync::watch;
use tokio::time::Instant;
use trust::{Action, Agent, IndexStep, Permit, Purpose, Target, Trust, TrustError};

/// How often definitions are looked at: so late may a server hear of one that another server took.
pub(crate) const HEAR_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether documents were written without a parameter that is complete, and how
/// long one rests that can't go on.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Hears of definitions until `stopped`: apart from indexing, which may be at work for long.
pub(crate) async fn hear(trust: Trust, tenant: TenantId, mut stopped: watch::Receiver<bool>) {
    let mut unread = 0;
    loop {
        let round = async {
            let pause = match trust.vault().refresh_owns(tenant).await {
                Ok(()) => {
                    let definitions = trust.vault().unread_definitions(tenant);
                    if definitions > 0 && definitions != unread {
                        tracing::error!(
                            definitions,
                            "SearchParameter resources can't be read and are not in force"
                        );
                    }
                    unread = definitions;
                    HEAR_EVERY
                }
                Err(error) => {
                    tracing::error!(%error, "search parameters can't be read; trying again");
                    LOOK_EVERY
                }
            };
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = round => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

/// Indexes until `stopped`.
pub(crate) async fn run(
    trust: Trust,
    tenant: TenantId,
    indexed: Indexed,
    mut stopped: watch::Receiver<bool>,
) {
    let mut course = Course {
        indexed,
        ..Course::default()
    };
    loop {
        let round = async {
            match course.round(&trust, tenant).await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(HEAR_EVERY).await,
                Err(error) => {
                    tracing::error!(%error, "search parameters can't be indexed; trying again");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        };
        tokio::select! {
            () = round => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

/// A parameter's last step that left nothing to do at once.
struct Rest {
    since: Instant,
    /// Documents that were left out, as it was logged.
    left: usize,
}

/// How far the parameters are, each by its definition.
#[derive(Default)]
struct Course {
    rests: HashMap<String, Rest>,
    /// Names of those that the metrics tell of.
    told: BTreeSet<String>,
    indexed: Indexed,
}

/// The definition, so that another one under the same code doesn't rest.
fn key(own: &Own) -> String {
    let (base, code, kind) = (own.base(), own.code(), own.kind().code());
    format!("{base}.{code} {kind} {}", own.expression())
}

/// What the metrics call a parameter.
fn name(own: &Own) -> String {
    format!("{}.{}", own.base(), own.code())
}

/// Which parameters are complete, for the metrics. Those that are gone are not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexed(Arc<Mutex<BTreeMap<String, bool>>>);

impl Indexed {
    fn note(&self, name: String, is_complete: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, is_complete);
    }

    pub(crate) fn all(&self) -> BTreeMap<String, bool> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

impl Course {
    /// One step for each parameter; whether there is more to do at once.
    async fn round(&mut self, trust: &Trust, tenant: TenantId) -> Result<bool, TrustError> {
        let owns = trust.vault().owns(tenant);
        let names = owns.iter().map(|own| name(own)).collect();
        for gone in self.told.difference(&names) {
            self.indexed.note(gone.clone(), false);
        }
        self.told = names;
        let keys: BTreeSet<String> = owns.iter().map(|own| key(own)).collect();
        self.rests.retain(|key, _| keys.contains(key));
        if owns.is_empty() {
            return Ok(false);
        }
        let agent = Agent::system(tenant, "indexer");
        let permit = trust
            .decide(
                &agent,
                Purpose::Administration,
                Action::Index,
                Target::default(),
                "",
            )
            .await?;
        let mut more = false;
        for own in owns.iter() {
            let rest = self.rests.get(&key(own));
            if rest.is_some_and(|rest| rest.since.elapsed() < LOOK_EVERY) {
                continue;
            }
            more |= self.step(trust, &permit, own).await;
        }
        Ok(more)
    }

    /// A step for one; whether there is more to do at once. Its errors are its own.
    async fn step(&mut self, trust: &Trust, permit: &Permit, own: &std::sync::Arc<Own>) -> bool {
        let name = name(own);
        let known = self.rests.get(&key(own)).map_or(0, |rest| rest.left);
        let mut left = 0;
        match trust.vault().index_own(permit, own).await {
            Ok(IndexStep::Indexed(documents)) => {
                self.indexed.note(name.clone(), false);
                metrics::counter!("cairn_search_parameter_indexed_total", "parameter" => name)
                    .increment(documents as u64);
                return true;
            }
            Ok(IndexStep::Complete) => self.indexed.note(name, true),
            Ok(IndexStep::Left(documents)) => {
                if documents != known {
                    tracing::error!(
                        parameter = name,
                        documents,
                        "documents can't be indexed; searches by the parameter look at them one by one"
                    );
                }
                left = documents;
                self.indexed.note(name, false);
            }
            Ok(IndexStep::Waiting) => {
                self.indexed.note(name, false);
                return false;
            }
            Err(error) => {
                tracing::error!(%error, parameter = name, "a search parameter can't be indexed; trying again");
                self.indexed.note(name, false);
            }
        }
        let since = Instant::now();
        self.rests.insert(key(own), Rest { since, left });
        false
    }
}

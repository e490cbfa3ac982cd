//! Hears of search parameters of the organisation's own, and goes over what was there before them.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::TenantId;
use tokio::sync::watch;
use tokio::time::Instant;
use trust::{Action, Agent, IndexStep, Purpose, Target, Trust, TrustError};

/// How often definitions are looked at: so late may a server hear of one that another server took.
pub(crate) const HEAR_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether documents were written without a parameter that is complete.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Runs until `stopped`.
pub(crate) async fn run(trust: Trust, tenant: TenantId, mut stopped: watch::Receiver<bool>) {
    let mut complete: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let round = async {
            match round(&trust, tenant, &mut complete).await {
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

/// One step for each parameter; whether there is more to do at once.
async fn round(
    trust: &Trust,
    tenant: TenantId,
    complete: &mut BTreeMap<String, Instant>,
) -> Result<bool, TrustError> {
    trust.vault().refresh_owns(tenant).await?;
    let owns = trust.vault().owns(tenant);
    if owns.is_empty() {
        complete.clear();
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
    let now = Instant::now();
    for own in owns.iter() {
        let name = format!("{}.{}", own.base(), own.code());
        // One that was defined anew has lost its number.
        let is_fresh = own.through() > 0
            && complete
                .get(&name)
                .is_some_and(|at| now.duration_since(*at) < LOOK_EVERY);
        if is_fresh {
            continue;
        }
        match trust.vault().index_own(&permit, own).await? {
            IndexStep::Indexed(documents) => {
                metrics::counter!("cairn_search_parameter_indexed_total", "parameter" => name)
                    .increment(documents as u64);
                more = true;
            }
            IndexStep::Complete => {
                metrics::gauge!("cairn_search_parameter_complete", "parameter" => name.clone())
                    .set(1.0);
                complete.insert(name, now);
            }
            IndexStep::Waiting => {
                metrics::gauge!("cairn_search_parameter_complete", "parameter" => name).set(0.0);
            }
        }
    }
    Ok(more)
}

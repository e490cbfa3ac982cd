//! Follows the folder of policies: what changes there is in force once it is valid and passes its own tests.

use std::time::Duration;

use ledger::TenantId;
use tokio::sync::watch;
use trust::{PolicyLook, Trust};

/// How often the folder is looked at. A change is taken when two looks see the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until `stopped`. Built-in policies don't change, so there is nothing to see.
pub(crate) async fn follow(trust: Trust, tenant: TenantId, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // Not within the select: what has been recorded is put in force.
        match trust.look_at_policies(tenant).await {
            Ok(PolicyLook::Same) => {}
            Ok(PolicyLook::Changed { from, to }) => {
                metrics::counter!("cairn_policy_changes_total").increment(1);
                tracing::info!(%from, %to, "another policy set is in force");
            }
            Ok(PolicyLook::Refused(set)) => {
                for fault in &set.faults {
                    tracing::error!(%fault, "a policy set is refused; the one before stays in force");
                }
            }
            Ok(PolicyLook::Mended) => {
                tracing::info!("the policy set in force is in the folder again");
            }
            Err(error) => tracing::error!(%error, "policies can't be looked at; trying again"),
        }
    }
}

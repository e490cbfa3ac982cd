//! Notifications of one tenant: to browsers, and to applications on telephones.

use std::time::Duration;

use exchange::{Deliverer, PushOptions};
use ledger::TenantId;
use trust::Trust;

use super::ServerError;

/// How long it rests before the key is tried again that could not be made, real time.
const REST: Duration = Duration::from_secs(30);

/// What sends notifications, where the configuration says that there are any.
pub(super) async fn open(
    (trust, tenant): (&Trust, TenantId),
    options: Option<&PushOptions>,
    organisation: &str,
    base_url: &str,
) -> Result<Option<Deliverer>, ServerError> {
    let Some(mut push) = options.cloned() else {
        return Ok(None);
    };
    base_url.clone_into(&mut push.portal_base);
    if push.sender.is_empty() {
        organisation.clone_into(&mut push.sender);
    }
    if exchange::is_push_unready(trust) {
        tracing::warn!(
            "policy_folder does not let push-deliverer do its work, so notifications wait: take its policies over from the built-in parts.cedar (`cairn policy init` writes it)"
        );
    }
    // Pages show the key and make none.
    if push.contact.is_some() && !is_known(trust, tenant).await {
        tokio::spawn(make_known(trust.clone(), tenant));
    }
    let deliverer = Deliverer::push(trust.clone(), push);
    deliverer.map(Some).map_err(ServerError::Push)
}

async fn is_known(trust: &Trust, tenant: TenantId) -> bool {
    let made = trust.identity().push_key(tenant).await;
    let failed = made
        .inspect_err(|error| tracing::error!(%error, "push: there is no key that push services know; trying again"));
    failed.is_ok()
}

async fn make_known(trust: Trust, tenant: TenantId) {
    loop {
        tokio::time::sleep(REST).await;
        if is_known(&trust, tenant).await {
            return;
        }
    }
}

//! Notifications to browsers of one tenant.

use exchange::{PushDeliverer, PushOptions};
use trust::Trust;

use super::ServerError;

/// What sends notifications, where the configuration says that there are any.
pub(super) fn open(
    trust: &Trust,
    options: Option<&PushOptions>,
    organisation: &str,
    base_url: &str,
) -> Result<Option<PushDeliverer>, ServerError> {
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
    PushDeliverer::new(trust.clone(), push)
        .map(Some)
        .map_err(ServerError::Push)
}

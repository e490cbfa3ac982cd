//! Letters and telephone calls of one tenant.

use exchange::{FileDeliverer, FileOptions, FileWay};
use ledger::{Tenant, TenantId};
use trust::Trust;

use super::ServerError;

/// What hands letters and calls over, of each that the configuration says something of. A tenant that has hosts has a folder
/// of its own below each, under its name: its partner is its own.
pub(super) fn open(
    (trust, tenant): (&Trust, TenantId),
    options: &[FileOptions],
    entry: &Tenant,
    (organisation, base_url): (&str, &str),
) -> Result<Vec<FileDeliverer>, ServerError> {
    let mut all = Vec::new();
    for options in options {
        let mut options = options.clone();
        base_url.clone_into(&mut options.portal_base);
        if let FileWay::Letters(letters) = &mut options.way
            && letters.sender.is_empty()
        {
            organisation.clone_into(&mut letters.sender);
        }
        if !entry.hosts.is_empty() {
            options.folder = options.folder.join(&entry.name);
            options.returns = options.returns.join(&entry.name);
        }
        let carries = match options.way {
            FileWay::Letters(_) => trust::partners::Carries::Letters,
            FileWay::Calls(_) => trust::partners::Carries::Calls,
        };
        if trust.policy_set().partners().carrier(carries).is_none() {
            tracing::warn!(
                tenant = entry.name,
                "no partner in partners.toml carries {}, so messages take their next channel",
                carries.name()
            );
        }
        let deliverer = FileDeliverer::new(trust.clone(), tenant, options);
        all.push(deliverer.map_err(ServerError::Files)?);
    }
    Ok(all)
}

//! Letters and telephone calls of one tenant.

use exchange::{FileDeliverer, FileOptions, FileWay};
use ledger::{Tenant, TenantId};
use tokio::sync::watch;
use trust::Trust;
use trust::consent::Via;

use super::{Follower, ServerError};

/// The ways that patients can choose, because something hands them over.
pub(super) fn carried(options: &[FileOptions]) -> Vec<Via> {
    let ways = options.iter().map(|files| match files.way {
        FileWay::Letters(_) => Via::Letter,
        FileWay::Calls(_) => Via::Voice,
    });
    ways.collect()
}

/// Runs one of them.
pub(super) fn follow(files: FileDeliverer, stopped: watch::Receiver<bool>) -> Follower {
    Follower::new(
        "letters and telephone calls",
        tokio::spawn(files.run(stopped)),
    )
}

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

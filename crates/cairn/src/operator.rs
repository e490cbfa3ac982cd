//! Who works on a store from the command line, as this machine knows them, and that in the audit.

use std::sync::Arc;

use anyhow::Context;
use ledger::{Ledger, Receipt, STORE_TENANT, SystemClock, TenantId};
use tokio::net::UnixStream;
use trust::{Upkeep, record_upkeep};

/// Somebody at this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operator(String);

impl Operator {
    /// Who is at the other end of a socket.
    pub(crate) fn at(stream: &UnixStream) -> Self {
        let Ok(peer) = stream.peer_cred() else {
            return Self("unknown".to_owned());
        };
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self(named(&users, peer.uid()))
    }

    /// Who this process runs as.
    pub(crate) fn here() -> Self {
        match UnixStream::pair() {
            Ok((here, _)) => Self::at(&here),
            Err(_) => Self("unknown".to_owned()),
        }
    }

    /// What this machine calls them.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Writes down what they have done, in the audit of whom a handle of the store is for: the store's own where
    /// it is for several. Returns when that is durable.
    pub(crate) async fn did(
        &self,
        ledger: &Ledger,
        upkeep: Upkeep,
        note: &str,
    ) -> anyhow::Result<()> {
        let tenant = match ledger.tenant() {
            Some(tenant) => tenant,
            None => match ledger.tenants().await?.as_slice() {
                [one] if one.is_there() => one.id,
                _ => STORE_TENANT,
            },
        };
        self.did_to(ledger, tenant, upkeep, note).await.map(drop)
    }

    /// Writes down in a tenant's audit what they have done.
    pub(crate) async fn did_to(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        upkeep: Upkeep,
        note: &str,
    ) -> anyhow::Result<Receipt> {
        let clock = Arc::new(SystemClock);
        record_upkeep(ledger, clock, tenant, &self.0, &upkeep, note)
            .await
            .with_context(|| {
                format!("it was done, and could not be written into the audit: {note}")
            })
    }
}

/// A user's name and number, by the machine's list of users.
fn named(users: &str, uid: u32) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    match name {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn users_are_named_by_the_machines_list() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n# odd\ncairn:x:990:990::/var/lib/cairn:/bin/false\n";
        for (uid, name) in [(0, "root (uid 0)"), (990, "cairn (uid 990)"), (5, "uid 5")] {
            assert_eq!(named(users, uid), name);
        }
    }
}

//! New keys or certificates for a client that is registered: those of before stay good for a while, or end at once
//! with all that was given for them.

use ledger::{Expected, LedgerError};

use super::systems::{Earlier, SystemKeys, apart};
use crate::audit::{Event, Record};
use crate::identity::manage::invalid;
use crate::identity::{ClientState, Identity, RETRIES};
use crate::{Permit, TrustError};

/// How long keys of before may stay good beside the new ones. A key that is still needed after a quarter of a year
/// is no key of before.
pub const EARLIER_KEYS_MAX_MS: u64 = 90 * 86_400_000;
/// The most of them at a time, each a set of keys that a proof is tried with.
const EARLIER_MAX: usize = 3;

/// What becomes of the keys and certificates that a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysOfBefore {
    /// They stay good for so many milliseconds.
    GoodFor(u64),
    /// They end, and the access tokens with them: they may be known to others.
    Gone,
}

impl Identity {
    /// Gives a registered client other keys, or other certificates.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to administer; `Invalid` when there is no such client, or it can't have
    /// these; `Ledger`.
    pub async fn rekey_client(
        &self,
        permit: &Permit,
        id: &str,
        keys: &SystemKeys,
        before: KeysOfBefore,
    ) -> Result<(), TrustError> {
        self.administers(permit).await?;
        let (tenant, now_ms) = (permit.tenant(), self.now_ms());
        keys.check(now_ms)?;
        if matches!(before, KeysOfBefore::GoodFor(ms) if ms > EARLIER_KEYS_MAX_MS) {
            return invalid("keys of before stay good for 90 days at most");
        }
        for _ in 0..RETRIES {
            let found = self.registered(tenant, id).await?;
            let Some(mut kept) = found.filter(|kept| kept.body.state() == ClientState::Active)
            else {
                return invalid("there is no such client with keys, or it was revoked, or waits");
            };
            let client = &mut kept.body;
            if client.app.is_some() && client.keys == SystemKeys::None {
                return invalid("this application keeps no secret: it has no keys to change");
            }
            if client.app.is_some() && matches!(keys, SystemKeys::Certificates(_)) {
                return invalid("an application has keys, and no certificates");
            }
            let (keys, certificates) = apart(keys.clone());
            if (&client.keys, &client.certificates) == (&keys, &certificates)
                && matches!(before, KeysOfBefore::GoodFor(_))
            {
                return invalid("these are the keys that the client has");
            }
            let old = Earlier {
                keys: std::mem::replace(&mut client.keys, keys),
                certificates: std::mem::replace(&mut client.certificates, certificates),
                until_ms: now_ms,
            };
            let what = match (&client.certificates, &client.keys) {
                (Some(certificates), _) => certificates.words(),
                (None, SystemKeys::At(_)) => "keys at an address".to_owned(),
                (None, _) => "a set of keys".to_owned(),
            };
            let note = match before {
                KeysOfBefore::Gone => {
                    client.earlier.clear();
                    client.round = client.round.saturating_add(1);
                    format!("client {id} has {what} now; those of before have ended")
                }
                KeysOfBefore::GoodFor(ms) => {
                    client.earlier.retain(|one| now_ms < one.until_ms);
                    if client.earlier.len() >= EARLIER_MAX {
                        return invalid(
                            "three earlier sets of keys are still good: wait until one has ended, or end all at once",
                        );
                    }
                    client.earlier.push(Earlier {
                        until_ms: now_ms.saturating_add(ms),
                        ..old
                    });
                    let minutes = ms / 60_000;
                    format!(
                        "client {id} has {what} now; those of before are good for {minutes} minutes"
                    )
                }
            };
            let expected = Expected::Version(kept.version);
            let changed = self.system_draft(tenant, id, expected, &kept.body)?;
            let mut record = Record::under(permit, Event::ACCOUNT_CHANGED);
            record.note = Some(&note);
            match self.commit(tenant, vec![changed], record).await {
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                other => return other,
            }
        }
        Err(LedgerError::Conflict.into())
    }
}

#[cfg(test)]
mod tests;

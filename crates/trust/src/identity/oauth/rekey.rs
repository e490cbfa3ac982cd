//! New keys or certificates for a client that is registered: those of before stay good for a while, or end at once
//! with all that was given for them.

use ledger::{Expected, LedgerError};

use super::certificates::Certificates;
use super::keys::Keys;
use super::systems::{Earlier, SystemDocument, SystemKeys, apart};
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
    /// They end, and the access tokens with them: they may be known to others. What is at an address is fetched anew.
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
            if before == KeysOfBefore::Gone && ends_nothing(client, &keys, &certificates, now_ms)? {
                return invalid(
                    "nothing would end that the client proves itself by now: give it keys or certificates that it does not have",
                );
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
                    let fetched = match client.keys {
                        SystemKeys::At(_) => "; what is there is fetched anew",
                        _ => "",
                    };
                    format!(
                        "client {id} has {what} now; all others have ended, and all access tokens{fetched}"
                    )
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

/// Whether a client would still be known by all that it is known by now. What is at an address may have changed there,
/// and is had anew, so that is never so of an address.
fn ends_nothing(
    client: &SystemDocument,
    keys: &SystemKeys,
    certificates: &Option<Certificates>,
    now_ms: u64,
) -> Result<bool, TrustError> {
    for old in client.keys_now(now_ms) {
        let stays = match (old, keys) {
            (SystemKeys::Set(old), SystemKeys::Set(new)) => {
                Keys::parse(old)?.are_among(&Keys::parse(new)?)
            }
            _ => false,
        };
        if !stays {
            return Ok(false);
        }
    }
    let mut known = client.certificates_now(now_ms);
    Ok(known.all(|old| certificates.as_ref().is_some_and(|new| old.is_within(new))))
}

#[cfg(test)]
mod tests;

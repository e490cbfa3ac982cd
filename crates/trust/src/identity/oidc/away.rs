//! Sign-ins that left for a provider and have not come back. Nothing of them is kept here: the browser carries
//! what is needed, sealed, so that strangers fill no store and any server of several can go on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ledger::TenantId;
use serde::{Deserialize, Serialize};

use super::super::oauth::s256;
use super::super::refusals::Why;
use super::super::{Identity, secrets, sign_in};
use crate::TrustError;
use crate::audit::{Event, Record};

/// How long somebody may take at the provider: to find a telephone, and to type a password twice.
const LIFE_MS: u64 = 600_000;
/// The most bytes of the address that is come back to. Sealed and written as text, all of it fits into a
/// cookie, of which browsers keep 4096 bytes (RFC 6265, section 6.1).
pub const AWAY_NEXT_BYTES_MAX: usize = 2000;
/// What the sealed text is for.
const PURPOSE: &str = "a sign-in at an identity provider";
/// The most bytes of what a browser shows.
const NOTE_BYTES_MAX: usize = 4096;
/// Sign-ins that are remembered to have come back. Beyond, the oldest are forgotten.
const BACK_MAX: usize = 10_000;
/// Random bytes of what can't be guessed: 256 bits, which is also RFC 7636's advice for a verifier.
const RANDOM_BYTES: usize = 32;

/// A sign-in that left for a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Away {
    /// Name of the provider in the configuration.
    pub provider: String,
    /// Its issuer.
    pub issuer: String,
    /// Ties what comes back to this browser.
    pub state: String,
    /// Ties the identity token to this sign-in.
    pub nonce: String,
    /// Ties the code to this sign-in (PKCE).
    pub verifier: String,
    /// Where to go afterwards.
    pub next: Option<String>,
    /// Whether the provider has to ask again who it is, though it remembers somebody.
    #[serde(default)]
    pub anew: bool,
    pub(super) ends_ms: u64,
}

/// Why what came back belongs to no sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It did not begin in this browser, or another one began after it.
    NotOfThisBrowser,
    /// It took too long.
    TooLate,
    /// It came back before.
    Used,
}

/// Sign-ins that came back to this server, by their state, with when they end. Strangers can have as many as they
/// like, so they are in memory alone; one that opens something leaves a document, too, which all servers meet.
#[derive(Default)]
pub(in crate::identity) struct Back(Mutex<HashMap<String, u64>>);

impl Back {
    /// Notes that one came back; `false` if it did before.
    fn note(&self, away: &Away, now_ms: u64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= BACK_MAX {
            all.retain(|_, ends_ms| *ends_ms > now_ms);
        }
        if all.len() >= BACK_MAX {
            let oldest = all.iter().min_by_key(|(_, ends_ms)| **ends_ms);
            let oldest = oldest.map(|(state, _)| state.clone());
            oldest.and_then(|state| all.remove(&state));
        }
        all.insert(away.state.clone(), away.ends_ms).is_none()
    }
}

impl Away {
    /// `code_challenge`, S256.
    #[must_use]
    pub fn challenge(&self) -> String {
        s256(&self.verifier)
    }
    /// When it began, by the wall clock.
    pub(super) fn began_ms(&self) -> u64 {
        self.ends_ms.saturating_sub(LIFE_MS)
    }
}

impl Identity {
    /// Begins a sign-in at a provider: what it is, and the same sealed, for the browser to keep. `anew` says that
    /// who it is has to be asked again there.
    ///
    /// # Errors
    /// `Invalid` when the address to come back to is too long; `Ledger`.
    pub fn leave(
        &self,
        tenant: TenantId,
        provider: &str,
        issuer: &str,
        next: Option<&str>,
        anew: bool,
    ) -> Result<(Away, String), TrustError> {
        if next.is_some_and(|next| next.len() > AWAY_NEXT_BYTES_MAX) {
            return Err(TrustError::Invalid(
                "What you were about to open has too long an address to come back to. Sign in first, and open it then."
                    .to_owned(),
            ));
        }
        let ledger = &self.inner.ledger;
        let random = || {
            let mut bytes = [0; RANDOM_BYTES];
            ledger.entropy().fill(&mut bytes);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let away = Away {
            provider: provider.to_owned(),
            issuer: issuer.to_owned(),
            state: random(),
            nonce: random(),
            verifier: random(),
            next: next.map(str::to_owned),
            anew,
            ends_ms: self.now_ms().saturating_add(LIFE_MS),
        };
        let text = serde_json::to_vec(&away)
            .map_err(|_| TrustError::Damaged("a sign-in can't be written as JSON".to_owned()))?;
        let note = ledger.seal_note(tenant, PURPOSE, &text)?;
        Ok((away, URL_SAFE_NO_PAD.encode(note)))
    }

    /// The sign-in that what came back from a provider belongs to. `note` is what the browser kept, `state`
    /// what the provider sent along; both are good once, whatever comes of it. A "no" is recorded.
    ///
    /// # Errors
    /// `Ledger`.
    pub async fn come_back(
        &self,
        tenant: TenantId,
        provider: &str,
        note: &str,
        state: &str,
    ) -> Result<Result<Away, Lost>, TrustError> {
        let lost = match self.opened(tenant, note)? {
            Some(away) if away.provider != provider || !secrets::same(&away.state, state) => {
                Lost::NotOfThisBrowser
            }
            Some(away) if away.ends_ms <= self.now_ms() => Lost::TooLate,
            Some(away) if !self.inner.back.note(&away, self.now_ms()) => Lost::Used,
            Some(away) => return Ok(Ok(away)),
            None => Lost::NotOfThisBrowser,
        };
        let words = match lost {
            Lost::NotOfThisBrowser => {
                "an identity provider's answer to a sign-in that this browser did not begin"
            }
            Lost::TooLate => "an identity provider's answer to a sign-in that took too long",
            Lost::Used => "an identity provider's answer to a sign-in that came back before",
        };
        let stranger = sign_in::stranger(tenant);
        let record = Record::new(&stranger, Event::LOGIN);
        self.refused(Why::Provider, "", record, words).await?;
        Ok(Err(lost))
    }

    fn opened(&self, tenant: TenantId, note: &str) -> Result<Option<Away>, TrustError> {
        if note.len() > NOTE_BYTES_MAX {
            return Ok(None);
        }
        let Ok(sealed) = URL_SAFE_NO_PAD.decode(note) else {
            return Ok(None);
        };
        let text = self.inner.ledger.open_note(tenant, PURPOSE, &sealed)?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

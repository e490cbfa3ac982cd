//! Requests that say by a key that they are to be carried out once (`Idempotency-Key`).
//!
//! What a key's request has written is kept under a keyed hash of who asked and the key, and commits with
//! what it tells of, so that there is never one without the other. It is sealed, and says which versions
//! were written, not what they hold.
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::ResourceType;
use ledger::{Draft, Expected, Owner, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Form, Sight, Vault, Versioned, kinds};
use crate::audit::Event;
use crate::{Agent, Permit, TrustError, identity, tokens};

/// How long what a key's request has written is kept, milliseconds: a day.
pub const ONCE_KEPT_MS: u64 = 86_400_000;

/// A request's key, and what tells the request from others. Clones are of the same request.
#[derive(Debug, Clone)]
pub struct Once(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: String,
    fingerprint: String,
    /// Which version of the key's document has to be there; known when it was looked for.
    expected: Mutex<Option<Expected>>,
    /// The request that this is a part of, where its key is kept together with the part's.
    whole: Option<Once>,
}

/// What is kept of a key.
#[derive(Serialize, Deserialize)]
pub(crate) struct OnceDocument {
    fingerprint: String,
    pub(crate) ends_ms: u64,
    answer: Value,
}

/// What became of a key before.
#[derive(Debug)]
pub enum Before {
    /// Nothing was written under it.
    Nothing,
    /// The same request has written something; what [`super::Unit::kept`] said.
    Same(Value),
    /// Another request has.
    Other,
}

impl Once {
    /// A request by its key, and by all that makes it this request: method, address, body, and headers
    /// that change what is done. The key is part of the digest: who holds nothing but the digest, once the
    /// key of a patient is destroyed, can't try out what the body may have been.
    #[must_use]
    pub fn new(key: &str, request: &[&[u8]]) -> Self {
        let mut digest = Context::new(&SHA256);
        for part in [key.as_bytes()].iter().chain(request) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self::of(key.to_owned(), STANDARD.encode(digest.finish()), None)
    }
    fn of(key: String, fingerprint: String, whole: Option<Self>) -> Self {
        Self(Arc::new(Inner {
            key,
            fingerprint,
            expected: Mutex::new(None),
            whole,
        }))
    }
    fn part_of(&self, index: usize, whole: Option<Self>) -> Self {
        let key = format!("{}\n{index}", self.0.key);
        Self::of(key, self.0.fingerprint.clone(), whole)
    }
    /// A part of the request that commits by itself.
    #[must_use]
    pub fn part(&self, index: usize) -> Self {
        self.part_of(index, None)
    }
    /// The same of the part that keeps the key of the whole as well, in its own commit; the whole has to be
    /// looked for before.
    #[must_use]
    pub fn first_part(&self, index: usize) -> Self {
        self.part_of(index, Some(self.clone()))
    }
    /// It, and what is kept with it.
    fn all(&self) -> impl Iterator<Item = &Self> {
        [Some(self), self.0.whole.as_ref()].into_iter().flatten()
    }
    fn expect(&self, expected: Expected) {
        let mut place = (self.0.expected.lock()).unwrap_or_else(PoisonError::into_inner);
        *place = Some(expected);
    }
    fn expected(&self) -> Option<Expected> {
        *(self.0.expected.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault {
    fn once_id(&self, tenant: TenantId, agent: &Agent, once: &Once) -> String {
        // Ids hold no line breaks, so that no two pairs are one text.
        // Each application that somebody let in has keys of its own, so that none is answered with what another
        // was let do, or what was done for another patient.
        let app = agent.app().map_or_else(String::new, |access| {
            let patient = access.patient.as_deref().unwrap_or_default();
            format!("\n{}\n{patient}", access.client)
        });
        let name = format!("once\n{}{app}\n{}", agent.id, once.0.key);
        self.ledger().derive_own_id(tenant, &name)
    }

    /// What became of a request's key before; has to be asked before the request writes under it.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn once_before(&self, agent: &Agent, once: &Once) -> Result<Before, TrustError> {
        let id = self.once_id(agent.tenant, agent, once);
        let stored = self.ledger().get(agent.tenant, kinds::ONCE, &id).await?;
        let Some(stored) = stored else {
            once.expect(Expected::Absent);
            return Ok(Before::Nothing);
        };
        once.expect(Expected::Version(stored.version));
        if stored.deleted {
            return Ok(Before::Nothing);
        }
        let kept: OnceDocument = serde_json::from_slice(&stored.body)
            .map_err(|_| TrustError::Damaged(format!("document {id} does not parse")))?;
        Ok(if kept.ends_ms <= self.inner.auditor.wall_ms() {
            Before::Nothing
        } else if kept.fingerprint == once.0.fingerprint {
            Before::Same(kept.answer)
        } else {
            Before::Other
        })
    }

    /// What a commit writes besides, so that its request is known again. The whole that it is a part of
    /// has nothing of its own to be answered from.
    pub(super) fn once_drafts(&self, permit: &Permit, answer: &Value) -> Vec<Draft> {
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let ends_ms = self.inner.auditor.wall_ms().saturating_add(ONCE_KEPT_MS);
        let nothing = Value::Array(Vec::new());
        let answers = std::iter::once(answer).chain(std::iter::repeat(&nothing));
        let onces = permit.once.iter().flat_map(Once::all);
        let draft = |(once, answer): (&Once, &Value)| {
            let kept = OnceDocument {
                fingerprint: once.0.fingerprint.clone(),
                ends_ms,
                answer: answer.clone(),
            };
            Some(Draft {
                kind: kinds::ONCE,
                id: self.once_id(tenant, permit.agent(), once),
                owner: Owner::Tenant,
                expected: once.expected()?,
                body: serde_json::to_vec(&kept).ok()?,
                deleted: false,
                tokens: identity::end_tokens(ledger, tenant, kinds::ONCE, ends_ms),
            })
        };
        onces.zip(answers).filter_map(draft).collect()
    }

    /// Whether a commit that met a conflict met its own key's.
    pub(super) async fn is_repeated(&self, permit: &Permit) -> Result<bool, TrustError> {
        for once in permit.once.iter().flat_map(Once::all) {
            let Some(expected) = once.expected() else {
                continue;
            };
            let id = self.once_id(permit.tenant(), permit.agent(), once);
            let stored = self.ledger().get(permit.tenant(), kinds::ONCE, &id).await?;
            if stored.is_some_and(|stored| stored.version >= expected.next()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A version that the request wrote when it was carried out, for its answer; audited as a read.
    /// `None` when it must not be seen now.
    ///
    /// # Errors
    /// As [`Vault::read_version`]; `Refused` also when the permit does not write.
    pub async fn written_before(
        &self,
        permit: &Permit,
        kind: ResourceType,
        id: &str,
        version: u32,
    ) -> Result<Option<Versioned>, TrustError> {
        if !permit.action.writes() {
            return Err(self
                .refuse(permit, crate::Action::Update, Some(kind), None)
                .await);
        }
        // An older copy may not have it yet, and then it would look hidden.
        let view = Sight::now(self.ledger().view()?);
        let stored = (view.version(permit.tenant(), tokens::kind(kind), id, version)).await?;
        self.answer(&view, permit, Event::VREAD, (kind, id), stored, Form::Whole)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::Once;

    #[test]
    fn the_same_body_under_two_keys_has_two_fingerprints() {
        let of = |key: &str, body: &str| {
            let once = Once::new(key, &[b"POST", body.as_bytes()]);
            once.0.fingerprint.clone()
        };
        assert_eq!(of("one", "body"), of("one", "body"));
        assert_ne!(of("one", "body"), of("two", "body"));
        assert_ne!(of("one", "body"), of("one", "other"));
    }
}

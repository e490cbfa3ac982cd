//! Taking away what is over: sessions, sign-ins that were not finished, links, counts of failures, keys of
//! requests that were to be carried out once, access tokens and the proofs that they were given for, clients that
//! nobody let in, what people let applications do, and ends of sessions that identity providers told of. The keys
//! of identity tokens rotate with it.
//!
//! Each carries the day of its end as a search token, so that a sweep reads only what it removes. It
//! removes what ended before today (UTC). The ledger keeps versions, so the rows stay on disk; what
//! is searched and listed doesn't grow.
use ledger::{Kind, LedgerError, Shard, TenantId};
use serde::de::DeserializeOwned;

use super::Identity;
use super::documents::{
    AttemptsDocument, Kept, LinkDocument, OF_PATIENTS, SessionDocument, deletion, ended, find,
};
use super::oauth::{AccessDocument, GrantDocument, LaunchDocument, ProofDocument, SystemDocument};
use super::oidc::ProviderLogoutDocument;
use crate::audit::{Event, Record};
use crate::vault::OnceDocument;
use crate::{Agent, TrustError, kinds};

/// Documents that one commit removes.
const AT_ONCE: usize = 200;

impl Identity {
    /// Removes what is over, and says how many documents that were. To be called now and then; once
    /// an hour is often enough. Of processes that share a store, one does it.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn sweep(&self, tenant: TenantId) -> Result<usize, TrustError> {
        let now_ms = self.now_ms();
        self.inner.refusals.sweep(now_ms);
        self.inner
            .sessions
            .forget(|last_seen_ms, expires_ms| self.over(last_seen_ms, expires_ms, now_ms));
        if !self.inner.ledger.holds(Shard(0)) {
            return Ok(0);
        }
        let sessions = self
            .sweep_kind(tenant, kinds::SESSION, |session: &SessionDocument| {
                session.expires_ms <= now_ms
            })
            .await?;
        let links = self
            .sweep_kind(tenant, kinds::SIGN_IN_LINK, |link: &LinkDocument| {
                link.expires_ms <= now_ms
            })
            .await?;
        let attempts = self
            .sweep_kind(tenant, kinds::SIGN_IN_ATTEMPTS, |of: &AttemptsDocument| {
                of.ends_ms() <= now_ms
            })
            .await?;
        let keys = self
            .sweep_kind(tenant, kinds::ONCE, |key: &OnceDocument| {
                key.ends_ms <= now_ms
            })
            .await?;
        let tokens = self
            .sweep_kind(tenant, kinds::ACCESS_TOKEN, |token: &AccessDocument| {
                token.expires_ms <= now_ms
            })
            .await?;
        let proofs = self
            .sweep_kind(tenant, kinds::CLIENT_PROOF, |proof: &ProofDocument| {
                proof.ends_ms <= now_ms
            })
            .await?;
        let systems = self
            .sweep_kind(tenant, kinds::OAUTH_CLIENT, |system: &SystemDocument| {
                system.is_over(now_ms)
            })
            .await?;
        let apps = self
            .sweep_kind(tenant, kinds::OAUTH_APP, |app: &SystemDocument| {
                app.is_over(now_ms)
            })
            .await?;
        let grants = self
            .sweep_kind(tenant, kinds::GRANT, |grant: &GrantDocument| {
                grant.expires_ms <= now_ms
            })
            .await?;
        let launches = self
            .sweep_kind(tenant, kinds::LAUNCH, |launch: &LaunchDocument| {
                launch.expires_ms <= now_ms
            })
            .await?;
        self.finish_logouts(tenant).await?;
        let logouts = self
            .sweep_kind(
                tenant,
                kinds::PROVIDER_LOGOUT,
                |logout: &ProviderLogoutDocument| logout.ends_ms <= now_ms,
            )
            .await?;
        let keys_of_apps = self.sweep_signing_keys(tenant).await?;
        let of_apps = apps + grants + launches + logouts + keys_of_apps;
        Ok(sessions + links + attempts + keys + tokens + proofs + systems + of_apps)
    }

    async fn sweep_kind<T: DeserializeOwned>(
        &self,
        tenant: TenantId,
        kind: Kind,
        is_over: impl Fn(&T) -> bool,
    ) -> Result<usize, TrustError> {
        let ledger = &self.inner.ledger;
        let Some(query) = ended(ledger, tenant, kind, self.now_ms()) else {
            return Ok(0);
        };
        let agent = Agent::system(tenant, "identity");
        let mut removed = 0;
        loop {
            let found: Vec<Kept<T>> = find(ledger, tenant, kind, &query, AT_ONCE).await?;
            let gone: Vec<_> = found
                .iter()
                .filter(|kept| is_over(&kept.body))
                .map(|kept| deletion(kind, &kept.id, kept.version))
                .collect();
            if gone.is_empty() {
                return Ok(removed);
            }
            let count = gone.len();
            let what = if kind == kinds::ONCE {
                "keys of requests"
            } else {
                "sign-in records"
            };
            let note = format!("{count} {what} that were over removed");
            let mut record = Record::new(&agent, Event::SWEPT);
            record.note = Some(&note);
            match self.commit(tenant, gone, record).await {
                Ok(()) => removed += count,
                // One of them is being used this moment; the next sweep takes the rest.
                Err(TrustError::Ledger(LedgerError::Conflict)) => return Ok(removed),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AttemptsDocument {
    /// When the failures are forgotten at the latest.
    pub(super) fn ends_ms(&self) -> u64 {
        self.last_ms.saturating_add(OF_PATIENTS.memory_ms)
    }
}

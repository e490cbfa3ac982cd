//! Rotating keys without rewriting bodies: what changes is what the keys are wrapped in, and under
//! which key new bodies are sealed.

use std::sync::Arc;

use crate::backend::{Backend, KeyRow, SubjectKey};
use crate::bootstrap::{opens, rewrap, tenant_version_row, wrap};
use crate::codec::Decoder;
use crate::data_keys::wrapped_by;
use crate::keys::TenantKeys;
use crate::plan::{Rekey, Rekeying};
use crate::writer::Request;
use crate::{Ledger, LedgerError, RootKey, TenantId};

/// Key rows wrapped anew in one batch.
const PAGE: usize = 512;
/// How often a rotation of a patient's key is tried while others change the same row.
const TRIES: usize = 8;

/// The meta row of how far the wrapping of a tenant's key rows has come; empty when there is none to do.
/// Its value is the version of the secret, and the last blind subject that is done.
fn position_row(tenant: TenantId) -> String {
    format!("rewrap/{:08x}", tenant.0)
}

/// How far a rotation of a tenant's keys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationProgress {
    /// The version of the tenant's secret that it rotates to.
    pub version: u32,
    /// Patients' keys looked at since this call began.
    pub keys: u64,
}

impl Ledger {
    /// Puts the store under another root key: the store's own secrets are wrapped anew, all in one
    /// batch, and then removed from the files as they were wrapped before. The store opens with the
    /// old key until that batch is durable and with the new one from then on; afterwards no file of
    /// the store holds anything that the old key opens. Copies made before still open with it.
    ///
    /// The same key may be given again: what was derived from it before opens nothing afterwards.
    ///
    /// # Errors
    /// `RootKey` when another process has rotated the key since this one opened the store, or the new
    /// key can't be used; `Damaged` when a secret does not unwrap; `Storage`. After an error that came
    /// with the batch, opening tells which of the two keys it is; after one of the scrub, the next
    /// opening scrubs.
    pub async fn rotate_root_key(&self, new: &RootKey) -> Result<(), LedgerError> {
        let _alone = self.changing_secrets().await;
        let core = self.core();
        let snapshot = self.backend()?.snapshot();
        let (root_wrap, rows) = rewrap(&*snapshot, &core.root_wrap(), new, &*core.entropy)?;
        drop(snapshot);
        self.ask(1, |reply| Request::Rewrap(rows, reply)).await?;
        core.set_root_wrap(root_wrap);
        self.scrub().await
    }

    /// Makes another secret for a tenant. What is written from then on is sealed under it, and the
    /// patients' keys are wrapped anew under it in the background of whatever else goes on; no body is
    /// rewritten, and what the earlier secrets sealed stays readable. The keys that name (ids, owners,
    /// search tokens) stay those of the first secret.
    ///
    /// A rotation that is cut short goes on with [`Ledger::continue_tenant_rotation`].
    ///
    /// # Errors
    /// As [`Ledger::continue_tenant_rotation`]; `RootKey` when another process has rotated the root key
    /// since this one opened the store.
    pub async fn rotate_tenant_keys(
        &self,
        tenant: TenantId,
        progress: &(dyn Fn(RotationProgress) + Send + Sync),
    ) -> Result<RotationProgress, LedgerError> {
        let version = {
            let _alone = self.changing_secrets().await;
            let core = self.core();
            let backend = self.backend()?;
            let root_wrap = core.root_wrap();
            opens(&*backend.snapshot(), &root_wrap)?;
            let keys = core.reload_tenant(&*backend, tenant)?;
            let version = keys.newest().version + 1;
            let mut secret = [0; 32];
            core.entropy.fill(&mut secret);
            let name = tenant_version_row(tenant, version);
            let wrapped = wrap(&root_wrap, &*core.entropy, &name, &secret);
            let rows = vec![
                (name, wrapped),
                (position_row(tenant), version.to_be_bytes().to_vec()),
            ];
            self.ask(1, |reply| Request::Meta(rows, reply)).await?;
            core.set_tenant(Arc::new(TenantKeys::clone(&keys).with(&secret)));
            version
        };
        let done = self.continue_tenant_rotation(tenant, progress).await?;
        // Another call may have gone on with it and done it all.
        Ok(done.unwrap_or(RotationProgress { version, keys: 0 }))
    }

    /// Goes on with a tenant's rotation where it was cut short; `None` when there is none under way.
    /// May run beside commits and reads, and beside itself.
    ///
    /// # Errors
    /// `UnknownTenant`, `Damaged` when a key does not unwrap, `Storage`, `Closed`; what was done stays
    /// done.
    pub async fn continue_tenant_rotation(
        &self,
        tenant: TenantId,
        progress: &(dyn Fn(RotationProgress) + Send + Sync),
    ) -> Result<Option<RotationProgress>, LedgerError> {
        let name = position_row(tenant);
        // Whatever the writer planned before it knew the new secret is written once this is answered.
        self.ask(1, |reply| Request::Meta(Vec::new(), reply))
            .await?;
        let mut done: Option<RotationProgress> = None;
        loop {
            let backend = self.backend()?;
            let snapshot = backend.snapshot();
            let position = snapshot.meta(&name)?.unwrap_or_default();
            if position.is_empty() {
                break;
            }
            let mut decoder = Decoder::new(&position, "rewrap");
            let version = decoder.u32()?;
            let after = (decoder.remaining() > 0)
                .then(|| decoder.array())
                .transpose()?;
            let rows = snapshot.keys(tenant, after, PAGE)?;
            drop(snapshot);
            let looked = done.map_or(0, |done| done.keys) + rows.len() as u64;
            let reached = RotationProgress {
                version,
                keys: looked,
            };
            let next = match rows.last() {
                Some((last, _)) => [&version.to_be_bytes()[..], &last.subject].concat(),
                None => Vec::new(),
            };
            let rows = self.rewrapped(&*backend, tenant, version, rows)?;
            let rekeying = Rekeying {
                rows,
                position: Some((name.clone(), position, next)),
                grown: false,
            };
            self.ask(64, |reply| Request::Rekey(rekeying, reply))
                .await?;
            done = Some(reached);
            progress(reached);
        }
        if done.is_some() {
            self.scrub().await?;
        }
        Ok(done)
    }

    /// Those of some key rows that an older secret wraps, wrapped under a version of it.
    fn rewrapped(
        &self,
        backend: &dyn Backend,
        tenant: TenantId,
        version: u32,
        rows: Vec<(SubjectKey, KeyRow)>,
    ) -> Result<Vec<Rekey>, LedgerError> {
        let core = self.core();
        let keys = core.tenant(tenant)?;
        let sealing = core.sealing_keys(backend, &keys, version)?;
        let mut rekeys = Vec::new();
        for (key, row) in rows {
            let KeyRow::Wrapped(from) = row else {
                continue;
            };
            if wrapped_by(&from)? < version {
                let data_key = core.unwrap_key(backend, &keys, key, &from)?;
                let to = data_key.wrap(&sealing, &*core.entropy);
                rekeys.push(Rekey { key, from, to });
            }
        }
        Ok(rekeys)
    }

    /// Makes another version of a patient's key for what is written from now on; what the earlier
    /// versions sealed stays readable, and destroying the key destroys all of them. Says whether the
    /// patient has a key: before anything of theirs is written there is none.
    ///
    /// # Errors
    /// `KeyDestroyed`, `UnknownTenant`, `Invalid` when the key has 64 versions, `Conflict` when others
    /// keep changing the same key, `Damaged`, `Storage`.
    pub async fn rotate_patient_key(
        &self,
        tenant: TenantId,
        patient: &str,
    ) -> Result<bool, LedgerError> {
        let core = self.core();
        for _ in 0..TRIES {
            let backend = self.backend()?;
            let keys = core.tenant(tenant)?;
            let key = keys.subject_key(patient);
            let from = match backend.snapshot().key(&key)? {
                None => return Ok(false),
                Some(KeyRow::Destroyed { .. }) => return Err(LedgerError::KeyDestroyed),
                Some(KeyRow::Wrapped(from)) => from,
            };
            let data_key = core.unwrap_key(&*backend, &keys, key, &from)?;
            let grown = data_key.grown(&*core.entropy)?;
            let to = grown.wrap(keys.newest(), &*core.entropy);
            let rekeying = Rekeying {
                rows: vec![Rekey { key, from, to }],
                position: None,
                grown: true,
            };
            // The row before holds nothing that this one doesn't, so nothing needs scrubbing.
            if self.ask(1, |reply| Request::Rekey(rekeying, reply)).await? == 1 {
                return Ok(true);
            }
        }
        Err(LedgerError::Conflict)
    }
}

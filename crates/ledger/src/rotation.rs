//! Rotating keys without rewriting bodies: what changes is what the keys are wrapped in, and under
//! which key new bodies are sealed.

use crate::backend::{Backend, Blind, Home, KeyRow, Snapshot, SubjectKey, Table, Write};
use crate::bootstrap::{opens, rewrap, tenant_version_row, wrap};
use crate::codec::Decoder;
use crate::data_keys::wrapped_by;
use crate::plan::{NewSecret, Rekey, Rekeying};
use crate::writer::Request;
use crate::{Ledger, LedgerError, RootKey, TenantId};

/// Key rows wrapped anew in one batch.
const PAGE: usize = 512;
/// How often a rotation of a patient's key is tried while others change the same row.
const TRIES: usize = 8;

/// The meta row of how far the wrapping of a tenant's key rows has come.
fn position_row(tenant: TenantId) -> String {
    format!("rewrap/{:08x}", tenant.0)
}

/// How far that is: all rows up to some place are wrapped by this version of the tenant's secret or a
/// later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    version: u32,
    reached: Reached,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Start,
    After(Blind),
    End,
}

impl Position {
    /// version u32, then nothing for the start, the blind subject (16) on the way, a zero at the end.
    fn encode(self) -> Vec<u8> {
        let mut out = self.version.to_be_bytes().to_vec();
        match self.reached {
            Reached::Start => {}
            Reached::After(subject) => out.extend_from_slice(&subject),
            Reached::End => out.push(0),
        }
        out
    }

    fn decode(row: &[u8]) -> Result<Self, LedgerError> {
        let mut decoder = Decoder::new(row, "rewrap");
        let version = decoder.u32()?;
        let reached = match decoder.remaining() {
            0 => Reached::Start,
            1 => Reached::End,
            _ => Reached::After(decoder.array()?),
        };
        Ok(Self { version, reached })
    }
}

/// How far a rotation of a tenant's keys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationProgress {
    /// The version of the tenant's secret that it rotates to.
    pub version: u32,
    /// Patients' keys looked at since this call began.
    pub keys: u64,
}

/// A page of a tenant's key rows, after a blind subject or from the first one on.
pub(crate) fn key_rows(
    snapshot: &dyn Snapshot,
    tenant: TenantId,
    after: Option<Blind>,
) -> Result<Vec<(SubjectKey, KeyRow)>, LedgerError> {
    // What lies right before the tenant's first row is the last of the tenant before.
    let after = match (after, tenant.0.checked_sub(1)) {
        (Some(subject), _) => Some(SubjectKey {
            tenant,
            subject,
            home: Home(None),
        }),
        (None, Some(before)) => Some(SubjectKey {
            tenant: TenantId(before),
            subject: [0xff; 16],
            home: Home(None),
        }),
        (None, None) => None,
    };
    let after = after.map(|key| Write::Key(key, KeyRow::Destroyed { at_ms: 0 }));
    let page = snapshot.scan(Table::Key, after.as_ref(), PAGE)?;
    let rows = page.into_iter().map_while(|row| match row {
        Write::Key(key, row) if key.tenant == tenant => Some((key, row)),
        _ => None,
    });
    Ok(rows.collect())
}

impl Ledger {
    /// Puts the store under another root key: the store's own secrets are wrapped anew, all in one
    /// batch, and then removed from the files as they were wrapped before. The store opens with the
    /// old key until that batch is durable and with the new one from then on; afterwards no file of
    /// the store holds anything that the old key opens. Copies made before still open with it.
    ///
    /// The same key may be given again: what was derived from it before opens nothing afterwards.
    ///
    /// Of a store that several processes share, all servers have to be stopped: they would not find its
    /// secrets any more, and not be able to make new ones.
    ///
    /// # Errors
    /// `Invalid` when servers have the store open; `RootKey` when another process has rotated the key
    /// since this one opened the store, or the new key can't be used; `Conflict` when others keep making
    /// secrets meanwhile; `Damaged` when a secret does not unwrap; `Storage`. After an error that came
    /// with the batch, opening tells which of the two keys it is; after one of the scrub, the next
    /// opening scrubs.
    pub async fn rotate_root_key(&self, new: &RootKey) -> Result<(), LedgerError> {
        let _alone = self.changing_secrets().await;
        let core = self.core();
        let backend = self.backend()?;
        if let Some(store) = backend.shared()
            && store.others_alive(core.held.node)? > 0
        {
            return Err(LedgerError::Invalid(
                "servers have this store open, and could not read its secrets any more: stop all of them, wait ten \
                 seconds, and rotate the root key again",
            ));
        }
        for _ in 0..TRIES {
            let snapshot = backend.snapshot();
            let (root_wrap, rewrapping) =
                rewrap(&*snapshot, &core.root_wrap(), new, &*core.entropy)?;
            drop(snapshot);
            match self
                .ask(1, |reply| Request::Rewrap(rewrapping, reply))
                .await
            {
                Ok(()) => {
                    core.set_root_wrap(root_wrap);
                    return self.scrub().await;
                }
                // Another process has made a secret since; it has to be wrapped too.
                Err(LedgerError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Conflict)
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
            // Another process may be doing the same; then the first one's secret stands for both.
            let secret = NewSecret {
                root_wrap,
                name,
                value: wrapped,
            };
            self.ask(1, |reply| Request::NewSecret(secret, reply))
                .await?;
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
        let mut done: Option<RotationProgress> = None;
        loop {
            let backend = self.backend()?;
            let newest = self
                .core()
                .reload_tenant(&*backend, tenant)?
                .newest()
                .version;
            let snapshot = backend.snapshot();
            let row = snapshot.meta(&name)?;
            let position = match &row {
                Some(row) => Position::decode(row)?,
                None => Position {
                    version: 1,
                    reached: Reached::End,
                },
            };
            let after = match position.reached {
                _ if position.version < newest => {
                    // Whoever plans from now on knows the newest secret, and what was planned before is
                    // written: so in front of no place a row will come that is wrapped by an older.
                    self.finish_planned().await?;
                    let start = Position {
                        version: newest,
                        reached: Reached::Start,
                    };
                    self.move_to(&name, row, start, Vec::new()).await?;
                    continue;
                }
                Reached::End => break,
                Reached::Start => None,
                Reached::After(subject) => Some(subject),
            };
            let rows = key_rows(&*snapshot, tenant, after)?;
            drop(snapshot);
            let version = position.version;
            let looked = done.map_or(0, |done| done.keys) + rows.len() as u64;
            let reached = match rows.last() {
                Some((last, _)) => Reached::After(last.subject),
                None => Reached::End,
            };
            let rows = self.rewrapped(&*backend, tenant, version, rows)?;
            self.move_to(&name, row, Position { version, reached }, rows)
                .await?;
            let reached = RotationProgress {
                version,
                keys: looked,
            };
            done = Some(reached);
            progress(reached);
        }
        if done.is_some() {
            self.scrub().await?;
        }
        Ok(done)
    }

    /// Writes rows and the position that they stand for, if nobody has moved it.
    async fn move_to(
        &self,
        name: &str,
        from: Option<Vec<u8>>,
        to: Position,
        rows: Vec<Rekey>,
    ) -> Result<(), LedgerError> {
        let rekeying = Rekeying {
            rows,
            position: Some((name.to_owned(), from, to.encode())),
        };
        self.ask(64, |reply| Request::Rekey(rekeying, reply))
            .await
            .map(drop)
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
        let keys = self.tenant_keys(tenant)?;
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
            let keys = self.tenant_keys(tenant)?;
            let key = keys.subject_key(patient);
            let from = match backend.snapshot().key(&key)? {
                None => return Ok(false),
                Some(KeyRow::Destroyed { .. }) => return Err(LedgerError::KeyDestroyed),
                Some(KeyRow::Wrapped(from)) => from,
            };
            let data_key = core.unwrap_key(&*backend, &keys, key, &from)?;
            let grown = data_key.grown(&*core.entropy)?;
            // The row before holds nothing that this one doesn't, so nothing needs scrubbing.
            if (self.ask(1, |reply| Request::Grow(from, grown, reply))).await? == 1 {
                return Ok(true);
            }
        }
        Err(LedgerError::Conflict)
    }
}

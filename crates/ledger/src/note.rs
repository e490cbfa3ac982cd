//! Short texts sealed under a tenant's key, for somebody else to carry: nothing of them is stored.

use crate::keys::derive_for;
use crate::seal::{open, seal};
use crate::{Ledger, LedgerError, TenantId};

impl Ledger {
    /// Seals a text that only this store can open again, for the same tenant and purpose.
    ///
    /// # Errors
    /// `UnknownTenant`.
    pub fn seal_note(
        &self,
        tenant: TenantId,
        purpose: &str,
        text: &[u8],
    ) -> Result<Vec<u8>, LedgerError> {
        let keys = self.tenant_keys(tenant)?;
        // A key of its own for each note, because nonces are random (see `seal.rs`).
        let mut salt = [0; SALT_BYTES];
        self.core().entropy.fill(&mut salt);
        let key = derive_for(&keys.newest().common, b"note", &salt);
        let sealed = seal(
            &key,
            &*self.core().entropy,
            purpose.as_bytes(),
            text.to_vec(),
        );
        Ok([&salt[..], &sealed].concat())
    }

    /// Opens what [`Ledger::seal_note`] sealed; `None` when it was sealed elsewhere, for another tenant
    /// or purpose, or was changed.
    ///
    /// # Errors
    /// `UnknownTenant`.
    pub fn open_note(
        &self,
        tenant: TenantId,
        purpose: &str,
        note: &[u8],
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let keys = self.tenant_keys(tenant)?;
        let Some((salt, sealed)) = note.split_at_checked(SALT_BYTES) else {
            return Ok(None);
        };
        // A note doesn't say which version sealed it; most are younger than the newest.
        let opened = keys.each_sealing().rev().find_map(|keys| {
            let key = derive_for(&keys.common, b"note", salt);
            open(&key, purpose.as_bytes(), sealed)
        });
        Ok(opened)
    }
}

const SALT_BYTES: usize = 16;

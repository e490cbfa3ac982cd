//! Rotating keys without rewriting bodies: what changes is what the keys are wrapped in, and under
//! which key new bodies are sealed.

use crate::bootstrap::rewrap;
use crate::writer::Request;
use crate::{Ledger, LedgerError, RootKey};

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
}

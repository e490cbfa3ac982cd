//! Hits that are opened one after the other.
use std::collections::VecDeque;

use ledger::{Hit, LedgerError, Stored, TenantId, View};

/// Hits as they are opened one after the other: where the store is behind a network, some ahead of who
/// asks.
#[derive(Default)]
pub(super) struct Ahead(VecDeque<Result<Option<Stored>, LedgerError>>);

impl Ahead {
    /// Opens the first of some hits; the next time it is asked for the one behind it. `None` also when
    /// its key was destroyed.
    pub(super) async fn first_of(
        &mut self,
        view: &View,
        tenant: TenantId,
        hits: &[Hit],
    ) -> Result<Option<Stored>, LedgerError> {
        if self.0.is_empty() {
            self.0 = view.fetch_some(tenant, hits).await?.into();
        }
        match self.0.pop_front() {
            None | Some(Err(LedgerError::KeyDestroyed)) => Ok(None),
            Some(outcome) => outcome,
        }
    }
}

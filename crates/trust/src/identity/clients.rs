//! Access tokens of FHIR clients that were read lately.
//!
//! A token comes with every request, and its document is nearly always the one of last time. The store
//! is asked each time where its newest version lies, so that one that was revoked counts at once; only
//! what lies elsewhere than before is opened.
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ledger::{Hit, Ledger, LedgerError, Query, TenantId};

use super::documents::{ClientDocument, get};
use crate::{TrustError, kinds};

/// Documents that are kept; then all are forgotten. Some hundred bytes each.
const KEPT_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Clients(RwLock<HashMap<(TenantId, String), (Hit, ClientDocument)>>);

impl Clients {
    /// The document with an id, as it is now; what has been deleted isn't there.
    pub(super) async fn get(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<ClientDocument>, TrustError> {
        let newest = Query::Document(kinds::CLIENT, id.to_owned());
        let hits = match ledger.search(tenant, &newest, None, None, 1).await {
            // Whoever shows a secret of a tenant that isn't here is as unknown as anybody.
            Err(LedgerError::UnknownTenant(_)) => return Ok(None),
            other => other?,
        };
        let Some(at) = hits.first() else {
            return Ok(None);
        };
        let key = (tenant, id.to_owned());
        if let Some(client) = self.kept(&key, *at) {
            return Ok(Some(client));
        }
        let Some(found) = get::<ClientDocument>(ledger, tenant, kinds::CLIENT, id).await? else {
            return Ok(None);
        };
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        // If it was changed in between, this place is not the one that the next request is told.
        kept.insert(key, (found.at, found.body.clone()));
        Ok(Some(found.body))
    }

    fn kept(&self, key: &(TenantId, String), at: Hit) -> Option<ClientDocument> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (place, client) = kept.get(key)?;
        (*place == at).then(|| client.clone())
    }
}

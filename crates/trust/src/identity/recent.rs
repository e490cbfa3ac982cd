//! Documents that come with every request: access tokens, and the clients that they are of.
//!
//! Such a document is nearly always the one of last time. The store is asked each time where its newest
//! version lies, so that one that was revoked counts at once; only what lies elsewhere than before is opened.
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ledger::{Hit, Kind, Ledger, LedgerError, Query, TenantId};
use serde::de::DeserializeOwned;

use super::documents::get;
use crate::TrustError;

/// Documents that are kept; then all are forgotten. Some hundred bytes each.
const KEPT_MAX: usize = 4096;

/// Documents of one kind that were read lately.
pub(super) struct Recent<T> {
    kind: Kind,
    kept: RwLock<HashMap<(TenantId, String), (Hit, T)>>,
}

impl<T: Clone + DeserializeOwned> Recent<T> {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            kept: RwLock::default(),
        }
    }

    /// The document with an id, as it is now; what has been deleted isn't there.
    pub(super) async fn get(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        id: &str,
    ) -> Result<Option<T>, TrustError> {
        let newest = Query::Document(self.kind, id.to_owned());
        let hits = match ledger.search(tenant, &newest, None, None, 1).await {
            // Whoever shows a secret of a tenant that isn't here is as unknown as anybody.
            Err(LedgerError::UnknownTenant(_)) => return Ok(None),
            other => other?,
        };
        let Some(at) = hits.first() else {
            return Ok(None);
        };
        let key = (tenant, id.to_owned());
        if let Some(body) = self.kept(&key, *at) {
            return Ok(Some(body));
        }
        let Some(found) = get::<T>(ledger, tenant, self.kind, id).await? else {
            return Ok(None);
        };
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        // If it was changed in between, this place is not the one that the next request is told.
        kept.insert(key, (found.at, found.body.clone()));
        Ok(Some(found.body))
    }

    fn kept(&self, key: &(TenantId, String), at: Hit) -> Option<T> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (place, body) = kept.get(key)?;
        (*place == at).then(|| body.clone())
    }
}

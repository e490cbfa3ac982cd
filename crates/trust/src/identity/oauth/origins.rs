//! Where pages of applications come from that run in a browser: the origins of their redirect addresses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ledger::{Hit, Query, TenantId};

use super::apps::{LOOPBACK, loopback, origin};
use super::systems::SystemDocument;
use crate::identity::Identity;
use crate::identity::documents::{Kept, find};
use crate::{TrustError, kinds};

/// Applications whose origins are known. More of them are let in as ever, and their pages are not answered across
/// origins.
const APPS_MAX: usize = 10_000;
/// How long a list is believed without a change being seen. Several servers write at a time, so what was written
/// a moment before the newest may be seen after it.
const FRESH_MS: u64 = 30_000;

/// The origins of an organisation's applications.
#[derive(Default)]
struct Known {
    named: BTreeSet<String>,
    /// Hosts of programs on people's own machines, which listen at any port.
    own: BTreeSet<&'static str>,
    /// The newest document that there was.
    newest: Option<Hit>,
    read_ms: u64,
}

/// Origins as they were read last, for each organisation.
#[derive(Default)]
pub(in crate::identity) struct Origins(tokio::sync::Mutex<HashMap<TenantId, Arc<Known>>>);

/// An address's origin as browsers write it: in small letters, without the port that goes without saying.
fn written(address: &str) -> String {
    let origin = origin(address).to_ascii_lowercase();
    match origin.strip_prefix("https://") {
        Some(rest) => format!("https://{}", rest.strip_suffix(":443").unwrap_or(rest)),
        None => origin,
    }
}

impl Known {
    fn take(&mut self, app: &SystemDocument) {
        let addresses = app.app.iter().flat_map(|part| &part.redirect_uris);
        for address in addresses.filter(|_| app.is_active()) {
            match loopback(address) {
                Some((host, _)) => self.own.extend(LOOPBACK.iter().find(|one| **one == host)),
                None => _ = self.named.insert(written(address)),
            }
        }
    }
    fn has(&self, origin: &str) -> bool {
        match loopback(origin) {
            Some((host, "")) => self.own.contains(host),
            Some(_) => false,
            None => self.named.contains(origin),
        }
    }
}

impl Identity {
    /// Whether an origin, as a browser writes it, is one of an application that is let in.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn is_origin_of_app(
        &self,
        tenant: TenantId,
        origin: &str,
    ) -> Result<bool, TrustError> {
        let ledger = &self.inner.ledger;
        let all = Query::Token(ledger.kind_token(tenant, kinds::OAUTH_APP));
        let hits = ledger.search(tenant, &all, None, None, 1).await?;
        let (newest, now_ms) = (hits.first().copied(), self.now_ms());
        // One reads for all who ask at the same time.
        let mut known = self.inner.origins.0.lock().await;
        let is_fresh = |known: &Arc<Known>| {
            known.newest == newest && now_ms.saturating_sub(known.read_ms) < FRESH_MS
        };
        if let Some(known) = known.get(&tenant).filter(|known| is_fresh(known)) {
            return Ok(known.has(origin));
        }
        let found: Vec<Kept<SystemDocument>> =
            find(ledger, tenant, kinds::OAUTH_APP, &all, APPS_MAX).await?;
        let mut read = Known {
            newest,
            read_ms: now_ms,
            ..Known::default()
        };
        found.iter().for_each(|kept| read.take(&kept.body));
        let has = read.has(origin);
        known.insert(tenant, Arc::new(read));
        Ok(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_write_them() {
        for (address, expected) in [
            (
                "https://app.example.org/back?a=1",
                "https://app.example.org",
            ),
            (
                "https://APP.example.org:443/back",
                "https://app.example.org",
            ),
            (
                "https://app.example.org:8443",
                "https://app.example.org:8443",
            ),
        ] {
            assert_eq!(written(address), expected);
        }
        let mut known = Known::default();
        known.named.insert("https://app.example.org".to_owned());
        known.own.insert("http://127.0.0.1");
        for (origin, fits) in [
            ("https://app.example.org", true),
            ("http://127.0.0.1:4000", true),
            ("http://127.0.0.1", true),
            ("https://app.example.org:443", false),
            ("https://app.example.org/", false),
            ("https://app.example.org.evil.example", false),
            ("https://other.example.org", false),
            ("http://app.example.org", false),
            ("https://127.0.0.1:4000", false),
            ("http://127.0.0.1:4000/", false),
            ("http://127.0.0.1.evil.example", false),
            ("http://localhost:4000", false),
            ("http://[::1]:4000", false),
            ("null", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(known.has(origin), fits, "{origin}");
        }
    }
}

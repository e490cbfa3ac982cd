//! Public keys of clients that are fetched from where the clients keep them (`jwks_uri`).
//!
//! Whoever registers a client chooses the address, so a server that fetched whatever it is given could be
//! made to ask its own network. Only origins that the configuration lists are asked, over TLS unless they
//! are this machine; nothing is followed elsewhere, and an answer is bounded in size and time.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::Url;
use trust::identity::{KeysPlace, names_key};

use crate::fetching::{self, Fetching, is_safe};

/// Sets that are fetched. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeySets {
    origins: Arc<BTreeSet<String>>,
    sets: Fetching,
}

/// The origins of a list with spaces in between, as they are compared.
///
/// # Errors
/// What is wrong with one.
pub(crate) fn origins(list: &str) -> Result<BTreeSet<String>, String> {
    let each = list.split_whitespace().map(|text| {
        let url = Url::parse(text).ok().filter(|url| {
            is_safe(url) && url.path() == "/" && url.query().is_none() && !text.ends_with('/')
        });
        url.map(|url| url.origin().ascii_serialization())
            .ok_or_else(|| {
                format!(
                    "{text} is no origin like https://keys.example.org, or http:// with an address of this machine"
                )
            })
    });
    each.collect()
}

impl KeySets {
    /// Asks these origins alone.
    ///
    /// # Errors
    /// When the TLS of this machine can't be set up.
    pub(crate) fn of(origins: BTreeSet<String>) -> Result<Self, String> {
        Ok(Self {
            origins: Arc::new(origins),
            sets: Fetching::by(fetching::client(None)?, "keys of a client"),
        })
    }

    /// The set of a client, as new as it has to be for the key that a proof names; none when it can't be had.
    pub(crate) async fn get(&self, place: &KeysPlace, proof: &str) -> Option<String> {
        let url = Url::parse(&place.address).ok().filter(|url| {
            is_safe(url) && self.origins.contains(&url.origin().ascii_serialization())
        });
        let Some(url) = url else {
            tracing::warn!(
                "the jwks_uri of a client is at no origin that oauth.key_origins lists, so it is not asked"
            );
            return None;
        };
        // What was kept from before the client's keys were ended at once may be the keys that were ended.
        let whom = format!("{} {}", place.client, place.round);
        let fits = |text: &str| names_key(proof, text);
        self.sets.get_for(&whom, url, fits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_are_safe_are_taken() {
        let table = [
            ("", Some("")),
            ("https://keys.example.org", Some("https://keys.example.org")),
            (
                "https://Keys.Example.org:443",
                Some("https://keys.example.org"),
            ),
            (
                "https://a.org:8443  http://127.0.0.1:99",
                Some("http://127.0.0.1:99 https://a.org:8443"),
            ),
            ("http://[::1]:99", Some("http://[::1]:99")),
            ("http://keys.example.org", None),
            ("http://localhost", None),
            ("http://169.254.169.254", None),
            ("https://user@keys.example.org", None),
            ("https://keys.example.org/", None),
            ("https://keys.example.org/jwks", None),
            ("https://keys.example.org?x", None),
            ("file:///etc/passwd", None),
            ("keys.example.org", None),
        ];
        for (list, expected) in table {
            let found = origins(list).ok();
            let found = found.map(|all| all.into_iter().collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), expected, "{list}");
        }
    }
}

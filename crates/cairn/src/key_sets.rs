//! Public keys of clients that are fetched from where the clients keep them (`jwks_uri`).
//!
//! Whoever registers a client chooses the address, so a server that fetched whatever it is given could be
//! made to ask its own network. Only origins that the configuration lists are asked, over TLS unless they
//! are this machine; nothing is followed elsewhere, and an answer is bounded in size and time.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Url, header, redirect};
use tokio::time::Instant;
use trust::identity::{KEYS_BYTES_MAX, names_key};

/// How long a set is taken as it was: as long as an access token lasts.
const FRESH: Duration = Duration::from_secs(300);
/// A key that isn't in a set may be a new one, but who makes keys up must not make this server ask for
/// each of them.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses that are remembered; then all are forgotten.
const KEPT_MAX: usize = 1000;

/// A set as it was fetched last.
#[derive(Default)]
struct Known {
    text: Option<String>,
    /// When the text was had.
    had: Option<Instant>,
    /// When it was tried last, with or without success.
    asked: Option<Instant>,
}

/// Sets that are fetched. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeySets {
    origins: Arc<BTreeSet<String>>,
    http: reqwest::Client,
    known: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>>,
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

/// Whether what is fetched comes from who it says: over TLS, or from this machine.
fn is_safe(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = address.is_ok_and(|address| address.is_loopback());
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_bare && (url.scheme() == "https" || url.scheme() == "http" && is_here)
}

impl KeySets {
    /// Asks these origins alone.
    ///
    /// # Errors
    /// When the TLS of this machine can't be set up.
    pub(crate) fn of(origins: BTreeSet<String>) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            origins: Arc::new(origins),
            http,
            known: Arc::default(),
        })
    }

    /// The set at an address, as new as it has to be for the key that a proof names; none when it can't be
    /// had.
    pub(crate) async fn get(&self, address: &str, proof: &str) -> Option<String> {
        let url = Url::parse(address).ok().filter(|url| {
            is_safe(url) && self.origins.contains(&url.origin().ascii_serialization())
        });
        let Some(url) = url else {
            tracing::warn!(
                "the jwks_uri of a client is at no origin that oauth.key_origins lists, so it is not asked"
            );
            return None;
        };
        let known = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= KEPT_MAX && !all.contains_key(address) {
                all.clear();
            }
            all.entry(address.to_owned()).or_default().clone()
        };
        // Others who want the same wait for it.
        let mut known = known.lock_owned().await;
        let age = known.asked.map(|asked| asked.elapsed());
        let has_key = (known.text.as_ref()).is_some_and(|text| names_key(proof, text));
        let is_fresh = known.had.is_some_and(|had| had.elapsed() < FRESH);
        let asks = match age {
            None => true,
            Some(_) if has_key => !is_fresh,
            Some(age) => age >= ASK_AGAIN,
        };
        if !asks {
            return known.text.clone();
        }
        // To its end also when the client hangs up: otherwise hanging up at the right time would keep old
        // keys good, and new ones out.
        let http = self.http.clone();
        let fetching = tokio::spawn(async move {
            let fetched = fetch(&http, url).await;
            let now = Instant::now();
            known.asked = Some(now);
            match fetched {
                Ok(text) => {
                    known.text = Some(text);
                    known.had = Some(now);
                }
                Err(reason) => {
                    tracing::warn!(reason, "the keys of a client could not be fetched");
                    // What can't be had any more may have been taken back.
                    if known.had.is_none_or(|had| had.elapsed() >= FRESH) {
                        known.text = None;
                    }
                }
            }
            known.text.clone()
        });
        fetching.await.ok().flatten()
    }
}

async fn fetch(http: &reqwest::Client, url: Url) -> Result<String, String> {
    let words = |error: reqwest::Error| error.without_url().to_string();
    let request = http.get(url).header(header::ACCEPT, "application/json");
    let mut answer = request.send().await.map_err(words)?;
    if !answer.status().is_success() {
        return Err(format!("the answer was {}", answer.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > KEYS_BYTES_MAX {
            return Err(format!("the answer has more than {KEYS_BYTES_MAX} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|_| "the answer is no text".to_owned())
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

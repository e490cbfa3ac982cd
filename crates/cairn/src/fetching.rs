//! What other servers publish (key sets, descriptions of identity providers), fetched and kept for a while.
//! Bounded in size and time, and in how often anybody can make this server ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, Response, Url, header, redirect};
use tokio::time::Instant;
use trust::identity::KEYS_BYTES_MAX;

/// How long a text is taken as it was: as long as an access token lasts.
const FRESH: Duration = Duration::from_secs(300);
/// What is looked for and isn't there may be new, but who makes things up must not make this server ask for each
/// of them.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Texts that are remembered; then all are forgotten.
const KEPT_MAX: usize = 1000;

/// A text as it was fetched last.
#[derive(Default)]
struct Known {
    text: Option<String>,
    /// When the text was had.
    had: Option<Instant>,
    /// When it was tried last, with or without success.
    asked: Option<Instant>,
}

/// Texts that are fetched. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetching {
    http: Client,
    /// Whose they are, for the log.
    whose: &'static str,
    known: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>>,
}

/// Whether what is fetched comes from who it says: over TLS, or from this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_here = address.is_ok_and(|address| address.is_loopback());
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    is_bare && (url.scheme() == "https" || url.scheme() == "http" && is_here)
}

/// What asks other servers: it follows nobody elsewhere and waits for none without end. `authorities` is a PEM
/// file of certificate authorities that are trusted besides the system's.
///
/// # Errors
/// When the TLS of this machine can't be set up, or the file can't be read.
pub(crate) fn client(authorities: Option<&Path>) -> Result<Client, String> {
    let builder = Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE);
    let builder = match authorities {
        None => builder,
        Some(path) => {
            let pem =
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let all = Certificate::from_pem_bundle(&pem);
            let all = all.map_err(|error| format!("{}: {error}", path.display()))?;
            builder.tls_certs_merge(all)
        }
    };
    builder.build().map_err(|error| error.to_string())
}

/// The text of an answer, whatever its status.
///
/// # Errors
/// In words without anything of the answer.
pub(crate) async fn text(mut answer: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > KEYS_BYTES_MAX {
            return Err(format!("the answer has more than {KEYS_BYTES_MAX} bytes"));
        }
    }
    String::from_utf8(bytes).map_err(|_| "the answer is no text".to_owned())
}

/// An error without the address, whose query may hold what is nobody's to read.
#[allow(clippy::needless_pass_by_value, reason = "used by map_err")]
pub(crate) fn words(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

impl Fetching {
    pub(crate) fn by(http: Client, whose: &'static str) -> Self {
        Self {
            http,
            whose,
            known: Arc::default(),
        }
    }

    /// The text at an address, as new as it has to be for what is looked for in it; none when it can't be had.
    /// Whether the address may be asked is for the caller to know.
    pub(crate) async fn get(&self, url: Url, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.get_for("", url, fits).await
    }

    /// The same, kept for `whom` alone: what was had for another is not taken.
    pub(crate) async fn get_for(
        &self,
        whom: &str,
        url: Url,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let name = format!("{whom} {url}");
        let known = {
            let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= KEPT_MAX && !all.contains_key(&name) {
                all.clear();
            }
            all.entry(name).or_default().clone()
        };
        // Others who want the same wait for it.
        let mut known = known.lock_owned().await;
        let age = known.asked.map(|asked| asked.elapsed());
        let is_there = known.text.as_deref().is_some_and(fits);
        let is_fresh = known.had.is_some_and(|had| had.elapsed() < FRESH);
        let asks = match age {
            None => true,
            Some(_) if is_there => !is_fresh,
            Some(age) => age >= ASK_AGAIN,
        };
        if !asks {
            return known.text.clone();
        }
        // To its end also when the client hangs up: otherwise hanging up at the right time would keep old
        // keys good, and new ones out.
        let (http, whose) = (self.http.clone(), self.whose);
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
                    tracing::warn!(
                        reason,
                        whose,
                        "what another server publishes could not be fetched"
                    );
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

async fn fetch(http: &Client, url: Url) -> Result<String, String> {
    let request = http.get(url).header(header::ACCEPT, "application/json");
    let answer = request.send().await.map_err(words)?;
    if !answer.status().is_success() {
        return Err(format!("the answer was {}", answer.status().as_u16()));
    }
    text(answer).await
}

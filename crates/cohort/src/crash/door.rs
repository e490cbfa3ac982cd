//! Asking a server that is killed again and again: until there is an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::server::{Fhir, client};

/// What isn't answered by then is asked again: whoever asked could be gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// How many requests are under way.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    /// Now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// One of them; it is over when this is dropped.
struct One<'a>(&'a UnderWay);

impl<'a> One<'a> {
    fn begins(all: &'a UnderWay) -> Self {
        all.0.fetch_add(1, Ordering::SeqCst);
        Self(all)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers that a client makes something of.
const FINAL: [u16; 6] = [200, 201, 204, 404, 410, 412];

/// A client of whichever process runs.
#[derive(Clone)]
pub struct Door {
    base: watch::Receiver<Option<String>>,
    token: String,
    http: reqwest::Client,
    under_way: UnderWay,
}

impl Door {
    /// A client with a token.
    #[must_use]
    pub fn new(base: watch::Receiver<Option<String>>, token: &str, under_way: UnderWay) -> Self {
        Self {
            base,
            token: token.to_owned(),
            http: client(),
            under_way,
        }
    }

    /// Asks until there is an answer: the same request again where the connection broke or the server could not, for
    /// it can't be known whether it was done. Status, place and body.
    ///
    /// # Errors
    /// When the server turns it down, or is gone for good.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(u16, String, Value)> {
        let mut base = self.base.clone();
        loop {
            let Some(at) = base.wait_for(Option::is_some).await?.clone() else {
                continue;
            };
            let fhir = Fhir::over(self.http.clone(), &at, &self.token);
            let answer = {
                let _one = One::begins(&self.under_way);
                let sent = fhir.send(method.clone(), path, headers, body);
                timeout(ANSWER_WITHIN, sent).await
            };
            match answer {
                Ok(Ok(answer)) if FINAL.contains(&answer.0) => return Ok(answer),
                // The server is going, its store could not be asked, or somebody else was writing.
                Ok(Ok((409 | 429 | 500.., ..)) | Err(_)) | Err(_) => {}
                Ok(Ok((status, _, said))) => bail!("{method} {path}: {status} {said}"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Reads, until there is an answer.
    ///
    /// # Errors
    /// When the server turns it down.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, _, body) = self.ask(Method::GET, path, &[], None).await?;
        if status != 200 {
            bail!("GET {path}: {status} {body}");
        }
        Ok(body)
    }

    /// The resources of a search or operation, page by page.
    ///
    /// # Errors
    /// When the server turns it down.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>> {
        let (mut path, mut found) = (path.to_owned(), Vec::new());
        loop {
            let mut bundle = self.get(&path).await?;
            let entries = bundle["entry"].as_array_mut().map(std::mem::take);
            let entries = entries.into_iter().flatten();
            found.extend(entries.map(|mut entry| entry["resource"].take()));
            let links = bundle["link"].as_array().into_iter().flatten();
            let next = links
                .filter(|link| link["relation"] == "next")
                .find_map(|link| link["url"].as_str()?.split_once("/fhir/r4/"));
            match next {
                Some((_, next)) => next.clone_into(&mut path),
                None => return Ok(found),
            }
        }
    }
}

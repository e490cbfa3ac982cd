//! One request to an endpoint. Redirects are not followed and no answer is read: what counts is its status.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use trust::webhooks::{ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER, signatures};

/// How long an endpoint may take to answer (real time).
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to connect (real time); shorter, so that an endpoint that nothing reaches is told from one that
/// is silent.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A notification as it is sent.
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a str,
    pub(super) headers: &'a [(String, String)],
    /// The key, the same for every attempt, and when it is sent again.
    pub(super) key: &'a str,
    /// The replay that it is part of.
    pub(super) replay: Option<&'a str>,
    /// What it is signed with.
    pub(super) signing: &'a [SigningKey],
    /// Seconds since the epoch (wall clock).
    pub(super) at_s: u64,
    /// Type, id and text of the resource, where it goes along.
    pub(super) payload: Option<(&'a str, &'a str, Vec<u8>)>,
    /// Notices that have to go with what is sent.
    pub(super) notices: Vec<String>,
}

/// Why there is no receipt.
#[derive(Debug)]
pub(super) struct Failed {
    /// What went wrong, in words without anything of the answer, the address or the headers.
    pub(super) words: String,
    /// The same in one word, or the status of the answer.
    pub(super) answer: String,
    /// Whether the endpoint may have what was sent all the same. Only where no connection was made it can't.
    pub(super) may_have_it: bool,
}

impl Failed {
    pub(super) fn before_it_was_sent(words: &str) -> Self {
        Self {
            words: words.to_owned(),
            answer: "unreachable".to_owned(),
            may_have_it: false,
        }
    }

    fn after_it_was_sent(answer: &str, words: String) -> Self {
        Self {
            words,
            answer: answer.to_owned(),
            may_have_it: true,
        }
    }
}

/// What is asked of other servers' endpoints.
///
/// # Errors
/// In words, when the TLS of this machine can't be set up.
pub(super) fn client() -> Result<Client, String> {
    Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .connect_timeout(CONNECT_PATIENCE)
        .build()
        .map_err(|error| error.to_string())
}

/// Sends it, and gives the status of an answer that says that it was taken.
///
/// # Errors
/// When the endpoint did not say that it took it.
pub(super) async fn send(http: &Client, request: Request<'_>) -> Result<StatusCode, Failed> {
    let mut address = request.endpoint.to_owned();
    let method = match &request.payload {
        None => Method::POST,
        // The endpoint is the base of a service then, where the resource is updated (R4, rest-hook).
        Some((kind, id, _)) => {
            address = format!("{}/{kind}/{id}", address.trim_end_matches('/'));
            Method::PUT
        }
    };
    let address = Url::parse(&address)
        .map_err(|_| Failed::before_it_was_sent("the endpoint is no address"))?;
    let mut asked = http
        .request(method, address)
        .header(USER_AGENT, "Cairn")
        .header("x-request-id", request.key)
        .header("idempotency-key", request.key)
        .header(ID_HEADER, request.key)
        .header(TIMESTAMP_HEADER, request.at_s);
    if let Some(replay) = request.replay {
        asked = asked.header("cairn-replay", replay);
    }
    for (name, value) in request.headers {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            let words = "a header of the subscription can't be sent";
            return Err(Failed::before_it_was_sent(words));
        };
        value.set_sensitive(true);
        asked = asked.header(name, value);
    }
    for notice in &request.notices {
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{notice}\"")) {
            asked = asked.header("warning", value);
        }
    }
    let has_payload = request.payload.is_some();
    let body = request.payload.map_or(Vec::new(), |(_, _, body)| body);
    let signed = signatures(request.signing, (request.key, request.at_s), &body);
    asked = asked.header(SIGNATURE_HEADER, signed).body(body);
    if has_payload {
        asked = asked.header(CONTENT_TYPE, "application/fhir+json; charset=utf-8");
    }
    match asked.send().await {
        Ok(answer) if answer.status().is_success() => Ok(answer.status()),
        Ok(answer) => Err(Failed::after_it_was_sent(
            answer.status().as_str(),
            format!("the endpoint answered {}", answer.status().as_u16()),
        )),
        // Of the errors of connecting some are of time, too.
        Err(error) if error.is_connect() => {
            Err(Failed::before_it_was_sent("the endpoint can't be reached"))
        }
        Err(error) if error.is_timeout() => Err(Failed::after_it_was_sent(
            "silent",
            format!(
                "the endpoint did not answer within {} seconds",
                PATIENCE.as_secs()
            ),
        )),
        Err(_) => Err(Failed::after_it_was_sent(
            "broken",
            "the conversation with the endpoint broke off".to_owned(),
        )),
    }
}

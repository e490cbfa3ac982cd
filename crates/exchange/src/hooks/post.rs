//! One request to an endpoint. Redirects are not followed and no answer is read: what counts is its status.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Url, redirect};

/// How long an endpoint may take to answer (real time).
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A notification as it is sent.
pub(super) struct Request<'a> {
    pub(super) endpoint: &'a str,
    pub(super) headers: &'a [(String, String)],
    /// The key, the same for every attempt.
    pub(super) key: &'a str,
    /// Type, id and text of the resource, where it goes along.
    pub(super) payload: Option<(&'a str, &'a str, Vec<u8>)>,
    /// Notices that have to go with what is sent.
    pub(super) notices: Vec<String>,
}

/// What is asked of other servers' endpoints.
///
/// # Errors
/// In words, when the TLS of this machine can't be set up.
pub(super) fn client() -> Result<Client, String> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| error.to_string())
}

/// Sends it.
///
/// # Errors
/// What went wrong, in words without anything of the answer, the address or the headers.
pub(super) async fn send(http: &Client, request: Request<'_>) -> Result<(), String> {
    let mut address = request.endpoint.to_owned();
    let method = match &request.payload {
        None => Method::POST,
        // The endpoint is the base of a service then, where the resource is updated (R4, rest-hook).
        Some((kind, id, _)) => {
            address = format!("{}/{kind}/{id}", address.trim_end_matches('/'));
            Method::PUT
        }
    };
    let address = Url::parse(&address).map_err(|_| "the endpoint is no address".to_owned())?;
    let mut asked = http
        .request(method, address)
        .header(USER_AGENT, "Cairn")
        .header("x-request-id", request.key)
        .header("idempotency-key", request.key);
    for (name, value) in request.headers {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err("a header of the subscription can't be sent".to_owned());
        };
        value.set_sensitive(true);
        asked = asked.header(name, value);
    }
    for notice in &request.notices {
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{notice}\"")) {
            asked = asked.header("warning", value);
        }
    }
    if let Some((_, _, body)) = request.payload {
        asked = asked
            .header(CONTENT_TYPE, "application/fhir+json; charset=utf-8")
            .body(body);
    } else {
        asked = asked.body("");
    }
    match asked.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!(
            "the endpoint answered {}",
            answer.status().as_u16()
        )),
        Err(error) if error.is_timeout() => Err(format!(
            "the endpoint did not answer within {} seconds",
            PATIENCE.as_secs()
        )),
        Err(error) if error.is_connect() => Err("the endpoint can't be reached".to_owned()),
        Err(_) => Err("the conversation with the endpoint broke off".to_owned()),
    }
}

//! A small provider that says whatever a test wants: its description, its keys, its answers to codes. It has no
//! pages: whoever sits at the browser makes the way back themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ledger::{Clock as _, ManualClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::told;
use crate::signer::Signer;

/// An answer of the provider.
#[derive(Clone)]
pub(super) enum Answer {
    Json(Value),
    Text(StatusCode, String),
    Redirect(String),
    /// None within any patience.
    Silence,
}

impl Answer {
    async fn into_response(self) -> Response {
        match self {
            Self::Json(value) => axum::Json(value).into_response(),
            Self::Text(status, text) => (status, text).into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Self::Silence => {
                tokio::time::sleep(Duration::from_secs(60)).await;
                StatusCode::OK.into_response()
            }
        }
    }
}

pub(super) struct Said {
    pub(super) description: Answer,
    pub(super) keys: Answer,
    pub(super) token: Answer,
    /// How often the keys were asked for.
    pub(super) key_requests: usize,
    /// What was sent for codes: the form, and the `Authorization` header.
    pub(super) token_requests: Vec<(BTreeMap<String, String>, String)>,
}

/// A provider on this machine.
#[derive(Clone)]
pub(super) struct Issuer {
    pub(super) url: String,
    pub(super) signer: Arc<Signer>,
    pub(super) clock: ManualClock,
    said: Arc<Mutex<Said>>,
}

impl Issuer {
    pub(super) async fn start(clock: &ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let signer = Arc::new(Signer::curve("key-1"));
        let said = Said {
            description: Answer::Json(described(&url)),
            keys: Answer::Json(json!({"keys": [signer.jwk()]})),
            token: Answer::Json(json!({})),
            key_requests: 0,
            token_requests: Vec::new(),
        };
        let issuer = Self {
            url,
            signer,
            clock: clock.clone(),
            said: Arc::new(Mutex::new(said)),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }
    pub(super) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no test broke off with it")
    }
    /// Describes itself with one part changed, or (null) without it.
    pub(super) fn describe(&self, name: &str, value: Value) {
        let mut all = described(&self.url);
        all[name] = value;
        self.said().description = Answer::Json(all);
    }
    pub(super) fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }
    /// The claims of an identity token that answers the sign-in which left for `there`.
    pub(super) fn claims(&self, there: &str, subject: &str) -> Value {
        let now_s = self.now_s();
        json!({
            "iss": self.url, "aud": "cairn", "sub": subject, "sid": format!("sid-{subject}"),
            "nonce": told(there, "nonce"), "amr": ["pwd", "mfa"], "iat": now_s, "exp": now_s + 300,
        })
    }
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.signer.sign(&self.signer.header(), claims)
    }
    /// Answers the next code with an identity token.
    pub(super) fn give(&self, id_token: &str) {
        self.said().token = Answer::Json(
            json!({"access_token": "at", "token_type": "Bearer", "id_token": id_token}),
        );
    }
    /// The claims of a logout token.
    pub(super) fn logout(&self, id: &str) -> Value {
        let now_s = self.now_s();
        json!({
            "iss": self.url, "aud": "cairn", "jti": id, "iat": now_s, "exp": now_s + 120,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        })
    }
}

fn described(url: &str) -> Value {
    json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize?tenant=1"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"),
        "end_session_endpoint": format!("{url}/end"),
        "authorization_response_iss_parameter_supported": true,
    })
}

async fn description(State(issuer): State<Issuer>) -> Response {
    let answer = issuer.said().description.clone();
    answer.into_response().await
}

async fn keys(State(issuer): State<Issuer>) -> Response {
    let answer = {
        let mut said = issuer.said();
        said.key_requests += 1;
        said.keys.clone()
    };
    answer.into_response().await
}

async fn token(State(issuer): State<Issuer>, headers: HeaderMap, body: String) -> Response {
    let form = form_urlencoded::parse(body.as_bytes()).into_owned();
    let proof = headers.get(header::AUTHORIZATION);
    let proof = proof.map_or("", |value| value.to_str().expect("text"));
    let answer = {
        let mut said = issuer.said();
        said.token_requests.push((form.collect(), proof.to_owned()));
        said.token.clone()
    };
    answer.into_response().await
}

//! OAuth 2.0 as SMART App Launch 2.2 has it, for systems that sign in with a key of their own (Backend
//! Services): what the server can do, and access tokens.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use trust::TrustError;
use trust::identity::{ClientProof, Granted, NewSystem, OauthError, SystemKeys};

use super::Doors;
use super::asked::media_type;

/// Where tokens are had.
const TOKEN: &str = "/oauth/token";
/// Where tokens are given back.
const REVOKE: &str = "/oauth/revoke";
/// Where clients ask to be registered.
const REGISTER: &str = "/oauth/register";
/// When to ask again to be registered, where too many wait: it takes a person to make room.
const RETRY_AFTER_S: u64 = 86_400;
/// How a client proves who it is (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The most parameters of a request.
const PARAMETERS_MAX: usize = 32;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route(TOKEN, post(token))
        .route(REVOKE, post(revoke))
        .route(REGISTER, post(register))
}

/// What is found beside FHIR's base.
pub(super) fn well_known(base: &str) -> Router<Doors> {
    Router::new().route(
        &format!("{base}/.well-known/smart-configuration"),
        get(configuration),
    )
}

/// The address where tokens are had.
pub(super) fn token_address(base_url: &str) -> String {
    format!("{base_url}{TOKEN}")
}

/// Why a request is refused.
struct Refused {
    status: StatusCode,
    code: &'static str,
    words: String,
}

impl Refused {
    fn request(words: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_request",
            words: words.into(),
        }
    }
}

impl From<OauthError> for Refused {
    fn from(error: OauthError) -> Self {
        let words = error.to_string();
        let (status, code) = match error {
            OauthError::InvalidClient(_) => (StatusCode::UNAUTHORIZED, "invalid_client"),
            OauthError::InvalidScope(_) => (StatusCode::BAD_REQUEST, "invalid_scope"),
            OauthError::Inside(error) => {
                tracing::error!(%error, "a client could not be admitted");
                return Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "server_error",
                    words: "an internal error".to_owned(),
                };
            }
        };
        Self {
            status,
            code,
            words,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // RFC 6749, section 5.2: what a description may hold.
        let is_shown = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        let words: String = self.words.chars().filter(is_shown).collect();
        let body = json!({ "error": self.code, "error_description": words });
        no_store((self.status, Json(body)).into_response())
    }
}

fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The parameters of a request, each of which may be there once (RFC 6749, section 3.2).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, Refused> {
        if media_type(headers, header::CONTENT_TYPE) != Some("application/x-www-form-urlencoded") {
            return Err(Refused::request(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let body = body.map_err(|rejection| Refused {
            status: rejection.status(),
            ..Refused::request("the body could not be read, or is too large")
        })?;
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(&body) {
            if all.len() >= PARAMETERS_MAX {
                return Err(Refused::request("there are too many parameters"));
            }
            if all.iter().any(|(known, _)| *known == name) {
                return Err(Refused::request("a parameter is there twice"));
            }
            // One without a value is as if it were not there.
            if !value.is_empty() {
                all.push((name.into_owned(), value.into_owned()));
            }
        }
        Ok(Self(all))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<&str, Refused> {
        self.get(name)
            .ok_or_else(|| Refused::request(format!("{name} is missing")))
    }

    /// The proof of who the client is. There is no other way.
    fn assertion(&self, headers: &HeaderMap) -> Result<&str, Refused> {
        let refused = |words: &str| Refused {
            status: StatusCode::UNAUTHORIZED,
            code: "invalid_client",
            words: words.to_owned(),
        };
        if headers.contains_key(header::AUTHORIZATION) || self.get("client_secret").is_some() {
            return Err(refused(
                "clients have no passwords here: send a client_assertion (private_key_jwt)",
            ));
        }
        let assertion = self
            .get("client_assertion")
            .ok_or_else(|| refused("client_assertion is missing"))?;
        if self.need("client_assertion_type")? != ASSERTION_TYPE {
            return Err(Refused::request(format!(
                "client_assertion_type must be {ASSERTION_TYPE}"
            )));
        }
        Ok(assertion)
    }
}

/// The keys of a client that keeps them elsewhere.
async fn fetched(doors: &Doors, assertion: &str) -> Result<Option<String>, Refused> {
    let identity = doors.trust.identity();
    let place = identity.keys_place(doors.pages.tenant, assertion).await;
    Ok(match place.map_err(OauthError::from)? {
        Some(place) => doors.key_sets.get(&place, assertion).await,
        None => None,
    })
}

/// `POST /oauth/token`.
async fn token(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let form = Form::read(&headers, body)?;
    match form.need("grant_type")? {
        "client_credentials" => {}
        _ => {
            return Err(Refused {
                code: "unsupported_grant_type",
                ..Refused::request("the grant_type must be client_credentials")
            });
        }
    }
    let assertion = form.assertion(&headers)?;
    let Granted {
        token,
        expires_in_s,
        scopes,
    } = doors
        .trust
        .identity()
        .grant_to_system(
            doors.pages.tenant,
            ClientProof {
                assertion,
                audience: &token_address(&doors.base_url),
                fetched: fetched(&doors, assertion).await?.as_deref(),
            },
            form.get("scope").unwrap_or_default(),
        )
        .await?;
    let body = json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_in": expires_in_s,
        "scope": scopes.to_string(),
    });
    Ok(no_store(Json(body).into_response()))
}

/// `POST /oauth/revoke` (RFC 7009). The proof names the token endpoint, as for a token.
async fn revoke(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let form = Form::read(&headers, body)?;
    let assertion = form.assertion(&headers)?;
    doors
        .trust
        .identity()
        .revoke_access(
            doors.pages.tenant,
            ClientProof {
                assertion,
                audience: &token_address(&doors.base_url),
                fetched: fetched(&doors, assertion).await?.as_deref(),
            },
            form.need("token")?,
        )
        .await?;
    Ok(no_store(StatusCode::OK.into_response()))
}

/// The most bytes of what a client says of itself: a set of keys ([`trust::identity::KEYS_BYTES_MAX`]), and
/// some words.
const METADATA_BYTES_MAX: usize = 80 << 10;

/// `POST /oauth/register` (RFC 7591), where the configuration opens it. An administrator approves.
async fn register(
    State(doors): State<Doors>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    if !doors.open_registration {
        return Err(Refused {
            status: StatusCode::FORBIDDEN,
            code: "access_denied",
            words: "clients are registered by an administrator of this server".to_owned(),
        });
    }
    if media_type(&headers, header::CONTENT_TYPE) != Some("application/json") {
        return Err(Refused::request("the body must be application/json"));
    }
    let body = body.map_err(|rejection| Refused {
        status: rejection.status(),
        ..Refused::request("the body could not be read, or is too large")
    })?;
    // As values it takes a multiple of its bytes, and anybody may send it.
    if body.len() > METADATA_BYTES_MAX {
        return Err(Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Refused::request("a client's metadata has at most 80 KiB")
        });
    }
    let metadata: Value =
        serde_json::from_slice(&body).map_err(|_| Refused::request("the body is no JSON"))?;
    let system = asked_for(&metadata)?;
    drop((metadata, body));
    let identity = doors.trust.identity();
    let asked = identity.ask_to_register(doors.pages.tenant, &system).await;
    let id = match asked {
        Ok(Some(id)) => id,
        Ok(None) => {
            let refused = Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: "temporarily_unavailable",
                words: "too many clients wait for approval; ask the administrator of this server"
                    .to_owned(),
            };
            let mut response = refused.into_response();
            let wait_s = HeaderValue::from(RETRY_AFTER_S);
            response.headers_mut().insert(header::RETRY_AFTER, wait_s);
            return Ok(response);
        }
        Err(TrustError::Invalid(words)) => return Err(wrong_metadata(words)),
        Err(error) => return Err(OauthError::from(error).into()),
    };
    let mut told = json!({
        "client_id": id,
        "client_name": system.name,
        "grant_types": ["client_credentials"],
        "response_types": [],
        "token_endpoint_auth_method": "private_key_jwt",
        "scope": system.scopes,
    });
    match &system.keys {
        SystemKeys::At(url) => told["jwks_uri"] = url.as_str().into(),
        SystemKeys::Set(set) => told["jwks"] = serde_json::from_str(set).unwrap_or_default(),
    }
    Ok(no_store((StatusCode::CREATED, Json(told)).into_response()))
}

fn wrong_metadata(words: impl Into<String>) -> Refused {
    Refused {
        code: "invalid_client_metadata",
        ..Refused::request(words)
    }
}

/// What a client says of itself, if it is one of those that there can be: a system with a key. What it
/// says besides is passed over (RFC 7591, section 2).
fn asked_for(metadata: &Value) -> Result<NewSystem, Refused> {
    let text = |name: &str| match metadata.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(wrong_metadata(format!("{name} is no string"))),
    };
    let is_list_of = |name: &str, wanted: &[&str]| match metadata.get(name) {
        None => wanted.is_empty(),
        Some(Value::Array(all)) => {
            all.len() == wanted.len() && all.iter().all(|one| wanted.iter().any(|name| one == name))
        }
        Some(_) => false,
    };
    if text("token_endpoint_auth_method")? != Some("private_key_jwt") {
        return Err(wrong_metadata(
            "token_endpoint_auth_method must be private_key_jwt",
        ));
    }
    if !is_list_of("grant_types", &["client_credentials"])
        || !is_list_of("response_types", &[])
        || !is_list_of("redirect_uris", &[])
    {
        return Err(wrong_metadata(
            "grant_types must be client_credentials alone, without response_types and redirect_uris",
        ));
    }
    let keys = match (metadata.get("jwks"), text("jwks_uri")?) {
        (Some(set), None) => SystemKeys::Set(set.to_string()),
        (None, Some(url)) => SystemKeys::At(url.to_owned()),
        _ => return Err(wrong_metadata("either jwks or jwks_uri must be there")),
    };
    let need = |name: &'static str| {
        text(name)?.ok_or_else(|| wrong_metadata(format!("{name} is missing")))
    };
    Ok(NewSystem {
        name: need("client_name")?.to_owned(),
        keys,
        scopes: need("scope")?.to_owned(),
    })
}

/// `GET [base]/.well-known/smart-configuration` (SMART App Launch 2.2, section 7).
async fn configuration(State(doors): State<Doors>) -> Json<Value> {
    let (base, methods) = (&doors.base_url, ["private_key_jwt"]);
    let algorithms = ["RS384", "ES384"];
    let mut told = json!({
        "token_endpoint": token_address(base),
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": format!("{base}{REVOKE}"),
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "grant_types_supported": ["client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["system/*.cruds", "system/*.rs"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    });
    if doors.open_registration {
        told["registration_endpoint"] = format!("{base}{REGISTER}").into();
    }
    Json(told)
}

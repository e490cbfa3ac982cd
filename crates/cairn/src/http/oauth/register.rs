//! Clients that ask to be registered (RFC 7591).

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use trust::TrustError;
use trust::identity::{NewApp, NewSystem, OauthError, SystemKeys};

use super::{Refused, no_store};
use crate::http::Doors;
use crate::http::asked::media_type;

/// When to ask again to be registered, where too many wait: it takes a person to make room.
const RETRY_AFTER_S: u64 = 86_400;
/// The most bytes of what a client says of itself: a set of keys ([`trust::identity::KEYS_BYTES_MAX`]), and
/// some words.
const METADATA_BYTES_MAX: usize = 80 << 10;

/// `POST /oauth/register` (RFC 7591), where the configuration opens it. An administrator approves.
pub(super) async fn register(
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
    let client = asked_for(&metadata)?;
    drop((metadata, body));
    let (identity, tenant) = (doors.trust.identity(), doors.pages.tenant);
    let asked = match &client {
        Asked::System(system) => identity.ask_to_register(tenant, system).await,
        Asked::App(app) => identity.ask_to_register_app(tenant, app).await,
    };
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
    let mut told = json!({ "client_id": id });
    let keys = match &client {
        Asked::System(system) => {
            told["client_name"] = system.name.as_str().into();
            told["grant_types"] = json!(["client_credentials"]);
            told["response_types"] = json!([]);
            told["scope"] = taken(&system.scopes).into();
            &system.keys
        }
        Asked::App(app) => {
            told["client_name"] = app.name.as_str().into();
            told["grant_types"] = json!(APP_GRANTS);
            told["response_types"] = json!(["code"]);
            told["redirect_uris"] = json!(app.redirect_uris);
            told["scope"] = taken(&app.scopes).into();
            if let Some(address) = &app.launch_uri {
                told["launch_uri"] = address.as_str().into();
            }
            &app.keys
        }
    };
    told["token_endpoint_auth_method"] = match keys {
        SystemKeys::None => "none".into(),
        _ => "private_key_jwt".into(),
    };
    match keys {
        SystemKeys::At(url) => told["jwks_uri"] = url.as_str().into(),
        SystemKeys::Set(set) => told["jwks"] = serde_json::from_str(set).unwrap_or_default(),
        // Nobody asks for the latter here: administrators register certificates.
        SystemKeys::None | SystemKeys::Certificates(_) => {}
    }
    Ok(no_store((StatusCode::CREATED, Json(told)).into_response()))
}

/// Scopes as they were taken (RFC 7591, section 3.2.1): without those that there are none of here, and as this
/// server writes them.
fn taken(scopes: &str) -> String {
    trust::identity::wanted_scopes(scopes).map_or_else(|_| String::new(), |taken| taken.to_string())
}

fn wrong_metadata(words: impl Into<String>) -> Refused {
    Refused {
        code: "invalid_client_metadata",
        ..Refused::request(words)
    }
}

/// What an application gets tokens for.
const APP_GRANTS: [&str; 2] = ["authorization_code", "refresh_token"];

/// Who asks.
enum Asked {
    System(NewSystem),
    App(NewApp),
}

/// What a client says of itself, if it is one of those that there can be: a system with a key, or an
/// application that people launch. What it says besides is passed over (RFC 7591, section 2).
fn asked_for(metadata: &Value) -> Result<Asked, Refused> {
    let text = |name: &str| match metadata.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(wrong_metadata(format!("{name} is no string"))),
    };
    let list = |name: &str| -> Result<Vec<String>, Refused> {
        let wrong = || wrong_metadata(format!("{name} is no list of strings"));
        match metadata.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all
                .iter()
                .map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    };
    let need = |name: &'static str| {
        text(name)?.ok_or_else(|| wrong_metadata(format!("{name} is missing")))
    };
    let (grants, responses) = (list("grant_types")?, list("response_types")?);
    let redirect_uris = list("redirect_uris")?;
    let is_system = grants == ["client_credentials"];
    if is_system && !(responses.is_empty() && redirect_uris.is_empty()) {
        return Err(wrong_metadata(
            "a client of client_credentials has no response_types and redirect_uris",
        ));
    }
    // RFC 7591, section 2: without any, it is authorization_code, and the response is code.
    let is_app = (grants.is_empty() || grants.iter().any(|grant| grant == APP_GRANTS[0]))
        && grants
            .iter()
            .all(|grant| APP_GRANTS.contains(&grant.as_str()))
        && (responses.is_empty() || responses == ["code"]);
    if !is_system && !is_app {
        return Err(wrong_metadata(
            "grant_types must be client_credentials alone, or authorization_code with or without refresh_token and the response_types code",
        ));
    }
    let keys = match (
        text("token_endpoint_auth_method")?,
        metadata.get("jwks"),
        text("jwks_uri")?,
    ) {
        (Some("none"), None, None) if is_app => SystemKeys::None,
        (Some("private_key_jwt"), Some(set), None) => SystemKeys::Set(set.to_string()),
        (Some("private_key_jwt"), None, Some(url)) => SystemKeys::At(url.to_owned()),
        (Some("private_key_jwt"), ..) => {
            return Err(wrong_metadata("either jwks or jwks_uri must be there"));
        }
        _ => {
            return Err(wrong_metadata(
                "token_endpoint_auth_method must be private_key_jwt, or none for an application without keys",
            ));
        }
    };
    let (name, scopes) = (need("client_name")?.to_owned(), need("scope")?.to_owned());
    Ok(if is_system {
        Asked::System(NewSystem { name, keys, scopes })
    } else {
        Asked::App(NewApp {
            name,
            redirect_uris,
            launch_uri: text("launch_uri")?.map(str::to_owned),
            scopes,
            keys,
        })
    })
}

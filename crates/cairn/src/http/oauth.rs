//! OAuth 2.0 as SMART App Launch 2.2 has it: what the server can do, and tokens, for systems that sign in with
//! a key of their own (Backend Services) and for applications that people let in. `register.rs` has clients
//! that ask to be registered; the page where people let applications in is `web`'s.

mod register;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use trust::identity::{
    AppTokens, ClientProof, ConnectedClient, FetchedKeys, Granted, LaunchContext, OauthError,
    PeerCertificate, ShownClient, ShownSystem, claims_client,
};

use super::Doors;
use super::asked::media_type;
use crate::client_certificates::Presented;

/// Where tokens are had.
const TOKEN: &str = "/oauth/token";
/// Where tokens are given back.
const REVOKE: &str = "/oauth/revoke";
/// Where clients ask to be registered.
const REGISTER: &str = "/oauth/register";
/// Where people let applications in.
const AUTHORIZE: &str = "/oauth/authorize";
/// Where clients ask what a token is.
const INTROSPECT: &str = "/oauth/introspect";
/// The keys that identity tokens are checked with.
const KEYS: &str = "/oauth/keys";
/// How long they may be kept: as long as this server keeps those of others, and far less than a key is shown
/// before it signs.
const KEYS_KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// OAuth's own description of the server.
const METADATA: &str = "/.well-known/oauth-authorization-server/fhir/r4";
/// Where applications ask that run in a browser on another origin, beside FHIR's routes.
pub(super) const FOR_APPS: [&str; 6] = [TOKEN, REVOKE, INTROSPECT, REGISTER, KEYS, METADATA];
/// How a client proves who it is (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The most parameters of a request.
const PARAMETERS_MAX: usize = 32;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route(TOKEN, post(token))
        .route(REVOKE, post(revoke))
        .route(INTROSPECT, post(introspect))
        .route(REGISTER, post(register::register))
        .route(KEYS, get(keys))
        .route(METADATA, get(metadata))
}

/// What is found beside FHIR's base.
pub(super) fn well_known(base: &str) -> Router<Doors> {
    Router::new()
        .route(
            &format!("{base}/.well-known/smart-configuration"),
            get(configuration),
        )
        .route(
            &format!("{base}/.well-known/openid-configuration"),
            get(provider),
        )
}

/// The address where tokens are had.
fn token_address(base_url: &str) -> String {
    format!("{base_url}{TOKEN}")
}

/// What FHIR's statement of capabilities tells.
pub(super) fn addresses(base_url: &str) -> [(&'static str, String); 4] {
    [
        ("authorize", authorize_address(base_url)),
        ("token", token_address(base_url)),
        ("introspect", format!("{base_url}{INTROSPECT}")),
        ("revoke", format!("{base_url}{REVOKE}")),
    ]
}

/// The address where people let applications in.
fn authorize_address(base_url: &str) -> String {
    format!("{base_url}{AUTHORIZE}")
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
            OauthError::InvalidGrant(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
            OauthError::UnauthorizedClient(_) => (StatusCode::BAD_REQUEST, "unauthorized_client"),
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

    /// The `client_id` of a client that keeps no secret, where it shows no proof.
    fn public_client(&self, headers: &HeaderMap) -> Option<&str> {
        let shows = headers.contains_key(header::AUTHORIZATION)
            || ["client_assertion", "client_secret"]
                .iter()
                .any(|name| self.get(name).is_some());
        self.get("client_id").filter(|_| !shows)
    }

    /// Whether a client neither names nor proves itself.
    fn names_nobody(&self, headers: &HeaderMap) -> bool {
        let names = ["client_id", "client_assertion", "client_secret"];
        !headers.contains_key(header::AUTHORIZATION)
            && names.iter().all(|name| self.get(name).is_none())
    }

    /// The proof of who the client is.
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
        // RFC 7521, section 4.2: if it names itself, it is the same client.
        if let Some(id) = self.get("client_id")
            && claims_client(assertion).as_deref() != Some(id)
        {
            return Err(refused(
                "client_id is not the client of the client_assertion",
            ));
        }
        Ok(assertion)
    }
}

/// A client's proof, with what checking it takes.
struct Shown<'a> {
    assertion: &'a str,
    audience: String,
    fetched: Vec<FetchedKeys>,
}

impl<'a> Shown<'a> {
    async fn of(doors: &Doors, headers: &HeaderMap, form: &'a Form) -> Result<Self, Refused> {
        let mut shown = Self {
            assertion: form.assertion(headers)?,
            audience: token_address(&doors.base_url),
            fetched: Vec::new(),
        };
        shown.fetch(doors).await?;
        Ok(shown)
    }
    /// The keys of a client that keeps them elsewhere, from one place after the other until some prove it.
    async fn fetch(&mut self, doors: &Doors) -> Result<(), OauthError> {
        let (identity, tenant) = (doors.trust.identity(), doors.pages.tenant);
        loop {
            let wanted = identity.keys_wanted(tenant, self.proof()).await;
            let Some(place) = wanted? else {
                return Ok(());
            };
            let set = doors.key_sets.get(&place, self.assertion).await;
            self.fetched.push(FetchedKeys { place, set });
        }
    }
    fn proof(&self) -> ClientProof<'_> {
        ClientProof {
            assertion: self.assertion,
            audience: &self.audience,
            fetched: &self.fetched,
        }
    }
}

/// Who a request of CDS Hooks is of, by the JWT that it carries for an address.
pub(super) async fn hook_client(
    doors: &Doors,
    assertion: &str,
    audience: String,
) -> Result<trust::Agent, OauthError> {
    let mut shown = Shown {
        assertion,
        audience,
        fetched: Vec::new(),
    };
    shown.fetch(doors).await?;
    let (identity, tenant) = (doors.trust.identity(), doors.pages.tenant);
    identity.hook_client(tenant, shown.proof()).await
}

/// What a system shows: a signature, or its name and the certificate that it connected with.
enum ShownBy<'a> {
    Signs(Shown<'a>),
    Connects {
        client: &'a str,
        certificate: Option<PeerCertificate>,
        is_trusted: bool,
    },
}

impl<'a> ShownBy<'a> {
    async fn of(
        doors: &Doors,
        headers: &HeaderMap,
        form: &'a Form,
        presented: &Connection,
    ) -> Result<Self, Refused> {
        let Some(client) = form.public_client(headers) else {
            return Ok(Self::Signs(Shown::of(doors, headers, form).await?));
        };
        let presented = presented.as_ref().map(|Extension(presented)| presented);
        Ok(Self::Connects {
            client,
            certificate: presented.and_then(Presented::certificate),
            is_trusted: presented.is_some_and(|shown| doors.authorities.trust(shown)),
        })
    }

    fn shown(&self) -> ShownSystem<'_> {
        match self {
            Self::Signs(shown) => shown.proof().into(),
            Self::Connects {
                client,
                certificate,
                is_trusted,
            } => ConnectedClient {
                client,
                certificate: certificate.as_ref(),
                is_trusted: *is_trusted,
            }
            .into(),
        }
    }
}

/// The certificate that a request came with, if it did.
type Connection = Option<Extension<Presented>>;

/// `POST /oauth/token`.
async fn token(
    State(doors): State<Doors>,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let form = Form::read(&headers, body)?;
    match form.need("grant_type")? {
        "client_credentials" => {}
        grant @ ("authorization_code" | "refresh_token") => {
            return app_token(&doors, &headers, &form, grant).await;
        }
        _ => {
            return Err(Refused {
                code: "unsupported_grant_type",
                ..Refused::request(
                    "the grant_type must be client_credentials, authorization_code or refresh_token",
                )
            });
        }
    }
    let shown = ShownBy::of(&doors, &headers, &form, &connection).await?;
    let Granted {
        token,
        expires_in_s,
        scopes,
    } = doors
        .trust
        .identity()
        .grant_to_system(
            doors.pages.tenant,
            shown.shown(),
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

/// A token for an application that a person let in.
async fn app_token(
    doors: &Doors,
    headers: &HeaderMap,
    form: &Form,
    grant: &str,
) -> Result<Response, Refused> {
    let (identity, tenant) = (doors.trust.identity(), doors.pages.tenant);
    let (shown, unnamed);
    let client = match form.public_client(headers) {
        Some(id) => ShownClient::Public(id),
        None => {
            unnamed = match form
                .get("refresh_token")
                .filter(|_| form.names_nobody(headers))
            {
                Some(token) => {
                    let found = identity.client_of_refresh(tenant, token).await;
                    found.map_err(OauthError::from)?
                }
                None => None,
            };
            match &unnamed {
                Some(id) => ShownClient::Public(id),
                None => {
                    shown = Shown::of(doors, headers, form).await?;
                    ShownClient::Proof(shown.proof())
                }
            }
        }
    };
    let given = if grant == "refresh_token" {
        let token = form.need("refresh_token")?;
        identity
            .refresh(tenant, client, token, form.get("scope"))
            .await?
    } else {
        let (code, verifier) = (form.need("code")?, form.need("code_verifier")?);
        let redirect_uri = form.need("redirect_uri")?;
        identity
            .exchange_code(tenant, client, code, redirect_uri, verifier)
            .await?
    };
    let issuer = super::fhir_base(&doors.base_url);
    let signed = identity.identity_token(tenant, &issuer, &given).await;
    let signed = signed.map_err(OauthError::from)?;
    let mut told = told(given);
    if let Some(signed) = signed {
        told["id_token"] = signed.into();
    }
    Ok(no_store(Json(told).into_response()))
}

/// `GET /oauth/keys` (`jwks_uri`).
async fn keys(State(doors): State<Doors>) -> Result<Response, Refused> {
    let identity = doors.trust.identity();
    let set = identity.signing_set(doors.pages.tenant).await;
    let mut response = Json(set.map_err(OauthError::from)?).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, KEYS_KEPT);
    Ok(response)
}

/// SMART App Launch 2.2, section 2.1.8.
fn told(given: AppTokens) -> Value {
    let mut told = json!({
        "access_token": given.access,
        "token_type": "Bearer",
        "expires_in": given.expires_in_s,
        "scope": given.scopes.to_string(),
    });
    if let Some(refresh) = given.refresh {
        told["refresh_token"] = refresh.into();
    }
    if let Some(patient) = given.patient {
        told["patient"] = patient.into();
        // It opens in a page of its own, and nothing around it says whose record it shows.
        told["need_patient_banner"] = true.into();
    }
    tell_context(&mut told, &given.context);
    told
}

/// What an application is about beside a patient (SMART App Launch 2.2, "Launch context"), beside a token and
/// where one is asked about.
fn tell_context(told: &mut Value, context: &LaunchContext) {
    if let Some(encounter) = &context.encounter {
        told["encounter"] = encounter.as_str().into();
    }
    if let Some((kind, _)) = context.other() {
        told["fhirContext"] = json!([{ "reference": context.about, "type": kind.name() }]);
    }
}

/// `POST /oauth/revoke` (RFC 7009). The proof names the token endpoint, as for a token.
async fn revoke(
    State(doors): State<Doors>,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let form = Form::read(&headers, body)?;
    let (identity, tenant) = (doors.trust.identity(), doors.pages.tenant);
    let token = form.need("token")?;
    if let Some(id) = form.public_client(&headers) {
        let app = identity.app(tenant, id).await.map_err(OauthError::from)?;
        if connection.is_some() && app.is_none() {
            let shown = ShownBy::of(&doors, &headers, &form, &connection).await?;
            identity.revoke_access(tenant, shown.shown(), token).await?;
        } else {
            let client = ShownClient::Public(id);
            identity.revoke_app_token(tenant, client, token).await?;
        }
    } else {
        let shown = Shown::of(&doors, &headers, &form).await?;
        let proof = shown.proof();
        let id = claims_client(shown.assertion).unwrap_or_default();
        let app = identity.app(tenant, &id).await.map_err(OauthError::from)?;
        match app {
            Some(_) => {
                let client = ShownClient::Proof(proof);
                identity.revoke_app_token(tenant, client, token).await?;
            }
            None => identity.revoke_access(tenant, proof, token).await?,
        }
    }
    Ok(no_store(StatusCode::OK.into_response()))
}

/// `POST /oauth/introspect` (RFC 7662), for clients with a key and their own tokens. What is none of theirs
/// is told to be nothing, as is what has ended.
async fn introspect(
    State(doors): State<Doors>,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let form = Form::read(&headers, body)?;
    let token = form.need("token")?;
    let shown = ShownBy::of(&doors, &headers, &form, &connection).await?;
    let identity = doors.trust.identity();
    let found = identity
        .introspect(doors.pages.tenant, shown.shown(), token)
        .await?;
    let told = match found {
        None => json!({ "active": false }),
        Some((client, state)) => {
            let mut told = json!({
                "active": true,
                "client_id": client,
                "scope": state.scopes.to_string(),
                "exp": state.expires_ms / 1000,
                "sub": state.subject,
            });
            if let Some(patient) = state.patient {
                told["patient"] = patient.into();
            }
            tell_context(&mut told, &state.context);
            if let Some(certificate) = state.certificate {
                told["cnf"] = json!({ "x5t#S256": certificate });
            }
            told
        }
    };
    Ok(no_store(Json(told).into_response()))
}

/// `GET [base]/.well-known/smart-configuration` (SMART App Launch 2.2, section 7).
async fn configuration(State(doors): State<Doors>) -> Json<Value> {
    Json(described(&doors))
}

/// The same as OAuth's own description (RFC 8414).
async fn metadata(State(doors): State<Doors>) -> Json<Value> {
    Json(described(&doors))
}

/// `GET [base]/.well-known/openid-configuration` (OpenID Connect Discovery 1.0), with what it has besides. What
/// would otherwise be taken to be there is said not to be.
async fn provider(State(doors): State<Doors>) -> Json<Value> {
    let mut told = described(&doors);
    told["subject_types_supported"] = json!(["public"]);
    told["id_token_signing_alg_values_supported"] = json!(["RS256"]);
    told["response_modes_supported"] = json!(["query"]);
    told["claims_supported"] = json!([
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "nonce",
        "at_hash",
        "fhirUser",
        "profile",
    ]);
    told["claims_parameter_supported"] = false.into();
    told["request_parameter_supported"] = false.into();
    told["request_uri_parameter_supported"] = false.into();
    Json(told)
}

fn described(doors: &Doors) -> Value {
    let base = &doors.base_url;
    let mut methods = vec!["private_key_jwt"];
    if doors.takes_certificates {
        methods.push("self_signed_tls_client_auth");
        if doors.authorities.are_there() {
            methods.push("tls_client_auth");
        }
    }
    let mut with_none = vec!["none"];
    with_none.extend(&methods);
    let algorithms = ["RS384", "ES384"];
    // The issuer is FHIR's base, which SMART names `iss`; every organisation has its own.
    let mut told = json!({
        "issuer": super::fhir_base(base),
        "jwks_uri": format!("{base}{KEYS}"),
        "authorization_endpoint": authorize_address(base),
        "token_endpoint": token_address(base),
        "token_endpoint_auth_methods_supported": with_none,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": format!("{base}{REVOKE}"),
        "revocation_endpoint_auth_methods_supported": with_none,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint": format!("{base}{INTROSPECT}"),
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "scopes_supported": [
            "openid", "fhirUser", "profile",
            "launch", "launch/patient", "launch/encounter", "offline_access", "online_access",
            "patient/*.cruds", "patient/*.rs", "user/*.cruds", "user/*.rs",
            "system/*.cruds", "system/*.rs",
        ],
        "capabilities": [
            "launch-ehr", "launch-standalone", "sso-openid-connect",
            "client-public", "client-confidential-asymmetric",
            "context-banner", "context-ehr-patient", "context-standalone-patient",
            "context-ehr-encounter", "context-standalone-encounter",
            "permission-patient", "permission-user", "permission-offline", "permission-online",
            "permission-v1", "permission-v2",
        ],
    });
    if doors.takes_certificates {
        told["tls_client_certificate_bound_access_tokens"] = true.into();
    }
    if doors.open_registration {
        told["registration_endpoint"] = format!("{base}{REGISTER}").into();
    }
    told
}

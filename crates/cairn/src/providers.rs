//! Speaks with identity providers (OpenID Connect Core 1.0, Discovery 1.0, RFC 9207): finds out where they are,
//! fetches their keys, and exchanges what people bring back. What tokens have to say is checked in `trust`; what
//! people see is `web`'s.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::{Clock, Entropy};
use reqwest::{Client, Url, header};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use trust::identity::{
    Asked, Away, ClientKey, IdToken, IssuerKeys, LogoutToken, TokenFault, check_id_token,
    check_logout_token,
};
use web::{IdentityProvider, IdentityProviders, ProviderAnswer, ProviderFault, Redeemed};

use crate::fetching::{self, Fetching, is_safe};

/// The most bytes of an issuer: as many as a link keeps.
const ISSUER_BYTES_MAX: usize = 255;
/// The most bytes of a code that is passed on.
const CODE_BYTES_MAX: usize = 8 << 10;
/// Exchanges at once, for all providers together: strangers can begin any number of sign-ins.
const EXCHANGES_MAX: usize = 32;
/// What of a token endpoint's errors is said again in the log (RFC 6749, section 5.2).
const TOKEN_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];
/// How a client proves itself by a key (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How this server proves itself to a provider.
pub enum ClientAuthentication {
    /// By a key (`private_key_jwt`).
    Key(ClientKey),
    /// By a secret (`client_secret_basic`, or `client_secret_post` where only that is taken).
    Secret(String),
}

/// An identity provider that staff sign in at.
pub struct ProviderOptions {
    /// Its name in addresses: small letters and digits.
    pub id: String,
    /// Its name on the button.
    pub name: String,
    /// Its issuer, as it writes it itself.
    pub issuer: String,
    /// What it calls this server.
    pub client_id: String,
    /// How this server proves itself.
    pub authentication: ClientAuthentication,
    /// Scopes to ask for besides `openid`.
    pub scopes: Vec<String>,
    /// Values of `acr` that stand for two factors.
    pub acr: Vec<String>,
    /// Values of `amr` of which one stands for two factors.
    pub amr: Vec<String>,
    /// PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Whether something can be an issuer: over TLS, or on this machine.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn checked_issuer(text: &str) -> Result<(), String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| is_safe(url) && url.query().is_none() && text.len() <= ISSUER_BYTES_MAX);
    url.map(|_| ()).ok_or_else(|| {
        format!(
            "is an address like https://login.example.org, or http:// with an address of this machine, of at most {ISSUER_BYTES_MAX} bytes"
        )
    })
}

struct Provider {
    options: ProviderOptions,
    discovery: Url,
    http: Client,
    described: Fetching,
    keys: Fetching,
}

/// What a provider says of itself.
struct Described {
    authorization: Url,
    token: Url,
    keys: Url,
    end_session: Option<Url>,
    /// Whether its answers always say whom they are from.
    says_iss: bool,
    /// Whether a secret is taken in the body alone.
    takes_secret_in_body: bool,
}

impl Described {
    fn parse(text: &str, issuer: &str) -> Result<Self, &'static str> {
        let all: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| "its description is no JSON object")?;
        let word = |name: &str| all.get(name).and_then(Value::as_str);
        // Discovery 1.0, section 4.3: otherwise one provider could speak for another.
        if word("issuer") != Some(issuer) {
            return Err("its description is of another issuer");
        }
        let is_encrypted = issuer.starts_with("https:");
        let at = |name: &str| {
            let url = word(name).and_then(|text| Url::parse(text).ok());
            url.filter(|url| is_safe(url) && (!is_encrypted || url.scheme() == "https"))
        };
        let methods = all.get("token_endpoint_auth_methods_supported");
        let methods = methods.and_then(Value::as_array);
        let takes = |method: &str| {
            methods.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(method)))
        };
        Ok(Self {
            authorization: at("authorization_endpoint")
                .ok_or("its description has no authorization_endpoint that can be used")?,
            token: at("token_endpoint")
                .ok_or("its description has no token_endpoint that can be used")?,
            keys: at("jwks_uri").ok_or("its description has no jwks_uri that can be used")?,
            end_session: at("end_session_endpoint"),
            says_iss: all.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
            takes_secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }
}

fn encoded(form: &[(&str, String)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.extend_pairs(form).finish()
}

/// The identity providers of this server.
pub(crate) struct Providers {
    shown: Vec<IdentityProvider>,
    all: Vec<Provider>,
    /// How this server is reached, without a slash at the end.
    base_url: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    exchanges: Semaphore,
}

impl Providers {
    /// # Errors
    /// When a certificate authority can't be read, or an issuer can't be one.
    pub(crate) fn of(
        all: Vec<ProviderOptions>,
        base_url: &str,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let mut providers = Vec::new();
        for options in all {
            let told = |words: String| format!("{}: {words}", options.id);
            checked_issuer(&options.issuer).map_err(told)?;
            let issuer = options.issuer.trim_end_matches('/');
            let discovery = format!("{issuer}/.well-known/openid-configuration");
            let http = fetching::client(options.ca_file.as_deref()).map_err(told)?;
            providers.push(Provider {
                discovery: Url::parse(&discovery).map_err(|error| told(error.to_string()))?,
                described: Fetching::by(http.clone(), "description of an identity provider"),
                keys: Fetching::by(http.clone(), "keys of an identity provider"),
                http,
                options,
            });
        }
        let shown = providers.iter().map(|provider| IdentityProvider {
            id: provider.options.id.clone(),
            name: provider.options.name.clone(),
            issuer: provider.options.issuer.clone(),
        });
        Ok(Self {
            shown: shown.collect(),
            all: providers,
            base_url: base_url.to_owned(),
            clock,
            entropy,
            exchanges: Semaphore::new(EXCHANGES_MAX),
        })
    }

    fn one(&self, id: &str) -> Result<&Provider, ProviderFault> {
        let found = self.all.iter().find(|provider| provider.options.id == id);
        found.ok_or(ProviderFault::Refused("there is no such provider"))
    }

    /// Where somebody comes back to.
    fn redirect_uri(&self, provider: &Provider) -> String {
        format!(
            "{}/sign-in/with/{}/back",
            self.base_url, provider.options.id
        )
    }

    async fn redeem(
        &self,
        away: &Away,
        code: &str,
        iss: Option<&str>,
    ) -> Result<Redeemed, ProviderFault> {
        let provider = self.one(&away.provider)?;
        let options = &provider.options;
        let described = provider.described().await?;
        match iss {
            Some(iss) if iss != options.issuer => {
                return Err(ProviderFault::Refused(
                    "the answer is of another issuer (iss)",
                ));
            }
            None if described.says_iss => {
                return Err(ProviderFault::Refused(
                    "the answer does not say whom it is from (iss)",
                ));
            }
            _ => {}
        }
        if code.len() > CODE_BYTES_MAX {
            return Err(ProviderFault::Refused("the code is too long"));
        }
        let _turn = self
            .exchanges
            .try_acquire()
            .map_err(|_| ProviderFault::Busy)?;
        let (id_token, access_token) = self.exchange(provider, &described, away, code).await?;
        let asked = Asked {
            issuer: &options.issuer,
            client_id: &options.client_id,
            nonce: &away.nonce,
            access_token: &access_token,
        };
        let token = self
            .checked(provider, &described, |keys, now_ms| {
                check_id_token(&id_token, keys, asked, now_ms)
            })
            .await?;
        let by_two_factors = options.is_by_two_factors(&token);
        Ok(Redeemed {
            token,
            by_two_factors,
        })
    }

    /// Exchanges a code for an identity token and the access token beside it, which is used for nothing else.
    async fn exchange(
        &self,
        provider: &Provider,
        described: &Described,
        away: &Away,
        code: &str,
    ) -> Result<(String, String), ProviderFault> {
        const UNFIT: ProviderFault =
            ProviderFault::Refused("its answer to the code holds no identity token");
        let options = &provider.options;
        let redirect_uri = self.redirect_uri(provider);
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", redirect_uri),
            ("code_verifier", away.verifier.clone()),
            ("client_id", options.client_id.clone()),
        ];
        let mut request = provider.http.post(described.token.clone());
        match &options.authentication {
            ClientAuthentication::Key(key) => {
                let audience = described.token.as_str();
                let proof = key.assertion(
                    &options.client_id,
                    audience,
                    self.clock.now_ms(),
                    self.entropy.as_ref(),
                );
                let proof = proof.map_err(|error| {
                    tracing::error!(%error, provider = %options.id, "no proof for an identity provider");
                    ProviderFault::Unreachable
                })?;
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", proof));
            }
            ClientAuthentication::Secret(secret) if described.takes_secret_in_body => {
                form.push(("client_secret", secret.clone()));
            }
            ClientAuthentication::Secret(secret) => {
                // RFC 6749, section 2.3.1.
                let part = |text: &str| {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                let pair = format!("{}:{}", part(&options.client_id), part(secret));
                let value = format!("Basic {}", STANDARD.encode(pair));
                request = request.header(header::AUTHORIZATION, value);
            }
        }
        let request = request
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(encoded(&form));
        let unreachable = |reason: String| {
            tracing::warn!(reason, provider = %options.id, "an identity provider did not answer to a code");
            ProviderFault::Unreachable
        };
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(fetching::words(error)))?;
        let status = answer.status();
        let text = fetching::text(answer).await.map_err(unreachable)?;
        let all: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| all.get(name).and_then(Value::as_str);
        if !status.is_success() {
            let known =
                word("error").and_then(|error| TOKEN_ERRORS.iter().find(|one| **one == error));
            let error = known.copied().unwrap_or("none that is known");
            tracing::warn!(status = status.as_u16(), error, provider = %options.id, "an identity provider refused a code");
            return Err(match (status.is_server_error(), error) {
                (true, _) => ProviderFault::Unreachable,
                (false, "invalid_client" | "unauthorized_client") => {
                    ProviderFault::Refused("it does not take this server for its client")
                }
                (false, _) => ProviderFault::Refused("it refused the code"),
            });
        }
        let is_bearer = word("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        match (word("id_token"), word("access_token")) {
            (Some(id_token), Some(access_token)) if is_bearer => {
                Ok((id_token.to_owned(), access_token.to_owned()))
            }
            _ => Err(UNFIT),
        }
    }

    /// Checks a token by the provider's keys, and by newer ones if it is signed by none of these.
    async fn checked<T>(
        &self,
        provider: &Provider,
        described: &Described,
        check: impl Fn(&IssuerKeys, u64) -> Result<T, TokenFault>,
    ) -> Result<T, ProviderFault> {
        let now_ms = self.clock.now_ms();
        let has_key = |text: &str| {
            let keys = IssuerKeys::parse(text);
            keys.is_ok_and(|keys| !matches!(check(&keys, now_ms), Err(TokenFault::UnknownKey)))
        };
        let set = provider.keys.get(described.keys.clone(), has_key).await;
        let set = set.ok_or(ProviderFault::Unreachable)?;
        let keys = IssuerKeys::parse(&set).map_err(|error| {
            tracing::warn!(%error, provider = %provider.options.id, "an identity provider's keys can't be used");
            ProviderFault::Refused("its keys can't be used")
        })?;
        check(&keys, now_ms).map_err(|fault| match fault {
            TokenFault::UnknownKey => ProviderFault::Refused(
                "the token is signed by a key that is not among the issuer's",
            ),
            TokenFault::Refused(words) => ProviderFault::Refused(words),
        })
    }

    async fn authorize(&self, away: &Away) -> Result<String, ProviderFault> {
        let provider = self.one(&away.provider)?;
        let options = &provider.options;
        let mut address = provider.described().await?.authorization;
        let scopes: Vec<&str> = std::iter::once("openid")
            .chain(
                options
                    .scopes
                    .iter()
                    .map(String::as_str)
                    .filter(|scope| *scope != "openid"),
            )
            .collect();
        address.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &options.client_id),
            ("redirect_uri", &self.redirect_uri(provider)),
            ("scope", &scopes.join(" ")),
            ("state", &away.state),
            ("nonce", &away.nonce),
            ("code_challenge", &away.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        if away.anew {
            // Both, because some know the one and some the other; with `max_age` it has to say when (`auth_time`).
            let mut pairs = address.query_pairs_mut();
            pairs
                .append_pair("prompt", "login")
                .append_pair("max_age", "0");
        }
        if !options.acr.is_empty() {
            let wanted = options.acr.join(" ");
            address.query_pairs_mut().append_pair("acr_values", &wanted);
        }
        Ok(address.into())
    }

    async fn logout(&self, id: &str, token: &str) -> Result<LogoutToken, ProviderFault> {
        let provider = self.one(id)?;
        let options = &provider.options;
        let described = provider.described().await?;
        self.checked(provider, &described, |keys, now_ms| {
            check_logout_token(token, keys, &options.issuer, &options.client_id, now_ms)
        })
        .await
    }

    async fn end_session(&self, id: &str) -> Result<Option<String>, ProviderFault> {
        let provider = self.one(id)?;
        let back = format!("{}/sign-in", self.base_url);
        Ok(provider.described().await?.end_session.map(|mut address| {
            address.query_pairs_mut().extend_pairs([
                ("client_id", provider.options.client_id.as_str()),
                ("post_logout_redirect_uri", &back),
            ]);
            address.into()
        }))
    }
}

impl ProviderOptions {
    /// Whether a token says that two factors were shown. Where nothing stands for two, none does.
    fn is_by_two_factors(&self, token: &IdToken) -> bool {
        let is_asked = !self.acr.is_empty() || !self.amr.is_empty();
        is_asked && token.satisfies(&self.acr, &self.amr)
    }
}

impl Provider {
    /// What the provider says of itself now.
    async fn described(&self) -> Result<Described, ProviderFault> {
        let issuer = &self.options.issuer;
        let fits = |text: &str| Described::parse(text, issuer).is_ok();
        let text = self.described.get(self.discovery.clone(), fits).await;
        let text = text.ok_or(ProviderFault::Unreachable)?;
        Described::parse(&text, issuer).map_err(|why| {
            tracing::warn!(why, provider = %self.options.id, "an identity provider can't be used");
            ProviderFault::Refused(why)
        })
    }
}

impl IdentityProviders for Providers {
    fn all(&self) -> &[IdentityProvider] {
        &self.shown
    }
    fn authorize<'a>(&'a self, away: &'a Away) -> ProviderAnswer<'a, String> {
        Box::pin(Self::authorize(self, away))
    }
    fn redeem<'a>(
        &'a self,
        away: &'a Away,
        code: &'a str,
        iss: Option<&'a str>,
    ) -> ProviderAnswer<'a, Redeemed> {
        Box::pin(Self::redeem(self, away, code, iss))
    }
    fn logout<'a>(&'a self, id: &'a str, token: &'a str) -> ProviderAnswer<'a, LogoutToken> {
        Box::pin(Self::logout(self, id, token))
    }
    fn end_session<'a>(&'a self, id: &'a str) -> ProviderAnswer<'a, Option<String>> {
        Box::pin(Self::end_session(self, id))
    }
    fn keys(&self, id: &str) -> Option<Value> {
        match &self.one(id).ok()?.options.authentication {
            ClientAuthentication::Key(key) => Some(key.public_set()),
            ClientAuthentication::Secret(_) => None,
        }
    }
}

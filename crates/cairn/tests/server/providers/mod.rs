//! Staff sign in at their organisation's own identity provider, over HTTP: `peer.rs` beside a provider that
//! nobody here wrote, `hostile.rs` with one that lies (`issuer.rs`), `elsewhere.rs` with several servers and what
//! the provider says later.

mod elsewhere;
mod hostile;
mod issuer;
mod peer;

use std::collections::BTreeMap;
use std::process::Command;

use cairn::store::TENANT;
use cairn::{ClientAuthentication, ProviderOptions, Server};
use ledger::{Clock as _, SystemClock};
use reqwest::{Method, StatusCode, Url};
use trust::identity::{ClientKey, NewAccount};
use trust::{Agent, Role};

use crate::house::{House, administers};

const PASSWORD: &str = "long enough for a test";
const SESSION: &str = "cairn";
const AWAY: &str = "cairn-away";

/// A key as OpenSSL makes it.
fn client_key() -> ClientKey {
    let options = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let made = Command::new("openssl")
        .arg("genpkey")
        .args(options)
        .output();
    let made = made.expect("openssl is installed (scripts/test installs it)");
    let pem = String::from_utf8(made.stdout).expect("text");
    ClientKey::parse(&pem).expect("a key")
}

fn provider(id: &str, issuer: &str, authentication: ClientAuthentication) -> ProviderOptions {
    ProviderOptions {
        id: id.to_owned(),
        name: "Hospital Login".to_owned(),
        issuer: issuer.to_owned(),
        client_id: "cairn".to_owned(),
        authentication,
        scopes: vec!["profile".to_owned()],
        acr: Vec::new(),
        amr: vec!["mfa".to_owned()],
        ca_file: None,
    }
}

/// An account of a clinician with a second factor.
struct Person {
    id: String,
    totp: String,
}

impl Person {
    async fn new(server: &Server, name: &str) -> Self {
        let identity = server.trust().identity();
        let by = Agent::system(TENANT, "command-line");
        let account = NewAccount {
            tenant: TENANT,
            user_name: name.to_owned(),
            name: name.to_owned(),
            role: Role::Clinician,
            password: PASSWORD.to_owned(),
            patient: None,
        };
        let id = identity.create(&by, account).await.expect("an account");
        let totp = identity.set_totp(&by, &id, None).await.expect("a secret");
        Self { id, totp }
    }
    async fn linked(server: &Server, name: &str, issuer: &str, subject: &str) -> Self {
        let person = Self::new(server, name).await;
        let identity = server.trust().identity();
        let permit = administers(server).await;
        let linked = identity.link_account(&permit, &person.id, issuer, subject);
        linked.await.expect("a link");
        person
    }
    fn code(&self) -> String {
        self.code_at(SystemClock.now_ms() / 1000)
    }
    fn code_at(&self, at_s: u64) -> String {
        let secret = totp_rs::Secret::try_from_base32(&self.totp).expect("base32");
        let totp = totp_rs::Builder::new().with_secret(secret).build();
        let totp = totp.expect("a secret");
        totp.generate(at_s).to_string()
    }
}

/// A page, read whole.
struct Page {
    status: StatusCode,
    /// Where it leads, in full.
    location: Option<String>,
    cookies: Vec<String>,
    body: String,
}

impl Page {
    fn shows(&self, words: &str) {
        assert!(self.body.contains(words), "{words}: {}", self.body);
    }
    fn leads(&self) -> &str {
        let status = self.status;
        (self.location.as_deref()).unwrap_or_else(|| panic!("{status}: {}", self.body))
    }
    /// What stands after `tag` in the page, up to the next quotation mark.
    fn after(&self, tag: &str) -> String {
        let found = self.body.split_once(tag);
        let (_, rest) = found.unwrap_or_else(|| panic!("no {tag}: {}", self.body));
        let text = rest.split('"').next().unwrap_or_default();
        text.replace("&amp;", "&")
    }
    fn field(&self, name: &str) -> String {
        self.after(&format!("name=\"{name}\" value=\""))
    }
    fn opens_a_session(&self) -> bool {
        self.cookies.iter().any(|cookie| {
            let value = cookie.strip_prefix("cairn=").unwrap_or_default();
            !value.is_empty() && !value.starts_with(';')
        })
    }
}

/// A parameter of an address.
fn told(address: &str, name: &str) -> String {
    let url = Url::parse(address).expect("an address");
    let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
    let value = pairs.next().map(|(_, value)| value.into_owned());
    value.unwrap_or_else(|| panic!("no {name}: {address}"))
}

/// Somebody at a browser, who follows no link by themselves.
struct Visitor {
    http: reqwest::Client,
    /// By origin.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

impl Visitor {
    fn new() -> Self {
        let http = crate::house::client().redirect(reqwest::redirect::Policy::none());
        Self {
            http: http.build().expect("a client"),
            cookies: BTreeMap::new(),
        }
    }
    /// A cookie of a house.
    fn cookie(&self, house: &House, name: &str) -> Option<&str> {
        let all = self.cookies.get(house.server.base_url())?;
        all.get(name).map(String::as_str)
    }
    fn set_cookie(&mut self, house: &House, name: &str, value: &str) {
        let all = self.cookies.entry(house.server.base_url().to_owned());
        all.or_default().insert(name.to_owned(), value.to_owned());
    }
    async fn send(
        &mut self,
        method: Method,
        address: &str,
        form: Option<&[(&str, &str)]>,
        site: &str,
    ) -> Page {
        let url = Url::parse(address).expect("an address");
        let jar = self
            .cookies
            .entry(url.origin().ascii_serialization())
            .or_default();
        let cookies: Vec<String> = jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = self
            .http
            .request(method, url.clone())
            .header("sec-fetch-site", site)
            .header("cookie", cookies.join("; "));
        if let Some(form) = form {
            let mut text = form_urlencoded::Serializer::new(String::new());
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(text.extend_pairs(form).finish());
        }
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| {
            let all = answer.headers().get_all(name);
            let all = all
                .iter()
                .map(|value| value.to_str().expect("text").to_owned());
            all.collect::<Vec<_>>()
        };
        let cookies = header("set-cookie");
        for cookie in &cookies {
            let pair = cookie.split(';').next().expect("a cookie");
            let (name, value) = pair.split_once('=').expect("a cookie");
            if value.is_empty() {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = header("location")
            .first()
            .map(|to| url.join(to).expect("an address").into());
        Page {
            status: answer.status(),
            location,
            cookies,
            body: answer.text().await.expect("text"),
        }
    }
    /// Follows a link of the page that one is on, or types an address.
    async fn get(&mut self, address: &str) -> Page {
        self.send(Method::GET, address, None, "same-origin").await
    }
    /// Is led from one site to another.
    async fn led(&mut self, address: &str) -> Page {
        self.send(Method::GET, address, None, "cross-site").await
    }
    async fn post(&mut self, address: &str, form: &[(&str, &str)]) -> Page {
        self.send(Method::POST, address, Some(form), "same-origin")
            .await
    }
    /// Begins a sign-in; the address at the provider.
    async fn leave(&mut self, house: &House, next: &str) -> String {
        let begin = house.url(&format!("/sign-in/with/hospital{next}"));
        self.get(&begin).await.leads().to_owned()
    }
    /// Whether somebody is signed in.
    async fn is_in(&mut self, house: &House) -> bool {
        let page = self.get(&house.url("/console/apps")).await;
        page.status == StatusCode::OK
    }
    /// The form of a page of one's own, sent with what it carries.
    async fn code(&mut self, house: &House, page: &Page, code: &str) -> Page {
        let (form, ticket) = (page.field("form"), page.field("ticket"));
        let mut fields = vec![("form", form.as_str()), ("ticket", &ticket), ("code", code)];
        let next = page
            .body
            .contains("name=\"next\"")
            .then(|| page.field("next"));
        fields.extend(next.as_deref().map(|next| ("next", next)));
        self.post(&house.url("/sign-in/code"), &fields).await
    }
    async fn sign_out(&mut self, house: &House) -> Page {
        let csrf = self.get(&house.url("/console/apps")).await.field("csrf");
        let out = house.url("/sign-out");
        self.post(&out, &[("csrf", &csrf)]).await
    }
}

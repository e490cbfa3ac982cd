//! Applications that people launch, over HTTP: `agreeing.rs` has what people see and do, `tokens.rs` what comes
//! of it for the application, `context.rs` what it is about, `identity.rs` what it learns of who they are,
//! `widest.rs` that it gets no less for the hour that they agree in; here is who they are, and the browser that they
//! sit at.

mod agreeing;
mod context;
pub(crate) mod identity;
mod tokens;
mod widest;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cairn::store::TENANT;
use ledger::{Clock as _, SystemClock};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use trust::identity::{NewAccount, NewApp, SystemKeys};
use trust::{Agent, Role};

use crate::house::{House, administers, assert_outcome, header, house, house_with, put};
use crate::signer::Signer;

pub(crate) const BACK: &str = "https://app.example.org/back";
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const PASSWORD: &str = "long enough for a test";

pub(crate) fn s256(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

pub(crate) fn by() -> Agent {
    Agent::system(TENANT, "command-line")
}

pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    query.finish()
}

/// What stands in an attribute, unescaped.
pub(crate) fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// A page, read whole.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) location: String,
    pub(crate) policy: String,
    pub(crate) frames: String,
    pub(crate) body: String,
}

impl Page {
    pub(crate) async fn of(answer: Response) -> Self {
        Self {
            status: answer.status(),
            location: match header(&answer, "refresh").strip_prefix("0; url=") {
                Some(address) => address.to_owned(),
                None => header(&answer, "location").to_owned(),
            },
            policy: header(&answer, "content-security-policy").to_owned(),
            frames: header(&answer, "x-frame-options").to_owned(),
            body: answer.text().await.expect("text"),
        }
    }
    /// The values of the fields of a name.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let tag = format!("name=\"{name}\" value=\"");
        self.body
            .match_indices(&tag)
            .map(|(at, _)| {
                let rest = &self.body[at + tag.len()..];
                unescaped(rest.split('"').next().unwrap_or_default())
            })
            .collect()
    }
    pub(crate) fn field(&self, name: &str) -> String {
        let found = self.fields(name).into_iter().next();
        found.unwrap_or_else(|| panic!("no field {name}: {}", self.body))
    }
    pub(crate) fn shows(&self, words: &str) {
        assert!(self.body.contains(words), "{words}: {}", self.body);
    }
    /// A parameter of the address that the answer leads to.
    pub(crate) fn told(&self, name: &str) -> Option<String> {
        let (_, query) = self.location.split_once('?')?;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// Somebody at a browser.
pub(crate) struct Browser<'a> {
    house: &'a House,
    pub(crate) http: reqwest::Client,
    pub(crate) cookies: Vec<(String, String)>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(house: &'a House) -> Self {
        let http = crate::house::client()
            .danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none());
        Self {
            house,
            http: http.build().expect("a client"),
            cookies: Vec::new(),
        }
    }
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        form: Option<&[(&str, &str)]>,
    ) -> Page {
        let cookies: Vec<String> = (self.cookies.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = self
            .http
            .request(method, self.house.url(path))
            .header("cookie", cookies.join("; "));
        if let Some(form) = form {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(query(form));
        }
        let answer = request.send().await.expect("an answer");
        for cookie in answer.headers().get_all("set-cookie") {
            let pair = cookie.to_str().expect("text").split(';').next();
            let (name, value) = pair
                .and_then(|pair| pair.split_once('='))
                .expect("a cookie");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        Page::of(answer).await
    }
    pub(crate) async fn get(&mut self, path: &str) -> Page {
        self.send(Method::GET, path, None).await
    }
    pub(crate) async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        self.send(Method::POST, path, Some(form)).await
    }

    pub(crate) async fn patient(house: &'a House, id: &str, born: &str) -> Self {
        let identity = house.server.trust().identity();
        let coordinator = agent(Role::Coordinator);
        let secret = identity
            .make_link(&coordinator, id, 3600, false)
            .await
            .expect("a link");
        let mut browser = Self::new(house);
        let path = format!("/sign-in/link/{secret}");
        let token = browser.get(&path).await.field("form");
        let done = browser
            .post(&path, &[("form", &token), ("birth_date", born)])
            .await;
        assert_eq!(done.location, "/portal", "{}", done.body);
        browser
    }

    /// Signs somebody of staff in, from the page that they are on.
    pub(crate) async fn staff(&mut self, user: &Staff, sign_in: &str) -> Page {
        let page = self.get(sign_in).await;
        let (form, next) = (page.field("form"), page.fields("next"));
        let next = next.first().map_or("", String::as_str);
        let fields = [
            ("form", form.as_str()),
            ("user", &user.name),
            ("password", PASSWORD),
            ("next", next),
        ];
        let step = self.post("/sign-in", &fields).await;
        let (ticket, code) = (step.field("ticket"), user.code());
        let fields = [
            ("form", form.as_str()),
            ("ticket", &ticket),
            ("user", &user.name),
            ("code", &code),
            ("next", next),
        ];
        self.post("/sign-in/code", &fields).await
    }
}

pub(crate) fn agent(role: Role) -> Agent {
    Agent {
        tenant: TENANT,
        id: "tester".to_owned(),
        name: "Tester".to_owned(),
        role,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    }
}

pub(crate) struct Staff {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) totp: String,
}

impl Staff {
    pub(crate) async fn new(house: &House, name: &str, role: Role) -> Self {
        let identity = house.server.trust().identity();
        let account = NewAccount {
            tenant: TENANT,
            user_name: name.to_owned(),
            name: name.to_owned(),
            role,
            password: PASSWORD.to_owned(),
            patient: None,
        };
        let id = identity.create(&by(), account).await.expect("an account");
        let totp = identity.set_totp(&by(), &id, None).await.expect("a secret");
        let name = name.to_owned();
        Self { name, id, totp }
    }
    pub(crate) fn code(&self) -> String {
        let secret = totp_rs::Secret::try_from_base32(&self.totp).expect("base32");
        let totp = totp_rs::Builder::new()
            .with_secret(secret)
            .build()
            .expect("a secret");
        totp.generate(SystemClock.now_ms() / 1000).to_string()
    }
}

/// A house with two patients, each with a laboratory result and a blood pressure.
pub(crate) async fn furnished(house: &House) {
    for (id, family) in [("ann", "Berg"), ("bob", "Lie")] {
        put(
            house,
            &json!({"resourceType": "Patient", "id": id, "birthDate": "1950-02-03", "name": [{"family": family, "given": ["T"]}]}),
        )
        .await;
        for (kind, category) in [("lab", "laboratory"), ("vital", "vital-signs")] {
            put(
                house,
                &json!({
                    "resourceType": "Observation", "id": format!("{kind}-{id}"), "status": "final",
                    "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category}]}],
                    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
                    "subject": {"reference": format!("Patient/{id}")},
                }),
            )
            .await;
        }
    }
}

pub(crate) const SCOPES: &str = "launch launch/patient launch/encounter offline_access online_access patient/*.cruds user/*.cruds";

pub(crate) async fn app_with(house: &House, keys: SystemKeys, back: &str) -> String {
    let app = NewApp {
        name: "Growth Chart".to_owned(),
        redirect_uris: vec![back.to_owned()],
        launch_uri: (back == BACK).then(|| "https://app.example.org/launch".to_owned()),
        scopes: SCOPES.to_owned(),
        keys,
    };
    let identity = house.server.trust().identity();
    identity.register_app(&by(), &app).await.expect("an id")
}

pub(crate) async fn app(house: &House) -> String {
    app_with(house, SystemKeys::None, BACK).await
}

/// A request to be let in, with parameters changed, added, or (empty) taken away.
pub(crate) fn request(
    house: &House,
    client: &str,
    scope: &str,
    changes: &[(&str, &str)],
) -> Vec<(String, String)> {
    let (base, challenge) = (house.url("/fhir/r4"), s256(VERIFIER));
    let mut pairs: Vec<(String, String)> = [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", BACK),
        ("scope", scope),
        ("state", "st&te/1"),
        ("aud", &base),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        if !value.is_empty() {
            pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    pairs
}

pub(crate) fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

pub(crate) fn address(pairs: &[(String, String)]) -> String {
    format!("/oauth/authorize?{}", query(&borrowed(pairs)))
}

/// Sends the form of the page that asks, as it is or with other ticks.
pub(crate) async fn agree(
    browser: &mut Browser<'_>,
    page: &Page,
    pairs: &[(String, String)],
    ticks: Option<&[&str]>,
) -> Page {
    let csrf = page.field("csrf");
    let (ticked, patient) = (page.fields("agreed"), page.fields("patient"));
    let encounter = page.fields("encounter");
    let mut form = borrowed(pairs);
    form.extend([("csrf", csrf.as_str()), ("decision", "allow")]);
    form.extend(patient.iter().map(|id| ("patient", id.as_str())));
    form.extend(encounter.iter().map(|id| ("encounter", id.as_str())));
    match ticks {
        Some(ticks) => form.extend(ticks.iter().map(|tick| ("agreed", *tick))),
        None => form.extend(ticked.iter().map(|tick| ("agreed", tick.as_str()))),
    }
    browser.post("/oauth/authorize", &form).await
}

/// The code that a person's agreement brings.
pub(crate) async fn code(browser: &mut Browser<'_>, pairs: &[(String, String)]) -> String {
    let page = browser.get(&address(pairs)).await;
    let done = agree(browser, &page, pairs, None).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    assert_eq!(done.told("iss"), Some(browser.house.url("/fhir/r4")));
    assert_eq!(done.told("state").as_deref(), Some("st&te/1"));
    done.told("code").expect("a code")
}

pub(crate) async fn post(house: &House, path: &str, form: &[(&str, &str)]) -> Response {
    house
        .bare(Method::POST, path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(form))
        .send()
        .await
        .expect("an answer")
}

pub(crate) async fn exchange(house: &House, client: &str, code: &str) -> Response {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    post(house, "/oauth/token", &form).await
}

pub(crate) async fn refresh(
    house: &House,
    client: &str,
    token: &str,
    more: &[(&str, &str)],
) -> Response {
    let mut form = vec![
        ("grant_type", "refresh_token"),
        ("client_id", client),
        ("refresh_token", token),
    ];
    form.extend(more);
    post(house, "/oauth/token", &form).await
}

pub(crate) async fn tokens(answer: Response) -> Value {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    answer.json().await.expect("JSON")
}

pub(crate) async fn assert_error(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status().as_u16(), status);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["error"], code, "{body}");
}

pub(crate) async fn get(house: &House, token: &str, path: &str) -> Response {
    let request = house.bare(Method::GET, path).bearer_auth(token);
    request.send().await.expect("an answer")
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name}: {value}"))
}

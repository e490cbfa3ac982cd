//! What a tenant's patients, applications and systems hold: at another tenant's hosts it is what nobody was ever given,
//! whichever door it is shown at, and being shown there ends nothing at home.

use cairn::store::TENANT;
use ledger::{Clock as _, SystemClock, TenantId};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::identity::{NewApp, NewGrant, NewSystem, Session, SignIn, SystemKeys, wanted_scopes};
use trust::{Agent, Role};

use crate::apps::{BACK, Page, VERIFIER, query, s256};
use crate::routes::Who;
use crate::signer::Signer;
use crate::smart::ASSERTION_TYPE;
use crate::tenants::{Answer, NORTH, SOUTH, Two, timeless};

pub(crate) const BORN: &str = "1941-03-07";

/// The same sort of secret, such as nobody was ever given.
pub(crate) fn turned(secret: &str) -> String {
    let parts = secret.split('.').map(|part| match part.len() {
        0..8 => part.to_owned(),
        _ => part.chars().rev().collect(),
    });
    let other = parts.collect::<Vec<_>>().join(".");
    assert_ne!(other, secret);
    other
}

/// The same with the number of another tenant in it.
pub(crate) fn numbered(secret: &str, tenant: TenantId) -> String {
    let mut parts: Vec<String> = secret.split('.').map(str::to_owned).collect();
    let long = parts.iter().position(|part| part.len() > 8);
    let number = long.and_then(|at| at.checked_sub(1)).expect("a number");
    parts[number] = format!("{:x}", tenant.0);
    parts.join(".")
}

/// The same sort of credential, such as nobody was ever given.
pub(crate) fn never(who: &Who) -> Who {
    match who {
        Who::Nobody => Who::Nobody,
        Who::Token(token) => Who::Token(turned(token)),
        Who::Person { cookie, csrf } => Who::Person {
            cookie: turned(cookie),
            csrf: csrf.clone(),
        },
    }
}

pub(crate) fn host_of(tenant: TenantId) -> &'static str {
    if tenant == TENANT { SOUTH } else { NORTH }
}

/// What a patient `p` of a tenant holds, the application that they let in, and a system.
pub(crate) struct Held {
    tenant: TenantId,
    cookie: String,
    session: Session,
    pub(crate) client: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) system: String,
    pub(crate) signer: Signer,
}

pub(crate) async fn link_of(two: &Two, tenant: TenantId) -> String {
    let clinician = Agent {
        role: Role::Clinician,
        ..Agent::system(tenant, "c")
    };
    let trust = two.trust(tenant);
    let link = trust.identity().make_link(&clinician, "p", 3600, true);
    link.await.expect("a link")
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect(name).to_owned()
}

impl Held {
    pub(crate) async fn of(two: &Two, tenant: TenantId) -> Self {
        let trust = two.trust(tenant);
        let identity = trust.identity();
        let link = link_of(two, tenant).await;
        let signed = identity.use_link(tenant, &link, BORN).await;
        let SignIn::Done { secret, session } = signed.expect("a session") else {
            panic!("not signed in");
        };
        let app = NewApp {
            name: "Diary".to_owned(),
            redirect_uris: vec![BACK.to_owned()],
            launch_uri: None,
            scopes: "launch/patient offline_access patient/*.rs".to_owned(),
            keys: SystemKeys::None,
        };
        let operator = Agent::system(tenant, "command-line");
        let client = identity.register_app(&operator, &app).await;
        let signer = Signer::curve("key-1");
        let system = NewSystem {
            name: "Laboratory".to_owned(),
            keys: SystemKeys::Set(signer.jwks()),
            scopes: "system/*.rs".to_owned(),
        };
        let system = identity.register_system(&operator, &system).await;
        let mut held = Self {
            tenant,
            cookie: secret,
            session,
            client: client.expect("an id"),
            access: String::new(),
            refresh: String::new(),
            system: system.expect("an id"),
            signer,
        };
        let code = held.code(two).await;
        let told = json_of(&exchange(two, held.host(), &held.client, &code).await);
        held.access = text(&told, "access_token");
        held.refresh = text(&told, "refresh_token");
        held
    }

    fn host(&self) -> &'static str {
        host_of(self.tenant)
    }

    pub(crate) fn session(&self) -> Who {
        Who::Person {
            cookie: self.cookie.clone(),
            csrf: self.session.csrf.clone(),
        }
    }

    /// A code for the application, as its patient's agreement brings.
    pub(crate) async fn code(&self, two: &Two) -> String {
        let trust = two.trust(self.tenant);
        let identity = trust.identity();
        let app = identity.app(self.tenant, &self.client).await;
        let app = app.expect("a look").expect("an application");
        let scopes = wanted_scopes("offline_access patient/*.rs").expect("scopes");
        let new = NewGrant {
            app: &app,
            redirect_uri: BACK,
            challenge: &s256(VERIFIER),
            scopes: &scopes,
            patient: Some("p"),
            launch: None,
            nonce: None,
            context: None,
        };
        identity.allow(&self.session, new).await.expect("a code")
    }

    /// A system's proof of who it is, for the door of a host.
    pub(crate) fn proof(&self, two: &Two, system: &str, host: &str, jti: &str) -> String {
        let now_s = SystemClock.now_ms() / 1000;
        let audience = format!("http://{host}:{}/oauth/token", two.server.address().port());
        let claims = json!({
            "iss": system, "sub": system, "aud": audience, "exp": now_s + 240, "jti": jti,
        });
        self.signer.sign(&self.signer.header(), &claims)
    }

    pub(crate) async fn token_of_system(&self, two: &Two, jti: &str) -> String {
        let proof = self.proof(two, &self.system, self.host(), jti);
        let told = proven(two, self.host(), "/oauth/token", &proof, &[]).await;
        text(&json_of(&told), "access_token")
    }
}

pub(crate) async fn exchange(two: &Two, host: &str, client: &str, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    two.post(host, "/oauth/token", &form).await
}

pub(crate) async fn refresh(two: &Two, host: &str, client: &str, token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client),
        ("refresh_token", token),
    ];
    two.post(host, "/oauth/token", &form).await
}

/// A form with a system's proof.
async fn proven(two: &Two, host: &str, path: &str, proof: &str, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", proof),
    ];
    if path == "/oauth/token" {
        form.extend([
            ("grant_type", "client_credentials"),
            ("scope", "system/*.rs"),
        ]);
    }
    form.extend(more);
    two.post(host, path, &form).await
}

/// What the form of a link is sent with: a cookie, and the word that has to be the same.
pub(crate) async fn form_of_link(two: &Two, host: &str, secret: &str) -> (String, String) {
    let address = format!("http://{}/sign-in/link/{secret}", two.server.address());
    let page = two.http.get(&address).header("host", host).send().await;
    let page = page.expect("an answer");
    let cookie = page.headers()["set-cookie"].to_str().expect("text");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    (cookie, Page::of(page).await.field("form"))
}

/// What somebody sees who follows a link and gives a date, with nothing in it that is the link's.
async fn by_link(two: &Two, host: &str, secret: &str) -> (StatusCode, String, String) {
    let (cookie, form) = form_of_link(two, host, secret).await;
    let address = format!("http://{}/sign-in/link/{secret}", two.server.address());
    let sent = two.http.post(&address).header("host", host);
    let sent = sent.header("cookie", cookie);
    let sent = sent.header("content-type", "application/x-www-form-urlencoded");
    let sent = sent.body(query(&[("form", &form), ("birth_date", BORN)]));
    let page = Page::of(sent.send().await.expect("an answer")).await;
    let body = timeless(&page.body).replace(secret, "");
    (page.status, page.location, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_patients_apps_and_systems_are_nobodys_elsewhere() {
    let two = Two::new().await;
    for (host, tenant) in [(SOUTH, TENANT), (NORTH, two.north)] {
        let token = two.token(tenant, Role::Client).await;
        let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": BORN});
        two.put(host, &token, &patient).await;
    }
    let south = Held::of(&two, TENANT).await;
    let north = Held::of(&two, two.north).await;
    for (ours, theirs) in [(&south, &north), (&north, &south)] {
        let (home, away) = (ours.host(), theirs.host());
        // With the application's own name, which nobody has there, and with that of one that is there.
        let code = ours.code(&two).await;
        for client in [&ours.client, &theirs.client] {
            let foreign = exchange(&two, away, client, &code).await;
            let unknown = exchange(&two, away, client, &turned(&code)).await;
            assert!(foreign.status.is_client_error(), "{foreign:?}");
            assert_eq!(foreign, unknown);
            let foreign = refresh(&two, away, client, &ours.refresh).await;
            let unknown = refresh(&two, away, client, &turned(&ours.refresh)).await;
            assert!(foreign.status.is_client_error(), "{foreign:?}");
            assert_eq!(foreign, unknown);
        }
        let nobodys = exchange(&two, away, &turned(&ours.client), &code).await;
        assert_eq!(exchange(&two, away, &ours.client, &code).await, nobodys);
        let asks = [
            ("response_type", "code"),
            ("redirect_uri", BACK),
            ("scope", "patient/*.rs"),
        ];
        let asked = async |client: &str| {
            let mut pairs = asks.to_vec();
            pairs.push(("client_id", client));
            let path = format!("/oauth/authorize?{}", query(&pairs));
            let shown = (two.ask(away, &Method::GET, &path, &theirs.session())).await;
            (shown.status, shown.body.replace(client, ""))
        };
        assert_eq!(
            asked(&ours.client).await,
            asked(&turned(&ours.client)).await
        );

        // A proof for the door at home, and one for the door that it is shown at.
        for audience in [home, away] {
            for (path, more) in [
                ("/oauth/token", &[][..]),
                ("/oauth/introspect", &[("token", ours.access.as_str())]),
                ("/oauth/revoke", &[("token", ours.access.as_str())]),
            ] {
                let shown = async |system: &str| {
                    let proof = ours.proof(&two, system, audience, "elsewhere");
                    proven(&two, away, path, &proof, more).await
                };
                let foreign = shown(&ours.system).await;
                assert_eq!(foreign.status, 401, "{foreign:?}");
                assert_eq!(foreign, shown(&turned(&ours.system)).await, "{path}");
            }
        }
        // Those who are there learn nothing of others' tokens, and end none.
        for token in [&ours.access, &ours.refresh, &code] {
            let told = async |token: &str, jti: &str| {
                let proof = theirs.proof(&two, &theirs.system, away, &format!("{jti}{token}"));
                proven(&two, away, "/oauth/introspect", &proof, &[("token", token)]).await
            };
            let foreign = told(token, "a").await;
            assert_eq!(json_of(&foreign), json!({"active": false}));
            assert_eq!(foreign, told(&turned(token), "b").await);
            for client in [&ours.client, &theirs.client] {
                let gone = async |token: &str| {
                    let form = [("client_id", client.as_str()), ("token", token)];
                    two.post(away, "/oauth/revoke", &form).await
                };
                assert_eq!(gone(token).await, gone(&turned(token)).await);
            }
        }
        // A patient's session and link.
        for path in [
            "/portal",
            "/portal/record",
            "/portal/apps",
            "/oauth/authorize",
        ] {
            let foreign = two.ask(away, &Method::GET, path, &ours.session()).await;
            let never = never(&ours.session());
            let unknown = two.ask(away, &Method::GET, path, &never);
            assert!(!foreign.status.is_success(), "{path}: {foreign:?}");
            assert_eq!(foreign, unknown.await, "{path}");
        }
        let link = link_of(&two, ours.tenant).await;
        let foreign = by_link(&two, away, &link).await;
        assert_eq!(foreign.0, StatusCode::OK);
        assert_eq!(foreign, by_link(&two, away, &turned(&link)).await);

        // At home all of it is good, and was not used up.
        let (status, location, page) = by_link(&two, home, &link).await;
        assert_eq!(
            (status.as_u16(), location.as_str()),
            (303, "/portal"),
            "{page}"
        );
        let portal = two
            .ask(home, &Method::GET, "/portal", &ours.session())
            .await;
        assert_eq!(portal.status, 200);
        let access = Who::Token(ours.access.clone());
        let read = two
            .ask(home, &Method::GET, "/fhir/r4/Patient/p", &access)
            .await;
        assert_eq!(read.status, 200, "{read:?}");
        assert_eq!(exchange(&two, home, &ours.client, &code).await.status, 200);
        let renewed = refresh(&two, home, &ours.client, &ours.refresh).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        ours.token_of_system(&two, "at-home").await;
    }
    two.end().await;
}

//! A small hospital in a temporary folder, and a browser that remembers cookies.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use fhir::{Resource, ResourceType};
use http_body_util::BodyExt;
use ledger::{
    Clock, Expected, Ledger, Location, ManualClock, OpenOptions, RootKey, SystemEntropy, TenantId,
};
use serde_json::{Value, json};
use tower::ServiceExt;
use trust::identity::NewAccount;
use trust::{Action, Agent, Change, Purpose, Role, Target, Trust, TrustOptions, Unit};
use web::{DemoLogin, WebState, router};

pub(crate) const TENANT: TenantId = TenantId(1);
pub(crate) const PASSWORD: &str = "correct-horse-battery-7";
/// 1 March 2026, 08:00 UTC.
pub(crate) const START_MS: u64 = 1_772_352_000_000;
pub(crate) const DAY_MS: u64 = 86_400_000;

/// Staff of the hospital: user name, name, role.
const STAFF: [(&str, &str, Role); 6] = [
    ("carla", "Carla Ortiz", Role::Coordinator),
    ("devi", "Devi Rao", Role::Clinician),
    ("priya", "Priya Shah", Role::PrivacyOfficer),
    ("sam", "Sam Lund", Role::Squad),
    ("ada", "Ada Berg", Role::Administrator),
    ("bill", "Bill Holt", Role::Biller),
];

pub(crate) struct World {
    pub(crate) trust: Trust,
    pub(crate) journeys: journey::Journeys,
    pub(crate) clock: ManualClock,
    pub(crate) wall: ManualClock,
    pub(crate) router: Router,
    state: WebState,
    pub(crate) mailbox: exchange::sink::Mailbox,
    totp: Vec<(String, String)>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(false).await
    }

    /// `secure`: as behind TLS.
    pub(crate) async fn with(secure: bool) -> Self {
        Self::made(|web| web.secure_cookies = secure).await
    }

    /// With what `change` changes.
    pub(crate) async fn made(change: impl FnOnce(&mut WebState)) -> Self {
        Self::built(trust::consent::Rules::DEFAULT, None, change).await
    }

    /// Under a rule pack: one that is built in, or a file.
    pub(crate) async fn under(pack: &str, change: impl FnOnce(&mut WebState)) -> Self {
        Self::built(pack, None, change).await
    }

    /// Under the policies of a folder.
    pub(crate) async fn with_policies(folder: &std::path::Path) -> Self {
        let folder = Some(folder.to_owned());
        Self::built(trust::consent::Rules::DEFAULT, folder, |_| {}).await
    }

    /// The same, with what `change` changes.
    pub(crate) async fn with_policies_and(
        folder: &std::path::Path,
        change: impl FnOnce(&mut WebState),
    ) -> Self {
        let folder = Some(folder.to_owned());
        Self::built(trust::consent::Rules::DEFAULT, folder, change).await
    }

    async fn built(
        pack: &str,
        policy_folder: Option<std::path::PathBuf>,
        change: impl FnOnce(&mut WebState),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let wall = ManualClock::new(START_MS);
        let ledger = Ledger::open(OpenOptions {
            location: Location::Folder(folder.path().join("store")),
            root_key: RootKey::from_bytes([7; 32]),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: Vec::new(),
            cache_bytes: 8 << 20,
        })
        .unwrap();
        ledger.create_tenant(TENANT).await.unwrap();
        let options = TrustOptions {
            ledger,
            wall_clock: Arc::new(wall.clone()),
            policy_folder,
            session_idle_s: 900,
            session_absolute_s: 8 * 3600,
        };
        let trust = Trust::under(options, trust::consent::Rules::load(pack).unwrap()).unwrap();
        let operator = Agent::system(TENANT, "demo");
        let mut totp = Vec::new();
        let mut demo_logins = Vec::new();
        for (user_name, name, role) in STAFF {
            let account = NewAccount {
                tenant: TENANT,
                user_name: user_name.to_owned(),
                name: name.to_owned(),
                role,
                password: PASSWORD.to_owned(),
                patient: None,
            };
            let id = trust.identity().create(&operator, account).await.unwrap();
            let secret = trust
                .identity()
                .set_totp(&operator, &id, None)
                .await
                .unwrap();
            demo_logins.push(DemoLogin {
                user_name: user_name.to_owned(),
                password: PASSWORD.to_owned(),
                totp: secret.clone(),
                role: format!("{role:?}"),
            });
            totp.push((user_name.to_owned(), secret));
        }
        let journeys = journey::Journeys::new(trust.clone());
        let mailbox = exchange::sink::Mailbox::default();
        let mut web = WebState {
            trust: trust.clone(),
            journeys: journeys.clone(),
            record: record::Record::new(trust.clone()),
            tenant: TENANT,
            organisation: "St. Cairn's".to_owned(),
            mailbox: Some(mailbox.clone()),
            demo_logins,
            demo_speed: Some(1.0),
            demo_people_imported: false,
            fhir_base: "https://cairn.example/fhir/r4".to_owned(),
            secure_cookies: false,
            push: None,
            carried: Vec::new(),
            providers: None,
            telehealth: None,
        };
        change(&mut web);
        let state = web.clone();
        let router = router(web);
        Self {
            trust,
            journeys,
            clock,
            wall,
            router,
            state,
            mailbox,
            totp,
            _folder: folder,
        }
    }

    /// Another server over the same store, with a memory of its own.
    pub(crate) fn elsewhere(&self) -> Router {
        let trust = Trust::new(TrustOptions {
            ledger: self.ledger().clone(),
            wall_clock: Arc::new(self.wall.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 8 * 3600,
        });
        let trust = trust.unwrap();
        router(WebState {
            journeys: journey::Journeys::new(trust.clone()),
            record: record::Record::new(trust.clone()),
            trust,
            ..self.state.clone()
        })
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.trust.vault().ledger()
    }

    /// Writes resources as an import would.
    pub(crate) async fn put(&self, resources: Vec<Value>) {
        self.write(resources, Expected::Absent).await;
    }

    /// Writes the version that follows another.
    pub(crate) async fn change(&self, resource: Value, former: u32) {
        self.write(vec![resource], Expected::Version(former)).await;
    }

    async fn write(&self, resources: Vec<Value>, expected: Expected) {
        let agent = Agent::system(TENANT, "demo");
        let permit = self
            .trust
            .decide(
                &agent,
                Purpose::Operations,
                Action::Import,
                Target::default(),
                "test",
            )
            .await
            .unwrap();
        let changes = resources
            .into_iter()
            .map(|value| Change::Put {
                resource: Resource::from_value(value).unwrap(),
                expected,
            })
            .collect();
        let unit = Unit {
            changes,
            ..Unit::default()
        };
        self.trust.vault().commit(&permit, unit).await.unwrap();
    }

    /// The newest version of a resource, past all doors.
    pub(crate) async fn get(&self, kind: ResourceType, id: &str) -> Resource {
        let agent = Agent::system(TENANT, "importer");
        let permit = self
            .trust
            .decide(
                &agent,
                Purpose::Operations,
                Action::Import,
                Target::default(),
                "test",
            )
            .await
            .unwrap();
        let found = self.trust.vault().load(&permit, kind, id).await.unwrap();
        found.unwrap().resource
    }

    /// All live resources of a type of a patient, at most 1,000.
    pub(crate) async fn all(&self, kind: ResourceType, patient: &str) -> Vec<Resource> {
        let (agent, purpose, action) = if kind == ResourceType::AuditEvent {
            let auditor = Agent {
                tenant: TENANT,
                id: "auditor".to_owned(),
                name: "Auditor".to_owned(),
                role: Role::PrivacyOfficer,
                patient: None,
                access: None,
                signed_in: trust::SignedIn::default(),
            };
            (auditor, Purpose::Operations, Action::Audit)
        } else {
            let importer = Agent::system(TENANT, "importer");
            (importer, Purpose::Operations, Action::Import)
        };
        let permit = self
            .trust
            .decide(&agent, purpose, action, Target::default(), "test")
            .await
            .unwrap();
        let parameters = [
            ("patient".to_owned(), patient.to_owned()),
            ("_count".to_owned(), "1000".to_owned()),
        ];
        let query = fhir::search::SearchQuery::parse(kind, &parameters, false).unwrap();
        let vault = self.trust.vault();
        let page = vault.search(&permit, &query, None).await.unwrap();
        page.rows.into_iter().map(|row| row.resource).collect()
    }

    pub(crate) fn new_patient_id(&self) -> String {
        self.ledger().mint_own_id(TENANT)
    }

    /// An id in the patient's shard.
    pub(crate) fn id_of(&self, patient: &str) -> String {
        self.ledger()
            .mint_id(TENANT, &ledger::Owner::Patient(patient.to_owned()))
    }

    /// A patient with a name, born on 7 March 1941.
    pub(crate) async fn patient(&self, given: &str, family: &str) -> String {
        let id = self.new_patient_id();
        self.put(vec![json!({
            "resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1941-03-07",
            "name": [{ "given": [given], "family": family }],
            "identifier": [{ "system": "urn:mrn", "value": format!("MRN-{family}") }],
            "telecom": [{ "system": "email", "value": "somebody@example.com" }, { "system": "phone", "value": "+1 555 0100" }],
        })])
        .await;
        id
    }

    /// An open task for coordinators.
    pub(crate) async fn task(&self, patient: &str, priority: &str, title: &str) -> String {
        let id = self.id_of(patient);
        let now = self.clock.now_ms();
        self.put(vec![json!({
            "resourceType": "Task", "id": id, "status": "requested", "intent": "order", "priority": priority,
            "code": { "coding": [{ "system": "urn:cairn:task-code", "code": "staff-task" }], "text": title },
            "description": title,
            "for": { "reference": format!("Patient/{patient}") },
            "authoredOn": fhir::date::instant(now),
            "performerType": [{ "coding": [{ "system": "urn:cairn:role", "code": "coordinator" }] }],
            "reasonCode": { "text": "Weight rose by 2.6 kg" },
            "restriction": { "period": { "end": fhir::date::instant(now + DAY_MS) } },
            "input": [{ "type": { "text": "outcome" }, "valueString": "reached" }, { "type": { "text": "outcome" }, "valueString": "not_reached" }],
        })])
        .await;
        id
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser {
            router: self.router.clone(),
            cookies: Vec::new(),
            user_agent: None,
        }
    }

    /// Signs a member of staff in through the pages.
    pub(crate) async fn staff(&self, user: &str) -> Browser {
        let mut browser = self.browser();
        browser.get("/sign-in").await;
        let step = browser
            .submit("/sign-in", &[("user", user), ("password", PASSWORD)])
            .await;
        assert_eq!(step.status, StatusCode::OK, "{}", step.body);
        // Each code counts once, so that a second sign-in needs the next one.
        self.wall.advance(31_000);
        let code = self.code(user);
        let done = browser
            .submit(
                "/sign-in/code",
                &[
                    ("ticket", &step.field("ticket")),
                    ("user", user),
                    ("code", &code),
                ],
            )
            .await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
        browser
    }

    pub(crate) fn code(&self, user: &str) -> String {
        let (_, secret) = self.totp.iter().find(|(name, _)| name == user).unwrap();
        self.code_of(secret)
    }

    /// The code of a secret, now.
    pub(crate) fn code_of(&self, secret: &str) -> String {
        let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
        let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        totp.generate(self.wall.now_ms() / 1000).to_string()
    }

    /// Signs a patient in by a link and their birth date.
    pub(crate) async fn patients_browser(&self, patient: &str) -> Browser {
        let operator = Agent::system(TENANT, "demo");
        let secret = self
            .trust
            .identity()
            .make_link(&operator, patient, 3600, false)
            .await
            .unwrap();
        let mut browser = self.browser();
        let link = format!("/sign-in/link/{secret}");
        assert_eq!(browser.get(&link).await.status, StatusCode::OK);
        let done = browser.submit(&link, &[("birth_date", "1941-03-07")]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
        assert_eq!(done.location(), "/portal");
        browser
    }
}

/// An answer, read.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Page {
    /// The address of its live parts.
    pub(crate) fn live(&self) -> String {
        let live = self.body.split("data-live=\"").nth(1);
        let live = live.and_then(|rest| rest.split('"').next());
        live.expect("a live page").replace("&amp;", "&")
    }
    pub(crate) fn location(&self) -> &str {
        self.headers
            .get(header::LOCATION)
            .map_or("", |value| value.to_str().unwrap())
    }
    /// The value of the first hidden field of this name.
    pub(crate) fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let at = self.body.find(&start).map(|at| at + start.len());
        let at = at.unwrap_or_else(|| panic!("no field {name} in {}", self.body));
        self.body[at..].split('"').next().unwrap().to_owned()
    }
    pub(crate) fn has(&self, text: &str) -> bool {
        self.body.contains(text)
    }
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        assert!(
            self.status.is_success() && self.has(text),
            "{} without {text:?}:\n{}",
            self.status,
            self.body
        );
    }
}

/// Remembers cookies and the tokens of the last page.
pub(crate) struct Browser {
    pub(crate) router: Router,
    pub(crate) cookies: Vec<(String, String)>,
    pub(crate) user_agent: Option<&'static str>,
}

impl Browser {
    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, cookies.join("; "));
        match self.user_agent {
            Some(user_agent) => request.header(header::USER_AGENT, user_agent),
            None => request,
        }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Page {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let bytes = body.collect().await.unwrap().to_bytes();
        Page {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        let request = self.request(Method::GET, path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Starts a stream and leaves its body open.
    pub(crate) async fn open(&self, path: &str) -> axum::response::Response {
        let request = self.request(Method::GET, path).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The same as the page's script asks for it.
    pub(crate) async fn listen(&self, path: &str) -> axum::response::Response {
        let request = self.request(Method::GET, path);
        let request = request.header(header::ACCEPT, "text/event-stream");
        let request = request.body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts exactly these fields.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.form(path, fields);
        self.send(request).await
    }

    /// Posts exactly these fields, as another site's page would make a browser do.
    pub(crate) async fn post_from_elsewhere(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        let mut request = self.form(path, fields);
        let elsewhere = axum::http::HeaderValue::from_static("cross-site");
        request.headers_mut().insert("sec-fetch-site", elsewhere);
        self.send(request).await
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request<Body> {
        let body: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        self.request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body.join("&")))
            .unwrap()
    }

    /// Posts a sign-in form with its token.
    pub(crate) async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = self
            .cookies
            .iter()
            .find(|(name, _)| name.ends_with("cairn-form"))
            .map(|(_, value)| value.clone())
            .unwrap_or_default();
        let mut all = vec![("form", token.as_str())];
        all.extend(fields);
        self.post(path, &all).await
    }

    /// Posts a form of a page that is open in this browser, with the session's token.
    pub(crate) async fn act(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.get(page).await.field("csrf");
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend(fields);
        self.post(path, &all).await
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// What must hold of any page: nothing inline, and the head says what it is.
#[track_caller]
pub(crate) fn check_html(path: &str, html: &str) {
    assert!(
        html.starts_with("<!DOCTYPE html>") && html.contains("<html lang=\"en\""),
        "{path}"
    );
    for (place, _) in html.match_indices('<') {
        let tag = html[place..].split('>').next().unwrap();
        let name = tag[1..].split([' ', '/']).next().unwrap();
        assert_ne!(name, "style", "{path} has an inline style sheet");
        if name == "script" {
            assert!(
                tag.contains(" src=\"/static/"),
                "{path} has an inline script"
            );
        }
        // Attribute names only: values are quoted and hold no `"`.
        for (at, part) in tag.split('"').enumerate() {
            if at % 2 == 0 {
                for attribute in part
                    .split_whitespace()
                    .map(|word| word.trim_end_matches('='))
                {
                    assert!(
                        attribute != "style" && !attribute.starts_with("on"),
                        "{path} has {attribute} in {tag}"
                    );
                }
            }
        }
    }
    assert_eq!(html.matches("<h1").count(), 1, "{path} has one h1");
    assert_eq!(html.matches("<main ").count(), 1, "{path} has one main");
    let mut ids: Vec<&str> = html
        .match_indices(" id=\"")
        .map(|(at, _)| html[at + 5..].split('"').next().unwrap())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "{path} uses an id twice");
}

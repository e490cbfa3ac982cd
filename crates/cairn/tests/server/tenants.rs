//! Several tenants on one server: each is reached by its own hosts, knows nothing of the others, and keeps its
//! share.

use std::sync::Arc;
use std::time::Duration;

use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use ledger::{Commit, Ledger, LookUps, Shard, TenantId, TenantQuota, Timer, TimerKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use trust::identity::{NewApp, SystemKeys};
use trust::{Agent, Role};

use crate::apps::query;
use crate::patience::{Patience, until};
use crate::routes::{Who, asked, body_of, guards, person_of};
use crate::tenants_credentials::{BORN, Held, never};

pub(crate) const SOUTH: &str = "south.example";
pub(crate) const NORTH: &str = "north.example";

/// A server of two tenants.
pub(crate) struct Two {
    pub(crate) server: Server,
    pub(crate) http: reqwest::Client,
    pub(crate) north: TenantId,
    _folder: TempDir,
}

/// What was answered, without what is new each time.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A page without the moment at which it was drawn, and without what is new each time: the
/// questions to passkeys, and the form's own token.
pub(crate) fn timeless(body: &str) -> String {
    let mut text = body.to_owned();
    for name in [
        "data-now=\"",
        "data-wall=\"",
        "data-options=\"",
        "name=\"sealed\" value=\"",
        "name=\"form\" value=\"",
    ] {
        while let Some((before, after)) = text.split_once(name)
            && let Some((_, rest)) = after.split_once('"')
        {
            text = format!("{before}{rest}");
        }
    }
    text
}

impl Two {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, but for what `change` changes.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = store::root_key_path(folder.path());
        store::create_root_key(&key).expect("a key");
        let clock = Arc::new(ledger::SystemClock);
        let ledger = store::open(store::in_folder(folder.path()), &key, clock, 16 << 20)
            .await
            .expect("a store");
        Self::on(folder, ledger, change).await
    }

    /// The same, over a store that counts what it is asked for.
    pub(crate) async fn counted(counts: &LookUps) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = store::root_key_path(folder.path());
        store::create_root_key(&key).expect("a key");
        let clock = Arc::new(ledger::SystemClock);
        let place = store::in_folder(folder.path());
        std::fs::create_dir_all(store::ledger_path(folder.path())).expect("a folder");
        let options = store::options(place, &(&key).into(), clock, 16 << 20);
        let ledger = Ledger::open_counted(options.expect("a key"), counts).expect("a store");
        ledger.create_tenant(TENANT).await.expect("a tenant");
        Self::on(folder, ledger, |_| {}).await
    }

    async fn on(folder: TempDir, ledger: Ledger, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let hosts = |host: &str| vec![host.to_owned()];
        let name = hosts(SOUTH);
        let south = ledger.set_tenant(TENANT, Some("south"), Some(&name), None);
        south.await.expect("a tenant");
        let north = ledger.add_tenant("north", &hosts(NORTH)).await;
        let north = north.expect("a tenant").id;
        let mut options = ServerOptions::new(ledger, TENANT);
        change(&mut options);
        let server = Server::start(options).await;
        let http = crate::house::client()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build();
        Self {
            server: server.expect("a server"),
            http: http.expect("a client"),
            north,
            _folder: folder,
        }
    }

    pub(crate) fn trust(&self, tenant: TenantId) -> trust::Trust {
        self.server.trust_of(tenant).expect("it is served")
    }

    pub(crate) async fn token(&self, tenant: TenantId, role: Role) -> String {
        let trust = self.trust(tenant);
        let by = Agent::system(tenant, "command-line");
        let made = trust.identity().create_client(&by, "test", role).await;
        made.expect("a token")
    }

    pub(crate) async fn ask(&self, host: &str, method: &Method, path: &str, who: &Who) -> Answer {
        self.send(host, method, path, who, None).await
    }

    /// Sends a form.
    pub(crate) async fn post(&self, host: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let form = Some(query(form));
        self.send(host, &Method::POST, path, &Who::Nobody, form)
            .await
    }

    /// Sends a form, or what suits the path.
    pub(crate) async fn send(
        &self,
        host: &str,
        method: &Method,
        path: &str,
        who: &Who,
        words: Option<String>,
    ) -> Answer {
        let mut request = self
            .http
            .request(
                method.clone(),
                format!("http://{}{path}", self.server.address()),
            )
            .header("host", host)
            .header("prefer", "respond-async")
            .header("x-request-id", "00000000-0000");
        let (form, mut body) = match words {
            Some(words) => ("application/x-www-form-urlencoded", words),
            None => body_of(path),
        };
        match who {
            Who::Nobody => {}
            Who::Token(token) => request = request.bearer_auth(token),
            Who::Person { cookie, csrf } => {
                request = request.header("cookie", format!("cairn={cookie}"));
                body.push_str(&format!("csrf={csrf}"));
            }
        }
        if *method != Method::GET && *method != Method::DELETE {
            request = request.header("content-type", form).body(body);
        }
        let answer = request.send().await.expect("an answer");
        let headers = answer.headers().iter();
        let headers = headers
            .filter(|(name, _)| !["date", "cairn-sequence", "set-cookie"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .collect();
        let status = answer.status();
        // A live page doesn't end.
        let is_live = answer
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        let body = if is_live {
            String::new()
        } else {
            answer.text().await.expect("text")
        };
        Answer {
            status,
            headers,
            body: timeless(&body),
        }
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> Answer {
        self.ask(host, &Method::GET, path, &Who::Nobody).await
    }

    pub(crate) async fn put(&self, host: &str, token: &str, resource: &Value) {
        let path = format!(
            "/fhir/r4/{}/{}",
            resource["resourceType"].as_str().expect("a type"),
            resource["id"].as_str().expect("an id")
        );
        let put = self
            .http
            .put(format!("http://{}{path}", self.server.address()))
            .header("host", host)
            .bearer_auth(token)
            .header("content-type", "application/fhir+json")
            .body(resource.to_string());
        let answer = put.send().await.expect("an answer");
        assert_eq!(
            answer.status(),
            201,
            "{path}: {}",
            answer.text().await.expect("text")
        );
    }

    /// Waits until a host answers so.
    pub(crate) async fn until(&self, host: &str, path: &str, status: u16) {
        let mut patience = Patience::new();
        loop {
            let answer = self.get(host, path).await;
            if answer.status.as_u16() == status {
                return;
            }
            patience.wait(&format!("{host}{path}: {answer:?}")).await;
        }
    }

    pub(crate) async fn end(self) {
        self.server.stop().await.expect("a clean end");
    }
}

/// Everybody who can be signed in, at one tenant.
pub(crate) async fn everybody(two: &Two, tenant: TenantId) -> Vec<(Role, Who)> {
    let mut who = Vec::new();
    for role in [
        Role::Clinician,
        Role::Coordinator,
        Role::Administrator,
        Role::PrivacyOfficer,
        Role::Biller,
    ] {
        who.push((role, person_of(&two.trust(tenant), tenant, role).await));
    }
    for role in [
        Role::Client,
        Role::PrivacyOfficer,
        Role::Squad,
        Role::Biller,
    ] {
        who.push((role, Who::Token(two.token(tenant, role).await)));
    }
    let held = Held::of(two, tenant).await;
    let system = held.token_of_system(two, "everybody").await;
    for secret in [held.access.clone(), system] {
        who.push((Role::Client, Who::Token(secret)));
    }
    who.push((Role::Patient, held.session()));
    who
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_anothers_credentials_for_ones_that_never_were() {
    let two = Two::new().await;
    let patient = |family: &str| json!({"resourceType": "Patient", "id": "p", "birthDate": BORN, "name": [{"family": family}]});
    // Both have a patient of the same id, and people of the same names.
    for (host, tenant, family) in [(SOUTH, TENANT, "Southern"), (NORTH, two.north, "Northern")] {
        let token = two.token(tenant, Role::Client).await;
        two.put(host, &token, &patient(family)).await;
    }
    let (south, north) = (
        everybody(&two, TENANT).await,
        everybody(&two, two.north).await,
    );
    let guards = guards();
    let routes: Vec<_> = asked(&guards, &["policy", "session", "public"])
        .into_iter()
        .filter(|(_, path)| !["/health/live", "/health/ready", "/metrics"].contains(&path.as_str()))
        .collect();
    assert!(routes.len() > 100, "{}", routes.len());
    let (mut answered, mut differ) = (0, Vec::new());
    for (method, path) in &routes {
        for (role, who) in &south {
            let foreign = two.ask(NORTH, method, path, who).await;
            let never = two.ask(NORTH, method, path, &never(who)).await;
            // Forms that anybody gets have a token in them that is new each time.
            let form = foreign.body.contains("name=\"csrf\"");
            let same = if form {
                (foreign.status, &foreign.headers) == (never.status, &never.headers)
            } else {
                foreign == never
            };
            if !same {
                differ.push(format!(
                    "{method} {path} as {role:?}: {foreign:?} and {never:?}"
                ));
            }
            assert!(
                !foreign.body.contains("Southern"),
                "{method} {path}: {foreign:?}"
            );
            assert!(
                !foreign.body.contains("Northern"),
                "{method} {path}: {foreign:?}"
            );
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    // The same requests do answer where they belong, so that the sameness means something; and what they answer
    // is that tenant's.
    for (method, path) in routes.iter().filter(|(method, _)| *method == Method::GET) {
        for ((_, ours), (_, theirs)) in south.iter().zip(&north) {
            let at_home = two.ask(SOUTH, method, path, ours).await;
            answered += u32::from(at_home.status.is_success());
            assert!(!at_home.body.contains("Northern"), "{path}: {at_home:?}");
            let at_theirs = two.ask(NORTH, method, path, theirs).await;
            assert!(
                !at_theirs.body.contains("Southern"),
                "{path}: {at_theirs:?}"
            );
        }
    }
    assert!(answered > 40, "{answered}");
    // Nobody was signed out at home by being shown elsewhere.
    let (_, administrator) = &south[2];
    let home = two
        .ask(SOUTH, &Method::GET, "/console/accounts", administrator)
        .await;
    assert_eq!(home.status, 200, "{}", home.body);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_reached_by_its_hosts_alone() {
    let two = Two::new().await;
    let port = two.server.address().port();
    for (host, base) in [
        (NORTH, NORTH),
        ("NORTH.EXAMPLE:8080", NORTH),
        ("north.example.", NORTH),
        (SOUTH, SOUTH),
    ] {
        let answer = two.get(host, "/fhir/r4/metadata").await;
        assert_eq!(answer.status, 200, "{host}");
        assert!(
            answer
                .body
                .contains(&format!("http://{base}:{port}/fhir/r4")),
            "{}",
            answer.body
        );
    }
    let configuration = two
        .get(NORTH, "/fhir/r4/.well-known/smart-configuration")
        .await;
    assert!(
        !configuration.body.contains(SOUTH),
        "{}",
        configuration.body
    );
    let nobodys = two.get("nobody.example", "/fhir/r4/Patient/p").await;
    assert_eq!(nobodys.status, StatusCode::MISDIRECTED_REQUEST);
    let outcome: Value = serde_json::from_str(&nobodys.body).expect("JSON");
    assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
    // What operators look at is the server's and no tenant's.
    let address = two.server.address().to_string();
    for (host, status) in [
        (address.as_str(), 200),
        ("nobody.example", 200),
        (NORTH, 404),
    ] {
        for path in ["/health/live", "/health/ready", "/metrics"] {
            assert_eq!(two.get(host, path).await.status, status, "{host}{path}");
        }
    }
    // Two hosts in one request are nobody's, and not the operators' either.
    for path in ["/fhir/r4/metadata", "/metrics", "/health/ready"] {
        for (asked, named) in [
            (SOUTH, NORTH),
            (SOUTH, "nobody.example"),
            ("nobody.example", NORTH),
        ] {
            let mut stream = tokio::net::TcpStream::connect(two.server.address())
                .await
                .expect("connected");
            let words = format!(
                "GET http://{asked}{path} HTTP/1.1\r\nhost: {named}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(words.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
            assert!(!answer.contains("cairn_"), "{path}: {answer}");
        }
    }

    // A tenant that was destroyed is one that there never was.
    let ledger = two.server.ledger();
    let gone = ledger
        .add_tenant("gone", &["gone.example".to_owned()])
        .await
        .expect("a tenant");
    two.until("gone.example", "/fhir/r4/metadata", 200).await;
    ledger
        .suspend_tenant(gone.id, true)
        .await
        .expect("suspended");
    two.until("gone.example", "/fhir/r4/metadata", 503).await;
    sleep(Duration::from_millis(ledger::SETTLE_MS + 1_000)).await;
    ledger.destroy_tenant(gone.id).await.expect("destroyed");
    two.until("gone.example", "/fhir/r4/metadata", 421).await;
    for path in ["/", "/fhir/r4/metadata", "/oauth/token", "/sign-in"] {
        let destroyed = two.get("gone.example", path).await;
        assert_eq!(destroyed, two.get("nobody.example", path).await, "{path}");
    }
    two.end().await;
}

/// Secrets, jobs and keys of requests of another tenant, where they are looked up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_tenants_is_unknown() {
    let two = Two::new().await;
    let north_token = two.token(two.north, Role::Client).await;
    let south_token = two.token(TENANT, Role::Client).await;
    let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": "1941-03-07"});
    two.put(SOUTH, &south_token, &patient).await;
    two.put(NORTH, &north_token, &patient).await;
    let (south, north) = (two.trust(TENANT), two.trust(two.north));
    let clinician = |tenant| Agent {
        role: Role::Clinician,
        ..Agent::system(tenant, "c")
    };
    // A sign-in link, with the right date.
    let link = south
        .identity()
        .make_link(&clinician(TENANT), "p", 3600, true)
        .await
        .expect("a link");
    let foreign = north
        .identity()
        .use_link(two.north, &link, "1941-03-07")
        .await;
    assert!(
        matches!(foreign, Err(trust::TrustError::SignIn)),
        "{foreign:?}"
    );
    assert!(
        south
            .identity()
            .use_link(TENANT, &link, "1941-03-07")
            .await
            .is_ok()
    );
    // A person of another tenant is let do nothing, whatever they are.
    let decided = north
        .decide(
            &clinician(TENANT),
            trust::Purpose::Treatment,
            trust::Action::Read,
            trust::Target::default(),
            "",
        )
        .await;
    assert!(decided.is_err());
    // A permit of another tenant opens nothing.
    let permit = south
        .decide(
            &clinician(TENANT),
            trust::Purpose::Treatment,
            trust::Action::Read,
            trust::Target::default(),
            "",
        )
        .await
        .expect("a permit");
    let read = north
        .vault()
        .read(&permit, fhir::ResourceType::Patient, "p")
        .await;
    assert!(read.is_err(), "{read:?}");
    assert!(
        south
            .vault()
            .read(&permit, fhir::ResourceType::Patient, "p")
            .await
            .is_ok()
    );

    // A bulk export, with a token of one's own.
    let kicked = two
        .ask(
            SOUTH,
            &Method::GET,
            "/fhir/r4/$export",
            &Who::Token(south_token.clone()),
        )
        .await;
    assert_eq!(kicked.status, 202, "{kicked:?}");
    let (_, place) = kicked
        .headers
        .iter()
        .find(|(name, _)| name == "content-location")
        .expect("a place");
    let path = place
        .split_once(&format!(":{}", two.server.address().port()))
        .expect("a path")
        .1;
    let never = {
        let (before, id) = path.rsplit_once('/').expect("an id");
        let turned: String = id.chars().rev().collect();
        format!("{before}/{turned}")
    };
    let theirs = Who::Token(north_token.clone());
    for method in [Method::GET, Method::DELETE] {
        let foreign = two.ask(NORTH, &method, path, &theirs).await;
        let unknown = two.ask(NORTH, &method, &never, &theirs).await;
        assert_eq!(foreign.status, 404, "{foreign:?}");
        assert_eq!(foreign, unknown);
    }
    let status = two
        .ask(SOUTH, &Method::GET, path, &Who::Token(south_token.clone()))
        .await;
    assert!(status.status.is_success(), "{status:?}");

    // A cursor: whatever it says, it leads to one's own rows.
    for number in 0..3 {
        let id = format!("south-{number}");
        two.put(
            SOUTH,
            &south_token,
            &json!({"resourceType": "Patient", "id": id}),
        )
        .await;
    }
    let page = two
        .ask(
            SOUTH,
            &Method::GET,
            "/fhir/r4/Patient?_count=1",
            &Who::Token(south_token.clone()),
        )
        .await;
    let bundle: Value = serde_json::from_str(&page.body).expect("JSON");
    let links = bundle["link"].as_array().expect("links").iter();
    let next = links
        .filter(|link| link["relation"] == "next")
        .find_map(|link| link["url"].as_str());
    let next = next
        .expect("a next page")
        .split_once("/fhir/r4")
        .expect("a path")
        .1;
    let foreign = two
        .ask(NORTH, &Method::GET, &format!("/fhir/r4{next}"), &theirs)
        .await;
    assert!(
        !foreign.body.contains("south-") && !foreign.body.contains(SOUTH),
        "{foreign:?}"
    );

    // A request that may come again is one tenant's.
    for (host, token) in [(SOUTH, &south_token), (NORTH, &north_token)] {
        let create = two
            .http
            .post(format!("http://{}/fhir/r4/Patient", two.server.address()))
            .header("host", host)
            .bearer_auth(token)
            .header("idempotency-key", "\"the-same-key\"")
            .header("content-type", "application/fhir+json")
            .body(json!({"resourceType": "Patient", "gender": "other"}).to_string());
        let made = create.send().await.expect("an answer");
        assert_eq!(made.status(), 201);
        let location = made.headers()["location"]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(location.contains(host), "{location}");
    }
    two.end().await;
}

/// Unknown and another tenant's take as long: the medians of requests by turns are within a factor that no
/// look-up left out would keep.
#[tokio::test(flavor = "multi_thread")]
async fn anothers_token_takes_as_long_as_an_unknown_one() {
    let two = Two::new().await;
    let foreign = Who::Token(two.token(TENANT, Role::Client).await);
    let never = never(&foreign);
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..150 {
        for (who, took) in [&foreign, &never].into_iter().zip(&mut took) {
            let began = Instant::now();
            two.ask(NORTH, &Method::GET, "/fhir/r4/Patient/p", who)
                .await;
            took.push(began.elapsed());
        }
    }
    let [foreign, never] = took.map(|mut took| {
        took.sort_unstable();
        took[took.len() / 2].as_secs_f64()
    });
    assert!(
        (0.5..2.0).contains(&(foreign / never)),
        "{foreign} s and {never} s"
    );
    two.end().await;
}

/// A timer that nobody waits for: whoever works on the tenant's journeys takes it away.
async fn idle_timer(two: &Two, tenant: TenantId, id: u8) -> TimerKey {
    let key = TimerKey {
        shard: Shard(3),
        due_ms: 1,
        id: [id; 16],
    };
    let timer = Timer {
        key,
        tenant,
        consumer: 1,
        payload: b"nobody".to_vec(),
    };
    let commit = Commit {
        timers_set: vec![timer],
        ..Commit::new(tenant)
    };
    two.server.ledger().commit(commit).await.expect("written");
    key
}

async fn waits(two: &Two, tenant: TenantId) -> bool {
    let ledger = two.server.ledger().only(tenant);
    !ledger.timers_due(1, 9, 9).await.expect("timers").is_empty()
}

async fn until_done(two: &Two, tenant: TenantId) {
    let what = format!("somebody works on the timers of {tenant:?}");
    until(&what, async || !waits(two, tenant).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_everywhere_and_loses_nothing() {
    let two = Two::new().await;
    let token = Who::Token(two.token(two.north, Role::Client).await);
    let patient = json!({"resourceType": "Patient", "id": "p"});
    let Who::Token(secret) = &token else {
        unreachable!()
    };
    idle_timer(&two, two.north, 1).await;
    // A fact wakes who looks at timers.
    two.put(NORTH, secret, &patient).await;
    until_done(&two, two.north).await;

    let ledger = two.server.ledger().clone();
    ledger
        .suspend_tenant(two.north, true)
        .await
        .expect("suspended");
    two.until(NORTH, "/fhir/r4/metadata", 503).await;
    let guards = guards();
    for (method, path) in asked(&guards, &["policy", "session", "public"]) {
        let answer = two.ask(NORTH, &method, &path, &token).await;
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        assert!(
            answer.headers.iter().any(|(name, _)| name == "retry-after"),
            "{path}"
        );
        assert!(answer.body.contains("is suspended"), "{path}: {answer:?}");
        if path.starts_with("/fhir") {
            let outcome: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(outcome["resourceType"], "OperationOutcome", "{path}");
        }
    }
    // What is due waits, and stands in nobody else's way.
    idle_timer(&two, two.north, 2).await;
    idle_timer(&two, TENANT, 3).await;
    let ours = two.token(TENANT, Role::Client).await;
    two.put(SOUTH, &ours, &patient).await;
    until_done(&two, TENANT).await;
    sleep(Duration::from_millis(500)).await;
    assert!(waits(&two, two.north).await);
    assert_eq!(two.get(SOUTH, "/fhir/r4/metadata").await.status, 200);

    ledger
        .suspend_tenant(two.north, false)
        .await
        .expect("resumed");
    two.until(NORTH, "/fhir/r4/metadata", 200).await;
    until_done(&two, two.north).await;
    let read = two
        .ask(NORTH, &Method::GET, "/fhir/r4/Patient/p", &token)
        .await;
    assert_eq!(read.status, 200, "{read:?}");
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_takes_no_more_than_its_quota() {
    let two = Two::new().await;
    let ledger = two.server.ledger().clone();
    let quota = TenantQuota {
        requests_per_s: Some(2),
        ..TenantQuota::default()
    };
    let set = ledger.set_tenant(two.north, None, None, Some(quota));
    set.await.expect("a quota");
    two.until(NORTH, "/fhir/r4/metadata", 429).await;
    let over = loop {
        let answer = two.get(NORTH, "/fhir/r4/metadata").await;
        if answer.status == 429 {
            break answer;
        }
    };
    let outcome: Value = serde_json::from_str(&over.body).expect("JSON");
    assert_eq!(outcome["issue"][0]["code"], "throttled", "{outcome}");
    assert!(
        over.headers
            .contains(&("retry-after".to_owned(), "1".to_owned())),
        "{over:?}"
    );
    for _ in 0..20 {
        assert_eq!(two.get(SOUTH, "/fhir/r4/metadata").await.status, 200);
    }
    // A cookie that was made up helps nobody past it; where nobody asks who it is, it is no matter.
    let nonsense = Who::Person {
        cookie: "1.nonsense".to_owned(),
        csrf: String::new(),
    };
    let shown = async |path: &str| {
        let mut over = 0;
        for _ in 0..40 {
            let answer = two.ask(NORTH, &Method::GET, path, &nonsense).await;
            over += u32::from(answer.status == 429);
        }
        over
    };
    assert_eq!(shown("/fhir/r4/metadata").await, 0);
    let over = shown("/sign-in").await;
    assert!(over > 10, "{over}");
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(two.get(NORTH, "/fhir/r4/metadata").await.status, 200);

    two.end().await;
}

/// Each organisation signs identity tokens by itself: its own issuer, its own keys, and its own applications' pages.
#[tokio::test]
async fn each_tenant_is_an_issuer_of_its_own() {
    let two = Two::new().await;
    for (tenant, host, origin) in [
        (TENANT, SOUTH, "https://south-app.example"),
        (two.north, NORTH, "https://north-app.example"),
    ] {
        let app = NewApp {
            name: "Diary".to_owned(),
            redirect_uris: vec![format!("{origin}/back")],
            launch_uri: None,
            scopes: "openid patient/*.rs".to_owned(),
            keys: SystemKeys::None,
        };
        let by = Agent::system(tenant, "command-line");
        let registered = two.trust(tenant);
        let registered = registered.identity().register_app(&by, &app);
        registered
            .await
            .unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    let json = async |host: &str, path: &str| {
        let answer = two.get(host, path).await;
        serde_json::from_str::<Value>(&answer.body).expect("JSON")
    };
    let mut seen = Vec::new();
    for (host, own, others) in [
        (
            SOUTH,
            "https://south-app.example",
            "https://north-app.example",
        ),
        (
            NORTH,
            "https://north-app.example",
            "https://south-app.example",
        ),
    ] {
        let provider = json(host, "/fhir/r4/.well-known/openid-configuration").await;
        let issuer = provider["issuer"].as_str().expect("an issuer").to_owned();
        assert!(issuer.contains(host), "{issuer}");
        let keys = json(host, "/oauth/keys").await;
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1), "{keys}");
        seen.push((issuer, keys["keys"][0]["kid"].clone()));
        for (origin, known) in [(own, true), (others, false)] {
            let request = two
                .http
                .get(format!("{}/fhir/r4/metadata", two.server.base_url()));
            let request = request.header("host", host).header("origin", origin);
            let answer = request.send().await.expect("an answer");
            let told = answer.headers().contains_key("access-control-allow-origin");
            assert_eq!(told, known, "{host} {origin}");
        }
    }
    assert_ne!(seen[0].0, seen[1].0);
    assert_ne!(seen[0].1, seen[1].1);
    two.end().await;
}

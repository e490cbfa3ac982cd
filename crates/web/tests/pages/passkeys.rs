//! Passkeys through the pages, one's own sign-in, and forms that ask for a second factor again.

use axum::http::{StatusCode, header};
use trust::Agent;
use trust::identity::{RelyingParty, Session};

use crate::authenticator::{Authenticator, UP};
use crate::world::{Browser, PASSWORD, Page, TENANT, World, check_html};

const OWN: &str = "/console/sign-in";
const MINUTE_MS: u64 = 60_000;

pub(crate) fn party() -> RelyingParty {
    RelyingParty::of("https://cairn.example", "St. Cairn's").unwrap()
}

pub(crate) async fn session(world: &World, browser: &Browser) -> Session {
    let cookie = browser.cookies.iter().find(|(name, _)| name == "cairn");
    let identity = world.trust.identity();
    identity.peek(&cookie.unwrap().1).await.unwrap()
}

/// The form of an id on a page: its options, and the value of its hidden field.
fn form(page: &Page, id: &str) -> (String, String) {
    let at = page.body.find(&format!("<form id=\"{id}\""));
    let form = &page.body[at.unwrap_or_else(|| panic!("no form {id} in {}", page.body))..];
    let form = &form[..form.find("</form>").unwrap()];
    let options = form.split("data-options=\"").nth(1).unwrap();
    let options = options.split('"').next().unwrap().replace("&quot;", "\"");
    let sealed = form.split("data-sealed").next().unwrap();
    let sealed = sealed.rsplit("value=\"").next().unwrap();
    let sealed = sealed.split('"').next().unwrap();
    (options, sealed.to_owned())
}

/// Adds a passkey on one's own page.
async fn add(browser: &mut Browser, device: &mut Authenticator) -> Page {
    let page = browser.get(OWN).await;
    check_html(OWN, &page.body);
    let (options, sealed) = form(&page, "add-passkey");
    let answer = device.make(&options);
    let fields = [
        ("sealed", sealed.as_str()),
        ("answer", &answer),
        ("name", "Carla's phone"),
    ];
    browser.act(OWN, "/console/sign-in/passkeys", &fields).await
}

async fn sign_in(browser: &mut Browser, device: &mut Authenticator, from: &str) -> Page {
    let page = browser.get(from).await;
    check_html(from, &page.body);
    let (options, sealed) = form(&page, "passkey");
    let answer = device.show(&options);
    let mut fields = vec![("sealed", sealed.as_str()), ("answer", &answer)];
    let next = page.has("name=\"next\"").then(|| page.field("next"));
    fields.extend(next.as_deref().map(|next| ("next", next)));
    browser.submit("/sign-in/passkey", &fields).await
}

// Proves: 45 CFR 164.312(d)
// Proves: proposed 45 CFR 164.312(f)(2)(ii)
#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_is_added_and_signs_in() {
    let world = World::new().await;
    let mut carla = world.staff("carla").await;
    let mut device = Authenticator::at("https://cairn.example");
    carla.get(OWN).await.shows("No passkey yet");
    let done = add(&mut carla, &mut device).await;
    assert_eq!(
        done.location(),
        "/console/sign-in?said=added",
        "{}",
        done.body
    );
    let page = carla.get(done.location()).await;
    page.shows("Carla's phone");
    page.shows("Passkey added");
    check_html(OWN, &page.body);

    let mut other = world.browser();
    let home = sign_in(&mut other, &mut device, "/sign-in").await;
    assert_eq!(home.location(), "/console/worklist", "{}", home.body);
    other.get("/console/worklist").await.shows("Carla Ortiz");
    // Back to where one was, and nowhere else.
    for (next, target) in [
        ("/console/patients", "/console/patients"),
        ("//evil.example", "/console/worklist"),
        ("https://evil.example/console/", "/console/worklist"),
    ] {
        let mut browser = world.browser();
        let from = format!("/sign-in?next={next}");
        let done = sign_in(&mut browser, &mut device, &from).await;
        assert_eq!(done.location(), target);
    }
    // The question of one browser is no other's, though the form is.
    let (mut left, mut right) = (world.browser(), world.browser());
    let (options, sealed) = form(&left.get("/sign-in").await, "passkey");
    right.get("/sign-in").await;
    let answer = device.show(&options);
    let fields = [("sealed", sealed.as_str()), ("answer", answer.as_str())];
    let refused = right.submit("/sign-in/passkey", &fields).await;
    refused.shows("The passkey was not taken");
    check_html("/sign-in/passkey", &refused.body);
    device.flags = UP;
    let unverified = sign_in(&mut left, &mut device, "/sign-in").await;
    unverified.shows("The passkey was not taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_follows_a_password_and_may_be_the_only_one() {
    let world = World::new().await;
    let mut carla = world.staff("carla").await;
    let mut device = Authenticator::at("https://cairn.example");
    add(&mut carla, &mut device).await;
    let again = async |device: &mut Authenticator, title: &str| {
        let mut browser = world.browser();
        browser.get("/sign-in").await;
        let step = browser
            .submit("/sign-in", &[("user", "carla"), ("password", PASSWORD)])
            .await;
        step.shows(title);
        check_html("/sign-in", &step.body);
        let (options, sealed) = form(&step, "second-passkey");
        let answer = device.show(&options);
        let ticket = step.field("ticket");
        let fields = [
            ("ticket", ticket.as_str()),
            ("sealed", &sealed),
            ("answer", &answer),
        ];
        browser.submit("/sign-in/passkey", &fields).await
    };
    let done = again(&mut device, "Your one-time code").await;
    assert_eq!(done.location(), "/console/worklist", "{}", done.body);
    let gone = carla.act(OWN, "/console/sign-in/app/remove", &[]).await;
    assert_eq!(gone.location(), "/console/sign-in?said=no-app");
    let done = again(&mut device, "Your passkey").await;
    assert_eq!(done.location(), "/console/worklist", "{}", done.body);
    // The last second factor can't go.
    let own = carla.get(OWN).await;
    let remove = own.body.split("action=\"/console/sign-in/passkeys/").nth(1);
    let id = remove.unwrap().split('/').next().unwrap();
    let path = format!("/console/sign-in/passkeys/{id}/remove");
    let kept = carla.act(OWN, &path, &[]).await;
    assert_eq!(kept.status, StatusCode::BAD_REQUEST);
    assert!(kept.has("only second factor"), "{}", kept.body);
    // An app is set up again, by its first code.
    let page = carla.get("/console/sign-in/app").await;
    check_html("/console/sign-in/app", &page.body);
    let secret = page.body.split("<p><code>").nth(1).unwrap();
    let secret = secret.split('<').next().unwrap().replace(' ', "");
    let fields = [
        ("sealed", page.field("sealed")),
        ("code", world.code_of(&secret)),
    ];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let set = carla.act(OWN, "/console/sign-in/app", &fields).await;
    assert_eq!(set.location(), "/console/sign-in?said=app", "{}", set.body);
    let done = again(&mut device, "Your one-time code").await;
    assert_eq!(done.location(), "/console/worklist");
    // The administrator sees that there is a second factor, and no more of it.
    let mut ada = world.staff("ada").await;
    ada.get("/console/accounts").await.shows("set up");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_s_own_sign_in_is_for_staff_at_a_name() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut browser = world.patients_browser(&ida).await;
    let page = browser.get(OWN).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    let nameless = World::made(|web| web.fhir_base = "http://192.0.2.7/fhir/r4".to_owned()).await;
    let mut carla = nameless.staff("carla").await;
    let page = carla.get(OWN).await;
    page.shows("Passkeys need a server that is reached by a name");
    assert!(!page.has("data-passkey"));
    let mut browser = nameless.browser();
    assert!(!browser.get("/sign-in").await.has("data-passkey"));
    let refused = browser.submit("/sign-in/passkey", &[]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);

    // Sessions of one's own, and of nobody else.
    let mut here = world.staff("carla").await;
    let mut there = world.staff("carla").await;
    let sam = session(&world, &world.staff("sam").await).await;
    let other = session(&world, &there).await;
    here.get(OWN).await.shows("this one");
    for (id, status) in [
        (&sam.id, StatusCode::BAD_REQUEST),
        (&other.id, StatusCode::SEE_OTHER),
    ] {
        let path = format!("/console/sign-in/sessions/{id}/end");
        let page = here.act(OWN, &path, &[]).await;
        assert_eq!(page.status, status, "{}", page.body);
    }
    assert_eq!(there.get(OWN).await.status, StatusCode::SEE_OTHER);
}

/// A hidden field of the page itself; the bar above it has forms of its own.
fn written(page: &Page, name: &str) -> String {
    let main = page.body.split("<main ").nth(1).unwrap();
    let start = format!("name=\"{name}\" value=\"");
    let value = main.split(&start).nth(1);
    let value = value.unwrap_or_else(|| panic!("no field {name} in {main}"));
    value.split('"').next().unwrap().to_owned()
}

/// Lets the second factor grow older than it may be, while somebody works.
async fn works_on(world: &World, browser: &mut Browser) {
    for _ in 0..2 {
        world.wall.advance(8 * MINUTE_MS);
        assert_eq!(browser.get(OWN).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_kept_while_a_second_factor_is_asked_for() {
    let world = World::new().await;
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let devi = identity.account_named(&operator, "devi").await.unwrap();
    let devi = devi.unwrap();
    let active = async |ada: &mut Browser| {
        let page = ada.get("/console/accounts?state=closed").await;
        !page.has("Devi Rao")
    };
    let mut ada = world.staff("ada").await;
    let close = format!("/console/accounts/{devi}/close");
    let reset = format!("/console/accounts/{devi}/reset");
    let why = "Said \"it's lost\" & <gone>";
    works_on(&world, &mut ada).await;
    let csrf = ada.get("/console/accounts").await.field("csrf");
    let back = "/console/accounts?role=clinician";
    let fields = [("csrf", csrf.as_str()), ("back", back), ("reason", why)];
    let page = ada.post(&reset, &fields).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.has("Confirm that it is you"), "{}", page.body);
    check_html(&reset, &page.body);
    // It goes where it was going, with all that was written, and says nothing twice.
    assert!(page.has(&format!("action=\"{reset}\"")), "{}", page.body);
    assert_eq!(written(&page, "back"), back);
    assert_eq!(written(&page, "csrf"), csrf);
    let reason = written(&page, "reason");
    let reason = reason.replace("&quot;", "\"");
    let reason = reason.replace("&lt;", "<").replace("&gt;", ">");
    assert_eq!(reason.replace("&amp;", "&"), why);
    // Wrong and stale factors do nothing, and keep it.
    let used = world.code("ada");
    let wrong = if used == "000000" { "000001" } else { "000000" };
    for (password, code) in [(PASSWORD, wrong), ("wrong-password", used.as_str())] {
        let more = [("step-up-password", password), ("step-up-code", code)];
        let all: Vec<_> = fields.iter().chain(&more).copied().collect();
        let page = ada.post(&reset, &all).await;
        assert!(page.has("Password or code is wrong"), "{}", page.body);
        assert!(!page.has(password) && !page.has(&format!("value=\"{code}\"")));
        assert_eq!(written(&page, "back"), back);
    }
    let more = [("step-up-password", PASSWORD), ("step-up-code", &used)];
    let all: Vec<_> = fields.iter().chain(&more).copied().collect();
    let done = ada.post(&reset, &all).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(done.location(), format!("{back}&reset={devi}"));
    // It is fresh now, for other things, too; then it isn't.
    let done = ada.act("/console/accounts", &close, &[]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert!(!active(&mut ada).await);
    works_on(&world, &mut ada).await;
    let reopen = format!("/console/accounts/{devi}/reopen");
    let page = ada.act("/console/accounts", &reopen, &[]).await;
    assert!(page.has("Confirm that it is you"));
    // The code from before doesn't serve again, and tries that fail are bounded.
    let csrf = ada.get("/console/accounts").await.field("csrf");
    let stale = [
        ("csrf", csrf.as_str()),
        ("step-up-password", PASSWORD),
        ("step-up-code", used.as_str()),
    ];
    for _ in 0..5 {
        let page = ada.post(&reopen, &stale).await;
        assert!(page.has("Password or code is wrong"), "{}", page.body);
    }
    let page = ada.post(&reopen, &stale).await;
    assert!(page.has("Too many tries. Wait 30 seconds"), "{}", page.body);
    assert!(!active(&mut ada).await);
    // Nor does a factor help a form without its token.
    world.wall.advance(31_000);
    let code = world.code("ada");
    let forged = [
        ("step-up-password", PASSWORD),
        ("step-up-code", code.as_str()),
    ];
    let page = ada.post(&reopen, &forged).await;
    assert!(page.has("The form was too old"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_confirms_each_time_where_that_is_wanted() {
    let world = World::new().await;
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let devi = identity.account_named(&operator, "devi").await.unwrap();
    let devi = devi.unwrap();
    let mut ada = world.staff("ada").await;
    let mut device = Authenticator::at("https://cairn.example");
    add(&mut ada, &mut device).await;
    identity.limit_factor_age(0);
    let csrf = ada.get("/console/accounts").await.field("csrf");
    for deed in ["close", "reopen"] {
        let path = format!("/console/accounts/{devi}/{deed}");
        let page = ada.post(&path, &[("csrf", &csrf)]).await;
        let (options, sealed) = form(&page, "step-up-passkey");
        let answer = device.show(&options);
        let all = [
            ("csrf", csrf.as_str()),
            ("step-up-sealed", &sealed),
            ("step-up-answer", &answer),
        ];
        let done = ada.post(&path, &all).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
        // Once.
        let again = ada.post(&path, &all).await;
        assert!(again.has("Password or code is wrong"), "{}", again.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_let_in_with_a_fresh_factor_and_led_to() {
    let world = World::new().await;
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let app = trust::identity::NewApp {
        name: "Diary".to_owned(),
        redirect_uris: vec!["https://app.example.org/back".to_owned()],
        launch_uri: None,
        scopes: "user/*.rs".to_owned(),
        keys: trust::identity::SystemKeys::None,
    };
    let app = identity.register_app(&operator, &app).await.unwrap();
    let mut carla = world.staff("carla").await;
    let challenge = "a".repeat(43);
    let csrf = carla.get("/console/worklist").await.field("csrf");
    let fields = |decision| {
        [
            ("csrf", csrf.as_str()),
            ("response_type", "code"),
            ("client_id", app.as_str()),
            ("redirect_uri", "https://app.example.org/back"),
            ("scope", "user/Patient.rs"),
            ("state", "s"),
            ("aud", "https://cairn.example/fhir/r4"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
            ("decision", decision),
            ("agreed", "user/Patient.rs"),
        ]
    };
    identity.limit_factor_age(0);
    // To say no needs nothing.
    let denied = carla.post("/oauth/authorize", &fields("deny")).await;
    assert!(denied.has("error=access_denied"), "{}", denied.body);
    let page = carla.post("/oauth/authorize", &fields("allow")).await;
    assert!(page.has("Confirm that it is you"), "{}", page.body);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    // A page of our own leads on, so that the form itself leads nowhere else.
    assert!(policy.contains("form-action 'self';"), "{policy}");
    // An address that is none changes no rule of the page.
    for address in ["https://a.example; script-src *", "javascript:x", "http"] {
        let mut changed = fields("allow");
        changed[3].1 = address;
        let page = carla.post("/oauth/authorize", &changed).await;
        let policy = page.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(!policy.contains("a.example"), "{policy}");
    }
    world.wall.advance(31_000);
    let code = world.code("carla");
    let mut all = fields("allow").to_vec();
    all.extend([
        ("step-up-password", PASSWORD),
        ("step-up-code", code.as_str()),
    ]);
    let done = carla.post("/oauth/authorize", &all).await;
    assert!(
        done.has("https://app.example.org/back?code="),
        "{} {}",
        done.status,
        done.body
    );
}

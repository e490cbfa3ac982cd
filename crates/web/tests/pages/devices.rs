//! Devices on which a patient is notified, on the page where they come and go.

use axum::http::{StatusCode, header};
use serde_json::json;
use trust::consent::{Topic, Via};

use crate::world::{Browser, Page, TENANT, World, check_html};

const PAGE: &str = "/portal/preferences";
const FORM: &str =
    "<form class=\"fields\" method=\"post\" action=\"/portal/preferences\" hidden data-push=";

async fn world() -> World {
    let world = without_key().await;
    let identity = world.trust.identity();
    identity.push_key(TENANT).await.unwrap();
    world
}

async fn without_key() -> World {
    World::made(|web| {
        let services = "https://push.example https://*.wide.example";
        web.push = Some(exchange::PushServices::parse(services).unwrap());
    })
    .await
}

fn key() -> String {
    format!("B{}", "A".repeat(86))
}

async fn add(browser: &mut Browser, name: &str, endpoint: &str) -> Page {
    let (key, auth) = (key(), "A".repeat(22));
    let page = browser.get(PAGE).await;
    // What the script sends is the key that the page has; where there is no form any more, what it had.
    let signer = page.body.split("data-push=\"").nth(1);
    let signer = signer
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default();
    let fields = [
        ("do", "notify"),
        ("name", name),
        ("endpoint", endpoint),
        ("key", &key),
        ("auth", &auth),
        ("signer", signer),
    ];
    browser.act(PAGE, PAGE, &fields).await
}

/// The ids of the devices that a page lists.
fn ids(page: &Page) -> Vec<String> {
    let rest = page.body.split("name=\"device\" value=\"").skip(1);
    rest.map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_turns_notifications_on_sees_where_and_off() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let before = own.get(PAGE).await;
    before.shows("Notifications on your devices");
    // The form waits for the script; without it the page says how messages come.
    assert!(before.body.contains(FORM), "{}", before.body);
    before.shows("Your messages are in your inbox");
    before.shows("<script src=\"/static/push.");
    check_html(PAGE, &before.body);
    let added = add(&mut own, "My <phone>", "https://push.example/one").await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);
    assert_eq!(added.location(), "/portal/preferences?said=saved");
    let listed = own.get(PAGE).await;
    listed.shows("<h3>My &lt;phone&gt;</h3>");
    // Where it is stands on no page.
    assert!(!listed.body.contains("push.example"));
    check_html(PAGE, &listed.body);
    // Another session of theirs sees it, and can take it away.
    let mut elsewhere = world.patients_browser(&ida).await;
    let listed = elsewhere.get(PAGE).await;
    let id = ids(&listed).remove(0);
    let fields = [("do", "forget-device"), ("device", id.as_str())];
    let removed = elsewhere.act(PAGE, PAGE, &fields).await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER, "{}", removed.body);
    assert!(ids(&own.get(PAGE).await).is_empty());
    let twice = elsewhere.act(PAGE, PAGE, &fields).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST, "{}", twice.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_and_no_more() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    for number in 0..trust::identity::PUSH_DEVICES_MAX {
        let endpoint = format!("https://eu{number}.wide.example/x");
        let added = add(&mut own, "Phone", &endpoint).await;
        assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);
    }
    let page = own.get(PAGE).await;
    page.shows("there can't be more. Remove one to add another.");
    assert!(!page.body.contains("data-push"));
    check_html(PAGE, &page.body);
    let signer = world.trust.identity().push_key(TENANT).await.unwrap();
    let (key, auth) = (key(), "A".repeat(22));
    let fields = [
        ("do", "notify"),
        ("name", "Phone"),
        ("endpoint", "https://push.example/more"),
        ("key", &key),
        ("auth", &auth),
        ("signer", signer.public()),
    ];
    let more = own.act(PAGE, PAGE, &fields).await;
    assert_eq!(more.status, StatusCode::BAD_REQUEST);
    assert!(
        more.has("can't be more. Remove one first."),
        "{}",
        more.body
    );
    assert_eq!(ids(&own.get(PAGE).await).len(), 5);
}

/// A browser says where its push service is, and whoever holds a session can say anything.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_no_push_service_s_are_turned_down() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    for endpoint in [
        "http://push.example/x",
        "https://push.example.evil.example/x",
        "https://push.example@127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]:8080/x",
        "https://push.example:8443/x",
        "https://wide.example/x",
        "https://eu.wide.example#@push.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//push.example/x",
        "",
    ] {
        let added = add(&mut own, "Phone", endpoint).await;
        assert_eq!(
            added.status,
            StatusCode::BAD_REQUEST,
            "{endpoint}: {}",
            added.body
        );
    }
    assert!(ids(&own.get(PAGE).await).is_empty());
    // Neither is one without the session's token.
    let (key, auth) = (key(), "A".repeat(22));
    let fields = [
        ("do", "notify"),
        ("name", "Phone"),
        ("endpoint", "https://push.example/x"),
        ("key", &key),
        ("auth", &auth),
    ];
    assert_eq!(own.post(PAGE, &fields).await.status, StatusCode::FORBIDDEN);
    assert!(ids(&own.get(PAGE).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_notifications_of_somebody_else() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mona = world.patient("Mona", "Dal").await;
    let mut own = world.patients_browser(&ida).await;
    let mut other = world.patients_browser(&mona).await;
    add(&mut own, "Ida's", "https://push.example/shared").await;
    let id = ids(&own.get(PAGE).await).remove(0);
    let seen = other.get(PAGE).await;
    assert!(ids(&seen).is_empty() && !seen.body.contains("Ida's"));
    let fields = [("do", "forget-device"), ("device", id.as_str())];
    let taken = other.act(PAGE, PAGE, &fields).await;
    assert_eq!(taken.status, StatusCode::BAD_REQUEST);
    assert_eq!(ids(&own.get(PAGE).await), [id]);
    // The browser is Mona's now, and Ida's messages come to it no more.
    add(&mut other, "Mona's", "https://push.example/shared").await;
    assert_eq!(ids(&other.get(PAGE).await).len(), 1);
    assert!(ids(&own.get(PAGE).await).is_empty());
    // Who acts for a patient has none, and staff haven't.
    let proxy = crate::proxies::authorised(&world, &ida, "acts").await;
    let mut acts = crate::proxies::signed_in(&world, &proxy).await;
    assert_eq!(acts.get(PAGE).await.status, StatusCode::FORBIDDEN);
    let csrf = acts.get("/portal/sessions").await.field("csrf");
    let key = key();
    let auth = "A".repeat(22);
    let fields = [
        ("csrf", csrf.as_str()),
        ("do", "notify"),
        ("name", "Phone"),
        ("endpoint", "https://push.example/acts"),
        ("key", &key),
        ("auth", &auth),
    ];
    assert_eq!(acts.post(PAGE, &fields).await.status, StatusCode::FORBIDDEN);
    assert!(ids(&own.get(PAGE).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_else_ends_them_and_one_address_alone_asks_for_none() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let mut other = world.patients_browser(&ida).await;
    add(&mut own, "Phone", "https://push.example/x").await;
    add(&mut other, "Tablet", "https://push.example/y").await;
    let sessions = own.get("/portal/sessions").await;
    sessions.shows("Notifications are turned off with it on all devices but this one.");
    check_html("/portal/sessions", &sessions.body);
    let ended = own
        .act("/portal/sessions", "/portal/sessions/end-others", &[])
        .await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER);
    let page = own.get(PAGE).await;
    page.shows("<h3>Phone");
    assert_eq!(ids(&page).len(), 1);
    let only = [("do", "confidential"), ("address", "own@example.com")];
    own.act(PAGE, PAGE, &only).await;
    let page = own.get(PAGE).await;
    page.shows("so no notifications are sent");
    assert_eq!(ids(&page).len(), 1);
    assert!(!page.body.contains("data-push"));
    check_html(PAGE, &page.body);
}

/// Signs in in a browser that keeps its cookies, as who comes back does.
async fn back(world: &World, browser: &mut Browser, patient: &str) {
    let operator = trust::Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let secret = identity.make_link(&operator, patient, 3_600, false).await;
    let link = format!("/sign-in/link/{}", secret.unwrap());
    browser.get(&link).await;
    let done = browser.submit(&link, &[("birth_date", "1941-03-07")]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

/// What a browser keeps of these pages goes with a sign-out, and what shows notifications with it: so they end here too, and
/// the page says so.
#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_notifications_on_that_device_and_no_other() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mona = world.patient("Mona", "Dal").await;
    let mut keeps = world.patients_browser(&ida).await;
    add(&mut keeps, "Tablet", "https://push.example/tablet").await;
    let mut own = world.patients_browser(&ida).await;
    let added = add(&mut own, "Phone", "https://push.example/phone").await;
    let set = added.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(
        set.starts_with("cairn-device=") && set.contains("HttpOnly"),
        "{set}"
    );
    let page = own.get(PAGE).await;
    page.shows("Where you sign out, they end on that device");
    page.shows("You are here now");
    let out = own.act("/portal", "/sign-out", &[]).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    let cleared = out.headers["clear-site-data"].to_str().unwrap();
    assert!(cleared.contains("storage"), "{cleared}");
    let left = keeps.get(PAGE).await;
    assert!(ids(&left).len() == 1 && !left.has("<h3>Phone"));
    // Who was away for longer, and signs out in the session of today.
    back(&world, &mut own, &ida).await;
    add(&mut own, "Phone", "https://push.example/phone").await;
    back(&world, &mut own, &ida).await;
    own.get(PAGE).await.shows("You are here now");
    own.act("/portal", "/sign-out", &[]).await;
    assert_eq!(ids(&keeps.get(PAGE).await).len(), 1);
    // Signed out there from elsewhere.
    back(&world, &mut own, &ida).await;
    add(&mut own, "Phone", "https://push.example/phone").await;
    back(&world, &mut own, &ida).await;
    keeps
        .get("/portal/sessions")
        .await
        .shows("Notifications end where you sign out.");
    let identity = world.trust.identity();
    let mut cookies = own.cookies.iter();
    let (_, secret) = cookies.find(|(name, _)| name == "cairn").unwrap();
    let session = identity.session(secret).await.unwrap();
    let end = format!("/portal/sessions/{}/end", session.id);
    let ended = keeps.act("/portal/sessions", &end, &[]).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.body);
    assert_eq!(ids(&keeps.get(PAGE).await).len(), 1);
    // Somebody else signs out in the browser.
    back(&world, &mut own, &ida).await;
    add(&mut own, "Phone", "https://push.example/phone").await;
    back(&world, &mut own, &mona).await;
    assert!(ids(&own.get(PAGE).await).is_empty());
    own.act("/portal", "/sign-out", &[]).await;
    assert_eq!(ids(&keeps.get(PAGE).await).len(), 1);
}

/// Whoever looks makes nothing, and has the rest of the page.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_there_without_the_key() {
    let world = without_key().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = own.get(PAGE).await;
    page.shows("Notifications can't be turned on at the moment.");
    page.shows("Only at one address");
    check_html(PAGE, &page.body);
    let identity = world.trust.identity();
    assert!(identity.known_push_key(TENANT).await.unwrap().is_none());
}

/// In the preference centre they are a way like the others.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_a_way_to_choose() {
    const WISHES: &str = "/portal/preferences/messages";
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    add(&mut own, "Phone", "https://push.example/x").await;
    let page = own.get(WISHES).await;
    page.shows("Notification, then text message, then e-mail");
    page.shows("Notification only");
    check_html(WISHES, &page.body);
    let save = async |own: &mut Browser, care: &str| {
        let version = own.get(WISHES).await.field("version");
        let fields = [
            ("visits", "usual"),
            ("forms", "usual"),
            ("care", care),
            ("level", "all"),
            ("version", version.as_str()),
        ];
        let saved = own.act(WISHES, WISHES, &fields).await;
        assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    };
    // Whoever has chosen other ways is told that these are none of them.
    const NONE: &str = "notifications are not among it";
    assert!(!own.get(PAGE).await.has(NONE));
    save(&mut own, "email,sms").await;
    let page = own.get(PAGE).await;
    page.shows(NONE);
    check_html(PAGE, &page.body);
    save(&mut own, "push,email").await;
    assert!(!own.get(PAGE).await.has(NONE));
    let wishes = world.trust.vault().wishes(TENANT, &ida).await.unwrap();
    assert_eq!(wishes.ways(Topic::Care), Some(&[Via::Push, Via::Email][..]));
    // An order that the form has not is shown as it is, and stays.
    save(&mut own, "email,push").await;
    own.get(WISHES).await.shows("value=\"email,push\" selected");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_of_it_where_there_are_no_notifications() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = own.get(PAGE).await;
    assert!(!page.body.contains("Notifications") && !page.body.contains("push."));
    let added = add(&mut own, "Phone", "https://push.example/x").await;
    assert_eq!(added.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_ours_and_is_asked_for_anew() {
    let world = world().await;
    let mut nobody = world.browser();
    let worker = nobody.get("/sw.js").await;
    assert_eq!(worker.status, StatusCode::OK);
    let is = |name: header::HeaderName| worker.headers[name].to_str().unwrap().to_owned();
    assert_eq!(is(header::CONTENT_TYPE), "text/javascript; charset=utf-8");
    assert_eq!(is(header::CACHE_CONTROL), "no-cache");
    assert!(is(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'"));
    // It asks for nothing, and keeps nothing.
    for word in ["fetch", "caches", "importScripts", "eval"] {
        assert!(!worker.body.contains(word), "{word}");
    }
}

/// Whether anybody has seen a notification isn't known, and the chart says no more than is.
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_counts_as_taken_and_not_as_seen() {
    let world = world().await;
    let ida = world.patient("Ida", "Berg").await;
    let id = world.id_of(&ida);
    world
        .put(vec![json!({
            "resourceType": "Communication", "id": id, "status": "completed",
            "subject": { "reference": format!("Patient/{ida}") },
            "medium": [{ "coding": [{ "system": trust::conventions::MEDIUM_SYSTEM, "code": "PUSH" }] }],
            "sent": "2026-02-28T10:00:00Z", "topic": { "text": "Welcome home" },
            "payload": [{ "contentString": "Please weigh yourself." }]
        })])
        .await;
    let mut carla = world.staff("carla").await;
    let chart = carla.get(&format!("/console/patients/{ida}")).await;
    chart.shows("Taken by the push service");
    chart.shows("Notification");
    assert!(!chart.body.contains("Delivered"));
    let mut own = world.patients_browser(&ida).await;
    own.get(&format!("/portal/inbox/{id}"))
        .await
        .shows("Please weigh yourself.");
}

/// Where applications alone are told, the page says how they come, and offers no browser; notifications are a way all the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn where_applications_alone_are_told_the_page_says_so() {
    let world = World::new().await;
    world
        .trust
        .vault()
        .set_notifications(trust::identity::PushWays {
            fcm: true,
            ..trust::identity::PushWays::default()
        });
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = own.get(PAGE).await;
    page.shows("Notifications on your devices");
    page.shows("An app that you allowed to read your messages");
    assert!(!page.body.contains("data-push") && !page.has("No notifications are sent"));
    check_html(PAGE, &page.body);
    own.get("/portal/preferences/messages")
        .await
        .shows("Notification only");
    let fields = [
        ("do", "notify"),
        ("name", "Phone"),
        ("endpoint", "https://push.example/x"),
    ];
    let refused = own.act(PAGE, PAGE, &fields).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}

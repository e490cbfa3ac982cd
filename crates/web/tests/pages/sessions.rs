//! Where people are signed in: seen and ended by themselves in the portal, by administrators in the console, and
//! by nobody else.

use axum::http::StatusCode;
use fhir::ResourceType;
use trust::Agent;
use trust::identity::{NewApp, NewGrant, SystemKeys, wanted_scopes};

use crate::passkeys::session;
use crate::world::{Browser, DAY_MS, Page, TENANT, World, check_html};

const OWN: &str = "/portal/sessions";
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
const DESK: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0";

/// A patient, signed in by a link in a browser that says what it is.
async fn signed_in(world: &World, patient: &str, user_agent: &'static str) -> Browser {
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let secret = identity.make_link(&operator, patient, 3600, false).await;
    let mut browser = world.browser();
    browser.user_agent = Some(user_agent);
    let link = format!("/sign-in/link/{}", secret.unwrap());
    browser.get(&link).await;
    let done = browser.submit(&link, &[("birth_date", "1941-03-07")]).await;
    assert_eq!(done.location(), "/portal", "{}", done.body);
    browser
}

fn is_out(page: &Page) -> bool {
    page.status == StatusCode::SEE_OTHER && page.location().starts_with("/sign-in")
}

/// How many sessions a page of the portal lists.
fn listed(page: &Page) -> usize {
    page.body.matches("<li class=\"card stack\"").count()
}

async fn end(browser: &mut Browser, id: &str) -> Page {
    browser.act(OWN, &format!("{OWN}/{id}/end"), &[]).await
}

// Proves: 45 CFR 164.312(d)
#[tokio::test(flavor = "multi_thread")]
async fn patients_see_where_they_are_signed_in_and_end_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lind").await;
    let mut phone = signed_in(&world, &ida, PHONE).await;
    world.wall.advance(60_000);
    let mut desk = signed_in(&world, &ida, DESK).await;
    let mut his = signed_in(&world, &olaf, PHONE).await;
    // Somebody who acts for her has sessions of their own, on the same patient.
    let acts = crate::proxies::authorised(&world, &ida, "mona").await;
    let mut mona = crate::proxies::signed_in(&world, &acts).await;

    let page = desk.get(OWN).await;
    check_html(OWN, &page.body);
    page.shows("Safari on an iPhone");
    page.shows("Firefox on a Windows computer");
    page.shows("with a link from a message");
    page.shows("href=\"/portal/apps\"");
    assert_eq!(listed(&page), 2, "{}", page.body);
    assert_eq!(page.body.matches("You are here now").count(), 1);
    let here = session(&world, &desk).await.id;
    assert!(
        !page.has(&format!("{OWN}/{here}/end")),
        "it ends by signing out"
    );

    // Nobody ends another's, whether a patient's, a proxy's or one of staff, nor what is none.
    let staff = world.staff("carla").await;
    let own = session(&world, &phone).await.id;
    for id in [
        session(&world, &his).await.id,
        session(&world, &mona).await.id,
        session(&world, &staff).await.id,
        olaf.clone(),
        "nothing".to_owned(),
    ] {
        let refused = end(&mut desk, &id).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        assert!(refused.has("There is no such session"), "{}", refused.body);
    }
    for other in [&mut his, &mut mona] {
        let refused = end(other, &own).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        other.get("/portal").await.shows("<h1");
    }
    phone.get("/portal").await.shows("<h1");

    let done = end(&mut desk, &own).await;
    assert_eq!(done.location(), "/portal/sessions?said=ended");
    assert!(is_out(&phone.get("/portal").await));
    let page = desk.get(done.location()).await;
    page.shows("Signed out there");
    assert_eq!(listed(&page), 1);
    page.shows("You are signed in nowhere else.");
    // It is in her own trail.
    desk.get("/portal/record?own=yes")
        .await
        .shows("signed out elsewhere");

    let mut phone = signed_in(&world, &ida, PHONE).await;
    let mut tablet = signed_in(&world, &ida, PHONE).await;
    let others = format!("{OWN}/end-others");
    assert_eq!(listed(&desk.get(OWN).await), 3);
    let done = desk.act(OWN, &others, &[]).await;
    desk.get(done.location())
        .await
        .shows("Signed out everywhere else");
    assert!(is_out(&phone.get(OWN).await) && is_out(&tablet.get(OWN).await));
    for one in [&mut desk, &mut his, &mut mona] {
        one.get(OWN).await.shows("Where you are signed in");
    }
    // A session whose time is over is not listed, whether swept or not.
    let _late = signed_in(&world, &ida, PHONE).await;
    for _ in 0..2 {
        world.wall.advance(8 * 60_000);
        desk.get(OWN).await.shows("<h1");
    }
    assert_eq!(listed(&desk.get(OWN).await), 1);
    world.wall.advance(DAY_MS);
    assert!(is_out(&desk.get(OWN).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_patients_sees_their_own_sessions_for_all_of_them() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lind").await;
    let mut hers = world.patients_browser(&ida).await;
    let for_ida = crate::proxies::authorised(&world, &ida, "mona").await;
    let for_olaf = crate::proxies::authorised(&world, &olaf, "mona").await;
    let stranger = crate::proxies::authorised(&world, &ida, "erik").await;
    let mut mona = crate::proxies::signed_in(&world, &for_ida).await;
    let mut again = crate::proxies::signed_in(&world, &for_olaf).await;
    let mut erik = crate::proxies::signed_in(&world, &stranger).await;
    let page = mona.get(OWN).await;
    check_html(OWN, &page.body);
    assert_eq!(listed(&page), 2, "{}", page.body);
    assert!(
        !page.has("/portal/apps"),
        "no app acts for who acts for others"
    );
    assert_eq!(listed(&erik.get(OWN).await), 1);
    for other in [
        session(&world, &hers).await.id,
        session(&world, &erik).await.id,
    ] {
        let refused = end(&mut mona, &other).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    }
    let done = mona.act(OWN, &format!("{OWN}/end-others"), &[]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert!(is_out(&again.get(OWN).await));
    for one in [&mut mona, &mut hers, &mut erik] {
        one.get(OWN).await.shows("Where you are signed in");
    }
    // Staff have a page of their own, and its forms.
    let mut carla = world.staff("carla").await;
    let refused = carla.get(OWN).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let mut second = world.staff("carla").await;
    let page = "/console/sign-in";
    let refused = carla.act(page, &format!("{OWN}/end-others"), &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    second.get(page).await.shows("with password and code");
    let to = "/console/sign-in/sessions/end-others";
    let done = carla.act(page, to, &[]).await;
    carla.get(done.location()).await.shows("All others ended");
    assert!(is_out(&second.get(page).await));
}

/// The path of the page of one account.
async fn page_of(world: &World, user_name: &str) -> String {
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let id = identity.account_named(&operator, user_name).await.unwrap();
    format!("/console/accounts/{}", id.unwrap())
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn administrators_see_sessions_and_apps_of_accounts_and_end_each() {
    let world = World::new().await;
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "demo");
    let mut ada = world.staff("ada").await;
    let mut devi = world.staff("devi").await;
    let mut kept = world.staff("devi").await;
    let carla = world.staff("carla").await;
    let back = "https://app.example.org/back";
    let app = NewApp {
        name: "Growth Chart".to_owned(),
        redirect_uris: vec![back.to_owned()],
        launch_uri: None,
        scopes: "offline_access user/*.rs".to_owned(),
        keys: SystemKeys::None,
    };
    let app = identity.register_app(&operator, &app).await.unwrap();
    let app = identity.app(TENANT, &app).await.unwrap().unwrap();
    let grant = NewGrant {
        app: &app,
        redirect_uri: back,
        challenge: &"a".repeat(43),
        scopes: &wanted_scopes("user/Patient.r").unwrap(),
        patient: None,
        launch: None,
        nonce: None,
        context: None,
    };
    let of_kept = session(&world, &kept).await;
    identity.allow(&of_kept, grant).await.unwrap();
    let grant = identity.grants_of(&of_kept).await.unwrap()[0].id.clone();

    let here = page_of(&world, "devi").await;
    let all = ada.get("/console/accounts").await;
    all.shows(&format!("href=\"{here}\">2 sessions"));
    let page = ada.get(&here).await;
    check_html(&here, &page.body);
    page.shows("2 sessions");
    page.shows("with password and code");
    page.shows("Growth Chart");
    page.shows("while they are signed in");

    // Only its own, of accounts that there are.
    let ended = session(&world, &devi).await.id;
    let of_carla = session(&world, &carla).await.id;
    let of_ada = page_of(&world, "ada").await;
    for (page, id) in [(&here, &of_carla), (&of_ada, &ended), (&here, &grant)] {
        let to = format!("{page}/sessions/{id}/end");
        let refused = ada.act(page, &to, &[]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{to}");
    }
    let to = format!("{of_ada}/apps/{grant}/end");
    let refused = ada.act(&here, &to, &[]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    assert_eq!(identity.grants_of(&of_kept).await.unwrap().len(), 1);
    for nobody in ["nobody", "a%2Fb", &of_carla] {
        let page = ada.get(&format!("/console/accounts/{nobody}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nobody}");
    }
    // Others are refused, before they learn whether there is such a one.
    for other in ["carla", "priya", "devi"] {
        let mut other = world.staff(other).await;
        for page in [&here, &"/console/accounts/nobody".to_owned()] {
            assert_eq!(other.get(page).await.status, StatusCode::FORBIDDEN);
        }
        let csrf = other.get("/console/sign-in").await.field("csrf");
        let to = format!("{here}/sessions/{ended}/end");
        let refused = other.post(&to, &[("csrf", &csrf)]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    }
    devi.get("/console/worklist").await.shows("Worklist");

    let done = ada
        .act(&here, &format!("{here}/sessions/{ended}/end"), &[])
        .await;
    ada.get(done.location()).await.shows("Session ended");
    assert!(is_out(&devi.get("/console/worklist").await));
    kept.get("/console/worklist").await.shows("Worklist");
    let done = ada
        .act(&here, &format!("{here}/apps/{grant}/end"), &[])
        .await;
    ada.get(done.location()).await.shows("App taken away");
    assert!(identity.grants_of(&of_kept).await.unwrap().is_empty());
    kept.get("/console/worklist").await.shows("Worklist");
    let mut priya = world.staff("priya").await;
    let audit = priya.get("/console/audit?action=110137").await;
    audit.shows("a session ended");
    audit.shows(&format!("application {} taken away", app.id));
}

/// Of a patient's account, links' sessions and those of who acts for them are listed and told apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_s_account_has_the_sessions_of_links_too() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let operator = Agent::system(TENANT, "demo");
    let account = trust::identity::NewAccount {
        tenant: TENANT,
        user_name: "ida".to_owned(),
        name: "Ida Berg".to_owned(),
        role: trust::Role::Patient,
        password: crate::world::PASSWORD.to_owned(),
        patient: Some(ida.clone()),
    };
    let identity = world.trust.identity();
    identity.create(&operator, account).await.unwrap();
    let mut link = signed_in(&world, &ida, PHONE).await;
    let acts = crate::proxies::authorised(&world, &ida, "mona").await;
    let mut mona = crate::proxies::signed_in(&world, &acts).await;
    let mut by_password = world.browser();
    by_password.get("/sign-in").await;
    let fields = [("user", "ida"), ("password", crate::world::PASSWORD)];
    by_password.submit("/sign-in", &fields).await;
    // She sees both of hers, by whichever way she came.
    for own in [&mut link, &mut by_password] {
        let page = own.get(OWN).await;
        assert_eq!(listed(&page), 2, "{}", page.body);
        page.shows("with your password");
        page.shows("with a link from a message");
    }
    let mut ada = world.staff("ada").await;
    let here = page_of(&world, "ida").await;
    let page = ada.get(&here).await;
    check_html(&here, &page.body);
    page.shows("3 sessions");
    page.shows("<span class=\"tag\">acts for the patient</span>");
    page.shows("Safari on an iPhone");
    assert!(!page.has("Ida Berg"), "administrators open no record");
    let of_mona = session(&world, &mona).await.id;
    ada.act(&here, &format!("{here}/sessions/{of_mona}/end"), &[])
        .await;
    assert!(is_out(&mona.get("/portal").await));
    link.get("/portal").await.shows("<h1");
    let trail = world.all(ResourceType::AuditEvent, &ida).await;
    let told = |event: &fhir::Resource| {
        event
            .text_at(&["outcomeDesc"])
            .is_some_and(|note| note.ends_with("a session ended"))
    };
    assert!(trail.iter().any(told), "it is in her trail");
}

/// As long as a server takes a session from its memory.
const RECHECK_MS: u64 = 30_000;

/// A server that has somebody's session in its memory, and a page of theirs open.
// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_at_one_server_ends_at_the_other_within_a_minute() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let elsewhere = world.elsewhere();
    let mut ada = world.staff("ada").await;
    let close = format!("{}/close", page_of(&world, "devi").await);
    let mut browsers = [
        world.staff("devi").await,
        world.patients_browser(&ida).await,
        world.staff("carla").await,
    ];
    let mut live = Vec::new();
    for (browser, page) in browsers.iter_mut().zip([
        format!("/console/patients/{ida}"),
        "/portal".to_owned(),
        "/console/worklist".to_owned(),
    ]) {
        browser.router = elsewhere.clone();
        let page = browser.get(&page).await;
        let address = page.body.split("data-live=\"").nth(1).unwrap();
        let address = address.split('"').next().unwrap().replace("&amp;", "&");
        let mut body = browser.open(&address).await.into_body();
        crate::live::until(&mut body, ": live").await;
        live.push(body);
    }
    let page = "/console/accounts";
    let done = ada.act(page, &close, &[]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let done = ada.act(page, page, &[("patient", &ida)]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    world.wall.advance(RECHECK_MS);
    let [devi, own, carla] = &mut browsers;
    // Open pages look by themselves, at the latest ten seconds later.
    for body in &mut live[..2] {
        crate::live::until(body, "event: end").await;
    }
    assert!(is_out(&devi.get("/console/worklist").await));
    assert!(is_out(&own.get("/portal").await));
    carla.get("/console/worklist").await.shows("Worklist");
}

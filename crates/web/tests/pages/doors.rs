//! Signing in and out, who gets through which door, and what every answer carries.

use axum::http::{StatusCode, header};

use crate::world::{PASSWORD, World, check_html};

// Proves: 45 CFR 164.312(d)
// Proves: proposed 45 CFR 164.312(f)(2)(ii)
#[tokio::test(flavor = "multi_thread")]
async fn staff_sign_in_with_password_and_code() {
    let world = World::with(true).await;
    let mut browser = world.browser();
    assert_eq!(browser.get("/").await.location(), "/sign-in");
    let page = browser.get("/console/worklist?who=mine").await;
    assert_eq!(
        page.location(),
        "/sign-in?next=%2Fconsole%2Fworklist%3Fwho%3Dmine"
    );

    let page = browser
        .get("/sign-in?next=%2Fconsole%2Fworklist%3Fwho%3Dmine")
        .await;
    page.shows("Demo logins");
    let next = page.field("next");
    let wrong = browser
        .submit("/sign-in", &[("user", "carla"), ("password", "nope")])
        .await;
    wrong.shows("User name or password is wrong.");
    let unknown = browser
        .submit("/sign-in", &[("user", "nobody"), ("password", "nope")])
        .await;
    unknown.shows("User name or password is wrong.");

    let step = browser
        .submit(
            "/sign-in",
            &[("user", "carla"), ("password", PASSWORD), ("next", &next)],
        )
        .await;
    step.shows("Your one-time code");
    let ticket = step.field("ticket");
    let wrong = browser
        .submit(
            "/sign-in/code",
            &[("ticket", &ticket), ("user", "carla"), ("code", "000000")],
        )
        .await;
    wrong.shows("The code is wrong");
    let code = world.code("carla");
    let done = browser
        .submit(
            "/sign-in/code",
            &[
                ("ticket", &ticket),
                ("user", "carla"),
                ("code", &code),
                ("next", &next),
            ],
        )
        .await;
    assert_eq!(done.location(), "/console/worklist?who=mine");
    let cookie = done.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-cairn="), "{cookie}");
    for part in ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    browser.get("/console/worklist").await.shows("Worklist");
    assert_eq!(browser.get("/").await.location(), "/console/worklist");

    let out = browser.act("/console/worklist", "/sign-out", &[]).await;
    assert_eq!(out.location(), "/sign-in");
    assert_eq!(
        browser.get("/console/worklist").await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_needs_its_own_form() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser
        .post("/sign-in", &[("user", "carla"), ("password", PASSWORD)])
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    browser.get("/sign-in").await;
    let page = browser
        .post(
            "/sign-in",
            &[("form", "guess"), ("user", "carla"), ("password", PASSWORD)],
        )
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_by_idleness() {
    let world = World::new().await;
    let mut carla = world.staff("carla").await;
    world.wall.advance(600_000);
    carla.get("/console/worklist").await.shows("Worklist");
    world.wall.advance(901_000);
    assert_eq!(
        carla.get("/console/worklist").await.status,
        StatusCode::SEE_OTHER
    );
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn everybody_has_their_own_doors() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lie").await;
    let message = world.id_of(&olaf);
    world
        .put(vec![serde_json::json!({
            "resourceType": "Communication", "id": message, "status": "completed", "subject": { "reference": format!("Patient/{olaf}") },
            "topic": { "text": "Private" }, "payload": [{ "contentString": "for Olaf only" }],
        })])
        .await;
    let mut own = world.patients_browser(&ida).await;
    for path in [
        "/console/worklist".to_owned(),
        format!("/console/patients/{ida}"),
        "/console/audit".to_owned(),
        "/console/mailbox".to_owned(),
        "/console/mailbox/1".to_owned(),
        "/console/accounts".to_owned(),
    ] {
        let page = own.get(&path).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{path}");
        check_html(&path, &page.body);
    }
    let page = own.get(&format!("/portal/inbox/{message}")).await;
    assert!(page.status == StatusCode::NOT_FOUND || page.status == StatusCode::FORBIDDEN);
    assert!(!page.has("for Olaf only"));

    for (user, path, status) in [
        ("carla", "/portal", StatusCode::FORBIDDEN),
        ("carla", "/console/audit", StatusCode::FORBIDDEN),
        ("priya", "/console/worklist", StatusCode::FORBIDDEN),
        ("priya", "/console/audit", StatusCode::OK),
        ("sam", "/console/journeys/publish", StatusCode::OK),
        ("sam", "/console/worklist", StatusCode::FORBIDDEN),
        ("devi", "/console/journeys/publish", StatusCode::FORBIDDEN),
        ("ada", "/console/journeys", StatusCode::OK),
        ("ada", "/console/patients", StatusCode::FORBIDDEN),
        ("ada", "/console/accounts", StatusCode::OK),
        ("carla", "/console/accounts", StatusCode::FORBIDDEN),
        ("devi", "/console/accounts", StatusCode::FORBIDDEN),
        ("priya", "/console/accounts", StatusCode::FORBIDDEN),
        ("sam", "/console/accounts", StatusCode::FORBIDDEN),
        ("carla", "/console/mailbox", StatusCode::OK),
        ("devi", "/console/mailbox", StatusCode::OK),
        ("priya", "/console/mailbox", StatusCode::FORBIDDEN),
        ("sam", "/console/mailbox", StatusCode::FORBIDDEN),
        ("sam", "/console/mailbox/1", StatusCode::FORBIDDEN),
        ("ada", "/console/mailbox", StatusCode::FORBIDDEN),
    ] {
        let page = world.staff(user).await.get(path).await;
        assert_eq!(page.status, status, "{user} at {path}: {}", page.body);
    }
    let page = world
        .staff("sam")
        .await
        .get(&format!("/console/patients/{ida}"))
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(!page.has("Berg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_armoured_and_no_page_has_anything_inline() {
    let world = World::with(true).await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "urgent", "Call").await;
    let mut nobody = world.browser();
    let css = {
        let page = nobody.get("/sign-in").await;
        let at = page.body.find("/static/cairn.").unwrap();
        page.body[at..].split('"').next().unwrap().to_owned()
    };
    let mut answers = Vec::new();
    for path in [
        "/",
        "/sign-in",
        "/sign-in/link/abc",
        "/nowhere",
        "/console/worklist",
        &css,
        "/static/none.css",
    ] {
        answers.push((path.to_owned(), nobody.get(path).await));
    }
    let mut carla = world.staff("carla").await;
    for path in [
        "/console/worklist",
        "/console/worklist?who=all&state=done",
        "/console/patients",
        &format!("/console/patients/{ida}"),
        "/console/journeys",
        "/console/mailbox",
        "/console/patients/none",
        "/console/audit",
    ] {
        answers.push((path.to_owned(), carla.get(path).await));
    }
    let mut priya = world.staff("priya").await;
    answers.push((
        "/console/audit".to_owned(),
        priya.get("/console/audit").await,
    ));
    let mut sam = world.staff("sam").await;
    answers.push((
        "/console/journeys/publish".to_owned(),
        sam.get("/console/journeys/publish").await,
    ));
    let mut ada = world.staff("ada").await;
    answers.push((
        "/console/accounts".to_owned(),
        ada.get("/console/accounts").await,
    ));
    // What the framework refuses by itself, and what is too long.
    answers.push((
        "/console/patients/%ff".to_owned(),
        carla.get("/console/patients/%ff").await,
    ));
    let long = "x".repeat(3 << 20);
    let page = carla.post("/console/patients", &[("name", &long)]).await;
    assert_eq!(page.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(page.has("larger than this server takes"), "{}", page.body);
    answers.push(("too long".to_owned(), page));
    let mut own = world.patients_browser(&ida).await;
    for path in [
        "/portal",
        "/portal/inbox",
        "/portal/consent",
        "/portal/record",
        "/portal/preferences",
        "/portal/preferences/messages",
        "/portal/weight",
        "/portal/forms/none",
    ] {
        answers.push((path.to_owned(), own.get(path).await));
    }
    for (path, page) in &answers {
        let header = |name: &str| {
            page.headers
                .get(name)
                .unwrap_or_else(|| panic!("{path} has no {name}"))
                .to_str()
                .unwrap()
        };
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            "{path}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            header("cross-origin-opener-policy"),
            "same-origin",
            "{path}"
        );
        assert!(header("permissions-policy").contains("camera=()"), "{path}");
        assert!(
            header("strict-transport-security").starts_with("max-age="),
            "{path}"
        );
        assert!(!header("x-request-id").is_empty(), "{path}");
        let kept = header("cache-control");
        if *path == css {
            assert_eq!(kept, "public, max-age=31536000, immutable");
        } else {
            assert_eq!(kept, "no-store", "{path}");
        }
        let html = page
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.to_str().unwrap().starts_with("text/html"));
        if !html && path != &css && !page.status.is_redirection() {
            panic!("{path} is {} and no page", page.status);
        }
        if html {
            check_html(path, &page.body);
            assert!(
                page.body.len() < 100_000,
                "{path} is {} bytes",
                page.body.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_theme_is_remembered_without_javascript() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser
        .post("/theme", &[("back", "https://evil.example/")])
        .await;
    assert_eq!(page.location(), "/");
    browser.get("/sign-in").await.shows("data-theme=\"dark\"");
    browser.post("/theme", &[("back", "/sign-in")]).await;
    browser.get("/sign-in").await.shows("data-theme=\"light\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_says_where_its_people_are_from() {
    for (imported, words, not) in [
        (false, "All people here are made up.", "came from files"),
        (true, "came from files and may be real", "made up"),
    ] {
        let world = World::made(|web| web.demo_people_imported = imported).await;
        let ida = world.patient("Ida", "Berg").await;
        let mut carla = world.staff("carla").await;
        let mut own = world.patients_browser(&ida).await;
        for page in [
            world.browser().get("/sign-in").await,
            carla.get("/console/worklist").await,
            own.get("/portal").await,
        ] {
            page.shows(words);
            assert!(!page.has(not), "{}", page.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_pages_are_never_too_large() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "urgent", "Call her").await;
    let mut carla = world.staff("carla").await;
    for page in ["0", "2", "18446744073709551615", "-1", "x"] {
        carla
            .get(&format!("/console/worklist?page={page}"))
            .await
            .shows("Call her");
        carla
            .get(&format!("/console/patients/{ida}?page={page}"))
            .await
            .shows("Call her");
        let mut ada = world.staff("ada").await;
        ada.get(&format!("/console/accounts?page={page}"))
            .await
            .shows("Carla Ortiz");
    }
}

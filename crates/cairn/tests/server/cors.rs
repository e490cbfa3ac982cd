//! Applications that run in a browser on another origin: whose pages are answered, where, and with what.

use cairn::store::TENANT;
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use trust::identity::{NewApp, SystemKeys};

use crate::apps::{self, BACK, Browser};
use crate::house::{House, administers, assert_outcome, header, house, house_with};

const ORIGIN: &str = "https://app.example.org";

async fn app_at(house: &House, back: &str) -> String {
    apps::app_with(house, SystemKeys::None, back).await
}

async fn send(house: &House, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = house.bare(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

async fn asks(house: &House, path: &str, origin: &str, method: &str) -> Response {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    send(house, Method::OPTIONS, path, &headers).await
}

/// Where an application's page may ask.
const OPEN: [&str; 10] = [
    "/fhir/r4/metadata",
    "/fhir/r4/Patient/ann",
    "/fhir/r4/.well-known/smart-configuration",
    "/fhir/r4/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server/fhir/r4",
    "/oauth/token",
    "/oauth/revoke",
    "/oauth/introspect",
    "/oauth/register",
    "/oauth/keys",
];
/// Where no page of another origin is answered: whatever a cookie opens, and what is for programs alone.
const CLOSED: [&str; 9] = [
    "/",
    "/sign-in",
    "/oauth/authorize",
    "/console/accounts",
    "/portal",
    "/api/journeys",
    "/audit/log/checkpoint",
    "/health/live",
    "/metrics",
];

fn has_no_leave(answer: &Response) {
    let said = answer.headers().keys();
    let said: Vec<_> = said
        .filter(|name| name.as_str().starts_with("access-control-"))
        .collect();
    assert!(said.is_empty(), "{} {said:?}", answer.url());
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn only_pages_of_apps_are_answered_and_only_where_apps_ask() {
    let house = house().await;
    apps::furnished(&house).await;
    // Nobody is let in yet.
    has_no_leave(&send(&house, Method::GET, OPEN[0], &[("origin", ORIGIN)]).await);
    app_at(&house, BACK).await;
    for path in OPEN {
        let answer = send(&house, Method::GET, path, &[("origin", ORIGIN)]).await;
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            ORIGIN,
            "{path}"
        );
        assert_eq!(
            header(&answer, "access-control-allow-credentials"),
            "",
            "{path}"
        );
        let exposed = header(&answer, "access-control-expose-headers");
        for name in [
            "etag",
            "location",
            "content-location",
            "last-modified",
            "www-authenticate",
            "x-request-id",
        ] {
            assert!(exposed.contains(name), "{path}: {exposed}");
        }
        assert_ne!(header(&answer, "x-request-id"), "", "{path}");
        // Caches between keep an answer for each origin.
        for headers in [
            &[("origin", ORIGIN)][..],
            &[],
            &[("origin", "https://evil.example")],
        ] {
            let answer = send(&house, Method::GET, path, headers).await;
            let vary = answer.headers().get_all("vary").iter();
            assert!(
                vary.into_iter().any(|one| one == "origin"),
                "{path} {headers:?}"
            );
        }
        // Its browser asks first, without any token.
        let answer = asks(&house, path, ORIGIN, "GET").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(
            header(&answer, "access-control-allow-origin"),
            ORIGIN,
            "{path}"
        );
        assert_eq!(
            header(&answer, "access-control-allow-credentials"),
            "",
            "{path}"
        );
        assert_eq!(header(&answer, "access-control-max-age"), "600", "{path}");
        let methods = header(&answer, "access-control-allow-methods");
        assert_eq!(
            methods.contains("DELETE"),
            path.starts_with("/fhir/"),
            "{path}"
        );
        let taken = header(&answer, "access-control-allow-headers");
        for name in ["authorization", "content-type", "if-match", "prefer"] {
            assert!(taken.contains(name), "{path}: {taken}");
        }
        assert!(!taken.contains('*'), "{path}");
    }
    for path in CLOSED {
        has_no_leave(&send(&house, Method::GET, path, &[("origin", ORIGIN)]).await);
        let answer = asks(&house, path, ORIGIN, "GET").await;
        assert_ne!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        has_no_leave(&answer);
    }
    for origin in [
        "https://evil.example",
        "https://app.example.org.evil.example",
        "https://app.example.org:8443",
        "http://app.example.org",
        "https://APP.example.org",
        "https://app.example.org/",
        "null",
        "*",
        "",
        "http://127.0.0.1:4000",
        &format!("https://{}", "a".repeat(2000)),
    ] {
        for path in OPEN {
            has_no_leave(&send(&house, Method::GET, path, &[("origin", origin)]).await);
            let answer = asks(&house, path, origin, "GET").await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {origin}");
            has_no_leave(&answer);
        }
    }
    let answer = asks(&house, "/fhir/r4/Patient", "https://evil.example", "GET").await;
    assert_outcome(answer, 403, "forbidden").await;
    // Two origins are none.
    let twice = [("origin", ORIGIN), ("origin", ORIGIN)];
    has_no_leave(&send(&house, Method::GET, OPEN[0], &twice).await);
    // An OPTIONS that no browser asks with is what it was.
    let answer = send(
        &house,
        Method::OPTIONS,
        "/fhir/r4/Patient/ann",
        &[
            ("origin", ORIGIN),
            ("authorization", &format!("Bearer {}", house.token)),
        ],
    )
    .await;
    assert_ne!(header(&answer, "accept-patch"), "");
    house.end().await;
}

#[tokio::test]
async fn an_origin_counts_as_long_as_its_app_is_let_in() {
    let house = house_with(|options| options.open_registration = true).await;
    let known = async |origin: &str| {
        let answer = send(&house, Method::GET, OPEN[0], &[("origin", origin)]).await;
        header(&answer, "access-control-allow-origin") == origin
    };
    let first = app_at(&house, BACK).await;
    let other = "https://other.example.org:8443";
    assert!(known(ORIGIN).await && !known(other).await);
    app_at(&house, &format!("{other}/back")).await;
    assert!(known(ORIGIN).await && known(other).await);
    // Of a program on the person's own machine, at whichever port it listens.
    let own = "http://127.0.0.1:5173";
    assert!(!known(own).await);
    app_at(&house, "http://127.0.0.1/back").await;
    assert!(known(own).await && !known("http://[::1]:5173").await);
    // One that only asks to be let in is nobody yet.
    let asked = json!({
        "client_name": "Late", "redirect_uris": ["https://late.example.org/back"],
        "token_endpoint_auth_method": "none", "scope": "launch/patient patient/*.rs",
    });
    let answer = house.bare(Method::POST, "/oauth/register");
    let answer = answer.header("content-type", "application/json");
    let answer = answer.body(asked.to_string()).send().await;
    let told: serde_json::Value = answer.expect("an answer").json().await.expect("JSON");
    assert!(!known("https://late.example.org").await);
    let trust = house.server.trust();
    let permit = administers(&house.server).await;
    let id = told["client_id"].as_str().expect("an id");
    let approved = trust.identity().approve_system(&permit, id, "patient/*.rs");
    approved.await.expect("approved");
    assert!(known("https://late.example.org").await);
    // And no more.
    let revoked = trust
        .identity()
        .revoke_client(&permit, &first, "gone")
        .await;
    revoked.expect("revoked");
    assert!(!known(ORIGIN).await && known(other).await);
    // Of another organisation nobody is known here.
    assert_eq!(permit.tenant(), TENANT);
    house.end().await;
}

/// What a page of another origin could do with somebody's session: nothing, there is none in what it reads.
#[tokio::test]
async fn a_session_opens_nothing_for_pages_of_other_origins() {
    let house = house().await;
    apps::furnished(&house).await;
    app_at(&house, BACK).await;
    let ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let cookies: Vec<String> = (ann.cookies.iter())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let cookies = cookies.join("; ");
    let headers = [("origin", ORIGIN), ("cookie", cookies.as_str())];
    let answer = send(&house, Method::GET, "/fhir/r4/Patient/ann", &headers).await;
    // The refusal can be read by the application; it holds nothing of anybody.
    assert_eq!(header(&answer, "access-control-allow-origin"), ORIGIN);
    assert_ne!(header(&answer, "www-authenticate"), "");
    assert_outcome(answer, 401, "login").await;
    let answer = send(&house, Method::GET, "/portal", &headers).await;
    assert_eq!(answer.status(), StatusCode::OK);
    has_no_leave(&answer);
    house.end().await;
}

/// The scopes of an application don't matter: it is the address that people agreed to be led to.
#[tokio::test]
async fn every_redirect_address_counts() {
    let house = house().await;
    let app = NewApp {
        name: "Two".to_owned(),
        redirect_uris: vec![
            "https://One.example.org:443/back".to_owned(),
            "https://two.example.org/back?x=1".to_owned(),
        ],
        launch_uri: None,
        scopes: "patient/*.rs".to_owned(),
        keys: SystemKeys::None,
    };
    let identity = house.server.trust().identity();
    identity
        .register_app(&apps::by(), &app)
        .await
        .expect("an id");
    for origin in ["https://one.example.org", "https://two.example.org"] {
        let answer = send(&house, Method::GET, OPEN[0], &[("origin", origin)]).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), origin);
    }
    house.end().await;
}

//! Pages and forms: ways that lead elsewhere, forms that come from elsewhere, sessions that somebody else
//! brought, cookies, and what every answer carries.

use ledger::{SHARDS, Shard};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::json;
use trust::{Role, kinds};

use crate::apps::{self, Browser, Page, agent, request};
use crate::house::{House, certificate, header, house, house_with};
use crate::routes::{Who, asked, guards, patient, person};

/// Ways to elsewhere, as people have found them where they were looked for less strictly.
const ELSEWHERE: [&str; 40] = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\\/evil.example",
    "https://evil.example",
    "HTTPS://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:\\\\evil.example",
    "javascript:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,evil.example",
    "/portal//evil.example",
    "/portal/\\evil.example",
    "/portal\\@evil.example",
    "/portal/..//evil.example",
    "/portal/%2e%2e//evil.example",
    "/\tportal",
    "/\t/evil.example",
    "/\n/evil.example",
    "/portal\r\nset-cookie: evil=1",
    "/portal\nlocation: https://evil.example",
    "/portal\r\n%0d%0aset-cookie:%20evil=1",
    "/portal\u{0}",
    "/portal\u{85}evil.example",
    "/portal\u{2028}evil.example",
    "/portal evil.example",
    "/%2f%2fevil.example",
    "/%5cevil.example",
    "/.evil.example",
    "/;@evil.example",
    "?next=//evil.example",
    "#evil.example",
    ".evil.example",
    "@evil.example",
    "evil.example",
    "/oauth/authorize//evil.example?",
];

/// Where an answer leads is a place of this server.
fn stays(house: &House, page: &Page, way: &str) {
    let base = Url::parse(&house.url("/")).expect("an address");
    let target = base.join(&page.location).expect("an address");
    assert_eq!(target.origin(), base.origin(), "{way:?}: {}", page.location);
    assert!(
        !page.location.contains("evil"),
        "{way:?}: {}",
        page.location
    );
}

#[tokio::test]
async fn no_way_back_leads_elsewhere() {
    let house = house().await;
    apps::furnished(&house).await;
    let identity = house.server.trust().identity();
    let link = identity
        .make_link(&agent(Role::Coordinator), "ann", 3600, true)
        .await
        .expect("a link");
    let link = format!("/sign-in/link/{link}");
    for way in ELSEWHERE {
        let mut browser = Browser::new(&house);
        let next = apps::query(&[("next", way)]);
        // Shown in no form, and not followed out of one.
        for path in [format!("/sign-in?{next}"), format!("{link}?{next}")] {
            let page = browser.get(&path).await;
            assert_eq!(page.fields("next"), Vec::<String>::new(), "{way:?}");
        }
        let token = browser.get(&link).await.field("form");
        let fields = [
            ("form", token.as_str()),
            ("birth_date", "1950-02-03"),
            ("next", way),
        ];
        let done = browser.post(&link, &fields).await;
        assert_eq!(done.location, "/portal", "{way:?}");
        let done = browser.post("/theme", &[("back", way)]).await;
        stays(&house, &done, way);
        assert!(
            browser.cookies.iter().all(|(name, _)| name != "evil"),
            "{way:?}"
        );
        // Nor from the address itself.
        let mut out = Browser::new(&house);
        for path in [
            format!("/portal/{way}"),
            format!("/console/worklist?who={way}"),
        ] {
            if path
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#')
            {
                let page = out.get(&path).await;
                if page.status.is_redirection() {
                    assert!(
                        page.location.starts_with("/sign-in"),
                        "{path}: {}",
                        page.location
                    );
                }
            }
        }
    }
    // What is a place of ours is come back to.
    let mut browser = Browser::new(&house);
    let token = browser.get(&link).await.field("form");
    let fields = [
        ("form", token.as_str()),
        ("birth_date", "1950-02-03"),
        ("next", "/portal/inbox"),
    ];
    assert_eq!(browser.post(&link, &fields).await.location, "/portal/inbox");
    house.end().await;
}

#[tokio::test]
async fn an_app_sends_nobody_where_it_is_not_registered() {
    let house = house_with(|options| options.open_registration = true).await;
    apps::furnished(&house).await;
    let client = apps::app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let back = apps::BACK;
    let mut ways: Vec<String> = ELSEWHERE.iter().map(|way| (*way).to_owned()).collect();
    ways.extend([
        format!(" {back}"),
        format!("{back} "),
        format!("{back}%20"),
        format!("{back}/../../evil"),
        format!("{back}\r\nset-cookie: evil=1"),
        format!("{back}%0d%0aset-cookie: evil=1"),
        format!("{back}\u{0}"),
        format!("{back};evil"),
        format!("{back}?code=evil"),
        format!("{back}#evil"),
        back.to_uppercase(),
        back.replace("https", "HTTPS"),
        back.replace(".org", ".org."),
        back.replace(".org", ".org%2eevil.example"),
        back.replace(".org", ".org\\.evil.example"),
        back.replace(".org", ".org:443"),
        back.replace(".org", ".org:@evil.example"),
        back.replace("app.", "app.example.org@evil."),
        back.replace("//", "//evil.example%2f@"),
        back.replace("//", "/"),
        back.replace("//", "\\\\"),
        back.replace('e', "\u{435}"),
    ]);
    for way in &ways {
        let pairs = request(
            &house,
            &client,
            "patient/Observation.rs",
            &[("redirect_uri", way)],
        );
        let page = ann.get(&apps::address(&pairs)).await;
        assert_eq!(
            (page.status.as_u16(), page.location.as_str()),
            (400, ""),
            "{way:?}"
        );
        let mut form = apps::borrowed(&pairs);
        let csrf = ann.get("/portal/apps").await.fields("csrf").concat();
        form.extend([
            ("csrf", csrf.as_str()),
            ("decision", "allow"),
            ("agreed", "patient/Observation.rs"),
        ]);
        let page = ann.post("/oauth/authorize", &form).await;
        assert_eq!(
            (page.status.as_u16(), page.location.as_str()),
            (400, ""),
            "{way:?}"
        );
        // Not as an address to open an app at, or to register one for.
        for (redirects, launch) in [
            (json!([back]), json!(way)),
            (json!([way]), json!(null)),
            (json!([back, way]), json!(null)),
        ] {
            let https = way.starts_with("https://")
                && !way.contains(['#', '@', '\\', ' ', '"', '\r', '\u{0}', '\u{435}']);
            // An address on a host of its own may be asked for: an administrator sees it before it counts.
            if https && launch.is_null() {
                continue;
            }
            let mut asked = json!({"client_name": "Growth Chart", "redirect_uris": redirects,
                "token_endpoint_auth_method": "none", "scope": "patient/*.rs"});
            if !launch.is_null() {
                if https && way.starts_with("https://app.example.org/") {
                    continue;
                }
                asked["launch_uri"] = launch;
            }
            let answer = house
                .bare(Method::POST, "/oauth/register")
                .header("content-type", "application/json");
            let answer = answer
                .body(asked.to_string())
                .send()
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 400, "{asked}");
        }
    }
    house.end().await;
}

/// What happened to documents since a number, sessions aside. The audit is no part of the feed.
async fn events(house: &House, after: ledger::Number) -> usize {
    let mut count = 0;
    for shard in 0..SHARDS {
        let events = house
            .server
            .ledger()
            .events(Shard(shard), after, 1_000)
            .await;
        let events = events.expect("events");
        count += events
            .iter()
            .filter(|event| event.kind != kinds::SESSION)
            .count();
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_s_cookie_alone_does_nothing() {
    let house = house().await;
    let who = [
        patient(&house).await,
        person(&house, Role::Clinician).await,
        person(&house, Role::Coordinator).await,
        person(&house, Role::Administrator).await,
        person(&house, Role::PrivacyOfficer).await,
        person(&house, Role::Biller).await,
    ];
    let routes = asked(&guards(), &["policy", "session", "public"]);
    let routes: Vec<_> = routes
        .iter()
        .filter(|(method, _)| !["GET", "OPTIONS", "ANY"].contains(&method.as_str()))
        .collect();
    assert!(routes.len() > 60, "{}", routes.len());
    let http = Browser::new(&house).http;
    let before = house.server.ledger().last_number();
    let mut tried = 0;
    for (method, path) in routes {
        for who in &who {
            let Who::Person { cookie, csrf } = who else {
                continue;
            };
            // As pages of elsewhere can send: a form, in each of a form's three encodings, with whatever
            // cookies the browser adds, and then also with the right word, by a browser that says where from.
            for (kind, body, more) in [
                (
                    "application/x-www-form-urlencoded",
                    "kind=Patient&name=Berg".to_owned(),
                    &[][..],
                ),
                (
                    "text/plain",
                    format!("{{\"a\":\"=\",\"csrf\":\"{csrf}\"}}"),
                    &[],
                ),
                (
                    "multipart/form-data; boundary=x",
                    format!(
                        "--x\r\ncontent-disposition: form-data; name=\"csrf\"\r\n\r\n{csrf}\r\n--x--\r\n"
                    ),
                    &[],
                ),
                (
                    "application/x-www-form-urlencoded",
                    format!("csrf={csrf}&kind=Patient"),
                    &[
                        ("sec-fetch-site", "cross-site"),
                        ("origin", "https://evil.example"),
                    ],
                ),
                (
                    "application/x-www-form-urlencoded",
                    format!("csrf={csrf}&kind=Patient"),
                    &[("sec-fetch-site", "same-site")],
                ),
            ] {
                let mut asked = http
                    .request(method.clone(), house.url(path))
                    .header(
                        "cookie",
                        format!("cairn={cookie}; cairn-form={}", "a".repeat(64)),
                    )
                    .header("content-type", kind);
                for (name, value) in more {
                    asked = asked.header(*name, *value);
                }
                let answer = asked.body(body).send().await.expect("an answer");
                let status = answer.status().as_u16();
                // The colours alone change without a word, and not from elsewhere.
                let colours = path == "/theme" && more.is_empty();
                assert!(
                    (400..500).contains(&status) || colours,
                    "{method} {path} {kind}: {status}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    assert_eq!(events(&house, before).await, 0, "something was done");
    house.end().await;
}

#[tokio::test]
async fn a_session_that_somebody_brought_is_not_the_one_that_is_signed_in() {
    let house = house().await;
    apps::furnished(&house).await;
    let bob = Browser::patient(&house, "bob", "1950-02-03").await;
    let his = bob.cookies.clone();
    let secret = |cookies: &[(String, String)]| {
        let found = cookies.iter().find(|(name, _)| name == "cairn");
        found.expect("a session").1.clone()
    };
    let identity = house.server.trust().identity();
    for planted in [secret(&his), "1.known".to_owned(), String::new()] {
        let link = identity
            .make_link(&agent(Role::Coordinator), "ann", 3600, false)
            .await
            .expect("a link");
        let link = format!("/sign-in/link/{link}");
        let mut ann = Browser::new(&house);
        ann.cookies = vec![("cairn".to_owned(), planted.clone())];
        let form = ann.get(&link).await.field("form");
        let done = ann
            .post(&link, &[("form", &form), ("birth_date", "1950-02-03")])
            .await;
        assert_eq!(done.location, "/portal");
        let hers = secret(&ann.cookies);
        assert_ne!(hers, planted);
        // What was brought opens what it opened before, and nothing of hers.
        let mut brought = Browser::new(&house);
        brought.cookies = vec![("cairn".to_owned(), planted)];
        let page = brought.get("/portal").await;
        assert!(!page.body.contains("Berg"), "{}", page.body);
        // The word of the form before the sign-in is none of the session's.
        let page = ann
            .post("/portal/weight", &[("csrf", &form), ("kg", "80")])
            .await;
        assert_eq!(page.status, 403);
        // After signing out neither cookie nor word is good for anything.
        let csrf = ann.get("/portal/apps").await.field("csrf");
        ann.post("/sign-out", &[("csrf", &csrf)]).await;
        ann.cookies = vec![("cairn".to_owned(), hers)];
        for page in [
            ann.get("/portal").await,
            ann.post("/portal/weight", &[("csrf", &csrf), ("kg", "80")])
                .await,
        ] {
            assert!(page.location.starts_with("/sign-in"), "{}", page.location);
        }
    }
    house.end().await;
}

/// A server with TLS, where there is a folder for its certificate.
async fn encrypted(files: Option<&std::path::Path>) -> House {
    let tls = files.map(certificate);
    house_with(|options| options.tls = tls).await
}

#[tokio::test]
async fn cookies_stay_with_this_server() {
    for is_https in [true, false] {
        let files = tempfile::tempdir().expect("a folder");
        let house = encrypted(is_https.then_some(files.path())).await;
        apps::furnished(&house).await;
        let identity = house.server.trust().identity();
        let link = identity
            .make_link(&agent(Role::Coordinator), "ann", 3600, false)
            .await
            .expect("a link");
        let url = |path: &str| house.url(path);
        let http = Browser::new(&house).http;
        let mut set = Vec::new();
        let mut keep = |headers: &HeaderMap| {
            for value in headers.get_all("set-cookie") {
                set.push(value.to_str().expect("text").to_owned());
            }
        };
        let page = http
            .get(url(&format!("/sign-in/link/{link}")))
            .send()
            .await
            .expect("an answer");
        keep(page.headers());
        let cookie = header(&page, "set-cookie")
            .split(';')
            .next()
            .expect("a cookie")
            .to_owned();
        let token = cookie.split_once('=').expect("a pair").1.to_owned();
        let form = |path: String, fields: &[(&str, &str)], cookie: &str| {
            http.post(url(&path))
                .header("cookie", cookie)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(apps::query(fields))
                .send()
        };
        let fields = [("form", token.as_str()), ("birth_date", "1950-02-03")];
        let done = form(format!("/sign-in/link/{link}"), &fields, &cookie)
            .await
            .expect("an answer");
        keep(done.headers());
        let session = header(&done, "set-cookie")
            .split(';')
            .next()
            .expect("a cookie")
            .to_owned();
        let page = http
            .get(url("/portal/apps"))
            .header("cookie", &session)
            .send()
            .await
            .expect("an answer");
        let csrf = Page::of(page).await.field("csrf");
        let themed = form("/theme".to_owned(), &[("back", "/portal")], "")
            .await
            .expect("an answer");
        keep(themed.headers());
        let out = form("/sign-out".to_owned(), &[("csrf", &csrf)], &session)
            .await
            .expect("an answer");
        keep(out.headers());
        assert!(header(&out, "clear-site-data").contains("cache"));
        assert_eq!(set.len(), 4, "{set:?}");
        for cookie in &set {
            let parts: Vec<&str> = cookie.split("; ").collect();
            let colours = cookie.starts_with("cairn-theme=");
            assert!(parts.contains(&"Path=/"), "{cookie}");
            assert!(
                parts
                    .iter()
                    .any(|part| part.starts_with("SameSite=") && *part != "SameSite=None"),
                "{cookie}"
            );
            assert!(!cookie.to_lowercase().contains("domain="), "{cookie}");
            assert_eq!(parts.contains(&"Secure"), is_https, "{cookie}");
            assert!(colours || parts.contains(&"HttpOnly"), "{cookie}");
            assert!(
                colours || cookie.starts_with("__Host-") == is_https,
                "{cookie}"
            );
        }
        house.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_every_route_is_armoured() {
    let files = tempfile::tempdir().expect("a folder");
    let house = encrypted(Some(files.path())).await;
    let who = [
        Who::Nobody,
        patient(&house).await,
        person(&house, Role::Clinician).await,
        Who::Token(house.token.clone()),
    ];
    let http = Browser::new(&house).http;
    let mut whole = 0;
    for (method, path) in asked(&guards(), &["policy", "session", "public"]) {
        let method = if method.as_str() == "ANY" {
            Method::GET
        } else {
            method
        };
        for who in &who {
            let mut asked = http.request(method.clone(), house.url(&path));
            match who {
                Who::Nobody => {}
                Who::Token(token) => asked = asked.bearer_auth(token),
                Who::Person { cookie, .. } => {
                    asked = asked.header("cookie", format!("__Host-cairn={cookie}"));
                }
            }
            let answer = asked.send().await.expect("an answer");
            let is = |name: &str| header(&answer, name).to_owned();
            let what = format!(
                "{method} {path}: {} {:?}",
                answer.status(),
                answer.headers()
            );
            assert_eq!(is("x-content-type-options"), "nosniff", "{what}");
            assert_eq!(is("referrer-policy"), "no-referrer", "{what}");
            assert!(
                is("strict-transport-security").starts_with("max-age=31536000"),
                "{what}"
            );
            assert!(!is("x-request-id").is_empty(), "{what}");
            for tells in [
                "server",
                "x-powered-by",
                "via",
                "access-control-allow-origin",
                "access-control-allow-credentials",
            ] {
                assert_eq!(is(tells), "", "{tells}: {what}");
            }
            let kind = is("content-type");
            if kind.starts_with("text/html") {
                whole += 1;
                assert!(
                    is("content-security-policy")
                        .starts_with("default-src 'none'; script-src 'self'"),
                    "{what}"
                );
                assert!(!is("content-security-policy").contains("unsafe"), "{what}");
                assert_eq!(is("x-frame-options"), "DENY", "{what}");
                assert_eq!(is("cross-origin-opener-policy"), "same-origin", "{what}");
                assert_eq!(is("cache-control"), "no-store", "{what}");
            }
            // Nothing of a patient stays in a browser or a proxy; what is the same for all may.
            let same_for_all = [
                "/static/",
                "/health/",
                "/metrics",
                "/fhir/r4/metadata",
                "/.well-known/",
                "/oauth/keys",
            ]
            .iter()
            .any(|open| path.contains(open))
                // Which services there are, not what they say.
                || path == "/cds-services"
                // The script that shows notifications.
                || path == "/sw.js";
            if answer.status().is_success()
                && !same_for_all
                && method != Method::OPTIONS
                && !path.starts_with("/audit/log/")
            {
                assert!(is("cache-control").contains("no-store"), "{what}");
            }
        }
    }
    assert!(whole > 100, "{whole}");
    house.end().await;
}

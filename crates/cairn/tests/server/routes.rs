//! Every route has a guard, and `docs/security/routes.md` says which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cairn::store::TENANT;
use ledger::TenantId;
use reqwest::{Method, StatusCode};
use serde_json::json;
use trust::consent::Basis;
use trust::identity::{NewAccount, NewProxy, SignIn};
use trust::{Agent, Role};

use crate::house::{House, house, house_with, token};
use crate::patience::until;

/// Methods that a route is made with.
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];
/// What no policy is asked about: nobody is kept signed in.
const WITHOUT_A_POLICY: [&str; 1] = ["POST /sign-out"];
/// Patterns by which routes could come in unseen.
const UNSEEN: [&str; 3] = ["route_service(", "nest_service(", ".on("];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The argument list that begins at the start of a text.
fn call(text: &str) -> &str {
    let mut depth = 1;
    for (at, letter) in text.char_indices() {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return &text[..at];
        }
    }
    panic!("a route without an end: {text}");
}

/// The path that a route's first argument says, and what follows it.
fn path<'a>(call: &'a str, text: &str) -> (String, &'a str) {
    let call = call.trim_start();
    let (shown, formatted) = match call.strip_prefix("&format!(") {
        Some(rest) => (rest.trim_start(), true),
        None => (call, false),
    };
    if let Some(rest) = shown.strip_prefix('"') {
        let (path, rest) = rest.split_once('"').expect("the end of a path");
        let mut path = path.to_owned();
        if formatted {
            path = path.replace("{base}", "/fhir/r4").replace("{{", "{");
            path = path.replace("}}", "}");
        }
        return (path, rest);
    }
    let (name, rest) = call.split_once(',').expect("a path and a handler");
    let line = format!("const {}: &str = \"", name.trim());
    let at = text.find(&line).unwrap_or_else(|| panic!("no {line}")) + line.len();
    let path = text[at..].split('"').next().expect("a path");
    (path.to_owned(), rest)
}

/// All routes of the program, as `METHOD path`.
fn routes() -> BTreeSet<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut folders) = (Vec::new(), vec![here.join("src/http")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(here).expect("a path of this crate");
                files.push(format!("crates/cairn/{}", below.display()));
            }
        }
    }
    files.push("crates/web/src/lib.rs".to_owned());
    let mut routes = BTreeSet::new();
    for file in files {
        let text = read(&file);
        let text = text.split("#[cfg(test)]").next().expect("a file");
        for unseen in UNSEEN {
            assert!(!text.contains(unseen), "{file}: a route made with {unseen}");
        }
        // What is merged below FHIR's base.
        let below = ["fhir.rs", "past.rs", "operations.rs", "bulk.rs"];
        let base = below.iter().any(|name| file.ends_with(name));
        for (at, found) in text.match_indices(".route(") {
            let call = call(&text[at + found.len()..]);
            let (mut path, handlers) = path(call, text);
            if base && !path.starts_with("/fhir") {
                path = format!("/fhir/r4{path}");
            }
            if file.ends_with("http/demographics.rs") {
                path = format!("/personal-demographics/FHIR/R4{path}");
            }
            let mut any = false;
            for method in METHODS.into_iter().chain(["any"]) {
                let named = handlers
                    .match_indices(&format!("{method}("))
                    .any(|(at, _)| {
                        let before = handlers[..at].chars().next_back();
                        before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_')
                    });
                if named {
                    any = true;
                    routes.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
            assert!(any, "{file}: no method is seen of {path}");
        }
    }
    routes
}

/// What the page says: routes with their guards.
pub(crate) fn guards() -> BTreeMap<String, String> {
    let page = read("docs/security/routes.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (route, guard) = row.split_once("` | ").expect("a route and its guard");
        (route.to_owned(), guard.trim_end_matches(" |").to_owned())
    })
    .collect()
}

// Proves: 45 CFR 164.312(a)(1), 164.308(a)(3)(i)
#[test]
fn every_route_is_on_the_page_with_its_guard() {
    let (routes, guards) = (routes(), guards());
    assert!(routes.len() > 100, "{}", routes.len());
    let listed: BTreeSet<String> = guards.keys().cloned().collect();
    let without: Vec<_> = routes.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&routes).collect();
    assert!(
        without.is_empty(),
        "say in docs/security/routes.md what guards these: {without:?}"
    );
    assert!(
        gone.is_empty(),
        "take these out of docs/security/routes.md: {gone:?}"
    );
    let session =
        |(route, guard): (&String, &String)| guard.starts_with("session").then(|| route.clone());
    let without: Vec<_> = guards.iter().filter_map(session).collect();
    assert_eq!(without, WITHOUT_A_POLICY);
    for (route, guard) in guards {
        let (sort, reason) = guard.split_once(": ").unwrap_or_default();
        let known = ["policy", "session", "public"].contains(&sort);
        assert!(known && !reason.is_empty(), "{route}: {guard}");
    }
}

/// The guarded routes with something in place of what is variable in them.
pub(crate) fn asked(guards: &BTreeMap<String, String>, sorts: &[&str]) -> Vec<(Method, String)> {
    let sort = |guard: &String| sorts.iter().any(|sort| guard.starts_with(sort));
    let routes = guards.iter().filter(|(_, guard)| sort(guard));
    routes
        .map(|(route, _)| {
            let (method, path) = route.split_once(' ').expect("a method and a path");
            let mut path = path.to_owned();
            for (name, value) in [
                ("{type}/{id}/$everything", "Patient/p/$everything"),
                ("{type}/$lastn", "Observation/$lastn"),
                ("{type}/$apply", "PlanDefinition/$apply"),
                ("{type}/{id}/$apply", "PlanDefinition/p/$apply"),
                ("{type}/{id}/$export", "Group/g/$export"),
                ("{type}/{id}/$status", "SearchParameter/s/$status"),
                ("{type}/{id}/$events", "Subscription/s/$events"),
                ("{type}/{id}/$replay", "Subscription/s/$replay"),
                (
                    "{type}/{id}/$rotate-secret",
                    "Subscription/s/$rotate-secret",
                ),
                ("{kind}/{id}/file", "Observation/o/file"),
                ("{type}", "Patient"),
                ("{kind}", "Patient"),
                ("{id}", "p"),
                ("{of}", "Observation"),
                ("{version}", "1"),
                ("{shard}", "00"),
                ("{*tile}", "entries/000.p/1"),
                ("{deed}", "done"),
                ("{name}", "j"),
                ("{step}", "s"),
                ("{task}", "t"),
                ("{job}", "x"),
                ("{file}", "y"),
                ("{number}", "1"),
                ("{provider}", "x"),
                ("{proxy}", "x"),
                ("{secret}", "s"),
                ("{service}", "journeys-of-patient"),
                ("{event}", "e"),
                ("{grant}", "g"),
                ("{journey}", "j"),
                ("{batch}", "b"),
                ("{letter}", "l"),
                ("{code}", "J001"),
                ("{session}", "s"),
                ("{patient}", "p"),
                ("{visit}", "v"),
                ("{*rest}", "nothing"),
            ] {
                path = path.replace(name, value);
            }
            if path == "/console/record/Patient" {
                path.push_str("?cursor=x");
            }
            assert!(!path.contains('{'), "{path}");
            (method.parse().expect("a method"), path)
        })
        .collect()
}

pub(crate) fn body_of(path: &str) -> (&'static str, String) {
    if path.starts_with("/fhir/r4") {
        let patient = json!({"resourceType": "Patient", "id": "p"});
        ("application/fhir+json", patient.to_string())
    } else {
        (
            "application/x-www-form-urlencoded",
            "kind=Patient&name=Berg&".to_owned(),
        )
    }
}

async fn send(house: &House, method: &Method, path: &str, who: &Who) -> StatusCode {
    let client = crate::house::client()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let mut request = client
        .request(method.clone(), house.url(path))
        .header("prefer", "respond-async");
    let (form, mut body) = body_of(path);
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
    let location = crate::house::header(&answer, "location").to_owned();
    let status = answer.status();
    if status.is_redirection() && location.starts_with("/sign-in") {
        return StatusCode::UNAUTHORIZED;
    }
    status
}

pub(crate) enum Who {
    Nobody,
    Token(String),
    Person { cookie: String, csrf: String },
}

pub(crate) async fn person(house: &House, role: Role) -> Who {
    person_of(house.server.trust(), TENANT, role).await
}

/// Somebody of a role who has signed in.
pub(crate) async fn person_of(trust: &trust::Trust, tenant: TenantId, role: Role) -> Who {
    let identity = trust.identity();
    let operator = Agent::system(tenant, "command-line");
    let account = NewAccount {
        tenant,
        user_name: role.name().to_owned(),
        name: "Somebody".to_owned(),
        role,
        password: "correct-horse-battery-7".to_owned(),
        patient: None,
    };
    identity
        .create(&operator, account)
        .await
        .expect("an account");
    let first = identity.password(tenant, role.name(), "correct-horse-battery-7");
    let SignIn::EnrolTotp { ticket, secret, .. } = first.await.expect("a ticket") else {
        panic!("no second factor is asked for");
    };
    let secret = totp_rs::Secret::try_from_base32(&secret).expect("base32");
    let totp = totp_rs::Builder::new()
        .with_secret(secret)
        .build()
        .expect("TOTP");
    let code = totp
        .generate(trust.wall_clock().now_ms() / 1000)
        .to_string();
    let signed = identity.second_factor(&ticket, &code);
    session(signed.await.expect("a session"))
}

pub(crate) fn session(signed: SignIn) -> Who {
    let SignIn::Done { secret, session } = signed else {
        panic!("not signed in");
    };
    Who::Person {
        cookie: secret,
        csrf: session.csrf,
    }
}

pub(crate) async fn patient(house: &House) -> Who {
    let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": "1941-03-07"});
    let put = house.sent(Method::PUT, "/fhir/r4/Patient/p", &patient);
    assert_eq!(put.send().await.expect("an answer").status(), 201);
    let identity = house.server.trust().identity();
    let clinician = Agent {
        role: Role::Clinician,
        ..Agent::system(TENANT, "c")
    };
    let link = identity
        .make_link(&clinician, "p", 3600, false)
        .await
        .expect("a link");
    session(
        identity
            .use_link(TENANT, &link, "1941-03-07")
            .await
            .expect("a session"),
    )
}

/// What answers nobody in particular, and with what status: a route that comes to it, or goes, changes the
/// snapshot, which is changed on purpose alone.
// Proves: 45 CFR 164.312(a)(1), 164.308(a)(3)(i)
#[tokio::test]
async fn public_routes_are_as_agreed() {
    let house = house().await;
    let guards = guards();
    let mut answers = Vec::new();
    for ((route, guard), (method, path)) in guards.iter().zip(asked(&guards, &[""])) {
        let (method, shown) = match method.as_str() {
            // Any method; the test of all of them is axum's.
            "ANY" => (Method::GET, path),
            _ => (method, path),
        };
        let status = send(&house, &method, &shown, &Who::Nobody).await.as_u16();
        let is_public = guard.starts_with("public: ");
        if [401, 403].contains(&status) && !is_public {
            continue;
        }
        assert!(
            is_public,
            "{route} answers nobody with {status}, and docs/security/routes.md has it as {guard}"
        );
        answers.push(format!("{route} | {status}"));
    }
    insta::assert_snapshot!(answers.join("\n"));
    house.end().await;
}

/// Somebody whom the patient [`patient`] has authorised to act for them.
async fn proxy(house: &House) -> Who {
    let identity = house.server.trust().identity();
    let staff = Agent::system(TENANT, "demo");
    let new = NewProxy {
        patient: "p".to_owned(),
        name: "Mona Berg".to_owned(),
        address: "mona@example.org".to_owned(),
        birth_date: "1984-05-06".to_owned(),
        basis: Basis::Authorised,
        proof: "Signed form, seen at the desk".to_owned(),
        from: None,
        until: None,
        messages: false,
    };
    let proxy = identity.make_proxy(&staff, new, "r").await;
    let proxy = proxy.expect("somebody who acts");
    let deliverer = Agent::system(TENANT, "mail-deliverer");
    let link = identity
        .make_proxy_link(&deliverer, &proxy, 3600, false)
        .await
        .expect("a link");
    let used = identity.use_link(TENANT, &link, "1984-05-06").await;
    session(used.expect("a session"))
}

/// Without credentials only what the page calls public answers; under policies that permit nothing, nothing
/// that has a policy answers anybody, though they stay signed in.
// Proves: 45 CFR 164.312(a)(1), 164.308(a)(3)(i), 164.312(e)(1)
#[tokio::test(flavor = "multi_thread")]
async fn no_route_answers_who_may_not() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in trust::PolicySet::built_in_files() {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let house = house_with(|options| {
        options.policy_folder = Some(folder.path().to_owned());
        options.open_audit_log = false;
    })
    .await;
    let guards = guards();
    for (method, path) in asked(&guards, &["policy", "session"]) {
        let status = send(&house, &method, &path, &Who::Nobody).await;
        let kept_out = [401, 403].contains(&status.as_u16());
        assert!(kept_out, "{method} {path} answers nobody with {status}");
    }
    let who = [
        ("patient", patient(&house).await),
        ("proxy", proxy(&house).await),
        ("clinician", person(&house, Role::Clinician).await),
        ("coordinator", person(&house, Role::Coordinator).await),
        ("administrator", person(&house, Role::Administrator).await),
        (
            "privacy officer",
            person(&house, Role::PrivacyOfficer).await,
        ),
        (
            "client's token",
            Who::Token(token(&house.server, Role::Client).await),
        ),
        (
            "officer's token",
            Who::Token(token(&house.server, Role::PrivacyOfficer).await),
        ),
        ("biller", person(&house, Role::Biller).await),
        (
            "biller's token",
            Who::Token(token(&house.server, Role::Biller).await),
        ),
        (
            "squad's token",
            Who::Token(token(&house.server, Role::Squad).await),
        ),
        ("squad", person(&house, Role::Squad).await),
        (
            "steerer's token",
            Who::Token(token(&house.server, Role::Steerer).await),
        ),
    ];
    let routes = asked(&guards, &["policy"]);
    // The same requests do answer while there are policies, so that a "no" afterwards means something.
    let mut answered = BTreeSet::new();
    for (method, path) in routes.iter().filter(|(method, _)| *method == Method::GET) {
        for (_, who) in &who {
            if send(&house, method, path, who).await.is_success() {
                answered.insert(path.clone());
            }
        }
    }
    assert!(answered.len() > 25, "{answered:?}");

    for (name, _) in trust::PolicySet::built_in_files() {
        std::fs::remove_file(folder.path().join(name)).expect("removed");
    }
    let nothing = "@id(\"nothing\") forbid (principal, action, resource);";
    std::fs::write(folder.path().join("nothing.cedar"), nothing).expect("written");
    until("the policies are taken", async || {
        // What is built in about accounts is in force besides.
        house.server.trust().policy_set().policies().count() == 2
    })
    .await;
    let (mut refused, mut answered) = (BTreeSet::new(), Vec::new());
    for (method, path) in &routes {
        for (name, who) in &who {
            let status = send(&house, method, path, who).await;
            if !status.is_client_error() {
                answered.push(format!("{method} {path} answers the {name} with {status}"));
            }
            if status == 403 {
                refused.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(answered.is_empty(), "{answered:#?}");
    // What is not refused by policy in so many words was asked wrongly, or there is no such thing.
    assert!(
        refused.len() * 10 > routes.len() * 8,
        "{} of {}",
        refused.len(),
        routes.len()
    );
    house.end().await;
}

//! Addresses that mean something else than they seem to, and what answers tell that they need not.

use reqwest::Method;

use super::*;
use crate::binary::{serve, terminate};
use crate::house::house;
use crate::routes::{asked, guards};

/// What must be in no answer: what was sent, and what the server is made of.
const CANARY: &str = "Quibblewick";
const INSIDES: [&str; 14] = [
    "panicked",
    ".rs:",
    "src/",
    "RUST_BACKTRACE",
    "hyper",
    "axum",
    "fjall",
    "tokio",
    "serde",
    "rustls",
    "/work/",
    "/root/",
    "/tmp/",
    "postgres",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_out_of_its_place() {
    let house = impatient().await;
    for path in [
        "/static/../../etc/passwd",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%5c..%5cetc%5cpasswd",
        "/static/%252e%252e%252fetc%252fpasswd",
        "/static/..;/..;/etc/passwd",
        "/static/%c0%ae%c0%ae/etc/passwd",
        "/static/style.css%00.html",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/....//....//etc/passwd",
        "/static/.",
        "/static/..",
        "/../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/.git/config",
        "/.env",
        "/fhir/r4/../../metrics",
        "/fhir/r4/Patient/../../../metrics",
        "/fhir/r4/..%2f..%2fmetrics",
        "/fhir/r4/Patient/%2e%2e",
        "/fhir/r4/Patient/%00",
        "/fhir/r4/Patient/a%00b",
        "/fhir/r4/Patient/a;b",
        "/fhir/r4/Patient;x=y/a",
        "/fhir/r4/Patient/a%2f..%2fb",
        "/fhir/r4/Patient/%ff%fe",
        "/fhir/r4/Patient/%",
        "/fhir/r4/Patient/%zz",
        "/fhir/r4//Patient",
        "/FHIR/R4/Patient",
        "/fhir/r4/patient",
        "/fhir/r4/Patient/",
        "/audit/log/00/tile/../../../metrics",
        "/audit/log/00/tile/0/%2e%2e/001",
        "/audit/log/..%2f00/checkpoint",
        "/console/..%2fportal",
        "/portal/..;/console/accounts",
        "/portal/%2e%2e/console/accounts",
        "/console%2faccounts",
        "//console/accounts",
        "/./console/accounts",
        "/CONSOLE/accounts",
        "/console/accounts/",
        "/console/accounts%00",
        "/console/accounts%20",
        "/console/accounts;x",
        "/console/accounts/.",
        "/console/accounts.json",
        "/sign-in/link/..%2f..%2fconsole",
        "/oauth/..%2fconsole/accounts",
        "/health/../console/accounts",
    ] {
        // As bytes: clients tidy addresses up before they send them.
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(&house, head.as_bytes()).await;
        let statuses = statuses(&answer);
        assert_eq!(statuses.len(), 1, "{path}: {answer}");
        // A page of the sign-in, or nothing there, or no such address: never a file, never a page.
        let fine = matches!(statuses[0], 303 | 400 | 401 | 404);
        let link = path.starts_with("/sign-in/link/") && statuses[0] == 200;
        assert!(fine || link, "{path}: {answer}");
        assert!(
            !answer.contains("root:") && !answer.contains("# TYPE"),
            "{path}: {answer}"
        );
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_says_what_was_sent_or_what_the_server_is_made_of() {
    let house = house().await;
    let http = crate::apps::Browser::new(&house).http;
    let said = |what: &str, text: &str| {
        let lower = text.to_lowercase();
        assert!(!lower.contains(&CANARY.to_lowercase()), "{what}: {text}");
        for inside in INSIDES {
            assert!(!text.contains(inside), "{inside} in {what}: {text}");
        }
    };
    let mut tried = 0;
    for (method, path) in asked(&guards(), &["policy", "session", "public"]) {
        if path.starts_with("/static") || path == "/metrics" {
            continue;
        }
        let method = if method.as_str() == "ANY" {
            Method::GET
        } else {
            method
        };
        // In the place of an id, in the query, in headers, in the body; by a stranger and by a client.
        let named = path
            .replace("/p", &format!("/{CANARY}"))
            .replace("/ortal", "/portal");
        for path in [
            named,
            format!("{path}?name={CANARY}&_id={CANARY}&next={CANARY}"),
        ] {
            for token in [None, Some(house.token.as_str()), Some(CANARY)] {
                for (kind, body) in [
                    (
                        "application/fhir+json",
                        format!("{{\"resourceType\":\"{CANARY}\""),
                    ),
                    ("application/fhir+xml", format!("<{CANARY}")),
                    (
                        "application/x-www-form-urlencoded",
                        format!("x=%zz{CANARY}&y={CANARY}"),
                    ),
                    (CANARY, CANARY.to_owned()),
                ] {
                    let mut asked = http
                        .request(method.clone(), house.url(&path))
                        .header("cookie", format!("cairn={CANARY}; cairn-form={CANARY}"));
                    asked = asked
                        .header("prefer", "respond-async")
                        .header("x-request-id", CANARY)
                        .header("x-purpose-of-use", "TREAT");
                    if let Some(token) = token {
                        asked = asked.bearer_auth(token);
                    }
                    if method == Method::GET && kind != CANARY {
                        continue;
                    }
                    if method != Method::GET {
                        asked = asked.header("content-type", kind).body(body);
                    }
                    let answer = asked.send().await.expect("an answer");
                    let status = answer.status();
                    assert!(status.as_u16() < 500, "{method} {path} {kind}: {status}");
                    let what = format!("{method} {path} {kind} {status}");
                    // An error; what a search finds says what was asked for, in its links.
                    if status.is_client_error() {
                        said(&what, &format!("{:?}", answer.headers()));
                        said(&what, &answer.text().await.expect("text"));
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    house.end().await;
}

/// A line of the log is one, whatever stands in a request.
#[test]
fn nobody_writes_lines_of_the_log() {
    let folder = crate::house::keyed_folder();
    for format in ["json", "text"] {
        let (child, base) = serve(folder.path(), |command| {
            command.env("CAIRN_LOG_FORMAT", format);
            command.env("CAIRN_LOG_FILTER", "debug,hyper=info,h2=info");
        });
        let address = base.trim_start_matches("http://").to_owned();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            for path in [
                "/x%0a2026-01-01T00:00:00Z%20ERROR%20forged", "/fhir/r4/Patient/%0d%0aforged", "/fhir/r4/forged%0a",
                "/sign-in?next=%0aforged", "/console/patients/%1b%5b2Jforged", "/static/forged%0a",
            ] {
                for token in ["forged", "forged\tforged"] {
                    let asked = format!("GET {path} HTTP/1.1\r\nhost: forged\r\nuser-agent: forged\u{1b}[2J\r\nreferer: forged\r\nx-request-id: forged-forged\r\nauthorization: Bearer {token}\r\ncookie: cairn=forged\r\nconnection: close\r\n\r\n");
                    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, asked.as_bytes()).await;
                    let mut answer = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
                }
            }
            let form = format!("form={0}&user=forged%0aforged%1b&password=forged%0a", "a".repeat(64));
            let sent = reqwest::Client::new().post(format!("{base}/sign-in")).header("cookie", format!("cairn-form={}", "a".repeat(64)));
            let sent = sent.header("content-type", "application/x-www-form-urlencoded").body(form).send().await;
            assert_eq!(sent.expect("an answer").status(), 200);
        });
        let (_, log) = terminate(child);
        assert!(log.contains("request"), "{log}");
        assert!(!log.contains("forged") && !log.contains('\u{1b}'), "{log}");
        for line in log.lines() {
            let whole = if format == "json" {
                serde_json::from_str::<serde_json::Value>(line).is_ok()
            } else {
                line.starts_with("20")
            };
            assert!(whole, "{line}");
        }
    }
}

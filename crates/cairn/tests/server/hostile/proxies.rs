//! Who says of themselves that they are a proxy, and what one address may have at a time.

use cairn::{Addresses, ForwardedHeader, Proxies};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use trust::Role;

use super::{PATIENCE, connected, rest};
use crate::house::{House, assert_outcome, house_with, token};
use crate::patience::Patience;

const SPOOFED: &str = "198.51.100.66";

fn named(list: &str, header: ForwardedHeader) -> Proxies {
    Proxies::parse(list, header).expect("a list")
}

/// The address that the audit has of a read with these headers.
async fn recorded(house: &House, officer: &str, headers: &[(&str, &str)]) -> String {
    let id = format!("read-{}", house.server.ledger().last_number().0);
    let patient = json!({"resourceType": "Patient", "id": id});
    let put = house.sent(Method::PUT, &format!("/fhir/r4/Patient/{id}"), &patient);
    assert_eq!(put.send().await.expect("an answer").status(), 201);
    let mut read = house.asked(Method::GET, &format!("/fhir/r4/Patient/{id}"));
    for (name, value) in headers {
        read = read.header(*name, *value);
    }
    assert_eq!(read.send().await.expect("an answer").status(), 200);
    let path = format!("/fhir/r4/AuditEvent?entity=Patient/{id}&subtype=read");
    let found = house.bare(Method::GET, &path).bearer_auth(officer);
    let found = found.header("x-purpose-of-use", "HOPERAT").send().await;
    let bundle: Value = found.expect("an answer").json().await.expect("JSON");
    let entities = bundle["entry"][0]["resource"]["entity"].as_array();
    let details = entities.expect("entities").iter();
    let mut details = details
        .filter_map(|entity| entity["detail"].as_array())
        .flatten();
    let address = details.find(|detail| detail["type"] == "client-address");
    address.expect("an address")["valueString"]
        .as_str()
        .expect("text")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_s_word_about_where_it_comes_from_is_nobody_s() {
    // Strangers: what is connected here is none of the proxies, also where many strangers come from it.
    for shared in ["", "127.0.0.1"] {
        let house = house_with(|options| {
            options.proxies = named("10.0.0.0/8", ForwardedHeader::XForwardedFor);
            options.shared_addresses = Addresses::parse(shared).expect("a list");
        })
        .await;
        let officer = token(&house.server, Role::PrivacyOfficer).await;
        let forwarded = format!("for={SPOOFED}");
        for headers in [
            &[("x-forwarded-for", SPOOFED)][..],
            &[("x-forwarded-for", "198.51.100.66, 10.0.0.1")],
            &[("forwarded", &forwarded)],
            &[("x-real-ip", SPOOFED), ("true-client-ip", SPOOFED)],
        ] {
            assert_eq!(recorded(&house, &officer, headers).await, "127.0.0.1");
        }
        house.end().await;
    }
}

// Proves: 45 CFR 164.312(b)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_named_is_believed_what_it_added() {
    for (header, name, told) in [
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for",
            [
                "198.51.100.66, 203.0.113.7",
                "2001:db8::7",
                "[2001:db8::7]:4711",
            ],
        ),
        (
            ForwardedHeader::Forwarded,
            "forwarded",
            [
                "for=198.51.100.66, for=203.0.113.7",
                "for=\"[2001:db8::7]\"",
                "for=\"[2001:db8::7]:4711\"",
            ],
        ),
    ] {
        let house = house_with(|options| {
            options.proxies = named("127.0.0.1 ::1", header);
        })
        .await;
        let officer = token(&house.server, Role::PrivacyOfficer).await;
        for (told, expected) in told
            .iter()
            .zip(["203.0.113.7", "2001:db8::7", "2001:db8::7"])
        {
            // The other header is the client's own, which proxies hand on.
            let other = match header {
                ForwardedHeader::XForwardedFor => ("forwarded", "for=198.51.100.66"),
                ForwardedHeader::Forwarded => ("x-forwarded-for", SPOOFED),
            };
            let found = recorded(&house, &officer, &[(name, told), other]).await;
            assert_eq!(found, expected, "{name}: {told}");
        }
        for garbage in [
            "unknown",
            "198.51.100.66, nonsense",
            "<script>",
            "for=\"198.51.100.66",
        ] {
            let found = recorded(&house, &officer, &[(name, garbage)]).await;
            assert_eq!(found, "127.0.0.1", "{name}: {garbage}");
        }
        house.end().await;
    }
}

/// A request with a token that never finishes its body.
async fn unfinished(house: &House, from: &str) -> TcpStream {
    let mut slow = connected(house).await;
    let head = format!(
        "PUT /fhir/r4/Patient/p HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {from}\r\nauthorization: Bearer {}\r\n\
         content-type: application/fhir+json\r\ncontent-length: 1000\r\n\r\n{{",
        house.token
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    slow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_has_so_many_requests_at_a_time_and_others_have_theirs() {
    let house = house_with(|options| {
        options.proxies = named("127.0.0.1", ForwardedHeader::XForwardedFor);
        options.limits.client_at_once = 2;
        options.limits.client_connections = 2;
    })
    .await;
    let from = |address: &'static str| {
        let read = house.asked(Method::GET, "/fhir/r4/metadata");
        read.header("x-forwarded-for", address).send()
    };
    let held = [
        unfinished(&house, "203.0.113.7").await,
        unfinished(&house, "203.0.113.7:99").await,
    ];
    let mut patience = Patience::new();
    let refused = loop {
        let answer = from("203.0.113.7").await.expect("an answer");
        if answer.status() == 429 {
            break answer;
        }
        patience.wait("one client has no bound").await;
    };
    assert!(refused.headers().contains_key("retry-after"));
    assert_outcome(refused, 429, "throttled").await;
    // Others, the proxy itself, and operators are let in; what a client wrote before is not looked at.
    for other in [
        "203.0.113.8",
        "2001:db8::7",
        "203.0.113.7, 203.0.113.9",
        "unknown",
    ] {
        assert_eq!(
            from(other).await.expect("an answer").status(),
            200,
            "{other}"
        );
    }
    let spoofed = from("203.0.113.9, 203.0.113.7").await;
    assert_eq!(spoofed.expect("an answer").status(), 429);
    let health = house.bare(Method::GET, "/health/live");
    let health = health.header("x-forwarded-for", "203.0.113.7").send().await;
    assert_eq!(health.expect("an answer").status(), 200);
    // What is given up gives its place back.
    drop(held);
    loop {
        if from("203.0.113.7").await.expect("an answer").status() == 200 {
            break;
        }
        patience.wait("the places don't come back").await;
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_connections() {
    let house = house_with(|options| options.limits.client_connections = 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connected(&house).await);
    }
    // Until all of them have come in.
    let mut patience = Patience::new();
    loop {
        let mut more = connected(&house).await;
        let ask = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = more.write_all(ask).await;
        if rest(&mut more).await.is_empty() {
            break;
        }
        patience.wait("one address has no bound").await;
    }
    held.pop();
    loop {
        if house.bare(Method::GET, "/health/live").send().await.is_ok() {
            break;
        }
        patience.wait("the place does not come back").await;
    }
    house.end().await;
    // An address that many have, and proxies that are not named: nobody can be told from anybody.
    for is_shared in [true, false] {
        let house = house_with(|options| {
            options.limits.client_connections = 1;
            options.limits.client_at_once = 1;
            options.behind_proxy = !is_shared;
            let shared = if is_shared { "127.0.0.1" } else { "" };
            options.shared_addresses = Addresses::parse(shared).expect("a list");
        })
        .await;
        let held = [
            unfinished(&house, "203.0.113.7").await,
            unfinished(&house, "203.0.113.7").await,
        ];
        let read = house.asked(Method::GET, "/fhir/r4/metadata").send();
        let read = timeout(PATIENCE, read).await.expect("in time");
        assert_eq!(read.expect("an answer").status(), 200, "{is_shared}");
        // Or its end would wait for them.
        drop(held);
        house.end().await;
    }
}

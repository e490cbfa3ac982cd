//! The audit's logs over HTTP: who may read what, and how it may be kept by caches.

use reqwest::Method;
use serde_json::json;
use trust::Role;

use crate::house::{House, header, house_with, token};

/// A log with leaves, by its name, and how many.
async fn grown(house: &House) -> (String, u64) {
    let patient = json!({ "resourceType": "Patient", "active": true });
    let made = house.sent(Method::POST, "/fhir/r4/Patient", &patient);
    assert_eq!(made.send().await.expect("an answer").status(), 201);
    house.server.ledger().checkpoint().await.expect("signed");
    let newest = house.server.ledger().newest_checkpoint().await;
    let (shard, size) = newest.expect("a checkpoint").trees[0];
    (shard.to_string(), size)
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_served_as_their_specification_says() {
    let house = house_with(|options| options.open_audit_log = true).await;
    let (log, size) = grown(&house).await;
    let text = "text/plain; charset=utf-8";
    let bytes = "application/octet-stream";
    let for_ever = "public, max-age=31536000, immutable";
    for (path, kind, cache) in [
        ("checkpoint".to_owned(), text, "no-cache"),
        ("keys".to_owned(), text, "no-cache"),
        (format!("{log}/checkpoint"), text, "no-cache"),
        (format!("{log}/tile/0/000.p/{size}"), bytes, for_ever),
    ] {
        let path = format!("/audit/log/{path}");
        let answer = house.bare(Method::GET, &path).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(header(&answer, "content-type"), kind, "{path}");
        assert_eq!(header(&answer, "cache-control"), cache, "{path}");
    }
    for path in [
        format!("{log}/tile/0/000"),
        format!("{log}/tile/0/000.p/{}", size + 1),
        format!("{log}/tile/0/0"),
        format!("{log}/tile/9/000.p/1"),
        format!("{log}/checkpoint.witnessed"),
        "100/checkpoint".to_owned(),
        "FF/checkpoint".to_owned(),
        "ff/tile/0/000.p/1000".to_owned(),
    ] {
        let path = format!("/audit/log/{path}");
        // Whoever may read everything gets no other answer.
        let officer = token(&house.server, Role::PrivacyOfficer).await;
        let request = house.bare(Method::GET, &path).bearer_auth(officer);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-cache", "{path}");
    }
    house.end().await;
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_takes_the_token_of_a_privacy_officer() {
    for open in [true, false] {
        let house = house_with(|options| options.open_audit_log = open).await;
        let (log, size) = grown(&house).await;
        let officer = token(&house.server, Role::PrivacyOfficer).await;
        for (path, is_open) in [
            ("checkpoint".to_owned(), open),
            ("keys".to_owned(), open),
            (format!("{log}/checkpoint"), open),
            (format!("{log}/tile/0/000.p/{size}"), open),
            (format!("{log}/tile/entries/000.p/{size}"), false),
        ] {
            let path = format!("/audit/log/{path}");
            for (caller, status) in [
                (None, if is_open { 200 } else { 401 }),
                (Some(&house.token), if is_open { 200 } else { 403 }),
                (Some(&officer), 200),
            ] {
                let mut request = house.bare(Method::GET, &path);
                if let Some(caller) = caller {
                    request = request.bearer_auth(caller);
                }
                let answer = request.send().await.expect("an answer");
                assert_eq!(answer.status(), status, "{path}, open: {open}");
                let cache = header(&answer, "cache-control");
                assert!(is_open || !cache.contains("public"), "{path}: {cache}");
            }
        }
        house.end().await;
    }
}

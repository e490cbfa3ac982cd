//! What can be asked for, and what can't.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    FHIR, PAYLOAD, Receiver, WEIGHTS, get, house_of, json_of, patient, put, stands, subscribed,
    subscription, until_stands, weight, with,
};
use crate::house::{House, house, house_with, token};

async fn refused(house: &House, subscription: &Value) -> (u16, String, String) {
    let asked = with(
        house,
        &house.token,
        Method::POST,
        "Subscription",
        subscription,
    );
    let (status, body) = json_of(asked.send().await).await;
    let issue = &body["issue"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        status,
        text(&issue["expression"][0]),
        text(&issue["diagnostics"]),
    )
}

#[tokio::test]
async fn what_would_not_be_done_as_asked_is_refused_with_the_reason() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let fine = subscription(WEIGHTS, &receiver.endpoint(), None);
    for (criteria, words) in [
        ("Observation", "is a search of one type"),
        ("Nothing?code=x", "is a search of one type"),
        ("Observation?code=%zz", "no query string"),
        ("Observation?kode=x", "kode"),
        ("Observation?code:nothing=x", "code"),
        ("Observation?date=tomorrow", "date"),
        (
            "Observation?code=x&_include=Observation:subject",
            "_include",
        ),
        (
            "Observation?code=x&_revinclude=Provenance:target",
            "_include",
        ),
        ("Observation?code=x&_sort=date", "_sort"),
        ("Observation?code=x&_count=5", "_count"),
        ("Observation?code=x&_summary=true", "_summary"),
        ("Observation?code=x&_total=accurate", "_total"),
        ("Observation?subject:Patient.name=x", "chained"),
        ("Patient?_has:Observation:patient:code=x", "_has"),
        ("Observation?code:in=http://example.org/vs", "value sets"),
        ("Observation?date=ap2026-01-01", "about a date"),
        ("Observation?_text=x", "without an index"),
        ("AuditEvent?date=2026", "nobody is notified"),
        ("Subscription?status=active", "another"),
    ] {
        let mut wrong = fine.clone();
        wrong["criteria"] = json!(criteria);
        let (status, place, said) = refused(&house, &wrong).await;
        assert_eq!(
            (status, place.as_str()),
            (422, "Subscription.criteria"),
            "{criteria}: {said}"
        );
        assert!(said.contains(words), "{criteria}: {said}");
    }
    let other = format!("{}0/hook", receiver.origin());
    for (path, value, place, words) in [
        ("/status", json!("active"), "status", "the server's to say"),
        ("/status", json!("error"), "status", "the server's to say"),
        ("/end", json!("2026-03-01T11:59:59Z"), "end", "has passed"),
        ("/channel/type", json!("email"), "channel.type", "rest-hook"),
        (
            "/channel/type",
            json!("websocket"),
            "channel.type",
            "rest-hook",
        ),
        (
            "/channel/payload",
            json!("application/fhir+xml"),
            "channel.payload",
            "not there",
        ),
        (
            "/channel/payload",
            json!("text/plain"),
            "channel.payload",
            "not there",
        ),
        (
            "/channel/endpoint",
            json!(other),
            "channel.endpoint",
            "no origin",
        ),
        (
            "/channel/endpoint",
            json!("https://elsewhere.example/"),
            "channel.endpoint",
            "no origin",
        ),
        (
            "/channel/endpoint",
            json!(format!("{}?a=b", receiver.endpoint())),
            "channel.endpoint",
            "no origin",
        ),
        (
            "/channel/header",
            json!(["no header"]),
            "channel.header",
            "is no header",
        ),
        (
            "/channel/header",
            json!(["Host: x"]),
            "channel.header",
            "sets itself",
        ),
        (
            "/channel/header",
            json!(["X-A: 1", "x-a: 2"]),
            "channel.header",
            "twice",
        ),
        (
            "/channel/header",
            json!(["X-A: ***"]),
            "channel.header",
            "give its value",
        ),
        (
            "/channel/header",
            json!(["X-A: \u{e9}"]),
            "channel.header",
            "printable",
        ),
        (
            "/channel/header",
            json!(["X-A: a\nX-B: b"]),
            "channel.header",
            "printable",
        ),
        (
            "/channel/header",
            json!(vec!["X-A: b"; 21]),
            "channel.header",
            "at most 20",
        ),
        (
            "/channel/header",
            json!([format!("X-A: {}", "b".repeat(5000))]),
            "channel.header",
            "4096",
        ),
    ] {
        let mut wrong = fine.clone();
        let (parent, name) = path.rsplit_once('/').expect("a path");
        let parent = wrong.pointer_mut(parent).expect("a place");
        parent[name] = value.clone();
        let (status, at, said) = refused(&house, &wrong).await;
        let place = format!("Subscription.{place}");
        assert_eq!((status, at), (422, place), "{path} {value}: {said}");
        assert!(said.contains(words), "{path} {value}: {said}");
    }
    // Those without an endpoint, and of an emergency.
    let mut wrong = fine.clone();
    wrong["channel"]
        .as_object_mut()
        .expect("an object")
        .remove("endpoint");
    let (status, place, _) = refused(&house, &wrong).await;
    assert_eq!(
        (status, place.as_str()),
        (422, "Subscription.channel.endpoint")
    );
    let clinician = token(&house.server, trust::Role::Clinician).await;
    let asked = with(&house, &clinician, Method::POST, "Subscription", &fine);
    let asked = asked.header("x-purpose-of-use", "ETREAT").send().await;
    let (status, body) = json_of(asked).await;
    assert_eq!(status, 403, "{body}");
    // Nothing of all this is there.
    let (_, found) = get(&house, &house.token, "Subscription?_total=accurate").await;
    assert_eq!(found["total"], 0, "{found}");
    house.end().await;
}

#[tokio::test]
async fn without_a_place_to_notify_there_are_no_subscriptions() {
    let house = house().await;
    let asked = subscription(WEIGHTS, "https://receiver.example/", None);
    let (status, _, said) = refused(&house, &asked).await;
    assert_eq!(status, 422);
    assert!(said.contains("subscriptions.origins"), "{said}");
    house.end().await;
}

#[tokio::test]
async fn where_policies_let_nobody_be_told_there_are_no_subscriptions() {
    let receiver = Receiver::start().await;
    for forbidden in [
        "action == Action::\"send\", resource",
        "action in Action::\"look\", resource == Kind::\"Observation\"",
        "action == Action::\"update\", resource == Kind::\"Subscription\"",
    ] {
        let folder = crate::policies::folder();
        std::fs::remove_file(folder.path().join("parts.test.toml")).expect("removed");
        let words = format!(
            "@id(\"nobody-is-told\")\n@says(\"Nobody is told.\")\n\
            forbid (principal in Part::\"subscriptions\", {forbidden});\n"
        );
        crate::policies::put(&folder, "own.cedar", &words);
        let house = house_with(|options| {
            options.policy_folder = Some(folder.path().to_owned());
            options.subscription_origins = receiver.origin();
        })
        .await;
        let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
        let (status, _, said) = refused(&house, &asked).await;
        assert_eq!(status, 422, "{forbidden}: {said}");
        assert!(said.contains("the part subscriptions"), "{said}");
        house.end().await;
    }
}

#[tokio::test]
async fn a_header_that_can_t_be_masked_is_refused_whatever_validation_lets_pass() {
    let receiver = Receiver::start().await;
    let house = house_with(|options| {
        options.validation = record::Validation::Warn;
        options.subscription_origins = receiver.origin();
    })
    .await;
    let secret = "Authorization: Bearer zyzzyva";
    let mut asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    asked["channel"]["header"] = json!(secret);
    let (status, at, said) = refused(&house, &asked).await;
    assert_eq!((status, at.contains("channel.header")), (422, true), "{at}");
    assert!(!said.contains("zyzzyva"), "{said}");
    asked["channel"]["header"] = json!([secret]);
    asked["channel"] = json!([asked["channel"]]);
    let (status, _, said) = refused(&house, &asked).await;
    assert_eq!(status, 422, "{said}");
    let (_, found) = get(&house, &house.token, "Subscription").await;
    assert!(found["entry"].is_null(), "{found}");
    house.end().await;
}

#[tokio::test]
async fn headers_are_kept_and_never_told() {
    const SECRET: &str = "qwertzuiop";
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let mut asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    asked["channel"]["header"] = json!([format!("Authorization: Bearer {SECRET}"), "X-Station: 7"]);
    let sent = with(&house, &house.token, Method::POST, "Subscription", &asked);
    let (status, made) = json_of(sent.send().await).await;
    assert_eq!(status, 201);
    assert_eq!(
        made["channel"]["header"],
        json!(["Authorization: ***", "X-Station: ***"])
    );
    let id = made["id"].as_str().expect("an id").to_owned();
    put(&house, &patient("p")).await;
    put(&house, &weight("w", "p")).await;
    let got = receiver.until(1).await;
    assert_eq!(got[0].header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(got[0].header("x-station"), "7");
    // Written back as it is shown it keeps them; one that is left out is gone, one that is given is new.
    let mut again = made.clone();
    again["status"] = json!("requested");
    again["channel"]["header"] = json!(["authorization: ***", "X-New: n"]);
    let path = format!("Subscription/{id}");
    let sent = with(&house, &house.token, Method::PUT, &path, &again).send();
    let (status, body) = json_of(sent.await).await;
    assert_eq!(status, 200, "{body}");
    put(&house, &weight("w", "p")).await;
    let got = receiver.until(2).await;
    assert_eq!(got[1].header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(
        (got[1].header("x-station"), got[1].header("x-new")),
        ("", "n")
    );
    // In no answer, whichever way it is asked for, and not in the audit.
    let officer = token(&house.server, trust::Role::PrivacyOfficer).await;
    for (token, path) in [
        (&house.token, path.clone()),
        (&house.token, format!("{path}/_history")),
        (&house.token, format!("{path}/_history/1")),
        (&house.token, "Subscription?status=active".to_owned()),
        (&house.token, "Subscription/_history".to_owned()),
        (&officer, "AuditEvent?_count=500".to_owned()),
    ] {
        let asked = house
            .bare(Method::GET, &format!("{FHIR}{path}"))
            .bearer_auth(token);
        let asked = match token == &officer {
            true => asked.header("x-purpose-of-use", "HOPERAT"),
            false => asked,
        };
        let answer = asked.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let body = answer.text().await.expect("text");
        assert!(body.len() > 200 && !body.contains(SECRET), "{path}: {body}");
    }
    house.end().await;
}

#[tokio::test]
async fn it_is_written_by_who_asked_for_it_and_by_itself() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), None);
    let id = subscribed(&house, &house.token, &asked).await;
    let path = format!("Subscription/{id}");
    let mut own = asked.clone();
    own["id"] = json!(id);
    // Another system's.
    let other = token(&house.server, trust::Role::Client).await;
    for method in [Method::PUT, Method::DELETE] {
        let sent = with(&house, &other, method.clone(), &path, &own).send();
        let (status, body) = json_of(sent.await).await;
        assert_eq!(status, 403, "{method} {body}");
    }
    // Ways that would leave out what is kept of it.
    let entry = |method: &str, url: &str| {
        json!({"resourceType": "Bundle", "type": "transaction",
        "entry": [{"resource": own, "request": {"method": method, "url": url}}]})
    };
    let patch = json!([{"op": "replace", "path": "/status", "value": "off"}]);
    let bare = |method: Method, path: &str, kind: &str, body: &Value| {
        let asked = house.asked(method, &format!("{FHIR}{path}"));
        asked.header("content-type", kind).body(body.to_string())
    };
    let fhir = "application/fhir+json";
    for (what, sent) in [
        (
            "create in a transaction",
            bare(Method::POST, "", fhir, &entry("POST", "Subscription")),
        ),
        (
            "update in a transaction",
            bare(Method::POST, "", fhir, &entry("PUT", &path)),
        ),
        (
            "delete in a transaction",
            bare(Method::POST, "", fhir, &entry("DELETE", &path)),
        ),
        (
            "patch",
            bare(Method::PATCH, &path, "application/json-patch+json", &patch),
        ),
        (
            "conditional create",
            bare(Method::POST, "Subscription", fhir, &asked)
                .header("if-none-exist", "status=requested"),
        ),
        (
            "conditional update",
            bare(Method::PUT, "Subscription?type=rest-hook", fhir, &own),
        ),
        (
            "conditional delete",
            bare(Method::DELETE, "Subscription?type=rest-hook", fhir, &own),
        ),
        (
            "meta",
            bare(
                Method::POST,
                &format!("{path}/$meta-add"),
                fhir,
                &json!({"resourceType": "Parameters",
            "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}),
            ),
        ),
    ] {
        let (status, body) = json_of(sent.send().await).await;
        assert!((400..500).contains(&status), "{what}: {status} {body}");
        assert!(
            body["issue"][0]["diagnostics"]
                .as_str()
                .is_some_and(|words| words.contains("Subscription")),
            "{what}: {body}"
        );
        assert_eq!(stands(&house, &id).await.0, "active", "{what}");
    }
    // Turned off and on again, and deleted.
    own["status"] = json!("off");
    let sent = with(&house, &house.token, Method::PUT, &path, &own).send();
    assert_eq!(json_of(sent.await).await.1["status"], "off");
    own["status"] = json!("requested");
    let sent = with(&house, &house.token, Method::PUT, &path, &own).send();
    assert_eq!(json_of(sent.await).await.1["status"], "active");
    let sent = with(&house, &house.token, Method::DELETE, &path, &own).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    assert_eq!(get(&house, &house.token, &path).await.0, 410);
    // It can be made again, by somebody else as well; masked headers of before are nobody's.
    let mut masked = own.clone();
    masked["channel"]["header"] = json!(["Authorization: ***"]);
    let sent = with(&house, &other, Method::PUT, &path, &masked).send();
    assert_eq!(json_of(sent.await).await.0, 422);
    let sent = with(&house, &other, Method::PUT, &path, &own).send();
    assert_eq!(json_of(sent.await).await.0, 201);
    assert_eq!(until_stands(&house, &id, "active").await, "");
    house.end().await;
}

#[tokio::test]
async fn how_many_there_are_is_bounded() {
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let asked = subscription(WEIGHTS, &receiver.endpoint(), Some(PAYLOAD));
    let mut last = String::new();
    for _ in 0..record::SUBSCRIPTIONS_OF_ONE_MAX {
        last = subscribed(&house, &house.token, &asked).await;
    }
    let (status, _, said) = refused(&house, &asked).await;
    assert_eq!(status, 422);
    assert!(said.contains("20 live subscriptions"), "{said}");
    // One that is off makes room, and others have theirs.
    let other = token(&house.server, trust::Role::Client).await;
    subscribed(&house, &other, &asked).await;
    let path = format!("Subscription/{last}");
    let sent = with(&house, &house.token, Method::DELETE, &path, &asked).send();
    assert_eq!(json_of(sent.await).await.0, 204);
    subscribed(&house, &house.token, &asked).await;
    for _ in 1..record::SUBSCRIPTIONS_MAX / record::SUBSCRIPTIONS_OF_ONE_MAX {
        let other = token(&house.server, trust::Role::Client).await;
        for _ in 0..record::SUBSCRIPTIONS_OF_ONE_MAX {
            let sent = with(&house, &other, Method::POST, "Subscription", &asked).send();
            let (status, body) = json_of(sent.await).await;
            if status == 422 {
                let all = "Subscription?status=active&_count=1&_total=accurate";
                let (_, found) = get(&house, &house.token, all).await;
                assert!(
                    body.to_string().contains("200 live subscriptions"),
                    "{body}"
                );
                assert_eq!(found["total"], record::SUBSCRIPTIONS_MAX);
                house.end().await;
                return;
            }
            assert_eq!(status, 201, "{body}");
        }
    }
    panic!("there is no bound");
}

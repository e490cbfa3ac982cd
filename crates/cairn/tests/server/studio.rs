//! The studio over HTTP: what is too long, what takes long, and what is another tenant's.

use std::time::Duration;

use cairn::store::TENANT;
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use trust::Role;

use crate::apps::query;
use crate::house::{House, house};
use crate::routes::{Who, person, person_of};
use crate::tenants::{Answer, NORTH, SOUTH, Two};

const HERE: &str = "/console/studio";
const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");
const WITHIN: &str =
    include_str!("../../../../docs/journeys/recipes/journey-within-a-journey.yaml");

/// A form of the studio, as a browser sends it.
async fn posted(house: &House, who: &Who, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let Who::Person { cookie, csrf } = who else {
        panic!("nobody is signed in");
    };
    let fields = [fields, &[("csrf", csrf.as_str())]].concat();
    let request = house
        .bare(Method::POST, HERE)
        .header("cookie", format!("cairn={cookie}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(&fields));
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    (status, answer.text().await.expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_bounded_and_keeps_nobody_waiting() {
    let house = house().await;
    let squad = person(&house, Role::Squad).await;
    let (status, page) = posted(&house, &squad, &[("source", JOURNEY), ("do", "look")]).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("No findings"), "{page}");
    // What is longer than a form may be is not read to its end, so the sender may not get as far as the answer.
    let Who::Person { cookie, csrf } = &squad else {
        panic!("nobody is signed in");
    };
    let long = "x".repeat(10 << 20);
    let request = house
        .bare(Method::POST, HERE)
        .header("cookie", format!("cairn={cookie}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(&[("csrf", csrf), ("source", &long), ("do", "look")]));
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    // Several at once, each for as long as it takes: others are answered meanwhile.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let ten = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{ten}]\n");
    }
    let cohort = [
        ("source", JOURNEY),
        ("do", "simulate"),
        ("patients", "300"),
        ("days", "60"),
    ];
    let bombs = [("source", bomb.as_str()), ("do", "simulate")];
    let work = async {
        tokio::join!(
            posted(&house, &squad, &cohort),
            posted(&house, &squad, &cohort),
            posted(&house, &squad, &bombs),
            posted(&house, &squad, &bombs),
        )
    };
    let slowest = async {
        let mut slowest = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let alive = house.bare(Method::GET, "/health/live").send();
            assert_eq!(alive.await.expect("an answer").status(), StatusCode::OK);
            slowest = slowest.max(begun.elapsed());
            assert!(slowest < Duration::from_secs(5), "{slowest:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = slowest => unreachable!("it looks for ever"),
    };
    for (status, page) in [done.0, done.1] {
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains("id=\"simulated\""), "{page}");
    }
    for (status, page) in [done.2, done.3] {
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains("J001"), "{page}");
    }
    house.end().await;
}

/// What one tenant has published is no other's to open, to compare with or to begin.
#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_s_studio_knows_nothing_of_another_s_journeys() {
    let two = Two::new().await;
    let south = Who::Token(two.token(TENANT, Role::Squad).await);
    let Who::Token(token) = &south else {
        panic!("a token");
    };
    let (before, _) = WITHIN.split_once("start: wound").expect("a start");
    let inner = before.replace("name: journey-within-a-journey", "name: wound-care");
    let inner = format!(
        "{inner}start: look\nsteps:\n  look:\n    title: Look\n    task: {{title: Look, reason: A wound., role: clinician, due: 3d}}\n    next: end\n    overdue: {{role: clinician, priority: urgent}}\n"
    );
    for source in [JOURNEY, inner.as_str()] {
        let put = two
            .http
            .post(format!("http://{}/api/journeys", two.server.address()))
            .header("host", SOUTH)
            .bearer_auth(token)
            .body(source.to_owned());
        let answer = put.send().await.expect("an answer");
        let status = answer.status();
        assert_eq!(
            status,
            StatusCode::OK,
            "{}",
            answer.text().await.expect("text")
        );
    }
    let of_south = person_of(&two.trust(TENANT), TENANT, Role::Squad).await;
    let of_north = person_of(&two.trust(two.north), two.north, Role::Squad).await;
    let open = format!("{HERE}?open=heart-failure-discharge%2F1");
    let look = async |host: &str, who: &Who, source: &str| -> Answer {
        let words = format!("{}&", query(&[("source", source), ("do", "look")]));
        two.send(host, &Method::POST, HERE, who, Some(words)).await
    };
    let changed = JOURNEY.replace("title: Welcome home", "title: Welcome back home");
    let theirs = two.ask(SOUTH, &Method::GET, &open, &of_south).await;
    assert!(theirs.body.contains("It is what is live"), "{theirs:?}");
    let theirs = look(SOUTH, &of_south, &changed).await;
    assert!(theirs.body.contains("Against version 1"), "{theirs:?}");
    let theirs = look(SOUTH, &of_south, WITHIN).await;
    assert!(!theirs.body.contains("J058"), "{theirs:?}");

    let none = two.ask(NORTH, &Method::GET, &open, &of_north).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let ours = look(NORTH, &of_north, &changed).await;
    assert_eq!(ours.status, StatusCode::OK, "{ours:?}");
    assert!(!ours.body.contains("Against version"), "{ours:?}");
    let ours = look(NORTH, &of_north, WITHIN).await;
    assert!(
        ours.body.contains("no journey `wound-care` is live"),
        "{ours:?}"
    );
    // Nor with a session of the other.
    let theirs = two.ask(SOUTH, &Method::GET, &open, &of_north).await;
    assert!(!theirs.body.contains("heart-failure"), "{theirs:?}");
    two.end().await;
}

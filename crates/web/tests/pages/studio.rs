//! The studio: a journey's file beside its graph, what is found in it, what it changes, and a simulated cohort.

use std::time::Duration;

use axum::http::StatusCode;
use ledger::{Number, SHARDS, Shard};
use trust::kinds;

use crate::consents::JOURNEY;
use crate::versions::{published, second};
use crate::world::{Browser, Page, World, check_html};

const HERE: &str = "/console/studio";
const WITHIN: &str =
    include_str!("../../../../docs/journeys/recipes/journey-within-a-journey.yaml");
const BEHAVIOUR: &str = include_str!("../../../../journeys/heart-failure-discharge.behaviour.yaml");
/// A step that asks a partner.
const CALL: &str = "  look:\n    title: Look\n    call:\n      partner: rides\n      path: /bookings\n      values:\n        kind: {is: wheelchair}\n      up_to: 1d\n    next: end\n    failed: end\n    timed_out: end\n";

async fn look(browser: &mut Browser, source: &str, more: &[(&str, &str)]) -> Page {
    let fields = [&[("source", source), ("do", "look")], more].concat();
    let page = browser.act(HERE, HERE, &fields).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    check_html(HERE, &page.body);
    page
}

async fn simulate(browser: &mut Browser, source: &str, more: &[(&str, &str)]) -> Page {
    let fields = [&[("source", source), ("do", "simulate")], more].concat();
    let page = browser.act(HERE, HERE, &fields).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    check_html(HERE, &page.body);
    page
}

/// Two versions, of which the second is live.
async fn both(world: &World) {
    let mut sam = world.staff("sam").await;
    let publish = "/console/journeys/publish";
    let fields = [("source", JOURNEY), ("do", "publish")];
    let first = sam.act(publish, publish, &fields).await;
    assert!(first.location().ends_with("version=1"), "{}", first.body);
    published(world).await;
}

/// What was written since a number, sessions aside.
async fn written(world: &World, after: Number) -> usize {
    let mut count = 0;
    for shard in 0..SHARDS {
        let events = world.ledger().events(Shard(shard), after, 1_000).await;
        let events = events.unwrap();
        let events = events.iter().filter(|event| event.kind != kinds::SESSION);
        count += events.count();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_looked_at_beside_its_graph_and_kept_nowhere() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    let empty = sam.get(HERE).await;
    check_html(HERE, &empty.body);
    empty.shows("Nothing is checked yet");
    both(&world).await;
    let before = world.ledger().last_number();

    let open = format!("{HERE}?open=heart-failure-discharge%2F2");
    let page = sam.get(&open).await;
    check_html(&open, &page.body);
    page.shows("title: Welcome back home");
    page.shows("No findings");
    assert!(!page.has("it can be published"));
    page.shows("It is what is live");
    page.shows("Steps of Heart failure follow-up after discharge.");

    // Another word, and a step that leads nowhere: at their line and column, with why and the page of the code.
    let changed = look(&mut sam, JOURNEY, &[]).await;
    changed.shows("Against version 2, which is live");
    changed.shows("steps.welcome.send.title");
    changed.shows("− Welcome back home");
    changed.shows("+ Welcome home");
    let broken = JOURNEY.replace("no_answer: call", "no_answer: nowhere");
    let line = 1 + broken
        .lines()
        .position(|line| line.contains("nowhere"))
        .unwrap();
    let found = look(&mut sam, &broken, &[]).await;
    found.shows(&format!("Line {line}, column 16"));
    found.shows("<a href=\"/console/checks/J006\">J006</a>");
    found.shows("Why it matters: ");
    found.shows("The graph is drawn as soon as");
    assert!(
        found.has("no_answer: nowhere"),
        "what was typed is not lost"
    );

    // Where the form is right, it is drawn with what is wrong marked at its step.
    let alone = JOURNEY.replace(
        "    next: end\n    overdue: {role: coordinator, priority: urgent}",
        "    next: end",
    );
    assert_ne!(alone, JOURNEY);
    let found = look(&mut sam, &alone, &[]).await;
    found.shows("✕ 1 error");
    found.shows("J014");
    assert_eq!(written(&world, before).await, 0, "something was kept");

    // What is looked at is what publishing says.
    let publish = "/console/journeys/publish";
    let checked = sam
        .act(publish, publish, &[("source", &alone), ("do", "check")])
        .await;
    check_html(publish, &checked.body);
    checked.shows("J014");
    for missing in [
        "open=heart-failure-discharge%2F9",
        "open=none%2F1",
        "open=x",
        "open=a%2Fb",
    ] {
        let page = sam.get(&format!("{HERE}?{missing}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_checked_among_the_journeys_and_partners_of_the_organisation() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    // The file alone is good; here nobody has published what it begins.
    assert!(journey::check(WITHIN).iter().all(|finding| !finding.error));
    let found = look(&mut sam, WITHIN, &[]).await;
    found.shows("J058");
    found.shows("no journey `wound-care` is live");
    let (before, _) = WITHIN.split_once("  look:\n").unwrap();
    let calls = format!("{before}{CALL}");
    assert!(
        journey::check(&calls).iter().all(|finding| !finding.error),
        "{:?}",
        journey::check(&calls)
    );
    let found = look(&mut sam, &calls, &[]).await;
    found.shows("J060");
    found.shows("there is no partner `rides`");
    // As publishing says.
    let publish = "/console/journeys/publish";
    let refused = sam
        .act(publish, publish, &[("source", &calls), ("do", "publish")])
        .await;
    refused.shows("there is no partner `rides`");
    refused.shows("no journey `wound-care` is live");
    let inner = WITHIN
        .replace("name: journey-within-a-journey", "name: wound-care")
        .replace("begins: wound-care", "begins: another");
    let (inner, _) = inner.split_once("steps:\n").unwrap();
    let inner = format!(
        "{inner}steps:\n  wound:\n    title: Look\n    task: {{title: Look, reason: A wound., role: clinician, due: 3d}}\n    next: end\n    overdue: end\n"
    );
    let done = sam
        .act(publish, publish, &[("source", &inner), ("do", "publish")])
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert!(
        !look(&mut sam, WITHIN, &[]).await.has("J058"),
        "it is live by now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_is_led_and_told_of_with_its_seed() {
    let world = World::new().await;
    both(&world).await;
    let mut sam = world.staff("sam").await;
    let small = [("patients", "60"), ("days", "60"), ("seed", "7")];
    let before = world.ledger().last_number();
    let page = simulate(&mut sam, JOURNEY, &small).await;
    let report = |page: &Page| {
        let part = page
            .body
            .split("id=\"simulated\"")
            .nth(1)
            .unwrap_or_else(|| panic!("{}", page.body));
        part.split("id=\"changes\"").next().unwrap().to_owned()
    };
    let told = report(&page);
    for said in [
        "<span class=\"strong\">60</span> made-up patients over <span class=\"strong\">60</span> days, seed <span class=\"strong\">7</span>",
        "Messages by email",
        "Tasks for staff",
        "The same as a table, by week",
        "57–60",
        "coordinator",
        "95 in a hundred get at most",
        "still under way",
        "There is no file of behaviour: all of it is assumed.",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert!(!told.contains("The same people along version"));
    assert_eq!(
        report(&simulate(&mut sam, JOURNEY, &small).await),
        told,
        "the same seed gives the same"
    );
    let other = simulate(
        &mut sam,
        JOURNEY,
        &[("patients", "60"), ("days", "60"), ("seed", "8")],
    )
    .await;
    assert_ne!(report(&other), told);
    // Beside what is live, and with what is said of people.
    let more = [&small[..], &[("against", "live"), ("behaviour", BEHAVIOUR)]].concat();
    let page = simulate(&mut sam, JOURNEY, &more).await;
    let told = report(&page);
    assert!(told.contains("The same people along version 2"), "{told}");
    assert!(
        told.contains("Behaviour is taken from the file of behaviour"),
        "{told}"
    );
    page.shows("weight_missing_again: {outcomes:");
    assert_eq!(written(&world, before).await, 0, "something was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_simulated_says_why_and_loses_nothing() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    for (fields, said) in [
        (vec![("patients", "2001")], "Patients are 1 to 2,000."),
        (vec![("patients", "-1")], "Patients are 1 to 2,000."),
        (vec![("days", "181")], "Days are 1 to 180."),
        (vec![("days", "0")], "Days are 1 to 180."),
        (vec![("seed", "x")], "A seed is a whole number"),
        (
            vec![("seed", "99999999999999999999")],
            "A seed is a whole number",
        ),
    ] {
        let page = simulate(&mut sam, JOURNEY, &fields).await;
        page.shows(said);
        page.shows("name: heart-failure-discharge");
        assert!(!page.has("id=\"simulated\""), "{fields:?}");
    }
    let wrong = [("patients", "5"), ("behaviour", "patients:\n  answr: 1\n")];
    let page = simulate(&mut sam, JOURNEY, &wrong).await;
    page.shows("How patients and staff behave can't be read");
    page.shows("Line 2, column 3");
    let page = simulate(&mut sam, "name: x\n", &[]).await;
    page.shows("A file with errors can't be simulated.");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_write_is_shown_as_text_and_bounded() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    // HTML in a title, in words, in an id, in a name.
    let evil = "<script>alert(1)</script>";
    let titled = JOURNEY
        .replace("title: Welcome message", &format!("title: \"{evil}\""))
        .replace(
            "title: Heart failure follow-up after discharge",
            &format!("title: \"{evil} <b>\""),
        );
    let page = look(&mut sam, &titled, &[]).await;
    page.shows("&lt;script&gt;");
    assert!(!page.has("<script>") && !page.has("<b>"));
    let led = simulate(&mut sam, &titled, &[("patients", "3"), ("days", "3")]).await;
    assert!(!led.has("<script>") && !led.has("<b>"));
    for source in [
        JOURNEY.replace("  welcome:\n", &format!("  \"{evil}\":\n")),
        JOURNEY.replace(
            "name: heart-failure-discharge",
            &format!("name: \"{evil}\""),
        ),
        JOURNEY.replace("purpose: TREAT", &format!("purpose: \"{evil}\"")),
        "</textarea><script>alert(1)</script>".to_owned(),
        format!("name: a\n{evil}: b\n"),
    ] {
        let page = look(&mut sam, &source, &[("behaviour", "</textarea><script>")]).await;
        assert!(!page.has("<script>"), "{source}");
        page.shows("Line ");
    }
    // Aliases within aliases.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let one = format!("*a{}", level - 1);
        let ten = vec![one; 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{ten}]\n");
    }
    let begun = tokio::time::Instant::now();
    let page = look(&mut sam, &bomb, &[]).await;
    page.shows("J001");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    // As a file of behaviour, and as a map of steps, it is no other.
    simulate(&mut sam, JOURNEY, &[("behaviour", &bomb)])
        .await
        .shows("J001");
    // Longer than any journey.
    let long = format!("{JOURNEY}# {}\n", "x".repeat(600 * 1024));
    look(&mut sam, &long, &[]).await.shows("J035");
    // So many mistakes that not all are shown.
    let many: String = (0..500).map(|number| format!("m{number}: 1\n")).collect();
    let page = look(&mut sam, &many, &[]).await;
    page.shows("The first 100 of ");
    assert!(page.body.len() < 150_000, "{}", page.body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_studio_is_for_those_who_see_journeys() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    both(&world).await;
    for user in ["sam", "carla", "devi", "ada"] {
        let mut browser = world.staff(user).await;
        browser.get("/console/journeys").await.shows("Studio");
        let page = look(&mut browser, JOURNEY, &[]).await;
        page.shows("No findings");
        assert_eq!(page.has("Keep as a draft"), user == "sam", "{user}");
        browser
            .get("/console/checks/J014")
            .await
            .shows("What to do: ");
    }
    let fields = [("source", JOURNEY), ("do", "look")];
    for user in ["priya", "bill"] {
        let mut browser = world.staff(user).await;
        assert_eq!(
            browser.get(HERE).await.status,
            StatusCode::FORBIDDEN,
            "{user}"
        );
        let page = browser.get("/console/checks/J014").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
        let page = browser.act("/console/sign-in", HERE, &fields).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
    let mut own = world.patients_browser(&ida).await;
    assert_eq!(own.get(HERE).await.status, StatusCode::FORBIDDEN);
    let page = own.act("/portal/weight", HERE, &fields).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    let page = world.browser().get(HERE).await;
    assert!(page.location().starts_with("/sign-in"), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_code_of_the_checker_has_a_page() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    for (code, _) in journey::CODES {
        let path = format!("/console/checks/{code}");
        let page = sam.get(&path).await;
        check_html(&path, &page.body);
        page.shows("What to do: ");
    }
    for nothing in ["J999", "J001%0A", "x", "J001%22"] {
        let page = sam.get(&format!("/console/checks/{nothing}")).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nothing}");
    }
}

/// From the studio to publishing, with what was typed.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_kept_from_the_studio() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    let page = look(&mut sam, &second(), &[]).await;
    page.shows("formaction=\"/console/journeys/publish\"");
    let fields = [
        ("source", second()),
        ("do", "draft".to_owned()),
        ("patients", "5".to_owned()),
    ];
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let kept = sam.act(HERE, "/console/journeys/publish", &fields).await;
    let draft = "/console/journeys/heart-failure-discharge?version=1";
    assert_eq!(kept.location(), draft, "{}", kept.body);
    sam.get(draft).await.shows("Open in the studio");
    sam.get(&format!("{HERE}?open=heart-failure-discharge%2F1"))
        .await
        .shows("Welcome back home");
}

/// What the page's script asks for while somebody types.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_is_checked_in_parts_one_at_a_time_and_kept_nowhere() {
    const CHECK: &str = "/console/studio/check";
    /// Longer than the pace of one session.
    const PACE: Duration = Duration::from_millis(450);
    let world = World::new().await;
    both(&world).await;
    let mut sam = world.staff("sam").await;
    let empty = sam.get(HERE).await;
    empty.shows(&format!("data-check=\"{CHECK}\""));
    empty.shows("/static/studio.");
    let csrf = empty.field("csrf");
    let mut other = world.staff("sam").await;
    let own = other.get(HERE).await.field("csrf");
    let before = world.ledger().last_number();
    let fields = |source: &str| vec![("csrf", csrf.clone()), ("source", source.to_owned())];
    let post = async |browser: &mut Browser, fields: Vec<(&str, String)>| {
        let fields: Vec<_> = fields.iter().map(|(a, b)| (*a, b.as_str())).collect();
        browser.post(CHECK, &fields).await
    };
    let wrong = JOURNEY.replace("no_answer: call", "no_answer: nowhere");
    let line = 1 + wrong
        .lines()
        .position(|one| one.contains("nowhere"))
        .unwrap();
    // With the line ends of a browser, and nothing of the page's frame in the answer.
    let page = post(&mut sam, fields(&wrong.replace('\n', "\r\n"))).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let found: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    let said = found["said"].as_str().unwrap();
    assert!(
        said.starts_with("1 error") && said.ends_with(&format!("the first in line {line}.")),
        "{said}"
    );
    let ids: Vec<_> = (found["parts"].as_array().unwrap().iter())
        .map(|part| part["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["looked", "differs"]);
    let html = found["parts"][0]["html"].as_str().unwrap();
    for part in [
        format!("href=\"#source\" data-act=\"place\" data-line=\"{line}\" data-column=\"16\""),
        "href=\"/console/checks/J006\"".to_owned(),
        "Why it matters: ".to_owned(),
    ] {
        assert!(html.contains(&part), "{part}: {html}");
    }
    assert!(!page.has("<main") && !page.has("csrf"));
    // At once again is too soon for this session, and not for another of the same person.
    let soon = post(&mut sam, fields(JOURNEY)).await;
    assert_eq!(soon.status, StatusCode::TOO_MANY_REQUESTS, "{}", soon.body);
    assert_eq!(soon.headers["retry-after"], "1");
    let own = vec![("csrf", own), ("source", JOURNEY.to_owned())];
    let page = post(&mut other, own).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    page.shows("No findings.");
    page.shows("Against version 2, which is live");
    tokio::time::sleep(PACE).await;
    let page = post(&mut sam, fields(&second())).await;
    page.shows("It is what is live");
    // Longer than is checked at each rest: said, and nothing is looked at.
    tokio::time::sleep(PACE).await;
    let long = format!("{JOURNEY}# {}\n", "x".repeat(256 * 1024));
    let page = post(&mut sam, fields(&long)).await;
    assert_eq!(page.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(page.has("checked by the button"), "{}", page.body);
    assert_eq!(written(&world, before).await, 0, "something was kept");
    for user in ["priya", "bill"] {
        let mut browser = world.staff(user).await;
        let csrf = browser.get("/console/sign-in").await.field("csrf");
        let page = post(
            &mut browser,
            vec![("csrf", csrf), ("source", String::new())],
        )
        .await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
}

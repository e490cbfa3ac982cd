//! How a journey goes: from the counts at once, and from an analysis that somebody has made.

use axum::http::StatusCode;
use fhir::ResourceType;
use serde_json::json;
use std::time::Duration;

use crate::console::{JOURNEY, journey_of};
use crate::world::{Browser, DAY_MS, Page, TENANT, World, check_html};

const HERE: &str = "/console/journeys/heart-failure-discharge/analysis";

/// The page with the analysis, as soon as it is there.
pub(crate) async fn made_anew(sam: &mut Browser, href: &str) -> Page {
    let made = async {
        loop {
            let page = sam.get(href).await;
            if page.has("Make it anew") {
                break page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let made = tokio::time::timeout(Duration::from_secs(60), made).await;
    made.expect("an analysis within a minute")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_is_made_and_shown_to_who_may_see_how_journeys_go() {
    let world = World::new().await;
    let patients = journey_of(&world, 24).await;
    world.clock.advance(2 * DAY_MS);
    while world.journeys.drain(TENANT).await.unwrap() > 0 {}
    for away in &patients[..12] {
        world
            .put(vec![json!({ "resourceType": "Encounter", "id": world.id_of(away), "status": "in-progress", "class": { "code": "IMP" }, "subject": { "reference": format!("Patient/{away}") }, "period": { "start": "2026-03-03T07:00:00Z" } })])
            .await;
    }
    while world.journeys.drain(TENANT).await.unwrap() > 0 {}

    // Four e-mails have left, three of them at a price that was known.
    for (place, patient) in patients[..4].iter().enumerate() {
        let mails = world.all(ResourceType::Communication, patient).await;
        let medium = ["medium", "0", "coding", "0", "code"];
        let mut mails = mails.into_iter();
        let mut mail = mails
            .find(|mail| mail.text_at(&medium) == Some("EMAILWRIT"))
            .expect("an e-mail");
        let version = mail.text_at(&["meta", "versionId"]).unwrap();
        let version = version.parse().unwrap();
        mail.set("sent", json!("2026-03-02T10:00:00Z"));
        if place > 0 {
            let cost = json!({ "value": 0.0004, "currency": "USD" });
            let url = trust::costs::MESSAGE_COST_URL;
            mail.set("extension", json!([{ "url": url, "valueMoney": cost }]));
        }
        mail.strip_meta();
        world.change(mail.into_value(), version).await;
    }

    let mut sam = world.staff("sam").await;
    let page = sam.get(HERE).await;
    check_html(HERE, &page.body);
    for said in [
        "12</span> in it now",
        "12</span> have left it",
        "How far they come",
        "Where they drop off",
        "How long they stay",
        "What ran out of time",
        "Back in hospital",
        "No analysis was made yet",
    ] {
        page.shows(said);
    }
    assert!(!page.has("/people?"), "a squad sees how many, not who");
    // Seven days after the discharge are over only now.
    world.clock.advance(6 * DAY_MS);
    for days in ["0", "8", "367", "soon"] {
        let refused = sam
            .act(HERE, HERE, &[("version", "1"), ("days", days)])
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        assert!(refused.has("Days of observation are one of 7, 14, 30, 60, 90, 180, 365."));
    }
    let made = sam
        .act(HERE, HERE, &[("version", "1"), ("days", "7")])
        .await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    assert!(made.location().ends_with("/analysis?version=1#analysis"));
    let page = made_anew(&mut sam, HERE).await;
    check_html(HERE, &page.body);
    for said in [
        "Of <span class=\"strong\">24</span> journeys",
        "12 of 12",
        "Fitness of all together",
        "All of them, the most frequent first.",
        "ended: Back in hospital",
        "By language",
        "What messages cost",
        "0.0012 USD</span> in all",
        "Of 1 message no price is known: no sum has that.",
        "<th scope=\"row\">E-mail</th><td class=\"number\">4</td>",
        "and 1 whose price is not known",
        "<th scope=\"row\" class=\"nowrap\">2026-03</th>",
        "Simulated are 100 made-up patients over 365 days",
        "What came of them",
        "Within 7 days, as far as the record has it",
        "In hospital again after the discharge",
        "12 of 24</span> (50 %) were in hospital without a plan.",
        "In hospital, not planned",
        "<option value=\"7\" selected>7</option>",
    ] {
        page.shows(said);
    }
    assert!(page.body.len() < 100_000, "{}", page.body.len());
    for patient in &patients {
        assert!(!page.has(patient.as_str()));
    }
    // Those who see who is where come from the numbers to the lists.
    let mut carla = world.staff("carla").await;
    let page = carla.get(HERE).await;
    page.shows("/people?version=1&amp;list=ended&amp;reason=Back%20in%20hospital\">12</a>");
    page.shows("How it goes");
    let unknown = carla.get(&format!("{HERE}?version=9")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let nothing = carla.act(HERE, HERE, &[("version", "9")]).await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
    // One version stands beside no other.
    assert!(!page.has("Versions side by side"));
    let second = JOURNEY.replacen("title: ", "title: Newer ", 1);
    let publish = "/console/journeys/publish";
    let form = [("source", second.as_str()), ("do", "publish")];
    let done = sam.act(publish, publish, &form).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert!(!sam.get(HERE).await.has("Versions side by side"));
    let newer = format!("{HERE}?version=2");
    sam.act(&newer, HERE, &[("version", "2")]).await;
    let page = made_anew(&mut sam, &newer).await;
    check_html(&newer, &page.body);
    page.shows("Versions side by side");
    page.shows("50 %<div class=\"quiet small\">of 24, 7 days</div>");
    page.shows("analysis?version=1\">Version 1</a></th><td class=\"number\">24</td><td class=\"number\">12</td>");
    page.shows("analysis?version=2\">Version 2</a></th><td class=\"number\">0</td>");
}

/// The graph tells parts of those who started where the address says so, in its tables too, and of few none.
#[tokio::test(flavor = "multi_thread")]
async fn the_graph_shows_the_funnel_by_version() {
    const GRAPH: &str = "/console/journeys/heart-failure-discharge";
    let world = World::new().await;
    let patients = journey_of(&world, 10).await;
    let mut sam = world.staff("sam").await;
    let funnel = format!("{GRAPH}?version=1&show=funnel");
    let page = sam.get(&funnel).await;
    check_html(&funnel, &page.body);
    page.shows("Parts are told from 11 who started this version. So far: 10.");
    assert!(!page.has("of those who started came here"), "{}", page.body);
    for number in 10..16 {
        crate::console::another(&world, number).await;
    }
    world.clock.advance(2 * DAY_MS);
    while world.journeys.drain(TENANT).await.unwrap() > 0 {}
    for away in &patients[..4] {
        world
            .put(vec![json!({ "resourceType": "Encounter", "id": world.id_of(away), "status": "in-progress", "class": { "code": "IMP" }, "subject": { "reference": format!("Patient/{away}") }, "period": { "start": "2026-03-03T07:00:00Z" } })])
            .await;
    }
    while world.journeys.drain(TENANT).await.unwrap() > 0 {}
    let counts = sam.get(&format!("{GRAPH}?version=1")).await;
    counts.shows("here now");
    counts.shows("&amp;show=funnel\">Funnel</a>");
    let page = sam.get(&funnel).await;
    check_html(&funnel, &page.body);
    page.shows("Of <span class=\"strong\">16</span> who started this version");
    page.shows("100 % of those who started came here");
    assert!(
        page.has("25 % left the journey here") && page.has("−25 %"),
        "{}",
        page.body
    );
    page.shows("Came here, of those who started");
    page.shows("Left the journey here, of those who came");
    page.shows("&amp;show=funnel#step");
    assert!(
        !page.has(" here now, ") && !page.has("/people?"),
        "{}",
        page.body
    );
    // Its live parts go on saying the same, and so does another version.
    assert!(page.live().contains("show=funnel"), "{}", page.live());
    let second = JOURNEY.replacen("title: ", "title: Newer ", 1);
    let publish = "/console/journeys/publish";
    let form = [("source", second.as_str()), ("do", "publish")];
    sam.act(publish, publish, &form).await;
    let page = sam.get(&funnel).await;
    page.shows("?version=2&amp;show=funnel\"");
    let other = sam.get(&format!("{GRAPH}?version=2&show=funnel")).await;
    other.shows("So far: 0.");
}

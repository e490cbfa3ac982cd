//! Acts by hand on many patients' journeys.

use axum::http::StatusCode;
use fhir::ResourceType;

use crate::consents::followed;
use crate::hands::journey_of;
use crate::world::{TENANT, World, check_html};

const HERE: &str = "/console/batches";
const JOURNEY: [(&str, &str); 2] = [("journey", "heart-failure-discharge"), ("version", "1")];

async fn finish(world: &World) {
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
}

/// The id of a batch that waits for its turn.
pub(crate) async fn asked_for(world: &World) -> String {
    let mut carla = world.staff("carla").await;
    let new = format!("{HERE}/new?journey=heart-failure-discharge&version=1");
    let fields = [
        JOURNEY[0],
        JOURNEY[1],
        ("what", "hold"),
        ("reason", "Flood"),
    ];
    let begun = carla.act(&new, HERE, &fields).await;
    let id = begun.location().strip_prefix(&format!("{HERE}/"));
    id.unwrap_or_else(|| panic!("{}", begun.body)).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_journeys_are_held_with_what_would_come_of_it_shown_before() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let olaf = world.patient("Olaf", "Berg").await;
    let mut carla = world.staff("carla").await;
    let list = carla.get(HERE).await;
    check_html(HERE, &list.body);
    list.shows("There was none so far.");
    let new = format!("{HERE}/new?journey=heart-failure-discharge&version=1&step=welcome");
    let form = carla.get(&new).await;
    check_html(&new, &form.body);
    form.shows("Skip the step: not delivered");

    let with = |more: &[(&'static str, &'static str)]| [&JOURNEY[..], more].concat();
    let at = format!("{HERE}/new");
    for (fields, total) in [
        (
            with(&[("what", "hold")]),
            "<span class=\"strong\">1</span> journey.",
        ),
        (
            with(&[("what", "skip:0"), ("step", "welcome")]),
            "<span class=\"strong\">1</span> journey.",
        ),
        (
            with(&[("what", "hold"), ("search", "family=Berg&given=Ida")]),
            "<span class=\"strong\">1</span> journey.",
        ),
        (
            with(&[("what", "hold"), ("search", "given=Olaf")]),
            "<span class=\"strong\">0</span> journeys.",
        ),
        (
            with(&[("what", "hold"), ("days", "9")]),
            "<span class=\"strong\">0</span> journeys.",
        ),
        (
            with(&[("what", "go-on"), ("held", "yes")]),
            "<span class=\"strong\">0</span> journeys.",
        ),
    ] {
        let told = carla.act(&new, &at, &fields).await;
        check_html(&at, &told.body);
        told.shows(total);
        assert_eq!(told.has("Do it"), !total.contains(">0<"), "{fields:?}");
    }
    for fields in [
        with(&[("what", "dance")]),
        with(&[("what", "hold"), ("search", "favourite=blue")]),
        with(&[("what", "hold"), ("search", "given=Nobody")]),
        with(&[("what", "hold"), ("patients", "no/id")]),
        with(&[("what", "hold"), ("days", "many")]),
    ] {
        let refused = carla.act(&new, &at, &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }

    let both = format!("{ida}, {olaf}");
    let mut fields: Vec<(&str, &str)> = JOURNEY.to_vec();
    fields.extend([("what", "hold"), ("patients", both.as_str()), ("rate", "5")]);
    let without = carla.act(&new, HERE, &fields).await;
    assert_eq!(
        without.status,
        StatusCode::BAD_REQUEST,
        "a reason is needed"
    );
    fields.push(("reason", "Flood"));
    let begun = carla.act(&new, HERE, &fields).await;
    let batch = begun.location().to_owned();
    assert!(batch.starts_with(&format!("{HERE}/")), "{}", begun.body);
    let seen = carla.get(&batch).await;
    check_html(&batch, &seen.body);
    seen.shows("Under way");
    seen.shows("Break it off");
    finish(&world).await;
    carla
        .get(&batch)
        .await
        .shows("<span class=\"strong\">1</span> of 1 tried");
    let chart = carla.get(&format!("/console/patients/{ida}")).await;
    chart.shows("Held by Carla Ortiz: Flood");
    let mails = world.all(ResourceType::Communication, &ida).await;
    assert_eq!(mails[0].text_at(&["status"]), Some("on-hold"));
    // Again: it is for who is held already, and says so.
    let again = carla.act(&new, HERE, &fields).await;
    let again = again.location().to_owned();
    finish(&world).await;
    let seen = carla.get(&again).await;
    check_html(&again, &seen.body);
    seen.shows("Ida Berg");
    seen.shows("it is held already");
    // Broken off before anybody is reached.
    let third = carla.act(&new, HERE, &fields).await;
    let third = third.location().to_owned();
    let off = carla.act(&third, &format!("{third}/cancel"), &[]).await;
    assert_eq!(off.location(), third);
    carla.get(&third).await.shows("Broken off");
    finish(&world).await;
    carla.get(HERE).await.shows("0 of 1");
    assert!(!journey_of(&world, &ida).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_for_care_coordinators() {
    let world = World::new().await;
    followed(&world).await;
    let fields = [
        JOURNEY[0],
        JOURNEY[1],
        ("what", "hold"),
        ("reason", "Flood"),
    ];
    for user in ["devi", "priya", "sam", "ada"] {
        let mut browser = world.staff(user).await;
        for page in [
            HERE,
            "/console/batches/new?journey=heart-failure-discharge&version=1",
            "/console/batches/x",
        ] {
            let seen = browser.get(page).await;
            assert_eq!(seen.status, StatusCode::FORBIDDEN, "{user} {page}");
        }
        for form in [HERE, "/console/batches/new", "/console/batches/x/cancel"] {
            let tried = browser.act("/console/sign-in", form, &fields).await;
            assert_eq!(tried.status, StatusCode::FORBIDDEN, "{user} {form}");
        }
    }
    let mut carla = world.staff("carla").await;
    for page in [
        "/console/batches/x",
        "/console/batches/new?journey=none&version=1",
    ] {
        assert_eq!(
            carla.get(page).await.status,
            StatusCode::NOT_FOUND,
            "{page}"
        );
    }
}

//! Versions of a journey on their way, and patients who are moved from one to another.

use axum::http::StatusCode;
use fhir::ResourceType;

use crate::consents::{JOURNEY, followed};
use crate::hands::journey_of;
use crate::world::{TENANT, World, check_html};

const NAME: &str = "heart-failure-discharge";
const HERE: &str = "/console/journeys/heart-failure-discharge";
const PUBLISH: &str = "/console/journeys/publish";

/// The journey with another first message.
pub(crate) fn second() -> String {
    let source = JOURNEY.replace("title: Welcome home", "title: Welcome back home");
    assert_ne!(source, JOURNEY);
    source
}

/// A second version, published by a squad.
pub(crate) async fn published(world: &World) {
    let mut sam = world.staff("sam").await;
    let done = sam
        .act(
            PUBLISH,
            PUBLISH,
            &[("source", &second()), ("do", "publish")],
        )
        .await;
    assert!(done.location().ends_with("version=2"), "{}", done.body);
}

/// The mark of what would come of a move.
pub(crate) async fn seen(world: &World, more: &[(&str, &str)]) -> String {
    let permit = steers(world).await;
    let line = |(name, value): &(&str, &str)| match name.strip_prefix("map-") {
        Some(step) => format!("{step}: {value}\n"),
        None => format!("{value}\n"),
    };
    let lines: String = more.iter().map(line).collect();
    let map = world.journeys.map_in(&permit, (NAME, 1, 2), &lines).await;
    let moving = journey::Moving {
        who: journey::Who {
            journey: NAME.to_owned(),
            version: 1,
            step: None,
            for_ms: 0,
            held: None,
            patients: std::collections::BTreeSet::new(),
            among: 0,
        },
        portion: journey::Portion::All,
        to: 2,
        map: map.unwrap(),
    };
    let preview = world.journeys.preview_migration(&permit, &moving).await;
    preview.unwrap().seen
}

/// The batch of a move that was asked for, with what else is said of it.
pub(crate) async fn moved(world: &World, more: &[(&str, &str)]) -> String {
    let mut carla = world.staff("carla").await;
    let form = format!("{HERE}/move?from=1&to=2");
    let seen = seen(world, more).await;
    let fields = [("from", "1"), ("to", "2"), ("reason", "Shorter")];
    let fields = [&fields, more, &[("seen", seen.as_str())]].concat();
    let begun = carla
        .act(&form, &format!("{HERE}/move/begin"), &fields)
        .await;
    let id = begun.location().strip_prefix("/console/batches/");
    id.unwrap_or_else(|| panic!("{}", begun.body)).to_owned()
}

pub(crate) async fn steers(world: &World) -> trust::Permit {
    let coordinator = trust::Agent {
        role: trust::Role::Coordinator,
        ..trust::Agent::system(TENANT, "carla")
    };
    let (purpose, target) = (trust::Purpose::CareManagement, trust::Target::default());
    let steer = trust::Action::Steer;
    let permit = world
        .trust
        .decide(&coordinator, purpose, steer, target, "test");
    permit.await.unwrap()
}

async fn batches_of(world: &World) -> Vec<journey::Batch> {
    world.journeys.batches(&steers(world).await).await.unwrap()
}

async fn finish(world: &World) {
    while world.journeys.batch_turn(TENANT).await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_kept_checked_staged_and_made_live() {
    let world = World::new().await;
    let mut sam = world.staff("sam").await;
    sam.act(PUBLISH, PUBLISH, &[("source", JOURNEY), ("do", "publish")])
        .await;
    let broken = second().replace("no_answer: call", "no_answer: nowhere");
    assert_ne!(broken, second());
    let kept = sam
        .act(PUBLISH, PUBLISH, &[("source", &broken), ("do", "draft")])
        .await;
    let draft = format!("{HERE}?version=2");
    assert_eq!(kept.location(), draft, "{}", kept.body);
    let page = sam.get(&draft).await;
    check_html(&draft, &page.body);
    page.shows("Draft");
    page.shows("J006");
    assert!(!page.has("Check it: it stays"), "it has errors");
    let list = sam.get("/console/journeys").await;
    check_html("/console/journeys", &list.body);
    list.shows("Draft");
    // What is kept is taken up again where it was.
    let again = format!("{PUBLISH}?from={NAME}&version=2");
    sam.get(&again).await.shows("no_answer: nowhere");
    sam.act(PUBLISH, PUBLISH, &[("source", &second()), ("do", "draft")])
        .await;
    let stage = format!("{HERE}/stage");
    for (fields, said) in [
        (vec![("to", "checked")], "Checked, starts nobody yet"),
        (
            vec![("to", "staged"), ("share", "5"), ("sites", "north south")],
            "Staged: 5 % of new patients at 2 sites",
        ),
        (
            vec![("to", "staged"), ("share", "100")],
            "Staged: all new patients",
        ),
        (vec![("to", "checked")], "Checked, starts nobody yet"),
        (vec![("to", "live")], "New patients start here"),
        (vec![("to", "retired")], "No new patients"),
    ] {
        let mut fields = fields;
        fields.extend([("version", "2"), ("reason", "Tried out")]);
        let done = sam.act(&draft, &stage, &fields).await;
        assert_eq!(done.location(), draft, "{}", done.body);
        let page = sam.get(&draft).await;
        check_html(&draft, &page.body);
        page.shows(said);
        page.shows("Tried out");
    }
    for fields in [
        vec![("to", "live"), ("version", "2"), ("reason", "x")],
        vec![("to", "nowhere"), ("version", "1"), ("reason", "x")],
        vec![("to", "retired"), ("version", "1"), ("reason", "x")],
        vec![
            ("to", "staged"),
            ("share", "many"),
            ("version", "2"),
            ("reason", "x"),
        ],
    ] {
        let refused = sam.act(&format!("{HERE}?version=1"), &stage, &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    let unknown = sam
        .act(
            &format!("{HERE}?version=1"),
            &stage,
            &[("to", "retired"), ("version", "9"), ("reason", "x")],
        )
        .await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    // It is for squads.
    let mut carla = world.staff("carla").await;
    assert!(!carla.get(&draft).await.has("Move it on"));
    let refused = carla
        .act(
            &draft,
            &stage,
            &[("to", "live"), ("version", "2"), ("reason", "x")],
        )
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_are_moved_with_what_would_come_of_it_shown_before() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let mut carla = world.staff("carla").await;
    let only = format!("{HERE}/move?from=1");
    carla.get(&only).await.shows("There is no other version");
    published(&world).await;
    carla
        .get(&format!("{HERE}?version=1"))
        .await
        .shows("Move patients to another version");
    let form = format!("{HERE}/move?from=1&to=2");
    let page = carla.get(&form).await;
    check_html(&form, &page.body);
    page.shows("Where the others go on");
    let foresee = format!("{HERE}/move");
    // She is in the middle of a message, which is not waited for where the map leaves her.
    let stays = [("from", "1"), ("to", "2"), ("map-welcome", "stay")];
    let told = carla.act(&form, &foresee, &stays).await;
    check_html(&foresee, &told.body);
    told.shows("1 stay on their version");
    assert!(!told.has("Move them"));
    let fields = [("from", "1"), ("to", "2")];
    let told = carla.act(&form, &foresee, &fields).await;
    check_html(&foresee, &told.body);
    told.shows("a message is on its way");
    told.shows("Ida Berg");
    told.shows("Move them");
    let begin = format!("{HERE}/move/begin");
    let without = carla.act(&form, &begin, &fields).await;
    assert_eq!(
        without.status,
        StatusCode::BAD_REQUEST,
        "a reason is needed"
    );
    let blind = [("from", "1"), ("to", "2"), ("reason", "Shorter")];
    for mark in [None, Some(("seen", ""))] {
        let blind: Vec<_> = blind.into_iter().chain(mark).collect();
        let refused = carla.act(&form, &begin, &blind).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert!(refused.has("Look first at what would come of it."));
    }
    assert!(batches_of(&world).await.is_empty(), "nothing was begun");
    let batch = format!("/console/batches/{}", moved(&world, &[]).await);
    world.journeys.batch_turn(TENANT).await.unwrap();
    let seen = carla.get(&batch).await;
    check_html(&batch, &seen.body);
    seen.shows("can be reached when something is over");
    // The message arrives, and she is moved.
    for mut mail in world.all(ResourceType::Communication, &ida).await {
        mail.set("status", serde_json::json!("completed"));
        mail.strip_meta();
        world.change(mail.into_value(), 1).await;
    }
    crate::consents::drain(&world).await;
    finish(&world).await;
    carla.get(&batch).await.shows("Done");
    let chart = carla.get(&format!("/console/patients/{ida}")).await;
    chart.shows("Moved from version 1 to version 2 by Carla Ortiz: Shorter");
    assert!(!journey_of(&world, &ida).await.is_empty());
    // And back.
    let back = carla
        .act(&batch, &format!("{batch}/back"), &[("reason", "Too early")])
        .await;
    let back = back.location().to_owned();
    assert!(back.starts_with("/console/batches/"), "{back}");
    finish(&world).await;
    carla.get(&back).await.shows("Done");
    let chart = carla.get(&format!("/console/patients/{ida}")).await;
    chart.shows("Moved from version 2 to version 1 by Carla Ortiz: Too early");
    let again = carla
        .act(&batch, &format!("{batch}/back"), &[("reason", "Again")])
        .await;
    let again = again.location().to_owned();
    // The page says by itself that somebody was not reached; whom, it says when it is loaded.
    let page = carla.get(&again).await;
    let mut body = carla.open(&page.live()).await.into_body();
    crate::live::until(&mut body, ": live").await;
    finish(&world).await;
    let told = crate::live::until(&mut body, "1 more could not be done since").await;
    assert!(!told.contains("Ida Berg") && !told.contains("what the batch did"));
    carla
        .get(&again)
        .await
        .shows("what the batch did is not what was done last");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_they_go_on_is_said_in_lines_and_numbers_lead_to_names() {
    let world = World::new().await;
    followed(&world).await;
    published(&world).await;
    let mut carla = world.staff("carla").await;
    let form = format!("{HERE}/move?from=1&to=2");
    carla.get(&form).await.shows("The same as lines");
    let foresee = format!("{HERE}/move");
    let with =
        |more: &[(&'static str, &'static str)]| [&[("from", "1"), ("to", "2")], more].concat();
    // Each mistake at its place, and what was typed stays.
    let wrong = with(&[
        ("lines", "# all\r\nwelcome: day_too\r\nwelcom: stay"),
        ("share", "40"),
    ]);
    let told = carla.act(&form, &foresee, &wrong).await;
    check_html(&foresee, &told.body);
    told.shows("Line 2, column 10");
    told.shows("`day_too` is no step of version 2");
    told.shows("Line 3, column 1");
    told.shows("welcom: stay</textarea>");
    told.shows("max=\"100\" value=\"40\"");
    let bomb = with(&[("lines", "a: &a [x, x]\nb: &b [*a, *a]\n<script>: <b>\n")]);
    let told = carla.act(&form, &foresee, &bomb).await;
    check_html(&foresee, &told.body);
    told.shows("Line 1, column ");
    assert!(!told.has("<script>") && !told.has("<b>"));
    // As the list says, or not at all.
    let both = with(&[("lines", "welcome: stay"), ("map-welcome", "hold")]);
    let refused = carla.act(&form, &foresee, &both).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    let stays = with(&[("lines", "welcome: stay"), ("map-welcome", "stay")]);
    let told = carla.act(&form, &foresee, &stays).await;
    check_html(&foresee, &told.body);
    told.shows("1 stay on their version");
    // A number leads to those whom it counts, and to no others.
    let who = with(&[("lines", "welcome: stay"), ("only", "stays")]);
    let named = carla.act(&form, &foresee, &who).await;
    check_html(&foresee, &named.body);
    named.shows("For each of those who stay on their version");
    named.shows("Ida Berg");
    named.shows("Back to what would come of it");
    assert!(!named.has("Move them"));
    for other in ["moves", "changed", "held", "waits", "cannot"] {
        let who = with(&[("lines", "welcome: stay"), ("only", other)]);
        let named = carla.act(&form, &foresee, &who).await;
        named.shows("Nobody else.");
        assert!(!named.has("Ida Berg"), "{other}");
    }
    let none = with(&[("only", "everybody")]);
    let refused = carla.act(&form, &foresee, &none).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    // What was said in lines is what is asked for.
    let begun = moved(&world, &[("lines", "welcome: hold")]).await;
    finish(&world).await;
    let page = carla.get(&format!("/console/batches/{begun}")).await;
    page.shows("Done");
    let id = begun.as_str();
    let ida = world
        .journeys
        .batch(&steers(&world).await, id)
        .await
        .unwrap()
        .0;
    assert_eq!((ida.next, ida.failed), (1, 0));
    let wrong = [
        ("from", "1"),
        ("to", "2"),
        ("reason", "x"),
        ("lines", "welcome: nowhere"),
    ];
    let refused = carla
        .act(&form, &format!("{HERE}/move/begin"), &wrong)
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_rests_and_goes_on() {
    let world = World::new().await;
    followed(&world).await;
    published(&world).await;
    let id = moved(&world, &[("map-welcome", "hold")]).await;
    let batch = format!("/console/batches/{id}");
    let mut carla = world.staff("carla").await;
    let page = carla.get(&batch).await;
    check_html(&batch, &page.body);
    page.shows("Let it rest");
    let rested = carla.act(&batch, &format!("{batch}/pause"), &[]).await;
    assert_eq!(rested.location(), batch);
    // Nobody works on it, and it is told who has it rest.
    finish(&world).await;
    let page = carla.get(&batch).await;
    check_html(&batch, &page.body);
    page.shows("Rests");
    page.shows("by <span class=\"strong\">Carla Ortiz</span>");
    page.shows("<span class=\"strong\">0</span> of 1 tried");
    carla.get("/console/batches").await.shows("Rests");
    // What it did is told by itself as it goes on.
    let mut body = carla.open(&page.live()).await.into_body();
    crate::live::until(&mut body, ": live").await;
    let on = carla.act(&batch, &format!("{batch}/go-on"), &[]).await;
    assert_eq!(on.location(), batch);
    crate::live::until(&mut body, "Let it rest").await;
    finish(&world).await;
    let told = crate::live::until(&mut body, "Done").await;
    assert!(!told.contains("Ida Berg") && !told.contains("batch-failures"));
    carla
        .get(&batch)
        .await
        .shows("<span class=\"strong\">1</span> of 1 tried");
    // What is over neither rests nor goes on.
    for deed in ["pause", "go-on"] {
        carla.act(&batch, &format!("{batch}/{deed}"), &[]).await;
        carla.get(&batch).await.shows("Done");
    }
    // One that rests is broken off for good.
    let id = moved(&world, &[("map-welcome", "stay")]).await;
    let batch = format!("/console/batches/{id}");
    carla.act(&batch, &format!("{batch}/pause"), &[]).await;
    carla.act(&batch, &format!("{batch}/cancel"), &[]).await;
    carla.act(&batch, &format!("{batch}/go-on"), &[]).await;
    let page = carla.get(&batch).await;
    page.shows("Broken off");
    assert!(!page.has("Rests") && !page.has("Let it go on"));
    for user in ["devi", "priya", "sam", "ada"] {
        let mut browser = world.staff(user).await;
        for deed in ["pause", "go-on"] {
            let refused = browser
                .act("/console/sign-in", &format!("{batch}/{deed}"), &[])
                .await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{user} {deed}");
        }
        let refused = browser.get(&format!("/console/live/batches/{id}")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_for_care_coordinators_and_make_sense() {
    let world = World::new().await;
    followed(&world).await;
    published(&world).await;
    let form = format!("{HERE}/move?from=1&to=2");
    let fields = [("from", "1"), ("to", "2"), ("reason", "Shorter")];
    for user in ["devi", "priya", "sam", "ada"] {
        let mut browser = world.staff(user).await;
        assert_eq!(
            browser.get(&form).await.status,
            StatusCode::FORBIDDEN,
            "{user}"
        );
        for route in [
            format!("{HERE}/move"),
            format!("{HERE}/move/begin"),
            "/console/batches/x/back".to_owned(),
        ] {
            let refused = browser.act("/console/sign-in", &route, &fields).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{user} {route}");
        }
    }
    let mut carla = world.staff("carla").await;
    for fields in [
        vec![("map-welcome", "nowhere")],
        vec![("map-welcome", "step:nowhere")],
        vec![("map-nowhere", "stay")],
        vec![("first", "some")],
        vec![("share", "101")],
        vec![("share", "10"), ("first", "5")],
    ] {
        let mut fields = fields;
        fields.extend([("from", "1"), ("to", "2")]);
        let refused = carla.act(&form, &format!("{HERE}/move"), &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    for missing in ["move?from=9", "move", "move?from=x"] {
        assert_eq!(
            carla.get(&format!("{HERE}/{missing}")).await.status,
            StatusCode::NOT_FOUND
        );
    }
}

/// Where a relationship is needed, a coordinator without one sees how many it is for, in all lists of these pages, and
/// nobody's name or plan.
// Proves: 45 CFR 164.308(a)(4)(ii)(B), 164.502(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn whom_a_coordinator_is_not_shown_is_counted_and_not_named() {
    let world = World::under("england", |_| {}).await;
    let ida = followed(&world).await;
    published(&world).await;
    let mut carla = world.staff("carla").await;
    let form = format!("{HERE}/move?from=1&to=2");
    let foresee = format!("{HERE}/move");
    let many = format!("/console/batches/new?journey={NAME}&version=1");
    let here = "whom you are not shown";
    let names = |page: &crate::world::Page| {
        let short = &ida[ida.len() - 6..];
        page.has("Ida Berg") || page.has(&ida) || page.has(short)
    };
    let pages = async |carla: &mut crate::world::Browser| {
        let moving = [("from", "1"), ("to", "2")];
        let only = [moving[0], moving[1], ("only", "waits")];
        let held = [("journey", NAME), ("version", "1"), ("what", "hold")];
        [
            carla.act(&form, &foresee, &moving).await,
            carla.act(&form, &foresee, &only).await,
            carla.act(&many, "/console/batches/new", &held).await,
        ]
    };
    let [all, one, sample] = pages(&mut carla).await;
    for page in [&all, &one] {
        check_html(&foresee, &page.body);
        page.shows(&format!("1 patient here {here}"));
        assert!(!names(page), "{}", page.body);
    }
    all.shows("1 are moved when something is over");
    check_html("/console/batches/new", &sample.body);
    sample.shows("You are not shown those of them");
    sample.shows("<span class=\"strong\">1</span> journey.");
    assert!(!names(&sample), "{}", sample.body);
    // Those whom a batch could not reach are a list as any other.
    let id = moved(&world, &[]).await;
    world.journeys.batch_turn(TENANT).await.unwrap();
    let work = trust::Agent {
        role: trust::Role::Clinician,
        ..trust::Agent::system(TENANT, "devi")
    };
    let (purpose, target) = (trust::Purpose::Treatment, trust::Target::default());
    let work = (world.trust).decide(&work, purpose, trust::Action::Work, target, "test");
    let work = work.await.unwrap();
    let instance = &journey_of(&world, &ida).await;
    let stopped = world.journeys.stop_one(&work, &ida, instance, "Moved away");
    assert!(stopped.await.unwrap());
    finish(&world).await;
    let batch = format!("/console/batches/{id}");
    let told = carla.get(&batch).await;
    check_html(&batch, &told.body);
    told.shows(&format!("1 patient here {here}"));
    told.shows("<span class=\"strong\">1</span> not done");
    assert!(
        !names(&told) && !told.has("the journey has ended"),
        "{}",
        told.body
    );
    // With one they are named.
    let operator = trust::Agent::system(TENANT, "demo");
    let account = world.trust.identity().account_named(&operator, "carla");
    let account = account.await.unwrap().unwrap();
    crate::unexplained::in_team_of(&world, &ida, (&account, "Practitioner/c")).await;
    let told = carla.get(&batch).await;
    told.shows("Ida Berg");
    told.shows("the journey has ended");
    assert!(!told.has(here));
    let wrong = carla.get(&format!("{batch}?after=x")).await;
    assert_eq!(wrong.status, StatusCode::NOT_FOUND);
}

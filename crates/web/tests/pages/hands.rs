//! Journeys of a patient, as staff lead them by hand.

use axum::http::StatusCode;
use fhir::ResourceType;
use trust::{Action, Agent, Purpose, Target};

use crate::consents::{drain, followed};
use crate::world::{Browser, Page, TENANT, World, check_html};

/// The one journey that a patient is in.
pub(crate) async fn journey_of(world: &World, patient: &str) -> String {
    let demo = Agent::system(TENANT, "demo");
    let permit = world
        .trust
        .decide(
            &demo,
            Purpose::Operations,
            Action::Observe,
            Target::default(),
            "test",
        )
        .await
        .unwrap();
    let journeys = world.journeys.of_patient(&permit, patient).await.unwrap();
    assert_eq!(journeys.len(), 1);
    journeys[0].id.clone()
}

/// The numbers of the forms on a page that lead to a deed.
fn places(page: &Page, deed: &str) -> Vec<String> {
    let forms = page.body.split("<form").skip(1);
    let of_deed = forms.filter(|form| form.contains(&format!("name=\"do\" value=\"{deed}\"")));
    let place = of_deed.filter_map(|form| {
        let form = form.split("</form>").next()?;
        form.split("name=\"place\" value=\"")
            .nth(1)?
            .split('"')
            .next()
    });
    place.map(str::to_owned).collect()
}

/// Looks at what would come of a deed, and does it.
async fn deed(browser: &mut Browser, at: &str, query: &str, reason: &str) -> (Page, Page) {
    let address = format!("{at}?{query}");
    let foreseen = browser.get(&address).await;
    check_html(&address, &foreseen.body);
    foreseen.shows("What would come of it");
    let seen = foreseen.field("seen");
    let mut fields: Vec<(&str, &str)> = query
        .split('&')
        .filter_map(|one| one.split_once('='))
        .collect();
    fields.extend([("reason", reason), ("seen", &seen)]);
    let done = browser.act(&address, at, &fields).await;
    (foreseen, done)
}

async fn statuses(world: &World, kind: ResourceType, patient: &str) -> Vec<String> {
    let found = world.all(kind, patient).await;
    let mut found: Vec<String> = found
        .iter()
        .map(|found| found.text_at(&["status"]).unwrap_or_default().to_owned())
        .collect();
    found.sort();
    found
}

/// How many of the newest entries of the audit say that Carla did this.
async fn audited(world: &World, patient: &str, words: &str) -> usize {
    let mut priya = world.staff("priya").await;
    let audit = priya
        .get(&format!("/console/audit?patient={patient}"))
        .await;
    let events = audit.body.split("href=\"/console/audit/").skip(1);
    let mut said = 0;
    for event in events.filter_map(|rest| rest.split('"').next()).take(8) {
        let event = priya.get(&format!("/console/audit/{event}")).await;
        said += usize::from(event.has(words) && event.has("Carla"));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journey_is_held_put_right_and_goes_on() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let journey = journey_of(&world, &ida).await;
    let chart = format!("/console/patients/{ida}");
    let list = format!("{chart}/journeys");
    let at = format!("{list}/{journey}");
    let mails = async || statuses(&world, ResourceType::Communication, &ida).await;
    assert_eq!(mails().await, ["preparation"]);

    let mut carla = world.staff("carla").await;
    let (foreseen, held) = deed(&mut carla, &at, "do=hold", "In hospital").await;
    foreseen.shows("Nothing happens at once.");
    foreseen.shows("Nothing is planned then.");
    assert_eq!(held.location(), format!("{list}?done=hold"));
    assert_eq!(audited(&world, &ida, "held by hand").await, 1);
    let page = carla.get(held.location()).await;
    check_html(&list, &page.body);
    page.shows("The journey is held.");
    page.shows("by Carla Ortiz (In hospital); goes on when somebody lets it");
    assert!(!page.has("delivered by email<span class=\"quiet\"> · began now, ends"));
    assert_eq!(mails().await, ["on-hold"]);
    let seen = carla.get(&chart).await;
    seen.shows("by Carla Ortiz (In hospital)");
    seen.shows("Held back");
    // The same again can't be done.
    let again = carla.get(&format!("{at}?do=hold")).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.has("it is held already"));

    // The message is skipped while it is held: nothing of what follows happens yet.
    let places = places(&page, "skip");
    assert_eq!(places.len(), 1);
    let skip = format!("do=skip&place={}&way=0", places[0]);
    let (foreseen, skipped) = deed(&mut carla, &at, &skip, "Told on the ward").await;
    foreseen.shows("Welcome message");
    assert_eq!(skipped.location(), format!("{list}?done=skip"));
    assert_eq!(audited(&world, &ida, "skipped a step by hand").await, 1);
    assert_eq!(mails().await, ["stopped"]);
    assert_eq!(
        statuses(&world, ResourceType::Appointment, &ida).await,
        [""; 0]
    );
    // Who has looked before that acts on what is no more.
    let stale = [("do", "go-on"), ("reason", "Home"), ("seen", "1")];
    let stale = carla.act(&list, &at, &stale).await;
    assert_eq!(stale.status, StatusCode::BAD_REQUEST);
    assert!(stale.has("moved on since you looked"));

    let (foreseen, on) = deed(&mut carla, &at, "do=go-on", "Home again").await;
    foreseen.shows("At once:");
    assert_eq!(on.location(), format!("{list}?done=go-on"));
    assert_eq!(audited(&world, &ida, "let go on by hand").await, 1);
    assert_eq!(
        statuses(&world, ResourceType::Appointment, &ida).await,
        ["proposed"]
    );
    drain(&world).await;
    let seen = carla.get(&chart).await;
    for words in ["Held by Carla", "Skipped by Carla", "Goes on by Carla"] {
        seen.shows(words);
    }

    // Sent elsewhere, and taken back.
    let (_, sent) = deed(
        &mut carla,
        &at,
        "do=send&to=follow_up",
        "Begin the month anew",
    )
    .await;
    assert_eq!(sent.location(), format!("{list}?done=send"));
    assert_eq!(audited(&world, &ida, "sent to a step by hand").await, 1);
    assert_eq!(
        statuses(&world, ResourceType::Appointment, &ida).await,
        ["cancelled", "proposed"]
    );
    let (_, back) = deed(&mut carla, &at, "do=take-back", "A mistake").await;
    assert_eq!(back.location(), format!("{list}?done=take-back"));
    assert_eq!(audited(&world, &ida, "took an act by hand back").await, 1);
    assert_eq!(
        statuses(&world, ResourceType::Appointment, &ida).await,
        ["cancelled", "cancelled", "proposed"]
    );
    // Nobody can be sent into the middle of branches, or nowhere.
    for query in [
        "do=send&to=symptoms",
        "do=send&to=nowhere",
        "do=skip&place=99&way=0",
    ] {
        let refused = carla.get(&format!("{at}?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
    for query in ["do=dance", ""] {
        let unknown = carla.get(&format!("{at}?{query}")).await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_held_goes_out_when_the_journey_goes_on() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let at = format!(
        "/console/patients/{ida}/journeys/{}",
        journey_of(&world, &ida).await
    );
    let mut carla = world.staff("carla").await;
    let waiting = async || {
        let look = world
            .ledger()
            .outbox_look(&[trust::outgoing::CHANNEL_EMAIL], u64::MAX, 10);
        look.await.unwrap().entries.len()
    };
    let before = waiting().await;
    deed(&mut carla, &at, "do=hold", "In hospital").await;
    deed(&mut carla, &at, "do=go-on", "Home").await;
    let mails = statuses(&world, ResourceType::Communication, &ida).await;
    assert_eq!(mails, ["preparation"]);
    // Put on its way anew: who delivers has dropped what was there, or drops what is too many.
    assert!(waiting().await > before.saturating_sub(1) && waiting().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_are_led_by_those_who_care_for_patients() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let olaf = world.patient("Olaf", "Berg").await;
    let journey = journey_of(&world, &ida).await;
    let at = format!("/console/patients/{ida}/journeys/{journey}");
    let fields = [("do", "hold"), ("reason", "In hospital")];
    for user in ["priya", "sam", "ada"] {
        let mut browser = world.staff(user).await;
        let seen = browser.get(&format!("{at}?do=hold")).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{user}");
        let tried = browser.act("/console/sign-in", &at, &fields).await;
        assert_eq!(tried.status, StatusCode::FORBIDDEN, "{user}");
    }
    // A journey by the address of somebody else is none.
    let mut carla = world.staff("carla").await;
    let others = format!("/console/patients/{olaf}/journeys/{journey}");
    assert_eq!(
        carla.get(&format!("{others}?do=hold")).await.status,
        StatusCode::NOT_FOUND
    );
    let list = format!("/console/patients/{ida}/journeys");
    let tried = carla.act(&list, &others, &fields).await;
    assert_eq!(tried.status, StatusCode::NOT_FOUND);
    let without = carla
        .act(&list, &at, &[("do", "hold"), ("reason", " ")])
        .await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST);
    let mails = statuses(&world, ResourceType::Communication, &ida).await;
    assert_eq!(mails, ["preparation"], "nothing was done");
}

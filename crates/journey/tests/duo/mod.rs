//! Waits for several, silence, ladders and two persons over a real store: what is stored wakes, what is
//! written counts, and what is left open can be acted on.

use crate::world::{DAY, HOUR, Mail, World};
use fhir::{Resource, ResourceType};
use journey::Act;
use serde_json::json;
use trust::conventions::{ACCOUNT_SYSTEM, DONE_BY};
use trust::{Action, Agent, Purpose, Role};

const SOURCE: &str = "name: duo
title: A dose for two
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: both
steps:
  both:
    title: Weight and a day
    wait:
      all_of:
        - {event: Observation, where: status = 'final'}
        - {until: done + 1d}
      at_most: 10d
    next: dose
    not_come: end
  dose:
    title: The dose
    task:
      title: Change the dose
      reason: The weight is known.
      role: coordinator
      due: 12h
      ladder: [{after: 4h, role: clinician, priority: urgent}]
      four_eyes: true
    next: end
    not_confirmed: end
    overdue: {role: clinician, priority: stat}
  silent:
    title: No weights
    observe: {code: 29463-7, unit: kg, none_for: 3d, until: done + 10d}
    then: call
  call:
    title: Call
    task: {title: Ask for the weight, reason: 'Nothing for {silent.hours|72} hours.', role: coordinator, due: 1d}
    next: end
    overdue: {role: coordinator, priority: urgent}
";

async fn waits(world: &World, patient: &str, step: &str) -> journey::WaitView {
    let view = world.view(patient).await;
    let found = view.waiting.into_iter().find(|wait| wait.step == step);
    found.unwrap_or_else(|| panic!("nothing waits at {step}"))
}

/// The task that the journey waits for, done by somebody with this account.
async fn done_by(world: &World, patient: &str, account: &str) -> Resource {
    let owner = json!({"identifier": {"system": ACCOUNT_SYSTEM, "value": account}});
    done_by_owner(world, patient, owner).await
}

/// The same, done by this owner.
async fn done_by_owner(world: &World, patient: &str, owner: serde_json::Value) -> Resource {
    let reference = waits(world, patient, "dose").await.reference.unwrap();
    let id = reference.strip_prefix("Task/").unwrap();
    let mut task = world.read(ResourceType::Task, id).await;
    assert_eq!(task.text_at(&["status"]), Some("requested"), "it is open");
    task.strip_meta();
    task.set("owner", owner);
    world.finish_task(&task, None).await;
    task
}

#[tokio::test]
async fn two_persons_are_needed_and_the_store_knows_how_far_they_are() {
    let world = World::with(Mail::Delivers, SOURCE).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let both = waits(&world, &patient, "both").await;
    assert!(
        both.what.starts_with("Waits for a measurement and "),
        "{}",
        both.what
    );
    world.pass(6 * HOUR).await;
    world.weight(&patient, 80.0).await;
    let world = world.reopen().await;
    let both = waits(&world, &patient, "both").await;
    assert!(both.what.starts_with("Waits until "), "{}", both.what);
    world.pass(18 * HOUR).await;
    assert_eq!(
        world.tasks(&patient).await,
        ["coordinator routine Change the dose: requested"]
    );
    // Nobody does it: up the ladder.
    world.pass(5 * HOUR).await;
    assert_eq!(
        world.tasks(&patient).await,
        ["clinician urgent Change the dose: requested"]
    );
    done_by(&world, &patient, "anna").await;
    let world = world.reopen().await;
    let confirm = done_by(&world, &patient, "anna").await;
    assert_eq!(
        confirm.text_at(&["description"]),
        Some("Confirm: Change the dose")
    );
    assert_eq!(
        confirm.text_at(&["performerType", "0", "coding", "0", "code"]),
        Some("clinician")
    );
    let inputs = confirm.get("input").unwrap().as_array().unwrap();
    let named = |input: &&serde_json::Value| input["type"]["text"] == DONE_BY;
    assert_eq!(inputs.iter().find(named).unwrap()["valueString"], "anna");
    // She confirmed what she did herself, so it is open still.
    done_by(&world, &patient, "berta").await;
    let view = world.view(&patient).await;
    assert!(
        view.waiting.iter().all(|wait| wait.step != "dose"),
        "{view:?}"
    );
    let told: Vec<&str> = view.trail.iter().map(|entry| entry.what.as_str()).collect();
    for words in [
        "Not done in time, handed over to a clinician: The dose",
        "Done by the first of two: The dose",
        "Not counted, because it takes two persons who are named: The dose",
    ] {
        assert!(told.contains(&words), "{words}: {told:#?}");
    }
}

/// Somebody with an account who is known as a practitioner besides. The id of their account.
async fn known_as(world: &World, practitioner: &str) -> String {
    let operator = Agent::system(crate::world::TENANT, "command-line");
    let identity = world.trust.identity();
    let token = identity
        .create_client(&operator, practitioner, Role::Coordinator)
        .await
        .unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    let purpose = Purpose::Administration;
    let administers = world
        .part("command-line", purpose, Action::Administer)
        .await;
    let known_as = [format!("Practitioner/{practitioner}")];
    identity
        .set_known_as(&administers, &agent.id, &known_as)
        .await
        .unwrap();
    agent.id
}

#[tokio::test]
async fn one_person_under_two_names_is_one() {
    let world = World::with(Mail::Delivers, SOURCE).await;
    let anna = known_as(&world, "anna").await;
    let account = |id: &str| json!({"identifier": {"system": ACCOUNT_SYSTEM, "value": id}});
    let entry = |id: &str| json!({"reference": format!("Practitioner/{id}")});
    // By a page and by an application, in both orders; and a second person at last.
    for (first, again, second) in [
        (account(&anna), entry("anna"), entry("berta")),
        (entry("anna"), account(&anna), account("berta")),
        (
            entry("anna"),
            json!({"reference": "Practitioner/anna/_history/1"}),
            account("berta"),
        ),
        // Whose number it is elsewhere says nothing of an account.
        (
            json!({"identifier": {"system": "urn:staff", "value": "7"}}),
            json!({"identifier": {"system": "urn:staff", "value": "7"}, "display": "A."}),
            json!({"identifier": {"system": "urn:others", "value": "7"}}),
        ),
    ] {
        let patient = world.patient().await;
        world.operate(&patient).await;
        world.pass(DAY - HOUR).await;
        world.weight(&patient, 80.0).await;
        world.pass(2 * HOUR).await;
        done_by_owner(&world, &patient, first.clone()).await;
        done_by_owner(&world, &patient, again.clone()).await;
        let view = world.view(&patient).await;
        let open = view.waiting.iter().any(|wait| wait.step == "dose");
        assert!(open, "{first} and {again} are one");
        done_by_owner(&world, &patient, second.clone()).await;
        let view = world.view(&patient).await;
        let open = view.waiting.iter().any(|wait| wait.step == "dose");
        assert!(!open, "{first} and {second} are two");
    }
}

/// The task that the journey waits for, completed by whoever signed in, with this owner or none.
async fn written_by(world: &World, patient: &str, agent: &Agent, owner: Option<serde_json::Value>) {
    let reference = waits(world, patient, "dose").await.reference.unwrap();
    let id = reference.strip_prefix("Task/").unwrap();
    let purpose = Purpose::Treatment;
    let target = trust::Target::default();
    let permit = world
        .trust
        .decide(agent, purpose, Action::Update, target, "test")
        .await
        .unwrap();
    let vault = world.trust.vault();
    let found = vault
        .load(&permit, ResourceType::Task, id)
        .await
        .unwrap()
        .unwrap();
    let mut task = found.resource;
    task.strip_meta();
    task.set("status", json!("completed"));
    task.remove("owner");
    if let Some(owner) = owner {
        task.set("owner", owner);
    }
    // What it says of that itself is worth nothing.
    let account = json!({"system": ACCOUNT_SYSTEM, "value": "somebody-else"});
    let url = trust::conventions::COMPLETED_BY_URL;
    task.set(
        "extension",
        json!([{"url": url, "valueIdentifier": account}]),
    );
    let unit = trust::Unit {
        changes: vec![trust::Change::Put {
            resource: task,
            expected: ledger::Expected::Version(found.version),
        }],
        ..trust::Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
    world.drain().await;
}

#[tokio::test]
async fn who_signed_in_counts_and_not_whom_the_task_names() {
    let world = World::with(Mail::Delivers, SOURCE).await;
    let agent = |role: Role, id: &str| Agent {
        id: id.to_owned(),
        ..crate::world::a_member(role)
    };
    let (anna, berta) = (
        agent(Role::Clinician, "anna"),
        agent(Role::Clinician, "berta"),
    );
    let system = agent(Role::Client, "ehr");
    let entry = |id: &str| Some(json!({"reference": format!("Practitioner/{id}")}));
    for (first, again, second) in [
        // A person is who they are, whatever owner their application writes.
        (
            (&anna, entry("anna")),
            (&anna, entry("berta")),
            (&berta, entry("anna")),
        ),
        ((&anna, None), (&anna, entry("carla")), (&berta, None)),
        // A system speaks for whom it names, and confirms nothing where it names nobody.
        ((&system, None), (&system, None), (&berta, None)),
        (
            (&system, None),
            (&system, entry("carla")),
            (&anna, entry("carla")),
        ),
        (
            (&system, entry("carla")),
            (&system, None),
            (&system, entry("devi")),
        ),
    ] {
        let patient = world.patient().await;
        world.operate(&patient).await;
        world.pass(DAY - HOUR).await;
        world.weight(&patient, 80.0).await;
        world.pass(2 * HOUR).await;
        written_by(&world, &patient, first.0, first.1.clone()).await;
        let told = |view: &journey::InstanceView, words: &str| {
            let trail = view.trail.iter().filter(|entry| entry.what.contains(words));
            trail.count()
        };
        let view = world.view(&patient).await;
        assert_eq!(told(&view, "Done by the first of two"), 1, "{first:?}");
        written_by(&world, &patient, again.0, again.1.clone()).await;
        let view = world.view(&patient).await;
        assert_eq!(told(&view, "Not counted"), 1, "{first:?} and {again:?}");
        written_by(&world, &patient, second.0, second.1.clone()).await;
        let view = world.view(&patient).await;
        let open = view.waiting.iter().any(|wait| wait.step == "dose");
        assert!(!open, "{first:?} and {second:?} are two");
    }
}

/// More events in a hold than are remembered are letters for as long as it is held, and no longer.
#[tokio::test]
async fn what_is_too_much_for_a_hold_is_played_when_it_goes_on() {
    let world = World::with(Mail::Delivers, SOURCE).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    let instance = world.view(&patient).await.id;
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    let act = async |act: Act| {
        let acted = world
            .journeys
            .act(&permit, &patient, &instance, act, "Because.", None);
        acted.await.unwrap();
    };
    act(Act::Pause).await;
    act(Act::Skip { n: 1, way: 0 }).await;
    for _ in 0..66 {
        world.weight_quietly(&patient, 80.0).await;
    }
    world.drain().await;
    assert_eq!(world.letters().await.len(), 2);
    act(Act::Resume).await;
    assert_eq!(world.letters().await, []);
    assert_eq!(
        world.tasks(&patient).await,
        ["coordinator routine Change the dose: requested"]
    );
}

#[tokio::test]
async fn silence_wakes_by_time_and_a_reading_is_in_time() {
    let world = World::with(Mail::Delivers, SOURCE).await;
    let patient = world.patient().await;
    world.operate(&patient).await;
    world.pass(2 * DAY).await;
    world.weight(&patient, 80.0).await;
    let calls = async |world: &World| {
        let tasks = world.tasks(&patient).await;
        let calls = tasks
            .iter()
            .filter(|task| task.contains("Ask for the weight"));
        calls.count()
    };
    // The timer of before was for the third day.
    world.pass(2 * DAY).await;
    assert_eq!(calls(&world).await, 0);
    let world = world.reopen().await;
    world.pass(DAY + HOUR).await;
    assert_eq!(calls(&world).await, 1);
    let call = world.task(&patient, "Ask for the weight").await;
    assert_eq!(
        call.text_at(&["reasonCode", "text"]),
        Some("Nothing for 72 hours.")
    );
    world.pass(20 * DAY).await;
    assert_eq!(calls(&world).await, 1, "a silence fires once");
}

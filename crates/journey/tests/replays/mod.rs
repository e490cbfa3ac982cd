//! What really happened, played again with a draft.

use crate::world::{DAY, HOUR, Mail, TENANT, World, heart_failure};
use fhir::{Resource, ResourceType};
use journey::{Act, Compares, Definition, JourneyError, Replayed};
use ledger::Owner;
use serde_json::json;
use trust::{Action, Agent, Permit, Purpose, Role, Target, TrustError};

/// Numbers that look like chance, the same for a seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

async fn steers(world: &World) -> Permit {
    world.staff(Role::Coordinator, Action::Steer).await
}

async fn replay(world: &World, patient: &str, source: &str) -> Replayed {
    let draft = Definition::compile(source, 0).unwrap();
    let permit = steers(world).await;
    let instance = world.view(patient).await.id;
    world
        .journeys
        .replay(&permit, &draft, &instance)
        .await
        .unwrap()
}

/// Nothing differs, to the millisecond, and nothing has to be said about it.
fn assert_same(replayed: &Replayed, seed: u64) {
    let exact = replayed
        .rows
        .iter()
        .all(|row| row.how == Compares::Same && row.at_ms == row.draft_ms);
    assert!(
        exact && replayed.notes.is_empty() && replayed.is_same(),
        "seed {seed}:\n{}",
        replayed.text()
    );
    assert!(!replayed.rows.is_empty(), "seed {seed}");
}

async fn open_of(world: &World, patient: &str, code: &str) -> Vec<Resource> {
    let tasks = world.of(patient, ResourceType::Task).await;
    let open = |task: &Resource| {
        matches!(
            task.text_at(&["status"]),
            Some("requested" | "in-progress" | "ready" | "accepted")
        ) && task.text_at(&["code", "coding", "0", "code"]) == Some(code)
    };
    tasks.into_iter().filter(open).collect()
}

/// Something happens to the patient, as it may.
pub(crate) async fn happens(world: &World, patient: &str, chance: &mut Chance) {
    match chance.below(18) {
        0..=5 => {
            let hours = 1 + chance.below(90) as u64;
            world.pass(hours * HOUR).await;
        }
        6 | 7 => {
            let forms = open_of(world, patient, "complete-questionnaire").await;
            if let Some(form) = forms.first() {
                let breathless = json!({"valueBoolean": chance.below(2) == 0});
                world.answer(form, &[("breathless", breathless)]).await;
            }
        }
        8 | 9 => {
            let tasks = open_of(world, patient, "staff-task").await;
            if let Some(task) = tasks.first() {
                let outcomes = [
                    None,
                    Some("well"),
                    Some("worse"),
                    Some("advised"),
                    Some("not_reached"),
                ];
                world.finish_task(task, *chance.one(&outcomes)).await;
            }
        }
        10 => {
            let kg = 78.0 + chance.below(12) as f64;
            world.weight(patient, kg).await;
        }
        11 => {
            let status = *chance.one(&["booked", "fulfilled", "cancelled", "noshow"]);
            world.visit(patient, status).await;
        }
        12 => world.touch_encounter(patient).await,
        13 if chance.below(4) == 0 => world.admit(patient).await,
        14 => {
            // The server is away for a while, and what comes in meanwhile is worked on when it is back.
            world.clock.advance(1 + chance.below(70) as u64 * HOUR);
            world.weight_quietly(patient, 80.0).await;
            world.drain().await;
        }
        15 => {
            // Somebody calls a message off that waits.
            let orders = world.of(patient, ResourceType::CommunicationRequest).await;
            let active = |order: &Resource| order.text_at(&["status"]) == Some("active");
            if let Some(mut order) = orders.into_iter().find(active) {
                order.set("status", json!("revoked"));
                world.put(vec![order.into_value()]).await;
                world.drain().await;
            }
        }
        _ => by_hand(world, patient, chance).await,
    }
}

async fn by_hand(world: &World, patient: &str, chance: &mut Chance) {
    let look = world.staff(Role::Coordinator, Action::Search).await;
    let (running, _) = world.journeys.running(&look, patient).await.unwrap();
    let Some(view) = running.first() else { return };
    let places = &view.hand.places;
    let act = match (chance.below(6), places.is_empty()) {
        (0, _) => Act::Pause,
        (1 | 2, _) => Act::Resume,
        (3, _) => Act::Undo,
        (4, false) => {
            let place = chance.one(places);
            if place.ways.is_empty() {
                return;
            }
            let way = chance.below(place.ways.len());
            Act::Skip { n: place.n, way }
        }
        (_, false) => {
            let place = chance.one(places);
            if place.goes.is_empty() {
                return;
            }
            let to = chance.one(&place.goes).step.clone();
            Act::Jump {
                from: Some(place.n),
                to,
            }
        }
        _ => return,
    };
    let work = world.staff(Role::Coordinator, Action::Work).await;
    // What can't be done is refused, and nothing has happened then.
    let done = world
        .journeys
        .act(&work, patient, &view.id, act, "By chance", None);
    let _ = done.await;
    world.drain().await;
}

/// How many seeds are tried: a build that isn't optimised takes seconds for each. With `CAIRN_TEST_LARGE=1` for many.
fn seeds() -> u64 {
    #[allow(
        clippy::disallowed_methods,
        reason = "whoever runs the tests says how many seeds there are to be"
    )]
    let large = std::env::var_os("CAIRN_TEST_LARGE").is_some_and(|large| large == "1");
    if large { 200 } else { 8 }
}

#[tokio::test]
async fn a_journeys_own_version_goes_the_same_way_whatever_happens() {
    for seed in 0..seeds() {
        let mut chance = Chance(seed);
        let mail = *chance.one(&[Mail::Delivers, Mail::Refuses, Mail::Silent]);
        let world = World::new(mail).await;
        let patient = world.patient().await;
        world
            .discharge(&patient, chance.below(48) as u64 * HOUR)
            .await;
        world.drain().await;
        for _ in 0..chance.below(26) {
            happens(&world, &patient, &mut chance).await;
        }
        let replayed = replay(&world, &patient, &heart_failure()).await;
        assert_same(&replayed, seed);
    }
}

/// The same with reminders of the visit, which is booked, moved and called off.
#[tokio::test]
async fn reminders_of_a_visit_go_the_same_way_whatever_happens() {
    let by = "      book_by: discharge + 5d at 12:00\n";
    let remind = format!("{by}      remind: [5d, 1d, 2h]\n");
    let source = heart_failure().replacen(by, &remind, 1);
    assert!(source.contains(&remind));
    let mut reminded = 0;
    for seed in 0..seeds() {
        let mut chance = Chance(seed);
        let mail = *chance.one(&[Mail::Delivers, Mail::Refuses, Mail::Silent]);
        let world = World::with(mail, &source).await;
        let patient = world.patient().await;
        world
            .discharge(&patient, chance.below(24) as u64 * HOUR)
            .await;
        world.drain().await;
        world.pass(2 * HOUR).await;
        world.visit(&patient, "booked").await;
        for _ in 0..chance.below(12) {
            match chance.below(4) {
                0 => {
                    let minutes = chance.below(4 * 24 * 60) as u64;
                    world.rebook(&patient, minutes).await;
                }
                1 => world.pass(DAY).await,
                _ => happens(&world, &patient, &mut chance).await,
            }
        }
        world.pass(4 * DAY).await;
        let view = world.view(&patient).await;
        let trail = view.trail.iter();
        reminded += trail
            .filter(|entry| entry.what.contains(" before by "))
            .count();
        let replayed = replay(&world, &patient, &source).await;
        assert_same(&replayed, seed);
    }
    assert!(reminded > 3, "only {reminded} reminders in all");
}

/// Arms, rounds, branches side by side, looks into the record, quiet hours and limits.
pub(crate) fn all_sorts() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replays/all-sorts.yaml");
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn so_does_one_with_all_sorts_of_steps_and_limits() {
    for seed in 100..100 + seeds() {
        let mut chance = Chance(seed);
        let mail = *chance.one(&[Mail::Delivers, Mail::Refuses, Mail::Silent]);
        let world = World::with(mail, &all_sorts()).await;
        let patient = world.patient().await;
        if chance.below(2) == 0 {
            world.cover(&patient, "active", "2027-12-31").await;
        }
        world.discharge(&patient, 0).await;
        world.drain().await;
        for _ in 0..chance.below(26) {
            happens(&world, &patient, &mut chance).await;
        }
        assert_same(&replay(&world, &patient, &all_sorts()).await, seed);
    }
}

/// What a draft is, and what is said of the one patient who was sent the welcome, answered after the reminder, was
/// called and did nothing else for a week.
async fn patient_of_a_week(world: &World) -> String {
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.until(3 * DAY + 12 * HOUR).await;
    let form = world.task(&patient, "How are you today?").await;
    let no = json!({"valueBoolean": false});
    let yes = json!({"valueBoolean": true});
    world
        .answer(
            &form,
            &[("breathless", yes), ("swelling", no.clone()), ("dizzy", no)],
        )
        .await;
    world.pass(2 * HOUR).await;
    let review = world.task(&patient, "Review alarming symptoms").await;
    world.finish_task(&review, None).await;
    world.until(7 * DAY).await;
    patient
}

/// The differences, and what can't be told, one line each.
fn said(replayed: &Replayed) -> Vec<String> {
    let rows = replayed.differences().map(|row| {
        let how = serde_json::to_value(row.how).unwrap();
        let unsure = if row.unsure { "?" } else { "" };
        format!(
            "{}{unsure} {}{}",
            how.as_str().unwrap(),
            row.what,
            row.differs.join("; ")
        )
    });
    let notes = replayed.notes.iter().map(|note| {
        let sort = if note.untold { "untold" } else { "taken" };
        format!("{sort} {}: {}", note.step, note.words)
    });
    rows.chain(notes).collect()
}

#[tokio::test]
async fn what_a_draft_changes_is_told_and_what_nobody_knows_too() {
    let world = World::new(Mail::Delivers).await;
    let patient = patient_of_a_week(&world).await;
    let file = heart_failure();
    let changed = |from: &str, to: &str| {
        assert!(file.contains(from), "{from}");
        file.replacen(from, to, 1)
    };
    // Without the reminder there is none, and all else stays, whatever else was said in other words.
    let quiet = replay(&world, &patient, &changed("      remind_after: 24h\n", "")).await;
    assert_eq!(
        said(&quiet),
        ["gone Reminder by email: Symptom questions"],
        "{}",
        quiet.text()
    );
    assert!(!quiet.is_same());

    // Another role and less time are told of the task, and nothing of what it says.
    let other = changed(
        "      role: clinician\n      priority: asap\n      due: 4h\n",
        "      role: coordinator\n      priority: asap\n      due: 3h\n",
    );
    let told = replay(&world, &patient, &other).await;
    assert_eq!(said(&told).len(), 1, "{}", told.text());
    let row = told.differences().next().unwrap();
    assert_eq!(
        (row.how, row.step.as_str()),
        (Compares::OtherContent, "review")
    );
    assert_eq!(
        row.differs,
        [
            "3 hours for it instead of 4 hours",
            "role coordinator instead of clinician"
        ]
    );

    // Other words are told, and not said.
    let words = replay(
        &world,
        &patient,
        &changed("title: Welcome home", "title: Good to have you back"),
    )
    .await;
    assert_eq!(
        said(&words),
        ["other-content Message by email: Welcome messagein other words"],
        "{}",
        words.text()
    );

    // Asked a day later, the patient has answered before.
    let later = replay(
        &world,
        &patient,
        &changed(
            "until: discharge + 2d at 09:00",
            "until: discharge + 4d at 09:00",
        ),
    )
    .await;
    let untold: Vec<&str> = later.untold().map(|note| note.step.as_str()).collect();
    assert_eq!(untold, ["symptoms", "call"], "{}", later.text());
    assert!(
        later
            .untold()
            .next()
            .unwrap()
            .words
            .contains("before the draft asks for it")
    );
    assert!(
        later
            .differences()
            .all(|row| row.unsure || row.how != Compares::New),
        "{}",
        later.text()
    );

    // Asked something else, nobody knows what they would have said.
    let else_ = replay(
        &world,
        &patient,
        &changed(
            "Do you feel dizzy, or have you fainted?",
            "Do you feel dizzy?",
        ),
    )
    .await;
    let first = else_.untold().next().unwrap();
    assert_eq!(first.step, "symptoms");
    assert!(
        first.words.contains("Something else was asked"),
        "{}",
        else_.text()
    );

    // Asked what nobody was asked.
    let more = changed(
        "  day_two:\n",
        "  more:\n    title: One more call\n    task: {title: Call, reason: Because., role: coordinator, due: 2d}\n    next: end\n    overdue: end\n\n  day_two:\n",
    );
    let more = more.replacen(
        "branches: [day_two, visit, day_thirty]",
        "branches: [day_two, visit, day_thirty, more]",
        1,
    );
    let more = replay(&world, &patient, &more).await;
    let lines = said(&more);
    assert!(lines.contains(&"untold more: Nobody was asked this then, so it is played as if nobody did anything about it.".to_owned()), "{}", more.text());
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("new") && line.contains("One more call")),
        "{}",
        more.text()
    );

    // One that begins by something else does not begin.
    let never = replay(
        &world,
        &patient,
        &changed(
            "where: status = 'finished' and class.code = 'IMP'",
            "where: status = 'finished' and class.code = 'AMB'",
        ),
    )
    .await;
    assert!(
        never
            .untold()
            .next()
            .unwrap()
            .words
            .starts_with("The draft does not begin"),
        "{}",
        never.text()
    );
    assert!(never.rows.iter().all(|row| row.how == Compares::Gone));

    // An end that comes sooner leaves out what came after.
    let ends = replay(&world, &patient, &changed("at_most: 45d", "at_most: 6d")).await;
    assert!(
        said(&ends)
            .iter()
            .any(|line| line.starts_with("new Ended: ")),
        "{}",
        ends.text()
    );

    // A draft of another journey is none of this one.
    let stranger =
        Definition::compile(&changed("name: heart-failure-discharge", "name: other"), 0).unwrap();
    let instance = world.view(&patient).await.id;
    let refused = world
        .journeys
        .replay(&steers(&world).await, &stranger, &instance)
        .await;
    assert!(
        matches!(refused, Err(JourneyError::Cannot(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_replay_writes_nothing_and_is_a_look_at_the_patient_in_the_audit() {
    let world = World::new(Mail::Delivers).await;
    let patient = patient_of_a_week(&world).await;
    let before = world.views(&patient).await;
    let outbox = world.outbox().await;
    let counts = (
        world.messages_now(&patient).await,
        world.of(&patient, ResourceType::Task).await,
    );
    let looks = |audits: &[Resource]| {
        let of_replay = audits.iter().filter(|audit| {
            audit
                .as_value()
                .to_string()
                .contains("heart-failure-discharge: played again with a draft")
        });
        of_replay
            .map(|audit| {
                (
                    audit.text_at(&["action"]).unwrap().to_owned(),
                    audit.as_value().to_string(),
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(looks(&world.audits(&patient).await), []);
    let source = heart_failure().replacen("      remind_after: 24h\n", "", 1);
    let replayed = replay(&world, &patient, &source).await;
    let audited = looks(&world.audits(&patient).await);
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0].0, "R");
    assert!(audited[0].1.contains("A Coordinator"), "{}", audited[0].1);
    // Nothing of the patient is in what is told but their id.
    let told = replayed.text() + &serde_json::to_string(&replayed).unwrap();
    for canary in [
        "Ottilie",
        "Quandt",
        "example.com",
        "More breathless",
        "1941",
    ] {
        assert!(!told.contains(canary), "{canary}: {told}");
    }
    assert_eq!(world.journeys.drain(TENANT).await.unwrap(), 0);
    assert_eq!(world.outbox().await, outbox);
    let after = world.views(&patient).await;
    assert_eq!(
        serde_json::to_value(&before).unwrap(),
        serde_json::to_value(&after).unwrap()
    );
    assert_eq!(
        counts,
        (
            world.messages_now(&patient).await,
            world.of(&patient, ResourceType::Task).await
        )
    );

    // Only who may steer is told.
    let draft = Definition::compile(&source, 0).unwrap();
    for (role, action) in [
        (Role::Coordinator, Action::Search),
        (Role::Coordinator, Action::Work),
        (Role::Squad, Action::Publish),
    ] {
        let permit = world.staff(role, action).await;
        let refused = world.journeys.replay(&permit, &draft, &after[0].id).await;
        assert!(
            matches!(refused, Err(JourneyError::Trust(TrustError::Refused(_)))),
            "{role:?} {action:?}"
        );
    }
    // Nor anybody from whom the patient keeps something: a replay would tell of it.
    let owner = Owner::Patient(patient.clone());
    let id = world.trust.vault().ledger().mint_id(TENANT, &owner);
    let scope = "http://terminology.hl7.org/CodeSystem/consentscope";
    let denial = json!({
        "resourceType": "Consent", "id": id, "status": "active", "dateTime": world.instant(),
        "scope": {"coding": [{"system": scope, "code": "patient-privacy"}]},
        "patient": {"reference": format!("Patient/{patient}")},
        "provision": {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]}
    });
    world.put(vec![denial]).await;
    let kept = world
        .journeys
        .replay(&steers(&world).await, &draft, &after[0].id)
        .await;
    assert!(
        matches!(kept, Err(JourneyError::Trust(TrustError::Refused(_)))),
        "{kept:?}"
    );

    let permit = steers(&world).await;
    let unknown = world.journeys.replay(&permit, &draft, "nobody").await;
    assert!(matches!(unknown, Err(JourneyError::Unknown(_))));
    // Whether a patient is in a journey is told to nobody without a trace.
    let stranger = world.patient_without_condition().await;
    let none = world
        .journeys
        .replayable(&permit, "heart-failure-discharge", &stranger)
        .await;
    assert_eq!(none.unwrap(), Vec::<String>::new());
    let asked = world.audits(&stranger).await;
    assert!(asked.iter().any(|audit| {
        let audit = audit.as_value().to_string();
        audit.contains("looked for what can be played again")
    }));
    // Nor who asks for another end.
    let agent = Agent::system(TENANT, "journey-replayer");
    for (purpose, may) in [
        (Purpose::CareManagement, true),
        (Purpose::Operations, false),
    ] {
        let decided = world
            .trust
            .decide(&agent, purpose, Action::Steer, Target::default(), "test");
        assert_eq!(decided.await.is_ok(), may);
    }
}

#[tokio::test]
async fn many_are_summed_up_without_a_name() {
    let world = World::new(Mail::Delivers).await;
    let first = patient_of_a_week(&world).await;
    let second = world.patient().await;
    world.discharge(&second, 0).await;
    world.pass(DAY).await;
    let permit = steers(&world).await;
    let draft = |source: &str| Definition::compile(source, 0).unwrap();
    let same = world
        .journeys
        .replay_many(&permit, &draft(&heart_failure()), 10)
        .await
        .unwrap();
    assert_eq!(
        (same.found, same.played, same.same, same.differ),
        (2, 2, 2, 0),
        "{}",
        same.text()
    );
    let quiet = heart_failure().replacen("      remind_after: 24h\n", "", 1);
    let told = world
        .journeys
        .replay_many(&permit, &draft(&quiet), 10)
        .await
        .unwrap();
    assert_eq!(
        (told.same, told.differ, told.untold),
        (1, 1, 0),
        "{}",
        told.text()
    );
    assert_eq!(
        (
            told.differs[0].how,
            told.differs[0].journeys,
            told.differs[0].times
        ),
        (Compares::Gone, 1, 1)
    );
    let one = world
        .journeys
        .replay_many(&permit, &draft(&quiet), 1)
        .await
        .unwrap();
    assert_eq!((one.found, one.played, one.hidden), (2, 1, 0));
    let text = told.text() + &serde_json::to_string(&told).unwrap();
    assert!(!text.contains(&first) && !text.contains(&second));
}

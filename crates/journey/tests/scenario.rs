//! The heart-failure journey over a real store, in virtual time: what patients, staff, mail and the
//! hospital do, and what comes of it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test says by failing what went wrong"
)]

mod dates;
mod duo;
mod every;
mod followers;
mod languages;
mod limits;
mod lists;
mod parts;
mod post;
mod push;
mod requests;
mod segments;
mod texts;
mod visits;
mod wishes;
mod world;

use journey::JourneyError;
use serde_json::json;
use trust::{Action, Role};
use world::{DAY, HOUR, Mail, World, heart_failure};

#[tokio::test]
async fn a_patient_is_led_from_discharge_to_the_survey() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    assert_eq!(
        world.messages(&patient).await,
        ["Welcome home by EMAILWRIT: completed"]
    );
    assert_eq!(world.visits(&patient).await, ["proposed"]);

    world.until(2 * DAY).await;
    assert_eq!(
        world.forms(&patient).await,
        ["How are you today?: requested"]
    );
    let form = world.task(&patient, "How are you today?").await;
    let questionnaire = form.text_at(&["input", "0", "valueCanonical"]).unwrap();
    let questionnaire = world
        .read(
            fhir::ResourceType::Questionnaire,
            questionnaire.strip_prefix("Questionnaire/").unwrap(),
        )
        .await;
    assert_eq!(
        questionnaire.text_at(&["item", "0", "linkId"]),
        Some("breathless")
    );
    world
        .answer(
            &form,
            &[
                ("breathless", json!({"valueBoolean": false})),
                ("swelling", json!({"valueBoolean": false})),
                ("dizzy", json!({"valueBoolean": false})),
            ],
        )
        .await;
    world.visit(&patient, "booked").await;
    for day in [4, 6, 8] {
        world.weight(&patient, 80.0).await;
        world.until(day * DAY).await;
    }
    world.visit(&patient, "fulfilled").await;
    assert_eq!(world.tasks(&patient).await, Vec::<String>::new());
    for day in (10..=30).step_by(2) {
        world.weight(&patient, 80.0).await;
        world.until(day * DAY).await;
    }
    world.until(30 * DAY + HOUR).await;
    let survey = world.task(&patient, "How was your follow-up?").await;
    world
        .answer(&survey, &[("score", json!({"valueInteger": 9}))])
        .await;
    let view = world.view(&patient).await;
    assert_eq!(view.ended.map(|(_, why)| why).as_deref(), Some("Completed"));
    for what in ["Only in the portal? No", "Alarming symptoms? No"] {
        assert!(
            view.trail.iter().any(|entry| entry.what == what),
            "{:#?}",
            view.trail
        );
    }
    assert!(view.trail.iter().any(
        |entry| entry.what.starts_with("Answered: Symptom questions")
            && entry.why == "the patient answered a form"
            && entry.reference.is_some()
    ));
    assert_eq!(
        world.forms(&patient).await,
        [
            "How are you today?: completed",
            "How was your follow-up?: completed"
        ]
    );

    let graph = world.graph(None).await;
    assert_eq!(graph.endings, [("Completed".to_owned(), 1)]);
    let node = |id: &str| {
        graph
            .nodes
            .iter()
            .find(|node| node.id == id)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (
            node("symptoms").entered,
            node("symptoms").here,
            node("call").entered
        ),
        (1, 0, 0)
    );
    assert_eq!(node("finished").ended_here, 1);
    let edge = |from: &str, to: &str| {
        graph
            .edges
            .iter()
            .find(|edge| edge.from == from && edge.to == to)
            .unwrap()
            .count
    };
    assert_eq!(
        (
            edge("symptoms", "assess"),
            edge("assess", "end"),
            edge("follow_up", "visit"),
            edge("start", "welcome")
        ),
        (1, 1, 1, 1)
    );
}

#[tokio::test]
async fn silence_is_reminded_then_called_and_handed_over() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.until(2 * DAY).await;
    world.weight(&patient, 80.0).await;
    world.until(3 * DAY + 12 * HOUR).await;
    assert_eq!(
        world.messages(&patient).await,
        [
            "Welcome home by EMAILWRIT: completed",
            "How are you today? by EMAILWRIT: completed",
            "Reminder: How are you today? by EMAILWRIT: completed"
        ]
    );
    assert_eq!(world.tasks(&patient).await, Vec::<String>::new());
    world.until(4 * DAY + 12 * HOUR).await;
    assert_eq!(
        world.tasks(&patient).await,
        ["coordinator urgent Call the patient about their symptoms: requested"]
    );
    world.weight(&patient, 80.0).await;
    world.until(6 * DAY).await;
    assert_eq!(
        world.tasks(&patient).await,
        [
            "clinician urgent Call the patient about their symptoms: requested",
            "coordinator routine Arrange the day-7 visit by telephone: requested"
        ]
    );
    assert_eq!(world.visits(&patient).await, ["cancelled"]);
    // A late answer with an alarming symptom still counts.
    let form = world.task(&patient, "How are you today?").await;
    world
        .answer(&form, &[("breathless", json!({"valueBoolean": true}))])
        .await;
    let tasks = world.tasks(&patient).await;
    assert!(
        tasks.contains(&"clinician asap Review alarming symptoms: requested".to_owned()),
        "{tasks:?}"
    );
    let review = world.task(&patient, "Review alarming symptoms").await;
    assert_eq!(
        review.text_at(&["reasonCode", "text"]),
        Some("More breathless: yes; more swollen: not asked; dizzy or fainted: not asked.")
    );
}

#[tokio::test]
async fn alarming_answers_reach_a_clinician_at_once() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.until(2 * DAY).await;
    let form = world.task(&patient, "How are you today?").await;
    world
        .answer(
            &form,
            &[
                ("breathless", json!({"valueBoolean": false})),
                ("dizzy", json!({"valueBoolean": true})),
            ],
        )
        .await;
    assert_eq!(
        world.tasks(&patient).await,
        ["clinician asap Review alarming symptoms: requested"]
    );
}

#[tokio::test]
async fn a_weight_rise_is_a_task_at_once() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    // Measured in hospital, before anybody followed: the baseline.
    world.weight(&patient, 82.0).await;
    world.pass(12 * HOUR).await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.pass(DAY).await;
    world.weight(&patient, 83.5).await;
    assert_eq!(world.tasks(&patient).await, Vec::<String>::new());
    world.pass(DAY).await;
    world.weight(&patient, 84.4).await;
    assert_eq!(
        world.tasks(&patient).await,
        ["coordinator asap Call the patient about their weight: requested"]
    );
    let task = world
        .task(&patient, "Call the patient about their weight")
        .await;
    assert_eq!(
        task.text_at(&["reasonCode", "text"]),
        Some("Weight rose by 2.4 kg in 60 hours, to 84.4 kg.")
    );
    // The same rise again is no news.
    world.pass(HOUR).await;
    world.weight(&patient, 84.5).await;
    assert_eq!(world.tasks(&patient).await.len(), 1);
    // The call leads to a clinician.
    world.finish_task(&task, Some("worse")).await;
    let tasks = world.tasks(&patient).await;
    assert!(
        tasks.contains(&"clinician asap Review alarming symptoms: requested".to_owned()),
        "{tasks:?}"
    );
}

#[tokio::test]
async fn exits_close_what_is_open() {
    let world = World::new(Mail::Delivers).await;
    for (what, title) in [
        ("readmission", "Back in hospital"),
        ("death", "Died"),
        ("consent", "Consent withdrawn"),
    ] {
        let patient = world.patient().await;
        let start = world.now();
        world.discharge(&patient, 0).await;
        world.drain().await;
        world.pass(2 * DAY).await;
        match what {
            "readmission" => world.admit(&patient).await,
            "death" => world.die(&patient).await,
            _ => world.consent(&patient, false).await,
        }
        let view = world.view(&patient).await;
        assert_eq!(
            view.ended.as_ref().map(|(_, why)| why.as_str()),
            Some(title)
        );
        assert!(view.waiting.is_empty() && view.planned.is_empty());
        assert_eq!(
            world.forms(&patient).await,
            ["How are you today?: cancelled"],
            "{what}"
        );
        assert_eq!(world.visits(&patient).await, ["cancelled"], "{what}");
        let before = world.messages(&patient).await;
        world.pass(40 * DAY).await;
        assert_eq!(
            world.messages(&patient).await,
            before,
            "{what}: nothing is sent after the end ({start})"
        );
    }
    let endings = world.graph(None).await.endings;
    assert_eq!(endings.len(), 3, "{endings:?}");
}

#[tokio::test]
async fn a_readmitted_patient_starts_anew_after_the_next_discharge() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    world.pass(5 * DAY).await;
    world.admit(&patient).await;
    world.pass(3 * DAY).await;
    world.discharge_again(&patient).await;
    let views = world.views(&patient).await;
    assert_eq!(views.len(), 2);
    assert!(views[0].ended.is_none() && views[1].ended.is_some());
}

#[tokio::test]
async fn who_starts_and_who_does_not() {
    let world = World::new(Mail::Delivers).await;
    // An old discharge, as from an imported history.
    let old = world.patient().await;
    world.discharge(&old, 10 * DAY).await;
    // No heart failure.
    let other = world.patient_without_condition().await;
    world.discharge(&other, 0).await;
    // Heart failure is recorded after the discharge.
    let late = world.patient_without_condition().await;
    world.discharge(&late, 0).await;
    // Dead or unwilling at discharge: the journey ends as it starts, and says so.
    let dead = world.patient().await;
    world.die(&dead).await;
    world.discharge(&dead, 0).await;
    let unwilling = world.patient().await;
    world.consent(&unwilling, false).await;
    world.discharge(&unwilling, 0).await;
    // A stay of last year that nobody closed in the books.
    let forgotten = world.patient().await;
    world.admit_at(&forgotten, world.now() - 300 * DAY).await;
    world.discharge(&forgotten, 0).await;
    world.drain().await;
    assert!(world.view(&forgotten).await.ended.is_none());
    assert!(world.views(&old).await.is_empty());
    assert!(world.views(&other).await.is_empty());
    assert!(world.views(&late).await.is_empty());
    world.condition(&late).await;
    world.drain().await;
    assert_eq!(world.views(&late).await.len(), 1);
    assert_eq!(world.view(&dead).await.ended.unwrap().1, "Died");
    assert_eq!(
        world.view(&unwilling).await.ended.unwrap().1,
        "Consent withdrawn"
    );
    assert!(world.messages(&unwilling).await.is_empty());
    // Written again, the encounter starts nothing again.
    world.touch_encounter(&late).await;
    world.drain().await;
    assert_eq!(world.views(&late).await.len(), 1);
}

#[tokio::test]
async fn channels_fail_and_fall_back() {
    for (mail, expected) in [
        (
            Mail::Refuses,
            vec![
                "Welcome home by EMAILWRIT: not-done permanent-failure",
                "Welcome home by PORTAL: completed",
            ],
        ),
        (
            Mail::Silent,
            vec![
                "Welcome home by EMAILWRIT: not-done expired",
                "Welcome home by PORTAL: completed",
            ],
        ),
    ] {
        let world = World::new(mail).await;
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        world.until(DAY + 2 * HOUR).await;
        assert_eq!(world.messages(&patient).await, expected);
        assert_eq!(
            world.tasks(&patient).await,
            ["coordinator routine Tell the patient about the follow-up: requested"],
            "a message in the portal reaches only those who know of it"
        );
        let said = |words: &str| {
            let view = world.view(&patient);
            let words = words.to_owned();
            async move { view.await.trail.iter().any(|entry| entry.what == words) }
        };
        assert!(said("Only in the portal? Yes").await);
    }
    // Known at once: the patient has no address, or doesn't want e-mail.
    let world = World::new(Mail::Delivers).await;
    for (telecom, code) in [
        (json!([]), "no-address"),
        (
            json!([{"system": "email", "value": "a@example.com", "period": {"end": "2024"}}]),
            "no-address",
        ),
        (
            json!([{"system": "email", "value": "a@example.com", "extension": [{"url": trust::conventions::NOT_WANTED_EXTENSION, "valueBoolean": true}]}]),
            "preference",
        ),
    ] {
        let patient = world.patient_with_telecom(telecom).await;
        world.discharge(&patient, 0).await;
        world.drain().await;
        assert_eq!(
            world.messages(&patient).await,
            [
                format!("Welcome home by EMAILWRIT: not-done {code}"),
                "Welcome home by PORTAL: completed".to_owned()
            ]
        );
        assert_eq!(world.outbox().await, 0);
    }
}

// Proves: 45 CFR 164.312(e)(1)
#[tokio::test]
async fn what_leaves_by_mail_holds_no_phi() {
    let world = World::new(Mail::Silent).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.until(3 * DAY + 12 * HOUR).await;
    let messages = world.outgoing().await;
    assert!(messages.len() >= 3, "{}", messages.len());
    for message in messages {
        let words = format!("{} {}", message.subject, message.text).to_lowercase();
        for secret in [
            "ottilie",
            "quandt",
            "heart",
            "weight",
            "breath",
            "discharge",
        ] {
            assert!(!words.contains(secret), "{secret} in {words}");
        }
        assert!(message.text.contains("{link}"));
        assert_eq!(
            message.link_path,
            format!("/portal/inbox/{}", message.communication)
        );
        assert_eq!(message.purpose, "TREAT");
    }
}

#[tokio::test]
async fn versions_are_pinned() {
    let world = World::new(Mail::Delivers).await;
    let first = world.patient().await;
    world.discharge(&first, 0).await;
    world.drain().await;
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let again = world
        .journeys
        .publish(&permit, &heart_failure())
        .await
        .unwrap();
    assert_eq!(again.version, 1, "the same text is no new version");
    let changed = heart_failure()
        .replace("Welcome home", "Good to have you home")
        .replace(
            "until: discharge + 2d at 09:00",
            "until: discharge + 3d at 09:00",
        );
    let second = world.journeys.publish(&permit, &changed).await.unwrap();
    assert_eq!((second.version, second.live), (2, true));
    let new = world.patient().await;
    world.discharge(&new, 0).await;
    world.drain().await;
    assert_eq!(
        world.messages(&new).await,
        ["Good to have you home by EMAILWRIT: completed"]
    );
    assert_eq!(
        (
            world.view(&first).await.version,
            world.view(&new).await.version
        ),
        (1, 2)
    );
    world.until(2 * DAY).await;
    assert_eq!(world.forms(&first).await.len(), 1);
    assert_eq!(
        world.forms(&new).await.len(),
        0,
        "version 2 asks a day later"
    );
    let versions = world.journeys.versions(&permit).await.unwrap();
    assert_eq!(
        versions
            .iter()
            .map(|version| (version.version, version.running, version.live))
            .collect::<Vec<_>>(),
        [(2, 1, true), (1, 1, false)]
    );
    // After a restart all of this is still so.
    let world = world.reopen().await;
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let versions = world.journeys.versions(&permit).await.unwrap();
    assert_eq!(
        versions
            .iter()
            .map(|version| (version.version, version.running, version.live))
            .collect::<Vec<_>>(),
        [(2, 1, true), (1, 1, false)]
    );
    world.until(3 * DAY + HOUR).await;
    assert_eq!(world.forms(&new).await.len(), 1);
    // A broken file publishes nothing.
    let permit = world.staff(Role::Squad, Action::Publish).await;
    let broken = world
        .journeys
        .publish(&permit, &changed.replace("next: reached", "next: reachd"))
        .await;
    assert!(matches!(broken, Err(JourneyError::Findings(findings)) if findings[0].code == "J006"));
}

#[tokio::test]
async fn pages_see_where_patients_are() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for _ in 0..3 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        world.drain().await;
        world.pass(HOUR).await;
        patients.push(patient);
    }
    let graph = world.graph(Some(1)).await;
    let here = |id: &str| graph.nodes.iter().find(|node| node.id == id).unwrap().here;
    assert_eq!(
        (
            here("day_two"),
            here("visit"),
            here("weight_watch"),
            here("welcome")
        ),
        (3, 3, 3, 0)
    );

    // What the patient sees of what comes.
    let view = world.view(&patients[0]).await;
    let what: Vec<&str> = view.waiting.iter().map(|wait| wait.step.as_str()).collect();
    assert_eq!(
        what,
        [
            "day_two",
            "visit",
            "day_thirty",
            "weight_watch",
            "weight_missing"
        ],
        "that branches join is the engine's business"
    );
    let planned: Vec<(&str, &str)> = view
        .planned
        .iter()
        .map(|planned| (planned.step.as_str(), planned.plain.as_str()))
        .collect();
    assert!(
        planned.contains(&(
            "symptoms",
            "We will ask you some questions: How are you today?"
        )),
        "{planned:?}"
    );
    assert!(
        planned.contains(&(
            "survey",
            "We will ask you some questions: How was your follow-up?"
        )),
        "{planned:?}"
    );
    assert!(
        view.planned
            .iter()
            .any(|planned| planned.step == "call" && planned.plain.is_empty()),
        "{planned:?}"
    );
    assert!(view.planned.is_sorted_by_key(|planned| planned.at_ms));
    // Planning changes nothing.
    assert_eq!(world.forms(&patients[0]).await.len(), 0);
}

#[tokio::test]
async fn staff_can_stop_a_journey() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    let view = world.view(&patient).await;
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    world
        .journeys
        .stop(&permit, &view.id, "Moved to a hospice")
        .await
        .unwrap();
    let view = world.view(&patient).await;
    assert_eq!(view.ended.unwrap().1, "Moved to a hospice");
    assert_eq!(world.visits(&patient).await, ["cancelled"]);
    assert_eq!(
        world
            .journeys
            .counts(&trust::Agent::system(world::TENANT, "metrics"))
            .await
            .unwrap(),
        [("heart-failure-discharge".to_owned(), 1, 0, 1)]
    );
}

#[tokio::test]
async fn all_journeys_of_one_patient_are_stopped_and_nobody_elses() {
    let world = World::new(Mail::Delivers).await;
    let (patient, other) = (world.patient().await, world.patient().await);
    for patient in [&patient, &other] {
        world.discharge(patient, 0).await;
    }
    world.drain().await;
    let permit = world.staff(Role::Coordinator, Action::Work).await;
    for expected in [1, 0] {
        let stopped = world
            .journeys
            .stop_all(&permit, &patient, "Moved to a hospice");
        let stopped = stopped.await.unwrap();
        assert_eq!((stopped.stopped, stopped.failed), (expected, 0));
    }
    // One that has ended is not stopped again, and nobody else's by way of this patient.
    let ended = world.view(&patient).await.id;
    let others = world.view(&other).await.id;
    let stop = async |id: &str| {
        let stopped = world.journeys.stop_one(&permit, &patient, id, "Again");
        stopped.await.map_err(|error| error.to_string())
    };
    assert_eq!(stop(&ended).await, Ok(false));
    assert!(
        stop(&others)
            .await
            .is_err_and(|error| error.starts_with("no journey"))
    );
    assert_eq!(world.visits(&patient).await, ["cancelled"]);
    assert_eq!(world.visits(&other).await, ["proposed"]);
    assert!(world.view(&other).await.ended.is_none());
}

#[tokio::test]
async fn a_long_trail_moves_out_of_the_state_and_is_still_shown() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    // Booked for one time after the other: each is an entry.
    for minutes in 0..150u64 {
        world.rebook(&patient, minutes).await;
    }
    let view = world.view(&patient).await;
    let booked = view
        .trail
        .iter()
        .filter(|entry| entry.what.starts_with("Visit booked"))
        .count();
    assert_eq!(booked, 150);
    assert!(view.trail[0].what.starts_with("Started"));
    let before = world.graph(None).await;
    let world = world.reopen().await;
    let after = world.graph(None).await;
    assert_eq!(
        serde_json::to_value(&before.nodes).unwrap(),
        serde_json::to_value(&after.nodes).unwrap()
    );
    assert_eq!(
        serde_json::to_value(&before.edges).unwrap(),
        serde_json::to_value(&after.edges).unwrap()
    );
}

#[tokio::test]
async fn what_cannot_be_worked_on_is_kept_and_stops_nobody_else() {
    let world = World::new(Mail::Delivers).await;
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world.drain().await;
    let view = world.view(&patient).await;
    let good = world.damage(&patient, &view.id).await;
    world.weight(&patient, 82.0).await;
    let other = world.patient().await;
    world.discharge(&other, 0).await;
    world.drain().await;
    assert_eq!(
        world.messages(&other).await,
        ["Welcome home by EMAILWRIT: completed"],
        "others go on"
    );
    let permit = world.staff(Role::Coordinator, Action::Search).await;
    let letters = world.journeys.dead_letters(&permit, 10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].error.contains("does not parse"), "{letters:?}");
    // Playing it again helps only once the cause is gone.
    assert!(
        world
            .journeys
            .retry(world::TENANT, &letters[0].id)
            .await
            .is_err()
    );
    world.repair(&patient, &view.id, good).await;
    world
        .journeys
        .retry(world::TENANT, &letters[0].id)
        .await
        .unwrap();
    assert_eq!(world.journeys.dead_letters(&permit, 10).await.unwrap(), []);
    // The weight that nobody could look at is known now.
    world.pass(DAY).await;
    world.weight(&patient, 84.1).await;
    assert_eq!(
        world.tasks(&patient).await,
        ["coordinator asap Call the patient about their weight: requested"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_follower_wakes_for_events_and_timers_and_stops_when_told() {
    let world = World::new(Mail::Silent).await;
    let (stop, task) = world.follow();
    let patient = world.patient().await;
    world.discharge(&patient, 0).await;
    world
        .wait_for(|| async { world.messages(&patient).await.len() == 1 })
        .await;
    // Nobody calls it: it hears of the event, and sleeps until the timer.
    world.clock.advance(2 * DAY);
    world
        .wait_for(|| async { world.forms(&patient).await.len() == 1 })
        .await;
    let form = world.task(&patient, "How are you today?").await;
    world
        .answer_quietly(&form, &[("dizzy", json!({"valueBoolean": true}))])
        .await;
    // The other task is to call somebody whom no e-mail has reached.
    world
        .wait_for(|| async { world.tasks(&patient).await.len() == 2 })
        .await;
    stop.send(true).unwrap();
    world.wait_for(|| async { task.is_finished() }).await;
    task.await.unwrap();
    // What it passed over is stored: a second follower has nothing to do.
    let before = world.now();
    let world = world.reopen().await;
    assert_eq!(
        world.journeys.drain(world::TENANT).await.unwrap(),
        0,
        "at {before}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_no_patient_and_doubles_nothing() {
    let world = World::new(Mail::Silent).await;
    let (stop, task) = world.follow();
    let mut patients = Vec::new();
    let mut crashed = Vec::new();
    for round in 0..24 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        if round % 3 == 0 {
            world.weight_quietly(&patient, 82.0).await;
        }
        patients.push(patient);
        if round % 6 == 5 {
            // Some are under way, some not begun; the copy is what a crash now would leave.
            crashed.push((world.after_crash(), patients.clone()));
            world.clock.advance(HOUR);
        }
    }
    stop.send(true).unwrap();
    task.await.unwrap();
    for (after, patients) in crashed {
        after.drain().await;
        for patient in &patients {
            let view = after.view(patient).await;
            assert!(view.ended.is_none());
            assert_eq!(
                after.messages(patient).await,
                ["Welcome home by EMAILWRIT: preparation"]
            );
        }
        assert_eq!(
            after.outbox().await,
            patients.len(),
            "each message is on its way once"
        );
        let report = after
            .trust
            .vault()
            .ledger()
            .verify_audit(&|_| {})
            .await
            .unwrap();
        assert!(report.broken.is_none(), "{report:?}");
        // And all of them come to an end.
        after.until(60 * DAY).await;
        for patient in &patients {
            assert!(after.view(patient).await.ended.is_some());
        }
    }
}

//! Every number of a journey's page leads to the list that makes it up.

use crate::world::{DAY, HOUR, Mail, World};
use journey::{
    GraphView, HereAfter, HereView, JourneyError, Passed, PassedView, Stay, VersionView,
};
use serde_json::json;
use trust::{Action, Permit, Role};

const NAME: &str = "heart-failure-discharge";

/// A list, read page by page.
async fn passed(world: &World, permit: &Permit, list: &Passed, page: usize) -> Vec<PassedView> {
    let (mut rows, mut before) = (Vec::new(), None);
    loop {
        let part = world
            .journeys
            .passed(permit, NAME, 1, list, before, page)
            .await
            .unwrap();
        assert!(
            part.rows.len() >= page || part.next.is_none(),
            "a page is only short at the end"
        );
        assert!(!part.rows.is_empty() || part.next.is_none());
        rows.extend(part.rows);
        before = part.next;
        if before.is_none() {
            assert!(
                rows.windows(2).all(|two| two[0].at_ms >= two[1].at_ms),
                "newest first"
            );
            return rows;
        }
    }
}

async fn here(
    world: &World,
    permit: &Permit,
    step: Option<&str>,
    stay: Option<Stay>,
    page: usize,
) -> Vec<HereView> {
    let (mut rows, mut after): (_, Option<HereAfter>) = (Vec::new(), None);
    loop {
        let part = world
            .journeys
            .here(permit, NAME, 1, step, stay, after.as_ref(), page)
            .await
            .unwrap();
        assert!(part.complete);
        rows.extend(part.rows);
        after = part.next;
        if after.is_none() {
            assert_eq!(rows.len() as u64, part.total);
            assert!(
                rows.windows(2)
                    .all(|two| two[0].since_ms <= two[1].since_ms),
                "longest first"
            );
            return rows;
        }
    }
}

async fn coordinator(world: &World) -> Permit {
    world.staff(Role::Coordinator, Action::Search).await
}

/// Each count of the graph against the length of its list. Returns how many counts were not zero.
async fn every_number_is_its_list_s_length(world: &World) -> usize {
    let permit = coordinator(world).await;
    let graph: GraphView = world.graph(Some(1)).await;
    let VersionView { running, ended, .. } = graph.version;
    let mut numbers = vec![
        (running, here(world, &permit, None, None, 2).await.len()),
        (ended, {
            let all = Passed::Ended {
                step: None,
                reason: None,
            };
            passed(world, &permit, &all, 2).await.len()
        }),
    ];
    for node in &graph.nodes {
        let id = node.id.clone();
        let now = here(world, &permit, Some(&id), None, 2).await;
        numbers.push((node.here, now.len()));
        let came = Passed::Came { step: id.clone() };
        numbers.push((node.entered, passed(world, &permit, &came, 2).await.len()));
        let ended = Passed::Ended {
            step: Some(id.clone()),
            reason: None,
        };
        numbers.push((
            node.ended_here,
            passed(world, &permit, &ended, 3).await.len(),
        ));
        let left = |stay| Passed::Left {
            step: id.clone(),
            stay,
        };
        let all = passed(world, &permit, &left(None), 2).await;
        assert_eq!(node.left, node.stays.iter().sum::<u64>(), "{id}");
        numbers.push((node.left, all.len()));
        for (stay, count) in Stay::all().zip(&node.stays) {
            let some = passed(world, &permit, &left(Some(stay)), 2).await;
            for row in &some {
                assert_eq!(Stay::of(row.at_ms - row.since_ms.unwrap()), stay);
            }
            numbers.push((*count, some.len()));
        }
        if node.kind != "entry"
            && node.kind != "end"
            && node.kind != "observe"
            && node.kind != "goal"
        {
            // Whoever is at a step twice at once is one patient there.
            assert!(
                node.entered >= node.here + node.left + node.ended_here,
                "{id}: who is here, has gone on or has left the journey came once"
            );
        }
    }
    for edge in &graph.edges {
        let way = Passed::Way {
            from: edge.from.clone(),
            to: edge.to.clone(),
            label: Some(edge.label.clone()),
        };
        let rows = passed(world, &permit, &way, 1).await;
        numbers.push((edge.count, rows.len()));
    }
    for (reason, count) in &graph.endings {
        let ended = Passed::Ended {
            step: None,
            reason: Some(reason.clone()),
        };
        numbers.push((*count, passed(world, &permit, &ended, 2).await.len()));
    }
    for (place, (number, length)) in numbers.iter().enumerate() {
        assert_eq!(*number, *length as u64, "number {place} of {numbers:?}");
    }
    numbers.iter().filter(|(number, _)| *number > 0).count()
}

/// Six patients: one to whom all goes well, one who is silent, one who gains weight twice, one who comes
/// back, one who dies, and one who withdraws consent.
async fn six(world: &World) -> Vec<String> {
    let mut patients = Vec::new();
    for _ in 0..6 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
        world.drain().await;
        world.pass(HOUR).await;
        patients.push(patient);
    }
    patients
}

#[tokio::test]
async fn every_number_leads_to_the_list_that_makes_it_up() {
    let world = World::new(Mail::Delivers).await;
    let patients = six(&world).await;
    every_number_is_its_list_s_length(&world).await;
    let no = json!({"valueBoolean": false});
    world.until(2 * DAY).await;
    let form = world.task(&patients[0], "How are you today?").await;
    world.answer(&form, &[("breathless", no.clone())]).await;
    world.visit(&patients[0], "booked").await;
    for kg in [80.0, 83.0, 83.1, 86.4] {
        world.weight(&patients[2], kg).await;
        world.pass(DAY).await;
    }
    world.admit(&patients[3]).await;
    world.die(&patients[4]).await;
    world.consent(&patients[5], false).await;
    world.drain().await;
    every_number_is_its_list_s_length(&world).await;
    // Late, but it counts.
    let form = world.task(&patients[1], "How are you today?").await;
    world
        .answer(&form, &[("dizzy", json!({"valueBoolean": true}))])
        .await;
    world.until(45 * DAY).await;
    let numbers = every_number_is_its_list_s_length(&world).await;
    assert!(numbers > 60, "{numbers} numbers to compare");

    let permit = coordinator(&world).await;
    let came = Passed::Came {
        step: "weight_task".to_owned(),
    };
    let rows = passed(&world, &permit, &came, 10).await;
    assert_eq!(
        rows.iter().map(|row| &row.patient).collect::<Vec<_>>(),
        [&patients[2], &patients[2]],
        "who comes twice stands there twice"
    );
    let reason = |reason: &str| Passed::Ended {
        step: None,
        reason: Some(reason.to_owned()),
    };
    for (words, patient) in [
        ("Back in hospital", &patients[3]),
        ("Died", &patients[4]),
        ("Consent withdrawn", &patients[5]),
    ] {
        let rows = passed(&world, &permit, &reason(words), 10).await;
        assert_eq!((rows.len(), &rows[0].patient), (1, patient), "{words}");
        assert!(
            rows[0].steps.contains(&"day_thirty".to_owned()),
            "where they were: {:?}",
            rows[0].steps
        );
    }
    // Counted anew from the store it is the same.
    let world = world.reopen().await;
    assert_eq!(every_number_is_its_list_s_length(&world).await, numbers);
}

#[tokio::test]
async fn lists_stay_whole_while_patients_move_on() {
    let world = World::new(Mail::Delivers).await;
    let patients = six(&world).await;
    let permit = coordinator(&world).await;
    let came = Passed::Came {
        step: "day_two".to_owned(),
    };
    let page = |list: Passed, before| {
        let (world, permit) = (&world, &permit);
        async move {
            world
                .journeys
                .passed(permit, NAME, 1, &list, before, 3)
                .await
                .unwrap()
        }
    };
    let first = page(came.clone(), None).await;
    let now = world
        .journeys
        .here(&permit, NAME, 1, Some("day_two"), None, None, 4)
        .await
        .unwrap();
    assert_eq!((now.rows.len(), now.total), (4, 6));
    // One who is on neither first page moves, and somebody new comes.
    world.admit(&patients[5]).await;
    world.weight(&patients[0], 80.0).await;
    let late = world.patient().await;
    world.discharge(&late, 0).await;
    world.drain().await;
    let second = page(came, first.next).await;
    let names: Vec<&String> = first
        .rows
        .iter()
        .chain(&second.rows)
        .map(|row| &row.patient)
        .collect();
    assert_eq!(names, patients.iter().rev().collect::<Vec<_>>());
    assert!(second.next.is_none());
    let rest = world
        .journeys
        .here(
            &permit,
            NAME,
            1,
            Some("day_two"),
            None,
            now.next.as_ref(),
            4,
        )
        .await
        .unwrap();
    let names: Vec<&String> = now
        .rows
        .iter()
        .chain(&rest.rows)
        .map(|row| &row.patient)
        .collect();
    assert_eq!(
        names,
        patients[..5].iter().chain([&late]).collect::<Vec<_>>()
    );
}

// Proves: 45 CFR 164.312(b)
#[tokio::test]
async fn the_audit_names_those_on_the_page_and_no_others() {
    let world = World::new(Mail::Delivers).await;
    let patients = six(&world).await;
    let permit = coordinator(&world).await;
    let here = world
        .journeys
        .here(&permit, NAME, 1, Some("visit"), None, None, 2)
        .await
        .unwrap();
    assert_eq!(here.rows.len(), 2);
    assert_eq!(here.stays.iter().sum::<u64>(), 6);
    let permit = coordinator(&world).await;
    let came = Passed::Came {
        step: "visit".to_owned(),
    };
    let page = world
        .journeys
        .passed(&permit, NAME, 1, &came, None, 3)
        .await
        .unwrap();
    assert!(page.next.is_some());
    let mut seen = Vec::new();
    for patient in &patients {
        let events = world.audits(patient).await;
        let looked = |event: &fhir::Resource| {
            event.text_at(&["subtype", "0", "code"]) == Some("journey")
                && event.text_at(&["agent", "0", "altId"]) == Some("Coordinator")
        };
        seen.push(events.iter().any(looked));
    }
    assert_eq!(seen, [true, true, false, true, true, true]);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn who_sees_how_many_does_not_see_who() {
    let world = World::new(Mail::Delivers).await;
    six(&world).await;
    let came = Passed::Came {
        step: "welcome".to_owned(),
    };
    let squad = world.staff(Role::Squad, Action::Observe).await;
    let here = world.journeys.here(&squad, NAME, 1, None, None, None, 9);
    assert!(matches!(here.await, Err(JourneyError::Trust(_))));
    let passed = world.journeys.passed(&squad, NAME, 1, &came, None, 9);
    assert!(matches!(passed.await, Err(JourneyError::Trust(_))));

    let permit = coordinator(&world).await;
    for list in [
        Passed::Came {
            step: "nowhere".to_owned(),
        },
        Passed::Way {
            from: "welcome".to_owned(),
            to: "nowhere".to_owned(),
            label: None,
        },
        Passed::Ended {
            step: Some("nowhere".to_owned()),
            reason: None,
        },
    ] {
        let passed = world.journeys.passed(&permit, NAME, 1, &list, None, 9);
        assert!(matches!(passed.await, Err(JourneyError::Unknown(_))));
    }
    let none = world.journeys.passed(&permit, NAME, 9, &came, None, 9);
    assert!(matches!(none.await, Err(JourneyError::Unknown(_))));
    let nowhere = world
        .journeys
        .here(&permit, NAME, 1, Some("nowhere"), None, None, 9);
    assert!(matches!(nowhere.await, Err(JourneyError::Unknown(_))));
    let end = world
        .journeys
        .here(&permit, NAME, 1, Some("end"), None, None, 9);
    assert!(end.await.unwrap().rows.is_empty());
}

/// Steps of the kinds that decide, repeat and aim.
const DECIDING: &str = "
start: trial
steps:
  trial:
    title: When to begin
    split:
      arms: [{id: now, weight: 40, next: weighed}, {id: later, weight: 40, next: pause}]
      holdout: {weight: 20, next: weighed}
  pause: {title: Pause, wait: {for: 6h}, next: weighed}
  weighed:
    title: Weighed?
    check: {has: Observation, where: code.coding.exists(code = '29463-7')}
    yes: insured
    no: daily
  insured:
    title: Insured?
    check: {coverage: active}
    yes: allowed
    no: daily
  allowed:
    title: May be cared for?
    check: {consent: CAREMGT}
    yes: welcome
    no: daily
  welcome:
    title: Welcome
    send: {title: Welcome, words: Hello., channels: [portal]}
    next: told
    on_failure: end
  told:
    title: Told?
    check: {has: Communication, where: status = 'completed'}
    yes: end
    no: daily
  daily:
    title: Daily
    repeat: {body: [short, long], times: 3, pause: 1d, until: light.reached = true}
    next: end
    never: over
  short: {title: Short, wait: {for: 1h}, next: end}
  long: {title: Long, wait: {for: 3h}, next: end}
  over: {title: Over, exit: {reason: Heavy}}
  light:
    title: Light
    goal: {event: Observation, where: value.value < 70, journey: goes_on}
  out:
    title: Operated
    goal: {event: Procedure, journey: ends}
";

#[tokio::test]
async fn numbers_of_kinds_that_decide_repeat_and_aim_have_their_lists() {
    let head = crate::world::heart_failure();
    let head = head.split("\nstart:").next().unwrap();
    let world = World::with(Mail::Delivers, &format!("{head}{DECIDING}")).await;
    let mut patients = Vec::new();
    for place in 0..8 {
        let patient = world.patient().await;
        if place < 5 {
            world.weight(&patient, 80.0).await;
        }
        if place < 3 {
            let end = fhir::date::instant(world.now() + 30 * DAY);
            world
                .cover(&patient, ["active", "active", "cancelled"][place], &end)
                .await;
        }
        world.discharge(&patient, 0).await;
        world.drain().await;
        patients.push(patient);
    }
    every_number_is_its_list_s_length(&world).await;
    world.pass(7 * HOUR).await;
    every_number_is_its_list_s_length(&world).await;
    // What was looked for is in the audit of whose record it was.
    for (place, words) in [
        (0, "looked for Communication, Coverage, Observation"),
        (6, "looked for Observation"),
    ] {
        let events = world.audits(&patients[place]).await;
        let told = |event: &fhir::Resource| event.as_value().to_string().contains(words);
        assert!(events.iter().any(told), "{events:?}");
    }
    // Who is weighed and insured gets a message, and the same unit of work sees it.
    for (place, patient) in patients.iter().enumerate() {
        let view = world.view(patient).await;
        let ended = view.ended.map(|(_, title, ..)| title);
        assert_eq!(
            ended.as_deref(),
            (place < 2).then_some("Completed"),
            "patient {place}"
        );
    }
    world.weight(&patients[3], 60.0).await;
    world.weight(&patients[3], 61.0).await;
    world.weight(&patients[4], 62.0).await;
    world.operate(&patients[5]).await;
    world.pass(8 * DAY).await;
    every_number_is_its_list_s_length(&world).await;
    let permit = coordinator(&world).await;
    for (goal, who) in [
        ("light", vec![&patients[4], &patients[3]]),
        ("out", vec![&patients[5]]),
    ] {
        let came = Passed::Came {
            step: goal.to_owned(),
        };
        let rows = passed(&world, &permit, &came, 10).await;
        assert_eq!(
            rows.iter().map(|row| &row.patient).collect::<Vec<_>>(),
            who,
            "{goal}"
        );
    }
    let graph = world.graph(Some(1)).await;
    assert_eq!(
        graph.endings,
        [
            ("Completed".to_owned(), 4),
            ("Heavy".to_owned(), 3),
            ("Operated".to_owned(), 1)
        ]
    );
    // A restart counts the same from what is stored.
    let world = world.reopen().await;
    every_number_is_its_list_s_length(&world).await;
}

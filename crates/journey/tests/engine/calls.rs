//! Calls to partners.

use crate::kinds::{begin, compiled};
use crate::run::{DAY, HOUR, Run};
use journey::{Act, Definition, Manual};
use serde_json::json;
use std::sync::Arc;

/// A bed is ordered, then a ride; both can be taken back.
fn discharge() -> Arc<Definition> {
    compiled(
        "  first:
    title: Order a bed
    call:
      partner: beds
      path: /beds
      values:
        name: {patient: family}
      learns:
        order: {path: order.id, class: contact}
      up_to: 1d
      compensate:
        path: /cancel
        values: {order: {learnt: first.order}}
    next: ride
    failed: phone
    timed_out: phone
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      values:
        bed: {learnt: first.order}
        kind: {is: wheelchair}
      learns:
        booking: {path: booking.id, class: contact}
      accepts: [409]
      up_to: 12h
      compensate:
        path: /cancellations
        values: {booking: {learnt: ride.booking, or: unknown}}
      takes_back: [first]
    next: which
    failed: phone
    timed_out: phone
  which:
    title: Was it full?
    branch:
      cases:
        - {when: ride.status = 409, next: phone}
      otherwise: pause
  pause: {title: Pause, wait: {for: 2d}, next: end}
  phone:
    title: Phone them
    task: {title: Phone them, reason: No ride., role: coordinator, due: 2d}
    next: end
    overdue: {role: clinician, priority: stat}
",
    )
}

fn run() -> Run {
    begin(&discharge(), "p")
}

fn answered() -> Run {
    let mut run = run();
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    run.partner("i/2/call", Ok(json!({"status": 200, "booking": "B7"})));
    run
}

#[test]
fn an_answer_moves_the_journey_and_is_learnt() {
    let mut run = answered();
    assert_eq!(run.state.at(), ["pause"]);
    assert_eq!(run.log(), ["0d01h task first", "0d01h task ride"]);
    let state = run.state.to_json();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["x"]["ride"], json!({"status": 200, "booking": "B7"}));
    // The same answer once more moves nobody.
    let before = run.state.clone();
    run.partner("i/2/call", Ok(json!({"status": 200, "booking": "B8"})));
    assert_eq!(run.state, before);
    // Of what came to its end nothing is taken back.
    run.until(4 * DAY);
    assert_eq!(run.state.ending().unwrap().0, "completed");
    assert!(!run.log().iter().any(|line| line.contains("take back")));
}

#[test]
fn a_status_that_is_accepted_is_an_answer() {
    let mut run = run();
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    run.partner("i/2/call", Ok(json!({"status": 409})));
    assert_eq!(run.state.at(), ["phone"]);
}

#[test]
fn what_the_file_does_not_learn_is_not_learnt() {
    let mut run = run();
    run.partner(
        "i/1/call",
        Ok(json!({"status": 201, "order": "O1", "diagnosis": "x"})),
    );
    let state = String::from_utf8(run.state.to_json()).unwrap();
    assert!(
        state.contains("O1") && !state.contains("diagnosis"),
        "{state}"
    );
}

#[test]
fn failure_takes_its_way_and_takes_back_what_is_named() {
    let mut run = run();
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    run.partner("i/2/call", Err("permanent-failure"));
    assert_eq!(run.state.at(), ["phone"]);
    // The ride was refused, so there is nothing to take back of it; the bed is.
    assert_eq!(
        run.log()[2..],
        ["0d01h take back i/1/call", "0d01h task phone"]
    );
    // It is taken back once, whatever comes of the journey.
    run.input(journey::Input::Manual(Manual::Stop("Enough".to_owned())));
    let backs = run.log();
    let backs = backs.iter().filter(|line| line.contains("take back"));
    assert_eq!(backs.count(), 1);
}

#[test]
fn what_may_have_been_done_is_taken_back_the_newest_first() {
    let mut run = run();
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    run.partner("i/2/call", Err("retries-exhausted"));
    assert_eq!(
        run.log()[2..],
        [
            "0d01h take back i/2/call",
            "0d01h take back i/1/call after i/2/take-back",
            "0d01h task phone"
        ]
    );
}

#[test]
fn who_may_have_done_it_before_they_refused_takes_it_back() {
    for code in [
        "consent",
        "deceased",
        "no-contract",
        "not-cleared",
        "permanent-failure",
    ] {
        let mut run = run();
        run.partner_after_silence("i/1/call", code);
        assert_eq!(run.state.at(), ["phone"]);
        assert_eq!(
            run.log()[1..],
            ["0d01h take back i/1/call", "0d01h task phone"],
            "{code}"
        );
    }
}

/// Ordered each day, and again.
#[test]
fn each_round_takes_back_what_it_has_called_itself() {
    let definition = compiled(
        "  first:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      learns:
        booking: {path: booking.id, class: contact}
        driver: {path: driver, class: contact}
      up_to: 1h
      compensate:
        path: /cancellations
        values: {booking: {learnt: first.booking, or: unknown}}
    next: pause
    failed: end
    timed_out: end
  pause: {title: Pause, wait: {for: 1d}, next: first}
",
    );
    let mut run = begin(&definition, "p");
    run.partner(
        "i/1/call",
        Ok(json!({"status": 200, "booking": "B1", "driver": "D"})),
    );
    run.until(25 * HOUR);
    run.partner("i/3/call", Ok(json!({"status": 200, "booking": "B2"})));
    run.until(49 * HOUR);
    assert_eq!(run.state.at(), ["first"]);
    let again = journey::State::from_json(&run.state.to_json()).unwrap();
    assert_eq!(again, run.state);
    run.input(journey::Input::Manual(Manual::Stop("Enough".to_owned())));
    let learnt: Vec<_> = run
        .backs
        .iter()
        .map(|(call, learnt)| {
            let learnt = learnt.clone().expect("kept");
            (call.as_str(), serde_json::Value::Object(learnt))
        })
        .collect();
    assert_eq!(
        learnt,
        [
            // Of the one that was not answered nothing is known, and not what another was answered.
            ("i/5/call", json!({})),
            ("i/3/call", json!({"booking": "B2"})),
            ("i/1/call", json!({"booking": "B1"})),
        ]
    );
}

#[test]
fn no_answer_in_time_takes_its_way() {
    let mut run = run();
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    run.until(13 * HOUR);
    assert_eq!(run.state.at(), ["phone"]);
    assert_eq!(
        run.log()[2..],
        [
            "0d13h close i/2/call cancelled",
            "0d13h take back i/2/call",
            "0d13h take back i/1/call after i/2/take-back",
            "0d13h task phone"
        ]
    );
    // What comes after that moves nobody.
    let before = run.state.clone();
    run.partner("i/2/call", Ok(json!({"status": 200, "booking": "B7"})));
    assert_eq!(run.state, before);
}

#[test]
fn a_journey_that_is_broken_off_takes_back_what_was_called() {
    let mut run = answered();
    run.input(journey::Input::Manual(Manual::Stop("Enough".to_owned())));
    assert_eq!(
        run.log()[2..],
        [
            "0d01h take back i/2/call",
            "0d01h take back i/1/call after i/2/take-back",
            "0d01h end stopped"
        ]
    );
}

#[test]
fn a_call_under_way_is_called_off_and_taken_back_when_the_journey_is_broken_off() {
    let mut run = run();
    run.input(journey::Input::Manual(Manual::Stop("Enough".to_owned())));
    assert_eq!(
        run.log()[1..],
        [
            "0d01h close i/1/call cancelled",
            "0d01h take back i/1/call",
            "0d01h end stopped"
        ]
    );
}

/// A call beside a wait that ends the journey.
#[test]
fn what_was_not_answered_is_taken_back_at_any_end() {
    let definition = compiled(
        "  first:
    title: Both
    parallel: {branches: [ride, pause]}
    next: end
  ride:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      up_to: 9d
      compensate: {path: /cancellations}
    next: end
    failed: end
    timed_out: end
  pause: {title: Pause, wait: {for: 2d}, next: over}
  over: {title: Over, exit: {reason: Over}}
",
    );
    for (answered, backs) in [(true, 0), (false, 1)] {
        let mut run = begin(&definition, "p");
        if answered {
            run.partner("i/2/call", Ok(json!({"status": 200})));
        }
        run.until(3 * DAY);
        assert_eq!(run.state.ending().unwrap().0, "over");
        let log = run.log();
        let found = log
            .iter()
            .filter(|line| line.contains("take back i/2/call"));
        assert_eq!(found.count(), backs, "{log:?}");
    }
}

#[test]
fn a_journey_that_is_held_holds_its_calls() {
    let mut run = run();
    run.hand(Act::Pause).unwrap();
    run.hand(Act::Resume).unwrap();
    assert_eq!(
        run.log()[1..],
        ["0d01h hold i/1/call", "0d01h call on i/1/call"]
    );
    run.hand(Act::Pause).unwrap();
    // An answer is an answer; what comes after it waits.
    run.partner("i/1/call", Ok(json!({"status": 201, "order": "O1"})));
    assert!(run.state.at().is_empty(), "{:?}", run.state.at());
    run.hand(Act::Resume).unwrap();
    assert_eq!(run.state.at(), ["ride"]);
}

#[test]
fn a_call_that_is_begun_anew_is_another_call() {
    let mut run = run();
    run.hand(Act::Retry { n: 1 }).unwrap();
    assert_eq!(
        run.log()[1..],
        [
            "0d01h close i/1/call cancelled",
            "0d01h take back i/1/call",
            "0d01h task first"
        ]
    );
    assert!(run.made.contains("i/2/call"), "{:?}", run.made);
    // Nobody can take back that a partner was called.
    assert!(run.hand(Act::Undo).is_err());
}

#[test]
fn a_call_that_is_skipped_as_failed_is_taken_back() {
    let mut run = run();
    run.hand(Act::Skip { n: 1, way: 1 }).unwrap();
    assert_eq!(run.state.at(), ["phone"]);
    assert_eq!(
        run.log()[1..],
        [
            "0d01h close i/1/call cancelled",
            "0d01h take back i/1/call",
            "0d01h task phone"
        ]
    );
    assert!(run.hand(Act::Undo).is_err());
}

#[test]
fn a_state_with_calls_is_for_programs_that_know_them() {
    let run = run();
    let state: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    assert_eq!(
        (&state["f"], &state["y"]),
        (&json!(2), &json!([{"n": 1, "s": "first", "x": {}}]))
    );
    let again = journey::State::from_json(&run.state.to_json()).unwrap();
    assert_eq!(again, run.state);
}

//! A call by a connector is the call that the connector stands for.

use crate::kinds::source;
use crate::run::{DAY, Run, facts};
use journey::{Definition, Input, Manual, Outcome};
use serde_json::json;

/// A ride that is ordered with all of it written out.
const WRITTEN: &str = "  first:
    title: Order a ride
    call:
      partner: rides
      path: /bookings
      body: nested
      values:
        phone: {patient: phone, as: passenger.phone, or: none}
        seat: {is: car, as: trip.seat}
        source: {is: cairn}
      learns:
        booking: {path: booking.id, class: contact}
      accepts: [409]
      timeout_s: 7
      retry: {times: 2, backoff_s: 9}
      up_to: 12h
      compensate:
        path: /cancellations
        values:
          booking: {learnt: first.booking, as: booking.id, or: unknown}
    next: pause
    failed: phone
    timed_out: phone
";

/// The same by a connector.
const NAMED: &str = "  first:
    title: Order a ride
    call:
      connector: ride_booking
      partner: rides
      with:
        phone: {patient: phone, or: none}
      up_to: 12h
    next: pause
    failed: phone
    timed_out: phone
";

const REST: &str = "  pause: {title: Pause, wait: {for: 2d}, next: end}
  phone:
    title: Phone them
    task: {title: Phone them, reason: 'No ride {first.booking|}.', role: coordinator, due: 2d}
    next: end
    overdue: {role: clinician, priority: stat}
";

const RIDES: &str = "connectors:
  ride_booking:
    title: Order a ride
    takes:
      phone: {title: Where the driver calls, classes: [contact]}
      seat: {title: The kind of seat, needed: false}
      note: {title: A note, needed: false}
    call:
      path: /bookings
      body: nested
      values:
        phone: {input: phone, as: passenger.phone, or: nobody}
        seat: {input: seat, as: trip.seat, or: car}
        note: {input: note}
        source: {is: cairn}
      learns:
        booking: {path: booking.id, class: contact}
      accepts: [409]
      timeout_s: 7
      retry: {times: 2, backoff_s: 9}
      compensate:
        path: /cancellations
        values:
          booking: {answer: booking, as: booking.id, or: unknown}
";

fn written() -> String {
    format!("{WRITTEN}{REST}")
}

fn named() -> String {
    format!("{NAMED}{REST}{RIDES}")
}

fn begin(steps: &str) -> Run {
    let definition = Definition::compile(&source("kinds", steps), 1).unwrap();
    Run::start(definition, Some(Outcome::Delivered), facts())
}

#[test]
fn it_does_what_the_call_written_out_does() {
    for what in [
        "answered", "full", "refused", "perhaps", "silent", "stopped",
    ] {
        let mut runs = [begin(&written()), begin(&named())];
        for run in &mut runs {
            let answer = |status: u16| json!({"status": status, "booking": "B7", "more": "x"});
            let answered = match what {
                "answered" | "stopped" => Some(Ok(answer(201))),
                "full" => Some(Ok(answer(409))),
                "refused" => Some(Err("permanent-failure")),
                "perhaps" => Some(Err("retries-exhausted")),
                _ => None,
            };
            if let Some(answered) = answered {
                run.partner("i/1/call", answered);
            }
            if what == "stopped" {
                run.input(Input::Manual(Manual::Stop("Enough".to_owned())));
            }
            run.until(6 * DAY);
        }
        let [one, other] = &runs;
        assert_eq!(one.log(), other.log(), "{what}");
        assert_eq!(one.backs, other.backs, "{what}");
        assert_eq!(one.made, other.made, "{what}");
        assert_eq!(one.state, other.state, "{what}");
        assert_eq!(one.state.to_json(), other.state.to_json(), "{what}");
        let took_back = one.log().iter().any(|line| line.contains("take back"));
        let is_to = ["perhaps", "silent", "stopped"].contains(&what);
        assert_eq!(took_back, is_to, "{what}: {:?}", one.log());
    }
}

/// Who waits for an answer goes along to a version that says the same by a connector, and not to one that doesn't.
#[test]
fn a_call_under_way_is_the_same_by_a_connector() {
    for (from, to) in [(written(), named()), (named(), written())] {
        let mut run = begin(&from);
        assert_eq!(run.moves(&to, &journey::Map::new()), "moves");
        run.partner("i/1/call", Ok(json!({"status": 201, "booking": "B7"})));
        assert_eq!(run.state.at(), ["pause"]);
        // Called and answered, it would be taken back in the same way.
        let mut run = begin(&from);
        run.partner("i/1/call", Ok(json!({"status": 201, "booking": "B7"})));
        assert_eq!(run.moves(&to, &journey::Map::new()), "moves");
    }
    for (was, is) in [
        ("path: /bookings", "path: /v2/bookings"),
        ("or: car", "or: van"),
        ("path: /cancellations", "path: /off"),
    ] {
        let mut run = begin(&named());
        let other = named().replacen(was, is, 1);
        let moved = run.moves(&other, &journey::Map::new());
        assert!(!moved.starts_with("moves"), "{is}: {moved}");
    }
    // What is for people changes nothing.
    let mut run = begin(&named());
    let other = named().replace("title: The kind of seat", "title: Car or wheelchair");
    assert_eq!(run.moves(&other, &journey::Map::new()), "moves");
}

//! Word of a booked visit: that it is booked, that it was moved, that it was called off.

use crate::kinds::compiled;
use crate::run::{DAY, DISCHARGE, HOUR, Names, Run, facts};
use journey::{About, Act, Calendar, Context, Decision, Effect, Fact, Input, Outcome, Which, step};

fn source(more: &str) -> String {
    format!(
        "  first:
    title: Visit
    book:
      title: Check-up
      time: discharge + 10d at 10:00
      minutes: 30
      book_by: discharge + 2d
      confirm: {{words: 'It is on {{visit.day}}.', calendar: true}}
{more}    next: end
    not_booked: pause
    missed: pause
  pause: {{title: Pause, wait: {{for: 1d}}, next: end}}
"
    )
}

fn begin(more: &str, email: Option<Outcome>) -> Run {
    let mut run = Run::start(compiled(&source(more)), email, facts());
    run.until(DAY);
    run
}

fn fact(status: &str, start: u64) -> Fact {
    Fact::Visit {
        id: "i/1/visit".to_owned(),
        status: status.to_owned(),
        start_ms: Some(DISCHARGE + start),
        end_ms: None,
    }
}

fn visit(run: &mut Run, status: &str, start: u64) {
    run.event("Appointment/x", fact(status, start), vec![]);
}

/// What a visit's change would send, without doing it.
fn would(run: &Run, status: &str, start: u64) -> Vec<(Which, Option<Calendar>)> {
    let context = Context {
        now_ms: run.now,
        instance: "i",
        ids: &Names,
        limited: false,
    };
    let event = journey::Event {
        number: run.number + 1,
        reference: "Appointment/x".to_owned(),
        fact: fact(status, start),
        holds: vec![],
    };
    let Decision { effects, .. } =
        step(&run.definition, &run.state, Input::Event(event), &context).unwrap();
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send {
            which,
            about: Some(About::Visit { calendar, .. }),
            ..
        } => Some((which, calendar)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn each_change_of_a_booked_visit_is_told_once() {
    let mut run = begin("", Some(Outcome::Delivered));
    visit(&mut run, "booked", 10 * DAY);
    // The same again is no change.
    visit(&mut run, "booked", 10 * DAY);
    run.until(2 * DAY);
    visit(&mut run, "booked", 12 * DAY);
    visit(&mut run, "booked", 10 * DAY);
    run.until(3 * DAY);
    visit(&mut run, "cancelled", 10 * DAY);
    visit(&mut run, "cancelled", 10 * DAY);
    run.until(5 * DAY);
    let expected = [
        "0d01h propose first",
        "1d00h booked 1 first email",
        "2d00h booked 2 first email",
        "2d00h booked 3 first email",
        "3d00h called off 1/3 first email",
        "4d00h end completed",
    ];
    assert_eq!(run.log(), expected);
}

#[test]
fn an_entry_for_the_calendar_rises_with_each_change() {
    let mut run = begin("      remind: [1d]\n", Some(Outcome::Delivered));
    let calendar = |start: u64, sequence, cancelled| {
        Some(Calendar {
            end_ms: DISCHARGE + start + HOUR / 2,
            sequence,
            cancelled,
        })
    };
    let sent = would(&run, "booked", 10 * DAY);
    assert_eq!(
        sent,
        [(Which::Booked { time: 1 }, calendar(10 * DAY, 0, false))]
    );
    visit(&mut run, "booked", 10 * DAY);
    let sent = would(&run, "booked", 12 * DAY);
    assert_eq!(
        sent,
        [(Which::Booked { time: 2 }, calendar(12 * DAY, 1, false))]
    );
    visit(&mut run, "booked", 12 * DAY);
    let sent = would(&run, "cancelled", 12 * DAY);
    let off = Which::CalledOff { n: 1, time: 2 };
    assert_eq!(sent, [(off, calendar(12 * DAY, 2, true))]);
    // What the reminder brings is the same entry, and no newer one.
    run.until(11 * DAY + HOUR);
    assert!(
        run.log()
            .iter()
            .any(|line| line.contains("reminder 2/1440")),
        "{:?}",
        run.log()
    );
}

#[test]
fn without_the_member_nobody_is_told_and_the_state_is_as_it_was() {
    let source = source("").replace(
        "      confirm: {words: 'It is on {visit.day}.', calendar: true}\n",
        "",
    );
    let mut run = Run::start(compiled(&source), Some(Outcome::Delivered), facts());
    run.until(DAY);
    visit(&mut run, "booked", 10 * DAY);
    let stored: serde_json::Value = serde_json::from_slice(&run.state.to_json()).unwrap();
    assert_eq!(stored["f"], 1);
    visit(&mut run, "cancelled", 10 * DAY);
    run.until(5 * DAY);
    assert_eq!(run.log(), ["0d01h propose first", "2d00h end completed"]);
}

#[test]
fn what_has_not_left_is_called_off_by_what_comes_next() {
    // The e-mail waits. Moved, the first is of no use; called off, neither is the second.
    let mut run = begin("", None);
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "booked", 12 * DAY);
    visit(&mut run, "cancelled", 12 * DAY);
    let expected = [
        "0d01h propose first",
        "1d00h booked 1 first email",
        "1d00h called-off i/1/booked-1/0",
        "1d00h booked 2 first email",
        "1d00h called off 1/2 first email",
        "1d00h called-off i/1/booked-2/0",
    ];
    assert_eq!(run.log(), expected);

    // The next reminder takes its place.
    let mut run = begin("      remind: [1d]\n", None);
    visit(&mut run, "booked", 3 * DAY);
    run.until(2 * DAY + HOUR);
    let expected = [
        "0d01h propose first",
        "1d00h booked 1 first email",
        "2d00h called-off i/1/booked-1/0",
        "2d00h reminder 1/1440 first email",
    ];
    assert_eq!(run.log(), expected);
}

#[test]
fn what_no_channel_takes_goes_by_the_next() {
    let refused = Some(Outcome::NotDone("no-address".to_owned()));
    let mut run = begin("", refused);
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "cancelled", 10 * DAY);
    let expected = [
        "0d01h propose first",
        "1d00h booked 1 first email",
        "1d00h booked 1 first portal",
        "1d00h called off 1/1 first email",
        "1d00h called off 1/1 first portal",
    ];
    assert_eq!(run.log(), expected);
    // Who has withdrawn consent is told by no channel.
    let refused = Some(Outcome::NotDone("consent".to_owned()));
    let mut run = begin("", refused);
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "cancelled", 10 * DAY);
    let log = run.log();
    assert!(!log.iter().any(|line| line.ends_with("portal")), "{log:?}");
}

#[test]
fn what_is_over_is_not_told() {
    // Staff write down what was yesterday, and that it did not take place.
    let mut run = begin("", Some(Outcome::Delivered));
    visit(&mut run, "booked", DAY - HOUR);
    visit(&mut run, "cancelled", DAY - HOUR);
    let log = run.log();
    assert!(
        !log.iter().any(|line| line.contains("called off")),
        "{log:?}"
    );
    assert!(!log.iter().any(|line| line.contains("booked")), "{log:?}");
    // One that begins, is missed or takes place is not called off.
    for status in ["arrived", "noshow", "fulfilled"] {
        let mut run = begin("", Some(Outcome::Delivered));
        visit(&mut run, "booked", 10 * DAY);
        visit(&mut run, status, 10 * DAY);
        let log = run.log();
        assert!(
            !log.iter().any(|line| line.contains("called off")),
            "{status}: {log:?}"
        );
    }
}

#[test]
fn a_held_journey_tells_when_it_goes_on() {
    let mut run = begin("", Some(Outcome::Delivered));
    run.hand(Act::Pause).unwrap();
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "booked", 12 * DAY);
    run.until(2 * DAY);
    assert!(
        !run.log().iter().any(|line| line.contains("booked")),
        "{:?}",
        run.log()
    );
    run.hand(Act::Resume).unwrap();
    let log = run.log();
    let told: Vec<&str> = (log.iter().copied())
        .filter(|line| line.contains("booked"))
        .collect();
    assert_eq!(told, ["2d00h booked 2 first email"], "the newest alone");
}

#[test]
fn who_has_no_email_is_told_in_the_portal_also_where_the_journey_ends_by_it() {
    let source = source("").replace("not_booked: pause", "not_booked: end");
    let refused = Some(Outcome::NotDone("no-address".to_owned()));
    let mut run = Run::start(compiled(&source), refused, facts());
    run.until(DAY);
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "cancelled", 10 * DAY);
    let log = run.log();
    assert!(log.iter().any(|line| line.contains(" end ")), "{log:?}");
    assert!(
        log.contains(&"1d00h called off 1/1 first portal"),
        "{log:?}"
    );
}

#[test]
fn a_visit_that_ends_at_another_time_is_told_and_called_off_until_it_would_begin() {
    let mut run = begin("      remind: [1d]\n", Some(Outcome::Delivered));
    visit(&mut run, "booked", DAY + 3 * HOUR);
    let longer = |status: &str| Fact::Visit {
        id: "i/1/visit".to_owned(),
        status: status.to_owned(),
        start_ms: Some(DISCHARGE + DAY + 3 * HOUR),
        end_ms: Some(DISCHARGE + DAY + 5 * HOUR),
    };
    run.event("Appointment/x", longer("booked"), vec![]);
    run.event("Appointment/x", longer("booked"), vec![]);
    let booked: Vec<&str> = (run.log().into_iter())
        .filter(|line| line.contains("booked"))
        .collect();
    let expected = ["1d00h booked 1 first email", "1d00h booked 2 first email"];
    assert_eq!(booked, expected, "{:?}", run.log());
    // What says that it is off is of no use once it would have begun.
    let context = Context {
        now_ms: run.now,
        instance: "i",
        ids: &Names,
        limited: false,
    };
    let event = journey::Event {
        number: run.number + 1,
        reference: "Appointment/x".to_owned(),
        fact: longer("cancelled"),
        holds: vec![],
    };
    let Decision { effects, .. } =
        step(&run.definition, &run.state, Input::Event(event), &context).unwrap();
    let until = effects.iter().find_map(|effect| match effect {
        Effect::Send {
            which: Which::CalledOff { .. },
            expires_ms,
            ..
        } => Some(*expires_ms),
        _ => None,
    });
    assert_eq!(until, Some(DISCHARGE + DAY + 3 * HOUR));
}

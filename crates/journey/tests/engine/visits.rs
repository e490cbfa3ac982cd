//! Reminders before a visit that is booked: when they go, and what becomes of them when it moves or isn't needed any
//! more.

use crate::kinds::compiled;
use crate::run::{DAY, DISCHARGE, HOUR, Names, Run, facts};
use journey::{Act, Context, Effect, Fact, Input, Outcome, Room, State, Why, step, timers};
use serde_json::Value;

/// What somebody or the hospital does.
type Ends = fn(&mut Run);

const VISIT: &str = "  first:
    title: Visit
    book: {title: Check-up, time: discharge + 10d at 10:00, minutes: 30, book_by: discharge + 2d, remind: [7d, 1d, 2h]}
    next: end
    not_booked: pause
    missed: pause
  pause: {title: Pause, wait: {for: 1d}, next: end}
";

fn begin(email: Option<Outcome>) -> Run {
    Run::start(compiled(VISIT), email, facts())
}

/// The visit has this status now, and begins so long after the discharge.
fn visit(run: &mut Run, status: &str, start: u64) -> bool {
    let fact = Fact::Visit {
        id: "i/1/visit".to_owned(),
        status: status.to_owned(),
        start_ms: Some(DISCHARGE + start),
        end_ms: None,
    };
    run.event("Appointment/x", fact, vec![])
}

/// One that was booked a day after the discharge, for the tenth.
fn booked(email: Option<Outcome>) -> Run {
    let mut run = begin(email);
    run.until(DAY);
    visit(&mut run, "booked", 10 * DAY);
    run
}

fn stored(run: &Run) -> Value {
    serde_json::from_slice(&run.state.to_json()).unwrap()
}

/// What the trail says of messages that were not sent or not delivered.
fn not_sent(run: &Run) -> Vec<String> {
    let state = stored(run);
    let trail = state["h"].as_array().unwrap().iter();
    let said = trail.filter_map(|entry| {
        let (passed, undelivered) = (&entry["w"]["passed"], &entry["w"]["undelivered"]);
        let of = |one: &Value| format!("{}/{}", one["k"]["ahead"]["t"], one["k"]["ahead"]["m"]);
        if passed.is_object() {
            return Some(format!("passed {}", of(passed)));
        }
        let code = undelivered["d"].as_str()?;
        Some(format!("{code} {}", of(undelivered)))
    });
    said.collect()
}

fn timer(run: &mut Run) -> bool {
    run.input(Input::Timer { read: run.number })
}

#[test]
fn each_goes_in_its_time_by_itself() {
    let mut run = begin(Some(Outcome::Delivered));
    run.until(DAY);
    assert_eq!(stored(&run)["f"], 1, "a proposal is what it was");
    visit(&mut run, "booked", 10 * DAY);
    assert_eq!(stored(&run)["f"], 2, "older programs set it aside");
    run.until(10 * DAY);
    visit(&mut run, "fulfilled", 10 * DAY);
    let expected = [
        "0d01h propose first",
        "3d00h reminder 1/10080 first email",
        "9d00h reminder 1/1440 first email",
        "9d22h reminder 1/120 first email",
        "10d00h end completed",
    ];
    assert_eq!(run.log(), expected);
    assert_eq!(not_sent(&run), [""; 0]);
}

#[test]
fn a_visit_that_nobody_speaks_of_again_is_over_all_the_same() {
    let mut run = booked(Some(Outcome::Delivered));
    run.until(20 * DAY);
    assert_eq!(run.log().len(), 5, "{:?}", run.log());
    assert_eq!(run.log().last(), Some(&"11d00h end completed"));
}

#[test]
fn what_is_past_when_the_visit_is_booked_is_passed_over_and_said() {
    for (start, passed, sent) in [
        (
            10 * DAY,
            &[][..],
            &["3d00h 1/10080", "9d00h 1/1440", "9d22h 1/120"][..],
        ),
        // A week before is now: who books now knows.
        (
            8 * DAY,
            &["passed 1/10080"],
            &["7d00h 1/1440", "7d22h 1/120"],
        ),
        (
            DAY + 3 * HOUR,
            &["passed 1/10080", "passed 1/1440"],
            &["1d01h 1/120"],
        ),
        (
            DAY + HOUR,
            &["passed 1/10080", "passed 1/1440", "passed 1/120"],
            &[],
        ),
        // Staff write down what was yesterday.
        (
            DAY / 2,
            &["passed 1/10080", "passed 1/1440", "passed 1/120"],
            &[],
        ),
    ] {
        let mut run = begin(Some(Outcome::Delivered));
        run.until(DAY);
        visit(&mut run, "booked", start);
        run.until(20 * DAY);
        assert_eq!(not_sent(&run), passed, "{start}");
        assert_eq!(reminders(&run), sent, "{start}");
    }
}

/// The reminders in the log, without their step and channel.
fn reminders(run: &Run) -> Vec<String> {
    let log = run.log().into_iter();
    let sent = log.filter_map(|line| {
        let (at, rest) = line.split_once(" reminder ")?;
        Some(format!("{at} {}", rest.split(' ').next()?))
    });
    sent.collect()
}

#[test]
fn a_visit_that_moves_takes_its_reminders_along() {
    for (moves, passed, sent) in [
        // Later: what was sent was of another time.
        (
            &[(4 * DAY, 14 * DAY)][..],
            &[][..],
            &[
                "3d00h 1/10080",
                "7d00h 2/10080",
                "13d00h 2/1440",
                "13d22h 2/120",
            ][..],
        ),
        // Sooner: what would have been before now is passed over.
        (
            &[(4 * DAY, 6 * DAY)],
            &["passed 2/10080"],
            &["3d00h 1/10080", "5d00h 2/1440", "5d22h 2/120"],
        ),
        // By an hour, before anything was sent.
        (
            &[(2 * DAY, 10 * DAY + HOUR)],
            &[],
            &["3d01h 2/10080", "9d01h 2/1440", "9d23h 2/120"],
        ),
        // There and back again: the patient was told of another time meanwhile.
        (
            &[(4 * DAY, 20 * DAY), (5 * DAY, 10 * DAY)],
            &["passed 3/10080"],
            &["3d00h 1/10080", "9d00h 3/1440", "9d22h 3/120"],
        ),
        // Told again of the same time: nothing.
        (
            &[(4 * DAY, 10 * DAY)],
            &[],
            &["3d00h 1/10080", "9d00h 1/1440", "9d22h 1/120"],
        ),
    ] {
        let mut run = booked(Some(Outcome::Delivered));
        for (at, start) in moves {
            run.until(*at);
            visit(&mut run, "booked", *start);
        }
        run.until(30 * DAY);
        assert_eq!(not_sent(&run), passed, "{moves:?}");
        assert_eq!(reminders(&run), sent, "{moves:?}");
    }
}

/// A visit that gets longer is the same visit.
#[test]
fn another_end_is_no_other_time() {
    let mut run = booked(Some(Outcome::Delivered));
    run.until(4 * DAY);
    let fact = Fact::Visit {
        id: "i/1/visit".to_owned(),
        status: "booked".to_owned(),
        start_ms: Some(DISCHARGE + 10 * DAY),
        end_ms: Some(DISCHARGE + 10 * DAY + 3 * HOUR),
    };
    assert!(run.event("Appointment/x", fact, vec![]));
    run.until(20 * DAY);
    let expected = ["3d00h 1/10080", "9d00h 1/1440", "9d22h 1/120"];
    assert_eq!(reminders(&run), expected);
    assert_eq!(run.log().last(), Some(&"11d03h end completed"));
}

#[test]
fn what_waits_is_called_off_when_the_visit_moves_or_is_not_needed() {
    let off = "called-off i/1/ahead-1-10080/0";
    let ends: [(&str, Ends); 7] = [
        ("moved", |run| {
            visit(run, "booked", 12 * DAY);
        }),
        ("cancelled", |run| {
            visit(run, "cancelled", 10 * DAY);
        }),
        ("missed", |run| {
            visit(run, "noshow", 10 * DAY);
        }),
        ("taken place", |run| {
            visit(run, "fulfilled", 10 * DAY);
        }),
        ("no consent", |run| {
            let fact = Fact::Consent {
                permitted: false,
                next_ms: None,
            };
            run.event("Consent/c", fact, vec![]);
        }),
        ("stopped", |run| {
            run.input(Input::Manual(journey::Manual::Stop("Enough".into())));
        }),
        ("skipped", |run| {
            run.hand(Act::Skip { n: 1, way: 0 }).unwrap();
        }),
    ];
    for (name, end) in ends {
        let mut run = booked(None);
        run.until(3 * DAY + HOUR);
        assert!(run.on_the_way.contains("i/1/ahead-1-10080/0"), "{name}");
        end(&mut run);
        assert_eq!(not_sent(&run), ["called-off 1/10080"], "{name}");
        assert!(run.on_the_way.is_empty(), "{name}: {:?}", run.log());
        let log = run.log();
        assert!(
            log.iter().any(|line| line.ends_with(off)),
            "{name}: {log:?}"
        );
        run.email = Some(Outcome::Delivered);
        run.until(11 * DAY + HOUR);
        let sent = reminders(&run).len();
        let expected = if name == "moved" { 3 } else { 1 };
        assert_eq!(sent, expected, "{name}: {:?}", run.log());
    }
}

#[test]
fn one_that_has_not_left_makes_way_for_the_next() {
    let mut run = booked(None);
    run.until(9 * DAY + HOUR);
    let expected = [
        "0d01h propose first",
        "3d00h reminder 1/10080 first email",
        "9d00h called-off i/1/ahead-1-10080/0",
        "9d00h reminder 1/1440 first email",
    ];
    assert_eq!(run.log(), expected);
}

#[test]
fn a_channel_that_fails_is_followed_by_the_next_and_the_visit_is_waited_for() {
    let mut run = booked(Some(Outcome::NotDone("permanent-failure".into())));
    run.until(3 * DAY);
    let expected = [
        "0d01h propose first",
        "3d00h reminder 1/10080 first email",
        "3d00h reminder 1/10080 first portal",
    ];
    assert_eq!(run.log(), expected);
    assert_eq!(not_sent(&run), ["permanent-failure 1/10080"]);
    assert_eq!(run.state.at(), ["first"]);

    // No channel helps where the patient has no consent for it, or one alone is given.
    for (source, code) in [
        (VISIT.to_owned(), "consent"),
        (
            VISIT.replace("remind:", "channels: [email], remind:"),
            "permanent-failure",
        ),
    ] {
        let refuses = Some(Outcome::NotDone(code.into()));
        let mut run = Run::start(compiled(&source), refuses, facts());
        run.until(DAY);
        visit(&mut run, "booked", 10 * DAY);
        run.until(10 * DAY);
        let sent = ["3d00h 1/10080", "9d00h 1/1440", "9d22h 1/120"];
        assert_eq!(reminders(&run), sent, "{code}");
        let failed = ["1/10080", "1/1440", "1/120"].map(|of| format!("{code} {of}"));
        assert_eq!(not_sent(&run), failed, "nothing is dropped in silence");
        assert_eq!(run.state.at(), ["first"], "the visit takes place");
    }
}

/// A receipt of a message of before the visit moved says nothing of what is sent now.
#[test]
fn a_late_receipt_of_another_time_changes_nothing() {
    let mut run = booked(None);
    run.until(3 * DAY);
    run.on_the_way.clear();
    visit(&mut run, "booked", 12 * DAY);
    run.until(5 * DAY);
    for outcome in [
        Outcome::Delivered,
        Outcome::NotDone("permanent-failure".into()),
    ] {
        let receipt = Input::Receipt {
            communication: "i/1/ahead-1-10080/0".to_owned(),
            outcome,
        };
        assert!(!run.input(receipt));
    }
    assert!(run.on_the_way.contains("i/1/ahead-2-10080/0"));
}

#[test]
fn after_a_dark_house_the_last_one_due_is_enough_and_none_comes_after_the_visit() {
    for (awake, passed, sent) in [
        (4 * DAY, &[][..], &["4d00h 1/10080"][..]),
        (9 * DAY + HOUR, &["passed 1/10080"], &["9d01h 1/1440"]),
        (
            9 * DAY + 23 * HOUR,
            &["passed 1/10080", "passed 1/1440"],
            &["9d23h 1/120"],
        ),
        (
            10 * DAY,
            &["passed 1/10080", "passed 1/1440", "passed 1/120"],
            &[],
        ),
    ] {
        let mut run = booked(Some(Outcome::Delivered));
        run.now = DISCHARGE + awake;
        assert!(timer(&mut run));
        assert_eq!(not_sent(&run), passed, "{awake}");
        assert_eq!(reminders(&run), sent, "{awake}");
        assert!(!timer(&mut run), "nothing is due twice");
    }
}

#[test]
fn the_same_input_again_after_a_crash_names_the_same_message_and_is_done_once() {
    let mut run = booked(None);
    for start in [10 * DAY, 20 * DAY] {
        visit(&mut run, "booked", start);
        while let Some(due) = timers(&run.definition, &run.state)
            .into_values()
            .min()
            .filter(|due| *due < DISCHARGE + start)
        {
            run.now = due;
            let decide = |state: &State| {
                let context = Context {
                    now_ms: due,
                    instance: "i",
                    ids: &Names,
                    limited: false,
                };
                let input = Input::Timer { read: run.number };
                step(&run.definition, state, input, &context).unwrap()
            };
            let first = decide(&run.state);
            let again = decide(&run.state);
            assert_eq!(first.state, again.state);
            assert_eq!(first.effects, again.effects);
            let sent = |effect: &&Effect| matches!(effect, Effect::Send { .. });
            assert_eq!(first.effects.iter().filter(sent).count(), 1);
            assert!(!decide(&first.state).changed, "once written, it is done");
            // `made` sees to it that no name is there twice.
            timer(&mut run);
        }
    }
    assert_eq!(run.made.len(), 1 + 3 + 3, "{:?}", run.made);
}

#[test]
fn what_may_not_go_out_yet_waits_and_is_called_off_with_its_time() {
    let until = |hours: u64| Room::Until {
        at_ms: DISCHARGE + hours * HOUR,
        why: Why::Quiet,
    };
    let start = |rooms: &[Room]| {
        let mut run = Run::start_limited(compiled(VISIT), rooms);
        run.until(DAY);
        visit(&mut run, "booked", 10 * DAY);
        run
    };
    // It waits for the morning and goes then.
    let mut run = start(&[until(80)]);
    run.until(4 * DAY);
    let expected = [
        "0d01h propose first",
        "3d00h ask first",
        "3d08h ask first",
        "3d08h reminder 1/10080 first email",
    ];
    assert_eq!(run.log(), expected);
    // A channel has a day, and what can't go in it goes by the next.
    let mut run = start(&[until(97)]);
    run.until(4 * DAY);
    assert_eq!(run.log()[2], "3d00h reminder 1/10080 first portal");
    assert_eq!(not_sent(&run), ["quiet-hours 1/10080"]);
    // Two hours before the visit, the night lasts longer than until then.
    let mut run = start(&[Room::Free, Room::Free, until(241)]);
    run.until(10 * DAY);
    assert_eq!(run.log().last(), Some(&"9d22h reminder 1/120 first portal"));
    // It moves, is cancelled, or somebody holds the journey and it moves.
    for (hold, status, at) in [
        (false, "booked", 12 * DAY),
        (false, "cancelled", 10 * DAY),
        (true, "booked", 12 * DAY),
    ] {
        let mut run = start(&[until(80)]);
        run.until(3 * DAY + HOUR);
        assert!(stored(&run)["r"].is_array(), "it waits");
        if hold {
            run.hand(Act::Pause).unwrap();
        }
        visit(&mut run, status, at);
        assert!(stored(&run)["r"].is_null(), "it doesn't wait any more");
        assert_eq!(not_sent(&run), ["called-off 1/10080"]);
        if hold {
            run.hand(Act::Resume).unwrap();
        }
        run.until(12 * DAY);
        let sent = reminders(&run).len();
        assert_eq!(sent, if status == "booked" { 3 } else { 0 });
    }
}

#[test]
fn while_the_journey_is_held_nobody_is_reminded() {
    for (resumed, passed, sent) in [
        (4 * DAY, &[][..], &["4d00h 1/10080"][..]),
        (9 * DAY + HOUR, &["passed 1/10080"], &["9d01h 1/1440"]),
        (
            10 * DAY,
            &["passed 1/10080", "passed 1/1440", "passed 1/120"],
            &[],
        ),
    ] {
        let mut run = booked(Some(Outcome::Delivered));
        run.until(2 * DAY);
        run.hand(Act::Pause).unwrap();
        run.until(resumed);
        assert_eq!(reminders(&run), [""; 0], "{resumed}");
        run.hand(Act::Resume).unwrap();
        assert_eq!(not_sent(&run), passed, "{resumed}");
        assert_eq!(reminders(&run), sent, "{resumed}");
    }
}

/// A message that failed while the journey was held goes by the next channel when it goes on, unless its visit moved.
#[test]
fn what_was_put_off_is_not_sent_for_a_time_that_is_not_booked_any_more() {
    for (moves, expected) in [
        (false, &["3d00h 1/10080", "3d05h 1/10080"][..]),
        (true, &["3d00h 1/10080"]),
    ] {
        let mut run = booked(None);
        run.until(3 * DAY);
        run.hand(Act::Pause).unwrap();
        run.held.clear();
        let outcome = Outcome::NotDone("permanent-failure".into());
        let communication = "i/1/ahead-1-10080/0".to_owned();
        run.input(Input::Receipt {
            communication,
            outcome,
        });
        if moves {
            visit(&mut run, "booked", 14 * DAY);
        }
        run.until(3 * DAY + 5 * HOUR);
        run.hand(Act::Resume).unwrap();
        assert_eq!(reminders(&run), expected);
        run.until(8 * DAY);
        let later = reminders(&run).contains(&"7d00h 2/10080".to_owned());
        assert_eq!(later, moves, "{:?}", run.log());
    }
}

/// A day before is the day before by the journey's own clock, also where that is no 24 hours.
#[test]
fn days_are_those_of_the_calendar() {
    // 2027-03-28T01:00Z is when the clocks go forward in London; the visit is at 14:00Z on the day after.
    let change = 145 * DAY;
    let source = crate::kinds::source("kinds", VISIT)
        .replace("at_most: 60d", "at_most: 200d\ntime_zone: Europe/London");
    let definition = journey::Definition::compile(&source, 1).unwrap();
    let mut run = Run::start(definition, Some(Outcome::Delivered), facts());
    run.until(DAY);
    visit(&mut run, "booked", change + 2 * DAY);
    run.until(change + 2 * DAY);
    // An hour later by the sun: at three in the afternoon by the clock, each time.
    let expected = ["140d01h 1/10080", "146d00h 1/1440", "146d22h 1/120"];
    assert_eq!(reminders(&run), expected);
}

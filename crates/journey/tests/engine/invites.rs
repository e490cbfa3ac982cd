//! Messages that ask the patient to book a visit: with the proposal, and while it isn't booked.

use crate::kinds::compiled;
use crate::run::{DAY, DISCHARGE, HOUR, Names, Run, facts};
use journey::{Act, Context, Effect, Fact, Input, Outcome, Room, State, Why, step, timers};
use serde_json::Value;

/// What somebody or the hospital does.
type Ends = fn(&mut Run);

const VISIT: &str = "  first:
    title: Visit
    book:
      title: Check-up
      time: discharge + 10d at 10:00
      minutes: 30
      book_by: discharge + 8d
      invite: {words: 'Please book {visit.day} until {due.day}.', again: [2d, 5d]}
    next: end
    not_booked: pause
    missed: pause
  pause: {title: Pause, wait: {for: 1d}, next: end}
";

const INVITED: &str = "i/1/invitation/0";

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

fn stored(run: &Run) -> Value {
    serde_json::from_slice(&run.state.to_json()).unwrap()
}

/// What the trail says of messages that were not sent or not delivered.
fn not_sent(run: &Run) -> Vec<String> {
    let state = stored(run);
    let trail = state["h"].as_array().unwrap().iter();
    let said = trail.filter_map(|entry| {
        let (passed, undelivered) = (&entry["w"]["passed"], &entry["w"]["undelivered"]);
        let of = |one: &Value| match one["k"].as_str() {
            Some(word) => word.to_owned(),
            None => one["k"]["again"]["m"].to_string(),
        };
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

/// The messages in the log, without their step.
fn told(run: &Run) -> Vec<String> {
    let log = run.log().into_iter();
    let told = log.filter(|line| line.contains("invitation first") || line.contains("reminder"));
    told.map(|line| line.replace(" first", "").replace("reminder ", ""))
        .collect()
}

#[test]
fn the_proposal_is_told_and_reminded_of_until_the_visit_has_to_be_booked() {
    let mut run = begin(Some(Outcome::Delivered));
    assert_eq!(stored(&run)["f"], 2, "older programs set it aside");
    run.until(20 * DAY);
    let expected = [
        "0d01h propose first",
        "0d01h invitation first email",
        "2d01h reminder after/2880 first email",
        "5d01h reminder after/7200 first email",
        "8d00h cancel i/1/visit",
        "9d00h end completed",
    ];
    assert_eq!(run.log(), expected);
    assert_eq!(not_sent(&run), [""; 0]);
}

/// The practice proposes an earlier day than that until which it has to be booked.
#[test]
fn nobody_is_asked_to_book_what_is_over() {
    let mut run = begin(Some(Outcome::Delivered));
    run.until(DAY);
    visit(&mut run, "proposed", 4 * DAY);
    run.until(20 * DAY);
    let expected = ["0d01h invitation email", "2d01h reminder after/2880 email"];
    let told = told(&run);
    assert_eq!(told.len(), expected.len(), "{told:?}");
    assert_eq!(told[0], expected[0]);
    assert!(told[1].starts_with("2d01h"), "{told:?}");
}

#[test]
fn without_reminders_it_is_told_once() {
    let once = compiled(&VISIT.replace(", again: [2d, 5d]", ""));
    let mut run = Run::start(once, Some(Outcome::Delivered), facts());
    assert_eq!(stored(&run)["f"], 2, "older programs set it aside");
    run.until(20 * DAY);
    assert_eq!(told(&run), ["0d01h invitation email"]);
}

/// What has been asked is left: it is done at once, and what has not left is called off.
#[test]
fn nobody_is_asked_any_more_once_the_visit_is_booked_or_the_place_left() {
    let ends: [(&str, Ends); 8] = [
        ("booked", |run| {
            visit(run, "booked", 10 * DAY);
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
            run.hand(Act::Skip { n: 1, way: 1 }).unwrap();
        }),
        ("not in time", |run| {
            run.now = DISCHARGE + 8 * DAY;
            timer(run);
        }),
    ];
    for (name, end) in ends {
        let mut run = begin(None);
        assert!(run.on_the_way.contains(INVITED), "{name}");
        end(&mut run);
        let log = run.log();
        let off = format!("called-off {INVITED}");
        assert!(
            log.iter().any(|line| line.ends_with(&off)),
            "{name}: {log:?}"
        );
        assert!(run.on_the_way.is_empty(), "{name}: {log:?}");
        run.email = Some(Outcome::Delivered);
        run.until(30 * DAY);
        let again = run.log().iter().any(|line| line.contains("reminder"));
        assert!(!again, "{name}: {:?}", run.log());
        let mut off = vec!["called-off invitation"];
        if name == "not in time" {
            off.extend(["passed 2880", "passed 7200"]);
        }
        let mut found = not_sent(&run);
        found.sort_by_key(|line| off.iter().position(|other| other == line));
        assert_eq!(found, off, "{name}");
    }
}

/// What has arrived is not called off, and a visit that was booked is not asked for.
#[test]
fn who_books_after_a_reminder_gets_no_other() {
    let mut run = begin(Some(Outcome::Delivered));
    run.until(3 * DAY);
    visit(&mut run, "booked", 10 * DAY);
    let state = stored(&run);
    assert!(state["t"][0]["a"]["booking"]["i"].is_null(), "{state}");
    run.until(10 * DAY);
    visit(&mut run, "fulfilled", 10 * DAY);
    let expected = ["0d01h invitation email", "2d01h after/2880 email"];
    assert_eq!(told(&run), expected);
    assert_eq!(not_sent(&run), [""; 0]);
    assert_eq!(run.log().last(), Some(&"10d00h end completed"));
}

#[test]
fn a_visit_is_asked_for_and_then_reminded_of() {
    let both = compiled(&VISIT.replace("      invite", "      remind: [1d]\n      invite"));
    let mut run = Run::start(both, None, facts());
    run.until(DAY);
    visit(&mut run, "booked", 10 * DAY);
    run.email = Some(Outcome::Delivered);
    run.until(10 * DAY);
    let expected = [
        "0d01h propose first",
        "0d01h invitation first email",
        "1d00h called-off i/1/invitation/0",
        "9d00h reminder 1/1440 first email",
    ];
    assert_eq!(run.log(), expected);
}

#[test]
fn one_that_has_not_left_makes_way_for_the_next() {
    let mut run = begin(None);
    run.until(6 * DAY);
    let expected = [
        "0d01h propose first",
        "0d01h invitation first email",
        "2d01h called-off i/1/invitation/0",
        "2d01h reminder after/2880 first email",
        "5d01h called-off i/1/again-2880/0",
        "5d01h reminder after/7200 first email",
    ];
    assert_eq!(run.log(), expected);
}

#[test]
fn a_channel_that_fails_is_followed_by_the_next_and_the_booking_is_waited_for() {
    let mut run = begin(Some(Outcome::NotDone("permanent-failure".into())));
    run.until(DAY);
    let expected = ["0d01h invitation email", "0d01h invitation portal"];
    assert_eq!(told(&run), expected);
    assert_eq!(run.state.at(), ["first"]);

    // No channel helps where the patient has no consent for it.
    let mut run = begin(Some(Outcome::NotDone("consent".into())));
    run.until(7 * DAY);
    let failed = ["consent invitation", "consent 2880", "consent 7200"];
    assert_eq!(not_sent(&run), failed, "nothing is dropped in silence");
    assert_eq!(run.state.at(), ["first"]);
    visit(&mut run, "booked", 10 * DAY);
    visit(&mut run, "fulfilled", 10 * DAY);
    assert_eq!(run.log().last(), Some(&"7d00h end completed"));
}

/// A receipt of a message that was called off says nothing of what is sent now.
#[test]
fn a_late_receipt_of_one_that_was_called_off_changes_nothing() {
    let mut run = begin(None);
    run.until(DAY);
    run.on_the_way.clear();
    run.until(3 * DAY);
    for outcome in [
        Outcome::Delivered,
        Outcome::NotDone("permanent-failure".into()),
    ] {
        let communication = INVITED.to_owned();
        assert!(!run.input(Input::Receipt {
            communication,
            outcome,
        }));
    }
    assert!(run.on_the_way.contains("i/1/again-2880/0"));
}

#[test]
fn after_a_dark_house_the_last_one_due_is_enough_and_none_comes_when_it_is_too_late() {
    for (awake, passed, sent) in [
        (3 * DAY, &[][..], &["3d00h after/2880 email"][..]),
        (6 * DAY, &["passed 2880"], &["6d00h after/7200 email"]),
        (8 * DAY, &["passed 2880", "passed 7200"], &[]),
    ] {
        let mut run = begin(Some(Outcome::Delivered));
        run.now = DISCHARGE + awake;
        assert!(timer(&mut run));
        assert_eq!(not_sent(&run), passed, "{awake}");
        assert_eq!(told(&run)[1..], *sent, "{awake}");
        assert!(!timer(&mut run), "nothing is due twice");
    }
}

#[test]
fn the_same_input_again_after_a_crash_names_the_same_message_and_is_done_once() {
    let mut run = begin(None);
    while let Some(due) = timers(&run.definition, &run.state)
        .into_values()
        .min()
        .filter(|due| *due < DISCHARGE + 8 * DAY)
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
        let (first, again) = (decide(&run.state), decide(&run.state));
        assert_eq!(first.state, again.state);
        assert_eq!(first.effects, again.effects);
        let sent = |effect: &&Effect| matches!(effect, Effect::Send { .. });
        assert_eq!(first.effects.iter().filter(sent).count(), 1);
        assert!(!decide(&first.state).changed, "once written, it is done");
        // `made` sees to it that no name is there twice.
        timer(&mut run);
    }
    assert_eq!(run.made.len(), 1 + 3, "{:?}", run.made);
}

#[test]
fn while_the_journey_is_held_nobody_is_asked() {
    for (resumed, passed, sent) in [
        (3 * DAY, &[][..], &["3d00h after/2880 email"][..]),
        (6 * DAY, &["passed 2880"], &["6d00h after/7200 email"]),
        (9 * DAY, &["passed 2880", "passed 7200"], &[]),
    ] {
        let mut run = begin(Some(Outcome::Delivered));
        run.until(DAY);
        run.hand(Act::Pause).unwrap();
        run.until(resumed);
        assert_eq!(told(&run).len(), 1, "{resumed}");
        run.hand(Act::Resume).unwrap();
        assert_eq!(not_sent(&run), passed, "{resumed}");
        assert_eq!(told(&run)[1..], *sent, "{resumed}");
    }
}

/// Mail that is held back leaves when the journey goes on, unless the visit was booked meanwhile; so does what failed.
#[test]
fn what_was_put_off_is_not_sent_of_a_visit_that_is_booked() {
    for (fails, books, expected) in [
        (false, false, &["2d00h release i/1/invitation/0"][..]),
        (false, true, &[]),
        (true, false, &["2d00h invitation first portal"]),
        (true, true, &[]),
    ] {
        let mut run = begin(None);
        run.until(DAY);
        run.hand(Act::Pause).unwrap();
        assert_eq!(run.log().last(), Some(&"1d00h hold i/1/invitation/0"));
        if fails {
            run.held.clear();
            run.input(Input::Receipt {
                communication: INVITED.to_owned(),
                outcome: Outcome::NotDone("permanent-failure".into()),
            });
        }
        if books {
            visit(&mut run, "booked", 10 * DAY);
        }
        run.until(2 * DAY);
        run.log.clear();
        run.hand(Act::Resume).unwrap();
        assert_eq!(run.log(), expected, "fails {fails}, books {books}");
        run.until(7 * DAY);
        let again = run.log().iter().any(|line| line.contains("after/2880"));
        assert_eq!(again, !books, "{:?}", run.log());
    }
}

#[test]
fn what_may_not_go_out_yet_waits_and_is_called_off_with_its_place() {
    let until = |hours: u64| Room::Until {
        at_ms: DISCHARGE + hours * HOUR,
        why: Why::Quiet,
    };
    // It waits for the morning and goes then.
    let mut run = Run::start_limited(compiled(VISIT), &[until(8)]);
    run.until(DAY);
    let expected = [
        "0d01h propose first",
        "0d01h ask first",
        "0d08h ask first",
        "0d08h invitation first email",
    ];
    assert_eq!(run.log(), expected);
    // A channel has a day, and what can't go in it goes by the next.
    let mut run = Run::start_limited(compiled(VISIT), &[until(30)]);
    run.until(2 * DAY);
    assert_eq!(run.log()[2], "0d01h invitation first portal");
    assert_eq!(not_sent(&run), ["quiet-hours invitation"]);
    for status in ["booked", "cancelled"] {
        let mut run = Run::start_limited(compiled(VISIT), &[until(8)]);
        assert!(stored(&run)["r"].is_array(), "it waits");
        visit(&mut run, status, 10 * DAY);
        assert!(stored(&run)["r"].is_null(), "it doesn't wait any more");
        assert_eq!(not_sent(&run), ["called-off invitation"]);
        run.until(9 * DAY);
        assert_eq!(told(&run), [""; 0]);
    }
}

/// Staff propose another time before anybody has answered.
#[test]
fn a_time_that_is_proposed_anew_is_the_one_that_is_told() {
    let mut run = begin(Some(Outcome::Delivered));
    run.until(DAY);
    assert!(
        !visit(&mut run, "proposed", 9 * DAY + 20 * HOUR),
        "as it was"
    );
    assert!(visit(&mut run, "pending", 12 * DAY));
    let state = stored(&run);
    assert_eq!(
        state["t"][0]["a"]["booking"]["p"],
        serde_json::json!({"s": DISCHARGE + 12 * DAY, "e": DISCHARGE + 12 * DAY + HOUR / 2})
    );
    run.now = DISCHARGE + 2 * DAY + HOUR;
    let context = Context {
        now_ms: run.now,
        instance: "i",
        ids: &Names,
        limited: false,
    };
    let input = Input::Timer { read: run.number };
    let decision = step(&run.definition, &run.state, input, &context).unwrap();
    let sent = decision.effects.iter().find_map(|effect| match effect {
        Effect::Send { about, .. } => about.clone(),
        _ => None,
    });
    let about = journey::About::Visit {
        appointment: "i/1/visit".to_owned(),
        start_ms: DISCHARGE + 12 * DAY,
        by_ms: Some(DISCHARGE + 8 * DAY),
        calendar: None,
    };
    assert_eq!(sent, Some(about));
}

/// Whoever is led back there is asked anew, about another visit.
#[test]
fn a_skip_that_is_taken_back_asks_anew() {
    let mut run = begin(Some(Outcome::Delivered));
    run.until(DAY);
    run.hand(Act::Skip { n: 1, way: 1 }).unwrap();
    run.hand(Act::Undo).unwrap();
    run.until(4 * DAY);
    let expected = [
        "0d01h propose first",
        "0d01h invitation first email",
        "1d00h cancel i/1/visit",
        "1d00h propose first",
        "1d00h invitation first email",
        "3d00h reminder after/2880 first email",
    ];
    assert_eq!(run.log(), expected);
}

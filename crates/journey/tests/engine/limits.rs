//! Messages that may not go out at once, as the engine sees them.

use crate::run::{DAY, DISCHARGE, HOUR, Run};
use journey::{Act, Definition, Fact, Outcome, Room, Why};
use std::sync::Arc;

fn definition(first: &str) -> Arc<Definition> {
    let source = format!(
        "name: notes
title: Notes
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {{discharge: period.end}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: first
steps:
  first:
    title: First
{first}
  call:
    title: Call
    task: {{title: Call, reason: Notes, role: coordinator, due: 1d}}
    next: end
    overdue: {{role: coordinator, priority: urgent}}
"
    );
    Definition::compile(&source, 1).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

fn send() -> Arc<Definition> {
    definition(
        "    send: {title: News, words: News for you., channels: [email, portal], expires: 12h}
    next: end
    on_failure: call",
    )
}

/// The log; that it ended is said by each input that led to it.
fn said(run: &Run) -> Vec<&str> {
    let mut log = run.log();
    log.dedup();
    log
}

fn until(hours: u64, why: Why) -> Room {
    let at_ms = DISCHARGE + hours * HOUR;
    Room::Until { at_ms, why }
}

#[test]
fn a_message_waits_for_the_morning_and_goes_out_then() {
    let told = [until(9, Why::Quiet), until(11, Why::Capped)];
    let mut run = Run::start_limited(send(), &told);
    assert_eq!(run.state.at(), ["first"]);
    run.until(DAY);
    assert_eq!(
        said(&run),
        [
            "0d01h ask first",
            "0d09h ask first",
            "0d11h ask first",
            "0d11h message first email",
            "0d11h end completed"
        ]
    );
}

#[test]
fn what_could_not_go_in_its_time_takes_the_next_channel_at_once() {
    // The channel has until the thirteenth hour.
    let mut run = Run::start_limited(send(), &[until(13, Why::Quiet)]);
    run.until(DAY);
    let expected = [
        "0d01h ask first",
        "0d01h message first portal",
        "0d01h end completed",
    ];
    assert_eq!(said(&run), expected);

    let only = definition(
        "    send: {title: News, words: News for you., channels: [email], expires: 12h}
    next: end
    on_failure: call",
    );
    let mut run = Run::start_limited(only, &[until(12, Why::Capped), until(40, Why::Capped)]);
    run.until(20 * HOUR);
    let expected = ["0d01h ask first", "0d12h ask first", "0d12h task call"];
    assert_eq!(said(&run), expected, "nothing is dropped in silence");
}

#[test]
fn a_channel_has_its_time_with_what_it_waited() {
    let mut run = Run::start_limited(send(), &[until(9, Why::Quiet)]);
    run.email = None;
    run.until(2 * DAY);
    let expected = [
        "0d01h ask first",
        "0d09h ask first",
        "0d09h message first email",
        "0d13h expired i/1/message/0",
        "0d13h message first portal",
        "0d13h end completed",
    ];
    assert_eq!(said(&run), expected);
}

#[test]
fn who_was_not_awake_in_its_time_uses_the_next_channel() {
    let mut run = Run::start_limited(send(), &[until(9, Why::Quiet)]);
    run.now = DISCHARGE + 2 * DAY;
    run.until(3 * DAY);
    let expected = [
        "0d01h ask first",
        "2d00h message first portal",
        "2d00h end completed",
    ];
    assert_eq!(said(&run), expected);
}

#[test]
fn who_moves_to_another_zone_is_asked_for_again() {
    let mut run = Run::start_limited(send(), &[until(9, Why::Quiet)]);
    run.until(2 * HOUR);
    assert!(run.event("Patient/p", Fact::Other, vec![]));
    let expected = [
        "0d01h ask first",
        "0d02h ask first",
        "0d02h message first email",
        "0d02h end completed",
    ];
    assert_eq!(said(&run), expected);
}

#[test]
fn an_answer_ends_what_its_invitation_waited_for() {
    let ask = definition(
        "    ask:
      title: Questions
      words: A question.
      questions: [{id: well, text: Are you well?, type: yes-no}]
      give_up_after: 2d
    answered: end
    no_answer: call",
    );
    let mut run = Run::start_limited(ask, &[until(9, Why::Quiet)]);
    run.until(2 * HOUR);
    run.answer("i/1/task", serde_json::json!({"well": true}));
    run.until(DAY);
    let expected = [
        "0d01h form first",
        "0d01h ask first",
        "0d02h close i/1/task done",
        "0d02h end completed",
    ];
    assert_eq!(said(&run), expected);
    let trail = String::from_utf8(run.state.to_json()).unwrap();
    assert!(trail.contains("called-off"), "the history says so: {trail}");
}

#[test]
fn a_journey_that_is_held_by_hand_asks_when_it_goes_on() {
    let mut run = Run::start_limited(send(), &[until(9, Why::Quiet)]);
    assert_eq!(run.hand(Act::Pause), Ok(true));
    run.until(10 * HOUR);
    assert_eq!(said(&run), ["0d01h ask first"]);
    assert_eq!(run.hand(Act::Resume), Ok(true));
    let expected = [
        "0d01h ask first",
        "0d10h ask first",
        "0d10h message first email",
        "0d10h end completed",
    ];
    assert_eq!(said(&run), expected);
}

#[test]
fn an_end_says_what_never_left_and_calls_nothing_off_outside() {
    let mut run = Run::start_limited(send(), &[until(9, Why::Quiet)]);
    run.email = Some(Outcome::Delivered);
    let stop = journey::Input::Manual(journey::Manual::Stop("Enough".to_owned()));
    run.input(stop);
    run.until(DAY);
    assert_eq!(said(&run), ["0d01h ask first", "0d01h end stopped"]);
    let trail = String::from_utf8(run.state.to_json()).unwrap();
    assert!(trail.contains("called-off"), "{trail}");
}

/// What a timer asks hours after an act is no consequence of the act, whatever the answer.
#[test]
fn an_act_whose_message_has_gone_out_later_is_not_taken_back() {
    let mut run = Run::start_limited(send(), &[until(3, Why::Quiet), until(9, Why::Quiet)]);
    run.email = None;
    run.until(2 * HOUR);
    assert_eq!(run.hand(Act::Retry { n: 1 }), Ok(true));
    run.until(10 * HOUR);
    let expected = [
        "0d01h ask first",
        "0d02h ask first",
        "0d09h ask first",
        "0d09h message first email",
    ];
    assert_eq!(said(&run), expected);
    assert!(run.hand(Act::Undo).is_err());
}

const FAILS: &str = "permanent-failure";

/// Which channels a message tried, and what the state says of its order.
fn tried(channels: &str, ways: &[u8], answer: Option<Outcome>) -> (Vec<String>, Run) {
    let step = format!(
        "    send: {{title: News, words: News for you., channels: {channels}, expires: 12h}}
    next: end
    on_failure: call"
    );
    let mut run = Run::start_in_order(definition(&step), ways, answer);
    run.until(2 * DAY);
    let sent = run.log().into_iter();
    let sent = sent.filter_map(|entry| entry.split_once("message first "));
    let sent: Vec<String> = sent.map(|(_, channel)| channel.to_owned()).collect();
    (sent, run)
}

/// The patient's order is kept until a channel delivers, and no channel is passed over or tried twice for it.
#[test]
fn channels_are_tried_in_the_patients_order() {
    let fails = || Some(Outcome::NotDone(FAILS.to_owned()));
    let all = "[email, sms, portal]";
    let (sent, _) = tried(all, &[1, 0, 2], Some(Outcome::Delivered));
    assert_eq!(sent, ["sms"]);
    let (sent, run) = tried(all, &[1, 0, 2], fails());
    assert_eq!(sent, ["sms", "email", "portal"]);
    assert!(
        said(&run)
            .last()
            .is_some_and(|last| last.ends_with("end completed"))
    );
    // One that nobody answers for goes on when its time is over.
    let (sent, _) = tried(all, &[1, 0, 2], None);
    assert_eq!(sent, ["sms", "email", "portal"]);
    // Without a portal, the last is followed by the failure's way.
    let (sent, run) = tried("[email, sms]", &[1, 0], fails());
    assert_eq!(sent, ["sms", "email"]);
    assert_eq!(run.state.at(), ["call"]);
    // What is kept of it is read again, is of the second form, and goes with the place.
    let source = "    send: {title: News, words: News for you., channels: [email, sms, portal]}
    next: end
    on_failure: call";
    let run = Run::start_in_order(definition(source), &[1, 0, 2], None);
    let kept = run.state.to_json();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["f"], 2);
    assert_eq!(kept["wy"][0]["p"], serde_json::json!([1, 0, 2]));
}

//! Journeys that say what is planted in every place where the language lets them.

use super::{DIAGNOSIS, MEDICATION};

/// A message by one channel, after a form that was answered; every variable that there is stands in its words.
pub(super) fn told(channel: &str) -> String {
    format!(
        "name: by-{channel}
title: Care of {DIAGNOSIS}
owner: Team of {DIAGNOSIS}
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished' and reasonCode.coding.code.first() = '{channel}'
  anchors: {{discharge: period.end}}
  within: 9d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: ask
steps:
  ask:
    title: Form about {DIAGNOSIS}
    ask:
      title: Your {DIAGNOSIS}
      words: Hello {{patient.given|there}} {{patient.family|}}, this is about {DIAGNOSIS}.
      questions:
        - id: note
          text: How do you get on with {MEDICATION}?
          type: text
      channels: [portal]
      give_up_after: 5d
    answered: tell
    no_answer: work
  tell:
    title: Tell about {DIAGNOSIS}
    send:
      title: Your {DIAGNOSIS}
      words: >-
        Hello {{patient.given|there}} {{patient.family|}}. {{owner}} writes about {{journey.title}}. You take {MEDICATION}
        and said {{ask.note|nothing}}.
      channels: [{channel}]
      expires: 48h
    next: work
    on_failure: work
  work:
    title: Work
    task:
      title: Work on {DIAGNOSIS}
      reason: \"They said {{ask.note|nothing}} about {MEDICATION}.\"
      role: coordinator
      due: 5d
    next: end
    overdue: end
"
    )
}

/// A visit with an entry for a calendar.
pub(super) fn booked() -> String {
    let source = told("calendar");
    let (head, _) = source.split_once("start: ask").expect("steps");
    format!(
        "{head}start: visit
steps:
  visit:
    title: Visit about {DIAGNOSIS}
    book:
      title: Check-up of {DIAGNOSIS}
      words: Dear {{patient.given|you}}, please come because of {DIAGNOSIS}.
      time: discharge + 7d at 10:00
      minutes: 30
      book_by: discharge + 5d at 12:00
      confirm:
        words: Dear {{patient.family|you}}, your visit about {DIAGNOSIS} is on {{visit.day}}.
        channels: [email]
        calendar: true
    next: end
    not_booked: end
"
    )
}

/// A call to a partner, who may know who somebody is and how they are reached, and nothing of their health.
pub(super) fn called() -> String {
    let source = told("call");
    let at = source.find("  tell:").expect("a step");
    let work = source.find("  work:").expect("a step");
    format!(
        "{}  tell:
    title: Order a ride for {DIAGNOSIS}
    call:
      partner: rides
      path: /ok/bookings
      values:
        name: {{patient: family}}
        phone: {{patient: phone, or: none}}
      learns:
        booking: {{path: booking.id, class: contact}}
      up_to: 12h
    next: work
    failed: work
    timed_out: work
{}",
        &source[..at],
        &source[work..]
    )
}

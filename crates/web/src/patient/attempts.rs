//! The way of a message: each attempt, what the other side made of it, and what is known of its arrival; for staff on the
//! timeline, and for the patient in plain words.

use fhir::Resource;
use maud::{Markup, html};
use trust::attempts::{Did, attempts};
use trust::costs;

use super::words::medium;
use crate::layout::{self, State, count_of};
use crate::time::{Times, fhir_time, signed};

/// What came of an attempt, in a word.
fn state(did: Did) -> Markup {
    let (state, word) = match did {
        Did::HandedOver => (State::Running, "Handed over"),
        Did::PutOff => (State::Waiting, "Put off"),
        Did::Waits => (State::Waiting, "Waits"),
        Did::NotSent => (State::Failed, "Not sent"),
        Did::Arrived => (State::Done, "Arrived"),
        Did::Returned => (State::Failed, "Did not arrive"),
        Did::Delayed => (State::Waiting, "Delayed"),
        Did::Unwanted => (State::Failed, "Unwanted"),
    };
    layout::state(state, word)
}

/// What a message took, where that is written down: segments of a text, and what it cost by the configuration.
fn took(message: &Resource) -> Option<String> {
    let segments = costs::segments(message);
    // Of each time that it was handed over; a sum is on the pages of its journey.
    let costs: Vec<String> = (costs::costs(message).iter())
        .map(ToString::to_string)
        .collect();
    let segments = (segments > 0).then(|| {
        let count = usize::try_from(segments).unwrap_or(usize::MAX);
        count_of(count, "segment")
    });
    let costs = (!costs.is_empty()).then(|| costs.join(" and "));
    match (segments, costs) {
        (Some(segments), Some(costs)) => Some(format!("It took {segments}: {costs}.")),
        (Some(segments), None) => Some(format!("It took {segments}; no price is configured.")),
        (None, Some(costs)) => Some(format!("It cost {costs}.")),
        (None, None) => None,
    }
}

/// When the patient opened it in the portal.
fn opened(times: &Times, message: &Resource) -> Option<i64> {
    let received = message.text_at(&["received"])?;
    fhir_time(times, received).map(|(ms, ..)| ms)
}

/// Each attempt and receipt of a message, oldest first, as details of its entry; nothing where none is written down.
pub(super) fn of_staff(times: &Times, message: &Resource) -> Option<Markup> {
    let lines = attempts(message);
    if lines.is_empty() {
        return None;
    }
    let id = message.id().unwrap_or_default();
    Some(html! {
        details id={ "way-" (id) } {
            summary class="small" { "Attempts and receipts" }
            ol class="attempts small" {
                @for line in &lines {
                    li {
                        (times.both(signed(line.at_ms))) " "
                        (state(line.did)) " " span class="quiet" { (line.words) }
                        @if let Some(next_ms) = line.next_ms { " " span class="quiet" { "Next: " (times.exact(signed(next_ms))) } }
                    }
                }
                @if let Some(opened_ms) = opened(times, message) {
                    li { (times.both(opened_ms)) " " (layout::state(State::Done, "Opened")) " " span class="quiet" { "Read in the portal." } }
                }
            }
            @if let Some(took) = took(message) { p class="small quiet" { (took) } }
        }
    })
}

/// How the patient is told of a channel: that it left, that it is there, and that it did not get there.
struct Told {
    sent: &'static str,
    arrived: &'static str,
    failed: &'static str,
}

fn told(message: &Resource) -> Option<Told> {
    let (sent, arrived, failed) = match medium(message) {
        "E-mail" => (
            "Sent by e-mail",
            "It arrived",
            "It could not be brought to you by e-mail, so it is kept here",
        ),
        "Text message" => (
            "Sent by text message",
            "It arrived",
            "It could not be brought to you by text message, so it is kept here",
        ),
        "Notification" => (
            "Sent as a notification to your devices",
            "It arrived",
            "It could not be brought to you as a notification to your devices, so it is kept here",
        ),
        // When it lies in the letter box nobody says.
        "Letter" => (
            "Given out to be printed and posted as a letter",
            "The letter is on its way to you",
            "It could not be brought to you by letter, so it is kept here",
        ),
        "Phone" => (
            "Given to those who call you",
            "You were called",
            "You could not be reached by telephone, so it is kept here",
        ),
        _ => return None,
    };
    Some(Told {
        sent,
        arrived,
        failed,
    })
}

/// The way of a message as it concerns the patient: that it went out, that it arrived or did not, and nothing of servers.
pub(crate) fn of_patients(times: &Times, message: &Resource) -> Option<Markup> {
    let told = told(message)?;
    let mut lines: Vec<(u64, &str)> = Vec::new();
    for attempt in attempts(message) {
        let words = match attempt.did {
            Did::HandedOver => told.sent,
            Did::Arrived => told.arrived,
            Did::NotSent | Did::Returned => told.failed,
            Did::PutOff | Did::Waits | Did::Delayed | Did::Unwanted => continue,
        };
        // Handed over again, or said twice, it is the same to whoever gets it.
        if lines.last().is_none_or(|(_, last)| *last != words) {
            lines.push((attempt.at_ms, words));
        }
    }
    if lines.is_empty() {
        return None;
    }
    Some(html! {
        details id="way" {
            summary class="small" { "How this message came to you" }
            ul class="attempts small" {
                @for (at_ms, words) in &lines { li { (words) ", " (times.plain(signed(*at_ms))) "." } }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trust::attempts::Attempted;

    const NOW: u64 = 1_772_272_800_000;

    fn message(medium: &str) -> Resource {
        let medium = json!([{"coding": [{"code": medium}]}]);
        let message = json!({"resourceType": "Communication", "id": "c", "status": "completed", "medium": medium});
        Resource::from_value(message).expect("a message")
    }

    fn times() -> Times {
        Times {
            care_ms: signed(NOW),
            wall_ms: signed(NOW),
            zone: jiff::tz::TimeZone::UTC,
        }
    }

    #[test]
    fn patients_are_told_what_concerns_them() {
        use Did::{Arrived, Delayed, HandedOver, NotSent, PutOff, Returned, Unwanted, Waits};
        for (medium, dids, expected) in [
            ("EMAILWRIT", &[PutOff, Waits][..], &[][..]),
            (
                "EMAILWRIT",
                &[PutOff, HandedOver, Delayed],
                &["Sent by e-mail, "],
            ),
            (
                "SMSWRIT",
                &[HandedOver, HandedOver, Arrived],
                &["Sent by text message, ", "It arrived, "],
            ),
            (
                "PUSH",
                &[HandedOver],
                &["Sent as a notification to your devices, "],
            ),
            (
                "EMAILWRIT",
                &[HandedOver, Returned, Unwanted],
                &[
                    "Sent by e-mail, ",
                    "It could not be brought to you by e-mail, so it is kept here, ",
                ],
            ),
            (
                "SMSWRIT",
                &[NotSent],
                &["It could not be brought to you by text message, so it is kept here, "],
            ),
            (
                "MAILWRIT",
                &[Waits, HandedOver, Delayed, Arrived],
                &[
                    "Given out to be printed and posted as a letter, ",
                    "The letter is on its way to you, ",
                ],
            ),
            (
                "MAILWRIT",
                &[HandedOver, Returned],
                &[
                    "Given out to be printed and posted as a letter, ",
                    "It could not be brought to you by letter, so it is kept here, ",
                ],
            ),
            (
                "PHONE",
                &[HandedOver, Arrived],
                &["Given to those who call you, ", "You were called, "],
            ),
            (
                "PHONE",
                &[HandedOver, Returned],
                &[
                    "Given to those who call you, ",
                    "You could not be reached by telephone, so it is kept here, ",
                ],
            ),
            ("PORTAL", &[HandedOver], &[]),
        ] {
            let mut message = message(medium);
            for did in dids {
                Attempted::new(*did, "Words for staff.", NOW).write(&mut message);
            }
            let shown =
                of_patients(&times(), &message).map_or_else(String::new, Markup::into_string);
            assert_eq!(shown.matches("<li>").count(), expected.len(), "{dids:?}");
            for words in expected {
                assert!(shown.contains(words), "{words} in {shown}");
            }
            assert!(!shown.contains("for staff"), "{shown}");
        }
    }
}

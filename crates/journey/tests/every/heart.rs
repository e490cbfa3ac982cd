//! Every step of the heart-failure journey.

use super::{Act, Part, Play, Said, Wrong, visited};
use crate::world::{DAY, HOUR, Mail, heart_failure};
use std::collections::BTreeSet;

const SYMPTOMS: &str = "How are you today?";
const SURVEY: &str = "How was your follow-up?";
const CALL: &str = "Call the patient about their symptoms";
const CALL_AGAIN: &str = "Call the patient again, or their next of kin";
const REVIEW: &str = "Review alarming symptoms";
const WEIGHT: &str = "Call the patient about their weight";
const VISIT: &str = "Arrange the day-7 visit by telephone";
const MISSING: &str = "Ask the patient why no weight comes";
const MISSING_AGAIN: &str = "Reach the patient or their next of kin about the weight";
const TELL: &str = "Tell the patient about the follow-up";

/// The discharge is on a Monday at two in the afternoon, so day two begins after 1 d 19 h.
const ROUNDS: &[u64] = &[
    0,
    DAY,
    2 * DAY,
    4 * DAY,
    4 * DAY + 6 * HOUR,
    5 * DAY,
    7 * DAY,
    31 * DAY,
    46 * DAY,
];

/// Who is well, and answers everything.
const WELL: Part = &[
    (0, Act::Stay("IMP")),
    (1, Act::Visit("booked")),
    (
        2,
        Act::Answer(
            SYMPTOMS,
            &[
                ("breathless", Said::Yes(false)),
                ("swelling", Said::Yes(false)),
                ("dizzy", Said::Yes(false)),
            ],
        ),
    ),
    (6, Act::Visit("fulfilled")),
    (7, Act::Answer(SURVEY, &[("score", Said::Number(9))])),
];

/// Who isn't heard of and sends no weight, is called twice, and isn't well.
const SILENT: Part = &[
    (0, Act::Stay("IMP")),
    (3, Act::Work(CALL, Some("not_reached"))),
    (3, Act::Work(MISSING, Some("not_reached"))),
    (4, Act::Work(CALL_AGAIN, Some("worse"))),
    (4, Act::Work(MISSING_AGAIN, Some("weighs_again"))),
    (5, Act::Work(REVIEW, None)),
    (6, Act::Work(VISIT, None)),
];

/// Whose answers alarm, and whose weight rises.
const ALARMING: Part = &[
    (0, Act::Stay("IMP")),
    (0, Act::Weigh(80.0)),
    (1, Act::Weigh(83.5)),
    (
        2,
        Act::Answer(
            SYMPTOMS,
            &[
                ("breathless", Said::Yes(true)),
                ("swelling", Said::Yes(false)),
                ("dizzy", Said::Yes(false)),
            ],
        ),
    ),
    (2, Act::Work(WEIGHT, Some("worse"))),
    (3, Act::Work(REVIEW, None)),
    (4, Act::Work(REVIEW, None)),
];

/// Who can't be reached by e-mail.
const FAR: Part = &[(0, Act::Stay("IMP")), (1, Act::Work(TELL, None))];

fn play(mail: Mail, parts: &[Part]) -> Play {
    Play {
        journeys: vec![heart_failure()],
        partners: None,
        mail,
        parts: parts.to_vec(),
        rounds: ROUNDS,
    }
}

fn reached() -> Play {
    play(Mail::Delivers, &[WELL, SILENT, ALARMING])
}

fn not_reached() -> Play {
    play(Mail::Refuses, &[FAR])
}

#[tokio::test]
async fn each_step_is_gone_through_by_somebody() {
    let (mut seen, mut steps) = (BTreeSet::new(), BTreeSet::new());
    for play in [reached(), not_reached()] {
        let (world, patients) = play.world().await;
        let told = play.go_on(&world, &patients, 0).await;
        seen.extend(visited(&told));
        let nodes = world.graph(None).await.nodes.into_iter();
        let own = nodes.filter(|node| !["start", "end"].contains(&node.id.as_str()));
        steps.extend(own.map(|node| format!("heart-failure-discharge/{}", node.id)));
    }
    let missed: Vec<&String> = steps.difference(&seen).collect();
    assert!(missed.is_empty(), "nobody comes to {missed:?}");
    assert!(steps.len() >= 17, "{steps:?}");
}

async fn both(wrong: Wrong) {
    Box::pin(reached().with(wrong)).await;
    Box::pin(not_reached().with(wrong)).await;
}

#[tokio::test]
async fn a_process_that_ends_before_the_moves_loses_no_step_of_heart_failure() {
    both(Wrong::Unread).await;
}

#[tokio::test]
async fn a_process_that_ends_after_the_moves_repeats_no_step_of_heart_failure() {
    both(Wrong::Moved).await;
}

#[tokio::test]
async fn commits_that_fail_lose_no_step_of_heart_failure() {
    both(Wrong::Cut).await;
}

#[tokio::test]
async fn moves_that_break_off_lose_no_step_of_heart_failure() {
    both(Wrong::Broken).await;
}

#[tokio::test]
async fn what_is_told_twice_leads_no_step_of_heart_failure_twice() {
    both(Wrong::Again).await;
}

#[tokio::test]
async fn a_clock_that_jumps_an_hour_ahead_and_back_loses_no_step_of_heart_failure() {
    both(Wrong::Jump).await;
}

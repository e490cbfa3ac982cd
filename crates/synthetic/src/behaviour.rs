//! What patients do in the month after discharge. The shares say how people differ; each is chosen so
//! that a few hundred patients show every way through a follow-up, and none is a clinical finding.

use crate::person::Person;
use crate::random::{Random, Stream};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::{Act, CohortOptions, What};

/// Share of patients that weigh themselves and answer in time.
pub const DILIGENT_SHARE: f64 = 0.70;
/// Share of patients that answer after the reminder, and often forget the scales. The rest is
/// silent: no weights, no answers.
pub const LATE_SHARE: f64 = 0.16;
/// Share of those who weigh themselves that gain more than 2 kg of fluid within 3 days once.
pub const FLUID_GAIN_SHARE: f64 = 0.12;
/// Share that is readmitted within 30 days without fluid gain. With the share below about half of
/// what hospitals report for heart failure (one in five), so that most journeys reach their end.
pub const READMISSION_SHARE: f64 = 0.08;
/// The same for those who gained fluid.
pub const READMISSION_SHARE_AFTER_FLUID_GAIN: f64 = 0.25;
/// Share that dies within 30 days; lower than in life for the same reason.
pub const DEATH_SHARE: f64 = 0.02;
/// Share that withdraws consent to messages.
pub const WITHDRAWAL_SHARE: f64 = 0.04;
/// Share of those who answer that books the visit offered to them.
pub const BOOKS_SHARE: f64 = 0.82;
/// The same for silent patients.
pub const SILENT_BOOKS_SHARE: f64 = 0.20;
/// Share of those who answer at all that fills in the experience survey.
pub const SURVEY_SHARE: f64 = 0.62;
/// Days that a patient is followed.
pub const JOURNEY_DAYS: u64 = 30;

/// When the questionnaire and the survey are expected to be asked, days after discharge.
const QUESTIONNAIRE_DAY: u64 = 2;
const SURVEY_DAY: u64 = 30;
/// Scales at home: how far two readings of the same weight lie apart (standard deviation, kg).
const SCALE_NOISE_KG: f64 = 0.2;
/// Survey scores with their weights: most people are content.
const SCORES: &[(u8, u32)] = &[
    (0, 1),
    (2, 1),
    (3, 2),
    (4, 3),
    (5, 6),
    (6, 7),
    (7, 14),
    (8, 24),
    (9, 22),
    (10, 20),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Diligent,
    Late,
    Silent,
}

pub(crate) fn of_patient(options: &CohortOptions, index: u64, discharge_ms: u64) -> Vec<Act> {
    let person = Person::new(options, index);
    let mut random = Random::new(options.seed, index, Stream::Behaviour);
    let manner = manner(&mut random);
    // All draws happen in the same order for everybody, so that one trait doesn't shift another.
    let gain = random.chance(FLUID_GAIN_SHARE) && manner != Manner::Silent;
    let gain_day = random.whole(3, 18);
    let gain_kg = random.between(2.6, 4.2);
    let readmission_share = if gain {
        READMISSION_SHARE_AFTER_FLUID_GAIN
    } else {
        READMISSION_SHARE
    };
    let readmitted = random.chance(readmission_share);
    // Those who gained fluid come back a few days after it, the others at any time.
    let readmission_day = if gain {
        gain_day + random.whole(3, 7)
    } else {
        random.whole(2, 29)
    };
    let readmission_ms = discharge_ms + readmission_day * DAY_MS + random.whole(0, 23) * HOUR_MS;
    let dies = random.chance(DEATH_SHARE);
    let death_ms = discharge_ms + random.whole(3, 29) * DAY_MS + random.whole(0, 23) * HOUR_MS;
    let withdraws = random.chance(WITHDRAWAL_SHARE);
    let withdrawal_ms = discharge_ms + random.whole(1, 20) * DAY_MS + random.whole(8, 20) * HOUR_MS;

    let mut acts = Vec::with_capacity(40);
    if manner != Manner::Silent {
        let forgets_share = if manner == Manner::Late { 0.35 } else { 0.06 };
        weights(
            &mut random,
            &person,
            discharge_ms,
            gain.then_some((gain_day, gain_kg)),
            forgets_share,
            &mut acts,
        );
    }
    answers(&mut random, manner, gain, discharge_ms, &mut acts);
    if withdraws {
        acts.retain(|act| {
            act.at_ms < withdrawal_ms
                || !matches!(
                    act.what,
                    What::AnswerQuestionnaire { .. } | What::AnswerSurvey { .. }
                )
        });
        acts.push(Act {
            at_ms: withdrawal_ms,
            what: What::WithdrawConsent,
        });
    }
    let mut end_ms = u64::MAX;
    if readmitted {
        end_ms = readmission_ms;
        acts.push(Act {
            at_ms: readmission_ms,
            what: What::Readmission,
        });
    }
    if dies && death_ms < end_ms {
        end_ms = death_ms;
        acts.push(Act {
            at_ms: death_ms,
            what: What::Death,
        });
    }
    acts.retain(|act| act.at_ms <= end_ms);
    // The end is the last of its moment, so that nothing is done after it.
    acts.sort_by_key(|act| {
        (
            act.at_ms,
            matches!(act.what, What::Readmission | What::Death),
        )
    });
    acts
}

fn manner(random: &mut Random) -> Manner {
    let place = random.unit();
    if place < DILIGENT_SHARE {
        Manner::Diligent
    } else if place < DILIGENT_SHARE + LATE_SHARE {
        Manner::Late
    } else {
        Manner::Silent
    }
}

/// A weight each morning about seven. The water comes within two days, so that the rise shows within
/// any reading of "in 3 days", stays a day, and goes within the next days under treatment.
fn weights(
    random: &mut Random,
    person: &Person,
    discharge_ms: u64,
    gain: Option<(u64, f64)>,
    forgets_share: f64,
    acts: &mut Vec<Act>,
) {
    let midnight_ms = discharge_ms - discharge_ms % DAY_MS;
    for day in 1..=JOURNEY_DAYS {
        let at_ms = midnight_ms + day * DAY_MS + random.whole(6 * 60 + 15, 8 * 60) * MINUTE_MS;
        let forgets = random.chance(forgets_share);
        let noise_kg = random.bell(0.0, SCALE_NOISE_KG);
        let (water_kg, close_watch) = match gain {
            Some((onset, kg)) => match day.checked_sub(onset) {
                Some(0) => (0.0, true),
                Some(1) => (kg * 0.5, true),
                Some(2 | 3) => (kg, true),
                Some(4) => (kg * 0.7, false),
                Some(5) => (kg * 0.4, false),
                Some(6) => (kg * 0.15, false),
                _ => (0.0, false),
            },
            None => (0.0, false),
        };
        // Somebody whose ankles swell looks at the scales.
        if at_ms <= discharge_ms || (forgets && !close_watch) {
            continue;
        }
        let noise_kg = if close_watch {
            noise_kg * 0.3
        } else {
            noise_kg
        };
        let kg = ((person.dry_weight_kg + water_kg + noise_kg) * 10.0).round() / 10.0;
        acts.push(Act {
            at_ms,
            what: What::Weight { kg },
        });
    }
}

fn answers(
    random: &mut Random,
    manner: Manner,
    gain: bool,
    discharge_ms: u64,
    acts: &mut Vec<Act>,
) {
    let asked_ms = discharge_ms + QUESTIONNAIRE_DAY * DAY_MS;
    let in_time_ms = random.whole(60, 20 * 60) * MINUTE_MS;
    let late_ms = random.whole(26 * 60, 70 * 60) * MINUTE_MS;
    let unwell = if gain { 3.0 } else { 1.0 };
    let what = What::AnswerQuestionnaire {
        breathless: random.chance(0.12 * unwell),
        swelling: random.chance(0.10 * unwell),
        dizzy: random.chance(0.08),
    };
    match manner {
        Manner::Diligent => acts.push(Act {
            at_ms: asked_ms + in_time_ms,
            what,
        }),
        Manner::Late => acts.push(Act {
            at_ms: asked_ms + late_ms,
            what,
        }),
        Manner::Silent => {}
    }
    // Within the days in which a visit on day 7 is offered; who does not book by then does not book.
    let books = random.chance(if manner == Manner::Silent {
        SILENT_BOOKS_SHARE
    } else {
        BOOKS_SHARE
    });
    let booked_ms =
        discharge_ms + random.whole(2, 4) * DAY_MS + random.whole(0, 10 * 60) * MINUTE_MS;
    if books {
        acts.push(Act {
            at_ms: booked_ms,
            what: What::BookVisit,
        });
    }
    let surveyed = random.chance(SURVEY_SHARE) && manner != Manner::Silent;
    let survey_ms = discharge_ms + SURVEY_DAY * DAY_MS + random.whole(2 * 60, 40 * 60) * MINUTE_MS;
    let score = *random.weighted(SCORES);
    if surveyed {
        acts.push(Act {
            at_ms: survey_ms,
            what: What::AnswerSurvey { score },
        });
    }
}

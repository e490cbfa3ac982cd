//! Who a synthetic patient is.

use crate::CohortOptions;
use crate::names::{AREA_CODES, ORIGINS, STREETS, TOWNS, ascii};
use crate::random::{Random, Stream};
use crate::time::{DAY_MS, HOUR_MS, date, day};

/// Identifier system of medical record numbers.
pub const MRN_SYSTEM: &str = "urn:cairn:synthetic:mrn";
/// Domain of e-mail addresses that the record still holds though the mailbox is no longer there.
pub const CLOSED_MAIL_DOMAIN: &str = "closed.example.com";
/// Share of patients with such an address: people change their provider and forget to tell.
pub const CLOSED_MAILBOX_SHARE: f64 = 0.06;
/// Extension on `Patient.telecom` (valueBoolean): the patient does not want this channel used.
pub const NOT_WANTED_EXTENSION: &str = "urn:cairn:channel-not-wanted";
/// Share of patients with an e-mail address on record. High for this age on purpose: a demo of
/// messages needs people who get them.
pub const EMAIL_SHARE: f64 = 0.95;
/// Share of those with an address who prefer e-mail to every other channel.
pub const EMAIL_FIRST_SHARE: f64 = 0.84;
/// Share of those with an address who prefer the telephone, but may be written to.
pub const PHONE_FIRST_SHARE: f64 = 0.12;
/// Share of those with an address who do not want it used.
pub const EMAIL_NOT_WANTED_SHARE: f64 = 0.04;

/// Ages at heart failure admissions, in bands of ten years. Shaped after what registries report
/// (median about 75), not fitted to one.
const HEART_FAILURE_AGES: &[((u64, u64), u32)] = &[
    ((45, 54), 5),
    ((55, 64), 15),
    ((65, 74), 27),
    ((75, 84), 33),
    ((85, 94), 18),
    ((95, 99), 2),
];
/// Ages of everybody else: a population pyramid of an ageing country.
const OTHER_AGES: &[((u64, u64), u32)] = &[
    ((0, 9), 11),
    ((10, 19), 12),
    ((20, 29), 13),
    ((30, 39), 13),
    ((40, 49), 12),
    ((50, 59), 13),
    ((60, 69), 12),
    ((70, 79), 9),
    ((80, 89), 4),
    ((90, 99), 1),
];
/// The latest planned discharge after `now_ms`, days.
const DISCHARGE_DAYS_MAX: f64 = 10.0;

/// How a patient wants to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    EmailFirst,
    PhoneFirst,
    EmailNotWanted,
    NoEmail,
}

/// A stay in hospital for heart failure that is under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    pub(crate) admitted_ms: u64,
    pub(crate) planned_discharge_ms: u64,
}

/// Who somebody is, and what their body is like.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) female: bool,
    pub(crate) given: &'static str,
    pub(crate) family: &'static str,
    pub(crate) language: &'static str,
    pub(crate) birth_date: String,
    pub(crate) age_years: u64,
    pub(crate) street: String,
    pub(crate) town: &'static str,
    pub(crate) postal_code: &'static str,
    pub(crate) phone: String,
    pub(crate) email: String,
    pub(crate) record_number: String,
    pub(crate) channel: Channel,
    pub(crate) height_cm: f64,
    /// Weight without water that the heart fails to move, kg; growing children: now.
    pub(crate) dry_weight_kg: f64,
    /// The stay that makes this patient an inpatient for heart failure.
    pub(crate) stay: Option<Stay>,
}

impl Person {
    pub(crate) fn new(options: &CohortOptions, index: u64) -> Self {
        let mut random = Random::new(options.seed, index, Stream::Person);
        let heart_failure = random.chance(options.heart_failure_share);
        // Men are the larger part of those admitted with heart failure before very old age.
        let female = random.chance(if heart_failure { 0.47 } else { 0.51 });
        let (low, high) = *random.weighted(if heart_failure {
            HEART_FAILURE_AGES
        } else {
            OTHER_AGES
        });
        let age_years = random.whole(low, high);
        let birth_date = birth_date(options.now_ms, age_years, random.whole(0, 364));
        let origin = *random.weighted(ORIGINS);
        let given = *random.pick(if female { origin.female } else { origin.male });
        let family = *random.pick(origin.family);
        let language = random.weighted(origin.languages);
        let (town, postal_code) = *random.pick(TOWNS);
        let street = format!("{} {}", random.whole(1, 480), random.pick(STREETS));
        let phone = format!(
            "+1-{}-555-01{:02}",
            random.pick(AREA_CODES),
            random.whole(0, 99)
        );
        let channel = channel(&mut random);
        let (height_cm, dry_weight_kg) = body(&mut random, female, age_years, heart_failure);
        let stay = heart_failure.then(|| stay(&mut random, options.now_ms));
        let domain = if random.chance(CLOSED_MAILBOX_SHARE) {
            CLOSED_MAIL_DOMAIN
        } else {
            "example.com"
        };
        Self {
            female,
            given,
            family,
            language,
            birth_date,
            age_years,
            street,
            town,
            postal_code,
            phone,
            email: format!("{}.{}.{index}@{domain}", ascii(given), ascii(family)),
            record_number: record_number(options.seed, index),
            channel,
            height_cm,
            dry_weight_kg,
            stay,
        }
    }
}

pub(crate) fn record_number(seed: u64, index: u64) -> String {
    format!("{:08X}-{index:08}", seed & 0xffff_ffff)
}

pub(crate) fn index_of(seed: u64, record_number: &str) -> Option<u64> {
    let index = record_number.split_once('-')?.1.parse().ok()?;
    (self::record_number(seed, index) == record_number).then_some(index)
}

fn birth_date(now_ms: u64, age_years: u64, extra_days: u64) -> String {
    // A year is taken a little long, so that nobody is a day younger than their age says.
    let days = age_years * 36_525 / 100 + 1 + extra_days * 364 / 365;
    date(day(now_ms) - i64::try_from(days).unwrap_or(0))
}

fn channel(random: &mut Random) -> Channel {
    if !random.chance(EMAIL_SHARE) {
        return Channel::NoEmail;
    }
    let place = random.unit();
    if place < EMAIL_FIRST_SHARE {
        Channel::EmailFirst
    } else if place < EMAIL_FIRST_SHARE + PHONE_FIRST_SHARE {
        Channel::PhoneFirst
    } else {
        Channel::EmailNotWanted
    }
}

/// Height and weight. Adults by a body mass index about 27 (30 with heart failure, where overweight
/// is the rule); children by rough growth curves.
#[allow(clippy::cast_precision_loss, reason = "ages are small")]
fn body(random: &mut Random, female: bool, age_years: u64, heart_failure: bool) -> (f64, f64) {
    let adult_cm = if female {
        random.bell(162.0, 6.5)
    } else {
        random.bell(175.5, 7.0)
    };
    let bmi = random
        .bell(if heart_failure { 29.5 } else { 27.0 }, 4.2)
        .max(17.5);
    if age_years >= 18 {
        let metres = adult_cm / 100.0;
        return (adult_cm, bmi * metres * metres);
    }
    let grown = (age_years as f64 + 1.0) / 19.0;
    let height_cm = 62.0 + (adult_cm - 62.0) * grown;
    let metres = height_cm / 100.0;
    (
        height_cm,
        (15.0 + 5.0 * grown + (bmi - 27.0) * 0.2) * metres * metres,
    )
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "days to milliseconds, small and positive"
)]
fn stay(random: &mut Random, now_ms: u64) -> Stay {
    let admitted_ms = now_ms.saturating_sub(DAY_MS + random.whole(0, 6 * 24) * HOUR_MS);
    // Cubed, so that most leave within three days and the first ones at once.
    let place = random.unit();
    let after_ms = (place * place * place * DISCHARGE_DAYS_MAX * DAY_MS as f64) as u64;
    Stay {
        admitted_ms,
        planned_discharge_ms: now_ms + after_ms,
    }
}

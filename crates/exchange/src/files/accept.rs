//! One message into the batch that is closed now, once all has been asked that is asked of every message.

use std::collections::BTreeSet;

use fhir::Resource;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use ledger::{Expected, OutboxDraft, OutboxKey, Owner};
use serde_json::{Value, json};
use trust::attempts::{Attempted, Did};
use trust::consent::{Pressing, QuietHours, Waits, quiet_until, zone_of};
use trust::conventions::{BATCH_SYSTEM, PAGES_URL};
use trust::costs::MESSAGE_COST_URL;
use trust::partners::DataClass;
use trust::{Disclosed, Internal, Purpose, TrustError, Unit, Versioned};

use super::letter::{PAGES_MAX, Unprintable};
use super::parcel::{Content, Parcel, said};
use super::{Closing, FileWay, Files, LetterOptions};
use crate::attempt::Attempt;
use crate::carrier::To;
use crate::check::{Reason, Refused};
use crate::deliverer::DeliverError;
use crate::outcome::{Outcome, is_waiting};

/// How far ahead an hour is looked for at which somebody may be called: for so long a list is good. A call that has none
/// waits for a later list.
const AHEAD_MS: u64 = 48 * 3_600_000;
/// The steps in which it is looked for.
const STEP_MS: u64 = 5 * 60_000;
/// The longest that a telephone is given words to speak, characters: about two minutes.
const SPOKEN_MAX: usize = 1_500;

/// A message that a batch takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) parcel: Parcel,
    /// Who gets it.
    pub(crate) partner: String,
    /// Why that is lawful, for the audit.
    pub(crate) why: String,
    purpose: Purpose,
    version: u32,
    mark: OutboxKey,
    mark_channel: u16,
    mark_body: Vec<u8>,
}

impl Taken {
    /// What makes a commit be refused once the batch takes no more.
    pub(crate) fn only_while_open(&self, unit: &mut Unit) {
        unit.outbox_remove.push(self.mark);
        unit.outbox_add.push(OutboxDraft {
            key: self.mark,
            owner: Owner::Tenant,
            channel: self.mark_channel,
            attempt: 0,
            body: self.mark_body.clone(),
        });
    }

    pub(crate) fn internal(&self, attempt: &Attempt<'_>) -> Internal {
        let ledger = attempt.inner.trust.vault().ledger();
        self.parcel.internal(ledger, attempt.entry.tenant)
    }

    /// What the partner is told, as the audit has it.
    pub(crate) fn disclosed(&self) -> Disclosed {
        Disclosed {
            kind: fhir::ResourceType::Communication,
            id: self.parcel.communication.clone(),
            version: self.version,
            to: format!("urn:cairn:partner:{}", self.partner),
            purpose: self.purpose,
        }
    }
}

/// Writes down in a message that a batch has it.
pub(crate) fn batched(communication: &mut Resource, taken: &Taken, now_ms: u64) {
    let list = |name: &str| {
        let found = communication.get(name).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let mut identifiers = list("identifier");
    identifiers.push(json!({"system": BATCH_SYSTEM, "value": taken.parcel.batch}));
    let mut extensions = list("extension");
    if let Content::Letter { pages, .. } = &taken.parcel.content {
        extensions.push(json!({"url": PAGES_URL, "valuePositiveInt": pages}));
        communication.set("extension", Value::Array(extensions));
    }
    communication.set("identifier", Value::Array(identifiers));
    communication.set("status", json!("in-progress"));
    communication.remove("statusReason");
    let words = format!("In batch {} for {}.", taken.parcel.batch, taken.partner);
    Attempted::new(Did::Waits, words, now_ms).write(communication);
}

/// Writes down that a batch was handed over.
pub(super) fn handed(communication: &mut Resource, files: &Files, now_ms: u64) {
    communication.set("sent", json!(fhir::date::instant(now_ms)));
    if let Some(price) = &files.options.price {
        let found = communication.get("extension").and_then(Value::as_array);
        let mut extensions = found.cloned().unwrap_or_default();
        extensions.push(json!({"url": MESSAGE_COST_URL, "valueMoney": price.money()}));
        communication.set("extension", Value::Array(extensions));
    }
    let is_last = matches!(&files.options.way, FileWay::Letters(LetterOptions { delivered_when, .. }) if *delivered_when == super::LetterDelivered::Handed);
    // One that was held and let go meanwhile says that it is prepared.
    if is_last && is_waiting(communication) {
        communication.set("status", json!("completed"));
    }
    Attempted::new(Did::HandedOver, "Its batch was handed over.", now_ms).write(communication);
}

impl Attempt<'_> {
    /// Puts it together for the batch that is closed now, or says why it goes into none.
    pub(crate) async fn batched_now(
        &self,
        files: &Files,
        (to, patient): (&To, Option<&Resource>),
    ) -> Result<Outcome, DeliverError> {
        let no = |reason, words: &str| Ok(Outcome::NotDone(Refused::new(reason, words)));
        let Some(Closing { name: batch, mark }) = files.closing() else {
            return Err(DeliverError::Compose("no batch is being closed".to_owned()));
        };
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let purpose: Option<Purpose> =
            serde_json::from_value(self.message.purpose.as_str().into()).ok();
        let set = self.inner.trust.policy_set();
        let (Some(partner), Some(purpose)) = (set.partners().carrier(files.carries()), purpose)
        else {
            let words = format!(
                "There is no partner who carries {}.",
                files.carries().name()
            );
            return no(Reason::NoContract, &words);
        };
        let classes: BTreeSet<DataClass> = files.carries().tells();
        if let Some(why) = partner.refuses(purpose, &classes, now_ms) {
            let reason = match why.code() {
                "no-contract" => Reason::NoContract,
                _ => Reason::NotCleared,
            };
            return no(reason, &format!("Not told: {}.", why.words(&partner.name)));
        }
        let Some(found) = self.current().await? else {
            return Ok(Outcome::Cancelled);
        };
        let language = self
            .message
            .language
            .clone()
            .unwrap_or_else(|| "en".to_owned());
        let parcel = |content| Parcel {
            batch: batch.clone(),
            patient: self.message.patient.clone(),
            communication: self.message.communication.clone(),
            language: language.clone(),
            content,
        };
        let parcel = match (&files.options.way, to) {
            (FileWay::Letters(options), To::Postal(to)) => {
                match self.letter(files, options, (to.as_ref(), &found), parcel, now_ms) {
                    Ok(parcel) => parcel,
                    Err(refused) => return Ok(Outcome::NotDone(refused)),
                }
            }
            (FileWay::Calls(_), To::Call(number)) => {
                let Some((from, until, zone)) = self.rings(files, patient, now_ms).await? else {
                    // Lists that are closed later reach further.
                    let is_later = self
                        .message
                        .expires_ms
                        .is_none_or(|expires_ms| expires_ms > now_ms + AHEAD_MS);
                    if is_later {
                        return Ok(Outcome::Waits {
                            due_ms: now_ms + STEP_MS,
                            why: Waits::Quiet,
                        });
                    }
                    let words = "There is no hour in its time at which the patient may be called.";
                    return no(Reason::QuietHours, words);
                };
                if self.message.text.chars().count() > SPOKEN_MAX {
                    return no(Reason::Unprintable, "It is too long to be spoken.");
                }
                parcel(Content::Call {
                    number: number.as_str().to_owned(),
                    words: self
                        .message
                        .text
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" "),
                    script: self.message.script.clone().unwrap_or_default(),
                    from,
                    until,
                    zone,
                })
            }
            _ => {
                return Err(DeliverError::Compose(
                    "it is for another channel".to_owned(),
                ));
            }
        };
        let contract = crate::calls::lawful::contract(partner);
        Ok(Outcome::Batched(Box::new(Taken {
            parcel,
            partner: partner.name.clone(),
            why: format!("{contract}, consents allow it"),
            purpose,
            version: found.version,
            mark: mark.key,
            mark_channel: mark.channel,
            mark_body: mark.body,
        })))
    }

    fn letter(
        &self,
        files: &Files,
        options: &LetterOptions,
        (to, found): (&trust::consent::Postal, &Versioned),
        parcel: impl Fn(Content) -> Parcel,
        now_ms: u64,
    ) -> Result<Parcel, Refused> {
        let (title, text) = said(&found.resource);
        if text.trim().is_empty() {
            return Err(Refused::new(Reason::Unprintable, "It has no words."));
        }
        let day = |at_ms: u64| {
            let at = i64::try_from(at_ms)
                .ok()
                .and_then(|at| Timestamp::from_millisecond(at).ok());
            at.map(|at| {
                at.to_zoned_datetime(files.options.zone.clone())
                    .date()
                    .to_string()
            })
        };
        let is_pressing =
            (self.message.sort).is_some_and(|sort| sort.pressing != Pressing::Routine);
        let class = if is_pressing {
            &options.pressing_class
        } else {
            &options.class
        };
        let content = |pages| Content::Letter {
            to: to.clone(),
            title: title.clone(),
            text: text.clone(),
            day: day(now_ms).unwrap_or_default(),
            class: class.clone(),
            due: self.message.expires_ms.and_then(day).unwrap_or_default(),
            pages,
        };
        let one = parcel(content(0));
        let face = files.face.as_ref();
        match face.and_then(|face| one.print(face, options, &files.options.portal_base)) {
            Some(Ok(printed)) => Ok(parcel(content(printed.pages))),
            Some(Err(Unprintable::Characters)) => Err(Refused::new(
                Reason::Unprintable,
                "The font has no form for some of its characters.",
            )),
            Some(Err(Unprintable::TooLong)) => Err(Refused::new(
                Reason::Unprintable,
                format!("It has more than {PAGES_MAX} pages."),
            )),
            Some(Err(Unprintable::Face)) | None => {
                Err(Refused::new(Reason::Unprintable, "It can't be printed."))
            }
        }
    }

    /// When the patient may be called next: from when, until when, and in which time zone.
    async fn rings(
        &self,
        files: &Files,
        patient: Option<&Resource>,
        now_ms: u64,
    ) -> Result<Option<(String, String, String)>, TrustError> {
        let hours = self.message.hours.as_ref();
        let named = hours.and_then(|hours| TimeZone::get(&hours.zone).ok());
        let zone = patient.and_then(zone_of).or(named);
        let zone = zone.unwrap_or_else(|| files.options.zone.clone());
        let FileWay::Calls(calls) = &files.options.way else {
            return Ok(None);
        };
        // What can't wait has no hours but those of who calls.
        let quiet: Vec<QuietHours> = match hours {
            Some(hours) => {
                let rules = self.inner.trust.vault().rules().messages();
                let own = self.own_quiet().await?;
                rules
                    .quiet
                    .into_iter()
                    .chain(hours.quiet)
                    .chain(own)
                    .collect()
            }
            None => Vec::new(),
        };
        let window = hours.and_then(|hours| hours.window.as_ref());
        let last_ms = self
            .message
            .expires_ms
            .unwrap_or(u64::MAX)
            .min(now_ms + AHEAD_MS);
        let at = |at_ms: u64| {
            let at = i64::try_from(at_ms)
                .ok()
                .and_then(|at| Timestamp::from_millisecond(at).ok());
            at.map(|at| at.to_zoned_datetime(zone.clone()))
        };
        let may = |at_ms: u64| {
            let open = at(at_ms).is_some_and(|at| (calls.from..calls.until).contains(&at.time()));
            open && quiet_until(&quiet, window, &zone, at_ms).is_none()
        };
        // Whole steps of the clock, so that a window begins at its minute.
        let first_ms = now_ms.next_multiple_of(STEP_MS);
        let mut steps = (0..=AHEAD_MS / STEP_MS).map(|step| first_ms + step * STEP_MS);
        let Some(from_ms) = steps.find(|at_ms| *at_ms < last_ms && may(*at_ms)) else {
            return Ok(None);
        };
        let until_ms = steps.find(|at_ms| *at_ms >= last_ms || !may(*at_ms));
        let until_ms = until_ms.unwrap_or(last_ms).min(last_ms);
        let shown = |at_ms| at(at_ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        Ok(shown(from_ms)
            .zip(shown(until_ms))
            .map(|(from, until)| (from, until, name)))
    }
}

/// The last time, not after a moment, at which batches are closed.
pub(super) fn last_closing(files: &Files, now_ms: u64) -> Option<u64> {
    let all = closings(files, now_ms).into_iter();
    all.filter(|at_ms| *at_ms <= now_ms).max()
}

/// The first time after a moment at which batches are closed.
pub(crate) fn next_closing(files: &Files, now_ms: u64) -> Option<u64> {
    let all = closings(files, now_ms).into_iter();
    all.filter(|at_ms| *at_ms > now_ms).min()
}

/// The times at which batches are closed, of the day of a moment and those beside it.
fn closings(files: &Files, now_ms: u64) -> Vec<u64> {
    let now = i64::try_from(now_ms).ok();
    let Some(now) = now.and_then(|now| Timestamp::from_millisecond(now).ok()) else {
        return Vec::new();
    };
    let today = now.to_zoned_datetime(files.options.zone.clone()).date();
    let days = [
        today.checked_sub(1.day()).ok(),
        Some(today),
        today.checked_add(1.day()).ok(),
    ];
    let all = days.into_iter().flatten().flat_map(|day| {
        let times = files.options.closes.iter();
        times.filter_map(move |time| {
            let at = files
                .options
                .zone
                .to_ambiguous_timestamp(day.to_datetime(*time));
            u64::try_from(at.compatible().ok()?.as_millisecond()).ok()
        })
    });
    all.collect()
}

/// What has to be there of a document that may be new.
pub(super) fn expected(version: Option<u32>) -> Expected {
    version.map_or(Expected::Absent, Expected::Version)
}

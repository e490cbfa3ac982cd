//! A visit that is proposed, waits to be booked, and is reminded of.

mod confirm;
mod invite;
mod remind;

use super::{Carried, Plan, StepKind, WHOLE, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, line, number, template};
use crate::definition::{Channel, Definition, Message, Step, Target, Way};
use crate::engine::{CALLED_OFF, Calendar, Effect, Engine, EngineError, Fact, Ids, moment};
use crate::resources::{Maker, Times, resource};
use crate::spec::{
    BECAUSE, CHANNELS, Clearance, EMAIL_MEMBER, Kind, Record, SMS_MEMBER, Shape,
    TRANSLATION_OF_A_VISIT, TRANSLATIONS, URGENCY, VOICE_MEMBER, WHILE_ADMITTED, may, must,
};
use crate::state::{Stand, State, Token, What, Which};
use crate::template::Template;
use crate::time::{DAY_MS, MINUTE_MS, Moment, Slot, say_day, say_minute, say_time};
use crate::yaml::{Node, Place};
use confirm::Confirmation;
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use invite::Invitation;
use remind::Reminders;
use serde_json::json;
use std::sync::Arc;
use trust::consent::Topic;

/// How the visit is held.
const BY: &str = "by";
/// The one way that has to be said.
const VIDEO: &str = "video";
/// Where what asks the patient stands.
const ASKS: &[&str] = &[invite::INVITE];
/// Where what confirms the visit stands.
const CONFIRMS: &[&str] = &[confirm::CONFIRM];
/// What stands beside what is called off when the visit wasn't booked.
const NOT_IN_TIME: &str = "Not booked in time";

static BOOK: Record = Record {
    name: "book",
    doc: "A visit is proposed and waits to be booked, in the portal or by staff. The patient can be asked to book it, and reminded of it once it is booked.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What the visit is for."),
        may(
            "words",
            Shape::Words(Clearance::Closed),
            "What the patient is told with the proposal, behind login.",
        ),
        must(
            "time",
            Shape::Moment,
            "The proposed time, e.g. `discharge + 7d at 10:00`.",
        ),
        must(
            "minutes",
            Shape::Integer(5, 480),
            "How long the visit takes.",
        ),
        may(
            BY,
            Shape::Choice(&[(
                VIDEO,
                "By video: the `Appointment` says so (`class` `VR`), and its page in the portal lets the patient in, as the organisation is set up to.",
            )]),
            "How the visit is held; in person if not given.",
        ),
        must(
            "book_by",
            Shape::Moment,
            "By when it must be booked; then `not_booked` is gone.",
        ),
        may(
            invite::INVITE,
            Shape::Record(&invite::INVITATION),
            "Messages that ask the patient to book it; without them the proposal lies in the portal alone.",
        ),
        may(
            confirm::CONFIRM,
            Shape::Record(&confirm::CONFIRMATION),
            "Messages that say that it is booked, was moved, or was called off; without them nobody is told.",
        ),
        may(
            "remind",
            Shape::List(&Shape::Duration),
            "How long before the booked visit the patient is reminded, the longest first, e.g. `[7d, 1d, 2h]`; at most six. Whole days are counted by the calendar of the journey's time zone, to the visit's time of day.",
        ),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "Words of the reminders, behind login; a sentence with day and time if not given.",
        ),
        may(
            "channels",
            CHANNELS,
            "Channels of the reminders, in order of fall-back; `[email, portal]` if not given.",
        ),
        EMAIL_MEMBER,
        SMS_MEMBER,
        VOICE_MEMBER,
        may(
            "urgency",
            URGENCY,
            "How much the reminders can't wait where messages are limited; `routine` if not given.",
        ),
        may("because", Shape::Line, BECAUSE),
        WHILE_ADMITTED,
        may(
            TRANSLATIONS,
            Shape::Languages(&TRANSLATION_OF_A_VISIT),
            "The reminders in other languages; whoever prefers none of them gets them in the journey's own.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "book",
    doc: BOOK.doc,
    body: Shape::Record(&BOOK),
    ways: &[
        must(
            "next",
            Shape::Target,
            "Where to go when the visit has taken place.",
        ),
        may(
            "not_booked",
            Shape::Target,
            "Where to go when it wasn't booked in time, was declined, or was cancelled.",
        ),
        may(
            "missed",
            Shape::Target,
            "Where to go when the patient did not come (`noshow`); `not_booked` if not given.",
        ),
    ],
    example: "visit:\n  title: Visit on day 7\n  book:\n    title: Check-up after your stay\n    time: discharge + 7d at 10:00\n    minutes: 30\n    book_by: discharge + 5d at 12:00\n    invite:\n      words: Please book your check-up on {visit.day} until {due.day}.\n      again: [2d]\n    confirm:\n      words: Your visit is booked for {visit.day} at {visit.time}.\n      calendar: true\n    remind: [1d, 2h]\n    reminder: Your visit is on {visit.day} at {visit.time}.\n  next: end\n  not_booked: visit_task\n",
    decode,
};

#[derive(Debug)]
struct Book {
    title: String,
    words: Option<Template>,
    on: Moment,
    minutes: u64,
    by_video: bool,
    book_by: Moment,
    next: Target,
    not_booked: Option<Target>,
    missed: Option<Target>,
    invitation: Option<Invitation>,
    reminders: Option<Reminders>,
    confirmation: Option<Confirmation>,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    Some(Arc::new(Book {
        title: line(body, "title")?,
        words: body.get("words").and_then(template),
        on: Moment::parse(body.get("time")?.text()?).ok()?,
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be 5 to 480"
        )]
        minutes: number(body, "minutes")? as u64,
        by_video: body.get(BY).and_then(Node::text) == Some(VIDEO),
        book_by: Moment::parse(body.get("book_by")?.text()?).ok()?,
        next: parts.way("next")?,
        not_booked: parts.way("not_booked"),
        missed: parts.way("missed"),
        invitation: invite::decode(body)?,
        reminders: remind::decode(body)?,
        confirmation: confirm::decode(body)?,
    }))
}

/// What can be learnt of how a visit stands: FHIR's words for what ends the step, and the step's own.
const STATUSES: [&str; 9] = [
    "booked",
    "arrived",
    "checked-in",
    "fulfilled",
    "cancelled",
    "noshow",
    "entered-in-error",
    "not-booked",
    "too-late",
];

impl Book {
    /// A visit was booked, or moved.
    fn booked(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, slot: Slot) {
        let n = token.n;
        invite::ends(engine, token, "The visit was booked");
        if let Some(Stand::Booking { booked, .. }) = engine.stand_mut(n) {
            *booked = Some(slot);
        }
        let day = say_day(slot.start_ms, &engine.definition.zone);
        engine.learn(&step.id, "status", json!("booked"));
        engine.learn(&step.id, "day", json!(day));
        let visit = engine.resource_id(n, "visit");
        engine.trail(
            &step.id,
            What::Booked {
                start_ms: slot.start_ms,
            },
            Some(format!("Appointment/{visit}")),
        );
        let moved = token.stand.booked_ms() != Some(slot.start_ms);
        let before = match &token.stand {
            Stand::Booking { booked, .. } => *booked,
            _ => None,
        };
        if let Some(reminders) = self.reminders.as_ref().filter(|_| moved)
            && let Some(token) = engine.token(n).cloned()
        {
            reminders.begin(engine, step, &token, slot.start_ms);
        }
        // A visit that ends at another time is another entry in a calendar.
        let changed = before != Some(slot);
        if let Some(confirmation) = self.confirmation.as_ref().filter(|_| changed)
            && let Some(token) = engine.token(n).cloned()
        {
            // With reminders, those have called off what is on its way.
            if self.reminders.is_none() || !moved {
                engine.call_off(&token, CALLED_OFF, "The visit was moved");
                remind::arrived_or_not(engine, n);
            }
            confirmation.begin(engine, step, &token, slot);
        }
    }
}

impl Book {
    /// Staff propose another time for a visit that isn't booked: what the patient is told is of that one.
    fn proposed_anew(&self, engine: &mut Engine<'_>, n: u32, start_ms: u64, end_ms: Option<u64>) {
        let Some(Stand::Booking { proposed, .. }) = engine.stand_mut(n) else {
            return;
        };
        if self.invitation.is_some() && proposed.start_ms != start_ms {
            *proposed = self.slot(start_ms, end_ms);
        }
    }

    fn slot(&self, start_ms: u64, end_ms: Option<u64>) -> Slot {
        Slot {
            start_ms,
            end_ms: end_ms
                .filter(|end_ms| *end_ms > start_ms)
                .unwrap_or(start_ms + self.minutes * MINUTE_MS),
        }
    }
}

impl StepKind for Book {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ran_out(&self, label: &str) -> bool {
        label == "not booked"
    }
    fn missed(&self, label: &str) -> bool {
        label == "missed"
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let mut ways = vec![way("visit over", &self.next, false)];
        // The deadline may have passed when the step is entered.
        ways.extend(
            self.not_booked
                .as_ref()
                .map(|target| way("not booked", target, true)),
        );
        ways.extend(
            self.missed
                .as_ref()
                .map(|target| way("missed", target, false)),
        );
        ways
    }
    fn unseen(&self) -> Vec<Way<'_>> {
        // A visit that can't wait is one that somebody has to hear of when nobody comes to it.
        let mut ways = self.ways();
        ways.retain(|way| self.cannot_wait() && way.label != "visit over");
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        vec![
            ("status", Given::Code(STATUSES.to_vec())),
            ("day", Given::Text),
        ]
    }
    fn types(&self) -> &'static [ResourceType] {
        if self.messages().is_empty() {
            return &[ResourceType::Appointment];
        }
        &[ResourceType::Appointment, ResourceType::Communication]
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.not_booked.is_none() {
            check.findings.error("J013", step.place, format!("`{}` has no `not_booked`: say what happens when the visit isn't booked in time", step.id));
        }
        if self.book_by.anchor == self.on.anchor && self.book_by.offset_ms > self.on.offset_ms {
            let place = check.at(step, &["book", "book_by"]);
            check
                .findings
                .error("J023", place, "`book_by` is later than the visit itself");
        }
        check.messages(step);
        self.check_invitation(check, step);
        self.check_reminders(check, step);
        self.check_confirmation(check, step);
    }
    fn moments(&self, check: &Check<'_, '_>, step: &Step) -> Vec<(&Moment, Place)> {
        vec![
            (&self.on, check.at(step, &["book", "time"])),
            (&self.book_by, check.at(step, &["book", "book_by"])),
        ]
    }
    fn has_time(&self, variable: &str) -> bool {
        matches!(variable, "due.day" | "visit.day" | "visit.time")
    }

    fn stand(&self, definition: &Definition, state: &State, now_ms: u64) -> Stand {
        let start_ms = moment(definition, state, &self.on);
        let by_ms = self.books_by_ms(definition, state);
        Stand::Booking {
            proposed: Slot {
                start_ms,
                end_ms: start_ms + self.minutes * MINUTE_MS,
            },
            booked: None,
            reminded: None,
            told: None,
            invited: self
                .invitation
                .as_ref()
                .map(|invitation| invitation.begins(now_ms, by_ms.min(start_ms))),
        }
    }
    fn by_ms(&self, definition: &Definition, state: &State, token: &Token) -> Option<u64> {
        let by_ms = self.books_by_ms(definition, state);
        token.stand.booked_ms().is_none().then_some(by_ms)
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Appointment, "visit"))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let by_ms = self.books_by_ms(engine.definition, &engine.state);
        let Some(Stand::Booking { proposed, .. }) =
            engine.token(n).map(|token| token.stand.clone())
        else {
            return;
        };
        if by_ms <= engine.context.now_ms {
            // Proposing what can't be booked any more would only confuse the patient.
            let target = self.not_booked.clone().unwrap_or_default();
            engine.learn(&step.id, "status", json!("too-late"));
            engine.leave(n, "not booked", &target);
            return;
        }
        let appointment = engine.resource_id(n, "visit");
        engine.effects.push(Effect::ProposeVisit {
            step: step.id.clone(),
            appointment,
            start_ms: proposed.start_ms,
            end_ms: proposed.end_ms,
            by_ms,
        });
        if self.invitation.is_some() {
            engine.send(step, n, Which::Invitation, 0);
        }
    }
    fn timers(
        &self,
        definition: &Definition,
        state: &State,
        token: &Token,
    ) -> Vec<(&'static str, u64)> {
        match &token.stand {
            // Somebody may still say that the patient did not come, so the day is waited out.
            Stand::Booking {
                booked: Some(slot), ..
            } => {
                let mut timers = vec![("over", slot.end_ms + DAY_MS)];
                let next = self.reminders.as_ref();
                let next = next.and_then(|reminders| reminders.next(definition, &token.stand));
                timers.extend(next.map(|next| (remind::TIMER, next.at_ms)));
                timers
            }
            Stand::Booking {
                booked: None,
                proposed,
                ..
            } => {
                let by_ms = self.books_by_ms(definition, state);
                let mut timers = vec![("by", by_ms)];
                let next = self.invitation.as_ref();
                let asks_ms = by_ms.min(proposed.start_ms);
                let next = next.and_then(|invitation| invitation.next(token, asks_ms));
                timers.extend(next.map(|next| (invite::TIMER, next.at_ms)));
                timers
            }
            _ => Vec::new(),
        }
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        slot: &str,
    ) -> Result<(), EngineError> {
        let Stand::Booking { booked, .. } = &token.stand else {
            return Err(EngineError::NoStep(token.step.clone()));
        };
        if slot == remind::TIMER {
            if let Some(reminders) = &self.reminders {
                // What still says that it is booked is called off with the reminder before.
                confirm::arrived_or_not(engine, token.n);
                reminders.due(engine, step, token);
            }
            return Ok(());
        }
        if slot == invite::TIMER {
            // Nobody is asked to book what is over already.
            let by_ms = match &token.stand {
                Stand::Booking { proposed, .. } => proposed.start_ms,
                _ => u64::MAX,
            };
            let by_ms = by_ms.min(self.books_by_ms(engine.definition, &engine.state));
            if let Some(invitation) = &self.invitation {
                invitation.due(engine, step, token, by_ms);
            }
            return Ok(());
        }
        if booked.is_some() {
            engine.call_off(token, CALLED_OFF, "The visit is over");
            engine.leave(token.n, "visit over", &self.next);
            return Ok(());
        }
        engine.call_off(token, CALLED_OFF, NOT_IN_TIME);
        let appointment = engine.resource_id(token.n, "visit");
        engine.effects.push(Effect::CancelVisit {
            appointment,
            why: NOT_IN_TIME.to_owned(),
        });
        engine.learn(&step.id, "status", json!("not-booked"));
        let target = self.not_booked.clone().unwrap_or_default();
        engine.leave(token.n, "not booked", &target);
        Ok(())
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(token.stand, Stand::Booking { .. })
            && matches!(fact, Fact::Visit { id, .. } if engine.resource_id(token.n, "visit") == *id)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        let (
            Fact::Visit {
                status,
                start_ms,
                end_ms,
                ..
            },
            Stand::Booking {
                proposed, booked, ..
            },
        ) = (fact, &token.stand)
        else {
            return;
        };
        let not_booked = self.not_booked.clone().unwrap_or_default();
        let (label, target) = match status.as_str() {
            "booked" => {
                let start_ms = start_ms.unwrap_or(proposed.start_ms);
                let slot = self.slot(start_ms, *end_ms);
                if *booked != Some(slot) {
                    self.booked(engine, step, token, slot);
                }
                return;
            }
            "arrived" | "checked-in" | "fulfilled" => ("visit over", &self.next),
            "cancelled" | "entered-in-error" => ("not booked", &not_booked),
            "noshow" => ("missed", self.missed.as_ref().unwrap_or(&not_booked)),
            _ => {
                if let (None, Some(start_ms)) = (booked, start_ms) {
                    self.proposed_anew(engine, token.n, *start_ms, *end_ms);
                }
                return;
            }
        };
        engine.learn(&step.id, "status", json!(status));
        if let Some(confirmation) = self.confirmation.as_ref().filter(|_| label == "not booked") {
            confirmation.called_off(engine, step, token);
        }
        let why = match label {
            "visit over" => "The visit has begun",
            "missed" => "The patient did not come",
            _ => "The visit was called off",
        };
        engine.call_off(token, CALLED_OFF, why);
        engine.leave(token.n, label, target);
    }
    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        let status = match way.label.as_str() {
            "visit over" => "fulfilled",
            "missed" => "noshow",
            _ => "not-booked",
        };
        engine.learn(&step.id, "status", json!(status));
        engine.leave(token.n, &way.label, way.target);
    }
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, _: bool) {
        if matches!(token.stand, Stand::Booking { booked: None, .. }) {
            let appointment = engine.resource_id(token.n, "visit");
            engine.effects.push(Effect::CancelVisit {
                appointment,
                why: why.to_owned(),
            });
        }
    }

    fn messages(&self) -> Vec<(&'static [&'static str], &Message)> {
        let invitation = self.invitation.as_ref();
        let invitation = invitation.map(|invitation| (ASKS, &invitation.message));
        let reminders = self.reminders.as_ref();
        let reminders = reminders.map(|reminders| (WHOLE, &reminders.message));
        let confirmation = self.confirmation.as_ref();
        let confirmation = confirmation.map(|confirmation| (CONFIRMS, &confirmation.message));
        let all = invitation.into_iter().chain(confirmation);
        all.chain(reminders).collect()
    }
    fn topic(&self) -> Topic {
        Topic::Visits
    }
    fn message_of(&self, which: Which) -> Option<&Message> {
        match which {
            Which::Invitation | Which::Again { .. } => {
                let invitation = self.invitation.as_ref();
                invitation.map(|invitation| &invitation.message)
            }
            Which::Ahead { .. } => {
                let reminders = self.reminders.as_ref();
                reminders.map(|reminders| &reminders.message)
            }
            Which::Booked { .. } | Which::CalledOff { .. } => {
                let confirmation = self.confirmation.as_ref();
                confirmation.map(|confirmation| &confirmation.message)
            }
            Which::Message | Which::Reminder => None,
        }
    }
    fn sends(&self) -> Vec<(&Message, u64)> {
        let invitation = self.invitation.iter().flat_map(|invitation| {
            let after = invitation.after_ms();
            after.map(move |after_ms| (&invitation.message, after_ms))
        });
        let reminders = self.reminders.iter().flat_map(|reminders| {
            let apart = reminders.apart_ms().into_iter();
            apart.map(move |after_ms| (&reminders.message, after_ms))
        });
        let confirmation = self.confirmation.iter();
        let confirmation = confirmation.map(|confirmation| (&confirmation.message, 0));
        invitation.chain(confirmation).chain(reminders).collect()
    }
    fn wording(&self, which: Which) -> Option<(&Template, String)> {
        if let Which::Ahead { .. } = which {
            let message = self.message_of(which)?;
            return Some((&message.words, format!("Reminder: {}", message.title)));
        }
        if let Which::Booked { .. } | Which::CalledOff { .. } = which {
            return self.confirmation.as_ref()?.wording(which);
        }
        self.invitation.as_ref()?.wording(which)
    }
    fn under_way(&self, stand: &Stand) -> Vec<(Which, u8)> {
        let invited = invite::on_the_way(stand).into_iter();
        let told = confirm::on_the_way(stand).into_iter();
        let all = invited.chain(told).chain(remind::on_the_way(stand));
        all.collect()
    }
    fn calendar(&self, stand: &Stand) -> Option<Calendar> {
        self.confirmation.as_ref()?.calendar(stand)
    }
    fn goes_out(
        &self,
        stand: &mut Stand,
        which: Which,
        channel: u8,
        _: u64,
        now_ms: u64,
    ) -> Option<u64> {
        match which {
            Which::Ahead { .. } => remind::goes_out(stand, which, channel, now_ms),
            Which::Booked { .. } => confirm::goes_out(stand, which, channel, now_ms),
            _ => invite::goes_out(stand, which, channel, now_ms),
        }
    }
    fn delivered(&self, engine: &mut Engine<'_>, _: &Step, n: u32, _: Channel) {
        // Of all kinds one alone is ever on its way.
        invite::arrived_or_not(engine, n);
        confirm::arrived_or_not(engine, n);
        remind::arrived_or_not(engine, n);
    }
    /// The visit is waited for whether or not the patient could be told of it; the trail says that they weren't.
    fn undelivered(&self, engine: &mut Engine<'_>, n: u32, which: Which) {
        match which {
            Which::Ahead { .. } => remind::arrived_or_not(engine, n),
            Which::Booked { .. } => confirm::arrived_or_not(engine, n),
            _ => invite::arrived_or_not(engine, n),
        }
    }

    fn taken_over(&self, engine: &mut Engine<'_>, step: &Step, n: u32, before: &Node) {
        invite::taken_over(self.invitation.as_ref(), engine, step, n, before);
        if let Some(reminders) = &self.reminders {
            reminders.taken_over(engine, step, n, before);
        }
    }
    fn carried(&self, stand: &Stand, before: &Node, after: &Node) -> Carried {
        if remind::on_the_way(stand).is_some() {
            return Carried::Later("a reminder of a visit is on its way");
        }
        if invite::on_the_way(stand).is_some() || confirm::on_the_way(stand).is_some() {
            return Carried::Later("a message about a visit is on its way");
        }
        let times = ["title", "time", "minutes", BY, "book_by"];
        // What is booked is booked, whatever would be proposed today.
        let booked = matches!(
            stand,
            Stand::Booking {
                booked: Some(_),
                ..
            }
        );
        if booked || same_of(before, after, KIND.name, &times) {
            Carried::As
        } else {
            Carried::Anew
        }
    }

    fn shown(&self) -> Option<(&str, &Template)> {
        self.words
            .as_ref()
            .map(|words| (self.title.as_str(), words))
    }
    fn promise(&self) -> String {
        format!("We will offer you a visit: {}", self.title)
    }
    fn waiting(&self, definition: &Definition, state: &State, token: &Token) -> Option<Waiting> {
        let Stand::Booking {
            proposed, booked, ..
        } = &token.stand
        else {
            return None;
        };
        let zone = &definition.zone;
        Some(match booked {
            Some(slot) => {
                let (day, time) = (say_day(slot.start_ms, zone), say_time(slot.start_ms, zone));
                let next = self.reminders.as_ref();
                let next = next.and_then(|reminders| reminders.next(definition, &token.stand));
                let next = next.map_or_else(String::new, |next| {
                    let at = say_minute(next.at_ms, zone);
                    format!("; the next reminder goes out at {at}")
                });
                Waiting {
                    what: format!("Visit booked for {day}, {time}{next}"),
                    plain: format!("Your visit: {}, {day} at {time}", self.title),
                    until_ms: Some(slot.start_ms),
                }
            }
            None => {
                let by_ms = self.books_by_ms(definition, state);
                let next = self.invitation.as_ref();
                let asks_ms = by_ms.min(proposed.start_ms);
                let next = next.and_then(|invitation| invitation.next(token, asks_ms));
                let next = next.map_or_else(String::new, |next| {
                    let at = say_minute(next.at_ms, zone);
                    format!("; the next reminder goes out at {at}")
                });
                Waiting {
                    what: format!(
                        "Waits for the visit to be booked (proposed for {}){next}",
                        say_day(proposed.start_ms, zone)
                    ),
                    plain: format!("Please book your visit: {}", self.title),
                    until_ms: Some(by_ms),
                }
            }
        })
    }
    fn entered(&self, title: &str) -> Option<String> {
        Some(format!("Visit proposed: {title}"))
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        match what {
            What::Entered => Some(Plan {
                what: format!("Visit proposed: {}", step.title),
                plain: crate::words::plain(step),
            }),
            What::Sent {
                which: which @ Which::Ahead { .. },
                ..
            } => Some(Plan {
                what: format!("{}: {}", crate::words::capital(&which.say()), step.title),
                plain: format!("We will remind you of your visit: {}", self.title),
            }),
            What::Sent {
                which: which @ Which::Again { .. },
                ..
            } => Some(Plan {
                what: format!("{}: {}", crate::words::capital(&which.say()), step.title),
                plain: format!("We will remind you if you have not booked: {}", self.title),
            }),
            What::Left { label, .. } if label == "not booked" => Some(Plan {
                what: format!("Given up on if not booked: {}", step.title),
                plain: "Please book your visit before this day.".to_owned(),
            }),
            _ => None,
        }
    }
    fn arranged(&self, definition: &Definition, step: &Step, token: &Token) -> Option<(u64, Plan)> {
        let Stand::Booking {
            booked: Some(slot), ..
        } = &token.stand
        else {
            return None;
        };
        let plan = Plan {
            what: format!("Visit: {}", step.title),
            plain: format!(
                "Your visit, {} at {}",
                say_day(slot.start_ms, &definition.zone),
                say_time(slot.start_ms, &definition.zone)
            ),
        };
        Some((slot.start_ms, plan))
    }

    fn names_patient(&self) -> bool {
        true
    }
    fn resource(
        &self,
        maker: &Maker<'_>,
        _: &dyn Ids,
        step: &Step,
        effect: &Effect,
    ) -> Option<Resource> {
        let Effect::ProposeVisit {
            appointment,
            start_ms,
            end_ms,
            by_ms,
            ..
        } = effect
        else {
            return None;
        };
        let times = Times {
            due_ms: Some(*by_ms),
            visit_ms: Some(*start_ms),
        };
        let mut visit = resource(
            ResourceType::Appointment,
            appointment,
            json!({
                "identifier": maker.identifiers(&step.id),
                "status": "proposed",
                "description": self.title,
                "start": fhir::date::instant(*start_ms),
                "end": fhir::date::instant(*end_ms),
                "minutesDuration": self.minutes,
                "created": maker.now(),
                "patientInstruction": self.words.as_ref().map(|words| maker.words(words, times)),
                "participant": [{"actor": maker.subject(), "status": "needs-action"}],
                "requestedPeriod": [{"end": fhir::date::instant(*by_ms)}],
            }),
        );
        if self.by_video {
            visit.set("extension", trust::conventions::by_video());
        }
        Some(visit)
    }
}

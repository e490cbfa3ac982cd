//! Word of a booked visit: that it is booked, that it was moved, that it was called off; with an entry for the patient's
//! calendar, if the step says so.
//!
//! That it is booked, or moved, is a message of the place, known by how often a time was booked. That it was called off is
//! told when the place is left already: nobody waits for the receipt, and it goes out at once.

use super::Book;
use super::remind::{on_its_way, passes};
use crate::check::Check;
use crate::decode::build::{flag, line, message_with, template};
use crate::definition::{Channel, Message, Step};
use crate::engine::{About, Calendar, Engine};
use crate::spec::{
    BECAUSE, CHANNELS, Clearance, EMAIL_MEMBER, Record, SMS_MEMBER, Shape,
    TRANSLATION_OF_A_CONFIRMATION, TRANSLATIONS, URGENCY, VOICE_MEMBER, WHILE_ADMITTED, may, must,
};
use crate::state::{OnTheWay, Stand, Token, Told, Which};
use crate::template::Template;
use crate::time::Slot;
use crate::yaml::Node;

/// The member of a `book`.
pub(super) const CONFIRM: &str = "confirm";
/// What is said of a visit that was called off where the file doesn't say it.
const CALLED_OFF_WORDS: &str = "Your visit on {visit.day} at {visit.time} was called off.";

pub(super) static CONFIRMATION: Record = Record {
    name: "confirmation of a visit",
    doc: "Messages that say that the visit is booked, that it was moved, and that a booked one was called off. Their heading is the visit's `title`. That it was called off goes out at once, whatever the hour and however many messages the patient has had: who isn't told comes in vain.",
    one_of: &[],
    fields: &[
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "The message when it is booked, and when it was moved, behind login. `{visit.day}` and `{visit.time}` are those that are booked.",
        ),
        may(
            "called_off",
            Shape::Words(Clearance::Closed),
            "The message when it was called off; a sentence with day and time if not given.",
        ),
        may(
            "calendar",
            Shape::Flag,
            "Whether the e-mails, and those of the reminders, bring an entry for the patient's calendar, which follows when the visit is moved and goes when it is called off; `false` if not given. It says day and time, who sends it, and “Appointment”: anybody who reads the mailbox can see that there is one.",
        ),
        may(
            "channels",
            CHANNELS,
            "Channels of all of them, in order of fall-back; `[email, portal]` if not given.",
        ),
        EMAIL_MEMBER,
        SMS_MEMBER,
        VOICE_MEMBER,
        may(
            "urgency",
            URGENCY,
            "How much they can't wait where messages are limited; `routine` if not given.",
        ),
        may("because", Shape::Line, BECAUSE),
        WHILE_ADMITTED,
        may(
            TRANSLATIONS,
            Shape::Languages(&TRANSLATION_OF_A_CONFIRMATION),
            "The same in other languages; whoever prefers none of them gets them in the journey's own.",
        ),
    ],
};

#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) message: Message,
    called_off: Template,
    calendar: bool,
}

/// What confirms the visit, if something does; nothing at all where it can't be read.
#[allow(
    clippy::option_option,
    reason = "a step that confirms nothing is one that can be read"
)]
pub(super) fn decode(body: &Node) -> Option<Option<Confirmation>> {
    let Some(node) = body.get(CONFIRM) else {
        return Some(None);
    };
    let words = template(node.get("words")?)?;
    let called_off = match node.get("called_off") {
        Some(words) => template(words)?,
        None => Template::parse(CALLED_OFF_WORDS).ok()?,
    };
    Some(Some(Confirmation {
        message: message_with(node, line(body, "title")?, words)?,
        called_off,
        calendar: flag(node, "calendar").unwrap_or(false),
    }))
}

fn told_mut(stand: &mut Stand) -> Option<&mut Told> {
    match stand {
        Stand::Booking { told, .. } => told.as_mut(),
        _ => None,
    }
}

fn told(stand: &Stand) -> Option<&Told> {
    match stand {
        Stand::Booking { told, .. } => told.as_ref(),
        _ => None,
    }
}

/// The message that is on its way, with the place of its channel.
pub(super) fn on_the_way(stand: &Stand) -> Option<(Which, u8)> {
    let told = told(stand)?;
    let on_the_way = told.on_the_way.as_ref()?;
    Some((Which::Booked { time: told.time }, on_the_way.channel))
}

/// Notes by which channel a message goes, and says until when it may. One of a time that is not booked any more goes by
/// none.
pub(super) fn goes_out(stand: &mut Stand, which: Which, channel: u8, now_ms: u64) -> Option<u64> {
    let current = on_the_way(stand).is_some_and(|(current, _)| current == which);
    let told = told_mut(stand).filter(|_| current)?;
    on_its_way(&mut told.on_the_way, channel, now_ms)
}

/// What became of the message that was on its way is known, or nobody needs it any more.
pub(super) fn arrived_or_not(engine: &mut Engine<'_>, n: u32) {
    if let Some(told) = engine.stand_mut(n).and_then(told_mut) {
        told.on_the_way = None;
    }
}

impl Confirmation {
    pub(super) fn wording(&self, which: Which) -> Option<(&Template, String)> {
        let Message { title, words, .. } = &self.message;
        match which {
            Which::Booked { time: 1 } => Some((words, title.clone())),
            Which::Booked { .. } => Some((words, format!("New time: {title}"))),
            Which::CalledOff { .. } => Some((&self.called_off, format!("Called off: {title}"))),
            _ => None,
        }
    }

    /// The entry in the patient's calendar of a visit that is booked.
    pub(super) fn calendar(&self, stand: &Stand) -> Option<Calendar> {
        let Stand::Booking {
            booked: Some(slot),
            told: Some(told),
            ..
        } = stand
        else {
            return None;
        };
        self.calendar.then(|| Calendar {
            end_ms: slot.end_ms,
            sequence: told.time.saturating_sub(1),
            cancelled: false,
        })
    }

    /// A time was booked.
    pub(super) fn begin(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, slot: Slot) {
        if let Some(paused) = &mut engine.state.paused {
            let is_it = |which| matches!(which, Which::Booked { .. });
            paused
                .unsent
                .retain(|unsent| unsent.n != token.n || !is_it(unsent.which));
        }
        let before = told(&token.stand).map_or(0, |told| told.time);
        let time = before.saturating_add(1);
        let is_ahead = slot.start_ms > engine.context.now_ms;
        if let Some(Stand::Booking { told, .. }) = engine.stand_mut(token.n) {
            *told = Some(Told {
                time,
                on_the_way: is_ahead.then_some(OnTheWay {
                    minutes: 0,
                    channel: 0,
                    until_ms: slot.start_ms,
                }),
            });
        }
        let which = Which::Booked { time };
        if is_ahead {
            engine.send(step, token.n, which, 0);
        } else {
            passes(engine, step, which);
        }
    }

    /// The booked visit was called off, and the place is about to be left.
    pub(super) fn called_off(&self, engine: &mut Engine<'_>, step: &Step, token: &Token) {
        let Stand::Booking {
            booked: Some(slot),
            told,
            ..
        } = &token.stand
        else {
            return;
        };
        // Nothing was told of one that was booked before its file said so, and that it is off is news all the same.
        let time = told.as_ref().map_or(0, |told| told.time);
        // Nobody comes in vain to what has begun.
        if slot.start_ms <= engine.context.now_ms {
            return;
        }
        let about = About::Visit {
            appointment: engine.resource_id(token.n, "visit"),
            start_ms: slot.start_ms,
            by_ms: None,
            calendar: self.calendar.then_some(Calendar {
                end_ms: slot.end_ms,
                sequence: time,
                cancelled: true,
            }),
        };
        let which = Which::CalledOff { n: token.n, time };
        engine.tell(step, which, 0, about);
    }
}

impl Book {
    pub(super) fn check_confirmation(&self, check: &mut Check<'_, '_>, step: &Step) {
        let Some(confirmation) = &self.confirmation else {
            return;
        };
        let templates = [
            ("words", &confirmation.message.words),
            ("called_off", &confirmation.called_off),
        ];
        for (name, words) in templates {
            if words.variables().any(|(name, ..)| name == "due.day") {
                let place = check.at(step, &["book", CONFIRM, name]);
                let words = "`{due.day}` has no meaning once the visit is booked; name its day with `{visit.day}`";
                check.findings.error("J018", place, words);
            }
        }
        if confirmation.calendar && !confirmation.message.channels.contains(&Channel::Email) {
            let place = check.at(step, &["book", CONFIRM, "calendar"]);
            let words = "an entry for a calendar comes by e-mail, which is not among `channels`: add it, or remove `calendar`";
            check.findings.error("J059", place, words);
        }
    }
}

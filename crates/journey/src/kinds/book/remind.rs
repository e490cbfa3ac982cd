//! Reminders before a booked visit.
//!
//! Each is a message of its own, known by the time that was booked and by how long before it goes. At most one is on
//! its way: when the next is due, the one before is called off if it still waits.

use super::Book;
use crate::check::Check;
use crate::decode::build::{line, message_with, template};
use crate::definition::{Definition, Message, Step};
use crate::engine::{CALLED_OFF, Engine};
use crate::spec::TRANSLATIONS;
use crate::state::{OnTheWay, Reminded, Stand, Token, What, Which};
use crate::template::Template;
use crate::time::{self, DAY_MS, MINUTE_MS, say_duration};
use crate::yaml::{Node, Place};
use jiff::civil::Time;

/// The timer of the next reminder.
pub(super) const TIMER: &str = "remind";
/// Most reminders of one visit.
pub(super) const MOST: usize = 6;
/// How long a channel may take before the next is tried, where no reminder and no visit comes before.
const CHANNEL_MS: u64 = DAY_MS;
/// What a reminder says where the file doesn't.
const WORDS: &str = "Please remember your visit on {visit.day} at {visit.time}.";
/// Members that say something of reminders alone.
const OF_REMINDERS: [&str; 7] = [
    "reminder",
    "channels",
    "email",
    "sms",
    "urgency",
    "because",
    TRANSLATIONS,
];

#[derive(Debug)]
pub(super) struct Reminders {
    pub(super) message: Message,
    /// How long before the visit.
    minutes: Vec<u32>,
}

/// A reminder and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    minutes: u32,
    pub(super) at_ms: u64,
}

/// The lengths of a list in the file.
pub(super) fn lengths(body: &Node, name: &str) -> Vec<(u32, Place)> {
    let items = body.get(name).map(Node::items).unwrap_or_default();
    let lengths = items.iter().filter_map(|item| {
        let length_ms = time::duration(item.text()?).ok()?;
        Some((u32::try_from(length_ms / MINUTE_MS).ok()?, item.place))
    });
    lengths.collect()
}

pub(super) fn length_ms(minutes: u32) -> u64 {
    u64::from(minutes) * MINUTE_MS
}

/// The reminders of a step, if it has any; nothing at all where its body can't be read.
#[allow(
    clippy::option_option,
    reason = "a step without reminders is one that can be read"
)]
pub(super) fn decode(body: &Node) -> Option<Option<Reminders>> {
    if body.get("remind").is_none() {
        return Some(None);
    }
    let words = match body.get("reminder") {
        Some(words) => template(words)?,
        None => Template::parse(WORDS).ok()?,
    };
    let lengths = lengths(body, "remind").into_iter();
    Some(Some(Reminders {
        message: message_with(body, line(body, "title")?, words)?,
        minutes: lengths.map(|(minutes, _)| minutes).collect(),
    }))
}

/// The reminder that is on its way, with the place of its channel.
pub(super) fn on_the_way(stand: &Stand) -> Option<(Which, u8)> {
    let Stand::Booking {
        reminded: Some(reminded),
        ..
    } = stand
    else {
        return None;
    };
    let on_the_way = reminded.on_the_way.as_ref()?;
    let which = Which::Ahead {
        time: reminded.time,
        minutes: on_the_way.minutes,
    };
    Some((which, on_the_way.channel))
}

fn reminded_mut(stand: &mut Stand) -> Option<&mut Reminded> {
    match stand {
        Stand::Booking { reminded, .. } => reminded.as_mut(),
        _ => None,
    }
}

/// Notes by which channel a reminder goes, and says until when it may. One of a time that is not booked any more goes
/// by none, and so does one by another channel when its time is over.
pub(super) fn goes_out(stand: &mut Stand, which: Which, channel: u8, now_ms: u64) -> Option<u64> {
    let current = on_the_way(stand).is_some_and(|(current, _)| current == which);
    let reminded = reminded_mut(stand).filter(|_| current)?;
    on_its_way(&mut reminded.on_the_way, channel, now_ms)
}

/// The same of any message about a visit that is the one on its way.
pub(super) fn on_its_way(message: &mut Option<OnTheWay>, channel: u8, now_ms: u64) -> Option<u64> {
    let on_the_way = message.as_mut()?;
    if on_the_way.channel != channel && on_the_way.until_ms <= now_ms {
        *message = None;
        return None;
    }
    on_the_way.channel = channel;
    Some(on_the_way.until_ms.min(now_ms + CHANNEL_MS))
}

/// What became of the reminder that was on its way is known.
pub(super) fn arrived_or_not(engine: &mut Engine<'_>, n: u32) {
    if let Some(reminded) = engine.stand_mut(n).and_then(reminded_mut) {
        reminded.on_the_way = None;
    }
}

/// Notes that all that was due until now is done with.
fn done(engine: &mut Engine<'_>, n: u32, time: u32) {
    let done_ms = engine.context.now_ms;
    if let Some(Stand::Booking { reminded, .. }) = engine.stand_mut(n) {
        *reminded = Some(Reminded {
            time,
            done_ms,
            on_the_way: None,
        });
    }
}

impl Reminders {
    /// All of them for a visit that begins then, soonest first.
    fn ahead(&self, definition: &Definition, start_ms: u64) -> Vec<Ahead> {
        let at = |minutes: u32| time::before(start_ms, length_ms(minutes), &definition.zone);
        let minutes = self.minutes.iter();
        let mut ahead: Vec<Ahead> = minutes
            .map(|minutes| Ahead {
                minutes: *minutes,
                at_ms: at(*minutes),
            })
            .collect();
        ahead.sort_by_key(|ahead| ahead.at_ms);
        ahead
    }

    /// The next that isn't done with.
    pub(super) fn next(&self, definition: &Definition, stand: &Stand) -> Option<Ahead> {
        let Stand::Booking {
            reminded: Some(reminded),
            ..
        } = stand
        else {
            return None;
        };
        let ahead = self.ahead(definition, stand.booked_ms()?);
        ahead
            .into_iter()
            .find(|ahead| ahead.at_ms > reminded.done_ms)
    }

    /// How long after the first the others come. When the first comes hangs on when the visit is booked; it is taken
    /// to be at once.
    pub(super) fn apart_ms(&self) -> Vec<u64> {
        let longest = self.minutes.iter().copied().max().unwrap_or_default();
        let apart = self.minutes.iter();
        apart.map(|minutes| length_ms(longest - minutes)).collect()
    }

    /// A time was booked: the reminders are of this one from now on. Those whose time has passed already are passed
    /// over, because the patient has just heard of the visit.
    pub(super) fn begin(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, start_ms: u64) {
        engine.call_off(token, CALLED_OFF, "The visit was moved");
        if let Some(paused) = &mut engine.state.paused {
            paused.unsent.retain(|unsent| unsent.n != token.n);
        }
        let before = match &token.stand {
            Stand::Booking { reminded, .. } => reminded.as_ref().map_or(0, |before| before.time),
            _ => 0,
        };
        let (time, now_ms) = (before.saturating_add(1), engine.context.now_ms);
        done(engine, token.n, time);
        for ahead in self.ahead(engine.definition, start_ms) {
            if ahead.at_ms <= now_ms {
                passed(engine, step, time, ahead);
            }
        }
    }

    /// Reminds. Where several are due at once, nobody was awake when the first were: the last is enough.
    pub(super) fn due(&self, engine: &mut Engine<'_>, step: &Step, token: &Token) {
        let Stand::Booking {
            booked: Some(slot),
            reminded: Some(reminded),
            ..
        } = &token.stand
        else {
            return;
        };
        let (n, time, now_ms) = (token.n, reminded.time, engine.context.now_ms);
        let ahead = self.ahead(engine.definition, slot.start_ms);
        let mut due: Vec<Ahead> = ahead.clone();
        due.retain(|ahead| ahead.at_ms > reminded.done_ms && ahead.at_ms <= now_ms);
        engine.call_off(token, CALLED_OFF, "The next reminder is due");
        done(engine, n, time);
        let last = if slot.start_ms > now_ms {
            due.pop()
        } else {
            None
        };
        for ahead in due {
            passed(engine, step, time, ahead);
        }
        let Some(last) = last else { return };
        let next = ahead.iter().find(|ahead| ahead.at_ms > now_ms);
        let until_ms = next.map_or(slot.start_ms, |next| next.at_ms);
        if let Some(reminded) = engine.stand_mut(n).and_then(reminded_mut) {
            reminded.on_the_way = Some(OnTheWay {
                minutes: last.minutes,
                channel: 0,
                until_ms,
            });
        }
        let which = Which::Ahead {
            time,
            minutes: last.minutes,
        };
        engine.send(step, n, which, 0);
    }

    /// Another version leads on. What the version before would have reminded of in the past is done with; a reminder
    /// that is due now goes out all the same, by what this version says.
    pub(super) fn taken_over(&self, engine: &mut Engine<'_>, step: &Step, n: u32, before: &Node) {
        let Some(token) = engine.token(n).cloned() else {
            return;
        };
        let Stand::Booking {
            booked: Some(slot),
            reminded,
            ..
        } = token.stand
        else {
            return;
        };
        // Counted anew, so that no message of this version has the name of one of the version before.
        let time = reminded
            .as_ref()
            .map_or(1, |before| before.time.saturating_add(1));
        let now_ms = engine.context.now_ms;
        let before = before.get("book").map(|body| lengths(body, "remind"));
        let before = before.unwrap_or_default();
        let known = |minutes: u32| before.iter().any(|(known, _)| *known == minutes);
        let done_ms = reminded.map_or(0, |reminded| reminded.done_ms);
        let mut due = self.ahead(engine.definition, slot.start_ms);
        due.retain(|ahead| ahead.at_ms > done_ms && ahead.at_ms <= now_ms);
        let overdue = due.iter().any(|ahead| known(ahead.minutes));
        done(engine, n, time);
        if overdue {
            if let Some(reminded) = engine.stand_mut(n).and_then(reminded_mut) {
                reminded.done_ms = done_ms;
            }
            return;
        }
        for ahead in due {
            passed(engine, step, time, ahead);
        }
    }
}

/// A reminder is not sent, which the trail says.
fn passed(engine: &mut Engine<'_>, step: &Step, time: u32, ahead: Ahead) {
    let which = Which::Ahead {
        time,
        minutes: ahead.minutes,
    };
    passes(engine, step, which);
}

/// A message about a visit is not sent, which the trail says.
pub(super) fn passes(engine: &mut Engine<'_>, step: &Step, which: Which) {
    engine.trail(&step.id, What::Passed { which }, None);
}

/// A time of day, in milliseconds.
fn of_day_ms(time: Time) -> i64 {
    let minutes = i64::from(time.hour()) * 60 + i64::from(time.minute());
    minutes * i64::try_from(MINUTE_MS).unwrap_or(0)
}

impl Book {
    /// How long the proposed visit is from when it must be booked, where that is known.
    fn room_ms(&self) -> Option<u64> {
        let (by, on) = (&self.book_by, &self.on);
        if by.anchor != on.anchor || by.at.is_some() != on.at.is_some() {
            return None;
        }
        let of_day = |at: Option<Time>| at.map_or(0, of_day_ms);
        let room_ms = on.offset_ms - by.offset_ms + of_day(on.at) - of_day(by.at);
        u64::try_from(room_ms).ok()
    }

    pub(super) fn check_reminders(&self, check: &mut Check<'_, '_>, step: &Step) {
        let Some(body) = check.node(step, &["book"]) else {
            return;
        };
        let lengths = lengths(body, "remind");
        let idle = OF_REMINDERS.iter().filter(|_| self.reminders.is_none());
        let idle: Vec<(&str, Place)> = idle
            .filter_map(|name| Some((*name, body.get(name)?.place)))
            .collect();
        let words = body.get("reminder").map(|words| words.place);
        for (name, place) in idle {
            let words = format!(
                "`{name}` is for reminders, and there are none: give `remind`, or remove it"
            );
            check.findings.error("J059", place, words);
        }
        let Some(reminders) = &self.reminders else {
            return;
        };
        if let Some(place) = words
            && reminders
                .message
                .words
                .variables()
                .any(|(name, ..)| name == "due.day")
        {
            check.findings.error(
                "J018",
                place,
                "`{due.day}` has no meaning in a reminder of a visit; name its day with `{visit.day}`",
            );
        }
        if lengths.len() > MOST {
            let place = check.at(step, &["book", "remind"]);
            check.findings.error(
                "J059",
                place,
                format!(
                    "{} reminders of one visit; there may be {MOST}",
                    lengths.len()
                ),
            );
        }
        let room_ms = self.room_ms();
        for (index, (minutes, place)) in lengths.iter().enumerate() {
            let earlier = &lengths[..index];
            let length_ms = length_ms(*minutes);
            let said = say_duration(length_ms);
            if earlier.iter().any(|(earlier, _)| earlier == minutes) {
                let words = format!("the reminder {said} before the visit stands twice");
                check.findings.error("J059", *place, words);
            } else if earlier.last().is_some_and(|(last, _)| last < minutes) {
                let words = format!(
                    "the reminder {said} before the visit comes before the one above it; put the longest first"
                );
                check.findings.warning("J059", *place, words);
            }
            if let Some(room_ms) = room_ms.filter(|room_ms| *room_ms < length_ms) {
                let words = format!(
                    "who books just before `book_by` is not reminded {said} before the visit: it is {} from then",
                    say_duration(room_ms)
                );
                check.findings.warning("J059", *place, words);
            }
        }
    }
}

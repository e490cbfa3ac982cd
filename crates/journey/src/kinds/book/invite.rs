//! Messages that ask the patient to book a visit: one with the proposal, and reminders while it isn't booked.
//!
//! Each is known by the place and by how long after the proposal it goes. At most one is on its way: when the next is
//! due, the one before is called off if it still waits. All of that ends when the visit is booked or the place is left.

use super::Book;
use super::remind::{MOST, length_ms, lengths, on_its_way, passes};
use crate::check::Check;
use crate::decode::build::{line, message_with, template};
use crate::definition::{Definition, Message, Step};
use crate::engine::{CALLED_OFF, Engine, moment};
use crate::spec::{
    BECAUSE, CHANNELS, Clearance, EMAIL_MEMBER, Record, SMS_MEMBER, START_ANCHOR, Shape,
    TRANSLATION_OF_A_PROPOSAL, TRANSLATIONS, URGENCY, VOICE_MEMBER, WHILE_ADMITTED, may, must,
};
use crate::state::{Invited, OnTheWay, Stand, State, Token, Which};
use crate::template::Template;
use crate::time::{DAY_MS, say_duration};
use crate::yaml::{Node, Place};

/// The member of a `book`.
pub(super) const INVITE: &str = "invite";
/// The timer of the next reminder.
pub(super) const TIMER: &str = "again";

pub(super) static INVITATION: Record = Record {
    name: "invitation to a visit",
    doc: "A message with the proposal, and reminders until it is booked. Their heading is the visit's `title`. None is sent any more once the visit is booked or called off, `book_by` is over, or the patient is led elsewhere; what has not left then is called off.",
    one_of: &[],
    fields: &[
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "The message, behind login. `{visit.day}` and `{visit.time}` are those that are proposed, `{due.day}` is the day of `book_by`.",
        ),
        may(
            "again",
            Shape::List(&Shape::Duration),
            "How long after the proposal the patient is reminded while the visit isn't booked, the shortest first, e.g. `[3d, 7d]`; at most six.",
        ),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "Words of those reminders; `words` if not given.",
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
            Shape::Languages(&TRANSLATION_OF_A_PROPOSAL),
            "The same in other languages; whoever prefers none of them gets them in the journey's own.",
        ),
    ],
};

#[derive(Debug)]
pub(super) struct Invitation {
    pub(super) message: Message,
    reminder: Option<Template>,
    /// How long after the proposal reminders go.
    again: Vec<u32>,
}

/// A reminder and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    minutes: u32,
    pub(super) at_ms: u64,
}

/// What asks the patient to book, if something does; nothing at all where it can't be read.
#[allow(
    clippy::option_option,
    reason = "a step that asks nobody is one that can be read"
)]
pub(super) fn decode(body: &Node) -> Option<Option<Invitation>> {
    let Some(node) = body.get(INVITE) else {
        return Some(None);
    };
    let words = template(node.get("words")?)?;
    let again = lengths(node, "again").into_iter();
    Some(Some(Invitation {
        message: message_with(node, line(body, "title")?, words)?,
        reminder: node.get("reminder").and_then(template),
        again: again.map(|(minutes, _)| minutes).collect(),
    }))
}

/// The words of a message that goes so long after the proposal.
fn which(minutes: u32) -> Which {
    if minutes == 0 {
        Which::Invitation
    } else {
        Which::Again { minutes }
    }
}

/// The message that is on its way, with the place of its channel.
pub(super) fn on_the_way(stand: &Stand) -> Option<(Which, u8)> {
    let Stand::Booking {
        invited: Some(invited),
        ..
    } = stand
    else {
        return None;
    };
    let on_the_way = invited.on_the_way.as_ref()?;
    Some((which(on_the_way.minutes), on_the_way.channel))
}

fn invited_mut(stand: &mut Stand) -> Option<&mut Invited> {
    match stand {
        Stand::Booking { invited, .. } => invited.as_mut(),
        _ => None,
    }
}

/// Notes by which channel a message goes, and says until when it may. One that isn't the last to ask goes by none.
pub(super) fn goes_out(stand: &mut Stand, which: Which, channel: u8, now_ms: u64) -> Option<u64> {
    let current = on_the_way(stand).is_some_and(|(current, _)| current == which);
    let invited = invited_mut(stand).filter(|_| current)?;
    on_its_way(&mut invited.on_the_way, channel, now_ms)
}

/// What became of the message that was on its way is known.
pub(super) fn arrived_or_not(engine: &mut Engine<'_>, n: u32) {
    if let Some(invited) = engine.stand_mut(n).and_then(invited_mut) {
        invited.on_the_way = None;
    }
}

/// Nobody has to be asked any more: what has not left is called off.
pub(super) fn ends(engine: &mut Engine<'_>, token: &Token, why: &str) {
    let Stand::Booking {
        invited: Some(_), ..
    } = &token.stand
    else {
        return;
    };
    engine.call_off(token, CALLED_OFF, why);
    if let Some(paused) = &mut engine.state.paused {
        paused.unsent.retain(|unsent| unsent.n != token.n);
    }
    forget(engine, token.n);
}

fn forget(engine: &mut Engine<'_>, n: u32) {
    if let Some(Stand::Booking { invited, .. }) = engine.stand_mut(n) {
        *invited = None;
    }
}

impl Invitation {
    pub(super) fn wording(&self, which: Which) -> Option<(&Template, String)> {
        let Message { title, words, .. } = &self.message;
        match which {
            Which::Invitation => Some((words, title.clone())),
            Which::Again { .. } => Some((
                self.reminder.as_ref().unwrap_or(words),
                format!("Reminder: {title}"),
            )),
            _ => None,
        }
    }

    /// How long after somebody comes here its messages go out.
    pub(super) fn after_ms(&self) -> impl Iterator<Item = u64> {
        let again = self.again.iter();
        std::iter::once(0).chain(again.map(|minutes| length_ms(*minutes)))
    }

    /// All reminders for a visit that was proposed then, soonest first.
    fn all(&self, since_ms: u64) -> Vec<Again> {
        let again = self.again.iter();
        let mut all: Vec<Again> = again
            .map(|minutes| Again {
                minutes: *minutes,
                at_ms: since_ms.saturating_add(length_ms(*minutes)),
            })
            .collect();
        all.sort_by_key(|again| again.at_ms);
        all
    }

    /// The next that isn't done with and comes before the visit has to be booked.
    pub(super) fn next(&self, token: &Token, by_ms: u64) -> Option<Again> {
        let Stand::Booking {
            invited: Some(invited),
            ..
        } = &token.stand
        else {
            return None;
        };
        let all = self.all(token.since_ms).into_iter();
        let mut next = all.filter(|again| again.at_ms > invited.done_ms && again.at_ms < by_ms);
        next.next()
    }

    /// Until when one may be on its way that goes out now.
    fn until_ms(&self, since_ms: u64, now_ms: u64, by_ms: u64) -> u64 {
        let all = self.all(since_ms).into_iter();
        let next = all.map(|again| again.at_ms).find(|at_ms| *at_ms > now_ms);
        next.map_or(by_ms, |at_ms| at_ms.min(by_ms))
    }

    /// How it stands when the visit is proposed.
    pub(super) fn begins(&self, now_ms: u64, by_ms: u64) -> Invited {
        Invited {
            done_ms: now_ms,
            on_the_way: Some(OnTheWay {
                minutes: 0,
                channel: 0,
                until_ms: self.until_ms(now_ms, now_ms, by_ms),
            }),
        }
    }

    /// Reminds. Where several are due at once, nobody was awake when the first were: the last is enough. Where the
    /// visit can't be booked any more, none goes out.
    pub(super) fn due(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, by_ms: u64) {
        let Stand::Booking {
            invited: Some(invited),
            ..
        } = &token.stand
        else {
            return;
        };
        let (n, now_ms) = (token.n, engine.context.now_ms);
        let mut due = self.all(token.since_ms);
        due.retain(|again| again.at_ms > invited.done_ms && again.at_ms <= now_ms);
        engine.call_off(token, CALLED_OFF, "The next reminder is due");
        let last = if by_ms > now_ms { due.pop() } else { None };
        for again in due {
            passes(engine, step, which(again.minutes));
        }
        let until_ms = self.until_ms(token.since_ms, now_ms, by_ms);
        if let Some(invited) = engine.stand_mut(n).and_then(invited_mut) {
            invited.done_ms = now_ms;
            invited.on_the_way = last.map(|last| OnTheWay {
                minutes: last.minutes,
                channel: 0,
                until_ms,
            });
        }
        if let Some(last) = last {
            engine.send(step, n, which(last.minutes), 0);
        }
    }
}

/// Another version leads on. Who was invited by the version before is reminded by the lengths of this one; who wasn't is
/// told nothing of what is past.
pub(super) fn taken_over(
    invitation: Option<&Invitation>,
    engine: &mut Engine<'_>,
    step: &Step,
    n: u32,
    before: &Node,
) {
    let Some(token) = engine.token(n).cloned() else {
        return;
    };
    let Stand::Booking {
        booked: None,
        invited,
        ..
    } = token.stand
    else {
        return;
    };
    let Some(invitation) = invitation else {
        forget(engine, n);
        return;
    };
    let now_ms = engine.context.now_ms;
    let known = before.get("book").and_then(|body| body.get(INVITE));
    let known = known.map(|node| lengths(node, "again")).unwrap_or_default();
    let is_known = |minutes: u32| known.iter().any(|(known, _)| *known == minutes);
    let done_ms = invited.as_ref().map(|invited| invited.done_ms);
    let mut due = invitation.all(token.since_ms);
    due.retain(|again| again.at_ms > done_ms.unwrap_or(0) && again.at_ms <= now_ms);
    // One that is due now goes out, by what this version says.
    let overdue = due.iter().any(|again| is_known(again.minutes));
    let done_ms = match done_ms {
        Some(done_ms) if overdue => done_ms,
        _ => {
            if invited.is_none() {
                passes(engine, step, Which::Invitation);
            }
            for again in due {
                passes(engine, step, which(again.minutes));
            }
            now_ms
        }
    };
    if let Some(Stand::Booking { invited, .. }) = engine.stand_mut(n) {
        *invited = Some(Invited {
            done_ms,
            on_the_way: None,
        });
    }
}

impl Book {
    /// By when the visit has to be booked.
    pub(super) fn books_by_ms(&self, definition: &Definition, state: &State) -> u64 {
        moment(definition, state, &self.book_by)
    }

    /// The most time from the proposal until the visit has to be booked, where that is known: what a journey hangs on
    /// lies before its start, unless a date or somebody who asks says when it is, or the visit comes before it.
    fn books_within_ms(&self, definition: &Definition) -> Option<u64> {
        let entry = &definition.entry;
        let by_event = entry.event.is_some() && entry.date.is_none();
        if self.book_by.anchor != START_ANCHOR && (!by_event || entry.request.is_some()) {
            return None;
        }
        // A moment before what it hangs on is waited for while that is still to come, as an operation that is booked.
        let offset_ms = u64::try_from(self.book_by.offset_ms).ok()?;
        let of_day_ms = self.book_by.at.map_or(0, |_| DAY_MS);
        Some(offset_ms + of_day_ms)
    }

    pub(super) fn check_invitation(&self, check: &mut Check<'_, '_>, step: &Step) {
        let Some(node) = check.node(step, &["book", INVITE]) else {
            return;
        };
        let lengths = lengths(node, "again");
        let idle = node.get("reminder").filter(|_| lengths.is_empty());
        let idle = idle.map(|node| node.place);
        let at = node.get("again").map_or(node.place, |node| node.place);
        let mut error = |place: Place, words: String| check.findings.error("J064", place, words);
        if let Some(place) = idle {
            error(
                place,
                "`reminder` is for reminders, and there are none: give `again`, or remove it"
                    .to_owned(),
            );
        }
        if lengths.len() > MOST {
            let words = format!(
                "{} reminders of one proposal; there may be {MOST}",
                lengths.len()
            );
            error(at, words);
        }
        let within_ms = self.books_within_ms(check.definition);
        for (index, (minutes, place)) in lengths.iter().enumerate() {
            let earlier = &lengths[..index];
            let said = say_duration(length_ms(*minutes));
            if earlier.iter().any(|(earlier, _)| earlier == minutes) {
                let words = format!("the reminder after {said} stands twice");
                check.findings.error("J064", *place, words);
            } else if earlier.last().is_some_and(|(last, _)| last > minutes) {
                let words = format!(
                    "the reminder after {said} comes before the one above it; put the shortest first"
                );
                check.findings.warning("J064", *place, words);
            }
            if let Some(within_ms) = within_ms.filter(|within_ms| *within_ms <= length_ms(*minutes))
            {
                let words = format!(
                    "the reminder after {said} is never sent: the visit has to be booked within {}",
                    say_duration(within_ms)
                );
                check.findings.warning("J064", *place, words);
            }
        }
    }
}

//! Where a patient stands in a journey. This is what is stored, so the short names of its members
//! are for good.
//!
//! A program that doesn't know a member must not move the patient: it would drop the member when it
//! writes the state again. The first programs do drop what they don't know, so a state that uses a member
//! they don't have says that it is of [`SECOND`], which they set aside. From that form on members are
//! added without a new number, because who reads it refuses what they don't know.

mod messages;

pub use messages::Which;
pub(crate) use messages::{Held, Invited, OnTheWay, Reminded, Told, Unsent, Ways};

use crate::room::Why;
use crate::time::Slot;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The form of the first programs. Its members are fixed.
pub(crate) const FIRST: u8 = 1;
/// The form of states that use a member which the first programs don't know.
pub(crate) const SECOND: u8 = 2;
/// Most trail entries that are kept in the state itself; older ones move to documents of their own,
/// so that a long journey costs no more to move than a short one.
pub(crate) const TRAIL_MAX: usize = 96;
/// How many entries move at once.
pub(crate) const TRAIL_CHUNK: usize = 64;

/// A patient's place in a journey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    #[serde(rename = "f")]
    pub(crate) format: u8,
    #[serde(rename = "j")]
    pub(crate) journey: String,
    /// The definition's version that this patient stays on.
    #[serde(rename = "v")]
    pub(crate) version: u32,
    #[serde(rename = "p")]
    pub(crate) patient: String,
    /// What the start was keyed by: the id of the entry resource, or `request:KEY`.
    #[serde(rename = "k")]
    pub(crate) key: String,
    #[serde(rename = "s")]
    pub(crate) started_ms: u64,
    #[serde(rename = "a", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) anchors: BTreeMap<String, u64>,
    /// The number of the next token; never reused, so that ids derived from it are unique.
    #[serde(rename = "n")]
    pub(crate) next: u32,
    /// Feed number of the newest event that changed something; events up to it are repeats.
    #[serde(rename = "l", default)]
    pub(crate) last: u64,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<Token>,
    #[serde(rename = "w", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watches: BTreeMap<String, Watch>,
    /// What has been learnt, by step.
    #[serde(rename = "x", default, skip_serializing_if = "Map::is_empty")]
    pub(crate) facts: Map<String, Value>,
    /// Forms whose answer still counts though it is late.
    #[serde(rename = "z", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) late: Vec<Late>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Ended>,
    /// When the patient's consents may come to say something else, by their dates.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) consents_ms: Option<u64>,
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) trail: Vec<TrailEntry>,
    /// How many older trail entries lie in documents of their own.
    #[serde(rename = "m", default)]
    pub(crate) moved: u32,
    /// The form that those entries need: their documents don't say.
    #[serde(rename = "o", default = "first", skip_serializing_if = "is_first")]
    pub(crate) moved_needs: u8,
    /// The arms that were drawn, by experiment.
    #[serde(rename = "b", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) arms: BTreeMap<String, String>,
    /// When goals were reached, by step.
    #[serde(rename = "g", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) goals: BTreeMap<String, u64>,
    /// Whether somebody holds it, and what has been put off since.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<Paused>,
    /// What the last act by hand can be taken back to.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(crate) undo: Option<Box<Undo>>,
    /// The newest batch of acts by hand that reached it; the same one again is a repeat.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<String>,
    /// Forms that an earlier version has opened, by the number of their place: they are still that version's.
    #[serde(rename = "q", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) forms: BTreeMap<u32, Form>,
    /// Messages that wait for the end of quiet hours, or for room.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) held: Vec<Held>,
    /// Calls to partners that are taken back if the journey is broken off, in their order.
    #[serde(rename = "y", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) owed: Vec<Owed>,
    /// Messages whose channels are tried in the patient's order and not in the file's.
    #[serde(rename = "wy", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ways: Vec<Ways>,
}

/// A call to a partner that may have to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owed {
    /// The number of its place.
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "s")]
    pub(crate) step: String,
    /// Of what it has learnt, what takes it back may name; nothing in it before the answer. The place may be come to
    /// again, and what the journey knows then is of another call. States of before have none.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(crate) learnt: Option<Map<String, Value>>,
}

/// A form of an earlier version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    #[serde(rename = "v")]
    pub(crate) version: u32,
    /// The step's id in that version.
    #[serde(rename = "s")]
    pub(crate) step: String,
}

/// A journey that is held: nothing is begun in it and nothing goes out, until it goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paused {
    #[serde(rename = "t")]
    pub(crate) at_ms: u64,
    /// Steps that would have been begun, in order.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ahead: Vec<Ahead>,
    /// Messages that would have gone out.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unsent: Vec<Unsent>,
    /// Conditions that held of events since a step was put off, each event by itself and as they came: the step may
    /// wait for one of them.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) held: Vec<Vec<usize>>,
}

/// A step that is to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ahead {
    #[serde(rename = "s")]
    pub(crate) step: String,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<u32>,
    /// How many of the events that are remembered came before it was put off: these are not for it.
    #[serde(rename = "h", default, skip_serializing_if = "is_none_yet")]
    pub(crate) after: u32,
}

/// Where the patient was before somebody sent them elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undo {
    /// Entries of the trail before the act.
    #[serde(rename = "b")]
    pub(crate) before: u32,
    /// Entries of the trail after it: one more, and something has happened since.
    #[serde(rename = "a")]
    pub(crate) after: u32,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<Token>,
    #[serde(rename = "x", default, skip_serializing_if = "Map::is_empty")]
    pub(crate) facts: Map<String, Value>,
    /// Steps that were put off.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ahead: Vec<Ahead>,
    /// The batch whose act it was, if it was one's.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<String>,
    /// What a move to another version changed besides.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<Was>,
}

/// What hung on the version before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Was {
    #[serde(rename = "v")]
    pub(crate) version: u32,
    /// Feed number of the newest event that had changed something then.
    #[serde(rename = "l")]
    pub(crate) last: u64,
    #[serde(rename = "w", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) watches: BTreeMap<String, Watch>,
    #[serde(rename = "z", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) late: Vec<Late>,
    #[serde(rename = "g", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) goals: BTreeMap<String, u64>,
    #[serde(rename = "q", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) forms: BTreeMap<u32, Form>,
}

fn first() -> u8 {
    FIRST
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none_yet(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first(format: &u8) -> bool {
    *format == FIRST
}

/// Somewhere that the patient is. A patient can be at several steps at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "s")]
    pub(crate) step: String,
    /// The `parallel` or `repeat` token that waits for this branch.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<u32>,
    #[serde(rename = "t")]
    pub(crate) since_ms: u64,
    #[serde(rename = "a")]
    pub(crate) stand: Stand,
}

/// What is waited for at a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Stand {
    /// A receipt of the channel with this index.
    Sending {
        #[serde(rename = "c")]
        channel: u8,
        #[serde(rename = "u")]
        until_ms: u64,
    },
    /// An answer.
    Asking {
        #[serde(rename = "i")]
        invited_by: u8,
        #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
        reminded_by: Option<u8>,
    },
    /// Time or an event.
    Waiting,
    /// What hasn't come of several things.
    Gathering {
        /// The numbers of those that have, as the step counts them.
        #[serde(rename = "c")]
        came: Vec<u16>,
    },
    /// Staff.
    Working {
        #[serde(rename = "h", default)]
        handed_over: bool,
        /// How many rungs of its ladder it has gone up.
        #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
        rung: u8,
        /// How far it is with two persons, once the first has done it.
        #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
        eyes: Option<Eyes>,
    },
    /// A booking, or a booked visit's time.
    Booking {
        #[serde(rename = "p")]
        proposed: Slot,
        #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
        booked: Option<Slot>,
        /// What has been reminded of, where the step reminds of the booked visit.
        #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
        reminded: Option<Reminded>,
        /// What the patient has been asked, where the step asks them to book it and it isn't booked yet.
        #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
        invited: Option<Invited>,
        /// What they have been told of the booked visit, where the step confirms it.
        #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
        told: Option<Told>,
    },
    /// Branches that haven't ended.
    Joining {
        #[serde(rename = "l")]
        left: u32,
    },
    /// What a round has begun and what hasn't ended.
    Repeating {
        #[serde(rename = "l")]
        left: u32,
        #[serde(rename = "i")]
        time: u32,
    },
    /// The time of the next round.
    Pausing {
        /// The round that is over.
        #[serde(rename = "i")]
        time: u32,
        #[serde(rename = "u")]
        until_ms: u64,
    },
}

impl Stand {
    /// A `Task` that was just opened is waited for.
    pub(crate) fn worked_on() -> Self {
        Self::Working {
            handed_over: false,
            rung: 0,
            eyes: None,
        }
    }
    /// When the visit begins that was booked, where one was.
    pub(crate) fn booked_ms(&self) -> Option<u64> {
        match self {
            Self::Booking {
                booked: Some(slot), ..
            } => Some(slot.start_ms),
            _ => None,
        }
    }
    /// When the visit begins, booked or proposed.
    pub(crate) fn visit_ms(&self) -> Option<u64> {
        match self {
            Self::Booking {
                proposed, booked, ..
            } => Some(booked.unwrap_or(*proposed).start_ms),
            _ => None,
        }
    }
    /// How many of those that it has begun haven't ended, where it waits for such.
    pub(crate) fn left_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Joining { left } | Self::Repeating { left, .. } => Some(left),
            _ => None,
        }
    }
    /// Whether all that it had begun has ended.
    pub(crate) fn has_joined(&self) -> bool {
        matches!(
            self,
            Self::Joining { left: 0 } | Self::Repeating { left: 0, .. }
        )
    }
    /// The oldest form of a state that has it.
    fn needs(&self) -> u8 {
        match self {
            Self::Sending {
                channel: _,
                until_ms: _,
            }
            | Self::Asking {
                invited_by: _,
                reminded_by: _,
            }
            | Self::Waiting
            | Self::Working {
                handed_over: _,
                rung: 0,
                eyes: None,
            }
            | Self::Booking {
                proposed: _,
                booked: _,
                reminded: None,
                invited: None,
                told: None,
            }
            | Self::Joining { left: _ } => FIRST,
            Self::Booking {
                proposed: _,
                booked: _,
                reminded: _,
                invited: _,
                told: _,
            }
            | Self::Working {
                handed_over: _,
                rung: _,
                eyes: _,
            }
            | Self::Gathering { came: _ }
            | Self::Repeating { left: _, time: _ }
            | Self::Pausing {
                time: _,
                until_ms: _,
            } => SECOND,
        }
    }
}

/// How far a task is that two persons do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Eyes {
    /// The number of the task that is open, after the first.
    #[serde(rename = "a")]
    pub(crate) attempt: u16,
    /// Who did it first.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<String>,
    /// With which outcome.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
}

/// A form that was given up on but may still be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Late {
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "s")]
    pub(crate) step: String,
}

/// How a journey ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    #[serde(rename = "t")]
    pub(crate) at_ms: u64,
    /// The exit's id, `completed`, `time_over` or `stopped`.
    #[serde(rename = "c")]
    pub(crate) code: String,
    /// In words.
    #[serde(rename = "w")]
    pub(crate) title: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrailEntry {
    #[serde(rename = "t")]
    pub(crate) at_ms: u64,
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub(crate) step: String,
    #[serde(rename = "w")]
    pub(crate) what: What,
    /// What caused it: `Type/id`, `timer`, `start`, `staff`, or empty for "as a consequence".
    #[serde(rename = "y", default, skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
    /// The resource that came of it, `Type/id`.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
}

/// What somebody did by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Done {
    Paused,
    Resumed,
    Skipped,
    Retried,
    Jumped,
    Undone,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum What {
    Started,
    Entered,
    Left {
        #[serde(rename = "l")]
        label: String,
        #[serde(rename = "f")]
        since_ms: u64,
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<String>,
    },
    /// A message was put on its way.
    Sent {
        #[serde(rename = "c")]
        channel: crate::Channel,
        #[serde(rename = "k")]
        which: Which,
    },
    /// A message waits until it may reach out.
    Held {
        #[serde(rename = "c")]
        channel: crate::Channel,
        #[serde(rename = "k")]
        which: Which,
        #[serde(rename = "u")]
        until_ms: u64,
        #[serde(rename = "y")]
        why: Why,
    },
    /// A message did not arrive; the code is of `urn:cairn:not-done`.
    Undelivered {
        #[serde(rename = "c")]
        channel: crate::Channel,
        #[serde(rename = "k")]
        which: Which,
        #[serde(rename = "d")]
        code: String,
    },
    /// A message about a visit is not sent, because its time had passed.
    Passed {
        #[serde(rename = "k")]
        which: Which,
    },
    Answered,
    LateAnswer {
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<String>,
    },
    /// The patient replied to a form's text message with what is no answer.
    Reply {
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<String>,
    },
    /// A task went to another role.
    HandedOver {
        #[serde(rename = "o")]
        role: String,
    },
    /// A visit was booked for this time.
    Booked {
        #[serde(rename = "b")]
        start_ms: u64,
    },
    /// An observation rule fired.
    Fired {
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<String>,
    },
    /// An anchor was corrected.
    AnchorMoved {
        #[serde(rename = "a")]
        anchor: String,
    },
    /// A condition could not be evaluated, so it did not hold.
    Unclear {
        #[serde(rename = "l")]
        label: String,
    },
    /// The first of two persons has done a task.
    FirstDone,
    /// What two persons have to do was done by nobody who is named, or again by the first.
    NotCounted,
    /// A goal was reached.
    Reached,
    /// A round of a part that is repeated began.
    Round {
        #[serde(rename = "i")]
        time: u32,
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        to: Vec<String>,
    },
    /// An arm of an experiment was drawn.
    Drawn {
        #[serde(rename = "x")]
        experiment: String,
        #[serde(rename = "a")]
        arm: String,
    },
    /// A partner is called, or a call to one is taken back.
    Called {
        #[serde(rename = "p")]
        partner: String,
        #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
        back: bool,
    },
    /// Somebody stepped in.
    Hand {
        #[serde(rename = "a")]
        act: Done,
        /// Why, in words.
        #[serde(rename = "r")]
        reason: String,
        /// Who, by name.
        #[serde(rename = "b")]
        by: String,
    },
    /// The journey goes on by another version.
    Moved {
        #[serde(rename = "f")]
        from: u32,
        #[serde(rename = "o")]
        to: u32,
        /// Why, in words.
        #[serde(rename = "r")]
        reason: String,
        /// Who, by name.
        #[serde(rename = "b")]
        by: String,
    },
    Ended {
        #[serde(rename = "c")]
        code: String,
        #[serde(rename = "w")]
        title: String,
        /// The steps where the patient was.
        #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
        at: Vec<String>,
    },
}

impl What {
    /// The oldest form of a state that has it.
    fn needs(&self) -> u8 {
        match self {
            Self::Sent { channel, which }
            | Self::Undelivered {
                channel,
                which,
                code: _,
            } => which.needs().max(match channel {
                crate::Channel::Email | crate::Channel::Portal => FIRST,
                crate::Channel::Sms
                | crate::Channel::Push
                | crate::Channel::Letter
                | crate::Channel::Voice => SECOND,
            }),
            Self::Started
            | Self::Entered
            | Self::Left {
                label: _,
                since_ms: _,
                to: _,
            }
            | Self::Answered
            | Self::LateAnswer { to: _ }
            | Self::HandedOver { role: _ }
            | Self::Booked { start_ms: _ }
            | Self::Fired { to: _ }
            | Self::AnchorMoved { anchor: _ }
            | Self::Unclear { label: _ }
            | Self::Ended {
                code: _,
                title: _,
                at: _,
            } => FIRST,
            Self::Called {
                partner: _,
                back: _,
            }
            | Self::FirstDone
            | Self::NotCounted
            | Self::Hand {
                act: _,
                reason: _,
                by: _,
            }
            | Self::Moved {
                from: _,
                to: _,
                reason: _,
                by: _,
            }
            | Self::Held {
                channel: _,
                which: _,
                until_ms: _,
                why: _,
            }
            | Self::Passed { which: _ }
            | Self::Reply { to: _ }
            | Self::Reached
            | Self::Round { time: _, to: _ }
            | Self::Drawn {
                experiment: _,
                arm: _,
            } => SECOND,
        }
    }
}

/// A stored state that this program can't read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It was written by a newer program.
    #[error("journey state has format {0}, which this program doesn't know")]
    Format(u64),
    /// It was written by a newer program, which used something that this one doesn't know.
    #[error("journey state of format {0} says something that this program doesn't know")]
    Newer(u64),
    /// It is damaged.
    #[error("journey state does not parse")]
    Damaged,
}

impl State {
    /// Reads a stored state.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Head {
            f: u64,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|_| StateError::Damaged)?;
        let refused = match head.f {
            // What is unknown in a form whose members are fixed is damage.
            first if first == u64::from(FIRST) => StateError::Damaged,
            second if second == u64::from(SECOND) => StateError::Newer(second),
            other => return Err(StateError::Format(other)),
        };
        let state: Self = serde_json::from_slice(bytes).map_err(|_| refused.clone())?;
        if state.needs() > state.format {
            return Err(refused);
        }
        Ok(state)
    }
    /// The state as it is stored, in the oldest form that says all of it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let format = self.needs();
        if format == self.format {
            return serde_json::to_vec(self).unwrap_or_default();
        }
        serde_json::to_vec(&Self {
            format,
            ..self.clone()
        })
        .unwrap_or_default()
    }
    /// The oldest form that has every member in use. The patterns here and in [`Stand::needs`] and
    /// [`What::needs`] name them all, so that nothing can be added without saying which form it needs.
    pub(crate) fn needs(&self) -> u8 {
        let Self {
            format: _,
            journey: _,
            version: _,
            patient: _,
            key: _,
            started_ms: _,
            anchors: _,
            next: _,
            last: _,
            tokens,
            watches: _,
            facts: _,
            late: _,
            ended: _,
            // Those before it drop it. They look at consents when something else wakes the journey.
            consents_ms: _,
            trail,
            moved: _,
            moved_needs,
            arms,
            goals,
            paused,
            undo,
            batch,
            forms,
            held,
            owed,
            ways,
        } = self;
        let by_hand = paused.is_some() || undo.is_some() || batch.is_some() || !forms.is_empty();
        let outside = !held.is_empty() || !owed.is_empty() || !ways.is_empty();
        let members = if arms.is_empty() && goals.is_empty() && !outside && !by_hand {
            FIRST
        } else {
            SECOND
        };
        let places = tokens.iter().map(|token| {
            let Token {
                n: _,
                step: _,
                parent: _,
                since_ms: _,
                stand,
            } = token;
            stand.needs()
        });
        let entries = trail.iter().map(|entry| {
            let TrailEntry {
                at_ms: _,
                step: _,
                what,
                why: _,
                reference: _,
            } = entry;
            what.needs()
        });
        places
            .chain(entries)
            .chain([members, *moved_needs])
            .max()
            .unwrap_or(FIRST)
    }
    /// A place at the very start, to try conditions on before there is an instance.
    pub(crate) fn probe(
        definition: &crate::Definition,
        patient: &str,
        key: &str,
        anchors: BTreeMap<String, u64>,
        now_ms: u64,
    ) -> Self {
        Self {
            format: FIRST,
            journey: definition.name.clone(),
            version: definition.version,
            patient: patient.to_owned(),
            key: key.to_owned(),
            started_ms: now_ms,
            anchors,
            next: 1,
            last: 0,
            tokens: Vec::new(),
            watches: BTreeMap::new(),
            facts: Map::new(),
            late: Vec::new(),
            ended: None,
            consents_ms: None,
            trail: Vec::new(),
            moved: 0,
            moved_needs: FIRST,
            arms: BTreeMap::new(),
            goals: BTreeMap::new(),
            paused: None,
            undo: None,
            batch: None,
            forms: BTreeMap::new(),
            held: Vec::new(),
            ways: Vec::new(),
            owed: Vec::new(),
        }
    }
    /// It has been told of all up to here; none of that is news to what it comes to.
    pub(crate) fn knows(&mut self, number: ledger::Number) {
        self.last = self.last.max(number.0);
    }
    /// The version that a move could be taken back to, if that was the last act by hand.
    pub(crate) fn moved_from(&self) -> Option<u32> {
        let was = self.undo.as_ref()?.was.as_ref()?;
        Some(was.version)
    }
    /// Whether the journey goes on.
    #[must_use]
    pub fn running(&self) -> bool {
        self.ended.is_none()
    }
    /// The steps where the patient is, each once.
    #[must_use]
    pub fn at(&self) -> Vec<&str> {
        let mut steps: Vec<&str> = self
            .tokens
            .iter()
            .map(|token| token.step.as_str())
            .collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
    /// How the journey ended: code and words.
    #[must_use]
    pub fn ending(&self) -> Option<(&str, &str)> {
        self.ended
            .as_ref()
            .map(|ended| (ended.code.as_str(), ended.title.as_str()))
    }
    /// All trail entries ever made.
    pub(crate) fn trail_total(&self) -> usize {
        self.moved as usize + self.trail.len()
    }
    /// Takes the oldest entries out when the trail has grown long: the number of the first, and the entries.
    pub(crate) fn take_old_trail(&mut self) -> Option<(u32, Vec<TrailEntry>)> {
        if self.trail.len() <= TRAIL_MAX {
            return None;
        }
        let first = self.moved;
        let taken: Vec<TrailEntry> = self.trail.drain(..TRAIL_CHUNK).collect();
        self.moved += u32::try_from(taken.len()).unwrap_or(0);
        let needs = taken.iter().map(|entry| entry.what.needs()).max();
        self.moved_needs = self.moved_needs.max(needs.unwrap_or(FIRST));
        Some((first, taken))
    }
}

#[cfg(test)]
mod tests;

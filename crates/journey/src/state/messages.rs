//! Messages in the state: which words they carry, those that wait, and how far the reminders of a visit are.

use super::{FIRST, SECOND};
use crate::room::Why;
use crate::time::{MINUTE_MS, say_duration};
use serde::{Deserialize, Serialize};

/// Which words of a step a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Which {
    /// The message of a `send`.
    Message,
    /// The invitation of an `ask`, or of a `book`.
    Invitation,
    /// The reminder of an `ask`.
    Reminder,
    /// The reminder of a `book`, before the visit.
    Ahead {
        /// The number of the time that was booked, counted from one: each move is another one.
        #[serde(rename = "t")]
        time: u32,
        /// How long before the visit.
        #[serde(rename = "m")]
        minutes: u32,
    },
    /// The reminder of a `book`, while the visit isn't booked.
    Again {
        /// How long after the visit was proposed.
        #[serde(rename = "m")]
        minutes: u32,
    },
    /// That a visit is booked, or was moved.
    Booked {
        /// The number of the time that was booked, counted from one.
        #[serde(rename = "t")]
        time: u32,
    },
    /// That a booked visit was called off.
    CalledOff {
        /// The number of the place that was left by it.
        #[serde(rename = "n")]
        n: u32,
        /// The number of the time that had been booked.
        #[serde(rename = "t")]
        time: u32,
    },
}

/// Before the length of a reminder of a visit that isn't booked, where a message is named.
const AGAIN: &str = "again";
/// Before the number of a time that was booked, where a message is named.
const BOOKED: &str = "booked";
/// Before the numbers of a place and of the time that had been booked there, where a message is named.
const OFF: &str = "off";
/// Before the numbers of a reminder of a visit, where a message is named.
const AHEAD: &str = "ahead";

impl Which {
    /// What it is called in a file.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Message | Self::Booked { .. } | Self::CalledOff { .. } => "message",
            Self::Invitation => "invitation",
            Self::Reminder | Self::Ahead { .. } | Self::Again { .. } => "reminder",
        }
    }
    /// What it is called among the messages of one place, in ids.
    pub(crate) fn slot(self) -> String {
        match self {
            Self::Ahead { time, minutes } => format!("{AHEAD}-{time}-{minutes}"),
            Self::Again { minutes } => format!("{AGAIN}-{minutes}"),
            Self::Booked { time } => format!("{BOOKED}-{time}"),
            Self::CalledOff { n, time } => format!("{OFF}-{n}-{time}"),
            Self::Message | Self::Invitation | Self::Reminder => self.word().to_owned(),
        }
    }
    /// The one that is called so in ids.
    pub(crate) fn of_slot(slot: &str) -> Option<Self> {
        match slot {
            "message" => Some(Self::Message),
            "invitation" => Some(Self::Invitation),
            "reminder" => Some(Self::Reminder),
            other => {
                let (what, numbers) = other.split_once('-')?;
                if what == AGAIN {
                    let minutes = numbers.parse().ok()?;
                    return Some(Self::Again { minutes });
                }
                if what == BOOKED {
                    let time = numbers.parse().ok()?;
                    return Some(Self::Booked { time });
                }
                let (first, second) = numbers.split_once('-')?;
                let (first, second) = (first.parse().ok()?, second.parse().ok()?);
                match what {
                    AHEAD => Some(Self::Ahead {
                        time: first,
                        minutes: second,
                    }),
                    OFF => Some(Self::CalledOff {
                        n: first,
                        time: second,
                    }),
                    _ => None,
                }
            }
        }
    }
    /// As it is said: `reminder 7 days before`.
    pub(crate) fn say(self) -> String {
        match self {
            Self::Ahead { minutes, .. } => format!(
                "reminder {} before",
                say_duration(u64::from(minutes) * MINUTE_MS)
            ),
            Self::Again { minutes } => format!(
                "reminder {} after the proposal",
                say_duration(u64::from(minutes) * MINUTE_MS)
            ),
            Self::Booked { time: 1 } => "confirmation".to_owned(),
            Self::Booked { .. } => "word of the new time".to_owned(),
            Self::CalledOff { .. } => "word that it was called off".to_owned(),
            Self::Message | Self::Invitation | Self::Reminder => self.word().to_owned(),
        }
    }
    /// The oldest form of a state that has it.
    pub(super) fn needs(self) -> u8 {
        match self {
            Self::Message | Self::Invitation | Self::Reminder => FIRST,
            Self::Ahead {
                time: _,
                minutes: _,
            }
            | Self::Again { minutes: _ }
            | Self::Booked { time: _ }
            | Self::CalledOff { n: _, time: _ } => SECOND,
        }
    }
}

/// A message that waits until it may reach out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "k")]
    pub(crate) which: Which,
    /// The place of its channel.
    #[serde(rename = "c")]
    pub(crate) channel: u8,
    /// When it asks again.
    #[serde(rename = "t")]
    pub(crate) at_ms: u64,
    /// Whether it has just asked: the answer comes in the same unit of work.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) asked: bool,
    /// Until when it may go out at all.
    #[serde(rename = "u")]
    pub(crate) until_ms: u64,
    #[serde(rename = "y")]
    pub(crate) why: Why,
}

/// In which order a message tries its channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ways {
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "k")]
    pub(crate) which: Which,
    /// The places of its channels.
    #[serde(rename = "p")]
    pub(crate) places: Vec<u8>,
}

/// A message that is to go out by the channel with this index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unsent {
    #[serde(rename = "n")]
    pub(crate) n: u32,
    #[serde(rename = "k")]
    pub(crate) which: Which,
    #[serde(rename = "c")]
    pub(crate) channel: u8,
}

/// How far the reminders of a booked visit are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reminded {
    /// How often a time was booked: a visit that is moved is reminded of anew.
    #[serde(rename = "t")]
    pub(crate) time: u32,
    /// Reminders whose time is not after this one are done with: sent, or passed over.
    #[serde(rename = "d")]
    pub(crate) done_ms: u64,
    /// The one that is on its way.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_the_way: Option<OnTheWay>,
}

/// How far the messages are that ask the patient to book a visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invited {
    /// Messages whose time is not after this one are done with: sent, or passed over.
    #[serde(rename = "d")]
    pub(crate) done_ms: u64,
    /// The one that is on its way.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_the_way: Option<OnTheWay>,
}

/// What the patient was told of a booked visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    /// How often a time was booked.
    #[serde(rename = "t")]
    pub(crate) time: u32,
    /// The message that is on its way.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_the_way: Option<OnTheWay>,
}

/// A message about a visit of which nobody knows yet what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OnTheWay {
    /// How long before the visit; of one that isn't booked, how long after it was proposed.
    #[serde(rename = "m")]
    pub(crate) minutes: u32,
    /// The place of its channel.
    #[serde(rename = "c")]
    pub(crate) channel: u8,
    /// When the next one is due, the visit begins, or it has to be booked.
    #[serde(rename = "u")]
    pub(crate) until_ms: u64,
}

//! Whether a message may reach out to a patient now: quiet hours by the patient's own clock, and how many all
//! of the patient's journeys may send together. Pure.
//!
//! What lies in the portal wakes nobody, so only other channels ask.

use crate::Channel;
use crate::time::DAY_MS;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use trust::consent::{MessageRules, QuietHours, Via, quiet_until};

pub(crate) use trust::consent::{Window, zone_of};

/// How often quiet hours and limits are asked in turn; each only ever moves the time on.
const TURNS_MAX: usize = 16;
/// Most that is remembered of one patient. A limit of a week has at most this number (`spec::MESSAGES`).
const REMEMBERED_MAX: usize = 500;
/// The form of what is stored.
const FORMAT: u8 = 1;

/// How much a message can't wait, from the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// In its turn.
    #[default]
    Routine,
    /// Before what is routine.
    Important,
    /// At once, whatever the hour and whatever else was sent.
    Clinical,
}

/// Why a message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It is night, or what counts as such.
    Quiet,
    /// Too many have gone out.
    Capped,
}

impl Why {
    /// The code of `urn:cairn:not-done` of a message that could not go out in its time.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Quiet => "quiet-hours",
            Self::Capped => "capped",
        }
    }
}

/// What became of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It goes out, and counts.
    Free,
    /// It has to wait, and may ask again then.
    Until {
        /// When, milliseconds since the epoch.
        at_ms: u64,
        /// Why.
        why: Why,
    },
}

/// Whether a channel reaches out to the patient.
pub(crate) fn reaches_out(channel: Channel) -> bool {
    channel != Channel::Portal
}

/// Whether a message reaches out by several channels, of which somebody may prefer one.
pub(crate) fn has_ways(channels: &[Channel]) -> bool {
    let channels = channels.iter().filter(|channel| reaches_out(**channel));
    channels.count() > 1
}

/// The places of channels in the order that somebody prefers, where that is another than they stand in. What lies in
/// the portal stays in its place, and a channel that isn't named comes after those that are.
pub(crate) fn in_order(channels: &[Channel], wanted: &[Via]) -> Option<Vec<u8>> {
    let rank = |channel: Channel| {
        let reach = channel.reach();
        let mut wanted = wanted.iter();
        wanted
            .position(|one| Some(*one) == reach)
            .unwrap_or(usize::MAX)
    };
    let places = (0u8..).zip(channels.iter().copied());
    let mut sorted: Vec<(u8, Channel)> = places.collect();
    let as_they_stand = sorted.clone();
    sorted.retain(|(_, channel)| reaches_out(*channel));
    sorted.sort_by_key(|(_, channel)| rank(*channel));
    let mut sorted = sorted.into_iter();
    let found: Vec<u8> = (as_they_stand.iter())
        .filter_map(|(place, channel)| match reaches_out(*channel) {
            true => sorted.next().map(|(place, _)| place),
            false => Some(*place),
        })
        .collect();
    let is_other = found.iter().zip(0u8..).any(|(place, at)| *place != at);
    is_other.then_some(found)
}

/// What a journey says of its own messages, in the narrower sense only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) quiet: Option<QuietHours>,
    pub(crate) per_day: Option<u32>,
    pub(crate) per_week: Option<u32>,
}

impl Own {
    /// Whether the journey's quiet hours leave something of a window.
    pub(crate) fn opens_within(&self, window: &Window) -> bool {
        let Some(quiet) = self.quiet else {
            return true;
        };
        let is_quiet = |time: Time| match quiet.until < quiet.from {
            true => time >= quiet.from || time < quiet.until,
            false => time >= quiet.from && time < quiet.until,
        };
        // It is open where it begins, or where the quiet hours end within it.
        let ends_within = quiet.until >= window.from && quiet.until < window.until;
        !is_quiet(window.from) || (ends_within && !is_quiet(quiet.until))
    }
}

/// What limits the messages of a journey: the organisation's rules, and what the journey adds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    quiet: Vec<QuietHours>,
    /// When the one message may go out that asks.
    window: Option<Window>,
    /// Length of a window, and most messages in it.
    caps: Vec<(u64, u32)>,
    kept: u32,
}

impl Limits {
    pub(crate) fn of(rules: &MessageRules, own: &Own) -> Self {
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        let caps = [
            (DAY_MS, least(rules.per_day, own.per_day)),
            (7 * DAY_MS, least(rules.per_week, own.per_week)),
        ];
        let caps = caps.into_iter();
        Self {
            quiet: rules.quiet.into_iter().chain(own.quiet).collect(),
            caps: caps.filter_map(|(ms, most)| Some((ms, most?))).collect(),
            kept: rules.kept_for_important,
            window: None,
        }
    }
    /// The same for a message that has a window of its own.
    pub(crate) fn within(self, window: Option<&Window>) -> Self {
        Self {
            window: window.cloned(),
            ..self
        }
    }
    /// The same for a patient who wants nothing in some hours.
    pub(crate) fn and_quiet(mut self, own: Option<QuietHours>) -> Self {
        self.quiet.extend(own);
        self
    }
    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        !self.quiet.is_empty() || self.has_caps()
    }
    /// Whether it matters what was sent before.
    pub(crate) fn has_caps(&self) -> bool {
        !self.caps.is_empty()
    }

    /// When the quiet hours end that it is in.
    fn quiet_ends(&self, at_ms: u64, zone: &TimeZone) -> Option<u64> {
        quiet_until(&self.quiet, self.window.as_ref(), zone, at_ms)
    }

    /// The first time from now on at which the limits leave room for one more.
    fn has_room(&self, book: &Book, asks: &Asks<'_>, from_ms: u64) -> u64 {
        let fits = |at_ms: u64| {
            self.caps.iter().all(|(window_ms, most)| {
                let kept = match asks.urgency {
                    Urgency::Routine => self.kept,
                    _ => 0,
                };
                let since_ms = at_ms.saturating_sub(*window_ms);
                let sent = book.sent.iter().filter(|sent| **sent > since_ms).count();
                let before = book.before(asks, at_ms);
                let used = u32::try_from(sent + before).unwrap_or(u32::MAX);
                used < most.saturating_sub(kept)
            })
        };
        let freed = self.caps.iter().flat_map(|(window_ms, _)| {
            let ends = book.sent.iter().map(move |sent| sent + window_ms);
            ends.filter(|end| *end > from_ms)
        });
        let mut times: Vec<u64> = std::iter::once(from_ms).chain(freed).collect();
        times.sort_unstable();
        let found = times.into_iter().find(|at_ms| fits(*at_ms));
        // Those that wait before it take all that there is; it asks again when they may have gone.
        found.unwrap_or_else(|| from_ms.saturating_add(DAY_MS))
    }
}

/// A message that asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asks<'a> {
    /// What it is known by: the same each time it asks.
    pub(crate) key: &'a str,
    pub(crate) urgency: Urgency,
    /// Until when it may go out at all.
    pub(crate) until_ms: u64,
}

/// What all journeys of one patient have sent, and what waits for room. This is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    #[serde(rename = "f")]
    format: u8,
    /// When messages went out that reach out, in order.
    #[serde(rename = "s", default)]
    sent: Vec<u64>,
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    waits: Vec<Waits>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waits {
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "u")]
    urgency: Urgency,
    #[serde(rename = "t")]
    since_ms: u64,
    #[serde(rename = "e")]
    until_ms: u64,
}

impl Book {
    /// How many wait for room that come before it.
    fn before(&self, asks: &Asks<'_>, at_ms: u64) -> usize {
        let own = self.waits.iter().find(|waits| waits.key == asks.key);
        let since_ms = own.map_or(u64::MAX, |own| own.since_ms);
        let is_before = |waits: &&Waits| {
            waits.key != asks.key
                && waits.until_ms > at_ms
                && (waits.urgency > asks.urgency
                    || (waits.urgency == asks.urgency
                        && (waits.since_ms, waits.key.as_str()) < (since_ms, asks.key)))
        };
        self.waits.iter().filter(is_before).count()
    }

    fn forget(&mut self, now_ms: u64) {
        let since_ms = now_ms.saturating_sub(7 * DAY_MS);
        self.sent.retain(|sent| *sent > since_ms);
        let over = self.sent.len().saturating_sub(REMEMBERED_MAX);
        self.sent.drain(..over);
        self.waits.retain(|waits| waits.until_ms > now_ms);
    }

    /// Gives up the turn of a message that is called off. Whether it had one.
    pub(crate) fn give_up(&mut self, key: &str) -> bool {
        let before = self.waits.len();
        self.waits.retain(|waits| waits.key != key);
        self.waits.len() < before
    }

    /// Asks for one message. What goes out is remembered, and what has to wait keeps its turn.
    pub(crate) fn ask(
        &mut self,
        limits: &Limits,
        zone: &TimeZone,
        asks: &Asks<'_>,
        now_ms: u64,
    ) -> Room {
        self.format = FORMAT;
        self.forget(now_ms);
        let mut at_ms = now_ms;
        let mut why = Why::Capped;
        if asks.urgency != Urgency::Clinical {
            for turn in 0..TURNS_MAX {
                let quiet_ms = limits.quiet_ends(at_ms, zone);
                if turn == 0 && quiet_ms.is_some() {
                    why = Why::Quiet;
                }
                let next_ms = limits.has_room(self, asks, quiet_ms.unwrap_or(at_ms));
                if next_ms == at_ms {
                    break;
                }
                at_ms = next_ms;
            }
        }
        if at_ms == now_ms {
            self.waits.retain(|waits| waits.key != asks.key);
            self.sent.push(now_ms);
            return Room::Free;
        }
        if at_ms >= asks.until_ms {
            self.waits.retain(|waits| waits.key != asks.key);
        } else if !self.waits.iter().any(|waits| waits.key == asks.key) {
            self.waits.push(Waits {
                key: asks.key.to_owned(),
                urgency: asks.urgency,
                since_ms: now_ms,
                until_ms: asks.until_ms,
            });
        }
        Room::Until { at_ms, why }
    }

    /// What others than a journey have sent and what of theirs waits, of what all have: without what waits under
    /// its name, and without what it sent at these times.
    pub(crate) fn of_others(mut self, instance: &str, own_ms: &[u64]) -> Self {
        for own_ms in own_ms {
            if let Some(at) = self.sent.iter().position(|sent| sent == own_ms) {
                self.sent.remove(at);
            }
        }
        let is_own = |waits: &Waits| {
            let rest = waits.key.strip_prefix(instance);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        self.waits.retain(|waits| !is_own(waits));
        self
    }

    /// Asks for one message of a journey whose own this is, beside what others have.
    pub(crate) fn ask_beside(
        &mut self,
        others: Option<&Self>,
        limits: &Limits,
        zone: &TimeZone,
        asks: &Asks<'_>,
        now_ms: u64,
    ) -> Room {
        let Some(others) = others else {
            return self.ask(limits, zone, asks, now_ms);
        };
        let mut all = others.clone();
        all.sent.extend(&self.sent);
        all.sent.sort_unstable();
        all.waits.extend(self.waits.iter().cloned());
        let room = all.ask(limits, zone, asks, now_ms);
        self.waits.retain(|waits| waits.key != asks.key);
        if room == Room::Free {
            self.sent.push(now_ms);
        }
        let waits = all.waits.iter().find(|waits| waits.key == asks.key);
        self.waits.extend(waits.cloned());
        room
    }

    /// What is stored, read. What this program can't read says nothing: no message is kept back for it.
    pub(crate) fn read(body: &[u8]) -> Self {
        let book: Option<Self> = serde_json::from_slice(body).ok();
        book.filter(|book| book.format == FORMAT)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

//! The segments that a patient is in, and when somebody looks at that next: one document for each patient of whom it
//! was looked for.

use super::Segment;
use crate::mover::MoveError;
use ledger::Kind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use trust::TrustError;

/// Kind of these documents.
pub const SEGMENT_MEMBERS: Kind = Kind(1098);
/// The number by which patients are woken to be looked at. Programs that don't know of segments don't ask for it.
pub(crate) const LOOK_CONSUMER: u16 = 5;

/// How it is written. A document of another format is another program's.
const FORMAT: u32 = 1;
/// Most segments that are kept of one patient; what was known longest of those that nobody asks for is forgotten.
const KEPT_MAX: usize = 200;
/// What is written of a patient within so long is looked at once.
pub(crate) const LOOK_AFTER_MS: u64 = 2_000;
/// The longest that a look is put off for a long record, so that an import of one patient's, which is looked at again
/// and again while it goes on, takes no more than its share of the time.
const LOOK_AFTER_MAX_MS: u64 = 60_000;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Members {
    format: u32,
    pub(crate) patient: String,
    /// When to look because something was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) look_ms: Option<u64>,
    /// When to look because time may have changed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_ms: Option<u64>,
    /// How many resources the last look read.
    #[serde(default)]
    pub(crate) read: u64,
    /// The segments that the patient is in, by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) of: BTreeMap<String, Member>,
    /// The segments of which it was told once whether the patient is in, by their keys, each with the journeys that
    /// begin by it and were there for that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    looked: BTreeMap<String, Vec<String>>,
    /// Counts what is written so that a look meanwhile finds it.
    #[serde(default, skip_serializing_if = "is_zero")]
    anew: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Being in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Since when, as a look found.
    pub(crate) since_ms: u64,
    /// The journeys that have begun by it or were kept from beginning: they begin once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) told: Vec<String>,
}

impl Members {
    pub(crate) fn new(patient: &str) -> Self {
        Self {
            format: FORMAT,
            patient: patient.to_owned(),
            look_ms: None,
            next_ms: None,
            read: 0,
            of: BTreeMap::new(),
            looked: BTreeMap::new(),
            anew: 0,
        }
    }

    pub(crate) fn from_json(body: &[u8]) -> Result<Self, MoveError> {
        let read: Option<Self> = serde_json::from_slice(body).ok();
        // The parser's own words may hold a patient's.
        let damaged = || TrustError::Damaged("the segments that a patient is in".to_owned());
        Ok(read
            .filter(|read| read.format == FORMAT)
            .ok_or_else(damaged)?)
    }

    /// When somebody has to look next.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        super::soonest(self.look_ms, self.next_ms)
    }

    /// Something was written: a look comes a little later, once for all that comes before it.
    pub(crate) fn mark(&mut self, now_ms: u64) {
        let after_ms = LOOK_AFTER_MS
            .saturating_add(self.read)
            .min(LOOK_AFTER_MAX_MS);
        let look_ms = now_ms.saturating_add(after_ms);
        // A clock that was set back makes nobody wait for longer than that.
        self.look_ms = Some(
            self.look_ms
                .map_or(look_ms, |known_ms| known_ms.min(look_ms)),
        );
    }

    /// Has it written anew: a look that is under way meanwhile is a conflict then, and is done again. Whoever follows
    /// the patient's shard looks and marks one after the other, and needs it not.
    pub(crate) fn anew(&mut self) {
        self.anew = self.anew.wrapping_add(1);
    }

    /// A look is done for whose time had come; one that is ahead still comes.
    pub(crate) fn has_come(&mut self, now_ms: u64) {
        self.look_ms = self.look_ms.filter(|look_ms| *look_ms > now_ms);
    }

    /// A look could not answer everybody: what was ahead still is, with what it found, and another comes after so long.
    pub(crate) fn look_again(&mut self, next_ms: Option<u64>, now_ms: u64, after_ms: Option<u64>) {
        let ahead = self.next_ms.filter(|next_ms| *next_ms > now_ms);
        let again = after_ms.map(|after_ms| now_ms.saturating_add(after_ms));
        self.next_ms = super::soonest(super::soonest(ahead, next_ms), again);
    }

    /// Whether the patient was in a segment when that could be told last; nothing where it never could.
    pub(crate) fn was_in(&self, segment: &Segment) -> Option<bool> {
        let is_in = self.of.contains_key(&segment.key);
        (is_in || self.looked.contains_key(&segment.key)).then_some(is_in)
    }

    /// Takes in what a look found; what can't be told stays as it was.
    pub(crate) fn found(&mut self, segment: &Segment, inside: Option<bool>, now_ms: u64) {
        let Some(inside) = inside else {
            return;
        };
        self.looked.entry(segment.key.clone()).or_default();
        if !inside {
            self.of.remove(&segment.key);
        } else if !self.of.contains_key(&segment.key) {
            let member = Member {
                since_ms: now_ms,
                told: Vec::new(),
            };
            self.of.insert(segment.key.clone(), member);
        }
    }

    /// The first time that a journey begins by a segment that was looked at: where it has begun, or was kept from that,
    /// for whoever was in another of the name `before`, the segment says something else now, and nothing begins anew.
    /// Later the two are entered and left each by itself.
    pub(crate) fn first(
        &mut self,
        segment: &Segment,
        journey: &str,
        before: &BTreeMap<String, Member>,
    ) {
        let Some(journeys) = self.looked.get_mut(&segment.key) else {
            return;
        };
        if journeys.iter().any(|known| known == journey) {
            return;
        }
        journeys.push(journey.to_owned());
        let was_told = before.iter().any(|(key, member)| {
            *key != segment.key && name_of(key) == segment.name && member.is_told(journey)
        });
        if was_told {
            self.tell(segment, journey);
        }
    }

    /// Whether a journey has begun for whoever is in a segment, or was kept from that; nothing where they aren't in.
    pub(crate) fn is_told(&self, segment: &Segment, journey: &str) -> Option<bool> {
        let member = self.of.get(&segment.key)?;
        Some(member.is_told(journey))
    }

    pub(crate) fn tell(&mut self, segment: &Segment, journey: &str) {
        if let Some(member) = self.of.get_mut(&segment.key)
            && !member.is_told(journey)
        {
            member.told.push(journey.to_owned());
        }
    }

    /// Forgets what a segment said before it said something else, and what nobody asks for, where it is too much.
    pub(crate) fn settle(&mut self, keys: &BTreeSet<String>, names: &BTreeSet<String>) {
        self.of
            .retain(|key, _| keys.contains(key) || !names.contains(name_of(key)));
        while self.of.len() > KEPT_MAX {
            let unwanted = self.of.iter().filter(|(key, _)| !keys.contains(*key));
            let oldest = unwanted.min_by_key(|(_, member)| member.since_ms);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.of.remove(&key);
        }
        let of = &self.of;
        self.looked
            .retain(|key, _| keys.contains(key) || of.contains_key(key));
    }
}

impl Member {
    fn is_told(&self, journey: &str) -> bool {
        self.told.iter().any(|told| told == journey)
    }
}

/// The name of the segment with a key.
fn name_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(name, _)| name)
}

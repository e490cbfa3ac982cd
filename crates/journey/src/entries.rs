//! What of a patient's beginnings of a journey is ahead, and what did not begin: one document for a patient and a
//! journey.
//!
//! A journey that begins at a date has its timer here, one for all dates that are ahead. When it is due, the record
//! is asked anew, so that neither a date that has moved nor a fact that is gone begins anything. What a rule of the
//! entry refuses is written down here too: it is shown on the patient's page, and begins nothing later.

use crate::dates::Occurrence;
use crate::mover::MoveError;
use fhir::ResourceType;
use ledger::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use trust::TrustError;

/// Kind of these documents.
pub const BEGINNINGS: Kind = Kind(1096);
/// The number by which journeys are woken to begin. Not that of journeys under way: a program that doesn't know of
/// beginnings would take their timers for those of journeys that are gone, and clear them.
pub(crate) const BEGIN_CONSUMER: u16 = 4;

/// How it is written. A document of another format is another program's.
const FORMAT: u32 = 1;
/// Most refused beginnings that are kept, newest last; the oldest are forgotten, and first those that don't stay.
const REFUSED_MAX: usize = 50;
/// Most dates of one patient that are ahead for one journey.
pub(crate) const AHEAD_MAX: usize = 500;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entries {
    format: u32,
    pub(crate) patient: String,
    pub(crate) journey: String,
    /// What is to begin, by the id of the resource that says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) ahead: BTreeMap<String, Ahead>,
    /// What did not begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) refused: Vec<Refused>,
    /// The time zone by which the dates were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// Whether the patient was known to be dead.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) dead: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A beginning that is ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ahead {
    /// The type of the resource.
    pub(crate) kind: String,
    /// What it is known by beside the resource.
    pub(crate) key: String,
    pub(crate) at_ms: u64,
}

impl Ahead {
    pub(crate) fn of(kind: ResourceType, occurrence: Occurrence) -> Self {
        Self {
            kind: kind.name().to_owned(),
            key: occurrence.key,
            at_ms: occurrence.at_ms,
        }
    }
}

/// A beginning that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refused {
    /// What it was keyed by.
    pub(crate) key: String,
    /// When, care clock.
    pub(crate) at_ms: u64,
    /// Why, in words without anything of the patient.
    pub(crate) why: String,
    /// What would have begun it (`Appointment/ID`).
    pub(crate) cause: String,
    /// Whether it stays so, whatever is written about it later.
    pub(crate) stays: bool,
}

impl Entries {
    pub(crate) fn new(patient: &str, journey: &str) -> Self {
        Self {
            format: FORMAT,
            patient: patient.to_owned(),
            journey: journey.to_owned(),
            ahead: BTreeMap::new(),
            refused: Vec::new(),
            zone: None,
            dead: false,
        }
    }

    pub(crate) fn from_json(body: &[u8]) -> Result<Self, MoveError> {
        let read: Option<Self> = serde_json::from_slice(body).ok();
        // The parser's own words may hold a patient's.
        let damaged = || TrustError::Damaged("what begins a patient's journeys".to_owned());
        Ok(read
            .filter(|read| read.format == FORMAT)
            .ok_or_else(damaged)?)
    }

    /// When somebody has to look next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.ahead.values().map(|ahead| ahead.at_ms).min()
    }

    /// What is due, with the types of the resources that say so.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<(String, Ahead)> {
        let due = self.ahead.iter();
        let due = due.filter(|(_, ahead)| ahead.at_ms <= now_ms);
        due.map(|(id, ahead)| (id.clone(), ahead.clone())).collect()
    }

    /// Whether a beginning was refused for good.
    pub(crate) fn is_refused(&self, key: &str) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|refused| refused.stays && refused.key == key)
    }

    /// Writes down that something did not begin. The same for the same reason again changes nothing, and nor does what
    /// doesn't stay, where the newest says it already: who is under way is written of again and again.
    pub(crate) fn refuse(&mut self, refused: Refused) {
        let newest = self.refused.last();
        if newest.is_some_and(|newest| !newest.stays && !refused.stays && newest.why == refused.why)
        {
            return;
        }
        let of_key = |known: &&mut Refused| known.key == refused.key;
        if let Some(known) = self.refused.iter_mut().find(of_key) {
            if known.why != refused.why || known.stays != refused.stays {
                *known = refused;
            }
            return;
        }
        self.refused.push(refused);
        while self.refused.len() > REFUSED_MAX {
            // What stays keeps a journey from beginning; the rest is told alone.
            let told = self.refused.iter().position(|refused| !refused.stays);
            self.refused.remove(told.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: &str, why: &str) -> Refused {
        Refused {
            key: key.to_owned(),
            at_ms: 1,
            why: why.to_owned(),
            cause: "Encounter/1".to_owned(),
            stays: true,
        }
    }

    #[test]
    fn what_was_refused_is_kept_once_and_not_for_ever() {
        let mut entries = Entries::new("p", "j");
        for n in 0..REFUSED_MAX + 5 {
            entries.refuse(refused(&n.to_string(), "it was over"));
            entries.refuse(refused(&n.to_string(), "it was over"));
        }
        assert_eq!(entries.refused.len(), REFUSED_MAX);
        assert!(!entries.is_refused("0") && entries.is_refused("54"));
        let body = serde_json::to_vec(&entries).unwrap();
        assert_eq!(Entries::from_json(&body).unwrap(), entries);
    }

    #[test]
    fn what_stays_is_not_forgotten_for_what_is_told_alone() {
        let told = |key: &str, why: &str| Refused {
            stays: false,
            ..refused(key, why)
        };
        let mut entries = Entries::new("p", "j");
        entries.refuse(refused("first", "it was over"));
        for n in 0..2 * REFUSED_MAX {
            // Another reason each time, so that each is written down.
            entries.refuse(told(&n.to_string(), &format!("why {n}")));
        }
        assert_eq!(entries.refused.len(), REFUSED_MAX);
        assert!(entries.is_refused("first"));
        let before = entries.clone();
        let why = format!("why {}", 2 * REFUSED_MAX - 1);
        entries.refuse(told("another", &why));
        assert_eq!(entries, before, "the newest says it");
        entries.refuse(told("another", "why not"));
        assert_ne!(entries, before);
        entries.refuse(refused("another", "why not"));
        assert!(entries.is_refused("another"));
    }

    #[test]
    fn another_programs_document_is_not_taken_for_ones_own() {
        let newer = br#"{"format":2,"patient":"p","journey":"j"}"#;
        assert!(Entries::from_json(newer).is_err());
        let more = br#"{"format":1,"patient":"p","journey":"j","more":1}"#;
        assert!(Entries::from_json(more).is_err());
    }
}

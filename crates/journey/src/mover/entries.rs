//! What begins a patient's journeys, in the unit of work that changes it: the document and its timer.

use super::{MoveError, Mover, sixteen};
use crate::entries::{BEGIN_CONSUMER, BEGINNINGS, Entries, Refused};
use ledger::{Expected, Timer, TimerKey};
use trust::Internal;

/// What was read of one journey's beginnings, with what this unit of work changes.
pub(super) struct Opened {
    id: String,
    entries: Entries,
    before: Entries,
    expected: Expected,
}

impl Mover<'_> {
    fn entries_id(&self, journey: &str) -> String {
        let name = format!("begins/{journey}/{}", self.patient);
        self.vault
            .ledger()
            .derive_id(self.tenant(), &self.owner(), &name)
    }

    /// What of the patient's beginnings of a journey is ahead, and what was refused; read once.
    pub(crate) async fn entries(&mut self, journey: &str) -> Result<&mut Entries, MoveError> {
        if !self.entries.contains_key(journey) {
            let id = self.entries_id(journey);
            let found = self.vault.internal(self.permit, BEGINNINGS, &id).await?;
            let (entries, expected) = match found {
                Some(found) => (
                    Entries::from_json(&found.body)?,
                    Expected::Version(found.version),
                ),
                None => (Entries::new(&self.patient, journey), Expected::Absent),
            };
            let opened = Opened {
                id,
                before: entries.clone(),
                entries,
                expected,
            };
            self.entries.insert(journey.to_owned(), opened);
        }
        let opened = self.entries.get_mut(journey);
        let missing = || MoveError::NoDefinition(journey.to_owned());
        Ok(&mut opened.ok_or_else(missing)?.entries)
    }

    /// What is known of them by now, changes of this unit of work included; nothing where they were not read.
    pub(crate) fn known_entries(&self, journey: &str) -> Option<Entries> {
        let opened = self.entries.get(journey)?;
        Some(opened.entries.clone())
    }

    /// Takes back what was changed since.
    pub(crate) fn put_entries_back(&mut self, journey: &str, known: Option<Entries>) {
        if let Some(opened) = self.entries.get_mut(journey) {
            opened.entries = known.unwrap_or_else(|| opened.before.clone());
        }
    }

    /// Whether there is such a document.
    pub(crate) async fn has_entries(&mut self, journey: &str) -> Result<bool, MoveError> {
        self.entries(journey).await?;
        let opened = self.entries.get(journey);
        Ok(opened.is_some_and(|opened| opened.expected != Expected::Absent))
    }

    /// Writes down that a journey did not begin.
    pub(crate) async fn refuse(
        &mut self,
        journey: &str,
        (key, cause, why): (&str, &str, &str),
        stays: bool,
    ) -> Result<(), MoveError> {
        metrics::counter!("journey_starts_skipped_total", "journey" => journey.to_owned())
            .increment(1);
        let refused = Refused {
            key: key.to_owned(),
            at_ms: self.now_ms,
            why: why.to_owned(),
            cause: cause.to_owned(),
            stays,
        };
        self.entries(journey).await?.refuse(refused);
        Ok(())
    }

    /// Takes what has changed into the unit. What the audit says of it, if anything has.
    pub(super) fn keep_entries(&mut self) -> Option<String> {
        let mut notes = Vec::new();
        let ledger = self.vault.ledger();
        let owner = self.owner();
        let opened = std::mem::take(&mut self.entries);
        for (journey, opened) in opened {
            let Opened {
                id,
                entries,
                before,
                expected,
            } = opened;
            if entries == before {
                continue;
            }
            let key = |due_ms: u64| TimerKey {
                shard: ledger.shard_of(self.permit.tenant(), &owner, &id),
                due_ms,
                id: sixteen(&id),
            };
            let (old, new) = (before.next_ms(), entries.next_ms());
            // What is due still has to wake somebody, also where the timer that did is cleared with this.
            let is_due = new.is_some_and(|new_ms| new_ms <= self.now_ms);
            if old != new || is_due {
                let gone = old.filter(|_| old != new);
                self.unit.timers_clear.extend(gone.map(key));
                self.unit.timers_set.extend(new.map(|due_ms| Timer {
                    key: key(due_ms),
                    tenant: self.permit.tenant(),
                    consumer: BEGIN_CONSUMER,
                    payload: id.as_bytes().to_vec(),
                }));
            }
            notes.push(if entries.refused == before.refused {
                format!("{journey}: what is to begin was planned")
            } else {
                format!("{journey}: not begun")
            });
            self.unit.internals.push(Internal {
                kind: BEGINNINGS,
                id,
                owner: owner.clone(),
                expected,
                // A document of names and numbers can't fail to serialise.
                body: serde_json::to_vec(&entries).unwrap_or_default(),
                deleted: false,
                tokens: vec![("patient".to_owned(), self.patient.clone())],
            });
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

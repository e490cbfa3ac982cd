//! The segments that a patient is in, in the unit of work that changes it: the look, the document and its timer.

use super::{MoveError, Mover, shown, sixteen};
use crate::definition::Definition;
use crate::segments::members::{LOOK_CONSUMER, Members, SEGMENT_MEMBERS};
use crate::segments::{Found, Known, Segment};
use crate::state::State;
use fhir::ResourceType;
use ledger::{Expected, Timer, TimerKey};
use std::collections::{BTreeMap, BTreeSet};
use trust::{Internal, Purpose};

/// What was read of the document, with what this unit of work changes.
pub(super) struct Opened {
    id: String,
    members: Members,
    before: Members,
    expected: Expected,
    /// Whether a look has read the record, and not only somebody asked for one.
    looked: bool,
}

/// What of the record a look has read, by the purpose for which it may be seen.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<&'static str, Known>);

impl Mover<'_> {
    /// The segments that the patient is in, as they were looked at last; read once.
    pub(crate) async fn members(&mut self) -> Result<&mut Members, MoveError> {
        if self.members.is_none() {
            let name = format!("segments/{}", self.patient);
            let ledger = self.vault.ledger();
            let id = ledger.derive_id(self.tenant(), &self.owner(), &name);
            let found = self.vault.internal(self.permit, SEGMENT_MEMBERS, &id);
            let (members, expected) = match found.await? {
                Some(found) => (
                    Members::from_json(&found.body)?,
                    Expected::Version(found.version),
                ),
                None => (Members::new(&self.patient), Expected::Absent),
            };
            self.members = Some(Opened {
                id,
                before: members.clone(),
                members,
                expected,
                looked: false,
            });
        }
        let missing = || MoveError::NoDefinition("segments".to_owned());
        Ok(&mut self.members.as_mut().ok_or_else(missing)?.members)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What the record was asked for.
    pub(crate) fn looked_for(&self) -> impl Iterator<Item = ResourceType> {
        self.looked_for.iter().copied()
    }

    /// Has the patient looked at a little later.
    pub(crate) async fn mark(&mut self) -> Result<(), MoveError> {
        let now_ms = self.now_ms;
        self.members().await?.mark(now_ms);
        Ok(())
    }

    /// Has a patient looked at who comes to a version that asks about segments: nobody may have looked at those.
    pub(super) async fn watch(
        &mut self,
        definition: &Definition,
        before: Option<&State>,
        after: &State,
    ) -> Result<(), MoveError> {
        let comes = before.is_none_or(|before| before.version != after.version);
        if comes && after.running() && !definition.watched().is_empty() {
            self.mark().await?;
            // Another process may look at the patient just now, and not know of this.
            self.members().await?.anew();
        }
        Ok(())
    }

    /// What of the record these segments are told by, as a purpose lets it be seen. How many resources that are.
    async fn known(
        &mut self,
        purpose: Purpose,
        kinds: &BTreeSet<ResourceType>,
    ) -> Result<&Known, MoveError> {
        let person = self.person().await?.cloned();
        let (vault, permit) = (self.vault, self.permit);
        let known = self.seen.0.entry(purpose.code()).or_default();
        known.person = person;
        for kind in kinds {
            if *kind == ResourceType::Patient || known.of.contains_key(kind) {
                continue;
            }
            // What names several patients is told by to the first alone, whom its events mark.
            let (rows, kept) = shown(vault, permit, *kind, &self.patient, purpose, &[]).await?;
            if kept {
                known.kept.insert(*kind);
            }
            known.of.insert(*kind, rows);
            self.looked_for.insert(*kind);
        }
        Ok(known)
    }

    /// How many resources were read for looks.
    pub(crate) fn read(&self) -> u64 {
        let known = self.seen.0.values().flat_map(|known| known.of.values());
        known.map(|rows| rows.len() as u64).sum()
    }

    /// Whether the patient is in a segment of a journey, as the record is now.
    pub(crate) async fn segment(
        &mut self,
        definition: &Definition,
        segment: &Segment,
    ) -> Result<Found, MoveError> {
        let now_ms = self.now_ms;
        let known = self.known(definition.purpose, &segment.kinds()).await?;
        Ok(segment.look(known, &definition.zone, now_ms))
    }

    /// Which segments hold that a journey's exits and waits ask about, and when time can change that.
    pub(crate) async fn segments(
        &mut self,
        definition: &Definition,
    ) -> Result<(Vec<usize>, Option<u64>), MoveError> {
        let watched = definition.watched();
        if watched.is_empty() {
            return Ok((Vec::new(), None));
        }
        let watched = watched.iter().map(|place| &definition.segments[*place]);
        let kinds = watched.flat_map(Segment::kinds).collect();
        let (now_ms, before) = (self.now_ms, self.members().await?.clone());
        let known = self.known(definition.purpose, &kinds).await?;
        Ok(definition.look(known, now_ms, &|segment| before.was_in(segment)))
    }

    /// The record was looked at.
    pub(crate) fn has_looked(&mut self) {
        if let Some(opened) = &mut self.members {
            opened.looked = true;
        }
    }

    /// Takes what has changed into the unit. What the audit says of it, if anything has.
    pub(super) fn keep_members(&mut self) -> Option<&'static str> {
        let Opened {
            id,
            members,
            before,
            expected,
            looked,
        } = self.members.take()?;
        // Of who is in nothing, and of whom nobody knew, there is nothing to keep.
        let is_new = expected == Expected::Absent;
        if members == before || is_new && members.of.is_empty() && members.due_ms().is_none() {
            return None;
        }
        let (ledger, owner, tenant) = (self.vault.ledger(), self.owner(), self.tenant());
        let key = |due_ms: u64| TimerKey {
            shard: ledger.shard_of(tenant, &owner, &id),
            due_ms,
            id: sixteen(&id),
        };
        let (old, new) = (before.due_ms(), members.due_ms());
        // What is due still has to wake somebody, also where the timer that did is cleared with this.
        let is_due = new.is_some_and(|new_ms| new_ms <= self.now_ms);
        if old != new || is_due {
            let gone = old.filter(|_| old != new);
            self.unit.timers_clear.extend(gone.map(key));
            self.unit.timers_set.extend(new.map(|due_ms| Timer {
                key: key(due_ms),
                tenant,
                consumer: LOOK_CONSUMER,
                payload: id.as_bytes().to_vec(),
            }));
        }
        self.unit.internals.push(Internal {
            kind: SEGMENT_MEMBERS,
            id,
            owner,
            expected,
            // A document of names and numbers can't fail to serialise.
            body: serde_json::to_vec(&members).unwrap_or_default(),
            deleted: false,
            tokens: vec![("patient".to_owned(), self.patient.clone())],
        });
        Some(if looked {
            "journeys: the patient was looked at for segments"
        } else {
            "journeys: the patient is to be looked at for segments"
        })
    }
}

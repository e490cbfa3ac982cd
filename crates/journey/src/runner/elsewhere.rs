//! Shards that another server follows: what that one has still to read of a patient comes before what somebody does
//! about the patient here.
//!
//! It is told to the patient's journeys by this server, as any follower would; the other one finds it done.

use super::{CONFLICTS_MAX, Cure, EVENTS_AT_ONCE, Errand, consumer, cure};
use crate::Journeys;
use crate::books::Books;
use crate::mover::MoveError;
use fhir::ResourceType;
use ledger::{Event, Number, Shard};
use std::collections::HashMap;
use std::sync::Arc;
use trust::{Permit, TrustError, Versioned};

/// What of a shard's feed is not known to be done, by patient: opened once, however many are acted on.
#[derive(Default)]
pub(crate) struct Unread {
    /// Up to where the feed was looked at.
    to: Number,
    of: HashMap<String, Vec<Event>>,
}

impl Unread {
    /// Up to here the one who follows it has come.
    fn follow(&mut self, done: Number) {
        if self.to <= done {
            *self = Self {
                to: done,
                of: HashMap::new(),
            };
            return;
        }
        self.of.retain(|_, events| {
            events.retain(|event| event.at.number > done);
            !events.is_empty()
        });
    }
}

/// Whose it is, of what was deleted too.
pub(super) fn patient_of((found, before): (&Versioned, Option<&fhir::Resource>)) -> Option<String> {
    let said = before.unwrap_or(&found.resource);
    match said.kind() {
        ResourceType::Patient => said.id().map(str::to_owned),
        _ => said.patient().map(str::to_owned),
    }
}

impl Journeys {
    /// Tells a patient's journeys what is on the feed of their shard and may not have been read by the server that
    /// follows it. The caller has the shard's position.
    pub(super) async fn tell_unread(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
        patient: &str,
    ) -> Result<(), MoveError> {
        let ledger = self.vault().ledger();
        let Some(unread) = books.unread_of(shard) else {
            return Ok(());
        };
        let mut unread = unread.lock().await;
        let done = ledger.cursor(&consumer(books.tenant), shard).await;
        unread.follow(done.map_err(TrustError::from)?);
        ledger
            .shard_head_now(shard)
            .await
            .map_err(TrustError::from)?;
        // Whether somebody is under way has to be known before events are passed over for that.
        self.observe(books, permit, shard).await?;
        loop {
            let events = ledger.events(shard, unread.to, EVENTS_AT_ONCE).await;
            let events = events.map_err(TrustError::from)?;
            self.hear_before(books, permit, &events).await?;
            let full = events.len() == EVENTS_AT_ONCE;
            for event in events {
                let at = event.at;
                if Self::may_matter(books, &event) {
                    let found = self.vault().load_both_at(permit, at).await;
                    match found.map_err(MoveError::from) {
                        Ok(Some((found, before))) => {
                            if let Some(whose) = patient_of((&found, before.as_ref())) {
                                unread.of.entry(whose).or_default().push(event);
                            }
                        }
                        Ok(None) => {}
                        // What can't be read is for the one who follows the shard to say.
                        Err(error) if matches!(cure(&error), Cure::Bury | Cure::Skip) => {}
                        Err(error) => return Err(error),
                    }
                }
                unread.to = at.number;
            }
            if !full {
                break;
            }
        }
        for event in unread.of.get(patient).cloned().unwrap_or_default() {
            let mut conflicts = 0;
            loop {
                let errand = Errand {
                    event: &event,
                    cursor: None,
                    held: None,
                    only: None,
                    letter: None,
                };
                match Box::pin(self.move_event(books, permit, errand)).await {
                    Ok(_) => break,
                    Err(error) => match cure(&error) {
                        Cure::Again if conflicts < CONFLICTS_MAX => conflicts += 1,
                        Cure::Bury | Cure::Skip => break,
                        Cure::Again | Cure::Wait => return Err(error),
                    },
                }
            }
        }
        unread.of.remove(patient);
        Ok(())
    }
}

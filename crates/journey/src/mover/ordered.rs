//! Messages that have to wait, as others see them: a `CommunicationRequest` each, in the commit of what changes it.
//!
//! A message that leaves at once has none: it is a `Communication` from the first moment, and an order that is written
//! and done in one commit would cost a document for each message and tell nothing.

use super::{MoveError, Mover, PatientIds, room};
use crate::definition::Definition;
use crate::engine::{Ids, Manual, about, channel_of, message_slot};
use crate::resources;
use crate::state::{Held, State, What, Which};
use fhir::{Resource, ResourceType};

const ORDER: ResourceType = ResourceType::CommunicationRequest;

/// The id of a message's order.
fn order_id(ids: &PatientIds<'_>, instance: &str, n: u32, which: Which) -> String {
    ids.id(&format!("request/{}", room::key(instance, n, which)))
}

fn same<'a>(of: &'a [Held], held: &Held) -> Option<&'a Held> {
    let mut of = of.iter();
    of.find(|other| (other.n, other.which) == (held.n, held.which))
}

impl Mover<'_> {
    /// Writes the orders of messages that wait since, wait otherwise, or wait no more.
    pub(super) async fn show_orders(
        &mut self,
        definition: &Definition,
        instance: &str,
        before: Option<&State>,
        after: &State,
        ids: &PatientIds<'_>,
    ) -> Result<(), MoveError> {
        let was = before.map_or(&[][..], |before| before.held.as_slice());
        let (was_on_hold, on_hold) = (
            before.is_some_and(|before| before.paused.is_some()),
            after.paused.is_some(),
        );
        for held in &after.held {
            let id = order_id(ids, instance, held.n, held.which);
            match same(was, held) {
                Some(before) => {
                    let is_same = (before.at_ms, before.why) == (held.at_ms, held.why);
                    if !is_same || was_on_hold != on_hold {
                        let held = held.clone();
                        self.change(ORDER, &id, |order| resources::waits(order, &held, on_hold))
                            .await?;
                    }
                }
                None if !self.has_order(&id).await? => {
                    self.person().await?;
                    let made = self.order(definition, instance, after, held, (&id, ids));
                    made.into_iter().for_each(|made| self.create(made));
                }
                // It has waited before, and gone out or not; now it waits again, by another channel or begun anew.
                None => {
                    self.person().await?;
                    let made = self.order(definition, instance, after, held, (&id, ids));
                    if let Some(made) = made
                        && let Some(draft) = self.draft(ORDER, &id).await?
                    {
                        draft.resource = made;
                        draft.changed = true;
                    }
                }
            }
        }
        let fresh = before.map_or(0, State::trail_total);
        let fresh = fresh.saturating_sub(after.moved as usize);
        let fresh = after.trail.get(fresh..).unwrap_or_default();
        for held in was.iter().filter(|held| same(&after.held, held).is_none()) {
            let slot = message_slot(held.which, usize::from(held.channel));
            let message = ids.id(&format!("{instance}/{}/{slot}", held.n));
            let message = format!("Communication/{message}");
            let sent = fresh.iter().any(|entry| {
                matches!(entry.what, What::Sent { .. })
                    && entry.reference.as_ref() == Some(&message)
            });
            let id = order_id(ids, instance, held.n, held.which);
            self.change(ORDER, &id, |order| resources::ends(order, sent))
                .await?;
        }
        Ok(())
    }

    /// Whether there is, or was, an order: one that was deleted is not written again.
    async fn has_order(&self, id: &str) -> Result<bool, MoveError> {
        let known = self.drafts.contains_key(&(ORDER.code(), id.to_owned()));
        Ok(known || self.vault.load(self.permit, ORDER, id).await?.is_some())
    }

    fn order(
        &self,
        definition: &Definition,
        instance: &str,
        state: &State,
        held: &Held,
        (id, ids): (&str, &PatientIds<'_>),
    ) -> Option<Resource> {
        let token = state.tokens.iter().find(|token| token.n == held.n)?;
        let step = definition.step(&token.step)?;
        let channel = channel_of(step, held.which, held.channel)?;
        let about = about((definition, state), step, token, |slot| {
            ids.id(&format!("{instance}/{}/{slot}", held.n))
        });
        let maker = self.maker(definition, instance, state);
        maker.ordered(step, held, id, channel, about.as_ref())
    }

    /// The message that somebody calls off by having written to its order. What counts is what the order says now.
    pub(crate) async fn asked_by_order(
        &mut self,
        instance: &str,
        definition: &Definition,
        state: &State,
        written: &Resource,
    ) -> Result<Option<Manual>, MoveError> {
        let ids = self.ids(definition);
        for held in &state.held {
            let id = order_id(&ids, instance, held.n, held.which);
            if written.id() == Some(id.as_str()) {
                let asked = self.called_off(&ids, instance, held).await?;
                if asked.is_some() {
                    self.deed = Some("a message was called off by its request");
                }
                return Ok(asked);
            }
        }
        Ok(None)
    }

    /// Whether a message that waits was called off by its order.
    pub(super) async fn called_off(
        &mut self,
        ids: &PatientIds<'_>,
        instance: &str,
        held: &Held,
    ) -> Result<Option<Manual>, MoveError> {
        let id = order_id(ids, instance, held.n, held.which);
        let order = self.draft(ORDER, &id).await?;
        let closed = order.is_some_and(|order| !resources::open(&order.resource));
        Ok(closed.then(|| Manual::CallOff {
            n: held.n,
            which: held.which,
            by: format!("{ORDER}/{id}"),
        }))
    }
}

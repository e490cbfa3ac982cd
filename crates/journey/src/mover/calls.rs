//! What leaves by the outbox: messages, and calls to partners, which are held back and let go on.

use super::{MoveError, Mover, sixteen};
use crate::definition::{Channel, Definition};
use crate::engine::Effect;
use crate::resources;
use crate::state::State;
use fhir::ResourceType;
use ledger::{OutboxDraft, OutboxKey};
use trust::outgoing::{CHANNEL_QUESTION, Call, Message};

impl Mover<'_> {
    pub(super) fn post(&mut self, channel: Channel, communication: &str, message: &Message) {
        let outbox = match message.question {
            Some(_) => Some(CHANNEL_QUESTION),
            None => channel.outbox(),
        };
        let Some(outbox) = outbox else {
            return;
        };
        // A message of strings can't fail to serialise.
        let body = serde_json::to_vec(message).unwrap_or_default();
        self.put_out(outbox, communication, body, 0);
    }

    /// Puts an entry into the outbox, under the id of the resource that follows it.
    fn put_out(&mut self, channel: u16, resource: &str, body: Vec<u8>, attempt: u32) {
        let ledger = self.vault.ledger();
        let shard = ledger.shard_of(self.tenant(), &self.owner(), resource);
        self.unit.outbox_add.push(OutboxDraft {
            key: OutboxKey {
                shard,
                due_ms: self.now_ms,
                id: sixteen(resource),
            },
            owner: self.owner(),
            channel,
            attempt,
            body,
        });
    }

    /// Puts a call on its way, with the `Task` that stands for it.
    pub(super) fn call(&mut self, call: &Call) {
        self.call_after(call, 0);
    }

    /// The same after so many attempts.
    fn call_after(&mut self, call: &Call, attempts: u32) {
        // One of strings and JSON can't fail to serialise.
        let body = serde_json::to_vec(call).unwrap_or_default();
        self.put_out(call.channel(), &call.task, body, attempts);
    }

    /// Holds a call back while its journey is held, or lets it go on.
    pub(super) async fn call_waits(
        &mut self,
        definition: &Definition,
        instance: &str,
        state: &State,
        effect: &Effect,
    ) -> Result<(), MoveError> {
        let (step, task) = match effect {
            Effect::HoldTask { task } => {
                let held = self.change(ResourceType::Task, task, resources::hold_call);
                return held.await;
            }
            Effect::CallOn { step, task, .. } => (step, task),
            _ => return Ok(()),
        };
        let mut standing = None;
        self.change(ResourceType::Task, task, |task| {
            standing = resources::call_on(task);
        })
        .await?;
        if let (Some(standing), Some(step)) = (standing, definition.step(step)) {
            self.person().await?;
            let maker = self.maker(definition, instance, state);
            if let Some(call) = step.kind.order(&maker, step, effect) {
                // What of it is still in the outbox is of another turn, and is dropped there.
                let call = Call {
                    turn: Some(standing.turn),
                    ..call
                };
                self.call_after(&call, standing.attempts);
            }
        }
        Ok(())
    }
}

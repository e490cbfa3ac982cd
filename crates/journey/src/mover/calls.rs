//! What leaves by the outbox: messages, and calls to partners, which are held back and let go on.

use super::{MoveError, Mover, sixteen};
use crate::definition::Definition;
use crate::engine::Effect;
use crate::resources;
use crate::state::State;
use fhir::ResourceType;
use ledger::{OutboxDraft, OutboxKey};
use trust::outgoing::{CHANNEL_CALL, CHANNEL_EMAIL, Call, Message};

impl Mover<'_> {
    pub(super) fn post(&mut self, communication: &str, message: &Message) {
        // A message of strings can't fail to serialise.
        let body = serde_json::to_vec(message).unwrap_or_default();
        self.put_out(CHANNEL_EMAIL, communication, body);
    }

    /// Puts an entry into the outbox, under the id of the resource that follows it.
    fn put_out(&mut self, channel: u16, resource: &str, body: Vec<u8>) {
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
            attempt: 0,
            body,
        });
    }

    /// Puts a call on its way, with the `Task` that stands for it.
    pub(super) fn call(&mut self, call: &Call) {
        // One of strings and JSON can't fail to serialise.
        let body = serde_json::to_vec(call).unwrap_or_default();
        self.put_out(CHANNEL_CALL, &call.task, body);
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
        let mut was_held = false;
        self.change(ResourceType::Task, task, |task| {
            was_held = resources::call_on(task);
        })
        .await?;
        if was_held && let Some(step) = definition.step(step) {
            self.person().await?;
            let maker = self.maker(definition, instance, state);
            if let Some(call) = step.kind.order(&maker, step, effect) {
                self.call(&call);
            }
        }
        Ok(())
    }
}

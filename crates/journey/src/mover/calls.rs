//! Calls to partners: put on their way, held back and let go on.

use super::{MoveError, Mover};
use crate::definition::Definition;
use crate::engine::Effect;
use crate::resources;
use crate::state::State;
use fhir::ResourceType;
use trust::outgoing::{CHANNEL_CALL, Call};

impl Mover<'_> {
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

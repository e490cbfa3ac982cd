//! The orders by which journeys begin others: how those that were asked for have ended, or why they don't begin.

use super::{MoveError, Mover};
use crate::state::State;
use crate::{resources, runner};
use fhir::ResourceType;

impl Mover<'_> {
    /// Says in the order that asked for a journey how it has ended.
    pub(super) async fn tell_of_end(
        &mut self,
        before: Option<(&State, u32)>,
        after: &State,
    ) -> Result<(), MoveError> {
        let ran = before.is_none_or(|(state, _)| state.running());
        if let (true, Some(order), Some((code, title))) =
            (ran, runner::task_of(&after.key), after.ending())
        {
            let now_ms = self.now_ms;
            self.change(ResourceType::Task, order, |order| {
                runner::ended(order, code, title, now_ms);
            })
            .await?;
        }
        Ok(())
    }

    /// Says in an order why the journey that it asks for isn't begun.
    pub(crate) async fn turn_down(&mut self, order: &str, why: &str) -> Result<(), MoveError> {
        let now_ms = self.now_ms;
        self.change(ResourceType::Task, order, |order| {
            resources::close(order, false, why, now_ms);
            order.set("status", serde_json::json!("rejected"));
        })
        .await
    }
}

//! The draft's segments, looked at as the record was then.

use super::Leader;
use crate::ahead::Run;
use crate::engine::{Event, Input};
use crate::segments::members::LOOK_AFTER_MS;
use crate::segments::soonest;

impl Leader<'_> {
    /// Has the patient looked at a little later, where the draft asks about segments.
    pub(super) fn mark(&mut self) {
        if !self.draft.watched().is_empty() {
            let look_ms = self.now_ms.saturating_add(LOOK_AFTER_MS);
            self.look_ms = soonest(self.look_ms, Some(look_ms));
        }
    }

    /// Tells the draft which of its segments hold. What labels and seals keep is not known here.
    pub(super) fn look_at_segments(&mut self, run: &mut Run<'_>) -> Result<(), String> {
        self.one_more()?;
        let (holds, next_ms) = self.stage.segments(self.draft, self.now_ms);
        self.look_ms = next_ms;
        let told = Input::Event(Event::of_segments(holds));
        run.input(told, &mut self.stage)
            .map_err(|error| error.to_string())?;
        self.settle(run)
    }

    /// Whether the patient is in the segment by which the draft begins.
    pub(super) fn is_in(&self, now_ms: u64) -> bool {
        let draft = self.draft;
        draft.begins_by().is_some_and(|segment| {
            let found = segment.look(&self.stage.known(draft), &draft.zone, now_ms);
            found.inside == Some(true)
        })
    }
}

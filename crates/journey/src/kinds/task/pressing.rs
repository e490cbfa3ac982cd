//! Tasks that can't wait: who is at risk as long as nobody has done them.

use super::{Overdue, Task, way};
use crate::check::Check;
use crate::definition::{Step, Way};

/// FHIR's `request-priority`, from the least.
const RISING: [&str; 4] = ["routine", "urgent", "asap", "stat"];
/// From here on a task can't wait.
const PRESSING: usize = 2;

fn rank(priority: &str) -> usize {
    RISING.iter().position(|one| *one == priority).unwrap_or(0)
}

impl Task {
    /// How pressing it is at its most.
    fn rank(&self) -> usize {
        let rungs = self.ladder.iter().map(|rung| rank(&rung.priority));
        rungs.fold(rank(&self.priority), usize::max)
    }

    pub(super) fn presses(&self) -> bool {
        self.rank() >= PRESSING
    }

    /// The way by which nobody has done it in time.
    pub(super) fn not_in_time(&self) -> Vec<Way<'_>> {
        match &self.overdue {
            Some(Overdue::Go(target)) if self.presses() => vec![way("overdue", target, false)],
            _ => Vec::new(),
        }
    }

    pub(super) fn check_pressing(&self, check: &mut Check<'_, '_>, step: &Step) {
        if !self.presses() {
            return;
        }
        let mut before = rank(&self.priority);
        let rungs = self
            .ladder
            .iter()
            .map(|rung| (rung.priority.as_str(), rung.place));
        let top = match &self.overdue {
            Some(Overdue::HandOver { priority, .. }) => {
                Some((priority.as_str(), check.at(step, &["overdue"])))
            }
            _ => None,
        };
        let falling: Vec<_> = rungs
            .chain(top)
            .filter(|(priority, _)| {
                let falls = rank(priority) < before;
                before = before.max(rank(priority));
                falls
            })
            .collect();
        for (priority, place) in falling {
            let words = format!(
                "`{}` can't wait, and is handed on as `{priority}`, which is less than it was; keep at least the priority that it had",
                step.id
            );
            check.findings.error("J080", place, words);
        }
        if self.not_done.is_none() {
            let words = format!(
                "`{}` can't wait, and the file doesn't say where to go when it was given up or failed (`not_done`): the journey would go on as if it was done",
                step.id
            );
            check.findings.warning("J080", step.place, words);
        }
    }
}

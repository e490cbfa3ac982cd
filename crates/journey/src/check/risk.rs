//! Clinical risk: what may harm a patient if nobody sees it in time has to come to somebody.

use super::Check;
use crate::definition::Target;
use std::collections::BTreeSet;

/// An error where nobody at all would learn of it.
const UNSEEN: &str = "J080";

/// Which steps come to somebody, whatever happens.
struct Seen {
    steps: Vec<bool>,
    /// The steps that enclose each, nearest or not: where a part inside ends, they go on.
    within: Vec<Vec<usize>>,
}

impl Check<'_, '_> {
    pub(super) fn risks(&mut self) {
        let seen = self.comes_to_somebody();
        for (index, step) in self.definition.steps.iter().enumerate() {
            for way in step.kind.unseen() {
                let (id, label) = (&step.id, &way.label);
                let said = format!("what `{id}` is about can't wait, and by \"{label}\"");
                if !self.can_come_to_somebody(&seen, index, way.target) {
                    self.findings.error(
                        UNSEEN,
                        way.target.place,
                        format!("{said} no task for staff is ever reached, so nobody learns of it; lead to a task"),
                    );
                } else if !self.comes(&seen, index, way.target) {
                    self.findings.warning(
                        UNSEEN,
                        way.target.place,
                        format!("{said} patients can get past every task for staff; lead to one on each way"),
                    );
                }
            }
        }
    }

    /// Found by taking away those that may not, until nothing changes: who goes round waits, and goes on at last.
    fn comes_to_somebody(&self) -> Seen {
        let steps = &self.definition.steps;
        let mut within = vec![Vec::new(); steps.len()];
        for (index, step) in steps.iter().enumerate() {
            if let Some((parts, _)) = step.kind.encloses() {
                let starts: Vec<usize> = parts.iter().flat_map(|part| part.steps.clone()).collect();
                for inside in self.reach(&starts) {
                    within[inside].push(index);
                }
            }
        }
        let mut seen = Seen {
            steps: vec![true; steps.len()],
            within,
        };
        loop {
            let now: Vec<bool> = (0..steps.len())
                .map(|index| seen.steps[index] && self.step_comes(&seen, index))
                .collect();
            if now == seen.steps {
                return seen;
            }
            seen.steps = now;
        }
    }

    fn step_comes(&self, seen: &Seen, index: usize) -> bool {
        let step = &self.definition.steps[index];
        if step.kind.is_work() {
            return true;
        }
        if let Some((parts, after)) = step.kind.encloses() {
            let mut inside = parts.iter().filter(|part| !part.steps.is_empty());
            let any = inside.any(|part| part.steps.iter().any(|first| seen.steps[*first]));
            return any || after.iter().all(|target| self.comes(seen, index, target));
        }
        let ways = step.ways();
        !ways.is_empty() && ways.iter().all(|way| self.comes(seen, index, way.target))
    }

    /// Whether a way from a step comes to somebody, whatever happens. Several steps are begun side by side.
    fn comes(&self, seen: &Seen, from: usize, target: &Target) -> bool {
        if target.steps.is_empty() {
            let mut enclosing = seen.within[from].iter();
            return enclosing.any(|enclosing| self.goes_on(seen, *enclosing));
        }
        target.steps.iter().any(|step| seen.steps[*step])
    }

    /// Whether what comes after an enclosing step, once its parts have ended, comes to somebody.
    fn goes_on(&self, seen: &Seen, enclosing: usize) -> bool {
        let after = self.definition.steps[enclosing].kind.encloses();
        after.is_some_and(|(_, after)| {
            after
                .iter()
                .all(|target| self.comes(seen, enclosing, target))
        })
    }

    /// Whether somebody is come to at all.
    fn can_come_to_somebody(&self, seen: &Seen, from: usize, target: &Target) -> bool {
        let mut starts: BTreeSet<usize> = target.steps.iter().copied().collect();
        for enclosing in &seen.within[from] {
            if let Some((_, after)) = self.definition.steps[*enclosing].kind.encloses() {
                starts.extend(after.iter().flat_map(|target| target.steps.iter().copied()));
            }
        }
        let starts: Vec<usize> = starts.into_iter().collect();
        let is_work = |index: &usize| self.definition.steps[*index].kind.is_work();
        self.reach(&starts).iter().any(is_work)
    }
}

//! The shape of the whole: what can be reached, what can be left, what goes round.

use super::Check;
use crate::definition::{Step, Target};
use crate::spec::START_ANCHOR;
use crate::time::say_duration;
use fhir::nearest;
use std::collections::BTreeSet;

impl Check<'_, '_> {
    pub(super) fn moments(&mut self) {
        for step in &self.definition.steps {
            for (moment, place) in step.kind.moments(self, step) {
                if moment.anchor != START_ANCHOR
                    && !self
                        .definition
                        .entry
                        .anchors
                        .iter()
                        .any(|(name, _)| *name == moment.anchor)
                {
                    let known: Vec<&str> = self
                        .definition
                        .entry
                        .anchors
                        .iter()
                        .map(|(name, _)| name.as_str())
                        .chain([START_ANCHOR])
                        .collect();
                    let near = nearest(&moment.anchor, known.iter().copied())
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    self.findings.error(
                        "J025",
                        place,
                        format!(
                            "there is no anchor `{}`{near} (known: {})",
                            moment.anchor,
                            known.join(", ")
                        ),
                    );
                } else if moment.offset_ms
                    > i64::try_from(self.definition.at_most_ms).unwrap_or(i64::MAX)
                {
                    self.findings.warning(
                        "J037",
                        place,
                        format!(
                            "this lies beyond the journey's `at_most` of {}, so it will never be",
                            say_duration(self.definition.at_most_ms)
                        ),
                    );
                }
            }
        }
    }

    /// The steps that can be reached from some, these included.
    pub(crate) fn reach(&self, from: &[usize]) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<usize> = from.to_vec();
        while let Some(step) = ahead.pop() {
            if reached.insert(step) {
                ahead.extend(
                    self.definition.steps[step]
                        .ways()
                        .iter()
                        .flat_map(|way| way.target.steps.iter().copied()),
                );
            }
        }
        reached
    }

    pub(super) fn graph(&mut self) {
        let steps = &self.definition.steps;
        let watches: Vec<usize> = (0..steps.len())
            .filter(|step| steps[*step].kind.watches())
            .collect();
        let mut roots = watches.clone();
        roots.extend(&self.definition.start.steps);
        roots.extend(
            self.definition
                .entry
                .late()
                .into_iter()
                .flat_map(|late| &late.steps),
        );
        if self.definition.start.steps.is_empty() {
            self.findings.error(
                "J010",
                self.definition.start.place,
                "`start` leads nowhere; name the first step",
            );
        }
        let reached = self.reach(&roots);
        for (index, step) in steps.iter().enumerate() {
            if !reached.contains(&index) {
                self.findings.error(
                    "J010",
                    step.place,
                    format!(
                        "`{}` can't be reached: no step leads to it. Lead to it or remove it",
                        step.id
                    ),
                );
            }
            for way in step.ways() {
                for target in way
                    .target
                    .steps
                    .iter()
                    .filter(|target| watches.contains(target))
                {
                    self.findings.error(
                        "J032",
                        way.target.place,
                        format!(
                            "`{}` watches from the journey's start by itself; it can't be gone to",
                            steps[*target].id
                        ),
                    );
                }
            }
        }
        for target in self
            .definition
            .start
            .steps
            .iter()
            .filter(|target| watches.contains(target))
        {
            self.findings.error(
                "J032",
                self.definition.start.place,
                format!(
                    "`{}` watches from the journey's start by itself; it can't be gone to",
                    steps[*target].id
                ),
            );
        }
        // Steps from which an end can be reached, found backwards until nothing changes.
        let mut ends: BTreeSet<usize> = BTreeSet::new();
        loop {
            let before = ends.len();
            for (index, step) in steps.iter().enumerate() {
                let leads = self.leads(step, &ends);
                if leads {
                    ends.insert(index);
                }
            }
            if ends.len() == before {
                break;
            }
        }
        for (index, step) in steps.iter().enumerate() {
            if !ends.contains(&index) {
                self.findings.error("J011", step.place, format!("from `{}` no `end` and no exit can ever be reached; patients would go round until `at_most`", step.id));
            }
        }
    }

    /// Whether a step leads to an end, given the steps that are known to.
    fn leads(&self, step: &Step, ends: &BTreeSet<usize>) -> bool {
        let to_end = |target: &Target| {
            target.steps.is_empty() || target.steps.iter().any(|target| ends.contains(target))
        };
        if let Some((inside, after)) = step.kind.encloses() {
            // That a part inside comes to its end is no end yet, if it isn't the journey's.
            let starts: Vec<usize> = inside.iter().flat_map(|part| part.steps.clone()).collect();
            let exits = |place: &usize| self.definition.steps[*place].kind.ends();
            return after.into_iter().any(to_end) || self.reach(&starts).iter().any(exits);
        }
        let ways = step.ways();
        ways.is_empty() || ways.iter().any(|way| to_end(way.target))
    }

    pub(super) fn loops(&mut self) {
        let steps = &self.definition.steps;
        let at_once: Vec<Vec<usize>> = steps
            .iter()
            .map(|step| {
                step.ways()
                    .into_iter()
                    .filter(|way| way.at_once)
                    .flat_map(|way| way.target.steps.clone())
                    .collect()
            })
            .collect();
        for (index, step) in steps.iter().enumerate() {
            let mut seen = BTreeSet::new();
            let mut ahead = at_once[index].clone();
            while let Some(next) = ahead.pop() {
                if next == index {
                    self.findings.error("J026", step.place, format!("`{}` can be come back to without any waiting, so a patient could go round for ever in an instant; put a `wait` with `for` into the loop", step.id));
                    break;
                }
                if seen.insert(next) {
                    ahead.extend(&at_once[next]);
                }
            }
        }
    }

    pub(super) fn branches_and_after(&mut self) {
        for step in &self.definition.steps {
            if let Some((branches, after)) = step.kind.encloses() {
                let starts: Vec<usize> = branches
                    .iter()
                    .flat_map(|branch| branch.steps.iter().copied())
                    .collect();
                let inside = self.reach(&starts);
                let after: Vec<usize> = after
                    .iter()
                    .flat_map(|target| target.steps.iter().copied())
                    .collect();
                let after = self.reach(&after);
                for both in inside.intersection(&after) {
                    // An exit ends everything, so it may stand in both.
                    if !self.definition.steps[*both].kind.ends() {
                        let both = &self.definition.steps[*both];
                        self.findings.error("J027", both.place, format!("`{}` lies inside a branch or round of `{}` and after it, so it could run twice; end the branch or round with `end`", both.id, step.id));
                    }
                }
            }
        }
    }
}

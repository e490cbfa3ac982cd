//! Clinical risk: what may harm a patient if nobody sees it in time has to come to somebody.

use super::Check;
use crate::definition::Target;
use crate::kinds::Ruled;
use crate::time::{Moment, say_duration};
use crate::units;
use std::collections::BTreeSet;

/// An error where nobody at all would learn of it.
const UNSEEN: &str = "J080";
/// The same of readings that stop coming.
const SILENT: &str = "J081";

/// What a rule about silence lacks.
struct Fault {
    error: bool,
    words: String,
}

/// Whether one rule is known to stop watching before another.
fn ends_before(one: Option<&Moment>, other: Option<&Moment>) -> bool {
    match (one, other) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(one), Some(other)) => one.anchor == other.anchor && one.offset_ms < other.offset_ms,
    }
}

/// A length as a file has it.
/// What is proposed beside a rule that compares nothing.
const USUAL_SILENCE_MS: u64 = 3 * 86_400_000;

fn shortest(length_ms: u64) -> String {
    let minutes = length_ms / 60_000;
    if minutes.is_multiple_of(1440) {
        format!("{}d", minutes / 1440)
    } else if minutes.is_multiple_of(60) {
        format!("{}h", minutes / 60)
    } else {
        format!("{minutes}m")
    }
}

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
        self.silences(&seen);
    }

    /// Rules about a risk fire by readings; where these stop coming, somebody has to learn of that instead.
    fn silences(&mut self, seen: &Seen) {
        let definition = self.definition;
        let rules = || {
            let steps = definition.steps.iter().enumerate();
            steps.filter_map(|(index, step)| Some((index, step, step.kind.rule()?)))
        };
        for (_, step, rule) in rules().filter(|(.., rule)| !rule.silence) {
            let about_risk = |index: &usize| definition.steps[*index].kind.cannot_wait();
            if !self.reach(&rule.then.steps).iter().any(about_risk) {
                continue;
            }
            let silences =
                rules().filter(|(.., other)| other.silence && units::has(other.code, rule.code));
            let faults: Vec<Option<Fault>> = silences
                .map(|(index, other, silence)| self.fault(seen, &rule, index, &other.id, &silence))
                .collect();
            if faults.iter().any(Option::is_none) {
                continue;
            }
            let place = self.at(step, &[step.kind_name()]);
            let name = units::loinc_name(rule.code)
                .map_or_else(|| format!("LOINC {}", rule.code), str::to_lowercase);
            let said = format!(
                "what `{}` leads to can't wait, and readings of {name} may stop coming",
                step.id
            );
            // One that lacks little says more than one that lacks all.
            let least = faults.into_iter().flatten().min_by_key(|fault| fault.error);
            match least {
                None => self.findings.error(
                    SILENT,
                    place,
                    format!(
                        "{said}: nobody would learn of it. Add an `observe` of the same code with `none_for: {}` that leads to a task",
                        shortest(rule.within_ms.unwrap_or(USUAL_SILENCE_MS))
                    ),
                ),
                Some(fault) if fault.error => {
                    self.findings.error(SILENT, place, format!("{said}: {}", fault.words));
                }
                Some(fault) => {
                    self.findings.warning(SILENT, place, format!("{said}: {}", fault.words));
                }
            }
        }
    }

    /// Why somebody may not learn by a rule about silence that the readings of another have stopped.
    fn fault(
        &self,
        seen: &Seen,
        rule: &Ruled<'_>,
        index: usize,
        id: &str,
        silence: &Ruled<'_>,
    ) -> Option<Fault> {
        let fault = |error: bool, words: String| Some(Fault { error, words });
        if !self.can_come_to_somebody(seen, index, silence.then) {
            return fault(
                true,
                format!("by `{id}` no task for staff is ever reached, so nobody learns of it"),
            );
        }
        if !self.comes(seen, index, silence.then) {
            return fault(
                false,
                format!("by `{id}` patients can get past every task for staff"),
            );
        }
        if let (Some(silence_ms), Some(window_ms)) = (silence.within_ms, rule.within_ms)
            && silence_ms > window_ms
        {
            let words = format!(
                "`{id}` notices after {}, and readings that are more than {} apart are compared with none before",
                say_duration(silence_ms),
                say_duration(window_ms)
            );
            return fault(false, words);
        }
        if ends_before(silence.until, rule.until) {
            return fault(
                false,
                format!("`{id}` stops watching before this rule does"),
            );
        }
        None
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

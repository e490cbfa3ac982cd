//! Clinical risk: what may harm a patient if nobody sees it in time has to come to somebody.

use super::{Check, paths_in};
use crate::definition::Target;
use crate::kinds::Ruled;
use crate::time::{Moment, say_duration};
use crate::units;
use crate::yaml::Node;
use std::collections::BTreeSet;

/// An error where nobody at all would learn of it.
const UNSEEN: &str = "J080";
/// The same of what patients write back.
const UNREAD: &str = "J066";
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

/// Whether a condition of a step is on such members of another.
fn decides(said: &Node, id: &str, members: &[&str]) -> bool {
    said.members().iter().any(|(key, node)| {
        let is_condition = matches!(key.name.as_str(), "when" | "until");
        let named = node.text().filter(|_| is_condition).map(paths_in);
        let named = named.unwrap_or_default();
        let on = |path: &Vec<String>| {
            let mut names = path.iter().map(String::as_str);
            names.next() == Some(id) && names.next().is_none_or(|member| members.contains(&member))
        };
        named.iter().any(on) || decides(node, id, members)
    }) || said.items().iter().any(|item| decides(item, id, members))
}

impl Check<'_, '_> {
    pub(super) fn risks(&mut self) {
        self.comes_to_nobody();
        let seen = self.comes_to_somebody();
        for (index, step) in self.definition.steps.iter().enumerate() {
            if let Some(way) = step.kind.unread_way()
                && !self.comes(&seen, index, way.target)
            {
                let words = format!(
                    "what patients write back to `{}` is read by nobody where no task for staff follows; lead `unclear` to one, on each way",
                    step.id
                );
                self.findings.error(UNREAD, way.target.place, words);
            }
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

    /// Rules on measurements, and decisions on scores, from which no person is ever come to.
    fn comes_to_nobody(&mut self) {
        let definition = self.definition;
        let steps = &definition.steps;
        for (index, step) in steps.iter().enumerate() {
            let members = step.kind.tells_risk();
            // Staff who read it in the reason of a task have it.
            if members.is_empty() || self.told_to_staff(&step.id) {
                continue;
            }
            let decided: Vec<usize> = (0..steps.len())
                .filter(|other| *other != index && decides(&steps[*other].said, &step.id, &members))
                .collect();
            // What watches leads on by itself; a form leads on by what is decided on its score.
            let from: Vec<usize> = if step.kind.watches() {
                decided.iter().copied().chain([index]).collect()
            } else {
                decided.clone()
            };
            if from.is_empty() || self.somebody_is_reached(&from) {
                continue;
            }
            // A decision after which nothing is done for anybody is none on how somebody is.
            let sends = |step: &usize| steps[*step].kind.message().is_some();
            if !step.kind.watches() && !self.reach(&from).iter().any(sends) {
                continue;
            }
            let (at, words) = match decided.first() {
                Some(decides) if !step.kind.watches() => (
                    steps[*decides].place,
                    format!(
                        "`{}` decides on a score of `{}`, and none of its ways comes to a task for staff, a visit or a partner: whoever is at risk by it gets messages alone",
                        steps[*decides].id, step.id
                    ),
                ),
                _ => (
                    step.place,
                    format!(
                        "what `{}` watches may tell that a patient gets worse, and `then` never comes to a task for staff, a visit or a partner: nobody looks at it; lead to a task, or let a message ask how they are and lead on from there",
                        step.id
                    ),
                ),
            };
            self.findings.warning("J083", at, words);
        }
    }

    /// Whether the reason of a task names what a step has given.
    fn told_to_staff(&self, id: &str) -> bool {
        let work = self
            .definition
            .steps
            .iter()
            .filter(|step| step.kind.is_work());
        let named = format!("{{{id}.");
        let mut work = work.flat_map(|step| step.said.get(step.kind_name()));
        work.any(|task| {
            task.get("reason")
                .and_then(Node::text)
                .is_some_and(|reason| reason.contains(&named))
        })
    }

    /// Whether somebody is come to from some steps, also where what encloses them goes on after them.
    fn somebody_is_reached(&self, from: &[usize]) -> bool {
        let steps = &self.definition.steps;
        let mut reached = self.reach(from);
        loop {
            let mut after = Vec::new();
            for step in steps {
                if let Some((parts, then)) = step.kind.encloses() {
                    let starts: Vec<usize> =
                        parts.iter().flat_map(|part| part.steps.clone()).collect();
                    if self
                        .reach(&starts)
                        .iter()
                        .any(|inside| reached.contains(inside))
                    {
                        after.extend(then.iter().flat_map(|target| target.steps.iter().copied()));
                    }
                }
            }
            let after = self.reach(&after);
            if after.is_subset(&reached) {
                return reached.iter().any(|step| steps[*step].kind.hands_on());
            }
            reached.extend(after);
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

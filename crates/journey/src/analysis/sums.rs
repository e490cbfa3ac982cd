//! Cases added up, one at a time. Memory is bounded by the definition, and by how many paths are told apart.

use super::align::Aligner;
use super::case::{Case, What, weight};
use super::net::Net;
use super::report::{Deviation, EndingReport, Fitness, PathReport, Quantiles, Report, StepReport};
use super::split::{Came, Groups, Splits};
use super::tally::{AllScores, Outcomes};
use crate::counts::Dwell;
use crate::definition::Definition;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most paths that are told apart, and most activities in all of them together. What comes after is counted.
pub const PATHS_MAX: usize = 10_000;
/// Most activities of all those paths together: about two megabytes.
pub const PATH_EVENTS_MAX: usize = 1_000_000;
/// Paths that stand in a report.
const PATHS_TOLD: usize = 50;
/// Places of the net that are looked at to hold all paths against it.
const LOOKS_MAX: usize = 10_000_000;

/// Cases of one version, added up.
#[derive(Debug)]
pub struct Sums {
    definition: Arc<Definition>,
    now_ms: u64,
    activities: Vec<String>,
    numbers: HashMap<String, u16>,
    cases: u64,
    ended: u64,
    moved: u64,
    length: Dwell,
    steps: BTreeMap<String, StepSums>,
    endings: BTreeMap<String, u64>,
    paths: HashMap<Vec<u16>, PathSums>,
    path_events: usize,
    paths_untold: u64,
    /// Those of them that are over and were not moved.
    ended_untold: u64,
    follows: BTreeMap<(u16, u16), u64>,
    first: BTreeMap<u16, u64>,
    last: BTreeMap<u16, u64>,
    scores: AllScores,
    outcomes: Outcomes,
    splits: Splits,
}

#[derive(Debug, Clone, Default)]
struct StepSums {
    report: StepReport,
    dwell: Dwell,
}

#[derive(Debug, Clone, Copy, Default)]
struct PathSums {
    count: u64,
    ended: u64,
    /// Those that are over and were in this version alone.
    own: u64,
}

impl Sums {
    /// Of no case yet.
    #[must_use]
    pub fn new(definition: Arc<Definition>, now_ms: u64) -> Self {
        Self {
            definition,
            now_ms,
            activities: Vec::new(),
            numbers: HashMap::new(),
            cases: 0,
            ended: 0,
            moved: 0,
            length: Dwell::default(),
            steps: BTreeMap::new(),
            endings: BTreeMap::new(),
            paths: HashMap::new(),
            path_events: 0,
            paths_untold: 0,
            ended_untold: 0,
            follows: BTreeMap::new(),
            first: BTreeMap::new(),
            last: BTreeMap::new(),
            scores: AllScores::default(),
            outcomes: Outcomes::default(),
            splits: Splits::default(),
        }
    }

    /// The moment as of which they are added up.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn number(&mut self, activity: &str) -> u16 {
        if let Some(number) = self.numbers.get(activity) {
            return *number;
        }
        let number = u16::try_from(self.activities.len()).unwrap_or(u16::MAX);
        self.activities.push(activity.to_owned());
        self.numbers.insert(activity.to_owned(), number);
        number
    }

    fn activity(&self, number: u16) -> String {
        let found = self.activities.get(usize::from(number));
        found.cloned().unwrap_or_default()
    }

    /// Adds a case of a patient, who is in these groups.
    pub fn add(&mut self, case: &Case, patient: &str, groups: &Groups) {
        self.cases += 1;
        self.moved += u64::from(case.moved);
        if let Some((ended_ms, code)) = &case.ended {
            self.ended += 1;
            self.length.add(ended_ms.saturating_sub(case.started_ms));
            *self.endings.entry(code.clone()).or_default() += 1;
        }
        let definition = self.definition.clone();
        let step = |activity: &str| definition.step(activity);
        let ran_out =
            |activity: &str, way: &str| step(activity).is_some_and(|step| step.kind.ran_out(way));
        let missed =
            |activity: &str, way: &str| step(activity).is_some_and(|step| step.kind.missed(way));
        let has_steps =
            |activity: &str| step(activity).is_some_and(|step| step.kind.encloses().is_some());
        let mut reached: Vec<&str> = Vec::new();
        for event in &case.events {
            let (id, late) = match event.activity.strip_suffix(":late") {
                Some(id) => (id, true),
                None => (event.activity.as_str(), false),
            };
            let sums = self.steps.entry(id.to_owned()).or_default();
            let report = &mut sums.report;
            match &event.what {
                What::Done if late => report.answered_late += 1,
                What::Came | What::Done => {
                    report.came += 1;
                    reached.push(id);
                }
                What::Left { way, since_ms } => {
                    report.left += 1;
                    report.ran_out += u64::from(ran_out(id, way));
                    report.missed += u64::from(missed(id, way));
                    let stayed_ms = event.at_ms.saturating_sub(*since_ms);
                    if !has_steps(id) {
                        report.spent_ms = report.spent_ms.saturating_add(stayed_ms);
                    }
                    sums.dwell.add(stayed_ms);
                }
                What::BrokenOff => report.ended_here += 1,
                What::HandedOver => report.handed_over += 1,
                What::Undelivered => report.undelivered += 1,
                What::ByHand => report.by_hand += 1,
            }
        }
        reached.sort_unstable();
        reached.dedup();
        for id in reached {
            if let Some(sums) = self.steps.get_mut(id) {
                sums.report.reached += 1;
            }
        }
        for (id, since_ms) in &case.here {
            let report = &mut self.steps.entry(id.clone()).or_default().report;
            report.here += 1;
            let stayed_ms = self.now_ms.saturating_sub(*since_ms);
            if !has_steps(id) {
                report.spent_ms = report.spent_ms.saturating_add(stayed_ms);
            }
        }
        let is_goal = |activity: &str| step(activity).is_some_and(|it| it.kind.aims().is_some());
        let came = Came::of(case, is_goal, ran_out, missed);
        // What other steps learn, and those of other versions, are no answers to this one's questions.
        let answers = case.answers.iter().filter(|answer| {
            let asks = step(&answer.step).is_some_and(|step| step.kind.is_answered());
            asks && answer.value.is_finite()
        });
        let answers = answers.map(|answer| {
            let of = (answer.step.clone(), answer.question.clone());
            (of, answer.value)
        });
        let answers = answers.collect();
        if self.scores.is_new(&answers) || self.outcomes.is_new(&case.outcomes) {
            let before = self.splits.crowds();
            self.scores.begin(&answers, &before);
            self.outcomes.begin(&case.outcomes, &before);
        }
        let patient: Arc<str> = patient.into();
        let counted = self.splits.add(case, &patient, groups, &came);
        self.scores.add(&answers, &patient, &counted);
        self.outcomes.add(&case.outcomes, &patient, &counted);
        self.path(case);
    }

    fn path(&mut self, case: &Case) {
        let path: Vec<u16> = case
            .path()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .iter()
            .map(|activity| self.number(activity))
            .collect();
        for two in path.windows(2) {
            *self.follows.entry((two[0], two[1])).or_default() += 1;
        }
        if let (Some(first), Some(last)) = (path.first(), path.last()) {
            *self.first.entry(*first).or_default() += 1;
            *self.last.entry(*last).or_default() += 1;
        }
        let (ended, own) = (case.ended.is_some(), case.ended.is_some() && !case.moved);
        let is_known = self.paths.contains_key(&path);
        let room = self.paths.len() < PATHS_MAX && self.path_events + path.len() <= PATH_EVENTS_MAX;
        if !is_known && !room {
            self.paths_untold += 1;
            self.ended_untold += u64::from(own);
            return;
        }
        if !is_known {
            self.path_events += path.len();
        }
        let sums = self.paths.entry(path).or_default();
        sums.count += 1;
        sums.ended += u64::from(ended);
        sums.own += u64::from(own);
    }

    /// What they come to. Holding the paths against the graph can take some seconds.
    #[must_use]
    pub fn report(mut self) -> Report {
        let mut paths: Vec<(Vec<u16>, PathSums)> =
            std::mem::take(&mut self.paths).into_iter().collect();
        paths.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(&b.0)));
        let (fitness, deviations) = self.fitness(&paths);
        let named = |number: &u16| self.activity(*number);
        let told = paths.iter().zip(deviations).take(PATHS_TOLD);
        let told = told.map(|((path, sums), deviations)| PathReport {
            path: path.iter().map(named).collect(),
            count: sums.count,
            ended: sums.ended,
            deviations,
        });
        let told: Vec<PathReport> = told.collect();
        let counted = |of: &BTreeMap<u16, u64>| {
            let mut counted: Vec<(String, u64)> = of
                .iter()
                .map(|(number, count)| (named(number), *count))
                .collect();
            counted.sort();
            counted
        };
        let mut follows: Vec<(String, String, u64)> = self
            .follows
            .iter()
            .map(|((from, to), count)| (named(from), named(to), *count))
            .collect();
        follows.sort();
        let cuts = self.splits.cuts();
        Report {
            journey: self.definition.name.clone(),
            version: self.definition.version,
            at_ms: self.now_ms,
            cases: self.cases,
            running: self.cases - self.ended,
            ended: self.ended,
            moved: self.moved,
            left_out: 0,
            unreadable: 0,
            length: self.length.quantiles(),
            endings: self.endings(),
            paths: told,
            paths_known: paths.len() as u64,
            paths_untold: self.paths_untold,
            follows,
            first: counted(&self.first),
            last: counted(&self.last),
            fitness,
            steps: steps(&self.definition, self.steps),
            scores: self.scores.reports(&cuts),
            splits: self.splits.told(),
            days: 0,
            outcomes: self.outcomes.reports(&self.definition, &cuts),
            costs: None,
        }
    }

    fn endings(&self) -> Vec<EndingReport> {
        let title = |code: &str| {
            let exits = &self.definition.exits;
            let exit = exits.iter().find(|exit| exit.id == code);
            let step = self.definition.step(code);
            exit.map(|exit| exit.title.clone())
                .or_else(|| step.map(|step| step.title.clone()))
                .unwrap_or_else(|| {
                    match code {
                        "completed" => "Completed",
                        "stopped" => "Stopped by hand",
                        "time_over" => "Its time was over",
                        "started_in_error" => "Started in error",
                        other => other,
                    }
                    .to_owned()
                })
        };
        let mut endings: Vec<EndingReport> = self
            .endings
            .iter()
            .map(|(code, count)| EndingReport {
                code: code.clone(),
                title: title(code),
                count: *count,
            })
            .collect();
        endings.sort_by_key(|ending| Reverse(ending.count));
        endings
    }

    /// How the paths of those who are through fit, and the deviations of each path that was held against the graph.
    fn fitness(&self, paths: &[(Vec<u16>, PathSums)]) -> (Fitness, Vec<Option<u64>>) {
        let mut fitness = Fitness {
            not_measured: self.ended_untold,
            ..Fitness::default()
        };
        let moved: u64 = paths.iter().map(|(_, sums)| sums.ended - sums.own).sum();
        fitness.not_measured += moved;
        let own = || paths.iter().filter(|(_, sums)| sums.own > 0);
        let unmeasured = || vec![None; paths.len()];
        let Some(net) = Net::of(&self.definition) else {
            fitness.not_measured += own().map(|(_, sums)| sums.own).sum::<u64>();
            return (fitness, unmeasured());
        };
        let one = |_: &str| 1;
        let weigh = |activity: &str| weight(&self.definition, activity);
        let mut plain = Aligner::new(&net, &one, LOOKS_MAX);
        let mut weighted = Aligner::new(&net, &weigh, LOOKS_MAX);
        let (Some(shortest), Some(lightest)) = (plain.shortest(), weighted.shortest()) else {
            fitness.not_measured += own().map(|(_, sums)| sums.own).sum::<u64>();
            return (fitness, unmeasured());
        };
        let (mut means, mut cost, mut worst) = (0.0, 0_u64, 0_u64);
        let (mut heavy, mut heaviest) = (0_u64, 0_u64);
        let mut deviates: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut each = Vec::with_capacity(paths.len());
        for (path, sums) in paths {
            if sums.own == 0 {
                each.push(None);
                continue;
            }
            let path: Vec<String> = path.iter().map(|number| self.activity(*number)).collect();
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let (Some(found), Some(by_weight)) = (plain.align(&path), weighted.align(&path)) else {
                fitness.not_measured += sums.own;
                each.push(None);
                continue;
            };
            let most = shortest + path.len() as u64;
            fitness.measured += sums.own;
            fitness.fit += if found.cost == 0 { sums.own } else { 0 };
            means += (1.0 - ratio(found.cost, most)) * float(sums.own);
            cost += found.cost * sums.own;
            worst += most * sums.own;
            let weights: u64 = path.iter().map(|activity| weigh(activity)).sum();
            heavy += by_weight.cost * sums.own;
            heaviest += (lightest + weights) * sums.own;
            for activity in by_weight.skipped {
                deviates.entry(activity).or_default().0 += sums.own;
            }
            for activity in by_weight.extra {
                deviates.entry(activity).or_default().1 += sums.own;
            }
            each.push(Some(found.cost));
        }
        if fitness.measured > 0 {
            fitness.mean = Some(means / float(fitness.measured));
            fitness.of_log = Some(1.0 - ratio(cost, worst));
            fitness.weighted = Some(1.0 - ratio(heavy, heaviest));
        }
        let mut deviations: Vec<Deviation> = deviates
            .into_iter()
            .map(|(activity, (skipped, extra))| Deviation {
                activity,
                skipped,
                extra,
            })
            .collect();
        deviations.sort_by_key(|one| Reverse(one.skipped + one.extra));
        fitness.deviations = deviations;
        (fitness, each)
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts of journeys are far below 2^52"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    float(part) / float(whole)
}

/// The steps in the file's order; those of other versions are left out.
fn steps(definition: &Definition, mut sums: BTreeMap<String, StepSums>) -> Vec<StepReport> {
    definition
        .steps
        .iter()
        .map(|step| {
            let StepSums { report, dwell } = sums.remove(&step.id).unwrap_or_default();
            StepReport {
                id: step.id.clone(),
                title: step.title.clone(),
                kind: step.kind_name().to_owned(),
                weight: weight(definition, &step.id),
                dwell: dwell.quantiles(),
                ..report
            }
        })
        .collect()
}

impl Dwell {
    pub(crate) fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.count(),
            p25_ms: self.quantile_ms(25),
            p50_ms: self.quantile_ms(50),
            p75_ms: self.quantile_ms(75),
            p90_ms: self.quantile_ms(90),
        }
    }
}

#[cfg(test)]
mod tests;

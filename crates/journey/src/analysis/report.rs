//! What comes of an analysis, for pages, files and terminals.

use super::costs::Costs;
use super::outcomes::OutcomeOf;
use crate::time::say_duration;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Times that so many of a hundred stay below, milliseconds, right within about two in a hundred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: u64,
    /// A quarter took no longer.
    pub p25_ms: Option<u64>,
    /// Half took no longer.
    pub p50_ms: Option<u64>,
    /// Three quarters took no longer.
    pub p75_ms: Option<u64>,
    /// Nine in ten took no longer.
    pub p90_ms: Option<u64>,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// How much it counts in the weighted fitness.
    pub weight: u64,
    /// Journeys that came to it, each once: the funnel.
    pub reached: u64,
    /// How often somebody came to it.
    pub came: u64,
    /// Who is there now.
    pub here: u64,
    /// How often somebody went on.
    pub left: u64,
    /// How often the journey ended there.
    pub ended_here: u64,
    /// How long those stayed who went on.
    pub dwell: Quantiles,
    /// All the time that patients have spent there, those who are there now included: the greatest is the bottleneck.
    /// A part that has steps of its own has none.
    pub spent_ms: u64,
    /// How often it was left because time had run out.
    pub ran_out: u64,
    /// How often a task there was overdue and went to another role.
    pub handed_over: u64,
    /// How often a form there was answered late.
    pub answered_late: u64,
    /// How often a visit was missed.
    pub missed: u64,
    /// How often a message did not arrive.
    pub undelivered: u64,
    /// How often somebody led a patient on from there, or there, by hand.
    pub by_hand: u64,
}

/// A way in which journeys ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndingReport {
    /// The exit's id, `completed`, `time_over`, `stopped` or `started_in_error`.
    pub code: String,
    /// In words, as the file has them.
    pub title: String,
    /// How many.
    pub count: u64,
}

/// A path, and how many went it: what process mining calls a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// The activities in their order.
    pub path: Vec<String>,
    /// Journeys that went it, or are so far on it.
    pub count: u64,
    /// Those of them that are over.
    pub ended: u64,
    /// The deviations from the graph, where it was held against it: the number of activities too many or too few.
    pub deviations: Option<u64>,
}

/// Where paths and graph differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviation {
    /// The activity.
    pub activity: String,
    /// Journeys' activities that the graph would have had, and the path has not.
    pub skipped: u64,
    /// Those that the path has where the graph has none.
    pub extra: u64,
}

/// How far the paths of those who are through are paths of the graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fitness {
    /// Journeys that were held against the graph.
    pub measured: u64,
    /// Those that are over and were not: they came from another version, their path is not told apart, or finding how
    /// it fits takes too long.
    pub not_measured: u64,
    /// Those that fit wholly.
    pub fit: u64,
    /// The mean of each journey's fitness: 1 less its deviations over the most that there could be.
    pub mean: Option<f64>,
    /// 1 less all deviations over the most that there could be, of all journeys together.
    pub of_log: Option<f64>,
    /// The same with each activity counted by how much it matters.
    pub weighted: Option<f64>,
    /// What was skipped and what was too much, the most frequent first.
    pub deviations: Vec<Deviation>,
}

/// What was answered to a question by a number: an experience, a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// The step that asked.
    pub step: String,
    /// The question, or what was made of several.
    pub question: String,
    /// How many answered; nothing where they are few, as of what follows.
    pub count: Option<u64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The standard deviation.
    pub deviation: Option<f64>,
    /// The same by groups.
    #[serde(default)]
    pub groups: Vec<ScoreSplit>,
}

/// Answers by groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreSplit {
    /// What they are told apart by.
    pub by: String,
    /// The groups.
    pub rows: Vec<ScoreRow>,
}

/// The answers of one group; of few, and of those by whom few could be found, nothing is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Which.
    pub group: String,
    /// How many answered.
    pub count: Option<u64>,
    /// The mean.
    pub mean: Option<f64>,
    /// The standard deviation.
    pub deviation: Option<f64>,
}

/// What came of patients that no step, goal or ending tells, within the days of the analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// What was asked for.
    pub of: OutcomeOf,
    /// In words.
    pub title: String,
    /// What tells a gap apart from one of the same name that asks for something else.
    #[serde(default)]
    pub key: String,
    /// Those of whom it can be told: what shares are of. Nothing where it, or what it leaves, is of few people, as of
    /// all that follows.
    pub measured: Option<u64>,
    /// To whom it came: a stay that nobody had planned, or what was missing.
    pub yes: Option<u64>,
    /// Those whose first stay was planned.
    pub planned: Option<u64>,
    /// To whom it did not come.
    pub no: Option<u64>,
    /// Those who died before.
    pub died: Option<u64>,
    /// Those of whom it was asked no more, for another reason.
    pub left: Option<u64>,
    /// Those who were not observed for so many days.
    pub not_yet: Option<u64>,
    /// Those of whom it can't be told.
    pub unknown: Option<u64>,
    /// Half of those to whom it came waited no longer.
    pub after_p50_ms: Option<u64>,
    /// The share by groups.
    pub groups: Vec<OutcomeSplit>,
}

impl OutcomeReport {
    /// To how many of how many it came, where both are told and there is somebody.
    #[must_use]
    pub fn share(&self) -> Option<(u64, u64)> {
        self.yes.zip(self.measured).filter(|(_, of)| *of > 0)
    }
}

/// An outcome by groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeSplit {
    /// What they are told apart by.
    pub by: String,
    /// The groups.
    pub rows: Vec<OutcomeRow>,
}

/// What came of one group. What would show fewer than eleven people is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// Which.
    pub group: String,
    /// Those of whom it can be told.
    pub measured: Option<u64>,
    /// To whom it came.
    pub yes: Option<u64>,
    /// To how many of a hundred.
    pub percent: Option<u8>,
}

/// Groups of patients side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What they are told apart by: `sex`, `age`, `language`, `deprivation`, or `arm of EXPERIMENT`.
    pub by: String,
    /// The groups; small ones without their figures.
    pub rows: Vec<SplitRow>,
}

/// One group. What would show fewer than eleven people is not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRow {
    /// Which.
    pub group: String,
    /// Journeys.
    pub cases: Option<u64>,
    /// Those that are over.
    pub ended: Option<u64>,
    /// Those that reached a goal.
    pub reached_goal: Option<u64>,
    /// Those in which something ran out of time, was handed over or was answered late.
    pub late: Option<u64>,
    /// Those in which a visit was missed.
    pub missed: Option<u64>,
    /// Half of those that are over took no longer.
    pub length_p50_ms: Option<u64>,
}

/// The analysis of one version of a journey.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The journey.
    pub journey: String,
    /// The version.
    pub version: u32,
    /// When it was made, care clock.
    pub at_ms: u64,
    /// Journeys that it is of.
    pub cases: u64,
    /// Those that go on.
    pub running: u64,
    /// Those that are over.
    pub ended: u64,
    /// Those that came from another version.
    pub moved: u64,
    /// Journeys that were left out, because the patient's consents don't allow an analysis.
    pub left_out: u64,
    /// Journeys that could not be read here.
    pub unreadable: u64,
    /// How long those took that are over.
    pub length: Quantiles,
    /// The steps, in the file's order.
    pub steps: Vec<StepReport>,
    /// How journeys ended, the most frequent first.
    pub endings: Vec<EndingReport>,
    /// The paths, the most frequent first.
    pub paths: Vec<PathReport>,
    /// Paths that are told apart, those that don't stand here included.
    pub paths_known: u64,
    /// Journeys whose path is none of these, because there are more than are told apart.
    pub paths_untold: u64,
    /// What came right after what, and how often.
    pub follows: Vec<(String, String, u64)>,
    /// What came first, and how often.
    pub first: Vec<(String, u64)>,
    /// What came last, and how often.
    pub last: Vec<(String, u64)>,
    /// Conformance.
    pub fitness: Fitness,
    /// Answers that are numbers, in the order of steps and questions.
    pub scores: Vec<ScoreReport>,
    /// Groups side by side.
    pub splits: Vec<Split>,
    /// For how many days patients were observed for what follows.
    #[serde(default)]
    pub days: u64,
    /// What came of them by the rest of the record.
    #[serde(default)]
    pub outcomes: Vec<OutcomeReport>,
    /// What messages cost; nothing of an analysis that was made before that was asked.
    #[serde(default)]
    pub costs: Option<Costs>,
}

impl StepReport {
    /// How often something there was late, in one way or the other. A form that ran out of time and was answered late
    /// counts once.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.ran_out + self.handed_over
    }
}

pub(super) fn share(part: u64, whole: u64) -> String {
    match (part * 1000).checked_div(whole) {
        Some(mille) => format!("{}.{} %", mille / 10, mille % 10),
        None => String::new(),
    }
}

/// `0.987`, and 1 only for what is 1.
fn measure(value: Option<f64>) -> String {
    value.map_or_else(
        || "not told".to_owned(),
        |value| {
            let floor = (value * 1000.0).floor() / 1000.0;
            format!("{floor:.3}")
        },
    )
}

fn half(quantiles: &Quantiles) -> String {
    match (quantiles.p50_ms, quantiles.p90_ms) {
        (Some(half), Some(most)) => {
            format!(
                "half within {}, nine in ten within {}",
                spoken(half),
                spoken(most)
            )
        }
        _ => "nobody went on yet".to_owned(),
    }
}

/// A length of time in words, without what is below a minute.
pub(super) fn spoken(ms: u64) -> String {
    match ms {
        0..60_000 => "a minute".to_owned(),
        ms => say_duration(ms - ms % 60_000),
    }
}

impl Report {
    /// In words, for terminals.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, version {}: {} journeys, {} under way, {} over.\n",
            self.journey, self.version, self.cases, self.running, self.ended
        );
        for (count, words) in [
            (self.moved, "came from another version"),
            (
                self.left_out,
                "left out: the patient's consents don't allow an analysis",
            ),
            (self.unreadable, "left out: this program can't read them"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "  {count} {words}");
            }
        }
        if self.length.count > 0 {
            let _ = writeln!(text, "Those that are over: {}.", half(&self.length));
        }
        text.push_str("\nSteps\n");
        for step in self
            .steps
            .iter()
            .filter(|step| step.came > 0 || step.here > 0)
        {
            let _ = writeln!(
                text,
                "  {}: reached by {} ({}), {} there now, {} ended there; {}",
                step.id,
                step.reached,
                share(step.reached, self.cases),
                step.here,
                step.ended_here,
                half(&step.dwell)
            );
            let late = [
                (step.ran_out, "ran out of time"),
                (step.handed_over, "handed over because overdue"),
                (step.answered_late, "answered late"),
                (step.missed, "missed"),
                (step.undelivered, "messages not delivered"),
                (step.by_hand, "led by hand"),
            ];
            for (count, words) in late.iter().filter(|(count, _)| *count > 0) {
                let _ = writeln!(text, "      {count} {words}");
            }
        }
        let spent: u64 = self.steps.iter().map(|step| step.spent_ms).sum();
        let mut slow: Vec<&StepReport> = self.steps.iter().collect();
        slow.sort_by_key(|step| std::cmp::Reverse(step.spent_ms));
        text.push_str("\nWhere the time goes\n");
        for step in slow.iter().take(5).filter(|step| step.spent_ms > 0) {
            let _ = writeln!(
                text,
                "  {}: {} of all time at steps",
                step.id,
                share(step.spent_ms / 1000, spent / 1000)
            );
        }
        text.push_str("\nHow it ended\n");
        for ending in &self.endings {
            let _ = writeln!(
                text,
                "  {}: {} ({})",
                ending.count, ending.title, ending.code
            );
        }
        let _ = writeln!(text, "\nPaths ({} in all)", self.paths_known);
        for path in &self.paths {
            let _ = writeln!(
                text,
                "  {} ({} over{}): {}",
                path.count,
                path.ended,
                match path.deviations {
                    Some(0) => ", as drawn".to_owned(),
                    Some(many) => format!(", {many} not as drawn"),
                    None => String::new(),
                },
                path.path.join(" > ")
            );
        }
        if self.paths_untold > 0 {
            let _ = writeln!(
                text,
                "  {} went paths that are not told apart, because there are too many",
                self.paths_untold
            );
        }
        let fitness = &self.fitness;
        let _ = writeln!(
            text,
            "\nConformance of {} that are over: {} as drawn; mean fitness {}, of all together {}, weighted {}",
            fitness.measured,
            share(fitness.fit, fitness.measured),
            measure(fitness.mean),
            measure(fitness.of_log),
            measure(fitness.weighted)
        );
        if fitness.not_measured > 0 {
            let _ = writeln!(
                text,
                "  {} were not held against the graph",
                fitness.not_measured
            );
        }
        for deviation in fitness.deviations.iter().take(10) {
            let _ = writeln!(
                text,
                "  {}: {} times skipped, {} times too much",
                deviation.activity, deviation.skipped, deviation.extra
            );
        }
        if let Some(costs) = &self.costs {
            super::costs::text(&mut text, costs, self.cases);
        }
        super::words::outcomes(&mut text, self);
        if !self.scores.is_empty() {
            text.push_str("\nAnswers\n");
        }
        for score in &self.scores {
            let _ = match (score.count, score.mean, score.deviation) {
                (Some(count), Some(mean), Some(deviation)) => writeln!(
                    text,
                    "  {}.{}: {mean:.2} on average of {count}, give or take {deviation:.2}",
                    score.step, score.question
                ),
                _ => writeln!(
                    text,
                    "  {}.{}: fewer than {} answers",
                    score.step,
                    score.question,
                    super::FEW_CASES
                ),
            };
            super::words::answers_by_group(&mut text, score);
        }
        for split in &self.splits {
            let _ = writeln!(text, "\nBy {}", split.by);
            for row in &split.rows {
                let told = |count: Option<u64>| {
                    count.map_or_else(|| "not told".to_owned(), |count| count.to_string())
                };
                let _ = writeln!(
                    text,
                    "  {}: {} journeys, {} over, {} reached a goal, {} with something late, {} with a missed visit",
                    row.group,
                    row.cases.map_or_else(
                        || format!("fewer than {}", super::FEW_CASES),
                        |cases| cases.to_string()
                    ),
                    told(row.ended),
                    told(row.reached_goal),
                    told(row.late),
                    told(row.missed)
                );
            }
        }
        text
    }
}

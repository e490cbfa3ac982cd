//! What came of patients, and what they answered, added up: of all, and of each group.

use super::outcomes::{Came, Outcome, OutcomeOf};
use super::report::{OutcomeReport, OutcomeRow, OutcomeSplit, ScoreRow, ScoreSplit};
use super::split::{Cut, FEW_CASES, also_hidden, column};
use crate::counts::Dwell;
use crate::definition::Definition;
use std::collections::BTreeMap;

/// By what patients are told apart, and the group.
type ByGroup<T> = BTreeMap<(String, String), T>;

/// Numbers added up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    /// Of the squares of the distances from the mean.
    sum: f64,
}

impl Score {
    /// Welford's way, which loses nothing of numbers that are far from zero.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / super::sums::float(self.count);
        self.sum += before * (value - self.mean);
    }

    pub(crate) fn deviation(&self) -> f64 {
        (self.sum / super::sums::float(self.count)).sqrt()
    }
}

/// The answers to one question.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scores {
    pub(crate) all: Score,
    by: ByGroup<Score>,
}

impl Scores {
    pub(crate) fn add(&mut self, value: f64, groups: &[(String, String)]) {
        self.all.add(value);
        for group in groups {
            self.by.entry(group.clone()).or_default().add(value);
        }
    }

    /// Side by side; groups of which few have answered without figures.
    pub(crate) fn splits(&self, cuts: &[Cut]) -> Vec<ScoreSplit> {
        let splits = cuts.iter().map(|cut| {
            let of = |group: &String| self.by.get(&(cut.by.clone(), group.clone())).copied();
            let answered = cut.groups.iter().enumerate();
            let answered: Vec<(usize, Score)> = answered
                .filter_map(|(at, group)| Some((at, of(group)?)))
                .collect();
            let counts: Vec<u64> = answered.iter().map(|(_, score)| score.count).collect();
            let hidden: Vec<bool> = answered.iter().map(|(at, _)| cut.hidden[*at]).collect();
            let hidden = also_hidden(&counts, &hidden);
            let parts: Vec<(u64, u64)> = answered
                .iter()
                .map(|(at, score)| (score.count, cut.cases[*at]))
                .collect();
            let counts = column(&parts, &hidden);
            let rows = answered.iter().enumerate().map(|(at, (group, score))| {
                let told = !hidden[at];
                ScoreRow {
                    group: cut.groups[*group].clone(),
                    count: counts[at],
                    mean: told.then_some(score.mean),
                    deviation: told.then(|| score.deviation()),
                }
            });
            ScoreSplit {
                by: cut.by.clone(),
                rows: rows.collect(),
            }
        });
        splits.filter(|split| !split.rows.is_empty()).collect()
    }
}

/// What came of patients by one outcome.
#[derive(Debug, Clone, Default)]
struct Tally {
    yes: u64,
    planned: u64,
    no: u64,
    died: u64,
    left: u64,
    not_yet: u64,
    unknown: u64,
    after: Dwell,
    by: ByGroup<Part>,
}

/// Those of a group to whom it came, among those of whom it can be told.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    measured: u64,
    yes: u64,
}

/// All outcomes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes(BTreeMap<OutcomeOf, Tally>);

impl Outcomes {
    pub(crate) fn add(&mut self, outcomes: &[Outcome], groups: &[(String, String)]) {
        for Outcome { of, came } in outcomes {
            let tally = self.0.entry(of.clone()).or_default();
            let (count, yes) = match came {
                Came::Yes { after_ms } => {
                    tally.after.add(*after_ms);
                    (&mut tally.yes, Some(true))
                }
                Came::Planned => (&mut tally.planned, Some(false)),
                Came::No => (&mut tally.no, Some(false)),
                Came::Died => (&mut tally.died, None),
                Came::Left => (&mut tally.left, None),
                Came::NotYet => (&mut tally.not_yet, None),
                Came::Unknown => (&mut tally.unknown, None),
            };
            *count += 1;
            let Some(yes) = yes else { continue };
            for group in groups {
                let part = tally.by.entry(group.clone()).or_default();
                part.measured += 1;
                part.yes += u64::from(yes);
            }
        }
    }

    pub(crate) fn reports(&self, definition: &Definition, cuts: &[Cut]) -> Vec<OutcomeReport> {
        let reports = self.0.iter().map(|(of, tally)| OutcomeReport {
            of: of.clone(),
            title: title(definition, of),
            yes: tally.yes,
            planned: tally.planned,
            no: tally.no,
            died: tally.died,
            left: tally.left,
            not_yet: tally.not_yet,
            unknown: tally.unknown,
            after: tally.after.quantiles(),
            groups: cuts.iter().map(|cut| split(cut, &tally.by)).collect(),
        });
        reports.collect()
    }
}

fn title(definition: &Definition, of: &OutcomeOf) -> String {
    match of {
        OutcomeOf::Readmission => "In hospital again after the discharge".to_owned(),
        OutcomeOf::Admission => "In hospital after the start".to_owned(),
        OutcomeOf::Gap(name) => {
            let segments = &definition.segments;
            let segment = segments.iter().find(|segment| segment.name == *name);
            segment.map_or_else(|| name.clone(), |segment| segment.title.clone())
        }
    }
}

/// One outcome by groups. A share is told where neither those to whom it came nor the others are few.
fn split(cut: &Cut, by: &ByGroup<Part>) -> OutcomeSplit {
    let of = |group: &String| by.get(&(cut.by.clone(), group.clone())).copied();
    let parts: Vec<Part> = cut
        .groups
        .iter()
        .map(|group| of(group).unwrap_or_default())
        .collect();
    let few: Vec<bool> = parts
        .iter()
        .zip(&cut.hidden)
        .map(|(part, hidden)| *hidden || part.measured < FEW_CASES)
        .collect();
    let yes: Vec<(u64, u64)> = parts.iter().map(|part| (part.yes, part.measured)).collect();
    let yes = column(&yes, &few);
    let measured: Vec<(u64, u64)> = parts
        .iter()
        .zip(&cut.cases)
        .map(|(part, cases)| (part.measured, *cases))
        .collect();
    let measured = column(&measured, &cut.hidden);
    let rows = cut.groups.iter().enumerate().map(|(at, group)| {
        let percent = yes[at].and_then(|yes| (yes * 100).checked_div(parts[at].measured));
        OutcomeRow {
            group: group.clone(),
            measured: measured[at],
            // With the share it would tell how many were not measured.
            yes: yes[at].filter(|_| measured[at].is_some()),
            percent: percent.and_then(|percent| u8::try_from(percent).ok()),
        }
    });
    OutcomeSplit {
        by: cut.by.clone(),
        rows: rows.collect(),
    }
}

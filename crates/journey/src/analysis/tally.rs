//! What came of patients, and what they answered, added up: of all, and of each group.

use super::crowd::{ByCut, Crowd, Part, column, few, hidden};
use super::outcomes::{Came, Outcome, OutcomeOf};
use super::report::{OutcomeReport, OutcomeRow, OutcomeSplit, ScoreReport, ScoreRow, ScoreSplit};
use super::split::Cut;
use crate::counts::Dwell;
use crate::definition::Definition;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers added up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    count: u64,
    mean: f64,
    /// Of the squares of the distances from the mean.
    sum: f64,
}

impl Score {
    /// Welford's way, which loses nothing of numbers that are far from zero.
    fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / super::sums::float(self.count);
        self.sum += before * (value - self.mean);
    }

    fn deviation(&self) -> f64 {
        (self.sum / super::sums::float(self.count)).sqrt()
    }
}

/// The answers to one question, and who did not answer it.
#[derive(Debug, Clone, Default)]
struct Answered {
    score: Score,
    part: Part,
}

/// The answers to one question, of all and by group.
#[derive(Debug, Clone, Default)]
struct Scores(ByCut<Answered>);

impl Scores {
    /// Of a question that none of these has answered.
    fn of(before: &ByCut<Crowd>) -> Self {
        Self(before.map(|crowd| Answered {
            part: Part {
                not: crowd.clone(),
                ..Part::default()
            },
            ..Answered::default()
        }))
    }

    fn report(&self, step: &str, question: &str, cuts: &[Cut]) -> ScoreReport {
        let Answered { score, part } = &self.0.all;
        let many = part.of.is_many();
        let groups = cuts.iter().map(|cut| self.split(cut));
        ScoreReport {
            step: step.to_owned(),
            question: question.to_owned(),
            count: many.then_some(score.count),
            mean: many.then_some(score.mean),
            deviation: many.then(|| score.deviation()),
            groups: if many { groups.collect() } else { Vec::new() },
        }
    }

    /// Side by side; groups of which few have answered, and all by whom those could be found, without figures. How many
    /// answered could be made from means, too, so that one is told with the other or not at all.
    fn split(&self, cut: &Cut) -> ScoreSplit {
        let groups = self.0.of(&cut.by, &cut.groups);
        let crowds: Vec<&Crowd> = groups.iter().map(|group| &group.part.of).collect();
        let few = hidden(&crowds).into_iter().zip(&cut.hidden);
        let few: Vec<bool> = few.map(|(few, hidden)| few || *hidden).collect();
        let parts: Vec<&Part> = groups.iter().map(|group| &group.part).collect();
        let hidden = column(&parts, &few);
        let rows = cut.groups.iter().zip(&groups).zip(hidden);
        let rows = rows.map(|((name, group), hidden)| {
            let score = Some(group.score).filter(|_| !hidden);
            ScoreRow {
                group: name.clone(),
                count: score.map(|score| score.count),
                mean: score.map(|score| score.mean),
                deviation: score.map(|score| score.deviation()),
            }
        });
        ScoreSplit {
            by: cut.by.clone(),
            rows: rows.collect(),
        }
    }
}

/// What one patient answered, by step and question.
pub(crate) type Answers = BTreeMap<(String, String), f64>;

/// The answers to all questions that somebody has answered, by step and question.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllScores(BTreeMap<(String, String), Scores>);

impl AllScores {
    /// Whether there is an answer to a question that nobody has answered yet.
    pub(crate) fn is_new(&self, answers: &Answers) -> bool {
        answers.keys().any(|of| !self.0.contains_key(of))
    }

    /// Counts those who came before as who did not answer it; they were in these groups.
    pub(crate) fn begin(&mut self, answers: &Answers, before: &ByCut<Crowd>) {
        for of in answers.keys() {
            if !self.0.contains_key(of) {
                self.0.insert(of.clone(), Scores::of(before));
            }
        }
    }

    /// Adds what a patient answered.
    pub(crate) fn add(
        &mut self,
        answers: &Answers,
        patient: &Arc<str>,
        groups: &[(String, String)],
    ) {
        for (of, scores) in &mut self.0 {
            let answer = answers.get(of);
            scores.0.add(groups, |answered| {
                answered.part.add(answer.is_some(), patient);
                if let Some(value) = answer {
                    answered.score.add(*value);
                }
            });
        }
    }

    pub(crate) fn reports(&self, cuts: &[Cut]) -> Vec<ScoreReport> {
        let told = self.0.iter();
        told.map(|((step, question), scores)| scores.report(step, question, cuts))
            .collect()
    }
}

/// To whom what came, by one outcome.
#[derive(Debug, Clone, Default)]
struct Tally {
    yes: Crowd,
    planned: Crowd,
    no: Crowd,
    died: Crowd,
    left: Crowd,
    not_yet: Crowd,
    unknown: Crowd,
    /// Those of whom it is not asked.
    not_asked: Crowd,
}

impl Tally {
    fn of(&mut self, came: Option<Came>) -> &mut Crowd {
        match came {
            Some(Came::Yes { .. }) => &mut self.yes,
            Some(Came::Planned) => &mut self.planned,
            Some(Came::No) => &mut self.no,
            Some(Came::Died) => &mut self.died,
            Some(Came::Left) => &mut self.left,
            Some(Came::NotYet) => &mut self.not_yet,
            Some(Came::Unknown) => &mut self.unknown,
            None => &mut self.not_asked,
        }
    }

    /// Those to whom it came, and the others of whom it can be told.
    fn came(&self) -> Part {
        Part {
            of: self.yes.clone(),
            not: Crowd::of_all([&self.planned, &self.no]),
        }
    }

    fn apart(&self) -> [&Crowd; 5] {
        let Self {
            died,
            left,
            not_yet,
            unknown,
            not_asked,
            ..
        } = self;
        [died, left, not_yet, unknown, not_asked]
    }

    /// Those of whom it can be told, and all others.
    fn measured(&self) -> Part {
        Part {
            of: Crowd::of_all([&self.yes, &self.planned, &self.no]),
            not: Crowd::of_all(self.apart()),
        }
    }
}

/// What came of patients by one outcome, of all and by group.
#[derive(Debug, Clone, Default)]
struct Tallies {
    of: ByCut<Tally>,
    after: Dwell,
}

/// All outcomes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcomes(BTreeMap<OutcomeOf, Tallies>);

impl Outcomes {
    /// Whether there is one that was asked of nobody yet.
    pub(crate) fn is_new(&self, outcomes: &[Outcome]) -> bool {
        outcomes.iter().any(|one| !self.0.contains_key(&one.of))
    }

    /// Counts those who came before as of whom it was not asked; they were in these groups.
    pub(crate) fn begin(&mut self, outcomes: &[Outcome], before: &ByCut<Crowd>) {
        for Outcome { of, .. } in outcomes {
            if self.0.contains_key(of) {
                continue;
            }
            let tallies = Tallies {
                of: before.map(|crowd| Tally {
                    not_asked: crowd.clone(),
                    ..Tally::default()
                }),
                after: Dwell::default(),
            };
            self.0.insert(of.clone(), tallies);
        }
    }

    /// Adds what came of a patient.
    pub(crate) fn add(
        &mut self,
        outcomes: &[Outcome],
        patient: &Arc<str>,
        groups: &[(String, String)],
    ) {
        for (of, tallies) in &mut self.0 {
            let found = outcomes.iter().find(|one| one.of == *of);
            let came = found.map(|one| one.came);
            tallies.of.add(groups, |tally| tally.of(came).add(patient));
            if let Some(Came::Yes { after_ms }) = came {
                tallies.after.add(after_ms);
            }
        }
    }

    pub(crate) fn reports(&self, definition: &Definition, cuts: &[Cut]) -> Vec<OutcomeReport> {
        let reports = self.0.iter();
        reports
            .map(|(of, tallies)| {
                let (title, key) = named(definition, of);
                let groups = cuts.iter();
                OutcomeReport {
                    title,
                    key,
                    groups: groups.map(|cut| split(cut, &tallies.of)).collect(),
                    ..told(of, tallies)
                }
            })
            .collect()
    }
}

/// What it is called, and what it is told apart by from one of the same name in another version.
fn named(definition: &Definition, of: &OutcomeOf) -> (String, String) {
    match of {
        OutcomeOf::Readmission => (
            "In hospital again after the discharge".to_owned(),
            String::new(),
        ),
        OutcomeOf::Admission => ("In hospital after the start".to_owned(), String::new()),
        OutcomeOf::Gap(name) => {
            let segments = &definition.segments;
            let segment = segments.iter().find(|segment| segment.name == *name);
            segment.map_or_else(
                || (name.clone(), String::new()),
                |segment| (segment.title.clone(), segment.key.clone()),
            )
        }
    }
}

/// What is told of all. How many journeys there are is known, so all of these are its parts.
fn told(of: &OutcomeOf, tallies: &Tallies) -> OutcomeReport {
    let tally = &tallies.of.all;
    let (came, measured) = (tally.came(), tally.measured());
    let is_much = !measured.of.is_few();
    // Groups tell how many are measured, and to how many it came. So neither is told where what it leaves is few.
    let whole = is_much && !measured.not.is_few();
    let parts = is_much && !came.of.is_few() && !came.not.is_few();
    let yes = parts && (whole || came.not.is_many());
    let rest = parts && whole && !tally.planned.is_few() && !tally.no.is_few();
    let apart = tally.apart();
    let few = few(&apart);
    let apart = |at: usize| (whole && !few[at]).then_some(apart[at].journeys);
    let many = yes && came.of.is_many();
    OutcomeReport {
        of: of.clone(),
        title: String::new(),
        key: String::new(),
        measured: whole.then_some(measured.of.journeys),
        yes: yes.then_some(tally.yes.journeys),
        planned: rest.then_some(tally.planned.journeys),
        no: rest.then_some(tally.no.journeys),
        died: apart(0),
        left: apart(1),
        not_yet: apart(2),
        unknown: apart(3),
        after_p50_ms: tallies.after.quantile_ms(50).filter(|_| many),
        groups: Vec::new(),
    }
}

/// One outcome by groups. A share is told where neither those to whom it came nor the others are few, and where it
/// doesn't tell how many were not measured.
fn split(cut: &Cut, tallies: &ByCut<Tally>) -> OutcomeSplit {
    let tallies = tallies.of(&cut.by, &cut.groups);
    let measured: Vec<Part> = tallies.iter().map(Tally::measured).collect();
    let few = column(&measured.iter().collect::<Vec<_>>(), &cut.hidden);
    let came: Vec<Part> = tallies.iter().map(Tally::came).collect();
    let not_told = column(&came.iter().collect::<Vec<_>>(), &few);
    let rows = cut.groups.iter().enumerate().map(|(at, group)| {
        let measured = (!few[at]).then_some(measured[at].of.journeys);
        let yes = (!not_told[at]).then_some(came[at].of.journeys);
        let percent = yes.zip(measured);
        let percent = percent.and_then(|(yes, of)| (yes * 100).checked_div(of));
        OutcomeRow {
            group: group.clone(),
            measured,
            yes,
            percent: percent.and_then(|percent| u8::try_from(percent).ok()),
        }
    });
    OutcomeSplit {
        by: cut.by.clone(),
        rows: rows.collect(),
    }
}

//! Passages: what the counts of a journey's page are made up of, as lists.
//!
//! Each move of a patient leaves a small document that never changes and is found by the steps and
//! ways it went. So a list is in the order of time, a page of it costs no more with a hundred thousand
//! patients than with ten, and it stays whole while patients move on between two pages.

use crate::Stay;
use crate::spec::{END, START_ANCHOR};
use crate::state::{State, TrailEntry, What};
use ledger::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Kind of the documents.
pub(crate) const PASSAGE: Kind = Kind(1051);

/// The label of the way from a rule to what it starts.
pub(crate) const FIRES: &str = "fires";
/// The label of the way from a repeated part into a round.
pub(crate) const ROUND: &str = "round";
/// The label of the way that a late answer takes.
pub(crate) const LATE_ANSWER: &str = "late answer";

/// The label of the way that a reply takes which is no answer.
pub(crate) const UNCLEAR: &str = "unclear";

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// Who came to a step, or (`start`) into the journey, or (`end`) to a branch's end.
    Came {
        /// The step.
        step: String,
    },
    /// Who left a step and went on.
    Left {
        /// The step.
        step: String,
        /// After so long only.
        stay: Option<Stay>,
    },
    /// Who went from one step to another.
    Way {
        /// From.
        from: String,
        /// To.
        to: String,
        /// By the edge with this label only.
        label: Option<String>,
    },
    /// Who left the journey.
    Ended {
        /// From this step only.
        step: Option<String>,
        /// For this reason only.
        reason: Option<String>,
    },
}

/// A row of such a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PassedView {
    /// The patient.
    pub patient: String,
    /// The instance.
    pub instance: String,
    /// When, care clock.
    pub at_ms: u64,
    /// When they had come, of those who left a step.
    pub since_ms: Option<u64>,
    /// The way's label, or how the journey ended; empty for who came.
    pub label: String,
    /// The steps they went to; of those who left the journey, the steps where they were.
    pub steps: Vec<String>,
}

/// A page of a list, newest first.
#[derive(Debug, Clone)]
pub struct PassedPage {
    /// Rows; one move can give several, so that there may be a few more than asked for.
    pub rows: Vec<PassedView>,
    /// Where the next page starts, if there is one.
    pub next: Option<ledger::Number>,
}

/// What one move of one instance did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passage {
    #[serde(rename = "p")]
    patient: String,
    #[serde(rename = "i")]
    instance: String,
    #[serde(rename = "j")]
    journey: String,
    #[serde(rename = "v")]
    version: u32,
    #[serde(rename = "e")]
    entries: Vec<TrailEntry>,
}

/// Where an entry leads to: label and steps, `end` where a branch ends.
fn way(entry: &TrailEntry) -> Option<(&str, Vec<&str>)> {
    let (label, to) = match &entry.what {
        What::Left { label, to, .. } => (label.as_str(), to),
        What::Fired { to } => (FIRES, to),
        What::LateAnswer { to } => (LATE_ANSWER, to),
        What::Reply { to } => (UNCLEAR, to),
        What::Round { to, .. } => (ROUND, to),
        _ => return None,
    };
    let steps = if to.is_empty() {
        vec![END]
    } else {
        to.iter().map(String::as_str).collect()
    };
    Some((label, steps))
}

/// Entries by the version under which they came to be, each with the number of its first: a move to another
/// version begins the entries of that one. `last` is the version of the last of them.
pub(crate) fn by_version(entries: &[TrailEntry], last: u32) -> Vec<(u32, usize, &[TrailEntry])> {
    let mut parts = Vec::new();
    let (mut end, mut version) = (entries.len(), last);
    for (at, entry) in entries.iter().enumerate().rev() {
        if let What::Moved { from, .. } = entry.what {
            parts.push((version, at, &entries[at..end]));
            (end, version) = (at, from);
        }
    }
    parts.push((version, 0, &entries[..end]));
    parts.reverse();
    parts
}

impl Passage {
    /// The passage of a move, if anybody went anywhere.
    pub(crate) fn of(
        state: &State,
        version: u32,
        instance: &str,
        entries: &[TrailEntry],
    ) -> Option<Self> {
        let entries: Vec<TrailEntry> = entries
            .iter()
            .filter(|entry| {
                way(entry).is_some()
                    || matches!(
                        entry.what,
                        What::Started | What::Entered | What::Reached | What::Ended { .. }
                    )
            })
            .cloned()
            .collect();
        (!entries.is_empty()).then(|| Self {
            patient: state.patient.clone(),
            instance: instance.to_owned(),
            journey: state.journey.clone(),
            version,
            entries,
        })
    }

    /// What it is found by.
    pub(crate) fn tokens(&self) -> Vec<(String, String)> {
        let version = format!("{}/{}", self.journey, self.version);
        let mut tokens = BTreeSet::new();
        let mut add = |name: &str, value: String| {
            tokens.insert((name.to_owned(), value));
        };
        for entry in &self.entries {
            let step = &entry.step;
            match &entry.what {
                What::Started => add("came", format!("{version}/{START_ANCHOR}")),
                What::Entered | What::Reached => add("came", format!("{version}/{step}")),
                What::Left { since_ms, .. } => {
                    let stay = Stay::of(entry.at_ms.saturating_sub(*since_ms));
                    add("left", format!("{version}/{step}"));
                    add("stayed", format!("{version}/{step}/{}", stay.code()));
                }
                What::Ended { title, at, .. } => {
                    add("ended", version.clone());
                    add("reason", format!("{version}/{title}"));
                    for step in at {
                        add("ended_at", format!("{version}/{step}"));
                    }
                }
                _ => {}
            }
            for (label, to) in way(entry)
                .into_iter()
                .flat_map(|(label, steps)| steps.into_iter().map(move |to| (label, to)))
            {
                add("way", format!("{version}/{step}/{to}"));
                add("labelled", format!("{version}/{step}/{to}/{label}"));
                if to == END {
                    add("came", format!("{version}/{END}"));
                }
            }
        }
        tokens.into_iter().collect()
    }

    /// The rows that it gives to a list. Tokens can collide, what stands here can't.
    pub(crate) fn rows(&self, journey: &str, version: u32, list: &Passed) -> Vec<PassedView> {
        if self.journey != journey || self.version != version {
            return Vec::new();
        }
        let mut rows: Vec<PassedView> = self
            .entries
            .iter()
            .flat_map(|entry| self.rows_of(entry, list))
            .collect();
        rows.reverse();
        rows
    }

    fn rows_of(&self, entry: &TrailEntry, list: &Passed) -> Vec<PassedView> {
        let row = |since_ms: Option<u64>, label: &str, steps: Vec<String>| PassedView {
            patient: self.patient.clone(),
            instance: self.instance.clone(),
            at_ms: entry.at_ms,
            since_ms,
            label: label.to_owned(),
            steps,
        };
        let since_ms = match &entry.what {
            What::Left { since_ms, .. } => Some(*since_ms),
            _ => None,
        };
        match list {
            Passed::Came { step } if step == END => way(entry)
                .into_iter()
                .flat_map(|(label, steps)| steps.into_iter().map(move |to| (label, to)))
                .filter(|(_, to)| *to == END)
                .map(|(label, _)| row(since_ms, label, vec![entry.step.clone()]))
                .collect(),
            Passed::Came { step } => {
                let came = match &entry.what {
                    What::Started => step == START_ANCHOR,
                    What::Entered | What::Reached => *step == entry.step,
                    _ => false,
                };
                came.then(|| row(None, "", Vec::new()))
                    .into_iter()
                    .collect()
            }
            Passed::Left { step, stay } => {
                let Some(since) = since_ms.filter(|_| *step == entry.step) else {
                    return Vec::new();
                };
                let stayed = Stay::of(entry.at_ms.saturating_sub(since));
                way(entry)
                    .filter(|_| stay.is_none_or(|stay| stay == stayed))
                    .map(|(label, to)| {
                        row(since_ms, label, to.into_iter().map(str::to_owned).collect())
                    })
                    .into_iter()
                    .collect()
            }
            Passed::Way { from, to, label } => way(entry)
                .filter(|_| *from == entry.step)
                .filter(|(taken, _)| label.as_ref().is_none_or(|label| label == taken))
                .into_iter()
                .flat_map(|(taken, steps)| {
                    // A way that names a step twice was counted twice.
                    let times = steps.iter().filter(|step| *step == to).count();
                    std::iter::repeat_n(row(since_ms, taken, vec![to.clone()]), times)
                })
                .collect(),
            Passed::Ended { step, reason } => match &entry.what {
                What::Ended { title, at, .. }
                    if step.as_ref().is_none_or(|step| at.contains(step))
                        && reason.as_ref().is_none_or(|reason| reason == title) =>
                {
                    vec![row(None, title, at.clone())]
                }
                _ => Vec::new(),
            },
        }
    }
}

impl Passed {
    /// What the list's documents are found by.
    pub(crate) fn tokens(&self, journey: &str, version: u32) -> Vec<(&'static str, String)> {
        let version = format!("{journey}/{version}");
        match self {
            Self::Came { step } => vec![("came", format!("{version}/{step}"))],
            Self::Left { step, stay: None } => vec![("left", format!("{version}/{step}"))],
            Self::Left {
                step,
                stay: Some(stay),
            } => vec![("stayed", format!("{version}/{step}/{}", stay.code()))],
            Self::Way {
                from,
                to,
                label: None,
            } => vec![("way", format!("{version}/{from}/{to}"))],
            Self::Way {
                from,
                to,
                label: Some(label),
            } => vec![("labelled", format!("{version}/{from}/{to}/{label}"))],
            Self::Ended { step, reason } => {
                let mut tokens = Vec::new();
                if let Some(step) = step {
                    tokens.push(("ended_at", format!("{version}/{step}")));
                }
                if let Some(reason) = reason {
                    tokens.push(("reason", format!("{version}/{reason}")));
                }
                if tokens.is_empty() {
                    tokens.push(("ended", version));
                }
                tokens
            }
        }
    }
}

//! What really happened to a patient in a journey, played again with a draft of it, by the production engine in
//! virtual time: where the draft goes the same way, where it differs, and where nobody can tell, because the
//! patient would have been asked something else. Nothing is written but the audit of who looked.

mod compare;
mod gather;
mod history;
mod lead;

use crate::time::say_minute;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Journeys of which one summary is made at most.
pub const REPLAYED_MAX: usize = 10_000;

/// How something compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compares {
    /// It is the same, at the same time.
    Same,
    /// It comes at another time.
    OtherTime,
    /// It says something else, or is for others.
    OtherContent,
    /// It happened, and does not happen with the draft.
    Gone,
    /// It did not happen, and does with the draft.
    New,
}

/// Something that happened, in what really was, with the draft, or in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayRow {
    /// How it compares.
    pub how: Compares,
    /// When it really happened, if it did.
    pub at_ms: Option<u64>,
    /// When it happens with the draft, if it does.
    pub draft_ms: Option<u64>,
    /// Step id; empty for the journey as a whole.
    pub step: String,
    /// What, in words without anything of the patient.
    pub what: String,
    /// What of it is different, in words.
    pub differs: Vec<String>,
    /// Whether it comes after something that can't be told.
    pub unsure: bool,
}

/// Something that has to be said about a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayNote {
    /// From when on, if it is about a time.
    pub at_ms: Option<u64>,
    /// Step id; empty for the journey as a whole.
    pub step: String,
    /// Whether what follows can't be told for it. Otherwise it says what was taken for granted.
    pub untold: bool,
    /// In words without anything of the patient.
    pub words: String,
}

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The journey's id.
    pub instance: String,
    /// The patient's id.
    pub patient: String,
    /// The journey's name.
    pub journey: String,
    /// The version that the patient is on, or ended on.
    pub version: u32,
    /// Up to when it was played.
    pub until_ms: u64,
    /// What happened, in order.
    pub rows: Vec<ReplayRow>,
    /// What has to be said about it.
    pub notes: Vec<ReplayNote>,
    #[serde(skip)]
    pub(crate) zone: TimeZone,
}

impl Replayed {
    /// Rows in which the two differ.
    pub fn differences(&self) -> impl Iterator<Item = &ReplayRow> {
        self.rows.iter().filter(|row| row.how != Compares::Same)
    }

    /// What can't be told.
    pub fn untold(&self) -> impl Iterator<Item = &ReplayNote> {
        self.notes.iter().filter(|note| note.untold)
    }

    /// Whether the draft goes the same way, as far as it was played and without anything that can't be told.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences().next().is_none() && self.untold().next().is_none()
    }

    /// The report for people. It names nobody but by ids.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let at = |at_ms: u64| say_minute(at_ms, &self.zone);
        let _ = writeln!(
            text,
            "{} {}, version {}, of patient {}: played again with the draft until {}.",
            self.journey,
            self.instance,
            self.version,
            self.patient,
            at(self.until_ms)
        );
        let mut notes: Vec<&ReplayNote> = self.notes.iter().collect();
        notes.sort_by_key(|note| note.at_ms);
        let mut notes = notes.into_iter().peekable();
        let mut tell = |text: &mut String, before_ms: u64| {
            while let Some(note) = notes.next_if(|note| note.at_ms.unwrap_or(0) <= before_ms) {
                let when = note.at_ms.map_or_else(String::new, |at_ms| at(at_ms) + " ");
                let sort = if note.untold {
                    "can't be told"
                } else {
                    "taken"
                };
                let of = if note.step.is_empty() {
                    String::new()
                } else {
                    format!("{}: ", note.step)
                };
                let _ = writeln!(text, "  ? {when}{of}{sort}: {}", note.words);
            }
        };
        for row in &self.rows {
            let row_ms = row.draft_ms.or(row.at_ms).unwrap_or(0);
            tell(&mut text, row_ms);
            let sign = match row.how {
                Compares::Same => '=',
                Compares::Gone => '-',
                Compares::New => '+',
                Compares::OtherTime | Compares::OtherContent => '!',
            };
            let unsure = if row.unsure && row.how != Compares::Same {
                " (after something that can't be told)"
            } else {
                ""
            };
            let when = at(row.at_ms.or(row.draft_ms).unwrap_or(0));
            let _ = writeln!(text, "  {sign} {when} {}{unsure}", row.what);
            for differs in &row.differs {
                let _ = writeln!(text, "      {differs}");
            }
        }
        tell(&mut text, u64::MAX);
        let (differences, untold) = (self.differences().count(), self.untold().count());
        let _ = match (differences, untold) {
            (0, 0) => writeln!(text, "The draft goes the same way."),
            (0, untold) => writeln!(
                text,
                "No difference as far as it can be told; {untold} things can't be told."
            ),
            (differences, 0) => writeln!(text, "{differences} differences."),
            (differences, untold) => writeln!(
                text,
                "{differences} differences; {untold} things can't be told."
            ),
        };
        text
    }
}

/// A difference, for all whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplaySum {
    /// How it differs.
    pub how: Compares,
    /// Step id; empty for the journey as a whole.
    pub step: String,
    /// What, in words.
    pub what: String,
    /// In how many journeys.
    pub journeys: usize,
    /// How often in all.
    pub times: usize,
}

/// What came of many replays. It names nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplaySummary {
    /// Journeys that were found.
    pub found: usize,
    /// Those that were played again.
    pub played: usize,
    /// Those of them in which the draft goes the same way.
    pub same: usize,
    /// Those in which it differs.
    pub differ: usize,
    /// Those in which it doesn't, as far as it can be told.
    pub untold: usize,
    /// Those that were left out, because something of the patient's record may be hidden from who asks.
    pub hidden: usize,
    /// Those that could not be played again: why, and how many.
    pub failed: Vec<(String, usize)>,
    /// What differs: that of most journeys first.
    pub differs: Vec<ReplaySum>,
    /// What can't be told, by step, and in how many journeys.
    pub cannot_tell: Vec<(String, String, usize)>,
}

/// Differences of which a summary has sums; those of most journeys come first.
const SUMS_MAX: usize = 200;

/// Differences of one sort, by how, step and words: in how many journeys, and how often.
type Differs = BTreeMap<(Compares, String, String), (usize, usize)>;

/// A summary that is being made, one replay after the other; none of them is kept.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    summary: ReplaySummary,
    differs: Differs,
    untold: BTreeMap<(String, String), usize>,
    failed: BTreeMap<&'static str, usize>,
}

impl Sums {
    fn of(found: usize) -> Self {
        let summary = ReplaySummary {
            found,
            ..ReplaySummary::default()
        };
        Self {
            summary,
            ..Self::default()
        }
    }

    fn hidden(&mut self) {
        self.summary.hidden += 1;
    }

    fn failed(&mut self, why: &'static str) {
        *self.failed.entry(why).or_default() += 1;
    }

    fn add(&mut self, one: &Replayed) {
        let summary = &mut self.summary;
        summary.played += 1;
        let differs = one.differences().next().is_some();
        if one.is_same() {
            summary.same += 1;
        } else if differs {
            summary.differ += 1;
        } else {
            summary.untold += 1;
        }
        let mut seen = BTreeSet::new();
        for row in one.differences() {
            let key = (row.how, row.step.clone(), row.what.clone());
            let sum = self.differs.entry(key.clone()).or_default();
            sum.0 += usize::from(seen.insert(key));
            sum.1 += 1;
        }
        let notes = one.untold();
        let notes: BTreeSet<(String, String)> = notes
            .map(|note| (note.step.clone(), note.words.clone()))
            .collect();
        for note in notes {
            *self.untold.entry(note).or_default() += 1;
        }
    }

    fn summary(self) -> ReplaySummary {
        let mut summary = self.summary;
        let failed = self.failed.into_iter();
        summary.failed = failed.map(|(why, count)| (why.to_owned(), count)).collect();
        let differs = self.differs.into_iter();
        summary.differs = differs
            .map(|((how, step, what), (journeys, times))| ReplaySum {
                how,
                step,
                what,
                journeys,
                times,
            })
            .collect();
        summary
            .differs
            .sort_by_key(|sum| std::cmp::Reverse(sum.journeys));
        summary.differs.truncate(SUMS_MAX);
        let untold = self.untold.into_iter();
        summary.cannot_tell = untold
            .map(|((step, words), journeys)| (step, words, journeys))
            .collect();
        summary
            .cannot_tell
            .sort_by_key(|(_, _, journeys)| std::cmp::Reverse(*journeys));
        summary.cannot_tell.truncate(SUMS_MAX);
        summary
    }
}

impl ReplaySummary {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} of {} journeys played again: {} go the same way, {} differ, {} do not differ as far as it can be told.\n",
            self.played, self.found, self.same, self.differ, self.untold
        );
        if self.hidden > 0 {
            let _ = writeln!(
                text,
                "{} left out: something of the patient's record may be hidden from who asks",
                self.hidden
            );
        }
        for (why, count) in &self.failed {
            let _ = writeln!(text, "{count} could not be played again: {why}");
        }
        for sum in &self.differs {
            let how = match sum.how {
                Compares::Same => "the same",
                Compares::OtherTime => "at another time",
                Compares::OtherContent => "in another way",
                Compares::Gone => "no more",
                Compares::New => "new",
            };
            let _ = writeln!(
                text,
                "{how}: {} ({} journeys, {} times)",
                sum.what, sum.journeys, sum.times
            );
        }
        for (step, words, count) in &self.cannot_tell {
            let of = if step.is_empty() { "" } else { ": " };
            let _ = writeln!(text, "can't be told: {step}{of}{words} ({count} journeys)");
        }
        text
    }
}

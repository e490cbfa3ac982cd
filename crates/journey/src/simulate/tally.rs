//! What a cohort did, in sums that don't mind the order in which patients are added.

use crate::Channel;
use crate::state::State;
use crate::time::HOUR_MS;
use std::collections::BTreeMap;

/// Work is summed in thousandths of a minute, so that the sum is the same whatever the threads did.
const THOUSANDTHS: f64 = 1000.0;

#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) starts: Vec<u64>,
    pub(super) messages: BTreeMap<Channel, Vec<u64>>,
    pub(super) tasks: Vec<u64>,
    pub(super) forms: u64,
    pub(super) visits: u64,
    pub(super) handed_over: u64,
    /// Thousandths of a minute, by role and day.
    pub(super) work: BTreeMap<usize, Vec<u64>>,
    /// How many patients got so many messages.
    pub(super) per_patient: BTreeMap<u32, u64>,
    /// By the ending's code: how many hours after the start, and how many.
    pub(super) endings: BTreeMap<String, BTreeMap<u64, u64>>,
    pub(super) under_way: u64,
    /// By goal: how many hours after the start it was reached, and how many.
    pub(super) goals: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Patients whom the engine refused to move, with what it said.
    pub(super) refused: BTreeMap<String, u64>,
}

fn add(days: &mut Vec<u64>, day: usize, count: u64) {
    if days.len() <= day {
        days.resize(day + 1, 0);
    }
    days[day] += count;
}

fn merge(days: &mut Vec<u64>, other: &[u64]) {
    for (day, count) in other.iter().enumerate() {
        add(days, day, *count);
    }
}

fn merge_counts<K: Ord + Clone>(into: &mut BTreeMap<K, u64>, other: BTreeMap<K, u64>) {
    for (key, count) in other {
        *into.entry(key).or_default() += count;
    }
}

impl Tally {
    pub(super) fn started(&mut self, day: usize) {
        add(&mut self.starts, day, 1);
    }
    pub(super) fn message(&mut self, channel: Channel, day: usize) {
        add(self.messages.entry(channel).or_default(), day, 1);
    }
    pub(super) fn task(&mut self, day: usize) {
        add(&mut self.tasks, day, 1);
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "minutes of one task, never negative"
    )]
    pub(super) fn worked(&mut self, role: usize, day: usize, minutes: f64) {
        let work = (minutes * THOUSANDTHS).round() as u64;
        add(self.work.entry(role).or_default(), day, work);
    }
    /// Counts a patient who was led to the end of their journey or of the time.
    pub(super) fn over(&mut self, messages: u32, state: &State) {
        *self.per_patient.entry(messages).or_default() += 1;
        let hours_to = |at_ms: u64| at_ms.saturating_sub(state.started_ms) / HOUR_MS;
        for (goal, at_ms) in &state.goals {
            let times = self.goals.entry(goal.clone()).or_default();
            *times.entry(hours_to(*at_ms)).or_default() += 1;
        }
        match &state.ended {
            None => self.under_way += 1,
            Some(ended) => {
                let times = self.endings.entry(ended.code.clone()).or_default();
                *times.entry(hours_to(ended.at_ms)).or_default() += 1;
            }
        }
    }
    pub(super) fn refuse(&mut self, why: String) {
        *self.refused.entry(why).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        merge(&mut self.starts, &other.starts);
        for (channel, days) in &other.messages {
            merge(self.messages.entry(*channel).or_default(), days);
        }
        merge(&mut self.tasks, &other.tasks);
        self.forms += other.forms;
        self.visits += other.visits;
        self.handed_over += other.handed_over;
        for (role, days) in &other.work {
            merge(self.work.entry(*role).or_default(), days);
        }
        merge_counts(&mut self.per_patient, other.per_patient);
        for (code, times) in other.endings {
            merge_counts(self.endings.entry(code).or_default(), times);
        }
        for (goal, times) in other.goals {
            merge_counts(self.goals.entry(goal).or_default(), times);
        }
        self.under_way += other.under_way;
        merge_counts(&mut self.refused, other.refused);
    }
}

/// Hours of work of a day.
#[allow(clippy::cast_precision_loss, reason = "sums of minutes are small")]
pub(super) fn hours(work: u64) -> f64 {
    work as f64 / THOUSANDTHS / 60.0
}

/// The value below which so many in a hundred lie, of values with their counts.
pub(super) fn percentile<K: Copy + Ord>(counts: &BTreeMap<K, u64>, percent: u64) -> Option<K> {
    let total: u64 = counts.values().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    counts.iter().find_map(|(value, count)| {
        seen += count;
        (seen >= rank).then_some(*value)
    })
}

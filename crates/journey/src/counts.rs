//! How many patients are where, kept as they move.
//!
//! The counts are sums over the trails of all instances, shard by shard. They are moved along with every
//! commit, so that a page over a hundred thousand patients costs no more than one over ten, and kept in
//! the store from time to time (`kept.rs`), so that opening them costs no more either. What other
//! processes commit is learnt from the feed (`learnt.rs`), in whatever order it comes: the sums don't mind.

use crate::definition::Definition;
use crate::passages::{FIRES, LATE_ANSWER, ROUND, UNCLEAR};
use crate::spec::END;
use crate::state::{State, TrailEntry, What};
use crate::{EdgeView, NodeView, Stay, words};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The label of the ways from a `parallel` into its branches.
pub(crate) const BRANCH: &str = "side by side";
/// The label of the beginning of those whose date was past when it was learnt.
const LATE: &str = "the date was past";

/// Where a patient was before a move.
#[derive(Debug, Clone, Default)]
pub(crate) struct Before {
    pub(crate) known: bool,
    pub(crate) running: bool,
    pub(crate) at: Vec<String>,
}

impl Before {
    pub(crate) fn of(state: Option<&State>) -> Self {
        state.map_or_else(Self::default, |state| Self {
            known: true,
            running: state.running(),
            at: state.at().into_iter().map(str::to_owned).collect(),
        })
    }
}

/// Counts of one version. What is counted differently from one program to the next needs another
/// [`crate::kept::FORMAT`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionCounts {
    running: i64,
    ended: i64,
    /// Who began in this version, wherever they are now.
    started: u64,
    /// How often somebody came to it from another version.
    moved_in: u64,
    /// How often somebody went on by another version.
    moved_out: u64,
    nodes: BTreeMap<String, NodeCounts>,
    /// From a step, to a step, by a label.
    #[serde(with = "pairs")]
    edges: BTreeMap<(String, String, String), u64>,
    pub(crate) endings: BTreeMap<String, u64>,
}

/// Names of JSON's members are strings, so what has other keys is a list of pairs.
mod pairs {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;

    type Edges = BTreeMap<(String, String, String), u64>;

    pub(super) fn serialize<S: Serializer>(edges: &Edges, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(edges)
    }
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Edges, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct NodeCounts {
    here: i64,
    entered: u64,
    ended_here: u64,
    dwell: Dwell,
}

/// Times spent at a step, in buckets that are 1/32 of a doubling wide, so that a median is right
/// within about two in a hundred whatever its size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dwell {
    buckets: BTreeMap<u32, u64>,
    /// The same by class, exactly.
    stays: [u64; Stay::COUNT],
    total: u64,
}

const BUCKETS_PER_DOUBLING: f64 = 32.0;

impl Dwell {
    fn add_all(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        for (sum, count) in self.stays.iter_mut().zip(other.stays) {
            *sum += count;
        }
        self.total += other.total;
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a bucket's number is small and not negative"
    )]
    pub(crate) fn add(&mut self, dwell_ms: u64) {
        let bucket = ((dwell_ms as f64 + 1.0).log2() * BUCKETS_PER_DOUBLING).round() as u32;
        *self.buckets.entry(bucket).or_default() += 1;
        self.stays[Stay::of(dwell_ms).place()] += 1;
        self.total += 1;
    }
    pub(crate) fn count(&self) -> u64 {
        self.total
    }
    fn median_ms(&self) -> Option<u64> {
        self.quantile_ms(50)
    }
    /// All these times together, right within about two in a hundred.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of centuries fit"
    )]
    pub(crate) fn sum_ms(&self) -> u64 {
        let of = |(bucket, count): (&u32, &u64)| {
            ((f64::from(*bucket) / BUCKETS_PER_DOUBLING).exp2() - 1.0) * *count as f64
        };
        self.buckets.iter().map(of).sum::<f64>().round() as u64
    }
    /// What so many in a hundred of the times are no longer than.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of centuries fit"
    )]
    pub(crate) fn quantile_ms(&self, percent: u64) -> Option<u64> {
        let middle = (self.total * percent).div_ceil(100).checked_sub(1)?;
        let mut seen = 0;
        let (bucket, _) = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen > middle
        })?;
        Some(((f64::from(*bucket) / BUCKETS_PER_DOUBLING).exp2() - 1.0).round() as u64)
    }
}

/// A count for people. It is below zero only while a move is known and the one before it is not.
fn shown(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl VersionCounts {
    /// Patients under way.
    pub(crate) fn running(&self) -> u64 {
        shown(self.running)
    }
    /// Patients whose journey is over.
    pub(crate) fn ended(&self) -> u64 {
        shown(self.ended)
    }

    /// Patients who began in this version.
    pub(crate) fn started(&self) -> u64 {
        self.started
    }
    /// How often somebody came from another version, and went on by another.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.moved_in, self.moved_out)
    }

    /// How many more patients are under way than were counted as gone.
    pub(crate) fn balance(&self) -> i64 {
        self.running
    }

    /// Adds how many other patients are under way and over, and nothing else of them.
    pub(crate) fn add_sums(&mut self, other: &Self) {
        self.running += other.running;
        self.ended += other.ended;
    }

    /// Adds the counts of other patients.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.add_sums(other);
        self.started += other.started;
        self.moved_in += other.moved_in;
        self.moved_out += other.moved_out;
        for (step, counts) in &other.nodes {
            let node = self.nodes.entry(step.clone()).or_default();
            node.here += counts.here;
            node.entered += counts.entered;
            node.ended_here += counts.ended_here;
            node.dwell.add_all(&counts.dwell);
        }
        for (edge, count) in &other.edges {
            *self.edges.entry(edge.clone()).or_default() += count;
        }
        for (title, count) in &other.endings {
            *self.endings.entry(title.clone()).or_default() += count;
        }
    }

    /// Takes in what one instance did: its trail entries since `before`, and where it is now.
    pub(crate) fn apply<'a>(
        &mut self,
        before: &Before,
        entries: impl Iterator<Item = &'a TrailEntry>,
        after: &State,
    ) {
        if before.known && before.running {
            self.running -= 1;
        }
        if after.running() {
            self.running += 1;
        } else if !before.known || before.running {
            self.ended += 1;
        }
        for step in &before.at {
            let node = self.nodes.entry(step.clone()).or_default();
            node.here -= 1;
        }
        for step in after.at() {
            self.nodes.entry(step.to_owned()).or_default().here += 1;
        }
        for entry in entries {
            self.take(entry);
        }
    }

    /// Takes in that an instance has gone on by another version, and what it did until then.
    pub(crate) fn leave<'a>(
        &mut self,
        before: &Before,
        entries: impl Iterator<Item = &'a TrailEntry>,
    ) {
        self.moved_out += 1;
        if before.running {
            self.running -= 1;
        }
        for step in &before.at {
            self.nodes.entry(step.clone()).or_default().here -= 1;
        }
        for entry in entries {
            self.take(entry);
        }
    }

    fn take(&mut self, entry: &TrailEntry) {
        match &entry.what {
            What::Started => self.started += 1,
            What::Moved { .. } => self.moved_in += 1,
            What::Entered | What::Reached => {
                self.nodes.entry(entry.step.clone()).or_default().entered += 1;
            }
            What::Left {
                label,
                since_ms,
                to,
            } => {
                self.nodes
                    .entry(entry.step.clone())
                    .or_default()
                    .dwell
                    .add(entry.at_ms.saturating_sub(*since_ms));
                self.edge(&entry.step, label, to);
            }
            What::Fired { to } => self.edge(&entry.step, FIRES, to),
            What::LateAnswer { to } => self.edge(&entry.step, LATE_ANSWER, to),
            What::Reply { to } => self.edge(&entry.step, UNCLEAR, to),
            What::Round { to, .. } => self.edge(&entry.step, ROUND, to),
            What::Ended { title, at, .. } => {
                *self.endings.entry(title.clone()).or_default() += 1;
                for step in at {
                    self.nodes.entry(step.clone()).or_default().ended_here += 1;
                }
            }
            _ => {}
        }
    }

    fn edge(&mut self, from: &str, label: &str, to: &[String]) {
        if to.is_empty() {
            *self
                .edges
                .entry((from.to_owned(), END.to_owned(), label.to_owned()))
                .or_default() += 1;
        }
        for step in to {
            *self
                .edges
                .entry((from.to_owned(), step.clone(), label.to_owned()))
                .or_default() += 1;
        }
    }

    /// How long those stayed at a step who went on from it.
    pub(crate) fn dwell(&self, step: &str) -> Option<&Dwell> {
        self.nodes.get(step).map(|node| &node.dwell)
    }
    /// How often each way from a step was gone: where it leads to, its label, and the count.
    pub(crate) fn ways(&self, step: &str) -> impl Iterator<Item = (&str, &str, u64)> {
        let of_step = self
            .edges
            .iter()
            .filter(move |((from, ..), _)| from == step);
        of_step.map(|((_, to, label), count)| (to.as_str(), label.as_str(), *count))
    }

    /// How many began as those whose date was past: who came to that step and from no other.
    fn began_late(&self, definition: &Definition) -> u64 {
        let of = |index: &usize| {
            let id = &definition.steps[*index].id;
            let entered = self.nodes.get(id).map_or(0, |counts| counts.entered);
            let led = self.edges.iter().filter(|((_, to, _), _)| to == id);
            entered.saturating_sub(led.map(|(_, count)| count).sum())
        };
        let late = definition
            .entry
            .late()
            .filter(|late| **late != definition.start);
        let late = late.into_iter().flat_map(|late| &late.steps);
        late.map(of).max().unwrap_or(0)
    }

    /// The definition's graph with these counts, in reading order.
    pub(crate) fn graph(&self, definition: &Definition) -> (Vec<NodeView>, Vec<EdgeView>) {
        let started = self.started;
        let node = |id: &str, kind: &str, title: String| NodeView {
            id: id.to_owned(),
            kind: kind.to_owned(),
            title,
            here: 0,
            entered: 0,
            ended_here: 0,
            left: 0,
            stays: vec![0; Stay::COUNT],
            dwell_median_ms: None,
            words: None,
            passes: false,
        };
        let mut nodes = vec![NodeView {
            entered: started,
            ..node("start", "entry", words::starts(definition))
        }];
        let late = self.began_late(definition);
        let starts = definition.entry.late().map(|target| (target, LATE, late));
        let starts = [(&definition.start, "", started.saturating_sub(late))]
            .into_iter()
            .chain(starts);
        let mut edges: Vec<EdgeView> = starts
            .flat_map(|(target, label, count)| {
                target.steps.iter().map(move |index| EdgeView {
                    from: "start".into(),
                    to: definition.steps[*index].id.clone(),
                    label: label.to_owned(),
                    count,
                })
            })
            .collect();
        for step in &definition.steps {
            let counts = self.nodes.get(&step.id);
            let mut view = NodeView {
                words: step.words(),
                passes: !step.kind.watches(),
                ..node(&step.id, step.kind_name(), step.title.clone())
            };
            if let Some(counts) = counts {
                view = NodeView {
                    here: shown(counts.here),
                    entered: counts.entered,
                    ended_here: counts.ended_here,
                    left: counts.dwell.total,
                    stays: counts.dwell.stays.to_vec(),
                    dwell_median_ms: counts.dwell.median_ms(),
                    ..view
                };
            }
            if step.kind.watches() && step.kind.aims().is_none() {
                // A rule watches everybody from the start; nobody goes to it or leaves it.
                view = NodeView {
                    here: self.running(),
                    entered: started,
                    ..view
                };
            }
            nodes.push(view);
            for way in step.ways() {
                let targets: Vec<String> = match way.target.steps.as_slice() {
                    [] => vec![END.to_owned()],
                    steps => steps
                        .iter()
                        .map(|index| definition.steps[*index].id.clone())
                        .collect(),
                };
                for to in targets {
                    let count = if step.kind.branches().is_some() && way.label == BRANCH {
                        counts.map_or(0, |counts| counts.entered)
                    } else {
                        self.edges
                            .get(&(step.id.clone(), to.clone(), way.label.clone()))
                            .copied()
                            .unwrap_or(0)
                    };
                    // Two cases that lead to the same step under the same label are one edge.
                    let known = |edge: &EdgeView| {
                        edge.from == step.id && edge.to == to && edge.label == way.label
                    };
                    if !edges.iter().any(known) {
                        edges.push(EdgeView {
                            from: step.id.clone(),
                            to,
                            label: way.label.clone(),
                            count,
                        });
                    }
                }
            }
        }
        if edges.iter().any(|edge| edge.to == END) {
            let entered = edges
                .iter()
                .filter(|edge| edge.to == END)
                .map(|edge| edge.count)
                .sum();
            nodes.push(NodeView {
                entered,
                ..node(END, "end", "End of this part".into())
            });
        }
        (nodes, edges)
    }
}

#[cfg(test)]
impl VersionCounts {
    /// Something of everything that is counted.
    pub(crate) fn sample(&mut self) {
        (self.running, self.ended) = (3, 4);
        (self.started, self.moved_in, self.moved_out) = (9, 2, 4);
        let node = self.nodes.entry("call".to_owned()).or_default();
        (node.here, node.entered, node.ended_here) = (-1, 5, 2);
        node.dwell.add(86_400_000);
        self.edge("call", "done", &["visit".to_owned()]);
        self.endings.insert("done".to_owned(), 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_shards_are_sums_of_everything() {
        let (mut one, mut all) = (VersionCounts::default(), VersionCounts::default());
        one.sample();
        all.add_all(&one);
        assert_eq!(all, one);
        all.add_all(&one);
        assert_eq!((all.running(), all.ended()), (6, 8));
        assert_eq!((all.started(), all.moved()), (18, (4, 8)));
        let (call, once) = (&all.nodes["call"], &one.nodes["call"]);
        assert_eq!((call.here, call.entered, call.ended_here), (-2, 10, 4));
        assert_eq!(call.dwell.total, 2);
        assert_eq!(call.dwell.median_ms(), once.dwell.median_ms());
        assert_eq!(all.edges.values().sum::<u64>(), 2);
        assert_eq!(all.endings["done"], 8);
    }

    #[test]
    fn medians_are_right_within_two_in_a_hundred() {
        let mut dwell = Dwell::default();
        assert_eq!(dwell.median_ms(), None);
        for value in [0, 1_000, 86_400_000, 172_800_000, 9_000_000_000] {
            dwell.add(value);
        }
        let median = dwell.median_ms().unwrap();
        assert!(median.abs_diff(86_400_000) < 86_400_000 / 50, "{median}");
        let mut instant = Dwell::default();
        instant.add(0);
        assert_eq!(instant.median_ms(), Some(0));
    }
}

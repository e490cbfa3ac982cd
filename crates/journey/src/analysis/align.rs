//! A path held against a net: how little has to be left out of it, and put into it, for it to be one of the net's.
//!
//! This is the optimal alignment of process mining. What is in the path and not in the net, and the other way round,
//! costs its weight; what both have costs nothing. It is found by a search (A*) over where the net is and how far the
//! path is. What is left out on the way can't be part of a cheaper one, and what is added to the cost of a place is
//! never more than what is still to be paid, so it is the cheapest, and costs the same as any other tool finds for the
//! same net.

use super::net::{Net, Transition};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What a deviation of weight 1 costs, and what a silent way does: so a shorter way is preferred among equals.
const UNIT: u64 = 10_000;
const SILENT: u64 = 1;
/// Most tokens of a net at one moment.
const TOKENS_MAX: usize = 64;
/// Most places of the net together with a place of the path that are looked at for one path.
const LOOKS_MAX: usize = 400_000;

/// How a path fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Aligned {
    /// The weights of all deviations.
    pub(crate) cost: u64,
    /// Activities that the net would have had, and the path has not.
    pub(crate) skipped: Vec<String>,
    /// Activities that the path has where the net has none.
    pub(crate) extra: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Both,
    Net(u32),
    Path,
    Silent,
}

struct Node {
    marking: u32,
    at: usize,
    from: usize,
    by: By,
}

/// A set of labels.
#[derive(Clone, Default, PartialEq, Eq)]
struct Labels(Vec<u64>);

impl Labels {
    fn add(&mut self, label: u32) {
        let (word, bit) = split(label);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }
    fn add_all(&mut self, others: &Self) {
        if self.0.len() < others.0.len() {
            self.0.resize(others.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word |= other;
        }
    }
    fn has(&self, label: u32) -> bool {
        let (word, bit) = split(label);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
    fn meets(&self, others: &Self) -> bool {
        self.0.iter().zip(&others.0).any(|(a, b)| a & b != 0)
    }
}

fn split(label: u32) -> (usize, u64) {
    let word = usize::try_from(label / 64).unwrap_or(usize::MAX);
    (word, 1 << (label % 64))
}

/// A transition, and when it can be gone without the path.
struct Fires<'a> {
    transition: &'a Transition,
    when: When,
}

/// When a visible transition is worth going without the path.
enum When {
    Always,
    /// It ends the journey, and nothing of a path fits after that: not before the path is over.
    Last,
    /// It may happen beside everything else at any time: only where the path still has something that it leads to.
    Beside(Labels),
}

/// A net made ready for paths.
pub(crate) struct Aligner<'a> {
    net: &'a Net,
    /// Transitions by the first place that they take from.
    by_place: HashMap<u16, Vec<Fires<'a>>>,
    /// What may still come of a token at each place.
    reach: HashMap<u16, Labels>,
    weights: Vec<u64>,
    weigh: &'a dyn Fn(&str) -> u64,
    /// Looks that are left for all paths.
    looks: usize,
}

impl<'a> Aligner<'a> {
    pub(crate) fn new(net: &'a Net, weigh: &'a dyn Fn(&str) -> u64, looks: usize) -> Self {
        let reach = reach(net);
        let mut by_place: HashMap<u16, Vec<Fires<'_>>> = HashMap::new();
        for transition in &net.transitions {
            let goes_on = transition.gives.contains(&Net::running());
            let when = if transition.label.is_some() && !goes_on {
                When::Last
            } else if transition.takes == [Net::running()] {
                let mut leads = Labels::default();
                let beside = transition.gives.iter();
                for place in beside.filter(|place| **place != Net::running()) {
                    leads.add_all(reach.get(place).unwrap_or(&Labels::default()));
                }
                When::Beside(leads)
            } else {
                When::Always
            };
            if let Some(first) = transition.takes.first() {
                let of_place = by_place.entry(*first).or_default();
                of_place.push(Fires { transition, when });
            }
        }
        Self {
            net,
            by_place,
            reach,
            weights: net.labels.iter().map(|label| weigh(label)).collect(),
            weigh,
            looks,
        }
    }

    /// What it costs to go through the net with nothing of a path: the least weight of any run.
    pub(crate) fn shortest(&mut self) -> Option<u64> {
        self.align(&[]).map(|aligned| aligned.cost)
    }

    /// The cheapest alignment; nothing where it would take more looks than are allowed.
    pub(crate) fn align(&mut self, path: &[&str]) -> Option<Aligned> {
        let labels: HashMap<&str, u32> = (0..)
            .zip(&self.net.labels)
            .map(|(number, label)| (label.as_str(), number))
            .collect();
        let wanted: Vec<Option<u32>> = path
            .iter()
            .map(|activity| labels.get(activity).copied())
            .collect();
        let mut left = vec![Labels::default(); path.len() + 1];
        for at in (0..path.len()).rev() {
            left[at] = left[at + 1].clone();
            if let Some(label) = wanted[at] {
                left[at].add(label);
            }
        }
        let costs: Vec<u64> = path
            .iter()
            .map(|activity| (self.weigh)(activity) * UNIT)
            .collect();
        // What is left of the path and can't come of where the net is has to be left out.
        let still = |reach: &Labels, at: usize| -> u64 {
            let rest = wanted[at..].iter().zip(&costs[at..]);
            let lost = rest.filter(|(label, _)| !label.is_some_and(|label| reach.has(label)));
            lost.map(|(_, cost)| cost).sum()
        };
        let first = vec![Net::begin()];
        let mut markings: Vec<(Vec<u16>, Labels)> = vec![(first.clone(), self.reach_of(&first))];
        let mut numbers: HashMap<Vec<u16>, u32> = HashMap::from([(first, 0)]);
        let mut nodes = vec![Node {
            marking: 0,
            at: 0,
            from: 0,
            by: By::Silent,
        }];
        let mut best: HashMap<(u32, usize), u64> = HashMap::from([((0, 0), 0)]);
        // The cheapest first; of equals the one that is furthest in the path.
        let mut heap = BinaryHeap::from([Reverse((
            still(&markings[0].1, 0),
            Reverse(0_usize),
            0_usize,
            0_u64,
        ))]);
        let mut looked = 0;
        while let Some(Reverse((_, _, number, cost))) = heap.pop() {
            let (marking, at) = (nodes[number].marking, nodes[number].at);
            if best.get(&(marking, at)).is_some_and(|best| *best < cost) {
                continue;
            }
            looked += 1;
            if looked > LOOKS_MAX || self.looks == 0 {
                return None;
            }
            self.looks -= 1;
            let place = usize::try_from(marking).unwrap_or(usize::MAX);
            let here = markings.get(place)?.0.clone();
            if at == path.len() && here == [Net::over()] {
                return Some(self.told(path, &nodes, number, cost));
            }
            let mut next: Vec<(Vec<u16>, usize, u64, By)> = Vec::new();
            let mut before = None;
            for token in &here {
                if before.replace(*token) == Some(*token) {
                    continue;
                }
                for fires in self.by_place.get(token).into_iter().flatten() {
                    let Some(after) = fired(&here, fires.transition) else {
                        continue;
                    };
                    let Some(label) = fires.transition.label else {
                        next.push((after, at, SILENT, By::Silent));
                        continue;
                    };
                    if wanted.get(at) == Some(&Some(label)) {
                        next.push((after.clone(), at + 1, 0, By::Both));
                    }
                    let worth = match &fires.when {
                        When::Always => true,
                        When::Last => at == path.len(),
                        When::Beside(leads) => leads.meets(&left[at]),
                    };
                    if worth {
                        let place = usize::try_from(label).unwrap_or(usize::MAX);
                        let weight = self.weights.get(place).copied().unwrap_or(1);
                        next.push((after, at, weight * UNIT, By::Net(label)));
                    }
                }
            }
            if let Some(more) = costs.get(at) {
                next.push((here, at + 1, *more, By::Path));
            }
            for (after, at, more, by) in next {
                if after.len() > TOKENS_MAX {
                    continue;
                }
                let known = numbers.get(&after).copied();
                let marking = known.unwrap_or_else(|| {
                    let number = u32::try_from(markings.len()).unwrap_or(u32::MAX);
                    let reach = self.reach_of(&after);
                    markings.push((after.clone(), reach));
                    numbers.insert(after, number);
                    number
                });
                let cost = cost + more;
                let cheapest = best.entry((marking, at)).or_insert(u64::MAX);
                if cost < *cheapest {
                    *cheapest = cost;
                    nodes.push(Node {
                        marking,
                        at,
                        from: number,
                        by,
                    });
                    let place = usize::try_from(marking).unwrap_or(usize::MAX);
                    let expected = cost + still(&markings.get(place)?.1, at);
                    heap.push(Reverse((expected, Reverse(at), nodes.len() - 1, cost)));
                }
            }
        }
        None
    }

    fn reach_of(&self, tokens: &[u16]) -> Labels {
        let mut labels = Labels::default();
        for token in tokens {
            if let Some(of_place) = self.reach.get(token) {
                labels.add_all(of_place);
            }
        }
        labels
    }

    fn told(&self, path: &[&str], nodes: &[Node], last: usize, cost: u64) -> Aligned {
        let mut aligned = Aligned {
            cost: cost / UNIT,
            ..Aligned::default()
        };
        let mut number = last;
        while number != 0 {
            let node = &nodes[number];
            match node.by {
                By::Net(label) => {
                    let label = self.net.label(label).unwrap_or_default();
                    aligned.skipped.push(label.to_owned());
                }
                By::Path => {
                    let activity = node.at.checked_sub(1).and_then(|at| path.get(at));
                    aligned
                        .extra
                        .extend(activity.map(|activity| (*activity).to_owned()));
                }
                By::Both | By::Silent => {}
            }
            number = node.from;
        }
        aligned.skipped.reverse();
        aligned.extra.reverse();
        aligned
    }
}

/// What may still come of a token at each place, as far as it takes other tokens that may be there.
fn reach(net: &Net) -> HashMap<u16, Labels> {
    let mut reach: HashMap<u16, Labels> = HashMap::new();
    loop {
        let mut grew = false;
        for transition in &net.transitions {
            let mut labels = Labels::default();
            labels.0.clear();
            if let Some(label) = transition.label {
                labels.add(label);
            }
            for place in &transition.gives {
                // What comes of the journey's going on is of that place, unless it begins with this.
                let begins = transition.takes == [Net::begin()];
                if (*place != Net::running() || begins)
                    && let Some(of_place) = reach.get(place)
                {
                    labels.add_all(of_place);
                }
            }
            // That the journey goes on is asked of every step: it is the other place's.
            let Some(first) = transition.takes.first() else {
                continue;
            };
            let mut takes = vec![*first];
            takes.extend(
                transition
                    .takes
                    .iter()
                    .filter(|place| **place != Net::running()),
            );
            for place in takes {
                let of_place = reach.entry(place).or_default();
                let before = of_place.clone();
                of_place.add_all(&labels);
                grew |= *of_place != before;
            }
        }
        if !grew {
            return reach;
        }
    }
}

/// The tokens after a transition, in order; nothing where it can't fire.
fn fired(tokens: &[u16], transition: &Transition) -> Option<Vec<u16>> {
    let mut after = tokens.to_vec();
    for place in &transition.takes {
        let found = after.iter().position(|token| token == place)?;
        after.remove(found);
    }
    after.extend(&transition.gives);
    after.sort_unstable();
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;

    /// Contact, then a form that leads to a call or to the end, and a rule beside them.
    const SMALL: &str = include_str!("small.yaml");

    fn aligned(path: &[&str], weigh: &dyn Fn(&str) -> u64) -> (Aligned, u64) {
        let definition = Definition::compile(SMALL, 1).unwrap();
        let net = Net::of(&definition).unwrap();
        let mut aligner = Aligner::new(&net, weigh, 1_000_000);
        let shortest = aligner.shortest().unwrap();
        (aligner.align(path).unwrap(), shortest)
    }

    #[test]
    fn what_the_graph_has_costs_nothing() {
        let one = |_: &str| 1;
        for path in [
            vec!["form", "both", "visit", "day", "finished", "end:finished"],
            vec!["form", "both", "day", "visit", "finished", "end:finished"],
            vec![
                "form",
                "call",
                "form:late",
                "both",
                "letter",
                "visit",
                "day",
                "end:death",
            ],
            vec!["end:stopped"],
            vec!["form", "end:time_over"],
        ] {
            let (aligned, shortest) = aligned(&path, &one);
            assert_eq!(aligned, Aligned::default(), "{path:?}");
            assert_eq!(shortest, 1, "it may be broken off at once");
        }
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_costs_its_weight() {
        let one = |_: &str| 1;
        // Counted by hand: both branches have to be over before what comes after them.
        let missing = ["form", "both", "visit", "finished", "end:finished"];
        let (told, _) = aligned(&missing, &one);
        assert_eq!((told.cost, told.skipped), (1, vec!["day".to_owned()]));
        let twice = ["form", "form", "both", "visit", "day", "finished"];
        let (told, _) = aligned(&twice, &one);
        assert_eq!((told.cost, told.extra), (2, vec!["form".to_owned()]));
        assert_eq!(told.skipped, ["end:finished"]);
        let unknown = ["form", "dance", "end:death"];
        let (told, _) = aligned(&unknown, &one);
        assert_eq!((told.cost, told.extra), (1, vec!["dance".to_owned()]));
        // With a day that weighs four it is cheaper to say that the journey was broken off before the end that it
        // tells of: two activities too many, and one ending missing.
        let heavy = |activity: &str| if activity == "day" { 4 } else { 1 };
        let (told, _) = aligned(&missing, &heavy);
        assert_eq!(told.cost, 3, "{told:?}");
        assert_eq!(told.extra, ["finished", "end:finished"]);
    }

    #[test]
    fn a_bound_is_kept() {
        let definition = Definition::compile(SMALL, 1).unwrap();
        let net = Net::of(&definition).unwrap();
        let one = |_: &str| 1;
        let mut aligner = Aligner::new(&net, &one, 3);
        assert_eq!(aligner.align(&["form", "both", "visit"]), None);
    }

    /// The cost by a search that leaves nothing out and expects nothing.
    fn by_looking_everywhere(net: &Net, path: &[&str], weigh: &dyn Fn(&str) -> u64) -> u64 {
        let mut open = std::collections::BTreeSet::from([(0, 0, vec![Net::begin()])]);
        let mut done: std::collections::BTreeSet<(usize, Vec<u16>)> = Default::default();
        while let Some((cost, at, here)) = open.pop_first() {
            if at == path.len() && here == [Net::over()] {
                return cost;
            }
            if !done.insert((at, here.clone())) || here.len() > 12 {
                continue;
            }
            for transition in &net.transitions {
                let Some(after) = fired(&here, transition) else {
                    continue;
                };
                let label = transition.label.and_then(|label| net.label(label));
                if label.is_some() && label == path.get(at).copied() {
                    open.insert((cost, at + 1, after.clone()));
                }
                open.insert((cost + label.map_or(0, weigh), at, after));
            }
            if let Some(activity) = path.get(at) {
                open.insert((cost + weigh(activity), at + 1, here));
            }
        }
        panic!("the net can't be gone through");
    }

    #[test]
    fn nothing_cheaper_is_passed_over() {
        let definition = Definition::compile(SMALL, 1).unwrap();
        let net = Net::of(&definition).unwrap();
        let heavy = |activity: &str| match activity {
            "visit" | "call" => 2,
            "day" => 4,
            _ => 1,
        };
        let mut aligner = Aligner::new(&net, &heavy, 10_000_000);
        let mut chance = 1_u64;
        let mut below = |most: usize| {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(chance >> 33).unwrap() % most
        };
        let activities: Vec<&str> = net.labels.iter().map(String::as_str).collect();
        let mut costs = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let path: Vec<&str> = (0..below(6))
                .map(|_| activities[below(activities.len())])
                .collect();
            let found = aligner.align(&path).unwrap().cost;
            assert_eq!(
                found,
                by_looking_everywhere(&net, &path, &heavy),
                "{path:?}"
            );
            costs.insert(found);
        }
        assert!(costs.len() > 4, "{costs:?}");
    }
}

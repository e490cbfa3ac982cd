//! Groups of patients side by side: the arms of experiments, and those that tell whether a journey is fair.
//!
//! What is told of groups of people must not tell of one of them. A number from 1 to 10 is not told, nor one that
//! could be made from what is: where one group alone is too small, the next larger one is not told either.

use super::case::{Case, What};
use super::report::{Split, SplitRow};
use crate::counts::Dwell;
use std::collections::BTreeMap;

/// Fewer than this are not told.
pub const FEW_CASES: u64 = 11;
/// Most groups by one thing; what comes after them is one group more.
const GROUPS_MAX: usize = 100;

/// Which groups a patient is in, by what they are told apart by.
pub type Groups = BTreeMap<String, String>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Splits {
    by: BTreeMap<String, BTreeMap<String, Sum>>,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    cases: u64,
    ended: u64,
    reached_goal: u64,
    late: u64,
    missed: u64,
    length: Dwell,
}

/// What a case comes to, for its groups.
pub(crate) struct Came {
    pub(crate) reached_goal: bool,
    pub(crate) late: bool,
    pub(crate) missed: bool,
}

impl Splits {
    /// Adds a case; the groups that it is counted in.
    pub(crate) fn add(
        &mut self,
        case: &Case,
        groups: &Groups,
        came: &Came,
    ) -> Vec<(String, String)> {
        let mut counted = Vec::new();
        let arms = case.arms.iter();
        let arms = arms.map(|(experiment, arm)| (arm_of(experiment), arm.clone()));
        let groups = groups.iter().map(|(by, group)| (by.clone(), group.clone()));
        for (by, group) in arms.chain(groups) {
            let rows = self.by.entry(by.clone()).or_default();
            let full = rows.len() >= GROUPS_MAX && !rows.contains_key(&group);
            let group = if full { "others".to_owned() } else { group };
            counted.push((by, group.clone()));
            let sum = rows.entry(group).or_default();
            sum.cases += 1;
            sum.reached_goal += u64::from(came.reached_goal);
            sum.late += u64::from(came.late);
            sum.missed += u64::from(came.missed);
            if let Some((ended_ms, _)) = case.ended {
                sum.ended += 1;
                sum.length.add(ended_ms.saturating_sub(case.started_ms));
            }
        }
        counted
    }

    /// The groups by each thing, in the order in which they are told.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        let cuts = self.by.iter().map(|(by, groups)| {
            let mut groups: Vec<(&String, u64)> = groups
                .iter()
                .map(|(group, sum)| (group, sum.cases))
                .collect();
            groups.sort_by_key(|(group, _)| place(group));
            let cases: Vec<u64> = groups.iter().map(|(_, cases)| *cases).collect();
            Cut {
                by: by.clone(),
                groups: groups.iter().map(|(group, _)| (*group).clone()).collect(),
                hidden: hidden(&cases),
                cases,
            }
        });
        cuts.collect()
    }

    pub(crate) fn told(&self) -> Vec<Split> {
        let cuts = self.cuts().into_iter();
        cuts.map(|cut| Split {
            rows: rows(&cut, &self.by[&cut.by]),
            by: cut.by,
        })
        .collect()
    }
}

/// Groups by one thing.
pub(crate) struct Cut {
    pub(crate) by: String,
    pub(crate) groups: Vec<String>,
    /// How many are in each.
    pub(crate) cases: Vec<u64>,
    /// Which are not told.
    pub(crate) hidden: Vec<bool>,
}

/// Where a group stands among others: numbers by their size, then words, and last those of whom it isn't known.
fn place(group: &str) -> (bool, u64, String) {
    let digits: String = group.chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse().unwrap_or(u64::MAX);
    (group == UNKNOWN, number, group.to_owned())
}

/// The group of those of whom it isn't known.
pub(crate) const UNKNOWN: &str = "not known";

/// What the arms of an experiment are told apart by.
pub(crate) fn arm_of(experiment: &str) -> String {
    format!("arm of {experiment}")
}

fn rows(cut: &Cut, groups: &BTreeMap<String, Sum>) -> Vec<SplitRow> {
    let sums: Vec<Sum> = cut
        .groups
        .iter()
        .map(|group| groups.get(group).cloned().unwrap_or_default())
        .collect();
    let column = |part: fn(&Sum) -> u64| {
        let parts: Vec<(u64, u64)> = sums.iter().map(|sum| (part(sum), sum.cases)).collect();
        column(&parts, &cut.hidden)
    };
    let ended = column(|sum| sum.ended);
    let reached_goal = column(|sum| sum.reached_goal);
    let late = column(|sum| sum.late);
    let missed = column(|sum| sum.missed);
    let rows = cut.groups.iter().zip(&sums).enumerate();
    rows.map(|(at, (group, sum))| {
        let told = !cut.hidden[at];
        let many_ended = told && sum.ended >= FEW_CASES;
        SplitRow {
            group: group.clone(),
            cases: told.then_some(sum.cases),
            ended: ended[at],
            reached_goal: reached_goal[at],
            late: late[at],
            missed: missed[at],
            length_p50_ms: sum.length.quantile_ms(50).filter(|_| many_ended),
        }
    })
    .collect()
}

/// How many of each group something is so: a part of a whole each. Not told are a part that is small, one that leaves a
/// small rest, and those by which one of these could be found from the sum of all.
pub(crate) fn column(parts: &[(u64, u64)], hidden: &[bool]) -> Vec<Option<u64>> {
    let few = |count: u64| (1..FEW_CASES).contains(&count);
    let small = |(part, whole): (u64, u64)| few(part) || few(whole.saturating_sub(part));
    let mut hidden: Vec<bool> = parts
        .iter()
        .zip(hidden)
        .map(|(part, hidden)| *hidden || small(*part))
        .collect();
    loop {
        let behind = parts.iter().zip(&hidden).filter(|(_, hidden)| **hidden);
        let behind: Vec<(u64, u64)> = behind.map(|(part, _)| *part).collect();
        let sum = behind
            .iter()
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let told = behind.is_empty() || (behind.len() > 1 && !small(sum));
        if told || !hide_next(&mut hidden, |at| parts[at].1) {
            break;
        }
    }
    let told = parts.iter().zip(&hidden);
    told.map(|((part, _), hidden)| (!hidden).then_some(*part))
        .collect()
}

/// Hides the smallest of those that are told. Whether there was one.
fn hide_next(hidden: &mut [bool], size: impl Fn(usize) -> u64) -> bool {
    let told = (0..hidden.len()).filter(|at| !hidden[*at]);
    match told.min_by_key(|at| size(*at)) {
        Some(next) => {
            hidden[next] = true;
            true
        }
        None => false,
    }
}

/// Which groups are not told: those that are too small, and where that is only one, or all of them together are still
/// few, the next larger too, because it could be made from the sum of all.
fn hidden(cases: &[u64]) -> Vec<bool> {
    also_hidden(cases, &vec![false; cases.len()])
}

/// The same, where some are not told already.
pub(crate) fn also_hidden(cases: &[u64], hidden: &[bool]) -> Vec<bool> {
    let mut hidden: Vec<bool> = cases
        .iter()
        .zip(hidden)
        .map(|(cases, hidden)| *hidden || *cases < FEW_CASES)
        .collect();
    let few = |hidden: &[bool]| {
        let of: Vec<u64> = cases
            .iter()
            .zip(hidden)
            .filter(|(_, hidden)| **hidden)
            .map(|(cases, _)| *cases)
            .collect();
        !of.is_empty() && (of.len() == 1 || of.iter().sum::<u64>() < FEW_CASES)
    };
    while few(&hidden) && hide_next(&mut hidden, |at| cases[at]) {}
    hidden
}

impl Came {
    /// By the definition's way of telling what ran out of time and what was missed.
    pub(crate) fn of(
        case: &Case,
        is_goal: impl Fn(&str) -> bool,
        ran_out: impl Fn(&str, &str) -> bool,
        missed: impl Fn(&str, &str) -> bool,
    ) -> Self {
        let left = |holds: &dyn Fn(&str, &str) -> bool| {
            case.events.iter().any(|event| match &event.what {
                What::Left { way, .. } => holds(&event.activity, way),
                _ => false,
            })
        };
        let late = |event: &super::CaseEvent| {
            event.what == What::HandedOver || event.activity.ends_with(":late")
        };
        Self {
            reached_goal: case
                .events
                .iter()
                .any(|event| event.what == What::Done && is_goal(&event.activity)),
            late: left(&ran_out) || case.events.iter().any(late),
            missed: left(&missed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_not_told_nor_what_it_could_be_made_from() {
        assert_eq!(hidden(&[40, 30]), [false, false]);
        // One small group is all but the others.
        assert_eq!(hidden(&[40, 3, 30]), [false, true, true]);
        // Two that are eleven together tell of neither.
        assert_eq!(hidden(&[40, 5, 6]), [false, true, true]);
        // Two that are fewer together tell that they are few.
        assert_eq!(hidden(&[40, 5, 5, 90]), [true, true, true, false]);
        assert_eq!(hidden(&[4]), [true]);
        assert_eq!(hidden(&[]), [] as [bool; 0]);
    }

    #[test]
    fn a_part_that_could_be_made_from_the_rest_is_not_told() {
        let told = |parts: &[(u64, u64)]| column(parts, &vec![false; parts.len()]);
        assert_eq!(told(&[(20, 60), (30, 50)]), [Some(20), Some(30)]);
        // Three are few, and with the other one told they are what is missing of the sum.
        assert_eq!(told(&[(20, 60), (3, 50)]), [None, None]);
        // So is a rest of three.
        assert_eq!(
            told(&[(20, 60), (47, 50), (40, 80)]),
            [None, None, Some(40)]
        );
        // Two that are few each, and many together, hide each other.
        assert_eq!(told(&[(20, 60), (9, 50), (8, 40)]), [Some(20), None, None]);
        // Two that are few together don't.
        assert_eq!(
            told(&[(20, 60), (3, 50), (2, 40), (40, 90)]),
            [None, None, None, Some(40)]
        );
        // None of them, and all of them, is no few.
        assert_eq!(told(&[(0, 60), (50, 50)]), [Some(0), Some(50)]);
        assert_eq!(column(&[(20, 60), (30, 50)], &[false, true]), [None, None]);
    }

    #[test]
    fn groups_stand_by_their_numbers() {
        let mut groups = [
            "10 (least deprived)",
            "not known",
            "2",
            "1 (most deprived)",
            "de",
        ];
        groups.sort_by_key(|group| place(group));
        assert_eq!(
            groups,
            [
                "1 (most deprived)",
                "2",
                "10 (least deprived)",
                "de",
                "not known"
            ]
        );
    }

    #[test]
    fn parts_of_a_group_and_the_rest_of_it_are_not_told_where_they_are_few() {
        let mut splits = Splits::default();
        let groups = Groups::from([("sex".to_owned(), "female".to_owned())]);
        for number in 0..30_u64 {
            let case = Case {
                ended: (number < 25).then_some((86_400_000, "completed".to_owned())),
                ..Case::default()
            };
            let came = Came {
                reached_goal: number < 15,
                late: number < 3,
                missed: false,
            };
            splits.add(&case, &groups, &came);
        }
        let told = splits.told();
        let row = &told[0].rows[0];
        assert_eq!((row.cases, row.reached_goal), (Some(30), Some(15)));
        assert_eq!(row.late, None, "three are few");
        assert_eq!(row.ended, None, "the five others are few");
        assert_eq!(row.missed, Some(0));
        assert!(row.length_p50_ms.is_some());
    }
}

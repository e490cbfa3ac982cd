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
    pub(crate) fn add(&mut self, case: &Case, groups: &Groups, came: &Came) {
        let arms = case.arms.iter();
        let arms = arms.map(|(experiment, arm)| (arm_of(experiment), arm.clone()));
        let groups = groups.iter().map(|(by, group)| (by.clone(), group.clone()));
        for (by, group) in arms.chain(groups) {
            let rows = self.by.entry(by).or_default();
            let full = rows.len() >= GROUPS_MAX && !rows.contains_key(&group);
            let sum = rows.entry(if full { "others".to_owned() } else { group });
            let sum = sum.or_default();
            sum.cases += 1;
            sum.reached_goal += u64::from(came.reached_goal);
            sum.late += u64::from(came.late);
            sum.missed += u64::from(came.missed);
            if let Some((ended_ms, _)) = case.ended {
                sum.ended += 1;
                sum.length.add(ended_ms.saturating_sub(case.started_ms));
            }
        }
    }

    pub(crate) fn told(self) -> Vec<Split> {
        self.by
            .into_iter()
            .map(|(by, groups)| Split {
                rows: rows(groups),
                by,
            })
            .collect()
    }
}

/// What the arms of an experiment are told apart by.
pub(crate) fn arm_of(experiment: &str) -> String {
    format!("arm of {experiment}")
}

fn rows(groups: BTreeMap<String, Sum>) -> Vec<SplitRow> {
    let hidden = hidden(&groups.values().map(|sum| sum.cases).collect::<Vec<_>>());
    groups
        .into_iter()
        .zip(hidden)
        .map(|((group, sum), hidden)| {
            if hidden {
                return SplitRow {
                    group,
                    ..SplitRow::default()
                };
            }
            // Neither those of whom it is so may be few, nor those of whom it is not.
            let told = |part: u64| {
                let rest = sum.cases.saturating_sub(part);
                let few = |count: u64| (1..FEW_CASES).contains(&count);
                (!few(part) && !few(rest)).then_some(part)
            };
            let many_ended = sum.ended >= FEW_CASES;
            SplitRow {
                cases: Some(sum.cases),
                ended: told(sum.ended),
                reached_goal: told(sum.reached_goal),
                late: told(sum.late),
                missed: told(sum.missed),
                length_p50_ms: sum.length.quantile_ms(50).filter(|_| many_ended),
                group,
            }
        })
        .collect()
}

/// Which groups are not told: those that are too small, and where that is only one, or all of them together are still
/// few, the next larger too, because it could be made from the sum of all.
fn hidden(cases: &[u64]) -> Vec<bool> {
    let mut hidden: Vec<bool> = cases.iter().map(|cases| *cases < FEW_CASES).collect();
    let few = |hidden: &[bool]| {
        let of: Vec<u64> = cases
            .iter()
            .zip(hidden)
            .filter(|(_, hidden)| **hidden)
            .map(|(cases, _)| *cases)
            .collect();
        !of.is_empty() && (of.len() == 1 || of.iter().sum::<u64>() < FEW_CASES)
    };
    while few(&hidden) {
        let next = (0..cases.len())
            .filter(|place| !hidden[*place])
            .min_by_key(|place| cases[*place]);
        let Some(next) = next else { break };
        hidden[next] = true;
    }
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

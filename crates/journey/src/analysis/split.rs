//! Groups of patients side by side: the arms of experiments, and those that tell whether a journey is fair.

use super::case::{Case, What};
use super::crowd::{ByCut, Crowd, IN_NONE, Part, column, hidden};
use super::report::{Split, SplitRow};
use crate::counts::Dwell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most groups by one thing; what comes after them is one group more.
const GROUPS_MAX: usize = 100;

/// Which groups a patient is in, by what they are told apart by.
pub type Groups = BTreeMap<String, String>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Splits(ByCut<Sum>);

#[derive(Debug, Clone, Default)]
struct Sum {
    cases: Crowd,
    ended: Part,
    reached_goal: Part,
    late: Part,
    missed: Part,
    length: Dwell,
}

/// What a case comes to, for its groups.
pub(crate) struct Came {
    pub(crate) reached_goal: bool,
    pub(crate) late: bool,
    pub(crate) missed: bool,
}

impl Splits {
    /// Adds a case of a patient; the groups that it is counted in, one of each cut.
    pub(crate) fn add(
        &mut self,
        case: &Case,
        patient: &Arc<str>,
        groups: &Groups,
        came: &Came,
    ) -> Vec<(String, String)> {
        let mut counted = Vec::new();
        let arms = case.arms.iter();
        let arms = arms.map(|(experiment, arm)| (arm_of(experiment), arm.clone()));
        let groups = groups.iter().map(|(by, group)| (by.clone(), group.clone()));
        for (by, group) in arms.chain(groups) {
            let rows = self.0.by.get(&by);
            let full =
                rows.is_some_and(|rows| rows.len() >= GROUPS_MAX && !rows.contains_key(&group));
            let group = if full { "others".to_owned() } else { group };
            counted.push((by, group));
        }
        let cuts = self.0.by.keys().cloned().collect::<Vec<_>>();
        for by in cuts {
            if counted.iter().all(|(one, _)| *one != by) {
                counted.push((by, IN_NONE.to_owned()));
            }
        }
        self.0.add(&counted, |sum| {
            sum.cases.add(patient);
            sum.ended.add(case.ended.is_some(), patient);
            sum.reached_goal.add(came.reached_goal, patient);
            sum.late.add(came.late, patient);
            sum.missed.add(came.missed, patient);
            if let Some((ended_ms, _)) = case.ended {
                sum.length.add(ended_ms.saturating_sub(case.started_ms));
            }
        });
        counted
    }

    /// Who is in which groups so far.
    pub(crate) fn crowds(&self) -> ByCut<Crowd> {
        self.0.map(|sum| sum.cases.clone())
    }

    /// The groups by each thing, in the order in which they are told.
    pub(crate) fn cuts(&self) -> Vec<Cut> {
        let cuts = self.0.by.iter().map(|(by, groups)| {
            let groups = groups.iter();
            let mut groups: Vec<(&String, &Crowd)> = groups
                .filter(|(_, sum)| sum.cases.journeys > 0)
                .map(|(group, sum)| (group, &sum.cases))
                .collect();
            groups.sort_by_key(|(group, _)| place(group));
            let crowds: Vec<&Crowd> = groups.iter().map(|(_, cases)| *cases).collect();
            Cut {
                by: by.clone(),
                groups: groups.iter().map(|(group, _)| (*group).clone()).collect(),
                hidden: hidden(&crowds),
            }
        });
        cuts.collect()
    }

    pub(crate) fn told(&self) -> Vec<Split> {
        let cuts = self.cuts().into_iter();
        cuts.map(|cut| Split {
            rows: rows(&cut, &self.0.of(&cut.by, &cut.groups)),
            by: cut.by,
        })
        .collect()
    }
}

/// Groups by one thing. Every case is in one of them.
pub(crate) struct Cut {
    pub(crate) by: String,
    pub(crate) groups: Vec<String>,
    /// Which are not told.
    pub(crate) hidden: Vec<bool>,
}

/// Where a group stands among others: numbers by their size, then words, and last those of whom it isn't known.
fn place(group: &str) -> (bool, u64, String) {
    let digits: String = group.chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse().unwrap_or(u64::MAX);
    let is_last = group == UNKNOWN || group == IN_NONE;
    (is_last, number, group.to_owned())
}

/// The group of those of whom it isn't known.
pub(crate) const UNKNOWN: &str = "not known";

/// What the arms of an experiment are told apart by.
pub(crate) fn arm_of(experiment: &str) -> String {
    format!("arm of {experiment}")
}

fn rows(cut: &Cut, sums: &[Sum]) -> Vec<SplitRow> {
    let column = |part: fn(&Sum) -> &Part| -> Vec<Option<u64>> {
        let parts: Vec<&Part> = sums.iter().map(part).collect();
        let hidden = column(&parts, &cut.hidden);
        let told = parts.iter().zip(hidden);
        told.map(|(part, hidden)| (!hidden).then_some(part.of.journeys))
            .collect()
    };
    let ended = column(|sum| &sum.ended);
    let reached_goal = column(|sum| &sum.reached_goal);
    let late = column(|sum| &sum.late);
    let missed = column(|sum| &sum.missed);
    let rows = cut.groups.iter().zip(sums).enumerate();
    rows.map(|(at, (group, sum))| {
        let told = !cut.hidden[at];
        let many_ended = told && sum.ended.of.is_many();
        SplitRow {
            group: group.clone(),
            cases: told.then_some(sum.cases.journeys),
            ended: ended[at],
            reached_goal: reached_goal[at],
            late: late[at],
            missed: missed[at],
            length_p50_ms: sum.length.quantile_ms(50).filter(|_| many_ended),
        }
    })
    .collect()
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
            splits.add(&case, &format!("p{number}").into(), &groups, &came);
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

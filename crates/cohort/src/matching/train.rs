//! Weights out of sets.

use spine::matching::{Frequencies, Levels, Matcher, PROBABLE, Weights, batch, compare, train};

use super::curve::Scored;
use super::{Set, hard};

/// Pairs drawn at random to see what strangers have in common.
pub const RANDOM_PAIRS: usize = 1_000_000;
/// Bytes for keys while pairs are looked for.
pub const MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// Seed of the random pairs.
const SEED: u64 = 7;
/// Seed of the hard set that the shipped weights are learnt on. Sets that are reported have others.
pub const SHIPPED_SEED: u64 = 1;
/// People of that set.
pub const SHIPPED_PEOPLE: u32 = 60_000;

/// Weights of a set by expectation and maximisation, from its pairs without a look at whose they are, and from so
/// many drawn at random.
#[must_use]
pub fn unsupervised(set: &Set, people: &[spine::matching::Person], random_pairs: usize) -> Weights {
    let mut candidates = Vec::new();
    batch::candidates(people, MEMORY_BYTES, |one, first, other, second| {
        if set.is_asked(one, other) {
            candidates.push(compare(first, second));
        }
    });
    let random = batch::random_pairs(people, random_pairs, SEED);
    train::estimated(
        Weights::shipped(),
        &format!("{}, unlabelled pairs", set.name),
        &candidates,
        &random,
        set.choices(),
    )
}

/// The weights that Cairn brings along: counted on a hard set of which it is known who is who.
#[must_use]
pub fn shipped() -> Weights {
    let set = hard::set(SHIPPED_SEED, SHIPPED_PEOPLE);
    let people = set.people();
    let levels = |pairs: Vec<(u32, u32)>| -> Vec<Levels> {
        pairs
            .into_iter()
            .map(|(one, other)| compare(&people[one as usize], &people[other as usize]))
            .collect()
    };
    let mut weights = train::counted(
        Weights::shipped(),
        &format!("made-up people, seed {SHIPPED_SEED}, {SHIPPED_PEOPLE} of them"),
        &levels(set.same_pairs()),
        &batch::random_pairs(people.as_slice(), 4 * RANDOM_PAIRS, SEED),
        &levels(set.relatives()),
    );
    let records = set.records.len() as f64;
    weights.expected = 2.0 * set.same_pairs().len() as f64 / records;
    weights.relatives = 2.0 * set.relatives().len() as f64 / records;
    weights
}

/// All pairs that share a key and are asked about, with their bits; the bits from which a pair is
/// likelier of one person than not; what was gone through.
#[must_use]
pub fn scored(
    set: &Set,
    people: &[spine::matching::Person],
    weights: &Weights,
) -> (Vec<Scored>, f64, batch::Found) {
    let frequencies = Frequencies::counted(people);
    let matcher = Matcher::new(weights, &frequencies, set.choices());
    let mut scored = Vec::new();
    let found = batch::candidates(people, MEMORY_BYTES, |one, first, other, second| {
        if set.is_asked(one, other) {
            scored.push((matcher.score(first, second).bits, set.is_same(one, other)));
        }
    });
    (scored, matcher.bits_of(PROBABLE), found)
}

//! Duplicates among many persons, with bounded memory: the keys of all are gone through in as many
//! passes as it takes for those of one pass to fit.

use std::collections::HashSet;
use std::hash::Hasher;

use xxhash_rust::xxh3::Xxh3Default;

use super::blocking;
use super::person::Person;
use super::{Frequencies, Levels, Matcher, Score, compare};

/// Bytes of a key while a pass lasts: its hash and whose it is.
const KEY_BYTES: usize = 16;
/// Persons that share a key, beyond whom they aren't compared by it. A key so common tells of nobody;
/// those who share it meet by others. What is left out is counted ([`Found::left_out`]).
pub const BLOCK_MAX: usize = 400;

/// Persons by number, from 0. The same number has to give the same person as long as a search lasts.
pub trait People {
    /// How many there are.
    fn len(&self) -> u32;

    /// Whether there is nobody.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them. Asked for again and again; numbers are below [`People::len`].
    fn person(&self, number: u32) -> std::borrow::Cow<'_, Person>;
}

impl People for [Person] {
    fn len(&self) -> u32 {
        u32::try_from(<[Person]>::len(self)).unwrap_or(u32::MAX)
    }

    fn person(&self, number: u32) -> std::borrow::Cow<'_, Person> {
        std::borrow::Cow::Borrowed(&self[number as usize])
    }
}

/// What a search for duplicates went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Passes over all persons.
    pub passes: u32,
    /// Pairs that were compared.
    pub pairs: u64,
    /// Keys that more than [`BLOCK_MAX`] persons share, by which nobody was compared.
    pub left_out: u64,
}

/// Calls `tell` once with each pair of persons, the lower number first, that shares a key, in an order
/// that depends on the persons only. Keys take at most about `memory_bytes` (at least those of one
/// person at a time are held). Everybody is asked for once and twice more for each pass.
pub fn candidates<P: People + ?Sized>(
    people: &P,
    memory_bytes: usize,
    mut tell: impl FnMut(u32, &Person, u32, &Person),
) -> Found {
    let mut found = Found::default();
    let all: usize = (0..people.len())
        .map(|number| blocking::keys(&people.person(number)).len())
        .sum();
    let passes = (all * KEY_BYTES)
        .div_ceil(memory_bytes.max(KEY_BYTES))
        .max(1) as u64;
    let keys_of = |pass: u64| {
        let mut keys: Vec<(u64, u32)> = Vec::with_capacity(all / passes as usize + 1);
        for number in 0..people.len() {
            let hashes = hashes(&people.person(number));
            let of_pass = hashes.into_iter().filter(|hash| hash % passes == pass);
            keys.extend(of_pass.map(|hash| (hash, number)));
        }
        keys.sort_unstable();
        keys
    };
    // A pair is compared by the least key that it shares, which mustn't be one that is left out; so
    // those have to be known first.
    let mut common = HashSet::new();
    let mut kept = Vec::new();
    for pass in 0..passes {
        // The keys of one pass at a time are held.
        drop(std::mem::take(&mut kept));
        kept = keys_of(pass);
        let blocks = kept.chunk_by(|one, other| one.0 == other.0);
        common.extend(
            blocks
                .filter(|block| block.len() > BLOCK_MAX)
                .map(|block| block[0].0),
        );
    }
    found.left_out = common.len() as u64;
    for pass in 0..passes {
        found.passes += 1;
        if passes > 1 {
            drop(std::mem::take(&mut kept));
            kept = keys_of(pass);
        }
        for block in kept.chunk_by(|one, other| one.0 == other.0) {
            if block.len() > 1 && block.len() <= BLOCK_MAX {
                pairs_of(people, block, &common, |one, first, other, second| {
                    found.pairs += 1;
                    tell(one, first, other, second);
                });
            }
        }
    }
    found
}

/// Pairs of one block, those that an earlier key brought together left out.
fn pairs_of<P: People + ?Sized>(
    people: &P,
    block: &[(u64, u32)],
    common: &HashSet<u64>,
    mut tell: impl FnMut(u32, &Person, u32, &Person),
) {
    let members: Vec<(u32, std::borrow::Cow<'_, Person>, Vec<u64>)> = block
        .iter()
        .map(|(_, number)| {
            let person = people.person(*number);
            let mut hashes = hashes(&person);
            hashes.retain(|hash| !common.contains(hash));
            hashes.sort_unstable();
            (*number, person, hashes)
        })
        .collect();
    for (at, (one, first, keys)) in members.iter().enumerate() {
        for (other, second, others) in &members[at + 1..] {
            if least_shared(keys, others) == Some(block[0].0) {
                tell(*one, first, *other, second);
            }
        }
    }
}

/// The least key that two persons share. Both lists are in order.
fn least_shared(ones: &[u64], others: &[u64]) -> Option<u64> {
    let (mut one, mut other) = (0, 0);
    while let (Some(first), Some(second)) = (ones.get(one), others.get(other)) {
        match first.cmp(second) {
            std::cmp::Ordering::Less => one += 1,
            std::cmp::Ordering::Greater => other += 1,
            std::cmp::Ordering::Equal => return Some(*first),
        }
    }
    None
}

fn hashes(person: &Person) -> Vec<u64> {
    blocking::keys(person)
        .iter()
        .map(|key| {
            let mut hasher = Xxh3Default::new();
            hasher.write(key.name.as_bytes());
            hasher.write(b"|");
            hasher.write(key.value.as_bytes());
            hasher.finish()
        })
        .collect()
}

/// Calls `tell` with each pair that is of one person with at least this probability (0–1).
pub fn duplicates<P: People + ?Sized>(
    people: &P,
    matcher: &Matcher<'_>,
    least: f64,
    memory_bytes: usize,
    mut tell: impl FnMut(u32, u32, Score),
) -> Found {
    candidates(people, memory_bytes, |one, first, other, second| {
        let score = matcher.score(first, second);
        if score.probability >= least {
            tell(one, other, score);
        }
    })
}

/// How common names and places are among many persons.
#[must_use]
pub fn frequencies<P: People + ?Sized>(people: &P) -> Frequencies {
    let mut frequencies = Frequencies::none();
    for number in 0..people.len() {
        frequencies.count(&people.person(number));
    }
    frequencies.close();
    frequencies
}

/// Levels of so many pairs of persons drawn at random from a seed, or of all pairs where those are fewer.
#[must_use]
pub fn random_pairs<P: People + ?Sized>(people: &P, count: usize, seed: u64) -> Vec<Levels> {
    let len = u64::from(people.len());
    if len < 2 {
        return Vec::new();
    }
    if len * (len - 1) / 2 <= count as u64 {
        return (0..people.len())
            .flat_map(|one| (one + 1..people.len()).map(move |other| (one, other)))
            .map(|(one, other)| compare(&people.person(one), &people.person(other)))
            .collect();
    }
    let mut state = seed;
    let mut next = |bound: u64| {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    };
    (0..count)
        .map(|_| {
            let one = next(len);
            let other = (one + 1 + next(len - 1)) % len;
            compare(&people.person(one as u32), &people.person(other as u32))
        })
        .collect()
}

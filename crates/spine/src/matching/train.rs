//! Where weights come from: counted, where somebody has said which pairs are of one person, or by
//! expectation and maximisation, where nobody has.

use super::fields::{FIELDS, Field, Levels};
use super::weights::{Shares, Weights};

/// Pairs as which a start counts: what is seen seldom stays near where it started.
const START_PAIRS: f64 = 10.0;
/// Rounds of expectation and maximisation. FEBRL's sets stand still after ten.
const ROUNDS: usize = 25;
/// No level is rarer than this among records of one person: life knows faults that no set has.
const LEAST_OF_ONE: f64 = 1e-3;
/// A share is never below this: a level that was never seen may still come.
const LEAST: f64 = 1e-7;

/// Weights by counting pairs of which it is known what they are.
#[must_use]
pub fn counted(
    start: &Weights,
    source: &str,
    same: &[Levels],
    strangers: &[Levels],
    relatives: &[Levels],
) -> Weights {
    let mut weights = Weights {
        source: source.to_owned(),
        ..start.clone()
    };
    weights.u = shares(&start.u, strangers.iter().map(|levels| (*levels, 1.0, 1.0)));
    weights.r = shares(&start.r, relatives.iter().map(|levels| (*levels, 1.0, 1.0)));
    for _ in 0..ROUNDS {
        let stayed: Vec<(Levels, f64, f64)> = same
            .iter()
            .map(|levels| (*levels, 1.0, stayed(&weights, *levels)))
            .collect();
        weights.moved = share_of_moved(&stayed);
        weights.m = at_least(LEAST_OF_ONE, shares(&start.m, stayed));
    }
    weights
}

/// Weights by expectation and maximisation (Dempster, Laird and Rubin 1977), from pairs of which nobody
/// knows what they are: `candidates` are those that [`super::blocking`] brings together, `random` are
/// drawn from all. `people` is how many records there are; of each random pair nothing is assumed but
/// that hardly any is of one person. What relatives have in common is taken from the start; how many
/// there are is estimated.
#[must_use]
pub fn estimated(
    start: &Weights,
    source: &str,
    candidates: &[Levels],
    random: &[Levels],
    people: u64,
) -> Weights {
    let mut weights = Weights {
        source: source.to_owned(),
        ..start.clone()
    };
    let (candidates, random) = (grouped(candidates), grouped(random));
    let all = candidates
        .iter()
        .map(|(_, count)| count)
        .sum::<f64>()
        .max(1.0);
    let people = people.max(2) as f64;
    // Among candidates strangers are alike in what brought them together; what they are like is
    // estimated beside and then thrown away.
    let mut strangers = weights.u;
    let mut share = (people * weights.expected / 2.0 / all).min(0.4);
    let mut share_of_relatives = (people * weights.relatives / 2.0 / all).min(0.4);
    for _ in 0..ROUNDS {
        // A random pair that is likely of one person, or of relatives, is no pair of strangers.
        weights.u = shares(
            &start.u,
            random.iter().map(|(levels, count)| {
                let same = weights.expected / people * likelihood(&weights, *levels, &weights.u);
                let relatives =
                    weights.relatives / people * of_relatives(&weights, *levels, &weights.u);
                let stranger = count / (1.0 + same + relatives);
                (*levels, stranger, stranger)
            }),
        );
        let mut found = Vec::with_capacity(candidates.len());
        let (mut sum, mut sum_of_relatives) = (0.0, 0.0);
        for (levels, count) in &candidates {
            let same = share * likelihood(&weights, *levels, &strangers);
            let relatives = share_of_relatives * of_relatives(&weights, *levels, &strangers);
            let stranger = 1.0 - share - share_of_relatives;
            let total = same + relatives + stranger;
            let (same, relatives) = (count * same / total, count * relatives / total);
            sum += same;
            sum_of_relatives += relatives;
            found.push((*levels, same, count - same - relatives));
        }
        share = (sum / all).clamp(1e-6, 0.9);
        share_of_relatives = (sum_of_relatives / all).clamp(1e-6, 0.9 - share.min(0.8));
        weights.expected = (2.0 * sum / people).clamp(1e-3, 100.0);
        weights.relatives = (2.0 * sum_of_relatives / people).clamp(1e-4, 100.0);
        strangers = shares(
            &start.u,
            found
                .iter()
                .map(|(levels, _, stranger)| (*levels, *stranger, *stranger)),
        );
        let stayed: Vec<(Levels, f64, f64)> = found
            .iter()
            .map(|(levels, same, _)| (*levels, *same, same * stayed(&weights, *levels)))
            .collect();
        weights.moved = share_of_moved(&stayed);
        weights.m = at_least(LEAST_OF_ONE, shares(&start.m, stayed));
    }
    weights
}

/// Shares that are not below a least one, but for levels that a field doesn't have.
fn at_least(least: f64, mut shares: Shares) -> Shares {
    for (field, row) in Field::ALL.into_iter().zip(&mut shares) {
        for share in &mut row[..field.levels().len()] {
            *share = share.max(least);
        }
    }
    shares
}

/// Levels with how often they come about.
fn grouped(levels: &[Levels]) -> Vec<(Levels, f64)> {
    let mut counts: std::collections::HashMap<Levels, f64> = std::collections::HashMap::new();
    for levels in levels {
        *counts.entry(*levels).or_default() += 1.0;
    }
    let mut grouped: Vec<(Levels, f64)> = counts.into_iter().collect();
    // Sums of fractions depend on their order.
    grouped.sort_by_key(|(levels, _)| *levels);
    grouped
}

/// How many times likelier levels are of relatives than of strangers who are like `strangers`.
fn of_relatives(weights: &Weights, levels: Levels, strangers: &Shares) -> f64 {
    Field::ALL
        .into_iter()
        .filter_map(|field| Some((field as usize, levels.of(field)?)))
        .map(|(at, level)| weights.r[at][level] / strangers[at][level])
        .product()
}

/// How many times likelier levels are of one person than of strangers who are like `strangers`.
fn likelihood(weights: &Weights, levels: Levels, strangers: &Shares) -> f64 {
    let (mut who, mut stay, mut moved) = (1.0, 1.0, 1.0);
    for field in Field::ALL {
        let Some(level) = levels.of(field) else {
            continue;
        };
        let at = field as usize;
        if field.is_of_place() {
            stay *= weights.m[at][level] / strangers[at][level];
            moved *= weights.u[at][level] / strangers[at][level];
        } else {
            who *= weights.m[at][level] / strangers[at][level];
        }
    }
    who * ((1.0 - weights.moved) * stay + weights.moved * moved)
}

/// Probability that somebody who is one person has stayed where they were.
fn stayed(weights: &Weights, levels: Levels) -> f64 {
    let ratio: f64 = Field::ALL
        .into_iter()
        .filter(|field| field.is_of_place())
        .filter_map(|field| Some((field as usize, levels.of(field)?)))
        .map(|(at, level)| weights.m[at][level] / weights.u[at][level])
        .product();
    let stayed = (1.0 - weights.moved) * ratio;
    if stayed.is_finite() {
        stayed / (stayed + weights.moved)
    } else {
        1.0
    }
}

fn share_of_moved(pairs: &[(Levels, f64, f64)]) -> f64 {
    let (mut all, mut stayed) = (START_PAIRS, START_PAIRS * 0.9);
    for (levels, same, same_and_stayed) in pairs {
        let has_place = Field::ALL
            .into_iter()
            .any(|field| field.is_of_place() && levels.of(field).is_some());
        if has_place {
            all += same;
            stayed += same_and_stayed;
        }
    }
    (1.0 - stayed / all).clamp(1e-4, 0.9)
}

/// Shares of levels in pairs, each with what it counts as and what its place counts as, on top of a
/// start.
fn shares(start: &Shares, pairs: impl IntoIterator<Item = (Levels, f64, f64)>) -> Shares {
    let mut counts = *start;
    for row in &mut counts {
        for count in row.iter_mut() {
            *count *= START_PAIRS;
        }
    }
    let mut totals = [START_PAIRS; FIELDS];
    for (levels, count, count_of_place) in pairs {
        for field in Field::ALL {
            if let Some(level) = levels.of(field) {
                let count = if field.is_of_place() {
                    count_of_place
                } else {
                    count
                };
                counts[field as usize][level] += count;
                totals[field as usize] += count;
            }
        }
    }
    for (field, row) in Field::ALL.into_iter().zip(&mut counts) {
        let levels = field.levels().len();
        for count in &mut row[..levels] {
            *count = (*count / totals[field as usize]).max(LEAST);
        }
    }
    counts
}

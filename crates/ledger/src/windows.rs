//! Running a blind query where a round trip is dear: the newest postings of all its tokens are asked for
//! at once, and what they can't decide is decided by the tokens of the few documents that are left.
//!
//! A *window* is the postings of a token from a place on, as far as they were asked for. What a query
//! holds for is known down to the nearest end of its windows. Behind that the sparsest part of an
//! intersection, whose window reaches furthest, names all that can still match; those are looked at one
//! by one, many in one round trip. So most searches take one round trip, and an intersection of
//! something rare with something common takes two.

use crate::backend::Snapshot;
use crate::query::{Plan, after, rank};
use crate::{Hit, LedgerError, Number, Shard, Token};

/// Postings that the first windows hold together. Two tokens get 768 each: what one patient has of
/// anything is nearly always less.
const FIRST_ROWS: usize = 1536;
/// Postings that windows hold together at most: about half a megabyte on its way.
const LARGEST_ROWS: usize = 16_384;
/// The least that one of many windows holds, if fewer hits are not enough.
const LEAST_ROWS: usize = 32;
/// Documents whose tokens are asked for at once.
const PROBES: usize = 256;

/// How much is asked for at once.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    first: usize,
    largest: usize,
    least: usize,
    probes: usize,
}

const SIZES: Sizes = Sizes {
    first: FIRST_ROWS,
    largest: LARGEST_ROWS,
    least: LEAST_ROWS,
    probes: PROBES,
};

/// Rows in the order of results, and how far they are all that there are; `None` is to the very end.
struct Known {
    rows: Vec<Hit>,
    end: Option<Hit>,
}

impl Known {
    fn reaches_further(&self, other: &Self) -> bool {
        match (self.end, other.end) {
            (None, None) => self.rows.len() < other.rows.len(),
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(end), Some(other)) => rank(end) > rank(other),
        }
    }

    fn has(&self, hit: Hit) -> bool {
        (self.rows)
            .binary_search_by_key(&rank(hit), |row| rank(*row))
            .is_ok()
    }
}

fn is_within(hit: Hit, end: Option<Hit>) -> bool {
    end.is_none_or(|end| rank(hit) <= rank(end))
}

/// The nearest of some ends.
fn nearest<'a>(known: impl IntoIterator<Item = &'a Known>) -> Option<Hit> {
    (known.into_iter().filter_map(|known| known.end)).min_by_key(|end| rank(*end))
}

fn union(parts: &[Known]) -> Known {
    let end = nearest(parts);
    let mut rows: Vec<Hit> = (parts.iter().flat_map(|part| &part.rows).copied())
        .filter(|hit| is_within(*hit, end))
        .collect();
    rows.sort_unstable_by_key(|hit| rank(*hit));
    rows.dedup();
    Known { rows, end }
}

/// The windows, by token.
struct Windows<'a> {
    tokens: &'a [Token],
    windows: Vec<Known>,
    /// Where they begin, and where they end at the latest.
    from: Hit,
    since: Number,
}

impl Windows<'_> {
    fn of(&self, token: Token) -> Known {
        let window = (self.tokens.binary_search(&token).ok()).and_then(|at| self.windows.get(at));
        // All tokens of the query have one.
        window.map_or(
            Known {
                rows: Vec::new(),
                end: None,
            },
            |window| Known {
                rows: window.rows.clone(),
                end: window.end,
            },
        )
    }

    /// A hit that is known without a window.
    fn one(&self, one: Option<Hit>) -> Known {
        let is_seen = |hit: &Hit| rank(*hit) >= rank(self.from) && hit.number >= self.since;
        Known {
            rows: one.filter(is_seen).into_iter().collect(),
            end: None,
        }
    }

    /// What the query holds for, as far as the windows tell.
    fn exact(&self, query: &Plan) -> Known {
        match query {
            Plan::Token(token) => self.of(*token),
            Plan::One(one) => self.one(*one),
            Plan::Or(parts) => {
                let parts: Vec<Known> = parts.iter().map(|part| self.exact(part)).collect();
                union(&parts)
            }
            Plan::And(parts) => {
                let mut parts: Vec<Known> = parts.iter().map(|part| self.exact(part)).collect();
                let end = nearest(&parts);
                parts.sort_unstable_by_key(|part| part.rows.len());
                let rows = parts.first().map_or(&[][..], |first| &first.rows);
                let rows = (rows.iter().copied())
                    .filter(|hit| is_within(*hit, end))
                    .filter(|hit| parts[1..].iter().all(|part| part.has(*hit)))
                    .collect();
                Known { rows, end }
            }
            Plan::Without(with, without) => {
                let (with, without) = (self.exact(with), self.exact(without));
                let end = nearest([&with, &without]);
                let rows = (with.rows.iter().copied())
                    .filter(|hit| is_within(*hit, end) && !without.has(*hit))
                    .collect();
                Known { rows, end }
            }
            Plan::Below(number, query) => below(*number, self.exact(query)),
            Plan::Maybe(query) => self.exact(query),
        }
    }

    /// Everything that the query can hold for, as far as possible.
    fn possible(&self, query: &Plan) -> Known {
        match query {
            Plan::Token(token) => self.of(*token),
            Plan::One(one) => self.one(*one),
            Plan::Or(parts) => {
                let parts: Vec<Known> = parts.iter().map(|part| self.possible(part)).collect();
                union(&parts)
            }
            Plan::And(parts) => {
                let parts = parts.iter().map(|part| self.possible(part));
                let furthest = parts.reduce(|best, part| {
                    if part.reaches_further(&best) {
                        part
                    } else {
                        best
                    }
                });
                furthest.unwrap_or(Known {
                    rows: Vec::new(),
                    end: None,
                })
            }
            Plan::Without(with, _) => self.possible(with),
            Plan::Below(number, query) => below(*number, self.possible(query)),
            Plan::Maybe(query) => self.possible(query),
        }
    }
}

/// What is known of what lies below a number: that there is nothing above is known anyway.
fn below(number: Number, known: Known) -> Known {
    let last_above = Hit {
        number,
        shard: Shard(u16::MAX),
    };
    let end = (known.end).map(|end| std::cmp::max_by_key(end, last_above, |end| rank(*end)));
    Known {
        rows: (known.rows.into_iter())
            .filter(|hit| hit.number < number)
            .collect(),
        end,
    }
}

/// Whether a query holds for a document at a place with these tokens, which are in order.
fn holds(query: &Plan, hit: Hit, tokens: &[Token]) -> bool {
    match query {
        Plan::Token(token) => tokens.binary_search(token).is_ok(),
        Plan::One(one) => *one == Some(hit),
        Plan::And(parts) => parts.iter().all(|part| holds(part, hit, tokens)),
        Plan::Or(parts) => parts.iter().any(|part| holds(part, hit, tokens)),
        Plan::Without(with, without) => holds(with, hit, tokens) && !holds(without, hit, tokens),
        Plan::Below(number, query) => hit.number < *number && holds(query, hit, tokens),
        Plan::Maybe(query) => holds(query, hit, tokens),
    }
}

/// How many postings of each token are asked for, when together they may be so many.
fn share(query: &Plan, rows: usize, tokens: &[Token], sizes: &mut [usize]) {
    match query {
        Plan::Token(token) => {
            if let Ok(at) = tokens.binary_search(token) {
                sizes[at] = sizes[at].max(rows);
            }
        }
        Plan::One(_) => {}
        Plan::And(parts) | Plan::Or(parts) => {
            let rows = rows / parts.len().max(1);
            parts
                .iter()
                .for_each(|part| share(part, rows, tokens, sizes));
        }
        Plan::Without(with, without) => {
            share(with, rows / 2, tokens, sizes);
            share(without, rows / 2, tokens, sizes);
        }
        Plan::Below(_, query) | Plan::Maybe(query) => share(query, rows, tokens, sizes),
    }
}

fn tokens_of(query: &Plan, tokens: &mut Vec<Token>) {
    match query {
        Plan::Token(token) => tokens.push(*token),
        Plan::One(_) => {}
        Plan::And(parts) | Plan::Or(parts) => {
            parts.iter().for_each(|part| tokens_of(part, tokens));
        }
        Plan::Without(with, without) => {
            tokens_of(with, tokens);
            tokens_of(without, tokens);
        }
        Plan::Below(_, query) | Plan::Maybe(query) => tokens_of(query, tokens),
    }
}

/// Whether the newest hits of a query are among the newest of its tokens.
fn is_union(query: &Plan) -> bool {
    match query {
        Plan::Token(_) | Plan::One(_) => true,
        Plan::Or(parts) => parts.iter().all(is_union),
        Plan::Maybe(query) => is_union(query),
        Plan::And(_) | Plan::Without(..) | Plan::Below(..) => false,
    }
}

/// What is asked of the store, each a round trip.
trait Ask: Sync {
    /// See [`Snapshot::pages`].
    fn pages(
        &self,
        wanted: &[(Token, usize)],
        from: Hit,
        since: Number,
    ) -> Result<Vec<Vec<Hit>>, LedgerError>;
    /// See [`Snapshot::posted_of`].
    fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError>;
}

impl Ask for &dyn Snapshot {
    fn pages(
        &self,
        wanted: &[(Token, usize)],
        from: Hit,
        since: Number,
    ) -> Result<Vec<Vec<Hit>>, LedgerError> {
        (**self).pages(wanted, from, since)
    }
    fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError> {
        (**self).posted_of(places)
    }
}

/// Hits of a query from a place on, newest first.
pub(crate) async fn search(
    snapshot: &dyn Snapshot,
    query: &Plan,
    from: Hit,
    since: Number,
    limit: usize,
) -> Result<Vec<Hit>, LedgerError> {
    sized(&snapshot, query, from, since, limit, SIZES).await
}

async fn sized(
    store: &impl Ask,
    query: &Plan,
    from: Hit,
    since: Number,
    limit: usize,
    sizes: Sizes,
) -> Result<Vec<Hit>, LedgerError> {
    let mut tokens = Vec::new();
    tokens_of(query, &mut tokens);
    tokens.sort_unstable();
    tokens.dedup();
    let mut hits: Vec<Hit> = Vec::new();
    let mut place = from;
    let mut rows = sizes.first;
    while hits.len() < limit {
        let missing = limit - hits.len();
        let most = (sizes.largest / tokens.len().max(1)).max(1);
        let wanted: Vec<(Token, usize)> = if is_union(query) {
            tokens
                .iter()
                .map(|token| (*token, missing.min(most)))
                .collect()
        } else {
            let mut shares = vec![0; tokens.len()];
            share(query, rows, &tokens, &mut shares);
            let least = missing.min(sizes.least);
            (tokens.iter().copied())
                .zip(shares.into_iter().map(|share| share.max(least).min(most)))
                .collect()
        };
        let pages = store.pages(&wanted, place, since)?;
        let windows = (pages.into_iter().zip(&wanted))
            .map(|(rows, (_, size))| Known {
                end: rows.last().copied().filter(|_| rows.len() >= *size),
                rows,
            })
            .collect();
        let windows = Windows {
            tokens: &tokens,
            windows,
            from: place,
            since,
        };
        let exact = windows.exact(query);
        hits.extend(exact.rows.iter().copied().take(missing));
        let Some(end) = exact.end else {
            break;
        };
        let possible = windows.possible(query);
        let mut known = Some(end);
        if possible.reaches_further(&exact) {
            let left: Vec<Hit> = (possible.rows.iter().copied())
                .filter(|hit| !is_within(*hit, Some(end)))
                .collect();
            for some in left.chunks(sizes.probes) {
                if hits.len() >= limit {
                    break;
                }
                for (hit, mut tokens) in some.iter().zip(store.posted_of(some)?) {
                    tokens.sort_unstable();
                    if holds(query, *hit, &tokens) {
                        hits.push(*hit);
                    }
                }
            }
            known = possible.end;
        }
        match known.and_then(after) {
            Some(next) => place = next,
            None => break,
        }
        rows = (rows * 4).min(sizes.largest);
        tokio::task::yield_now().await;
    }
    hits.truncate(limit);
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Backend, Write};
    use crate::memory_backend::MemoryBackend;

    /// A store of documents with these tokens each, oldest first.
    fn store(documents: &[Vec<u64>]) -> MemoryBackend {
        let backend = MemoryBackend::default();
        let mut writes = Vec::new();
        for (number, tokens) in (1..).zip(documents) {
            // Two of each number, in two shards.
            let at = Hit {
                number: Number(number / 2 * 512),
                shard: Shard(u16::from(number % 2 == 0)),
            };
            let tokens: Vec<Token> = tokens.iter().copied().map(Token).collect();
            for token in &tokens {
                writes.push(Write::Posting { token: *token, at });
            }
            writes.push(Write::Posted { at, tokens });
        }
        backend.apply(writes).unwrap();
        backend
    }

    fn queries() -> impl Strategy<Value = Plan> {
        let one = |(half, shard)| Hit {
            number: Number(half * 512),
            shard: Shard(shard),
        };
        let leaf = prop_oneof![
            6 => (0u64..6).prop_map(|token| Plan::Token(Token(token))),
            1 => proptest::option::of((0u64..70, 0u16..2).prop_map(one)).prop_map(Plan::One),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Plan::And),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Plan::Or),
                (inner.clone(), inner.clone())
                    .prop_map(|(with, without)| Plan::Without(Box::new(with), Box::new(without))),
                (0u64..70, inner)
                    .prop_map(|(half, query)| { Plan::Below(Number(half * 512), Box::new(query)) }),
            ]
        })
    }

    fn documents() -> impl Strategy<Value = Vec<Vec<u64>>> {
        // Token 0 is on nearly all, 5 on few.
        let document = (0u8..=255).prop_map(|bits| {
            (0..6u64)
                .filter(|token| bits & (1 << token) != 0 && (*token < 5 || bits > 240))
                .chain((bits % 2 == 0 && bits % 3 == 0).then_some(0))
                .collect::<std::collections::BTreeSet<u64>>()
                .into_iter()
                .collect()
        });
        proptest::collection::vec(document, 0..120)
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #[test]
        fn windows_find_what_leaping_finds(
            documents in documents(), query in queries(), limit in 0usize..60,
            before in proptest::option::of(0u64..40), since in proptest::option::of(0u64..40),
            first in 1usize..40, largest in 1usize..60, least in 1usize..8, probes in 1usize..9,
        ) {
            let snapshot = store(&documents).snapshot();
            let number = |half: u64| Number(half * 512);
            let (before, since) = (before.map(number), since.map(number));
            let from = crate::query::place_below(before);
            let since = since.unwrap_or_default();
            let expected = match from {
                Some(from) => wait(crate::query::leap(&*snapshot, &query, from, since, limit)).unwrap(),
                None => Vec::new(),
            };
            let sizes = Sizes { first, largest, least, probes };
            let found = match from {
                Some(from) => wait(sized(&&*snapshot, &query, from, since, limit, sizes)).unwrap(),
                None => Vec::new(),
            };
            prop_assert_eq!(found, expected);
        }
    }

    /// Counts what would be round trips.
    struct Counting {
        rows: Box<dyn Snapshot>,
        trips: AtomicUsize,
    }

    impl Counting {
        fn count(&self, query: &Plan, limit: usize) -> (usize, usize) {
            let before = self.trips.load(Ordering::Relaxed);
            let from = crate::query::place_below(None).unwrap();
            let hits = wait(sized(self, query, from, Number(0), limit, SIZES)).unwrap();
            (hits.len(), self.trips.load(Ordering::Relaxed) - before)
        }
    }

    impl Ask for Counting {
        fn pages(
            &self,
            wanted: &[(Token, usize)],
            from: Hit,
            since: Number,
        ) -> Result<Vec<Vec<Hit>>, LedgerError> {
            self.trips.fetch_add(1, Ordering::Relaxed);
            self.rows.pages(wanted, from, since)
        }
        fn posted_of(&self, places: &[Hit]) -> Result<Vec<Vec<Token>>, LedgerError> {
            self.trips.fetch_add(1, Ordering::Relaxed);
            self.rows.posted_of(places)
        }
    }

    #[test]
    fn few_round_trips_are_enough() {
        // 1 is on all of 20,000; 2 on every fortieth, 3 on every fortieth and one more; 4 on three that
        // are old.
        let documents: Vec<Vec<u64>> = (0..20_000u64)
            .map(|number| {
                let mut tokens = vec![1];
                if number % 40 == 7 {
                    tokens.extend([2, 3]);
                }
                if number % 40 == 9 {
                    tokens.push(3);
                }
                if number < 300 && number % 100 == 8 {
                    tokens.push(4);
                }
                tokens
            })
            .collect();
        let counting = Counting {
            rows: store(&documents).snapshot(),
            trips: AtomicUsize::new(0),
        };
        let token = |token| Plan::Token(Token(token));
        let both = |one, other| Plan::And(vec![token(one), token(other)]);
        let without = |one, other| Plan::Without(Box::new(token(one)), Box::new(token(other)));
        for (query, limit, expected) in [
            (token(1), 20, (20, 1)),
            (both(2, 3), 20, (20, 1)),
            (both(2, 3), 1000, (500, 2)),
            // The rare one names all that there can be.
            (both(1, 4), 20, (3, 2)),
            (both(4, 1), 20, (3, 2)),
            (both(1, 9), 20, (0, 1)),
            (without(4, 1), 20, (0, 2)),
            (without(2, 9), 20, (20, 1)),
            (Plan::Or(vec![token(2), token(4)]), 1000, (503, 1)),
        ] {
            assert_eq!(counting.count(&query, limit), expected, "{query:?}");
        }
    }
}

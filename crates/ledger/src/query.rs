//! Running a blind query: sorted runs of postings, newest first, merged, intersected and filtered by
//! leaping from one to the next. That is for a store that answers in place; one behind a network is
//! asked as `windows.rs` does.

use std::cmp::Reverse;

use crate::backend::Snapshot;
use crate::keys::TenantKeys;
use crate::outer::{Outer, put_on};
use crate::{Hit, LedgerError, Number, Query, Shard, Token};

/// The most tokens of a query. A range needs up to 198, and a page combines a few.
const MAX_TOKENS: usize = 4096;
/// Hits of the first page of a run, and of one after a leap.
const FIRST_PAGE: usize = 16;
/// One place in so many hits is much of a page: the next one is read to be longer.
const MUCH_OF_A_PAGE: usize = 4;
/// Hits of the largest page.
const LARGEST_PAGE: usize = 512;
/// A part is judged when it has agreed so often, and stays if it refuses more than so many for each of these.
const AGREED_MIN: usize = 4;
const REFUSED_MAX: usize = 3;
/// Finding a page of a list takes as long as opening so many documents.
const DOCUMENTS_A_PAGE: usize = 2;
/// Pages read in one go before other tasks get their turn: about a millisecond.
const PAGES_A_TURN: usize = 128;

/// The order of results: newer first, and of one number lower shards first.
pub(crate) fn rank(hit: Hit) -> (Reverse<Number>, Shard) {
    (Reverse(hit.number), hit.shard)
}

/// The place right after a hit; `None` at the very end.
pub(crate) fn after(hit: Hit) -> Option<Hit> {
    match hit.shard.0.checked_add(1) {
        Some(shard) => Some(Hit {
            number: hit.number,
            shard: Shard(shard),
        }),
        None => Some(Hit {
            number: Number(hit.number.0.checked_sub(1)?),
            shard: Shard(0),
        }),
    }
}

/// What a look for the first hit at or after a place gave.
#[derive(Debug, PartialEq)]
enum Found {
    Hit(Hit),
    End,
    /// There is none before this place; look again from here.
    Paused(Hit),
}

/// Where a search may look, how much it has read in this turn, and in all.
struct Bounds<'a> {
    snapshot: &'a dyn Snapshot,
    since: Number,
    pages: usize,
    read: usize,
}

enum Node {
    Run(Run),
    /// At most one hit.
    One(Option<Hit>),
    And(Vec<Part>),
    Or(Vec<Node>),
    Without(Box<Node>, Box<Node>),
    Below(Number, Box<Node>),
}

/// A part of an intersection.
struct Part {
    node: Node,
    /// What has come of asking it, where it may be left out.
    tried: Option<Tried>,
    is_left_out: bool,
}

/// How often a part was asked for a place that others named, and what it said.
#[derive(Default)]
struct Tried {
    agreed: usize,
    refused: usize,
    /// Pages read for that.
    read: usize,
}

impl Tried {
    /// Whether it costs more than it saves: a page is worth a few documents that are opened in vain. What
    /// turns down most of what others name stays, or there would be several times as much to look at.
    fn costs_too_much(&self) -> bool {
        self.agreed >= AGREED_MIN
            && self.refused <= REFUSED_MAX * self.agreed
            && self.read * DOCUMENTS_A_PAGE > self.refused
    }
}

/// The postings of one token, read page by page.
struct Run {
    token: Token,
    page: Vec<Hit>,
    position: usize,
    /// Where the next page begins if the run is read on; `None` when it has ended.
    next: Option<Hit>,
    page_size: usize,
    /// How many places were looked for in the page.
    asked: usize,
}

/// A query as postings can answer it.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Token(Token),
    /// At most one hit.
    One(Option<Hit>),
    And(Vec<Plan>),
    Or(Vec<Plan>),
    Without(Box<Plan>, Box<Plan>),
    Below(Number, Box<Plan>),
    /// Of an intersection, what may be left out of it.
    Maybe(Box<Plan>),
}

/// Makes a plan of a query: each token behind all `layers` that it may be behind, each document where
/// it is.
struct Planner<'a> {
    snapshot: &'a dyn Snapshot,
    keys: &'a TenantKeys,
    layers: &'a [Outer],
    tokens: usize,
}

impl Planner<'_> {
    fn all(&mut self, parts: &[Query]) -> Result<Vec<Plan>, LedgerError> {
        parts.iter().map(|part| self.plan(part)).collect()
    }

    fn one_more(&mut self) -> Result<(), LedgerError> {
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(LedgerError::Invalid("a query has at most 4096 tokens"));
        }
        Ok(())
    }

    fn plan(&mut self, query: &Query) -> Result<Plan, LedgerError> {
        Ok(match query {
            Query::Document(kind, id) => {
                self.one_more()?;
                let head = self.snapshot.head(&self.keys.head_key(*kind, id))?;
                Plan::One(head.filter(|head| !head.deleted).map(|head| head.at))
            }
            Query::Token(token) => {
                self.one_more()?;
                match self.layers {
                    [only] => Plan::Token(put_on(only, *token)),
                    layers => {
                        let each = (layers.iter()).map(|layer| Plan::Token(put_on(layer, *token)));
                        Plan::Or(each.collect())
                    }
                }
            }
            Query::And(parts) if parts.is_empty() => {
                return Err(LedgerError::Invalid("And needs a part"));
            }
            Query::And(parts) => Plan::And(self.all(parts)?),
            Query::Or(parts) => Plan::Or(self.all(parts)?),
            Query::Without(with, without) => {
                Plan::Without(Box::new(self.plan(with)?), Box::new(self.plan(without)?))
            }
            Query::Below(number, query) => Plan::Below(*number, Box::new(self.plan(query)?)),
            Query::Maybe(query) => Plan::Maybe(Box::new(self.plan(query)?)),
        })
    }
}

/// Where a look for what lies below a number begins; `None` when nothing can lie there.
pub(crate) fn place_below(before: Option<Number>) -> Option<Hit> {
    let first = match before {
        None => u64::MAX,
        Some(Number(before)) => before.checked_sub(1)?,
    };
    Some(Hit {
        number: Number(first),
        shard: Shard(0),
    })
}

impl Node {
    fn new(plan: &Plan) -> Self {
        let all = |parts: &[Plan]| parts.iter().map(Self::new).collect();
        match plan {
            Plan::Token(token) => Self::Run(Run::new(*token)),
            Plan::One(one) => Self::One(*one),
            Plan::And(parts) => Self::And(parts.iter().map(Part::new).collect()),
            Plan::Or(parts) => Self::Or(all(parts)),
            Plan::Without(with, without) => {
                Self::Without(Box::new(Self::new(with)), Box::new(Self::new(without)))
            }
            Plan::Below(number, plan) => Self::Below(*number, Box::new(Self::new(plan))),
            Plan::Maybe(plan) => Self::new(plan),
        }
    }
}

impl Part {
    fn new(plan: &Plan) -> Self {
        Self {
            node: Node::new(plan),
            tried: matches!(plan, Plan::Maybe(_)).then(Tried::default),
            is_left_out: false,
        }
    }

    /// As [`Node::seek`]. `may_leave` says whether this part may be left out from now on.
    fn seek(
        &mut self,
        place: Hit,
        may_leave: bool,
        bounds: &mut Bounds<'_>,
    ) -> Result<Found, LedgerError> {
        let before = bounds.read;
        let found = self.node.seek(place, bounds)?;
        if let Some(tried) = &mut self.tried {
            tried.read += bounds.read - before;
            match found {
                Found::Hit(hit) if hit == place => tried.agreed += 1,
                _ => tried.refused += 1,
            }
            self.is_left_out = may_leave && tried.costs_too_much();
        }
        Ok(found)
    }
}

impl Node {
    /// The first hit at or after a place. Places only go on from call to call.
    fn seek(&mut self, place: Hit, bounds: &mut Bounds<'_>) -> Result<Found, LedgerError> {
        match self {
            Self::Run(run) => run.seek(place, bounds),
            Self::One(one) => Ok(one
                .filter(|hit| rank(*hit) >= rank(place) && hit.number >= bounds.since)
                .map_or(Found::End, Found::Hit)),
            Self::And(parts) => {
                let mut place = place;
                let mut agreed = 0;
                let mut turn = 0;
                // Each part in turn moves the place on; when all in a row have stayed, it is a hit.
                let mut asked = parts.iter().filter(|part| !part.is_left_out).count();
                while agreed < asked {
                    if parts[turn].is_left_out {
                        turn = (turn + 1) % parts.len();
                        continue;
                    }
                    let found = parts[turn].seek(place, asked > 1, bounds)?;
                    asked -= usize::from(parts[turn].is_left_out);
                    match found {
                        // It doesn't count any more, whatever it said.
                        Found::Hit(_) if parts[turn].is_left_out => {}
                        Found::Hit(hit) if hit == place => agreed += 1,
                        Found::Hit(hit) => {
                            place = hit;
                            agreed = 1;
                        }
                        other => return Ok(other),
                    }
                    turn = (turn + 1) % parts.len();
                }
                Ok(Found::Hit(place))
            }
            Self::Or(parts) => {
                let mut first: Option<Hit> = None;
                let mut turn = 0;
                while let Some(part) = parts.get_mut(turn) {
                    match part.seek(place, bounds)? {
                        Found::Hit(hit) => {
                            if first.is_none_or(|first| rank(hit) < rank(first)) {
                                first = Some(hit);
                            }
                            turn += 1;
                        }
                        // Places only go on, so it stays at its end.
                        Found::End => drop(parts.swap_remove(turn)),
                        Found::Paused(_) => return Ok(Found::Paused(place)),
                    }
                }
                Ok(first.map_or(Found::End, Found::Hit))
            }
            Self::Below(number, node) => {
                let Some(first) = number.0.checked_sub(1) else {
                    return Ok(Found::End);
                };
                let first = Hit {
                    number: Number(first),
                    shard: Shard(0),
                };
                let place = if rank(place) < rank(first) {
                    first
                } else {
                    place
                };
                node.seek(place, bounds)
            }
            Self::Without(with, without) => {
                let mut place = place;
                loop {
                    let hit = match with.seek(place, bounds)? {
                        Found::Hit(hit) => hit,
                        other => return Ok(other),
                    };
                    match without.seek(hit, bounds)? {
                        Found::Hit(other) if other == hit => match after(hit) {
                            Some(next) => place = next,
                            None => return Ok(Found::End),
                        },
                        Found::Paused(_) => return Ok(Found::Paused(hit)),
                        _ => return Ok(Found::Hit(hit)),
                    }
                }
            }
        }
    }
}

impl Run {
    fn new(token: Token) -> Self {
        Self {
            token,
            page: Vec::new(),
            position: 0,
            next: Some(Hit {
                number: Number(u64::MAX),
                shard: Shard(0),
            }),
            page_size: FIRST_PAGE,
            asked: 0,
        }
    }

    fn seek(&mut self, place: Hit, bounds: &mut Bounds<'_>) -> Result<Found, LedgerError> {
        self.asked += 1;
        loop {
            let left = &self.page[self.position..];
            self.position += left.partition_point(|hit| rank(*hit) < rank(place));
            if let Some(hit) = self.page.get(self.position) {
                return Ok(Found::Hit(*hit));
            }
            let Some(next) = self.next else {
                return Ok(Found::End);
            };
            if bounds.pages >= PAGES_A_TURN {
                return Ok(Found::Paused(place));
            }
            bounds.pages += 1;
            bounds.read += 1;
            let from = if rank(next) < rank(place) {
                // A leap. Unless much of the page was looked at, what lies right behind the place is all
                // that is known to be of use.
                if self.asked * MUCH_OF_A_PAGE < self.page.len() {
                    self.page_size = FIRST_PAGE;
                }
                place
            } else {
                next
            };
            self.page = bounds
                .snapshot
                .postings(self.token, from, bounds.since, self.page_size)?;
            self.position = 0;
            self.asked = 0;
            self.next = match self.page.last() {
                Some(last) if self.page.len() == self.page_size => after(*last),
                _ => None,
            };
            self.page_size = (self.page_size * 2).min(LARGEST_PAGE);
        }
    }
}

/// The tokens that a query names.
pub(crate) fn tokens_of(query: &Query) -> Vec<Token> {
    match query {
        Query::Token(token) => vec![*token],
        Query::Document(..) => Vec::new(),
        Query::And(parts) | Query::Or(parts) => parts.iter().flat_map(tokens_of).collect(),
        Query::Without(with, without) => [tokens_of(with), tokens_of(without)].concat(),
        Query::Below(_, query) | Query::Maybe(query) => tokens_of(query),
    }
}

/// Hits of a query, newest first.
pub(crate) async fn search(
    snapshot: &dyn Snapshot,
    keys: &TenantKeys,
    query: &Query,
    layers: &[Outer],
    before: Option<Number>,
    since: Option<Number>,
    limit: usize,
) -> Result<Vec<Hit>, LedgerError> {
    let mut planner = Planner {
        snapshot,
        keys,
        layers,
        tokens: 0,
    };
    let plan = planner.plan(query)?;
    let Some(place) = place_below(before) else {
        return Ok(Vec::new());
    };
    let since = since.unwrap_or_default();
    if snapshot.is_far() {
        crate::windows::search(snapshot, &plan, place, since, limit).await
    } else {
        leap(snapshot, &plan, place, since, limit).await
    }
}

/// Hits of a plan from a place on, newest first, from a store that answers in place.
pub(crate) async fn leap(
    snapshot: &dyn Snapshot,
    plan: &Plan,
    mut place: Hit,
    since: Number,
    limit: usize,
) -> Result<Vec<Hit>, LedgerError> {
    let mut root = Node::new(plan);
    if let Node::Run(run) = &mut root {
        // All of it will be used, so read it in one page.
        run.page_size = limit.clamp(1, LARGEST_PAGE);
    }
    let mut bounds = Bounds {
        snapshot,
        since,
        pages: 0,
        read: 0,
    };
    let mut hits = Vec::new();
    while hits.len() < limit {
        match root.seek(place, &mut bounds)? {
            Found::Hit(hit) => {
                hits.push(hit);
                match after(hit) {
                    Some(next) => place = next,
                    None => break,
                }
            }
            Found::End => break,
            Found::Paused(at) => {
                place = at;
                bounds.pages = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Write};
    use crate::memory_backend::MemoryBackend;

    /// Lists that hold much of what others leave are left out, those that refuse most of it aren't, and one
    /// is always asked.
    #[tokio::test]
    async fn what_costs_more_than_it_saves_is_left_out() {
        // 1 is on every second of 8,000, 2 on every eightieth and 3 on one of four of these; 4 on as many
        // others. Of those with 2 every second has 1, every tenth has 5, which as many others have.
        let backend = MemoryBackend::default();
        let mut writes = Vec::new();
        for number in 1..=8000_u64 {
            let (rest, round) = (number % 80, number / 80);
            let on = [
                (1, number % 2 == round % 2),
                (2, rest == 0),
                (3, rest == 0 && round % 4 == 0),
                (4, rest == 40),
                (5, (rest == 0 && round % 10 == 0) || rest == 7),
            ];
            for (token, _) in on.into_iter().filter(|(_, is_on)| *is_on) {
                writes.push(Write::Posting {
                    token: Token(token),
                    at: Hit {
                        number: Number(number),
                        shard: Shard(0),
                    },
                });
            }
        }
        backend.apply(writes).unwrap();
        let snapshot = backend.snapshot();
        let token = |token| Plan::Token(Token(token));
        let maybe = |one| Plan::Maybe(Box::new(token(one)));
        let place = place_below(None).unwrap();
        let found = async |parts: Vec<Plan>, limit| {
            let plan = Plan::And(parts);
            leap(&*snapshot, &plan, place, Number(0), limit)
                .await
                .unwrap()
        };
        let exact = found(vec![token(1), token(2)], 1000).await;
        assert_eq!(exact.len(), 50);
        for parts in [
            vec![maybe(1), token(2)],
            vec![token(2), maybe(1)],
            vec![maybe(1), maybe(2)],
        ] {
            let more = found(parts, 1000).await;
            assert!((60..=100).contains(&more.len()), "{}", more.len());
            assert!(exact.iter().all(|hit| more.contains(hit)));
            assert!(more.iter().all(|hit| hit.number.0 % 80 == 0));
        }
        // Of those that have nothing in common, and where most are refused, none is left out.
        assert_eq!(found(vec![maybe(2), maybe(4)], 1000).await, []);
        assert_eq!(found(vec![maybe(5), maybe(2)], 1000).await.len(), 10);
        // Each has both, whichever is asked.
        assert_eq!(found(vec![maybe(3), maybe(2)], 1000).await.len(), 25);
        assert_eq!(found(vec![maybe(1)], 5).await.len(), 5);
    }
}

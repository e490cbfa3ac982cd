//! What is looked at before all lists are read.
//!
//! A range of dates or quantities is some hundred lists, and finding where each begins is most of what a
//! search costs where that isn't known yet. Each hit is checked on its opened body anyway, so the newest are
//! looked at without those lists: so many as cost about what finding the lists would cost, which is then
//! twice that at the worst. And a list that holds much of the type may be left out where the store finds
//! that opening what it would turn down costs less than leaping through it.

use ledger::Query;

/// A part with so many lists to find is one that can wait.
const HEAVY: usize = 16;
/// What is left without them has so many lists to find at most.
const LIGHT_MAX: usize = 8;
/// Opening a row costs half of what finding the beginning of a list costs.
const ROWS_A_LIST: usize = 2;
/// The most rows that are looked at in this way.
pub(crate) const ROWS_MAX: usize = 1024;

/// A query without the parts that can wait, and how many of its hits to look at before these are asked for.
/// Its hits hold those of the whole. `None` where nothing can wait, or too much would be left. `to_find` says
/// how many lists of a part have to be found.
pub(crate) fn lighter(query: &Query, to_find: &dyn Fn(&Query) -> usize) -> Option<(Query, usize)> {
    match query {
        Query::And(parts) => {
            let each: Vec<(&Query, usize)> =
                parts.iter().map(|part| (part, to_find(part))).collect();
            let is_heavy = |(_, lists): &&(&Query, usize)| *lists >= HEAVY;
            let (heavy, light): (Vec<_>, Vec<_>) = each.iter().partition(is_heavy);
            let lists =
                |parts: &[&(&Query, usize)]| parts.iter().map(|(_, lists)| *lists).sum::<usize>();
            if heavy.is_empty() || light.is_empty() || lists(&light) > LIGHT_MAX {
                return None;
            }
            let rows = (ROWS_A_LIST * lists(&heavy)).min(ROWS_MAX);
            let left = match light.as_slice() {
                [(one, _)] => (*one).clone(),
                several => Query::And(several.iter().map(|(part, _)| (*part).clone()).collect()),
            };
            Some((left, rows))
        }
        Query::Without(with, without) if to_find(without) <= LIGHT_MAX => {
            let (with, rows) = lighter(with, to_find)?;
            Some((Query::Without(Box::new(with), without.clone()), rows))
        }
        _ => None,
    }
}

/// A query whose single lists may be left out of its intersection, if it has any.
pub(crate) fn looser(query: &Query) -> Option<Query> {
    match query {
        Query::And(parts) if parts.len() > 1 => {
            let single = |part: &Query| matches!(part, Query::Token(_));
            let loosened = parts.iter().map(|part| match part {
                one if single(one) => Query::Maybe(Box::new(one.clone())),
                other => other.clone(),
            });
            (parts.iter().any(single)).then(|| Query::And(loosened.collect()))
        }
        Query::Without(with, without) => {
            let with = Box::new(looser(with)?);
            Some(Query::Without(with, without.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ledger::Token;

    use super::super::count;
    use super::*;

    fn range(lists: u64) -> Query {
        Query::Or(
            (0..lists)
                .map(|list| Query::Token(Token(100 + list)))
                .collect(),
        )
    }

    #[test]
    fn wide_ranges_wait_where_something_else_is_asked() {
        let one = |number| Query::Token(Token(number));
        let both = |number| Query::And(vec![one(number), one(number + 1)]);
        let without = |with, number| Query::Without(Box::new(with), Box::new(one(number)));
        let table = [
            (Query::And(vec![one(1), range(40)]), Some((one(1), 80))),
            (
                Query::And(vec![one(1), range(40), one(2), range(1000)]),
                Some((both(1), ROWS_MAX)),
            ),
            (
                without(Query::And(vec![one(1), range(16)]), 3),
                Some((without(one(1), 3), 32)),
            ),
            (Query::And(vec![one(1), range(15)]), None),
            (Query::And(vec![range(40), range(40)]), None),
            (Query::And(vec![range(10), range(40)]), None),
            (range(40), None),
            (one(1), None),
        ];
        for (query, expected) in table {
            assert_eq!(lighter(&query, &count), expected, "{query:?}");
        }
    }

    #[test]
    fn ranges_whose_lists_are_known_need_not_wait() {
        let query = Query::And(vec![Query::Token(Token(1)), range(40)]);
        assert_eq!(lighter(&query, &|_| 0), None);
        let some = |part: &Query| count(part) / 2;
        assert_eq!(
            lighter(&query, &some),
            Some((Query::Token(Token(1)), 2 * 20))
        );
    }

    #[test]
    fn single_lists_beside_others_may_be_left_out() {
        let one = |number| Query::Token(Token(number));
        let maybe = |number| Query::Maybe(Box::new(one(number)));
        let without = |with| Query::Without(Box::new(with), Box::new(one(9)));
        let table = [
            (
                Query::And(vec![one(1), range(4)]),
                Some(Query::And(vec![maybe(1), range(4)])),
            ),
            (
                without(Query::And(vec![one(1), one(2)])),
                Some(without(Query::And(vec![maybe(1), maybe(2)]))),
            ),
            (Query::And(vec![range(4), range(5)]), None),
            (Query::And(vec![one(1)]), None),
            (one(1), None),
            (range(4), None),
        ];
        for (query, expected) in table {
            assert_eq!(looser(&query), expected, "{query:?}");
        }
    }
}

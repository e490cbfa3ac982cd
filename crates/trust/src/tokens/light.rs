//! What is looked at before the lists of a wide range are read.
//!
//! A range of dates or quantities is some hundred lists, and finding where each begins is most of what a
//! search costs where the other clauses leave few rows, or where much of what they leave lies within the
//! range. Each hit is checked on its opened body anyway, so the newest are looked at without those lists:
//! so many as cost about what finding the lists would cost, which is then twice that at the worst.

use ledger::Query;

use super::count;

/// A part with so many lists is one that can wait.
const HEAVY: usize = 16;
/// What is left without them has so many lists at most.
const LIGHT_MAX: usize = 8;
/// Opening a row costs half of what finding the beginning of a list costs.
const ROWS_A_LIST: usize = 2;
/// The most rows that are looked at in this way.
const ROWS_MAX: usize = 1024;

/// A query without the parts that can wait, and how many of its hits to look at before these are asked for.
/// Its hits hold those of the whole. `None` where nothing can wait, or too much would be left.
pub(crate) fn lighter(query: &Query) -> Option<(Query, usize)> {
    match query {
        Query::And(parts) => {
            let (heavy, light): (Vec<&Query>, Vec<&Query>) =
                parts.iter().partition(|part| count(part) >= HEAVY);
            let lists = |parts: &[&Query]| parts.iter().map(|part| count(part)).sum::<usize>();
            if heavy.is_empty() || light.is_empty() || lists(&light) > LIGHT_MAX {
                return None;
            }
            let rows = (ROWS_A_LIST * lists(&heavy)).min(ROWS_MAX);
            let left = match light.as_slice() {
                [one] => (*one).clone(),
                several => Query::And(several.iter().map(|part| (*part).clone()).collect()),
            };
            Some((left, rows))
        }
        Query::Without(with, without) if count(without) <= LIGHT_MAX => {
            let (with, rows) = lighter(with)?;
            Some((Query::Without(Box::new(with), without.clone()), rows))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ledger::Token;

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
            assert_eq!(lighter(&query), expected, "{query:?}");
        }
    }
}

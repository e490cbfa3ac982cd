//! Up to which number a view holds everything that there will ever be.
//!
//! Numbers of different shards become visible in another order than they rise. A group that is under way
//! has its numbers already, and they may be lower than those of one that has been committed. Two things
//! together tell how low they can be.
//!
//! - A group reads the greatest number of all shards after it has taken its locks, and gives greater ones.
//! - A *mark* is the greatest number of all shards, and the id of a transaction that was given after that
//!   was read. Every transaction with a later id has taken its locks after that, so its numbers are
//!   greater than the mark's.
//!
//! A view knows the lowest id of a transaction that it may not see. The newest mark with a lower id than
//! that is its horizon. Marks are made with every look for what others write, when something was, and
//! before each view that is going to be asked for its horizon.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::rows::Columns;
use super::server::Statement;
use crate::{LedgerError, Number};

/// Marks that are kept: of at least 20 s, for which a lock may be waited for.
const MARKS: usize = 1024;
/// Of those that were made closer together than this, one in between is not kept.
const APART: Duration = Duration::from_millis(20);
/// For how long a group is under way at most, from its first lock to its COMMIT's answer. Only where ids
/// of transactions say nothing, because the tables are spread over several servers. Twice
/// [`OPENED_WITHIN`], so that half of it is left for the writes, which wait for no lock: nothing bounds
/// how long servers take over these, so with one that takes longer a list can miss that it has `moved`.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// How soon a group has to have all that it waits for, there: it locks its shards one by one, each of which
/// may take as long as a lock may, so the time of all is bounded here. One that took longer writes nothing.
const OPENED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Mark {
    id: i64,
    number: Number,
    at: Instant,
}

/// The marks of this process.
#[derive(Default)]
pub(super) struct Horizon(Mutex<VecDeque<Mark>>);

/// What makes a mark, in this order and in one transaction.
pub(super) fn statements() -> Vec<Statement> {
    vec![
        Statement {
            sql: "SELECT max(last_number) FROM shard".into(),
            params: Vec::new(),
        },
        id(),
    ]
}

/// Takes an id.
pub(super) fn id() -> Statement {
    Statement {
        sql: "SELECT pg_current_xact_id()::text::bigint".into(),
        params: Vec::new(),
    }
}

/// Asks a view for the lowest id that it may not see.
pub(super) const LOWEST: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";

/// The one number of an answer.
pub(super) fn one(rows: &[tokio_postgres::Row]) -> Result<i64, LedgerError> {
    let row = rows
        .first()
        .ok_or_else(|| LedgerError::Storage("a statement has no answer".into()))?;
    Columns {
        row,
        table: "shard",
    }
    .get(0)
}

/// Whether a group whose shards were free after so long may write: its numbers may else be below a
/// horizon that has been given.
pub(super) fn is_in_time(took: Duration) -> Result<(), LedgerError> {
    if took <= OPENED_WITHIN {
        return Ok(());
    }
    Err(LedgerError::Storage(format!(
        "the shards of a commit were not free within {} s, and nothing was written",
        OPENED_WITHIN.as_secs()
    )))
}

impl Horizon {
    /// Keeps a mark.
    pub(super) fn mark(&self, id: i64, number: Number) {
        let at = Instant::now();
        self.keep(Mark { id, number, at });
    }

    fn keep(&self, mark: Mark) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = marks
            .len()
            .checked_sub(2)
            .and_then(|place| marks.get(place));
        if before.is_some_and(|before| mark.at.saturating_duration_since(before.at) < APART) {
            marks.pop_back();
        }
        if marks.len() >= MARKS {
            marks.pop_front();
        }
        marks.push_back(mark);
    }

    /// The number of the newest mark.
    pub(super) fn newest(&self) -> Option<Number> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.back().map(|mark| mark.number)
    }

    /// The horizon of a view that may not see `lowest` and what came after; zero when nothing is known.
    pub(super) fn of(&self, lowest: i64) -> Number {
        self.greatest(|mark| mark.id < lowest)
    }

    /// The horizon of a view that was made before now, where ids say nothing.
    pub(super) fn by_time(&self) -> Number {
        self.greatest(|mark| mark.at.elapsed() >= UNDER_WAY)
    }

    fn greatest(&self, counts: impl Fn(&Mark) -> bool) -> Number {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = marks.iter().filter(|mark| counts(mark));
        numbers.map(|mark| mark.number).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_under_way_is_for_the_writes() {
        assert!(is_in_time(UNDER_WAY / 2).is_ok());
        let late = is_in_time(UNDER_WAY / 2 + Duration::from_millis(1));
        assert!(
            matches!(&late, Err(LedgerError::Storage(why)) if why.contains("nothing was written")),
            "{late:?}"
        );
    }

    #[test]
    fn a_horizon_is_the_newest_mark_below_what_is_not_seen() {
        let horizon = Horizon::default();
        assert_eq!((horizon.of(100), horizon.newest()), (Number(0), None));
        let mut at = Instant::now();
        let mut keep = |id: i64, number, after: Duration| {
            at += after;
            let number = Number(number);
            horizon.keep(Mark { id, number, at });
        };
        for (id, number) in [(10, 1000), (12, 1500), (20, 1400), (30, 9000)] {
            keep(id, number, APART);
        }
        for (lowest, expected) in [
            (10, 0),
            (11, 1000),
            (12, 1000),
            (13, 1500),
            (30, 1500),
            (31, 9000),
        ] {
            assert_eq!(horizon.of(lowest), Number(expected), "{lowest}");
        }
        assert_eq!(horizon.newest(), Some(Number(9000)));
        // Nothing is old enough.
        assert_eq!(horizon.by_time(), Number(0));
        // Of many at once there are two left, the newest with them.
        for id in 31..=40 {
            keep(id, 9000 + u64::try_from(id).unwrap(), APART / 100);
        }
        assert_eq!(horizon.of(41), Number(9040));
        assert_eq!(horizon.of(40), Number(9000));
        // The oldest go.
        for id in 41..(50 + i64::try_from(MARKS).unwrap()) {
            keep(id, 9050, APART);
        }
        assert_eq!(horizon.of(40), Number(0));
    }
}

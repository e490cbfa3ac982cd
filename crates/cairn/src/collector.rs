//! Tells a collector of logs what is in the audit: each record as an IHE ATNA message (ITI-20) by syslog
//! over TLS (RFC 5424, RFC 5425). What is told is `trust::told`: nothing of a patient.
//!
//! A follower of the audit's trees, up to the newest signed checkpoint, with a stored position for each
//! shard. Syslog has no receipts, so a batch has a connection of its own, which is ended in order: the
//! position moves when the other side has read to its end. Whatever goes wrong before that is sent
//! again, so the collector gets each record at least once.

mod atna;
mod syslog;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ledger::{Commit, CursorMove, Ledger, LedgerError, Number, Shard, TenantId};
use tokio::sync::watch;
use trust::told;

pub use syslog::Collector;

/// The follower's name at its positions.
const CONSUMER: &str = "audit-collector";
/// How long it rests when there is nothing new: a checkpoint is signed each second.
const REST: Duration = Duration::from_secs(1);
/// How long it rests after the first failure; twice as long after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The most records of one batch, and the most bytes after which no further one is taken into it. One
/// record has some 2 KB, and at most about 300 KB for a thousand patients, so a batch stays below 5 MB.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// What one shard puts into a batch before the others had their turn: records, and bytes after which no further
/// one is taken.
const TURN_RECORDS: usize = 50;
const TURN_BYTES: usize = 256 << 10;

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error("the audit can't be read: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Collector(#[from] syslog::Unreached),
}

/// Tells until `stopped`.
pub(crate) async fn run(
    ledger: Ledger,
    tenant: TenantId,
    collector: Arc<Collector>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut course = Course {
        ledger,
        tenant,
        collector,
        positions: HashMap::new(),
        first: 0,
    };
    let mut failures = 0_u32;
    // What was said of the last one.
    let mut said = String::new();
    loop {
        let round = async {
            match course.round().await {
                Ok(sent) => {
                    if failures > 0 {
                        tracing::info!("the audit's collector is told again");
                    }
                    failures = 0;
                    said.clear();
                    metrics::counter!("cairn_audit_told_total").increment(sent as u64);
                    if sent == 0 {
                        tokio::time::sleep(REST).await;
                    }
                }
                Err(error) => {
                    // A store that has just been made has no checkpoint yet.
                    let is_new = matches!(error, Untold::Ledger(LedgerError::Damaged(_)));
                    // Another reason needs another remedy: one that was away may come back and never take anything.
                    let words = error.to_string();
                    if words != said && (failures > 0 || !is_new) {
                        tracing::warn!(%error, "the audit's collector could not be told; trying again");
                        said = words;
                    }
                    metrics::counter!("cairn_audit_told_failures_total").increment(1);
                    tokio::time::sleep(pause(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = round => {}
        }
    }
}

/// How long to rest after that many failures before this one.
fn pause(failures: u32) -> Duration {
    PAUSE_MIN
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(PAUSE_MAX)
}

struct Course {
    ledger: Ledger,
    tenant: TenantId,
    collector: Arc<Collector>,
    /// How many leaves of each shard were told, as far as it is known here.
    positions: HashMap<Shard, u64>,
    /// Which shard begins the next batch.
    first: usize,
}

/// What is left to tell of a shard.
struct Left {
    shard: Shard,
    from: u64,
    to: u64,
    size: u64,
}

impl Course {
    /// Tells one batch; gives how many records there were in it.
    async fn round(&mut self) -> Result<usize, Untold> {
        let trees = self.ledger.newest_checkpoint().await?.trees;
        let mut left = Vec::new();
        for (shard, size) in trees {
            if !self.ledger.holds(shard) {
                self.positions.remove(&shard);
                continue;
            }
            let from = match self.positions.get(&shard) {
                Some(position) => *position,
                None => self.ledger.cursor(CONSUMER, shard).await?.0,
            };
            self.positions.insert(shard, from);
            let to = from;
            left.push(Left {
                shard,
                from,
                to,
                size,
            });
        }
        let waiting: u64 = left.iter().map(|one| one.size.saturating_sub(one.to)).sum();
        let (mut batch, mut records) = (Vec::new(), 0);
        // By turns, so that none waits until another is told whole; and each batch begins with another.
        if !left.is_empty() {
            let first = self.first % left.len();
            left.rotate_left(first);
            self.first = self.first.wrapping_add(1);
        }
        loop {
            let before = records;
            for one in &mut left {
                let (turn, began) = (records + TURN_RECORDS, batch.len());
                while one.to < one.size
                    && records < BATCH_RECORDS.min(turn)
                    && batch.len() < BATCH_BYTES.min(began + TURN_BYTES)
                {
                    let (shard, to) = (one.shard, one.to);
                    let Some(entry) = told::of_leaf(&self.ledger, shard, to).await? else {
                        one.size = to;
                        break;
                    };
                    if matches!(entry, told::Entry::Unreadable) {
                        tracing::error!(%shard, leaf = to, "an audit record can't be read; the collector is told");
                    }
                    for message in atna::messages(&entry, shard, to) {
                        self.collector.frame(&message, &mut batch);
                    }
                    one.to += 1;
                    records += 1;
                }
            }
            if records == before {
                break;
            }
        }
        let told = left.iter().filter(|one| one.to > one.from);
        let moves: Vec<_> = told.map(|one| (one.shard, one.from, one.to)).collect();
        let waiting = waiting.saturating_sub(records as u64);
        metrics::gauge!("cairn_audit_told_waiting").set(waiting as f64);
        if moves.is_empty() {
            return Ok(0);
        }
        self.collector.send(&batch).await?;
        let commits = moves.iter().map(|(shard, from, to)| {
            let mut commit = Commit::new(self.tenant);
            commit.cursor = Some(CursorMove {
                consumer: CONSUMER.to_owned(),
                shard: *shard,
                from: Number(*from),
                to: Number(*to),
            });
            self.ledger.commit(commit)
        });
        let outcomes = join_all(commits).await;
        for ((shard, _, to), outcome) in moves.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.positions.insert(shard, to);
                }
                // Another server has told them too, and goes on.
                Err(LedgerError::CursorMoved { .. } | LedgerError::Fenced(_)) => {
                    self.positions.remove(&shard);
                }
                Err(error) => {
                    self.positions.remove(&shard);
                    return Err(error.into());
                }
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds: Vec<u64> = (0..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}

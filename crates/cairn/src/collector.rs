//! Tells collectors of logs what is in the audit: each record as an IHE ATNA message (ITI-20) by syslog over
//! TLS (RFC 5424, RFC 5425), or as a record of OpenTelemetry's logs by OTLP over HTTP. What is told is
//! `trust::told`: nothing of a patient.
//!
//! A follower of the audit's trees for each collector, up to the newest signed checkpoint, with a stored
//! position of its own for each shard. It moves when the other side has taken a batch: OTLP answers, and
//! with syslog, which has no receipts, a batch has a connection of its own, which is ended in order.
//! Whatever goes wrong before that is sent again, so a collector gets each record at least once.

mod atna;
mod log_record;
mod otlp;
mod syslog;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use ledger::{Clock, Commit, CursorMove, Ledger, LedgerError, Number, Shard, TenantId};
use prost::Message as _;
use tokio::sync::watch;
use trust::told;

pub use otlp::{OtlpCollector, OtlpFiles};
pub use syslog::SyslogCollector;

/// How long it rests when there is nothing new: a checkpoint is signed each second.
const REST: Duration = Duration::from_secs(1);
/// How long it rests after the first failure; twice as long after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The most records of one batch, and the most bytes after which no further one is taken into it. One
/// record has some 2 KB, but may name 16,384 patients and rows, and is then 1.5 MB as a log record and some
/// MB as syslog's messages: below `RECORD_BYTES_MAX`, which the largest batch has beyond these bytes.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// What no record is larger than, as a log record and as syslog's messages: a test lays the largest ones out.
#[cfg(test)]
const RECORD_BYTES_MAX: [usize; 2] = [2 << 20, 8 << 20];
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
    Syslog(#[from] syslog::Unreached),
    #[error(transparent)]
    Otlp(#[from] otlp::Unreached),
}

impl Untold {
    /// How long the other side wants to be left alone.
    fn after(&self) -> Option<Duration> {
        match self {
            Self::Otlp(unreached) => unreached.after(),
            _ => None,
        }
    }
}

/// Where the audit is told.
#[derive(Debug)]
pub enum Collector {
    /// By syslog over TLS.
    Syslog(SyslogCollector),
    /// By OTLP over HTTP.
    Otlp(OtlpCollector),
}

impl From<SyslogCollector> for Collector {
    fn from(collector: SyslogCollector) -> Self {
        Self::Syslog(collector)
    }
}

impl From<OtlpCollector> for Collector {
    fn from(collector: OtlpCollector) -> Self {
        Self::Otlp(collector)
    }
}

impl Collector {
    /// Its name at its positions, which are as old as the first store that told: they stay as they are.
    fn consumer(&self) -> &'static str {
        match self {
            Self::Syslog(_) => "audit-collector",
            Self::Otlp(_) => "audit-collector-otlp",
        }
    }

    /// Its name in metrics and logs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) => "otlp",
        }
    }
}

/// Records that are told together, laid out as their collector takes them.
#[derive(Default)]
struct Batch {
    bytes: usize,
    text: Vec<u8>,
    lines: Vec<otlp::Line>,
}

impl Batch {
    fn add(&mut self, course: &Course, entry: &told::Entry, (shard, index): (Shard, u64)) {
        match &*course.collector {
            Collector::Syslog(collector) => {
                for message in atna::messages(entry, shard, index) {
                    collector.frame(&message, &mut self.text);
                }
                self.bytes = self.text.len();
            }
            Collector::Otlp(_) => {
                let leaf = format!("{shard}/{index}");
                let record =
                    log_record::record(entry, &leaf, course.tenant, course.wall_clock.now_ms());
                self.bytes += record.encoded_len();
                self.lines.push(otlp::Line {
                    shard,
                    index,
                    record,
                });
            }
        }
    }
}

/// Tells until `stopped`.
pub(crate) async fn run(
    ledger: Ledger,
    tenant: TenantId,
    collector: Arc<Collector>,
    wall_clock: Arc<dyn Clock>,
    mut stopped: watch::Receiver<bool>,
) {
    let name = collector.name();
    let mut course = Course {
        ledger,
        tenant,
        collector,
        wall_clock,
        positions: HashMap::new(),
        first: 0,
        credit: otlp::Credit::default(),
    };
    let mut failures = 0_u32;
    // What was said of the last one.
    let mut said = String::new();
    loop {
        let round = async {
            match course.round().await {
                Ok(sent) => {
                    if failures > 0 {
                        tracing::info!(collector = name, "the audit's collector is told again");
                    }
                    failures = 0;
                    said.clear();
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
                        tracing::warn!(collector = name, %error, "the audit's collector could not be told; trying again");
                        said = words;
                    }
                    metrics::counter!("cairn_audit_told_failures_total", "collector" => name)
                        .increment(1);
                    let rest = pause(failures).max(error.after().unwrap_or_default());
                    tokio::time::sleep(rest).await;
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
    wall_clock: Arc<dyn Clock>,
    /// How many leaves of each shard were told, as far as it is known here.
    positions: HashMap<Shard, u64>,
    /// Which shard begins the next batch.
    first: usize,
    /// Whether the collector may refuse a record for its own sake.
    credit: otlp::Credit,
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
                None => {
                    self.ledger
                        .cursor(self.collector.consumer(), shard)
                        .await?
                        .0
                }
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
        let (mut batch, mut records) = (Batch::default(), 0);
        // By turns, so that none waits until another is told whole; and each batch begins with another.
        if !left.is_empty() {
            let first = self.first % left.len();
            left.rotate_left(first);
            self.first = self.first.wrapping_add(1);
        }
        loop {
            let before = records;
            for one in &mut left {
                let (turn, began) = (records + TURN_RECORDS, batch.bytes);
                while one.to < one.size
                    && records < BATCH_RECORDS.min(turn)
                    && batch.bytes < BATCH_BYTES.min(began + TURN_BYTES)
                {
                    let (shard, to) = (one.shard, one.to);
                    let Some(entry) = told::of_leaf(&self.ledger, shard, to).await? else {
                        one.size = to;
                        break;
                    };
                    if matches!(entry, told::Entry::Unreadable) {
                        tracing::error!(%shard, leaf = to, "an audit record can't be read; the collector is told");
                    }
                    batch.add(self, &entry, (shard, to));
                    one.to += 1;
                    records += 1;
                }
            }
            if records == before {
                break;
            }
        }
        let waiting = waiting.saturating_sub(records as u64);
        let name = self.collector.name();
        metrics::gauge!("cairn_audit_told_waiting", "collector" => name).set(waiting as f64);
        if records == 0 {
            return Ok(0);
        }
        self.send(&batch, left, records).await?;
        Ok(records)
    }

    /// Sends a batch, and moves as far as it got.
    async fn send(
        &mut self,
        batch: &Batch,
        mut left: Vec<Left>,
        records: usize,
    ) -> Result<(), Untold> {
        let collector = Arc::clone(&self.collector);
        let (settled, refusals, ending) = match &*collector {
            Collector::Syslog(collector) => {
                collector.send(&batch.text).await?;
                (records, Vec::new(), Ok(()))
            }
            Collector::Otlp(collector) => {
                let now_ms = self.wall_clock.now_ms();
                let mut progress = otlp::Progress::default();
                let sending = collector.send(&batch.lines, now_ms, &mut self.credit, &mut progress);
                let ending = sending.await;
                // In their order: the first one of a shard that isn't settled is where it goes on.
                for line in batch.lines.iter().skip(progress.settled).rev() {
                    if let Some(one) = left.iter_mut().find(|one| one.shard == line.shard) {
                        one.to = line.index;
                    }
                }
                (progress.settled, progress.refusals, ending)
            }
        };
        let told = left.iter().filter(|one| one.to > one.from);
        let moves = told.map(|one| (one.shard, one.from, one.to)).collect();
        // Before it is kept: who is killed between the two rather says twice than never what was set aside.
        let name = collector.name();
        metrics::counter!("cairn_audit_told_total", "collector" => name).increment(settled as u64);
        let refused = refusals.iter().map(otlp::Refusal::count).sum();
        metrics::counter!("cairn_audit_told_refused_total", "collector" => name).increment(refused);
        refusals.iter().for_each(otlp::Refusal::log);
        self.advance(moves).await?;
        Ok(ending?)
    }

    /// Keeps how far each shard was told.
    async fn advance(&mut self, moves: Vec<(Shard, u64, u64)>) -> Result<(), LedgerError> {
        let commits = moves.iter().map(|(shard, from, to)| {
            let mut commit = Commit::new(self.tenant);
            commit.cursor = Some(CursorMove {
                consumer: self.collector.consumer().to_owned(),
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
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record that names as much as an audit record can.
    fn largest() -> told::Entry {
        let code = |code: &str| told::Code {
            system: "http://terminology.hl7.org/CodeSystem/audit-event-type".to_owned(),
            code: code.to_owned(),
        };
        let kinds = fhir::ResourceType::all().collect::<Vec<_>>();
        let longest = kinds.iter().max_by_key(|kind| kind.name().len());
        // Each kind once, for the sentence that counts them, and then the one with the longest name.
        let all = kinds
            .iter()
            .chain(std::iter::repeat(longest.expect("a kind")));
        let object = |kind: &fhir::ResourceType| told::Object {
            kind: *kind,
            is_person: false,
            name: format!("{:016x}", u64::MAX),
        };
        let participant = told::Participant {
            id: "x".repeat(64),
            asked: true,
            roles: vec![code(&"x".repeat(32)); 2],
        };
        told::Entry::Record(Box::new(told::Told {
            id: "x".repeat(64),
            recorded: "2026-06-15T13:00:00.250Z".to_owned(),
            action: "E".to_owned(),
            outcome: "0".to_owned(),
            kind: code("rest"),
            subtype: code("search-type"),
            purpose: Some(code("TREAT")),
            own_purpose: Some(code(&"x".repeat(64))),
            // Who asked, for whom, who got it, and this server.
            participants: vec![participant; 4],
            // Each is a search token of its event.
            objects: all.take(ledger::DOCUMENT_TOKENS_MAX).map(object).collect(),
        }))
    }

    #[test]
    fn the_largest_record_is_as_large_as_is_said() {
        let largest = largest();
        let record = log_record::record(&largest, "3f/4294967296", TenantId(u32::MAX), u64::MAX);
        let collector = SyslogCollector::new("127.0.0.1:6514", None, None, "cairn.example.org");
        let collector = collector.expect("a collector");
        let mut text = Vec::new();
        for message in atna::messages(&largest, Shard(63), 1 << 32) {
            collector.frame(&message, &mut text);
        }
        let sizes = [record.encoded_len(), text.len()];
        for (size, bound) in sizes.into_iter().zip(RECORD_BYTES_MAX) {
            assert!(size < bound && size > bound / 2, "{sizes:?}");
        }
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds: Vec<u64> = (0..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}

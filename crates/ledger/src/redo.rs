//! The redo log: what a group of commits changed that can't be told later on from documents and
//! leaves, so that a backup can take what has come since the last one, and a restore can stop at any
//! group.
//!
//! It is kept from the first backup on. A row says which documents the group wrote, which versions
//! they superseded, what became of timers, outbox and cursors, and whose keys changed; no key, token
//! or body is in it. Tokens of superseded versions stay in their `posted` rows as long as the redo row
//! that names them. Rows go when every target has taken them, or, oldest first, when they and what
//! they hold grow over [`BYTES_MAX`]; a target that they have gone from gets a whole backup next.

use crate::backend::{OutboxRow, Snapshot, SubjectKey, Write};
use crate::codec::{Decoder, put_varint};
use crate::embedded::rows::{
    cursor_key, decode_cursor_key, decode_due, decode_outbox, decode_subject_key, decode_timer,
    due_key, encode_outbox, encode_timer,
};
use crate::{Hit, LedgerError, Number, OutboxKey, Shard, Timer, TimerKey};

/// The meta row that says, by not being empty, that a redo log is kept, and from which sequence on.
pub(crate) const REDO: &str = "redo";
/// Meta rows of the chains of backups: the sequence of the newest redo row that each has taken.
pub(crate) const CHAIN: &str = "backup/";
/// What redo rows and the `posted` rows that they hold may take. At 100 bytes a commit that is more
/// than two million commits between two backups. A test need not fill that much.
const BYTES_MAX: u64 = if cfg!(test) { 128 << 10 } else { 256 << 20 };
/// What a `posted` row that waits for its backup takes, about.
const STALE_BYTES: u64 = 200;
/// How many rows go with one group, at most, so that no group grows out of proportion.
const TRIM_ROWS: usize = 64;

const FORMAT: u8 = 1;

/// What became of one row that does not stay as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Timer(Timer),
    DropTimer(TimerKey),
    Outbox(OutboxRow),
    DropOutbox(OutboxKey),
    Cursor {
        consumer: String,
        shard: Shard,
        at: Number,
    },
    /// Somebody's key came, changed or was destroyed. Keys travel apart.
    Key(SubjectKey),
}

impl Change {
    /// What a write changes, if it is one of these.
    pub(crate) fn of(write: &Write) -> Option<Self> {
        Some(match write {
            Write::Timer(timer) => Self::Timer(timer.clone()),
            Write::DropTimer(key) => Self::DropTimer(*key),
            Write::Outbox(row) => Self::Outbox(row.clone()),
            Write::DropOutbox(key) => Self::DropOutbox(*key),
            Write::Cursor {
                consumer,
                shard,
                at,
            } => Self::Cursor {
                consumer: consumer.clone(),
                shard: *shard,
                at: *at,
            },
            Write::Key(key, _) => Self::Key(*key),
            _ => return None,
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, key, value) = match self {
            Self::Timer(timer) => {
                let key = due_key(timer.key.due_ms, timer.key.shard, &timer.key.id);
                (1, key.to_vec(), encode_timer(timer))
            }
            Self::DropTimer(key) => {
                let key = due_key(key.due_ms, key.shard, &key.id);
                (2, key.to_vec(), Vec::new())
            }
            Self::Outbox(row) => {
                let key = due_key(row.key.due_ms, row.key.shard, &row.key.id);
                (3, key.to_vec(), encode_outbox(row))
            }
            Self::DropOutbox(key) => {
                let key = due_key(key.due_ms, key.shard, &key.id);
                (4, key.to_vec(), Vec::new())
            }
            Self::Cursor {
                consumer,
                shard,
                at,
            } => {
                let key = cursor_key(consumer, *shard);
                (5, key, at.0.to_be_bytes().to_vec())
            }
            Self::Key(key) => {
                let key = crate::embedded::rows::blind_key(key.tenant, &key.subject);
                (6, key.to_vec(), Vec::new())
            }
        };
        out.push(tag);
        for bytes in [key, value] {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, LedgerError> {
        let tag = decoder.u8()?;
        let length = decoder.small()?;
        let key = decoder.bytes(length)?;
        let length = decoder.small()?;
        let value = decoder.bytes(length)?;
        Ok(match tag {
            1 => Self::Timer(decode_timer(key, value)?),
            2 => {
                let (due_ms, shard, id) = decode_due(key, "timer")?;
                Self::DropTimer(TimerKey { shard, due_ms, id })
            }
            3 => Self::Outbox(decode_outbox(key, value)?),
            4 => {
                let (due_ms, shard, id) = decode_due(key, "outbox")?;
                Self::DropOutbox(OutboxKey { shard, due_ms, id })
            }
            5 => {
                let (consumer, shard) = decode_cursor_key(key)?;
                let at = Number(Decoder::new(value, "cursor").u64()?);
                Self::Cursor {
                    consumer,
                    shard,
                    at,
                }
            }
            6 => Self::Key(decode_subject_key(key)?),
            _ => {
                return Err(LedgerError::Damaged(
                    "a redo row has an unknown change".into(),
                ));
            }
        })
    }
}

/// One group of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The ledger's clock when the group was written, milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
    /// The newest number after the group.
    pub(crate) through: Number,
    /// Documents that the group wrote, in the order of their numbers.
    pub(crate) documents: Vec<Hit>,
    /// Versions that it superseded, whose `posted` rows stay as long as this entry.
    pub(crate) stale: Vec<Hit>,
    pub(crate) changes: Vec<Change>,
}

fn put_places(out: &mut Vec<u8>, places: &[Hit]) {
    put_varint(out, places.len() as u64);
    let mut last = 0;
    for at in places {
        // Superseded versions come in no order, so the difference wraps around.
        put_varint(out, at.number.0.wrapping_sub(last));
        put_varint(out, u64::from(at.shard.0));
        last = at.number.0;
    }
}

fn take_places(decoder: &mut Decoder<'_>) -> Result<Vec<Hit>, LedgerError> {
    let count: usize = decoder.small()?;
    let mut places = Vec::with_capacity(count.min(decoder.remaining()));
    let mut last = 0u64;
    for _ in 0..count {
        last = last.wrapping_add(decoder.varint()?);
        places.push(Hit {
            number: Number(last),
            shard: Shard(decoder.small()?),
        });
    }
    Ok(places)
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_varint(&mut out, self.unix_ms);
        put_varint(&mut out, self.through.0);
        put_places(&mut out, &self.documents);
        put_places(&mut out, &self.stale);
        put_varint(&mut out, self.changes.len() as u64);
        self.changes
            .iter()
            .for_each(|change| change.encode(&mut out));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut decoder = Decoder::new(bytes, "redo");
        if decoder.u8()? != FORMAT {
            return Err(LedgerError::Damaged(
                "a redo row has an unknown format".into(),
            ));
        }
        let unix_ms = decoder.varint()?;
        let through = Number(decoder.varint()?);
        let documents = take_places(&mut decoder)?;
        let stale = take_places(&mut decoder)?;
        let count: usize = decoder.small()?;
        let mut changes = Vec::with_capacity(count.min(decoder.remaining()));
        for _ in 0..count {
            changes.push(Change::decode(&mut decoder)?);
        }
        decoder.end()?;
        Ok(Self {
            unix_ms,
            through,
            documents,
            stale,
            changes,
        })
    }

    /// What the entry and the rows that it holds take.
    fn bytes(&self, encoded: usize) -> u64 {
        encoded as u64 + STALE_BYTES * self.stale.len() as u64
    }
}

/// A row of the log: what all rows before it took, so that the size of the log is known from its two
/// ends, and the entry.
fn row_of(before: u64, entry: &[u8]) -> Vec<u8> {
    [&before.to_be_bytes(), entry].concat()
}

/// A row's entry, and what all rows before it took.
pub(crate) fn entry_of(row: &[u8]) -> Result<(u64, Entry), LedgerError> {
    let mut decoder = Decoder::new(row, "redo");
    let before = decoder.u64()?;
    Ok((before, Entry::decode(decoder.rest())?))
}

/// The meta row of a chain of backups.
pub(crate) fn chain_row(chain: &str) -> String {
    format!("{CHAIN}{chain}")
}

/// Chains of backups and the sequence that each has taken.
pub(crate) fn chains(snapshot: &dyn Snapshot) -> Result<Vec<(String, u64)>, LedgerError> {
    let mut chains = Vec::new();
    for (name, value) in snapshot.metas(CHAIN)? {
        // A chain that can't go on has an empty row.
        if !value.is_empty() {
            let taken = Decoder::new(&value, "chain").u64()?;
            chains.push((name[CHAIN.len()..].to_owned(), taken));
        }
    }
    Ok(chains)
}

/// What the writer knows of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redo {
    /// Whether it is kept.
    pub(crate) on: bool,
    /// The sequence of the oldest row; that of the next one when there is none.
    pub(crate) first: u64,
    /// The sequence of the next row.
    pub(crate) next: u64,
    /// What the rows before the oldest took.
    gone_bytes: u64,
    /// What all rows so far took.
    all_bytes: u64,
    /// The newest sequence that some chain has taken.
    pub(crate) taken: u64,
}

impl Redo {
    pub(crate) fn load(snapshot: &dyn Snapshot) -> Result<Self, LedgerError> {
        let began = snapshot.meta(REDO)?.filter(|value| !value.is_empty());
        let began = began.map(|value| Decoder::new(&value, "redo").u64());
        let began = began.transpose()?;
        let taken = (chains(snapshot)?.iter()).map(|(_, taken)| *taken).max();
        let taken = taken.unwrap_or(0);
        let last = snapshot.last_redo()?;
        let next = (last.max(taken) + 1).max(began.unwrap_or(0));
        let oldest = snapshot.redo(0, 1)?.into_iter().next();
        let (first, gone_bytes) = match &oldest {
            Some((sequence, row)) => (*sequence, entry_of(row)?.0),
            None => (next, 0),
        };
        let newest = snapshot.redo(last.saturating_sub(1), 1)?.into_iter().next();
        let all_bytes = match newest {
            Some((_, row)) => {
                let (before, entry) = entry_of(&row)?;
                before + entry.bytes(row.len())
            }
            None => 0,
        };
        Ok(Self {
            on: began.is_some(),
            first,
            next,
            gone_bytes,
            all_bytes,
            taken,
        })
    }

    /// What the log takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.all_bytes.saturating_sub(self.gone_bytes)
    }

    /// Appends an entry to the log: the write that does.
    pub(crate) fn append(&mut self, entry: &Entry) -> Write {
        let row = row_of(self.all_bytes, &entry.encode());
        self.all_bytes += entry.bytes(row.len());
        self.next += 1;
        Write::Redo {
            sequence: self.next - 1,
            row,
        }
    }

    /// What has to go with a group: rows that are not kept any more, or are too many.
    pub(crate) fn keep_small(
        &mut self,
        snapshot: &dyn Snapshot,
    ) -> Result<Vec<Write>, LedgerError> {
        if self.first >= self.next || self.on && self.bytes() <= BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut writes = self.trim(snapshot, self.next)?;
        if self.on && self.first > self.taken + 1 {
            // Nobody can go on from here, so there is no use in keeping any.
            tracing::warn!(
                "no backup has taken the last {} MiB of the redo log, so it is no longer kept: the next backup will \
                 be a whole one",
                BYTES_MAX >> 20
            );
            self.on = false;
            let empty = |name: String| Write::Meta {
                name,
                value: Vec::new(),
            };
            writes.push(empty(REDO.to_owned()));
            let chains = chains(snapshot)?.into_iter();
            writes.extend(chains.map(|(chain, _)| empty(chain_row(&chain))));
        }
        Ok(writes)
    }

    /// Removes some of the oldest rows below a sequence, and the `posted` rows that they hold.
    pub(crate) fn trim(
        &mut self,
        snapshot: &dyn Snapshot,
        below: u64,
    ) -> Result<Vec<Write>, LedgerError> {
        let mut writes = Vec::new();
        // A store that is asked for what the group itself writes does not know it yet.
        for (sequence, row) in snapshot.redo(self.first.saturating_sub(1), TRIM_ROWS)? {
            if sequence >= below.min(self.next) {
                break;
            }
            let (before, entry) = entry_of(&row)?;
            self.gone_bytes = before + entry.bytes(row.len());
            self.first = sequence + 1;
            writes.push(Write::DropRedo(sequence));
            writes.extend(entry.stale.into_iter().map(|at| Write::DropPosted { at }));
        }
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantId;
    use crate::backend::Home;

    #[test]
    fn entries_come_back_and_cut_ones_are_damage() {
        let at = |number, shard| Hit {
            number: Number(number),
            shard: Shard(shard),
        };
        let key = TimerKey {
            shard: Shard(3),
            due_ms: 9,
            id: [4; 16],
        };
        let outbox = OutboxKey {
            shard: Shard(3),
            due_ms: 9,
            id: [4; 16],
        };
        let entry = Entry {
            unix_ms: 1_700_000_000_000,
            through: Number(1 << 60),
            documents: vec![at(7, 1), at(8, 255), at(u64::MAX, 0)],
            stale: vec![at(6, 2), at(3, 2)],
            changes: vec![
                Change::Timer(Timer {
                    key,
                    tenant: TenantId(1),
                    consumer: 2,
                    payload: vec![1; 300],
                }),
                Change::DropTimer(key),
                Change::Outbox(OutboxRow {
                    key: outbox,
                    tenant: TenantId(1),
                    channel: 5,
                    attempt: 6,
                    sealed: vec![7; 40],
                }),
                Change::DropOutbox(outbox),
                Change::Cursor {
                    consumer: "follower".into(),
                    shard: Shard(9),
                    at: Number(8),
                },
                Change::Key(SubjectKey {
                    tenant: TenantId(1),
                    subject: [8; 16],
                    home: Home(None),
                }),
            ],
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        for length in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert_eq!(entry_of(&row_of(5, &bytes)).unwrap(), (5, entry));
    }
}

//! What a batch writes into rows that hold several things of one sort: lists of tokens, and events.

use std::collections::BTreeMap;

use super::events::{self, Repairs};
use super::listed::{self, Edits, Listed};
use super::postings::Change;
use super::rows::{decode_place, place_key, shard_key};
use super::{Tables, fault, view};
use crate::{Event, Hit, LedgerError, Number, Shard};

/// The lists of tokens that a batch changes.
#[derive(Default)]
pub(super) struct Lists {
    /// Those that come: of documents, and of documents of the audit.
    pub(super) come: [Listed; 2],
    pub(super) dropped: Vec<Hit>,
}

/// Lists in rows of their own.
#[derive(Default)]
pub(super) struct NewLists {
    /// Their postings.
    pub(super) changes: Vec<Change>,
    /// Their first and last number.
    pub(super) numbers: Option<(Number, Number)>,
}

impl NewLists {
    fn extend(&mut self, first: Number, last: Number) {
        let (from, to) = self.numbers.unwrap_or((first, last));
        self.numbers = Some((from.min(first), to.max(last)));
    }
}

impl Tables {
    /// The greatest number of a document.
    pub(super) fn last_document(&self) -> Result<Number, LedgerError> {
        match self.document.last_key_value() {
            Some(row) => Ok(decode_place(&row.key().map_err(fault)?, "document")?.number),
            None => Ok(Number(0)),
        }
    }

    /// Puts the lists of tokens that come into rows, and takes those that go out of theirs. `last` is the
    /// greatest number of a document that is there.
    pub(super) fn write_lists(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        lists: Lists,
        last: Number,
    ) -> Result<NewLists, LedgerError> {
        let view = self.database.snapshot();
        let mut edits = Edits::default();
        for at in lists.dropped {
            match view::listed_row(self, &view, at)? {
                Some((key, row)) => edits.row(key, &row)?.retain(|(place, _)| *place != at),
                None => batch.remove(&self.posted, place_key(at).as_slice()),
            }
        }
        let mut new = NewLists::default();
        for (audit, mut come) in listed::SORTS.into_iter().zip(lists.come) {
            come.sort_unstable_by_key(|(at, _)| *at);
            // In the order of numbers, but for repairs.
            let old = come.partition_point(|(at, _)| at.number <= last);
            for (at, tokens) in come.drain(..old) {
                match view::listed_around(self, &view, audit, at)? {
                    Some((key, row)) => {
                        let row = edits.row(key, &row)?;
                        row.retain(|(place, _)| *place != at);
                        let place = row.partition_point(|(place, _)| *place < at);
                        row.insert(place, (at, tokens));
                    }
                    None => {
                        let row = listed::encode(&[(at, tokens)]);
                        batch.insert(&self.listed, listed::key(audit, at).as_slice(), row);
                    }
                }
            }
            for documents in listed::rows(&come, audit) {
                let row = listed::encode(documents);
                listed::changes(&row, &mut new.changes)?;
                if let [(first, _), ..] = documents
                    && let [.., (end, _)] = documents
                {
                    new.extend(first.number, end.number);
                    batch.insert(&self.listed, listed::key(audit, *end).as_slice(), row);
                }
            }
        }
        for (old, new) in edits.finish() {
            if new.as_ref().is_none_or(|(key, _)| *key != old) {
                batch.remove(&self.listed, old.as_slice());
            }
            if let Some((key, row)) = new {
                batch.insert(&self.listed, key.as_slice(), row);
            }
        }
        Ok(new)
    }

    /// Puts events into rows. `last` is as for [`Tables::write_lists`].
    pub(super) fn write_events(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        events: Vec<Event>,
        last: Number,
    ) -> Result<(), LedgerError> {
        let mut come: BTreeMap<Shard, Vec<Event>> = BTreeMap::new();
        let mut repairs = Repairs::default();
        for event in events {
            if event.at.number > last {
                come.entry(event.at.shard).or_default().push(event);
                continue;
            }
            let from = events::key(event.at.shard, event.at.number);
            let to = events::key(event.at.shard, Number(u64::MAX));
            let around = (self.event.range(from..=to).next())
                .map(|guard| guard.into_inner().map_err(fault))
                .transpose()?;
            batch.remove(
                &self.event,
                shard_key(event.at.shard, event.at.number.0).as_slice(),
            );
            let around = around.as_ref();
            repairs.put(event, around.map(|(key, row)| (key.as_ref(), row.as_ref())))?;
        }
        for (shard, mut events) in come {
            events.sort_unstable_by_key(|event| event.at);
            for row in events::rows(&events) {
                if let [.., end] = row {
                    let key = events::key(shard, end.at.number);
                    batch.insert(&self.event, key.as_slice(), events::encode(row));
                }
            }
        }
        for (key, events) in repairs.0 {
            batch.insert(&self.event, key, events::encode(&events));
        }
        Ok(())
    }
}

//! What a batch writes into rows that hold several things of one sort: lists of tokens, and events.

use std::collections::BTreeMap;

use fjall::Readable;

use super::events::{self, Repairs};
use super::listed::{self, Edits, Listed};
use super::postings::Change;
use super::rows::{decode_place, place_key, posting_key, shard_key};
use super::{Tables, fault, view};
use crate::{Event, Hit, LedgerError, Number, Shard, Token};

/// The lists of tokens that a batch changes.
#[derive(Default)]
pub(super) struct Lists {
    /// Those that come: of documents, and of documents of the audit.
    pub(super) come: [Listed; 2],
    pub(super) dropped: Vec<Hit>,
}

/// The postings of a list of tokens.
pub(super) fn postings_of(at: Hit, tokens: &[Token]) -> impl Iterator<Item = Change> {
    tokens.iter().map(move |token| Change {
        key: posting_key(*token, at),
        dropped: false,
    })
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
            self.take_out(batch, &view, &mut edits, at)?;
        }
        let mut new = NewLists::default();
        let mut homeless: [Listed; 2] = Default::default();
        for (audit, mut come) in listed::SORTS.into_iter().zip(lists.come) {
            come.sort_unstable_by_key(|(at, _)| *at);
            // In the order of numbers, but for lists that take another's place, and repairs.
            let old = come.partition_point(|(at, _)| at.number <= last);
            for (at, tokens) in come.drain(..old) {
                let audit = self.take_out(batch, &view, &mut edits, at)? || audit;
                match view::listed_around(self, &view, audit, at)? {
                    Some((key, row)) => {
                        let row = edits.row(key, &row)?;
                        let place = row.partition_point(|(place, _)| *place < at);
                        row.insert(place, (at, tokens));
                    }
                    None => homeless[usize::from(audit)].push((at, tokens)),
                }
            }
            for documents in listed::rows(&come, audit) {
                let row = listed::encode(documents);
                for (at, tokens) in documents {
                    new.changes.extend(postings_of(*at, tokens));
                }
                if let [(first, _), ..] = documents
                    && let [.., (end, _)] = documents
                {
                    new.extend(first.number, end.number);
                    batch.insert(&self.listed, listed::key(audit, *end).as_slice(), row);
                }
            }
        }
        for (audit, homeless) in listed::SORTS.into_iter().zip(homeless) {
            self.house(batch, &view, audit, homeless)?;
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

    /// Takes a document's list of tokens out of wherever it lies, so that there is never a second one;
    /// whether it lay in a row of the audit's documents.
    fn take_out(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        view: &fjall::Snapshot,
        edits: &mut Edits,
        at: Hit,
    ) -> Result<bool, LedgerError> {
        let mut is_audit = false;
        for (audit, key, row) in view::listed_rows(self, view, at)? {
            edits.row(key, &row)?.retain(|(place, _)| *place != at);
            is_audit |= audit;
        }
        let key = place_key(at);
        if view.contains_key(&self.posted, key).map_err(fault)? {
            batch.remove(&self.posted, key.as_slice());
        }
        Ok(is_audit)
    }

    /// Puts lists that lie within no row into new ones. None of these may reach over one that is there: a
    /// list is looked for in the first row that ends at or behind its place.
    fn house(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        view: &fjall::Snapshot,
        audit: bool,
        mut homeless: Listed,
    ) -> Result<(), LedgerError> {
        homeless.sort_unstable_by_key(|(at, _)| *at);
        while let [(first, _), ..] = homeless.as_slice() {
            let next = view::listed_at(self, view, audit, *first)?.map(|(key, _)| key);
            let rest = homeless
                .partition_point(|(at, _)| next.is_none_or(|next| listed::key(audit, *at) <= next));
            let rest = homeless.split_off(rest);
            for documents in listed::rows(&homeless, audit) {
                if let [.., (end, _)] = documents {
                    let row = listed::encode(documents);
                    batch.insert(&self.listed, listed::key(audit, *end).as_slice(), row);
                }
            }
            homeless = rest;
        }
        Ok(())
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

#[cfg(test)]
impl super::FjallBackend {
    /// Gives a document one more list of tokens, where the first store formats had them.
    pub(crate) fn list_again(&self, at: Hit, tokens: &[crate::Token]) {
        let row = super::rows::encode_tokens(tokens);
        self.tables.posted.insert(place_key(at), row).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FjallBackend, listed as rows_of_lists};
    use crate::backend::{Backend, Head, HeadKey, Home, Snapshot, Table, Write};
    use crate::{Event, Hit, Kind, Number, Shard, TenantId, Token};

    const TENANT: TenantId = TenantId(1);

    fn at(number: u64) -> Hit {
        Hit {
            number: Number(number),
            shard: Shard(1),
        }
    }

    /// A document has its own token and one of all.
    fn tokens(number: u64) -> Vec<Token> {
        vec![Token(7), Token(number)]
    }

    fn event(number: u64, kind: u16) -> Event {
        Event {
            at: at(number),
            tenant: TENANT,
            kind: Kind(kind),
            version: 1,
            deleted: false,
            cause: None,
        }
    }

    fn document(number: u64, audit: bool) -> Vec<Write> {
        let mut writes = vec![Write::Document {
            at: at(number),
            row: vec![1],
        }];
        if !audit {
            writes.push(Write::Event(event(number, 3)));
        }
        let posting = |token| Write::Posting {
            token,
            at: at(number),
        };
        writes.extend(tokens(number).into_iter().map(posting));
        writes.push(Write::Posted {
            at: at(number),
            tokens: tokens(number),
        });
        let key = HeadKey {
            tenant: TENANT,
            id: [number as u8; 16],
            home: Home(None),
        };
        let head = Head {
            at: at(number),
            version: 1,
            deleted: false,
            audit,
        };
        writes.push(Write::Head(key, head));
        writes
    }

    fn drop_of(number: u64) -> Vec<Write> {
        let posting = |token| Write::DropPosting {
            token,
            at: at(number),
        };
        let mut writes: Vec<_> = tokens(number).into_iter().map(posting).collect();
        writes.push(Write::DropPosted { at: at(number) });
        writes
    }

    /// The numbers of all lists, page by page of two.
    fn listed(rows: &dyn Snapshot) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut after = None;
        loop {
            let page = rows.scan(Table::Posted, after.as_ref(), 2).unwrap();
            for row in &page {
                let Write::Posted { at, tokens } = row else {
                    panic!("{row:?}");
                };
                assert_eq!(*tokens, super::tests::tokens(at.number.0));
                numbers.push(at.number.0);
            }
            match page.last() {
                Some(last) if page.len() == 2 => after = Some(last.clone()),
                _ => break,
            }
        }
        numbers.sort_unstable();
        numbers
    }

    fn found(rows: &dyn Snapshot, token: u64) -> Vec<u64> {
        let newest = at(u64::MAX);
        let hits = rows.postings(Token(token), newest, Number(0), 100).unwrap();
        hits.iter().map(|hit| hit.number.0).collect()
    }

    fn fed(rows: &dyn Snapshot, after: u64, limit: usize) -> Vec<(u64, u16)> {
        let events = rows.events(Shard(1), Number(after), limit).unwrap();
        let said = |event: &Event| (event.at.number.0, event.kind.0);
        events.iter().map(said).collect()
    }

    #[test]
    fn what_lies_in_rows_of_several_goes_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FjallBackend::open(&folder.path().join("store"), 1 << 20).unwrap();
        let mut backend = Some(open());
        let together = [
            (10, false),
            (11, false),
            (12, false),
            (13, true),
            (14, false),
        ];
        let writes = together.map(|(number, audit)| document(number, audit));
        let apply = |backend: &Option<FjallBackend>, writes| {
            backend.as_ref().unwrap().apply(writes).unwrap();
        };
        apply(&backend, writes.concat());
        apply(&backend, document(20, false));
        // Each step also after opening again, when the postings come from the lists.
        let mut check = |writes: Vec<Write>, lists: &[u64], events: &[(u64, u16)]| {
            if !writes.is_empty() {
                apply(&backend, writes);
            }
            for _ in 0..2 {
                let rows = backend.as_ref().unwrap().snapshot();
                assert_eq!(listed(&*rows), lists);
                let newest: Vec<_> = lists.iter().rev().copied().collect();
                assert_eq!(found(&*rows, 7), newest);
                for number in 10..=20 {
                    let there = lists.contains(&number);
                    let own: &[u64] = if there { &[number] } else { &[] };
                    assert_eq!(found(&*rows, number), own);
                    let list = if there { tokens(number) } else { Vec::new() };
                    assert_eq!(rows.posted(at(number)).unwrap(), list);
                }
                assert_eq!(fed(&*rows, 0, 100), events);
                assert_eq!(fed(&*rows, 10, 2), events[1..3]);
                assert_eq!(rows.last_event(Shard(1)).unwrap(), Number(20));
                drop(rows);
                backend = None;
                backend = Some(open());
            }
        };
        let events = [(10, 3), (11, 3), (12, 3), (14, 3), (20, 3)];
        check(Vec::new(), &[10, 11, 12, 13, 14, 20], &events);
        check(drop_of(11), &[10, 12, 13, 14, 20], &events);
        check(drop_of(14), &[10, 12, 13, 20], &events);
        // As a repair puts them.
        let again = |number| {
            let posting = |token| Write::Posting {
                token,
                at: at(number),
            };
            let mut writes: Vec<_> = tokens(number).into_iter().map(posting).collect();
            writes.push(Write::Posted {
                at: at(number),
                tokens: tokens(number),
            });
            writes
        };
        let events = [(10, 3), (11, 4), (12, 3), (14, 3), (20, 3)];
        let repair = [again(11), vec![Write::Event(event(11, 4))]].concat();
        check(repair, &[10, 11, 12, 13, 20], &events);
        check(again(14), &[10, 11, 12, 13, 14, 20], &events);
        let gone = [10, 11, 12, 13, 14].map(drop_of).concat();
        check(gone, &[20], &events);
    }

    /// As token keys were once rotated: the earlier list stays among the audit's, or in a row of its own.
    #[test]
    fn of_several_lists_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let open = || FjallBackend::open(&folder.path().join("store"), 1 << 20).unwrap();
        let backend = open();
        let together = [
            (10, false),
            (11, false),
            (12, true),
            (13, true),
            (14, false),
        ];
        let writes = together.map(|(number, audit)| document(number, audit));
        backend.apply(writes.concat()).unwrap();
        backend.apply(document(20, false)).unwrap();
        let newer = |number| vec![Token(7), Token(number), Token(900)];
        let (key, _) = rows_of_lists::keys(false, (Number(14), Number(14)));
        let key = [&key[..10], &[1]].concat();
        let row = backend.tables.listed.get(&key).unwrap().unwrap();
        let mut documents = rows_of_lists::decode(&row).unwrap();
        documents.insert(2, (at(13), newer(13)));
        (backend
            .tables
            .listed
            .insert(&key, rows_of_lists::encode(&documents)))
        .unwrap();
        backend.list_again(at(11), &[Token(3)]);
        backend.list_again(at(20), &[Token(3)]);
        let pages = |backend: &FjallBackend, limit| {
            let rows = backend.snapshot();
            let mut lists = Vec::new();
            let mut after = None;
            loop {
                let page = rows.scan(Table::Posted, after.as_ref(), limit).unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                for row in page {
                    let Write::Posted { at, tokens } = row else {
                        panic!("{row:?}");
                    };
                    lists.push((at.number.0, tokens));
                }
            }
            lists
        };
        let numbers = |lists: &[(u64, Vec<Token>)]| -> Vec<u64> {
            lists.iter().map(|(number, _)| *number).collect()
        };
        for limit in 1..9 {
            let lists = pages(&backend, limit);
            assert_eq!(numbers(&lists), [10, 11, 11, 12, 13, 13, 14, 20, 20]);
            // The one that counts comes first.
            for pair in lists.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                assert_eq!(backend.snapshot().posted(at(pair[0].0)).unwrap(), pair[0].1);
            }
        }
        // Another in their place, and they go.
        let put = |number| Write::Posted {
            at: at(number),
            tokens: newer(number),
        };
        backend.apply(vec![put(13), put(11), put(12)]).unwrap();
        backend
            .apply(vec![Write::DropPosted { at: at(20) }])
            .unwrap();
        drop(backend);
        let backend = open();
        for limit in 1..9 {
            let lists = pages(&backend, limit);
            assert_eq!(numbers(&lists), [10, 11, 12, 13, 14]);
            for (number, tokens) in lists
                .into_iter()
                .filter(|(number, _)| (11..14).contains(number))
            {
                assert_eq!(tokens, newer(number));
            }
        }
        // Each among its like: what is superseded is not written anew with what never is.
        let (from, to) = rows_of_lists::keys(true, (Number(0), Number(u64::MAX)));
        let audits = backend.tables.listed.range(from..=to);
        let audits: Vec<u64> = audits
            .flat_map(|row| rows_of_lists::decode(&row.value().unwrap()).unwrap())
            .map(|(at, _)| at.number.0)
            .collect();
        assert_eq!(audits, [12, 13]);
    }

    /// Lists that come when there is none share rows, and none of these hides what lies between.
    #[test]
    fn lists_without_a_row_are_housed_between_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let backend = FjallBackend::open(&folder.path().join("store"), 1 << 20).unwrap();
        for number in 10..30 {
            let mut writes = document(number, false);
            if ![15, 16, 22].contains(&number) {
                writes.retain(|write| !matches!(write, Write::Posted { .. }));
            }
            backend.apply(writes).unwrap();
        }
        assert_eq!(listed(&*backend.snapshot()), [15, 16, 22]);
        let there = [15, 16, 22];
        let missing = (10..30).filter(|number| !there.contains(number));
        let put = |number| Write::Posted {
            at: at(number),
            tokens: tokens(number),
        };
        backend.apply(missing.map(put).collect()).unwrap();
        let rows = backend.snapshot();
        assert_eq!(listed(&*rows), Vec::from_iter(10..30));
        for number in 10..30 {
            assert_eq!(rows.posted(at(number)).unwrap(), tokens(number));
        }
        let (from, to) = rows_of_lists::keys(false, (Number(0), Number(u64::MAX)));
        // Three of old, and what lay before, between, and behind them.
        assert_eq!(backend.tables.listed.range(from..=to).count(), 3 + 3);
    }
}

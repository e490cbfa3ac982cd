//! Postings that are not in their table yet.
//!
//! A posting as a journal entry of its own costs more than its 18 bytes: opening after a crash reads
//! the journal entry by entry, and there are some twenty postings a document. So the postings of a
//! batch are one *fresh row*, and a sorted run in memory; when enough have gathered, they are written
//! into their table in bulk, and the fresh rows go.

use std::sync::Arc;

use super::filter::Filter;
use crate::codec::{Decoder, put_varint};
use crate::{LedgerError, Number, Token};

/// The row key of a posting: token, complement of the number, shard.
pub(super) type PostingKey = [u8; 18];

/// A posting that came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: PostingKey,
    pub(super) dropped: bool,
}

/// A key as numbers: their order is that of the bytes, and comparing them takes no call. There are millions
/// of comparisons a second in a load.
pub(super) fn rank(key: &PostingKey) -> (u128, u16) {
    let [head @ .., first, second] = *key;
    (
        u128::from_be_bytes(head),
        u16::from_be_bytes([first, second]),
    )
}

impl Change {
    fn token(&self) -> Token {
        Token((rank(&self.key).0 >> 64) as u64)
    }

    /// [`rank`] of the key.
    pub(super) fn rank(&self) -> (u128, u16) {
        rank(&self.key)
    }
}

/// Changes in the order of their keys, each key once.
pub(super) type Run = Arc<Vec<Change>>;

const ROW: &str = "fresh";
/// How a row begins that has each token once. Rows of store format 1 have the token beside each change
/// and begin with the number of places, which is never zero.
const BY_TOKEN: u8 = 0;
/// How a row goes on that names the documents whose lists of tokens are the rest of its postings. Rows
/// of store format 2 go on with a number of places, which is never zero there.
const WITH_LISTS: u8 = 0;

fn damaged() -> LedgerError {
    LedgerError::Damaged(format!("a {ROW} row does not decode"))
}

/// What a fresh row says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FreshRow {
    /// The first and the last number of documents whose postings are those of their lists of tokens.
    pub(super) listed: Option<(Number, Number)>,
    /// All others, in order.
    pub(super) run: Vec<Change>,
}

/// The bytes of a fresh row: two zeros; the first number whose lists belong to it and how much greater
/// the last is, both zero if there is none; then the places of other changes once, then each token of
/// these once, with how many changes it has and, for each, its place's index and whether it was dropped.
pub(super) fn encode(listed: Option<(Number, Number)>, run: &[Change]) -> Vec<u8> {
    let mut places: Vec<&[u8]> = run.iter().map(|change| &change.key[8..]).collect();
    places.sort_unstable();
    places.dedup();
    let mut out = Vec::with_capacity(4 + places.len() * 10 + run.len() * 6);
    out.extend_from_slice(&[BY_TOKEN, WITH_LISTS]);
    let (first, last) = listed.map_or((0, 0), |(first, last)| (first.0, last.0));
    put_varint(&mut out, first);
    put_varint(&mut out, last - first);
    put_varint(&mut out, places.len() as u64);
    for place in &places {
        out.extend_from_slice(place);
    }
    for changes in run.chunk_by(|a, b| a.key[..8] == b.key[..8]) {
        out.extend_from_slice(&changes[0].key[..8]);
        put_varint(&mut out, changes.len() as u64);
        for change in changes {
            // It is there: the list was made of all of them.
            let place = places.partition_point(|place| *place < &change.key[8..]);
            put_varint(&mut out, (place as u64) << 1 | u64::from(change.dropped));
        }
    }
    out
}

/// Takes a fresh row apart.
pub(super) fn decode(bytes: &[u8]) -> Result<FreshRow, LedgerError> {
    let by_token = bytes.first() == Some(&BY_TOKEN);
    let with_lists = bytes.starts_with(&[BY_TOKEN, WITH_LISTS]);
    let begun = usize::from(by_token) + usize::from(with_lists);
    let mut decoder = Decoder::new(&bytes[begun..], ROW);
    let mut listed = None;
    if with_lists {
        let (first, more) = (decoder.varint()?, decoder.varint()?);
        let last = first.checked_add(more).ok_or_else(damaged)?;
        listed = (first > 0).then_some((Number(first), Number(last)));
    }
    let count: usize = decoder.small()?;
    let places = decoder.bytes(count.checked_mul(10).ok_or_else(damaged)?)?;
    let mut run: Vec<Change> = Vec::with_capacity(decoder.remaining() / 4);
    while decoder.remaining() > 0 {
        let mut key = [0; 18];
        key[..8].copy_from_slice(decoder.bytes(8)?);
        let changes = if by_token { decoder.varint()? } else { 1 };
        for _ in 0..changes {
            let place = decoder.varint()?;
            let index = usize::try_from(place >> 1).map_err(|_| damaged())?;
            let place_bytes = places.chunks_exact(10).nth(index).ok_or_else(damaged)?;
            key[8..].copy_from_slice(place_bytes);
            if run.last().is_some_and(|last| last.rank() >= rank(&key)) {
                return Err(damaged());
            }
            run.push(Change {
                key,
                dropped: place & 1 != 0,
            });
        }
    }
    Ok(FreshRow { listed, run })
}

/// Changes in any order as a run; of several of one key the last stands.
pub(super) fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(Change::rank);
    changes.reverse();
    changes.dedup_by_key(|change| change.key);
    changes.reverse();
    changes
}

/// The changes of a run that are not in another.
pub(super) fn without(run: &[Change], other: &[Change]) -> Vec<Change> {
    let mut other = other.iter().peekable();
    let is_other = |change: &&Change| {
        while other.next_if(|next| next.rank() < change.rank()).is_some() {}
        other.peek() == Some(change)
    };
    let mut is_other = is_other;
    run.iter()
        .filter(|change| !is_other(change))
        .copied()
        .collect()
}

/// Two runs as one; what the newer says of a key holds.
fn merge(older: &[Change], newer: &[Change]) -> Vec<Change> {
    let mut out = Vec::with_capacity(older.len() + newer.len());
    let (mut old, mut new) = (older.iter().peekable(), newer.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) => match a.rank().cmp(&b.rank()) {
                std::cmp::Ordering::Less => out.extend(old.next()),
                std::cmp::Ordering::Greater => out.extend(new.next()),
                std::cmp::Ordering::Equal => {
                    old.next();
                    out.extend(new.next());
                }
            },
            (Some(_), None) => {
                out.extend(old);
                return out;
            }
            (None, _) => {
                out.extend(new);
                return out;
            }
        }
    }
}

/// All runs as one, the oldest first. Neighbours are merged two by two, so that each change is copied a
/// few times only.
pub(super) fn merge_all(runs: &[Run]) -> Run {
    match runs {
        [] => Run::default(),
        [run] => Arc::clone(run),
        _ => {
            let (older, newer) = runs.split_at(runs.len() / 2);
            Arc::new(merge(&merge_all(older), &merge_all(newer)))
        }
    }
}

/// The part of a run whose keys are in an inclusive range.
pub(super) fn range<'a>(run: &'a [Change], from: &PostingKey, to: &PostingKey) -> &'a [Change] {
    let (from, to) = (rank(from), rank(to));
    let rest = &run[run.partition_point(|change| change.rank() < from)..];
    // Most tokens have few postings, so the end is near: it is looked for in steps that double.
    let mut reach = 1;
    while rest.get(reach).is_some_and(|change| change.rank() <= to) {
        reach *= 2;
    }
    let rest = &rest[..rest.len().min(reach)];
    &rest[..rest.partition_point(|change| change.rank() <= to)]
}

/// Runs, oldest first, and which tokens they may have.
#[derive(Clone)]
pub(super) struct Runs {
    runs: Vec<Run>,
    filter: Arc<Filter>,
}

impl Runs {
    /// No runs yet, and room for about so many changes.
    fn new(changes: usize) -> Self {
        Self {
            runs: Vec::new(),
            filter: Arc::new(Filter::new(changes)),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Run] {
        &self.runs
    }

    /// All of them, if a token may have changes here.
    pub(super) fn of(&self, token: Token) -> &[Run] {
        if self.filter.may_have(token) {
            &self.runs
        } else {
            &[]
        }
    }

    /// False only for a token that has no changes here.
    pub(super) fn may_have(&self, token: Token) -> bool {
        self.filter.may_have(token)
    }

    fn push(&mut self, run: Run) {
        for changes in run.chunk_by(|a, b| a.key[..8] == b.key[..8]) {
            self.filter.insert(changes[0].token());
        }
        self.runs.push(run);
    }
}

/// The first `limit` keys of a table's range under the changes of `runs`, oldest run first. Reads no
/// more of the table than it needs.
pub(super) fn merged<K: AsRef<[u8]>>(
    table: impl Iterator<Item = Result<K, LedgerError>>,
    runs: &[&[Change]],
    limit: usize,
) -> Result<Vec<PostingKey>, LedgerError> {
    let mut table = table.map(|key| {
        PostingKey::try_from(key?.as_ref())
            .map_err(|_| LedgerError::Damaged("a posting row does not decode".into()))
    });
    if runs.is_empty() {
        return table.take(limit).collect();
    }
    let mut rest = runs.to_vec();
    let mut next = table.next().transpose()?;
    let mut out = Vec::new();
    while out.len() < limit {
        let in_runs = rest
            .iter()
            .filter_map(|run| run.first())
            .map(|change| change.key);
        let Some(key) = in_runs.chain(next).min() else {
            break;
        };
        let mut there = next == Some(key);
        if there {
            next = table.next().transpose()?;
        }
        // From old to new, so that the newest has the last word.
        for run in &mut rest {
            if let Some((change, after)) = run.split_first()
                && change.key == key
            {
                there = !change.dropped;
                *run = after;
            }
        }
        if there {
            out.push(key);
        }
    }
    Ok(out)
}

/// The runs in memory and the fresh rows that hold them.
pub(super) struct Fresh {
    /// Being written into the table; oldest first.
    frozen: Runs,
    /// Oldest first; each is at least twice as long as the next or so long that merging the two would
    /// keep a commit waiting, so there are few.
    active: Runs,
    /// How many changes `active` holds.
    active_len: usize,
    /// How many changes `active` holds before they are written into the table. A run has at most a
    /// quarter of them: merging is done while a commit waits.
    bound: usize,
    /// Fresh rows below have gone from the store.
    gone: u64,
    /// Fresh rows below are in the table, and can go.
    written: u64,
    /// Fresh rows below are in `frozen`.
    frozen_until: u64,
    /// The number of the next fresh row.
    next: u64,
    /// How often something was written into the table.
    table: u64,
    /// Why what is frozen could not be written, if so.
    pub(super) fault: Option<String>,
    /// Nothing more is to be written into the table.
    pub(super) closing: bool,
}

impl Fresh {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            frozen: Runs::new(0),
            active: Runs::new(bound),
            active_len: 0,
            bound,
            gone: 0,
            written: 0,
            frozen_until: 0,
            next: 0,
            table: 0,
            fault: None,
            closing: false,
        }
    }

    /// Takes what the fresh rows of a store hold, oldest first.
    pub(super) fn load(&mut self, rows: std::ops::Range<u64>, runs: impl IntoIterator<Item = Run>) {
        (self.gone, self.written, self.frozen_until) = (rows.start, rows.start, rows.start);
        for run in runs {
            self.push(run);
        }
        self.next = rows.end;
    }

    /// How long a run gets by being merged with others.
    pub(super) fn longest_run(&self) -> usize {
        self.bound / 4
    }

    /// The number of the next fresh row.
    pub(super) fn next_row(&self) -> u64 {
        self.next
    }

    /// Takes the run of the next fresh row, which is durable.
    pub(super) fn push(&mut self, run: Run) {
        self.next += 1;
        self.active_len += run.len();
        self.active.push(run);
        let longest = self.longest_run();
        let runs = &mut self.active.runs;
        while let [.., older, newer] = runs.as_slice()
            && older.len() < 2 * newer.len()
            && older.len() + newer.len() <= longest
        {
            let merged = Arc::new(merge(older, newer));
            runs.truncate(runs.len() - 2);
            runs.push(merged);
        }
    }

    /// All runs; those that are being written into the table are the older ones.
    pub(super) fn runs(&self) -> [Runs; 2] {
        [self.frozen.clone(), self.active.clone()]
    }

    /// Whether so much waits for the table that no more should come.
    pub(super) fn is_crowded(&self) -> bool {
        self.active_len >= 2 * self.bound
    }

    /// Whether something is on its way into the table.
    pub(super) fn is_frozen(&self) -> bool {
        !self.frozen.runs.is_empty()
    }

    /// Whether there is enough to be written into the table and nothing is on its way.
    pub(super) fn is_due(&self) -> bool {
        !self.is_frozen() && self.active_len >= self.bound
    }

    /// What is to be written into the table, oldest first; the same again until [`Fresh::thaw`].
    pub(super) fn freeze(&mut self) -> Vec<Run> {
        if !self.is_frozen() && !self.active.runs.is_empty() {
            self.frozen = std::mem::replace(&mut self.active, Runs::new(self.bound));
            self.active_len = 0;
            self.frozen_until = self.next;
        }
        self.frozen.runs.clone()
    }

    /// What was frozen is in the table, durably.
    pub(super) fn thaw(&mut self) -> Runs {
        self.written = self.frozen_until;
        self.table += 1;
        std::mem::replace(&mut self.frozen, Runs::new(0))
    }

    /// Which state of the table is the last that is whole.
    pub(super) fn table(&self) -> u64 {
        self.table
    }

    /// Fresh rows that can go, at most `limit`.
    pub(super) fn spent(&self, limit: u64) -> std::ops::Range<u64> {
        self.gone..self.written.min(self.gone.saturating_add(limit))
    }

    /// Fresh rows below `until` have gone from the store.
    pub(super) fn removed(&mut self, until: u64) {
        self.gone = self.gone.max(until);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(token: u8, number: u8) -> PostingKey {
        let mut key = [0; 18];
        (key[7], key[15]) = (token, number);
        key
    }

    fn run(changes: &[(u8, u8, bool)]) -> Vec<Change> {
        let mut run: Vec<Change> = changes
            .iter()
            .map(|&(token, number, dropped)| Change {
                key: key(token, number),
                dropped,
            })
            .collect();
        run.sort_by_key(|change| change.key);
        run.dedup_by_key(|change| change.key);
        run
    }

    fn changes() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
        prop::collection::vec((0..4u8, 0..12u8, any::<bool>()), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Whatever has come and gone, in memory and in the table, a page is what a plain set holds.
        #[test]
        fn a_page_is_what_a_set_holds(
            batches in prop::collection::vec(changes(), 1..12),
            bound in 1..20usize,
            limit in 1..8usize,
        ) {
            let mut fresh = Fresh::new(bound);
            let mut table = BTreeSet::new();
            let mut model = BTreeSet::new();
            for batch in &batches {
                let run = run(batch);
                for change in &run {
                    if change.dropped {
                        model.remove(&change.key);
                    } else {
                        model.insert(change.key);
                    }
                }
                let row = decode(&encode(None, &run)).unwrap();
                prop_assert_eq!((row.listed, &row.run), (None, &run));
                fresh.push(Arc::new(run));
                // As the writer of the table does, at times one step late.
                if fresh.is_due() {
                    for change in merge_all(&fresh.freeze()).iter() {
                        if change.dropped {
                            table.remove(&change.key);
                        } else {
                            table.insert(change.key);
                        }
                    }
                    if batch.len() % 2 == 0 {
                        fresh.thaw();
                    }
                } else if fresh.is_frozen() {
                    fresh.thaw();
                }
                for token in 0..4 {
                    let (from, to) = (key(token, 2), key(token, 10));
                    let runs = fresh.runs();
                    let parts: Vec<_> = (runs.iter())
                        .flat_map(|runs| runs.of(Token(token.into())))
                        .map(|run| range(run, &from, &to))
                        .collect();
                    let found =
                        merged(table.range(from..=to).map(Ok), &parts, limit).unwrap();
                    let expected: Vec<_> = model.range(from..=to).take(limit).copied().collect();
                    prop_assert_eq!(found, expected);
                }
            }
            let rows = fresh.next_row();
            prop_assert_eq!(rows, batches.len() as u64);
            prop_assert!(fresh.spent(u64::MAX).end <= rows);
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_damage() {
        let good = encode(None, &run(&[(1, 1, false), (1, 2, true), (2, 1, false)]));
        assert_eq!(decode(&good).unwrap().run.len(), 3);
        // Five bytes, two places, a token with two changes, a token with one.
        assert_eq!(good.len(), 5 + 2 * 10 + 8 + 1 + 2 + 8 + 1 + 1);
        for cut in 1..good.len() {
            // Only a cut after a whole token leaves a row that could have been written.
            let whole = [25, 36].contains(&cut);
            assert_eq!(decode(&good[..cut]).is_ok(), whole, "{cut}");
        }
        let mut unordered = good.clone();
        unordered[32] = 9;
        assert!(decode(&unordered).is_err());
        let mut elsewhere = good;
        *elsewhere.last_mut().unwrap() = 90;
        assert!(decode(&elsewhere).is_err());
        assert!(decode(&[]).is_err());
        assert!(decode(&[0xff; 12]).is_err());
    }

    #[test]
    fn rows_name_the_lists_that_belong_to_them() {
        for listed in [
            None,
            Some((Number(7), Number(7))),
            Some((Number(1), Number(u64::MAX))),
        ] {
            for changes in [run(&[]), run(&[(1, 1, true)])] {
                let row = decode(&encode(listed, &changes)).unwrap();
                assert_eq!(
                    row,
                    FreshRow {
                        listed,
                        run: changes
                    }
                );
            }
        }
    }

    #[test]
    fn what_is_listed_is_left_out() {
        let all = run(&[(1, 1, false), (1, 2, true), (2, 1, false), (3, 3, false)]);
        let listed = run(&[(1, 1, false), (2, 0, false), (3, 3, false)]);
        assert_eq!(without(&all, &listed), run(&[(1, 2, true), (2, 1, false)]));
        assert_eq!(without(&all, &[]), all);
        assert_eq!(without(&[], &all), []);
        let (gone, come) = (run(&[(1, 1, true)]), run(&[(1, 1, false)]));
        assert_eq!(sorted([gone, come.clone()].concat()), come);
    }

    #[test]
    fn rows_of_format_2_are_read() {
        let mut row = vec![0, 1];
        row.extend_from_slice(&key(0, 1)[8..]);
        row.extend_from_slice(&key(1, 0)[..8]);
        row.extend_from_slice(&[1, 0]);
        let row = decode(&row).unwrap();
        assert_eq!((row.listed, row.run), (None, run(&[(1, 1, false)])));
    }

    #[test]
    fn rows_of_format_1_are_read() {
        let mut row = vec![2];
        row.extend_from_slice(&key(0, 1)[8..]);
        row.extend_from_slice(&key(0, 2)[8..]);
        for (token, place) in [(1, 0), (1, 1 << 1 | 1), (2, 1 << 1)] {
            row.extend_from_slice(&key(token, 0)[..8]);
            row.push(place);
        }
        let changes = decode(&row).unwrap().run;
        assert_eq!(changes, run(&[(1, 1, false), (1, 2, true), (2, 2, false)]));
    }

    #[test]
    fn rows_go_once_they_are_in_the_table() {
        let mut fresh = Fresh::new(2);
        let runs = [run(&[(1, 1, false)]), run(&[(1, 2, false)])];
        fresh.load(7..9, runs.map(Arc::new));
        assert_eq!((fresh.next_row(), fresh.spent(9)), (9, 7..7));
        assert!(fresh.is_due());
        assert_eq!(merge_all(&fresh.freeze()).len(), 2);
        fresh.push(Arc::new(run(&[(1, 3, false)])));
        assert!(!fresh.is_due() && fresh.spent(9).is_empty());
        fresh.thaw();
        assert_eq!((fresh.spent(1), fresh.spent(9)), (7..8, 7..9));
        fresh.removed(8);
        assert_eq!(fresh.spent(9), 8..9);
        assert_eq!(fresh.active.all().len(), 1);
    }
}

//! Where lists begin in the table of postings.
//!
//! Finding the beginning of a list is a look into all of the table's files, some 0.1 ms in a large store,
//! and a range of a query is up to hundreds of lists, most of them empty or short. The table only changes
//! when what has gathered in memory is written into it in bulk, so what was found stays true until then,
//! and for lists that this writing doesn't touch even longer. Postings in memory aren't looked up here.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::postings::PostingKey;
use crate::Token;

/// Postings that are kept of a list: a page of 20 and some that the check turns down.
pub(super) const PAGE: usize = if cfg!(test) { 4 } else { 32 };
/// Bytes of the block cache for each of the lists that are kept: 16,384 of them with the default of 256 MiB,
/// at most some 6 MB. When half of these are new, those that nobody asked for meanwhile are forgotten.
const CACHE_BYTES_A_LIST: u64 = if cfg!(test) { 64 } else { 16 << 10 };

/// The number's complement and the shard, as in the key.
type Place = [u8; 10];

/// How a list begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    places: Box<[Place]>,
    /// Whether that is all of it.
    is_whole: bool,
}

impl Beginning {
    /// Of the first keys of a list: [`PAGE`] of them, or all that there are.
    pub(super) fn of(keys: &[PostingKey]) -> Self {
        let place = |key: &PostingKey| {
            let [_, _, _, _, _, _, _, _, place @ ..] = *key;
            place
        };
        Self {
            places: keys.iter().map(place).collect(),
            is_whole: keys.len() < PAGE,
        }
    }

    /// Its keys in an inclusive range, and where one has to look for the rest; `None` for neither if the
    /// range begins behind what is known.
    pub(super) fn range(
        &self,
        token: Token,
        from: &PostingKey,
        to: &PostingKey,
    ) -> Option<(Vec<PostingKey>, Option<PostingKey>)> {
        let key = |place: &Place| {
            let mut key = [0; 18];
            key[..8].copy_from_slice(&token.0.to_be_bytes());
            key[8..].copy_from_slice(place);
            key
        };
        let begin = self.places.partition_point(|place| key(place) < *from);
        let rest = &self.places[begin..];
        if rest.is_empty() && !self.is_whole {
            return None;
        }
        let within = &rest[..rest.partition_point(|place| key(place) <= *to)];
        let last = within.last().map(key);
        let ends_here = self.is_whole || within.len() < rest.len();
        Some((
            within.iter().map(key).collect(),
            last.filter(|_| !ends_here),
        ))
    }
}

#[derive(Default)]
struct Kept {
    /// Which state of the table it is that they are of.
    table: u64,
    new: HashMap<Token, Arc<Beginning>>,
    old: HashMap<Token, Arc<Beginning>>,
}

/// Beginnings of lists, for those who see the table as it is now.
pub(super) struct Beginnings {
    kept: RwLock<Kept>,
    /// The most of each of the two halves.
    most: usize,
}

impl Beginnings {
    pub(super) fn new(cache_bytes: u64) -> Self {
        let half = cache_bytes / CACHE_BYTES_A_LIST / 2;
        Self {
            kept: RwLock::default(),
            most: usize::try_from(half).unwrap_or(usize::MAX).max(1),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a state of the table is the newest.
    pub(super) fn is_now(&self, table: u64) -> bool {
        self.read().table == table
    }

    /// The beginning of a list in a state of the table, if it is known.
    pub(super) fn get(&self, table: u64, token: Token) -> Option<Arc<Beginning>> {
        let (beginning, is_old) = {
            let kept = self.read();
            if kept.table != table {
                return None;
            }
            match kept.new.get(&token) {
                Some(one) => (Arc::clone(one), false),
                None => (Arc::clone(kept.old.get(&token)?), true),
            }
        };
        if is_old {
            self.put(table, token, Arc::clone(&beginning));
        }
        Some(beginning)
    }

    /// Keeps a beginning that was read in a state of the table, if that is what it is now.
    pub(super) fn put(&self, table: u64, token: Token, beginning: Arc<Beginning>) {
        let mut kept = self.write();
        if kept.table != table {
            return;
        }
        if kept.new.len() >= self.most {
            kept.old = mem::take(&mut kept.new);
        }
        kept.new.insert(token, beginning);
    }

    /// The table has come to another state, with new postings of those tokens that `changed` is true of, and
    /// maybe of others that it isn't false of.
    pub(super) fn renew(&self, table: u64, changed: impl Fn(Token) -> bool) {
        let mut kept = self.write();
        kept.table = table;
        kept.new.retain(|token, _| !changed(*token));
        kept.old.retain(|token, _| !changed(*token));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backend::{Backend, Snapshot, Write};
    use crate::embedded::FjallBackend;
    use crate::{Hit, Number, Shard};

    fn key(token: u64, place: u8) -> PostingKey {
        let mut key = [0; 18];
        key[..8].copy_from_slice(&token.to_be_bytes());
        key[17] = place;
        key
    }

    /// Keys, and where the rest begins.
    type Expected<'a> = Option<(&'a [PostingKey], Option<PostingKey>)>;

    #[test]
    fn a_range_of_a_list_is_known_as_far_as_it_was_read() {
        let (most, token) = (u8::try_from(PAGE).unwrap(), Token(7));
        let keys: Vec<PostingKey> = (1..=most).map(|place| key(7, place)).collect();
        let last = *keys.last().unwrap();
        let (all, few) = (Beginning::of(&keys), Beginning::of(&keys[..3]));
        let table: [(&Beginning, u8, u8, Expected<'_>); 8] = [
            (&all, 0, 255, Some((&keys, Some(last)))),
            (&all, 2, 255, Some((&keys[1..], Some(last)))),
            (&all, 2, 3, Some((&keys[1..3], None))),
            (&all, most, most, Some((&keys[PAGE - 1..], Some(last)))),
            (&all, most + 1, 255, None),
            (&few, 2, 255, Some((&keys[1..3], None))),
            (&few, 4, 255, Some((&[], None))),
            (&Beginning::of(&[]), 0, 255, Some((&[], None))),
        ];
        for (beginning, from, to, expected) in table {
            let found = beginning.range(token, &key(7, from), &key(7, to));
            let expected = expected.map(|(keys, rest)| (keys.to_vec(), rest));
            assert_eq!(found, expected, "{from} to {to}");
        }
    }

    #[test]
    fn only_who_sees_the_table_as_it_is_takes_part() {
        let known = Beginnings::new(0);
        let one = |token| Arc::new(Beginning::of(&[key(token, 1)]));
        known.put(0, Token(1), one(1));
        known.put(1, Token(2), one(2));
        assert!(known.get(0, Token(1)).is_some());
        assert!(known.get(1, Token(1)).is_none());
        assert!(known.get(0, Token(2)).is_none());
        known.put(0, Token(3), one(3));
        known.renew(1, |token| token == Token(3));
        assert!(known.get(0, Token(1)).is_none());
        assert_eq!(known.get(1, Token(1)), Some(one(1)));
        assert!(known.get(1, Token(3)).is_none());
    }

    #[test]
    fn what_is_asked_for_again_is_kept() {
        let known = Beginnings::new(8 * CACHE_BYTES_A_LIST);
        let beginning = Arc::new(Beginning::of(&[]));
        for token in 0..1000 {
            known.put(0, Token(token), Arc::clone(&beginning));
            assert!(known.get(0, Token(0)).is_some());
        }
        let kept = known.read();
        assert!(kept.new.len() + kept.old.len() <= 8);
    }

    /// Numbers that look random, the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = (self.0.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    type Model = BTreeSet<(u64, u64)>;

    fn check(snapshot: &dyn Snapshot, model: &Model, dice: &mut Dice) {
        let token = dice.below(12);
        let (from, since) = match dice.below(3) {
            0 => (dice.below(60), dice.below(60)),
            1 => (dice.below(60), 0),
            _ => (u64::MAX, 0),
        };
        let limit = dice.below(9) as usize;
        let at = |number| Hit {
            number: Number(number),
            shard: Shard(0),
        };
        let found = snapshot
            .postings(Token(token), at(from), Number(since), limit)
            .unwrap();
        let of_token = (model.iter()).filter(|(of, number)| {
            *of == token && (since..=from.max(since)).contains(number) && *number <= from
        });
        let expected: Vec<Hit> = of_token
            .map(|(_, number)| at(*number))
            .rev()
            .take(limit)
            .collect();
        assert_eq!(
            found, expected,
            "{token} from {from} since {since}: {limit}"
        );
    }

    /// Lists change while the table is written, and views of before and after each change are asked in turn:
    /// each shows what was there when it was made.
    #[test]
    fn every_view_finds_what_was_there_when_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let backend = FjallBackend::open(folder.path(), 2048).unwrap();
        let mut dice = Dice(7);
        let mut model = Model::new();
        let mut held: Vec<(Box<dyn Snapshot>, Model)> = Vec::new();
        for step in 0..1500 {
            let mut writes = Vec::new();
            for _ in 0..dice.below(12) {
                // Some lists are there from the beginning and never change, some change seldom.
                let token = [dice.below(12), dice.below(4)][usize::from(step > 30)];
                let (number, token_of) = (1 + dice.below(50), Token(token));
                let at = Hit {
                    number: Number(number),
                    shard: Shard(0),
                };
                if dice.below(3) == 0 && model.remove(&(token, number)) {
                    writes.push(Write::DropPosting {
                        token: token_of,
                        at,
                    });
                } else if model.insert((token, number)) {
                    writes.push(Write::Posting {
                        token: token_of,
                        at,
                    });
                }
                // A batch says one thing of a place.
                if !writes.is_empty() {
                    backend.apply(std::mem::take(&mut writes)).unwrap();
                }
            }
            if dice.below(20) == 0 {
                let mut fresh = backend.tables.fresh();
                while fresh.is_frozen() {
                    fresh = backend.tables.fresh_changed.wait(fresh).unwrap();
                }
            }
            held.push((backend.snapshot(), model.clone()));
            if held.len() > 4 {
                held.swap_remove(dice.below(5) as usize);
            }
            for _ in 0..8 {
                let which = dice.below(held.len() as u64) as usize;
                let (snapshot, model) = &held[which];
                check(&**snapshot, model, &mut dice);
            }
        }
        assert!(backend.tables.fresh().table() > 20);
        let kept = backend.tables.beginnings.read();
        assert!(kept.new.len() + kept.old.len() > 0);
    }

    /// Who looks while the table is being written sees what those before must not see.
    #[test]
    fn nothing_is_kept_while_the_table_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let backend = FjallBackend::open(folder.path(), 1 << 20).unwrap();
        let at = |number| Hit {
            number: Number(number),
            shard: Shard(0),
        };
        let put = |number| {
            let token = Token(1);
            let at = at(number);
            backend.apply(vec![Write::Posting { token, at }]).unwrap();
        };
        let found = |snapshot: &dyn Snapshot| {
            let found = snapshot.postings(Token(1), at(u64::MAX), Number(0), 9);
            found.unwrap()
        };
        put(1);
        let before = backend.snapshot();
        put(2);
        let runs = backend.tables.fresh().freeze();
        let run = crate::embedded::postings::merge_all(&runs);
        backend.tables.write_postings(&run).unwrap();
        let meanwhile = backend.snapshot();
        assert_eq!(found(&*meanwhile), [at(2), at(1)]);
        assert_eq!(found(&*before), [at(1)]);
    }
}

//! The lists of tokens of newest versions, those of several documents in one row.
//!
//! Documents that are written together share most of their tokens, so a row names each token once and
//! says which of its documents have it. Documents of the audit have rows apart: they are never
//! superseded, while each superseded document is taken out of its row, which goes with the last of them.

use std::collections::BTreeMap;

use super::postings::Change;
use super::rows::posting_key;
use crate::codec::{Decoder, put_varint};
use crate::{Hit, LedgerError, Number, Shard, Token};

const ROW: &str = "listed";
/// The most documents of a row: whoever supersedes one of them writes the others anew.
const DOCUMENTS_MAX: usize = 64;
/// How far apart the first and the last number of a row are at most: some minutes.
const SPAN_MAX: u64 = 1 << 40;
/// The most tokens of a row of several documents.
const TOKENS_MAX: usize = 4096;

/// A row's key: which sort of documents, and the place of the last of them.
pub(super) type ListedKey = [u8; 11];
/// Documents and their tokens, by place.
pub(super) type Listed = Vec<(Hit, Vec<Token>)>;

/// Whether a row is of the audit's documents.
pub(super) const SORTS: [bool; 2] = [false, true];

pub(super) fn key(audit: bool, last: Hit) -> ListedKey {
    let mut key = [0; 11];
    key[0] = u8::from(audit);
    key[1..9].copy_from_slice(&last.number.0.to_be_bytes());
    key[9..].copy_from_slice(&last.shard.0.to_be_bytes());
    key
}

/// The keys of rows whose last document has one of these numbers.
pub(super) fn keys(audit: bool, numbers: (Number, Number)) -> (ListedKey, ListedKey) {
    let place = |number, shard| Hit {
        number,
        shard: Shard(shard),
    };
    let (from, to) = numbers;
    (key(audit, place(from, 0)), key(audit, place(to, u16::MAX)))
}

fn damaged() -> LedgerError {
    LedgerError::Damaged(format!("a {ROW} row does not decode"))
}

/// Parts documents of one sort, by place, into those of one row each.
pub(super) fn rows(mut documents: &[(Hit, Vec<Token>)], audit: bool) -> Vec<&[(Hit, Vec<Token>)]> {
    let mut rows = Vec::new();
    while let Some((first, _)) = documents.first() {
        let mut tokens = 0;
        let length = (documents.iter().take(DOCUMENTS_MAX))
            .take_while(|(at, of)| {
                tokens += of.len();
                // What is superseded together lies together: documents of one commit are of one shard.
                (audit || at.shard == first.shard)
                    && at.number.0 - first.number.0 <= SPAN_MAX
                    && (tokens <= TOKENS_MAX || at == first)
            })
            .count();
        let (row, rest) = documents.split_at(length);
        rows.push(row);
        documents = rest;
    }
    rows
}

/// The bytes of a row: the number of its documents; the first's place, and for each other how much
/// greater its number is, with the shard where that is another than before; then each token once, with
/// how many documents have it (0: all) and which, each as the distance from the one before.
pub(super) fn encode(documents: &[(Hit, Vec<Token>)]) -> Vec<u8> {
    let mut pairs: Vec<(Token, usize)> = (documents.iter().enumerate())
        .flat_map(|(index, (_, tokens))| tokens.iter().map(move |token| (*token, index)))
        .collect();
    pairs.sort_unstable();
    let mut out = Vec::with_capacity(16 + 3 * documents.len() + 5 * pairs.len());
    put_varint(&mut out, documents.len() as u64);
    let mut before: Option<Hit> = None;
    for (at, _) in documents {
        match before {
            None => {
                out.extend_from_slice(&at.number.0.to_be_bytes());
                put_varint(&mut out, u64::from(at.shard.0));
            }
            Some(before) => {
                let is_same = before.shard == at.shard;
                // `rows` keeps far neighbours apart.
                let step = at.number.0 - before.number.0;
                put_varint(&mut out, step << 1 | u64::from(!is_same));
                if !is_same {
                    put_varint(&mut out, u64::from(at.shard.0));
                }
            }
        }
        before = Some(*at);
    }
    for of_token in pairs.chunk_by(|a, b| a.0 == b.0) {
        out.extend_from_slice(&of_token[0].0.0.to_be_bytes());
        if of_token.len() == documents.len() {
            put_varint(&mut out, 0);
            continue;
        }
        put_varint(&mut out, of_token.len() as u64);
        let mut before = 0;
        for (_, index) in of_token {
            put_varint(&mut out, (index - before) as u64);
            before = *index;
        }
    }
    out
}

struct Reader<'a> {
    decoder: Decoder<'a>,
    places: Vec<Hit>,
}

impl<'a> Reader<'a> {
    fn new(row: &'a [u8]) -> Result<Self, LedgerError> {
        let mut decoder = Decoder::new(row, ROW);
        let count: usize = decoder.small()?;
        if count == 0 || count > decoder.remaining() {
            return Err(damaged());
        }
        let mut at = Hit {
            number: Number(decoder.u64()?),
            shard: Shard(decoder.small()?),
        };
        let mut places = Vec::with_capacity(count);
        places.push(at);
        for _ in 1..count {
            let step = decoder.varint()?;
            let number = at.number.0.checked_add(step >> 1);
            at.number = Number(number.ok_or_else(damaged)?);
            if step & 1 != 0 {
                at.shard = Shard(decoder.small()?);
            }
            places.push(at);
        }
        Ok(Self { decoder, places })
    }

    /// Calls `take` with each token and the index of a document that has it.
    fn each(mut self, mut take: impl FnMut(Token, usize)) -> Result<(), LedgerError> {
        let all = self.places.len();
        while self.decoder.remaining() > 0 {
            let token = Token(self.decoder.u64()?);
            let count = self.decoder.varint()?;
            if count == 0 {
                (0..all).for_each(|index| take(token, index));
                continue;
            }
            let mut index = 0usize;
            for _ in 0..count {
                let step: usize = self.decoder.small()?;
                index = index
                    .checked_add(step)
                    .filter(|index| *index < all)
                    .ok_or_else(damaged)?;
                take(token, index);
            }
        }
        Ok(())
    }
}

/// The documents of a row.
pub(super) fn decode(row: &[u8]) -> Result<Listed, LedgerError> {
    let reader = Reader::new(row)?;
    let places = reader.places.clone();
    let mut documents: Listed = places.into_iter().map(|at| (at, Vec::new())).collect();
    reader.each(|token, index| documents[index].1.push(token))?;
    Ok(documents)
}

/// The first document's place, and whether a document is in a row.
pub(super) fn place_in(row: &[u8], at: Hit) -> Result<(Hit, bool), LedgerError> {
    let places = Reader::new(row)?.places;
    let first = places.first().copied().ok_or_else(damaged)?;
    Ok((first, places.contains(&at)))
}

/// The tokens of one document of a row, if it is in it.
pub(super) fn tokens_of(row: &[u8], at: Hit) -> Result<Option<Vec<Token>>, LedgerError> {
    let reader = Reader::new(row)?;
    let Some(wanted) = reader.places.iter().position(|place| *place == at) else {
        return Ok(None);
    };
    let mut tokens = Vec::new();
    reader.each(|token, index| {
        if index == wanted {
            tokens.push(token);
        }
    })?;
    Ok(Some(tokens))
}

/// The postings of a row's documents.
pub(super) fn changes(row: &[u8], out: &mut Vec<Change>) -> Result<(), LedgerError> {
    let reader = Reader::new(row)?;
    let places = reader.places.clone();
    reader.each(|token, index| {
        out.push(Change {
            key: posting_key(token, places[index]),
            dropped: false,
        });
    })
}

/// Rows that change because documents in them have been superseded, have other tokens, or (in a repair)
/// come back.
#[derive(Default)]
pub(super) struct Edits {
    /// Rows as they are in the store, and as they will be.
    rows: BTreeMap<ListedKey, Listed>,
}

impl Edits {
    /// A row as it is so far: what the edits say, or else what is stored.
    pub(super) fn row(
        &mut self,
        key: ListedKey,
        stored: &[u8],
    ) -> Result<&mut Listed, LedgerError> {
        use std::collections::btree_map::Entry;
        match self.rows.entry(key) {
            Entry::Occupied(row) => Ok(row.into_mut()),
            Entry::Vacant(row) => Ok(row.insert(decode(stored)?)),
        }
    }

    /// The rows' keys so far, each with the key that it gets and its bytes; without these when nothing is
    /// left of it.
    pub(super) fn finish(self) -> impl Iterator<Item = (ListedKey, Option<(ListedKey, Vec<u8>)>)> {
        self.rows.into_iter().map(|(old, documents)| {
            let new = documents
                .last()
                .map(|(last, _)| (key(old[0] != 0, *last), encode(&documents)));
            (old, new)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed() -> impl Strategy<Value = Listed> {
        let documents = prop::collection::btree_map(
            (0..500u64, 0..3u16),
            prop::collection::btree_set(0..12u64, 0..8),
            1..100,
        );
        documents.prop_map(|documents| {
            let document = |((number, shard), tokens): ((u64, u16), _)| {
                let at = Hit {
                    number: Number(u64::MAX - 1000 + number),
                    shard: Shard(shard * 100),
                };
                let tokens: std::collections::BTreeSet<u64> = tokens;
                (at, tokens.into_iter().map(Token).collect())
            };
            documents.into_iter().map(document).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn rows_come_back(documents in listed(), audit in any::<bool>()) {
            let parts = rows(&documents, audit);
            prop_assert_eq!(&parts.concat(), &documents);
            for part in parts {
                prop_assert!(part.len() <= DOCUMENTS_MAX);
                let row = encode(part);
                prop_assert_eq!(decode(&row).unwrap(), part);
                let mut postings = Vec::new();
                changes(&row, &mut postings).unwrap();
                prop_assert_eq!(postings.len(), part.iter().map(|(_, tokens)| tokens.len()).sum::<usize>());
                for (at, tokens) in part {
                    let found = tokens_of(&row, *at).unwrap();
                    prop_assert_eq!(found.as_ref(), Some(tokens));
                    for token in tokens {
                        let posting = Change { key: posting_key(*token, *at), dropped: false };
                        prop_assert!(postings.contains(&posting));
                    }
                }
                let elsewhere = Hit { number: Number(1), shard: Shard(0) };
                prop_assert_eq!(tokens_of(&row, elsewhere).unwrap(), None);
            }
        }

        #[test]
        fn bytes_that_are_no_row_are_damage_or_another_row(row in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&row);
        }
    }

    #[test]
    fn documents_of_many_tokens_have_rows_of_their_own() {
        let document = |number: u64, count: u64| {
            let at = Hit {
                number: Number(number),
                shard: Shard(1),
            };
            (at, (0..count).map(Token).collect())
        };
        let documents: Listed = vec![
            document(1, 3000),
            document(2, 3000),
            document(3, 9000),
            document(4, 1),
        ];
        let lengths: Vec<_> = rows(&documents, false)
            .iter()
            .map(|row| row.len())
            .collect();
        assert_eq!(lengths, [1, 1, 1, 1]);
    }

    #[test]
    fn cut_rows_are_damage() {
        let at = |number| Hit {
            number: Number(number),
            shard: Shard(1),
        };
        let row = encode(&[(at(1), vec![Token(1), Token(2)]), (at(300), vec![Token(2)])]);
        let whole = decode(&row).unwrap();
        for length in 0..row.len() {
            assert_ne!(decode(&row[..length]).ok(), Some(whole.clone()), "{length}");
        }
    }
}

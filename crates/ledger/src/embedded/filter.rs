//! Which tokens may have postings in memory.
//!
//! A range of a query is some hundred tokens, and most of them have no posting among those that wait
//! for their table; looking into two dozen runs for each to find nothing was a third of such a search.
//! Tokens are keyed hashes, so their own bits serve as the hash of a Bloom filter whose bits of one
//! token lie in one word (Putze, Sanders, Singler, 2007).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Token;

/// With so many tokens a word, about one in fifty that aren't there is looked for in vain.
const TOKENS_A_WORD: usize = 6;

/// A set of tokens that only grows: it may hold tokens that were never put in.
pub(super) struct Filter {
    words: Vec<AtomicU64>,
}

impl Filter {
    /// An empty set that is made for about so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        let words = tokens.div_ceil(TOKENS_A_WORD).max(1);
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The token's word and its bits there.
    fn place(&self, token: Token) -> (&AtomicU64, u64) {
        // Which word, the upper half says, and which bits, the lower.
        let index = ((token.0 >> 32) * self.words.len() as u64) >> 32;
        let bit = |at: u32| 1_u64 << ((token.0 >> (6 * at)) & 63);
        (
            &self.words[index as usize],
            bit(0) | bit(1) | bit(2) | bit(3),
        )
    }

    pub(super) fn insert(&self, token: Token) {
        let (word, bits) = self.place(token);
        // Whoever is to see it takes the runs under the lock that is held now.
        word.fetch_or(bits, Ordering::Relaxed);
    }

    /// False only for a token that was never put in.
    pub(super) fn may_have(&self, token: Token) -> bool {
        let (word, bits) = self.place(token);
        word.load(Ordering::Relaxed) & bits == bits
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn what_was_put_in_is_there_and_little_else() {
        let tokens: Vec<Token> = (0..20_000_u32)
            .map(|number| Token(xxh3_64(&number.to_le_bytes())))
            .collect();
        let filter = Filter::new(10_000);
        let (inside, outside) = tokens.split_at(10_000);
        for token in inside {
            filter.insert(*token);
        }
        assert!(inside.iter().all(|token| filter.may_have(*token)));
        let vain = outside
            .iter()
            .filter(|token| filter.may_have(**token))
            .count();
        assert!(vain < 500, "{vain} of 10,000");
        assert!(!Filter::new(0).may_have(Token(7)));
    }
}

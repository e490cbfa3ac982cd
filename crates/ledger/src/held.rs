//! Which shards this process works on.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{SHARDS, Shard};

/// A flag for each shard.
pub(crate) struct Held(Vec<AtomicBool>);

impl Held {
    /// All or none of them.
    pub(crate) fn new(held: bool) -> Self {
        Self((0..SHARDS).map(|_| AtomicBool::new(held)).collect())
    }
    pub(crate) fn has(&self, shard: Shard) -> bool {
        self.0
            .get(usize::from(shard.0))
            .is_some_and(|held| held.load(Ordering::Acquire))
    }
}

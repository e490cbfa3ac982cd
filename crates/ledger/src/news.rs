//! What other processes have written to a shared store: looked for every so often, so that followers
//! wake, keys that were destroyed or became others are forgotten and leaves get their checkpoint, whoever wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Backend, SharedStore, Standing};
use crate::due::Earliest;
use crate::shared::Core;
use crate::writer::CHECKPOINT_EVERY;
use crate::{LedgerError, Number, Shard};

/// How often the store is asked. One query of 256 short rows; a follower on another machine learns of
/// an event this much later than one on the machine that wrote it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) struct News {
    core: Arc<Core>,
    backend: Arc<dyn Backend>,
    /// Nothing is ever sent: that the sender is gone says that the ledger is closed.
    closed: Receiver<()>,
    seen: Vec<Standing>,
    covered: Option<(u64, Instant)>,
    /// Whether nothing may be signed, because the audit did not hold on opening.
    is_suspect: bool,
    failing: bool,
}

impl News {
    pub(crate) fn new(
        core: Arc<Core>,
        backend: Arc<dyn Backend>,
        closed: Receiver<()>,
        is_suspect: bool,
    ) -> Self {
        Self {
            core,
            backend,
            closed,
            seen: Vec::new(),
            covered: None,
            is_suspect,
            failing: false,
        }
    }

    /// Looks until the ledger is closed.
    pub(crate) fn run(mut self) {
        let backend = Arc::clone(&self.backend);
        let Some(store) = backend.shared() else {
            return;
        };
        while self.closed.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            match self.look(store) {
                Ok(()) => self.failing = false,
                // Said once: a database that is away would fill the log.
                Err(error) if !self.failing => {
                    tracing::warn!(%error, "can't see what others write; trying again");
                    self.failing = true;
                }
                Err(_) => {}
            }
        }
    }

    fn look(&mut self, store: &dyn SharedStore) -> Result<(), LedgerError> {
        let standings = store.standings()?;
        // Both are in the order of the shards; nothing has been seen at first.
        let before = self.seen.iter().map(|seen| seen.keys_changed);
        let changed: BTreeSet<Shard> = (standings.iter())
            .zip(before.chain(std::iter::repeat(0)))
            .filter(|(now, before)| *before < now.keys_changed)
            .map(|(now, _)| now.shard)
            .collect();
        if !changed.is_empty() {
            // Tenants first: what is then asked for again is wrapped by the newest.
            self.core.reload_tenants(&*self.backend)?;
            self.core.data_keys.forget_shards(&changed);
        }
        let feeds: BTreeMap<Shard, Number> = standings
            .iter()
            .map(|now| (now.shard, now.last_event))
            .collect();
        let last = standings.iter().map(|now| now.last).max();
        self.core.publish(
            last.unwrap_or_default(),
            &feeds,
            &Earliest::default(),
            &Earliest::default(),
        );
        let leaves = standings.iter().map(|now| now.tree_size).sum();
        self.seen = standings;
        self.cover(store, leaves)
    }

    /// Has the trees signed when they have grown and the last signature is a second old.
    fn cover(&mut self, store: &dyn SharedStore, leaves: u64) -> Result<(), LedgerError> {
        let is_due = self
            .covered
            .is_none_or(|(covered, at)| covered != leaves && at.elapsed() >= CHECKPOINT_EVERY);
        if is_due && !self.is_suspect {
            cover(&self.core, store)?;
            self.covered = Some((leaves, Instant::now()));
        }
        Ok(())
    }
}

/// Signs the trees as they are now, unless they are what the newest checkpoint says; gives the newest
/// checkpoint.
pub(crate) fn cover(core: &Core, store: &dyn SharedStore) -> Result<String, LedgerError> {
    store.cover(&mut |newest, trees| {
        let heads = core.signer.verify(newest).ok_or_else(|| {
            LedgerError::Damaged("the signature of the newest checkpoint does not hold".into())
        })?;
        for (shard, size, root) in &heads.trees {
            // A new signature would vouch for what somebody has cut off or changed.
            let tree = &trees[usize::from(shard.0)];
            if tree.size() < *size || tree.size() == *size && tree.root()? != *root {
                return Err(LedgerError::Damaged(format!(
                    "audit tree {shard} is not the one that was signed"
                )));
            }
        }
        let signed = |shard: u16| heads.of(Shard(shard)).map_or(0, |(size, _)| size);
        if (0..)
            .zip(trees)
            .all(|(shard, tree)| signed(shard) == tree.size())
        {
            return Ok(None);
        }
        // Clocks of several machines differ; what is signed later does not say an earlier time.
        let unix_ms = core.clock.now_ms().max(heads.unix_ms);
        core.signer.sign(trees, unix_ms).map(Some)
    })
}

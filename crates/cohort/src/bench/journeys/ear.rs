//! Hears when journeys are over, from the feed, as another part of the server would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use journey::State;
use ledger::{Hit, Ledger, Number, SHARDS, Shard};
use tokio::sync::{broadcast::error::RecvError, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trust::{Permit, Trust, kinds};

/// Events read at once.
const PAGE: usize = 256;

type Waiting = Mutex<HashMap<String, oneshot::Sender<Instant>>>;

/// Listens until it is dropped.
pub(super) struct Ear {
    waiting: Arc<Waiting>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ear {
    /// Listens for the end of each patient's journey, which no version before the given one is.
    pub(super) fn new(trust: &Trust, permit: &Permit, first_version: u32) -> Self {
        let waiting = Arc::new(Waiting::default());
        let listener = Listener {
            trust: trust.clone(),
            permit: permit.clone(),
            first_version,
            waiting: Arc::clone(&waiting),
        };
        // Before the first look, so that nothing falls between looking and listening.
        let mut news = trust.vault().ledger().watch();
        let task = tokio::spawn(async move {
            let ledger = listener.trust.vault().ledger().clone();
            let mut read: Vec<Number> = heads(&ledger);
            loop {
                let shards = match news.recv().await {
                    Ok(shard) => shard.0..shard.0 + 1,
                    Err(RecvError::Lagged(_)) => 0..SHARDS,
                    Err(RecvError::Closed) => return,
                };
                for shard in shards {
                    let place = &mut read[usize::from(shard)];
                    if listener.hear(&ledger, Shard(shard), place).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { waiting, task }
    }

    /// Says when a patient's journey is over.
    pub(super) fn end_of(&self, patient: &str) -> oneshot::Receiver<Instant> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(patient.to_owned(), tell);
        told
    }
}

fn heads(ledger: &Ledger) -> Vec<Number> {
    let shards = (0..SHARDS).map(Shard);
    shards.map(|shard| ledger.shard_head(shard)).collect()
}

struct Listener {
    trust: Trust,
    permit: Permit,
    first_version: u32,
    waiting: Arc<Waiting>,
}

impl Listener {
    async fn hear(&self, ledger: &Ledger, shard: Shard, read: &mut Number) -> Result<()> {
        while ledger.shard_head(shard) > *read {
            let events = ledger.events(shard, *read, PAGE).await?;
            let Some(last) = events.last() else { break };
            *read = last.at.number;
            for event in events {
                if event.kind == kinds::JOURNEY_INSTANCE && event.version >= self.first_version {
                    self.tell(event.at).await?;
                }
            }
        }
        Ok(())
    }

    async fn tell(&self, at: Hit) -> Result<()> {
        let now = Instant::now();
        let vault = self.trust.vault();
        let stored = vault
            .internal_at(&self.permit, kinds::JOURNEY_INSTANCE, at)
            .await?;
        let Some(stored) = stored else {
            return Ok(());
        };
        if State::from_json(&stored.body)?.running() {
            return Ok(());
        }
        let patient = stored.patient.unwrap_or_default();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = waiting.remove(&patient) {
            // Who has given up waiting needs no answer.
            let _ = tell.send(now);
        }
        Ok(())
    }
}

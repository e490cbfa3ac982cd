//! Group commit: one thread writes, or in a store that others write to as well, a few, each for some
//! of the shards. A thread takes all commits that wait (up to a bound), checks each
//! against the store and those before it, applies what is left as one batch with one flush, and
//! answers all. While it flushes, the next group gathers, so groups grow with the load. Records of
//! reads alone, if several came together, wait as long again for others.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::backend::{Backend, Snapshot, Touched, Turn, turn_at};
use crate::bootstrap::{ROOT, Rewrapping};
use crate::codec::Decoder;
use crate::data_keys::DataKey;
use crate::news;
use crate::plan::{
    Group, NewLayer, NewSecret, Planned, Rekeying, Retokening, SCRUB_DUE, SealedCommit, State,
};
use crate::redo::Redo;
use crate::shared::Core;
use crate::tree::Tree;
use crate::{LedgerError, Number, OutboxKey, Receipt, SHARDS, Shard};

/// The most documents of a group; at 512 the flush is a small part of a group's time.
const GROUP_DOCUMENTS: usize = 512;
/// The most bytes of a group's documents.
const GROUP_BYTES: usize = 4 << 20;
/// The longest that records of reads wait for others, so that they share a flush.
const PATIENCE_MAX: Duration = Duration::from_micros(300);
/// How old the newest leaf gets before a checkpoint covers it.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// The meta row of the newest signed checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Name and value.
pub(crate) type MetaRow = (String, Vec<u8>);

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What can be asked of the writer.
pub(crate) enum Request {
    Commit(Box<SealedCommit>, Reply<Receipt>),
    /// Writes meta rows, all or none.
    Meta(Vec<MetaRow>, Reply<()>),
    /// Puts the store's own secrets under another root key.
    Rewrap(Rewrapping, Reply<()>),
    /// A scrub has been done that began when this was the value of `SCRUB_DUE`.
    Scrubbed(Vec<u8>, Reply<()>),
    /// Puts key rows in the place of others; the answer is how many.
    Rekey(Rekeying, Reply<u64>),
    /// Puts another version of a patient's key in the place of a row; the answer is how many.
    Grow(Vec<u8>, DataKey, Reply<u64>),
    /// Writes one of the store's own secrets.
    NewSecret(NewSecret, Reply<()>),
    /// Puts another outer layer on a tenant's tokens from now on; whether nobody else was faster.
    StartLayer(NewLayer, Reply<bool>),
    /// Puts lists of tokens in the place of others; whether nobody else was faster.
    Retoken(Retokening, Reply<bool>),
    /// Removes outbox entries that can never be opened again.
    DropOutbox(Vec<OutboxKey>, Reply<()>),
    Checkpoint(Reply<String>),
    /// Keeps a redo log from now on.
    StartRedo(Reply<()>),
    /// A chain of backups has taken the redo log up to a sequence.
    RedoTaken(String, u64, Reply<()>),
    /// Removes some of the redo log below a sequence; whether there may be more.
    TrimRedo(u64, Reply<bool>),
    Close(Reply<()>),
}

impl Request {
    /// The shard that decides which writer takes it; `None` if any may.
    pub(crate) fn shard(&self) -> Option<Shard> {
        match self {
            Self::Commit(commit, _) => commit.shard(),
            Self::DropOutbox(keys, _) => keys.first().map(|key| key.shard),
            Self::Rekey(rekeying, _) => rekeying.rows.first().and_then(|row| row.key.home.0),
            Self::Grow(_, key, _) => key.row.home.0,
            Self::Meta(..)
            | Self::NewSecret(..)
            | Self::Rewrap(..)
            | Self::Scrubbed(..)
            | Self::Checkpoint(_)
            | Self::StartRedo(_)
            | Self::RedoTaken(..)
            | Self::TrimRedo(..)
            | Self::StartLayer(..)
            | Self::Retoken(..)
            | Self::Close(_) => None,
        }
    }
}

/// A request and its share of the queue's room, given back when it is answered.
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Whether it only puts down that something was read.
    fn is_of_a_read(&self) -> bool {
        match &self.request {
            Request::Commit(commit, _) => {
                commit.documents.is_empty() && commit.outbox_add.is_empty()
            }
            _ => false,
        }
    }
}

/// What to answer once the group is durable.
enum Answer {
    Commit(Receipt, Reply<Receipt>),
    Done(Reply<()>),
    Count(u64, Reply<u64>),
    More(bool, Reply<bool>),
    Checkpoint(Reply<String>),
}

pub(crate) struct Writer {
    core: Arc<Core>,
    backend: Arc<dyn Backend>,
    jobs: Receiver<Job>,
    state: State,
    checkpoint: String,
    checkpoint_at: Instant,
    /// Whether there are leaves that the newest checkpoint does not cover.
    uncovered: bool,
    /// Why nothing may be written, if so.
    suspect: Option<String>,
    /// How long the next group of reads' records may wait for more of them: as long as the flush of
    /// the last one took, if that had several; else not at all.
    patience: Duration,
}

fn broken(what: &str) -> LedgerError {
    LedgerError::Storage(what.to_owned())
}

impl Writer {
    pub(crate) fn new(
        core: Arc<Core>,
        backend: Arc<dyn Backend>,
        jobs: Receiver<Job>,
        state: State,
        checkpoint: String,
        suspect: Option<String>,
    ) -> Self {
        // Leaves of the moment before a crash have no checkpoint yet: cover them before anything else.
        let covered = core.signer.verify(&checkpoint).is_some_and(|heads| {
            let leaves: u64 = state.trees.iter().map(Tree::size).sum();
            leaves == heads.leaves()
        });
        // In a shared store that is looked after apart.
        let uncovered = !covered && suspect.is_none() && backend.shared().is_none();
        let state = State {
            node: core.held.node,
            ..state
        };
        let mut writer = Self {
            core,
            backend,
            jobs,
            state,
            checkpoint,
            checkpoint_at: Instant::now(),
            uncovered,
            suspect,
            patience: Duration::ZERO,
        };
        if let Err(error) = writer.cover() {
            tracing::error!(%error, "no checkpoint could be signed");
        }
        writer
    }

    /// Serves until the ledger is closed or dropped.
    pub(crate) fn run(mut self) {
        loop {
            match self.next_job() {
                Ok(Some(job)) => {
                    let mut closing = None;
                    let mut group = self.gather(job, &mut closing);
                    // In a store that others write to, a larger group waits for more locks of theirs.
                    let of_reads = closing.is_none()
                        && self.backend.shared().is_none()
                        && group.iter().all(Job::is_of_a_read);
                    if of_reads && !self.patience.is_zero() {
                        // A flush costs as much as all else that a read costs the writer, so it is
                        // shared by as many as come in the time that one takes.
                        #[allow(
                            clippy::disallowed_methods,
                            reason = "the thread is the writer's own, and what would wait for it is what it waits for"
                        )]
                        std::thread::sleep(self.patience);
                        if let Ok(job) = self.jobs.try_recv() {
                            group.extend(self.gather(job, &mut closing));
                        }
                    }
                    let several = group.len() > 1;
                    let began = Instant::now();
                    let left_over = self.serve(group);
                    self.patience = if of_reads && several {
                        began.elapsed().min(PATIENCE_MAX)
                    } else {
                        Duration::ZERO
                    };
                    if let Some(reply) = closing {
                        let outcome = left_over.and_then(|()| self.cover());
                        // Whoever asked may be gone.
                        let _ = reply.send(outcome);
                        return;
                    }
                }
                Ok(None) => {
                    if let Err(error) = self.cover() {
                        tracing::error!(%error, "no checkpoint could be signed");
                        // Not before the next interval, or a full disk would be hammered.
                        self.checkpoint_at = Instant::now();
                    }
                }
                Err(()) => {
                    if let Err(error) = self.cover() {
                        tracing::error!(%error, "no checkpoint could be signed at the end");
                    }
                    return;
                }
            }
        }
    }

    /// The next job; `None` when a checkpoint is due before one comes.
    fn next_job(&self) -> Result<Option<Job>, ()> {
        if !self.uncovered {
            return self.jobs.recv().map(Some).map_err(|_| ());
        }
        let left = CHECKPOINT_EVERY.saturating_sub(self.checkpoint_at.elapsed());
        match self.jobs.recv_timeout(left) {
            Ok(job) => Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    fn gather(&self, first: Job, closing: &mut Option<Reply<()>>) -> Vec<Job> {
        let mut group = Vec::new();
        let (mut documents, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(job) = next {
            match job.request {
                Request::Close(reply) => {
                    *closing = Some(reply);
                    break;
                }
                Request::Commit(ref commit, _) => {
                    let rows = || commit.documents.iter().chain(&commit.audit);
                    documents += rows().count();
                    bytes += rows().map(|document| document.row.len()).sum::<usize>();
                }
                _ => {}
            }
            group.push(job);
            if documents >= GROUP_DOCUMENTS || bytes >= GROUP_BYTES {
                break;
            }
            next = self.jobs.try_recv().ok();
        }
        group
    }

    /// Plans, writes and answers a group.
    fn serve(&mut self, jobs: Vec<Job>) -> Result<(), LedgerError> {
        metrics::gauge!("ledger_queue_depth").decrement(jobs.len() as f64);
        if let Some(reason) = &self.suspect {
            let reason = format!("the audit does not hold, so nothing is written: {reason}");
            refuse(jobs, &|| LedgerError::Damaged(reason.clone()));
            return Ok(());
        }
        let backend = Arc::clone(&self.backend);
        let touched = (backend.shared()).map_or_else(Touched::default, |_| touched(&jobs));
        let turn = match turn_at(&*backend, touched) {
            Ok(turn) => turn,
            Err(error) => {
                let text = storage_text(error);
                refuse(jobs, &|| broken(&text));
                return Err(broken(&text));
            }
        };
        // Read after the turn has come, so that numbers go on from what was acknowledged before.
        let theirs = (turn.standing()).map(|(last, trees)| {
            let last = last.max(self.core.last());
            State::shared(last, trees, self.core.held.node, turn.leases())
        });
        let state = theirs.as_ref().unwrap_or(&self.state);
        let now_ms = self.core.clock.now_ms();
        let core = Arc::clone(&self.core);
        // Here and not by the commit's caller, so that once a tenant's new secret is there, and what was
        // under way is written, no key is wrapped by an old one any more.
        let wrap = |key: &DataKey| {
            let tenant = key.row.tenant;
            let mut keys = core.tenant(tenant)?;
            if (turn.secrets(tenant)).is_some_and(|there| keys.newest().version < there) {
                keys = core.reload_tenant(&*backend, tenant)?;
            }
            Ok(key.wrap(keys.newest(), &*core.entropy))
        };
        let mut group = Group::new(turn.rows(), state, now_ms, &wrap);
        let mut answers = Vec::with_capacity(jobs.len());
        let mut rooms = Vec::with_capacity(jobs.len());
        let mut wants_checkpoint = false;
        // Asked once a group, and only if something new comes.
        let mut room = None;
        let mut retokenings = Vec::new();
        for job in jobs {
            rooms.push(job.room);
            match job.request {
                Request::Commit(mut commit, reply) => {
                    match group_room(&*self.backend, &commit, &mut room)
                        .and_then(|()| cover(&core, &mut group, &mut commit))
                        .and_then(|()| group.add(*commit))
                    {
                        Ok(receipt) => answers.push(Answer::Commit(receipt, reply)),
                        Err(error) => {
                            let _ = reply.send(Err(error));
                        }
                    }
                }
                Request::Meta(rows, reply) => {
                    rows.into_iter()
                        .for_each(|(name, value)| group.add_meta(&name, value));
                    answers.push(Answer::Done(reply));
                }
                Request::Rewrap(rewrapping, reply) => match group.rewrap(rewrapping) {
                    Ok(()) => answers.push(Answer::Done(reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Grow(from, grown, reply) => match group.grow(from, &grown) {
                    Ok(count) => answers.push(Answer::Count(count, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Rekey(rekeying, reply) => match group.rekey(rekeying) {
                    Ok(count) => answers.push(Answer::Count(count, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::StartLayer(layer, reply) => match group.start_layer(layer) {
                    Ok(first) => answers.push(Answer::More(first, reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Retoken(retokening, reply) => retokenings.push((retokening, reply)),
                Request::Scrubbed(due, reply) => match group.scrubbed(&due) {
                    Ok(()) => answers.push(Answer::Done(reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::NewSecret(secret, reply) => match group.add_secret(secret) {
                    Ok(()) => answers.push(Answer::Done(reply)),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::DropOutbox(keys, reply) => {
                    keys.into_iter().for_each(|key| group.drop_outbox(key));
                    answers.push(Answer::Done(reply));
                }
                Request::Checkpoint(reply) => {
                    wants_checkpoint = true;
                    answers.push(Answer::Checkpoint(reply));
                }
                Request::StartRedo(reply) => {
                    group.start_redo();
                    answers.push(Answer::Done(reply));
                }
                Request::RedoTaken(chain, taken, reply) => {
                    group.redo_taken(&chain, taken);
                    answers.push(Answer::Done(reply));
                }
                Request::TrimRedo(below, reply) => match group.trim_redo(below) {
                    Ok(more) => answers.push(Answer::More(more, reply)),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                },
                // `gather` keeps it out of groups.
                Request::Close(reply) => answers.push(Answer::Done(reply)),
            }
        }
        // Last, because they have to know which versions the commits have superseded.
        for (retokening, reply) in retokenings {
            match group.retoken(retokening) {
                Ok(first) => answers.push(Answer::More(first, reply)),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let is_alone = theirs.is_none();
        let due = self.checkpoint_at.elapsed() >= CHECKPOINT_EVERY;
        let mut checkpoint = None;
        if is_alone && (wants_checkpoint || due && (self.uncovered || group.has_leaves())) {
            let trees: Vec<_> = (0..SHARDS)
                .map(|shard| group.tree(Shard(shard)).clone())
                .collect();
            match self.core.signer.sign(&trees, now_ms) {
                Ok(text) => {
                    group.add_meta(CHECKPOINT, text.clone().into_bytes());
                    checkpoint = Some(text);
                }
                Err(error) => {
                    let text = error.to_string();
                    answer(answers, &Err(text.clone()), &self.checkpoint);
                    return Err(broken(&text));
                }
            }
        }
        let planned = match group.finish() {
            Ok(planned) => planned,
            Err(error) => {
                let text = error.to_string();
                answer(answers, &Err(text.clone()), &self.checkpoint);
                return Err(broken(&text));
            }
        };
        let mut outcome = self.write(turn, planned, is_alone);
        if outcome.is_ok() {
            self.covered_by(checkpoint);
            if wants_checkpoint && let Some(store) = backend.shared() {
                outcome = news::cover(&self.core, store).map(|text| self.checkpoint = text);
            }
        }
        let outcome = outcome.map_err(storage_text);
        answer(answers, &outcome, &self.checkpoint);
        drop(rooms);
        outcome.map_err(|text| broken(&text))
    }

    /// Applies what was planned; on success, and only then, memory follows.
    fn write(
        &mut self,
        turn: Box<dyn Turn + '_>,
        mut planned: Planned,
        is_alone: bool,
    ) -> Result<(), LedgerError> {
        let writes = std::mem::take(&mut planned.writes);
        if !writes.is_empty() {
            let began = Instant::now();
            turn.apply(writes, &planned.trees)?;
            metrics::histogram!("ledger_flush_seconds").record(began.elapsed().as_secs_f64());
        }
        if planned.commits > 0 {
            metrics::counter!("ledger_commits_total").increment(planned.commits);
            metrics::counter!("ledger_documents_total").increment(planned.documents);
            #[allow(
                clippy::cast_precision_loss,
                reason = "a group has far fewer than 2^52 commits"
            )]
            metrics::histogram!("ledger_group_commits").record(planned.commits as f64);
        }
        if is_alone {
            self.state.last = planned.last;
            self.state.scrubs = planned.scrubs;
            self.state.redo = planned.redo;
            #[allow(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("ledger_redo_bytes").set(self.state.redo.bytes() as f64);
            self.uncovered |= !planned.trees.is_empty();
            for (shard, tree) in planned.trees {
                self.state.trees[usize::from(shard.0)] = tree;
            }
            self.state.destroyed.extend(&planned.destroyed);
        }
        planned.stored_keys.iter().for_each(|key| key.set_durable());
        for row in planned.destroyed {
            self.core.data_keys.forget(&row);
        }
        for row in planned.grown {
            self.core.data_keys.forget(&row);
        }
        self.core.publish(
            planned.last,
            &planned.feeds,
            &planned.earliest_timers,
            &planned.earliest_outbox,
        );
        Ok(())
    }

    fn covered_by(&mut self, checkpoint: Option<String>) {
        if let Some(checkpoint) = checkpoint {
            self.checkpoint = checkpoint;
            self.checkpoint_at = Instant::now();
            self.uncovered = false;
        }
    }

    /// Signs and keeps a checkpoint if there are leaves that the newest does not cover.
    fn cover(&mut self) -> Result<(), LedgerError> {
        if !self.uncovered {
            return Ok(());
        }
        let checkpoint = self
            .core
            .signer
            .sign(&self.state.trees, self.core.clock.now_ms())?;
        let row = crate::backend::Write::Meta {
            name: CHECKPOINT.to_owned(),
            value: checkpoint.clone().into_bytes(),
        };
        self.backend.apply(vec![row])?;
        self.covered_by(Some(checkpoint));
        Ok(())
    }
}

/// Puts the newest layer on a commit's tokens. Here and not by the commit's caller, for the same reason as
/// the wrapping of keys: once a layer has been started, nothing is written behind the one before.
fn cover(core: &Core, group: &mut Group<'_>, commit: &mut SealedCommit) -> Result<(), LedgerError> {
    let state = group.layer_state(commit.tenant)?;
    if let Some(moving) = state.moving {
        group.raise(moving.through);
    }
    let meta = |name: &str| group.meta(name);
    let Some(layer) = core.layer_of(&meta, commit.tenant, state.version)? else {
        return Ok(());
    };
    for document in commit.documents.iter_mut().chain(&mut commit.audit) {
        for token in &mut document.tokens {
            *token = layer.put_on(*token);
        }
    }
    Ok(())
}

/// Whether there is room for a commit; one that only says that something was read always has some.
fn group_room(
    backend: &dyn Backend,
    commit: &SealedCommit,
    room: &mut Option<Result<(), String>>,
) -> Result<(), LedgerError> {
    if commit.documents.is_empty() && commit.outbox_add.is_empty() {
        return Ok(());
    }
    let room =
        room.get_or_insert_with(|| backend.room_for(GROUP_BYTES as u64).map_err(storage_text));
    room.clone().map_err(LedgerError::Storage)
}

fn storage_text(error: LedgerError) -> String {
    match error {
        LedgerError::Storage(text) => text,
        other => other.to_string(),
    }
}

/// What planning a group reads and where it writes.
fn touched(jobs: &[Job]) -> Touched {
    let mut touched = Touched::default();
    for job in jobs {
        match &job.request {
            Request::Commit(commit, _) => commit.touches(&mut touched),
            Request::Rekey(rekeying, _) => rekeying.touches(&mut touched),
            Request::Retoken(retokening, _) => retokening.touches(&mut touched),
            // No turn at any shard may be under way that does not know of it.
            Request::StartLayer(..) => {
                touched.shards.extend((0..SHARDS).map(Shard));
                touched.metas.insert(ROOT.to_owned());
            }
            Request::DropOutbox(keys, _) => {
                touched.shards.extend(keys.iter().map(|key| key.shard));
            }
            Request::Grow(_, grown, _) => {
                touched.shards.extend(grown.row.home.0);
                touched.keys.insert(grown.row);
                touched.wrapping.insert(grown.row.tenant);
            }
            Request::NewSecret(secret, _) => secret.touches(&mut touched),
            Request::Rewrap(Rewrapping { to, .. }, _) => {
                touched
                    .metas
                    .extend(to.iter().map(|(name, _)| name.clone()));
                touched.metas.insert(SCRUB_DUE.to_owned());
            }
            Request::Scrubbed(..) => {
                touched.metas.insert(SCRUB_DUE.to_owned());
            }
            Request::Meta(rows, _) => {
                touched
                    .metas
                    .extend(rows.iter().map(|(name, _)| name.clone()));
            }
            _ => {}
        }
    }
    touched
}

fn refuse(jobs: Vec<Job>, error: &dyn Fn() -> LedgerError) {
    for job in jobs {
        match job.request {
            Request::Commit(_, reply) => drop(reply.send(Err(error()))),
            Request::Meta(_, reply)
            | Request::NewSecret(_, reply)
            | Request::Rewrap(_, reply)
            | Request::Scrubbed(_, reply)
            | Request::DropOutbox(_, reply)
            | Request::StartRedo(reply)
            | Request::RedoTaken(_, _, reply)
            | Request::Close(reply) => drop(reply.send(Err(error()))),
            Request::Rekey(_, reply) | Request::Grow(_, _, reply) => {
                drop(reply.send(Err(error())));
            }
            Request::TrimRedo(_, reply)
            | Request::StartLayer(_, reply)
            | Request::Retoken(_, reply) => drop(reply.send(Err(error()))),
            Request::Checkpoint(reply) => drop(reply.send(Err(error()))),
        }
    }
}

/// Answers all; who asked may be gone, and then the answer is for nobody.
fn answer(answers: Vec<Answer>, outcome: &Result<(), String>, checkpoint: &str) {
    for answer in answers {
        match answer {
            Answer::Commit(receipt, reply) => {
                let _ = reply.send(
                    outcome
                        .clone()
                        .map(|()| receipt)
                        .map_err(LedgerError::Storage),
                );
            }
            Answer::Done(reply) => {
                let _ = reply.send(outcome.clone().map_err(LedgerError::Storage));
            }
            Answer::Count(count, reply) => {
                let count = outcome.clone().map(|()| count);
                let _ = reply.send(count.map_err(LedgerError::Storage));
            }
            Answer::More(more, reply) => {
                let _ = reply.send(outcome.clone().map(|()| more).map_err(LedgerError::Storage));
            }
            Answer::Checkpoint(reply) => {
                let _ = reply.send(
                    outcome
                        .clone()
                        .map(|()| checkpoint.to_owned())
                        .map_err(LedgerError::Storage),
                );
            }
        }
    }
}

/// The meta row of the greatest number that the store which this one was restored from is known to
/// have given out: none of them is given out again, whatever the clock says.
pub(crate) const NUMBER_FLOOR: &str = "number-floor";

fn number_floor(snapshot: &dyn Snapshot) -> Result<Number, LedgerError> {
    match snapshot.meta(NUMBER_FLOOR)? {
        Some(value) => Ok(Number(Decoder::new(&value, "number-floor").u64()?)),
        None => Ok(Number(0)),
    }
}

/// What the writer starts from.
pub(crate) fn load_state(backend: &dyn Backend) -> Result<State, LedgerError> {
    let snapshot = backend.snapshot();
    let mut trees = Vec::with_capacity(usize::from(SHARDS));
    for shard in (0..SHARDS).map(Shard) {
        trees.push(snapshot.tree(shard)?);
    }
    Ok(State {
        shared: false,
        node: [0; 16],
        leases: BTreeMap::new(),
        last: snapshot.last_number()?.max(number_floor(&*snapshot)?),
        trees,
        destroyed: HashSet::new(),
        scrubs: 0,
        redo: Redo::load(&*snapshot)?,
    })
}

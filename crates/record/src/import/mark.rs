//! How far each input got, kept in the store so that an import goes on after a stop.
use std::collections::BTreeMap;
use std::sync::Mutex;

use ledger::{Expected, LedgerError, Owner};
use tokio::sync::watch;
use trust::{Internal, Permit, TrustError, Unit, Vault, kinds};

use super::input::Input;
use super::lock;
use super::rejects::{Earlier, Rejects};

/// Marks of one commit.
const FLUSH_MAX: usize = 500;

/// What is done of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// These many lines.
    pub(super) lines: u64,
    /// Of a document that is read entry by entry: these many entries.
    pub(super) entries: u64,
    /// All of it.
    pub(super) complete: bool,
}

/// A mark in the store.
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Stored {
    lines: u64,
    entries: u64,
    complete: bool,
    /// How many entries of what is done were refused at least, and in which file they are.
    rejects: u64,
    file: String,
}

/// A mark that has moved.
pub(super) struct Moved {
    place: usize,
    id: String,
    version: Option<u32>,
    done: Done,
    rejects: u64,
}

struct Mark {
    /// As it is named in the rejects file.
    shown: String,
    /// `None` for standard input, which can't be found again.
    id: Option<String>,
    /// The version of the mark in the store.
    version: Option<u32>,
    stored: Done,
    done: Done,
    /// Something in it waits for the end of the import, so it can't get further before.
    held: bool,
}

/// A unit that is done.
struct Finished {
    input: usize,
    done: Done,
    held: bool,
}

struct State {
    marks: Vec<Mark>,
    /// Units done whose predecessors aren't.
    waiting: BTreeMap<u64, Finished>,
}

/// The marks of all inputs.
pub(super) struct Marks {
    state: Mutex<State>,
    /// The first unit that is not done.
    next: watch::Sender<u64>,
    /// Where refused entries go.
    file: String,
    resumed: bool,
}

impl Marks {
    /// Looks up what an earlier run has left. An input whose refused entries are not all in the rejects
    /// file any more (another run put it aside, or this run writes another) starts over, or nobody
    /// would hear of them again.
    pub(super) async fn load(
        vault: &Vault,
        permit: &Permit,
        inputs: &[Input],
        file: String,
        earlier: &Earlier,
    ) -> Result<Self, TrustError> {
        let mut marks = Vec::with_capacity(inputs.len());
        let mut resumed = false;
        for input in inputs {
            let id = input.path.as_ref().map(|_| {
                // A keyed hash, so that the store does not show the names of files.
                vault.ledger().derive_id(
                    permit.tenant(),
                    &Owner::Tenant,
                    &format!("import-mark\n{}", input.fingerprint),
                )
            });
            let stored = match &id {
                Some(id) => vault.internal(permit, kinds::IMPORT, id).await?,
                None => None,
            };
            let version = stored.as_ref().map(|stored| stored.version);
            // A mark that does not parse is of a version that this program doesn't know: start over.
            let kept: Stored = stored
                .and_then(|stored| serde_json::from_slice(&stored.body).ok())
                .unwrap_or_default();
            let stored = Done {
                lines: kept.lines,
                entries: kept.entries,
                complete: kept.complete,
            };
            let lost =
                kept.rejects > 0 && (kept.file != file || earlier.of(&input.shown) < kept.rejects);
            resumed |= kept.rejects > 0 && !lost;
            marks.push(Mark {
                shown: input.shown.clone(),
                id,
                version,
                stored,
                done: if lost { Done::default() } else { stored },
                held: false,
            });
        }
        Ok(Self {
            state: Mutex::new(State {
                marks,
                waiting: BTreeMap::new(),
            }),
            next: watch::Sender::new(0),
            file,
            resumed,
        })
    }
    /// Whether the rejects file is that of an earlier run of this import, which was stopped.
    pub(super) fn resumed(&self) -> bool {
        self.resumed
    }
    /// What is done of an input.
    pub(super) fn done(&self, input: usize) -> Done {
        lock(&self.state)
            .marks
            .get(input)
            .map(|mark| mark.done)
            .unwrap_or_default()
    }
    /// Starts counting units from 0 again.
    pub(super) fn rewind(&self) {
        lock(&self.state).waiting.clear();
        self.next.send_replace(0);
    }
    /// Says that a unit is done up to a line (or, with `complete`, its input); `held` when something
    /// in it waits for the end.
    pub(super) fn finish(
        &self,
        sequence: u64,
        input: usize,
        lines: u64,
        complete: bool,
        held: bool,
    ) {
        let mut state = lock(&self.state);
        let done = Done {
            lines,
            entries: 0,
            complete,
        };
        state
            .waiting
            .insert(sequence, Finished { input, done, held });
        let mut next = *self.next.borrow();
        while let Some(finished) = state.waiting.remove(&next) {
            next += 1;
            if let Some(mark) = state.marks.get_mut(finished.input) {
                mark.held |= finished.held;
                if !mark.held {
                    mark.done = finished.done;
                }
            }
        }
        self.next.send_replace(next);
    }
    /// Says that these many entries of a document are done.
    pub(super) fn entries(&self, input: usize, entries: u64) {
        if let Some(mark) = lock(&self.state).marks.get_mut(input)
            && !mark.held
        {
            mark.done.entries = entries;
        }
    }
    /// Keeps an input from getting further, because something in it waits for the end.
    pub(super) fn hold(&self, input: usize) {
        if let Some(mark) = lock(&self.state).marks.get_mut(input) {
            mark.held = true;
        }
    }
    /// Waits until all units before this one are done.
    pub(super) async fn all_before(&self, sequence: u64) {
        // The sender lives as long as `self`, so this can't fail.
        let _ = self
            .next
            .subscribe()
            .wait_for(|next| *next >= sequence)
            .await;
    }
    /// What has changed. To be asked before the rejects are put on disk, and written after: what was
    /// refused until now is in them then.
    pub(super) fn moved(&self, rejects: &Rejects) -> Vec<Moved> {
        let mut moved: Vec<(Moved, String)> = {
            let state = lock(&self.state);
            let changed = state
                .marks
                .iter()
                .enumerate()
                .filter(|(_, mark)| mark.done != mark.stored);
            changed
                .filter_map(|(place, mark)| {
                    let moved = Moved {
                        place,
                        id: mark.id.clone()?,
                        version: mark.version,
                        done: mark.done,
                        rejects: 0,
                    };
                    Some((moved, mark.shown.clone()))
                })
                .collect()
        };
        if !moved.is_empty() {
            let counts = rejects.counts();
            for (moved, shown) in &mut moved {
                moved.rejects = counts.get(shown).copied().unwrap_or(0);
            }
        }
        moved.into_iter().map(|(moved, _)| moved).collect()
    }
    /// Writes what has changed.
    pub(super) async fn write(
        &self,
        vault: &Vault,
        permit: &Permit,
        moved: &[Moved],
    ) -> Result<(), TrustError> {
        for part in moved.chunks(FLUSH_MAX) {
            self.write_part(vault, permit, part).await?;
        }
        Ok(())
    }
    /// Forgets all marks: the import is done, and another run shall look at everything again. They are
    /// emptied rather than deleted, which needs no memory of the version that a deletion made.
    pub(super) async fn reset(
        &self,
        vault: &Vault,
        permit: &Permit,
        rejects: &Rejects,
    ) -> Result<(), TrustError> {
        for mark in &mut lock(&self.state).marks {
            mark.done = Done::default();
        }
        let mut moved = self.moved(rejects);
        moved.iter_mut().for_each(|moved| moved.rejects = 0);
        self.write(vault, permit, &moved).await
    }
    async fn write_part(
        &self,
        vault: &Vault,
        permit: &Permit,
        part: &[Moved],
    ) -> Result<(), TrustError> {
        let mut unit = Unit {
            note: Some("import: progress".to_owned()),
            ..Unit::default()
        };
        for moved in part {
            let stored = Stored {
                lines: moved.done.lines,
                entries: moved.done.entries,
                complete: moved.done.complete,
                rejects: moved.rejects,
                file: self.file.clone(),
            };
            let body = serde_json::to_vec(&stored)
                .map_err(|_| TrustError::Invalid("a mark can't be written".to_owned()))?;
            unit.internals.push(Internal {
                kind: kinds::IMPORT,
                id: moved.id.clone(),
                owner: Owner::Tenant,
                expected: moved.version.map_or(Expected::Absent, Expected::Version),
                body,
                deleted: false,
                tokens: Vec::new(),
            });
        }
        match vault.commit(permit, unit).await {
            Ok(_) => {
                let mut state = lock(&self.state);
                for moved in part {
                    if let Some(mark) = state.marks.get_mut(moved.place) {
                        mark.version = Some(moved.version.map_or(1, |version| version + 1));
                        mark.stored = moved.done;
                    }
                }
                Ok(())
            }
            // Somebody else imports the same file at the same time. Both are right; the next flush
            // writes over theirs.
            Err(TrustError::Ledger(LedgerError::Conflict)) => {
                for moved in part {
                    let stored = vault.internal(permit, kinds::IMPORT, &moved.id).await?;
                    if let Some(mark) = lock(&self.state).marks.get_mut(moved.place) {
                        mark.version = stored.map(|stored| stored.version);
                    }
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

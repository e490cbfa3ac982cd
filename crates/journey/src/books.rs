//! What a process keeps in memory of one tenant's journeys: compiled definitions, and the counts of each
//! shard. All of it is derived from the store and can be built again; who is under way is asked of the store.

use crate::VersionView;
use crate::counts::{Before, VersionCounts};
use crate::definition::Definition;
use crate::interest::{Interest, interest};
use crate::kept::{self, Kept};
use crate::learnt::Learnt;
use crate::mover::{MoveError, Moved, trail_id};
use crate::passages::by_version;
use crate::runner::{Heard, Unread};
use crate::stages::{Starting, StoredStage, VersionStage};
use crate::state::{State, TrailEntry};
use ledger::{Kind, Number, Owner, SHARDS, Shard, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use trust::{InternalStored, Permit, TrustError, Vault, kinds};

/// Documents read at once.
const PAGE: usize = 500;
/// Events read at once.
const EVENTS: usize = 1000;

/// A stored version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredDefinition {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) source: String,
    pub(crate) published_ms: u64,
    pub(crate) published_by: String,
    /// Whether it only reserves the number of a version that isn't live (`stages.rs`): it has no file then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) staged: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A version, compiled.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) stored: StoredDefinition,
    pub(crate) definition: Arc<Definition>,
}

#[derive(Debug, Default)]
struct Catalogue {
    versions: BTreeMap<(String, u32), Arc<Published>>,
    /// Those whose files are published as every program knows them.
    defined: BTreeSet<(String, u32)>,
    /// Those that are reserved by such documents for what is kept by its stage.
    reserved: BTreeSet<(String, u32)>,
    /// What is kept of versions on their way.
    stages: BTreeMap<(String, u32), StoredStage>,
    /// The newest version of each journey, by name.
    live: Vec<Arc<Published>>,
    /// On which versions of each journey new patients start.
    starting: Vec<Starting>,
    interest: HashMap<Kind, Interest>,
    /// The newest version of each journey that this program can't read.
    unread_versions: BTreeMap<String, u32>,
    /// Whether there are versions that this program can't read. What they wait for isn't known then, so
    /// anything may move their patients.
    unread: bool,
}

impl Catalogue {
    /// Works out which versions new patients start on.
    fn settle(&mut self) {
        let mut newest: BTreeMap<&str, &(String, u32)> = BTreeMap::new();
        // The versions of a name are in their order, so the last is the newest.
        for key in &self.defined {
            newest.insert(&key.0, key);
        }
        let stage = |key: &(String, u32)| self.stages.get(key).map(|kept| kept.stage);
        let live = newest.into_values();
        // A version that is retired isn't followed by an older one.
        let live = live.filter(|key| stage(key) != Some(VersionStage::Retired));
        let live = live.filter_map(|key| self.versions.get(key));
        let live: Vec<Arc<Published>> = live.cloned().collect();
        let mut starting: BTreeMap<&str, Starting> = BTreeMap::new();
        for published in &live {
            let one = Starting {
                live: Some(published.definition.clone()),
                staged: None,
            };
            starting.insert(&published.stored.name, one);
        }
        for (key, kept) in &self.stages {
            let live = live.iter().find(|live| live.stored.name == key.0);
            let newer = live.is_none_or(|live| live.stored.version < key.1);
            if kept.stage == VersionStage::Staged
                && newer
                && let Some(published) = self.versions.get(key)
            {
                let one = starting.entry(&key.0).or_insert(Starting {
                    live: None,
                    staged: None,
                });
                one.staged = Some((published.definition.clone(), kept.rollout.clone()));
            }
        }
        self.starting = starting.into_values().collect();
        self.interest = interest(&self.versions, &self.starting, self.unread);
        self.live = live;
    }

    /// Since when a version takes patients, whenever this process has heard of it; nothing where it never has.
    fn taken_since(&self, published: &Published) -> Option<u64> {
        let stored = &published.stored;
        let key = (stored.name.clone(), stored.version);
        let mut moves = self
            .stages
            .get(&key)
            .into_iter()
            .flat_map(|kept| &kept.history);
        let taken = moves.find(|one| matches!(one.to, VersionStage::Staged | VersionStage::Live));
        // One that was published at once has no such move.
        let at_once = (!stored.staged).then_some(stored.published_ms);
        taken.map(|one| one.at_ms).or(at_once)
    }
}

/// Where the journeys' follower stands on a shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Position {
    /// As stored.
    pub(crate) stored: Number,
    /// As read: events up to here meant nothing or are done.
    pub(crate) read: Number,
    /// Events read but not stored as read.
    pub(crate) skipped: usize,
    pub(crate) known: bool,
    /// Under which lease it is known.
    pub(crate) lease: Option<u64>,
}

/// How a tenant's journeys stand.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Patients for whom what was due an hour ago has not happened.
    pub late: u64,
    /// Patients by journey, version and state.
    pub instances: Vec<(String, u32, &'static str, u64)>,
    /// How often this process has looked at a patient for segments.
    pub looks: u64,
}

/// What is counted of one shard's patients.
#[derive(Default)]
struct OfShard {
    versions: BTreeMap<(String, u32), VersionCounts>,
    /// Whether there are places in journeys that can't be read: whoever has one may be under way.
    unread: bool,
    /// Moves that were counted since the counts were kept.
    moves: u32,
    /// Up to where the kept counts reach.
    kept: Option<Number>,
    /// The version of the document that keeps them, if there is one.
    document: Option<u32>,
}

/// One tenant's books.
pub(crate) struct Books {
    pub(crate) tenant: TenantId,
    catalogue: RwLock<Catalogue>,
    /// Per shard.
    counts: Vec<Mutex<OfShard>>,
    /// Per shard: the follower's place. Held while a shard is worked on, so that events and timers of
    /// one shard are handled one after the other.
    pub(crate) positions: Vec<tokio::sync::Mutex<Position>>,
    /// Per shard: up to where the feed has been read, for whoever asks while the shard is worked on;
    /// zero when that isn't known yet.
    read: Vec<AtomicU64>,
    /// Whether the dead letters of before have been counted.
    pub(crate) counted_letters: tokio::sync::Mutex<bool>,
    /// Dead letters that are kept.
    letters: AtomicI64,
    /// Events since it was last looked whose counts are to be kept.
    heard: AtomicU32,
    /// Patients who are late, as they were counted last.
    late: AtomicU64,
    /// Tells that there may be records to be looked through for dates.
    pub(crate) scans: tokio::sync::Notify,
    /// Tells that a batch was asked for, or that a shard has come here.
    pub(crate) batches: tokio::sync::Notify,
    /// Places of those who look ahead at many patients, and of what is checked beside.
    pub(crate) looking: Arc<tokio::sync::Semaphore>,
    pub(crate) checking: Arc<tokio::sync::Semaphore>,
    /// Which versions of instances are counted.
    pub(crate) learnt: Learnt,
    /// Whether all is known here that was published.
    pub(crate) known: Heard,
    /// Per shard: what of it another server has still to read, where somebody acts on its patients here.
    unread: Vec<tokio::sync::Mutex<Unread>>,
    /// How often patients were looked at for segments.
    looks: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is changed in single steps, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    /// Reads the counts from the store: those that were kept, and for shards that have none those of every
    /// instance. What moved since the counts were kept is still to be learnt from the feed.
    pub(crate) async fn open(vault: &Vault, permit: &Permit) -> Result<Self, MoveError> {
        let tenant = permit.tenant();
        let books = Self {
            tenant,
            catalogue: RwLock::default(),
            counts: (0..SHARDS).map(|_| Mutex::default()).collect(),
            positions: (0..SHARDS).map(|_| tokio::sync::Mutex::default()).collect(),
            read: (0..SHARDS).map(|_| AtomicU64::default()).collect(),
            counted_letters: tokio::sync::Mutex::default(),
            letters: AtomicI64::default(),
            heard: AtomicU32::default(),
            late: AtomicU64::default(),
            scans: tokio::sync::Notify::new(),
            batches: tokio::sync::Notify::new(),
            looking: Arc::new(tokio::sync::Semaphore::new(crate::places::LOOKS_MAX)),
            checking: Arc::new(tokio::sync::Semaphore::new(crate::beside::CHECKS_MAX)),
            learnt: Learnt::new(),
            known: Heard::default(),
            unread: (0..SHARDS).map(|_| tokio::sync::Mutex::default()).collect(),
            looks: AtomicU64::default(),
        };
        let mut kept = kept::read(vault, permit).await?;
        let all = kept.values().filter_map(|(kept, _)| kept.as_ref());
        let worth = kept::worth_reading(all.map(Kept::journeys).sum());
        // Before the first look, so that nothing falls between looking and listening.
        let mut unknown = BTreeSet::new();
        for shard in (0..SHARDS).map(Shard) {
            let head = vault.ledger().shard_head(shard);
            let (kept, version) = kept.remove(&shard.0).unzip();
            let kept = kept.flatten().filter(|kept: &Kept| kept.to <= head.0);
            match kept {
                Some(kept) if is_near(vault, shard, Number(kept.to), worth).await? => {
                    books.restore(shard, kept);
                }
                _ => {
                    books.learnt.reached(shard, head);
                    unknown.extend((head.0 > 0).then_some(shard.0));
                }
            }
            books.of_shard(shard).document = version;
        }
        books.read_definitions(vault, permit).await?;
        if !unknown.is_empty() {
            books.count_all(vault, permit, &unknown).await?;
        }
        Ok(books)
    }

    /// Counts every instance of these shards, and reads those of all to find them.
    async fn count_all(
        &self,
        vault: &Vault,
        permit: &Permit,
        shards: &BTreeSet<u16>,
    ) -> Result<(), MoveError> {
        let mut instances = vault.every_internal(permit, kinds::JOURNEY_INSTANCE)?;
        while let Some(page) = instances.next_page().await? {
            let ours = |stored: &InternalStored| shards.contains(&stored.at.shard.0);
            for stored in page.into_iter().filter(ours) {
                self.learnt.found(&stored.id, stored.version, stored.at);
                match State::from_json(&stored.body) {
                    Ok(state) => {
                        self.count_stored(vault, permit, &stored.id, &state).await?;
                    }
                    Err(error) => {
                        tracing::error!(instance = %stored.id, %error, "a patient's place in a journey can't be read; it is not counted");
                        self.unread(stored.at.shard);
                    }
                }
            }
        }
        Ok(())
    }

    fn of_shard(&self, shard: Shard) -> std::sync::MutexGuard<'_, OfShard> {
        lock(&self.counts[usize::from(shard.0)])
    }

    /// There is a place in a journey that can't be read: its events must not be passed over as if nobody
    /// were under way, and the counts of its shard are not kept for a program that can read it.
    pub(crate) fn unread(&self, shard: Shard) {
        self.of_shard(shard).unread = true;
    }

    fn restore(&self, shard: Shard, kept: Kept) {
        self.learnt.reached(shard, Number(kept.to));
        let mut counts = self.of_shard(shard);
        counts.kept = Some(Number(kept.to));
        counts.versions = kept.versions();
    }

    /// The counts of a shard as they are to be kept, if there is enough new in them (`all`: anything) and
    /// they are exactly those of the events up to a place. The caller holds the shard's place.
    pub(crate) fn to_keep(&self, shard: Shard, all: bool) -> Option<(Kept, Option<u32>)> {
        self.learnt.settled(shard, |to, events| {
            let counts = self.of_shard(shard);
            let enough = if all {
                counts.kept.is_none_or(|kept| kept < to)
            } else {
                let long = match counts.moves {
                    0 => kept::EVENTS_OF_OTHERS,
                    _ => kept::EVENTS,
                };
                counts.moves >= kept::MOVES || events >= long
            };
            (enough && to.0 > 0 && !counts.unread).then(|| {
                let kept = Kept::new(shard, to, &counts.versions);
                (kept, counts.document)
            })
        })
    }

    /// The counts of a shard were kept, in a version of their document.
    pub(crate) fn has_kept(&self, kept: &Kept, version: u32) {
        self.learnt.kept(kept.shard());
        let mut counts = self.of_shard(kept.shard());
        counts.moves = 0;
        counts.kept = Some(Number(kept.to));
        counts.document = Some(version);
    }

    /// An event was taken into the books.
    pub(crate) fn has_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
    /// Whether so many events have come since this was last true that counts may have to be kept.
    pub(crate) fn many_heard(&self) -> bool {
        let many = self.heard.load(Ordering::Relaxed) >= kept::LOOK;
        if many {
            self.heard.store(0, Ordering::Relaxed);
        }
        many
    }

    /// How many patients' journeys are counted.
    pub(crate) fn counted(&self) -> u64 {
        let of_shard = |shard| {
            let counts = self.of_shard(Shard(shard));
            let versions = counts.versions.values();
            versions
                .map(|counts| counts.running() + counts.ended())
                .sum::<u64>()
        };
        (0..SHARDS).map(of_shard).sum()
    }

    /// The counts of a version in each shard, added up by `add`.
    fn over_shards(
        &self,
        name: &str,
        version: u32,
        add: fn(&mut VersionCounts, &VersionCounts),
    ) -> VersionCounts {
        let key = (name.to_owned(), version);
        let mut all = VersionCounts::default();
        for shard in &self.counts {
            if let Some(counts) = lock(shard).versions.get(&key) {
                add(&mut all, counts);
            }
        }
        all
    }

    /// How many patients are under way in a version, and how many journeys are over.
    fn sums(&self, name: &str, version: u32) -> (u64, u64) {
        let sums = self.over_shards(name, version, VersionCounts::add_sums);
        (sums.running(), sums.ended())
    }

    async fn count_stored(
        &self,
        vault: &Vault,
        permit: &Permit,
        id: &str,
        state: &State,
    ) -> Result<(), MoveError> {
        let mut entries: Vec<TrailEntry> = old_trail(vault, permit, id, state).await?;
        entries.extend(state.trail.iter().cloned());
        self.count(
            &Moved {
                instance: id.to_owned(),
                version: 1,
                before: Before::default(),
                after: state.clone(),
                entries,
            },
            vault,
        );
        Ok(())
    }

    /// Reads versions that aren't known yet.
    pub(crate) async fn read_definitions(
        &self,
        vault: &Vault,
        permit: &Permit,
    ) -> Result<(), MoveError> {
        for document in all_internals(vault, permit, kinds::JOURNEY_DEFINITION, &[]).await? {
            // One that can't be read is no reason to stop the others: its patients wait.
            match serde_json::from_slice::<StoredDefinition>(&document.body) {
                Ok(stored) => self.add(stored),
                Err(_) => {
                    tracing::error!(definition = %document.id, "a journey's version can't be read by this program");
                    let mut catalogue =
                        (self.catalogue.write()).unwrap_or_else(PoisonError::into_inner);
                    catalogue.unread = true;
                    catalogue.interest = interest(&catalogue.versions, &catalogue.starting, true);
                }
            }
        }
        for document in all_internals(vault, permit, kinds::JOURNEY_STAGE, &[]).await? {
            // What a newer program has written is not for this one: its number is reserved, so its patients wait.
            match serde_json::from_slice(&document.body) {
                Ok(stored) => self.add_stage(stored),
                Err(_) => {
                    tracing::error!(stage = %document.id, "a journey's version on its way can't be read by this program");
                }
            }
        }
        let mut catalogue = (self.catalogue.write()).unwrap_or_else(PoisonError::into_inner);
        let unknown = |key: &&(String, u32)| !catalogue.versions.contains_key(*key);
        if catalogue.reserved.iter().any(|key| unknown(&key)) {
            catalogue.unread = true;
            catalogue.interest = interest(&catalogue.versions, &catalogue.starting, true);
        }
        Ok(())
    }

    /// Takes a version in. One that a stricter checker would refuse today still runs for the patients on it.
    pub(crate) fn add(&self, stored: StoredDefinition) {
        let key = (stored.name.clone(), stored.version);
        let mut catalogue = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if stored.staged {
            catalogue.reserved.insert(key);
            return;
        }
        if !catalogue.defined.insert(key.clone()) {
            return;
        }
        if let Some(staged) = catalogue.versions.get(&key) {
            // It was staged until now, and is what it was.
            let published = Published {
                stored,
                definition: staged.definition.clone(),
            };
            catalogue.versions.insert(key, Arc::new(published));
            catalogue.settle();
            return;
        }
        let definition = crate::check::read(&stored.source);
        let Some(mut definition) = definition else {
            // It is tried again each time: what can't be read now is none of those that are known.
            catalogue.defined.remove(&key);
            tracing::error!(journey = %stored.name, version = stored.version, "a published journey can't be read by this program; its patients wait");
            catalogue.unread = true;
            let newest = catalogue.unread_versions.entry(stored.name).or_default();
            *newest = (*newest).max(stored.version);
            catalogue.interest = interest(&catalogue.versions, &catalogue.starting, true);
            return;
        };
        definition.version = stored.version;
        catalogue.versions.insert(
            key,
            Arc::new(Published {
                stored,
                definition: Arc::new(definition),
            }),
        );
        catalogue.settle();
    }

    /// Takes in how far a version is. Its file is read once it can't change any more.
    fn add_stage(&self, stored: StoredStage) {
        let key = (stored.name.clone(), stored.version);
        let mut catalogue = (self.catalogue.write()).unwrap_or_else(PoisonError::into_inner);
        let known = catalogue.versions.get(&key);
        let defined = known.is_some_and(|known| !known.stored.staged);
        if stored.stage != VersionStage::Draft && !defined {
            // The text stays as it is; when it last changed and by whom is said anew.
            let known = known.map(|known| known.definition.clone());
            let read = || {
                let mut read = crate::check::read(&stored.source)?;
                read.version = stored.version;
                Some(Arc::new(read))
            };
            match known.or_else(read) {
                Some(definition) => {
                    let last = stored.history.last();
                    let by = StoredDefinition {
                        name: stored.name.clone(),
                        version: stored.version,
                        source: stored.source.clone(),
                        published_ms: last.map_or(0, |step| step.at_ms),
                        published_by: last.map_or_else(String::new, |step| step.by.clone()),
                        staged: true,
                    };
                    let published = Published {
                        stored: by,
                        definition,
                    };
                    catalogue.versions.insert(key.clone(), Arc::new(published));
                }
                None if stored.reserved => {
                    tracing::error!(journey = %stored.name, version = stored.version, "a staged journey can't be read by this program; its patients wait");
                }
                // A draft with errors that was put away.
                None => {}
            }
        }
        catalogue.stages.insert(key, stored);
        catalogue.settle();
    }

    /// What is kept of a journey's versions on their way, in their order.
    pub(crate) fn stages_of(&self, name: &str) -> Vec<StoredStage> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let stages = catalogue.stages.values();
        stages.filter(|kept| kept.name == name).cloned().collect()
    }
    /// The same of one version.
    pub(crate) fn stage_of(&self, name: &str, version: u32) -> Option<StoredStage> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        catalogue.stages.get(&(name.to_owned(), version)).cloned()
    }
    /// The greatest number that any version of a journey has; 0 where there is none.
    pub(crate) fn newest_number(&self, name: &str) -> u32 {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let keys = (catalogue.versions.keys())
            .chain(catalogue.stages.keys())
            .chain(&catalogue.defined)
            .chain(&catalogue.reserved);
        let of_name = keys.filter(|(known, _)| known == name);
        of_name.map(|(_, version)| *version).max().unwrap_or(0)
    }
    /// The newest version of a journey that went live.
    pub(crate) fn newest_defined(&self, name: &str) -> Option<u32> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let of_name = catalogue.defined.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, version)| *version).max()
    }
    /// The version of a journey that is staged.
    pub(crate) fn staged(&self, name: &str) -> Option<u32> {
        let mut staged = self.stages_of(name).into_iter();
        let staged = staged.rfind(|kept| kept.stage == VersionStage::Staged);
        staged.map(|kept| kept.version)
    }
    /// Whether patients may come to a version: one that was taken back has some, and gets no more.
    pub(crate) fn takes_patients(&self, name: &str, version: u32) -> bool {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), version);
        match catalogue.stages.get(&key) {
            Some(kept) => kept.reserved && kept.stage > VersionStage::Checked,
            None => catalogue.defined.contains(&key),
        }
    }
    /// The versions of each journey on which new patients start.
    pub(crate) fn starting(&self) -> Vec<Starting> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        catalogue.starting.clone()
    }
    /// A version with its stage, be it a draft.
    pub(crate) fn stage_view(&self, name: &str, version: u32) -> Option<VersionView> {
        if let Some(published) = self.version(name, version) {
            return Some(self.view(&published));
        }
        let kept = self.stage_of(name, version)?;
        let last = kept.history.last();
        let title = crate::check::read(&kept.source);
        Some(VersionView {
            title: title.map_or_else(|| kept.name.clone(), |known| known.title),
            name: kept.name,
            version,
            published_ms: last.map_or(0, |step| step.at_ms),
            published_by: last.map_or_else(String::new, |step| step.by.clone()),
            running: 0,
            ended: 0,
            live: false,
            stage: kept.stage,
            share: kept.rollout.share,
            sites: kept.rollout.sites,
            findings: Vec::new(),
        })
    }
    /// Drafts and what else has no compiled version, as lists show them.
    pub(crate) fn drafts(&self) -> Vec<VersionView> {
        let keys: Vec<(String, u32)> = {
            let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
            let keys = catalogue.stages.keys();
            keys.filter(|key| !catalogue.versions.contains_key(*key))
                .cloned()
                .collect()
        };
        let views = keys.iter();
        views
            .filter_map(|(name, version)| self.stage_view(name, *version))
            .collect()
    }

    /// A version.
    pub(crate) fn version(&self, name: &str, version: u32) -> Option<Arc<Published>> {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .versions
            .get(&(name.to_owned(), version))
            .cloned()
    }
    /// The newest version of a journey, on which new patients start.
    pub(crate) fn live(&self, name: &str) -> Option<Arc<Published>> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let mut live = catalogue.live.iter();
        live.find(|published| published.stored.name == name)
            .cloned()
    }
    /// Whether a version of a journey with this text is live, or was.
    pub(crate) fn was_live(&self, name: &str, source: &str) -> bool {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let mut versions = catalogue.versions.iter();
        versions.any(|(key, version)| {
            key.0 == name && version.stored.source == source && catalogue.defined.contains(key)
        })
    }
    /// The live version of each journey.
    pub(crate) fn all_live(&self) -> Vec<Arc<Published>> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        catalogue.live.clone()
    }
    /// Since when versions of a journey that begin by dates take patients.
    pub(crate) fn dated_since(&self, name: &str) -> Option<u64> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let versions = catalogue.versions.values();
        let dated = versions.filter(|published| {
            published.stored.name == name && published.definition.entry.date.is_some()
        });
        dated.filter_map(|one| catalogue.taken_since(one)).min()
    }
    /// When it last changed on which versions of a journey patients start.
    pub(crate) fn starting_since(&self, name: &str) -> Option<u64> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let versions = catalogue
            .versions
            .values()
            .map(|published| &published.stored);
        // Of one that has not gone live its moves say it.
        let published = versions.filter(|stored| stored.name == name && !stored.staged);
        let published = published.map(|stored| stored.published_ms);
        let stages = catalogue.stages.values().filter(|kept| kept.name == name);
        let moves = stages.flat_map(|kept| &kept.history);
        let moves =
            moves.filter(|one| !matches!(one.to, VersionStage::Draft | VersionStage::Checked));
        published.chain(moves.map(|one| one.at_ms)).max()
    }
    /// The journeys that the live version of one begins; nothing where there is no such journey. What a version
    /// begins that this program can't read isn't known.
    pub(crate) fn begins(&self, name: &str) -> Option<Vec<String>> {
        let Some(live) = self.live(name) else {
            return self.unread_version(name).map(|_| Vec::new());
        };
        let steps = live.definition.steps.iter();
        let begins = steps.filter_map(|step| step.kind.begins());
        Some(begins.map(str::to_owned).collect())
    }
    /// The newest version of a journey that this program can't read, if there is one.
    pub(crate) fn unread_version(&self, name: &str) -> Option<u32> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        catalogue.unread_versions.get(name).copied()
    }
    /// Whether there are versions that this program can't read.
    pub(crate) fn has_unread(&self) -> bool {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        catalogue.unread
    }
    /// All versions, by name, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Published>> {
        let catalogue = (self.catalogue.read()).unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Published>> = catalogue.versions.values().cloned().collect();
        all.sort_by(|a, b| {
            a.stored
                .name
                .cmp(&b.stored.name)
                .then(b.stored.version.cmp(&a.stored.version))
        });
        all
    }
    /// What events of a kind can mean.
    pub(crate) fn interest(&self, kind: Kind) -> Interest {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .interest
            .get(&kind)
            .copied()
            .unwrap_or_default()
    }

    /// Whether nobody of a shard is under way.
    pub(crate) fn idle(&self, shard: Shard) -> bool {
        let counts = self.of_shard(shard);
        let balance: i64 = counts.versions.values().map(VersionCounts::balance).sum();
        balance == 0 && !counts.unread
    }

    /// Takes in what a durable unit of work did.
    pub(crate) fn count(&self, moved: &Moved, vault: &Vault) {
        let name = &moved.after.journey;
        let shard = self.shard_of(vault, &moved.after.patient, &moved.instance);
        let mut counts = self.of_shard(shard);
        counts.moves = counts.moves.saturating_add(1);
        let mut before = moved.before.clone();
        let parts = by_version(&moved.entries, moved.after.version);
        let last = parts.len().saturating_sub(1);
        for (place, (version, _, entries)) in parts.into_iter().enumerate() {
            let key = (name.clone(), version);
            let of_version = counts.versions.entry(key).or_default();
            // Somebody who was moved and moved back is in the same version twice, and is there now only once.
            if place == last {
                of_version.apply(&before, entries.iter(), &moved.after);
            } else {
                of_version.leave(&before, entries.iter());
            }
            before = Before::default();
        }
    }

    /// What of a shard's feed another server has still to read, as far as it was looked at here.
    pub(crate) fn unread_of(&self, shard: Shard) -> Option<&tokio::sync::Mutex<Unread>> {
        self.unread.get(usize::from(shard.0))
    }

    /// The shard of a patient's instance.
    pub(crate) fn shard_of(&self, vault: &Vault, patient: &str, instance: &str) -> Shard {
        let owner = Owner::Patient(patient.to_owned());
        vault.ledger().shard_of(self.tenant, &owner, instance)
    }

    /// Remembers how far a shard's feed has been read.
    pub(crate) fn has_read(&self, shard: Shard, number: Number) {
        if let Some(read) = self.read.get(usize::from(shard.0)) {
            read.store(number.0, Ordering::Relaxed);
        }
    }
    /// How far a shard's feed has been read; `None` when nobody has looked yet.
    pub(crate) fn read_to(&self, shard: Shard) -> Option<Number> {
        let read = self.read.get(usize::from(shard.0))?.load(Ordering::Relaxed);
        (read > 0).then_some(Number(read))
    }

    /// A patient was looked at for segments.
    pub(crate) fn has_looked(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// So many patients are late now.
    pub(crate) fn late(&self, late: usize) {
        self.late.store(late as u64, Ordering::Relaxed);
    }

    /// So many more (or fewer) dead letters are kept now.
    pub(crate) fn letters(&self, more: i64) {
        self.letters.fetch_add(more, Ordering::Relaxed);
    }

    /// How many dead letters are kept, and patients are in which journey.
    pub(crate) fn figures(&self) -> Figures {
        let letters = self.letters.load(Ordering::Relaxed).max(0);
        let mut instances = Vec::new();
        for published in self.all() {
            let (name, version) = (&published.stored.name, published.stored.version);
            let (running, ended) = self.sums(name, version);
            let states = [("running", running), ("ended", ended)];
            instances.extend(states.map(|(state, count)| (name.clone(), version, state, count)));
        }
        Figures {
            dead_letters: letters.unsigned_abs(),
            late: self.late.load(Ordering::Relaxed),
            instances,
            looks: self.looks.load(Ordering::Relaxed),
        }
    }

    /// The counts of a version, over all shards.
    pub(crate) fn counts(&self, name: &str, version: u32) -> VersionCounts {
        self.over_shards(name, version, VersionCounts::add_all)
    }

    /// A version with its counts, for lists.
    pub(crate) fn view(&self, published: &Published) -> VersionView {
        let stored = &published.stored;
        let live = self
            .live(&stored.name)
            .is_some_and(|live| live.stored.version == stored.version);
        let (running, ended) = self.sums(&stored.name, stored.version);
        let kept = self.stage_of(&stored.name, stored.version);
        let said = kept.as_ref().map_or(VersionStage::Live, |kept| kept.stage);
        let rollout = kept.map(|kept| kept.rollout).unwrap_or_default();
        VersionView {
            // One that a newer has come after starts nobody any more.
            stage: if said == VersionStage::Live && !live {
                VersionStage::Retired
            } else {
                said
            },
            share: rollout.share,
            sites: rollout.sites,
            findings: Vec::new(),
            name: stored.name.clone(),
            title: published.definition.title.clone(),
            version: stored.version,
            published_ms: stored.published_ms,
            published_by: stored.published_by.clone(),
            running,
            ended,
            live,
        }
    }
}

/// All documents of Cairn's own with these tokens, newest first, page by page; for kinds of which there are
/// few, or one patient's.
pub(crate) async fn all_internals(
    vault: &Vault,
    permit: &Permit,
    kind: Kind,
    tokens: &[(&str, &str)],
) -> Result<Vec<InternalStored>, TrustError> {
    let mut all = Vec::new();
    let mut before = None;
    loop {
        let page = vault.internals(permit, kind, tokens, before, PAGE).await?;
        before = page.last().map(|last| last.at.number);
        let full = page.len() == PAGE;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// Whether no more than so many events came to a shard after a place.
async fn is_near(
    vault: &Vault,
    shard: Shard,
    to: Number,
    events: usize,
) -> Result<bool, TrustError> {
    let mut left = events;
    let mut to = to;
    while vault.ledger().shard_head(shard) > to {
        let page = vault.ledger().events(shard, to, EVENTS).await?;
        let Some(last) = page.last() else { break };
        to = last.at.number;
        match left.checked_sub(page.len()) {
            Some(rest) => left = rest,
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// The trail entries of an instance that lie in documents of their own, oldest first.
pub(crate) async fn old_trail(
    vault: &Vault,
    permit: &Permit,
    instance: &str,
    state: &State,
) -> Result<Vec<TrailEntry>, MoveError> {
    let owner = Owner::Patient(state.patient.clone());
    let mut entries = Vec::new();
    while entries.len() < state.moved as usize {
        let first = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let id = trail_id(vault.ledger(), permit.tenant(), &owner, instance, first);
        let stored = vault.internal(permit, kinds::JOURNEY_TRAIL, &id).await?;
        let part: Vec<TrailEntry> = stored
            .and_then(|stored| serde_json::from_slice(&stored.body).ok())
            .filter(|part: &Vec<TrailEntry>| !part.is_empty())
            .ok_or_else(|| TrustError::Damaged(format!("journey trail of {instance}")))?;
        entries.extend(part);
    }
    Ok(entries)
}

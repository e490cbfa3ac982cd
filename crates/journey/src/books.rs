//! What a process keeps in memory of one tenant's journeys: compiled definitions, who is under way in
//! which shard, and the counts. All of it is derived from the store and can be built again.

use crate::VersionView;
use crate::counts::{Before, VersionCounts};
use crate::definition::Definition;
use crate::learnt::Learnt;
use crate::mover::{MoveError, Moved, trail_id};
use crate::state::{State, TrailEntry};
use fhir::ResourceType;
use ledger::{Kind, Number, Owner, SHARDS, Shard, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use trust::{Permit, TrustError, Vault, kinds};

/// Documents read at once when the books are opened.
const PAGE: usize = 500;

/// A stored version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredDefinition {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) source: String,
    pub(crate) published_ms: u64,
    pub(crate) published_by: String,
}

/// A version, compiled.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) stored: StoredDefinition,
    pub(crate) definition: Arc<Definition>,
}

/// What events of a resource type can mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Somebody may start a journey.
    pub(crate) starts: bool,
    /// Journeys start by resources of this type, so its being gone matters too.
    pub(crate) entry: bool,
    /// Somebody under way may move.
    pub(crate) moves: bool,
}

#[derive(Debug, Default)]
struct Catalogue {
    versions: BTreeMap<(String, u32), Arc<Published>>,
    interest: HashMap<Kind, Interest>,
    /// Whether there are versions that this program can't read. What they wait for isn't known then, so
    /// anything may move their patients.
    unread: bool,
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
}

/// One tenant's books.
pub(crate) struct Books {
    pub(crate) tenant: TenantId,
    catalogue: RwLock<Catalogue>,
    counts: Mutex<BTreeMap<(String, u32), VersionCounts>>,
    /// Per shard: patients under way, their instances, and the entry resource of each.
    roster: Vec<Mutex<HashMap<String, HashMap<String, String>>>>,
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
    /// Patients who are late, as they were counted last.
    late: AtomicU64,
    /// Tells that a batch was asked for, or that a shard has come here.
    pub(crate) batches: tokio::sync::Notify,
    /// Which versions of instances are counted.
    pub(crate) learnt: Learnt,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is changed in single steps, so a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Books {
    /// Reads everything from the store.
    pub(crate) async fn open(vault: &Vault, permit: &Permit) -> Result<Self, MoveError> {
        let tenant = permit.tenant();
        let books = Self {
            tenant,
            catalogue: RwLock::default(),
            counts: Mutex::default(),
            roster: (0..SHARDS).map(|_| Mutex::default()).collect(),
            positions: (0..SHARDS).map(|_| tokio::sync::Mutex::default()).collect(),
            read: (0..SHARDS).map(|_| AtomicU64::default()).collect(),
            counted_letters: tokio::sync::Mutex::default(),
            letters: AtomicI64::default(),
            late: AtomicU64::default(),
            batches: tokio::sync::Notify::new(),
            learnt: Learnt::new(),
        };
        // Before the first look, so that nothing falls between looking and listening.
        for shard in (0..SHARDS).map(Shard) {
            books
                .learnt
                .reached(shard, vault.ledger().shard_head(shard));
        }
        books.read_definitions(vault, permit).await?;
        let mut instances = vault.every_internal(permit, kinds::JOURNEY_INSTANCE)?;
        while let Some(page) = instances.next_page().await? {
            for stored in page {
                books.learnt.found(&stored.id, stored.version, stored.at);
                match State::from_json(&stored.body) {
                    Ok(state) => {
                        books
                            .count_stored(vault, permit, &stored.id, &state)
                            .await?;
                    }
                    Err(error) => {
                        tracing::error!(instance = %stored.id, %error, "a patient's place in a journey can't be read; it is not counted");
                        // Its events must not be passed over as if nobody were under way.
                        if let Some(patient) = &stored.patient {
                            books.enrol(vault, patient, &stored.id, "");
                        }
                    }
                }
            }
        }
        Ok(books)
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
        let mut before = None;
        loop {
            let page = vault
                .internals(permit, kinds::JOURNEY_DEFINITION, &[], before, PAGE)
                .await?;
            let Some(last) = page.last() else { break };
            before = Some(last.at.number);
            for document in &page {
                let stored: StoredDefinition =
                    serde_json::from_slice(&document.body).map_err(|_| {
                        TrustError::Damaged(format!("journey definition {}", document.id))
                    })?;
                self.add(stored);
            }
            if page.len() < PAGE {
                break;
            }
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
        if catalogue.versions.contains_key(&key) {
            return;
        }
        let (definition, _) = crate::check::compile(&stored.source);
        let Some(mut definition) = definition else {
            tracing::error!(journey = %stored.name, version = stored.version, "a published journey can't be read by this program; its patients wait");
            catalogue.unread = true;
            catalogue.interest = interest(&catalogue.versions, true);
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
        catalogue.interest = interest(&catalogue.versions, catalogue.unread);
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
        let catalogue = self
            .catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        catalogue
            .versions
            .range((name.to_owned(), 0)..=(name.to_owned(), u32::MAX))
            .next_back()
            .map(|(_, published)| published.clone())
    }
    /// All versions, by name, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Published>> {
        let catalogue = self
            .catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Published>> = catalogue.versions.values().cloned().collect();
        all.sort_by(|a, b| {
            a.stored
                .name
                .cmp(&b.stored.name)
                .then(b.stored.version.cmp(&a.stored.version))
        });
        all
    }
    /// The live version of each journey.
    pub(crate) fn all_live(&self) -> Vec<Arc<Published>> {
        let mut live = self.all();
        live.dedup_by(|later, earlier| later.stored.name == earlier.stored.name);
        live
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

    /// The instances of a patient that are under way.
    pub(crate) fn under_way(&self, shard: Shard, patient: &str) -> Vec<String> {
        let roster = lock(&self.roster[usize::from(shard.0)]);
        let mut instances: Vec<String> = roster
            .get(patient)
            .map(|instances| instances.keys().cloned().collect())
            .unwrap_or_default();
        instances.sort_unstable();
        instances
    }
    /// The patient who is under way because of an entry resource.
    pub(crate) fn started_by(&self, shard: Shard, entry: &str) -> Option<String> {
        lock(&self.roster[usize::from(shard.0)])
            .iter()
            .find(|(_, instances)| instances.values().any(|key| key == entry))
            .map(|(patient, _)| patient.clone())
    }
    /// Whether nobody of a shard is under way.
    pub(crate) fn idle(&self, shard: Shard) -> bool {
        lock(&self.roster[usize::from(shard.0)]).is_empty()
    }

    /// Takes in what a durable unit of work did.
    pub(crate) fn count(&self, moved: &Moved, vault: &Vault) {
        let key = (moved.after.journey.clone(), moved.after.version);
        lock(&self.counts).entry(key).or_default().apply(
            &moved.before,
            moved.entries.iter(),
            &moved.after,
        );
        let patient = &moved.after.patient;
        if moved.after.running() {
            self.enrol(vault, patient, &moved.instance, &moved.after.key);
        } else {
            self.strike(vault, patient, &moved.instance);
        }
    }

    /// Takes an instance that is over off the roster.
    pub(crate) fn strike(&self, vault: &Vault, patient: &str, instance: &str) {
        let mut roster = lock(&self.roster[self.place(vault, patient, instance)]);
        if let Some(instances) = roster.get_mut(patient) {
            instances.remove(instance);
            if instances.is_empty() {
                roster.remove(patient);
            }
        }
    }

    /// The shard of a patient's instance.
    pub(crate) fn shard_of(&self, vault: &Vault, patient: &str, instance: &str) -> Shard {
        let owner = Owner::Patient(patient.to_owned());
        vault.ledger().shard_of(self.tenant, &owner, instance)
    }

    fn place(&self, vault: &Vault, patient: &str, instance: &str) -> usize {
        usize::from(self.shard_of(vault, patient, instance).0)
    }

    fn enrol(&self, vault: &Vault, patient: &str, instance: &str, entry: &str) {
        lock(&self.roster[self.place(vault, patient, instance)])
            .entry(patient.to_owned())
            .or_default()
            .insert(instance.to_owned(), entry.to_owned());
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
            let states = self.with_counts(name, version, |counts| {
                [("running", counts.running()), ("ended", counts.ended())]
            });
            instances.extend(states.map(|(state, count)| (name.clone(), version, state, count)));
        }
        Figures {
            dead_letters: letters.unsigned_abs(),
            late: self.late.load(Ordering::Relaxed),
            instances,
        }
    }

    /// Reads the counts of a version.
    pub(crate) fn with_counts<T>(
        &self,
        name: &str,
        version: u32,
        read: impl FnOnce(&VersionCounts) -> T,
    ) -> T {
        let counts = lock(&self.counts);
        match counts.get(&(name.to_owned(), version)) {
            Some(counts) => read(counts),
            None => read(&VersionCounts::default()),
        }
    }

    /// A version with its counts, for lists.
    pub(crate) fn view(&self, published: &Published) -> VersionView {
        let stored = &published.stored;
        let live = self
            .live(&stored.name)
            .is_some_and(|live| live.stored.version == stored.version);
        let (running, ended) = self.with_counts(&stored.name, stored.version, |counts| {
            (counts.running(), counts.ended())
        });
        VersionView {
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

fn interest(
    versions: &BTreeMap<(String, u32), Arc<Published>>,
    unread: bool,
) -> HashMap<Kind, Interest> {
    let mut interest: HashMap<Kind, Interest> = HashMap::new();
    if unread {
        for kind in ResourceType::all() {
            interest.entry(Kind(kind.code())).or_default().moves = true;
        }
    }
    for published in versions.values() {
        let definition = &published.definition;
        for kind in definition.kinds() {
            interest.entry(Kind(kind.code())).or_default().moves = true;
        }
        let has = definition.entry.who.iter().filter_map(|who| match who {
            crate::definition::Who::Has { kind, .. } => Some(*kind),
            crate::definition::Who::This(_) => None,
        });
        for kind in has.chain([definition.entry.event]) {
            interest.entry(Kind(kind.code())).or_default().starts = true;
        }
        let entry = Kind(definition.entry.event.code());
        interest.entry(entry).or_default().entry = true;
    }
    interest
}

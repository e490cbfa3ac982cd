//! When a batch is closed, and what becomes of it whatever ends this process.
//!
//! A batch begins as an entry of the outbox that names the messages it may take, with a second one that says that it takes
//! any: what puts a message into it asks in the same commit whether that is there still. It is shut by taking that away,
//! once each message was decided on (`accept.rs`), so that a server from which it was taken puts nothing into it any more;
//! and closed with those that it took by then. Only then are its files written; it is marked as handed
//! over, and each of its messages is. So a process that dies leaves one of three things: an entry that is open, of which
//! nobody has seen a file, and which is closed with what it took until then; one that is closed, whose files are written
//! again, byte by byte the same and under the same names; or one that is handed over, whose messages are told so.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fhir::ResourceType;
use jiff::Timestamp;
use ledger::{
    Expected, LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner, Shard, ShardWork, TenantId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};
use trust::outgoing::Message;
use trust::{
    Action, Agent, Change, Internal, Permit, Purpose, Target, Trust, TrustError, Unit, kinds,
};

use super::accept::{expected, handed, last_closing};
use super::folder::Folder;
use super::parcel::{self, Parcel};
use super::{Closing, FileOptions, FileWay, Files, age, batch_of};
use crate::attempt::CONFLICTS_MAX;
use crate::carrier::Carrier;
use crate::deliverer::{DeliverError, Deliverer, Inner, hex, persist};

/// The most messages of a batch: what names them has to fit into an entry of the outbox.
pub(super) const SIZE_MAX: usize = 2_000;
/// Messages that are decided on at once.
const PARALLEL: usize = 8;
/// How often it is looked whether there is something to do, real time.
const LOOK: Duration = Duration::from_secs(1);
/// How long it rests after something went wrong, real time.
const REST: Duration = Duration::from_secs(15);
/// Batches under way that are looked at at once. One server closes one after the other, so there are as many as servers
/// have left behind.
const BATCHES: usize = 16;
/// As many batches that can't be brought to their end keep further ones from being closed.
const FAULTS_MAX: usize = 2;
/// The shard whose holder reads what partners tell, of several servers.
const READER: Shard = Shard(0);

/// A batch under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Batch {
    name: String,
    /// The day that it counts for, where the messages of a day are limited.
    day: String,
    /// How many of that day's it has.
    reserved: u32,
    /// What the random parts of its sealed files are made of.
    seed: String,
    stands: Stands,
    /// The messages that it may take, and that it has taken once it is closed.
    of: Vec<Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stands {
    Open,
    /// It takes no more.
    Shut,
    Closed,
    Handed,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    #[serde(rename = "p")]
    patient: String,
    #[serde(rename = "c")]
    communication: String,
}

/// What stands beside a batch for as long as it takes messages.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    open: String,
}

/// The key of what stands beside a batch.
fn mark_key(batch: OutboxKey) -> OutboxKey {
    OutboxKey {
        id: batch.id.map(|byte| !byte),
        ..batch
    }
}

/// How many were handed over on a day.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    count: u32,
}

/// Closes batches of letters, or of telephone calls, hands them over, and reads what the partner tells, until `stop` says
/// so.
pub struct FileDeliverer {
    inner: Arc<Inner>,
    files: Arc<Files>,
    tenant: TenantId,
    unreadable: Arc<AtomicU64>,
}

/// A look at a file that comes back.
pub(super) type Seen = HashMap<PathBuf, (u64, Option<SystemTime>)>;

impl FileDeliverer {
    /// Checks options; touches no folder yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. a key that is none).
    pub fn new(trust: Trust, tenant: TenantId, options: FileOptions) -> Result<Self, String> {
        let base = options.portal_base.clone();
        let files = Arc::new(Files::new(options)?);
        let deliverer = Deliverer::new(
            trust,
            Carrier::Files(Arc::clone(&files)),
            base,
            false,
            PARALLEL,
        )?;
        Ok(Self {
            inner: deliverer.inner,
            files,
            tenant,
            unreadable: Arc::default(),
        })
    }

    /// How many outbox entries can't be opened, as it is counted while it runs.
    #[must_use]
    pub fn unreadable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.unreadable)
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.inner.trust
    }

    /// Runs until `stop` turns true; finishes what is under way.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let (mut seen, mut told) = (Seen::new(), HashMap::new());
        let name = self.files().name();
        let (mut hand_over_at, mut read_at) = (Instant::now(), Instant::now());
        while !*stop.borrow_and_update() {
            let now = Instant::now();
            if now >= hand_over_at
                && let Err(error) = self.hand_over().await
            {
                tracing::error!(%error, "{name}: a batch could not be closed or handed over; trying again");
                metrics::counter!(format!("{name}_batch_faults_total")).increment(1);
                hand_over_at = now + REST;
            }
            if now >= read_at && self.trust().vault().ledger().holds(READER) {
                match self.read_returns(&mut seen, &mut told).await {
                    Ok(true) => {}
                    Ok(false) => read_at = now + REST,
                    Err(error) => {
                        tracing::error!(%error, "{name}: what the partner tells could not be read; trying again");
                        read_at = now + REST;
                    }
                }
            }
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { break },
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Goes on with batches that are under way, and closes one if it is time.
    async fn hand_over(&self) -> Result<(), DeliverError> {
        let ledger = self.trust().vault().ledger();
        let channels = [self.files().batches()];
        // Each has its mark beside it.
        let look = ledger.outbox_look(&channels, u64::MAX, 2 * BATCHES);
        let look = look.await.map_err(TrustError::from)?;
        let mut unreadable = look.unreadable.len();
        let mut faults = Vec::new();
        for entry in look.entries {
            if let Ok(batch) = serde_json::from_slice::<Batch>(&entry.body) {
                // The shard stays here until the batch has come to its end.
                let work = ledger.work_on(entry.key.shard);
                if let Err(error) = self.go_on(entry, batch).await {
                    faults.push(error);
                }
                drop(work);
            } else if serde_json::from_slice::<Mark>(&entry.body).is_err() {
                unreadable += 1;
            }
        }
        // One that can't be brought to its end keeps the others waiting for nothing; where several can't, it is the place
        // that they go to, and what waits in the outbox is better off there.
        while faults.len() < FAULTS_MAX
            && let Some((work, entry, batch)) = self.begin(&mut unreadable).await?
        {
            let decided = self.go_on(entry, batch).await?;
            drop(work);
            if !decided {
                break;
            }
        }
        self.unreadable.store(unreadable as u64, Ordering::Relaxed);
        faults.into_iter().next().map_or(Ok(()), Err)
    }

    /// A permit for what is no patient's, or one's.
    pub(super) async fn permit(
        &self,
        patient: Option<&str>,
        what: &str,
    ) -> Result<Permit, TrustError> {
        let agent = Agent::system(self.tenant, self.files().part());
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: patient.map(str::to_owned),
        };
        let decided = self
            .trust()
            .decide(&agent, Purpose::Operations, Action::Send, target, what);
        decided.await
    }

    /// Begins a batch, if it is time or there are as many messages as one takes.
    async fn begin(
        &self,
        unreadable: &mut usize,
    ) -> Result<Option<(ShardWork, OutboxEntry, Batch)>, DeliverError> {
        let (files, vault) = (self.files(), self.trust().vault());
        let ledger = vault.ledger();
        let now_ms = ledger.clock().now_ms();
        let look = ledger
            .outbox_look(files.outbox(), now_ms, files.options.size)
            .await;
        let look = look.map_err(TrustError::from)?;
        let found = look.entries.len();
        let entries: Vec<(OutboxEntry, Message)> = (look.entries.into_iter())
            .filter_map(|entry| {
                serde_json::from_slice(&entry.body)
                    .ok()
                    .map(|message| (entry, message))
            })
            .collect();
        *unreadable += look.unreadable.len() + (found - entries.len());
        let Some(oldest_ms) = entries.iter().map(|(entry, _)| entry.key.due_ms).min() else {
            return Ok(None);
        };
        let is_time = last_closing(files, now_ms).is_some_and(|closing_ms| oldest_ms <= closing_ms);
        if !is_time && entries.len() < files.options.size {
            return Ok(None);
        }
        // Nothing is promised to a folder that isn't there, as one on a server that is away.
        let folder = files.options.folder.clone();
        if !spawn_blocking(move || folder.is_dir())
            .await
            .unwrap_or(false)
        {
            return Err(DeliverError::Compose(
                "the folder for hand-over is not there".to_owned(),
            ));
        }
        let name = files.name();
        let permit = self.permit(None, &format!("{name}-batch")).await?;
        let at = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX))
            .unwrap_or_default();
        let day = at.strftime("%Y-%m-%d").to_string();
        let (firsts, others) = once_each(entries);
        let (room, tally) = self.room(&permit, &day, firsts.len()).await?;
        if room == 0 {
            return Ok(None);
        }
        let (mut id, mut seed) = ([0; 16], [0; 32]);
        ledger.entropy().fill(&mut id);
        ledger.entropy().fill(&mut seed);
        let shard = firsts.first().map_or(READER, |(entry, _)| entry.key.shard);
        let of = firsts.iter().take(room).map(|(_, message)| Member {
            patient: message.patient.clone(),
            communication: message.communication.clone(),
        });
        // It stays here from before there is anything of it.
        let work = ledger.work_on(shard);
        let batch = Batch {
            name: format!(
                "{name}s-{}-{}",
                at.strftime("%Y%m%dT%H%M%SZ"),
                &hex(id)[..8]
            ),
            day,
            reserved: u32::try_from(room).unwrap_or(u32::MAX),
            seed: seed.iter().map(|byte| format!("{byte:02x}")).collect(),
            stands: Stands::Open,
            of: of.collect(),
        };
        let key = OutboxKey {
            shard,
            due_ms: now_ms,
            id,
        };
        let unit = Unit {
            outbox_add: vec![self.draft(key, &batch), self.mark(key, &batch.name)],
            internals: tally.into_iter().collect(),
            held: Some(shard),
            note: Some(format!("batch {} begins with {room} messages", batch.name)),
            ..Unit::default()
        };
        vault.commit(&permit, unit).await?;
        let closing = Closing {
            name: batch.name.clone(),
            mark: self.mark(key, &batch.name),
        };
        let taken = firsts.into_iter().take(room).map(|(entry, _)| entry);
        self.decide(&closing, taken).await;
        // Their messages were decided on: these have nothing to do any more.
        let is_member = |message: &Message| {
            let mut members = batch.of.iter();
            members.any(|member| member.communication == message.communication)
        };
        let others = others.into_iter();
        let others = others.filter_map(|(entry, message)| is_member(&message).then_some(entry));
        self.decide(&closing, others).await;
        let entry = OutboxEntry {
            key,
            tenant: self.tenant,
            channel: files.batches(),
            attempt: 0,
            body: Vec::new(),
        };
        Ok(Some((work, entry, batch)))
    }

    /// What stands beside a batch that takes messages.
    fn mark(&self, batch: OutboxKey, name: &str) -> OutboxDraft {
        let mark = Mark {
            open: name.to_owned(),
        };
        OutboxDraft {
            key: mark_key(batch),
            owner: Owner::Tenant,
            channel: self.files().batches(),
            attempt: 0,
            // A document of strings can't fail to serialise.
            body: serde_json::to_vec(&mark).unwrap_or_default(),
        }
    }

    fn draft(&self, key: OutboxKey, batch: &Batch) -> OutboxDraft {
        OutboxDraft {
            key,
            owner: Owner::Tenant,
            channel: self.files().batches(),
            attempt: 0,
            // A document of strings can't fail to serialise.
            body: serde_json::to_vec(batch).unwrap_or_default(),
        }
    }

    /// How many of so many messages the day has room for, with what keeps that for them.
    async fn room(
        &self,
        permit: &Permit,
        day: &str,
        wanted: usize,
    ) -> Result<(usize, Option<Internal>), TrustError> {
        let Some(most) = self.files().options.per_day else {
            return Ok((wanted, None));
        };
        let (tally, version) = self.tally(permit, day).await?;
        let left = most.saturating_sub(tally.count);
        let room = wanted.min(left as usize);
        let count = tally
            .count
            .saturating_add(u32::try_from(room).unwrap_or(u32::MAX));
        Ok((room, Some(self.tallied(day, Tally { count }, version))))
    }

    async fn tally(&self, permit: &Permit, day: &str) -> Result<(Tally, Option<u32>), TrustError> {
        let (vault, id) = (self.trust().vault(), self.tally_id(day));
        let found = vault.internal(permit, kinds::FILE_TALLY, &id).await?;
        let tally = found
            .as_ref()
            .and_then(|found| serde_json::from_slice(&found.body).ok());
        Ok((tally.unwrap_or_default(), found.map(|found| found.version)))
    }

    fn tally_id(&self, day: &str) -> String {
        let ledger = self.trust().vault().ledger();
        ledger.derive_own_id(self.tenant, &format!("files/{}/{day}", self.files().name()))
    }

    fn tallied(&self, day: &str, tally: Tally, version: Option<u32>) -> Internal {
        Internal {
            kind: kinds::FILE_TALLY,
            id: self.tally_id(day),
            owner: Owner::Tenant,
            expected: expected(version),
            body: serde_json::to_vec(&tally).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        }
    }

    /// Decides on each message of a batch. One that can't be decided on stays where it is, for another.
    async fn decide(&self, closing: &Closing, entries: impl Iterator<Item = OutboxEntry>) {
        let name = self.files().name();
        self.files().set_closing(Some(closing.clone()));
        let mut under_way = JoinSet::new();
        for entry in entries {
            if under_way.len() >= PARALLEL {
                under_way.join_next().await;
            }
            let inner = Arc::clone(&self.inner);
            under_way.spawn(async move {
                let work = inner.trust.vault().ledger().work_on(entry.key.shard);
                match inner.attempt(&entry).await {
                    Ok(()) | Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Fenced(_)))) => {}
                    Err(error) => {
                        tracing::error!(outbox = %hex(entry.key.id), %error, "{name}: a message could not be decided on");
                    }
                }
                drop(work);
            });
        }
        while under_way.join_next().await.is_some() {}
        self.files().set_closing(None);
    }

    /// Brings a batch to its end from wherever it stands. False where no message of it was decided on.
    async fn go_on(&self, mut entry: OutboxEntry, mut batch: Batch) -> Result<bool, DeliverError> {
        let permit = self
            .permit(None, &format!("{}-{}", self.files().name(), batch.name))
            .await?;
        if batch.stands == Stands::Open {
            self.shut(&permit, &mut entry, &mut batch).await?;
        }
        let parcels = self.parcels(&batch).await?;
        let mut decided = true;
        if batch.stands == Stands::Shut {
            decided = !parcels.is_empty() || self.is_any_decided(&batch).await?;
            let took: Vec<&Parcel> = parcels.iter().map(|(_, parcel)| parcel).collect();
            let mut named = HashSet::new();
            batch.of.retain(|member| {
                took.iter()
                    .any(|parcel| parcel.communication == member.communication)
                    && named.insert(member.communication.clone())
            });
            self.close(&permit, &mut entry, &mut batch).await?;
        }
        // Numbered by those that it took.
        let parcels = if batch.stands == Stands::Closed {
            self.parcels(&batch).await?
        } else {
            parcels
        };
        if batch.stands == Stands::Closed && !parcels.is_empty() {
            self.write(&batch, parcels.clone()).await?;
            let name = self.files().name();
            metrics::counter!(format!("{name}_batches_total")).increment(1);
            batch.stands = Stands::Handed;
            self.replace(&permit, &mut entry, &batch, None, "handed over")
                .await?;
        }
        for member in &batch.of {
            persist(|| self.settle(&batch, member)).await?;
        }
        let unit = Unit {
            outbox_remove: vec![entry.key],
            held: Some(entry.key.shard),
            note: Some(format!("batch {} is done", batch.name)),
            ..Unit::default()
        };
        self.trust().vault().commit(&permit, unit).await?;
        Ok(decided)
    }

    /// Whether a message that a batch might have taken was decided on otherwise.
    async fn is_any_decided(&self, batch: &Batch) -> Result<bool, DeliverError> {
        let (files, ledger) = (self.files(), self.trust().vault().ledger());
        let now_ms = ledger.clock().now_ms();
        let look = ledger.outbox_look(files.outbox(), now_ms, files.options.size);
        let look = look.await.map_err(TrustError::from)?;
        let waiting: Vec<String> = (look.entries.iter())
            .filter_map(|entry| serde_json::from_slice::<Message>(&entry.body).ok())
            .map(|message| message.communication)
            .collect();
        Ok(batch
            .of
            .iter()
            .any(|member| !waiting.contains(&member.communication)))
    }

    /// Shuts a batch: nothing is put into it from then on, whoever decides on a message of it still.
    async fn shut(
        &self,
        permit: &Permit,
        entry: &mut OutboxEntry,
        batch: &mut Batch,
    ) -> Result<(), DeliverError> {
        batch.stands = Stands::Shut;
        let unit = Unit {
            outbox_remove: vec![entry.key, mark_key(entry.key)],
            outbox_add: vec![self.draft(entry.key, batch)],
            held: Some(entry.key.shard),
            note: Some(format!("batch {} takes no more", batch.name)),
            ..Unit::default()
        };
        self.trust().vault().commit(permit, unit).await?;
        Ok(())
    }

    /// Closes a batch with what it took; what it didn't take gives its places of the day back.
    async fn close(
        &self,
        permit: &Permit,
        entry: &mut OutboxEntry,
        batch: &mut Batch,
    ) -> Result<(), DeliverError> {
        batch.stands = Stands::Closed;
        let took = u32::try_from(batch.of.len()).unwrap_or(u32::MAX);
        let back = batch.reserved.saturating_sub(took);
        batch.reserved = took;
        for _ in 0..CONFLICTS_MAX {
            let tally = match self.files().options.per_day {
                Some(_) if back > 0 => {
                    let (tally, version) = self.tally(permit, &batch.day).await?;
                    let count = tally.count.saturating_sub(back);
                    Some(self.tallied(&batch.day, Tally { count }, version))
                }
                _ => None,
            };
            let words = format!("closed with {took} messages");
            match self.replace(permit, entry, batch, tally, &words).await {
                Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                other => return other,
            }
        }
        Err(DeliverError::Contended)
    }

    async fn replace(
        &self,
        permit: &Permit,
        entry: &mut OutboxEntry,
        batch: &Batch,
        tally: Option<Internal>,
        words: &str,
    ) -> Result<(), DeliverError> {
        let unit = Unit {
            outbox_remove: vec![entry.key],
            outbox_add: vec![self.draft(entry.key, batch)],
            internals: tally.into_iter().collect(),
            held: Some(entry.key.shard),
            note: Some(format!("batch {} is {words}", batch.name)),
            ..Unit::default()
        };
        self.trust().vault().commit(permit, unit).await?;
        Ok(())
    }

    /// What a batch took, with the numbers of its messages. A patient whose key is destroyed has none any more.
    async fn parcels(&self, batch: &Batch) -> Result<Vec<(usize, Parcel)>, DeliverError> {
        let vault = self.trust().vault();
        let permit = self
            .permit(None, &format!("{}-{}", self.files().name(), batch.name))
            .await?;
        let mut parcels = Vec::new();
        let mut found_of = HashSet::new();
        for (number, member) in (1..).zip(&batch.of) {
            // Each is handed over once, whatever names it.
            if !found_of.insert(member.communication.as_str()) {
                continue;
            }
            let named = (batch.name.as_str(), member.communication.as_str());
            let id = parcel::id(vault.ledger(), self.tenant, &member.patient, named);
            let found = match vault.internal(&permit, kinds::FILE_PARCEL, &id).await {
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => None,
                other => other?,
            };
            // One that a newer version wrote is no reason to hand the rest over and say that all was.
            let Some(found) = found else { continue };
            let parcel = serde_json::from_slice(&found.body).map_err(|_| {
                DeliverError::Compose(format!("message {number} of a batch can't be read"))
            })?;
            parcels.push((number, parcel));
        }
        Ok(parcels)
    }

    /// Writes the files of a batch, the list last: whoever sees the list sees all that it names.
    async fn write(
        &self,
        batch: &Batch,
        parcels: Vec<(usize, Parcel)>,
    ) -> Result<(), DeliverError> {
        let files = Arc::clone(&self.files);
        let (name, seed) = (batch.name.clone(), seed(&batch.seed));
        let written = spawn_blocking(move || {
            let options = &files.options;
            let plain = match (&options.way, &files.face) {
                (FileWay::Letters(letters), Some(face)) => {
                    parcel::letters(&name, &parcels, (face, letters, &options.portal_base))?
                }
                (FileWay::Letters(_), None) => return Err("there is no font".to_owned()),
                (FileWay::Calls(calls), _) => parcel::calls(&name, &parcels, calls)?,
            };
            for file in plain {
                write_sealed(&files, &seed, &options.folder, &file)?;
            }
            Ok(())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(words)) => Err(DeliverError::Compose(words)),
            Err(_) => Err(DeliverError::Compose("writing a batch panicked".to_owned())),
        }
    }

    /// Says of a message that its batch was handed over.
    async fn settle(&self, batch: &Batch, member: &Member) -> Result<(), DeliverError> {
        let (vault, files) = (self.trust().vault(), self.files());
        let ledger = vault.ledger();
        let request = format!("{}-{}", files.name(), member.communication);
        for _ in 0..CONFLICTS_MAX {
            let permit = self.permit(Some(&member.patient), &request).await?;
            let named = (batch.name.as_str(), member.communication.as_str());
            let id = parcel::id(ledger, self.tenant, &member.patient, named);
            let parcel = match vault.internal(&permit, kinds::FILE_PARCEL, &id).await {
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => None,
                other => other?,
            };
            // It was told already, or there is nobody any more.
            let Some(parcel) = parcel else { return Ok(()) };
            let mut unit = Unit {
                internals: vec![Internal {
                    kind: kinds::FILE_PARCEL,
                    id,
                    owner: Owner::Patient(member.patient.clone()),
                    expected: Expected::Version(parcel.version),
                    body: Vec::new(),
                    deleted: true,
                    tokens: Vec::new(),
                }],
                patient: Some(member.patient.clone()),
                note: Some(format!(
                    "{} handed over in batch {}",
                    files.words(),
                    batch.name
                )),
                ..Unit::default()
            };
            let kind = ResourceType::Communication;
            let found = vault.load(&permit, kind, &member.communication).await?;
            let is_of_it = |found: &trust::Versioned| {
                !found.deleted
                    && batch_of(&found.resource) == Some(batch.name.as_str())
                    && found.resource.get("sent").is_none()
            };
            if let Some(found) = found.filter(is_of_it) {
                let mut resource = found.resource;
                handed(&mut resource, files, ledger.clock().now_ms());
                resource.strip_meta();
                unit.changes.push(Change::Put {
                    resource,
                    expected: Expected::Version(found.version),
                });
            }
            match vault.commit(&permit, unit).await {
                Ok(_) => {
                    metrics::counter!(format!("{}_handed_total", files.name())).increment(1);
                    if let Some(price) = &files.options.price {
                        price.count(if files.rings() { "call" } else { "letter" });
                    }
                    return Ok(());
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }
}

type Entries = Vec<(OutboxEntry, Message)>;

/// The newest entry of each message, in the order that they are in, and the others: of a message that was held and let go
/// there are two.
fn once_each(entries: Entries) -> (Entries, Entries) {
    let mut newest: HashMap<String, OutboxKey> = HashMap::new();
    for (entry, message) in &entries {
        let key = newest
            .entry(message.communication.clone())
            .or_insert(entry.key);
        if (entry.key.due_ms, entry.key.id) > (key.due_ms, key.id) {
            *key = entry.key;
        }
    }
    entries
        .into_iter()
        .partition(|(entry, message)| newest.get(&message.communication) == Some(&entry.key))
}

fn write_sealed(
    files: &Files,
    seed: &[u8; 32],
    folder: &Path,
    file: &parcel::Plain,
) -> Result<(), String> {
    let sealed = age::seal(&files.recipient, seed, &file.name, &file.content);
    let sealed = sealed.ok_or("a file can't be sealed for the partner")?;
    let name = format!("{}.age", file.name);
    // What a file system says may name the folder, which is the operator's own, and nothing of anybody.
    Folder::open(folder)
        .and_then(|folder| folder.write(&name, &sealed))
        .map_err(|error| format!("{name} can't be written: {error}"))
}

/// A seed by its text.
fn seed(text: &str) -> [u8; 32] {
    let mut seed = [0; 32];
    for (place, byte) in seed.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2);
        *byte = digits
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .unwrap_or_default();
    }
    seed
}

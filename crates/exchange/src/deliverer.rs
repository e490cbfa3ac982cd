//! The loop that takes due outbox entries, and what one attempt is.
//!
//! An attempt is: read the message, look the patient and their consents up again, ask `check.rs`, hand
//! the mail over, and write the outcome. The outcome of an attempt (the `Communication`'s new state
//! and the outbox entry's end or its next time) is one commit. A crash between the server's "taken" and
//! that commit sends the message again under the same `Message-ID`: at least once, and recognisably so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, OutboxDraft, OutboxEntry, OutboxKey, OutboxLook, Owner};
use lettre::Address;
use lettre::message::Mailbox;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use trust::outgoing::{CHANNEL_EMAIL, CHANNEL_MAIL_TAKEN, CHANNEL_NOTICE, Message, Notice};
use trust::{Action, Agent, Change, Permit, Purpose, Target, Trust, TrustError, Unit, Versioned};

use crate::breaker::{Breaker, Room};
use crate::calendar::Entered;
use crate::check::{Reason, Refused, check};
use crate::compose::{Letter, compose, link, message_id};
use crate::outcome::{Outcome, count, is_waiting, mark, note};
use crate::retry::{self, Next};
use crate::returns::{Of, Returns, sixteen};
use crate::smtp::{Failure, Meaning, Smtp};
use crate::{MailOptions, MailTls};

/// The part of Cairn that the audit names.
pub(crate) const PART: &str = "mail-deliverer";
/// What goes by e-mail.
const CHANNELS: [u16; 2] = [CHANNEL_EMAIL, CHANNEL_NOTICE];
/// How much of what may have come back is looked at at once: no mail server is asked, so that none that doesn't answer
/// keeps a journey waiting.
const BELIEVED_AT_ONCE: usize = 4;
/// How long a sign-in link in a mail works, seconds of real time: a week, so that it outlives the
/// waits of a follow-up's steps. Each use needs the birth date too.
const LINK_LIFE_S: u64 = 7 * 24 * 3_600;
/// How long an entry rests after a fault of ours, real time.
const REST: Duration = Duration::from_secs(5);
/// How long one rests that policies refuse: they may do so all night, and the audit has each time.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long an entry rests that was left to another process: until this one knows which shards it holds.
const LEFT_REST: Duration = Duration::from_secs(1);
/// The longest sleep, real time. The sleep until the next entry is due is measured by a clock that
/// stands still while the machine is suspended and knows nothing of the care clock being set, so the
/// care clock is asked again this often; a look costs one short scan.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// How often a commit is tried again when somebody else changed the `Communication` meanwhile.
pub(crate) const CONFLICTS_MAX: u32 = 8;
/// Pauses before a commit is tried again that failed in the store.
const COMMIT_PAUSES_MS: [u64; 4] = [50, 250, 1_000, 4_000];
/// Consents are read this many at a time (the most that a search gives).
const CONSENTS_PAGE: &str = "1000";

/// What can go wrong on our side of a delivery. No patient details in the words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    #[error(transparent)]
    Trust(TrustError),
    #[error("the query for consents does not parse: {0}")]
    Query(String),
    #[error("the mail can't be put together: {0}")]
    Compose(String),
    #[error("the message kept changing while its outcome was written")]
    Contended,
}

impl From<TrustError> for DeliverError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

/// Takes e-mail entries from the outbox and delivers them, until `stop` says so.
pub struct MailDeliverer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) trust: Trust,
    pub(crate) options: MailOptions,
    pub(crate) from: Mailbox,
    pub(crate) returns: Option<Returns>,
    smtp: Smtp,
    breaker: Mutex<Breaker>,
    /// Outbox entries that can't be opened.
    unreadable: Arc<AtomicU64>,
}

impl MailDeliverer {
    /// Checks options; does not connect yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. no TLS to another machine).
    pub fn new(trust: Trust, mut options: MailOptions) -> Result<Self, String> {
        let from: Mailbox = options
            .from
            .parse()
            .map_err(|error| format!("the sender {:?}: {error}", options.from))?;
        if let Some(dkim) = &options.dkim
            && !dkim.speaks_for(from.email.domain())
        {
            return Err(format!(
                "e-mails are signed by {}, which does not speak for the sender {:?}",
                dkim.domain(),
                options.from
            ));
        }
        let returns = options.returns.as_ref().map(Returns::new).transpose()?;
        let domain = &options.message_id_domain;
        if domain.is_empty()
            || !domain
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        {
            return Err(format!("the domain for Message-IDs {domain:?} is not one"));
        }
        while options.portal_base.ends_with('/') {
            options.portal_base.pop();
        }
        let base = &options.portal_base;
        if !(base.starts_with("https://") || base.starts_with("http://"))
            || base.contains(char::is_whitespace)
        {
            return Err(format!(
                "the portal's address {base:?} is not an http(s) URL"
            ));
        }
        if options.parallel == 0 {
            return Err("deliveries at once must be at least 1".to_owned());
        }
        if options.timeout_ms == 0 {
            return Err("the time-out of a conversation must be at least 1 ms".to_owned());
        }
        let smtp = Smtp::new(&options)?;
        if options.credentials.is_some() && options.tls == MailTls::None {
            tracing::warn!("mail: the password goes to the server on this machine without TLS");
        }
        let breaker = Mutex::new(Breaker::new());
        Ok(Self {
            inner: Arc::new(Inner {
                trust,
                options,
                from,
                returns,
                smtp,
                breaker,
                unreadable: Arc::default(),
            }),
        })
    }

    /// How many outbox entries can't be opened, as it is counted while it runs.
    #[must_use]
    pub fn unreadable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.unreadable)
    }

    /// Runs until `stop` turns true; finishes conversations under way.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut news = self.inner.trust.vault().ledger().watch();
        let mut round = Round::default();
        while !*stop.borrow_and_update() {
            let wake = self.inner.start_due(&mut round).await;
            tokio::select! {
                // An error means that nobody is left who could say "stop" later.
                changed = stop.changed() => if changed.is_err() { break },
                Some(done) = round.tasks.join_next_with_id() => round.ended(done),
                closed = next_news(&mut news) => if closed { break },
                () = wait(wake) => {}
            }
        }
        while let Some(done) = round.tasks.join_next_with_id().await {
            round.ended(done);
        }
    }
}

/// Waits for a commit; whatever else came meanwhile is the same news. True when the ledger closed.
pub(crate) async fn next_news(news: &mut broadcast::Receiver<ledger::Shard>) -> bool {
    if matches!(news.recv().await, Err(broadcast::error::RecvError::Closed)) {
        return true;
    }
    loop {
        match news.try_recv() {
            Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(broadcast::error::TryRecvError::Empty) => return false,
            Err(broadcast::error::TryRecvError::Closed) => return true,
        }
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// What is under way.
#[derive(Default)]
struct Round {
    tasks: JoinSet<Result<(), DeliverError>>,
    busy: HashMap<tokio::task::Id, [u8; 16]>,
    /// Of those, what was sent already and may have come back.
    believed: HashSet<[u8; 16]>,
    /// Entries that rest after a fault of ours.
    resting: HashMap<[u8; 16], Instant>,
    /// Entries that can't be opened and were said to the log.
    unreadable: HashSet<[u8; 16]>,
}

impl Round {
    fn is_busy(&self, id: [u8; 16]) -> bool {
        self.busy.values().any(|busy| *busy == id)
    }

    fn ended(
        &mut self,
        done: Result<(tokio::task::Id, Result<(), DeliverError>), tokio::task::JoinError>,
    ) {
        let (task, fault) = match done {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => {
                let refused = matches!(error, DeliverError::Trust(TrustError::Refused(_)));
                let rest = if refused { REFUSED_REST } else { REST };
                (task, Some((error.to_string(), rest)))
            }
            Err(error) => (error.id(), Some(("the delivery panicked".to_owned(), REST))),
        };
        let Some(id) = self.busy.remove(&task) else {
            return;
        };
        self.believed.remove(&id);
        if let Some((fault, rest)) = fault {
            tracing::error!(outbox = %hex(id), fault, "mail: an attempt could not be carried out");
            self.resting.insert(id, Instant::now() + rest);
        }
    }

    /// Entries that can't be opened stay where they are: a newer version, or a backup, may be able to.
    /// Their steps go on when their time is over.
    fn set_aside(&mut self, unreadable: &[(OutboxKey, LedgerError)]) {
        for (key, error) in unreadable {
            if self.unreadable.insert(key.id) {
                tracing::error!(outbox = %hex(key.id), %error, "mail: an outbox entry can't be opened; it is passed over");
            }
        }
        self.unreadable
            .retain(|id| unreadable.iter().any(|(key, _)| key.id == *id));
    }
}

impl Inner {
    /// Starts what is due and there is room for; says when to look again if nothing happens first.
    async fn start_due(self: &Arc<Self>, round: &mut Round) -> Option<Instant> {
        let now = Instant::now();
        round.resting.retain(|_, until| *until > now);
        let parallel = self.options.parallel;
        let believed = round.believed.len();
        let room = self
            .breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .room(now, round.busy.len() - believed, parallel);
        // Those under way and resting are still in the outbox and come first. One more than there can
        // be room for shows when the next one is due.
        let shown = round.busy.len() + round.resting.len() + 1;
        let Some(mut mail) = self.look(&CHANNELS, shown + parallel).await else {
            return Some(now + REST);
        };
        let taken = self.look(&[CHANNEL_MAIL_TAKEN], shown + BELIEVED_AT_ONCE);
        let Some(taken) = taken.await else {
            return Some(now + REST);
        };
        mail.unreadable.extend(taken.unreadable);
        round.set_aside(&mail.unreadable);
        let count = mail.unreadable.len() as u64;
        self.unreadable.store(count, Ordering::Relaxed);
        let rested = round.resting.values().min().copied();
        let room_to_believe = BELIEVED_AT_ONCE.saturating_sub(believed);
        let believes = self.start(round, taken.entries, room_to_believe);
        let sends = match room {
            Room::For(room) => self.start(round, mail.entries, room),
            Room::NoneUntil(until) => Some(until),
        };
        [rested, believes, sends].into_iter().flatten().min()
    }

    /// What is first in channels; none where the outbox can't be read.
    async fn look(&self, channels: &[u16], limit: usize) -> Option<OutboxLook> {
        let ledger = self.trust.vault().ledger();
        let look = ledger.outbox_look(channels, u64::MAX, limit).await;
        look.inspect_err(|error| tracing::error!(%error, "mail: the outbox can't be read"))
            .ok()
    }

    /// Starts what is due of some entries, as many as there is room for; says when the next one is due.
    fn start(
        self: &Arc<Self>,
        round: &mut Round,
        entries: Vec<OutboxEntry>,
        mut room: usize,
    ) -> Option<Instant> {
        let now = Instant::now();
        let clock = self.trust.vault().ledger().clock();
        let now_ms = clock.now_ms();
        for entry in entries {
            if round.is_busy(entry.key.id) || round.resting.contains_key(&entry.key.id) {
                continue;
            }
            if entry.key.due_ms > now_ms {
                let due = now
                    + clock
                        .real_wait(entry.key.due_ms)
                        .clamp(Duration::from_millis(1), SLEEP_MAX);
                return Some(due);
            }
            if room == 0 {
                // The end of a delivery under way makes room and wakes us.
                return None;
            }
            room -= 1;
            let id = entry.key.id;
            if entry.channel == CHANNEL_MAIL_TAKEN {
                round.believed.insert(id);
            }
            let inner = Arc::clone(self);
            let task = round.tasks.spawn(async move {
                // The shard stays here until the outcome is written down.
                let work = inner.trust.vault().ledger().work_on(entry.key.shard);
                let outcome = inner.attempt(&entry).await;
                drop(work);
                match outcome {
                    // It is for another process now, which finds the entry where it was.
                    Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Fenced(shard)))) => {
                        tracing::debug!(%shard, "mail: left to the process that works on the shard now");
                        // This process may not know yet that it has lost the shard.
                        sleep(LEFT_REST).await;
                        Ok(())
                    }
                    other => other,
                }
            });
            round.busy.insert(task.id(), id);
        }
        None
    }

    /// One attempt at one entry. An error leaves the entry where it is.
    async fn attempt(&self, entry: &OutboxEntry) -> Result<(), DeliverError> {
        let agent = Agent::system(entry.tenant, PART);
        let request_id = format!("mail-{}-{}", hex(entry.key.id), entry.attempt + 1);
        if entry.channel == CHANNEL_MAIL_TAKEN {
            return self.believe(&agent, entry, &request_id).await;
        }
        let Ok(message) = serde_json::from_slice::<Message>(&entry.body) else {
            // In whichever channel: the first builds with notices put them among the messages.
            return match serde_json::from_slice::<Notice>(&entry.body) {
                Ok(notice) => self.notify(&agent, entry, &notice, &request_id).await,
                Err(_) => self.drop_unreadable(&agent, entry, &request_id).await,
            };
        };
        let purpose: Option<Purpose> = serde_json::from_value(message.purpose.as_str().into()).ok();
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: Some(message.patient.clone()),
        };
        let granted = purpose.unwrap_or(Purpose::Operations);
        let permit = self
            .trust
            .decide(&agent, granted, Action::Send, target, &request_id)
            .await?;
        let attempt = Attempt {
            inner: self,
            permit,
            entry,
            message,
            sent_to: OnceLock::new(),
        };
        if attempt.communication().await?.is_none() {
            // Nobody waits for this message any more.
            return attempt.settle(&Outcome::Cancelled).await;
        }
        let patient = attempt.patient().await?;
        // What is written to somebody who acts for the patient is no message of a programme to the patient.
        if let Some(proxy) = attempt.message.proxy.clone() {
            let outcome = attempt.to_proxy(&agent, &proxy, patient.as_ref()).await?;
            return attempt.settle(&outcome).await;
        }
        let consents = attempt.consents().await?;
        let known_as = (self.trust.vault())
            .programmes_known_as(entry.tenant)
            .await?;
        let now_ms = self.trust.vault().ledger().clock().now_ms();
        let (patient, barred) = match patient {
            Some(patient) => {
                let (patient, barred) = self.without_barred(&attempt.permit, patient).await?;
                (Some(patient), barred)
            }
            None => (None, None),
        };
        let checked = check(
            &attempt.message,
            purpose,
            patient.as_ref(),
            (self.trust.vault().rules(), consents.as_slice()),
            &known_as,
            now_ms,
        );
        // What is said is why nothing goes to the address that is there, not that there is none.
        let checked = checked.map_err(|refused| match barred {
            Some(barred) if refused.reason == Reason::NoAddress => barred,
            _ => refused,
        });
        let outcome = match checked {
            // A small child has no address: the message goes to a parent or guardian who takes it. All else
            // has been asked by now.
            Err(refused) if refused.reason == Reason::NoAddress => {
                attempt
                    .to_who_acts(&agent, patient.as_ref(), refused)
                    .await?
            }
            Err(refused) => Outcome::NotDone(refused),
            // A link that nobody can open is no message: who can't sign in can't read it in the portal
            // either, so that the journey has to go another way.
            Ok(_) if self.options.magic_links && !has_birth_date(patient.as_ref()) => {
                Outcome::NotDone(Refused::new(
                    Reason::NoSignIn,
                    "There is no birth date on record to check a sign-in link with.",
                ))
            }
            Ok(to)
                if (self.trust.vault())
                    .is_of_who_acts(entry.tenant, &attempt.message.patient, to.as_ref())
                    .await? =>
            {
                Outcome::NotDone(Refused::new(
                    Reason::NoAddress,
                    "The address on record is that of somebody who acts for the patient.",
                ))
            }
            Ok(to) => attempt.deliver(&agent, &to, None).await?,
        };
        attempt.settle(&outcome).await
    }

    /// A permit to send what is no patient's.
    pub(crate) async fn of_nobody(
        &self,
        agent: &Agent,
        request_id: &str,
    ) -> Result<Permit, TrustError> {
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: None,
        };
        self.trust
            .decide(agent, Purpose::Operations, Action::Send, target, request_id)
            .await
    }

    /// An entry that can't be read can't be delivered either, now or later.
    pub(crate) async fn drop_unreadable(
        &self,
        agent: &Agent,
        entry: &OutboxEntry,
        request_id: &str,
    ) -> Result<(), DeliverError> {
        let permit = self.of_nobody(agent, request_id).await?;
        let unit = Unit {
            outbox_remove: vec![entry.key],
            held: Some(entry.key.shard),
            note: Some("an outbox entry that can't be read was dropped".to_owned()),
            ..Unit::default()
        };
        self.trust.vault().commit(&permit, unit).await?;
        tracing::error!(outbox = %hex(entry.key.id), "mail: an outbox entry that can't be read was dropped");
        metrics::counter!("mail_failed_total", "reason" => "unreadable").increment(1);
        Ok(())
    }

    fn saw(&self, outcome: Result<(), Failure>) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome.map_err(Failure::meaning) {
            Ok(()) | Err(Meaning::Later | Meaning::Never) => breaker.worked(),
            Err(Meaning::Unreachable | Meaning::Unknown) => {
                if let Some(pause) = breaker.failed(Instant::now()) {
                    tracing::warn!(
                        pause_ms = pause.as_millis(),
                        "mail: deliveries pause, the server can't be reached"
                    );
                }
            }
        }
    }

    /// Hands a mail over, `from` where it comes back to, and says what became of it.
    pub(crate) async fn hand_over(
        &self,
        entry: &OutboxEntry,
        (from, to): (&Address, &Address),
        content: &[u8],
        expires_ms: Option<u64>,
    ) -> Result<Outcome, DeliverError> {
        // Another process may have taken over while the mail was made.
        let shard = entry.key.shard;
        if !self.trust.vault().ledger().holds(shard) {
            return Err(TrustError::Ledger(LedgerError::Fenced(shard)).into());
        }
        let began = Instant::now();
        let sent = self.smtp.send(from, to, content).await;
        metrics::histogram!("smtp_conversation_seconds").record(began.elapsed().as_secs_f64());
        self.saw(sent);
        Ok(match sent {
            Ok(()) => Outcome::Sent,
            Err(failure) => self.after(entry, expires_ms, failure),
        })
    }

    fn after(&self, entry: &OutboxEntry, expires_ms: Option<u64>, failure: Failure) -> Outcome {
        let made = entry.attempt.saturating_add(1);
        let words = failure.words();
        tracing::info!(outbox = %hex(entry.key.id), attempt = made, why = words, "mail: not delivered");
        if failure.meaning() == Meaning::Never {
            return Outcome::NotDone(Refused::new(
                Reason::PermanentFailure,
                format!("Refused: {words}."),
            ));
        }
        let ledger = self.trust.vault().ledger();
        let mut dice = [0; 8];
        ledger.entropy().fill(&mut dice);
        match retry::next(
            made,
            ledger.clock().now_ms(),
            expires_ms,
            u64::from_be_bytes(dice),
        ) {
            Next::Again { due_ms, attempt } => Outcome::PutOff {
                due_ms,
                attempt,
                words,
            },
            Next::GiveUp(reason) => {
                let tries = if made == 1 { "attempt" } else { "attempts" };
                Outcome::NotDone(Refused::new(
                    reason,
                    format!("Given up after {made} {tries}: {words}."),
                ))
            }
        }
    }
}

struct Attempt<'a> {
    inner: &'a Inner,
    permit: Permit,
    entry: &'a OutboxEntry,
    message: Message,
    /// What stands for the address that it went to.
    sent_to: OnceLock<String>,
}

impl Attempt<'_> {
    /// The `Communication` that follows this message, if it still waits for it.
    async fn communication(&self) -> Result<Option<Versioned>, TrustError> {
        let found = self
            .inner
            .trust
            .vault()
            .load(
                &self.permit,
                ResourceType::Communication,
                &self.message.communication,
            )
            .await?;
        Ok(found.filter(|found| !found.deleted && is_waiting(&found.resource)))
    }

    async fn patient(&self) -> Result<Option<Resource>, TrustError> {
        let found = self
            .inner
            .trust
            .vault()
            .load(&self.permit, ResourceType::Patient, &self.message.patient)
            .await?;
        Ok(found
            .filter(|found| !found.deleted)
            .map(|found| found.resource))
    }

    async fn consents(&self) -> Result<Vec<Resource>, DeliverError> {
        let parameters = [
            (
                "patient".to_owned(),
                format!("Patient/{}", self.message.patient),
            ),
            ("_count".to_owned(), CONSENTS_PAGE.to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::Consent, &parameters, false)
            .map_err(|outcome| DeliverError::Query(outcome.summary()))?;
        // All of one moment, or a withdrawal that is written meanwhile could be passed over.
        let vault = self.inner.trust.vault();
        let rows = vault.load_all(&self.permit, &query).await?;
        Ok(rows.into_iter().map(|row| row.resource).collect())
    }

    /// To somebody who acts for the patient, while they do.
    async fn to_proxy(
        &self,
        agent: &Agent,
        proxy: &str,
        patient: Option<&Resource>,
    ) -> Result<Outcome, DeliverError> {
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let expires_ms = self.message.expires_ms;
        if expires_ms.is_some_and(|expires_ms| now_ms > expires_ms) {
            let words = "It was no longer of use when its turn came.";
            return Ok(Outcome::NotDone(Refused::new(Reason::Expired, words)));
        }
        let patient_id = &self.message.patient;
        let vault = self.inner.trust.vault();
        let address = vault
            .proxy_address(self.entry.tenant, proxy, patient_id)
            .await?;
        let Some(address) = address else {
            let words = "They do not act for the patient any more.";
            return Ok(Outcome::NotDone(Refused::new(Reason::ProxyEnded, words)));
        };
        let words = [
            self.message.subject.as_str(),
            &self.message.text,
            &self.message.link_path,
        ];
        if let Some(detail) = patient.and_then(|patient| crate::guard::find(patient, &words)) {
            let words = format!("Its words hold the patient's {detail}.");
            return Ok(Outcome::NotDone(Refused::new(Reason::PhiGuard, words)));
        }
        match address.parse() {
            Ok(address) => self.deliver(agent, &address, Some(proxy)).await,
            Err(_) => Ok(Outcome::NotDone(Refused::new(
                Reason::NoAddress,
                "The address of who acts for the patient is not one.",
            ))),
        }
    }

    /// To whoever takes a small child's messages; or refused as before.
    async fn to_who_acts(
        &self,
        agent: &Agent,
        patient: Option<&Resource>,
        refused: Refused,
    ) -> Result<Outcome, DeliverError> {
        let Some(patient) = patient else {
            return Ok(Outcome::NotDone(refused));
        };
        let vault = self.inner.trust.vault();
        let found = vault.proxy_to_write_to(self.entry.tenant, patient).await?;
        match found.map(|(proxy, address)| (proxy, address.parse())) {
            Some((proxy, Ok(address))) => self.deliver(agent, &address, Some(&proxy)).await,
            Some((_, Err(_))) | None => Ok(Outcome::NotDone(refused)),
        }
    }

    /// Hands it over. The link signs in who it is for: the patient, or `proxy`.
    async fn deliver(
        &self,
        agent: &Agent,
        to: &Address,
        proxy: Option<&str>,
    ) -> Result<Outcome, DeliverError> {
        let options = &self.inner.options;
        let identity = self.inner.trust.identity();
        let (patient, address) = (&self.message.patient, to.as_ref());
        if proxy.is_some()
            && let Some(barred) = self.inner.barred(&self.permit, patient, address).await?
        {
            return Ok(Outcome::NotDone(barred));
        }
        let vault = self.inner.trust.vault();
        let went_to = vault.address_id(self.entry.tenant, patient, address);
        let sent_to = self.sent_to.get_or_init(|| went_to);
        // A new one for each attempt, because only its hash is kept. Without it, who acts for the patient can't
        // sign in at all.
        let secret = match proxy {
            Some(proxy) => Some(
                identity
                    .make_proxy_link(agent, proxy, LINK_LIFE_S, true)
                    .await?,
            ),
            None if options.magic_links => Some(
                identity
                    .make_link(agent, &self.message.patient, LINK_LIFE_S, true)
                    .await?,
            ),
            None => None,
        };
        let link = link(
            &options.portal_base,
            &self.message.link_path,
            secret.as_deref(),
        );
        let now_ms = self.inner.trust.wall_clock().now_ms();
        let entry = self.message.visit.as_ref().map(|visit| {
            let entered = Entered {
                visit,
                domain: &options.message_id_domain,
                from: &self.inner.from,
                to,
                portal: &options.portal_base,
                now_ms,
            };
            entered.entry()
        });
        let content = compose(&Letter {
            from: &self.inner.from,
            to,
            subject: &self.message.subject,
            text: &self.message.text,
            link: &link,
            message_id: &message_id(self.entry.key.id, &options.message_id_domain),
            preferences: Some(&options.portal_base),
            now_ms,
            dkim: options.dkim.as_ref(),
            entry,
        })
        .map_err(DeliverError::Compose)?;
        let expires_ms = self.message.expires_ms;
        let of = sixteen(&self.message.communication).map(Of::Message);
        let from = (self.inner).return_address(self.entry.tenant, of, sent_to)?;
        self.inner
            .hand_over(self.entry, (&from, to), &content, expires_ms)
            .await
    }

    /// Writes the outcome down; when the store fails, tries again for a while, because what a server
    /// has taken would be sent twice otherwise.
    async fn settle(&self, outcome: &Outcome) -> Result<(), DeliverError> {
        persist(|| self.commit(outcome)).await
    }

    async fn commit(&self, outcome: &Outcome) -> Result<(), DeliverError> {
        for _ in 0..CONFLICTS_MAX {
            // What the server has taken was sent, whatever the journey decided meanwhile.
            let unit = match (self.current().await?, outcome) {
                (Some(found), Outcome::Sent) => self.unit(outcome, Some(found)),
                (Some(found), Outcome::NotDone(_) | Outcome::PutOff { .. })
                    if is_waiting(&found.resource) =>
                {
                    self.unit(outcome, Some(found))
                }
                _ => self.unit(&Outcome::Cancelled, None),
            };
            match self.inner.trust.vault().commit(&self.permit, unit).await {
                Ok(_) => {
                    count(outcome);
                    return Ok(());
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }

    async fn current(&self) -> Result<Option<Versioned>, TrustError> {
        let found = self
            .inner
            .trust
            .vault()
            .load(
                &self.permit,
                ResourceType::Communication,
                &self.message.communication,
            )
            .await?;
        Ok(found.filter(|found| !found.deleted))
    }

    fn unit(&self, outcome: &Outcome, communication: Option<Versioned>) -> Unit {
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let mut unit = Unit {
            outbox_remove: vec![self.entry.key],
            // What was handed over is written down whoever holds the shard by now, so that nobody hands
            // it over again; if somebody has, the entry is gone and this is refused.
            held: (!matches!(outcome, Outcome::Sent)).then_some(self.entry.key.shard),
            patient: Some(self.message.patient.clone()),
            note: Some(format!("{}: {}", self.message.journey, note(outcome))),
            ..Unit::default()
        };
        if let Some(found) = communication {
            let mut resource = found.resource;
            resource.strip_meta();
            mark(&mut resource, outcome, now_ms);
            if let (Outcome::Sent, Some(sent_to)) = (outcome, self.sent_to.get()) {
                let of = (self.entry, &self.message);
                self.inner.taken(&mut unit, &mut resource, of, sent_to);
            }
            unit.changes.push(Change::Put {
                resource,
                expected: Expected::Version(found.version),
            });
        }
        if let Outcome::PutOff {
            due_ms, attempt, ..
        } = outcome
        {
            unit.outbox_add.push(OutboxDraft {
                key: OutboxKey {
                    due_ms: *due_ms,
                    ..self.entry.key
                },
                owner: Owner::Patient(self.message.patient.clone()),
                channel: self.entry.channel,
                attempt: *attempt,
                body: self.entry.body.clone(),
            });
        }
        unit
    }
}

/// Tries again for a while what the store fails to write.
pub(crate) async fn persist<F: Future<Output = Result<(), DeliverError>>>(
    write: impl Fn() -> F,
) -> Result<(), DeliverError> {
    let mut pauses = COMMIT_PAUSES_MS.iter();
    loop {
        match write().await {
            Err(DeliverError::Trust(TrustError::Ledger(LedgerError::Storage(fault)))) => {
                let Some(pause_ms) = pauses.next() else {
                    return Err(TrustError::Ledger(LedgerError::Storage(fault)).into());
                };
                sleep(Duration::from_millis(*pause_ms)).await;
            }
            other => return other,
        }
    }
}

fn has_birth_date(patient: Option<&Resource>) -> bool {
    patient.is_some_and(|patient| patient.text_at(&["birthDate"]).is_some())
}

pub(crate) fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

//! The loop that takes due outbox entries, and what one attempt is, whatever the channel.
//!
//! An attempt is: read the message, look the patient and their consents up again, ask `check.rs`, hand
//! the message over to what carries it (`carrier.rs`), and write the outcome. The outcome of an attempt (the
//! `Communication`'s new state and the outbox entry's end or its next time) is one commit. A crash between the server's
//! "taken" and that commit sends the message again, so that the other side or we can tell: at least once, and
//! recognisably so. What is text messages' own in it: that one is handed over is written down before, so that no more than
//! a few times are without an answer.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fhir::{Resource, ResourceType};
use ledger::{LedgerError, OutboxEntry, OutboxKey, OutboxLook};
use tokio::sync::{OnceCell, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use trust::outgoing::{Message, Notice, unanswered};
use trust::{Action, Agent, Permit, Purpose, Target, Trust, TrustError, Versioned};

use crate::attempt::Attempt;
use crate::breaker::{Breaker, BreakerView, Breakers, Room};
use crate::carrier::{Carrier, To, Trouble};
use crate::check::{Reason, Refused, check};
use crate::mail::Mail;
use crate::outcome::{Outcome, is_waiting};
use crate::push::Push;
use crate::retry::{self, Meaning, Next};
use crate::sms::{Smpp, Sms, is_unpriced, references};
use crate::{MailOptions, PushOptions, SmsDoor, SmsOptions};

/// How long an entry rests after a fault of ours, real time.
const REST: Duration = Duration::from_secs(5);
/// How long one rests that policies refuse: they may do so all night, and the audit has each time.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long one rests that can't be read; it is told of each time.
const UNREADABLE_REST: Duration = Duration::from_secs(600);
/// How long an entry rests that was left to another process: until this one knows which shards it holds.
const LEFT_REST: Duration = Duration::from_secs(1);
/// The longest sleep, real time. The sleep until the next entry is due is measured by a clock that
/// stands still while the machine is suspended and knows nothing of the care clock being set, so the
/// care clock is asked again this often; a look costs one short scan.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Pauses before a commit is tried again that failed in the store.
const COMMIT_PAUSES_MS: [u64; 4] = [50, 250, 1_000, 4_000];
/// How much of what may have come back is looked at at once: no server is asked, so that none that doesn't answer keeps a
/// journey waiting.
const BELIEVED_AT_ONCE: usize = 4;
/// What is said of a message whose patient isn't there any more.
const GONE: &str = "The patient's record is gone.";
/// What can go wrong on our side of a delivery. No patient details in the words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    #[error(transparent)]
    Trust(TrustError),
    #[error("the query for consents does not parse: {0}")]
    Query(String),
    #[error("the message can't be put together: {0}")]
    Compose(String),
    #[error("the message kept changing while its outcome was written")]
    Contended,
    #[error("policies don't let {0} do its work, so nothing leaves")]
    Unheard(&'static str),
    #[error(
        "the entry can't be read; it stays where it is, because another version may be able to"
    )]
    Unreadable,
}

impl From<TrustError> for DeliverError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

/// Takes messages of one channel from the outbox and hands them over, until `stop` says so. What became of text messages
/// comes back by [`crate::SmsDoor`]: by HTTP, or by the session that is kept with a provider by SMPP. What came back of
/// e-mails comes by [`crate::ReturnsDoor`].
pub struct Deliverer {
    /// The session of text messages, and where what it brings is heard.
    session: Option<(Arc<Smpp>, Arc<SmsDoor>)>,
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) trust: Trust,
    pub(crate) carrier: Carrier,
    /// Base URL of the portal, without a slash at the end.
    pub(crate) portal_base: String,
    pub(crate) magic_links: bool,
    parallel: usize,
    breaker: Mutex<Breaker>,
    /// Outbox entries that can't be opened.
    unreadable: Arc<AtomicU64>,
}

impl Deliverer {
    /// Of e-mail. Checks options; does not connect yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. no TLS to another machine).
    pub fn mail(trust: Trust, options: MailOptions) -> Result<Self, String> {
        let (base, links, parallel) = (
            options.portal_base.clone(),
            options.magic_links,
            options.parallel,
        );
        let carrier = Carrier::Mail(Box::new(Mail::new(options)?));
        Self::new(trust, carrier, base, links, parallel)
    }

    /// Of text messages. Checks options; does not connect yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. no TLS to another machine).
    pub fn sms(trust: Trust, door: Arc<SmsDoor>, options: SmsOptions) -> Result<Self, String> {
        let (base, links, parallel) = (
            options.portal_base.clone(),
            options.magic_links,
            options.parallel,
        );
        let sms = Sms::new(options)?;
        let session = sms.session().map(|session| (session, door));
        let carrier = Carrier::Sms(Box::new(sms));
        Ok(Self {
            session,
            ..Self::new(trust, carrier, base, links, parallel)?
        })
    }

    /// Whether the session with the provider is open, as it is told while it runs; nothing where there is none to be kept.
    #[must_use]
    pub fn session(&self) -> Option<Arc<AtomicBool>> {
        let session = self.session.as_ref();
        session.map(|(session, _)| session.standing())
    }

    /// Of notifications to browsers. Checks options; does not connect yet.
    ///
    /// # Errors
    /// In words, when options don't fit together (e.g. a contact that is no address).
    pub fn push(trust: Trust, options: PushOptions) -> Result<Self, String> {
        let (base, links, parallel) = (
            options.portal_base.clone(),
            options.magic_links,
            options.parallel,
        );
        let carrier = Carrier::Push(Box::new(Push::new(trust.clone(), options)?));
        Self::new(trust, carrier, base, links, parallel)
    }

    pub(crate) fn new(
        trust: Trust,
        carrier: Carrier,
        mut portal_base: String,
        magic_links: bool,
        parallel: usize,
    ) -> Result<Self, String> {
        while portal_base.ends_with('/') {
            portal_base.pop();
        }
        if !(portal_base.starts_with("https://") || portal_base.starts_with("http://"))
            || portal_base.contains(char::is_whitespace)
        {
            return Err(format!(
                "the portal's address {portal_base:?} is not an http(s) URL"
            ));
        }
        if parallel == 0 {
            return Err("deliveries at once must be at least 1".to_owned());
        }
        Ok(Self {
            session: None,
            inner: Arc::new(Inner {
                trust,
                carrier,
                portal_base,
                magic_links,
                parallel,
                breaker: Mutex::new(Breaker::new()),
                unreadable: Arc::default(),
            }),
        })
    }

    /// How many outbox entries can't be opened, as it is counted while it runs.
    #[must_use]
    pub fn unreadable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.inner.unreadable)
    }

    /// Whether the other side is there, as it is known while it runs.
    #[must_use]
    pub fn breakers(&self) -> Breakers {
        let inner = Arc::clone(&self.inner);
        Breakers::new(move || inner.breakers())
    }

    /// Runs until `stop` turns true; finishes what is under way.
    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        let Some((session, door)) = self.session.take() else {
            return self.deliver(stop).await;
        };
        let (over, until) = watch::channel(false);
        let delivering = async {
            self.deliver(stop).await;
            // Until now there are messages under way that wait for their answers.
            let _ = over.send(true);
        };
        tokio::join!(delivering, session.keep(&door, until));
    }

    async fn deliver(self, mut stop: watch::Receiver<bool>) {
        let mut news = self.inner.trust.vault().ledger().watch();
        let mut round = Round::of(self.inner.carrier.name());
        crate::stay::tell_where_it_is_not_asked(&self.inner);
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
    /// What the channel is called in the log.
    name: &'static str,
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
    fn of(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

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
                let rest = match error {
                    DeliverError::Trust(TrustError::Refused(_)) | DeliverError::Unheard(_) => {
                        REFUSED_REST
                    }
                    DeliverError::Unreadable => UNREADABLE_REST,
                    _ => REST,
                };
                (task, Some((error.to_string(), rest)))
            }
            Err(error) => (error.id(), Some(("the delivery panicked".to_owned(), REST))),
        };
        let Some(id) = self.busy.remove(&task) else {
            return;
        };
        self.believed.remove(&id);
        if let Some((fault, rest)) = fault {
            let name = self.name;
            tracing::error!(outbox = %hex(id), fault, "{name}: an attempt could not be carried out");
            self.resting.insert(id, Instant::now() + rest);
        }
    }

    /// Entries that can't be opened stay where they are: a newer version, or a backup, may be able to.
    /// Their steps go on when their time is over.
    fn set_aside(&mut self, unreadable: &[(OutboxKey, LedgerError)]) {
        for (key, error) in unreadable {
            if self.unreadable.insert(key.id) {
                let name = self.name;
                tracing::error!(outbox = %hex(key.id), %error, "{name}: an outbox entry can't be opened; it is passed over");
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
        let parallel = self.parallel;
        let believed = round.believed.len();
        let room = self
            .breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .room(now, round.busy.len() - believed, parallel);
        // Those under way and resting are still in the outbox and come first. One more than there can
        // be room for shows when the next one is due.
        let shown = round.busy.len() + round.resting.len() + 1;
        let waiting = self.look(self.carrier.outbox(), shown + parallel);
        let Some(mut waiting) = waiting.await else {
            return Some(now + REST);
        };
        let taken = self.look(self.carrier.outbox_taken(), shown + BELIEVED_AT_ONCE);
        let Some(taken) = taken.await else {
            return Some(now + REST);
        };
        waiting.unreadable.extend(taken.unreadable);
        round.set_aside(&waiting.unreadable);
        let count = waiting.unreadable.len() as u64;
        self.unreadable.store(count, Ordering::Relaxed);
        let rested = round.resting.values().min().copied();
        let room_to_believe = BELIEVED_AT_ONCE.saturating_sub(believed);
        let believes = self.start(round, taken.entries, room_to_believe);
        let sends = match room {
            Room::For(room) => self.start(round, waiting.entries, room),
            Room::NoneUntil(until) => Some(until),
        };
        [rested, believes, sends].into_iter().flatten().min()
    }

    /// What is first in channels; none where the outbox can't be read.
    async fn look(&self, channels: &[u16], limit: usize) -> Option<OutboxLook> {
        if channels.is_empty() {
            return Some(OutboxLook::default());
        }
        let (ledger, name) = (self.trust.vault().ledger(), self.carrier.name());
        let look = ledger.outbox_look(channels, u64::MAX, limit).await;
        look.inspect_err(|error| tracing::error!(%error, "{name}: the outbox can't be read"))
            .ok()
    }

    /// Starts what is due of some entries, as many as there is room for; says when the next one is due.
    fn start(
        self: &Arc<Self>,
        round: &mut Round,
        entries: Vec<OutboxEntry>,
        mut room: usize,
    ) -> Option<Instant> {
        let (now, name) = (Instant::now(), self.carrier.name());
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
            if self.carrier.outbox_taken().contains(&entry.channel) {
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
                        tracing::debug!(%shard, "{name}: left to the process that works on the shard now");
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
    pub(crate) async fn attempt(&self, entry: &OutboxEntry) -> Result<(), DeliverError> {
        let agent = Agent::system(entry.tenant, self.carrier.part());
        let name = self.carrier.name();
        let request_id = format!("{name}-{}-{}", hex(entry.key.id), entry.attempt + 1);
        if self.carrier.outbox_taken().contains(&entry.channel) {
            return self.believe(&agent, entry, &request_id).await;
        }
        let Ok(message) = serde_json::from_slice::<Message>(&entry.body) else {
            // In whichever channel: the first builds with notices put them among the messages.
            return match (serde_json::from_slice::<Notice>(&entry.body), &self.carrier) {
                (Ok(notice), Carrier::Mail(mail)) => {
                    self.notify(&agent, entry, mail, &notice, &request_id).await
                }
                _ => Err(self.unread()),
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
        let mut attempt = Attempt {
            inner: self,
            permit,
            entry,
            message,
            ahead: OnceLock::new(),
            sent_to: OnceLock::new(),
            wishes: OnceCell::new(),
        };
        // All that is asked below is asked as it is then.
        self.carrier.turn().await;
        let communication = attempt.current().await?;
        if let Some(found) = &communication
            && self.carrier.has_receipts()
            && !references(&found.resource).is_empty()
        {
            // Its receipt came before we could write down that it was taken: somebody was killed in between.
            let parts = self.carrier.priced(&attempt.message);
            let parts = parts.filter(|_| is_unpriced(&found.resource));
            return attempt.settle(&Outcome::Known(parts)).await;
        }
        let waits = |found: &Versioned| is_waiting(&found.resource) && !attempt.has_left(found);
        let Some(communication) = communication.filter(waits) else {
            // Nobody waits for this message any more, or another entry has taken it away: of one that was held and
            // let go there are two.
            return attempt.settle(&Outcome::Cancelled).await;
        };
        // One that was held and let go is another entry, and has been handed over as often.
        let unanswered = unanswered(&communication.resource);
        attempt.message.unanswered = attempt.message.unanswered.max(unanswered);
        if let Some(part) = self.carrier.hears_nothing(&self.trust) {
            return Err(DeliverError::Unheard(part));
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
        let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let found = match &patient {
            Some(patient) => match attempt.unwelcome().await? {
                Some(refused) => Err(refused),
                None => {
                    let vault = self.trust.vault();
                    let found = self.carrier.find(vault, &attempt.permit, patient, at_ms);
                    found.await?
                }
            },
            None => Err(Refused::new(Reason::NoAddress, GONE)),
        };
        let find = |_: &Resource, _| found;
        let outcome = match check(
            &attempt.message,
            purpose,
            patient.as_ref(),
            (self.trust.vault().rules(), consents.as_slice()),
            &known_as,
            now_ms,
            find,
        ) {
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
            Ok(_) if self.magic_links && !has_birth_date(patient.as_ref()) => {
                Outcome::NotDone(Refused::new(
                    Reason::NoSignIn,
                    "There is no birth date on record to check a sign-in link with.",
                ))
            }
            // So it is where a link that signs in can't be sent: whoever else has the telephone reads what comes to it.
            Ok(To::Number(to))
                if self.magic_links && attempt.is_of_others(patient.as_ref(), &to).await? =>
            {
                Outcome::NotDone(Refused::new(
                    Reason::SharedNumber,
                    "Somebody else has the telephone too, so no link that signs in goes there.",
                ))
            }
            Ok(To::Address(to))
                if (self.trust.vault())
                    .is_of_who_acts(entry.tenant, &attempt.message.patient, to.as_ref())
                    .await? =>
            {
                Outcome::NotDone(Refused::new(
                    Reason::NoAddress,
                    "The address on record is that of somebody who acts for the patient.",
                ))
            }
            Ok(to) => {
                attempt
                    .deliver(&agent, (&to, patient.as_ref()), None)
                    .await?
            }
        };
        attempt.settle(&outcome).await
    }

    /// Of an entry that can't be read: its step goes on when its time is over.
    pub(crate) fn unread(&self) -> DeliverError {
        let name = self.carrier.name();
        metrics::counter!(format!("{name}_failed_total"), "reason" => "unreadable").increment(1);
        DeliverError::Unreadable
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

    fn breakers(&self) -> Vec<BreakerView> {
        let channel = self.carrier.name();
        let provider = match &self.carrier {
            Carrier::Push(push) => return push.breakers(channel),
            Carrier::Mail(_) => "server",
            Carrier::Sms(_) => "provider",
            // A folder is tried at each look.
            Carrier::Files(_) => return Vec::new(),
        };
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        vec![BreakerView {
            channel,
            provider: provider.to_owned(),
            standing: breaker.standing(Instant::now()),
        }]
    }

    fn saw(&self, trouble: Option<&Trouble>) {
        // Push services are many, and each is left alone by itself.
        if matches!(self.carrier, Carrier::Push(_)) {
            return;
        }
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let pause = match trouble.map(|trouble| trouble.meaning) {
            None | Some(Meaning::Later | Meaning::Never) => {
                breaker.worked();
                None
            }
            Some(Meaning::Unreachable | Meaning::Unknown) => breaker.failed(now),
            Some(Meaning::Busy) => {
                let after_ms = trouble.and_then(|trouble| trouble.after_ms);
                breaker.throttled(now, after_ms.map(Duration::from_millis))
            }
        };
        if let Some(pause) = pause {
            let name = self.carrier.name();
            tracing::warn!(
                pause_ms = pause.as_millis(),
                "{name}: deliveries pause, the server can't be reached or wants fewer"
            );
        }
    }

    /// Hands a message over, and says what became of it.
    pub(crate) async fn hand_over(
        &self,
        entry: &OutboxEntry,
        (expires_ms, unanswered): (Option<u64>, u8),
        handing: impl Future<Output = Result<Outcome, Trouble>> + Send,
    ) -> Result<Outcome, DeliverError> {
        // Another process may have taken over while the message was made.
        let shard = entry.key.shard;
        if !self.trust.vault().ledger().holds(shard) {
            return Err(TrustError::Ledger(LedgerError::Fenced(shard)).into());
        }
        let handed = handing.await;
        self.saw(handed.as_ref().err());
        Ok(match handed {
            Ok(outcome) => outcome,
            Err(trouble) => self.after(entry, (expires_ms, unanswered), &trouble),
        })
    }

    /// What comes after an attempt that came to nothing. `unanswered` is how often it was handed over without an answer
    /// before.
    fn after(
        &self,
        entry: &OutboxEntry,
        (expires_ms, unanswered): (Option<u64>, u8),
        trouble: &Trouble,
    ) -> Outcome {
        let made = entry.attempt.saturating_add(1);
        let (words, name) = (trouble.words.clone(), self.carrier.name());
        tracing::info!(outbox = %hex(entry.key.id), attempt = made, why = words, "{name}: not delivered");
        if trouble.meaning == Meaning::Never {
            return Outcome::NotDone(Refused::new(trouble.reason, format!("Refused: {words}.")));
        }
        let is_unanswered = trouble.meaning == Meaning::Unknown;
        let most = self.carrier.unanswered_max();
        if is_unanswered && most.is_some_and(|most| unanswered.saturating_add(1) >= most) {
            let words =
                format!("Given up after {made} attempts, and it may have arrived: {words}.");
            return Outcome::NotDone(Refused::new(Reason::NoReceipt, words));
        }
        let ledger = self.trust.vault().ledger();
        let now_ms = ledger.clock().now_ms();
        let mut dice = [0; 8];
        ledger.entropy().fill(&mut dice);
        let next = match trouble.meaning {
            // It was not looked at, so this was no attempt.
            Meaning::Busy => retry::soon(entry.attempt, now_ms, expires_ms, trouble.after_ms),
            _ => retry::next(made, now_ms, expires_ms, u64::from_be_bytes(dice)),
        };
        match next {
            Next::Again { due_ms, attempt } => Outcome::PutOff {
                due_ms,
                attempt,
                words,
                unanswered: is_unanswered && most.is_some(),
            },
            // Where one of them had no answer, it may be there.
            Next::GiveUp(_) if most.is_some() && (is_unanswered || unanswered > 0) => {
                let words = format!("Given up, and it may have arrived: {words}.");
                Outcome::NotDone(Refused::new(Reason::NoReceipt, words))
            }
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

//! One attempt at one message: whom it goes to, whether it may leave now, and what is written down of it.

use std::sync::OnceLock;

use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, OutboxDraft, OutboxEntry, OutboxKey, Owner};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use trust::consent::{Hours, MessageRules, Waits, Wishes};
use trust::conventions::{INSTANCE_SYSTEM, LET_GO_URL, NO_RECEIPT, NOT_DONE_SYSTEM};
use trust::costs::MESSAGE_COST_URL;
use trust::outgoing::{Message, is_beyond_limits, set_unanswered, unanswered};
use trust::sms::Number;
use trust::{Agent, Change, Internal, Permit, TrustError, Unit, Versioned};

use crate::carrier::{Carrier, Load, To};
use crate::check::{Reason, Refused};
use crate::compose::link;
use crate::deliverer::{DeliverError, Inner, hex, persist};
use crate::outcome::{Outcome, count, is_waiting, mark, note};
use crate::retry::{self, Next};
use crate::returns::barred;
use crate::sms::{count_again, is_again};

/// How long a sign-in link in a mail works, seconds of real time: a week, so that it outlives the
/// waits of a follow-up's steps. Each use needs the birth date too.
pub(crate) const LINK_LIFE_S: u64 = 7 * 24 * 3_600;
/// How often a commit is tried again when somebody else changed the `Communication` meanwhile.
pub(crate) const CONFLICTS_MAX: u32 = 8;
/// How far back limits of messages look.
const WEEK_MS: u64 = 7 * 24 * 3_600_000;
/// The most messages that are counted; no limit is above it (`spec::MESSAGES` of the journeys).
const SENT_MAX: usize = 500;
/// Consents are read this many at a time (the most that a search gives).
const CONSENTS_PAGE: &str = "1000";

/// An attempt at a message.
pub(crate) struct Attempt<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) permit: Permit,
    pub(crate) entry: &'a OutboxEntry,
    pub(crate) message: Message,
    /// The message as it was kept when it was handed over.
    pub(crate) ahead: OnceLock<Vec<u8>>,
    /// What stands for the e-mail address that it went to.
    pub(crate) sent_to: OnceLock<String>,
    /// What the patient wishes.
    pub(crate) wishes: OnceCell<Wishes>,
}

impl Attempt<'_> {
    pub(crate) async fn patient(&self) -> Result<Option<Resource>, TrustError> {
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

    pub(crate) async fn consents(&self) -> Result<Vec<Resource>, DeliverError> {
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
    pub(crate) async fn to_proxy(
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
        match self.inner.carrier.parse(&address) {
            Some(address) => self.deliver(agent, (&address, patient), Some(proxy)).await,
            None => Ok(Outcome::NotDone(Refused::new(
                Reason::NoAddress,
                "The address of who acts for the patient is not one.",
            ))),
        }
    }

    /// To whoever takes a small child's messages; or refused as before.
    pub(crate) async fn to_who_acts(
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
        match found.map(|(proxy, address)| (proxy, self.inner.carrier.parse(&address))) {
            Some((proxy, Some(address))) => {
                let to = (&address, Some(patient));
                self.deliver(agent, to, Some(&proxy)).await
            }
            Some((_, None)) | None => Ok(Outcome::NotDone(refused)),
        }
    }

    /// Hands it over. The link signs in who it is for: the patient, or `proxy`.
    pub(crate) async fn deliver(
        &self,
        agent: &Agent,
        (to, patient): (&To, Option<&Resource>),
        proxy: Option<&str>,
    ) -> Result<Outcome, DeliverError> {
        let most = self.inner.carrier.unanswered_max();
        if most.is_some_and(|most| self.message.unanswered >= most) {
            let times = self.message.unanswered;
            let words = format!(
                "Given up: what became of {times} attempts is not known, and it may have arrived."
            );
            return Ok(Outcome::NotDone(Refused::new(Reason::NoReceipt, words)));
        }
        // Of the patient's own addresses it is asked where one is looked for.
        if let (Some(_), To::Address(address)) = (proxy, to) {
            let (vault, patient_id) = (self.inner.trust.vault(), &self.message.patient);
            let barred = barred(vault, &self.permit, patient_id, address.as_ref());
            if let Some(refused) = barred.await? {
                return Ok(Outcome::NotDone(refused));
            }
        }
        if let Some(outcome) = self.admitted().await? {
            return Ok(outcome);
        }
        if let Some(outcome) = self.waits(patient).await? {
            return Ok(outcome);
        }
        // What is handed over in files has no link that signs anybody in.
        if let Carrier::Files(files) = &self.inner.carrier {
            return self.batched_now(files, (to, patient)).await;
        }
        // No link is made for what would not be handed over.
        if let Some(outcome) = self.rests(to) {
            return Ok(outcome);
        }
        let asked = match (&self.message.question, to) {
            (Some(question), To::Number(number)) => match self.asks(question, number).await? {
                Ok(asked) => Some(asked),
                Err(outcome) => return Ok(outcome),
            },
            _ => None,
        };
        let identity = self.inner.trust.identity();
        // A new one for each attempt, because only its hash is kept. Without it, who acts for the patient can't
        // sign in at all.
        let secret = match proxy {
            Some(proxy) => Some(
                identity
                    .make_proxy_link(agent, proxy, LINK_LIFE_S, true)
                    .await?,
            ),
            None if self.inner.magic_links && to.signs_in() => Some(
                identity
                    .make_link(agent, &self.message.patient, LINK_LIFE_S, true)
                    .await?,
            ),
            None => None,
        };
        let link = link(
            &self.inner.portal_base,
            &self.message.link_path,
            secret.as_deref(),
        );
        let (message, expires_ms) = (&self.message, self.message.expires_ms);
        let load = Load {
            entry: self.entry,
            message,
            to,
            went_to: self.went_to(to),
            link: &link,
            now_ms: self.inner.trust.wall_clock().now_ms(),
        };
        let ledger = self.inner.trust.vault().ledger();
        let handing = self.inner.carrier.carry(ledger, load)?;
        self.write_ahead(&link, asked).await?;
        let bounds = (expires_ms, message.unanswered);
        let outcome = self.inner.hand_over(self.entry, bounds, handing).await?;
        if let (To::Number(number), Outcome::NotDone(refused)) = (to, &outcome)
            && refused.reason == Reason::Preference
        {
            self.stopped(agent, number).await;
        }
        Ok(outcome)
    }

    /// What becomes of it where what would take it is left alone. It waits in the outbox, so that it keeps no place from
    /// others.
    fn rests(&self, to: &To) -> Option<Outcome> {
        let until = self.inner.carrier.rests(to)?;
        let after = until.saturating_duration_since(Instant::now());
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.inner.trust.vault().ledger().clock().now_ms();
        let (made, expires_ms) = (self.entry.attempt, self.message.expires_ms);
        Some(
            match retry::soon(made, now_ms, expires_ms, Some(after_ms)) {
                Next::Again { due_ms, .. } => Outcome::Rests { due_ms },
                Next::GiveUp(reason) => Outcome::NotDone(Refused::new(
                    reason,
                    "What would take it is left alone for longer than it is of use.",
                )),
            },
        )
    }

    /// What stands for the e-mail address that it goes to; nothing for a number.
    fn went_to(&self, to: &To) -> &str {
        let To::Address(address) = to else { return "" };
        let vault = self.inner.trust.vault();
        let (tenant, patient) = (self.entry.tenant, &self.message.patient);
        let id = || vault.address_id(tenant, patient, address.as_ref());
        self.sent_to.get_or_init(id)
    }

    /// Whether somebody else has the telephone that it goes to.
    pub(crate) async fn is_of_others(
        &self,
        patient: Option<&Resource>,
        number: &Number,
    ) -> Result<bool, DeliverError> {
        let Some(patient) = patient else {
            return Ok(false);
        };
        let vault = self.inner.trust.vault();
        let tenant = self.entry.tenant;
        Ok(vault.is_number_of_others(tenant, patient, number).await?)
    }

    /// Writes down that it is handed over without an answer so far, before it is: whatever ends this process, or keeps
    /// the outcome from being written, it counts. The outcome takes it back. A question is known from then on, so that
    /// no reply comes before it.
    async fn write_ahead(&self, link: &str, asked: Option<Internal>) -> Result<(), DeliverError> {
        if self.inner.carrier.unanswered_max().is_none() {
            return Ok(());
        }
        let message = Message {
            unanswered: self.message.unanswered.saturating_add(1),
            segments: self.inner.carrier.segments(&self.message, link),
            ..self.message.clone()
        };
        // A message of strings can't fail to serialise.
        let body = serde_json::to_vec(&message).unwrap_or_else(|_| self.entry.body.clone());
        let unit = Unit {
            outbox_remove: vec![self.entry.key],
            outbox_add: vec![self.draft(self.entry.key, self.entry.attempt, body.clone())],
            internals: asked.into_iter().collect(),
            held: Some(self.entry.key.shard),
            patient: Some(self.message.patient.clone()),
            note: Some(format!(
                "{}: {} is handed over",
                self.message.journey,
                self.inner.carrier.words()
            )),
            ..Unit::default()
        };
        match self.inner.trust.vault().commit(&self.permit, unit).await {
            Ok(_) => {
                let _ = self.ahead.set(body);
                Ok(())
            }
            // It is gone: somebody took it out; or another question went to the patient in the same moment.
            Err(TrustError::Ledger(LedgerError::Conflict)) => Err(DeliverError::Contended),
            Err(error) => Err(error.into()),
        }
    }

    fn draft(&self, key: OutboxKey, attempt: u32, body: Vec<u8>) -> OutboxDraft {
        OutboxDraft {
            key,
            owner: Owner::Patient(self.message.patient.clone()),
            channel: self.entry.channel,
            attempt,
            body,
        }
    }

    /// The provider knows a STOP of a telephone that was not heard here.
    async fn stopped(&self, agent: &Agent, number: &Number) {
        let (trust, name) = (&self.inner.trust, self.inner.carrier.name());
        let request_id = format!("{name}-{}-stop", hex(self.entry.key.id));
        let written = async {
            let permit = self.inner.of_nobody(agent, &request_id).await?;
            trust.vault().set_stopped(&permit, number, true).await
        };
        // What became of the message has to be written down all the same; the provider goes on refusing the number.
        if let Err(error) = written.await {
            tracing::error!(%error, "{name}: a STOP that the provider knows could not be written down");
        }
    }

    /// Whether it may not leave now: quiet hours and limits may have come over it since it was put on its way.
    async fn waits(&self, patient: Option<&Resource>) -> Result<Option<Outcome>, DeliverError> {
        let Some(hours) = &self.message.hours else {
            return Ok(None);
        };
        let vault = self.inner.trust.vault();
        let rules = vault.rules().messages();
        let now_ms = vault.ledger().clock().now_ms();
        let expires_ms = self.message.expires_ms;
        // What is too late is told as that.
        if expires_ms.is_some_and(|expires_ms| now_ms > expires_ms) {
            return Ok(None);
        }
        let sent_ms = if hours.has_caps(rules) {
            self.sent_before(now_ms).await?
        } else {
            Vec::new()
        };
        let own = self.own_quiet().await?;
        // A letter rings at nobody's door at night, and a call is made at an hour of its own, whenever its list is closed.
        let silent = MessageRules {
            quiet: None,
            ..rules.clone()
        };
        let of_no_hour = Hours {
            quiet: None,
            window: None,
            ..hours.clone()
        };
        let (hours, rules, own) = match &self.inner.carrier {
            Carrier::Files(_) => (&of_no_hour, &silent, None),
            _ => (hours, rules, own),
        };
        let Some((due_ms, why)) = hours.leaves_at(rules, (patient, own), &sent_ms, now_ms) else {
            return Ok(None);
        };
        if expires_ms.is_none_or(|expires_ms| due_ms <= expires_ms) {
            return Ok(Some(Outcome::Waits { due_ms, why }));
        }
        let refused = match why {
            Waits::Quiet => Refused::new(
                Reason::QuietHours,
                "The patient's quiet hours would not have ended in its time.",
            ),
            Waits::Capped => Refused::new(
                Reason::Capped,
                "There was no room among the patient's messages in its time.",
            ),
            Waits::Question => Refused::new(
                Reason::QuestionOpen,
                "Another question had just been closed on the telephone.",
            ),
            Waits::Stay => Refused::new(
                Reason::Admitted,
                "The patient was in hospital for as long as it was of use.",
            ),
        };
        Ok(Some(Outcome::NotDone(refused)))
    }

    /// When other messages of journeys were let go that left for the patient in the last seven days, by channels that
    /// reach out; of those that don't say that, when they left. None leaves before it is let go.
    async fn sent_before(&self, now_ms: u64) -> Result<Vec<u64>, DeliverError> {
        let since_ms = now_ms.saturating_sub(WEEK_MS);
        let parameters = [
            (
                "patient".to_owned(),
                format!("Patient/{}", self.message.patient),
            ),
            (
                "sent".to_owned(),
                format!("ge{}", fhir::date::instant(since_ms)),
            ),
            ("_count".to_owned(), CONSENTS_PAGE.to_owned()),
        ];
        let query = SearchQuery::parse(ResourceType::Communication, &parameters, false)
            .map_err(|outcome| DeliverError::Query(outcome.summary()))?;
        let mut sent_ms = Vec::new();
        let take = |row: Versioned| {
            let message = &row.resource;
            if message.id() != Some(self.message.communication.as_str()) && reached_out(message) {
                let sent = let_go(message).or_else(|| message.text_at(&["sent"]));
                let sent = sent.and_then(fhir::date::parse);
                sent_ms.extend(sent.and_then(|sent| u64::try_from(sent.start_ms).ok()));
            }
            sent_ms.len() >= SENT_MAX
        };
        let vault = self.inner.trust.vault();
        vault.load_until(&self.permit, &query, take).await?;
        Ok(sent_ms)
    }

    /// Writes the outcome down; when the store fails, tries again for a while, because what a server
    /// has taken would be sent twice otherwise.
    pub(crate) async fn settle(&self, outcome: &Outcome) -> Result<(), DeliverError> {
        persist(|| self.commit(outcome)).await
    }

    async fn commit(&self, outcome: &Outcome) -> Result<(), DeliverError> {
        for _ in 0..CONFLICTS_MAX {
            let mut again = false;
            let asked = self.has_been_asked().await?;
            // What the server has taken was sent, whatever the journey decided meanwhile.
            let mut unit = match (self.current().await?, outcome) {
                (
                    Some(found),
                    Outcome::Sent
                    | Outcome::Notified { .. }
                    | Outcome::Taken(_)
                    | Outcome::Known(_),
                ) => {
                    again = matches!(outcome, Outcome::Taken(taken) if is_again(&found.resource, &taken.reference));
                    self.unit(outcome, Some(found))
                }
                (
                    Some(found),
                    Outcome::NotDone(_)
                    | Outcome::PutOff { .. }
                    | Outcome::Waits { .. }
                    | Outcome::Batched(_)
                    | Outcome::Rests { .. },
                ) if is_waiting(&found.resource) && !self.has_left(&found) => {
                    self.unit(outcome, Some(found))
                }
                // Its journey has held it or called it off meanwhile, and the other side may have it.
                (Some(found), _)
                    if self.unanswered(outcome) > 0 && !is_settled(&found.resource) =>
                {
                    let mut unit = self.unit(&Outcome::Cancelled, None);
                    unit.changes.push(self.may_be_there(found, outcome));
                    unit
                }
                _ => self.unit(&Outcome::Cancelled, None),
            };
            unit.internals.extend(asked);
            match self.inner.trust.vault().commit(&self.permit, unit).await {
                Ok(_) => {
                    count(outcome, self.inner.carrier.name());
                    let price = self.inner.carrier.price();
                    if let Some(price) = price.filter(|_| outcome.was_handed_over()) {
                        price.count(self.inner.carrier.name());
                    }
                    if again {
                        count_again();
                    }
                    return Ok(());
                }
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeliverError::Contended)
    }

    /// Whether a mail server has the message already, or a batch, and only what comes back of it is waited for.
    pub(crate) fn has_left(&self, found: &Versioned) -> bool {
        let in_files = matches!(self.inner.carrier, Carrier::Files(_));
        if in_files && crate::files::batch_of(&found.resource).is_some() {
            return true;
        }
        !self.inner.carrier.has_receipts() && found.resource.get("sent").is_some()
    }

    /// The `Communication` that follows this message.
    pub(crate) async fn current(&self) -> Result<Option<Versioned>, TrustError> {
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
            held: (!outcome.was_handed_over()).then_some(self.entry.key.shard),
            patient: Some(self.message.patient.clone()),
            note: Some(format!(
                "{}: {}",
                self.message.journey,
                note(outcome, self.inner.carrier.words())
            )),
            ..Unit::default()
        };
        if let Some(found) = communication {
            let before = found.resource;
            let mut resource = before.clone();
            mark(&mut resource, outcome, now_ms);
            if outcome.was_handed_over() {
                self.mark_let_go(&mut resource);
                self.mark_cost(&mut resource);
                // Somebody was killed who could not say it: a receipt may name it otherwise than this answer.
                let count = self.message.unanswered;
                if matches!(outcome, Outcome::Taken(_)) && count > unanswered(&resource) {
                    set_unanswered(&mut resource, count);
                }
                self.may_come_back(&mut unit, &mut resource, outcome, now_ms);
            } else if matches!(outcome, Outcome::Batched(_)) {
                self.mark_let_go(&mut resource);
            } else {
                self.mark_unanswered(&mut resource, outcome);
            }
            if resource != before {
                resource.strip_meta();
                unit.changes.push(Change::Put {
                    resource,
                    expected: Expected::Version(found.version),
                });
            }
        }
        if let Outcome::Batched(taken) = outcome {
            taken.only_while_open(&mut unit);
            unit.internals.push(taken.internal(self));
            unit.disclosed = Some(taken.disclosed());
        }
        let again = match outcome {
            Outcome::PutOff {
                due_ms,
                attempt,
                unanswered,
                ..
            } => Some((*due_ms, *attempt, self.body(*unanswered))),
            Outcome::Waits { due_ms, .. } => {
                Some((*due_ms, self.entry.attempt, self.body_until(*due_ms)))
            }
            Outcome::Rests { due_ms } => Some((*due_ms, self.entry.attempt, self.body(false))),
            _ => None,
        };
        if let Some((due_ms, attempt, body)) = again {
            let key = OutboxKey {
                due_ms,
                ..self.entry.key
            };
            unit.outbox_add.push(self.draft(key, attempt, body));
        }
        unit
    }

    /// Of a message that a server took, puts off that it counts as delivered where it may soon come back.
    fn may_come_back(
        &self,
        unit: &mut Unit,
        communication: &mut Resource,
        outcome: &Outcome,
        now_ms: u64,
    ) {
        let returns = self.inner.carrier.returns();
        if let (Outcome::Sent, Some(returns), Some(sent_to)) =
            (outcome, returns, self.sent_to.get())
        {
            let of = (self.entry, &self.message);
            returns.taken((unit, communication), of, sent_to, now_ms);
        }
    }

    /// How often it was handed over without an answer, after an outcome that is no answer either.
    fn unanswered(&self, outcome: &Outcome) -> u8 {
        let before = self.message.unanswered;
        match outcome {
            Outcome::PutOff {
                unanswered: true, ..
            } => before.saturating_add(1),
            Outcome::Sent | Outcome::Notified { .. } | Outcome::Taken(_) | Outcome::Known(_) => 0,
            Outcome::PutOff { .. }
            | Outcome::NotDone(_)
            | Outcome::Waits { .. }
            | Outcome::Batched(_)
            | Outcome::Rests { .. }
            | Outcome::Cancelled => before,
        }
    }

    /// Says of a message that has not left, as far as is known, that the other side may have it where an answer never
    /// came.
    fn mark_unanswered(&self, communication: &mut Resource, outcome: &Outcome) {
        let count = self.unanswered(outcome);
        if count == 0 {
            return;
        }
        set_unanswered(communication, count);
        let reason = communication.get("statusReason").cloned();
        let mut reason = match reason {
            Some(Value::Object(reason)) => reason,
            _ => serde_json::Map::new(),
        };
        let codings = reason.get("coding").and_then(Value::as_array);
        let mut codings = codings.cloned().unwrap_or_default();
        if !codings.iter().any(|coding| coding["code"] == NO_RECEIPT) {
            codings.push(json!({"system": NOT_DONE_SYSTEM, "code": NO_RECEIPT}));
        }
        reason.insert("coding".to_owned(), Value::Array(codings));
        communication.set("statusReason", Value::Object(reason));
    }

    fn may_be_there(&self, found: Versioned, outcome: &Outcome) -> Change {
        let mut resource = found.resource;
        resource.strip_meta();
        self.mark_unanswered(&mut resource, outcome);
        Change::Put {
            resource,
            expected: Expected::Version(found.version),
        }
    }

    /// Says of a message that has left what that cost, where its channel has one price for each. Who handed it over and was
    /// killed paid for it, too, and didn't say so.
    fn mark_cost(&self, communication: &mut Resource) {
        let Some(price) = self.inner.carrier.price() else {
            return;
        };
        let extensions = communication.get("extension").and_then(Value::as_array);
        let mut extensions = extensions.cloned().unwrap_or_default();
        extensions.push(json!({"url": MESSAGE_COST_URL, "valueMoney": price.money()}));
        communication.set("extension", Value::Array(extensions));
    }

    /// Says of a message that has left when it was let go.
    fn mark_let_go(&self, communication: &mut Resource) {
        let let_go_ms = self
            .message
            .hours
            .as_ref()
            .and_then(|hours| hours.let_go_ms);
        let (Some(let_go_ms), None) = (let_go_ms, let_go(communication)) else {
            return;
        };
        let extensions = communication.get("extension").and_then(Value::as_array);
        let mut extensions = extensions.cloned().unwrap_or_default();
        let at = fhir::date::instant(let_go_ms);
        extensions.push(json!({"url": LET_GO_URL, "valueInstant": at}));
        communication.set("extension", Value::Array(extensions));
    }

    /// The message as it is kept until it is tried again.
    fn body(&self, unanswered: bool) -> Vec<u8> {
        let ahead = self.ahead.get().filter(|_| unanswered);
        ahead.unwrap_or(&self.entry.body).clone()
    }

    /// The message as it is kept that is let go at a time: it counts as of then.
    fn body_until(&self, due_ms: u64) -> Vec<u8> {
        let mut message = self.message.clone();
        if let Some(hours) = &mut message.hours {
            hours.let_go_ms = hours.let_go_ms.map(|_| due_ms);
        }
        serde_json::to_vec(&message).unwrap_or_else(|_| self.entry.body.clone())
    }
}

/// Whether nothing more becomes of a message.
fn is_settled(communication: &Resource) -> bool {
    matches!(
        communication.text_at(&["status"]),
        Some("completed" | "entered-in-error")
    )
}

/// When a message was let go, as it says itself.
fn let_go(message: &Resource) -> Option<&str> {
    let extensions = message.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.into_iter().flatten();
    let said = extensions.find(|extension| extension["url"] == LET_GO_URL)?;
    said["valueInstant"].as_str()
}

/// Whether it is a message of a journey that went out by a channel that reaches out, and counts.
fn reached_out(message: &Resource) -> bool {
    let identifiers = message.get("identifier").and_then(Value::as_array);
    let mut identifiers = identifiers.into_iter().flatten();
    let medium = message.text_at(&["medium", "0", "coding", "0", "code"]);
    medium != Some("PORTAL")
        && identifiers.any(|one| one["system"] == INSTANCE_SYSTEM)
        && !is_beyond_limits(message)
}

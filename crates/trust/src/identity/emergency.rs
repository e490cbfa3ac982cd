//! Emergency access ("break-glass"): somebody who treats a patient opens what consents hide from them, for one
//! patient, a stated reason and a limited time. A privacy officer looks into each afterwards.
//!
//! All of it is in the store, and looked up there whenever a permit for the purpose `ETREAT` is asked for:
//! what has ended on one server has ended on all. The words of reasons and reviews are in the patient's document
//! alone, and go with the patient's key; the audit, which outlives it, has the access's id and the verdict.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use fhir::ResourceType;
use ledger::{Commit, Expected, Number, OutboxDraft, OutboxKey, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, find, find_in, get};
use super::manage::invalid;
use super::{Identity, RETRIES};
use crate::audit::{Event, Outcome, Record};
use crate::outgoing::{CHANNEL_NOTICE, Notice};
use crate::{Action, Agent, Permit, Purpose, Refusal, Role, Target, TrustError, kinds};

/// How long an access lasts at most, where nothing else is configured: long enough for an emergency
/// department, and over by the next shift.
pub const EMERGENCY_S: u64 = 4 * 3600;
/// How soon it has to be looked into, where nothing else is configured: three days, so that no weekend makes
/// one late.
pub const EMERGENCY_REVIEW_S: u64 = 72 * 3600;
/// Characters of a reason, and of what a review says. Fewer than the least say nothing.
const REASON_MIN: usize = 10;
const REASON_MAX: usize = 500;
/// Accesses that wait for a review on one page of the list, newest first; with more, it goes on.
const WAITING_LISTED: usize = 100;
/// Closed ones that are listed behind the last of those; with more, the list says so.
const LISTED_MAX: usize = 500;
/// Accesses that wait for a review and are counted, on each page of a privacy officer; with more, the count says
/// so, and as many of the oldest are looked through for those that are overdue. Some ten microseconds each.
const COUNTED_MAX: usize = if cfg!(test) { 5 } else { 500 };
/// Addresses that are told of each access.
pub const ALERTED_MAX: usize = 20;
/// Accesses of one person that may be live at once. Each is one patient's.
const LIVE_MAX: usize = 20;

/// How long accesses and reviews may take, milliseconds.
pub(super) struct Limits {
    access_ms: AtomicU64,
    review_ms: AtomicU64,
    /// Addresses that are told of each by e-mail.
    alerted: RwLock<Vec<String>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            access_ms: AtomicU64::new(EMERGENCY_S * 1000),
            review_ms: AtomicU64::new(EMERGENCY_REVIEW_S * 1000),
            alerted: RwLock::default(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct EmergencyDocument {
    account: String,
    name: String,
    role: Role,
    patient: String,
    reason: String,
    began_ms: u64,
    until_ms: u64,
    ended_ms: Option<u64>,
    review: Option<EmergencyReview>,
}

/// What a privacy officer found of an emergency access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyReview {
    /// Id of the account.
    pub account: String,
    /// Their name.
    pub name: String,
    /// When, by the wall clock.
    pub at_ms: u64,
    /// Whether there was an emergency.
    pub justified: bool,
    /// What they found, in words.
    pub words: String,
}

/// An emergency access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyAccess {
    /// Id.
    pub id: String,
    /// Id of the account that has it.
    pub account: String,
    /// Name of who has it.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// The one patient.
    pub patient: String,
    /// Why, in their words. May hold a patient's details.
    pub reason: String,
    /// Since when, by the wall clock.
    pub began_ms: u64,
    /// Until when at the latest, by the wall clock.
    pub until_ms: u64,
    /// When it was ended before that.
    pub ended_ms: Option<u64>,
    /// What was found of it; none while it waits to be looked into.
    pub review: Option<EmergencyReview>,
}

impl EmergencyAccess {
    /// Whether it lets anything be seen now.
    #[must_use]
    pub fn is_live(&self, now_ms: u64) -> bool {
        self.ended_ms.is_none() && now_ms < self.until_ms
    }
}

/// How many accesses wait to be looked into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmergenciesWaiting {
    /// All of them.
    pub open: usize,
    /// Those that have waited for too long, among the newest and the oldest.
    pub overdue: usize,
    /// Whether there are more that were not counted.
    pub more: bool,
    /// Whether there may be more of them that are overdue.
    pub more_overdue: bool,
}

/// A page of emergency accesses.
#[derive(Debug, Clone)]
pub struct EmergencyPage {
    /// Those that wait to be looked into, newest first, and behind the last of them those that were.
    pub rows: Vec<EmergencyAccess>,
    /// Where the next page of those that wait goes on.
    pub next: Option<Number>,
    /// Whether all closed ones are here, or older ones are left out.
    pub complete: bool,
}

fn access(id: String, body: EmergencyDocument) -> EmergencyAccess {
    EmergencyAccess {
        id,
        account: body.account,
        name: body.name,
        role: body.role,
        patient: body.patient,
        reason: body.reason,
        began_ms: body.began_ms,
        until_ms: body.until_ms,
        ended_ms: body.ended_ms,
        review: body.review,
    }
}

/// What a note in the audit says of an access: its id, and the verdict of its review. Never words that somebody
/// typed, for they would outlive the patient's key.
fn told(id: &str, justified: Option<bool>) -> String {
    match justified {
        None => format!("access {id}"),
        Some(true) => format!("justified; access {id}"),
        Some(false) => format!("not justified; access {id}"),
    }
}

/// The access that a note in the audit tells of, and the verdict, if that is what the note says.
#[must_use]
pub fn emergency_in_note(note: &str) -> Option<(&str, Option<bool>)> {
    let (verdict, rest) = match note.split_once("; ") {
        Some(("justified", rest)) => (Some(true), rest),
        Some(("not justified", rest)) => (Some(false), rest),
        Some(_) => return None,
        None => (None, note),
    };
    let id = rest.strip_prefix("access ")?;
    fhir::is_id(id).then_some((id, verdict))
}

/// What was typed, on one line, if it says anything.
pub(super) fn said(words: &str, what: &str) -> Result<String, TrustError> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.join(" ");
    let letters = words.chars().count();
    if (REASON_MIN..=REASON_MAX).contains(&letters) {
        return Ok(words);
    }
    Err(TrustError::Invalid(format!(
        "{what} needs {REASON_MIN} to {REASON_MAX} characters; this has {letters}"
    )))
}

impl Identity {
    /// Sets how long an access lasts at most, and how soon it has to be looked into, seconds.
    pub fn limit_emergencies(&self, access_s: u64, review_s: u64) {
        let limits = &self.inner.emergencies;
        let ms = |seconds: u64| seconds.saturating_mul(1000);
        limits.access_ms.store(ms(access_s), Ordering::Relaxed);
        limits.review_ms.store(ms(review_s), Ordering::Relaxed);
    }

    /// Who is told by e-mail of each access that begins: addresses, [`ALERTED_MAX`] at most.
    pub fn alert_of_emergencies(&self, addresses: Vec<String>) {
        let alerted = &self.inner.emergencies.alerted;
        *alerted.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The e-mails that tell of an access, in the shard of its patient. They say neither whose it is nor to whom.
    fn alerts(&self, tenant: TenantId, patient: &str, id: &str) -> Vec<OutboxDraft> {
        let ledger = &self.inner.ledger;
        let shard = ledger.shard_of(tenant, &Owner::Patient(patient.to_owned()), id);
        let alerted = &self.inner.emergencies.alerted;
        let addresses = alerted.read().unwrap_or_else(PoisonError::into_inner);
        let draft = |to: &String| {
            let mut key = [0; 16];
            ledger.entropy().fill(&mut key);
            let notice = Notice {
                to: to.clone(),
                about: "emergency access".to_owned(),
                subject: "Emergency access waits for your review".to_owned(),
                text: "Somebody has just opened a patient's record by emergency access. It waits for your review:\n\n{link}\n\nThis e-mail does not say whom it is about. You see that after you have signed in.".to_owned(),
                link_path: "/console/emergencies".to_owned(),
            };
            OutboxDraft {
                key: OutboxKey {
                    shard,
                    due_ms: ledger.clock().now_ms(),
                    id: key,
                },
                owner: Owner::Tenant,
                channel: CHANNEL_NOTICE,
                attempt: 0,
                // A notice of strings can't fail to serialise.
                body: serde_json::to_vec(&notice).unwrap_or_default(),
            }
        };
        addresses.iter().take(ALERTED_MAX).map(draft).collect()
    }

    /// How long an access lasts at most, milliseconds.
    #[must_use]
    pub fn emergency_ms(&self) -> u64 {
        self.inner.emergencies.access_ms.load(Ordering::Relaxed)
    }

    /// When an access has to have been looked into, by the wall clock.
    #[must_use]
    pub fn review_due_ms(&self, access: &EmergencyAccess) -> u64 {
        let within_ms = self.inner.emergencies.review_ms.load(Ordering::Relaxed);
        access.began_ms.saturating_add(within_ms)
    }

    /// Begins an emergency access to one patient's record. The policies say who may; the audit names the
    /// patient and has the reason, and privacy officers have a review to do. Who has such an access already
    /// keeps it as it is.
    ///
    /// # Errors
    /// `Refused`; `Invalid` when the reason says too little or there is no such patient; `Ledger`.
    pub async fn break_glass(
        &self,
        by: &Agent,
        patient: &str,
        reason: &str,
        request_id: &str,
    ) -> Result<EmergencyAccess, TrustError> {
        let purpose = Purpose::Emergency;
        let target = Target {
            kind: None,
            patient: Some(patient.to_owned()),
        };
        // Who looks in somebody's place can't see the emergency.
        let in_person = match (by.role, &by.access) {
            (Role::System | Role::Client | Role::Steerer | Role::Patient | Role::Proxy, _) => {
                Err("emergency access is for people who treat the patient")
            }
            (_, Some(_)) => Err("an application can't ask for emergency access"),
            _ => Ok(()),
        };
        let mut known = self.organizations_looked_at(by).await?;
        let who = (by, &mut known);
        let judged = self.judged(who, purpose, Action::Search, &target, request_id);
        let permit = match (in_person, judged.await?) {
            (Ok(()), Ok(permit)) => permit,
            (in_person, judged) => {
                let refusal = match (in_person, judged) {
                    (Err(words), _) => Refusal {
                        reason: words.to_owned(),
                        because: Vec::new(),
                    },
                    (Ok(()), Err(refusal)) => refusal,
                    (Ok(()), Ok(_)) => return invalid("an emergency access can't be decided"),
                };
                let mut record = Record::new(by, Event::EMERGENCY_BEGUN);
                record.purpose = Some(purpose);
                record.because = &refusal.because;
                record.request_id = request_id;
                record.outcome = Outcome::Refused;
                record.note = Some(&refusal.reason);
                record.patients.insert(patient.to_owned());
                self.inner.auditor.commit(&record).await?;
                return Err(TrustError::Refused(refusal));
            }
        };
        let reason = said(reason, "the reason")?;
        let vault = &self.inner.vault;
        let is_there = fhir::is_id(patient)
            && vault
                .peek(by.tenant, ResourceType::Patient, patient)
                .await?
                .is_some();
        if !is_there {
            return invalid("there is no such patient");
        }
        let live = self.live(by).await?;
        if let Some(known) = live.iter().find(|access| access.patient == patient) {
            return Ok(known.clone());
        }
        if live.len() >= LIVE_MAX {
            return Err(TrustError::Invalid(format!(
                "you have emergency access to {LIVE_MAX} patients already; end one first"
            )));
        }
        let now_ms = self.now_ms();
        let document = EmergencyDocument {
            account: by.id.clone(),
            name: by.name.clone(),
            role: by.role,
            patient: patient.to_owned(),
            reason,
            began_ms: now_ms,
            until_ms: now_ms.saturating_add(self.emergency_ms()),
            ended_ms: None,
            review: None,
        };
        let owner = Owner::Patient(patient.to_owned());
        let id = self.inner.ledger.mint_id(by.tenant, &owner);
        let note = told(&id, None);
        let mut record = Record::under(&permit, Event::EMERGENCY_BEGUN);
        record.note = Some(&note);
        record.patients.insert(patient.to_owned());
        let draft = self.emergency_draft(by.tenant, &id, Expected::Absent, &document)?;
        let mut commit = Commit::new(by.tenant);
        commit.documents = vec![draft];
        commit.audit = Some(self.inner.auditor.draft(&record));
        // In one commit with it: there is none that nobody is told of.
        commit.outbox_add = self.alerts(by.tenant, patient, &id);
        self.inner.ledger.commit(commit).await?;
        metrics::counter!("cairn_emergency_accesses_total").increment(1);
        Ok(access(id, document))
    }

    /// The access that somebody has to a patient now.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn emergency(
        &self,
        agent: &Agent,
        patient: &str,
    ) -> Result<Option<EmergencyAccess>, TrustError> {
        let live = self.live(agent).await?;
        Ok(live.into_iter().find(|access| access.patient == patient))
    }

    /// An access to the patient's own record, for the line of their audit that names it: the audit itself has
    /// no words. None when it is another patient's, or its document can't be opened any more. The leaf of the
    /// audit's reading, which the permit was for, tells of this one, too.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn emergency_told(
        &self,
        permit: &Permit,
        id: &str,
    ) -> Result<Option<EmergencyAccess>, TrustError> {
        let agent = permit.agent();
        if agent.role != Role::Patient || agent.access.is_some() || !fhir::is_id(id) {
            return Ok(None);
        }
        let (ledger, kind) = (&self.inner.ledger, kinds::EMERGENCY_ACCESS);
        let found: Option<Kept<EmergencyDocument>> = get(ledger, permit.tenant(), kind, id).await?;
        Ok(found
            .filter(|kept| agent.patient.as_deref() == Some(kept.body.patient.as_str()))
            .map(|kept| access(kept.id, kept.body)))
    }

    /// The access under which a request of somebody for the purpose `ETREAT` is answered: that to the patient
    /// it is about or, where it says nothing of that, the only one.
    pub(crate) async fn emergency_for(
        &self,
        agent: &Agent,
        patient: Option<&str>,
    ) -> Result<Result<EmergencyAccess, &'static str>, TrustError> {
        let mut live = self.live(agent).await?;
        live.retain(|access| patient.is_none_or(|patient| access.patient == patient));
        // Asked for twice at once, there are two to one patient.
        let of_several = live
            .windows(2)
            .any(|pair| pair[0].patient != pair[1].patient);
        Ok(match live.into_iter().next() {
            Some(_) if of_several => Err(
                "you have emergency access to several patients: this request has to name one of them",
            ),
            Some(newest) => Ok(newest),
            None => Err(
                "for an emergency, ask for emergency access on the patient's page first, with a reason",
            ),
        })
    }

    /// Ends one's own access before its time.
    ///
    /// # Errors
    /// `Invalid` when there is none of this id that is one's own; `Ledger`.
    pub async fn end_emergency(
        &self,
        by: &Agent,
        id: &str,
        request_id: &str,
    ) -> Result<EmergencyAccess, TrustError> {
        let note = told(id, None);
        let mut record = Record::new(by, Event::EMERGENCY_ENDED);
        record.note = Some(&note);
        record.purpose = Some(Purpose::Emergency);
        record.request_id = request_id;
        let now_ms = self.now_ms();
        self.change(by.tenant, id, record, |document| {
            if document.account != by.id {
                return invalid("there is no such emergency access of yours");
            }
            if document.ended_ms.is_none() && now_ms < document.until_ms {
                document.ended_ms = Some(now_ms);
            }
            Ok(())
        })
        .await
    }

    /// The access that somebody has to the patient whose a resource is. None when it is not there, or of nobody
    /// whom they have one to.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn emergency_about(
        &self,
        agent: &Agent,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<EmergencyAccess>, TrustError> {
        let live = self.live(agent).await?;
        if live.is_empty() || !fhir::is_id(id) {
            return Ok(None);
        }
        let vault = &self.inner.vault;
        let resource = vault.peek_unless_erased(agent.tenant, kind, id).await?;
        let patients = resource.as_ref().map(fhir::Resource::patients);
        // Whose it is comes first among those whom it names.
        let found = patients.into_iter().flatten().find_map(|patient| {
            let to = live.iter().find(|access| access.patient == patient);
            to.cloned()
        });
        Ok(found)
    }

    /// The newest access that somebody has now.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn newest_emergency(
        &self,
        agent: &Agent,
    ) -> Result<Option<EmergencyAccess>, TrustError> {
        Ok(self.live(agent).await?.into_iter().next())
    }

    /// Accesses, those that wait to be looked into first, then newest first; of the former those before a number.
    /// For privacy officers; who looked is in the audit.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Ledger`.
    pub async fn emergencies(
        &self,
        permit: &Permit,
        before: Option<Number>,
    ) -> Result<EmergencyPage, TrustError> {
        self.audits(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let mut waiting = self.waiting(tenant, before, WAITING_LISTED + 1).await?;
        let more = waiting.len() > WAITING_LISTED;
        waiting.truncate(WAITING_LISTED);
        let next = waiting.last().map(|(number, _)| *number);
        let mut rows: Vec<_> = waiting.into_iter().map(|(_, access)| access).collect();
        let mut complete = true;
        if !more {
            let all = Query::Token(ledger.kind_token(tenant, kinds::EMERGENCY_ACCESS));
            let most = LISTED_MAX + 1;
            let found: Vec<Kept<EmergencyDocument>> =
                find(ledger, tenant, kinds::EMERGENCY_ACCESS, &all, most).await?;
            complete = found.len() < most;
            let closed = found.into_iter().take(LISTED_MAX);
            let closed = closed.map(|kept| access(kept.id, kept.body));
            rows.extend(closed.filter(|access| access.review.is_some()));
        }
        let mut record = Record::under(permit, Event::EMERGENCIES);
        let patients = rows.iter().map(|access| access.patient.clone());
        record.patients.extend(patients);
        self.inner.auditor.commit(&record).await?;
        Ok(EmergencyPage {
            rows,
            next: next.filter(|_| more),
            complete,
        })
    }

    /// Closes the review of an access with what was found. An access that was not justified ends at once.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Invalid` when the words say too little, there is no such
    /// access, it is one's own, or it has been looked into before; `Ledger`.
    pub async fn review_emergency(
        &self,
        permit: &Permit,
        id: &str,
        justified: bool,
        words: &str,
    ) -> Result<EmergencyAccess, TrustError> {
        self.audits(permit).await?;
        let words = said(words, "what was found")?;
        let note = told(id, Some(justified));
        let by = permit.agent();
        let now_ms = self.now_ms();
        let mut record = Record::under(permit, Event::EMERGENCY_REVIEWED);
        record.note = Some(&note);
        self.change(permit.tenant(), id, record, |document| {
            if document.account == by.id {
                return invalid("nobody looks into an emergency access of their own");
            }
            if document.review.is_some() {
                return invalid("this emergency access has been looked into already");
            }
            if !justified && document.ended_ms.is_none() && now_ms < document.until_ms {
                document.ended_ms = Some(now_ms);
            }
            // One whose time is over is no longer looked for among those that stand.
            if now_ms >= document.until_ms {
                document.ended_ms = document.ended_ms.or(Some(document.until_ms));
            }
            document.review = Some(EmergencyReview {
                account: by.id.clone(),
                name: by.name.clone(),
                at_ms: now_ms,
                justified,
                words: words.clone(),
            });
            Ok(())
        })
        .await
    }

    /// How many accesses wait to be looked into. A count, without whose they are.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn emergencies_waiting(
        &self,
        tenant: TenantId,
    ) -> Result<EmergenciesWaiting, TrustError> {
        let now_ms = self.now_ms();
        let mut waiting = self.waiting(tenant, None, COUNTED_MAX + 1).await?;
        let more = waiting.len() > COUNTED_MAX;
        waiting.truncate(COUNTED_MAX);
        // Those that are overdue are the oldest.
        let oldest = match waiting.last() {
            Some((number, _)) if more => self.oldest_waiting(tenant, *number).await?,
            _ => Vec::new(),
        };
        let late = |access: &EmergencyAccess| self.review_due_ms(access) <= now_ms;
        let overdue = oldest.iter().filter(|access| late(access)).count();
        let of_newest = waiting.iter().filter(|(_, access)| late(access)).count();
        Ok(EmergenciesWaiting {
            overdue: overdue + of_newest,
            open: waiting.len(),
            more,
            more_overdue: overdue == COUNTED_MAX,
        })
    }

    /// Of those that wait, before a number, the oldest [`COUNTED_MAX`]. Where they stand is when they were written
    /// last, which is at the latest when they ended: hours after they began, while reviews have days.
    async fn oldest_waiting(
        &self,
        tenant: TenantId,
        mut before: Number,
    ) -> Result<Vec<EmergencyAccess>, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::EMERGENCY_ACCESS);
        let query = Query::Token(ledger.token(tenant, kind, "review", "open"));
        let view = ledger.view()?;
        // What lies between is passed over without being opened.
        let mut oldest = Vec::new();
        loop {
            let hits = view
                .search(tenant, &query, Some(before), None, COUNTED_MAX)
                .await?;
            let is_last = hits.len() < COUNTED_MAX;
            before = hits.last().map_or(before, |hit| hit.number);
            oldest.extend(hits);
            oldest.drain(..oldest.len().saturating_sub(COUNTED_MAX));
            if is_last {
                break;
            }
        }
        let Some(newest) = oldest.first() else {
            return Ok(Vec::new());
        };
        let before = Some(Number(newest.number.0.saturating_add(1)));
        let found: Vec<Kept<EmergencyDocument>> =
            find_in(&view, tenant, kind, &query, (before, COUNTED_MAX)).await?;
        let found = found.into_iter().map(|kept| access(kept.id, kept.body));
        Ok(found.filter(|access| access.review.is_none()).collect())
    }

    async fn audits(&self, permit: &Permit) -> Result<(), TrustError> {
        if permit.action() == Action::Audit {
            return Ok(());
        }
        let reason = "emergency accesses are looked into by privacy officers".to_owned();
        let mut record = Record::under(permit, Event::EMERGENCIES);
        record.outcome = Outcome::Refused;
        record.note = Some(&reason);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(Refusal {
            reason,
            because: Vec::new(),
        }))
    }

    /// The accesses that somebody has now, newest first.
    async fn live(&self, agent: &Agent) -> Result<Vec<EmergencyAccess>, TrustError> {
        let now_ms = self.now_ms();
        let by = ("live", agent.id.as_str());
        let found = self.found(agent.tenant, by, None, usize::MAX).await?;
        let found = found.into_iter().map(|(_, access)| access);
        Ok(found
            .filter(|access| access.account == agent.id && access.is_live(now_ms))
            .collect())
    }

    /// Those that wait to be looked into, newest first, each with its place.
    async fn waiting(
        &self,
        tenant: TenantId,
        before: Option<Number>,
        most: usize,
    ) -> Result<Vec<(Number, EmergencyAccess)>, TrustError> {
        let found = self.found(tenant, ("review", "open"), before, most).await?;
        let found = found.into_iter();
        Ok(found
            .filter(|(_, access)| access.review.is_none())
            .collect())
    }

    async fn found(
        &self,
        tenant: TenantId,
        (name, value): (&str, &str),
        before: Option<Number>,
        most: usize,
    ) -> Result<Vec<(Number, EmergencyAccess)>, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::EMERGENCY_ACCESS);
        let query = Query::Token(ledger.token(tenant, kind, name, value));
        let view = ledger.view()?;
        let found: Vec<Kept<EmergencyDocument>> =
            find_in(&view, tenant, kind, &query, (before, most)).await?;
        let found = found.into_iter();
        Ok(found
            .map(|kept| (kept.at.number, access(kept.id, kept.body)))
            .collect())
    }

    async fn change(
        &self,
        tenant: TenantId,
        id: &str,
        record: Record<'_>,
        mut change: impl FnMut(&mut EmergencyDocument) -> Result<(), TrustError>,
    ) -> Result<EmergencyAccess, TrustError> {
        for _ in 0..RETRIES {
            let found = if fhir::is_id(id) {
                get(&self.inner.ledger, tenant, kinds::EMERGENCY_ACCESS, id).await?
            } else {
                None
            };
            let Some(mut kept) = found else {
                return invalid("there is no such emergency access");
            };
            change(&mut kept.body)?;
            let mut record = record.clone();
            record.patients.insert(kept.body.patient.clone());
            let expected = Expected::Version(kept.version);
            let draft = self.emergency_draft(tenant, id, expected, &kept.body)?;
            if let Some(outcome) = self.tried(tenant, vec![draft], record).await {
                return outcome.map(|()| access(kept.id, kept.body));
            }
        }
        Err(ledger::LedgerError::Conflict.into())
    }

    fn emergency_draft(
        &self,
        tenant: TenantId,
        id: &str,
        expected: Expected,
        body: &EmergencyDocument,
    ) -> Result<ledger::Draft, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::EMERGENCY_ACCESS);
        // Found by who has it until it has been ended or looked into, so that few are looked through; those
        // whose time is over are left out when they are opened.
        let mut found_by = Vec::new();
        if body.ended_ms.is_none() {
            found_by.push(("live", body.account.as_str()));
        }
        if body.review.is_none() {
            found_by.push(("review", "open"));
        }
        let mut draft = draft(ledger, tenant, kind, id, expected, body, &found_by, None)?;
        draft.owner = Owner::Patient(body.patient.clone());
        Ok(draft)
    }
}

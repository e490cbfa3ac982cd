//! Emergency access ("break-glass"): somebody who treats a patient opens what consents hide from them, for one
//! patient, a stated reason and a limited time. A privacy officer looks into each afterwards.
//!
//! All of it is in the store, and looked up there whenever a permit for the purpose `ETREAT` is asked for:
//! what has ended on one server has ended on all. The words of reasons and reviews are in the patient's document
//! alone, and go with the patient's key; the audit, which outlives it, has the access's id and the verdict.
use std::sync::atomic::{AtomicU64, Ordering};

use fhir::ResourceType;
use ledger::{Expected, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};

use super::documents::{Kept, draft, find, get};
use super::manage::{Listing, invalid};
use super::{Identity, RETRIES};
use crate::audit::{Event, Outcome, Record};
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
/// Accesses that are listed, newest first; with more, the list says so. Those that wait for a review are
/// listed before all others.
const LISTED_MAX: usize = 500;
/// Accesses of one person that may be live at once. Each is one patient's.
const LIVE_MAX: usize = 20;

/// How long accesses and reviews may take, milliseconds.
pub(super) struct Limits {
    access_ms: AtomicU64,
    review_ms: AtomicU64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            access_ms: AtomicU64::new(EMERGENCY_S * 1000),
            review_ms: AtomicU64::new(EMERGENCY_REVIEW_S * 1000),
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
    /// Those that have waited for too long.
    pub overdue: usize,
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
            (Role::System | Role::Client | Role::Patient | Role::Proxy, _) => {
                Err("emergency access is for people who treat the patient")
            }
            (_, Some(_)) => Err("an application can't ask for emergency access"),
            _ => Ok(()),
        };
        let policies = &self.inner.policies;
        let judged = policies.judge(by, purpose, Action::Search, &target, request_id);
        let permit = match (in_person, judged) {
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
        self.commit(by.tenant, vec![draft], record).await?;
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

    /// All accesses, those that wait to be looked into first, then newest first. For privacy officers; who
    /// looked is in the audit.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Ledger`.
    pub async fn emergencies(
        &self,
        permit: &Permit,
    ) -> Result<Listing<EmergencyAccess>, TrustError> {
        self.audits(permit).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let all = Query::Token(ledger.kind_token(tenant, kinds::EMERGENCY_ACCESS));
        let mut rows = self.waiting(tenant).await?;
        let most = LISTED_MAX + 1;
        let found: Vec<Kept<EmergencyDocument>> =
            find(ledger, tenant, kinds::EMERGENCY_ACCESS, &all, most).await?;
        let complete = found.len() < most;
        let closed = found.into_iter().take(LISTED_MAX);
        let closed = closed.map(|kept| access(kept.id, kept.body));
        rows.extend(closed.filter(|access| access.review.is_some()));
        let mut record = Record::under(permit, Event::EMERGENCIES);
        let patients = rows.iter().map(|access| access.patient.clone());
        record.patients.extend(patients);
        self.inner.auditor.commit(&record).await?;
        Ok(Listing { rows, complete })
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
        let waiting = self.waiting(tenant).await?;
        let late = waiting
            .iter()
            .filter(|access| self.review_due_ms(access) <= now_ms);
        Ok(EmergenciesWaiting {
            overdue: late.count(),
            open: waiting.len(),
        })
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
        let mut found = self.found(agent.tenant, "live", &agent.id).await?;
        found.retain(|access| access.account == agent.id && access.is_live(now_ms));
        Ok(found)
    }

    async fn waiting(&self, tenant: TenantId) -> Result<Vec<EmergencyAccess>, TrustError> {
        let mut found = self.found(tenant, "review", "open").await?;
        found.retain(|access| access.review.is_none());
        Ok(found)
    }

    async fn found(
        &self,
        tenant: TenantId,
        name: &str,
        value: &str,
    ) -> Result<Vec<EmergencyAccess>, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::EMERGENCY_ACCESS);
        let query = Query::Token(ledger.token(tenant, kind, name, value));
        let found: Vec<Kept<EmergencyDocument>> =
            find(ledger, tenant, kind, &query, usize::MAX).await?;
        let found = found.into_iter();
        Ok(found.map(|kept| access(kept.id, kept.body)).collect())
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

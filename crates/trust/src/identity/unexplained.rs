//! Accesses of staff that no relationship on record explains: found for privacy officers, who look into each
//! and close it with what they found (decision 70).
//!
//! What is listed is what the audit says; nothing else is kept until one is closed. That it is closed, and how,
//! is the tenant's, as the audit is; the words are in a document of the patient's and end with the patient's key.
use std::collections::HashMap;
use std::sync::Arc;

use fhir::{Resource, ResourceType};
use ledger::{Expected, Ledger, LedgerError, Number, Owner, Query, TenantId, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::documents::{Kept, draft, get};
use super::emergency::said;
use super::manage::invalid;
use super::{Identity, commit, known_as};
use crate::audit::{self, Event, NONE, Outcome, Record, Touched, UNKNOWN};
use crate::{Action, Permit, Refusal, Role, TrustError, kinds, tokens};

/// Audit records that are looked at for one page: some tens of milliseconds. The page says how far it came.
pub const LOOKED_AT_MAX: usize = 1000;
/// Records looked at together.
const AT_ONCE: usize = 100;

/// Which accesses are asked for.
#[derive(Debug, Clone, Default)]
pub struct AskedUnexplained {
    /// Those of which it couldn't be told what explains them, in place of those that nothing explains.
    pub unknown: bool,
    /// Of one person alone: id of the account or client.
    pub who: Option<String>,
    /// To one patient's record alone.
    pub patient: Option<String>,
    /// Since when, by the clock of the audit.
    pub since_ms: Option<u64>,
    /// Those that have been looked into, or those that have not; both where nothing is said.
    pub closed: Option<bool>,
    /// Those before a record.
    pub before: Option<Number>,
    /// With how many a page is full. It holds all of its last record, which is about 32 patients at most.
    pub rows: usize,
}

/// An access to one patient's record that nothing explains.
#[derive(Debug, Clone)]
pub struct UnexplainedAccess {
    /// Its audit record, which may be of several patients.
    pub event: Arc<Resource>,
    /// The patient.
    pub patient: String,
    /// Whether it couldn't be told what explains it.
    pub unknown: bool,
    /// What was found of it.
    pub review: Option<AccessReview>,
}

/// A page of them, newest first.
#[derive(Debug, Clone)]
pub struct UnexplainedPage {
    /// The accesses.
    pub rows: Vec<UnexplainedAccess>,
    /// Where the next page goes on.
    pub next: Option<Number>,
    /// How many there are from the beginning of the page on, as far as was looked.
    pub found: usize,
    /// Whether that was to the end.
    pub complete: bool,
    /// How many audit records were looked at.
    pub looked_at: usize,
}

/// What a privacy officer found of an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessReview {
    /// Name of who looked into it.
    pub name: String,
    /// When, by the wall clock.
    pub at_ms: u64,
    /// Whether there was a reason for the access.
    pub explained: bool,
    /// What they found, in words; none once the patient's key is destroyed, or where they weren't asked for.
    pub words: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ReviewDocument {
    event: String,
    patient: String,
    account: String,
    name: String,
    at_ms: u64,
    explained: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct WordsDocument {
    words: String,
}

/// The names of a review and of its words. A second review of the same has the same ones, and meets the first.
fn ids(ledger: &Ledger, tenant: TenantId, event: &str, patient: &str) -> (String, String) {
    let name = format!("access-review {event} {patient}");
    let owner = Owner::Patient(patient.to_owned());
    (
        ledger.derive_own_id(tenant, &name),
        ledger.derive_id(tenant, &owner, &name),
    )
}

/// An audit record that was looked at.
fn looked_at(event: &str) -> Touched {
    Touched {
        kind: ResourceType::AuditEvent,
        id: event.to_owned(),
        version: None,
        patient: None,
        interaction: None,
    }
}

/// Who acted, as the audit names them.
fn who(event: &Resource) -> Option<&str> {
    let agents = event.get("agent").and_then(Value::as_array)?;
    let asked = agents.iter().find(|agent| agent["requestor"] == true)?;
    asked["altId"].as_str()
}

impl Identity {
    /// Accesses of staff whose audit record says that no relationship explains them. Only those to the records
    /// of patients whom that is told of are found: some answers about more than 32 patients tell it of none. For privacy officers; who looked is in the audit.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Ledger`.
    pub async fn unexplained(
        &self,
        permit: &Permit,
        asked: &AskedUnexplained,
    ) -> Result<UnexplainedPage, TrustError> {
        self.looks_into(permit, Event::UNEXPLAINED).await?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let told = if asked.unknown { UNKNOWN } else { NONE };
        let query = tokens::Unexplained {
            told,
            who: asked.who.as_deref(),
            patient: asked.patient.as_deref(),
        };
        let query = query.query(ledger, tenant);
        let since = asked.since_ms.map(Number::at_ms);
        let view = ledger.view()?;
        let mut page = UnexplainedPage {
            rows: Vec::new(),
            next: None,
            found: 0,
            complete: false,
            looked_at: 0,
        };
        let mut before = asked.before;
        // The last record of the page, once it is full.
        let mut full_at = None;
        while page.looked_at < LOOKED_AT_MAX {
            let hits = view.search(tenant, &query, before, since, AT_ONCE).await?;
            let events = self.events(&view, tenant, &hits).await?;
            let reviews = self.reviews(&view, tenant, &events).await?;
            for (number, event) in events {
                let event = Arc::new(event);
                let id = event.id().unwrap_or_default();
                if asked.who.is_some() && who(&event) != asked.who.as_deref() {
                    continue;
                }
                let mut rows = Vec::new();
                for (patient, what) in audit::relations(&event) {
                    let wanted = asked.patient.as_deref().is_none_or(|one| one == patient);
                    let review = reviews.get(&(id.to_owned(), patient.to_owned()));
                    let state = asked.closed.is_none_or(|closed| closed == review.is_some());
                    if what == told && wanted && state {
                        rows.push(UnexplainedAccess {
                            event: Arc::clone(&event),
                            patient: patient.to_owned(),
                            unknown: asked.unknown,
                            review: review.map(|review| AccessReview {
                                name: review.name.clone(),
                                at_ms: review.at_ms,
                                explained: review.explained,
                                words: None,
                            }),
                        });
                    }
                }
                page.found += rows.len();
                if full_at.is_none() {
                    page.rows.append(&mut rows);
                    full_at = (page.rows.len() >= asked.rows).then_some(number);
                }
            }
            page.looked_at += hits.len();
            before = hits.last().map(|last| last.number).or(before);
            if hits.len() < AT_ONCE {
                page.complete = true;
                break;
            }
        }
        let more = page.found > page.rows.len() || !page.complete;
        page.next = full_at.or(before).filter(|_| more);
        let mut record = Record::under(permit, Event::UNEXPLAINED);
        for row in &mut page.rows {
            record
                .resources
                .push(looked_at(row.event.id().unwrap_or_default()));
            if let Some(review) = &mut row.review {
                // Words are the patient's: that they were read is told to them.
                let id = row.event.id().unwrap_or_default();
                review.words = self.words(tenant, id, &row.patient).await?;
                record.patients.insert(row.patient.clone());
            }
        }
        record.resources.dedup();
        self.inner.auditor.commit(&record).await?;
        Ok(page)
    }

    /// An access to one patient's record that nothing explains, with its review, and what who had it is known as
    /// now; none where the audit record says no such thing. For privacy officers.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Ledger`.
    pub async fn unexplained_access(
        &self,
        permit: &Permit,
        event: &str,
        patient: &str,
    ) -> Result<Option<(UnexplainedAccess, Vec<String>)>, TrustError> {
        self.looks_into(permit, Event::UNEXPLAINED).await?;
        let Some((found, unknown)) = self.relation_told(permit.tenant(), event, patient).await?
        else {
            return Ok(None);
        };
        let review = self.review(permit.tenant(), event, patient).await?;
        let mut record = Record::under(permit, Event::UNEXPLAINED);
        record.resources.push(looked_at(event));
        record.patients.insert(patient.to_owned());
        self.inner.auditor.commit(&record).await?;
        let known_as = match who(&found) {
            Some(who) => known_as(&self.inner.ledger, permit.tenant(), who).await?,
            None => Vec::new(),
        };
        let access = UnexplainedAccess {
            event: Arc::new(found),
            patient: patient.to_owned(),
            unknown,
            review,
        };
        Ok(Some((access, known_as)))
    }

    /// What was found of an access to the patient's own record. The leaf of the audit's reading, which the permit
    /// was for, tells of this one, too.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn access_review_told(
        &self,
        permit: &Permit,
        event: &str,
    ) -> Result<Option<AccessReview>, TrustError> {
        let agent = permit.agent();
        let own = agent.patient.as_deref().filter(|_| {
            agent.role == Role::Patient && agent.access.is_none() && fhir::is_id(event)
        });
        match own {
            Some(patient) => self.review(permit.tenant(), event, patient).await,
            None => Ok(None),
        }
    }

    /// Closes an access with what was found. Whether the words could be kept: they can't where the patient's key
    /// is destroyed, and then the verdict alone is.
    ///
    /// # Errors
    /// `Refused` unless the permit is one to audit; `Invalid` when the words say too little, there is no such
    /// access, it is one's own, or it has been looked into before; `Ledger`.
    pub async fn review_access(
        &self,
        permit: &Permit,
        event: &str,
        patient: &str,
        explained: bool,
        words: &str,
    ) -> Result<bool, TrustError> {
        self.looks_into(permit, Event::ACCESS_REVIEWED).await?;
        let words = said(words, "what was found")?;
        let (ledger, tenant) = (&self.inner.ledger, permit.tenant());
        let Some((found, _)) = self.relation_told(tenant, event, patient).await? else {
            return invalid("there is no such access that nothing explains");
        };
        let by = permit.agent();
        if who(&found) == Some(&by.id) {
            return invalid("nobody looks into an access of their own");
        }
        let (id, words_id) = ids(ledger, tenant, event, patient);
        let review = ReviewDocument {
            event: event.to_owned(),
            patient: patient.to_owned(),
            account: by.id.clone(),
            name: by.name.clone(),
            at_ms: self.now_ms(),
            explained,
        };
        let found_by = [("event", event)];
        let review = draft(
            ledger,
            tenant,
            kinds::ACCESS_REVIEW,
            &id,
            Expected::Absent,
            &review,
            &found_by,
            None,
        )?;
        let body = WordsDocument { words };
        let kind = kinds::ACCESS_REVIEW_WORDS;
        let mut words = draft(
            ledger,
            tenant,
            kind,
            &words_id,
            Expected::Absent,
            &body,
            &[],
            None,
        )?;
        words.owner = Owner::Patient(patient.to_owned());
        let verdict = if explained {
            "explained"
        } else {
            "not explained"
        };
        let note = format!("{verdict}; record {event}");
        let mut record = Record::under(permit, Event::ACCESS_REVIEWED);
        record.note = Some(&note);
        record.patients.insert(patient.to_owned());
        let auditor = &self.inner.auditor;
        let both = vec![review.clone(), words];
        let (outcome, kept) = match commit(ledger, tenant, both, auditor.draft(&record)).await {
            Err(LedgerError::KeyDestroyed) => {
                let audit = auditor.draft(&record);
                (commit(ledger, tenant, vec![review], audit).await, false)
            }
            outcome => (outcome, true),
        };
        match outcome {
            Err(LedgerError::Conflict) if self.review(tenant, event, patient).await?.is_some() => {
                invalid("this access has been looked into already")
            }
            outcome => {
                outcome?;
                metrics::counter!("cairn_accesses_reviewed_total").increment(1);
                Ok(kept)
            }
        }
    }

    async fn looks_into(&self, permit: &Permit, event: Event) -> Result<(), TrustError> {
        if permit.action() == Action::Audit {
            return Ok(());
        }
        let reason =
            "accesses that nothing explains are looked into by privacy officers".to_owned();
        let mut record = Record::under(permit, event);
        record.outcome = Outcome::Refused;
        record.note = Some(&reason);
        self.inner.auditor.commit(&record).await?;
        Err(TrustError::Refused(Refusal {
            reason,
            because: Vec::new(),
        }))
    }

    /// An audit record that says that nothing explains the access to a patient's record, or that it couldn't be
    /// told.
    async fn relation_told(
        &self,
        tenant: TenantId,
        event: &str,
        patient: &str,
    ) -> Result<Option<(Resource, bool)>, TrustError> {
        if !fhir::is_id(event) || !fhir::is_id(patient) {
            return Ok(None);
        }
        let kind = tokens::kind(ResourceType::AuditEvent);
        let stored = self.inner.ledger.get(tenant, kind, event).await?;
        let Some(stored) = stored.filter(|stored| !stored.deleted) else {
            return Ok(None);
        };
        let found = parsed(&stored.id, &stored.body)?;
        let told = audit::relations(&found).find(|(one, _)| *one == patient);
        let unknown = told.map(|(_, told)| (told == NONE, told == UNKNOWN));
        Ok(match unknown {
            Some((true, _)) => Some((found, false)),
            Some((_, true)) => Some((found, true)),
            _ => None,
        })
    }

    /// The audit records of hits, each with its number; what can't be opened is an error.
    async fn events(
        &self,
        view: &View,
        tenant: TenantId,
        hits: &[ledger::Hit],
    ) -> Result<Vec<(Number, Resource)>, TrustError> {
        let mut events = Vec::with_capacity(hits.len());
        let mut opened = 0;
        while opened < hits.len() {
            for outcome in view.fetch_some(tenant, &hits[opened..]).await? {
                opened += 1;
                let Some(stored) = outcome?.filter(|stored| !stored.deleted) else {
                    continue;
                };
                if stored.kind == tokens::kind(ResourceType::AuditEvent) {
                    events.push((stored.at.number, parsed(&stored.id, &stored.body)?));
                }
            }
        }
        Ok(events)
    }

    /// The reviews of accesses that are in these records.
    async fn reviews(
        &self,
        view: &View,
        tenant: TenantId,
        events: &[(Number, Resource)],
    ) -> Result<HashMap<(String, String), ReviewDocument>, TrustError> {
        let (ledger, kind) = (&self.inner.ledger, kinds::ACCESS_REVIEW);
        let tokens = events.iter().filter_map(|(_, event)| event.id());
        let tokens = tokens.map(|id| Query::Token(ledger.token(tenant, kind, "event", id)));
        let query = Query::Or(tokens.collect());
        let mut reviews = HashMap::new();
        if events.is_empty() {
            return Ok(reviews);
        }
        let found: Vec<Kept<ReviewDocument>> =
            super::documents::find_in(view, tenant, kind, &query, (None, usize::MAX)).await?;
        for kept in found {
            let key = (kept.body.event.clone(), kept.body.patient.clone());
            reviews.insert(key, kept.body);
        }
        Ok(reviews)
    }

    async fn review(
        &self,
        tenant: TenantId,
        event: &str,
        patient: &str,
    ) -> Result<Option<AccessReview>, TrustError> {
        let ledger = &self.inner.ledger;
        let (id, _) = ids(ledger, tenant, event, patient);
        let found: Option<Kept<ReviewDocument>> =
            get(ledger, tenant, kinds::ACCESS_REVIEW, &id).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        Ok(Some(AccessReview {
            name: found.body.name,
            at_ms: found.body.at_ms,
            explained: found.body.explained,
            words: self.words(tenant, event, patient).await?,
        }))
    }

    /// The words of a review, while there are any.
    async fn words(
        &self,
        tenant: TenantId,
        event: &str,
        patient: &str,
    ) -> Result<Option<String>, TrustError> {
        let ledger = &self.inner.ledger;
        let (_, id) = ids(ledger, tenant, event, patient);
        let found: Option<Kept<WordsDocument>> =
            get(ledger, tenant, kinds::ACCESS_REVIEW_WORDS, &id).await?;
        Ok(found.map(|kept| kept.body.words))
    }
}

fn parsed(id: &str, body: &[u8]) -> Result<Resource, TrustError> {
    // The parser's own words may hold a patient's.
    Resource::parse(body)
        .map_err(|_| TrustError::Damaged(format!("an audit record is no resource (document {id})")))
}

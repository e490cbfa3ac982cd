//! Versions of all resources, newest first: the history of a type and of the whole record. The feeds say
//! what was written; each version is opened and looked at like the version of one resource.

use std::time::Duration;

use fhir::ResourceType;
use ledger::{Event as Fact, Hit, LedgerError, Number, Owner, Shard, Stored};

use super::search::{PAGE_BYTES_MAX, PAGE_PATIENTS_MAX};
use super::{Hidden, Sight, Vault, Versioned, redact, touched};
use crate::audit::{Event, Record};
use crate::policy::Group;
use crate::{Action, Permit, TrustError};

/// The most facts of the feeds that are passed for one page: a fraction of a second's work. Where a type
/// is rare, pages have few rows or none, and there is a next one.
const FACTS_MAX: usize = 50_000;
/// The most versions that are opened for one page.
const OPENED_MAX: usize = 4_000;
/// Facts asked for at a time.
const FACTS: usize = 64;
/// For how many looks it is waited that what was being written before the first is there.
const LOOKS_MAX: u32 = 400;
/// Between two of them.
const LOOK_APART: Duration = Duration::from_millis(25);

/// What part of the past is wanted.
#[derive(Debug, Clone)]
pub struct PastQuery {
    /// Of one type, or of all that the permit lets look at.
    pub kind: Option<ResourceType>,
    /// Written at this number or later.
    pub since: Number,
    /// What was current at some moment from the first number until before the second.
    pub during: Option<(Number, Number)>,
    /// Rows of a page.
    pub count: usize,
    /// The request in words, for the audit.
    pub words: String,
}

/// A version of the past.
#[derive(Debug, Clone)]
pub struct PastRow {
    /// The version.
    pub row: Versioned,
    /// Whether it made the resource, or made it anew after a deletion.
    pub made: bool,
    /// Whom it concerns; for a deletion, whom the version before it did.
    patients: Vec<String>,
}

/// A page of the past.
#[derive(Debug)]
pub struct PastRows {
    /// Newest first; fewer than were asked for where they are large or far between.
    pub rows: Vec<PastRow>,
    /// Behind which place the next page starts, if there is one.
    pub next: Option<Hit>,
}

/// Whose versions can be seen, as far as a fact tells.
struct Reach<'a> {
    permit: &'a Permit,
    query: &'a PastQuery,
    /// The shard of the one patient whose resources the permit is for.
    only: Option<Shard>,
}

impl Reach<'_> {
    fn has(&self, fact: &Fact) -> bool {
        let Some(kind) = ResourceType::from_code(fact.kind.0) else {
            return false;
        };
        let until = self.query.during.map(|(_, end)| end);
        self.query.kind.is_none_or(|only| only == kind)
            && self.permit.allows(Action::History, kind)
            && self.permit.scopes_allow(Action::Search, kind)
            && until.is_none_or(|end| fact.at.number < end)
            && self.only.is_none_or(|shard| {
                fact.at.shard == shard || self.permit.grants.group(kind) == Group::Directory
            })
    }
}

impl Vault {
    /// A page of the past, from the newest version on or behind the last of the page before: each row as
    /// [`Vault::read_version`] would show it, those that it would not show left out, audited as one list.
    /// What is written while pages are read lies in front of them, so they neither miss nor repeat any.
    ///
    /// # Errors
    /// `Refused` when the permit lets look at no history of the type; `NotYet` while something that was
    /// being written before does not end; `Ledger`, `Damaged`.
    pub async fn past(
        &self,
        permit: &Permit,
        query: &PastQuery,
        behind: Option<Hit>,
    ) -> Result<PastRows, TrustError> {
        match query.kind {
            Some(kind) => {
                self.require(permit, Action::History, kind).await?;
                // Many resources are found at once, as by a search.
                self.require_scope(permit, Action::Search, kind).await?;
            }
            None if permit.action() == Action::History => {}
            None => return Err(self.refuse(permit, Action::History, None, None).await),
        }
        let tenant = permit.tenant();
        let (view, mut place) = match behind {
            Some(behind) => (Sight::now(self.ledger().listing()?), behind),
            None => self.whole().await?,
        };
        let only = permit.only_patient().map(|patient| {
            let owner = Owner::Patient(patient.to_owned());
            self.ledger().shard_of(tenant, &owner, patient)
        });
        let reach = Reach {
            permit,
            query,
            only,
        };
        let mut hidden = Hidden::default();
        let mut page = PastRows {
            rows: Vec::new(),
            next: None,
        };
        let (mut passed, mut opened, mut bytes, mut patients) = (0, 0, 0, 0);
        'facts: loop {
            let limit = FACTS.max(query.count + 1 - page.rows.len());
            let wanted = |fact: &Fact| reach.has(fact);
            let facts = view
                .past(
                    tenant,
                    place,
                    query.since,
                    limit,
                    FACTS_MAX - passed,
                    wanted,
                )
                .await?;
            passed += facts.passed;
            let mut rest = facts.events.as_slice();
            while !rest.is_empty() {
                let some = view.fetch_past(tenant, rest).await?;
                let now = rest.get(..some.len()).unwrap_or(rest);
                rest = rest.get(some.len()..).unwrap_or_default();
                for (fact, past) in now.iter().zip(some) {
                    let past = match past {
                        // Nobody can read it any more.
                        Err(LedgerError::KeyDestroyed) => {
                            place = fact.at;
                            continue;
                        }
                        past => past?,
                    };
                    opened += 1;
                    let length = past.stored.body.len();
                    let followed = past.followed.map(|at| at.number);
                    let row = match was_current(query, &past.stored, followed) {
                        true => {
                            self.seen_past(&view, permit, past.stored, &mut hidden)
                                .await?
                        }
                        false => None,
                    };
                    if let Some(row) = row {
                        bytes += length;
                        patients += row.patients.len();
                        let fits = bytes <= PAGE_BYTES_MAX && patients <= PAGE_PATIENTS_MAX;
                        if page.rows.len() >= query.count || !fits && !page.rows.is_empty() {
                            page.next = Some(place);
                            break 'facts;
                        }
                        page.rows.push(row);
                    }
                    place = fact.at;
                    if opened >= OPENED_MAX {
                        page.next = Some(place);
                        break 'facts;
                    }
                }
                tokio::task::yield_now().await;
            }
            match facts.next {
                None => break,
                Some(next) => place = next,
            }
            if passed >= FACTS_MAX {
                page.next = Some(place);
                break;
            }
        }
        drop(view);
        let event = match query.kind {
            Some(_) => Event::HISTORY_OF_TYPE,
            None => Event::HISTORY_OF_ALL,
        };
        let mut record = Record::under(permit, event);
        record.patients.extend(permit.only_patient.clone());
        record.queries.push(query.words.clone());
        for PastRow { row, patients, .. } in &page.rows {
            record.touch(touched(row, patients.first().cloned()));
            record.patients.extend(patients.iter().cloned());
        }
        self.record(permit, record).await?;
        Ok(page)
    }

    /// The store at a moment up to which everything that was being written is there: numbers may become
    /// visible in another order than they rise, and a page that began above one would miss it for good.
    async fn whole(&self) -> Result<(Sight, Hit), TrustError> {
        let mut goal = None;
        for _ in 0..LOOKS_MAX {
            let view = self.ledger().listing()?;
            let (newest, whole) = view.settled().await?;
            if whole >= *goal.get_or_insert(newest) {
                let top = Hit {
                    number: Number(whole.0.saturating_add(1)),
                    shard: Shard(u16::MAX),
                };
                return Ok((Sight::now(view), top));
            }
            drop(view);
            tokio::time::sleep(LOOK_APART).await;
        }
        Err(TrustError::NotYet(
            "what was being written before the history was asked for is still under way; try again",
        ))
    }

    /// A version, if it may be seen.
    async fn seen_past(
        &self,
        view: &Sight,
        permit: &Permit,
        stored: Stored,
        hidden: &mut Hidden,
    ) -> Result<Option<PastRow>, TrustError> {
        let (kind, version, deleted) = (stored.kind, stored.version, stored.deleted);
        let id = stored.id.clone();
        let (mut row, patients, seen) = self
            .open_seen(view, permit, (Action::Search, stored), hidden)
            .await?;
        if !seen {
            return Ok(None);
        }
        redact(permit, &mut row.resource);
        self.show(permit, &mut row);
        let made = match (deleted, version) {
            (true, _) => false,
            (false, 1) => true,
            (false, _) => {
                let before = view
                    .version(permit.tenant(), kind, &id, version - 1)
                    .await?;
                before.is_none_or(|before| before.deleted)
            }
        };
        Ok(Some(PastRow {
            row,
            made,
            patients,
        }))
    }
}

/// Whether a version was current at some moment of those that are asked for, to the millisecond. A
/// deletion counts when it falls among them: after it there was nothing that could be current.
fn was_current(query: &PastQuery, stored: &Stored, followed: Option<Number>) -> bool {
    let Some((start, _)) = query.during else {
        return true;
    };
    stored.at.number >= start
        || !stored.deleted && followed.is_none_or(|followed| followed.unix_ms() > start.unix_ms())
}

//! Records are looked through for dates and segments by which a journey begins, when a version of it starts to take
//! patients: whoever was in the record before is taken in as well.
//!
//! It goes page by page, newest first, and writes down how far it is; whatever is written meanwhile is an event, and
//! planned by that. One server does it, the one that holds the shard of that document.

use super::begin::kinds_of as dated_kinds;
use super::segments::{Left, by_segment};
use super::{AT_WORK, CONFLICTS_MAX, Cause, Cure, Moment, TRIES, cure};
use crate::books::Books;
use crate::mover::{MoveError, Mover};
use crate::stages::Starting;
use crate::{JourneyError, Journeys};
use fhir::ResourceType;
use fhir::search::SearchQuery;
use ledger::{Expected, Kind, LedgerError, Number, Owner, Query, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use trust::{Internal, Permit, TrustError, Unit, Versioned};

/// Kind of the documents that say how far the records were looked through, one a journey.
pub(crate) const SCAN: Kind = Kind(1097);
/// How it is written. One of another format is another program's, and begun anew.
const FORMAT: u32 = 1;
/// Resources of one page; who reads or moves patients meanwhile waits for no more than one of them.
const PAGE: &str = "100";
/// As many, where they are read one by one.
const ROWS: usize = 100;
/// Between two pages: with it five hundred resources a second are looked at at most, of each journey.
const PAUSE: Duration = Duration::from_millis(200);
/// After a fault of the store.
const REST: Duration = Duration::from_secs(5);

/// How far the records were looked through for a journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    format: u32,
    journey: String,
    /// The versions that take patients, and which: another answer, and it begins anew.
    of: String,
    /// The types that are still to be gone through; the first is under way.
    kinds: Vec<String>,
    /// Below which number the next page is.
    before: Option<u64>,
    /// How many resources were looked at.
    looked: u64,
    /// How many of them could not be worked on.
    failed: u64,
    /// Since when those versions take patients; older documents don't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
}

/// What is looked at in one turn.
struct Page {
    rows: Vec<Versioned>,
    next: Option<Number>,
    /// How many could not be read.
    failed: usize,
}

impl Scan {
    fn new(journey: &str, starting: &Starting, since_ms: u64) -> Self {
        Self {
            format: FORMAT,
            journey: journey.to_owned(),
            of: of(starting),
            kinds: kinds_of(starting)
                .into_iter()
                .map(|kind| kind.name().to_owned())
                .collect(),
            before: None,
            looked: 0,
            failed: 0,
            since_ms: Some(since_ms),
        }
    }
}

/// The types of resources that are looked through: those that say dates, and patients for segments.
fn kinds_of(starting: &Starting) -> BTreeSet<ResourceType> {
    let mut kinds = dated_kinds(starting);
    kinds.extend(by_segment(starting).then_some(ResourceType::Patient));
    kinds
}

fn of(starting: &Starting) -> String {
    let live = starting.live.as_ref().map(|live| live.version);
    let staged = starting.staged.as_ref().map(|(staged, rollout)| {
        let (share, sites) = (rollout.share, rollout.sites.join(","));
        format!("{}/{share}/{sites}", staged.version)
    });
    format!("{live:?} {staged:?}")
}

impl Journeys {
    /// One page of each journey whose records are still to be looked through here. How long to wait before the next;
    /// nothing where none is.
    ///
    /// # Errors
    /// `Trust`, where the store fails: it goes on from where it is written down to be.
    pub(crate) async fn scan_turn(
        &self,
        tenant: TenantId,
    ) -> Result<Option<Duration>, JourneyError> {
        let books = self.books(tenant).await?;
        let permit = self.engine_permit(tenant).await?;
        self.hear(&books, &permit).await?;
        let dated = books.starting().into_iter();
        let dated: Vec<Starting> = dated.filter(|one| !kinds_of(one).is_empty()).collect();
        if dated.is_empty() {
            return Ok(None);
        }
        let (mut looked, mut fault) = (false, None);
        for starting in dated {
            match self.scan_page(&books, &permit, &starting).await {
                Ok(one) => looked |= one,
                // The other journeys go on.
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(looked.then_some(PAUSE)), Err)
    }

    /// Everything that there is to look through, without a pause; for tests and virtual time. Whether there was any.
    pub(super) async fn look_through_all(&self, tenant: TenantId) -> Result<bool, JourneyError> {
        let mut any = false;
        while self.scan_turn(tenant).await?.is_some() {
            any = true;
        }
        Ok(any)
    }

    /// Looks through records until `stop` turns true. It sleeps until a version takes patients, or a shard comes here.
    pub(crate) async fn look_through(
        &self,
        tenant: TenantId,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        while !*stop.borrow() {
            let journeys = self.clone();
            // In a task of its own, so that a fault in it doesn't end the following of the feed.
            let turn = tokio::spawn(async move { journeys.scan_turn(tenant).await }).await;
            let wait = match turn.unwrap_or_else(|_| Err(MoveError::Panicked.into())) {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "records are not looked through for dates; trying again");
                    Some(REST)
                }
            };
            let asleep = async {
                match (wait, self.open_books(tenant)) {
                    (Some(wait), _) => tokio::time::sleep(wait).await,
                    (None, Some(books)) => books.scans.notified().await,
                    (None, None) => tokio::time::sleep(REST).await,
                }
            };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() { return },
                () = asleep => {}
            }
        }
    }

    /// One page of a journey's records. Whether there was one to be looked at here.
    async fn scan_page(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        starting: &Starting,
    ) -> Result<bool, JourneyError> {
        let Some(name) = starting.versions().next().map(|one| one.name.clone()) else {
            return Ok(false);
        };
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        let id = ledger.derive_id(tenant, &Owner::Tenant, &format!("scan/{name}"));
        let shard = ledger.shard_of(tenant, &Owner::Tenant, &id);
        if !ledger.holds(shard) {
            return Ok(false);
        }
        // What was ahead when those versions began to take patients was ahead of the journey.
        let since_ms = books.starting_since(&name);
        let since_ms = since_ms.unwrap_or_else(|| self.now_ms());
        let stored = self.vault().internal(permit, SCAN, &id).await?;
        let expected = stored
            .as_ref()
            .map_or(Expected::Absent, |stored| Expected::Version(stored.version));
        let known: Option<Scan> =
            stored.and_then(|stored| serde_json::from_slice(&stored.body).ok());
        let mut scan = known
            .filter(|known| known.format == FORMAT && known.of == of(starting))
            .unwrap_or_else(|| Scan::new(&name, starting, since_ms));
        let since_ms = scan.since_ms.unwrap_or(since_ms);
        let Some(kind) = scan
            .kinds
            .first()
            .and_then(|kind| ResourceType::parse(kind))
        else {
            return Ok(false);
        };
        let parameters = [("_count".to_owned(), PAGE.to_owned())];
        let query = SearchQuery::parse(kind, &parameters, false).map_err(|outcome| {
            TrustError::Invalid(format!(
                "{kind} can't be looked through: {}",
                outcome.summary()
            ))
        })?;
        let page = self
            .vault()
            .load_search(permit, &query, scan.before.map(Number))
            .await
            .map_err(MoveError::from);
        let page = match page {
            Ok(page) => Page {
                rows: page.rows,
                next: page.next,
                failed: 0,
            },
            Err(error) if matches!(cure(&error), Cure::Bury | Cure::Skip) => {
                self.row_by_row(permit, kind, scan.before.map(Number))
                    .await?
            }
            Err(error) => return Err(error.into()),
        };
        let looked = page.rows.len() + page.failed;
        scan.failed += page.failed as u64;
        let mut looked_for = BTreeSet::new();
        for row in page.rows {
            let fact = &row.resource;
            let patient = match kind {
                ResourceType::Patient => fact.id(),
                _ => fact.patient(),
            };
            if let (Some(patient), Some(id)) = (patient, fact.id())
                && !self
                    .scan_one(
                        books,
                        permit,
                        starting,
                        patient,
                        // What is written later is ahead of nobody before that.
                        ((kind, id), since_ms.max(row.at.number.unix_ms())),
                        &mut looked_for,
                    )
                    .await?
            {
                scan.failed += 1;
            }
        }
        scan.looked += looked as u64;
        scan.before = page.next.map(|next| next.0);
        if page.next.is_none() {
            scan.kinds.remove(0);
        }
        let mut note = format!("{name}: looked through {looked} {kind} for dates and segments");
        if !looked_for.is_empty() {
            let kinds: Vec<&str> = looked_for.iter().map(|kind| kind.name()).collect();
            note.push_str(&format!("; looked for {}", kinds.join(", ")));
        }
        let unit = Unit {
            internals: vec![Internal {
                kind: SCAN,
                id,
                owner: Owner::Tenant,
                expected,
                body: serde_json::to_vec(&scan).unwrap_or_default(),
                deleted: false,
                tokens: Vec::new(),
            }],
            held: Some(shard),
            note: Some(note),
            ..Unit::default()
        };
        match self.vault().commit(permit, unit).await {
            // Of a conflict: another server has come here meanwhile, and goes on.
            Ok(_) | Err(TrustError::Ledger(LedgerError::Conflict | LedgerError::Fenced(_))) => {
                Ok(true)
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The same page row by row, where something of it can't be read: that keeps nobody else from being found.
    async fn row_by_row(
        &self,
        permit: &Permit,
        kind: ResourceType,
        before: Option<Number>,
    ) -> Result<Page, MoveError> {
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        let query = Query::Token(ledger.kind_token(tenant, Kind(kind.code())));
        let listing = ledger.listing().map_err(TrustError::from)?;
        let hits = listing.search(tenant, &query, before, None, ROWS).await;
        let hits = hits.map_err(TrustError::from)?;
        let last = hits.last().map(|hit| hit.number);
        let mut page = Page {
            rows: Vec::new(),
            next: last.filter(|_| hits.len() == ROWS),
            failed: 0,
        };
        for hit in hits {
            let row = self.vault().load_at(permit, hit).await;
            match row.map_err(MoveError::from) {
                // Tokens can collide.
                Ok(Some(row)) if row.resource.kind() == kind && !row.deleted => page.rows.push(row),
                Ok(_) => {}
                Err(error) => match cure(&error) {
                    Cure::Skip => {}
                    Cure::Bury => {
                        tracing::error!(shard = hit.shard.0, number = hit.number.0, %error, "a record that was looked at for dates can't be read");
                        metrics::counter!("journey_scan_failures_total").increment(1);
                        page.failed += 1;
                    }
                    Cure::Again | Cure::Wait => return Err(error),
                },
            }
        }
        Ok(page)
    }

    /// Plans one fact that was there before. Whether it could be worked on.
    async fn scan_one(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        starting: &Starting,
        patient: &str,
        (fact, learnt_ms): ((ResourceType, &str), u64),
        looked_for: &mut BTreeSet<ResourceType>,
    ) -> Result<bool, JourneyError> {
        let owner = Owner::Patient(patient.to_owned());
        let shard = self.vault().ledger().shard_of(permit.tenant(), &owner, "");
        let Some(turn) = books.positions.get(usize::from(shard.0)) else {
            return Ok(false);
        };
        // Whoever moves patients of a shard takes turns, so that the counts see moves in their order.
        let mut turn = turn.lock().await;
        // What was written before is known to whoever begins now.
        if self.vault().ledger().holds(shard) {
            self.read_feed(books, (shard, patient), &mut turn).await?;
        }
        let number = self.known_to(shard, &turn).await?;
        let _turn = AT_WORK.acquire().await;
        let looks = fact.0 == ResourceType::Patient && by_segment(starting);
        let (mut tries, mut conflicts, mut left) = (0, 0, Left::default());
        loop {
            let now_ms = self.now_ms();
            let moment = Moment {
                number,
                learnt_ms: learnt_ms.min(now_ms),
                now_ms,
                scanned: true,
            };
            let done = async {
                let (mut mover, mut letters) =
                    (Mover::new(self.vault(), permit, patient, now_ms), 0);
                if dated_kinds(starting).contains(&fact.0) {
                    self.plan_fact(&mut mover, starting, fact, moment).await?;
                }
                if looks {
                    let look = self.look_at(books, &mut mover, number, &mut left);
                    letters = Box::pin(look).await?;
                }
                looked_for.extend(mover.looked_for());
                let cause = Cause::default();
                self.commit(books, permit, mover, cause).await?;
                books.letters(letters);
                Ok(())
            };
            match done.await {
                Ok(()) => return Ok(true),
                Err(error) => match cure(&error) {
                    Cure::Again if conflicts < CONFLICTS_MAX => conflicts += 1,
                    Cure::Skip => return Ok(true),
                    Cure::Bury => {
                        tries += 1;
                        if tries < TRIES && !error.is_of_instance() {
                            continue;
                        }
                        let Err(error) = left.out(error) else {
                            tries = 0;
                            continue;
                        };
                        tracing::error!(%error, "a record can't be looked at for dates or segments; the journey that begins by them does not begin");
                        metrics::counter!("journey_scan_failures_total").increment(1);
                        if looks {
                            self.look_later(books, permit, patient).await?;
                        }
                        return Ok(false);
                    }
                    Cure::Again | Cure::Wait => return Err(error.into()),
                },
            }
        }
    }

    /// Has a patient looked at by a timer who can't be looked at now.
    async fn look_later(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        patient: &str,
    ) -> Result<(), JourneyError> {
        let marked = async {
            let mut mover = Mover::new(self.vault(), permit, patient, self.now_ms());
            mover.mark().await?;
            self.commit(books, permit, mover, Cause::default()).await
        };
        match marked.await {
            Ok(_) => Ok(()),
            // What says when to look at them can't be read either.
            Err(error) if matches!(cure(&error), Cure::Bury | Cure::Skip) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

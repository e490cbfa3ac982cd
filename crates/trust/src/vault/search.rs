//! Searching: blind hits, page by page, each checked on its opened body.
use std::fmt::Write as _;

use fhir::search::SearchQuery;
use ledger::Number;

use super::{Hidden, SearchPage, Vault, fetch_open, open, redact, touched};
use crate::audit::{Event, Record};
use crate::policy::Group;
use crate::{Permit, TrustError, tokens};

/// The most hits that one search checks. Checking opens bodies (about 20 µs each), so that this is
/// two seconds of work; a query that needs more has to be narrowed.
const CANDIDATES_MAX: usize = 100_000;
/// Hits asked for at a time.
const HITS_MIN: usize = 64;
const HITS_MAX: usize = 1024;

impl Vault {
    pub(super) async fn scan(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
        hidden: &mut Hidden,
    ) -> Result<SearchPage, TrustError> {
        self.scan_with(permit, query, before, hidden, true).await
    }

    /// The rows that a row-by-row check of everything would give, without checking everything.
    pub(super) async fn scan_with(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        before: Option<Number>,
        hidden: &mut Hidden,
        consent: bool,
    ) -> Result<SearchPage, TrustError> {
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        // Directory entries belong to no patient and are visible all the same.
        let narrowed = permit
            .only_patient()
            .filter(|_| permit.grants.group(query.kind) != Group::Directory);
        let plan = tokens::plan(ledger, tenant, query, narrowed);
        let mut page = SearchPage {
            rows: Vec::new(),
            next: None,
            total: query.total.then_some(0),
        };
        // A total counts from the top, whichever page is shown.
        let mut place = match (query.total, plan.before, before) {
            (true, top, _) => top,
            (false, Some(top), Some(before)) => Some(top.min(before)),
            (false, top, before) => top.or(before),
        };
        let mut candidates = 0;
        let mut more = false;
        let hits_wanted = if query.total {
            HITS_MAX
        } else {
            (query.count + 1).clamp(HITS_MIN, HITS_MAX)
        };
        'pages: loop {
            let hits = ledger
                .search(tenant, &plan.query, place, plan.since, hits_wanted)
                .await?;
            for hit in &hits {
                candidates += 1;
                if candidates > CANDIDATES_MAX {
                    return Err(TrustError::Invalid(format!(
                        "the search would have to look at more than {CANDIDATES_MAX} resources; narrow it"
                    )));
                }
                if !tokens::last_updated_matches(query, hit.number) {
                    continue;
                }
                let Some(stored) = fetch_open(ledger, tenant, *hit).await? else {
                    continue;
                };
                if stored.kind != tokens::kind(query.kind) || stored.deleted {
                    continue;
                }
                let mut row = open(&stored)?;
                if !permit.covers(&row.resource) {
                    continue;
                }
                // What isn't shown must not be found by either, or it could be found out by asking.
                redact(permit, &mut row.resource);
                if !query.matches(&row.resource)
                    || (consent && self.hides(permit, &row.resource, hidden).await?)
                {
                    continue;
                }
                if let Some(total) = &mut page.total {
                    *total += 1;
                }
                let on_page = before.is_none_or(|before| hit.number < before);
                if !on_page {
                    continue;
                }
                if page.rows.len() < query.count {
                    page.rows.push(row);
                } else {
                    more = true;
                    if !query.total {
                        break 'pages;
                    }
                }
            }
            match hits.last() {
                Some(last) if hits.len() == hits_wanted => place = Some(last.number),
                _ => break,
            }
        }
        if more {
            page.next = page.rows.last().map(|row| row.at.number);
        }
        Ok(page)
    }

    /// Audits the pages of one request as one leaf, then gives them out.
    pub(super) async fn record_pages(
        &self,
        permit: &Permit,
        queries: &[&SearchQuery],
        pages: Vec<SearchPage>,
    ) -> Result<Vec<SearchPage>, TrustError> {
        let mut record = Record::under(permit, Event::SEARCH);
        // A search within a patient's compartment is a look at the patient even if it finds nothing.
        record.patients.extend(permit.only_patient.clone());
        record.queries = queries.iter().map(|query| in_words(query)).collect();
        for row in pages.iter().flat_map(|page| &page.rows) {
            let patient = (row.resource.kind() != fhir::ResourceType::AuditEvent)
                .then(|| row.resource.patient().map(str::to_owned))
                .flatten();
            record.touch(touched(row, patient));
        }
        self.record(permit, record).await?;
        Ok(pages)
    }
}

/// The query as in a URL.
fn in_words(query: &SearchQuery) -> String {
    let mut text = query.kind.name().to_owned();
    for (position, (name, value)) in query.used.iter().enumerate() {
        let mark = if position == 0 { '?' } else { '&' };
        let _ = write!(text, "{mark}{name}={value}");
    }
    text
}

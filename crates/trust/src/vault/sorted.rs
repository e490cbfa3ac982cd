//! Searches in another order than newest first. What the order goes by is in the sealed bodies, so all
//! matches are opened, of which the first of a page are kept. A page begins behind the last row of the
//! page before as that row was then: its version is there whatever has become of the resource.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use fhir::search::{SearchQuery, SortValue};
use ledger::{Hit, LedgerError, Number, Stored};

use super::search::{
    CANDIDATES_MAX, PAGE_BYTES_MAX, PAGE_PATIENTS_MAX, TEXTS_MAX, too_many_candidates,
};
use super::{Ahead, Form, Hidden, PageAt, SearchPage, Sight, Vault, Versioned, open, redact};
use crate::{Action, Permit, TrustError, tokens};

/// The most matches that are sorted for a page: opening them is less than half a second's work.
pub(super) const SORTED_MAX: usize = 10_000;
/// Rows that are looked at at a time.
pub(super) const AT_A_TIME: usize = if cfg!(test) { 16 } else { 256 };

/// Where a page of a sorted search lies that is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortedAt {
    /// The last row of the page before.
    pub last: Hit,
    /// [`SearchPage::as_of`] of the first page.
    pub first: Number,
}

/// A row with its place in the order.
pub(super) struct Ranked<'a> {
    query: &'a SearchQuery,
    values: Vec<Option<SortValue>>,
    at: Hit,
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.query.compare(&self.values, &other.values);
        order.then(other.at.number.cmp(&self.at.number))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

/// The query of a row's type: what it is ordered by has a definition for each type.
fn of_kind<'q>(queries: &'q [SearchQuery], row: &Versioned) -> Option<&'q SearchQuery> {
    let mut queries = queries.iter();
    queries.find(|query| query.kind == row.resource.kind())
}

impl Vault {
    /// As [`Vault::search_at`], in the order of the query's `_sort`.
    ///
    /// # Errors
    /// As [`Vault::search`]; `TooCostly` also when more than 10,000 resources match; `Invalid` when the
    /// page before can't be read any more.
    pub async fn search_sorted(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        at: Option<SortedAt>,
    ) -> Result<SearchPage, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        let mut hidden = Hidden::default();
        let queries = std::slice::from_ref(query);
        let view = self.listing_of(permit, queries, at.is_none())?;
        let mut page = self
            .sorted_page(&view, permit, queries, at, &mut hidden)
            .await?;
        self.include(&view, permit, query, &mut page, &mut hidden)
            .await?;
        drop(view);
        let mut pages = self.record_pages(permit, &[query], vec![page]).await?;
        pages
            .pop()
            .ok_or_else(|| TrustError::Damaged("a page was lost".to_owned()))
    }

    /// One page of queries of several types, in the order of the first.
    pub(super) async fn sorted_page(
        &self,
        view: &Sight,
        permit: &Permit,
        queries: &[SearchQuery],
        at: Option<SortedAt>,
        hidden: &mut Hidden,
    ) -> Result<SearchPage, TrustError> {
        let Some(query) = queries.first() else {
            return Err(TrustError::Invalid("nothing is searched".to_owned()));
        };
        let (asked, newest) = self.linked_all(view, permit, queries, hidden).await?;
        let behind = match at {
            Some(at) => Some(self.behind(view, permit, queries, at.last).await?),
            None => None,
        };
        let mut page = self
            .in_order(view, permit, (query, &asked), behind, hidden)
            .await?;
        if let Some(at) = at {
            let place = PageAt {
                before: at.last.number,
                first: at.first,
            };
            page.moved =
                newest > at.first || self.has_moved(view, permit, &asked, place, hidden).await?;
        }
        Ok(page)
    }

    /// The last row of the page before, as it was.
    async fn behind<'q>(
        &self,
        view: &Sight,
        permit: &Permit,
        queries: &'q [SearchQuery],
        last: Hit,
    ) -> Result<Ranked<'q>, TrustError> {
        // Not as a hit is opened, which gives newest versions only.
        let stored = match view.fetch(permit.tenant(), last).await {
            Err(LedgerError::KeyDestroyed) => None,
            other => other?,
        };
        let is_of = |stored: &Stored, query: &SearchQuery| stored.kind == tokens::kind(query.kind);
        let stored = stored.filter(|stored| {
            queries.iter().any(|query| is_of(stored, query)) && stored.at == last && !stored.deleted
        });
        let gone = || {
            let words = "the page before can't be read any more; start again with the first";
            TrustError::Invalid(words.to_owned())
        };
        let mut row = open(&stored.ok_or_else(gone)?)?;
        if !permit.covers(Action::Search, &row.resource) {
            return Err(gone());
        }
        redact(permit, &mut row.resource);
        let query = queries.first().ok_or_else(gone)?;
        let own = of_kind(queries, &row).ok_or_else(gone)?;
        Ok(Ranked {
            query,
            values: own.sort_values(&row.resource, last.number.0),
            at: last,
        })
    }

    /// The first rows behind a place, of all that match `asked`.
    pub(super) async fn in_order(
        &self,
        view: &Sight,
        permit: &Permit,
        (query, asked): (&SearchQuery, &[SearchQuery]),
        behind: Option<Ranked<'_>>,
        hidden: &mut Hidden,
    ) -> Result<SearchPage, TrustError> {
        let each = asked.iter().map(|asked| SearchQuery {
            sort: Vec::new(),
            count: AT_A_TIME,
            total: false,
            ..asked.clone()
        });
        let all: Vec<SearchQuery> = each.collect();
        // The last of the page is on top, and gives way to what comes before it.
        let mut kept: BinaryHeap<Ranked<'_>> = BinaryHeap::with_capacity(query.count + 2);
        let (mut total, mut more, mut candidates) = (0, false, 0);
        let reads_texts = all.iter().any(SearchQuery::reads_texts);
        let mut before = None;
        let mut page = loop {
            let mut found = self
                .scan_all(
                    view,
                    permit,
                    &all,
                    (before, Form::Whole),
                    Some(&mut *hidden),
                )
                .await?;
            total += found.rows.len();
            before = found.next;
            // The one that showed that there are more is looked at again.
            candidates += found.candidates - usize::from(before.is_some());
            if reads_texts && candidates > TEXTS_MAX {
                return Err(too_many_candidates(TEXTS_MAX));
            }
            if total > SORTED_MAX || (before.is_some() && candidates > CANDIDATES_MAX) {
                return Err(TrustError::TooCostly(format!(
                    "more than {SORTED_MAX} resources match, or too many have to be looked at, to be sorted; narrow the search, or take it newest first without _sort"
                )));
            }
            for row in found.rows.drain(..) {
                let own = of_kind(asked, &row).unwrap_or(query);
                let ranked = Ranked {
                    query,
                    values: own.sort_values(&row.resource, row.at.number.0),
                    at: row.at,
                };
                if behind.as_ref().is_some_and(|behind| ranked <= *behind) {
                    continue;
                }
                kept.push(ranked);
                if kept.len() > query.count {
                    kept.pop();
                    more = true;
                }
            }
            if before.is_none() {
                break found;
            }
        };
        page.total = query.total.then_some(total);
        page.candidates = candidates;
        page.bytes = 0;
        let mut patients = 0;
        let kept = kept.into_sorted_vec();
        let hits: Vec<Hit> = kept.iter().map(|ranked| ranked.at).collect();
        let mut ahead = Ahead::default();
        for position in 0..hits.len() {
            // They were seen to match in this view just now.
            let stored = ahead
                .first_of(view, permit.tenant(), &hits[position..])
                .await?;
            let Some(stored) = stored else {
                continue;
            };
            let mut row = open(&stored)?;
            redact(permit, &mut row.resource);
            let bytes = page.bytes + stored.body.len();
            let named = patients + row.resource.patients().len();
            let fits = bytes <= PAGE_BYTES_MAX && named <= PAGE_PATIENTS_MAX;
            if !fits && !page.rows.is_empty() {
                more = true;
                break;
            }
            (page.bytes, patients) = (bytes, named);
            page.rows.push(row);
        }
        page.next = page.rows.last().filter(|_| more).map(|row| row.at.number);
        page.as_of = if more {
            view.as_of().await?
        } else {
            Number::default()
        };
        Ok(page)
    }
}

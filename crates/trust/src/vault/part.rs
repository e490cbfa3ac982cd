//! Lists of which a person is shown a part: all rows are gone through, to be put in order and counted, and those
//! that are shown stand in the audit.

use std::sync::Arc;

use fhir::ResourceType;
use fhir::search::SearchQuery;

use super::consents::Hidden;
use super::search::{CANDIDATES_MAX, too_many_candidates};
use super::shelf::{Shelf, Shelved};
use super::{Ahead, Sight, Vault, Versioned};
use crate::{Action, Permit, TrustError, tokens};

/// Hits looked for at a time.
const HITS_MIN: usize = 16;
const HITS_MAX: usize = 1024;
/// Rows decided about before other tasks get their turn: about a millisecond.
const ROWS_A_TURN: usize = 256;

/// What was made of all of a list, of which a part is shown.
#[derive(Debug)]
pub struct SearchPart<R> {
    /// What was made of all rows that were gone through.
    pub whole: R,
    /// Whether there are more than were gone through.
    pub incomplete: bool,
}

/// Whether a query is answered newest first by the content of the rows themselves, and nothing more is asked of it.
pub(super) fn is_plain(query: &SearchQuery) -> bool {
    query.sort.is_empty()
        && query.includes.is_empty()
        && !query.total
        && !query.has_links()
        && !query.depends_on_now()
        && !query.needs_codes()
        && !query.reads_texts()
        && !query.asks_owns()
}

impl Vault {
    /// Goes through the rows of a query that the permit and patients' consents let be seen, newest first, `most` at
    /// most, all of one moment. `choose` gets them with what the shelf makes of them, and says which are shown, by their places,
    /// and what is told: of those that are shown what is to be shown, and of all no more than how many there are and
    /// by which words the list can be narrowed. Audited as one leaf that lists the rows that are shown, and says how
    /// many were gone through.
    ///
    /// # Errors
    /// As [`Vault::search`]; `Invalid` where the query is not one that is answered newest first by the rows' own
    /// content.
    pub async fn search_part<T: Send + Sync + 'static, R>(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        most: usize,
        shelf: &Shelf<T>,
        choose: impl FnOnce(&[Arc<Shelved<T>>]) -> (Vec<usize>, R) + Send,
    ) -> Result<SearchPart<R>, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        if !is_plain(query) {
            let words = "what a list is chosen from is asked for by the rows' own content";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        let (rows, incomplete) = self.go_through(permit, query, most, shelf).await?;
        let (places, whole) = choose(&rows);
        let shown: Vec<&Versioned> = (places.iter())
            .filter_map(|place| Some(&rows.get(*place)?.row))
            .collect();
        let note = format!("{} of {} rows shown", shown.len(), rows.len());
        self.record_rows(permit, &[query], &shown, Some(&note))
            .await?;
        Ok(SearchPart { whole, incomplete })
    }

    /// All rows of several searches, as many of each as it asks for, of a shelf.
    /// Audited as one leaf that lists them.
    ///
    /// # Errors
    /// As [`Vault::search_part`].
    pub async fn search_shelved<T: Send + Sync + 'static>(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        shelf: &Shelf<T>,
    ) -> Result<Vec<Arc<Shelved<T>>>, TrustError> {
        let mut rows = Vec::new();
        for query in queries {
            self.require(permit, Action::Search, query.kind).await?;
            if !is_plain(query) {
                let words = "what is kept opened is asked for by the rows' own content";
                return Err(TrustError::Invalid(words.to_owned()));
            }
            let (mut found, _) = self.go_through(permit, query, query.count, shelf).await?;
            rows.append(&mut found);
        }
        let shown: Vec<&Versioned> = rows.iter().map(|row| &row.row).collect();
        let queries: Vec<&SearchQuery> = queries.iter().collect();
        self.record_rows(permit, &queries, &shown, None).await?;
        Ok(rows)
    }

    /// Rows that may be seen, `most` at most, and whether there are more.
    async fn go_through<T: Send + Sync + 'static>(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        most: usize,
        shelf: &Shelf<T>,
    ) -> Result<(Vec<Arc<Shelved<T>>>, bool), TrustError> {
        let queries = std::slice::from_ref(query);
        self.require_shown(permit, queries).await?;
        let tenant = permit.tenant();
        let view = self.listing_of(permit, queries, true)?;
        let plan = self.plan(permit, query);
        shelf.begin();
        let mut hidden = Hidden::default();
        let mut rows = Vec::new();
        let mut place = plan.before;
        let mut looked_at = 0;
        // Of what is shown in part, the part is made for each permit.
        let in_part =
            permit.in_part(query.kind).is_some() || query.kind == ResourceType::AuditEvent;
        loop {
            let wanted = (most + 1).saturating_sub(rows.len());
            let wanted = wanted.clamp(HITS_MIN, HITS_MAX);
            let hits = view
                .search(tenant, &plan.query, place, plan.since, wanted)
                .await?;
            looked_at += hits.len();
            if looked_at > CANDIDATES_MAX {
                return Err(too_many_candidates(CANDIDATES_MAX));
            }
            let mut kept = Vec::new();
            if !in_part {
                kept = self.shelved(&view, tenant, shelf, &hits).await?;
            }
            if self.asks_consents(permit, query.kind) {
                let rows = kept.iter().flatten();
                let patients = rows.flat_map(|row| row.row.resource.patients()).collect();
                self.access_ahead(view.rules(), permit, &patients, &mut hidden)
                    .await?;
            }
            let mut ahead = Ahead::default();
            for number in 0..hits.len() {
                if number.is_multiple_of(ROWS_A_TURN) {
                    tokio::task::yield_now().await;
                }
                let row = if in_part {
                    let stored = ahead.first_of(&view, tenant, &hits[number..]).await?;
                    let seen = self
                        .seen(&view, permit, (queries, None), stored, Some(&mut hidden))
                        .await?;
                    seen.map(|(row, _)| shelf.made(row))
                } else {
                    match kept.get_mut(number).and_then(Option::take) {
                        Some(row)
                            if self
                                .sees(&view, permit, query, &row.row, &mut hidden)
                                .await? =>
                        {
                            Some(row)
                        }
                        _ => None,
                    }
                };
                let Some(row) = row else { continue };
                if rows.len() == most {
                    return Ok((rows, true));
                }
                rows.push(row);
            }
            match hits.last() {
                Some(last) if hits.len() == wanted => place = Some(last.number),
                _ => return Ok((rows, false)),
            }
        }
    }

    /// Whether a live row matches a query and may be seen by a permit that shows the whole of it.
    async fn sees(
        &self,
        view: &Sight,
        permit: &Permit,
        query: &SearchQuery,
        row: &Versioned,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let resource = &row.resource;
        Ok(resource.kind() == query.kind
            && tokens::last_updated_matches(query, row.at.number)
            && permit.covers(Action::Search, resource)
            && query.matches(resource)
            && !self.hides(view, permit, resource, hidden).await?)
    }
}

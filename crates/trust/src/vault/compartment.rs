//! Rows of several types under one audit leaf: a patient's compartment, page by page, and a choice
//! among all that a search finds.
use fhir::ResourceType;
use fhir::search::SearchQuery;
use ledger::Number;

use super::{Hidden, PageAt, Sight, Vault, Versioned, search::PAGE_BYTES_MAX};
use crate::{Action, Permit, TrustError};

/// The most rows that a choice is made among: they are held in memory.
const CHOICE_MAX: usize = 10_000;

/// A page that goes through several searches, one after the other.
#[derive(Debug)]
pub struct SeriesPage {
    /// Rows that match and may be seen; of each search newest first.
    pub rows: Vec<Versioned>,
    /// What the rows refer to, of the types that were asked for; each once a page.
    pub referred: Vec<Versioned>,
    /// Where the next page starts: the search's place in the series, and where in it.
    pub next: Option<(usize, PageAt)>,
    /// Whether rows of the search that the page begins in were changed since that search began.
    pub moved: bool,
}

impl Vault {
    /// One page of a series of searches, each checked row by row as in [`Vault::search_at`], all of it
    /// from one view and under one audit leaf, with what the rows refer to of some types. Searches for types that the permit does not let be
    /// searched find nothing.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn series(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        at: Option<(usize, PageAt)>,
        count: usize,
        referred: &[ResourceType],
    ) -> Result<SeriesPage, TrustError> {
        self.require_shown(permit, queries).await?;
        let mut hidden = Hidden::default();
        let view = Sight::now(self.ledger().listing()?);
        let (begin, mut place) = match at {
            Some((begin, place)) => (begin, Some(place)),
            None => (0, None),
        };
        let (mut shown, mut asked) = (Vec::new(), Vec::new());
        let (mut rows, mut bytes) = (0, 0);
        let (mut next, mut moved) = (None, false);
        for (position, query) in queries.iter().enumerate().skip(begin) {
            let from = place.take();
            if !permit.allows(Action::Search, query.kind) {
                continue;
            }
            let full = rows >= count || bytes >= PAGE_BYTES_MAX;
            let wanted = SearchQuery {
                // One more is looked for when the page is full, to know whether there is a next one.
                count: if full { 1 } else { count - rows },
                total: false,
                ..query.clone()
            };
            let before = from.map(|from| from.before);
            let mut page = self
                .scan(&view, permit, &wanted, before, Some(&mut hidden))
                .await?;
            if full {
                if page.rows.is_empty() {
                    continue;
                }
                let top = PageAt {
                    before: Number(u64::MAX),
                    first: view.as_of().await?,
                };
                next = Some((position, top));
                break;
            }
            // A search that begins with this page has shown nothing yet.
            let from = from.filter(|from| from.before.0 < u64::MAX);
            if let Some(from) = from {
                moved = self
                    .has_moved(
                        &view,
                        permit,
                        std::slice::from_ref(query),
                        from,
                        &mut hidden,
                    )
                    .await?;
            }
            rows += page.rows.len();
            bytes += page.bytes;
            if let Some(before) = page.next.take() {
                let first = from.map_or(page.as_of, |from| from.first);
                next = Some((position, PageAt { before, first }));
            }
            asked.push(query);
            shown.push(page);
            if next.is_some() {
                break;
            }
        }
        let mut rows: Vec<Versioned> = Vec::new();
        for page in &mut shown {
            rows.append(&mut page.rows);
        }
        // Where nothing may be searched, it is told what was asked for all the same.
        if asked.is_empty() {
            asked.extend(queries);
        }
        let referred = self
            .referred(&view, permit, &rows, referred, &mut hidden)
            .await?;
        drop(view);
        // One audit leaf for all of it.
        if let Some(last) = shown.last_mut() {
            last.rows = rows;
            last.included = referred;
        }
        let last = self.record_pages(permit, &asked, shown).await?.pop();
        let (rows, referred) =
            last.map_or_else(Default::default, |last| (last.rows, last.included));
        Ok(SeriesPage {
            rows,
            referred,
            next,
            moved,
        })
    }

    /// All rows that a search finds, of which `choose` keeps some; those that are kept are audited as
    /// seen. A choice tells something of the others too, so the audit has the search.
    ///
    /// # Errors
    /// As [`Vault::search`]; `TooCostly` when there are more than 10,000 to choose among.
    pub async fn choose(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        choose: impl FnOnce(Vec<Versioned>) -> Vec<Versioned> + Send + 'static,
    ) -> Result<Vec<Versioned>, TrustError> {
        self.choose_among(permit, query, CHOICE_MAX, choose).await
    }

    /// The same among `most` rows, at most 10,000.
    ///
    /// # Errors
    /// As [`Vault::choose`]; `TooCostly` when there are more than `most` to choose among.
    pub async fn choose_among(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        most: usize,
        choose: impl FnOnce(Vec<Versioned>) -> Vec<Versioned> + Send + 'static,
    ) -> Result<Vec<Versioned>, TrustError> {
        let most = most.min(CHOICE_MAX);
        self.require(permit, Action::Search, query.kind).await?;
        let mut hidden = Hidden::default();
        let view = Sight::now(self.ledger().view()?);
        let asked = self.linked(&view, permit, query, Some(&mut hidden)).await?;
        let wanted = SearchQuery {
            count: most,
            total: false,
            ..asked.query.into_owned()
        };
        let mut rows = Vec::new();
        let mut before = None;
        let mut page = loop {
            let mut page = self
                .scan(&view, permit, &wanted, before, Some(&mut hidden))
                .await?;
            rows.append(&mut page.rows);
            if rows.len() > most || rows.len() == most && page.next.is_some() {
                return Err(TrustError::TooCostly(format!(
                    "there are more than {most} resources to choose among; narrow the search"
                )));
            }
            before = page.next;
            if before.is_none() {
                break page;
            }
        };
        drop(view);
        // Choosing among thousands would keep others waiting.
        let chosen = tokio::task::spawn_blocking(move || choose(rows)).await;
        page.rows = chosen.map_err(|error| {
            TrustError::Damaged(format!("choosing among what was found failed: {error}"))
        })?;
        let pages = self.record_pages(permit, &[query], vec![page]).await?;
        Ok(pages.into_iter().flat_map(|page| page.rows).collect())
    }
}

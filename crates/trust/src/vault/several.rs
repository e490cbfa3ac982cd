//! Searches of several types at once, and of compartments: one list in one order, found by one query of
//! the store, each hit checked by the query of its type.
use fhir::search::SearchQuery;

use super::{Form, Hidden, PageAt, SearchPage, SortedAt, Vault};
use crate::{Action, Permit, TrustError};

impl Vault {
    /// As [`Vault::search_at`], of several types, each with its query. Types that were `named` have to be
    /// allowed; of others, those that the permit doesn't let be searched have nothing to show, as rows
    /// have that it doesn't cover.
    ///
    /// # Errors
    /// As [`Vault::search`].
    pub async fn search_types(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        named: bool,
        at: Option<PageAt>,
    ) -> Result<SearchPage, TrustError> {
        let asked = self.allowed_types(permit, queries, named).await?;
        let mut hidden = Hidden::default();
        let view = self.listing_of(permit, &asked, at.is_none())?;
        let (linked, newest) = self.linked_all(&view, permit, &asked, &mut hidden).await?;
        let before = at.map(|at| at.before);
        let mut page = self
            .scan_all(
                &view,
                permit,
                &linked,
                (before, Form::Whole),
                Some(&mut hidden),
            )
            .await?;
        if let Some(at) = at {
            page.moved = newest > at.first
                || self
                    .has_moved(&view, permit, &linked, at, &mut hidden)
                    .await?;
        }
        self.include(&view, permit, &asked[0], &mut page, &mut hidden)
            .await?;
        drop(view);
        self.shown(permit, &asked, page).await
    }

    /// The same in the order of the queries' `_sort`.
    ///
    /// # Errors
    /// As [`Vault::search_sorted`].
    pub async fn search_types_sorted(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        named: bool,
        at: Option<SortedAt>,
    ) -> Result<SearchPage, TrustError> {
        let asked = self.allowed_types(permit, queries, named).await?;
        let mut hidden = Hidden::default();
        let view = self.listing_of(permit, &asked, at.is_none())?;
        let mut page = self
            .sorted_page(&view, permit, &asked, at, &mut hidden)
            .await?;
        self.include(&view, permit, &asked[0], &mut page, &mut hidden)
            .await?;
        drop(view);
        self.shown(permit, &asked, page).await
    }

    /// The queries of the types that may be searched; at least one.
    async fn allowed_types(
        &self,
        permit: &Permit,
        queries: &[SearchQuery],
        named: bool,
    ) -> Result<Vec<SearchQuery>, TrustError> {
        let allowed = |query: &&SearchQuery| permit.allows(Action::Search, query.kind);
        let asked: Vec<SearchQuery> = queries.iter().filter(allowed).cloned().collect();
        if named || asked.is_empty() {
            for query in queries {
                self.require(permit, Action::Search, query.kind).await?;
            }
        }
        if asked.is_empty() {
            return Err(TrustError::Invalid("nothing is searched".to_owned()));
        }
        Ok(asked)
    }

    /// Audits a page as one search, however many types it is of.
    async fn shown(
        &self,
        permit: &Permit,
        asked: &[SearchQuery],
        page: SearchPage,
    ) -> Result<SearchPage, TrustError> {
        let mut pages = self.record_pages(permit, &[&asked[0]], vec![page]).await?;
        pages
            .pop()
            .ok_or_else(|| TrustError::Damaged("a page was lost".to_owned()))
    }
}

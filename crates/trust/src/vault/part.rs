//! Lists of which a person is shown a part: all rows are gone through, to be put in order and counted, and those
//! that are shown stand in the audit.

use fhir::search::SearchQuery;

use super::consents::Hidden;
use super::{Vault, Versioned};
use crate::{Action, Permit, TrustError};

/// A part of a list, and what was made of all of it.
#[derive(Debug)]
pub struct SearchPart<T> {
    /// The rows that are shown, in the order in which they were chosen.
    pub rows: Vec<Versioned>,
    /// What was made of all rows that were gone through.
    pub whole: T,
    /// Whether there are more than were gone through.
    pub incomplete: bool,
}

impl Vault {
    /// Goes through the rows of a query that the permit and patients' consents let be seen, newest first, until there
    /// are `most` or a few more, all of one moment. `choose` gets them, and says which are shown, by their places, and
    /// what is told of all of them, which must be no more than how many there are and by which words the list can be
    /// narrowed. Audited as one leaf that lists the rows that are shown, and says how many were gone through.
    ///
    /// # Errors
    /// As [`Vault::search`]; `Invalid` where the query includes other resources.
    pub async fn search_part<T>(
        &self,
        permit: &Permit,
        query: &SearchQuery,
        most: usize,
        choose: impl FnOnce(&[Versioned]) -> (Vec<usize>, T) + Send,
    ) -> Result<SearchPart<T>, TrustError> {
        self.require(permit, Action::Search, query.kind).await?;
        if !query.includes.is_empty() {
            let words = "what a list includes can't be chosen from";
            return Err(TrustError::Invalid(words.to_owned()));
        }
        let mut hidden = Hidden::default();
        let view = self.listing_of(permit, std::slice::from_ref(query), true)?;
        let asked = self.linked(&view, permit, query, Some(&mut hidden)).await?;
        let mut before = None;
        let mut rows = Vec::new();
        let mut page = loop {
            let mut page = self
                .scan(&view, permit, &asked.query, before, Some(&mut hidden))
                .await?;
            rows.append(&mut page.rows);
            before = page.next;
            if before.is_none() || rows.len() >= most {
                break page;
            }
        };
        drop(view);
        let (places, whole) = choose(&rows);
        let all = rows.len();
        let mut rows: Vec<Option<Versioned>> = rows.into_iter().map(Some).collect();
        page.rows = (places.into_iter())
            .filter_map(|place| rows.get_mut(place)?.take())
            .collect();
        let incomplete = page.next.is_some();
        let note = format!("{} of {all} rows shown", page.rows.len());
        let pages = self
            .record_noted(permit, &[query], vec![page], Some(&note))
            .await?;
        Ok(SearchPart {
            rows: pages.into_iter().flat_map(|page| page.rows).collect(),
            whole,
            incomplete,
        })
    }
}

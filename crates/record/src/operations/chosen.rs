//! Rows that a service over the record chooses out of a search, for operations that are defined elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fhir::search::SearchQuery;
use fhir::{IssueCode, ResourceType};
use trust::{Action, Versioned};

use crate::write::wrap;
use crate::{Caller, Record, RecordError};

/// How much a choice may take.
#[derive(Debug, Clone, Copy)]
pub struct Among {
    /// The most rows to choose among, at most 10,000.
    pub rows_max: usize,
    /// The longest that choosing takes, in milliseconds.
    pub time_max_ms: u64,
}

impl Record {
    /// Searches a type and shows what `choose` takes of the rows that the caller may see, in the order that it puts
    /// them in. It is given whether its time is over, and then chooses nothing. Audited as one search whose rows are
    /// those that are shown.
    ///
    /// # Errors
    /// 400, 403, 422 (too costly) where there is more to choose among or it takes longer than `among` allows, 500.
    pub async fn choose(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
        among: Among,
        choose: impl FnOnce(Vec<Versioned>, &dyn Fn() -> bool) -> Option<Vec<Versioned>>
        + Send
        + 'static,
    ) -> Result<Vec<Versioned>, RecordError> {
        let owns = self.vault().owns(caller.agent.tenant);
        let mut query = SearchQuery::parse_with(kind, parameters, false, &owns)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        query.at(self.now_ms());
        query.of_server(&caller.base);
        let permit = self
            .permit(caller, Action::Search, Some(kind), None)
            .await?;
        let ledger = self.vault().ledger().clone();
        let is_late = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&is_late);
        let in_time = move |rows| {
            let end_ms = ledger.clock().now_ms().saturating_add(among.time_max_ms);
            let chosen = choose(rows, &|| ledger.clock().now_ms() > end_ms);
            late.store(chosen.is_none(), Ordering::Relaxed);
            chosen.unwrap_or_default()
        };
        let rows = self
            .vault()
            .choose_among(&permit, &query, among.rows_max, in_time)
            .await
            .map_err(wrap(caller))?;
        if is_late.load(Ordering::Relaxed) {
            let words = format!(
                "choosing among what was found takes longer than {} ms; say less, or less of each",
                among.time_max_ms
            );
            return Err(RecordError::new(422, IssueCode::TooCostly, words));
        }
        Ok(rows)
    }
}

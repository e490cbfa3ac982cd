//! Search of one type, and the cursor of its pages.
use fhir::search::SearchQuery;
use fhir::{Issue, IssueCode, OperationOutcome, ResourceType, Severity};
use ledger::{Kind, Number, TenantId};
use trust::Action;

use crate::render::BundleWriter;
use crate::write::{check_kept, heavy, wrap};
use crate::{Answer, Caller, Record, RecordError, url};

pub(crate) fn bad_cursor() -> RecordError {
    let words = "was not made by this server for this request; start again without it";
    RecordError::with(
        400,
        OperationOutcome::at(IssueCode::Value, words, "_cursor"),
    )
}

/// The place where the next page starts: 16 hexadecimal digits of the place and 16 of a keyed hash
/// over it and what was asked, so that nobody can make one up or carry it to another query.
pub(crate) struct Cursor<'a> {
    pub(crate) record: &'a Record,
    pub(crate) tenant: TenantId,
    pub(crate) kind: ResourceType,
    pub(crate) scope: &'a str,
}

impl Cursor<'_> {
    fn mac(&self, place: u64) -> u64 {
        let ledger = self.record.vault().ledger();
        ledger
            .token(
                self.tenant,
                Kind(self.kind.code()),
                "_cursor",
                &format!("{place:016x}\n{}", self.scope),
            )
            .0
    }
    pub(crate) fn seal(&self, place: u64) -> String {
        format!("{place:016x}{:016x}", self.mac(place))
    }
    pub(crate) fn open(&self, text: &str) -> Result<u64, RecordError> {
        let digits = text.len() == 32
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let part = |range| {
            if digits {
                u64::from_str_radix(&text[range], 16).ok()
            } else {
                None
            }
        };
        match (part(0..16), part(16..32)) {
            (Some(place), Some(mac)) if mac == self.mac(place) => Ok(place),
            _ => Err(bad_cursor()),
        }
    }
}

/// What a cursor is bound to: what is searched for, but not how many a page shows.
fn scope(query: &SearchQuery) -> String {
    let asked = query
        .used
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "_count" | "_total" | "_format"));
    format!(
        "search\n{}",
        url::query(asked.map(|(name, value)| (name.as_str(), value.as_str())))
    )
}

impl Record {
    /// Type-level search, newest first.
    ///
    /// # Errors
    /// 400, 403, 500.
    pub async fn search(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        let query = SearchQuery::parse(kind, parameters, caller.lenient)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        let given: Vec<&str> = parameters
            .iter()
            .filter(|(name, _)| name == "_cursor")
            .map(|(_, value)| value.as_str())
            .collect();
        let given = match given.as_slice() {
            [] => None,
            [one] => Some((*one).to_owned()),
            _ => return Err(bad_cursor()),
        };
        let permit = self
            .permit(caller, Action::Search, Some(kind), None)
            .await?;
        let scope = scope(&query);
        let cursor = Cursor {
            record: self,
            tenant: permit.tenant(),
            kind,
            scope: &scope,
        };
        let before = given
            .as_deref()
            .map(|text| cursor.open(text))
            .transpose()?
            .map(Number);
        let page = self
            .vault()
            .search(&permit, &query, before)
            .await
            .map_err(wrap(caller))?;

        let link = |cursor: Option<&str>| {
            let used = query
                .used
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let text = url::query(used.chain(cursor.map(|cursor| ("_cursor", cursor))));
            let mark = if text.is_empty() { "" } else { "?" };
            format!("{}/{kind}{mark}{text}", caller.base)
        };
        let mut links = vec![("self", link(given.as_deref()))];
        if let Some(next) = page.next {
            links.push(("next", link(Some(&cursor.seal(next.0)))));
        }
        let asked_none = query
            .used
            .iter()
            .any(|(name, value)| name == "_total" && value == "none");
        // A result that fits on its first page has been counted on the way.
        let counted =
            (before.is_none() && page.next.is_none() && !asked_none).then_some(page.rows.len());
        let mut bundle = BundleWriter::new("searchset", page.total.or(counted), &links);
        let bytes = page.rows.len() * 4096;
        let (base, ignored) = (caller.base.clone(), query.ignored);
        let body = heavy(bytes, move || {
            for row in &page.rows {
                let full_url = format!("{base}/{kind}/{}", row.resource.id().unwrap_or_default());
                bundle.found(Some(&full_url), &row.resource.to_json(), "match");
            }
            if !ignored.is_empty() {
                let issues = ignored.iter().map(|name| Issue {
                    severity: Severity::Warning,
                    code: IssueCode::NotSupported,
                    diagnostics: format!(
                        "the parameter was ignored; it is no search parameter of {kind} here"
                    ),
                    expression: Some(
                        name.chars()
                            .filter(char::is_ascii_graphic)
                            .take(64)
                            .collect(),
                    ),
                });
                let outcome = OperationOutcome {
                    issues: issues.collect(),
                };
                bundle.found(None, &outcome.to_resource().to_json(), "outcome");
            }
            bundle.finish()
        })
        .await?;
        Ok(Answer {
            status: 200,
            version: None,
            last_modified_ms: None,
            location: None,
            body,
        })
    }
}

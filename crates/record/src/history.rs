//! Instance history (R4, section 3.1.0.9).
use fhir::{IssueCode, OperationOutcome, ResourceType, date};
use trust::Action;

use crate::interact::not_found;
use crate::part::Part;
use crate::past::number_at;
use crate::render::{BundleWriter, Response};
use crate::search::Cursor;
use crate::write::{check_kept, wrap};
use crate::{Answer, Caller, Record, RecordError, url};

const COUNT_DEFAULT: usize = 50;
/// As for searches.
const COUNT_MAX: usize = 1000;

/// What parameters of a history ask for.
pub(crate) struct Asked {
    /// Entries of a page.
    pub(crate) count: usize,
    /// Written at this time or later.
    pub(crate) since_ms: Option<i64>,
    /// Current at some moment from the first time until before the second.
    pub(crate) during_ms: Option<(i64, i64)>,
    /// The parameters that count, for links.
    pub(crate) used: Vec<(String, String)>,
    pub(crate) cursor: Option<String>,
}

/// The request and the status of the interaction that makes a version. Whether it came by POST, PUT or
/// import is not kept. A bundle needs a request for each entry, and PUT is the one that makes a version
/// from any other.
pub(crate) fn made_by(deleted: bool, made: bool) -> (&'static str, u16) {
    match (deleted, made) {
        (true, _) => ("DELETE", 204),
        (false, true) => ("PUT", 201),
        (false, false) => ("PUT", 200),
    }
}

pub(crate) fn parse(parameters: &[(String, String)], lenient: bool) -> Result<Asked, RecordError> {
    let mut asked = Asked {
        count: COUNT_DEFAULT,
        since_ms: None,
        during_ms: None,
        used: Vec::new(),
        cursor: None,
    };
    let bad = |code, name: &str, words: String| {
        RecordError::with(400, OperationOutcome::at(code, words, name))
    };
    for (name, value) in parameters {
        match name.as_str() {
            "_count" => match value.parse() {
                Ok(count) if (1..=COUNT_MAX).contains(&count) => asked.count = count,
                _ => {
                    return Err(bad(
                        IssueCode::Value,
                        name,
                        format!("is a whole number from 1 to {COUNT_MAX}"),
                    ));
                }
            },
            "_since" => match date::parse(value) {
                Some(since) => asked.since_ms = Some(since.start_ms),
                None => return Err(bad(IssueCode::Value, name, "is no instant".to_owned())),
            },
            "_at" => match date::parse(value) {
                _ if asked.during_ms.is_some() => {
                    return Err(bad(
                        IssueCode::NotSupported,
                        name,
                        "can be given once only".to_owned(),
                    ));
                }
                Some(at) => asked.during_ms = Some((at.start_ms, at.end_ms)),
                None => {
                    let words = "is no date or time; prefixes such as `gt` are not for histories";
                    return Err(bad(IssueCode::Value, name, words.to_owned()));
                }
            },
            "_cursor" => {
                asked.cursor = Some(value.clone());
                continue;
            }
            "_format"
                if matches!(
                    value.as_str(),
                    "json" | "application/json" | "application/fhir+json"
                ) => {}
            _ if lenient => continue,
            _ => {
                let words = "is no parameter of a history here; known are _count, _since, _at, _summary, _elements and _format=json";
                return Err(bad(
                    IssueCode::NotSupported,
                    &name
                        .chars()
                        .filter(char::is_ascii_graphic)
                        .take(64)
                        .collect::<String>(),
                    words.to_owned(),
                ));
            }
        }
        asked.used.push((name.clone(), value.clone()));
    }
    Ok(asked)
}

impl Record {
    /// Instance `history` (`_count`, `_since`, `_at`, paging by version). Each entry's request is the PUT or
    /// DELETE that would make the version, whichever interaction made it.
    ///
    /// # Errors
    /// 400, 404, 403, 500.
    pub async fn history(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        check_kept(kind)?;
        let part = Part::of(Some(kind), parameters)?;
        let mut asked = parse(&part.others, caller.lenient)?;
        asked.used.extend(part.given().iter().cloned());
        if part.is_count() {
            if asked.since_ms.is_some() || asked.during_ms.is_some() || asked.cursor.is_some() {
                let words =
                    "`count` counts all versions; it goes with none of _since, _at and _cursor";
                let outcome = OperationOutcome::at(IssueCode::NotSupported, words, "_summary");
                return Err(RecordError::with(400, outcome));
            }
            asked.count = 1;
        }
        let whose = self.whose(caller, kind, id).await?;
        let permit = self
            .permit(caller, Action::History, Some(kind), whose)
            .await?;
        if !fhir::is_id(id) {
            return Err(not_found());
        }
        let scope = match asked.during_ms {
            None => format!("history\n{kind}/{id}\n{:?}", asked.since_ms),
            during => format!("history\n{kind}/{id}\n{:?}\n{during:?}", asked.since_ms),
        };
        let cursor = Cursor {
            record: self,
            tenant: permit.tenant(),
            kind,
            scope: &scope,
        };
        let before = match &asked.cursor {
            // Versions are 32 bits wide, and the cursor's seal says that it was made here.
            Some(text) => {
                let [version] = cursor.open(text)?;
                Some(u32::try_from(version).map_err(|_| crate::search::bad_cursor())?)
            }
            None => None,
        };
        // One more than the page, to know what the last one followed and whether there is more.
        let page = self
            .vault()
            .history_page(
                &permit,
                kind,
                id,
                before,
                asked.during_ms.map(|(_, end)| number_at(end)),
                asked.count + 1,
            )
            .await
            .map_err(wrap(caller))?;
        let rows = page.rows;
        if rows.is_empty() && before.is_none() {
            // It may be there and have been made later than is asked for.
            let newest = match asked.during_ms {
                Some(_) => self.vault().history_page(&permit, kind, id, None, None, 1),
                None => return Err(not_found()),
            };
            if newest.await.map_err(wrap(caller))?.rows.is_empty() {
                return Err(not_found());
            }
        }
        let is_new = |place: usize| {
            let Some(row) = rows.get(place) else {
                return false;
            };
            let number = row.at.number;
            let since = asked
                .since_ms
                .is_none_or(|since| number >= number_at(since));
            // What was there when the time began was current, and nothing older. A page behind a cursor
            // begins with what the page before found to be.
            let during = asked.during_ms.is_none_or(|(start, _)| {
                let start = number_at(start);
                let newer = place.checked_sub(1).and_then(|newer| rows.get(newer));
                let is_first =
                    newer.is_none_or(|newer| newer.at.number.unix_ms() > start.unix_ms());
                number >= start || is_first && !row.deleted
            });
            since && during
        };
        // Large versions make a page shorter.
        let most = if page.cut {
            rows.len().saturating_sub(1).min(asked.count)
        } else {
            asked.count
        };
        let shown = if part.is_count() {
            0
        } else {
            (0..most).take_while(|place| is_new(*place)).count()
        };
        let more = shown == most && is_new(shown);
        // Versions are counted without gaps, so the newest one's number says how many there are.
        let total = match (before, asked.since_ms, asked.during_ms) {
            (None, None, None) => rows
                .first()
                .and_then(|row| usize::try_from(row.version).ok()),
            _ => None,
        };
        let link = |extra: Option<String>| {
            let own = asked
                .used
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let query = url::query(own.chain(extra.as_deref().map(|cursor| ("_cursor", cursor))));
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{}/{kind}/{id}/_history{mark}{query}", caller.base)
        };
        let mut links = vec![("self", link(asked.cursor.clone()))];
        if let (true, Some(last)) = (more, shown.checked_sub(1).and_then(|last| rows.get(last))) {
            links.push(("next", link(Some(cursor.seal(&[u64::from(last.version)])))));
        }
        let mut bundle = BundleWriter::new("history", total, &links);
        let full_url = format!("{}/{kind}/{id}", caller.base);
        let instance = format!("{kind}/{id}");
        for (place, row) in rows.iter().enumerate().take(shown) {
            // Was there nothing before, or a deletion, then this version made the resource.
            let made = row.version == 1 || rows.get(place + 1).is_some_and(|older| older.deleted);
            let (method, status) = made_by(row.deleted, made);
            let response = Response {
                status,
                location: None,
                version: Some(row.version),
                last_modified_ms: Some(row.at.number.unix_ms()),
            };
            let body = (!row.deleted).then(|| part.json(&row.resource));
            bundle.past(&full_url, body.as_deref(), method, &instance, &response);
        }
        Ok(Answer {
            status: 200,
            version: None,
            last_modified_ms: None,
            location: None,
            body: bundle.finish(),
        })
    }
}

//! History of a type and of the whole record (R4, section 3.1.0.12).
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::{IssueCode, OperationOutcome, ResourceType};
use ledger::{Hit, Number, Shard};
use trust::{Action, PastQuery, Permit};

use crate::error::not_supported;
use crate::history::{made_by, parse};
use crate::part::Part;
use crate::render::{BundleWriter, Response};
use crate::search::bad_cursor;
use crate::write::{check_kept, heavy, wrap};
use crate::{Answer, Caller, Record, RecordError, is_writable, url};

/// The first number at or after a time; nothing was written before the epoch.
pub(crate) fn number_at(unix_ms: i64) -> Number {
    Number::at_ms(u64::try_from(unix_ms).unwrap_or_default())
}

/// Refuses what has no history by type: what the audit has is written once.
fn check_changing(kind: ResourceType) -> Result<(), RecordError> {
    check_kept(kind)?;
    if is_writable(kind) {
        return Ok(());
    }
    let words = format!(
        "{kind} resources are written once and never changed; a search shows all that a history would"
    );
    Err(not_supported(405, words))
}

impl Record {
    /// Type `history`, or that of the whole record: versions and deletions, newest first (`_count`,
    /// `_since`, `_at`, `_summary`, `_elements`). Exactly the versions that a look at each by itself would
    /// show; without those of the audit, which never change. A page may be short where what is asked for
    /// lies far apart, and has a next one all the same.
    ///
    /// # Errors
    /// 400, 403, 404 and 405 for a type without one, 500; 503 while something that was being written
    /// before does not end.
    pub async fn past(
        &self,
        caller: &Caller,
        kind: Option<ResourceType>,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        kind.map_or(Ok(()), check_changing)?;
        let part = Part::of(kind, parameters)?;
        let mut asked = parse(&part.others, caller.lenient)?;
        asked.used.extend(part.given().iter().cloned());
        if part.is_count() {
            let words = "how many versions there are is not counted for a type or the whole record";
            let outcome = OperationOutcome::at(IssueCode::NotSupported, words, "_summary");
            return Err(RecordError::with(400, outcome));
        }
        let permit = self.permit(caller, Action::History, kind, None).await?;
        let of = kind.map_or_else(String::new, |kind| format!("{kind}/"));
        let scope = format!("past\n{of}\n{:?}\n{:?}", asked.since_ms, asked.during_ms);
        let behind = match &asked.cursor {
            Some(text) => Some(self.open_place(&permit, &scope, text)?),
            None => None,
        };
        let link = |extra: Option<&str>| {
            let own = (asked.used.iter()).map(|(name, value)| (name.as_str(), value.as_str()));
            let query = url::query(own.chain(extra.map(|cursor| ("_cursor", cursor))));
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{of}_history{mark}{query}")
        };
        let query = PastQuery {
            kind,
            since: asked.since_ms.map(number_at).unwrap_or_default(),
            during: (asked.during_ms).map(|(start, end)| (number_at(start), number_at(end))),
            count: asked.count,
            words: link(None),
        };
        let page = self.vault().past(&permit, &query, behind).await;
        let page = page.map_err(wrap(caller))?;
        let base = caller.base.clone();
        let mut links = vec![("self", format!("{base}/{}", link(asked.cursor.as_deref())))];
        if let Some(next) = page.next {
            let next = self.seal_place(&permit, &scope, next)?;
            links.push(("next", format!("{base}/{}", link(Some(&next)))));
        }
        // Known where the whole of it is on one page.
        let total = (page.next.is_none() && behind.is_none()).then_some(page.rows.len());
        let mut bundle = BundleWriter::new("history", total, &links);
        let bytes = page.rows.len() * 4096;
        let body = heavy(bytes, move || {
            for past in &page.rows {
                let row = &past.row;
                let (kind, id) = (row.resource.kind(), row.resource.id().unwrap_or_default());
                let (method, status) = made_by(row.deleted, past.made);
                let response = Response {
                    status,
                    location: None,
                    version: Some(row.version),
                    last_modified_ms: Some(row.at.number.unix_ms()),
                };
                let instance = format!("{kind}/{id}");
                let full_url = format!("{base}/{instance}");
                let body = (!row.deleted).then(|| part.json(&row.resource));
                bundle.past(&full_url, body.as_deref(), method, &instance, &response);
            }
            bundle.finish()
        })
        .await?;
        Ok(crate::operations::answer(body))
    }

    /// A cursor that tells nothing of its place: where a page ends may be a version that its reader
    /// must not see, and that there is one, when and in which shard, is told no more than what it holds.
    fn seal_place(&self, permit: &Permit, scope: &str, at: Hit) -> Result<String, RecordError> {
        let mut place = [0; PLACE_BYTES];
        let (number, shard) = place.split_at_mut(8);
        number.copy_from_slice(&at.number.0.to_be_bytes());
        shard.copy_from_slice(&at.shard.0.to_be_bytes());
        let ledger = self.vault().ledger();
        let note = ledger.seal_note(permit.tenant(), &purpose(permit, scope), &place);
        let note =
            note.map_err(|error| RecordError::from_trust(error.into(), permit.request_id()))?;
        Ok(URL_SAFE_NO_PAD.encode(note))
    }

    fn open_place(&self, permit: &Permit, scope: &str, text: &str) -> Result<Hit, RecordError> {
        let note = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_cursor())?;
        let ledger = self.vault().ledger();
        let place = ledger.open_note(permit.tenant(), &purpose(permit, scope), &note);
        let place = place
            .map_err(|error| RecordError::from_trust(error.into(), permit.request_id()))?
            .and_then(|place| <[u8; PLACE_BYTES]>::try_from(place).ok())
            .ok_or_else(bad_cursor)?;
        let [a, b, c, d, e, f, g, h, shard @ ..] = place;
        Ok(Hit {
            number: Number(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            shard: Shard(u16::from_be_bytes(shard)),
        })
    }
}

/// A number and a shard.
const PLACE_BYTES: usize = 10;

/// What a cursor is bound to: what is asked for, and who asks.
fn purpose(permit: &Permit, scope: &str) -> String {
    format!("{scope}\n{}", permit.agent().id)
}

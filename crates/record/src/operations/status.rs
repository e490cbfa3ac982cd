//! `SearchParameter/[id]/$status`: whether a parameter of one's own is in force, and how far the
//! documents that were there before it are indexed. An operation of Cairn's own.
//!
//! The answer is a `Parameters`: `in-force` (boolean) and, where it isn't for some base type, `reason`; for each base type a
//! `base` with the parts `type`, `state` (`indexing`; `complete` once all documents have been seen to be
//! indexed), `documents` of the type, how many of them are `unindexed`, counted in the index at this
//! moment, and of a complete one `complete-through`, the moment up to which that was seen. What is
//! unindexed is checked one by one by each search, so searches are right in either state.
use fhir::ResourceType;
use fhir::search::define;
use serde_json::{Value, json};
use trust::{Action, OWNS_MAX};

use super::answer;
use crate::write::wrap;
use crate::{Answer, Caller, Record, RecordError};

impl Record {
    /// `$status` of a `SearchParameter`.
    ///
    /// # Errors
    /// As [`Record::read`]; 403 without the right to define search parameters, since it counts documents.
    pub async fn search_parameter_status(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<Answer, RecordError> {
        let read = self.read(caller, ResourceType::SearchParameter, id).await?;
        let resource =
            fhir::Resource::parse(&read.body).map_err(|outcome| RecordError::with(500, outcome))?;
        let permit = self.permit(caller, Action::Index, None, None).await?;
        let vault = self.vault();
        let tenant = permit.tenant();
        vault.refresh_owns(tenant).await.map_err(wrap(caller))?;
        let owns = vault.owns(tenant);
        let (defined, mut reason) = match define(&resource) {
            Ok(defined) if defined.is_empty() => {
                let words = match resource.get("status").and_then(Value::as_str) {
                    Some("active") => "R4 has it already, and answers",
                    _ => "it is not active",
                };
                (defined, words.to_owned())
            }
            Ok(defined) => (defined, String::new()),
            Err(outcome) => (Vec::new(), outcome.summary()),
        };
        let mut bases = Vec::new();
        for own in &defined {
            let (base, code) = (own.base(), own.code());
            let Some(own) = owns.find(base, code) else {
                reason = format!(
                    "there are {OWNS_MAX} others in force, which is the most, so `{code}` of {base} isn't"
                );
                continue;
            };
            if vault.defined_by(tenant, own).as_deref() != Some(id) {
                reason = format!("another one defines `{code}` of {base}");
                continue;
            }
            let indexing = vault.indexing(&permit, own).await.map_err(wrap(caller))?;
            let state = match indexing.complete_ms {
                Some(_) => "complete",
                None => "indexing",
            };
            let mut parts = vec![
                json!({"name": "type", "valueCode": own.base().name()}),
                json!({"name": "state", "valueCode": state}),
                json!({"name": "documents", "valueInteger": indexing.documents}),
                json!({"name": "unindexed", "valueInteger": indexing.unindexed}),
            ];
            if let Some(ms) = indexing.complete_ms {
                let at = fhir::date::instant(ms);
                parts.push(json!({"name": "complete-through", "valueInstant": at}));
            }
            bases.push(json!({"name": "base", "part": parts}));
        }
        let mut all: Vec<Value> =
            vec![json!({"name": "in-force", "valueBoolean": !bases.is_empty()})];
        if !reason.is_empty() {
            all.push(json!({"name": "reason", "valueString": reason}));
        }
        all.extend(bases);
        let body = json!({"resourceType": "Parameters", "parameter": all});
        Ok(answer(body.to_string().into_bytes()))
    }
}

//! Tokens of what an audit event has beside its frame (`audit/draft.rs`): one event is written for each
//! answer, so they are made without going through search parameters. A test there keeps them the same.

use fhir::ResourceType;
use ledger::{Ledger, TenantId, Token};

use super::{Maker, OWNER, TWINS, common_part, day, kind};

/// The tokens of an event's id, of the moment when it was recorded, and of what its entities refer to
/// (`Type/id`).
pub(crate) fn of_event(
    ledger: &Ledger,
    tenant: TenantId,
    id: &str,
    recorded_ms: u64,
    references: &[String],
) -> Vec<Token> {
    let make = Maker {
        ledger,
        tenant,
        kind: kind(ResourceType::AuditEvent),
        unmarked: false,
    };
    let recorded_ms = i64::try_from(recorded_ms).unwrap_or(i64::MAX);
    let mut tokens = make.days("date", "@", day(recorded_ms));
    tokens.extend(
        (references.iter()).map(|what| match what.strip_prefix("Patient/") {
            Some(patient) => make.one(OWNER, "", patient),
            None => make.one("entity", "/", what),
        }),
    );
    if let Some(part) = common_part(ResourceType::AuditEvent, id) {
        tokens.push(make.one(TWINS, "", part));
    }
    tokens
}

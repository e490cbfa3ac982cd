//! Tokens of what an audit event has beside its frame (`audit/draft.rs`): one event is written for each
//! answer, so they are made without going through search parameters. A test there keeps them the same.

use fhir::ResourceType;
use ledger::{Ledger, Query, TenantId, Token};

use super::{Maker, OWN_ACT, OWNER, Plan, RELATION, TWINS, common_part, day, kind};
use crate::audit::{NONE, UNKNOWN};

/// The tokens of an event's id, of the moment when it was recorded, and of what its entities refer to
/// (`Type/id`); and of what is `told` to explain it, where nothing does.
pub(crate) fn of_event<'a>(
    ledger: &Ledger,
    tenant: TenantId,
    id: &str,
    recorded_ms: u64,
    references: &[String],
    told: impl Iterator<Item = &'a str>,
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
    tokens.extend(unexplained(&make, told));
    if let Some(part) = common_part(ResourceType::AuditEvent, id) {
        tokens.push(make.one(TWINS, "", part));
    }
    tokens
}

/// That nothing explains an access, or that it couldn't be told: once, of however many patients.
pub(super) fn unexplained<'a>(make: &Maker<'_>, told: impl Iterator<Item = &'a str>) -> Vec<Token> {
    let found = told.filter(|told| [NONE, UNKNOWN].contains(told));
    let mut tokens: Vec<_> = found.map(|told| make.one(RELATION, "", told)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// Leaves out of a plan for audit events what a patient did themselves. What programs of before wrote has no token of
/// that, and stays to be looked at.
pub(crate) fn leave_out_own_acts(
    plan: &mut Plan,
    ledger: &Ledger,
    tenant: TenantId,
    patient: &str,
) {
    let make = Maker {
        ledger,
        tenant,
        kind: kind(ResourceType::AuditEvent),
        unmarked: false,
    };
    plan.without(&[Query::Token(make.one(OWN_ACT, "", patient))]);
}

/// Which accesses without an explanation are looked for.
pub(crate) struct Unexplained<'a> {
    /// What their records say: [`NONE`] or [`UNKNOWN`].
    pub(crate) told: &'a str,
    /// Of whom alone: id of the account.
    pub(crate) who: Option<&'a str>,
    /// To whose record alone.
    pub(crate) patient: Option<&'a str>,
}

impl Unexplained<'_> {
    /// What leads to their records, and to others that happen to have the same tokens.
    pub(crate) fn query(&self, ledger: &Ledger, tenant: TenantId) -> Query {
        let make = Maker {
            ledger,
            tenant,
            kind: kind(ResourceType::AuditEvent),
            unmarked: false,
        };
        let mut parts = vec![make.one(RELATION, "", self.told)];
        parts.extend(self.who.map(|who| make.one("altid", "", who)));
        parts.extend(self.patient.map(|patient| make.one(OWNER, "", patient)));
        Query::And(parts.into_iter().map(Query::Token).collect())
    }
}

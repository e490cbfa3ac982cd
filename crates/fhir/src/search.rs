//! Search parameters (FHIR R4, section 3.1.1): which there are, what a resource is indexed by, how
//! a query is parsed, and whether a resource matches one.
#![allow(unused_variables)]
use crate::{OperationOutcome, Resource, ResourceType};

/// Type of a search parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ParameterKind { Token, String, Date, Reference, Uri }

/// A search parameter that is indexed and can be searched by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Name, e.g. `birthdate`.
    pub name: &'static str,
    /// Its type.
    pub kind: ParameterKind,
    /// FHIRPath expression.
    pub expression: &'static str,
}

/// The parameters of a type, without the common ones (`_id`, `_lastUpdated`, ...).
#[must_use]
pub fn parameters(kind: ResourceType) -> &'static [Parameter] {
    todo!("{kind}")
}

/// One value that a resource is indexed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexValue {
    /// A token: system (empty if none) and code.
    Token { /// system
        system: String, /// code
        code: String },
    /// A string, normalised (case, accents, white space folded).
    String(String),
    /// A period of time, half-open, milliseconds.
    Date { /// from
        start_ms: i64, /// to
        end_ms: i64 },
    /// A literal reference `Type/id`, or an absolute URL as it stands.
    Reference(String),
    /// A URI.
    Uri(String),
}

/// What a resource is indexed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The parameter's name.
    pub parameter: &'static str,
    /// The value.
    pub value: IndexValue,
}

/// All index entries of a resource.
#[must_use]
pub fn index(resource: &Resource) -> Vec<IndexEntry> {
    todo!()
}

/// Comparison prefix of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Prefix { Eq, Ne, Gt, Lt, Ge, Le, Sa, Eb }

/// One alternative of a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// `[system|]code`; `system: None` when any system will do, `code: None` for `system|`.
    Token { /// system
        system: Option<String>, /// code
        code: Option<String> },
    /// A string, normalised; the modifier says how it is compared (default: starts with).
    String(String),
    /// A date with its prefix.
    Date { /// prefix
        prefix: Prefix, /// from
        start_ms: i64, /// to
        end_ms: i64 },
    /// `Type/id`, or `id` where only one type is possible or meant.
    Reference { /// type
        kind: Option<ResourceType>, /// id
        id: String, /// absolute url
        url: Option<String> },
    /// A URI.
    Uri(String),
    /// `:missing=true|false`.
    Missing(bool),
}

/// Modifiers that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Modifier { Exact, Contains, Missing, Not }

/// One parameter of a query: any of its operands may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The parameter; common ones included (`_id`, `_lastUpdated`).
    pub parameter: String,
    /// Its type.
    pub kind: ParameterKind,
    /// The modifier.
    pub modifier: Option<Modifier>,
    /// Alternatives.
    pub operands: Vec<Operand>,
}

/// A parsed query of one resource type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// The type searched.
    pub kind: ResourceType,
    /// All must match.
    pub clauses: Vec<Clause>,
    /// `_count`, 1–1000; default 50.
    pub count: usize,
    /// `_total=accurate` asked for.
    pub total: bool,
    /// Parameters that were ignored under `Prefer: handling=lenient`.
    pub ignored: Vec<String>,
    /// The parameters as used (for the self link).
    pub used: Vec<(String, String)>,
}

impl SearchQuery {
    /// Parses the parameters of a search. `_count`, `_total=none|accurate`, `_sort=-_lastUpdated`
    /// (the default order, newest first) and `_format=json` are understood; `_cursor` is left to the caller (ignored).
    ///
    /// # Errors
    /// 400-type outcomes for unknown parameters (unless `lenient`), unknown modifiers, malformed values.
    pub fn parse(kind: ResourceType, parameters: &[(String, String)], lenient: bool) -> Result<Self, OperationOutcome> {
        todo!()
    }
    /// Whether a resource matches every clause except `_lastUpdated` (which the store answers).
    #[must_use]
    pub fn matches(&self, resource: &Resource) -> bool {
        todo!()
    }
}

/// Folds case, accents and white space, as string search wants it.
#[must_use]
pub fn normalise(text: &str) -> String {
    todo!()
}

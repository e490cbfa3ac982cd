//! Search parameters (FHIR R4, section 3.1.1): which there are, what a resource is indexed by, how
//! a query is parsed, and whether a resource matches one.
//!
//! [`index`] and [`SearchQuery::matches`] look at a resource through one and the same extraction,
//! so they can't disagree. The parameter `phonetic` is not here: a query that uses it is refused as
//! unknown.

mod about;
mod codes;
mod compartment;
mod composite;
mod condition;
mod current;
mod extract;
mod filter;
mod include;
mod link;
mod matching;
mod measure;
mod near;
mod number;
mod own;
mod parameter;
mod plan;
mod query;
mod reach;
mod resources;
mod server;
mod several;
mod sort;
mod text;
mod unit;
mod words;

pub(crate) use number::number;
pub(crate) use unit::Canonical;

use std::sync::Arc;

use crate::facts;
use crate::{Resource, ResourceType};

pub use codes::{Codes, CodesOf, Content, Included, concepts, content, is_hierarchy};
pub use compartment::Compartment;
pub use condition::Condition;
pub use current::Current;
pub use include::Include;
pub use link::Link;
pub use matching::above;
pub use near::Near;
pub use number::{Amount, Asked, End, POSITION_MAX, Span};
pub use own::{Own, Owns, define};
pub use parameter::{Named, can_refer, references};
pub use query::{COUNT_DEFAULT, COUNT_MAX, modifiers};
pub use reach::Reach;
pub use resources::Resources;
pub use several::Scope;
pub use sort::{SortKey, SortValue};
pub use text::normalise;
pub use words::Words;

pub use extract::can_be_of_patient;
pub(crate) use extract::{compartment_members, is_of_patient_elsewhere, owner, patients};
pub(crate) use reach::of_whose;

/// Type of a search parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ParameterKind {
    Token,
    String,
    Date,
    Reference,
    Uri,
    Number,
    Quantity,
    Composite,
    Special,
}

impl ParameterKind {
    /// All types.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::String,
        Self::Reference,
        Self::Uri,
        Self::Date,
        Self::Number,
        Self::Quantity,
        Self::Composite,
        Self::Special,
    ];

    /// The type's code (R4, value set `search-param-type`).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::String => "string",
            Self::Date => "date",
            Self::Reference => "reference",
            Self::Uri => "uri",
            Self::Number => "number",
            Self::Quantity => "quantity",
            Self::Composite => "composite",
            Self::Special => "special",
        }
    }
}

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

/// The parameters of a type by name, without the common ones (see [`COMMON`]).
#[must_use]
pub fn parameters(kind: ResourceType) -> &'static [Parameter] {
    &facts::search(kind).parameters
}

/// What else every search can be narrowed by, with the type that R4 gives it: an expression, a list, and
/// words. They are no values of a resource, so nothing is sorted by them.
pub const EXPRESSIONS: [(&str, ParameterKind); 4] = [
    ("_content", ParameterKind::String),
    ("_filter", ParameterKind::Special),
    ("_list", ParameterKind::Special),
    ("_text", ParameterKind::String),
];

/// The parameters that every type has.
pub const COMMON: [Parameter; 6] = [
    Parameter {
        name: "_id",
        kind: ParameterKind::Token,
        expression: "Resource.id",
    },
    Parameter {
        name: "_lastUpdated",
        kind: ParameterKind::Date,
        expression: "Resource.meta.lastUpdated",
    },
    Parameter {
        name: "_profile",
        kind: ParameterKind::Uri,
        expression: "Resource.meta.profile",
    },
    Parameter {
        name: "_security",
        kind: ParameterKind::Token,
        expression: "Resource.meta.security",
    },
    Parameter {
        name: "_source",
        kind: ParameterKind::Uri,
        expression: "Resource.meta.source",
    },
    Parameter {
        name: "_tag",
        kind: ParameterKind::Token,
        expression: "Resource.meta.tag",
    },
];

/// Start of a [`IndexValue::Date`] that has none (a `Period` without `start`).
pub const OPEN_START_MS: i64 = i64::MIN;
/// End of a [`IndexValue::Date`] that has none (a `Period` without `end`).
pub const OPEN_END_MS: i64 = i64::MAX;

/// One value that a resource is indexed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IndexValue {
    /// A token: system (empty if none) and code. A `code` element has the system that its binding
    /// implies, where it implies one.
    Token {
        /// system
        system: String,
        /// code
        code: String,
    },
    /// A string, normalised (case, accents, white space folded).
    String(String),
    /// A period of time, half-open, milliseconds. Open ends are [`OPEN_START_MS`] and [`OPEN_END_MS`].
    Date {
        /// from
        start_ms: i64,
        /// to
        end_ms: i64,
    },
    /// A literal reference `Type/id` (without version), or an absolute URL as it stands; a canonical
    /// URL with version also without it.
    Reference(String),
    /// A URI; a canonical URL with version also without it.
    Uri(String),
    /// A number.
    Number(Box<Span>),
    /// A quantity.
    Quantity(Box<Quantity<String>>),
}

/// A quantity as a resource says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quantity<T> {
    /// The value, whatever the unit.
    pub value: Span,
    /// The system of the unit's code; empty if none.
    pub system: T,
    /// The unit's code; empty if none.
    pub code: T,
    /// The unit in words; empty if none.
    pub unit: T,
    /// UCUM's canonical unit and the value in it, where there are any.
    pub canonical: Option<(String, Span)>,
}

/// What a resource is indexed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The parameter's name.
    pub parameter: &'static str,
    /// The value.
    pub value: IndexValue,
}

/// All index entries of a resource, each once, the common parameters' first: `_id`, `_profile`,
/// `_security`, `_source` and `_tag`, but not `_lastUpdated`, which the store answers.
#[must_use]
pub fn index(resource: &Resource) -> Vec<IndexEntry> {
    extract::index(resource, |_| true)
}

/// As [`index`], of the parameters that are wanted alone: finding the values of one takes its time.
#[must_use]
pub fn index_of(resource: &Resource, wanted: impl Fn(&str) -> bool) -> Vec<IndexEntry> {
    extract::index(resource, wanted)
}

/// Comparison prefix of a date, a number or a quantity. What is near a date (`ap`) depends on today, and
/// there is no clock here: see [`SearchQuery::at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

/// One alternative of a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// `[system|]code`; `system: None` when any system will do, `code: None` for `system|`.
    Token {
        /// system; empty for `|code`, which wants none
        system: Option<String>,
        /// code
        code: Option<String>,
    },
    /// An identifier with one of its type's codings.
    OfType {
        /// system of the type's coding
        system: String,
        /// code of the type
        code: String,
        /// the identifier's value
        value: String,
    },
    /// A string, normalised; the modifier says how it is compared (default: starts with). With
    /// [`Modifier::Exact`] it is as the client wrote it: whoever looks it up in an index of
    /// [`IndexValue::String`] normalises it first and checks the hits with [`SearchQuery::matches`].
    String(String),
    /// A date with its prefix.
    Date {
        /// prefix
        prefix: Prefix,
        /// from
        start_ms: i64,
        /// to
        end_ms: i64,
    },
    /// A reference. [`SearchQuery::parse`] always fills in either the type or the URL: an id alone
    /// becomes one operand for each type that the parameter can refer to.
    Reference {
        /// type
        kind: Option<ResourceType>,
        /// id; empty when there is a URL
        id: String,
        /// absolute url
        url: Option<String>,
    },
    /// A URI.
    Uri(String),
    /// A number with its prefix.
    Number {
        /// prefix
        prefix: Prefix,
        /// the number
        value: Box<Asked>,
    },
    /// A quantity with its prefix.
    Quantity {
        /// prefix
        prefix: Prefix,
        /// the number, whatever its unit
        value: Box<Asked>,
        /// the unit, if one is asked for
        unit: Option<Box<UnitAsked>>,
    },
    /// About a date (`ap`), once it is known how far away that is: a period that overlaps this one.
    About {
        /// from
        start_ms: i64,
        /// to
        end_ms: i64,
    },
    /// Values that stand together in one element, in the order of the parameter's parts.
    Composite(Vec<Clause>),
    /// Within a distance of a point.
    Near(Near),
    /// Codes that a value set or a code system lists. Nothing matches before they are looked up, and
    /// [`Operand::Codes`] takes its place.
    CodesOf(CodesOf),
    /// Any of these codes.
    Codes(Arc<Codes>),
    /// Words of a text.
    Words(Words),
    /// `:missing=true|false`.
    Missing(bool),
    /// A reference to any of these, or (of `_id`) any of their ids. No text is parsed to it: it is what
    /// another search has found.
    Resources(Arc<Resources>),
}

/// The unit that a query names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitAsked {
    /// System of the code; with `None` the unit's words will do as well.
    pub system: Option<String>,
    /// The code.
    pub code: String,
    /// UCUM's canonical unit and the number in it, where the code may be UCUM's.
    pub canonical: Option<(String, Asked)>,
}

/// Modifiers that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Modifier {
    Exact,
    Contains,
    Missing,
    Not,
    /// Of a token: its code is one of a value set.
    In,
    /// Of a token: it has no code of a value set.
    NotIn,
    /// Of a string, in a `_filter`: the whole of it.
    Equals,
    /// Of a string, in a `_filter`: it ends so.
    EndsWith,
    /// In a `_filter`: one of the values is another.
    Differs,
    /// Of a token: what it is in words begins so.
    Text,
    /// Of an identifier: one of this type.
    OfType,
    /// Of a reference: one that has this identifier, whatever it refers to.
    Identifier,
    /// Of a URL: this one and those that it lies below.
    Above,
    /// Of a URL: this one and those below it.
    Below,
}

/// One parameter of a query: any of its operands may match (with [`Modifier::Not`]: none may).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The parameter; common ones included (`_id`, `_lastUpdated`).
    pub parameter: String,
    /// Its definition, if it is one of one's own.
    pub own: Option<Arc<Own>>,
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
    /// Conditions put together from clauses; all must hold as well.
    pub conditions: Vec<Condition>,
    /// Conditions on other resources; all must hold as well.
    pub links: Vec<Link>,
    /// Where it is asked.
    pub scope: Scope,
    /// `_count`, 1–1000; default 50.
    pub count: usize,
    /// `_total=accurate` asked for, or `estimate`, for which the exact number is as good.
    pub total: bool,
    /// The order; newest first where there is none.
    pub sort: Vec<SortKey>,
    /// What to answer beside the matches.
    pub includes: Vec<Include>,
    /// Parameters that were ignored under `Prefer: handling=lenient`.
    pub ignored: Vec<String>,
    /// The parameters as used (for the self link).
    pub used: Vec<(String, String)>,
}

#[cfg(test)]
mod measures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

//! The field's vocabulary: FHIR R4 resources as JSON with typed views, their XML form, partial dates,
//! references, search parameters, validation, FHIRPath and patches.
//!
//! No I/O, no async, no clock, and no knowledge of how anything is stored.
//!
//! Start reading at [`Resource`], then [`search`] and [`path`]. What FHIR itself says (types,
//! elements, search parameters) is in `facts`, written by `scripts/generate-fhir-facts.py`.

pub mod date;
mod facts;
mod fill;
pub mod human;
mod json;
mod nearest;
pub mod outcome;
pub mod patch;
pub mod path;
pub mod redaction;
mod reference;
mod resource;
mod resource_type;
pub mod search;
pub mod stored;
pub mod subset;
pub mod validate;
pub mod xml;

pub use fill::fill;
pub use nearest::{nearest, suggestion};
pub use outcome::{Issue, IssueCode, OperationOutcome, Severity};
pub use reference::{Reference, is_id};
pub use resource::Resource;
pub use resource_type::ResourceType;

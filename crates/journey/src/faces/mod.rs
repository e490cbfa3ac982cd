//! Journeys as FHIR's definitions, both ways: `PlanDefinition` with `ActivityDefinition`s and `Questionnaire`s. Pure.
//!
//! What goes out says as much of a journey in FHIR as FHIR can, for others to read and apply, and the whole of it in
//! one extension of its own, so that what comes back is the same journey. What comes in from others becomes a draft
//! in YAML whose times are waited for and whose conditions are asked; what a journey can't say is told with its place.

mod export;
mod import;

pub use export::export;
pub(crate) use export::exported;
pub use import::{Draft, Left, import};

/// The extension of a `PlanDefinition` that has the journey's own text.
const SOURCE: &str = "urn:cairn:journey-source";

//! FHIR's XML form to its JSON form and back, without loss (R4, sections 2.6.1 and 2.6.2).
//!
//! Decimals keep their digits, primitive elements their ids and extensions, narratives their bytes.
//! What FHIR doesn't know (an element, an attribute, text between elements) is an error with its line,
//! never left out. Comments and processing instructions are not content and are dropped, as FHIR says.
//! Document types are refused, so there are no entities to expand.

mod read;
mod write;

pub(crate) use read::is_narrative;
pub use read::parse;
pub use write::{write, write_pretty};

/// FHIR's name space.
const FHIR: &str = "http://hl7.org/fhir";
/// The name space of narratives.
const XHTML: &str = "http://www.w3.org/1999/xhtml";

#[cfg(test)]
mod tests;

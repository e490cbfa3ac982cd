//! Light structural validation on write.
use crate::{Issue, Resource};

/// Checks what the slice needs to be right: id syntax, JSON types of the elements that are indexed
/// or used by journeys, required elements of the types that pages and journeys use, date formats.
/// Returns errors only.
#[must_use]
pub fn check(resource: &Resource) -> Vec<Issue> {
    todo!("{resource:?}")
}

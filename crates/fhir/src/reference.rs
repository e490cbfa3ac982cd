//! References between resources (FHIR R4, section 2.3.0).
use crate::ResourceType;
use std::fmt;

/// A literal reference to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The type referred to.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: String,
    /// The version, for version-specific references.
    pub version: Option<u32>,
}

impl Reference {
    /// Parses `Type/id`, `Type/id/_history/version`, or the same behind an absolute base URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        todo!("{text}")
    }
}
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

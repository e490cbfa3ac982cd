//! Patches: changes to a resource that a client describes instead of sending it whole (R4, section
//! 3.1.0.5): JSON Patch (RFC 6902), XML Patch (RFC 5261) and FHIRPath Patch (R4, section
//! 3.1.4).
//!
//! A patch is parsed once and applied as often as it takes; it changes a copy, so one that fails half
//! way has changed nothing. What comes out is a resource by its outer form only: whether it may be
//! stored is for whoever stores it. What a patch can do is bounded: in operations, in nesting, and in
//! what it may copy. Errors name the operation, never what is in the resource.

mod elements;
mod json;
mod path;
mod xml;

use crate::{IssueCode, OperationOutcome, Resource, ResourceType};

/// The most operations of one patch: each looks through the resource.
pub const PATCH_OPERATIONS_MAX: usize = 1_000;
/// The most bytes that the `copy` operations of one patch may make, by a rough count: a few of them
/// can double a resource again and again.
pub const PATCH_COPIED_BYTES_MAX: usize = 5 * 1024 * 1024;

/// A patch, understood.
#[derive(Debug, Clone)]
pub struct Patch(Form);

#[derive(Debug, Clone)]
enum Form {
    Json(Vec<json::Operation>),
    Path(Vec<path::Operation>),
    Xml(Vec<xml::Operation>),
}

impl Patch {
    /// Parses a JSON Patch.
    ///
    /// # Errors
    /// What is wrong with it, and in which operation.
    pub fn parse_json(text: &[u8]) -> Result<Self, OperationOutcome> {
        let operations = json::operations(crate::json::parse(text)?)?;
        Ok(Self(Form::Json(operations)))
    }
    /// Parses an XML Patch.
    ///
    /// # Errors
    /// What is wrong with it, and in which operation.
    pub fn parse_xml(text: &[u8]) -> Result<Self, OperationOutcome> {
        Ok(Self(Form::Xml(xml::operations(text)?)))
    }
    /// Understands a `Parameters` resource as a FHIRPath Patch.
    ///
    /// # Errors
    /// What is wrong with it, and in which parameter.
    pub fn from_parameters(parameters: &Resource) -> Result<Self, OperationOutcome> {
        if parameters.kind() != ResourceType::Parameters {
            return Err(OperationOutcome::error(
                IssueCode::Invalid,
                format!(
                    "a FHIRPath patch is a Parameters resource, not a {}",
                    parameters.kind()
                ),
            ));
        }
        Ok(Self(Form::Path(path::operations(parameters)?)))
    }
    /// How many operations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Json(operations) => operations.len(),
            Form::Path(operations) => operations.len(),
            Form::Xml(operations) => operations.len(),
        }
    }
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What the patch makes of a resource. The type stays.
    ///
    /// # Errors
    /// Which operation can't be done, and why.
    pub fn apply(&self, resource: &Resource) -> Result<Resource, OperationOutcome> {
        let mut value = resource.as_value().clone();
        match &self.0 {
            Form::Json(operations) => json::apply(operations, &mut value)?,
            Form::Path(operations) => path::apply(operations, &mut value)?,
            Form::Xml(operations) => xml::apply(operations, &mut value)?,
        }
        let patched = Resource::from_value(value)?;
        if patched.kind() == resource.kind() {
            return Ok(patched);
        }
        Err(OperationOutcome::at(
            IssueCode::BusinessRule,
            "a patch can't change the type of a resource",
            "resourceType",
        ))
    }
}

fn check_count(count: usize) -> Result<(), OperationOutcome> {
    if count <= PATCH_OPERATIONS_MAX {
        return Ok(());
    }
    let words = format!("a patch has at most {PATCH_OPERATIONS_MAX} operations, not {count}");
    Err(OperationOutcome::error(IssueCode::TooLong, words))
}

#[cfg(test)]
mod tests;

//! A FHIR resource as JSON, with typed views where code needs them.
#![allow(unused_variables)]
use crate::{OperationOutcome, Reference, ResourceType};
use serde_json::{Map, Value};

/// A FHIR R4 resource. Numbers keep their digits and members their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    kind: ResourceType,
    json: Map<String, Value>,
}

impl Resource {
    /// Parses JSON text; limits: 64 levels of nesting, a known `resourceType`, no duplicate members.
    ///
    /// # Errors
    /// An outcome that says what is wrong and where.
    pub fn parse(text: &[u8]) -> Result<Self, OperationOutcome> {
        todo!()
    }
    /// A resource from a JSON value.
    ///
    /// # Errors
    /// As [`Resource::parse`].
    pub fn from_value(value: Value) -> Result<Self, OperationOutcome> {
        todo!()
    }
    /// An empty resource of a type.
    #[must_use]
    pub fn new(kind: ResourceType) -> Self {
        todo!()
    }
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        self.kind
    }
    /// Its logical id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        todo!()
    }
    /// Sets its logical id (kept as the second member).
    pub fn set_id(&mut self, id: &str) {
        todo!()
    }
    /// Sets `meta.versionId` and `meta.lastUpdated` (third member).
    pub fn set_meta(&mut self, version: u32, last_updated_unix_ms: u64) {
        todo!()
    }
    /// Removes `meta.versionId` and `meta.lastUpdated`, which the store keeps beside the body.
    pub fn strip_meta(&mut self) {
        todo!()
    }
    /// A top-level member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.json.get(name)
    }
    /// Sets a top-level member.
    pub fn set(&mut self, name: &str, value: Value) {
        todo!()
    }
    /// Removes a top-level member.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        todo!()
    }
    /// A member by JSON pointer-like path of names and indexes, e.g. `["code", "coding", "0", "code"]`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        todo!()
    }
    /// The string at a path.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }
    /// The members.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        &self.json
    }
    /// The members, to change.
    pub fn members_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.json
    }
    /// As a JSON value.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.json)
    }
    /// Compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        todo!()
    }
    /// The id of the patient whose record this belongs to: of a `Patient` its own id; else the
    /// patient that its compartment reference (`subject`, `patient`, `beneficiary`, ...; R4 patient
    /// compartment definition) names by literal reference `Patient/ID`.
    #[must_use]
    pub fn patient(&self) -> Option<&str> {
        todo!()
    }
    /// Calls `visit` with each literal `reference` string in the resource, to read or replace it.
    pub fn visit_references(&mut self, visit: &mut dyn FnMut(&mut String)) {
        todo!()
    }
    /// A short name for people, e.g. a patient's name, a code's display or text; falls back to the type.
    #[must_use]
    pub fn display(&self) -> String {
        todo!()
    }
    /// The reference `Type/id` to this resource.
    #[must_use]
    pub fn reference(&self) -> Option<Reference> {
        todo!()
    }
}

//! What a search is asked of: a type, several types, or a compartment.
use fhir::search::{Owns, Scope, SearchQuery};
use fhir::{OperationOutcome, ResourceType};

use crate::write::check_kept;
use crate::{RecordError, is_kept};

/// Which type, and whose record, a search of a scope is decided by, where that is known before.
pub(crate) fn target(scope: &Scope) -> (Option<ResourceType>, Option<String>) {
    match scope {
        Scope::Type | Scope::System => (None, None),
        Scope::Compartment(compartment, of) => {
            let is_patient = compartment.kind == ResourceType::Patient;
            (*of, is_patient.then(|| compartment.id.clone()))
        }
    }
}

/// What is searched.
pub(crate) struct Searched<'a> {
    pub(crate) scope: &'a Scope,
    /// The type, unless there are several.
    pub(crate) kind: Option<ResourceType>,
    /// The address below the base.
    pub(crate) address: String,
}

impl<'a> Searched<'a> {
    pub(crate) fn of_type(kind: ResourceType) -> Result<Self, RecordError> {
        check_kept(kind)?;
        Ok(Self {
            scope: &Scope::Type,
            kind: Some(kind),
            address: kind.name().to_owned(),
        })
    }
    pub(crate) fn of(scope: &'a Scope) -> Result<Self, RecordError> {
        let (kind, address) = match scope {
            Scope::Type | Scope::System => (None, String::new()),
            Scope::Compartment(compartment, of) => {
                let within = of.map_or("*", ResourceType::name);
                let (kind, id) = (compartment.kind, &compartment.id);
                (*of, format!("{kind}/{id}/{within}"))
            }
        };
        kind.map_or(Ok(()), check_kept)?;
        Ok(Self {
            scope,
            kind,
            address,
        })
    }

    /// One query for each type.
    pub(crate) fn queries(
        &self,
        parameters: &[(String, String)],
        lenient: bool,
        owns: &Owns,
    ) -> Result<Vec<SearchQuery>, OperationOutcome> {
        match (self.scope, self.kind) {
            (Scope::Type, Some(kind)) => {
                let query = SearchQuery::parse_with(kind, parameters, lenient, owns)?;
                Ok(vec![query])
            }
            (scope, Some(kind)) => {
                SearchQuery::parse_scope_with(scope, &[kind], parameters, lenient, owns)
            }
            (scope, None) => {
                let kinds: Vec<ResourceType> =
                    ResourceType::all().filter(|kind| is_kept(*kind)).collect();
                SearchQuery::parse_scope_with(scope, &kinds, parameters, lenient, owns)
            }
        }
    }

    /// Below a base.
    pub(crate) fn url(&self, base: &str) -> String {
        if self.address.is_empty() {
            base.to_owned()
        } else {
            format!("{base}/{}", self.address)
        }
    }
}

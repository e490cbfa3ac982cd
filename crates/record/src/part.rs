//! Parts of resources (`_summary`, `_elements`), on reads and in lists.
use std::borrow::Cow;

use fhir::subset::Subset;
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType, search::SearchQuery};

use trust::Versioned;

use crate::{Answer, Caller, Record, RecordError};

/// What a list shows of each resource.
pub(crate) struct Part {
    subset: Option<Subset>,
    /// The parameters that say so.
    given: Vec<(String, String)>,
    /// All other parameters.
    pub(crate) others: Vec<(String, String)>,
}

impl Part {
    /// Takes the parameters of a list apart.
    pub(crate) fn of(
        kind: Option<ResourceType>,
        parameters: &[(String, String)],
    ) -> Result<Self, RecordError> {
        let mut subset =
            Subset::parse(kind, parameters).map_err(|outcome| RecordError::with(400, outcome))?;
        // No rows are asked for by `_count=0` as by `_summary=count` (R4, section 3.1.1.4.4).
        let is_none = |name: &str, value: &str| name == "_count" && value == "0";
        let (given, others) = parameters
            .iter()
            .cloned()
            .partition(|(name, value)| Subset::is_parameter(name) || is_none(name, value));
        if parameters.iter().any(|(name, value)| is_none(name, value)) {
            subset = Some(Subset::Count);
        }
        Ok(Self {
            subset,
            given,
            others,
        })
    }
    /// Makes a query ask for it. What is only counted needs no rows; each is looked at all the same,
    /// since a count tells nothing that a list would not.
    pub(crate) fn ask(&self, query: &mut SearchQuery) {
        query.used.extend(self.given.iter().cloned());
        if self.is_count() {
            query.total = true;
            query.count = 0;
        }
    }
    /// Whether rows are to be counted and not shown.
    pub(crate) fn is_count(&self) -> bool {
        self.subset == Some(Subset::Count)
    }
    /// The parameters that say which part, for links.
    pub(crate) fn given(&self) -> &[(String, String)] {
        &self.given
    }
    /// Leaves of a resource what is shown.
    pub(crate) fn apply(&self, resource: &mut Resource) {
        if let Some(subset) = &self.subset {
            subset.apply(resource);
        }
    }
    /// Whether all of each row is shown, as it is stored.
    pub(crate) fn is_whole(&self) -> bool {
        self.subset.is_none()
    }
    /// What is shown of a row, as JSON.
    pub(crate) fn of_row<'r>(&self, row: &'r Versioned) -> Cow<'r, [u8]> {
        match self.subset {
            None => row.json(),
            Some(_) => Cow::Owned(self.json(&row.resource)),
        }
    }
    /// What is shown of a resource, as JSON.
    pub(crate) fn json(&self, resource: &Resource) -> Vec<u8> {
        if self.subset.is_none() {
            return resource.to_json();
        }
        let mut resource = resource.clone();
        self.apply(&mut resource);
        resource.to_json()
    }
    /// The same of a resource that comes with what was searched for; `_elements` names those of the
    /// type that is searched.
    pub(crate) fn json_of_included(&self, resource: &Resource) -> Vec<u8> {
        match self.subset {
            Some(Subset::Elements(_)) => resource.to_json(),
            _ => self.json(resource),
        }
    }
    /// A body with what is shown of it.
    fn of_answer(&self, mut answer: Answer) -> Result<Answer, RecordError> {
        if self.is_count() {
            let words = "`count` is for searches and histories";
            return Err(RecordError::with(
                400,
                OperationOutcome::at(IssueCode::Value, words, "_summary"),
            ));
        }
        if self.subset.is_some() {
            let resource = Resource::parse(&answer.body);
            let mut resource = resource.map_err(|outcome| RecordError::with(500, outcome))?;
            self.apply(&mut resource);
            answer.body = resource.to_json();
        }
        Ok(answer)
    }
}

impl Record {
    /// `read`, with `_summary` or `_elements` among the parameters.
    ///
    /// # Errors
    /// As [`Record::read`]; 400 for a part that there isn't.
    pub async fn read_part(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        let part = Part::of(Some(kind), parameters)?;
        part.of_answer(self.read(caller, kind, id).await?)
    }

    /// `vread`, with `_summary` or `_elements` among the parameters.
    ///
    /// # Errors
    /// As [`Record::version`]; 400 for a part that there isn't.
    pub async fn version_part(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
        version: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        let part = Part::of(Some(kind), parameters)?;
        part.of_answer(self.version(caller, kind, id, version).await?)
    }
}

//! Which patient's emergency a request is about, where somebody has access to several: the one whose a resource
//! is, or whom a search names.
use fhir::ResourceType;
use trust::Purpose;

use crate::write::wrap;
use crate::{Caller, Record, RecordError};

impl Record {
    /// Whose a resource is that is asked for by its id, as far as the address says; in an emergency, as far as
    /// who asks has access to them.
    pub(crate) async fn whose(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
    ) -> Result<Option<String>, RecordError> {
        let own = self.own_patient(kind, id);
        if own.is_some() || caller.purpose != Purpose::Emergency {
            return Ok(own);
        }
        let identity = self.trust.identity();
        let found = identity.emergency_about(&caller.agent, kind, id).await;
        Ok(found.map_err(wrap(caller))?.map(|access| access.patient))
    }

    /// Some patient of an emergency, where it is not known yet which: whether somebody may at all is the same
    /// for each.
    pub(crate) async fn anybodys(&self, caller: &Caller) -> Result<Option<String>, RecordError> {
        if caller.purpose != Purpose::Emergency {
            return Ok(None);
        }
        let found = self.trust.identity().newest_emergency(&caller.agent).await;
        Ok(found.map_err(wrap(caller))?.map(|access| access.patient))
    }
}

/// In an emergency, the patient whom a search names.
pub(crate) fn named_in(
    caller: &Caller,
    kind: Option<ResourceType>,
    parameters: &[(String, String)],
) -> Option<String> {
    (caller.purpose == Purpose::Emergency)
        .then(|| named_patient(kind, parameters))
        .flatten()
}

/// The one patient whom parameters of a search name by id: `patient=`, `subject=Patient/…`, `_id=` of a `Patient`.
#[must_use]
pub fn named_patient(
    kind: Option<ResourceType>,
    parameters: &[(String, String)],
) -> Option<String> {
    parameters.iter().find_map(|(name, value)| {
        let (name, modifier) = name
            .split_once(':')
            .map_or((name.as_str(), None), |(name, modifier)| {
                (name, Some(modifier))
            });
        let of_type = modifier == Some("Patient");
        if modifier.is_some() && !of_type {
            return None;
        }
        let bare =
            of_type || name == "patient" || name == "_id" && kind == Some(ResourceType::Patient);
        let id = match value.strip_prefix("Patient/") {
            Some(id) if !name.contains('.') => id,
            _ if bare => value,
            _ => return None,
        };
        fhir::is_id(id).then(|| id.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_is_named_by_id() {
        let named = |kind, name: &str, value: &str| {
            named_patient(
                Some(kind),
                &[("code".into(), "x".into()), (name.into(), value.into())],
            )
        };
        let observation = ResourceType::Observation;
        for (name, value, is_named) in [
            ("patient", "p", true),
            ("patient", "Patient/p", true),
            ("subject", "Patient/p", true),
            ("subject:Patient", "p", true),
            ("subject", "p", false),
            ("patient:missing", "true", false),
            ("patient", "p,q", false),
            ("patient.name", "Patient/p", false),
            ("_id", "p", false),
        ] {
            let found = named(observation, name, value);
            assert_eq!(found.as_deref(), is_named.then_some("p"), "{name}={value}");
        }
        assert_eq!(
            named(ResourceType::Patient, "_id", "p").as_deref(),
            Some("p")
        );
    }
}

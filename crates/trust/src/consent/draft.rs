//! A consent that somebody drafts in a form: one word, for some, about some, as a `Consent` of FHIR R4.
use fhir::{Resource, ResourceType, date};
use serde_json::{Map, Value, json};

use super::{ACT_CODE, about_privacy, nested};
use crate::Purpose;

/// Types of resources that a draft can be about.
const CLASSES: [ResourceType; 28] = [
    ResourceType::AllergyIntolerance,
    ResourceType::Appointment,
    ResourceType::CarePlan,
    ResourceType::Claim,
    ResourceType::Communication,
    ResourceType::Composition,
    ResourceType::Condition,
    ResourceType::Coverage,
    ResourceType::DiagnosticReport,
    ResourceType::DocumentReference,
    ResourceType::Encounter,
    ResourceType::ExplanationOfBenefit,
    ResourceType::FamilyMemberHistory,
    ResourceType::ImagingStudy,
    ResourceType::Immunization,
    ResourceType::Media,
    ResourceType::MedicationAdministration,
    ResourceType::MedicationDispense,
    ResourceType::MedicationRequest,
    ResourceType::MedicationStatement,
    ResourceType::Observation,
    ResourceType::Procedure,
    ResourceType::QuestionnaireResponse,
    ResourceType::RiskAssessment,
    ResourceType::ServiceRequest,
    ResourceType::Specimen,
    ResourceType::Task,
    ResourceType::VisionPrescription,
];
/// The most of one list: forms offer fewer.
const LIST_MAX: usize = 100;

/// What somebody wants said.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Whether it permits; else it denies.
    pub permits: bool,
    /// `Type/id` of whom it is for; none: everybody.
    pub actors: Vec<String>,
    /// Of a denial: whom it is not for.
    pub except: Vec<String>,
    /// Types of resources that it is about; none: all.
    pub classes: Vec<ResourceType>,
    /// Labels (HL7 v3 `ActCode`) that it is about; none: whatever they are.
    pub labels: Vec<String>,
    /// `Type/id` of the one resource that it is about.
    pub instance: Option<String>,
    /// Whether it is about what belongs to that resource, too: what refers to it, and what it refers to.
    pub related: bool,
    /// Purposes that it is for; none: any.
    pub purposes: Vec<Purpose>,
    /// The first day on which it holds.
    pub from: Option<String>,
    /// The last one.
    pub until: Option<String>,
    /// The name of the organization that agrees to keep to it.
    pub agreed_by: Option<String>,
    /// Whether the patient gives it by themselves.
    pub by_patient: bool,
}

impl Draft {
    /// The consent, without an id.
    ///
    /// # Errors
    /// In words, what doesn't fit together.
    pub fn consent(&self, patient: &str, now_ms: u64) -> Result<Resource, String> {
        self.check()?;
        let narrow = self.narrowing()?;
        let is_of_part =
            !(self.classes.is_empty() && self.labels.is_empty() && self.instance.is_none());
        let typed = |kind: &str, members: &Map<String, Value>| {
            let mut provision = Map::from_iter([("type".to_owned(), json!(kind))]);
            provision.extend(members.clone());
            provision
        };
        let provision = if self.permits && is_of_part {
            // A permit of a part would deny all the rest. An exception that is as wide as the denial around it
            // permits this part, and says nothing of any other.
            let mut around = typed("deny", &narrow);
            around.insert("provision".to_owned(), json!([typed("permit", &narrow)]));
            around
        } else if self.permits {
            typed("permit", &narrow)
        } else {
            let mut deny = typed("deny", &narrow);
            if !self.except.is_empty() {
                let except = json!([{"type": "permit", "actor": actors(&self.except)}]);
                deny.insert("provision".to_owned(), except);
            }
            deny
        };
        let category =
            json!({"system": "http://loinc.org", "code": "59284-0", "display": "Consent Document"});
        let mut consent = about_privacy(patient, &category, now_ms);
        if let Some(name) = &self.agreed_by {
            let keeper = json!([{"resourceType": "Organization", "id": "keeper", "name": name}]);
            consent.set("contained", keeper);
        }
        if self.by_patient {
            let whose = format!("Patient/{patient}");
            consent.set("performer", json!([{"reference": whose}]));
        }
        if let Some(name) = &self.agreed_by {
            consent.set(
                "organization",
                json!([{"reference": "#keeper", "display": name}]),
            );
        }
        let rule = if self.permits { "OPTIN" } else { "OPTOUT" };
        consent.set(
            "policyRule",
            json!({"coding": [{"system": ACT_CODE, "code": rule}]}),
        );
        consent.set("provision", Value::Object(provision));
        Ok(consent)
    }

    fn check(&self) -> Result<(), String> {
        let counts = [
            self.actors.len(),
            self.except.len(),
            self.classes.len(),
            self.labels.len(),
        ];
        if counts.iter().any(|count| *count > LIST_MAX) {
            return Err(format!("No list can have more than {LIST_MAX} entries."));
        }
        if self.permits && !self.labels.is_empty() && self.classes == [ResourceType::Binary] {
            return Err(
                "What files are about is not known, so they can't be permitted by it.".to_owned(),
            );
        }
        if self.permits && !self.except.is_empty() {
            return Err("Exceptions are for what is denied.".to_owned());
        }
        let references = self.actors.iter().chain(&self.except).chain(&self.instance);
        for reference in references {
            let found = fhir::Reference::relative(reference);
            if found.is_none_or(|(kind, id)| *reference != format!("{kind}/{id}")) {
                return Err("An entry or a person is named as Type/id.".to_owned());
            }
        }
        Ok(())
    }

    fn narrowing(&self) -> Result<Map<String, Value>, String> {
        let mut narrow = Map::new();
        let day = |text: &Option<String>| {
            let day = text.as_deref().map(|text| {
                let found = date::parse(text).filter(|_| text.len() == 10);
                found.ok_or("A day is written as in 2026-01-31.")
            });
            day.transpose()
        };
        let (from, until) = (day(&self.from)?, day(&self.until)?);
        if let (Some(from), Some(until)) = (&from, &until)
            && until.end_ms <= from.start_ms
        {
            return Err("The last day is before the first.".to_owned());
        }
        let mut period = Map::new();
        let mut bound = |name: &str, text: &Option<String>| {
            if let Some(text) = text {
                period.insert(name.to_owned(), json!(text));
            }
        };
        bound("start", &self.from);
        bound("end", &self.until);
        let mut put = |name: &str, value: Value| {
            let is_empty = match &value {
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                _ => false,
            };
            if !is_empty {
                narrow.insert(name.to_owned(), value);
            }
        };
        put("period", Value::Object(period));
        put("actor", actors(&self.actors));
        let label = |code: &String| json!({"system": ACT_CODE, "code": code});
        put("securityLabel", self.labels.iter().map(label).collect());
        let purposes = self.purposes.iter().map(|purpose| purpose.coding());
        put("purpose", purposes.collect());
        // What is in a file can't be told. A permit by label would hide files otherwise, because what may be
        // meant counts for the denial around it.
        let by_label = self.permits && !self.labels.is_empty();
        let classes = if by_label && self.classes.is_empty() {
            CLASSES.as_slice()
        } else {
            &self.classes
        };
        let classes = classes
            .iter()
            .filter(|kind| !(by_label && **kind == ResourceType::Binary));
        let class = |kind: &ResourceType| json!({"system": "http://hl7.org/fhir/resource-types", "code": kind.name()});
        put("class", classes.map(class).collect());
        let data = |reference: &String| json!({"meaning": if self.related { "related" } else { "instance" }, "reference": {"reference": reference}});
        put("data", self.instance.iter().map(data).collect());
        Ok(narrow)
    }
}

fn actors(references: &[String]) -> Value {
    let role = json!({"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
        "code": "IRCP",
    }]});
    references
        .iter()
        .map(|reference| json!({"role": role, "reference": {"reference": reference}}))
        .collect()
}

/// The first moment at which everything that a consent says has begun; `None` for the beginning of time.
#[must_use]
pub fn begins_ms(consent: &Resource) -> Option<i64> {
    fn latest(provision: &Value) -> Option<i64> {
        let start = provision
            .get("period")
            .and_then(|period| period.get("start"));
        let own = start
            .and_then(Value::as_str)
            .and_then(date::parse)
            .map(|date| date.start_ms);
        own.max(nested(provision).filter_map(latest).max())
    }
    latest(consent.get("provision")?)
}

#[cfg(test)]
mod tests;

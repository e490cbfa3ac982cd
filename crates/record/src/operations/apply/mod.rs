//! `$apply`: what a `PlanDefinition` or an `ActivityDefinition` means for one patient, now.
//!
//! The definitions that it leads to, whom it is for and what its actions ask of the record are read first, each as a
//! read or search of the caller; then everything is worked out without looking at the store again, and nothing is
//! written. Start reading at `plan.rs`.

mod activity;
mod plan;
#[cfg(test)]
mod tests;
mod values;
mod when;

use fhir::path::{Budget, PathError};
use fhir::search::SearchQuery;
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use trust::Action;

use self::values::{Context, GIVEN, Input, escaped, input};
use super::{answer, refuse};
use crate::write::{HEAVY_BYTES, check_type, heavy, wrap};
use crate::{Answer, Caller, Record, RecordError};

/// The most actions of a plan, with those of the plans in it. The largest of R4's examples has 37.
pub(super) const ACTIONS_MAX: usize = 500;
/// How deep groups stand in each other, and plans.
pub(super) const DEPTH_MAX: usize = 8;
/// The most definitions that a plan leads to.
const DEFINITIONS_MAX: usize = 100;
/// The most inputs that the actions of a plan ask for, and the most rows of each.
pub(super) const INPUTS_MAX: usize = 20;
const ROWS_MAX: usize = 200;
/// The most actions and inputs that are looked at to find what a plan leads to: more than are carried out, as
/// conditions leave some out and a plan that is named twice is looked at twice.
const LOOKED_AT_MAX: usize = 20 * ACTIONS_MAX;
/// What all the expressions of a definition may cost, and the bytes of what they give and what is made of it: twice
/// what a single one may elsewhere.
const STEPS_MAX: u64 = 20_000_000;
const BYTES_MAX: u64 = 64 << 20;

/// Why a definition can't be applied.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub(super) code: IssueCode,
    /// The element of the definition.
    pub(super) place: String,
    /// In words, without anything of the patient's.
    pub(super) words: String,
}

pub(super) fn fault(code: IssueCode, place: &str, words: impl Into<String>) -> Fault {
    Fault {
        code,
        place: place.to_owned(),
        words: words.into(),
    }
}

/// Why an expression gives nothing.
fn failed(place: &str, words: &str, error: &PathError) -> Fault {
    let code = if error.is_too_costly {
        IssueCode::TooCostly
    } else {
        IssueCode::Invalid
    };
    fault(code, place, format!("{words}: {error}"))
}

impl From<Fault> for RecordError {
    fn from(fault: Fault) -> Self {
        let outcome = OperationOutcome::at(fault.code, fault.words, fault.place);
        Self::with(422, outcome)
    }
}

/// How a definition is referred to: its address with its version, or where it lies.
fn canonical_of(definition: &Value) -> Option<String> {
    let text = |name: &str| definition.get(name).and_then(Value::as_str);
    match (text("url"), text("version")) {
        (Some(url), Some(version)) => Some(format!("{url}|{version}")),
        (Some(url), None) => Some(url.to_owned()),
        (None, _) => Some(format!("{}/{}", text("resourceType")?, text("id")?))
            .filter(|_| definition.get("meta").is_some()),
    }
}

/// When the subject was born, for ages.
fn born_ms(context: &Context) -> Option<i64> {
    let born = context.subject.1.get("birthDate").and_then(Value::as_str)?;
    Some(fhir::date::parse(born)?.start_ms)
}

/// What is asked, wherever it stands.
#[derive(Debug, Default)]
struct Asked {
    definition: Option<Value>,
    /// `subject`, `encounter`, `practitioner`, `organization`.
    references: HashMap<&'static str, String>,
    given: Vec<(&'static str, Value)>,
}

/// The parameters that are references, each with the types that it can be of.
const REFERENCES: [(&str, &[&str]); 4] = [
    ("subject", &["Patient"]),
    ("encounter", &["Encounter"]),
    ("practitioner", &["Practitioner", "PractitionerRole"]),
    ("organization", &["Organization"]),
];

impl Asked {
    fn refer(&mut self, name: &'static str, text: &str, base: &str) -> Result<(), RecordError> {
        let of_here = text
            .strip_prefix(base)
            .and_then(|rest| rest.strip_prefix('/'));
        let reference = of_here.unwrap_or(text);
        let types = REFERENCES.iter().find(|(of, _)| *of == name);
        let types = types.map_or(&[][..], |(_, types)| types);
        let parsed = fhir::Reference::relative(reference);
        if parsed.is_none_or(|(kind, _)| !types.contains(&kind.name())) {
            let words = format!(
                "is a reference to a resource that is here: {}/ID",
                types.join("/ID, ")
            );
            return Err(refuse(IssueCode::Value, name, words));
        }
        if self.references.insert(name, reference.to_owned()).is_some() {
            let words = "is given twice; a definition is applied to one";
            return Err(refuse(IssueCode::NotSupported, name, words));
        }
        Ok(())
    }

    fn of(
        kind: ResourceType,
        parameters: &[(String, String)],
        body: &[u8],
        base: &str,
    ) -> Result<Self, RecordError> {
        let mut asked = Self::default();
        let definition = match kind.name() {
            "PlanDefinition" => "planDefinition",
            _ => "activityDefinition",
        };
        let unknown = |name: &str| {
            let words = format!(
                "is no parameter of $apply here; there are {definition}, subject, encounter, practitioner, organization, {}",
                GIVEN.join(", ")
            );
            refuse(IssueCode::NotSupported, name, words)
        };
        let named = |name: &str| {
            REFERENCES
                .iter()
                .find(|(of, _)| *of == name)
                .map(|(of, _)| *of)
        };
        for (name, value) in parameters {
            match named(name) {
                Some(name) => asked.refer(name, value, base)?,
                None => return Err(unknown(name)),
            }
        }
        if body.is_empty() {
            return Ok(asked);
        }
        let body = super::parameters(body)?;
        let list = body.get("parameter").and_then(Value::as_array);
        for one in list.into_iter().flatten() {
            let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
            if name == definition {
                let value = one.get("resource").cloned();
                let is_one = value
                    .as_ref()
                    .is_some_and(|value| value["resourceType"] == kind.name());
                if !is_one || asked.definition.is_some() {
                    let words = format!("is one {kind}");
                    return Err(refuse(IssueCode::Value, name, words));
                }
                asked.definition = value;
            } else if let Some(name) = named(name) {
                let text = one
                    .get("valueString")
                    .or_else(|| one.get("valueReference")?.get("reference"));
                let text = text
                    .and_then(Value::as_str)
                    .ok_or_else(|| refuse(IssueCode::Value, name, "is a reference, as a string"))?;
                asked.refer(name, text, base)?;
            } else if let Some(name) = GIVEN.iter().find(|given| **given == name) {
                let value = one.get("valueCodeableConcept").cloned();
                let value =
                    value.ok_or_else(|| refuse(IssueCode::Value, name, "is a CodeableConcept"))?;
                asked.given.push((name, value));
            } else {
                return Err(unknown(name));
            }
        }
        Ok(asked)
    }
}

impl Record {
    /// `$apply` of a `PlanDefinition` (to a `CarePlan` that contains a `RequestGroup` and the requests of its
    /// actions) or of an `ActivityDefinition` (to the request itself), at the type with the definition in the body or
    /// at an instance. Nothing is written.
    ///
    /// # Errors
    /// As [`Record::read`] of all that is named; 400; 422 for what definitions ask that is not done here, is not
    /// there, or can't be, with the element.
    pub async fn apply(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: Option<&str>,
        parameters: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer, RecordError> {
        let asked = Asked::of(kind, parameters, body, &caller.base)?;
        let name = if kind.name() == "PlanDefinition" {
            "planDefinition"
        } else {
            "activityDefinition"
        };
        let definition = match (id, asked.definition) {
            (Some(_), Some(_)) => {
                let words = "goes with $apply of the type; here the address says which";
                return Err(refuse(IssueCode::Invalid, name, words));
            }
            (None, None) => {
                let words = "is missing; it goes with the address or stands in the body";
                return Err(refuse(IssueCode::Required, name, words));
            }
            (Some(id), None) => self.whole(caller, kind, id).await?,
            (None, Some(value)) => {
                let resource = Resource::from_value(value);
                let resource = resource.map_err(|outcome| RecordError::with(400, outcome))?;
                check_type(kind, &resource)?;
                // What is stored was looked at when it was written.
                let issues = fhir::validate::check(&resource);
                if !issues.is_empty() {
                    return Err(RecordError::with(422, OperationOutcome { issues }));
                }
                resource.into_value()
            }
        };
        let of = |name: &str| asked.references.get(name).map(String::as_str);
        let Some(subject) = of("subject") else {
            let words = "is missing: subject=Patient/ID";
            return Err(refuse(IssueCode::Required, "subject", words));
        };
        let subject = (subject.to_owned(), self.referred(caller, subject).await?);
        let mut context = Context {
            now_ms: self.now_ms(),
            subject,
            encounter: None,
            practitioner: None,
            organization: None,
            given: asked.given,
            definitions: HashMap::new(),
            inputs: HashMap::new(),
            may_lack_rows: false,
            budget: Budget::new(STEPS_MAX, BYTES_MAX),
        };
        if let Some(encounter) = of("encounter") {
            let found = self.referred(caller, encounter).await?;
            let whose = found["subject"]["reference"].as_str();
            if whose != Some(context.subject.0.as_str()) {
                let words = "is no encounter of the subject";
                return Err(refuse(IssueCode::BusinessRule, "encounter", words));
            }
            context.encounter = Some((encounter.to_owned(), found));
        }
        if let Some(practitioner) = of("practitioner") {
            let found = self.referred(caller, practitioner).await?;
            context.practitioner = Some((practitioner.to_owned(), found));
        }
        if let Some(organization) = of("organization") {
            let found = self.referred(caller, organization).await?;
            context.organization = Some((organization.to_owned(), found));
        }
        check_subject(&definition)?;
        check_in_force(&definition, kind.name())?;
        if kind.name() == "PlanDefinition" {
            self.gather(caller, &mut context, &definition).await?;
        }
        // However short a definition is, its expressions may take long.
        let made = heavy(HEAVY_BYTES, move || applied(&context, &definition)).await??;
        let made = Resource::from_value(made).map_err(|outcome| RecordError::with(422, outcome))?;
        let issues = fhir::validate::check(&made);
        if !issues.is_empty() {
            return Err(RecordError::with(422, OperationOutcome { issues }));
        }
        Ok(answer(made.to_json()))
    }

    /// A resource as a whole. On a part of one nothing can be decided.
    async fn whole(
        &self,
        caller: &Caller,
        kind: ResourceType,
        id: &str,
    ) -> Result<Value, RecordError> {
        let read = self.read(caller, kind, id).await?;
        let resource = Resource::parse(&read.body);
        let resource = resource.map_err(|outcome| RecordError::with(500, outcome))?;
        if fhir::subset::is_subsetted(&resource) {
            return Err(in_part());
        }
        Ok(resource.into_value())
    }

    async fn referred(&self, caller: &Caller, reference: &str) -> Result<Value, RecordError> {
        let Some((kind, id)) = fhir::Reference::relative(reference) else {
            return Err(crate::interact::not_found());
        };
        self.whole(caller, kind, id).await
    }

    /// Reads what a plan leads to: definitions, those of the plans in it too, and what actions ask of the record.
    async fn gather(
        &self,
        caller: &Caller,
        context: &mut Context,
        plan: &Value,
    ) -> Result<(), RecordError> {
        let mut wanted = Wanted::default();
        wanted.look(plan)?;
        // In their order, so that it is the first that is missing of which is told.
        let mut next = 0;
        while let Some((canonical, place)) = wanted.definitions.get(next).cloned() {
            next += 1;
            if context.definitions.contains_key(&canonical) {
                continue;
            }
            if context.definitions.len() >= DEFINITIONS_MAX {
                let words = format!("leads to more than {DEFINITIONS_MAX} definitions");
                return Err(fault(IssueCode::TooLong, "PlanDefinition", words).into());
            }
            let Some(found) = self.canonical(caller, &canonical).await? else {
                let words = "names no definition that is here for you";
                return Err(fault(IssueCode::NotFound, &place, words).into());
            };
            check_in_force(&found, &place)?;
            if found["resourceType"] == "PlanDefinition" {
                check_subject(&found)?;
                wanted.look(&found)?;
            }
            context.definitions.insert(canonical, found);
        }
        if wanted.inputs.len() > INPUTS_MAX {
            let words = format!("asks for more than {INPUTS_MAX} inputs");
            return Err(fault(IssueCode::TooCostly, "PlanDefinition", words).into());
        }
        if !wanted.inputs.is_empty() {
            context.may_lack_rows = self.may_lack_rows(caller, &context.subject.0).await?;
        }
        for input in wanted.inputs {
            let found = self.rows(caller, &context.subject.0, &input).await?;
            context.inputs.insert(input, found);
        }
        Ok(())
    }

    /// Whether rows of the subject's may be kept from the caller, which then look as if they weren't there. Whether
    /// there are any is not told.
    async fn may_lack_rows(&self, caller: &Caller, subject: &str) -> Result<bool, RecordError> {
        let patient = subject.split_once('/').map_or(subject, |(_, id)| id);
        let whose = Some(patient.to_owned());
        let permit = self.permit(caller, Action::Search, None, whose).await?;
        let kept = self.vault().kept_from(&permit, patient, caller.purpose);
        Ok(!kept.await.map_err(wrap(caller))?.is_nothing())
    }

    /// A definition by its canonical address: the version that is named, or the newest one that is in force, which
    /// is a draft where there is none but drafts.
    async fn canonical(
        &self,
        caller: &Caller,
        canonical: &str,
    ) -> Result<Option<Value>, RecordError> {
        let (url, version) = match canonical.split_once('|') {
            Some((url, version)) => (url, Some(version)),
            None => (canonical, None),
        };
        let kinds = [
            ResourceType::ActivityDefinition,
            ResourceType::PlanDefinition,
            ResourceType::Questionnaire,
        ];
        let of_here = url
            .strip_prefix(caller.base.as_str())
            .and_then(|rest| rest.strip_prefix('/'));
        if let Some((kind, id)) = fhir::Reference::relative(of_here.unwrap_or(url))
            && kinds.contains(&kind)
        {
            return match self.whole(caller, kind, id).await {
                Err(error) if matches!(error.status, 404 | 410) => Ok(None),
                other => other.map(Some),
            };
        }
        let named = |kind: &ResourceType| url.contains(&format!("/{kind}/"));
        let mut sorted = kinds;
        sorted.sort_by_key(|kind| !named(kind));
        for kind in sorted {
            let mut parameters = vec![("url".to_owned(), escaped(url))];
            if let Some(version) = version {
                parameters.push(("version".to_owned(), escaped(version)));
            }
            let rows = self.found(caller, kind, &parameters, None).await?;
            let best = match version {
                Some(_) => rows.into_iter().next(),
                // Newest first, of those that are equally in force.
                None => best(rows),
            };
            if best.is_some() {
                return Ok(best);
            }
        }
        Ok(None)
    }

    /// What an input finds in the subject's record.
    async fn rows(
        &self,
        caller: &Caller,
        subject: &str,
        input: &Input,
    ) -> Result<Value, RecordError> {
        let patient = subject.split_once('/').map(|(_, id)| id.to_owned());
        let mut parameters = input.parameters.clone();
        parameters.push(("patient".to_owned(), subject.to_owned()));
        let rows = self.found(caller, input.kind, &parameters, patient).await?;
        Ok(Value::Array(rows))
    }

    /// The rows of a search of the caller, newest first, as they are whole.
    async fn found(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
        patient: Option<String>,
    ) -> Result<Vec<Value>, RecordError> {
        let permit = self
            .permit(caller, Action::Search, Some(kind), patient)
            .await?;
        let mut parameters = parameters.to_vec();
        parameters.push(("_count".to_owned(), ROWS_MAX.to_string()));
        let mut query = SearchQuery::parse(kind, &parameters, false)
            .map_err(|outcome| RecordError::with(422, outcome))?;
        query.at(self.now_ms());
        query.of_server(&caller.base);
        let page = self.vault().search(&permit, &query, None).await;
        let page = page.map_err(wrap(caller))?;
        if page.next.is_some() {
            let words =
                format!("an input has more than {ROWS_MAX} rows, so a part of them would decide");
            return Err(RecordError::new(422, IssueCode::TooCostly, words));
        }
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            if fhir::subset::is_subsetted(&row.resource) {
                return Err(in_part());
            }
            rows.push(row.resource.into_value());
        }
        Ok(rows)
    }
}

/// The first of those that are active, else of the drafts.
fn best(rows: Vec<Value>) -> Option<Value> {
    let rank = |row: &Value| match row["status"].as_str() {
        Some("active") => Some(0),
        Some("draft") => Some(1),
        _ => None,
    };
    let rows = rows.into_iter().filter(|row| rank(row).is_some());
    rows.min_by_key(|row| rank(row))
}

/// What was retired is not applied any more, by whatever name.
fn check_in_force(definition: &Value, place: &str) -> Result<(), Fault> {
    check_modifiers(definition, place)?;
    if definition["status"] != "retired" {
        return Ok(());
    }
    let words = "is a definition that is retired, and those are not applied";
    Err(fault(IssueCode::BusinessRule, place, words))
}

/// Nobody may pass over a `modifierExtension` that they don't know, and none is known here.
pub(super) fn check_modifiers(holder: &Value, place: &str) -> Result<(), Fault> {
    if holder.get("modifierExtension").is_none() {
        return Ok(());
    }
    let place = format!("{place}.modifierExtension");
    let words = "may change what all the rest means, and is not known here";
    Err(fault(IssueCode::NotSupported, &place, words))
}

fn in_part() -> RecordError {
    let words = "only a part of what has to be looked at is shown to you, and on a part nothing can be decided";
    RecordError::new(403, IssueCode::Forbidden, words)
}

/// Definitions are applied to patients.
fn check_subject(definition: &Value) -> Result<(), RecordError> {
    let kind = definition["resourceType"].as_str().unwrap_or_default();
    let place = format!("{kind}.subject");
    let no = || {
        let words =
            "is something else than a patient, and definitions are applied to patients here";
        Err(fault(IssueCode::NotSupported, &place, words).into())
    };
    if definition.get("subjectReference").is_some() {
        return no();
    }
    let codings = definition["subjectCodeableConcept"]["coding"].as_array();
    match codings {
        Some(codings) if codings.iter().all(|one| one["code"] != "Patient") => no(),
        _ => Ok(()),
    }
}

fn applied(context: &Context, definition: &Value) -> Result<Value, Fault> {
    if definition["resourceType"] == "PlanDefinition" {
        return plan::care_plan(context, definition);
    }
    let mut notes = Vec::new();
    let canonical = canonical_of(definition);
    let scope = values::Scope::default();
    let worked = context.worked_out(definition, &["contained"], &scope, "ActivityDefinition")?;
    let mut made = activity::activity(
        context,
        &scope,
        &worked,
        canonical.as_deref(),
        None,
        "ActivityDefinition",
        &mut notes,
    )?;
    plan::bring_along(context, definition, &mut made)?;
    if !notes.is_empty() {
        let note = |words: String| serde_json::json!({"url": NOT_CARRIED, "valueString": words});
        made["extension"] = notes.into_iter().map(note).collect();
    }
    Ok(made)
}

/// The extension that says what of an activity has no place in the resource that is made of it.
const NOT_CARRIED: &str = "urn:cairn:not-carried";

/// What plans lead to.
#[derive(Default)]
struct Wanted {
    /// Each with the element that names it.
    definitions: Vec<(String, String)>,
    inputs: HashSet<Input>,
    /// How many actions and inputs were looked at, each as often as it is named.
    looked_at: usize,
}

impl Wanted {
    fn look(&mut self, plan: &Value) -> Result<(), Fault> {
        self.actions(plan, plan, "PlanDefinition", 0)
    }

    fn count(&mut self, place: &str) -> Result<(), Fault> {
        self.looked_at += 1;
        if self.looked_at <= LOOKED_AT_MAX {
            return Ok(());
        }
        let words = format!(
            "leads to more than {LOOKED_AT_MAX} actions and inputs, those of plans that are named again counted again"
        );
        Err(fault(IssueCode::TooLong, place, words))
    }

    fn actions(
        &mut self,
        plan: &Value,
        holder: &Value,
        place: &str,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            // Whoever applies it says so.
            return Ok(());
        }
        let list = holder.get("action").and_then(Value::as_array);
        for (number, action) in list.into_iter().flatten().enumerate().take(ACTIONS_MAX) {
            let place = format!("{place}.action[{number}]");
            self.count(&place)?;
            if let Some(canonical) = action.get("definitionCanonical").and_then(Value::as_str) {
                match canonical.strip_prefix('#') {
                    None => {
                        let place = format!("{place}.definitionCanonical");
                        self.definitions.push((canonical.to_owned(), place));
                    }
                    Some(id) => {
                        let inner = plan::contained(plan, id);
                        let inner = inner.filter(|inner| inner["resourceType"] == "PlanDefinition");
                        if let Some(inner) = inner {
                            self.actions(inner, inner, &place, depth + 1)?;
                        }
                    }
                }
            }
            let inputs = action.get("input").and_then(Value::as_array);
            for (number, requirement) in inputs.into_iter().flatten().enumerate() {
                let place = format!("{place}.input[{number}]");
                self.count(&place)?;
                self.inputs
                    .extend(input(requirement, &place)?.map(|(_, input)| input));
            }
            self.actions(plan, action, &place, depth + 1)?;
        }
        Ok(())
    }
}

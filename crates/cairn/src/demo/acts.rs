//! What hospital and patients do in the demo, as FHIR interactions.
//!
//! Everything goes through [`record::Record`], with the rights of who does it: the hospital's EHR (a
//! client) or the patient. Each act can be done again and then changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use fhir::ResourceType;
use ledger::{Ledger, Owner};
use record::{Answer, Caller, PreferReturn, Record, RecordError};
use serde_json::{Value, json};
use trust::conventions::{BODY_WEIGHT, LOINC, TASK_ID_SYSTEM, TASK_SYSTEM};
use trust::{Agent, Purpose, Role};

use crate::store::TENANT;

const SNOMED: &str = "http://snomed.info/sct";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// Whether an act found what it was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// There is nothing to answer or to book yet.
    NotYet,
}

/// Hospital and patients, acting.
pub(super) struct Actors {
    record: Record,
    ledger: Ledger,
    base: String,
    hospital: Agent,
    staff: Agent,
    /// Forms by reference.
    forms: Mutex<HashMap<String, Arc<Value>>>,
}

impl Actors {
    pub(super) fn new(record: Record, ledger: Ledger, base: String) -> Self {
        let agent = |id: &str, name: &str, role| Agent {
            tenant: TENANT,
            id: id.to_owned(),
            name: name.to_owned(),
            role,
            patient: None,
            access: None,
            signed_in: trust::SignedIn::default(),
        };
        Self {
            record,
            ledger,
            base,
            hospital: agent("demo-ehr", "Demo hospital's EHR", Role::Client),
            forms: Mutex::default(),
            staff: agent("demo-night-shift", "Demo night shift", Role::Coordinator),
        }
    }

    fn caller(&self, agent: Agent, purpose: Purpose) -> Caller {
        Caller {
            agent,
            purpose,
            request_id: "demo-driver".to_owned(),
            base: self.base.clone(),
            lenient: false,
            freshness: trust::Freshness::default(),
            prefer_return: PreferReturn::Minimal,
            once: None,
        }
    }

    fn hospital(&self) -> Caller {
        self.caller(self.hospital.clone(), Purpose::Treatment)
    }

    fn patient(&self, patient: &str) -> Caller {
        let agent = Agent {
            tenant: TENANT,
            id: format!("demo-patient-{patient}"),
            name: String::new(),
            role: Role::Patient,
            patient: Some(patient.to_owned()),
            access: None,
            signed_in: trust::SignedIn::default(),
        };
        self.caller(agent, Purpose::PatientRequest)
    }

    async fn search(
        &self,
        who: &Caller,
        kind: ResourceType,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Vec<Value>> {
        Ok(self.search_page(who, kind, parameters).await?.0)
    }

    /// The rows, and the parameters of the next page if there is one.
    async fn search_page(
        &self,
        who: &Caller,
        kind: ResourceType,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let answer = self.record.search(who, kind, &parameters).await?;
        let mut bundle = body(&answer)?;
        let next = bundle["link"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|link| link["relation"] == "next")
            .and_then(|link| link["url"].as_str())
            .map(str::to_owned);
        let Some(entries) = bundle["entry"].as_array_mut() else {
            return Ok((Vec::new(), next));
        };
        Ok((
            entries
                .iter_mut()
                .map(|entry| entry["resource"].take())
                .collect(),
            next,
        ))
    }

    /// Writes a resource that was read, if nobody has changed it meanwhile.
    async fn update(&self, who: &Caller, resource: &Value) -> anyhow::Result<()> {
        let (kind, id) = address(resource)?;
        let version = resource["meta"]["versionId"]
            .as_str()
            .context("a stored resource has a version")?;
        self.record
            .update(who, kind, id, Some(version), &serde_json::to_vec(resource)?)
            .await?;
        Ok(())
    }

    /// Writes a resource of `patient` under an id that depends on `name` only; does nothing if it is there.
    async fn put_once(
        &self,
        who: &Caller,
        patient: &str,
        name: &str,
        mut resource: Value,
        may_be_there: bool,
    ) -> anyhow::Result<()> {
        let id = self.ledger.derive_id(
            TENANT,
            &Owner::Patient(patient.to_owned()),
            &format!("demo/{patient}/{name}"),
        );
        resource["id"] = Value::String(id.clone());
        let (kind, _) = address(&resource)?;
        if may_be_there {
            match self.record.read(who, kind, &id).await {
                Ok(_) => return Ok(()),
                Err(error) if error.status == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.record
            .update(who, kind, &id, None, &serde_json::to_vec(&resource)?)
            .await?;
        Ok(())
    }

    /// The id of the patient with this identifier.
    pub(super) async fn find_patient(
        &self,
        system: &str,
        value: &str,
    ) -> anyhow::Result<Option<String>> {
        let identifier = format!("{system}|{value}");
        let found = self
            .search(
                &self.hospital(),
                ResourceType::Patient,
                &[("identifier", &identifier)],
            )
            .await?;
        Ok(found
            .first()
            .and_then(|patient| patient["id"].as_str())
            .map(str::to_owned))
    }

    /// Up to `limit` adults that are alive, by id.
    pub(super) async fn adults(&self, now_ms: u64, limit: usize) -> anyhow::Result<Vec<String>> {
        // Eighteen years of 365.25 days.
        let born_before_ms = now_ms.saturating_sub(568_024_668_000);
        let born_before = format!("le{}", &fhir::date::instant(born_before_ms)[..10]);
        let found = self
            .search(
                &self.hospital(),
                ResourceType::Patient,
                &[("birthdate", &born_before), ("_count", "200")],
            )
            .await?;
        let mut adults: Vec<String> = found
            .iter()
            .filter(|patient| {
                patient["deceasedDateTime"].is_null() && patient["deceasedBoolean"] != true
            })
            .filter_map(|patient| patient["id"].as_str().map(str::to_owned))
            .collect();
        adults.sort_unstable();
        adults.truncate(limit);
        Ok(adults)
    }

    /// The hospital takes a patient in with heart failure.
    pub(super) async fn admit(&self, patient: &str, name: &str, at_ms: u64) -> anyhow::Result<()> {
        let encounter = json!({
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": { "system": ACT_CODE, "code": "IMP", "display": "inpatient encounter" },
            "subject": { "reference": format!("Patient/{patient}") },
            "period": { "start": fhir::date::instant(at_ms) },
            "reasonCode": [{
                "coding": [{ "system": SNOMED, "code": "84114007", "display": "Heart failure" }],
                "text": "Heart failure",
            }],
        });
        self.put_once(&self.hospital(), patient, name, encounter, true)
            .await
    }

    /// The hospital lets a patient go; returns when that was.
    pub(super) async fn discharge(&self, patient: &str, now_ms: u64) -> anyhow::Result<u64> {
        let who = self.hospital();
        let stays = self
            .search(
                &who,
                ResourceType::Encounter,
                &[("patient", patient), ("_count", "50")],
            )
            .await?;
        let inpatient = |stay: &&Value| stay["class"]["code"] == "IMP";
        if let Some(stay) = stays
            .iter()
            .filter(inpatient)
            .find(|stay| stay["status"] == "in-progress")
        {
            let mut stay = stay.clone();
            stay["status"] = json!("finished");
            stay["period"]["end"] = json!(fhir::date::instant(now_ms));
            self.update(&who, &stay).await?;
            return Ok(now_ms);
        }
        // Done before a crash, then: the newest finished stay says when.
        let ended = stays
            .iter()
            .filter(inpatient)
            .filter_map(|stay| fhir::date::parse(stay["period"]["end"].as_str()?))
            .map(|end| end.start_ms)
            .max();
        match ended.and_then(|end_ms| u64::try_from(end_ms).ok()) {
            Some(end_ms) => Ok(end_ms),
            None => bail!("the patient has no stay to be discharged from"),
        }
    }

    /// The scales at home send a reading.
    pub(super) async fn weight(
        &self,
        patient: &str,
        name: &str,
        at_ms: u64,
        kg: f64,
        may_be_there: bool,
    ) -> anyhow::Result<()> {
        let observation = json!({
            "resourceType": "Observation",
            "status": "final",
            "category": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs",
            }] }],
            "code": { "coding": [{ "system": LOINC, "code": BODY_WEIGHT, "display": "Body weight" }], "text": "Body weight" },
            "subject": { "reference": format!("Patient/{patient}") },
            "effectiveDateTime": fhir::date::instant(at_ms),
            "valueQuantity": {
                "value": (kg * 10.0).round() / 10.0,
                "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg",
            },
        });
        self.put_once(&self.hospital(), patient, name, observation, may_be_there)
            .await
    }

    /// The form that a task asks to be filled in, if it asks for one. Forms never change under their id.
    async fn form_of(&self, task: &Value) -> anyhow::Result<Option<Arc<Value>>> {
        let Some(reference) = form_reference(task) else {
            return Ok(None);
        };
        let known = |forms: &HashMap<String, Arc<Value>>| forms.get(reference).cloned();
        if let Some(form) = self.forms.lock().ok().as_deref().and_then(known) {
            return Ok(Some(form));
        }
        let id = reference
            .strip_prefix("Questionnaire/")
            .with_context(|| format!("{reference} is no form of this record"))?;
        let answer = self
            .record
            .read(&self.hospital(), ResourceType::Questionnaire, id)
            .await?;
        let form = Arc::new(body(&answer)?);
        if let Ok(mut forms) = self.forms.lock() {
            forms.insert(reference.to_owned(), form.clone());
        }
        Ok(Some(form))
    }

    /// The patient answers an open form; `wanted` says which, `answer` what.
    pub(super) async fn answer(
        &self,
        patient: &str,
        now_ms: u64,
        wanted: fn(&Value) -> bool,
        answer: &(dyn Fn(&Value) -> Option<Value> + Sync),
    ) -> anyhow::Result<Outcome> {
        let who = self.patient(patient);
        let parameters = [
            ("patient", patient),
            ("status", "requested"),
            ("_count", "50"),
        ];
        let tasks = self.search(&who, ResourceType::Task, &parameters).await?;
        let mut open = None;
        for task in tasks {
            if let Some(form) = self.form_of(&task).await?
                && wanted(&form)
            {
                open = Some((task, form));
                break;
            }
        }
        let Some((mut task, form)) = open else {
            return Ok(Outcome::NotYet);
        };
        let task_id = task["id"]
            .as_str()
            .context("a stored task has an id")?
            .to_owned();
        let version = task["meta"]["versionId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let me = json!({ "reference": format!("Patient/{patient}") });
        let response = json!({
            "resourceType": "QuestionnaireResponse",
            "identifier": { "system": TASK_ID_SYSTEM, "value": task_id },
            "questionnaire": form_reference(&task),
            "status": "completed",
            "subject": me, "author": me, "source": me,
            "authored": fhir::date::instant(now_ms),
            "item": answers(&form["item"], answer),
        });
        task["status"] = json!("completed");
        let bundle = json!({
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                { "resource": response, "request": { "method": "POST", "url": "QuestionnaireResponse" } },
                { "resource": task, "request": {
                    "method": "PUT", "url": format!("Task/{task_id}"), "ifMatch": format!("W/\"{version}\""),
                } },
            ],
        });
        unless_changed(
            self.record
                .bundle(&who, &serde_json::to_vec(&bundle)?)
                .await,
        )
    }

    /// The patient books the visit that is offered.
    pub(super) async fn book(&self, patient: &str) -> anyhow::Result<Outcome> {
        let who = self.patient(patient);
        let offered = self
            .search(
                &who,
                ResourceType::Appointment,
                &[("patient", patient), ("status", "proposed")],
            )
            .await?;
        let Some(mut visit) = offered.into_iter().next() else {
            return Ok(Outcome::NotYet);
        };
        visit["status"] = json!("booked");
        for participant in visit["participant"].as_array_mut().into_iter().flatten() {
            participant["status"] = json!("accepted");
        }
        let (kind, id) = address(&visit)?;
        let version = visit["meta"]["versionId"].as_str();
        unless_changed(
            self.record
                .update(&who, kind, id, version, &serde_json::to_vec(&visit)?)
                .await,
        )
    }

    /// The patient withdraws consent to messages.
    pub(super) async fn withdraw_consent(&self, patient: &str) -> anyhow::Result<()> {
        let who = self.patient(patient);
        let active = self
            .search(
                &who,
                ResourceType::Consent,
                &[("patient", patient), ("status", "active")],
            )
            .await?;
        for mut consent in active {
            consent["status"] = json!("inactive");
            self.update(&who, &consent).await?;
        }
        Ok(())
    }

    /// The hospital records a death.
    pub(super) async fn death(&self, patient: &str, at_ms: u64) -> anyhow::Result<()> {
        let who = self.hospital();
        let mut resource = body(
            &self
                .record
                .read(&who, ResourceType::Patient, patient)
                .await?,
        )?;
        if resource["deceasedDateTime"].is_null() {
            resource["deceasedDateTime"] = json!(fhir::date::instant(at_ms));
            self.update(&who, &resource).await?;
        }
        Ok(())
    }

    /// The staff work off tasks that nobody has touched since `before_ms`; returns how many.
    pub(super) async fn work_off_tasks(
        &self,
        before_ms: u64,
        limit: usize,
    ) -> anyhow::Result<usize> {
        let who = self.caller(self.staff.clone(), Purpose::Treatment);
        let before = format!("lt{}", fhir::date::instant(before_ms));
        let code = format!("{TASK_SYSTEM}|staff-task");
        let count = limit.to_string();
        let left = self
            .search(
                &who,
                ResourceType::Task,
                &[
                    ("code", &code),
                    ("status", "requested"),
                    ("_lastUpdated", &before),
                    ("_count", &count),
                ],
            )
            .await?;
        let (mut worked, mut failed) = (0, None);
        for mut task in left {
            task["status"] = json!("completed");
            match self.update(&who, &task).await {
                Ok(()) => worked += 1,
                // Somebody came before; it is their task now.
                Err(error) if overtaken(&error) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(worked), Err)
    }
}

fn body(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_slice(&answer.body).context("the record answers in JSON")
}

fn address(resource: &Value) -> anyhow::Result<(ResourceType, &str)> {
    let kind = resource["resourceType"]
        .as_str()
        .and_then(ResourceType::parse);
    kind.zip(resource["id"].as_str())
        .context("a resource has a type and an id")
}

/// Whether a change failed because somebody else came before.
fn overtaken(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<RecordError>()
        .is_some_and(|error| matches!(error.status, 409 | 412))
}

/// A change that somebody else came before is tried again later, on what is there then.
fn unless_changed(result: Result<Answer, RecordError>) -> anyhow::Result<Outcome> {
    match result {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if matches!(error.status, 409 | 412) => Ok(Outcome::NotYet),
        Err(error) => Err(error.into()),
    }
}

/// Which form a task asks to be filled in, as `Questionnaire/ID`.
fn form_reference(task: &Value) -> Option<&str> {
    let is_form = task["code"]["coding"].as_array()?.iter().any(|coding| {
        coding["system"] == TASK_SYSTEM && coding["code"] == "complete-questionnaire"
    });
    let mut inputs = task["input"].as_array()?.iter();
    inputs
        .find_map(|input| input["valueCanonical"].as_str())
        .filter(|_| is_form)
}

/// An answer for each question that `answer` has one for, in the form's own nesting.
fn answers(items: &Value, answer: &(dyn Fn(&Value) -> Option<Value> + Sync)) -> Vec<Value> {
    let mut given = Vec::new();
    for item in items.as_array().into_iter().flatten() {
        let mut given_item = json!({ "linkId": item["linkId"] });
        if item["type"] == "group" {
            given_item["item"] = Value::Array(answers(&item["item"], answer));
        } else if let Some(value) = answer(item) {
            given_item["answer"] = json!([value]);
        } else {
            continue;
        }
        // The question as it was asked, as forms filled in in the portal have it.
        if item["text"].is_string() {
            given_item["text"] = item["text"].clone();
        }
        given.push(given_item);
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_keep_the_form_s_nesting() {
        let items = json!([
            { "linkId": "a", "type": "boolean", "text": "Well?" },
            { "linkId": "g", "type": "group", "item": [{ "linkId": "b", "type": "integer" }, { "linkId": "c", "type": "display" }] },
        ]);
        let given = answers(&items, &|item| match item["type"].as_str() {
            Some("boolean") => Some(json!({ "valueBoolean": true })),
            Some("integer") => Some(json!({ "valueInteger": 4 })),
            _ => None,
        });
        let expected = json!([
            { "linkId": "a", "text": "Well?", "answer": [{ "valueBoolean": true }] },
            { "linkId": "g", "item": [{ "linkId": "b", "answer": [{ "valueInteger": 4 }] }] },
        ]);
        assert_eq!(Value::Array(given), expected);
    }

    #[test]
    fn only_form_tasks_name_a_questionnaire() {
        let task = |code: &str| {
            json!({
                "code": { "coding": [{ "system": TASK_SYSTEM, "code": code }] },
                "input": [{ "valueCanonical": "Questionnaire/1" }],
            })
        };
        assert_eq!(
            form_reference(&task("complete-questionnaire")),
            Some("Questionnaire/1")
        );
        assert_eq!(form_reference(&task("staff-task")), None);
    }
}

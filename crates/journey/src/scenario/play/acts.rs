//! What patients do with forms, and what becomes of visits, as resources of the record.

use super::{Player, resource};
use crate::form::instant;
use crate::scenario::file::When;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use trust::conventions;

impl Player<'_> {
    pub(super) fn answers(
        &mut self,
        step: &str,
        with: &[(String, Value)],
    ) -> Result<Resource, String> {
        let form = self.stage.newest(step, ResourceType::Task)?;
        let definition = self.definition;
        let questionnaire = definition.step(step).and_then(|step| {
            step.kind
                .questionnaire(definition, definition.version, step, &step.id, self.now_ms)
        });
        let questions = questionnaire.as_ref().and_then(|form| form.get("item"));
        let mut items = Vec::new();
        for (id, value) in with {
            let asked = questions
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find(|question| question.get("linkId") == Some(&json!(id)))
                .ok_or_else(|| format!("`{step}` asks no question `{id}`"))?;
            items.push(json!({"linkId": id, "answer": [answer(asked, value)]}));
        }
        let id = self.stage.mint();
        resource(
            json!({
                "status": "completed",
                "identifier": {"system": conventions::TASK_ID_SYSTEM, "value": form.id()},
                "questionnaire": format!("Questionnaire/{step}"),
                "item": items
            }),
            Some(ResourceType::QuestionnaireResponse),
            &id,
        )
    }

    pub(super) fn visit(
        &self,
        step: &str,
        status: &str,
        start: Option<&When>,
    ) -> Result<Resource, String> {
        let mut visit = self.stage.newest(step, ResourceType::Appointment)?;
        visit.set("status", json!(status));
        if let Some(start) = start {
            let read = |name: &str| visit.text_at(&[name]).and_then(|text| instant(text).ok());
            let length_ms = read("end")
                .zip(read("start"))
                .map_or(0, |(end_ms, start_ms)| end_ms.saturating_sub(start_ms));
            let start_ms = self.time(start);
            visit.set("start", json!(fhir::date::instant(start_ms)));
            visit.set("end", json!(fhir::date::instant(start_ms + length_ms)));
        }
        Ok(visit)
    }
}

/// An answer in the form that its question asks for.
fn answer(question: &Value, value: &Value) -> Value {
    let kind = question
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("text");
    match (kind, value) {
        (_, Value::Bool(_)) => json!({"valueBoolean": value}),
        ("integer", Value::Number(_)) => json!({"valueInteger": value}),
        (_, Value::Number(_)) => json!({"valueDecimal": value}),
        ("choice", Value::String(code)) => json!({"valueCoding": {"code": code}}),
        ("date", Value::String(_)) => json!({"valueDate": value}),
        _ => json!({"valueString": value}),
    }
}

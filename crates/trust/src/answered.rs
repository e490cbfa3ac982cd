//! A form that was answered, whichever way the answers came: its `Task` ends, and its `QuestionnaireResponse` is written in
//! the same commit. Pure.

use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

use crate::conventions::TASK_ID_SYSTEM;

/// The answers to a form.
#[derive(Debug)]
pub struct Answered<'a> {
    /// The id of the response.
    pub id: &'a str,
    /// The form's `Task`.
    pub task: &'a str,
    /// The name of its `Questionnaire`.
    pub questionnaire: &'a str,
    /// The patient's id.
    pub patient: &'a str,
    /// A reference to who has answered: the patient, or who acts for them.
    pub by: &'a str,
    /// The response's items.
    pub items: Vec<Value>,
    /// When it was answered, care clock.
    pub now: &'a str,
}

impl Answered<'_> {
    /// Ends the form's task.
    pub fn close(&self, task: &mut Resource) {
        task.set("status", json!("completed"));
        task.set("lastModified", json!(self.now));
        let reference = json!({"reference": format!("QuestionnaireResponse/{}", self.id)});
        task.set(
            "output",
            json!([{"type": {"text": "response"}, "valueReference": reference}]),
        );
    }

    /// The response.
    #[must_use]
    pub fn response(self) -> Resource {
        let by = json!({"reference": self.by});
        let mut response = Resource::new(ResourceType::QuestionnaireResponse);
        response.set_id(self.id);
        response.set(
            "identifier",
            json!({"system": TASK_ID_SYSTEM, "value": self.task}),
        );
        response.set("questionnaire", json!(self.questionnaire));
        response.set("status", json!("completed"));
        response.set(
            "subject",
            json!({"reference": format!("Patient/{}", self.patient)}),
        );
        response.set("authored", json!(self.now));
        response.set("author", by.clone());
        response.set("source", by);
        if !self.items.is_empty() {
            response.set("item", Value::Array(self.items));
        }
        response
    }
}

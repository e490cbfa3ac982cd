//! A text message that came from a patient, as it is kept. Pure.

use fhir::{Resource, ResourceType};
use serde_json::json;

use crate::conventions::{MEDIUM_SYSTEM, REPLY_SYSTEM, SMS_SYSTEM};

/// Replies to one question that are no answer and of which somebody is told. Whoever goes on writing is talking to
/// somebody, and has been told that nobody is there.
pub const UNCLEAR_MAX: u32 = 3;
/// What it is called in lists.
pub const CAME_TOPIC: &str = "A text message from the patient";

/// A text message that came from a patient after a question.
#[derive(Debug, Clone, Copy)]
pub struct Came<'a> {
    /// The patient's id.
    pub patient: &'a str,
    /// What the provider calls it.
    pub reference: Option<&'a str>,
    /// The `Communication` that asked.
    pub asked: Option<&'a str>,
    /// The `Task` of the form.
    pub task: &'a str,
    /// What it was taken for: a code of [`REPLY_SYSTEM`].
    pub taken_for: &'a str,
    /// The words.
    pub text: &'a str,
    /// When it came, care clock.
    pub at_ms: u64,
}

/// The `Communication` of it, without an id.
#[must_use]
pub fn came(what: &Came<'_>) -> Resource {
    let patient = json!({"reference": format!("Patient/{}", what.patient)});
    let at = fhir::date::instant(what.at_ms);
    let mut message = Resource::new(ResourceType::Communication);
    if let Some(reference) = what.reference {
        let identifier = json!([{"system": SMS_SYSTEM, "value": reference}]);
        message.set("identifier", identifier);
    }
    if let Some(asked) = what.asked {
        let asked = json!([{"reference": format!("Communication/{asked}")}]);
        message.set("inResponseTo", asked);
    }
    message.set("status", json!("completed"));
    let code = json!([{"coding": [{"system": REPLY_SYSTEM, "code": what.taken_for}]}]);
    message.set("category", code);
    let medium = json!([{"coding": [{"system": MEDIUM_SYSTEM, "code": "SMSWRIT"}]}]);
    message.set("medium", medium);
    message.set("subject", patient.clone());
    message.set("topic", json!({"text": CAME_TOPIC}));
    let task = json!([{"reference": format!("Task/{}", what.task)}]);
    message.set("about", task);
    message.set("sent", json!(at));
    message.set("received", json!(at));
    message.set("sender", patient);
    message.set("payload", json!([{"contentString": what.text}]));
    message
}

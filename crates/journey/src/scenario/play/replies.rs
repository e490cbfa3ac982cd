//! A patient replies to a text message in a scenario.

use super::{Player, resource};
use crate::resources;
use crate::scenario::whose::PATIENT;
use fhir::{Resource, ResourceType};
use serde_json::json;
use trust::conventions;
use trust::sms::{Came, UNCLEAR_MAX, came};

impl Player<'_> {
    /// As it is taken where it comes in: an answer is the form's, and what is none is kept.
    pub(super) fn reply(&mut self, step: &str, says: &str) -> Result<Resource, String> {
        let form = self.stage.newest(step, ResourceType::Task)?;
        let definition = self.definition;
        let asked = definition.step(step);
        let language = &definition.language;
        if asked.is_none_or(|step| step.kind.by_reply(language).is_none()) {
            return Err(format!("`{step}` is not answered by reply"));
        }
        let texts = self.stage.by_sms(step);
        if !texts {
            return Err(format!("`{step}` has sent no text message by then"));
        }
        let questionnaire = asked.and_then(|step| {
            step.kind
                .questionnaire(definition, definition.version, step, &step.id, self.now_ms)
        });
        let item = questionnaire
            .as_ref()
            .and_then(|form| form.at(&["item", "0"]));
        let item = item.ok_or_else(|| format!("`{step}` asks no question"))?;
        let id = self.mint();
        let open = resources::open(&form);
        let task = form.id().unwrap_or_default();
        if open && let Some(answer) = trust::sms::answer::answer(item, says, language) {
            return resource(
                json!({
                    "status": "completed",
                    "identifier": {"system": conventions::TASK_ID_SYSTEM, "value": task},
                    "questionnaire": format!("Questionnaire/{step}"),
                    "item": [{"linkId": item["linkId"], "answer": [answer]}]
                }),
                Some(ResourceType::QuestionnaireResponse),
                &id,
            );
        }
        let before = self.stage.replies(task);
        let is_told = open && before < UNCLEAR_MAX;
        let mut message = came(&Came {
            patient: PATIENT,
            reference: None,
            asked: None,
            task,
            taken_for: if is_told {
                conventions::REPLY_UNCLEAR
            } else {
                conventions::REPLY_KEPT
            },
            text: says,
            at_ms: self.now_ms,
        });
        message.set_id(&id);
        Ok(message)
    }
}

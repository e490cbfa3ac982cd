//! What a patient replies to a question: an answer, something that somebody has to read, or something that comes too
//! late.
//!
//! All that one reply brings about is in one commit: the answer with its form's end, as from the portal, and the words as
//! they came. Their id is made of what the provider calls them, so what it tells twice is once.

use fhir::{Reference, Resource, ResourceType};
use ledger::{Expected, LedgerError, Owner};
use serde_json::{Value, json};
use tokio::time::sleep;
use trust::conventions::{
    COMPLETION_MODE_URL, PARTICIPATION_MODE, REPLY_ANSWER, REPLY_KEPT, REPLY_UNCLEAR,
    TASK_ID_SYSTEM, reply_code,
};
use trust::outgoing::unanswered;
use trust::sms::{Came, Number, UNCLEAR_MAX, answer, came};
use trust::{Change, Permit, TextQuestion, TrustError, Unit, Vault, Versioned};

use super::door::{CONFLICTS_MAX, PAUSES_MS, SmsDoor, TEXT_CHARS_MAX, Unheard, is_of_store};
use super::references;

/// How often what is expected is said again.
const AGAIN_MAX: u32 = 2;
/// How long after a question what comes from its telephone is kept, milliseconds: a fortnight.
const KEPT_FOR_MS: u64 = 14 * 24 * 3_600_000;

/// What a text was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing was asked of whoever has the number.
    Nothing,
    /// An answer.
    Answer,
    /// None, with what is said to that, if anything.
    Unclear(Option<String>),
    /// It came when the question was closed.
    Late,
}

impl Taken {
    /// The `what` label of the metric `sms_heard_total`, where it isn't one of a text that nobody expected.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Answer => Some("answer"),
            Self::Unclear(_) => Some("unclear"),
            Self::Late => Some("late"),
        }
    }
}

/// What came.
pub(super) struct Reply<'a> {
    pub(super) from: &'a Number,
    /// What the provider calls it.
    pub(super) reference: &'a str,
    pub(super) text: &'a str,
    /// How many pictures, or other files, came with it.
    pub(super) files: u32,
}

impl Reply<'_> {
    /// What is kept of it: the words, and that there was more.
    fn kept(&self) -> String {
        let mut kept: Vec<String> = Vec::new();
        let text: String = self.text.chars().take(TEXT_CHARS_MAX).collect();
        if !text.trim().is_empty() {
            kept.push(text);
        }
        match self.files {
            0 if kept.is_empty() => kept.push("(no words)".to_owned()),
            0 => {}
            1 => kept.push("(a picture or file came with it, and is not kept)".to_owned()),
            files => kept.push(format!(
                "({files} pictures or files came with it, and are not kept)"
            )),
        }
        kept.join("\n")
    }
}

/// Whether a form waits for its answer.
pub(super) fn is_open(task: &Resource) -> bool {
    matches!(
        task.text_at(&["status"]),
        Some("requested" | "received" | "accepted" | "ready" | "in-progress")
    )
}

/// The newest message of a question that has left, or may have, or is leaving in this moment.
pub(super) async fn asked_by(
    vault: &Vault,
    permit: &Permit,
    question: &TextQuestion,
) -> Result<Option<String>, TrustError> {
    for id in question.communications.iter().rev() {
        let kind = ResourceType::Communication;
        let found = vault.load(permit, kind, id).await?;
        if found.is_some_and(|found| !found.deleted && may_be_there(&found.resource)) {
            return Ok(Some(id.clone()));
        }
    }
    Ok(None)
}

/// Whether a message that was to be handed over is there, as far as is known. One of which nothing is known yet is being
/// handed over, or was when somebody was killed.
fn may_be_there(message: &Resource) -> bool {
    let is_leaving = message.text_at(&["status"]) == Some("preparation")
        && message.get("statusReason").is_none();
    is_leaving || unanswered(message) > 0 || !references(message).is_empty()
}

impl SmsDoor {
    /// Takes a reply for what it is.
    pub(super) async fn reply(&self, permit: &Permit, reply: &Reply<'_>) -> Result<Taken, Unheard> {
        let mut pauses = PAUSES_MS.iter();
        for _ in 0..CONFLICTS_MAX {
            match self.take(permit, reply).await {
                // Somebody else answered, closed the form, or asked again meanwhile.
                Err(Unheard::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                Err(error) if is_of_store(&error) => {
                    let Some(pause_ms) = pauses.next() else {
                        return Err(error);
                    };
                    sleep(std::time::Duration::from_millis(*pause_ms)).await;
                }
                // What is of somebody whose records were destroyed is nobody's.
                Err(Unheard::Unknown) => return Ok(Taken::Nothing),
                other => return other,
            }
        }
        Err(Unheard::Contended)
    }

    async fn take(&self, permit: &Permit, reply: &Reply<'_>) -> Result<Taken, Unheard> {
        let (vault, tenant) = (self.trust.vault(), permit.tenant());
        let Some(patient) = vault.patient_at(tenant, reply.from).await? else {
            return Ok(Taken::Nothing);
        };
        let Some((mut question, version)) = vault.text_question(tenant, &patient).await? else {
            return Ok(Taken::Nothing);
        };
        let now_ms = vault.ledger().clock().now_ms();
        let is_of = question.number == reply.from.as_str();
        if !is_of || now_ms.saturating_sub(question.asked_ms) > KEPT_FOR_MS {
            return Ok(Taken::Nothing);
        }
        // A text that never left has asked nothing.
        let Some(asked) = asked_by(vault, permit, &question).await? else {
            return Ok(Taken::Nothing);
        };
        let id = vault.text_came_id(tenant, &patient, reply.reference);
        let kind = ResourceType::Communication;
        if let Some(known) = vault.load(permit, kind, &id).await? {
            return Ok(again(&known.resource, &question));
        }
        let task = vault
            .load(permit, ResourceType::Task, &question.task)
            .await?;
        let task = task.filter(|task| !task.deleted && is_open(&task.resource));
        let mut unit = Unit {
            patient: Some(patient.clone()),
            ..Unit::default()
        };
        let (taken, code, note) = match task {
            None => (
                Taken::Late,
                REPLY_KEPT,
                "a text message that came when its question was closed",
            ),
            Some(task) => match self.answer(permit, &task, reply).await? {
                Some((questionnaire, item)) => {
                    let made = Answered {
                        patient: &patient,
                        questionnaire: &questionnaire,
                        item,
                        at_ms: now_ms,
                    };
                    unit.changes.extend(self.answered(permit, task, &made));
                    (Taken::Answer, REPLY_ANSWER, "form answered by text message")
                }
                None => {
                    question.unclear = question.unclear.saturating_add(1);
                    let is_told = question.unclear <= UNCLEAR_MAX;
                    let words = (question.unclear <= AGAIN_MAX).then(|| question.again.clone());
                    let asked =
                        vault.text_question_asked(tenant, &patient, &question, Some(version));
                    unit.internals.push(asked);
                    let code = if is_told { REPLY_UNCLEAR } else { REPLY_KEPT };
                    (
                        Taken::Unclear(words),
                        code,
                        "a text message that is no answer to its question",
                    )
                }
            },
        };
        let mut resource = came(&Came {
            patient: &patient,
            reference: Some(reply.reference),
            asked: Some(&asked),
            task: &question.task,
            taken_for: code,
            text: &reply.kept(),
            at_ms: now_ms,
        });
        resource.set_id(&id);
        unit.changes.push(Change::Put {
            resource,
            expected: Expected::Absent,
        });
        unit.note = Some(note.to_owned());
        vault.commit(permit, unit).await?;
        Ok(taken)
    }

    /// The answer that a text gives to a form: the form's name and the item of the response. Nothing where it gives none.
    async fn answer(
        &self,
        permit: &Permit,
        task: &Versioned,
        reply: &Reply<'_>,
    ) -> Result<Option<(String, Value)>, Unheard> {
        // What comes with a picture is more than an answer.
        if reply.files > 0 {
            return Ok(None);
        }
        let Some(name) = questionnaire_of(&task.resource) else {
            return Ok(None);
        };
        let reference = Reference::parse(name);
        let Some(reference) = reference.filter(|one| one.kind == ResourceType::Questionnaire)
        else {
            return Ok(None);
        };
        let kind = ResourceType::Questionnaire;
        let form = self.trust.vault().load(permit, kind, &reference.id).await?;
        let Some(form) = form.filter(|form| !form.deleted) else {
            return Ok(None);
        };
        let items = form.resource.get("item").and_then(Value::as_array);
        let [item] = items.map(Vec::as_slice).unwrap_or_default() else {
            return Ok(None);
        };
        let Some(answer) = answer::answer(item, reply.text) else {
            return Ok(None);
        };
        let said = json!({"linkId": item["linkId"], "text": item["text"], "answer": [answer]});
        Ok(Some((name.to_owned(), said)))
    }

    /// The form's end and its response, as the portal writes them.
    fn answered(&self, permit: &Permit, task: Versioned, made: &Answered<'_>) -> [Change; 2] {
        let ledger = self.trust.vault().ledger();
        let owner = Owner::Patient(made.patient.to_owned());
        let response_id = ledger.mint_id(permit.tenant(), &owner);
        let now = fhir::date::instant(made.at_ms);
        let (version, mut task) = (task.version, task.resource);
        let task_id = task.id().unwrap_or_default().to_owned();
        task.strip_meta();
        task.set("status", json!("completed"));
        task.set("lastModified", json!(now));
        let reference = json!({"reference": format!("QuestionnaireResponse/{response_id}")});
        task.set(
            "output",
            json!([{"type": {"text": "response"}, "valueReference": reference}]),
        );
        let patient = json!({"reference": format!("Patient/{}", made.patient)});
        let mode = json!({"coding": [{"system": PARTICIPATION_MODE, "code": "SMSWRIT"}]});
        let mut response = Resource::new(ResourceType::QuestionnaireResponse);
        response.set_id(&response_id);
        response.set(
            "extension",
            json!([{"url": COMPLETION_MODE_URL, "valueCodeableConcept": mode}]),
        );
        response.set(
            "identifier",
            json!({"system": TASK_ID_SYSTEM, "value": task_id}),
        );
        response.set("questionnaire", json!(made.questionnaire));
        response.set("status", json!("completed"));
        response.set("subject", patient.clone());
        response.set("authored", json!(now));
        response.set("author", patient.clone());
        response.set("source", patient);
        response.set("item", json!([made.item]));
        [
            Change::Put {
                resource: task,
                expected: Expected::Version(version),
            },
            Change::Put {
                resource: response,
                expected: Expected::Absent,
            },
        ]
    }
}

/// An answer.
struct Answered<'a> {
    patient: &'a str,
    questionnaire: &'a str,
    /// The item of the response.
    item: Value,
    at_ms: u64,
}

/// What the provider tells again is answered as it was, as far as that can still be said.
fn again(known: &Resource, question: &TextQuestion) -> Taken {
    match reply_code(known) {
        Some(REPLY_ANSWER) => Taken::Answer,
        Some(REPLY_UNCLEAR) => {
            let words = (question.unclear <= AGAIN_MAX).then(|| question.again.clone());
            Taken::Unclear(words)
        }
        _ => Taken::Late,
    }
}

/// The name of a form's questionnaire.
fn questionnaire_of(task: &Resource) -> Option<&str> {
    let inputs = task.get("input").and_then(Value::as_array)?;
    let mut inputs = inputs.iter();
    let found = inputs.find(|input| input["type"]["text"] == "questionnaire")?;
    found["valueCanonical"].as_str()
}

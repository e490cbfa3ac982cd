//! What a patient replies to a question: an answer, something that somebody has to read, or something that comes too
//! late.
//!
//! All that one reply brings about is in one commit: the answer with its form's end, as from the portal, and the words as
//! they came. Their id is made of what the provider calls them, so what it tells twice is once.

use fhir::{Reference, Resource, ResourceType};
use ledger::{Expected, LedgerError, Owner, TenantId};
use serde_json::{Value, json};
use tokio::time::sleep;
use trust::conventions::{
    COMPLETION_MODE_URL, PARTICIPATION_MODE, REPLY_ANSWER, REPLY_KEPT, REPLY_LATE, REPLY_UNCLEAR,
    TASK_SYSTEM, performer_types, reply_code,
};
use trust::outgoing::unanswered;
use trust::sms::{Came, Number, UNCLEAR_MAX, answer, came};
use trust::{
    Answered, Change, Permit, TextAnswer, TextQuestion, TrustError, Unit, Vault, Versioned,
};

use super::door::{CONFLICTS_MAX, PAUSES_MS, SmsDoor, TEXT_CHARS_MAX, Unheard, is_of_store};
use super::policies::hears_answers;
use super::references;

/// How often what is expected is said again.
const AGAIN_MAX: u32 = 2;
/// How long after its form was closed what comes from a question's telephone is kept, milliseconds: a fortnight.
const KEPT_FOR_MS: u64 = 14 * 24 * 3_600_000;
/// The most texts that are kept of one question beside its answer: whoever goes on writing has been told that nobody is
/// there.
const KEPT_MAX: u32 = 20;
/// The most of those that came late which somebody is to read.
const LATE_MAX: u32 = 3;
/// By when somebody is to read what came late, milliseconds: a day.
const READ_IN_MS: u64 = 24 * 3_600_000;
/// How soon after a question that follows another nobody has read and answered it, milliseconds: what comes before that
/// was sent to the one before.
const TOO_SOON_MS: u64 = 10_000;
/// How long after a session was opened what had no answer in one before comes again, milliseconds.
const BROUGHT_AGAIN_MS: u64 = 15 * 60_000;

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

/// How what comes is known when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// By what the provider calls it.
    Given(&'a str),
    /// The provider has no names for what people send: by its words, for one question. What had no answer comes again in
    /// a session after that; this one was opened then, care clock.
    Words { since_ms: u64 },
}

/// What came.
pub(super) struct Reply<'a> {
    pub(super) from: &'a Number,
    pub(super) name: Name<'a>,
    pub(super) text: &'a str,
    /// How many pictures, or other files, came with it.
    pub(super) files: u32,
    /// Whether it was longer.
    pub(super) is_cut: bool,
    /// Whether it came from a telephone that wants no texts, and the provider took it for START: it answers nothing, and
    /// is no answer either when it is brought again after that.
    pub(super) is_start: bool,
}

impl Reply<'_> {
    /// The id of what is kept of it. Without a name it is that of these words for one question, and another where they may
    /// be meant for the question before: so who sends them again is understood.
    fn id(
        &self,
        vault: &Vault,
        tenant: TenantId,
        (patient, question): (&str, &TextQuestion),
        is_of_before: bool,
    ) -> String {
        match self.name {
            Name::Given(name) => vault.text_came_id(tenant, patient, name),
            Name::Words { .. } => {
                let of = if is_of_before { "before" } else { "words" };
                let more = if self.is_cut { "cut" } else { "whole" };
                let (task, language) = (&question.task, &question.language);
                let name = format!("{of}/{task}/{language}/{more}/{}", self.text.trim());
                vault.text_came_id(tenant, patient, &name)
            }
        }
    }

    /// What is kept of it: the words, and that there was more.
    fn kept(&self) -> String {
        let mut kept: Vec<String> = Vec::new();
        let text: String = self.text.chars().take(TEXT_CHARS_MAX).collect();
        if !text.trim().is_empty() {
            kept.push(text);
        }
        if self.is_cut {
            kept.push("(it was longer, and the rest of it is not kept)".to_owned());
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

/// When a resource was written, care clock.
pub(super) fn written_ms(resource: &Resource) -> Option<u64> {
    at_ms(resource, &["meta", "lastUpdated"])
}

fn at_ms(resource: &Resource, path: &[&str]) -> Option<u64> {
    let at = resource.text_at(path).and_then(fhir::date::parse)?;
    u64::try_from(at.start_ms).ok()
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
        let is_leaving = question.leaving.as_ref() == Some(id);
        if found
            .is_some_and(|found| !found.deleted && (is_leaving || may_be_there(&found.resource)))
        {
            return Ok(Some(id.clone()));
        }
    }
    Ok(None)
}

/// Whether a message is there, as far as its `Communication` says: it has a name, or was handed over without an answer.
fn may_be_there(message: &Resource) -> bool {
    unanswered(message) > 0 || !references(message).is_empty()
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
                Err(Unheard::Trust(error)) if is_for_good(&error) => {
                    lost(&error);
                    return Ok(Taken::Nothing);
                }
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
        let Some((mut last, version)) = vault.text_question(tenant, &patient).await? else {
            return Ok(Taken::Nothing);
        };
        // A text that never left has asked nothing: until it has, what comes is meant for the one before.
        let mut asked = asked_by(vault, permit, &last).await?;
        let is_last = asked.is_some();
        let mut question = last.clone();
        if !is_last && let Some(before) = last.before.take() {
            question = *before;
            asked = asked_by(vault, permit, &question).await?;
        }
        let Some(asked) = asked.filter(|_| question.number == reply.from.as_str()) else {
            return Ok(Taken::Nothing);
        };
        if !hears_answers(&self.trust) {
            lost(&"policy_folder does not let the parts of text messages hear answers");
            return Ok(Taken::Nothing);
        }
        let now_ms = vault.ledger().clock().now_ms();
        let of = (patient.as_str(), &question);
        let is_again = self.is_again(permit, of, reply, now_ms).await?;
        let is_too_soon = is_too_soon(&question, now_ms);
        let mut is_of_before = is_again || is_too_soon;
        let kind = ResourceType::Communication;
        let mut id = reply.id(vault, tenant, (&patient, &question), is_of_before);
        let mut known = vault.load(permit, kind, &id).await?;
        if known.is_some() && is_again && !is_too_soon {
            // It was taken for that once, and whoever sent it was told what to send.
            is_of_before = false;
            id = reply.id(vault, tenant, (&patient, &question), false);
            known = vault.load(permit, kind, &id).await?;
        }
        if let Some(known) = known {
            let is_kept = reply_code(&known.resource) == Some(REPLY_KEPT);
            if is_kept && self.is_same_answer(permit, &question, reply).await? {
                return Ok(Taken::Answer);
            }
            return Ok(again(&known.resource, &question));
        }
        let kind = ResourceType::Task;
        let task = vault.load(permit, kind, &question.task).await?;
        let task = task.filter(|task| !task.deleted);
        let since_ms = closed_ms(&question, task.as_ref().map(|task| &task.resource));
        let task = task.filter(|task| is_open(&task.resource));
        // While the form is open, its answer counts however long ago it was asked.
        if task.is_none() && now_ms.saturating_sub(since_ms) > KEPT_FOR_MS {
            return Ok(Taken::Nothing);
        }
        let mut unit = Unit {
            patient: Some(patient.clone()),
            ..Unit::default()
        };
        let (taken, code, note) = match task {
            Some(task) if !reply.is_start => {
                let answer = if is_of_before {
                    None
                } else {
                    self.answer(permit, &task, &question, reply).await?
                };
                match answer {
                    Some((questionnaire, item)) => {
                        question.answered = Some(TextAnswer {
                            text: reply.text.trim().to_owned(),
                            answer: item["answer"][0].clone(),
                            at_ms: now_ms,
                        });
                        let made = (patient.as_str(), questionnaire.as_str(), item);
                        unit.changes
                            .extend(self.answered(permit, task, made, now_ms));
                        (Taken::Answer, REPLY_ANSWER, "form answered by text message")
                    }
                    None => {
                        if question.kept >= KEPT_MAX {
                            return Ok(Taken::Unclear(None));
                        }
                        question.kept = question.kept.saturating_add(1);
                        question.unclear = question.unclear.saturating_add(1);
                        let is_told = question.unclear <= UNCLEAR_MAX;
                        let words = (question.unclear <= AGAIN_MAX).then(|| question.again.clone());
                        let code = if is_told { REPLY_UNCLEAR } else { REPLY_KEPT };
                        (
                            Taken::Unclear(words),
                            code,
                            "a text message that is no answer to its question",
                        )
                    }
                }
            }
            task => {
                // What took a STOP off is kept all the same: brought again it would be an answer.
                if question.kept >= KEPT_MAX && !reply.is_start {
                    return Ok(Taken::Late);
                }
                question.kept = question.kept.saturating_add(1);
                let is_late = task.is_none() && !reply.is_start;
                let note = if is_late {
                    "a text message that came when its question was closed"
                } else {
                    "a text message that the provider took for START"
                };
                if is_late && self.is_same_answer(permit, &question, reply).await? {
                    (Taken::Answer, REPLY_KEPT, note)
                } else if is_late && question.late < LATE_MAX {
                    question.late += 1;
                    unit.changes
                        .push(self.to_be_read(permit, (&patient, &id), now_ms));
                    (Taken::Late, REPLY_LATE, note)
                } else {
                    (Taken::Late, REPLY_KEPT, note)
                }
            }
        };
        let name = match reply.name {
            Name::Given(name) => Some(name),
            Name::Words { .. } => None,
        };
        let mut resource = came(&Came {
            patient: &patient,
            reference: name,
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
        let question = if is_last {
            question
        } else {
            last.before = Some(Box::new(question));
            last
        };
        let known = vault.text_question_asked(tenant, &patient, &question, Some(version));
        unit.internals.push(known);
        unit.note = Some(note.to_owned());
        vault.commit(permit, unit).await?;
        Ok(taken)
    }

    /// Whether what comes may have come for the question before, in a session that ended before it had an answer of ours:
    /// whatever it was taken for then, it is brought again.
    async fn is_again(
        &self,
        permit: &Permit,
        (patient, question): (&str, &TextQuestion),
        reply: &Reply<'_>,
        now_ms: u64,
    ) -> Result<bool, Unheard> {
        let (Some(before), Name::Words { since_ms }) = (&question.before, reply.name) else {
            return Ok(false);
        };
        if now_ms.saturating_sub(since_ms) >= BROUGHT_AGAIN_MS {
            return Ok(false);
        }
        // By what isn't kept nothing is known again.
        if before.kept >= KEPT_MAX {
            return Ok(true);
        }
        let (vault, kind) = (self.trust.vault(), ResourceType::Communication);
        for is_of_before in [false, true] {
            let id = reply.id(vault, permit.tenant(), (patient, before), is_of_before);
            let known = vault.load(permit, kind, &id).await?;
            let came_ms = known.map(|known| at_ms(&known.resource, &["sent"]).unwrap_or(0));
            if came_ms.is_some_and(|came_ms| came_ms < since_ms) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what came late says what was answered before: who answers twice needs nobody.
    async fn is_same_answer(
        &self,
        permit: &Permit,
        question: &TextQuestion,
        reply: &Reply<'_>,
    ) -> Result<bool, Unheard> {
        let Some(answered) = &question.answered else {
            return Ok(false);
        };
        let kind = ResourceType::Task;
        let Some(task) = self
            .trust
            .vault()
            .load(permit, kind, &question.task)
            .await?
        else {
            return Ok(false);
        };
        let answer = self.answer(permit, &task, question, reply).await?;
        Ok(answer.is_some_and(|(_, item)| item["answer"][0] == answered.answer))
    }

    /// A task for staff: that the patient wrote when no question was open any more. What they wrote is in the record.
    fn to_be_read(&self, permit: &Permit, (patient, came): (&str, &str), now_ms: u64) -> Change {
        let ledger = self.trust.vault().ledger();
        let owner = Owner::Patient(patient.to_owned());
        let title = "Read a text message from the patient";
        let code = json!([{"system": TASK_SYSTEM, "code": "staff-task"}]);
        let by = fhir::date::instant(now_ms.saturating_add(READ_IN_MS));
        let mut task = Resource::new(ResourceType::Task);
        task.set_id(&ledger.mint_id(permit.tenant(), &owner));
        for (member, value) in [
            ("status", json!("requested")),
            ("intent", json!("order")),
            ("priority", json!("urgent")),
            ("code", json!({"coding": code, "text": title})),
            ("description", json!(title)),
            ("for", json!({"reference": format!("Patient/{patient}")})),
            ("authoredOn", json!(fhir::date::instant(now_ms))),
            ("performerType", performer_types("coordinator", None)),
            (
                "reasonCode",
                json!({"text": "It came when its question was closed, so it changes no answer. The words are under Messages."}),
            ),
            (
                "reasonReference",
                json!({"reference": format!("Communication/{came}")}),
            ),
            ("restriction", json!({"period": {"end": by}})),
        ] {
            task.set(member, value);
        }
        Change::Put {
            resource: task,
            expected: Expected::Absent,
        }
    }

    /// The answer that a text gives to a form: the form's name and the item of the response. Nothing where it gives none.
    async fn answer(
        &self,
        permit: &Permit,
        task: &Versioned,
        question: &TextQuestion,
        reply: &Reply<'_>,
    ) -> Result<Option<(String, Value)>, Unheard> {
        // What comes with a picture, or goes on, is more than an answer.
        if reply.files > 0 || reply.is_cut {
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
        let Some(answer) = answer::answer(item, reply.text, &question.language) else {
            return Ok(None);
        };
        let said = json!({"linkId": item["linkId"], "text": item["text"], "answer": [answer]});
        Ok(Some((name.to_owned(), said)))
    }

    /// The form's end and its response, as the portal writes them.
    fn answered(
        &self,
        permit: &Permit,
        task: Versioned,
        (patient, questionnaire, item): (&str, &str, Value),
        now_ms: u64,
    ) -> [Change; 2] {
        let ledger = self.trust.vault().ledger();
        let owner = Owner::Patient(patient.to_owned());
        let (version, mut task) = (task.version, task.resource);
        let task_id = task.id().unwrap_or_default().to_owned();
        let answered = Answered {
            id: &ledger.mint_id(permit.tenant(), &owner),
            task: &task_id,
            questionnaire,
            patient,
            by: &format!("Patient/{patient}"),
            items: vec![item],
            now: &fhir::date::instant(now_ms),
        };
        task.strip_meta();
        answered.close(&mut task);
        let mut response = answered.response();
        let mode = json!({"coding": [{"system": PARTICIPATION_MODE, "code": "SMSWRIT"}]});
        response.set(
            "extension",
            json!([{"url": COMPLETION_MODE_URL, "valueCodeableConcept": mode}]),
        );
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

/// Whether what comes was sent before anybody can have read the question, so that it is meant for the one before it.
fn is_too_soon(question: &TextQuestion, now_ms: u64) -> bool {
    question.follows && now_ms.saturating_sub(question.asked_ms) < TOO_SOON_MS
}

/// Since when a question that is closed has been, care clock: not before it was asked, or answered, or its form written.
fn closed_ms(question: &TextQuestion, form: Option<&Resource>) -> u64 {
    let answered_ms = question.answered.as_ref().map(|answer| answer.at_ms);
    let all = [
        Some(question.asked_ms),
        answered_ms,
        form.and_then(written_ms),
    ];
    all.into_iter().flatten().max().unwrap_or(0)
}

/// Whether what came can't be written down however often it is brought: a session would be of no use any more, for
/// anybody.
fn is_for_good(error: &TrustError) -> bool {
    matches!(
        error,
        TrustError::Refused(_)
            | TrustError::Damaged(_)
            | TrustError::Ledger(LedgerError::Damaged(_))
    )
}

fn lost(why: &dyn std::fmt::Display) {
    metrics::counter!("sms_lost_replies_total").increment(1);
    tracing::error!(
        %why,
        "sms: what somebody replied can't be written down, and whoever sent it is told that nobody reads it: the provider's log has the words"
    );
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

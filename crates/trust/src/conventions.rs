//! How journeys show themselves in FHIR resources. `journey` writes them, `exchange` and the pages
//! read and answer them; being siblings they meet here.
//!
//! | journey | resource |
//! |---|---|
//! | a task for staff | `Task` (`intent` `order`, `code` [`TASK_SYSTEM`]\|`staff-task`, `performerType` the role and, where it has one, its queue ([`QUEUE_SYSTEM`]), `for` the patient, `restriction.period.end` when due, `priority`, `reasonCode.text` why, `output` how it ended, `owner` who has it and, when it is completed, who did it, in the words of whoever wrote that; the extension [`COMPLETED_BY_URL`] who signed in and completed it; with four eyes the second `Task` has an `input` of type [`DONE_BY`] with who did the first one, who can't complete it) |
//! | a form to fill in | `Task` (`code` [`TASK_SYSTEM`]\|`complete-questionnaire`, `for` and `owner` the patient, `input` type `questionnaire` with `valueCanonical`), answered by a `QuestionnaireResponse` whose `identifier` is [`TASK_ID_SYSTEM`]\|the task's id; the same unit of work sets the task `completed` |
//! | another journey that is asked for | `Task` (`code` [`TASK_SYSTEM`]\|[`JOURNEY_ORDER`], `status` `in-progress` → `completed` with its ending in `output`, `rejected` where it couldn't begin, `cancelled` where it isn't waited for any more; closing it ends what was begun) |
//! | a call to a partner | `Task` (`code` [`TASK_SYSTEM`]\|[`CALL_ORDER`], `owner.display` the partner, `status` `in-progress` → `completed` with what was learnt in `output`, `failed` with `statusReason.text` and code [`NOT_DONE_SYSTEM`], `on-hold` while its journey is held, `cancelled` where nobody waits for it any more; who closes it calls it off) |
//! | a message | `Communication` (`subject` the patient, `medium` [`MEDIUM_SYSTEM`]\|`EMAILWRIT`, `SMSWRIT`, `PUSH`, `MAILWRIT` (a letter), `PHONE` (a call) or `PORTAL`, `topic.text`, `payload` the words as shown behind login, `sent`, `received` when read in the portal; `status` `preparation` → `completed`, `stopped` or `not-done`, `on-hold` while its journey is held, with `statusReason.text` and code [`NOT_DONE_SYSTEM`]; a notification is `completed` when a push service has taken it for one of the patient's devices, with a `note` of how many; a text message is `in-progress` once a provider has it, with an identifier [`SMS_SYSTEM`]\|what the provider calls it (`use` `old` where it won't arrive by that name), the extensions [`SMS_SEGMENTS_URL`], [`SMS_COST_URL`], [`SMS_UNANSWERED_URL`] and [`LET_GO_URL`], and a `note` of each attempt and receipt, and `completed` when the handset has it; an e-mail is `in-progress`, with `sent`, once a mail server has it and while it may soon come back, with a `note` of each report; a letter or a call is `in-progress` once its batch is closed, with an identifier [`BATCH_SYSTEM`], the extensions [`PAGES_URL`], and [`FILE_STATE_URL`] by each receipt; what other messages than texts cost is in [`MESSAGE_COST_URL`](crate::costs::MESSAGE_COST_URL); every attempt and receipt is a `note` with the extension [`ATTEMPT_URL`](crate::attempts::ATTEMPT_URL); one that no limit holds has [`BEYOND_LIMITS_URL`]) |
//! | what a patient writes back by text message after a question | `Communication` (`subject` and `sender` the patient, `category` [`REPLY_SYSTEM`]\|[`REPLY_ANSWER`], [`REPLY_UNCLEAR`], [`REPLY_LATE`] or [`REPLY_KEPT`], `inResponseTo` the message that asked, `about` the form's `Task`, `payload` the words, identifier [`SMS_SYSTEM`]\|what the provider calls it). An answer is a `QuestionnaireResponse` as from the portal besides, with the extension [`COMPLETION_MODE_URL`] |
//! | a message that has to wait before it may go out | `CommunicationRequest` (`status` `active`, `on-hold` while its journey is held → `completed` when it goes out, `revoked` when it doesn't; `occurrencePeriod` from when it may go until when at the latest; `payload` as the message will have it). Who closes it calls the message off |
//! | a visit to be booked | `Appointment` (`status` `proposed` → `booked` or `cancelled`, `participant` the patient, `start`, `end`; by video, the extension [`VISIT_CLASS_URL`] with [`VIRTUAL_VISIT`]) |
//! | which messages a patient wants, and how | `Basic`, see [`MESSAGE_WISHES`] |
//! | a patient's word on messages of care programmes | `Consent`, see [`CONSENT_CATEGORY_SYSTEM`] |
//! | a patient's journey | `CarePlan` (`status` `active`, `on-hold`, `completed`, `revoked` or `entered-in-error`; `instantiatesCanonical` [`journey_canonical`]; the tasks and messages of it are `basedOn` it). Who writes `on-hold`, `active` or one of the last three there holds the journey, lets it go on, or ends it |
//!
//! Each of the first six carries two identifiers: [`INSTANCE_SYSTEM`]\|instance id and [`STEP_SYSTEM`]\|`journey/version/step`.

use fhir::Resource;
use serde_json::{Value, json};

/// Identifier system: a journey instance.
pub const INSTANCE_SYSTEM: &str = "urn:cairn:journey-instance";
/// Identifier system: `journey/version/step`.
pub const STEP_SYSTEM: &str = "urn:cairn:journey-step";
/// The canonical address of a version of a journey, as its `PlanDefinition` and the `CarePlan`s of patients have it.
#[must_use]
pub fn journey_canonical(name: &str, version: u32) -> String {
    format!("{JOURNEY_URL}{name}|{version}")
}
/// What the address of a journey begins with; its name follows.
pub const JOURNEY_URL: &str = "urn:cairn:journey:";
/// Identifier system: the task that a `QuestionnaireResponse` answers.
pub const TASK_ID_SYSTEM: &str = "urn:cairn:task";
/// Code system of tasks: `staff-task`, `complete-questionnaire`, [`JOURNEY_ORDER`], [`CALL_ORDER`], [`START_JOURNEY`].
pub const TASK_SYSTEM: &str = "urn:cairn:task-code";
/// Code of a task by which one journey asks for another.
pub const JOURNEY_ORDER: &str = "journey";
/// Code of a task that starts a journey when it is created with the `status` `requested`: `instantiatesUri` names the
/// journey ([`JOURNEY_URL`]), `for` the patient, the identifier [`START_SYSTEM`] the request, `input`s the times that
/// the journey asks for. It is stored `completed`, with the instance in `output`.
pub const START_JOURNEY: &str = "start-journey";
/// Identifier system: the key of a request to start a journey.
pub const START_SYSTEM: &str = "urn:cairn:journey-request";
/// Code of a task by which a journey has a partner called.
pub const CALL_ORDER: &str = "call";
/// Among what is learnt of a call: the status of the answer.
pub const CALL_STATUS: &str = "status";
/// Type of a task's input that names who did what it is to confirm.
pub const DONE_BY: &str = "done by";
/// Code system of media: HL7 v3 `ParticipationMode` codes, `PUSH` and `PORTAL`.
pub const MEDIUM_SYSTEM: &str = "urn:cairn:medium";
/// Identifier system of a message: what the provider of text messages calls it. A message that has several was handed
/// over several times.
pub const SMS_SYSTEM: &str = "urn:cairn:sms";
/// Identifier system of a message: the batch of letters or telephone calls that it stands in, once that is closed.
pub const BATCH_SYSTEM: &str = "urn:cairn:batch";
/// Extension of a message (valuePositiveInt): how many pages a letter has.
pub const PAGES_URL: &str = "urn:cairn:pages";
/// Extension of a message (valueCode): the last that a partner told of it, as `posted`.
pub const FILE_STATE_URL: &str = "urn:cairn:file-state";
/// Extension of a message (valuePositiveInt): how many segments the text message took, of each time it was handed over.
pub const SMS_SEGMENTS_URL: &str = "urn:cairn:sms-segments";
/// Extension of a message (valueMoney) beside it: what that cost, by the price in the configuration.
pub const SMS_COST_URL: &str = "urn:cairn:sms-cost";
/// Extension of a message (valuePositiveInt): how often the text message was handed over without an answer, so that it may
/// be there.
pub const SMS_UNANSWERED_URL: &str = "urn:cairn:sms-unanswered";
/// Code system of what a text message was taken for that came from a patient after a question.
pub const REPLY_SYSTEM: &str = "urn:cairn:reply";
/// It is an answer.
pub const REPLY_ANSWER: &str = "answer";
/// It is none, and whoever reads such is told.
pub const REPLY_UNCLEAR: &str = "unclear";
/// It came when the question was closed, and there is a task for staff to read it.
pub const REPLY_LATE: &str = "late";
/// It is kept, and nobody is told: it says again what was answered, or enough was said of others before.
pub const REPLY_KEPT: &str = "kept";
/// FHIR's extension of a `QuestionnaireResponse` (valueCodeableConcept): how it was filled in, as a code of
/// [`PARTICIPATION_MODE`].
pub const COMPLETION_MODE_URL: &str =
    "http://hl7.org/fhir/StructureDefinition/questionnaireresponse-completionMode";
/// HL7's code system of ways to take part; `SMSWRIT` is by text message.
pub const PARTICIPATION_MODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode";
/// What a text message was taken for that came from a patient: a code of [`REPLY_SYSTEM`].
#[must_use]
pub fn reply_code(message: &Resource) -> Option<&str> {
    let categories = message.get("category").and_then(Value::as_array)?;
    let codings = categories
        .iter()
        .filter_map(|one| one.get("coding")?.as_array());
    let mut codings = codings.flatten();
    codings.find(|coding| coding["system"] == REPLY_SYSTEM)?["code"].as_str()
}
/// Extension of a message (valueInstant): when it was let go, by its journey or by what it waited for. It may have left
/// later.
pub const LET_GO_URL: &str = "urn:cairn:let-go";
/// Extension of a message (valueBoolean): it went out past quiet hours and limits, and counts in none.
pub const BEYOND_LIMITS_URL: &str = "urn:cairn:beyond-limits";
/// Code of a message that has left, or may have, and of which nothing was heard in its time: it may be there.
/// It stands beside another code where a message that may be there is given up for another reason.
pub const NO_RECEIPT: &str = "no-receipt";
/// Code system of reasons why a message was not sent: [`NO_RECEIPT`], `consent`, `preference`, `no-address`,
/// `no-sign-in`, `shared-number` (somebody else has the telephone too), `question-open` (another question is open on the telephone), `no-replies` (replies would not be heard here), `admitted` (the patient is in hospital), `deceased`, `expired`, `proxy-ended` (they don't act for the patient any more), `permanent-failure`, `retries-exhausted`, `returned` (a mail server took it, and it came back); of a message that was
/// called off before it left (`status` `stopped`): `called-off`. Of a call to a partner besides: `unknown-partner`,
/// `no-contract`, `not-cleared`, `no-value` (a value is not there), `not-reached`, and [`MAY_BE_DONE`] beside another.
pub const NOT_DONE_SYSTEM: &str = "urn:cairn:not-done";
/// Extension of a task for staff, once it is completed: who signed in and completed it, as an identifier, of an account
/// ([`ACCOUNT_SYSTEM`]) or of another system ([`CLIENT_SYSTEM`]). The server alone writes it.
pub const COMPLETED_BY_URL: &str = "urn:cairn:completed-by";
/// Identifier system of another system that has FHIR access.
pub const CLIENT_SYSTEM: &str = "urn:cairn:client";
/// Code of a task for staff.
pub const STAFF_TASK: &str = "staff-task";
/// Code system in the `businessStatus` of a call's task: how often it was tried.
pub const CALL_ATTEMPTS_SYSTEM: &str = "urn:cairn:call-attempts";
/// Code system beside it: how often it was let go on after its journey was held.
pub const CALL_TURN_SYSTEM: &str = "urn:cairn:call-turn";
/// Beside the code of a call that came to nothing: an attempt before that may have been heard, so the partner may have
/// done what it was asked.
pub const MAY_BE_DONE: &str = "may-be-done";
/// Code system of roles in `Task.performerType` (`coordinator`, `clinician`).
pub const ROLE_SYSTEM: &str = "urn:cairn:role";
/// Code system of queues, the second entry of `Task.performerType`: whose of a role's work it is (a ward's, a team's).
pub const QUEUE_SYSTEM: &str = "urn:cairn:queue";
/// `Task.performerType`: a role, and of those a queue.
#[must_use]
pub fn performer_types(role: &str, queue: Option<&str>) -> Value {
    let queue = queue.map(|queue| json!({"coding": [{"system": QUEUE_SYSTEM, "code": queue}]}));
    let role = json!({"coding": [{"system": ROLE_SYSTEM, "code": role}]});
    [role].into_iter().chain(queue).collect()
}

/// The queue of a task, if it has one.
#[must_use]
pub fn queue_of(task: &Resource) -> Option<&str> {
    let types = task.get("performerType").and_then(Value::as_array)?;
    let codings = types.iter().filter_map(|one| one.get("coding")?.as_array());
    let mut codings = codings.flatten();
    codings.find(|coding| coding["system"] == QUEUE_SYSTEM)?["code"].as_str()
}

/// Identifier system in `Task.owner`: the account of who has claimed it.
pub const ACCOUNT_SYSTEM: &str = "urn:cairn:account";
/// LOINC's system.
pub const LOINC: &str = "http://loinc.org";
/// LOINC code of body weight.
pub const BODY_WEIGHT: &str = "29463-7";
/// Extension on `Patient.telecom` (valueBoolean): the patient does not want this channel used.
pub const NOT_WANTED_EXTENSION: &str = "urn:cairn:channel-not-wanted";
/// Extension on `Appointment` (valueCodeableConcept): R5's `Appointment.class`, in the form that HL7 gives its elements in
/// R4. With [`VIRTUAL_VISIT`] the visit is by video.
pub const VISIT_CLASS_URL: &str =
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-Appointment.class";
/// The code system of that.
pub const ACT_CODE_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// Code of [`ACT_CODE_SYSTEM`]: patient and practitioner are not at one place.
pub const VIRTUAL_VISIT: &str = "VR";
/// Extension on `Appointment`: R5's `Appointment.virtualService`. A visit that has it is held where that says.
pub const VIRTUAL_SERVICE_URL: &str =
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-Appointment.virtualService";

/// The `extension` of a visit by video.
#[must_use]
pub fn by_video() -> Value {
    let coding = json!({"system": ACT_CODE_SYSTEM, "code": VIRTUAL_VISIT, "display": "virtual"});
    json!([{"url": VISIT_CLASS_URL, "valueCodeableConcept": {"coding": [coding]}}])
}

/// Whether a visit is by video, where the organisation holds those. One that says itself where it is held
/// ([`VIRTUAL_SERVICE_URL`]) is none.
#[must_use]
pub fn is_by_video(visit: &Resource) -> bool {
    let extensions = visit.get("extension").and_then(Value::as_array);
    let extensions = extensions.map_or(&[][..], Vec::as_slice);
    let is_virtual = |extension: &Value| {
        let codings = extension["valueCodeableConcept"]["coding"].as_array();
        let mut codings = codings.into_iter().flatten();
        extension["url"] == VISIT_CLASS_URL
            && codings.any(|coding| {
                coding["system"] == ACT_CODE_SYSTEM && coding["code"] == VIRTUAL_VISIT
            })
    };
    let elsewhere = |extension: &Value| extension["url"] == VIRTUAL_SERVICE_URL;
    extensions.iter().any(is_virtual) && !extensions.iter().any(elsewhere)
}

/// Code system of `Basic.code`: [`MESSAGE_WISHES`].
pub const BASIC_SYSTEM: &str = "urn:cairn:basic";
/// Code of [`BASIC_SYSTEM`]: which messages a patient wants, by which ways and when (`subject` the patient, `author` who
/// said it, `created` when, and the extensions [`MESSAGE_TOPIC_URL`], [`MESSAGE_HOURS_URL`] and [`MESSAGE_LEVEL_URL`]).
/// Its id is derived, so that a patient has one. `trust::consent::Wishes` reads and writes it:
///
/// ```json
/// {
///   "resourceType": "Basic",
///   "code": {"coding": [{"system": "urn:cairn:basic", "code": "message-wishes"}]},
///   "subject": {"reference": "Patient/ID"},
///   "created": "2026-11-30",
///   "author": {"reference": "Patient/ID"},
///   "extension": [
///     {"url": "urn:cairn:message-topic", "extension": [
///       {"url": "topic", "valueCode": "visits"},
///       {"url": "way", "valueCode": "sms"},
///       {"url": "way", "valueCode": "email"}
///     ]},
///     {"url": "urn:cairn:message-hours", "extension": [
///       {"url": "from", "valueTime": "20:00:00"},
///       {"url": "until", "valueTime": "08:00:00"}
///     ]},
///     {"url": "urn:cairn:message-level", "valueCode": "only-important"}
///   ]
/// }
/// ```
pub const MESSAGE_WISHES: &str = "message-wishes";
/// Extension on [`MESSAGE_WISHES`], one for each topic of which something is said: `topic` (`visits`, `forms` or `care`)
/// and, in order, each `way` that is welcome (`email`, `sms`). None is the portal's inbox alone.
pub const MESSAGE_TOPIC_URL: &str = "urn:cairn:message-topic";
/// Extension on [`MESSAGE_WISHES`]: hours in which no message is welcome, `from` and `until`, by the patient's clock.
pub const MESSAGE_HOURS_URL: &str = "urn:cairn:message-hours";
/// Extension on [`MESSAGE_WISHES`] (valueCode): `only-important`, where what is routine is to reach out by no way.
pub const MESSAGE_LEVEL_URL: &str = "urn:cairn:message-level";
/// Extension on `Patient.telecom` (valueBoolean): confidential communications (45 CFR 164.522(b)). Where one
/// has it, no other may be used, also after this one is over.
pub const CONFIDENTIAL_EXTENSION: &str = "urn:cairn:confidential-channel";
/// Code system of `Consent.category`. A consent with [`CARE_MESSAGES`] is about messages of care
/// programmes and about nothing else: withdrawing it stops messages and hides no part of the chart.
///
/// `trust::consent::care_messages` makes it; its shape, with `permit` and `OPTIN`, or `deny` and
/// `OPTOUT` for a withdrawal (a new resource; the newest `dateTime` counts):
///
/// ```json
/// {
///   "resourceType": "Consent",
///   "status": "active",
///   "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
///   "category": [{"coding": [{"system": "urn:cairn:consent-category", "code": "care-messages", "display": "Messages of care programmes"}]}],
///   "patient": {"reference": "Patient/ID"},
///   "dateTime": "2026-11-26T19:23:32.123Z",
///   "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
///   "provision": {
///     "type": "permit",
///     "purpose": [
///       {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"},
///       {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "CAREMGT"}
///     ]
///   }
/// }
/// ```
pub const CONSENT_CATEGORY_SYSTEM: &str = "urn:cairn:consent-category";
/// Code of [`CONSENT_CATEGORY_SYSTEM`]: messages of care programmes.
pub const CARE_MESSAGES: &str = "care-messages";

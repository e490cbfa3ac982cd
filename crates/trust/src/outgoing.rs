//! What an outbox entry holds: a message on its way to a patient or a call to a partner, written by journeys, or a
//! notification for a subscription, written by `record`; delivered by `exchange`. The words that leave must be free of PHI for channels
//! that aren't cleared for it.

use std::collections::BTreeSet;

use fhir::Resource;
use serde_json::{Map, Value, json};

use crate::consent::{Hours, Sort};
use crate::conventions::{
    BEYOND_LIMITS_URL, CALL_ATTEMPTS_SYSTEM, CALL_TURN_SYSTEM, SMS_UNANSWERED_URL,
};

/// The outbox channel number of e-mail.
pub const CHANNEL_EMAIL: u16 = 1;
/// That of notices to staff, which go by e-mail, too. A server of before notices takes what it can't read out of
/// the channel of e-mail; what is in a channel that it doesn't know, it leaves where it is.
pub const CHANNEL_NOTICE: u16 = 2;
/// That of notifications for FHIR `Subscription`s.
pub const CHANNEL_HOOK: u16 = 3;
/// That of calls to partners.
pub const CHANNEL_CALL: u16 = 4;

/// That of text messages. A server that doesn't know of them leaves them where they are.
pub const CHANNEL_SMS: u16 = 5;

/// That of e-mails which a mail server has taken and which may come back: messages as those of [`CHANNEL_EMAIL`], due when
/// they count as delivered. A server that doesn't know of them leaves them where they are.
pub const CHANNEL_MAIL_TAKEN: u16 = 6;
/// That of notifications: to browsers (Web Push), and to applications on telephones (FCM, APNs).
pub const CHANNEL_PUSH: u16 = 7;

/// That of letters, which go to who prints and posts them in batches.
pub const CHANNEL_LETTER: u16 = 20;
/// That of telephone calls, which go to who makes them in batches.
pub const CHANNEL_VOICE: u16 = 21;
/// That of batches of letters which are being handed over. The entries are the tenant's.
pub const CHANNEL_LETTER_BATCH: u16 = 22;
/// The same of telephone calls.
pub const CHANNEL_VOICE_BATCH: u16 = 23;

/// That of calls to partners whose values go as a form: a server that doesn't know of these would send JSON, and leaves
/// what is in a channel that it doesn't know where it is.
pub const CHANNEL_FORM: u16 = 9;

/// That of text messages that are answered by replying to them: a server that doesn't know these would send one, and take
/// the reply for nothing.
pub const CHANNEL_QUESTION: u16 = 13;

/// What a text message asks that is answered by replying to it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Question {
    /// The `Task` of the form.
    pub task: String,
    /// What is said to a reply that is no answer: words without PHI.
    pub again: String,
    /// The language that the message is in (BCP 47): its words for yes and no are answers.
    pub language: String,
}

/// What becomes of a message whose patient is in hospital when it would leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhileAdmitted {
    /// It waits until the patient is out, or its time is over.
    Hold,
    /// It is not sent.
    Skip,
    /// It goes. So does what was put out by programs that didn't know of this, and what says something that isn't known.
    #[default]
    #[serde(other)]
    Send,
}

impl WhileAdmitted {
    /// Whether it is not asked where the patient is.
    #[must_use]
    pub fn is_send(&self) -> bool {
        matches!(self, Self::Send)
    }
}

/// A message on its way to the patient, or to somebody who acts for them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// The patient's id.
    pub patient: String,
    /// Of what is written to somebody who acts for the patient, at their own address: the record of that. It
    /// goes while they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The id of the `Communication` resource that follows this message.
    pub communication: String,
    /// `email`, `sms`, `push`, `letter` or `voice`.
    pub channel: String,
    /// Code of the purpose of use that consent must cover, e.g. `TREAT`.
    pub purpose: String,
    /// The types of resources that the journey goes by; none where that is not known.
    #[serde(default)]
    pub about: Vec<String>,
    /// Subject line without PHI; empty where the channel has none.
    pub subject: String,
    /// Text without PHI. `{link}` stands for the portal link. Empty where the channel has words of its own.
    pub text: String,
    /// Path in the portal that `{link}` leads to, e.g. `/portal/inbox/ID`.
    pub link_path: String,
    /// Which journey, version and step, for audit and timeline.
    pub journey: String,
    /// The step's id.
    pub step: String,
    /// Do not send after this time (milliseconds since the epoch; care clock).
    pub expires_ms: Option<u64>,
    /// When it may leave, where it has to wait for hours and limits. What was put out by programs that didn't know of
    /// it goes when it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// What the patient's wishes are asked about it. What programs put out that didn't know of these has none, and so
    /// has what is no message of a journey: the wishes say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// How often it was handed over without an answer, so that it may have been taken.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unanswered: u8,
    /// How many segments it took when it was handed over last, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// The language of a letter, and of what is spoken on the telephone (BCP 47).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The number of a recording that says what is spoken on the telephone, where the partner has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// What it asks, where it is answered by replying to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// The visit that it is about, for the patient's calendar, where the journey says so. A program that doesn't know of it
    /// sends the message without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<Visit>,
    /// What becomes of it where the patient is in hospital when it would leave.
    #[serde(default, skip_serializing_if = "WhileAdmitted::is_send")]
    pub while_admitted: WhileAdmitted,
}

/// A booked visit as a patient's calendar has it: when it is, and nothing of what it is for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Visit {
    /// The id of the `Appointment`.
    pub appointment: String,
    /// When it begins, milliseconds since the epoch.
    pub start_ms: u64,
    /// When it ends.
    pub end_ms: u64,
    /// How often it was changed.
    pub sequence: u32,
    /// Whether it was called off.
    pub cancelled: bool,
    /// Whether it is by video, so that the way to it is the portal's page of it. A program that doesn't know of it leaves
    /// that out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub online: bool,
}

/// How often a message was handed over without an answer, as its `Communication` says it.
#[must_use]
pub fn unanswered(communication: &Resource) -> u8 {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.into_iter().flatten();
    let said = extensions.find(|extension| extension["url"] == SMS_UNANSWERED_URL);
    let count = said.and_then(|said| said["valuePositiveInt"].as_u64());
    count.map_or(0, |count| u8::try_from(count).unwrap_or(u8::MAX))
}

/// Says in a `Communication` how often its message was handed over without an answer.
pub fn set_unanswered(communication: &mut Resource, count: u8) {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.cloned().unwrap_or_default();
    extensions.retain(|extension| extension["url"] != SMS_UNANSWERED_URL);
    extensions.push(json!({"url": SMS_UNANSWERED_URL, "valuePositiveInt": count.max(1)}));
    communication.set("extension", Value::Array(extensions));
}

/// Whether a message went out past quiet hours and limits, so that it counts in none.
#[must_use]
pub fn is_beyond_limits(communication: &Resource) -> bool {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.into_iter().flatten();
    extensions.any(|one| one["url"] == BEYOND_LIMITS_URL && one["valueBoolean"] == true)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(count: &u8) -> bool {
    *count == 0
}

/// A notice to somebody of the staff at an address of the configuration: that there is something to do, with
/// a link to a page behind the sign-in. Nothing of whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// The e-mail address.
    pub to: String,
    /// What it is about, for the audit: `emergency access`.
    pub about: String,
    /// Subject line without PHI.
    pub subject: String,
    /// Text without PHI. `{link}` stands for the link.
    pub text: String,
    /// Path that `{link}` leads to.
    pub link_path: String,
}

/// A notification for a FHIR `Subscription`: that a version of a resource was written which may be what it asks for.
/// Whether it is, and whether who asked may see it, is decided when it goes out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Notification {
    /// The id of the subscription.
    pub subscription: String,
    /// The type of the resource.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Whose it is, if a patient's.
    pub patient: Option<String>,
    /// The number of the version that was written. What earlier programs put on its way has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Of what is sent again: the id that it was sent under first, hexadecimal. Else it is the entry's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// The replay that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<String>,
}

/// A call to a partner, as a step of a journey asks for it. Whether it may be made is decided when it goes out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Call {
    /// The patient's id.
    pub patient: String,
    /// The id of the `Task` that stands for it in the record, and the key by which the partner knows a repeat.
    pub task: String,
    /// The partner, as `partners.toml` names it.
    pub partner: String,
    /// The path below the partner's address, with a slash before it.
    pub path: String,
    /// Whether it is a FHIR operation: values go and come in FHIR's form.
    pub fhir: bool,
    /// Whether it is a `PUT`; a `POST` otherwise.
    #[serde(default)]
    pub put: bool,
    /// Whether the values go as a form (`application/x-www-form-urlencoded`), and not as JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub form: bool,
    /// The values that it is made with. Nothing else of the patient leaves.
    pub values: Map<String, Value>,
    /// The data classes of these values.
    pub classes: Vec<String>,
    /// Code of the purpose of use, e.g. `TREAT`.
    pub purpose: String,
    /// The types of resources that the journey goes by.
    pub about: Vec<String>,
    /// How long one attempt may take, milliseconds of real time.
    pub timeout_ms: u64,
    /// How many times it is tried again.
    pub retries: u32,
    /// The first pause between two attempts, milliseconds; it doubles.
    pub backoff_ms: u64,
    /// No attempt is begun after this time (milliseconds since the epoch; care clock).
    pub until_ms: u64,
    /// Statuses from 400 that are answers, too.
    #[serde(default)]
    pub accepts: Vec<u16>,
    /// What is taken from the answer: name and FHIRPath. Nothing else of it is kept.
    pub learns: Vec<(String, String)>,
    /// Of what takes an earlier call back: the key of that. It tells the partner nothing that isn't its own, so it
    /// goes whatever the patient's consents say by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<String>,
    /// The `Task` of what is taken back before it: this is not asked before that was asked once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether the partner may have had it, of attempts before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_it: bool,
    /// How often it was let go on after its journey was held. One of another turn than its `Task` says is no longer
    /// the one that is to be made. A program that doesn't know of turns drops this when it puts one off, so one that
    /// doesn't say it may be of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// Which journey and version, for the audit.
    pub journey: String,
    /// The step's id.
    pub step: String,
}

impl Call {
    /// The outbox channel that it goes by.
    #[must_use]
    pub fn channel(&self) -> u16 {
        if self.form {
            CHANNEL_FORM
        } else {
            CHANNEL_CALL
        }
    }
}

/// How far a call is, as the `businessStatus` of its `Task` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallStanding {
    /// How often it was let go on after its journey was held.
    pub turn: u32,
    /// How often it was tried.
    pub attempts: u32,
}

impl CallStanding {
    /// As a `Task` says it; programs before this one say it in words alone.
    #[must_use]
    pub fn of(task: &Resource) -> Self {
        let codings = task.at(&["businessStatus", "coding"]);
        let codings = codings.and_then(Value::as_array);
        let said = |system: &str| {
            let mut codings = codings.into_iter().flatten();
            let found = codings.find(|coding| coding["system"] == system)?;
            found["code"].as_str()?.parse().ok()
        };
        Self {
            turn: said(CALL_TURN_SYSTEM).unwrap_or(0),
            attempts: said(CALL_ATTEMPTS_SYSTEM).unwrap_or(0),
        }
    }

    /// The `businessStatus` that says it, with these words.
    #[must_use]
    pub fn status(self, words: &str) -> Value {
        let coding =
            |system: &str, count: u32| json!({"system": system, "code": count.to_string()});
        json!({
            "coding": [coding(CALL_ATTEMPTS_SYSTEM, self.attempts), coding(CALL_TURN_SYSTEM, self.turn)],
            "text": words
        })
    }
}

/// The places that an organisation lets notifications go to: origins as they are compared (`https://example.org`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleared(BTreeSet<String>);

impl Cleared {
    /// These origins.
    #[must_use]
    pub fn new(origins: BTreeSet<String>) -> Self {
        Self(origins)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an endpoint is at one of them. It has to be written as the origin is, with nothing in it that one
    /// reader could take for the end of a host and another not.
    #[must_use]
    pub fn covers(&self, endpoint: &str) -> bool {
        let is_plain = endpoint
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#\\@".contains(&byte));
        let at = |origin: &String| {
            let rest = endpoint.strip_prefix(origin.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_plain && self.0.iter().any(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_isnt_known_of_a_stay_is_sent() {
        for (text, expected) in [
            ("\"hold\"", WhileAdmitted::Hold),
            ("\"skip\"", WhileAdmitted::Skip),
            ("\"send\"", WhileAdmitted::Send),
            ("\"ask-the-ward\"", WhileAdmitted::Send),
        ] {
            let read: WhileAdmitted = serde_json::from_str(text).expect("read");
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_at_a_cleared_origin_or_nowhere() {
        let origins = [
            "https://a.example",
            "https://b.example:8443",
            "http://127.0.0.1:80",
        ];
        let cleared = Cleared::new(origins.map(str::to_owned).into());
        for (endpoint, is_covered) in [
            ("https://a.example", true),
            ("https://a.example/hook/x", true),
            ("https://b.example:8443/", true),
            ("http://127.0.0.1:80/fhir", true),
            ("http://127.0.0.1:8080/fhir", false),
            ("http://a.example/hook", false),
            ("https://a.example.evil.example/hook", false),
            ("https://a.example@evil.example/", false),
            ("https://a.example\\@evil.example/", false),
            ("https://a.example/\\evil.example", false),
            ("https://a.example/hook?token=x", false),
            ("https://a.example/hook#x", false),
            ("https://a.example/ho ok", false),
            ("https://a.example:443/hook", false),
            ("https://b.example/", false),
            ("https://evil.example/https://a.example/", false),
            ("", false),
        ] {
            assert_eq!(cleared.covers(endpoint), is_covered, "{endpoint}");
        }
        assert!(!Cleared::default().covers("https://a.example"));
    }
}

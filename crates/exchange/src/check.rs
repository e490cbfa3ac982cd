//! May this message go out now? Asked when it leaves, not only when it was queued, because consent,
//! preference and life may have changed in between. Pure.

use fhir::{Resource, ResourceType};
use trust::consent::{Act, Rules, Unwelcome};
use trust::conventions::NO_RECEIPT;
use trust::outgoing::Message;
use trust::{Purpose, consent};

use crate::guard;

/// Code in `trust::conventions::NOT_DONE_SYSTEM` for a message whose words held patient details.
pub const PHI_GUARD: &str = "phi-guard";

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The patient's consents don't allow it.
    Consent,
    /// The patient does not want the channel.
    Preference,
    /// The patient does not want such messages by the channel.
    Unwelcome,
    /// The patient wants nothing but what is important by it.
    OnlyImportant,
    /// There is no address that can be written to.
    NoAddress,
    /// Whoever it was for doesn't act for the patient any more.
    ProxyEnded,
    /// The link couldn't be opened: there is no birth date to check it with.
    NoSignIn,
    /// Somebody else has the telephone too, so no link that signs in goes there, and without one nobody gets in.
    SharedNumber,
    /// The patient has died.
    Deceased,
    /// Its worth ran out before it could be delivered.
    Expired,
    /// The server will never take it, or could not bring it to whom it was for.
    PermanentFailure,
    /// No attempt succeeded.
    RetriesExhausted,
    /// A mail server took it, and it came back.
    Returned,
    /// Its words held patient details.
    PhiGuard,
    /// Quiet hours would not have ended in its time.
    QuietHours,
    /// There was no room among the patient's messages in its time.
    Capped,
    /// Nobody knows whether it has arrived: its answers never came.
    NoReceipt,
    /// Another question is open on the telephone, so what a reply answers would not be known.
    QuestionOpen,
    /// Replies to our number are not heard here.
    NoReplies,
    /// No partner is bound who would carry it.
    NoContract,
    /// The partner isn't cleared for what it would be told.
    NotCleared,
    /// It can't be printed, or spoken, as it is written.
    Unprintable,
    /// Nobody answered the telephone.
    NoAnswer,
    /// Whoever answered the telephone did not want the call.
    CallRefused,
    /// The patient is in hospital.
    Admitted,
}

impl Reason {
    /// The code in `trust::conventions::NOT_DONE_SYSTEM`; also the `reason` label of the metrics
    /// `mail_failed_total`, `sms_failed_total` and `push_failed_total`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Preference => "preference",
            Self::Unwelcome => Unwelcome::Topic.code(),
            Self::OnlyImportant => Unwelcome::Routine.code(),
            Self::NoAddress => "no-address",
            Self::ProxyEnded => "proxy-ended",
            Self::NoSignIn => "no-sign-in",
            Self::SharedNumber => "shared-number",
            Self::Deceased => "deceased",
            Self::Expired => "expired",
            Self::PermanentFailure => "permanent-failure",
            Self::RetriesExhausted => "retries-exhausted",
            Self::Returned => "returned",
            Self::PhiGuard => PHI_GUARD,
            Self::QuietHours => "quiet-hours",
            Self::Capped => "capped",
            Self::NoReceipt => NO_RECEIPT,
            Self::QuestionOpen => "question-open",
            Self::NoReplies => "no-replies",
            Self::NoContract => "no-contract",
            Self::NotCleared => "not-cleared",
            Self::Unprintable => "unprintable",
            Self::NoAnswer => "no-answer",
            Self::CallRefused => "call-refused",
            Self::Admitted => "admitted",
        }
    }
}

/// A "no", with words for the timeline that hold no patient details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) words: String,
}

impl Refused {
    pub(crate) fn new(reason: Reason, words: impl Into<String>) -> Self {
        Self {
            reason,
            words: words.into(),
        }
    }
}

/// Where the message may go, as `find` finds it in the patient's record at a time, or why it may not. `purpose` is `None` when the message names none that
/// is known, `patient` when the record is gone. `consents` are the patient's, with the rules that they are
/// read by; `known_as` is what the care programmes here are known as.
pub(crate) fn check<To>(
    message: &Message,
    purpose: Option<Purpose>,
    patient: Option<&Resource>,
    consents: (&Rules, &[Resource]),
    known_as: &[String],
    now_ms: u64,
    find: impl FnOnce(&Resource, i64) -> Result<To, Refused>,
) -> Result<To, Refused> {
    let no = |reason, words: &str| Err(Refused::new(reason, words));
    if message
        .expires_ms
        .is_some_and(|expires_ms| now_ms > expires_ms)
    {
        return no(
            Reason::Expired,
            "It was no longer of use when its turn came.",
        );
    }
    let Some(patient) = patient else {
        return no(Reason::NoAddress, "The patient's record is gone.");
    };
    if is_deceased(patient) {
        return no(Reason::Deceased, "The patient has died.");
    }
    let Some(purpose) = purpose else {
        return no(
            Reason::Consent,
            "The message names no purpose that is known, so no consent covers it.",
        );
    };
    let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let (rules, consents) = consents;
    // A type that isn't known here may be any.
    let about: Option<Vec<_>> = message
        .about
        .iter()
        .map(|name| ResourceType::parse(name))
        .collect();
    let act = Act {
        purpose,
        about: about.unwrap_or_default(),
        known_as: known_as.to_vec(),
    };
    let decision = consent::decide_act(rules, consents, &act, at_ms);
    if !decision.permitted {
        return Err(Refused::new(Reason::Consent, decision.reason));
    }
    let again = (message.question.as_ref()).map_or("", |question| question.again.as_str());
    if let Some(detail) = guard::find(
        patient,
        &[&message.subject, &message.text, &message.link_path, again],
    ) {
        return Err(Refused::new(
            Reason::PhiGuard,
            format!("Its words hold the patient's {detail}."),
        ));
    }
    find(patient, at_ms)
}

/// Of ways to reach a patient, in order, the first that is wanted and that `parse` can read. `what` says what it is.
pub(crate) fn first<To>(
    channels: &[consent::Channel],
    what: &Words,
    parse: impl Fn(&str) -> Option<To>,
) -> Result<To, Refused> {
    let mut unwanted = false;
    let mut unusable = false;
    for channel in channels {
        if !channel.wanted {
            unwanted = true;
            continue;
        }
        match parse(&channel.address) {
            Some(found) => return Ok(found),
            None => unusable = true,
        }
    }
    Err(if unusable {
        Refused::new(Reason::NoAddress, what.unusable)
    } else if unwanted {
        Refused::new(Reason::Preference, what.unwanted)
    } else {
        Refused::new(Reason::NoAddress, what.none)
    })
}

/// What is said when a patient can't be reached by a channel.
pub(crate) struct Words {
    pub(crate) unusable: &'static str,
    pub(crate) unwanted: &'static str,
    pub(crate) none: &'static str,
}

fn is_deceased(patient: &Resource) -> bool {
    patient.get("deceasedDateTime").is_some()
        || patient
            .get("deceasedBoolean")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(expires_ms: Option<u64>, text: &str) -> Message {
        Message {
            patient: "p".to_owned(),
            proxy: None,
            communication: "c".to_owned(),
            channel: "email".to_owned(),
            purpose: "TREAT".to_owned(),
            about: Vec::new(),
            subject: "A message from your care team".to_owned(),
            text: text.to_owned(),
            link_path: "/portal/inbox/c".to_owned(),
            journey: "j/1".to_owned(),
            step: "s".to_owned(),
            expires_ms,
            hours: None,
            sort: None,
            unanswered: 0,
            language: None,
            script: None,
            segments: None,
            question: None,
            visit: None,
            while_admitted: trust::outgoing::WhileAdmitted::Send,
        }
    }

    fn patient(change: &[(&str, Value)]) -> Resource {
        let mut patient = json!({
            "resourceType": "Patient", "id": "p", "birthDate": "1941-03-07",
            "name": [{ "family": "Quandt", "given": ["Ottilie"] }],
            "telecom": [{ "system": "email", "value": "o.quandt@example.com" }]
        });
        for (name, value) in change {
            patient[*name] = value.clone();
        }
        Resource::from_value(patient).expect("a patient")
    }

    fn withdrawn() -> Resource {
        Resource::from_value(json!({
            "resourceType": "Consent", "id": "c", "status": "inactive",
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "category": [{ "coding": [{ "system": "urn:cairn:consent-category", "code": "care-messages" }] }],
            "patient": { "reference": "Patient/p" }, "dateTime": "2026-01-01T00:00:00Z",
            "provision": { "type": "permit", "purpose": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT" }] }
        }))
        .expect("a consent")
    }

    #[test]
    fn says_where_to_or_why_not() {
        let now_ms = 1_793_000_000_000;
        let ok = "Please see {link}.";
        let rules = Rules::load(Rules::DEFAULT).expect("rules");
        let nothing: &[Resource] = &[];
        let no = [withdrawn()];
        let not_wanted = json!([{
            "extension": [{ "url": trust::conventions::NOT_WANTED_EXTENSION, "valueBoolean": true }],
            "system": "email", "value": "o.quandt@example.com"
        }]);
        type Case<'a> = (
            &'a str,
            Message,
            Option<Resource>,
            &'a [Resource],
            Option<Reason>,
        );
        let table: Vec<Case<'_>> = vec![
            ("goes", message(None, ok), Some(patient(&[])), nothing, None),
            (
                "in time",
                message(Some(now_ms), ok),
                Some(patient(&[])),
                nothing,
                None,
            ),
            (
                "too late",
                message(Some(now_ms - 1), ok),
                Some(patient(&[])),
                nothing,
                Some(Reason::Expired),
            ),
            (
                "record gone",
                message(None, ok),
                None,
                nothing,
                Some(Reason::NoAddress),
            ),
            (
                "died at a time",
                message(None, ok),
                Some(patient(&[("deceasedDateTime", json!("2026-10-01"))])),
                nothing,
                Some(Reason::Deceased),
            ),
            (
                "died",
                message(None, ok),
                Some(patient(&[("deceasedBoolean", json!(true))])),
                nothing,
                Some(Reason::Deceased),
            ),
            (
                "lives",
                message(None, ok),
                Some(patient(&[("deceasedBoolean", json!(false))])),
                nothing,
                None,
            ),
            (
                "consent withdrawn",
                message(None, ok),
                Some(patient(&[])),
                &no,
                Some(Reason::Consent),
            ),
            (
                "name in the text",
                message(None, "Dear Mrs Quandt, see {link}"),
                Some(patient(&[])),
                nothing,
                Some(Reason::PhiGuard),
            ),
            (
                "not wanted",
                message(None, ok),
                Some(patient(&[("telecom", not_wanted)])),
                nothing,
                Some(Reason::Preference),
            ),
            (
                "no telecom",
                message(None, ok),
                Some(patient(&[("telecom", json!([]))])),
                nothing,
                Some(Reason::NoAddress),
            ),
            (
                "phone only",
                message(None, ok),
                Some(patient(&[(
                    "telecom",
                    json!([{ "system": "phone", "value": "+1-617-555-0100" }]),
                )])),
                nothing,
                Some(Reason::NoAddress),
            ),
            (
                "moved to this address",
                message(None, ok),
                Some(patient(&[(
                    "telecom",
                    json!([
                        { "system": "email", "value": "somebody.else@example.com", "period": { "end": "2024-06-30" } },
                        { "system": "email", "value": "o.quandt@example.com", "period": { "start": "2024-07-01" } }
                    ]),
                )])),
                nothing,
                None,
            ),
            (
                "another address asked for",
                message(None, ok),
                Some(patient(&[(
                    "telecom",
                    json!([
                        { "system": "email", "value": "home@example.com", "rank": 1 },
                        { "extension": [{ "url": trust::conventions::CONFIDENTIAL_EXTENSION, "valueBoolean": true }],
                          "system": "email", "value": "o.quandt@example.com" }
                    ]),
                )])),
                nothing,
                None,
            ),
            (
                "moved away from this address",
                message(None, ok),
                Some(patient(&[(
                    "telecom",
                    json!([{ "system": "email", "value": "somebody.else@example.com", "period": { "end": "2024-06-30" } }]),
                )])),
                nothing,
                Some(Reason::NoAddress),
            ),
            (
                "no address",
                message(None, ok),
                Some(patient(&[(
                    "telecom",
                    json!([{ "system": "email", "value": "at example com" }]),
                )])),
                nothing,
                Some(Reason::NoAddress),
            ),
        ];
        for (what, message, patient, consents, expected) in table {
            let found = check(
                &message,
                Some(Purpose::Treatment),
                patient.as_ref(),
                (&rules, consents),
                &[],
                now_ms,
                crate::mail::find,
            );
            assert_eq!(
                found.as_ref().err().map(|refused| refused.reason),
                expected,
                "{what}"
            );
            match found {
                Ok(address) => assert_eq!(address.to_string(), "o.quandt@example.com", "{what}"),
                Err(refused) => assert!(
                    !refused.words.is_empty() && !refused.words.contains("uandt"),
                    "{what}"
                ),
            }
        }
    }
}

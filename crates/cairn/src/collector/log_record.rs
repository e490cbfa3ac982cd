//! What is told of an audit record, as a record of OpenTelemetry's data model of logs: one for each.

use ledger::TenantId;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use trust::told::{Code, Entry, Object, Participant, Told};

/// What sort of event it is for OpenTelemetry: all records have one shape.
const EVENT_NAME: &str = "fhir.audit_event";
const SECURITY_ALERT: &str = "110113";

/// The record for a leaf (`3f/120`), as it is read at a moment of the wall clock.
pub(super) fn record(entry: &Entry, leaf: &str, tenant: TenantId, now_ms: u64) -> LogRecord {
    let (mut record, id) = match entry {
        Entry::Record(told) => (readable(told), told.id.clone()),
        Entry::Unreadable => (unreadable(), format!("leaf:{leaf}")),
    };
    record.observed_time_unix_nano = now_ms.saturating_mul(1_000_000);
    EVENT_NAME.clone_into(&mut record.event_name);
    // Records with the same one are the same: those that come again can be removed by it.
    record.attributes.push(pair("log.record.uid", text(&id)));
    record.attributes.push(pair("cairn.audit.leaf", text(leaf)));
    let tenant = any(Value::IntValue(tenant.0.into()));
    record.attributes.push(pair("cairn.tenant.id", tenant));
    record
}

fn readable(told: &Told) -> LogRecord {
    let (severity, words) = severity(told);
    let mut record = LogRecord {
        time_unix_nano: nanoseconds(&told.recorded),
        body: Some(text(&sentence(told))),
        ..graded(severity, words)
    };
    let mut put = |key: &str, value: AnyValue| record.attributes.push(pair(key, value));
    coded(&mut put, "type", &told.kind);
    coded(&mut put, "subtype", &told.subtype);
    put("fhir.audit_event.action", text(&told.action));
    put("fhir.audit_event.outcome", text(&told.outcome));
    if let Some(purpose) = &told.purpose {
        coded(&mut put, "purpose_of_event", purpose);
    }
    if let Some(own) = &told.own_purpose {
        coded(&mut put, "purpose_of_event.own", own);
    }
    if let Some(asked) = told.participants.iter().find(|one| one.asked) {
        put("user.id", text(&asked.id));
        let roles = asked.roles.iter().map(|role| text(&role.code));
        put("user.roles", list(roles));
    }
    put(
        "fhir.audit_event.agent",
        list(told.participants.iter().map(agent)),
    );
    if !told.objects.is_empty() {
        put(
            "fhir.audit_event.entity",
            list(told.objects.iter().map(entity)),
        );
    }
    record
}

/// A code and its system, as two attributes.
fn coded(put: &mut impl FnMut(&str, AnyValue), what: &str, code: &Code) {
    put(
        &format!("fhir.audit_event.{what}.system"),
        text(&code.system),
    );
    put(&format!("fhir.audit_event.{what}.code"), text(&code.code));
}

/// A leaf whose record can't be read, as much as there is to say: an alert.
fn unreadable() -> LogRecord {
    let words = "a record of the audit can't be read any more";
    let mut record = LogRecord {
        body: Some(text(words)),
        ..graded(SeverityNumber::Error2, "ERROR2")
    };
    let mut put = |key: &str, value: &str| record.attributes.push(pair(key, text(value)));
    put("fhir.audit_event.type.code", SECURITY_ALERT);
    put("fhir.audit_event.outcome", "12");
    record
}

fn graded(severity: SeverityNumber, words: &str) -> LogRecord {
    LogRecord {
        severity_number: severity.into(),
        severity_text: words.to_owned(),
        ..LogRecord::default()
    }
}

fn severity(told: &Told) -> (SeverityNumber, &'static str) {
    match told.outcome.as_str() {
        "0" if told.kind.code == SECURITY_ALERT => (SeverityNumber::Warn, "WARN"),
        "0" => (SeverityNumber::Info, "INFO"),
        "4" => (SeverityNumber::Warn, "WARN"),
        "8" => (SeverityNumber::Error, "ERROR"),
        _ => (SeverityNumber::Error2, "ERROR2"),
    }
}

/// For people, out of codes alone: `search-type of 3 Observation, 1 Patient by clinician for TREAT: done`.
fn sentence(told: &Told) -> String {
    let mut words = told.subtype.code.clone();
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for object in told.objects.iter().filter(|object| !object.is_person) {
        let name = object.kind.name();
        match kinds.iter_mut().find(|(kind, _)| *kind == name) {
            Some((_, count)) => *count += 1,
            None => kinds.push((name, 1)),
        }
    }
    if !kinds.is_empty() {
        let kinds: Vec<String> =
            (kinds.iter().map(|(kind, count)| format!("{count} {kind}"))).collect();
        words = format!("{words} of {}", kinds.join(", "));
    }
    let asked = told.participants.iter().find(|one| one.asked);
    if let Some(role) = asked.and_then(|one| one.roles.first()) {
        words = format!("{words} by {}", role.code);
    }
    match (&told.purpose, &told.own_purpose) {
        (Some(purpose), Some(own)) => {
            words = format!("{words} for {} ({})", own.code, purpose.code);
        }
        (Some(purpose), None) => words = format!("{words} for {}", purpose.code),
        (None, _) => {}
    }
    let outcome = match told.outcome.as_str() {
        "0" => "done",
        "4" => "failed",
        "8" => "refused",
        _ => "broken off",
    };
    format!("{words}: {outcome}")
}

fn agent(participant: &Participant) -> AnyValue {
    map(vec![
        pair("id", text(&participant.id)),
        pair("requestor", any(Value::BoolValue(participant.asked))),
        pair("role", list(participant.roles.iter().map(code))),
    ])
}

fn entity(object: &Object) -> AnyValue {
    let role = if object.is_person { "1" } else { "4" };
    map(vec![
        pair("type", text(object.kind.name())),
        pair("role", text(role)),
        pair("name", text(&object.name)),
    ])
}

fn code(code: &Code) -> AnyValue {
    map(vec![
        pair("system", text(&code.system)),
        pair("code", text(&code.code)),
    ])
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

pub(super) fn text(text: &str) -> AnyValue {
    any(Value::StringValue(text.to_owned()))
}

fn list(values: impl Iterator<Item = AnyValue>) -> AnyValue {
    let values = values.collect();
    any(Value::ArrayValue(ArrayValue { values }))
}

fn map(values: Vec<KeyValue>) -> AnyValue {
    any(Value::KvlistValue(KeyValueList { values }))
}

pub(super) fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

/// Nanoseconds since 1970; 0, which is OpenTelemetry's "unknown", for what is no moment.
fn nanoseconds(recorded: &str) -> u64 {
    let moment = recorded.parse::<jiff::Timestamp>();
    moment.map_or(0, |moment| {
        u64::try_from(moment.as_nanosecond()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use fhir::ResourceType;

    use super::*;

    fn told(kind: &str, outcome: &str) -> Told {
        let code = |code: &str| Code {
            system: "urn:x".to_owned(),
            code: code.to_owned(),
        };
        let object = |kind, is_person| Object {
            kind,
            is_person,
            name: "00ff".to_owned(),
        };
        Told {
            id: "event-1".to_owned(),
            recorded: "2026-06-15T13:00:00.250Z".to_owned(),
            action: "E".to_owned(),
            outcome: outcome.to_owned(),
            kind: code(kind),
            subtype: code("search-type"),
            purpose: Some(code("TREAT")),
            own_purpose: Some(code("FooBar")),
            participants: vec![
                Participant {
                    id: "account-1".to_owned(),
                    asked: true,
                    roles: vec![code("clinician"), code("IRCP")],
                },
                Participant {
                    id: "cairn".to_owned(),
                    asked: false,
                    roles: vec![code("110152")],
                },
            ],
            objects: vec![
                object(ResourceType::Patient, true),
                object(ResourceType::Observation, false),
                object(ResourceType::Observation, false),
            ],
        }
    }

    #[test]
    fn a_record_says_when_who_what_and_how_it_ended() {
        let entry = Entry::Record(Box::new(told("rest", "0")));
        let record = record(&entry, "3f/120", TenantId(1), 7);
        assert_eq!(record.time_unix_nano, 1_781_528_400_250_000_000);
        assert_eq!(record.observed_time_unix_nano, 7_000_000);
        assert_eq!(record.event_name, "fhir.audit_event");
        let words = "search-type of 2 Observation by clinician for FooBar (TREAT): done";
        assert_eq!(record.body, Some(text(words)));
        let of = |key: &str| {
            let mut all = record.attributes.iter();
            let found = all.find(|pair| pair.key == key);
            found.and_then(|pair| pair.value.clone())
        };
        for (key, value) in [
            ("fhir.audit_event.type.code", "rest"),
            ("fhir.audit_event.subtype.code", "search-type"),
            ("fhir.audit_event.action", "E"),
            ("fhir.audit_event.outcome", "0"),
            ("fhir.audit_event.purpose_of_event.code", "TREAT"),
            ("fhir.audit_event.purpose_of_event.own.code", "FooBar"),
            ("user.id", "account-1"),
            ("log.record.uid", "event-1"),
            ("cairn.audit.leaf", "3f/120"),
        ] {
            assert_eq!(of(key), Some(text(value)), "{key}");
        }
        let roles = ["clinician", "IRCP"].map(text);
        assert_eq!(of("user.roles"), Some(list(roles.into_iter())));
        let entities = format!("{:?}", of("fhir.audit_event.entity"));
        assert_eq!(entities.matches("00ff").count(), 3, "{entities}");
    }

    #[test]
    fn what_went_wrong_is_graver() {
        for (kind, outcome, number, words) in [
            ("rest", "0", 9, "INFO"),
            (SECURITY_ALERT, "0", 13, "WARN"),
            ("rest", "4", 13, "WARN"),
            ("rest", "8", 17, "ERROR"),
            ("rest", "12", 18, "ERROR2"),
        ] {
            let record = readable(&told(kind, outcome));
            let is = (record.severity_number, record.severity_text.as_str());
            assert_eq!(is, (number, words), "{kind} {outcome}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_told_as_that_under_a_name_of_its_own() {
        let record = record(&Entry::Unreadable, "01/7", TenantId(1), 7);
        assert_eq!((record.time_unix_nano, record.severity_number), (0, 18));
        let uid = pair("log.record.uid", text("leaf:01/7"));
        assert!(record.attributes.contains(&uid), "{record:?}");
    }

    #[test]
    fn what_is_no_moment_is_unknown() {
        for (recorded, nanoseconds_) in [
            ("1970-01-01T00:00:01Z", 1_000_000_000),
            ("1969-01-01T00:00:00Z", 0),
            ("", 0),
        ] {
            assert_eq!(nanoseconds(recorded), nanoseconds_, "{recorded}");
        }
    }
}

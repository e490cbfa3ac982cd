//! What is told of an audit record, as messages of IHE ATNA (ITI-20): DICOM's audit message in XML
//! (PS3.15, A.5), one or several for a record.

use fhir::ResourceType;
use ledger::Shard;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, Event};
use trust::told::{Code, Entry, Object, Told};

/// The most objects that one message names; a record of more is several messages with one id. ATNA's
/// receivers have to take 32 KB, and an object has some 280 bytes.
const OBJECTS_MAX: usize = 90;

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const REST: &str = "http://terminology.hl7.org/CodeSystem/audit-event-type";

/// One message.
pub(super) struct Message {
    /// When it happened, RFC 3339; nothing, if that can't be read any more.
    pub(super) when: Option<String>,
    pub(super) xml: String,
}

/// The messages for a leaf of a shard's audit tree.
pub(super) fn messages(entry: &Entry, shard: Shard, index: u64) -> Vec<Message> {
    let leaf = format!("{shard}/{index}");
    match entry {
        Entry::Unreadable => vec![unreadable(&leaf)],
        Entry::Record(told) => {
            let mut parts: Vec<&[Object]> = told.objects.chunks(OBJECTS_MAX).collect();
            if parts.is_empty() {
                parts.push(&[]);
            }
            let of = parts.len();
            (parts.into_iter().enumerate())
                .map(|(place, objects)| message(told, (&leaf, place + 1, of), objects))
                .collect()
        }
    }
}

/// DICOM's event of a record.
fn event_id(told: &Told) -> (&'static str, &'static str) {
    match (told.kind.code.as_str(), told.subtype.code.as_str()) {
        ("110114", _) => ("110114", "User Authentication"),
        ("110113", _) => ("110113", "Security Alert"),
        (_, "search-type") => ("110112", "Query"),
        (_, "export" | "export-job" | "disclose") => ("110106", "Export"),
        _ if told.objects.is_empty() => ("110100", "Application Activity"),
        _ => ("110110", "Patient Record"),
    }
}

/// One of the messages of a record: which, of how many.
fn message(told: &Told, (leaf, number, of): (&str, usize, usize), objects: &[Object]) -> Message {
    let mut out = Xml::begin();
    out.open(
        "EventIdentification",
        &[
            ("EventActionCode", &told.action),
            ("EventDateTime", &told.recorded),
            ("EventOutcomeIndicator", &told.outcome),
        ],
    );
    let (code, words) = event_id(told);
    out.code("EventID", code, "DCM", words);
    out.coded("EventTypeCode", &told.subtype);
    // HL7's first, for receivers that take one.
    for purpose in told.purpose.iter().chain(&told.own_purpose) {
        out.coded("PurposeOfUse", purpose);
    }
    out.close("EventIdentification");
    for participant in &told.participants {
        out.open(
            "ActiveParticipant",
            &[
                ("UserID", &participant.id),
                (
                    "UserIsRequestor",
                    if participant.asked { "true" } else { "false" },
                ),
            ],
        );
        for role in &participant.roles {
            out.coded("RoleIDCode", role);
        }
        out.close("ActiveParticipant");
    }
    out.source();
    for object in objects {
        let (kind, role) = if object.is_person {
            ("1", "1")
        } else {
            ("2", "4")
        };
        out.open(
            "ParticipantObjectIdentification",
            &[
                ("ParticipantObjectID", &object.name),
                ("ParticipantObjectTypeCode", kind),
                ("ParticipantObjectTypeCodeRole", role),
            ],
        );
        if object.is_person {
            out.code(
                "ParticipantObjectIDTypeCode",
                "2",
                "RFC-3881",
                "Patient Number",
            );
        } else {
            let name = object.kind.name();
            out.code(
                "ParticipantObjectIDTypeCode",
                name,
                "http://hl7.org/fhir/resource-types",
                name,
            );
        }
        out.close("ParticipantObjectIdentification");
    }
    out.record(
        &told.id,
        leaf,
        (of > 1).then(|| format!("{number}/{of}")).as_deref(),
    );
    Message {
        when: Some(told.recorded.clone()),
        xml: out.end(),
    }
}

/// A leaf whose record can't be read: that is a security alert, and as much as there is to say.
fn unreadable(leaf: &str) -> Message {
    let mut out = Xml::begin();
    out.open(
        "EventIdentification",
        &[("EventActionCode", "R"), ("EventOutcomeIndicator", "12")],
    );
    out.code("EventID", "110113", "DCM", "Security Alert");
    out.close("EventIdentification");
    out.source();
    out.record("", leaf, None);
    Message {
        when: None,
        xml: out.end(),
    }
}

/// XML that is being written. Writing into memory can't fail.
struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn begin() -> Self {
        let mut xml = Self(Writer::new(Vec::with_capacity(2048)));
        xml.event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml.open("AuditMessage", &[]);
        xml
    }

    fn event(&mut self, event: Event<'_>) {
        let _ = self.0.write_event(event);
    }

    fn element<'a>(name: &'a str, attributes: &[(&'a str, &'a str)]) -> BytesStart<'a> {
        BytesStart::new(name).with_attributes(attributes.iter().copied())
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.event(Event::Start(Self::element(name, attributes)));
    }

    fn close(&mut self, name: &str) {
        self.event(Event::End(BytesEnd::new(name)));
    }

    fn code(&mut self, name: &str, code: &str, system: &str, words: &str) {
        let attributes = [
            ("csd-code", code),
            ("codeSystemName", system),
            ("originalText", words),
        ];
        self.event(Event::Empty(Self::element(name, &attributes)));
    }

    fn coded(&mut self, name: &str, code: &Code) {
        let system = match code.system.as_str() {
            DICOM => "DCM",
            REST => "http://terminology.hl7.org/CodeSystem/audit-event-type",
            other => other,
        };
        self.code(name, &code.code, system, &code.code);
    }

    fn source(&mut self) {
        self.open("AuditSourceIdentification", &[("AuditSourceID", "cairn")]);
        // An application server.
        self.event(Event::Empty(Self::element(
            "AuditSourceTypeCode",
            &[("csd-code", "4")],
        )));
        self.close("AuditSourceIdentification");
    }

    /// The record itself, by which it is looked up and proved; and which `part` of it a message is, where it has
    /// several.
    fn record(&mut self, id: &str, leaf: &str, part: Option<&str>) {
        self.open(
            "ParticipantObjectIdentification",
            &[
                ("ParticipantObjectID", if id.is_empty() { leaf } else { id }),
                ("ParticipantObjectTypeCode", "2"),
                // A security resource.
                ("ParticipantObjectTypeCodeRole", "13"),
            ],
        );
        let name = ResourceType::AuditEvent.name();
        self.code(
            "ParticipantObjectIDTypeCode",
            name,
            "http://hl7.org/fhir/resource-types",
            name,
        );
        for (name, value) in [("leaf", Some(leaf)), ("part", part)] {
            if let Some(value) = value {
                let detail = [("type", name), ("value", value)];
                self.event(Event::Empty(Self::element(
                    "ParticipantObjectDetail",
                    &detail,
                )));
            }
        }
        self.close("ParticipantObjectIdentification");
    }

    fn end(mut self) -> String {
        self.close("AuditMessage");
        String::from_utf8(self.0.into_inner()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use trust::told::Participant;

    use super::*;

    fn code(system: &str, code: &str) -> Code {
        Code {
            system: system.to_owned(),
            code: code.to_owned(),
        }
    }

    fn told(objects: usize) -> Told {
        let object = |number: usize| Object {
            kind: ResourceType::Observation,
            is_person: number == 0,
            name: format!("{number:016x}"),
        };
        Told {
            id: "event-1".to_owned(),
            recorded: "2026-06-15T13:00:00.000Z".to_owned(),
            action: "R".to_owned(),
            outcome: "0".to_owned(),
            kind: code(REST, "rest"),
            subtype: code("http://hl7.org/fhir/restful-interaction", "read"),
            purpose: Some(code("urn:p", "TREAT")),
            own_purpose: Some(code("urn:own", "FooBar")),
            participants: vec![Participant {
                id: "a<1>&\"".to_owned(),
                asked: true,
                roles: vec![code("urn:cairn:role", "clinician"), code(DICOM, "110153")],
            }],
            objects: (0..objects).map(object).collect(),
        }
    }

    #[test]
    fn a_record_is_a_message() {
        let entry = Entry::Record(Box::new(told(2)));
        let messages = messages(&entry, Shard(63), 120);
        assert_eq!(messages.len(), 1);
        let xml = &messages[0].xml;
        assert_eq!(
            messages[0].when.as_deref(),
            Some("2026-06-15T13:00:00.000Z")
        );
        for part in [
            r#"<?xml version="1.0" encoding="UTF-8"?><AuditMessage><EventIdentification EventActionCode="R" EventDateTime="2026-06-15T13:00:00.000Z" EventOutcomeIndicator="0"><EventID csd-code="110110" codeSystemName="DCM" originalText="Patient Record"/><EventTypeCode csd-code="read""#,
            r#"<PurposeOfUse csd-code="TREAT" codeSystemName="urn:p" originalText="TREAT"/><PurposeOfUse csd-code="FooBar" codeSystemName="urn:own""#,
            r#"<ActiveParticipant UserID="a&lt;1&gt;&amp;&quot;" UserIsRequestor="true"><RoleIDCode csd-code="clinician" codeSystemName="urn:cairn:role""#,
            r#"<RoleIDCode csd-code="110153" codeSystemName="DCM""#,
            r#"ParticipantObjectID="0000000000000000" ParticipantObjectTypeCode="1" ParticipantObjectTypeCodeRole="1"><ParticipantObjectIDTypeCode csd-code="2" codeSystemName="RFC-3881""#,
            r#"ParticipantObjectID="0000000000000001" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="4"><ParticipantObjectIDTypeCode csd-code="Observation""#,
            r#"ParticipantObjectID="event-1" ParticipantObjectTypeCode="2" ParticipantObjectTypeCodeRole="13""#,
            r#"<ParticipantObjectDetail type="leaf" value="3f/120"/>"#,
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
        assert!(!xml.contains("\"part\""), "it is the only one: {xml}");
    }

    #[test]
    fn a_record_of_many_is_several_messages_of_a_size_that_receivers_take() {
        let entry = Entry::Record(Box::new(told(1000)));
        let messages = messages(&entry, Shard(1), 0);
        assert_eq!(messages.len(), 12);
        for number in 0..1000 {
            let name = format!("\"{number:016x}\"");
            let with = messages
                .iter()
                .filter(|message| message.xml.contains(&name));
            assert_eq!(with.count(), 1, "{name}");
        }
        let longest = messages.iter().map(|message| message.xml.len()).max();
        assert!(longest.is_some_and(|length| length < 32_000), "{longest:?}");
        for (place, message) in messages.iter().enumerate() {
            assert!(message.xml.contains("\"event-1\""), "{}", message.xml);
            let part = format!(r#"type="part" value="{}/12"/>"#, place + 1);
            assert!(message.xml.contains(&part), "{part} in {}", message.xml);
        }
    }

    #[test]
    fn what_can_not_be_read_is_told_as_that() {
        let messages = messages(&Entry::Unreadable, Shard(1), 7);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].xml.contains(r#"EventOutcomeIndicator="12""#));
        assert!(
            messages[0].xml.contains(r#"ParticipantObjectID="01/7""#),
            "{}",
            messages[0].xml
        );
    }
}

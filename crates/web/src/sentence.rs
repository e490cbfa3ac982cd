//! An `AuditEvent` as a sentence. The shape is `trust`'s: the first agent asked, patients and other
//! resources are entities, what was asked for is a base64 query.

mod event;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhir::{Reference, Resource, ResourceType};
use serde_json::Value;
use trust::Role;
use trust::identity::{EmergencyAccess, emergency_in_note};

use self::event::{Agent, Event, Text};
use crate::layout::{role_words, thousands};

/// An audit event, read.
#[derive(Debug, Clone)]
pub(crate) struct Sentence {
    pub(crate) id: String,
    pub(crate) at_ms: i64,
    /// Who acted: name for people, the part's name for Cairn itself; empty for the patient.
    pub(crate) who: String,
    pub(crate) who_id: String,
    pub(crate) role: Option<Role>,
    /// The patient who acted, if one did.
    pub(crate) own_patient: Option<String>,
    /// The application that they acted by, if by one.
    pub(crate) app: Option<String>,
    /// What was done, e.g. `looked up`, or `tried to look up`.
    verb: String,
    /// With what, e.g. `3 observations`.
    things: String,
    /// The same in the patient's words.
    plain_things: String,
    /// Whether the patients' own data (name, birth date, address) were looked at or changed.
    identity: bool,
    /// The patients concerned.
    pub(crate) patients: Vec<String>,
    /// What explains the access to the record of each, where that is told.
    pub(crate) relations: Vec<(String, String)>,
    /// Purpose of use, as a code; empty when there is none.
    pub(crate) purpose: String,
    /// The same in words, where it is an organisation's own.
    purpose_own: String,
    /// And HL7's then, of which it is a kind.
    purpose_of_hl7: String,
    /// What it was, in the words of the one who did it.
    pub(crate) note: String,
    pub(crate) refused: bool,
    pub(crate) missed: bool,
    /// Queries asked, decoded. They may hold patients' details.
    pub(crate) queries: Vec<String>,
}

/// BALP's subtype of what a consent decided.
const DENIED: &str = "AuthZ-Consent";

/// What the event does, past tense and base form, and whether the object follows.
fn verb(subtype: &str, action: &str) -> (&'static str, &'static str, bool) {
    match subtype {
        "read" => ("read", "read", true),
        "vread" => ("read an older version of", "read an older version of", true),
        "history-instance" => ("read the history of", "read the history of", true),
        "search-type" => ("looked up", "look up", true),
        "create" => ("created", "create", true),
        "update" => ("changed", "change", true),
        "delete" => ("deleted", "delete", true),
        "disclose" => ("sent to others", "send to others", true),
        "transaction" => ("wrote", "write", true),
        "journey" => ("looked at the journeys", "look at the journeys", false),
        "110122" => ("signed in", "sign in", false),
        "110123" => ("signed out", "sign out", false),
        "session-kept" => ("stayed signed in", "stay signed in", false),
        "110137" => ("changed an account", "change an account", false),
        "110127" => (
            "opened the record by emergency access",
            "open the record by emergency access",
            false,
        ),
        "110138" => (
            "ended an emergency access",
            "end an emergency access",
            false,
        ),
        "proxy-made" => (
            "let somebody act for the patient",
            "let somebody act for the patient",
            false,
        ),
        "proxy-ended" => (
            "ended what somebody may do for the patient",
            "end what somebody may do for the patient",
            false,
        ),
        "devices" => (
            "changed on which devices the patient is notified",
            "change on which devices the patient is notified",
            false,
        ),
        "proxies" => (
            "looked at who acts for whom",
            "look at who acts for whom",
            false,
        ),
        "emergencies" => (
            "looked at the emergency accesses",
            "look at the emergency accesses",
            false,
        ),
        "emergency-review" => (
            "looked into an emergency access",
            "look into an emergency access",
            false,
        ),
        "unexplained" => (
            "looked at accesses that nothing explains",
            "look at accesses that nothing explains",
            false,
        ),
        "access-review" => (
            "looked into an access that nothing explained",
            "look into an access that nothing explained",
            false,
        ),
        DENIED => (
            "saw what a consent denies",
            "see what a consent denies",
            false,
        ),
        "explain" => ("asked about a decision", "ask about a decision", false),
        "policies" => ("took policies", "take policies", false),
        "accounts" => ("looked at the accounts", "look at the accounts", false),
        "swept" => ("cleaned up", "clean up", false),
        "import" => ("imported", "import", true),
        "work" => ("worked on", "work on", true),
        "audit" => ("read the audit", "read the audit", false),
        "publish" => ("published a journey", "publish a journey", false),
        "observe" => ("looked at journeys", "look at journeys", false),
        "steer" => (
            "asked for an act on many journeys",
            "ask for an act on many journeys",
            false,
        ),
        "send" => ("sent", "send", true),
        "orchestrate" => ("moved a journey on", "move a journey on", false),
        "account" => (
            "looked after their own account",
            "look after their own account",
            false,
        ),
        "invite" => ("made a sign-in link", "make a sign-in link", false),
        _ => match action {
            "C" => ("created", "create", true),
            "R" => ("read", "read", true),
            "U" => ("changed", "change", true),
            "D" => ("deleted", "delete", true),
            _ => ("used", "use", true),
        },
    }
}

/// A resource type in words: to auditors, and to patients.
fn kind_words(kind: ResourceType) -> (String, String) {
    let both = |auditor: &str, patient: &str| (auditor.to_owned(), patient.to_owned());
    match kind {
        ResourceType::Observation => both("observation", "measurement"),
        ResourceType::Encounter => both("encounter", "visit"),
        ResourceType::Communication => both("message", "message"),
        ResourceType::QuestionnaireResponse => both("answered form", "answered form"),
        ResourceType::MedicationRequest => both("medication", "medicine"),
        ResourceType::Consent => both("consent", "permission"),
        // What has no type of its own; which messages are wanted is such a one.
        ResourceType::Basic => both("basic entry", "basic entry"),
        _ => {
            let words = kind.words();
            (words.clone(), words)
        }
    }
}

/// Counts of kinds in words, the most frequent first, at most three of them named.
fn listed<'a>(kinds: impl Iterator<Item = (&'a str, u64)>, further: u64) -> Vec<String> {
    let mut kinds: Vec<(&str, u64)> = kinds.collect();
    kinds.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
    let named = kinds.iter().take(3);
    let mut words: Vec<String> = named.map(|(kind, count)| counted(*count, kind)).collect();
    let rest: u64 = kinds.iter().skip(3).map(|(_, count)| count).sum::<u64>() + further;
    if rest > 0 {
        words.push(if words.is_empty() {
            counted(rest, "entry")
        } else {
            format!("{} more", thousands(rest))
        });
    }
    words
}

fn counted(count: u64, word: &str) -> String {
    if count == 1 {
        let article = if word.starts_with(['a', 'e', 'i', 'o']) {
            "an"
        } else {
            "a"
        };
        return format!("{article} {word}");
    }
    let plural = match word.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o']) => format!("{stem}ies"),
        _ if word.ends_with('s') || word.ends_with("ch") => format!("{word}es"),
        _ => format!("{word}s"),
    };
    format!("{} {plural}", thousands(count))
}

/// BALP's code of an application among those who act.
const APPLICATION: &str = "110150";
/// The role of what was looked at or written (`object-role`).
const DOMAIN_RESOURCE: &str = "4";

/// A note of signing in or out that tells of an application, in words for people; the note itself has ids and
/// scopes, and stays beside the record for who checks it.
fn of_app(note: &str) -> Option<String> {
    const WORDS: [(&str, &str); 6] = [
        ("let application ", "let an app in"),
        ("renewed the access of application ", "came for a new key"),
        (
            "had application ",
            "had an app shut out, because one of its keys was used twice,",
        ),
        ("took application ", "took an app away"),
        ("opened application ", "opened an app"),
        (
            "gave an application's token back",
            "gave the key of an app back",
        ),
    ];
    let known = WORDS
        .iter()
        .find(|(beginning, _)| note.starts_with(beginning));
    let words = known.map(|(_, words)| (*words).to_owned());
    words.or_else(|| note.contains("application").then(|| note.to_owned()))
}

impl Sentence {
    /// Of a whole event.
    pub(crate) fn of(event: &Resource) -> Self {
        Self::read(&Event::of_value(event.as_value()))
    }
    /// Of an event's text.
    pub(crate) fn of_text(text: &[u8]) -> Self {
        Self::read(&Event::of_text(text))
    }
    fn read(event: &Event<'_>) -> Self {
        let nobody = Agent::default();
        let asked = event.agent.iter().find(|agent| agent.requestor);
        let asked = asked.unwrap_or(&nobody);
        let role = asked.role().and_then(role_of);
        let (mut patients, mut kinds) = (Vec::new(), BTreeMap::<ResourceType, u64>::new());
        let (mut queries, mut relations) = (Vec::new(), Vec::new());
        // What is not listed is counted twice: of everybody together, which only auditors see, and
        // for each patient.
        let (mut further, mut further_of_patients) = (None, 0);
        let mut touched_patients = 0u64;
        for entity in &event.entity {
            let counted = entity.detail("further-resources");
            let counted = counted.and_then(|count| count.parse::<u64>().ok());
            let query = entity.query.as_ref();
            let query = query.and_then(|query| STANDARD.decode(query.as_ref()).ok());
            queries.extend(query.map(|query| String::from_utf8_lossy(&query).into_owned()));
            let Some(reference) = Reference::parse(entity.what.reference.as_ref()) else {
                further = further.or(counted);
                continue;
            };
            if reference.kind != ResourceType::Patient {
                *kinds.entry(reference.kind).or_default() += 1;
                continue;
            }
            let told = entity.detail("relationship");
            relations.extend(told.map(|told| (reference.id.clone(), told.to_owned())));
            // The resource of a patient of whom it is told as a person already isn't told of again.
            if entity.role.code.as_ref() != DOMAIN_RESOURCE {
                // A patient whose own resource was touched has its version noted.
                touched_patients += u64::from(entity.detail("version").is_some());
                further_of_patients += counted.unwrap_or(0);
                patients.push(reference.id);
            }
        }
        let mut worded = BTreeMap::<(String, String), u64>::new();
        for (kind, count) in kinds {
            *worded.entry(kind_words(kind)).or_default() += count;
        }
        let words = |plain: bool| {
            let named = worded.iter().map(|((auditor, patient), count)| {
                (if plain { patient } else { auditor }.as_str(), *count)
            });
            listed(named, further.unwrap_or(further_of_patients))
        };
        let (mut words, mut plain_words) = (words(false), words(true));
        let outcome = event.outcome.as_ref();
        let subtype = event.subtype();
        if subtype == DENIED {
            // The consent decided; what was asked for is in the record beside it.
            (words, plain_words) = (Vec::new(), Vec::new());
        }
        let (past, base, object) = verb(subtype, event.action.as_ref());
        let refused = outcome == "8" || outcome == "12";
        let missed = outcome == "4";
        let mut note = if missed {
            String::new()
        } else {
            event.outcome_desc.as_ref().to_owned()
        };
        let identity = object && touched_patients > 0;
        let mut verb = if refused || missed {
            format!("tried to {base}")
        } else {
            past.to_owned()
        };
        let app = of_app(&note).filter(|_| !refused);
        if let Some(words) = app.clone().filter(|_| subtype == "110123") {
            (verb, note) = (words, String::new());
        }
        if subtype == "110123" && note.contains("ended from another session") {
            "signed out elsewhere".clone_into(&mut verb);
            note.clear();
        }
        if subtype == "110122" && !refused {
            // Signing in has steps, and the note tells which.
            verb = if let Some(words) = app {
                note = String::new();
                words
            } else if note.starts_with("signed in") {
                std::mem::take(&mut note)
            } else {
                "began to sign in".to_owned()
            };
        }
        let nothing = words.is_empty() && !identity && object;
        if nothing && !refused && !missed && past == "looked up" {
            verb = "searched and found nothing".to_owned();
        } else if nothing {
            words.push("something".to_owned());
            plain_words.push("something".to_owned());
        }
        let purpose = |place: usize| event.purpose(place).map(|one| one.code.as_ref().to_owned());
        let purpose_own = event.purpose(0).map_or("", |one| one.display.as_ref());
        let app = event.agent.iter().find(|agent| agent.is(APPLICATION));
        let owned = |text: &Text<'_>| text.as_ref().to_owned();
        Self {
            id: owned(&event.id),
            at_ms: fhir::date::parse(event.recorded.as_ref()).map_or(0, |at| at.start_ms),
            who: asked.name.as_ref().map_or_else(String::new, owned),
            who_id: owned(asked.alt_id.as_ref().unwrap_or(&asked.who.identifier.value)),
            own_patient: (role == Some(Role::Patient))
                .then(|| asked.who.reference.as_ref().strip_prefix("Patient/"))
                .flatten()
                .map(str::to_owned),
            role,
            app: app.and_then(|agent| agent.name.as_ref()).map(owned),
            verb,
            things: join(&words),
            plain_things: join(&plain_words),
            identity,
            patients,
            relations,
            purpose: purpose(0).unwrap_or_default(),
            purpose_own: match purpose_own {
                "" => String::new(),
                words => format!("for {words}"),
            },
            purpose_of_hl7: purpose(1).unwrap_or_default(),
            note,
            refused,
            missed,
            queries,
        }
    }
    /// What was done, up to the patient, and the word that leads on to them.
    pub(crate) fn what(&self) -> (String, &'static str) {
        let looks = self.verb.ends_with("look up")
            || self.verb == "looked up"
            || self.verb.ends_with("read");
        match (self.things.as_str(), self.identity) {
            ("", false) if self.verb.ends_with("journeys") => (self.verb.clone(), "of"),
            ("", false) => (self.verb.clone(), "for"),
            ("", true) if looks => (self.verb.clone(), ""),
            ("", true) => (format!("{} the demographics", self.verb), "of"),
            (things, false) => (format!("{} {things}", self.verb), "of"),
            (things, true) => (format!("{} {things} and the demographics", self.verb), "of"),
        }
    }
    /// Id of the emergency access that the note names.
    pub(crate) fn emergency(&self) -> Option<&str> {
        let is_of_one = self.verb == "opened the record by emergency access"
            || self.verb == "looked into an emergency access";
        let named = emergency_in_note(&self.note).filter(|_| is_of_one);
        named.map(|(id, _)| id)
    }
    /// Puts the words of the emergency access that the note names in the note's place, or that they are gone.
    pub(crate) fn tell_emergency(&mut self, access: Option<&EmergencyAccess>) {
        const GONE: &str = "the words are gone for good, with the key that they were sealed with";
        let Some((_, verdict)) = emergency_in_note(&self.note) else {
            return;
        };
        let verdict = verdict.map(|justified| {
            if justified {
                "justified"
            } else {
                "not justified"
            }
        });
        let review = access.and_then(|access| access.review.as_ref());
        self.note = match (verdict, access, review) {
            (None, Some(access), _) => format!("reason given: {}", access.reason),
            (None, None, _) => GONE.to_owned(),
            (Some(verdict), _, Some(review)) => format!("{verdict}: {}", review.words),
            (Some(verdict), _, None) => format!("{verdict}; {GONE}"),
        };
    }
    /// The same to the patient themselves.
    pub(crate) fn plain(&self) -> String {
        const OWN: &str = "your name, birth date and address";
        match (self.plain_things.as_str(), self.identity) {
            ("", false) => match self.verb.as_str() {
                "looked at the journeys" => "looked at where you are in your follow-up".to_owned(),
                "moved a journey on" => "moved your follow-up on".to_owned(),
                "made a sign-in link" => "made a sign-in link for you".to_owned(),
                "opened the record by emergency access" => {
                    format!(
                        "opened your record by emergency access, which shows what you keep from them; {}",
                        self.note
                    )
                }
                "looked into an emergency access" => {
                    format!(
                        "looked into an emergency access to your record and found it {}",
                        self.note
                    )
                }
                "tried to see what a consent denies" => {
                    "asked for an entry of your record that your permissions keep from them, and was not shown it".to_owned()
                }
                "asked about a decision" => {
                    "asked why somebody may or may not see an entry of your record, without seeing it".to_owned()
                }
                "ended an emergency access" => {
                    "ended their emergency access to your record".to_owned()
                }
                "let somebody act for the patient" => "let somebody act for you".to_owned(),
                "ended what somebody may do for the patient" => {
                    "ended what somebody may do for you".to_owned()
                }
                "looked at who acts for whom" => "looked at who acts for you".to_owned(),
                "looked at accesses that nothing explains" => {
                    "looked at the list of accesses that nothing explains, with one to your record".to_owned()
                }
                "looked into an access that nothing explained" => {
                    "looked into an access to your record that nothing on record explained".to_owned()
                }
                "looked at the emergency accesses" => {
                    "looked at the list of emergency accesses, with one to your record".to_owned()
                }
                "searched and found nothing" => "searched your record and found nothing".to_owned(),
                verb => verb.to_owned(),
            },
            ("", true) => format!("{} {OWN}", self.verb),
            (things, false) => format!("{} {things} in your record", self.verb),
            (things, true) => format!("{} {things} in your record, and {OWN}", self.verb),
        }
    }
    /// Who, with the role in brackets.
    pub(crate) fn actor(&self) -> String {
        let actor = self.person();
        match &self.app {
            Some(app) => format!("{actor}, through the app {app}"),
            None => actor,
        }
    }
    fn person(&self) -> String {
        match (self.who.as_str(), self.role) {
            (_, Some(Role::Patient)) => "The patient".to_owned(),
            ("", Some(role)) => format!("Somebody ({})", role_words(role)),
            ("", None) => "Somebody".to_owned(),
            (name, Some(Role::System)) => format!("Cairn's {}", name.replace('-', " ")),
            (name, Some(role)) => format!("{name} ({})", role_words(role)),
            (name, None) => name.to_owned(),
        }
    }
    /// Whether it was for a purpose, or for one that is a kind of it.
    pub(crate) fn is_for(&self, code: &str) -> bool {
        self.purpose == code || self.purpose_of_hl7 == code
    }
    /// What for, so that it continues the sentence; empty when no purpose is recorded.
    pub(crate) fn purpose_words(&self) -> &str {
        match self.purpose.as_str() {
            "TREAT" => "to treat",
            "CAREMGT" => "to manage care",
            "HPAYMT" => "for payment",
            "HOPERAT" => "for operations",
            "ETREAT" => "in an emergency",
            "PATRQT" => "at the patient's own request",
            "HRESCH" => "for research",
            "HSYSADMIN" => "for administration",
            _ => &self.purpose_own,
        }
    }
}

/// The role of this name, as `trust` spells it.
pub(crate) fn role_of(name: &str) -> Option<Role> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(subtype: &str, outcome: &str, entities: &Value) -> Resource {
        Resource::from_value(json!({
            "resourceType": "AuditEvent",
            "id": "e",
            "subtype": [{ "code": subtype }],
            "action": "E",
            "recorded": "2026-11-26T09:14:00Z",
            "outcome": outcome,
            "purposeOfEvent": [{ "coding": [{ "code": "TREAT" }] }],
            "agent": [{ "name": "Carla", "altId": "a1", "requestor": true, "role": [{ "coding": [{ "code": "coordinator" }] }] }, { "requestor": false }],
            "entity": entities,
        }))
        .unwrap()
    }

    fn what(event: &Resource) -> String {
        let sentence = Sentence::of(event);
        let of_text = Sentence::of_text(&event.to_json());
        assert_eq!(format!("{of_text:?}"), format!("{sentence:?}"));
        let (what, joint) = sentence.what();
        format!(
            "{} {what} {joint} … {}",
            sentence.actor(),
            sentence.purpose_words()
        )
    }

    #[test]
    fn events_are_sentences() {
        let entity = |reference: &str| json!({ "what": { "reference": reference } });
        let observations = json!([
            entity("Patient/p"),
            entity("Observation/1"),
            entity("Observation/2"),
            entity("Observation/3"),
            entity("Allergyintolerance/x")
        ]);
        for (event, words) in [
            (
                event("search-type", "0", &observations),
                "Carla (coordinator) looked up 3 observations of … to treat",
            ),
            (
                event(
                    "search-type",
                    "0",
                    &json!([
                        entity("AllergyIntolerance/1"),
                        entity("AuditEvent/2"),
                        entity("AuditEvent/3")
                    ]),
                ),
                "Carla (coordinator) looked up 2 audit events and an allergy intolerance of … to treat",
            ),
            (
                event("search-type", "0", &json!([])),
                "Carla (coordinator) searched and found nothing for … to treat",
            ),
            (
                event(
                    "read",
                    "0",
                    &json!([{ "what": { "reference": "Patient/p" }, "detail": [{ "type": "version", "valueString": "1" }] }]),
                ),
                "Carla (coordinator) read  … to treat",
            ),
            (
                event("search-type", "0", &json!([entity("Patient/p")])),
                "Carla (coordinator) searched and found nothing for … to treat",
            ),
            (
                event(
                    "update",
                    "8",
                    &json!([entity("Patient/p"), entity("Task/t")]),
                ),
                "Carla (coordinator) tried to change a task of … to treat",
            ),
            (
                event("110122", "0", &json!([])),
                "Carla (coordinator) began to sign in for … to treat",
            ),
            (
                event("read", "4", &json!([])),
                "Carla (coordinator) tried to read something of … to treat",
            ),
        ] {
            assert_eq!(what(&event), words);
        }
    }

    #[test]
    fn what_is_odd_in_an_event_counts_as_not_there() {
        let mut own = event(
            "read",
            "0",
            &json!([{ "what": { "reference": "Patient/p" } }]),
        );
        own.set("agent", json!([{ "requestor": true, "who": { "reference": "Patient/p" }, "name": "A \"B\" \u{1}",
            "role": [{ "coding": [{ "code": "patient" }] }] },
            { "requestor": false, "type": { "coding": [{ "code": "110150" }] }, "name": "App" }]));
        let sentence = Sentence::of_text(&own.to_json());
        assert_eq!(sentence.own_patient.as_deref(), Some("p"));
        assert_eq!(
            (sentence.who.as_str(), sentence.app.as_deref()),
            ("A \"B\" \u{1}", Some("App"))
        );
        for text in ["", "{", r#"{"resourceType":"AuditEvent","entity":{}}"#] {
            let sentence = Sentence::of_text(text.as_bytes());
            assert!(
                sentence.role.is_none() && sentence.patients.is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn an_event_is_for_its_purpose_and_for_what_that_is_a_kind_of() {
        for (coding, codes) in [
            (json!([{"code": "TREAT"}]), vec!["TREAT"]),
            (
                json!([{"code": "FooBar", "display": "x"}, {"code": "HRESCH"}]),
                vec!["FooBar", "HRESCH"],
            ),
            (json!([]), vec![]),
        ] {
            let mut event = event("read", "0", &json!([]));
            event.set("purposeOfEvent", json!([{ "coding": coding }]));
            let sentence = Sentence::of(&event);
            for code in ["TREAT", "FooBar", "HRESCH", "HOPERAT"] {
                assert_eq!(sentence.is_for(code), codes.contains(&code), "{code}");
            }
        }
    }

    #[test]
    fn patients_are_told_what_was_looked_at_and_no_more() {
        let plain = |entities: &Value| Sentence::of(&event("search-type", "0", entities)).plain();
        let patient =
            |details: &Value| json!({ "what": { "reference": "Patient/p" }, "detail": details });
        let version = json!([{ "type": "version", "valueString": "3" }]);
        let further = json!([{ "type": "further-resources", "valueString": "2" }]);
        let both = json!([version[0], further[0]]);
        let task = json!({ "what": { "reference": "Task/t" } });
        let nobody = json!([{ "what": { "reference": "Patient/p" } }]);
        for (entities, words) in [
            // A search in their record that found nothing: an empty inbox, no consents.
            (nobody, "searched your record and found nothing"),
            (
                json!([patient(&version)]),
                "looked up your name, birth date and address",
            ),
            (
                json!([patient(&version), task]),
                "looked up a task in your record, and your name, birth date and address",
            ),
            // Theirs are among those that are not listed.
            (
                json!([patient(&further)]),
                "looked up 2 entries in your record",
            ),
            (
                json!([patient(&both), task]),
                "looked up a task and 2 more in your record, and your name, birth date and address",
            ),
        ] {
            assert_eq!(plain(&entities), words);
        }
        // Auditors are told of all together, once.
        let all = json!([patient(&further), task, { "detail": [{ "type": "further-resources", "valueString": "30" }] }]);
        let event = event("search-type", "0", &all);
        assert_eq!(
            what(&event),
            "Carla (coordinator) looked up a task and 30 more of … to treat"
        );
    }

    #[test]
    fn queries_are_decoded_and_plurals_plausible() {
        let sentence = Sentence::of(&event(
            "search-type",
            "0",
            &json!([{ "query": STANDARD.encode("Task?status=requested") }]),
        ));
        assert_eq!(sentence.queries, ["Task?status=requested"]);
        assert_eq!(counted(2, "imaging study"), "2 imaging studies");
        let entity = |reference: &str| json!({ "what": { "reference": reference } });
        let seen = json!([
            entity("Patient/p"),
            entity("Communication/1"),
            entity("Encounter/2"),
            entity("Observation/3")
        ]);
        assert_eq!(
            Sentence::of(&event("search-type", "0", &seen)).plain(),
            "looked up a measurement, a message and a visit in your record"
        );
        assert_eq!(
            counted(1_200, "questionnaire response"),
            "1,200 questionnaire responses"
        );
    }

    #[test]
    fn an_emergency_whose_words_are_gone_says_so() {
        let told = |subtype: &str, note: &str| {
            let event = event(subtype, "0", &json!([]));
            let mut members = event.as_value().clone();
            members["outcomeDesc"] = note.into();
            let event = Resource::from_value(members).unwrap();
            let mut sentence = Sentence::of(&event);
            let named = sentence.emergency().map(str::to_owned);
            sentence.tell_emergency(None);
            (named, sentence.plain())
        };
        let gone = "the words are gone for good, with the key that they were sealed with";
        for (subtype, note, named, ends) in [
            ("110127", "access e1", Some("e1"), gone.to_owned()),
            (
                "emergency-review",
                "not justified; access e1",
                Some("e1"),
                format!("found it not justified; {gone}"),
            ),
            (
                "emergency-review",
                "justified; access e1",
                Some("e1"),
                format!("found it justified; {gone}"),
            ),
            (
                "110127",
                "reason given: no access",
                None,
                "reason given: no access".to_owned(),
            ),
        ] {
            let (found, plain) = told(subtype, note);
            assert_eq!(found.as_deref(), named, "{note}");
            assert!(plain.ends_with(&ends), "{note}: {plain}");
        }
    }
}

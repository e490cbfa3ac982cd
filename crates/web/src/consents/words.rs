//! What a consent says, and what the law adds, in plain words.

use std::collections::HashMap;

use fhir::{Resource, ResourceType, human};
use maud::{Markup, html};
use serde_json::Value;
use trust::consent::Rules;
use trust::{Purposes, Role};

use crate::patient::words::{coded, is_about_messages};
use crate::time::day;

/// Kinds of entries that a form offers, in words, with the types that they are.
pub(super) const KINDS: [(&str, &str, &[ResourceType]); 11] = [
    (
        "medications",
        "Medications",
        &[
            ResourceType::MedicationRequest,
            ResourceType::MedicationStatement,
            ResourceType::MedicationDispense,
            ResourceType::MedicationAdministration,
        ],
    ),
    ("diagnoses", "Diagnoses", &[ResourceType::Condition]),
    (
        "measurements",
        "Measurements and results",
        &[
            ResourceType::Observation,
            ResourceType::DiagnosticReport,
            ResourceType::Specimen,
        ],
    ),
    (
        "allergies",
        "Allergies",
        &[ResourceType::AllergyIntolerance],
    ),
    (
        "procedures",
        "Procedures and images",
        &[ResourceType::Procedure, ResourceType::ImagingStudy],
    ),
    (
        "immunizations",
        "Vaccinations",
        &[ResourceType::Immunization],
    ),
    (
        "documents",
        "Letters and documents",
        &[
            ResourceType::DocumentReference,
            ResourceType::Composition,
            ResourceType::Media,
            ResourceType::Binary,
        ],
    ),
    (
        "stays",
        "Stays and visits",
        &[ResourceType::Encounter, ResourceType::Appointment],
    ),
    (
        "answers",
        "Answers to forms",
        &[ResourceType::QuestionnaireResponse],
    ),
    (
        "messages",
        "Messages and tasks",
        &[ResourceType::Communication, ResourceType::Task],
    ),
    (
        "bills",
        "Bills and insurance",
        &[
            ResourceType::Claim,
            ResourceType::Coverage,
            ResourceType::ExplanationOfBenefit,
        ],
    ),
];

/// Labels that a form offers: HL7 v3 `ActCode`, and words.
pub(super) const LABELS: [(&str, &str); 8] = [
    ("PSY", "Mental health"),
    ("SUD", "Alcohol and other substances"),
    ("HIV", "HIV and AIDS"),
    ("STD", "Sexually transmitted infections"),
    ("SEX", "Sexuality and reproduction"),
    ("SDV", "Abuse and violence"),
    ("GDIS", "Genetic conditions"),
    ("SICKLE", "Sickle cell disease"),
];

/// How many of a type, in words.
pub(super) fn how_many(kind: ResourceType, count: usize) -> String {
    let (one, many) = match kind {
        ResourceType::MedicationRequest => ("prescription", "prescriptions"),
        ResourceType::MedicationStatement => ("medication", "medications"),
        ResourceType::MedicationDispense => ("dispensed medication", "dispensed medications"),
        ResourceType::MedicationAdministration => ("given medication", "given medications"),
        ResourceType::Condition => ("diagnosis", "diagnoses"),
        ResourceType::Observation => ("measurement", "measurements"),
        ResourceType::DiagnosticReport => ("report", "reports"),
        ResourceType::AllergyIntolerance => ("allergy", "allergies"),
        ResourceType::Procedure => ("procedure", "procedures"),
        ResourceType::Immunization => ("vaccination", "vaccinations"),
        ResourceType::DocumentReference => ("document", "documents"),
        ResourceType::Encounter => ("stay or visit", "stays and visits"),
        ResourceType::Appointment => ("appointment", "appointments"),
        ResourceType::Communication => ("message", "messages"),
        ResourceType::Task => ("task", "tasks"),
        ResourceType::CarePlan => ("care plan", "care plans"),
        ResourceType::Claim => ("bill", "bills"),
        ResourceType::QuestionnaireResponse => ("answered form", "answered forms"),
        other => return format!("{count} {other}"),
    };
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Those of a role, in words.
pub(super) fn those_of(role: Role) -> &'static str {
    match role {
        Role::Coordinator => "Care coordinators",
        Role::Clinician => "Clinicians",
        Role::Biller => "Billers",
        Role::PrivacyOfficer => "Privacy officers",
        Role::Squad => "Squads",
        Role::Administrator => "Administrators",
        Role::Patient => "Patients",
        Role::Proxy => "Those who act for the patient",
        Role::System => "Cairn itself",
        Role::Client => "Other systems",
        Role::Steerer => "Programs that steer journeys",
    }
}

/// Names of those who are known as something, by `Type/id`.
pub(super) type Names = HashMap<String, String>;

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn named(reference: &Value, names: &Names) -> String {
    let known = text(reference, "reference").and_then(|target| names.get(target));
    known
        .map(String::as_str)
        .or_else(|| text(reference, "display"))
        .or_else(|| text(reference, "reference"))
        .unwrap_or("somebody")
        .to_owned()
}

fn joined(words: impl IntoIterator<Item = String>, with: &str) -> Option<String> {
    words.into_iter().reduce(|all, one| all + with + &one)
}

fn who(provision: &Value, names: &Names) -> Option<String> {
    // Who gives or witnesses it is not whom it is about.
    let actors = list(provision.get("actor"))
        .filter(|actor| !trust::consent::gives(actor))
        .map(|actor| named(actor.get("reference").unwrap_or(&Value::Null), names));
    joined(actors, ", ")
}

fn what(provision: &Value) -> Option<String> {
    let coded = |coding: &Value| {
        text(coding, "display")
            .or_else(|| text(coding, "code"))
            .unwrap_or("something")
            .to_owned()
    };
    let class = |coding: &Value| {
        let code = text(coding, "code").unwrap_or_default();
        let kind = ResourceType::parse(code);
        kind.map_or_else(
            || coded(coding),
            |kind| how_many(kind, 2).replacen("2 ", "", 1),
        )
    };
    let label = |coding: &Value| {
        let code = text(coding, "code").unwrap_or_default();
        let known = LABELS.iter().find(|(known, _)| *known == code);
        known.map_or_else(|| coded(coding), |(_, words)| (*words).to_owned())
    };
    let parts = [
        joined(list(provision.get("class")).map(class), ", "),
        joined(list(provision.get("code")).map(human::codeable), ", "),
        joined(list(provision.get("securityLabel")).map(label), ", ")
            .map(|labels| format!("what is about: {labels}")),
        joined(
            list(provision.get("data")).map(|data| {
                let reference = data.get("reference").unwrap_or(&Value::Null);
                let entry = named(reference, &Names::new());
                match text(data, "meaning") {
                    Some("instance") => format!("the entry {entry}"),
                    Some("authoredby") => format!("entries by {entry}"),
                    _ => format!("the entry {entry} and what belongs to it"),
                }
            }),
            ", ",
        ),
        provision
            .get("dataPeriod")
            .map(|period| format!("entries of the time{}", period_words(period))),
    ];
    joined(parts.into_iter().flatten(), "; of these ")
}

fn period_words(period: &Value) -> String {
    let from = text(period, "start").map(|start| format!(" from {}", day(start)));
    let until = text(period, "end").map(|end| format!(" until {}", day(end)));
    format!("{}{}", from.unwrap_or_default(), until.unwrap_or_default())
}

fn purposes(provision: &Value, known: &Purposes) -> Option<String> {
    let words = list(provision.get("purpose")).map(|purpose| coded(purpose, known));
    joined(words, ", ")
}

/// Whether a denial has an exception that is as wide as itself, and nothing else in it: a "yes" to a part is
/// written so, because an outermost permit of a part would deny all the rest.
fn is_yes_within(provision: &Value) -> bool {
    let inner: Vec<&Value> = list(provision.get("provision")).collect();
    let [inner] = inner.as_slice() else {
        return false;
    };
    let members = inner.as_object().into_iter().flatten();
    let mut narrowing = members.filter(|(name, _)| *name != "type");
    text(inner, "type") == Some("permit")
        && narrowing.all(|(name, value)| name != "provision" && provision.get(name) == Some(value))
}

/// Whether a consent says "yes" to a part, and nothing of any other.
pub(crate) fn is_yes_to_a_part(consent: &Resource) -> bool {
    let root = consent.get("provision");
    root.is_some_and(|root| text(root, "type") == Some("deny") && is_yes_within(root))
}

/// One provision as a sentence, and its exceptions under it.
fn provision(provision: &Value, permits: bool, known: (&Names, &Purposes)) -> Markup {
    let is_yes = !permits && is_yes_within(provision);
    let permits = permits || is_yes;
    let who = who(provision, known.0);
    let subject = match (&who, permits) {
        (Some(who), true) => format!("{who} may see"),
        (Some(who), false) => format!("{who} may not see"),
        (None, true) => "Everybody involved may see".to_owned(),
        (None, false) => "Nobody may see".to_owned(),
    };
    let what = what(provision).unwrap_or_else(|| "the record".to_owned());
    let purpose = purposes(provision, known.1).map(|purposes| format!(", for {purposes}"));
    let period = provision.get("period").map(period_words);
    html! {
        (subject) " " (what) (purpose.unwrap_or_default()) (period.unwrap_or_default()) "."
        @let inner: Vec<&Value> = list(provision.get("provision")).filter(|_| !is_yes).collect();
        @if !inner.is_empty() {
            ul class="words" {
                @for one in inner {
                    @let inner_permits = text(one, "type") == Some("permit");
                    li { @if inner_permits == permits { "And: " } @else { "But: " } (self::provision(one, inner_permits, known)) }
                }
            }
        }
    }
}

/// Whether a consent says "deny" at its outermost.
pub(super) fn denies(consent: &Resource) -> bool {
    match consent.text_at(&["provision", "type"]) {
        Some(kind) => kind == "deny",
        None => list(consent.at(&["policyRule", "coding"]))
            .any(|coding| matches!(text(coding, "code"), Some("OPTOUT" | "OPTOUTE"))),
    }
}

/// What a consent says, with the names of whom it is about and the purposes that the organisation knows.
pub(super) fn sentence(consent: &Resource, names: &Names, purposes: &Purposes) -> Markup {
    let nothing = Value::Null;
    let root = consent.get("provision").unwrap_or(&nothing);
    if is_about_messages(consent) {
        let words = if denies(consent) {
            "Care programmes may not follow this patient or write to them."
        } else {
            "Care programmes may follow this patient and write to them."
        };
        return html! { (words) };
    }
    html! {
        (provision(root, !denies(consent), (names, purposes)))
        @if let Some(keeper) = consent.at(&["organization", "0"]) { " " (named(keeper, names)) " has agreed to keep to this." }
    }
}

/// Whom a denial doesn't bind, because nobody has agreed to keep to it.
pub(super) fn unbound(rules: &Rules, consent: &Resource) -> Markup {
    let agreed = consent.at(&["organization", "0", "reference"]).is_some();
    let roles = rules.bound().filter(|(_, only)| *only);
    let roles = joined(roles.map(|(role, _)| those_of(role).to_lowercase()), ", ");
    html! {
        @if let (Some(roles), false) = (roles, agreed || is_about_messages(consent) || !denies(consent) || is_yes_to_a_part(consent)) {
            p class="quiet" { "It does not bind " (roles) ": the organisation has not agreed to keep to it." }
        }
    }
}

/// What the law adds to what patients say.
pub(super) fn law(rules: &Rules) -> Markup {
    let bound = |agreed: bool| {
        let roles = rules.bound().filter(|(_, only)| *only == agreed);
        joined(roles.map(|(role, _)| those_of(role).to_lowercase()), ", ")
    };
    let free: Vec<String> = rules
        .free_in_emergency()
        .iter()
        .map(|role| those_of(*role).to_lowercase())
        .collect();
    html! {
        section class="stack" aria-labelledby="law" {
            h2 id="law" { "What the law adds" }
            ul {
                @if let Some(roles) = bound(false) { li { "What is said here binds " (roles) "." } }
                @if let Some(roles) = bound(true) { li { "It binds " (roles) " only where the organisation has agreed to keep to it." } }
                @if let Some(roles) = joined(free, ", ") { li { "In an emergency it does not bind " (roles) ". The patient is told of each." } }
                @for (_, words) in rules.labels_that_need_consent() { li { (first_upper(words)) "." } }
                li { "Patients always see their own record." }
            }
            p class="quiet small" { "Rules: " (rules.name()) }
        }
    }
}

fn first_upper(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn consents_in_words() {
        let names = Names::from([("Organization/x".to_owned(), "Pharmacy X".to_owned())]);
        let actor = json!([{"reference": {"reference": "Organization/x"}}]);
        for (root, words) in [
            (json!({"type": "deny"}), "Nobody may see the record."),
            (
                json!({"type": "deny", "actor": actor, "class": [{"code": "MedicationRequest"}]}),
                "Pharmacy X may not see prescriptions.",
            ),
            (
                json!({"type": "permit", "purpose": [{"code": "HRESCH"}], "period": {"start": "2026-03-01", "end": "2026-04-30"}}),
                "Everybody involved may see the record, for research from 1 Mar 2026 until 30 Apr 2026.",
            ),
            (
                json!({"type": "deny", "securityLabel": [{"code": "HIV"}], "provision": [{"type": "permit", "actor": actor}]}),
                "Nobody may see what is about: HIV and AIDS.<ul class=\"words\"><li>But: Pharmacy X may see the record.</li></ul>",
            ),
            (
                json!({"type": "deny", "actor": actor, "class": [{"code": "Condition"}], "provision": [{"type": "permit", "actor": actor, "class": [{"code": "Condition"}]}]}),
                "Pharmacy X may see diagnoses.",
            ),
            (
                json!({"type": "deny", "class": [{"code": "Condition"}], "provision": [{"type": "permit", "class": [{"code": "Claim"}]}]}),
                "Nobody may see diagnoses.<ul class=\"words\"><li>But: Everybody involved may see bills.</li></ul>",
            ),
            (
                json!({"type": "deny", "actor": [{"role": {"coding": [{"code": "GRANTOR"}]}, "reference": {"reference": "Patient/p"}}]}),
                "Nobody may see the record.",
            ),
        ] {
            let mut consent = Resource::new(ResourceType::Consent);
            consent.set("provision", root);
            let told = sentence(&consent, &names, &Purposes::default());
            assert_eq!(told.into_string(), words);
        }
    }
}

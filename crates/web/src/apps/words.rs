//! Scopes in plain words, for the people who agree to them.

use fhir::ResourceType;
use trust::Role;
use trust::scopes::{Context, Level, ScopePart, Scopes};

/// What a type is to people who are not of the trade. Others are named as FHIR names them.
fn things(kind: ResourceType) -> String {
    let words = match kind {
        ResourceType::Patient => "name, address, date of birth and other personal details",
        ResourceType::Observation => "measurements and test results",
        ResourceType::DiagnosticReport => "reports of tests and examinations",
        ResourceType::Condition => "illnesses and health problems",
        ResourceType::AllergyIntolerance => "allergies",
        ResourceType::MedicationRequest => "prescriptions",
        ResourceType::MedicationStatement => "medicines taken",
        ResourceType::MedicationDispense => "medicines handed out",
        ResourceType::MedicationAdministration => "medicines given",
        ResourceType::Medication => "descriptions of medicines",
        ResourceType::Immunization => "vaccinations",
        ResourceType::Procedure => "operations and treatments",
        ResourceType::Encounter => "visits and stays",
        ResourceType::Appointment => "appointments",
        ResourceType::CarePlan => "care plans",
        ResourceType::CareTeam => "care teams",
        ResourceType::Goal => "goals of care",
        ResourceType::DocumentReference => "documents and letters",
        ResourceType::Consent => "permissions given and refused",
        ResourceType::Coverage => "health insurance",
        ResourceType::FamilyMemberHistory => "illnesses in the family",
        ResourceType::Communication => "messages",
        ResourceType::QuestionnaireResponse => "answers to forms",
        ResourceType::Questionnaire => "forms",
        ResourceType::Task => "tasks",
        ResourceType::Practitioner => "names of doctors, nurses and other staff",
        ResourceType::PractitionerRole => "what doctors, nurses and other staff do",
        ResourceType::Organization => "hospitals, practices and departments",
        ResourceType::Location => "places of care",
        ResourceType::Device => "devices",
        ResourceType::AuditEvent => "the list of who looked at the record",
        other => return format!("entries of the kind {}", other.name()),
    };
    words.to_owned()
}

/// What a scope lets an application do.
pub(super) fn line(part: &ScopePart, role: Role) -> String {
    let mut deeds = Vec::new();
    for (may, word) in [
        (part.looks, "see"),
        (part.adds, "add"),
        (part.changes, "change"),
        (part.deletes, "delete"),
    ] {
        if may {
            deeds.push(word);
        }
    }
    let deeds = match deeds.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    let whose = match (part.level, role) {
        (Level::Patient, Role::Patient) => "of your record",
        (Level::Patient, _) => "of this patient",
        _ => "of every patient whom you may see",
    };
    let what = part.kind.map_or_else(|| "everything".to_owned(), things);
    let mut words = format!("{deeds}: {what}, {whose}");
    if let Some(filter) = &part.filter {
        words.push_str(", only where ");
        words.push_str(&filter.replace('&', " and "));
    }
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => words,
    }
}

/// What an application learns of who somebody is, if it does.
pub(super) fn who_one_is(scopes: &Scopes) -> Option<&'static str> {
    let entry = Context::ENTRY.iter().any(|entry| scopes.has(*entry));
    match (scopes.has(Context::OpenId), entry) {
        (false, _) => None,
        (true, true) => Some("Know who you are: your own entry in the record"),
        (true, false) => Some("Know you again when you come back, without your name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_in_words() {
        for (scope, role, words) in [
            (
                "patient/Observation.rs",
                Role::Patient,
                "See: measurements and test results, of your record",
            ),
            (
                "patient/*.rs",
                Role::Clinician,
                "See: everything, of this patient",
            ),
            (
                "user/Condition.cruds",
                Role::Clinician,
                "See, add, change and delete: illnesses and health problems, of every patient whom you may see",
            ),
            (
                "patient/Observation.rs?category=laboratory&status=final",
                Role::Patient,
                "See: measurements and test results, of your record, only where category=laboratory and status=final",
            ),
            (
                "user/Basic.c",
                Role::Clinician,
                "Add: entries of the kind Basic, of every patient whom you may see",
            ),
        ] {
            let part = Scopes::parse(scope).unwrap().parts().next().unwrap();
            assert_eq!(line(&part, role), words);
        }
    }
}

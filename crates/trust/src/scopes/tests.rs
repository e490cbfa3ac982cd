use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parsed(text: &str) -> Scopes {
    Scopes::parse(text).unwrap()
}

fn printed(text: &str) -> String {
    parsed(text).to_string()
}

#[test]
fn scopes_are_printed_as_what_they_mean() {
    let table = [
        ("patient/Observation.rs", "patient/Observation.rs"),
        ("patient/*.read", "patient/*.rs"),
        ("user/Observation.write", "user/Observation.cud"),
        ("system/*.*", "system/*.cruds"),
        (
            " launch/patient  patient/*.rs ",
            "launch/patient patient/*.rs",
        ),
        // What lies in another scope goes, whichever comes first.
        ("patient/*.rs patient/Observation.r", "patient/*.rs"),
        ("patient/Observation.r patient/*.rs", "patient/*.rs"),
        (
            "patient/Observation.rs?category=laboratory patient/Observation.rs",
            "patient/Observation.rs",
        ),
        (
            "patient/Observation.rs?category=laboratory patient/Observation.r",
            "patient/Observation.rs?category=laboratory patient/Observation.r",
        ),
        (
            "user/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
            "user/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        ),
        // In one order, and encoded only where they have to be.
        (
            "user/Observation.rs?status=final&category=a%20b%7Cc",
            "user/Observation.rs?category=a%20b|c&status=final",
        ),
        (
            "offline_access launch online_access",
            "launch offline_access online_access",
        ),
        ("", ""),
    ];
    for (text, expected) in table {
        assert_eq!(printed(text), expected, "{text}");
        assert_eq!(printed(expected), expected);
    }
}

#[test]
fn what_is_no_scope_says_why() {
    let table = [
        ("Observation.rs", "none of SMART's"),
        ("everyone/Observation.rs", "patient/, user/ and system/"),
        ("patient/Observation", ".rs"),
        ("patient/Observation.", "letters cruds"),
        ("patient/Observation.sr", "letters cruds"),
        ("patient/Observation.rr", "letters cruds"),
        ("patient/Observation.x", "letters cruds"),
        ("patient/Observations.rs", "no such resource type"),
        ("patient/*.rs?category=x", "one resource type"),
        ("patient/Observation.rs?", "one to 10"),
        (
            "patient/Observation.rs?colour=red",
            "is no search parameter",
        ),
        ("patient/Observation.rs?_count=1", "begin with _"),
        ("patient/Observation.rs?_lastUpdated=gt2020", "begin with _"),
        (
            "patient/Observation.rs?_has:Provenance:target:agent=x",
            "begin with _",
        ),
        ("patient/Observation.rs?_filter=code+eq+x", "begin with _"),
        ("patient/Observation.rs?patient.name=x", "chained"),
        ("patient/Observation.rs?code:in=http://x/vs", "value sets"),
        ("patient/Observation.rs?date=ap2020", "ap"),
        ("patient/Observation.rs?date=yesterday", "date"),
        ("patient/Observation.rs\"", "character"),
        ("patient/AuditEvent.rs?entity=Patient/x", "in part"),
        ("Launch", "none of SMART's"),
    ];
    for (text, words) in table {
        let error = Scopes::parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let many = "patient/Patient.r ".repeat(SCOPES_MAX + 1);
    assert_eq!(Scopes::parse(&many), Err(ScopeError::TooMany));
    assert!(Scopes::parse(&"patient/Patient.r ".repeat(SCOPES_MAX)).is_ok());
    let long = " ".repeat(SCOPES_BYTES_MAX + 1);
    assert_eq!(Scopes::parse(&long), Err(ScopeError::TooMany));
    let parameters = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|n| format!("code=c{n:02}")).collect();
        Scopes::parse(&format!("user/Observation.r?{}", pairs.join("&")))
    };
    assert!(parameters(10).is_ok());
    assert!(parameters(11).is_err());
}

#[test]
fn narrowing_is_what_both_let_be_done() {
    let table = [
        (
            "patient/*.rs",
            "patient/Observation.cruds",
            "patient/Observation.rs",
        ),
        ("patient/*.rs", "user/*.rs", ""),
        (
            "system/*.cruds",
            "system/Patient.r system/Group.rs",
            "system/Patient.r system/Group.rs",
        ),
        ("system/Patient.r", "system/Group.r", ""),
        ("system/Patient.c", "system/Patient.r", ""),
        (
            "user/Observation.rs?category=laboratory",
            "user/*.r",
            "user/Observation.r?category=laboratory",
        ),
        (
            "user/Observation.rs?category=laboratory",
            "user/Observation.rs?status=final",
            "user/Observation.rs?category=laboratory&status=final",
        ),
        (
            "user/Observation.rs?category=laboratory",
            "user/Observation.rs?category=laboratory user/Observation.r",
            "user/Observation.rs?category=laboratory",
        ),
        (
            "launch/patient offline_access",
            "launch/patient online_access",
            "launch/patient",
        ),
    ];
    for (left, right, expected) in table {
        let both = parsed(left).narrow(&parsed(right));
        assert_eq!(both.to_string(), expected, "{left} and {right}");
        let other = parsed(right).narrow(&parsed(left));
        let sorted = |text: String| {
            let mut all: Vec<String> = text.split(' ').map(str::to_owned).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(other.to_string()), sorted(expected.to_owned()));
    }
}

#[test]
fn what_can_be_begun() {
    let table = [
        ("system/*.rs", Action::Export, true),
        ("system/Patient.r system/Patient.s", Action::Export, false),
        ("user/*.cruds", Action::Export, false),
        ("patient/*.cruds", Action::Import, false),
        ("system/Patient.cru", Action::Import, true),
        ("patient/Patient.r", Action::Transaction, true),
        ("launch", Action::Transaction, false),
        ("system/*.rs", Action::Index, false),
        ("system/SearchParameter.c", Action::Index, true),
        ("patient/*.cruds", Action::Index, false),
        ("system/*.cruds", Action::Publish, false),
        ("system/*.cruds", Action::Administer, false),
        ("system/*.cruds", Action::Audit, false),
        ("user/*.s", Action::Search, true),
        ("user/*.s", Action::Read, false),
    ];
    for (text, action, expected) in table {
        assert_eq!(parsed(text).begins(action), expected, "{text} {action:?}");
    }
}

fn observation(category: &str, status: &str) -> Resource {
    Resource::from_value(json!({
        "resourceType": "Observation",
        "status": status,
        "category": [{"coding": [{"system": "http://c", "code": category}]}],
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p"},
    }))
    .unwrap()
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[test]
fn rows_are_covered_by_level_interaction_and_filter() {
    let (lab, vital) = (
        observation("laboratory", "final"),
        observation("vital-signs", "final"),
    );
    let scopes = parsed(
        "patient/Observation.rs?category=laboratory user/Observation.r?category=http://c|vital-signs",
    );
    let of = |action, row: &Resource, of_patient: bool| scopes.cover(action, row, || of_patient);
    assert!(of(Action::Read, &lab, true));
    assert!(of(Action::Search, &lab, true));
    assert!(!of(Action::Read, &lab, false), "another patient's");
    assert!(of(Action::Read, &vital, false));
    assert!(!of(Action::Search, &vital, true));
    assert!(!of(Action::Update, &lab, true));
    assert!(scopes.looks_into(ResourceType::Observation));
    assert!(!scopes.looks_into(ResourceType::Patient));
    assert!(
        scopes
            .filter(Action::Search, ResourceType::Observation)
            .is_some()
    );
    assert!(
        scopes
            .filter(Action::Read, ResourceType::Observation)
            .is_none()
    );
}

fn any_scope() -> impl Strategy<Value = String> {
    let level = prop_oneof!["patient", "user", "system"];
    let permissions = prop_oneof![Just("r"), Just("s"), Just("rs"), Just("cruds"), Just("cu")];
    let target = prop_oneof![Just("*"), Just("Observation"), Just("Patient"),];
    let filter = prop_oneof![
        3 => Just(""),
        1 => Just("?category=laboratory"),
        1 => Just("?category=vital-signs"),
        1 => Just("?status=final"),
        1 => Just("?category=laboratory&status=final"),
    ];
    (level, target, permissions, filter).prop_map(|(level, target, permissions, filter)| {
        let filter = if target == "Observation" { filter } else { "" };
        format!("{level}/{target}.{permissions}{filter}")
    })
}

fn any_scopes() -> impl Strategy<Value = Scopes> {
    prop::collection::vec(any_scope(), 0..6).prop_map(|all| parsed(&all.join(" ")))
}

proptest! {
    /// Whatever strangers send is a list of scopes or an error.
    #[test]
    fn no_text_breaks_parsing(text in "(patient|user|system|launch|/|\\*|Observation|\\.|[cruds]|\\?|category|=|%|&|\\||[^a-z]){0,24}") {
        if let Ok(scopes) = Scopes::parse(&text) {
            prop_assert_eq!(&parsed(&scopes.to_string()), &scopes);
        }
    }

    #[test]
    fn printing_loses_nothing(scopes in any_scopes()) {
        prop_assert_eq!(&parsed(&scopes.to_string()), &scopes);
    }

    /// Row by row, what both let be done is what each lets be done, at one level; and what is asked for
    /// is never widened.
    // Proves: 45 CFR 164.308(a)(4)(ii)(B)
    #[test]
    fn narrowing_equals_asking_both(
        left in any_scopes(),
        right in any_scopes(),
        category in prop_oneof!["laboratory", "vital-signs", "other"],
        status in prop_oneof!["final", "amended"],
        of_patient: bool,
    ) {
        let row = observation(&category, &status);
        let both = left.narrow(&right);
        for action in Action::INTERACTIONS {
            let covers = |scopes: &Scopes| scopes.cover(action, &row, || of_patient);
            for level in [Level::Patient, Level::User, Level::System] {
                let of = |scopes: &Scopes| Scopes {
                    resources: scopes.resources.iter().filter(|scope| scope.level == level).cloned().collect(),
                    ..Scopes::default()
                };
                prop_assert_eq!(covers(&of(&both)), covers(&of(&left)) && covers(&of(&right)));
            }
            prop_assert!(!covers(&both) || (covers(&left) && covers(&right)));
            let allows = |scopes: &Scopes| scopes.allows(action, ResourceType::Observation);
            prop_assert!(!covers(&both) || allows(&both));
            if let Some(query) = both.filter(action, ResourceType::Observation) {
                prop_assert!(!covers(&both) || query.matches(&row), "a list would lack the row");
            }
        }
    }
}

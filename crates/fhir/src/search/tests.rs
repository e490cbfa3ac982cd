use super::plan::{Leaf, Plan, compile_all, compiled, is_read};
use super::*;
use crate::date;
use serde_json::{Value, json};

fn resource(value: Value) -> Resource {
    Resource::from_value(value).unwrap()
}

fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap())
        .map(|(a, b)| (a.into(), b.into()))
        .collect()
}

fn parse(kind: ResourceType, query: &str) -> Result<SearchQuery, crate::OperationOutcome> {
    SearchQuery::parse(kind, &pairs(query), false)
}

fn token(system: &str, code: &str) -> IndexValue {
    IndexValue::Token {
        system: system.into(),
        code: code.into(),
    }
}

fn values(resource: &Resource, name: &str) -> Vec<IndexValue> {
    index(resource)
        .into_iter()
        .filter(|entry| entry.parameter == name)
        .map(|entry| entry.value)
        .collect()
}

fn weight() -> Resource {
    resource(json!({
        "resourceType": "Observation", "id": "w1",
        "meta": {"tag": [{"system": "http://t.org", "code": "demo"}], "security": [{"system": "http://s.org", "code": "R"}],
                 "profile": ["http://p.org/weight|1.2"]},
        "status": "final",
        "category": [{"coding": [{"system": "http://c.org", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}, {"system": "http://loinc.org", "code": "3141-9"}], "text": "Weight"},
        "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e1/_history/3"},
        "performer": [{"reference": "https://other.org/fhir/Practitioner/x"}, {"reference": "Organization/o1"}, {"reference": "#c"}, {"display": "me"}],
        "effectivePeriod": {"start": "2026-11-26"},
        "valueCodeableConcept": {"coding": [{"code": "no-system"}], "text": "Größe  A"},
        "identifier": [{"system": "http://i.org", "value": "7"}, {"value": "8"}],
    }))
}

#[test]
fn every_expression_of_the_table_compiles_and_yields_what_is_read() {
    let mut parameters_seen = 0;
    let mut paths = Vec::new();
    for kind in ResourceType::all() {
        for (parameter, result) in parameters(kind)
            .iter()
            .zip(compile_all(facts::search(kind)))
        {
            parameters_seen += 1;
            let compiled =
                result.unwrap_or_else(|error| panic!("{kind} {}: {error}", parameter.name));
            assert_eq!(compiled.name, parameter.name);
            let mut leaves = Vec::new();
            for plan in &compiled.plans {
                if matches!(plan, Plan::Path(_)) {
                    paths.push(format!("{kind} {}", parameter.name));
                }
                leaves.extend(plan.leaves());
            }
            if parameter.kind == ParameterKind::Composite {
                assert!(leaves.is_empty() && !compiled.bases.is_empty());
                continue;
            }
            let readable = |leaf: &Leaf| is_read(parameter.kind, *leaf);
            assert!(
                leaves.iter().any(readable),
                "{kind} {} {leaves:?}",
                parameter.name
            );
        }
        assert_eq!(compiled(kind).len(), parameters(kind).len());
    }
    assert!(parameters_seen > 1400, "{parameters_seen}");
    // All others are walked without making collections.
    assert_eq!(paths, ["Patient deceased"]);
}

#[test]
fn an_observation_is_indexed() {
    let weight = weight();
    let start_ms = date::parse("2026-11-26").unwrap().start_ms;
    let reference = |text: &str| IndexValue::Reference(text.into());
    for (name, expected) in [
        ("_id", vec![token("", "w1")]),
        ("_tag", vec![token("http://t.org", "demo")]),
        ("_security", vec![token("http://s.org", "R")]),
        (
            "_profile",
            vec![
                IndexValue::Uri("http://p.org/weight|1.2".into()),
                IndexValue::Uri("http://p.org/weight".into()),
            ],
        ),
        (
            "status",
            vec![token("http://hl7.org/fhir/observation-status", "final")],
        ),
        ("category", vec![token("http://c.org", "vital-signs")]),
        (
            "code",
            vec![
                token("http://loinc.org", "29463-7"),
                token("http://loinc.org", "3141-9"),
            ],
        ),
        (
            "combo-code",
            vec![
                token("http://loinc.org", "29463-7"),
                token("http://loinc.org", "3141-9"),
            ],
        ),
        ("subject", vec![reference("Patient/p1")]),
        ("patient", vec![reference("Patient/p1")]),
        ("encounter", vec![reference("Encounter/e1")]),
        (
            "performer",
            vec![
                reference("https://other.org/fhir/Practitioner/x"),
                reference("Organization/o1"),
            ],
        ),
        (
            "date",
            vec![IndexValue::Date {
                start_ms,
                end_ms: OPEN_END_MS,
            }],
        ),
        ("value-concept", vec![token("", "no-system")]),
        ("value-string", vec![IndexValue::String("grosse a".into())]),
        (
            "identifier",
            vec![token("http://i.org", "7"), token("", "8")],
        ),
        ("value-date", vec![]),
        ("_lastUpdated", vec![]),
    ] {
        assert_eq!(values(&weight, name), expected, "{name}");
    }
}

#[test]
fn other_shapes_are_indexed() {
    let string = |text: &str| IndexValue::String(text.into());
    let uri = |text: &str| IndexValue::Uri(text.into());
    let reference = |text: &str| IndexValue::Reference(text.into());
    let day = |from: &str, to: &str| IndexValue::Date {
        start_ms: date::parse(from).unwrap().start_ms,
        end_ms: date::parse(to).unwrap().start_ms,
    };
    let patient = |name: &str, value: Value| json!({"resourceType": "Patient", name: value});
    for (value, name, expected) in [
        (
            patient(
                "name",
                json!([{"family": "Özil", "given": ["Ida", "ida"], "text": "Ida Özil"}]),
            ),
            "name",
            vec![string("ida ozil"), string("ozil"), string("ida")],
        ),
        (
            patient("name", json!([{"family": "Özil", "given": ["Ida"]}])),
            "given",
            vec![string("ida")],
        ),
        (
            patient(
                "address",
                json!([{"line": ["Weg 1", "Hof"], "city": "Bonn", "postalCode": "53111"}]),
            ),
            "address",
            vec![
                string("weg 1"),
                string("hof"),
                string("bonn"),
                string("53111"),
            ],
        ),
        (
            patient(
                "telecom",
                json!([{"system": "phone", "value": "1"}, {"system": "email", "value": "a@b.org"}]),
            ),
            "email",
            vec![token("", "a@b.org")],
        ),
        (
            patient("telecom", json!([{"system": "phone", "value": "1"}])),
            "telecom",
            vec![token("", "1")],
        ),
        (
            patient("active", json!(false)),
            "active",
            vec![token("", "false")],
        ),
        (
            patient("gender", json!("female")),
            "gender",
            vec![token("http://hl7.org/fhir/administrative-gender", "female")],
        ),
        (
            patient("birthDate", json!("1950-02")),
            "birthdate",
            vec![day("1950-02", "1950-03")],
        ),
        (
            patient("deceasedDateTime", json!("2026-01-01")),
            "death-date",
            vec![day("2026-01-01", "2026-01-02")],
        ),
        (
            patient("deceasedDateTime", json!("2026-01-01")),
            "deceased",
            vec![token("", "true")],
        ),
        (
            patient("deceasedBoolean", json!(false)),
            "deceased",
            vec![token("", "false")],
        ),
        (
            patient("active", json!(true)),
            "deceased",
            vec![token("", "false")],
        ),
        (
            patient("link", json!([{"other": {"reference": "Patient/2"}}])),
            "link",
            vec![reference("Patient/2")],
        ),
        (
            json!({"resourceType": "Procedure", "performedString": "2020"}),
            "date",
            vec![],
        ),
        (
            json!({"resourceType": "Procedure", "performedPeriod": {"end": "2020"}}),
            "date",
            vec![IndexValue::Date {
                start_ms: OPEN_START_MS,
                end_ms: date::parse("2021").unwrap().start_ms,
            }],
        ),
        (
            json!({"resourceType": "Procedure", "performedPeriod": {}}),
            "date",
            vec![],
        ),
        (
            json!({"resourceType": "Procedure", "performedPeriod": {"start": "2021", "end": "2020"}}),
            "date",
            vec![],
        ),
        (
            json!({"resourceType": "ServiceRequest", "occurrenceTiming": {"event": ["2020-01-05", "2020-01-02"],
            "repeat": {"boundsPeriod": {"start": "2020-01-03", "end": "2020-01-31"}}}}),
            "occurrence",
            vec![day("2020-01-02", "2020-02-01")],
        ),
        (
            json!({"resourceType": "ServiceRequest", "occurrenceTiming": {"repeat": {"frequency": 1}}}),
            "occurrence",
            vec![],
        ),
        (
            json!({"resourceType": "Questionnaire", "url": "http://q.org/1"}),
            "url",
            vec![uri("http://q.org/1")],
        ),
        (
            json!({"resourceType": "QuestionnaireResponse", "questionnaire": "http://q.org/1|2"}),
            "questionnaire",
            vec![reference("http://q.org/1|2"), reference("http://q.org/1")],
        ),
        (
            json!({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Composition", "id": "c1"}}, {"resource": {"resourceType": "Patient", "id": "p1"}}]}),
            "composition",
            vec![reference("Composition/c1")],
        ),
        (
            json!({"resourceType": "Appointment", "participant": [{"actor": {"reference": "Patient/1"}}, {"actor": {"reference": "Location/2"}}]}),
            "location",
            vec![reference("Location/2")],
        ),
        (
            json!({"resourceType": "Medication", "ingredient": [{"itemReference": {"reference": "Substance/1"}}, {"itemCodeableConcept": {"coding": [{"code": "c"}]}}]}),
            "ingredient",
            vec![reference("Substance/1")],
        ),
        (
            json!({"resourceType": "Observation", "subject": {"reference": "#p"}, "contained": [{"resourceType": "Patient", "id": "p"}]}),
            "patient",
            vec![],
        ),
        (
            json!({"resourceType": "Condition", "onsetAge": {"value": 3, "unit": "a"}}),
            "onset-date",
            vec![],
        ),
    ] {
        assert_eq!(values(&resource(value.clone()), name), expected, "{value}");
    }
}

#[test]
fn owners() {
    let subject = |kind: &str, name: &str, reference: &str| json!({"resourceType": kind, name: {"reference": reference}});
    for (value, owner) in [
        (
            json!({"resourceType": "Patient", "id": "p1", "link": [{"other": {"reference": "Patient/2"}}]}),
            Some("p1"),
        ),
        (json!({"resourceType": "Patient"}), None),
        (subject("Observation", "subject", "Patient/p1"), Some("p1")),
        (
            subject("Observation", "subject", "Patient/p1/_history/2"),
            Some("p1"),
        ),
        (
            subject(
                "Observation",
                "subject",
                "https://other.org/fhir/Patient/p1",
            ),
            None,
        ),
        (subject("Observation", "subject", "urn:uuid:1"), None),
        (subject("Observation", "subject", "Group/g"), None),
        (
            json!({"resourceType": "Observation", "performer": [{"reference": "Patient/p2"}], "subject": {"reference": "Patient/p1"}}),
            Some("p1"),
        ),
        (
            json!({"resourceType": "Observation", "performer": [{"reference": "Patient/p2"}]}),
            Some("p2"),
        ),
        (
            json!({"resourceType": "Coverage", "subscriber": {"reference": "Patient/p2"}, "beneficiary": {"reference": "Patient/p1"}}),
            Some("p1"),
        ),
        (
            json!({"resourceType": "Appointment", "participant": [{"actor": {"reference": "Location/1"}}, {"actor": {"reference": "Patient/p1"}}]}),
            Some("p1"),
        ),
        (
            json!({"resourceType": "AuditEvent", "entity": [{"what": {"reference": "Patient/p1"}}]}),
            Some("p1"),
        ),
        (subject("Task", "for", "Patient/p1"), Some("p1")),
        (subject("Consent", "patient", "Patient/p1"), Some("p1")),
        (
            subject("QuestionnaireResponse", "subject", "Patient/p1"),
            Some("p1"),
        ),
        (
            subject("Communication", "subject", "Patient/p1"),
            Some("p1"),
        ),
        (subject("Device", "patient", "Patient/p1"), Some("p1")),
        (
            json!({"resourceType": "Contract", "subject": [{"reference": "Organization/o"}, {"reference": "Patient/p1"}]}),
            Some("p1"),
        ),
        (
            subject("GuidanceResponse", "subject", "Patient/p1"),
            Some("p1"),
        ),
        (
            json!({"resourceType": "MessageHeader", "focus": [{"reference": "Patient/p1"}]}),
            Some("p1"),
        ),
        (
            subject("Binary", "securityContext", "Patient/p1"),
            Some("p1"),
        ),
        (
            subject("Binary", "securityContext", "DocumentReference/d"),
            None,
        ),
        (subject("Practitioner", "subject", "Patient/p1"), None),
        (json!({"resourceType": "Organization", "id": "o"}), None),
    ] {
        assert_eq!(resource(value.clone()).patient(), owner, "{value}");
    }
}

#[test]
fn all_patients_of_a_resource() {
    for (value, patients, elsewhere) in [
        (
            json!({"resourceType": "Patient", "id": "p", "link": [{"other": {"reference": "Patient/q"}}]}),
            &["p"][..],
            false,
        ),
        (
            json!({"resourceType": "Appointment", "participant": [{"actor": {"reference": "Patient/p"}}, {"actor": {"reference": "Patient/q"}},
                   {"actor": {"reference": "Patient/p"}}]}),
            &["p", "q"],
            false,
        ),
        (
            json!({"resourceType": "Group", "member": [{"entity": {"reference": "Patient/q"}}, {"entity": {"reference": "Patient/p"}}]}),
            &["q", "p"],
            false,
        ),
        (
            json!({"resourceType": "Observation", "performer": [{"reference": "Patient/q"}], "subject": {"reference": "Patient/p"}}),
            &["p", "q"],
            false,
        ),
        (
            json!({"resourceType": "Observation", "subject": {"reference": "http://x.org/fhir/Patient/p"}}),
            &[],
            true,
        ),
        (
            json!({"resourceType": "Observation", "performer": [{"reference": "http://x.org/fhir/Practitioner/p"}]}),
            &[],
            false,
        ),
        (
            json!({"resourceType": "Organization", "id": "o"}),
            &[],
            false,
        ),
    ] {
        let resource = resource(value.clone());
        assert_eq!(resource.patients(), patients, "{value}");
        assert_eq!(resource.is_of_patient_elsewhere(), elsewhere, "{value}");
        assert_eq!(resource.patient(), patients.first().copied());
    }
}

#[test]
fn queries_match() {
    use ResourceType as T;
    let weight = weight();
    let patient = resource(
        json!({"resourceType": "Patient", "id": "p1", "birthDate": "1950-02-03", "active": true, "gender": "male",
        "name": [{"family": "van der Berg, A|B$", "given": ["Ida"]}], "identifier": [{"system": "http://i.org", "value": "a,b"}]}),
    );
    for (resource, query, expected) in [
        (&weight, "", true),
        (&weight, "_id=w1", true),
        (&weight, "_id=w2,w1", true),
        (&weight, "_id=w2", false),
        (&weight, "_tag=demo", true),
        (&weight, "_tag=http://t.org|demo", true),
        (&weight, "_security=http://t.org|R", false),
        (&weight, "_profile=http://p.org/weight", true),
        (&weight, "_profile=http://p.org/weight|1.2", true),
        (&weight, "_profile=http://p.org/weight|1.3", false),
        (&weight, "_profile:missing=false", true),
        (&weight, "status=final", true),
        (
            &weight,
            "status=http://hl7.org/fhir/observation-status|final",
            true,
        ),
        (&weight, "status=http://x.org|final", false),
        (&weight, "status=Final", false),
        (&weight, "status:not=final", false),
        (&weight, "status:not=amended,preliminary", true),
        (&weight, "status:not=amended,final", false),
        (&weight, "code=29463-7", true),
        (&weight, "code=http://loinc.org|29463-7", true),
        (&weight, "code=http://loinc.org|", true),
        (&weight, "code=|29463-7", false),
        (&weight, "identifier=|8", true),
        (&weight, "code=1,29463-7", true),
        (&weight, "code=29463-7&code=3141-9", true),
        (&weight, "code=29463-7&code=1", false),
        (&weight, "method:missing=true", true),
        (&weight, "method:missing=false", false),
        (&weight, "code:missing=true", false),
        (&weight, "method:not=x", true),
        (&weight, "patient=p1", true),
        (&weight, "patient=Patient/p1", true),
        (&weight, "patient=p2", false),
        (&weight, "subject=p1", true),
        (&weight, "subject=Patient/p1", true),
        (&weight, "subject:Patient=p1", true),
        (&weight, "subject:Patient=Patient/p1", true),
        (&weight, "subject:Group=p1", false),
        (&weight, "subject=Group/p1", false),
        (&weight, "encounter=e1", true),
        (&weight, "encounter=Encounter/e1/_history/1", true),
        (
            &weight,
            "performer=https://other.org/fhir/Practitioner/x",
            true,
        ),
        (&weight, "performer=x", false),
        (&weight, "date=ge2026-11", true),
        (&weight, "date=2026", false),
        (&weight, "value-string=GRÖSSE", true),
        (&weight, "value-string=größe a", true),
        (&weight, "value-string=a", false),
        (&weight, "value-string:contains=A", true),
        (&weight, "value-string:exact=Größe  A", true),
        (&weight, "value-string:exact=Größe A", false),
        (&weight, "_lastUpdated=gt2000", true),
        (&patient, "family=VAN", true),
        (&patient, "family=berg", false),
        (&patient, r"family=van der berg\, a\|b\$", true),
        (&patient, r"name:exact=Ida", true),
        (&patient, r"name:exact=ida", false),
        (&patient, r"identifier=http://i.org|a\,b", true),
        (&patient, r"identifier=a,b", false),
        (&patient, "birthdate=1950-02-03", true),
        (&patient, "birthdate=1950", true),
        (&patient, "birthdate=ne1950", false),
        (&patient, "birthdate=gt1950", false),
        (&patient, "birthdate=gt1950-02-02", true),
        (&patient, "birthdate=lt1950-02-03,ge1950-02-03", true),
        (&patient, "birthdate=ge1950&birthdate=lt1951", true),
        (&patient, "active=true", true),
        (&patient, "deceased=false", true),
    ] {
        let parsed =
            parse(resource.kind(), query).unwrap_or_else(|error| panic!("{query}: {error}"));
        assert_eq!(parsed.matches(resource), expected, "{query}");
    }
    assert!(!parse(T::Patient, "").unwrap().matches(&weight));
}

#[test]
fn dates_compare_by_prefix() {
    // The query is [20, 30); the columns are those of R4's table of prefixes.
    for (found, eq, ne, gt, lt, ge, le, sa, eb) in [
        (
            (20, 30),
            true,
            false,
            false,
            false,
            true,
            true,
            false,
            false,
        ),
        (
            (22, 25),
            true,
            false,
            false,
            false,
            true,
            true,
            false,
            false,
        ),
        ((10, 20), false, true, false, true, false, true, false, true),
        ((30, 40), false, true, true, false, true, false, true, false),
        (
            (10, 25),
            false,
            true,
            false,
            true,
            false,
            true,
            false,
            false,
        ),
        (
            (25, 40),
            false,
            true,
            true,
            false,
            true,
            false,
            false,
            false,
        ),
        ((10, 40), false, true, true, true, true, true, false, false),
        (
            (25, OPEN_END_MS),
            false,
            true,
            true,
            false,
            true,
            false,
            false,
            false,
        ),
        (
            (OPEN_START_MS, 20),
            false,
            true,
            false,
            true,
            false,
            true,
            false,
            true,
        ),
    ] {
        use Prefix::*;
        let seen = [Eq, Ne, Gt, Lt, Ge, Le, Sa, Eb].map(|prefix| prefix.matches((20, 30), found));
        assert_eq!(seen, [eq, ne, gt, lt, ge, le, sa, eb], "{found:?}");
    }
}

#[test]
fn operands_are_parsed() {
    use ResourceType as T;
    let operands = |kind, query: &str| parse(kind, query).unwrap().clauses[0].operands.clone();
    let literal = |kind, id: &str| Operand::Reference {
        kind: Some(kind),
        id: id.into(),
        url: None,
    };
    let token = |system: Option<&str>, code: Option<&str>| Operand::Token {
        system: system.map(Into::into),
        code: code.map(Into::into),
    };
    assert_eq!(
        operands(T::Observation, "patient=1"),
        [literal(T::Patient, "1")]
    );
    assert_eq!(
        operands(T::Observation, "subject=1"),
        [T::Device, T::Group, T::Location, T::Patient].map(|kind| literal(kind, "1"))
    );
    assert_eq!(
        operands(T::Task, "subject=Patient/1"),
        [literal(T::Patient, "1")]
    );
    assert_eq!(
        operands(T::Observation, "subject=http://x.org/Patient/1"),
        [Operand::Reference {
            kind: None,
            id: String::new(),
            url: Some("http://x.org/Patient/1".into())
        }]
    );
    assert_eq!(operands(T::Observation, "code=a"), [token(None, Some("a"))]);
    assert_eq!(
        operands(T::Observation, "code=s|"),
        [token(Some("s"), None)]
    );
    assert_eq!(
        operands(T::Observation, "code=|a"),
        [token(Some(""), Some("a"))]
    );
    assert_eq!(
        operands(T::Observation, r"code=s|a\|b,c"),
        [token(Some("s"), Some("a|b")), token(None, Some("c"))]
    );
    assert_eq!(
        operands(T::Patient, r"family=a\\b"),
        [Operand::String(r"a\b".into())]
    );
    let start_ms = date::parse("2026-11-26T00:00:00+02:00").unwrap().start_ms;
    for value in ["2026-11-26T00:00:00+02:00", "2026-11-26T00:00:00 02:00"] {
        assert_eq!(
            operands(T::Observation, &format!("date=ge{value}")),
            [Operand::Date {
                prefix: Prefix::Ge,
                start_ms,
                end_ms: start_ms + 1000
            }]
        );
    }

    let query = parse(
        T::Patient,
        "family=a&_count=7&_total=accurate&_sort=-_lastUpdated&_format=json&_cursor=x",
    )
    .unwrap();
    assert_eq!((query.count, query.total, query.used.len()), (7, true, 5));
    assert_eq!(parse(T::Patient, "").unwrap().count, COUNT_DEFAULT);
    let lenient = SearchQuery::parse(T::Patient, &pairs("colour=red&family=a"), true).unwrap();
    assert_eq!(
        (lenient.ignored, lenient.clauses.len(), lenient.used),
        (vec!["colour".to_owned()], 1, pairs("family=a"))
    );
}

#[test]
fn what_is_wrong_with_a_query_is_said() {
    use ResourceType as T;
    for (kind, query, words) in [
        (
            T::Patient,
            "colour=red",
            "colour: is no search parameter of Patient; known are _id, _lastUpdated, _profile, _security, _source, _tag, active",
        ),
        (
            T::Patient,
            "_query=x",
            "_query: names a query that an OperationDefinition defines; none is defined here",
        ),
        (
            T::Observation,
            "code-value-quantity=5",
            "is made of 2 values",
        ),
        (T::Observation, "value-quantity=5mg", "begins with a number"),
        (T::Observation, "value-quantity=5|mg", "`number||code`"),
        (
            T::Patient,
            "family:text=x",
            "known are exact, contains, missing",
        ),
        (
            T::Patient,
            "gender:in=x",
            "is the canonical URL of a ValueSet",
        ),
        (
            T::Patient,
            "birthdate:not=2020",
            "modifier that is not supported",
        ),
        (
            T::Observation,
            "subject:Practitioner=1",
            "can't refer to Practitioner",
        ),
        (
            T::Observation,
            "subject:Patient=Group/1",
            "can't refer to Group",
        ),
        (T::Observation, "patient=Group/1", "can't refer to Group"),
        (T::Observation, "subject=a b", "is an id"),
        (T::Task, "subject=1", "needs one: `Type/id`"),
        (T::Patient, "birthdate=x", "is a date"),
        (
            T::Patient,
            "birthdate=zz2020",
            "prefix that is not supported",
        ),
        (T::Patient, "birthdate=2020-13", "is a date"),
        (T::Patient, "family=", "has no value"),
        (T::Patient, "family=a,", "has no value"),
        (T::Patient, "gender=|", "`system|code`"),
        (T::Patient, "gender=a|b|c", "`system|code`"),
        (T::Patient, "gender:missing=yes", "`true` or `false`"),
        (T::Patient, "_id=a b", "logical id"),
        (T::Patient, "_id:missing=true", "modifier"),
        (T::Patient, "_count=0", "from 1 to 1000"),
        (T::Patient, "_count=1001", "from 1 to 1000"),
        (T::Patient, "_count=-1", "from 1 to 1000"),
        (T::Patient, "_count=5&_count=6", "given twice"),
        (
            T::Patient,
            "_total=about",
            "`none`, `estimate` or `accurate`",
        ),
        (T::Patient, "_sort=colour", "is a list of search parameters"),
        (T::Patient, "_format=xml", "`json`"),
    ] {
        let said = parse(kind, query).unwrap_err().to_string();
        assert!(said.contains(words), "{query}: {said}");
    }
    let many = format!("family={}", vec!["a"; 201].join(","));
    assert!(
        parse(T::Patient, &many)
            .unwrap_err()
            .to_string()
            .contains("more than 200 alternatives")
    );
    let many = vec!["family=a"; 51].join("&");
    assert!(
        parse(T::Patient, &many)
            .unwrap_err()
            .to_string()
            .contains("more than 50 parameters")
    );
}

use super::{Given, PathFinding, Wanted};
use crate::ResourceType;
use crate::facts::search;
use crate::path::Expression;

fn faults(kind: &str, text: &str, wanted: Wanted) -> Vec<PathFinding> {
    Expression::compile(text)
        .unwrap()
        .faults(ResourceType::parse(kind).unwrap(), wanted)
}

fn certain(kind: &str, text: &str, wanted: Wanted) -> Vec<(usize, String)> {
    let found = faults(kind, text, wanted).into_iter();
    (found.filter(|found| found.certain))
        .map(|found| (found.position, found.message))
        .collect()
}

#[test]
fn unknown_elements_are_found_where_they_stand() {
    for (kind, text, position, message) in [
        (
            "Observation",
            "staus",
            0,
            "no element `staus` in Observation; did you mean `status`?",
        ),
        (
            "Patient",
            "Patient.name.gven",
            13,
            "no element `gven` in HumanName; did you mean `given`?",
        ),
        (
            "Patient",
            "name.where(us = 'official')",
            11,
            "no element `us` in HumanName; did you mean `use`?",
        ),
        (
            "Patient",
            "name.first().famly",
            13,
            "no element `famly` in HumanName; did you mean `family`?",
        ),
        ("Patient", "birthDate.year", 10, "no element `year` in date"),
        (
            "Observation",
            "value.ofType(Quantity).units",
            23,
            "no element `units` in Quantity; did you mean `unit`?",
        ),
        (
            "Encounter",
            "status = 'finished' and class.cod = 'IMP'",
            30,
            "no element `cod` in Coding; did you mean `code`?",
        ),
        (
            "Encounter",
            "diagnosis.where(%resource.staus = 'x')",
            26,
            "no element `staus` in Encounter; did you mean `status`?",
        ),
    ] {
        let found = certain(kind, text, Wanted::Anything);
        assert_eq!(found, [(position, message.to_owned())], "{text}");
    }
}

#[test]
fn what_can_never_be_is_found_where_it_stands() {
    use Wanted::{Anything, Condition, Moment};
    for (kind, text, wanted, position, message) in [
        // Results.
        (
            "Encounter",
            "status",
            Condition,
            0,
            "this has to be true or false, and is code",
        ),
        (
            "Encounter",
            "period.end + 2 days",
            Condition,
            11,
            "this has to be true or false, and is dateTime",
        ),
        (
            "Patient",
            "name.given.count()",
            Condition,
            0,
            "this has to be true or false, and is Integer",
        ),
        (
            "Encounter",
            "period",
            Moment,
            0,
            "this has to be a date or a time, and is Period",
        ),
        (
            "Encounter",
            "status = 'finished'",
            Moment,
            7,
            "this has to be a date or a time, and is Boolean",
        ),
        // Comparisons.
        (
            "Patient",
            "birthDate = 1980",
            Condition,
            10,
            "date and Integer are never equal",
        ),
        (
            "Patient",
            "active = 'true'",
            Condition,
            7,
            "boolean and String are never equal; compare it with `true` or `false`",
        ),
        (
            "Observation",
            "value.ofType(Quantity) > 'high'",
            Condition,
            23,
            "Quantity and String can't be compared",
        ),
        (
            "Patient",
            "active > false",
            Condition,
            7,
            "boolean and Boolean can't be compared",
        ),
        (
            "Patient",
            "birthDate in (1 | 2)",
            Condition,
            0,
            "date is never among Integer",
        ),
        // Calculations.
        (
            "Patient",
            "birthDate + 1 > today()",
            Condition,
            10,
            "date and Integer can't be calculated with",
        ),
        (
            "Patient",
            "-birthDate",
            Anything,
            1,
            "`-` wants a number, and this is date",
        ),
        (
            "Patient",
            "'x' & birthDate",
            Anything,
            6,
            "`&` wants texts, and this is date",
        ),
        // Types.
        (
            "Patient",
            "birthDate.ofType(Quantity)",
            Anything,
            10,
            "date is never Quantity",
        ),
        (
            "Observation",
            "subject is Quantity",
            Condition,
            8,
            "Reference is never Quantity",
        ),
        (
            "Observation",
            "(value as HumanName).family",
            Anything,
            7,
            "",
        ),
        (
            "Patient",
            "active.startsWith('t')",
            Condition,
            7,
            "`startsWith` wants a text, and is called on boolean",
        ),
        // Codes.
        (
            "Encounter",
            "status = 'finshed'",
            Condition,
            9,
            "`finshed` is none of the codes that this may have; did you mean `finished`?",
        ),
        (
            "Encounter",
            "status in ('finished' | 'ended')",
            Condition,
            24,
            "`ended` is none of the codes that this may have (arrived, cancelled, entered-in-error, finished, in-progress, onleave, planned, triaged, unknown)",
        ),
        (
            "Task",
            "where('done' = status).exists()",
            Condition,
            6,
            "`done` is none of the codes that this may have (accepted, cancelled, completed, draft, entered-in-error, failed, in-progress, on-hold, ready, received, rejected, requested)",
        ),
    ] {
        let found = certain(kind, text, wanted);
        let [(at, words)] = &found[..] else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(*at, position, "{text}: {words}");
        if message.is_empty() {
            assert!(words.ends_with("is never HumanName"), "{words}");
        } else {
            assert_eq!(words, message, "{text}");
        }
    }
}

#[test]
fn what_depends_on_the_data_is_told_apart() {
    let several = "there may be several of these, and then ";
    for (kind, text, position, words) in [
        ("Observation", "code.coding.code = '1234-5'", 0, several),
        ("Patient", "name.given != 'x'", 0, several),
        ("Patient", "name.given.startsWith('x')", 11, "`startsWith`"),
        ("Patient", "name.family > 'x'", 0, several),
        ("Patient", "name.first() and active", 0, "this is HumanName"),
        ("Patient", "name and active", 0, several),
        ("Patient", "name.where(use).exists()", 11, "this is code"),
        (
            "Condition",
            "clinicalStatus.coding.where(code = 'actve').exists()",
            35,
            "`actve` is none of the codes that this may have; did you mean `active`?",
        ),
    ] {
        let found = faults(kind, text, Wanted::Condition);
        let unsure = found.iter().find(|found| !found.certain);
        let unsure = unsure.unwrap_or_else(|| panic!("{text}: {found:?}"));
        assert_eq!(unsure.position, position, "{text}: {found:?}");
        assert!(unsure.message.starts_with(words), "{text}: {found:?}");
    }
}

#[test]
fn what_may_be_there_is_not_found_fault_with() {
    for (kind, text) in [
        ("Observation", "valueQuantity.value"),
        ("Observation", "value.value"),
        ("Patient", "contained.anything"),
        ("Patient", "generalPractitioner.resolve().anything"),
        ("Patient", "birthDate.extension.value.code"),
        ("Patient", "birthDate.id"),
        ("Patient", "name.trace('names', given)"),
        ("Patient", "%entry.anything.at.all"),
        ("Patient", "Observation.code.coding"),
        ("Patient", "descendants().anything"),
        ("Questionnaire", "repeat(item).linkId"),
        ("Questionnaire", "item.item.item.linkId"),
        ("Bundle", "entry.resource.ofType(Patient).name.given"),
        ("Patient", "birthDate <= today() - 65 years"),
        ("Patient", "birthDate = '1980-01-01'"),
        ("Encounter", "status ~ 'Finished'"),
        ("Encounter", "(status | period.start).last() = '2026-01-01'"),
        ("Encounter", "partOf ~ type.text"),
        (
            "Encounter",
            "resourceType = 'Encounter' and _status.exists()",
        ),
        ("Patient", "birthDate.toString().startsWith('19')"),
        ("Patient", "birthDate.startsWith('19')"),
        ("Patient", "deceased is boolean or deceased.exists()"),
        ("Patient", "iif(active, 'yes', 'no') = 'yes'"),
        ("Patient", "name.where(use = 'official').exists()"),
        ("Patient", "name.first().given.first() = 'Ada'"),
        ("Patient", "name[0].family & ', ' & name[0].given[0]"),
        ("Patient", "telecom.select(value).first().length() > 3"),
        ("Patient", "'Ada' in name.given"),
        ("Patient", "name.count() > 1 and active"),
        ("Observation", "value.ofType(Quantity) > 80 'kg'"),
        ("Observation", "value.ofType(Quantity).value * 2 > 160"),
        ("Observation", "(value as Quantity).value > 80"),
        (
            "Observation",
            "code.coding.exists(code = '1234-5' and system = 'http://loinc.org')",
        ),
        ("Observation", "(effective as dateTime) > now() - 2 days"),
        ("Encounter", "status in ('finished' | 'cancelled')"),
        ("Encounter", "period.end > period.start + 2 days"),
        ("Encounter", "status = %entry.status"),
    ] {
        assert_eq!(faults(kind, text, Wanted::Anything), [], "{text}");
    }
}

#[test]
fn every_search_parameter_asks_what_can_be() {
    let mut checked = 0;
    for kind in ResourceType::all() {
        for parameter in &search(kind).parameters {
            if Expression::compile(parameter.expression).is_ok() {
                let findings = certain(kind.name(), parameter.expression, Wanted::Anything);
                assert_eq!(findings, [], "{} {}", kind.name(), parameter.expression);
                checked += 1;
            }
        }
    }
    assert!(checked > 1000, "only {checked}");
}

/// What is known of something that is no resource is held to as elements are.
#[test]
fn shapes_that_are_told_are_held_to() {
    let given = Given::Members(vec![
        (
            "form",
            Given::Members(vec![
                ("well", Given::Boolean),
                ("kind", Given::Code(vec!["ache", "burn"])),
                ("level", Given::Integer),
                ("since", Given::Date),
                ("words", Given::Text),
                ("any", Given::Unknown),
            ]),
        ),
        ("none", Given::Members(Vec::new())),
    ]);
    let certain = |text: &str, wanted| {
        let faults = Expression::compile(text).unwrap().faults_of(&given, wanted);
        let faults = faults.into_iter().filter(|found| found.certain);
        let faults = faults.map(|found| (found.position, found.message, found.is_name));
        faults.collect::<Vec<_>>()
    };
    for fine in [
        "form.well",
        "form.well = true and form.level > 2.5",
        "form.kind = 'ache' or form.kind in ('ache' | 'burn')",
        "form.since < today() and form.since > '2026-01-01'",
        "form.words.contains('x') or form.kind.startsWith('a')",
        "form.any = 1 or form.any = 'x' or form.any.more",
        "none.exists() or form.exists(well = true)",
        "form.where(level > 1).exists()",
        "iif(form.well, form.level, 0) > 1",
        "form.kind ~ 'ACHE'",
    ] {
        assert_eq!(certain(fine, Wanted::Condition), [], "{fine}");
    }
    for (text, wanted, position, message, is_name) in [
        (
            "form.well = 'no'",
            Wanted::Condition,
            10,
            "Boolean and String are never equal; compare it with `true` or `false`",
            false,
        ),
        (
            "form.kind = 'c'",
            Wanted::Condition,
            12,
            "`c` is none of the codes that this may have (ache, burn)",
            false,
        ),
        (
            "form.kind in ('ache' | 'bern')",
            Wanted::Condition,
            23,
            "`bern` is none of the codes that this may have; did you mean `burn`?",
            false,
        ),
        (
            "form.level > 'x'",
            Wanted::Condition,
            11,
            "Integer and String can't be compared",
            false,
        ),
        (
            "form.level",
            Wanted::Condition,
            0,
            "this has to be true or false, and is Integer",
            false,
        ),
        (
            "form",
            Wanted::Condition,
            0,
            "this has to be true or false, and is several values",
            false,
        ),
        (
            "form.exists(wel = true)",
            Wanted::Condition,
            12,
            "there is no `wel` here; did you mean `well`?",
            true,
        ),
        (
            "form.well.more",
            Wanted::Anything,
            10,
            "there is no `more` here",
            true,
        ),
        (
            "form.well",
            Wanted::Number,
            0,
            "this has to be a number, and is Boolean",
            false,
        ),
    ] {
        let expected = [(position, message.to_owned(), is_name)];
        assert_eq!(certain(text, wanted), expected, "{text}");
    }
}

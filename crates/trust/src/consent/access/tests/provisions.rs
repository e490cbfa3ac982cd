//! What one provision says of one row, element by element.
use super::*;

/// Each case: name, provision, who asks, the row, whether it is shown where everything is by default.
// Proves: 45 CFR 164.522(a)(1)(iii)
#[test]
fn one_provision() {
    let weight = observation("w", WEIGHT, &[]);
    let hiv = observation("h", HIV_TEST, &[]);
    let labelled = |codes: &[&str]| observation("l", WEIGHT, codes);
    let treat = || client(Purpose::Treatment);
    let known = |known: &[&str]| asked(Role::Client, Purpose::Treatment, known);
    let coordinator = |known: &[&str]| asked(Role::Coordinator, Purpose::CareManagement, known);
    let deny = |name: &str, value: Value| {
        let mut provision = json!({"type": "deny"});
        provision[name] = value;
        provision
    };
    let permit = |name: &str, value: Value| {
        let mut provision = json!({"type": "permit"});
        provision[name] = value;
        provision
    };
    let code = |code: &str| json!([{"coding": [{"system": "http://loinc.org", "code": code}]}]);
    let data = |meaning: &str, reference: &str| json!([{"meaning": meaning, "reference": {"reference": reference}}]);
    let action = |code: &str| json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentaction", "code": code}]}]);
    let by = |author: &str| {
        let mut row = observation("b", WEIGHT, &[]);
        row.set("performer", json!([{"reference": author}]));
        row
    };
    let binary = resource(
        json!({"resourceType": "Binary", "id": "b", "contentType": "text/plain",
        "securityContext": {"reference": "Patient/p"}}),
    );
    let cases: Vec<(&str, Value, Asked, Resource, bool)> = vec![
        // Codes.
        (
            "a code",
            deny("code", code(WEIGHT)),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "another code",
            deny("code", code("1-8")),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "a code of another system",
            deny(
                "code",
                json!([{"coding": [{"system": "urn:x", "code": WEIGHT}]}]),
            ),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "a code of any system",
            deny("code", json!([{"coding": [{"code": WEIGHT}]}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "a code in words may be meant",
            deny("code", json!([{"text": "my weight"}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "nothing but a code",
            permit("code", code(WEIGHT)),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "nothing but another code",
            permit("code", code("1-8")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "nothing but a code in words",
            permit("code", json!([{"text": "my weight"}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "what has no codes may have this one",
            deny("code", code(WEIGHT)),
            treat(),
            binary.clone(),
            false,
        ),
        // Classes.
        (
            "a type",
            deny("class", json!([{"code": "Observation"}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "another type",
            deny("class", json!([{"code": "Condition"}])),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "no type that is known",
            deny("class", json!([{"code": "Notes"}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "nothing but another type",
            permit("class", json!([{"code": "Condition"}])),
            treat(),
            weight.clone(),
            false,
        ),
        // Labels.
        (
            "a label",
            deny("securityLabel", labels(&["PSY"])),
            treat(),
            labelled(&["PSY"]),
            false,
        ),
        (
            "another label",
            deny("securityLabel", labels(&["PSY"])),
            treat(),
            labelled(&["HIV"]),
            true,
        ),
        (
            "a label within",
            deny("securityLabel", labels(&["BH"])),
            treat(),
            labelled(&["OPIOIDUD"]),
            false,
        ),
        (
            "a wider label",
            deny("securityLabel", labels(&["OPIOIDUD"])),
            treat(),
            labelled(&["BH"]),
            true,
        ),
        (
            "a label that a code stands for",
            deny("securityLabel", labels(&["HIV"])),
            treat(),
            hiv.clone(),
            false,
        ),
        (
            "restricted by what it is about",
            deny("securityLabel", labels(&["R"])),
            treat(),
            hiv.clone(),
            false,
        ),
        (
            "restricted and above",
            deny("securityLabel", labels(&["R"])),
            treat(),
            labelled(&["V"]),
            false,
        ),
        (
            "normal is not restricted",
            deny("securityLabel", labels(&["R"])),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "a label that isn't known may be meant",
            deny("securityLabel", json!([{"system": "urn:x", "code": "y"}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "up to restricted",
            permit("securityLabel", labels(&["R"])),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "up to normal",
            permit("securityLabel", labels(&["N"])),
            treat(),
            labelled(&["N", "PSY"]),
            false,
        ),
        (
            "nothing but what is all of a label",
            permit("securityLabel", labels(&["PSY"])),
            treat(),
            labelled(&["PSY", "HIV"]),
            false,
        ),
        (
            "very restricted needs its level",
            permit("securityLabel", labels(&["PSY"])),
            treat(),
            labelled(&["PSY", "V"]),
            false,
        ),
        (
            "a duty is no content",
            permit("securityLabel", labels(&["N"])),
            treat(),
            labelled(&["NORDSCLCD"]),
            true,
        ),
        (
            "what has no codes may be of any label",
            deny("securityLabel", labels(&["HIV"])),
            treat(),
            binary.clone(),
            false,
        ),
        (
            "and is permitted by none",
            permit("securityLabel", labels(&["N"])),
            treat(),
            binary.clone(),
            false,
        ),
        // Data.
        (
            "an instance",
            deny("data", data("instance", "Observation/w")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "another instance",
            deny("data", data("instance", "Observation/x")),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "what refers to an instance",
            deny("data", data("dependents", "Encounter/e")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "what is related to an instance",
            deny("data", data("related", "Encounter/e")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "an instance that is related to itself",
            deny("data", data("related", "Observation/w")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "what is related to another",
            deny("data", data("related", "Encounter/f")),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "what somebody made",
            deny("data", data("authoredby", "Practitioner/a")),
            treat(),
            by("Practitioner/a"),
            false,
        ),
        (
            "what somebody else made",
            deny("data", data("authoredby", "Practitioner/a")),
            treat(),
            by("Practitioner/b"),
            true,
        ),
        (
            "an instance that can't be told",
            deny(
                "data",
                json!([{"meaning": "instance", "reference": {"display": "a note"}}]),
            ),
            treat(),
            weight.clone(),
            false,
        ),
        // Time of the data.
        (
            "of a time",
            deny("dataPeriod", json!({"start": "2026-02", "end": "2026-03"})),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "of a time before",
            deny("dataPeriod", json!({"end": "2026-02"})),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "the last day counts",
            deny("dataPeriod", json!({"end": "2026-03-01"})),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "a time that can't be read",
            deny("dataPeriod", json!({"end": "soon"})),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "nothing but a time",
            permit("dataPeriod", json!({"start": "2026"})),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "nothing but another time",
            permit("dataPeriod", json!({"start": "2026-03-02"})),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "what has no time may be of any",
            deny("dataPeriod", json!({"end": "2000"})),
            treat(),
            binary.clone(),
            false,
        ),
        // Who.
        (
            "an organization",
            deny("actor", actor("Organization/there")),
            known(&["Organization/there"]),
            weight.clone(),
            false,
        ),
        (
            "another organization",
            deny("actor", actor("Organization/there")),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "one of several",
            deny("actor", actor("Organization/there")),
            known(&["Organization/here", "Organization/there"]),
            weight.clone(),
            false,
        ),
        (
            "a practitioner may be using this system",
            deny("actor", actor("Practitioner/a")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "whom nobody knows may be meant",
            deny("actor", actor("Organization/there")),
            known(&[]),
            weight.clone(),
            false,
        ),
        (
            "whom nobody knows is not permitted more",
            json!({"type": "deny", "provision": [{"type": "permit", "actor": actor("Organization/there")}]}),
            known(&[]),
            weight.clone(),
            false,
        ),
        (
            "who is known is",
            json!({"type": "deny", "provision": [{"type": "permit", "actor": actor("Organization/there")}]}),
            known(&["Organization/there"]),
            weight.clone(),
            true,
        ),
        (
            "an actor by name may be anybody",
            deny("actor", json!([{"reference": {"display": "the pharmacy"}}])),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "staff are nobody's mother",
            deny("actor", actor("RelatedPerson/mother")),
            coordinator(&[]),
            weight.clone(),
            true,
        ),
        (
            "people are no device",
            deny("actor", actor("Device/d")),
            coordinator(&[]),
            weight.clone(),
            true,
        ),
        (
            "who gives the consent is not who is denied alone",
            deny(
                "actor",
                json!([{"role": {"coding": [{"code": "GRANTOR"}]}, "reference": {"reference": "Patient/p"}}]),
            ),
            treat(),
            weight.clone(),
            false,
        ),
        // What is done.
        (
            "disclosing, to a system",
            deny("action", action("disclose")),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "disclosing, to a coordinator",
            deny("action", action("disclose")),
            coordinator(&[]),
            weight.clone(),
            true,
        ),
        (
            "using",
            deny("action", action("use")),
            coordinator(&[]),
            weight.clone(),
            false,
        ),
        (
            "collecting is no looking",
            deny("action", action("collect")),
            treat(),
            weight.clone(),
            true,
        ),
        (
            "what isn't known may be looking",
            deny("action", json!([{"text": "peek"}])),
            treat(),
            weight.clone(),
            false,
        ),
        // A meaning that is changed.
        (
            "a yes that is changed",
            json!({"type": "deny", "provision": [{"type": "permit", "modifierExtension": [{"url": "urn:x"}]}]}),
            treat(),
            weight.clone(),
            false,
        ),
        (
            "an exception without a type",
            json!({"type": "permit", "provision": [{"class": [{"code": "Observation"}]}]}),
            treat(),
            weight.clone(),
            false,
        ),
    ];
    for (name, provision, who, row, expected) in cases {
        let consents = [consent("2026-01-01", provision)];
        let shown = shows(&open(), &consents, &who, &row);
        assert_eq!(shown, expected, "{name}");
    }
}

// Proves: 45 CFR 164.508(a)(1)
#[test]
fn a_purpose_of_ones_own_is_meant_by_its_name_and_by_what_it_is_a_kind_of() {
    let rules = closed();
    let (foo_bar, namesake) = (own("urn:purposes", "FooBar"), own("urn:other", "FooBar"));
    let named = |system: &str, code: &str| json!([{"system": system, "code": code}]);
    let unplaced = json!([{"code": "FooBar"}]);
    let unsaid = json!([{"display": "a study"}]);
    for (purpose, permitted, denied) in [
        (
            named("urn:purposes", "FooBar"),
            vec![foo_bar],
            vec![foo_bar],
        ),
        (
            named(Purpose::SYSTEM, "HRESCH"),
            vec![foo_bar, namesake, Purpose::Research],
            vec![foo_bar, namesake, Purpose::Research],
        ),
        (named(Purpose::SYSTEM, "TREAT"), vec![], vec![]),
        // What can't be told counts for the "no" alone.
        (unplaced, vec![], vec![foo_bar, namesake]),
        (unsaid, vec![], vec![foo_bar, namesake, Purpose::Research]),
        // A "no" to a kind of research that HL7 has is one to all who don't say which kind theirs is.
        (
            named(Purpose::SYSTEM, "CLINTRCH"),
            vec![],
            vec![foo_bar, namesake, Purpose::Research],
        ),
    ] {
        for asked_for in [foo_bar, namesake, Purpose::Research] {
            let asked = asked(Role::Client, asked_for, &[]);
            let row = observation("o", "1-1", &[]);
            let row = Row::new(&rules.tables, &row);
            let shows = |kind: &str| {
                let mut all = vec![consent(
                    "2026-01-01",
                    json!({"type": kind, "purpose": purpose}),
                )];
                if kind == "deny" {
                    all.push(consent("2025-01-01", json!({"type": "permit"})));
                }
                let access = Access::of(&all, &Related::new());
                access.decide(&rules, &asked, &row, Reach::Whole).permitted
            };
            let words = format!("{purpose} {asked_for:?}");
            assert_eq!(shows("permit"), permitted.contains(&asked_for), "{words}");
            assert_eq!(!shows("deny"), denied.contains(&asked_for), "{words}");
        }
    }
}

#[test]
fn a_rule_pack_takes_a_purpose_of_ones_own_for_what_it_is_a_kind_of() {
    let rules = open();
    let treats = crate::OwnPurpose::of("urn:purposes", "Tumour", "the board", Purpose::Treatment);
    let treats = Purpose::Own(treats.unwrap());
    assert!(rules.without_consent(treats).0);
    assert!(!rules.without_consent(own("urn:purposes", "FooBar")).0);
    let stored = toml::Value::try_from(treats).unwrap();
    let pack = format!(
        "name = 'x'\n[default]\npermit = [{stored}]\npermitted = 'x'\ndenied = 'x'\n[bound]\n"
    );
    let words = Rules::parse("x", &pack).unwrap_err().to_string();
    assert!(words.contains("none of HL7's"), "{words}");
}

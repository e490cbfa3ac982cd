use serde_json::{Value, json};

use super::*;
use crate::{Purpose, Role};

mod guarded;
mod pcf;
mod provisions;

/// 2026-06-15T12:00Z.
const NOW_MS: i64 = 1_781_524_800_000;

/// Nothing is permitted without a consent, and consents bind everybody they can.
const CLOSED: &str = r#"
name = "closed"
[default]
permit = []
permitted = ""
denied = "nothing is shown without a consent"
[bound]
client = "always"
coordinator = "always"
clinician = "always"
"#;

fn closed() -> Rules {
    Rules::parse("closed", CLOSED).unwrap()
}

fn open() -> Rules {
    Rules::load("us-hipaa").unwrap()
}

fn label(code: &str) -> Value {
    let system = match code {
        "U" | "L" | "M" | "N" | "R" | "V" => {
            "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
        }
        _ => "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    };
    json!({"system": system, "code": code})
}

fn labels(codes: &[&str]) -> Value {
    codes.iter().map(|code| label(code)).collect()
}

fn purposes(codes: &[&str]) -> Value {
    codes
        .iter()
        .map(|code| json!({"system": Purpose::SYSTEM, "code": code}))
        .collect()
}

/// A kind of research of one's own.
fn own(system: &str, code: &str) -> Purpose {
    Purpose::Own(crate::OwnPurpose::of(system, code, "the study", Purpose::Research).unwrap())
}

fn actor(reference: &str) -> Value {
    json!([{
        "role": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]},
        "reference": {"reference": reference},
    }])
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it reads better where it is called"
)]
fn consent(date: &str, provision: Value) -> Resource {
    Resource::from_value(json!({
        "resourceType": "Consent", "id": date, "status": "active", "dateTime": date,
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "patient": {"reference": "Patient/p"}, "provision": provision,
    }))
    .unwrap()
}

fn resource(value: Value) -> Resource {
    Resource::from_value(value).unwrap()
}

/// An observation with a code of LOINC and labels.
fn observation(id: &str, code: &str, security: &[&str]) -> Resource {
    resource(json!({
        "resourceType": "Observation", "id": id, "meta": {"security": labels(security)},
        "subject": {"reference": "Patient/p"}, "effectiveDateTime": "2026-03-01",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "encounter": {"reference": "Encounter/e"},
    }))
}

fn asked(role: Role, purpose: Purpose, known_as: &[&str]) -> Asked {
    Asked {
        role,
        purpose,
        now_ms: NOW_MS,
        known_as: known_as.iter().map(|known| (*known).to_owned()).collect(),
    }
}

fn client(purpose: Purpose) -> Asked {
    asked(Role::Client, purpose, &["Organization/here"])
}

fn shows(rules: &Rules, consents: &[Resource], asked: &Asked, row: &Resource) -> bool {
    let access = Access::of(consents, &Related::new());
    let row = Row::new(&rules.tables, row);
    let is_shown = access.decide(rules, asked, &row, Reach::Whole).permitted;
    // What is left out unopened is never what would be shown.
    assert!(!is_shown || !access.denies_all(rules, asked));
    is_shown
}

const WEIGHT: &str = "29463-7";
const HIV_TEST: &str = "75622-1";

#[test]
fn an_exception_of_an_exception_counts() {
    let provision = json!({
        "type": "permit",
        "provision": [{
            "type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
            "provision": [{"type": "permit", "code": [{"coding": [{"system": "http://loinc.org", "code": WEIGHT}]}],
                "provision": [{"type": "deny", "actor": actor("Organization/there")}]}],
        }],
    });
    let consents = [consent("2026-01-01", provision)];
    let rules = open();
    let here = client(Purpose::Treatment);
    let there = asked(Role::Client, Purpose::Treatment, &["Organization/there"]);
    let weight = observation("w", WEIGHT, &[]);
    let other = observation("o", "8480-6", &[]);
    let condition = resource(
        json!({"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/p"},
        "code": {"coding": [{"system": "http://loinc.org", "code": WEIGHT}]}}),
    );
    for (who, row, expected) in [
        (&here, &weight, true),
        (&here, &other, false),
        (&here, &condition, true),
        (&there, &weight, false),
        (&there, &other, false),
        (&there, &condition, true),
    ] {
        assert_eq!(
            shows(&rules, &consents, who, row),
            expected,
            "{who:?} {row:?}"
        );
    }
}

#[test]
fn what_a_nested_provision_does_not_say_it_has_from_around_it() {
    let weight = observation("w", WEIGHT, &[]);
    let class = json!([{"code": "Observation"}]);
    // A research consent's exception says nothing of treatment.
    let research = consent(
        "2026-01-01",
        json!({"type": "permit", "purpose": purposes(&["HRESCH"]), "provision": [{"type": "deny", "class": class}]}),
    );
    let shown = |consents: &[Resource], who: &Asked| shows(&open(), consents, who, &weight);
    let research = [research];
    assert!(shown(&research, &client(Purpose::Treatment)));
    assert!(!shown(&research, &client(Purpose::Research)));
    // It may name another purpose than the one around it.
    let other = [consent(
        "2026-01-01",
        json!({"type": "permit", "purpose": purposes(&["TREAT"]), "provision": [{"type": "deny", "purpose": purposes(&["HPAYMT"])}]}),
    )];
    assert!(shown(&other, &client(Purpose::Treatment)));
    assert!(!shown(&other, &client(Purpose::Payment)));
    // It ends with what is around it.
    let over = [consent(
        "2026-01-01",
        json!({"type": "permit", "period": {"end": "2026-05"}, "provision": [{"type": "deny", "period": {"end": "2027"}}]}),
    )];
    assert!(shown(&over, &client(Purpose::Treatment)));
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[test]
fn a_general_yes_takes_no_particular_no_back() {
    let hiv = observation("h", HIV_TEST, &[]);
    let weight = observation("w", WEIGHT, &[]);
    let no = |date: &str| {
        consent(
            date,
            json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": labels(&["HIV"])}]}),
        )
    };
    let yes = |date: &str| consent(date, json!({"type": "permit"}));
    let named = |date: &str| {
        consent(
            date,
            json!({"type": "permit", "securityLabel": labels(&["N", "HIV"])}),
        )
    };
    let never = |date: &str| consent(date, json!({"type": "deny"}));
    let shown = |consents: &[Resource]| {
        let who = client(Purpose::Treatment);
        [&hiv, &weight].map(|row| shows(&open(), consents, &who, row))
    };
    assert_eq!(shown(&[no("2025-01-01")]), [false, true]);
    assert_eq!(shown(&[no("2025-01-01"), yes("2026-01-01")]), [false, true]);
    assert_eq!(shown(&[yes("2025-01-01"), no("2026-01-01")]), [false, true]);
    assert_eq!(
        shown(&[no("2025-01-01"), named("2026-01-01")]),
        [true, true]
    );
    assert_eq!(
        shown(&[named("2025-01-01"), no("2026-01-01")]),
        [false, true]
    );
    assert_eq!(
        shown(&[named("2025-01-01"), never("2026-01-01")]),
        [false, false]
    );
    let mut ended = no("2025-01-01");
    ended.set("status", "inactive".into());
    assert_eq!(shown(&[ended, yes("2026-01-01")]), [true, true]);
}

// Proves: 45 CFR 164.508(b)
// Proves: 42 CFR 2.31(c)
#[test]
fn a_yes_that_nobody_could_confirm_permits_nothing() {
    let weight = observation("w", WEIGHT, &[]);
    let who = client(Purpose::Treatment);
    for (verification, expected) in [
        (json!([]), true),
        (json!([{"verified": false}]), false),
        (json!([{"verified": false}, {"verified": true}]), true),
    ] {
        let mut yes = consent("2026-01-01", json!({"type": "permit"}));
        yes.set("verification", verification);
        assert_eq!(shows(&closed(), &[yes], &who, &weight), expected);
    }
    let mut no = consent("2026-01-01", json!({"type": "deny"}));
    no.set("verification", json!([{"verified": false}]));
    assert!(!shows(&open(), &[no], &who, &weight));
}

// Proves: 45 CFR 164.522(a)(1)(ii)
#[test]
fn whom_a_word_binds_is_the_rule_packs_to_say() {
    let weight = observation("w", WEIGHT, &[]);
    let no = consent(
        "2026-01-01",
        json!({"type": "deny", "purpose": purposes(&["TREAT"])}),
    );
    let mut agreed = no.clone();
    agreed.set("organization", json!([{"reference": "Organization/here"}]));
    let who = |role, purpose| asked(role, purpose, &[]);
    let england = Rules::load("england").unwrap();
    for (rules, consent, role, purpose, expected) in [
        (&open(), &no, Role::Client, Purpose::Treatment, false),
        (
            &open(),
            &no,
            Role::Coordinator,
            Purpose::CareManagement,
            false,
        ),
        // A provider need not agree; if it has, it is bound, save in an emergency.
        (&open(), &no, Role::Clinician, Purpose::Treatment, true),
        (&open(), &agreed, Role::Clinician, Purpose::Treatment, false),
        (&open(), &agreed, Role::Clinician, Purpose::Emergency, true),
        (&england, &no, Role::Clinician, Purpose::Treatment, false),
        (&england, &no, Role::Clinician, Purpose::Emergency, true),
        (&england, &no, Role::Client, Purpose::Payment, false),
        (&open(), &no, Role::Client, Purpose::Payment, true),
        // A patient has their own record, and parts of Cairn act by what is decided for messages.
        (&closed(), &no, Role::Patient, Purpose::PatientRequest, true),
        (&closed(), &no, Role::System, Purpose::Treatment, true),
    ] {
        let shown = shows(
            rules,
            std::slice::from_ref(consent),
            &who(role, purpose),
            &weight,
        );
        assert_eq!(shown, expected, "{} {role:?} {purpose:?}", rules.name());
    }
}

// Proves: 45 CFR 164.522(a)(1)(vi)
#[test]
fn what_was_paid_for_in_full_stays_from_the_health_plan() {
    // 45 CFR 164.522(a)(1)(vi): no disclosure to the plan for payment or operations.
    let paid = consent(
        "2026-04-01",
        json!({"type": "permit", "provision": [{
            "type": "deny", "purpose": purposes(&["HPAYMT", "HOPERAT"]), "actor": actor("Organization/plan"),
            "data": [{"meaning": "related", "reference": {"reference": "Encounter/e"}}],
        }]}),
    );
    let general = consent("2026-05-01", json!({"type": "permit"}));
    let weight = observation("w", WEIGHT, &[]);
    let mut elsewhere = observation("x", WEIGHT, &[]);
    elsewhere.set("encounter", json!({"reference": "Encounter/f"}));
    let plan = |purpose| asked(Role::Client, purpose, &["Organization/plan"]);
    let hospital = |purpose| asked(Role::Client, purpose, &["Organization/hospital"]);
    for (who, row, expected) in [
        (plan(Purpose::Payment), &weight, false),
        (plan(Purpose::Operations), &weight, false),
        (plan(Purpose::Treatment), &weight, true),
        (plan(Purpose::Payment), &elsewhere, true),
        (hospital(Purpose::Payment), &weight, true),
    ] {
        let consents = [paid.clone(), general.clone()];
        assert_eq!(shows(&open(), &consents, &who, row), expected, "{who:?}");
    }
}

// Proves: 45 CFR 164.508(a)(2)
#[test]
fn a_row_with_several_labels_needs_what_each_of_them_needs() {
    let tpo = consent(
        "2026-01-01",
        json!({"type": "permit", "purpose": purposes(&["TREAT", "HPAYMT", "HOPERAT"])}),
    );
    let named = consent(
        "2026-01-01",
        json!({"type": "permit", "securityLabel": labels(&["R", "PSYTHPN"])}),
    );
    let client = client(Purpose::Treatment);
    for order in [["42CFRPart2", "PSYTHPN"], ["PSYTHPN", "42CFRPart2"]] {
        let row = observation("b", WEIGHT, &order);
        let shown = |consents: &[Resource]| shows(&open(), consents, &client, &row);
        assert!(!shown(&[]), "{order:?}");
        assert!(!shown(std::slice::from_ref(&tpo)), "{order:?}");
        assert!(shown(std::slice::from_ref(&named)), "{order:?}");
    }
}

#[test]
fn what_is_in_a_row_is_as_labelled_as_the_row() {
    let security =
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]);
    let note = json!({"resourceType": "Observation", "id": "n", "meta": {"security": security}, "status": "final"});
    let rows = [
        resource(
            json!({"resourceType": "DiagnosticReport", "id": "r", "status": "final", "contained": [note.clone()]}),
        ),
        resource(
            json!({"resourceType": "Bundle", "id": "b", "type": "collection", "entry": [{"resource": note}]}),
        ),
        resource(
            json!({"resourceType": "DocumentReference", "id": "d", "status": "current",
            "securityLabel": [{"coding": security}], "content": [{"attachment": {}}]}),
        ),
    ];
    let tpo = consent("2026-01-01", json!({"type": "permit"}));
    for row in rows {
        let shown =
            |consents: &[Resource]| shows(&open(), consents, &client(Purpose::Treatment), &row);
        assert!(!shown(&[]), "{}", row.kind());
        assert!(!shown(std::slice::from_ref(&tpo)), "{}", row.kind());
    }
    // What a consent is about says nothing of the consent.
    let about = resource(
        json!({"resourceType": "Consent", "id": "c", "status": "active",
        "provision": {"securityLabel": [security[0].clone()]}}),
    );
    assert!(shows(&open(), &[tpo], &client(Purpose::Treatment), &about));
}

#[test]
fn a_composition_is_as_confidential_as_it_says() {
    let restricted = consent(
        "2026-01-01",
        json!({"type": "permit", "provision": [{"type": "deny", "securityLabel": labels(&["R"])}]}),
    );
    for (code, expected) in [("N", true), ("R", false), ("V", false)] {
        let composition =
            json!({"resourceType": "Composition", "id": "c", "confidentiality": code});
        let document = json!({"resourceType": "Bundle", "id": "b", "type": "document",
            "entry": [{"resource": composition.clone()}]});
        for row in [composition, document].map(resource) {
            let shown = shows(
                &open(),
                std::slice::from_ref(&restricted),
                &client(Purpose::Treatment),
                &row,
            );
            assert_eq!(shown, expected, "{code} {}", row.kind());
        }
    }
}

// Proves: 45 CFR 164.508(a)(2)
// Proves: 42 CFR 2.13(a), 2.31(a), 2.31(b), 2.33(a)
#[test]
fn records_under_part_2_need_one_consent_and_counselling_notes_one_of_their_own() {
    let part_2 = observation("s", WEIGHT, &["42CFRPart2", "R"]);
    let notes = observation("n", WEIGHT, &["PSYTHPN", "R"]);
    let weight = observation("w", WEIGHT, &[]);
    let tpo = consent(
        "2026-01-01",
        json!({"type": "permit", "purpose": purposes(&["TREAT", "HPAYMT", "HOPERAT"])}),
    );
    let level = consent(
        "2026-01-01",
        json!({"type": "permit", "securityLabel": labels(&["R", "PSY"])}),
    );
    let named = consent(
        "2026-01-01",
        json!({"type": "permit", "securityLabel": labels(&["R", "PSYTHPN"])}),
    );
    let no = consent("2026-02-01", json!({"type": "deny"}));
    let client = |purpose| asked(Role::Client, purpose, &[]);
    let coordinator = asked(Role::Coordinator, Purpose::Treatment, &[]);
    let shown = |consents: &[Resource], who: &Asked| {
        [&part_2, &notes, &weight].map(|row| shows(&open(), consents, who, row))
    };
    assert_eq!(
        shown(&[], &client(Purpose::Treatment)),
        [false, false, true]
    );
    // No system declares an emergency, so the purpose alone opens nothing for one.
    assert_eq!(
        shown(&[], &client(Purpose::Emergency)),
        [false, false, true]
    );
    assert_eq!(shown(&[], &coordinator), [true, false, true]);
    assert_eq!(
        shown(&[], &asked(Role::Clinician, Purpose::Treatment, &[])),
        [true, true, true]
    );
    assert_eq!(
        shown(std::slice::from_ref(&tpo), &client(Purpose::Treatment)),
        [true, false, true]
    );
    assert_eq!(
        shown(std::slice::from_ref(&tpo), &client(Purpose::Payment)),
        [true, false, true]
    );
    let others = client(Purpose::Research);
    assert!(!shows(
        &open(),
        std::slice::from_ref(&tpo),
        &others,
        &part_2
    ));
    assert_eq!(
        shown(&[level], &client(Purpose::Treatment)),
        [true, false, true]
    );
    assert_eq!(
        shown(&[named], &client(Purpose::Treatment)),
        [true, true, true]
    );
    assert_eq!(
        shown(&[tpo, no], &client(Purpose::Treatment)),
        [false, false, false]
    );
}

#[test]
fn a_general_no_leaves_what_everybodys_work_depends_on() {
    let task = resource(
        json!({"resourceType": "Task", "id": "t", "for": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/e"}}),
    );
    let rules = closed();
    let row = Row::new(&rules.tables, &task);
    let who = client(Purpose::Treatment);
    for (provision, expected) in [
        (json!({"type": "deny"}), true),
        (
            json!({"type": "deny", "actor": actor("Organization/here")}),
            true,
        ),
        (
            json!({"type": "permit", "securityLabel": labels(&["PSY"])}),
            true,
        ),
        (json!({"type": "deny", "class": [{"code": "Task"}]}), false),
        (
            json!({"type": "deny", "data": [{"meaning": "related", "reference": {"reference": "Encounter/e"}}]}),
            false,
        ),
        (
            json!({"type": "permit", "provision": [{"type": "deny", "data": [{"meaning": "instance", "reference": {"reference": "Task/t"}}]}]}),
            false,
        ),
    ] {
        let access = Access::of(&[consent("2026-01-01", provision.clone())], &Related::new());
        let verdict = access.decide(&rules, &who, &row, Reach::Particular);
        assert_eq!(verdict.permitted, expected, "{provision}");
    }
}

#[test]
fn what_a_related_instance_refers_to_is_related() {
    let rules = open();
    let no = consent(
        "2026-01-01",
        json!({"type": "deny", "data": [{"meaning": "related", "reference": {"reference": "DiagnosticReport/d"}}]}),
    );
    assert_eq!(crate::consent::related_of(&no), ["DiagnosticReport/d"]);
    let related = Related::from([(
        "DiagnosticReport/d".to_owned(),
        vec!["Observation/w".to_owned()].into(),
    )]);
    let access = Access::of(&[no], &related);
    let who = client(Purpose::Treatment);
    for (id, expected) in [("w", false), ("x", true)] {
        let observation = observation(id, WEIGHT, &[]);
        let row = Row::new(&rules.tables, &observation);
        assert_eq!(
            access.decide(&rules, &who, &row, Reach::Whole).permitted,
            expected
        );
    }
}

#[test]
fn packs_that_are_wrong_are_refused_in_words() {
    for (text, words) in [
        ("", "missing field"),
        ("name = \"x\"\nnome = 1", "unknown field"),
        (
            &CLOSED.replace("client =", "patient ="),
            "can't bind the role patient",
        ),
        (&CLOSED.replace("client =", "friend ="), "friend"),
        (&CLOSED.replace("permit = []", "permit = [\"FUN\"]"), "FUN"),
    ] {
        let error = Rules::parse("x.toml", text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("x.toml"), "{error}");
    }
    let error = Rules::load("nowhere").unwrap_err().to_string();
    assert!(error.contains("us-hipaa, england"), "{error}");
    for name in Rules::built_in() {
        assert_eq!(Rules::load(name).unwrap().name(), name);
    }
}

#[test]
fn a_pack_builds_on_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
    write(
        "own.toml",
        "name = \"own\"\nextends = \"us-hipaa\"\n[bound]\nclient = \"always\"\n[[labelled]]\nlabel = \"HIV\"\nroles = [\"client\"]\nneeds = \"consent\"\ndenied = \"no\"\n",
    );
    write("top.toml", "name = \"top\"\nextends = \"own.toml\"\n");
    let (base, top) = (open(), Rules::load(&at("top.toml")).unwrap());
    assert_eq!(top.name(), "top");
    // What it says nothing of is as in the one below, what it has takes the other's place, and labels are added.
    assert_eq!(
        top.without_consent(Purpose::Payment),
        base.without_consent(Purpose::Payment)
    );
    assert!(top.proxies().is_some());
    let bound: Vec<_> = top.bound().map(|(role, _)| role).collect();
    assert_eq!(bound, [Role::Biller, Role::Proxy, Role::Client]);
    let labels = |rules: &Rules| rules.labels_that_need_consent().count();
    assert_eq!(labels(&top), labels(&base) + 1);
    // The packs that were there before have no floors; the proposed rule changes nothing but these.
    for name in ["us-hipaa", "england"] {
        assert!(Rules::load(name).unwrap().security().is_empty());
    }
    let proposed = Rules::load("us-hipaa-2025").unwrap();
    assert!(!proposed.security().is_empty());
    assert_eq!(labels(&proposed), labels(&base));

    for (name, text, words) in [
        (
            "ring.toml",
            "name = \"x\"\nextends = \"ring.toml\"\n",
            "extends itself",
        ),
        (
            "none.toml",
            "name = \"x\"\nextends = \"nowhere.toml\"\n",
            "nowhere.toml",
        ),
        ("bare.toml", "name = \"x\"\n", "missing field `default`"),
        (
            "zero.toml",
            "name = \"x\"\nextends = \"us-hipaa\"\n[security.backups]\nunder = \"y\"\nhours = 0\n",
            "hours is at least 1",
        ),
        (
            "odd.toml",
            "name = \"x\"\nextends = \"us-hipaa\"\n[security.walls]\nunder = \"y\"\n",
            "walls",
        ),
    ] {
        write(name, text);
        let error = Rules::load(&at(name)).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
}

#[test]
fn a_pack_can_add_codes() {
    let text = format!("{CLOSED}[[sensitive]]\nlabel = \"HIV\"\nloinc = [\"{WEIGHT}\"]\n");
    let rules = Rules::parse("more", &text).unwrap();
    let normal = [consent(
        "2026-01-01",
        json!({"type": "permit", "securityLabel": labels(&["N"])}),
    )];
    let who = client(Purpose::Treatment);
    let weight = observation("w", WEIGHT, &[]);
    assert!(shows(&closed(), &normal, &who, &weight));
    assert!(!shows(&rules, &normal, &who, &weight));
}

#[test]
fn a_category_of_icd_10_stands_for_what_is_below_it() {
    let rules = open();
    let of = |system: &str, code: &str| {
        let condition = resource(json!({"resourceType": "Condition", "id": "c",
            "code": {"coding": [{"system": system, "code": code}]}}));
        let row = Row::new(&rules.tables, &condition);
        row.labels().about.join(" ")
    };
    let icd = "http://hl7.org/fhir/sid/icd-10-cm";
    for (system, code, expected) in [
        (icd, "B20", "HIV"),
        (icd, "F10.20", "ETHUD"),
        (icd, "F11.2", "OPIOIDUD"),
        (icd, "F1", ""),
        (icd, "I10", ""),
        (icd, "é", ""),
        ("http://hl7.org/fhir/sid/icd-10", "F20.0", "PSY"),
        ("http://snomed.info/sct", "86406008", "HIV"),
        ("http://snomed.info/sct", "864060081", ""),
        ("urn:x", "B20", ""),
    ] {
        assert_eq!(of(system, code), expected, "{system}|{code}");
    }
}

//! The example consents of IHE's Privacy Consent on FHIR (PCF), as facts: what each says, who asks, and
//! what of a small record is shown. Nothing is shown without a consent here, as PCF has it where there is no
//! implicit policy. Two of the guide's editions have 24 examples between them.
use super::*;

/// Their record, with a note about mental health by the practitioner, and two that are sensitive otherwise.
fn record() -> Vec<(&'static str, Resource)> {
    let observation = |id: &str, code: &str, date: &str, security: &[&str]| {
        resource(json!({
            "resourceType": "Observation", "id": id, "meta": {"security": labels(security)},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "effectiveDateTime": date,
            "subject": {"reference": "Patient/p"}, "performer": [{"reference": "Practitioner/author"}],
            "encounter": {"reference": "Encounter/e"},
        }))
    };
    let condition = |id: &str, date: &str, recorder: &str, security: &[&str]| {
        resource(json!({
            "resourceType": "Condition", "id": id, "meta": {"security": labels(security)},
            "subject": {"reference": "Patient/p"}, "recordedDate": date, "recorder": {"reference": recorder},
        }))
    };
    let encounter = resource(json!({
        "resourceType": "Encounter", "id": "e", "meta": {"security": labels(&["N"])},
        "subject": {"reference": "Patient/p"}, "period": {"start": "2021-05-01", "end": "2021-05-02"},
    }));
    vec![
        (
            "alcohol",
            observation("alcohol", "74013-4", "2022-06-13", &["ETHUD", "R"]),
        ),
        (
            "sugar",
            observation("sugar", "2339-0", "2020-12-04T23:50:50-05:00", &["N"]),
        ),
        (
            "pressure",
            observation("pressure", "85354-9", "2004-12-25", &["N"]),
        ),
        (
            "weight",
            observation("weight", "29463-7", "2004-12-25", &["N"]),
        ),
        (
            "weight-2",
            observation("weight-2", "29463-7", "2016-03-28", &["N"]),
        ),
        ("encounter", encounter),
        (
            "psy",
            condition("psy", "2022-03-01", "Practitioner/one", &["PSY"]),
        ),
        (
            "sdv",
            condition("sdv", "2021-03-01", "Practitioner/author", &["SDV", "R"]),
        ),
        (
            "sex",
            condition("sex", "2021-04-01", "Practitioner/author", &["SEX", "R"]),
        ),
    ]
}

const ALL: &str = "alcohol sugar pressure weight weight-2 encounter psy sdv sex";
const NORMAL: &str = "sugar pressure weight weight-2 encounter";
const NONE: &str = "";
const TPO: [&str; 3] = ["TREAT", "HPAYMT", "HOPERAT"];

/// Who asks.
const ONE: &[&str] = &["Practitioner/one", "Organization/here"];
const OTHER: &[&str] = &["Practitioner/other", "Organization/here"];
const RESEARCHER: &[&str] = &["Organization/research"];
const PRIVILEGED: &[&str] = &["Practitioner/one", "Group/privileged"];
const UNPRIVILEGED: &[&str] = &["Practitioner/other", "Group/visitors"];

type Ask = (&'static [&'static str], Purpose, &'static str);

fn check(name: &str, provision: Value, asks: &[Ask]) {
    check_at(name, provision, NOW_MS, asks);
}

fn check_at(name: &str, provision: Value, now_ms: i64, asks: &[Ask]) {
    let rules = closed();
    let mut one = consent("2022-06-13", provision);
    one.set(
        "organization",
        json!([{"reference": "Organization/keeper"}]),
    );
    let access = Access::of(&[one], &Related::new());
    for (known_as, purpose, expected) in asks {
        for role in [Role::Client, Role::Clinician] {
            let mut asked = asked(role, *purpose, known_as);
            asked.now_ms = now_ms;
            let shown: Vec<&str> = record()
                .iter()
                .filter(|(_, row)| {
                    let row = Row::new(&rules.tables, row);
                    access.decide(&rules, &asked, &row, Reach::Whole).permitted
                })
                .map(|(name, _)| *name)
                .collect();
            assert_eq!(
                shown.join(" "),
                *expected,
                "{name}: {known_as:?} {purpose:?} {role:?}"
            );
        }
    }
}

fn tpo(parts: Value) -> Value {
    let mut provision = json!({"type": "permit", "purpose": purposes(&TPO)});
    let Value::Object(parts) = parts else {
        panic!("parts are members")
    };
    for (name, part) in parts {
        provision[name] = part;
    }
    provision
}

// Proves: 45 CFR 164.508(a)(1), 164.522(a)(1)(iii)
#[test]
fn basic() {
    use Purpose::{Operations, Payment, Research, Treatment};
    let agreed: &[Ask] = &[
        (ONE, Treatment, ALL),
        (OTHER, Payment, ALL),
        (OTHER, Operations, ALL),
        (OTHER, Research, NONE),
    ];
    // On paper, by the mother of an infant, or otherwise: it is the same.
    for name in ["basic-treat", "basic-treat-infant", "basic-ink"] {
        check(name, tpo(json!({})), agreed);
    }
    let expired = tpo(json!({"period": {"end": "2022-12-31"}}));
    // 2022-12-31T12:00Z.
    check_at(
        "expired-treat, before",
        expired.clone(),
        1_672_488_000_000,
        agreed,
    );
    check(
        "expired-treat",
        expired,
        &[(ONE, Treatment, NONE), (OTHER, Payment, NONE)],
    );
    check(
        "basic-reject",
        json!({"type": "deny", "purpose": purposes(&TPO)}),
        &[
            (ONE, Treatment, NONE),
            (OTHER, Operations, NONE),
            (RESEARCHER, Research, NONE),
        ],
    );
    check(
        "basic-research",
        json!({"type": "permit", "purpose": purposes(&["HRESCH"])}),
        &[(RESEARCHER, Research, ALL), (ONE, Treatment, NONE)],
    );
}

// Proves: 45 CFR 164.508(a)(1), 164.522(a)(1)(iii)
#[test]
fn intermediate() {
    use Purpose::{Emergency, Research, Treatment};
    let year = json!({"start": "2022-01-01", "end": "2022-12-31"});
    let data = |meaning: &str, references: &[&str]| -> Value {
        references
            .iter()
            .map(|one| json!({"meaning": meaning, "reference": {"reference": one}}))
            .collect()
    };
    let but = |parts: Value| {
        let mut inner = parts;
        inner["type"] = "deny".into();
        tpo(json!({"provision": [inner]}))
    };
    let by = data("authoredby", &["Practitioner/one"]);
    let encounter = data("related", &["Encounter/e"]);
    let six = data(
        "instance",
        &[
            "Encounter/e",
            "Observation/weight-2",
            "Observation/weight",
            "Observation/pressure",
            "Observation/sugar",
            "Observation/alcohol",
        ],
    );
    let alcohol = data("instance", &["Observation/alcohol"]);
    let of_encounter = "alcohol sugar pressure weight weight-2 encounter";
    for (name, provision, expected) in [
        ("timeframe", tpo(json!({"dataPeriod": year})), "alcohol psy"),
        (
            "not-timeframe",
            but(json!({"dataPeriod": year})),
            "sugar pressure weight weight-2 encounter sdv sex",
        ),
        ("authoredby", tpo(json!({"data": by})), "psy"),
        (
            "not-authoredby",
            but(json!({"data": by})),
            "alcohol sugar pressure weight weight-2 encounter sdv sex",
        ),
        ("encounter", tpo(json!({"data": encounter})), of_encounter),
        (
            "not-encounter",
            but(json!({"data": encounter})),
            "psy sdv sex",
        ),
        ("data", tpo(json!({"data": six})), of_encounter),
        (
            "not-data",
            but(json!({"data": alcohol})),
            "sugar pressure weight weight-2 encounter psy sdv sex",
        ),
    ] {
        check(
            name,
            provision,
            &[(OTHER, Treatment, expected), (RESEARCHER, Research, NONE)],
        );
    }
    // One study of one organization, for which it asks by a purpose of its own; no other one is meant.
    let (foo_bar, other) = (own("urn:purposes", "FooBar"), own("urn:purposes", "Other"));
    check(
        "purpose",
        json!({"type": "permit", "actor": actor("Organization/research"),
            "purpose": [{"system": "urn:purposes", "code": "FooBar"}]}),
        &[
            (RESEARCHER, foo_bar, ALL),
            (RESEARCHER, other, NONE),
            (RESEARCHER, Research, NONE),
            (ONE, foo_bar, NONE),
            (ONE, Treatment, NONE),
        ],
    );
    check(
        "dissent, break-glass",
        json!({"type": "deny", "provision": [
            {"type": "permit", "purpose": purposes(&["BTG"]), "actor": actor("Group/privileged")},
        ]}),
        &[
            (PRIVILEGED, Treatment, NONE),
            (PRIVILEGED, Emergency, ALL),
            (UNPRIVILEGED, Emergency, NONE),
            (ONE, Emergency, NONE),
        ],
    );
}

// Proves: 45 CFR 164.522(a)(1)(iii)
#[test]
fn advanced() {
    use Purpose::{Emergency, Research, Treatment};
    let normal = |inner: Value| tpo(json!({"securityLabel": labels(&["N"]), "provision": inner}));
    let only_one = |codes: &[&str]| json!([{"type": "permit", "securityLabel": labels(codes), "actor": actor("Practitioner/one")}]);
    check(
        "normal",
        normal(json!([])),
        &[(ONE, Treatment, NORMAL), (ONE, Research, NONE)],
    );
    check(
        "normal-restricted",
        tpo(json!({"securityLabel": labels(&["N", "R"])})),
        &[(OTHER, Treatment, ALL)],
    );
    check(
        "normal-not-restricted",
        normal(json!([{"type": "deny", "securityLabel": labels(&["R"])}])),
        &[(ONE, Treatment, NORMAL)],
    );
    check(
        "normal-focused-restricted",
        normal(only_one(&["R"])),
        &[(ONE, Treatment, ALL), (OTHER, Treatment, NORMAL)],
    );
    for (name, codes, expected) in [
        (
            "normal-focused-psy",
            &["PSY"][..],
            "sugar pressure weight weight-2 encounter psy",
        ),
        (
            "normal-focused-psy-or-sdv",
            &["PSY", "SDV"],
            "sugar pressure weight weight-2 encounter psy sdv",
        ),
        (
            "normal-focused-psy-or-sex",
            &["PSY", "SEX"],
            "sugar pressure weight weight-2 encounter psy sex",
        ),
    ] {
        check(
            name,
            normal(only_one(codes)),
            &[
                (ONE, Treatment, expected),
                (OTHER, Treatment, NORMAL),
                (ONE, Research, NONE),
            ],
        );
    }
    check(
        "normal-break-glass-restricted",
        normal(json!([{"type": "permit", "purpose": purposes(&["BTG"]),
            "securityLabel": labels(&["R"]), "actor": actor("Group/privileged")}])),
        &[
            (PRIVILEGED, Treatment, NORMAL),
            (UNPRIVILEGED, Treatment, NORMAL),
            (PRIVILEGED, Emergency, ALL),
            (UNPRIVILEGED, Emergency, NORMAL),
        ],
    );
}

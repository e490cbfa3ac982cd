use super::*;

/// 2026-06-15T12:00Z.
pub(super) const NOW_MS: i64 = 1_781_524_800_000;

pub(super) fn consent(id: &str, parts: Value) -> Resource {
    let mut value = json!({
        "resourceType": "Consent",
        "id": id,
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "patient": {"reference": "Patient/p"},
        "dateTime": "2026-01-01",
    });
    let Value::Object(parts) = parts else {
        panic!("parts are members")
    };
    for (name, part) in parts {
        value[name] = part;
    }
    Resource::from_value(value).unwrap()
}

pub(super) fn purposes_json(codes: &[&str]) -> Value {
    codes
        .iter()
        .map(|code| json!({"system": Purpose::SYSTEM, "code": code}))
        .collect()
}

pub(super) fn about_messages() -> Value {
    json!([{"coding": [{"system": CONSENT_CATEGORY_SYSTEM, "code": CARE_MESSAGES}]}])
}

pub(super) fn rules() -> Rules {
    Rules::load(Rules::DEFAULT).unwrap()
}

/// Whether a coordinator whom nobody knows by another name may see an observation.
fn accessed(consents: &[Resource], purpose: Purpose) -> (bool, Option<String>) {
    let rules = rules();
    let asked = Asked {
        role: crate::Role::Coordinator,
        purpose,
        now_ms: NOW_MS,
        known_as: Vec::new(),
    };
    let access = Access::of(consents, &Related::new());
    let any = Resource::new(ResourceType::Observation);
    let row = Row::new(&rules.tables, &any);
    let verdict = access.decide(&rules, &asked, &row, Reach::Whole);
    (verdict.permitted, verdict.consent.map(str::to_owned))
}

/// Each case: name, consents, purpose, what `decide` says, whether a row may be seen.
fn check(cases: Vec<(&str, Vec<Value>, Purpose, bool, bool)>) {
    let rules = rules();
    for (name, parts, purpose, decided, seen) in cases {
        let consents: Vec<Resource> = parts
            .into_iter()
            .enumerate()
            .map(|(place, parts)| consent(&place.to_string(), parts))
            .collect();
        let decision = decide(&rules, &consents, purpose, NOW_MS);
        assert_eq!(decision.permitted, decided, "{name}: {decision:?}");
        let (permitted, by) = accessed(&consents, purpose);
        assert_eq!(permitted, seen, "{name}, access by {by:?}");
        // Whatever denies access must be found by its token, by servers of before.
        if !permitted && by.is_some() {
            assert!(consents.iter().any(may_deny_access), "{name}");
        }
        let mut backwards = consents.clone();
        backwards.reverse();
        assert_eq!(
            decide(&rules, &backwards, purpose, NOW_MS).permitted,
            decided,
            "{name}, backwards"
        );
        assert_eq!(accessed(&backwards, purpose).0, seen, "{name}, backwards");
    }
}

#[test]
fn one_consent() {
    use Purpose::{
        Administration, CareManagement, Emergency, Operations, PatientRequest, Payment, Research,
        Treatment,
    };
    let deny = || json!({"provision": {"type": "deny"}});
    let deny_for =
        |codes: &[&str]| json!({"provision": {"type": "deny", "purpose": purposes_json(codes)}});
    check(vec![
        ("none, treatment", vec![], Treatment, true, true),
        ("none, payment", vec![], Payment, true, true),
        ("none, operations", vec![], Operations, true, true),
        ("none, emergency", vec![], Emergency, true, true),
        (
            "none, patient's request",
            vec![],
            PatientRequest,
            true,
            true,
        ),
        ("none, research", vec![], Research, false, false),
        (
            "permit",
            vec![json!({"provision": {"type": "permit"}})],
            Treatment,
            true,
            true,
        ),
        (
            "permit for research",
            vec![json!({"provision": {"type": "permit", "purpose": purposes_json(&["HRESCH"])}})],
            Research,
            true,
            true,
        ),
        (
            "permit without a type",
            vec![json!({"provision": {}})],
            Treatment,
            true,
            true,
        ),
        ("no provision", vec![json!({})], Research, true, true),
        (
            "opt-out without a type",
            vec![json!({"policyRule": {"coding": [{"system": ACT_CODE, "code": "OPTOUT"}]}})],
            Treatment,
            false,
            false,
        ),
        (
            "opt-in without a type",
            vec![
                json!({"policyRule": {"coding": [{"system": ACT_CODE, "code": "OPTIN"}]}, "provision": {}}),
            ],
            Treatment,
            true,
            true,
        ),
        ("deny", vec![deny()], Treatment, false, false),
        ("deny, any purpose", vec![deny()], Operations, false, false),
        (
            "deny for treatment",
            vec![deny_for(&["TREAT"])],
            Treatment,
            false,
            false,
        ),
        (
            "deny for treatment covers care management",
            vec![deny_for(&["TREAT"])],
            CareManagement,
            false,
            false,
        ),
        (
            "deny for operations covers care management",
            vec![deny_for(&["HOPERAT"])],
            CareManagement,
            false,
            false,
        ),
        (
            "deny for operations covers administration",
            vec![deny_for(&["HOPERAT"])],
            Administration,
            false,
            false,
        ),
        (
            "deny for care management leaves treatment",
            vec![deny_for(&["CAREMGT"])],
            Treatment,
            true,
            true,
        ),
        (
            "deny for treatment leaves emergency",
            vec![deny_for(&["TREAT"])],
            Emergency,
            true,
            true,
        ),
        (
            "deny for emergency",
            vec![deny_for(&["ETREAT"])],
            Emergency,
            false,
            false,
        ),
        (
            "deny for another purpose",
            vec![deny_for(&["HPAYMT", "HRESCH"])],
            Treatment,
            true,
            true,
        ),
        (
            "one of several purposes",
            vec![deny_for(&["HPAYMT", "TREAT"])],
            Treatment,
            false,
            false,
        ),
        (
            "draft",
            vec![json!({"status": "draft", "provision": {"type": "deny"}})],
            Treatment,
            true,
            true,
        ),
        (
            "proposed",
            vec![json!({"status": "proposed", "provision": {"type": "deny"}})],
            Treatment,
            true,
            true,
        ),
        (
            "entered in error",
            vec![json!({"status": "entered-in-error", "provision": {"type": "deny"}})],
            Treatment,
            true,
            true,
        ),
        (
            "withdrawn",
            vec![json!({"status": "inactive", "provision": {"type": "permit"}})],
            Treatment,
            false,
            true,
        ),
        (
            "withdrawn, no type",
            vec![json!({"status": "inactive"})],
            Treatment,
            false,
            true,
        ),
        (
            "declined",
            vec![json!({"status": "rejected", "provision": {"type": "permit"}})],
            Treatment,
            false,
            true,
        ),
        (
            "withdrawn for another purpose",
            vec![
                json!({"status": "inactive", "provision": {"type": "permit", "purpose": purposes_json(&["HRESCH"])}}),
            ],
            Treatment,
            true,
            true,
        ),
        (
            "denial withdrawn",
            vec![json!({"status": "inactive", "provision": {"type": "deny"}})],
            Treatment,
            true,
            true,
        ),
        (
            "denial rejected",
            vec![json!({"status": "rejected", "provision": {"type": "deny"}})],
            Treatment,
            true,
            true,
        ),
        (
            "denial withdrawn leaves research",
            vec![json!({"status": "inactive", "provision": {"type": "deny"}})],
            Research,
            false,
            false,
        ),
    ]);
}

// Proves: 45 CFR 164.508(b)
#[test]
fn periods() {
    let deny = |period: Value| vec![json!({"provision": {"type": "deny", "period": period}})];
    check(vec![
        (
            "holds",
            deny(json!({"start": "2026-01-01", "end": "2026-12-31"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "over",
            deny(json!({"start": "2025-01-01", "end": "2026-06-14"})),
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "last day counts whole",
            deny(json!({"end": "2026-06-15"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "last year counts whole",
            deny(json!({"end": "2026"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "not yet",
            deny(json!({"start": "2026-06-15T12:00:01Z"})),
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "from now",
            deny(json!({"start": "2026-06-15T12:00:00Z"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "ends now",
            deny(json!({"end": "2026-06-15T11:59:59Z"})),
            Purpose::Treatment,
            true,
            true,
        ),
        ("open", deny(json!({})), Purpose::Treatment, false, false),
        (
            "unreadable end doesn't end it",
            deny(json!({"end": "soon"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "withdrawn after it was over",
            vec![
                json!({"status": "inactive", "provision": {"type": "permit", "period": {"end": "2020"}}}),
            ],
            Purpose::Treatment,
            true,
            true,
        ),
    ]);
}

#[test]
fn nested_and_narrowed() {
    let nested =
        |provision: Value| vec![json!({"provision": {"type": "permit", "provision": [provision]}})];
    let actor = json!([{"reference": {"reference": "Practitioner/x"}}]);
    check(vec![
        (
            "nested deny",
            nested(json!({"type": "deny"})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "nested deny for the purpose",
            nested(json!({"type": "deny", "purpose": purposes_json(&["TREAT"])})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "nested deny for another",
            nested(json!({"type": "deny", "purpose": purposes_json(&["HRESCH"])})),
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "nested deny of a class counts whole",
            nested(json!({"type": "deny", "class": [{"code": "Observation"}]})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "nested deny of an actor, which no programme is",
            nested(json!({"type": "deny", "actor": actor})),
            Purpose::Treatment,
            true,
            false,
        ),
        (
            "nested deny that is over",
            nested(json!({"type": "deny", "period": {"end": "2020"}})),
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "deny in a permit in a permit",
            nested(json!({"type": "permit", "provision": [{"type": "deny"}]})),
            Purpose::Treatment,
            false,
            false,
        ),
        (
            "nested permit",
            nested(json!({"type": "permit"})),
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "permit in a deny opens the chart, and not the letter box",
            vec![json!({"provision": {"type": "deny", "provision": [{"type": "permit"}]}})],
            Purpose::Treatment,
            false,
            true,
        ),
        (
            "permit for an actor decides nothing",
            vec![json!({"provision": {"type": "permit", "actor": actor}})],
            Purpose::Treatment,
            true,
            true,
        ),
        (
            "permit for an actor, research",
            vec![json!({"provision": {"type": "permit", "actor": actor}})],
            Purpose::Research,
            false,
            false,
        ),
        (
            "permit of a class, research",
            vec![json!({"provision": {"type": "permit", "class": [{"code": "Observation"}]}})],
            Purpose::Research,
            false,
            true,
        ),
        (
            "deny of an actor, which no programme is",
            vec![json!({"provision": {"type": "deny", "actor": actor}})],
            Purpose::Treatment,
            true,
            false,
        ),
    ]);
}

#[test]
fn several() {
    let deny = |date: &str| json!({"dateTime": date, "provision": {"type": "deny"}});
    let permit = |date: &str| json!({"dateTime": date, "provision": {"type": "permit"}});
    let withdrawn = |date: &str| json!({"dateTime": date, "status": "inactive", "provision": {"type": "permit"}});
    let wordless = |date: &str| json!({"dateTime": date, "provision": {"type": "permit", "purpose": purposes_json(&["HRESCH"])}});
    let treatment = Purpose::Treatment;
    check(vec![
        (
            "newer deny",
            vec![permit("2026-01-01"), deny("2026-02-01")],
            treatment,
            false,
            false,
        ),
        (
            "newer permit",
            vec![deny("2026-01-01"), permit("2026-02-01")],
            treatment,
            true,
            true,
        ),
        (
            "same day: no",
            vec![permit("2026-01-01"), deny("2026-01-01")],
            treatment,
            false,
            false,
        ),
        (
            "later the same day",
            vec![deny("2026-01-01T08:00:00Z"), permit("2026-01-01T09:00:00Z")],
            treatment,
            true,
            true,
        ),
        (
            "newer one for another purpose",
            vec![deny("2026-01-01"), wordless("2026-02-01")],
            treatment,
            false,
            false,
        ),
        (
            "withdrawn after a permit",
            vec![permit("2026-01-01"), withdrawn("2026-02-01")],
            treatment,
            false,
            true,
        ),
        (
            "given again",
            vec![withdrawn("2026-01-01"), permit("2026-02-01")],
            treatment,
            true,
            true,
        ),
    ]);
}

#[test]
fn strands() {
    let general = |date: &str, kind: &str| json!({"dateTime": date, "provision": {"type": kind}});
    let about = |date: &str, kind: &str| json!({"dateTime": date, "category": about_messages(), "provision": {"type": kind}});
    let scoped = |code: &str, provision: Value| json!({"scope": {"coding": [{"system": SCOPE, "code": code}]}, "provision": provision});
    let treatment = Purpose::Treatment;
    check(vec![
        (
            "messages withdrawn, chart stays",
            vec![about("2026-02-01", "deny")],
            treatment,
            false,
            true,
        ),
        (
            "messages withdrawn before a general permit",
            vec![about("2026-01-01", "deny"), general("2026-02-01", "permit")],
            treatment,
            false,
            true,
        ),
        (
            "messages given after a general deny",
            vec![general("2026-01-01", "deny"), about("2026-02-01", "permit")],
            treatment,
            true,
            false,
        ),
        (
            "messages given before a general deny",
            vec![about("2026-01-01", "permit"), general("2026-02-01", "deny")],
            treatment,
            false,
            false,
        ),
        (
            "both at once",
            vec![about("2026-01-01", "permit"), general("2026-01-01", "deny")],
            treatment,
            false,
            false,
        ),
        (
            "messages given again",
            vec![about("2026-01-01", "deny"), about("2026-02-01", "permit")],
            treatment,
            true,
            true,
        ),
        (
            "advance directive",
            vec![scoped("adr", json!({"type": "deny"}))],
            treatment,
            true,
            true,
        ),
        (
            "refused operation",
            vec![scoped("treatment", json!({"type": "deny"}))],
            treatment,
            true,
            true,
        ),
        (
            "refused study",
            vec![scoped("research", json!({"type": "deny"}))],
            treatment,
            true,
            true,
        ),
        (
            "study that names treatment",
            vec![scoped(
                "research",
                json!({"type": "deny", "purpose": purposes_json(&["TREAT"])}),
            )],
            treatment,
            false,
            true,
        ),
        (
            "study permitted",
            vec![scoped(
                "research",
                json!({"type": "permit", "purpose": purposes_json(&["HRESCH"])}),
            )],
            Purpose::Research,
            true,
            false,
        ),
    ]);
}

#[test]
fn the_newest_is_told_by_its_date_or_else_by_its_meta() {
    let mut old = consent("old", json!({"provision": {"type": "permit"}}));
    let mut new = consent("new", json!({"provision": {"type": "deny"}}));
    old.remove("dateTime");
    new.remove("dateTime");
    old.set_meta(1, 1_000);
    new.set_meta(1, 2_000);
    let decision = decide(
        &rules(),
        &[old.clone(), new.clone()],
        Purpose::Treatment,
        NOW_MS,
    );
    assert_eq!(decision.consent.as_deref(), Some("new"));
    new.set_meta(1, 500);
    assert!(decide(&rules(), &[old, new], Purpose::Treatment, NOW_MS).permitted);
}

/// Each case: name, status, type, `dateTime`, when it was written, its version; in pairs, with what
/// they say together.
// Proves: 45 CFR 164.508(b)
#[test]
fn an_older_yes_does_not_outlast_a_no() {
    type Part = (&'static str, &'static str, &'static str, &'static str, u32);
    let cases: &[(&str, [Part; 2], bool)] = &[
        (
            "a no of the same day without a time, written after the yes",
            [
                (
                    "active",
                    "permit",
                    "2026-05-26T08:00:00Z",
                    "2026-05-26T08:00:00Z",
                    1,
                ),
                ("active", "deny", "2026-05-26", "2026-05-26T12:00:00Z", 1),
            ],
            false,
        ),
        (
            "the same, imported days later",
            [
                (
                    "active",
                    "permit",
                    "2026-05-26T08:00:00Z",
                    "2026-05-29T09:00:00Z",
                    1,
                ),
                ("active", "deny", "2026-05-26", "2026-05-29T09:00:00Z", 1),
            ],
            false,
        ),
        (
            "a no of the same day without a time, written before the yes",
            [
                ("active", "deny", "2026-05-26", "2026-05-26T07:00:00Z", 1),
                (
                    "active",
                    "permit",
                    "2026-05-26T08:00:00Z",
                    "2026-05-26T08:00:00Z",
                    1,
                ),
            ],
            true,
        ),
        (
            "a yes of a mistyped year",
            [
                ("active", "permit", "2062-05-26", "2026-05-01T08:00:00Z", 1),
                ("active", "deny", "2026-05-26", "2026-05-26T12:00:00Z", 1),
            ],
            false,
        ),
        (
            "a no of a mistyped year",
            [
                ("active", "deny", "2062-05-26", "2026-05-01T08:00:00Z", 1),
                ("active", "permit", "2026-05-26", "2026-05-26T12:00:00Z", 1),
            ],
            true,
        ),
        (
            "an old consent that was changed to withdrawn",
            [
                (
                    "inactive",
                    "permit",
                    "2026-01-05",
                    "2026-05-26T12:00:00Z",
                    2,
                ),
                ("active", "permit", "2026-02-01", "2026-02-01T12:00:00Z", 1),
            ],
            false,
        ),
        (
            "one that came here withdrawn, older than the yes",
            [
                (
                    "inactive",
                    "permit",
                    "2026-01-05",
                    "2026-05-26T12:00:00Z",
                    1,
                ),
                ("active", "permit", "2026-02-01", "2026-05-26T12:00:00Z", 1),
            ],
            true,
        ),
    ];
    for (name, parts, permitted) in cases {
        let consents = parts.map(|(status, kind, date, written, version)| {
            let mut consent = consent(
                written,
                json!({"status": status, "dateTime": date, "provision": {"type": kind}}),
            );
            let written_ms = date::parse(written).unwrap().start_ms;
            consent.set_meta(version, u64::try_from(written_ms).unwrap());
            consent
        });
        let decision = decide(&rules(), &consents, Purpose::Treatment, NOW_MS);
        assert_eq!(decision.permitted, *permitted, "{name}: {decision:?}");
    }
}

#[test]
fn care_messages_round_trip() {
    let now_ms = u64::try_from(NOW_MS).unwrap();
    for permitted in [true, false] {
        let mut consent = care_messages("p", permitted, now_ms);
        assert_eq!(consent.patient(), Some("p"));
        consent.set_id("c");
        assert_eq!(fhir::validate::check(&consent), []);
        for purpose in [Purpose::Treatment, Purpose::CareManagement] {
            let consents = [consent.clone()];
            let decision = decide(&rules(), &consents, purpose, NOW_MS);
            assert_eq!(decision.permitted, permitted);
            assert_eq!(decision.consent.as_deref(), Some("c"));
            assert!(accessed(&consents, purpose).0);
        }
        assert!(!may_deny_access(&consent));
    }
    let given = care_messages("p", true, now_ms);
    let withdrawn = care_messages("p", false, now_ms + 1);
    assert!(!decide(&rules(), &[withdrawn, given], Purpose::Treatment, NOW_MS).permitted);
}

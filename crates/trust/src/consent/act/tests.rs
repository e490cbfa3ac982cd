use serde_json::json;

use super::*;
use crate::consent::ACT_CODE;
use crate::consent::decide_act;
use crate::consent::tests::{NOW_MS, about_messages, consent, purposes_json, rules};

/// A denial of a part stops a journey where it may be about what the journey does, and nowhere else.
// Proves: 45 CFR 164.522(a)(1)(iii)
#[test]
fn a_denial_of_a_part_stops_what_it_may_be_about() {
    let actor = |reference: &str| json!([{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": reference}}]);
    let data = |meaning: &str, reference: &str| json!([{"meaning": meaning, "reference": {"reference": reference}}]);
    let giver = json!([{"role": {"coding": [{"code": "GRANTOR"}]}, "reference": {"reference": "Patient/p"}}]);
    let class =
        |codes: &[&str]| -> Value { codes.iter().map(|code| json!({"code": code})).collect() };
    let label = json!([{"system": ACT_CODE, "code": "HIV"}]);
    let mut act = Act {
        purpose: Purpose::Treatment,
        about: vec![ResourceType::Observation, ResourceType::Communication],
        known_as: Vec::new(),
    };
    let rules = rules();
    // What a denial says beside "deny", and whether it stops the journey.
    let table = [
        (json!({}), true),
        (json!({"class": class(&["Observation"])}), true),
        (
            json!({"class": class(&["Condition", "Communication"])}),
            true,
        ),
        (
            json!({"class": class(&["Condition", "MedicationRequest"])}),
            false,
        ),
        (
            json!({"class": [{"system": "urn:profiles", "code": "x"}]}),
            true,
        ),
        (json!({"class": [{}]}), true),
        (json!({"actor": actor("Practitioner/y")}), false),
        (json!({"actor": actor("PractitionerRole/y")}), false),
        (json!({"actor": actor("RelatedPerson/y")}), false),
        // Messages go to the patient.
        (json!({"actor": actor("Patient/p")}), true),
        (json!({"actor": actor("HealthcareService/y")}), true),
        (json!({"actor": actor("Organization/y")}), true),
        (
            json!({"actor": actor("https://elsewhere.example/Practitioner/y")}),
            true,
        ),
        (json!({"actor": giver}), true),
        (json!({"securityLabel": label}), true),
        (
            json!({"securityLabel": label, "class": class(&["Condition"])}),
            false,
        ),
        (json!({"code": [{"text": "something"}]}), true),
        (json!({"data": data("instance", "Condition/c")}), false),
        (json!({"data": data("instance", "Observation/o")}), true),
        (json!({"data": data("related", "Condition/c")}), true),
        (
            json!({"purpose": purposes_json(&["HPAYMT"]), "class": class(&["Observation"])}),
            false,
        ),
        (
            json!({"period": {"end": "2020"}, "class": class(&["Observation"])}),
            false,
        ),
        // An exception that takes all of it back leaves nothing of it; a narrower one does.
        (
            json!({"actor": actor("Organization/y"), "provision": [{"type": "permit"}]}),
            false,
        ),
        (
            json!({"actor": actor("Organization/y"), "provision": [{"type": "permit", "actor": actor("Organization/y")}]}),
            false,
        ),
        (
            json!({"provision": [{"type": "permit", "actor": actor("Practitioner/y")}]}),
            true,
        ),
        (
            json!({"class": class(&["Condition"]), "provision": [{"type": "permit", "provision": [{"type": "deny", "class": class(&["Observation"])}]}]}),
            true,
        ),
    ];
    for (members, stops) in table {
        for depth in ["root", "nested", "two deep", "beside a yes"] {
            let mut deny = members.clone();
            deny["type"] = json!("deny");
            let nested = |inner: Value| json!({"type": "permit", "provision": [inner]});
            let provision = match depth {
                "nested" => nested(deny),
                "two deep" => nested(nested(deny)),
                _ => deny,
            };
            let mut consents = vec![consent("c", json!({"provision": provision}))];
            if depth == "beside a yes" {
                let yes = json!({"dateTime": "2025", "provision": {"type": "permit"}});
                consents.push(consent("d", yes));
            }
            let found = decide_act(&rules, &consents, &act, NOW_MS);
            assert_eq!(
                found.permitted,
                !stops,
                "{depth}: {provision} {found:?}",
                provision = consents[0].get("provision").unwrap()
            );
            // Of what nobody knows what it is about, a class or an instance may be it.
            if stops {
                let any = decide_act(&rules, &consents, &Act::any(act.purpose), NOW_MS);
                assert!(!any.permitted, "{depth}");
            }
        }
        // In a consent about messages it is about all of them.
        let mut deny = members.clone();
        deny["type"] = json!("deny");
        if deny.get("purpose").is_none() && deny.get("period").is_none() {
            let said = consent(
                "m",
                json!({"category": about_messages(), "provision": deny}),
            );
            assert!(
                !decide_act(&rules, &[said], &act, NOW_MS).permitted,
                "{members}"
            );
        }
    }
    // Whom the programmes are of, tells which organization is somebody else.
    let of = |reference: &str| {
        [consent(
            "c",
            json!({"provision": {"type": "deny", "actor": actor(reference)}}),
        )]
    };
    act.known_as = vec!["Organization/here".to_owned()];
    assert!(decide_act(&rules, &of("Organization/pharmacy"), &act, NOW_MS).permitted);
    assert!(!decide_act(&rules, &of("Organization/here"), &act, NOW_MS).permitted);
    assert!(!decide_act(&rules, &of("CareTeam/t"), &act, NOW_MS).permitted);
    // Whom the one around it names, a nested denial is for.
    let inherited = json!({"type": "permit", "actor": actor("Practitioner/y"), "provision": [{"type": "deny", "class": class(&["Observation"])}]});
    let inherited = [consent("c", json!({"provision": inherited}))];
    assert!(decide_act(&rules, &inherited, &act, NOW_MS).permitted);
}

/// What was permitted for a part and is taken back is a "no" to that part.
#[test]
fn a_part_that_is_taken_back_stops_what_may_have_needed_it() {
    let class =
        |codes: &[&str]| -> Value { codes.iter().map(|code| json!({"code": code})).collect() };
    let actor = |reference: &str| json!([{"role": {"coding": [{"code": "IRCP"}]}, "reference": {"reference": reference}}]);
    let mut act = Act {
        purpose: Purpose::Treatment,
        about: vec![ResourceType::Observation, ResourceType::Communication],
        known_as: Vec::new(),
    };
    let rules = rules();
    let table = [
        (json!({}), true),
        (json!({"class": class(&["Observation"])}), true),
        (json!({"class": class(&["MedicationRequest"])}), false),
        (json!({"actor": actor("Practitioner/y")}), false),
        (json!({"actor": actor("Organization/y")}), true),
        (
            json!({"securityLabel": [{"system": ACT_CODE, "code": "HIV"}]}),
            true,
        ),
        (
            json!({"class": class(&["MedicationRequest"]), "provision": [{"type": "permit", "class": class(&["MedicationRequest"])}]}),
            false,
        ),
    ];
    for status in ["inactive", "rejected"] {
        for (narrow, stops) in &table {
            let mut provision = narrow.clone();
            provision["type"] = json!("permit");
            let taken_back = consent("c", json!({"status": status, "provision": provision}));
            let permitted = decide_act(&rules, &[taken_back], &act, NOW_MS).permitted;
            assert_eq!(permitted, !stops, "{status} {narrow}");
        }
    }
    // Of a programme that may be about anything, nobody knows.
    act.about.clear();
    let provision = json!({"type": "permit", "class": class(&["MedicationRequest"])});
    let taken_back = consent("c", json!({"status": "inactive", "provision": provision}));
    assert!(!decide_act(&rules, &[taken_back], &act, NOW_MS).permitted);
}

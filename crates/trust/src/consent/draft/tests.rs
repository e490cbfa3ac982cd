use super::*;
use crate::consent::tests::{NOW_MS, rules};
use crate::consent::{Access, Asked, Reach, Related, Row};

/// What a form drafts says what it is meant to say, and of nothing else.
#[test]
fn drafts_say_what_they_are_meant_to() {
    let rules = rules();
    let observation =
        Resource::from_value(json!({"resourceType": "Observation", "id": "o"})).unwrap();
    let hiv = Resource::from_value(json!({"resourceType": "Condition", "id": "hiv",
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "B20"}]}}))
    .unwrap();
    let file = Resource::from_value(json!({"resourceType": "Binary", "id": "b"})).unwrap();
    let seen = |consents: &[Resource], who: &str| {
        let access = Access::of(consents, &Related::new());
        let asked = Asked {
            role: crate::Role::Client,
            purpose: Purpose::Treatment,
            now_ms: NOW_MS,
            known_as: vec![who.to_owned()],
        };
        let rows = [("o", &observation), ("h", &hiv), ("f", &file)];
        let shown = rows.into_iter().filter(|(_, row)| {
            access
                .decide(&rules, &asked, &Row::new(&rules.tables, row), Reach::Whole)
                .permitted
        });
        shown.map(|(name, _)| name).collect::<String>()
    };
    let of = |draft: &Draft, at_ms: i64| {
        let mut consent = draft.consent("p", u64::try_from(at_ms).unwrap()).unwrap();
        consent.set_meta(1, u64::try_from(at_ms).unwrap());
        let issues = fhir::validate::check(&consent);
        assert!(issues.is_empty(), "{issues:?}");
        consent
    };
    let x = vec!["Organization/x".to_owned()];
    let deny_x = of(
        &Draft {
            actors: x.clone(),
            ..Draft::default()
        },
        NOW_MS - 10,
    );
    let day = 86_400_000;
    for (name, draft, of_x, of_y) in [
        ("deny all", Draft::default(), "", ""),
        (
            "deny X",
            Draft {
                actors: x.clone(),
                ..Draft::default()
            },
            "",
            "ohf",
        ),
        (
            "all but X",
            Draft {
                except: x.clone(),
                ..Draft::default()
            },
            "ohf",
            "",
        ),
        (
            "a class",
            Draft {
                classes: vec![ResourceType::Observation],
                ..Draft::default()
            },
            "hf",
            "hf",
        ),
        // What is in a file can't be told, so a denial by label may be about it.
        (
            "a label",
            Draft {
                labels: vec!["HIV".to_owned()],
                ..Draft::default()
            },
            "o",
            "o",
        ),
        (
            "an instance",
            Draft {
                instance: Some("Observation/o".to_owned()),
                ..Draft::default()
            },
            "hf",
            "hf",
        ),
        (
            "a purpose",
            Draft {
                purposes: vec![Purpose::Payment],
                ..Draft::default()
            },
            "ohf",
            "ohf",
        ),
        (
            "over",
            Draft {
                until: Some("2026-06-14".to_owned()),
                ..Draft::default()
            },
            "ohf",
            "ohf",
        ),
        (
            "to come",
            Draft {
                from: Some("2026-06-16".to_owned()),
                ..Draft::default()
            },
            "ohf",
            "ohf",
        ),
        (
            "now",
            Draft {
                from: Some("2026-06-15".to_owned()),
                until: Some("2026-06-15".to_owned()),
                ..Draft::default()
            },
            "",
            "",
        ),
        (
            "permit a label",
            Draft {
                permits: true,
                labels: vec!["HIV".to_owned()],
                ..Draft::default()
            },
            "ohf",
            "ohf",
        ),
        (
            "permit a class",
            Draft {
                permits: true,
                classes: vec![ResourceType::Observation],
                actors: x.clone(),
                ..Draft::default()
            },
            "ohf",
            "ohf",
        ),
    ] {
        let said = [of(&draft, NOW_MS - day)];
        assert_eq!(
            (
                seen(&said, "Organization/x").as_str(),
                seen(&said, "Organization/y").as_str()
            ),
            (of_x, of_y),
            "{name}"
        );
    }
    // A permit of a part gives back this part, and no other.
    let permit = Draft {
        permits: true,
        labels: vec!["HIV".to_owned()],
        actors: x,
        ..Draft::default()
    };
    let both = [deny_x, of(&permit, NOW_MS)];
    assert_eq!(seen(&both, "Organization/x"), "h");
    assert_eq!(seen(&both, "Organization/y"), "ohf");
    let wrong = [
        Draft {
            permits: true,
            except: vec!["Organization/x".to_owned()],
            ..Draft::default()
        },
        Draft {
            actors: vec!["Organization/x/_history/1".to_owned()],
            ..Draft::default()
        },
        Draft {
            instance: Some("Observations/o".to_owned()),
            ..Draft::default()
        },
        Draft {
            from: Some("2026".to_owned()),
            ..Draft::default()
        },
        Draft {
            from: Some("2026-06-16".to_owned()),
            until: Some("2026-06-15".to_owned()),
            ..Draft::default()
        },
    ];
    for draft in wrong {
        assert!(draft.consent("p", 0).is_err(), "{draft:?}");
    }
}

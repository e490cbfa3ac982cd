//! What a cohort must be: the same each time, in plausible bands, and right FHIR.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use synthetic::{
    Act, CLOSED_MAIL_DOMAIN, CohortOptions, What, behaviour, index_of, organisation_bundle,
    patient_bundle, planned_discharge_ms, record_number,
};

const NOW_MS: u64 = 1_793_000_000_000;
const DAY_MS: u64 = 86_400_000;

fn options(heart_failure_share: f64) -> CohortOptions {
    CohortOptions {
        seed: 7,
        now_ms: NOW_MS,
        heart_failure_share,
    }
}

fn resources(bundle: &Value) -> impl Iterator<Item = &Value> {
    bundle["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| &entry["resource"])
}

fn of_kind<'a>(bundle: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    resources(bundle).filter(move |resource| resource["resourceType"] == kind)
}

/// FNV-1a: any change of the bytes changes it.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn same_seed_same_bytes_and_another_seed_others() {
    let options = options(0.5);
    for index in [0, 1, 17, 5_000_000, u64::from(u32::MAX)] {
        assert_eq!(
            patient_bundle(&options, index).to_string(),
            patient_bundle(&options, index).to_string()
        );
        assert_eq!(
            behaviour(&options, index, NOW_MS),
            behaviour(&options, index, NOW_MS)
        );
        let other = CohortOptions {
            seed: 8,
            ..options.clone()
        };
        assert_ne!(
            patient_bundle(&options, index).to_string(),
            patient_bundle(&other, index).to_string()
        );
    }
}

#[test]
fn bytes_stay_the_same_from_one_program_to_the_next() {
    // A benchmark or a bug report names a seed; a change here makes it mean somebody else.
    let options = options(0.5);
    let digests: Vec<u64> = (0..8)
        .map(|index| digest(&patient_bundle(&options, index).to_string()))
        .collect();
    let all = digest(&format!("{digests:?} {:?}", behaviour(&options, 3, NOW_MS)));
    assert_eq!(
        all, EXPECTED_DIGEST,
        "the cohort of seed 7 changed; if that is meant, put this number in: {all}"
    );
}

const EXPECTED_DIGEST: u64 = 14_280_827_842_063_879_477;

#[test]
fn record_numbers_lead_back_to_their_index() {
    let options = options(0.5);
    for index in [0, 42, 99_999_999, 100_000_000, 5_000_000_000] {
        let number = record_number(&options, index);
        assert_eq!(index_of(&options, &number), Some(index), "{number}");
        let bundle = patient_bundle(&options, index);
        let patient = of_kind(&bundle, "Patient").next().expect("patient");
        assert_eq!(patient["identifier"][0]["value"], number.as_str());
    }
    for wrong in [
        "",
        "7",
        "00000007-",
        "00000008-00000001",
        "00000007-1",
        "00000007-00000001x",
    ] {
        assert_eq!(index_of(&options, wrong), None, "{wrong}");
    }
}

#[test]
fn every_reference_of_a_bundle_leads_somewhere() {
    let options = options(0.5);
    let organisation = organisation_bundle(&options);
    let fixed: HashSet<String> = organisation["entry"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| entry["request"]["url"].as_str().expect("url").to_owned())
        .collect();
    let mut seen = HashSet::new();
    for index in 0..300 {
        let bundle = patient_bundle(&options, index);
        let urls: HashSet<&str> = bundle["entry"]
            .as_array()
            .expect("entries")
            .iter()
            .filter_map(|entry| entry["fullUrl"].as_str())
            .collect();
        assert_eq!(
            urls.len(),
            bundle["entry"].as_array().expect("entries").len(),
            "patient {index} has an entry twice"
        );
        for url in &urls {
            assert!(
                seen.insert((*url).to_owned()),
                "{url} is also in another bundle"
            );
        }
        let mut references = Vec::new();
        collect_references(&bundle, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            assert!(
                urls.contains(reference) || fixed.contains(reference),
                "patient {index}: {reference} leads nowhere"
            );
        }
    }
}

fn collect_references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("reference").and_then(Value::as_str) {
                into.push(reference);
            }
            members
                .values()
                .for_each(|member| collect_references(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[test]
fn all_resources_are_valid_fhir() {
    let options = options(0.5);
    let mut kinds = BTreeMap::new();
    let bundles = (0..400)
        .map(|index| patient_bundle(&options, index))
        .chain([organisation_bundle(&options)]);
    for bundle in bundles {
        for resource in resources(&bundle) {
            *kinds
                .entry(resource["resourceType"].as_str().expect("type").to_owned())
                .or_insert(0) += 1;
            let resource = fhir::Resource::from_value(resource.clone()).expect("a resource");
            assert_eq!(
                fhir::validate::check(&resource),
                Vec::new(),
                "{:?}",
                resource.members()
            );
        }
        let whole = fhir::Resource::from_value(bundle).expect("a bundle");
        assert_eq!(fhir::validate::check(&whole), Vec::new());
    }
    for kind in [
        "Patient",
        "Consent",
        "Condition",
        "Encounter",
        "Observation",
        "MedicationRequest",
        "AllergyIntolerance",
        "Organization",
        "Practitioner",
        "Location",
    ] {
        assert!(kinds.contains_key(kind), "no {kind} among {kinds:?}");
    }
}

#[test]
fn nobody_can_be_reached() {
    let options = options(0.5);
    for index in 0..500 {
        let bundle = patient_bundle(&options, index);
        let patient = of_kind(&bundle, "Patient").next().expect("patient");
        for telecom in patient["telecom"].as_array().expect("telecom") {
            let value = telecom["value"].as_str().expect("value");
            match telecom["system"].as_str() {
                Some("email") => {
                    assert!(
                        ["@example.com", "@closed.example.com"]
                            .iter()
                            .any(|domain| value.ends_with(domain))
                            && value.is_ascii()
                            && !value.contains(' '),
                        "{value}"
                    );
                }
                Some("phone") => assert!(value.contains("-555-01"), "{value}"),
                other => panic!("telecom of kind {other:?}"),
            }
        }
    }
}

#[test]
fn ten_thousand_patients_lie_in_plausible_bands() {
    let options = options(0.4);
    let mut count: BTreeMap<&str, f64> = BTreeMap::new();
    let mut add = |what: &'static str, by: f64| *count.entry(what).or_default() += by;
    let mut emails = HashSet::new();
    for index in 0..10_000 {
        let bundle = patient_bundle(&options, index);
        let patient = of_kind(&bundle, "Patient").next().expect("patient");
        let age = age_years(patient["birthDate"].as_str().expect("birth date"));
        assert!((0..=100).contains(&age), "age {age}");
        let failure = planned_discharge_ms(&options, index).is_some();
        add("entries", resources(&bundle).count() as f64 / 10_000.0);
        add("female", f64::from(patient["gender"] == "female") / 100.0);
        let mail = patient["telecom"]
            .as_array()
            .expect("telecom")
            .iter()
            .find(|telecom| telecom["system"] == "email");
        add("with e-mail", f64::from(mail.is_some()) / 100.0);
        if let Some(mail) = mail {
            assert!(
                emails.insert(mail["value"].as_str().expect("address").to_owned()),
                "an address twice"
            );
            let closed = mail["value"]
                .as_str()
                .is_some_and(|address| address.ends_with(&format!("@{CLOSED_MAIL_DOMAIN}")));
            add("e-mail to a closed mailbox", f64::from(closed) / 100.0);
            add(
                "e-mail not wanted",
                f64::from(mail.get("extension").is_some()) / 100.0,
            );
        }
        add(
            "consent given",
            of_kind(&bundle, "Consent")
                .filter(|consent| consent["provision"]["type"] == "permit")
                .count() as f64
                / 100.0,
        );
        let inside = of_kind(&bundle, "Encounter")
            .filter(|met| met["status"] == "in-progress")
            .count();
        assert_eq!(inside, usize::from(failure), "patient {index}");
        let diagnosed =
            of_kind(&bundle, "Condition").any(|had| had["code"]["coding"][0]["code"] == "88805009");
        assert_eq!(diagnosed, failure, "patient {index}");
        if failure {
            add("heart failure", 0.01);
            add("age with heart failure", age as f64 / 4_000.0);
            assert!(
                of_kind(&bundle, "Observation")
                    .any(|seen| seen["code"]["coding"][0]["code"] == "33762-6")
            );
        } else {
            add("age of others", age as f64 / 6_000.0);
        }
        for had in of_kind(&bundle, "Condition") {
            let what = had["code"]["coding"][0]["code"].as_str().expect("code");
            assert!(
                !(what == "266569009" && patient["gender"] == "female"),
                "patient {index}: a woman with a prostate"
            );
            assert!(
                !(what == "64859006" && age < 55),
                "patient {index}: osteoporosis at {age}"
            );
        }
        for seen in of_kind(&bundle, "Observation")
            .filter(|seen| seen["code"]["coding"][0]["code"] == "29463-7")
        {
            let kg = seen["valueQuantity"]["value"].as_f64().expect("a number");
            let plausible = if age >= 18 { 33.0..190.0 } else { 3.0..110.0 };
            assert!(plausible.contains(&kg), "patient {index}: {kg} kg at {age}");
            let at = fhir::date::parse(seen["effectiveDateTime"].as_str().expect("time"))
                .expect("a time");
            assert!(
                at.start_ms <= i64::try_from(NOW_MS).expect("fits"),
                "histories end now"
            );
        }
    }
    let bands = [
        ("entries", 18.0..45.0),
        ("female", 46.0..53.0),
        ("with e-mail", 94.0..96.0),
        ("e-mail to a closed mailbox", 5.0..6.5),
        ("e-mail not wanted", 3.0..5.0),
        ("consent given", 93.0..95.0),
        ("heart failure", 38.5..41.5),
        ("age with heart failure", 72.0..78.0),
        ("age of others", 37.0..45.0),
    ];
    for (what, band) in bands {
        assert!(
            band.contains(&count[what]),
            "{what}: {} is not in {band:?}",
            count[what]
        );
    }
}

fn age_years(birth_date: &str) -> i64 {
    let born = fhir::date::parse(birth_date).expect("a date");
    (i64::try_from(NOW_MS).expect("fits") - born.start_ms)
        / (365 * DAY_MS as i64 + DAY_MS as i64 / 4)
}

#[test]
fn discharges_are_soon_and_after_now() {
    let options = options(1.0);
    let mut soon = 0;
    for index in 0..1_000 {
        let at_ms = planned_discharge_ms(&options, index).expect("an inpatient");
        assert!((NOW_MS..=NOW_MS + 10 * DAY_MS).contains(&at_ms));
        soon += usize::from(at_ms < NOW_MS + 3 * DAY_MS);
    }
    assert!(
        (600..750).contains(&soon),
        "{soon} of 1000 within three days"
    );
}

#[test]
fn behaviour_has_every_way_through_a_month_in_its_share() {
    let options = options(1.0);
    let discharge_ms = NOW_MS + 3 * 3_600_000;
    let mut share: BTreeMap<&str, f64> = BTreeMap::new();
    for index in 0..10_000 {
        let acts = behaviour(&options, index, discharge_ms);
        let mut add = |what: &'static str, when: bool| {
            *share.entry(what).or_default() += f64::from(when) / 10_000.0;
        };
        assert!(acts.is_sorted_by_key(|act| act.at_ms), "patient {index}");
        assert!(
            acts.iter()
                .all(|act| (discharge_ms..discharge_ms + 33 * DAY_MS).contains(&act.at_ms))
        );
        let end = acts
            .iter()
            .position(|act| matches!(act.what, What::Readmission | What::Death));
        assert!(
            end.is_none_or(|end| end == acts.len() - 1),
            "patient {index} acts after the end: {acts:?}"
        );
        let answer_ms = acts
            .iter()
            .find(|act| matches!(act.what, What::AnswerQuestionnaire { .. }))
            .map(|act| act.at_ms - discharge_ms);
        add(
            "answers in time",
            answer_ms.is_some_and(|ms| ms < 3 * DAY_MS),
        );
        add("answers late", answer_ms.is_some_and(|ms| ms >= 3 * DAY_MS));
        add(
            "weighs",
            acts.iter()
                .any(|act| matches!(act.what, What::Weight { .. })),
        );
        add("gains fluid", gains_fluid(&acts));
        add("books", acts.iter().any(|act| act.what == What::BookVisit));
        add(
            "answers the survey",
            acts.iter()
                .any(|act| matches!(act.what, What::AnswerSurvey { .. })),
        );
        add(
            "is readmitted",
            acts.iter().any(|act| act.what == What::Readmission),
        );
        add("dies", acts.iter().any(|act| act.what == What::Death));
        add(
            "withdraws",
            acts.iter().any(|act| act.what == What::WithdrawConsent),
        );
        // In good time for a visit on day 7 that is offered until noon of day 5.
        let books_ms = acts.iter().find(|act| act.what == What::BookVisit);
        assert!(
            books_ms
                .is_none_or(|act| (2 * DAY_MS..5 * DAY_MS).contains(&(act.at_ms - discharge_ms))),
            "patient {index} books when nothing is offered any more"
        );
        let withdrawn = acts
            .iter()
            .position(|act| act.what == What::WithdrawConsent);
        if let Some(withdrawn) = withdrawn {
            let later = &acts[withdrawn..];
            assert!(!later.iter().any(|act| matches!(
                act.what,
                What::AnswerQuestionnaire { .. } | What::AnswerSurvey { .. }
            )));
        }
    }
    let bands = [
        ("answers in time", 0.66..0.71),
        ("answers late", 0.13..0.17),
        ("weighs", 0.84..0.88),
        ("gains fluid", 0.085..0.115),
        ("books", 0.68..0.75),
        ("answers the survey", 0.42..0.52),
        ("is readmitted", 0.08..0.11),
        ("dies", 0.013..0.025),
        ("withdraws", 0.03..0.045),
    ];
    for (what, band) in bands {
        assert!(
            band.contains(&share[what]),
            "{what}: {} is not in {band:?}",
            share[what]
        );
    }
}

/// More than 2 kg above some reading of the three days before.
fn gains_fluid(acts: &[Act]) -> bool {
    let weights: Vec<(u64, f64)> = acts
        .iter()
        .filter_map(|act| match act.what {
            What::Weight { kg } => Some((act.at_ms, kg)),
            _ => None,
        })
        .collect();
    weights.iter().enumerate().any(|(place, (at_ms, kg))| {
        weights[..place].iter().any(|(earlier_ms, earlier_kg)| {
            at_ms - earlier_ms <= 3 * DAY_MS && kg - earlier_kg > 2.0
        })
    })
}

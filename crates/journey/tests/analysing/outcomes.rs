//! What came of patients by the rest of their record, and groups that the organisation names.

use super::{HEART, analysed, observes};
use crate::world::{DAY, HOUR, Mail, World, a_member, heart_failure};
use fhir::ResourceType;
use fhir::search::SearchQuery;
use journey::{Journeys, OutcomeOf, OutcomeReport, Report};
use serde_json::{Value, json};
use std::sync::Arc;
use trust::consent::Rules;
use trust::{Action, Purpose, Role, Trust, TrustOptions};

/// Of whom nobody has weighed anything in a year. Nothing in the journey asks for it.
const GAP: &str = "segments:
  unweighed:
    title: Not weighed in a year
    all:
      - has_no: Observation
        where: status = 'final' and code.coding.exists(code = '29463-7')
        dated: effective
        within: 12mo

entry:
";

fn of<'a>(report: &'a Report, of: &OutcomeOf) -> &'a OutcomeReport {
    let mut found = report.outcomes.iter().filter(|one| one.of == *of);
    found.next().unwrap()
}

/// A stay that was planned.
async fn elective(world: &World, patient: &str) {
    world
        .put(vec![json!({
            "resourceType": "Encounter", "id": world.mint(patient), "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "priority": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActPriority", "code": "EL"}]},
            "subject": {"reference": format!("Patient/{patient}")}, "period": {"start": world.instant()}
        })])
        .await;
    world.drain().await;
}

/// A stay that those who coordinate care are not shown.
async fn sealed(world: &World, patient: &str) {
    let label =
        json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"});
    world
        .put(vec![json!({
            "resourceType": "Encounter", "id": world.mint(patient), "status": "in-progress",
            "meta": {"security": [label]},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": format!("Patient/{patient}")}, "period": {"start": world.instant()}
        })])
        .await;
    world.drain().await;
}

/// A consent that denies the use of the record for operations, or something else.
async fn denies(world: &World, patient: &str, provision: Value) {
    world.clock.advance(1);
    world
        .put(vec![json!({
            "resourceType": "Consent", "id": world.mint(patient), "status": "active", "dateTime": world.instant(),
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "patient": {"reference": format!("Patient/{patient}")},
            "provision": provision
        })])
        .await;
    world.drain().await;
}

/// The notes of the audit that say what was analysed.
async fn analysed_by(world: &World) -> Vec<String> {
    let officer = a_member(Role::PrivacyOfficer);
    let whom = trust::Target::default();
    let decided = world
        .trust
        .decide(&officer, Purpose::Operations, Action::Audit, whom, "test");
    let permit = decided.await.unwrap();
    let parameters = [("_count".to_owned(), "1000".to_owned())];
    let query = SearchQuery::parse(ResourceType::AuditEvent, &parameters, false).unwrap();
    let page = world.trust.vault().search(&permit, &query, None).await;
    let rows = page.unwrap().rows.into_iter();
    let rows = rows.map(|row| row.resource.as_value().to_string());
    rows.filter(|row| row.contains("analysed, reading"))
        .collect()
}

/// Of each sort of patients so many that they are told of.
const MANY: usize = 11;

/// Eight sorts of patients, to whom something else has happened each.
#[tokio::test]
async fn what_came_of_patients_is_as_their_records_say() {
    let source = heart_failure().replace("entry:\n", GAP);
    let findings = journey::check(&source);
    assert!(
        findings.iter().all(|one| one.code != "J093"),
        "an analysis asks for what is missing: {findings:?}"
    );
    let world = World::with(Mail::Delivers, &source).await;
    let mut patients = Vec::new();
    for _ in 0..7 * MANY {
        let patient = world.patient().await;
        world.discharge(&patient, 2 * HOUR).await;
        patients.push(patient);
    }
    world.drain().await;
    let sorts: Vec<&[String]> = patients.chunks(MANY).collect();
    let [_, unplanned, planned, dead, unknown, unwilling, weighed] = sorts[..] else {
        panic!("seven sorts");
    };
    // The third day: some weigh themselves, which is what was missing.
    world.pass(3 * DAY).await;
    for patient in weighed {
        world.weight(patient, 82.0).await;
    }
    world.pass(2 * DAY).await;
    for patient in planned {
        elective(&world, patient).await;
    }
    world.pass(3 * DAY).await;
    for patient in dead {
        world.die(patient).await;
    }
    world.pass(2 * DAY).await;
    let operations =
        json!({"type": "deny", "purpose": [{"system": Purpose::SYSTEM, "code": "HOPERAT"}]});
    for (unplanned, (unknown, unwilling)) in unplanned.iter().zip(unknown.iter().zip(unwilling)) {
        world.admit(unplanned).await;
        sealed(&world, unknown).await;
        denies(&world, unwilling, operations.clone()).await;
    }
    // Of those who have just come home nobody knows yet.
    world.pass(25 * DAY).await;
    for _ in 0..MANY {
        let late = world.patient().await;
        world.discharge(&late, HOUR).await;
    }
    world.drain().await;

    let report = analysed(&world, HEART).await;
    let many = MANY as u64;
    assert_eq!(
        (report.cases, report.left_out, report.days),
        (7 * many, many, 30)
    );
    let times = |times: u64| Some(times * many);
    let stays = of(&report, &OutcomeOf::Readmission);
    assert_eq!(
        (stays.yes, stays.planned, stays.no, stays.died),
        (times(1), times(1), times(2), times(1))
    );
    assert_eq!(
        (stays.not_yet, stays.unknown, stays.measured),
        (times(1), times(1), times(4))
    );
    // Ten days and the two hours before the first of them, as a histogram has it.
    let half = stays.after_p50_ms.unwrap();
    assert!(half.abs_diff(10 * DAY + 2 * HOUR) * 50 < 10 * DAY, "{half}");
    let gap = of(&report, &OutcomeOf::Gap("unweighed".to_owned()));
    assert_eq!(gap.title, "Not weighed in a year");
    assert_eq!(
        (gap.yes, gap.no, gap.died, gap.not_yet),
        (times(1), times(4), times(1), times(1))
    );
    assert_eq!(
        (gap.left, gap.unknown, gap.measured),
        (Some(0), Some(0), times(5))
    );
    let half = gap.after_p50_ms.unwrap();
    assert!(half.abs_diff(3 * DAY) * 50 < 3 * DAY, "{half}");
    assert_eq!(report.outcomes.len(), 2);
    let text = report.text();
    for said in [
        "In hospital again after the discharge, within 30 days\n  unplanned: 11 of 44 (25.0 %)",
        "  11: planned\n  22: not in hospital\n  11: died before, apart\n  11: not observed for so long yet, apart\n  11: can't be told, apart\n",
        "Not weighed in a year, within 30 days\n  closed: 11 of 55 (20.0 %)",
    ] {
        assert!(text.contains(said), "{text}");
    }

    // In a week nobody was back yet but by a plan, and in two there were more.
    let permit = observes(&world).await;
    for (days, yes) in [(7, 0), (14, 1)] {
        let report = world.journeys.analyse(&permit, HEART, None, days).await;
        let report = report.unwrap();
        let stays = of(&report, &OutcomeOf::Readmission);
        assert_eq!(
            (stays.yes, stays.planned, report.days),
            (times(yes), times(1), days)
        );
    }
    for days in [0, 8, 31, 367] {
        let refused = world.journeys.analyse(&permit, HEART, None, days).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("for 7, 14, 30, 60, 90, 180, 365 days"),
            "{refused}"
        );
    }
    // Who looked, and at what. Nobody is shown, so nobody is named.
    let notes = analysed_by(&world).await;
    assert_eq!(notes.len(), 3, "{notes:?}");
    for note in notes {
        assert!(note.contains("version 1: analysed, reading Consent, Patient, Communication, Encounter, Observation of each patient"), "{note}");
        assert!(
            patients
                .iter()
                .all(|patient| !note.contains(patient.as_str()))
        );
    }
}

/// What a journey's file asks about for an analysis alone changes nobody's care. Whose consents keep that back are left
/// out of the analysis, and no other.
#[tokio::test]
async fn what_is_asked_for_the_analysis_alone_is_no_matter_of_care() {
    let gap = GAP
        .replace("Observation", "Immunization")
        .replace(" and code.coding.exists(code = '29463-7')", "")
        .replace("'final'", "'completed'")
        .replace("dated: effective", "dated: occurrence");
    let class = json!({"system": "http://hl7.org/fhir/resource-types", "code": "Immunization"});
    let mut told = Vec::new();
    for source in [heart_failure(), heart_failure().replace("entry:\n", &gap)] {
        let world = World::with(Mail::Delivers, &source).await;
        for _ in 0..2 {
            let patient = world.patient().await;
            if told.len() % 2 == 0 {
                denies(&world, &patient, json!({"type": "deny", "class": [class]})).await;
            }
            world.discharge(&patient, HOUR).await;
            told.push(patient);
        }
        world.drain().await;
        let report = analysed(&world, HEART).await;
        let counted = report.cases + report.left_out;
        assert_eq!((counted, report.running), (2, report.cases));
        let asks = source.contains("Immunization");
        assert_eq!(report.left_out, u64::from(asks));
    }
}

/// What a label, or a consent, keeps back from operations is in no bill, and it is said of how many journeys that is.
#[tokio::test]
async fn messages_that_are_kept_back_are_in_no_bill() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for _ in 0..2 {
        let patient = world.patient().await;
        world.discharge(&patient, HOUR).await;
        patients.push(patient);
    }
    world.drain().await;
    world.pass(2 * DAY).await;
    let messages = |report: &Report| -> (u64, u64) {
        let costs = report.costs.as_ref().unwrap();
        let messages = costs.rows.iter().map(|row| row.messages).sum();
        (messages, costs.kept_back)
    };
    let (all, kept_back) = messages(&analysed(&world, HEART).await);
    assert!(all > 0 && all % 2 == 0, "{all}");
    assert_eq!(kept_back, 0);
    let label =
        json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"});
    for mut message in world.of(&patients[0], ResourceType::Communication).await {
        message.set("meta", json!({"security": [label]}));
        world.put(vec![message.into_value()]).await;
    }
    world.drain().await;
    let report = analysed(&world, HEART).await;
    assert_eq!((report.cases, report.left_out), (2, 0));
    assert_eq!(messages(&report), (all / 2, 1));
    assert!(
        report
            .text()
            .contains("messages of 1 journey are kept back")
    );
}

/// Of whose record something is damaged nothing can be told; the others are told of.
#[tokio::test]
async fn one_damaged_record_is_not_told_and_breaks_no_analysis() {
    let world = World::new(Mail::Delivers).await;
    let mut patients = Vec::new();
    for _ in 0..2 * MANY {
        let patient = world.patient().await;
        world.discharge(&patient, HOUR).await;
        patients.push(patient);
    }
    world.drain().await;
    world.pass(31 * DAY).await;
    for patient in &patients[..MANY] {
        let kind = ResourceType::Patient;
        world.damage_resource(patient, kind, patient).await;
    }
    let report = analysed(&world, HEART).await;
    let stays = of(&report, &OutcomeOf::Readmission);
    let many = Some(MANY as u64);
    assert_eq!(
        (stays.unknown, stays.no, stays.measured),
        (many, many, many)
    );
    let sexes = report.splits.iter().find(|split| split.by == "sex");
    let rows: Vec<(&str, Option<u64>)> = (sexes.unwrap().rows.iter())
        .map(|row| (row.group.as_str(), row.cases))
        .collect();
    assert_eq!(rows, [("not known", Some(2 * MANY as u64))]);
}

/// Groups by how deprived a place is, where the rule pack says where that stands.
#[tokio::test]
async fn groups_by_deprivation_are_those_that_the_organisation_names() {
    let world = World::new(Mail::Delivers).await;
    let url = "https://hospital.example/fhir/deprivation";
    for number in 0..26 {
        let patient = world.patient().await;
        let mut person = world.read(ResourceType::Patient, &patient).await;
        let quintile = if number < 12 { 1 } else { 4 };
        let said = json!([{"url": url, "valueInteger": quintile}]);
        let (member, value) = if number % 2 == 0 {
            ("extension", said)
        } else {
            ("address", json!([{"city": "A", "extension": said}]))
        };
        // Of the last two it isn't known.
        if number < 24 {
            person.set(member, value);
            world.put(vec![person.into_value()]).await;
        }
        world.discharge(&patient, HOUR).await;
    }
    world.drain().await;
    let splits = |report: &Report| -> Value {
        let told = report
            .splits
            .iter()
            .filter(|split| split.by == "deprivation");
        let rows = told.flat_map(|split| &split.rows);
        rows.map(|row| json!([row.group, row.cases])).collect()
    };
    assert_eq!(
        splits(&analysed(&world, HEART).await),
        json!([]),
        "nobody has said where it stands"
    );

    let pack = format!(
        "name = \"ours\"\nextends = \"us-hipaa\"\n[deprivation]\nextension = \"{url}\"\ngroups = 5\nmost_deprived = \"lowest\"\n"
    );
    let trust = Trust::under(
        TrustOptions {
            ledger: world.trust.vault().ledger().clone(),
            wall_clock: Arc::new(world.clock.clone()),
            policy_folder: None,
            session_idle_s: 900,
            session_absolute_s: 43_200,
        },
        Rules::parse("ours.toml", &pack).unwrap(),
    );
    let journeys = Journeys::new(trust.unwrap());
    let permit = observes(&world).await;
    let report = journeys.analyse(&permit, HEART, None, 30).await.unwrap();
    // Two are few, and the smaller of the other groups could be made from them.
    assert_eq!(
        splits(&report),
        json!([["1 (most deprived)", null], ["4", 12], ["not known", null]])
    );
}

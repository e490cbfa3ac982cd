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

async fn denies(world: &World, patient: &str) {
    world.clock.advance(1);
    world
        .put(vec![json!({
            "resourceType": "Consent", "id": world.mint(patient), "status": "active", "dateTime": world.instant(),
            "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
            "patient": {"reference": format!("Patient/{patient}")},
            "provision": {"type": "deny", "purpose": [{"system": Purpose::SYSTEM, "code": "HOPERAT"}]}
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

/// Eight patients, of whom each has had something else.
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
    for _ in 0..7 {
        let patient = world.patient().await;
        world.discharge(&patient, 2 * HOUR).await;
        patients.push(patient);
    }
    world.drain().await;
    let [_, unplanned, planned, dead, unknown, unwilling, weighed] = &patients[..] else {
        panic!("seven patients");
    };
    // The third day: one weighs themselves, which is what was missing.
    world.pass(3 * DAY).await;
    world.weight(weighed, 82.0).await;
    world.pass(2 * DAY).await;
    elective(&world, planned).await;
    world.pass(3 * DAY).await;
    world.die(dead).await;
    world.pass(2 * DAY).await;
    world.admit(unplanned).await;
    sealed(&world, unknown).await;
    denies(&world, unwilling).await;
    // Of somebody who has just come home nobody knows yet.
    world.pass(25 * DAY).await;
    let late = world.patient().await;
    world.discharge(&late, HOUR).await;
    world.drain().await;

    let report = analysed(&world, HEART).await;
    assert_eq!((report.cases, report.left_out, report.days), (7, 1, 30));
    let stays = of(&report, &OutcomeOf::Readmission);
    assert_eq!(
        (stays.yes, stays.planned, stays.no, stays.died),
        (1, 1, 2, 1)
    );
    assert_eq!((stays.not_yet, stays.unknown, stays.measured()), (1, 1, 4));
    // Ten days and the two hours before the first of them, as a histogram has it.
    let half = stays.after.p50_ms.unwrap();
    assert!(half.abs_diff(10 * DAY + 2 * HOUR) * 50 < 10 * DAY, "{half}");
    let gap = of(&report, &OutcomeOf::Gap("unweighed".to_owned()));
    assert_eq!(gap.title, "Not weighed in a year");
    assert_eq!((gap.yes, gap.no, gap.died, gap.not_yet), (1, 4, 1, 1));
    assert_eq!((gap.left, gap.unknown, gap.measured()), (0, 0, 5));
    let half = gap.after.p50_ms.unwrap();
    assert!(half.abs_diff(3 * DAY) * 50 < 3 * DAY, "{half}");
    assert_eq!(report.outcomes.len(), 2);
    // Groups of so few are not told.
    let rows = stays.groups.iter().flat_map(|split| &split.rows);
    for row in rows {
        assert_eq!((row.measured, row.yes, row.percent), (None, None, None));
    }
    let text = report.text();
    for said in [
        "In hospital again after the discharge, within 30 days\n  unplanned: 1 of 4 (25.0 %)",
        "  1 planned\n  2 not in hospital\n  1 died before, apart\n  1 not observed for so long yet, apart\n  1 can't be told, apart\n",
        "Not weighed in a year, within 30 days\n  closed: 1 of 5 (20.0 %)",
    ] {
        assert!(text.contains(said), "{text}");
    }

    // In nine days nobody was back yet but by a plan, and in eleven there was one more.
    let permit = observes(&world).await;
    for (days, yes) in [(9, 0), (11, 1)] {
        let report = world.journeys.analyse(&permit, HEART, None, days).await;
        let report = report.unwrap();
        let stays = of(&report, &OutcomeOf::Readmission);
        assert_eq!((stays.yes, stays.planned, report.days), (yes, 1, days));
    }
    for days in [0, 367] {
        let refused = world.journeys.analyse(&permit, HEART, None, days).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("for 1 to 366 days"), "{refused}");
    }
    // Who looked, and at what. Nobody is shown, so nobody is named.
    let notes = analysed_by(&world).await;
    assert_eq!(notes.len(), 3, "{notes:?}");
    for note in notes {
        assert!(note.contains("version 1: analysed, reading Consent, Patient, Encounter, Observation of each patient"), "{note}");
        assert!(
            patients
                .iter()
                .all(|patient| !note.contains(patient.as_str()))
        );
    }
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

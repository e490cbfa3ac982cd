//! Who the demo's staff are in its hospital's directory, and the team that each of its own patients has. So what
//! they look at is explained, and what is not stands out.

use anyhow::Context;
use serde_json::{Value, json};
use trust::{Action, Purpose, Role, Target, Trust};

use super::setup::setter;
use super::state::Login;

fn practitioner(user_name: &str) -> String {
    format!("demo-{user_name}")
}

/// Those of the staff who work with patients.
fn working(logins: &[Login]) -> impl Iterator<Item = &Login> {
    let works = |login: &&Login| matches!(login.role, Role::Coordinator | Role::Clinician);
    logins.iter().filter(works)
}

/// Tells who those accounts are.
pub(super) async fn known(trust: &Trust, logins: &[Login]) -> anyhow::Result<()> {
    let identity = trust.identity();
    let permit = trust
        .decide(
            &setter(),
            Purpose::Operations,
            Action::Administer,
            Target::default(),
            "demo",
        )
        .await?;
    for login in working(logins) {
        let account = identity
            .account_named(&setter(), &login.user_name)
            .await?
            .with_context(|| format!("there is no account {}", login.user_name))?;
        let known_as = [format!("Practitioner/{}", practitioner(&login.user_name))];
        identity.set_known_as(&permit, &account, &known_as).await?;
    }
    Ok(())
}

fn entries(bundle: &mut Value) -> Option<&mut Vec<Value>> {
    bundle.get_mut("entry")?.as_array_mut()
}

/// The hospital's bundle with those of the staff.
pub(super) fn with_staff(mut hospital: Value, logins: &[Login]) -> Value {
    if let Some(entries) = entries(&mut hospital) {
        entries.extend(working(logins).map(|login| {
            let id = practitioner(&login.user_name);
            json!({
                "fullUrl": format!("urn:cairn:demo:{id}"),
                "resource": {
                    "resourceType": "Practitioner",
                    "id": id,
                    "active": true,
                    "name": [{ "text": login.name }]
                },
                "request": { "method": "PUT", "url": format!("Practitioner/{id}") }
            })
        }));
    }
    hospital
}

/// A patient's bundle with their team.
pub(super) fn with_team(mut bundle: Value, logins: &[Login]) -> Value {
    let Some(entries) = entries(&mut bundle) else {
        return bundle;
    };
    let patient = (entries.iter())
        .find(|entry| entry["resource"]["resourceType"] == "Patient")
        .map(|entry| entry["fullUrl"].clone());
    let participants: Vec<Value> = working(logins)
        .map(|login| {
            let reference = format!("Practitioner/{}", practitioner(&login.user_name));
            json!({ "member": { "reference": reference, "display": login.name } })
        })
        .collect();
    if let Some(Value::String(patient)) = patient {
        // One for each patient, and the same one when they are brought in again.
        let id = format!("team-{}", patient.rsplit(':').next().unwrap_or(&patient));
        entries.push(json!({
            "fullUrl": format!("urn:cairn:demo:{id}"),
            "resource": {
                "resourceType": "CareTeam",
                "id": id,
                "status": "active",
                "name": "Follow-up team",
                "subject": { "reference": patient },
                "participant": participants
            },
            "request": { "method": "PUT", "url": format!("CareTeam/{id}") }
        }));
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> Vec<Login> {
        let login = |user_name: &str, role| Login {
            user_name: user_name.to_owned(),
            name: user_name.to_owned(),
            role,
            password: String::new(),
            totp: String::new(),
        };
        vec![
            login("carla", Role::Coordinator),
            login("devi", Role::Clinician),
            login("ada", Role::Administrator),
        ]
    }

    #[test]
    fn each_patient_has_a_team_of_those_who_work_with_patients() {
        let options = synthetic::CohortOptions {
            seed: 1,
            now_ms: 1_772_366_400_000,
            heart_failure_share: 0.25,
        };
        let (bare, logins) = (synthetic::patient_bundle(&options, 0), logins());
        let bundle = with_team(bare.clone(), &logins);
        let of = |bundle: &Value| bundle["entry"].as_array().expect("entries").clone();
        let (before, after) = (of(&bare), of(&bundle));
        assert_eq!(after[..before.len()], before[..]);
        let [team] = &after[before.len()..] else {
            panic!("one more: {bundle}");
        };
        let patient = before
            .iter()
            .find(|one| one["resource"]["resourceType"] == "Patient")
            .expect("a patient");
        let team = &team["resource"];
        assert_eq!(team["subject"]["reference"], patient["fullUrl"]);
        let other = with_team(synthetic::patient_bundle(&options, 1), &logins);
        let other = of(&other).pop().expect("a team");
        assert_ne!(team["id"], other["resource"]["id"], "teams are told apart");
        let member = |at: usize| &team["participant"][at]["member"]["reference"];
        assert_eq!(*member(0), "Practitioner/demo-carla");
        assert_eq!(*member(1), "Practitioner/demo-devi");
        assert!(member(2).is_null(), "administrators see no records");
        let hospital = of(&with_staff(
            synthetic::organisation_bundle(&options),
            &logins,
        ));
        let ids = hospital
            .iter()
            .filter_map(|one| one["resource"]["id"].as_str());
        let ours: Vec<&str> = ids.filter(|id| id.starts_with("demo-")).collect();
        assert_eq!(ours, ["demo-carla", "demo-devi"]);
    }
}

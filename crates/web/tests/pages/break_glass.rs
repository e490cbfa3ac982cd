//! Emergency access elsewhere: in the record browser, in the queue of many, and what the form promises.

use axum::http::StatusCode;
use serde_json::json;
use trust::Agent;

use crate::emergency::{devi_s_agent, private_patient};
use crate::world::{TENANT, World, check_html};

const REASON: &str = "Unconscious, medicines unknown";

/// The id of a patient's only condition, as who sees all would find it.
async fn condition(world: &World, patient: &str) -> String {
    let found = world
        .all(fhir::ResourceType::Condition, &format!("Patient/{patient}"))
        .await;
    found[0].id().unwrap().to_owned()
}

// Proves: 45 CFR 164.312(a)(2)(ii), 164.522(a)(1)(iii)
#[tokio::test(flavor = "multi_thread")]
async fn the_record_browser_opens_with_it_for_that_patient_alone() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let olaf = private_patient(&world, "Olaf", "Scabies").await;
    let mona = private_patient(&world, "Mona", "Gout").await;
    let record = "/console/record";
    let mut devi = world.staff("devi").await;
    let conditions = [
        condition(&world, &ida).await,
        condition(&world, &olaf).await,
        condition(&world, &mona).await,
    ];
    let of = |id: &str| format!("{record}/Condition/{id}");
    for id in &conditions {
        assert_eq!(devi.get(&of(id)).await.status, StatusCode::NOT_FOUND);
    }
    let identity = world.trust.identity();
    let agent = devi_s_agent(&world).await;
    // To two of the three: which of them it is about has to be found out.
    for patient in [&ida, &olaf] {
        identity
            .break_glass(&agent, patient, REASON, "r")
            .await
            .unwrap();
    }
    for (id, illness) in conditions.iter().zip(["Syphilis", "Scabies"]) {
        let page = devi.get(&of(id)).await;
        check_html(&of(id), &page.body);
        page.shows(illness);
        page.shows("Emergency access");
        for below in ["?as=json", "/file", "/history", "/history/1"] {
            let path = format!("{}{below}", of(id));
            let page = devi.get(&path).await;
            assert!(page.status.is_success(), "{path}: {}", page.status);
        }
    }
    assert_eq!(
        devi.get(&of(&conditions[2])).await.status,
        StatusCode::NOT_FOUND
    );
    // A search that names a patient, and its further pages; one that names nobody opens nothing.
    world
        .put(vec![
            json!({"resourceType": "Condition", "id": world.id_of(&ida),
            "subject": {"reference": format!("Patient/{ida}")}, "code": {"text": "Asthma"}}),
        ])
        .await;
    let searched = async |devi: &mut crate::world::Browser, query: &str| {
        let fields = [("kind", "Condition"), ("query", query)];
        devi.act(record, record, &fields).await
    };
    let first = searched(&mut devi, &format!("patient={ida}&_count=1")).await;
    check_html(record, &first.body);
    first.shows("Asthma");
    first.shows("You see what is kept from you otherwise.");
    assert!(!first.has("Scabies"));
    let at = first
        .body
        .find("/console/record/Condition?cursor=")
        .unwrap();
    let next = first.body[at..]
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
    devi.get(&next).await.shows("Syphilis");
    searched(&mut devi, "").await.shows("Nothing found");
    searched(&mut devi, &format!("patient={mona}"))
        .await
        .shows("Nothing found");

    // It is in the audit under the access, and over when that is.
    let access = identity.emergency(&agent, &ida).await.unwrap().unwrap();
    let audit = world
        .all(fhir::ResourceType::AuditEvent, &format!("Patient/{ida}"))
        .await;
    let under = format!("urn:cairn:policy:emergency-access:{}", access.id);
    let read = audit.iter().find(|event| {
        let text = serde_json::to_string(event.members()).unwrap();
        text.contains(&under) && event.text_at(&["subtype", "0", "code"]) == Some("read")
    });
    let read = serde_json::to_string(read.expect("a read under the access").members()).unwrap();
    assert!(
        read.contains("\"emergency access\""),
        "what explains it: {read}"
    );
    identity
        .end_emergency(&agent, &access.id, "r")
        .await
        .unwrap();
    assert_eq!(
        devi.get(&of(&conditions[0])).await.status,
        StatusCode::NOT_FOUND
    );
    devi.get(&of(&conditions[1])).await.shows("Scabies");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_reviews_are_counted_and_shown_up_to_a_bound() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let identity = world.trust.identity();
    let agent = devi_s_agent(&world).await;
    let begin = async |from: usize, to: usize| {
        for number in from..to {
            let agent = Agent {
                id: format!("agent-{number}"),
                ..agent.clone()
            };
            identity
                .break_glass(&agent, &ida, REASON, "r")
                .await
                .unwrap();
        }
    };
    begin(0, 101).await;
    let queue = "/console/emergencies";
    let mut priya = world.staff("priya").await;
    let rows = |body: &str| body.matches("Emergency access of ").count();
    let first = priya.get(queue).await;
    check_html(queue, &first.body);
    first.shows("More than 100 reviews to do");
    first.shows("class=\"count\">101<");
    assert_eq!(rows(&first.body), 100);
    let older = first.body.split(&format!("{queue}?before=")).nth(1);
    let older = older.and_then(|rest| rest.split('"').next()).unwrap();
    let second = priya.get(&format!("{queue}?before={older}")).await;
    second.shows("1 review to do from this page back");
    assert_eq!(rows(&second.body), 1);
    begin(101, 501).await;
    let waiting = identity.emergencies_waiting(TENANT).await.unwrap();
    assert_eq!((waiting.open, waiting.more), (500, true));
    priya.get(queue).await.shows("class=\"count\">500+<");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_says_what_it_opens_and_what_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str, except: &str| {
        let file = folder.path().join(name);
        let text = format!(
            r#"
name = "labels"
emergency = ["clinician"]
[default]
permit = ["TREAT", "ETREAT", "CAREMGT", "HOPERAT", "PATRQT", "HSYSADMIN"]
permitted = "nothing says otherwise"
denied = "no consent"
[[labelled]]
label = "PSYTHPN"
roles = ["clinician"]
{except}
needs = "named"
denied = "counselling notes need a consent that names them"
"#
        );
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let note = |world: &World, patient: &str| {
        json!({"resourceType": "Condition", "id": world.id_of(patient), "subject": {"reference": format!("Patient/{patient}")},
            "code": {"text": "Grief"},
            "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]}})
    };
    // Without any consent, rows with a label are kept from clinicians, but in an emergency.
    let world = World::under(&pack("opens.toml", "except = [\"ETREAT\"]"), |_| {}).await;
    let ida = world.patient("Ida", "Berg").await;
    world.put(vec![note(&world, &ida)]).await;
    let page = format!("/console/patients/{ida}");
    let mut devi = world.staff("devi").await;
    let chart = devi.get(&page).await;
    assert!(!chart.has("Grief"));
    chart.shows("if there are any: entries of which it is said: counselling notes need a consent that names them");
    chart.shows("Emergency access");
    let form = format!("{page}/emergency");
    let asked = devi.get(&form).await;
    check_html(&form, &asked.body);
    asked.shows("entries of which it is said: counselling notes need a consent that names them");
    assert!(!asked.has("what this patient's consents keep") && !asked.has("stays hidden"));
    devi.act(&form, &form, &[("reason", REASON)]).await;
    devi.get(&page).await.shows("Grief");

    // Where an emergency opens nothing, the form says that.
    let world = World::under(&pack("keeps.toml", ""), |_| {}).await;
    let ida = world.patient("Ida", "Berg").await;
    world.put(vec![note(&world, &ida)]).await;
    let page = format!("/console/patients/{ida}");
    let mut devi = world.staff("devi").await;
    devi.get(&page)
        .await
        .shows("if there are any: entries of which it is said");
    let form = format!("{page}/emergency");
    let asked = devi.get(&form).await;
    asked.shows("It may open nothing");
    asked.shows("This stays hidden in an emergency, too");
    devi.act(&form, &form, &[("reason", REASON)]).await;
    assert!(!devi.get(&page).await.has("Grief"));
}

/// That nothing is recorded is said only to those from whom nothing is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_allergy_is_not_said_to_be_none() {
    const HIDDEN: &str = "Allergies with some labels are hidden from your role, if there are any";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("labels.toml");
    let text = r#"
name = "labels"
emergency = ["clinician"]
[default]
permit = ["TREAT", "ETREAT", "CAREMGT", "HOPERAT", "PATRQT", "HSYSADMIN"]
permitted = "nothing says otherwise"
denied = "no consent"
[[labelled]]
label = "PSYTHPN"
roles = ["clinician"]
except = ["ETREAT"]
needs = "named"
denied = "counselling notes need a consent that names them"
"#;
    std::fs::write(&file, text).unwrap();
    let world = World::under(&file.display().to_string(), |_| {}).await;
    let ida = world.patient("Ida", "Berg").await;
    let allergy = |name: &str, security: serde_json::Value| {
        json!({"resourceType": "AllergyIntolerance", "id": world.id_of(&ida),
            "patient": {"reference": format!("Patient/{ida}")}, "code": {"text": name},
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]},
            "meta": {"security": security}})
    };
    let label =
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSYTHPN"}]);
    world.put(vec![allergy("Lorazepam", label)]).await;
    let page = format!("/console/patients/{ida}");
    let mut devi = world.staff("devi").await;
    let chart = devi.get(&page).await;
    check_html(&page, &chart.body);
    chart.shows(HIDDEN);
    assert!(!chart.has("No allergies recorded") && !chart.has("Lorazepam"));
    // Those that are shown are not said to be all.
    world.put(vec![allergy("Penicillin", json!([]))]).await;
    let chart = devi.get(&page).await;
    chart.shows(HIDDEN);
    chart.shows("Allergies: Penicillin");
    let form = format!("{page}/emergency");
    devi.act(&form, &form, &[("reason", REASON)]).await;
    let chart = devi.get(&page).await;
    chart.shows("Lorazepam");
    assert!(!chart.has(HIDDEN));
    // Nothing is kept from coordinators under this pack.
    let olaf = world.patient("Olaf", "Berg").await;
    let mut carla = world.staff("carla").await;
    let chart = carla.get(&format!("/console/patients/{olaf}")).await;
    chart.shows("No allergies recorded");
}

//! The access explorer: decisions in words, by policies and by consents, without what they are about.

use axum::http::StatusCode;
use fhir::ResourceType;

use crate::emergency::private_patient;
use crate::world::{World, check_html};

const HERE: &str = "/console/access";

fn asked<'a>(role: &'a str, purpose: &'a str, kind: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("role", role),
        ("purpose", purpose),
        ("action", "read"),
        ("type", kind),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained_by_policies_and_consents_row_by_row() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let row = world.all(ResourceType::Condition, &ida).await[0]
        .id()
        .unwrap()
        .to_owned();
    let consent = world.all(ResourceType::Consent, &ida).await[0]
        .id()
        .unwrap()
        .to_owned();
    let mut priya = world.staff("priya").await;
    let page = priya.get(HERE).await;
    check_html(HERE, &page.body);
    page.shows("Policies in force");
    page.shows("built in");

    let no = priya
        .act(HERE, HERE, &asked("coordinator", "ETREAT", "Condition"))
        .await;
    no.shows("the role coordinator may not read Condition for ETREAT: no policy permits it");
    no.shows("TREAT, CAREMGT");
    let yes = priya
        .act(HERE, HERE, &asked("clinician", "TREAT", "Condition"))
        .await;
    yes.shows("clinician-looks-at-records");
    yes.shows("Clinicians look at records to treat");
    yes.shows("Permitted");

    // Of a row: which consent decides, and nothing of what is in it.
    let mut of_row = asked("clinician", "TREAT", "Condition");
    of_row.push(("id", &row));
    let hidden = priya.act(HERE, HERE, &of_row).await;
    check_html(HERE, &hidden.body);
    hidden.shows("Refused");
    hidden.shows("the patient's consent denies it");
    hidden.shows(&format!("/console/record/Consent/{consent}"));
    assert!(!hidden.has("Syphilis") && !hidden.has("Berg"));
    let mut emergency = asked("clinician", "ETREAT", "Condition");
    emergency.push(("id", &row));
    let open = priya.act(HERE, HERE, &emergency).await;
    open.shows("consents do not bind this role for this purpose");
    open.shows("needs an emergency access to the patient besides");
    // With an application's token it is what that lets be done, too.
    for (scopes, status) in [
        ("user/Patient.rs", "Refused"),
        ("user/Condition.rs", "Permitted"),
    ] {
        let mut narrowed = emergency.clone();
        narrowed.push(("scopes", scopes));
        let page = priya.act(HERE, HERE, &narrowed).await;
        let answer = page.body.split("id=\"answer\"").nth(1).unwrap();
        let head = answer.split("</h2>").next().unwrap();
        assert!(head.contains(status), "{scopes}: {head}");
    }
    let mut wrong = emergency.clone();
    wrong.push(("scopes", "everything"));
    let page = priya.act(HERE, HERE, &wrong).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let mut missing = asked("clinician", "TREAT", "Condition");
    missing.push(("id", "nothing"));
    let none = priya.act(HERE, HERE, &missing).await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);

    // Who asked about a patient's row is told to the patient; the row itself was shown to nobody.
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal/record")
        .await
        .shows("asked why somebody may or may not see an entry of your record");

    // Administrators ask about policies, and not about rows; others not at all.
    let mut ada = world.staff("ada").await;
    ada.act(HERE, HERE, &asked("squad", "HOPERAT", "Library"))
        .await
        .shows("squad-looks-at-directory");
    let in_part = ada
        .act(HERE, HERE, &asked("client", "HPAYMT", "Observation"))
        .await;
    in_part.shows("payment-clinical");
    in_part.shows("Annotation");
    let refused = ada.act(HERE, HERE, &of_row).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(!refused.has(&consent));
    for user in ["carla", "devi", "sam"] {
        let page = world.staff(user).await.get(HERE).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
    // What can't be asked says so.
    let mut wrong = asked("clinician", "TREAT", "Rock");
    let page = priya.act(HERE, HERE, &wrong).await;
    assert!(page.status == StatusCode::BAD_REQUEST && page.has("FHIR R4 has no such type"));
    wrong[2] = ("action", "audit");
    wrong[3] = ("type", "Task");
    let page = priya.act(HERE, HERE, &wrong).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
}

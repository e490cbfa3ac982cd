//! Emergency access: opened by a clinician for one patient and a time, told to privacy officers and to the
//! patient, and closed by a review.

use axum::http::StatusCode;
use fhir::ResourceType;
use ledger::{AuditDraft, Kind, Owner};
use serde_json::json;
use trust::{Action, Agent, Purpose, Role, Target, Trust, TrustOptions};

use crate::live::until;
use crate::world::{Browser, TENANT, World, check_html};

const REASON: &str = "Unconscious, medicines unknown";

/// A patient whose consent, which the hospital keeps to, denies everything clinical.
pub(crate) async fn private_patient(world: &World, given: &str, illness: &str) -> String {
    let id = world.patient(given, "Berg").await;
    let subject = json!({ "reference": format!("Patient/{id}") });
    world
        .put(vec![
            json!({"resourceType": "Consent", "id": world.id_of(&id), "status": "active",
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
                "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
                "dateTime": "2026-02-01", "patient": subject,
                "organization": [{"reference": "Organization/here"}], "provision": {"type": "deny"}}),
            json!({"resourceType": "Condition", "id": world.id_of(&id), "subject": subject,
                "code": {"text": illness}, "recordedDate": "2026-02-02"}),
        ])
        .await;
    id
}

pub(crate) async fn open(browser: &mut Browser, patient: &str) {
    let page = format!("/console/patients/{patient}");
    let form = format!("{page}/emergency");
    let done = browser.act(&form, &form, &[("reason", REASON)]).await;
    assert_eq!(done.location(), page, "{}", done.body);
}

// Proves: 45 CFR 164.312(a)(2)(ii), 164.308(a)(7)(ii)(C), 164.308(a)(6)(ii), 164.522(a)(1)(iii)
#[tokio::test(flavor = "multi_thread")]
async fn one_patient_s_record_opens_for_a_reason_and_everybody_concerned_is_told() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let olaf = private_patient(&world, "Olaf", "Scabies").await;
    let page = format!("/console/patients/{ida}");
    let form = format!("{page}/emergency");
    let mut devi = world.staff("devi").await;
    let hidden = devi.get(&page).await;
    hidden.shows("Emergency access");
    assert!(!hidden.has("Syphilis"));

    let asked = devi.get(&form).await;
    check_html(&form, &asked.body);
    asked.shows("of this patient alone, for 4 hours at most");
    asked.shows("what this patient's consents keep from clinicians");
    let mute = devi.act(&form, &form, &[("reason", "  hurry  ")]).await;
    assert_eq!(mute.status, StatusCode::BAD_REQUEST);
    assert!(
        mute.has("the reason needs 10 to 500 characters; this has 5"),
        "{}",
        mute.body
    );
    assert!(!devi.get(&page).await.has("Syphilis"));
    // It is for clinicians, and for records of which something is hidden.
    let mut carla = world.staff("carla").await;
    assert_eq!(carla.get(&form).await.status, StatusCode::FORBIDDEN);
    let csrf = carla.get("/console/worklist").await.field("csrf");
    let tried = carla
        .post(&form, &[("csrf", &csrf), ("reason", REASON)])
        .await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);
    let plain = world.patient("Ada", "Lie").await;
    let nothing = devi
        .get(&format!("/console/patients/{plain}/emergency"))
        .await;
    assert_eq!(nothing.status, StatusCode::BAD_REQUEST);

    open(&mut devi, &ida).await;
    let shown = devi.get(&page).await;
    shown.shows("Syphilis");
    shown.shows("End it now");
    check_html(&page, &shown.body);
    assert!(
        !devi
            .get(&format!("/console/patients/{olaf}"))
            .await
            .has("Scabies")
    );
    assert!(!carla.get(&page).await.has("Syphilis"));
    // Asking again makes no second one.
    let csrf = shown.field("csrf");
    let again = devi
        .post(&form, &[("csrf", &csrf), ("reason", REASON)])
        .await;
    assert_eq!(again.location(), page);

    let audit = world
        .all(ResourceType::AuditEvent, &format!("Patient/{ida}"))
        .await;
    let begun: Vec<_> = audit
        .iter()
        .filter(|event| event.text_at(&["subtype", "0", "code"]) == Some("110127"))
        .filter(|event| event.text_at(&["outcome"]) == Some("0"))
        .collect();
    assert_eq!(begun.len(), 1);
    let looked = audit.iter().find(|event| {
        let text = serde_json::to_string(event.members()).unwrap();
        text.contains("\"ETREAT\"")
            && text.contains("urn:cairn:policy:emergency-access:")
            && text.contains("search-type")
    });
    assert!(
        looked.is_some(),
        "what was looked at is not tied to the emergency access"
    );

    let mut priya = world.staff("priya").await;
    let queue = priya.get("/console/emergencies").await;
    check_html("/console/emergencies", &queue.body);
    queue.shows("Devi Rao");
    queue.shows(REASON);
    queue.shows("To review");
    priya
        .get("/console/audit")
        .await
        .shows("class=\"count\">1<");
    assert!(!queue.has("Syphilis") && !queue.has("Berg"));
    for user in ["devi", "carla", "sam", "ada"] {
        let page = world.staff(user).await.get("/console/emergencies").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
    let mut own = world.patients_browser(&ida).await;
    let told = own.get("/portal/record").await;
    told.shows("opened your record by emergency access");
    told.shows(REASON);
    let mut other = world.patients_browser(&olaf).await;
    assert!(!other.get("/portal/record").await.has("emergency"));
}

// Proves: 45 CFR 164.312(a)(2)(ii)
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_time_also_on_an_open_page_and_by_hand() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    world.trust.identity().limit_emergencies(60, 3600);
    let page = format!("/console/patients/{ida}");
    let mut devi = world.staff("devi").await;
    open(&mut devi, &ida).await;
    let shown = devi.get(&page).await;
    shown.shows("Syphilis");
    let live = shown.live();
    let mut body = devi.open(&live).await.into_body();
    // Something happens, so that the stream has shown the page under the access.
    world.task(&ida, "urgent", "Call her").await;
    until(&mut body, "Call her").await;
    world.wall.advance(61_000);
    // The open page goes on showing the record.
    let after = until(&mut body, "keeps entries from your role").await;
    let last = after.rfind("\"timeline\"").expect("the record's part");
    assert!(!after[last..].contains("Syphilis"));
    assert!(!devi.get(&page).await.has("Syphilis"));
    // A tab that was hidden when it ended is drawn anew when it is looked at, though nothing has happened since.
    let later = live.replace("after=", "after=999999999&was=");
    let mut body = devi.open(&later).await.into_body();
    let said = until(&mut body, "\"timeline\"").await;
    assert!(!said.contains("Syphilis"), "{said}");

    // By hand, by oneself, on whichever server.
    open(&mut devi, &ida).await;
    devi.get(&page).await.shows("Syphilis");
    let agent = devi_s_agent(&world).await;
    let other = Trust::new(TrustOptions {
        ledger: world.ledger().clone(),
        wall_clock: std::sync::Arc::new(world.wall.clone()),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 3600,
    })
    .unwrap();
    let access = other
        .identity()
        .emergency(&agent, &ida)
        .await
        .unwrap()
        .unwrap();
    let somebody = Agent {
        id: "somebody".to_owned(),
        ..agent.clone()
    };
    let refused = other
        .identity()
        .end_emergency(&somebody, &access.id, "r")
        .await;
    assert!(refused.is_err());
    other
        .identity()
        .end_emergency(&agent, &access.id, "r")
        .await
        .unwrap();
    assert!(!devi.get(&page).await.has("Syphilis"));
    open(&mut devi, &ida).await;
    let access = other
        .identity()
        .emergency(&agent, &ida)
        .await
        .unwrap()
        .unwrap();
    let end = format!("/console/emergencies/{}/end", access.id);
    assert_eq!(devi.act(&page, &end, &[]).await.location(), page);
    assert!(!devi.get(&page).await.has("Syphilis"));
}

pub(crate) async fn devi_s_agent(world: &World) -> Agent {
    let found = world
        .trust
        .identity()
        .account_named(&Agent::system(TENANT, "demo"), "devi")
        .await
        .unwrap();
    Agent {
        tenant: TENANT,
        id: found.unwrap(),
        name: "Devi Rao".to_owned(),
        role: Role::Clinician,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    }
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.308(a)(6)(ii)
#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_closed_once_with_words_and_can_end_the_access() {
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let page = format!("/console/patients/{ida}");
    let mut devi = world.staff("devi").await;
    open(&mut devi, &ida).await;
    let agent = devi_s_agent(&world).await;
    let identity = world.trust.identity();
    let access = identity.emergency(&agent, &ida).await.unwrap().unwrap();
    let review = format!("/console/emergencies/{}/review", access.id);
    let found = "She was awake and could have been asked";
    let mut priya = world.staff("priya").await;
    let queue = "/console/emergencies";
    for fields in [
        vec![("words", found)],
        vec![("outcome", "not-justified")],
        vec![("outcome", "perhaps"), ("words", found)],
    ] {
        let refused = priya.act(queue, &review, &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    let mut carla = world.staff("carla").await;
    let fields = [("outcome", "not-justified"), ("words", found)];
    let refused = carla.act("/console/worklist", &review, &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    devi.get(&page).await.shows("Syphilis");
    assert_eq!(
        identity.emergencies_waiting(TENANT).await.unwrap().overdue,
        0
    );

    let done = priya.act(queue, &review, &fields).await;
    assert_eq!(done.location(), "/console/emergencies?closed=yes");
    assert!(!devi.get(&page).await.has("Syphilis"));
    let closed = priya.get(queue).await;
    closed.shows("Nothing waits for a review.");
    closed.shows(found);
    closed.shows("Priya Shah");
    assert!(!closed.has("class=\"count\""));
    let again = priya.act(queue, &review, &fields).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.has("has been looked into already"), "{}", again.body);
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal/record")
        .await
        .shows("found it not justified: She was awake");

    // What nobody looks into counts as overdue.
    open(&mut devi, &ida).await;
    world.wall.advance(72 * 3_600_000);
    let waiting = identity.emergencies_waiting(TENANT).await.unwrap();
    assert_eq!((waiting.open, waiting.overdue), (1, 1));
    let mut priya = world.staff("priya").await;
    let late = priya.get(queue).await;
    late.shows("Overdue");
    late.shows("data-overdue=\"yes\"");
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn no_copy_of_the_words_outlives_the_patient_s_key() {
    const FOUND: &str = "She was awake and could have been asked";
    let world = World::new().await;
    let ida = private_patient(&world, "Ida", "Syphilis").await;
    let mut devi = world.staff("devi").await;
    open(&mut devi, &ida).await;
    let agent = devi_s_agent(&world).await;
    let identity = world.trust.identity();
    let access = identity.emergency(&agent, &ida).await.unwrap().unwrap();
    let review = format!("/console/emergencies/{}/review", access.id);
    let mut priya = world.staff("priya").await;
    let fields = [("outcome", "not-justified"), ("words", FOUND)];
    let done = priya.act("/console/emergencies", &review, &fields).await;
    assert_eq!(done.location(), "/console/emergencies?closed=yes");

    // The patient reads the words, which the audit hasn't got.
    let mut own = world.patients_browser(&ida).await;
    let told = own.get("/portal/record").await;
    told.shows(&format!("reason given: {REASON}"));
    told.shows(&format!("found it not justified: {FOUND}"));
    let mut audit = String::new();
    let mut proofs = 0;
    for event in world
        .all(ResourceType::AuditEvent, &format!("Patient/{ida}"))
        .await
    {
        let subtype = event.text_at(&["subtype", "0", "code"]);
        if matches!(subtype, Some("110127" | "emergency-review")) {
            let line = format!("/portal/record/{}", event.id().unwrap());
            let proof = own.get(&line).await;
            check_html(&line, &proof.body);
            proof.shows("not these words");
            assert!(proof.has(REASON) || proof.has(FOUND));
            proofs += 1;
        }
        audit.push_str(&serde_json::to_string(event.members()).unwrap());
    }
    assert_eq!(proofs, 2);
    assert!(!audit.contains(REASON) && !audit.contains(FOUND));
    assert!(audit.contains(&format!("not justified; access {}", access.id)));
    let page = priya.get("/console/audit").await;
    page.shows(&access.id);
    assert!(!page.has(REASON) && !page.has(FOUND));

    // Without the key the document can't be opened by anybody, and is listed nowhere.
    let ledger = world.ledger();
    let owner = Owner::Patient(ida.clone());
    let id = ledger.mint_id(TENANT, &owner);
    let record = AuditDraft {
        kind: Kind(ResourceType::AuditEvent.code()),
        shard: ledger.shard_of(TENANT, &owner, &id),
        body: format!("{{\"resourceType\":\"AuditEvent\",\"id\":\"{id}\"}}").into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
        id,
    };
    ledger
        .destroy_patient_key(TENANT, &ida, record)
        .await
        .unwrap();
    assert!(identity.emergency(&agent, &ida).await.unwrap().is_none());
    let officer = Agent {
        id: "officer".to_owned(),
        role: Role::PrivacyOfficer,
        ..agent
    };
    let permit = world
        .trust
        .decide(
            &officer,
            Purpose::Operations,
            Action::Audit,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    assert!(
        (identity.emergencies(&permit, None).await.unwrap())
            .rows
            .is_empty()
    );
    let patient = Agent {
        id: ida.clone(),
        role: Role::Patient,
        patient: Some(ida.clone()),
        ..officer
    };
    let target = Target {
        kind: Some(ResourceType::AuditEvent),
        patient: Some(ida.clone()),
    };
    let permit = world
        .trust
        .decide(
            &patient,
            Purpose::PatientRequest,
            Action::Search,
            target,
            "r",
        )
        .await
        .unwrap();
    let gone = identity.emergency_told(&permit, &access.id).await.unwrap();
    assert!(gone.is_none());
}

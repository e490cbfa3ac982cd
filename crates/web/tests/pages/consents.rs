//! Consents and what a change of them would change: for patients in the portal, for staff in the console. What is
//! told is what comes, also in a journey that runs and in a message that waits.

use axum::http::StatusCode;
use base64::Engine as _;
use fhir::{Resource, ResourceType};
use ledger::Clock;
use serde_json::{Value, json};
use trust::{Action, Agent, Purpose, Role, Target};

use crate::world::{Browser, Page, TENANT, World, check_html};

pub(crate) const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");
const TITLE: &str = "Heart failure follow-up after discharge";

/// A patient on a journey, of whom there are three prescriptions, a diagnosis and a bill; and another system
/// that is known as `Organization/x`.
pub(crate) async fn followed(world: &World) -> String {
    let mut sam = world.staff("sam").await;
    let form = "/console/journeys/publish";
    sam.act(form, form, &[("source", JOURNEY), ("do", "publish")])
        .await;
    let ida = world.patient("Ida", "Berg").await;
    let subject = json!({ "reference": format!("Patient/{ida}") });
    let mut rows = vec![
        json!({ "resourceType": "Encounter", "id": world.id_of(&ida), "status": "finished", "class": { "code": "IMP" }, "subject": subject, "period": { "start": "2026-02-20T10:00:00Z", "end": "2026-02-28T20:00:00Z" }, "reasonCode": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "84114007" }] }] }),
        json!({ "resourceType": "Condition", "id": world.id_of(&ida), "subject": subject, "code": { "text": "Syphilis" }, "recordedDate": "2026-02-02" }),
        json!({ "resourceType": "Claim", "id": world.id_of(&ida), "status": "active", "use": "claim", "patient": subject, "created": "2026-02-02" }),
    ];
    for _ in 0..3 {
        rows.push(json!({ "resourceType": "MedicationRequest", "id": world.id_of(&ida), "status": "active", "intent": "order", "subject": subject, "medicationCodeableConcept": { "text": "Benzathine" } }));
    }
    world.put(rows).await;
    drain(world).await;
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "command-line");
    let token = identity
        .create_client(&operator, "Pharmacy X", Role::Client)
        .await
        .unwrap();
    let id = identity.bearer(&token).await.unwrap().id;
    let permit = world
        .trust
        .decide(
            &operator,
            Purpose::Administration,
            Action::Administer,
            Target::default(),
            "test",
        )
        .await
        .unwrap();
    identity
        .set_known_as(&permit, &id, &["Organization/x".to_owned()])
        .await
        .unwrap();
    ida
}

pub(crate) async fn drain(world: &World) {
    while world.journeys.drain(TENANT).await.unwrap() > 0 {}
}

async fn consents(world: &World, patient: &str) -> Vec<Resource> {
    world.all(ResourceType::Consent, patient).await
}

async fn ended(world: &World, patient: &str) -> bool {
    let demo = Agent::system(TENANT, "demo");
    let permit = world
        .trust
        .decide(
            &demo,
            Purpose::Operations,
            Action::Observe,
            Target::default(),
            "test",
        )
        .await
        .unwrap();
    let journeys = world.journeys.of_patient(&permit, patient).await.unwrap();
    assert_eq!(journeys.len(), 1);
    journeys[0].ended.is_some()
}

/// Drafts a change on a page, looks at what is told, and makes it.
async fn made(browser: &mut Browser, page: &str, fields: &[(&str, &str)]) -> Page {
    let told = browser.act(page, page, fields).await;
    told.shows("Make this change");
    check_html("what would change", &told.body);
    // What is taken back is the version that was looked at.
    let version = (told.body.split_once(r#"name="version" value=""#))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(version, _)| version.to_owned());
    let mut fields = fields.to_vec();
    if let Some(version) = &version {
        let unseen = browser.act(page, &format!("{page}/make"), &fields).await;
        assert_eq!(unseen.status, StatusCode::BAD_REQUEST);
        fields.push(("version", version));
        let done = browser.act(page, &format!("{page}/make"), &fields).await;
        assert_eq!(done.location(), format!("{page}?made=yes"), "{}", done.body);
        return told;
    }
    // A form of no page makes nothing; one that is sent twice makes one consent.
    let unseen = browser.act(page, &format!("{page}/make"), &fields).await;
    assert_eq!(unseen.status, StatusCode::BAD_REQUEST);
    let form = told.field("form");
    fields.push(("form", &form));
    for _ in 0..2 {
        let done = browser.act(page, &format!("{page}/make"), &fields).await;
        assert_eq!(done.location(), format!("{page}?made=yes"), "{}", done.body);
    }
    told
}

// Proves: 45 CFR 164.522(a)(1)(i), 164.522(a)(2)
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_sees_what_would_change_and_then_it_does() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let olaf = world.patient("Olaf", "Lie").await;
    let page = "/portal/choices";
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal/consent").await.shows("Your choices");
    let form = own.get(page).await;
    form.shows("Pharmacy X");
    form.shows("Nothing is said");
    form.shows("Benzathine");
    form.shows("It binds clinicians only where the organisation has agreed to keep to it.");
    check_html(page, &form.body);

    let of_pharmacy = [
        ("do", "new"),
        ("type", "deny"),
        ("actor", "Organization/x"),
        ("kind", "medications"),
    ];
    let told = own.act(page, page, &of_pharmacy).await;
    told.shows("Pharmacy X may not see prescriptions, medications");
    told.shows("<span class=\"strong\">Pharmacy X</span> (another system)");
    told.shows("would no longer see 3 prescriptions");
    assert!(!told.has(TITLE), "{}", told.body);
    assert!(
        consents(&world, &ida).await.is_empty(),
        "a draft is no change"
    );
    made(&mut own, page, &of_pharmacy).await;
    let said = consents(&world, &ida).await;
    assert_eq!(said.len(), 1);
    assert!(fhir::validate::check(&said[0]).is_empty());
    assert_eq!(
        said[0].text_at(&["performer", "0", "reference"]),
        Some(&*format!("Patient/{ida}"))
    );
    own.get(page).await.shows("In force");
    drain(&world).await;
    assert!(
        !ended(&world, &ida).await,
        "prescriptions are no matter of it"
    );

    // A denial of all stops the journey, and the message that waits.
    let all = [("do", "new"), ("type", "deny")];
    let waiting = async || {
        let all = world.all(ResourceType::Communication, &ida).await;
        let waits = |one: &&Resource| one.text_at(&["status"]) == Some("preparation");
        all.iter().filter(waits).count()
    };
    assert_eq!(waiting().await, 1);
    let told = own.act(page, page, &all).await;
    told.shows(&format!(
        "<span class=\"strong\">{TITLE}</span> would stop."
    ));
    told.shows("1 message would not go:");
    told.shows("<li>Welcome home</li>");
    told.shows("Care coordinators");
    assert!(
        !told.has("Clinicians</span>"),
        "they have not agreed: {}",
        told.body
    );
    assert!(!ended(&world, &ida).await);
    made(&mut own, page, &all).await;
    drain(&world).await;
    assert!(ended(&world, &ida).await);
    assert_eq!(waiting().await, 0, "what waited is called off");

    // Taken back, more is seen again.
    let newest = consents(&world, &ida)
        .await
        .into_iter()
        .find(|consent| consent.at(&["provision", "actor"]).is_none())
        .unwrap();
    let id = newest.id().unwrap().to_owned();
    let back = [("do", "withdraw"), ("consent", id.as_str())];
    let told = made(&mut own, page, &back).await;
    told.shows("would newly see");
    assert_eq!(
        world
            .get(ResourceType::Consent, &id)
            .await
            .text_at(&["status"]),
        Some("inactive")
    );
    let again = own.act(page, &format!("{page}/make"), &back).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);

    // Patients draft what patients may.
    for (name, value) in [
        ("agreed", "yes"),
        ("actor", "Practitioner/anybody"),
        ("kind", "secrets"),
        ("label", "SECRET"),
        ("purpose", "PATRQT"),
        ("from", "tomorrow"),
        ("entry", "nothing"),
    ] {
        for path in [page.to_owned(), format!("{page}/make")] {
            let tried = own
                .act(
                    page,
                    &path,
                    &[("do", "new"), ("type", "deny"), (name, value)],
                )
                .await;
            assert_eq!(
                tried.status,
                StatusCode::BAD_REQUEST,
                "{name}: {}",
                tried.body
            );
        }
    }
    let mut other = world.patients_browser(&olaf).await;
    for path in [page.to_owned(), format!("{page}/make")] {
        let tried = other.act(page, &path, &back).await;
        assert!(!tried.status.is_success() && tried.location().is_empty());
    }
    assert_eq!(consents(&world, &ida).await.len(), 2);
}

// Proves: 45 CFR 164.522(a)(1)(i)
#[tokio::test(flavor = "multi_thread")]
async fn clinicians_make_changes_and_others_see_what_they_may() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let page = format!("/console/patients/{ida}/consents");
    let mut devi = world.staff("devi").await;
    devi.get(&format!("/console/patients/{ida}"))
        .await
        .shows(&page);
    let form = devi.get(&page).await;
    form.shows("agrees to keep to it");
    check_html(&page, &form.body);
    let diagnoses = [
        ("do", "new"),
        ("type", "deny"),
        ("kind", "diagnoses"),
        ("agreed", "yes"),
    ];
    let told = made(&mut devi, &page, &diagnoses).await;
    told.shows("<span class=\"strong\">Clinicians</span>");
    told.shows("would no longer see 1 diagnosis");
    // The journey goes by diagnoses, too.
    told.shows(&format!(
        "<span class=\"strong\">{TITLE}</span> would stop."
    ));
    let chart = devi.get(&format!("/console/patients/{ida}")).await;
    assert!(!chart.has("Syphilis"));
    devi.get(&page)
        .await
        .shows("Cairn's has agreed to keep to this.");
    let id = consents(&world, &ida).await[0].id().unwrap().to_owned();

    // From a day on, it is told for that day.
    let later = [("do", "new"), ("type", "deny"), ("from", "2026-04-01")];
    let told = devi.act(&page, &page, &later).await;
    told.shows("This is how it would be from Wed 1 Apr 2026");
    told.shows("would no longer see");
    // Bills are none of a clinician's business, so they aren't counted for one.
    assert!(!told.has("1 bill"), "{}", told.body);

    let mut carla = world.staff("carla").await;
    carla.get(&page).await.shows("Show what would change");
    let told = carla
        .act(&page, &page, &[("do", "new"), ("type", "deny")])
        .await;
    told.shows("A clinician can make this change");
    let tried = carla
        .act(
            &page,
            &format!("{page}/make"),
            &[("do", "withdraw"), ("consent", &id)],
        )
        .await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);

    let mut priya = world.staff("priya").await;
    let seen = priya.get(&page).await;
    seen.shows("Nobody may see diagnoses");
    assert!(!seen.has("Show what would change") && !seen.has("Syphilis"));
    for path in [page.clone(), format!("{page}/make")] {
        let tried = priya
            .act(&page, &path, &[("do", "new"), ("type", "deny")])
            .await;
        assert_eq!(tried.status, StatusCode::FORBIDDEN, "{path}");
    }
    for user in ["sam", "ada"] {
        let page = world.staff(user).await.get(&page).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{user}");
    }
    let nobody = format!("/console/patients/{}/consents", world.new_patient_id());
    assert_eq!(devi.get(&nobody).await.status, StatusCode::NOT_FOUND);
    let mut own = world.patients_browser(&ida).await;
    assert_eq!(own.get(&page).await.status, StatusCode::FORBIDDEN);
    assert_eq!(consents(&world, &ida).await.len(), 1);

    // Looking at what would change is a look at the record.
    let audit = world
        .all(ResourceType::AuditEvent, &format!("Patient/{ida}"))
        .await;
    let told = audit.iter().filter(|event| {
        let entities = event.get("entity").and_then(Value::as_array);
        entities.into_iter().flatten().any(|entity| {
            let query = entity["query"].as_str().unwrap_or_default();
            let query = base64::engine::general_purpose::STANDARD.decode(query);
            query.is_ok_and(|query| String::from_utf8_lossy(&query).contains("Consent/$what-if"))
        })
    });
    assert_eq!(
        told.count(),
        3,
        "two of the clinician, one of the coordinator"
    );
}

/// Staff who widen what a patient has said state that the patient asked, and how.
// Proves: 45 CFR 164.522(a)(2), 164.522(a)(3)
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_back_a_no_states_that_the_patient_asked() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let page = format!("/console/patients/{ida}/consents");
    let make = format!("{page}/make");
    let mut devi = world.staff("devi").await;
    let denied = [("do", "new"), ("type", "deny"), ("agreed", "yes")];
    let told = made(&mut devi, &page, &denied).await;
    assert!(!told.has("The patient asked for this"));
    let id = consents(&world, &ida).await[0].id().unwrap().to_owned();
    let back = [
        ("do", "withdraw"),
        ("consent", id.as_str()),
        ("version", "1"),
    ];
    let told = devi.act(&page, &page, &back).await;
    told.shows("The patient asked for this");
    check_html(&page, &told.body);
    let said = "Rang on Monday, wants her doctor to see all";
    for (asked, words) in [
        ("", said),
        ("telepathy", said),
        ("telephone", "yes"),
        ("telephone", ""),
    ] {
        let mut fields = back.to_vec();
        fields.extend([("asked", asked), ("said", words)]);
        let refused = devi.act(&page, &make, &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{asked} {words}");
    }
    assert!(world.all(ResourceType::Provenance, &ida).await.is_empty());
    let mut fields = back.to_vec();
    fields.extend([("asked", "telephone"), ("said", said)]);
    let done = devi.act(&page, &make, &fields).await;
    assert_eq!(done.location(), format!("{page}?made=yes"), "{}", done.body);
    let provenance = world.all(ResourceType::Provenance, &ida).await;
    assert_eq!(provenance.len(), 1);
    // It stands beside the consent, for staff and for the patient.
    let beside = devi.get(&page).await;
    beside.shows(&format!("The patient asked for this. By telephone: {said}"));
    beside.shows("Written down by Devi Rao");
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal/choices").await.shows(&format!(
        "You asked for this, as we wrote it down. By telephone: {said}"
    ));
    let text = |path: &[&str]| provenance[0].text_at(path).unwrap_or_default().to_owned();
    assert_eq!(
        text(&["target", "0", "reference"]),
        format!("Consent/{id}/_history/2")
    );
    assert_eq!(
        text(&["agent", "0", "onBehalfOf", "reference"]),
        format!("Patient/{ida}")
    );
    assert_eq!(
        text(&["reason", "0", "text"]),
        format!("By telephone: {said}")
    );
    assert!(fhir::validate::check(&provenance[0]).is_empty());
    let events = world.all(ResourceType::AuditEvent, &ida).await;
    let notes = || {
        events
            .iter()
            .filter_map(|event| event.text_at(&["outcomeDesc"]))
    };
    assert!(
        notes().any(
            |note| note == "a consent was taken back on a page; the patient asked by telephone"
        )
    );
    assert!(notes().all(|note| !note.contains("Monday")));
    // A new "yes" by staff is the patient's word, too.
    let permit = [
        ("do", "new"),
        ("type", "permit"),
        ("actor", "Organization/x"),
    ];
    devi.act(&page, &page, &permit)
        .await
        .shows("The patient asked for this");
    // What the patient says by themselves, nobody has to state.
    let mut own = world.patients_browser(&ida).await;
    let told = own.act("/portal/choices", "/portal/choices", &permit).await;
    assert!(!told.has("The patient asked for this"));
}

/// Whoever may write a `Provenance` makes nothing appear as what staff wrote down here.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_s_provenance_stands_beside_a_consent() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let page = format!("/console/patients/{ida}/consents");
    let mut devi = world.staff("devi").await;
    let denied = [("do", "new"), ("type", "deny"), ("agreed", "yes")];
    made(&mut devi, &page, &denied).await;
    let id = consents(&world, &ida).await[0].id().unwrap().to_owned();
    let said = "Rang on Monday, wants her doctor to see all";
    let fields = [
        ("do", "withdraw"),
        ("consent", id.as_str()),
        ("version", "1"),
        ("asked", "telephone"),
        ("said", said),
    ];
    let done = devi.act(&page, &format!("{page}/make"), &fields).await;
    assert_eq!(done.location(), format!("{page}?made=yes"), "{}", done.body);
    let ours = world.all(ResourceType::Provenance, &ida).await.remove(0);
    let value = Value::Object(ours.members().clone());
    let forged = |target: Value| {
        let mut forged = value.clone();
        forged["id"] = world.id_of(&ida).into();
        forged["meta"] = json!({});
        forged["target"] = target;
        forged["reason"][0]["text"] = "In person: Forged words of somebody".into();
        forged
    };
    let own = json!({"reference": format!("Patient/{ida}")});
    let version = |number: u32| json!({"reference": format!("Consent/{id}/_history/{number}")});
    let plain = json!({"reference": format!("Consent/{id}")});
    world
        .put(vec![
            forged(json!([version(2), own])),
            forged(json!([version(1), own])),
            forged(json!([plain, own])),
            forged(json!([own, version(2)])),
        ])
        .await;
    let mut patient = world.patients_browser(&ida).await;
    let shown = [devi.get(&page).await, patient.get("/portal/choices").await];
    for page in shown {
        page.shows(said);
        assert_eq!(page.body.matches("Written down by").count(), 1);
        assert!(!page.has("Forged"));
    }
    // Nor does a change of the statement that was made here, whose id it keeps.
    let mut changed = forged(json!([version(2), own]));
    changed["id"] = ours.id().unwrap().into();
    world.change(changed, 1).await;
    let shown = [devi.get(&page).await, patient.get("/portal/choices").await];
    for page in shown {
        assert!(!page.has("Written down by") && !page.has("Forged"));
    }
}

/// A word that was said on the portal's page of permissions and sent twice is one, and a later one is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_sent_twice_is_one() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let page = "/portal/consent";
    let form = own.get(page).await.field("form");
    let no = [("do", "withdraw"), ("form", form.as_str())];
    for _ in 0..2 {
        let done = own.act(page, page, &no).await;
        assert_eq!(
            done.location(),
            "/portal/consent?said=withdrawn",
            "{}",
            done.body
        );
    }
    assert_eq!(consents(&world, &ida).await.len(), 1);
    world.clock.advance(1_000);
    let form = own.get(page).await.field("form");
    own.act(page, page, &[("do", "give"), ("form", &form)])
        .await;
    own.get(page).await.shows("You said yes");
    // A page that was left open says "no" again: it counts.
    world.clock.advance(1_000);
    own.act(page, page, &no).await;
    own.get(page).await.shows("You said no");
    assert_eq!(consents(&world, &ida).await.len(), 3);
}

/// A denial that begins later stops a journey, and calls off its messages, on that day.
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_begins_later_stops_a_journey_on_its_day() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let mut own = world.patients_browser(&ida).await;
    let later = [("do", "new"), ("type", "deny"), ("from", "2026-03-02")];
    made(&mut own, "/portal/choices", &later).await;
    drain(&world).await;
    assert!(!ended(&world, &ida).await);
    // One millisecond before midnight, by UTC as consents are read.
    world
        .clock
        .advance(16 * 3_600_000 - 1 - (world.clock.now_ms() - crate::world::START_MS));
    drain(&world).await;
    assert!(!ended(&world, &ida).await);
    world.clock.advance(1);
    drain(&world).await;
    assert!(ended(&world, &ida).await);
    let waits = |one: &Resource| one.text_at(&["status"]) == Some("preparation");
    assert!(
        !world
            .all(ResourceType::Communication, &ida)
            .await
            .iter()
            .any(waits)
    );
}

/// The form for what was paid in full says what the law has, for patients and staff alike.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_in_full_is_kept_from_the_payer_by_a_form_of_its_own() {
    let world = World::new().await;
    let ida = followed(&world).await;
    let page = "/portal/choices";
    let mut own = world.patients_browser(&ida).await;
    let shown = own.get(page).await;
    shown.shows("Paid in full: keep it from the payer");
    let (_, form) = shown.body.split_once("id=\"paid\"").expect("the form");
    let (form, _) = form.split_once("</form>").expect("its end");
    // What is sent is what the form has, and nothing that this test knows better.
    let mut fields = Vec::new();
    for part in form.split("<input type=\"hidden\" ").skip(1) {
        let value = |name: &str| {
            let (_, rest) = part.split_once(&format!("{name}=\"")).expect("a part");
            rest.split_once('"').expect("an end").0
        };
        fields.push((value("name"), value("value")));
    }
    fields.retain(|(name, _)| *name != "csrf");
    let (_, visit) = form.split_once("value=\"Encounter/").expect("a visit");
    let visit = format!("Encounter/{}", visit.split_once('"').expect("an end").0);
    assert!(form.contains("value=\"Organization/x\""));
    assert!(!form.contains("value=\"Claim/"), "visits alone");
    fields.extend([("actor", "Organization/x"), ("entry", visit.as_str())]);
    made(&mut own, page, &fields).await;
    let found = consents(&world, &ida).await;
    let said = found.iter().find_map(|consent| {
        let provision = consent.as_value().get("provision")?;
        provision.get("data").map(|_| provision.clone())
    });
    let said = said.expect("what was said");
    assert_eq!(said["type"], "deny");
    assert_eq!(said["data"][0]["meaning"], "related");
    assert_eq!(said["data"][0]["reference"]["reference"], visit.as_str());
    assert_eq!(said["actor"][0]["reference"]["reference"], "Organization/x");
    let purposes: Vec<_> = said["purpose"].as_array().into_iter().flatten().collect();
    assert_eq!(purposes.len(), 2, "{said}");
    assert!(
        purposes
            .iter()
            .all(|one| ["HPAYMT", "HOPERAT"].contains(&one["code"].as_str().unwrap_or_default()))
    );
    let mut devi = world.staff("devi").await;
    let staffs = devi.get(&format!("/console/patients/{ida}/consents")).await;
    staffs.shows("Paid in full: keep it from the payer");
    check_html("consents", &staffs.body);
}

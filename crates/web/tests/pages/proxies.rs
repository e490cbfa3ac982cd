//! Who acts for a patient: named by staff, signed in by a link to their own address, shown what is theirs to see,
//! ended by a word, a day or a birthday.

use axum::http::StatusCode;
use fhir::ResourceType;
use ledger::Clock;
use serde_json::{Value, json};
use trust::Agent;
use trust::consent::Basis;
use trust::identity::NewProxy;
use trust::outgoing::{CHANNEL_EMAIL, Message};

use crate::world::{Browser, DAY_MS, TENANT, World, check_html};

const BORN: &str = "1984-05-06";
const PROOF: &str = "Birth certificate, seen at the desk";

/// A child with a task, a visit and a message, born on a day.
async fn child(world: &World, given: &str, birth_date: &str) -> String {
    let id = world.new_patient_id();
    let subject = json!({ "reference": format!("Patient/{id}") });
    let security = json!({ "security": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N" }] });
    world
        .put(vec![json!({
            "resourceType": "Patient", "id": id, "birthDate": birth_date,
            "name": [{ "given": [given], "family": "Berg" }],
            "telecom": [{ "system": "phone", "value": "+1 555 0199" }],
            "address": [{ "line": ["7 Hidden Lane"] }],
        })])
        .await;
    let message = |words: &str| json!({ "resourceType": "Communication", "id": world.id_of(&id), "status": "completed", "subject": subject, "sent": "2026-02-28T10:00:00Z", "topic": { "text": words }, "payload": [{ "contentString": words }] });
    let visit = |words: &str| json!({ "resourceType": "Appointment", "id": world.id_of(&id), "status": "proposed", "description": words, "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z", "participant": [{ "actor": subject, "status": "needs-action" }] });
    let mut marked = visit("Marked visit");
    marked["meta"] = security.clone();
    let mut sexual = visit("Clinic visit");
    sexual["meta"] = security;
    sexual["reasonCode"] =
        json!([{ "coding": [{ "system": "http://hl7.org/fhir/sid/icd-10", "code": "A56" }] }]);
    world
        .put(vec![
            message("Plain message"),
            marked,
            sexual,
            visit("Unmarked visit"),
        ])
        .await;
    id
}

async fn name(staff: &mut Browser, patient: &str, more: &[(&str, &str)]) -> crate::world::Page {
    let page = format!("/console/patients/{patient}/proxies");
    let mut fields: Vec<(&str, &str)> = vec![
        ("name", "Mona Berg"),
        ("address", "mona@example.org"),
        ("birth_date", BORN),
        ("basis", "parent"),
        ("proof", PROOF),
    ];
    for (name, value) in more {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    staff.act(&page, &page, &fields).await
}

#[track_caller]
fn says(page: &crate::world::Page, words: &str) {
    assert!(page.has(words), "without {words:?}: {}", page.body);
}

/// The mails that wait, oldest first.
async fn waiting(world: &World) -> Vec<Message> {
    let look = world
        .ledger()
        .outbox_look(&[CHANNEL_EMAIL], u64::MAX, 100)
        .await
        .unwrap();
    let mut entries = look.entries;
    entries.sort_by_key(|entry| entry.key.due_ms);
    let read = |body: &[u8]| serde_json::from_slice(body).unwrap();
    entries.iter().map(|entry| read(&entry.body)).collect()
}

/// Somebody who acts for a patient, signed in by a link as a mail would have it.
pub(crate) async fn signed_in(world: &World, proxy: &str) -> Browser {
    let operator = Agent::system(TENANT, "mail-deliverer");
    let identity = world.trust.identity();
    let secret = identity
        .make_proxy_link(&operator, proxy, 3600, false)
        .await
        .unwrap();
    let mut browser = world.browser();
    let link = format!("/sign-in/link/{secret}");
    browser.get(&link).await;
    let wrong = browser.submit(&link, &[("birth_date", "2019-01-01")]).await;
    says(&wrong, "The date does not match");
    let done = browser.submit(&link, &[("birth_date", BORN)]).await;
    assert_eq!(done.location(), "/portal", "{}", done.body);
    browser
}

/// Somebody whom a patient has authorised, at an address of their own.
pub(crate) async fn authorised(world: &World, patient: &str, address: &str) -> String {
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let new = authorisation(patient, address);
    identity.make_proxy(&operator, new, "r").await.unwrap()
}

fn authorisation(patient: &str, address: &str) -> NewProxy {
    NewProxy {
        patient: patient.to_owned(),
        name: "Mona Berg".to_owned(),
        address: format!("{address}@example.org"),
        birth_date: BORN.to_owned(),
        basis: Basis::Authorised,
        proof: "Signed form, seen at the desk".to_owned(),
        from: None,
        until: None,
        messages: false,
    }
}

/// A form that is sent twice at once names somebody once.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_named_twice_at_once_and_only_so_many_are() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let again = || identity.make_proxy(&operator, authorisation(&ida, "a"), "r");
    let (one, other) = tokio::join!(again(), again());
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let first = one.or(other).unwrap();
    for place in 1..10 {
        authorised(&world, &ida, &format!("b{place}")).await;
    }
    let more = identity
        .make_proxy(&operator, authorisation(&ida, "c"), "r")
        .await;
    assert!(more.unwrap_err().to_string().contains("10 people act"));
    // Ended, somebody can be named again.
    identity
        .end_proxy(&operator, (&ida, &first), "Asked for by phone", "r")
        .await
        .unwrap();
    let second = authorised(&world, &ida, "a").await;
    assert_ne!(first, second);
    // Who is not there has nobody.
    let nobody = identity
        .make_proxy(&operator, authorisation(&world.new_patient_id(), "a"), "r")
        .await;
    assert!(nobody.unwrap_err().to_string().contains("no such patient"));
}

async fn sole_proxy(world: &World, patient: &str) -> String {
    let people = world.all(ResourceType::RelatedPerson, patient).await;
    people[0].id().unwrap().to_owned()
}

/// The path of a visit by its words.
async fn visit(world: &World, patient: &str, words: &str) -> String {
    let visits = world.all(ResourceType::Appointment, patient).await;
    let found = visits
        .iter()
        .find(|one| one.text_at(&["description"]) == Some(words));
    format!("/portal/visits/{}", found.unwrap().id().unwrap())
}

// Proves: 45 CFR 164.510(b)
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_acts_for_a_small_child_until_it_is_ended() {
    let world = World::new().await;
    let kim = child(&world, "Kim", "2020-03-01").await;
    let mut carla = world.staff("carla").await;
    carla
        .get(&format!("/console/patients/{kim}"))
        .await
        .shows("Who acts for them");
    let page = format!("/console/patients/{kim}/proxies");
    let form = carla.get(&page).await;
    form.shows("Nobody acts for this patient");
    check_html(&page, &form.body);
    // What can't be is said, and nothing is written.
    for (more, words) in [
        (
            ("proof", "seen"),
            "what proves it needs 10 to 500 characters",
        ),
        (("address", "mona"), "no e-mail address"),
        (
            ("address", "mona@example.org\r\nBcc: y@example.org"),
            "no e-mail address",
        ),
        (("birth_date", "2031-01-01"), "in the future"),
        (("birth_date", "1984-5-6"), "YYYY-MM-DD"),
        (("until", "2020-01-01x"), "YYYY-MM-DD"),
        (("basis", "aunt"), "Choose by which right"),
        (("name", " "), "the name is missing"),
    ] {
        let refused = name(&mut carla, &kim, &[more]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{more:?}");
        says(&refused, words);
    }
    assert!(
        world
            .all(ResourceType::RelatedPerson, &kim)
            .await
            .is_empty()
    );
    let done = name(&mut carla, &kim, &[]).await;
    assert_eq!(
        done.location(),
        format!("{page}?done=made"),
        "{}",
        done.body
    );
    says(
        &name(&mut carla, &kim, &[]).await,
        "they act for this patient already",
    );
    let listed = carla.get(&page).await;
    listed.shows("Acts for the patient");
    listed.shows(PROOF);
    check_html(&page, &listed.body);
    // A mail to their own address waits, with nothing of the child in it.
    let mails = waiting(&world).await;
    assert_eq!(mails.len(), 1);
    let proxy = sole_proxy(&world, &kim).await;
    assert_eq!(mails[0].proxy.as_deref(), Some(proxy.as_str()));
    assert!(!mails[0].text.contains("Kim"));
    let person = world.get(ResourceType::RelatedPerson, &proxy).await;
    assert_eq!(
        person.text_at(&["relationship", "0", "coding", "0", "code"]),
        Some("PRN")
    );

    let mut mona = signed_in(&world, &proxy).await;
    let home = mona.get("/portal").await;
    home.shows("You act for");
    home.shows("Kim Berg");
    assert!(!home.has("keep some things to themselves"));
    for words in [
        "Plain message",
        "Marked visit",
        "Unmarked visit",
        "Clinic visit",
    ] {
        home.shows(words);
    }
    for hidden in ["Hidden Lane", "555 0199"] {
        assert!(!home.has(hidden), "{hidden}");
    }
    check_html("/portal", &home.body);
    // What was written to somebody who acts is the patient's to see, and no other's.
    assert_eq!(world.all(ResourceType::Communication, &kim).await.len(), 2);
    assert!(!mona.get("/portal/inbox").await.has("sign-in link"));
    // What is the patient's alone, and what is another's.
    for path in [
        "/portal/consent",
        "/portal/choices",
        "/portal/record",
        "/portal/preferences",
        "/portal/proxies",
        "/console/patients",
        &page,
    ] {
        let refused = mona.get(path).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    let csrf = mona.get("/portal/weight").await.field("csrf");
    for path in ["/portal/consent", "/portal/preferences"] {
        let refused = mona
            .post(path, &[("csrf", &csrf), ("do", "withdraw")])
            .await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(world.all(ResourceType::Consent, &kim).await.is_empty());
    // What they do is theirs, for the child: in the record and in the audit.
    let noted = mona
        .act("/portal/weight", "/portal/weight", &[("kg", "21")])
        .await;
    assert_eq!(noted.location(), "/portal?said=weighed", "{}", noted.body);
    let weights = world.all(ResourceType::Observation, &kim).await;
    let by = weights[0].text_at(&["performer", "0", "reference"]);
    assert_eq!(by, Some(format!("RelatedPerson/{proxy}").as_str()));
    let events = world.all(ResourceType::AuditEvent, &kim).await;
    let created = events
        .iter()
        .find(|event| {
            event.text_at(&["subtype", "0", "code"]) == Some("create")
                && event.text_at(&["agent", "0", "altId"]) == Some(&proxy)
        })
        .unwrap();
    let agents = created.get("agent").unwrap();
    assert_eq!(
        agents[0]["who"]["reference"],
        format!("RelatedPerson/{proxy}")
    );
    assert_eq!(agents[0]["role"][0]["coding"][0]["code"], "proxy");
    assert_eq!(agents[1]["who"]["reference"], format!("Patient/{kim}"));
    assert_eq!(agents[1]["type"]["coding"][0]["code"], "BEN");
    assert!(!created.as_value().to_string().contains("Mona"));

    // Ended by staff, with a reason: the next request is refused, and so is the link.
    let end = format!("{page}/{proxy}/end");
    let silent = carla.act(&page, &end, &[("reason", "x")]).await;
    assert_eq!(silent.status, StatusCode::BAD_REQUEST);
    mona.get("/portal").await.shows("Kim Berg");
    let ended = carla
        .act(&page, &end, &[("reason", "Court order of today")])
        .await;
    assert_eq!(
        ended.location(),
        format!("{page}?done=ended"),
        "{}",
        ended.body
    );
    let refused = mona.get("/portal").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    assert!(!refused.has("Kim"));
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "mail-deliverer");
    assert!(
        identity
            .make_proxy_link(&operator, &proxy, 60, false)
            .await
            .is_err()
    );
    let person = world.get(ResourceType::RelatedPerson, &proxy).await;
    assert_eq!(person.get("active"), Some(&Value::Bool(false)));
    carla.get(&page).await.shows("Court order of today");
}

// Proves: 42 CFR 2.14
#[tokio::test(flavor = "multi_thread")]
async fn what_a_minor_keeps_is_in_no_list_and_no_form() {
    let world = World::new().await;
    let tove = child(&world, "Tove", "2011-03-01").await;
    let mut carla = world.staff("carla").await;
    name(&mut carla, &tove, &[]).await;
    let proxy = sole_proxy(&world, &tove).await;
    let mut mona = signed_in(&world, &proxy).await;
    let home = mona.get("/portal").await;
    home.shows("keep some things to themselves");
    home.shows("Marked visit");
    for kept in ["Plain message", "Unmarked visit", "Clinic visit"] {
        assert!(!home.has(kept), "{kept}");
        assert!(!mona.get("/portal/inbox").await.has(kept), "{kept}");
    }
    // Neither by its address nor by a form.
    for words in ["Unmarked visit", "Clinic visit"] {
        let path = visit(&world, &tove, words).await;
        assert_eq!(
            mona.get(&path).await.status,
            StatusCode::NOT_FOUND,
            "{words}"
        );
        let tried = mona
            .act("/portal/weight", &path, &[("answer", "accept")])
            .await;
        assert_eq!(tried.status, StatusCode::NOT_FOUND, "{words}");
    }
    let path = visit(&world, &tove, "Marked visit").await;
    let accepted = mona.act(&path, &path, &[("answer", "accept")]).await;
    assert_eq!(
        accepted.location(),
        "/portal?said=booked",
        "{}",
        accepted.body
    );
    let statuses: Vec<_> = world
        .all(ResourceType::Appointment, &tove)
        .await
        .iter()
        .map(|visit| visit.text_at(&["status"]).unwrap().to_owned())
        .collect();
    assert_eq!(
        statuses.iter().filter(|status| *status == "booked").count(),
        1
    );
    // The birthday, by the first place that has it: 2029-02-28T10:00Z.
    let birthday_ms = fhir::date::parse("2029-02-28T10:00:00Z").unwrap().start_ms;
    let now_ms = i64::try_from(world.clock.now_ms()).unwrap();
    world
        .clock
        .advance(u64::try_from(birthday_ms - now_ms - 1).unwrap());
    assert_eq!(mona.get("/portal").await.status, StatusCode::OK);
    world.clock.advance(1);
    assert_eq!(mona.get("/portal").await.status, StatusCode::FORBIDDEN);
    let of_age = name(&mut carla, &tove, &[("address", "m2@example.org")]).await;
    says(&of_age, "not of age by the birth date on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acts_for_several_chooses_and_the_patient_ends_it() {
    let world = World::new().await;
    let kim = child(&world, "Kim", "2020-03-01").await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    name(&mut carla, &kim, &[("address", "Mona@example.org")]).await;
    // The patient's own address is nobody else's.
    let own = name(
        &mut carla,
        &ida,
        &[("basis", "authorised"), ("address", "Somebody@example.com")],
    )
    .await;
    says(&own, "on record as the patient");
    let parent = name(&mut carla, &ida, &[]).await;
    assert_eq!(parent.status, StatusCode::BAD_REQUEST);
    let until = [("basis", "authorised"), ("until", "2026-04-30")];
    let made = name(&mut carla, &ida, &until).await;
    assert_eq!(made.status, StatusCode::SEE_OTHER, "{}", made.body);
    world.task(&ida, "urgent", "Ring Ida").await;
    let (of_kim, of_ida) = (
        sole_proxy(&world, &kim).await,
        sole_proxy(&world, &ida).await,
    );

    let mut mona = signed_in(&world, &of_kim).await;
    let before = mona.get("/portal/weight").await.field("csrf");
    let choice = mona.get("/portal/for").await;
    choice.shows("Ida Berg");
    choice.shows("You act for them now");
    check_html("/portal/for", &choice.body);
    let chosen = mona
        .act("/portal/for", "/portal/for", &[("proxy", &of_ida)])
        .await;
    assert_eq!(chosen.location(), "/portal", "{}", chosen.body);
    mona.get("/portal").await.shows("Ida Berg");
    // A form of a page from before is for nobody.
    let old = mona
        .post("/portal/weight", &[("csrf", &before), ("kg", "70")])
        .await;
    assert_eq!(old.status, StatusCode::FORBIDDEN);
    let nobody = mona
        .act("/portal/for", "/portal/for", &[("proxy", &kim)])
        .await;
    assert_eq!(nobody.status, StatusCode::FORBIDDEN);

    let mut patient = world.patients_browser(&ida).await;
    let looked = patient.get("/portal/record").await;
    looked.shows("Mona Berg (acts for the patient)");
    let list = patient.get("/portal/proxies").await;
    list.shows("Mona Berg");
    check_html("/portal/proxies", &list.body);
    // Of another's patient, nobody can end anything.
    let others = format!("/portal/proxies/{of_kim}/end");
    let refused = patient.act("/portal/proxies", &others, &[]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    let end = format!("/portal/proxies/{of_ida}/end");
    let ended = patient.act("/portal/proxies", &end, &[]).await;
    assert_eq!(
        ended.location(),
        "/portal/proxies?said=ended",
        "{}",
        ended.body
    );
    assert_eq!(mona.get("/portal").await.status, StatusCode::FORBIDDEN);
    // Whom else they act for is still theirs to choose.
    let chosen = mona
        .act("/portal/for", "/portal/for", &[("proxy", &of_kim)])
        .await;
    assert_eq!(chosen.location(), "/portal", "{}", chosen.body);
    mona.get("/portal").await.shows("Kim Berg");
}

#[tokio::test(flavor = "multi_thread")]
async fn days_consents_and_courts_have_a_word_in_it() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut carla = world.staff("carla").await;
    let days = [
        ("basis", "guardian"),
        ("from", "2026-03-03"),
        ("until", "2026-03-31"),
    ];
    let made = name(&mut carla, &ida, &days).await;
    let page = format!("/console/patients/{ida}/proxies");
    assert_eq!(
        made.location(),
        format!("{page}?done=named"),
        "{}",
        made.body
    );
    assert!(waiting(&world).await.is_empty());
    let proxy = sole_proxy(&world, &ida).await;
    let early = carla.act(&page, &format!("{page}/{proxy}/link"), &[]).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST);
    world.clock.advance(3 * DAY_MS);
    let sent = carla.act(&page, &format!("{page}/{proxy}/link"), &[]).await;
    assert_eq!(
        sent.location(),
        format!("{page}?done=linked"),
        "{}",
        sent.body
    );
    let mut mona = signed_in(&world, &proxy).await;
    world
        .put(vec![json!({ "resourceType": "Communication", "id": world.id_of(&ida), "status": "completed", "subject": { "reference": format!("Patient/{ida}") }, "topic": { "text": "Plain message" } })])
        .await;
    mona.get("/portal/inbox").await.shows("Plain message");
    // What a court has ordered is not the patient's to end.
    let mut patient = world.patients_browser(&ida).await;
    let end = format!("/portal/proxies/{proxy}/end");
    let kept = patient.act("/portal/weight", &end, &[]).await;
    assert_eq!(kept.status, StatusCode::FORBIDDEN);
    says(&kept, "a court has appointed them");
    // But a denial that names them hides the record from them.
    world
        .put(vec![json!({
            "resourceType": "Consent", "id": world.id_of(&ida), "status": "active",
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
            "patient": { "reference": format!("Patient/{ida}") }, "dateTime": "2026-03-04T00:00:00Z",
            "provision": { "type": "deny", "actor": [{ "role": { "coding": [{ "code": "IRCP" }] }, "reference": { "reference": format!("RelatedPerson/{proxy}") } }] },
        })])
        .await;
    assert!(!mona.get("/portal/inbox").await.has("Plain message"));
    // The last day ends in the first place that has the next.
    world.clock.advance(40 * DAY_MS);
    assert_eq!(mona.get("/portal").await.status, StatusCode::FORBIDDEN);
}

// Proves: 45 CFR 164.502(g)(1)
#[tokio::test(flavor = "multi_thread")]
async fn where_a_relationship_is_needed_naming_somebody_needs_one() {
    let world = World::under("england", |_| {}).await;
    let ida = world.patient("Ida", "Berg").await;
    let identity = world.trust.identity();
    let devi = crate::emergency::devi_s_agent(&world).await;
    let refused = identity
        .make_proxy(&devi, authorisation(&ida, "a"), "r")
        .await;
    let said = refused.expect_err("no relationship").to_string();
    assert!(said.contains("no legitimate relationship"), "{said}");
    let audit = world.all(ResourceType::AuditEvent, &ida).await;
    let noted = audit.iter().find(|event| {
        event.text_at(&["subtype", "0", "code"]) == Some("proxy-made")
            && event.text_at(&["outcome"]) == Some("8")
    });
    assert!(noted.is_some(), "the refusal is in the audit");
    crate::unexplained::in_team(&world, &ida).await;
    let made = identity
        .make_proxy(&devi, authorisation(&ida, "a"), "r")
        .await;
    // Whoever has none can still end it: that opens nothing.
    let operator = Agent::system(TENANT, "demo");
    let ended = identity
        .end_proxy(&operator, (&ida, &made.unwrap()), "Asked for by phone", "r")
        .await;
    ended.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_they_decline_says_so() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let visit = world.id_of(&ida);
    world
        .put(vec![json!({"resourceType": "Appointment", "id": visit, "status": "proposed",
            "start": "2026-03-08T10:00:00Z", "end": "2026-03-08T10:30:00Z",
            "participant": [{"actor": {"reference": format!("Patient/{ida}")}, "status": "needs-action"}]})])
        .await;
    let proxy = authorised(&world, &ida, "mona").await;
    let mut mona = signed_in(&world, &proxy).await;
    let page = format!("/portal/visits/{visit}");
    let done = mona.act(&page, &page, &[("answer", "decline")]).await;
    assert_eq!(done.location(), "/portal?said=declined", "{}", done.body);
    let declined = world.get(ResourceType::Appointment, &visit).await;
    assert_eq!(
        declined.text_at(&["cancelationReason", "text"]),
        Some("declined by somebody who acts for the patient")
    );
}

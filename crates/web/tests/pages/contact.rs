//! The one place at which a patient wants to be reached, as staff write it down.

use axum::http::StatusCode;
use fhir::ResourceType;

use crate::world::{World, check_html};

// Proves: 45 CFR 164.522(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn one_number_alone_is_named_to_whoever_calls() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    world.task(&ida, "urgent", "Call her").await;
    let chart = format!("/console/patients/{ida}");
    let page = format!("{chart}/contact");
    let mut devi = world.staff("devi").await;
    devi.get(&chart).await.shows("+1 555 0100");
    let form = devi.get(&page).await;
    check_html(&page, &form.body);
    for (kind, address) in [
        ("email", "x"),
        ("email", "x@example.org\r\nBcc: y@example.org"),
        ("email", "x@example.org\nbcc:y@example.org"),
        ("email", "x@example.org>\r\nRCPT TO:<y@example.org"),
        ("phone", "+1 555\r\n0177"),
        ("phone", "x@example.org"),
        ("phone", "1"),
        ("fax", "+1 555 0177"),
    ] {
        let refused = devi
            .act(&page, &page, &[("kind", kind), ("address", address)])
            .await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{kind} {address}");
    }
    let done = devi
        .act(
            &page,
            &page,
            &[("kind", "phone"), ("address", "+1 555 0177")],
        )
        .await;
    assert_eq!(done.location(), format!("{page}?done=yes"), "{}", done.body);
    let patient = world.get(ResourceType::Patient, &ida).await;
    assert!(fhir::validate::check(&patient).is_empty());
    let telecoms = patient.get("telecom").unwrap().as_array().unwrap();
    assert_eq!(telecoms.len(), 3, "the others stay on record");
    assert_eq!(telecoms[2]["rank"], 1);
    // Whoever calls is told of no other, on the patient's page and in the worklist.
    let mut carla = world.staff("carla").await;
    for path in [chart.as_str(), "/console/worklist"] {
        let seen = carla.get(path).await;
        seen.shows("Only by telephone +1 555 0177");
        assert!(
            !seen.has("555 0100") && !seen.has("somebody@example.com"),
            "{path}"
        );
    }
    // It is a clinician's to write down.
    assert_eq!(carla.get(&page).await.status, StatusCode::FORBIDDEN);
    let tried = carla
        .act("/console/worklist", &page, &[("kind", "phone")])
        .await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);
    // A new one takes the place of the former, and none takes it back.
    devi.act(&page, &page, &[("kind", "sms"), ("address", "+1 555 0188")])
        .await;
    let seen = devi.get(&chart).await;
    seen.shows("Only by text message +1 555 0188");
    assert!(!seen.has("555 0177"));
    devi.act(&page, &page, &[("kind", "phone"), ("address", "")])
        .await;
    let seen = devi.get(&chart).await;
    seen.shows("+1 555 0100");
    assert!(!seen.has("Only by"));
}

/// Marks an address of a patient, as what comes back of an e-mail does.
async fn mark(world: &World, patient: &str, address: &str) {
    mark_as(world, patient, address, trust::AddressTrouble::Bounced).await;
}

async fn mark_as(world: &World, patient: &str, address: &str, why: trust::AddressTrouble) {
    let agent = trust::Agent::system(crate::world::TENANT, "importer");
    let target = trust::Target {
        kind: None,
        patient: Some(patient.to_owned()),
    };
    let permit = world
        .trust
        .decide(
            &agent,
            trust::Purpose::Operations,
            trust::Action::Import,
            target,
            "test",
        )
        .await
        .expect("a permit");
    let vault = world.trust.vault();
    let id = vault.address_id(crate::world::TENANT, patient, address);
    let (_, expected) = vault.address_standing(&permit, &id).await.expect("read");
    let standing = trust::AddressStanding {
        mark: Some(trust::AddressMark {
            why,
            code: Some("5.1.1".to_owned()),
            at_ms: 0,
        }),
        ..trust::AddressStanding::default()
    };
    let unit = trust::Unit {
        internals: vec![trust::Vault::stand_address(
            patient, &id, &standing, expected,
        )],
        patient: Some(patient.to_owned()),
        ..trust::Unit::default()
    };
    vault.commit(&permit, unit).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_came_back_is_shown_and_can_be_written_to_again() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let address = "somebody@example.com";
    let chart = format!("/console/patients/{ida}");
    let page = format!("{chart}/contact");
    let mut devi = world.staff("devi").await;
    assert!(!devi.get(&chart).await.has("not written to"));
    assert!(!devi.get(&page).await.has("not written to"));
    mark(&world, &ida, address).await;
    let seen = devi.get(&chart).await;
    seen.shows("not written to");
    seen.shows("what was sent there came back (5.1.1)");
    let form = devi.get(&page).await;
    check_html(&page, &form.body);
    form.shows("Write there again");
    let mut carla = world.staff("carla").await;
    carla.get(&chart).await.shows("not written to");
    let tried = carla
        .act("/console/worklist", &page, &[("again", address)])
        .await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);
    let done = devi.act(&page, &page, &[("again", address)]).await;
    assert_eq!(done.location(), format!("{page}?done=yes"), "{}", done.body);
    assert!(!devi.get(&chart).await.has("not written to"));
    // What can't be found is no fault; it can be marked again.
    let done = devi
        .act(&page, &page, &[("again", "nobody@example.com")])
        .await;
    assert_eq!(done.location(), format!("{page}?done=yes"), "{}", done.body);
    mark(&world, &ida, address).await;
    devi.get(&chart).await.shows("not written to");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_who_acts_for_a_patient_is_shown_and_can_be_written_to_again() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let address = "mona@example.org";
    let chart = format!("/console/patients/{ida}");
    let page = format!("{chart}/contact");
    let proxies = format!("{chart}/proxies");
    let mut devi = world.staff("devi").await;
    let named = [
        ("name", "Mona Berg"),
        ("address", address),
        ("birth_date", "1984-05-06"),
        ("basis", "authorised"),
        ("proof", "Her signature, seen at the desk"),
    ];
    let done = devi.act(&proxies, &proxies, &named).await;
    assert!(done.location().starts_with(&proxies), "{}", done.body);
    assert!(!devi.get(&chart).await.has("not written to"));
    mark(&world, &ida, address).await;
    let seen = devi.get(&chart).await;
    seen.shows("not written to");
    seen.shows("Mona Berg");
    check_html(&chart, &seen.body);
    let form = devi.get(&page).await;
    check_html(&page, &form.body);
    form.shows(address);
    form.shows("Write there again");
    let done = devi.act(&page, &page, &[("again", address)]).await;
    assert_eq!(done.location(), format!("{page}?done=yes"), "{}", done.body);
    assert!(!devi.get(&chart).await.has("not written to"));
    assert!(!devi.get(&page).await.has("Write there again"));
}

/// Patients see that no e-mail goes to an address of theirs. That somebody complained is theirs to take back; that a mailbox
/// is not there isn't.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_takes_a_complaint_back() {
    use trust::AddressTrouble::{Bounced, Complained};
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let max = world.patient("Max", "Berg").await;
    let address = "somebody@example.com";
    let page = "/portal/preferences";
    let button = "Send e-mail there again";
    let again = [("do", "again"), ("address", address)];
    let mut own = world.patients_browser(&ida).await;
    let mut his = world.patients_browser(&max).await;
    let mut devi = world.staff("devi").await;
    let chart = format!("/console/patients/{ida}");
    assert!(!own.get(page).await.has("E-mail that we have stopped"));

    mark_as(&world, &ida, address, Bounced).await;
    let seen = own.get(page).await;
    check_html(page, &seen.body);
    seen.shows("came back");
    assert!(!seen.has(button));
    let done = own.act(page, page, &again).await;
    assert_eq!(done.location(), page, "nothing was saved: {}", done.body);
    devi.get(&chart).await.shows("not written to");

    mark_as(&world, &ida, address, Complained).await;
    let seen = own.get(page).await;
    check_html(page, &seen.body);
    seen.shows(button);
    seen.shows(address);
    // It is nobody else's word, and no other address's.
    assert!(!his.get(page).await.has(button));
    his.act(page, page, &again).await;
    let other = [("do", "again"), ("address", "nobody@example.com")];
    let done = own.act(page, page, &other).await;
    assert_eq!(done.location(), page, "nothing was saved: {}", done.body);
    own.get(page).await.shows(button);
    let done = own.act(page, page, &again).await;
    assert_eq!(
        done.location(),
        format!("{page}?said=saved"),
        "{}",
        done.body
    );
    assert!(!own.get(page).await.has("E-mail that we have stopped"));
    assert!(!devi.get(&chart).await.has("not written to"));

    // The audit says that she did it.
    let mut priya = world.staff("priya").await;
    let audit = priya.get(&format!("/console/audit?patient={ida}")).await;
    let events = audit.body.split("href=\"/console/audit/").skip(1);
    let mut said = 0;
    for event in events.filter_map(|rest| rest.split('"').next()) {
        let event = priya.get(&format!("/console/audit/{event}")).await;
        let is_it = event.has("an address is written to again") && event.has("Ida Berg");
        said += usize::from(is_it);
    }
    assert_eq!(said, 1);
}

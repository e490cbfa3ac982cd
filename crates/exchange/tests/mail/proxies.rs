//! Mail to those who act for a patient: to their own address, while they do.

use exchange::MailOptions;
use ledger::Owner;
use serde_json::json;
use trust::Agent;
use trust::consent::Basis;
use trust::identity::NewProxy;

use crate::peer::Peer;
use crate::world::{TENANT, World};

const CHILD: &str = "2021-03-01";

async fn acts(world: &World, patient: &str, address: &str, basis: Basis, messages: bool) -> String {
    let new = NewProxy {
        patient: patient.to_owned(),
        name: "Mona Quandt".to_owned(),
        address: address.to_owned(),
        birth_date: "1984-05-06".to_owned(),
        basis,
        proof: "Birth certificate, seen at the desk".to_owned(),
        from: None,
        until: None,
        messages,
    };
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let id = identity.make_proxy(&operator, new, "test").await;
    // The one that is named first is the one who is written to.
    world.clock.advance(1_000);
    id.expect("made")
}

async fn end(world: &World, patient: &str, proxy: &str) {
    let operator = Agent::system(TENANT, "demo");
    let identity = world.trust.identity();
    let ended = identity.end_proxy(
        &operator,
        (patient, proxy),
        "A court has ordered it",
        "test",
    );
    ended.await.expect("ended");
}

/// Delivers what waits. Returns where it went, and the words with the link.
async fn delivered(world: &World, patient: &str, id: &str) -> (String, String) {
    let peer = Peer::start(&[]).await;
    let running = world.run(MailOptions {
        magic_links: true,
        ..world.options(peer.port)
    });
    world.wait_for(patient, id, "completed").await;
    running.stop().await;
    let seen = peer.seen();
    assert_eq!(seen.len(), 1);
    (seen[0].to().to_owned(), seen[0].text())
}

async fn not_done(world: &World, patient: &str, id: &str) -> String {
    let peer = Peer::start(&[]).await;
    let running = world.run(world.options(peer.port));
    let done = world.wait_for(patient, id, "not-done").await;
    running.stop().await;
    assert!(peer.seen().is_empty());
    done["statusReason"]["coding"][0]["code"]
        .as_str()
        .expect("a code")
        .to_owned()
}

#[tokio::test]
async fn a_small_child_s_messages_go_to_who_takes_them() {
    let world = World::new().await;
    let phone = json!([{ "system": "phone", "value": "+1-617-555-0142" }]);
    let child = world
        .patient(&[("birthDate", json!(CHILD)), ("telecom", phone)])
        .await;
    acts(&world, &child, "other@example.org", Basis::Parent, false).await;
    let mona = acts(&world, &child, "mona@example.org", Basis::Parent, true).await;
    let gran = acts(&world, &child, "gran@example.org", Basis::Guardian, true).await;
    let id = world.queue(&child, |_| {}).await;
    let (to, text) = delivered(&world, &child, &id).await;
    assert_eq!(to, "mona@example.org");
    // The link signs her in, with her own birth date, for the child.
    let (_, link) = text.split_once("/sign-in/link/").expect("a link");
    let (secret, _) = link.split_once("?next=").expect("where it goes on");
    let identity = world.trust.identity();
    assert!(identity.use_link(TENANT, secret, CHILD).await.is_err());
    let signed_in = identity.use_link(TENANT, secret, "1984-05-06").await;
    let trust::identity::SignIn::Done { session, .. } = signed_in.expect("signed in") else {
        panic!("a link needs no second factor");
    };
    assert_eq!(session.agent.role, trust::Role::Proxy);
    assert_eq!(session.agent.patient.as_deref(), Some(&*child));

    // Ended after it was queued: it goes to the next who takes them, and then to nobody.
    let id = world.queue(&child, |_| {}).await;
    end(&world, &child, &mona).await;
    assert_eq!(delivered(&world, &child, &id).await.0, "gran@example.org");
    assert!(
        identity
            .use_link(TENANT, secret, "1984-05-06")
            .await
            .is_err()
    );
    // From whom the record is kept, a message is.
    let denial = world.trust.vault().ledger();
    let denial = json!({
        "resourceType": "Consent", "id": denial.mint_id(TENANT, &Owner::Patient(child.clone())), "status": "active",
        "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
        "patient": { "reference": format!("Patient/{child}") }, "dateTime": "2026-01-01",
        "provision": { "type": "deny", "actor": [{ "role": { "coding": [{ "code": "IRCP" }] }, "reference": { "reference": format!("RelatedPerson/{gran}") } }] },
    });
    world.put(&child, denial).await;
    let id = world.queue(&child, |_| {}).await;
    assert_eq!(not_done(&world, &child, &id).await, "no-address");
    // Withdrawn consent holds for them as for anybody.
    world.clock.advance(1_000);
    world.consent(&child, "inactive").await;
    let id = world.queue(&child, |_| {}).await;
    assert_eq!(not_done(&world, &child, &id).await, "consent");
}

#[tokio::test]
async fn nobody_else_s_messages_go_to_who_acts_for_them() {
    let world = World::new().await;
    let phone = json!([{ "system": "phone", "value": "+1-617-555-0142" }]);
    let old = json!([{ "system": "email", "value": "own@example.org", "use": "old" }]);
    let only = json!([{ "system": "phone", "value": "1", "extension": [{ "url": trust::conventions::CONFIDENTIAL_EXTENSION, "valueBoolean": true }] }]);
    // Old enough to keep something; has had an address; wants to be reached at one place alone.
    for (born, telecom) in [("2013-03-01", &phone), (CHILD, &old), (CHILD, &only)] {
        let patient = world
            .patient(&[("birthDate", json!(born)), ("telecom", telecom.clone())])
            .await;
        acts(&world, &patient, "mona@example.org", Basis::Parent, true).await;
        let id = world.queue(&patient, |_| {}).await;
        assert_eq!(
            not_done(&world, &patient, &id).await,
            "no-address",
            "{born} {telecom}"
        );
    }
    // An adult's, neither.
    let adult = world.patient(&[("telecom", phone)]).await;
    acts(&world, &adult, "mona@example.org", Basis::Guardian, true).await;
    let id = world.queue(&adult, |_| {}).await;
    assert_eq!(not_done(&world, &adult, &id).await, "no-address");
}

/// A link that staff put on its way goes to the proxy's own address, or nowhere.
#[tokio::test]
async fn a_link_for_who_acts_goes_while_they_do() {
    let world = World::new().await;
    let patient = world.patient(&[]).await;
    let mona = acts(
        &world,
        &patient,
        "mona@example.org",
        Basis::Authorised,
        false,
    )
    .await;
    let id = world
        .queue(&patient, |message| message.proxy = Some(mona.clone()))
        .await;
    let (to, text) = delivered(&world, &patient, &id).await;
    assert_eq!(to, "mona@example.org");
    assert!(text.contains("/sign-in/link/"));
    let id = world
        .queue(&patient, |message| message.proxy = Some(mona.clone()))
        .await;
    end(&world, &patient, &mona).await;
    assert_eq!(not_done(&world, &patient, &id).await, "proxy-ended");
    // Nor by a record of another patient's.
    let other = world.patient(&[("birthDate", json!("1950-01-01"))]).await;
    let of_other = acts(&world, &other, "mona@example.org", Basis::Authorised, false).await;
    let id = world
        .queue(&patient, |message| message.proxy = Some(of_other))
        .await;
    assert_eq!(not_done(&world, &patient, &id).await, "proxy-ended");
}

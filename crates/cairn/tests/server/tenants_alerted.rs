//! Who is told of emergency accesses, where a server has several tenants.

use std::path::Path;

use cairn::store::TENANT;
use exchange::{MailOptions, MailTls};
use ledger::TenantId;
use serde_json::json;
use trust::outgoing::{CHANNEL_NOTICE, Notice};
use trust::{Agent, Role, Trust};

use crate::house::house_with;
use crate::tenants::{NORTH, SOUTH, Two};

/// A mail server that nobody can reach, so that what is for it stays in the outbox.
fn mail() -> MailOptions {
    MailOptions {
        host: "127.0.0.1".to_owned(),
        port: 1,
        tls: MailTls::None,
        credentials: None,
        from: "care@hospital.example".to_owned(),
        message_id_domain: "hospital.example".to_owned(),
        portal_base: "http://hospital.example".to_owned(),
        timeout_ms: 1_000,
        parallel: 1,
        magic_links: false,
        ca_file: None,
        meter: exchange::Meter::default(),
        dkim: None,
        returns: None,
    }
}

/// To whom the e-mails of an emergency access go.
async fn told(trust: &Trust, tenant: TenantId) -> Vec<String> {
    let clinician = Agent {
        tenant,
        id: "clinician-1".to_owned(),
        name: "Devi Rao".to_owned(),
        role: Role::Clinician,
        patient: None,
        access: None,
        signed_in: trust::SignedIn::default(),
    };
    let identity = trust.identity();
    let begun = identity.break_glass(&clinician, "p", "Unconscious, medicines unknown", "r");
    begun.await.expect("emergency access");
    let ledger = trust.vault().ledger();
    let entries = ledger.outbox_due(CHANNEL_NOTICE, u64::MAX, 10).await;
    let entries = entries.expect("the outbox").into_iter();
    let to = entries.map(|entry| {
        let notice: Notice = serde_json::from_slice(&entry.body).expect("a notice");
        notice.to
    });
    to.collect()
}

/// What north has for itself.
fn of_north(folder: &Path) {
    let own = "emergency_alert_to = 'privacy@north.example'\n";
    std::fs::write(folder.join("north.toml"), own).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_another_organisation_s_emergency_access() {
    let folder = tempfile::tempdir().expect("a folder");
    of_north(folder.path());
    let two = Two::with(|options| {
        options.tenants_folder = Some(folder.path().to_owned());
        options.mail = Some(mail());
        options.emergency.alert_to = "privacy@hospital.example".to_owned();
    })
    .await;
    let patient = json!({"resourceType": "Patient", "id": "p"});
    for (host, tenant, to) in [
        (SOUTH, TENANT, &[][..]),
        (NORTH, two.north, &["privacy@north.example"]),
    ] {
        let token = two.token(tenant, Role::Client).await;
        two.put(host, &token, &patient).await;
        assert_eq!(told(&two.trust(tenant), tenant).await, to, "{host}");
    }
    two.end().await;

    // Where there is one without hosts, the server's configuration is its own.
    let house = house_with(|options| {
        options.mail = Some(mail());
        options.emergency.alert_to = "privacy@hospital.example".to_owned();
    })
    .await;
    let sent = house.sent(reqwest::Method::PUT, "/fhir/r4/Patient/p", &patient);
    assert_eq!(sent.send().await.expect("an answer").status(), 201);
    let to = told(house.server.trust(), TENANT).await;
    assert_eq!(to, ["privacy@hospital.example"]);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_a_tenant_need_a_mail_server() {
    let folder = tempfile::tempdir().expect("a folder");
    of_north(folder.path());
    let two = Two::with(|options| options.tenants_folder = Some(folder.path().to_owned())).await;
    two.until(SOUTH, "/fhir/r4/metadata", 200).await;
    two.until(NORTH, "/fhir/r4/metadata", 503).await;
    two.end().await;
}

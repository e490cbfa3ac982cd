//! What is agreed to is no narrower for the hour or the network that it is agreed to in: what policies refuse then
//! is refused with each request, and not for as long as the grant lasts.

use std::sync::Arc;

use ledger::ManualClock;

use super::*;
use crate::house::NOON_MS;
use crate::policies::{folder, put as put_policy};

const HOUR_MS: u64 = 3_600_000;
/// In the afternoon; on the ward, where nobody is here; never.
const OWN: &str = r#"@id("vaccinations-after-noon")
@says("Vaccinations are had from one o'clock.")
forbid (principal in Role::"patient", action in Action::"look", resource == Kind::"Immunization")
when { context.time.hour < 13 };

@id("procedures-on-the-ward")
@says("Procedures are had on the ward.")
forbid (principal in Role::"patient", action in Action::"look", resource == Kind::"Procedure")
unless { context.networks.contains("ward") };

@id("no-reports")
@says("Reports are not had.")
forbid (principal in Role::"patient", action in Action::"look", resource == Kind::"DiagnosticReport")
unless { context.purpose == "ETREAT" };
"#;

#[tokio::test]
async fn what_is_agreed_to_at_an_hour_holds_at_another() {
    let policies = folder();
    put_policy(&policies, "own.cedar", OWN);
    let wall = ManualClock::new(NOON_MS);
    let house = house_with(|options| {
        options.policy_folder = Some(policies.path().to_owned());
        options.wall_clock = Arc::new(wall.clone());
        options.networks = [("ward".to_owned(), "10.0.0.0/8".to_owned())].into();
    })
    .await;
    furnished(&house).await;
    let client = app(&house).await;
    let mut ann = Browser::patient(&house, "ann", "1950-02-03").await;
    let scope = "offline_access patient/Immunization.rs patient/Procedure.rs patient/DiagnosticReport.rs patient/Patient.rs";
    let pairs = request(&house, &client, scope, &[]);
    let page = ann.get(&address(&pairs)).await;
    let offered = [
        "patient/Immunization.rs",
        "patient/Procedure.rs",
        "patient/Patient.rs",
        "offline_access",
    ];
    assert_eq!(page.fields("agreed"), offered);
    let done = agree(&mut ann, &page, &pairs, None).await;
    let code = done.told("code").expect("a code");
    let told = tokens(exchange(&house, &client, &code).await).await;
    let granted = "offline_access patient/Immunization.rs patient/Procedure.rs patient/Patient.rs";
    assert_eq!(told["scope"], granted);
    // Each request is decided by its own hour and network all the same.
    let status = async |token: &str, path: &str| {
        let answer = get(&house, token, &format!("/fhir/r4/{path}")).await;
        answer.status().as_u16()
    };
    let token = text(&told, "access_token");
    assert_eq!(status(token, "Patient/ann").await, 200);
    assert_eq!(status(token, "Immunization?patient=ann").await, 403);
    assert_eq!(status(token, "Procedure?patient=ann").await, 403);
    wall.advance(HOUR_MS);
    let renewed = refresh(&house, &client, text(&told, "refresh_token"), &[]).await;
    let renewed = tokens(renewed).await;
    assert_eq!(renewed["scope"], granted);
    let token = text(&renewed, "access_token");
    assert_eq!(status(token, "Immunization?patient=ann").await, 200);
    assert_eq!(status(token, "Procedure?patient=ann").await, 403);
    assert_eq!(status(token, "DiagnosticReport?patient=ann").await, 403);
    house.end().await;
}

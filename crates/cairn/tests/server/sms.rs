//! Text messages through the whole server: from what starts a journey to what the provider tells, over real routes.

use ledger::TenantQuota;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::Patience;
use crate::provider::{BASE, Provider};

pub(crate) const SOURCE: &str = "name: texts
title: Follow-up of a stay
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {discharge: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: tell
steps:
  tell:
    title: Tell
    send:
      title: How you are
      words: Hello {patient.given|there}, please note how you are.
      channels: [sms, portal]
      sms: {words: 'News for you: {link}'}
      expires: 4h
    next: end
    on_failure: end
";

/// A request as the provider makes it, to where the server really is.
async fn posted(house: &House, path: &str, form: &[(&str, &str)], signature: &str) -> Response {
    let url = format!("http://{}{path}", house.server.address());
    let body: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = house.http.post(url).body(body);
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", signature)
        .send()
        .await
        .expect("an answer")
}

pub(crate) async fn got(house: &House, path: &str) -> Value {
    let url = format!("http://{}{path}", house.server.address());
    let request = house.http.get(url).bearer_auth(&house.token);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

pub(crate) async fn put(house: &House, path: &str, resource: &Value) {
    let url = format!("http://{}{path}", house.server.address());
    let request = house.http.put(url).bearer_auth(&house.token);
    let request = request.header("content-type", "application/fhir+json");
    let answer = request.body(resource.to_string()).send().await;
    assert_eq!(answer.expect("an answer").status(), 201, "{path}");
}

#[tokio::test]
async fn a_text_goes_out_and_what_comes_back_moves_the_journey_and_the_preference() {
    let provider = Provider::start().await;
    let house = house_with(|options| {
        let mut sms = provider.options();
        sms.magic_links = true;
        options.sms = Some(sms);
        options.public_url = Some(BASE.to_owned());
    })
    .await;
    let squad = token(&house.server, trust::Role::Squad).await;
    let published = house
        .http
        .post(format!("http://{}/api/journeys", house.server.address()))
        .bearer_auth(squad)
        .body(SOURCE)
        .send()
        .await
        .expect("an answer");
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    let patient = json!({
        "resourceType": "Patient", "id": "ada", "birthDate": "1941-03-07",
        "name": [{"family": "Thornbury", "given": ["Ada"]}],
        "telecom": [{"system": "phone", "use": "mobile", "value": "(617) 555-0142"}]
    });
    put(&house, "/fhir/r4/Patient/ada", &patient).await;
    let end = fhir::date::instant(NOON_MS - 3_600_000);
    let stay = json!({
        "resourceType": "Encounter", "id": "stay", "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/ada"}, "period": {"end": end}
    });
    put(&house, "/fhir/r4/Encounter/stay", &stay).await;

    let message = provider.wait_for(1).await.remove(0);
    let body = message["Body"].as_str().expect("a text");
    let link = format!("News for you: {BASE}/sign-in/link/");
    assert!(body.starts_with(&link), "{body}");
    for planted in ["Ada", "Thornbury", "1941", "5550142", "stay", "Follow-up"] {
        assert!(!body.contains(planted), "{planted} in {body}");
    }
    // It is as long as the checker takes it to be, or shorter.
    assert!(body.len() <= "News for you: ".len() + 160, "{}", body.len());

    let callback = message["StatusCallback"].as_str().expect("an address");
    let path = callback.strip_prefix(BASE).expect("our address");
    let path = path
        .strip_suffix("#rc=5&rp=all")
        .expect("to be brought again");
    let sid = message["sid"].as_str().expect("an id");
    let form = [
        ("MessageSid", sid),
        ("MessageStatus", "delivered"),
        ("To", "+16175550142"),
    ];
    let signature = provider.sign(path, &form).await;
    let search = "/fhir/r4/Communication?subject=Patient/ada";
    let status = async || {
        let found = got(&house, search).await;
        found["entry"][0]["resource"]["status"].clone()
    };
    let mut patience = Patience::new();
    while status().await != "in-progress" {
        patience.wait("the provider has it").await;
    }
    let forged = posted(&house, path, &form, "bm8=").await;
    assert_eq!(forged.status(), 403);
    assert_eq!(status().await, "in-progress");
    assert_eq!(posted(&house, path, &form, &signature).await.status(), 204);
    assert_eq!(status().await, "completed");
    // Said again it is the same.
    assert_eq!(posted(&house, path, &form, &signature).await.status(), 204);

    let heard = exchange::SMS_HEARD_PATH;
    let stop = [
        ("From", "+16175550142"),
        ("To", "+16175550100"),
        ("Body", "STOP"),
        ("MessageSid", "SM9"),
    ];
    assert_eq!(posted(&house, heard, &stop, "bm8=").await.status(), 403);
    let signature = provider.sign(heard, &stop).await;
    let told = posted(&house, heard, &stop, &signature).await;
    assert_eq!(told.status(), 200);
    let kind = told.headers().get("content-type").expect("a type");
    assert!(kind.to_str().expect("text").starts_with("text/xml"));
    let said = told.text().await.expect("a body");
    assert!(
        said.contains("<Message>You will get no more text messages"),
        "{said}"
    );
    // It is the telephone's, and no record says something that its patient didn't.
    let record = got(&house, "/fhir/r4/Patient/ada").await;
    assert_eq!(record["telecom"], patient["telecom"], "{record}");
    let again = json!({
        "resourceType": "Encounter", "id": "again", "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/ada"},
        "period": {"end": fhir::date::instant(NOON_MS - 1_800_000)}
    });
    put(&house, "/fhir/r4/Encounter/again", &again).await;
    let mut patience = Patience::new();
    loop {
        let found = got(&house, search).await;
        let all = found["entry"].as_array().expect("entries");
        let refused = all.iter().any(|one| {
            let message = &one["resource"];
            message["statusReason"]["coding"][0]["code"] == "preference"
        });
        if refused {
            break;
        }
        patience.wait("the second text is turned down").await;
    }
    assert_eq!(provider.taken().len(), 1);
    // A form that is too large is not read.
    let large = "x".repeat(100_000);
    let large = [("From", "+16175550142"), ("Body", large.as_str())];
    let signature = provider.sign(heard, &large).await;
    assert_eq!(
        posted(&house, heard, &large, &signature).await.status(),
        400
    );
    let help = [("From", "+16175550142"), ("Body", "what is this?")];
    let signature = provider.sign(heard, &help).await;
    let said = posted(&house, heard, &help, &signature).await.text().await;
    assert!(
        said.expect("a body")
            .contains("<Message>Nobody reads this number.</Message>")
    );

    let metrics = format!("http://{}/metrics", house.server.address());
    let metrics = house.http.get(metrics).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a body");
    for name in [
        "sms_sent_total",
        "sms_segments_total",
        "sms_receipts_total",
        "sms_heard_total",
        "sms_forged_total",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
    for planted in ["5550142", "Thornbury", sid] {
        assert!(!metrics.contains(planted), "{planted}");
    }
    house.end().await;
}

/// What is signed and can't be used is answered as what can: it would only be brought again. What is not signed is told
/// nothing.
#[tokio::test]
async fn what_cannot_be_used_is_not_asked_for_again() {
    let provider = Provider::start().await;
    let house = house_with(|options| {
        options.sms = Some(provider.options());
        options.public_url = Some(BASE.to_owned());
    })
    .await;
    let path = "/channels/sms/status/nobody";
    for form in [
        vec![("MessageSid", "SM1"), ("MessageStatus", "delivered")],
        vec![("MessageSid", "SM1"), ("MessageStatus", "pondering")],
        vec![("MessageSid", "SM1")],
    ] {
        let signature = provider.sign(path, &form).await;
        let told = posted(&house, path, &form, &signature).await;
        assert_eq!(told.status(), 204, "{form:?}");
        assert_eq!(posted(&house, path, &form, "bm8=").await.status(), 403);
    }
    let heard = exchange::SMS_HEARD_PATH;
    let nothing = [("MessageSid", "SM1")];
    let signature = provider.sign(heard, &nothing).await;
    let told = posted(&house, heard, &nothing, &signature).await;
    assert_eq!(told.status(), 204);
    // A STOP from what is no number is counted apart.
    let stop = [("From", "NORTHBANK"), ("Body", "STOP")];
    let signature = provider.sign(heard, &stop).await;
    let told = posted(&house, heard, &stop, &signature).await;
    assert_eq!(told.status(), 200);
    let metrics = format!("http://{}/metrics", house.server.address());
    let metrics = house.http.get(metrics).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a body");
    for name in ["sms_unusable_total", "sms_stops_of_nobody_total"] {
        assert!(metrics.contains(name), "{name}");
    }
    assert!(!metrics.contains("NORTHBANK"));
    house.end().await;
}

/// A provider tells much at once, from a few addresses: it has its share as those have who are known.
#[tokio::test]
async fn what_a_provider_tells_is_not_counted_as_strangers_requests() {
    let provider = Provider::start().await;
    let house = house_with(|options| {
        options.sms = Some(provider.options());
        options.public_url = Some(BASE.to_owned());
    })
    .await;
    let quota = TenantQuota {
        requests_per_s: Some(60),
        ..TenantQuota::default()
    };
    let ledger = house.server.ledger();
    let set = ledger
        .set_tenant(cairn::store::TENANT, None, None, Some(quota))
        .await;
    set.expect("a quota");
    // Servers follow within two seconds.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let heard = exchange::SMS_HEARD_PATH;
    let form = [("From", "+16175550142"), ("Body", "hello")];
    let signature = provider.sign(heard, &form).await;
    let all = (0..40).map(|_| posted(&house, heard, &form, &signature));
    let answers = futures_util::future::join_all(all).await;
    let taken = answers.iter().filter(|answer| answer.status() == 200);
    assert_eq!(taken.count(), 40);
    // Whoever signs nothing is a stranger, or comes no further than their own share.
    let all = (0..40).map(|_| posted(&house, "/sign-in", &form, "bm8="));
    let answers = futures_util::future::join_all(all).await;
    let refused = answers.iter().filter(|answer| answer.status() == 429);
    assert!(refused.count() > 0, "strangers have a bound");
    house.end().await;
}

/// Without a provider there is nothing there, and nobody is told more.
#[tokio::test]
async fn without_a_provider_nothing_is_heard() {
    let house = crate::house::house().await;
    for path in ["/channels/sms/heard", "/channels/sms/status/x"] {
        let answer = house
            .bare(Method::POST, path)
            .body("From=x&Body=STOP")
            .send()
            .await;
        assert_eq!(answer.expect("an answer").status(), 404, "{path}");
    }
    house.end().await;
}

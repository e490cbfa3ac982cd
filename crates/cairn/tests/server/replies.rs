//! A question that is answered by replying to its text message, through the whole server: from what starts a journey to
//! where the answer leads.

use serde_json::{Value, json};

use crate::house::{NOON_MS, house_with, token};
use crate::patience::Patience;
use crate::provider::{BASE, Provider};
use crate::sms::{got, posted, put};

const SOURCE: &str = "name: evenings
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
start: out
steps:
  out:
    title: Going out
    ask:
      title: Going out
      words: Please tell us whether you went out today.
      questions: [{id: out, text: Did you go out today?, type: yes-no}]
      channels: [sms, portal]
      sms: {words: 'Did you go out today? Reply YES or NO, or use {link}'}
      reply: {again: Please reply YES or NO.}
      give_up_after: 2d
    answered: decide
    no_answer: end
    unclear: read
  decide:
    title: Went out?
    branch:
      cases: [{when: out.out = true, next: praise}]
      otherwise: end
  praise:
    title: Praise
    task: {title: Say well done, reason: The patient went out., role: coordinator, due: 1d}
    next: end
    overdue: {role: clinician, priority: urgent}
  read:
    title: Read it
    task: {title: Read a text message, reason: The patient wrote back., role: coordinator, due: 1d}
    next: end
    overdue: {role: clinician, priority: urgent}
";

#[tokio::test]
async fn a_reply_leads_the_journey_on_and_what_is_none_comes_to_somebody() {
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
    assert!(
        body.starts_with(
            "Did you go out today? Reply YES or NO, or use https://care.example/sign-in/link/"
        ),
        "{body}"
    );
    for planted in ["Ada", "Thornbury", "1941", "5550142", "Follow-up"] {
        assert!(!body.contains(planted), "{planted} in {body}");
    }

    let heard = exchange::SMS_HEARD_PATH;
    let says = async |sid: &str, text: &str| {
        let form = [
            ("From", "+16175550142"),
            ("To", "+16175550100"),
            ("Body", text),
            ("MessageSid", sid),
        ];
        assert_eq!(posted(&house, heard, &form, "bm8=").await.status(), 403);
        let signature = provider.sign(heard, &form).await;
        let told = posted(&house, heard, &form, &signature).await;
        assert_eq!(told.status(), 200);
        told.text().await.expect("a body")
    };
    let open = async |words: &str| {
        let found = got(&house, "/fhir/r4/Task?patient=ada&status=requested").await;
        let all = found["entry"].as_array().cloned().unwrap_or_default();
        let tasks = all.iter().map(|one| &one["resource"]);
        tasks.filter(|task| task["description"] == words).count()
    };
    let said = says("SM1", "I have pain in my chest").await;
    assert!(
        said.contains("<Message>Please reply YES or NO. Nobody reads this number.</Message>"),
        "{said}"
    );
    let mut patience = Patience::new();
    while open("Read a text message").await == 0 {
        patience.wait("somebody is to read it").await;
    }
    // Brought again it is the same, and one task.
    says("SM1", "I have pain in my chest").await;
    let said = says("SM2", "yes").await;
    assert!(said.contains("<Response></Response>"), "{said}");
    assert!(says("SM2", "yes").await.contains("<Response></Response>"));
    let mut patience = Patience::new();
    while open("Say well done").await == 0 {
        patience.wait("the answer leads on").await;
    }
    assert_eq!(open("Read a text message").await, 1);
    let found = got(&house, "/fhir/r4/QuestionnaireResponse?patient=ada").await;
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1), "{found}");
    let response = &found["entry"][0]["resource"];
    assert_eq!(response["source"]["reference"], "Patient/ada");
    assert_eq!(response["item"][0]["answer"][0]["valueBoolean"], true);
    let found = got(&house, "/fhir/r4/Communication?sender=Patient/ada").await;
    let words: Vec<&Value> = (found["entry"].as_array().expect("entries").iter())
        .map(|one| &one["resource"]["payload"][0]["contentString"])
        .collect();
    assert_eq!(words.len(), 2, "{found}");
    assert!(words.contains(&&json!("I have pain in my chest")));
    // What comes after it is kept, and leads nowhere.
    let said = says("SM3", "no").await;
    assert!(
        said.contains("<Message>Nobody reads this number.</Message>"),
        "{said}"
    );
    let found = got(&house, "/fhir/r4/QuestionnaireResponse?patient=ada").await;
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1));

    let metrics = format!("http://{}/metrics", house.server.address());
    let metrics = house.http.get(metrics).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a body");
    for what in ["answer", "unclear", "late"] {
        let line = format!("what=\"{what}\"");
        assert!(metrics.contains(&line), "{line}");
    }
    for planted in ["5550142", "Thornbury", "pain in my chest"] {
        assert!(!metrics.contains(planted), "{planted}");
    }
    house.end().await;
}

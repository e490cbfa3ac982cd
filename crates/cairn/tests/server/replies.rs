//! A question that is answered by replying to its text message, through the whole server: from what starts a journey to
//! where the answer leads.

use serde_json::{Value, json};

use crate::house::{House, NOON_MS, house_with, token};
use crate::patience::Patience;
use crate::provider::{BASE, Provider};
use crate::routes::{Who, person};
use crate::sms::{got, posted, put};
use crate::tenants::{NORTH, SOUTH, Two};

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

/// Publishes a journey, and starts it for a patient.
async fn begins(house: &House, source: &str) {
    let squad = token(&house.server, trust::Role::Squad).await;
    let published = house
        .http
        .post(format!("http://{}/api/journeys", house.server.address()))
        .bearer_auth(squad)
        .body(source.to_owned())
        .send()
        .await
        .expect("an answer");
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    let patient = json!({
        "resourceType": "Patient", "id": "ada", "birthDate": "1941-03-07",
        "name": [{"family": "Thornbury", "given": ["Ada"]}],
        "telecom": [{"system": "phone", "use": "mobile", "value": "(617) 555-0142"}]
    });
    put(house, "/fhir/r4/Patient/ada", &patient).await;
    let end = fhir::date::instant(NOON_MS - 3_600_000);
    let stay = json!({
        "resourceType": "Encounter", "id": "stay", "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/ada"}, "period": {"end": end}
    });
    put(house, "/fhir/r4/Encounter/stay", &stay).await;
}

/// What somebody sends to our number, as the provider brings it: what they are answered.
async fn says(house: &House, provider: &Provider, sid: &str, text: &str) -> String {
    let heard = exchange::SMS_HEARD_PATH;
    let form = [
        ("From", "+16175550142"),
        ("To", "+16175550100"),
        ("Body", text),
        ("MessageSid", sid),
    ];
    assert_eq!(posted(house, heard, &form, "bm8=").await.status(), 403);
    let signature = provider.sign(heard, &form).await;
    let told = posted(house, heard, &form, &signature).await;
    assert_eq!(told.status(), 200);
    told.text().await.expect("a body")
}

/// How many tasks of these words are open.
async fn open(house: &House, words: &str) -> usize {
    let found = got(house, "/fhir/r4/Task?patient=ada&status=requested").await;
    let all = found["entry"].as_array().cloned().unwrap_or_default();
    let tasks = all.iter().map(|one| &one["resource"]);
    tasks.filter(|task| task["description"] == words).count()
}

async fn until_open(house: &House, words: &str) {
    let mut patience = Patience::new();
    while open(house, words).await == 0 {
        patience.wait(&format!("there is no task {words:?}")).await;
    }
}

async fn house_of(provider: &Provider) -> House {
    house_with(|options| {
        let mut sms = provider.options();
        sms.magic_links = true;
        options.sms = Some(sms);
        options.public_url = Some(BASE.to_owned());
    })
    .await
}

#[tokio::test]
async fn a_reply_leads_the_journey_on_and_what_is_none_comes_to_somebody() {
    let provider = Provider::start().await;
    let house = house_of(&provider).await;
    begins(&house, SOURCE).await;
    let message = provider.wait_for(1).await.remove(0);
    let body = message["Body"].as_str().expect("a text");
    assert!(
        body.starts_with(
            "Did you go out today? Reply YES or NO, or use https://care.example/sign-in/link/"
        ),
        "{body}"
    );
    for planted in ["Ada", "Thornbury", "5550142", "Follow-up"] {
        assert!(!body.contains(planted), "{planted} in {body}");
    }
    // The link's random letters may hold any four digits.
    let (words, _) = body.split_once("https://").expect("a link");
    assert!(!words.contains("1941"), "{words}");

    let said = says(&house, &provider, "SM1", "I have pain in my chest").await;
    assert!(
        said.contains("<Message>Please reply YES or NO. Nobody reads this number.</Message>"),
        "{said}"
    );
    until_open(&house, "Read a text message").await;
    // Brought again it is the same, and one task.
    says(&house, &provider, "SM1", "I have pain in my chest").await;
    let said = says(&house, &provider, "SM2", "yes").await;
    assert!(said.contains("<Response></Response>"), "{said}");
    assert!(
        says(&house, &provider, "SM2", "yes")
            .await
            .contains("<Response></Response>")
    );
    until_open(&house, "Say well done").await;
    assert_eq!(open(&house, "Read a text message").await, 1);
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
    // What comes after it changes no answer, and somebody reads it; the same once more needs nobody.
    let late = "Read a text message from the patient";
    let said = says(&house, &provider, "SM4", "YES!").await;
    assert!(said.contains("<Response></Response>"), "{said}");
    assert_eq!(open(&house, late).await, 0);
    let said = says(&house, &provider, "SM3", "no").await;
    assert!(
        said.contains("<Message>Nobody reads this number.</Message>"),
        "{said}"
    );
    let found = got(&house, "/fhir/r4/QuestionnaireResponse?patient=ada").await;
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1));
    assert_eq!(open(&house, late).await, 1);

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

/// Asks with options that count, and once more.
const SCORED: &str = "name: mornings
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
start: stairs
steps:
  stairs:
    title: Stairs
    ask:
      title: Stairs
      words: Please tell us how the stairs were.
      questions:
        - {id: stairs, text: How were the stairs?, type: choice, options: {easy: Easy, slow: Slow, none: Could not}, weights: {easy: 0, slow: 2, none: 5}}
      scores: {effort: {formula: stairs * 2}}
      channels: [sms, portal]
      sms: {words: 'How were the stairs today? Reply with the number, or use {link}'}
      reply: {again: 'Please reply 1, 2 or 3.'}
      give_up_after: 2d
    answered: decide
    no_answer: silent
    unclear: read
  decide:
    title: How much?
    branch:
      cases: [{when: stairs.effort >= 4, next: look}]
      otherwise: end
  look:
    title: Look
    task: {title: Look after them, reason: The stairs were hard., role: coordinator, due: 1d}
    next: again
    overdue: {role: clinician, priority: urgent}
  again:
    title: Stairs again
    ask:
      title: Stairs again
      words: Please tell us how the stairs were.
      questions: [{id: better, text: Were they easier?, type: yes-no}]
      channels: [sms, portal]
      sms: {words: 'Were the stairs easier? Reply YES or NO, or use {link}'}
      reply: {again: Please reply YES or NO.}
      give_up_after: 2d
    answered: end
    no_answer: silent
    unclear: read
  silent:
    title: No word
    task: {title: Call them, reason: No answer came., role: coordinator, due: 1d}
    next: end
    overdue: {role: clinician, priority: urgent}
  read:
    title: Read it
    task: {title: Read a text message, reason: The patient wrote back., role: coordinator, due: 1d}
    next: end
    overdue: {role: clinician, priority: urgent}
";

/// What is answered is counted, and decided by; each answer is on the patient's timeline and in the audit; and where none
/// comes in time the journey goes the way for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_score_by_reply_decides_and_silence_goes_its_way() {
    let provider = Provider::start().await;
    let house = house_of(&provider).await;
    begins(&house, SCORED).await;
    let message = provider.wait_for(1).await.remove(0);
    let body = message["Body"].as_str().expect("a text");
    assert!(
        body.ends_with("\n1 = Easy\n2 = Slow\n3 = Could not"),
        "{body}"
    );
    // What is none of the options is told so, and read by somebody.
    let said = says(&house, &provider, "SM1", "4").await;
    assert!(said.contains("Please reply 1, 2 or 3."), "{said}");
    until_open(&house, "Read a text message").await;
    assert!(
        says(&house, &provider, "SM2", "2")
            .await
            .contains("<Response></Response>")
    );
    until_open(&house, "Look after them").await;
    let found = got(&house, "/fhir/r4/QuestionnaireResponse?patient=ada").await;
    let response = &found["entry"][0]["resource"];
    let chosen = &response["item"][0]["answer"][0]["valueCoding"];
    assert_eq!(chosen["code"], "slow", "{response}");
    let mode = &response["extension"][0]["valueCodeableConcept"]["coding"][0];
    assert_eq!(mode["code"], "SMSWRIT", "{response}");

    // Who sees the patient's record sees what was asked, what came, and what became of it.
    let Who::Person { cookie, .. } = person(&house, trust::Role::Clinician).await else {
        panic!("nobody is signed in");
    };
    let at = |path: &str| format!("http://{}{path}", house.server.address());
    let page = house.http.get(at("/console/patients/ada"));
    let page = page
        .header("cookie", format!("__Host-cairn={cookie}"))
        .send();
    let page = page.await.expect("an answer");
    let page = page.text().await.expect("a body");
    for shown in [
        "A text message from the patient",
        "No answer to the question",
        "An answer",
        "The patient replied with what is no answer",
        "Slow",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let officer = token(&house.server, trust::Role::PrivacyOfficer).await;
    let audit = "/fhir/r4/AuditEvent?patient=Patient/ada&_count=500";
    let audit = house.http.get(at(audit)).bearer_auth(officer);
    let audit = audit.header("x-purpose-of-use", "HOPERAT").send().await;
    let audit = audit.expect("an answer").text().await.expect("a body");
    for noted in [
        "sms-receiver",
        "form answered by text message",
        "a text message that is no answer to its question",
        "is handed over",
    ] {
        assert!(audit.contains(noted), "{noted}");
    }
    for planted in ["5550142", "Thornbury"] {
        assert!(!audit.contains(planted), "{planted}");
    }

    // The second question leaves once nothing can be meant for the first any more, and nobody answers it.
    let found = got(&house, "/fhir/r4/Task?patient=ada&status=requested").await;
    let tasks = found["entry"].as_array().expect("tasks");
    let mut look = (tasks.iter().map(|one| &one["resource"]))
        .find(|task| task["description"] == "Look after them")
        .expect("a task")
        .clone();
    look["status"] = json!("completed");
    let path = format!("/fhir/r4/Task/{}", look["id"].as_str().expect("an id"));
    house.clock.set(NOON_MS + 3_600_000);
    let done = house.http.put(at(&path)).bearer_auth(&house.token);
    let done = done.header("content-type", "application/fhir+json");
    let done = done.body(look.to_string()).send().await;
    assert_eq!(done.expect("an answer").status(), 200);
    let message = provider.wait_for(2).await.remove(1);
    let body = message["Body"].as_str().expect("a text");
    assert!(body.starts_with("Were the stairs easier?"), "{body}");
    assert_eq!(open(&house, "Call them").await, 0);
    house.clock.set(NOON_MS + 3 * 86_400_000);
    until_open(&house, "Call them").await;
    // What comes then changes nothing, and is read.
    let said = says(&house, &provider, "SM3", "yes").await;
    assert!(said.contains("Nobody reads this number."), "{said}");
    assert_eq!(
        open(&house, "Read a text message from the patient").await,
        1
    );
    let found = got(&house, "/fhir/r4/QuestionnaireResponse?patient=ada").await;
    assert_eq!(found["entry"].as_array().map(Vec::len), Some(1));
    house.end().await;
}

/// What is sent to a number that is two organisations' is brought to one of them, so neither asks what is answered so.
#[tokio::test(flavor = "multi_thread")]
async fn two_organisations_with_one_number_ask_nobody_by_reply() {
    let provider = Provider::start().await;
    for (other, expected) in [("+16175550178", true), ("16175550177", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, number) in [("south", "+16175550177"), ("north", other)] {
            let own = format!("sms_from = \"{number}\"\n");
            std::fs::write(folder.path().join(format!("{name}.toml")), own).expect("written");
        }
        let two = Two::with(|options| {
            options.sms = Some(provider.options());
            options.tenants_folder = Some(folder.path().to_owned());
        })
        .await;
        for host in [SOUTH, NORTH] {
            two.until(host, "/fhir/r4/metadata", 200).await;
        }
        for tenant in [cairn::store::TENANT, two.north] {
            let trust = two.server.trust_of(tenant).expect("a tenant");
            assert_eq!(trust.vault().texts().replies, expected, "{other}");
        }
        two.end().await;
    }
}

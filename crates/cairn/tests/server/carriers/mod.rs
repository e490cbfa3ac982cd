//! Planted details of patients, crossed with every way by which something leaves: a name, a birth date, a number, a
//! diagnosis, a medication and an answer stand in the record and in each variable and word that a journey may use. What
//! leaves is looked at as its receiver had it, outside and opened, and holds none of them but what its receiver is
//! cleared for. So do the log, the metrics and what is said of failures.

mod looks;
mod printer;
mod sources;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use exchange::{MailOptions, MailTls, PushOptions, PushServices, TelehealthPlace};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use trust::Role;
use trust::conventions::by_video;

use crate::apps::Browser;
use crate::calls::Partner;
use crate::centre::Centre;
use crate::house::{House, NOON_MS, house_with, put, token};
use crate::patience::{Patience, found};
use crate::peer::Peer;
use crate::provider::Provider;
use crate::push::turns_on;
use crate::push_apps::{let_in, said, says};
use crate::pusher::{Pusher, Subscribed};
use crate::telephones::Telephones;
use looks::{Left, Listener, Log};
use printer::Printer;
use sources::{booked, called, told};

const GIVEN: &str = "Quibblethorpe";
const FAMILY: &str = "Zyxwvanary";
const BORN: &str = "1931-07-23";
const NUMBER: &str = "9988776655";
const STREET: &str = "Canary Crescent";
const DIAGNOSIS: &str = "Plinthopathy";
const MEDICATION: &str = "Vexatrexine";
const ANSWER: &str = "Gloomfizzle";
const PLANTED: [&str; 8] = [
    GIVEN, FAMILY, BORN, NUMBER, STREET, DIAGNOSIS, MEDICATION, ANSWER,
];
/// What a message says behind a sign-in, and in a sealed envelope.
const SAID: [&str; 5] = [GIVEN, FAMILY, DIAGNOSIS, MEDICATION, ANSWER];
const APPLICATION: &str = "cN0001:APA91bH-_xH-_xH-_xH-_xH-_xH-_xH-_x";
const SECRET: &str = "a secret that nobody guesses";
const JOIN: &str = "https://video.example.org/join";

/// Somebody with everything planted, reached by one channel.
async fn patient(house: &House, id: &str, number: usize) {
    let subject = json!({"reference": format!("Patient/{id}")});
    put(
        house,
        &json!({
            "resourceType": "Patient", "id": id, "birthDate": BORN,
            "name": [{"family": FAMILY, "given": [GIVEN]}],
            "identifier": [{"system": "urn:test:mrn", "value": NUMBER}],
            "telecom": [
                {"system": "email", "value": format!("{id}@example.com")},
                {"system": "phone", "use": "mobile", "value": format!("+1617555{:04}", 1000 + number)}
            ],
            "address": [{"use": "home", "line": [format!("7 {STREET}")], "city": "Ashbrook", "state": "MA", "postalCode": "01991", "country": "US"}]
        }),
    )
    .await;
    put(
        house,
        &json!({"resourceType": "Condition", "id": format!("ill-{id}"), "subject": subject, "code": {"text": DIAGNOSIS}}),
    )
    .await;
    put(
        house,
        &json!({"resourceType": "MedicationRequest", "id": format!("pill-{id}"), "status": "active", "intent": "order",
            "subject": subject, "medicationCodeableConcept": {"text": MEDICATION}}),
    )
    .await;
    put(
        house,
        &json!({"resourceType": "Observation", "id": format!("weight-{id}"), "status": "final", "subject": subject,
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}], "text": DIAGNOSIS},
            "effectiveDateTime": "2026-02-01", "note": [{"text": MEDICATION}]}),
    )
    .await;
}

/// A stay is over that begins the journey of a channel.
async fn leaves(house: &House, id: &str, channel: &str) {
    let end = fhir::date::instant(NOON_MS - 3_600_000);
    put(
        house,
        &json!({
            "resourceType": "Encounter", "id": format!("stay-{id}"), "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
            "subject": {"reference": format!("Patient/{id}")}, "period": {"end": end},
            "reasonCode": [{"coding": [{"system": "http://example.org", "code": channel}], "text": DIAGNOSIS}]
        }),
    )
    .await;
}

/// The first that a search finds in which a text stands.
async fn one(house: &House, query: &str, holds: &str) -> Option<Value> {
    let asked = house.asked(Method::GET, &format!("/fhir/r4/{query}"));
    let answer = asked.send().await.expect("an answer");
    let found: Value = answer.json().await.expect("JSON");
    let entries = found["entry"].as_array().into_iter().flatten();
    let mut all = entries.map(|entry| entry["resource"].clone());
    all.find(|resource| resource.to_string().contains(holds))
}

/// The form is there, and answered with what is planted.
async fn answers(house: &House, id: &str) {
    let query = format!("Task?patient=Patient/{id}&code=complete-questionnaire");
    let form = found("the form", async || one(house, &query, "").await).await;
    let mut done = form.clone();
    done["status"] = json!("completed");
    let who = json!({"reference": format!("Patient/{id}")});
    let answered = json!({
        "resourceType": "QuestionnaireResponse", "status": "completed", "authored": fhir::date::instant(NOON_MS),
        "identifier": {"system": "urn:cairn:task", "value": form["id"]},
        "questionnaire": form["input"][0]["valueCanonical"], "subject": who, "source": who,
        "item": [{"linkId": "note", "answer": [{"valueString": ANSWER}]}]
    });
    let task = format!("Task/{}", form["id"].as_str().expect("an id"));
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": answered, "request": {"method": "POST", "url": "QuestionnaireResponse"}},
        {"resource": done, "request": {"method": "PUT", "url": task}}
    ]});
    let sent = house.sent(Method::POST, "/fhir/r4", &bundle).send().await;
    let answer = sent.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
}

async fn publish(house: &House, squad: &str, source: &str) -> (u16, String) {
    let asked = house.bare(Method::POST, "/api/journeys").bearer_auth(squad);
    let answer = asked
        .body(source.to_owned())
        .send()
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

fn mail(peer: &Peer) -> MailOptions {
    MailOptions {
        host: "127.0.0.1".to_owned(),
        port: peer.port,
        tls: MailTls::None,
        credentials: None,
        from: "Northmoor General <care@hospital.example>".to_owned(),
        message_id_domain: "hospital.example".to_owned(),
        portal_base: String::new(),
        timeout_ms: 20_000,
        parallel: 4,
        magic_links: true,
        ca_file: None,
        meter: exchange::Meter::default(),
        dkim: None,
        returns: None,
    }
}

fn partners(rides: &Partner) -> String {
    let port = rides.port;
    let bound = "contract = 'baa'\nuntil = '2099-12-31'\npurposes = ['TREAT']\n";
    format!(
        "[[partner]]\nname = 'printer'\ntitle = 'Printer'\ncarries = ['letters', 'calls']\ndata = ['identity', 'contact', 'health']\n{bound}\
         [[partner]]\nname = 'rides'\ntitle = 'Rides'\nbase = 'http://127.0.0.1:{port}'\ndata = ['identity', 'contact']\n{bound}\
         [[partner]]\nname = 'video'\ntitle = 'Video'\nbase = 'https://video.example.org'\ndata = ['health']\n{bound}"
    )
}

/// The whole of a mail: what its server noted, and the mail as it came.
fn mails(peer: &Peer, to: &str) -> Option<String> {
    let all = peer.seen();
    let mut all = all.iter().filter(|mail| mail.to() == to);
    let mail = all.next_back()?;
    let raw = String::from_utf8(mail.raw()).expect("UTF-8");
    let mut noted = mail.0.clone();
    noted["raw"] = Value::Null;
    Some(format!("{noted}\n{raw}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_reaches_nobody_who_is_not_cleared_for_it() {
    let log = Log::start();
    let (peer, provider, pusher) = (
        Peer::start(&[]).await,
        Provider::start().await,
        Pusher::start().await,
    );
    let (telephones, printer) = (Telephones::start().await, Printer::new().await);
    let (listener, origin) = Listener::start().await;
    let (folder, own) = (
        crate::policies::folder(),
        tempfile::tempdir().expect("a folder"),
    );
    let rides = Partner::start(own.path());
    crate::policies::put(&folder, "partners.toml", &partners(&rides));
    let house = house_with(|options| {
        options.organisation = "Northmoor General".to_owned();
        options.mail = Some(mail(&peer));
        options.sms = Some({
            let mut sms = provider.options();
            sms.magic_links = true;
            sms
        });
        options.push = Some(PushOptions {
            services: PushServices::parse(&pusher.origin()).expect("a list"),
            contact: Some("mailto:it@hospital.example".to_owned()),
            sender: String::new(),
            ..telephones.options()
        });
        options.files = vec![printer.letters(), printer.calls()];
        options.policy_folder = Some(folder.path().to_owned());
        options.subscription_origins.clone_from(&origin);
        options.telehealth = Some(TelehealthPlace {
            join_url: JOIN.to_owned(),
            audience: None,
            partner: "video".to_owned(),
            secret: SECRET.to_owned(),
        });
    })
    .await;
    let squad = token(&house.server, Role::Squad).await;
    let asked = json!({"resourceType": "Subscription", "status": "requested", "reason": "a test",
        "criteria": "Observation?code=http://loinc.org|29463-7", "channel": {"type": "rest-hook", "endpoint": format!("{origin}/hook")}});
    let subscribed = house
        .sent(Method::POST, "/fhir/r4/Subscription", &asked)
        .send()
        .await;
    assert_eq!(subscribed.expect("an answer").status(), 201);

    let channels = ["email", "sms", "push", "letter", "voice", "portal"];
    let mut sources: Vec<(&str, String)> = channels.map(|one| (one, told(one))).into();
    sources.extend([("calendar", booked()), ("call", called())]);
    let mut browser = None;
    for (number, (channel, source)) in sources.iter().enumerate() {
        let (status, words) = publish(&house, &squad, source).await;
        assert_eq!(status, 200, "{channel}: {words}");
        let id = format!("p-{channel}");
        patient(&house, &id, number).await;
        if *channel == "push" {
            browser = Some(devices(&house, &pusher, &id).await);
        }
        leaves(&house, &id, channel).await;
        if *channel != "calendar" {
            answers(&house, &id).await;
        }
    }
    let browser = browser.expect("a browser");
    let mut left = Left::default();
    by_message(&house, &peer, &mut left).await;

    let text = provider.wait_for(1).await;
    left.by(
        "a text message by HTTP",
        "/sign-in/link/",
        &[],
        format!("{text:?}"),
    );
    let notified = found("the browser is told", async || {
        pusher.read(&browser).await.pop()
    })
    .await;
    left.by(
        "a notification, opened by its browser",
        "Northmoor General",
        &[],
        notified.to_string(),
    );
    left.by(
        "a notification, as its push service has it",
        &browser.hash,
        &[],
        format!("{:?}", pusher.heard()),
    );
    let google = telephones.wait_for("fcm", 1).await;
    left.by(
        "a notification by FCM",
        "Northmoor General",
        &[],
        format!("{google:?}"),
    );
    let apple = telephones.wait_for("apns", 1).await;
    left.by(
        "a notification by APNs",
        "Northmoor General",
        &[],
        format!("{apple:?}"),
    );
    for (name, cleared) in [("letters", &SAID[..]), ("calls", &[][..])] {
        let outside = found(name, async || printer.outside(name)).await;
        left.by(
            &format!("{name}, sealed"),
            "age-encryption.org",
            &[],
            outside,
        );
        let shows = if name == "letters" {
            DIAGNOSIS
        } else {
            "+1617555100"
        };
        // An envelope has an address.
        let cleared = [cleared, if name == "letters" { &[STREET] } else { &[] }].concat();
        left.by(
            &format!("{name}, opened"),
            shows,
            &cleared,
            printer.opened(name).await,
        );
    }
    let called = found("the call", async || rides.got().pop()).await;
    left.by("a call to a partner", FAMILY, &[FAMILY], called.to_string());
    let heard = found("the hint", async || {
        listener.0.lock().expect("a lock").first().cloned()
    })
    .await;
    left.by("a notification of a subscription", "/hook", &[], heard);
    behind(&house, &mut left).await;
    video(&house, &mut left).await;
    errors(&house, &squad, &mut left).await;

    let metrics = house.bare(Method::GET, "/metrics").send().await;
    let metrics = metrics.expect("an answer").text().await.expect("text");
    left.by("the metrics", "push_sent_total", &[], metrics);
    house.end().await;
    left.by("the log", "cairn", &[], log.text());
    left.is_clean();
}

/// E-mail, and an entry for a calendar, which follows the visit.
async fn by_message(house: &House, peer: &Peer, left: &mut Left) {
    let mail = found("the mail", async || mails(peer, "p-email@example.com")).await;
    left.by("an e-mail", "/sign-in/link/", &[], mail);
    let query = "Appointment?patient=Patient/p-calendar";
    let mut visit = found("the visit", async || one(house, query, "").await).await;
    visit["status"] = json!("booked");
    for participant in visit["participant"].as_array_mut().expect("participants") {
        participant["status"] = json!("accepted");
    }
    put(house, &visit).await;
    let mail = found("the entry", async || mails(peer, "p-calendar@example.com")).await;
    left.by("an entry for a calendar", "text/calendar", &[], mail);
}

/// The devices of a patient: a browser, and an application by both services.
async fn devices(house: &House, pusher: &Pusher, id: &str) -> Subscribed {
    let identity = house.server.trust().identity();
    let link = identity
        .make_link(&crate::apps::agent(Role::Coordinator), id, 3_600, true)
        .await;
    let tenant = cairn::store::TENANT;
    let signed = identity
        .use_link(tenant, &link.expect("a link"), BORN)
        .await;
    let who = crate::routes::session(signed.expect("signed in"));
    let subscribed = turns_on(house, pusher, &who).await;
    let mut browser = Browser::patient(house, id, BORN).await;
    let scope = "launch/patient offline_access patient/Communication.rs";
    let access = let_in(&mut browser, house, scope).await;
    for body in [said("fcm", APPLICATION), said("apns", &"ab".repeat(32))] {
        let answer = says(house, Some(&access), &body).await;
        assert_eq!(answer.status(), 200, "{body}");
    }
    subscribed
}

/// The portal: what it shows to whoever has no session, and to the patient.
async fn behind(house: &House, left: &mut Left) {
    let query = "Communication?subject=Patient/p-portal&status=completed";
    let message = found("the inbox", async || one(house, query, ANSWER).await).await;
    let id = message["id"].as_str().expect("an id");
    let path = format!("/portal/inbox/{id}");
    let identity = house.server.trust().identity();
    let secret = identity
        .make_link(
            &crate::apps::agent(Role::Coordinator),
            "p-portal",
            3_600,
            true,
        )
        .await;
    let mut stranger = Browser::new(house);
    let (bare, linked) = (
        stranger.get(&path).await,
        stranger
            .get(&format!("/sign-in/link/{}", secret.expect("a link")))
            .await,
    );
    let outside = format!("{} {} {}", bare.location, bare.body, linked.body);
    left.by("the portal before the sign-in", "Is it you?", &[], outside);
    let mut own = Browser::patient(house, "p-portal", BORN).await;
    let page = own.get(&path).await;
    let head = page
        .body
        .split("<main")
        .next()
        .unwrap_or_default()
        .to_owned();
    let title = head.split("<title>").nth(1).unwrap_or_default();
    let title = title
        .split("</title>")
        .next()
        .unwrap_or_default()
        .to_owned();
    left.by("the portal, signed in", ANSWER, &SAID, page.body);
    left.by(
        "the title and address of a page",
        "/portal",
        &[],
        format!("{title} {path}"),
    );
}

/// The link of a visit by video, and what the place is told that redeems it.
async fn video(house: &House, left: &mut Left) {
    put(
        house,
        &json!({
            "resourceType": "Appointment", "id": "visit", "status": "booked", "description": DIAGNOSIS,
            "reasonCode": [{"text": DIAGNOSIS}], "extension": by_video(),
            "start": fhir::date::instant(NOON_MS), "end": fhir::date::instant(NOON_MS + 1_800_000),
            "participant": [{"actor": {"reference": "Patient/p-portal"}, "status": "accepted"}]
        }),
    )
    .await;
    let mut own = Browser::patient(house, "p-portal", BORN).await;
    let csrf = own.get("/portal/visits/visit").await.field("csrf");
    let led = own
        .post("/portal/visits/visit/join", &[("csrf", &csrf)])
        .await;
    let token = led
        .location
        .split("#token=")
        .nth(1)
        .expect("a token")
        .to_owned();
    let claims = token.split('.').nth(1).expect("claims");
    let claims = URL_SAFE_NO_PAD.decode(claims);
    let claims = String::from_utf8(claims.expect("base 64")).expect("UTF-8");
    left.by(
        "a link to a visit by video",
        JOIN,
        &[],
        format!("{} {claims}", led.location),
    );
    let asked = house
        .bare(Method::POST, "/channels/telehealth/redeem")
        .bearer_auth(SECRET);
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    let told = asked
        .body(format!("token={token}"))
        .send()
        .await
        .expect("an answer");
    left.by(
        "what the place of a visit is told",
        "guest",
        &[],
        told.text().await.expect("text"),
    );
}

/// Every open place of a journey refuses every variable that tells something, and says so without a value; and a partner
/// isn't told what it isn't cleared for. So do requests that fail with what is planted in them.
async fn errors(house: &House, squad: &str, left: &mut Left) {
    let mut said = String::new();
    let variables = [
        "patient.given|x",
        "patient.family|x",
        "ask.note|x",
        "journey.title",
        "owner",
        "discharge.day|x",
    ];
    for (channel, place) in [
        ("email", "email: {subject: 'News @', text: 'See {link}'}"),
        (
            "email",
            "email: {subject: News, text: 'News @, see {link}'}",
        ),
        ("sms", "sms: {words: 'News @: {link}'}"),
        ("voice", "voice: {words: 'News @.'}"),
    ] {
        for variable in variables {
            let place = place.replace('@', &format!("{{{variable}}}"));
            let source = told(channel).replace(
                "      expires: 48h\n",
                &format!("      {place}\n      expires: 48h\n"),
            );
            let (status, words) = publish(house, squad, &source).await;
            assert!((400..500).contains(&status), "{place}: {status} {words}");
            let name = variable.trim_end_matches("|x");
            assert!(words.contains(name), "{name} is not named: {words}");
        }
        // Without one it is taken.
        let place = place.replace(" @", "");
        let source = told(channel).replace(
            "      expires: 48h\n",
            &format!("      {place}\n      expires: 48h\n"),
        );
        let (status, words) = publish(house, squad, &source).await;
        assert_eq!(status, 200, "{place}: {words}");
    }
    // Nor is a task called by something that is a patient's, in the lists of staff and of other systems.
    let titled = format!("title: Work on {DIAGNOSIS}");
    for source in [
        called().replace("name: {patient: family}", "name: {learnt: ask.note}"),
        told("portal").replace(&titled, "title: \"Work on {patient.family|x}\""),
    ] {
        let (status, words) = publish(house, squad, &source).await;
        assert!((400..500).contains(&status), "{status} {words}");
    }
    for (method, path) in [
        (
            Method::GET,
            format!("/fhir/r4/Patient?family={FAMILY}&nonsense={GIVEN}"),
        ),
        (Method::GET, format!("/fhir/r4/Condition/{DIAGNOSIS}_!")),
        (Method::GET, format!("/fhir/r4/Patient?birthdate={BORN}x")),
        (Method::POST, format!("/channels/sms/status/{FAMILY}")),
        (
            Method::POST,
            format!("/channels/telehealth/redeem?token={ANSWER}"),
        ),
    ] {
        let answer = house.asked(method, &path).send().await.expect("an answer");
        assert!(answer.status().as_u16() >= 400, "{path}");
        said += &format!("{:?} ", answer.headers());
        said += &answer.text().await.expect("text");
    }
    left.by("what is said of failures", "OperationOutcome", &[], said);
}

/// By SMPP, where a server has that instead.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_reaches_no_message_centre() {
    let centre = Centre::start().await;
    let house = house_with(|options| {
        let mut sms = centre.options();
        sms.magic_links = true;
        options.sms = Some(sms);
    })
    .await;
    let squad = token(&house.server, Role::Squad).await;
    let (status, words) = publish(&house, &squad, &told("sms")).await;
    assert_eq!(status, 200, "{words}");
    patient(&house, "p-sms", 1).await;
    leaves(&house, "p-sms", "sms").await;
    answers(&house, "p-sms").await;
    let message = centre.wait_for(1).await.remove(0);
    let mut left = Left::default();
    left.by(
        "a text message by SMPP",
        "/sign-in/link/",
        &[],
        message.to_string(),
    );
    // In each alphabet that a text may be in.
    let mut octets = String::new();
    let mut patience = Patience::new();
    while octets.is_empty() {
        for one in centre.octets() {
            let wide = one.iter().filter(|one| **one != 0);
            octets.extend(one.iter().chain(wide).copied().map(char::from));
        }
        patience.wait("commands").await;
    }
    left.by("all commands of SMPP", "/sign-in/link/", &[], octets);
    house.end().await;
    left.is_clean();
}

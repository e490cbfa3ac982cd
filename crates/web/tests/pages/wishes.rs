//! Which messages a patient wants: said in the portal by the patient or by who acts for them, and written down by
//! clinicians.

use axum::http::StatusCode;
use fhir::{Resource, ResourceType};
use serde_json::json;
use trust::Agent;
use trust::consent::{Basis, Topic, Via, Wishes};
use trust::identity::NewProxy;

use crate::world::{Browser, Page, TENANT, World, check_html};

const PAGE: &str = "/portal/preferences/messages";
const USUAL: [(&str, &str); 4] = [
    ("visits", "usual"),
    ("forms", "usual"),
    ("care", "usual"),
    ("level", "all"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = USUAL.to_vec();
    for (name, value) in more {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    fields
}

/// Sends the form of a page as it is open now, with changes.
async fn save(browser: &mut Browser, page: &str, more: &[(&str, &str)]) -> Page {
    let version = browser.get(page).await.field("version");
    let mut fields = with(more);
    fields.push(("version", &version));
    browser.act(page, page, &fields).await
}

async fn wishes(world: &World, patient: &str) -> Wishes {
    let vault = world.trust.vault();
    vault.wishes(TENANT, patient).await.unwrap()
}

async fn kept(world: &World, patient: &str) -> Resource {
    let id = world.trust.vault().wishes_id(TENANT, patient);
    world.get(ResourceType::Basic, &id).await
}

/// Whether an option is the one that is chosen.
fn chosen(page: &Page, value: &str, of: &str) -> bool {
    let select = page.body.split(&format!("select name=\"{of}\"")).nth(1);
    let select = select.and_then(|rest| rest.split("</select>").next());
    select.is_some_and(|select| select.contains(&format!("value=\"{value}\" selected")))
}

// Proves: 45 CFR 164.522(b)(1)
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_says_which_messages_are_wanted() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lie").await;
    let mut own = world.patients_browser(&ida).await;
    own.get("/portal/preferences").await.shows(PAGE);
    let page = own.get(PAGE).await;
    check_html(PAGE, &page.body);
    for words in [
        "Which messages you want",
        "clinically urgent is sent at once",
        "It counts as soon as it is saved, also for messages that wait",
        "STOP sent from a telephone",
    ] {
        page.shows(words);
    }
    assert!(chosen(&page, "usual", "care"));
    assert!(!page.has("Last said"), "nothing was said yet");
    for address in ["somebody@example.com", "555 0100"] {
        assert!(!page.has(address), "{address}");
    }
    let more = [
        ("visits", "sms,email"),
        ("care", "inbox"),
        ("level", "important"),
        ("from", "20:30"),
        ("until", "07:00"),
    ];
    let done = save(&mut own, PAGE, &more).await;
    assert_eq!(done.location(), "/portal/preferences/messages?said=saved");
    let found = wishes(&world, &ida).await;
    assert_eq!(found.ways(Topic::Visits), Some(&[Via::Sms, Via::Email][..]));
    assert_eq!(found.ways(Topic::Care), Some(&[][..]));
    assert_eq!(found.ways(Topic::Forms), None);
    assert!(found.only_important());
    assert_eq!(wishes(&world, &olaf).await, Wishes::default());
    let page = own.get(done.location()).await;
    page.shows("It counts from now on, also for messages that wait.");
    page.shows("by you.");
    assert!(chosen(&page, "sms,email", "visits") && chosen(&page, "inbox", "care"));
    page.shows("value=\"20:30\"");
    check_html(PAGE, &page.body);
    // In the record it is a resource that others can read, with who said it; in the audit it is the patient's deed.
    let resource = kept(&world, &ida).await;
    let findings = fhir::validate::check(&resource);
    assert!(findings.is_empty(), "{findings:?}");
    let patient = format!("Patient/{ida}");
    assert_eq!(
        resource.text_at(&["author", "reference"]),
        Some(patient.as_str())
    );
    assert_eq!(
        resource.text_at(&["subject", "reference"]),
        Some(patient.as_str())
    );
    let events = world.all(ResourceType::AuditEvent, &ida).await;
    let told = format!("Basic/{}", resource.id().unwrap());
    let is_it = |event: &&Resource| {
        event.text_at(&["subtype", "0", "code"]) == Some("create")
            && event.as_value().to_string().contains(&told)
    };
    let said = events.iter().find(is_it).expect("an audit event of it");
    let who = said.text_at(&["agent", "0", "who", "reference"]);
    assert_eq!(who, Some(patient.as_str()), "{:?}", said.as_value());
    // Taken back, it says nothing, and its history stays.
    let done = save(&mut own, PAGE, &[]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(wishes(&world, &ida).await, Wishes::default());
    assert_eq!(
        kept(&world, &ida).await.text_at(&["meta", "versionId"]),
        Some("2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_nothing_is_refused_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut own = world.patients_browser(&ida).await;
    let long = "9".repeat(400);
    for wrong in [
        &[("visits", "fax")][..],
        &[("visits", "")],
        &[("care", "email,sms,email")],
        &[("care", "<script>alert(1)</script>")],
        &[("level", "none")],
        &[("level", "")],
        &[("from", "20:30")],
        &[("until", "20:30")],
        &[("from", "20:30"), ("until", "20:30")],
        &[("from", "08:00"), ("until", "07:00")],
        &[("from", "8"), ("until", "25:00")],
        &[("from", "'; drop"), ("until", "07:00\r\nX: y")],
        &[("from", long.as_str()), ("until", "07:00")],
    ] {
        let tried = save(&mut own, PAGE, wrong).await;
        assert_eq!(tried.status, StatusCode::BAD_REQUEST, "{wrong:?}");
        assert!(!tried.has("<script>alert"), "{}", tried.body);
    }
    for version in ["", "x", "-1", "7", "99999999999999"] {
        let mut fields = with(&[("care", "inbox")]);
        fields.push(("version", version));
        let tried = own.act(PAGE, PAGE, &fields).await;
        assert_eq!(tried.status, StatusCode::CONFLICT, "{version}");
    }
    for language in ["", "es", "<b>"] {
        let fields = [("do", "language"), ("language", language)];
        let tried = own.act(PAGE, PAGE, &fields).await;
        assert_eq!(tried.status, StatusCode::BAD_REQUEST, "{language}");
    }
    assert_eq!(wishes(&world, &ida).await, Wishes::default());
}

/// Of two who have the page open, the second is told that it changed meanwhile, and overwrites nothing.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_the_second_is_told() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let staff_page = format!("/console/patients/{ida}/messages");
    let mut own = world.patients_browser(&ida).await;
    let mut devi = world.staff("devi").await;
    let (seen, also_seen) = (own.get(PAGE).await, devi.get(&staff_page).await);
    check_html(&staff_page, &also_seen.body);
    also_seen.shows("Which messages the patient wants");
    let send = |page: &Page| [page.field("csrf"), page.field("version")];
    let [csrf, version] = send(&also_seen);
    let mut fields = with(&[("care", "sms")]);
    fields.extend([("csrf", csrf.as_str()), ("version", version.as_str())]);
    let done = devi.post(&staff_page, &fields).await;
    assert_eq!(done.location(), format!("{staff_page}?said=saved"));
    let [csrf, version] = send(&seen);
    let mut fields = with(&[("care", "inbox")]);
    fields.extend([("csrf", csrf.as_str()), ("version", version.as_str())]);
    let refused = own.post(PAGE, &fields).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.has("changed this while you had it open"));
    let found = wishes(&world, &ida).await;
    assert_eq!(found.ways(Topic::Care), Some(&[Via::Sms][..]));
    // They see who said it, and say it anew.
    own.get(PAGE).await.shows("by the care team.");
    let done = save(&mut own, PAGE, &[("care", "inbox")]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    devi.get(&staff_page).await.shows("by the patient.");
    // It is a clinician's to write down, of a patient who is there.
    let mut carla = world.staff("carla").await;
    assert_eq!(carla.get(&staff_page).await.status, StatusCode::FORBIDDEN);
    for path in [
        "/console/patients/nobody/messages",
        "/console/patients/%20/messages",
    ] {
        assert_eq!(devi.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(own.get(&staff_page).await.status, StatusCode::FORBIDDEN);
    assert_eq!(devi.get(PAGE).await.status, StatusCode::FORBIDDEN);
}

/// Who acts for a patient says it for that one, sees no address, and not where patients keep things to themselves.
// Proves: 45 CFR 164.502(g)(1)
#[tokio::test(flavor = "multi_thread")]
async fn who_acts_for_a_patient_says_it_for_that_one() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Lie").await;
    let proxy = crate::proxies::authorised(&world, &ida, "mona").await;
    let mut mona = crate::proxies::signed_in(&world, &proxy).await;
    mona.get("/portal").await.shows(PAGE);
    let page = mona.get(PAGE).await;
    check_html(PAGE, &page.body);
    for hidden in ["somebody@example.com", "555 0100", "Language of messages"] {
        assert!(!page.has(hidden), "{hidden}");
    }
    let done = save(&mut mona, PAGE, &[("forms", "inbox")]).await;
    assert_eq!(
        done.location(),
        format!("{PAGE}?said=saved"),
        "{}",
        done.body
    );
    let found = wishes(&world, &ida).await;
    assert_eq!(found.ways(Topic::Forms), Some(&[][..]));
    assert_eq!(wishes(&world, &olaf).await, Wishes::default());
    let by = format!("RelatedPerson/{proxy}");
    let resource = kept(&world, &ida).await;
    assert_eq!(
        resource.text_at(&["author", "reference"]),
        Some(by.as_str())
    );
    let mut own = world.patients_browser(&ida).await;
    own.get(PAGE)
        .await
        .shows("by somebody who acts for the patient.");
    // Who the patient is, and where they are reached, is none of theirs to change.
    let language = [("do", "language"), ("language", "en")];
    let tried = mona.act(PAGE, PAGE, &language).await;
    assert_eq!(tried.status, StatusCode::FORBIDDEN);
    assert_eq!(
        mona.get("/portal/preferences").await.status,
        StatusCode::FORBIDDEN
    );
    // At an age at which they keep something to themselves, it is theirs alone.
    let kim = world.new_patient_id();
    world
        .put(vec![json!({
            "resourceType": "Patient", "id": kim, "birthDate": "2013-01-05",
            "name": [{ "given": ["Kim"], "family": "Berg" }]
        })])
        .await;
    let parent = NewProxy {
        patient: kim.clone(),
        name: "Mona Berg".to_owned(),
        address: "parent@example.org".to_owned(),
        birth_date: "1984-05-06".to_owned(),
        basis: Basis::Parent,
        proof: "Birth certificate, seen at the desk".to_owned(),
        from: None,
        until: None,
        messages: false,
    };
    let identity = world.trust.identity();
    let operator = Agent::system(TENANT, "demo");
    let parent = identity.make_proxy(&operator, parent, "r").await.unwrap();
    let mut parent = crate::proxies::signed_in(&world, &parent).await;
    let refused = parent.get(PAGE).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.has("decides alone"), "{}", refused.body);
    let csrf = parent.get("/portal/weight").await.field("csrf");
    let mut fields = with(&[("care", "inbox")]);
    fields.extend([("version", "0"), ("csrf", csrf.as_str())]);
    let refused = parent.post(PAGE, &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(wishes(&world, &kim).await, Wishes::default());
}

const SPANISH: &str = "name: news
title: News
owner: Team
purpose: TREAT
at_most: 30d
entry: {event: Procedure, where: status = 'completed', anchors: {done: performedDateTime}, within: 3d, per: event}
exits:
  death: {title: Died, event: Patient, where: deceased.exists()}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: tell
steps:
  tell:
    title: Tell
    send:
      title: News
      words: News for you.
      channels: [email, portal]
      translations: {es: {title: Noticias, words: Noticias para usted.}}
    next: end
    on_failure: end
";

/// The language of messages is one that there are messages in, and stands where FHIR has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_language_is_chosen_where_there_are_several() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let mut sam = world.staff("sam").await;
    let publish = "/console/journeys/publish";
    let done = sam
        .act(publish, publish, &[("source", SPANISH), ("do", "publish")])
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let mut own = world.patients_browser(&ida).await;
    let page = own.get(PAGE).await;
    page.shows("Language of messages");
    page.shows("Not chosen yet");
    let fields = [("do", "language"), ("language", "es")];
    let done = own.act(PAGE, PAGE, &fields).await;
    assert_eq!(
        done.location(),
        format!("{PAGE}?said=language"),
        "{}",
        done.body
    );
    let patient = world.get(ResourceType::Patient, &ida).await;
    let said = &patient.get("communication").unwrap()[0];
    assert_eq!(said["language"]["coding"][0]["code"], "es");
    assert_eq!(said["preferred"], true);
    let page = own.get(PAGE).await;
    page.shows("value=\"es\" lang=\"es\" selected");
    check_html(PAGE, &page.body);
    // Clinicians write it down as well.
    let staff_page = format!("/console/patients/{ida}/messages");
    let mut devi = world.staff("devi").await;
    let fields = [("do", "language"), ("language", "en")];
    let done = devi.act(&staff_page, &staff_page, &fields).await;
    assert_eq!(done.location(), format!("{staff_page}?said=language"));
    own.get(PAGE)
        .await
        .shows("value=\"en\" lang=\"en\" selected");
}

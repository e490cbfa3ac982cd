//! Accesses that no relationship on record explains: listed for privacy officers, closed with words, and told to
//! the patient.

use axum::http::StatusCode;
use fhir::ResourceType;
use ledger::{AuditDraft, Kind, Owner};
use serde_json::{Value, json};
use trust::{Action, Agent, Purpose, Target};

use crate::emergency::devi_s_agent;
use crate::world::{DAY_MS, TENANT, World, check_html};

const LIST: &str = "/console/unexplained";
const FOUND: &str = "She helped at the desk that morning";

/// Devi reads a patient's own resource; gives the id of the audit record.
pub(crate) async fn an_access(world: &World, patient: &str) -> String {
    let agent = devi_s_agent(world).await;
    let permit = world
        .trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let vault = world.trust.vault();
    let kind = ResourceType::Patient;
    vault.read(&permit, kind, patient).await.unwrap().unwrap();
    let reference = format!("Patient/{patient}");
    let audit = world.all(ResourceType::AuditEvent, &reference).await;
    let read = audit.iter().find(|event| {
        event.text_at(&["subtype", "0", "code"]) == Some("read")
            && event.members().get("agent").unwrap()[0]["altId"] == agent.id
    });
    read.unwrap().id().unwrap().to_owned()
}

/// Who Devi is, and a team of the patient's that she is in.
pub(crate) async fn in_team(world: &World, patient: &str) {
    let devi = devi_s_agent(world).await;
    in_team_of(world, patient, (&devi.id, "Practitioner/d")).await;
}

/// Who somebody is, by the id of their account, and a team of the patient's that they are in.
pub(crate) async fn in_team_of(world: &World, patient: &str, (account, is): (&str, &str)) {
    let operator = Agent::system(TENANT, "command-line");
    let permit = world
        .trust
        .decide(
            &operator,
            Purpose::Administration,
            Action::Administer,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let known_as = [is.to_owned()];
    let identity = world.trust.identity();
    identity
        .set_known_as(&permit, account, &known_as)
        .await
        .unwrap();
    world
        .put(vec![
            json!({"resourceType": "CareTeam", "id": world.id_of(patient), "status": "active",
            "subject": {"reference": format!("Patient/{patient}")},
            "participant": [{"member": {"reference": is}}]}),
        ])
        .await;
}

// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn each_is_listed_looked_into_once_and_told_to_the_patient() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let olaf = world.patient("Olaf", "Dahl").await;
    let mut priya = world.staff("priya").await;
    priya
        .get(LIST)
        .await
        .shows("No access waits for somebody to look into it.");

    let of_ida = an_access(&world, &ida).await;
    let of_olaf = an_access(&world, &olaf).await;
    in_team(&world, &olaf).await;
    let explained = an_access(&world, &olaf).await;
    assert_ne!(of_olaf, explained);

    let page = priya.get(LIST).await;
    check_html(LIST, &page.body);
    page.shows("2 accesses wait for somebody to look into them.");
    page.shows("Devi Rao");
    page.shows("To look into");
    let one = format!("{LIST}/{of_ida}/{ida}");
    page.shows(&one);
    page.shows(&format!("{LIST}/{of_olaf}/{olaf}"));
    assert!(!page.has(&explained), "what a relationship explains");
    // By patient, by person, by time, by what is said.
    let devi = devi_s_agent(&world).await;
    for (filter, ids) in [
        (format!("patient={ida}"), vec![&of_ida]),
        (format!("who={}", devi.id), vec![&of_ida, &of_olaf]),
        ("who=somebody".to_owned(), vec![]),
        ("told=unknown".to_owned(), vec![]),
        ("days=7".to_owned(), vec![&of_ida, &of_olaf]),
        ("state=closed".to_owned(), vec![]),
    ] {
        let page = priya.get(&format!("{LIST}?{filter}")).await;
        for id in [&of_ida, &of_olaf] {
            let listed = page.has(&format!("{LIST}/{id}/"));
            assert_eq!(listed, ids.contains(&id), "{filter}: {}", page.body);
        }
    }

    // The way to the access, and why it is here.
    let seen = priya.get(&one).await;
    check_html(&one, &seen.body);
    seen.shows(&format!("/console/audit/{of_ida}"));
    seen.shows("nothing on record said what Devi Rao had to do with this patient");
    seen.shows("care team");
    seen.shows("is now known as Practitioner/d");
    priya
        .get(&format!("/console/audit/{of_ida}"))
        .await
        .shows("nothing explains it");
    priya
        .get(&format!("/console/audit/{explained}"))
        .await
        .shows("explained by: care team CareTeam/");
    // What is no such access is not there.
    for nothing in [
        format!("{LIST}/{explained}/{olaf}"),
        format!("{LIST}/{of_ida}/{olaf}"),
    ] {
        let page = priya.get(&nothing).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{nothing}");
    }
    for user in ["devi", "carla", "sam", "ada", "bill"] {
        let mut browser = world.staff(user).await;
        for path in [LIST, &one] {
            let page = browser.get(path).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{user} {path}");
        }
    }

    // Words that say something, one of two outcomes, once, and by somebody who may.
    let review = format!("{one}/review");
    for fields in [
        vec![("words", FOUND)],
        vec![("outcome", "explained"), ("words", "  fine  ")],
        vec![("outcome", "perhaps"), ("words", FOUND)],
    ] {
        let refused = priya.act(&one, &review, &fields).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{fields:?}");
    }
    let fields = [("outcome", "explained"), ("words", FOUND)];
    let mut carla = world.staff("carla").await;
    let refused = carla.act("/console/worklist", &review, &fields).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let mut priya = world.staff("priya").await;
    let done = priya.act(&one, &review, &fields).await;
    assert_eq!(
        done.location(),
        format!("{LIST}?closed=yes"),
        "{}",
        done.body
    );
    let again = priya.act(LIST, &review, &fields).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.has("has been looked into already"), "{}", again.body);
    let open = priya.get(LIST).await;
    open.shows("1 access waits for somebody to look into it.");
    assert!(!open.has(&of_ida));
    let closed = priya.get(&format!("{LIST}?state=closed")).await;
    closed.shows(FOUND);
    closed.shows("1 access was looked into.");
    assert!(!closed.has(&format!("{LIST}/{of_olaf}")));

    // The audit has the verdict and no words; the patient reads both.
    let reference = format!("Patient/{ida}");
    let audit = world.all(ResourceType::AuditEvent, &reference).await;
    let text = |event: &fhir::Resource| Value::Object(event.members().clone()).to_string();
    assert!(audit.iter().all(|event| !text(event).contains(FOUND)));
    let noted = audit.iter().find(|event| {
        event.text_at(&["outcomeDesc"]) == Some(&format!("explained; record {of_ida}"))
    });
    assert!(noted.is_some(), "the review is in the audit");
    let mut own = world.patients_browser(&ida).await;
    let told = own.get("/portal/record").await;
    told.shows("No reason is on record.");
    told.shows(&format!("We looked into it and found a reason: “{FOUND}”"));
    let mut other = world.patients_browser(&olaf).await;
    let told = other.get("/portal/record").await;
    told.shows("Because they are in your care team.");
    assert!(!told.has(FOUND));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_and_what_was_not_counted_is_said() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let agent = devi_s_agent(&world).await;
    let permit = world
        .trust
        .decide(
            &agent,
            Purpose::Treatment,
            Action::Read,
            Target::default(),
            "r",
        )
        .await
        .unwrap();
    let vault = world.trust.vault();
    let read = async || {
        vault
            .read(&permit, ResourceType::Patient, &ida)
            .await
            .unwrap()
    };
    for _ in 0..60 {
        read().await;
    }
    // Long ago, all of them.
    world.clock.advance(8 * DAY_MS);
    let mut priya = world.staff("priya").await;
    let rows = |body: &str| body.matches("class=\"sentence\"").count();
    let first = priya.get(LIST).await;
    first.shows("60 accesses wait");
    assert_eq!(rows(&first.body), 50);
    let older = first.body.split(&format!("{LIST}?before=")).nth(1);
    let older = older.and_then(|rest| rest.split('"').next()).unwrap();
    let second = priya.get(&format!("{LIST}?before={older}")).await;
    second.shows("10 accesses wait for somebody to look into them, from this page back.");
    assert_eq!(rows(&second.body), 10);
    assert!(!second.has("Older"));
    let lately = priya.get(&format!("{LIST}?days=7")).await;
    lately.shows("No access waits");

    // A page looks at a thousand records, and says that it did not look at more.
    for _ in 0..trust::identity::LOOKED_AT_MAX - 50 {
        read().await;
    }
    let many = priya.get(LIST).await;
    many.shows("At least 1,000 accesses wait");
    many.shows("There may be more further back.");
    assert_eq!(rows(&many.body), 50);
    // None of another person's is among the first thousand: the next page goes on behind them.
    let none = priya.get(&format!("{LIST}?state=closed")).await;
    none.shows("No access so far was looked into.");
    none.shows("before=");
}

// Proves: 45 CFR 164.310(d)(2)(i)
#[tokio::test(flavor = "multi_thread")]
async fn the_words_end_with_the_patient_s_key_and_the_verdict_stays() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let (first, second) = (an_access(&world, &ida).await, an_access(&world, &ida).await);
    let mut priya = world.staff("priya").await;
    let one = |event: &str| format!("{LIST}/{event}/{ida}");
    let fields = [("outcome", "not-explained"), ("words", FOUND)];
    let done = priya
        .act(LIST, &format!("{}/review", one(&first)), &fields)
        .await;
    assert_eq!(done.location(), format!("{LIST}?closed=yes"));
    let closed = format!("{LIST}?state=closed");
    priya.get(&closed).await.shows(FOUND);
    let id = world.id_of(&ida);
    let record = AuditDraft {
        kind: Kind(ResourceType::AuditEvent.code()),
        shard: (world.ledger()).shard_of(TENANT, &Owner::Patient(ida.clone()), &id),
        body: format!("{{\"resourceType\":\"AuditEvent\",\"id\":\"{id}\"}}").into_bytes(),
        parts: Vec::new(),
        tokens: Vec::new(),
        id,
    };
    world
        .ledger()
        .destroy_patient_key(TENANT, &ida, record)
        .await
        .unwrap();
    let gone = priya.get(&closed).await;
    assert!(!gone.has(FOUND));
    gone.shows("Not explained");
    gone.shows("the words are gone for good");
    // What is still open can be closed, and says that the words were not kept.
    let done = priya
        .act(LIST, &format!("{}/review", one(&second)), &fields)
        .await;
    assert_eq!(done.location(), format!("{LIST}?closed=without"));
    priya
        .get(done.location())
        .await
        .shows("What you wrote could not be kept");
    priya.get(LIST).await.shows("No access waits");
}

/// Somebody of the role that a task waits for sees it and its patient by that; opening the record needs more, as
/// a task of their own.
// Proves: 45 CFR 164.308(a)(1)(ii)(D), 164.312(b)
#[tokio::test(flavor = "multi_thread")]
async fn work_explains_what_a_list_shows_and_a_task_of_one_s_own_the_record() {
    let world = World::new().await;
    let ida = world.patient("Ida", "Berg").await;
    let subject = json!({ "reference": format!("Patient/{ida}") });
    let weight = json!({ "resourceType": "Observation", "id": world.id_of(&ida), "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7" }] },
        "subject": subject, "effectiveDateTime": "2026-02-28T08:00:00Z",
        "valueQuantity": { "value": 80, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg" } });
    world.put(vec![weight]).await;
    let task = world.task(&ida, "urgent", "Call about weight").await;
    let mut priya = world.staff("priya").await;
    let mut carla = world.staff("carla").await;
    let mut count = async |words: &str| priya.get(LIST).await.shows(words);

    carla.get("/console/worklist").await.shows("Ida Berg");
    count("No access waits for somebody to look into it.").await;
    let reference = format!("Patient/{ida}");
    let told = async || {
        let events = world.all(ResourceType::AuditEvent, &reference).await;
        let told = events.iter().flat_map(trust::relations_told);
        told.map(|(_, told)| told).collect::<Vec<_>>()
    };
    let queue = format!("work list Task/{task}");
    assert!(told().await.contains(&queue), "{:?}", told().await);

    // The record itself has more than the list.
    let page = format!("/console/patients/{ida}");
    carla.get(&page).await.shows("Ida Berg");
    let listed = told().await.iter().filter(|one| *one == "none").count();
    assert!(listed > 0, "what nothing explains");
    let words = match listed {
        1 => "1 access waits".to_owned(),
        many => format!("{many} accesses wait"),
    };
    count(&words).await;

    // Once she has taken it on, it does; and so does what she writes.
    let claimed = carla
        .act(
            "/console/worklist",
            &format!("/console/tasks/{task}/claim"),
            &[],
        )
        .await;
    assert_eq!(claimed.status, StatusCode::SEE_OTHER, "{}", claimed.body);
    carla.get(&page).await.shows("Ida Berg");
    count(&words).await;
    let own = format!("task of theirs Task/{task}");
    assert!(told().await.contains(&own), "{:?}", told().await);
    let mut own_pages = world.patients_browser(&ida).await;
    own_pages
        .get("/portal/record")
        .await
        .shows("they took on something to do for you");
}

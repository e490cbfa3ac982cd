//! Ids of another tenant with credentials of one's own: on every route, they are ids that nobody has.

use std::collections::BTreeSet;

use cairn::store::TENANT;
use reqwest::Method;
use serde_json::json;
use trust::Role;
use trust::identity::NewAccount;

use crate::apps::PASSWORD;
use crate::routes::{Who, asked, guards};
use crate::tenants::{Answer, NORTH, SOUTH, Two, everybody};
use crate::tenants_credentials::{BORN, Held, turned};

/// What stands in all that is of the south, and nowhere else.
const THEIRS: &str = "Quibblewick";

/// An id of the south, and one like it that nobody has.
struct Id {
    theirs: String,
    never: String,
    /// What of a route it can stand for.
    stands_for: &'static [&'static str],
}

impl Id {
    fn named(theirs: &str, stands_for: &'static [&'static str]) -> Self {
        Self {
            theirs: theirs.to_owned(),
            never: theirs.replace("southern", "anywhere"),
            stands_for,
        }
    }
    fn minted(theirs: String, stands_for: &'static [&'static str]) -> Self {
        let never = turned(&theirs);
        Self {
            theirs,
            never,
            stands_for,
        }
    }
}

/// A record in the south.
async fn record(two: &Two, token: &str) {
    let subject = json!({"reference": "Patient/southern-p"});
    for mut resource in [
        json!({"resourceType": "Patient", "id": "southern-p", "birthDate": BORN, "name": [{"family": THEIRS}]}),
        json!({"resourceType": "Patient", "id": "p", "birthDate": BORN, "name": [{"family": THEIRS}]}),
        json!({"resourceType": "Observation", "id": "southern-o", "status": "final", "code": {"text": THEIRS}}),
        json!({"resourceType": "Communication", "id": "southern-m", "status": "completed", "topic": {"text": THEIRS}}),
        json!({"resourceType": "Task", "id": "southern-t", "status": "requested", "intent": "order", "description": THEIRS}),
        json!({"resourceType": "Appointment", "id": "southern-v", "status": "proposed", "description": THEIRS}),
    ] {
        match resource["resourceType"].as_str().expect("a type") {
            "Patient" => {}
            "Task" => resource["for"] = subject.clone(),
            "Appointment" => {
                resource["participant"] = json!([{"actor": subject, "status": "accepted"}]);
            }
            _ => resource["subject"] = subject.clone(),
        }
        two.put(SOUTH, token, &resource).await;
    }
}

async fn ids(two: &Two) -> Vec<Id> {
    let client = two.token(TENANT, Role::Client).await;
    record(two, &client).await;
    let as_client = Who::Token(client);
    let held = Held::of(two, TENANT).await;
    let account = NewAccount {
        tenant: TENANT,
        user_name: "southerner".to_owned(),
        name: THEIRS.to_owned(),
        role: Role::Coordinator,
        password: PASSWORD.to_owned(),
        patient: None,
    };
    let operator = trust::Agent::system(TENANT, "command-line");
    let trust = two.trust(TENANT);
    let account = trust.identity().create(&operator, account).await;
    let kicked = two
        .ask(SOUTH, &Method::GET, "/fhir/r4/$export", &as_client)
        .await;
    let place = kicked
        .headers
        .iter()
        .find(|(name, _)| name == "content-location");
    let job = place.and_then(|(_, place)| place.rsplit('/').next());
    let looked = two
        .ask(
            SOUTH,
            &Method::GET,
            "/portal/record?own=yes",
            &held.session(),
        )
        .await;
    let line = looked.body.split("href=\"/portal/record/").nth(1);
    let line = line.and_then(|rest| rest.split(['"', '/', '?']).next());
    let line = line.unwrap_or_else(|| panic!("no line: {looked:?}"));
    vec![
        Id::named("southern-p", &["Patient", "{id}", "{patient}"]),
        Id::named("southern-o", &["Observation"]),
        Id::named("southern-m", &["{id}"]),
        Id::named("southern-t", &["Task", "{task}", "{id}"]),
        Id::named("southern-v", &["{id}"]),
        Id::minted(account.expect("an id"), &["{id}"]),
        Id::minted(held.client, &["{id}", "{grant}"]),
        Id::minted(job.expect("a job").to_owned(), &["{job}"]),
        Id::minted(line.to_owned(), &["{id}", "{event}"]),
    ]
}

/// What can be done to an account, and to a task.
const DEEDS: [(&str, &[&str]); 2] = [
    (
        "/console/accounts/{id}/{deed}",
        &[
            "close",
            "reopen",
            "reset",
            "end-sessions",
            "password-off",
            "password-on",
            "link",
            "unlink",
        ],
    ),
    (
        "/console/tasks/{id}/{deed}",
        &["claim", "release", "done", "reopen"],
    ),
];
/// A form that has what those of most routes ask for, so that what is refused is refused for its id.
const FORM: &str = "kind=Patient&name=Berg&reason=Asked+for+by+phone&outcome=done&note=n&words=Looked+into&purposes=TREAT&\
                    contract=not-needed&issuer=https://issuer.example&subject=s&";
/// What some ask for besides, or in other words; what comes first counts.
const FORMS: [(&str, &str); 6] = [
    ("/console/emergencies/{id}/review", "outcome=justified&"),
    (
        "/console/unexplained/{event}/{patient}/review",
        "outcome=explained&",
    ),
    (
        "/console/patients/{id}/contact",
        "kind=email&address=mona@example.org&",
    ),
    (
        "/console/patients/{id}/messages",
        "version=0&visits=usual&forms=usual&care=inbox&level=all&",
    ),
    (
        "/console/patients/{id}/proxies",
        "basis=authorised&name=Mona&address=mona@example.org&birth_date=1984-05-06&proof=Signed&",
    ),
    ("/portal/visits/{id}", "answer=accept&"),
];

/// Where nobody learns whether there is such a one: what is deleted is gone, what is checked is the row that is sent,
/// of a patient who isn't there nothing is kept from anybody, and policies refuse whom they can't find.
const UNSAID: [&str; 8] = [
    "DELETE /fhir/r4/{type}/{id}",
    "GET /console/live/patients/{id}",
    "GET /console/patients/{id}/emergency",
    "GET /fhir/r4/{type}/{id}/$validate",
    "POST /console/patients/{id}/emergency",
    "POST /console/patients/{id}/proxies",
    "POST /console/patients/{id}/proxies/{proxy}/end",
    "POST /portal/proxies/{id}/end",
];

fn form_of(route: &str) -> String {
    let own = FORMS.iter().find(|(of, _)| *of == route);
    format!("{}{FORM}", own.map_or("", |(_, fields)| fields))
}

/// A route, once for each of its deeds.
fn with_deeds(route: &str) -> Vec<String> {
    let deeds = DEEDS.iter().find(|(of, _)| *of == route);
    let Some((_, deeds)) = deeds else {
        return vec![route.to_owned()];
    };
    let done = deeds.iter().map(|deed| route.replace("{deed}", deed));
    done.collect()
}

/// A route with an id in it, if it can stand there.
fn with(route: &str, id: &str, stands_for: &str) -> Option<String> {
    let path = if stands_for.starts_with('{') {
        if route.contains("{type}") || route.contains("{kind}") || !route.contains(stands_for) {
            return None;
        }
        route.replace(stands_for, id)
    } else {
        let typed = route
            .replace("{type}", stands_for)
            .replace("{kind}", stands_for);
        if typed == route || !typed.contains("{id}") {
            return None;
        }
        typed.replace("{id}", id)
    };
    Some(path)
}

fn as_if(answer: &Answer, id: &Id) -> Answer {
    let other = |text: &str| text.replace(&id.theirs, &id.never);
    let headers = answer.headers.iter();
    Answer {
        status: answer.status,
        headers: headers
            .map(|(name, value)| (name.clone(), other(value)))
            .collect(),
        body: other(&answer.body),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_anothers_ids_for_ones_that_nobody_has() {
    let two = Two::new().await;
    let own = two.token(two.north, Role::Client).await;
    let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": BORN});
    two.put(NORTH, &own, &patient).await;
    let ids = ids(&two).await;
    let everybody = everybody(&two, two.north).await;
    let is_enough = |role: &Role| !matches!(role, Role::Biller | Role::Squad);
    let who: Vec<_> = (everybody.iter().filter(|(role, _)| is_enough(role))).collect();
    let (mut tried, mut stood_for, mut differ) = (0, 0, Vec::new());
    let (mut all, mut for_the_id) = (BTreeSet::new(), BTreeSet::new());
    let guards = guards();
    for (route, guard) in &guards {
        let (method, template) = route.split_once(' ').expect("a method and a path");
        let method: Method = method.parse().expect("a method");
        // What is written under another's id is written anew; that is another test's.
        let is_safe = matches!(method, Method::GET | Method::DELETE)
            || (method == Method::POST && !template.starts_with("/fhir"));
        if !is_safe || template.contains("{secret}") {
            continue;
        }
        let templates = with_deeds(template);
        let each = ids.iter().flat_map(|id| {
            let names = id.stands_for.iter().map(move |name| (id, *name));
            names.flat_map(|(id, name)| templates.iter().map(move |route| (id, name, route)))
        });
        for (id, name, route) in each {
            let filled = |id: &str| {
                let path = with(route, id, name)?;
                let one = [(format!("{method} {path}"), guard.clone())].into();
                asked(&one, &["policy", "session", "public"]).pop()
            };
            let (Some((_, theirs)), Some((_, never))) = (filled(&id.theirs), filled(&id.never))
            else {
                continue;
            };
            stood_for += 1;
            let one = format!("{method} {route}");
            all.insert(one.clone());
            let form = (!template.starts_with("/fhir")).then(|| form_of(template));
            for (role, who) in &who {
                let asked = async |path| two.send(NORTH, &method, path, who, form.clone()).await;
                let (foreign, none) = (asked(&theirs).await, asked(&never).await);
                let same = as_if(&foreign, id);
                if same != none {
                    differ.push(format!("{method} {theirs} as {role:?}: {same:?}, {none:?}"));
                }
                let told = foreign.body.contains(THEIRS) || foreign.status.as_u16() >= 500;
                assert!(!told, "{method} {theirs}: {foreign:?}");
                let body = none.body.to_lowercase();
                if none.status == 404 || body.contains("no such") || body.contains("not found") {
                    for_the_id.insert(one.clone());
                }
                tried += 1;
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    // Somebody is refused for the id there, and not for what the form lacks or for a role.
    let otherwise: Vec<_> = all.difference(&for_the_id).map(String::as_str).collect();
    assert_eq!(otherwise, UNSAID);
    assert!(tried > 500 && stood_for > 100, "{tried} {stood_for}");
    // In the south they are there, so that the sameness means something.
    let south = Who::Token(two.token(TENANT, Role::Client).await);
    for path in [
        "Patient/southern-p",
        "Observation/southern-o",
        "Task/southern-t",
    ] {
        let path = format!("/fhir/r4/{path}");
        let there = two.ask(SOUTH, &Method::GET, &path, &south).await;
        assert!(
            there.status == 200 && there.body.contains(THEIRS),
            "{path}: {there:?}"
        );
    }
    two.end().await;
}

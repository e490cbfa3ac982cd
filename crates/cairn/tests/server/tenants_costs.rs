//! What is another tenant's costs the store as much work as what nobody has: look-ups are counted, because a clock
//! tells a difference of one of them only where it is lucky.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn::store::TENANT;
use ledger::{LookUps, TenantId};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use trust::Role;

use crate::apps::{BACK, VERIFIER, query};
use crate::routes::{Who, person_of};
use crate::tenants::{Answer, NORTH, SOUTH, Two};
use crate::tenants_credentials::{BORN, Held, form_of_link, link_of, never, numbered, turned};

/// What works besides requests looks into the store as well, so that of several tries the least counts.
const TRIES: usize = 12;

type Cost = BTreeMap<&'static str, u64>;

/// A request to north.
struct Try<'a> {
    method: Method,
    path: String,
    who: &'a Who,
    form: Option<String>,
}

impl<'a> Try<'a> {
    fn of(method: Method, path: &str, who: &'a Who) -> Self {
        let path = path.to_owned();
        let form = None;
        Self {
            method,
            path,
            who,
            form,
        }
    }

    fn form(path: &str, pairs: &[(&str, &str)]) -> Self {
        Self {
            method: Method::POST,
            path: path.to_owned(),
            who: &Who::Nobody,
            form: Some(query(pairs)),
        }
    }

    async fn send(&self, two: &Two) -> Answer {
        two.send(NORTH, &self.method, &self.path, self.who, self.form.clone())
            .await
    }
}

/// What each of two requests costs, asked by turns, and what is answered.
async fn costs(two: &Two, counts: &LookUps, tries: [&Try<'_>; 2]) -> [(Cost, Answer); 2] {
    let mut least: [Option<(Cost, Answer)>; 2] = [None, None];
    for _ in 0..TRIES {
        for (one, least) in tries.iter().zip(&mut least) {
            sleep(Duration::from_millis(10)).await;
            let before = counts.so_far();
            let answer = one.send(two).await;
            let mut cost = counts.so_far();
            for (what, count) in &mut cost {
                *count -= before.get(what).copied().unwrap_or_default();
            }
            if let Some((known, _)) = least {
                for (what, count) in &mut cost {
                    *count = (*count).min(known.get(what).copied().unwrap_or_default());
                }
            }
            *least = Some((cost, answer));
        }
    }
    least.map(|least| {
        let (mut cost, answer) = least.expect("a try");
        cost.retain(|_, count| *count > 0);
        (cost, answer)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_anothers_costs_as_much_as_what_nobody_has() {
    let counts = LookUps::default();
    let two = Two::counted(&counts).await;
    let south_client = two.token(TENANT, Role::Client).await;
    let client = Who::Token(two.token(two.north, Role::Client).await);
    let Who::Token(north_client) = &client else {
        unreachable!()
    };
    // Ids of south's, as long as those that nobody has.
    for (host, token, id) in [
        (SOUTH, &south_client, "p"),
        (SOUTH, &south_client, "southern"),
        (NORTH, north_client, "p"),
        (NORTH, north_client, "northern"),
    ] {
        let patient = json!({"resourceType": "Patient", "id": id, "birthDate": BORN,
            "identifier": [{"system": "urn:mrn", "value": format!("mrn-{id}")}],
            "name": [{"family": format!("Family-{id}")}]});
        two.put(host, token, &patient).await;
        let observation = json!({"resourceType": "Observation", "id": format!("o-{id}"), "status": "final",
            "code": {"text": "weight"}, "subject": {"reference": format!("Patient/{id}")}});
        two.put(host, token, &observation).await;
    }
    let south = Held::of(&two, TENANT).await;
    let north = Held::of(&two, two.north).await;
    let clinician = person_of(&two.trust(two.north), two.north, Role::Clinician).await;

    // Ids and values, which are looked up by those who may.
    let mut count = 0;
    let mut dearer = 0;
    for (method, path) in [
        (Method::GET, "/fhir/r4/Patient/ID"),
        (Method::GET, "/fhir/r4/Patient/ID/_history"),
        (Method::GET, "/fhir/r4/Patient/ID/_history/1"),
        (Method::GET, "/fhir/r4/Patient/ID/$everything"),
        (Method::GET, "/fhir/r4/Patient/ID/Observation"),
        (Method::GET, "/fhir/r4/Patient?_id=ID"),
        (Method::GET, "/fhir/r4/Patient?identifier=urn:mrn|mrn-ID"),
        (Method::GET, "/fhir/r4/Patient?family=Family-ID"),
        (Method::GET, "/fhir/r4/Observation/o-ID"),
        (Method::GET, "/fhir/r4/Observation?patient=ID"),
        (
            Method::GET,
            "/fhir/r4/Observation?subject:Patient.family=Family-ID",
        ),
        (
            Method::GET,
            "/fhir/r4/Patient?_id=ID&_revinclude=Observation:subject",
        ),
        (Method::DELETE, "/fhir/r4/Observation/o-ID"),
        (Method::GET, "/console/patients/ID"),
        (Method::GET, "/console/record/Observation/o-ID"),
        (Method::GET, "/console/live/patients/ID"),
    ] {
        let who = if path.starts_with("/fhir") {
            &client
        } else {
            &clinician
        };
        let at = |id: &str| Try::of(method.clone(), &path.replace("ID", id), who);
        let (foreign, unknown, own) = (at("southern"), at("suothern"), at("northern"));
        let [(cost, answer), (other, unknown)] = costs(&two, &counts, [&foreign, &unknown]).await;
        assert_eq!(cost, other, "{method} {path}");
        assert!(!cost.is_empty(), "{method} {path}");
        assert_eq!(answer.status, unknown.status, "{method} {path}");
        let rows = |answer: &Answer| answer.body.matches("fullUrl").count();
        assert_eq!(rows(&answer), 0, "{method} {path}: {answer:?}");
        assert_eq!(rows(&unknown), 0, "{method} {path}: {unknown:?}");
        let named = |answer: &Answer| answer.body.replace("suothern", "southern");
        assert!(
            answer.body == named(&unknown) || is_new_each_time(&answer),
            "{method} {path}: {answer:?} {unknown:?}"
        );
        count += 1;
        // What is there costs something else, so that being equal means something.
        if method == Method::GET {
            let [(own, _), _] = costs(&two, &counts, [&own, &foreign]).await;
            dearer += usize::from(own != cost);
        }
    }
    assert!(count == 16 && dearer > 10, "{count} {dearer}");

    // Credentials, which are looked up before anybody may anything.
    let held = [
        Who::Token(south_client.clone()),
        Who::Token(south.access.clone()),
        Who::Token(south.token_of_system(&two, "costs").await),
        south.session(),
    ];
    for who in &held {
        // One with the number of that tenant in it, and one with the other's.
        let unknown = [never(who), never_here(who, two.north)];
        for (path, unknown) in ["/fhir/r4/Patient/p", "/portal", "/console/worklist"]
            .into_iter()
            .flat_map(|path| unknown.iter().map(move |unknown| (path, unknown)))
        {
            let tries = [who, unknown].map(|who| Try::of(Method::GET, path, who));
            let [(cost, answer), (other, unknown)] =
                costs(&two, &counts, [&tries[0], &tries[1]]).await;
            assert_eq!(cost, other, "{path}");
            assert_eq!(answer, unknown, "{path}");
        }
    }
    let code = south.code(&two).await;
    let exchanged = |client: &str, code: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("redirect_uri", BACK),
            ("code_verifier", VERIFIER),
        ];
        Try::form("/oauth/token", &form)
    };
    let refreshed = |token: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", north.client.as_str()),
            ("refresh_token", token),
        ];
        Try::form("/oauth/token", &form)
    };
    let revoked = |token: &str| {
        let form = [("client_id", north.client.as_str()), ("token", token)];
        Try::form("/oauth/revoke", &form)
    };
    let link = link_of(&two, TENANT).await;
    let (cookie, form) = form_of_link(&two, NORTH, &link).await;
    let browser = Who::Person {
        cookie: format!("; {cookie}"),
        csrf: String::new(),
    };
    let linked = |link: &str| Try {
        method: Method::POST,
        path: format!("/sign-in/link/{link}"),
        who: &browser,
        form: Some(query(&[("form", &form), ("birth_date", BORN)]) + "&"),
    };
    let here = |secret: &str| numbered(&turned(secret), two.north);
    for [foreign, unknown] in [
        [
            exchanged(&north.client, &code),
            exchanged(&north.client, &turned(&code)),
        ],
        [
            exchanged(&north.client, &code),
            exchanged(&north.client, &here(&code)),
        ],
        [
            exchanged(&south.client, &code),
            exchanged(&turned(&south.client), &code),
        ],
        [
            refreshed(&south.refresh),
            refreshed(&turned(&south.refresh)),
        ],
        [refreshed(&south.refresh), refreshed(&here(&south.refresh))],
        [revoked(&south.access), revoked(&turned(&south.access))],
        [revoked(&south.access), revoked(&here(&south.access))],
        [linked(&link), linked(&turned(&link))],
        [linked(&link), linked(&here(&link))],
    ] {
        let [(cost, answer), (other, unknown)] = costs(&two, &counts, [&foreign, &unknown]).await;
        assert_eq!(cost, other, "{}", foreign.path);
        assert!(
            cost.contains_key("head") || cost.contains_key("newest"),
            "{cost:?}"
        );
        assert_eq!(answer.status, unknown.status, "{}", foreign.path);
    }
    // A job of an export.
    let kicked = two
        .ask(
            SOUTH,
            &Method::GET,
            "/fhir/r4/$export",
            &Who::Token(south_client),
        )
        .await;
    let place = kicked
        .headers
        .iter()
        .find(|(name, _)| name == "content-location");
    let (_, job) = place
        .expect("a place")
        .1
        .split_once("/fhir/r4")
        .expect("a path");
    let (before, id) = job.rsplit_once('/').expect("an id");
    let job = |id: &str| Try::of(Method::GET, &format!("/fhir/r4{before}/{id}"), &client);
    let [(cost, answer), (other, unknown)] =
        costs(&two, &counts, [&job(id), &job(&turned(id))]).await;
    assert_eq!((cost, answer), (other, unknown));
    two.end().await;
}

/// One that nobody was ever given, which says that it is of this tenant.
fn never_here(who: &Who, tenant: TenantId) -> Who {
    match never(who) {
        Who::Nobody => Who::Nobody,
        Who::Token(token) => Who::Token(numbered(&token, tenant)),
        Who::Person { cookie, csrf } => Who::Person {
            cookie: numbered(&cookie, tenant),
            csrf,
        },
    }
}

/// Pages have tokens of forms in them, and lists the address that they were asked by.
fn is_new_each_time(answer: &Answer) -> bool {
    let outcome = serde_json::from_str::<Value>(&answer.body);
    outcome.is_err() || outcome.is_ok_and(|found| found["resourceType"] == "Bundle")
}

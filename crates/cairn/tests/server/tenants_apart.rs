//! What a server keeps in memory of a tenant is of that one alone: the same ids in two of them, asked for by turns,
//! under rules, consents, search parameters and policies that say the opposite.

use std::path::Path;

use cairn::store::TENANT;
use ledger::TenantId;
use reqwest::Method;
use serde_json::{Value, json};
use trust::{PolicySet, Role};

use crate::house::header;
use crate::patience::until;
use crate::routes::{Who, person_of};
use crate::tenants::{NORTH, SOUTH, Two};
use crate::tenants_credentials::{BORN, host_of};

/// As often as one has to be asked after the other, for what was kept of the other to show.
const TURNS: usize = 3;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("written");
}

/// A system of a tenant, at its host.
struct Door<'a> {
    two: &'a Two,
    tenant: TenantId,
    token: String,
}

impl<'a> Door<'a> {
    async fn of(two: &'a Two, tenant: TenantId) -> Self {
        let token = two.token(tenant, Role::Client).await;
        Self { two, tenant, token }
    }

    /// A request, and what is answered: status, `ETag` and JSON.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (u16, String, Value) {
        let address = self.two.server.address();
        let asked = self
            .two
            .http
            .request(method, format!("http://{address}/fhir/r4/{path}"));
        let mut asked = asked
            .header("host", host_of(self.tenant))
            .bearer_auth(&self.token);
        for (name, value) in headers {
            asked = asked.header(*name, *value);
        }
        if let Some(body) = body {
            asked = asked.header("content-type", "application/fhir+json");
            asked = asked.body(body.to_string());
        }
        let answer = asked.send().await.expect("an answer");
        let (status, etag) = (answer.status(), header(&answer, "etag").to_owned());
        let body = answer.bytes().await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or_default();
        (status.as_u16(), etag, body)
    }

    async fn get(&self, path: &str) -> (u16, String, Value) {
        self.ask(Method::GET, path, &[], None).await
    }

    /// The status of what is asked for if it is another version than this.
    async fn unless(&self, path: &str, etag: &str) -> u16 {
        let headers = [("if-none-match", etag)];
        self.ask(Method::GET, path, &headers, None).await.0
    }

    async fn put(&self, resource: &Value) {
        let text = |name: &str| resource[name].as_str().expect("text");
        let path = format!("{}/{}", text("resourceType"), text("id"));
        let headers = [("x-purpose-of-use", purpose_of(text("resourceType")))];
        let (status, _, told) = self.ask(Method::PUT, &path, &headers, Some(resource)).await;
        assert!([200, 201].contains(&status), "{path}: {status} {told}");
    }

    /// How many rows a search finds, which its total has to agree with.
    async fn found(&self, path: &str) -> usize {
        let (status, _, bundle) = self.get(&format!("{path}&_total=accurate")).await;
        assert_eq!(status, 200, "{path}: {bundle}");
        let rows = bundle["entry"].as_array().map_or(0, Vec::len);
        assert_eq!(bundle["total"], rows, "{path}: {bundle}");
        rows
    }
}

fn purpose_of(kind: &str) -> &'static str {
    match kind {
        "SearchParameter" => "HOPERAT",
        _ => "TREAT",
    }
}

fn patient(family: &str) -> Value {
    json!({"resourceType": "Patient", "id": "p", "birthDate": BORN, "name": [{"family": family}],
        "maritalStatus": {"text": format!("Status-{family}")},
        "contact": [{"name": {"family": format!("Contact-{family}")}}]})
}

fn observation(value: &str) -> Value {
    json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "weight"},
        "subject": {"reference": "Patient/p"}, "valueString": value})
}

fn consent(status: &str) -> Value {
    json!({"resourceType": "Consent", "id": "c", "status": status, "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/p"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
        "provision": {"type": "deny"}})
}

fn parameter(expression: &str) -> Value {
    json!({"resourceType": "SearchParameter", "id": "ours", "url": "urn:ours", "name": "ours",
        "status": "active", "description": "Of one's own", "code": "ours", "base": ["Patient"],
        "type": "string", "expression": expression})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_one_tenant_answers_for_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    // In the north nobody of the staff sees clinical data without a legitimate relationship.
    write(folder.path(), "north.toml", "consent_rules = 'england'\n");
    let two = Two::with(|options| options.tenants_folder = Some(folder.path().to_owned())).await;
    let south = Door::of(&two, TENANT).await;
    let north = Door::of(&two, two.north).await;
    let both = [(&south, "Southern"), (&north, "Northern")];
    for (door, own) in both {
        door.put(&patient(own)).await;
        door.put(&observation(own)).await;
    }
    // Documents, lists and versions.
    for _ in 0..TURNS {
        for (door, own) in both {
            let (_, etag, found) = door.get("Patient/p").await;
            assert_eq!(found["name"][0]["family"], own);
            assert_eq!(etag, "W/\"1\"");
            assert_eq!(door.unless("Patient/p", &etag).await, 304);
            let (_, _, found) = door.get("Observation?patient=p").await;
            assert_eq!(found["entry"][0]["resource"]["valueString"], own, "{found}");
        }
    }
    let mut changed = patient("Northern");
    changed["gender"] = "female".into();
    north.put(&changed).await;
    for _ in 0..TURNS {
        assert_eq!(north.unless("Patient/p", "W/\"2\"").await, 304);
        assert_eq!(south.unless("Patient/p", "W/\"2\"").await, 200);
        assert_eq!(north.unless("Patient/p", "W/\"1\"").await, 200);
        assert_eq!(south.unless("Patient/p", "W/\"1\"").await, 304);
        assert_eq!(north.found("Patient?gender=female").await, 1);
        assert_eq!(south.found("Patient?gender=female").await, 0);
    }

    // Relationships, and what a page is made from: people of the same name and role, with the same patient.
    let mut people = Vec::new();
    for tenant in [TENANT, two.north] {
        people.push(person_of(&two.trust(tenant), tenant, Role::Clinician).await);
    }
    let page =
        async |host: &str, who: &Who, path: &str| two.ask(host, &Method::GET, path, who).await.body;
    for _ in 0..TURNS {
        let seen = page(SOUTH, &people[0], "/console/record/Observation/o").await;
        assert!(seen.contains("Southern"), "{seen}");
        let hidden = page(NORTH, &people[1], "/console/record/Observation/o").await;
        assert!(!hidden.contains("Southern"), "{hidden}");
        assert!(!hidden.contains("Northern"), "{hidden}");
        for (at, host, own, others) in [
            (0, SOUTH, "Southern", "Northern"),
            (1, NORTH, "Northern", "Southern"),
        ] {
            let shown = page(host, &people[at], "/console/patients/p").await;
            assert!(
                shown.contains(own) && !shown.contains(others),
                "{host}: {shown}"
            );
        }
    }

    // Consents, from the next request on, and back.
    let hidden = async |door: &Door<'_>, is_hidden: bool| {
        let (status, ..) = door.get("Observation/o").await;
        assert_eq!(status == 200, !is_hidden, "{status}");
        let rows = door.found("Observation?patient=p").await;
        assert_eq!(rows, usize::from(!is_hidden));
    };
    for (no, yes) in [(&north, &south), (&south, &north)] {
        no.put(&consent("active")).await;
        for _ in 0..TURNS {
            hidden(no, true).await;
            hidden(yes, false).await;
        }
        no.put(&consent("inactive")).await;
        for _ in 0..TURNS {
            hidden(no, false).await;
            hidden(yes, false).await;
        }
    }

    // Search parameters of one's own, of one name.
    let strict = async |door: &Door<'_>, value: &str| {
        let headers = [("prefer", "handling=strict")];
        let path = format!("Patient?ours={value}&_total=accurate");
        let (status, _, found) = door.ask(Method::GET, &path, &headers, None).await;
        (status, found["total"].as_u64())
    };
    south.put(&parameter("Patient.contact.name.family")).await;
    until("it is searched by", async || {
        strict(&south, "Contact-Southern").await == (200, Some(1))
    })
    .await;
    for _ in 0..TURNS {
        assert_eq!(strict(&north, "Contact-Northern").await, (400, None));
        assert_eq!(strict(&south, "Contact-Southern").await, (200, Some(1)));
    }
    north.put(&parameter("Patient.maritalStatus.text")).await;
    until("it is searched by", async || {
        strict(&north, "Status-Northern").await == (200, Some(1))
    })
    .await;
    for _ in 0..TURNS {
        for (door, own, other) in [
            (&south, "Contact-Southern", "Status-Southern"),
            (&north, "Status-Northern", "Contact-Northern"),
        ] {
            assert_eq!(strict(door, own).await, (200, Some(1)));
            assert_eq!(strict(door, other).await, (200, Some(0)));
        }
    }
    two.end().await;
}

/// Publishes the example under a title, and gives its version.
async fn published(two: &Two, tenant: TenantId, title: &str) -> Value {
    const JOURNEY: &str = include_str!("../../../../journeys/heart-failure-discharge.yaml");
    const TITLE: &str = "title: Heart failure follow-up after discharge";
    assert!(JOURNEY.contains(TITLE));
    let squad = two.token(tenant, Role::Squad).await;
    let address = format!("http://{}/api/journeys", two.server.address());
    let sent = two.http.post(address).header("host", host_of(tenant));
    let sent = sent.bearer_auth(squad);
    let sent = sent.body(JOURNEY.replace(TITLE, &format!("title: {title}")));
    let answer = sent.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{title}");
    let told: Value = answer.json().await.expect("JSON");
    told["version"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_of_one_name_are_each_tenants_own() {
    let two = Two::new().await;
    let mut people = Vec::new();
    for tenant in [TENANT, two.north] {
        people.push(person_of(&two.trust(tenant), tenant, Role::Clinician).await);
    }
    let pages = async |at: usize| {
        let host = [SOUTH, NORTH][at];
        let mut seen = String::new();
        for path in [
            "/console/journeys",
            "/console/journeys/heart-failure-discharge",
        ] {
            let page = two.ask(host, &Method::GET, path, &people[at]).await;
            seen.push_str(&format!("{} {}", page.status, page.body));
        }
        seen
    };
    // One publishes, and the other has none.
    assert_eq!(published(&two, two.north, "Northern way").await, 1);
    for _ in 0..TURNS {
        assert!(pages(1).await.matches("Northern way").count() > 1);
        let none = pages(0).await;
        assert!(
            !none.contains("Northern way") && none.contains("404"),
            "{none}"
        );
    }
    // The same name again, which is the first version here and the second there.
    assert_eq!(published(&two, TENANT, "Southern way").await, 1);
    assert_eq!(published(&two, two.north, "Northernmost way").await, 2);
    for _ in 0..TURNS {
        for (at, own, others) in [
            (0, "Southern way", "Northern"),
            (1, "Northernmost way", "Southern"),
        ] {
            let seen = pages(at).await;
            assert!(seen.contains(own) && !seen.contains(others), "{seen}");
        }
    }
    two.end().await;
}

/// A folder with the built-in policies but one kind, which systems may not look at.
fn without(folder: &Path, kind: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    for (name, text) in PolicySet::built_in_files() {
        // The tests of that role say that they may.
        if name != "client.test.toml" {
            write(folder, name, text);
        }
    }
    forbid(folder, kind);
}

fn forbid(folder: &Path, kind: &str) {
    let policy = format!(
        "@id(\"own\")\n@says(\"Systems don't look at these.\")\n\
         forbid (principal in Role::\"client\", action in Action::\"look\", resource == Kind::\"{kind}\");\n"
    );
    write(folder, "own.cedar", &policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_policies_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (in_south, in_north) = (folder.path().join("s"), folder.path().join("n"));
    without(&in_south, "Encounter");
    without(&in_north, "Encounter");
    write(folder.path(), "south.toml", "policy_folder = 's'\n");
    write(folder.path(), "north.toml", "policy_folder = 'n'\n");
    let two = Two::with(|options| options.tenants_folder = Some(folder.path().to_owned())).await;
    let south = Door::of(&two, TENANT).await;
    let north = Door::of(&two, two.north).await;
    let condition = json!({"resourceType": "Condition", "id": "c", "code": {"text": "cough"},
        "subject": {"reference": "Patient/p"}});
    for door in [&south, &north] {
        door.put(&patient("Berg")).await;
        door.put(&observation("80 kg")).await;
        door.put(&condition).await;
    }
    let set = |tenant: TenantId| two.trust(tenant).policy_status().set;
    let before = set(TENANT);
    assert_eq!(before, set(two.north));
    forbid(&in_south, "Condition");
    forbid(&in_north, "Observation");
    until("both sets are in force", async || {
        ![set(TENANT), set(two.north)].contains(&before)
    })
    .await;
    // One allows what the other forbids, by turns, whichever way it is asked for.
    let looks = async |door: &Door<'_>, kind: &str| {
        let path = if kind == "Condition" {
            ["Condition/c", "Condition?patient=p", "Condition/c/_history"]
        } else {
            [
                "Observation/o",
                "Observation?patient=p",
                "Observation/o/_history",
            ]
        };
        let mut seen = Vec::new();
        for path in path {
            let (status, _, found) = door.get(path).await;
            let shows = found.to_string().contains("Patient/p");
            assert_eq!(shows, status == 200, "{path}: {status} {found}");
            assert!(shows || status == 403, "{path}: {status} {found}");
            seen.push(shows);
        }
        assert!(
            seen.iter().all(|shows| *shows == seen[0]),
            "{kind}: {seen:?}"
        );
        seen[0]
    };
    for _ in 0..TURNS {
        assert!(looks(&south, "Observation").await && !looks(&south, "Condition").await);
        assert!(looks(&north, "Condition").await && !looks(&north, "Observation").await);
    }
    let (first, other) = (set(two.north), set(TENANT));
    assert_ne!(first, other);

    // What changes in one folder is in force in that tenant alone.
    forbid(&in_north, "Encounter");
    until("the north's set is in force", async || {
        set(two.north) != first
    })
    .await;
    for _ in 0..TURNS {
        assert!(looks(&north, "Observation").await && looks(&north, "Condition").await);
        assert!(looks(&south, "Observation").await && !looks(&south, "Condition").await);
    }
    assert_eq!(set(TENANT), other);

    // What is refused in one stops no change of the other.
    write(&in_south, "own.cedar", "permit (principal");
    until("the south's set is refused", async || {
        two.trust(TENANT).policy_status().refused.is_some()
    })
    .await;
    assert!(two.trust(two.north).policy_status().refused.is_none());
    let second = set(two.north);
    forbid(&in_north, "Observation");
    until("the north's set is in force", async || {
        set(two.north) != second
    })
    .await;
    assert_eq!((set(TENANT), set(two.north)), (other, first));
    for _ in 0..TURNS {
        assert!(looks(&north, "Condition").await && !looks(&north, "Observation").await);
        assert!(looks(&south, "Observation").await && !looks(&south, "Condition").await);
    }
    two.end().await;
}

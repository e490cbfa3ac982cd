//! Policies that look at what is around a request, asked over HTTP.

use std::sync::Arc;

use cairn::store::TENANT;
use cairn::{Addresses, ForwardedHeader, Proxies, ServerOptions};
use ledger::ManualClock;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;
use tempfile::TempDir;
use trust::Role;

use crate::bulk;
use crate::house::{House, NOON_MS, assert_outcome, header, house_with, known_as};
use crate::patience::until;
use crate::policies::{folder, put, run};
use crate::routes::{Who, person_of};

const HOUR_MS: u64 = 3_600_000;
/// Systems export by day, and from the ward at any time.
const BY_DAY: &str = r#"@id("exports-by-day")
@says("Exports are had from 8 to 18, and elsewhen on the ward.")
forbid (principal in Role::"client", action == Action::"export", resource)
when { context.time.hour < 8 || context.time.hour >= 18 }
unless { context.networks.contains("ward") };
"#;

fn by_day() -> TempDir {
    let folder = folder();
    put(&folder, "own.cedar", BY_DAY);
    folder
}

/// A house in New York, where it is 7 in the morning; its ward has these addresses.
async fn in_new_york(folder: &TempDir, ward: &str) -> (House, ManualClock) {
    in_new_york_with(folder, ward, |_| {}).await
}

/// The same, but for what `change` changes.
async fn in_new_york_with(
    folder: &TempDir,
    ward: &str,
    change: impl FnOnce(&mut ServerOptions),
) -> (House, ManualClock) {
    let wall = ManualClock::new(NOON_MS);
    let house = house_with(|options| {
        options.policy_folder = Some(folder.path().to_owned());
        options.wall_clock = Arc::new(wall.clone());
        options.time_zone = "America/New_York".to_owned();
        options.networks = [("ward".to_owned(), ward.to_owned())].into();
        change(options);
    })
    .await;
    (house, wall)
}

async fn get(house: &House, path: &str) -> Response {
    let asked = house.asked(Method::GET, path);
    let asked = asked.header("prefer", "respond-async").send().await;
    asked.expect("an answer")
}

const EXPORT: &str = "/fhir/r4/$export?_type=Organization";

/// The path of a job's status, and that of its file.
async fn laid_out(house: &House, began: &Response) -> (String, String) {
    let path_of = |url: &str| {
        let (_, path) = url.split_once("/fhir").expect("an address");
        format!("/fhir{path}")
    };
    let status = path_of(header(began, "content-location"));
    let manifest = bulk::laid_out(async || get(house, &status).await).await;
    let url = manifest["output"][0]["url"].as_str().expect("an address");
    (status, path_of(url))
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_had_by_day_and_refused_by_night() {
    let folder = by_day();
    let (house, wall) = in_new_york(&folder, "10.0.0.0/8").await;
    let organization = json!({"resourceType": "Organization", "id": "o", "name": "Ward 3"});
    let written = house.sent(Method::PUT, "/fhir/r4/Organization/o", &organization);
    assert_eq!(written.send().await.expect("an answer").status(), 201);

    let early = get(&house, EXPORT).await;
    assert_eq!(early.status(), 403);
    let words = early.text().await.expect("text");
    assert!(words.contains("on sunday at 7 h"), "{words}");

    wall.advance(10 * HOUR_MS);
    let began = get(&house, EXPORT).await;
    assert_eq!(began.status(), 202);
    let (status, file) = laid_out(&house, &began).await;
    let answer = get(&house, &file).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.expect("text").contains("Ward 3"));

    // At six in the evening nothing of it is had any more, and all of it in the morning.
    wall.advance(HOUR_MS);
    for path in [EXPORT, status.as_str(), file.as_str()] {
        assert_outcome(get(&house, path).await, 403, "forbidden").await;
    }
    // What isn't an export is as it was.
    let row = get(&house, "/fhir/r4/Organization/o").await;
    assert_eq!(row.status(), 200);
    wall.advance(13 * HOUR_MS);
    assert_eq!(get(&house, &file).await.status(), 403);
    wall.advance(HOUR_MS);
    assert_eq!(get(&house, &file).await.status(), 200);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_with_a_name_is_where_the_client_is() {
    let folder = by_day();
    let (here, _) = in_new_york(&folder, "10.0.0.0/8 127.0.0.0/8").await;
    assert_eq!(get(&here, EXPORT).await.status(), 202);
    here.end().await;
    let (elsewhere, _) = in_new_york(&folder, "10.0.0.0/8").await;
    let answer = get(&elsewhere, EXPORT).await;
    assert_outcome(answer, 403, "forbidden").await;
    elsewhere.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_s_own_network_is_not_that_of_its_clients() {
    let folder = by_day();
    let ask = async |house: &House, told: Option<&str>| {
        let asked = house.asked(Method::GET, EXPORT);
        let mut asked = asked.header("prefer", "respond-async");
        if let Some(told) = told {
            asked = asked.header("x-forwarded-for", told);
        }
        asked.send().await.expect("an answer").status().as_u16()
    };
    let ward = "10.0.0.0/8 127.0.0.0/8";
    let (house, _) = in_new_york_with(&folder, ward, |options| {
        let header = ForwardedHeader::XForwardedFor;
        options.proxies = Proxies::parse("127.0.0.1", header).expect("a list");
    })
    .await;
    for (told, expected) in [
        (Some("10.0.0.9"), 202),
        (Some("192.0.2.9"), 403),
        // It doesn't say who asks.
        (Some("unknown"), 403),
        (Some("10.0.0.9, unknown"), 403),
        (None, 403),
    ] {
        assert_eq!(ask(&house, told).await, expected, "{told:?}");
    }
    house.end().await;
    // Many come from there, and what they write about that is their own word.
    let (house, _) = in_new_york_with(&folder, ward, |options| {
        options.shared_addresses = Addresses::parse("127.0.0.1").expect("a list");
    })
    .await;
    for told in [None, Some("10.0.0.9")] {
        assert_eq!(ask(&house, told).await, 403, "{told:?}");
    }
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_tenant_is_known_by_its_name_of_now() {
    let folder = folder();
    let under_main = r#"@id("exports-under-another-name")
@says("Nothing is exported under the first name.")
forbid (principal in Role::"client", action == Action::"export", resource)
when { context.tenant == "main" };"#;
    put(&folder, "own.cedar", under_main);
    let house = house_with(|options| options.policy_folder = Some(folder.path().to_owned())).await;
    assert_eq!(get(&house, EXPORT).await.status(), 403);
    let ledger = house.server.ledger();
    let renamed = ledger.set_tenant(TENANT, Some("north"), None, None).await;
    renamed.expect("renamed");
    until("the name of now is in force", async || {
        get(&house, EXPORT).await.status() == 202
    })
    .await;
    // The pages about policies are about this tenant, and say so.
    let trust = house.server.trust();
    let Who::Person { cookie, csrf } = person_of(trust, TENANT, Role::PrivacyOfficer).await else {
        unreachable!()
    };
    let cookie = format!("cairn={cookie}");
    let text = async |asked: RequestBuilder| {
        let answer = asked.header("cookie", &cookie).send().await;
        answer.expect("an answer").text().await.expect("text")
    };
    let page = text(house.bare(Method::GET, "/console/policies")).await;
    let words = "what is permitted at the tenant north;";
    assert!(page.contains(words), "{page}");
    let form = format!("csrf={csrf}&role=client&purpose=HOPERAT&action=export");
    let asked = house.bare(Method::POST, "/console/access").body(form);
    let asked = asked.header("content-type", "application/x-www-form-urlencoded");
    let page = text(asked).await;
    let words = "(asked at the tenant north)";
    assert!(page.contains(words), "{page}");
    house.end().await;
}

const BY_ORIGIN: &str = r#"@id("nothing-for-the-outside")
@says("Whoever is of the organization outside sees no organizations.")
forbid (principal, action == Action::"read", resource == Kind::"Organization")
when { context.organizations.contains("outside") };
@id("systems-export-nothing")
@says("Systems that ask for themselves export nothing.")
forbid (principal, action == Action::"export", resource)
when { context.device.kind == "system" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn organizations_and_devices_count_at_the_next_request() {
    let folder = folder();
    put(&folder, "own.cedar", BY_ORIGIN);
    let house = house_with(|options| options.policy_folder = Some(folder.path().to_owned())).await;
    let organization = json!({"resourceType": "Organization", "id": "o", "name": "Ward 3"});
    let written = house.sent(Method::PUT, "/fhir/r4/Organization/o", &organization);
    assert_eq!(written.send().await.expect("an answer").status(), 201);
    let row = "/fhir/r4/Organization/o";
    assert_eq!(get(&house, row).await.status(), 200);
    known_as(&house, &house.token, &["Organization/outside"]).await;
    let answer = get(&house, row).await;
    assert_eq!(answer.status(), 403);
    let words = answer.text().await.expect("text");
    assert!(words.contains("for the organization outside"), "{words}");
    known_as(&house, &house.token, &["Organization/inside"]).await;
    assert_eq!(get(&house, row).await.status(), 200);
    let answer = get(&house, EXPORT).await;
    assert_eq!(answer.status(), 403);
    let words = answer.text().await.expect("text");
    assert!(words.contains("by the system"), "{words}");
    house.end().await;
}

const BY_DEVICE: &str = r#"@id("only-for-the-inside")
@says("Systems look at organizations for the organization inside, and not from one application.")
forbid (principal in Role::"client", action == Action::"read", resource == Kind::"Organization")
unless { context.organizations.contains("inside") && context.device.client != "app" };
@id("no-unknown-devices")
@says("Clinicians read organizations in a browser or by an application.")
forbid (principal in Role::"clinician", action == Action::"read", resource == Kind::"Organization")
unless { ["browser", "application"].contains(context.device.kind) };
"#;

/// The role, what is said around a question by name, and the answer.
type Asked = (&'static str, &'static [(&'static str, &'static str)], bool);
/// Questions about reading organizations.
const ASKED: [Asked; 10] = [
    ("client", &[], false),
    ("client", &[("organization", "outside")], false),
    ("client", &[("organization", "inside")], true),
    (
        "client",
        &[
            ("organization", "inside"),
            ("device", "system"),
            ("client", "other"),
        ],
        true,
    ),
    (
        "client",
        &[
            ("organization", "inside"),
            ("device", "application"),
            ("client", "app"),
        ],
        false,
    ),
    ("clinician", &[], false),
    ("clinician", &[("device", "unknown")], false),
    ("clinician", &[("device", "system")], false),
    ("clinician", &[("device", "browser")], true),
    ("clinician", &[("device", "application")], true),
];

fn by_device() -> TempDir {
    let folder = folder();
    put(&folder, "own.cedar", BY_DEVICE);
    // The built-in tests know nothing of it.
    for name in ["client.test.toml", "clinician.test.toml"] {
        std::fs::remove_file(folder.path().join(name)).expect("removed");
    }
    folder
}

#[test]
fn why_takes_organizations_and_devices() {
    let folder = by_device();
    let why = |role: &str, more: &[String]| {
        let mut asked = vec!["why", "--role", role, "--purpose", "TREAT"];
        asked.extend(["--action", "read", "--type", "Organization"]);
        asked.extend(["--folder", "FOLDER"]);
        asked.extend(more.iter().map(String::as_str));
        run(&asked, folder.path())
    };
    for (role, around, permitted) in ASKED {
        let flags = around.iter();
        let flags: Vec<String> = flags
            .flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()])
            .collect();
        let (code, out, err) = why(role, &flags);
        assert_eq!(
            code,
            Some(i32::from(!permitted)),
            "{role} {flags:?}: {out}{err}"
        );
    }
    // Several may be said, in any order.
    let several = ["outside", "inside"].map(|id| format!("--organization={id}"));
    let (code, out, _) = why("client", &several);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("for the organization inside and outside"),
        "{out}"
    );
    for (wrong, words) in [
        (
            "--device=telephone",
            "there are unknown, browser, application, system, part",
        ),
        ("--client=app", "--device <KIND>"),
    ] {
        let (code, _, err) = why("client", &[wrong.to_owned()]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_questions_takes_organizations_and_devices() {
    let folder = by_device();
    let house = house_with(|options| options.policy_folder = Some(folder.path().to_owned())).await;
    let trust = house.server.trust();
    let Who::Person { cookie, csrf } = person_of(trust, TENANT, Role::PrivacyOfficer).await else {
        unreachable!()
    };
    let ask = async |form: &[(&str, &str)]| {
        let mut form = form.to_vec();
        form.extend([
            ("csrf", csrf.as_str()),
            ("purpose", "TREAT"),
            ("action", "read"),
        ]);
        form.push(("type", "Organization"));
        let asked = house.bare(Method::POST, "/console/access");
        let asked = asked.header("cookie", format!("cairn={cookie}"));
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let answer = asked.body(crate::apps::query(&form)).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("text"))
    };
    for (role, around, permitted) in ASKED {
        let form = [&[("role", role)][..], around].concat();
        let (status, page) = ask(&form).await;
        assert_eq!(status, 200, "{form:?}: {page}");
        let (_, answer) = page.split_once("id=\"answer\"").expect("an answer");
        let (verdict, _) = answer.split_once("</h2>").expect("a verdict");
        let words = if permitted { "Permitted" } else { "Refused" };
        assert!(verdict.contains(words), "{form:?}: {verdict}");
        // What was said stays in the form, which shows it.
        let is_said = around.iter().any(|(_, value)| *value != "unknown");
        let details = if is_said {
            "<details open>"
        } else {
            "<details>"
        };
        let words = format!("{details}<summary>Circumstances");
        assert!(page.contains(&words), "{form:?}: {page}");
        for (name, value) in around {
            let kept = match *name {
                "device" => format!("<option value=\"{value}\" selected"),
                name => format!("name=\"{name}\" value=\"{value}\""),
            };
            assert!(page.contains(&kept), "{form:?}: `{kept}` in {page}");
        }
    }
    let (status, page) = ask(&[("role", "client"), ("device", "telephone")]).await;
    assert_eq!(status, 400, "{page}");
    assert!(page.contains("There is no such device."), "{page}");
    // Of an account it is what administrators say, whatever the form does.
    known_as(&house, &house.token, &["Organization/inside"]).await;
    let identity = trust.identity();
    let system = identity.bearer(&house.token).await.expect("an agent").id;
    let form = [
        ("role", "client"),
        ("person", &system),
        ("organization", "outside"),
    ];
    let (_, page) = ask(&form).await;
    assert!(page.contains("for the organization inside"), "{page}");
    house.end().await;
}

//! What is around a request.
use ledger::ManualClock;

use super::*;
use crate::tests::{House, TENANT};

/// A set whose clinicians look by day, from the ward, or with a passkey that was shown lately.
fn folder(policies: &str, more: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("own.cedar", policies)].iter().chain(more) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

const BY_DAY: &str = r#"@id("by-day") permit (principal in Role::"clinician", action in Action::"look", resource)
    when { context.time.hour >= 8 && context.time.hour < 18 && context.time.weekday != "sunday" };"#;

fn judged(policies: &Policies, agent: &Agent) -> Result<Permit, Refusal> {
    let observation = target(Some(ResourceType::Observation), None);
    policies.judge(agent, Purpose::Treatment, Action::Read, &observation, "r")
}

/// 1 March 2026, a Sunday, noon.
const NOON_MS: u64 = 1_772_366_400_000;
const HOUR_MS: u64 = 3_600_000;

// Proves: 45 CFR 164.312(a)(1)
#[test]
fn no_permit_outlives_the_hour_and_the_zone_is_the_house_s() {
    let folder = folder(BY_DAY, &[]);
    let policies = Policies::load(Some(folder.path()), 0).unwrap();
    let clock = ManualClock::new(NOON_MS);
    policies.follow_clock(Arc::new(clock.clone()));
    policies.situate(Surroundings::of("main", "Europe/Berlin", []).unwrap());
    let clinician = agent(Role::Clinician);
    let refused = judged(&policies, &clinician).unwrap_err();
    assert!(
        refused.reason.ends_with("(on sunday at 13 h)"),
        "{}",
        refused.reason
    );
    // Monday, 07:59 there, and a minute later.
    clock.advance(18 * HOUR_MS + HOUR_MS - 60_000);
    assert!(judged(&policies, &clinician).is_err());
    let before = policies.slice(&clinician);
    clock.advance(60_000);
    assert!(judged(&policies, &clinician).is_ok());
    assert_ne!(policies.slice(&clinician), before);
    // What was decided at one hour is kept for that hour alone.
    clock.advance(10 * HOUR_MS - 1);
    assert!(judged(&policies, &clinician).is_ok());
    clock.advance(1);
    assert!(judged(&policies, &clinician).is_err());
}

#[test]
fn decisions_are_kept_by_what_is_looked_at_alone() {
    let clock = ManualClock::new(NOON_MS);
    let policies = policies();
    policies.follow_clock(Arc::new(clock.clone()));
    let clinician = agent(Role::Clinician);
    let first = judged(&policies, &clinician).unwrap().grants;
    let slice = policies.slice(&clinician);
    clock.advance(HOUR_MS);
    let passkey = Agent {
        signed_in: SignedIn {
            factor: Factor::Passkey,
            at_ms: NOON_MS,
            session: true,
        },
        ..clinician.clone()
    };
    for agent in [&clinician, &passkey] {
        let later = judged(&policies, agent).unwrap().grants;
        assert!(Arc::ptr_eq(&first, &later));
    }
    assert_eq!(policies.slice(&passkey), slice);
}

// Proves: 45 CFR 164.312(a)(1)
#[tokio::test]
async fn networks_second_factors_and_tenants_are_looked_at() {
    let own = r#"
        @id("ward") permit (principal in Role::"clinician", action in Action::"look", resource)
        when { context.networks.contains("ward") };
        @id("passkey") permit (principal in Role::"coordinator", action in Action::"look", resource)
        when { context.session.factor == "passkey" && context.session.confirmed };
        @id("north") permit (principal in Role::"biller", action in Action::"look", resource)
        when { context.tenant == "north" };"#;
    let folder = folder(own, &[]);
    let load = |tenant: &str| {
        let policies = Policies::load(Some(folder.path()), 0).unwrap();
        policies.follow_clock(Arc::new(ManualClock::new(NOON_MS)));
        let networks = [
            ("ward", "10.1.0.0/16 2001:db8::/32"),
            ("site", "10.0.0.0/8"),
        ];
        let shared = ["10.1.0.5/32".parse().unwrap()];
        let place = Surroundings::of(tenant, "UTC", networks).unwrap();
        policies.situate(place.beside(shared));
        policies
    };
    let policies = load("north");
    let clinician = agent(Role::Clinician);
    let from = async |address: &str| {
        let asked = async { judged(&policies, &clinician).is_ok() };
        crate::origin::at(address.parse().unwrap(), asked).await
    };
    for (address, may) in [
        ("10.1.2.3", true),
        ("10.2.0.1", false),
        ("192.168.0.1", false),
        ("2001:db8::7", true),
        ("::ffff:10.1.0.9", true),
        // A proxy that doesn't say for whom it asks.
        ("10.1.0.5", false),
        ("::ffff:10.1.0.5", false),
    ] {
        assert_eq!(from(address).await, may, "{address}");
    }
    // What acts by itself comes from nowhere.
    assert!(judged(&policies, &clinician).is_err());

    let coordinator = |factor, ago_ms| Agent {
        signed_in: SignedIn {
            factor,
            at_ms: NOON_MS - ago_ms,
            session: true,
        },
        ..agent(Role::Coordinator)
    };
    for (factor, ago_ms, may) in [
        (Factor::Passkey, 0, true),
        (Factor::Passkey, 899_999, true),
        (Factor::Passkey, 900_000, false),
        (Factor::Totp, 0, false),
        (Factor::None, 0, false),
    ] {
        let asked = judged(&policies, &coordinator(factor, ago_ms)).is_ok();
        assert_eq!(asked, may, "{factor:?} {ago_ms}");
    }
    assert!(judged(&policies, &agent(Role::Biller)).is_ok());
    assert!(judged(&load("south"), &agent(Role::Biller)).is_err());
}

#[test]
fn what_might_be_seen_at_all_is_what_some_moment_lets_and_as_little_more_as_can_be() {
    let own = r#"
        @id("a") permit (principal in Role::"clinician", action in Action::"look", resource)
        when { context.purpose == "TREAT" && context.time.hour < 6 && context.networks.contains("ward") };
        @id("b") permit (principal in Role::"coordinator", action in Action::"look", resource)
        unless { context.time.hour < 6 || context.purpose == "HPAYMT" };
        @id("c") permit (principal in Role::"biller", action in Action::"look", resource);
        @id("d") forbid (principal in Role::"biller", action in Action::"look", resource)
        when { !context.networks.contains("ward") && context.purpose == "TREAT" };
        @id("e") forbid (principal in Role::"biller", action in Action::"look", resource)
        when { context.purpose == "HPAYMT" } unless { context.purpose == "TREAT" && context.session.confirmed };
        @id("f") permit (principal in Role::"squad", action in Action::"look", resource)
        when { context.tenant == "north" && context.time.hour == 3 };
        @id("g") permit (principal in Role::"administrator", action in Action::"look", resource)
        when { if context.time.hour == 3 then context.purpose == "TREAT" else false };"#;
    let folder = folder(own, &[]);
    let load = |tenant: &str| {
        let policies = Policies::load(Some(folder.path()), 0).unwrap();
        policies.situate(Surroundings::of(tenant, "UTC", []).unwrap());
        policies
    };
    let policies = load("north");
    let looks = |grants: &Grants| grants.interaction(Action::Read, ResourceType::Observation);
    let (treat, pay) = (Purpose::Treatment, Purpose::Payment);
    for (role, purpose, may) in [
        (Role::Clinician, treat, true),
        (Role::Clinician, pay, false),
        (Role::Coordinator, treat, true),
        (Role::Coordinator, pay, false),
        (Role::Biller, treat, true),
        (Role::Biller, pay, false),
        (Role::Squad, treat, true),
        (Role::Administrator, treat, true),
        (Role::PrivacyOfficer, treat, false),
    ] {
        let asker = Asker {
            role,
            part: None,
            purpose,
            own: false,
            around: None,
        };
        assert_eq!(
            looks(&policies.widest_grants(&asker)),
            may,
            "{role:?} {purpose:?}"
        );
        if role == Role::Squad {
            assert!(!looks(&load("south").widest_grants(&asker)));
        }
        let mut ever = false;
        for hour in 0..24 {
            for networks in [vec![], vec!["ward".to_owned()]] {
                let around = Around {
                    hour,
                    networks,
                    confirmed: hour % 2 == 0,
                    tenant: "north".to_owned(),
                    ..Around::default()
                };
                let around = Some(around);
                let asker = Asker {
                    around,
                    ..asker.clone()
                };
                ever |= looks(&policies.grants(&asker));
            }
        }
        assert_eq!(ever, may, "{role:?} {purpose:?}");
    }
}

#[test]
fn tests_ask_with_what_is_around_and_explain_it() {
    let cases = r#"
        [[case]]
        name = "by day"
        role = "clinician"
        purpose = "TREAT"
        action = "read"
        type = "Observation"
        hour = [8, 17]
        weekday = ["monday", "saturday"]
        expect = "permit"
        [[case]]
        name = "not at night"
        role = "clinician"
        purpose = "TREAT"
        action = "read"
        type = "Observation"
        hour = 18
        expect = "permit"
    "#;
    let mut folder = folder(BY_DAY, &[("own.test.toml", cases)]);
    let set = PolicySet::load(Some(folder.path())).unwrap();
    let failures = set.test().failures;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].words.contains("(asked on monday at 18 h)"),
        "{failures:?}"
    );
    for (line, words) in [
        ("hour = 24", "is no hour"),
        ("weekday = \"noday\"", "is no weekday"),
        ("second_factor = \"sms\"", "is no second factor"),
        ("confirmed = true", "of a second factor"),
    ] {
        let wrong = cases.replace("hour = 18", line);
        folder = super::around::folder(BY_DAY, &[("own.test.toml", &wrong)]);
        let faults = PolicySet::load(Some(folder.path())).err().unwrap();
        assert!(faults[0].words.contains(words), "{line}: {faults:?}");
    }
}

const BY_ORIGIN: &str = r#"
    @id("all") permit (principal, action in Action::"look", resource);
    @id("not-outside") forbid (principal, action, resource)
    when { context.organizations.contains("outside") };
    @id("no-app") forbid (principal, action, resource)
    when { context.device.kind == "application" && context.device.client == "a1" };
    @id("no-token") forbid (principal in Role::"squad", action, resource)
    when { context.device.kind != "browser" };"#;

#[test]
fn organizations_and_devices_are_looked_at() {
    let folder = folder(BY_ORIGIN, &[]);
    let policies = Policies::load(Some(folder.path()), 0).unwrap();
    let may = |agent: &Agent, known: Option<&[String]>| {
        let (treat, read) = (Purpose::Treatment, Action::Read);
        let observation = target(Some(ResourceType::Observation), None);
        let judged = policies.judge_of((agent, known), treat, read, &observation, "r");
        judged.map(|judged| judged.map(drop).map_err(|refusal| refusal.reason))
    };
    // What is asked without any organization looked up is not answered at all.
    let unknown = may(&agent(Role::Clinician), None);
    assert_eq!(unknown, None);
    let may = |agent: &Agent, known| may(agent, Some(known)).expect("an answer");
    let clinician = agent(Role::Clinician);
    let (inside, outside) = (["inside".to_owned()], ["outside".to_owned()]);
    assert!(may(&clinician, &inside).is_ok());
    let refused = may(&clinician, &outside).unwrap_err();
    assert!(
        refused.contains("for the organization outside"),
        "{refused}"
    );
    let by_app = |client: &str| Agent {
        access: Some(Arc::new(crate::Access {
            client: client.to_owned(),
            client_name: String::new(),
            scopes: crate::scopes::Scopes::parse("user/*.cruds").unwrap(),
            patient: None,
            round: 0,
            grant: None,
        })),
        ..clinician.clone()
    };
    assert!(may(&by_app("a1"), &[]).is_err());
    assert!(may(&by_app("a2"), &[]).is_ok());
    let squad = |session| Agent {
        signed_in: SignedIn {
            session,
            ..SignedIn::default()
        },
        ..agent(Role::Squad)
    };
    assert!(may(&squad(true), &[]).is_ok());
    assert!(may(&squad(false), &[]).is_err());
    // What might be seen at all is what some device lets.
    let grants = policies.widest_grants(&Asker {
        role: Role::Squad,
        part: None,
        purpose: Purpose::Treatment,
        own: false,
        around: None,
    });
    assert!(grants.interaction(Action::Read, ResourceType::Observation));
}

/// As when such a set comes to be in force after it was asked whether any is looked at, and before it decides.
#[tokio::test]
async fn organizations_are_looked_up_when_the_set_that_decides_looks_at_them() {
    let house = House::new().await;
    let folder = folder(BY_ORIGIN, &[]);
    let trust = Trust::new(TrustOptions {
        ledger: house.ledger().clone(),
        wall_clock: Arc::new(house.wall.clone()),
        policy_folder: Some(folder.path().to_owned()),
        session_idle_s: 900,
        session_absolute_s: 12 * 3600,
    });
    let trust = trust.unwrap();
    let operator = Agent::system(TENANT, "command-line");
    let administers = house.permit(&operator, Purpose::Administration, Action::Administer);
    let administers = administers.await.unwrap();
    let identity = house.trust.identity();
    let token = identity.create_client(&operator, "Dr D", Role::Clinician);
    let clinician = identity.bearer(&token.await.unwrap()).await.unwrap();
    let (treat, read, anything) = (Purpose::Treatment, Action::Read, target(None, None));
    for (organization, expected) in [
        ("inside", None),
        ("outside", Some("for the organization outside")),
    ] {
        let known_as = [format!("Organization/{organization}")];
        let told = identity.set_known_as(&administers, &clinician.id, &known_as);
        told.await.unwrap();
        let mut known = None;
        let who = (&clinician, &mut known);
        let judged = (trust.identity()).judged(who, treat, read, &anything, "r");
        let refused = judged.await.unwrap().err().map(|refusal| refusal.reason);
        assert_eq!(known, Some(vec![organization.to_owned()]));
        assert_eq!(refused.is_some(), expected.is_some(), "{refused:?}");
        let said = refused.unwrap_or_default();
        assert!(said.contains(expected.unwrap_or_default()), "{said}");
    }
}

#[test]
fn tests_ask_for_organizations_and_from_devices() {
    let case = |line: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"one\"\nrole = \"squad\"\npurpose = \"TREAT\"\naction = \"read\"\n\
             type = \"Observation\"\n{line}\nexpect = \"{expect}\"\n"
        )
    };
    for (line, expect) in [
        ("device = \"browser\"", "permit"),
        ("", "deny"),
        ("device = \"system\"", "deny"),
        (
            "device = \"browser\"\norganizations = [\"outside\"]",
            "deny",
        ),
        (
            "device = \"browser\"\norganizations = [\"inside\"]",
            "permit",
        ),
    ] {
        let text = case(line, expect);
        let folder = folder(BY_ORIGIN, &[("own.test.toml", &text)]);
        let set = PolicySet::load(Some(folder.path())).unwrap();
        assert_eq!(set.test().failures, [], "{line}");
    }
    for (line, words) in [
        ("device = \"phone\"", "is no device"),
        ("device = \"browser\"\nclient = \"a\"", "`client` is of"),
    ] {
        let text = case(line, "deny");
        let folder = folder(BY_ORIGIN, &[("own.test.toml", &text)]);
        let faults = PolicySet::load(Some(folder.path())).err().unwrap();
        assert!(faults[0].words.contains(words), "{line}: {faults:?}");
    }
}

#[test]
fn a_schema_of_before_is_good_and_one_in_between_is_refused() {
    let (_, now) = PolicySet::built_in_files()
        .find(|(name, _)| name.ends_with("cedarschema"))
        .unwrap();
    let plain = r#"@id("all") permit (principal in Role::"clinician", action in Action::"look", resource);"#;
    let without = |names: &[&str]| {
        let kept = now.lines().filter(|line| {
            let line = line.trim_start();
            !names
                .iter()
                .any(|name| line.starts_with(&format!("{name}: ")))
        });
        kept.collect::<Vec<_>>().join("\n")
    };
    let before = without(&[
        "session",
        "networks",
        "time",
        "tenant",
        "organizations",
        "device",
        "own_purpose",
    ]);
    let old = folder(plain, &[("cairn.cedarschema", &before)]);
    let policies = Policies::load(Some(old.path()), 0).unwrap();
    assert!(judged(&policies, &agent(Role::Clinician)).is_ok());
    // Its policies can't look at what it doesn't know.
    let looks = folder(BY_DAY, &[("cairn.cedarschema", &before)]);
    assert!(Policies::load(Some(looks.path()), 0).is_err());
    // The one that knew of what is around and not of organizations and devices is good, too.
    let middle = without(&["organizations", "device", "own_purpose"]);
    let of_then = folder(BY_DAY, &[("cairn.cedarschema", &middle)]);
    assert!(Policies::load(Some(of_then.path()), 0).is_ok());
    let of_now = folder(BY_ORIGIN, &[("cairn.cedarschema", &middle)]);
    assert!(Policies::load(Some(of_now.path()), 0).is_err());
    let one = folder(plain, &[("cairn.cedarschema", &without(&["device"]))]);
    assert!(Policies::load(Some(one.path()), 0).is_err());
    let half = folder(plain, &[("cairn.cedarschema", &without(&["time"]))]);
    let words = Policies::load(Some(half.path()), 0)
        .err()
        .unwrap()
        .to_string();
    assert!(words.contains("all or none of `session`"), "{words}");
}

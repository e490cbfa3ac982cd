//! Sign-in from first account to sign-out, over a real store and clocks that stand still.
use super::*;
use crate::tests::{House, NOW_MS, OTHER, TENANT, a_patient, staff};

mod authenticator;
mod devices;
mod emergencies;
mod manage;
mod passkeys;
mod refused;
mod steering;

const PASSWORD: &str = "wooden-horse-7";

fn demo() -> Agent {
    Agent::system(TENANT, "demo")
}

fn account(user_name: &str, role: Role) -> NewAccount {
    NewAccount {
        tenant: TENANT,
        user_name: user_name.to_owned(),
        name: "Carla Jones".to_owned(),
        role,
        password: PASSWORD.to_owned(),
        patient: None,
    }
}

fn code(house: &House, secret: &str) -> String {
    secrets::totp(secret)
        .unwrap()
        .generate(house.wall_ms() / 1000)
        .to_string()
}

/// An account with a second factor.
async fn enrolled(house: &House, user_name: &str, role: Role) -> String {
    let identity = house.trust.identity();
    let id = identity
        .create(&demo(), account(user_name, role))
        .await
        .unwrap();
    identity.set_totp(&demo(), &id, None).await.unwrap()
}

async fn ticket(house: &House, user_name: &str) -> String {
    match house
        .trust
        .identity()
        .password(TENANT, user_name, PASSWORD)
        .await
        .unwrap()
    {
        SignIn::SecondFactor { ticket } => ticket,
        other => panic!("{other:?}"),
    }
}

fn done(sign_in: SignIn) -> (String, Session) {
    match sign_in {
        SignIn::Done { secret, session } => (secret, session),
        other => panic!("{other:?}"),
    }
}

async fn signed_in(house: &House, user_name: &str, totp: &str) -> (String, Session) {
    let ticket = ticket(house, user_name).await;
    done(
        house
            .trust
            .identity()
            .second_factor(&ticket, &code(house, totp))
            .await
            .unwrap(),
    )
}

#[allow(clippy::needless_pass_by_value, reason = "reads as a statement")]
fn no<T: std::fmt::Debug>(result: Result<T, TrustError>) {
    assert!(matches!(result, Err(TrustError::SignIn)), "{result:?}");
}

#[tokio::test]
async fn accounts_are_found_by_name_by_those_who_may() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let id = identity
        .create(&demo(), account("carla", Role::Coordinator))
        .await
        .unwrap();
    let named = async |by: Agent, name: &str| identity.account_named(&by, name).await;
    assert_eq!(named(demo(), " Carla").await.unwrap(), Some(id));
    assert_eq!(named(demo(), "devi").await.unwrap(), None);
    let refused = named(staff(Role::Clinician), "carla").await;
    assert!(matches!(refused, Err(TrustError::Refused(_))));
}

#[tokio::test]
async fn work_is_given_to_colleagues_who_do_it() {
    let house = House::new().await;
    let identity = house.trust.identity();
    for (name, role) in [
        ("carla", Role::Coordinator),
        ("devi", Role::Clinician),
        ("paul", Role::PrivacyOfficer),
        ("gone", Role::Clinician),
    ] {
        identity.create(&demo(), account(name, role)).await.unwrap();
    }
    let carla = staff(Role::Coordinator);
    let permit = async |action| {
        let asked = house.permit(&carla, Purpose::CareManagement, action).await;
        asked.unwrap()
    };
    let works = permit(Action::Work).await;
    let (_, _, role) = identity.colleague(&works, " Devi ").await.unwrap();
    assert_eq!(role, Role::Clinician);
    let admin = house
        .permit(&demo(), Purpose::Operations, Action::Administer)
        .await
        .unwrap();
    let gone = identity.account_named(&demo(), "gone").await.unwrap();
    identity
        .set_active(&admin, &gone.unwrap(), false)
        .await
        .unwrap();
    for nobody in ["paul", "gone", "nobody", ""] {
        let found = identity.colleague(&works, nobody).await;
        assert!(
            matches!(found, Err(TrustError::Invalid(_))),
            "{nobody:?} {found:?}"
        );
    }
    let reads = permit(Action::Observe).await;
    let refused = identity.colleague(&reads, "devi").await;
    assert!(matches!(refused, Err(TrustError::Refused(_))));
}

// Proves: 45 CFR 164.308(a)(3)(ii)(A)
#[tokio::test]
async fn accounts_are_made_by_those_who_may() {
    let house = House::new().await;
    let identity = house.trust.identity();
    assert_eq!(identity.count(TENANT).await.unwrap(), 0);
    let make = async |by: Agent, account: NewAccount| identity.create(&by, account).await;
    make(demo(), account("Carla", Role::Coordinator))
        .await
        .unwrap();
    let invalid = [
        ("taken", account(" CARLA ", Role::Clinician)),
        ("no name", account("", Role::Clinician)),
        ("odd name", account("a b", Role::Clinician)),
        ("system", account("x", Role::System)),
        ("client", account("x", Role::Client)),
        ("patient of nobody", account("x", Role::Patient)),
        (
            "weak",
            NewAccount {
                password: "short".to_owned(),
                ..account("x", Role::Clinician)
            },
        ),
        (
            "no password",
            NewAccount {
                password: String::new(),
                ..account("x", Role::Clinician)
            },
        ),
        (
            "staff with a patient",
            NewAccount {
                patient: Some("p".to_owned()),
                ..account("x", Role::Clinician)
            },
        ),
        (
            "other tenant",
            NewAccount {
                tenant: OTHER,
                ..account("x", Role::Clinician)
            },
        ),
    ];
    for (what, account) in invalid {
        let result = make(demo(), account).await;
        assert!(
            matches!(result, Err(TrustError::Invalid(_))),
            "{what}: {result:?}"
        );
    }
    for by in [
        staff(Role::Clinician),
        staff(Role::Squad),
        Agent::system(TENANT, "importer"),
    ] {
        let before = house.audits(TENANT).await;
        let result = make(by, account("y", Role::Clinician)).await;
        assert!(matches!(result, Err(TrustError::Refused(_))), "{result:?}");
        assert_eq!(house.audits(TENANT).await, before + 1);
    }
    make(staff(Role::Administrator), account("devi", Role::Clinician))
        .await
        .unwrap();
    for patient in ["p", "q"] {
        let by_link = NewAccount {
            user_name: String::new(),
            password: String::new(),
            patient: Some(patient.to_owned()),
            ..account("", Role::Patient)
        };
        make(demo(), by_link).await.unwrap();
    }
    assert_eq!(identity.count(TENANT).await.unwrap(), 4);
    assert_eq!(identity.count(OTHER).await.unwrap(), 0);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn staff_enrol_a_second_factor_at_first_sign_in() {
    let house = House::new().await;
    let identity = house.trust.identity();
    identity
        .create(&demo(), account("carla", Role::Coordinator))
        .await
        .unwrap();
    let SignIn::EnrolTotp {
        ticket,
        secret,
        url,
    } = identity.password(TENANT, "carla", PASSWORD).await.unwrap()
    else {
        panic!("no enrolment");
    };
    assert!(url.contains(&secret));
    no(identity.session(&ticket).await);
    no(identity.second_factor(&ticket, "000000").await);
    let (cookie, session) = done(
        identity
            .second_factor(&ticket, &code(&house, &secret))
            .await
            .unwrap(),
    );
    assert_eq!(session.agent.role, Role::Coordinator);
    assert_eq!(session.agent.name, "Carla Jones");
    assert_eq!(identity.session(&cookie).await.unwrap().id, session.id);
    // A ticket works once.
    house.wall.advance(30_000);
    no(identity
        .second_factor(&ticket, &code(&house, &secret))
        .await);
    // And from now on the factor is asked for.
    let (_, again) = signed_in(&house, " Carla", &secret).await;
    assert_ne!(again.id, session.id);
    assert_ne!(again.csrf, session.csrf);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_code_works_once_and_for_a_minute_and_a_half() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let used = code(&house, &secret);
    signed_in(&house, "devi", &secret).await;
    let next = ticket(&house, "devi").await;
    no(identity.second_factor(&next, &used).await);
    house.wall.advance(30_000);
    // The code before is still in its time, but an older one than the last used is not.
    no(identity.second_factor(&next, &used).await);
    let fresh = code(&house, &secret);
    house.wall.advance(30_000);
    done(identity.second_factor(&next, &fresh).await.unwrap());
    let late = ticket(&house, "devi").await;
    let old = code(&house, &secret);
    house.wall.advance(60_000);
    no(identity.second_factor(&late, &old).await);
    house.wall.advance(300_000);
    no(identity.second_factor(&late, &code(&house, &secret)).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn wrong_passwords_lock_known_and_unknown_names_alike() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    for name in ["devi", "nobody"] {
        let before = house.audits(TENANT).await;
        for _ in 0..5 {
            no(identity.password(TENANT, name, "wrong-password").await);
        }
        assert_eq!(house.audits(TENANT).await, before + 5);
        for password in ["wrong-password", PASSWORD] {
            let locked = identity.password(TENANT, name, password).await;
            assert!(
                matches!(locked, Err(TrustError::LockedOut { wait_s: 30 })),
                "{locked:?}"
            );
        }
    }
    // Locks outlive a restart.
    let restarted = House::trust_over(house.ledger().clone(), &house.wall);
    let locked = restarted
        .identity()
        .password(TENANT, "devi", PASSWORD)
        .await;
    assert!(
        matches!(locked, Err(TrustError::LockedOut { .. })),
        "{locked:?}"
    );
    house.wall.advance(30_000);
    no(identity.password(TENANT, "devi", "wrong-password").await);
    let locked = identity.password(TENANT, "devi", PASSWORD).await;
    assert!(
        matches!(locked, Err(TrustError::LockedOut { wait_s: 60 })),
        "{locked:?}"
    );
    house.wall.advance(60_000);
    signed_in(&house, "devi", &secret).await;
    // Success forgives.
    for _ in 0..4 {
        no(identity.password(TENANT, "devi", "wrong-password").await);
    }
    ticket(&house, "devi").await;
    no(identity.password(OTHER, "devi", PASSWORD).await);
    no(identity.password(TenantId(99), "devi", PASSWORD).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn wrong_codes_lock_the_account_too() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let ticket = ticket(&house, "devi").await;
    let right = code(&house, &secret);
    let wrong = if right == "123456" {
        "123457"
    } else {
        "123456"
    };
    for _ in 0..5 {
        no(identity.second_factor(&ticket, wrong).await);
    }
    let locked = identity.second_factor(&ticket, &right).await;
    assert!(
        matches!(locked, Err(TrustError::LockedOut { .. })),
        "{locked:?}"
    );
    let locked = identity.password(TENANT, "devi", PASSWORD).await;
    assert!(
        matches!(locked, Err(TrustError::LockedOut { .. })),
        "{locked:?}"
    );
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn guesses_at_the_same_time_are_counted_one_by_one() {
    let house = House::new().await;
    let identity = house.trust.identity();
    enrolled(&house, "devi", Role::Clinician).await;
    let tries = (0..12).map(|_| {
        let identity = identity.clone();
        tokio::spawn(async move { identity.password(TENANT, "devi", "wrong-password").await })
    });
    let mut outcomes = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        outcomes.push(one.await.unwrap().unwrap_err());
    }
    let checked = outcomes
        .iter()
        .filter(|error| matches!(error, TrustError::SignIn))
        .count();
    assert_eq!(checked, 5, "{outcomes:?}");
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test]
async fn sessions_end_by_idleness_age_and_sign_out() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (cookie, session) = signed_in(&house, "devi", &secret).await;
    assert_eq!(session.expires_ms, house.wall_ms() + 12 * 3_600_000);
    // Used every ten minutes, it stays until its age is over.
    let mut lasted_ms = 0;
    while identity.session(&cookie).await.is_ok() {
        house.wall.advance(600_000);
        lasted_ms += 600_000;
    }
    assert_eq!(lasted_ms, 12 * 3_600_000);

    let (cookie, _) = signed_in(&house, "devi", &secret).await;
    house.wall.advance(899_999);
    identity.session(&cookie).await.unwrap();
    house.wall.advance(900_000);
    no(identity.session(&cookie).await);

    let (cookie, _) = signed_in(&house, "devi", &secret).await;
    house.wall.advance(60_000);
    let (other, _) = signed_in(&house, "devi", &secret).await;
    identity.sign_out(&cookie).await.unwrap();
    no(identity.session(&cookie).await);
    identity.session(&other).await.unwrap();
    identity.sign_out(&cookie).await.unwrap();
    identity.sign_out("nonsense").await.unwrap();
    for secret in [
        "",
        "1.",
        "nonsense",
        &cookie[..10],
        &format!("2{}", &other[1..]),
        &format!("63{}", &other[1..]),
    ] {
        no(identity.session(secret).await);
    }
}

#[tokio::test]
async fn a_session_outlives_a_restart_and_its_last_use_is_written_seldom() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (cookie, session) = signed_in(&house, "devi", &secret).await;
    let before = house.audits(TENANT).await;
    for _ in 0..20 {
        house.wall.advance(30_000);
        identity.session(&cookie).await.unwrap();
    }
    // Ten minutes of use, half of the idle time-out of fifteen is 450 seconds: written once.
    assert_eq!(house.audits(TENANT).await, before + 1);
    let restarted = House::trust_over(house.ledger().clone(), &house.wall);
    let found = restarted.identity().session(&cookie).await.unwrap();
    assert_eq!((found.id, found.csrf), (session.id, session.csrf));
    let long_after = House::trust_over(house.ledger().clone(), &house.wall);
    house.wall.advance(900_000);
    no(long_after.identity().session(&cookie).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn links_sign_patients_in_with_their_birth_date() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let identity = house.trust.identity();
    let mailer = Agent::system(TENANT, "mail-deliverer");
    let once = identity.make_link(&mailer, "p", 3600, false).await.unwrap();
    no(identity.use_link(TENANT, &once, "1950-02-04").await);
    no(identity.use_link(OTHER, &once, "1950-02-03").await);
    let before = house.audits(TENANT).await;
    let (cookie, session) = done(
        identity
            .use_link(TENANT, &once, " 1950-02-03 ")
            .await
            .unwrap(),
    );
    assert_eq!(house.audits(TENANT).await, before + 1);
    assert_eq!(session.agent.role, Role::Patient);
    assert_eq!(session.agent.patient.as_deref(), Some("p"));
    assert_eq!(session.agent.name, "");
    identity.session(&cookie).await.unwrap();
    no(identity.use_link(TENANT, &once, "1950-02-03").await);
    // The patient's trail shows sign-ins, the failed one and the one with a used link, too.
    let events = house.audit_events(TENANT).await;
    let of_patient = |outcome: &str| {
        events
            .iter()
            .filter(|event| {
                event.text_at(&["subtype", "0", "code"]) == Some("110122")
                    && event.text_at(&["outcome"]) == Some(outcome)
                    && crate::audit::patients(event).any(|patient| patient == "p")
            })
            .count()
    };
    assert_eq!((of_patient("0"), of_patient("8")), (1, 2));

    let often = identity.make_link(&demo(), "p", 3600, true).await.unwrap();
    for _ in 0..3 {
        done(
            identity
                .use_link(TENANT, &often, "1950-02-03")
                .await
                .unwrap(),
        );
    }
    house.wall.advance(3_600_000);
    no(identity.use_link(TENANT, &often, "1950-02-03").await);

    let guessed = identity
        .make_link(&demo(), "p", 864_000, true)
        .await
        .unwrap();
    for tries in 0..10 {
        no(identity.use_link(TENANT, &guessed, "1950-01-01").await);
        if tries >= 4 {
            let locked = identity.use_link(TENANT, &guessed, "1950-02-03").await;
            assert!(
                matches!(locked, Err(TrustError::LockedOut { .. })),
                "{locked:?}"
            );
        }
        house.wall.advance(900_000);
    }
    no(identity.use_link(TENANT, &guessed, "1950-02-03").await);

    assert!(matches!(
        identity.make_link(&demo(), "nobody", 60, false).await,
        Err(TrustError::Invalid(_))
    ));
    assert!(matches!(
        identity
            .make_link(&staff(Role::Squad), "p", 60, false)
            .await,
        Err(TrustError::Refused(_))
    ));
    no(identity.use_link(TENANT, "1.nonsense", "1950-02-03").await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_link_used_twice_at_once_signs_in_once() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let identity = house.trust.identity();
    let link = identity.make_link(&demo(), "p", 3600, false).await.unwrap();
    let tries: Vec<_> = (0..6)
        .map(|_| {
            let (identity, link) = (identity.clone(), link.clone());
            tokio::spawn(async move { identity.use_link(TENANT, &link, "1950-02-03").await })
        })
        .collect();
    let mut signed_in = 0;
    for one in tries {
        signed_in += usize::from(one.await.unwrap().is_ok());
    }
    assert_eq!(signed_in, 1);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn patients_may_have_a_password_without_a_second_factor() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let with_password = NewAccount {
        patient: Some("p".to_owned()),
        ..account("ann", Role::Patient)
    };
    identity.create(&demo(), with_password).await.unwrap();
    let (_, session) = done(identity.password(TENANT, "ann", PASSWORD).await.unwrap());
    assert_eq!(session.agent.patient.as_deref(), Some("p"));
    assert_eq!(session.agent.name, "");
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn clients_show_their_token() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let token = identity
        .create_client(&staff(Role::Administrator), "lab", Role::Client)
        .await
        .unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    assert_eq!(
        (agent.tenant, agent.role, agent.name.as_str()),
        (TENANT, Role::Client, "lab")
    );
    for other in [
        "",
        "nonsense",
        &format!("2{}", &token[1..]),
        &format!("{token}x"),
    ] {
        no(identity.bearer(other).await);
    }
    for role in [Role::System, Role::Patient] {
        let result = identity.create_client(&demo(), "x", role).await;
        assert!(matches!(result, Err(TrustError::Invalid(_))));
    }
    assert!(matches!(
        identity
            .create_client(&staff(Role::Client), "x", Role::Client)
            .await,
        Err(TrustError::Refused(_))
    ));
    house.wall.advance(CLIENT_LIFE_MS);
    no(identity.bearer(&token).await);
}

// Proves: 45 CFR 164.312(b), 164.312(a)(2)(i)
#[tokio::test]
async fn the_audit_names_accounts_and_no_secret() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let totp = enrolled(&house, "devi", Role::Clinician).await;
    no(identity
        .password(TENANT, "MyPasswordTypedAsName", "wrong-password")
        .await);
    let (cookie, session) = signed_in(&house, "devi", &totp).await;
    identity.sign_out(&cookie).await.unwrap();
    let events = house.audit_events(TENANT).await;
    let text: String = events
        .iter()
        .map(|event| String::from_utf8(event.to_json()).unwrap())
        .collect();
    for secret in [
        PASSWORD,
        "wrong-password",
        "mypasswordtypedasname",
        &totp,
        &cookie,
        &session.csrf,
    ] {
        assert!(
            !text.to_lowercase().contains(&secret.to_lowercase()),
            "{secret}"
        );
    }
    assert!(text.contains("signed in with password and second factor"));
    assert!(text.contains("110123"));
    assert!(text.contains(&session.agent.id));
    assert_eq!(NOW_MS, house.now_ms());
}

// Proves: 45 CFR 164.312(a)(2)(iii)
#[tokio::test]
async fn a_look_does_not_keep_a_session_awake() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (cookie, session) = signed_in(&house, "devi", &secret).await;
    for _ in 0..29 {
        house.wall.advance(30_000);
        assert_eq!(identity.peek(&cookie).await.unwrap().id, session.id);
    }
    house.wall.advance(30_000);
    no(identity.peek(&cookie).await);
    no(identity.session(&cookie).await);
}

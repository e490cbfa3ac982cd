//! Tries that fail: what is recorded of them, how many there may be, and what is left afterwards.
use super::*;

/// The notes of refused sign-ins, newest first.
async fn notes(house: &House) -> Vec<String> {
    let events = house.audit_events(TENANT).await;
    let refused = events.iter().filter(|event| {
        event.text_at(&["subtype", "0", "code"]) == Some("110122")
            && event.text_at(&["outcome"]) == Some("8")
    });
    refused
        .map(|event| event.text_at(&["outcomeDesc"]).unwrap().to_owned())
        .collect()
}

async fn live(house: &House, kind: ledger::Kind) -> usize {
    let query = Query::Token(house.ledger().kind_token(TENANT, kind));
    let found = house.ledger().search(TENANT, &query, None, None, 10_000);
    found.await.unwrap().len()
}

// Proves: 45 CFR 164.308(a)(5)(ii)(C)
#[tokio::test]
async fn an_attack_that_goes_on_into_the_lock_out_is_seen() {
    let house = House::new().await;
    let identity = house.trust.identity();
    enrolled(&house, "devi", Role::Clinician).await;
    for _ in 0..5 {
        no(identity.password(TENANT, "devi", "wrong-password").await);
    }
    for _ in 0..60 {
        let locked = identity.password(TENANT, "devi", "wrong-password").await;
        assert!(matches!(locked, Err(TrustError::LockedOut { .. })));
    }
    let notes_then = notes(&house).await;
    let locked = |notes: &[String]| {
        let of_lock_out = notes
            .iter()
            .filter(|note| note.starts_with("tried while locked out (account "));
        of_lock_out.count()
    };
    assert_eq!((locked(&notes_then), notes_then.len()), (20, 25));
    // Later ones say how many were left out.
    house.wall.advance(29_000);
    for _ in 0..2 {
        let _ = identity.password(TENANT, "devi", "wrong-password").await;
    }
    house.wall.advance(1_000);
    no(identity.password(TENANT, "devi", "wrong-password").await);
    let _ = identity.password(TENANT, "devi", "wrong-password").await;
    let newest = &notes(&house).await[0];
    assert!(
        newest.ends_with("; 42 more like it were not recorded"),
        "{newest}"
    );
}

// Proves: 45 CFR 164.308(a)(5)(ii)(C)
#[tokio::test]
async fn links_tickets_and_tokens_that_open_nothing_are_recorded() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let identity = house.trust.identity();
    let totp = enrolled(&house, "devi", Role::Clinician).await;
    let enter = async |link: &str| identity.use_link(TENANT, link, "1950-02-03").await;

    let once = identity.make_link(&demo(), "p", 3600, false).await.unwrap();
    done(enter(&once).await.unwrap());
    no(enter(&once).await);
    let old = identity.make_link(&demo(), "p", 60, true).await.unwrap();
    let ticket = ticket(&house, "devi").await;
    let client = identity
        .create_client(&demo(), "lab", Role::Client)
        .await
        .unwrap();
    house.wall.advance(300_000);
    no(enter(&old).await);
    no(identity.second_factor(&ticket, &code(&house, &totp)).await);
    let nowhere = secrets::mint(TENANT, &ledger::SystemEntropy);
    no(enter(&nowhere).await);
    no(identity.second_factor(&nowhere, "123456").await);
    no(identity.bearer(&nowhere).await);
    house.wall.advance(CLIENT_LIFE_MS);
    no(identity.bearer(&client).await);

    let told = notes(&house).await;
    let expected = [
        "expired access token",
        "unknown access token",
        "a sign-in that is unknown, or was finished or ended before",
        "a link that is unknown, or ended a while ago",
        "a sign-in to account ",
        "a link whose time is over",
        "a link that was used already",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
    // The patient finds the dead links among theirs.
    let events = house.audit_events(TENANT).await;
    let of_patient = events.iter().filter(|event| {
        event.text_at(&["outcome"]) == Some("8")
            && crate::audit::patients(event).any(|patient| patient == "p")
    });
    assert_eq!(of_patient.count(), 2);
}

// Proves: 45 CFR 164.308(a)(5)(ii)(C)
#[tokio::test]
async fn strangers_leave_nothing_behind_but_a_bounded_number_of_records() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let before = house.audits(TENANT).await;
    for number in 0..60 {
        let name = format!("nobody-{number}");
        no(identity.password(TENANT, &name, "wrong-password").await);
        let nowhere = secrets::mint(TENANT, &ledger::SystemEntropy);
        no(identity.bearer(&nowhere).await);
        no(identity.use_link(TENANT, &nowhere, "1950-02-03").await);
    }
    assert_eq!(house.audits(TENANT).await, before + 60, "20 of each sort");
    for kind in kinds::OF_IDENTITY {
        assert_eq!(live(&house, kind).await, 0, "{kind:?}");
    }
    house.wall.advance(86_400_001);
    identity.sweep(TENANT).await.unwrap();
    assert_eq!(identity.inner.refusals.names_of_nobody(), 0);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn wrong_birth_dates_count_for_the_patient_whichever_link() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_patient("q", "Lie")])
        .await;
    let identity = house.trust.identity();
    let link = async |patient: &str| {
        identity
            .make_link(&demo(), patient, 40 * 86_400, true)
            .await
            .unwrap()
    };
    let links = [link("p").await, link("p").await, link("p").await];
    let of_q = link("q").await;
    let mut tried = 0;
    for (at, link) in links.iter().cycle().take(60).enumerate() {
        let date = format!("1951-01-{:02}", at % 28 + 1);
        if matches!(
            identity.use_link(TENANT, link, &date).await,
            Err(TrustError::SignIn)
        ) {
            tried += 1;
        }
        // Longer than the longest wait.
        house.wall.advance(900_000);
    }
    assert_eq!(tried, 20, "dates that were looked at, in three links");
    let fresh = link("p").await;
    let locked = identity.use_link(TENANT, &fresh, "1950-02-03").await;
    let Err(TrustError::LockedOut { wait_s }) = locked else {
        panic!("{locked:?}");
    };
    assert!(wait_s > 5 * 86_400, "{wait_s}");
    // Others come in; and after a week so does the patient.
    done(
        identity
            .use_link(TENANT, &of_q, "1950-02-03")
            .await
            .unwrap(),
    );
    house.wall.advance(7 * 86_400_000);
    done(
        identity
            .use_link(TENANT, &fresh, "1950-02-03")
            .await
            .unwrap(),
    );
}

#[tokio::test]
async fn what_is_over_is_swept_away_and_nothing_else() {
    const DAY_MS: u64 = 86_400_000;
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let identity = house.trust.identity();
    let totp = enrolled(&house, "devi", Role::Clinician).await;
    signed_in(&house, "devi", &totp).await;
    ticket(&house, "devi").await;
    no(identity.password(TENANT, "devi", "wrong-password").await);
    identity.make_link(&demo(), "p", 3_600, true).await.unwrap();
    let week = identity
        .make_link(&demo(), "p", 7 * 86_400, true)
        .await
        .unwrap();
    let counts = async || {
        (
            live(&house, kinds::SESSION).await,
            live(&house, kinds::SIGN_IN_LINK).await,
            live(&house, kinds::SIGN_IN_ATTEMPTS).await,
        )
    };
    assert_eq!(counts().await, (2, 2, 1));
    assert_eq!(identity.sweep(TENANT).await.unwrap(), 0);
    house.wall.advance(2 * DAY_MS);
    assert_eq!(identity.sweep(TENANT).await.unwrap(), 3);
    assert_eq!(counts().await, (0, 1, 1));
    let (cookie, _) = done(
        identity
            .use_link(TENANT, &week, "1950-02-03")
            .await
            .unwrap(),
    );
    assert_eq!(identity.sweep(TENANT).await.unwrap(), 0);
    identity.session(&cookie).await.unwrap();
    house.wall.advance(30 * DAY_MS);
    assert_eq!(identity.sweep(TENANT).await.unwrap(), 3);
    assert_eq!(counts().await, (0, 0, 0));
    // A count of failures that was swept away begins anew.
    no(identity.password(TENANT, "devi", "wrong-password").await);
    signed_in(&house, "devi", &totp).await;
    // More than one commit's worth.
    for _ in 0..450 {
        identity.make_link(&demo(), "p", 60, true).await.unwrap();
    }
    house.wall.advance(3 * DAY_MS);
    assert!(identity.sweep(TENANT).await.unwrap() >= 450);
    assert_eq!(live(&house, kinds::SIGN_IN_LINK).await, 0);
    let report = house.ledger().verify_audit(&|_| {}).await.unwrap();
    assert!(report.broken.is_none(), "{report:?}");
}

/// By what is done, because a time that is measured in a test is the machine's.
#[tokio::test]
async fn a_name_that_nobody_has_takes_as_much_work() {
    let house = House::new().await;
    let identity = house.trust.identity();
    enrolled(&house, "devi", Role::Clinician).await;
    enrolled(&house, "gone", Role::Clinician).await;
    let permit = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    let gone = identity.account_named(&demo(), "gone").await.unwrap();
    identity
        .set_active(&permit, &gone.unwrap(), false)
        .await
        .unwrap();
    let mut work = Vec::new();
    for (name, password) in [
        ("devi", "wrong-password"),
        ("nobody", "wrong-password"),
        ("gone", PASSWORD),
        ("", "wrong-password"),
        ("nobody", ""),
    ] {
        secrets::HELD_AGAINST.lock().unwrap().clear();
        no(identity.password(TENANT, name, password).await);
        let held = secrets::HELD_AGAINST.lock().unwrap().clone();
        // What the hash costs stands before its salt.
        let cost = |hash: &String| hash.split('$').take(4).collect::<Vec<_>>().join("$");
        work.push(held.iter().map(cost).collect::<Vec<_>>());
    }
    assert_eq!(work[0].len(), 1);
    assert!(work.iter().all(|one| *one == work[0]), "{work:?}");
    // What is too long to be anybody's is held against nothing, whoever is named.
    let long = "x".repeat(1_000);
    secrets::HELD_AGAINST.lock().unwrap().clear();
    for name in ["devi", "nobody"] {
        no(identity.password(TENANT, name, &long).await);
    }
    assert!(secrets::HELD_AGAINST.lock().unwrap().is_empty());
}

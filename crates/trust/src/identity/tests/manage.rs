//! What administrators take away, and that it is gone at once.
use super::*;

pub(super) async fn administer(house: &House) -> Permit {
    house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap()
}

pub(super) async fn last_note(house: &House) -> String {
    let events = house.audit_events(TENANT).await;
    let note = events[0].text_at(&["outcomeDesc"]);
    note.unwrap_or_default().to_owned()
}

// Proves: 45 CFR 164.308(a)(3)(ii)(A)
#[tokio::test]
async fn only_administrators_get_the_permit() {
    let house = House::new().await;
    for role in Role::ALL {
        let purpose = Purpose::Administration;
        let asked = house
            .permit(&staff(role), purpose, Action::Administer)
            .await;
        assert_eq!(asked.is_ok(), role == Role::Administrator, "{role:?}");
    }
    // Another permit opens nothing, and the try is recorded.
    let identity = house.trust.identity();
    let observe = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Observe,
        )
        .await
        .unwrap();
    let before = house.audits(TENANT).await;
    for refused in [
        identity.accounts(&observe).await.map(|_| ()),
        identity.clients(&observe).await.map(|_| ()),
        identity.set_active(&observe, "x", false).await,
        identity.set_patient_active(&observe, "x", false).await,
        identity.reset_second_factor(&observe, "x", "").await,
        identity.end_sessions(&observe, "x").await.map(|_| ()),
        identity.open_sessions(&observe, "x").await.map(|_| ()),
        identity.revoke_client(&observe, "x", "").await,
    ] {
        assert!(
            matches!(refused, Err(TrustError::Refused(_))),
            "{refused:?}"
        );
    }
    assert_eq!(house.audits(TENANT).await, before + 8);
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn closing_an_account_ends_its_sessions_at_once() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (cookie, session) = signed_in(&house, "devi", &secret).await;
    identity.session(&cookie).await.unwrap();
    let waiting = ticket(&house, "devi").await;
    let account = session.agent.id.clone();
    assert_eq!(identity.open_sessions(&permit, &account).await.unwrap(), 1);
    identity.set_active(&permit, &account, false).await.unwrap();
    assert_eq!(
        last_note(&house).await,
        format!("account {account} was closed")
    );
    // No time has passed.
    no(identity.session(&cookie).await);
    no(identity.peek(&cookie).await);
    no(identity.second_factor(&waiting, "000000").await);
    no(identity.password(TENANT, "devi", PASSWORD).await);
    house.wall.advance(30_000);
    identity.set_active(&permit, &account, true).await.unwrap();
    no(identity.session(&cookie).await);
    no(identity
        .second_factor(&waiting, &code(&house, &secret))
        .await);
    signed_in(&house, "devi", &secret).await;
    for id in ["unknown", ""] {
        let unknown = identity.set_active(&permit, id, true).await;
        assert!(matches!(unknown, Err(TrustError::Invalid(_))));
    }
}

#[tokio::test]
async fn nobody_closes_themselves() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let secret = enrolled(&house, "ada", Role::Administrator).await;
    let (_, session) = signed_in(&house, "ada", &secret).await;
    let permit = house
        .permit(&session.agent, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    let own = &session.agent.id;
    for result in [
        identity.set_active(&permit, own, false).await,
        identity.reset_second_factor(&permit, own, "lost").await,
    ] {
        assert!(matches!(result, Err(TrustError::Invalid(_))), "{result:?}");
    }
    assert_eq!(identity.end_sessions(&permit, own).await.unwrap(), 1);
}

#[tokio::test]
async fn sessions_are_ended_and_the_account_stays() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let devi = enrolled(&house, "devi", Role::Clinician).await;
    let carla = enrolled(&house, "carla", Role::Coordinator).await;
    let (first, session) = signed_in(&house, "devi", &devi).await;
    house.wall.advance(60_000);
    let (second, _) = signed_in(&house, "devi", &devi).await;
    let (other, _) = signed_in(&house, "carla", &carla).await;
    let waiting = ticket(&house, "devi").await;
    for cookie in [&first, &second, &other] {
        identity.session(cookie).await.unwrap();
    }
    let id = &session.agent.id;
    assert_eq!(identity.open_sessions(&permit, id).await.unwrap(), 2);
    assert_eq!(identity.end_sessions(&permit, id).await.unwrap(), 3);
    assert_eq!(identity.end_sessions(&permit, id).await.unwrap(), 0);
    for cookie in [&first, &second] {
        no(identity.session(cookie).await);
    }
    identity.session(&other).await.unwrap();
    house.wall.advance(60_000);
    no(identity.second_factor(&waiting, &code(&house, &devi)).await);
    signed_in(&house, "devi", &devi).await;
}

// Proves: 45 CFR 164.308(a)(5)(ii)(D)
#[tokio::test]
async fn a_lost_second_factor_is_reset_with_a_reason() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let secret = enrolled(&house, "devi", Role::Clinician).await;
    let (cookie, session) = signed_in(&house, "devi", &secret).await;
    let waiting = ticket(&house, "devi").await;
    let id = &session.agent.id;
    let reason = "telephone  lost,\nseen in person";
    identity
        .reset_second_factor(&permit, id, reason)
        .await
        .unwrap();
    assert_eq!(
        last_note(&house).await,
        format!("account {id} lost its second factor: telephone lost, seen in person")
    );
    no(identity.session(&cookie).await);
    house.wall.advance(30_000);
    no(identity
        .second_factor(&waiting, &code(&house, &secret))
        .await);
    let accounts = identity.accounts(&permit).await.unwrap();
    assert!(!accounts.rows[0].second_factor);
    let again = identity.password(TENANT, "devi", PASSWORD).await.unwrap();
    assert!(matches!(again, SignIn::EnrolTotp { .. }), "{again:?}");
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn a_revoked_token_opens_nothing_from_then_on() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let token = identity
        .create_client(&demo(), "lab", Role::Client)
        .await
        .unwrap();
    let other = identity
        .create_client(&demo(), "pharmacy", Role::Client)
        .await
        .unwrap();
    let id = identity.bearer(&token).await.unwrap().id;
    let states = async || {
        let clients = identity.clients(&permit).await.unwrap();
        assert!(clients.complete);
        let rows = clients.rows.into_iter();
        rows.map(|client| (client.name, client.state))
            .collect::<Vec<_>>()
    };
    let named = |state| {
        vec![
            ("lab".to_owned(), state),
            ("pharmacy".to_owned(), ClientState::Active),
        ]
    };
    assert_eq!(states().await, named(ClientState::Active));
    identity
        .revoke_client(&permit, &id, "the token leaked")
        .await
        .unwrap();
    assert_eq!(
        last_note(&house).await,
        format!("client {id} was revoked: the token leaked")
    );
    no(identity.bearer(&token).await);
    identity.bearer(&other).await.unwrap();
    assert_eq!(states().await, named(ClientState::Revoked));
    // Again changes nothing.
    identity.revoke_client(&permit, &id, "").await.unwrap();
    let unknown = identity.revoke_client(&permit, "unknown", "").await;
    assert!(matches!(unknown, Err(TrustError::Invalid(_))));
    house.wall.advance(CLIENT_LIFE_MS);
    let states = states().await;
    assert_eq!(states[1].1, ClientState::Expired);
}

#[tokio::test]
async fn a_patient_is_shut_out_of_links_and_let_in_again() {
    let house = House::new().await;
    house
        .put([a_patient("p", "Berg"), a_patient("q", "Lie")])
        .await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let link = async |patient: &str| {
        identity
            .make_link(&demo(), patient, 86_400, true)
            .await
            .unwrap()
    };
    let (of_p, of_q) = (link("p").await, link("q").await);
    let enter = async |link: &str| identity.use_link(TENANT, link, "1950-02-03").await;
    let (cookie, _) = done(enter(&of_p).await.unwrap());
    let (other, _) = done(enter(&of_q).await.unwrap());
    for cookie in [&cookie, &other] {
        identity.session(cookie).await.unwrap();
    }
    identity
        .set_patient_active(&permit, "p", false)
        .await
        .unwrap();
    no(identity.session(&cookie).await);
    no(enter(&of_p).await);
    no(enter(&link("p").await).await);
    identity.session(&other).await.unwrap();
    let accounts = identity.accounts(&permit).await.unwrap();
    let [account] = accounts.rows.as_slice() else {
        panic!("{accounts:?}");
    };
    assert_eq!(
        (account.patient.as_deref(), account.active, account.role),
        (Some("p"), false, Role::Patient)
    );
    // Twice is once, and the patient finds in the trail what was done.
    identity
        .set_patient_active(&permit, "p", false)
        .await
        .unwrap();
    assert_eq!(identity.accounts(&permit).await.unwrap().rows.len(), 1);
    let events = house.audit_events(TENANT).await;
    assert!(events.iter().any(|event| {
        event.text_at(&["subtype", "0", "code"]) == Some("110137")
            && crate::audit::patients(event).any(|patient| patient == "p")
    }));

    identity
        .set_active(&permit, &account.id, true)
        .await
        .unwrap();
    done(enter(&of_p).await.unwrap());
    no(identity.session(&cookie).await);
    for nobody in ["nobody", "", "no id!"] {
        let result = identity.set_patient_active(&permit, nobody, false).await;
        assert!(matches!(result, Err(TrustError::Invalid(_))), "{result:?}");
    }
}

// Proves: 45 CFR 164.308(a)(4)(ii)(C)
#[tokio::test]
async fn accounts_are_listed_by_name_and_the_look_is_recorded() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    for (user_name, name) in [("zoe", "Anna Z"), ("al", "Bert A"), ("mo", "Anna M")] {
        let account = NewAccount {
            name: name.to_owned(),
            ..account(user_name, Role::Clinician)
        };
        identity.create(&demo(), account).await.unwrap();
    }
    let before = house.audits(TENANT).await;
    let listing = identity.accounts(&permit).await.unwrap();
    assert!(listing.complete);
    let names: Vec<&str> = listing.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["Anna M", "Anna Z", "Bert A"]);
    assert!(
        listing
            .rows
            .iter()
            .all(|row| row.active && !row.second_factor)
    );
    assert_eq!(house.audits(TENANT).await, before + 1);
    assert_eq!(last_note(&house).await, "3 accounts listed");
}

/// Requests with a session and its sign-out at the same time: whatever came first, afterwards the
/// session opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_out_is_not_undone_by_requests_under_way() {
    let house = House::new().await;
    let identity = house.trust.identity();
    house.put([a_patient("p", "Berg")]).await;
    let link = identity.make_link(&demo(), "p", 3600, true).await.unwrap();
    for _ in 0..20 {
        let (cookie, _) = done(
            identity
                .use_link(TENANT, &link, "1950-02-03")
                .await
                .unwrap(),
        );
        let requests: Vec<_> = (0..8)
            .map(|_| {
                let (identity, cookie) = (identity.clone(), cookie.clone());
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let _ = identity.session(&cookie).await;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        identity.sign_out(&cookie).await.unwrap();
        for request in requests {
            request.await.unwrap();
        }
        no(identity.session(&cookie).await);
    }
}

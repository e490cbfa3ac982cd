//! What a provider remembers and this server does not take any more, logouts that were cut short, and accounts
//! that are signed in to at a provider alone.

use super::flow::{Flow, SUBJECT};
use super::*;
use crate::TrustError;
use crate::identity::{SignIn, documents, secrets};
use crate::kinds;
use crate::tests::{House, TENANT};

const IDLE_MS: u64 = 900_000;

/// An identity token of now, of somebody who signed in at the provider some time ago.
fn token_of(flow: &Flow, signed_in_s: Option<u64>) -> IdToken {
    let now_s = flow.now_s();
    let mut claims = json!({
        "iss": ISSUER, "aud": "cairn", "sub": SUBJECT, "nonce": "n-1", "iat": now_s, "exp": now_s + 300,
    });
    if let Some(at_s) = signed_in_s {
        claims = with(claims, "auth_time", json!(at_s));
    }
    let token = flow.issuer.sign(&flow.issuer.header("ES256"), &claims);
    let checked = check_id_token(&token, &flow.keys, ASKED, now_s * 1000);
    checked.ok().unwrap()
}

fn left(flow: &Flow, anew: bool) -> Away {
    let identity = flow.house.trust.identity();
    let left = identity.leave(TENANT, "hospital", ISSUER, None, anew);
    left.unwrap().0
}

#[tokio::test]
async fn a_session_that_nobody_used_is_not_opened_again_by_one_press() {
    let flow = Flow::linked().await;
    let wall = &flow.house.wall;
    let morning_s = flow.now_s();
    let (secret, _) = flow.signed_in(None).await;
    wall.advance(IDLE_MS - 1000);
    // Elsewhere, while the session is used, what the provider remembers will do.
    assert!(flow.is_open(&secret).await);
    let old = token_of(&flow, Some(morning_s));
    let admitted = flow.admit(&old, true).await.unwrap();
    assert!(matches!(admitted, Admission::Known(_)), "{admitted:?}");
    wall.advance(IDLE_MS);
    assert!(!flow.is_open(&secret).await);
    for signed_in_s in [Some(morning_s), None] {
        let old = token_of(&flow, signed_in_s);
        for by_two in [true, false] {
            let admitted = flow.admit(&old, by_two).await.unwrap();
            assert!(matches!(admitted, Admission::Stale), "{admitted:?}");
        }
    }
    assert!(flow.last_note().await.contains("has to sign in anew"));
    // Another server knows it as well.
    let other = House::trust_over(flow.house.ledger().clone(), wall);
    let (away, old) = (left(&flow, false), token_of(&flow, Some(morning_s)));
    let arrival = Arrival {
        issuer: ISSUER,
        token: &old,
        by_two_factors: true,
        away: &away,
    };
    let admitted = other.identity().admit(TENANT, arrival).await.unwrap();
    assert!(matches!(admitted, Admission::Stale), "{admitted:?}");
    // Whoever signed in there since is let in.
    let away = left(&flow, true);
    let new = token_of(&flow, Some(flow.now_s()));
    let admitted = flow.admit_from(&away, &new, true).await.unwrap();
    assert!(matches!(admitted, Admission::Known(_)), "{admitted:?}");
    // The same sign-in opens nothing twice, here or elsewhere.
    for by_two in [true, false] {
        let again = flow.admit_from(&away, &new, by_two).await;
        assert!(matches!(again, Err(TrustError::SignIn)), "{again:?}");
    }
    // From now on what the provider remembers is new enough.
    let admitted = flow.admit(&new, true).await.unwrap();
    assert!(matches!(admitted, Admission::Known(_)), "{admitted:?}");
}

#[tokio::test]
async fn who_signs_out_may_come_back_by_one_press() {
    let flow = Flow::linked().await;
    let morning_s = flow.now_s();
    let (secret, _) = flow.signed_in(None).await;
    let identity = flow.house.trust.identity();
    identity.sign_out(&secret).await.unwrap();
    flow.house.wall.advance(4 * IDLE_MS);
    let old = token_of(&flow, Some(morning_s));
    let admitted = flow.admit(&old, true).await.unwrap();
    assert!(matches!(admitted, Admission::Known(_)), "{admitted:?}");
    // But not where it was asked to sign them in anew.
    for token in [old, token_of(&flow, None)] {
        let admitted = flow.admit_from(&left(&flow, true), &token, true).await;
        let admitted = admitted.unwrap();
        let asks = matches!(admitted, Admission::Known(SignIn::SecondFactor { .. }));
        assert!(asks, "{admitted:?}");
    }
}

/// A provider that never says when somebody signed in locks nobody out who can show here who they are.
#[tokio::test]
async fn who_was_to_sign_in_anew_shows_a_factor_of_their_own() {
    let flow = Flow::linked().await;
    let identity = flow.house.trust.identity();
    let morning_s = flow.now_s();
    let (secret, _) = flow.signed_in(None).await;
    flow.house.wall.advance(IDLE_MS);
    assert!(!flow.is_open(&secret).await);
    for signed_in_s in [None, Some(morning_s)] {
        for by_two in [true, false] {
            let token = token_of(&flow, signed_in_s);
            // The provider is asked first.
            let admitted = flow.admit(&token, by_two).await.unwrap();
            assert!(matches!(admitted, Admission::Stale), "{admitted:?}");
            let away = left(&flow, true);
            let admitted = flow.admit_from(&away, &token, by_two).await.unwrap();
            let Admission::Known(SignIn::SecondFactor { ticket }) = admitted else {
                panic!("{admitted:?}");
            };
            let wrong = identity.second_factor(&ticket, "000000").await;
            assert!(matches!(wrong, Err(TrustError::SignIn)), "{wrong:?}");
            // The answer is used up, whatever became of it.
            let again = flow.admit_from(&away, &token, by_two).await;
            assert!(matches!(again, Err(TrustError::SignIn)), "{again:?}");
            // Codes are taken once each.
            flow.house.wall.advance(60_000);
            let done = identity.second_factor(&ticket, &flow.code()).await.unwrap();
            let SignIn::Done { secret, session } = done else {
                panic!("{done:?}");
            };
            // It is as new as the factor that was shown, not as what the provider remembers.
            assert!(identity.is_stepped_up(&session).await.unwrap());
            let at_ms = identity.signed_in_ms(&session).await.unwrap();
            assert_eq!(at_ms, Some(flow.now_s() * 1000));
            assert!(flow.is_open(&secret).await);
            flow.house.wall.advance(IDLE_MS);
            assert!(!flow.is_open(&secret).await);
        }
    }
    // Who has none would set one up, which proves nothing.
    let permit = flow.permit().await;
    let reset = identity.reset_second_factor(&permit, &flow.account, "lost");
    reset.await.unwrap();
    for by_two in [true, false] {
        let silent = token_of(&flow, None);
        let admitted = flow.admit_from(&left(&flow, true), &silent, by_two).await;
        let admitted = admitted.unwrap();
        assert!(matches!(admitted, Admission::Stale), "{admitted:?}");
    }
}

/// A logout is kept and then ends sessions. Whatever cuts it short in between, it ends them.
// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn a_logout_that_was_cut_short_is_finished() {
    let flow = Flow::linked().await;
    let identity = flow.house.trust.identity();
    let ledger = flow.house.ledger();
    let (secret, session) = flow.signed_in(Some("s1")).await;
    let (other, _) = flow.signed_in(Some("s2")).await;
    assert!(flow.is_open(&secret).await && flow.is_open(&other).await);
    let kept = async || {
        let found: Option<documents::Kept<documents::SessionDocument>> =
            documents::get(ledger, TENANT, kinds::SESSION, &session.id)
                .await
                .unwrap();
        found
    };
    // What is left by a server that ended between the two: the logout, and the session as it was.
    let before = kept().await.unwrap();
    let token = flow.logout_token("l1", Some(SUBJECT), Some("s1"));
    assert_eq!(flow.end(&token).await, 1);
    let revived = identity.session_draft(
        TENANT,
        &session.id,
        ledger::Expected::Version(before.version + 1),
        &before.body,
    );
    let record = crate::audit::Record::new(&session.agent, crate::audit::Event::SESSION_KEPT);
    let revived = identity.commit(TENANT, vec![revived.unwrap()], record);
    revived.await.unwrap();
    // It opens nothing from the next look at the store on, on any server.
    flow.house.wall.advance(30_001);
    let restarted = House::trust_over(ledger.clone(), &flow.house.wall);
    assert!(restarted.identity().session(&secret).await.is_err());
    assert!(!flow.is_open(&secret).await);
    assert!(flow.is_open(&other).await);
    assert!(kept().await.is_some());
    // And the next sweep, at the start of a server at the latest, ends it; often is as good as once.
    restarted.identity().sweep(TENANT).await.unwrap();
    assert!(kept().await.is_none());
    restarted.identity().sweep(TENANT).await.unwrap();
    assert!(flow.is_open(&other).await);
}

#[tokio::test]
async fn a_linked_account_can_be_signed_in_to_at_the_provider_alone() {
    let flow = Flow::new().await;
    let (house, account) = (&flow.house, &flow.account);
    let identity = house.trust.identity();
    let permit = flow.permit().await;
    let by_password = async || identity.password(TENANT, "carla", "wooden-horse-7").await;
    let switch = async |on| identity.set_password_sign_in(&permit, account, on).await;
    let refused = |outcome: Result<(), TrustError>, words: &str| match outcome {
        Err(TrustError::Invalid(said)) => assert!(said.contains(words), "{said}"),
        other => panic!("{other:?}"),
    };
    // An account that nobody could sign in to.
    refused(switch(false).await, "link it first");
    flow.link(ISSUER, SUBJECT).await.unwrap();
    let own = crate::Agent {
        id: account.clone(),
        ..crate::tests::staff(crate::Role::Administrator)
    };
    let own = house.permit(
        &own,
        crate::Purpose::Administration,
        crate::Action::Administer,
    );
    let own = own.await.unwrap();
    refused(
        identity.set_password_sign_in(&own, account, false).await,
        "themselves",
    );
    // Without a factor of its own: whoever has the password could set one up.
    identity
        .reset_second_factor(&permit, account, "new")
        .await
        .unwrap();
    let SignIn::EnrolTotp { ticket, secret, .. } = by_password().await.unwrap() else {
        panic!("no enrolment");
    };
    let (session, _) = flow.signed_in(None).await;
    assert!(flow.is_open(&session).await);
    switch(false).await.unwrap();
    // What was under way ends, and nothing begins.
    let code = secrets::totp(&secret)
        .unwrap()
        .generate(flow.now_s())
        .to_string();
    assert!(identity.second_factor(&ticket, &code).await.is_err());
    assert!(!flow.is_open(&session).await);
    assert!(matches!(by_password().await, Err(TrustError::SignIn)));
    let shown = identity.accounts(&permit).await.unwrap();
    assert!(
        shown
            .rows
            .iter()
            .any(|row| row.id == *account && !row.password && !row.second_factor)
    );
    // The provider lets them in as ever.
    let (session, _) = flow.signed_in(None).await;
    assert!(flow.is_open(&session).await);
    switch(false).await.unwrap();
    switch(true).await.unwrap();
    switch(true).await.unwrap();
    assert!(matches!(by_password().await, Ok(SignIn::EnrolTotp { .. })));
}

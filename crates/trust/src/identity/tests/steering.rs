//! Tokens that steer journeys and do nothing else.
use super::manage::{administer, last_note};
use super::*;

// Proves: 45 CFR 164.312(a)(1), 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn a_token_that_steers_does_that_and_nothing_else() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let token = identity
        .create_client(&demo(), "deploys", Role::Steerer)
        .await
        .unwrap();
    let agent = identity.bearer(&token).await.unwrap();
    assert_eq!(
        (agent.tenant, agent.role, agent.name.as_str()),
        (TENANT, Role::Steerer, "deploys")
    );
    for action in Action::ALL {
        for purpose in Purpose::ALL {
            let asked = house.permit(&agent, purpose, action).await;
            let may = action == Action::Steer && purpose == Purpose::CareManagement;
            assert_eq!(asked.is_ok(), may, "{action:?} {purpose:?}");
        }
    }
    // Nothing of a record may be looked at with the permit that it has.
    let permit = house
        .permit(&agent, Purpose::CareManagement, Action::Steer)
        .await
        .unwrap();
    for kind in fhir::ResourceType::all() {
        for look in [Action::Read, Action::Search, Action::History] {
            assert!(!permit.allows(look, kind), "{look:?} {kind}");
        }
    }
    // No person has the role, and who has no right to administer gives no token.
    assert!(matches!(
        identity
            .create(&demo(), account("stan", Role::Steerer))
            .await,
        Err(TrustError::Invalid(_))
    ));
    for role in [Role::Steerer, Role::Coordinator] {
        let by = staff(role);
        let made = identity.create_client(&by, "x", Role::Steerer).await;
        assert!(matches!(made, Err(TrustError::Refused(_))));
    }
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn it_is_listed_revoked_and_over_after_90_days() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let permit = administer(&house).await;
    let made = async |name: &str| {
        let token = identity.create_client(&demo(), name, Role::Steerer).await;
        token.unwrap()
    };
    let (token, other) = (made("deploys").await, made("nightly").await);
    let id = identity.bearer(&token).await.unwrap().id;
    // A program that knows no such role would stop at it, wherever it lists clients.
    let ledger = house.ledger();
    let of_before = ledger.get(TENANT, kinds::CLIENT, &id).await.unwrap();
    assert!(of_before.is_none());
    let listed = async || {
        let rows = identity.clients(&permit).await.unwrap().rows.into_iter();
        rows.map(|client| (client.name, client.role, client.state))
            .collect::<Vec<_>>()
    };
    let row = |name: &str, state| (name.to_owned(), Role::Steerer, state);
    let both = [
        row("deploys", ClientState::Active),
        row("nightly", ClientState::Active),
    ];
    assert_eq!(listed().await, both);
    identity
        .revoke_client(&permit, &id, "it was in a log")
        .await
        .unwrap();
    let note = format!("client {id} was revoked: it was in a log");
    assert_eq!(last_note(&house).await, note);
    no(identity.bearer(&token).await);
    let agent = identity.bearer(&other).await.unwrap();
    assert!(identity.is_still_in(&agent).await.unwrap());
    house.wall.advance(STEERER_LIFE_MS - 1);
    identity.bearer(&other).await.unwrap();
    house.wall.advance(1);
    no(identity.bearer(&other).await);
    assert!(!identity.is_still_in(&agent).await.unwrap());
    let over = [
        row("deploys", ClientState::Revoked),
        row("nightly", ClientState::Expired),
    ];
    assert_eq!(listed().await, over);
    // What it is known as in consents can be said of it, as of any other; purposes it has none of its own.
    let nobody = identity.set_known_as(&permit, &id, &[]).await;
    assert!(nobody.is_ok(), "{nobody:?}");
    let usual = Registered::default();
    let registered = identity.set_registered(&permit, &id, &usual).await;
    assert!(matches!(registered, Err(TrustError::Invalid(_))));
}

use serde_json::json;

use super::*;

use crate::identity::oauth::signer::Signer;
use crate::identity::oauth::{ClientProof, NewGrant, NewSystem, ShownClient, s256, wanted_scopes};
use crate::identity::{NewApp, SignIn};
use crate::tests::{House, TENANT, a_patient, staff};
use crate::{Action, Agent, Purpose, Role};

const TOKEN: &str = "https://cairn.example/oauth/token";
const BACK: &str = "https://app.example.org/back";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn set(signer: &Signer) -> SystemKeys {
    SystemKeys::Set(signer.jwks())
}

fn proof(house: &House, signer: &Signer, client: &str, id: &str) -> String {
    let now_s = house.wall_ms() / 1000;
    let claims = json!({"iss": client, "sub": client, "aud": TOKEN, "exp": now_s + 300, "jti": id});
    signer.sign(&signer.header(), &claims)
}

fn shown(assertion: &str) -> ClientProof<'_> {
    ClientProof {
        assertion,
        audience: TOKEN,
        fetched: &[],
    }
}

async fn register(house: &House, keys: SystemKeys) -> String {
    let new = NewSystem {
        name: "Laboratory".to_owned(),
        keys,
        scopes: "system/*.rs".to_owned(),
    };
    let admin = staff(Role::Administrator);
    let identity = house.trust.identity();
    identity.register_system(&admin, &new).await.unwrap()
}

async fn system_agent(house: &House, signer: &Signer, client: &str, id: &str) -> Agent {
    let assertion = proof(house, signer, client, id);
    let identity = house.trust.identity();
    let granted = identity.grant_to_system(TENANT, shown(&assertion), "system/*.rs");
    let token = granted.await.unwrap().token;
    identity.fhir_bearer(&token).await.unwrap()
}

async fn rekey(
    house: &House,
    id: &str,
    keys: &SystemKeys,
    before: KeysOfBefore,
) -> Result<(), TrustError> {
    let operator = Agent::system(TENANT, "command-line");
    let permit = house
        .permit(&operator, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    let identity = house.trust.identity();
    identity.rekey_client(&permit, id, keys, before).await
}

/// Downloads ask this while they go on.
async fn goes_on(house: &House, agent: &Agent) -> bool {
    let (purpose, action) = (Purpose::Treatment, Action::Export);
    let again = house.trust.decide_again(agent, purpose, action, "r").await;
    match again {
        Ok(_) => true,
        Err(TrustError::Refused(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn what_a_system_began_ends_when_its_keys_end_at_once() {
    let house = House::new().await;
    let (first, second, third) = (Signer::curve("1"), Signer::curve("2"), Signer::curve("3"));
    let id = register(&house, set(&first)).await;
    let began = system_agent(&house, &first, &id, "1").await;
    assert!(goes_on(&house, &began).await);
    // Keys that stay good beside others end nothing.
    let hour = KeysOfBefore::GoodFor(3_600_000);
    rekey(&house, &id, &set(&second), hour).await.unwrap();
    assert!(goes_on(&house, &began).await);
    rekey(&house, &id, &set(&third), KeysOfBefore::Gone)
        .await
        .unwrap();
    assert!(!goes_on(&house, &began).await);
    let anew = system_agent(&house, &third, &id, "2").await;
    assert!(goes_on(&house, &anew).await);
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn what_an_application_began_ends_when_its_keys_end_at_once() {
    let house = House::new().await;
    house.put([a_patient("p", "Berg")]).await;
    let identity = house.trust.identity();
    let mailer = Agent::system(TENANT, "mail-deliverer");
    let link = identity.make_link(&mailer, "p", 3600, false).await.unwrap();
    let signed = identity.use_link(TENANT, &link, "1950-02-03").await;
    let SignIn::Done { session, .. } = signed.unwrap() else {
        panic!("no session");
    };
    let (first, second) = (Signer::curve("1"), Signer::curve("2"));
    let new = NewApp {
        name: "Diary".to_owned(),
        redirect_uris: vec![BACK.to_owned()],
        launch_uri: None,
        scopes: "patient/*.rs".to_owned(),
        keys: set(&first),
    };
    let admin = staff(Role::Administrator);
    let id = identity.register_app(&admin, &new).await.unwrap();
    let app = identity.app(TENANT, &id).await.unwrap().unwrap();
    let agent_by = async |signer: &Signer, jti: &str| {
        let grant = NewGrant {
            app: &app,
            redirect_uri: BACK,
            challenge: &s256(VERIFIER),
            scopes: &wanted_scopes("patient/*.rs").unwrap(),
            patient: Some("p"),
            launch: None,
            nonce: None,
            context: None,
        };
        let code = identity.allow(&session, grant).await.unwrap();
        let assertion = proof(&house, signer, &id, jti);
        let client = ShownClient::Proof(shown(&assertion));
        let tokens = identity.exchange_code(TENANT, client, &code, BACK, VERIFIER);
        let access = tokens.await.unwrap().access;
        identity.fhir_bearer(&access).await.unwrap()
    };
    let began = agent_by(&first, "1").await;
    assert!(identity.is_still_in(&began).await.unwrap());
    rekey(&house, &id, &set(&second), KeysOfBefore::Gone)
        .await
        .unwrap();
    assert!(!identity.is_still_in(&began).await.unwrap());
    let anew = agent_by(&second, "2").await;
    assert!(identity.is_still_in(&anew).await.unwrap());
}

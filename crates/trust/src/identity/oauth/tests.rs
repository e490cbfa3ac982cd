use serde_json::{Value, json};

use super::signer::Signer;
use super::*;
use crate::identity::ClientState;
use crate::tests::{House, TENANT, is_refused, staff};
use crate::{Action, Purpose};

const TOKEN: &str = "https://cairn.example/oauth/token";

fn system(signer: &Signer, scopes: &str) -> NewSystem {
    NewSystem {
        name: "Laboratory".to_owned(),
        keys: SystemKeys::Set(signer.jwks()),
        scopes: scopes.to_owned(),
    }
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

async fn grant(house: &House, proof: &str, wanted: &str) -> Result<Granted, OauthError> {
    let identity = house.trust.identity();
    identity.grant_to_system(TENANT, shown(proof), wanted).await
}

fn no_client<T: std::fmt::Debug>(result: &Result<T, OauthError>, words: &str) {
    match result {
        Err(OauthError::InvalidClient(said)) => assert!(said.contains(words), "{said}"),
        other => panic!("{other:?}"),
    }
}

async fn opens(house: &House, token: &str) -> bool {
    match house.trust.identity().fhir_bearer(token).await {
        Ok(_) => true,
        Err(TrustError::SignIn) => false,
        Err(error) => panic!("{error}"),
    }
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn a_system_gets_tokens_that_narrow_and_end() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let admin = staff(Role::Administrator);
    let signer = Signer::curve("k");
    let new = system(&signer, "system/Observation.rs system/Patient.read");
    let id = identity.register_system(&admin, &new).await.unwrap();
    let wanted = "system/*.cruds";
    let granted = grant(&house, &proof(&house, &signer, &id, "1"), wanted)
        .await
        .unwrap();
    assert_eq!(
        granted.scopes.to_string(),
        "system/Observation.rs system/Patient.rs"
    );
    assert_eq!(granted.expires_in_s, 300);
    let agent = identity.fhir_bearer(&granted.token).await.unwrap();
    assert_eq!(
        (agent.id.as_str(), agent.role, agent.name.as_str()),
        (id.as_str(), Role::Client, "Laboratory")
    );
    let access = agent.access.unwrap();
    assert_eq!(access.scopes, granted.scopes);
    assert_eq!(access.patient, None);
    // It is for FHIR, and not for what else takes tokens.
    assert!(matches!(
        identity.bearer(&granted.token).await,
        Err(TrustError::SignIn)
    ));
    house.wall.advance(ACCESS_LIFE_S * 1000 - 1);
    assert!(opens(&house, &granted.token).await);
    house.wall.advance(1);
    assert!(!opens(&house, &granted.token).await);
}

// Proves: 45 CFR 164.312(d)
#[tokio::test]
async fn a_proof_works_once_and_for_its_client_alone() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let admin = staff(Role::Administrator);
    let (signer, other) = (Signer::curve("k"), Signer::curve("k"));
    let register = async |signer: &Signer| {
        let new = system(signer, "system/*.rs");
        identity.register_system(&admin, &new).await.unwrap()
    };
    let (id, other_id) = (register(&signer).await, register(&other).await);
    let once = proof(&house, &signer, &id, "1");
    assert!(grant(&house, &once, "system/*.rs").await.is_ok());
    no_client(&grant(&house, &once, "system/*.rs").await, "used before");
    // The id is another client's own affair.
    let theirs = proof(&house, &other, &other_id, "1");
    assert!(grant(&house, &theirs, "system/*.rs").await.is_ok());
    let stolen = proof(&house, &other, &id, "2");
    no_client(&grant(&house, &stolen, "system/*.rs").await, "signature");
    for nobody in ["nobody", "", "../x", "1.2"] {
        let unknown = proof(&house, &signer, nobody, "3");
        no_client(&grant(&house, &unknown, "system/*.rs").await, "no client");
    }
    for garbage in ["", "x", "a.b.c"] {
        no_client(
            &grant(&house, garbage, "system/*.rs").await,
            "no signed JWT",
        );
    }
    // At the same time: one of them gets a token.
    let both = proof(&house, &signer, &id, "4");
    let (left, right) = tokio::join!(
        grant(&house, &both, "system/*.rs"),
        grant(&house, &both, "system/*.rs")
    );
    assert_eq!(usize::from(left.is_ok()) + usize::from(right.is_ok()), 1);
    // It stays used when what was over has been swept.
    house.wall.advance(2 * 86_400_000);
    assert!(identity.sweep(TENANT).await.unwrap() > 0);
    no_client(&grant(&house, &both, "system/*.rs").await, "expired");
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn scopes_that_were_not_registered_are_not_granted() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let signer = Signer::curve("k");
    let new = system(&signer, "system/Observation.rs?category=laboratory");
    let admin = staff(Role::Administrator);
    let id = identity.register_system(&admin, &new).await.unwrap();
    let table = [
        ("system/Patient.rs", "none of these"),
        ("system/Observation.cud", "none of these"),
        ("patient/Observation.rs", "none of these"),
        ("user/*.cruds", "none of these"),
        ("", "missing"),
        ("offline_access", "missing"),
        ("everything", "not understood"),
    ];
    for (number, (wanted, words)) in table.into_iter().enumerate() {
        let proof = proof(&house, &signer, &id, &number.to_string());
        match grant(&house, &proof, wanted).await {
            Err(OauthError::InvalidScope(said)) => assert!(said.contains(words), "{said}"),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    let fine = proof(&house, &signer, &id, "fine");
    let granted = grant(&house, &fine, "system/Observation.r system/Patient.r").await;
    assert_eq!(
        granted.unwrap().scopes.to_string(),
        "system/Observation.r?category=laboratory"
    );
}

// Proves: 45 CFR 164.308(a)(3)(ii)(C)
#[tokio::test]
async fn what_is_revoked_is_refused_at_once() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let admin = staff(Role::Administrator);
    let signer = Signer::curve("k");
    let new = system(&signer, "system/*.rs");
    let id = identity.register_system(&admin, &new).await.unwrap();
    let get = async |number: &str| {
        let proof = proof(&house, &signer, &id, number);
        grant(&house, &proof, "system/*.rs").await.unwrap().token
    };
    let (one, two) = (get("1").await, get("2").await);
    let give_back = async |number: &str, token: &str| {
        let proof = proof(&house, &signer, &id, number);
        identity.revoke_access(TENANT, shown(&proof), token).await
    };
    give_back("3", &one).await.unwrap();
    assert!(!opens(&house, &one).await);
    assert!(opens(&house, &two).await);
    give_back("4", "nonsense").await.unwrap();
    give_back("5", &one).await.unwrap();
    no_client(&give_back("5", &two).await, "used before");
    assert!(opens(&house, &two).await);
    // Another client's token is left alone.
    let other = Signer::curve("k");
    let other_id = identity
        .register_system(&admin, &system(&other, "system/*.rs"))
        .await
        .unwrap();
    let theirs = proof(&house, &other, &other_id, "1");
    let tried = identity.revoke_access(TENANT, shown(&theirs), &two).await;
    assert!(tried.is_ok() && opens(&house, &two).await);

    let permit = house
        .permit(&admin, Purpose::Administration, Action::Administer)
        .await
        .unwrap();
    identity
        .revoke_client(&permit, &id, "contract ended")
        .await
        .unwrap();
    assert!(!opens(&house, &two).await);
    let again = proof(&house, &signer, &id, "9");
    no_client(&grant(&house, &again, "system/*.rs").await, "revoked");
    let listed = identity.clients(&permit).await.unwrap();
    let states: Vec<_> = listed
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row.state, row.scopes.as_deref()))
        .collect();
    assert!(states.contains(&(id.as_str(), ClientState::Revoked, Some("system/*.rs"))));
    assert!(states.contains(&(other_id.as_str(), ClientState::Active, Some("system/*.rs"))));
}

// Proves: 45 CFR 164.308(a)(3)(ii)(A)
#[tokio::test]
async fn only_administrators_register_and_only_what_can_work() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let signer = Signer::curve("k");
    let fine = system(&signer, "system/*.rs");
    for role in [Role::Clinician, Role::Client, Role::PrivacyOfficer] {
        assert!(is_refused(
            &identity.register_system(&staff(role), &fine).await
        ));
    }
    let admin = staff(Role::Administrator);
    let keys = signer.jwks();
    for (scopes, keys, name) in [
        ("", keys.as_str(), "x"),
        ("patient/*.rs", &keys, "x"),
        ("user/*.rs system/*.rs", &keys, "x"),
        ("system/*.rs launch", &keys, "x"),
        ("system/Nothing.rs", &keys, "x"),
        ("system/*.rs", "{}", "x"),
        ("system/*.rs", &keys, " "),
    ] {
        let wrong = NewSystem {
            name: name.to_owned(),
            keys: SystemKeys::Set(keys.to_owned()),
            scopes: scopes.to_owned(),
        };
        let made = identity.register_system(&admin, &wrong).await;
        assert!(
            matches!(made, Err(TrustError::Invalid(_))),
            "{scopes} {keys}"
        );
    }
}

// Proves: 45 CFR 164.312(b), 164.312(a)(2)(i)
#[tokio::test]
async fn the_audit_says_who_asked_and_no_secret() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let signer = Signer::curve("k");
    let new = system(&signer, "system/*.rs");
    let admin = staff(Role::Administrator);
    let id = identity.register_system(&admin, &new).await.unwrap();
    let shown = proof(&house, &signer, &id, "the-only-one");
    let token = grant(&house, &shown, "system/*.rs").await.unwrap().token;
    no_client(&grant(&house, &shown, "system/*.rs").await, "used before");
    let last = if token.ends_with('A') { 'E' } else { 'A' };
    assert!(!opens(&house, &format!("{}{last}", &token[..token.len() - 1])).await);
    let events = house.audit_events(TENANT).await;
    let text: String = events
        .iter()
        .map(|event| String::from_utf8(event.to_json()).unwrap())
        .collect();
    for said in [
        "registered with a key",
        "access token given",
        "used before",
        "unknown access token",
        &id,
    ] {
        assert!(text.contains(said), "{said}");
    }
    let key: Value = signer.jwk();
    let part = |at: usize| shown.split('.').nth(at).unwrap().to_owned();
    for secret in [
        &token[2..],
        &part(1),
        &part(2),
        key["x"].as_str().unwrap(),
        "the-only-one",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn keys_that_are_fetched_are_asked_for_by_address() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let admin = staff(Role::Administrator);
    let signer = Signer::curve("k");
    let at = |url: &str| NewSystem {
        keys: SystemKeys::At(url.to_owned()),
        ..system(&signer, "system/*.rs")
    };
    for wrong in [
        "",
        "ftp://x",
        "keys.example.org",
        "https://x y",
        "https://x\n",
    ] {
        let made = identity.register_system(&admin, &at(wrong)).await;
        assert!(matches!(made, Err(TrustError::Invalid(_))), "{wrong}");
    }
    let url = "https://keys.example.org/jwks.json";
    let id = identity.register_system(&admin, &at(url)).await.unwrap();
    let number = std::cell::Cell::new(0);
    let ask = async |signer: &Signer, set: Option<&str>| {
        number.set(number.get() + 1);
        let assertion = proof(&house, signer, &id, &number.get().to_string());
        let wanted = identity.keys_wanted(TENANT, shown(&assertion)).await;
        let place = wanted.unwrap().unwrap();
        assert_eq!(
            (place.address.as_str(), place.client.as_str()),
            (url, id.as_str())
        );
        let set = set.map(str::to_owned);
        let fetched = [FetchedKeys { place, set }];
        let fetched = ClientProof {
            fetched: &fetched,
            ..shown(&assertion)
        };
        let more = identity.keys_wanted(TENANT, fetched).await.unwrap();
        assert_eq!(more, None, "there is one place");
        identity
            .grant_to_system(TENANT, fetched, "system/*.rs")
            .await
    };
    assert!(ask(&signer, Some(&signer.jwks())).await.is_ok());
    no_client(&ask(&signer, None).await, "could not be fetched");
    no_client(&ask(&signer, Some("<html>")).await, "no key set");
    let other = Signer::curve("k");
    no_client(&ask(&other, Some(&signer.jwks())).await, "signature");
    let stranger = proof(&house, &signer, "nobody", "1");
    for nobody in ["a.b.c", &stranger] {
        let wanted = identity.keys_wanted(TENANT, shown(nobody)).await;
        assert_eq!(wanted.unwrap(), None);
    }
    assert!(names_key(&stranger, &signer.jwks()));
    assert!(!names_key(&stranger, &Signer::curve("l").jwks()));
}

// Proves: 45 CFR 164.308(a)(4)(ii)(B)
#[tokio::test]
async fn who_asks_to_be_registered_waits_for_an_administrator() {
    let house = House::new().await;
    let identity = house.trust.identity();
    let signer = Signer::curve("k");
    let new = system(&signer, "system/Patient.rs system/Observation.rs");
    let ask = async || identity.ask_to_register(TENANT, &new).await.unwrap();
    let id = ask().await.unwrap();
    let early = proof(&house, &signer, &id, "1");
    no_client(
        &grant(&house, &early, "system/*.rs").await,
        "waits for approval",
    );
    let permit = house
        .permit(
            &staff(Role::Administrator),
            Purpose::Administration,
            Action::Administer,
        )
        .await
        .unwrap();
    let state = async || {
        let listed = identity.clients(&permit).await.unwrap();
        let found = listed.rows.into_iter().find(|row| row.id == id);
        found.map(|row| (row.state, row.scopes.unwrap_or_default()))
    };
    let asked = "system/Patient.rs system/Observation.rs".to_owned();
    assert_eq!(state().await, Some((ClientState::Waiting, asked)));
    // With less than it asked for, if an administrator says so.
    for wrong in ["", "patient/*.rs", "nonsense"] {
        let approved = identity.approve_system(&permit, &id, wrong).await;
        assert!(matches!(approved, Err(TrustError::Invalid(_))), "{wrong}");
    }
    let less = "system/Patient.rs";
    identity.approve_system(&permit, &id, less).await.unwrap();
    assert_eq!(state().await, Some((ClientState::Active, less.to_owned())));
    let granted = grant(&house, &early, "system/*.rs").await.unwrap();
    assert_eq!(granted.scopes.to_string(), less);
    // Once, and not what was revoked.
    let again = identity.approve_system(&permit, &id, less).await;
    assert!(matches!(again, Err(TrustError::Invalid(_))));
    identity.revoke_client(&permit, &id, "no").await.unwrap();
    let again = identity.approve_system(&permit, &id, less).await;
    assert!(matches!(again, Err(TrustError::Invalid(_))));
    let clinician = house
        .permit(&staff(Role::Clinician), Purpose::Treatment, Action::Read)
        .await
        .unwrap();
    assert!(is_refused(
        &identity.approve_system(&clinician, &id, less).await
    ));
    // Those that nobody lets in are bounded, and forgotten.
    for waiting in 0..=WAITING_MAX {
        assert_eq!(ask().await.is_some(), waiting < WAITING_MAX, "{waiting}");
    }
    let wrong = NewSystem {
        scopes: "user/*.rs".to_owned(),
        ..new.clone()
    };
    let asked = identity.ask_to_register(TENANT, &wrong).await;
    assert!(matches!(asked, Err(TrustError::Invalid(_))));
    house.wall.advance(9 * 86_400_000);
    identity.sweep(TENANT).await.unwrap();
    assert!(ask().await.is_some());
    let listed = identity.clients(&permit).await.unwrap();
    let waiting = listed
        .rows
        .iter()
        .filter(|row| row.state == ClientState::Waiting);
    assert_eq!(waiting.count(), 1);
}

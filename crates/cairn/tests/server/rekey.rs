//! Keys that change, here and where clients publish them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::get;
use serde_json::json;
use trust::identity::{KeysOfBefore, SystemKeys};

use crate::house::{House, administers, house_with};
use crate::mutual_tls::{opens, register};
use crate::signer::Signer;
use crate::smart::System;

/// Where a client publishes its keys.
struct Place {
    origin: String,
    set: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Place {
    async fn with(signer: &Signer) -> Self {
        let set = Arc::new(Mutex::new(signer.jwks()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (published, count) = (Arc::clone(&set), Arc::clone(&asked));
        let now = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let published = published.lock().expect("a lock").clone();
            async move { published }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let routes = axum::Router::new().route("/jwks", get(now));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            origin: format!("http://{address}"),
            set,
            asked,
        }
    }

    fn keys(&self) -> SystemKeys {
        SystemKeys::At(format!("{}/jwks", self.origin))
    }

    fn publish(&self, signer: &Signer) {
        *self.set.lock().expect("a lock") = signer.jwks();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn status(house: &House, system: &System, jti: &str) -> u16 {
    let answer = system.ask(house, jti, "system/Patient.rs").await;
    answer.status().as_u16()
}

async fn rekey(
    house: &House,
    id: &str,
    keys: &SystemKeys,
    before: KeysOfBefore,
) -> Result<(), String> {
    let permit = administers(&house.server).await;
    let identity = house.server.trust().identity();
    let done = identity.rekey_client(&permit, id, keys, before).await;
    done.map_err(|error| error.to_string())
}

const HOUR: KeysOfBefore = KeysOfBefore::GoodFor(3_600_000);

#[tokio::test]
async fn keys_change_without_revoking() {
    let house = house_with(|_| {}).await;
    let mut system = System::new(&house, "system/Patient.rs").await;
    let id = system.id.clone();
    let rekey = async |keys: SystemKeys, before| rekey(&house, &id, &keys, before).await;
    let hours = |hours: u64| KeysOfBefore::GoodFor(hours * 3_600_000);
    let set = |signer: &Signer| SystemKeys::Set(signer.jwks());
    let status = async |system: &System, jti: &str| status(&house, system, jti).await;
    let token = system.token(&house, "1", "system/Patient.rs").await;
    let same = rekey(set(&system.signer), hours(1)).await;
    assert!(same.is_err_and(|words| words.contains("the client has")));
    let long = rekey(set(&Signer::curve("key-2")), hours(24 * 90 + 1)).await;
    assert!(long.is_err_and(|words| words.contains("90 days")));
    let none = rekey(SystemKeys::None, hours(1)).await;
    assert!(none.is_err_and(|words| words.contains("has keys")));
    // Another key of the same kid: both sign for the client.
    let new = System {
        signer: Signer::curve("key-1"),
        id: id.clone(),
    };
    assert_eq!(status(&new, "2").await, 401);
    rekey(set(&new.signer), hours(1)).await.expect("changed");
    assert_eq!(status(&new, "3").await, 200);
    assert_eq!(status(&system, "4").await, 200);
    // A proof is good once, by whichever key.
    assert_eq!(status(&new, "4").await, 401);
    assert!(opens(&house, &house.http, &token).await);
    for (number, key) in ["key-3", "key-4", "key-5"].iter().enumerate() {
        let next = Signer::curve(key);
        let done = rekey(set(&next), hours(1)).await;
        // So many at a time.
        assert_eq!(done.is_ok(), number < 2, "{key}");
        if done.is_ok() {
            system.signer = next;
        }
    }
    assert_eq!(status(&new, "5").await, 200);
    rekey(set(&system.signer), KeysOfBefore::Gone)
        .await
        .expect("changed");
    assert_eq!(status(&new, "6").await, 401);
    assert_eq!(status(&system, "7").await, 200);
    assert!(!opens(&house, &house.http, &token).await);
    // Nothing would end: these are all that it has, alone, with others, or by another name.
    let mut renamed = system.signer.jwk();
    renamed["kid"] = "another".into();
    let more = [system.signer.jwk(), Signer::curve("key-6").jwk()];
    for kept in [json!([system.signer.jwk()]), json!(more), json!([renamed])] {
        let keys = SystemKeys::Set(json!({ "keys": kept }).to_string());
        let same = rekey(keys, KeysOfBefore::Gone).await;
        assert!(same.is_err_and(|words| words.contains("would end")));
    }
    // One of two ends.
    let two = SystemKeys::Set(json!({ "keys": more }).to_string());
    rekey(two, hours(1)).await.expect("changed");
    rekey(set(&system.signer), KeysOfBefore::Gone)
        .await
        .expect("changed");
    house.end().await;
}

/// A key that is changed where it is published is taken at its first use, and the one of before is good no more.
#[tokio::test]
async fn a_key_rotates_where_it_is_published() {
    let first = Signer::curve("key-1");
    let place = Place::with(&first).await;
    let house = house_with(|options| options.key_origins.clone_from(&place.origin)).await;
    let id = register(&house, place.keys()).await;
    let system = |signer| System {
        signer,
        id: id.clone(),
    };
    let (old, new) = (system(first), system(Signer::curve("key-2")));
    let status = async |system: &System, jti: &str| status(&house, system, jti).await;
    assert_eq!(status(&old, "1").await, 200);
    // As long as a key that isn't there is not asked for again, and a bit.
    tokio::time::sleep(Duration::from_secs(31)).await;
    place.publish(&new.signer);
    assert_eq!(status(&old, "2").await, 200, "it is kept for a while");
    assert_eq!(status(&new, "3").await, 200, "a new one is asked for");
    assert_eq!(status(&old, "4").await, 401);
    assert_eq!(status(&new, "5").await, 200);
    // From an address to another key, with both good.
    let third = system(Signer::curve("key-3"));
    let keys = SystemKeys::Set(third.signer.jwks());
    rekey(&house, &id, &keys, HOUR).await.expect("changed");
    assert_eq!(status(&third, "6").await, 200);
    assert_eq!(status(&new, "7").await, 200);
    house.end().await;
}

/// What a server keeps of an address is not what has been ended at once, where only what is there has changed.
#[tokio::test]
async fn keys_that_end_at_once_are_not_kept_where_the_address_stays() {
    let (first, second) = (Signer::curve("key-1"), Signer::curve("key-2"));
    let place = Place::with(&first).await;
    let house = house_with(|options| options.key_origins.clone_from(&place.origin)).await;
    let id = register(&house, place.keys()).await;
    let system = |signer| System {
        signer,
        id: id.clone(),
    };
    let (old, new) = (system(first), system(second));
    let token = old.token(&house, "1", "system/Patient.rs").await;
    place.publish(&new.signer);
    assert_eq!(status(&house, &old, "2").await, 200, "it is kept");
    let same = rekey(&house, &id, &place.keys(), HOUR).await;
    assert!(same.is_err_and(|words| words.contains("the client has")));
    rekey(&house, &id, &place.keys(), KeysOfBefore::Gone)
        .await
        .expect("changed");
    assert!(!opens(&house, &house.http, &token).await);
    assert_eq!(status(&house, &old, "3").await, 401);
    assert_eq!(status(&house, &new, "4").await, 200);
    assert_eq!(status(&house, &old, "5").await, 401);
    house.end().await;
}

/// Who moves away from a place that does not answer waits for it no more.
#[tokio::test]
async fn places_of_before_are_asked_only_for_what_the_keys_of_now_do_not_prove() {
    let (first, second, third) = (
        Signer::curve("key-1"),
        Signer::curve("key-2"),
        Signer::curve("key-3"),
    );
    let (before, now) = (Place::with(&first).await, Place::with(&second).await);
    let origins = format!("{} {}", before.origin, now.origin);
    let house = house_with(|options| options.key_origins = origins).await;
    let id = register(&house, before.keys()).await;
    let system = |signer| System {
        signer,
        id: id.clone(),
    };
    let (old, new, newest) = (system(first), system(second), system(third));
    rekey(&house, &id, &now.keys(), HOUR)
        .await
        .expect("changed");
    assert_eq!(status(&house, &new, "1").await, 200);
    assert_eq!((before.asked(), now.asked()), (0, 1));
    let set = SystemKeys::Set(newest.signer.jwks());
    rekey(&house, &id, &set, HOUR).await.expect("changed");
    assert_eq!(status(&house, &newest, "2").await, 200);
    assert_eq!((before.asked(), now.asked()), (0, 1));
    // Those of before are good yet, and nobody else's are.
    assert_eq!(status(&house, &old, "3").await, 200);
    assert_eq!(status(&house, &new, "4").await, 200);
    assert_eq!(before.asked(), 1);
    let other = system(Signer::curve("key-1"));
    assert_eq!(status(&house, &other, "5").await, 401);
    house.end().await;
}

//! Who waits costs nothing: where nothing happens and nothing is due, the store is asked for nothing. (Every half
//! minute it is counted who is late, which this does not wait for.)

use crate::world::{HOUR, Mail, START, TENANT, World};
use journey::Journeys;
use ledger::{Ledger, Location, LookUps, OpenOptions, RootKey, ScaledClock, SystemEntropy};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use trust::{Trust, TrustOptions};

const QUIET: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_polled() {
    let world = World::new(Mail::Delivers).await;
    for _ in 0..5 {
        let patient = world.patient().await;
        world.discharge(&patient, 0).await;
    }
    world.drain().await;
    let waiting = world.trust.vault().ledger().next_timer_ms().await.unwrap();
    assert!(waiting.is_some_and(|due_ms| due_ms > START + 2 * HOUR));
    world.trust.vault().ledger().close().await.unwrap();

    // The same store with a clock that goes as clocks do, and somebody who counts.
    let counts = LookUps::default();
    let options = OpenOptions {
        location: Location::Folder(world.folder.path().join("data")),
        root_key: RootKey::from_bytes([7; 32]),
        clock: Arc::new(ScaledClock::new(START + HOUR, 1.0)),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    };
    let ledger = Ledger::open_counted(options, &counts).unwrap();
    let trust = Trust::new(TrustOptions {
        ledger,
        wall_clock: Arc::new(world.clock.clone()),
        policy_folder: None,
        session_idle_s: 900,
        session_absolute_s: 43_200,
    })
    .unwrap();
    let journeys = Journeys::new(trust.clone());
    let (stop, stopped) = watch::channel(false);
    let follower = journeys.clone();
    let following = tokio::spawn(async move { follower.run(TENANT, stopped).await });
    // What is looked at once, as it begins.
    let mut before = counts.so_far();
    let mut settled = 0;
    for _ in 0..60 {
        tokio::time::sleep(QUIET).await;
        let now = counts.so_far();
        settled = if now == before { settled + 1 } else { 0 };
        before = now;
        if settled == 2 {
            break;
        }
    }
    assert_eq!(settled, 2, "it never came to rest: {before:?}");
    assert!(!before.is_empty(), "it did look, at first");
    tokio::time::sleep(20 * QUIET).await;
    assert_eq!(counts.so_far(), before);
    stop.send_replace(true);
    following.await.unwrap();
    trust.vault().ledger().close().await.unwrap();
}

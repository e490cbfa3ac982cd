//! A tenant's flood and its neighbour: by the order of what happens, not by how long it takes.
//!
//! Requests of the flood stop within a step of theirs, as one does that has much to compute, and go on when the test
//! lets them. A server that gave them all processors that it can have would answer nobody until then.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cairn::store::TENANT;
use ledger::{Clock, SystemClock};
use reqwest::StatusCode;
use tokio::runtime::{Builder, Runtime};
use trust::Role;

use crate::patience::{in_time, until};
use crate::tenants::{NORTH, SOUTH, Two};

/// Where the flood comes from.
const FLOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Threads of the server above one for each processor: what is left where the flood has all turns that there are.
const SPARE: usize = 3;
/// How often the neighbour asks.
const ASKED: usize = 20;

/// Where steps stop.
#[derive(Default)]
struct Gate {
    passing: Mutex<Passing>,
    changed: Condvar,
}

#[derive(Default)]
struct Passing {
    is_open: bool,
    /// How many stand before it.
    held: usize,
}

impl Gate {
    fn pass(&self) {
        let mut passing = self.passing.lock().expect("a lock");
        passing.held += 1;
        let mut passing = self
            .changed
            .wait_while(passing, |passing| !passing.is_open)
            .expect("a lock");
        passing.held -= 1;
    }
    fn held(&self) -> usize {
        self.passing.lock().expect("a lock").held
    }
    fn open(&self) {
        self.passing.lock().expect("a lock").is_open = true;
        self.changed.notify_all();
    }
}

/// The wall clock, which requests of the flood wait for: each asks it whether its token is over.
struct Slow(Arc<Gate>);

impl Clock for Slow {
    fn now_ms(&self) -> u64 {
        if trust::origin::current() == Some(FLOOD) {
            self.0.pass();
        }
        SystemClock.now_ms()
    }
    fn real_wait(&self, until_ms: u64) -> Duration {
        SystemClock.real_wait(until_ms)
    }
}

/// Opens the gate in the end, whatever happened: threads that stand before it could not be ended.
struct InTheEnd(Arc<Gate>);

impl Drop for InTheEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn threads(count: usize) -> Runtime {
    let mut builder = Builder::new_multi_thread();
    // What comes over the network is looked at after each step: threads that stand still can't look.
    builder.worker_threads(count).event_interval(1).enable_all();
    builder.build().expect("a runtime")
}

/// Keeps a thread of the server awake that has nothing to do, for the same reason.
async fn stay_awake() {
    loop {
        #[allow(clippy::disallowed_methods, reason = "it is the thread that rests")]
        std::thread::sleep(Duration::from_micros(200));
        tokio::task::yield_now().await;
    }
}

async fn ask(address: &str, host: &str, token: &str, from: Option<IpAddr>) -> StatusCode {
    // A connection of its own.
    let client = crate::house::client().local_address(from).build();
    let asked = client.expect("a client").get(format!(
        "http://{address}/fhir/r4/Patient?family=Berg&_count=1"
    ));
    let asked = asked.header("host", host).bearer_auth(token).send();
    asked.await.expect("an answer").status()
}

#[test]
fn a_neighbour_is_answered_while_all_turns_of_a_flood_are_taken() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let flooded = 4 * (processors + SPARE);
    let gate = Arc::new(Gate::default());
    let (server, clients) = (threads(processors + SPARE), threads(1));
    let in_the_end = InTheEnd(Arc::clone(&gate));
    let slow = Arc::new(Slow(Arc::clone(&gate)));
    let two = server.block_on(Two::with(|options| options.wall_clock = slow));
    let south = server.block_on(two.token(TENANT, Role::Client));
    let north = server.block_on(two.token(two.north, Role::Client));
    let awake = server.spawn(stay_awake());
    let address = two.server.address().to_string();
    clients.block_on(async {
        let mut flood = Vec::new();
        for _ in 0..flooded {
            let (address, north) = (address.clone(), north.clone());
            flood.push(tokio::spawn(async move {
                ask(&address, NORTH, &north, Some(FLOOD)).await
            }));
        }
        until("the flood has all turns", async || {
            gate.held() >= processors
        })
        .await;
        for _ in 0..ASKED {
            let answer = ask(&address, SOUTH, &south, None);
            let answer = in_time("a flood is in its neighbour's way", answer).await;
            assert_eq!(answer, StatusCode::OK);
        }
        // All of the flood is still there: so many are being worked for, and the others wait for them.
        assert_eq!(gate.held(), processors);
        assert!(flood.iter().all(|one| !one.is_finished()));
        gate.open();
        for one in flood {
            let answer = in_time("the flood is answered", one).await;
            assert_eq!(answer.expect("it went on"), StatusCode::OK);
        }
    });
    awake.abort();
    drop(in_the_end);
    server.block_on(two.end());
}

//! Several servers over one store: one begins a sign-in, another finishes it, and what the provider ends ends on
//! each.

use std::sync::Arc;

use cairn::{ServerOptions, store};
use ledger::ManualClock;
use serde_json::json;

use super::issuer::Issuer;
use super::*;
use crate::house::NOON_MS;

const SUBJECT: &str = "employee-7";
/// As long as a server takes a session from its memory.
const RECHECK_MS: u64 = 30_000;

#[tokio::test]
async fn any_server_finishes_a_sign_in_and_hears_of_its_end() {
    let clock = ManualClock::new(NOON_MS);
    let issuer = Issuer::start(&clock).await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = store::root_key_path(folder.path());
    store::create_root_key(&key).expect("a key");
    let place = store::in_folder(folder.path());
    let ledger = store::open(place, &key, Arc::new(clock.clone()), 16 << 20).await;
    let ledger = ledger.expect("a store");
    let mut servers = Vec::new();
    for _ in 0..2 {
        let proof = ClientAuthentication::Secret("s".to_owned());
        let options = ServerOptions {
            wall_clock: Arc::new(clock.clone()),
            public_url: Some("http://127.0.0.1:1".to_owned()),
            providers: vec![provider("hospital", &issuer.url, proof)],
            run_journeys: false,
            ..ServerOptions::new(ledger.clone(), TENANT)
        };
        servers.push(Server::start(options).await.expect("a server"));
    }
    let at = |server: usize, path: &str| format!("http://{}{path}", servers[server].address());
    Person::linked(&servers[0], "dora", &issuer.url, SUBJECT).await;

    // A browser knows one address; a proxy in front chooses the server.
    let mut visitor = Visitor::new();
    let page = visitor.get(&at(0, "/sign-in/with/hospital")).await;
    let there = page.leads().to_owned();
    assert_eq!(
        told(&there, "redirect_uri"),
        "http://127.0.0.1:1/sign-in/with/hospital/back"
    );
    let move_on = |visitor: &mut Visitor, from: usize, to: usize| {
        let [from, to] = [from, to].map(|at| format!("http://{}", servers[at].address()));
        let kept = visitor.cookies.remove(&from).expect("cookies");
        visitor.cookies.insert(to, kept);
    };
    move_on(&mut visitor, 0, 1);
    issuer.give(&issuer.sign(&issuer.claims(&there, SUBJECT)));
    let (state, iss) = (told(&there, "state"), &issuer.url);
    let back = format!("/sign-in/with/hospital/back?code=c&state={state}&iss={iss}");
    let page = visitor.led(&at(1, &back)).await;
    assert!(page.opens_a_session(), "{}", page.body);
    // Both know the session by now.
    assert_eq!(
        visitor.get(&at(1, "/console/apps")).await.status,
        StatusCode::OK
    );
    move_on(&mut visitor, 1, 0);
    assert_eq!(
        visitor.get(&at(0, "/console/apps")).await.status,
        StatusCode::OK
    );

    let mut claims = issuer.logout("j-1");
    claims["sid"] = json!(format!("sid-{SUBJECT}"));
    let token = issuer.sign(&claims);
    let mut provider = Visitor::new();
    let path = "/sign-in/with/hospital/logout";
    let page = provider
        .post(&at(1, path), &[("logout_token", &token)])
        .await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    // The server that was told knows at once, the other one half a minute later.
    move_on(&mut visitor, 0, 1);
    let page = visitor.get(&at(1, "/console/apps")).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    move_on(&mut visitor, 1, 0);
    clock.advance(RECHECK_MS);
    let page = visitor.get(&at(0, "/console/apps")).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let [one, other] = servers.try_into().map_err(drop).expect("two");
    one.stop().await.expect("a clean end");
    // The store is closed with the first.
    drop(other.stop().await);
}

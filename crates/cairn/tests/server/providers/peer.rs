//! Beside a provider that nobody here wrote: npm's oidc-provider.

use std::process::Stdio;
use std::time::Duration;

use cairn::ClientAuthentication;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

use super::*;
use crate::clients::{peer, script};
use crate::house::house_with;
use crate::patience::in_time;

/// How long an answer may take; it takes a moment.
/// As long as a key that is missing is not asked for again, and a bit.
const ASK_AGAIN: Duration = Duration::from_secs(31);
/// Anything but a letter has to come through unchanged.
const SECRET: &str = "s:e%c+r/e=t&1234567890123456789012";

/// The provider, as a process of its own.
struct Peer {
    issuer: String,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Peer {
    async fn start() -> Self {
        let mut process = Command::new("node")
            .arg(script("identity_provider.mjs"))
            .arg(peer("oidc-npm/node_modules/oidc-provider/lib/index.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let orders = process.stdin.take().expect("its input");
        let mut answers = BufReader::new(process.stdout.take().expect("its output")).lines();
        let line = in_time("an issuer", answers.next_line()).await;
        let issuer = line.expect("a line").expect("an issuer");
        Self {
            issuer,
            orders,
            answers,
            _process: process,
        }
    }
    async fn order(&mut self, order: &str) {
        let line = format!("{order}\n");
        let sent = self.orders.write_all(line.as_bytes()).await;
        sent.expect("it takes orders");
        let line = in_time("an answer", self.answers.next_line()).await;
        let line = line.expect("a line");
        assert_eq!(line.as_deref(), Some("done"));
    }
}

/// Goes through the provider's pages as `login`, until it leads back to the house.
async fn through(visitor: &mut Visitor, house: &House, from: &str, login: &str) -> String {
    let mut address = from.to_owned();
    for _ in 0..20 {
        let mut page = visitor.led(&address).await;
        if page.location.is_none() {
            let action = page.after("action=\"");
            let prompt = page.field("prompt");
            let form = [
                ("prompt", prompt.as_str()),
                ("login", login),
                ("password", "any"),
            ];
            page = visitor.post(&action, &form).await;
        }
        page.leads().clone_into(&mut address);
        if address.starts_with(house.server.base_url()) {
            return address;
        }
    }
    panic!("it leads nowhere: {address}");
}

/// Signs in with the account's own second factor.
async fn sign_in(visitor: &mut Visitor, house: &House, login: &str, person: &Person) -> Page {
    let there = visitor
        .leave(house, "?next=%2Fconsole%2Fworklist%3Fwho%3Dmine")
        .await;
    let back = through(visitor, house, &there, login).await;
    let page = visitor.led(&back).await;
    page.shows("Your one-time code");
    assert!(!page.opens_a_session());
    visitor.code(house, &page, &person.code()).await
}

async fn with(authentication: ClientAuthentication, secret: Option<&str>) -> (House, Peer) {
    let mut peer = Peer::start().await;
    let issuer = peer.issuer.clone();
    let house = house_with(|options| {
        options.providers = vec![provider("hospital", &issuer, authentication)];
    })
    .await;
    let base = house.server.base_url();
    match secret {
        None => peer.order(&format!("serve {base}")).await,
        Some(secret) => peer.order(&format!("serve {base} {secret}")).await,
    }
    (house, peer)
}

#[tokio::test]
async fn somebody_signs_in_is_signed_out_there_and_keys_rotate() {
    let key = ClientAuthentication::Key(client_key());
    let (house, mut peer) = with(key, None).await;
    let dora = Person::linked(&house.server, "dora", &peer.issuer, "employee-7").await;

    let mut visitor = Visitor::new();
    let page = visitor
        .get(&house.url("/sign-in?next=%2Fconsole%2Fapps"))
        .await;
    page.shows("Sign in with Hospital Login");
    page.shows("href=\"/sign-in/with/hospital?next=%2Fconsole%2Fapps\"");
    let done = sign_in(&mut visitor, &house, "employee-7", &dora).await;
    assert_eq!(done.leads(), house.url("/console/worklist?who=mine"));
    assert!(visitor.is_in(&house).await);

    // Somebody whom the provider knows and nobody linked, though their name is that of an account.
    let mut stranger = Visitor::new();
    let there = stranger.leave(&house, "").await;
    let back = through(&mut stranger, &house, &there, "dora").await;
    let page = stranger.led(&back).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    page.shows("No account here yet");
    page.shows(&format!("<dd class=\"mono\">{}</dd>", peer.issuer));
    page.shows("<dd class=\"mono\">dora</dd>");
    assert!(!stranger.is_in(&house).await);

    // Who does not agree there comes back with a "no".
    let mut undecided = Visitor::new();
    let there = undecided.leave(&house, "").await;
    let page = undecided.led(&there).await;
    let asked = undecided.led(page.leads()).await;
    let abort = asked.after("href=\"");
    assert!(abort.ends_with("/abort"), "{abort}");
    let mut address = abort;
    while !address.starts_with(house.server.base_url()) {
        address = undecided.led(&address).await.leads().to_owned();
    }
    let page = undecided.led(&address).await;
    page.shows("You were not signed in at Hospital Login.");
    assert!(!undecided.is_in(&house).await);

    // Signing out here leads to where one can sign out there, which the provider tells this server of: a
    // session of another browser that hangs on it ends.
    let mut elsewhere = Visitor::new();
    elsewhere.set_cookie(
        &house,
        SESSION,
        visitor.cookie(&house, SESSION).expect("a session"),
    );
    let out = visitor.sign_out(&house).await;
    assert_eq!(out.leads(), house.url("/sign-in/with/hospital/left"));
    assert!(!elsewhere.is_in(&house).await);
    let elena = Person::linked(&house.server, "elena", &peer.issuer, "employee-8").await;
    let mut visitor = Visitor::new();
    sign_in(&mut visitor, &house, "employee-8", &elena).await;
    assert!(visitor.is_in(&house).await);
    let left = visitor.get(&house.url("/sign-in/with/hospital/left")).await;
    left.shows("Sign out at Hospital Login");
    let there = left.after("button primary\" href=\"");
    let page = visitor.led(&there).await;
    let (action, xsrf) = (page.after("action=\""), page.field("xsrf"));
    let form = [("xsrf", xsrf.as_str()), ("logout", "yes")];
    let home = visitor.post(&action, &form).await;
    assert_eq!(home.leads(), house.url("/sign-in"));
    assert!(
        !visitor.is_in(&house).await,
        "it was not told, or did not listen"
    );

    // A new key is fetched when it is met.
    peer.order("rotate").await;
    sleep(ASK_AGAIN).await;
    let mut visitor = Visitor::new();
    let done = sign_in(&mut visitor, &house, "employee-7", &dora).await;
    assert!(done.opens_a_session(), "{}", done.body);
    assert!(visitor.is_in(&house).await);
    house.end().await;
}

#[tokio::test]
async fn a_secret_does_as_well() {
    let secret = ClientAuthentication::Secret(SECRET.to_owned());
    let (house, peer) = with(secret, Some(SECRET)).await;
    let dora = Person::linked(&house.server, "dora", &peer.issuer, "employee-7").await;
    let mut visitor = Visitor::new();
    let done = sign_in(&mut visitor, &house, "employee-7", &dora).await;
    assert!(done.opens_a_session(), "{}", done.body);
    // There is no key to show.
    let keys = visitor.get(&house.url("/sign-in/with/hospital/keys")).await;
    assert_eq!(keys.status, StatusCode::NOT_FOUND);
    house.end().await;

    // Another secret is none.
    let wrong = ClientAuthentication::Secret("another".to_owned());
    let (house, peer) = with(wrong, Some(SECRET)).await;
    Person::linked(&house.server, "dora", &peer.issuer, "employee-7").await;
    let mut visitor = Visitor::new();
    let there = visitor.leave(&house, "").await;
    let back = through(&mut visitor, &house, &there, "employee-7").await;
    let page = visitor.led(&back).await;
    page.shows("it does not take this server for its client");
    assert!(!visitor.is_in(&house).await);
    house.end().await;
}

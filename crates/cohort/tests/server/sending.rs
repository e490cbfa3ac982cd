//! Messages on their way by channels that speak with a provider, sent by the real server, which is killed (SIGKILL) while
//! providers have them and have not answered. None is lost; what comes twice is counted, and known by what its provider
//! knows a repeat by. Entries for calendars among them are read by `icalendar` and kept by `radicale`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cairn::store::{self, TENANT};
use cairn::{Server, ServerOptions};
use cohort::random::Random;
use cohort::server::{Fhir, ServerProcess};
use exchange::SmsProvider;
use fhir::Resource;
use ledger::{Entropy as _, Expected, OutboxDraft, OutboxKey, Owner, SystemClock, SystemEntropy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use trust::identity::{
    AppService, NewApp, NewAppDevice, NewGrant, Session, ShownClient, SignIn, SystemKeys,
    wanted_scopes,
};
use trust::outgoing::{CHANNEL_EMAIL, CHANNEL_PUSH, CHANNEL_SMS};
use trust::{Action, Agent, Change, Purpose, Role, Target, Unit};

use crate::centre::{Centre, DELIVERED};
use crate::crash::{now_ms, text};
use crate::patience::Patience;
use crate::peers::Smtp;
use crate::provider::Provider;
use crate::pusher::{Pusher, Subscribed};
use crate::radicale::Radicale;
use crate::readers::python;
use crate::telephones::Telephones;

const KILLS: u64 = 5;
/// Messages by each channel.
const EACH: usize = 10;
const HOUR_MS: u64 = 3_600_000;

/// A message on its way.
struct Sent {
    channel: &'static str,
    number: usize,
    patient: String,
    id: String,
    browser: Option<Subscribed>,
}

impl Sent {
    fn address(&self) -> String {
        format!("sending-{}@example.com", self.number)
    }

    fn application(&self) -> String {
        format!("cN{:04}:APA91b{}", self.number, "H-_x".repeat(30))
    }
}

/// A store with messages on their way and nobody who sends them yet.
struct Ground {
    space: TempDir,
    server: Server,
    token: String,
    all: Vec<Sent>,
}

impl Ground {
    async fn new() -> Self {
        let space = tempfile::tempdir().expect("a folder");
        let data = space.path().join("data");
        fs::create_dir(&data).expect("a folder");
        let key = store::root_key_path(&data);
        store::create_root_key(&key).expect("a key");
        let place = store::in_folder(&data);
        let ledger = store::open(place, &key, Arc::new(SystemClock), 16 << 20).await;
        let mut options = ServerOptions::new(ledger.expect("a store"), TENANT);
        options.sms_country = Some("US".to_owned());
        let server = Server::start(options).await.expect("a server");
        let by = Agent::system(TENANT, "command-line");
        let identity = server.trust().identity();
        let token = identity.create_client(&by, "test", Role::Client).await;
        Self {
            space,
            token: token.expect("a token"),
            server,
            all: Vec::new(),
        }
    }

    /// One more patient with a message, which brings an entry for a calendar where `visit` says when that is.
    async fn queue(&mut self, channel: &'static str, visit: Option<u64>, push: Option<&Pusher>) {
        let number = self.all.len();
        let patient = format!("sending-{number}");
        let mut sent = Sent {
            channel,
            number,
            patient: patient.clone(),
            id: String::new(),
            browser: None,
        };
        let resource = json!({
            "resourceType": "Patient", "id": patient, "birthDate": "1941-03-07",
            "telecom": [
                {"system": "email", "value": sent.address()},
                {"system": "phone", "use": "mobile", "value": format!("+1617555{:04}", 1000 + number)}
            ]
        });
        let fhir = Fhir::new(self.server.base_url(), &self.token);
        let put = fhir.put(&format!("Patient/{patient}"), &resource).await;
        assert_eq!(put.expect("an answer").0, 201);
        match channel {
            "browser" => {
                let pusher = push.expect("a push service");
                sent.browser = Some(self.browser(pusher, &patient).await);
            }
            "fcm" => self.application(&sent).await,
            _ => {}
        }
        let (owner, ledger) = (Owner::Patient(patient.clone()), self.server.ledger());
        sent.id = ledger.mint_id(TENANT, &owner);
        let id = &sent.id;
        let (medium, outbox) = match channel {
            "e-mail" => ("EMAILWRIT", CHANNEL_EMAIL),
            "sms" => ("SMSWRIT", CHANNEL_SMS),
            _ => ("PUSH", CHANNEL_PUSH),
        };
        let words = if medium == "PUSH" { "" } else { "News: {link}" };
        let subject = if medium == "EMAILWRIT" { "News" } else { "" };
        let visit = visit.map(|start_ms| {
            json!({"appointment": format!("visit-{number}"), "start_ms": start_ms,
                "end_ms": start_ms + HOUR_MS, "sequence": 2, "cancelled": false})
        });
        let name = match outbox {
            CHANNEL_EMAIL => "email",
            CHANNEL_SMS => "sms",
            _ => "push",
        };
        let message = json!({
            "patient": patient, "communication": id, "channel": name, "purpose": "TREAT", "about": [],
            "subject": subject, "text": words, "link_path": format!("/portal/inbox/{id}"), "visit": visit,
            "journey": "a-test/1", "step": "tell", "expires_ms": now_ms() + 24 * HOUR_MS
        });
        let communication = json!({
            "resourceType": "Communication", "id": id, "status": "preparation",
            "subject": {"reference": format!("Patient/{patient}")},
            "medium": [{"coding": [{"system": trust::conventions::MEDIUM_SYSTEM, "code": medium}]}],
            "topic": {"text": "How you are"}, "payload": [{"contentString": "How are you today?"}]
        });
        let mut entry = [0; 16];
        SystemEntropy.fill(&mut entry);
        let draft = OutboxDraft {
            key: OutboxKey {
                shard: ledger.shard_of(TENANT, &owner, &patient),
                due_ms: now_ms(),
                id: entry,
            },
            owner,
            channel: outbox,
            attempt: 0,
            body: message.to_string().into_bytes(),
        };
        let unit = Unit {
            changes: vec![Change::Put {
                resource: Resource::from_value(communication).expect("a resource"),
                expected: Expected::Absent,
            }],
            outbox_add: vec![draft],
            patient: Some(patient.clone()),
            ..Unit::default()
        };
        let target = Target {
            kind: None,
            patient: Some(patient),
        };
        let agent = Agent::system(TENANT, "journey-engine");
        let trust = self.server.trust();
        let permit = trust.decide(
            &agent,
            Purpose::Treatment,
            Action::Orchestrate,
            target,
            "test",
        );
        let permit = permit.await.expect("a permit");
        let committed = trust.vault().commit(&permit, unit).await;
        committed.expect("committed");
        self.all.push(sent);
    }

    async fn session(&self, patient: &str) -> Session {
        let identity = self.server.trust().identity();
        let by = Agent::system(TENANT, "demo");
        let link = identity.make_link(&by, patient, 3_600, true).await;
        let link = link.expect("a link");
        let done = identity.use_link(TENANT, &link, "1941-03-07").await;
        match done.expect("signed in") {
            SignIn::Done { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    async fn browser(&self, pusher: &Pusher, patient: &str) -> Subscribed {
        let identity = self.server.trust().identity();
        let key = identity.push_key(TENANT).await.expect("a key");
        let browser = pusher.subscribe(key.public()).await;
        let session = self.session(patient).await;
        let device = browser.device("Browser");
        let added = identity.add_push_device(&session, &device).await;
        added.expect("added");
        browser
    }

    async fn application(&self, sent: &Sent) {
        const BACK: &str = "https://app.example/back";
        const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-standard-123";
        /// The SHA-256 of that, as applications send it (RFC 7636, section 4.2).
        const CHALLENGE: &str = "XB0u8a-D-7irk6l__KOwcqYxKTUpUzcr5I6VXL-Tm1I";
        let identity = self.server.trust().identity();
        let session = self.session(&sent.patient).await;
        let scopes = "launch/patient offline_access patient/Communication.rs";
        let new = NewApp {
            name: "Northmoor".to_owned(),
            redirect_uris: vec![BACK.to_owned()],
            launch_uri: None,
            scopes: scopes.to_owned(),
            keys: SystemKeys::None,
        };
        let by = Agent::system(TENANT, "command-line");
        let id = identity.register_app(&by, &new).await.expect("an id");
        let app = identity.app(TENANT, &id).await.expect("read").expect("it");
        let grant = NewGrant {
            app: &app,
            redirect_uri: BACK,
            challenge: CHALLENGE,
            scopes: &wanted_scopes(scopes).expect("scopes"),
            patient: Some(&sent.patient),
            launch: None,
            nonce: None,
            context: None,
        };
        let code = identity.allow(&session, grant).await.expect("a code");
        let shown = ShownClient::Public(&id);
        let tokens = identity.exchange_code(TENANT, shown, &code, BACK, VERIFIER);
        let tokens = tokens.await.expect("tokens");
        let agent = identity.fhir_bearer(&tokens.access).await.expect("let in");
        let device = NewAppDevice {
            service: AppService::Fcm,
            token: sent.application(),
            name: "Telephone".to_owned(),
        };
        let added = identity.add_app_device(&agent, &device).await;
        added.expect("added");
    }

    /// Nobody has the store open any more.
    async fn left(self) -> (TempDir, String, Vec<Sent>) {
        self.server.stop().await.expect("a clean end");
        (self.space, self.token, self.all)
    }
}

/// Starts the real server again and again and kills it while it sends; the one that is left is to end it all.
async fn killed(
    space: &Path,
    settings: &[String],
    random: &mut Random,
    plan: impl AsyncFn(Option<&mut Random>),
) -> ServerProcess {
    let (data, log) = (space.join("data"), space.join("log"));
    let flags: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--set", setting])
        .collect();
    for _ in 0..KILLS {
        plan(Some(&mut *random)).await;
        let server = ServerProcess::start(&data, &log, &flags).await;
        let server = server.expect("a server");
        sleep(Duration::from_millis(100 + random.below(700))).await;
        server.kill().expect("killed");
    }
    plan(None).await;
    let server = ServerProcess::start(&data, &log, &flags).await;
    server.expect("a server")
}

/// What a provider does with the next messages: some it has and never answers.
fn some(random: &mut Random, silence: &Value, else_so: &Value) -> Value {
    let of = |silent: bool| if silent { silence } else { else_so }.clone();
    let next: Vec<Value> = (0..EACH).map(|_| of(random.below(3) == 0)).collect();
    Value::Array(next)
}

/// Waits until a message is over, or said to be, and gives how it ended.
async fn ended(fhir: &Fhir, sent: &Sent, is_it: impl Fn(&str) -> bool) -> Value {
    let mut patience = Patience::every(Duration::from_millis(100));
    loop {
        let found = fhir.get(&format!("Communication/{}", sent.id)).await;
        let (status, found) = found.expect("an answer");
        assert_eq!(status, 200, "{found}");
        if is_it(found["status"].as_str().expect("a status")) {
            return found;
        }
        let words = format!("{} {}: {found}", sent.channel, sent.number);
        patience.wait(&words).await;
    }
}

/// How often each came, by what its provider knows a repeat by.
type Came = BTreeMap<String, Vec<String>>;

/// That all came, whatever ended the process; how many came more than once.
#[expect(clippy::print_stdout, reason = "what a test has counted is told")]
fn repeats(channel: &str, seed: u64, all: &[Sent], came: &Came) -> usize {
    let mut repeats = 0;
    for sent in all.iter().filter(|sent| sent.channel == channel) {
        let known = came.get(&sent.id);
        let known =
            known.unwrap_or_else(|| panic!("seed {seed:#x}: {channel} {} is lost", sent.id));
        let distinct: BTreeSet<&String> = known.iter().collect();
        assert_eq!(
            distinct.len(),
            1,
            "seed {seed:#x}: a repeat is known: {known:?}"
        );
        repeats += known.len() - 1;
    }
    println!("sending: seed {seed:#x}, {KILLS} kills, {EACH} by {channel}, {repeats} came again");
    repeats
}

fn add(came: &mut Came, id: &Value, mark: &Value) {
    let id = id.as_str().unwrap_or_default();
    let id = id.rsplit('/').next().unwrap_or_default().to_owned();
    came.entry(id).or_default().push(mark.to_string());
}

/// The entries for calendars in mails as they were read, by `icalendar`: their names, and those with how often they changed.
fn entries(text: &str) -> Vec<(String, u64, String)> {
    const SCRIPT: &str = "import icalendar, json, sys\n\
        for text in json.load(sys.stdin):\n\
        \x20   event = next(iter(icalendar.Calendar.from_ical(text).walk('VEVENT')))\n\
        \x20   print(json.dumps([str(event['UID']), int(event['SEQUENCE']), event.decoded('DTSTART').isoformat()]))\n";
    let (begin, end) = ("BEGIN:VCALENDAR", "END:VCALENDAR\r\n");
    let all = text.split(begin).skip(1);
    let all = all.filter_map(|rest| Some(format!("{begin}{}{end}", rest.split_once(end)?.0)));
    let all: Vec<String> = all.collect();
    let mut child = Command::new(python())
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("icalendar: scripts/test installs it");
    let mut input = child.stdin.take().expect("its input");
    input
        .write_all(json!(all).to_string().as_bytes())
        .expect("written");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let read =
        |line: &str| -> (String, u64, String) { serde_json::from_str(line).expect("an entry") };
    let read: Vec<_> = lines.lines().map(read).collect();
    assert_eq!(read.len(), all.len(), "each is read");
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_sends_by_every_channel_it_loses_no_message() {
    let seed = 0x5e_4d17;
    let mut random = Random::new(seed);
    let mut ground = Ground::new().await;
    let (provider, pusher) = (Provider::start().await, Pusher::start().await);
    let telephones = Telephones::start().await;
    let start_ms = (now_ms() / HOUR_MS + 72) * HOUR_MS;
    for number in 0..EACH {
        let visit = (number % 2 == 0).then_some(start_ms);
        ground.queue("e-mail", visit, None).await;
        ground.queue("sms", None, None).await;
        ground.queue("browser", None, Some(&pusher)).await;
        ground.queue("fcm", None, None).await;
    }
    let (space, token, all) = ground.left().await;
    let space = space.path();
    // It has noted a mail up to a third of a second before it says so.
    let smtp = Smtp::start_with(&cohort::peers::python(), space, Some(seed)).expect("aiosmtpd");
    let SmsProvider::Http(http) = provider.options().provider else {
        panic!("the provider speaks HTTP");
    };
    let write = |name: &str, what: &str| {
        let path = space.join(name);
        fs::write(&path, what).expect("written");
        text(&path).to_owned()
    };
    let settings = [
        "smtp.host=127.0.0.1".to_owned(),
        format!("smtp.port={}", smtp.port()),
        "smtp.tls=none".to_owned(),
        "smtp.from=care@hospital.example".to_owned(),
        "public_url=https://care.example".to_owned(),
        format!("sms.account={}", http.account),
        format!("sms.token_file={}", write("token", &http.token)),
        format!("sms.from={}", http.from),
        format!("sms.url={}", http.base),
        "sms.country=US".to_owned(),
        "sms.per_second=100".to_owned(),
        "sms.delivered_when=taken".to_owned(),
        "push.contact=mailto:it@hospital.example".to_owned(),
        format!("push.services={}", pusher.origin()),
        format!(
            "fcm.service_account_file={}",
            write("account.json", &telephones.account())
        ),
        format!("fcm.url={}", telephones.fcm().url),
    ];
    let server = killed(space, &settings, &mut random, async |random| {
        let (texts, push) = (json!({"take_and_hang": true}), json!({"hang": true}));
        let [next, browsers, applications] = match random {
            Some(random) => [&texts, &push, &push].map(|silence| some(random, silence, &json!({}))),
            None => [json!([]), json!([]), json!([])],
        };
        provider.next(next).await;
        pusher.next(browsers).await;
        telephones.next("fcm", applications).await;
    })
    .await;
    let fhir = Fhir::new(&server.base, &token);
    let mut came: BTreeMap<&str, Came> = BTreeMap::new();
    let mut unanswered = 0;
    for sent in &all {
        let found = ended(&fhir, sent, |status| {
            matches!(status, "completed" | "not-done")
        })
        .await;
        if found["status"] == "not-done" {
            // A text that was never answered is handed over three times and no more.
            let code = &found["statusReason"]["coding"][0]["code"];
            assert_eq!(
                (sent.channel, code),
                ("sms", &json!("no-receipt")),
                "seed {seed:#x}: {found}"
            );
            unanswered += 1;
        }
    }
    for message in provider.taken() {
        let of = came.entry("sms").or_default();
        add(of, &message["Body"], &message["key"]);
    }
    for heard in telephones.heard("fcm") {
        let message = &heard["body"]["message"];
        let tag = &message["android"]["notification"]["tag"];
        add(
            came.entry("fcm").or_default(),
            &message["data"]["message"],
            tag,
        );
    }
    let heard = pusher.heard();
    for sent in &all {
        let of = came.entry(sent.channel).or_default();
        if let Some(browser) = &sent.browser {
            for one in heard
                .iter()
                .filter(|one| one["hash"] == browser.hash.as_str())
            {
                add(of, &json!(sent.id), &one["topic"]);
            }
            let shown = pusher.read(browser).await;
            assert!(
                !shown.is_empty(),
                "seed {seed:#x}: {} is not shown",
                sent.number
            );
        }
    }
    for (to, message_id) in smtp.taken() {
        let sent = all.iter().find(|sent| sent.address() == to);
        let of = came.entry("e-mail").or_default();
        add(
            of,
            &json!(sent.expect("one of ours").id),
            &json!(message_id),
        );
    }
    let mut again = 0;
    for channel in ["e-mail", "sms", "browser", "fcm"] {
        again += repeats(channel, seed, &all, &came[channel]);
    }
    assert!(
        again > 0,
        "seed {seed:#x}: no kill came while something was sent"
    );
    let thrice = came["sms"]
        .values()
        .filter(|times| times.len() >= 3)
        .count();
    assert!(
        unanswered <= thrice,
        "seed {seed:#x}: {unanswered} of {thrice}"
    );
    assert!(server.terminate().expect("ended"), "a clean end");

    // What came of visits is one entry each, however often it came.
    let mails = fs::read_to_string(smtp.log().with_extension("log.text")).expect("mails");
    let read = entries(&mails);
    let named: BTreeSet<&(String, u64, String)> = read.iter().collect();
    assert_eq!(named.len(), EACH / 2, "seed {seed:#x}: {named:?}");
    assert!(read.iter().all(|(_, sequence, _)| *sequence == 2));
    let calendar = Radicale::start().await;
    let blocks = mails.split("BEGIN:VCALENDAR").skip(1);
    for (rest, (uid, ..)) in blocks.zip(&read) {
        let (body, _) = rest.split_once("END:VCALENDAR\r\n").expect("an end");
        let body = body.replace("METHOD:REQUEST\r\n", "");
        let name: String = uid.chars().filter(char::is_ascii_alphanumeric).collect();
        let kept = format!("BEGIN:VCALENDAR{body}END:VCALENDAR\r\n");
        calendar.put(&name, &kept).await;
    }
    assert_eq!(calendar.listed().await, EACH / 2, "seed {seed:#x}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_sends_by_smpp_it_loses_no_message() {
    let seed = 0x5e_4d18;
    let mut random = Random::new(seed);
    let mut ground = Ground::new().await;
    for _ in 0..EACH {
        ground.queue("sms", None, None).await;
    }
    let (space, token, all) = ground.left().await;
    let space = space.path();
    let centre = Centre::start().await;
    let smpp = centre.smpp();
    let password = space.join("password");
    fs::write(&password, &smpp.password).expect("written");
    let settings = [
        "public_url=https://care.example".to_owned(),
        "sms.provider=smpp".to_owned(),
        format!("sms.from={}", smpp.from),
        "sms.country=US".to_owned(),
        "sms.per_second=100".to_owned(),
        "smpp.host=127.0.0.1".to_owned(),
        format!("smpp.port={}", smpp.port),
        "smpp.tls=false".to_owned(),
        format!("smpp.system_id={}", smpp.system_id),
        format!("smpp.password_file={}", text(&password)),
    ];
    let server = killed(space, &settings, &mut random, async |random| {
        let next = random.map_or(json!([]), |random| {
            some(random, &json!("take_and_hang"), &json!(0))
        });
        centre.next(next).await;
    })
    .await;
    let fhir = Fhir::new(&server.base, &token);
    let is_handed = |status: &str| status != "preparation";
    for sent in &all {
        ended(&fhir, sent, is_handed).await;
    }
    // The centre tells what became of all that it has, known to us by its name or not.
    for message in centre.taken() {
        assert_eq!(centre.receipt(&message, DELIVERED).await, Some(0));
    }
    let mut came = Came::new();
    for message in centre.taken() {
        add(&mut came, &message["text"], &message["mark"]);
    }
    for sent in &all {
        let done = ended(&fhir, sent, |status| status == "completed").await;
        let names = done["identifier"].as_array().expect("names").iter();
        let names = names.filter(|one| one["system"] == trust::conventions::SMS_SYSTEM);
        let times = came.get(&sent.id).map_or(0, Vec::len);
        assert_eq!(names.count(), times, "seed {seed:#x}: {done}");
    }
    let again = repeats("sms", seed, &all, &came);
    assert!(
        again > 0,
        "seed {seed:#x}: no kill came while something was sent"
    );
    assert!(server.terminate().expect("ended"), "a clean end");
}

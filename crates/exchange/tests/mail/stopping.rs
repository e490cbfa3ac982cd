//! What stops a message that is queued already, for every channel alike: consent that is withdrawn, a wish, the way that is
//! taken back, death; and quiet hours, which hold it. One message of each channel beside them leaves, so that what
//! doesn't is stopped by that alone.

use exchange::{PushOptions, PushServices};
use serde_json::{Value, json};
use trust::consent::{Hours, Pressing, QuietHours, Sort, Topic};
use trust::conventions::NOT_WANTED_EXTENSION;
use trust::identity::AppService;
use trust::outgoing::Message;

use crate::apps::{SCOPES, apns_token, fcm_token, let_in, told_in};
use crate::centre::Centre;
use crate::entries::visit;
use crate::letters::{BOUND, Partner, call, home, letter};
use crate::patience::Patience;
use crate::peer::Peer;
use crate::provider::Provider;
use crate::push::{browsers, push};
use crate::pusher::{Pusher, Subscribed};
use crate::telephones::Telephones;
use crate::texts::text;
use crate::wishes::say;
use crate::world::{NOW_MS, Running, World};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Every way by which a message of a journey leaves. An inbox has all of them behind its sign-in; calls to partners and
/// notifications of subscriptions are no messages, and the tests of the server have those.
const CHANNELS: [&str; 9] = [
    "e-mail", "calendar", "sms", "smpp", "browser", "fcm", "apns", "letter", "voice",
];

/// What happens after the message was queued.
const EVENTS: [&str; 6] = [
    "nothing",
    "consent withdrawn",
    "wants none",
    "way taken back",
    "death",
    "quiet hours",
];

/// What becomes of a message of a channel: the code of why it isn't sent, or how it goes.
fn expected(channel: &str, event: &str) -> &'static str {
    match event {
        "nothing" => "goes",
        "consent withdrawn" => "consent",
        "wants none" => "unwelcome",
        "way taken back" => match channel {
            "e-mail" | "calendar" | "sms" | "smpp" => "preference",
            _ => "no-address",
        },
        "death" => "deceased",
        // The post wakes nobody, and a call is listed with the hours at which it may be made.
        _ => match channel {
            "letter" => "goes",
            "voice" => "rings later",
            _ => "waits",
        },
    }
}

/// All that a message may reach.
pub struct Peers {
    pub mail: Peer,
    pub provider: Provider,
    pub centre: Centre,
    pub pusher: Pusher,
    pub telephones: Telephones,
    pub partner: Partner,
}

impl Peers {
    pub async fn start() -> Self {
        Self {
            mail: Peer::start(&[]).await,
            provider: Provider::start().await,
            centre: Centre::start().await,
            pusher: Pusher::start().await,
            telephones: Telephones::start().await,
            partner: Partner::new(BOUND),
        }
    }

    pub fn push(&self) -> PushOptions {
        PushOptions {
            services: PushServices::parse(&self.pusher.origin()).expect("a list"),
            contact: Some("mailto:it@hospital.example".to_owned()),
            ..self.telephones.options()
        }
    }

    /// How often it has come to whom it was for.
    async fn came(&self, case: &Case) -> usize {
        let has = |text: &Value| text.as_str().is_some_and(|text| text.contains(&case.id));
        let of = |all: Vec<Value>, name: &str| all.iter().filter(|one| has(&one[name])).count();
        match case.channel {
            "e-mail" | "calendar" => {
                let all = self.mail.seen();
                all.iter()
                    .filter(|mail| mail.text().contains(&case.id))
                    .count()
            }
            "sms" => of(self.provider.taken(), "Body"),
            "smpp" => of(self.centre.taken(), "text"),
            "browser" => {
                let browser = case.browser.as_ref().expect("a browser");
                of(self.pusher.read(browser).await, "url")
            }
            "fcm" | "apns" => self.telephones.read(&case.token()).await.len(),
            _ => of(self.partner.rows("out"), "id"),
        }
    }
}

struct Case {
    channel: &'static str,
    event: &'static str,
    number: usize,
    patient: String,
    id: String,
    browser: Option<Subscribed>,
}

impl Case {
    fn token(&self) -> String {
        match self.channel {
            "fcm" => fcm_token(self.number),
            _ => apns_token(self.number),
        }
    }

    fn telephone(&self) -> String {
        telephone(self.number)
    }
}

/// A telephone of somebody alone.
fn telephone(number: usize) -> String {
    format!("+16175550{number:03}")
}

/// Puts out what a journey does, a minute before it is due.
async fn queued(
    world: &World,
    peers: &Peers,
    channel: &'static str,
    event: &'static str,
    number: usize,
) -> Case {
    let telecom = json!([
        { "system": "email", "value": format!("p{number}@example.com") },
        { "system": "phone", "use": "mobile", "value": telephone(number) }
    ]);
    let patient = world.patient(&[home(), ("telecom", telecom)]).await;
    world.consent(&patient, "active").await;
    let mut case = Case {
        channel,
        event,
        number,
        patient,
        id: String::new(),
        browser: None,
    };
    match channel {
        "browser" => {
            case.browser = browsers(world, &peers.pusher, &case.patient, 1).await.pop();
        }
        "fcm" | "apns" => {
            let (agent, _) = let_in(world, &case.patient, SCOPES).await;
            let service = match channel {
                "fcm" => AppService::Fcm,
                _ => AppService::Apns,
            };
            told_in(world, &agent, service, &case.token()).await;
        }
        _ => {}
    }
    let change = |message: &mut Message| {
        match channel {
            "e-mail" => {}
            "calendar" => message.visit = Some(visit("2026-11-20T09:00:00Z", 0, false)),
            "sms" | "smpp" => text(message),
            "letter" => letter(message),
            "voice" => call(message),
            _ => push(message),
        }
        message.expires_ms = Some(NOW_MS + 48 * HOUR_MS);
        message.hours = Some(Hours {
            zone: "UTC".to_owned(),
            ..Hours::default()
        });
        message.sort = Some(Sort {
            topic: Topic::Care,
            pressing: Pressing::Routine,
        });
    };
    case.id = world.queue_for(&case.patient, MINUTE_MS, change).await;
    case
}

/// What happens meanwhile.
async fn happens(world: &World, peers: &Peers, case: &Case) {
    let patient = case.patient.as_str();
    let mut record = world.record(patient).await;
    match (case.event, case.channel) {
        ("nothing", _) => {}
        ("consent withdrawn", _) => world.consent(patient, "inactive").await,
        ("wants none", _) => {
            let none = |wishes: &mut trust::consent::Wishes| {
                wishes.set_ways(Topic::Care, Some(Vec::new()));
            };
            say(world, patient, none).await;
        }
        ("death", _) => {
            record["deceasedDateTime"] = json!("2026-10-26");
            world.put(patient, record).await;
        }
        ("quiet hours", _) => {
            let time = |text: &str| text.parse().expect("a time");
            let quiet = QuietHours {
                from: time("22:00"),
                until: time("12:00"),
            };
            say(world, patient, |wishes| wishes.set_quiet(Some(quiet))).await;
        }
        (_, "e-mail" | "calendar") => {
            let not = json!([{ "url": NOT_WANTED_EXTENSION, "valueBoolean": true }]);
            record["telecom"][0]["extension"] = not;
            world.put(patient, record).await;
        }
        (_, "sms") => {
            let door = world.door(&peers.provider.options());
            peers.provider.bring(&door, &case.telephone(), "STOP").await;
        }
        (_, "smpp") => {
            let from = case.telephone();
            let stopped = peers.centre.text(from.trim_start_matches('+'), "STOP");
            assert_eq!(stopped.await, Some(0));
        }
        (_, "browser" | "fcm" | "apns") => {
            let (identity, session) = (world.trust.identity(), world.session(patient).await);
            let devices = identity.push_devices(&session).await.expect("listed");
            let removed = identity.remove_push_device(&session, &devices[0].id).await;
            removed.expect("removed");
        }
        (_, "letter") => {
            record["address"][0]["use"] = json!("old");
            world.put(patient, record).await;
        }
        _ => {
            record["telecom"] = json!([record["telecom"][0]]);
            world.put(patient, record).await;
        }
    }
}

/// Waits until a message is as it has to be in the morning, when quiet hours are not over.
async fn until_is(world: &World, case: &Case) -> Value {
    let expected = expected(case.channel, case.event);
    let mut patience = Patience::new();
    loop {
        let found = world.communication(&case.patient, &case.id).await;
        let (status, why) = (&found["status"], &found["statusReason"]);
        let (code, text) = (&why["coding"][0]["code"], &why["text"]);
        let is_so = match expected {
            "goes" | "rings later" => status == "completed" || status == "in-progress",
            "waits" => text
                .as_str()
                .is_some_and(|text| text.contains("quiet hours")),
            _ => status == "not-done",
        };
        if is_so {
            let is_ended = status == "not-done";
            assert!(
                !is_ended || code == expected,
                "{} after {}: {found}",
                case.channel,
                case.event
            );
            return found;
        }
        let words = format!("{} after {}: {found}", case.channel, case.event);
        patience.wait(&words).await;
    }
}

#[expect(clippy::print_stdout, reason = "what a test has counted is told")]
async fn goes_through(
    channels: &[&'static str],
    running: impl AsyncFnOnce(&World, &Peers) -> Vec<Running>,
) {
    let peers = Peers::start().await;
    let world = World::bound(peers.partner.policies.path()).await;
    let mut cases = Vec::new();
    for &channel in channels {
        for event in EVENTS {
            let number = 120 + cases.len();
            cases.push(queued(&world, &peers, channel, event, number).await);
        }
    }
    let running = running(&world, &peers).await;
    world.clock.advance(1_000);
    for case in &cases {
        happens(&world, &peers, case).await;
        assert_eq!(peers.came(case).await, 0, "{} is early", case.channel);
    }
    // Half past eight: all are due, batches are closed, and it is quiet until noon.
    world.clock.set(NOW_MS + HOUR_MS);
    for case in &cases {
        until_is(&world, case).await;
    }
    let mut stopped = 0;
    for case in &cases {
        let (came, expected) = (peers.came(case).await, expected(case.channel, case.event));
        let wanted = usize::from(matches!(expected, "goes" | "rings later"));
        assert_eq!(came, wanted, "{} after {}", case.channel, case.event);
        stopped += usize::from(came == 0 && expected != "waits");
        if expected == "rings later" {
            let rows = peers.partner.rows("out");
            let row = rows.iter().find(|row| row["id"] == case.id.as_str());
            let from = row.expect("a row")["from"].clone();
            assert_eq!(from, "2026-10-26T12:00:00+00:00");
        }
    }
    // What waited goes when quiet hours are over, and what was stopped does not.
    world.clock.set(NOW_MS + 5 * HOUR_MS);
    for case in &cases {
        let expected = expected(case.channel, case.event);
        let mut patience = Patience::new();
        while expected == "waits" && peers.came(case).await == 0 {
            patience
                .wait(&format!("{} waits after noon", case.channel))
                .await;
        }
    }
    let mut patience = Patience::new();
    while !world.outbox().await.is_empty() {
        patience.wait("something is left").await;
    }
    for one in running {
        one.stop().await;
    }
    for case in &cases {
        let expected = expected(case.channel, case.event);
        let wanted = usize::from(matches!(expected, "goes" | "rings later" | "waits"));
        let came = peers.came(case).await;
        assert_eq!(came, wanted, "{} after {}", case.channel, case.event);
    }
    println!("stopping: {} messages, {stopped} stopped", cases.len());
}

#[tokio::test]
async fn what_is_queued_is_stopped_whatever_its_channel() {
    let but_smpp: Vec<&str> = CHANNELS.into_iter().filter(|one| *one != "smpp").collect();
    goes_through(&but_smpp, async |world, peers| {
        vec![
            world.run(world.options(peers.mail.port)),
            world.run_texts(peers.provider.options()),
            world.run_push(peers.push()),
            world.run_files(peers.partner.letters()),
            world.run_files(peers.partner.calls()),
        ]
    })
    .await;
}

/// A server has one provider of text messages.
#[tokio::test]
async fn what_is_queued_is_stopped_by_smpp_too() {
    goes_through(&["smpp"], async |world, peers| {
        let running = world.run_texts(peers.centre.options());
        peers.centre.bound(1).await;
        vec![running]
    })
    .await;
}

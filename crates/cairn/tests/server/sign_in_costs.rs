//! What a sign-in that fails looks up in the store is the same whether there is such a name, link, sign-in under way or
//! passkey, or not: look-ups are counted, because a clock tells a difference of one of them only where it is lucky. A
//! failure that counts against somebody is written down beside its audit record, in the same commit; what nobody has
//! leaves nothing but that record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn::store::TENANT;
use ledger::{Clock as _, LookUps, ManualClock, SystemClock};
use reqwest::StatusCode;
use tokio::time::sleep;
use trust::identity::{RelyingParty, SignIn};
use trust::{Action, Purpose, Role, Target};

use crate::apps::{Browser, PASSWORD, Page, Staff, agent, by, furnished};
use crate::authenticator::Authenticator;
use crate::house::{House, house_counted};
use crate::tenants_credentials::turned;

/// What works besides requests looks into the store as well, so that of several tries the least counts.
const TRIES: usize = 6;
/// After which failures are forgotten.
const DAY_MS: u64 = 86_400_000;
const BORN: &str = "1950-02-03";

/// What else is looked at meanwhile: those who follow events, and timers.
const BESIDES: [&str; 5] = ["events", "events_below", "timers", "outbox", "cursor"];

type Counts = BTreeMap<&'static str, u64>;

/// What a request costs.
#[derive(Debug)]
struct Cost {
    /// What is looked up before something is written, and how often something is.
    read: Counts,
    /// Documents that are written: the writer looks at the head of each.
    written: u64,
}

impl Cost {
    fn of(mut counts: Counts) -> Self {
        counts.retain(|what, count| *count > 0 && !BESIDES.contains(what));
        // What is written over is looked at as well, where there is something.
        counts.remove("posted");
        Self {
            written: counts.remove("head").unwrap_or_default(),
            read: counts,
        }
    }
}

/// A way to fail, or to come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knock {
    Password(&'static str, &'static str),
    /// A wrong code for a sign-in under way.
    WrongCode,
    FinishedSignIn,
    UnknownSignIn,
    UsedLink,
    OldLink,
    WrongDate,
    UnknownLink,
    /// A passkey of this person's, with another's signature.
    WrongPasskey(&'static str),
    UnknownPasskey,
}

struct Doors<'a> {
    house: &'a House,
    counts: LookUps,
    wall: ManualClock,
    browser: Browser<'a>,
    dora: Staff,
    devices: BTreeMap<&'static str, Authenticator>,
}

type Form = (String, Vec<(&'static str, String)>);

impl Doors<'_> {
    fn code(&self) -> String {
        let secret = totp_rs::Secret::try_from_base32(&self.dora.totp).expect("base32");
        let totp = totp_rs::Builder::new().with_secret(secret).build();
        let totp = totp.expect("a secret");
        totp.generate(self.wall.now_ms() / 1000).to_string()
    }

    async fn ticket(&self) -> String {
        let identity = self.house.server.trust().identity();
        match identity.password(TENANT, "dora", PASSWORD).await {
            Ok(SignIn::SecondFactor { ticket }) => ticket,
            other => panic!("{other:?}"),
        }
    }

    async fn link(&self) -> String {
        let identity = self.house.server.trust().identity();
        let coordinator = agent(Role::Coordinator);
        let link = identity.make_link(&coordinator, "ann", 3600, false);
        link.await.expect("a link")
    }

    /// The form of a knock, filled in. What this looks up is not counted.
    async fn form(&mut self, knock: Knock) -> Form {
        let identity = self.house.server.trust().identity();
        let page = self.browser.get("/sign-in").await;
        let mut fields = vec![("form", page.field("form"))];
        let path = match knock {
            Knock::Password(user, password) => {
                fields.push(("user", user.to_owned()));
                fields.push(("password", password.to_owned()));
                "/sign-in".to_owned()
            }
            Knock::WrongCode | Knock::FinishedSignIn | Knock::UnknownSignIn => {
                let mut ticket = self.ticket().await;
                if knock == Knock::FinishedSignIn {
                    let done = identity.second_factor(&ticket, &self.code()).await;
                    assert!(matches!(done, Ok(SignIn::Done { .. })), "{done:?}");
                }
                if knock == Knock::UnknownSignIn {
                    ticket = turned(&ticket);
                }
                let right = self.code();
                let wrong = if right == "000000" {
                    "000001"
                } else {
                    "000000"
                };
                fields.push(("ticket", ticket));
                fields.push(("code", wrong.to_owned()));
                "/sign-in/code".to_owned()
            }
            Knock::UsedLink | Knock::OldLink | Knock::WrongDate | Knock::UnknownLink => {
                let mut link = self.link().await;
                if knock == Knock::UsedLink {
                    let done = identity.use_link(TENANT, &link, BORN).await;
                    assert!(matches!(done, Ok(SignIn::Done { .. })), "{done:?}");
                }
                if knock == Knock::OldLink {
                    self.wall.advance(3_600_000);
                }
                if knock == Knock::UnknownLink {
                    link = turned(&link);
                }
                let born = match knock {
                    Knock::WrongDate => "1951-01-01",
                    _ => BORN,
                };
                fields.push(("birth_date", born.to_owned()));
                format!("/sign-in/link/{link}")
            }
            Knock::WrongPasskey(_) | Knock::UnknownPasskey => {
                let owner = match knock {
                    Knock::WrongPasskey(owner) => owner,
                    _ => "dora",
                };
                let device = self.devices.get_mut(owner).expect("a device");
                let at = page.body.find("<form id=\"passkey\"").expect("a form");
                let form = &page.body[at..];
                let options = form.split("data-options=\"").nth(1).expect("options");
                let options = crate::apps::unescaped(options.split('"').next().expect("options"));
                let mut answer: serde_json::Value =
                    serde_json::from_str(&device.show(&options)).expect("JSON");
                if knock == Knock::UnknownPasskey {
                    let id = answer["id"].as_str().expect("an id");
                    answer["id"] = turned(id).into();
                }
                answer["signature"] = "AAAA".into();
                let sealed = form.split("data-sealed").next().expect("a field");
                let sealed = sealed.rsplit("value=\"").next().expect("a value");
                let sealed = sealed.split('"').next().expect("a value");
                fields.push(("sealed", sealed.to_owned()));
                fields.push(("answer", answer.to_string()));
                "/sign-in/passkey".to_owned()
            }
        };
        (path, fields)
    }

    /// What each of two knocks costs, by turns, and what is answered.
    async fn costs(&mut self, knocks: [Knock; 2]) -> [(Cost, Page); 2] {
        let mut least: [Option<(Counts, Page)>; 2] = [None, None];
        for _ in 0..TRIES {
            for (knock, least) in knocks.iter().zip(&mut least) {
                // Failures are forgotten by then, and a one-time code is another.
                self.wall.advance(DAY_MS + 60_000);
                let (path, fields) = self.form(*knock).await;
                let fields: Vec<(&str, &str)> = fields
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                sleep(Duration::from_millis(20)).await;
                let before = self.counts.so_far();
                let page = self.browser.post(&path, &fields).await;
                let mut cost = self.counts.so_far();
                for (what, count) in &mut cost {
                    *count -= before.get(what).copied().unwrap_or_default();
                }
                if let Some((known, _)) = least {
                    for (what, count) in &mut cost {
                        *count = (*count).min(known.get(what).copied().unwrap_or_default());
                    }
                }
                *least = Some((cost, page));
            }
        }
        least.map(|least| {
            let (counts, page) = least.expect("a try");
            (Cost::of(counts), page)
        })
    }
}

/// What the page says of a failure.
fn trouble(page: &Page) -> &str {
    let at = page.body.find("role=\"alert\"").expect("words");
    let rest = &page.body[at..];
    &rest[..rest.find("</div>").expect("an end")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_fails_looks_up_as_much_for_what_nobody_has() {
    let counts = LookUps::default();
    let wall = ManualClock::new(SystemClock.now_ms());
    let clock = wall.clone();
    let house = house_counted(&counts, |options| options.wall_clock = Arc::new(clock)).await;
    furnished(&house).await;
    let dora = Staff::new(&house, "dora", Role::Clinician).await;
    let carl = Staff::new(&house, "carl", Role::Clinician).await;
    let identity = house.server.trust().identity();
    let base = house.url("");
    let party = RelyingParty::of(&base, "test").expect("a name");
    let mut devices = BTreeMap::new();
    for (name, person) in [("dora", &dora), ("carl", &carl)] {
        let step = identity.password(TENANT, name, PASSWORD).await;
        let Ok(SignIn::SecondFactor { ticket }) = step else {
            panic!("{step:?}");
        };
        let done = identity.second_factor(&ticket, &person.code()).await;
        let Ok(SignIn::Done { session, .. }) = done else {
            panic!("{done:?}");
        };
        let mut device = Authenticator::at(&party.origin);
        let asked = identity.ask_for_new_passkey(&party, &session).await;
        let asked = asked.expect("a question");
        let made = device.make(&asked.options);
        let added = identity.add_passkey(&party, &session, &asked.sealed, &made, "Key");
        added.await.expect("a passkey");
        devices.insert(name, device);
    }
    let target = Target::default();
    let (by, purpose) = (by(), Purpose::Administration);
    let permit = house
        .server
        .trust()
        .decide(&by, purpose, Action::Administer, target, "");
    let permit = permit.await.expect("a permit");
    let closed = identity.set_active(&permit, &carl.id, false);
    closed.await.expect("closed");
    let mut doors = Doors {
        house: &house,
        counts,
        wall,
        browser: Browser::new(&house),
        dora,
        devices,
    };
    let wrong = "wrong-password";
    let unknown = Knock::Password("nora", wrong);
    // Beside each: how many documents its commit has besides the record of the audit.
    for (known, unknown, written) in [
        (Knock::Password("dora", wrong), unknown, 1),
        // Of a closed account, and with its right password.
        (Knock::Password("carl", PASSWORD), unknown, 1),
        (Knock::FinishedSignIn, Knock::UnknownSignIn, 0),
        (Knock::UsedLink, Knock::UnknownLink, 0),
        (Knock::OldLink, Knock::UnknownLink, 0),
        // The link has its own count of wrong dates beside the patient's.
        (Knock::WrongDate, Knock::UnknownLink, 2),
        (Knock::WrongPasskey("dora"), Knock::UnknownPasskey, 1),
        (Knock::WrongPasskey("carl"), Knock::UnknownPasskey, 1),
    ] {
        let [(cost, page), (nobodys, other)] = doors.costs([known, unknown]).await;
        assert_eq!(cost.read, nobodys.read, "{known:?}");
        assert!(cost.read.contains_key("newest"), "{cost:?}");
        assert_eq!(cost.written, nobodys.written + written, "{known:?}");
        assert_eq!(page.status, StatusCode::OK, "{known:?}");
        assert_eq!(other.status, StatusCode::OK, "{unknown:?}");
        assert_eq!(trouble(&page), trouble(&other), "{known:?}");
    }
    // Who has shown the password sees by which second factors they go on, so that their page costs more; it says the
    // same.
    let knocks = [Knock::WrongCode, Knock::UnknownSignIn];
    let [(cost, page), (nobodys, other)] = doors.costs(knocks).await;
    assert!(cost.read["newest"] > nobodys.read["newest"], "{cost:?}");
    assert_eq!(trouble(&page), trouble(&other));
    // What works costs something else, so that being equal means something.
    let knocks = [Knock::Password("dora", PASSWORD), unknown];
    let [(cost, _), (nobodys, _)] = doors.costs(knocks).await;
    assert_ne!(cost.read, nobodys.read);
    drop(doors);
    house.end().await;
}

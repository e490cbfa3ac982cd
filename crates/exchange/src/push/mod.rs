//! Notifications to browsers (Web Push, RFC 8030): that there is a message, and where to read it, sealed so that the
//! browser alone can read it.
//!
//! What is shown has words of ours alone, whatever an outbox entry says: it stands on a locked screen, beside whoever
//! looks at it. Start reading at [`Push::hand_over`]; `seal.rs` has what is sent, `services.rs` whom it may be sent to.

mod seal;
mod services;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::ResourceType;
use ledger::{OutboxEntry, TenantId};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::header::{RETRY_AFTER, USER_AGENT};
use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trust::identity::{NoPush, PushDevice, PushKey};
use trust::outgoing::Message;
use trust::{Action, Agent, Purpose, Question, Role, Target, Trust, TrustError};

use crate::attempt::LINK_LIFE_S;
use crate::breaker::{Breaker, BreakerView, Room};
use crate::calls::Public;
use crate::carrier::Trouble;
use crate::check::{Reason, Refused};
use crate::outcome::Outcome;
use crate::pace::Paces;
use crate::retry::Meaning;
use crate::{Meter, Price};

use services::Service;
pub use services::{PUSH_SERVICES, PushServices};

/// The part of Cairn that sends.
pub(crate) const PART: &str = "push-deliverer";
/// All that a notification says besides who sent it.
pub const PUSH_WORDS: &str = "You have a new message";
/// Bytes that each notification is filled up to: three times what a link takes, so that no length says which it is.
const PADDED_BYTES: usize = 1_024;
/// The longest that a push service is asked to keep a message: as long as its link opens something.
const TTL_MAX_S: u64 = LINK_LIFE_S;
/// How long one is kept that has no end.
const TTL_S: u64 = 24 * 3_600;
/// Bytes of a topic, which is 32 characters at most (RFC 8030, section 5.4).
const TOPIC_BYTES: usize = 24;
/// The longest that is waited because a service says so, seconds.
const RETRY_AFTER_MAX_S: u64 = 3_600;
/// How long a message waits that came too soon after others, where nothing is said.
const TOO_SOON_S: u64 = 60;
/// The most hosts below a star of the list that are left alone at once. Who has a session can make names up.
const BELOW_MAX: usize = 256;
/// How long a service may take to connect (real time).
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// Where notifications go.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The push services that may be asked.
    pub services: PushServices,
    /// Where a push service's operator finds who sends (`mailto:` or `https:`).
    pub contact: String,
    /// Who sends, as the notification says it.
    pub sender: String,
    /// Base URL of the portal, for links.
    pub portal_base: String,
    /// Time-out of one request, milliseconds.
    pub timeout_ms: u64,
    /// Messages at once.
    pub parallel: usize,
    /// Whether links sign the patient in with their birth date (magic link) or lead to the sign-in page.
    pub magic_links: bool,
    /// What they cost, and how many requests a push service gets in a second.
    pub meter: Meter,
}

/// Whether a text says where a sender is found (RFC 8292, section 2.1).
#[must_use]
pub fn is_push_contact(text: &str) -> bool {
    match text.strip_prefix("mailto:") {
        Some(address) => crate::is_address(address),
        None => {
            Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some())
        }
    }
}

/// Whether policies don't let the part that sends do its work. While they don't, no notification leaves.
#[must_use]
pub fn is_push_unready(trust: &Trust) -> bool {
    let (care, here) = (Purpose::Treatment, Purpose::Operations);
    let message = Some(ResourceType::Communication);
    let needs = [
        (care, Action::Send, message),
        (care, Action::Read, Some(ResourceType::Patient)),
        (care, Action::Search, Some(ResourceType::Consent)),
        (care, Action::Read, message),
        (care, Action::Search, message),
        (care, Action::Update, message),
        (here, Action::Send, message),
        (here, Action::Invite, None),
    ];
    let set = trust.policy_set();
    needs.into_iter().any(|(purpose, action, kind)| {
        let question = Question {
            role: Role::System,
            part: Some(PART.to_owned()),
            purpose,
            action,
            kind,
            own: false,
            around: trust.usual_around(),
        };
        !set.allows(&question)
    })
}

/// What hands notifications over.
pub(crate) struct Push {
    trust: Trust,
    services: PushServices,
    contact: String,
    sender: String,
    client: Client,
    /// Services that aren't there: one of them keeps nothing from the others.
    breakers: Mutex<Breakers>,
    /// What a notification costs.
    price: Option<Price>,
    /// How many a service gets in a second.
    paces: Paces,
}

/// What is known of services that fail, by their origin; nothing of those that work. By each host below a star of the
/// list, because one that somebody made up would have the others left alone.
#[derive(Default)]
struct Breakers {
    failing: HashMap<String, Breaker>,
    below: usize,
}

impl Breakers {
    fn rests_until(&self, origin: &str, now: Instant) -> Option<Instant> {
        match self.failing.get(origin)?.room(now, 0, 1) {
            Room::NoneUntil(until) => Some(until),
            Room::For(_) => None,
        }
    }

    /// Says when a service is left alone from now on.
    fn saw(&mut self, service: &Service, sign: Sign, now: Instant) -> Option<Duration> {
        let origin = service.origin.as_str();
        if sign == Sign::Well {
            // What was under way when it began to be left alone doesn't end that.
            if self.rests_until(origin, now).is_some() {
                return None;
            }
            if self.failing.remove(origin).is_some() && service.is_below {
                self.below -= 1;
            }
            return None;
        }
        if !self.failing.contains_key(origin) {
            if service.is_below && self.below >= BELOW_MAX {
                return None;
            }
            self.below += usize::from(service.is_below);
        }
        let breaker = self.failing.entry(origin.to_owned());
        let breaker = breaker.or_insert_with(Breaker::new);
        match sign {
            Sign::Well => None,
            Sign::Ill => breaker.failed(now),
            Sign::Fewer(after) => breaker.throttled(now, Some(after)),
        }
    }
}

/// What an answer, or none, says of the service, whatever it says of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Well,
    Ill,
    /// It wants fewer, after so long.
    Fewer(Duration),
}

/// What became of a message at one device.
#[derive(Debug)]
enum Handed {
    Taken,
    /// The push service knows the device no more.
    Gone,
    Failed(Trouble),
}

/// Why a patient gets none.
pub(crate) fn refused(why: NoPush) -> Refused {
    match why {
        NoPush::Nowhere => Refused::new(
            Reason::NoAddress,
            "The patient has turned notifications on nowhere.",
        ),
        NoPush::Unwanted => Refused::new(
            Reason::Preference,
            "The patient wants to be reached at one address alone.",
        ),
        NoPush::Off => Refused::new(Reason::NoAddress, "No notifications are sent."),
    }
}

fn trouble(meaning: Meaning, words: impl Into<String>) -> Trouble {
    Trouble {
        meaning,
        words: words.into(),
        reason: Reason::PermanentFailure,
        after_ms: None,
    }
}

/// The key that push services know can't be used.
fn unsigned(error: &TrustError) -> Trouble {
    tracing::error!(%error, "push: the key that push services know can't be used");
    trouble(
        Meaning::Later,
        "the key that push services know can't be used",
    )
}

/// What a message is known by to a browser, or with a device to its push service: a repeat takes the place of the one
/// before. It is another for each device, so that a service doesn't learn which of them are of one patient.
fn topic(communication: &str, device: &str) -> String {
    let of = format!("{communication}/{device}");
    let hash = digest::digest(&digest::SHA256, of.as_bytes());
    let hash = hash.as_ref().get(..TOPIC_BYTES).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(hash)
}

/// How soon it has to be there, for a device that saves its battery (RFC 8030, section 5.3). What can't wait has no
/// hours.
fn urgency(message: &Message) -> &'static str {
    let waits = message.hours.as_ref();
    if waits.is_none_or(|hours| hours.important) {
        "high"
    } else {
        "normal"
    }
}

/// How long a push service keeps a message for a device that is off: as long as it is of use.
fn ttl_s(expires_ms: Option<u64>, now_ms: u64) -> u64 {
    let left = expires_ms.map(|expires_ms| expires_ms.saturating_sub(now_ms) / 1_000);
    left.unwrap_or(TTL_S).min(TTL_MAX_S)
}

impl Push {
    /// Checks that the options fit together.
    pub(crate) fn new(trust: Trust, options: PushOptions) -> Result<Self, String> {
        if !is_push_contact(&options.contact) {
            return Err(format!(
                "the contact {:?} is no mailto: or https: address",
                options.contact
            ));
        }
        if options.timeout_ms == 0 {
            return Err("the time-out of a request must be at least 1 ms".to_owned());
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(Duration::from_millis(options.timeout_ms))
            .dns_resolver(Arc::new(Public))
            .build()
            .map_err(|error| format!("a client for push services: {error}"))?;
        trust.vault().set_sends_notifications();
        Ok(Self {
            trust,
            services: options.services,
            contact: options.contact,
            sender: options.sender,
            client,
            breakers: Mutex::default(),
            price: options.meter.price,
            paces: Paces::new(options.meter.per_second),
        })
    }

    /// What a message costs that was taken for a device, where that is known.
    pub(crate) fn price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// Until when none of a patient's devices can be told, because all of their services are left alone. Devices that no
    /// service may be asked for don't count.
    pub(crate) fn rests(&self, devices: &[PushDevice]) -> Option<Instant> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut first: Option<Instant> = None;
        for device in devices {
            let Some((_, service)) = self.services.find(&device.endpoint) else {
                continue;
            };
            let until = breakers.rests_until(&service.origin, now)?;
            first = Some(first.map_or(until, |first| first.min(until)));
        }
        first
    }

    /// Hands a message over for each of a patient's devices. It has gone out once a push service has taken it for one of
    /// them; devices that a service knows no more are forgotten.
    pub(crate) async fn hand_over(
        &self,
        entry: &OutboxEntry,
        message: &Message,
        devices: &[PushDevice],
        link: &str,
    ) -> Result<Outcome, Trouble> {
        let now_ms = self.trust.vault().ledger().clock().now_ms();
        let shown = json!({
            "title": self.sender, "body": PUSH_WORDS, "url": link,
            "tag": topic(&message.communication, "")
        });
        let shown = shown.to_string();
        let head = [
            (TTL, ttl_s(message.expires_ms, now_ms).to_string()),
            (URGENCY, urgency(message).to_owned()),
        ];
        let key = self.trust.identity().push_key(entry.tenant).await;
        let key = key.map_err(|error| unsigned(&error))?;
        let (print, mut handed, mut gone) = (key.print(), Vec::new(), Vec::new());
        let mut asked = JoinSet::new();
        for device in devices {
            // Its service takes nothing of ours for it, and never will.
            if device.signer != print {
                gone.push(device.clone());
                handed.push(Handed::Gone);
                continue;
            }
            let topic = topic(&message.communication, &device.id);
            match self.ready(&key, device, &shown, &head) {
                Ok((service, request)) => {
                    let (device, request) = (device.clone(), request.header(TOPIC, topic));
                    let pace = self.paces.of(&service.origin);
                    asked.spawn(async move {
                        if let Some(pace) = pace {
                            pace.turn().await;
                        }
                        (device, service, sent(request).await)
                    });
                }
                Err(trouble) => handed.push(Handed::Failed(trouble)),
            }
        }
        while let Some(ended) = asked.join_next().await {
            // A task that panicked may have sent it.
            let Ok((device, service, (what, sign))) = ended else {
                let words = "what was sent to a push service broke off";
                handed.push(Handed::Failed(trouble(Meaning::Unknown, words)));
                continue;
            };
            self.saw(&service, sign);
            if matches!(what, Handed::Gone) {
                gone.push(device);
            }
            handed.push(what);
        }
        if !gone.is_empty() {
            metrics::counter!("push_devices_gone_total").increment(gone.len() as u64);
            // They are asked again the next time, and say the same.
            if let Err(error) = self.forget(entry.tenant, &message.patient, &gone).await {
                tracing::error!(%error, "push: devices that are gone could not be forgotten");
            }
        }
        together(handed)
    }

    /// A request for a device that has all that it needs, with the service that it goes to.
    fn ready(
        &self,
        key: &PushKey,
        device: &PushDevice,
        shown: &str,
        head: &[(HeaderName, String)],
    ) -> Result<(Service, reqwest::RequestBuilder), Trouble> {
        let Some((url, service)) = self.services.find(&device.endpoint) else {
            let words = "its push service is none that may be asked";
            return Err(trouble(Meaning::Never, words));
        };
        let origin = service.origin.as_str();
        self.room(origin)?;
        let mut salt = [0; 16];
        self.trust.vault().ledger().entropy().fill(&mut salt);
        let body = seal::seal(device, shown.as_bytes(), PADDED_BYTES, salt);
        let body =
            body.ok_or_else(|| trouble(Meaning::Never, "nothing can be sealed for the device"))?;
        let now_ms = self.trust.wall_clock().now_ms();
        let signed = key.authorization(origin, &self.contact, now_ms);
        let signed = signed.map_err(|error| unsigned(&error))?;
        let mut signed = HeaderValue::try_from(signed)
            .map_err(|_| trouble(Meaning::Never, "its head can't be put together"))?;
        signed.set_sensitive(true);
        let mut request = self
            .client
            .post(url)
            .header(USER_AGENT, "Cairn")
            .header(AUTHORIZATION, signed)
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream");
        for (name, value) in head {
            request = request.header(name, value);
        }
        Ok((service, request.body(body)))
    }

    /// Leaves a service alone that isn't there, or wants fewer.
    fn room(&self, origin: &str) -> Result<(), Trouble> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(until) = breakers.rests_until(origin, now) else {
            return Ok(());
        };
        let after_ms = u64::try_from((until - now).as_millis()).unwrap_or(u64::MAX);
        Err(Trouble {
            after_ms: Some(after_ms),
            ..trouble(Meaning::Busy, "the push service is left alone for a while")
        })
    }

    /// The services that fail, as operators are shown them.
    pub(crate) fn breakers(&self, channel: &'static str) -> Vec<BreakerView> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let failing = breakers.failing.iter();
        let failing = failing.map(|(origin, breaker)| BreakerView {
            channel,
            provider: origin.clone(),
            standing: breaker.standing(now),
        });
        failing.collect()
    }

    fn saw(&self, service: &Service, sign: Sign) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pause) = breakers.saw(service, sign, Instant::now()) {
            tracing::warn!(
                service = service.origin,
                pause_ms = pause.as_millis(),
                "push: a service is left alone, it can't be reached or wants fewer"
            );
        }
    }

    async fn forget(
        &self,
        tenant: TenantId,
        patient: &str,
        gone: &[PushDevice],
    ) -> Result<(), TrustError> {
        let agent = Agent::system(tenant, PART);
        let target = Target {
            kind: Some(ResourceType::Communication),
            patient: Some(patient.to_owned()),
        };
        let (purpose, action) = (Purpose::Operations, Action::Send);
        let permit = self
            .trust
            .decide(&agent, purpose, action, target, "push-gone")
            .await?;
        let identity = self.trust.identity();
        identity.forget_push_devices(&permit, patient, gone).await
    }
}

/// Sends a request, and says what became of it. Nothing of the answer but its status is read.
async fn sent(request: reqwest::RequestBuilder) -> (Handed, Sign) {
    let failed = |meaning, words: &str| (Handed::Failed(trouble(meaning, words)), Sign::Ill);
    match request.send().await {
        Ok(answer) => {
            let after_s = (answer.headers().get(RETRY_AFTER)).and_then(|value| {
                // A date is taken for the longest time: our clock may be another than theirs.
                let said = value.to_str().ok()?.trim();
                let after_s: u64 = said.parse().unwrap_or(RETRY_AFTER_MAX_S);
                Some(after_s.min(RETRY_AFTER_MAX_S))
            });
            means(answer.status(), after_s)
        }
        // An error's words have the address in them, and no more is said than what it means.
        Err(error) if error.is_connect() => failed(
            Meaning::Unreachable,
            "the push service can't be reached, or its name leads to no public address",
        ),
        Err(_) => failed(
            Meaning::Unknown,
            "the push service gave no answer, so it may have taken it",
        ),
    }
}

/// What an answer means (RFC 8030, sections 5, 7.3 and 8.4), of the device and of the service.
fn means(status: StatusCode, after_s: Option<u64>) -> (Handed, Sign) {
    let (meaning, sign) = match (status.as_u16(), after_s) {
        (200..=299, _) => return (Handed::Taken, Sign::Well),
        (404 | 410, _) => return (Handed::Gone, Sign::Well),
        // Too many for this one device.
        (429, _) => (Meaning::Busy, Sign::Well),
        (503, Some(after_s)) => (Meaning::Busy, Sign::Fewer(Duration::from_secs(after_s))),
        (408 | 500.., _) => (Meaning::Unknown, Sign::Ill),
        // It doesn't believe who we are: our clock is wrong, or the browser has named another key than it said. The
        // next channel has the message sooner than either is mended.
        (401 | 403, _) => {
            tracing::error!(
                status = status.as_u16(),
                "push: a service does not take our signature; is the clock right?"
            );
            (Meaning::Never, Sign::Well)
        }
        _ => (Meaning::Never, Sign::Well),
    };
    let after_s = after_s.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(TOO_SOON_S));
    let words = format!("the push service answered {}", status.as_u16());
    let failed = Handed::Failed(Trouble {
        after_ms: after_s.map(|after_s| after_s * 1_000),
        ..trouble(meaning, words)
    });
    (failed, sign)
}

/// What became of a message at all devices together.
fn together(handed: Vec<Handed>) -> Result<Outcome, Trouble> {
    let of = handed.len();
    let mut taken = 0;
    let mut worst: Option<Trouble> = None;
    for one in handed {
        match one {
            Handed::Taken => taken += 1,
            Handed::Gone => {}
            Handed::Failed(trouble) => {
                worst = Some(match worst {
                    Some(other) if weight(&other) >= weight(&trouble) => other,
                    _ => trouble,
                });
            }
        }
    }
    match worst {
        _ if taken > 0 => Ok(Outcome::Notified { taken, of }),
        Some(trouble) => Err(trouble),
        None => Ok(Outcome::NotDone(Refused::new(
            Reason::NoAddress,
            "The push service knows none of the patient's devices any more.",
        ))),
    }
}

/// Of several troubles, the one that leads on: what may work later goes before what never will.
fn weight(trouble: &Trouble) -> u8 {
    match trouble.meaning {
        Meaning::Never => 0,
        Meaning::Busy => 1,
        Meaning::Later => 2,
        Meaning::Unreachable => 3,
        Meaning::Unknown => 4,
    }
}

#[cfg(test)]
mod tests {
    use trust::consent::Hours;

    use super::*;

    #[test]
    fn answers_mean_different_things() {
        for (status, expected) in [
            (200, "taken"),
            (201, "taken"),
            (202, "taken"),
            (404, "gone"),
            (410, "gone"),
            (429, "Busy"),
            (500, "Unknown"),
            (503, "Unknown"),
            (401, "Never"),
            (403, "Never"),
            (302, "Never"),
            (400, "Never"),
            (413, "Never"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match means(status, None).0 {
                Handed::Taken => "taken".to_owned(),
                Handed::Gone => "gone".to_owned(),
                Handed::Failed(trouble) => format!("{:?}", trouble.meaning),
            };
            assert_eq!(found, expected, "{status}");
        }
    }

    /// What one device gets tells nothing of its service, whoever says where that device is.
    #[test]
    fn a_service_is_left_alone_for_what_it_says_of_itself() {
        let hour = Duration::from_secs(3_600);
        for (status, after_s, sign, after_ms) in [
            (201, None, Sign::Well, None),
            (410, None, Sign::Well, None),
            (429, Some(3_600), Sign::Well, Some(3_600_000)),
            (429, None, Sign::Well, Some(60_000)),
            (401, None, Sign::Well, None),
            (403, Some(5), Sign::Well, Some(5_000)),
            (400, None, Sign::Well, None),
            (500, None, Sign::Ill, None),
            (503, None, Sign::Ill, None),
            (503, Some(3_600), Sign::Fewer(hour), Some(3_600_000)),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (handed, found) = means(status, after_s);
            assert_eq!(found, sign, "{status} {after_s:?}");
            let said = match handed {
                Handed::Failed(trouble) => trouble.after_ms,
                Handed::Taken | Handed::Gone => None,
            };
            assert_eq!(said, after_ms, "{status} {after_s:?}");
        }
    }

    #[test]
    fn names_that_somebody_made_up_leave_no_other_alone_and_are_few() {
        let now = Instant::now();
        let host = |name: &str, is_below| Service {
            origin: format!("https://{name}"),
            is_below,
        };
        let mut breakers = Breakers::default();
        let fail = |breakers: &mut Breakers, service: &Service| {
            for _ in 0..crate::breaker::FAILURES_MAX {
                breakers.saw(service, Sign::Ill, now);
            }
            breakers.rests_until(&service.origin, now).is_some()
        };
        assert!(fail(&mut breakers, &host("made-up.wide.example", true)));
        assert_eq!(breakers.rests_until("https://eu.wide.example", now), None);
        for number in 0..2 * BELOW_MAX {
            fail(
                &mut breakers,
                &host(&format!("{number}.wide.example"), true),
            );
        }
        assert_eq!(breakers.failing.len(), BELOW_MAX);
        // One that the list names is left alone all the same, until it works again.
        let named = host("push.example", false);
        assert!(fail(&mut breakers, &named));
        // What was under way by then doesn't end it.
        breakers.saw(&named, Sign::Well, now);
        assert!(breakers.rests_until(&named.origin, now).is_some());
        let now = now + crate::breaker::PAUSE_FIRST;
        breakers.saw(&named, Sign::Well, now);
        assert!(!breakers.failing.contains_key(&named.origin));
        breakers.saw(&host("7.wide.example", true), Sign::Well, now);
        assert_eq!(breakers.failing.len(), BELOW_MAX - 1);
        assert!(fail(&mut breakers, &host("more.wide.example", true)));
    }

    #[test]
    fn one_device_that_has_it_is_enough_and_what_may_work_later_is_tried_again() {
        let failed = |meaning| Handed::Failed(trouble(meaning, "no"));
        let told = together(vec![Handed::Taken, failed(Meaning::Unknown), Handed::Gone]);
        assert_eq!(told.expect("told"), Outcome::Notified { taken: 1, of: 3 });
        let none = together(vec![Handed::Gone, Handed::Gone]);
        assert!(
            matches!(none, Ok(Outcome::NotDone(refused)) if refused.reason == Reason::NoAddress)
        );
        let again = together(vec![
            failed(Meaning::Never),
            Handed::Gone,
            failed(Meaning::Busy),
        ]);
        assert_eq!(again.expect_err("not told").meaning, Meaning::Busy);
        let never = together(vec![failed(Meaning::Never), Handed::Gone]);
        assert_eq!(never.expect_err("not told").meaning, Meaning::Never);
    }

    #[test]
    fn heads_say_how_long_how_soon_and_which() {
        assert_eq!(ttl_s(Some(61_000), 1_000), 60);
        assert_eq!(ttl_s(Some(1), 1_000), 0);
        assert_eq!(ttl_s(None, 1_000), 86_400);
        assert_eq!(ttl_s(Some(u64::MAX), 0), 7 * 86_400, "as long as its link");
        let one = topic("one", "a");
        assert_eq!((one.len(), &one), (32, &topic("one", "a")));
        assert_ne!(one, topic("two", "a"));
        assert_ne!(one, topic("one", "b"));
        let mut message: Message = serde_json::from_value(json!({
            "patient": "p", "communication": "c", "channel": "push", "purpose": "TREAT", "subject": "", "text": "",
            "link_path": "/", "journey": "j/1", "step": "s", "expires_ms": null
        }))
        .expect("a message");
        assert_eq!(urgency(&message), "high");
        message.hours = Some(Hours::default());
        assert_eq!(urgency(&message), "normal");
        message.hours = Some(Hours {
            important: true,
            ..Hours::default()
        });
        assert_eq!(urgency(&message), "high");
    }

    #[test]
    fn contacts_are_addresses() {
        for (text, good) in [
            ("mailto:it@hospital.example", true),
            ("https://hospital.example/contact", true),
            ("http://hospital.example", false),
            ("mailto:", false),
            ("it@hospital.example", false),
            ("", false),
        ] {
            assert_eq!(is_push_contact(text), good, "{text}");
        }
    }
}

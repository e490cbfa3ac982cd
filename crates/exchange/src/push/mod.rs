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

use crate::breaker::{Breaker, Room};
use crate::calls::Public;
use crate::carrier::Trouble;
use crate::check::{Reason, Refused};
use crate::outcome::Outcome;
use crate::retry::Meaning;

pub use services::{PUSH_SERVICES, PushServices};

/// The part of Cairn that sends.
pub(crate) const PART: &str = "push-deliverer";
/// All that a notification says besides who sent it.
pub const PUSH_WORDS: &str = "You have a new message";
/// Bytes that each notification is filled up to: three times what a link takes, so that no length says which it is.
const PADDED_BYTES: usize = 1_024;
/// The longest that a push service keeps a message (RFC 8030, section 5.2, leaves it to them): four weeks, as the services
/// of today say.
const TTL_MAX_S: u64 = 28 * 24 * 3_600;
/// How long one is kept that has no end.
const TTL_S: u64 = 24 * 3_600;
/// Bytes of a topic, which is 32 characters at most (RFC 8030, section 5.4).
const TOPIC_BYTES: usize = 24;
/// The longest that a service is left alone because it says so, seconds.
const RETRY_AFTER_MAX_S: u64 = 3_600;
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
    /// Services that aren't there, by their origin: one of them keeps nothing from the others.
    breakers: Mutex<HashMap<String, Breaker>>,
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

/// What a message is known by to a push service and to a browser: a repeat takes the place of the one before.
fn topic(communication: &str) -> String {
    let hash = digest::digest(&digest::SHA256, communication.as_bytes());
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
        Ok(Self {
            trust,
            services: options.services,
            contact: options.contact,
            sender: options.sender,
            client,
            breakers: Mutex::default(),
        })
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
        let topic = topic(&message.communication);
        let shown = json!({
            "title": self.sender, "body": PUSH_WORDS, "url": link, "tag": topic
        });
        let shown = shown.to_string();
        let head = [
            (TTL, ttl_s(message.expires_ms, now_ms).to_string()),
            (URGENCY, urgency(message).to_owned()),
            (TOPIC, topic),
        ];
        let key = self.trust.identity().push_key(entry.tenant).await;
        let key = key.map_err(|error| unsigned(&error))?;
        let mut handed = Vec::new();
        let mut asked = JoinSet::new();
        for device in devices {
            match self.ready(&key, device, &shown, &head) {
                Ok((origin, request)) => {
                    let id = device.id.clone();
                    asked.spawn(async move { (id, origin, sent(request).await) });
                }
                Err(trouble) => handed.push(Handed::Failed(trouble)),
            }
        }
        let mut gone = Vec::new();
        while let Some(ended) = asked.join_next().await {
            // A task that panicked may have sent it.
            let Ok((id, origin, what)) = ended else {
                let words = "what was sent to a push service broke off";
                handed.push(Handed::Failed(trouble(Meaning::Unknown, words)));
                continue;
            };
            self.saw(&origin, &what);
            if matches!(what, Handed::Gone) {
                gone.push(id);
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
    ) -> Result<(String, reqwest::RequestBuilder), Trouble> {
        let Some(url) = self.services.address(&device.endpoint) else {
            let words = "its push service is none that may be asked";
            return Err(trouble(Meaning::Never, words));
        };
        let origin = url.origin().ascii_serialization();
        self.room(&origin)?;
        let mut salt = [0; 16];
        self.trust.vault().ledger().entropy().fill(&mut salt);
        let body = seal::seal(device, shown.as_bytes(), PADDED_BYTES, salt);
        let body =
            body.ok_or_else(|| trouble(Meaning::Never, "nothing can be sealed for the device"))?;
        let now_ms = self.trust.wall_clock().now_ms();
        let signed = key.authorization(&origin, &self.contact, now_ms);
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
        Ok((origin, request.body(body)))
    }

    /// Leaves a service alone that isn't there, or wants fewer.
    fn room(&self, origin: &str) -> Result<(), Trouble> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(Room::NoneUntil(until)) =
            (breakers.get(origin)).map(|breaker| breaker.room(now, 0, 1))
        else {
            return Ok(());
        };
        let after_ms = u64::try_from((until - now).as_millis()).unwrap_or(u64::MAX);
        Err(Trouble {
            after_ms: Some(after_ms),
            ..trouble(Meaning::Busy, "the push service is left alone for a while")
        })
    }

    fn saw(&self, origin: &str, what: &Handed) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers
            .entry(origin.to_owned())
            .or_insert_with(Breaker::new);
        let now = Instant::now();
        let pause = match what {
            Handed::Failed(trouble) => match trouble.meaning {
                Meaning::Unreachable | Meaning::Unknown => breaker.failed(now),
                Meaning::Busy => {
                    breaker.throttled(now, trouble.after_ms.map(Duration::from_millis))
                }
                Meaning::Later | Meaning::Never => {
                    breaker.worked();
                    None
                }
            },
            Handed::Taken | Handed::Gone => {
                breaker.worked();
                None
            }
        };
        if let Some(pause) = pause {
            tracing::warn!(
                service = origin,
                pause_ms = pause.as_millis(),
                "push: a service is left alone, it can't be reached or wants fewer"
            );
        }
    }

    async fn forget(
        &self,
        tenant: TenantId,
        patient: &str,
        gone: &[String],
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
async fn sent(request: reqwest::RequestBuilder) -> Handed {
    let failed = |meaning, words: &str| Handed::Failed(trouble(meaning, words));
    match request.send().await {
        Ok(answer) => {
            let after_s = (answer.headers().get(RETRY_AFTER)).and_then(|value| {
                // A date is taken for the longest time: our clock may be another than theirs.
                let said = value.to_str().ok()?.trim();
                let after_s: u64 = said.parse().unwrap_or(RETRY_AFTER_MAX_S);
                Some(after_s.min(RETRY_AFTER_MAX_S))
            });
            means(answer.status(), after_s.map(|after_s| after_s * 1_000))
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

/// What an answer means (RFC 8030, sections 5 and 7.3).
fn means(status: StatusCode, after_ms: Option<u64>) -> Handed {
    let meaning = match status.as_u16() {
        200..=299 => return Handed::Taken,
        404 | 410 => return Handed::Gone,
        429 => Meaning::Busy,
        408 | 500.. => Meaning::Unknown,
        // Our key, our clock, or our way to it is wrong; nothing of the device.
        401 | 403 | 407 => Meaning::Unreachable,
        _ => Meaning::Never,
    };
    let words = format!("the push service answered {}", status.as_u16());
    Handed::Failed(Trouble {
        after_ms,
        ..trouble(meaning, words)
    })
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
            (401, "Unreachable"),
            (403, "Unreachable"),
            (302, "Never"),
            (400, "Never"),
            (413, "Never"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = match means(status, None) {
                Handed::Taken => "taken".to_owned(),
                Handed::Gone => "gone".to_owned(),
                Handed::Failed(trouble) => format!("{:?}", trouble.meaning),
            };
            assert_eq!(found, expected, "{status}");
        }
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
        assert_eq!(ttl_s(Some(u64::MAX), 0), TTL_MAX_S);
        let one = topic("one");
        assert_eq!((one.len(), &one), (32, &topic("one")));
        assert_ne!(one, topic("two"));
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

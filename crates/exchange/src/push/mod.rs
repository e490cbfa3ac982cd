//! Notifications: that there is a message, and where to read it. To browsers (Web Push, RFC 8030), sealed so that the
//! browser alone can read them; to applications on telephones by the service of the telephone's maker (FCM, APNs), which
//! can read them too, so that no link in them signs anybody in.
//!
//! What is shown has words of ours alone, whatever an outbox entry says: it stands on a locked screen, beside whoever
//! looks at it. Start reading at [`Push::hand_over`]. Of browsers, `seal.rs` has what is sent, `services.rs` whom it may
//! be sent to; of applications, `apps.rs` has what FCM (`fcm.rs`) and APNs (`apns.rs`) share. `answers.rs` has what comes
//! of them, `rests.rs` whom it is left alone.

mod answers;
mod apns;
mod apps;
mod fcm;
mod rests;
mod seal;
mod services;
mod tokens;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::ResourceType;
use ledger::{OutboxEntry, TenantId};
use reqwest::header::USER_AGENT;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trust::identity::{AppService, NoPush, PushBrowser, PushDevice, PushKey, PushPlace, PushWays};
use trust::outgoing::Message;
use trust::{Action, Agent, Purpose, Question, Role, Target, Trust, TrustError};

use crate::attempt::LINK_LIFE_S;
use crate::breaker::BreakerView;
use crate::calls::Public;
use crate::carrier::Trouble;
use crate::check::{Reason, Refused};
use crate::outcome::Outcome;
use crate::pace::Paces;
use crate::retry::Meaning;
use crate::{Meter, Price};

use answers::{Handed, Sign, sent, together, trouble};
pub use apns::{ApnsKey, ApnsOptions};
pub use apps::check_app_service;
use apps::{App, Told};
pub use fcm::{FcmOptions, ServiceAccount};
use rests::Breakers;
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
/// How long a service may take to connect (real time).
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What wakes a device that saves its battery (RFC 8030, section 5.3).
const URGENT: &str = "high";

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// Where notifications go.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The push services of browsers that may be asked.
    pub services: PushServices,
    /// Where a push service's operator finds who sends (`mailto:` or `https:`); none where browsers aren't told.
    pub contact: Option<String>,
    /// Where applications by FCM are told, if they are.
    pub fcm: Option<FcmOptions>,
    /// Where applications by APNs are told, if they are.
    pub apns: Option<ApnsOptions>,
    /// Who sends, as the notification says it.
    pub sender: String,
    /// Base URL of the portal, for links.
    pub portal_base: String,
    /// Time-out of one request, milliseconds.
    pub timeout_ms: u64,
    /// Messages at once.
    pub parallel: usize,
    /// Whether links to browsers sign the patient in with their birth date (magic link) or lead to the sign-in page.
    pub magic_links: bool,
    /// What they cost, and how many requests a push service gets in a second.
    pub meter: Meter,
}

impl PushOptions {
    /// Which devices are told.
    #[must_use]
    pub fn ways(&self) -> PushWays {
        PushWays {
            browsers: self.contact.is_some(),
            fcm: self.fcm.is_some(),
            apns: self.apns.is_some(),
        }
    }
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
    /// Where a push service's operator finds who sends; empty where browsers aren't told.
    contact: String,
    sender: String,
    portal_base: String,
    client: Client,
    /// What tells applications, by each service that is configured.
    apps: Vec<Arc<App>>,
    /// Services that aren't there: one of them keeps nothing from the others.
    breakers: Mutex<Breakers>,
    /// What a notification costs.
    price: Option<Price>,
    /// How many a service gets in a second.
    paces: Paces,
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
        URGENT
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
        if let Some(contact) = &options.contact
            && !is_push_contact(contact)
        {
            return Err(format!(
                "the contact {contact:?} is no mailto: or https: address"
            ));
        }
        if options.timeout_ms == 0 {
            return Err("the time-out of a request must be at least 1 ms".to_owned());
        }
        let ways = options.ways();
        let timeout = Duration::from_millis(options.timeout_ms);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(timeout)
            .dns_resolver(Arc::new(Public))
            .build()
            .map_err(|error| format!("a client for push services: {error}"))?;
        let fcm = options.fcm.map(|fcm| App::fcm(fcm, timeout));
        let apns = options.apns.map(|apns| App::apns(apns, timeout));
        let apps: Result<Vec<App>, String> = fcm.into_iter().chain(apns).collect();
        trust.vault().set_notifications(ways);
        Ok(Self {
            trust,
            services: options.services,
            contact: options.contact.unwrap_or_default(),
            sender: options.sender,
            portal_base: options.portal_base.trim_end_matches('/').to_owned(),
            client,
            apps: apps?.into_iter().map(Arc::new).collect(),
            breakers: Mutex::default(),
            price: options.meter.price,
            paces: Paces::new(options.meter.per_second),
        })
    }

    /// What a message costs that was taken for a device, where that is known.
    pub(crate) fn price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// The service that is asked for a device, if one may be.
    fn service(&self, device: &PushDevice) -> Option<Service> {
        match &device.place {
            PushPlace::Browser(browser) => {
                let (_, service) = self.services.find(&browser.endpoint)?;
                Some(service)
            }
            PushPlace::App { service, .. } => Some(self.app(*service)?.service.clone()),
        }
    }

    fn app(&self, service: AppService) -> Option<&Arc<App>> {
        self.apps.iter().find(|app| app.is_of(service))
    }

    /// Until when none of a patient's devices can be told, because all of their services are left alone. Devices that no
    /// service may be asked for don't count.
    pub(crate) fn rests(&self, devices: &[PushDevice]) -> Option<Instant> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut first: Option<Instant> = None;
        for device in devices {
            let Some(service) = self.service(device) else {
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
        let identity = self.trust.identity();
        let is_browser = |device: &PushDevice| matches!(device.place, PushPlace::Browser(_));
        let key = match devices.iter().any(is_browser) {
            false => None,
            true => {
                let key = identity.push_key(entry.tenant).await;
                Some(key.map_err(|error| unsigned(&error))?)
            }
        };
        let print = key.as_ref().map(PushKey::print).unwrap_or_default();
        let untold = identity.untold_devices(entry.tenant, &message.patient, devices);
        let untold = untold.await.map_err(|error| {
            tracing::error!(%error, "push: what lets applications in can't be read");
            trouble(Meaning::Later, "what lets applications in can't be read")
        })?;
        let (mut handed, mut gone) = (Vec::new(), Vec::new());
        let mut asked = JoinSet::new();
        for device in devices {
            let topic = topic(&message.communication, &device.id);
            match (&device.place, &key) {
                // Its service takes nothing of ours for it, and never will.
                (PushPlace::Browser(browser), Some(_)) if browser.signer != print => {
                    gone.push(device.clone());
                    handed.push(Handed::Gone);
                }
                (PushPlace::Browser(browser), Some(key)) => {
                    match self.ready(key, browser, &shown, &head) {
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
                // Nothing lets it in any more.
                (PushPlace::App { .. }, _) if untold.contains(&device.id) => {
                    gone.push(device.clone());
                    handed.push(Handed::Gone);
                }
                (PushPlace::App { service, token }, _) => match self.ready_app(*service) {
                    Ok(app) => {
                        let told = self.told(message, topic, now_ms);
                        let (device, token) = (device.clone(), token.clone());
                        let clock = self.trust.clone();
                        asked.spawn(async move {
                            let seen_ms = device.seen_ms;
                            let clock = || clock.wall_clock().now_ms();
                            let said = app.tell((&token, seen_ms), &told, clock).await;
                            (device, app.service.clone(), said)
                        });
                    }
                    Err(trouble) => handed.push(Handed::Failed(trouble)),
                },
                // There is a key where there is a browser.
                (PushPlace::Browser(_), None) => {}
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
        device: &PushBrowser,
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

    /// What tells applications of a service, if it isn't left alone.
    fn ready_app(&self, service: AppService) -> Result<Arc<App>, Trouble> {
        let Some(app) = self.app(service) else {
            let words = "nothing is sent to applications of its kind";
            return Err(trouble(Meaning::Never, words));
        };
        self.room(&app.service.origin)?;
        Ok(Arc::clone(app))
    }

    /// What an application is told of a message. Its service can read that: the link signs nobody in.
    fn told(&self, message: &Message, same: String, now_ms: u64) -> Told {
        Told {
            sender: self.sender.clone(),
            message: message.communication.clone(),
            link: crate::compose::link(&self.portal_base, &message.link_path, None),
            same,
            ttl_s: ttl_s(message.expires_ms, now_ms),
            is_urgent: urgency(message) == URGENT,
        }
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

#[cfg(test)]
mod tests {
    use trust::consent::Hours;

    use super::*;

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

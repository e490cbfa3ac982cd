//! Applications by Apple Push Notification service: its provider API over HTTP/2, with tokens signed by a key of the
//! team's ("Sending notification requests to APNs", "Establishing a token-based connection to APNs").

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use aws_lc_rs::signature::EcdsaKeyPair;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use super::PUSH_WORDS;
use super::answers::{Handed, Sign, TOO_SOON_S, broke, retry_after_s, trouble};
use super::apps::{self, Told};
use super::tokens;
use crate::carrier::Trouble;
use crate::retry::Meaning;

/// How long a token is shown: APNs takes none that is older than an hour, and no new one within twenty minutes.
const SHOWN_MS: u64 = 40 * 60_000;
/// How old a token is at least that another takes the place of.
const ANEW_MS: u64 = 20 * 60_000;
/// Characters of a key's id and of a team's.
const ID_CHARACTERS: usize = 10;
/// Characters of a topic, which is an application's bundle id. Apple's are below.
const TOPIC_MAX: usize = 155;
/// What APNs says of a message that it doesn't take. Nothing else of an answer is written down.
const REASONS: [&str; 30] = [
    "BadCollapseId",
    "BadDeviceToken",
    "BadExpirationDate",
    "BadMessageId",
    "BadPriority",
    "BadTopic",
    "DeviceTokenNotForTopic",
    "DuplicateHeaders",
    "IdleTimeout",
    "InvalidPushType",
    "MissingDeviceToken",
    "MissingTopic",
    "PayloadEmpty",
    "TopicDisallowed",
    "BadCertificate",
    "BadCertificateEnvironment",
    "ExpiredProviderToken",
    "Forbidden",
    "InvalidProviderToken",
    "MissingProviderToken",
    "UnrelatedKeyIdInToken",
    "BadPath",
    "MethodNotAllowed",
    "ExpiredToken",
    "Unregistered",
    "PayloadTooLarge",
    "TooManyProviderTokenUpdates",
    "TooManyRequests",
    "InternalServerError",
    "ServiceUnavailable",
];

const ID: HeaderName = HeaderName::from_static("apns-id");
const TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// A team's key for tokens, with the token that is shown now. Whoever has a copy shows the same token, because APNs takes
/// no new one of a key within twenty minutes.
#[derive(Clone)]
pub struct ApnsKey(Arc<Key>);

struct Key {
    pair: EcdsaKeyPair,
    shown: Mutex<Option<Shown>>,
}

impl std::fmt::Debug for ApnsKey {
    /// Shows nothing of it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("ApnsKey").finish_non_exhaustive()
    }
}

impl ApnsKey {
    /// Reads the file that Apple's developer pages give for a key (`AuthKey_….p8`).
    ///
    /// # Errors
    /// In words, and none of them the file's.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let pair = tokens::curve(pem).map_err(str::to_owned)?;
        Ok(Self(Arc::new(Key {
            pair,
            shown: Mutex::new(None),
        })))
    }

    /// The value of `Authorization`: of the token that is shown now.
    fn bearer(&self, (key_id, team_id): (&str, &str), now_ms: u64) -> Option<HeaderValue> {
        let mut shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes a token of the future, which nobody believes.
        let is_good =
            |shown: &&Shown| shown.since_ms <= now_ms && now_ms - shown.since_ms < SHOWN_MS;
        if let Some(shown) = shown.as_ref().filter(is_good) {
            return Some(shown.bearer.clone());
        }
        let head = json!({"alg": "ES256", "kid": key_id});
        let claims = json!({"iss": team_id, "iat": now_ms / 1_000});
        let token = tokens::by_curve(&self.0.pair, &head, &claims)?;
        let mut bearer = HeaderValue::try_from(format!("bearer {token}")).ok()?;
        bearer.set_sensitive(true);
        *shown = Some(Shown {
            bearer: bearer.clone(),
            since_ms: now_ms,
        });
        Some(bearer)
    }

    /// Shows a token no more, unless another is shown already; says whether the next is another. One that was made within
    /// twenty minutes stays: where our clock is wrong the next would be believed no more than it, and APNs takes no new one
    /// so soon.
    fn discard(&self, bearer: &HeaderValue, now_ms: u64) -> bool {
        let mut shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match shown.as_ref().filter(|shown| shown.bearer == *bearer) {
            None => true,
            Some(known) if now_ms.saturating_sub(known.since_ms) >= ANEW_MS => {
                *shown = None;
                true
            }
            Some(_) => false,
        }
    }
}

/// Where applications by APNs are told.
#[derive(Debug, Clone)]
pub struct ApnsOptions {
    /// The team's key.
    pub key: ApnsKey,
    /// Its id.
    pub key_id: String,
    /// The team's id.
    pub team_id: String,
    /// The application's bundle id.
    pub topic: String,
    /// Where APNs is, `https://api.push.apple.com`, or that for applications under development.
    pub url: String,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages in a second, at most.
    pub per_second: u32,
}

impl ApnsOptions {
    /// Whether a text can be the id of a key or of a team.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        text.len() == ID_CHARACTERS
            && (text.bytes()).all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    }

    /// Whether a text can be an application's bundle id.
    #[must_use]
    pub fn is_topic(text: &str) -> bool {
        let is_it = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        !text.is_empty() && text.len() <= TOPIC_MAX && text.bytes().all(is_it)
    }
}

/// What proves who we are.
struct Shown {
    bearer: HeaderValue,
    since_ms: u64,
}

/// What tells applications by APNs.
pub(super) struct Apns {
    client: Client,
    options: ApnsOptions,
    url: Url,
}

/// What an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    reason: Option<&'static str>,
    /// Since when the device is known no more, by Apple's clock.
    gone_ms: Option<u64>,
}

impl Said {
    fn of(answer: Option<&Value>) -> Self {
        let Some(answer) = answer else {
            return Self::default();
        };
        let text = answer["reason"].as_str().unwrap_or_default();
        Self {
            reason: REASONS.into_iter().find(|reason| *reason == text),
            gone_ms: answer["timestamp"].as_u64(),
        }
    }
}

/// The id of a message at a device: the same for each attempt (a UUID, as APNs wants it, that follows from both).
fn id(same: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("apns-id/{same}").as_bytes());
    let mut text = String::with_capacity(36);
    for (position, byte) in hash.as_ref().iter().take(16).enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Version 8 of RFC 9562 (section 5.8), which says nothing of how it came about.
        let byte = match position {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn body(told: &Told) -> Value {
    json!({
        "aps": {"alert": {"title": told.sender, "body": PUSH_WORDS}, "sound": "default"},
        "message": told.message, "url": told.link,
    })
}

impl Apns {
    pub(super) fn new(options: ApnsOptions, timeout: Duration) -> Result<Self, String> {
        if !ApnsOptions::is_id(&options.key_id) || !ApnsOptions::is_id(&options.team_id) {
            return Err("the ids of key and team are ten capital letters and digits".to_owned());
        }
        if !ApnsOptions::is_topic(&options.topic) {
            return Err("the topic is no bundle id".to_owned());
        }
        let url = apps::base(&options.url)?;
        let ca_file = options.ca_file.as_deref();
        Ok(Self {
            client: apps::client(
                timeout,
                ca_file,
                reqwest::ClientBuilder::http2_prior_knowledge,
            )?,
            url,
            options,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Tells an application, known by its token and seen last at a time.
    pub(super) async fn tell(
        &self,
        (token, seen_ms): (&str, u64),
        told: &Told,
        now_ms: u64,
    ) -> (Handed, Sign) {
        let path = self.url.as_str().trim_end_matches('/');
        let Ok(url) = Url::parse(&format!("{path}/3/device/{token}")) else {
            let words = "its address can't be put together";
            return (Handed::Failed(trouble(Meaning::Never, words)), Sign::Well);
        };
        let mut is_new = false;
        loop {
            let ids = (self.options.key_id.as_str(), self.options.team_id.as_str());
            let Some(bearer) = self.options.key.bearer(ids, now_ms) else {
                let words = "the key for the push service can't be used";
                return (Handed::Failed(trouble(Meaning::Later, words)), Sign::Well);
            };
            let request = self.request(url.clone(), bearer.clone(), told, now_ms);
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) => return broke(&error),
            };
            let (status, after_s) = (answer.status(), retry_after_s(&answer));
            if status.is_success() {
                return (Handed::Taken, Sign::Well);
            }
            let said = Said::of(apps::json(answer).await.as_ref());
            // The token is too old for Apple's clock: with another it may be believed.
            if said.reason == Some("ExpiredProviderToken")
                && !is_new
                && self.options.key.discard(&bearer, now_ms)
            {
                is_new = true;
                continue;
            }
            return means(status, &said, after_s, seen_ms);
        }
    }

    fn request(
        &self,
        url: Url,
        bearer: HeaderValue,
        told: &Told,
        now_ms: u64,
    ) -> reqwest::RequestBuilder {
        let priority = if told.is_urgent { "10" } else { "5" };
        let until_s = now_ms / 1_000 + told.ttl_s;
        self.client
            .post(url)
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, "application/json")
            .header(TOPIC, &self.options.topic)
            .header(PUSH_TYPE, "alert")
            .header(PRIORITY, priority)
            .header(EXPIRATION, until_s.to_string())
            .header(ID, id(&told.same))
            .header(COLLAPSE_ID, &told.same)
            .body(body(told).to_string())
    }
}

/// What an answer means, of the device and of the service. What may be wrong with our configuration ends the message, and
/// no device is forgotten by it: a token is "bad" for an application under development, too, when it is asked for at the
/// other address.
fn means(status: StatusCode, said: &Said, after_s: Option<u64>, seen_ms: u64) -> (Handed, Sign) {
    let reason = said.reason.unwrap_or("without a reason that is known");
    let fewer =
        |after_s: Option<u64>| Sign::Fewer(Duration::from_secs(after_s.unwrap_or(TOO_SOON_S)));
    let (meaning, sign) = match (status.as_u16(), reason) {
        // The application has said the token again since: it is in force, as far as is known.
        (410, _) if said.gone_ms.is_some_and(|gone_ms| gone_ms < seen_ms) => {
            (Meaning::Never, Sign::Well)
        }
        (410, _) => return (Handed::Gone, Sign::Well),
        // That is said of who we are, and all messages wait.
        (429, "TooManyProviderTokenUpdates") => (Meaning::Busy, fewer(after_s)),
        // Too many for this one device.
        (429, _) => (Meaning::Busy, Sign::Well),
        (503, _) if after_s.is_some() => (Meaning::Busy, fewer(after_s)),
        (408 | 500.., _) => (Meaning::Unknown, Sign::Ill),
        // The connection was too quiet, and the message wasn't looked at.
        (400, "IdleTimeout") => (Meaning::Later, Sign::Well),
        _ => {
            tracing::error!(
                status = status.as_u16(),
                reason,
                "apns: the service will never take a message for a device; are key, topic and address those of the application, and is the clock right?"
            );
            (Meaning::Never, Sign::Well)
        }
    };
    let after_s = after_s.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(TOO_SOON_S));
    let words = format!("the push service answered {} {reason}", status.as_u16());
    let failed = Handed::Failed(Trouble {
        after_ms: after_s.map(|after_s| after_s * 1_000),
        ..trouble(meaning, words)
    });
    (failed, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_was_made_a_moment_ago_stays() {
        use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        use base64::Engine as _;
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let text = base64::engine::general_purpose::STANDARD.encode(der.expect("a key"));
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = ApnsKey::parse(&pem).expect("a key");
        let at = |now_ms| {
            key.bearer(("ABCDE12345", "TEAM123456"), now_ms)
                .expect("one")
        };
        let first = at(0);
        assert!(!key.discard(&first, ANEW_MS - 1));
        assert_eq!(at(ANEW_MS), first);
        assert!(key.discard(&first, ANEW_MS));
        let second = at(ANEW_MS);
        assert_ne!(second, first);
        // Whoever comes late with the first takes nothing away, and shows the second.
        assert!(key.discard(&first, 3 * ANEW_MS));
        assert_eq!(at(ANEW_MS + 1), second);
    }

    #[test]
    fn answers_mean_different_things_of_device_and_service() {
        let minute = Sign::Fewer(Duration::from_secs(60));
        let ten = Sign::Fewer(Duration::from_secs(10));
        for (status, body, after_s, expected, sign) in [
            (
                410,
                json!({"reason": "Unregistered", "timestamp": 2_000}),
                None,
                "gone",
                Sign::Well,
            ),
            (
                410,
                json!({"reason": "Unregistered", "timestamp": 1_000}),
                None,
                "gone",
                Sign::Well,
            ),
            (
                410,
                json!({"reason": "ExpiredToken"}),
                None,
                "gone",
                Sign::Well,
            ),
            // Said again since.
            (
                410,
                json!({"reason": "Unregistered", "timestamp": 999}),
                None,
                "Never",
                Sign::Well,
            ),
            (
                400,
                json!({"reason": "BadDeviceToken"}),
                None,
                "Never",
                Sign::Well,
            ),
            (
                400,
                json!({"reason": "DeviceTokenNotForTopic"}),
                None,
                "Never",
                Sign::Well,
            ),
            (
                400,
                json!({"reason": "IdleTimeout"}),
                None,
                "Later",
                Sign::Well,
            ),
            (
                403,
                json!({"reason": "InvalidProviderToken"}),
                None,
                "Never",
                Sign::Well,
            ),
            (
                403,
                json!({"reason": "ExpiredProviderToken"}),
                None,
                "Never",
                Sign::Well,
            ),
            (404, json!({"reason": "BadPath"}), None, "Never", Sign::Well),
            (
                413,
                json!({"reason": "PayloadTooLarge"}),
                None,
                "Never",
                Sign::Well,
            ),
            (
                429,
                json!({"reason": "TooManyRequests"}),
                None,
                "Busy",
                Sign::Well,
            ),
            (
                429,
                json!({"reason": "TooManyProviderTokenUpdates"}),
                None,
                "Busy",
                minute,
            ),
            (
                429,
                json!({"reason": "TooManyProviderTokenUpdates"}),
                Some(10),
                "Busy",
                ten,
            ),
            (
                500,
                json!({"reason": "InternalServerError"}),
                None,
                "Unknown",
                Sign::Ill,
            ),
            (
                503,
                json!({"reason": "ServiceUnavailable"}),
                None,
                "Unknown",
                Sign::Ill,
            ),
            (503, json!({"reason": "Shutdown"}), Some(10), "Busy", ten),
            (307, Value::Null, None, "Never", Sign::Well),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (handed, found) = means(status, &Said::of(Some(&body)), after_s, 1_000);
            let said = match handed {
                Handed::Taken => "taken".to_owned(),
                Handed::Gone => "gone".to_owned(),
                Handed::Failed(trouble) => format!("{:?}", trouble.meaning),
            };
            assert_eq!((said.as_str(), found), (expected, sign), "{status} {body}");
        }
        let unknown = json!({"reason": "Patient Berg"});
        assert_eq!(Said::of(Some(&unknown)).reason, None);
    }

    #[test]
    fn a_repeat_has_the_id_that_it_had_and_it_is_a_uuid() {
        let one = id("same");
        assert_eq!(one, id("same"));
        assert_ne!(one, id("other"));
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{one}");
        assert_eq!(one.as_bytes()[14], b'8', "{one}");
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }

    #[test]
    fn ids_and_topics() {
        for (text, good) in [
            ("ABCDE12345", true),
            ("abcde12345", false),
            ("ABCDE1234", false),
            ("ABCDE12345\n", false),
            ("", false),
        ] {
            assert_eq!(ApnsOptions::is_id(text), good, "{text:?}");
        }
        for (text, good) in [
            ("example.hospital.app", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
        ] {
            assert_eq!(ApnsOptions::is_topic(text), good, "{text:?}");
        }
        let error = ApnsKey::parse("secret").expect_err("no key");
        assert!(error.contains("no private key in PEM form") && !error.contains("secret"));
    }
}

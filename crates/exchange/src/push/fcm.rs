//! Applications by Firebase Cloud Messaging: its HTTP v1 API (`projects.messages.send`), with access tokens for a service
//! account (RFC 7523, as Google's "OAuth 2.0 for server to server applications" has it).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::PUSH_WORDS;
use super::answers::{Handed, Sign, TOO_SOON_S, broke, retry_after_s, trouble};
use super::apps::{self, Told};
use super::tokens;
use crate::carrier::Trouble;
use crate::retry::Meaning;

/// What an access token has to be good for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a proof is good for: an hour is the most that Google takes.
const PROOF_S: u64 = 3_600;
/// How long before its end an access token is taken for over: no request and no clock is off by as much.
const BEFORE_END_S: u64 = 300;
/// How long an access token lasts of which nothing is said (RFC 6749, section 5.1, recommends that it is).
const LASTS_S: u64 = 600;
/// How long nobody asks for an access token after whoever gives them gave no answer, real time: those who have waited
/// meanwhile would each wait as long in turn.
const FAILED_REST: Duration = Duration::from_secs(5);
/// What FCM says of a message (`FcmError`), and what the interface that it stands on says where FCM says nothing
/// (`google.rpc.Code`). Nothing else of an answer is written down.
const CODES: [&str; 13] = [
    "UNREGISTERED",
    "INVALID_ARGUMENT",
    "SENDER_ID_MISMATCH",
    "QUOTA_EXCEEDED",
    "UNAVAILABLE",
    "INTERNAL",
    "THIRD_PARTY_AUTH_ERROR",
    "UNSPECIFIED_ERROR",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
];

/// A service account: who sends, as Google knows them. Whoever has a copy uses the same access token.
#[derive(Clone)]
pub struct ServiceAccount {
    project: String,
    email: String,
    key_id: Option<String>,
    key: Arc<RsaKeyPair>,
    token_url: Url,
    /// One that is in force; who asks for a new one keeps the others waiting.
    access: Arc<Mutex<Known>>,
}

impl std::fmt::Debug for ServiceAccount {
    /// Shows all but the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServiceAccount")
            .field("project", &self.project)
            .field("email", &self.email)
            .finish_non_exhaustive()
    }
}

impl ServiceAccount {
    /// Reads the file that the console of Firebase makes for an account ("Generate new private key").
    ///
    /// # Errors
    /// In words, and none of them the file's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Value = serde_json::from_str(text)
            .map_err(|_| "it is no JSON: the key file of a service account is".to_owned())?;
        if file["type"] != "service_account" {
            return Err("its \"type\" is not \"service_account\"".to_owned());
        }
        let said = |name: &str| match file[name].as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("it has no {name:?}")),
        };
        let project = said("project_id")?;
        let is_it = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
        if !project.bytes().all(is_it) {
            return Err("its \"project_id\" is none".to_owned());
        }
        let key = tokens::rsa(&said("private_key")?)
            .map_err(|words| format!("\"private_key\": {words}"))?;
        let token_url =
            apps::base(&said("token_uri")?).map_err(|words| format!("\"token_uri\": {words}"))?;
        Ok(Self {
            project,
            email: said("client_email")?,
            key_id: file["private_key_id"].as_str().map(str::to_owned),
            key: Arc::new(key),
            token_url,
            access: Arc::default(),
        })
    }

    /// Uses an access token no more, unless another has taken its place already.
    async fn discard(&self, bearer: &HeaderValue) {
        let mut known = self.access.lock().await;
        let is_it = |access: &Access| access.bearer == *bearer;
        if known.access.as_ref().is_some_and(is_it) {
            known.access = None;
        }
    }

    /// What it proves itself by to whoever gives access tokens.
    fn proof(&self, now_ms: u64) -> Option<String> {
        let now_s = now_ms / 1_000;
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            head["kid"] = json!(id);
        }
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_url.as_str(),
            "iat": now_s, "exp": now_s + PROOF_S,
        });
        tokens::by_rsa(&self.key, &head, &claims)
    }
}

/// Where applications by FCM are told.
#[derive(Debug, Clone)]
pub struct FcmOptions {
    /// Who sends.
    pub account: ServiceAccount,
    /// Where FCM is, `https://fcm.googleapis.com`.
    pub url: String,
    /// PEM file with a certificate authority to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Messages in a second, at most.
    pub per_second: u32,
}

/// What is known of access tokens.
#[derive(Default)]
struct Known {
    access: Option<Access>,
    /// When there was no answer last to who asked for one.
    failed: Option<Instant>,
}

/// An access token.
struct Access {
    bearer: HeaderValue,
    until_ms: u64,
}

/// What tells applications by FCM.
pub(super) struct Fcm {
    client: Client,
    account: ServiceAccount,
    url: Url,
}

/// What an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// FCM's own code, or else the interface's.
    code: Option<&'static str>,
    /// Whether it is FCM's own.
    is_own: bool,
    /// Whether it is the token that is wrong.
    is_token: bool,
}

impl Said {
    fn of(answer: Option<&Value>) -> Self {
        let known = |value: &Value| {
            let text = value.as_str()?;
            CODES.into_iter().find(|code| *code == text)
        };
        let Some(error) = answer.map(|answer| &answer["error"]) else {
            return Self::default();
        };
        let details = error["details"].as_array();
        let details = details.map(Vec::as_slice).unwrap_or_default();
        let is = |detail: &Value, name: &str| {
            (detail["@type"].as_str()).is_some_and(|kind| kind.ends_with(name))
        };
        let own = (details.iter().filter(|detail| is(detail, ".FcmError")))
            .find_map(|detail| known(&detail["errorCode"]));
        let violations = (details.iter().filter(|detail| is(detail, ".BadRequest")))
            .filter_map(|detail| detail["fieldViolations"].as_array())
            .flatten();
        let fields: Vec<&str> = violations
            .filter_map(|violation| violation["field"].as_str())
            .collect();
        Self {
            is_own: own.is_some(),
            code: own.or_else(|| known(&error["status"])),
            is_token: !fields.is_empty() && fields.iter().all(|field| *field == "message.token"),
        }
    }
}

/// What is sent: words of ours, and for the application what message it is and where. `now_ms` is wall clock.
fn body(token: &str, told: &Told, now_ms: u64) -> Value {
    let (priority, apple) = match told.is_urgent {
        true => ("HIGH", "10"),
        false => ("NORMAL", "5"),
    };
    // `android.ttl` is for Android's alone: without an end Apple's devices would show it for four weeks.
    let until_s = (now_ms / 1_000).saturating_add(told.ttl_s).to_string();
    json!({"message": {
        "token": token,
        "notification": {"title": told.sender, "body": PUSH_WORDS},
        "data": {"message": told.message, "url": told.link},
        // A key to collapse by is not said: FCM keeps four of them for a device, and loses what has others.
        "android": {
            "priority": priority, "ttl": format!("{}s", told.ttl_s),
            "notification": {"tag": told.same},
        },
        // For applications on Apple's devices that come by FCM.
        "apns": {"headers": {
            "apns-collapse-id": told.same, "apns-expiration": until_s, "apns-priority": apple,
        }},
    }})
}

impl Fcm {
    pub(super) fn new(options: FcmOptions, timeout: Duration) -> Result<Self, String> {
        let base = apps::base(&options.url)?;
        let project = &options.account.project;
        let path = base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{path}/v1/projects/{project}/messages:send"))
            .map_err(|error| error.to_string())?;
        let ca_file = options.ca_file.as_deref();
        Ok(Self {
            client: apps::client(timeout, ca_file, reqwest::ClientBuilder::http1_only)?,
            account: options.account,
            url,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Tells an application.
    pub(super) async fn tell(&self, token: &str, told: &Told, now_ms: u64) -> (Handed, Sign) {
        let body = body(token, told, now_ms).to_string();
        let mut said = self.ask(&body, now_ms).await;
        // The access token is believed no more, before its time: with another it may be.
        if let Err(Asked::Unbelieved(bearer)) = &said {
            self.account.discard(bearer).await;
            said = self.ask(&body, now_ms).await;
        }
        match said {
            Ok(done) | Err(Asked::Broke(done)) => done,
            Err(Asked::Unbelieved(_)) => {
                tracing::error!(
                    "fcm: our access token is not believed; is the service account's key in force?"
                );
                let words = "the push service answered 401 UNAUTHENTICATED";
                (Handed::Failed(trouble(Meaning::Never, words)), Sign::Well)
            }
        }
    }

    async fn ask(&self, body: &str, now_ms: u64) -> Result<(Handed, Sign), Asked> {
        let bearer = self.bearer(now_ms).await.map_err(Asked::Broke)?;
        let request = self.client.post(self.url.clone());
        let request = request
            .header(AUTHORIZATION, bearer.clone())
            .header(CONTENT_TYPE, "application/json");
        let answer = request.body(body.to_owned()).send().await;
        let answer = answer.map_err(|error| Asked::Broke(broke(&error)))?;
        let (status, after_s) = (answer.status(), retry_after_s(&answer));
        if status.is_success() {
            return Ok((Handed::Taken, Sign::Well));
        }
        let said = Said::of(apps::json(answer).await.as_ref());
        if status == StatusCode::UNAUTHORIZED && !said.is_own {
            return Err(Asked::Unbelieved(bearer));
        }
        Ok(means(status, &said, after_s))
    }

    /// The value of `Authorization`: of an access token that is in force for a while yet.
    async fn bearer(&self, now_ms: u64) -> Result<HeaderValue, (Handed, Sign)> {
        let mut known = self.account.access.lock().await;
        let in_force = (known.access.as_ref()).filter(|access| now_ms < access.until_ms);
        if let Some(access) = in_force {
            return Ok(access.bearer.clone());
        }
        let failed = |meaning, sign, words: &str| (Handed::Failed(trouble(meaning, words)), sign);
        // Whoever waited while another asked in vain is not to wait as long once more.
        if (known.failed).is_some_and(|failed| failed.elapsed() < FAILED_REST) {
            let words = "who gives access tokens for the push service gave none a moment ago";
            return Err(failed(Meaning::Later, Sign::Well, words));
        }
        let Some(proof) = self.account.proof(now_ms) else {
            let words = "the key of the service account can't be used";
            return Err(failed(Meaning::Later, Sign::Well, words));
        };
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT_TYPE)
            .append_pair("assertion", &proof)
            .finish();
        let request = self.client.post(self.account.token_url.clone());
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        // Nothing of a message has left by then: whatever breaks, it wasn't taken.
        let Ok(answer) = request.body(body).send().await else {
            known.failed = Some(Instant::now());
            let words = "who gives access tokens for the push service can't be reached";
            return Err(failed(Meaning::Unreachable, Sign::Ill, words));
        };
        let (status, after_s) = (answer.status(), retry_after_s(&answer));
        let said = apps::json(answer).await;
        let given = said.as_ref().filter(|_| status.is_success());
        let token = given.and_then(|said| said["access_token"].as_str());
        let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let Some(mut bearer) = bearer else {
            return Err(no_access(status, after_s));
        };
        bearer.set_sensitive(true);
        let lasts_s = given.and_then(|said| said["expires_in"].as_u64());
        let lasts_s = lasts_s.unwrap_or(LASTS_S);
        // One that lasts for less than that is good for half its time.
        let lasts_s = lasts_s.saturating_sub(BEFORE_END_S).max(lasts_s / 2);
        known.failed = None;
        known.access = Some(Access {
            bearer: bearer.clone(),
            until_ms: now_ms.saturating_add(lasts_s.saturating_mul(1_000)),
        });
        Ok(bearer)
    }
}

/// How it went that a message was not answered.
enum Asked {
    /// This access token isn't believed.
    Unbelieved(HeaderValue),
    /// There was no answer, or no access token.
    Broke((Handed, Sign)),
}

/// What it means that there is no access token.
fn no_access(status: StatusCode, after_s: Option<u64>) -> (Handed, Sign) {
    let words = format!(
        "who gives access tokens for the push service answered {}",
        status.as_u16()
    );
    let after_ms = after_s.map(|after_s| after_s * 1_000);
    let failed = |meaning| {
        Handed::Failed(Trouble {
            after_ms,
            ..trouble(meaning, words.as_str())
        })
    };
    match (status.as_u16(), after_s) {
        (429 | 503, Some(after_s)) => (
            failed(Meaning::Busy),
            Sign::Fewer(Duration::from_secs(after_s)),
        ),
        (200..=399 | 408 | 429 | 500.., _) => (failed(Meaning::Later), Sign::Ill),
        // The account, its key or our clock is wrong. The next channel has the message sooner than that is mended.
        _ => {
            tracing::error!(
                status = status.as_u16(),
                "fcm: no access token is given to our service account; is its key in force, and the clock right?"
            );
            (failed(Meaning::Never), Sign::Well)
        }
    }
}

/// What an answer means, of the device and of the service. What may be wrong with our configuration ends the message, and
/// no device is forgotten by it.
fn means(status: StatusCode, said: &Said, after_s: Option<u64>) -> (Handed, Sign) {
    let code = said.code.unwrap_or("without a code that is known");
    let own = said.code.filter(|_| said.is_own).unwrap_or_default();
    let (meaning, sign) = match (status.as_u16(), own) {
        (_, "UNREGISTERED") => return (Handed::Gone, Sign::Well),
        (400, _) if said.is_token => return (Handed::Gone, Sign::Well),
        (429, _) => {
            // It is said of the project, not of the device.
            let after = Duration::from_secs(after_s.unwrap_or(TOO_SOON_S));
            (Meaning::Busy, Sign::Fewer(after))
        }
        (503, _) if after_s.is_some() => {
            let after = Duration::from_secs(after_s.unwrap_or_default());
            (Meaning::Busy, Sign::Fewer(after))
        }
        (408 | 500.., _) => (Meaning::Unknown, Sign::Ill),
        _ => {
            tracing::error!(
                status = status.as_u16(),
                code,
                "fcm: the service will never take a message for a device; is the project the application's own?"
            );
            (Meaning::Never, Sign::Well)
        }
    };
    let after_s = after_s.or((status == StatusCode::TOO_MANY_REQUESTS).then_some(TOO_SOON_S));
    let words = format!("the push service answered {} {code}", status.as_u16());
    let failed = Handed::Failed(Trouble {
        after_ms: after_s.map(|after_s| after_s * 1_000),
        ..trouble(meaning, words)
    });
    (failed, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            sender: "Northmoor General".to_owned(),
            message: "m1".to_owned(),
            link: "https://portal.example/portal/inbox/m1".to_owned(),
            same: "S".repeat(32),
            ttl_s: 60,
            is_urgent: false,
        }
    }

    fn error(status: &str, details: &Value) -> Value {
        json!({"error": {"code": 0, "message": "words of the server", "status": status, "details": details}})
    }

    fn own(code: &str) -> Value {
        let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        json!({"@type": kind, "errorCode": code})
    }

    #[test]
    fn answers_mean_different_things_of_device_and_service() {
        let token = json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "message.token", "description": "x"}]
        });
        let other = json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "message.data"}, {"field": "message.token"}]
        });
        let minute = Sign::Fewer(Duration::from_secs(60));
        let ten = Sign::Fewer(Duration::from_secs(10));
        for (status, body, after_s, expected, sign) in [
            (
                404,
                error("NOT_FOUND", &json!([own("UNREGISTERED")])),
                None,
                "gone",
                Sign::Well,
            ),
            // The project isn't there; of the device nothing is said.
            (
                404,
                error("NOT_FOUND", &json!([])),
                None,
                "Never",
                Sign::Well,
            ),
            (
                400,
                error("INVALID_ARGUMENT", &json!([own("INVALID_ARGUMENT")])),
                None,
                "Never",
                Sign::Well,
            ),
            (
                400,
                error("INVALID_ARGUMENT", &json!([own("INVALID_ARGUMENT"), token])),
                None,
                "gone",
                Sign::Well,
            ),
            (
                400,
                error("INVALID_ARGUMENT", &json!([other])),
                None,
                "Never",
                Sign::Well,
            ),
            (
                403,
                error("PERMISSION_DENIED", &json!([own("SENDER_ID_MISMATCH")])),
                None,
                "Never",
                Sign::Well,
            ),
            (
                401,
                error("UNAUTHENTICATED", &json!([own("THIRD_PARTY_AUTH_ERROR")])),
                None,
                "Never",
                Sign::Well,
            ),
            (
                429,
                error("RESOURCE_EXHAUSTED", &json!([own("QUOTA_EXCEEDED")])),
                None,
                "Busy",
                minute,
            ),
            (
                429,
                error("RESOURCE_EXHAUSTED", &json!([own("QUOTA_EXCEEDED")])),
                Some(10),
                "Busy",
                ten,
            ),
            (
                503,
                error("UNAVAILABLE", &json!([own("UNAVAILABLE")])),
                None,
                "Unknown",
                Sign::Ill,
            ),
            (
                503,
                error("UNAVAILABLE", &json!([own("UNAVAILABLE")])),
                Some(10),
                "Busy",
                ten,
            ),
            (
                500,
                error("INTERNAL", &json!([own("INTERNAL")])),
                None,
                "Unknown",
                Sign::Ill,
            ),
            (502, Value::Null, None, "Unknown", Sign::Ill),
            (302, Value::Null, None, "Never", Sign::Well),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let (handed, found) = means(status, &Said::of(Some(&body)), after_s);
            let said = match handed {
                Handed::Taken => "taken".to_owned(),
                Handed::Gone => "gone".to_owned(),
                Handed::Failed(trouble) => {
                    assert!(!trouble.words.contains("words of the server"));
                    format!("{:?}", trouble.meaning)
                }
            };
            assert_eq!((said.as_str(), found), (expected, sign), "{status} {body}");
        }
        assert_eq!(Said::of(None), Said::default());
        let unknown = error("<script>", &json!([own("Patient Berg")]));
        assert_eq!(Said::of(Some(&unknown)).code, None);
    }

    #[test]
    fn no_access_token_ends_a_message_where_we_are_wrong_and_no_other() {
        for (status, after_s, expected, sign) in [
            (400, None, Meaning::Never, Sign::Well),
            (401, None, Meaning::Never, Sign::Well),
            (500, None, Meaning::Later, Sign::Ill),
            (200, None, Meaning::Later, Sign::Ill),
            (
                503,
                Some(7),
                Meaning::Busy,
                Sign::Fewer(Duration::from_secs(7)),
            ),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            match no_access(status, after_s) {
                (Handed::Failed(trouble), found) => {
                    assert_eq!((trouble.meaning, found), (expected, sign), "{status}");
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_sent_says_nothing_but_that_there_is_a_message() {
        let sent = body("token", &told(), 1_000_000);
        let message = &sent["message"];
        assert_eq!(
            message["notification"],
            json!({"title": "Northmoor General", "body": PUSH_WORDS})
        );
        assert_eq!(message["android"]["ttl"], "60s");
        assert_eq!(message["android"]["priority"], "NORMAL");
        assert!(message["android"].get("collapse_key").is_none());
        assert_eq!(message["apns"]["headers"]["apns-expiration"], "1060");
        let urgent = body(
            "token",
            &Told {
                is_urgent: true,
                ..told()
            },
            0,
        );
        assert_eq!(urgent["message"]["android"]["priority"], "HIGH");
    }

    fn file() -> Value {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
        let key = key.expect("a key");
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
            aws_lc_rs::encoding::AsDer::as_der(&key).expect("a key");
        let pem = pem(der.as_ref());
        json!({
            "type": "service_account", "project_id": "northmoor-1", "private_key_id": "k1", "private_key": pem,
            "client_email": "cairn@northmoor-1.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"
        })
    }

    #[tokio::test]
    async fn who_is_not_believed_throws_no_token_of_another_s_away() {
        let account = ServiceAccount::parse(&file().to_string()).expect("an account");
        let bearer = |text| HeaderValue::from_static(text);
        let is_known = async || account.access.lock().await.access.is_some();
        account.access.lock().await.access = Some(Access {
            bearer: bearer("Bearer second"),
            until_ms: 1_000,
        });
        account.discard(&bearer("Bearer first")).await;
        assert!(is_known().await);
        account.discard(&bearer("Bearer second")).await;
        assert!(!is_known().await);
    }

    #[test]
    fn files_of_accounts_are_read_strictly_and_errors_show_nothing_of_them() {
        let file = file();
        let read = ServiceAccount::parse(&file.to_string()).expect("an account");
        assert_eq!(read.project, "northmoor-1");
        let shown = format!("{read:?}");
        assert!(
            !shown.contains("PRIVATE") && !shown.contains("k1"),
            "{shown}"
        );
        for (name, value, words) in [
            (
                "type",
                json!("authorized_user"),
                "its \"type\" is not \"service_account\"",
            ),
            ("project_id", Value::Null, "it has no \"project_id\""),
            ("project_id", json!("a/../b"), "its \"project_id\" is none"),
            ("client_email", json!(""), "it has no \"client_email\""),
            (
                "private_key",
                json!("secret"),
                "it holds no private key in PEM form",
            ),
            (
                "token_uri",
                json!("http://oauth2.googleapis.com/token"),
                "\"token_uri\"",
            ),
        ] {
            let mut file = file.clone();
            file[name] = value;
            let error = ServiceAccount::parse(&file.to_string()).expect_err(name);
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(ServiceAccount::parse("secret").is_err());
    }

    fn pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }
}

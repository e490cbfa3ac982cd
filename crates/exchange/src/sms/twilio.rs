//! A provider by HTTP, in the form that Twilio gave it and others took over: a message is a `POST` of a form to
//! `/2010-04-01/Accounts/ACCOUNT/Messages.json`; what became of it is a `POST` of a form to an address of ours, signed.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::Value;

use trust::sms::Number;

use crate::carrier::Trouble;
use crate::check::Reason;
use crate::retry::Meaning;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The key by which a server that knows it knows a request that comes again.
const SAME: &str = "idempotency-key";
/// The longest that the provider may ask to be left alone for, seconds.
const RETRY_AFTER_MAX_S: u64 = 3_600;
/// Error of a recipient who has told the provider to stop.
pub(super) const STOPPED: u64 = 21_610;
/// Errors that are ours to mend, and say nothing about the message: no right to send, an account that is closed or
/// suspended, a sender that is none or isn't this account's, a messaging service without senders, a sender that isn't
/// registered where the message goes. All other errors of requests are about the recipient or the text.
const OURS: [u64; 18] = [
    20_002, 20_003, 20_005, 20_006, 20_008, 20_403, 20_404, 21_212, 21_603, 21_606, 21_659, 21_660,
    21_701, 21_703, 30_002, 30_032, 30_034, 63_038,
];
/// Errors that ask for fewer at a time: too many requests, a queue that is full, a rate that was reached.
const FEWER: [u64; 5] = [14_107, 20_429, 21_611, 30_001, 30_022];

/// How the provider is reached.
#[derive(Clone)]
pub struct TwilioOptions {
    /// Base URL of the API.
    pub base: String,
    /// The account.
    pub account: String,
    /// Its token; what the provider tells is signed with it.
    pub token: String,
    /// The token before, while it changes: what is signed with it is believed too.
    pub old_token: Option<String>,
    /// The number that messages come from, or the id of a messaging service (`MG…`).
    pub from: String,
    /// How long one message may take to be handed over, milliseconds (real time).
    pub timeout_ms: u64,
}

impl std::fmt::Debug for TwilioOptions {
    /// Shows all but the tokens.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TwilioOptions")
            .field("base", &self.base)
            .field("account", &self.account)
            .field("from", &self.from)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

pub(super) struct Twilio {
    client: Client,
    url: Url,
    options: TwilioOptions,
}

impl Twilio {
    /// Checks that the options fit together.
    pub(super) fn new(options: TwilioOptions) -> Result<Self, String> {
        let is_plain =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plain(&options.account) {
            return Err("the account for text messages is letters and digits".to_owned());
        }
        let old = options.old_token.as_deref();
        if options.token.is_empty() || old == Some("") || options.from.is_empty() {
            return Err("text messages need a token and a sender".to_owned());
        }
        if options.timeout_ms == 0 {
            return Err("the time-out of a text message must be at least 1 ms".to_owned());
        }
        let url = format!(
            "{}/2010-04-01/Accounts/{}/Messages.json",
            options.base.trim_end_matches('/'),
            options.account
        );
        let url = Url::parse(&url)
            .map_err(|error| format!("the provider's address {:?}: {error}", options.base))?;
        let here = url.host_str().is_some_and(crate::smtp::is_loopback);
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(
                "without TLS, text messages go only to a provider on this machine (localhost)"
                    .to_owned(),
            );
        }
        let client = Client::builder()
            .http1_only()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_millis(options.timeout_ms))
            .build()
            .map_err(|error| format!("a client for text messages: {error}"))?;
        Ok(Self {
            client,
            url,
            options,
        })
    }

    /// Hands a message over: what the provider calls it. With the text come the address for receipts, if any, and the
    /// message's id, by which providers that know such a key know a repeat. `repeated` is whether it was handed over
    /// before without an answer.
    pub(super) async fn send(
        &self,
        to: &Number,
        (text, callback, id): (&str, Option<&str>, &str),
        repeated: bool,
    ) -> Result<String, Trouble> {
        let sender = if self.options.from.starts_with("MG") {
            "MessagingServiceSid"
        } else {
            "From"
        };
        let told = callback.map(|callback| ("StatusCallback", callback));
        let members = [
            ("To", to.as_str()),
            (sender, self.options.from.as_str()),
            ("Body", text),
        ];
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(members.into_iter().chain(told))
            .finish();
        let request = self
            .client
            .post(self.url.clone())
            .basic_auth(&self.options.account, Some(&self.options.token))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(SAME, id)
            .body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // An error's words have the address in them, and no more is said than what it means.
            Err(error) if error.is_connect() => {
                return Err(trouble(
                    Meaning::Unreachable,
                    "the provider of text messages could not be reached",
                ));
            }
            Err(_) => return Err(unknown()),
        };
        let status = answer.status();
        let after_ms = (answer.headers().get(RETRY_AFTER)).and_then(|value| {
            // A date is taken for the longest time: our clock may be another than theirs.
            let after_s = value
                .to_str()
                .ok()?
                .trim()
                .parse()
                .unwrap_or(RETRY_AFTER_MAX_S);
            Some(after_s.min(RETRY_AFTER_MAX_S) * 1_000)
        });
        let body = read(answer).await;
        let said = |name: &str| body.as_ref().and_then(|body| body.get(name));
        if status.is_success() {
            let sid = said("sid").and_then(Value::as_str);
            // One that says yes and doesn't say what it calls the message may have taken it.
            return match sid.filter(|sid| is_reference(sid)) {
                Some(sid) => Ok(sid.to_owned()),
                None => Err(unknown()),
            };
        }
        Err(refused(
            status,
            said("code").and_then(Value::as_u64),
            after_ms,
            repeated,
        ))
    }
}

/// Whether a text can be what a provider calls a message.
pub(super) fn is_reference(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The answer, as far as it is JSON within its bound.
async fn read(mut answer: reqwest::Response) -> Option<Value> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.ok()? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    serde_json::from_slice(&body).ok()
}

fn trouble(meaning: Meaning, words: impl Into<String>) -> Trouble {
    Trouble {
        meaning,
        words: words.into(),
        reason: Reason::PermanentFailure,
        after_ms: None,
    }
}

fn unknown() -> Trouble {
    let words =
        "the provider of text messages gave no answer to the message, so it may have taken it";
    trouble(Meaning::Unknown, words)
}

/// What it means that the provider didn't take a message.
///
/// Of one that was handed over before without an answer, a provider that knows its key may say that it has it, or is at
/// it: with another text, because its link is another each time.
fn refused(
    status: StatusCode,
    code: Option<u64>,
    after_ms: Option<u64>,
    repeated: bool,
) -> Trouble {
    let code_words = code.map_or_else(String::new, |code| format!(" (error {code})"));
    let words = format!(
        "the provider of text messages answered {}{code_words}",
        status.as_u16()
    );
    let meaning = match (status.as_u16(), code) {
        (429, _) => Meaning::Busy,
        // What stands before a provider says 503 as well, when the provider has taken longer than that waits.
        (408 | 500.., _) => Meaning::Unknown,
        (409 | 422, _) if repeated => Meaning::Unknown,
        (_, Some(code)) if FEWER.contains(&code) => Meaning::Busy,
        (_, Some(code)) if OURS.contains(&code) => Meaning::Unreachable,
        (400..500, Some(_)) => Meaning::Never,
        // It may not even be the provider who says it: a way in, or the address, is wrong.
        (401 | 403 | 404 | 407, None) => Meaning::Unreachable,
        // Something that says no more than that; it is tried again, and nobody else waits for it.
        _ => Meaning::Later,
    };
    let reason = if code == Some(STOPPED) {
        Reason::Preference
    } else {
        Reason::PermanentFailure
    };
    Trouble {
        meaning,
        words,
        reason,
        after_ms,
    }
}

/// Whether what came to `url` with these members of a form was signed with the token: HMAC with SHA-1 over the address and
/// each name with its value, sorted by name.
pub(super) fn is_signed(
    token: &str,
    url: &str,
    members: &[(String, String)],
    signature: &str,
) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else {
        return false;
    };
    let mut sorted: Vec<&(String, String)> = members.iter().collect();
    sorted.sort();
    let mut signed = url.to_owned();
    for (name, value) in sorted {
        signed.push_str(name);
        signed.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean_different_things() {
        for (status, code, meaning, reason) in [
            (400, Some(21_211), Meaning::Never, Reason::PermanentFailure),
            (400, Some(21_614), Meaning::Never, Reason::PermanentFailure),
            (400, Some(99_999), Meaning::Never, Reason::PermanentFailure),
            (404, Some(21_617), Meaning::Never, Reason::PermanentFailure),
            (400, Some(STOPPED), Meaning::Never, Reason::Preference),
            (
                400,
                Some(21_606),
                Meaning::Unreachable,
                Reason::PermanentFailure,
            ),
            (
                401,
                Some(20_003),
                Meaning::Unreachable,
                Reason::PermanentFailure,
            ),
            (
                403,
                Some(30_002),
                Meaning::Unreachable,
                Reason::PermanentFailure,
            ),
            (400, None, Meaning::Later, Reason::PermanentFailure),
            (401, None, Meaning::Unreachable, Reason::PermanentFailure),
            (404, None, Meaning::Unreachable, Reason::PermanentFailure),
            (429, Some(20_429), Meaning::Busy, Reason::PermanentFailure),
            (429, Some(21_211), Meaning::Busy, Reason::PermanentFailure),
            (400, Some(21_611), Meaning::Busy, Reason::PermanentFailure),
            (302, None, Meaning::Later, Reason::PermanentFailure),
            (408, None, Meaning::Unknown, Reason::PermanentFailure),
            (500, None, Meaning::Unknown, Reason::PermanentFailure),
            (502, None, Meaning::Unknown, Reason::PermanentFailure),
            (503, None, Meaning::Unknown, Reason::PermanentFailure),
            (
                503,
                Some(20_503),
                Meaning::Unknown,
                Reason::PermanentFailure,
            ),
            (409, Some(99_999), Meaning::Never, Reason::PermanentFailure),
            (422, Some(99_999), Meaning::Never, Reason::PermanentFailure),
        ] {
            let status_code = StatusCode::from_u16(status).expect("a status");
            let found = refused(status_code, code, None, false);
            assert_eq!(
                (found.meaning, found.reason),
                (meaning, reason),
                "{status} {code:?}"
            );
        }
    }

    #[test]
    fn a_repeat_that_a_provider_knows_by_its_key_may_be_there() {
        for (status, code, meaning) in [
            (409, None, Meaning::Unknown),
            (409, Some(99_999), Meaning::Unknown),
            (422, None, Meaning::Unknown),
            (422, Some(99_999), Meaning::Unknown),
            (400, Some(21_211), Meaning::Never),
        ] {
            let status_code = StatusCode::from_u16(status).expect("a status");
            let found = refused(status_code, code, None, true);
            assert_eq!(found.meaning, meaning, "{status} {code:?}");
        }
    }

    #[test]
    fn addresses_are_checked_when_they_are_told() {
        let options = |base: &str, account: &str| TwilioOptions {
            base: base.to_owned(),
            account: account.to_owned(),
            token: "secret-token".to_owned(),
            old_token: Some("older-secret-token".to_owned()),
            from: "+16175550100".to_owned(),
            timeout_ms: 1_000,
        };
        for (base, account, good) in [
            ("https://api.twilio.com", "AC1", true),
            ("http://127.0.0.1:8080/", "AC1", true),
            ("http://api.twilio.com", "AC1", false),
            ("https://api.twilio.com", "AC1/../x", false),
            ("https://api.twilio.com", "", false),
            ("api.twilio.com", "AC1", false),
        ] {
            assert_eq!(
                Twilio::new(options(base, account)).is_ok(),
                good,
                "{base} {account}"
            );
        }
        assert!(!format!("{:?}", options("https://x.example", "AC1")).contains("secret-token"));
    }
}

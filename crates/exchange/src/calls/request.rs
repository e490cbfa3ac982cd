//! One request to a partner. Redirects are not followed; of the answer so much is read as is needed, within a bound.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ledger::Clock;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use serde_json::{Value, json};
use trust::outgoing::Call;
use trust::partners::{Partner, signature};
use trust::webhooks::{
    AT_ONCE, ID_HEADER, SIGNATURE_HEADER, SigningKey, TIMESTAMP_HEADER, signatures,
};

use super::answer;
use super::places::{Public, may_be_asked};

/// How long a partner may take to connect (real time), the longest first; that which is shorter than an attempt is
/// taken, so that one whom nothing reaches is told from one who is silent.
const CONNECT_PATIENCES_MS: [u64; 3] = [5_000, 2_000, 700];
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The longest that a partner may ask to be left alone for, seconds.
const RETRY_AFTER_MAX_S: u64 = 4 * 3_600;
/// How far a partner's clock may be from ours for a date of theirs to be counted from it, seconds.
const CLOCKS_APART_MAX_S: u64 = 10 * 60;
/// The largest file with a secret.
const SECRET_BYTES_MAX: usize = 16 * 1024;

/// What asks partners.
pub(super) struct Clients {
    /// One for each patience, the longest first.
    by_patience: Vec<(Duration, Pair)>,
}

struct Pair {
    /// Those at public addresses, by name.
    public: Client,
    /// Those of whom the entry says that they are in a private network.
    private: Client,
}

impl Clients {
    pub(super) fn new() -> Result<Self, String> {
        let built =
            |builder: reqwest::ClientBuilder| builder.build().map_err(|error| error.to_string());
        let mut by_patience = Vec::new();
        for patience_ms in CONNECT_PATIENCES_MS {
            let patience = Duration::from_millis(patience_ms);
            let builder = || {
                Client::builder()
                    .http1_only()
                    .redirect(redirect::Policy::none())
                    .no_proxy()
                    .connect_timeout(patience)
            };
            let pair = Pair {
                public: built(builder().dns_resolver(Arc::new(Public)))?,
                private: built(builder())?,
            };
            by_patience.push((patience, pair));
        }
        Ok(Self { by_patience })
    }

    /// What asks a partner that may take so long; none where there is no client at all.
    fn of(&self, timeout: Duration, private: bool) -> Option<&Client> {
        let shorter = |(patience, _): &&(Duration, Pair)| *patience < timeout;
        let found = self.by_patience.iter().find(shorter);
        let (_, pair) = found.or(self.by_patience.last())?;
        Some(if private { &pair.private } else { &pair.public })
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Asked {
    /// The partner answered: the status, and what was learnt.
    Answered(u16, Vec<(String, Value)>),
    /// The partner will give no other answer; why, in words without anything of it. `done` says whether it may have done
    /// what it was asked all the same.
    Refused { words: String, done: bool },
    /// There was no answer, or one that may be another later.
    Failed(Failed),
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// In words without anything of the answer, the address or the headers.
    pub(super) words: String,
    /// Whether the partner may have what was sent. Only where no connection was made it can't.
    pub(super) may_have_it: bool,
    /// Whether the partner was there at all, and says itself when to come back.
    pub(super) was_there: bool,
    /// Not before so many milliseconds, as it says.
    pub(super) after_ms: Option<u64>,
}

impl Failed {
    fn before_it_was_sent(words: impl Into<String>, was_there: bool) -> Self {
        Self {
            words: words.into(),
            may_have_it: false,
            was_there,
            after_ms: None,
        }
    }

    fn after_it_was_sent(words: impl Into<String>) -> Self {
        Self {
            words: words.into(),
            may_have_it: true,
            was_there: false,
            after_ms: None,
        }
    }
}

/// The text of a secret's file, without the line's end.
fn secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > SECRET_BYTES_MAX {
        return Err("it is empty, or too long".to_owned());
    }
    Ok(text.to_owned())
}

/// The body of a call: a JSON object, a form, or FHIR's `Parameters`.
pub(super) fn body(call: &Call) -> Vec<u8> {
    if call.form {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &call.values {
            let text = value.as_str().map(str::to_owned);
            form.append_pair(name, &text.unwrap_or_else(|| value.to_string()));
        }
        return form.finish().into_bytes();
    }
    let body = if call.fhir {
        let parameters = call.values.iter().map(|(name, value)| {
            let mut parameter = answer::output(name, value);
            if let Some(members) = parameter.as_object_mut() {
                members.remove("type");
                members.insert("name".to_owned(), json!(name));
            }
            parameter
        });
        let mut body = json!({"resourceType": "Parameters"});
        let parameters: Vec<Value> = parameters.collect();
        if !parameters.is_empty() {
            body["parameter"] = Value::Array(parameters);
        }
        body
    } else {
        Value::Object(call.values.clone())
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

/// Signs a call, with each key of its file, one a line, the newest first: as Standard Webhooks has it, and in
/// `cairn-signature` for who reads that. A line that is neither `whsec_…` nor `whsk_…` is itself the secret.
fn signed(
    asked: RequestBuilder,
    file: &str,
    (id, at_s): (&str, u64),
    body: &[u8],
) -> RequestBuilder {
    let mut keys = Vec::new();
    let mut own = format!("t={at_s}");
    for line in file.lines().filter(|line| !line.is_empty()).take(AT_ONCE) {
        let key = SigningKey::parse(line);
        // A private key makes no such signature.
        if !matches!(key, Some(SigningKey::Seed(_))) {
            let signed = signature(line.as_bytes(), at_s, id, body);
            own.push_str(",v1=");
            own.push_str(&signed);
        }
        keys.push(key.unwrap_or_else(|| SigningKey::secret(line.as_bytes())));
    }
    asked
        .header("cairn-signature", own)
        .header(ID_HEADER, id)
        .header(TIMESTAMP_HEADER, at_s)
        .header(SIGNATURE_HEADER, signatures(&keys, (id, at_s), body))
}

/// A request that has all that it needs, and was not sent yet.
pub(super) struct Ready {
    request: RequestBuilder,
    timeout: Duration,
}

/// A call to a partner, up to where it is sent.
pub(super) fn ready(
    clients: &Clients,
    partner: &Partner,
    call: &Call,
    real_s: u64,
) -> Result<Ready, Failed> {
    let address = format!("{}{}", partner.base, call.path);
    let Some(address) =
        (Url::parse(&address).ok()).filter(|url| may_be_asked(url, partner.private_network))
    else {
        let words = "the partner's address is not one that may be called";
        return Err(Failed::before_it_was_sent(words, true));
    };
    let method = if call.put { Method::PUT } else { Method::POST };
    let (format, sent) = match (call.fhir, call.form) {
        (true, _) => ("application/fhir+json", "application/fhir+json"),
        (_, true) => ("application/json", "application/x-www-form-urlencoded"),
        _ => ("application/json", "application/json"),
    };
    let body = body(call);
    let timeout = Duration::from_millis(call.timeout_ms.min(partner.timeout_ms).max(1));
    let Some(client) = clients.of(timeout, partner.private_network) else {
        let words = "nothing here can call it";
        return Err(Failed::before_it_was_sent(words, true));
    };
    let mut asked = client
        .request(method, address)
        .timeout(timeout)
        .header(USER_AGENT, "Cairn")
        .header(ACCEPT, format)
        .header(CONTENT_TYPE, sent)
        .header("idempotency-key", &call.task)
        .header("x-request-id", &call.task);
    if let Some(key) = &call.compensates {
        asked = asked.header("compensates", key);
    }
    if let Some(file) = &partner.token_file {
        let token = secret(file).and_then(|token| {
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())
        });
        match token {
            Ok(mut token) => {
                token.set_sensitive(true);
                asked = asked.header(AUTHORIZATION, token);
            }
            Err(error) => {
                tracing::error!(
                    partner = partner.name,
                    error,
                    "the partner's token can't be read"
                );
                let words = "the partner's token can't be read";
                return Err(Failed::before_it_was_sent(words, true));
            }
        }
    }
    if let Some(file) = &partner.signing_key_file {
        match secret(file) {
            Ok(key) => {
                asked = signed(asked, &key, (&call.task, real_s), &body);
            }
            Err(error) => {
                tracing::error!(
                    partner = partner.name,
                    error,
                    "the key that calls are signed with can't be read"
                );
                let words = "the key that calls are signed with can't be read";
                return Err(Failed::before_it_was_sent(words, true));
            }
        }
    }
    Ok(Ready {
        request: asked.body(body),
        timeout,
    })
}

impl Ready {
    /// Sends it. The clock shows real time, and is looked at when the answer is there.
    pub(super) async fn send(self, call: &Call, now_ms: u64, real: &dyn Clock) -> Asked {
        let failed = match self.request.send().await {
            Ok(answer) => return heard(answer, call, (now_ms, real.now_ms() / 1_000)).await,
            // Of the errors of connecting some are of time, too.
            Err(error) if error.is_connect() => Failed::before_it_was_sent(
                "it can't be reached, or its name leads to no public address",
                false,
            ),
            Err(error) if error.is_timeout() => Failed::after_it_was_sent(silent(self.timeout)),
            Err(_) => Failed::after_it_was_sent("the conversation with it broke off"),
        };
        Asked::Failed(failed)
    }
}

fn silent(timeout: Duration) -> String {
    format!("it did not answer within {} seconds", timeout.as_secs())
}

/// What an answer means. The time is that of care, and the real one in seconds.
async fn heard(answer: Response, call: &Call, (now_ms, real_s): (u64, u64)) -> Asked {
    let status = answer.status().as_u16();
    if answer.status().is_success() || call.accepts.contains(&status) {
        return taken(answer, status, call, now_ms).await;
    }
    let said = format!("it answered {status}");
    match status {
        408 | 425 | 429 | 500.. => Asked::Failed(Failed {
            words: said,
            may_have_it: true,
            was_there: status == 429,
            after_ms: after_ms(answer.headers(), real_s),
        }),
        300..400 => Asked::Refused {
            words: format!("{said}, and calls follow nobody elsewhere"),
            done: false,
        },
        _ => Asked::Refused {
            words: said,
            done: false,
        },
    }
}

/// When to come back, in milliseconds: the answer says seconds, or a date. That is counted from the partner's own clock
/// where the answer says what it shows, because two clocks are hardly the same. What is far from ours is no clock, but
/// an answer that was kept somewhere on the way, or a mistake.
fn after_ms(headers: &HeaderMap, real_s: u64) -> Option<u64> {
    let said = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match said.parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            let theirs_s = date_s(headers, &DATE);
            let theirs_s = theirs_s.filter(|at_s| at_s.abs_diff(real_s) <= CLOCKS_APART_MAX_S);
            let now_s = theirs_s.unwrap_or(real_s);
            date_s(headers, &RETRY_AFTER)?.saturating_sub(now_s)
        }
    };
    Some(seconds.min(RETRY_AFTER_MAX_S) * 1_000)
}

/// The date in a header, seconds since the epoch.
fn date_s(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Takes what is to be learnt from an answer.
async fn taken(mut answer: Response, status: u16, call: &Call, now_ms: u64) -> Asked {
    if call.learns.is_empty() {
        return Asked::Answered(status, Vec::new());
    }
    let unread = |words: String| Asked::Refused { words, done: true };
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if error.is_timeout() => {
                return Asked::Failed(Failed::after_it_was_sent("its answer did not end in time"));
            }
            Err(_) => return Asked::Failed(Failed::after_it_was_sent("its answer broke off")),
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return unread(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
    }
    // Of what was accepted beside success nothing need be there to be learnt.
    let body = match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) if body.is_object() => body,
        _ if status >= 400 || bytes.is_empty() => json!({}),
        _ => return unread("its answer is no JSON object".to_owned()),
    };
    Asked::Answered(status, answer::learn(&body, &call.learns, now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(fhir: bool) -> Call {
        let values = json!({"name": "Quandt", "seats": 2, "urgent": true, "weight": 80.5});
        let call = json!({
            "patient": "p", "task": "t", "partner": "rides", "path": "/bookings", "fhir": fhir, "values": values,
            "classes": ["identity"], "purpose": "TREAT", "about": [], "timeout_ms": 1000, "retries": 1,
            "backoff_ms": 1000, "until_ms": 1, "learns": [], "journey": "j/1", "step": "s"
        });
        serde_json::from_value(call).expect("a call")
    }

    #[test]
    fn values_go_as_an_object_or_as_parameters() {
        let sent = |fhir| serde_json::from_slice::<Value>(&body(&call(fhir))).expect("JSON");
        assert_eq!(
            sent(false),
            json!({"name": "Quandt", "seats": 2, "urgent": true, "weight": 80.5})
        );
        assert_eq!(
            sent(true),
            json!({"resourceType": "Parameters", "parameter": [
                {"name": "name", "valueString": "Quandt"},
                {"name": "seats", "valueInteger": 2},
                {"name": "urgent", "valueBoolean": true},
                {"name": "weight", "valueDecimal": 80.5}
            ]})
        );
        let none = Call {
            values: serde_json::Map::new(),
            ..call(true)
        };
        let none = serde_json::from_slice::<Value>(&body(&none)).expect("JSON");
        assert_eq!(none, json!({"resourceType": "Parameters"}));
    }

    #[test]
    fn values_go_as_a_form() {
        let form = Call {
            form: true,
            ..call(false)
        };
        let sent = |call: &Call| String::from_utf8(body(call)).expect("text");
        assert_eq!(sent(&form), "name=Quandt&seats=2&urgent=true&weight=80.5");
        let odd = json!({"note": "Müller & Söhne = 100 %+", "empty": ""});
        let odd = Call {
            values: odd.as_object().cloned().expect("an object"),
            ..form
        };
        assert_eq!(
            sent(&odd),
            "note=M%C3%BCller+%26+S%C3%B6hne+%3D+100+%25%2B&empty="
        );
    }

    #[test]
    fn a_partner_says_when_to_come_back_within_bounds() {
        // 06 Nov 1994 08:49:37 GMT.
        const AT_S: u64 = 784_111_777;
        const DAY: &str = "Sun, 06 Nov 1994";
        let after = |said: &str, date: Option<&str>, real_s: u64| {
            let mut headers = HeaderMap::new();
            let value = |text: &str| HeaderValue::from_str(text).expect("a value");
            headers.insert(RETRY_AFTER, value(said));
            if let Some(date) = date {
                headers.insert(DATE, value(date));
            }
            after_ms(&headers, real_s)
        };
        for (said, expected) in [
            ("7", Some(7_000)),
            (" 7 ", Some(7_000)),
            ("0", Some(0)),
            ("999999999", Some(14_400_000)),
            ("-1", None),
            ("soon", None),
            // A date, in each of the three forms that there are.
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(60_000)),
            ("Sun Nov  6 08:49:37 1994", Some(60_000)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(14_400_000)),
            // One that is past.
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(after(said, None, AT_S - 60), expected, "{said}");
        }
        // The partner's clock is some minutes off, or further than clocks are, or it doesn't say a date that can be read.
        let said = format!("{DAY} 08:49:37 GMT");
        let date = format!("{DAY} 08:49:30 GMT");
        for (date, real_s, expected) in [
            (date.as_str(), AT_S - 7 + 600, 7_000),
            (&date, AT_S - 7 - 600, 7_000),
            (&date, AT_S - 7 + 601, 0),
            (&date, AT_S - 7 - 601, 608_000),
            ("Thu, 01 Jan 1970 00:00:00 GMT", AT_S - 30, 30_000),
            ("Fri, 06 Nov 2093 08:49:37 GMT", AT_S - 30, 30_000),
            ("now", AT_S - 2, 2_000),
        ] {
            let found = after(&said, Some(date), real_s);
            assert_eq!(found, Some(expected), "{date} at {real_s}");
        }
        assert_eq!(after_ms(&HeaderMap::new(), AT_S), None);
    }
}

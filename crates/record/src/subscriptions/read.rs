//! What a client asks for in a `Subscription`, read strictly: whatever would not be done as it says is refused, with
//! the element and the reason.

use fhir::search::{Owns, SearchQuery};
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType, date};
use serde_json::json;
use trust::outgoing::Cleared;

use crate::url;

/// What stands in place of a header's value wherever a subscription is shown.
pub(super) const MASK: &str = "***";
/// The most headers, and the most bytes of them together: what servers commonly take is 8 KiB for all.
const HEADERS_MAX: usize = 20;
const HEADERS_BYTES_MAX: usize = 4096;
/// The longest endpoint and the longest criteria, bytes.
const ENDPOINT_BYTES_MAX: usize = 2000;
const CRITERIA_BYTES_MAX: usize = 4096;
/// Headers that say how a notification is sent or who sends it, which is this server's to say.
const OWN_HEADERS: [&str; 17] = [
    "cairn-replay",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "warning",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-request-id",
];
/// Parameters that say how an answer looks, of which there is none.
const OF_ANSWERS: [&str; 10] = [
    "_contained",
    "_containedType",
    "_count",
    "_cursor",
    "_elements",
    "_format",
    "_pretty",
    "_score",
    "_summary",
    "_total",
];

/// What is asked for.
pub(super) struct Asked {
    pub(super) kind: ResourceType,
    pub(super) criteria: Vec<(String, String)>,
    pub(super) query: SearchQuery,
    pub(super) endpoint: String,
    pub(super) with_payload: bool,
    pub(super) headers: Vec<(String, String)>,
    pub(super) end_ms: Option<u64>,
    /// Whether nothing is to be notified.
    pub(super) is_off: bool,
}

/// What a subscription is read beside.
pub(super) struct Beside<'a> {
    pub(super) base: &'a str,
    pub(super) owns: &'a Owns,
    pub(super) cleared: &'a Cleared,
    /// The headers that it has now, for those that are shown masked.
    pub(super) headers: &'a [(String, String)],
    pub(super) now_ms: u64,
}

fn at(code: IssueCode, element: &str, words: impl Into<String>) -> OperationOutcome {
    OperationOutcome::at(code, words, format!("Subscription.{element}"))
}

fn refused(element: &str, words: impl Into<String>) -> OperationOutcome {
    at(IssueCode::NotSupported, element, words)
}

/// Reads it, and masks its headers.
pub(super) fn read(
    resource: &mut Resource,
    beside: &Beside<'_>,
) -> Result<Asked, OperationOutcome> {
    let is_off = match resource.text_at(&["status"]) {
        Some("requested") => false,
        Some("off") => true,
        _ => {
            let words = "is the server's to say: ask with requested, or with off";
            return Err(at(IssueCode::BusinessRule, "status", words));
        }
    };
    let text = resource.text_at(&["criteria"]).unwrap_or_default();
    let (kind, criteria, query) = criteria(text, beside)?;
    match resource.text_at(&["channel", "type"]) {
        Some("rest-hook") => {}
        _ => {
            let words = "is rest-hook; no other channel is delivered by";
            return Err(refused("channel.type", words));
        }
    }
    let with_payload = match resource.text_at(&["channel", "payload"]) {
        None if resource.at(&["channel", "payload"]).is_none() => false,
        Some("application/fhir+json") => true,
        _ => {
            let words =
                "is application/fhir+json, or not there: then nothing of the resource is sent";
            return Err(refused("channel.payload", words));
        }
    };
    let endpoint = endpoint(resource, beside.cleared)?;
    let end_ms = end(resource, beside.now_ms, is_off)?;
    let headers = headers(resource, beside.headers)?;
    // Only the server knows of errors.
    resource.remove("error");
    Ok(Asked {
        kind,
        criteria,
        query,
        endpoint,
        with_payload,
        headers,
        end_ms,
        is_off,
    })
}

type Criteria = (ResourceType, Vec<(String, String)>, SearchQuery);

fn criteria(text: &str, beside: &Beside<'_>) -> Result<Criteria, OperationOutcome> {
    const CRITERIA: &str = "criteria";
    let invalid = |words: &str| at(IssueCode::Invalid, CRITERIA, words);
    let no = |words: &str| refused(CRITERIA, words);
    if text.len() > CRITERIA_BYTES_MAX {
        let words = format!("has at most {CRITERIA_BYTES_MAX} bytes");
        return Err(at(IssueCode::TooLong, CRITERIA, words));
    }
    let form = "is a search of one type, like Observation?code=http://loinc.org|29463-7";
    let (kind, query) = text.split_once('?').ok_or_else(|| invalid(form))?;
    let kind = ResourceType::parse(kind).ok_or_else(|| invalid(form))?;
    if !crate::is_searchable(kind) || kind == ResourceType::AuditEvent {
        return Err(no("is about a type that nobody is notified of"));
    }
    if kind == ResourceType::Subscription {
        return Err(no(
            "can't be about subscriptions: each notification could bring about another",
        ));
    }
    let pairs = url::pairs(query).ok_or_else(|| invalid("is no query string after the ?"))?;
    if let Some((name, _)) = (pairs.iter()).find(|(name, _)| OF_ANSWERS.contains(&name.as_str())) {
        return Err(no(&format!(
            "has {name}, which says how an answer looks; there is none"
        )));
    }
    let mut query =
        SearchQuery::parse_with(kind, &pairs, false, beside.owns).map_err(|outcome| {
            let mut outcome = outcome;
            for issue in &mut outcome.issues {
                if let Some(parameter) = issue.expression.take() {
                    issue.diagnostics = format!("{parameter}: {}", issue.diagnostics);
                }
                issue.expression = Some(format!("Subscription.{CRITERIA}"));
            }
            outcome
        })?;
    if !query.includes.is_empty() {
        return Err(no(
            "has _include or _revinclude: it says which resource is notified of, and can't bring others",
        ));
    }
    if !query.sort.is_empty() {
        return Err(no("has _sort: notifications are sent one by one"));
    }
    if query.has_links() {
        return Err(no(
            "has chained parameters, _has or _list: another resource could make it match or not without a change of its own, which nobody would be notified of",
        ));
    }
    if query.needs_codes() {
        return Err(no(
            "asks for what value sets or code systems say: these could make it match or not without a change of its own",
        ));
    }
    if query.depends_on_now() {
        return Err(no(
            "asks what is about a date (ap): what matches would change with the time, without a change of its own",
        ));
    }
    if query.reads_texts() {
        return Err(no(
            "has _text or _content, which are searched without an index",
        ));
    }
    query.of_server(beside.base);
    Ok((kind, pairs, query))
}

fn endpoint(resource: &Resource, cleared: &Cleared) -> Result<String, OperationOutcome> {
    const ENDPOINT: &str = "channel.endpoint";
    let Some(endpoint) = resource.text_at(&["channel", "endpoint"]) else {
        return Err(at(IssueCode::Required, ENDPOINT, "is missing"));
    };
    if endpoint.len() > ENDPOINT_BYTES_MAX {
        let words = format!("has at most {ENDPOINT_BYTES_MAX} bytes");
        return Err(at(IssueCode::TooLong, ENDPOINT, words));
    }
    if !cleared.covers(endpoint) {
        let words = "is at no origin that this organisation's configuration lets notifications go to, written as it is there, without a query, a fragment or a user";
        return Err(at(IssueCode::BusinessRule, ENDPOINT, words));
    }
    Ok(endpoint.to_owned())
}

fn end(resource: &Resource, now_ms: u64, is_off: bool) -> Result<Option<u64>, OperationOutcome> {
    const END: &str = "end";
    let Some(value) = resource.get(END) else {
        return Ok(None);
    };
    let parsed = value.as_str().and_then(date::parse);
    let end_ms = parsed.and_then(|end| u64::try_from(end.start_ms).ok());
    match end_ms {
        None => Err(at(IssueCode::Value, END, "is no instant")),
        Some(end_ms) if end_ms <= now_ms && !is_off => {
            Err(at(IssueCode::BusinessRule, END, "has passed already"))
        }
        end_ms => Ok(end_ms),
    }
}

/// Names and values of the headers, which are masked in the resource.
fn headers(
    resource: &mut Resource,
    before: &[(String, String)],
) -> Result<Vec<(String, String)>, OperationOutcome> {
    const HEADER: &str = "channel.header";
    let no = |words: &str| at(IssueCode::Value, HEADER, words);
    let Some(channel) = resource.members_mut().get_mut("channel") else {
        return Ok(Vec::new());
    };
    if !channel.is_object() {
        return Err(at(IssueCode::Value, "channel", "is no object"));
    }
    if channel.get("_header").is_some() {
        return Err(no("has extensions, which can't be kept secret"));
    }
    let Some(shown) = channel.get_mut("header") else {
        return Ok(Vec::new());
    };
    // Whatever the validation lets pass: what is not taken apart is not masked.
    let Some(shown) = shown.as_array_mut() else {
        return Err(no("is no list"));
    };
    if shown.len() > HEADERS_MAX {
        return Err(at(
            IssueCode::TooLong,
            HEADER,
            format!("are at most {HEADERS_MAX}"),
        ));
    }
    let mut headers: Vec<(String, String)> = Vec::with_capacity(shown.len());
    let mut bytes = 0;
    for one in shown {
        let parts = one.as_str().and_then(|text| text.split_once(':'));
        // What is wrong with a value is not told with the value.
        let (name, value) = parts.ok_or_else(|| no("is no header like Authorization: Bearer x"))?;
        let (name, value) = (name.trim(), value.trim());
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(no("has a name that no header has"));
        }
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(no(&format!("has {name}, which this server sets itself")));
        }
        if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            return Err(no(&format!("has {name} twice")));
        }
        let value = if value == MASK {
            let kept = before
                .iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(name));
            let (_, value) = kept.ok_or_else(|| {
                no(&format!(
                    "masks {name}, which it did not have before: give its value"
                ))
            })?;
            value.clone()
        } else {
            value.to_owned()
        };
        if value.is_empty()
            || !value
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            return Err(no(&format!("{name} has no value of printable ASCII")));
        }
        bytes += name.len() + value.len();
        let name = name.to_owned();
        *one = json!(format!("{name}: {MASK}"));
        headers.push((name, value));
    }
    if bytes > HEADERS_BYTES_MAX {
        let words = format!("have at most {HEADERS_BYTES_MAX} bytes together");
        return Err(at(IssueCode::TooLong, HEADER, words));
    }
    Ok(headers)
}

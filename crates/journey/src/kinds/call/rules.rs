//! What is wrong with a call's own part of a file, whoever says it: a step, or a connector.

use crate::yaml::{Node, Place};
use fhir::ResourceType;

/// A code of the checker, where, and in words.
pub(crate) type Fault = (&'static str, Place, String);

/// What names of secrets have in them, without what stands between words.
const SECRETS: [&str; 7] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
];
/// How words begin that are one.
const SECRET_WORDS: [&str; 3] = ["bearer ", "basic ", "-----begin"];

/// That a member of an answer has the name of the answer's status.
pub(crate) const STATUS: &str = "`status` is the status of the answer; name this differently";

/// Whether a name is like that of a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase().replace(['-', '_', '.'], "");
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// That a secret would stand in a file, or be asked for.
pub(crate) fn secret(name: &str) -> String {
    format!(
        "`{name}` looks like a secret, and files of journeys are read by many; what the partner is shown stands in a file that `partners.toml` names (`token_file`)"
    )
}

/// Addresses, and how values go there.
pub(crate) fn addressed(call: &Node) -> Vec<Fault> {
    let at = |path: &[&str]| {
        let found = path
            .iter()
            .try_fold(call, |node: &Node, name| node.get(name))?;
        Some((found.text()?, found.place))
    };
    let mut faults = Vec::new();
    let mut wrong = |place: Place, words: String| faults.push(("J062", place, words));
    for path in [&["path"][..], &["compensate", "path"]] {
        if let Some((text, place)) = at(path)
            && let Err(words) = is_path(text)
        {
            wrong(place, words);
        }
    }
    if let Some((text, place)) = at(&["operation", "name"]) {
        let named = text.strip_prefix('$').unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if named.is_empty() || !named.chars().all(fits) {
            let words = format!("`{text}` is no operation's name; it is like `$evaluate-measure`");
            wrong(place, words);
        }
    }
    if let Some((text, place)) = at(&["operation", "on"]) {
        let (kind, id) = text.split_once('/').unwrap_or((text, "x"));
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let named = !id.is_empty() && id.len() <= 64 && id.chars().all(fits);
        if ResourceType::parse(kind).is_none() || !named {
            let words = format!(
                "`{text}` is no FHIR resource type, and no resource like `Measure/heart-failure`"
            );
            wrong(place, words);
        }
    }
    if call.get("operation").is_some() {
        if let Some((text, place)) = at(&["method"])
            && text != "post"
        {
            wrong(place, "a FHIR operation is a `POST`".to_owned());
        }
        if let Some((_, place)) = at(&["body"]) {
            let words = "the values of a FHIR operation go as `Parameters`; leave `body` out";
            wrong(place, words.to_owned());
        }
    }
    faults
}

/// The values of a call, or those that take it back: names that can be sent, and no secrets.
pub(crate) fn sent(call: &Node, values: Option<&Node>) -> Vec<Fault> {
    let nested = call.get("body").and_then(Node::text) == Some("nested");
    let values = values.map(Node::members).unwrap_or_default();
    let mut faults = Vec::new();
    let mut earlier: Vec<&str> = Vec::new();
    for (key, value) in values {
        let name = value.get("as").and_then(Node::text).unwrap_or(&key.name);
        if earlier.contains(&name) {
            let words = format!("another value is sent as `{name}`");
            faults.push(("J024", value.place, words));
        } else if nested
            && let Some(other) = earlier
                .iter()
                .find(|other| is_within(name, other) || is_within(other, name))
        {
            let words = format!(
                "`{name}` and `{other}` can't both be: one of them stands within the other"
            );
            faults.push(("J062", value.place, words));
        }
        earlier.push(name);
        let fixed = ["is", "or"].iter().filter_map(|name| value.get(name));
        let mut fixed = fixed.filter_map(|node| Some((node.text()?.to_lowercase(), node.place)));
        // By the name that it is sent under, unless its own alone is that of a secret.
        let own_alone = is_secret(&key.name) && !is_secret(name);
        let shown = if own_alone { &key.name } else { name };
        let names_one = is_secret(shown);
        let is_one = |text: &str| SECRET_WORDS.iter().any(|word| text.starts_with(word));
        if let Some((_, place)) = fixed.find(|(text, _)| names_one || is_one(text)) {
            faults.push(("J063", place, secret(shown)));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let whole = !nested || name.split('.').all(|part| !part.is_empty());
        if name.len() > 64 || !name.chars().all(fits) || !whole {
            let words = format!(
                "`{name}` is no name to send a value under: letters, digits and - _ . , 64 at most"
            );
            faults.push(("J062", value.place, words));
        }
    }
    faults
}

/// Whether a name with dots is that of something within what another names.
fn is_within(name: &str, other: &str) -> bool {
    let rest = name.strip_prefix(other);
    rest.is_some_and(|rest| rest.starts_with('.'))
}

/// Fixed words of an address: nothing of a patient, and nothing that could lead elsewhere.
fn is_path(text: &str) -> Result<(), String> {
    if text.contains(['{', '}']) {
        return Err(format!(
            "`{text}`: nothing of a patient is ever in an address, which many machines write down; send it as a value"
        ));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.~/$".contains(c);
    let parts = text.strip_prefix('/').unwrap_or_default();
    let whole = parts
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    if whole && parts.chars().all(fits) && text.len() <= 200 {
        return Ok(());
    }
    Err(format!(
        "`{text}` is no path like `/bookings`: letters, digits and - _ . ~ $ between slashes, no query"
    ))
}

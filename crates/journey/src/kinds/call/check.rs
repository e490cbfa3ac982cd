//! What is wrong with a call, as far as its file says. Whether its partner may be told is asked beside the partners
//! ([`crate::check::partners`]).

use super::values::{Named, plainly};
use super::{Call, KIND};
use crate::check::{Check, paths_in};
use crate::definition::Step;
use crate::yaml::{Node, Place};
use fhir::path::Wanted;
use fhir::{ResourceType, suggestion};
use trust::conventions::CALL_STATUS;

/// What names of secrets have in them.
const SECRETS: [&str; 8] = [
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "credential",
];
/// How words begin that are one.
const SECRET_WORDS: [&str; 3] = ["bearer ", "basic ", "-----begin"];

impl Call {
    pub(super) fn check_all(&self, check: &mut Check<'_, '_>, step: &Step) {
        for (way, label, words) in [
            (
                &self.failed,
                "failed",
                "the partner refuses it, can't be reached or may not be told",
            ),
            (&self.timed_out, "timed_out", "there is no answer in time"),
        ] {
            if way.is_none() {
                let words = format!(
                    "`{}` has no `{label}`: say what happens when {words} (a task for staff, or `end`)",
                    step.id
                );
                check.findings.error("J013", step.place, words);
            }
        }
        self.paths(check, step);
        self.times(check, step);
        for (name, ..) in &self.learns {
            if name == CALL_STATUS {
                let place = check.at(step, &[KIND.name, "learns", name]);
                let words = "`status` is the status of the answer; name this differently";
                check.findings.error("J024", place, words);
            }
        }
        for (nth, value) in self.values.iter().enumerate() {
            let mut earlier = self.values[..nth].iter();
            if earlier.any(|other| other.sent_as() == value.sent_as()) {
                let place = check.at(step, &[KIND.name, "values", value.name.as_str()]);
                let words = format!("another value is sent as `{}`", value.sent_as());
                check.findings.error("J024", place, words);
            }
            let at = [KIND.name, "values", value.name.as_str()];
            self.value(check, step, value, &at);
            self.not_its_own(check, step, value, &at);
        }
        for value in self.compensate.iter().flat_map(|back| &back.values) {
            let at = [KIND.name, "compensate", "values", value.name.as_str()];
            self.value(check, step, value, &at);
            self.its_own_alone(check, step, value, &at);
        }
        self.earlier(check, step);
    }

    fn paths(&self, check: &mut Check<'_, '_>, step: &Step) {
        let body = |path: &[&str]| {
            let path: Vec<&str> = [KIND.name].iter().chain(path).copied().collect();
            let node = check.node(step, &path)?;
            Some((node.text()?.to_owned(), node.place))
        };
        let mut wrong: Vec<(Place, String)> = Vec::new();
        for path in [&["path"][..], &["compensate", "path"]] {
            if let Some((text, place)) = body(path)
                && let Err(words) = is_path(&text)
            {
                wrong.push((place, words));
            }
        }
        if let Some((text, place)) = body(&["operation", "name"]) {
            let named = text.strip_prefix('$').unwrap_or_default();
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if named.is_empty() || !named.chars().all(fits) {
                let words =
                    format!("`{text}` is no operation's name; it is like `$evaluate-measure`");
                wrong.push((place, words));
            }
        }
        if let Some((text, place)) = body(&["operation", "on"]) {
            let (kind, id) = text.split_once('/').unwrap_or((&text, "x"));
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            let named = !id.is_empty() && id.len() <= 64 && id.chars().all(fits);
            if ResourceType::parse(kind).is_none() || !named {
                let words = format!(
                    "`{text}` is no FHIR resource type, and no resource like `Measure/heart-failure`"
                );
                wrong.push((place, words));
            }
        }
        if let Some((text, place)) = body(&["method"])
            && self.fhir
            && text != "post"
        {
            wrong.push((place, "a FHIR operation is a `POST`".to_owned()));
        }
        for (place, words) in wrong {
            check.findings.error("J062", place, words);
        }
    }

    fn times(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.timeout_ms > self.up_to_ms {
            let place = check.at(step, &[KIND.name, "up_to"]);
            let words = "one attempt may take longer than the answer is waited for; give `up_to` more, or `timeout_s` less";
            check.findings.error("J062", place, words);
        }
    }

    /// What is wrong with a value by itself.
    fn value(&self, check: &mut Check<'_, '_>, step: &Step, value: &Named, at: &[&str]) {
        let place = check.at(step, at);
        let fixed = ["is", "or"].iter().filter_map(|name| {
            let node: &Node = check.node(step, at)?.get(name)?;
            Some((node.text()?.to_lowercase(), node.place))
        });
        let secret = fixed.into_iter().find(|(text, _)| {
            let named = SECRETS.iter().any(|secret| value.name.contains(secret));
            named || SECRET_WORDS.iter().any(|word| text.starts_with(word))
        });
        if let Some((_, place)) = secret {
            let words = format!(
                "`{}` looks like a secret, and files of journeys are read by many; what the partner is shown stands in a file that `partners.toml` names (`token_file`)",
                value.name
            );
            check.findings.error("J063", place, words);
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if value.sent_as().len() > 64 || !value.sent_as().chars().all(fits) {
            let words = format!(
                "`{}` is no name to send a value under: letters, digits and - _ . , 64 at most",
                value.sent_as()
            );
            check.findings.error("J062", place, words);
        }
        let Some(path) = value.learnt() else { return };
        if !check.learnt(path, Wanted::Anything) && paths_in(&path.text).is_empty() {
            let words = format!(
                "`{}` names nothing that the journey learns; fixed words are `is`",
                value.name
            );
            check.findings.error("J016", place, words);
        }
    }

    /// Its answer isn't there when it is made.
    fn not_its_own(&self, check: &mut Check<'_, '_>, step: &Step, value: &Named, at: &[&str]) {
        let Some(path) = value.learnt() else { return };
        let own = paths_in(&path.text)
            .iter()
            .any(|names| names.first() == Some(&step.id));
        let or = check.node(step, at).and_then(|node| node.get("or"));
        if own && or.is_none() {
            let words = format!(
                "`{}` is learnt from this call's own answer, so the call would never be made; name another step, or give `or` for the first time round",
                value.name
            );
            check.findings.error("J062", path.place, words);
        }
    }

    /// Consents aren't asked again for what takes a call back, so it tells the partner nothing new.
    fn its_own_alone(&self, check: &mut Check<'_, '_>, step: &Step, value: &Named, at: &[&str]) {
        let place = check.at(step, at);
        let words = match value.learnt() {
            None if value.is_of_patient() => {
                "what takes a call back tells nothing of the patient: consents may say no by then"
            }
            None => return,
            Some(path) => {
                let its_own = |paths: Vec<(&str, &str)>| paths.iter().all(|(of, _)| *of == step.id);
                if plainly(&path.text).is_some_and(its_own) {
                    return;
                }
                "what takes a call back names fixed words and what this call has learnt itself, plainly (`step.member`): the partner has those already"
            }
        };
        check.findings.error("J062", place, words);
    }

    /// The calls that are taken back when it fails.
    fn earlier(&self, check: &mut Check<'_, '_>, step: &Step) {
        let items: Vec<(String, Place)> = check
            .node(step, &[KIND.name, "takes_back"])
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|item| Some((item.text()?.to_owned(), item.place)))
            .collect();
        for (nth, (name, place)) in items.iter().enumerate() {
            let definition = check.definition;
            let (code, words) = match definition.step(name) {
                None => {
                    let steps = definition.steps.iter().map(|step| step.id.as_str());
                    let near = suggestion(name, steps);
                    ("J006", format!("there is no step `{name}`{near}"))
                }
                Some(_) if *name == step.id => (
                    "J062",
                    "a call that fails was not made, or is taken back by itself".to_owned(),
                ),
                Some(other) if !other.kind.can_be_taken_back() => (
                    "J062",
                    format!("`{name}` is no call with `compensate`, so it can't be taken back"),
                ),
                Some(_) if items[..nth].iter().any(|(earlier, _)| earlier == name) => {
                    ("J024", format!("`{name}` stands twice"))
                }
                Some(_) => continue,
            };
            check.findings.error(code, *place, words);
        }
    }
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

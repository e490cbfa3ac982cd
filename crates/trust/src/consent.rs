//! Consent: what a patient's `Consent` resources say (FHIR R4 `Consent`, 45 CFR 164.506, 164.508, 164.522).
//!
//! Two things are decided: whether care programmes may act and send messages ([`decide`],
//! `docs/decisions/0006-consent-first-rules.md`), and whether a row may be shown (`access.rs`,
//! `docs/decisions/0046-consent-row-by-row.md`). What the law of a place makes of it is in [`Rules`].
use fhir::{Resource, ResourceType, date};
use serde_json::{Value, json};

use crate::Purpose;
use crate::conventions::{CARE_MESSAGES, CONSENT_CATEGORY_SYSTEM};

mod access;
mod act;
mod channels;
mod deprivation;
mod draft;
mod hours;
mod labels;
mod messages;
mod postal;
mod provision;
mod proxies;
mod relations;
mod row;
mod rules;
mod sealed;
mod security;
mod told;
mod wishes;
mod worklist;

pub(crate) use access::Reach;
pub use access::{Access, Verdict as AccessVerdict};
pub use act::Act;
pub use deprivation::Deprivation;
pub use draft::{Draft, begins_ms};
pub use hours::{Hours, Waits, Window, quiet_until, zone_of};
pub(crate) use labels::Level;
pub use messages::{MessageRules, QuietHours, time_of_day};
pub use postal::{NoPostal, Postal, postal};
pub use provision::Asked;
pub use provision::gives;
pub(crate) use provision::{Related, related_of};
pub use proxies::{Basis, ProxyRules};
pub(crate) use proxies::{
    Standing, day as proxy_day, is_within_days as within_days, keeps_from_proxy,
};
pub(crate) use relations::By;
pub use row::Row;
pub(crate) use row::unversioned;
pub use rules::Rules;
pub use security::{BackupFloor, Floor, SecondFactorFloor, Security, SessionFloor};
pub use told::HighWaterMark;
pub(crate) use told::{take_back, tell};
pub use wishes::{Pressing, Sort, Topic, Unwelcome, Via, Wishes};
pub(crate) use worklist::Work;

pub use channels::{
    Channel, calls, channels, is_same_number, only_at, set_texts_wanted, set_wanted, texts,
};

const SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// What the consents say, with the reason in words and the deciding consent's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentDecision {
    /// Whether it is allowed.
    pub permitted: bool,
    /// Why, in words.
    pub reason: String,
    /// The id of the consent that decided, if one did.
    pub consent: Option<String>,
}

/// What one consent says.
#[derive(Debug, Clone, Copy)]
struct Verdict<'a> {
    permitted: bool,
    why: &'static str,
    /// When it was given; of two of the same time, the "no" counts.
    at_ms: i64,
    consent: &'a Resource,
}

impl Verdict<'_> {
    fn decision(&self) -> ConsentDecision {
        ConsentDecision {
            permitted: self.permitted,
            reason: self.why.to_owned(),
            consent: self.consent.id().map(str::to_owned),
        }
    }
}

/// Decides over all consents of one patient (any status), for a purpose, at a time: may care
/// programmes act for the patient, messages included?
///
/// Newest decisive consent wins: an active one whose provision period holds `now_ms` and whose
/// purpose (or no purpose) covers `purpose` decides by its `provision.type`; a consent for the
/// purpose that was withdrawn (`inactive`, `rejected`) with no newer active one means "no". A "no" in
/// a consent about care messages holds whatever the general consents say. With no consent at all the
/// rule pack decides; `us-hipaa` permits treatment, payment and operations (45 CFR 164.506(c)).
#[must_use]
pub fn decide(
    rules: &Rules,
    consents: &[Resource],
    purpose: Purpose,
    now_ms: i64,
) -> ConsentDecision {
    decide_act(rules, consents, &Act::any(purpose), now_ms)
}

/// The same of one thing that a programme does: a denial of a part counts where it may be one of this.
#[must_use]
pub fn decide_act(rules: &Rules, consents: &[Resource], act: &Act, now_ms: i64) -> ConsentDecision {
    let newest = |about_messages: bool| {
        newest(
            consents
                .iter()
                .filter(|consent| is_about_messages(consent) == about_messages)
                .filter_map(|consent| verdict(consent, act, now_ms)),
        )
    };
    match (newest(true), newest(false)) {
        (Some(messages), Some(general))
            if messages.permitted && !general.permitted && general.at_ms >= messages.at_ms =>
        {
            general.decision()
        }
        (Some(messages), _) => messages.decision(),
        (None, Some(general)) => general.decision(),
        (None, None) => without_consent(rules, act.purpose),
    }
}

/// Whether a consent may come to restrict access, at some time, for some purpose. Such consents have
/// a search token of their own, by which servers of before look for them: they see what denies as a whole.
pub(crate) fn may_deny_access(consent: &Resource) -> bool {
    fn denies(provision: &Value) -> bool {
        type_of(provision) == Some("deny") || nested(provision).any(denies)
    }
    let by_provision = consent.get("provision").is_some_and(denies);
    let narrows = consent.get("provision").is_some_and(narrowed);
    is_about_access(consent) && (by_provision || narrows || opted_out(consent))
}

/// The same of a use of the record that sends nothing: what a patient says of messages alone says nothing of it.
#[must_use]
pub fn decide_use(rules: &Rules, consents: &[Resource], act: &Act, now_ms: i64) -> ConsentDecision {
    let general = consents
        .iter()
        .filter(|consent| !is_about_messages(consent));
    match newest(general.filter_map(|consent| verdict(consent, act, now_ms))) {
        Some(verdict) => verdict.decision(),
        None => without_consent(rules, act.purpose),
    }
}

/// When consents may come to say something else by themselves: the next moment at which a period of a provision
/// begins or ends.
#[must_use]
pub fn next_change_ms(consents: &[Resource], now_ms: i64) -> Option<i64> {
    fn bounds(provision: &Value, visit: &mut dyn FnMut(i64)) {
        let bound = |name: &str| {
            let text = provision.get("period")?.get(name)?.as_str()?;
            date::parse(text)
        };
        if let Some(start) = bound("start") {
            visit(start.start_ms);
        }
        if let Some(end) = bound("end") {
            visit(end.end_ms);
        }
        nested(provision).for_each(|inner| bounds(inner, visit));
    }
    let mut next = None;
    for provision in consents.iter().filter_map(|one| one.get("provision")) {
        bounds(provision, &mut |at_ms| {
            if at_ms > now_ms && next.is_none_or(|next| at_ms < next) {
                next = Some(at_ms);
            }
        });
    }
    next
}

/// Whether a consent says "no" to anything, to anybody, at some time.
#[must_use]
pub fn says_no(consent: &Resource) -> bool {
    fn denies(provision: &Value) -> bool {
        type_of(provision) == Some("deny") || nested(provision).any(denies)
    }
    let root = consent.get("provision");
    let is_untyped = root.is_none_or(|root| type_of(root).is_none());
    root.is_some_and(|root| denies(root) || narrowed(root)) || is_untyped && opted_out(consent)
}

fn without_consent(rules: &Rules, purpose: Purpose) -> ConsentDecision {
    let (permitted, reason) = rules.without_consent(purpose);
    ConsentDecision {
        permitted,
        reason: reason.to_owned(),
        consent: None,
    }
}

fn newest<'a>(verdicts: impl Iterator<Item = Verdict<'a>>) -> Option<Verdict<'a>> {
    verdicts.max_by_key(|verdict| (verdict.at_ms, !verdict.permitted))
}

fn verdict<'a>(consent: &'a Resource, act: &Act, now_ms: i64) -> Option<Verdict<'a>> {
    let nothing = Value::Null;
    let provision = consent.get("provision").unwrap_or(&nothing);
    if !holds(provision, now_ms)
        || !covers(provision, act.purpose)
        || (is_of_other_scope(consent) && purposes(provision).next().is_none())
    {
        return None;
    }
    let base_denies = match type_of(provision) {
        Some("deny") => true,
        Some(_) => false,
        None => opted_out(consent),
    };
    // What nobody has verified, or something changes the meaning of, denies and doesn't permit.
    let exceptions = !is_unverified(consent)
        && consent.get("modifierExtension").is_none()
        && provision.get("modifierExtension").is_none();
    let (permitted, why) = match consent.text_at(&["status"])? {
        // A consent about messages is about all of them, whatever it says besides.
        "active"
            if base_denies
                && !is_about_messages(consent)
                && !act.may_be_denied_by(provision, None, exceptions)
                && !nested_denies(provision, None, act, (now_ms, exceptions)) =>
        {
            return None;
        }
        "active" if base_denies => (false, "the patient's consent denies it"),
        "active" if nested_denies(provision, None, act, (now_ms, exceptions)) => {
            (false, "an exception in the patient's consent denies it")
        }
        "active" if narrowed(provision) || is_unverified(consent) => return None,
        "active" => (true, "the patient's consent permits it"),
        // A permit of a part that is taken back, or was declined, is a "no" to that part.
        "inactive" | "rejected"
            if !base_denies
                && narrowed(provision)
                && !is_about_messages(consent)
                && !act.may_be_denied_by(provision, None, false) =>
        {
            return None;
        }
        "inactive" if !base_denies => (false, "the patient has withdrawn consent"),
        "rejected" if !base_denies => (false, "the patient has declined consent"),
        _ => return None,
    };
    let at_ms = if permitted {
        given_ms(consent)
    } else {
        refused_ms(consent, now_ms)
    };
    Some(Verdict {
        permitted,
        why,
        at_ms,
        consent,
    })
}

/// When a "yes" was given: at the beginning of its `dateTime`, but not after it was written down. A
/// mistyped year must not outlast every withdrawal until then.
fn given_ms(consent: &Resource) -> i64 {
    let given = date_at(consent, &["dateTime"]).map(|date| date.start_ms);
    match (given, written_ms(consent)) {
        (Some(given_ms), Some(written_ms)) => given_ms.min(written_ms),
        (given, written) => given.or(written).unwrap_or(i64::MIN),
    }
}

/// When a "no" was given: at the end of its `dateTime`, but not after it was written down. A date
/// without a time can be any moment of its day, and a "no" must not lose by that against a "yes" of
/// the same morning.
fn refused_ms(consent: &Resource, now_ms: i64) -> i64 {
    let written = written_ms(consent);
    // Taken back by a change to the consent that gave it: then the change is the withdrawal. What came
    // here withdrawn already, as from an import, has nothing but its date.
    if consent.text_at(&["status"]) != Some("active")
        && was_changed(consent)
        && let Some(written_ms) = written
    {
        return written_ms;
    }
    let (refused_ms, refused_by_ms) = refused_at(consent);
    refused_ms.unwrap_or_else(|| refused_by_ms.min(now_ms))
}

/// When the "no" of a consent in force was given; or, if nobody has written when it came, by when.
fn refused_at(consent: &Resource) -> (Option<i64>, i64) {
    let refused = date_at(consent, &["dateTime"]).map(|date| date.end_ms - 1);
    match (refused, written_ms(consent)) {
        (Some(refused_ms), Some(written_ms)) => (Some(refused_ms.min(written_ms)), i64::MAX),
        (Some(refused_ms), None) => (None, refused_ms),
        (None, written) => (Some(written.unwrap_or(i64::MIN)), i64::MAX),
    }
}

/// Whether somebody has tried to have it confirmed by the patient, and nobody has succeeded: then it
/// permits nothing.
fn is_unverified(consent: &Resource) -> bool {
    let mut tries = list(consent.get("verification")).peekable();
    tries.peek().is_some()
        && tries.all(|one| one.get("verified").and_then(Value::as_bool) != Some(true))
}

fn date_at(consent: &Resource, path: &[&str]) -> Option<date::PartialDate> {
    date::parse(consent.text_at(path)?)
}

/// When this version came into the store, by the store's own order, which never goes back.
fn written_ms(consent: &Resource) -> Option<i64> {
    date_at(consent, &["meta", "lastUpdated"]).map(|date| date.start_ms)
}

fn was_changed(consent: &Resource) -> bool {
    consent
        .text_at(&["meta", "versionId"])
        .is_some_and(|version| version != "1")
}

fn has_code(concept: &Value, system: &str, code: &str) -> bool {
    codings(concept).any(|coding| {
        coding.get("code").and_then(Value::as_str) == Some(code)
            && coding.get("system").and_then(Value::as_str) == Some(system)
    })
}

fn codings(concept: &Value) -> impl Iterator<Item = &Value> {
    list(concept.get("coding"))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn has_category(consent: &Resource, system: &str, code: &str) -> bool {
    list(consent.get("category")).any(|category| has_code(category, system, code))
}

fn is_about_messages(consent: &Resource) -> bool {
    has_category(consent, CONSENT_CATEGORY_SYSTEM, CARE_MESSAGES)
}

fn is_about_access(consent: &Resource) -> bool {
    let scope = consent
        .get("scope")
        .is_some_and(|scope| has_code(scope, SCOPE, "patient-privacy"));
    !is_about_messages(consent) && (scope || has_category(consent, SCOPE, "patient-privacy"))
}

/// Advance directives, research and consent to a treatment say nothing of privacy by themselves.
#[must_use]
pub fn is_of_other_scope(consent: &Resource) -> bool {
    !is_about_messages(consent)
        && consent.get("scope").is_some_and(|scope| {
            ["adr", "research", "treatment"]
                .iter()
                .any(|code| has_code(scope, SCOPE, code))
        })
}

fn opted_out(consent: &Resource) -> bool {
    consent.get("policyRule").is_some_and(|rule| {
        has_code(rule, ACT_CODE, "OPTOUT") || has_code(rule, ACT_CODE, "OPTOUTE")
    })
}

fn type_of(provision: &Value) -> Option<&str> {
    provision.get("type").and_then(Value::as_str)
}

fn nested(provision: &Value) -> impl Iterator<Item = &Value> {
    list(provision.get("provision"))
}

/// Whether a provision's period holds a time. A period that can't be read doesn't end.
fn holds(provision: &Value, now_ms: i64) -> bool {
    let end = |name: &str| {
        let text = provision.get("period")?.get(name)?.as_str()?;
        date::parse(text)
    };
    end("start").is_none_or(|start| start.start_ms <= now_ms)
        && end("end").is_none_or(|end| now_ms < end.end_ms)
}

/// The purposes that have a code.
fn purposes(provision: &Value) -> impl Iterator<Item = &Value> {
    let has_code = |purpose: &&Value| purpose.get("code").is_some_and(Value::is_string);
    list(provision.get("purpose")).filter(has_code)
}

fn covers(provision: &Value, asked: Purpose) -> bool {
    let mut named = purposes(provision).peekable();
    named.peek().is_none() || named.any(|one| provision::Named::of(one).is_for(asked, false))
}

/// Whether any provision within may say "no" now to what is done. `around` is whom the provision has from those
/// around it.
fn nested_denies<'p>(
    provision: &'p Value,
    around: Option<&'p Value>,
    act: &Act,
    (now_ms, exceptions): (i64, bool),
) -> bool {
    let around = act::named_actors(provision).or(around);
    nested(provision)
        .filter(|inner| holds(inner, now_ms) && covers(inner, act.purpose))
        .any(|inner| {
            // One without a type is taken for a "no".
            let denies = type_of(inner) != Some("permit");
            let exceptions = exceptions && inner.get("modifierExtension").is_none();
            denies && act.may_be_denied_by(inner, around, exceptions)
                || nested_denies(inner, around, act, (now_ms, exceptions))
        })
}

/// Whether a permit is for part of the record, or for some actors, only.
fn narrowed(provision: &Value) -> bool {
    ["actor", "action", "securityLabel", "class", "code", "data"]
        .iter()
        .any(|name| list(provision.get(*name)).next().is_some())
        || provision.get("dataPeriod").is_some()
}

/// An active consent of a patient about privacy, of a category (a `Coding`), that says nothing yet.
fn about_privacy(patient_id: &str, category: &Value, now_ms: u64) -> Resource {
    let mut consent = Resource::new(ResourceType::Consent);
    consent.set("status", "active".into());
    consent.set(
        "scope",
        json!({"coding": [{"system": SCOPE, "code": "patient-privacy"}]}),
    );
    consent.set("category", json!([{"coding": [category]}]));
    consent.set(
        "patient",
        json!({"reference": format!("Patient/{patient_id}")}),
    );
    consent.set("dateTime", date::instant(now_ms).into());
    consent
}

/// A consent to messages of care programmes, or its withdrawal, as [`crate::conventions`] shows it.
/// It has no id yet.
#[must_use]
pub fn care_messages(patient_id: &str, permitted: bool, now_ms: u64) -> Resource {
    let (kind, rule) = if permitted {
        ("permit", "OPTIN")
    } else {
        ("deny", "OPTOUT")
    };
    let category = json!({
        "system": CONSENT_CATEGORY_SYSTEM,
        "code": CARE_MESSAGES,
        "display": "Messages of care programmes",
    });
    let mut consent = about_privacy(patient_id, &category, now_ms);
    consent.set(
        "policyRule",
        json!({"coding": [{"system": ACT_CODE, "code": rule}]}),
    );
    consent.set(
        "provision",
        json!({
            "type": kind,
            "purpose": [Purpose::Treatment.coding(), Purpose::CareManagement.coding()],
        }),
    );
    consent
}

#[cfg(test)]
mod tests;

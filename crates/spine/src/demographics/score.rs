//! Whether a patient is who is looked for, and how closely.

use fhir::Resource;
use serde_json::Value;

use super::trace::{Pattern, Trace, folded_postcode, without_blanks};
use super::view::{self, Confidentiality};

/// How a parameter was met.
const JUST_SO: f64 = 1.0;
/// By a wildcard.
const WILD: f64 = 0.9;
/// By what was so before.
const BEFORE: f64 = 0.8;

/// Whether a search may not tell of a record: nobody very restricted, nobody restricted by where they are, none that
/// is no longer used. To be asked of the record that is hit, and of that which is told in its place.
#[must_use]
pub fn hides(trace: &Trace, resource: &Resource) -> bool {
    let level = Confidentiality::of(resource);
    let by_place = trace.postcode.is_some() || trace.practice.is_some();
    level >= Confidentiality::VeryRestricted || (level == Confidentiality::Restricted && by_place)
}

/// Whether a record is not looked at: one that may not be told of, but for one that is no longer used and leads to
/// another, as published.
#[must_use]
pub fn is_passed_over(trace: &Trace, resource: &Resource) -> bool {
    let leads_on = Confidentiality::of(resource) == Confidentiality::Redacted
        && view::replaced_by(resource).is_some();
    !leads_on && hides(trace, resource)
}

/// How closely a patient is who is looked for, up to 1; none who isn't, or whom the search may not find: nobody
/// whose record is very restricted, nobody restricted by where they are. Today is `YYYY-MM-DD`.
#[must_use]
pub fn score(trace: &Trace, resource: &Resource, today: &str) -> Option<f64> {
    if is_passed_over(trace, resource) {
        return None;
    }
    let mut met = Vec::new();
    let text = |path: &[&str]| resource.text_at(path);
    if trace.family.is_some() || !trace.given.is_empty() {
        met.push(names(trace, resource, today)?);
    }
    if let Some(gender) = &trace.gender {
        (text(&["gender"])? == gender).then(|| met.push(JUST_SO))?;
    }
    if let Some(days) = &trace.birth {
        days.hold(text(&["birthDate"])?)
            .then(|| met.push(JUST_SO))?;
    }
    if let Some(days) = &trace.death {
        days.hold(text(&["deceasedDateTime"])?)
            .then(|| met.push(JUST_SO))?;
    }
    if let Some(postcode) = &trace.postcode {
        let fits = |item: &Value| {
            let text = item["postalCode"].as_str()?;
            fits(postcode, &folded_postcode(text))
        };
        met.push(best(resource, "address", (trace.history, today), fits)?);
    }
    if let Some(practice) = &trace.practice {
        let practices = resource
            .get("generalPractitioner")
            .and_then(Value::as_array)?;
        let is = |item: &Value| {
            let code = item["identifier"]["value"].as_str();
            code.is_some_and(|code| code.eq_ignore_ascii_case(practice))
        };
        practices.iter().any(is).then(|| met.push(JUST_SO))?;
    }
    if let Some(email) = &trace.email {
        let fits = |item: &Value| {
            let is = item["system"] == "email" && item["value"].as_str()?.to_lowercase() == *email;
            is.then_some(JUST_SO)
        };
        met.push(best(resource, "telecom", (trace.history, today), fits)?);
    }
    if let Some(phone) = &trace.phone {
        let fits = |item: &Value| {
            let is = item["system"] == "phone" && without_blanks(item["value"].as_str()?) == *phone;
            is.then_some(JUST_SO)
        };
        met.push(best(resource, "telecom", (trace.history, today), fits)?);
    }
    let count = u32::try_from(met.len()).ok().filter(|count| *count > 0)?;
    let mean = met.iter().sum::<f64>() / f64::from(count);
    let score = (mean * 10_000.0).round() / 10_000.0;
    (!trace.exact || score >= JUST_SO).then_some(score)
}

fn fits(pattern: &Pattern, text: &str) -> Option<f64> {
    let how = if pattern.is_wild() { WILD } else { JUST_SO };
    pattern.fits(text).then_some(how)
}

/// Whether an item of a list is so now.
#[must_use]
pub fn is_current(item: &Value, today: &str) -> bool {
    let past = matches!(item["use"].as_str(), Some("old" | "maiden"));
    let ended = item["period"]["end"].as_str();
    !past && ended.is_none_or(|end| end.get(..10).unwrap_or(end) >= today)
}

/// How well the item of a list fits that fits best.
fn best(
    resource: &Resource,
    list: &str,
    (history, today): (bool, &str),
    fits: impl Fn(&Value) -> Option<f64>,
) -> Option<f64> {
    let items = resource.get(list).and_then(Value::as_array)?;
    let how = |item: &Value| {
        let how = fits(item)?;
        match (is_current(item, today), history) {
            (true, _) => Some(how),
            (false, true) => Some(how * BEFORE),
            (false, false) => None,
        }
    };
    items.iter().filter_map(how).max_by(f64::total_cmp)
}

/// How well one of a patient's names fits: family name and given names are those of one name.
fn names(trace: &Trace, resource: &Resource, today: &str) -> Option<f64> {
    best(resource, "name", (trace.history, today), |name| {
        let mut met = Vec::new();
        if let Some(family) = &trace.family {
            met.push(fits(family, name["family"].as_str()?)?);
        }
        let given: Vec<&str> = name["given"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (place, pattern) in trace.given.iter().enumerate() {
            let how = if place == 0 {
                fits(pattern, given.first()?)
            } else {
                let others = given.get(1..).unwrap_or_default();
                (others.iter().filter_map(|other| fits(pattern, other))).max_by(f64::total_cmp)
            };
            met.push(how?);
        }
        // The worst of them is that of the whole.
        met.into_iter().min_by(f64::total_cmp)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::Rules;
    use super::super::trace::Mode;
    use super::super::view::CONFIDENTIALITY;
    use super::*;

    const TODAY: &str = "2026-03-01";

    fn patient(code: &str) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "meta": {"security": [{"system": CONFIDENTIALITY, "code": code}]},
            "name": [
                {"use": "usual", "given": ["Jane Marie", "Anne", "Rose"], "family": "Smith"},
                {"use": "maiden", "given": ["Jane Marie"], "family": "O'Reilly"},
                {"use": "temp", "given": ["Jo"], "family": "Later", "period": {"end": "2026-02-28"}},
            ],
            "gender": "female", "birthDate": "2010-10-22", "deceasedDateTime": "2020-01-01T10:00:00+00:00",
            "address": [
                {"use": "home", "postalCode": "LS1 6AE"},
                {"use": "old", "postalCode": "DN16 3SS"},
            ],
            "telecom": [
                {"system": "phone", "value": "01632 960587"},
                {"system": "email", "value": "Jane.Smith@example.com"},
                {"system": "email", "value": "before@example.com", "period": {"end": "2020-01-01"}},
            ],
            "generalPractitioner": [{"identifier": {"value": "Y12345"}}],
        }))
        .expect("a patient")
    }

    fn scored(code: &str, query: &str) -> Option<f64> {
        let rules = Rules::named("england").expect("rules");
        let query = format!("birthdate=eq2010-10-22&{query}");
        let pairs: Vec<_> = query
            .split('&')
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let trace = Trace::parse(&rules, Mode::Worker, &pairs).expect(&query);
        score(&trace, &patient(code), TODAY)
    }

    #[test]
    fn who_is_found() {
        for (query, expected) in [
            ("family=smith", Some(1.0)),
            ("family=Smithe", None),
            ("family=Sm*", Some(0.95)),
            ("family=Sm*&_exact-match=true", None),
            ("family=smith&_exact-match=true", Some(1.0)),
            ("family=smith&given=jane marie", Some(1.0)),
            ("family=smith&given=jane", None),
            ("family=smith&given=jan*", Some(0.95)),
            // A wildcard is of the first given name.
            ("family=smith&given=ann*", None),
            ("family=smith&given=jane marie&given=rose", Some(1.0)),
            ("family=smith&given=jane marie&given=kate", None),
            ("family=smith&gender=female", Some(1.0)),
            ("family=smith&gender=male", None),
            ("family=smith&death-date=eq2020-01-01", Some(1.0)),
            ("family=smith&death-date=ge2020-01-02", None),
            ("family=smith&address-postalcode=ls16ae", Some(1.0)),
            ("family=smith&address-postalcode=LS1 6AE", Some(1.0)),
            ("family=smith&address-postalcode=LS*", Some(0.9667)),
            ("family=smith&address-postalcode=DN16 3SS", None),
            (
                "family=smith&address-postalcode=DN16 3SS&_history=true",
                Some(0.9333),
            ),
            ("family=smith&general-practitioner=y12345", Some(1.0)),
            ("family=smith&general-practitioner=Y1234", None),
            ("family=smith&email=JANE.smith@example.com", Some(1.0)),
            ("family=smith&email=before@example.com", None),
            (
                "family=smith&email=before@example.com&_history=true",
                Some(0.9333),
            ),
            ("family=smith&phone=01632960587", Some(1.0)),
            ("family=smith&phone=0163296058", None),
            ("family=O'Reilly", None),
            ("family=O'Reilly&_history=true", Some(0.9)),
            ("family=Later", None),
            ("family=Later&_history=true", Some(0.9)),
        ] {
            assert_eq!(scored("U", query), expected, "{query}");
        }
    }

    #[test]
    fn whom_confidentiality_hides() {
        let place = "family=smith&address-postalcode=LS1 6AE";
        let practice = "family=smith&general-practitioner=Y12345";
        for (code, query, expected) in [
            ("R", "family=smith", true),
            ("R", "family=smith&email=jane.smith@example.com", true),
            ("R", place, false),
            ("R", practice, false),
            ("V", "family=smith", false),
            ("REDACTED", "family=smith", false),
            ("U", place, true),
            ("U", practice, true),
        ] {
            assert_eq!(scored(code, query).is_some(), expected, "{code} {query}");
        }
    }
}

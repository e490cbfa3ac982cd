//! What resources say, in words: values, answers, the way of a message, purposes.

use fhir::{Resource, human};
use maud::{Markup, html};
use serde_json::Value;
use trust::conventions::{CARE_MESSAGES, CONSENT_CATEGORY_SYSTEM, NO_RECEIPT};
use trust::{Purpose, Purposes};

use crate::layout::{self, State};
use crate::time::{Times, fhir_time};

/// The value of an observation in words; of a blood pressure its parts.
pub(crate) fn value_of(resource: &Resource) -> String {
    let one = |value: &Value| {
        if value["valueQuantity"].is_object() {
            rounded(&value["valueQuantity"])
        } else if value["valueCodeableConcept"].is_object() {
            human::codeable(&value["valueCodeableConcept"])
        } else if let Some(text) = value["valueString"]
            .as_str()
            .or_else(|| value["valueDateTime"].as_str())
        {
            text.to_owned()
        } else {
            value["valueInteger"]
                .as_i64()
                .map(|number| number.to_string())
                .or_else(|| {
                    value["valueBoolean"]
                        .as_bool()
                        .map(|yes| if yes { "yes" } else { "no" }.to_owned())
                })
                .unwrap_or_default()
        }
    };
    let whole = one(resource.as_value());
    if !whole.is_empty() {
        return whole;
    }
    let parts = resource
        .get("component")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    parts
        .iter()
        .map(|part| format!("{} {}", human::codeable(&part["code"]), one(part)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A quantity with at most two decimals: instruments don't measure fourteen.
fn rounded(quantity: &Value) -> String {
    let exact = human::quantity(quantity);
    let Some(number) = quantity["value"].as_f64() else {
        return exact;
    };
    let digits = quantity["value"].to_string();
    if digits
        .split_once('.')
        .is_none_or(|(_, decimals)| decimals.len() <= 2)
    {
        return exact;
    }
    exact.replacen(&digits, &format!("{number:.2}"), 1)
}

pub(super) fn status_words(status: &str) -> String {
    status.replace('-', " ")
}

/// Why a message did not go out, in words.
fn not_sent(resource: &Resource) -> String {
    let words = resource
        .text_at(&["statusReason", "text"])
        .unwrap_or_default();
    if !words.is_empty() {
        return words.to_owned();
    }
    let code = resource
        .text_at(&["statusReason", "coding", "0", "code"])
        .unwrap_or("unknown");
    match code {
        "consent" => "the patient's consent does not allow it".to_owned(),
        "preference" => "the patient does not want this channel".to_owned(),
        "unwelcome" => "the patient does not want messages of this kind by this channel".to_owned(),
        "only-important" => {
            "the patient wants nothing but what is important by this channel".to_owned()
        }
        "no-address" => "there is no address".to_owned(),
        "no-sign-in" => "there is no birth date to check a sign-in link with".to_owned(),
        "shared-number" => "somebody else has the telephone too".to_owned(),
        "deceased" => "the patient has died".to_owned(),
        "admitted" => "the patient was in hospital".to_owned(),
        "expired" => "it was no longer of use".to_owned(),
        NO_RECEIPT => "no receipt came, so it may have arrived".to_owned(),
        "permanent-failure" => "the receiving server refused it".to_owned(),
        "retries-exhausted" => "the receiving server could not be reached".to_owned(),
        "unprintable" => "it could not be printed or spoken".to_owned(),
        "no-contract" => "no partner is bound who would carry it".to_owned(),
        "not-cleared" => "the partner is not cleared for it".to_owned(),
        "no-answer" => "nobody answered the telephone".to_owned(),
        "call-refused" => "whoever answered did not want the call".to_owned(),
        "returned" => "it was sent and came back".to_owned(),
        other => status_words(other),
    }
}

/// Whether a message may have arrived of which nothing was heard.
fn may_be_there(resource: &Resource) -> bool {
    let codings = resource.at(&["statusReason", "coding"]);
    let codings = codings.and_then(Value::as_array);
    let mut codings = codings.into_iter().flatten();
    codings.any(|coding| coding["code"] == NO_RECEIPT)
}

/// A notification to a patient's devices.
const PUSH: &str = "Notification";

/// The medium of a message in a word.
pub(super) fn medium(resource: &Resource) -> &'static str {
    match resource.text_at(&["medium", "0", "coding", "0", "code"]) {
        Some("EMAILWRIT") => "E-mail",
        Some("PORTAL") => "Portal",
        Some("SMSWRIT") => "Text message",
        Some("PUSH") => PUSH,
        Some("MAILWRIT") => "Letter",
        Some("PHONE") => "Phone",
        _ => "Message",
    }
}

/// Where a message is on its way.
pub(crate) fn delivery(times: &Times, resource: &Resource) -> Markup {
    let at = |member: &str| {
        resource
            .text_at(&[member])
            .and_then(|text| fhir_time(times, text))
            .map(|(ms, ..)| ms)
    };
    match resource.text_at(&["status"]).unwrap_or_default() {
        "completed" => html! {
            // Whether a device has shown it isn't known.
            (layout::state(State::Done, if medium(resource) == PUSH { "Taken by the push service" } else { "Delivered" }))
            @if let Some(read) = at("received") { span class="quiet small" { " read " (times.ago(read)) } }
        },
        // It may be there, and nobody knows, whatever else is said of it.
        "not-done" | "stopped" if may_be_there(resource) => {
            html! { (layout::state(State::Waiting, "No receipt came")) }
        }
        "not-done" | "stopped" => {
            html! { (layout::state(State::Failed, "Not sent")) span class="small" { ": " (not_sent(resource)) } }
        }
        "preparation" | "in-progress" => layout::state(State::Running, "On its way"),
        "on-hold" => layout::state(State::Waiting, "Held back"),
        other => layout::state(State::Waiting, &status_words(other)),
    }
}

/// The words of a message.
pub(crate) fn payload(resource: &Resource) -> Vec<&str> {
    resource
        .get("payload")
        .and_then(Value::as_array)
        .map(|parts| {
            parts
                .iter()
                .filter_map(|part| part["contentString"].as_str())
                .collect()
        })
        .unwrap_or_default()
}

/// Question and answer, in order, groups opened up.
pub(crate) fn answers(response: &Resource) -> Vec<(String, String)> {
    fn walk(items: &Value, out: &mut Vec<(String, String)>) {
        for item in items.as_array().into_iter().flatten() {
            let answers: Vec<String> = item["answer"]
                .as_array()
                .into_iter()
                .flatten()
                .map(answer_words)
                .collect();
            if !answers.is_empty() {
                let question = item["text"]
                    .as_str()
                    .or_else(|| item["linkId"].as_str())
                    .unwrap_or_default();
                out.push((question.to_owned(), answers.join(", ")));
            }
            walk(&item["item"], out);
        }
    }
    let mut out = Vec::new();
    walk(response.get("item").unwrap_or(&Value::Null), &mut out);
    out
}

fn answer_words(answer: &Value) -> String {
    if let Some(yes) = answer["valueBoolean"].as_bool() {
        return if yes { "yes" } else { "no" }.to_owned();
    }
    if answer["valueCoding"].is_object() {
        return human::codeable(&answer["valueCoding"]);
    }
    if answer["valueQuantity"].is_object() {
        return rounded(&answer["valueQuantity"]);
    }
    [
        "valueString",
        "valueDate",
        "valueDateTime",
        "valueTime",
        "valueUri",
    ]
    .iter()
    .find_map(|member| answer[*member].as_str().map(str::to_owned))
    .or_else(|| {
        ["valueInteger", "valueDecimal"]
            .iter()
            .find_map(|member| answer[*member].as_number().map(ToString::to_string))
    })
    .unwrap_or_default()
}

/// Whether a consent is about messages of care programmes and nothing else.
pub(crate) fn is_about_messages(consent: &Resource) -> bool {
    let categories = consent.get("category").and_then(Value::as_array);
    categories
        .into_iter()
        .flatten()
        .flat_map(|category| category["coding"].as_array())
        .flatten()
        .any(|coding| {
            coding["system"] == CONSENT_CATEGORY_SYSTEM && coding["code"] == CARE_MESSAGES
        })
}

/// The purposes that a consent names, in words; those of the organisation's own are among the known.
pub(crate) fn consent_words(consent: &Resource, known: &Purposes) -> String {
    let purposes: Vec<String> = consent
        .at(&["provision", "purpose"])
        .and_then(Value::as_array)
        .map(|purposes| purposes.iter().map(|one| coded(one, known)).collect())
        .unwrap_or_default();
    if purposes.is_empty() {
        "all purposes".to_owned()
    } else {
        purposes.join(", ")
    }
}

/// A purpose of use in words.
pub(crate) fn purpose_words(code: &str) -> &str {
    match code {
        "TREAT" => "treatment",
        "CAREMGT" => "care management",
        "HPAYMT" => "payment",
        "HOPERAT" => "operations",
        "ETREAT" => "an emergency",
        "PATRQT" => "the patient's own request",
        "HRESCH" => "research",
        "SYSADMIN" => "administration",
        other => other,
    }
}

/// The same of a purpose that is known, an organisation's own among them.
pub(crate) fn named(purpose: Purpose) -> &'static str {
    let of_hl7 = || purpose_words(purpose.code());
    purpose.own().map_or_else(of_hl7, |own| own.display())
}

/// The same of a `Coding`: of the organisation's own with their words and codes, of all that isn't known by the code. The
/// coding's own words are not shown: whoever wrote them may call one purpose by another's name.
pub(crate) fn coded(coding: &Value, known: &Purposes) -> String {
    let text = |name: &str| coding.get(name).and_then(Value::as_str);
    let code = text("code").unwrap_or("something");
    let own = text("system").and_then(|system| known.parse(&format!("{system}|{code}")));
    match own {
        Some(own) => format!("{} ({code})", named(own)),
        None => purpose_words(code).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resource(value: Value) -> Resource {
        Resource::from_value(value).unwrap()
    }

    #[test]
    fn observations_in_words() {
        for (value, words) in [
            (
                json!({ "valueQuantity": { "value": 82.5, "unit": "kg" } }),
                "82.5 kg",
            ),
            (
                json!({ "valueQuantity": { "value": 176.354_998_667, "unit": "cm" } }),
                "176.35 cm",
            ),
            (
                json!({ "valueCodeableConcept": { "text": "Never smoker" } }),
                "Never smoker",
            ),
            (
                json!({ "component": [{ "code": { "text": "Systolic" }, "valueQuantity": { "value": 120, "unit": "mmHg" } }, { "code": { "text": "Diastolic" }, "valueQuantity": { "value": 80, "unit": "mmHg" } }] }),
                "Systolic 120 mmHg, Diastolic 80 mmHg",
            ),
            (json!({ "valueBoolean": true }), "yes"),
            (json!({}), ""),
        ] {
            let mut value = value;
            value["resourceType"] = json!("Observation");
            assert_eq!(value_of(&resource(value)), words);
        }
    }

    #[test]
    fn purposes_are_in_the_words_of_who_knows_them() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put(
            "purposes.toml",
            "[[purpose]]\nsystem = 'urn:purposes'\ncode = 'FooBar'\ndisplay = 'the FooBar study'\nis = 'HRESCH'\n",
        );
        put(
            "a.cedar",
            "@id(\"a\") @says(\"a\") forbid (principal, action, resource);",
        );
        let Ok(set) = trust::PolicySet::load(Some(folder.path())) else {
            panic!("a set");
        };
        let hl7 = Purpose::SYSTEM;
        for (coding, words) in [
            (
                json!({"system": hl7, "code": "HRESCH", "display": "treatment"}),
                "research",
            ),
            (json!({"code": "TREAT"}), "treatment"),
            (
                json!({"system": hl7, "code": "HMARKT", "display": "treatment"}),
                "HMARKT",
            ),
            (
                json!({"system": "urn:purposes", "code": "FooBar", "display": "treatment"}),
                "the FooBar study (FooBar)",
            ),
            (
                json!({"system": "urn:other", "code": "FooBar", "display": "treatment"}),
                "FooBar",
            ),
            (json!({"code": "FooBar", "display": "treatment"}), "FooBar"),
            (json!({"display": "treatment"}), "something"),
        ] {
            let of = json!({"resourceType": "Consent", "provision": {"purpose": [coding]}});
            assert_eq!(consent_words(&resource(of), set.purposes()), words);
        }
    }

    #[test]
    fn answers_are_read_through_groups() {
        let response = resource(
            json!({ "resourceType": "QuestionnaireResponse", "status": "completed", "item": [
            { "linkId": "g", "item": [{ "linkId": "breathless", "text": "Out of breath?", "answer": [{ "valueBoolean": true }] }] },
            { "linkId": "score", "answer": [{ "valueInteger": 7 }] },
            { "linkId": "empty" },
        ] }),
        );
        assert_eq!(
            answers(&response),
            [
                ("Out of breath?".to_owned(), "yes".to_owned()),
                ("score".to_owned(), "7".to_owned())
            ]
        );
    }
}

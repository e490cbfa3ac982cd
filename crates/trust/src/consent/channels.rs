//! The ways to reach a patient.
use fhir::Resource;
use serde_json::{Value, json};

use super::postal::asks_for_one;
use super::{holds, list};
use crate::conventions::{CONFIDENTIAL_EXTENSION, NOT_WANTED_EXTENSION};

/// The patient's ways to be reached, in the order in which they should be tried: by
/// `Patient.telecom.rank`, then e-mail, SMS, portal, phone. The portal is always there. What the
/// patient has switched off ([`NOT_WANTED_EXTENSION`]) is there too, as not wanted.
///
/// Addresses of `use` `old`, and those whose `period` doesn't hold `now_ms`, are left out: they may be
/// somebody else's by now. Where the patient has asked for confidential communications
/// ([`CONFIDENTIAL_EXTENSION`]), there are only the ways that they asked for, and the portal.
#[must_use]
pub fn channels(patient: &Resource, now_ms: i64) -> Vec<Channel> {
    const ORDER: [&str; 4] = ["email", "sms", "portal", "phone"];
    let place = |kind: &str| ORDER.iter().position(|other| *other == kind);
    let confidential = asks_for_one(patient);
    let mut found: Vec<(u64, usize, Channel)> = Vec::new();
    for telecom in list(patient.get("telecom")) {
        let text = |name: &str| telecom.get(name).and_then(Value::as_str);
        let (Some(kind), Some(address)) = (text("system"), text("value")) else {
            continue;
        };
        let Some(place) = place(kind) else {
            continue;
        };
        if confidential && !is_extended(telecom, CONFIDENTIAL_EXTENSION) {
            continue;
        }
        if address.trim().is_empty() || text("use") == Some("old") || !holds(telecom, now_ms) {
            continue;
        }
        let unwanted = is_extended(telecom, NOT_WANTED_EXTENSION);
        // Rank is a positive integer, 1 the most preferred.
        let rank = telecom
            .get("rank")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX);
        found.push((
            rank,
            place,
            Channel {
                kind: kind.to_owned(),
                address: address.trim().to_owned(),
                wanted: !unwanted,
                mobile: text("use") == Some("mobile"),
            },
        ));
    }
    let portal = Channel {
        kind: "portal".to_owned(),
        address: String::new(),
        wanted: true,
        mobile: false,
    };
    found.push((u64::MAX, place("portal").unwrap_or_default(), portal));
    found.sort_by_key(|(rank, place, _)| (*rank, *place));
    found.into_iter().map(|(_, _, channel)| channel).collect()
}

/// Where alone a patient may be reached, if they have asked for that (45 CFR 164.522(b)): ways with an address;
/// none of them where all are over, and the portal is what is left.
#[must_use]
pub fn only_at(patient: &Resource, now_ms: i64) -> Option<Vec<Channel>> {
    asks_for_one(patient).then(|| {
        let mut channels = channels(patient, now_ms);
        channels.retain(|channel| !channel.address.is_empty());
        channels
    })
}

pub(super) fn is_extended(telecom: &Value, url: &str) -> bool {
    list(telecom.get("extension")).any(|extension| {
        extension.get("url").and_then(Value::as_str) == Some(url)
            && extension.get("valueBoolean") == Some(&Value::Bool(true))
    })
}

/// A way to reach a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `email`, `sms`, `phone` or `portal`.
    pub kind: String,
    /// Address; empty for the portal.
    pub address: String,
    /// Whether the patient wants it used.
    pub wanted: bool,
    /// Whether it is that of a telephone which they carry with them.
    pub mobile: bool,
}

/// Digits of a number that are compared at least: the shortest numbers of a subscriber.
const SAME_DIGITS_MIN: usize = 7;

/// The numbers that text messages may go to, in order: those that are there for them (`sms`), and mobile telephones. Of
/// a number that is there as both, the entry for text messages says whether they are wanted.
#[must_use]
pub fn texts(patient: &Resource, now_ms: i64) -> Vec<Channel> {
    let mut found = channels(patient, now_ms);
    let said: Vec<String> = (found.iter())
        .filter(|channel| channel.kind == "sms")
        .map(|channel| channel.address.clone())
        .collect();
    found.retain(|channel| match channel.kind.as_str() {
        "sms" => true,
        "phone" if channel.mobile => {
            let mut said = said.iter();
            !said.any(|number| is_same_number(number, &channel.address))
        }
        _ => false,
    });
    found
}

/// The numbers that may be called, in order.
#[must_use]
pub fn calls(patient: &Resource, now_ms: i64) -> Vec<Channel> {
    let mut found = channels(patient, now_ms);
    found.retain(|channel| channel.kind == "phone");
    found
}

/// Whether two numbers are one, as far as can be said without knowing the country: all digits of the shorter one are the
/// last of the other.
#[must_use]
pub fn is_same_number(one: &str, other: &str) -> bool {
    let digits = |text: &str| -> String {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        digits.trim_start_matches('0').to_owned()
    };
    let (one, other) = (digits(one), digits(other));
    let (short, long) = if one.len() < other.len() {
        (one, other)
    } else {
        (other, one)
    };
    short == long || (short.len() >= SAME_DIGITS_MIN && long.ends_with(&short))
}

/// Says of every entry of a number whether text messages are wanted there. What is said of a telephone's entry is about
/// calls, so a number that has no entry for text messages gets one where they are not wanted, or calls are not. Whether
/// something changed.
pub fn set_texts_wanted(
    patient: &mut Resource,
    is_it: impl Fn(&str) -> bool,
    wanted: bool,
) -> bool {
    let Some(Value::Array(telecoms)) = patient.members_mut().get_mut("telecom") else {
        return false;
    };
    let is_of = |telecom: &Value, kind: &str| {
        let text = |name: &str| telecom.get(name).and_then(Value::as_str);
        text("system") == Some(kind) && text("value").is_some_and(&is_it)
    };
    let before = telecoms.clone();
    let phones: Vec<Value> = (telecoms.iter())
        .filter(|telecom| is_of(telecom, "phone") && telecom["use"] == "mobile")
        .cloned()
        .collect();
    for telecom in telecoms.iter_mut().filter(|telecom| is_of(telecom, "sms")) {
        set_wanted(telecom, wanted);
    }
    for mut phone in phones {
        // What is said of calls says the same of texts already.
        if wanted && !is_extended(&phone, NOT_WANTED_EXTENSION) {
            continue;
        }
        // It counts as long as the telephone's own entry does, and where that alone may be used.
        let is_there = telecoms.iter().any(|telecom| {
            is_of(telecom, "sms")
                && telecom.get("period") == phone.get("period")
                && is_extended(telecom, CONFIDENTIAL_EXTENSION)
                    == is_extended(&phone, CONFIDENTIAL_EXTENSION)
        });
        if !is_there && let Some(members) = phone.as_object_mut() {
            members.insert("system".to_owned(), Value::from("sms"));
            members.remove("id");
            set_wanted(&mut phone, wanted);
            telecoms.push(phone);
        }
    }
    *telecoms != before
}

/// Says whether a channel is wanted.
pub fn set_wanted(telecom: &mut Value, wanted: bool) {
    let Some(telecom) = telecom.as_object_mut() else {
        return;
    };
    let mut extensions: Vec<Value> = telecom
        .get("extension")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    extensions.retain(|extension| extension["url"] != NOT_WANTED_EXTENSION);
    if !wanted {
        extensions.push(json!({ "url": NOT_WANTED_EXTENSION, "valueBoolean": true }));
    }
    if extensions.is_empty() {
        telecom.remove("extension");
    } else {
        telecom.insert("extension".to_owned(), Value::Array(extensions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-06-15T12:00Z.
    const NOW_MS: i64 = 1_781_524_800_000;

    #[test]
    fn channels_in_order() {
        let patient = |telecom: Value| {
            Resource::from_value(json!({"resourceType": "Patient", "id": "p", "telecom": telecom}))
                .unwrap()
        };
        let shown = |telecom: Value| {
            channels(&patient(telecom), NOW_MS)
                .into_iter()
                .map(|channel| format!("{}:{}:{}", channel.kind, channel.address, channel.wanted))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown(json!([])), "portal::true");
        assert_eq!(
            shown(
                json!([{"system": "phone", "value": "1"}, {"system": "sms", "value": "2"}, {"system": "email", "value": " a@example.com "}])
            ),
            "email:a@example.com:true sms:2:true portal::true phone:1:true"
        );
        assert_eq!(
            shown(
                json!([{"system": "email", "value": "a@example.com", "rank": 2}, {"system": "phone", "value": "1", "rank": 1}])
            ),
            "phone:1:true email:a@example.com:true portal::true"
        );
        assert_eq!(
            shown(json!([
                {"system": "email", "value": "old@example.com", "use": "old"},
                {"system": "email", "value": "over@example.com", "period": {"end": "2025"}},
                {"system": "fax", "value": "3"},
                {"system": "email"},
                {"system": "email", "value": ""},
                {"system": "email", "value": "no@example.com", "extension": [{"url": NOT_WANTED_EXTENSION, "valueBoolean": true}]},
                {"system": "sms", "value": "4", "extension": [{"url": NOT_WANTED_EXTENSION, "valueBoolean": false}]},
            ])),
            "email:no@example.com:false sms:4:true portal::true"
        );
        // Confidential communications: no other way, and none at all once the one is over.
        let asked = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
        let home = json!({"system": "email", "value": "home@example.com", "rank": 1});
        let apart = json!({"system": "email", "value": "apart@example.com", "extension": asked});
        assert_eq!(
            shown(json!([home, {"system": "phone", "value": "1"}, apart])),
            "email:apart@example.com:true portal::true"
        );
        let mut over = apart.clone();
        over["period"] = json!({"end": "2025"});
        assert_eq!(shown(json!([home, over])), "portal::true");
        let only = |telecom: Value| only_at(&patient(telecom), NOW_MS);
        assert_eq!(only(json!([home])), None);
        assert_eq!(only(json!([home, over])).map(|all| all.len()), Some(0));
        let found = only(json!([home, apart])).unwrap();
        assert_eq!(found[0].address, "apart@example.com");
        // Moved house: the address of now, not the first.
        assert_eq!(
            shown(json!([
                {"system": "email", "value": "before@example.com", "period": {"end": "2026-05-31"}},
                {"system": "email", "value": "later@example.com", "period": {"start": "2026-07-01"}},
                {"system": "email", "value": "now@example.com", "period": {"start": "2026-06-01"}},
            ])),
            "email:now@example.com:true portal::true"
        );
    }

    #[test]
    fn numbers_for_texts() {
        let no = json!([{"url": NOT_WANTED_EXTENSION, "valueBoolean": true}]);
        let shown = |telecom: &Value| {
            let patient = json!({"resourceType": "Patient", "id": "p", "telecom": telecom});
            let patient = Resource::from_value(patient).unwrap();
            let all = texts(&patient, NOW_MS).into_iter();
            let all = all.map(|one| format!("{}:{}:{}", one.kind, one.address, one.wanted));
            all.collect::<Vec<_>>().join(" ")
        };
        let table = [
            (json!([]), ""),
            (
                json!([{"system": "phone", "value": "+1 617 555 0100", "use": "home"}]),
                "",
            ),
            (json!([{"system": "phone", "value": "+1 617 555 0100"}]), ""),
            (
                json!([{"system": "phone", "value": "+1 617 555 0100", "use": "mobile"}]),
                "phone:+1 617 555 0100:true",
            ),
            (
                json!([
                    {"system": "phone", "value": "617-555-0100", "use": "mobile", "rank": 1},
                    {"system": "sms", "value": "+16175550100", "extension": no}
                ]),
                "sms:+16175550100:false",
            ),
            (
                json!([
                    {"system": "phone", "value": "+16175550199", "use": "mobile", "rank": 1},
                    {"system": "sms", "value": "+16175550100"}
                ]),
                "phone:+16175550199:true sms:+16175550100:true",
            ),
            (
                json!([{"system": "sms", "value": "1", "use": "old"}, {"system": "sms", "value": "2", "period": {"end": "2025"}}]),
                "",
            ),
        ];
        for (telecom, expected) in &table {
            assert_eq!(shown(telecom), *expected, "{telecom}");
        }
    }

    #[test]
    fn a_word_about_texts_is_about_every_entry_of_the_number_and_about_no_calls() {
        let is_it = |value: &str| is_same_number(value, "+16175550100");
        let asked = json!([{"url": CONFIDENTIAL_EXTENSION, "valueBoolean": true}]);
        let mut patient =
            Resource::from_value(json!({"resourceType": "Patient", "id": "p", "telecom": [
                {"system": "phone", "value": "617-555-0100", "use": "mobile", "extension": asked},
                {"system": "phone", "value": "617-555-0100", "use": "home"},
                {"system": "sms", "value": "+1 617 555 0199"},
                {"system": "email", "value": "a@example.com"}
            ]}))
            .unwrap();
        let wanted = |patient: &Resource| {
            let all = channels(patient, NOW_MS).into_iter();
            let all = all.map(|one| format!("{}:{}", one.kind, one.wanted));
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(wanted(&patient), "portal:true phone:true");
        assert!(set_texts_wanted(&mut patient, is_it, false));
        assert_eq!(wanted(&patient), "sms:false portal:true phone:true");
        assert_eq!(texts(&patient, NOW_MS).len(), 1);
        assert!(!set_texts_wanted(&mut patient, is_it, false), "said twice");
        assert!(set_texts_wanted(&mut patient, is_it, true));
        assert_eq!(wanted(&patient), "sms:true portal:true phone:true");
        assert!(!set_texts_wanted(&mut patient, |_| false, false));
    }

    #[test]
    fn numbers_are_the_same_by_their_last_digits() {
        for (one, other, same) in [
            ("+16175550100", "617-555-0100", true),
            ("+16175550100", "555 0100", true),
            ("+491701234567", "0170 1234567", true),
            ("+16175550100", "+16175550101", false),
            ("+16175550100", "0100", false),
            ("+16175550100", "", false),
            ("911", "911", true),
        ] {
            assert_eq!(is_same_number(one, other), same, "{one} {other}");
            assert_eq!(is_same_number(other, one), same, "{other} {one}");
        }
    }
}

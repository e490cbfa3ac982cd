//! The ways to reach a patient.
use fhir::Resource;
use serde_json::Value;

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
    let confidential =
        list(patient.get("telecom")).any(|telecom| is_extended(telecom, CONFIDENTIAL_EXTENSION));
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
            },
        ));
    }
    let portal = Channel {
        kind: "portal".to_owned(),
        address: String::new(),
        wanted: true,
    };
    found.push((u64::MAX, place("portal").unwrap_or_default(), portal));
    found.sort_by_key(|(rank, place, _)| (*rank, *place));
    found.into_iter().map(|(_, _, channel)| channel).collect()
}

/// Where alone a patient may be reached, if they have asked for that (45 CFR 164.522(b)): ways with an address;
/// none of them where all are over, and the portal is what is left.
#[must_use]
pub fn only_at(patient: &Resource, now_ms: i64) -> Option<Vec<Channel>> {
    let has_asked =
        list(patient.get("telecom")).any(|telecom| is_extended(telecom, CONFIDENTIAL_EXTENSION));
    has_asked.then(|| {
        let mut channels = channels(patient, now_ms);
        channels.retain(|channel| !channel.address.is_empty());
        channels
    })
}

fn is_extended(telecom: &Value, url: &str) -> bool {
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}

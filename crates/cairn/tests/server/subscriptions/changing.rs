//! While what hides and cuts rows changes by chance, each is sent what reading a row at that moment shows them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::{FHIR, House, PAYLOAD, Receiver, house_of, json_of, observation, patient, put};
use super::{revoke, subscription, until_waiting, with};
use crate::smart::System;

/// A code that no consent here is about.
const SEEN: &str = "8310-5";
const CODES: [&str; 3] = ["29463-7", "8867-4", "75622-1"];
const STATUSES: [&str; 3] = ["final", "preliminary", "amended"];
const STEPS: usize = 40;
/// After so many of them a system is revoked.
const REVOKED_AFTER: usize = 30;

/// Numbers by chance, from a seed.
struct Dice(u64);

impl Dice {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let sides = u64::try_from(all.len()).expect("a few");
        all[usize::try_from((self.0 >> 33) % sides).expect("small")]
    }
}

/// What a patient keeps from everybody: this code, or this label.
fn keeps(patient: &str, what: Option<Value>) -> Value {
    let status = if what.is_some() { "active" } else { "inactive" };
    let mut exception = what.unwrap_or(json!({}));
    exception["type"] = json!("deny");
    json!({"resourceType": "Consent", "id": format!("c-{patient}"), "status": status, "dateTime": "2026-02-02",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": format!("Patient/{patient}")}, "policyRule": {"text": "privacy"},
        "provision": {"type": "permit", "provision": [exception]}})
}

fn by_chance(dice: &mut Dice) -> Option<Value> {
    let code = dice.one_of(&CODES);
    let label =
        json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"}]);
    match dice.one_of(&[0, 0, 1, 2]) {
        0 => None,
        1 => Some(json!({"code": [{"coding": [{"system": "http://loinc.org", "code": code}]}]})),
        _ => Some(json!({"securityLabel": label})),
    }
}

/// Who is told, of what, and where.
struct Owner<'a> {
    token: &'a str,
    purpose: &'a str,
    prefix: &'a str,
    /// Rows of this status alone.
    status: Option<&'a str>,
    payload: Option<&'a str>,
}

impl Owner<'_> {
    async fn subscribe(&self, house: &House, receiver: &Receiver) {
        let endpoint = format!("{}/{}", receiver.origin(), self.prefix);
        let criteria = match self.status {
            Some(status) => format!("Observation?status={status}"),
            None => "Observation?".to_owned(),
        };
        let asked = subscription(&criteria, &endpoint, self.payload);
        let sent = with(house, self.token, Method::POST, "Subscription", &asked);
        let sent = sent.header("x-purpose-of-use", self.purpose).send().await;
        let (status, body) = json_of(sent).await;
        assert_eq!(status, 201, "{criteria}: {body}");
    }
    /// What they are to be sent of a row that was written, by reading it as they would: where, and what.
    async fn expected(&self, house: &House, row: &Value) -> Option<(String, Value)> {
        let id = row["id"].as_str().expect("an id");
        let asked = house.bare(Method::GET, &format!("{FHIR}Observation/{id}"));
        let asked = asked.bearer_auth(self.token);
        let asked = asked.header("x-purpose-of-use", self.purpose).send().await;
        let (status, body) = json_of(asked).await;
        assert!([200, 401, 404].contains(&status), "{status}: {body}");
        let is_asked_for = self.status.is_none_or(|status| row["status"] == status);
        let prefix = self.prefix;
        (status == 200 && is_asked_for).then(|| match self.payload {
            Some(_) => (format!("/{prefix}/Observation/{id}"), body),
            None => (format!("/{prefix}"), Value::Null),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_sent_what_reading_shows_them_at_that_moment() {
    let seed = 20_261_129;
    let receiver = Receiver::start().await;
    let house = house_of(&receiver).await;
    let patients = ["p0", "p1"];
    for id in patients {
        put(&house, &patient(id)).await;
    }
    let scopes = "system/Subscription.cruds system/Observation.rs?status=final";
    let system = System::new(&house, scopes).await;
    let held = system.token(&house, "1", scopes).await;
    let owner = |token, purpose, prefix, status, payload| Owner {
        token,
        purpose,
        prefix,
        status,
        payload,
    };
    let own = house.token.as_str();
    let owners = [
        owner(own, "TREAT", "client", None, Some(PAYLOAD)),
        owner(own, "HPAYMT", "payer", Some("final"), Some(PAYLOAD)),
        owner(held.as_str(), "TREAT", "system", None, Some(PAYLOAD)),
        owner(own, "TREAT", "quiet", Some("amended"), None),
    ];
    for owner in &owners {
        owner.subscribe(&house, &receiver).await;
    }
    let (mut dice, mut sent, mut hidden) = (Dice(seed), BTreeMap::new(), 0);
    for step in 0..STEPS {
        let whose = dice.one_of(&patients);
        if dice.one_of(&[true, false]) {
            put(&house, &keeps(whose, by_chance(&mut dice))).await;
        }
        if step == REVOKED_AFTER {
            revoke(&house, &system.id).await;
        }
        // Some are new, and some are rows of before.
        let id = format!("o{}-{whose}", dice.one_of(&[step, step / 2]));
        let mut row = observation(&id, whose, dice.one_of(&CODES));
        row["status"] = json!(dice.one_of(&STATUSES));
        row["note"] = json!([{"text": "not for payment"}]);
        let before = receiver.got().len();
        put(&house, &row).await;
        // It stands behind on the same feed, and who is told of everything is told of it.
        let last = format!("last-{step}");
        put(&house, &observation(&last, whose, SEEN)).await;
        let mut expected = Vec::new();
        for owner in &owners {
            let told = owner.expected(&house, &row).await;
            hidden += usize::from(told.is_none());
            *sent.entry(owner.prefix).or_insert(0) += usize::from(told.is_some());
            expected.extend(told);
        }
        receiver
            .until_some(&format!("/client/Observation/{last}"))
            .await;
        until_waiting(&house, 0).await;
        let got = receiver.got().split_off(before);
        let of_row = got.into_iter().filter(|got| !got.path.ends_with(&last));
        let mut got: Vec<(String, Value)> = of_row
            .map(|got| {
                (
                    got.path,
                    serde_json::from_str(&got.body).unwrap_or_default(),
                )
            })
            .collect();
        for list in [&mut got, &mut expected] {
            list.sort_by(|one, other| one.0.cmp(&other.0));
        }
        assert_eq!(got, expected, "seed {seed}, step {step}: {row}");
    }
    assert!(sent.values().all(|count| *count > 2), "{sent:?}");
    assert!(hidden > STEPS, "{hidden}");
    house.end().await;
}

//! The scenarios of a journey's file as plays over a real store: who is there, and what they do when.
//!
//! What a scenario expects is asked of the engine elsewhere; here its events make patients go every way, so that each
//! step can be failed. Its times lie before those of the store, so all of them are moved by the same whole weeks.

use crate::world::{DAY, HOUR, Mail, START, TENANT, World};
use fhir::{Resource, ResourceType};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use journey::Wish;
use ledger::{Expected, Owner};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use trust::conventions::{ACCOUNT_SYSTEM, LOINC, NOT_DONE_SYSTEM, STEP_SYSTEM};
use trust::outgoing::{CHANNEL_EMAIL, Message};
use trust::{Action, Change, Purpose, Role, Target, Unit};

/// How far scenarios are moved: whole weeks, so that days of the week stay, and a year, so that clocks change in the same
/// weeks.
const MOVED_MS: u64 = 52 * 7 * DAY;

/// One patient, and what happens to them.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) name: String,
    pub(super) mail: Mail,
    /// What there is at the beginning: `patient`, `record`, `entry` or `request`.
    given: Value,
    /// The entry first, then the events, by their times.
    acts: Vec<(u64, Value)>,
    journey: String,
    entry: Option<ResourceType>,
}

fn ms(instant: &str) -> Option<u64> {
    let parsed = fhir::date::parse(instant)?;
    u64::try_from(parsed.start_ms).ok()
}

/// Every time in it moved; a date of birth stays.
fn moved(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let is_date = text.len() == 10 || text.contains('T');
            let at_ms = ms(&text).filter(|_| is_date && text.as_bytes()[4] == b'-');
            let Some(at_ms) = at_ms else {
                return Value::String(text);
            };
            let moved = fhir::date::instant(at_ms + MOVED_MS);
            Value::String(if text.len() == 10 {
                moved[..10].to_owned()
            } else {
                moved
            })
        }
        Value::Array(all) => all.into_iter().map(moved).collect(),
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| {
                let stays = name == "birthDate" || name == "code";
                let value = if stays { value } else { moved(value) };
                (name, value)
            });
            Value::Object(members.collect())
        }
        other => other,
    }
}

/// `2d`, `1d4h`, `90m`.
fn length(text: &str) -> u64 {
    let (mut all, mut number) = (0, 0);
    for character in text.chars() {
        let unit = match character {
            'm' => 60_000,
            'h' => HOUR,
            'd' => DAY,
            'w' => 7 * DAY,
            digit => {
                number = number * 10 + u64::from(digit.to_digit(10).unwrap());
                continue;
            }
        };
        all += number * unit;
        number = 0;
    }
    all
}

/// A time, or a moment that hangs on an anchor.
fn moment(text: &str, anchors: &BTreeMap<String, u64>, zone: &TimeZone) -> u64 {
    if let Some(at_ms) = ms(text) {
        return at_ms;
    }
    let (rest, at) = match text.split_once(" at ") {
        Some((rest, at)) => (rest, Some(at)),
        None => (text, None),
    };
    let mut words = rest.split(' ');
    let anchor = words.next().unwrap();
    let from = *anchors.get(anchor).unwrap_or_else(|| panic!("no {anchor}"));
    let (sign, far) = (words.next(), length(words.next().unwrap_or("0m")));
    let Some(at) = at else {
        return if sign == Some("-") {
            from - far
        } else {
            from + far
        };
    };
    let from = Timestamp::from_millisecond(i64::try_from(from).unwrap()).unwrap();
    let days = i64::try_from(far / DAY).unwrap();
    let days = if sign == Some("-") { -days } else { days };
    let (hour, minute) = at.split_once(':').unwrap();
    let day = from.to_zoned_datetime(zone.clone()).date() + days.days();
    let time = day.at(hour.parse().unwrap(), minute.parse().unwrap(), 0, 0);
    let zoned = time.to_zoned_datetime(zone.clone()).unwrap();
    u64::try_from(zoned.timestamp().as_millisecond()).unwrap()
}

/// What an anchor's path finds in an entry; the paths are those of the starters.
fn anchor(entry: &Value, path: &str) -> Option<u64> {
    let at = match path {
        "period.end" => entry.pointer("/period/end"),
        "value" => entry.get("valueDateTime"),
        path if path.contains("performed") => {
            (entry.pointer("/performedPeriod/end")).or_else(|| entry.get("performedDateTime"))
        }
        path => entry.get(path),
    };
    ms(at?.as_str()?)
}

/// The scenarios of a file.
pub(super) fn scenes(journey: &str, scenarios: &str) -> Vec<Scene> {
    let file: Value = serde_saphyr::from_str(journey).unwrap();
    let played: Value = serde_saphyr::from_str(scenarios).unwrap();
    let zone = file["time_zone"].as_str().unwrap_or("UTC");
    let zone = TimeZone::get(zone).unwrap();
    let all = played["scenarios"].as_array().unwrap();
    let all = all.iter().map(|scenario| {
        let mut given = played["given"].as_object().cloned().unwrap_or_default();
        let own = scenario.get("given").and_then(Value::as_object);
        given.extend(own.cloned().unwrap_or_default());
        let given = moved(Value::Object(given));
        let mut anchors: BTreeMap<String, u64> = BTreeMap::new();
        for (name, path) in file["entry"]["anchors"].as_object().into_iter().flatten() {
            let path = path.as_str().unwrap();
            anchors.extend(anchor(&given["entry"], path).map(|at_ms| (name.clone(), at_ms)));
        }
        for (name, at) in given["request"]["times"].as_object().into_iter().flatten() {
            anchors.insert(name.clone(), ms(at.as_str().unwrap()).unwrap());
        }
        let now_ms = ms(given["now"].as_str().unwrap()).unwrap();
        anchors.insert("start".to_owned(), now_ms);
        let mut acts = vec![(now_ms, json!({"begins": true}))];
        let mut last_ms = now_ms;
        for act in scenario["when"].as_array().into_iter().flatten() {
            let act = moved(act.clone());
            let after = act.get("after").and_then(Value::as_str);
            last_ms = match after {
                Some(after) => last_ms + length(after),
                None => moment(act["at"].as_str().unwrap(), &anchors, &zone),
            };
            acts.push((last_ms, act));
        }
        let mail = match given.get("email").and_then(Value::as_str) {
            Some("held") => Mail::Silent,
            Some("fails") => Mail::Refuses,
            _ => Mail::Delivers,
        };
        let entry = file["entry"]["event"].as_str();
        Scene {
            name: scenario["name"].as_str().unwrap().to_owned(),
            mail,
            given,
            acts,
            journey: file["name"].as_str().unwrap().to_owned(),
            entry: entry.map(|kind| ResourceType::parse(kind).unwrap()),
        }
    });
    all.collect()
}

impl Scene {
    /// When each act is.
    pub(super) fn times(&self) -> impl Iterator<Item = u64> {
        self.acts.iter().map(|(at_ms, _)| *at_ms)
    }

    /// The patient of it, of whom nothing else is known yet.
    pub(super) async fn patient(&self, world: &World) -> String {
        let id = world.trust.vault().ledger().mint_own_id(TENANT);
        let usual = json!({
            "name": [{"given": ["Ida"], "family": "Sample"}], "birthDate": "1950-01-01",
            "telecom": [{"system": "email", "value": "ida@example.org"}]
        });
        let person = self.given.get("patient").cloned().unwrap_or(usual);
        world.put(vec![with(person, "Patient", &id)]).await;
        consents(world, &id, true, "first").await;
        id
    }

    /// Everything that happens at a time, and nothing of what comes of it.
    pub(super) async fn act(&self, world: &World, patient: &str, at_ms: u64) {
        for (nth, (when_ms, act)) in self.acts.iter().enumerate() {
            if *when_ms == at_ms {
                self.perform(world, patient, nth, act).await;
            }
        }
    }

    async fn perform(&self, world: &World, patient: &str, nth: usize, act: &Value) {
        let name = format!("act/{nth}");
        let of = |kind: &str| act.get(kind).filter(|value| !value.is_null());
        if of("begins").is_some() {
            self.begin(world, patient).await;
        } else if let Some(said) = of("answers") {
            let form = self.newest(world, patient, ResourceType::Task, said).await;
            let Some(form) = form else { return };
            let answers = said["with"].as_object().unwrap().iter();
            let answers: Vec<(&str, Value)> = answers
                .map(|(question, said)| (question.as_str(), answer(said)))
                .collect();
            world.answer_quietly(&form, &answers).await;
        } else if let Some(said) = of("task") {
            let task = self.newest(world, patient, ResourceType::Task, said).await;
            let Some(mut task) = task else { return };
            let status = said.get("status").cloned();
            task.set("status", status.unwrap_or(json!("completed")));
            if let Some(by) = said.get("by") {
                let who = json!({"system": ACCOUNT_SYSTEM, "value": by});
                task.set("owner", json!({"identifier": who}));
            }
            if let Some(outcome) = said.get("outcome") {
                let output = json!([{"type": {"text": "outcome"}, "valueString": outcome}]);
                task.set("output", output);
            }
            world.put(vec![task.into_value()]).await;
        } else if let Some(said) = of("delivered").or(of("failed")) {
            let message = self.newest(world, patient, ResourceType::Communication, said);
            let Some(mut message) = message.await else {
                return;
            };
            if act.get("delivered").is_some() {
                message.set("status", json!("completed"));
                message.set("sent", json!(world.instant()));
            } else {
                let code = said.get("code").and_then(Value::as_str);
                let code = json!([{"system": NOT_DONE_SYSTEM, "code": code.unwrap_or("permanent-failure")}]);
                message.set("status", json!("not-done"));
                message.set("statusReason", json!({"coding": code}));
            }
            receipt(world, message).await;
        } else if let Some(said) = of("visit") {
            let visit = self.newest(world, patient, ResourceType::Appointment, said);
            let Some(mut visit) = visit.await else { return };
            visit.set("status", said["status"].clone());
            if let Some(start) = said.get("start") {
                visit.set("start", start.clone());
                visit.remove("end");
            }
            world.put(vec![visit.into_value()]).await;
        } else if let Some(said) = of("measured") {
            let id = said.get("id").and_then(Value::as_str).unwrap_or(&name);
            let (value, unit) = (&said["value"], &said["unit"]);
            let measured = json!({
                "resourceType": "Observation", "id": id, "status": "final",
                "code": {"coding": [{"system": LOINC, "code": said["code"]}]},
                "effectiveDateTime": world.instant(),
                "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
            });
            self.write(world, patient, measured, &name).await;
        } else if let Some(gone) = of("deleted").and_then(Value::as_str) {
            delete(world, patient, gone).await;
        } else if of("consent").is_some() {
            consents(world, patient, false, &name).await;
        } else if let Some(resource) = of("resource") {
            self.write(world, patient, resource.clone(), &name).await;
        } else {
            let known = ["after", "at"];
            let strange = act.as_object().unwrap().keys();
            let strange: Vec<&String> = strange
                .filter(|key| !known.contains(&key.as_str()))
                .collect();
            assert!(strange.is_empty(), "{strange:?} is not played");
        }
    }

    /// What there is at the beginning, and what begins the journey.
    async fn begin(&self, world: &World, patient: &str) {
        let record = self.given["record"].as_array().into_iter().flatten();
        for (nth, resource) in record.enumerate() {
            let name = format!("record/{nth}");
            self.write(world, patient, resource.clone(), &name).await;
        }
        if let Some(times) = self.given["request"]["times"].as_object() {
            let times = times.iter();
            let wish = Wish {
                journey: self.journey.clone(),
                patient: patient.to_owned(),
                key: "scenario".to_owned(),
                times: times
                    .map(|(name, at)| (name.clone(), at.as_str().unwrap().to_owned()))
                    .collect(),
                reason: "Said by the scenario".to_owned(),
            };
            let target = Target {
                kind: Some(ResourceType::Task),
                patient: None,
            };
            let staff = crate::world::a_member(Role::Clinician);
            let permit =
                world
                    .trust
                    .decide(&staff, Purpose::Treatment, Action::Create, target, "test");
            // Who asks and was not told asks again.
            world
                .journeys
                .start(&permit.await.unwrap(), &wish)
                .await
                .unwrap();
        } else if let Some(kind) = self.entry {
            let mut entry = self.given["entry"].clone();
            entry["resourceType"] = json!(kind.name());
            entry["id"] = json!("entry");
            self.write(world, patient, entry, "entry").await;
        }
    }

    /// A resource of the patient's record, which keeps the id that the scenario gives it within the patient.
    async fn write(&self, world: &World, patient: &str, mut resource: Value, name: &str) {
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        if kind == "Patient" {
            let mut person = world.read(ResourceType::Patient, patient).await;
            for (member, value) in resource.as_object().unwrap() {
                person.set(member, value.clone());
            }
            world.put(vec![person.into_value()]).await;
            return;
        }
        let said = resource.get("id").and_then(Value::as_str).unwrap_or(name);
        let owner = Owner::Patient(patient.to_owned());
        let ledger = world.trust.vault().ledger();
        let derive = |said: &str| ledger.derive_id(TENANT, &owner, &format!("{patient}/{said}"));
        let id = derive(said);
        let subject = json!({"reference": format!("Patient/{patient}")});
        match kind.as_str() {
            "Appointment" => {
                resource["participant"] = json!([{"actor": subject, "status": "accepted"}]);
            }
            "Consent" => resource["patient"] = subject,
            _ => resource["subject"] = subject,
        }
        let entry = derive("entry");
        let written = with(resource, &kind, &id).to_string();
        let written = written.replace("ServiceRequest/entry", &format!("ServiceRequest/{entry}"));
        world
            .put(vec![serde_json::from_str(&written).unwrap()])
            .await;
    }

    /// The newest resource of a step, an open one before the others.
    async fn newest(
        &self,
        world: &World,
        patient: &str,
        kind: ResourceType,
        said: &Value,
    ) -> Option<Resource> {
        let end = format!("/{}", said["step"].as_str().unwrap());
        let start = format!("{}/", self.journey);
        let of_step = |resource: &Resource| {
            let all = resource.get("identifier").and_then(Value::as_array);
            all.into_iter().flatten().any(|one| {
                let value = one["value"].as_str().unwrap_or_default();
                one["system"] == STEP_SYSTEM && value.starts_with(&start) && value.ends_with(&end)
            })
        };
        let mut all = world.of(patient, kind).await;
        all.retain(of_step);
        let open = [
            "requested",
            "in-progress",
            "preparation",
            "proposed",
            "booked",
        ];
        let is_open = |one: &&Resource| open.contains(&one.text_at(&["status"]).unwrap_or(""));
        let newest = all.iter().rev().find(is_open).or(all.last());
        newest.cloned()
    }
}

fn with(mut value: Value, kind: &str, id: &str) -> Value {
    if let Value::Object(members) = &mut value {
        members.insert("resourceType".to_owned(), json!(kind));
        members.insert("id".to_owned(), json!(id));
    } else {
        value = Value::Object(Map::new());
    }
    value
}

fn answer(said: &Value) -> Value {
    match said {
        Value::Bool(yes) => json!({"valueBoolean": yes}),
        Value::Number(number) => json!({"valueInteger": number}),
        said => json!({"valueCoding": {"code": said}}),
    }
}

async fn consents(world: &World, patient: &str, permitted: bool, name: &str) {
    let mut consent = trust::consent::care_messages(patient, permitted, world.now());
    let owner = Owner::Patient(patient.to_owned());
    let ledger = world.trust.vault().ledger();
    consent.set_id(&ledger.derive_id(TENANT, &owner, &format!("{patient}/consent/{name}")));
    world.put(vec![consent.into_value()]).await;
}

/// Deletes a resource that the scenario names.
async fn delete(world: &World, patient: &str, named: &str) {
    let (kind, name) = named.split_once('/').unwrap();
    let owner = Owner::Patient(patient.to_owned());
    let ledger = world.trust.vault().ledger();
    let id = ledger.derive_id(TENANT, &owner, &format!("{patient}/{name}"));
    let kind = ResourceType::parse(kind).unwrap();
    let permit = world.staff(Role::Client, Action::Delete).await;
    let vault = world.trust.vault();
    let found = vault.load(&permit, kind, &id).await.unwrap().unwrap();
    let unit = Unit {
        changes: vec![Change::Delete {
            kind,
            id,
            owner,
            expected: Expected::Version(found.version),
        }],
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
}

/// The receipt of a message, which leaves the outbox with it.
async fn receipt(world: &World, message: Resource) {
    let ledger = world.trust.vault().ledger();
    let due = ledger.outbox_due(CHANNEL_EMAIL, u64::MAX >> 20, 1000);
    let due = due.await.unwrap().into_iter();
    let sent: Vec<_> = due
        .filter(|entry| {
            let body: Message = serde_json::from_slice(&entry.body).unwrap();
            Some(body.communication.as_str()) == message.id()
        })
        .collect();
    let permit = world.part("mail-deliverer", Purpose::Treatment, Action::Send);
    let permit = permit.await;
    let vault = world.trust.vault();
    let id = message.id().unwrap().to_owned();
    let found = vault.load(&permit, ResourceType::Communication, &id).await;
    let version = found.unwrap().unwrap().version;
    let unit = Unit {
        changes: vec![Change::Put {
            resource: message,
            expected: Expected::Version(version),
        }],
        outbox_remove: sent.into_iter().map(|entry| entry.key).collect(),
        ..Unit::default()
    };
    vault.commit(&permit, unit).await.unwrap();
}

/// Since when the store is there.
pub(super) fn since_start(at_ms: u64) -> u64 {
    at_ms
        .checked_sub(START)
        .expect("after the store's beginning")
}

//! A synthetic patient's record as a FHIR R4 transaction bundle.

use serde_json::{Map, Value, json};

use crate::CohortOptions;
use crate::clinical::{
    ADMISSION, ALLERGIES, ALLERGY_SHARE, APPENDICITIS, ASTHMA, CARVEDILOL, CHECK_UP, COPD, Code,
    FUROSEMIDE, HEART_FAILURE, HIP, LASTING, LISINOPRIL, MEDICINES, METOPROLOL, Medicine, PASSING,
    PNEUMONIA, RXNORM, SNOMED, SPIRONOLACTONE, Sex,
};
use crate::observations::{LABORATORY, VITAL};
use crate::organisation::{
    CARDIOLOGISTS, CARDIOLOGY_WARD, HOSPITAL, MEDICAL_WARD, PHYSICIANS, PRACTICE,
};
use crate::person::{Channel, MRN_SYSTEM, NOT_WANTED_EXTENSION, Person, Stay};
use crate::random::{Random, Stream};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS, date_time};

/// Code system of `Consent.category`.
pub const CONSENT_CATEGORY_SYSTEM: &str = "urn:cairn:consent-category";
/// Category of consents to messages about one's care.
pub const CONSENT_CATEGORY: &str = "care-messages";
/// Share of patients with an active consent to messages.
pub const CONSENT_GIVEN_SHARE: f64 = 0.94;
/// Share that said no. The others were never asked, and the rule pack decides.
pub const CONSENT_REFUSED_SHARE: f64 = 0.02;

const YEAR_MS: u64 = 365 * DAY_MS;

pub(crate) fn of_patient(options: &CohortOptions, index: u64) -> Value {
    let person = Person::new(options, index);
    let mut random = Random::new(options.seed, index, Stream::Record);
    let patient = format!("urn:uuid:{}", random.uuid());
    let physician = random.pick(PHYSICIANS).0;
    let mut record = Record {
        now_ms: options.now_ms,
        patient,
        physician,
        random,
        entries: Vec::with_capacity(48),
    };
    record.patient(&person);
    record.consent(&person);
    let conditions = record.conditions(&person);
    record.medicines(&person, &conditions);
    record.allergy();
    record.visits(&person, &conditions);
    record.past_stay(&person);
    if let Some(stay) = person.stay {
        record.heart_failure_stay(&person, stay, &conditions);
    }
    transaction(record.entries)
}

/// A transaction bundle of these entries.
pub(crate) fn transaction(entries: Vec<Value>) -> Value {
    let mut bundle = Map::new();
    bundle.insert("resourceType".to_owned(), "Bundle".into());
    bundle.insert("type".to_owned(), "transaction".into());
    bundle.insert("entry".to_owned(), entries.into());
    Value::Object(bundle)
}

/// A condition that the patient has, and the entry that says so.
pub(crate) struct Had {
    pub(crate) what: Code,
    url: String,
}

/// The bundle being made.
pub(crate) struct Record {
    now_ms: u64,
    patient: String,
    physician: &'static str,
    pub(crate) random: Random,
    entries: Vec<Value>,
}

impl Record {
    pub(crate) fn add(&mut self, kind: &str, resource: Value) -> String {
        let url = format!("urn:uuid:{}", self.random.uuid());
        self.add_as(kind, &url, resource);
        url
    }

    fn add_as(&mut self, kind: &str, url: &str, resource: Value) {
        // Put together by hand, because `json!` would copy the resource.
        let mut entry = Map::new();
        entry.insert("fullUrl".to_owned(), url.into());
        entry.insert("resource".to_owned(), resource);
        entry.insert(
            "request".to_owned(),
            json!({ "method": "POST", "url": kind }),
        );
        self.entries.push(Value::Object(entry));
    }

    pub(crate) fn subject(&self) -> Value {
        json!({ "reference": self.patient })
    }

    fn physician(&self) -> Value {
        json!({ "reference": format!("Practitioner/{}", self.physician) })
    }

    fn patient(&mut self, person: &Person) {
        let mut telecom = vec![
            json!({ "system": "phone", "value": person.phone, "use": "home",
            "rank": if person.channel == Channel::PhoneFirst { 1 } else { 2 } }),
        ];
        match person.channel {
            Channel::NoEmail => {}
            Channel::EmailFirst => telecom.insert(
                0,
                json!({ "system": "email", "value": person.email, "use": "home", "rank": 1 }),
            ),
            Channel::PhoneFirst => telecom.push(
                json!({ "system": "email", "value": person.email, "use": "home", "rank": 2 }),
            ),
            Channel::EmailNotWanted => telecom.push(json!({
                "extension": [{ "url": NOT_WANTED_EXTENSION, "valueBoolean": true }],
                "system": "email", "value": person.email, "use": "home"
            })),
        }
        let resource = json!({
            "resourceType": "Patient",
            "identifier": [{
                "use": "usual",
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR", "display": "Medical record number"
                }] },
                "system": MRN_SYSTEM,
                "value": person.record_number
            }],
            "active": true,
            "name": [{
                "use": "official",
                "family": person.family,
                "given": person.given.split(' ').collect::<Vec<_>>()
            }],
            "telecom": telecom,
            "gender": if person.female { "female" } else { "male" },
            "birthDate": person.birth_date,
            "address": [{
                "use": "home", "line": [person.street], "city": person.town, "state": "MA",
                "postalCode": person.postal_code, "country": "US"
            }],
            "communication": [{
                "language": { "coding": [{ "system": "urn:ietf:bcp:47", "code": person.language }] }, "preferred": true
            }],
            "generalPractitioner": [{ "reference": format!("Practitioner/{}", self.physician) }],
            "managingOrganization": { "reference": format!("Organization/{PRACTICE}") }
        });
        let url = self.patient.clone();
        self.add_as("Patient", &url, resource);
    }

    fn consent(&mut self, person: &Person) {
        let place = self.random.unit();
        let given = place < CONSENT_GIVEN_SHARE;
        // The draw comes before the way out, so that the rest of the record doesn't hang on it.
        let asked_days = self.random.whole(3, 900);
        if !given && place >= CONSENT_GIVEN_SHARE + CONSENT_REFUSED_SHARE {
            return;
        }
        // Inpatients are asked when they come in.
        let asked_ms = person.stay.map_or_else(
            || self.now_ms.saturating_sub(asked_days * DAY_MS),
            |stay| stay.admitted_ms + 3 * HOUR_MS,
        );
        let resource = json!({
            "resourceType": "Consent",
            "status": "active",
            "scope": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy",
                "display": "Privacy Consent"
            }] },
            "category": [{ "coding": [{
                "system": CONSENT_CATEGORY_SYSTEM, "code": CONSENT_CATEGORY, "display": "Messages of care programmes"
            }] }],
            "patient": self.subject(),
            "dateTime": date_time(asked_ms),
            "organization": [{ "reference": format!("Organization/{HOSPITAL}") }],
            "policyRule": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": if given { "OPTIN" } else { "OPTOUT" }
            }] },
            "provision": {
                "type": if given { "permit" } else { "deny" },
                "purpose": [
                    { "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT" },
                    { "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "CAREMGT" }
                ]
            }
        });
        self.add("Consent", resource);
    }

    fn conditions(&mut self, person: &Person) -> Vec<Had> {
        let mut had = Vec::new();
        if person.stay.is_some() {
            let since_ms = self
                .now_ms
                .saturating_sub(self.random.whole(20, 5 * 365) * DAY_MS);
            had.push(self.condition(HEART_FAILURE, since_ms, None));
        }
        for lasting in LASTING {
            let share = if person.stay.is_some() {
                lasting.share_heart_failure
            } else {
                share_at(lasting.share_young, lasting.share_old, person.age_years)
            };
            let drawn = self.random.chance(share);
            let place = self.random.unit();
            let fits = match lasting.sex {
                Sex::Any => true,
                Sex::Female => person.female,
                Sex::Male => !person.female,
            };
            if !drawn || !fits || person.age_years < lasting.age_from {
                continue;
            }
            let years = person.age_years - lasting.age_from;
            let since_ms = self
                .now_ms
                .saturating_sub(part(years.min(25) * YEAR_MS, place) + DAY_MS);
            had.push(self.condition(lasting.what, since_ms, None));
        }
        had
    }

    fn condition(&mut self, what: Code, since_ms: u64, until_ms: Option<u64>) -> Had {
        let status = if until_ms.is_some() {
            "resolved"
        } else {
            "active"
        };
        let mut resource = json!({
            "resourceType": "Condition",
            "clinicalStatus": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status
            }] },
            "verificationStatus": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"
            }] },
            "category": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/condition-category", "code": "problem-list-item",
                "display": "Problem List Item"
            }] }],
            "code": concept(SNOMED, what),
            "subject": self.subject(),
            "onsetDateTime": date_time(since_ms)
        });
        if let Some(until_ms) = until_ms {
            resource["abatementDateTime"] = json!(date_time(until_ms));
        }
        resource["recordedDate"] = json!(date_time(since_ms));
        Had {
            what,
            url: self.add("Condition", resource),
        }
    }

    fn medicines(&mut self, person: &Person, conditions: &[Had]) {
        if let Some(failure) = conditions.iter().find(|had| had.what == HEART_FAILURE) {
            let since_ms = self
                .now_ms
                .saturating_sub(self.random.whole(10, 700) * DAY_MS);
            let asthmatic = conditions
                .iter()
                .any(|had| had.what == ASTHMA || had.what == COPD);
            // Carvedilol also narrows the airways.
            let blocker = if asthmatic { &METOPROLOL } else { &CARVEDILOL };
            for (medicine, share) in [
                (&FUROSEMIDE, 0.95),
                (blocker, 0.85),
                (&LISINOPRIL, 0.75),
                (&SPIRONOLACTONE, 0.5),
            ] {
                if self.random.chance(share) {
                    self.medicine(medicine, since_ms, &failure.url);
                }
            }
        }
        let mut taken = Vec::new();
        for (what, medicine, share) in MEDICINES {
            let Some(had) = conditions.iter().find(|had| had.what == *what) else {
                continue;
            };
            if self.random.chance(*share)
                && !taken.contains(&medicine.what)
                && person.age_years >= 12
            {
                taken.push(medicine.what);
                let since_ms = self
                    .now_ms
                    .saturating_sub(self.random.whole(10, 700) * DAY_MS);
                self.medicine(medicine, since_ms, &had.url);
            }
        }
    }

    fn medicine(&mut self, medicine: &Medicine, since_ms: u64, reason: &str) {
        let resource = json!({
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": concept(RXNORM, medicine.what),
            "subject": self.subject(),
            "authoredOn": date_time(since_ms),
            "requester": self.physician(),
            "reasonReference": [{ "reference": reason }],
            "dosageInstruction": [{ "text": medicine.dosage }]
        });
        self.add("MedicationRequest", resource);
    }

    fn allergy(&mut self) {
        let drawn = self.random.chance(ALLERGY_SHARE);
        let (what, category, reaction) = *self.random.pick(ALLERGIES);
        let since_ms = self
            .now_ms
            .saturating_sub(self.random.whole(400, 4_000) * DAY_MS);
        if !drawn {
            return;
        }
        let resource = json!({
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"
            }] },
            "verificationStatus": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification", "code": "confirmed"
            }] },
            "type": "allergy",
            "category": [category],
            "criticality": if category == "environment" { "low" } else { "high" },
            "code": concept(SNOMED, what),
            "patient": self.subject(),
            "recordedDate": date_time(since_ms),
            "reaction": [{ "manifestation": [{ "text": reaction }] }]
        });
        self.add("AllergyIntolerance", resource);
    }

    /// Two or three visits at the practice in the last three years, one of them sometimes for a
    /// passing illness.
    fn visits(&mut self, person: &Person, conditions: &[Had]) {
        let visits = self.random.whole(2, 3);
        let before_ms = person.stay.map_or(self.now_ms, |stay| stay.admitted_ms);
        for visit in 0..visits {
            let back_ms = (visit * YEAR_MS + self.random.whole(20, 300) * DAY_MS)
                + self.random.whole(0, 480) * MINUTE_MS;
            let at_ms = before_ms.saturating_sub(back_ms);
            if person.age_years < visit + 1 {
                break;
            }
            let ill = self.random.chance(0.3).then(|| *self.random.pick(PASSING));
            let encounter = self.encounter(&Met {
                class: ("AMB", "ambulatory"),
                status: "finished",
                what: CHECK_UP,
                start_ms: at_ms,
                end_ms: Some(at_ms + 25 * MINUTE_MS),
                reason: ill,
                diagnosis: None,
                organisation: PRACTICE,
                location: None,
                practitioner: self.physician,
            });
            if let Some(what) = ill {
                self.condition(
                    what,
                    at_ms.saturating_sub(2 * DAY_MS),
                    Some(at_ms + 9 * DAY_MS),
                );
            }
            let weight_kg = self.random.bell(person.dry_weight_kg, 0.9);
            self.body_measures(person, weight_kg, at_ms, &encounter, visit == 0);
            self.blood_pressure(conditions, at_ms, &encounter);
            if visit == 0 && person.age_years >= 40 {
                self.chemistry(conditions, at_ms, &encounter);
            }
        }
    }

    /// A stay that ended long ago and is no reason to start anything now.
    fn past_stay(&mut self, person: &Person) {
        let share = if person.stay.is_some() {
            0.35
        } else {
            share_at(0.05, 0.25, person.age_years)
        };
        let drawn = self.random.chance(share);
        let back_days = self.random.whole(120, 1_500);
        let days = self.random.whole(2, 9);
        if !drawn || person.age_years < 16 {
            return;
        }
        let start_ms = self
            .now_ms
            .saturating_sub(back_days * DAY_MS + self.random.whole(0, 23) * HOUR_MS);
        let what = if person.age_years < 50 {
            APPENDICITIS
        } else {
            *self.random.pick(&[PNEUMONIA, HIP])
        };
        let had = self.condition(what, start_ms, Some(start_ms + (days + 20) * DAY_MS));
        self.encounter(&Met {
            class: ("IMP", "inpatient encounter"),
            status: "finished",
            what: ADMISSION,
            start_ms,
            end_ms: Some(start_ms + days * DAY_MS),
            reason: Some(what),
            diagnosis: Some(&had.url),
            organisation: HOSPITAL,
            location: Some(MEDICAL_WARD),
            practitioner: self.physician,
        });
    }

    fn heart_failure_stay(&mut self, person: &Person, stay: Stay, conditions: &[Had]) {
        let cardiologist = self.random.pick(CARDIOLOGISTS).0;
        let failure = conditions
            .iter()
            .find(|had| had.what == HEART_FAILURE)
            .map(|had| had.url.as_str());
        let encounter = self.encounter(&Met {
            class: ("IMP", "inpatient encounter"),
            status: "in-progress",
            what: ADMISSION,
            start_ms: stay.admitted_ms,
            end_ms: None,
            reason: Some(HEART_FAILURE),
            diagnosis: failure,
            organisation: HOSPITAL,
            location: Some(CARDIOLOGY_WARD),
            practitioner: cardiologist,
        });
        let first_ms = stay.admitted_ms + 2 * HOUR_MS;
        let water_kg = self.random.between(3.5, 8.0);
        self.heart_rate(first_ms, &encounter, 98.0);
        let oxygen = self.random.bell(91.0, 1.8).min(97.0);
        self.quantity(
            (
                "59408-5",
                "Oxygen saturation in Arterial blood by Pulse oximetry",
            ),
            VITAL,
            oxygen.round(),
            ("%", "%"),
            first_ms,
            &encounter,
        );
        let peptide = self.random.between(1_800.0, 14_000.0).round();
        self.quantity(
            (
                "33762-6",
                "Natriuretic peptide.B prohormone N-Terminal [Mass/volume] in Serum or Plasma",
            ),
            LABORATORY,
            peptide,
            ("pg/mL", "pg/mL"),
            first_ms,
            &encounter,
        );
        let ejection = self.random.bell(37.0, 9.0).clamp(15.0, 62.0).round();
        self.quantity(
            ("10230-1", "Left ventricular Ejection fraction"),
            LABORATORY,
            ejection,
            ("%", "%"),
            first_ms + 20 * HOUR_MS,
            &encounter,
        );
        self.chemistry(conditions, first_ms, &encounter);
        // Each morning the water goes, until the stay's present day.
        let days = (self.now_ms - stay.admitted_ms) / DAY_MS;
        for day in 0..=days {
            let at_ms = first_ms + day * DAY_MS;
            if at_ms >= self.now_ms {
                break;
            }
            let left = 1.0 / (1.0 + f64::from(u32::try_from(day).unwrap_or(0)) * 0.9);
            let weight_kg = person.dry_weight_kg + water_kg * left + self.random.bell(0.0, 0.1);
            self.weight(weight_kg, at_ms, &encounter);
            self.blood_pressure(conditions, at_ms, &encounter);
        }
    }

    fn encounter(&mut self, met: &Met<'_>) -> String {
        let mut period = json!({ "start": date_time(met.start_ms) });
        if let Some(end_ms) = met.end_ms {
            period["end"] = json!(date_time(end_ms));
        }
        let mut resource = json!({
            "resourceType": "Encounter",
            "status": met.status,
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": met.class.0, "display": met.class.1
            },
            "type": [concept(SNOMED, met.what)],
            "subject": self.subject(),
            "participant": [{ "individual": { "reference": format!("Practitioner/{}", met.practitioner) } }],
            "period": period
        });
        if let Some(reason) = met.reason {
            resource["reasonCode"] = json!([concept(SNOMED, reason)]);
        }
        if let Some(url) = met.diagnosis {
            resource["diagnosis"] = json!([{ "condition": { "reference": url } }]);
        }
        if let Some(location) = met.location {
            resource["location"] =
                json!([{ "location": { "reference": format!("Location/{location}") } }]);
        }
        resource["serviceProvider"] =
            json!({ "reference": format!("Organization/{}", met.organisation) });
        self.add("Encounter", resource)
    }
}

/// An encounter to be.
struct Met<'a> {
    class: (&'a str, &'a str),
    status: &'a str,
    what: Code,
    start_ms: u64,
    end_ms: Option<u64>,
    reason: Option<Code>,
    diagnosis: Option<&'a str>,
    organisation: &'a str,
    location: Option<&'a str>,
    practitioner: &'a str,
}

fn concept(system: &str, what: Code) -> Value {
    json!({ "coding": [{ "system": system, "code": what.code, "display": what.display }], "text": what.display })
}

/// The share at an age: the young one up to 40, the old one from 65 on, on a line between.
fn share_at(young: f64, old: f64, age_years: u64) -> f64 {
    let age = f64::from(u32::try_from(age_years).unwrap_or(100)).clamp(40.0, 65.0);
    young + (old - young) * (age - 40.0) / 25.0
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "durations of a life"
)]
fn part(of_ms: u64, place: f64) -> u64 {
    (of_ms as f64 * place) as u64
}

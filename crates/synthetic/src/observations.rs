//! What was measured: vital signs and laboratory values.

use serde_json::{Value, json};

use crate::bundle::{Had, Record};
use crate::clinical::{
    ATRIAL_FIBRILLATION, Code, DIABETES, HYPERTENSION, KIDNEY_DISEASE, LOINC, UCUM,
};
use crate::person::Person;
use crate::time::date_time;

/// Categories of observations.
pub(crate) const VITAL: &str = "vital-signs";
pub(crate) const LABORATORY: &str = "laboratory";

impl Record {
    pub(crate) fn body_measures(
        &mut self,
        person: &Person,
        weight_kg: f64,
        at_ms: u64,
        encounter: &str,
        newest: bool,
    ) {
        self.weight(weight_kg, at_ms, encounter);
        if !newest {
            return;
        }
        self.quantity(
            ("8302-2", "Body height"),
            VITAL,
            person.height_cm,
            ("cm", "cm"),
            at_ms,
            encounter,
        );
        let metres = person.height_cm / 100.0;
        self.quantity(
            ("39156-5", "Body mass index (BMI) [Ratio]"),
            VITAL,
            weight_kg / (metres * metres),
            ("kg/m2", "kg/m2"),
            at_ms,
            encounter,
        );
        self.heart_rate(at_ms, encounter, 74.0);
    }

    pub(crate) fn weight(&mut self, weight_kg: f64, at_ms: u64, encounter: &str) {
        self.quantity(
            ("29463-7", "Body weight"),
            VITAL,
            weight_kg,
            ("kg", "kg"),
            at_ms,
            encounter,
        );
    }

    pub(crate) fn heart_rate(&mut self, at_ms: u64, encounter: &str, mean: f64) {
        let rate = self.random.bell(mean, 9.0).round();
        self.quantity(
            ("8867-4", "Heart rate"),
            VITAL,
            rate,
            ("beats/minute", "/min"),
            at_ms,
            encounter,
        );
    }

    pub(crate) fn blood_pressure(&mut self, conditions: &[Had], at_ms: u64, encounter: &str) {
        let high = conditions.iter().any(|had| had.what == HYPERTENSION);
        let systolic = self
            .random
            .bell(if high { 142.0 } else { 121.0 }, 11.0)
            .round();
        let diastolic = self
            .random
            .bell(if high { 85.0 } else { 76.0 }, 6.0)
            .min(systolic - 25.0)
            .round();
        let component = |code: &str, display: &str, value: f64| {
            json!({
                "code": { "coding": [{ "system": LOINC, "code": code, "display": display }] },
                "valueQuantity": { "value": number(value), "unit": "mmHg", "system": UCUM, "code": "mm[Hg]" }
            })
        };
        let components = json!([
            component("8480-6", "Systolic blood pressure", systolic),
            component("8462-4", "Diastolic blood pressure", diastolic)
        ]);
        let mut resource = self.observation(
            ("85354-9", "Blood pressure panel with all children optional"),
            VITAL,
            at_ms,
            encounter,
        );
        resource["component"] = components;
        self.add("Observation", resource);
    }

    pub(crate) fn chemistry(&mut self, conditions: &[Had], at_ms: u64, encounter: &str) {
        let has = |what: Code| conditions.iter().any(|had| had.what == what);
        let (kidneys, sugar, fibrillates) =
            (has(KIDNEY_DISEASE), has(DIABETES), has(ATRIAL_FIBRILLATION));
        let creatinine = self.random.bell(if kidneys { 1.7 } else { 0.95 }, 0.15);
        self.quantity(
            ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
            LABORATORY,
            creatinine,
            ("mg/dL", "mg/dL"),
            at_ms,
            encounter,
        );
        let potassium = self.random.bell(if kidneys { 4.6 } else { 4.2 }, 0.3);
        self.quantity(
            ("2823-3", "Potassium [Moles/volume] in Serum or Plasma"),
            LABORATORY,
            potassium,
            ("mmol/L", "mmol/L"),
            at_ms,
            encounter,
        );
        let sodium = self.random.bell(139.0, 2.2).round();
        self.quantity(
            ("2951-2", "Sodium [Moles/volume] in Serum or Plasma"),
            LABORATORY,
            sodium,
            ("mmol/L", "mmol/L"),
            at_ms,
            encounter,
        );
        if sugar {
            let long_term = self.random.bell(7.3, 0.7);
            self.quantity(
                ("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood"),
                LABORATORY,
                long_term,
                ("%", "%"),
                at_ms,
                encounter,
            );
        }
        if fibrillates {
            let haemoglobin = self.random.bell(13.2, 0.9);
            self.quantity(
                ("718-7", "Hemoglobin [Mass/volume] in Blood"),
                LABORATORY,
                haemoglobin,
                ("g/dL", "g/dL"),
                at_ms,
                encounter,
            );
        }
    }

    pub(crate) fn quantity(
        &mut self,
        code: (&str, &str),
        category: &str,
        value: f64,
        unit: (&str, &str),
        at_ms: u64,
        encounter: &str,
    ) {
        let mut resource = self.observation(code, category, at_ms, encounter);
        resource["valueQuantity"] =
            json!({ "value": number(value), "unit": unit.0, "system": UCUM, "code": unit.1 });
        self.add("Observation", resource);
    }

    fn observation(
        &self,
        code: (&str, &str),
        category: &str,
        at_ms: u64,
        encounter: &str,
    ) -> Value {
        json!({
            "resourceType": "Observation",
            "status": "final",
            "category": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category
            }] }],
            "code": { "coding": [{ "system": LOINC, "code": code.0, "display": code.1 }], "text": code.1 },
            "subject": self.subject(),
            "encounter": { "reference": encounter },
            "effectiveDateTime": date_time(at_ms),
            "issued": date_time(at_ms)
        })
    }
}

/// To one decimal place, and without one where there is nothing behind the point.
#[allow(clippy::cast_possible_truncation, reason = "clinical values are small")]
fn number(value: f64) -> Value {
    let tenths = (value * 10.0).round();
    if tenths % 10.0 == 0.0 {
        json!((tenths / 10.0) as i64)
    } else {
        json!(tenths / 10.0)
    }
}

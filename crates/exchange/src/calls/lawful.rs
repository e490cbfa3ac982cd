//! May this call be made now? Asked when it goes out, not only when its journey was published, because contract,
//! clearance, consent and life may have changed in between. Pure.

use std::collections::BTreeSet;

use fhir::{Resource, ResourceType};
use trust::consent::{self, Act, Rules};
use trust::outgoing::Call;
use trust::partners::{DataClass, Partner};
use trust::{Purpose, conventions};

/// Why a call is not made: a code of [`conventions::NOT_DONE_SYSTEM`], and words for the timeline that hold nothing of
/// the patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) words: String,
}

impl Refused {
    pub(super) fn new(code: &'static str, words: impl Into<String>) -> Self {
        Self {
            code,
            words: words.into(),
        }
    }
}

/// What is known of the patient now.
pub(super) struct Known<'a> {
    /// Nothing where the record is gone.
    pub(super) patient: Option<&'a Resource>,
    pub(super) rules: &'a Rules,
    pub(super) consents: &'a [Resource],
    pub(super) known_as: &'a [String],
}

/// Why it is lawful to make a call, in words for the audit; or why it isn't made.
pub(super) fn lawful(
    call: &Call,
    partner: Option<&Partner>,
    known: &Known<'_>,
    now_ms: u64,
) -> Result<String, Refused> {
    if now_ms > call.until_ms {
        return Err(Refused::new("expired", "Its time was over."));
    }
    let Some(partner) = partner else {
        return Err(Refused::new(
            "unknown-partner",
            format!("There is no partner {} any more.", call.partner),
        ));
    };
    let purpose: Option<Purpose> = serde_json::from_value(call.purpose.as_str().into()).ok();
    let Some(purpose) = purpose else {
        return Err(Refused::new(
            "consent",
            "It names no purpose that is known.",
        ));
    };
    // A class that isn't known here may be any.
    let classes: Option<BTreeSet<DataClass>> = (call.classes.iter())
        .map(|class| DataClass::parse(class))
        .collect();
    let Some(classes) = classes else {
        return Err(Refused::new(
            "not-cleared",
            "It tells what isn't known here.",
        ));
    };
    if let Some(why) = partner.refuses(purpose, &classes, now_ms) {
        let words = format!("Not told: {}.", why.words(&call.partner));
        return Err(Refused::new(why.code(), words));
    }
    let contract = contract(partner);
    if call.compensates.is_some() {
        return Ok(format!("{contract}, of what the partner has already"));
    }
    let Some(patient) = known.patient else {
        return Err(Refused::new("consent", "The patient's record is gone."));
    };
    if is_deceased(patient) {
        return Err(Refused::new("deceased", "The patient has died."));
    }
    let about: Option<Vec<_>> = (call.about.iter())
        .map(|name| ResourceType::parse(name))
        .collect();
    let act = Act {
        purpose,
        about: about.unwrap_or_default(),
        known_as: known.known_as.to_vec(),
    };
    let at_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let decision = consent::decide_act(known.rules, known.consents, &act, at_ms);
    if decision.permitted {
        Ok(format!("{contract}, consents allow it"))
    } else {
        Err(Refused::new("consent", decision.reason))
    }
}

/// The contract under which a partner is told, for the audit.
pub(crate) fn contract(partner: &Partner) -> String {
    format!(
        "contract {} until {}",
        partner.contract.name(),
        partner.until
    )
}

/// Whether a patient has died, as their record says.
pub(crate) fn is_deceased(patient: &Resource) -> bool {
    let flag = patient.get("deceasedBoolean");
    patient.get("deceasedDateTime").is_some()
        || flag.and_then(serde_json::Value::as_bool) == Some(true)
}

/// As a resource has it.
pub(super) fn reason(refused: &Refused) -> serde_json::Value {
    serde_json::json!({
        "coding": [{"system": conventions::NOT_DONE_SYSTEM, "code": refused.code}],
        "text": refused.words
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use trust::partners::Contract;

    use super::*;

    fn call(change: &[(&str, Value)]) -> Call {
        let mut call = json!({
            "patient": "p", "task": "t", "partner": "rides", "path": "/bookings", "fhir": false,
            "values": {"name": "Quandt"}, "classes": ["identity"], "purpose": "TREAT", "about": [], "timeout_ms": 1000,
            "retries": 1, "backoff_ms": 1000, "until_ms": 100, "learns": [], "journey": "j/1", "step": "s"
        });
        for (name, value) in change {
            call[*name] = value.clone();
        }
        serde_json::from_value(call).expect("a call")
    }

    fn partner() -> Partner {
        Partner {
            name: "rides".to_owned(),
            title: "Rides".to_owned(),
            base: "https://rides.example.org".to_owned(),
            carries: std::collections::BTreeSet::new(),
            contract: Contract::Baa,
            until: "2026-12-31".to_owned(),
            until_ms: 90,
            data: [DataClass::Identity].into(),
            purposes: vec![Purpose::Treatment],
            token_file: None,
            signing_key_file: None,
            timeout_ms: 1_000,
            at_once: 1,
            private_network: false,
        }
    }

    #[test]
    fn says_why_or_why_not() {
        let rules = Rules::load(Rules::DEFAULT).expect("rules");
        let resource = |value: Value| Resource::from_value(value).expect("a resource");
        let alive = resource(json!({"resourceType": "Patient", "id": "p"}));
        let dead = resource(json!({"resourceType": "Patient", "id": "p", "deceasedBoolean": true}));
        let no = [consent::care_messages("p", false, 1)];
        let yes: &[Resource] = &[];
        let (plain, back) = (call(&[]), call(&[("compensates", json!("k"))]));
        let wide = call(&[("classes", json!(["identity", "health"]))]);
        let odd = call(&[("classes", json!(["genome"]))]);
        let care = call(&[("purpose", json!("CAREMGT"))]);
        let odder = call(&[("purpose", json!("FUN"))]);
        let known = Some(partner());
        for (what, call, partner, patient, consents, now_ms, expected) in [
            ("goes", &plain, &known, Some(&alive), yes, 50, None),
            (
                "late",
                &plain,
                &known,
                Some(&alive),
                yes,
                101,
                Some("expired"),
            ),
            (
                "nobody",
                &plain,
                &None,
                Some(&alive),
                yes,
                50,
                Some("unknown-partner"),
            ),
            (
                "ended",
                &plain,
                &known,
                Some(&alive),
                yes,
                90,
                Some("no-contract"),
            ),
            (
                "class",
                &wide,
                &known,
                Some(&alive),
                yes,
                50,
                Some("not-cleared"),
            ),
            (
                "odd class",
                &odd,
                &known,
                Some(&alive),
                yes,
                50,
                Some("not-cleared"),
            ),
            (
                "purpose",
                &care,
                &known,
                Some(&alive),
                yes,
                50,
                Some("not-cleared"),
            ),
            (
                "odd purpose",
                &odder,
                &known,
                Some(&alive),
                yes,
                50,
                Some("consent"),
            ),
            ("gone", &plain, &known, None, yes, 50, Some("consent")),
            (
                "died",
                &plain,
                &known,
                Some(&dead),
                yes,
                50,
                Some("deceased"),
            ),
            (
                "withdrawn",
                &plain,
                &known,
                Some(&alive),
                &no,
                50,
                Some("consent"),
            ),
            ("taken back", &back, &known, Some(&dead), &no, 50, None),
            (
                "taken back late",
                &back,
                &known,
                Some(&dead),
                &no,
                90,
                Some("no-contract"),
            ),
        ] {
            let known = Known {
                patient,
                rules: &rules,
                consents,
                known_as: &[],
            };
            let found = lawful(call, partner.as_ref(), &known, now_ms);
            let code = found.as_ref().err().map(|refused| refused.code);
            assert_eq!(code, expected, "{what}: {found:?}");
            if let Ok(words) = found {
                assert!(
                    words.starts_with("contract baa until 2026-12-31, "),
                    "{words}"
                );
            }
        }
    }
}

//! A look at the record: whether something is there, whether consents allow something, whether there is
//! a coverage.
//!
//! The engine asks nobody. It says what it wants to know, and is told in the same unit of work; what it
//! was told is in the trail and among what was learnt.

use super::{StepKind, way};
use crate::decode::build::{Parts, line, path, resource};
use crate::definition::{Definition, Path, Step, Target, Way};
use crate::engine::{Effect, Engine};
use crate::spec::{Focus, Kind, Record, Shape, may, must};
use fhir::ResourceType;
use fhir::path::Given;
use serde_json::json;
use std::sync::Arc;
use trust::Purpose;

/// Types in patients' records that no condition looks at: bills and the audit, which the policy of the journeys'
/// engine doesn't let it look at, and insurers' answers, of which it asks whether they say yes, and no amounts.
pub(crate) const NOT_LOOKED_AT: &[ResourceType] = &[
    ResourceType::Account,
    ResourceType::AuditEvent,
    ResourceType::ChargeItem,
    ResourceType::Claim,
    ResourceType::ClaimResponse,
    ResourceType::Contract,
    ResourceType::CoverageEligibilityRequest,
    ResourceType::CoverageEligibilityResponse,
    ResourceType::EnrollmentRequest,
    ResourceType::EnrollmentResponse,
    ResourceType::ExplanationOfBenefit,
    ResourceType::Invoice,
];

static CHECK: Record = Record {
    name: "check",
    doc: "A look at the patient's record, as it is when they come here.",
    one_of: &["has", "consent", "coverage"],
    fields: &[
        may(
            "has",
            Shape::Resource,
            "Whether the record has a resource of this type ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "With `has`: ... of which this holds.",
        ),
        may(
            "consent",
            Shape::Choice(&[
                ("TREAT", "Treatment."),
                ("CAREMGT", "Care management."),
                ("HPAYMT", "Payment."),
                ("HOPERAT", "Operations."),
                ("HRESCH", "Research."),
            ]),
            "Whether the patient's consents allow this purpose (HL7 v3 `PurposeOfUse`), for what this journey is about.",
        ),
        may(
            "coverage",
            Shape::Choice(&[
                (
                    "active",
                    "A `Coverage` whose status is active and whose period, if it has one, holds today. No insurer is asked, so it says nothing of what is paid for.",
                ),
                (
                    "eligible",
                    "What an insurer answered last: the newest complete `CoverageEligibilityResponse` says of an insurance that it is in force, for a benefit period that holds today, or, where it names none, no longer than 31 days ago. A `call` can ask the insurer before.",
                ),
            ]),
            "Whether the patient is insured, as the record knows.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "check",
    doc: CHECK.doc,
    body: Shape::Record(&CHECK),
    ways: &[
        must("yes", Shape::Target, "Where to go when it is so."),
        must("no", Shape::Target, "Where to go when it isn't."),
    ],
    example: "weighed:\n  title: Has the patient been weighed?\n  check:\n    has: Observation\n    where: code.coding.exists(code = '29463-7')\n  yes: end\n  no: call\n",
    decode,
};

/// What is asked of the record.
#[derive(Debug)]
pub(crate) enum Question {
    /// Whether it has a resource of a type of which something holds.
    Has(ResourceType, Option<Path>),
    /// Whether the consents allow a purpose.
    Consent(Purpose),
    /// Whether it has a coverage that is active.
    Coverage,
    /// Whether an insurer has said that one is in force.
    Eligible,
}

#[derive(Debug)]
struct Check {
    question: Question,
    yes: Target,
    no: Target,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    let question = if let Some(kind) = resource(body, "has") {
        Question::Has(kind, body.get("where").and_then(path))
    } else if let Some(purpose) = line(body, "consent") {
        Question::Consent(Purpose::parse(&purpose)?)
    } else if line(body, "coverage").as_deref() == Some("eligible") {
        Question::Eligible
    } else {
        Question::Coverage
    };
    Some(Arc::new(Check {
        question,
        yes: parts.way("yes")?,
        no: parts.way("no")?,
    }))
}

impl StepKind for Check {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        vec![way("yes", &self.yes, true), way("no", &self.no, true)]
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        vec![("holds", Given::Boolean)]
    }
    fn asks(&self) -> Option<&Question> {
        Some(&self.question)
    }

    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        Some(0)
    }
    fn check(&self, check: &mut crate::check::Check<'_, '_>, step: &Step) {
        let condition = check.node(step, &["check", "where"]).map(|node| node.place);
        match &self.question {
            Question::Has(kind, _) => {
                let place = check.at(step, &["check", "has"]);
                check.in_a_record(*kind, place, "no journey can look for one");
                check.looked_at(*kind, place);
            }
            _ => {
                if let Some(place) = condition {
                    let words = "`where` goes with `has` only";
                    check.findings.error("J004", place, words);
                }
            }
        }
    }

    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        engine.effects.push(Effect::Look {
            step: step.id.clone(),
            n,
        });
    }
    fn seen(&self, engine: &mut Engine<'_>, step: &Step, n: u32, holds: bool) {
        engine.learn(&step.id, "holds", json!(holds));
        if holds {
            engine.leave(n, "yes", &self.yes);
        } else {
            engine.leave(n, "no", &self.no);
        }
    }
}

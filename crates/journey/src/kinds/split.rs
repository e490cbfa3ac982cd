//! An experiment: patients are drawn into arms by weight.
//!
//! Who comes into which arm follows from a keyed hash of patient, journey and experiment, so a replay and
//! a second time through draw the same; what was drawn is kept in the state, and holds from then on.

use super::{StepKind, way};
use crate::check::Check;
use crate::decode::build::{Parts, line, number};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::Engine;
use crate::spec::{Kind, Record, Shape, may, must};
use crate::state::What;
use crate::yaml::Node;
use fhir::path::Given;
use serde_json::json;
use std::sync::Arc;

/// The name of the arm of those who are left out on purpose.
const HOLDOUT: &str = "holdout";
/// What all weights come to.
const WHOLE: u64 = 100;

static ARM: Record = Record {
    name: "arm",
    doc: "One arm of an experiment.",
    one_of: &[],
    fields: &[
        must(
            "id",
            Shape::Line,
            "The arm's name, as the trail and later conditions call it.",
        ),
        must(
            "weight",
            Shape::Integer(1, 99),
            "How many of a hundred patients come into it.",
        ),
        must("next", Shape::Target, "Where they go."),
    ],
};

static LEFT_OUT: Record = Record {
    name: "holdout",
    doc: "Those who are left out of an experiment, to compare with.",
    one_of: &[],
    fields: &[
        must(
            "weight",
            Shape::Integer(1, 99),
            "How many of a hundred patients are left out. It is the same ones whatever the weights of the arms.",
        ),
        must("next", Shape::Target, "Where they go."),
    ],
};

static SPLIT: Record = Record {
    name: "split",
    doc: "An experiment: patients are drawn into arms by weight. All weights, the holdout's too, come to 100. A patient stays in the arm that they were drawn into, each time they come here; they get the same one each time they take this journey, as long as the weights stay. The draw is kept with the patient's place in the journey and shown in the trail. The same `experiment` in another journey is another experiment, drawn anew.",
    one_of: &[],
    fields: &[
        may(
            "experiment",
            Shape::Name,
            "The experiment's name; the step's id if not given. Steps of one journey that name the same experiment give a patient the same arm, and have the same arms with the same weights.",
        ),
        must("arms", Shape::List(&Shape::Record(&ARM)), "The arms."),
        may(
            "holdout",
            Shape::Record(&LEFT_OUT),
            "Those who are left out, as the arm `holdout`; nobody if not given.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "split",
    doc: SPLIT.doc,
    body: Shape::Record(&SPLIT),
    ways: &[],
    example: "trial:\n  title: When to ask\n  split:\n    experiment: first-question\n    arms:\n      - id: early\n        weight: 45\n        next: day_one\n      - id: late\n        weight: 45\n        next: day_three\n    holdout:\n      weight: 10\n      next: visit\n",
    decode,
};

#[derive(Debug)]
struct Split {
    experiment: Option<String>,
    /// The holdout first: it is the same part of all patients whatever the arms weigh.
    arms: Vec<Arm>,
}

#[derive(Debug)]
struct Arm {
    id: String,
    weight: u64,
    next: Target,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let mut arms = Vec::new();
    if let Some(holdout) = parts.body.get("holdout") {
        arms.push(arm(parts, holdout, HOLDOUT.to_owned())?);
    }
    for item in parts.body.get("arms")?.items() {
        arms.push(arm(parts, item, line(item, "id")?)?);
    }
    Some(Arc::new(Split {
        experiment: line(parts.body, "experiment"),
        arms,
    }))
}

fn arm(parts: &Parts<'_>, node: &Node, id: String) -> Option<Arm> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 1 to 99"
    )]
    let weight = number(node, "weight")? as u64;
    Some(Arm {
        id,
        weight,
        next: parts.target(node.get("next")?),
    })
}

impl Split {
    fn name<'a>(&'a self, step: &'a Step) -> &'a str {
        self.experiment.as_deref().unwrap_or(&step.id)
    }
    fn arm(&self, id: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.id == id)
    }
    /// The arm of who drew this number, of all numbers evenly.
    fn drawn(&self, number: u64) -> Option<&Arm> {
        let whole: u64 = self.arms.iter().map(|arm| arm.weight).sum();
        let place = u64::try_from((u128::from(number) * u128::from(whole)) >> 64).ok()?;
        let mut end = 0;
        self.arms.iter().find(|arm| {
            end += arm.weight;
            place < end
        })
    }
}

impl StepKind for Split {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let held = self.arms.iter().filter(|arm| arm.id == HOLDOUT);
        let arms = self.arms.iter().filter(|arm| arm.id != HOLDOUT);
        arms.chain(held)
            .map(|arm| way(&arm.id, &arm.next, true))
            .collect()
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let arms = self.arms.iter().map(|arm| arm.id.as_str());
        vec![("arm", Given::Code(arms.collect()))]
    }
    fn experiment<'a>(&'a self, step: &'a Step) -> Option<(&'a str, Vec<(&'a str, u64)>)> {
        let arms = self.arms.iter().map(|arm| (arm.id.as_str(), arm.weight));
        Some((self.name(step), arms.collect()))
    }

    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        Some(0)
    }
    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        let place = check.at(step, &["split", "arms"]);
        let whole: u64 = self.arms.iter().map(|arm| arm.weight).sum();
        if whole != WHOLE {
            let words = format!(
                "the weights of `{}` come to {whole}; together with the holdout's they must come to {WHOLE}",
                step.id
            );
            check.findings.error("J039", place, words);
        }
        let list = check.node(step, &["split", "arms"]);
        let named: Vec<_> = list
            .map_or(&[][..], Node::items)
            .iter()
            .filter_map(|item| Some((item.get("id")?.place, item.get("id")?.text()?.to_owned())))
            .collect();
        for (index, (at, id)) in named.iter().enumerate() {
            if named[..index].iter().any(|(_, earlier)| earlier == id) {
                let words = format!("arm `{id}` stands twice");
                check.findings.error("J024", *at, words);
            }
            if id == HOLDOUT {
                let words = "an arm can't be called `holdout`; those who are left out stand under `holdout:`";
                check.findings.error("J039", *at, words);
            }
        }
        let own = self.experiment(step);
        let earlier = check
            .definition
            .steps
            .iter()
            .take_while(|other| other.id != step.id)
            .filter_map(|other| Some((other, other.kind.experiment(other)?)));
        let other = own.and_then(|(name, arms)| {
            earlier
                .filter(|(_, (other, _))| *other == name)
                .find(|(_, (_, others))| *others != arms)
                .map(|(other, _)| format!("`{}` has other arms or weights of the experiment `{name}`, so a patient's arm there need not be one here; give both the same, or this one another name", other.id))
        });
        if let Some(words) = other {
            check.findings.error("J039", place, words);
        }
    }

    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let experiment = self.name(step);
        let before = engine.state.arms.get(experiment);
        let arm = before
            .and_then(|arm| self.arm(arm))
            .or_else(|| self.drawn(engine.draw(experiment)));
        let Some(arm) = arm else {
            return;
        };
        engine
            .state
            .arms
            .insert(experiment.to_owned(), arm.id.clone());
        engine.learn(&step.id, "arm", json!(arm.id));
        engine.trail(
            &step.id,
            What::Drawn {
                experiment: experiment.to_owned(),
                arm: arm.id.clone(),
            },
            None,
        );
        engine.leave(n, &arm.id, &arm.next);
    }

    // The draw stands there itself.
    fn left(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

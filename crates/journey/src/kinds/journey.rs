//! Another journey for the same patient, and how it ends.
//!
//! What stands between the two is a `Task` in the record. This journey writes it; whoever reads the feed
//! begins the other one for it (`runner/parts.rs`), in a unit of work of its own; that one completes it when
//! it ends, with how it ended. So neither has to be moved in the other's unit of work, and a crash between
//! them loses nothing.

use super::{Carried, Plan, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Effect, Engine, EngineError, Fact, Ids};
use crate::resources::{Maker, resource};
use crate::spec::{Kind, Record, Shape, may, must};
use crate::state::{Stand, State, Token, What};
use crate::yaml::Node;
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use std::sync::Arc;
use trust::conventions::{JOURNEY_ORDER, TASK_SYSTEM};

/// What the `Task`'s id is made from.
const SLOT: &str = "journey";
/// How it came out where no journey was begun, among what was learnt.
const NOT_BEGUN: &str = "not_begun";

static JOURNEY: Record = Record {
    name: "journey",
    doc: "Another journey of the same patient: it is begun, and its end is waited for.",
    one_of: &[],
    fields: &[
        must(
            "begins",
            Shape::Name,
            "The journey's name. The patient goes on its newest version of that moment; of its anchors, those that have the same name here have the same time, and others are when it begins.",
        ),
        must("up_to", Shape::Duration, "How long its end is waited for."),
        may(
            "when_left",
            Shape::Choice(&[
                (
                    "end",
                    "It ends with a journey that doesn't wait for it any more.",
                ),
                ("go_on", "It goes on by itself."),
            ]),
            "What becomes of it when this step is left, or this journey ends, before it has ended; `end` if not given.",
        ),
        may(
            "endings",
            Shape::Map("ending", &Shape::Target),
            "Where to go by how it ended: the id of an exit, `completed`, `time_over` or `stopped`. Any other ending takes `next`.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "journey",
    doc: JOURNEY.doc,
    body: Shape::Record(&JOURNEY),
    ways: &[
        must("next", Shape::Target, "Where to go once it has ended."),
        must(
            "not_begun",
            Shape::Target,
            "Where to go when it can't be begun: it isn't live, isn't for this patient, is under way already, or consents don't allow it.",
        ),
        must(
            "time_over",
            Shape::Target,
            "Where to go when it hasn't ended in time.",
        ),
    ],
    example: "wound:\n  title: Wound care at home\n  journey:\n    begins: wound-care\n    up_to: 30d\n    endings:\n      healed: end\n  next: visit\n  not_begun: call\n  time_over: call\n",
    decode,
};

#[derive(Debug)]
struct Part {
    begins: String,
    up_to_ms: u64,
    ends_with: bool,
    endings: Vec<(String, Target)>,
    next: Target,
    not_begun: Target,
    time_over: Target,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    let endings = body.get("endings").map(Node::members).unwrap_or_default();
    Some(Arc::new(Part {
        begins: line(body, "begins")?,
        up_to_ms: length(body, "up_to")?,
        ends_with: line(body, "when_left").as_deref() != Some("go_on"),
        endings: endings
            .iter()
            .map(|(key, node)| (key.name.clone(), parts.target(node)))
            .collect(),
        next: parts.way("next")?,
        not_begun: parts.way("not_begun")?,
        time_over: parts.way("time_over")?,
    }))
}

impl Part {
    /// Takes the order back, which ends what was begun for it.
    fn take_back(&self, engine: &mut Engine<'_>, token: &Token, why: &str) {
        if self.ends_with {
            engine.effects.push(Effect::CloseTask {
                task: engine.resource_id(token.n, SLOT),
                done: false,
                why: why.to_owned(),
            });
        }
    }
}

impl StepKind for Part {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        // It may be over as soon as it begins.
        let endings = self.endings.iter();
        let mut ways: Vec<Way<'_>> = endings
            .map(|(ending, target)| way(ending, target, true))
            .collect();
        ways.push(way("ended", &self.next, true));
        ways.push(way("not begun", &self.not_begun, true));
        ways.push(way("time over", &self.time_over, false));
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        // The endings of the other journey stand in its own file.
        vec![("ended", Given::Text)]
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Task]
    }
    fn begins(&self) -> Option<&str> {
        Some(&self.begins)
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.begins == check.definition.name {
            let place = check.at(step, &["journey", "begins"]);
            check.findings.error("J058", place, "this journey would begin itself, and that one itself again; lead back to an earlier step, or use `repeat`");
        }
    }
    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        Some(self.up_to_ms)
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::worked_on()
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Task, SLOT))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let task = engine.resource_id(n, SLOT);
        let due_ms = engine.context.now_ms.saturating_add(self.up_to_ms);
        engine.effects.push(Effect::OpenTask {
            step: step.id.clone(),
            task,
            due_ms,
            whose: None,
            confirms: None,
        });
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        vec![("until", token.since_ms.saturating_add(self.up_to_ms))]
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        _: &str,
    ) -> Result<(), EngineError> {
        self.take_back(engine, token, "Not waited for any longer");
        engine.learn(&step.id, "ended", json!("time_over_here"));
        engine.leave(token.n, "time over", &self.time_over);
        Ok(())
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(fact, Fact::Task { id, .. } if engine.resource_id(token.n, SLOT) == *id)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        let Fact::Task {
            status, outcome, ..
        } = fact
        else {
            return;
        };
        let ended = match status.as_str() {
            "rejected" => {
                engine.learn(&step.id, "ended", json!(NOT_BEGUN));
                engine.leave(token.n, "not begun", &self.not_begun);
                return;
            }
            "completed" => outcome.as_deref().unwrap_or("completed"),
            // Somebody else took the order back, which ends what was begun for it.
            "cancelled" | "failed" | "entered-in-error" => "stopped",
            _ => return,
        };
        engine.learn(&step.id, "ended", json!(ended));
        let mut endings = self.endings.iter();
        match endings.find(|(ending, _)| ending == ended) {
            Some((ending, target)) => engine.leave(token.n, ending, target),
            None => engine.leave(token.n, "ended", &self.next),
        }
    }
    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        let said = match way.label.as_str() {
            "ended" => "completed",
            "not begun" => NOT_BEGUN,
            "time over" => "time_over_here",
            ending => ending,
        };
        engine.learn(&step.id, "ended", json!(said));
        engine.leave(token.n, &way.label, way.target);
    }
    // Whether tasks for staff are kept is another matter.
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, _: bool) {
        self.take_back(engine, token, why);
    }

    fn carried(&self, _: &Stand, before: &Node, after: &Node) -> Carried {
        // The order that stands there is for one journey.
        if same_of(before, after, KIND.name, &["begins"]) {
            Carried::As
        } else {
            Carried::Anew
        }
    }

    fn waiting(&self, _: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        Some(Waiting {
            what: format!("Waits for the end of the journey {}", self.begins),
            plain: String::new(),
            until_ms: Some(token.since_ms.saturating_add(self.up_to_ms)),
        })
    }
    fn entered(&self, title: &str) -> Option<String> {
        Some(format!("Asked for the journey {}: {title}", self.begins))
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        (*what == What::Entered).then(|| Plan {
            what: format!("Begins the journey {}", self.begins),
            plain: step.plain.clone().unwrap_or_default(),
        })
    }

    fn resource(
        &self,
        maker: &Maker<'_>,
        _: &dyn Ids,
        step: &Step,
        effect: &Effect,
    ) -> Option<Resource> {
        let Effect::OpenTask { task, due_ms, .. } = effect else {
            return None;
        };
        let outcome = |ending: &String| json!({"type": {"text": "outcome"}, "valueString": ending});
        let endings: Vec<Value> = self.endings.iter().map(|(name, _)| outcome(name)).collect();
        Some(resource(
            ResourceType::Task,
            task,
            json!({
                "identifier": maker.identifiers(&step.id),
                "status": "in-progress",
                "intent": "order",
                "code": {"coding": [{"system": TASK_SYSTEM, "code": JOURNEY_ORDER}], "text": step.title},
                "description": format!("Journey {}", self.begins),
                "for": maker.subject(),
                "authoredOn": maker.now(),
                "restriction": {"period": {"end": fhir::date::instant(*due_ms)}},
                "input": if endings.is_empty() { Value::Null } else { Value::Array(endings) },
            }),
        ))
    }
}

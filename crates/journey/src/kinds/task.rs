//! Work for staff.

use super::{Plan, StepKind, Waiting, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, template};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Effect, Engine, EngineError, Fact, Ids};
use crate::resources::{Maker, Times, resource, role};
use crate::spec::{Clearance, Kind, PRIORITIES, ROLES, Record, Shape, may, must};
use crate::state::{Stand, State, Token, What};
use crate::template::Template;
use crate::time::say_duration;
use crate::yaml::{Content, Node};
use fhir::{Resource, ResourceType};
use serde_json::{Value, json};
use std::sync::Arc;
use trust::conventions::TASK_SYSTEM;

static ESCALATION: Record = Record {
    name: "escalation",
    doc: "The same task is handed on: to another role, with another priority.",
    one_of: &[],
    fields: &[
        must("role", ROLES, "To whom."),
        must("priority", PRIORITIES, "With which priority."),
    ],
};

static TASK: Record = Record {
    name: "task",
    doc: "Work for staff, in the worklist of a role.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What is to be done."),
        must(
            "reason",
            Shape::Words(Clearance::Closed),
            "Why, in a sentence for staff; `{step.member}` names what the journey has learnt, e.g. `{weight_watch.rise}`.",
        ),
        must("role", ROLES, "Whose worklist."),
        may("priority", PRIORITIES, "`routine` if not given."),
        must(
            "due",
            Shape::Duration,
            "How soon, counted from when the step was entered.",
        ),
        may(
            "outcomes",
            Shape::Map("outcome", &Shape::Target),
            "Outcomes that staff can choose from, and where each leads; any other outcome takes `next`.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "task",
    doc: TASK.doc,
    body: Shape::Record(&TASK),
    ways: &[
        must(
            "next",
            Shape::Target,
            "Where to go when the task was completed.",
        ),
        may(
            "not_done",
            Shape::Target,
            "Where to go when the task was cancelled, rejected or failed; `next` if not given.",
        ),
        may(
            "overdue",
            Shape::TargetOr(&ESCALATION),
            "What happens when it isn't done in time: a step (the task is closed and the journey goes there) or a hand-over (`role`, `priority`).",
        ),
    ],
    example: "call:\n  title: Call the patient\n  task:\n    title: Call the patient\n    reason: The symptom questions were not answered.\n    role: coordinator\n    priority: urgent\n    due: 24h\n  next: end\n  overdue: {role: clinician, priority: urgent}\n",
    decode,
};

#[derive(Debug)]
struct Task {
    title: String,
    reason: Template,
    role: String,
    priority: String,
    due_ms: u64,
    outcomes: Vec<(String, Target)>,
    next: Target,
    not_done: Option<Target>,
    overdue: Option<Overdue>,
}

#[derive(Debug)]
enum Overdue {
    Go(Target),
    HandOver { role: String, priority: String },
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    Some(Arc::new(Task {
        title: line(body, "title")?,
        reason: template(body.get("reason")?)?,
        role: line(body, "role")?,
        priority: line(body, "priority").unwrap_or_else(|| "routine".to_owned()),
        due_ms: length(body, "due")?,
        outcomes: body
            .get("outcomes")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .map(|(key, node)| (key.name.clone(), parts.target(node)))
            .collect(),
        next: parts.way("next")?,
        not_done: parts.way("not_done"),
        overdue: match parts.node.get("overdue") {
            Some(map) if matches!(map.content, Content::Map(_)) => Some(Overdue::HandOver {
                role: line(map, "role")?,
                priority: line(map, "priority")?,
            }),
            Some(other) => Some(Overdue::Go(parts.target(other))),
            None => None,
        },
    }))
}

impl StepKind for Task {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = self
            .outcomes
            .iter()
            .map(|(outcome, target)| way(outcome, target, false))
            .collect();
        ways.push(way("done", &self.next, false));
        ways.extend(
            self.not_done
                .as_ref()
                .map(|target| way("not done", target, false)),
        );
        if let Some(Overdue::Go(target)) = &self.overdue {
            ways.push(way("overdue", target, false));
        }
        ways
    }
    fn gives(&self) -> Vec<String> {
        vec!["outcome".to_owned()]
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Task]
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        match &self.overdue {
            None => check.findings.error("J014", step.place, format!("`{}` has no `overdue`: say what happens when the task isn't done in {}: a step, or a hand-over (`{{role: clinician, priority: urgent}}`)", step.id, say_duration(self.due_ms))),
            Some(Overdue::Go(target)) if target.steps.is_empty() => check.findings.warning("J014", step.place, format!("`{}` is closed and forgotten when it is overdue; hand it over or lead to a step", step.id)),
            Some(_) => {}
        }
    }
    fn has_time(&self, variable: &str) -> bool {
        variable == "due.day"
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::Working { handed_over: false }
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Task, "task"))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let task = engine.resource_id(n, "task");
        let due_ms = engine.context.now_ms + self.due_ms;
        engine.effects.push(Effect::OpenTask {
            step: step.id.clone(),
            task,
            due_ms,
        });
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        match &token.stand {
            Stand::Working { handed_over: false } if self.overdue.is_some() => {
                vec![("due", token.since_ms + self.due_ms)]
            }
            _ => Vec::new(),
        }
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        _: &str,
    ) -> Result<(), EngineError> {
        if !matches!(token.stand, Stand::Working { .. }) {
            return Err(EngineError::NoStep(token.step.clone()));
        }
        let id = engine.resource_id(token.n, "task");
        match &self.overdue {
            Some(Overdue::Go(target)) => {
                engine.close_task(token.n, false, "Not done in time; handed on");
                engine.learn(&step.id, "outcome", json!("overdue"));
                engine.leave(token.n, "overdue", target);
            }
            Some(Overdue::HandOver { role, priority }) => {
                if let Some(Stand::Working { handed_over }) = engine.stand_mut(token.n) {
                    *handed_over = true;
                }
                engine.trail(
                    &step.id,
                    What::HandedOver { role: role.clone() },
                    Some(format!("Task/{id}")),
                );
                engine.effects.push(Effect::HandOver {
                    task: id,
                    role: role.clone(),
                    priority: priority.clone(),
                });
            }
            None => {}
        }
        Ok(())
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(token.stand, Stand::Working { .. })
            && matches!(fact, Fact::Task { id, .. } if engine.resource_id(token.n, "task") == *id)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        let Fact::Task {
            status, outcome, ..
        } = fact
        else {
            return;
        };
        let done = match status.as_str() {
            "completed" => true,
            "cancelled" | "rejected" | "failed" | "entered-in-error" => false,
            _ => return,
        };
        let said = outcome
            .as_deref()
            .unwrap_or(if done { "done" } else { "not done" });
        engine.learn(&step.id, "outcome", json!(said));
        let chosen = self
            .outcomes
            .iter()
            .find(|(name, _)| Some(name) == outcome.as_ref());
        let (label, target) = match (done, chosen) {
            (true, Some((name, target))) => (name.as_str(), target),
            (true, None) => ("done", &self.next),
            (false, _) => ("not done", self.not_done.as_ref().unwrap_or(&self.next)),
        };
        engine.leave(token.n, label, target);
    }
    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        engine.learn(&step.id, "outcome", json!(way.label));
        engine.leave(token.n, &way.label, way.target);
    }
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, close_tasks: bool) {
        if close_tasks && matches!(token.stand, Stand::Working { .. }) {
            engine.close_task(token.n, false, why);
        }
    }

    fn waiting(&self, _: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        let Stand::Working { handed_over } = &token.stand else {
            return None;
        };
        let what = if *handed_over {
            let role = match &self.overdue {
                Some(Overdue::HandOver { role, .. }) => role.as_str(),
                _ => self.role.as_str(),
            };
            format!(
                "Waits for a {role}: {} (was overdue, handed over)",
                self.title
            )
        } else {
            format!("Waits for a {}: {}", self.role, self.title)
        };
        Some(Waiting {
            what,
            plain: String::new(),
            until_ms: (!handed_over).then_some(token.since_ms + self.due_ms),
        })
    }
    fn entered(&self, _: &str) -> Option<String> {
        Some(format!("Task for a {}: {}", self.role, self.title))
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        match what {
            What::Entered => Some(Plan {
                what: format!("Task for a {}: {}", self.role, step.title),
                plain: step.plain.clone().unwrap_or_default(),
            }),
            What::HandedOver { role } => Some(Plan {
                what: format!("Handed over to a {role} if not done: {}", self.title),
                plain: String::new(),
            }),
            _ => None,
        }
    }

    fn names_patient(&self) -> bool {
        self.reason.mentions("patient.")
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
        let times = Times {
            due_ms: Some(*due_ms),
            visit_ms: None,
        };
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|(outcome, _)| json!({"type": {"text": "outcome"}, "valueString": outcome}))
            .collect();
        Some(resource(
            ResourceType::Task,
            task,
            json!({
                "identifier": maker.identifiers(&step.id),
                "status": "requested",
                "intent": "order",
                "priority": self.priority,
                "code": {"coding": [{"system": TASK_SYSTEM, "code": "staff-task"}], "text": self.title},
                "description": self.title,
                "for": maker.subject(),
                "authoredOn": maker.now(),
                "performerType": [role(&self.role)],
                "reasonCode": {"text": maker.words(&self.reason, times)},
                "restriction": {"period": {"end": fhir::date::instant(*due_ms)}},
                // The outcomes to choose from.
                "input": if outcomes.is_empty() { Value::Null } else { Value::Array(outcomes) },
            }),
        ))
    }
}

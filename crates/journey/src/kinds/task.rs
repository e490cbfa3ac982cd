//! Work for staff.

mod eyes;
mod ladder;
mod pressing;

use super::{Carried, Plan, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, flag, length, line, template};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Effect, Engine, EngineError, Fact, Ids};
use crate::resources::{Maker, Times, resource};
use crate::spec::{Clearance, Kind, PRIORITIES, ROLES, Record, Shape, may, must};
use crate::state::{Stand, State, Token, What};
use crate::template::Template;
use crate::time::say_duration;
use crate::yaml::{Content, Node};
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use ladder::{RUNG, Rung};
use serde_json::{Value, json};
use std::sync::Arc;
use trust::conventions::{TASK_SYSTEM, performer_types};

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
        may(
            "queue",
            Shape::Name,
            "Whose of them: a team's, a ward's. The worklist can be narrowed to it, and it stays when the task goes to another role.",
        ),
        may("priority", PRIORITIES, "`routine` if not given."),
        must(
            "due",
            Shape::Duration,
            "How soon, counted from when the step was entered.",
        ),
        may(
            "ladder",
            Shape::List(&Shape::Record(&RUNG)),
            "Rungs up which it goes before it is due, when nobody has done it by then; `overdue` is what happens at the top.",
        ),
        may(
            "four_eyes",
            Shape::Flag,
            "Whether a second person, of another account, has to confirm what the first did. They get a task of their own; whoever did the first can't do it. `false` if not given.",
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
            "not_confirmed",
            Shape::Target,
            "With `four_eyes`: where to go when the second person doesn't confirm it.",
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
    queue: Option<String>,
    priority: String,
    due_ms: u64,
    ladder: Vec<Rung>,
    four_eyes: bool,
    outcomes: Vec<(String, Target)>,
    next: Target,
    not_done: Option<Target>,
    not_confirmed: Option<Target>,
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
        queue: line(body, "queue"),
        priority: line(body, "priority").unwrap_or_else(|| "routine".to_owned()),
        due_ms: length(body, "due")?,
        ladder: ladder::decode(body)?,
        four_eyes: flag(body, "four_eyes") == Some(true),
        outcomes: body
            .get("outcomes")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .map(|(key, node)| (key.name.clone(), parts.target(node)))
            .collect(),
        next: parts.way("next")?,
        not_done: parts.way("not_done"),
        not_confirmed: parts.way("not_confirmed"),
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

/// A line of a task's input.
fn input(what: &str, value: &str) -> Value {
    json!({"type": {"text": what}, "valueString": value})
}

/// The name of the task that is open at a place. With four eyes there is one after the other.
fn slot_of(token: &Token) -> String {
    match &token.stand {
        Stand::Working {
            eyes: Some(eyes), ..
        } => eyes.slot(),
        _ => "task".to_owned(),
    }
}

fn id_of(engine: &Engine<'_>, token: &Token) -> String {
    engine.resource_id(token.n, &slot_of(token))
}

fn close(engine: &mut Engine<'_>, token: &Token, why: &str) {
    let task = id_of(engine, token);
    engine.effects.push(Effect::CloseTask {
        task,
        done: false,
        why: why.to_owned(),
    });
}

/// The same task goes to another role, or is more urgent from now on.
fn hand_over(engine: &mut Engine<'_>, step: &Step, token: &Token, role: &str, priority: &str) {
    let task = id_of(engine, token);
    let reference = Some(format!("Task/{task}"));
    let role = role.to_owned();
    engine.trail(&step.id, What::HandedOver { role: role.clone() }, reference);
    engine.effects.push(Effect::HandOver {
        task,
        role,
        priority: priority.to_owned(),
    });
}

impl Task {
    /// Whose it is now, and how urgent.
    fn whose(&self, token: &Token) -> (&str, &str) {
        let Stand::Working {
            handed_over, rung, ..
        } = token.stand
        else {
            return (&self.role, &self.priority);
        };
        match (&self.overdue, usize::from(rung).checked_sub(1)) {
            (Some(Overdue::HandOver { role, priority }), _) if handed_over => (role, priority),
            (_, Some(rung)) => self
                .ladder
                .get(rung)
                .map_or((self.role.as_str(), self.priority.as_str()), |rung| {
                    (&rung.role, &rung.priority)
                }),
            (_, None) => (&self.role, &self.priority),
        }
    }

    /// Goes on from a task that has ended.
    fn finish(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        n: u32,
        done: bool,
        outcome: Option<&str>,
    ) {
        let said = outcome.unwrap_or(if done { "done" } else { "not done" });
        engine.learn(&step.id, "outcome", json!(said));
        let chosen = self
            .outcomes
            .iter()
            .find(|(name, _)| Some(name.as_str()) == outcome);
        let (label, target) = match (done, chosen) {
            (true, Some((name, target))) => (name.as_str(), target),
            (true, None) => ("done", &self.next),
            (false, _) => match (&self.not_done, &self.not_confirmed) {
                (Some(not_done), _) => ("not done", not_done),
                // Nobody alone leads on what two persons have to do.
                (None, Some(not_confirmed)) if self.four_eyes => {
                    (eyes::NOT_CONFIRMED, not_confirmed)
                }
                (None, _) => ("not done", &self.next),
            },
        };
        engine.leave(n, label, target);
    }
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
        ways.extend(
            self.not_confirmed
                .as_ref()
                .map(|target| way(eyes::NOT_CONFIRMED, target, false)),
        );
        if let Some(Overdue::Go(target)) = &self.overdue {
            ways.push(way("overdue", target, false));
        }
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let outcomes = self.outcomes.iter().map(|(outcome, _)| outcome.as_str());
        let mut known: Vec<&str> = outcomes.chain(["done", "not done"]).collect();
        if matches!(self.overdue, Some(Overdue::Go(_))) {
            known.push("overdue");
        }
        if self.four_eyes {
            known.push("not_confirmed");
        }
        vec![("outcome", Given::Code(known))]
    }
    fn is_work(&self) -> bool {
        true
    }
    fn cannot_wait(&self) -> bool {
        self.presses()
    }
    fn unseen(&self) -> Vec<Way<'_>> {
        self.not_in_time()
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
        self.check_ladder(check);
        self.check_eyes(check, step);
        self.check_pressing(check, step);
    }
    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        matches!(self.overdue, Some(Overdue::Go(_))).then_some(self.due_ms)
    }
    fn has_time(&self, variable: &str) -> bool {
        variable == "due.day"
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::worked_on()
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Task, "task"))
    }
    fn acts_on(&self, token: &Token) -> Option<(ResourceType, String)> {
        Some((ResourceType::Task, slot_of(token)))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let task = engine.resource_id(n, "task");
        let due_ms = engine.context.now_ms + self.due_ms;
        engine.effects.push(Effect::OpenTask {
            step: step.id.clone(),
            task,
            due_ms,
            whose: None,
            confirms: None,
        });
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        let Stand::Working {
            handed_over: false,
            rung,
            ..
        } = token.stand
        else {
            return Vec::new();
        };
        let rung = self.ladder.get(usize::from(rung));
        let rung = rung.map(|rung| (ladder::RUNG_DUE, token.since_ms + rung.after_ms));
        let due = self.overdue.is_some();
        let due = due.then_some(("due", token.since_ms + self.due_ms));
        rung.into_iter().chain(due).collect()
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        slot: &str,
    ) -> Result<(), EngineError> {
        if !matches!(token.stand, Stand::Working { .. }) {
            return Err(EngineError::NoStep(token.step.clone()));
        }
        if slot == ladder::RUNG_DUE {
            self.climb(engine, step, token);
            return Ok(());
        }
        match &self.overdue {
            Some(Overdue::Go(target)) => {
                close(engine, token, "Not done in time; handed on");
                engine.learn(&step.id, "outcome", json!("overdue"));
                engine.leave(token.n, "overdue", target);
            }
            Some(Overdue::HandOver { role, priority }) => {
                if let Some(Stand::Working { handed_over, .. }) = engine.stand_mut(token.n) {
                    *handed_over = true;
                }
                hand_over(engine, step, token, role, priority);
            }
            None => {}
        }
        Ok(())
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(token.stand, Stand::Working { .. })
            && matches!(fact, Fact::Task { id, .. } if id_of(engine, token) == *id)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        let Fact::Task {
            status,
            outcome,
            by,
            ..
        } = fact
        else {
            return;
        };
        let done = match status.as_str() {
            "completed" => true,
            "cancelled" | "rejected" | "failed" | "entered-in-error" => false,
            _ => return,
        };
        if done && self.four_eyes {
            self.seen_by(engine, step, token, outcome.as_deref(), by.as_deref());
            return;
        }
        self.finish(engine, step, token.n, done, outcome.as_deref());
    }
    fn skips(&self, _stand: &Stand) -> Vec<Way<'_>> {
        let is_done = |way: &Way<'_>| {
            let mut outcomes = self.outcomes.iter();
            way.label == "done" || outcomes.any(|(name, _)| *name == way.label)
        };
        let ways = self.ways().into_iter();
        // What two persons have to do isn't done by one who says so.
        ways.filter(|way| !(self.four_eyes && is_done(way)))
            .collect()
    }
    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        let said = match way.label.as_str() {
            eyes::NOT_CONFIRMED => "not_confirmed",
            said => said,
        };
        engine.learn(&step.id, "outcome", json!(said));
        engine.leave(token.n, &way.label, way.target);
    }
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, close_tasks: bool) {
        if close_tasks && matches!(token.stand, Stand::Working { .. }) {
            close(engine, token, why);
        }
    }

    fn carried(&self, stand: &Stand, before: &Node, after: &Node) -> Carried {
        if let Stand::Working {
            eyes: Some(eyes), ..
        } = stand
            && eyes.first.is_some()
        {
            return Carried::Later("a second person is to confirm a task");
        }
        let said = ["title", "role", "priority", "due", "ladder", "four_eyes"];
        let outcomes = |step: &Node| -> Vec<String> {
            let outcomes = step.get(KIND.name).and_then(|body| body.get("outcomes"));
            let outcomes = outcomes.map(Node::members).unwrap_or_default().iter();
            outcomes.map(|(key, _)| key.name.clone()).collect()
        };
        if same_of(before, after, KIND.name, &said) && outcomes(before) == outcomes(after) {
            Carried::As
        } else {
            Carried::Anew
        }
    }

    fn waiting(&self, definition: &Definition, state: &State, token: &Token) -> Option<Waiting> {
        let Stand::Working {
            handed_over, eyes, ..
        } = &token.stand
        else {
            return None;
        };
        let (role, _) = self.whose(token);
        let confirms = eyes.as_ref().is_some_and(|eyes| eyes.first.is_some());
        let what = match (handed_over, confirms) {
            (true, _) => format!(
                "Waits for a {role}: {} (was overdue, handed over)",
                self.title
            ),
            (false, true) => format!(
                "Waits for a {role} who confirms what another did: {}",
                self.title
            ),
            (false, false) => format!("Waits for a {role}: {}", self.title),
        };
        let timers = self.timers(definition, state, token).into_iter();
        Some(Waiting {
            what,
            plain: String::new(),
            until_ms: timers.map(|(_, due_ms)| due_ms).min(),
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
        let Effect::OpenTask {
            task,
            due_ms,
            whose,
            confirms,
            ..
        } = effect
        else {
            return None;
        };
        let times = Times {
            due_ms: Some(*due_ms),
            visit_ms: None,
        };
        let reason = maker.words(&self.reason, times);
        let (whose, priority) = match whose {
            Some((whose, priority)) => (whose, priority),
            None => (&self.role, &self.priority),
        };
        let (title, reason, inputs) = match confirms {
            Some(confirms) => self.confirming(confirms, &reason),
            None => {
                let outcomes = self.outcomes.iter();
                let inputs = outcomes.map(|(outcome, _)| input("outcome", outcome));
                (self.title.clone(), reason, inputs.collect())
            }
        };
        Some(resource(
            ResourceType::Task,
            task,
            json!({
                "identifier": maker.identifiers(&step.id),
                "status": "requested",
                "intent": "order",
                "priority": priority,
                "code": {"coding": [{"system": TASK_SYSTEM, "code": "staff-task"}], "text": title},
                "description": title,
                "for": maker.subject(),
                "authoredOn": maker.now(),
                "performerType": performer_types(whose, self.queue.as_deref()),
                "reasonCode": {"text": reason},
                "restriction": {"period": {"end": fhir::date::instant(*due_ms)}},
                // The outcomes to choose from, and who can't choose.
                "input": if inputs.is_empty() { Value::Null } else { Value::Array(inputs) },
            }),
        ))
    }
}

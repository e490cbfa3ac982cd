//! What a journey aims at. It is watched for beside everything else, and reached once.

use super::{StepKind, Waiting};
use crate::check::Check;
use crate::decode::build::{Parts, line, path, resource};
use crate::definition::{Condition, Definition, Step, Way};
use crate::engine::Engine;
use crate::spec::{Focus, Kind, OPEN_TASKS, Record, Shape, may, must};
use crate::state::State;
use crate::words::thing;
use fhir::path::Given;
use std::sync::Arc;

static GOAL: Record = Record {
    name: "goal",
    doc: "What the journey aims at. It is watched for from the journey's start, beside everything else, and reached once: by the first event that comes while the journey runs and fulfils it. What the record held before is not looked at.",
    one_of: &[],
    fields: &[
        must(
            "event",
            Shape::Resource,
            "A resource of this type was written to the patient's record ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "... of which this holds.",
        ),
        must(
            "journey",
            Shape::Choice(&[
                (
                    "goes_on",
                    "The journey goes on; that the goal was reached is known to later conditions.",
                ),
                ("ends", "The journey ends, with the goal's title as reason."),
            ]),
            "What becomes of the journey when the goal is reached.",
        ),
        may(
            "open_tasks",
            OPEN_TASKS,
            "With `journey: ends`: what becomes of tasks of staff that are open; `close` if not given.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "goal",
    doc: GOAL.doc,
    body: Shape::Record(&GOAL),
    ways: &[],
    example: "in_range:\n  title: Blood pressure in range\n  goal:\n    event: Observation\n    where: code.coding.exists(code = '8480-6') and value.value < 130\n    journey: goes_on\n",
    decode,
};

#[derive(Debug)]
struct Goal {
    /// Index into [`Definition::conditions`].
    condition: usize,
    ends: bool,
    close_tasks: bool,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    parts.conditions.push(Condition {
        kind: resource(body, "event")?,
        path: body.get("where").and_then(path),
    });
    Some(Arc::new(Goal {
        condition: parts.conditions.len() - 1,
        ends: line(body, "journey")? == "ends",
        close_tasks: line(body, "open_tasks").as_deref() != Some("keep"),
    }))
}

impl StepKind for Goal {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        Vec::new()
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        vec![("reached", Given::Boolean)]
    }
    fn watches(&self) -> bool {
        true
    }
    fn may_end(&self) -> bool {
        self.ends
    }
    fn aims(&self) -> Option<usize> {
        Some(self.condition)
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        let open_tasks = check.node(step, &["goal", "open_tasks"]);
        if let Some(place) = open_tasks.map(|node| node.place).filter(|_| !self.ends) {
            let words = "`open_tasks` goes with `journey: ends` only";
            check.findings.error("J004", place, words);
        }
    }

    fn reached(&self, engine: &mut Engine<'_>, step: &Step) {
        if self.ends {
            engine.end(&step.id, &step.title, self.close_tasks);
        }
    }

    fn watching(&self, definition: &Definition, state: &State, step: &Step) -> Option<Waiting> {
        if state.goals.contains_key(&step.id) {
            return None;
        }
        let event = definition.conditions.get(self.condition)?.kind;
        Some(Waiting {
            what: format!("Watches for {} that reaches the goal", thing(event)),
            plain: String::new(),
            until_ms: None,
        })
    }
}

//! The end of the journey.

use super::StepKind;
use crate::decode::build::{Parts, line};
use crate::definition::{Step, Way};
use crate::engine::Engine;
use crate::spec::{Kind, OPEN_TASKS, Record, Shape, may, must};
use std::sync::Arc;

static EXIT: Record = Record {
    name: "exit",
    doc: "The journey ends here, whatever else is under way.",
    one_of: &[],
    fields: &[
        must(
            "reason",
            Shape::Line,
            "Why, as shown in lists (`Completed`).",
        ),
        may(
            "open_tasks",
            OPEN_TASKS,
            "What becomes of tasks of staff that are open; `keep` if not given.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "exit",
    doc: EXIT.doc,
    body: Shape::Record(&EXIT),
    ways: &[],
    example: "finished:\n  title: Completed\n  exit:\n    reason: Completed\n",
    decode,
};

#[derive(Debug)]
struct Exit {
    reason: String,
    close_tasks: bool,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    Some(Arc::new(Exit {
        reason: line(parts.body, "reason")?,
        close_tasks: line(parts.body, "open_tasks").as_deref() == Some("close"),
    }))
}

impl StepKind for Exit {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        Vec::new()
    }
    fn ends(&self) -> bool {
        true
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, _: u32) {
        engine.end(&step.id, &self.reason, self.close_tasks);
    }
}

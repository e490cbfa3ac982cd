//! The rungs up which a task goes while nobody does it.

use super::{Task, hand_over};
use crate::check::Check;
use crate::decode::build::{length, line};
use crate::definition::Step;
use crate::engine::Engine;
use crate::spec::{PRIORITIES, ROLES, Record, Shape, must};
use crate::state::{Stand, Token};
use crate::time::say_duration;
use crate::yaml::{Node, Place};

/// The timer of the next rung.
pub(super) const RUNG_DUE: &str = "rung";

pub(super) static RUNG: Record = Record {
    name: "rung",
    doc: "A rung of a ladder: the same task goes to another role, or is more urgent from then on.",
    one_of: &[],
    fields: &[
        must(
            "after",
            Shape::Duration,
            "When, counted from when the step was entered; each later than the one before, and before the task is due.",
        ),
        must("role", ROLES, "To whom."),
        must("priority", PRIORITIES, "With which priority."),
    ],
};

#[derive(Debug)]
pub(super) struct Rung {
    pub(super) after_ms: u64,
    pub(super) role: String,
    pub(super) priority: String,
    pub(super) place: Place,
}

pub(super) fn decode(body: &Node) -> Option<Vec<Rung>> {
    let rungs = body.get("ladder").map(Node::items).unwrap_or_default();
    let rungs = rungs.iter().map(|rung| {
        Some(Rung {
            after_ms: length(rung, "after")?,
            role: line(rung, "role")?,
            priority: line(rung, "priority")?,
            place: rung.place,
        })
    });
    rungs.collect()
}

impl Task {
    /// Takes the next rung.
    pub(super) fn climb(&self, engine: &mut Engine<'_>, step: &Step, token: &Token) {
        let Some(Stand::Working { rung, .. }) = engine.stand_mut(token.n) else {
            return;
        };
        let climbed = self.ladder.get(usize::from(*rung));
        *rung = rung.saturating_add(1);
        if let Some(climbed) = climbed {
            hand_over(engine, step, token, &climbed.role, &climbed.priority);
        }
    }

    pub(super) fn check_ladder(&self, check: &mut Check<'_, '_>) {
        let mut before_ms = 0;
        for rung in &self.ladder {
            let after = say_duration(rung.after_ms);
            if rung.after_ms >= self.due_ms {
                let due = say_duration(self.due_ms);
                let words = format!(
                    "this rung comes after {after}, when the task is overdue after {due}; say it in `overdue`"
                );
                check.findings.error("J043", rung.place, words);
            } else if rung.after_ms <= before_ms {
                let words =
                    format!("this rung comes after {after}, no later than the one before it");
                check.findings.error("J043", rung.place, words);
            }
            before_ms = before_ms.max(rung.after_ms);
        }
    }
}

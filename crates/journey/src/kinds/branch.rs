//! A decision on what the journey has learnt.

use super::{StepKind, way};
use crate::check::Check;
use crate::decode::build::{Parts, line, path};
use crate::definition::{Definition, Path, Step, Target, Way};
use crate::engine::Engine;
use crate::spec::{Focus, Kind, Record, Shape, may, must};
use fhir::path::Wanted;
use std::sync::Arc;

static CASE: Record = Record {
    name: "case",
    doc: "One case of a branch.",
    one_of: &[],
    fields: &[
        must(
            "when",
            Shape::Path(Focus::Facts),
            "What must hold. Answers and outcomes are named `step.id`, e.g. `symptoms.breathless = true`.",
        ),
        must("next", Shape::Target, "Where to go then."),
        may("label", Shape::Line, "What the case means, for the graph."),
    ],
};

static BRANCH: Record = Record {
    name: "branch",
    doc: "A decision on what the journey has learnt: the first case that holds is gone.",
    one_of: &[],
    fields: &[
        must(
            "cases",
            Shape::List(&Shape::Record(&CASE)),
            "The cases, in order.",
        ),
        must(
            "otherwise",
            Shape::Target,
            "Where to go when no case holds.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "branch",
    doc: BRANCH.doc,
    body: Shape::Record(&BRANCH),
    ways: &[],
    example: "assess:\n  title: Alarming symptoms?\n  branch:\n    cases:\n      - when: symptoms.breathless = true\n        label: breathless\n        next: review\n    otherwise: end\n",
    decode,
};

#[derive(Debug)]
struct Branch {
    cases: Vec<Case>,
    otherwise: Target,
}

#[derive(Debug)]
struct Case {
    when: Path,
    label: String,
    next: Target,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let cases = parts.body.get("cases")?.items();
    Some(Arc::new(Branch {
        cases: cases
            .iter()
            .map(|case| {
                let when = path(case.get("when")?)?;
                Some(Case {
                    label: line(case, "label").unwrap_or_else(|| when.text.clone()),
                    when,
                    next: parts.target(case.get("next")?),
                })
            })
            .collect::<Option<_>>()?,
        otherwise: parts.target(parts.body.get("otherwise")?),
    }))
}

impl StepKind for Branch {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = self
            .cases
            .iter()
            .map(|case| way(&case.label, &case.next, true))
            .collect();
        ways.push(way("otherwise", &self.otherwise, true));
        ways
    }

    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        Some(0)
    }
    fn check(&self, check: &mut Check<'_, '_>, _: &Step) {
        for case in &self.cases {
            check.learnt(&case.when, Wanted::Condition);
        }
    }

    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        for case in &self.cases {
            if engine.holds(&case.when, &step.id, &case.label) {
                engine.leave(n, &case.label, &case.next);
                return;
            }
        }
        engine.leave(n, "otherwise", &self.otherwise);
    }

    fn left(&self, title: &str, label: &str) -> Option<String> {
        Some(match label {
            // One case and a title that asks for it: what is otherwise is no.
            "otherwise" if self.cases.len() == 1 && title.ends_with('?') => format!("{title} No"),
            "otherwise" => format!("{title}: none of the cases"),
            _ => crate::words::left(title, label),
        })
    }
}

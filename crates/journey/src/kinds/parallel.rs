//! Branches side by side.

use super::{StepKind, way};
use crate::decode::build::Parts;
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::Engine;
use crate::spec::{Kind, Record, Shape, must};
use crate::state::{Stand, State};
use crate::yaml::Node;
use std::sync::Arc;

static PARALLEL: Record = Record {
    name: "parallel",
    doc: "Several branches side by side. When all of them have come to `end`, `next` is gone.",
    one_of: &[],
    fields: &[must(
        "branches",
        Shape::List(&Shape::Target),
        "The first step of each branch.",
    )],
};

pub(super) static KIND: Kind = Kind {
    name: "parallel",
    doc: PARALLEL.doc,
    body: Shape::Record(&PARALLEL),
    ways: &[must(
        "next",
        Shape::Target,
        "Where to go when all branches have ended.",
    )],
    example: "follow_up:\n  title: Follow-up\n  parallel:\n    branches: [day_two, visit]\n  next: finished\n",
    decode,
};

#[derive(Debug)]
struct Parallel {
    branches: Vec<Target>,
    next: Target,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let branches: &[Node] = parts.body.get("branches")?.items();
    Some(Arc::new(Parallel {
        branches: branches.iter().map(|item| parts.target(item)).collect(),
        next: parts.way("next")?,
    }))
}

impl StepKind for Parallel {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let mut ways: Vec<Way<'_>> = self
            .branches
            .iter()
            .map(|target| way(crate::counts::BRANCH, target, true))
            .collect();
        ways.push(way("all ended", &self.next, true));
        ways
    }
    fn leaves_within(&self, _: &Definition, label: &str) -> Option<u64> {
        (label == crate::counts::BRANCH).then_some(0)
    }
    fn branches(&self) -> Option<(&[Target], &Target)> {
        Some((&self.branches, &self.next))
    }
    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::Joining {
            left: self
                .branches
                .iter()
                .map(|branch| u32::try_from(branch.steps.len()).unwrap_or(0))
                .sum(),
        }
    }
    fn enter(&self, engine: &mut Engine<'_>, _: &Step, n: u32) {
        for branch in &self.branches {
            engine
                .ahead
                .extend(branch.steps.iter().map(|step| (*step, Some(n))));
        }
    }
    fn joined(&self, engine: &mut Engine<'_>, _: &Step, n: u32) {
        engine.leave(n, "all ended", &self.next);
    }
    // What it waits for stands there itself, branch by branch.
    fn left(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

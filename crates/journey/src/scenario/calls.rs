//! What a file of scenarios says of calls to partners.

use super::file::Happens;
use crate::Definition;
use crate::decode::Findings;
use crate::decode::build::{line, number};
use crate::form::{Form, Table, json_of, needs, takes};
use crate::yaml::Node;
use fhir::suggestion;
use trust::conventions::CALL_STATUS;

/// The status of an answer where the scenario doesn't say.
const OK: u16 = 200;

pub(super) static PARTNER: Table = Table {
    name: "partner",
    doc: "A partner answers the newest call of a step, or the call comes to nothing. Where a scenario says nothing of it, the partner is silent, and time passes.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes(
            "answers",
            Form::Map("member", &Form::Any),
            "What the journey learns from the answer, as `learns` names it.",
        ),
        takes(
            "status",
            Form::Number,
            "The status of the answer; 200 if not given.",
        ),
        takes(
            "fails",
            Form::Line,
            "Why it comes to nothing, as a code of `urn:cairn:not-done`: `permanent-failure`, `retries-exhausted`, `not-reached`, `no-contract`, ...; then there is no answer.",
        ),
    ],
};

pub(super) static CALLED: Table = Table {
    name: "partner called",
    doc: "A partner that is called, or asked to take a call back.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes("at", Form::Time, "When, to the minute."),
        takes(
            "says",
            Form::Line,
            "Words that stand in what it is told, each value as `name: value`.",
        ),
    ],
};

/// Whether what a partner is to say is what the step can hear.
pub(super) fn fits(definition: &Definition, node: &Node, findings: &mut Findings<'_>) {
    let Some(step) = line(node, "step").and_then(|step| definition.step(&step)) else {
        return;
    };
    if step.kind.calls().is_none() {
        let message = format!("`{}` calls no partner", step.id);
        findings.error("J004", node.place, message);
        return;
    }
    let known = step.kind.gives();
    let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    for (key, _) in node.get("answers").map(Node::members).unwrap_or_default() {
        if key.name == CALL_STATUS || !known.contains(&key.name.as_str()) {
            let near = suggestion(&key.name, known.iter().copied());
            let message = format!("`{}` learns no `{}`{near}", step.id, key.name);
            findings.error("J004", key.place, message);
        }
    }
    if let Some(fails) = node.get("fails")
        && (node.get("answers").is_some() || node.get("status").is_some())
    {
        let message = "a call that fails has no answer";
        findings.error("J003", fails.place, message);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no status is 0, which nobody answers with"
)]
pub(super) fn happens(node: &Node) -> Option<Happens> {
    let answers = node.get("answers").map(Node::members).unwrap_or_default();
    Some(Happens::Partner {
        step: line(node, "step")?,
        status: number(node, "status").map_or(OK, |status| status as u16),
        answers: answers
            .iter()
            .map(|(key, value)| (key.name.clone(), json_of(value)))
            .collect(),
        fails: line(node, "fails"),
    })
}

//! What a journey has that scenarios name: arms of experiments, endings.

use crate::Definition;
use crate::decode::Findings;
use crate::yaml::Node;
use fhir::suggestion;
use std::collections::BTreeMap;

/// Whether the arms that are given are arms of the journey's experiments.
pub(super) fn arms_exist(definition: &Definition, given: &Node, findings: &mut Findings<'_>) {
    let experiments: BTreeMap<&str, Vec<&str>> = definition
        .steps
        .iter()
        .filter_map(|step| step.kind.experiment(step))
        .map(|(name, arms)| (name, arms.into_iter().map(|(arm, _)| arm).collect()))
        .collect();
    for (key, arm) in given.get("arms").map(Node::members).unwrap_or_default() {
        let Some(arms) = experiments.get(key.name.as_str()) else {
            let near = suggestion(&key.name, experiments.keys().copied());
            let message = format!("the journey has no experiment `{}`{near}", key.name);
            findings.error("J006", key.place, message);
            continue;
        };
        let said = arm.text().unwrap_or_default();
        if !arms.contains(&said) {
            let near = suggestion(said, arms.iter().copied());
            let message = format!(
                "`{}` has no arm `{said}`{near} (one of {})",
                key.name,
                arms.join(", ")
            );
            findings.error("J006", arm.place, message);
        }
    }
}

/// How a journey can end, as codes.
pub(super) fn endings(definition: &Definition) -> Vec<String> {
    let exits = definition.exits.iter().map(|exit| exit.id.clone());
    let steps = definition
        .steps
        .iter()
        .filter(|step| step.kind.may_end())
        .map(|step| step.id.clone());
    let always = [
        "completed",
        "time_over",
        "stopped",
        crate::engine::STARTED_IN_ERROR,
    ];
    exits
        .chain(steps)
        .chain(always.map(str::to_owned))
        .collect()
}

//! What a journey begins, looked at among the others that are live: only who publishes knows them.

use crate::Finding;
use crate::definition::Definition;
use std::collections::BTreeSet;

/// What is wrong with the journeys that one begins. `begins` says what a live journey begins itself; nothing
/// where there is none of that name.
pub(crate) fn others(
    definition: &Definition,
    begins: &dyn Fn(&str) -> Option<Vec<String>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &definition.steps {
        let Some(name) = step.kind.begins() else {
            continue;
        };
        let message = if begins(name).is_none() {
            format!("no journey `{name}` is live; publish it first")
        } else if leads_to(name, &definition.name, begins) {
            format!(
                "`{name}` begins `{}` again, itself or by others that it begins",
                definition.name
            )
        } else {
            continue;
        };
        findings.push(Finding {
            code: "J058".to_owned(),
            error: true,
            line: step.place.line.max(1),
            column: step.place.column.max(1),
            message,
        });
    }
    findings
}

/// Whether a journey begins another one, by however many between.
fn leads_to(from: &str, to: &str, begins: &dyn Fn(&str) -> Option<Vec<String>>) -> bool {
    let (mut seen, mut ahead) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(name) = ahead.pop() {
        let next = begins(&name).unwrap_or_default();
        if next.iter().any(|next| next == to) {
            return true;
        }
        if seen.insert(name) {
            ahead.extend(next);
        }
    }
    false
}

//! Conditions and anchors that ask of their resource what it can't have.

use fhir::ResourceType;
use fhir::path::{Expression, Wanted};

use super::Check;
use super::codes::codes_of;
use crate::decode::Findings;
use crate::yaml::{Node, inside};

impl Check<'_, '_> {
    pub(super) fn elements(&mut self) {
        let root = self.root;
        if let Some(entry) = root.get("entry")
            && let Some(kind) =
                kind_of(entry, "event").or_else(|| kind_of(entry.get("date")?, "of"))
        {
            for (_, anchor) in entry.get("anchors").map_or(&[][..], Node::members) {
                asked_of(self.findings, kind, anchor, Wanted::Moment);
            }
            let who = entry.get("who").and_then(|who| who.get("any"));
            for condition in who.map_or(&[][..], Node::items) {
                if let Some(this) = condition.get("this") {
                    asked_of(self.findings, kind, this, Wanted::Condition);
                }
            }
        }
        conditions_below(self.findings, root);
    }
}

/// Every `where` beside the type that it is about.
pub(super) fn conditions_below(findings: &mut Findings<'_>, node: &Node) {
    let mut kinds = ["event", "has", "has_no", "of"].iter();
    let kind = kinds.find_map(|name| kind_of(node, name));
    if let (Some(kind), Some(condition)) = (kind, node.get("where")) {
        asked_of(findings, kind, condition, Wanted::Condition);
    }
    for (_, member) in node.members() {
        conditions_below(findings, member);
    }
    for item in node.items() {
        conditions_below(findings, item);
    }
}

pub(super) fn asked_of(
    findings: &mut Findings<'_>,
    kind: ResourceType,
    node: &Node,
    wanted: Wanted,
) {
    let Some(text) = node.text() else {
        return;
    };
    // What doesn't compile is J015.
    let Ok(expression) = Expression::compile(text) else {
        return;
    };
    codes_of(findings, kind, node, &expression);
    for found in expression.faults(kind, wanted) {
        let place = inside(findings.source, node.place, text, found.position);
        if found.certain {
            let words = format!("this can't be of {kind}: {}", found.message);
            findings.error("J038", place, words);
        } else {
            findings.warning("J049", place, found.message);
        }
    }
}

fn kind_of(node: &Node, name: &str) -> Option<ResourceType> {
    ResourceType::parse(node.get(name)?.text()?)
}

//! Conditions and anchors that ask of their resource what it can't have.

use fhir::ResourceType;
use fhir::path::{Expression, Wanted};

use super::Check;
use crate::yaml::{Node, inside};

impl Check<'_, '_> {
    pub(super) fn elements(&mut self) {
        let root = self.root;
        if let Some(entry) = root.get("entry")
            && let Some(kind) =
                kind_of(entry, "event").or_else(|| kind_of(entry.get("date")?, "of"))
        {
            for (_, anchor) in entry.get("anchors").map_or(&[][..], Node::members) {
                self.asked_of(kind, anchor, Wanted::Moment);
            }
            let who = entry.get("who").and_then(|who| who.get("any"));
            for condition in who.map_or(&[][..], Node::items) {
                if let Some(this) = condition.get("this") {
                    self.asked_of(kind, this, Wanted::Condition);
                }
            }
        }
        self.conditions_below(root);
    }

    /// Every `where` beside the type that it is about.
    fn conditions_below(&mut self, node: &Node) {
        let mut kinds = ["event", "has", "of"].iter();
        let kind = kinds.find_map(|name| kind_of(node, name));
        if let (Some(kind), Some(condition)) = (kind, node.get("where")) {
            self.asked_of(kind, condition, Wanted::Condition);
        }
        for (_, member) in node.members() {
            self.conditions_below(member);
        }
        for item in node.items() {
            self.conditions_below(item);
        }
    }

    fn asked_of(&mut self, kind: ResourceType, node: &Node, wanted: Wanted) {
        let Some(text) = node.text() else {
            return;
        };
        // What doesn't compile is J015.
        let Ok(expression) = Expression::compile(text) else {
            return;
        };
        for found in expression.faults(kind, wanted) {
            let place = inside(self.findings.source, node.place, text, found.position);
            if found.certain {
                let words = format!("this can't be of {kind}: {}", found.message);
                self.findings.error("J038", place, words);
            } else {
                self.findings.warning("J049", place, found.message);
            }
        }
    }
}

fn kind_of(node: &Node, name: &str) -> Option<ResourceType> {
    ResourceType::parse(node.get(name)?.text()?)
}

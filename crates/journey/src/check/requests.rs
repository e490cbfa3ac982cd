//! Whether a journey can be started by request as its entry says.

use super::Check;
use crate::definition::Who;
use crate::request::WORDS;
use crate::yaml::{Node, Place};

impl Check<'_, '_> {
    pub(super) fn requests(&mut self, entry: Place) {
        let definition = self.definition;
        let Some(request) = &definition.entry.request else {
            return;
        };
        let node = self.root.get("entry").and_then(|node| node.get("request"));
        let at = node.map_or(entry, |node| node.place);
        let member = |name: &str| {
            let found = node.and_then(|node| node.get(name));
            found.map_or(at, |node| node.place)
        };
        for (place, role) in request.by.iter().enumerate() {
            if request.by[..place].contains(role) {
                let by = node.and_then(|node| node.get("by")).map(Node::items);
                let at = by
                    .and_then(|by| by.get(place))
                    .map_or(at, |item| item.place);
                self.findings
                    .error("J024", at, "who may start it stands twice");
            }
        }
        for (name, _) in &request.asks {
            if WORDS.contains(&name.as_str()) {
                let words =
                    format!("`{name}` is a word of the request itself; name this time differently");
                self.findings.error("J024", member("asks"), words);
            }
        }
        let asked = |name: &String| request.asks.iter().any(|(other, _)| other == name);
        for (name, _) in &definition.entry.anchors {
            if !asked(name) {
                let words = format!("a request gives no time for `{name}`; ask for it in `asks`");
                self.findings.error("J050", at, words);
            }
        }
        for (name, _) in &request.asks {
            let known = &definition.entry.anchors;
            if !known.iter().any(|(other, _)| other == name) {
                let words =
                    format!("`{name}` is no anchor of the event; give it in `anchors`, too");
                self.findings.error("J050", member("asks"), words);
            }
        }
        if definition.entry.within_ms.is_some() && definition.entry.anchors.is_empty() {
            let words = "`within` is about the first time that is given, and a request gives none";
            self.findings.error("J050", entry, words);
        }
        let who = &definition.entry.who;
        if !who.is_empty() && !who.iter().any(|who| matches!(who, Who::Has { .. })) {
            let words = "each condition of `who` is about an event's resource, which a request has none of: nobody could be asked for. Add one with `has`";
            self.findings.error("J050", at, words);
        }
    }
}

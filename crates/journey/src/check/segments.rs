//! Segments: whether they make sense, and whether those that are named are there.

use super::Check;
use super::paths::{asked_of, conditions_below};
use crate::decode::Findings;
use crate::decode::build::number;
use crate::definition::{ExitRule, ExitTrigger, Who};
use crate::kinds::NOT_LOOKED_AT;
use crate::yaml::{Node, Place, inside};
use fhir::path::{Expression, Wanted};
use fhir::{ResourceType, nearest};
use std::collections::BTreeSet;

/// Most segments of one journey, or of one file: more than a folder of journeys needs.
const SEGMENTS_MAX: usize = 100;
/// Most conditions of one segment.
const CONDITIONS_MAX: usize = 50;
/// Functions of FHIRPath that ask what time it is.
const CLOCKS: [&str; 3] = ["now", "today", "timeOfDay"];
/// What goes with a look for resources alone.
const OF_RESOURCES: [&str; 3] = ["where", "dated", "within"];

/// The names of the segments that a journey names, each with its place.
pub(crate) fn named_segments(root: &Node) -> Vec<(String, Place)> {
    let mut named = Vec::new();
    let mut name = |node: Option<&Node>| {
        let named_here = node.and_then(|node| Some((node.text()?.to_owned(), node.place)));
        named.extend(named_here);
    };
    name(root.get("entry").and_then(|entry| entry.get("segment")));
    let mut waits = Vec::new();
    let exits = root.get("exits").map(Node::members).unwrap_or_default();
    waits.extend(exits.iter().map(|(_, exit)| exit));
    let steps = root.get("steps").map(Node::members).unwrap_or_default();
    waits.extend(steps.iter().filter_map(|(_, step)| step.get("wait")));
    while let Some(node) = waits.pop() {
        if let Some(membership) = node.get("segment") {
            name(membership.get("entered"));
            name(membership.get("left"));
        }
        for list in ["first_of", "all_of"] {
            waits.extend(node.get(list).map(Node::items).unwrap_or_default());
        }
    }
    named.sort_by_key(|(_, place)| *place);
    named
}

/// What is wrong with a file of segments of the right form.
pub(crate) fn shared_segments(findings: &mut Findings<'_>, root: &Node) {
    sense(findings, root);
    conditions_below(findings, root);
}

/// Whether the segments of a file make sense.
fn sense(findings: &mut Findings<'_>, root: &Node) {
    let segments = root.get("segments").map(Node::members).unwrap_or_default();
    if let Some((key, _)) = segments.get(SEGMENTS_MAX) {
        let words = format!("there are more than {SEGMENTS_MAX} segments; share fewer");
        findings.error("J091", key.place, words);
    }
    for (key, segment) in segments {
        let mut count = 0;
        for item in segment.get("all").map(Node::items).unwrap_or_default() {
            let Some(any) = item.get("any") else {
                count += 1;
                condition(findings, item);
                continue;
            };
            for name in OF_RESOURCES {
                if let Some(node) = item.get(name) {
                    let words =
                        format!("`{name}` stands in the conditions of `any`, not beside it");
                    findings.error("J091", node.place, words);
                }
            }
            if any.items().len() < 2 {
                let words = "`any` names one condition only; ask for it by itself";
                findings.error("J091", any.place, words);
            }
            count += any.items().len();
            any.items().iter().for_each(|one| condition(findings, one));
        }
        if count > CONDITIONS_MAX {
            let words = format!("a segment has at most {CONDITIONS_MAX} conditions");
            findings.error("J091", key.place, words);
        }
    }
}

fn condition(findings: &mut Findings<'_>, node: &Node) {
    if let Some(aged) = node.get("aged") {
        match (number(aged, "from"), number(aged, "to")) {
            (None, None) => {
                let words = "`aged` says no age: give `from`, `to`, or both";
                findings.error("J091", aged.place, words);
            }
            (Some(from), Some(to)) if from > to => {
                let words = "nobody is so old at least and so old at most: `from` is above `to`";
                findings.error("J091", aged.place, words);
            }
            _ => {}
        }
        for name in OF_RESOURCES {
            if let Some(node) = node.get(name) {
                let words = format!("`{name}` goes with `has` and `has_no`");
                findings.error("J091", node.place, words);
            }
        }
        return;
    }
    let named = node.get("has").or_else(|| node.get("has_no"));
    let kind = named.and_then(|named| Some((ResourceType::parse(named.text()?)?, named.place)));
    let Some((kind, place)) = kind else {
        return;
    };
    let belongs = fhir::search::parameters(kind)
        .iter()
        .any(|parameter| parameter.name == "patient");
    if kind != ResourceType::Patient && !belongs {
        let words = format!("a {kind} is in nobody's record, so it says of nobody who they are");
        findings.error("J091", place, words);
    }
    if NOT_LOOKED_AT.contains(&kind) {
        let words =
            format!("journeys don't look at a {kind}: bills and the audit are no matter of care");
        findings.error("J091", place, words);
    }
    if let (Some(within), None) = (node.get("within"), node.get("dated")) {
        let words = "`within` is counted from a date: say with `dated` which one";
        findings.error("J091", within.place, words);
    }
    if let Some(dated) = node.get("dated") {
        asked_of(findings, kind, dated, Wanted::Anything);
        if !is_dated(kind, dated.text().unwrap_or_default()) {
            let words = "`dated` has to name a date, a time or a Period";
            findings.error("J091", dated.place, words);
        }
    }
    for name in ["where", "dated"] {
        let Some(node) = node.get(name) else { continue };
        let Some((position, clock)) = node.text().and_then(clock) else {
            continue;
        };
        let text = node.text().unwrap_or_default();
        let place = inside(findings.source, node.place, text, position);
        let words = format!(
            "`{clock}()` would have everybody looked at all the time; say with `dated` and `within`, or with `aged`, when it counts"
        );
        findings.error("J091", place, words);
    }
}

/// Whether what a resource says at a path can be a date, a time or a `Period`, which alone has a start.
fn is_dated(kind: ResourceType, text: &str) -> bool {
    let fits = |text: &str, wanted: Wanted| {
        let expression = Expression::compile(text);
        let faults = expression.map(|expression| expression.faults(kind, wanted));
        // What doesn't compile, and what isn't there, is said otherwise.
        faults.map_or(true, |faults| faults.iter().all(|found| !found.certain))
    };
    let is_moment = fits(text, Wanted::Moment) || !fits(text, Wanted::Anything);
    is_moment || fits(&format!("({text}).start"), Wanted::Anything)
}

/// The first function in an expression that asks what time it is, with its position in characters.
fn clock(text: &str) -> Option<(usize, &'static str)> {
    let characters: Vec<char> = text.chars().collect();
    let is_word = |place: usize| {
        let found = characters.get(place);
        found.is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_')
    };
    let mut place = 0;
    while place < characters.len() {
        let character = characters[place];
        if matches!(character, '\'' | '`') {
            place += 1;
            while place < characters.len() && characters[place] != character {
                place += if characters[place] == '\\' { 2 } else { 1 };
            }
            place += 1;
            continue;
        }
        if !is_word(place) {
            place += 1;
            continue;
        }
        let start = place;
        while is_word(place) {
            place += 1;
        }
        let word: String = characters[start..place].iter().collect();
        let mut after = place;
        while characters.get(after).is_some_and(|c| c.is_whitespace()) {
            after += 1;
        }
        let found = CLOCKS.iter().find(|clock| **clock == word);
        if let (Some(clock), Some('(')) = (found, characters.get(after)) {
            return Some((start, clock));
        }
    }
    None
}

impl Check<'_, '_> {
    pub(super) fn segments(&mut self, entry: Place) {
        let root = self.root;
        sense(self.findings, root);
        let named = named_segments(root);
        let members = root.get("segments").map(Node::members).unwrap_or_default();
        let known: Vec<&str> = members.iter().map(|(key, _)| key.name.as_str()).collect();
        for (name, place) in &named {
            if known.contains(&name.as_str()) {
                continue;
            }
            let near = nearest(name, known.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let words = format!(
                "there is no segment `{name}`{near}; write it in `segments`, or in segments.yaml beside the journey"
            );
            self.findings.error("J090", *place, words);
        }
        for (key, _) in members {
            let is_measured = self.definition.segments.iter();
            let is_measured = is_measured.filter(|one| one.is_gap());
            let mut is_measured = is_measured.map(|gap| gap.name.as_str());
            if !named.iter().any(|(name, _)| *name == key.name)
                && !is_measured.any(|name| name == key.name)
            {
                let words = format!("nothing names the segment `{}`; remove it", key.name);
                self.findings.warning("J093", key.place, words);
            }
        }
        self.by_segment(entry);
    }

    /// Whether a segment can begin the journey as the entry says.
    fn by_segment(&mut self, entry: Place) {
        let rule = &self.definition.entry;
        let node = self.root.get("entry");
        let member = |name: &str| node.and_then(|node| node.get(name));
        if rule.segment.is_none() {
            return;
        }
        for name in ["event", "date"] {
            if let Some(other) = member(name) {
                let words = format!(
                    "a segment begins the journey or `{name}` does, not both: write two journeys, or give the other a `request`"
                );
                self.findings.error("J092", other.place, words);
            }
        }
        for name in ["where", "anchors", "within"] {
            if let Some(other) = member(name) {
                let words = format!(
                    "`{name}` is about a resource, and a segment is of several: let its conditions say it, and let times hang on `start`"
                );
                self.findings.error("J092", other.place, words);
            }
        }
        let asks = rule
            .request
            .as_ref()
            .is_some_and(|asked| !asked.asks.is_empty());
        if asks {
            let words = "nobody could give the times that a request has to give where the segment begins the journey: let moments hang on `start`";
            let place = member("request").map_or(entry, |node| node.place);
            self.findings.error("J092", place, words);
        }
        self.after_itself();
        let rule = &self.definition.entry;
        if rule.who.iter().any(|who| matches!(who, Who::This(_))) {
            let words = "`this` is about an event's resource, and a segment has none: let its conditions say it";
            let place = member("who").map_or(entry, |node| node.place);
            self.findings.error("J092", place, words);
        }
    }
}

impl Check<'_, '_> {
    /// Whether what the journey writes can take its patients out of the segment that begins it, and so in again, with
    /// nothing between.
    fn after_itself(&mut self) {
        let definition = self.definition;
        let Some(place) = definition.entry.segment else {
            return;
        };
        let Some(segment) = definition.segments.get(place) else {
            return;
        };
        let out = |exit: &ExitRule| matches!(exit.trigger, ExitTrigger::Segment(membership) if membership.segment == place && !membership.inside);
        if definition.entry.again.after_ms.is_some() || !definition.exits.iter().any(out) {
            return;
        }
        let made = definition.steps.iter().filter_map(|step| step.kind.makes());
        let mut writes: BTreeSet<ResourceType> = made.map(|(kind, _)| kind).collect();
        let mut steps = definition.steps.iter();
        if steps.any(|step| !step.kind.messages().is_empty()) {
            writes.extend([
                ResourceType::Communication,
                ResourceType::CommunicationRequest,
            ]);
        }
        if definition.care_plan {
            writes.insert(ResourceType::CarePlan);
        }
        let kinds = segment.kinds();
        let Some(kind) = kinds.intersection(&writes).next() else {
            return;
        };
        let entry = self.root.get("entry");
        let Some(node) = entry.and_then(|entry| entry.get("segment")) else {
            return;
        };
        let words = format!(
            "the segment asks about a {kind}, which the journey itself writes, and an exit ends the journey outside it: it could begin and end by itself for ever; say with `again: {{after: …}}` how long it rests"
        );
        self.findings.error("J092", node.place, words);
    }
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn clocks_are_found_where_they_are_asked() {
        for (text, found) in [
            ("onset < now()", Some((8, "now"))),
            ("a.where(b > today ( ))", Some((12, "today"))),
            ("name = 'today()'", None),
            ("`now` = 1 and known()", None),
            (
                "status = 'x' and timeOfDay() > @T10:00",
                Some((17, "timeOfDay")),
            ),
        ] {
            assert_eq!(clock(text), found, "{text}");
        }
    }
}

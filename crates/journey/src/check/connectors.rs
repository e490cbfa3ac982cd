//! Connectors: whether they make sense by themselves, and whether steps give them what they take.

use super::Check;
use crate::connectors::{calls, connector, count, named_connectors, own};
use crate::decode::Findings;
use crate::kinds::call_rules::{self as rules, Fault};
use crate::kinds::call_table::BESIDE_A_CONNECTOR;
use crate::kinds::classes_of_value;
use crate::yaml::{Content, Node, Place};
use fhir::path::Expression;
use fhir::suggestion;
use std::collections::BTreeSet;
use trust::conventions::CALL_STATUS;
use trust::partners::DataClass;

/// Most connectors of one journey, or of one file.
const CONNECTORS_MAX: usize = 100;
/// Most values, lists and maps of a file whose steps name connectors, with each call written out. Two hundred calls of
/// thirty values each come to this.
const WHOLE_NODES_MAX: usize = 20_000;

/// What is wrong with a file of connectors of the right form.
pub(crate) fn shared_connectors(findings: &mut Findings<'_>, root: &Node) {
    let all = root.get("connectors").map(Node::members);
    let all = all.unwrap_or_default();
    if let Some((key, _)) = all.get(CONNECTORS_MAX) {
        let words = format!("there are more than {CONNECTORS_MAX} connectors; share fewer");
        findings.error("J086", key.place, words);
    }
    for (_, connector) in all {
        let Some(call) = connector.get("call") else {
            continue;
        };
        let mut faults = inputs(connector);
        faults.extend(rules::addressed(call));
        faults.extend(rules::sent(call, call.get("values")));
        faults.extend(rules::sent(call, back(call)));
        faults.extend(learnt(call));
        faults.extend(taken(connector, call));
        for (code, place, words) in faults {
            findings.error(code, place, words);
        }
        unused(findings, connector, call);
    }
}

/// The values that take a connector's call back.
fn back(call: &Node) -> Option<&Node> {
    call.get("compensate")?.get("values")
}

fn members(node: Option<&Node>) -> &[(crate::yaml::Key, Node)] {
    node.map(Node::members).unwrap_or_default()
}

fn inputs(connector: &Node) -> Vec<Fault> {
    let taken = members(connector.get("takes")).iter();
    let secrets = taken.filter(|(key, _)| rules::is_secret(&key.name));
    let said = secrets.map(|(key, _)| ("J063", key.place, rules::secret(&key.name)));
    said.collect()
}

fn learnt(call: &Node) -> Vec<Fault> {
    let learnt = members(call.get("learns")).iter();
    let status = learnt.filter(|(key, _)| key.name == CALL_STATUS);
    let said = status.map(|(_, node)| ("J024", node.place, rules::STATUS.to_owned()));
    said.collect()
}

/// The data classes that an input takes.
fn classes(input: &Node) -> BTreeSet<DataClass> {
    let classes = input.get("classes").map(Node::items).unwrap_or_default();
    let classes = classes.iter();
    classes
        .filter_map(|class| DataClass::parse(class.text()?))
        .collect()
}

/// Whether what values name is there: inputs, and of what takes the call back what it learns.
fn taken(connector: &Node, call: &Node) -> Vec<Fault> {
    let takes = connector.get("takes");
    let mut faults = Vec::new();
    for (is_back, values) in [(false, call.get("values")), (true, back(call))] {
        for (_, value) in members(values) {
            if let Some(input) = value.get("input")
                && let Some(name) = input.text()
            {
                let Some(known) = takes.and_then(|takes| takes.get(name)) else {
                    let names = members(takes).iter().map(|(key, _)| key.name.as_str());
                    let near = suggestion(name, names);
                    let words = format!("the connector takes no `{name}`{near}");
                    faults.push(("J086", input.place, words));
                    continue;
                };
                if is_back && !classes(known).is_empty() {
                    let words = format!(
                        "what takes a call back tells the partner nothing new, and `{name}` may be of the patient: consents may say no by then"
                    );
                    faults.push(("J062", input.place, words));
                }
            }
            if let Some(answer) = value.get("answer")
                && let Some(name) = answer.text()
                && name != CALL_STATUS
                && call.get("learns").and_then(|all| all.get(name)).is_none()
            {
                let names = members(call.get("learns")).iter();
                let near = suggestion(name, names.map(|(key, _)| key.name.as_str()));
                let words = format!("the connector learns no `{name}`{near}");
                faults.push(("J086", answer.place, words));
            }
        }
    }
    faults
}

/// Inputs that go nowhere.
fn unused(findings: &mut Findings<'_>, connector: &Node, call: &Node) {
    let values = members(call.get("values"))
        .iter()
        .chain(members(back(call)));
    let named = values.filter_map(|(_, value)| value.get("input")?.text());
    let named: BTreeSet<&str> = named.collect();
    for (key, _) in members(connector.get("takes")) {
        if !named.contains(key.name.as_str()) {
            let words = format!(
                "`{}` is taken, and the partner isn't told it; remove it",
                key.name
            );
            findings.warning("J086", key.place, words);
        }
    }
}

/// What a connector can do without, and the call can't where the step gives it and it isn't there.
fn may_stop(call: &Node, (name, connector): (&str, &Node)) -> Vec<(Place, String)> {
    let values = connector.get("call").and_then(|call| call.get("values"));
    let takes = connector.get("takes");
    let mut said = Vec::new();
    for (key, given) in members(call.get("with")) {
        let input = takes.and_then(|takes| takes.get(&key.name));
        let can_be_missing = given.get("is").is_none() && given.get("or").is_none();
        if !can_be_missing || input.is_none_or(is_needed) {
            continue;
        }
        let mut told = members(values).iter();
        let stops = told.any(|(_, value)| {
            value.get("input").and_then(Node::text) == Some(&key.name) && value.get("or").is_none()
        });
        if stops {
            let words = format!(
                "the connector `{name}` can do without `{}`, but given here it stops the call where it isn't there; say with `or` what is sent then",
                key.name
            );
            said.push((given.place, words));
        }
    }
    said
}

/// Whether each step has to give an input.
fn is_needed(input: &Node) -> bool {
    let needed = input.get("needed").map(|needed| &needed.content);
    !matches!(needed, Some(Content::Bool(false)))
}

impl Check<'_, '_> {
    /// Checks the connectors, and what steps give them. Whether the connectors themselves make sense.
    pub(super) fn connectors(&mut self) -> bool {
        let written = self.written;
        let before = errors(self.findings);
        shared_connectors(self.findings, written);
        if errors(self.findings) > before {
            return false;
        }
        let named = named_connectors(written);
        if let Some((_, place)) = named.first() {
            let size = count(self.root);
            if size > WHOLE_NODES_MAX {
                let words = format!(
                    "with the calls that its connectors stand for the journey says {size} things, more than {WHOLE_NODES_MAX}; split it, or have its connectors say less"
                );
                self.findings.error("J035", *place, words);
                return false;
            }
        }
        for (key, _) in members(written.get("connectors")) {
            if !named.iter().any(|(name, _)| *name == key.name) {
                let words = format!("nothing names the connector `{}`; remove it", key.name);
                self.findings.warning("J093", key.place, words);
            }
        }
        for (step, place, call) in calls(written) {
            if let (Some(with), None) = (call.get("with"), call.get("connector")) {
                let words = "`with` is for a connector, and the step names none";
                self.findings.error("J087", with.place, words);
            }
            let name = call.get("connector").and_then(Node::text);
            let known = name.and_then(|name| Some((name, connector(written, name)?)));
            if let Some((name, known)) = known {
                for (place, words) in self.used((step, place), call, (name, known)) {
                    self.findings.error("J087", place, words);
                }
                for (place, words) in may_stop(call, (name, known)) {
                    self.findings.warning("J087", place, words);
                }
            }
        }
        true
    }

    /// What is wrong with how a step calls by a connector.
    fn used(
        &self,
        (step, place): (&str, Place),
        call: &Node,
        (name, connector): (&str, &Node),
    ) -> Vec<(Place, String)> {
        let mut wrong = Vec::new();
        let answers = members(connector.get("call").and_then(back)).iter();
        let mut answers = answers.filter_map(|(_, value)| value.get("answer")?.text());
        if answers.any(|answer| Expression::compile(&own(step, answer)).is_err()) {
            let place = call.get("connector").map_or(place, |named| named.place);
            let words = format!(
                "`{step}` is a word of FHIRPath, so what the call has learnt can't be named when it is taken back; name the step differently"
            );
            wrong.push((place, words));
        }
        for (key, _) in call.members() {
            if !BESIDE_A_CONNECTOR.contains(&key.name.as_str()) {
                let words = format!(
                    "`{}` is what the connector `{name}` says; leave it out, or write the call out without a connector",
                    key.name
                );
                wrong.push((key.place, words));
            }
        }
        let of_connector = connector.get("call").and_then(|call| call.get("partner"));
        if let (Some(own), Some(_)) = (call.get("partner"), of_connector) {
            let words = format!("the connector `{name}` names the partner itself; leave it out");
            wrong.push((own.place, words));
        }
        let takes = connector.get("takes");
        for (key, value) in members(call.get("with")) {
            let Some(input) = takes.and_then(|takes| takes.get(&key.name)) else {
                let names = members(takes).iter().map(|(key, _)| key.name.as_str());
                let near = suggestion(&key.name, names);
                let words = format!("the connector `{name}` takes no `{}`{near}", key.name);
                wrong.push((key.place, words));
                continue;
            };
            let may = classes(input);
            let is = classes_of_value(value, self.definition);
            let more: Vec<&str> = is.difference(&may).map(|class| class.name()).collect();
            if !more.is_empty() {
                let takes: Vec<&str> = may.iter().map(|class| class.name()).collect();
                let takes = match takes.as_slice() {
                    [] => "fixed words alone".to_owned(),
                    classes => classes.join(" and "),
                };
                let words = format!(
                    "`{}` of `{name}` takes {takes}, and this may be of the data class {}",
                    key.name,
                    more.join(" and ")
                );
                wrong.push((value.place, words));
            }
        }
        for (key, input) in members(takes) {
            let given = call.get("with").and_then(|with| with.get(&key.name));
            if is_needed(input) && given.is_none() {
                let at = call.get("with").map_or(place, |with| with.place);
                let title = input.get("title").and_then(Node::text).unwrap_or_default();
                let words = format!("the connector `{name}` needs `{}`: {title}", key.name);
                wrong.push((at, words));
            }
        }
        wrong
    }
}

fn errors(findings: &Findings<'_>) -> usize {
    findings.list.iter().filter(|found| found.error).count()
}

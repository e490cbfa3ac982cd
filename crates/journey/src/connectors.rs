//! Connectors: calls to partners that are written once, in a journey's own file or in `connectors.yaml` beside it.
//!
//! A step that names a connector becomes the call that the connector stands for when the file is read. Nothing behind
//! that knows of connectors: the engine, what is stored and what is sent are those of a call that is written out.

use crate::decode::Findings;
use crate::shared::{Merged, NotMerged, Shared};
use crate::yaml::{Content, Key, Node, Place};
use crate::{Finding, check, spec};
use fhir::suggestion;

/// Most values and maps of one connector. One of thirty values has two hundred. What is stored is held to this, too,
/// because it bounds the memory that a file takes: it may only grow.
const NODES_MAX: usize = 1_000;

static CONNECTORS: Shared = Shared {
    member: "connectors",
    one: "connector",
    form: &spec::SHARED_CONNECTORS,
    sense: |findings, root| {
        too_large(findings, root);
        check::shared_connectors(findings, root);
    },
    named: named_connectors,
    code: "J086",
};

/// Checks a file of connectors. Pure.
#[must_use]
pub fn check_connectors(source: &str) -> Vec<Finding> {
    CONNECTORS.check(source)
}

/// A journey's text with those connectors of a shared file that it names and doesn't have itself. Where it has none of
/// its own they stand behind everything else, so that its lines keep their numbers.
///
/// # Errors
/// What is wrong with the shared file, or why the journey can't take of it what it names.
pub fn with_connectors(journey: &str, shared: &str) -> Result<Merged, NotMerged> {
    CONNECTORS.merged(journey, shared)
}

/// The calls of a file: the step, where it says that it calls, and how.
pub(crate) fn calls(root: &Node) -> impl Iterator<Item = (&str, Place, &Node)> {
    let steps = root.get("steps").map(Node::members).unwrap_or_default();
    steps.iter().filter_map(|(step, node)| {
        let mut members = node.members().iter();
        let (key, call) = members.find(|(key, _)| key.name == spec::CALL)?;
        Some((step.name.as_str(), key.place, call))
    })
}

/// The connectors that the steps of a journey name, each with its place.
pub(crate) fn named_connectors(root: &Node) -> Vec<(String, Place)> {
    let named = calls(root).filter_map(|(_, _, call)| {
        let name = call.get("connector")?;
        Some((name.text()?.to_owned(), name.place))
    });
    named.collect()
}

/// A connector of a file.
pub(crate) fn connector<'a>(root: &'a Node, name: &str) -> Option<&'a Node> {
    root.get("connectors")?.get(name)
}

/// The values, lists and maps of a node, with itself.
pub(crate) fn count(node: &Node) -> usize {
    let members = node.members().iter().map(|(_, node)| count(node));
    let items = node.items().iter().map(count);
    1 + members.chain(items).sum::<usize>()
}

/// Whether a connector has more in it than a call needs: each step that names it becomes as large.
pub(crate) fn too_large(findings: &mut Findings<'_>, root: &Node) {
    let all = root.get("connectors").map(Node::members);
    for (key, connector) in all.unwrap_or_default() {
        if count(connector) > NODES_MAX {
            let words = format!(
                "the connector `{}` says more than {NODES_MAX} things; split it",
                key.name
            );
            findings.error("J035", key.place, words);
        }
    }
}

/// What calls need that the tables can't say: a partner, and the connector that they name.
pub(crate) fn form(findings: &mut Findings<'_>, root: &Node) {
    too_large(findings, root);
    for (_, place, call) in calls(root) {
        let has_partner = call.get("partner").is_some();
        let Some(named) = call.get("connector") else {
            if !has_partner && matches!(call.content, Content::Map(_)) {
                let words = "call needs `partner`: The partner, as `partners.toml` names it.";
                findings.error("J003", place, words);
            }
            continue;
        };
        // What is no text was said already.
        let Some(name) = named.text() else { continue };
        let Some(meant) = connector(root, name) else {
            let known = root.get("connectors").map(Node::members);
            let known = known.unwrap_or_default().iter();
            let near = suggestion(name, known.map(|(key, _)| key.name.as_str()));
            let words = format!(
                "there is no connector `{name}`{near}; write it in `connectors`, or in connectors.yaml beside the journey"
            );
            findings.error("J087", named.place, words);
            continue;
        };
        let names_one = meant.get("call").and_then(|call| call.get("partner"));
        if !has_partner && names_one.is_none() {
            let words =
                format!("the connector `{name}` is of no one partner: say which, `partner`");
            findings.error("J087", place, words);
        }
    }
}

/// FHIRPath for what a step has learnt under a name.
pub(crate) fn own(step: &str, member: &str) -> String {
    format!("{step}.{member}")
}

/// The file with each call written out that names a connector; nothing where none does.
pub(crate) fn written_out(root: &Node) -> Option<Node> {
    if named_connectors(root).is_empty() {
        return None;
    }
    let mut whole = root.clone();
    let steps = member(&mut whole, "steps")?;
    let Content::Map(steps) = &mut steps.content else {
        return None;
    };
    for (key, step) in steps {
        let Some(call) = member(step, spec::CALL) else {
            continue;
        };
        let named = call.get("connector");
        let named = named.and_then(|named| Some((named.text()?, named.place)));
        let meant = named.and_then(|(name, at)| Some((connector(root, name)?.get("call")?, at)));
        if let Some((meant, at)) = meant {
            *call = made(&key.name, call, meant, at);
        }
    }
    Some(whole)
}

fn member<'a>(node: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    let Content::Map(members) = &mut node.content else {
        return None;
    };
    let mut members = members.iter_mut();
    members
        .find(|(key, _)| key.name == name)
        .map(|(_, node)| node)
}

/// A step's call as its connector means it. What is the connector's stands where the step names it, so that what is
/// found of it is found in the journey.
fn made(step: &str, call: &Node, meant: &Node, at: Place) -> Node {
    let key = |name: &str| Key {
        place: at,
        name: name.to_owned(),
    };
    let all_told = |values: &Node| Node {
        place: at,
        content: Content::Map(
            values
                .members()
                .iter()
                .filter_map(|(name, value)| Some((key(&name.name), told(step, call, value, at)?)))
                .collect(),
        ),
    };
    let mut members = Vec::new();
    for (name, node) in meant.members() {
        let node = match name.name.as_str() {
            "values" => all_told(node),
            "compensate" => {
                let back = node.members().iter().map(|(name, node)| {
                    let node = match name.name.as_str() {
                        "values" => all_told(node),
                        _ => placed(node, at),
                    };
                    (key(&name.name), node)
                });
                Node {
                    place: at,
                    content: Content::Map(back.collect()),
                }
            }
            _ => placed(node, at),
        };
        members.push((key(&name.name), node));
    }
    for name in ["partner", "up_to", "takes_back"] {
        if let Some(own) = call.get(name)
            && meant.get(name).is_none()
        {
            members.push((key(name), own.clone()));
        }
    }
    Node {
        place: call.place,
        content: Content::Map(members),
    }
}

/// One value of a connector as a value of the call; nothing where a step doesn't give it and needn't.
fn told(step: &str, call: &Node, value: &Node, at: Place) -> Option<Node> {
    let text = |words: &str| Node {
        place: at,
        content: Content::Text(words.to_owned()),
    };
    let key = |name: &str| Key {
        place: at,
        name: name.to_owned(),
    };
    let mut told = if let Some(input) = value.get("input") {
        let given = call.get("with").and_then(|with| with.get(input.text()?));
        match given {
            Some(given) => given.clone(),
            None => Node {
                place: at,
                content: Content::Map(vec![(key("is"), placed(value.get("or")?, at))]),
            },
        }
    } else if let Some(answer) = value.get("answer") {
        let learnt = text(&own(step, answer.text()?));
        Node {
            place: at,
            content: Content::Map(vec![(key("learnt"), learnt)]),
        }
    } else {
        return Some(placed(value, at));
    };
    // What the step says for where it isn't there counts before what the connector says.
    for name in ["as", "or"] {
        if let Some(own) = value.get(name)
            && told.get(name).is_none()
            && (name == "as" || told.get("is").is_none())
            && let Content::Map(members) = &mut told.content
        {
            members.push((key(name), placed(own, at)));
        }
    }
    Some(told)
}

/// The same at another place.
fn placed(node: &Node, at: Place) -> Node {
    let content = match &node.content {
        Content::List(items) => Content::List(items.iter().map(|item| placed(item, at)).collect()),
        Content::Map(members) => {
            let members = members.iter().map(|(key, node)| {
                let key = Key {
                    place: at,
                    name: key.name.clone(),
                };
                (key, placed(node, at))
            });
            Content::Map(members.collect())
        }
        plain => plain.clone(),
    };
    Node { place: at, content }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::same;

    /// What a step says of a connector, and the call that it comes to.
    #[test]
    fn a_call_by_a_connector_is_written_out() {
        const CONNECTORS: &str = "connectors:
  rides:
    title: Rides
    takes:
      phone: {title: Phone, classes: [contact]}
      seat: {title: Seat, needed: false}
      note: {title: Note, needed: false}
    call:
      path: /b
      values:
        phone: {input: phone, as: a.phone, or: nobody}
        seat: {input: seat, or: car}
        note: {input: note}
        id: {patient: id}
      learns: {booking: {path: id, class: contact}}
      compensate: {path: /off, values: {b: {answer: booking, as: id}, seat: {input: seat}}}
";
        let learns = "learns: {booking: {path: id, class: contact}}";
        for (with, values, back) in [
            (
                "{phone: {patient: phone, or: none}}",
                "phone: {patient: phone, or: none, as: a.phone}, seat: {is: car}",
                "",
            ),
            (
                "{phone: {learnt: x.phone}, seat: {is: van, or: bus}, note: {is: Hi}}",
                "phone: {learnt: x.phone, as: a.phone, or: nobody}, seat: {is: van, or: bus}, note: {is: Hi}",
                ", seat: {is: van, or: bus}",
            ),
            (
                "{phone: {is: '1'}, seat: {patient: gender}}",
                "phone: {is: '1', as: a.phone}, seat: {patient: gender, or: car}",
                ", seat: {patient: gender}",
            ),
        ] {
            let step = |call: &str| {
                format!("steps:\n  ride:\n    title: Ride\n    call: {call}\n    next: end\n")
            };
            let named = step(&format!(
                "{{connector: rides, partner: county, with: {with}, up_to: 1d, takes_back: [bed]}}"
            ));
            let written = step(&format!(
                "{{partner: county, path: /b, values: {{{values}, id: {{patient: id}}}}, {learns}, up_to: 1d, takes_back: [bed], compensate: {{path: /off, values: {{b: {{learnt: ride.booking, as: id}}{back}}}}}}}"
            ));
            let root = Node::parse(&format!("{named}{CONNECTORS}")).unwrap();
            let whole = written_out(&root).unwrap();
            let expected = Node::parse(&written).unwrap();
            assert!(
                same(whole.get("steps"), expected.get("steps")),
                "{with}: {:#?}",
                whole.get("steps")
            );
            assert!(written_out(&expected).is_none(), "nothing to do");
            assert!(written_out(&whole).is_none(), "once is enough");
        }
    }
}

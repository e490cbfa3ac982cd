//! From nodes of the right form to a definition.

use super::Reader;
use crate::definition::{
    Alternative, Answer, Ask, Book, Branch, Case, Channel, Condition, Definition, Entry, ExitRule,
    ExitTrigger, Message, Observe, Overdue, Path, Question, Send, Step, StepKind, Target, Task,
    Trigger, Wait, Who,
};
use crate::spec;
use crate::template::Template;
use crate::time::{self, DAY_MS, Moment};
use crate::yaml::{Content, Key, Node};
use fhir::ResourceType;
use fhir::path::Expression;
use std::collections::BTreeMap;

impl Reader<'_, '_> {
    // From here on the form is right, so each member is there and of its shape; an absent one is absent
    // because it may be.

    pub(super) fn definition(&mut self, root: &Node) -> Option<Definition> {
        let mut conditions = Vec::new();
        let zone = time::zone(line(root, "time_zone").as_deref().unwrap_or("UTC")).ok()?;
        let entry = self.entry(root.get("entry")?)?;
        let exits = self.exits(root.get("exits")?, &mut conditions)?;
        let steps_node = root.get("steps")?;
        let index: BTreeMap<String, usize> = steps_node
            .members()
            .iter()
            .enumerate()
            .map(|(place, (key, _))| (key.name.clone(), place))
            .collect();
        let mut steps = Vec::new();
        for (key, node) in steps_node.members() {
            steps.push(self.decode_step(key, node, &index, &mut conditions)?);
        }
        Some(Definition {
            name: line(root, "name")?,
            title: line(root, "title")?,
            owner: line(root, "owner")?,
            purpose: if line(root, "purpose")? == "TREAT" {
                trust::Purpose::Treatment
            } else {
                trust::Purpose::CareManagement
            },
            version: 0,
            at_most_ms: length(root, "at_most")?,
            zone,
            entry,
            exits,
            start: target(root.get("start")?, &index),
            steps,
            index,
            conditions,
        })
    }

    pub(super) fn entry(&mut self, node: &Node) -> Option<Entry> {
        let who = node
            .get("who")
            .and_then(|who| who.get("any"))
            .map(Node::items)
            .unwrap_or_default();
        Some(Entry {
            event: resource(node, "event")?,
            condition: path(node.get("where")?)?,
            anchors: node
                .get("anchors")?
                .members()
                .iter()
                .filter_map(|(key, value)| Some((key.name.clone(), path(value)?)))
                .collect(),
            within_ms: length(node, "within"),
            once: line(node, "per")? == "patient",
            beside: line(node, "while_running").as_deref() == Some("beside"),
            who: who
                .iter()
                .filter_map(|item| match item.get("this") {
                    Some(this) => Some(Who::This(path(this)?)),
                    None => Some(Who::Has {
                        kind: resource(item, "has")?,
                        condition: item.get("where").and_then(path),
                    }),
                })
                .collect(),
        })
    }

    pub(super) fn exits(
        &mut self,
        node: &Node,
        conditions: &mut Vec<Condition>,
    ) -> Option<Vec<ExitRule>> {
        let mut exits = Vec::new();
        for (key, rule) in node.members() {
            let trigger = match rule.get("event") {
                Some(_) => {
                    conditions.push(Condition {
                        kind: resource(rule, "event")?,
                        path: rule.get("where").and_then(path),
                    });
                    ExitTrigger::Event(conditions.len() - 1)
                }
                None => ExitTrigger::ConsentWithdrawn,
            };
            exits.push(ExitRule {
                id: key.name.clone(),
                title: line(rule, "title")?,
                close_tasks: line(rule, "open_tasks").as_deref() != Some("keep"),
                trigger,
            });
        }
        Some(exits)
    }

    pub(super) fn decode_step(
        &mut self,
        key: &Key,
        node: &Node,
        index: &BTreeMap<String, usize>,
        conditions: &mut Vec<Condition>,
    ) -> Option<Step> {
        let (kind, body) = node
            .members()
            .iter()
            .find_map(|(member, body)| spec::kind(&member.name).map(|kind| (kind.name, body)))?;
        let way = |name: &str| node.get(name).map(|node| target(node, index));
        let kind = match kind {
            "send" => StepKind::Send(Send {
                message: message(body)?,
                expires_ms: length(body, "expires").unwrap_or(DAY_MS),
                next: way("next")?,
                on_failure: way("on_failure"),
            }),
            "ask" => StepKind::Ask(Ask {
                invitation: message(body)?,
                reminder: body.get("reminder").and_then(template),
                questions: body
                    .get("questions")?
                    .items()
                    .iter()
                    .map(question)
                    .collect::<Option<_>>()?,
                remind_after_ms: length(body, "remind_after"),
                give_up_after_ms: length(body, "give_up_after")?,
                answered: way("answered")?,
                no_answer: way("no_answer"),
                late_answer: way("late_answer"),
            }),
            "wait" => StepKind::Wait(wait(node, body, index, conditions)?),
            "observe" => {
                let falls = body.get("falls_more_than").is_some();
                StepKind::Observe(Observe {
                    code: line(body, "code")?,
                    unit: line(body, "unit")?,
                    more_than: number(
                        body,
                        if falls {
                            "falls_more_than"
                        } else {
                            "rises_more_than"
                        },
                    )?,
                    falls,
                    within_ms: length(body, "within")?,
                    quiet_ms: length(body, "quiet_for").unwrap_or(DAY_MS),
                    until: body
                        .get("until")
                        .and_then(Node::text)
                        .and_then(|text| Moment::parse(text).ok()),
                    then: way("then")?,
                })
            }
            "branch" => StepKind::Branch(Branch {
                cases: body
                    .get("cases")?
                    .items()
                    .iter()
                    .map(|case| {
                        let when = path(case.get("when")?)?;
                        Some(Case {
                            label: line(case, "label").unwrap_or_else(|| when.text.clone()),
                            when,
                            next: target(case.get("next")?, index),
                        })
                    })
                    .collect::<Option<_>>()?,
                otherwise: target(body.get("otherwise")?, index),
            }),
            "task" => StepKind::Task(Task {
                title: line(body, "title")?,
                reason: template(body.get("reason")?)?,
                role: line(body, "role")?,
                priority: line(body, "priority").unwrap_or_else(|| "routine".to_owned()),
                due_ms: length(body, "due")?,
                outcomes: body
                    .get("outcomes")
                    .map(Node::members)
                    .unwrap_or_default()
                    .iter()
                    .map(|(key, node)| (key.name.clone(), target(node, index)))
                    .collect(),
                next: way("next")?,
                not_done: way("not_done"),
                overdue: match node.get("overdue") {
                    Some(map) if matches!(map.content, Content::Map(_)) => {
                        Some(Overdue::HandOver {
                            role: line(map, "role")?,
                            priority: line(map, "priority")?,
                        })
                    }
                    Some(other) => Some(Overdue::Go(target(other, index))),
                    None => None,
                },
            }),
            "book" => StepKind::Book(Book {
                title: line(body, "title")?,
                words: body.get("words").and_then(template),
                on: Moment::parse(body.get("time")?.text()?).ok()?,
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked to be 5 to 480"
                )]
                minutes: number(body, "minutes")? as u64,
                book_by: Moment::parse(body.get("book_by")?.text()?).ok()?,
                next: way("next")?,
                not_booked: way("not_booked"),
                missed: way("missed"),
            }),
            "parallel" => StepKind::Parallel {
                branches: body
                    .get("branches")?
                    .items()
                    .iter()
                    .map(|item| target(item, index))
                    .collect(),
                next: way("next")?,
            },
            "exit" => StepKind::Exit {
                reason: line(body, "reason")?,
                close_tasks: line(body, "open_tasks").as_deref() == Some("close"),
            },
            _ => return None,
        };
        Some(Step {
            id: key.name.clone(),
            title: line(node, "title")?,
            plain: line(node, "plain"),
            place: key.place,
            kind,
        })
    }
}

fn line(node: &Node, name: &str) -> Option<String> {
    node.get(name)?.text().map(str::to_owned)
}

fn length(node: &Node, name: &str) -> Option<u64> {
    time::duration(node.get(name)?.text()?).ok()
}

fn number(node: &Node, name: &str) -> Option<f64> {
    match node.get(name)?.content {
        Content::Number(value) => Some(value),
        _ => None,
    }
}

fn flag(node: &Node, name: &str) -> Option<bool> {
    match node.get(name)?.content {
        Content::Bool(value) => Some(value),
        _ => None,
    }
}

fn resource(node: &Node, name: &str) -> Option<ResourceType> {
    ResourceType::parse(node.get(name)?.text()?)
}

fn path(node: &Node) -> Option<Path> {
    let text = node.text()?;
    Some(Path {
        text: text.to_owned(),
        place: node.place,
        expression: Expression::compile(text).ok()?,
    })
}

fn template(node: &Node) -> Option<Template> {
    Template::parse(node.text()?).ok()
}

fn target(node: &Node, index: &BTreeMap<String, usize>) -> Target {
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    Target {
        steps: items
            .iter()
            .filter_map(|item| index.get(item.text()?).copied())
            .collect(),
        place: node.place,
    }
}

fn message(body: &Node) -> Option<Message> {
    let channels: Vec<Channel> = body
        .get("channels")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| match item.text()? {
            "email" => Some(Channel::Email),
            "portal" => Some(Channel::Portal),
            _ => None,
        })
        .collect();
    Some(Message {
        title: line(body, "title")?,
        words: template(body.get("words")?)?,
        channels: if channels.is_empty() {
            vec![Channel::Email, Channel::Portal]
        } else {
            channels
        },
        email: match body.get("email") {
            Some(email) => Some((
                template(email.get("subject")?)?,
                template(email.get("text")?)?,
            )),
            None => None,
        },
    })
}

fn question(node: &Node) -> Option<Question> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "checked to be a whole number within a million"
    )]
    let whole = |name: &str| number(node, name).map(|value| value as i64);
    Some(Question {
        id: line(node, "id")?,
        text: line(node, "text")?,
        help: line(node, "help"),
        answer: match line(node, "type")?.as_str() {
            "yes-no" => Answer::YesNo,
            "whole-number" => Answer::WholeNumber,
            "number" => Answer::Number,
            "text" => Answer::Text,
            "choice" => Answer::Choice,
            _ => Answer::Date,
        },
        required: flag(node, "required").unwrap_or(true),
        least: whole("least"),
        most: whole("most"),
        options: node
            .get("options")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), value.text()?.to_owned())))
            .collect(),
    })
}

fn wait(
    node: &Node,
    body: &Node,
    index: &BTreeMap<String, usize>,
    conditions: &mut Vec<Condition>,
) -> Option<Wait> {
    let mut alternatives = Vec::new();
    let mut add = |item: &Node, next: Target| -> Option<()> {
        let (trigger, label) = if let Some(length_ms) = length(item, "for") {
            (
                Trigger::For(length_ms),
                format!("after {}", time::say_duration(length_ms)),
            )
        } else if let Some(text) = line(item, "until") {
            (Trigger::Until(Moment::parse(&text).ok()?), text)
        } else {
            let kind = resource(item, "event")?;
            conditions.push(Condition {
                kind,
                path: item.get("where").and_then(path),
            });
            (Trigger::Event(conditions.len() - 1), format!("{kind} came"))
        };
        alternatives.push(Alternative {
            trigger,
            next,
            label,
        });
        Some(())
    };
    match body.get("first_of") {
        Some(list) => {
            for item in list.items() {
                add(item, target(item.get("next")?, index))?;
            }
        }
        None => {
            add(
                body,
                node.get("next")
                    .map(|node| target(node, index))
                    .unwrap_or_default(),
            )?;
            if let Some(at_most_ms) = length(body, "at_most") {
                let next = node
                    .get("not_come")
                    .map(|node| target(node, index))
                    .unwrap_or_default();
                alternatives.push(Alternative {
                    trigger: Trigger::For(at_most_ms),
                    next,
                    label: format!("not come in {}", time::say_duration(at_most_ms)),
                });
            }
        }
    }
    Some(Wait { alternatives })
}

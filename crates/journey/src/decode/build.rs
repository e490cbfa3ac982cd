//! From nodes of the right form to a definition.

use super::Reader;
use crate::dates::{Begins, EntryDate, Past};
use crate::definition::{
    Again, Channel, Condition, Definition, Entry, EntryEvent, ExitRule, ExitTrigger, Message, Path,
    Request, Step, Target, Who,
};
use crate::languages::{self, Asked, Translation};
use crate::room::{Own, Urgency, Window};
use crate::segments::{Segment, membership, place_of};
use crate::spec::{self, DAYS};
use crate::template::Template;
use crate::time;
use crate::yaml::{Content, Key, Node};
use fhir::ResourceType;
use fhir::path::Expression;
use jiff::civil::Weekday;
use std::collections::BTreeMap;
use trust::outgoing::WhileAdmitted;

/// What a kind decodes a step from.
pub(crate) struct Parts<'a> {
    /// The step.
    pub(crate) node: &'a Node,
    /// Its kind's own part.
    pub(crate) body: &'a Node,
    index: &'a BTreeMap<String, usize>,
    /// The journey's conditions on events, to which a step may add.
    pub(crate) conditions: &'a mut Vec<Condition>,
    /// The segments that it may ask about.
    pub(crate) segments: &'a [Segment],
}

impl Parts<'_> {
    /// A way out of the step.
    pub(crate) fn way(&self, name: &str) -> Option<Target> {
        self.node.get(name).map(|node| self.target(node))
    }
    /// Where a node of it leads.
    pub(crate) fn target(&self, node: &Node) -> Target {
        target(node, self.index)
    }
}

impl Reader<'_, '_> {
    // From here on the form is right, so each member is there and of its shape; an absent one is absent
    // because it may be.

    pub(super) fn definition(&mut self, root: &Node) -> Option<Definition> {
        let mut conditions = Vec::new();
        let zone = time::zone(line(root, "time_zone").as_deref().unwrap_or("UTC")).ok()?;
        let purpose = line(root, "purpose")?;
        let mut segments = Vec::new();
        for (key, node) in root.get("segments").map(Node::members).unwrap_or_default() {
            segments.push(Segment::decode(&key.name, node, &zone, &purpose)?);
        }
        let exits = self.exits(root.get("exits")?, &mut conditions, &segments)?;
        let steps_node = root.get("steps")?;
        let index: BTreeMap<String, usize> = steps_node
            .members()
            .iter()
            .enumerate()
            .map(|(place, (key, _))| (key.name.clone(), place))
            .collect();
        let entry = self.entry(root.get("entry")?, &index, &segments)?;
        let mut steps = Vec::new();
        for (key, node) in steps_node.members() {
            let step = self.decode_step(key, node, &index, (&mut conditions, &segments));
            steps.push(step?);
        }
        Some(Definition {
            name: line(root, "name")?,
            title: line(root, "title")?,
            owner: line(root, "owner")?,
            purpose: if purpose == "TREAT" {
                trust::Purpose::Treatment
            } else {
                trust::Purpose::CareManagement
            },
            version: 0,
            care_plan: flag(root, "care_plan") != Some(false),
            at_most_ms: length(root, "at_most")?,
            zone,
            language: line(root, "language")
                .and_then(|text| languages::tag(&text))
                .unwrap_or_else(|| languages::ENGLISH.to_owned()),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be 1 to 13"
            )]
            reading_level: number(root, "reading_level").map(|grade| grade as u8),
            entry,
            exits,
            start: target(root.get("start")?, &index),
            has_ways: has_ways(&steps),
            steps,
            index,
            conditions,
            limits: root.get("messages").map(limits).unwrap_or_default(),
            segments,
        })
    }

    pub(super) fn entry(
        &mut self,
        node: &Node,
        index: &BTreeMap<String, usize>,
        segments: &[Segment],
    ) -> Option<Entry> {
        let who = node
            .get("who")
            .and_then(|who| who.get("any"))
            .map(Node::items)
            .unwrap_or_default();
        let dated = node.get("date");
        let event = match (node.get("event"), dated) {
            (Some(_), _) => Some(EntryEvent {
                kind: resource(node, "event")?,
                condition: path(node.get("where")?)?,
            }),
            (None, Some(dated)) => Some(EntryEvent {
                kind: resource(dated, "of")?,
                condition: match dated.get("where") {
                    Some(condition) => path(condition)?,
                    None => Path {
                        text: "true".to_owned(),
                        place: dated.place,
                        expression: Expression::compile("true").ok()?,
                    },
                },
            }),
            (None, None) => None,
        };
        let date = match dated {
            Some(dated) => Some(EntryDate {
                begins: Begins::parse(dated.get("begins")?.text()?).ok()?,
                yearly: dated.get("every").is_some(),
                past: match line(dated, "past_due")?.as_str() {
                    "run" => Past::Run,
                    "escalate" => Past::Escalate(
                        dated
                            .get("late")
                            .map(|late| target(late, index))
                            .unwrap_or_default(),
                    ),
                    _ => Past::Skip,
                },
            }),
            None => None,
        };
        let request = node.get("request").map(request);
        let mut anchors = Vec::new();
        for (key, value) in node.get("anchors").map(Node::members).unwrap_or_default() {
            anchors.push((key.name.clone(), Some(path(value)?)));
        }
        if event.is_none()
            && let Some(request) = &request
        {
            anchors.extend(request.asks.iter().map(|(name, _)| (name.clone(), None)));
        }
        let segment = line(node, "segment").map(|name| place_of(segments, &name));
        Some(Entry {
            event,
            date,
            segment,
            request,
            anchors,
            within_ms: length(node, "within"),
            once: line(node, "per")? == "patient",
            each_date: line(node, "per")? == "date",
            again: node.get("again").map(again).unwrap_or_default(),
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
        segments: &[Segment],
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
                None => match rule.get("segment") {
                    Some(asked) => ExitTrigger::Segment(membership(asked, segments)),
                    None => ExitTrigger::ConsentWithdrawn,
                },
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
        (conditions, segments): (&mut Vec<Condition>, &[Segment]),
    ) -> Option<Step> {
        let (kind, body) = node
            .members()
            .iter()
            .find_map(|(member, body)| spec::kind(&member.name).map(|kind| (kind, body)))?;
        let kind = (kind.decode)(&mut Parts {
            node,
            body,
            index,
            conditions,
            segments,
        })?;
        Some(Step {
            id: key.name.clone(),
            title: line(node, "title")?,
            plain: line(node, "plain"),
            place: key.place,
            said: node.clone(),
            kind,
        })
    }
}

/// A message in other languages, in the order of the file.
fn translations(body: &Node) -> Option<Vec<Translation>> {
    let all = body.get(spec::TRANSLATIONS).map(Node::members);
    let all = all.unwrap_or_default().iter();
    all.map(|(key, node)| {
        Some(Translation {
            language: languages::tag(&key.name)?,
            title: line(node, "title")?,
            // A visit has reminders alone.
            words: template(node.get("words").or_else(|| node.get("reminder"))?)?,
            reminder: node.get("reminder").and_then(template),
            called_off: node.get("called_off").and_then(template),
            questions: node
                .get("questions")
                .map(Node::items)
                .unwrap_or_default()
                .iter()
                .map(asked)
                .collect::<Option<_>>()?,
            email: match node.get("email") {
                Some(email) => Some((
                    template(email.get("subject")?)?,
                    template(email.get("text")?)?,
                )),
                None => None,
            },
            sms: sms(node),
            voice: voice(node),
            script: script(node),
            again: (node.get("reply").and_then(|reply| reply.get("again"))).and_then(template),
        })
    })
    .collect()
}

/// The words of a message's text message.
fn sms(body: &Node) -> Option<Template> {
    template(body.get("sms")?.get("words")?)
}

/// What is spoken on the telephone.
fn voice(body: &Node) -> Option<Template> {
    template(body.get("voice")?.get("words")?)
}

/// The number of a recording that says it.
fn script(body: &Node) -> Option<String> {
    line(body.get("voice")?, "script")
}

/// A question of a form in another language.
fn asked(node: &Node) -> Option<Asked> {
    let options = node.get("options").map(Node::members).unwrap_or_default();
    Some(Asked {
        id: line(node, "id")?,
        text: line(node, "text")?,
        help: line(node, "help"),
        options: options
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), value.text()?.to_owned())))
            .collect(),
    })
}

fn again(node: &Node) -> Again {
    Again {
        after_ms: length(node, "after"),
        since_began: line(node, "since").as_deref() == Some("began"),
        // A whole number within bounds.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the form is right: a whole number from 2 to 1000"
        )]
        at_most: number(node, "at_most").map(|times| times as usize),
    }
}

fn request(node: &Node) -> Request {
    let by = node.get("by").map(Node::items).unwrap_or_default();
    let asks = node.get("asks").map(Node::members).unwrap_or_default();
    Request {
        by: by
            .iter()
            .filter_map(|item| match item.text()? {
                "system" => Some(trust::Role::Client),
                role => trust::Role::parse(role),
            })
            .collect(),
        asks: asks
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), value.text()?.to_owned())))
            .collect(),
    }
}

pub(crate) fn line(node: &Node, name: &str) -> Option<String> {
    node.get(name)?.text().map(str::to_owned)
}

pub(crate) fn length(node: &Node, name: &str) -> Option<u64> {
    time::duration(node.get(name)?.text()?).ok()
}

pub(crate) fn number(node: &Node, name: &str) -> Option<f64> {
    match node.get(name)?.content {
        Content::Number(value) => Some(value),
        _ => None,
    }
}

pub(crate) fn flag(node: &Node, name: &str) -> Option<bool> {
    match node.get(name)?.content {
        Content::Bool(value) => Some(value),
        _ => None,
    }
}

pub(crate) fn resource(node: &Node, name: &str) -> Option<ResourceType> {
    ResourceType::parse(node.get(name)?.text()?)
}

pub(crate) fn path(node: &Node) -> Option<Path> {
    let text = node.text()?;
    Some(Path {
        text: text.to_owned(),
        place: node.place,
        expression: Expression::compile(text).ok()?,
    })
}

pub(crate) fn template(node: &Node) -> Option<Template> {
    Template::parse(node.text()?).ok()
}

/// Whether a message of these steps reaches out by several channels.
fn has_ways(steps: &[Step]) -> bool {
    let messages = steps.iter().flat_map(|step| step.kind.messages());
    let mut channels = messages.map(|(_, message)| &message.channels);
    channels.any(|channels| crate::room::has_ways(channels))
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

pub(crate) fn message(body: &Node) -> Option<Message> {
    let words = template(body.get("words")?)?;
    message_with(body, line(body, "title")?, words)
}

/// A message with a heading and words that stand elsewhere.
pub(crate) fn message_with(body: &Node, title: String, words: Template) -> Option<Message> {
    let channels: Vec<Channel> = body
        .get("channels")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|item| Channel::parse(item.text()?))
        .collect();
    Some(Message {
        title,
        words,
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
        sms: sms(body),
        voice: voice(body),
        script: script(body),
        urgency: match line(body, "urgency").as_deref() {
            Some("important") => Urgency::Important,
            Some("clinical") => Urgency::Clinical,
            _ => Urgency::Routine,
        },
        because: line(body, "because"),
        window: body.get("window").and_then(window),
        while_admitted: match line(body, "while_admitted").as_deref() {
            Some("send") => Some(WhileAdmitted::Send),
            Some("hold") => Some(WhileAdmitted::Hold),
            Some("skip") => Some(WhileAdmitted::Skip),
            _ => None,
        },
        translations: translations(body)?,
    })
}

fn window(node: &Node) -> Option<Window> {
    let time = |name: &str| trust::consent::time_of_day(&line(node, name)?).ok();
    let days = node.get("days").map(Node::items).unwrap_or_default();
    let day = |item: &Node| {
        let at = DAYS
            .iter()
            .position(|(name, _)| item.text() == Some(name))?;
        Weekday::from_monday_zero_offset(i8::try_from(at).ok()?).ok()
    };
    Some(Window {
        from: time("from")?,
        until: time("until")?,
        days: days.iter().filter_map(day).collect(),
    })
}

fn limits(node: &Node) -> Own {
    let most = |name: &str| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be a whole number within bounds"
        )]
        number(node, name).map(|most| most as u32)
    };
    let quiet = node.get("quiet").and_then(|quiet| {
        let time = |name: &str| trust::consent::time_of_day(&line(quiet, name)?).ok();
        Some(trust::consent::QuietHours {
            from: time("from")?,
            until: time("until")?,
        })
    });
    Own {
        quiet,
        per_day: most("per_day"),
        per_week: most("per_week"),
    }
}

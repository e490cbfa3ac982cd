//! A call to a partner, and what it answers.
//!
//! What stands between the journey and the partner is a `Task` in the record, and an entry in the outbox beside it,
//! both written in the move's own unit of work. Whoever delivers asks consents, contract and clearance once more, calls,
//! and writes the answer into the `Task`, which is an event of the record as any other.

mod check;
mod values;

use super::{Carried, Outside, Plan, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, number, path};
use crate::definition::{Definition, Path, Step, Target, Way};
use crate::engine::{Effect, Engine, EngineError, Fact, Ids};
use crate::resources::{Maker, not_done, resource, role};
use crate::spec::{Focus, Kind, Record, Shape, may, must};
use crate::state::{Owed, Stand, State, Token, What};
use crate::time::say_duration;
use crate::yaml::{Content, Node};
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use trust::conventions::{CALL_ORDER, CALL_STATUS, TASK_SYSTEM};
use trust::outgoing;
use trust::partners::DataClass;
use values::Named;

/// What the `Task`'s id is made from, and that of what takes it back.
const SLOT: &str = "call";
const BACK_SLOT: &str = "take-back";
/// How long one attempt may take where the file doesn't say.
const TIMEOUT_S: u32 = 10;
/// How many times it is tried again where the file doesn't say, and the first pause.
const RETRIES: u32 = 5;
const BACKOFF_S: u32 = 60;
/// How many times it is tried to take a call back, and for how long. Nobody waits for it.
const BACK_RETRIES: u32 = 50;
const BACK_FOR_MS: u64 = 7 * crate::time::DAY_MS;
/// Code of a call for which a value is not there (`urn:cairn:not-done`).
const NO_VALUE: &str = "no-value";
/// Codes with which the partner is known to have done nothing, unless it is said that an attempt before may have been
/// heard.
const NOTHING_DONE: [&str; 8] = [
    NO_VALUE,
    "consent",
    "deceased",
    "unknown-partner",
    "no-contract",
    "not-cleared",
    "not-reached",
    "permanent-failure",
];

static OPERATION: Record = Record {
    name: "operation",
    doc: "A FHIR operation: the values go as a `Parameters` resource.",
    one_of: &[],
    fields: &[
        must(
            "name",
            Shape::Line,
            "Its name, `$` before it: `$evaluate-measure`.",
        ),
        may(
            "on",
            Shape::Line,
            "The type or resource that it is asked of: `Measure` or `Measure/heart-failure`; the whole service if not given.",
        ),
    ],
};

static LEARNS: Record = Record {
    name: "what is learnt",
    doc: "Something that is taken from the answer. Nothing else of the answer is kept.",
    one_of: &[],
    fields: &[
        must(
            "path",
            Shape::Path(Focus::Answer),
            "FHIRPath on the answer's JSON: `booking.id`. It has to give one text, number, or yes or no; the journey learns nothing otherwise.",
        ),
        must(
            "class",
            Shape::Choice(&[
                ("identity", "Who the patient is."),
                ("contact", "How they are reached."),
                (
                    "health",
                    "What they are treated for, and all else that is in their record.",
                ),
            ]),
            "What it tells of a person. Partners that aren't cleared for it are not told it.",
        ),
    ],
};

static RETRY: Record = Record {
    name: "retry",
    doc: "How often and how soon a call is tried again that had no answer, or an answer that may be another one later: a status from 500, 408, 425 or 429. Where the answer says `Retry-After`, that is waited for.",
    one_of: &[],
    fields: &[
        must(
            "times",
            Shape::Integer(0, 50),
            "How many times it is tried again.",
        ),
        may(
            "backoff_s",
            Shape::Integer(1, 3600),
            "The first pause, seconds; each is twice as long as the one before, up to four hours, give or take a fifth. 60 if not given.",
        ),
    ],
};

static COMPENSATE: Record = Record {
    name: "compensation",
    doc: "What takes the call back: a `POST` with a key of its own, and the call's key in the header `Compensates`. It is made once: when the journey ends by an exit rule, a stop, its longest time, an entry that was none, or with the journey that began it; when this call fails or isn't answered in time, or somebody leads the patient away from here by hand before the answer; and when a later call fails that names this step in `takes_back`. It is not made where the partner is known to have done nothing. Of several the newest goes first; of one journey the newest hundred are taken back. A journey that comes to its end takes back what was not answered yet, and nothing else. The patient's consents are not asked again, so it may name nothing but fixed words and what this call has learnt itself. A coordinator gets a task when the partner can't be told in seven days.",
    one_of: &[],
    fields: &[
        must("path", Shape::Line, "The path below the partner's address."),
        may(
            "values",
            Shape::Map("value", &Shape::Record(&values::VALUE)),
            "What is sent; one that isn't there is left out.",
        ),
    ],
};

static CALL: Record = Record {
    name: "call",
    doc: "A call to a partner over HTTP, and its answer. Each attempt has the same `Idempotency-Key`, so that the partner can tell a repeat. When it goes out, consents are asked again, and so is whether the partner is bound by a contract in force and cleared for the purpose and for each data class that it would be told.",
    one_of: &["path", "operation"],
    fields: &[
        must(
            "partner",
            Shape::Name,
            "The partner, as `partners.toml` names it.",
        ),
        may(
            "path",
            Shape::Line,
            "The path below the partner's address: `/bookings`. Fixed words: nothing of a patient is ever in an address.",
        ),
        may("operation", Shape::Record(&OPERATION), OPERATION.doc),
        may(
            "method",
            Shape::Choice(&[("post", "`POST`."), ("put", "`PUT`.")]),
            "`post` if not given. The values go as a JSON object.",
        ),
        may(
            "values",
            Shape::Map("value", &Shape::Record(&values::VALUE)),
            "What is sent, by name. Nothing else of the patient leaves.",
        ),
        may(
            "learns",
            Shape::Map("member", &Shape::Record(&LEARNS)),
            "What the journey learns from the answer; conditions name it `step.member`. `step.status` is the status of the answer.",
        ),
        may(
            "accepts",
            Shape::List(&Shape::Integer(400, 499)),
            "Statuses that are answers, too, besides those from 200 to 299: `[404, 409]`.",
        ),
        may(
            "timeout_s",
            Shape::Integer(1, 300),
            "How long one attempt may take, seconds: 10 if not given, and never longer than `partners.toml` lets it.",
        ),
        may("retry", Shape::Record(&RETRY), RETRY.doc),
        must(
            "up_to",
            Shape::Duration,
            "How long the answer is waited for, with all attempts.",
        ),
        may("compensate", Shape::Record(&COMPENSATE), COMPENSATE.doc),
        may(
            "takes_back",
            Shape::List(&Shape::Line),
            "Earlier calls that are taken back when this one fails or is not answered in time: steps with `compensate`.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "call",
    doc: CALL.doc,
    body: Shape::Record(&CALL),
    ways: &[
        must("next", Shape::Target, "Where to go once it was answered."),
        may(
            "failed",
            Shape::Target,
            "Where to go when the partner refused it, could not be reached or may not be told; always needed.",
        ),
        may(
            "timed_out",
            Shape::Target,
            "Where to go when there was no answer in time; always needed.",
        ),
    ],
    example: "ride:\n  title: Order a ride home\n  call:\n    partner: county-rides\n    path: /bookings\n    values:\n      name: {patient: family}\n      phone: {patient: phone, or: none}\n      kind: {is: wheelchair}\n    learns:\n      booking: {path: booking.id, class: contact}\n    up_to: 12h\n    compensate:\n      path: /cancellations\n      values:\n        booking: {learnt: ride.booking}\n  next: visit\n  failed: call\n  timed_out: call\n",
    decode,
};

#[derive(Debug)]
struct Call {
    outside: Outside,
    path: String,
    fhir: bool,
    put: bool,
    values: Vec<Named>,
    learns: Vec<(String, Path, DataClass)>,
    accepts: Vec<u16>,
    timeout_ms: u64,
    retries: u32,
    backoff_ms: u64,
    up_to_ms: u64,
    compensate: Option<Compensate>,
    takes_back: Vec<String>,
    next: Target,
    failed: Option<Target>,
    timed_out: Option<Target>,
}

#[derive(Debug)]
struct Compensate {
    path: String,
    values: Vec<Named>,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole numbers within bounds"
)]
fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    let operation = body.get("operation");
    let path_of = match operation {
        None => line(body, "path")?,
        Some(operation) => {
            let name = line(operation, "name")?;
            let on = line(operation, "on").map_or_else(String::new, |on| format!("/{on}"));
            format!("{on}/{name}")
        }
    };
    let mut learns = Vec::new();
    for (key, node) in body.get("learns").map(Node::members).unwrap_or_default() {
        let class = DataClass::parse(&line(node, "class")?)?;
        learns.push((key.name.clone(), path(node.get("path")?)?, class));
    }
    let accepts = body.get("accepts").map(Node::items).unwrap_or_default();
    let retry = body.get("retry");
    Some(Arc::new(Call {
        outside: Outside {
            partner: line(body, "partner")?,
        },
        path: path_of,
        fhir: operation.is_some(),
        put: line(body, "method").as_deref() == Some("put"),
        values: values::decode(body),
        learns,
        accepts: accepts
            .iter()
            .filter_map(|item| match item.content {
                Content::Number(status) => Some(status as u16),
                _ => None,
            })
            .collect(),
        timeout_ms: seconds(Some(body), "timeout_s", TIMEOUT_S),
        retries: retry
            .and_then(|retry| number(retry, "times"))
            .map_or(RETRIES, |times| times as u32),
        backoff_ms: seconds(retry, "backoff_s", BACKOFF_S),
        up_to_ms: length(body, "up_to")?,
        compensate: match body.get("compensate") {
            Some(node) => Some(Compensate {
                path: line(node, "path")?,
                values: values::decode(node),
            }),
            None => None,
        },
        takes_back: body
            .get("takes_back")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|item| item.text().map(str::to_owned))
            .collect(),
        next: parts.way("next")?,
        failed: parts.way("failed"),
        timed_out: parts.way("timed_out"),
    }))
}

/// A number of seconds, in milliseconds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number within bounds"
)]
fn seconds(node: Option<&Node>, name: &str, usual: u32) -> u64 {
    let said = node.and_then(|node| number(node, name));
    u64::from(said.map_or(usual, |said| said as u32)) * 1_000
}

impl Call {
    fn until_ms(&self, token: &Token) -> u64 {
        token.since_ms.saturating_add(self.up_to_ms)
    }

    /// Whether what takes it back may name a member of what it has learnt.
    fn takes_back_by(&self, member: &str) -> bool {
        let values = self.compensate.iter().flat_map(|back| &back.values);
        let mut paths = values.filter_map(Named::learnt);
        paths.any(|path| path.text.contains(member))
    }

    /// Leaves by a way for failure, and takes back what is to be taken back then.
    fn give_up(&self, engine: &mut Engine<'_>, n: u32, label: &str, target: Option<&Target>) {
        engine.take_back_calls(|owed| owed.n == n || self.takes_back.contains(&owed.step));
        engine.leave(n, label, &target.cloned().unwrap_or_default());
    }

    /// The `Task` that stands for it, or for what takes it back.
    fn task(
        &self,
        maker: &Maker<'_>,
        step: &Step,
        opened: Opened<'_>,
        fault: Option<&Value>,
    ) -> Resource {
        let back = opened.back.is_some();
        let (path, title) = match &self.compensate {
            Some(compensate) if back => (
                compensate.path.as_str(),
                format!("Take back: {}", step.title),
            ),
            _ => (self.path.as_str(), step.title.clone()),
        };
        let partner = &self.outside.partner;
        resource(
            ResourceType::Task,
            opened.task,
            json!({
                "identifier": maker.identifiers(&step.id),
                "status": if fault.is_some() { "failed" } else { "in-progress" },
                "statusReason": fault,
                "intent": "order",
                "code": {"coding": [{"system": TASK_SYSTEM, "code": CALL_ORDER}], "text": title},
                "description": format!("Call {partner}: {path}"),
                "for": maker.subject(),
                "authoredOn": maker.now(),
                // Who gets the work when the partner can't be told.
                "performerType": back.then(|| json!([role("coordinator")])),
                "owner": {"display": partner},
                "restriction": {"period": {"end": fhir::date::instant(opened.until_ms)}},
            }),
        )
    }

    fn order_of(
        &self,
        maker: &Maker<'_>,
        step: &Step,
        opened: Opened<'_>,
    ) -> Option<outgoing::Call> {
        let Opened {
            task,
            until_ms,
            back,
            after,
            learnt,
            again,
        } = opened;
        let definition = maker.definition;
        let (path, named, fhir, put) = match (&self.compensate, back) {
            (Some(compensate), Some(_)) => (&compensate.path, &compensate.values, false, false),
            (None, Some(_)) => return None,
            (_, None) => (&self.path, &self.values, self.fhir, self.put),
        };
        let own = learnt.map(|learnt| (step.id.as_str(), learnt));
        let made = values::made(named, maker, own);
        let values = match back {
            Some(_) => made.there,
            None => made.whole()?,
        };
        let classes: BTreeSet<DataClass> = named
            .iter()
            .filter(|value| values.contains_key(value.sent_as()))
            .flat_map(|value| value.classes(definition))
            .collect();
        let (retries, learns) = match back {
            Some(_) => (BACK_RETRIES, Vec::new()),
            None => (
                self.retries,
                self.learns
                    .iter()
                    .map(|(name, path, _)| (name.clone(), path.text.clone()))
                    .collect(),
            ),
        };
        Some(outgoing::Call {
            patient: maker.state.patient.clone(),
            task: task.to_owned(),
            partner: self.outside.partner.clone(),
            path: path.clone(),
            fhir,
            put,
            values,
            classes: classes
                .iter()
                .map(|class| class.name().to_owned())
                .collect(),
            purpose: definition.purpose.code().to_owned(),
            about: definition
                .about()
                .iter()
                .map(|kind| kind.name().to_owned())
                .collect(),
            timeout_ms: self.timeout_ms,
            retries,
            backoff_ms: self.backoff_ms,
            until_ms,
            accepts: if back.is_some() {
                // What isn't there needn't be taken back.
                vec![404, 410]
            } else {
                self.accepts.clone()
            },
            learns,
            compensates: back.map(str::to_owned),
            after: after.map(str::to_owned),
            may_have_it: again,
            turn: Some(0),
            journey: format!("{}/{}", definition.name, definition.version),
            step: step.id.clone(),
        })
    }
}

/// What an effect of it opens.
#[derive(Clone, Copy)]
struct Opened<'a> {
    /// Id of the `Task`.
    task: &'a str,
    until_ms: u64,
    /// Key of the call that it takes back.
    back: Option<&'a str>,
    /// Id of the `Task` of what is taken back before it.
    after: Option<&'a str>,
    /// What that call has learnt itself, if that was kept.
    learnt: Option<&'a Map<String, Value>>,
    /// Whether it was on its way before.
    again: bool,
}

fn opened(effect: &Effect) -> Option<Opened<'_>> {
    let call = |task, until_ms| Opened {
        task,
        until_ms,
        back: None,
        after: None,
        learnt: None,
        again: false,
    };
    match effect {
        Effect::OpenTask { task, due_ms, .. } => Some(call(task, *due_ms)),
        Effect::CallOn { task, until_ms, .. } => Some(Opened {
            again: true,
            ..call(task, *until_ms)
        }),
        Effect::TakeBack {
            task,
            until_ms,
            call: back,
            after,
            learnt,
            ..
        } => Some(Opened {
            back: Some(back),
            after: after.as_deref(),
            learnt: learnt.as_ref(),
            ..call(task, *until_ms)
        }),
        _ => None,
    }
}

impl StepKind for Call {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        // It can come to nothing in an instant, but an answer needs time.
        let mut ways = vec![way("answered", &self.next, false)];
        ways.extend(self.failed.as_ref().map(|to| way("failed", to, true)));
        ways.extend(
            self.timed_out
                .as_ref()
                .map(|to| way("timed out", to, false)),
        );
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let learnt = self.learns.iter();
        let learnt = learnt.map(|(name, ..)| (name.as_str(), Given::Unknown));
        let status = (CALL_STATUS, Given::Integer);
        [status].into_iter().chain(learnt).collect()
    }
    fn class_of(&self, member: &str) -> DataClass {
        let found = self.learns.iter().find(|(name, ..)| name == member);
        found.map_or(DataClass::Health, |(_, _, class)| *class)
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Task]
    }
    fn calls(&self) -> Option<&Outside> {
        Some(&self.outside)
    }
    fn tells(&self, definition: &Definition) -> Vec<(Vec<&str>, BTreeSet<DataClass>)> {
        let of = |value: &Named| value.classes(definition);
        let values = self.values.iter();
        let values = values.map(|value| (vec!["values", value.name.as_str()], of(value)));
        let back = self.compensate.iter().flat_map(|back| &back.values);
        let back = back.map(|value| {
            let at = vec!["compensate", "values", value.name.as_str()];
            (at, of(value))
        });
        values.chain(back).collect()
    }
    fn can_be_taken_back(&self) -> bool {
        self.compensate.is_some()
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        self.check_all(check, step);
    }
    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        Some(self.up_to_ms)
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::worked_on()
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Task, SLOT))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let task = engine.resource_id(n, SLOT);
        let due_ms = engine.context.now_ms.saturating_add(self.up_to_ms);
        engine.called(step, n, &self.outside.partner, self.compensate.is_some());
        engine.effects.push(Effect::OpenTask {
            step: step.id.clone(),
            task,
            due_ms,
            whose: None,
            confirms: None,
        });
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        vec![("until", self.until_ms(token))]
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        _: &Step,
        token: &Token,
        _: &str,
    ) -> Result<(), EngineError> {
        engine.effects.push(Effect::CloseTask {
            task: engine.resource_id(token.n, SLOT),
            done: false,
            why: "Not answered in time".to_owned(),
        });
        self.give_up(engine, token.n, "timed out", self.timed_out.as_ref());
        Ok(())
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(fact, Fact::Call { id, .. } if engine.resource_id(token.n, SLOT) == *id)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        let Fact::Call {
            status,
            code,
            may_be_done,
            values,
            ..
        } = fact
        else {
            return;
        };
        match status.as_str() {
            "completed" => {
                let known = self.gives();
                let mut kept = Map::new();
                let is_known = |name: &str| known.iter().any(|(known, _)| *known == name);
                for (member, value) in values.iter().filter(|(name, _)| is_known(name)) {
                    engine.learn(&step.id, member, value.clone());
                    if self.takes_back_by(member) {
                        kept.insert(member.clone(), value.clone());
                    }
                }
                engine.keep_for_taking_back(token.n, kept);
                engine.leave(token.n, "answered", &self.next);
            }
            "failed" | "rejected" | "cancelled" | "entered-in-error" => {
                let code = code.as_deref().unwrap_or_default();
                if NOTHING_DONE.contains(&code) && !may_be_done {
                    engine.owes_no_more(token.n);
                }
                let (label, target) = if code == "expired" {
                    ("timed out", &self.timed_out)
                } else {
                    ("failed", &self.failed)
                };
                self.give_up(engine, token.n, label, target.as_ref());
            }
            _ => {}
        }
    }
    fn skip(&self, engine: &mut Engine<'_>, _: &Step, token: &Token, way: &Way<'_>) {
        if way.label != "answered" {
            // It may be on its way, and whoever leads on as if it had come to nothing means that.
            engine.take_back_calls(|owed| owed.n == token.n);
        }
        engine.leave(token.n, &way.label, way.target);
    }
    // Whether tasks for staff are kept is another matter.
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, _: bool) {
        engine.reached_out();
        engine.effects.push(Effect::CloseTask {
            task: engine.resource_id(token.n, SLOT),
            done: false,
            why: why.to_owned(),
        });
    }
    fn held(&self, engine: &mut Engine<'_>, token: &Token) {
        let task = engine.resource_id(token.n, SLOT);
        engine.effects.push(Effect::HoldTask { task });
    }
    fn let_go(&self, engine: &mut Engine<'_>, step: &Step, token: &Token) {
        engine.effects.push(Effect::CallOn {
            step: step.id.clone(),
            task: engine.resource_id(token.n, SLOT),
            until_ms: self.until_ms(token),
        });
    }
    fn take_back(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        owed: Owed,
        after: Option<String>,
    ) -> Option<String> {
        self.compensate.as_ref()?;
        let Owed { n, learnt, .. } = owed;
        let task = engine.resource_id(n, BACK_SLOT);
        let until_ms = engine.context.now_ms.saturating_add(BACK_FOR_MS);
        let what = What::Called {
            partner: self.outside.partner.clone(),
            back: true,
        };
        engine.trail(&step.id, what, Some(format!("Task/{task}")));
        engine.effects.push(Effect::TakeBack {
            step: step.id.clone(),
            task: task.clone(),
            call: engine.resource_id(n, SLOT),
            until_ms,
            after,
            learnt,
        });
        Some(task)
    }

    fn carried(&self, _: &Stand, before: &Node, after: &Node) -> Carried {
        let members: Vec<&str> = CALL.fields.iter().map(|field| field.name).collect();
        // What is under way has said what it says. Begun anew it would be another call.
        if same_of(before, after, KIND.name, &members) {
            Carried::As
        } else {
            Carried::Later("a call to a partner is under way")
        }
    }

    fn waiting(&self, _: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        Some(Waiting {
            what: format!("Waits for the answer of {}", self.outside.partner),
            plain: String::new(),
            until_ms: Some(self.until_ms(token)),
        })
    }
    fn left(&self, title: &str, label: &str) -> Option<String> {
        let partner = &self.outside.partner;
        Some(match label {
            "answered" => format!("{partner} answered: {title}"),
            "timed out" => format!(
                "{partner} did not answer within {}: {title}",
                say_duration(self.up_to_ms)
            ),
            other => crate::words::left(title, other),
        })
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        (*what == What::Entered).then(|| Plan {
            what: format!("Call to {}: {}", self.outside.partner, step.title),
            plain: step.plain.clone().unwrap_or_default(),
        })
    }

    fn names_patient(&self) -> bool {
        self.values.iter().any(Named::is_of_patient)
    }
    fn resource(
        &self,
        maker: &Maker<'_>,
        _: &dyn Ids,
        step: &Step,
        effect: &Effect,
    ) -> Option<Resource> {
        let opened = opened(effect)?;
        let back = opened.back;
        let missing = match back {
            Some(_) => None,
            None => values::made(&self.values, maker, None).missing,
        };
        let fault = missing.map(|name| {
            let mut reason = not_done(NO_VALUE);
            reason["text"] = json!(format!("The value {name} is not there"));
            reason
        });
        Some(self.task(maker, step, opened, fault.as_ref()))
    }
    fn order(&self, maker: &Maker<'_>, step: &Step, effect: &Effect) -> Option<outgoing::Call> {
        self.order_of(maker, step, opened(effect)?)
    }
}

/// What an answer's `Task` has of what was learnt.
pub(crate) fn learnt(task: &Resource) -> Map<String, Value> {
    let outputs = task.get("output").and_then(Value::as_array);
    let mut learnt = Map::new();
    for output in outputs.into_iter().flatten() {
        let name = output.pointer("/type/text").and_then(Value::as_str);
        let members = output.as_object().into_iter().flatten();
        let value = members
            .filter(|(name, _)| name.starts_with("value"))
            .map(|(_, value)| value)
            .find(|value| !value.is_object() && !value.is_array());
        if let (Some(name), Some(value)) = (name, value) {
            learnt.insert(name.to_owned(), value.clone());
        }
    }
    learnt
}

/// Whether a resource is the order for a call, or was one.
pub(crate) fn is_order(resource: &Resource) -> bool {
    let codings = resource.at(&["code", "coding"]).and_then(Value::as_array);
    resource.kind() == ResourceType::Task
        && codings.into_iter().flatten().any(|coding| {
            coding.get("system").and_then(Value::as_str) == Some(TASK_SYSTEM)
                && coding.get("code").and_then(Value::as_str) == Some(CALL_ORDER)
        })
}

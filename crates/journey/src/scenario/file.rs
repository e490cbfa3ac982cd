//! What a file of scenarios may say, and what is read from it.

use super::known::{arms_exist, endings};
use super::{calls, replies, whose};
use crate::Definition;
use crate::decode::Findings;
use crate::decode::build::line;
use crate::form::{Form, Known, Table, instant, json_of, needs, read, takes};
use crate::state::Which;
use crate::time::{self, Moment};
use crate::yaml::{Content, Node, Place};
use serde_json::Value;
use std::collections::BTreeMap;

static REQUEST: Table = Table {
    name: "request",
    doc: "A request that starts the journey.",
    one_of: &[],
    members: &[takes(
        "times",
        Form::Map("anchor", &Form::Instant),
        "The times that the journey asks for.",
    )],
};

static GIVEN: Table = Table {
    name: "given",
    doc: "What holds before anything happens. A scenario's own members stand for those of the whole file.",
    one_of: &[],
    members: &[
        takes(
            "now",
            Form::Instant,
            "When the entry event is written; the time of the first anchor if not given, and a day before a date by which the journey begins. Needed where a segment begins it: the patient is looked at first then.",
        ),
        takes(
            "patient",
            Form::Fhir,
            "Members of the `Patient`; a living person with an e-mail address if not given.",
        ),
        takes(
            "entry",
            Form::Fhir,
            "Members of the resource that starts the journey, or says the date by which it begins; `resourceType` and `id` (`entry`) are filled in. Where that is the patient, members of the `Patient` besides those of `patient`.",
        ),
        takes(
            "request",
            Form::Table(&REQUEST),
            "Somebody starts the journey by request, where it can be; then there is no `entry`.",
        ),
        takes(
            "record",
            Form::List(&Form::Fhir),
            "Resources that are in the patient's record already. What does not say whose it is becomes the patient's (`Patient/patient`).",
        ),
        takes(
            "email",
            Form::Choice(&[
                (
                    "arrives",
                    "Each e-mail, each text message and each notification is delivered at once.",
                ),
                (
                    "fails",
                    "The channel refuses each e-mail, each text message and each notification at once.",
                ),
                (
                    "held",
                    "Nobody hears of an e-mail, a text message or a notification before the scenario says `delivered` or `failed`.",
                ),
            ]),
            "What becomes of e-mails, text messages and notifications of which the scenario says nothing; `arrives` if not given.",
        ),
        takes(
            "notifications",
            Form::Choice(&[
                (
                    "on",
                    "The patient has turned notifications on, on a device.",
                ),
                ("off", "The patient has turned notifications on nowhere."),
            ]),
            "Whether messages can go by `push`; `off` if not given.",
        ),
        takes(
            "rules",
            Form::Line,
            "The rule pack by which consents are decided; the built-in default if not given.",
        ),
        takes(
            "arms",
            Form::Map("experiment", &Form::Line),
            "The patient's arm by experiment, `holdout` for those who are left out; the arm is drawn where none is given.",
        ),
    ],
};

static ANSWERS: Table = Table {
    name: "answers",
    doc: "The patient answers the newest form of a step.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        needs(
            "with",
            Form::Map("question", &Form::Any),
            "Answers by question id.",
        ),
    ],
};

static TASK: Table = Table {
    name: "task",
    doc: "Staff end the newest task of a step.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes("outcome", Form::Line, "The outcome that they choose."),
        takes(
            "status",
            Form::Choice(&[
                ("completed", "Done."),
                ("cancelled", "Called off."),
                ("rejected", "Refused."),
                ("failed", "Tried in vain."),
            ]),
            "FHIR `Task.status`; `completed` if not given.",
        ),
        takes(
            "by",
            Form::Line,
            "Who does it; whoever has it if not given. Where two persons are needed, each has a name.",
        ),
    ],
};

static MESSAGE: Table = Table {
    name: "message",
    doc: "What becomes of the newest message of a step.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes(
            "code",
            Form::Line,
            "Why it failed, as a code of `urn:cairn:not-done`; `permanent-failure` if not given.",
        ),
    ],
};

static VISIT: Table = Table {
    name: "visit",
    doc: "The newest visit of a step changes.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        needs(
            "status",
            Form::Choice(&[
                (
                    "booked",
                    "It is booked, at the proposed time or at `start`; or moved there, if it was booked before.",
                ),
                ("cancelled", "It is called off."),
                ("arrived", "The patient has come."),
                ("fulfilled", "It has taken place."),
                ("noshow", "The patient has not come."),
            ]),
            "FHIR `Appointment.status`.",
        ),
        takes("start", Form::Time, "Another time than the proposed one."),
    ],
};

static MEASURED: Table = Table {
    name: "measured",
    doc: "A measurement is taken and written to the record.",
    one_of: &[],
    members: &[
        needs("code", Form::Line, "LOINC code."),
        needs("value", Form::Number, "The value."),
        needs("unit", Form::Line, "UCUM unit."),
        takes("at", Form::Time, "When it was measured; now if not given."),
        takes(
            "id",
            Form::Line,
            "Id of the `Observation`, to correct it later; a new one if not given.",
        ),
    ],
};

static EVENT: Table = Table {
    name: "event",
    doc: "Something that happens, and when. Without an event, time passes.",
    one_of: &[
        "answers",
        "reply",
        "task",
        "delivered",
        "failed",
        "visit",
        "partner",
        "measured",
        "consent",
        "resource",
        "deleted",
        "stopped",
    ],
    members: &[
        takes(
            "after",
            Form::Duration,
            "How long after the event before (the first: after the entry).",
        ),
        takes(
            "at",
            Form::Time,
            "When: `start + 2d`, `discharge + 2d at 09:00`, or a time in RFC 3339.",
        ),
        takes("answers", Form::Table(&ANSWERS), ANSWERS.doc),
        takes("reply", Form::Table(&replies::REPLY), replies::REPLY.doc),
        takes("task", Form::Table(&TASK), TASK.doc),
        takes(
            "delivered",
            Form::Table(&MESSAGE),
            "The newest message of a step is delivered.",
        ),
        takes(
            "failed",
            Form::Table(&MESSAGE),
            "The newest message of a step is not delivered.",
        ),
        takes("visit", Form::Table(&VISIT), VISIT.doc),
        takes("partner", Form::Table(&calls::PARTNER), calls::PARTNER.doc),
        takes("measured", Form::Table(&MEASURED), MEASURED.doc),
        takes(
            "consent",
            Form::Choice(&[
                ("withdrawn", "The patient wants no care messages any more."),
                ("given", "The patient wants care messages (again)."),
            ]),
            "The patient's consent to care messages changes.",
        ),
        takes(
            "resource",
            Form::Fhir,
            "Any FHIR resource is written to the patient's record; whose it is need not be said.",
        ),
        takes(
            "deleted",
            Form::Line,
            "A resource is deleted, `Type/id`; the one that started the journey is `TYPE/entry`.",
        ),
        takes(
            "stopped",
            Form::Line,
            "Staff stop the journey, with this reason.",
        ),
    ],
};

static SENT: Table = Table {
    name: "message sent",
    doc: "A message that is put on its way.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes(
            "by",
            Form::Choice(&[
                ("email", "E-mail."),
                ("sms", "A text message."),
                ("push", "A notification."),
                ("letter", "A letter."),
                ("voice", "A telephone call."),
                ("portal", "The portal's inbox."),
            ]),
            "The channel.",
        ),
        takes(
            "which",
            Form::Choice(&[
                ("message", "The message of a `send`."),
                ("invitation", "The invitation of an `ask` or a `book`."),
                (
                    "reminder",
                    "The reminder of an `ask`, or one of a `book`: while the visit isn't booked, or before it.",
                ),
            ]),
            "Which words.",
        ),
        takes("at", Form::Time, "When, to the minute."),
        takes(
            "says",
            Form::Line,
            "Words that stand in it, as the patient reads them.",
        ),
    ],
};

static OPENED: Table = Table {
    name: "task opened",
    doc: "A task that is opened for staff.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes("role", Form::Line, "Whose worklist."),
        takes("at", Form::Time, "When, to the minute."),
        takes("says", Form::Line, "Words that stand in its reason."),
    ],
};

static PROPOSED: Table = Table {
    name: "visit proposed",
    doc: "A visit that is proposed.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes("at", Form::Time, "When it is proposed, to the minute."),
        takes(
            "says",
            Form::Line,
            "Words that stand in what the patient is told with it.",
        ),
    ],
};

static HANDED: Table = Table {
    name: "hand-over",
    doc: "A task that was overdue and went to another role.",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        takes("role", Form::Line, "To whom."),
        takes("at", Form::Time, "When, to the minute."),
    ],
};

static THEN: Table = Table {
    name: "then",
    doc: "What has happened by the end of the scenario. A list that is there is whole: what happened besides fails the scenario.",
    one_of: &["ended", "is_at", "not_started"],
    members: &[
        takes(
            "sent",
            Form::List(&Form::Table(&SENT)),
            "The messages, in order.",
        ),
        takes(
            "tasks",
            Form::List(&Form::Table(&OPENED)),
            "The tasks of staff, in order.",
        ),
        takes(
            "handed_over",
            Form::List(&Form::Table(&HANDED)),
            "The tasks that were handed over, in order.",
        ),
        takes(
            "visits",
            Form::List(&Form::Table(&PROPOSED)),
            "The visits, in order.",
        ),
        takes(
            "called",
            Form::List(&Form::Table(&calls::CALLED)),
            "The calls to partners, in order.",
        ),
        takes(
            "taken_back",
            Form::List(&Form::Table(&calls::CALLED)),
            "The calls that are taken back, in order.",
        ),
        takes(
            "is_at",
            Form::Steps,
            "Where the patient is after the last event.",
        ),
        takes(
            "ended",
            Form::Line,
            "How the journey ends: an exit's or exit step's id, `completed`, `time_over`, `stopped` or `started_in_error`. The scenario then runs on to the end.",
        ),
        takes("ended_at", Form::Time, "With `ended`: when, to the minute."),
        takes(
            "not_started",
            Form::Flag,
            "`true` when the entry event starts nothing.",
        ),
        takes(
            "nothing_else",
            Form::Flag,
            "Whether lists that are not there must be empty; `false` if not given.",
        ),
    ],
};

static SCENARIO: Table = Table {
    name: "scenario",
    doc: "What is given, what happens, and what comes of it.",
    one_of: &[],
    members: &[
        needs(
            "name",
            Form::Line,
            "A sentence that says what must be true.",
        ),
        takes("given", Form::Table(&GIVEN), GIVEN.doc),
        takes(
            "when",
            Form::List(&Form::Table(&EVENT)),
            "What happens, in order.",
        ),
        needs("then", Form::Table(&THEN), THEN.doc),
    ],
};

/// The whole file.
pub(crate) static SCENARIOS: Table = Table {
    name: "scenarios",
    doc: "Scenarios of a journey, in `NAME.test.yaml` beside `NAME.yaml`.",
    one_of: &[],
    members: &[
        takes("given", Form::Table(&GIVEN), "What holds in all scenarios."),
        needs(
            "scenarios",
            Form::List(&Form::Table(&SCENARIO)),
            "The scenarios.",
        ),
    ],
};

/// A time as the file says it.
#[derive(Debug, Clone)]
pub(crate) enum When {
    Instant(u64),
    Moment(Moment),
    After(u64),
}

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) given: Given,
    pub(crate) when: Vec<Happening>,
    pub(crate) then: Then,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) now_ms: Option<u64>,
    pub(crate) patient: Option<Value>,
    pub(crate) entry: Option<Value>,
    /// The times of a request.
    pub(crate) request: Option<BTreeMap<String, String>>,
    pub(crate) record: Vec<Value>,
    pub(crate) email: Option<String>,
    pub(crate) notifications: Option<String>,
    pub(crate) rules: Option<String>,
    pub(crate) arms: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Happening {
    pub(crate) line: usize,
    pub(crate) at: Option<When>,
    pub(crate) what: Happens,
}

#[derive(Debug)]
pub(crate) enum Happens {
    Nothing,
    Answers {
        step: String,
        with: Vec<(String, Value)>,
    },
    Reply {
        step: String,
        says: String,
    },
    Task {
        step: String,
        outcome: Option<String>,
        status: String,
        by: Option<String>,
    },
    Delivered {
        step: String,
    },
    Failed {
        step: String,
        code: String,
    },
    Visit {
        step: String,
        status: String,
        start: Option<When>,
    },
    Partner {
        step: String,
        status: u16,
        answers: Vec<(String, Value)>,
        fails: Option<String>,
    },
    Measured {
        code: String,
        value: f64,
        unit: String,
        at: Option<When>,
        id: Option<String>,
    },
    Consent {
        given: bool,
    },
    Resource(Value),
    Deleted(String),
    Stopped(String),
}

/// Something that is expected of one kind.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) step: String,
    pub(crate) by: Option<String>,
    pub(crate) which: Option<Which>,
    pub(crate) role: Option<String>,
    pub(crate) at: Option<When>,
    pub(crate) says: Option<String>,
}

/// How it is to be at the end.
#[derive(Debug)]
pub(crate) enum Last {
    At(Vec<String>),
    Ended {
        code: String,
        at: Option<When>,
    },
    NotStarted,
    /// Nothing is said of it.
    Any,
}

#[derive(Debug)]
pub(crate) struct Then {
    pub(crate) sent: Option<Vec<Expected>>,
    pub(crate) tasks: Option<Vec<Expected>>,
    pub(crate) handed_over: Option<Vec<Expected>>,
    pub(crate) visits: Option<Vec<Expected>>,
    pub(crate) called: Option<Vec<Expected>>,
    pub(crate) taken_back: Option<Vec<Expected>>,
    pub(crate) last: Last,
}

/// Reads a file of scenarios of a journey. There are some when the file has no mistake.
pub(crate) fn decode(definition: &Definition, findings: &mut Findings<'_>) -> Vec<Scenario> {
    let steps: Vec<String> = definition
        .steps
        .iter()
        .map(|step| step.id.clone())
        .collect();
    let anchors: Vec<String> = definition
        .entry
        .anchors
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let known = Known {
        steps: &steps,
        anchors: &anchors,
    };
    let Some(root) = read(findings, &SCENARIOS, known) else {
        return Vec::new();
    };
    if !findings.failed() {
        make_sense(definition, &root, findings);
    }
    if findings.failed() {
        return Vec::new();
    }
    let shared = root.get("given").map(given).unwrap_or_default();
    root.get("scenarios")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| scenario(node, &shared))
        .collect()
}

/// What the tables can't say.
fn make_sense(definition: &Definition, root: &Node, findings: &mut Findings<'_>) {
    let scenarios = root.get("scenarios").map(Node::items).unwrap_or_default();
    if scenarios.is_empty() {
        findings.error("J003", root.place, "there is no scenario in this file");
    }
    let all = std::iter::once(root).chain(scenarios);
    for given in all.filter_map(|node| node.get("given")) {
        arms_exist(definition, given, findings);
        let record = given.get("record").map(Node::items).unwrap_or_default();
        for item in record {
            of_the_patient(item, &json_of(item), findings);
        }
        if let Some(entry) = given.get("entry") {
            let mut value = json_of(entry);
            if definition.entry.kind() == Some(fhir::ResourceType::Patient) {
                // What is said of the one patient that there is.
            } else if let Some(kind) = definition.entry.kind() {
                value["resourceType"] = Value::from(kind.name());
                of_the_patient(entry, &value, findings);
            } else {
                let message = if definition.entry.segment.is_some() {
                    "a segment begins this journey: say in `patient` and `record` who is in it"
                } else {
                    "no event starts this journey; give a `request`"
                };
                findings.error("J003", entry.place, message);
            }
        }
        if let Some(request) = given.get("request") {
            if definition.entry.request.is_none() {
                let message = "this journey is not started by request; give an `entry`";
                findings.error("J003", request.place, message);
            }
            if given.get("entry").is_some() {
                let message = "an `entry` starts the journey or a `request`, not both";
                findings.error("J003", request.place, message);
            }
        }
    }
    for (index, node) in scenarios.iter().enumerate() {
        let named = |node: &Node| line(node, "name");
        if scenarios[..index]
            .iter()
            .any(|earlier| named(earlier) == named(node))
        {
            findings.error("J024", node.place, "another scenario has this name");
        }
        for event in node.get("when").map(Node::items).unwrap_or_default() {
            if event.get("at").is_some() && event.get("after").is_some() {
                findings.error(
                    "J003",
                    event.place,
                    "an event has `at` or `after`, not both",
                );
            }
            if let Some(written) = event.get("resource")
                && written.get("resourceType").is_none()
            {
                let message = "a resource needs its `resourceType`";
                findings.error("J003", written.place, message);
            }
            if let Some(partner) = event.get("partner") {
                calls::fits(definition, partner, findings);
            }
            if let Some(written) = event.get("resource") {
                of_the_patient(written, &json_of(written), findings);
            }
        }
        if let Some(ended) = node.get("then").and_then(|then| then.get("ended"))
            && let Some(code) = ended.text()
            && !endings(definition).iter().any(|known| known == code)
        {
            let message = format!(
                "the journey never ends as `{code}` (it ends as one of {})",
                endings(definition).join(", ")
            );
            findings.error("J004", ended.place, message);
        }
    }
}

/// Whether a resource is the patient's, or can become it.
fn of_the_patient(node: &Node, value: &Value, findings: &mut Findings<'_>) {
    if let Some(message) = whose::stranger(value) {
        findings.error("J004", node.place, message);
    }
}

fn given(node: &Node) -> Given {
    Given {
        now_ms: line(node, "now").and_then(|text| instant(&text).ok()),
        patient: node.get("patient").map(json_of),
        entry: node.get("entry").map(json_of),
        request: node.get("request").map(|request| {
            let times = request.get("times").map(Node::members);
            let times = times.unwrap_or_default().iter();
            times
                .filter_map(|(key, time)| Some((key.name.clone(), time.text()?.to_owned())))
                .collect()
        }),
        record: node
            .get("record")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .map(json_of)
            .collect(),
        email: line(node, "email"),
        notifications: line(node, "notifications"),
        rules: line(node, "rules"),
        arms: node
            .get("arms")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, arm)| Some((key.name.clone(), arm.text()?.to_owned())))
            .collect(),
    }
}

impl Given {
    /// With what is not said here taken from what holds for all.
    fn or(self, shared: &Given) -> Self {
        Self {
            now_ms: self.now_ms.or(shared.now_ms),
            patient: self.patient.or_else(|| shared.patient.clone()),
            entry: match &self.request {
                Some(_) => None,
                None => self.entry.clone().or_else(|| shared.entry.clone()),
            },
            request: match self.entry {
                Some(_) => None,
                None => self.request.or_else(|| shared.request.clone()),
            },
            record: if self.record.is_empty() {
                shared.record.clone()
            } else {
                self.record
            },
            email: self.email.or_else(|| shared.email.clone()),
            notifications: self.notifications.or_else(|| shared.notifications.clone()),
            rules: self.rules.or_else(|| shared.rules.clone()),
            arms: if self.arms.is_empty() {
                shared.arms.clone()
            } else {
                self.arms
            },
        }
    }
}

fn scenario(node: &Node, shared: &Given) -> Option<Scenario> {
    Some(Scenario {
        name: line(node, "name")?,
        given: node.get("given").map(given).unwrap_or_default().or(shared),
        when: node
            .get("when")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .map(happening)
            .collect::<Option<_>>()?,
        then: then(node.get("then")?),
    })
}

fn when(node: &Node, name: &str) -> Option<When> {
    let text = line(node, name)?;
    instant(&text)
        .map(When::Instant)
        .ok()
        .or_else(|| Moment::parse(&text).ok().map(When::Moment))
}

fn happening(node: &Node) -> Option<Happening> {
    let after = || time::duration(&line(node, "after")?).ok().map(When::After);
    let Place { line: row, .. } = node.place;
    Some(Happening {
        line: row,
        at: when(node, "at").or_else(after),
        what: happens(node)?,
    })
}

fn happens(node: &Node) -> Option<Happens> {
    let body = |name: &str| node.get(name);
    if let Some(answers) = body("answers") {
        let with = answers.get("with")?.members();
        return Some(Happens::Answers {
            step: line(answers, "step")?,
            with: with
                .iter()
                .map(|(key, value)| (key.name.clone(), json_of(value)))
                .collect(),
        });
    }
    if let Some(reply) = body("reply") {
        return replies::happens(reply);
    }
    if let Some(task) = body("task") {
        return Some(Happens::Task {
            step: line(task, "step")?,
            outcome: line(task, "outcome"),
            status: line(task, "status").unwrap_or_else(|| "completed".to_owned()),
            by: line(task, "by"),
        });
    }
    if let Some(message) = body("delivered") {
        return Some(Happens::Delivered {
            step: line(message, "step")?,
        });
    }
    if let Some(message) = body("failed") {
        return Some(Happens::Failed {
            step: line(message, "step")?,
            code: line(message, "code").unwrap_or_else(|| "permanent-failure".to_owned()),
        });
    }
    if let Some(visit) = body("visit") {
        return Some(Happens::Visit {
            step: line(visit, "step")?,
            status: line(visit, "status")?,
            start: when(visit, "start"),
        });
    }
    if let Some(partner) = body("partner") {
        return calls::happens(partner);
    }
    if let Some(measured) = body("measured") {
        return Some(Happens::Measured {
            code: line(measured, "code")?,
            value: crate::decode::build::number(measured, "value")?,
            unit: line(measured, "unit")?,
            at: when(measured, "at"),
            id: line(measured, "id"),
        });
    }
    Some(if let Some(resource) = body("resource") {
        Happens::Resource(json_of(resource))
    } else if let Some(consent) = line(node, "consent") {
        Happens::Consent {
            given: consent == "given",
        }
    } else if let Some(reference) = line(node, "deleted") {
        Happens::Deleted(reference)
    } else if let Some(reason) = line(node, "stopped") {
        Happens::Stopped(reason)
    } else {
        Happens::Nothing
    })
}

fn then(node: &Node) -> Then {
    let flag = |name: &str| {
        node.get(name)
            .is_some_and(|flag| flag.content == Content::Bool(true))
    };
    let whole = flag("nothing_else");
    let list = |name: &str| {
        node.get(name)
            .map(|list| list.items().iter().filter_map(expected).collect())
    };
    let last = if let Some(code) = line(node, "ended") {
        let at = when(node, "ended_at");
        Last::Ended { code, at }
    } else if let Some(at) = node.get("is_at") {
        Last::At(steps(at))
    } else if flag("not_started") {
        Last::NotStarted
    } else {
        Last::Any
    };
    let or_empty = |found: Option<Vec<Expected>>| found.or_else(|| whole.then(Vec::new));
    Then {
        sent: or_empty(list("sent")),
        tasks: or_empty(list("tasks")),
        handed_over: or_empty(list("handed_over")),
        visits: or_empty(list("visits")),
        called: or_empty(list("called")),
        taken_back: or_empty(list("taken_back")),
        last,
    }
}

fn steps(node: &Node) -> Vec<String> {
    let mut steps: Vec<String> = match &node.content {
        Content::List(items) => items
            .iter()
            .filter_map(|item| item.text().map(str::to_owned))
            .collect(),
        _ => node.text().map(str::to_owned).into_iter().collect(),
    };
    steps.sort_unstable();
    steps
}

fn expected(node: &Node) -> Option<Expected> {
    Some(Expected {
        step: line(node, "step")?,
        by: line(node, "by"),
        which: line(node, "which").map(|which| match which.as_str() {
            "invitation" => Which::Invitation,
            "reminder" => Which::Reminder,
            _ => Which::Message,
        }),
        role: line(node, "role"),
        at: when(node, "at"),
        says: line(node, "says"),
    })
}

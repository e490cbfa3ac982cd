//! How patients and staff are taken to behave: a small table of shares and delays, beside the journey in
//! `NAME.behaviour.yaml`.
//!
//! Nothing here is data. What the file does not say is filled in from the definition and named as an
//! assumption in every report.

use super::patient::UNCLEAR;
use crate::Finding;
use crate::decode::Findings;
use crate::decode::build::{length, line, number};
use crate::definition::Definition;
use crate::form::{self, Form, Known, Table, needs, takes};
use crate::time::{DAY_MS, HOUR_MS, say_duration};
use crate::yaml::Node;
use std::collections::{BTreeMap, BTreeSet};

static PATIENTS: Table = Table {
    name: "patients",
    doc: "What patients and their mail do. A delay is drawn evenly between nothing and `…_within`.",
    one_of: &[],
    members: &[
        takes(
            "email_arrives",
            Form::Share,
            "E-mails, text messages and notifications that are delivered; 0.95 if not given.",
        ),
        takes(
            "notifications",
            Form::Share,
            "Patients who have turned notifications on, so that `push` reaches them; 0 if not given.",
        ),
        takes(
            "answer",
            Form::Share,
            "Forms that are answered; 0.7 if not given.",
        ),
        takes(
            "answer_within",
            Form::Duration,
            "Time that an answer takes; 3d if not given.",
        ),
        takes(
            "yes",
            Form::Share,
            "Yes-or-no questions answered with yes; 0.1 if not given.",
        ),
        takes(
            "book",
            Form::Share,
            "Proposed visits that are booked; 0.7 if not given.",
        ),
        takes(
            "book_within",
            Form::Duration,
            "Time that a booking takes; 3d if not given.",
        ),
        takes(
            "come",
            Form::Share,
            "Booked visits to which the patient comes; 0.95 if not given.",
        ),
    ],
};

static STAFF: Table = Table {
    name: "staff",
    doc: "What staff do.",
    one_of: &[],
    members: &[
        takes(
            "within",
            Form::Duration,
            "Time until a task is done; 8h if not given.",
        ),
        takes(
            "minutes",
            Form::Amount,
            "Work that a task is; 10 minutes if not given.",
        ),
    ],
};

static STEP: Table = Table {
    name: "step's behaviour",
    doc: "What is different at one step.",
    one_of: &[],
    members: &[
        takes(
            "share",
            Form::Share,
            "Of its forms, messages, visits, awaited events and segments (each by itself) or looks at the record: those that are answered, delivered, booked, come or are so. Of a goal, the patients who reach it: none if not given.",
        ),
        takes(
            "within",
            Form::Duration,
            "Time until then, or until its task is done. Of a goal, the time after the start in which it is reached, drawn evenly; the journey's longest if not given.",
        ),
        takes(
            "after",
            Form::Duration,
            "Of an awaited event or a goal: not before so long has gone by; then evenly until `within`.",
        ),
        takes(
            "unclear",
            Form::Share,
            "Of its text messages that are answered by reply, those to which the patient first writes what is no answer; 0.1 if not given.",
        ),
        takes("minutes", Form::Amount, "Work that its task is."),
        takes(
            "outcomes",
            Form::Map("outcome", &Form::Amount),
            "Its task's outcomes by weight; all alike if not given. Of a call `answered`, `failed` and `silent`; always answered if not given.",
        ),
        takes(
            "answers",
            Form::Map("question", &Form::Amount),
            "By question: of yes-or-no questions the share of yes, of numbers the middle of what is answered.",
        ),
    ],
};

static EXIT: Table = Table {
    name: "event",
    doc: "How often an exit's event comes, and by when.",
    one_of: &[],
    members: &[
        takes("share", Form::Share, "Patients to whom it happens."),
        takes(
            "within",
            Form::Duration,
            "Time after the start in which it happens, drawn evenly; the journey's longest if not given.",
        ),
    ],
};

static ANCHOR: Table = Table {
    name: "anchor",
    doc: "Where an anchor lies that is about what is still to come, as an operation that is booked: drawn evenly.",
    one_of: &[],
    members: &[
        needs(
            "from",
            Form::Duration,
            "So long after the entry event at least.",
        ),
        needs(
            "to",
            Form::Duration,
            "So long after the entry event at most.",
        ),
    ],
};

static MEASURED: Table = Table {
    name: "measurement",
    doc: "What patients measure each morning.",
    one_of: &[],
    members: &[
        takes(
            "unit",
            Form::Line,
            "UCUM unit; one that fits the code if not given.",
        ),
        takes("start", Form::Number, "The usual value; 80 if not given."),
        takes(
            "spread",
            Form::Amount,
            "How far a reading lies from it at most; 0.6 if not given.",
        ),
        takes(
            "share",
            Form::Share,
            "Mornings on which there is a reading; 0.8 if not given.",
        ),
        takes(
            "change_share",
            Form::Share,
            "Patients whose value changes for good on one day; 0.1 if not given.",
        ),
        takes("change", Form::Number, "By how much; 3 if not given."),
    ],
};

static COSTS: Table = Table {
    name: "costs",
    doc: "Unit costs; what is not given costs nothing, and without any there is no cost in the report.",
    one_of: &[],
    members: &[
        takes("currency", Form::Line, "What they are in."),
        takes(
            "message",
            Form::Map("channel", &Form::Amount),
            "A message by channel.",
        ),
        takes(
            "hour",
            Form::Map("role", &Form::Amount),
            "An hour of work by role.",
        ),
    ],
};

/// The whole file.
pub(crate) static BEHAVIOUR: Table = Table {
    name: "behaviour",
    doc: "How the patients and staff of a simulation behave. These are assumptions, not data.",
    one_of: &[],
    members: &[
        takes("patients", Form::Table(&PATIENTS), PATIENTS.doc),
        takes("staff", Form::Table(&STAFF), STAFF.doc),
        takes("steps", Form::Map("step", &Form::Table(&STEP)), STEP.doc),
        takes("exits", Form::Map("exit", &Form::Table(&EXIT)), EXIT.doc),
        takes(
            "anchors",
            Form::Map("anchor", &Form::Table(&ANCHOR)),
            "Anchors that lie ahead; the time of the entry event if not given.",
        ),
        takes(
            "measurements",
            Form::Map("LOINC code", &Form::Table(&MEASURED)),
            MEASURED.doc,
        ),
        takes(
            "capacity",
            Form::Map("role", &Form::Amount),
            "Hours of work that a role has each day.",
        ),
        takes("costs", Form::Table(&COSTS), COSTS.doc),
    ],
};

/// What is different at one step.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtStep {
    pub(crate) share: Option<f64>,
    pub(crate) after_ms: u64,
    pub(crate) within_ms: Option<u64>,
    pub(crate) unclear: Option<f64>,
    pub(crate) minutes: Option<f64>,
    pub(crate) outcomes: Vec<(String, f64)>,
    pub(crate) answers: BTreeMap<String, f64>,
}

/// What patients measure.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) unit: Option<String>,
    pub(crate) start: f64,
    pub(crate) spread: f64,
    pub(crate) share: f64,
    pub(crate) change_share: f64,
    pub(crate) change: f64,
}

/// The table, filled in.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub(crate) email_arrives: f64,
    pub(crate) notifications: f64,
    pub(crate) answer: f64,
    pub(crate) answer_within_ms: u64,
    pub(crate) yes: f64,
    pub(crate) book: f64,
    pub(crate) book_within_ms: u64,
    pub(crate) come: f64,
    pub(crate) task_within_ms: u64,
    pub(crate) task_minutes: f64,
    pub(crate) steps: BTreeMap<String, AtStep>,
    pub(crate) exits: BTreeMap<String, (f64, Option<u64>)>,
    /// From when to when after the entry event anchors lie that are about what is still to come.
    pub(crate) anchors: BTreeMap<String, (u64, u64)>,
    pub(crate) measurements: BTreeMap<String, Measured>,
    pub(crate) capacity: BTreeMap<String, f64>,
    pub(crate) currency: String,
    pub(crate) message_costs: BTreeMap<String, f64>,
    pub(crate) hour_costs: BTreeMap<String, f64>,
    /// Whether a file said any of it.
    pub(crate) told: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::from(None)
    }
}

impl Behaviour {
    /// Reads a file of behaviour.
    ///
    /// # Errors
    /// What is wrong with it, each at its place.
    pub fn parse(definition: &Definition, source: &str) -> Result<Self, Vec<Finding>> {
        let mut findings = Findings {
            source,
            list: Vec::new(),
        };
        let steps: Vec<String> = definition
            .steps
            .iter()
            .map(|step| step.id.clone())
            .collect();
        let known = Known {
            steps: &steps,
            anchors: &[],
        };
        let root = form::read(&mut findings, &BEHAVIOUR, known);
        if let Some(exits) = root.as_ref().and_then(|root| root.get("exits")) {
            for (key, _) in exits.members() {
                if !definition.exits.iter().any(|exit| exit.id == key.name) {
                    let message = format!("there is no exit `{}`", key.name);
                    findings.error("J006", key.place, message);
                }
            }
        }
        if let Some(steps) = root.as_ref().and_then(|root| root.get("steps")) {
            for (key, value) in steps.members() {
                let step = definition.step(&key.name);
                let comes = step.is_some_and(|step| {
                    step.kind.aims().is_some() || !step.kind.awaits().is_empty()
                });
                if let Some(after) = value.get("after").filter(|_| !comes) {
                    let message = "`after` is of awaited events and of goals alone";
                    findings.error("J004", after.place, message);
                }
            }
        }
        if let Some(anchors) = root.as_ref().and_then(|root| root.get("anchors")) {
            for (key, value) in anchors.members() {
                let mut known = definition.entry.anchors.iter();
                let begins = definition.entry.date.as_ref().map(|date| &date.begins);
                if begins.is_some_and(|begins| begins.anchor == key.name) {
                    let message =
                        "the journey begins by this anchor, so that it lies where `begins` says";
                    findings.error("J004", key.place, message);
                } else if !known.any(|(name, _)| *name == key.name) {
                    let message = format!("there is no anchor `{}`", key.name);
                    findings.error("J006", key.place, message);
                } else if length(value, "from") > length(value, "to") {
                    findings.error("J004", value.place, "`to` is before `from`");
                }
            }
        }
        if findings.failed() {
            return Err(findings.list);
        }
        Ok(Self::from(root.as_ref()))
    }

    fn from(root: Option<&Node>) -> Self {
        let part = |name: &str| root.and_then(|root| root.get(name));
        let share = |of: &str, name: &str, usual: f64| {
            part(of)
                .and_then(|node| number(node, name))
                .unwrap_or(usual)
        };
        let time = |of: &str, name: &str, usual_ms: u64| {
            part(of)
                .and_then(|node| length(node, name))
                .unwrap_or(usual_ms)
        };
        let costs = |name: &str| {
            part("costs")
                .map(|costs| amounts(costs.get(name)))
                .unwrap_or_default()
        };
        Self {
            email_arrives: share("patients", "email_arrives", 0.95),
            notifications: share("patients", "notifications", 0.0),
            answer: share("patients", "answer", 0.7),
            answer_within_ms: time("patients", "answer_within", 3 * DAY_MS),
            yes: share("patients", "yes", 0.1),
            book: share("patients", "book", 0.7),
            book_within_ms: time("patients", "book_within", 3 * DAY_MS),
            come: share("patients", "come", 0.95),
            task_within_ms: time("staff", "within", 8 * HOUR_MS),
            task_minutes: share("staff", "minutes", 10.0),
            steps: each(part("steps"), at_step),
            exits: each(part("exits"), |node| {
                (number(node, "share").unwrap_or(0.0), length(node, "within"))
            }),
            anchors: each(part("anchors"), |node| {
                let said = |name| length(node, name).unwrap_or(0);
                (said("from"), said("to"))
            }),
            measurements: each(part("measurements"), |node| measured(Some(node))),
            capacity: amounts(part("capacity")),
            currency: part("costs")
                .and_then(|costs| line(costs, "currency"))
                .unwrap_or_default(),
            message_costs: costs("message"),
            hour_costs: costs("hour"),
            told: root.is_some(),
        }
    }

    pub(crate) fn at(&self, step: &str) -> AtStep {
        self.steps.get(step).cloned().unwrap_or_default()
    }

    pub(crate) fn measured(&self, code: &str) -> Measured {
        let said = self.measurements.get(code).cloned();
        said.unwrap_or_else(|| measured(None))
    }

    /// What the simulation rests on, in sentences.
    pub(crate) fn assumptions(&self, definition: &Definition) -> Vec<String> {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let mut lines = vec![
            if self.told {
                "Behaviour is taken from the file of behaviour, and assumed where it says nothing. None of it is data.".to_owned()
            } else {
                "There is no file of behaviour: all of it is assumed. None of it is data.".to_owned()
            },
            "Patients start evenly over the days; the entry event is told of an hour after its time.".to_owned(),
            format!("{} of e-mails arrive, within ten minutes; the portal's messages always do.", percent(self.email_arrives)),
            format!("{} of forms are answered, within {}; {} of yes-or-no questions with yes, other answers are drawn evenly.", percent(self.answer), say_duration(self.answer_within_ms), percent(self.yes)),
            format!("{} of visits are booked, within {}; {} of patients come.", percent(self.book), say_duration(self.book_within_ms), percent(self.come)),
            format!("Tasks are done within {}, day and night, and are {} minutes of work; their outcomes are equally frequent. What takes two persons the second confirms.", say_duration(self.task_within_ms), self.task_minutes),
        ];
        let pushes =
            |message: &crate::definition::Message| message.channels.contains(&crate::Channel::Push);
        if (definition.steps.iter()).any(|step| step.kind.message().is_some_and(pushes)) {
            let share = percent(self.notifications);
            lines.push(format!("{share} of patients have turned notifications on; for others `push` is passed over."));
        }
        for (anchor, (from_ms, to_ms)) in &self.anchors {
            lines.push(format!(
                "Anchor {anchor} lies between {} and {} after the entry event.",
                say_duration(*from_ms),
                say_duration(*to_ms)
            ));
        }
        let codes = definition.steps.iter();
        let codes = codes.filter_map(|step| step.kind.compares().map(|(code, _)| code));
        for code in codes.collect::<BTreeSet<&str>>() {
            let measured = self.measured(code);
            lines.push(format!(
                "{code} is measured on {} of mornings, {} give or take {}; for {} of patients it changes by {} on a day in the first month.",
                percent(measured.share), measured.start, measured.spread, percent(measured.change_share), measured.change
            ));
        }
        for step in &definition.steps {
            let by_reply = step.kind.by_reply(&definition.language).is_some();
            if let Some(share) = by_reply.then(|| self.at(&step.id).unclear.unwrap_or(UNCLEAR)) {
                lines.push(format!(
                    "To {} of the text messages of step {} patients first write what is no answer, within an hour; it makes no difference to when they answer.",
                    percent(share), step.id
                ));
            }
            if step.kind.asks().is_some() && !self.steps.contains_key(&step.id) {
                lines.push(format!(
                    "What step {} asks of the record is so of half of the patients.",
                    step.id
                ));
            }
        }
        if !definition.segments.is_empty() {
            lines.push("The cohort has no record by which segments could be looked at: who comes into the one that begins the journey does so on the day of the start, and what exits and waits ask of segments comes as events do.".to_owned());
        }
        let mut steps = definition.steps.iter();
        if steps.any(|step| step.kind.begins().is_some()) {
            lines.push(format!(
                "The journeys that it begins are not led: each begins and ends within {}, its endings equally frequent, and no work in it is counted.",
                say_duration(self.task_within_ms)
            ));
        }
        let mut steps = definition.steps.iter();
        if steps.any(|step| step.kind.calls().is_some()) {
            lines.push("Partners answer each call within an hour, with status 200 and nothing else that could be learnt, unless the file says how often `answered`, `failed` and `silent` come.".to_owned());
        }
        for exit in &definition.exits {
            let share = self.exits.get(&exit.id).map_or(0.0, |(share, _)| *share);
            lines.push(format!("Exit {}: {} of patients.", exit.id, percent(share)));
        }
        for step in definition
            .steps
            .iter()
            .filter(|step| step.kind.aims().is_some())
        {
            let at = self.at(&step.id);
            let within = say_duration(at.within_ms.unwrap_or(definition.at_most_ms));
            let after = match at.after_ms {
                0 => String::new(),
                after_ms => format!(" and not before {}", say_duration(after_ms)),
            };
            lines.push(format!(
                "Goal {}: {} of patients, within {within} of the start{after}, if they are under way then.",
                step.id,
                percent(at.share.unwrap_or(0.0))
            ));
        }
        let differs = |step: &&String| {
            let step = definition.step(step);
            step.is_some_and(|step| step.kind.aims().is_none())
        };
        for step in self.steps.keys().filter(differs) {
            lines.push(format!("Step {step} differs, as the file says."));
        }
        lines
    }
}

fn each<T>(node: Option<&Node>, read: impl Fn(&Node) -> T) -> BTreeMap<String, T> {
    let members = node.map(Node::members).unwrap_or_default();
    let found = members
        .iter()
        .map(|(key, value)| (key.name.clone(), read(value)));
    found.collect()
}

fn amounts(node: Option<&Node>) -> BTreeMap<String, f64> {
    let members = node.map(Node::members).unwrap_or_default();
    members
        .iter()
        .filter_map(|(key, _)| Some((key.name.clone(), number(node?, &key.name)?)))
        .collect()
}

fn at_step(node: &Node) -> AtStep {
    AtStep {
        share: number(node, "share"),
        after_ms: length(node, "after").unwrap_or(0),
        within_ms: length(node, "within"),
        unclear: number(node, "unclear"),
        minutes: number(node, "minutes"),
        outcomes: amounts(node.get("outcomes")).into_iter().collect(),
        answers: amounts(node.get("answers")),
    }
}

fn measured(node: Option<&Node>) -> Measured {
    let said = |name: &str, usual: f64| node.and_then(|node| number(node, name)).unwrap_or(usual);
    Measured {
        unit: node.and_then(|node| line(node, "unit")),
        start: said("start", 80.0),
        spread: said("spread", 0.6),
        share: said("share", 0.8),
        change_share: said("change_share", 0.1),
        change: said("change", 3.0),
    }
}

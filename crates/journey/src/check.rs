//! The checker: what must be true of a journey before patients are led along it.

mod graph;
mod names;

use crate::Finding;
use crate::decode::{self, Findings};
use crate::definition::{Answer, Definition, ExitTrigger, Step, StepKind, Trigger, Who};
use crate::spec::START_ANCHOR;
use crate::time::say_duration;
use crate::units;
use crate::yaml::{Node, Place, inside};
use fhir::ResourceType;

/// Every code of the checker with its one-line meaning; `docs/journeys/checks.md` has a section for each.
pub const CODES: &[(&str, &str)] = &[
    ("J001", "The file is no YAML."),
    ("J002", "A member is not known."),
    ("J003", "A member is missing."),
    ("J004", "A value has the wrong form."),
    ("J005", "A step has no kind, or more than one."),
    ("J006", "A step is named that isn't there."),
    ("J007", "A name or id is malformed."),
    ("J008", "The purpose of use is missing or unknown."),
    ("J009", "A duration, moment or time of day is malformed."),
    ("J010", "A step can't be reached."),
    ("J011", "A step can't be left, or never leads to an end."),
    ("J012", "A wait has no end."),
    ("J013", "A failure has no way on."),
    (
        "J014",
        "A task isn't due, or nothing happens when it is overdue.",
    ),
    ("J015", "A FHIRPath expression doesn't compile."),
    (
        "J016",
        "A condition names something that the journey never learns.",
    ),
    (
        "J017",
        "Health information would flow into an open channel.",
    ),
    (
        "J018",
        "A template is malformed, or a variable isn't known there.",
    ),
    ("J019", "A variable that may be empty has no fallback."),
    ("J020", "A channel isn't known."),
    ("J021", "A LOINC code is malformed."),
    (
        "J022",
        "A unit isn't known, or doesn't fit what is measured.",
    ),
    ("J023", "A threshold or window makes no sense."),
    ("J024", "Something stands twice."),
    ("J025", "An anchor isn't known."),
    ("J026", "A loop goes round without waiting."),
    (
        "J027",
        "A step is both inside a parallel branch and after it.",
    ),
    (
        "J028",
        "Nothing ends the journey on death or withdrawal of consent.",
    ),
    ("J029", "The journey has no longest duration."),
    ("J030", "The reminder comes after giving up."),
    ("J031", "The time zone isn't known."),
    ("J032", "An observation rule is used as a target."),
    ("J033", "A question doesn't fit its type."),
    ("J034", "An e-mail has no link."),
    ("J035", "The file or the journey is too large."),
    ("J036", "Old events would start the journey."),
    (
        "J037",
        "A moment lies beyond the journey's longest duration.",
    ),
];

/// Reads and checks a file.
pub(crate) fn compile(source: &str) -> (Option<Definition>, Vec<Finding>) {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    let decoded = decode::decode(&mut findings);
    let definition = decoded.map(|(root, definition)| {
        Check {
            findings: &mut findings,
            root: &root,
            definition: &definition,
        }
        .all();
        definition
    });
    findings
        .list
        .sort_by(|a, b| (a.line, a.column, &a.code).cmp(&(b.line, b.column, &b.code)));
    findings.list.dedup();
    (definition, findings.list)
}

struct Check<'a, 'b> {
    findings: &'a mut Findings<'b>,
    root: &'a Node,
    definition: &'a Definition,
}

impl Check<'_, '_> {
    fn all(&mut self) {
        self.entry_and_exits();
        for step in &self.definition.steps {
            self.step(step);
            self.words(step);
        }
        self.moments();
        self.graph();
        self.loops();
        self.branches_and_after();
    }

    /// Node of a step's member, by path below the step.
    fn node(&self, step: &Step, path: &[&str]) -> Option<&Node> {
        path.iter()
            .try_fold(self.root.get("steps")?.get(&step.id)?, |node, name| {
                node.get(name)
            })
    }
    fn at(&self, step: &Step, path: &[&str]) -> Place {
        self.node(step, path).map_or(step.place, |node| node.place)
    }

    fn entry_and_exits(&mut self) {
        let place = |name: &str| {
            self.root
                .members()
                .iter()
                .find(|(key, _)| key.name == name)
                .map_or(Place { line: 1, column: 1 }, |(key, _)| key.place)
        };
        let (entry, exits) = (place("entry"), place("exits"));
        if self.definition.entry.within_ms.is_none() {
            self.findings.warning("J036", entry, "`entry` has no `within`: an imported history would start the journey for events of any age. Add e.g. `within: 3d`");
        }
        for who in &self.definition.entry.who {
            if let Who::Has {
                kind,
                condition: None,
            } = who
            {
                self.findings.warning("J036", entry, format!("`has: {kind}` without `where` holds for every patient with any {kind}; add a `where`"));
            }
        }
        let consent = self
            .definition
            .exits
            .iter()
            .any(|exit| exit.trigger == ExitTrigger::ConsentWithdrawn);
        let death = self.definition.exits.iter().any(|exit| matches!(exit.trigger, ExitTrigger::Event(index) if self.definition.conditions[index].kind == ResourceType::Patient));
        if !consent {
            self.findings.error(
                "J028",
                exits,
                "no exit for withdrawal of consent; add one with `consent: withdrawn`",
            );
        }
        if !death {
            self.findings.error("J028", exits, "no exit for death; add one with `event: Patient` and `where: deceased.exists() and deceased != false`");
        }
        let entry_kind = self.definition.entry.event;
        let has = self
            .definition
            .entry
            .who
            .iter()
            .filter_map(|who| match who {
                Who::Has { kind, .. } => Some((*kind, entry)),
                Who::This(_) => None,
            });
        let events = self.definition.conditions.iter().map(|condition| {
            (
                condition.kind,
                condition.path.as_ref().map_or(exits, |path| path.place),
            )
        });
        for (kind, at) in has
            .chain(events)
            .chain([(entry_kind, entry)])
            .collect::<Vec<_>>()
        {
            if kind != ResourceType::Patient
                && !fhir::search::parameters(kind)
                    .iter()
                    .any(|parameter| parameter.name == "patient")
            {
                self.findings.error("J004", at, format!("a {kind} is in nobody's record, so no journey can wait for one or start from one"));
            }
        }
        for (name, _) in &self.definition.entry.anchors {
            if name == START_ANCHOR {
                self.findings.error(
                    "J024",
                    entry,
                    "the anchor `start` is always there; name this one differently",
                );
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let id = &step.id;
        match &step.kind {
            StepKind::Send(send) => {
                self.channels(step, "send");
                if send.on_failure.is_none() {
                    self.findings.error("J013", step.place, format!("`{id}` has no `on_failure`: say what happens when no channel delivers the message (a task for staff, or `end`)"));
                }
            }
            StepKind::Ask(ask) => {
                self.channels(step, "ask");
                if ask.no_answer.is_none() {
                    self.findings.error("J013", step.place, format!("`{id}` has no `no_answer`: say what happens when the patient doesn't answer"));
                }
                if let Some(remind_ms) = ask.remind_after_ms
                    && remind_ms >= ask.give_up_after_ms
                {
                    let place = self.at(step, &["ask", "remind_after"]);
                    self.findings.error(
                        "J030",
                        place,
                        format!(
                            "the reminder after {} comes when the journey has given up after {}",
                            say_duration(remind_ms),
                            say_duration(ask.give_up_after_ms)
                        ),
                    );
                }
                self.questions(step, ask);
            }
            StepKind::Wait(wait) => self.wait(step, wait),
            StepKind::Observe(observe) => {
                if let Some(message) = units::mismatch(&observe.code, &observe.unit) {
                    let place = self.at(step, &["observe", "unit"]);
                    self.findings.error("J022", place, message);
                }
                if observe.within_ms < crate::time::HOUR_MS {
                    let place = self.at(step, &["observe", "within"]);
                    self.findings.warning("J023", place, format!("a window of {} is shorter than an hour; few patients measure that often", say_duration(observe.within_ms)));
                }
            }
            StepKind::Branch(branch) => {
                for case in &branch.cases {
                    if let Some((position, message)) = self.unlearnt(&case.when.text) {
                        let place = inside(
                            self.findings.source,
                            case.when.place,
                            &case.when.text,
                            position,
                        );
                        self.findings.error("J016", place, message);
                    }
                }
            }
            StepKind::Task(task) => {
                if task.overdue.is_none() {
                    self.findings.error("J014", step.place, format!("`{id}` has no `overdue`: say what happens when the task isn't done in {}: a step, or a hand-over (`{{role: clinician, priority: urgent}}`)", say_duration(task.due_ms)));
                }
            }
            StepKind::Book(book) => {
                if book.not_booked.is_none() {
                    self.findings.error("J013", step.place, format!("`{id}` has no `not_booked`: say what happens when the visit isn't booked in time"));
                }
                if book.book_by.anchor == book.on.anchor
                    && book.book_by.offset_ms > book.on.offset_ms
                {
                    let place = self.at(step, &["book", "book_by"]);
                    self.findings
                        .error("J023", place, "`book_by` is later than the visit itself");
                }
            }
            StepKind::Parallel { .. } | StepKind::Exit { .. } => {}
        }
    }

    fn channels(&mut self, step: &Step, kind: &str) {
        let Some(node) = self.node(step, &[kind, "channels"]) else {
            return;
        };
        let names: Vec<(String, Place)> = node
            .items()
            .iter()
            .filter_map(|item| Some((item.text()?.to_owned(), item.place)))
            .collect();
        for (place, (name, at)) in names.iter().enumerate() {
            if names[..place].iter().any(|(earlier, _)| earlier == name) {
                self.findings
                    .error("J024", *at, format!("channel `{name}` stands twice"));
            }
        }
    }

    fn questions(&mut self, step: &Step, ask: &crate::definition::Ask) {
        let places: Vec<Place> = self
            .node(step, &["ask", "questions"])
            .map(|node| node.items().iter().map(|item| item.place).collect())
            .unwrap_or_default();
        for (index, question) in ask.questions.iter().enumerate() {
            let place = places.get(index).copied().unwrap_or(step.place);
            if ask.questions[..index]
                .iter()
                .any(|earlier| earlier.id == question.id)
            {
                self.findings.error(
                    "J024",
                    place,
                    format!("question `{}` stands twice in `{}`", question.id, step.id),
                );
            }
            let numeric = matches!(question.answer, Answer::WholeNumber | Answer::Number);
            if (question.least.is_some() || question.most.is_some()) && !numeric {
                self.findings.error(
                    "J033",
                    place,
                    format!(
                        "question `{}` has `least` or `most` but isn't a number",
                        question.id
                    ),
                );
            }
            if matches!((question.least, question.most), (Some(least), Some(most)) if least >= most)
            {
                self.findings.error(
                    "J033",
                    place,
                    format!("question `{}`: `least` isn't less than `most`", question.id),
                );
            }
            let options = question.options.len();
            if question.answer == Answer::Choice && options < 2 {
                self.findings.error(
                    "J033",
                    place,
                    format!(
                        "question `{}` is a choice and needs at least two `options`",
                        question.id
                    ),
                );
            }
            if question.answer != Answer::Choice && options > 0 {
                self.findings.error(
                    "J033",
                    place,
                    format!(
                        "question `{}` has `options` but isn't a choice",
                        question.id
                    ),
                );
            }
        }
    }

    fn wait(&mut self, step: &Step, wait: &crate::definition::Wait) {
        let body = self.node(step, &["wait"]);
        let has = |name: &str| body.is_some_and(|body| body.get(name).is_some());
        let (first_of, event, at_most, path) =
            (has("first_of"), has("event"), has("at_most"), has("where"));
        let (next, not_come) = (
            self.node(step, &["next"]).is_some(),
            self.node(step, &["not_come"]).is_some(),
        );
        if first_of && next {
            self.findings.error("J011", step.place, format!("`{}` has `next` beside `first_of`; each alternative has its own `next`, remove this one", step.id));
        }
        if !first_of && !next {
            self.findings.error(
                "J011",
                step.place,
                format!("`{}` needs `next`: where to go after the wait", step.id),
            );
        }
        if !first_of && event && !at_most {
            self.findings.error(
                "J012",
                step.place,
                format!(
                    "`{}` waits for an event that may never come; add `at_most` and `not_come`",
                    step.id
                ),
            );
        }
        if at_most && !event {
            self.findings.error(
                "J004",
                step.place,
                format!("`{}` has `at_most`, which goes with `event` only", step.id),
            );
        }
        if path && !event {
            self.findings.error(
                "J004",
                step.place,
                format!("`{}` has `where`, which goes with `event` only", step.id),
            );
        }
        if at_most && !not_come {
            self.findings.error(
                "J013",
                step.place,
                format!(
                    "`{}` has no `not_come`: say what happens when the event hasn't come in time",
                    step.id
                ),
            );
        }
        if not_come && !at_most {
            self.findings.error(
                "J012",
                step.place,
                format!(
                    "`{}` has `not_come` but no `at_most`, so it is never gone",
                    step.id
                ),
            );
        }
        if first_of
            && wait
                .alternatives
                .iter()
                .all(|alternative| matches!(alternative.trigger, Trigger::Event(_)))
        {
            self.findings.error("J012", step.place, format!("`{}` waits for events only, none of which may ever come; add an alternative with `for` or `until`", step.id));
        }
    }
}

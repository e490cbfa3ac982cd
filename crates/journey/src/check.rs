//! The checker: what must be true of a journey before patients are led along it.

use crate::Finding;
use crate::decode::{self, Findings, nearest};
use crate::definition::{Answer, Definition, ExitTrigger, Overdue, Step, StepKind, Trigger, Who};
use crate::spec::{self, Clearance, START_ANCHOR};
use crate::template::{self, Class, Template};
use crate::time::{Moment, say_duration};
use crate::units;
use crate::yaml::{Node, Place, inside};
use fhir::ResourceType;
use std::collections::BTreeSet;

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

    /// Members that a step gives to what the journey has learnt.
    fn members(&self, step: &str) -> Option<Vec<String>> {
        let members: &[&str] = match &self.definition.step(step)?.kind {
            StepKind::Ask(ask) => {
                return Some(
                    ask.questions
                        .iter()
                        .map(|question| question.id.clone())
                        .collect(),
                );
            }
            StepKind::Observe(_) => &["rise", "from", "to", "unit", "hours"],
            StepKind::Task(_) => &["outcome"],
            StepKind::Book(_) => &["status", "day"],
            StepKind::Send(_) => &["delivered_by"],
            _ => &[],
        };
        Some(members.iter().map(|member| (*member).to_owned()).collect())
    }

    /// The first name in a condition that the journey never learns, with its position.
    fn unlearnt(&self, text: &str) -> Option<(usize, String)> {
        for (position, path) in paths(text) {
            let mut names = path.iter();
            let step = names.next()?;
            let Some(members) = self.members(step) else {
                let near = nearest(
                    step,
                    self.definition.steps.iter().map(|step| step.id.as_str()),
                )
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Some((
                    position,
                    format!(
                        "`{step}` is no step{near} A condition names answers and outcomes as `step.member`"
                    ),
                ));
            };
            let Some(member) = names.next() else { continue };
            if !members.contains(member) {
                let near = nearest(member, members.iter().map(String::as_str))
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let known = if members.is_empty() {
                    "it gives nothing".to_owned()
                } else {
                    format!("it gives {}", members.join(", "))
                };
                return Some((
                    position,
                    format!("`{step}` gives no `{member}`{near} ({known})"),
                ));
            }
        }
        None
    }

    fn words(&mut self, step: &Step) {
        let Some(node) = self.root.get("steps").and_then(|steps| steps.get(&step.id)) else {
            return;
        };
        let Some((kind, body)) = node
            .members()
            .iter()
            .find_map(|(key, body)| spec::kind(&key.name).map(|kind| (kind, body)))
        else {
            return;
        };
        let mut found = Vec::new();
        decode::words(body, &kind.body, &mut found);
        for (words, clearance) in found {
            let Some(text) = words.text() else { continue };
            let Ok(template) = Template::parse(text) else {
                continue;
            };
            let title = self.definition.title.to_lowercase();
            if clearance == Clearance::Open
                && (text.to_lowercase().contains(&title) || text.contains(&self.definition.name))
            {
                self.findings.error("J017", words.place, "these words go over e-mail, which isn't cleared for PHI, and name the journey, which tells what the patient is treated for");
            }
            for (name, fallback, position) in template.variables() {
                let place = inside(self.findings.source, words.place, text, position);
                let known = |step: &str, member: &str| {
                    self.members(step)
                        .is_some_and(|members| members.iter().any(|known| known == member))
                };
                let Some((class, always)) = template::class(name, &known) else {
                    let near = nearest(name, template::VARIABLES.iter().map(|(name, ..)| *name))
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    self.findings.error("J018", place, format!("`{{{name}}}` is no variable{near} Known are {}, and `step.member` for what the journey has learnt", template::VARIABLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")));
                    continue;
                };
                if clearance == Clearance::Open && class == Class::Phi {
                    self.findings.error("J017", place, format!("`{{{name}}}` is PHI and these words go over e-mail, which isn't cleared for it; name it in `words`, which are shown behind login, and send the link"));
                }
                if class == Class::Link && clearance != Clearance::Open {
                    self.findings.error(
                        "J018",
                        place,
                        "`{link}` is for e-mails; behind login the patient is there already",
                    );
                }
                let fits = match name {
                    "due.day" => matches!(
                        step.kind,
                        StepKind::Ask(_) | StepKind::Task(_) | StepKind::Book(_)
                    ),
                    "visit.day" | "visit.time" => matches!(step.kind, StepKind::Book(_)),
                    _ => true,
                };
                if !fits {
                    self.findings.error(
                        "J018",
                        place,
                        format!("`{{{name}}}` has no meaning in a `{}` step", kind.name),
                    );
                } else if !always && !fallback && !name.starts_with("visit.") {
                    self.findings.error(
                        "J019",
                        place,
                        format!("`{{{name}}}` may be empty; give a fallback: `{{{name}|...}}`"),
                    );
                }
            }
        }
        for kind in ["send", "ask"] {
            if let Some(text) = self.node(step, &[kind, "email", "text"])
                && text.text().is_some_and(|text| !text.contains("{link}"))
            {
                let place = text.place;
                self.findings.warning(
                    "J034",
                    place,
                    "this e-mail has no `{link}`, so the patient can't get from it to the message",
                );
            }
        }
    }

    fn moments(&mut self) {
        for step in &self.definition.steps {
            let mut moments: Vec<(&Moment, Place)> = Vec::new();
            match &step.kind {
                StepKind::Wait(wait) => {
                    let list = self.node(step, &["wait", "first_of"]);
                    for (index, alternative) in wait.alternatives.iter().enumerate() {
                        if let Trigger::Until(moment) = &alternative.trigger {
                            let node = list.map_or_else(
                                || self.node(step, &["wait", "until"]),
                                |list| list.items().get(index).and_then(|item| item.get("until")),
                            );
                            moments.push((moment, node.map_or(step.place, |node| node.place)));
                        }
                    }
                }
                StepKind::Observe(observe) => moments.extend(
                    observe
                        .until
                        .iter()
                        .map(|moment| (moment, self.at(step, &["observe", "until"]))),
                ),
                StepKind::Book(book) => moments.extend([
                    (&book.on, self.at(step, &["book", "on"])),
                    (&book.book_by, self.at(step, &["book", "book_by"])),
                ]),
                _ => {}
            }
            for (moment, place) in moments {
                if moment.anchor != START_ANCHOR
                    && !self
                        .definition
                        .entry
                        .anchors
                        .iter()
                        .any(|(name, _)| *name == moment.anchor)
                {
                    let known: Vec<&str> = self
                        .definition
                        .entry
                        .anchors
                        .iter()
                        .map(|(name, _)| name.as_str())
                        .chain([START_ANCHOR])
                        .collect();
                    let near = nearest(&moment.anchor, known.iter().copied())
                        .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    self.findings.error(
                        "J025",
                        place,
                        format!(
                            "there is no anchor `{}`{near} (known: {})",
                            moment.anchor,
                            known.join(", ")
                        ),
                    );
                } else if moment.offset_ms
                    > i64::try_from(self.definition.at_most_ms).unwrap_or(i64::MAX)
                {
                    self.findings.warning(
                        "J037",
                        place,
                        format!(
                            "this lies beyond the journey's `at_most` of {}, so it will never be",
                            say_duration(self.definition.at_most_ms)
                        ),
                    );
                }
            }
        }
    }

    /// The steps that can be reached from some, these included.
    fn reach(&self, from: &[usize]) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<usize> = from.to_vec();
        while let Some(step) = ahead.pop() {
            if reached.insert(step) {
                ahead.extend(
                    self.definition.steps[step]
                        .ways()
                        .iter()
                        .flat_map(|way| way.target.steps.iter().copied()),
                );
            }
        }
        reached
    }

    fn graph(&mut self) {
        let steps = &self.definition.steps;
        let watches: Vec<usize> = (0..steps.len())
            .filter(|step| matches!(steps[*step].kind, StepKind::Observe(_)))
            .collect();
        let mut roots = watches.clone();
        roots.extend(&self.definition.start.steps);
        if self.definition.start.steps.is_empty() {
            self.findings.error(
                "J010",
                self.definition.start.place,
                "`start` leads nowhere; name the first step",
            );
        }
        let reached = self.reach(&roots);
        for (index, step) in steps.iter().enumerate() {
            if !reached.contains(&index) {
                self.findings.error(
                    "J010",
                    step.place,
                    format!(
                        "`{}` can't be reached: no step leads to it. Lead to it or remove it",
                        step.id
                    ),
                );
            }
            for way in step.ways() {
                for target in way
                    .target
                    .steps
                    .iter()
                    .filter(|target| watches.contains(target))
                {
                    self.findings.error(
                        "J032",
                        way.target.place,
                        format!(
                            "`{}` watches from the journey's start by itself; it can't be gone to",
                            steps[*target].id
                        ),
                    );
                }
            }
        }
        for target in self
            .definition
            .start
            .steps
            .iter()
            .filter(|target| watches.contains(target))
        {
            self.findings.error(
                "J032",
                self.definition.start.place,
                format!(
                    "`{}` watches from the journey's start by itself; it can't be gone to",
                    steps[*target].id
                ),
            );
        }
        // Steps from which an end can be reached, found backwards until nothing changes.
        let mut ends: BTreeSet<usize> = BTreeSet::new();
        loop {
            let before = ends.len();
            for (index, step) in steps.iter().enumerate() {
                let ways = step.ways();
                let leads = ways.is_empty()
                    || ways.iter().any(|way| {
                        way.target.steps.is_empty()
                            || way.target.steps.iter().any(|target| ends.contains(target))
                    });
                if leads {
                    ends.insert(index);
                }
            }
            if ends.len() == before {
                break;
            }
        }
        for (index, step) in steps.iter().enumerate() {
            if !ends.contains(&index) {
                self.findings.error("J011", step.place, format!("from `{}` no `end` and no exit can ever be reached; patients would go round until `at_most`", step.id));
            }
        }
    }

    fn loops(&mut self) {
        let steps = &self.definition.steps;
        let at_once: Vec<Vec<usize>> = steps
            .iter()
            .map(|step| {
                step.ways()
                    .into_iter()
                    .filter(|way| way.at_once)
                    .flat_map(|way| way.target.steps.clone())
                    .collect()
            })
            .collect();
        for (index, step) in steps.iter().enumerate() {
            let mut seen = BTreeSet::new();
            let mut ahead = at_once[index].clone();
            while let Some(next) = ahead.pop() {
                if next == index {
                    self.findings.error("J026", step.place, format!("`{}` can be come back to without any waiting, so a patient could go round for ever in an instant; put a `wait` with `for` into the loop", step.id));
                    break;
                }
                if seen.insert(next) {
                    ahead.extend(&at_once[next]);
                }
            }
        }
    }

    fn branches_and_after(&mut self) {
        for step in &self.definition.steps {
            if let StepKind::Parallel { branches, next } = &step.kind {
                let starts: Vec<usize> = branches
                    .iter()
                    .flat_map(|branch| branch.steps.iter().copied())
                    .collect();
                let inside = self.reach(&starts);
                let after = self.reach(&next.steps);
                for both in inside.intersection(&after) {
                    // An exit ends everything, so it may stand in both.
                    if !matches!(self.definition.steps[*both].kind, StepKind::Exit { .. }) {
                        let both = &self.definition.steps[*both];
                        self.findings.error("J027", both.place, format!("`{}` lies inside a branch of `{}` and after it, so it could run twice; end the branch with `end`", both.id, step.id));
                    }
                }
            }
            if let StepKind::Task(task) = &step.kind
                && let Some(Overdue::Go(target)) = &task.overdue
                && target.steps.is_empty()
            {
                self.findings.warning("J014", step.place, format!("`{}` is closed and forgotten when it is overdue; hand it over or lead to a step", step.id));
            }
        }
    }
}

/// The paths that a FHIRPath expression starts at its focus, outside of function arguments: position
/// and names. A rough reading that is good enough to find misspelt names.
fn paths(text: &str) -> Vec<(usize, Vec<String>)> {
    const WORDS: &[&str] = &[
        "and", "or", "xor", "implies", "is", "as", "div", "mod", "in", "contains", "true", "false",
    ];
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut calls: Vec<bool> = Vec::new();
    let mut place = 0;
    let mut name_before = false;
    while place < characters.len() {
        let character = characters[place];
        match character {
            '\'' | '`' => {
                place += 1;
                while place < characters.len() && characters[place] != character {
                    place += if characters[place] == '\\' { 2 } else { 1 };
                }
                place += 1;
                name_before = false;
            }
            '(' => {
                calls.push(name_before);
                name_before = false;
                place += 1;
            }
            ')' => {
                calls.pop();
                name_before = false;
                place += 1;
            }
            '%' | '$' | '@' => {
                place += 1;
                while place < characters.len()
                    && (characters[place].is_alphanumeric() || "_-:.".contains(characters[place]))
                {
                    place += 1;
                }
                name_before = false;
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let start = place;
                let mut names = Vec::new();
                loop {
                    let from = place;
                    while place < characters.len()
                        && (characters[place].is_ascii_alphanumeric() || characters[place] == '_')
                    {
                        place += 1;
                    }
                    names.push(characters[from..place].iter().collect::<String>());
                    if characters.get(place) == Some(&'.')
                        && characters
                            .get(place + 1)
                            .is_some_and(|c| c.is_ascii_alphabetic() || *c == '_')
                    {
                        place += 1;
                    } else {
                        break;
                    }
                }
                let call = characters.get(place) == Some(&'(');
                name_before = call;
                if call {
                    names.pop();
                }
                let continues = start > 0 && characters[start - 1] == '.';
                let plain = names
                    .first()
                    .is_some_and(|name| !WORDS.contains(&name.as_str()));
                if plain && !continues && !calls.contains(&true) {
                    found.push((start, names));
                }
            }
            c => {
                if !c.is_whitespace() {
                    name_before = false;
                }
                place += 1;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_conditions_are_found() {
        let table: &[(&str, &[&str])] = &[
            ("symptoms.breathless = true", &["symptoms.breathless"]),
            (
                "symptoms.a = 'it.was' or (tasks.b and not_a_call.c.exists())",
                &["symptoms.a", "tasks.b", "not_a_call.c"],
            ),
            (
                "survey.score.where($this > 3 and inner.x = 1).exists()",
                &["survey.score"],
            ),
            ("%now > @2026-01-01 and a.b", &["a.b"]),
        ];
        for (text, expected) in table {
            let found: Vec<String> = paths(text)
                .into_iter()
                .map(|(_, names)| names.join("."))
                .collect();
            assert_eq!(&found, expected, "{text}");
        }
    }
}

//! A journey, compiled: what the engine runs.

use crate::template::Template;
use crate::time::Moment;
use crate::yaml::Place;
use fhir::ResourceType;
use fhir::path::Expression;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One version of a journey, compiled.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name.
    pub name: String,
    /// Title.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// The purpose that consent must cover.
    pub purpose: trust::Purpose,
    /// The version; 0 for a draft.
    pub version: u32,
    /// The longest that one patient can be in it, milliseconds.
    pub at_most_ms: u64,
    pub(crate) zone: TimeZone,
    pub(crate) entry: Entry,
    pub(crate) exits: Vec<ExitRule>,
    pub(crate) start: Target,
    pub(crate) steps: Vec<Step>,
    pub(crate) index: BTreeMap<String, usize>,
    /// Every condition on events: of exits and of waits.
    pub(crate) conditions: Vec<Condition>,
}

/// A compiled expression with its text.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) expression: Expression,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) event: ResourceType,
    pub(crate) condition: Path,
    pub(crate) anchors: Vec<(String, Path)>,
    pub(crate) within_ms: Option<u64>,
    pub(crate) once: bool,
    /// Whether several runs of one patient may go on side by side.
    pub(crate) beside: bool,
    pub(crate) who: Vec<Who>,
}

#[derive(Debug, Clone)]
pub(crate) enum Who {
    This(Path),
    Has {
        kind: ResourceType,
        condition: Option<Path>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct ExitRule {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) close_tasks: bool,
    pub(crate) trigger: ExitTrigger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitTrigger {
    /// Index into [`Definition::conditions`].
    Event(usize),
    ConsentWithdrawn,
}

/// A condition on an event.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) kind: ResourceType,
    pub(crate) path: Option<Path>,
}

/// Where to go: steps side by side, or nowhere (the branch ends).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) steps: Vec<usize>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) plain: Option<String>,
    pub(crate) place: Place,
    pub(crate) kind: StepKind,
}

#[derive(Debug, Clone)]
pub(crate) enum StepKind {
    Send(Send),
    Ask(Ask),
    Wait(Wait),
    Observe(Observe),
    Branch(Branch),
    Task(Task),
    Book(Book),
    Parallel { branches: Vec<Target>, next: Target },
    Exit { reason: String, close_tasks: bool },
}

#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) message: Message,
    pub(crate) expires_ms: u64,
    pub(crate) next: Target,
    pub(crate) on_failure: Option<Target>,
}

/// Words and channels of a message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) title: String,
    pub(crate) words: Template,
    pub(crate) channels: Vec<Channel>,
    pub(crate) email: Option<(Template, Template)>,
}

/// A channel of the language.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// E-mail with a link.
    Email,
    /// The portal's inbox.
    Portal,
}

impl Channel {
    /// As the language and people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Portal => "portal",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) invitation: Message,
    pub(crate) reminder: Option<Template>,
    pub(crate) questions: Vec<Question>,
    pub(crate) remind_after_ms: Option<u64>,
    pub(crate) give_up_after_ms: u64,
    pub(crate) answered: Target,
    pub(crate) no_answer: Option<Target>,
    pub(crate) late_answer: Option<Target>,
}

#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) help: Option<String>,
    pub(crate) answer: Answer,
    pub(crate) required: bool,
    pub(crate) least: Option<i64>,
    pub(crate) most: Option<i64>,
    pub(crate) options: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    YesNo,
    WholeNumber,
    Number,
    Text,
    Choice,
    Date,
}

#[derive(Debug, Clone)]
pub(crate) struct Wait {
    pub(crate) alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone)]
pub(crate) struct Alternative {
    pub(crate) trigger: Trigger,
    pub(crate) next: Target,
    pub(crate) label: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Trigger {
    For(u64),
    Until(Moment),
    /// Index into [`Definition::conditions`].
    Event(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Observe {
    pub(crate) code: String,
    pub(crate) unit: String,
    pub(crate) more_than: f64,
    pub(crate) falls: bool,
    pub(crate) within_ms: u64,
    pub(crate) quiet_ms: u64,
    pub(crate) until: Option<Moment>,
    pub(crate) then: Target,
}

#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) cases: Vec<Case>,
    pub(crate) otherwise: Target,
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) when: Path,
    pub(crate) label: String,
    pub(crate) next: Target,
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) title: String,
    pub(crate) reason: Template,
    pub(crate) role: String,
    pub(crate) priority: String,
    pub(crate) due_ms: u64,
    pub(crate) outcomes: Vec<(String, Target)>,
    pub(crate) next: Target,
    pub(crate) not_done: Option<Target>,
    pub(crate) overdue: Option<Overdue>,
}

#[derive(Debug, Clone)]
pub(crate) enum Overdue {
    Go(Target),
    HandOver { role: String, priority: String },
}

#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) title: String,
    pub(crate) words: Option<Template>,
    pub(crate) on: Moment,
    pub(crate) minutes: u64,
    pub(crate) book_by: Moment,
    pub(crate) next: Target,
    pub(crate) not_booked: Option<Target>,
    pub(crate) missed: Option<Target>,
}

/// A way out of a step, for graph and checker.
pub(crate) struct Way<'a> {
    pub(crate) label: String,
    pub(crate) target: &'a Target,
    /// Whether it can be gone without any waiting, as far as loops are concerned.
    pub(crate) at_once: bool,
}

impl Step {
    /// The kind's name.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            StepKind::Send(_) => "send",
            StepKind::Ask(_) => "ask",
            StepKind::Wait(_) => "wait",
            StepKind::Observe(_) => "observe",
            StepKind::Branch(_) => "branch",
            StepKind::Task(_) => "task",
            StepKind::Book(_) => "book",
            StepKind::Parallel { .. } => "parallel",
            StepKind::Exit { .. } => "exit",
        }
    }
    /// The ways out, in reading order. Labels are those of the engine, so that counts fit edges.
    pub(crate) fn ways(&self) -> Vec<Way<'_>> {
        let way = |label: &str, target, at_once| Way {
            label: label.to_owned(),
            target,
            at_once,
        };
        match &self.kind {
            StepKind::Send(send) => {
                // Delivery to the portal needs no time, so a loop through a message can be endless.
                let mut ways = vec![way("delivered", &send.next, true)];
                ways.extend(
                    send.on_failure
                        .as_ref()
                        .map(|target| way("not delivered", target, true)),
                );
                ways
            }
            StepKind::Ask(ask) => {
                let mut ways = vec![way("answered", &ask.answered, false)];
                ways.extend(
                    ask.no_answer
                        .as_ref()
                        .map(|target| way("no answer", target, false)),
                );
                ways.extend(
                    ask.late_answer
                        .as_ref()
                        .map(|target| way("late answer", target, false)),
                );
                ways
            }
            StepKind::Wait(wait) => wait
                .alternatives
                .iter()
                .map(|alternative| Way {
                    label: alternative.label.clone(),
                    target: &alternative.next,
                    at_once: matches!(alternative.trigger, Trigger::Until(_)),
                })
                .collect(),
            StepKind::Observe(observe) => vec![way("fires", &observe.then, false)],
            StepKind::Branch(branch) => {
                let mut ways: Vec<Way<'_>> = branch
                    .cases
                    .iter()
                    .map(|case| way(&case.label, &case.next, true))
                    .collect();
                ways.push(way("otherwise", &branch.otherwise, true));
                ways
            }
            StepKind::Task(task) => {
                let mut ways: Vec<Way<'_>> = task
                    .outcomes
                    .iter()
                    .map(|(outcome, target)| way(outcome, target, false))
                    .collect();
                ways.push(way("done", &task.next, false));
                ways.extend(
                    task.not_done
                        .as_ref()
                        .map(|target| way("not done", target, false)),
                );
                if let Some(Overdue::Go(target)) = &task.overdue {
                    ways.push(way("overdue", target, false));
                }
                ways
            }
            StepKind::Book(book) => {
                let mut ways = vec![way("visit over", &book.next, false)];
                // The deadline may have passed when the step is entered.
                ways.extend(
                    book.not_booked
                        .as_ref()
                        .map(|target| way("not booked", target, true)),
                );
                ways.extend(
                    book.missed
                        .as_ref()
                        .map(|target| way("missed", target, false)),
                );
                ways
            }
            StepKind::Parallel { branches, next } => {
                let mut ways: Vec<Way<'_>> = branches
                    .iter()
                    .map(|target| way(crate::counts::BRANCH, target, true))
                    .collect();
                ways.push(way("all ended", next, true));
                ways
            }
            StepKind::Exit { .. } => Vec::new(),
        }
    }
    /// Words that the patient sees here; what is filled in for each stands in brackets.
    pub(crate) fn words(&self) -> Option<String> {
        let show = |template: &Template| {
            template
                .pieces
                .iter()
                .map(|piece| match piece {
                    crate::template::Piece::Text(text) => text.clone(),
                    crate::template::Piece::Variable { name, .. } => match name.as_str() {
                        "patient.given" => "[first name]".to_owned(),
                        "patient.family" => "[last name]".to_owned(),
                        name => format!("[{}]", name.replace(['.', '_'], " ")),
                    },
                })
                .collect::<String>()
        };
        match &self.kind {
            StepKind::Send(send) => Some(format!(
                "{}\n{}",
                send.message.title,
                show(&send.message.words)
            )),
            StepKind::Ask(ask) => Some(format!(
                "{}\n{}",
                ask.invitation.title,
                show(&ask.invitation.words)
            )),
            StepKind::Book(book) => book
                .words
                .as_ref()
                .map(|words| format!("{}\n{}", book.title, show(words))),
            _ => None,
        }
    }
}

impl Definition {
    /// A step by id.
    pub(crate) fn step(&self, id: &str) -> Option<&Step> {
        self.index.get(id).and_then(|index| self.steps.get(*index))
    }
    /// Compiles a checked file as a version.
    ///
    /// # Errors
    /// The checker's errors, when there are some.
    pub fn compile(source: &str, version: u32) -> Result<Arc<Self>, Vec<crate::Finding>> {
        let (definition, findings) = crate::check::compile(source);
        match definition {
            Some(mut definition) if findings.iter().all(|finding| !finding.error) => {
                definition.version = version;
                Ok(Arc::new(definition))
            }
            _ => Err(findings
                .into_iter()
                .filter(|finding| finding.error)
                .collect()),
        }
    }
    /// The resource types that it goes by, and makes for the patient to read.
    pub(crate) fn about(&self) -> Vec<ResourceType> {
        let mut kinds = self.kinds();
        kinds.extend([ResourceType::Communication, ResourceType::Patient]);
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
    /// What it does, as consents are asked about it.
    pub(crate) fn act(&self, known_as: Vec<String>) -> trust::consent::Act {
        trust::consent::Act {
            purpose: self.purpose,
            about: self.about(),
            known_as,
        }
    }
    /// The resource types whose events can mean something to this journey.
    pub(crate) fn kinds(&self) -> Vec<ResourceType> {
        let mut kinds = vec![self.entry.event, ResourceType::Consent];
        kinds.extend(self.entry.who.iter().filter_map(|who| match who {
            Who::Has { kind, .. } => Some(*kind),
            Who::This(_) => None,
        }));
        kinds.extend(self.conditions.iter().map(|condition| condition.kind));
        for step in &self.steps {
            match &step.kind {
                StepKind::Send(_) => kinds.push(ResourceType::Communication),
                StepKind::Ask(_) => kinds.extend([
                    ResourceType::Communication,
                    ResourceType::QuestionnaireResponse,
                ]),
                StepKind::Observe(_) => kinds.push(ResourceType::Observation),
                StepKind::Task(_) => kinds.push(ResourceType::Task),
                StepKind::Book(_) => kinds.push(ResourceType::Appointment),
                _ => {}
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

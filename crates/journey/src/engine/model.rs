//! The words of the engine: what it is told and what it says.

use crate::definition::Channel;
use crate::room::{Room, Urgency};
use crate::state::{State, Which};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where ids come from: keyed hashes in production, plain names in tests.
pub trait Ids {
    /// The id of a resource or timer by its name, the same each time.
    fn id(&self, name: &str) -> String;
    /// The canonical reference of a step's questionnaire.
    fn questionnaire(&self, step: &str) -> String;
    /// The same of another version of the journey, for those who came from there.
    fn questionnaire_of(&self, version: u32, step: &str) -> String;
}

/// What the engine is told besides the input.
pub struct Context<'a> {
    /// The time, milliseconds since the epoch.
    pub now_ms: u64,
    /// The instance's id.
    pub instance: &'a str,
    /// Where ids come from.
    pub ids: &'a dyn Ids,
    /// Whether messages that reach out have to ask for room ([`Effect::Ask`]) before they go.
    pub limited: bool,
}

/// What a journey is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// Something was written to the patient's record.
    Event(Event),
    /// Some timer is due.
    Timer {
        /// Feed number up to which the patient's events have been handled. Those that meant nothing
        /// before this move must not mean something when they are read again after a crash.
        read: u64,
    },
    /// What became of a message, known in the same unit of work.
    Receipt {
        /// Id of the `Communication`.
        communication: String,
        /// What became of it.
        outcome: Outcome,
    },
    /// A message was called off before it left, as an effect said; known in the same unit of work. Counts
    /// after the end too, because it is the end that calls messages off.
    CalledOff(Sent),
    /// What the record says to what a step asked; known in the same unit of work.
    Seen {
        /// The number of the place that asked.
        n: u32,
        /// Whether it is so.
        holds: bool,
    },
    /// What a step asked of the record can't be told: its condition can't be evaluated on what is there.
    Unclear {
        /// The number of the place that asked.
        n: u32,
    },
    /// Whether a message that asked may go out; known in the same unit of work.
    Room {
        /// The number of its place.
        n: u32,
        /// Which words.
        which: Which,
        /// The place of its channel.
        place: u8,
        /// What it was told.
        room: Room,
    },
    /// A message that asked is to try its channels in another order, which the patient prefers; known in the same unit
    /// of work.
    Ways {
        /// The number of its place.
        n: u32,
        /// Which words.
        which: Which,
        /// The places of its channels, as they are tried.
        places: Vec<u8>,
    },
    /// Somebody steps in.
    Manual(Manual),
}

/// A message that was put on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Step.
    pub step: String,
    /// Id of the `Communication`.
    pub communication: String,
    /// Channel.
    pub channel: Channel,
    /// Which words.
    pub which: Which,
}

/// An event of the patient's record.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number on the feed.
    pub number: u64,
    /// The resource, `Type/id`.
    pub reference: String,
    /// What it says.
    pub fact: Fact,
    /// Which of the definition's conditions hold of the resource.
    pub holds: Vec<usize>,
}

impl Event {
    /// What a look at segments has found, by the numbers of what holds. It says how it is and not what has happened,
    /// so that it may be told again and again.
    #[must_use]
    pub fn of_segments(holds: Vec<usize>) -> Self {
        Self {
            number: super::REPLAYED,
            reference: crate::segments::CAUSE.to_owned(),
            fact: Fact::Other,
            holds,
        }
    }
}

/// LOINC codes of a component of an `Observation`, and its value with the UCUM unit.
pub type Component = (Vec<String>, Option<(f64, String)>);

/// A fact, extracted from a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// A measurement; `value` is `None` when it was entered in error.
    Observation {
        /// Id.
        id: String,
        /// LOINC codes.
        codes: Vec<String>,
        /// Value and UCUM unit.
        value: Option<(f64, String)>,
        /// Codes and values of its components, as of a blood pressure.
        components: Vec<Component>,
        /// When it was measured.
        at_ms: u64,
    },
    /// A form was answered.
    Answers {
        /// The task that it answers, if it says so.
        task: Option<String>,
        /// The questionnaire's canonical reference, if it says so.
        questionnaire: Option<String>,
        /// Answers by `linkId`.
        answers: Map<String, Value>,
    },
    /// The patient replied to a form's text message with what is no answer.
    Reply {
        /// The form's task.
        task: String,
    },
    /// A task of staff.
    Task {
        /// Id.
        id: String,
        /// FHIR `Task.status`.
        status: String,
        /// Outcome, if there is one.
        outcome: Option<String>,
        /// Who owns it, and so has done it if it is done: an account, or a reference.
        by: Option<String>,
    },
    /// A call to a partner.
    Call {
        /// Id of the `Task` that stands for it.
        id: String,
        /// FHIR `Task.status`.
        status: String,
        /// Why it came to nothing, as a code of `urn:cairn:not-done`.
        code: Option<String>,
        /// Whether the partner may have done it all the same.
        may_be_done: bool,
        /// What was learnt from the answer, its status among it.
        values: Map<String, Value>,
    },
    /// A message.
    Message {
        /// Id of the `Communication`.
        id: String,
        /// What became of it.
        outcome: Outcome,
    },
    /// A visit.
    Visit {
        /// Id of the `Appointment`.
        id: String,
        /// FHIR `Appointment.status`.
        status: String,
        /// Start, if there is one.
        start_ms: Option<u64>,
        /// End, if there is one.
        end_ms: Option<u64>,
    },
    /// The patient's consents were decided anew.
    Consent {
        /// Whether they allow the journey's purpose.
        permitted: bool,
        /// When they may come to say something else, by their dates.
        next_ms: Option<u64>,
    },
    /// The entry resource was written again: its anchors.
    Anchors(BTreeMap<String, u64>),
    /// The entry resource is no entry any more: it was deleted, or recorded in error.
    EntryGone,
    /// The journey that began this one doesn't wait for it any more.
    LetGo,
    /// Nothing but the conditions matters.
    Other,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was delivered.
    Delivered,
    /// It was not; the code says why (`urn:cairn:not-done`).
    NotDone(String),
    /// It is still on its way.
    UnderWay,
}

/// What somebody can do by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manual {
    /// End the journey, with the reason in words.
    Stop(String),
    /// Hold it, or lead it on.
    Hand(Hand),
    /// A message that waits is not to be sent, by no channel.
    CallOff {
        /// The number of its place.
        n: u32,
        /// Which words.
        which: Which,
        /// What says so, `Type/id`.
        by: String,
    },
}

/// An act by hand, with who did it and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hand {
    /// What is done.
    pub act: Act,
    /// Why, in words.
    pub reason: String,
    /// Who, by name.
    pub by: String,
    /// The batch that it belongs to, if it does: one that was here before changes nothing.
    pub batch: Option<String>,
}

/// What is done by hand to a journey under way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Nothing is begun any more, and nothing goes out, until it goes on.
    Pause,
    /// It goes on, with what has been put off.
    Resume,
    /// A place is left as if what it waits for were done.
    Skip {
        /// The place's number.
        n: u32,
        /// The way on, by its number among those that the place can be left by.
        way: usize,
    },
    /// What is done at a place is begun anew.
    Retry {
        /// The place's number.
        n: u32,
    },
    /// The patient goes on at another step.
    Jump {
        /// The number of the place that is left; all of them if none.
        from: Option<u32>,
        /// The step.
        to: String,
    },
    /// The last skip, retry or jump is taken back.
    Undo,
}

/// What a first person did, for a second to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirms {
    /// Who did it.
    pub by: String,
    /// With which outcome, if they said so.
    pub outcome: Option<String>,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A form: the id of its `Task`.
    Form(String),
    /// A visit, proposed or booked.
    Visit {
        /// Id of the `Appointment`.
        appointment: String,
        /// When it begins.
        start_ms: u64,
        /// By when it has to be booked, while it isn't.
        by_ms: Option<u64>,
        /// The entry in the patient's calendar, where messages bring one.
        calendar: Option<Calendar>,
    },
}

/// A visit in the patient's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// When the visit ends.
    pub end_ms: u64,
    /// How often it was changed.
    pub sequence: u32,
    /// Whether it was called off.
    pub cancelled: bool,
}

impl About {
    /// `Type/id`.
    pub(crate) fn reference(&self) -> String {
        match self {
            Self::Form(task) => format!("Task/{task}"),
            Self::Visit { appointment, .. } => format!("Appointment/{appointment}"),
        }
    }
    /// The form's `Task`, of what is about one.
    pub(crate) fn form(&self) -> Option<&str> {
        match self {
            Self::Form(task) => Some(task),
            Self::Visit { .. } => None,
        }
    }
}

/// What is to be done outside the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask whether a message may reach out now, and say what it was told ([`Input::Room`]).
    Ask {
        /// Step.
        step: String,
        /// The number of the place.
        n: u32,
        /// Which words.
        which: Which,
        /// Channel.
        channel: Channel,
        /// The channel's place.
        place: u8,
        /// How much it can't wait.
        urgency: Urgency,
        /// Until when it may go out at all.
        until_ms: u64,
    },
    /// Put a message on its way.
    Send {
        /// Step.
        step: String,
        /// Id of the `Communication` to make.
        communication: String,
        /// Channel.
        channel: Channel,
        /// Which words.
        which: Which,
        /// Not after this time.
        expires_ms: u64,
        /// What it is about.
        about: Option<About>,
    },
    /// Look at the record for what a step asks, and say what it says ([`Input::Seen`]).
    Look {
        /// Step.
        step: String,
        /// The number of the place that asks.
        n: u32,
    },
    /// Look at the segments that the journey asks about, and say which hold ([`Input::Event`]).
    LookAtSegments,
    /// Call a message off if it hasn't left yet.
    CallOff {
        /// The message.
        message: Sent,
        /// Code of `urn:cairn:not-done`.
        code: String,
        /// Why, in words.
        why: String,
    },
    /// Hold a message back that hasn't left yet.
    Hold {
        /// The message.
        message: Sent,
    },
    /// Let a message go that was held back.
    Release {
        /// The message.
        message: Sent,
        /// Not after this time.
        expires_ms: u64,
        /// What it is about.
        about: Option<About>,
    },
    /// Open a form for the patient.
    OpenForm {
        /// Step.
        step: String,
        /// Id of the `Task` to make.
        task: String,
        /// Answer expected until.
        due_ms: u64,
    },
    /// Open a task for staff.
    OpenTask {
        /// Step.
        step: String,
        /// Id of the `Task` to make.
        task: String,
        /// Due.
        due_ms: u64,
        /// Role and priority, if they are not those of the step.
        whose: Option<(String, String)>,
        /// What somebody else did, if it is to confirm that.
        confirms: Option<Confirms>,
    },
    /// Hand a task over.
    HandOver {
        /// Id of the `Task`.
        task: String,
        /// To whom.
        role: String,
        /// New priority.
        priority: String,
    },
    /// Close a task or form.
    CloseTask {
        /// Id of the `Task`.
        task: String,
        /// Whether it was done; cancelled otherwise.
        done: bool,
        /// Why, in words.
        why: String,
    },
    /// Hold a call back that hasn't left yet.
    HoldTask {
        /// Id of the `Task`.
        task: String,
    },
    /// Let a call go that was held back.
    CallOn {
        /// Step.
        step: String,
        /// Id of the `Task`.
        task: String,
        /// Not after this time.
        until_ms: u64,
    },
    /// Take a call back that a partner has answered, or may have.
    TakeBack {
        /// Step.
        step: String,
        /// Id of the `Task` to make.
        task: String,
        /// Id of the `Task` of the call, which is its key.
        call: String,
        /// Not after this time.
        until_ms: u64,
        /// Id of the `Task` of what is taken back before it.
        after: Option<String>,
        /// What that call has learnt itself, where its state has kept it.
        learnt: Option<Map<String, Value>>,
    },
    /// Propose a visit.
    ProposeVisit {
        /// Step.
        step: String,
        /// Id of the `Appointment` to make.
        appointment: String,
        /// Start.
        start_ms: u64,
        /// End.
        end_ms: u64,
        /// To be booked by.
        by_ms: u64,
    },
    /// Take a proposal back.
    CancelVisit {
        /// Id of the `Appointment`.
        appointment: String,
        /// Why, in words.
        why: String,
    },
}

/// What came of an input.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The new state.
    pub state: State,
    /// What is to be done.
    pub effects: Vec<Effect>,
    /// Whether the state is another one.
    pub changed: bool,
}

impl Decision {
    /// What this one and the one before it have decided.
    pub(crate) fn after(mut self, before: Option<Self>) -> Self {
        if let Some(mut before) = before {
            before.effects.append(&mut self.effects);
            self.effects = before.effects;
            self.changed |= before.changed;
        }
        self
    }
}

/// Why an input could not be worked on. Nothing has happened then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The journey went round without waiting.
    #[error("journey goes round without waiting at step {0}")]
    Loop(String),
    /// The state belongs to another definition or version.
    #[error("the state is of {0}, not of this definition")]
    Pinned(String),
    /// The state names a step that the definition doesn't have.
    #[error("the state is at a step that the definition doesn't have: {0}")]
    NoStep(String),
    /// What somebody asked for by hand can't be done, for a reason in words for people.
    #[error("{0}")]
    Cannot(String),
    /// So much has happened while the journey was held that it can't be told of more.
    #[error(
        "the journey is held and can't remember more of what happens; play this again when it goes on"
    )]
    Full,
}

/// What a journey starts from.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The patient.
    pub patient: String,
    /// The id of the entry resource, or what a request is known by.
    pub key: String,
    /// What caused it, `Type/id`.
    pub cause: String,
    /// The event's number on the feed.
    pub number: u64,
    /// Anchors.
    pub anchors: BTreeMap<String, u64>,
    /// Measurements that are in the record already.
    pub observations: Vec<Fact>,
    /// Why the journey ends as soon as it begins: an exit's id and title.
    pub exit: Option<(String, String)>,
    /// Whether its date was past when it was learnt, and it begins where the file says for that.
    pub late: bool,
}

//! Pathways: the YAML language, its checker, the pure engine, the runner that moves patients along
//! the feed and the timers, and what pages want to know.
//!
//! The engine (`engine.rs`) is a pure function of definition, state, event and time; everything
//! durable happens in the runner (`runner.rs`), in one commit per cause. This crate never sends
//! anything: a message is an outbox entry in the commit of the move, and its receipt comes back as an
//! event. It knows no HTTP, and no database but the ledger below `trust`.
//!
//! The same engine leads one patient through virtual time (`ahead.rs`), for scenarios beside a journey
//! and for cohorts.
//!
//! Start reading at `spec.rs` (the language as tables), then `engine.rs`, then `runner.rs`.

mod ahead;
mod analysis;
mod batches;
mod beginnings;
mod beside;
mod books;
mod care_plan;
mod check;
mod connectors;
mod counts;
mod dates;
mod decode;
mod definition;
mod diff;
mod draw;
mod engine;
mod entries;
mod faces;
mod facts;
mod form;
mod format;
mod hands;
mod interest;
mod kept;
mod kinds;
mod languages;
mod learnt;
mod lists;
mod migrations;
mod mover;
mod passages;
mod places;
mod reading;
mod replay;
mod request;
mod resources;
mod room;
mod runner;
mod scenario;
mod schema;
mod segments;
mod service;
mod shared;
mod shown;
mod simulate;
mod spec;
mod stage;
mod stages;
mod starters;
mod state;
mod stays;
mod stuck;
mod studio;
mod suggest;
mod template;
mod time;
mod units;
mod watch;
mod words;
mod yaml;

pub use analysis::{
    Answer, Came, Case, CaseEvent, CaseWhat, CostRow, Costs, DAYS, DAYS_OF, Deviation,
    EndingReport, Exported, FEW_CASES, Fitness, Groups, KeptAnalysis, LogOf, LogSink, Net, Ocel,
    Outcome as OutcomeOfCase, OutcomeOf, OutcomeReport, OutcomeRow, OutcomeSplit, PATH_EVENTS_MAX,
    PATHS_MAX, PathReport, Pseudonyms, Quantiles, Report, ScoreReport, ScoreRow, ScoreSplit,
    SimulatedMessages, Split, SplitRow, StepFlow, StepReport, Sums, Times, WayOut, Xes,
};
pub use batches::{
    BATCH_MAX, Batch, BatchForeseen, FAILURES_MAX, Failure, FailurePage, FailurePlace, Many,
    Paused, RATE_MAX, Stage, Who,
};
pub use beginnings::{Beginnings, NotBegun, ToBegin};
pub use books::Figures;
pub use check::{CODES, section, why};
pub use connectors::{check_connectors, with_connectors};
pub use definition::{Channel, Definition};
pub use diff::{Change, Changes, diff, diff_text};
pub use draw::{Drawing, draw};
pub use engine::{
    About, Act, Calendar, Confirms, Context, Decision, Effect, EngineError, Event, Fact, Goes,
    Hand, Ids, Input, Manual, Map, Migration, Outcome, REPLAYED, Sent, Start, migrate, start, step,
    take_back, timers,
};
pub use entries::BEGINNINGS;
pub use faces::{Draft, Left, export, import};
pub use format::format;
pub use hands::{Foreseen, GoesView, HandView, PausedView, PlaceView, StepView};
pub use languages::preferred_language;
pub use lists::{HereAfter, HerePage, HereView};
pub use migrations::{
    Differs, Moving, NAMED_MAX, NamedPage, OneMoved, Outcome as MoveOutcome, PlanChange, Portion,
    Preview, Sum, Which as WhichMoved,
};
pub use passages::{Passed, PassedPage, PassedView};
pub use places::BUSY_RETRY_S;
pub use replay::{
    Compares, REPLAYED_MAX, ReplayNote, ReplayRow, ReplaySum, ReplaySummary, Replayed,
};
pub use request::{Begun, NotStarted, Wish};
pub use room::{Room, Urgency, Why};
pub use scenario::{ScenarioResult, Tested, scenario_schema, test};
pub use schema::{connectors_schema, reference, schema, segments_schema};
pub use segments::{check_segments, members::SEGMENT_MEMBERS, with_segments};
pub use service::Journeys;
pub use shared::{Inserted, Merged, NotMerged};
pub use simulate::{
    Behaviour, Beside, Cost, Ending, GoalReached, RoleLoad, Simulated, Size, behaviour_schema,
    simulate, simulate_unless,
};
pub use stages::{Rollout, SITES_MAX, StageMove, StageView, VersionStage};
pub use starters::{STARTERS, Starter};
pub use state::{State, StateError, Which};
pub use stays::Stay;
pub use stuck::{Reason, StuckView};
pub use studio::{AgainstLive, Looked, Marks};
pub use suggest::Beginning;

/// Kind of the documents that hold [`DeadLetter`]s.
pub const DEAD_LETTER: ledger::Kind = ledger::Kind(1050);

/// Kind of what a patient's journeys have sent and what waits for room, one document a patient.
pub const MESSAGE_BOOK: ledger::Kind = ledger::Kind(1057);

/// An error of the journey context.
#[derive(Debug, thiserror::Error)]
pub enum JourneyError {
    /// The file has errors; nothing was published.
    #[error("the journey has {} finding(s)", .0.len())]
    Findings(Vec<Finding>),
    /// No such journey or version.
    #[error("no journey {0}")]
    Unknown(String),
    /// Trust's error.
    #[error(transparent)]
    Trust(trust::TrustError),
    /// What somebody asked for by hand can't be done, for a reason in words for people.
    #[error("it can't be done: {0}")]
    Cannot(String),
    /// A request doesn't start a journey.
    #[error(transparent)]
    NotStarted(#[from] NotStarted),
    /// As many looks ahead at many patients are worked on as may be at once, of one organisation or of all: whoever asks
    /// comes again after [`BUSY_RETRY_S`] seconds.
    #[error("{}", busy(*.of_all))]
    Busy {
        /// Whether it is this server that has no place, and not the organisation.
        of_all: bool,
    },
    /// A stored journey or a patient's place in it can't be worked on.
    #[error("a journey can't be worked on: {0}")]
    Broken(String),
}

fn busy(of_all: bool) -> &'static str {
    if of_all {
        "this server works on as many previews as it can; ask again in a few seconds"
    } else {
        "as many previews of this organisation are worked on as may be at once; ask again in a few seconds"
    }
}

impl From<trust::TrustError> for JourneyError {
    fn from(error: trust::TrustError) -> Self {
        Self::Trust(error)
    }
}

impl From<mover::MoveError> for JourneyError {
    fn from(error: mover::MoveError) -> Self {
        match error {
            mover::MoveError::Trust(error) => Self::Trust(error),
            mover::MoveError::Engine(error) => error.into(),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// What became of stopping all journeys of a patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Those that ran and have been ended.
    pub stopped: usize,
    /// Those that run or may run, and could not be ended: this program doesn't know their version or their state.
    pub failed: usize,
}

/// What the checker found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Code with a page in `docs/journeys/checks.md`, e.g. `J012`.
    pub code: String,
    /// Whether it stops publishing.
    pub error: bool,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong and what to do, in words.
    pub message: String,
}

/// A published version, for lists.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VersionView {
    /// Journey name (`heart-failure-discharge`).
    pub name: String,
    /// Title.
    pub title: String,
    /// Version.
    pub version: u32,
    /// When it was published, care clock.
    pub published_ms: u64,
    /// By whom.
    pub published_by: String,
    /// Patients in it now.
    pub running: u64,
    /// Patients that have left it.
    pub ended: u64,
    /// Whether new patients start on it.
    pub live: bool,
    /// How far it is.
    pub stage: VersionStage,
    /// Of a staged one: so many in a hundred of the new patients start on it.
    pub share: u8,
    /// Of a staged one: those of these organizations; of all where none is named.
    pub sites: Vec<String>,
    /// What it comes to together with the other journeys that are live, told when it is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl VersionView {
    /// Which new patients start on it, where it is staged.
    #[must_use]
    pub fn rollout(&self) -> Rollout {
        Rollout {
            share: self.share,
            sites: self.sites.clone(),
        }
    }
}

/// A node of the graph with its counts.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NodeView {
    /// Step id.
    pub id: String,
    /// Step kind (`send`, `ask`, `wait`, ...).
    pub kind: String,
    /// Title.
    pub title: String,
    /// Patients that are here now.
    pub here: u64,
    /// How often patients came here.
    pub entered: u64,
    /// Patients that ended the journey from here (drop-off).
    pub ended_here: u64,
    /// Passages through here: how often somebody left it and went on.
    pub left: u64,
    /// Those passages by how long they took, by [`Stay`].
    pub stays: Vec<u64>,
    /// Median time spent here, milliseconds, of those that left.
    pub dwell_median_ms: Option<u64>,
    /// Words to the patient, where there are some.
    pub words: Option<String>,
    /// Whether people are led to it and on from it. What just watches them, and the graph's beginning and
    /// end, are no places to be at.
    pub passes: bool,
}

/// An edge with its count.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EdgeView {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// Label (`after 24 h`, `answered`, ...).
    pub label: String,
    /// Patients that went this way.
    pub count: u64,
}

/// The graph of one version.
#[derive(Debug, Clone, serde::Serialize)]
pub struct GraphView {
    /// The version.
    pub version: VersionView,
    /// Patients who began in this version, wherever they are now.
    pub started: u64,
    /// How often somebody came to it from another version.
    pub moved_in: u64,
    /// How often somebody went on by another version.
    pub moved_out: u64,
    /// Nodes in reading order.
    pub nodes: Vec<NodeView>,
    /// Edges.
    pub edges: Vec<EdgeView>,
    /// How journeys ended: reason and count.
    pub endings: Vec<(String, u64)>,
    /// The file.
    pub source: String,
}

/// A patient's place in a journey.
#[derive(Debug, Clone, serde::Serialize)]
pub struct InstanceView {
    /// Instance id.
    pub id: String,
    /// Patient id.
    pub patient: String,
    /// Journey name.
    pub journey: String,
    /// Title.
    pub title: String,
    /// Version that the patient is on.
    pub version: u32,
    /// When it started, care clock.
    pub started_ms: u64,
    /// How it ended, if it did.
    pub ended: Option<(u64, String)>,
    /// Where the patient is, and what is waited for since when and until when, in words.
    pub waiting: Vec<WaitView>,
    /// What has happened, oldest first.
    pub trail: Vec<TrailView>,
    /// What is planned if nothing else happens, soonest first.
    pub planned: Vec<PlannedView>,
    /// What it does, as consents are asked about it.
    #[serde(skip)]
    pub act: trust::consent::Act,
    /// Whether it ends when consents no longer allow that; else it goes on without sending anything.
    pub ends_without_consent: bool,
    /// What can be done to it by hand; only of journeys that are shown for that.
    pub hand: HandView,
}

/// One wait.
#[derive(Debug, Clone, serde::Serialize)]
pub struct WaitView {
    /// Step id.
    pub step: String,
    /// Step title.
    pub title: String,
    /// For what, in words (to staff).
    pub what: String,
    /// For what, in plain words to the patient; empty if it is none of their concern.
    pub plain: String,
    /// Since when.
    pub since_ms: u64,
    /// Until when, if it has an end.
    pub until_ms: Option<u64>,
    /// Resource that the patient or staff can act on, e.g. `Task/ID`.
    pub reference: Option<String>,
}

/// Something that has happened.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TrailView {
    /// When.
    pub at_ms: u64,
    /// Step id.
    pub step: String,
    /// What, in words.
    pub what: String,
    /// Why (the event or timer that caused it), in words.
    pub why: String,
    /// Resource that came of it.
    pub reference: Option<String>,
    /// Of a message: by which channel it was put on its way, or could not be brought.
    #[serde(skip)]
    pub message: Option<MessageTrail>,
}

/// What became of a message, as far as its journey goes on by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageTrail {
    /// It was put on its way.
    Sent(Channel),
    /// It could not be brought by this channel.
    Undelivered(Channel),
}

/// Something that is planned.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlannedView {
    /// When.
    pub at_ms: u64,
    /// Step id.
    pub step: String,
    /// What, in words.
    pub what: String,
    /// In plain words to the patient; empty if it is none of their concern.
    pub plain: String,
}

/// An event or timer that no journey could be moved by, kept so that nothing is passed over in silence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: String,
    /// The shard.
    pub shard: u16,
    /// The event's number on the shard's feed, or when the timer was due.
    pub number: u64,
    /// Kind of the event's document; 0 for timers.
    pub kind: u16,
    /// The instance that could not be moved; none when the event failed as a whole.
    pub instance: Option<String>,
    /// Whether it only waits for a program that can work on it, because this one doesn't know the
    /// journey's version or the form of the state. Such a program plays it again when it starts.
    #[serde(default)]
    pub waits: bool,
    /// What went wrong, without patient details.
    pub error: String,
    /// When, care clock.
    pub at_ms: u64,
}

/// Checks a journey file without publishing it. Pure.
#[must_use]
pub fn check(source: &str) -> Vec<Finding> {
    check::compile(source).1
}

/// The same, with whom it calls held against the partners of an organisation at a time (milliseconds since the epoch).
#[must_use]
pub fn check_with(source: &str, partners: &trust::partners::Partners, now_ms: u64) -> Vec<Finding> {
    let (definition, mut findings) = check::compile(source);
    if let Some(definition) = definition {
        findings.extend(check::partners(&definition, partners, now_ms, true));
    }
    findings.sort_by(|a, b| (a.line, a.column, &a.code).cmp(&(b.line, b.column, &b.code)));
    findings
}

//! What a journey's past teaches: where everyone is, how far they come, where they stay and drop off, what is late,
//! which paths were gone, and how far these are the ones that were drawn.
//!
//! `case.rs` makes an event log's case of what is kept of a patient's journey. Everything else is a pure function
//! over cases, one at a time: `sums.rs` adds them up in memory that is bounded by the definition and by
//! [`PATHS_MAX`], `crowd.rs` knows what is not told because it would be of few people, `outcomes.rs` tells what came of
//! a patient besides, and `log.rs` writes them for others to analyse. `net.rs` draws the definition as a Petri net,
//! and `align.rs` holds a path against it. `gather.rs` reads the cases; it is all that knows of a store.

mod align;
mod case;
mod costs;
mod crowd;
mod flow;
mod gather;
mod log;
mod net;
mod outcomes;
mod report;
mod split;
mod sums;
mod tally;
mod words;

pub use case::{Answer, Case, CaseEvent, What as CaseWhat};
pub use costs::{CostRow, Costs, SimulatedMessages};
pub use crowd::FEW_CASES;
pub use flow::{StepFlow, WayOut};
pub(crate) use gather::Analysing;
pub use gather::{Exported, Kept as KeptAnalysis, LogOf};
pub use log::{LogSink, Ocel, Pseudonyms, Times, Xes};
pub use net::Net;
pub use outcomes::{Came, DAYS, DAYS_OF, Outcome, OutcomeOf};
pub use report::{
    Deviation, EndingReport, Fitness, OutcomeReport, OutcomeRow, OutcomeSplit, PathReport,
    Quantiles, Report, ScoreReport, ScoreRow, ScoreSplit, Split, SplitRow, StepReport,
};
pub use split::Groups;
pub use sums::{PATH_EVENTS_MAX, PATHS_MAX, Sums};

/// How an activity is called that is an ending.
pub(crate) fn ending(code: &str) -> String {
    format!("end:{code}")
}
/// How an activity is called that is a late answer to a step's form.
pub(crate) fn late_answer(step: &str) -> String {
    format!("{step}:late")
}
/// How an activity is called that is a reply to a step's form which is no answer.
pub(crate) fn reply(step: &str) -> String {
    format!("{step}:reply")
}

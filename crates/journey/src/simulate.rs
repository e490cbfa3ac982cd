//! A cohort in virtual time, led by the production engine.
//!
//! Each patient is one run of [`crate::ahead`], with what they and staff do drawn from a table of shares
//! and delays (`behaviour.rs`). A draw hangs on nothing but the seed, the patient and what it is for, so
//! the same seed gives the same report on any number of threads, and a changed journey meets the same
//! patients.

mod behaviour;
mod model;
mod patient;
mod report;
mod tally;

pub use behaviour::Behaviour;
pub use report::{Cost, Ending, GoalReached, RoleLoad, Simulated};

use crate::definition::Definition;
use crate::form;
use model::Model;
use serde_json::Value;
use tally::Tally;

/// 2026-01-01T00:00:00Z: a fixed day, so that weekdays and clock changes are the same each time.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// How large a simulation is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Patients who start.
    pub patients: u32,
    /// Days over which they start, and after which nobody is looked at any more.
    pub days: u32,
    /// What everything that is drawn hangs on.
    pub seed: u64,
    /// Threads to use.
    pub threads: usize,
}

/// The form of files of behaviour as JSON Schema (2020-12), for completion and checks in an editor.
#[must_use]
pub fn behaviour_schema() -> Value {
    form::schema(
        "urn:cairn:schema:behaviour",
        "Cairn journey behaviour",
        &behaviour::BEHAVIOUR,
    )
}

/// Leads a cohort along a journey.
#[must_use]
pub fn simulate(definition: &Definition, behaviour: &Behaviour, size: Size) -> Simulated {
    let model = Model::new(definition, behaviour);
    let threads = u32::try_from(size.threads.max(1)).unwrap_or(1);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|first| {
                let model = &model;
                scope.spawn(move || {
                    let mut part = Tally::default();
                    for number in (first..size.patients).step_by(threads as usize) {
                        let time = (BEGIN_MS, size.days.max(1));
                        let led = patient::lead(model, &mut part, size.seed, number, time);
                        if let Err(error) = led {
                            part.refuse(error.to_string());
                        }
                    }
                    part
                })
            })
            .collect();
        for part in parts {
            match part.join() {
                Ok(part) => tally.merge(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    report::report(&model, &tally, size)
}

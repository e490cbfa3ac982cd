//! What is known of how a version goes at any moment, from the counts that are kept as patients move: reading it costs
//! the same with a hundred thousand patients as with ten.

use super::report::Quantiles;
use crate::{JourneyError, Journeys};
use trust::Permit;

/// How long people stay at a step, and what is late there.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StepFlow {
    /// The step's id.
    pub id: String,
    /// How long those stayed who went on.
    pub dwell: Quantiles,
    /// All of that time together, milliseconds. A part that has steps of its own has none.
    pub spent_ms: u64,
    /// The ways that were gone because time had run out, or a patient did not come.
    pub late: Vec<WayOut>,
}

/// A way out of a step, and how often it was gone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WayOut {
    /// Its label.
    pub label: String,
    /// Where it leads to; `end` where a branch ends.
    pub to: String,
    /// How often.
    pub count: u64,
}

impl Journeys {
    /// How long people stay at the steps of a version (`None`: the live one), and what is late there, in the file's
    /// order.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn flow(
        &self,
        permit: &Permit,
        name: &str,
        version: Option<u32>,
    ) -> Result<Vec<StepFlow>, JourneyError> {
        super::gather::may_observe(permit)?;
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, name, version)?;
        let counts = books.counts(&published.stored.name, published.stored.version);
        let steps = published.definition.steps.iter();
        let flow = steps.map(|step| {
            let late = counts
                .ways(&step.id)
                .filter(|(_, label, _)| step.kind.ran_out(label) || step.kind.missed(label))
                .map(|(to, label, count)| WayOut {
                    label: label.to_owned(),
                    to: to.to_owned(),
                    count,
                });
            let dwell = counts.dwell(&step.id);
            StepFlow {
                id: step.id.clone(),
                dwell: dwell
                    .map(crate::counts::Dwell::quantiles)
                    .unwrap_or_default(),
                spent_ms: dwell
                    .filter(|_| step.kind.encloses().is_none())
                    .map_or(0, crate::counts::Dwell::sum_ms),
                late: late.collect(),
            }
        });
        Ok(flow.collect())
    }
}

//! A rule over the patient's measurements. It watches beside everything else; [`crate::watch`] has its
//! arithmetic.

use super::{StepKind, Waiting, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, number};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Engine, Fact, moment};
use crate::spec::{Kind, Record, Shape, may, must};
use crate::state::{State, What};
use crate::time::{DAY_MS, HOUR_MS, Moment, say_duration};
use crate::units;
use crate::watch;
use crate::yaml::{Node, Place};
use fhir::ResourceType;
use serde_json::json;
use std::sync::Arc;

static OBSERVE: Record = Record {
    name: "observe",
    doc: "A rule over the patient's measurements. It watches from the journey's start, beside everything else, and starts `then` each time it fires.",
    one_of: &["rises_more_than", "falls_more_than"],
    fields: &[
        must("code", Shape::Loinc, "LOINC code of the `Observation`."),
        must(
            "unit",
            Shape::Unit,
            "UCUM unit of the threshold; measurements in other units of the same dimension are converted.",
        ),
        may(
            "rises_more_than",
            Shape::Positive,
            "Fires when a value is greater than an earlier one by more than this, in `unit`.",
        ),
        may(
            "falls_more_than",
            Shape::Positive,
            "Fires when a value is less than an earlier one by more than this, in `unit`.",
        ),
        must(
            "within",
            Shape::Duration,
            "The most time that may lie between the two measurements.",
        ),
        may(
            "quiet_for",
            Shape::Duration,
            "After it fired, how long it stays quiet; `24h` if not given. Whatever this says, the same rise never fires twice: after firing, only measurements from the one that fired on are compared.",
        ),
        may(
            "until",
            Shape::Moment,
            "When to stop watching; the end of the journey if not given.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "observe",
    doc: OBSERVE.doc,
    body: Shape::Record(&OBSERVE),
    ways: &[must(
        "then",
        Shape::Target,
        "Where a side branch starts each time the rule fires.",
    )],
    example: "weight_watch:\n  title: Weight watch\n  observe:\n    code: 29463-7\n    unit: kg\n    rises_more_than: 2\n    within: 3d\n    quiet_for: 24h\n  then: weight_task\n",
    decode,
};

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

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    let falls = body.get("falls_more_than").is_some();
    let threshold = if falls {
        "falls_more_than"
    } else {
        "rises_more_than"
    };
    Some(Arc::new(Observe {
        code: line(body, "code")?,
        unit: line(body, "unit")?,
        more_than: number(body, threshold)?,
        falls,
        within_ms: length(body, "within")?,
        quiet_ms: length(body, "quiet_for").unwrap_or(DAY_MS),
        until: body
            .get("until")
            .and_then(Node::text)
            .and_then(|text| Moment::parse(text).ok()),
        then: parts.way("then")?,
    }))
}

impl StepKind for Observe {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        vec![way(crate::passages::FIRES, &self.then, false)]
    }
    fn gives(&self) -> Vec<String> {
        ["rise", "from", "to", "unit", "hours"]
            .map(str::to_owned)
            .to_vec()
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Observation]
    }
    fn watches(&self) -> bool {
        true
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        if let Some(message) = units::mismatch(&self.code, &self.unit) {
            let place = check.at(step, &["observe", "unit"]);
            check.findings.error("J022", place, message);
        }
        if self.within_ms < HOUR_MS {
            let place = check.at(step, &["observe", "within"]);
            check.findings.warning(
                "J023",
                place,
                format!(
                    "a window of {} is shorter than an hour; few patients measure that often",
                    say_duration(self.within_ms)
                ),
            );
        }
    }
    fn moments(&self, check: &Check<'_, '_>, step: &Step) -> Vec<(&Moment, Place)> {
        self.until
            .iter()
            .map(|moment| (moment, check.at(step, &["observe", "until"])))
            .collect()
    }

    fn measured(&self, engine: &mut Engine<'_>, step: &Step, fact: &Fact) {
        let Fact::Observation {
            id,
            codes,
            value,
            at_ms,
        } = fact
        else {
            return;
        };
        if !codes.contains(&self.code) {
            return;
        }
        let over = self
            .until
            .as_ref()
            .is_some_and(|until| *at_ms > moment(engine.definition, &engine.state, until));
        // A clock that runs wrong must not push the window into the future: readings of now would lie
        // before it, and nobody would look at them. What was dated anew like that is taken out.
        let usable = !over && *at_ms <= engine.context.now_ms + DAY_MS;
        let value = value
            .as_ref()
            .filter(|_| usable)
            .and_then(|(value, unit)| units::convert(*value, unit, &self.unit));
        if let Some(watch) = engine.state.watches.get_mut(&step.id) {
            watch.record(self, id, *at_ms, value);
        }
    }
    fn look(&self, engine: &mut Engine<'_>, step: &Step) -> bool {
        let now_ms = engine.context.now_ms;
        let Some(change) = engine
            .state
            .watches
            .get_mut(&step.id)
            .and_then(|watch| watch.look(self, now_ms))
        else {
            return false;
        };
        let rise = watch::number(change.to_millionths - change.from_millionths);
        let hours = (change.to_ms - change.from_ms) / HOUR_MS;
        for (member, value) in [
            ("rise", rise),
            ("from", watch::number(change.from_millionths)),
            ("to", watch::number(change.to_millionths)),
            ("unit", json!(self.unit)),
            ("hours", json!(hours)),
        ] {
            engine.learn(&step.id, member, value);
        }
        let to = engine.names(&self.then);
        engine.trail(&step.id, What::Fired { to }, None);
        engine.spawn(&self.then);
        true
    }
    fn compares(&self) -> Option<(&str, u64)> {
        Some((&self.code, self.within_ms))
    }

    fn watching(&self, definition: &Definition, state: &State, _: &Step) -> Option<Waiting> {
        let name = units::loinc_name(&self.code)
            .map_or_else(|| format!("LOINC {}", self.code), str::to_lowercase);
        let verb = if self.falls { "falls" } else { "rises" };
        Some(Waiting {
            what: format!(
                "Watches whether {name} {verb} by more than {} {} in {}",
                self.more_than,
                self.unit,
                say_duration(self.within_ms)
            ),
            plain: String::new(),
            until_ms: self
                .until
                .as_ref()
                .map(|until| moment(definition, state, until)),
        })
    }
}

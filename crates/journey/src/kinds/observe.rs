//! A rule over the patient's measurements. It watches beside everything else; [`crate::watch`] has its
//! arithmetic.

use super::{Ruled, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, number};
use crate::definition::{Definition, Step, Target, Way};
use crate::engine::{Engine, Fact, moment};
use crate::spec::{Kind, Record, Shape, may, must};
use crate::state::{State, What};
use crate::time::{DAY_MS, HOUR_MS, Moment, say_duration};
use crate::units;
use crate::watch::{self, Found, Watch};
use crate::yaml::{Node, Place};
use fhir::ResourceType;
use fhir::path::Given;
use serde_json::{Value, json};
use std::sync::Arc;

/// Means are of so many readings at least, if the file doesn't say.
const MEAN_OF: u32 = 2;

static OBSERVE: Record = Record {
    name: "observe",
    doc: "A rule over the patient's measurements. It watches from the journey's start, beside everything else, and starts `then` each time it fires.",
    one_of: &[
        "rises_more_than",
        "falls_more_than",
        "mean_above",
        "mean_below",
        "above",
        "below",
        "none_for",
    ],
    fields: &[
        must(
            "code",
            Shape::Loinc,
            "LOINC code of the `Observation`, or of one of its components, as of a blood pressure.",
        ),
        may(
            "unit",
            Shape::Unit,
            "UCUM unit of the threshold; measurements in other units of the same dimension are converted. With `none_for` it may be left out: then a reading counts whatever its unit.",
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
        may(
            "mean_above",
            Shape::Positive,
            "Fires when the mean of the readings `within` so long is greater than this, in `unit`.",
        ),
        may(
            "mean_below",
            Shape::Positive,
            "Fires when the mean of the readings `within` so long is less than this, in `unit`.",
        ),
        may(
            "above",
            Shape::Positive,
            "Fires when a single reading is greater than this, in `unit`.",
        ),
        may(
            "below",
            Shape::Positive,
            "Fires when a single reading is less than this, in `unit`.",
        ),
        may(
            "readings",
            Shape::Integer(2, 256),
            "With a mean: of how many readings at least; 2 if not given. Of more than 256 in one window the newest count.",
        ),
        may(
            "none_for",
            Shape::Duration,
            "Fires when there has been no reading for so long, counted from the newest one, or from the journey's start; once for each such silence. A reading ends it.",
        ),
        may(
            "within",
            Shape::Duration,
            "The most time that may lie between the two measurements, or between the first and the last of a mean. Of a single reading, how long after it was made it may be told of; `24h` if not given.",
        ),
        may(
            "quiet_for",
            Shape::Duration,
            "After it fired, how long it stays quiet; `24h` if not given. Whatever this says, the same rise never fires twice: after firing, only measurements from the one that fired on are compared, and a mean or a single reading is of those after it.",
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
    /// Empty where any will do.
    pub(crate) unit: String,
    pub(crate) rule: Rule,
    /// Of a silence, how long it is.
    pub(crate) within_ms: u64,
    pub(crate) quiet_ms: u64,
    pub(crate) until: Option<Moment>,
    pub(crate) then: Target,
}

/// What a rule fires at, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Rises(f64),
    Falls(f64),
    /// The mean, of so many readings at least.
    Above(f64, u32),
    Below(f64, u32),
    /// One reading.
    Over(f64),
    Under(f64),
    /// No reading at all.
    None,
}

impl Rule {
    fn is_mean(self) -> bool {
        matches!(self, Self::Above(..) | Self::Below(..))
    }
    pub(crate) fn is_single(self) -> bool {
        matches!(self, Self::Over(_) | Self::Under(_))
    }
    /// Whether a single reading is what it is about.
    pub(crate) fn is_beyond(self, value_millionths: i64) -> bool {
        match self {
            Self::Over(bound) => value_millionths > watch::millionths(bound),
            Self::Under(bound) => value_millionths < watch::millionths(bound),
            _ => false,
        }
    }
}

fn rule(body: &Node) -> Option<Rule> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number up to 256"
    )]
    let readings = number(body, "readings").map_or(MEAN_OF, |readings| readings as u32);
    let threshold = |name: &str| number(body, name);
    threshold("rises_more_than")
        .map(Rule::Rises)
        .or_else(|| threshold("falls_more_than").map(Rule::Falls))
        .or_else(|| threshold("mean_above").map(|mean| Rule::Above(mean, readings)))
        .or_else(|| threshold("mean_below").map(|mean| Rule::Below(mean, readings)))
        .or_else(|| threshold("above").map(Rule::Over))
        .or_else(|| threshold("below").map(Rule::Under))
        .or_else(|| body.get("none_for").map(|_| Rule::None))
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    let none_for_ms = length(body, "none_for");
    let rule = rule(body)?;
    let within_ms = if rule.is_single() { DAY_MS } else { 0 };
    Some(Arc::new(Observe {
        code: line(body, "code")?,
        unit: line(body, "unit").unwrap_or_default(),
        rule,
        within_ms: none_for_ms.or(length(body, "within")).unwrap_or(within_ms),
        quiet_ms: length(body, "quiet_for").unwrap_or(DAY_MS),
        until: body
            .get("until")
            .and_then(Node::text)
            .and_then(|text| Moment::parse(text).ok()),
        then: parts.way("then")?,
    }))
}

impl Observe {
    /// Members that go with a rule, or don't.
    fn check_members(&self, check: &mut Check<'_, '_>, step: &Step) {
        let has = |name: &str| check.node(step, &["observe", name]).map(|node| node.place);
        let silence = self.rule == Rule::None;
        let mut wrong = Vec::new();
        for name in ["unit", "within"] {
            let single = name == "within" && self.rule.is_single();
            if !silence && !single && has(name).is_none() {
                let words = format!("`{}` compares values, and needs `{name}` for that", step.id);
                wrong.push(("J003", step.place, words));
            }
        }
        for (name, goes, with) in [
            ("within", !silence, "a rule about values"),
            ("quiet_for", !silence, "a rule about values"),
            ("readings", self.rule.is_mean(), "a mean"),
        ] {
            if let Some(place) = has(name).filter(|_| !goes) {
                let words = format!("`{name}` goes with {with} only");
                wrong.push(("J004", place, words));
            }
        }
        for (code, place, words) in wrong {
            check.findings.error(code, place, words);
        }
    }

    /// When a silence fires, if nothing is measured: nothing where it has, or where nobody watches then.
    fn silence(&self, definition: &Definition, state: &State, watch: &Watch) -> Option<(u64, u64)> {
        let began_ms = watch.silence_ms(state.started_ms)?;
        let due_ms = began_ms.saturating_add(self.within_ms);
        let over = |until: &Moment| due_ms > moment(definition, state, until);
        (!self.until.as_ref().is_some_and(over)).then_some((began_ms, due_ms))
    }

    /// Looks whether it fires, and what is learnt then.
    fn fires(&self, engine: &mut Engine<'_>, step: &Step) -> Option<Vec<(&'static str, Value)>> {
        let now_ms = engine.context.now_ms;
        if self.rule == Rule::None {
            let watch = engine.state.watches.get(&step.id)?;
            let (began_ms, due_ms) = self.silence(engine.definition, &engine.state, watch)?;
            if now_ms < due_ms {
                return None;
            }
            engine.state.watches.get_mut(&step.id)?.fired(began_ms);
            return Some(vec![("hours", json!((now_ms - began_ms) / HOUR_MS))]);
        }
        let unit = ("unit", json!(self.unit));
        Some(
            match engine.state.watches.get_mut(&step.id)?.look(self, now_ms)? {
                Found::Change(change) => vec![
                    (
                        "rise",
                        watch::number(change.to_millionths - change.from_millionths),
                    ),
                    ("from", watch::number(change.from_millionths)),
                    ("to", watch::number(change.to_millionths)),
                    unit,
                    ("hours", json!((change.to_ms - change.from_ms) / HOUR_MS)),
                ],
                Found::Mean(mean) if self.rule.is_single() => vec![
                    ("value", watch::number(mean.mean_millionths)),
                    unit,
                    ("hours", json!(now_ms.saturating_sub(mean.to_ms) / HOUR_MS)),
                ],
                Found::Mean(mean) => vec![
                    ("mean", watch::number(mean.mean_millionths)),
                    ("readings", json!(mean.readings)),
                    unit,
                    ("hours", json!((mean.to_ms - mean.from_ms) / HOUR_MS)),
                ],
            },
        )
    }
}

impl StepKind for Observe {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        vec![way(crate::passages::FIRES, &self.then, false)]
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let hours = ("hours", Given::Integer);
        let unit = ("unit", Given::Code(vec![self.unit.as_str()]));
        let number = |name| (name, Given::Number);
        match self.rule {
            Rule::Rises(_) | Rule::Falls(_) => {
                vec![number("rise"), number("from"), number("to"), unit, hours]
            }
            Rule::Above(..) | Rule::Below(..) => {
                vec![number("mean"), ("readings", Given::Integer), unit, hours]
            }
            Rule::Over(_) | Rule::Under(_) => vec![number("value"), unit, hours],
            Rule::None => vec![hours],
        }
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Observation]
    }
    fn watches(&self) -> bool {
        true
    }
    // That nobody measured is reason enough to remind, and no risk yet.
    fn tells_risk(&self) -> Vec<&str> {
        match self.rule {
            Rule::None => Vec::new(),
            _ if !units::tells_risk(&self.code) => Vec::new(),
            _ => self.gives().into_iter().map(|(name, _)| name).collect(),
        }
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        self.check_members(check, step);
        if let Some(message) = units::mismatch(&self.code, &self.unit) {
            let place = check.at(step, &["observe", "unit"]);
            check.findings.error("J022", place, message);
        }
        let (name, what) = match self.rule {
            Rule::None => ("none_for", "a silence"),
            _ => ("within", "a window"),
        };
        let at = check.node(step, &["observe", name]).map(|node| node.place);
        if let Some(place) = at.filter(|_| self.within_ms < HOUR_MS) {
            let length = say_duration(self.within_ms);
            let words = format!(
                "{what} of {length} is shorter than an hour; few patients measure that often"
            );
            check.findings.warning("J023", place, words);
        }
        let longest_ms = check.definition.at_most_ms;
        if let Some(place) = at.filter(|_| self.rule == Rule::None && self.within_ms >= longest_ms)
        {
            let words = format!(
                "the journey's `at_most` of {} is over before it has been silent for so long, so this never fires",
                say_duration(longest_ms)
            );
            check.findings.error("J023", place, words);
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
            components,
            at_ms,
        } = fact
        else {
            return;
        };
        // What was of this code and, corrected, is of another is no reading any more.
        let mut parts = components.iter();
        let value = if !codes.contains(&self.code) {
            let part = parts.find(|(codes, _)| codes.contains(&self.code));
            part.and_then(|(_, value)| value.as_ref())
        } else if self.rule == Rule::None && self.unit.is_empty() {
            // A panel has its values in its components.
            value
                .as_ref()
                .or_else(|| parts.find_map(|(_, value)| value.as_ref()))
        } else {
            value.as_ref()
        };
        let over = self
            .until
            .as_ref()
            .is_some_and(|until| *at_ms > moment(engine.definition, &engine.state, until));
        // A clock that runs wrong must not push the window into the future: readings of now would lie
        // before it, and nobody would look at them. What was dated anew like that is taken out.
        let now_ms = engine.context.now_ms;
        let late = self.rule.is_single() && at_ms.saturating_add(self.within_ms) < now_ms;
        let usable = !over && !late && *at_ms <= now_ms + DAY_MS;
        let value = value
            .filter(|_| usable)
            .and_then(|(value, unit)| match self.unit.as_str() {
                "" => Some(*value),
                wanted => units::convert(*value, unit, wanted),
            });
        if let Some(watch) = engine.state.watches.get_mut(&step.id) {
            watch.record(self, id, *at_ms, value);
        }
    }
    fn look(&self, engine: &mut Engine<'_>, step: &Step) -> bool {
        let Some(learnt) = self.fires(engine, step) else {
            return false;
        };
        for (member, value) in learnt {
            engine.learn(&step.id, member, value);
        }
        let to = engine.names(&self.then);
        engine.trail(&step.id, What::Fired { to }, None);
        engine.spawn(&self.then);
        true
    }
    fn watch_timer(&self, definition: &Definition, state: &State, watch: &Watch) -> Option<u64> {
        if self.rule == Rule::None {
            return self
                .silence(definition, state, watch)
                .map(|(_, due_ms)| due_ms);
        }
        watch.timer_ms()
    }
    fn compares(&self) -> Option<(&str, u64)> {
        Some((&self.code, self.within_ms))
    }

    fn rule(&self) -> Option<Ruled<'_>> {
        Some(Ruled {
            code: &self.code,
            silence: self.rule == Rule::None,
            within_ms: (!self.rule.is_single()).then_some(self.within_ms),
            until: self.until.as_ref(),
            then: &self.then,
        })
    }

    fn keeps_watch(&self, before: &Node, after: &Node) -> bool {
        let rule = |step: &Node| {
            let body = step.get(KIND.name);
            let has = |name: &&&str| body.is_some_and(|body| body.get(name).is_some());
            OBSERVE.one_of.iter().find(has).copied()
        };
        rule(before) == rule(after) && same_of(before, after, KIND.name, &["code", "unit"])
    }

    fn watching(&self, definition: &Definition, state: &State, _: &Step) -> Option<Waiting> {
        let name = units::loinc_name(&self.code)
            .map_or_else(|| format!("LOINC {}", self.code), str::to_lowercase);
        let (unit, within) = (&self.unit, say_duration(self.within_ms));
        let what = match self.rule {
            Rule::Rises(more) => {
                format!("Watches whether {name} rises by more than {more} {unit} in {within}")
            }
            Rule::Falls(more) => {
                format!("Watches whether {name} falls by more than {more} {unit} in {within}")
            }
            Rule::Above(mean, _) => {
                format!("Watches whether the mean of {name} in {within} is above {mean} {unit}")
            }
            Rule::Below(mean, _) => {
                format!("Watches whether the mean of {name} in {within} is below {mean} {unit}")
            }
            Rule::Over(bound) => format!("Watches whether {name} is above {bound} {unit}"),
            Rule::Under(bound) => format!("Watches whether {name} is below {bound} {unit}"),
            Rule::None => format!("Watches whether there is no reading of {name} for {within}"),
        };
        Some(Waiting {
            what,
            plain: String::new(),
            until_ms: self
                .until
                .as_ref()
                .map(|until| moment(definition, state, until)),
        })
    }
}

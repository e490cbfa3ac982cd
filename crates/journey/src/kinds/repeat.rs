//! A part that is gone through several times, with a pause between two rounds.
//!
//! Its place stays while a round is under way and while it pauses. A round begins at once or by a timer,
//! so time that was missed gives one round, not several at once.

use super::{StepKind, Waiting, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, number, path};
use crate::definition::{Definition, Path, Step, Target, Way};
use crate::engine::{Engine, EngineError};
use crate::spec::{Focus, Kind, Record, Shape, may, must};
use crate::state::{Stand, State, Token, What};
use crate::time::{say_day, say_duration, say_time};
use fhir::path::{Given, Wanted};
use serde_json::json;
use std::sync::Arc;

static REPEAT: Record = Record {
    name: "repeat",
    doc: "A part that is gone through several times. A round is over when all that began with `body` has come to `end`; after a pause the next one begins. What was learnt in a round stays until it is learnt anew.",
    one_of: &[],
    fields: &[
        must("body", Shape::Target, "The first step of each round."),
        must(
            "times",
            Shape::Integer(2, 1000),
            "How many rounds there are at most.",
        ),
        must(
            "pause",
            Shape::Duration,
            "How long after the end of a round the next one begins.",
        ),
        may(
            "until",
            Shape::Path(Focus::Facts),
            "No further round begins once this holds; it is asked after each round.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "repeat",
    doc: REPEAT.doc,
    body: Shape::Record(&REPEAT),
    ways: &[
        must(
            "next",
            Shape::Target,
            "Where to go after the last round; with `until`, when it holds.",
        ),
        may(
            "never",
            Shape::Target,
            "With `until`: where to go when it doesn't hold after the last round.",
        ),
    ],
    example: "daily:\n  title: Every day until the pain is gone\n  repeat:\n    body: pain\n    times: 10\n    pause: 24h\n    until: pain.level = 0\n  next: visit\n  never: call\n",
    decode,
};

#[derive(Debug)]
struct Repeat {
    body: [Target; 1],
    times: u32,
    pause_ms: u64,
    until: Option<Path>,
    next: Target,
    never: Option<Target>,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 2 to 1000"
    )]
    let times = number(parts.body, "times")? as u32;
    Some(Arc::new(Repeat {
        body: [parts.target(parts.body.get("body")?)],
        times,
        pause_ms: length(parts.body, "pause")?,
        until: parts.body.get("until").and_then(path),
        next: parts.way("next")?,
        never: parts.way("never"),
    }))
}

/// The label of the way on when the condition holds.
const HELD: &str = "held";
/// The label of the way on when it never did.
const NEVER: &str = "never held";
/// The label of the way on after all rounds.
const DONE: &str = "all rounds";

impl Repeat {
    fn begin(&self, engine: &mut Engine<'_>, step: &Step, n: u32, time: u32) {
        let [body] = &self.body;
        if let Some(stand) = engine.stand_mut(n) {
            *stand = self.round(time);
        }
        engine.learn(&step.id, "rounds", json!(time));
        let to = engine.names(body);
        engine.trail(&step.id, What::Round { time, to }, None);
        engine
            .ahead
            .extend(body.steps.iter().map(|step| (*step, Some(n))));
    }
    fn round(&self, time: u32) -> Stand {
        let [body] = &self.body;
        Stand::Repeating {
            left: u32::try_from(body.steps.len()).unwrap_or(u32::MAX),
            time,
        }
    }

    fn check_round(&self, check: &mut Check<'_, '_>, step: &Step) {
        let [body] = &self.body;
        let at = check.at(step, &["repeat", "body"]);
        let id = &step.id;
        if body.steps.is_empty() {
            let words = format!("`body` of `{id}` leads nowhere; name the first step of a round");
            check.findings.error("J040", at, words);
        }
        let own = check.definition.index.get(id);
        if own.is_some_and(|own| check.reach(&body.steps).contains(own)) {
            let words = format!(
                "a round of `{id}` leads back to `{id}`, which would begin rounds within rounds; end it with `end`"
            );
            check.findings.error("J040", at, words);
        }
        let pause = check.at(step, &["repeat", "pause"]);
        let pauses_ms = self.pause_ms.saturating_mul(u64::from(self.times - 1));
        if pauses_ms > check.definition.at_most_ms {
            let words = format!(
                "the last of {} rounds would come after {}, and the journey is over after {}",
                self.times,
                say_duration(pauses_ms),
                say_duration(check.definition.at_most_ms)
            );
            check.findings.warning("J037", pause, words);
        }
    }
}

impl StepKind for Repeat {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let [body] = &self.body;
        let mut ways = vec![way(crate::passages::ROUND, body, true)];
        // Without a condition, and when it never held, there were pauses.
        let (label, at_once) = match self.until {
            Some(_) => (HELD, true),
            None => (DONE, false),
        };
        ways.push(way(label, &self.next, at_once));
        ways.extend(self.never.iter().map(|never| way(NEVER, never, false)));
        ways
    }
    fn encloses(&self) -> Option<(&[Target], Vec<&Target>)> {
        let after = std::iter::once(&self.next).chain(&self.never);
        Some((&self.body, after.collect()))
    }
    fn rounds_within(&self, length_ms: u64) -> u32 {
        let later = length_ms.saturating_sub(1) / self.pause_ms.max(1);
        let rounds = u32::try_from(later).unwrap_or(u32::MAX).saturating_add(1);
        rounds.min(self.times)
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        vec![("rounds", Given::Integer)]
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        self.check_round(check, step);
        match (&self.until, &self.never) {
            (Some(_), None) => {
                let words = format!(
                    "`{}` has no `never`: say what happens when `until` doesn't hold after the last round",
                    step.id
                );
                check.findings.error("J013", step.place, words);
            }
            (None, Some(_)) => {
                let words = format!(
                    "`{}` has `never` but no `until`, so it is never gone",
                    step.id
                );
                check.findings.error("J012", step.place, words);
            }
            _ => {}
        }
        if let Some(until) = &self.until {
            check.learnt(until, Wanted::Condition);
        }
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        self.round(1)
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        self.begin(engine, step, n, 1);
    }
    fn joined(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        let Some(Stand::Repeating { time, .. }) = engine.token(n).map(|token| &token.stand) else {
            return;
        };
        let time = *time;
        if let Some(until) = &self.until
            && engine.holds(until, &step.id, &until.text)
        {
            engine.leave(n, HELD, &self.next);
        } else if time >= self.times {
            match (&self.until, &self.never) {
                (Some(_), Some(never)) => engine.leave(n, NEVER, never),
                _ => engine.leave(n, DONE, &self.next),
            }
        } else {
            let until_ms = engine.context.now_ms.saturating_add(self.pause_ms);
            if let Some(stand) = engine.stand_mut(n) {
                *stand = Stand::Pausing { time, until_ms };
            }
        }
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        match token.stand {
            Stand::Pausing { until_ms, .. } => vec![("round", until_ms)],
            _ => Vec::new(),
        }
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        _: &str,
    ) -> Result<(), EngineError> {
        let Stand::Pausing { time, .. } = token.stand else {
            return Err(EngineError::NoStep(token.step.clone()));
        };
        self.begin(engine, step, token.n, time + 1);
        Ok(())
    }

    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        match token.stand {
            Stand::Pausing { time, .. } if way.label == crate::passages::ROUND => {
                self.begin(engine, step, token.n, time + 1);
            }
            _ => engine.leave(token.n, &way.label, way.target),
        }
    }

    // What a round waits for stands there itself.
    fn waiting(&self, definition: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        let Stand::Pausing { time, until_ms } = token.stand else {
            return None;
        };
        let zone = &definition.zone;
        Some(Waiting {
            what: format!(
                "Pauses; round {} of at most {} begins on {}, {}",
                time + 1,
                self.times,
                say_day(until_ms, zone),
                say_time(until_ms, zone)
            ),
            plain: String::new(),
            until_ms: Some(until_ms),
        })
    }
    fn left(&self, title: &str, label: &str) -> Option<String> {
        Some(match (label, &self.until) {
            (HELD, Some(until)) => format!("{title}: no further round, because {}", until.text),
            (NEVER, Some(until)) => {
                format!(
                    "{title}: all rounds are over and it isn’t so that {}",
                    until.text
                )
            }
            _ => format!("{title}: all rounds are over"),
        })
    }
}

//! What was expected beside what happened, so that people see the difference.

use super::file::{Expected, Last, Then, When};
use super::play::Played;
use crate::definition::Definition;
use crate::engine;
use crate::stage::{Happened, Sort};
use crate::state::Which;
use crate::time::{MINUTE_MS, say_minute};

/// The lists of `then`, with their names.
const LISTS: [(Sort, &str); 6] = [
    (Sort::Sent, "messages sent"),
    (Sort::Task, "tasks opened"),
    (Sort::HandedOver, "tasks handed over"),
    (Sort::Visit, "visits proposed"),
    (Sort::Called, "partners called"),
    (Sort::TakenBack, "calls taken back"),
];

/// What is wrong, in lines; none when all is as expected.
pub(crate) fn compare(definition: &Definition, then: &Then, played: &Played) -> Vec<String> {
    let mut lines: Vec<String> = played.problem.iter().cloned().collect();
    lines.extend(last(definition, then, played));
    for (sort, name) in LISTS {
        let expected = match sort {
            Sort::Sent => &then.sent,
            Sort::Task => &then.tasks,
            Sort::HandedOver => &then.handed_over,
            Sort::Visit => &then.visits,
            Sort::Called => &then.called,
            Sort::TakenBack => &then.taken_back,
        };
        let Some(expected) = expected else { continue };
        let happened: Vec<&Happened> = played
            .happened
            .iter()
            .filter(|happened| happened.sort == sort)
            .collect();
        let side = Side { definition, played };
        if let Some(difference) = side.difference(expected, &happened) {
            lines.push(format!("{name} (- expected, + happened):"));
            lines.extend(difference);
        }
    }
    lines
}

/// How it is at the end.
fn last(definition: &Definition, then: &Then, played: &Played) -> Vec<String> {
    let started = played.state.as_ref();
    if let (Last::NotStarted, None) = (&then.last, started) {
        return Vec::new();
    }
    let Some(state) = started else {
        let why = played.idle.as_deref().unwrap_or("nothing could be played");
        return vec![format!("the journey did not start: {why}")];
    };
    let is = match state.ending() {
        Some((code, title)) => format!("it ended as `{code}` ({title})"),
        None => format!("the patient is at {}", state.at().join(", ")),
    };
    let side = Side { definition, played };
    match &then.last {
        Last::NotStarted => vec![format!("the journey should not start, but {is}")],
        Last::Any => Vec::new(),
        Last::At(steps) => {
            let at: Vec<&str> = state.at();
            if state.running() && at.iter().eq(steps.iter()) {
                return Vec::new();
            }
            vec![format!(
                "the patient should be at {}, but {is}",
                steps.join(", ")
            )]
        }
        Last::Ended { code, at } => {
            let Some(ended) = state.ended.as_ref().filter(|ended| ended.code == *code) else {
                return vec![format!("the journey should end as `{code}`, but {is}")];
            };
            match at.as_ref().map(|at| side.time(at)) {
                Some(at_ms) if at_ms / MINUTE_MS != ended.at_ms / MINUTE_MS => vec![format!(
                    "the journey should end at {}, but it ended at {}",
                    say_minute(at_ms, &definition.zone),
                    say_minute(ended.at_ms, &definition.zone)
                )],
                _ => Vec::new(),
            }
        }
    }
}

struct Side<'a> {
    definition: &'a Definition,
    played: &'a Played,
}

impl Side<'_> {
    fn time(&self, when: &When) -> u64 {
        match (when, &self.played.state) {
            (When::Instant(at_ms), _) => *at_ms,
            (When::Moment(moment), Some(state)) => engine::moment(self.definition, state, moment),
            // Only events are said to come after something.
            (When::After(_) | When::Moment(_), _) => self.played.now_ms,
        }
    }

    fn fits(&self, expected: &Expected, happened: &Happened) -> bool {
        let by = |by: &String| happened.channel.is_some_and(|channel| channel.name() == by);
        expected.step == happened.step
            && expected.by.as_ref().is_none_or(by)
            && expected
                .which
                .is_none_or(|which| happened.which.map(Which::word) == Some(which.word()))
            && expected
                .role
                .as_ref()
                .is_none_or(|role| happened.role.as_ref() == Some(role))
            && expected
                .at
                .as_ref()
                .is_none_or(|at| self.time(at) / MINUTE_MS == happened.at_ms / MINUTE_MS)
            && expected
                .says
                .as_ref()
                .is_none_or(|words| happened.words.contains(words))
    }

    /// Both lists as one, in order; nothing when they are the same.
    fn difference(&self, expected: &[Expected], happened: &[&Happened]) -> Option<Vec<String>> {
        let fits = |left: usize, right: usize| self.fits(&expected[left], happened[right]);
        // Longest common part, so that one thing too many doesn't make all that follows differ.
        let mut longest = vec![vec![0usize; happened.len() + 1]; expected.len() + 1];
        for left in (0..expected.len()).rev() {
            for right in (0..happened.len()).rev() {
                longest[left][right] = if fits(left, right) {
                    longest[left + 1][right + 1] + 1
                } else {
                    longest[left + 1][right].max(longest[left][right + 1])
                };
            }
        }
        if longest[0][0] == expected.len() && expected.len() == happened.len() {
            return None;
        }
        let (mut left, mut right) = (0, 0);
        let mut lines = Vec::new();
        while left < expected.len() || right < happened.len() {
            let both = left < expected.len() && right < happened.len();
            if both && fits(left, right) {
                lines.push(format!("    {}", self.say(happened[right])));
                (left, right) = (left + 1, right + 1);
            } else if right == happened.len()
                || both && longest[left + 1][right] >= longest[left][right + 1]
            {
                lines.push(format!("  - {}", self.want(&expected[left])));
                left += 1;
            } else {
                lines.push(format!("  + {}", self.say(happened[right])));
                right += 1;
            }
        }
        Some(lines)
    }

    fn say(&self, happened: &Happened) -> String {
        let at = say_minute(happened.at_ms, &self.definition.zone);
        let which = happened.which.map(Which::say);
        let by = happened.channel.map(crate::Channel::name);
        let words = (!happened.words.is_empty()).then_some(happened.words.as_str());
        line(
            &happened.step,
            Some(at),
            which,
            by,
            happened.role.as_deref(),
            words,
        )
    }

    fn want(&self, expected: &Expected) -> String {
        let at = expected.at.as_ref();
        let at = at.map(|at| say_minute(self.time(at), &self.definition.zone));
        line(
            &expected.step,
            at,
            expected.which.map(Which::say),
            expected.by.as_deref(),
            expected.role.as_deref(),
            expected.says.as_deref(),
        )
    }
}

fn line(
    step: &str,
    at: Option<String>,
    which: Option<String>,
    by: Option<&str>,
    role: Option<&str>,
    words: Option<&str>,
) -> String {
    let mut line = at.map_or_else(String::new, |at| format!("{at} "));
    line.push_str(step);
    for part in [
        which.map(|which| format!(", {which}")),
        by.map(|by| format!(" by {by}")),
        role.map(|role| format!(", {role}")),
        words.map(|words| format!(": “{}”", words.trim())),
    ]
    .into_iter()
    .flatten()
    {
        line.push_str(&part);
    }
    line
}

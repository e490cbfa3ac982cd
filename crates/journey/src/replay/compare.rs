//! What really happened beside what the draft would have done.

use super::history::{History, due_ms};
use super::lead::Led;
use super::{Compares, ReplayNote, ReplayRow, Replayed};
use crate::definition::Definition;
use crate::engine;
use crate::passages::by_version;
use crate::state::{Done, State, TrailEntry, What};
use crate::time::{MINUTE_MS, say_duration, say_minute};
use crate::{JourneyError, facts, words};
use fhir::{Resource, ResourceType};
use std::collections::BTreeMap;

/// Most entries times most entries that are compared in all ways: a few hundred megabytes would be more than a
/// server has to spare.
const CELLS_MAX: usize = 9_000_000;

/// An entry of either side.
struct Said<'a> {
    entry: &'a TrailEntry,
    definition: &'a Definition,
    state: &'a State,
}

impl Said<'_> {
    /// What has to be the same for two entries to be the same thing.
    fn key(&self) -> (String, String) {
        let entry = self.entry;
        let what = match &entry.what {
            What::Started => "started".to_owned(),
            What::Entered => "entered".to_owned(),
            What::Left { label, to, .. } => format!("left {label} {}", to.join(",")),
            What::Sent { channel, which } => format!("sent {which:?} {}", channel.name()),
            What::Held {
                channel,
                which,
                why,
                ..
            } => format!("held {which:?} {} {why:?}", channel.name()),
            What::Undelivered {
                channel,
                which,
                code,
            } => format!("undelivered {which:?} {} {code}", channel.name()),
            What::Passed { which } => format!("passed {which:?}"),
            What::Answered => "answered".to_owned(),
            What::LateAnswer { to } => format!("late {}", to.join(",")),
            What::Reply { to } => format!("reply {}", to.join(",")),
            What::HandedOver { role } => format!("over {role}"),
            What::Booked { .. } => "booked".to_owned(),
            What::Fired { to } => format!("fired {}", to.join(",")),
            What::AnchorMoved { anchor } => format!("anchor {anchor}"),
            What::Unclear { label } => format!("unclear {label}"),
            What::FirstDone => "first".to_owned(),
            What::NotCounted => "not counted".to_owned(),
            What::Reached => "reached".to_owned(),
            What::Round { time, to } => format!("round {time} {}", to.join(",")),
            What::Drawn { experiment, arm } => format!("drawn {experiment} {arm}"),
            What::Called { partner, back } => format!("called {partner} {back}"),
            What::Hand { act, .. } => format!("hand {act:?}"),
            What::Moved { .. } => "moved".to_owned(),
            What::Ended { code, .. } => format!("ended {code}"),
        };
        (entry.step.clone(), what)
    }

    /// In words, without what people have written.
    fn words(&self) -> String {
        let entry = self.entry;
        let title = self.definition.step(&entry.step);
        let title = title.map_or(entry.step.as_str(), |step| step.title.as_str());
        match &entry.what {
            What::Started => "Started".to_owned(),
            What::Hand { act, .. } => {
                let done = match act {
                    Done::Paused => "Held",
                    Done::Resumed => "Goes on",
                    Done::Skipped => "Skipped",
                    Done::Retried => "Begun anew",
                    Done::Jumped => "Sent on",
                    Done::Undone => "Taken back",
                };
                let of = if title.is_empty() { "" } else { ": " };
                format!("{done} by hand{of}{title}")
            }
            What::Ended { code, .. } if code == "stopped" => "Ended: stopped".to_owned(),
            What::Entered => words::trail(self.definition, self.state, entry)
                .map_or_else(|| format!("Comes to: {title}"), |view| view.what),
            _ => words::trail(self.definition, self.state, entry)
                .map_or_else(|| format!("Goes on: {title}"), |view| view.what),
        }
    }
}

/// The same things of two lists in their order: places of the one and of the other.
fn common(
    left: &[(String, String)],
    right: &[(String, String)],
) -> Result<Vec<(usize, usize)>, JourneyError> {
    let first = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let ends = left[first..].iter().rev().zip(right[first..].iter().rev());
    let last = ends.take_while(|(l, r)| l == r).count();
    let (l, r) = (
        &left[first..left.len() - last],
        &right[first..right.len() - last],
    );
    if l.len().saturating_mul(r.len()) > CELLS_MAX {
        return Err(JourneyError::Cannot(format!(
            "the histories are too long to be compared: {} things that happened, {} with the draft",
            left.len(),
            right.len()
        )));
    }
    let width = r.len() + 1;
    let mut longest = vec![0u32; (l.len() + 1) * width];
    for i in (0..l.len()).rev() {
        for j in (0..r.len()).rev() {
            longest[i * width + j] = if l[i] == r[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let mut pairs: Vec<(usize, usize)> = (0..first).map(|at| (at, at)).collect();
    let (mut i, mut j) = (0, 0);
    while i < l.len() && j < r.len() {
        if l[i] == r[j] {
            pairs.push((first + i, first + j));
            (i, j) = (i + 1, j + 1);
        } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    let ends = (0..last).rev();
    pairs.extend(ends.map(|back| (left.len() - 1 - back, right.len() - 1 - back)));
    Ok(pairs)
}

/// What is different in two resources that were made for the same, in words without what they say.
fn differs((real, real_ms): (&Resource, u64), (draft, draft_ms): (&Resource, u64)) -> Vec<String> {
    let mut found = Vec::new();
    // How long is given for it: when it was opened is told by itself.
    let given = |resource: &Resource, opened_ms: u64| {
        let end = resource.text_at(&["restriction", "period", "end"])?;
        Some(facts::time(end)?.saturating_sub(opened_ms))
    };
    let (was, is) = (given(real, real_ms), given(draft, draft_ms));
    if was != is {
        let say = |length_ms: Option<u64>| length_ms.map_or("no time".to_owned(), say_duration);
        found.push(format!("{} for it instead of {}", say(is), say(was)));
    }
    let mut both = |what: &str, path: &[&str]| {
        let (was, is) = (real.text_at(path), draft.text_at(path));
        if was != is {
            let say = |text: Option<&str>| text.unwrap_or("none").to_owned();
            found.push(format!("{what} {} instead of {}", say(is), say(was)));
        }
    };
    match real.kind() {
        ResourceType::Task => {
            both("role", &["performerType", "0", "coding", "0", "code"]);
            both("queue", &["performerType", "1", "coding", "0", "code"]);
            both("priority", &["priority"]);
        }
        ResourceType::Appointment => {
            both("from", &["start"]);
            both("until", &["end"]);
        }
        _ => {}
    }
    let said = |resource: &Resource| {
        let paths: [&[&str]; 5] = [
            &["topic", "text"],
            &["payload", "0", "contentString"],
            &["description"],
            &["reasonCode", "text"],
            &["patientInstruction"],
        ];
        paths.map(|path| resource.text_at(path).map(str::to_owned))
    };
    if said(real) != said(draft) {
        found.push("in other words".to_owned());
    }
    found
}

/// Compares them.
pub(super) fn compare(
    draft: &Definition,
    history: &History,
    led: Led,
) -> Result<Replayed, JourneyError> {
    let mut real = Vec::new();
    for (version, _, entries) in by_version(&history.trail, history.last.version) {
        let Some(definition) = history.definition(version) else {
            return Err(JourneyError::Broken(format!("no definition {version}")));
        };
        real.extend(entries.iter().map(|entry| Said {
            entry,
            definition,
            state: &history.last,
        }));
    }
    real.retain(|said| !matches!(said.entry.what, What::Moved { .. }));
    let until_ms = history.until_ms;
    let state = led.state.as_ref();
    let with: Vec<Said<'_>> = (led.trail.iter())
        .filter_map(|entry| {
            Some(Said {
                entry,
                definition: draft,
                state: state?,
            })
        })
        .collect();
    let keys = |side: &[Said<'_>]| side.iter().map(Said::key).collect::<Vec<_>>();
    let pairs = common(&keys(&real), &keys(&with))?;
    let untold = led.notes.iter().filter(|note| note.untold);
    let unsure_ms = untold.filter_map(|note| note.at_ms).min();
    let made = history.made();
    let mut others: BTreeMap<(String, bool, u64), Vec<String>> = BTreeMap::new();
    for (opened_ms, reference, resource) in &led.pairs {
        let Some(reference) = reference else { continue };
        let of = made.iter().find(|(_, made)| made.reference == *reference);
        let Some((thing, made)) = of else { continue };
        let found = differs((&made.first, made.opened_ms), (resource, *opened_ms));
        if !found.is_empty() {
            let is_message = thing.kind == ResourceType::Communication;
            let key = (thing.step.clone(), is_message, made.opened_ms);
            others.entry(key).or_default().extend(found);
        }
    }
    let mut rows = Vec::new();
    let (mut i, mut j) = (0, 0);
    let end = [(real.len(), with.len())];
    for (next_i, next_j) in pairs.into_iter().chain(end) {
        let mut apart: Vec<ReplayRow> = Vec::new();
        for said in &real[i..next_i] {
            apart.push(row(Compares::Gone, Some(said), None));
        }
        for said in &with[j..next_j] {
            apart.push(row(Compares::New, None, Some(said)));
        }
        apart.sort_by_key(|row| row.draft_ms.or(row.at_ms));
        rows.append(&mut apart);
        if let (Some(was), Some(is)) = (real.get(next_i), with.get(next_j)) {
            let mut row = row(Compares::Same, Some(was), Some(is));
            let (was_ms, is_ms) = (was.entry.at_ms, is.entry.at_ms);
            if let Some(is_message) = opens(&was.entry.what)
                && let Some(found) = others.remove(&(was.entry.step.clone(), is_message, was_ms))
            {
                row.how = Compares::OtherContent;
                row.differs = found;
            }
            if was_ms.abs_diff(is_ms) >= MINUTE_MS {
                row.how = Compares::OtherTime;
                let words = format!("at {} with the draft", say_minute(is_ms, &draft.zone));
                row.differs.insert(0, words);
            }
            rows.push(row);
        }
        (i, j) = (next_i + 1, next_j + 1);
    }
    for row in &mut rows {
        let at_ms = row.draft_ms.or(row.at_ms);
        row.unsure = unsure_ms.is_some_and(|from_ms| at_ms.is_some_and(|at_ms| at_ms >= from_ms));
    }
    if let Some(state) = state {
        rows.extend(waits(draft, history, state, unsure_ms.is_some()));
    }
    let missing = history.missing.iter().map(|words| ReplayNote {
        at_ms: None,
        step: String::new(),
        untold: false,
        words: words.clone(),
    });
    Ok(Replayed {
        instance: history.instance.clone(),
        patient: history.last.patient.clone(),
        journey: history.last.journey.clone(),
        version: history.last.version,
        until_ms,
        rows,
        notes: missing.chain(led.notes).collect(),
        zone: draft.zone.clone(),
    })
}

/// Whether an entry stands for something that was made, and then whether for a message.
fn opens(what: &What) -> Option<bool> {
    match what {
        What::Entered | What::FirstDone => Some(false),
        What::Sent { .. } => Some(true),
        _ => None,
    }
}

fn row(how: Compares, real: Option<&Said<'_>>, draft: Option<&Said<'_>>) -> ReplayRow {
    let said = draft.or(real);
    ReplayRow {
        how,
        at_ms: real.map(|said| said.entry.at_ms),
        draft_ms: draft.map(|said| said.entry.at_ms),
        step: said.map(|said| said.entry.step.clone()).unwrap_or_default(),
        what: said.map(Said::words).unwrap_or_default(),
        differs: Vec::new(),
        unsure: false,
    }
}

/// Where both are at the same step now and something else is due.
fn waits(draft: &Definition, history: &History, state: &State, unsure: bool) -> Vec<ReplayRow> {
    let Some(definition) = history.definition(history.last.version) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let due = |definition: &Definition, state: &State, step: &str| {
        let of = definition.step(step);
        let places = state.tokens.iter().filter(|token| token.step == step);
        let mut due: Vec<u64> = places
            .filter_map(|token| Some((of?, token)))
            .flat_map(|(step, token)| step.kind.timers(definition, state, token))
            .map(|(_, due_ms)| due_ms)
            .collect();
        due.sort_unstable();
        due
    };
    let both = history.last.at();
    for step in both.into_iter().filter(|step| state.at().contains(step)) {
        let (was, is) = (
            due(definition, &history.last, step),
            due(draft, state, step),
        );
        if was == is {
            continue;
        }
        let say = |due: &[u64]| {
            let times = due.iter().map(|at_ms| say_minute(*at_ms, &draft.zone));
            let times: Vec<String> = times.collect();
            if times.is_empty() {
                "for no time".to_owned()
            } else {
                format!("until {}", times.join(", "))
            }
        };
        let title = draft.step(step).map_or("", |step| step.title.as_str());
        rows.push(ReplayRow {
            how: Compares::OtherTime,
            at_ms: Some(history.until_ms),
            draft_ms: Some(history.until_ms),
            step: step.to_owned(),
            what: format!("Waits: {title}"),
            differs: vec![format!(
                "{} with the draft instead of {}",
                say(&is),
                say(&was)
            )],
            unsure,
        });
    }
    let next = |due_ms: Option<u64>| due_ms.map(|due_ms| due_ms / MINUTE_MS);
    let was_ms = due_ms(&history.definitions, &history.last);
    let is_ms = engine::next_timer_ms(draft, state);
    if rows.is_empty()
        && history.last.running()
        && state.running()
        && next(was_ms) != next(is_ms)
        && let (Some(was_ms), Some(is_ms)) = (was_ms, is_ms)
    {
        rows.push(ReplayRow {
            how: Compares::OtherTime,
            at_ms: Some(history.until_ms),
            draft_ms: Some(history.until_ms),
            step: String::new(),
            what: "Next moved by time".to_owned(),
            differs: vec![format!(
                "at {} with the draft instead of {}",
                say_minute(is_ms, &draft.zone),
                say_minute(was_ms, &draft.zone)
            )],
            unsure,
        });
    }
    rows
}

//! Another version of the journey for a patient under way: where they would be in it, and moving them there.
//!
//! A place goes to the step that the map names for its step, or to the step of the same name. What is open
//! there stays open where the other version would have opened the same; else it is called off by the old
//! version and begun anew by the new one. Nobody is moved in the middle of something that is under way
//! outside: they wait until it is over. Pure, as the rest of the engine.

use super::hands::{count, region, starts_branch};
use super::{Context, Decision, Engine, EngineError, Fact, Hand, why_not_undone};
use crate::definition::{Definition, Step};
use crate::kinds::Carried;
use crate::state::{Form, Stand, State, Token, Was, What};
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the trail says of what doesn't go along.
const BY_VERSION: &str = "another version";

/// Where whoever is at a step goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goes {
    /// At this step of the other version.
    Step(String),
    /// They stay on their version, held, until somebody decides.
    Hold,
    /// They stay on their version.
    Stay,
}

/// Where those go on whose step isn't named in the other version, or shall go elsewhere: by step.
pub type Map = BTreeMap<String, Goes>;

/// What a move to another version comes to for one patient.
#[derive(Debug, Clone)]
pub enum Migration {
    /// They are moved.
    Moves(Box<Decision>),
    /// The map leaves whoever is at this step where they are.
    Stays(String),
    /// The map has whoever is at this step held.
    Holds(String),
    /// They can be moved when something is over; what, in words.
    Waits(String),
    /// They can't be moved, for a reason in words.
    Cannot(String),
}

/// What becomes of one place.
enum Place {
    /// It goes along, at this step.
    Along(u32, String),
    /// It is called off, and this step is begun.
    Anew(u32, usize),
    /// It is called off with the place that waits for it.
    Gone,
}

fn target<'a>(map: &'a Map, step: &'a str) -> Result<&'a str, &'a Goes> {
    match map.get(step) {
        Some(Goes::Step(to)) => Ok(to),
        Some(other) => Err(other),
        None => Ok(step),
    }
}

/// The rules of the other version that have seen nothing of who comes from this one: what the record has for
/// them is to be given to [`migrate`].
pub(crate) fn new_rules<'a>(
    from: &'a Definition,
    to: &'a Definition,
    map: &'a Map,
) -> impl Iterator<Item = &'a Step> {
    let known = |after: &Step| {
        from.steps
            .iter()
            .any(|before| target(map, &before.id) == Ok(after.id.as_str()) && keeps(before, after))
    };
    let rules = to.steps.iter();
    rules.filter(move |after| after.kind.compares().is_some() && !known(after))
}

fn keeps(before: &Step, after: &Step) -> bool {
    before.kind_name() == after.kind_name() && before.kind.keeps_watch(&before.said, &after.said)
}

/// The steps of a version where a place with this parent can be, or one without.
fn within(definition: &Definition, parent: Option<&Step>) -> BTreeSet<usize> {
    let Some(parent) = parent else {
        let ways = definition.steps.iter().flat_map(Step::ways);
        let beside = ways.filter(|way| starts_branch(&way.label));
        let beside = beside.flat_map(|way| way.target.steps.clone());
        let late = definition.entry.late().into_iter();
        let start = late.chain([&definition.start]);
        let start = start.flat_map(|start| start.steps.iter().copied());
        return region(definition, start.chain(beside));
    };
    let inside = parent.kind.encloses();
    let inside = inside.map_or_else(Vec::new, |(inside, _)| {
        inside
            .iter()
            .flat_map(|target| target.steps.clone())
            .collect()
    });
    region(definition, inside)
}

struct Planner<'a> {
    from: &'a Definition,
    to: &'a Definition,
    map: &'a Map,
    state: &'a State,
}

impl<'a> Planner<'a> {
    /// What becomes of each place, in their order.
    fn places(&self) -> Result<Vec<Place>, Migration> {
        let cannot = |why: String| Migration::Cannot(why);
        let mut later = None;
        let mut places = Vec::new();
        for token in &self.state.tokens {
            let Some(before) = self.from.step(&token.step) else {
                return Err(cannot(format!(
                    "the patient is at {}, which their version doesn't have",
                    token.step
                )));
            };
            match target(self.map, &token.step) {
                Err(Goes::Stay) => return Err(Migration::Stays(token.step.clone())),
                Err(_) => return Err(Migration::Holds(token.step.clone())),
                Ok(to) => {
                    let Some(index) = self.to.index.get(to).copied() else {
                        return Err(cannot(format!(
                            "{} isn't in version {}: say where those who are there go on",
                            token.step, self.to.version
                        )));
                    };
                    places.push((token, before, index));
                }
            }
        }
        let mut found: Vec<Place> = Vec::new();
        for (token, before, index) in &places {
            let after = &self.to.steps[*index];
            let same = before.kind_name() == after.kind_name();
            let carried = match before.kind.carried(&token.stand, &before.said, &after.said) {
                Carried::Later(what) => {
                    later = later.or(Some(what));
                    Carried::As
                }
                _ if !same => Carried::Anew,
                other => other,
            };
            let parent = token
                .parent
                .and_then(|n| places.iter().position(|(token, ..)| token.n == n));
            let parent = match parent {
                None => None,
                Some(at) => match &found.get(at) {
                    Some(Place::Along(_, step)) => self.to.step(step),
                    _ => {
                        found.push(Place::Gone);
                        continue;
                    }
                },
            };
            if !within(self.to, parent).contains(index) || after.kind.watches() {
                return Err(cannot(format!(
                    "{} lies within another part of version {} than {} did",
                    after.id, self.to.version, before.id
                )));
            }
            found.push(match carried {
                Carried::Not(why) => return Err(cannot(format!("at {}: {why}", before.id))),
                Carried::Anew => Place::Anew(token.n, *index),
                _ => Place::Along(token.n, after.id.clone()),
            });
        }
        match later {
            Some(what) => Err(Migration::Waits(what.to_owned())),
            None => Ok(found),
        }
    }

    /// Why nobody can be moved whatever they wait for.
    fn refused(&self) -> Option<Migration> {
        if self.state.journey != self.to.name || self.from.name != self.to.name {
            return Some(Migration::Cannot("it is another journey".to_owned()));
        }
        if !self.state.running() {
            return Some(Migration::Cannot("the journey has ended".to_owned()));
        }
        let known = |name: &str| self.from.entry.anchors.iter().any(|(one, _)| one == name);
        let news = self.to.entry.anchors.iter();
        let news: Vec<&str> = news
            .map(|(name, _)| name.as_str())
            .filter(|name| !known(name))
            .collect();
        if let Some(name) = news.first() {
            return Some(Migration::Cannot(format!(
                "version {} hangs on the time of {name}, which isn't known of who started before",
                self.to.version
            )));
        }
        let kept = |step: &str| {
            let there = |definition: &'a Definition| {
                let step = definition.step(step)?;
                step.kind.can_be_taken_back().then_some(&step.said)
            };
            let both = there(self.from).zip(there(self.to));
            both.is_some_and(|(before, after)| {
                let call = |said: &'a crate::yaml::Node| said.get("call");
                crate::diff::same(call(before), call(after))
            })
        };
        if let Some(owed) = self.state.owed.iter().find(|owed| !kept(&owed.step)) {
            return Some(Migration::Cannot(format!(
                "a partner was called at {}, and version {} would not take that back in the same way",
                owed.step, self.to.version
            )));
        }
        if !self.state.held.is_empty() {
            let what = "a message waits for the end of quiet hours, or for room";
            return Some(Migration::Waits(what.to_owned()));
        }
        let paused = self.state.paused.as_ref()?;
        let put_off =
            !paused.ahead.is_empty() || !paused.unsent.is_empty() || !paused.held.is_empty();
        put_off.then(|| {
            Migration::Waits("it is held, and what was put off has to be done first".to_owned())
        })
    }
}

/// What a move to another version comes to for a patient. `map` says where those go on whose step the other
/// version doesn't name; `measured` has what the record says for rules that are new.
///
/// # Errors
/// [`EngineError`], where the state is of neither version or the new one goes round in itself.
pub fn migrate(
    state: &State,
    from: &Definition,
    to: &Definition,
    map: &Map,
    measured: &[Fact],
    hand: &Hand,
    context: &Context<'_>,
) -> Result<Migration, EngineError> {
    if state.version != from.version || from.version == to.version {
        return Err(EngineError::Pinned(format!(
            "{}/{}",
            state.journey, state.version
        )));
    }
    let planner = Planner {
        from,
        to,
        map,
        state,
    };
    if let Some(refused) = planner.refused() {
        return Ok(refused);
    }
    let places = match planner.places() {
        Ok(places) => places,
        Err(other) => return Ok(other),
    };
    let mut old = Engine::new(from, state.clone(), context, "staff".to_owned());
    let mut undo = old.before();
    undo.was = Some(Was {
        version: state.version,
        last: state.last,
        watches: state.watches.clone(),
        late: state.late.clone(),
        goals: state.goals.clone(),
        forms: state.forms.clone(),
    });
    let begins = leave_behind(&mut old, &places, to);
    let along = carry(&mut old, from, to, map, &places);
    let Engine {
        state: mut next,
        effects,
        ..
    } = old;
    next.version = to.version;
    next.undo = None;
    next.tokens = along;
    // A message under way goes along only where its channels are the same, and so are their places.
    next.ways
        .retain(|ways| next.tokens.iter().any(|token| token.n == ways.n));
    let begin_ms = context.now_ms;
    let rules: BTreeSet<&str> = new_rules(from, to, map)
        .map(|step| step.id.as_str())
        .collect();
    for rule in &rules {
        next.watches
            .insert((*rule).to_owned(), Watch::new(begin_ms));
    }
    let mut new = Engine::new(to, next, context, "staff".to_owned());
    new.effects = effects;
    if hand.batch.is_some() {
        new.state.batch.clone_from(&hand.batch);
    }
    let what = What::Moved {
        from: from.version,
        to: to.version,
        reason: hand.reason.clone(),
        by: hand.by.clone(),
    };
    new.trail("", what, None);
    for fact in measured {
        for step in to
            .steps
            .iter()
            .filter(|step| rules.contains(step.id.as_str()))
        {
            step.kind.measured(&mut new, step, fact);
        }
    }
    for place in &places {
        let Place::Along(n, after) = place else {
            continue;
        };
        let before = state.tokens.iter().find(|token| token.n == *n);
        let before = before.and_then(|token| from.step(&token.step));
        if let (Some(before), Some(after)) = (before, to.step(after)) {
            after.kind.taken_over(&mut new, after, *n, &before.said);
        }
    }
    new.ahead.extend(begins);
    new.run()?;
    if new.state.running() {
        undo.after = count(new.state.trail_total());
        new.state.undo = Some(Box::new(undo));
    }
    Ok(Migration::Moves(Box::new(new.decision(true)?)))
}

/// Calls off, by the old version, what doesn't go along. The steps that are begun instead.
fn leave_behind(
    old: &mut Engine<'_>,
    places: &[Place],
    to: &Definition,
) -> Vec<(usize, Option<u32>)> {
    let mut begins = Vec::new();
    for place in places {
        let Place::Anew(n, index) = place else {
            continue;
        };
        let step = to.steps[*index].id.as_str();
        let parent = old.token(*n).and_then(|token| token.parent);
        old.close_below(*n, step);
        leave(old, *n, step);
        begins.push((*index, parent));
    }
    begins
}

fn leave(engine: &mut Engine<'_>, n: u32, to: &str) {
    let Some(at) = engine.state.tokens.iter().position(|token| token.n == n) else {
        return;
    };
    let token = engine.state.tokens.remove(at);
    engine.close(&token);
    let what = What::Left {
        label: BY_VERSION.to_owned(),
        since_ms: token.since_ms,
        to: vec![to.to_owned()],
    };
    engine.trail(&token.step, what, None);
}

/// The places that go along; and what was learnt, watched and given up on, under its names in the new version.
fn carry(
    old: &mut Engine<'_>,
    from: &Definition,
    to: &Definition,
    map: &Map,
    places: &[Place],
) -> Vec<Token> {
    let mut along = Vec::new();
    let mut forms = BTreeMap::new();
    for place in places {
        let Place::Along(n, step) = place else {
            continue;
        };
        let Some(token) = old.token(*n).cloned() else {
            continue;
        };
        if matches!(token.stand, Stand::Asking { .. }) {
            forms.insert(*n, form(old, *n, &token.step, from.version));
        }
        along.push(Token {
            step: step.clone(),
            ..token
        });
    }
    for late in std::mem::take(&mut old.state.late) {
        let before = from.step(&late.step);
        let after = target(map, &late.step).ok().and_then(|step| to.step(step));
        match (before, after) {
            (Some(before), Some(after)) if takes_late(before, after) => {
                forms.insert(late.n, form(old, late.n, &late.step, from.version));
                let step = after.id.clone();
                old.state.late.push(crate::state::Late { step, ..late });
            }
            (Some(before), _) => {
                before
                    .kind
                    .close_late(old, &late, "Another version of the journey");
            }
            (None, _) => {}
        }
    }
    old.state.forms = forms;
    let renamed: Vec<(&Step, &Step)> = (from.steps.iter())
        .filter_map(|before| Some((before, to.step(target(map, &before.id).ok()?)?)))
        .collect();
    let watches = std::mem::take(&mut old.state.watches);
    for (before, after) in &renamed {
        if let Some(watch) = watches.get(&before.id)
            && after.kind.compares().is_some()
            && keeps(before, after)
        {
            old.state.watches.insert(after.id.clone(), watch.clone());
        }
        if before.id == after.id
            || to.step(&before.id).is_some()
            || before.kind_name() != after.kind_name()
        {
            continue;
        }
        // What was learnt goes by the step's new name, unless the old version had a step of that name.
        if from.step(&after.id).is_none() {
            if let Some(learnt) = old.state.facts.remove(&before.id) {
                old.state.facts.insert(after.id.clone(), learnt);
            }
            if let Some(reached_ms) = old.state.goals.remove(&before.id) {
                old.state.goals.insert(after.id.clone(), reached_ms);
            }
        }
    }
    along
}

/// A form is the version's that has opened it.
fn form(engine: &Engine<'_>, n: u32, step: &str, version: u32) -> Form {
    let known = engine.state.forms.get(&n).cloned();
    known.unwrap_or_else(|| Form {
        version,
        step: step.to_owned(),
    })
}

fn takes_late(before: &Step, after: &Step) -> bool {
    let stand = Stand::Asking {
        invited_by: 0,
        reminded_by: None,
    };
    let ways = after.ways();
    let mut labels = ways.iter().map(|way| way.label.as_str());
    before.kind_name() == after.kind_name()
        && before.kind.carried(&stand, &before.said, &after.said) == Carried::As
        && labels.any(|label| label == crate::passages::LATE_ANSWER)
}

/// Takes a move to another version back: what it began is called off, and the patient is where they were, on the
/// version where they were. As with other acts, only while nothing has happened since.
///
/// # Errors
/// [`EngineError`].
pub fn take_back(
    state: &State,
    from: &Definition,
    to: &Definition,
    hand: &Hand,
    context: &Context<'_>,
) -> Result<Decision, EngineError> {
    if let Some(why) = why_not_undone(state) {
        return Err(EngineError::Cannot(why));
    }
    if state.version != from.version {
        return Err(EngineError::Pinned(format!(
            "{}/{}",
            state.journey, state.version
        )));
    }
    let undo = state.undo.clone().filter(|undo| {
        let was = undo.was.as_ref();
        was.is_some_and(|was| was.version == to.version)
    });
    let Some(mut undo) = undo else {
        return Err(EngineError::Cannot(
            "it was not moved to this version from that one".to_owned(),
        ));
    };
    let mut now = Engine::new(from, state.clone(), context, "staff".to_owned());
    let first = undo
        .tokens
        .first()
        .map_or_else(String::new, |token| token.step.clone());
    let was_there = |n: u32| undo.tokens.iter().any(|token| token.n == n);
    let begun: Vec<u32> = (state.tokens.iter())
        .map(|token| token.n)
        .filter(|n| !was_there(*n))
        .collect();
    for n in begun {
        leave(&mut now, n, &first);
    }
    let Engine {
        state: mut next,
        effects,
        ..
    } = now;
    next.version = to.version;
    next.undo = None;
    if let Some(was) = undo.was.take() {
        next.watches = was.watches;
        next.goals = was.goals;
        next.forms = was.forms;
        // A form that was called off can't be answered any more.
        let open = std::mem::take(&mut next.late);
        next.late = was.late;
        next.late
            .retain(|late| open.iter().any(|open| open.n == late.n));
    }
    let mut back = Engine::new(to, next, context, "staff".to_owned());
    back.effects = effects;
    if hand.batch.is_some() {
        back.state.batch.clone_from(&hand.batch);
    }
    let what = What::Moved {
        from: from.version,
        to: to.version,
        reason: hand.reason.clone(),
        by: hand.by.clone(),
    };
    back.trail("", what, None);
    // Places that went along carry the other version's names until they are put back.
    for token in &mut back.state.tokens {
        if let Some(before) = undo.tokens.iter().find(|before| before.n == token.n) {
            token.step.clone_from(&before.step);
        }
    }
    back.restore(undo)?;
    back.decision(true)
}

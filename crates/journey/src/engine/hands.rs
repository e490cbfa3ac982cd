//! What people do by hand to a journey under way: they hold it, let it go on, or lead it elsewhere.
//!
//! While it is held, what happens is taken in at once (an answer is an answer, a denial ends it), but no
//! step is begun, no message goes out and no time is up: that waits in [`Paused`], in order, until it
//! goes on. So a journey can be put right while it is held, before anything more comes of it.

use super::{
    Act, CALLED_OFF, Effect, Engine, EngineError, Hand, Sent, messages::about,
    messages::channel_of, messages::message_slot,
};
use crate::Channel;
use crate::definition::{Definition, Step, Target};
use crate::passages::{FIRES, LATE_ANSWER};
use crate::state::{Ahead, Done, Paused, State, Token, Undo, Unsent, What, Which};
use std::collections::BTreeSet;

/// The label under which a place is left that somebody sends a patient away from.
const BY_HAND: &str = "by hand";
/// What is written beside what is closed then.
const CLOSED: &str = "Not needed any more: the journey was led on by hand";
/// Why a batch doesn't take an act back that somebody has done to one patient.
pub(crate) const NOT_A_BATCHS: &str =
    "the last act was somebody's on the patient's page, and is taken back there";
/// Most things that are remembered while a journey is held, for steps that wait to be begun.
/// A journey has at most 200 steps, and few of them wait for events.
const HELD_MAX: usize = 64;

/// Steps that are reached from these without going into a part that a place waits for, and without
/// starting a branch of their own.
pub(super) fn region(
    definition: &Definition,
    roots: impl IntoIterator<Item = usize>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<usize> = roots.into_iter().collect();
    while let Some(index) = ahead.pop() {
        let Some(step) = definition.steps.get(index) else {
            continue;
        };
        if !found.insert(index) {
            continue;
        }
        if let Some((_, after)) = step.kind.encloses() {
            ahead.extend(after.into_iter().flat_map(|target| &target.steps));
        } else {
            let ways = step.ways();
            let on = ways.iter().filter(|way| !starts_branch(&way.label));
            ahead.extend(on.flat_map(|way| &way.target.steps));
        }
    }
    found
}

pub(super) fn starts_branch(label: &str) -> bool {
    label == FIRES || label == LATE_ANSWER
}

/// The steps that a patient can be sent to from a place with this parent, or as a whole.
pub(crate) fn goes<'a>(
    definition: &'a Definition,
    state: &State,
    parent: Option<u32>,
) -> Vec<&'a Step> {
    let place = parent.and_then(|n| state.tokens.iter().find(|token| token.n == n));
    let roots: Vec<usize> = match place {
        Some(place) => {
            let enclosing = definition.step(&place.step);
            let inside = enclosing.and_then(|step| step.kind.encloses());
            inside.map_or_else(Vec::new, |(inside, _)| {
                let steps = inside.iter().flat_map(|target| &target.steps);
                steps.copied().collect()
            })
        }
        None => {
            let ways = definition.steps.iter().flat_map(Step::ways);
            let beside = ways.filter(|way| starts_branch(&way.label));
            let beside = beside.flat_map(|way| &way.target.steps);
            definition
                .start
                .steps
                .iter()
                .chain(beside)
                .copied()
                .collect()
        }
    };
    let steps = region(definition, roots).into_iter();
    steps
        .filter_map(|index| definition.steps.get(index))
        .filter(|step| !step.kind.watches())
        .collect()
}

/// Messages that a place has put on its way to leave here.
fn mails(step: &Step, token: &Token) -> Vec<(Which, u8)> {
    let mut under_way = step.kind.under_way(&token.stand);
    under_way.retain(|(which, place)| {
        channel_of(step, *which, *place).is_some_and(crate::room::reaches_out)
    });
    under_way
}

/// Why the last act can't be taken back, as far as the state knows.
pub(crate) fn why_not_undone(state: &State) -> Option<String> {
    let Some(undo) = &state.undo else {
        return Some("nothing was skipped, retried or jumped that could be taken back".to_owned());
    };
    // A measurement is in no trail.
    let measured = undo.was.as_ref().is_some_and(|was| was.last != state.last);
    if state.trail_total() != undo.after as usize || measured {
        return Some("the journey has moved on since".to_owned());
    }
    let is_read = |entry: &&crate::state::TrailEntry| {
        matches!(
            entry.what,
            What::Sent {
                channel: Channel::Portal,
                ..
            }
        )
    };
    let shown = since(state, undo).iter().find(is_read).is_some();
    shown.then(|| "a message lies in the patient's portal already".to_owned())
}

/// What the trail says of the act that could be taken back.
fn since<'a>(state: &'a State, undo: &Undo) -> &'a [crate::state::TrailEntry] {
    let before = undo.before.saturating_sub(state.moved) as usize;
    state.trail.get(before..).unwrap_or_default()
}

/// The messages that the act which could be taken back has put on their way.
pub(crate) fn sent_since(state: &State) -> Vec<String> {
    let Some(undo) = &state.undo else {
        return Vec::new();
    };
    let sent = since(state, undo).iter().filter_map(|entry| {
        let mailed = matches!(
            entry.what,
            What::Sent { channel, .. } if crate::room::reaches_out(channel)
        );
        let reference = entry.reference.as_ref().filter(|_| mailed)?;
        reference.strip_prefix("Communication/").map(str::to_owned)
    });
    sent.collect()
}

/// The orders for other journeys that the act which could be taken back has given: the ids of their `Task`s.
pub(crate) fn orders_since(definition: &Definition, state: &State) -> Vec<String> {
    let Some(undo) = &state.undo else {
        return Vec::new();
    };
    let given = since(state, undo).iter().filter_map(|entry| {
        let begins = definition.step(&entry.step)?.kind.begins();
        let reference = entry.reference.as_ref().filter(|_| begins.is_some())?;
        reference.strip_prefix("Task/").map(str::to_owned)
    });
    given.collect()
}

impl<'a> Engine<'a> {
    pub(super) fn hand(&mut self, hand: &Hand) -> Result<(), EngineError> {
        self.whole()?;
        let before = self.before();
        if hand.batch.is_some() {
            self.state.batch.clone_from(&hand.batch);
        }
        match &hand.act {
            Act::Pause => return self.pause(hand),
            Act::Resume => return self.resume(hand),
            Act::Undo => return self.undo(hand),
            Act::Skip { n, way } => self.skip(hand, *n, *way)?,
            Act::Retry { n } => self.retry(hand, *n)?,
            Act::Jump { from, to } => self.jump(hand, *from, to)?,
        }
        self.run()?;
        if self.answered.is_some() {
            // A form that is skipped as answered is one for whoever waits for its answer.
            self.awaited(&[])?;
        }
        if self.state.running() {
            self.state.undo = Some(Box::new(Undo {
                after: count(self.state.trail_total()),
                batch: hand.batch.clone(),
                ..before
            }));
        }
        Ok(())
    }

    pub(super) fn before(&self) -> Undo {
        let paused = self.state.paused.as_ref();
        Undo {
            before: count(self.state.trail_total()),
            after: 0,
            tokens: self.state.tokens.clone(),
            facts: self.state.facts.clone(),
            ahead: paused.map_or_else(Vec::new, |paused| paused.ahead.clone()),
            batch: None,
            was: None,
        }
    }

    fn note(&mut self, hand: &Hand, step: &str, act: Done) {
        let what = What::Hand {
            act,
            reason: hand.reason.clone(),
            by: hand.by.clone(),
        };
        self.trail(step, what, None);
    }

    fn mail(&self, step: &Step, n: u32, which: Which, place: u8) -> Sent {
        Sent {
            step: step.id.clone(),
            communication: self.resource_id(n, &message_slot(which, usize::from(place))),
            channel: channel_of(step, which, place).unwrap_or(Channel::Email),
            which,
        }
    }

    fn pause(&mut self, hand: &Hand) -> Result<(), EngineError> {
        if self.state.paused.is_some() {
            return Err(cannot("it is held already"));
        }
        self.note(hand, "", Done::Paused);
        self.state.undo = None;
        self.state.paused = Some(Paused {
            at_ms: self.context.now_ms,
            ..Paused::default()
        });
        let definition = self.definition;
        for token in self.state.tokens.clone() {
            let Some(step) = definition.step(&token.step) else {
                continue;
            };
            for (which, place) in mails(step, &token) {
                let message = self.mail(step, token.n, which, place);
                self.effects.push(Effect::Hold { message });
            }
            step.kind.held(self, &token);
        }
        Ok(())
    }

    /// What was put off goes on, in order: messages; steps, and events that these may have waited for, as they came;
    /// then time.
    fn resume(&mut self, hand: &Hand) -> Result<(), EngineError> {
        let Some(paused) = self.state.paused.take() else {
            return Err(cannot("it is not held"));
        };
        self.note(hand, "", Done::Resumed);
        self.state.undo = None;
        self.release(&paused.unsent);
        for Unsent { n, which, channel } in paused.unsent {
            if self.token(n).is_some() {
                let (step, _) = self.step_of(n)?;
                self.send(step, n, which, usize::from(channel));
            }
        }
        self.later = paused.ahead.into();
        for (came, holds) in (0..).zip(&paused.held) {
            self.begin_later(came)?;
            self.awaited(holds)?;
        }
        self.begin_later(u32::MAX)?;
        self.run()?;
        if self.state.running() {
            self.look_at_watches()?;
        }
        if !self.state.running() {
            return Ok(());
        }
        self.held_since_ms = Some(paused.at_ms);
        // Nobody has asked the consents for this: what wakes the journey for them still has to.
        let consents_ms = self.state.consents_ms;
        self.due()?;
        if self.state.running() {
            self.state.consents_ms = consents_ms;
        }
        Ok(())
    }

    /// Begins what was put off before so many events had come.
    fn begin_later(&mut self, came: u32) -> Result<(), EngineError> {
        let definition = self.definition;
        while let Some(ahead) = self.later.pop_front_if(|ahead| ahead.after <= came) {
            let index = definition.index.get(&ahead.step);
            let index = *index.ok_or_else(|| EngineError::NoStep(ahead.step.clone()))?;
            self.ahead.push_back((index, ahead.parent));
        }
        if self.ahead.is_empty() {
            return Ok(());
        }
        self.run()
    }

    /// Lets the messages go that were held, but for those that have failed meanwhile.
    fn release(&mut self, failed: &[Unsent]) {
        let definition = self.definition;
        let now_ms = self.context.now_ms;
        for token in self.state.tokens.clone() {
            let Some(step) = definition.step(&token.step) else {
                continue;
            };
            for (which, place) in mails(step, &token) {
                let is_same = |unsent: &Unsent| unsent.n == token.n && unsent.which == which;
                if failed.iter().any(is_same) || self.is_held(token.n, which) {
                    continue;
                }
                let message = self.mail(step, token.n, which, place);
                let since_ms = token.since_ms;
                let until = self
                    .stand_mut(token.n)
                    .and_then(|stand| step.kind.goes_out(stand, which, place, since_ms, now_ms));
                if let Some(expires_ms) = until {
                    let standing = (definition, &self.state);
                    let about = about(standing, step, &token, |slot| {
                        self.resource_id(token.n, slot)
                    });
                    self.effects.push(Effect::Release {
                        message,
                        expires_ms,
                        about,
                    });
                }
            }
            step.kind.let_go(self, step, &token);
        }
    }

    /// Puts a message off while the journey is held. Whether it is.
    pub(super) fn puts_off(&mut self, n: u32, which: Which, channel: u8) -> bool {
        let Some(paused) = &mut self.state.paused else {
            return false;
        };
        let is_same = |unsent: &Unsent| unsent.n == n && unsent.which == which;
        paused.unsent.retain(|unsent| !is_same(unsent));
        paused.unsent.push(Unsent { n, which, channel });
        true
    }

    /// Puts off what would be begun while the journey is held. Whether it is.
    pub(super) fn holds_back(&mut self) -> bool {
        let definition = self.definition;
        let Some(paused) = &mut self.state.paused else {
            return false;
        };
        let after = count(paused.held.len());
        let ahead = self.ahead.drain(..).map(|(index, parent)| Ahead {
            step: definition.steps[index].id.clone(),
            parent,
            after,
        });
        for ahead in ahead {
            // What begins beside everything else begins once, however often there was a reason.
            let mut known = paused.ahead.iter();
            if ahead.parent.is_some()
                || !known.any(|known| known.parent.is_none() && known.step == ahead.step)
            {
                paused.ahead.push(ahead);
            }
        }
        true
    }

    /// Whether a step waits to be begun that an event may mean something to.
    pub(super) fn has_put_off(&self) -> bool {
        let paused = self.state.paused.as_ref();
        paused.is_some_and(|paused| !paused.ahead.is_empty())
    }

    /// Remembers what held of an event, for the steps that wait to be begun.
    pub(super) fn remember(&mut self, holds: &[usize]) -> Result<(), EngineError> {
        let steps = &self.definition.steps;
        let means = |hold: &usize| {
            let mut steps = steps.iter();
            steps.any(|step| step.kind.awaits().contains(hold))
        };
        let holds: Vec<usize> = holds.iter().copied().filter(means).collect();
        let is_kept = why_not_undone(&self.state).is_none();
        let Some(paused) = &mut self.state.paused else {
            return Ok(());
        };
        if holds.is_empty() {
            return Ok(());
        }
        if paused.held.len() >= HELD_MAX && !is_kept {
            paused.forget();
        }
        if paused.held.len() >= HELD_MAX {
            return Err(EngineError::Full);
        }
        paused.held.push(holds);
        Ok(())
    }

    fn skip(&mut self, hand: &Hand, n: u32, way: usize) -> Result<(), EngineError> {
        let (step, token) = self.place(n)?;
        let ways = step.kind.skips(&token.stand);
        let way = ways
            .get(way)
            .ok_or_else(|| cannot("there is no such way on from there"))?;
        self.note(hand, &step.id, Done::Skipped);
        self.close(&token);
        step.kind.skip(self, step, &token, way);
        Ok(())
    }

    fn retry(&mut self, hand: &Hand, n: u32) -> Result<(), EngineError> {
        let (step, _) = self.place(n)?;
        self.note(hand, &step.id, Done::Retried);
        self.lead(n, &step.id)
    }

    fn jump(&mut self, hand: &Hand, from: Option<u32>, to: &str) -> Result<(), EngineError> {
        let place = from.map(|n| self.place(n)).transpose()?;
        let parent = place.and_then(|(_, token)| token.parent);
        let known = goes(self.definition, &self.state, parent);
        if !known.iter().any(|step| step.id == to) {
            return Err(cannot(if self.definition.step(to).is_none() {
                "there is no such step"
            } else {
                "nobody can be sent there from where they are: it watches, or it lies within a part that is only gone through whole"
            }));
        }
        self.note(hand, to, Done::Jumped);
        match from {
            Some(n) => self.lead(n, to),
            None => self.lead_all(to),
        }
    }

    fn place(&self, n: u32) -> Result<(&'a Step, Token), EngineError> {
        if self.token(n).is_none() {
            return Err(cannot("the patient is not there any more"));
        }
        self.step_of(n)
    }

    /// Calls off what is open at a place.
    pub(super) fn close(&mut self, token: &Token) {
        self.call_off(token, CALLED_OFF, CLOSED);
        if let Some(step) = self.definition.step(&token.step) {
            step.kind.close(self, token, CLOSED, true);
        }
        if let Some(paused) = &mut self.state.paused {
            paused.unsent.retain(|unsent| unsent.n != token.n);
        }
    }

    /// Ends a place, and all that it waits for, without going on.
    pub(super) fn close_below(&mut self, n: u32, to: &str) {
        let inside = |token: &&Token| token.parent == Some(n);
        let inside: Vec<u32> = self
            .state
            .tokens
            .iter()
            .filter(inside)
            .map(|token| token.n)
            .collect();
        for n in inside {
            self.close_below(n, to);
            self.drop_place(n, to);
        }
        if let Some(paused) = &mut self.state.paused {
            paused.ahead.retain(|ahead| ahead.parent != Some(n));
        }
    }

    pub(super) fn drop_place(&mut self, n: u32, to: &str) {
        let Some(at) = self.state.tokens.iter().position(|token| token.n == n) else {
            return;
        };
        let token = self.state.tokens.remove(at);
        self.close(&token);
        self.take_back_calls(|owed| owed.n == n);
        let what = What::Left {
            label: BY_HAND.to_owned(),
            since_ms: token.since_ms,
            to: vec![to.to_owned()],
        };
        self.trail(&token.step, what, None);
    }

    fn target(&self, to: &str) -> Result<Target, EngineError> {
        let index = self.definition.index.get(to);
        let index = index.ok_or_else(|| EngineError::NoStep(to.to_owned()))?;
        Ok(Target {
            steps: vec![*index],
            ..Target::default()
        })
    }

    /// Leads one place, with all that it waits for, to a step.
    fn lead(&mut self, n: u32, to: &str) -> Result<(), EngineError> {
        let target = self.target(to)?;
        self.close_below(n, to);
        if let Some(token) = self.token(n).cloned() {
            self.close(&token);
        }
        // Who is led away before the answer came may have been heard all the same.
        self.take_back_calls(|owed| owed.n == n);
        self.leave(n, BY_HAND, &target);
        Ok(())
    }

    /// Leads the patient from everywhere to a step.
    fn lead_all(&mut self, to: &str) -> Result<(), EngineError> {
        let target = self.target(to)?;
        let places: Vec<u32> = self.state.tokens.iter().map(|token| token.n).collect();
        for n in places {
            self.drop_place(n, to);
        }
        // What was remembered isn't for what begins now, and is there still where this is taken back.
        if let Some(paused) = &mut self.state.paused {
            paused.ahead.clear();
        }
        self.spawn(&target);
        Ok(())
    }

    /// Takes the last skip, retry or jump back: what it began is called off, and the patient is where they
    /// were. What waits for nobody goes on as it was; a form, a task, a visit or a message is begun anew.
    fn undo(&mut self, hand: &Hand) -> Result<(), EngineError> {
        if let Some(why) = why_not_undone(&self.state) {
            return Err(EngineError::Cannot(why));
        }
        if let Some(undo) = &self.state.undo
            && undo.was.is_some()
        {
            // That takes the version before it, which whoever calls has.
            return Err(cannot("it was moved to another version last"));
        }
        let Some(undo) = self.state.undo.take() else {
            return Ok(());
        };
        if hand.batch.is_some() && undo.batch.is_none() {
            return Err(cannot(NOT_A_BATCHS));
        }
        self.note(hand, "", Done::Undone);
        self.restore(undo)
    }

    /// Puts a patient back to where an act found them.
    pub(super) fn restore(&mut self, undo: Box<Undo>) -> Result<(), EngineError> {
        let was = |n: u32| undo.tokens.iter().any(|token| token.n == n);
        let begun: Vec<Token> = self
            .state
            .tokens
            .iter()
            .filter(|token| !was(token.n))
            .cloned()
            .collect();
        let back: Vec<String> = undo.tokens.iter().map(|token| token.step.clone()).collect();
        for token in begun {
            self.drop_place(token.n, back.first().map_or("", String::as_str));
        }
        let stayed: BTreeSet<u32> = self.state.tokens.iter().map(|token| token.n).collect();
        self.state.tokens.clear();
        self.ahead.clear();
        for token in undo.tokens {
            let (step, index) = self.definition.index.get(&token.step).map_or_else(
                || Err(EngineError::NoStep(token.step.clone())),
                |index| Ok((&self.definition.steps[*index], *index)),
            )?;
            let acts = step.kind.makes().is_some() || !step.kind.messages().is_empty();
            if acts && !stayed.contains(&token.n) {
                self.ahead.push_back((index, token.parent));
            } else {
                self.state.tokens.push(token);
            }
        }
        self.state.facts = undo.facts;
        if let Some(paused) = &mut self.state.paused {
            paused.ahead = undo.ahead;
        }
        self.run()
    }
}

impl Paused {
    /// Forgets events that came before all that is put off now.
    fn forget(&mut self) {
        let first = self.ahead.iter().map(|ahead| ahead.after).min();
        let first = first.unwrap_or(0).min(count(self.held.len()));
        self.held.drain(..first as usize);
        for ahead in &mut self.ahead {
            ahead.after -= first;
        }
    }
}

fn cannot(words: &str) -> EngineError {
    EngineError::Cannot(words.to_owned())
}

pub(super) fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}

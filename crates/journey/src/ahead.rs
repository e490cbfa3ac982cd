//! A journey run ahead: one patient in virtual time, by the production engine.
//!
//! It does what the runner and the mover do around the engine: what is known of a message at once comes
//! back as the next input of the same unit of work, and timers fire when they are due. What the world
//! answers to an effect is for the caller to say ([`World`]): a scenario has patients and staff who do
//! what is written down, a simulation has a cohort that does what is drawn.

use crate::definition::Definition;
use crate::engine::{
    self, Context, Decision, Effect, EngineError, Event, Fact, Ids, Input, REPLAYED, Start,
};
use crate::state::{State, TrailEntry, Which};
use std::collections::{BTreeMap, VecDeque};

/// What is outside the engine.
pub(crate) trait World {
    /// Takes an effect in. What is known of it at once comes back as the engine's next input.
    fn happens(
        &mut self,
        definition: &Definition,
        state: &State,
        effect: &Effect,
        now_ms: u64,
    ) -> Option<Input>;
    /// Whether messages that reach out have to ask for room.
    fn limited(&self, _definition: &Definition) -> bool {
        false
    }
    /// What the patient's consents say, where that is decided by their dates too.
    fn consents(&self, _definition: &Definition, _now_ms: u64) -> Option<Fact> {
        None
    }
    /// A message that was held doesn't wait any more, whatever became of it.
    fn gives_up(&mut self, _n: u32, _which: Which) {}
    /// Sees what was written down.
    fn wrote(&mut self, _entry: &TrailEntry) {}
}

/// Ids as the plain names that they are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainIds;

impl Ids for PlainIds {
    fn id(&self, name: &str) -> String {
        name.to_owned()
    }
    fn questionnaire(&self, step: &str) -> String {
        format!("Questionnaire/{step}")
    }
    fn questionnaire_of(&self, version: u32, step: &str) -> String {
        format!("Questionnaire/{version}/{step}")
    }
}

/// Most draws of the arms that a start draws at once: an arm of one in a hundred is all but sure by then.
const DRAWS_MAX: u32 = 10_000;

/// Plain names, but those that an experiment's arm is drawn by stand with a number that makes another draw.
struct Redrawn<'a>(&'a BTreeMap<&'a str, u32>);

impl Ids for Redrawn<'_> {
    fn id(&self, name: &str) -> String {
        // `experiment/JOURNEY/EXPERIMENT/PATIENT`.
        let drawn = name.strip_prefix("experiment/");
        let drawn = drawn.and_then(|drawn| self.0.get(drawn.split('/').nth(1)?));
        drawn.map_or_else(|| PlainIds.id(name), |draws| format!("{name}/{draws}"))
    }
    fn questionnaire(&self, step: &str) -> String {
        PlainIds.questionnaire(step)
    }
    fn questionnaire_of(&self, version: u32, step: &str) -> String {
        PlainIds.questionnaire_of(version, step)
    }
}

/// Starts a journey so that the patient is in these arms. What the start itself draws is drawn until it is
/// the arm that is asked for; what is drawn later is found in the state as if it had been drawn before.
fn start_in(
    definition: &Definition,
    facts: &Start,
    now_ms: u64,
    arms: &BTreeMap<String, String>,
    limited: bool,
) -> Result<Decision, EngineError> {
    let mut draws: BTreeMap<&str, u32> = BTreeMap::new();
    loop {
        let context = Context {
            now_ms,
            instance: INSTANCE,
            ids: &Redrawn(&draws),
            limited,
        };
        let mut decision = engine::start(definition, facts.clone(), &context)?;
        let drawn = &decision.state.arms;
        let wrong = arms
            .iter()
            .find(|(experiment, arm)| drawn.get(*experiment).is_some_and(|drawn| drawn != *arm));
        let Some((experiment, _)) = wrong else {
            for (experiment, arm) in arms {
                let kept = decision.state.arms.entry(experiment.clone());
                kept.or_insert_with(|| arm.clone());
            }
            return Ok(decision);
        };
        let number = draws.entry(experiment).or_default();
        *number += 1;
        if *number > DRAWS_MAX {
            let words = format!("an arm of `{experiment}` that is never drawn");
            return Err(EngineError::NoStep(words));
        }
    }
}

/// The instance of every run: there is one for each patient, so its id need not tell them apart.
pub(crate) const INSTANCE: &str = "journey";

/// One patient in a journey, in virtual time.
pub(crate) struct Run<'a> {
    definition: &'a Definition,
    instance: &'a str,
    ids: &'a dyn Ids,
    state: State,
    now_ms: u64,
    /// Number of the last event, as a feed counts.
    number: u64,
    limited: bool,
}

impl<'a> Run<'a> {
    /// Starts the journey, with the patient in these arms of experiments and in drawn ones of others.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn start(
        definition: &'a Definition,
        facts: &Start,
        arms: &BTreeMap<String, String>,
        now_ms: u64,
        world: &mut dyn World,
    ) -> Result<Self, EngineError> {
        let limited = world.limited(definition);
        let decision = start_in(definition, facts, now_ms, arms, limited)?;
        let run = Self {
            definition,
            instance: INSTANCE,
            ids: &PlainIds,
            state: decision.state,
            now_ms,
            number: facts.number,
            limited,
        };
        run.begun(decision.effects, world)
    }

    /// Starts the journey under a name and with ids of one's own; arms are drawn by them.
    ///
    /// # Errors
    /// [`EngineError`].
    pub(crate) fn start_as(
        definition: &'a Definition,
        facts: &Start,
        (instance, ids): (&'a str, &'a dyn Ids),
        now_ms: u64,
        world: &mut dyn World,
    ) -> Result<Self, EngineError> {
        let limited = world.limited(definition);
        let context = Context {
            now_ms,
            instance,
            ids,
            limited,
        };
        let decision = engine::start(definition, facts.clone(), &context)?;
        let run = Self {
            definition,
            instance,
            ids,
            state: decision.state,
            now_ms,
            number: facts.number,
            limited,
        };
        run.begun(decision.effects, world)
    }

    fn begun(self, effects: Vec<Effect>, world: &mut dyn World) -> Result<Self, EngineError> {
        let mut run = self;
        if run.running()
            && let Some(Fact::Consent { next_ms, .. }) = world.consents(run.definition, run.now_ms)
        {
            run.state.consents_ms = next_ms;
        }
        run.take_effects(effects, world)?;
        Ok(run)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }
    pub(crate) fn running(&self) -> bool {
        self.state.running()
    }

    /// When time will do something next.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let next_ms = engine::next_timer_ms(self.definition, &self.state);
        debug_assert_eq!(
            next_ms,
            engine::timers(self.definition, &self.state)
                .into_values()
                .min(),
            "the soonest timer, told without the names of all"
        );
        next_ms
    }

    /// Lets time pass until then, timers included.
    pub(crate) fn pass(&mut self, until_ms: u64, world: &mut dyn World) -> Result<(), EngineError> {
        while let Some(due_ms) = self.due_ms().filter(|due_ms| *due_ms <= until_ms) {
            self.fire(due_ms, world)?;
        }
        self.now_ms = self.now_ms.max(until_ms);
        Ok(())
    }

    /// Lets time pass in which no timer is due.
    pub(crate) fn wait(&mut self, until_ms: u64) {
        self.now_ms = self.now_ms.max(until_ms);
    }

    /// Fires the timers that are due at a time.
    pub(crate) fn fire(&mut self, due_ms: u64, world: &mut dyn World) -> Result<(), EngineError> {
        self.now_ms = self.now_ms.max(due_ms);
        let asked = self.state.consents_ms;
        if asked.is_some_and(|due_ms| due_ms <= self.now_ms)
            && let Some(fact) = world.consents(self.definition, self.now_ms)
        {
            // As the runner does before it lets time pass: a denial may begin on a day.
            let said = Event {
                number: REPLAYED,
                reference: "timer".to_owned(),
                fact,
                holds: Vec::new(),
            };
            let changed = self.input(Input::Event(said), world)?;
            if changed && self.due_ms().is_none_or(|due_ms| due_ms > self.now_ms) {
                return Ok(());
            }
        }
        let read = self.number;
        if !self.input(Input::Timer { read }, world)? {
            // Nothing would ever come of it, and the run would stand still here.
            return Err(EngineError::NoStep("a timer that does nothing".to_owned()));
        }
        Ok(())
    }

    /// An event of the patient's record, now.
    pub(crate) fn event(
        &mut self,
        reference: String,
        fact: Fact,
        holds: Vec<usize>,
        world: &mut dyn World,
    ) -> Result<bool, EngineError> {
        self.number += 1;
        let event = Event {
            number: self.number,
            reference,
            fact,
            holds,
        };
        self.input(Input::Event(event), world)
    }

    /// Any input, now. Whether it changed anything.
    pub(crate) fn input(
        &mut self,
        input: Input,
        world: &mut dyn World,
    ) -> Result<bool, EngineError> {
        let decision = self.step(input)?;
        let changed = decision.changed;
        self.take(decision, world)?;
        Ok(changed)
    }

    fn step(&self, input: Input) -> Result<Decision, EngineError> {
        let context = Context {
            now_ms: self.now_ms,
            instance: self.instance,
            ids: self.ids,
            limited: self.limited,
        };
        engine::step(self.definition, &self.state, input, &context)
    }

    /// As the mover does: an effect after the other, and what each is answered with at once.
    fn take(&mut self, decision: Decision, world: &mut dyn World) -> Result<(), EngineError> {
        self.come_to(decision.state, world);
        self.take_effects(decision.effects, world)
    }

    /// Comes to a state. As in production, a message that waits no more gives its turn up.
    fn come_to(&mut self, next: State, world: &mut dyn World) {
        for held in &self.state.held {
            let mut still = next.held.iter();
            if !still.any(|still| (still.n, still.which) == (held.n, held.which)) {
                world.gives_up(held.n, held.which);
            }
        }
        self.state = next;
    }

    fn take_effects(
        &mut self,
        effects: Vec<Effect>,
        world: &mut dyn World,
    ) -> Result<(), EngineError> {
        self.tell(world);
        let mut effects: VecDeque<Effect> = effects.into();
        while let Some(effect) = effects.pop_front() {
            let answer = world.happens(self.definition, &self.state, &effect, self.now_ms);
            if let Some(input) = answer {
                let next = self.step(input)?;
                self.come_to(next.state, world);
                self.tell(world);
                effects.extend(next.effects);
            }
        }
        Ok(())
    }

    /// Hands over what was written down. As with long trails that are stored, the state keeps the count,
    /// so that the next step costs no more than the first.
    fn tell(&mut self, world: &mut dyn World) {
        let written = std::mem::take(&mut self.state.trail);
        self.state.moved += u32::try_from(written.len()).unwrap_or(0);
        for entry in &written {
            world.wrote(entry);
        }
    }
}

//! Messages that have to wait until they may reach out: for the end of quiet hours, or for room among all that
//! the patient's journeys send.

use super::messages::{channel_of, message_slot};
use super::{CALLED_OFF, EXPIRED, Effect, Engine, EngineError};
use crate::definition::Step;
use crate::room::Room;
use crate::state::{Held, What, Which};

/// Before the names of timers at which messages ask again.
pub(super) const TIMER: &str = "held/";

/// The name of the timer at which a message asks again.
pub(super) fn timer(held: &Held) -> String {
    format!(
        "{TIMER}{}/{}",
        held.n,
        message_slot(held.which, usize::from(held.channel))
    )
}

impl Engine<'_> {
    /// Asks whether a message may go out by a channel.
    pub(super) fn ask(&mut self, step: &Step, n: u32, which: Which, place: u8, until_ms: u64) {
        let Some(message) = step.kind.message_of(which) else {
            return;
        };
        let Some(channel) = channel_of(step, which, place) else {
            return;
        };
        self.effects.push(Effect::Ask {
            step: step.id.clone(),
            n,
            which,
            channel,
            place,
            urgency: message.urgency,
            until_ms,
        });
    }

    fn held_at(&self, n: u32, which: Which) -> Option<usize> {
        let mut held = self.state.held.iter();
        held.position(|held| held.n == n && held.which == which)
    }

    /// Whether a message waits.
    pub(super) fn is_held(&self, n: u32, which: Which) -> bool {
        self.held_at(n, which).is_some()
    }

    /// What a message that asked was told.
    pub(super) fn room(
        &mut self,
        n: u32,
        which: Which,
        place: u8,
        room: Room,
    ) -> Result<(), EngineError> {
        // Who has left meanwhile needs no message.
        if self.token(n).is_none() {
            return Ok(());
        }
        let (step, token) = self.step_of(n)?;
        if !step.kind.under_way(&token.stand).contains(&(which, place)) {
            return Ok(());
        }
        let now_ms = self.context.now_ms;
        let before = self.held_at(n, which).map(|at| self.state.held.remove(at));
        let until_ms = match &before {
            Some(held) => held.until_ms,
            // It was asked for just now, when it was said until when it may go.
            None => self.until(step, n, which, place),
        };
        let Some(channel) = channel_of(step, which, place) else {
            return Ok(());
        };
        match room {
            Room::Free => self.out(step, n, which, place, until_ms),
            Room::Until { at_ms, why } if at_ms > now_ms && at_ms < until_ms => {
                let held = Held {
                    n,
                    which,
                    channel: place,
                    at_ms,
                    asked: false,
                    until_ms,
                    why,
                };
                let what = What::Held {
                    channel,
                    which,
                    until_ms: at_ms,
                    why,
                };
                let is_known = |before: &Held| before.at_ms == at_ms && before.why == why;
                if !before.as_ref().is_some_and(is_known) {
                    self.trail(&step.id, what, None);
                }
                self.state.held.push(held);
            }
            // It couldn't go in its time, so it isn't kept waiting in vain.
            Room::Until { why, .. } => {
                let what = What::Undelivered {
                    channel,
                    which,
                    code: why.code().to_owned(),
                };
                self.trail(&step.id, what, None);
                let next = self.way_after(n, which, usize::from(place));
                self.send(step, n, which, next);
            }
        }
        self.run()
    }

    /// Until when a message may go that was put on its way in this unit of work.
    fn until(&mut self, step: &Step, n: u32, which: Which, place: u8) -> u64 {
        let now_ms = self.context.now_ms;
        let since_ms = self.token(n).map_or(now_ms, |token| token.since_ms);
        self.stand_mut(n)
            .and_then(|stand| step.kind.goes_out(stand, which, place, since_ms, now_ms))
            .unwrap_or(now_ms)
    }

    /// Lets the messages ask again whose time has come.
    pub(super) fn ask_again(&mut self) -> Result<(), EngineError> {
        let now_ms = self.context.now_ms;
        let is_due = |held: &&Held| !held.asked && held.at_ms <= now_ms;
        let due: Vec<Held> = self.state.held.iter().filter(is_due).cloned().collect();
        for held in due {
            self.ask_for(&held)?;
        }
        self.run()
    }

    /// Lets all that waits ask again.
    pub(super) fn ask_all(&mut self) -> Result<(), EngineError> {
        if self.state.paused.is_some() || self.state.held.is_empty() {
            return Ok(());
        }
        for held in self.state.held.clone() {
            self.ask_for(&held)?;
        }
        self.run()
    }

    fn ask_for(&mut self, held: &Held) -> Result<(), EngineError> {
        let at = self.held_at(held.n, held.which);
        let (step, _) = self.step_of(held.n)?;
        let message = step.kind.message_of(held.which);
        let limited =
            self.context.limited || message.is_some_and(|message| message.window.is_some());
        if self.context.now_ms < held.until_ms && limited {
            if let Some(held) = at.and_then(|at| self.state.held.get_mut(at)) {
                held.asked = true;
            }
            self.ask(step, held.n, held.which, held.channel, held.until_ms);
            return Ok(());
        }
        if let Some(at) = at {
            self.state.held.remove(at);
        }
        if self.context.now_ms < held.until_ms {
            // Nothing is limited any more.
            self.out(step, held.n, held.which, held.channel, held.until_ms);
            return Ok(());
        }
        // Nobody was awake when it could have gone.
        self.given_up(step, held, EXPIRED);
        let next = self.way_after(held.n, held.which, usize::from(held.channel));
        self.send(step, held.n, held.which, next);
        Ok(())
    }

    /// Calls a message off that waits. It is not to be sent, so no other channel is tried.
    pub(super) fn call_off_held(&mut self, n: u32, which: Which) -> Result<(), EngineError> {
        let Some(at) = self.held_at(n, which) else {
            return Ok(());
        };
        let held = self.state.held.remove(at);
        let (step, _) = self.step_of(n)?;
        self.given_up(step, &held, CALLED_OFF);
        step.kind.undelivered(self, n, which);
        self.run()
    }

    /// Says of what waited that it doesn't go out by its channel.
    fn given_up(&mut self, step: &Step, held: &Held, code: &str) {
        if let Some(channel) = channel_of(step, held.which, held.channel) {
            let what = What::Undelivered {
                channel,
                which: held.which,
                code: code.to_owned(),
            };
            self.trail(&step.id, what, None);
        }
    }

    /// What waited at a place that is left is not needed any more, which the trail says.
    pub(super) fn held_no_more(&mut self, step: &Step, n: u32) {
        let mut gone = Vec::new();
        self.state.held.retain(|held| {
            let stays = held.n != n;
            if !stays {
                gone.push(held.clone());
            }
            stays
        });
        for held in gone {
            self.given_up(step, &held, CALLED_OFF);
        }
    }
}

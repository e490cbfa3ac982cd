//! Messages: channel by channel, until one delivers or none is left.

use super::{About, Context, Effect, Engine, EngineError, Outcome, Sent};
use crate::definition::{Channel, Definition, Step};
use crate::state::{Stand, State, Token, Ways, What, Which};
use crate::time::DAY_MS;
use fhir::ResourceType;

/// Code of a message that was called off because nobody needs it any more.
pub(crate) const CALLED_OFF: &str = "called-off";
/// Code of a message that was not delivered in the time that its channel had.
pub(crate) const EXPIRED: &str = "expired";

/// The messages whose receipts are waited for before the journey goes on.
pub(crate) fn awaited_messages(
    definition: &Definition,
    state: &State,
    context: &Context<'_>,
) -> Vec<String> {
    let mut awaited = Vec::new();
    for token in &state.tokens {
        let Some(step) = definition.step(&token.step) else {
            continue;
        };
        for (which, place) in step.kind.under_way(&token.stand) {
            // An invitation is only the way to its form, which is waited for whether or not it arrives.
            let mut held = state.held.iter();
            let is_held = held.any(|held| held.n == token.n && held.which == which);
            if which == Which::Message && !is_held {
                let slot = message_slot(which, usize::from(place));
                let name = format!("{}/{}/{slot}", context.instance, token.n);
                awaited.push(context.ids.id(&name));
            }
        }
    }
    awaited
}

/// The e-mails of `send`s whose time is over, by what makes an id of a name.
pub(crate) fn overdue_messages(
    definition: &Definition,
    state: &State,
    (now_ms, instance): (u64, &str),
    id: impl Fn(&str) -> String,
) -> Vec<String> {
    let overdue = state.tokens.iter().filter_map(|token| {
        let Stand::Sending { channel, until_ms } = token.stand else {
            return None;
        };
        let step = definition.step(&token.step)?;
        let is_over = until_ms <= now_ms;
        if !is_over || channel_of(step, Which::Message, channel) != Some(Channel::Email) {
            return None;
        }
        let slot = message_slot(Which::Message, usize::from(channel));
        Some(id(&format!("{instance}/{}/{slot}", token.n)))
    });
    overdue.collect()
}

impl Engine<'_> {
    /// Puts a message on its way by the channel with an index; past the last, it has failed.
    pub(crate) fn send(&mut self, step: &Step, n: u32, which: Which, index: usize) {
        let Some(message) = step.kind.message_of(which) else {
            return;
        };
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let Some(channel) = channel_of(step, which, place) else {
            step.kind.undelivered(self, n, which);
            return;
        };
        if self.puts_off(n, which, place) {
            return;
        }
        let now_ms = self.context.now_ms;
        let since_ms = self.token(n).map_or(now_ms, |token| token.since_ms);
        let Some(expires_ms) = self
            .stand_mut(n)
            .and_then(|stand| step.kind.goes_out(stand, which, place, since_ms, now_ms))
        else {
            return;
        };
        let limited = self.context.limited || message.window.is_some();
        if limited && crate::room::reaches_out(channel) {
            self.ask(step, n, which, place, expires_ms);
        } else {
            self.out(step, n, which, place, expires_ms);
        }
    }

    /// The place of the channel that is tried after another: the next, or the next in the patient's order.
    pub(crate) fn way_after(&self, n: u32, which: Which, place: usize) -> usize {
        let mut ways = self.state.ways.iter();
        let Some(ways) = ways.find(|ways| (ways.n, ways.which) == (n, which)) else {
            return place + 1;
        };
        let mut rest = ways.places.iter().map(|place| usize::from(*place));
        rest.find(|tried| *tried == place);
        rest.next().unwrap_or(usize::MAX)
    }

    /// A message that asked whether it may go out is to try its channels in the patient's order.
    pub(super) fn ways(
        &mut self,
        n: u32,
        which: Which,
        places: Vec<u8>,
    ) -> Result<(), EngineError> {
        let Some(first) = places.first().copied() else {
            return Ok(());
        };
        // Who has left meanwhile needs no message.
        if self.token(n).is_none() {
            return Ok(());
        }
        let (step, token) = self.step_of(n)?;
        let under_way = step.kind.under_way(&token.stand);
        if !under_way.iter().any(|(other, _)| *other == which) {
            return Ok(());
        }
        // Of the messages that a place sends one after another, only those under way can need theirs still.
        let is_needed = |ways: &Ways| {
            ways.n != n
                || (ways.which != which && under_way.iter().any(|(other, _)| *other == ways.which))
        };
        self.state.ways.retain(is_needed);
        self.state.ways.push(Ways { n, which, places });
        self.send(step, n, which, usize::from(first));
        self.run()
    }

    /// Puts a message on its way.
    pub(super) fn out(&mut self, step: &Step, n: u32, which: Which, place: u8, expires_ms: u64) {
        let index = usize::from(place);
        let Some(channel) = channel_of(step, which, place) else {
            return;
        };
        let communication = self.resource_id(n, &message_slot(which, index));
        self.trail(
            &step.id,
            What::Sent { channel, which },
            Some(format!("Communication/{communication}")),
        );
        let about = self.token(n).and_then(|token| {
            let standing = (self.definition, &self.state);
            about(standing, step, token, |slot| self.resource_id(n, slot))
        });
        self.effects.push(Effect::Send {
            step: step.id.clone(),
            communication,
            channel,
            which,
            expires_ms,
            about,
        });
    }

    /// Calls off what a place has put on its way and what may not have left yet. What lies in the portal
    /// was delivered by being written.
    pub(crate) fn call_off(&mut self, token: &Token, code: &str, why: &str) {
        let Some(step) = self.definition.step(&token.step) else {
            return;
        };
        // What was held hasn't left, and nobody but the journey knows of it.
        let under_way = step.kind.under_way(&token.stand);
        for (which, place) in under_way {
            if self.is_held(token.n, which) {
                continue;
            }
            let channel = channel_of(step, which, place);
            if let Some(channel) = channel.filter(|channel| crate::room::reaches_out(*channel)) {
                let slot = message_slot(which, usize::from(place));
                let message = Sent {
                    step: step.id.clone(),
                    communication: self.resource_id(token.n, &slot),
                    channel,
                    which,
                };
                self.effects.push(Effect::CallOff {
                    message,
                    code: code.to_owned(),
                    why: why.to_owned(),
                });
            }
        }
        self.held_no_more(step, token.n);
    }

    /// A message didn't leave because it was called off.
    pub(super) fn called_off(&mut self, message: &Sent) {
        self.trail(
            &message.step,
            What::Undelivered {
                channel: message.channel,
                which: message.which,
                code: CALLED_OFF.to_owned(),
            },
            Some(format!("Communication/{}", message.communication)),
        );
    }

    /// Puts a message on its way about a place that is left: by the channel with an index, at once, and nobody waits for
    /// its receipt.
    pub(crate) fn tell(&mut self, step: &Step, which: Which, index: usize, about: About) {
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let (Some(channel), Which::CalledOff { n, .. }) = (channel_of(step, which, place), which)
        else {
            return;
        };
        let communication = self.resource_id(n, &message_slot(which, index));
        let reference = Some(format!("Communication/{communication}"));
        self.trail(&step.id, What::Sent { channel, which }, reference);
        let a_day_ms = self.context.now_ms + DAY_MS;
        // Once it would have begun, nobody comes in vain any more.
        let expires_ms = match &about {
            About::Visit { start_ms, .. } => a_day_ms.min(*start_ms),
            About::Form(_) => a_day_ms,
        };
        self.effects.push(Effect::Send {
            step: step.id.clone(),
            communication,
            channel,
            which,
            expires_ms,
            about: Some(about),
        });
    }

    /// What became of a message about a place that is left: where it did not arrive, the next channel is tried.
    pub(super) fn told_of_what_is_left(&mut self, communication: &str, outcome: &Outcome) {
        let Outcome::NotDone(code) = outcome else {
            return;
        };
        let reference = format!("Communication/{communication}");
        let sent = self.state.trail.iter().rev().find_map(|entry| {
            let What::Sent { channel, which } = entry.what else {
                return None;
            };
            let is_it = entry.reference.as_deref() == Some(&reference);
            matches!(which, Which::CalledOff { .. })
                .then(|| (entry.step.clone(), channel, which))
                .filter(|_| is_it)
        });
        let Some((id, channel, which)) = sent else {
            return;
        };
        let is_known = self.state.trail.iter().any(|entry| {
            matches!(entry.what, What::Undelivered { .. })
                && entry.reference.as_deref() == Some(&reference)
        });
        let (definition, Which::CalledOff { n, .. }) = (self.definition, which) else {
            return;
        };
        let Some(step) = definition.step(&id).filter(|_| !is_known) else {
            return;
        };
        let undelivered = What::Undelivered {
            channel,
            which,
            code: code.clone(),
        };
        self.trail(&id, undelivered, Some(reference));
        let visit = self.resource_id(n, "visit");
        let about = format!("Appointment/{visit}");
        let booked = self.state.trail.iter().rev().find_map(|entry| {
            let is_it = entry.reference.as_deref() == Some(&about);
            match entry.what {
                What::Booked { start_ms } if is_it => Some(start_ms),
                _ => None,
            }
        });
        let message = step.kind.message_of(which);
        let channels = message.map_or(&[][..], |message| &message.channels);
        let next = channels.iter().position(|known| *known == channel);
        if let (Some(start_ms), Some(place), true) = (booked, next, helps(code)) {
            let about = About::Visit {
                appointment: visit,
                start_ms,
                by_ms: None,
                calendar: None,
            };
            self.tell(step, which, place + 1, about);
        }
    }

    pub(super) fn receipt(
        &mut self,
        communication: &str,
        outcome: &Outcome,
    ) -> Result<(), EngineError> {
        let definition = self.definition;
        self.whole()?;
        let awaited = self.state.tokens.iter().find_map(|token| {
            let step = definition.step(&token.step)?;
            let (which, place) =
                step.kind
                    .under_way(&token.stand)
                    .into_iter()
                    .find(|(which, place)| {
                        self.resource_id(token.n, &message_slot(*which, usize::from(*place)))
                            == communication
                    })?;
            Some((step, token.n, which, usize::from(place)))
        });
        let Some((step, n, which, place)) = awaited else {
            self.told_of_what_is_left(communication, outcome);
            return Ok(());
        };
        let channels = step
            .kind
            .message_of(which)
            .map_or(&[][..], |message| &message.channels);
        let Some(channel) = channels.get(place).copied() else {
            return Ok(());
        };
        match outcome {
            Outcome::UnderWay => {}
            Outcome::Delivered => {
                step.kind.delivered(self, step, n, channel);
                return self.run();
            }
            Outcome::NotDone(code) => {
                self.trail(
                    &step.id,
                    What::Undelivered {
                        channel,
                        which,
                        code: code.clone(),
                    },
                    Some(format!("Communication/{communication}")),
                );
                let next = if helps(code) {
                    self.way_after(n, which, place)
                } else {
                    channels.len()
                };
                self.send(step, n, which, next);
                return self.run();
            }
        }
        Ok(())
    }
}

/// Whether another channel may help where one failed for this reason. Consent is about the purpose, not the channel; the
/// dead get no more mail; and who can't sign in finds nothing in the portal either.
fn helps(code: &str) -> bool {
    !matches!(code, "consent" | "deceased" | "no-sign-in")
}

pub(crate) fn message_slot(which: Which, index: usize) -> String {
    format!("{}/{index}", which.slot())
}

/// The channel of a message, by its place.
pub(crate) fn channel_of(step: &Step, which: Which, place: u8) -> Option<Channel> {
    let message = step.kind.message_of(which)?;
    message.channels.get(usize::from(place)).copied()
}

/// What the messages of a place are about.
pub(crate) fn about(
    (definition, state): (&Definition, &State),
    step: &Step,
    token: &Token,
    id: impl Fn(&str) -> String,
) -> Option<About> {
    let (kind, slot) = step.kind.makes()?;
    match kind {
        ResourceType::Task => Some(About::Form(id(slot))),
        ResourceType::Appointment => Some(About::Visit {
            appointment: id(slot),
            start_ms: token.stand.visit_ms()?,
            by_ms: step.kind.by_ms(definition, state, token),
            calendar: step.kind.calendar(&token.stand),
        }),
        _ => None,
    }
}

//! Messages: channel by channel, until one delivers or none is left.

use super::{Context, Effect, Engine, EngineError, Outcome, Sent};
use crate::Channel;
use crate::definition::{Step, StepKind};
use crate::state::{Stand, State, Token, What, Which};
use serde_json::json;

/// Code of a message that was called off because nobody needs it any more.
pub(crate) const CALLED_OFF: &str = "called-off";
/// Code of a message that was not delivered in the time that its channel had.
pub(super) const EXPIRED: &str = "expired";

/// The messages whose receipts are waited for before the journey goes on.
pub(crate) fn awaited_messages(state: &State, context: &Context<'_>) -> Vec<String> {
    let slot = |token: &Token| match token.stand {
        Stand::Sending { channel, .. } => Some(context.ids.id(&format!(
            "{}/{}/{}",
            context.instance,
            token.n,
            message_slot(Which::Message, usize::from(channel))
        ))),
        _ => None,
    };
    state.tokens.iter().filter_map(slot).collect()
}

impl Engine<'_> {
    /// Puts a message on its way by the channel with an index; past the last, it has failed.
    pub(super) fn send(&mut self, step: &Step, n: u32, which: Which, index: usize) {
        let channels = match &step.kind {
            StepKind::Send(send) => &send.message.channels,
            StepKind::Ask(ask) => &ask.invitation.channels,
            _ => return,
        };
        let Some(channel) = channels.get(index).copied() else {
            // A form lies in the portal whether or not the invitation arrived; only a message has failed.
            if let StepKind::Send(send) = &step.kind {
                let target = send.on_failure.clone().unwrap_or_default();
                self.leave(n, "not delivered", &target);
            }
            return;
        };
        let place = u8::try_from(index).unwrap_or(u8::MAX);
        let now_ms = self.context.now_ms;
        let since_ms = self.token(n).map_or(now_ms, |token| token.since_ms);
        let expires_ms = match (&step.kind, self.stand_mut(n)) {
            (StepKind::Send(send), Some(stand)) => {
                *stand = Stand::Sending {
                    channel: place,
                    until_ms: now_ms + send.expires_ms,
                };
                now_ms + send.expires_ms
            }
            (
                StepKind::Ask(ask),
                Some(Stand::Asking {
                    invited_by,
                    reminded_by,
                }),
            ) => {
                if which == Which::Reminder {
                    *reminded_by = Some(place);
                } else {
                    *invited_by = place;
                }
                since_ms + ask.give_up_after_ms
            }
            _ => return,
        };
        let communication = self.resource_id(n, &message_slot(which, index));
        self.trail(
            &step.id,
            What::Sent { channel, which },
            Some(format!("Communication/{communication}")),
        );
        let form = matches!(step.kind, StepKind::Ask(_)).then(|| self.resource_id(n, "task"));
        self.effects.push(Effect::Send {
            step: step.id.clone(),
            communication,
            channel,
            which,
            expires_ms,
            form,
        });
    }

    /// Calls off what a place has put on its way and what may not have left yet. What lies in the portal
    /// was delivered by being written.
    pub(super) fn call_off(&mut self, token: &Token, code: &str, why: &str) {
        let Some(step) = self.definition.step(&token.step) else {
            return;
        };
        let (channels, sent) = match (&step.kind, &token.stand) {
            (StepKind::Send(send), Stand::Sending { channel, .. }) => (
                &send.message.channels,
                vec![(Which::Message, usize::from(*channel))],
            ),
            (
                StepKind::Ask(ask),
                Stand::Asking {
                    invited_by,
                    reminded_by,
                },
            ) => (
                &ask.invitation.channels,
                std::iter::once((Which::Invitation, usize::from(*invited_by)))
                    .chain(reminded_by.map(|place| (Which::Reminder, usize::from(place))))
                    .collect(),
            ),
            _ => return,
        };
        for (which, place) in sent {
            if channels.get(place) == Some(&Channel::Email) {
                let message = Sent {
                    step: step.id.clone(),
                    communication: self.resource_id(token.n, &message_slot(which, place)),
                    channel: Channel::Email,
                    which,
                };
                self.effects.push(Effect::CallOff {
                    message,
                    code: code.to_owned(),
                    why: why.to_owned(),
                });
            }
        }
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

    pub(super) fn receipt(
        &mut self,
        communication: &str,
        outcome: &Outcome,
    ) -> Result<(), EngineError> {
        let awaited = self.state.tokens.iter().find_map(|token| {
            let candidates: Vec<(Which, u8)> = match &token.stand {
                Stand::Sending { channel, .. } => vec![(Which::Message, *channel)],
                Stand::Asking {
                    invited_by,
                    reminded_by,
                } => std::iter::once((Which::Invitation, *invited_by))
                    .chain(reminded_by.map(|place| (Which::Reminder, place)))
                    .collect(),
                _ => return None,
            };
            candidates
                .into_iter()
                .find(|(which, place)| {
                    self.resource_id(token.n, &message_slot(*which, usize::from(*place)))
                        == communication
                })
                .map(|(which, place)| (token.n, which, place))
        });
        let Some((n, which, place)) = awaited else {
            return Ok(());
        };
        let (step, _) = self.step_of(n)?;
        let channels = match &step.kind {
            StepKind::Send(send) => &send.message.channels,
            StepKind::Ask(ask) => &ask.invitation.channels,
            _ => return Ok(()),
        };
        let Some(channel) = channels.get(usize::from(place)).copied() else {
            return Ok(());
        };
        match outcome {
            Outcome::UnderWay => {}
            Outcome::Delivered => {
                if let StepKind::Send(send) = &step.kind {
                    self.learn(&step.id, "delivered_by", json!(channel.name()));
                    self.leave(n, "delivered", &send.next);
                    return self.run();
                }
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
                // Consent is about the purpose, not the channel, so no other channel helps; the dead get no
                // more mail; and who can't sign in finds nothing in the portal either.
                let next = if matches!(code.as_str(), "consent" | "deceased" | "no-sign-in") {
                    channels.len()
                } else {
                    usize::from(place) + 1
                };
                if next >= channels.len() && matches!(step.kind, StepKind::Ask(_)) {
                    // Remembered as "past the last", so that a repeated receipt finds nothing to do.
                    let past = u8::try_from(channels.len()).unwrap_or(u8::MAX);
                    if let Some(Stand::Asking {
                        invited_by,
                        reminded_by,
                    }) = self.stand_mut(n)
                    {
                        match which {
                            Which::Reminder => *reminded_by = Some(past),
                            _ => *invited_by = past,
                        }
                    }
                }
                self.send(step, n, which, next);
                return self.run();
            }
        }
        Ok(())
    }
}

fn message_slot(which: Which, index: usize) -> String {
    let which = match which {
        Which::Message => "message",
        Which::Invitation => "invitation",
        Which::Reminder => "reminder",
    };
    format!("{which}/{index}")
}

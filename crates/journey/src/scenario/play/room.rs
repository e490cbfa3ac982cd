//! Room for messages in a scenario, as the mover asks for it.

use super::Stage;
use crate::definition::Definition;
use crate::engine::{Effect, Fact, Input};
use crate::facts;
use crate::room::{Asks, Limits, Room, zone_of};

impl Stage {
    /// Whether the consents let the journey send.
    pub(super) fn permitted(&self, definition: &Definition, now_ms: u64) -> bool {
        matches!(
            self.consents_say(definition, now_ms),
            Fact::Consent {
                permitted: true,
                ..
            }
        )
    }

    pub(super) fn limits(&self, definition: &Definition) -> Limits {
        Limits::of(self.rules.messages(), &definition.limits)
    }

    /// Whether a message that asks may go out.
    pub(super) fn asked(
        &mut self,
        definition: &Definition,
        effect: &Effect,
        now_ms: u64,
    ) -> Option<Input> {
        let Effect::Ask {
            n,
            which,
            channel,
            place,
            urgency,
            until_ms,
            ..
        } = effect
        else {
            return None;
        };
        let refused = facts::refusal(self.person(), *channel, now_ms).is_some();
        let room = if refused || !self.permitted(definition, now_ms) {
            Room::Free
        } else {
            let zone = self.person().and_then(zone_of);
            let zone = zone.unwrap_or_else(|| definition.zone.clone());
            let key = format!("{n}/{which:?}");
            let asks = Asks {
                key: &key,
                urgency: *urgency,
                until_ms: *until_ms,
            };
            let limits = self.limits(definition);
            self.book.ask(&limits, &zone, &asks, now_ms)
        };
        Some(Input::Room {
            n: *n,
            which: *which,
            place: *place,
            room,
        })
    }
}

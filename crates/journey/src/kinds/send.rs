//! A message to the patient.

use super::{Carried, Plan, StepKind, Waiting, way};
use crate::check::Check;
use crate::decode::build::{Parts, length, line, message};
use crate::definition::{Channel, Definition, Message, Step, Target, Way};
use crate::engine::{EXPIRED, Engine, EngineError};
use crate::room::Urgency;
use crate::spec::{
    BECAUSE, CHANNELS, Clearance, EMAIL_MEMBER, Kind, Record, SMS_MEMBER, Shape, TOPIC,
    TRANSLATION, TRANSLATIONS, URGENCY, VOICE_MEMBER, WHILE_ADMITTED, WINDOW, may, must,
};
use crate::state::{Stand, State, Token, What, Which};
use crate::time::{DAY_MS, say_duration};
use crate::yaml::Node;
use fhir::ResourceType;
use fhir::path::Given;
use serde_json::json;
use std::sync::Arc;
use trust::consent::Topic;

static SEND: Record = Record {
    name: "send",
    doc: "A message to the patient.",
    one_of: &[],
    fields: &[
        must(
            "title",
            Shape::Line,
            "Heading of the message, as the patient sees it in the portal.",
        ),
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "The message, as shown in the portal behind login.",
        ),
        must(
            "channels",
            CHANNELS,
            "Channels in order of fall-back: the next is tried when one fails.",
        ),
        EMAIL_MEMBER,
        SMS_MEMBER,
        VOICE_MEMBER,
        may(
            "topic",
            TOPIC,
            "What it is about, as patients choose which messages they want by; `care` if not given. What an `ask` sends is about `forms`, and a `book` about `visits`.",
        ),
        may(
            "urgency",
            URGENCY,
            "How much it can't wait where messages are limited; `routine` if not given.",
        ),
        may(
            "window",
            Shape::Record(&WINDOW),
            "Hours in which it may go out, beside the quiet hours of the journey and the organisation.",
        ),
        may("because", Shape::Line, BECAUSE),
        WHILE_ADMITTED,
        may(
            TRANSLATIONS,
            Shape::Languages(&TRANSLATION),
            "The message in other languages; whoever prefers none of them gets it in the journey's own.",
        ),
        may(
            "expires",
            Shape::Duration,
            "How long one channel may take before the next is tried; `24h` if not given.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "send",
    doc: SEND.doc,
    body: Shape::Record(&SEND),
    ways: &[
        must(
            "next",
            Shape::Target,
            "Where to go once the message has been delivered.",
        ),
        may(
            "on_failure",
            Shape::Target,
            "Where to go when no channel could deliver it.",
        ),
    ],
    example: "welcome:\n  title: Welcome message\n  send:\n    title: Welcome home\n    words: Hello {patient.given|there}. We will be in touch over the next weeks.\n    channels: [email, portal]\n  next: symptoms\n  on_failure: welcome_call\n",
    decode,
};

#[derive(Debug)]
struct Send {
    message: Message,
    topic: Topic,
    expires_ms: u64,
    next: Target,
    on_failure: Option<Target>,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    Some(Arc::new(Send {
        message: message(parts.body)?,
        topic: line(parts.body, "topic")
            .and_then(|code| Topic::parse(&code))
            .unwrap_or(Topic::Care),
        expires_ms: length(parts.body, "expires").unwrap_or(DAY_MS),
        next: parts.way("next")?,
        on_failure: parts.way("on_failure"),
    }))
}

/// How long a letter takes at the least, until a partner may say that it was posted.
const POST_MS: u64 = 3 * DAY_MS;

impl Send {
    /// A letter that is given up before it can be in the post.
    fn check_post(&self, check: &mut Check<'_, '_>, step: &Step) {
        if self.message.channels.contains(&Channel::Letter) && self.expires_ms < POST_MS {
            let words = format!(
                "a letter has {} (`expires`) until it is taken for lost: it waits for its batch, is printed and posted, and only then it is known; {} is little",
                say_duration(self.expires_ms),
                say_duration(POST_MS)
            );
            let place = check.at(step, &["send", "channels"]);
            check.findings.warning("J089", place, words);
        }
    }

    /// Hours that can't be, that mean nothing, or that a message can wait through only by failing.
    fn check_window(&self, check: &mut Check<'_, '_>, step: &Step) {
        let Some(window) = &self.message.window else {
            return;
        };
        let place = check.at(step, &["send", "window"]);
        let opens = check.definition.limits.opens_within(window);
        let mut say = |error, words: String| {
            let findings = &mut check.findings;
            if error {
                findings.error("J085", place, words);
            } else {
                findings.warning("J085", place, words);
            }
        };
        if window.until <= window.from {
            say(true, "the window ends before it begins; hours over midnight are two windows, of which a message has one".to_owned());
            return;
        }
        if !self
            .message
            .channels
            .iter()
            .any(|channel| crate::room::reaches_out(*channel))
        {
            say(
                true,
                "nothing waits for a window in the portal, and the message goes nowhere else"
                    .to_owned(),
            );
        }
        if !opens {
            say(true, "the journey's quiet hours (`messages`) leave nothing of the window, so no message ever goes".to_owned());
        }
        if self.message.urgency == Urgency::Clinical {
            say(
                true,
                "what is `clinical` goes out at once, so a window means nothing to it".to_owned(),
            );
        }
        let closed_ms = window.longest_closed_ms();
        if closed_ms >= self.expires_ms {
            say(
                false,
                format!(
                    "the window is closed for up to {}, and a channel has {} (`expires`): who comes here at the wrong time gets the message by the next channel, or not at all",
                    say_duration(closed_ms),
                    say_duration(self.expires_ms)
                ),
            );
        }
    }
}

impl StepKind for Send {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ways(&self) -> Vec<Way<'_>> {
        // Delivery to the portal needs no time, so a loop through a message can be endless.
        let mut ways = vec![way("delivered", &self.next, true)];
        ways.extend(
            self.on_failure
                .as_ref()
                .map(|target| way("not delivered", target, true)),
        );
        ways
    }
    fn unseen(&self) -> Vec<Way<'_>> {
        let mut ways = self.ways();
        ways.retain(|way| self.cannot_wait() && way.label != "delivered");
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let channels = self.message.channels.iter();
        let channels = channels.map(|channel| channel.name()).collect();
        vec![("delivered_by", Given::Code(channels))]
    }
    fn types(&self) -> &'static [ResourceType] {
        &[ResourceType::Communication]
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        check.messages(step);
        self.check_window(check, step);
        self.check_post(check, step);
        if self.on_failure.is_none() {
            check.findings.error("J013", step.place, format!("`{}` has no `on_failure`: say what happens when no channel delivers the message (a task for staff, or `end`)", step.id));
        }
    }

    fn leaves_within(&self, _: &Definition, _: &str) -> Option<u64> {
        let channels = u64::try_from(self.message.channels.len()).ok()?;
        self.expires_ms.checked_mul(channels)
    }
    fn stand(&self, _: &Definition, _: &State, now_ms: u64) -> Stand {
        Stand::Sending {
            channel: 0,
            until_ms: now_ms + self.expires_ms,
        }
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        engine.send(step, n, Which::Message, 0);
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        match &token.stand {
            Stand::Sending { until_ms, .. } => vec![("until", *until_ms)],
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
        let Stand::Sending { channel, .. } = &token.stand else {
            return Err(EngineError::NoStep(token.step.clone()));
        };
        let place = usize::from(*channel);
        if let Some(used) = self.message.channels.get(place).copied() {
            engine.trail(
                &step.id,
                What::Undelivered {
                    channel: used,
                    which: Which::Message,
                    code: EXPIRED.to_owned(),
                },
                None,
            );
        }
        engine.call_off(token, EXPIRED, crate::resources::TOO_LATE);
        let next = engine.way_after(token.n, Which::Message, place);
        engine.send(step, token.n, Which::Message, next);
        Ok(())
    }

    fn message(&self) -> Option<&Message> {
        Some(&self.message)
    }
    fn topic(&self) -> Topic {
        self.topic
    }
    fn under_way(&self, stand: &Stand) -> Vec<(Which, u8)> {
        match stand {
            Stand::Sending { channel, .. } => vec![(Which::Message, *channel)],
            _ => Vec::new(),
        }
    }
    fn goes_out(
        &self,
        stand: &mut Stand,
        _: Which,
        channel: u8,
        _: u64,
        now_ms: u64,
    ) -> Option<u64> {
        let until_ms = now_ms + self.expires_ms;
        *stand = Stand::Sending { channel, until_ms };
        Some(until_ms)
    }
    fn delivered(&self, engine: &mut Engine<'_>, step: &Step, n: u32, channel: Channel) {
        engine.learn(&step.id, "delivered_by", json!(channel.name()));
        engine.leave(n, "delivered", &self.next);
    }
    fn undelivered(&self, engine: &mut Engine<'_>, n: u32, _: Which) {
        let target = self.on_failure.clone().unwrap_or_default();
        engine.leave(n, "not delivered", &target);
    }

    fn carried(&self, _: &Stand, _: &Node, _: &Node) -> Carried {
        Carried::Later("a message is on its way")
    }

    fn promise(&self) -> String {
        format!("We will send you a message: {}", self.message.title)
    }
    fn waiting(&self, _: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        let Stand::Sending { channel, until_ms } = &token.stand else {
            return None;
        };
        let channel = self
            .message
            .channels
            .get(usize::from(*channel))
            .map_or("", |channel| channel.name());
        Some(Waiting {
            what: format!("Waits until the message is delivered by {channel}"),
            plain: String::new(),
            until_ms: Some(*until_ms),
        })
    }
    fn left(&self, title: &str, label: &str) -> Option<String> {
        Some(if label == "delivered" {
            format!("Delivered: {title}")
        } else {
            crate::words::left(title, label)
        })
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        (*what == What::Entered).then(|| Plan {
            what: format!("Message: {}", step.title),
            plain: crate::words::plain(step),
        })
    }
}

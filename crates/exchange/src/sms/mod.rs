//! Text messages: a number, a text, a provider that takes it and tells later what became of it.
//!
//! Start reading at [`Sms::hand_over`] (one message out), then `receipts.rs` (what comes back), `heard.rs` (what people
//! send to our number) and `reply.rs` (what of that answers a question; `question.rs` says whether one may be asked).
//! Providers are `twilio.rs`, an HTTP API that several offer, and `smpp/`, a session that stays.

mod door;
mod heard;
mod policies;
mod price;
mod question;
mod receipts;
mod reply;
mod smpp;
mod twilio;

use std::sync::Arc;

use fhir::Resource;
use serde_json::{Value, json};
use trust::NoText;
use trust::conventions::{SMS_COST_URL, SMS_SEGMENTS_URL, SMS_SYSTEM};
use trust::sms::{Number, segments};

pub use door::{Heard, SmsDoor, Told, Unheard};
pub use policies::unready_parts;
pub(crate) use policies::{RECEIVER, hears};
pub use price::Price;
pub(crate) use smpp::Smpp;
pub use smpp::{MessageIds, SmppOptions};
pub use twilio::TwilioOptions;

use crate::carrier::Trouble;
use crate::check::{Reason, Refused};
use crate::outcome::Outcome;
use crate::pace::Pace;
use twilio::Twilio;

/// Stands for the link in a message's text.
const LINK: &str = "{link}";
/// The most notes that a message keeps of attempts and receipts.
const NOTES_MAX: usize = 50;

/// What follows the address for receipts, where the provider reads how to bring them: up to five times more, whatever
/// went wrong.
const BRING_AGAIN: &str = "#rc=5&rp=all";
/// How often a message is handed over whose answers never came.
pub(crate) const UNANSWERED_MAX: u8 = 3;

/// Why a patient gets none.
pub(crate) fn refused(why: NoText) -> Refused {
    match why {
        NoText::Nowhere => Refused::new(
            Reason::NoAddress,
            "There is no number for text messages on record.",
        ),
        NoText::Unusable => Refused::new(
            Reason::NoAddress,
            "The number on record is none that texts can be sent to.",
        ),
        NoText::Unwanted => Refused::new(
            Reason::Preference,
            "The patient does not want text messages.",
        ),
        NoText::Stopped => {
            Refused::new(Reason::Preference, "Somebody sent STOP from the telephone.")
        }
    }
}

/// Where text messages go.
#[derive(Debug, Clone)]
pub struct SmsOptions {
    /// The provider.
    pub provider: SmsProvider,
    /// Country of numbers that are written without one (ISO 3166-1, two letters); whoever opens a store says it to
    /// [`trust::Vault::set_texts`].
    pub country: Option<String>,
    /// Base URL of the portal, for links.
    pub portal_base: String,
    /// Base URL of this server, where the provider tells what became of messages.
    pub callback_base: String,
    /// Deliveries at once.
    pub parallel: usize,
    /// Segments that are handed over in a second, at most.
    pub per_second: u32,
    /// What a segment costs, if that is to be counted.
    pub price: Option<Price>,
    /// What has to be known of a message before it counts as delivered.
    pub delivered_when: DeliveredWhen,
    /// Whether links sign the patient in with their birth date (magic link) or lead to the sign-in page.
    pub magic_links: bool,
    /// What somebody is told who sends HELP, or anything else that is no STOP or START. The same for everybody.
    pub help: String,
}

/// How a provider is reached.
#[derive(Debug, Clone)]
pub enum SmsProvider {
    /// By HTTP.
    Http(TwilioOptions),
    /// By SMPP 3.4.
    Smpp(SmppOptions),
}

impl SmsProvider {
    /// The number that messages come from.
    #[must_use]
    pub fn from(&self) -> &str {
        match self {
            Self::Http(options) => &options.from,
            Self::Smpp(options) => &options.from,
        }
    }

    /// Has messages come from another number.
    pub fn set_from(&mut self, number: &str) {
        let from = match self {
            Self::Http(options) => &mut options.from,
            Self::Smpp(options) => &mut options.from,
        };
        number.clone_into(from);
    }
}

/// What has to be known of a text message before it counts as delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveredWhen {
    /// The handset has it, as a receipt says.
    #[default]
    Delivered,
    /// The network has it, as a receipt says: for providers that hear nothing of handsets.
    Sent,
    /// The provider has it: for providers that tell nothing later.
    Taken,
}

/// Path before the id of a message whose provider tells what became of it.
pub const SMS_STATUS_PATH: &str = "/channels/sms/status/";
/// Path where a provider brings what people send to our number.
pub const SMS_HEARD_PATH: &str = "/channels/sms/heard";

/// What hands text messages over.
pub(crate) struct Sms {
    provider: Provider,
    callback_base: String,
    price: Option<Price>,
    delivered_when: DeliveredWhen,
    pace: Arc<Pace>,
}

enum Provider {
    Http(Box<Twilio>),
    Smpp(Arc<Smpp>),
}

/// How long a message is on the air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) segments: u32,
    pub(crate) alphabet: &'static str,
    /// What it costs, as far as that is known.
    pub(crate) cost: Option<Price>,
}

impl Parts {
    /// Counts them in the metrics.
    pub(crate) fn count(&self) {
        metrics::counter!("sms_segments_total", "alphabet" => self.alphabet)
            .increment(u64::from(self.segments));
        if let Some(cost) = &self.cost {
            cost.count();
        }
    }

    /// Writes them down of one time that a message was handed over.
    fn note(&self, communication: &mut Resource) {
        let mut extensions = list(communication, "extension");
        extensions.push(json!({"url": SMS_SEGMENTS_URL, "valuePositiveInt": self.segments.max(1)}));
        if let Some(cost) = &self.cost {
            extensions.push(json!({"url": SMS_COST_URL, "valueMoney": cost.money()}));
        }
        communication.set("extension", Value::Array(extensions));
    }
}

/// What a provider has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What the provider calls it.
    pub(crate) reference: String,
    pub(crate) parts: Parts,
    /// Whether nothing more will be heard of it, so that it counts as delivered.
    pub(crate) is_last: bool,
}

/// The text as it leaves: with the link, in one piece.
pub(crate) fn compose(text: &str, link: &str) -> String {
    let mut text = text.trim().to_owned();
    // A message without a way into the portal would leave its reader standing.
    if !text.contains(LINK) {
        text.push(' ');
        text.push_str(LINK);
    }
    text.replace(LINK, link)
}

/// How many segments a text takes with its link.
pub(crate) fn parts(text: &str, link: &str) -> u32 {
    u32::try_from(segments(&compose(text, link)).count).unwrap_or(u32::MAX)
}

impl Sms {
    /// Checks that the options fit together.
    pub(crate) fn new(options: SmsOptions) -> Result<Self, String> {
        if options.per_second == 0 {
            return Err("segments in a second must be at least 1".to_owned());
        }
        let callback_base = options.callback_base.trim_end_matches('/').to_owned();
        let (delivered_when, pace) = (options.delivered_when, Pace::new(options.per_second));
        let pace = Arc::new(pace);
        let provider = match options.provider {
            SmsProvider::Http(options) => Provider::Http(Box::new(Twilio::new(options)?)),
            SmsProvider::Smpp(options) => {
                let smpp = Smpp::new(options, delivered_when, Arc::clone(&pace))?;
                Provider::Smpp(Arc::new(smpp))
            }
        };
        Ok(Self {
            provider,
            callback_base,
            price: options.price,
            delivered_when,
            pace,
        })
    }

    /// The session by which a provider is reached, where it is one.
    pub(crate) fn session(&self) -> Option<Arc<Smpp>> {
        match &self.provider {
            Provider::Http(_) => None,
            Provider::Smpp(smpp) => Some(Arc::clone(smpp)),
        }
    }

    /// Waits until the provider may have another message.
    pub(crate) async fn turn(&self) {
        if let Provider::Smpp(smpp) = &self.provider {
            smpp.turn().await;
        }
        self.pace.turn().await;
    }

    /// Whether nothing is heard of a message later.
    pub(crate) fn hears_nothing(&self) -> bool {
        self.delivered_when == DeliveredWhen::Taken
    }

    /// What a text took that was handed over in so many segments. A link has nothing in it that is outside of the default
    /// alphabet.
    pub(crate) fn priced(&self, text: &str, count: u32) -> Parts {
        Parts {
            segments: count,
            alphabet: segments(text).alphabet.name(),
            cost: self.price.as_ref().map(|price| price.times(count)),
        }
    }

    /// Hands a message over. `communication` is the message's id, by which the provider tells what became of it;
    /// `repeated` is whether it was handed over before without an answer.
    pub(crate) async fn hand_over(
        &self,
        to: &Number,
        text: &str,
        (communication, repeated): (&str, bool),
    ) -> Result<Outcome, Trouble> {
        let count = u32::try_from(segments(text).count).unwrap_or(u32::MAX);
        // Its first segment has had its turn.
        self.pace.spend(count.saturating_sub(1));
        let is_last = self.hears_nothing();
        let reference = match &self.provider {
            Provider::Http(provider) => {
                let callback = (!is_last).then(|| {
                    format!(
                        "{}{SMS_STATUS_PATH}{communication}{BRING_AGAIN}",
                        self.callback_base
                    )
                });
                let told = (text, callback.as_deref(), communication);
                provider.send(to, told, repeated).await?
            }
            Provider::Smpp(provider) => provider.send(to, (text, communication), !is_last).await?,
        };
        Ok(Outcome::Taken(Taken {
            reference,
            parts: self.priced(text, count),
            is_last,
        }))
    }
}

/// What providers call a message, of each time it was handed over.
pub(crate) fn references(communication: &Resource) -> Vec<&str> {
    let identifiers = communication.get("identifier").and_then(Value::as_array);
    let identifiers = identifiers.into_iter().flatten();
    identifiers
        .filter(|one| one["system"] == SMS_SYSTEM)
        .filter_map(|one| one["value"].as_str())
        .collect()
}

/// Notes what a provider calls a message, if it isn't noted yet. Whether the message was handed over before under another
/// name: whoever it is for gets it again.
pub(crate) fn refer(communication: &mut Resource, reference: &str) -> Referred {
    let known = references(communication);
    if known.contains(&reference) {
        return Referred::Known;
    }
    let is_again = !known.is_empty();
    let mut identifiers = list(communication, "identifier");
    identifiers.push(json!({"system": SMS_SYSTEM, "value": reference}));
    communication.set("identifier", Value::Array(identifiers));
    if is_again {
        Referred::Again
    } else {
        Referred::First
    }
}

/// Whether a message was handed over before under another name than this.
pub(crate) fn is_again(communication: &Resource, reference: &str) -> bool {
    let known = references(communication);
    !known.is_empty() && !known.contains(&reference)
}

/// Whether what a provider calls a message is new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referred {
    Known,
    First,
    Again,
}

/// Counts a message that was handed over twice.
pub(crate) fn count_again() {
    metrics::counter!("sms_duplicates_total").increment(1);
}

/// Adds a line about what happened to a message.
pub(crate) fn remark(communication: &mut Resource, words: &str, now_ms: u64) {
    let mut notes = list(communication, "note");
    if notes.len() < NOTES_MAX {
        notes.push(json!({"time": fhir::date::instant(now_ms), "text": words}));
        communication.set("note", Value::Array(notes));
    }
}

fn list(resource: &Resource, name: &str) -> Vec<Value> {
    let found = resource.get(name).and_then(Value::as_array);
    found.cloned().unwrap_or_default()
}

/// Writes down that a provider has a message. What it has told already stands.
pub(crate) fn taken(communication: &mut Resource, what: &Taken, now_ms: u64) {
    let referred = refer(communication, &what.reference);
    // One whose journey was held while it left has left, and goes its way.
    let status = communication.text_at(&["status"]);
    if matches!(status, Some("preparation" | "in-progress" | "on-hold")) {
        let status = if what.is_last {
            "completed"
        } else {
            "in-progress"
        };
        communication.set("status", json!(status));
        communication.remove("statusReason");
    }
    if communication.get("sent").is_none() {
        communication.set("sent", json!(fhir::date::instant(now_ms)));
    }
    what.parts.note(communication);
    let again = match referred {
        Referred::Again => " again",
        Referred::Known | Referred::First => "",
    };
    let parts = if what.parts.segments == 1 {
        "1 segment".to_owned()
    } else {
        format!("{} segments", what.parts.segments)
    };
    let alphabet = what.parts.alphabet;
    let words = format!("Handed to the provider{again}: {parts}, {alphabet}.");
    remark(communication, &words, now_ms);
}

/// Writes down that a provider is known to have a message, as its receipt said: of each of its names what it took, where
/// that is known.
pub(crate) fn known(communication: &mut Resource, parts: Option<&Parts>) {
    if communication.text_at(&["status"]) == Some("preparation") {
        communication.set("status", json!("in-progress"));
        communication.remove("statusReason");
    }
    let Some(parts) = parts else { return };
    for _ in noted(communication)..references(communication).len() {
        parts.note(communication);
    }
}

/// Whether of one of the times that a message was handed over it isn't written down what it took.
pub(crate) fn is_unpriced(communication: &Resource) -> bool {
    noted(communication) < references(communication).len()
}

/// Of how many times that a message was handed over it is written down what it took.
fn noted(communication: &Resource) -> usize {
    let extensions = list(communication, "extension").into_iter();
    extensions
        .filter(|one| one["url"] == SMS_SEGMENTS_URL)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_link_once() {
        let link = "https://portal.example/x";
        assert_eq!(
            compose(" See {link} ", link),
            "See https://portal.example/x"
        );
        assert_eq!(compose("See", link), "See https://portal.example/x");
    }

    #[test]
    fn a_message_that_is_taken_twice_is_known_by_two_names() {
        let mut message = Resource::from_value(json!({
            "resourceType": "Communication", "id": "c", "status": "preparation",
            "identifier": [{"system": "urn:other", "value": "x"}]
        }))
        .expect("a message");
        let what = |reference: &str| Taken {
            reference: reference.to_owned(),
            parts: Parts {
                segments: 2,
                alphabet: "GSM-7",
                cost: None,
            },
            is_last: false,
        };
        taken(&mut message, &what("SM1"), 0);
        taken(&mut message, &what("SM1"), 1);
        assert_eq!(references(&message), ["SM1"]);
        taken(&mut message, &what("SM2"), 2);
        assert_eq!(references(&message), ["SM1", "SM2"]);
        assert_eq!(message.text_at(&["status"]), Some("in-progress"));
        assert_eq!(
            message.text_at(&["note", "2", "text"]),
            Some("Handed to the provider again: 2 segments, GSM-7.")
        );
        // What has arrived by then stays so.
        message.set("status", json!("completed"));
        taken(&mut message, &what("SM2"), 3);
        assert_eq!(message.text_at(&["status"]), Some("completed"));
    }

    #[test]
    fn what_has_left_is_not_held_back() {
        for (is_last, expected) in [(false, "in-progress"), (true, "completed")] {
            let mut message = Resource::from_value(
                json!({"resourceType": "Communication", "id": "c", "status": "on-hold"}),
            )
            .expect("a message");
            let what = Taken {
                reference: "SM1".to_owned(),
                parts: Parts {
                    segments: 1,
                    alphabet: "GSM-7",
                    cost: None,
                },
                is_last,
            };
            taken(&mut message, &what, 0);
            assert_eq!(message.text_at(&["status"]), Some(expected));
        }
    }
}

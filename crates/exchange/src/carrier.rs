//! What carries messages out: e-mail, text messages, or notifications to browsers. All that differs between channels that leave is here; what they
//! share (the loop, what is asked again, retries, what is written down) is in `deliverer.rs`. A new channel is a file of
//! its own and an arm in each of these functions.

use std::pin::Pin;

use fhir::Resource;
use ledger::{OutboxEntry, TenantId};
use lettre::Address;
use trust::identity::PushDevice;
use trust::outgoing::{CHANNEL_EMAIL, CHANNEL_NOTICE, CHANNEL_PUSH, CHANNEL_SMS, Message};
use trust::sms::Number;
use trust::{Trust, TrustError, Vault};

use crate::check::{Reason, Refused};
use crate::mail::{Mail, Wording};
use crate::outcome::Outcome;
use crate::push::Push;
use crate::retry::Meaning;
use crate::sms::{Parts, Sms, UNANSWERED_MAX};

/// A channel that messages leave by.
pub(crate) enum Carrier {
    Mail(Box<Mail>),
    Sms(Box<Sms>),
    Push(Box<Push>),
}

/// Whom a message goes to.
pub(crate) enum To {
    Address(Address),
    Number(Number),
    Devices(Vec<PushDevice>),
}

/// Why a message was not handed over.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) meaning: Meaning,
    /// For the timeline and the log: nothing of whom it was for, and none of the server's words.
    pub(crate) words: String,
    /// Why it never will be, where it won't.
    pub(crate) reason: Reason,
    /// Not before so many milliseconds, as the server says.
    pub(crate) after_ms: Option<u64>,
}

/// A message under way to a server.
pub(crate) type Handing<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Trouble>> + Send + 'a>>;

impl Carrier {
    /// What it is called in the log, and before the names of metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Sms(_) => "sms",
            Self::Push(_) => "push",
        }
    }
    /// What it carries, for people.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Mail(_) => "e-mail",
            Self::Sms(_) => "text message",
            Self::Push(_) => "notification",
        }
    }
    /// The part of Cairn that the audit names.
    pub(crate) fn part(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail-deliverer",
            Self::Sms(_) => "sms-deliverer",
            Self::Push(_) => crate::push::PART,
        }
    }
    /// The channels of the outbox that it takes from.
    pub(crate) fn outbox(&self) -> &'static [u16] {
        match self {
            Self::Mail(_) => &[CHANNEL_EMAIL, CHANNEL_NOTICE],
            Self::Sms(_) => &[CHANNEL_SMS],
            Self::Push(_) => &[CHANNEL_PUSH],
        }
    }
    /// Whether what became of a message is told later.
    pub(crate) fn has_receipts(&self) -> bool {
        matches!(self, Self::Sms(_))
    }
    /// How often a message is handed over whose answer never came, where the other side doesn't know a repeat.
    pub(crate) fn unanswered_max(&self) -> Option<u8> {
        match self {
            Self::Mail(_) => None,
            Self::Sms(_) => Some(UNANSWERED_MAX),
            // A push service and a browser know it by its topic.
            Self::Push(_) => None,
        }
    }
    /// How many segments a message takes, where it is counted by them.
    pub(crate) fn segments(&self, message: &Message, link: &str) -> Option<u32> {
        match self {
            Self::Mail(_) | Self::Push(_) => None,
            Self::Sms(_) => Some(crate::sms::parts(&message.text, link)),
        }
    }
    /// What a message that took so many segments took in all.
    pub(crate) fn priced(&self, message: &Message) -> Option<Parts> {
        match self {
            Self::Mail(_) | Self::Push(_) => None,
            Self::Sms(sms) => Some(sms.priced(&message.text, message.segments?)),
        }
    }
    /// The part of Cairn that hears what becomes of its messages, and who wants no more of them, where policies don't let
    /// it do its work.
    pub(crate) fn hears_nothing(&self, trust: &Trust) -> Option<&'static str> {
        match self {
            Self::Mail(_) | Self::Push(_) => None,
            Self::Sms(_) => (!crate::sms::hears(trust)).then_some(crate::sms::RECEIVER),
        }
    }
    /// Waits until the server may have another message.
    pub(crate) async fn turn(&self) {
        match self {
            Self::Mail(_) | Self::Push(_) => {}
            Self::Sms(sms) => sms.turn().await,
        }
    }
    /// Where a patient wants to be reached, and may be.
    pub(crate) async fn find(
        &self,
        vault: &Vault,
        tenant: TenantId,
        patient: &Resource,
        at_ms: i64,
    ) -> Result<Result<To, Refused>, TrustError> {
        match self {
            Self::Mail(_) => Ok(crate::mail::find(patient, at_ms).map(To::Address)),
            Self::Sms(_) => {
                let found = vault.texts_to(tenant, patient, at_ms).await?;
                Ok(found.map(To::Number).map_err(crate::sms::refused))
            }
            Self::Push(_) => {
                let found = vault.notifies_on(tenant, patient, at_ms).await?;
                Ok(found.map(To::Devices).map_err(crate::push::refused))
            }
        }
    }
    /// The address of somebody who acts for a patient. They have given an e-mail address, and none but that.
    pub(crate) fn parse(&self, address: &str) -> Option<To> {
        match self {
            Self::Mail(_) => address.parse().ok().map(To::Address),
            Self::Sms(_) | Self::Push(_) => None,
        }
    }
    /// Hands a message over, once this is awaited; or in words why it can't be put together.
    pub(crate) fn carry<'a>(
        &'a self,
        entry: &'a OutboxEntry,
        message: &'a Message,
        to: &'a To,
        link: &str,
        now_ms: u64,
    ) -> Result<Handing<'a>, String> {
        match (self, to) {
            (Self::Mail(mail), To::Address(to)) => {
                let wording = Wording {
                    subject: &message.subject,
                    text: &message.text,
                    link,
                    preferences: Some(mail.portal()),
                    now_ms,
                };
                let content = mail.compose(entry.key.id, to, &wording)?;
                Ok(Box::pin(async move { mail.hand_over(to, &content).await }))
            }
            (Self::Sms(sms), To::Number(to)) => {
                let text = crate::sms::compose(&message.text, link);
                let communication = message.communication.as_str();
                let repeated = message.unanswered > 0;
                Ok(Box::pin(async move {
                    sms.hand_over(to, &text, (communication, repeated)).await
                }))
            }
            (Self::Push(push), To::Devices(devices)) => {
                let link = link.to_owned();
                Ok(Box::pin(async move {
                    push.hand_over(entry, message, devices, &link).await
                }))
            }
            (Self::Mail(_) | Self::Sms(_) | Self::Push(_), _) => {
                Err("it is for another channel".to_owned())
            }
        }
    }
}

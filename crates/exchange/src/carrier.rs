//! What carries messages out: e-mail, text messages, notifications to browsers and to applications on telephones, or files for a partner. All that differs between channels that leave is here; what they
//! share (the loop, what is asked again, retries, what is written down) is in `deliverer.rs`. A new channel is a file of
//! its own and an arm in each of these functions.

use std::pin::Pin;
use std::sync::Arc;

use fhir::Resource;
use ledger::{Ledger, OutboxEntry};
use lettre::Address;
use tokio::time::Instant;
use trust::consent::Postal;
use trust::identity::{PushDevice, PushPlace};
use trust::outgoing::{
    CHANNEL_EMAIL, CHANNEL_MAIL_TAKEN, CHANNEL_NOTICE, CHANNEL_PUSH, CHANNEL_QUESTION, CHANNEL_SMS,
    Message,
};
use trust::sms::Number;
use trust::{Permit, Trust, TrustError, Vault};

use crate::check::{Reason, Refused};
use crate::deliverer::DeliverError;
use crate::files::Files;
use crate::mail::{Mail, Wording};
use crate::outcome::Outcome;
use crate::push::Push;
use crate::retry::Meaning;
use crate::returns::{Of, Returns, sixteen};
use crate::sms::{Parts, Price, Sms, UNANSWERED_MAX};

/// A channel that messages leave by.
pub(crate) enum Carrier {
    Mail(Box<Mail>),
    Sms(Box<Sms>),
    Push(Box<Push>),
    Files(Arc<Files>),
}

/// Whom a message goes to.
pub(crate) enum To {
    Address(Address),
    Number(Number),
    Devices(Vec<PushDevice>),
    Postal(Box<Postal>),
    Call(Number),
}

impl To {
    /// Whether a link that signs in goes to any of them. Applications get none: their services read what they are sent.
    pub(crate) fn signs_in(&self) -> bool {
        let is_browser = |device: &PushDevice| matches!(device.place, PushPlace::Browser(_));
        match self {
            Self::Address(_) | Self::Number(_) => true,
            Self::Devices(devices) => devices.iter().any(is_browser),
            // Paper shows where to sign in, and a call says nothing of it.
            Self::Postal(_) | Self::Call(_) => false,
        }
    }
}

/// A message that is to leave.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) entry: &'a OutboxEntry,
    pub(crate) message: &'a Message,
    pub(crate) to: &'a To,
    /// What stands for the e-mail address that it goes to.
    pub(crate) went_to: &'a str,
    pub(crate) link: &'a str,
    pub(crate) now_ms: u64,
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
            Self::Files(files) => files.name(),
        }
    }
    /// What it carries, for people.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Mail(_) => "e-mail",
            Self::Sms(_) => "text message",
            Self::Push(_) => "notification",
            Self::Files(files) => files.words(),
        }
    }
    /// The part of Cairn that the audit names.
    pub(crate) fn part(&self) -> &'static str {
        match self {
            Self::Mail(_) => crate::mail::PART,
            Self::Sms(_) => "sms-deliverer",
            Self::Push(_) => crate::push::PART,
            Self::Files(files) => files.part(),
        }
    }
    /// The channels of the outbox that it takes from.
    pub(crate) fn outbox(&self) -> &'static [u16] {
        match self {
            Self::Mail(_) => &[CHANNEL_EMAIL, CHANNEL_NOTICE],
            Self::Sms(_) => &[CHANNEL_SMS, CHANNEL_QUESTION],
            Self::Push(_) => &[CHANNEL_PUSH],
            Self::Files(files) => files.outbox(),
        }
    }
    /// The channels of the outbox with what a server has taken and what may come back.
    pub(crate) fn outbox_taken(&self) -> &'static [u16] {
        match self {
            Self::Mail(_) => &[CHANNEL_MAIL_TAKEN],
            Self::Sms(_) | Self::Push(_) | Self::Files(_) => &[],
        }
    }
    /// What is known of messages that come back to an address of their own.
    pub(crate) fn returns(&self) -> Option<&Returns> {
        match self {
            Self::Mail(mail) => mail.returns(),
            Self::Sms(_) | Self::Push(_) | Self::Files(_) => None,
        }
    }
    /// Whether what became of a message is told later.
    pub(crate) fn has_receipts(&self) -> bool {
        matches!(self, Self::Sms(_))
    }
    /// How often a message is handed over whose answer never came, where the other side doesn't know a repeat.
    pub(crate) fn unanswered_max(&self) -> Option<u8> {
        match self {
            // A push service and a browser know a notification by its topic.
            Self::Mail(_) | Self::Push(_) | Self::Files(_) => None,
            Self::Sms(_) => Some(UNANSWERED_MAX),
        }
    }
    /// How many segments a message takes, where it is counted by them.
    pub(crate) fn segments(&self, message: &Message, link: &str) -> Option<u32> {
        match self {
            Self::Mail(_) | Self::Push(_) | Self::Files(_) => None,
            Self::Sms(_) => Some(crate::sms::parts(&message.text, link)),
        }
    }
    /// What a message that took so many segments took in all.
    pub(crate) fn priced(&self, message: &Message) -> Option<Parts> {
        match self {
            Self::Mail(_) | Self::Push(_) | Self::Files(_) => None,
            Self::Sms(sms) => Some(sms.priced(&message.text, message.segments?)),
        }
    }
    /// What a message costs that was taken, where that is known and is the same for each.
    pub(crate) fn price(&self) -> Option<&Price> {
        match self {
            Self::Mail(mail) => mail.price(),
            Self::Push(push) => push.price(),
            // These are priced by segments, and in their batch.
            Self::Sms(_) | Self::Files(_) => None,
        }
    }
    /// The part of Cairn that hears what becomes of its messages, and who wants no more of them, where policies don't let
    /// it do its work.
    pub(crate) fn hears_nothing(&self, trust: &Trust) -> Option<&'static str> {
        match self {
            Self::Mail(_) | Self::Push(_) | Self::Files(_) => None,
            Self::Sms(sms) => {
                let is_session = sms.session().is_some();
                (!crate::sms::hears(trust, is_session)).then_some(crate::sms::RECEIVER)
            }
        }
    }
    /// Until when nothing is handed over for somebody, because what would take it is left alone.
    pub(crate) fn rests(&self, to: &To) -> Option<Instant> {
        match (self, to) {
            (Self::Push(push), To::Devices(devices)) => push.rests(devices),
            _ => None,
        }
    }
    /// Waits until the server may have another message.
    pub(crate) async fn turn(&self) {
        match self {
            Self::Mail(mail) => mail.turn().await,
            // Each push service has its own, and is asked by device.
            Self::Push(_) | Self::Files(_) => {}
            Self::Sms(sms) => sms.turn().await,
        }
    }
    /// Where a patient wants to be reached, and may be.
    pub(crate) async fn find(
        &self,
        vault: &Vault,
        permit: &Permit,
        patient: &Resource,
        at_ms: i64,
    ) -> Result<Result<To, Refused>, TrustError> {
        match self {
            Self::Mail(_) => {
                let (patient, barred) =
                    crate::returns::without_barred(vault, permit, patient).await?;
                let found = crate::mail::find(&patient, at_ms);
                // What is said is why nothing goes to the address that is there, not that there is none.
                Ok(found.map(To::Address).map_err(|refused| match barred {
                    Some(barred) if refused.reason == Reason::NoAddress => barred,
                    _ => refused,
                }))
            }
            Self::Sms(_) => {
                let found = vault.texts_to(permit.tenant(), patient, at_ms).await?;
                Ok(found.map(To::Number).map_err(crate::sms::refused))
            }
            Self::Push(_) => {
                let found = vault.notifies_on(permit.tenant(), patient, at_ms).await?;
                Ok(found.map(To::Devices).map_err(crate::push::refused))
            }
            Self::Files(files) if files.rings() => {
                let found = vault.calls_to(patient, at_ms);
                Ok(found.map(To::Call).map_err(crate::files::no_call))
            }
            Self::Files(_) => {
                let found = trust::consent::postal(patient, at_ms);
                let to = |postal| To::Postal(Box::new(postal));
                Ok(found.map(to).map_err(crate::files::no_letter))
            }
        }
    }
    /// The address of somebody who acts for a patient. They have given an e-mail address, and none but that.
    pub(crate) fn parse(&self, address: &str) -> Option<To> {
        match self {
            Self::Mail(_) => address.parse().ok().map(To::Address),
            Self::Sms(_) | Self::Push(_) | Self::Files(_) => None,
        }
    }
    /// Hands a message over, once this is awaited; or why it can't be put together.
    pub(crate) fn carry<'a>(
        &'a self,
        ledger: &Ledger,
        load: Load<'a>,
    ) -> Result<Handing<'a>, DeliverError> {
        let (message, link) = (load.message, load.link);
        match (self, load.to) {
            (Self::Mail(mail), To::Address(to)) => {
                let wording = Wording {
                    subject: &message.subject,
                    text: &message.text,
                    link,
                    preferences: Some(mail.portal()),
                    visit: message.visit.as_ref(),
                    now_ms: load.now_ms,
                };
                let content = mail.compose(load.entry.key.id, to, &wording);
                let content = content.map_err(DeliverError::Compose)?;
                let of = sixteen(&message.communication).map(Of::Message);
                let from = mail.return_address(ledger, load.entry.tenant, of, load.went_to);
                let from = from.map_err(TrustError::from)?;
                Ok(Box::pin(async move {
                    mail.hand_over((&from, to), &content).await
                }))
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
                let (entry, link) = (load.entry, link.to_owned());
                Ok(Box::pin(async move {
                    push.hand_over(entry, message, devices, &link).await
                }))
            }
            // What goes into a batch is put there by `files/accept.rs`.
            (Self::Mail(_) | Self::Sms(_) | Self::Push(_) | Self::Files(_), _) => Err(
                DeliverError::Compose("it is for another channel".to_owned()),
            ),
        }
    }
}

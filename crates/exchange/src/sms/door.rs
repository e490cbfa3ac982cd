//! Where a provider tells us something. All of it is signed by the provider; nothing of it is believed before that is
//! checked.

use ledger::TenantId;
use trust::{Action, Agent, Permit, Purpose, Target, Trust, TrustError};

use super::heard::{self, Word};
use super::receipts::{Receipt, Stand};
use super::twilio::{is_reference, is_signed};
use super::{Country, Number, SmsOptions};

/// The part of Cairn that the audit names.
const PART: &str = "sms-receiver";
/// How often a commit is tried again when somebody else changed what is written meanwhile.
const CONFLICTS_MAX: u32 = 8;

/// Takes what a provider tells about text messages of one tenant.
pub struct SmsDoor {
    pub(super) trust: Trust,
    tenant: TenantId,
    token: String,
    base: String,
    pub(super) country: Country,
    help: String,
}

/// What came to an address of ours: its path with the query, the members of the form, and the signature.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Path and query.
    pub path: &'a str,
    /// The form.
    pub members: &'a [(String, String)],
    /// The header `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// Ties log, audit and trace of the request together.
    pub request_id: &'a str,
}

/// What the sender of a text message is answered, if anything: the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The answer.
    pub reply: Option<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// It isn't signed by the provider.
    #[error("it is not signed by the provider")]
    Forged,
    /// It doesn't say what it is about.
    #[error("it does not say what it is about")]
    Malformed,
    /// There is no such message.
    #[error("there is no such message")]
    Unknown,
    /// What it is about kept changing while it was written down.
    #[error("what it is about kept changing while it was written down")]
    Contended,
    /// The store, or policies.
    #[error(transparent)]
    Trust(TrustError),
}

impl From<TrustError> for Unheard {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl Told<'_> {
    fn member(&self, name: &str) -> Option<&str> {
        let mut members = self.members.iter();
        let found = members.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl SmsDoor {
    /// Checks options.
    ///
    /// # Errors
    /// In words, when options don't fit together.
    pub fn new(trust: Trust, tenant: TenantId, options: &SmsOptions) -> Result<Self, String> {
        let country = Country::parse(&options.country)
            .ok_or_else(|| format!("{:?} is no country", options.country))?;
        Ok(Self {
            trust,
            tenant,
            token: options.provider.token.clone(),
            base: options.callback_base.trim_end_matches('/').to_owned(),
            country,
            help: options.help.clone(),
        })
    }

    /// What became of a message.
    ///
    /// # Errors
    /// [`Unheard`].
    pub async fn receipt(&self, communication: &str, told: &Told<'_>) -> Result<(), Unheard> {
        self.is_from_provider(told)?;
        let reference = told.member("MessageSid").filter(|sid| is_reference(sid));
        let stand = told.member("MessageStatus").and_then(Stand::parse);
        let (Some(reference), Some(stand)) = (reference, stand) else {
            return Err(Unheard::Malformed);
        };
        let receipt = Receipt {
            reference,
            stand,
            error: told.member("ErrorCode").and_then(|code| code.parse().ok()),
        };
        let permit = self.permit(told.request_id).await?;
        for _ in 0..CONFLICTS_MAX {
            if self.note(&permit, communication, &receipt).await? {
                metrics::counter!("sms_receipts_total", "status" => stand.name()).increment(1);
                return Ok(());
            }
        }
        Err(Unheard::Contended)
    }

    /// What somebody has sent to our number. What they ask for is written down before they are answered.
    ///
    /// # Errors
    /// [`Unheard`]; then the provider tells it again.
    pub async fn heard(&self, told: &Told<'_>) -> Result<Heard, Unheard> {
        self.is_from_provider(told)?;
        let (Some(from), Some(text)) = (told.member("From"), told.member("Body")) else {
            return Err(Unheard::Malformed);
        };
        // Where the provider answers by itself, it says what it took the text for.
        let by_provider = told.member("OptOutType");
        let word = heard::word(by_provider.unwrap_or(text));
        let from = Number::parse(from, self.country);
        let permit = self.permit(told.request_id).await?;
        if let (Some(from), Word::Stop | Word::Start) = (&from, word) {
            let wanted = word == Word::Start;
            let patients = self.with_number(&permit, from).await?;
            for patient in patients {
                let mut tries = CONFLICTS_MAX;
                while !self.prefer(&permit, &patient, from, wanted).await? {
                    tries -= 1;
                    if tries == 0 {
                        return Err(Unheard::Contended);
                    }
                }
            }
        }
        metrics::counter!("sms_heard_total", "what" => word.name()).increment(1);
        let reply = match word {
            Word::Stop => heard::STOPPED,
            Word::Start => heard::STARTED,
            Word::Help | Word::Other => &self.help,
        };
        // Whoever has no number that can be written to is a machine.
        let answers = by_provider.is_none() && from.is_some() && !reply.is_empty();
        Ok(Heard {
            reply: answers.then(|| reply.to_owned()),
        })
    }

    fn is_from_provider(&self, told: &Told<'_>) -> Result<(), Unheard> {
        let url = format!("{}{}", self.base, told.path);
        let signature = told.signature.unwrap_or_default();
        if is_signed(&self.token, &url, told.members, signature) {
            return Ok(());
        }
        metrics::counter!("sms_forged_total").increment(1);
        Err(Unheard::Forged)
    }

    /// A permit for what is told: whom it is about is in what it is found by.
    async fn permit(&self, request_id: &str) -> Result<Permit, TrustError> {
        let agent = Agent::system(self.tenant, PART);
        let target = Target::default();
        self.trust
            .decide(
                &agent,
                Purpose::Operations,
                Action::Send,
                target,
                request_id,
            )
            .await
    }
}

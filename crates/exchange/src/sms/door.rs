//! Where a provider tells us something. All of it is signed by the provider; nothing of it is believed before that is
//! checked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ledger::{LedgerError, TenantId};
use tokio::time::{Instant, sleep};
use trust::sms::Number;
use trust::{Action, Agent, Permit, Purpose, Target, Trust, TrustError};

use super::heard::{self, Word};
use super::receipts::{Receipt, Stand};
use super::twilio::{is_reference, is_signed};
use super::{BRING_AGAIN, DeliveredWhen, SmsOptions, SmsProvider};

/// The part of Cairn that the audit names.
const PART: &str = super::RECEIVER;
/// How often a commit is tried again when somebody else changed what is written meanwhile.
const CONFLICTS_MAX: u32 = 8;
/// Pauses before something is written again that the store could not write: in all less than a provider waits.
const PAUSES_MS: [u64; 3] = [50, 250, 1_000];
/// How much of a text is read for a word. A text of ten parts has 1,530 characters.
const TEXT_CHARS_MAX: usize = 1_600;
/// Answers that one number gets in [`REPLIES_IN`]: a machine that answers ours would be answered for ever.
const REPLIES_MAX: u32 = 5;
const REPLIES_IN: Duration = Duration::from_secs(3_600);
/// Numbers whose answers are counted; beyond that, nobody new is answered until the hour of one is over.
const REPLIED_TO_MAX: usize = 10_000;

/// Takes what a provider tells about text messages of one tenant.
pub struct SmsDoor {
    pub(super) trust: Trust,
    tenant: TenantId,
    /// The token, and the one before it. By SMPP there is none, and nothing comes by HTTP.
    tokens: Vec<String>,
    /// Where we are, as the provider may write it.
    bases: Vec<String>,
    delivered_when: DeliveredWhen,
    help: String,
    /// When somebody was answered first in this hour, and how often.
    replied: Mutex<HashMap<Number, (Instant, u32)>>,
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
        match error {
            // Of a patient whose records were destroyed.
            TrustError::Ledger(LedgerError::KeyDestroyed) => Self::Unknown,
            error => Self::Trust(error),
        }
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
        let tokens = match &options.provider {
            SmsProvider::Http(provider) => {
                let tokens = std::iter::once(&provider.token).chain(&provider.old_token);
                tokens.cloned().collect()
            }
            SmsProvider::Smpp(_) => Vec::new(),
        };
        Ok(Self {
            trust,
            tenant,
            tokens,
            bases: bases(options.callback_base.trim_end_matches('/'))?,
            delivered_when: options.delivered_when,
            help: options.help.clone(),
            replied: Mutex::default(),
        })
    }

    /// Whether a provider tells anything by HTTP.
    #[must_use]
    pub fn is_called(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// What became of a message.
    ///
    /// # Errors
    /// [`Unheard`].
    pub async fn receipt(&self, communication: &str, told: &Told<'_>) -> Result<(), Unheard> {
        self.is_from_provider(told)?;
        let reference = told.member("MessageSid").filter(|sid| is_reference(sid));
        let stand = told.member("MessageStatus");
        let stand = stand.and_then(|word| Stand::parse(word, self.delivered_when));
        let (Some(reference), Some(stand)) = (reference, stand) else {
            return Err(Unheard::Malformed);
        };
        let receipt = Receipt {
            reference,
            stand,
            error: told.member("ErrorCode").and_then(|code| code.parse().ok()),
            is_by_mark: false,
        };
        let permit = self.permit(told.request_id).await?;
        self.write_receipt(&permit, communication, &receipt).await?;
        let to = told.member("To").filter(|_| receipt.is_of_stop());
        let to = to.and_then(|to| Number::parse(to, self.trust.vault().texts().country));
        match to {
            // The provider knows a STOP that was not heard here.
            Some(to) => self.write_stopped(&permit, &to, true).await,
            None => Ok(()),
        }
    }

    /// Writes a receipt down, whoever else changes the message meanwhile.
    pub(super) async fn write_receipt(
        &self,
        permit: &Permit,
        communication: &str,
        receipt: &Receipt<'_>,
    ) -> Result<(), Unheard> {
        let stand = receipt.stand;
        let mut pauses = PAUSES_MS.iter();
        for _ in 0..CONFLICTS_MAX {
            let noted = match self.note(permit, communication, receipt).await {
                Err(error) if is_of_store(&error) => {
                    let Some(pause_ms) = pauses.next() else {
                        return Err(error);
                    };
                    sleep(Duration::from_millis(*pause_ms)).await;
                    false
                }
                other => other?,
            };
            if noted {
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
        let by_provider = told.member("OptOutType").and_then(heard::opted);
        self.hear((from, text), by_provider, told.request_id).await
    }

    /// The same, once it is known to be the provider's. `by_provider` is the word that it has answered by itself.
    pub(super) async fn hear(
        &self,
        (from, text): (&str, &str),
        by_provider: Option<Word>,
        request_id: &str,
    ) -> Result<Heard, Unheard> {
        let word = by_provider.unwrap_or_else(|| {
            let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
            heard::word(&text)
        });
        let vault = self.trust.vault();
        let from = Number::parse(from, vault.texts().country);
        let permit = self.permit(request_id).await?;
        match (&from, word) {
            (Some(from), Word::Stop | Word::Start) => {
                self.write_stopped(&permit, from, word == Word::Stop)
                    .await?;
            }
            (None, Word::Stop) => {
                metrics::counter!("sms_stops_of_nobody_total").increment(1);
                tracing::error!(
                    "a STOP came from what is no telephone number here, so it could not be written down: the provider's log has whose it is"
                );
            }
            _ => {}
        }
        metrics::counter!("sms_heard_total", "what" => word.name()).increment(1);
        let reply = match word {
            Word::Stop => heard::STOPPED,
            Word::Start => heard::STARTED,
            Word::Help | Word::Other => &self.help,
        };
        // Whoever has no number that can be written to is a machine.
        let answers = by_provider.is_none() && !reply.is_empty();
        let answers = answers && from.is_some_and(|from| self.may_reply(&from));
        Ok(Heard {
            reply: answers.then(|| reply.to_owned()),
        })
    }

    /// What somebody has sent whose number may be any of several: a STOP is of them all, and nothing else is of any.
    pub(super) async fn hear_of_several(
        &self,
        numbers: &[Number],
        text: &str,
        request_id: &str,
    ) -> Result<(), Unheard> {
        let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
        let word = heard::word(&text);
        let permit = self.permit(request_id).await?;
        match word {
            Word::Stop => {
                for number in numbers {
                    self.write_stopped(&permit, number, true).await?;
                }
            }
            Word::Start => tracing::warn!(
                "sms: a START came from what may be several numbers here, as the provider doesn't say its type, so it lifts no STOP"
            ),
            Word::Help | Word::Other => {}
        }
        metrics::counter!("sms_heard_total", "what" => word.name()).increment(1);
        Ok(())
    }

    async fn write_stopped(
        &self,
        permit: &Permit,
        number: &Number,
        stopped: bool,
    ) -> Result<(), Unheard> {
        let vault = self.trust.vault();
        let mut pauses = PAUSES_MS.iter();
        while let Err(error) = vault.set_stopped(permit, number, stopped).await {
            let error = Unheard::from(error);
            let pause_ms = pauses.next().filter(|_| is_of_store(&error));
            let Some(pause_ms) = pause_ms else {
                return Err(error);
            };
            sleep(Duration::from_millis(*pause_ms)).await;
        }
        Ok(())
    }

    /// Whether a number may be answered once more.
    fn may_reply(&self, number: &Number) -> bool {
        let mut replied = self.replied.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if replied.len() >= REPLIED_TO_MAX {
            replied.retain(|_, (since, _)| now.duration_since(*since) < REPLIES_IN);
        }
        if replied.len() >= REPLIED_TO_MAX && !replied.contains_key(number) {
            return false;
        }
        let (since, count) = replied.entry(number.clone()).or_insert((now, 0));
        if now.duration_since(*since) >= REPLIES_IN {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= REPLIES_MAX
    }

    /// Providers sign the address that they were given, some with its port and some without, and some with what follows
    /// the number sign. While a token changes, some of what comes is signed with the one before.
    ///
    /// # Errors
    /// `Forged` where it isn't signed by the provider.
    pub fn is_from_provider(&self, told: &Told<'_>) -> Result<(), Unheard> {
        let signature = told.signature.unwrap_or_default();
        let is_from = self.bases.iter().any(|base| {
            let url = format!("{base}{}", told.path);
            let mut forms = [url.clone(), format!("{url}{BRING_AGAIN}")].into_iter();
            forms.any(|url| {
                let mut tokens = self.tokens.iter();
                tokens.any(|token| is_signed(token, &url, told.members, signature))
            })
        });
        if is_from {
            return Ok(());
        }
        metrics::counter!("sms_forged_total").increment(1);
        Err(Unheard::Forged)
    }

    /// A permit for what is told: whom it is about is in what it is found by.
    pub(super) async fn permit(&self, request_id: &str) -> Result<Permit, TrustError> {
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

fn is_of_store(error: &Unheard) -> bool {
    matches!(
        error,
        Unheard::Trust(TrustError::Ledger(LedgerError::Storage(_)))
    )
}

/// An address with its port and without, where that is the usual one.
fn bases(base: &str) -> Result<Vec<String>, String> {
    let url = reqwest::Url::parse(base)
        .map_err(|error| format!("the address for what a provider tells, {base:?}: {error}"))?;
    let usual = match url.scheme() {
        "https" => ":443",
        _ => ":80",
    };
    let mut all = vec![base.to_owned()];
    // Where it is written out, the port is the usual one, or has to be there.
    if let Some(bare) = base.strip_suffix(usual) {
        all.push(bare.to_owned());
    } else if url.port().is_none() && url.path() == "/" {
        all.push(format!("{base}{usual}"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_with_its_port_and_without() {
        for (base, expected) in [
            (
                "https://care.example",
                &["https://care.example", "https://care.example:443"][..],
            ),
            (
                "https://care.example:443",
                &["https://care.example:443", "https://care.example"],
            ),
            (
                "http://care.example",
                &["http://care.example", "http://care.example:80"],
            ),
            ("https://care.example:8443", &["https://care.example:8443"]),
        ] {
            assert_eq!(
                bases(base),
                Ok(expected.iter().map(|one| (*one).to_owned()).collect())
            );
        }
        assert!(bases("care.example").is_err());
    }
}

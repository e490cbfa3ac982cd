//! E-mail: an address, a composed letter, one SMTP conversation.

use fhir::Resource;
use ledger::{Ledger, LedgerError, TenantId};
use lettre::Address;
use lettre::message::Mailbox;
use tokio::time::Instant;
use trust::consent;
use trust::outgoing::Visit;

use crate::calendar::Entered;
use crate::carrier::Trouble;
use crate::check::{Reason, Refused, Words, first};
use crate::compose::{Letter, compose, message_id};
use crate::dkim::Dkim;
use crate::outcome::Outcome;
use crate::pace::Pace;
use crate::returns::{Of, Returns};
use crate::smtp::{Failure, Smtp};
use crate::{MailOptions, MailTls, Price};

/// The part of Cairn that the audit names.
pub(crate) const PART: &str = "mail-deliverer";

const WORDS: Words = Words {
    unusable: "The e-mail address on record is not one.",
    unwanted: "The patient does not want e-mail.",
    none: "There is no e-mail address on record.",
};

/// What sends e-mails.
pub(crate) struct Mail {
    from: Mailbox,
    message_id_domain: String,
    /// Base URL of the portal, without a slash at the end.
    portal: String,
    dkim: Option<Dkim>,
    returns: Option<Returns>,
    smtp: Smtp,
    /// What an e-mail costs.
    price: Option<Price>,
    /// How many the mail server gets in a second.
    pace: Option<Pace>,
}

/// What a letter says.
pub(crate) struct Wording<'a> {
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
    pub(crate) link: &'a str,
    /// The portal, where it is written to somebody who says there how they want to be reached.
    pub(crate) preferences: Option<&'a str>,
    /// The visit that it is about, for the reader's calendar.
    pub(crate) visit: Option<&'a Visit>,
    /// Wall clock.
    pub(crate) now_ms: u64,
}

/// The address that a patient wants to be written to.
pub(crate) fn find(patient: &Resource, at_ms: i64) -> Result<Address, Refused> {
    let mut channels = consent::channels(patient, at_ms);
    channels.retain(|channel| channel.kind == "email" && !channel.address.is_empty());
    first(&channels, &WORDS, |text| text.trim().parse().ok())
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self {
            meaning: failure.meaning(),
            words: failure.words(),
            reason: Reason::PermanentFailure,
            after_ms: None,
        }
    }
}

impl Mail {
    /// Checks that the options fit together.
    pub(crate) fn new(options: MailOptions) -> Result<Self, String> {
        let from: Mailbox = options
            .from
            .parse()
            .map_err(|error| format!("the sender {:?}: {error}", options.from))?;
        if let Some(dkim) = &options.dkim
            && !dkim.speaks_for(from.email.domain())
        {
            return Err(format!(
                "e-mails are signed by {}, which does not speak for the sender {:?}",
                dkim.domain(),
                options.from
            ));
        }
        let returns = options.returns.as_ref().map(Returns::new).transpose()?;
        let domain = &options.message_id_domain;
        if domain.is_empty()
            || !domain
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
        {
            return Err(format!("the domain for Message-IDs {domain:?} is not one"));
        }
        if options.timeout_ms == 0 {
            return Err("the time-out of a conversation must be at least 1 ms".to_owned());
        }
        let smtp = Smtp::new(&options)?;
        if options.credentials.is_some() && options.tls == MailTls::None {
            tracing::warn!("mail: the password goes to the server on this machine without TLS");
        }
        Ok(Self {
            from,
            portal: options.portal_base.trim_end_matches('/').to_owned(),
            message_id_domain: options.message_id_domain,
            dkim: options.dkim,
            returns,
            smtp,
            price: options.meter.price,
            pace: options.meter.per_second.map(Pace::new),
        })
    }

    /// What an e-mail costs that a mail server has taken, where that is known.
    pub(crate) fn price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// Waits until the mail server may have another one.
    pub(crate) async fn turn(&self) {
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
    }

    /// The portal that its letters lead to.
    pub(crate) fn portal(&self) -> &str {
        &self.portal
    }

    /// What is known of what comes back, if anything does.
    pub(crate) fn returns(&self) -> Option<&Returns> {
        self.returns.as_ref()
    }

    /// The address that a letter comes back to, which goes to what `went_to` stands for: its own, or the sender's where
    /// there are none.
    ///
    /// # Errors
    /// `Storage` where the tenant's keys can't be read.
    pub(crate) fn return_address(
        &self,
        ledger: &Ledger,
        tenant: TenantId,
        of: Option<Of>,
        went_to: &str,
    ) -> Result<Address, LedgerError> {
        let own = match self.returns.as_ref().zip(of) {
            Some((returns, of)) => returns.address(ledger, tenant, of, went_to)?,
            None => None,
        };
        Ok(own.unwrap_or_else(|| self.from.email.clone()))
    }

    /// The bytes of a letter; each attempt at one outbox entry has the same `Message-ID`.
    pub(crate) fn compose(
        &self,
        entry: [u8; 16],
        to: &Address,
        wording: &Wording<'_>,
    ) -> Result<Vec<u8>, String> {
        let entered = wording.visit.map(|visit| Entered {
            visit,
            domain: &self.message_id_domain,
            from: &self.from,
            to,
            portal: &self.portal,
            now_ms: wording.now_ms,
        });
        compose(&Letter {
            from: &self.from,
            to,
            subject: wording.subject,
            text: wording.text,
            link: wording.link,
            message_id: &message_id(entry, &self.message_id_domain),
            preferences: wording.preferences,
            now_ms: wording.now_ms,
            dkim: self.dkim.as_ref(),
            entry: entered.map(|entered| entered.entry()),
        })
    }

    /// One conversation, `from` where it comes back to.
    pub(crate) async fn hand_over(
        &self,
        (from, to): (&Address, &Address),
        content: &[u8],
    ) -> Result<Outcome, Trouble> {
        let began = Instant::now();
        let sent = self.smtp.send(from, to, content).await;
        metrics::histogram!("smtp_conversation_seconds").record(began.elapsed().as_secs_f64());
        sent.map(|()| Outcome::Sent).map_err(Trouble::from)
    }
}

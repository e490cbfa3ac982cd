//! E-mail: an address, a composed letter, one SMTP conversation.

use fhir::Resource;
use lettre::Address;
use lettre::message::Mailbox;
use tokio::time::Instant;
use trust::consent;

use crate::carrier::Trouble;
use crate::check::{Reason, Refused, Words, first};
use crate::compose::{Letter, compose, message_id};
use crate::outcome::Outcome;
use crate::smtp::{Failure, Smtp};
use crate::{MailOptions, MailTls};

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
    smtp: Smtp,
}

/// What a letter says.
pub(crate) struct Wording<'a> {
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
    pub(crate) link: &'a str,
    /// The portal, where it is written to somebody who says there how they want to be reached.
    pub(crate) preferences: Option<&'a str>,
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
        let from = options
            .from
            .parse()
            .map_err(|error| format!("the sender {:?}: {error}", options.from))?;
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
            smtp,
        })
    }

    /// The portal that its letters lead to.
    pub(crate) fn portal(&self) -> &str {
        &self.portal
    }

    /// The bytes of a letter; each attempt at one outbox entry has the same `Message-ID`.
    pub(crate) fn compose(
        &self,
        entry: [u8; 16],
        to: &Address,
        wording: &Wording<'_>,
    ) -> Result<Vec<u8>, String> {
        compose(&Letter {
            from: &self.from,
            to,
            subject: wording.subject,
            text: wording.text,
            link: wording.link,
            message_id: &message_id(entry, &self.message_id_domain),
            preferences: wording.preferences,
            now_ms: wording.now_ms,
        })
    }

    /// One conversation.
    pub(crate) async fn hand_over(&self, to: &Address, content: &[u8]) -> Result<Outcome, Trouble> {
        let began = Instant::now();
        let sent = self.smtp.send(&self.from.email, to, content).await;
        metrics::histogram!("smtp_conversation_seconds").record(began.elapsed().as_secs_f64());
        sent.map(|()| Outcome::Sent).map_err(Trouble::from)
    }
}

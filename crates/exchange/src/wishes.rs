//! Whether a message is welcome, as the patient's wishes are when it leaves: they may have changed since it was put on its
//! way.

use trust::TrustError;
use trust::consent::{Pressing, QuietHours, Unwelcome, Via};

use crate::attempt::Attempt;
use crate::check::{Reason, Refused};

impl Attempt<'_> {
    /// Why the patient doesn't want it by this channel, where they don't.
    pub(crate) async fn unwelcome(&self) -> Result<Option<Refused>, TrustError> {
        let message = &self.message;
        // What can't wait goes whatever they say, and whether it can be read or not.
        let sort = message
            .sort
            .filter(|sort| sort.pressing != Pressing::Clinical);
        let Some(sort) = sort else {
            return Ok(None);
        };
        let vault = self.inner.trust.vault();
        let wishes = vault.wishes(self.entry.tenant, &message.patient).await?;
        let reach = Via::parse(&message.channel);
        Ok(wishes.refuses(sort, reach).map(|why| {
            let reason = match why {
                Unwelcome::Topic => Reason::Unwelcome,
                Unwelcome::Routine => Reason::OnlyImportant,
            };
            Refused::new(reason, why.words(sort.topic, reach))
        }))
    }

    /// When the patient wants no message.
    pub(crate) async fn own_quiet(&self) -> Result<Option<QuietHours>, TrustError> {
        let sort = self.message.sort;
        if sort.is_some_and(|sort| sort.pressing == Pressing::Clinical) {
            return Ok(None);
        }
        let vault = self.inner.trust.vault();
        let patient = &self.message.patient;
        Ok(vault.wishes(self.entry.tenant, patient).await?.quiet())
    }
}

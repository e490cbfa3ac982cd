//! Whether a message is welcome, as the patient's wishes are when it leaves: they may have changed since it was put on its
//! way.

use trust::TrustError;
use trust::consent::{Pressing, QuietHours, Unwelcome, Via, Wishes};

use crate::attempt::Attempt;
use crate::check::{Reason, Refused};

impl Attempt<'_> {
    /// What the patient wishes, read once; nothing for what can't wait, which goes whatever they say, and whether it can be
    /// read or not.
    async fn wishes(&self) -> Result<Option<&Wishes>, TrustError> {
        let sort = self.message.sort;
        if sort.is_some_and(|sort| sort.pressing == Pressing::Clinical) {
            return Ok(None);
        }
        let vault = self.inner.trust.vault();
        let read = || vault.wishes(self.entry.tenant, &self.message.patient);
        self.wishes.get_or_try_init(read).await.map(Some)
    }

    /// Why the patient doesn't want it by this channel, where they don't.
    pub(crate) async fn unwelcome(&self) -> Result<Option<Refused>, TrustError> {
        let Some(sort) = self.message.sort else {
            return Ok(None);
        };
        let Some(wishes) = self.wishes().await? else {
            return Ok(None);
        };
        let reach = Via::parse(&self.message.channel);
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
        Ok(self.wishes().await?.and_then(Wishes::quiet))
    }
}

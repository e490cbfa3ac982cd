//! Telephone numbers that get no text messages any more, because somebody sent STOP from them.
//!
//! What a telephone wants is not a patient's record: other systems write `Patient` anew, records come later than a STOP,
//! and two people may have one number. So it is a list of the tenant's own. A number's place in it is a keyed hash of
//! the number, and the number itself stands in the sealed body alone, for whoever takes the list elsewhere.

use std::sync::atomic::Ordering;

use fhir::Resource;
use ledger::{Expected, LedgerError, Owner, TenantId};
use serde::{Deserialize, Serialize};

use super::{Internal, Unit, Vault, kinds};
use crate::consent;
use crate::identity::PushWays;
use crate::sms::{Country, Number};
use crate::{Permit, TrustError};

/// How often a change is tried again when somebody else made one meanwhile.
const CONFLICTS_MAX: u32 = 8;
/// The most numbers of one patient that are looked at.
const NUMBERS_MAX: usize = 20;

/// What an organisation says of its text messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextRules {
    /// The country of numbers that are written without one. Where none is said, such a number is none.
    pub country: Option<Country>,
    /// The number that they come from, where it is one.
    pub from: Option<String>,
    /// Whether what people reply to that number is brought here, and to no other organisation.
    pub replies: bool,
}

/// Why a patient gets no text message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoText {
    /// No number is on record that text messages may go to.
    Nowhere,
    /// What is on record is no number, or doesn't say of which country.
    Unusable,
    /// The patient doesn't want them.
    Unwanted,
    /// Somebody sent STOP from the telephone.
    Stopped,
}

#[derive(Debug, Serialize, Deserialize)]
struct TextStop {
    number: String,
    since_ms: u64,
}

impl Vault {
    /// Says what an organisation says of its text messages: once, before anything is sent.
    pub fn set_texts(&self, rules: TextRules) {
        // What was said first stays.
        let _ = self.inner.texts.set(rules);
    }

    /// Says which devices the organisation sends notifications to: once, before anything is sent. Where nobody says it
    /// none are sent, and journeys take their next channel.
    pub fn set_notifications(&self, ways: PushWays) {
        // What was said first stays.
        let _ = self.inner.notifies.set(ways);
    }

    /// Which devices the organisation sends notifications to.
    #[must_use]
    pub fn notifications(&self) -> PushWays {
        self.inner.notifies.get().copied().unwrap_or_default()
    }

    /// What the organisation says of its text messages.
    #[must_use]
    pub fn texts(&self) -> TextRules {
        let mut texts = self.inner.texts.get().cloned().unwrap_or_default();
        texts.replies &= !self.inner.number_shared.load(Ordering::Relaxed);
        texts
    }

    /// Says that another organisation here sends from the same number, so that replies may be brought to it.
    pub fn number_is_shared(&self) {
        self.inner.number_shared.store(true, Ordering::Relaxed);
    }

    /// The number that a patient's text messages go to now, or why there is none. For parts of Cairn that write to
    /// them.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn texts_to(
        &self,
        tenant: TenantId,
        patient: &Resource,
        now_ms: i64,
    ) -> Result<Result<Number, NoText>, TrustError> {
        let country = self.texts().country;
        let mut why = NoText::Nowhere;
        for channel in consent::texts(patient, now_ms)
            .into_iter()
            .take(NUMBERS_MAX)
        {
            let found = if channel.wanted {
                match Number::parse(&channel.address, country) {
                    Some(number) if self.is_stopped(tenant, &number).await? => NoText::Stopped,
                    Some(number) => return Ok(Ok(number)),
                    None => NoText::Unusable,
                }
            } else {
                NoText::Unwanted
            };
            why = why.or(found);
        }
        Ok(Err(why))
    }

    /// The number that a patient may be called at: the first that is wanted and can be dialled. A STOP is about text
    /// messages, and says nothing of calls.
    ///
    /// # Errors
    /// Why there is none.
    pub fn calls_to(&self, patient: &Resource, now_ms: i64) -> Result<Number, NoText> {
        let country = self.texts().country;
        let mut why = NoText::Nowhere;
        for channel in consent::calls(patient, now_ms)
            .into_iter()
            .take(NUMBERS_MAX)
        {
            let found = if channel.wanted {
                match Number::parse(&channel.address, country) {
                    Some(number) => return Ok(number),
                    None => NoText::Unusable,
                }
            } else {
                NoText::Unwanted
            };
            why = why.or(found);
        }
        Err(why)
    }

    /// Whether somebody sent STOP from a telephone.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn is_stopped(&self, tenant: TenantId, number: &Number) -> Result<bool, TrustError> {
        let id = self.stop_id(tenant, number);
        let found = (self.ledger().get(tenant, kinds::TEXT_STOP, &id)).await?;
        Ok(found.is_some_and(|found| !found.deleted))
    }

    /// The same of what stands in a record, for pages that show it.
    ///
    /// # Errors
    /// As [`Vault::is_stopped`].
    pub async fn is_text_stopped(&self, tenant: TenantId, text: &str) -> Result<bool, TrustError> {
        match Number::parse(text, self.texts().country) {
            Some(number) => self.is_stopped(tenant, &number).await,
            None => Ok(false),
        }
    }

    /// Writes down that a telephone gets no text messages any more, or gets them again. What stands already is not
    /// written again.
    ///
    /// # Errors
    /// `Refused`, `Ledger`; a conflict where others kept changing it.
    pub async fn set_stopped(
        &self,
        permit: &Permit,
        number: &Number,
        stopped: bool,
    ) -> Result<(), TrustError> {
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let id = self.stop_id(tenant, number);
        for _ in 0..CONFLICTS_MAX {
            let found = ledger.get(tenant, kinds::TEXT_STOP, &id).await?;
            if stopped == found.as_ref().is_some_and(|found| !found.deleted) {
                return Ok(());
            }
            let document = TextStop {
                number: number.as_str().to_owned(),
                since_ms: ledger.clock().now_ms(),
            };
            let internal = Internal {
                kind: kinds::TEXT_STOP,
                id: id.clone(),
                owner: Owner::Tenant,
                expected: found.map_or(Expected::Absent, |found| Expected::Version(found.version)),
                // A document of a number and a time can't fail to serialise.
                body: serde_json::to_vec(&document).unwrap_or_default(),
                deleted: !stopped,
                tokens: Vec::new(),
            };
            let what = if stopped { "STOP" } else { "START" };
            let unit = Unit {
                internals: vec![internal],
                // The name tells which STOP was taken off, and nothing of the number.
                note: Some(format!("{what} by text message ({id})")),
                ..Unit::default()
            };
            match self.commit(permit, unit).await {
                Err(TrustError::Ledger(LedgerError::Conflict)) => {}
                other => return other.map(|_| ()),
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict))
    }

    fn stop_id(&self, tenant: TenantId, number: &Number) -> String {
        let name = format!("text-stop/{}", number.as_str());
        self.ledger().derive_own_id(tenant, &name)
    }
}

impl NoText {
    /// Of several numbers, what says most of why none of them is used.
    fn or(self, other: Self) -> Self {
        const ORDER: [NoText; 4] = [
            NoText::Stopped,
            NoText::Unusable,
            NoText::Unwanted,
            NoText::Nowhere,
        ];
        let place = |why| ORDER.iter().position(|one| *one == why);
        if place(other) < place(self) {
            other
        } else {
            self
        }
    }
}

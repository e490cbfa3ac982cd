//! What is to begin of a patient's journeys, and what did not begin, for pages.

use crate::entries::{BEGINNINGS, Entries};
use crate::service::refused;
use crate::{JourneyError, Journeys};
use trust::Permit;

/// Most documents of one patient that are shown: journeys that know of the patient by a date.
const SHOWN_MAX: usize = 200;

/// A journey that is to begin.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ToBegin {
    /// The journey's name.
    pub journey: String,
    /// Its title.
    pub title: String,
    /// When, care clock.
    pub at_ms: u64,
    /// The resource that says so, `Type/id`.
    pub cause: String,
}

/// A journey that did not begin.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotBegun {
    /// The journey's name.
    pub journey: String,
    /// Its title.
    pub title: String,
    /// When it was refused, care clock.
    pub at_ms: u64,
    /// Why, in words.
    pub why: String,
    /// What would have begun it, `Type/id`.
    pub cause: String,
}

/// What is known of beginnings of a patient's journeys.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Beginnings {
    /// What is ahead, soonest first.
    pub ahead: Vec<ToBegin>,
    /// What was refused, newest first.
    pub refused: Vec<NotBegun>,
    /// Of how many journeys this program can't read it.
    pub unread: usize,
    /// Whether there are more journeys of which it isn't read here.
    pub cut: bool,
}

impl Journeys {
    /// What is to begin of a patient's journeys, and what did not begin and why; for those who see the patient's
    /// journeys.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn beginnings(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Beginnings, JourneyError> {
        if permit.only_patient().is_some_and(|only| only != patient) {
            return Err(refused("this permit is for another patient"));
        }
        let books = self.books(permit.tenant()).await?;
        let tokens = [("patient", patient)];
        let stored = self
            .vault()
            .internals(permit, BEGINNINGS, &tokens, None, SHOWN_MAX + 1);
        let mut found = Beginnings::default();
        let stored = stored.await?;
        found.cut = stored.len() > SHOWN_MAX;
        for document in stored.into_iter().take(SHOWN_MAX) {
            let Ok(entries) = Entries::from_json(&document.body) else {
                found.unread += usize::from(document.patient.as_deref() == Some(patient));
                continue;
            };
            // Tokens can collide.
            if entries.patient != patient {
                continue;
            }
            let journey = entries.journey;
            let live = books.live(&journey);
            let title = live.map_or_else(|| journey.clone(), |live| live.definition.title.clone());
            found
                .ahead
                .extend(entries.ahead.into_iter().map(|(id, ahead)| ToBegin {
                    journey: journey.clone(),
                    title: title.clone(),
                    at_ms: ahead.at_ms,
                    cause: format!("{}/{id}", ahead.kind),
                }));
            found
                .refused
                .extend(entries.refused.into_iter().map(|refused| NotBegun {
                    journey: journey.clone(),
                    title: title.clone(),
                    at_ms: refused.at_ms,
                    why: refused.why,
                    cause: refused.cause,
                }));
        }
        found.ahead.sort_by_key(|ahead| ahead.at_ms);
        found
            .refused
            .sort_by_key(|refused| std::cmp::Reverse(refused.at_ms));
        Ok(found)
    }
}

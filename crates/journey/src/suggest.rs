//! What other systems are told of journeys while they work: which a patient could begin, and which deal with a code.

use crate::definition::Condition;
use crate::service::staff;
use crate::{JourneyError, Journeys, facts};
use fhir::Resource;
use trust::conventions::JOURNEY_URL;
use trust::{Permit, Role};

/// A live journey that could begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// Whether other systems start it by request; else it begins by what is written.
    pub by_request: bool,
    /// Whether a request has to say times.
    pub asks: bool,
}

impl Journeys {
    /// The live journeys that would begin if these resources were written as they are, as far as the resources say,
    /// and those that other systems may start by request. Whom they are for, consents and exits are asked when they
    /// begin.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn could_begin(
        &self,
        permit: &Permit,
        written: &[Resource],
    ) -> Result<Vec<Beginning>, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let now_ms = self.now_ms();
        let mut found = Vec::new();
        for published in books.all_live() {
            let definition = &published.definition;
            // What is written now begins a journey by a date some other time.
            let at_once = definition.entry.date.is_none();
            let begins = |one: &Resource| {
                let of_them = definition.entry.who.is_empty()
                    || definition
                        .entry
                        .who
                        .iter()
                        .any(|who| matches!(who, crate::definition::Who::Has { .. }))
                    || facts::who_by_event(definition, one, now_ms);
                at_once && of_them && facts::entry(definition, one, now_ms).is_some()
            };
            let by_event = written.iter().any(begins);
            let request = definition.entry.request.as_ref();
            let by_request = request.is_some_and(|request| request.by.contains(&Role::Client));
            if by_event || by_request {
                found.push(Beginning {
                    name: definition.name.clone(),
                    title: definition.title.clone(),
                    owner: definition.owner.clone(),
                    by_request: !by_event,
                    asks: request.is_some_and(|request| !request.asks.is_empty()),
                });
            }
        }
        Ok(found)
    }

    /// Which of some codes a version of a journey asks about, in what it waits for, what ends it, and what its rules
    /// measure. `canonical` is as a patient's `CarePlan` has it; one that is of no journey here asks about nothing.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn asks_about(
        &self,
        permit: &Permit,
        canonical: &str,
        codes: &[String],
    ) -> Result<Vec<String>, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let of_journey = canonical.strip_prefix(JOURNEY_URL);
        let published = of_journey
            .and_then(|rest| rest.split_once('|'))
            .and_then(|(name, version)| books.version(name, version.parse().ok()?));
        let Some(published) = published else {
            return Ok(Vec::new());
        };
        let definition = &published.definition;
        let texts = |condition: &Condition| condition.path.as_ref().map(|path| path.text.clone());
        let texts: Vec<String> = definition.conditions.iter().filter_map(texts).collect();
        let asks = |code: &&String| {
            let quoted = format!("'{code}'");
            let measured = definition.steps.iter().any(|step| {
                step.kind
                    .compares()
                    .is_some_and(|(loinc, _)| loinc == code.as_str())
            });
            measured || texts.iter().any(|text| text.contains(&quoted))
        };
        Ok(codes.iter().filter(asks).cloned().collect())
    }
}

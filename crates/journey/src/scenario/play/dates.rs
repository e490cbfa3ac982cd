//! A journey that begins by a date: what the record says of it, and when it comes.

use super::{By, Player, reference};
use crate::definition::Definition;
use crate::entries::Ahead;
use crate::facts;
use crate::room::zone_of;
use crate::runner::{Moment, Turn, said, turn};
use crate::scenario::file::Given;
use crate::time::DAY_MS;
use fhir::Resource;
use std::collections::BTreeMap;

/// What is waited for while the journey has not begun.
#[derive(Debug, Default)]
pub(super) struct Dated {
    /// The resource that says the date, `Type/id`; none where the journey begins otherwise.
    of: Option<String>,
    ahead: Option<Ahead>,
    arms: BTreeMap<String, String>,
    /// Why it does not begin.
    idle: Option<String>,
    /// Whether it begins as one whose date was past.
    pub(super) late: bool,
}

impl Player<'_> {
    /// Takes in what the entry says of a date.
    pub(super) fn await_date(&mut self, entry: &Resource, given: &Given) -> Result<(), String> {
        self.dated.of = Some(reference(entry));
        self.dated.arms = given.arms.clone();
        let first = || {
            let date = self.definition.entry.date.as_ref()?;
            let zone = self.zone();
            let next = date
                .occurrences(said(self.definition, entry, 0)?, &zone, 0)
                .next?;
            (!date.yearly).then(|| next.at_ms.saturating_sub(DAY_MS))
        };
        self.now_ms = given
            .now_ms
            .or_else(first)
            .ok_or("`given` needs `now`: when what says the date is written down".to_owned())?;
        self.look_at_date()
    }

    fn zone(&self) -> jiff::tz::TimeZone {
        let own = self.stage.person().and_then(zone_of);
        own.unwrap_or_else(|| self.definition.zone.clone())
    }

    /// When the date comes, if it is ahead.
    pub(super) fn comes_ms(&self) -> Option<u64> {
        let ahead = self.dated.ahead.as_ref().filter(|_| self.run.is_none());
        ahead.map(|ahead| ahead.at_ms)
    }

    /// Lets time pass to the date.
    pub(super) fn date_comes(&mut self, due_ms: u64) -> Result<(), String> {
        self.now_ms = self.now_ms.max(due_ms);
        self.look_at_date()
    }

    /// Looks at the date as the record has it now, as the runner does when something is written or its timer is due.
    pub(super) fn look_at_date(&mut self) -> Result<(), String> {
        let definition: &Definition = self.definition;
        let (Some(of), Some(date), None) = (&self.dated.of, &definition.entry.date, &self.run)
        else {
            return Ok(());
        };
        let planned = self.dated.ahead.take();
        let fact = self.stage.record.get(of).cloned();
        let alive = !self.stage.person().is_none_or(facts::deceased);
        let read = fact.filter(|_| alive).and_then(|fact| {
            let says = said(definition, &fact, self.now_ms)?;
            Some((fact, says))
        });
        let Some((fact, says)) = read else {
            let why = if alive {
                "no date is said by which it begins"
            } else {
                "the patient has died"
            };
            self.dated.idle = Some(why.to_owned());
            return Ok(());
        };
        let found = date.occurrences(says, &self.zone(), self.now_ms);
        let next = found.next.map(|next| Ahead::of(fact.kind(), next));
        let now = Moment {
            number: ledger::Number::default(),
            learnt_ms: self.now_ms,
            now_ms: self.now_ms,
            scanned: false,
        };
        let within_ms = definition.entry.within_ms;
        match turn(date, within_ms, found.past, planned.as_ref(), &now) {
            Turn::Rest => {}
            Turn::TooLate(_) => {
                let why = "the date was past already when it was learnt (`past_due: skip`)";
                self.dated.idle = Some(why.to_owned());
            }
            Turn::Begin(_, late) => {
                self.dated.late = late;
                let arms = std::mem::take(&mut self.dated.arms);
                self.dated.idle = self.begin(&By::Event(fact), &arms)?;
                self.dated.arms = arms;
            }
        }
        // What comes each year is a scenario's last word only once it has begun.
        self.dated.ahead = next.filter(|_| self.run.is_none());
        Ok(())
    }

    /// Why the journey has not begun.
    pub(super) fn why_idle(&mut self) -> String {
        let why = self.dated.idle.take();
        why.unwrap_or_else(|| "its date has not come".to_owned())
    }
}

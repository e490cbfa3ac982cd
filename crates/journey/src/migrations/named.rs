//! What would come of a move between versions for some of those whom it is for, by name.

use super::{Moving, OneMoved, Outcome};
use crate::batches::steers;
use crate::mover::MoveError;
use crate::state::State;
use crate::{JourneyError, Journeys};
use trust::{Permit, kinds};

/// Patients that are shown by name at once.
pub const NAMED_MAX: usize = 50;

/// Those of whom something becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// They are moved.
    Moves,
    /// They are moved, and something else is planned for them than now.
    Changed,
    /// They stay on their version.
    Stays,
    /// They are held on their version.
    Held,
    /// They are moved when something is over.
    Waits,
    /// They can't be moved.
    Cannot,
}

impl Which {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Moves,
        Self::Changed,
        Self::Stays,
        Self::Held,
        Self::Waits,
        Self::Cannot,
    ];

    /// As forms and programs name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Moves => "moves",
            Self::Changed => "changed",
            Self::Stays => "stays",
            Self::Held => "held",
            Self::Waits => "waits",
            Self::Cannot => "cannot",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|which| which.name() == name)
    }

    fn has(self, one: &OneMoved) -> bool {
        match self {
            Self::Moves => one.outcome == Outcome::Moves,
            Self::Changed => one.outcome == Outcome::Moves && !one.differs.is_empty(),
            Self::Stays => one.outcome == Outcome::Stays,
            Self::Held => one.outcome == Outcome::Held,
            Self::Waits => matches!(one.outcome, Outcome::Waits(_)),
            Self::Cannot => matches!(one.outcome, Outcome::Cannot(_)),
        }
    }
}

/// Some of those whom a move is for, by name.
#[derive(Debug, Clone, Default)]
pub struct NamedPage {
    /// They, as far as whoever asks is shown them. One that has just changed is left out, so there may be fewer, or none,
    /// with others behind them.
    pub each: Vec<OneMoved>,
    /// How many are at this place of the list besides, whom they are not shown.
    pub hidden: usize,
    /// The instance behind which others may be.
    pub next: Option<String>,
}

impl Journeys {
    /// What would come of a move for some of them, by name: so many behind an instance, at most [`NAMED_MAX`]. Whom the
    /// permit is not shown in lists of patients is counted alone; who is shown no patients at all is told of journeys.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Busy`, `Trust`.
    pub async fn preview_named(
        &self,
        permit: &Permit,
        moving: &Moving,
        after: Option<&str>,
        count: usize,
    ) -> Result<NamedPage, JourneyError> {
        self.preview_named_of(permit, moving, None, after, count)
            .await
    }

    /// The same for those of whom this becomes.
    ///
    /// # Errors
    /// `Unknown`, `Cannot`, `Busy`, `Trust`.
    pub async fn preview_named_of(
        &self,
        permit: &Permit,
        moving: &Moving,
        which: Option<Which>,
        after: Option<&str>,
        count: usize,
    ) -> Result<NamedPage, JourneyError> {
        steers(permit)?;
        let pair = self
            .pair(permit, &moving.who, moving.to, &moving.map)
            .await?;
        let books = self.books(permit.tenant()).await?;
        let _place = books.place()?;
        let (states, _) = self.those_moved(permit, moving).await?;
        let count = count.min(NAMED_MAX);
        let engine = self.engine_permit(permit.tenant()).await?;
        let mut found: Vec<(String, String)> = Vec::new();
        for (instance, state) in &states {
            if after.is_some_and(|after| instance.as_str() <= after) {
                continue;
            }
            if found.len() == count {
                break;
            }
            // Who is left out is looked at by the engine, for nobody's eyes.
            let wanted = match which {
                None => true,
                Some(which) => {
                    let map = &moving.map;
                    let one = self.one_moved(&engine, &pair, map, instance, state).await?;
                    which.has(&one)
                }
            };
            if wanted {
                found.push((instance.clone(), state.patient.clone()));
            }
        }
        let last = found.last().filter(|_| found.len() == count);
        let next = last.map(|(instance, _)| instance.clone());
        let all = found.len();
        let ids = self.shown_first(permit, found, count).await?;
        let hidden = all - ids.len();
        let kind = kinds::JOURNEY_INSTANCE;
        let mut each = Vec::new();
        // Who is shown is read under the permit of whoever sees it.
        for document in self.vault().internals_of(permit, kind, &ids).await? {
            let state = State::from_json(&document.body).map_err(MoveError::from)?;
            let one = self
                .one_moved(&engine, &pair, &moving.map, &document.id, &state)
                .await?;
            // Something may have happened meanwhile.
            if which.is_none_or(|which| which.has(&one)) {
                each.push(one);
            }
        }
        Ok(NamedPage { each, hidden, next })
    }
}

//! One of those whom a batch is for.

use super::{Batch, Many, Reached};
use crate::engine::Hand;
use crate::{JourneyError, Journeys, hands};
use ledger::LedgerError;
use trust::{Permit, TrustError};

/// How often an act is compared again with what was foreseen, where the journey moves meanwhile.
const TRIES: usize = 8;

/// What a batch says of who is left as they are.
pub(crate) fn not_as_foreseen() -> JourneyError {
    let why =
        "what would come of it is not what was foreseen when the batch was asked for; look again";
    JourneyError::Cannot(why.to_owned())
}

impl Journeys {
    /// Does it for one of those whom a batch is for; `seen` is the mark of what was foreseen for them.
    pub(super) async fn reach_one(
        &self,
        permit: &Permit,
        batch: &Batch,
        (patient, instance): (&str, &str),
        seen: Option<&str>,
        again: bool,
    ) -> Result<Reached, JourneyError> {
        let (state, _) = self.own(permit, patient, instance).await?;
        if state.batch.as_ref() == Some(&batch.id) {
            return Ok(Reached::Done);
        }
        if let Some(of) = &batch.of {
            let one = (patient, instance);
            self.take_one_back(permit, batch, one, of).await?;
            return Ok(Reached::Done);
        }
        // Where a turn was cut short, this batch comes again to whom it had reached, and somebody may have taken that back.
        if let Some(other) = &state.batch
            && self.takes_back(permit, other, &batch.id).await?
        {
            return Err(JourneyError::Cannot("it was taken back".to_owned()));
        }
        // Who was waited for has moved on, which is what a move to another version waits for.
        let waited = again && matches!(batch.many, Many::Migrate { .. });
        if state.running() && !waited && !batch.who.is(&state, self.now_ms()) {
            let why = "what the batch looks for does not hold of the patient any more";
            return Err(JourneyError::Cannot(why.to_owned()));
        }
        if let Many::Migrate { to, map } = &batch.many {
            let (one, to) = ((patient, instance), (*to, map));
            return self.move_one(permit, batch, one, to, seen).await;
        }
        let Some(act) = batch.many.act(&batch.who, &state)? else {
            let reason = format!("{} ({}, for many patients)", batch.reason, batch.by);
            self.stop_one(permit, patient, instance, &reason).await?;
            return Ok(Reached::Done);
        };
        let hand = Hand {
            act,
            reason: batch.reason.clone(),
            by: batch.by.clone(),
            batch: Some(batch.id.clone()),
        };
        // What was compared is what is done, or it is compared again.
        for _ in 0..TRIES {
            let (state, version) = self.own(permit, patient, instance).await?;
            let books = self.books(permit.tenant()).await?;
            if let Some(seen) = seen
                && state.batch.as_ref() != Some(&batch.id)
                && self.act_mark(
                    permit,
                    &books,
                    (&batch.who, &batch.many),
                    (instance, &state),
                )? != seen
            {
                return Err(not_as_foreseen());
            }
            let version = seen.map(|_| version);
            match self
                .by_hand(permit, patient, instance, &hand, version)
                .await
            {
                Err(JourneyError::Cannot(why)) if version.is_some() && why == hands::MOVED_ON => {}
                done => {
                    done?;
                    return Ok(Reached::Done);
                }
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict).into())
    }
}

/// Why a patient could not be reached, in words; an error of the store is none, and waits.
pub(super) fn why(error: JourneyError) -> Result<String, JourneyError> {
    match error {
        JourneyError::Trust(TrustError::Ledger(LedgerError::KeyDestroyed)) => {
            Ok("the patient's record was erased".to_owned())
        }
        JourneyError::Trust(
            error @ (TrustError::Damaged(_)
            | TrustError::Invalid(_)
            | TrustError::TooCostly(_)
            | TrustError::Unanswerable(_)
            | TrustError::Refused(_)
            | TrustError::Ledger(LedgerError::Damaged(_) | LedgerError::Invalid(_))),
        ) => Ok(error.to_string()),
        JourneyError::Trust(_) => Err(error),
        JourneyError::Cannot(why) => Ok(why),
        JourneyError::Unknown(_) => Ok("the journey is not there any more".to_owned()),
        other => Ok(other.to_string()),
    }
}

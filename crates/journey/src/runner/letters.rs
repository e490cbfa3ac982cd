//! Dead letters: what can't be worked on is kept where people see it.

use crate::books::Books;
use crate::engine::REPLAYED;
use crate::mover::MoveError;
use crate::{DeadLetter, Journeys};
use ledger::{CursorMove, Event, Expected, Number, Owner, Shard, Timer};
use trust::{Internal, Permit, TrustError, Unit};

impl Journeys {
    pub(super) async fn bury_event(
        &self,
        permit: &Permit,
        event: &Event,
        error: &MoveError,
        cursor: CursorMove,
    ) -> Result<(), MoveError> {
        let letter = DeadLetter {
            id: String::new(),
            shard: event.at.shard.0,
            number: event.at.number.0,
            kind: event.kind.0,
            instance: None,
            error: error.to_string(),
            at_ms: self.now_ms(),
        };
        let name = format!("dead-letter/event/{}/{}", letter.shard, letter.number);
        self.bury(
            permit,
            letter,
            &name,
            Unit {
                cursor: Some(cursor),
                cause: Some(event.at.number),
                ..Unit::default()
            },
        )
        .await
    }

    pub(super) async fn bury_timer(
        &self,
        permit: &Permit,
        instance: &str,
        timers: &[&Timer],
        error: &MoveError,
    ) -> Result<(), MoveError> {
        let Some(first) = timers.first() else {
            return Ok(());
        };
        let letter = DeadLetter {
            id: String::new(),
            shard: first.key.shard.0,
            number: first.key.due_ms,
            kind: 0,
            instance: Some(instance.to_owned()),
            error: error.to_string(),
            at_ms: self.now_ms(),
        };
        let name = format!("dead-letter/timer/{instance}/{}", first.key.due_ms);
        self.bury(
            permit,
            letter,
            &name,
            Unit {
                timers_clear: timers.iter().map(|timer| timer.key).collect(),
                ..Unit::default()
            },
        )
        .await
    }

    /// Keeps what can't be worked on where people see it, in the same commit that passes it over.
    pub(super) async fn bury(
        &self,
        permit: &Permit,
        mut letter: DeadLetter,
        name: &str,
        mut unit: Unit,
    ) -> Result<(), MoveError> {
        let ledger = self.vault().ledger();
        letter.id = ledger.derive_id(permit.tenant(), &Owner::Tenant, name);
        tracing::error!(letter = %letter.id, shard = letter.shard, number = letter.number, kind = letter.kind, error = %letter.error, "a journey could not be moved; kept as a dead letter");
        metrics::counter!("journey_dead_letters_total").increment(1);
        let existing = self
            .vault()
            .internal(permit, crate::DEAD_LETTER, &letter.id)
            .await?;
        unit.internals.push(Internal {
            kind: crate::DEAD_LETTER,
            id: letter.id.clone(),
            owner: Owner::Tenant,
            expected: existing.map_or(Expected::Absent, |stored| Expected::Version(stored.version)),
            body: serde_json::to_vec(&letter).unwrap_or_default(),
            deleted: false,
            tokens: vec![("state".to_owned(), "open".to_owned())],
        });
        unit.note = Some("journey: kept as a dead letter".to_owned());
        self.vault().commit(permit, unit).await?;
        Ok(())
    }

    /// Plays a dead letter again; it is gone when that went well.
    pub(crate) async fn play_again(
        &self,
        books: &Books,
        permit: &Permit,
        letter: &DeadLetter,
    ) -> Result<(), MoveError> {
        let shard = Shard(letter.shard);
        let Some(position) = books.positions.get(usize::from(letter.shard)) else {
            return Ok(());
        };
        let _turn = position.lock().await;
        if let Some(instance) = &letter.instance {
            self.move_timers(books, permit, instance, &[], Number::default())
                .await?;
        } else {
            let number = Number(letter.number);
            let found = self
                .vault()
                .ledger()
                .events(shard, Number(letter.number.saturating_sub(1)), 1)
                .await
                .map_err(TrustError::from)?;
            if let Some(event) = found.into_iter().find(|event| event.at.number == number) {
                self.move_event(books, permit, &event, None, REPLAYED)
                    .await?;
            }
        }
        Ok(())
    }
}

//! Dead letters: what can't be worked on is kept where people see it, and played again when it can.

use super::{CONFLICTS_MAX, Cure, Errand, Passed, cure};
use crate::books::{Books, all_internals};
use crate::engine::EngineError;
use crate::mover::{MoveError, Mover};
use crate::{DEAD_LETTER, DeadLetter, JourneyError, Journeys};
use ledger::{CursorMove, Event, Expected, Number, Owner, Shard, Timer};
use std::sync::Arc;
use trust::{Internal, Permit, TrustError, Unit};

impl Journeys {
    /// An event that failed as a whole.
    pub(super) async fn bury_event(
        &self,
        books: &Books,
        permit: &Permit,
        event: &Event,
        error: &MoveError,
        cursor: CursorMove,
    ) -> Result<(), MoveError> {
        let letter = self.letter(event.at.shard, event.at.number.0, None, error);
        let letter = DeadLetter {
            kind: event.kind.0,
            ..letter
        };
        let name = format!("dead-letter/event/{}/{}", letter.shard, letter.number);
        let unit = Unit {
            held: Some(cursor.shard),
            cursor: Some(cursor),
            cause: Some(event.at.number),
            ..Unit::default()
        };
        self.bury(books, permit, letter, &name, unit).await
    }

    /// The timers of an instance. They are taken away, so that they don't stand before everybody else's;
    /// playing the letter again sets all that the state waits for.
    pub(super) async fn bury_timers(
        &self,
        books: &Books,
        permit: &Permit,
        instance: &str,
        timers: &[&Timer],
        error: &MoveError,
    ) -> Result<(), MoveError> {
        let Some(first) = timers.first() else {
            return Ok(());
        };
        let letter = self.letter(first.key.shard, first.key.due_ms, Some(instance), error);
        let name = format!("dead-letter/timer/{instance}");
        let unit = Unit {
            timers_clear: timers.iter().map(|timer| timer.key).collect(),
            held: Some(first.key.shard),
            ..Unit::default()
        };
        self.bury(books, permit, letter, &name, unit).await
    }

    async fn bury(
        &self,
        books: &Books,
        permit: &Permit,
        letter: DeadLetter,
        name: &str,
        mut unit: Unit,
    ) -> Result<(), MoveError> {
        let internal = self.kept(permit, letter, name).await?;
        let more = i64::from(internal.expected == Expected::Absent);
        unit.internals.push(internal);
        unit.note = Some("journeys: kept as a dead letter".to_owned());
        self.vault().commit(permit, unit).await?;
        books.letters(more);
        Ok(())
    }

    /// The letter of one instance that could not be told of an event, to go into the commit that passes
    /// the event over.
    pub(super) async fn set_aside(
        &self,
        permit: &Permit,
        event: &Event,
        instance: &str,
        error: &MoveError,
    ) -> Result<Internal, MoveError> {
        let letter = DeadLetter {
            kind: event.kind.0,
            ..self.letter(event.at.shard, event.at.number.0, Some(instance), error)
        };
        let name = format!(
            "dead-letter/event/{}/{}/{instance}",
            letter.shard, letter.number
        );
        self.kept(permit, letter, &name).await
    }

    /// The letter of an instance that could not be told of its segments, in a unit of work. How many there are more by
    /// it: one that is there already says the same.
    pub(super) async fn letter_of_look(
        &self,
        mover: &mut Mover<'_>,
        instance: &str,
        error: &MoveError,
    ) -> Result<i64, MoveError> {
        let owner = Owner::Patient(mover.patient().to_owned());
        let ledger = self.vault().ledger();
        let shard = ledger.shard_of(mover.tenant(), &owner, instance);
        let letter = self.letter(shard, mover.now_ms(), Some(instance), error);
        let name = format!("dead-letter/timer/{instance}");
        let letter = self.kept(mover.permit(), letter, &name).await?;
        if letter.expected != Expected::Absent {
            return Ok(0);
        }
        mover.also(letter);
        Ok(1)
    }

    fn letter(
        &self,
        shard: Shard,
        number: u64,
        instance: Option<&str>,
        error: &MoveError,
    ) -> DeadLetter {
        DeadLetter {
            id: String::new(),
            shard: shard.0,
            number,
            kind: 0,
            instance: instance.map(str::to_owned),
            waits: error.is_of_version(),
            error: error.to_string(),
            at_ms: self.now_ms(),
        }
    }

    /// A letter as a document. One of the same name, from an earlier try, is replaced.
    async fn kept(
        &self,
        permit: &Permit,
        mut letter: DeadLetter,
        name: &str,
    ) -> Result<Internal, MoveError> {
        let ledger = self.vault().ledger();
        letter.id = ledger.derive_id(permit.tenant(), &Owner::Tenant, name);
        tracing::error!(letter = %letter.id, shard = letter.shard, number = letter.number, kind = letter.kind, waits = letter.waits, error = %letter.error, "a journey could not be moved; kept as a dead letter");
        metrics::counter!("journey_dead_letters_total").increment(1);
        let existing = self
            .vault()
            .internal(permit, DEAD_LETTER, &letter.id)
            .await?;
        let mut tokens = vec![("state".to_owned(), "open".to_owned())];
        if letter.waits {
            tokens.push(("waits".to_owned(), "yes".to_owned()));
        }
        Ok(Internal {
            kind: DEAD_LETTER,
            id: letter.id.clone(),
            owner: Owner::Tenant,
            expected: existing.map_or(Expected::Absent, |stored| Expected::Version(stored.version)),
            body: serde_json::to_vec(&letter).unwrap_or_default(),
            deleted: false,
            tokens,
        })
    }

    /// Counts the letters that are there, once in this program's life.
    pub(super) async fn count_letters(
        &self,
        books: &Books,
        permit: &Permit,
    ) -> Result<(), JourneyError> {
        let mut counted = books.counted_letters.lock().await;
        if !*counted {
            let letters = self.letters(permit, &[("state", "open")]).await?;
            books.letters(i64::try_from(letters.len()).unwrap_or(i64::MAX));
            *counted = true;
        }
        Ok(())
    }

    /// Plays again, when a shard has come here and before anything else of it, what an earlier program
    /// could not work on and this one can. The caller has the shard's position.
    pub(super) async fn recover(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        shard: Shard,
    ) -> Result<(), MoveError> {
        let waiting = [("state", "open"), ("waits", "yes")];
        for (letter, version) in self.letters(permit, &waiting).await? {
            if !letter.waits || letter.shard != shard.0 {
                continue;
            }
            match self
                .play(books, permit, &letter, version, Some(shard))
                .await
            {
                Ok(()) => {}
                // Still not for this program.
                Err(error) if matches!(cure(&error), Cure::Bury | Cure::Skip) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Dead letters and their versions, in the order in which they have to be played again: per shard,
    /// events as they came, then time.
    pub(crate) async fn letters(
        &self,
        permit: &Permit,
        tokens: &[(&str, &str)],
    ) -> Result<Vec<(DeadLetter, u32)>, TrustError> {
        let mut letters = Vec::new();
        for stored in all_internals(self.vault(), permit, DEAD_LETTER, tokens).await? {
            let letter: DeadLetter = serde_json::from_slice(&stored.body)
                .map_err(|_| TrustError::Damaged(format!("dead letter {}", stored.id)))?;
            letters.push((letter, stored.version));
        }
        letters.sort_by_key(|(letter, _)| (letter.shard, letter.kind == 0, letter.number));
        Ok(letters)
    }

    /// Plays again, when a journey goes on that was held, what came while no more could be remembered of it. What
    /// still can't be worked on stays a letter. The caller has the position of the instance's shard.
    pub(crate) async fn play_held(&self, books: &Arc<Books>, instance: &str) {
        let full = EngineError::Full.to_string();
        let played = async {
            let permit = self.engine_permit(books.tenant).await?;
            for (letter, version) in self.letters(&permit, &[("state", "open")]).await? {
                if letter.instance.as_deref() == Some(instance) && letter.error == full {
                    self.play(books, &permit, &letter, version, None).await?;
                }
            }
            Ok::<(), JourneyError>(())
        };
        if let Err(error) = played.await {
            tracing::error!(instance, %error, "what came in a hold could not be played again; it is a dead letter still");
        }
    }

    /// Plays a dead letter again for somebody who asks for it; it is gone in the same commit when that
    /// went well.
    pub(crate) async fn play_again(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        letter: &DeadLetter,
        version: u32,
    ) -> Result<(), MoveError> {
        let Some(position) = books.positions.get(usize::from(letter.shard)) else {
            return Err(TrustError::Damaged(format!("dead letter {}", letter.id)).into());
        };
        let _turn = position.lock().await;
        self.play(books, permit, letter, version, None).await
    }

    /// The same for the shard's holder, or for anybody. The caller has the shard's position.
    async fn play(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        letter: &DeadLetter,
        version: u32,
        held: Option<Shard>,
    ) -> Result<(), MoveError> {
        let gone = Internal {
            kind: DEAD_LETTER,
            id: letter.id.clone(),
            owner: Owner::Tenant,
            expected: Expected::Version(version),
            body: Vec::new(),
            deleted: true,
            tokens: Vec::new(),
        };
        let mut conflicts = 0;
        loop {
            let done = match (&letter.instance, letter.kind) {
                (Some(instance), 0) => {
                    let passed = Passed {
                        timers: &[],
                        read: Number::default(),
                        letter: Some(gone.clone()),
                        held,
                    };
                    self.move_timers(books, permit, instance, passed).await
                }
                _ => self.event_again(books, permit, letter, held, &gone).await,
            };
            if matches!(done, Ok(None | Some(0))) {
                // Whoever looks for what became of it finds this.
                tracing::warn!(letter = %letter.id, shard = letter.shard, number = letter.number, kind = letter.kind, "a dead letter was played again and changed nothing: what it was about has ended or is gone; so is the letter now");
            }
            match done {
                Ok(Some(_)) => break,
                Ok(None) => {
                    let unit = Unit {
                        internals: vec![gone],
                        held,
                        note: Some(
                            "journeys: a dead letter that changes nothing any more".to_owned(),
                        ),
                        ..Unit::default()
                    };
                    self.vault().commit(permit, unit).await?;
                    break;
                }
                Err(error) if matches!(cure(&error), Cure::Again) && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        books.letters(-1);
        Ok(())
    }

    async fn event_again(
        &self,
        books: &Arc<Books>,
        permit: &Permit,
        letter: &DeadLetter,
        held: Option<Shard>,
        gone: &Internal,
    ) -> Result<Option<u64>, MoveError> {
        let place = Number(letter.number);
        let before = Number(letter.number.saturating_sub(1));
        let found = self
            .vault()
            .ledger()
            .events(Shard(letter.shard), before, 1)
            .await
            .map_err(TrustError::from)?;
        let Some(event) = found.into_iter().find(|event| event.at.number == place) else {
            return Ok(None);
        };
        self.hear(books, permit).await?;
        let errand = Errand {
            event: &event,
            held,
            cursor: None,
            only: letter.instance.as_deref(),
            letter: Some(gone.clone()),
        };
        self.move_event(books, permit, errand).await
    }
}

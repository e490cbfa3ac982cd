//! Room for messages, asked of what all of a patient's journeys have sent.

use super::{MoveError, Mover};
use crate::definition::{Channel, Definition};
use crate::room::{Asks, Book, Limits, Room, Window, zone_of};
use crate::state::{State, Which};
use crate::{MESSAGE_BOOK, facts};
use fhir::Resource;
use ledger::{Expected, Ledger, Owner, TenantId};
use trust::identity::NoPush;
use trust::{Internal, NoText};

/// What was read of the patient's messages, with what this unit of work adds.
pub(super) struct Opened {
    book: Book,
    expected: Expected,
    changed: bool,
}

/// What a message is known by to the limits.
pub(crate) fn key(instance: &str, n: u32, which: Which) -> String {
    format!("{instance}/{n}/{}", which.slot())
}

/// The id of the document with what a patient's journeys have sent.
pub(crate) fn book_id(ledger: &Ledger, tenant: TenantId, patient: &str) -> String {
    let owner = Owner::Patient(patient.to_owned());
    ledger.derive_id(tenant, &owner, &format!("messages/{patient}"))
}

impl Mover<'_> {
    /// What limits a journey's messages.
    pub(crate) fn limits(&self, definition: &Definition) -> Limits {
        Limits::of(self.vault.rules().messages(), &definition.limits)
    }

    /// Whether a message may reach out now. What goes out is in the patient's one document, which commits with the
    /// move: of two journeys that are moved at once, the second finds it changed and is moved again.
    pub(super) async fn room(
        &mut self,
        definition: &Definition,
        channel: Channel,
        window: Option<&Window>,
        asks: &Asks<'_>,
    ) -> Result<Room, MoveError> {
        // What will be refused anyway takes nobody's place, and the next channel is tried at once.
        if !self.permitted(definition).await? {
            return Ok(Room::Free);
        }
        let now_ms = self.now_ms;
        let person = self.person().await?;
        let refused = facts::refusal(person, channel, now_ms);
        if refused.is_some_and(|code| code != facts::NO_ADDRESS) {
            return Ok(Room::Free);
        }
        let zone = person.and_then(zone_of);
        let zone = zone.unwrap_or_else(|| definition.zone.clone());
        let asks_more = refused.is_some() || matches!(channel, Channel::Sms | Channel::Push);
        if asks_more && self.refusal(definition, channel).await?.is_some() {
            return Ok(Room::Free);
        }
        let limits = self.limits(definition).within(window);
        if !limits.has_caps() {
            return Ok(Book::default().ask(&limits, &zone, asks, now_ms));
        }
        let opened = self.opened().await?;
        let before = opened.book.clone();
        let room = opened.book.ask(&limits, &zone, asks, now_ms);
        opened.changed |= opened.book != before;
        Ok(room)
    }

    /// Why a patient gets no text message, as a code of `urn:cairn:not-done`: which numbers have sent STOP, and which
    /// are none without a country, is the organisation's to know.
    pub(super) async fn no_text(
        &self,
        person: &Resource,
    ) -> Result<Option<&'static str>, MoveError> {
        let at_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let found = self.vault.texts_to(self.tenant(), person, at_ms).await?;
        Ok(found.err().map(|why| match why {
            NoText::Stopped | NoText::Unwanted => "preference",
            NoText::Unusable | NoText::Nowhere => facts::NO_ADDRESS,
        }))
    }

    /// Why a patient gets no notification, as a code of `urn:cairn:not-done`.
    pub(super) async fn no_push(
        &self,
        person: &Resource,
    ) -> Result<Option<&'static str>, MoveError> {
        let at_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let found = self.vault.notifies_on(self.tenant(), person, at_ms).await?;
        Ok(found.err().map(|why| match why {
            NoPush::Unwanted => "preference",
            NoPush::Nowhere => facts::NO_ADDRESS,
        }))
    }

    /// The patient's document, read once.
    async fn opened(&mut self) -> Result<&mut Opened, MoveError> {
        let opened = match self.book.take() {
            Some(opened) => opened,
            None => {
                let id = self.book_id();
                let stored = self.vault.internal(self.permit, MESSAGE_BOOK, &id).await?;
                let expected = stored.as_ref().map(|stored| stored.version);
                let book = stored.map(|stored| Book::read(&stored.body));
                Opened {
                    book: book.unwrap_or_default(),
                    expected: expected.map_or(Expected::Absent, Expected::Version),
                    changed: false,
                }
            }
        };
        Ok(self.book.insert(opened))
    }

    /// Gives up the turns of messages that waited and do not wait any more, whatever became of them: else others
    /// would wait behind what never goes.
    pub(super) async fn give_up_turns(
        &mut self,
        instance: &str,
        before: Option<&State>,
        after: &State,
    ) -> Result<(), MoveError> {
        let held = before.map(|before| before.held.as_slice());
        for held in held.unwrap_or_default() {
            let mut still = after.held.iter();
            if !still.any(|still| (still.n, still.which) == (held.n, held.which)) {
                let opened = self.opened().await?;
                opened.changed |= opened.book.give_up(&key(instance, held.n, held.which));
            }
        }
        Ok(())
    }

    fn book_id(&self) -> String {
        book_id(self.vault.ledger(), self.tenant(), &self.patient)
    }

    /// Takes the document along, if it is another one now.
    pub(super) fn keep_book(&mut self) {
        let Some(opened) = self.book.take().filter(|opened| opened.changed) else {
            return;
        };
        let internal = Internal {
            kind: MESSAGE_BOOK,
            id: self.book_id(),
            owner: self.owner(),
            expected: opened.expected,
            // A document of numbers and names can't fail to serialise.
            body: serde_json::to_vec(&opened.book).unwrap_or_default(),
            deleted: false,
            tokens: Vec::new(),
        };
        self.unit.internals.push(internal);
    }
}

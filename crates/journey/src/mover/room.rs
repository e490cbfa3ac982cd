//! Room for messages, asked of what all of a patient's journeys have sent.

use super::{MoveError, Mover};
use crate::definition::{Channel, Definition};
use crate::room::{self, Asks, Book, Limits, Room, Urgency, Window, zone_of};
use crate::state::{State, Which};
use crate::{MESSAGE_BOOK, facts};
use fhir::Resource;
use ledger::{Expected, Ledger, Owner, TenantId};
use trust::consent::{Pressing, Sort, Unwelcome, Wishes};
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

    /// Whether messages ask before they go: something limits them, or there are ways of which a patient may prefer one.
    pub(crate) fn asks_before(&self, definition: &Definition) -> bool {
        definition.has_ways || self.limits(definition).any()
    }

    /// Which messages the patient wants, read once.
    async fn wishes(&mut self) -> Result<&Wishes, MoveError> {
        let wishes = match self.wishes.take() {
            Some(wishes) => wishes,
            None => self.vault.wishes(self.tenant(), &self.patient).await?,
        };
        Ok(self.wishes.insert(wishes))
    }

    /// Why the patient doesn't want a message by a channel.
    pub(super) async fn unwelcome(
        &mut self,
        channel: Channel,
        sort: Option<Sort>,
    ) -> Result<Option<Unwelcome>, MoveError> {
        // What can't wait goes whatever they say, and whether it can be read or not.
        let sort = sort.filter(|sort| sort.pressing != Pressing::Clinical);
        let (Some(reach), Some(sort)) = (channel.reach(), sort) else {
            return Ok(None);
        };
        Ok(self.wishes().await?.refuses(sort, Some(reach)))
    }

    /// The places of a message's channels in the order that the patient prefers, where that is another one and the
    /// message has not begun to go.
    pub(super) async fn in_order(
        &mut self,
        definition: &Definition,
        state: &State,
        step: &str,
        (n, which): (u32, Which),
    ) -> Result<Option<Vec<u8>>, MoveError> {
        let Some(step) = definition.step(step).filter(|_| definition.has_ways) else {
            return Ok(None);
        };
        let token = state.tokens.iter().find(|token| token.n == n);
        let under_way = token.map(|token| step.kind.under_way(&token.stand));
        let is_first = under_way.is_some_and(|all| all.contains(&(which, 0)));
        let is_known = (state
            .ways
            .iter()
            .any(|ways| (ways.n, ways.which) == (n, which)))
            || (state.held.iter()).any(|held| (held.n, held.which) == (n, which));
        let message = step.kind.message_of(which);
        let Some(message) = message.filter(|_| is_first && !is_known) else {
            return Ok(None);
        };
        let wanted = match self.wishes().await {
            Ok(wishes) => wishes.ways(step.kind.topic()),
            // An order is no reason to keep back what can't wait.
            Err(_) if message.urgency == Urgency::Clinical => None,
            Err(error) => return Err(error),
        };
        Ok(wanted.and_then(|wanted| room::in_order(&message.channels, wanted)))
    }

    /// Whether a message may reach out now. What goes out is in the patient's one document, which commits with the
    /// move: of two journeys that are moved at once, the second finds it changed and is moved again.
    pub(super) async fn room(
        &mut self,
        definition: &Definition,
        (channel, sort): (Channel, Option<Sort>),
        window: Option<&Window>,
        asks: &Asks<'_>,
    ) -> Result<Room, MoveError> {
        // What will be refused anyway takes nobody's place, and the next channel is tried at once.
        if !self.permitted(definition).await? {
            return Ok(Room::Free);
        }
        let now_ms = self.now_ms;
        let refused = facts::refusal(self.person().await?, channel, now_ms);
        let is_final = refused.is_some_and(|code| code != facts::NO_ADDRESS);
        if is_final || self.unwelcome(channel, sort).await?.is_some() {
            return Ok(Room::Free);
        }
        let zone = self.person().await?.and_then(zone_of);
        let zone = zone.unwrap_or_else(|| definition.zone.clone());
        // Of e-mail, too, something is known of its address that the patient's record doesn't say.
        let asks_more = refused.is_some() || channel != Channel::Portal;
        let asked = (channel, sort);
        if asks_more && self.refusal(definition, asked).await?.is_some() {
            return Ok(Room::Free);
        }
        let own = match sort.map(|sort| sort.pressing) {
            Some(Pressing::Clinical) => None,
            _ => self.wishes().await?.quiet(),
        };
        let limits = self.limits(definition).within(window).and_quiet(own);
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
            NoPush::Nowhere | NoPush::Off => facts::NO_ADDRESS,
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

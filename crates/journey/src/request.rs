//! Journeys that people and other systems start by request.
//!
//! A request goes the way of an entry event: the same condition on the record, the same look at exits,
//! consents and what runs already, one unit of work. What an event would pass over in silence is told to who asks.

use crate::definition::{Definition, Request};
use crate::engine::Start;
use crate::mover::{MoveError, Mover};
use crate::runner::{Cause, Place};
use crate::service::staff;
use crate::state::State;
use crate::{JourneyError, Journeys, facts};
use fhir::ResourceType;
use ledger::{LedgerError, Owner};
use std::collections::BTreeMap;
use trust::{Action, Permit, Purpose, TrustError};

/// What a request says besides the times, which go by the names of anchors.
pub(crate) const WORDS: [&str; 3] = ["journey", "key", "reason"];
/// Before the key, so that it is the id of no resource.
pub(crate) const KEY: &str = "request:";
/// Before the reason, in what the history says why.
const REASON: &str = "request: ";
/// Longest key: that of an id.
const KEY_MAX: usize = 64;
/// Longest reason, in characters.
const REASON_MAX: usize = 300;

/// What somebody asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The journey's name.
    pub journey: String,
    /// The patient's id.
    pub patient: String,
    /// What the request is known by: the same again starts nothing more. An id's letters.
    pub key: String,
    /// The times that the journey asks for: dates or times of FHIR, by anchor.
    pub times: BTreeMap<String, String>,
    /// Why, in words, for the patient's history.
    pub reason: String,
}

/// What became of a request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The instance.
    pub instance: String,
    /// The version that the patient is on.
    pub version: u32,
    /// Whether this request started it; otherwise the same one had before.
    pub started: bool,
    /// Whether it runs.
    pub running: bool,
}

/// Why a request doesn't start a journey. Nothing was started, and nothing else was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// There is no such journey, or none that is live.
    #[error("there is no journey {0}")]
    Unknown(String),
    /// This program can't read what is live.
    #[error("the newest version of {0} can't be read by this server")]
    Unread(String),
    /// Events alone start it.
    #[error("{0} is not started by request")]
    NotByRequest(String),
    /// It is for others to start.
    #[error("{0} is started by others: its `by` doesn't name you")]
    NotByYou(String),
    /// Journeys are care.
    #[error("journeys are started to treat or to manage care")]
    Purpose,
    /// The request is not of the right form.
    #[error("{0}")]
    Form(String),
    /// The patient isn't there.
    #[error("there is no such patient")]
    NoPatient,
    /// The journey is for others.
    #[error("the journey is not for this patient: nothing in the record says so (`who`)")]
    NotForThem,
    /// The patient's consents don't allow it.
    #[error("the patient's consents don't allow it")]
    Consent,
    /// An exit holds already.
    #[error("it would end at once: {0}")]
    Ends(String),
    /// The patient is in it.
    #[error("the patient is in this journey now")]
    Running,
    /// The rule for taking it again says no.
    #[error("the journey may not be taken again now (`again`): {0}")]
    Again(String),
    /// Once in a life, and it was taken.
    #[error("a patient takes this journey once, and this one has taken it")]
    Once,
    /// Another request has used the key.
    #[error("the key was used for a request with other times")]
    KeyUsed,
}

/// Whether a start was keyed by a request.
pub(crate) fn is_key(key: &str) -> bool {
    key.starts_with(KEY)
}

/// What the history says why, of a request.
pub(crate) fn reason(why: &str) -> Option<&str> {
    why.strip_prefix(REASON)
}

/// What a start by request has for the history.
pub(crate) fn cause(reason: &str) -> String {
    format!("{REASON}{reason}")
}

/// What a start by request is keyed by.
pub(crate) fn key(key: &str) -> String {
    format!("{KEY}{key}")
}

/// The times that a request gives, if they are those that the journey asks for.
pub(crate) fn times(
    definition: &Definition,
    request: &Request,
    given: &BTreeMap<String, String>,
    now_ms: u64,
) -> Result<BTreeMap<String, u64>, NotStarted> {
    let form = |words: String| Err(NotStarted::Form(words));
    let asks = |name: &String| request.asks.iter().any(|(asked, _)| asked == name);
    if let Some(name) = given.keys().find(|name| !asks(name)) {
        return form(format!(
            "`{name}` is nothing that {} asks for",
            definition.name
        ));
    }
    let mut times = BTreeMap::new();
    for (name, words) in &request.asks {
        let Some(text) = given.get(name) else {
            return form(format!("`{name}` is missing: {words}"));
        };
        // A year or a month is no time that something could hang on.
        let time = facts::time(text).filter(|_| text.len() >= "2026-01-01".len());
        let Some(at_ms) = time else {
            return form(format!("`{name}` is no date or time"));
        };
        times.insert(name.clone(), at_ms);
    }
    let first = definition.entry.anchors.first();
    let first = first.and_then(|(name, _)| Some((name, *times.get(name)?)));
    if let (Some((name, at_ms)), Some(within_ms)) = (first, definition.entry.before_ms())
        && now_ms.abs_diff(at_ms) > within_ms
    {
        return form(format!(
            "`{name}` is further away than the journey's `within`"
        ));
    }
    Ok(times)
}

fn check_words(wish: &Wish) -> Result<(), NotStarted> {
    let form = |words: String| Err(NotStarted::Form(words));
    if wish.key.len() > KEY_MAX || !fhir::is_id(&wish.key) {
        return form(format!(
            "`key` has 1 to {KEY_MAX} letters, digits, hyphens and dots"
        ));
    }
    let length = wish.reason.chars().count();
    if wish.reason.trim().is_empty() || length > REASON_MAX {
        return form(format!(
            "`reason` says why, in at most {REASON_MAX} letters: it stands in the patient's history"
        ));
    }
    if wish.reason.chars().any(char::is_control) {
        return form("`reason` is one line".to_owned());
    }
    Ok(())
}

/// What there is already under the key of a request.
fn again(
    wish: &Wish,
    times: &BTreeMap<String, u64>,
    id: String,
    state: &State,
) -> Result<Begun, NotStarted> {
    if state.key != key(&wish.key) {
        return Err(NotStarted::Once);
    }
    if state.anchors != *times {
        return Err(NotStarted::KeyUsed);
    }
    Ok(Begun {
        instance: id,
        version: state.version,
        started: false,
        running: state.running(),
    })
}

impl Journeys {
    /// Starts a journey for a patient because somebody asks for it. The permit is of who asks: to create tasks,
    /// which is what journeys make. Whether they may know of the patient is for the caller to see to.
    ///
    /// The record is judged as for events, by the engine's own rights: what of it is kept from who asks changes
    /// nothing of what is right for the patient. The audit has who asked.
    ///
    /// # Errors
    /// `NotStarted`, `Trust`, `Broken`.
    pub async fn start(&self, permit: &Permit, wish: &Wish) -> Result<Begun, JourneyError> {
        staff(permit)?;
        if !permit.allows(Action::Create, ResourceType::Task) {
            return Err(crate::service::refused(
                "journeys are started by those who may create tasks",
            ));
        }
        check_words(wish)?;
        let books = self.books(permit.tenant()).await?;
        let engine = self.engine_permit(permit.tenant()).await?;
        // What another server has published may not have been heard of here.
        books.read_definitions(self.vault(), &engine).await?;
        let owner = Owner::Patient(wish.patient.clone());
        let ledger = self.vault().ledger();
        // Whoever moves patients of a shard takes turns, so that the counts see moves in their order.
        let shard = ledger.shard_of(permit.tenant(), &owner, "");
        let turn = books.positions.get(usize::from(shard.0));
        let turn = turn.ok_or_else(|| JourneyError::Broken("no such shard".to_owned()))?;
        let turn = turn.lock().await;
        loop {
            // What is on the feed by now is known to the start, which looks at the record.
            let number = self.known_to(shard, &turn).await?;
            let staged = self.staged_for(&books, &engine, &wish.journey, &wish.patient);
            let definition = match staged.await? {
                Some(staged) => staged,
                None => live(&books, &wish.journey)?,
            };
            let request = asked_of(&definition, permit)?;
            let now_ms = self.now_ms();
            let times = times(&definition, request, &wish.times, now_ms)?;
            let mut mover = Mover::new(self.vault(), &engine, &wish.patient, now_ms);
            mover.asked_by(permit);
            if mover.person().await?.is_none() {
                return Err(NotStarted::NoPatient.into());
            }
            let key = key(&wish.key);
            let place = self.place(&mover, &definition, &wish.patient, &key).await?;
            let instance = match place {
                Place::Free(instance) => instance,
                Place::Taken(id, state) => return Ok(again(wish, &times, id, &state)?),
                Place::Used => return Err(NotStarted::Once.into()),
            };
            self.may_start(&mut mover, &definition, wish, &times, now_ms)
                .await?;
            let start = Start {
                patient: wish.patient.clone(),
                key,
                cause: cause(wish.reason.trim()),
                number: number.0,
                anchors: times,
                ..Start::default()
            };
            self.begin_one(&mut mover, &definition, &instance, start, now_ms)
                .await?;
            let running = mover.moved(&instance).is_some_and(State::running);
            let cause = Cause::by_hand("started by hand");
            match self.commit(&books, &engine, mover, cause).await {
                Ok(_) => {
                    return Ok(Begun {
                        instance,
                        version: definition.version,
                        started: true,
                        running,
                    });
                }
                Err(MoveError::Trust(TrustError::Ledger(LedgerError::Conflict))) => {}
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// What an entry event is asked, too.
    async fn may_start(
        &self,
        mover: &mut Mover<'_>,
        definition: &Definition,
        wish: &Wish,
        times: &BTreeMap<String, u64>,
        now_ms: u64,
    ) -> Result<(), JourneyError> {
        let for_them =
            definition.entry.who.is_empty() || self.who_by_all(mover, definition, now_ms).await?;
        if !for_them {
            return Err(NotStarted::NotForThem.into());
        }
        let beside = definition.entry.beside;
        if !beside
            && self
                .is_running(mover, &wish.patient, &definition.name)
                .await?
        {
            return Err(NotStarted::Running.into());
        }
        let not_again = self.not_again(mover, definition, &wish.patient, now_ms);
        if let Some(why) = not_again.await? {
            return Err(NotStarted::Again(why).into());
        }
        if !mover.permitted(definition).await? {
            return Err(NotStarted::Consent.into());
        }
        let key = key(&wish.key);
        let exit = self
            .exit_already(mover, definition, &wish.patient, &key, times, now_ms)
            .await?;
        match exit {
            Some((_, title)) => Err(NotStarted::Ends(title).into()),
            None => Ok(()),
        }
    }
}

/// The version on which a request starts a patient.
fn live(books: &crate::books::Books, name: &str) -> Result<std::sync::Arc<Definition>, NotStarted> {
    let live = books.live(name);
    let newest = live.as_ref().map(|live| live.stored.version);
    // An older version is no stand-in for one that a newer program has published.
    if books.unread_version(name) > newest {
        return Err(NotStarted::Unread(name.to_owned()));
    }
    let live = live.ok_or_else(|| NotStarted::Unknown(name.to_owned()))?;
    Ok(live.definition.clone())
}

/// What the journey wants of a request, if it takes one of this person or system.
fn asked_of<'d>(definition: &'d Definition, permit: &Permit) -> Result<&'d Request, NotStarted> {
    let name = || definition.name.clone();
    let request = definition.entry.request.as_ref();
    let request = request.ok_or_else(|| NotStarted::NotByRequest(name()))?;
    if !request.by.contains(&permit.agent().role) {
        return Err(NotStarted::NotByYou(name()));
    }
    if !matches!(
        permit.purpose(),
        Purpose::Treatment | Purpose::CareManagement
    ) {
        return Err(NotStarted::Purpose);
    }
    Ok(request)
}

//! The words of the vault's interface.
use std::borrow::Cow;

use fhir::{Resource, ResourceType};
use ledger::{
    CursorMove, Expected, Hit, Kind, Number, OutboxDraft, OutboxKey, Owner, Shard, Timer, TimerKey,
};

/// Kinds of Cairn's own documents (FHIR types are `Kind(ResourceType::code())`).
pub mod kinds {
    use ledger::Kind;
    /// An account of a person.
    pub const ACCOUNT: Kind = Kind(1000);
    /// A session, or a sign-in that waits for its second factor.
    pub const SESSION: Kind = Kind(1001);
    /// A published journey definition, one version each.
    pub const JOURNEY_DEFINITION: Kind = Kind(1002);
    /// An act by hand on many patients' journeys: what is to be done, and how far it has come.
    pub const JOURNEY_BATCH: Kind = Kind(1055);
    /// Some of the journeys that such an act is for, and those of them where it failed.
    pub const JOURNEY_BATCH_PART: Kind = Kind(1056);
    /// The same as [`JOURNEY_BATCH`] for a move to another version of the journey, or one that takes it back. A
    /// kind of its own, because programs that don't know such acts would stop at them.
    pub const JOURNEY_MIGRATION: Kind = Kind(1095);
    /// A version of a journey on its way: its file, its stage and how it came there.
    pub const JOURNEY_STAGE: Kind = Kind(1094);
    /// A patient's place in a journey.
    pub const JOURNEY_INSTANCE: Kind = Kind(1003);
    /// Progress of an import.
    pub const IMPORT: Kind = Kind(1004);
    /// A sign-in link.
    pub const SIGN_IN_LINK: Kind = Kind(1005);
    /// A step that a patient has passed in a journey (for counts, drop-off and the timeline).
    pub const JOURNEY_TRAIL: Kind = Kind(1006);
    /// A client with a bearer token.
    pub const CLIENT: Kind = Kind(1007);
    /// A client with a bearer token that steers journeys and does nothing else. A kind of its own: programs that don't
    /// know its role would stop at it in their lists, and so they know nothing of its token.
    pub const STEERER: Kind = Kind(1035);
    /// Failed sign-ins of one user name or link.
    pub const SIGN_IN_ATTEMPTS: Kind = Kind(1008);
    /// What a request has written that is to be carried out once.
    pub const ONCE: Kind = Kind(1009);
    /// A bulk export: what was asked, and how it is cut into files. None of the data.
    pub const EXPORT: Kind = Kind(1010);
    /// What is kept of a FHIR `Subscription` beside its resource.
    pub const SUBSCRIPTION: Kind = Kind(1080);
    /// That a telephone number gets no text messages any more, because somebody sent STOP from it.
    pub const TEXT_STOP: Kind = Kind(1110);
    /// The question that a patient was asked last by text message, to be answered by replying to it.
    pub const TEXT_QUESTION: Kind = Kind(1131);
    /// That a patient is not written to at an address any more. Nothing of the address.
    pub const ADDRESS_MARK: Kind = Kind(1120);
    /// Somebody's place in a visit by video: the link that lets them in, and whether it was used.
    pub const VISIT_SEAT: Kind = Kind(1145);
    /// A letter or a telephone call in a closed batch, as it is handed over: the patient's.
    pub const FILE_PARCEL: Kind = Kind(1152);
    /// How many letters or calls were handed over on a day.
    pub const FILE_TALLY: Kind = Kind(1153);
    /// Which subscriptions are live.
    pub const SUBSCRIPTION_ROLL: Kind = Kind(1081);
    /// What a subscription's notifications are signed with, what it missed and what is sent of it again. A document of
    /// its own, because programs that don't know these would write [`SUBSCRIPTION`] without them. One more of this kind
    /// lists subscriptions that went off.
    pub const SUBSCRIPTION_BOOK: Kind = Kind(1154);
    /// What became of the newest notifications of a subscription for what is written in one shard.
    pub const SUBSCRIPTION_LOG: Kind = Kind(1164);
    /// Somebody's emergency access to a patient's record, with its review.
    pub const EMERGENCY_ACCESS: Kind = Kind(1070);
    /// That an access which nothing explains was looked into.
    pub const ACCESS_REVIEW: Kind = Kind(1075);
    /// What was found of it, in words: the patient's.
    pub const ACCESS_REVIEW_WORDS: Kind = Kind(1076);
    /// Who acts for a patient.
    pub const PROXY: Kind = Kind(1060);
    /// What an account or a client is known as in FHIR.
    pub const KNOWN_AS: Kind = Kind(1030);
    /// What a system is registered for: purposes, and whether there is a contract.
    pub const REGISTERED: Kind = Kind(1031);
    /// A system that signs in with a key of its own.
    pub const OAUTH_CLIENT: Kind = Kind(1020);
    /// An access token of such a system.
    pub const ACCESS_TOKEN: Kind = Kind(1021);
    /// A proof that was shown (a system's assertion, the answer to a passkey's challenge), which must not be shown again.
    pub const CLIENT_PROOF: Kind = Kind(1022);
    /// Applications that people launch.
    pub const OAUTH_APP: Kind = Kind(1023);
    /// What people let applications do for them.
    pub const GRANT: Kind = Kind(1024);
    /// Applications that are opened from a patient's page.
    pub const LAUNCH: Kind = Kind(1025);
    /// Devices on which a patient wants notifications.
    pub const PUSH_DEVICES: Kind = Kind(1140);
    /// The key by which push services know an organisation.
    pub const PUSH_KEY: Kind = Kind(1141);
    /// The keys that identity tokens for applications are signed by.
    pub const SIGNING_KEYS: Kind = Kind(1026);
    /// A passkey of a person. It has the number of [`PROXY`], since both came in on one day, and keeps it so that
    /// those that are stored are found: their ids are made of other names, so none is the other's, and lists
    /// of them go by tokens that the other has not.
    pub const PASSKEY: Kind = Kind(1060);
    /// Whose account a subject of an identity provider is.
    pub const PROVIDER_LINK: Kind = Kind(1053);
    /// That an identity provider ended a session.
    pub const PROVIDER_LOGOUT: Kind = Kind(1054);

    /// Kinds that nobody reads or writes as Cairn's own documents: those of [`crate::identity`], and
    /// [`ONCE`].
    pub(crate) const OF_IDENTITY: [Kind; 25] = [
        PUSH_DEVICES,
        PUSH_KEY,
        STEERER,
        SIGNING_KEYS,
        PROVIDER_LINK,
        PROVIDER_LOGOUT,
        PASSKEY,
        EMERGENCY_ACCESS,
        ACCESS_REVIEW,
        ACCESS_REVIEW_WORDS,
        PROXY,
        ACCOUNT,
        SESSION,
        SIGN_IN_LINK,
        CLIENT,
        SIGN_IN_ATTEMPTS,
        ONCE,
        OAUTH_CLIENT,
        OAUTH_APP,
        GRANT,
        LAUNCH,
        ACCESS_TOKEN,
        CLIENT_PROOF,
        KNOWN_AS,
        REGISTERED,
    ];

    /// No two sorts of documents may have one number, but for [`PASSKEY`].
    const _: () = {
        let mut all = [JOURNEY_DEFINITION; OF_IDENTITY.len() + 16];
        let others = [
            JOURNEY_DEFINITION,
            JOURNEY_INSTANCE,
            IMPORT,
            JOURNEY_TRAIL,
            JOURNEY_BATCH,
            JOURNEY_BATCH_PART,
            JOURNEY_MIGRATION,
            JOURNEY_STAGE,
            EXPORT,
            SUBSCRIPTION,
            SUBSCRIPTION_ROLL,
            SUBSCRIPTION_BOOK,
            SUBSCRIPTION_LOG,
            TEXT_STOP,
            TEXT_QUESTION,
            ADDRESS_MARK,
            VISIT_SEAT,
            FILE_PARCEL,
            FILE_TALLY,
        ];
        let mut place = 0;
        while place < all.len() {
            all[place] = if place < OF_IDENTITY.len() {
                OF_IDENTITY[place]
            } else {
                others[place - OF_IDENTITY.len()]
            };
            let mut before = 0;
            while before < place {
                let is_known = all[place].0 == PASSKEY.0;
                assert!(
                    is_known || all[before].0 != all[place].0,
                    "one number for two kinds"
                );
                before += 1;
            }
            place += 1;
        }
    };
}

/// A resource with what the store knows of it. `resource.meta` has versionId and lastUpdated.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// The resource; for a deleted version only type and id. Where texts were asked for
    /// ([`super::Vault::read_text`], [`super::Vault::search_texts`]) it may be a part, that has type and id:
    /// [`Versioned::json`] has the whole.
    pub resource: Resource,
    /// The whole as text, where `resource` is a part of it.
    pub(crate) text: Option<Vec<u8>>,
    /// Its version.
    pub version: u32,
    /// Where it lies.
    pub at: Hit,
    /// Whether this version says that it is deleted.
    pub deleted: bool,
}

impl Versioned {
    /// A row of which the whole is there.
    #[must_use]
    pub fn new(resource: Resource, version: u32, at: Hit, deleted: bool) -> Self {
        Self {
            resource,
            text: None,
            version,
            at,
            deleted,
        }
    }
    /// All of the resource that is shown, as JSON.
    #[must_use]
    pub fn json(&self) -> Cow<'_, [u8]> {
        match &self.text {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(self.resource.to_json()),
        }
    }
    /// The same, of a row that isn't needed any more.
    #[must_use]
    pub fn into_json(self) -> Vec<u8> {
        self.text.unwrap_or_else(|| self.resource.to_json())
    }
}

/// A change to a resource.
#[derive(Debug, Clone)]
pub enum Change {
    /// Write this resource (with its id set).
    Put {
        /// The resource.
        resource: Resource,
        /// Which version must be there.
        expected: Expected,
    },
    /// Delete.
    Delete {
        /// Type.
        kind: ResourceType,
        /// Id.
        id: String,
        /// Which version must be there.
        expected: Expected,
        /// Whose it was.
        owner: Owner,
    },
}

/// A document of Cairn's own to be written.
#[derive(Debug, Clone)]
pub struct Internal {
    /// Kind, from [`kinds`].
    pub kind: Kind,
    /// Id.
    pub id: String,
    /// Whose.
    pub owner: Owner,
    /// Which version must be there.
    pub expected: Expected,
    /// JSON body.
    pub body: Vec<u8>,
    /// Delete it instead.
    pub deleted: bool,
    /// What it can be found by: (parameter, value).
    pub tokens: Vec<(String, String)>,
}

/// A document of Cairn's own, opened.
#[derive(Debug, Clone)]
pub struct InternalStored {
    /// Whose it is; none for the tenant's.
    pub patient: Option<String>,
    /// Id.
    pub id: String,
    /// Version.
    pub version: u32,
    /// Place.
    pub at: Hit,
    /// Body.
    pub body: Vec<u8>,
}

/// A unit of work: everything of one cause.
#[derive(Debug, Default)]
pub struct Unit {
    /// Changes to resources.
    pub changes: Vec<Change>,
    /// Cairn's own documents.
    pub internals: Vec<Internal>,
    /// Timers to set.
    pub timers_set: Vec<Timer>,
    /// Timers to clear.
    pub timers_clear: Vec<TimerKey>,
    /// Outbox entries to add.
    pub outbox_add: Vec<OutboxDraft>,
    /// Outbox entries to settle.
    pub outbox_remove: Vec<OutboxKey>,
    /// A follower's move.
    pub cursor: Option<CursorMove>,
    /// The event that caused it.
    pub cause: Option<Number>,
    /// The shard that this process has to hold, see [`ledger::Commit::held`].
    pub held: Option<Shard>,
    /// A sentence for the audit record about what was done, without patient details
    /// (`heart-failure-discharge: reminder sent`); optional.
    pub note: Option<String>,
    /// The patient concerned, where no change names one.
    pub patient: Option<String>,
    /// Who asked for it, where a part of Cairn does it for them: the audit has their name and purpose, and what
    /// may be done is what the part may. For those who have made sure that they may ask.
    pub asked: Option<crate::Permit>,
    /// A resource of the patient's that was given to somebody outside; optional, for what sends alone.
    pub disclosed: Option<Disclosed>,
    /// What answers the request when it comes again ([`super::Once`]): which versions are written, without
    /// what they hold. Passed over where the request has no key.
    pub kept: Option<serde_json::Value>,
}

/// What was given to somebody outside.
#[derive(Debug, Clone)]
pub struct Disclosed {
    /// The type of the resource.
    pub kind: ResourceType,
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// The origin that it went to (`https://example.org`).
    pub to: String,
    /// What it is wanted for there.
    pub purpose: crate::Purpose,
}

/// What a unit became.
#[derive(Debug, Clone)]
pub struct UnitReceipt {
    /// For each change, in order: place and version.
    pub changes: Vec<ledger::Written>,
    /// The same of what was written besides: the unit's internal documents first, in order.
    pub internals: Vec<ledger::Written>,
    /// Place of the audit record. There is none for a unit that only moves a follower's position or
    /// timers and has no note.
    pub audit: Option<Hit>,
}

/// Where a page of a search lies that is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAt {
    /// It begins below this number.
    pub before: Number,
    /// [`SearchPage::as_of`] of the first page.
    pub first: Number,
}

/// What criteria of a conditional write found.
#[derive(Debug, Clone)]
pub struct Sought {
    /// The newest rows that match, as many as the query's count, or fewer where they are large.
    pub rows: Vec<SoughtRow>,
    /// Whether there are more that match.
    pub more: bool,
}

/// One row that criteria found.
#[derive(Debug, Clone)]
pub struct SoughtRow {
    /// The row.
    pub row: Versioned,
    /// Whether the patient's consents hide it from who asks.
    pub hidden: bool,
}

/// Versions of a resource.
#[derive(Debug)]
pub struct HistoryPage {
    /// Newest first.
    pub rows: Vec<Versioned>,
    /// Whether it ended because the rows became too many bytes.
    pub cut: bool,
}

/// A page of a search.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// Rows that match and may be seen, newest first.
    pub rows: Vec<Versioned>,
    /// Where the next page starts, if there is one.
    pub next: Option<Number>,
    /// The exact number of matches that may be seen, where asked for.
    pub total: Option<usize>,
    /// What is found later on with a higher number may not have been there; with a lower one it was.
    /// Zero where there is no next page.
    pub as_of: Number,
    /// Of a page after the first: whether rows that match were changed since the first page was read,
    /// so that they may be missing from the pages after it.
    pub moved: bool,
    /// What the query's `_include` and `_revinclude` add to the rows, each once and none of the rows.
    pub included: Vec<Versioned>,
    /// Bytes of the stored JSON of the rows.
    pub(crate) bytes: usize,
    /// How many hits were checked.
    pub(crate) candidates: usize,
}

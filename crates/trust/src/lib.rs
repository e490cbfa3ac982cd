//! Who is asking, may they, and the proof: identity, tenants, policy, consent, audit.
//!
//! This crate is the only maker of a [`Permit`] and owns the [`Vault`], the only gate between FHIR
//! resources and the ledger: no permit, no data; no data without an audit leaf.
//!
//! Start reading at [`Trust::decide`], then [`Vault`].

mod agent;
mod answered;
pub mod attempts;
mod audit;
pub mod consent;
pub mod conventions;
pub mod costs;
mod error;
pub mod identity;
pub mod indexing;
pub mod outgoing;
pub mod partners;
mod permit;
mod policy;
mod purposes;
pub mod scopes;
pub mod sms;
mod tokens;
mod upkeep;
mod vault;
pub mod webhooks;

pub use agent::{Access, Agent, Role};
pub use answered::Answered;
pub use audit::{origin, relations_told, told};
pub use error::{Refusal, TrustError};
pub use identity::OnBehalf;
pub use permit::{Action, Freshness, Permit, Target};
pub use policy::{
    Around, Device, DeviceKind, Factor, NETWORKS_MAX, PolicySlice, SignedIn, Surroundings, Weekday,
};
pub use policy::{
    AskedAbout, AskedAs, EXPLAINER, ElementWords, ElementsWhy, Exemption, Explanation, PolicyCell,
    PolicyFault, PolicyLook, PolicyRow, PolicySet, PolicyStatus, PolicyWords, Question, RefusedSet,
    Tested, Trust, TrustOptions, Why,
};
pub use purposes::{OwnPurpose, Purpose, PurposeName, Purposes};
pub use upkeep::{Upkeep, record_upkeep};
pub use vault::SeriesPage;
pub use vault::{AddressMark, AddressStanding, AddressTrouble};
pub use vault::{
    AskAgain, AuditProof, Before, Change, ConsentWhy, Counts, Disclosed, EXPORTER, EarlierPage,
    EarlierVersion, Effect, EveryInternal, Explained, ExportFile, ExportFound, ExportJob,
    ExportLayout, ExportOf, ExportReading, ExportShape, Foreseen, HistoryPage, HookAttempt,
    HookBook, HookBookKept, HookDelivery, HookFailure, HookKey, HookLog, HookOutcome, HookReplay,
    HookStanding, IN_FORCE_MAX, IndexStep, Indexing, Internal, InternalStored, KeptFrom,
    LOGGED_OF_SHARD, LookedAt, NoReplay, NoText, ONCE_KEPT_MS, OVERLAP_MAX_MS, OWNS_MAX, Once,
    OwnDocument, OwnPage, PageAt, Party, PastQuery, PastRow, PastRows, REPLAY_SPAN_MAX_MS,
    REPLAYS_MAX, Relation, RelationWhy, ReplayOf, RowWhy, SearchPage, SearchPart, Shelf, Shelved,
    SortedAt, Sought, SoughtRow, Step, Steps, Subscribed, SubscribedKept, SubscriptionRoll,
    SubscriptionState, TAKEN, Taken, Telling, TextAnswer, TextQuestion, TextRules, ToldRow, Unit,
    UnitReceipt, Vault, Versioned, Way, WhatIf, Whole, kinds,
};

#[cfg(test)]
mod tests;

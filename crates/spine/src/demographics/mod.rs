//! Demographics: who somebody is, by number, traced by what is known of them, kept up to date.
//!
//! The shape is that which NHS England publishes for its Personal Demographics Service (FHIR R4), so that existing
//! clients work; what another country does differently is data ([`Rules`]). It is a view on the patients of the
//! record: a patient is told of by number ([`view`]), found by a trace ([`trace`], [`score`]), made by [`newcomer`]
//! and changed by [`change`], all of which are functions of what they are given. [`Demographics`] does these under
//! the caller's own permit.

mod alike;
pub mod change;
mod coverage;
mod feed;
pub mod newcomer;
pub mod number;
mod refusal;
pub mod rules;
pub mod score;
mod service;
pub mod trace;
pub mod valid;
pub mod view;

pub use refusal::{Code, Refusal};
pub use rules::Rules;
pub use service::{Changes, Demographics, Failure, Told};
pub use trace::Mode;

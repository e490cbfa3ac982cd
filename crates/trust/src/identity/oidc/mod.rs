//! Sign-in at an organisation's own identity provider (OpenID Connect), and what it says later: identity
//! tokens (OpenID Connect Core 1.0) and logout tokens (Back-Channel Logout 1.0).
//!
//! `keys.rs` has an issuer's keys and `tokens.rs` the checks: pure, so that keys, time and what was asked for
//! come in. What is refused is told in fixed words, which hold nothing of a token and may be logged. A token
//! that holds opens nothing by itself: `links.rs` has whose account a subject is, `arrival.rs` what becomes of
//! somebody who comes back, and the end of what was opened. `away.rs` has sign-ins that are on their way, and
//! `client.rs` the key by which this server proves itself. Speaking with providers is for the caller.

mod arrival;
mod away;
mod client;
mod keys;
mod links;
mod tokens;

pub use arrival::{Admission, Arrival};
pub use away::{AWAY_NEXT_BYTES_MAX, Away, Lost};
pub use client::ClientKey;
pub use keys::IssuerKeys;
pub use links::LinkView;
pub use tokens::{Asked, IdToken, LogoutToken, TokenFault, check_id_token, check_logout_token};

pub(super) use arrival::{AtProvider, ProviderLogoutDocument};
pub(super) use away::Back;
pub(super) use client::thumbprint;
pub(super) use keys::half_hash;

#[cfg(test)]
mod tests;

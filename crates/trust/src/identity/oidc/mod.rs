//! What an organisation's own identity provider signs: identity tokens (OpenID Connect Core 1.0) and logout
//! tokens (Back-Channel Logout 1.0), checked by the keys that it publishes.
//!
//! Pure: keys, time and what was asked for come in. Fetching, and remembering which logout tokens were shown,
//! is for the caller. What is refused is told in fixed words, which hold nothing of a token and may be logged.
//! A token that holds opens nothing by itself: whether its subject has an account is another question.
//!
//! `keys.rs` has the keys, `tokens.rs` the checks.

mod keys;
mod tokens;

pub use keys::IssuerKeys;
pub use tokens::{Asked, IdToken, LogoutToken, TokenFault, check_id_token, check_logout_token};

#[cfg(test)]
mod tests;

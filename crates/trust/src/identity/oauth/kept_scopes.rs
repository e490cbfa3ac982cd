//! Scopes as they lie in the store.

use serde::{Deserialize, Serialize};

use crate::TrustError;
use crate::scopes::{Context, Scopes};

/// The scopes of a client, a grant or a token. Those by which an application learns who somebody is lie by
/// themselves: a server of a build that knows nothing of them passes them over, and could not read a list that has
/// them among the others. It loses them where it writes, so that less is told then. What was written with all of
/// them in one list is read, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::identity) struct KeptScopes {
    scopes: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    identity_scopes: String,
}

impl KeptScopes {
    pub(super) fn of(scopes: &Scopes) -> Self {
        let told = Context::IDENTITY.into_iter();
        let told = told.filter(|context| scopes.has(*context));
        let told: Vec<&str> = told.map(Context::name).collect();
        Self {
            scopes: scopes.without_all(&Context::IDENTITY).to_string(),
            identity_scopes: told.join(" "),
        }
    }

    /// All of them, as they are written.
    pub(in crate::identity) fn text(&self) -> String {
        match self.identity_scopes.is_empty() {
            true => self.scopes.clone(),
            false => format!("{} {}", self.identity_scopes, self.scopes),
        }
    }

    /// All of them, read.
    ///
    /// # Errors
    /// `Damaged`.
    pub(super) fn parsed(&self, client: &str) -> Result<Scopes, TrustError> {
        Scopes::parse(&self.text()).map_err(|_| {
            TrustError::Damaged(format!("the scopes of client {client} can't be read"))
        })
    }
}

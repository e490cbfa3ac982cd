//! Scopes as they lie in the store.

use serde::{Deserialize, Serialize};

use crate::TrustError;
use crate::scopes::{Context, Scopes};

/// Contexts that came after those by which an application learns who somebody is.
const LATER: [Context; 1] = [Context::LaunchEncounter];

/// The scopes of a client, a grant or a token. Those that came later lie by themselves: a server of a build that
/// knows nothing of them passes them over, and could not read a list that has them among the others. It loses them
/// where it writes, so that less is told then. What was written with all of them in one list is read, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::identity) struct KeptScopes {
    scopes: String,
    /// Those by which an application learns who somebody is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    identity_scopes: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    later_scopes: String,
}

impl KeptScopes {
    pub(super) fn of(scopes: &Scopes) -> Self {
        let names = |contexts: &[Context]| {
            let there = contexts.iter().filter(|context| scopes.has(**context));
            let names: Vec<&str> = there.map(|context| context.name()).collect();
            names.join(" ")
        };
        let rest = scopes.without_all(&Context::IDENTITY).without_all(&LATER);
        Self {
            scopes: rest.to_string(),
            identity_scopes: names(&Context::IDENTITY),
            later_scopes: names(&LATER),
        }
    }

    /// All of them, as they are written.
    pub(in crate::identity) fn text(&self) -> String {
        let parts = [&self.identity_scopes, &self.later_scopes, &self.scopes];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join(" ")
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_that_came_later_lie_where_an_earlier_build_does_not_look() {
        let scopes = Scopes::parse("launch launch/encounter openid patient/*.rs").unwrap();
        let kept = KeptScopes::of(&scopes);
        let written = serde_json::to_value(&kept).unwrap();
        let expected = json!({
            "scopes": "launch patient/*.rs",
            "identity_scopes": "openid",
            "later_scopes": "launch/encounter",
        });
        assert_eq!(written, expected);
        assert_eq!(kept.parsed("c").unwrap(), scopes);
        // What builds of before wrote.
        for (before, all) in [
            (
                json!({"scopes": "launch patient/*.rs"}),
                "launch patient/*.rs",
            ),
            (
                json!({"scopes": "patient/*.rs", "identity_scopes": "openid fhirUser"}),
                "openid fhirUser patient/*.rs",
            ),
            (
                json!({"scopes": "openid patient/*.rs"}),
                "openid patient/*.rs",
            ),
        ] {
            let kept: KeptScopes = serde_json::from_value(before).unwrap();
            assert_eq!(kept.parsed("c").unwrap(), Scopes::parse(all).unwrap());
        }
    }
}

//! What an organisation takes along of its people and systems: who there was, as what, and since when, and nothing
//! by which anybody could come in. What is told is listed member by member, so that a member which is added to a
//! document later stays here until somebody has looked at it.

use ledger::Kind;
use serde_json::{Map, Value};

use super::kinds;

/// One list of an organisation's people and systems.
#[derive(Debug)]
pub struct Taken {
    /// What the list is called.
    pub name: &'static str,
    /// Kind of its documents.
    pub kind: Kind,
    /// The members that are told.
    members: &'static [&'static str],
    /// Members of which is told whether they are there, each with the name of that.
    has: &'static [(&'static str, &'static str)],
    /// Which of the documents of the kind are meant.
    which: fn(&Value) -> bool,
}

const fn all(_: &Value) -> bool {
    true
}

/// Everything that is told of people and systems. Not in it: sign-in links, failed sign-ins, access tokens, proofs that
/// were shown, launches under way, signing keys, and the ends of sessions at identity providers.
pub const TAKEN: [Taken; 15] = [
    Taken {
        name: "accounts",
        kind: kinds::ACCOUNT,
        members: &["user_name", "name", "role", "patient", "active", "passkeys"],
        has: &[("password", "has_password"), ("totp", "has_one_time_codes")],
        which: all,
    },
    Taken {
        name: "passkeys",
        kind: kinds::PASSKEY,
        // The credential is of use at this organisation's address alone.
        members: &["account", "name", "created_ms", "used_ms"],
        has: &[],
        which: |document| document.get("credential").is_some(),
    },
    Taken {
        name: "sessions",
        kind: kinds::SESSION,
        members: &[
            "account",
            "agent",
            "opened",
            "browser",
            "created_ms",
            "last_seen_ms",
            "expires_ms",
        ],
        has: &[],
        // The others wait for a second factor, or have the secret of one.
        which: |document| document["stage"] == "Open",
    },
    Taken {
        name: "proxies",
        kind: kinds::PROXY,
        members: &[
            "person",
            "patient",
            "name",
            "address",
            "birth_date",
            "basis",
            "proof",
            "from",
            "until",
            "messages",
            "made_ms",
            "made_by",
            "ended",
        ],
        has: &[],
        which: |document| document.get("person").is_some(),
    },
    Taken {
        name: "push-devices",
        kind: kinds::PUSH_DEVICES,
        // Where they are is of use with this organisation's key alone.
        members: &["patient", "devices"],
        has: &[],
        which: all,
    },
    Taken {
        name: "clients",
        kind: kinds::CLIENT,
        members: &["name", "role", "active", "expires_ms"],
        has: &[],
        which: all,
    },
    Taken {
        name: "steerers",
        kind: kinds::STEERER,
        members: &["name", "role", "active", "expires_ms"],
        has: &[],
        which: all,
    },
    Taken {
        name: "systems",
        kind: kinds::OAUTH_CLIENT,
        // The keys are public ones, or where they are fetched from.
        members: SYSTEM,
        has: &[],
        which: all,
    },
    Taken {
        name: "applications",
        kind: kinds::OAUTH_APP,
        members: SYSTEM,
        has: &[],
        which: all,
    },
    Taken {
        name: "grants",
        kind: kinds::GRANT,
        members: &[
            "client",
            "agent",
            "account",
            "patient",
            "scopes",
            "identity_scopes",
            "later_scopes",
            "created_ms",
            "used_ms",
            "expires_ms",
        ],
        has: &[],
        which: all,
    },
    Taken {
        name: "registrations",
        kind: kinds::REGISTERED,
        members: &["purposes", "own", "contract"],
        has: &[],
        which: all,
    },
    Taken {
        name: "known-as",
        kind: kinds::KNOWN_AS,
        members: &["references"],
        has: &[],
        which: all,
    },
    Taken {
        name: "provider-links",
        kind: kinds::PROVIDER_LINK,
        members: &["issuer", "subject", "account"],
        has: &[],
        which: all,
    },
    Taken {
        name: "emergency-accesses",
        kind: kinds::EMERGENCY_ACCESS,
        members: &[
            "account", "name", "role", "patient", "reason", "began_ms", "until_ms", "ended_ms",
            "review",
        ],
        has: &[],
        which: all,
    },
    Taken {
        name: "access-reviews",
        kind: kinds::ACCESS_REVIEW,
        members: &["event", "patient", "account", "name", "at_ms", "explained"],
        has: &[],
        which: all,
    },
];

const SYSTEM: &[&str] = &[
    "name",
    "keys",
    "certificates",
    "earlier",
    "scopes",
    "identity_scopes",
    "later_scopes",
    "state",
    "app",
];

impl Taken {
    /// What is told of a document; none where another is meant.
    pub(super) fn of(&self, document: &Value) -> Option<Value> {
        if !(self.which)(document) {
            return None;
        }
        let mut told = Map::new();
        for member in self.members {
            if let Some(value) = document.get(*member) {
                told.insert((*member).to_owned(), value.clone());
            }
        }
        for (member, name) in self.has {
            let is_there = document.get(*member).is_some_and(|value| !value.is_null());
            told.insert((*name).to_owned(), Value::Bool(is_there));
        }
        Some(Value::Object(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(name: &str, document: &Value) -> Option<Value> {
        let list = TAKEN.iter().find(|list| list.name == name);
        list.expect("a list").of(document)
    }

    #[test]
    fn only_what_is_named_is_told() {
        let account = json!({
            "user_name": "ada", "name": "Ada", "role": "clinician", "patient": null, "password": "$argon2id$x",
            "password_kept": null, "totp": null, "totp_step": 7, "passkeys": 1, "active": true, "later": "unknown",
        });
        let expected = json!({
            "user_name": "ada", "name": "Ada", "role": "clinician", "patient": null, "passkeys": 1, "active": true,
            "has_password": true, "has_one_time_codes": false,
        });
        assert_eq!(told("accounts", &account), Some(expected));
        let session = |stage: Value| json!({"secret": "s", "csrf": "c", "stage": stage, "account": "a", "created_ms": 1});
        let enrolling = session(json!({"Enrol": {"totp": "JBSWY3DP"}}));
        assert_eq!(told("sessions", &enrolling), None);
        assert_eq!(told("sessions", &session(json!("SecondFactor"))), None);
        assert_eq!(
            told("sessions", &session(json!("Open"))),
            Some(json!({"account": "a", "created_ms": 1}))
        );
    }

    /// Both kinds have one number.
    #[test]
    fn passkeys_and_proxies_are_told_apart() {
        let passkey = json!({"account": "a", "name": "Phone", "credential": {"cred": "x"}, "created_ms": 1, "used_ms": null});
        let proxy = json!({"person": "p", "patient": "1", "name": "Ann", "made_ms": 2});
        assert_eq!(told("proxies", &passkey), None);
        assert_eq!(told("passkeys", &proxy), None);
        assert_eq!(told("proxies", &proxy), Some(proxy.clone()));
        assert_eq!(
            told("passkeys", &passkey),
            Some(json!({"account": "a", "name": "Phone", "created_ms": 1, "used_ms": null}))
        );
    }
}

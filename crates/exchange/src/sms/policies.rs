//! What policies have to let the parts do that send text messages and hear of them.

use fhir::ResourceType;
use trust::{Action, Purpose, Question, Role, Trust};

/// The part that sends.
const DELIVERER: &str = "sms-deliverer";
/// The part that hears what a provider tells.
pub(crate) const RECEIVER: &str = "sms-receiver";

/// What each has to be let do, with the things that it can't do its work without.
const NEEDS: [(&str, Purpose, Action, Option<ResourceType>); 11] = {
    let (patient, consent) = (ResourceType::Patient, ResourceType::Consent);
    let message = ResourceType::Communication;
    let (care, here) = (Purpose::Treatment, Purpose::Operations);
    [
        (DELIVERER, care, Action::Send, Some(message)),
        (DELIVERER, care, Action::Read, Some(patient)),
        (DELIVERER, care, Action::Search, Some(consent)),
        (DELIVERER, care, Action::Read, Some(message)),
        (DELIVERER, care, Action::Search, Some(message)),
        (DELIVERER, care, Action::Update, Some(message)),
        (DELIVERER, here, Action::Invite, None),
        (RECEIVER, here, Action::Send, Some(message)),
        (RECEIVER, here, Action::Read, Some(message)),
        (RECEIVER, here, Action::Search, Some(message)),
        (RECEIVER, here, Action::Update, Some(message)),
    ]
};

fn lacks(trust: &Trust, is_session: bool, only: Option<&str>) -> Vec<&'static str> {
    let set = trust.policy_set();
    let mut found = Vec::new();
    for (part, purpose, action, kind) in NEEDS {
        // By HTTP the address says which message it is.
        if !is_session && (part, action) == (RECEIVER, Action::Search) {
            continue;
        }
        if found.contains(&part) || only.is_some_and(|only| only != part) {
            continue;
        }
        let question = Question {
            role: Role::System,
            part: Some(part.to_owned()),
            purpose,
            action,
            kind,
            own: false,
            around: trust.usual_around(),
        };
        if !set.allows(&question) {
            found.push(part);
        }
    }
    found
}

/// The parts that policies don't let do their work. While there is one, no text message leaves. `is_session` is whether the
/// provider is one by a session.
#[must_use]
pub fn unready_parts(trust: &Trust, is_session: bool) -> Vec<&'static str> {
    lacks(trust, is_session, None)
}

/// Whether what a provider tells is heard: what became of messages, and who wants no more of them.
pub(crate) fn hears(trust: &Trust, is_session: bool) -> bool {
    lacks(trust, is_session, Some(RECEIVER)).is_empty()
}

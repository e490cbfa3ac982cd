//! What events of each resource type can mean to the journeys of a tenant: most mean nothing, and are passed over before
//! anything is opened.

use crate::books::Published;
use crate::segments::Segment;
use crate::stages::Starting;
use fhir::ResourceType;
use ledger::Kind;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What events of a resource type can mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Somebody may start a journey.
    pub(crate) starts: bool,
    /// Journeys start by resources of this type, so its being gone matters too.
    pub(crate) entry: bool,
    /// Somebody under way may move.
    pub(crate) moves: bool,
    /// It may say a date by which a journey begins.
    pub(crate) dates: bool,
    /// It may bring a patient into a segment by which a journey begins, or out of it.
    pub(crate) members: bool,
    /// The same of segments that those under way are watched for.
    pub(crate) watched: bool,
    /// Others may hold, let go on or end a journey by it, or say what became of a message; what the journeys write
    /// themselves means nothing.
    pub(crate) steers: bool,
}

/// What events of each type can mean, by all versions and by those on which patients start; `unread` where there are
/// some that this program can't read.
pub(crate) fn interest(
    versions: &BTreeMap<(String, u32), Arc<Published>>,
    starting: &[Starting],
    unread: bool,
) -> HashMap<Kind, Interest> {
    let mut interest: HashMap<Kind, Interest> = HashMap::new();
    if unread {
        for kind in ResourceType::all() {
            interest.entry(Kind(kind.code())).or_default().moves = true;
        }
    }
    // Consents say what of the record counts.
    let of = |segment: &Segment| segment.kinds().into_iter().chain([ResourceType::Consent]);
    // What nobody starts on any more brings nobody in.
    let starting = starting.iter().flat_map(Starting::versions);
    let begins = starting.filter_map(|definition| definition.begins_by());
    for kind in begins.flat_map(of) {
        interest.entry(Kind(kind.code())).or_default().members = true;
    }
    for published in versions.values() {
        let definition = &published.definition;
        if definition.care_plan {
            let kind = Kind(ResourceType::CarePlan.code());
            interest.entry(kind).or_default().steers = true;
        }
        if definition
            .steps
            .iter()
            .any(|step| !step.kind.messages().is_empty())
        {
            let kind = Kind(ResourceType::CommunicationRequest.code());
            interest.entry(kind).or_default().steers = true;
        }
        for kind in definition.kinds() {
            let interest = interest.entry(Kind(kind.code())).or_default();
            if definition.is_told_by_others(kind) {
                interest.steers = true;
            } else {
                interest.moves = true;
            }
        }
        let entry = &definition.entry;
        if let (Some(_), Some(kind)) = (&entry.date, entry.kind()) {
            // Whom it is for is asked when the date comes. The patient says by which clock it is counted.
            for kind in [kind, ResourceType::Patient] {
                interest.entry(Kind(kind.code())).or_default().dates = true;
            }
        } else {
            for kind in definition.begins_of() {
                interest.entry(Kind(kind.code())).or_default().starts = true;
            }
        }
        if let Some(kind) = entry.kind() {
            interest.entry(Kind(kind.code())).or_default().entry = true;
        }
        let watched = definition.watched().into_iter();
        for kind in watched.flat_map(|place| of(&definition.segments[place])) {
            interest.entry(Kind(kind.code())).or_default().watched = true;
        }
    }
    interest
}

#[cfg(test)]
mod tests {
    use fhir::ResourceType;

    const JOURNEY: &str = "\
name: word
title: A word
owner: Testers
purpose: TREAT
at_most: 30d
entry:
  event: Encounter
  where: status = 'finished'
  anchors: {left: period.end}
  within: 3d
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: first
steps:
  first:
    title: First
    send:
      title: Hello
      words: Hello.
      channels: [portal]
    next: end
    on_failure: end
";

    #[test]
    fn of_messages_others_tell_unless_they_are_asked_about() {
        let told_by_others = |text: &str| {
            let (definition, findings) = crate::check::compile(text);
            let definition = definition.unwrap_or_else(|| panic!("{findings:?}"));
            assert!(definition.kinds().contains(&ResourceType::Communication));
            assert!(!definition.is_told_by_others(ResourceType::Encounter));
            definition.is_told_by_others(ResourceType::Communication)
        };
        assert!(told_by_others(JOURNEY));
        let wait = "    next: read
    on_failure: end
  read:
    title: Read
    wait: {event: Communication, where: \"status = 'completed'\", at_most: 1d}
    next: end
    not_come: end
";
        let waits = JOURNEY.replace("    next: end\n    on_failure: end\n", wait);
        assert!(!told_by_others(&waits));
        let begins = JOURNEY
            .replace("event: Encounter", "event: Communication")
            .replace("'finished'", "'completed'")
            .replace("period.end", "sent");
        assert!(!told_by_others(&begins));
    }
}

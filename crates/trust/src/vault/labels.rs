//! Labels that a row has by what it holds, added to what is shown and taken back from what is written.
use fhir::{Resource, ResourceType};

use super::consents::reach;
use super::{Vault, Versioned, mark};
use crate::{Permit, consent};

impl Vault {
    /// Finishes a row that goes out, of which what isn't shown is cut away already: labels tell of what is
    /// shown and of nothing else. What is passed on as text has none ([`Vault::may_label`]).
    pub(super) fn show(&self, permit: &Permit, row: &mut Versioned) {
        mark(permit, &mut row.resource);
        if row.text.is_none() && !row.deleted {
            self.label(&mut row.resource);
        }
    }

    /// Adds to a resource that is shown the labels that it has by what it holds. They are not stored.
    pub fn label(&self, resource: &mut Resource) {
        consent::tell(&self.rules().tables, resource);
    }

    /// Takes back labels that were added to what was read, and come with what is to be written. Those that would
    /// not be added again stay, as said by who writes.
    pub fn take_labels_back(&self, resource: &mut Resource) {
        consent::take_back(&self.rules().tables, resource);
    }

    /// The notices that have to go with what somebody is given, each with the label of the rows that it belongs
    /// to, where it isn't known yet whether there are any of these among it.
    #[must_use]
    pub fn notices(&self, permit: &Permit) -> Vec<(&str, &str)> {
        self.rules().notices(permit.agent.role).collect()
    }

    /// Sends notices along with rows that are read one after the other, when the head of the answer has gone
    /// out already: all that there may be any rows for.
    pub(super) fn notify_ahead(&self, permit: &Permit, kind: ResourceType) {
        if reach(permit, kind).is_some() {
            for (_, notice) in self.rules().notices(permit.agent.role) {
                permit.freshness.notify(notice);
            }
        }
    }

    /// Whether a stored row may have labels to be added; at a glance, and never wrongly not.
    pub(super) fn may_label(&self, kind: ResourceType, text: &[u8]) -> bool {
        kind.may_be_patients() && self.rules().tables.may_label(text)
    }
}

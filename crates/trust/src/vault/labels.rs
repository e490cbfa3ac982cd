//! Labels that a row has by what it holds, added to what is shown and taken back from what is written.
use fhir::{Resource, ResourceType};

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

    /// Whether a stored row may have labels to be added; at a glance, and never wrongly not.
    pub(super) fn may_label(&self, kind: ResourceType, text: &[u8]) -> bool {
        kind.may_be_patients() && self.rules().tables.may_label(text)
    }
}

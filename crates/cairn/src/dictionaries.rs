//! The compression dictionaries of the binary, by kinds of document; `examples/train_dictionary.rs`
//! makes them.

use fhir::ResourceType as T;
use ledger::{Dictionary, Kind};

/// Kinds of document that are written alike, and so share a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Observations: half of a clinical record.
    Observation,
    /// Claims.
    Claim,
    /// What became of claims; long, and unlike them.
    Benefit,
    /// Encounters, and what was found and done in them.
    Encounter,
    /// Audit events: one for each act.
    Audit,
    /// What journeys make, and Cairn's own kinds.
    Journey,
    /// Everything else.
    Other,
}

/// Cairn's own kinds have these numbers.
const OWN: std::ops::Range<u16> = 1000..1100;

impl Group {
    /// All groups.
    pub const ALL: [Self; 7] = [
        Self::Observation,
        Self::Claim,
        Self::Benefit,
        Self::Encounter,
        Self::Audit,
        Self::Journey,
        Self::Other,
    ];

    /// The name of its file in `assets`. A new dictionary takes a new name; stores keep the old one.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Observation => "observation-1.dict",
            Self::Claim => "claim-1.dict",
            Self::Benefit => "benefit-1.dict",
            Self::Encounter => "encounter-1.dict",
            Self::Audit => "audit-1.dict",
            Self::Journey => "journey-1.dict",
            Self::Other => "fhir-r4-1.dict",
        }
    }

    /// How large its dictionary is at most, bytes; above it the gain was below 3 % a resource.
    #[must_use]
    pub fn size_bytes(self) -> usize {
        match self {
            Self::Observation | Self::Benefit | Self::Encounter | Self::Other => 64 << 10,
            Self::Claim | Self::Audit | Self::Journey => 32 << 10,
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Observation => include_bytes!("../assets/observation-1.dict"),
            Self::Claim => include_bytes!("../assets/claim-1.dict"),
            Self::Benefit => include_bytes!("../assets/benefit-1.dict"),
            Self::Encounter => include_bytes!("../assets/encounter-1.dict"),
            Self::Audit => include_bytes!("../assets/audit-1.dict"),
            Self::Journey => include_bytes!("../assets/journey-1.dict"),
            Self::Other => include_bytes!("../assets/fhir-r4-1.dict"),
        }
    }

    /// Its kinds; none for the group of everything else.
    #[must_use]
    pub fn kinds(self) -> Vec<Kind> {
        let types: &[T] = match self {
            Self::Observation => &[T::Observation],
            Self::Claim => &[T::Claim],
            Self::Benefit => &[T::ExplanationOfBenefit],
            Self::Encounter => &[
                T::Encounter,
                T::Procedure,
                T::Condition,
                T::Immunization,
                T::MedicationRequest,
                T::CarePlan,
                T::Goal,
            ],
            Self::Audit => &[T::AuditEvent],
            Self::Journey => &[
                T::Appointment,
                T::Communication,
                T::QuestionnaireResponse,
                T::Task,
            ],
            Self::Other => &[],
        };
        let own = if self == Self::Journey { OWN } else { 0..0 };
        let types = types.iter().map(|resource_type| resource_type.code());
        types.chain(own).map(Kind).collect()
    }

    /// The group of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let mut groups = Self::ALL.into_iter();
        groups
            .find(|group| group.kinds().contains(&kind))
            .unwrap_or(Self::Other)
    }
}

/// The dictionaries for new bodies.
#[must_use]
pub fn dictionaries() -> Vec<Dictionary> {
    let dictionary = |group: Group| Dictionary {
        kinds: group.kinds(),
        bytes: group.bytes().to_vec(),
    };
    Group::ALL.map(dictionary).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_kind_is_in_one_group_and_all_fit_the_binary() {
        let kinds: Vec<Kind> = Group::ALL.into_iter().flat_map(Group::kinds).collect();
        assert_eq!(kinds.iter().collect::<HashSet<_>>().len(), kinds.len());
        assert_eq!(Group::of(Kind(T::Claim.code())), Group::Claim);
        assert_eq!(Group::of(Kind(T::Patient.code())), Group::Other);
        assert_eq!(Group::of(Kind(1051)), Group::Journey);
        let total: usize = Group::ALL
            .into_iter()
            .map(|group| group.bytes().len())
            .sum();
        assert!(total <= 400 << 10, "{total}");
        for group in Group::ALL {
            let length = group.bytes().len();
            assert!(
                (1..=group.size_bytes()).contains(&length),
                "{group:?} {length}"
            );
        }
    }
}

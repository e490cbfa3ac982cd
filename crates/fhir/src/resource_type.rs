//! FHIR R4 resource types.
use crate::facts::names::NAMES;
use std::fmt;

/// One of the 146 concrete resource types of FHIR R4 (4.0.1). The number is stored, so it never
/// changes. (R4's code system has 148 codes; two of them, `Resource` and `DomainResource`, are
/// abstract and have no instances.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceType(pub(crate) u16);

impl ResourceType {
    /// The type with this name, exactly as FHIR spells it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let index = NAMES.binary_search(&name).ok()?;
        u16::try_from(index + 1).ok().map(Self)
    }
    /// The type with this stored number.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        (1..=NAMES.len())
            .contains(&usize::from(code))
            .then_some(Self(code))
    }
    /// The stored number, 1 to 146.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }
    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }
    /// The name as words: `DiagnosticReport` as `diagnostic report`.
    #[must_use]
    pub fn words(self) -> String {
        let mut words = String::new();
        for character in self.name().chars() {
            if character.is_ascii_uppercase() && !words.is_empty() {
                words.push(' ');
            }
            words.extend(character.to_lowercase());
        }
        words
    }
    /// Whether resources of this type can belong to a patient's record (see
    /// [`crate::Resource::patient`]).
    #[must_use]
    pub fn may_be_patients(self) -> bool {
        !crate::facts::search(self).compartment.is_empty() || self == Self::Binary
    }
    /// All types.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..).map(Self).take(NAMES.len())
    }
    /// The place in tables that are ordered by number.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}
impl fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        assert_eq!(ResourceType::all().count(), 146);
        for kind in ResourceType::all() {
            assert_eq!(ResourceType::parse(kind.name()), Some(kind));
            assert_eq!(ResourceType::from_code(kind.code()), Some(kind));
        }
        assert_eq!(ResourceType::Patient.name(), "Patient");
        // Stored numbers: these must never change.
        assert_eq!(ResourceType::Account.code(), 1);
        assert_eq!(ResourceType::Observation.code(), 96);
        assert_eq!(ResourceType::Patient.code(), 103);
        assert_eq!(ResourceType::VisionPrescription.code(), 146);
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for name in [
            "",
            "patient",
            "Resource",
            "DomainResource",
            "SubscriptionStatus",
            "HumanName",
            "Patient ",
        ] {
            assert_eq!(ResourceType::parse(name), None, "{name}");
        }
        assert_eq!(ResourceType::from_code(0), None);
        assert_eq!(ResourceType::from_code(147), None);
    }
}

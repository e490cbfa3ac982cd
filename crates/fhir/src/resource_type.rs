//! FHIR R4 resource types.
use std::fmt;

/// One of the 148 resource types of FHIR R4 (4.0.1). The number is stored, so it never changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceType(u16);

#[allow(non_upper_case_globals, missing_docs)]
impl ResourceType {
    // The implementation generates one constant per R4 resource type, e.g.:
    pub const Patient: Self = Self(1);
    pub const AuditEvent: Self = Self(2);
    pub const Consent: Self = Self(3);
    pub const Task: Self = Self(4);
    pub const Communication: Self = Self(5);
    pub const Encounter: Self = Self(6);
    pub const Observation: Self = Self(7);
    pub const QuestionnaireResponse: Self = Self(8);
    pub const Questionnaire: Self = Self(9);
    pub const Appointment: Self = Self(10);
    pub const Condition: Self = Self(11);
    pub const Bundle: Self = Self(12);
    pub const Practitioner: Self = Self(13);
    pub const Organization: Self = Self(14);
}

impl ResourceType {
    /// The type with this name, exactly as FHIR spells it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        todo!("{name}")
    }
    /// The type with this stored number.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        todo!("{code}")
    }
    /// The stored number, 1 to 148.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }
    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        todo!()
    }
    /// All types.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=148).map(Self)
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

//! Written by `scripts/generate-fhir-facts.py`; don't edit.
use crate::ResourceType;

/// The resource types of FHIR R4 in the order of their numbers, which is alphabetical.
pub(crate) const NAMES: [&str; 146] = [
    "Account",
    "ActivityDefinition",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BodyStructure",
    "Bundle",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CatalogEntry",
    "ChargeItem",
    "ChargeItemDefinition",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceDefinition",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EffectEvidenceSynthesis",
    "Encounter",
    "Endpoint",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "ExampleScenario",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "GraphDefinition",
    "Group",
    "GuidanceResponse",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "ImplementationGuide",
    "InsurancePlan",
    "Invoice",
    "Library",
    "Linkage",
    "List",
    "Location",
    "Measure",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationKnowledge",
    "MedicationRequest",
    "MedicationStatement",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "MessageDefinition",
    "MessageHeader",
    "MolecularSequence",
    "NamingSystem",
    "NutritionOrder",
    "Observation",
    "ObservationDefinition",
    "OperationDefinition",
    "OperationOutcome",
    "Organization",
    "OrganizationAffiliation",
    "Parameters",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "RiskEvidenceSynthesis",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "ValueSet",
    "VerificationResult",
    "VisionPrescription",
];

#[allow(non_upper_case_globals, missing_docs)]
impl ResourceType {
    pub const Account: Self = Self(1);
    pub const ActivityDefinition: Self = Self(2);
    pub const AdverseEvent: Self = Self(3);
    pub const AllergyIntolerance: Self = Self(4);
    pub const Appointment: Self = Self(5);
    pub const AppointmentResponse: Self = Self(6);
    pub const AuditEvent: Self = Self(7);
    pub const Basic: Self = Self(8);
    pub const Binary: Self = Self(9);
    pub const BiologicallyDerivedProduct: Self = Self(10);
    pub const BodyStructure: Self = Self(11);
    pub const Bundle: Self = Self(12);
    pub const CapabilityStatement: Self = Self(13);
    pub const CarePlan: Self = Self(14);
    pub const CareTeam: Self = Self(15);
    pub const CatalogEntry: Self = Self(16);
    pub const ChargeItem: Self = Self(17);
    pub const ChargeItemDefinition: Self = Self(18);
    pub const Claim: Self = Self(19);
    pub const ClaimResponse: Self = Self(20);
    pub const ClinicalImpression: Self = Self(21);
    pub const CodeSystem: Self = Self(22);
    pub const Communication: Self = Self(23);
    pub const CommunicationRequest: Self = Self(24);
    pub const CompartmentDefinition: Self = Self(25);
    pub const Composition: Self = Self(26);
    pub const ConceptMap: Self = Self(27);
    pub const Condition: Self = Self(28);
    pub const Consent: Self = Self(29);
    pub const Contract: Self = Self(30);
    pub const Coverage: Self = Self(31);
    pub const CoverageEligibilityRequest: Self = Self(32);
    pub const CoverageEligibilityResponse: Self = Self(33);
    pub const DetectedIssue: Self = Self(34);
    pub const Device: Self = Self(35);
    pub const DeviceDefinition: Self = Self(36);
    pub const DeviceMetric: Self = Self(37);
    pub const DeviceRequest: Self = Self(38);
    pub const DeviceUseStatement: Self = Self(39);
    pub const DiagnosticReport: Self = Self(40);
    pub const DocumentManifest: Self = Self(41);
    pub const DocumentReference: Self = Self(42);
    pub const EffectEvidenceSynthesis: Self = Self(43);
    pub const Encounter: Self = Self(44);
    pub const Endpoint: Self = Self(45);
    pub const EnrollmentRequest: Self = Self(46);
    pub const EnrollmentResponse: Self = Self(47);
    pub const EpisodeOfCare: Self = Self(48);
    pub const EventDefinition: Self = Self(49);
    pub const Evidence: Self = Self(50);
    pub const EvidenceVariable: Self = Self(51);
    pub const ExampleScenario: Self = Self(52);
    pub const ExplanationOfBenefit: Self = Self(53);
    pub const FamilyMemberHistory: Self = Self(54);
    pub const Flag: Self = Self(55);
    pub const Goal: Self = Self(56);
    pub const GraphDefinition: Self = Self(57);
    pub const Group: Self = Self(58);
    pub const GuidanceResponse: Self = Self(59);
    pub const HealthcareService: Self = Self(60);
    pub const ImagingStudy: Self = Self(61);
    pub const Immunization: Self = Self(62);
    pub const ImmunizationEvaluation: Self = Self(63);
    pub const ImmunizationRecommendation: Self = Self(64);
    pub const ImplementationGuide: Self = Self(65);
    pub const InsurancePlan: Self = Self(66);
    pub const Invoice: Self = Self(67);
    pub const Library: Self = Self(68);
    pub const Linkage: Self = Self(69);
    pub const List: Self = Self(70);
    pub const Location: Self = Self(71);
    pub const Measure: Self = Self(72);
    pub const MeasureReport: Self = Self(73);
    pub const Media: Self = Self(74);
    pub const Medication: Self = Self(75);
    pub const MedicationAdministration: Self = Self(76);
    pub const MedicationDispense: Self = Self(77);
    pub const MedicationKnowledge: Self = Self(78);
    pub const MedicationRequest: Self = Self(79);
    pub const MedicationStatement: Self = Self(80);
    pub const MedicinalProduct: Self = Self(81);
    pub const MedicinalProductAuthorization: Self = Self(82);
    pub const MedicinalProductContraindication: Self = Self(83);
    pub const MedicinalProductIndication: Self = Self(84);
    pub const MedicinalProductIngredient: Self = Self(85);
    pub const MedicinalProductInteraction: Self = Self(86);
    pub const MedicinalProductManufactured: Self = Self(87);
    pub const MedicinalProductPackaged: Self = Self(88);
    pub const MedicinalProductPharmaceutical: Self = Self(89);
    pub const MedicinalProductUndesirableEffect: Self = Self(90);
    pub const MessageDefinition: Self = Self(91);
    pub const MessageHeader: Self = Self(92);
    pub const MolecularSequence: Self = Self(93);
    pub const NamingSystem: Self = Self(94);
    pub const NutritionOrder: Self = Self(95);
    pub const Observation: Self = Self(96);
    pub const ObservationDefinition: Self = Self(97);
    pub const OperationDefinition: Self = Self(98);
    pub const OperationOutcome: Self = Self(99);
    pub const Organization: Self = Self(100);
    pub const OrganizationAffiliation: Self = Self(101);
    pub const Parameters: Self = Self(102);
    pub const Patient: Self = Self(103);
    pub const PaymentNotice: Self = Self(104);
    pub const PaymentReconciliation: Self = Self(105);
    pub const Person: Self = Self(106);
    pub const PlanDefinition: Self = Self(107);
    pub const Practitioner: Self = Self(108);
    pub const PractitionerRole: Self = Self(109);
    pub const Procedure: Self = Self(110);
    pub const Provenance: Self = Self(111);
    pub const Questionnaire: Self = Self(112);
    pub const QuestionnaireResponse: Self = Self(113);
    pub const RelatedPerson: Self = Self(114);
    pub const RequestGroup: Self = Self(115);
    pub const ResearchDefinition: Self = Self(116);
    pub const ResearchElementDefinition: Self = Self(117);
    pub const ResearchStudy: Self = Self(118);
    pub const ResearchSubject: Self = Self(119);
    pub const RiskAssessment: Self = Self(120);
    pub const RiskEvidenceSynthesis: Self = Self(121);
    pub const Schedule: Self = Self(122);
    pub const SearchParameter: Self = Self(123);
    pub const ServiceRequest: Self = Self(124);
    pub const Slot: Self = Self(125);
    pub const Specimen: Self = Self(126);
    pub const SpecimenDefinition: Self = Self(127);
    pub const StructureDefinition: Self = Self(128);
    pub const StructureMap: Self = Self(129);
    pub const Subscription: Self = Self(130);
    pub const Substance: Self = Self(131);
    pub const SubstanceNucleicAcid: Self = Self(132);
    pub const SubstancePolymer: Self = Self(133);
    pub const SubstanceProtein: Self = Self(134);
    pub const SubstanceReferenceInformation: Self = Self(135);
    pub const SubstanceSourceMaterial: Self = Self(136);
    pub const SubstanceSpecification: Self = Self(137);
    pub const SupplyDelivery: Self = Self(138);
    pub const SupplyRequest: Self = Self(139);
    pub const Task: Self = Self(140);
    pub const TerminologyCapabilities: Self = Self(141);
    pub const TestReport: Self = Self(142);
    pub const TestScript: Self = Self(143);
    pub const ValueSet: Self = Self(144);
    pub const VerificationResult: Self = Self(145);
    pub const VisionPrescription: Self = Self(146);
}

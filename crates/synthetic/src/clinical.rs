//! What patients have, take and can't stand: codes with how common they are.

/// A coded thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) code: &'static str,
    pub(crate) display: &'static str,
}

const fn code(code: &'static str, display: &'static str) -> Code {
    Code { code, display }
}

pub(crate) const SNOMED: &str = "http://snomed.info/sct";
pub(crate) const LOINC: &str = "http://loinc.org";
pub(crate) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
pub(crate) const UCUM: &str = "http://unitsofmeasure.org";

pub(crate) const HEART_FAILURE: Code =
    code("88805009", "Chronic congestive heart failure (disorder)");
pub(crate) const HYPERTENSION: Code = code("59621000", "Essential hypertension (disorder)");
pub(crate) const DIABETES: Code = code("44054006", "Diabetes mellitus type 2 (disorder)");
pub(crate) const ATRIAL_FIBRILLATION: Code = code("49436004", "Atrial fibrillation (disorder)");
pub(crate) const CORONARY_DISEASE: Code = code("53741008", "Coronary arteriosclerosis (disorder)");
pub(crate) const KIDNEY_DISEASE: Code =
    code("433144002", "Chronic kidney disease stage 3 (disorder)");
pub(crate) const LIPIDS: Code = code("55822004", "Hyperlipidemia (disorder)");
pub(crate) const COPD: Code = code("13645005", "Chronic obstructive lung disease (disorder)");
pub(crate) const ASTHMA: Code = code("195967001", "Asthma (disorder)");
pub(crate) const PNEUMONIA: Code = code("233604007", "Pneumonia (disorder)");
pub(crate) const HIP: Code = code("239872002", "Osteoarthritis of hip (disorder)");
pub(crate) const APPENDICITIS: Code = code("74400008", "Appendicitis (disorder)");

pub(crate) const CHECK_UP: Code = code("185349003", "Encounter for check up (procedure)");
pub(crate) const ADMISSION: Code = code("32485007", "Hospital admission (procedure)");

/// Whom a condition can befall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sex {
    Any,
    Female,
    Male,
}

/// A lasting condition: from which age on, whose, and which share has it at 40 or younger, at 65,
/// and with heart failure. Shares are round numbers in the range that surveys report.
pub(crate) struct Lasting {
    pub(crate) what: Code,
    pub(crate) age_from: u64,
    pub(crate) sex: Sex,
    pub(crate) share_young: f64,
    pub(crate) share_old: f64,
    pub(crate) share_heart_failure: f64,
}

const fn lasting(what: Code, age_from: u64, sex: Sex, shares: [f64; 3]) -> Lasting {
    Lasting {
        what,
        age_from,
        sex,
        share_young: shares[0],
        share_old: shares[1],
        share_heart_failure: shares[2],
    }
}

pub(crate) const LASTING: &[Lasting] = &[
    lasting(HYPERTENSION, 25, Sex::Any, [0.08, 0.55, 0.75]),
    lasting(CORONARY_DISEASE, 40, Sex::Any, [0.01, 0.14, 0.50]),
    lasting(ATRIAL_FIBRILLATION, 40, Sex::Any, [0.005, 0.07, 0.38]),
    lasting(DIABETES, 25, Sex::Any, [0.03, 0.20, 0.40]),
    lasting(KIDNEY_DISEASE, 40, Sex::Any, [0.01, 0.15, 0.42]),
    lasting(LIPIDS, 25, Sex::Any, [0.10, 0.45, 0.55]),
    lasting(COPD, 45, Sex::Any, [0.02, 0.11, 0.24]),
    lasting(ASTHMA, 3, Sex::Any, [0.09, 0.07, 0.07]),
    lasting(
        code("396275006", "Osteoarthritis (disorder)"),
        40,
        Sex::Any,
        [0.04, 0.32, 0.32],
    ),
    lasting(
        code("35489007", "Depressive disorder (disorder)"),
        14,
        Sex::Any,
        [0.09, 0.10, 0.18],
    ),
    lasting(
        code("40930008", "Hypothyroidism (disorder)"),
        20,
        Sex::Female,
        [0.04, 0.11, 0.13],
    ),
    lasting(
        code("64859006", "Osteoporosis (disorder)"),
        55,
        Sex::Female,
        [0.0, 0.22, 0.22],
    ),
    lasting(
        code("266569009", "Benign prostatic hyperplasia (disorder)"),
        50,
        Sex::Male,
        [0.0, 0.36, 0.36],
    ),
    lasting(
        code("271737000", "Anemia (disorder)"),
        18,
        Sex::Any,
        [0.04, 0.09, 0.33],
    ),
    lasting(
        code("37796009", "Migraine (disorder)"),
        12,
        Sex::Any,
        [0.12, 0.05, 0.04],
    ),
];

/// Passing illnesses that bring people of any age to a doctor.
pub(crate) const PASSING: &[Code] = &[
    code("444814009", "Viral sinusitis (disorder)"),
    code("195662009", "Acute viral pharyngitis (disorder)"),
    code("10509002", "Acute bronchitis (disorder)"),
    code("65363002", "Otitis media (disorder)"),
];

/// A medicine and how it is taken.
pub(crate) struct Medicine {
    pub(crate) what: Code,
    pub(crate) dosage: &'static str,
}

const fn medicine(what: Code, dosage: &'static str) -> Medicine {
    Medicine { what, dosage }
}

pub(crate) const FUROSEMIDE: Medicine = medicine(
    code("313988", "furosemide 40 MG Oral Tablet"),
    "1 tablet in the morning",
);
pub(crate) const CARVEDILOL: Medicine = medicine(
    code("200033", "carvedilol 25 MG Oral Tablet"),
    "1 tablet twice a day",
);
pub(crate) const METOPROLOL: Medicine = medicine(
    code(
        "866436",
        "24 HR metoprolol succinate 50 MG Extended Release Oral Tablet",
    ),
    "1 tablet in the morning",
);
pub(crate) const LISINOPRIL: Medicine = medicine(
    code("314076", "lisinopril 10 MG Oral Tablet"),
    "1 tablet once a day",
);
pub(crate) const SPIRONOLACTONE: Medicine = medicine(
    code("313096", "spironolactone 25 MG Oral Tablet"),
    "1 tablet in the morning",
);

/// The usual medicine for a condition, and the share of patients that take it.
pub(crate) const MEDICINES: &[(Code, Medicine, f64)] = &[
    (
        HYPERTENSION,
        medicine(
            code("197361", "amlodipine 5 MG Oral Tablet"),
            "1 tablet once a day",
        ),
        0.6,
    ),
    (
        DIABETES,
        medicine(
            code(
                "860975",
                "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet",
            ),
            "1 tablet with breakfast and with supper",
        ),
        0.75,
    ),
    (
        ATRIAL_FIBRILLATION,
        medicine(
            code("1364445", "apixaban 5 MG Oral Tablet"),
            "1 tablet twice a day",
        ),
        0.8,
    ),
    (
        CORONARY_DISEASE,
        medicine(
            code("243670", "aspirin 81 MG Oral Tablet"),
            "1 tablet once a day",
        ),
        0.7,
    ),
    (
        LIPIDS,
        medicine(
            code("617311", "atorvastatin 40 MG Oral Tablet"),
            "1 tablet in the evening",
        ),
        0.7,
    ),
    (
        COPD,
        medicine(
            code(
                "745679",
                "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler",
            ),
            "2 puffs when short of breath",
        ),
        0.8,
    ),
    (
        ASTHMA,
        medicine(
            code(
                "745679",
                "200 ACTUAT albuterol 0.09 MG/ACTUAT Metered Dose Inhaler",
            ),
            "2 puffs when short of breath",
        ),
        0.7,
    ),
];

/// An allergy: what, which category, and the reaction.
pub(crate) const ALLERGIES: &[(Code, &str, &str)] = &[
    (
        code("91936005", "Allergy to penicillin (finding)"),
        "medication",
        "Rash",
    ),
    (
        code("300916003", "Latex allergy (finding)"),
        "environment",
        "Itching",
    ),
    (
        code("418689008", "Allergy to grass pollen (finding)"),
        "environment",
        "Sneezing",
    ),
    (
        code("91935009", "Allergy to peanuts (finding)"),
        "food",
        "Swelling of the lips",
    ),
    (
        code("300913006", "Shellfish allergy (finding)"),
        "food",
        "Hives",
    ),
];

/// Share of patients with an allergy on record.
pub(crate) const ALLERGY_SHARE: f64 = 0.22;

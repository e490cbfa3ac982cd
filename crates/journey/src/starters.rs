//! The journeys that are shipped to begin with, each with its scenarios and its assumptions for simulation.

/// A journey to begin with.
#[derive(Debug, Clone, Copy)]
pub struct Starter {
    /// Its name, and that of its files.
    pub name: &'static str,
    /// The pathway that it belongs to.
    pub pathway: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// The journey's file.
    pub journey: &'static str,
    /// Its scenarios.
    pub scenarios: &'static str,
    /// How a simulated cohort behaves.
    pub behaviour: &'static str,
}

macro_rules! starters {
    ($($name:literal of $pathway:literal: $about:literal;)*) => {
        /// The starters, in an order in which they can be published: what is begun stands before what begins it.
        pub static STARTERS: &[Starter] = &[$(Starter {
            name: $name,
            pathway: $pathway,
            about: $about,
            journey: include_str!(concat!("../../../journeys/", $name, ".yaml")),
            scenarios: include_str!(concat!("../../../journeys/", $name, ".test.yaml")),
            behaviour: include_str!(concat!("../../../journeys/", $name, ".behaviour.yaml")),
        }),*];
    };
}

starters! {
    "heart-failure-discharge" of "Heart failure after discharge":
        "symptoms, weight and the visit in the month after a stay";
    "hip-replacement-recovery" of "Hip replacement":
        "three months at home: clots, infection, medicine, temperature, visit";
    "hip-replacement" of "Hip replacement":
        "before the operation: medicines, assessment, infections, fasting, a date that moves";
    "hip-replacement-called-off" of "Hip replacement":
        "somebody asks whether the patient still needs it";
    "maternity" of "Maternity":
        "from the due date to the birth: risks, mood, scans, visits, blood pressure";
    "maternity-after-birth" of "Maternity":
        "eight weeks after the birth: bleeding, mood, thoughts of harm, check-up";
    "maternity-loss" of "Maternity":
        "a pregnancy that was lost: people call, nothing is sent";
    "diabetes-annual-review" of "Diabetes annual review":
        "who is overdue: feet, values, treatment, visit, eyes";
    "colonoscopy-preparation" of "Colonoscopy":
        "diet and drink step by step, in two languages; begun anew when the date moves";
    "colonoscopy" of "Colonoscopy":
        "risks, medicines, preparation, who does not come, and how it was";
    "cancer-two-week-referral" of "Cancer two-week referral":
        "seen in 14 days, told in 28, treated in 62; nobody is lost";
    "cancer-referral-taken-back" of "Cancer two-week referral":
        "two persons look why a referral was taken back";
}

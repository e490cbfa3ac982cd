//! Whether two records are of one person: comparisons field by field, weighed as Fellegi and Sunter
//! do, with an explanation for each field.
//!
//! Everything here is a function of its arguments: no store, no clock, no randomness, no environment.

//! Units: UCUM codes in their canonical form, by which quantities of different units compare.
use octofhir_ucum::{Number, get_canonical_units};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The system of UCUM codes.
pub(super) const UCUM: &str = "http://unitsofmeasure.org";
/// The system of currencies.
pub(super) const CURRENCIES: &str = "urn:iso:std:iso:4217";
/// The longest code that is looked at; a longer one compares with itself only.
const LONGEST: usize = 64;
/// Codes remembered. A store has some hundred; whoever makes up more only waits longer.
const REMEMBERED: usize = 1024;

/// The canonical form of a unit.
#[derive(Debug, PartialEq)]
pub(crate) struct Canonical {
    /// Base units: `g.m-1.s-2`; `1` for none.
    pub(crate) unit: String,
    factor: Number,
    offset: Number,
}

impl Canonical {
    /// A value of the unit in the canonical one.
    pub(crate) fn canonical(&self, value: Number) -> Option<Number> {
        value.checked_mul(self.factor)?.checked_add(self.offset)
    }

    /// The canonical form of a UCUM code. `None` for what is no UCUM, and for scales that no factor leads
    /// away from (pH, decibel): these compare with themselves only.
    pub(crate) fn of(code: &str) -> Option<Arc<Self>> {
        type Known = RwLock<HashMap<String, Option<Arc<Canonical>>>>;
        static KNOWN: OnceLock<Known> = OnceLock::new();
        if code.is_empty() || code.len() > LONGEST {
            return None;
        }
        let known = KNOWN.get_or_init(Known::default);
        if let Some(found) = (known.read().unwrap_or_else(PoisonError::into_inner)).get(code) {
            return found.clone();
        }
        let found = get_canonical_units(code).ok().map(|found| {
            Arc::new(Self {
                unit: found.unit,
                factor: found.factor,
                offset: found.offset,
            })
        });
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.insert(code.to_owned(), found.clone());
        }
        found
    }
}

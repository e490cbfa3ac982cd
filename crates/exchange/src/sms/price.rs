//! What messages cost, as the configuration says it.

use serde_json::Value;
use trust::costs::Amount;

/// An amount of a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price(Amount);

impl Price {
    /// `0.0079` and `USD`; nothing where the one is no amount with six decimals at most, or the other no code of a
    /// currency (ISO 4217).
    #[must_use]
    pub fn parse(amount: &str, currency: &str) -> Option<Self> {
        Amount::parse(amount, currency).map(Self)
    }

    /// So many times as much.
    pub(super) fn times(&self, count: u32) -> Self {
        Self(self.0.times(u64::from(count)))
    }

    /// As FHIR has it.
    pub(crate) fn money(&self) -> Value {
        self.0.money()
    }

    /// Counts it in the metrics, which begin with what the channel is called.
    pub(crate) fn count(&self, name: &str) {
        let currency = self.0.currency.clone();
        metrics::counter!(format!("{name}_cost_millionths_total"), "currency" => currency)
            .increment(self.0.millionths);
    }
}

//! What text messages cost, as the configuration says it. Counted in millionths, because floating-point numbers lose some.

use serde_json::{Number, Value, json};

/// Millionths of a unit of a currency.
const MILLIONTHS: u64 = 1_000_000;

/// An amount of a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    millionths: u64,
    currency: String,
}

impl Price {
    /// `0.0079` and `USD`; nothing where the one is no amount with six decimals at most, or the other no code of a
    /// currency (ISO 4217).
    #[must_use]
    pub fn parse(amount: &str, currency: &str) -> Option<Self> {
        let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_currency =
            currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        if whole.is_empty() || !is_plain(whole) || !is_plain(part) || part.len() > 6 || !is_currency
        {
            return None;
        }
        let part: u64 = format!("{part:0<6}").parse().ok()?;
        let whole: u64 = whole.parse().ok()?;
        Some(Self {
            millionths: whole.checked_mul(MILLIONTHS)?.checked_add(part)?,
            currency: currency.to_owned(),
        })
    }

    /// So many times as much.
    pub(super) fn times(&self, count: u32) -> Self {
        Self {
            millionths: self.millionths.saturating_mul(u64::from(count)),
            currency: self.currency.clone(),
        }
    }

    /// As FHIR has it.
    pub(crate) fn money(&self) -> Value {
        let whole = self.millionths / MILLIONTHS;
        let part = self.millionths % MILLIONTHS;
        let text = format!("{whole}.{part:06}");
        let short = text.trim_end_matches('0').trim_end_matches('.');
        // What is made of digits and one full stop is a number.
        let value: Option<Number> = serde_json::from_str(short).ok();
        json!({"value": value, "currency": self.currency})
    }

    /// Counts it in the metrics.
    pub(crate) fn count(&self) {
        self.count_as("sms_cost_millionths_total");
    }

    /// The same under another name.
    pub(crate) fn count_as(&self, name: &'static str) {
        let currency = self.currency.clone();
        metrics::counter!(name, "currency" => currency).increment(self.millionths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact() {
        for (amount, times, shown) in [
            ("0.0079", 3, "0.0237"),
            ("0.1", 3, "0.3"),
            ("1", 2, "2"),
            ("12.000001", 1, "12.000001"),
            ("0", 5, "0"),
        ] {
            let price = Price::parse(amount, "USD").expect("a price");
            let money = price.times(times).money();
            assert_eq!(money["value"].to_string(), shown, "{amount}");
            assert_eq!(money["currency"], "USD");
        }
        for (amount, currency) in [
            ("", "USD"),
            (".5", "USD"),
            ("-1", "USD"),
            ("0.0000001", "USD"),
            ("1e3", "USD"),
            ("99999999999999", "USD"),
            ("1", "usd"),
            ("1", "US"),
        ] {
            assert_eq!(Price::parse(amount, currency), None, "{amount} {currency}");
        }
    }
}

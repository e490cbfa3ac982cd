//! What a message cost, as its `Communication` says it: by the prices of the configuration when it was handed over. Counted
//! in millionths, because floating-point numbers lose some.

use fhir::Resource;
use serde_json::{Number, Value, json};

use crate::conventions::{SMS_COST_URL, SMS_SEGMENTS_URL};

/// Extension of a message (valueMoney): what handing it over cost, by the price in the configuration. Text messages have
/// [`SMS_COST_URL`] instead, one of each time that they were handed over.
pub const MESSAGE_COST_URL: &str = "urn:cairn:message-cost";

/// Millionths of a unit of a currency.
const MILLIONTHS: u64 = 1_000_000;

/// An amount of a currency.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Amount {
    /// Its currency (ISO 4217).
    pub currency: String,
    /// So many millionths of it.
    pub millionths: u64,
}

/// `0.0079` in millionths; nothing where it is no amount with six decimals at most.
#[must_use]
pub fn millionths(amount: &str) -> Option<u64> {
    let (whole, part) = amount.split_once('.').unwrap_or((amount, ""));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_plain(whole) || !is_plain(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(MILLIONTHS)?.checked_add(part)
}

impl Amount {
    /// `0.0079` and `USD`; nothing where the one is no amount with six decimals at most, or the other no code of a
    /// currency (ISO 4217).
    #[must_use]
    pub fn parse(amount: &str, currency: &str) -> Option<Self> {
        let is_currency =
            currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        Some(Self {
            millionths: millionths(amount)?,
            currency: is_currency.then(|| currency.to_owned())?,
        })
    }

    /// So many times as much.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        Self {
            millionths: self.millionths.saturating_mul(count),
            currency: self.currency.clone(),
        }
    }

    /// The number of it, exactly: `0.0237`.
    #[must_use]
    pub fn number(&self) -> String {
        let (whole, part) = (self.millionths / MILLIONTHS, self.millionths % MILLIONTHS);
        let text = format!("{whole}.{part:06}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    /// As FHIR has it (`Money`).
    #[must_use]
    pub fn money(&self) -> Value {
        // What is made of digits and one full stop is a number.
        let value: Option<Number> = serde_json::from_str(&self.number()).ok();
        json!({"value": value, "currency": self.currency})
    }

    /// From FHIR's `Money`.
    fn of_money(money: &Value) -> Option<Self> {
        let number = money["value"].as_number()?.to_string();
        Self::parse(&number, money["currency"].as_str()?)
    }
}

/// For people: `12.30 USD`, with as many decimals as it has, and two at least.
impl std::fmt::Display for Amount {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.number();
        let decimals = number.split_once('.').map_or(0, |(_, part)| part.len());
        let dot = if decimals == 0 { "." } else { "" };
        let zeros = "0".repeat(2_usize.saturating_sub(decimals));
        write!(formatter, "{number}{dot}{zeros} {}", self.currency)
    }
}

/// What a message cost: an amount for each time that it was handed over at a price that was known. None is not the same as
/// nothing: then no price is known.
#[must_use]
pub fn costs(communication: &Resource) -> Vec<Amount> {
    let of = |one: &Value| one["url"] == MESSAGE_COST_URL || one["url"] == SMS_COST_URL;
    let extensions = communication.get("extension").and_then(Value::as_array);
    let extensions = extensions.into_iter().flatten().filter(|one| of(one));
    extensions
        .filter_map(|one| Amount::of_money(&one["valueMoney"]))
        .collect()
}

/// How many segments a text message took, of all times that it was handed over; nothing of other messages.
#[must_use]
pub fn segments(communication: &Resource) -> u64 {
    let extensions = communication.get("extension").and_then(Value::as_array);
    let extensions = extensions.into_iter().flatten();
    let extensions = extensions.filter(|one| one["url"] == SMS_SEGMENTS_URL);
    extensions
        .filter_map(|one| one["valuePositiveInt"].as_u64())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (amount, times, number, shown) in [
            ("0.0079", 3, "0.0237", "0.0237 USD"),
            ("0.1", 3, "0.3", "0.30 USD"),
            ("1", 2, "2", "2.00 USD"),
            ("12.000001", 1, "12.000001", "12.000001 USD"),
            ("0", 5, "0", "0.00 USD"),
        ] {
            let amount = Amount::parse(amount, "USD")
                .expect("an amount")
                .times(times);
            assert_eq!(
                (amount.number().as_str(), amount.to_string().as_str()),
                (number, shown)
            );
            assert_eq!(amount.money()["value"].to_string(), number);
            assert_eq!(Amount::of_money(&amount.money()), Some(amount));
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
            assert_eq!(Amount::parse(amount, currency), None, "{amount} {currency}");
        }
    }

    #[test]
    fn a_message_says_what_it_cost() {
        let message = json!({"resourceType": "Communication", "id": "c", "extension": [
            {"url": SMS_SEGMENTS_URL, "valuePositiveInt": 2},
            {"url": SMS_COST_URL, "valueMoney": {"value": 0.0158, "currency": "USD"}},
            {"url": SMS_SEGMENTS_URL, "valuePositiveInt": 2},
            {"url": SMS_COST_URL, "valueMoney": {"value": 0.0158, "currency": "USD"}},
            {"url": MESSAGE_COST_URL, "valueMoney": {"value": "free", "currency": "USD"}},
            {"url": "urn:other", "valueMoney": {"value": 5, "currency": "USD"}}
        ]});
        let message = Resource::from_value(message).expect("a message");
        let each = Amount::parse("0.0158", "USD").expect("an amount");
        assert_eq!(costs(&message), [each.clone(), each]);
        assert_eq!(segments(&message), 4);
    }
}

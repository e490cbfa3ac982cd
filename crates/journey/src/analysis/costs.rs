//! What messages cost that have left: by channel and month, as far as their prices are known. Beside it what a simulated
//! cohort was sent.

use super::report::share;
use crate::definition::Definition;
use crate::simulate::{Behaviour, Size, simulate};
use fhir::Resource;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use trust::attempts::{Did, attempts};
use trust::conventions::SMS_SYSTEM;
use trust::costs::{Amount, costs, segments};

/// The cohort that stands beside: enough for a mean, and few enough that an analysis is not held up.
const COHORT: Size = Size {
    patients: 100,
    days: 365,
    seed: 1,
    threads: 1,
};

/// The messages of one channel that left in one month, and what they cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostRow {
    /// `2026-11`, by the journey's clock.
    pub month: String,
    /// The channel, as journeys call it.
    pub channel: String,
    /// Messages that left. One that was handed over twice is one.
    pub messages: u64,
    /// Segments of text messages.
    pub segments: u64,
    /// Of the messages, those of which no price is known.
    pub unpriced: u64,
    /// What the others cost, by currency.
    pub cost: Vec<Amount>,
}

/// Messages of one channel that a simulated cohort was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedMessages {
    /// The channel.
    pub channel: String,
    /// Messages of all patients.
    pub messages: u64,
}

/// What messages cost, and what was simulated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// By month, then by channel.
    pub rows: Vec<CostRow>,
    /// Journeys whose messages can't be read.
    #[serde(default)]
    pub unreadable: u64,
    /// Journeys of whose messages some are in no row, because consents or labels keep them back.
    #[serde(default)]
    pub kept_back: u64,
    /// How many made-up patients were led along the journey.
    pub simulated_patients: u64,
    /// For how many days.
    pub simulated_days: u64,
    /// What they were sent, by the simulator's own assumptions.
    pub simulated: Vec<SimulatedMessages>,
}

impl Costs {
    /// All months of each channel together.
    #[must_use]
    pub fn by_channel(&self) -> Vec<CostRow> {
        let mut all: BTreeMap<&str, CostRow> = BTreeMap::new();
        for row in &self.rows {
            let sum = all.entry(&row.channel).or_insert_with(|| CostRow {
                channel: row.channel.clone(),
                ..CostRow::default()
            });
            sum.messages += row.messages;
            sum.segments += row.segments;
            sum.unpriced += row.unpriced;
            for amount in &row.cost {
                add(&mut sum.cost, amount);
            }
        }
        all.into_values().collect()
    }

    /// All of it, by currency.
    #[must_use]
    pub fn total(&self) -> Vec<Amount> {
        let mut total = Vec::new();
        for amount in self.rows.iter().flat_map(|row| &row.cost) {
            add(&mut total, amount);
        }
        total
    }

    /// How many messages left of which no price is known.
    #[must_use]
    pub fn unpriced(&self) -> u64 {
        self.rows.iter().map(|row| row.unpriced).sum()
    }

    /// What as many journeys would have cost that get what the simulated cohort got by a channel, each message at what one
    /// cost on average. Nothing where no price is known, or several currencies are.
    #[must_use]
    pub fn foreseen(&self, channel: &str, cases: u64) -> Option<Amount> {
        let sums = self.by_channel();
        let row = sums.iter().find(|row| row.channel == channel)?;
        let [cost] = &row.cost[..] else { return None };
        let priced = row
            .messages
            .checked_sub(row.unpriced)
            .filter(|one| *one > 0)?;
        let mut all = self.simulated.iter();
        let sent = all.find(|one| one.channel == channel)?.messages;
        let of = u128::from(cost.millionths) * u128::from(sent) * u128::from(cases);
        let by = u128::from(priced) * u128::from(self.simulated_patients.max(1));
        Some(Amount {
            currency: cost.currency.clone(),
            millionths: u64::try_from(of / by).ok()?,
        })
    }

    /// How many messages a simulated patient was sent by a channel.
    #[must_use]
    pub fn simulated_each(&self, channel: &str) -> Option<f64> {
        let one = self.simulated.iter().find(|one| one.channel == channel)?;
        (self.simulated_patients > 0).then(|| each(one.messages, self.simulated_patients))
    }
}

/// So many for each.
#[allow(clippy::cast_precision_loss, reason = "numbers of messages")]
pub(super) fn each(messages: u64, of: u64) -> f64 {
    messages as f64 / of.max(1) as f64
}

fn add(to: &mut Vec<Amount>, amount: &Amount) {
    match to.iter_mut().find(|one| one.currency == amount.currency) {
        Some(sum) => sum.millionths = sum.millionths.saturating_add(amount.millionths),
        None => {
            to.push(amount.clone());
            to.sort();
        }
    }
}

/// The channel of a message that has left by one; none of what lies in the portal, which costs nothing.
fn channel(message: &Resource) -> Option<&'static str> {
    Some(
        match message.text_at(&["medium", "0", "coding", "0", "code"])? {
            "EMAILWRIT" => "email",
            "SMSWRIT" => "sms",
            "PUSH" => "push",
            "MAILWRIT" => "letter",
            "PHONE" => "voice",
            "PORTAL" => return None,
            _ => "other",
        },
    )
}

/// Messages added up.
#[derive(Debug)]
pub(crate) struct CostSums {
    zone: TimeZone,
    rows: BTreeMap<(String, &'static str), CostRow>,
    pub(crate) unreadable: u64,
    pub(crate) kept_back: u64,
}

impl CostSums {
    /// Months are those of this zone.
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            rows: BTreeMap::new(),
            unreadable: 0,
            kept_back: 0,
        }
    }

    /// Adds a message, if it has left: what was called off before cost nothing, and what came back did cost.
    pub(crate) fn add(&mut self, message: &Resource) {
        let identifiers = message
            .get("identifier")
            .and_then(serde_json::Value::as_array);
        let mut identifiers = identifiers.into_iter().flatten();
        let (costs, segments) = (costs(message), segments(message));
        let time = |path: &[&str]| Some(fhir::date::parse(message.text_at(path)?)?.start_ms);
        let at_ms = time(&["sent"]).or_else(|| {
            // A provider has it, and its answer never came: it left when it was tried, whatever was written into it since.
            let is_taken = identifiers.any(|one| one["system"] == SMS_SYSTEM);
            let tried = attempts(message).into_iter();
            let mut tried = tried.filter(|one| matches!(one.did, Did::HandedOver | Did::PutOff));
            let tried_ms = tried.next().and_then(|one| i64::try_from(one.at_ms).ok());
            is_taken.then(|| tried_ms.or_else(|| time(&["meta", "lastUpdated"])))?
        });
        let (Some(at_ms), Some(channel)) = (at_ms, channel(message)) else {
            return;
        };
        let month = Timestamp::from_millisecond(at_ms).map_or_else(
            |_| "unknown".to_owned(),
            |at| {
                let there = at.to_zoned_datetime(self.zone.clone());
                there.strftime("%Y-%m").to_string()
            },
        );
        let row = self.rows.entry((month.clone(), channel));
        let row = row.or_insert_with(|| CostRow {
            month,
            channel: channel.to_owned(),
            ..CostRow::default()
        });
        row.messages += 1;
        row.segments += segments;
        row.unpriced += u64::from(costs.is_empty());
        for amount in &costs {
            add(&mut row.cost, amount);
        }
    }

    /// What they come to, beside a simulated cohort. Leading that takes some seconds.
    pub(crate) fn report(self, definition: &Definition) -> Costs {
        let simulated = simulate(definition, &Behaviour::default(), COHORT);
        let by_channel = simulated.messages_by_day.iter();
        let by_channel = by_channel.filter(|(channel, _)| channel.as_str() != "portal");
        Costs {
            rows: self.rows.into_values().collect(),
            unreadable: self.unreadable,
            kept_back: self.kept_back,
            simulated_patients: u64::from(simulated.patients),
            simulated_days: u64::from(simulated.days),
            simulated: by_channel
                .map(|(channel, days)| SimulatedMessages {
                    channel: channel.clone(),
                    messages: days.iter().sum(),
                })
                .collect(),
        }
    }
}

/// Amounts for people; `nothing` is not a price of nothing.
fn amounts(amounts: &[Amount]) -> String {
    let shown: Vec<String> = amounts.iter().map(Amount::to_string).collect();
    match shown.is_empty() {
        true => "no price known".to_owned(),
        false => shown.join(" and "),
    }
}

/// `1 message`, `2 messages`.
fn counted(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// What messages cost, in words for terminals.
pub(super) fn text(text: &mut String, costs: &Costs, cases: u64) {
    text.push_str("\nMessages that left, and what they cost\n");
    if costs.rows.is_empty() {
        text.push_str("  none\n");
    }
    for row in &costs.rows {
        let _ = write!(
            text,
            "  {} by {}: {}",
            row.month,
            row.channel,
            counted(row.messages, "message")
        );
        if row.segments > 0 {
            let _ = write!(text, ", {}", counted(row.segments, "segment"));
        }
        let _ = write!(text, ", {}", amounts(&row.cost));
        if row.unpriced > 0 && row.unpriced < row.messages {
            let _ = write!(
                text,
                "; of {} ({}) no price is known",
                row.unpriced,
                share(row.unpriced, row.messages)
            );
        }
        text.push('\n');
    }
    let total = costs.total();
    if !total.is_empty() {
        let _ = writeln!(text, "  in all: {}", amounts(&total));
    }
    if costs.unreadable > 0 {
        let _ = writeln!(
            text,
            "  messages of {} can't be read",
            counted(costs.unreadable, "journey")
        );
    }
    if costs.kept_back > 0 {
        let _ = writeln!(
            text,
            "  messages of {} are kept back by consents or labels",
            counted(costs.kept_back, "journey")
        );
    }
    for one in &costs.simulated {
        let sums = costs.by_channel();
        let real = sums.iter().find(|row| row.channel == one.channel);
        let _ = write!(
            text,
            "  by {}: {:.2} a journey, {:.2} in a simulation of {} patients over {} days",
            one.channel,
            each(real.map_or(0, |row| row.messages), cases),
            each(one.messages, costs.simulated_patients),
            costs.simulated_patients,
            costs.simulated_days
        );
        match costs.foreseen(&one.channel, cases) {
            Some(foreseen) => {
                let _ = writeln!(text, ", which would be {foreseen} at the price of these");
            }
            None => text.push('\n'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use trust::attempts::Attempted;
    use trust::costs::MESSAGE_COST_URL;

    fn message(medium: &str, sent: Option<&str>, extensions: &[Value]) -> Resource {
        let mut message = json!({
            "resourceType": "Communication", "id": "c", "status": "completed",
            "medium": [{"coding": [{"code": medium}]}], "extension": extensions
        });
        if let Some(sent) = sent {
            message["sent"] = json!(sent);
        }
        Resource::from_value(message).expect("a message")
    }

    fn cost(amount: f64, currency: &str) -> Value {
        json!({"url": MESSAGE_COST_URL, "valueMoney": {"value": amount, "currency": currency}})
    }

    #[test]
    fn what_left_is_added_up_by_month_and_channel() {
        let zone = TimeZone::get("America/New_York").expect("a zone");
        let mut no_answer = message("SMSWRIT", None, &[]);
        no_answer.set("identifier", json!([{"system": SMS_SYSTEM, "value": "a"}]));
        no_answer.set("meta", json!({"lastUpdated": "2027-03-03T05:00:00Z"}));
        let tried_ms = 1_797_000_000_000;
        Attempted::new(Did::Waits, "It waits.", tried_ms - 86_400_000 * 30).write(&mut no_answer);
        Attempted::new(Did::PutOff, "Put off.", tried_ms).write(&mut no_answer);
        let mut sums = CostSums::new(zone);
        for message in [
            // The last day of November there is the first of December here.
            message(
                "EMAILWRIT",
                Some("2026-12-01T03:00:00Z"),
                &[cost(0.25, "USD")],
            ),
            message(
                "EMAILWRIT",
                Some("2026-12-01T05:00:00Z"),
                &[cost(0.5, "USD")],
            ),
            message("EMAILWRIT", Some("2026-12-02T05:00:00Z"), &[]),
            message(
                "EMAILWRIT",
                Some("2026-12-03T05:00:00Z"),
                &[cost(0.5, "EUR")],
            ),
            message(
                "SMSWRIT",
                Some("2026-12-03T05:00:00Z"),
                &[
                    json!({"url": trust::conventions::SMS_SEGMENTS_URL, "valuePositiveInt": 2}),
                    json!({"url": trust::conventions::SMS_COST_URL, "valueMoney": {"value": 0.02, "currency": "USD"}}),
                    json!({"url": trust::conventions::SMS_SEGMENTS_URL, "valuePositiveInt": 2}),
                    json!({"url": trust::conventions::SMS_COST_URL, "valueMoney": {"value": 0.02, "currency": "USD"}}),
                ],
            ),
            // Handed over without an answer, and opened in the portal three months later.
            no_answer,
            // What hasn't left, and what lies in the portal.
            message("EMAILWRIT", None, &[]),
            message("PORTAL", Some("2026-12-03T05:00:00Z"), &[]),
        ] {
            sums.add(&message);
        }
        let rows: Vec<CostRow> = sums.rows.into_values().collect();
        let usd = |millionths| Amount {
            currency: "USD".into(),
            millionths,
        };
        let eur = Amount {
            currency: "EUR".into(),
            millionths: 500_000,
        };
        let row =
            |month: &str, channel: &str, counts: (u64, u64, u64), cost: Vec<Amount>| CostRow {
                month: month.into(),
                channel: channel.into(),
                messages: counts.0,
                segments: counts.1,
                unpriced: counts.2,
                cost,
            };
        assert_eq!(
            rows,
            [
                row("2026-11", "email", (1, 0, 0), vec![usd(250_000)]),
                row(
                    "2026-12",
                    "email",
                    (3, 0, 1),
                    vec![eur.clone(), usd(500_000)]
                ),
                row("2026-12", "sms", (2, 4, 1), vec![usd(40_000)]),
            ]
        );
        let costs = Costs {
            rows,
            simulated_patients: 10,
            simulated_days: 365,
            simulated: vec![
                SimulatedMessages {
                    channel: "email".into(),
                    messages: 40,
                },
                SimulatedMessages {
                    channel: "sms".into(),
                    messages: 30,
                },
            ],
            unreadable: 0,
            kept_back: 1,
        };
        assert_eq!(costs.total(), [eur, usd(790_000)]);
        assert_eq!(costs.unpriced(), 2);
        // Three a patient at four cents each, for 100 patients; of two currencies nothing is foreseen.
        assert_eq!(costs.foreseen("sms", 100), Some(usd(12_000_000)));
        assert_eq!(costs.foreseen("email", 100), None);
        let mut said = String::new();
        text(&mut said, &costs, 2);
        for words in [
            "2026-12 by email: 3 messages, 0.50 EUR and 0.50 USD; of 1 (33.3 %) no price is known",
            "2026-11 by email: 1 message, 0.25 USD",
            "2026-12 by sms: 2 messages, 4 segments, 0.04 USD; of 1 (50.0 %) no price is known",
            "messages of 1 journey are kept back by consents or labels",
            "in all: 0.50 EUR and 0.79 USD",
            "by sms: 1.00 a journey, 3.00 in a simulation of 10 patients over 365 days, which would be 0.24 USD",
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
    }
}

//! When and how often an organisation's messages may reach out to a patient, whichever journey sends them.

use jiff::civil::Time;
use serde::{Deserialize, Deserializer, Serialize};

use super::hours::minute;

/// Hours of the day in which nobody is written to, by the patient's clock. Where it ends before it begins, it lasts
/// over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// The first minute of them.
    #[serde(with = "minute")]
    pub from: Time,
    /// The first minute after them.
    #[serde(with = "minute")]
    pub until: Time,
}

/// The table `messages` of a rule pack. What isn't there limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageRules {
    /// When nobody is written to.
    #[serde(deserialize_with = "quiet_in_a_file")]
    pub quiet: Option<QuietHours>,
    /// Most messages to one patient in 24 hours.
    pub per_day: Option<u32>,
    /// Most messages to one patient in seven days.
    pub per_week: Option<u32>,
    /// How many of those are kept for what is more than routine.
    pub kept_for_important: u32,
}

/// Quiet hours as somebody writes them, who is told of a word that means nothing; what is kept of them may say more than
/// this program knows.
fn quiet_in_a_file<'de, D: Deserializer<'de>>(file: D) -> Result<Option<QuietHours>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        #[serde(with = "minute")]
        from: Time,
        #[serde(with = "minute")]
        until: Time,
    }
    let written: Option<Written> = Option::deserialize(file)?;
    Ok(written.map(|Written { from, until }| QuietHours { from, until }))
}

/// `HH:MM`.
///
/// # Errors
/// When the text is anything else.
pub fn time_of_day(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time of day; write it like `21:00`");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    if hour.len() != 2 || minute.len() != 2 {
        return Err(wrong());
    }
    let part = |part: &str| part.parse::<i8>().map_err(|_| wrong());
    Time::new(part(hour)?, part(minute)?, 0, 0).map_err(|_| wrong())
}

impl MessageRules {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.quiet.is_some_and(|quiet| quiet.from == quiet.until) {
            return Err("quiet hours of `messages` begin when they end");
        }
        let caps = [self.per_day, self.per_week];
        if caps.iter().flatten().any(|cap| *cap == 0) {
            return Err("`messages` has a limit of none at all");
        }
        let least = caps.iter().flatten().min();
        match least {
            None if self.kept_for_important > 0 => {
                Err("`messages` keeps some for what is important, and has no limit")
            }
            Some(least) if self.kept_for_important >= *least => Err(
                "`messages` keeps so many for what is important that nothing else ever goes out",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::consent::Rules;

    #[test]
    fn a_pack_says_when_and_how_often_messages_go_out() {
        let read = |table: &str| {
            let text = format!("name = \"ours\"\nextends = \"us-hipaa\"\n[messages]\n{table}\n");
            Rules::parse("ours.toml", &text).map(|rules| rules.messages().clone())
        };
        let rules = read(
            "quiet = { from = \"21:00\", until = \"08:00\" }\nper_day = 3\nper_week = 9\nkept_for_important = 1",
        );
        let rules = rules.unwrap();
        assert_eq!(rules.per_day, Some(3));
        assert_eq!(rules.quiet.map(|quiet| quiet.until.hour()), Some(8));
        for (table, words) in [
            (
                "quiet = { from = \"21:00\", until = \"21:00\" }",
                "begin when they end",
            ),
            (
                "quiet = { from = \"9\", until = \"10:00\" }",
                "no time of day",
            ),
            ("per_day = 0", "none at all"),
            (
                "per_day = 2\nkept_for_important = 2",
                "nothing else ever goes out",
            ),
            ("kept_for_important = 2", "has no limit"),
            ("per_hour = 2", "unknown field"),
            (
                "quiet = { from = \"21:00\", until = \"08:00\", zone = \"UTC\" }",
                "unknown field",
            ),
        ] {
            let error = read(table).unwrap_err().to_string();
            assert!(error.contains(words), "{table}: {error}");
        }
        let none = Rules::load(Rules::DEFAULT).unwrap();
        assert_eq!(*none.messages(), super::MessageRules::default());
    }
}

//! Hours in which a message may go out, by the patient's own clock, and how many may go out in a day and a week. Pure.
//!
//! Journeys ask it when they put a message on its way, and whoever carries it asks again when it leaves.

use fhir::Resource;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::messages::{MessageRules, QuietHours};

/// Where FHIR has somebody's time zone: on the patient, or on an address.
const ZONE_EXTENSION: &str = "http://hl7.org/fhir/StructureDefinition/tz-code";
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How often quiet hours and limits are asked in turn; each only ever moves the time on.
const TURNS_MAX: usize = 16;

/// When a message may go out: hours of these days of the week, by the patient's own clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// From when on.
    #[serde(with = "minute")]
    pub from: Time,
    /// Until when; later than `from`.
    #[serde(with = "minute")]
    pub until: Time,
    /// On all days, where there are none.
    #[serde(with = "weekdays", default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Weekday>,
}

impl Window {
    fn is_on(&self, date: Date) -> bool {
        self.days.is_empty() || self.days.contains(&date.weekday())
    }

    /// When it opens next, where it is closed.
    fn opens(&self, now: &ZonedDateTime) -> Option<u64> {
        let (time, zone) = (now.time(), now.time_zone());
        if self.is_on(now.date()) && time >= self.from && time < self.until {
            return None;
        }
        let mut dates = now.date().series(1.day()).take(9);
        let opening = dates.find_map(|date| {
            let there = zone.to_ambiguous_timestamp(date.to_datetime(self.from));
            // Where the clocks go back, the first time it is that late may be over already.
            let times = [there.compatible().ok()?, there.later().ok()?];
            let mut ahead = times
                .into_iter()
                .filter(|opening| *opening > now.timestamp());
            ahead.next().filter(|_| self.is_on(date))
        });
        u64::try_from(opening?.as_millisecond()).ok()
    }

    /// The longest time that it is closed, but for changes of the clocks.
    #[must_use]
    pub fn longest_closed_ms(&self) -> u64 {
        let open_ms = u64::try_from((self.until - self.from).get_hours()).unwrap_or_default();
        let minutes = u64::try_from((self.until - self.from).get_minutes()).unwrap_or_default();
        let open_ms = open_ms * HOUR_MS + minutes * MINUTE_MS;
        // Days between one on which it is open and the next.
        let first = Date::constant(2024, 1, 1);
        let mut days = first.series(1.day()).take(14).enumerate();
        let (mut last, mut longest) = (None, 1);
        for (at, _) in days.by_ref().filter(|(_, date)| self.is_on(*date)) {
            longest = last.map_or(longest, |last| longest.max(at - last));
            last = Some(at);
        }
        (longest as u64 * DAY_MS).saturating_sub(open_ms)
    }
}

/// What a journey says of when its message may go out, beside what the organisation says. A message that can't wait has
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The time zone of patients of whom none is known.
    pub zone: String,
    /// The journey's own quiet hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
    /// The message's own window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// The journey's own most in 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// The journey's own most in seven days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_week: Option<u32>,
    /// Whether it takes the places that are kept for what is important.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub important: bool,
    /// When it was let go: by its journey, or by what it waited for since. Limits count it there, so that what was late
    /// once makes nothing later that comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go_ms: Option<u64>,
}

/// Why a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// It is night, or what counts as such.
    Quiet,
    /// Too many have gone out.
    Capped,
    /// It asks something, and the question before it was closed on the telephone a moment ago: what was meant for that
    /// may still come.
    Question,
    /// The patient is in hospital.
    Stay,
}

impl Hours {
    /// Lengths of time, and the most messages in each.
    fn caps(&self, rules: &MessageRules) -> Vec<(u64, u32)> {
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        let kept = if self.important {
            0
        } else {
            rules.kept_for_important
        };
        let caps = [
            (DAY_MS, least(rules.per_day, self.per_day)),
            (7 * DAY_MS, least(rules.per_week, self.per_week)),
        ];
        let caps = caps.into_iter();
        caps.filter_map(|(ms, most)| Some((ms, most?.saturating_sub(kept))))
            .collect()
    }

    /// Whether it matters what was sent before.
    #[must_use]
    pub fn has_caps(&self, rules: &MessageRules) -> bool {
        !self.caps(rules).is_empty()
    }

    /// When a message may leave that waits now, and why it waits; nothing where it may leave at once. `own` is when the
    /// patient wants none, `sent_ms` when others left, in any order.
    #[must_use]
    pub fn leaves_at(
        &self,
        rules: &MessageRules,
        (patient, own): (Option<&Resource>, Option<QuietHours>),
        sent_ms: &[u64],
        now_ms: u64,
    ) -> Option<(u64, Waits)> {
        let zone = patient.and_then(zone_of).or_else(|| zone_named(&self.zone));
        let zone = zone.unwrap_or(TimeZone::UTC);
        let quiet: Vec<QuietHours> = rules
            .quiet
            .into_iter()
            .chain(self.quiet)
            .chain(own)
            .collect();
        let caps = self.caps(rules);
        let (mut at_ms, mut why) = (now_ms, Waits::Capped);
        for turn in 0..TURNS_MAX {
            let quiet_ms = quiet_until(&quiet, self.window.as_ref(), &zone, at_ms);
            if turn == 0 && quiet_ms.is_some() {
                why = Waits::Quiet;
            }
            let next_ms = has_room(&caps, sent_ms, quiet_ms.unwrap_or(at_ms));
            if next_ms == at_ms {
                break;
            }
            at_ms = next_ms;
        }
        (at_ms > now_ms).then_some((at_ms, why))
    }
}

/// The first time from now on at which the limits leave room for one more.
fn has_room(caps: &[(u64, u32)], sent_ms: &[u64], from_ms: u64) -> u64 {
    let fits = |at_ms: u64| {
        caps.iter().all(|(length_ms, most)| {
            let since_ms = at_ms.saturating_sub(*length_ms);
            let used = sent_ms.iter().filter(|sent| **sent > since_ms).count();
            u32::try_from(used).unwrap_or(u32::MAX) < *most
        })
    };
    let freed = caps.iter().flat_map(|(length_ms, _)| {
        let ends = sent_ms
            .iter()
            .map(move |sent| sent.saturating_add(*length_ms));
        ends.filter(|end| *end > from_ms)
    });
    let mut times: Vec<u64> = std::iter::once(from_ms).chain(freed).collect();
    times.sort_unstable();
    let found = times.into_iter().find(|at_ms| fits(*at_ms));
    found.unwrap_or_else(|| from_ms.saturating_add(DAY_MS))
}

/// When quiet hours end and a window opens, where it is in the ones or not in the other.
#[must_use]
pub fn quiet_until(
    quiet: &[QuietHours],
    window: Option<&Window>,
    zone: &TimeZone,
    at_ms: u64,
) -> Option<u64> {
    let now = zoned(at_ms, zone);
    let ends = quiet.iter().filter_map(|quiet| ends(*quiet, &now));
    let opens = window.and_then(|window| window.opens(&now));
    ends.chain(opens).max()
}

/// When quiet hours end, where it is in them.
fn ends(quiet: QuietHours, now: &ZonedDateTime) -> Option<u64> {
    let (from, until, time) = (quiet.from, quiet.until, now.time());
    let over_midnight = until < from;
    let inside = if over_midnight {
        time >= from || time < until
    } else {
        time >= from && time < until
    };
    if !inside {
        return None;
    }
    let next_day = over_midnight && time >= from;
    let date = if next_day {
        now.date().tomorrow().ok()?
    } else {
        now.date()
    };
    let zone = now.time_zone();
    let there = zone.to_ambiguous_timestamp(date.to_datetime(until));
    let end = there.compatible().ok()?;
    // Where the clocks go back, the first time it is that late may be over already.
    let end = if end > now.timestamp() {
        end
    } else {
        there.later().ok()?
    };
    u64::try_from(end.as_millisecond()).ok()
}

fn zoned(at_ms: u64, zone: &TimeZone) -> ZonedDateTime {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
    at.unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned_datetime(zone.clone())
}

/// The patient's own time zone, if the record has one that is known here.
#[must_use]
pub fn zone_of(person: &Resource) -> Option<TimeZone> {
    let own = zone_in(person.get("extension"));
    let addresses = person.get("address").and_then(Value::as_array);
    let mut addresses = addresses.into_iter().flatten();
    own.or_else(|| {
        addresses.find_map(|address| {
            let is_over = address.pointer("/period/end").is_some()
                || address.get("use").and_then(Value::as_str) == Some("old");
            zone_in(address.get("extension")).filter(|_| !is_over)
        })
    })
}

fn zone_in(extensions: Option<&Value>) -> Option<TimeZone> {
    let extensions = extensions.and_then(Value::as_array)?;
    let found = extensions
        .iter()
        .find(|extension| extension.get("url").and_then(Value::as_str) == Some(ZONE_EXTENSION))?;
    let code = found.get("valueCode").or_else(|| found.get("valueString"));
    zone_named(code?.as_str()?)
}

fn zone_named(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

/// A time of day, as files have it: `21:00`.
pub(super) mod minute {
    use jiff::civil::Time;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Time,
        into: S,
    ) -> Result<S::Ok, S::Error> {
        into.collect_str(&format_args!("{:02}:{:02}", time.hour(), time.minute()))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        text: D,
    ) -> Result<Time, D::Error> {
        let text = String::deserialize(text)?;
        super::super::messages::time_of_day(&text).map_err(serde::de::Error::custom)
    }
}

/// Days of the week, counted from Monday, which is 0.
mod weekdays {
    use jiff::civil::Weekday;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(days: &[Weekday], into: S) -> Result<S::Ok, S::Error> {
        into.collect_seq(days.iter().map(|day| day.to_monday_zero_offset()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        days: D,
    ) -> Result<Vec<Weekday>, D::Error> {
        let days: Vec<i8> = Vec::deserialize(days)?;
        let days = days.into_iter().map(Weekday::from_monday_zero_offset);
        days.collect::<Result<_, _>>()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> u64 {
        let at: Timestamp = text.parse().unwrap();
        u64::try_from(at.as_millisecond()).unwrap()
    }

    fn time(text: &str) -> Time {
        super::super::time_of_day(text).unwrap()
    }

    /// A newer program may say more of a message that waits; what is known of it counts.
    #[test]
    fn what_is_kept_of_hours_may_say_more_than_is_known() {
        let kept = json!({
            "zone": "UTC", "per_day": 2, "later": true,
            "quiet": {"from": "21:00", "until": "08:00", "later": true},
            "window": {"from": "09:00", "until": "17:00", "later": true}
        });
        let hours: Hours = serde_json::from_value(kept).unwrap();
        assert_eq!((hours.per_day, hours.let_go_ms), (Some(2), None));
        assert_eq!(hours.quiet.map(|quiet| quiet.from), Some(time("21:00")));
        assert_eq!(hours.window.map(|window| window.until), Some(time("17:00")));
    }

    #[test]
    fn a_message_leaves_when_all_that_limits_it_lets_it() {
        let quiet = QuietHours {
            from: time("21:00"),
            until: time("08:00"),
        };
        let night = MessageRules {
            quiet: Some(quiet),
            ..MessageRules::default()
        };
        let capped = MessageRules {
            per_day: Some(2),
            kept_for_important: 1,
            ..night.clone()
        };
        let none = MessageRules::default();
        let own = |zone: &str| Hours {
            zone: zone.to_owned(),
            ..Hours::default()
        };
        let window = Hours {
            window: Some(Window {
                from: time("09:00"),
                until: time("17:00"),
                days: vec![Weekday::Tuesday],
            }),
            ..own("UTC")
        };
        let important = Hours {
            important: true,
            ..own("UTC")
        };
        let noon = "2026-03-02T12:00:00Z";
        let late = "2026-03-02T22:00:00Z";
        for (rules, hours, now, sent, expected) in [
            (&none, &own("UTC"), late, &[][..], None),
            (&night, &own("UTC"), noon, &[], None),
            (
                &night,
                &own("UTC"),
                late,
                &[],
                Some(("2026-03-03T08:00:00Z", Waits::Quiet)),
            ),
            // It is five in the afternoon there.
            (&night, &own("America/New_York"), late, &[], None),
            (
                &none,
                &window,
                noon,
                &[],
                Some(("2026-03-03T09:00:00Z", Waits::Quiet)),
            ),
            (
                &capped,
                &own("UTC"),
                noon,
                &["2026-03-02T10:00:00Z"],
                Some(("2026-03-03T10:00:00Z", Waits::Capped)),
            ),
            (&capped, &important, noon, &["2026-03-02T10:00:00Z"], None),
            (
                &capped,
                &important,
                noon,
                &["2026-03-02T10:00:00Z", "2026-03-02T07:00:00Z"],
                // Room comes in the night, and that ends at eight.
                Some(("2026-03-03T08:00:00Z", Waits::Capped)),
            ),
            (&capped, &own("UTC"), noon, &["2026-03-01T10:00:00Z"], None),
        ] {
            let sent: Vec<u64> = sent.iter().map(|text| at(text)).collect();
            let found = hours.leaves_at(rules, (None, None), &sent, at(now));
            let expected = expected.map(|(text, why)| (at(text), why));
            assert_eq!(found, expected, "{rules:?} {hours:?} {now} {sent:?}");
        }
        let there = Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "extension": [{"url": ZONE_EXTENSION, "valueCode": "America/New_York"}]
        }))
        .unwrap();
        let found = own("UTC").leaves_at(&night, (Some(&there), None), &[], at(late));
        assert_eq!(found, None, "by the patient's own clock");
        // What the patient doesn't want holds besides, by the same clock.
        let siesta = QuietHours {
            from: time("16:00"),
            until: time("18:30"),
        };
        let own = |patient| {
            let patient = (patient, Some(siesta));
            own("UTC").leaves_at(&night, patient, &[], at(late))
        };
        let expected = at("2026-03-02T23:30:00Z");
        assert_eq!(own(Some(&there)), Some((expected, Waits::Quiet)));
        let expected = at("2026-03-03T08:00:00Z");
        assert_eq!(own(None), Some((expected, Waits::Quiet)));
    }

    #[test]
    fn hours_are_kept_as_they_are() {
        let hours = Hours {
            zone: "Europe/Berlin".to_owned(),
            quiet: Some(QuietHours {
                from: time("21:00"),
                until: time("08:05"),
            }),
            window: Some(Window {
                from: time("09:00"),
                until: time("17:00"),
                days: vec![Weekday::Monday, Weekday::Sunday],
            }),
            per_day: Some(3),
            per_week: None,
            important: true,
            let_go_ms: None,
        };
        let text = serde_json::to_string(&hours).unwrap();
        assert_eq!(
            text,
            r#"{"zone":"Europe/Berlin","quiet":{"from":"21:00","until":"08:05"},"window":{"from":"09:00","until":"17:00","days":[0,6]},"per_day":3,"important":true}"#
        );
        assert_eq!(serde_json::from_str::<Hours>(&text).unwrap(), hours);
    }
}

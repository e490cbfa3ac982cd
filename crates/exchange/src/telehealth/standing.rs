//! Whether one can go into a visit now, by what the `Appointment` says. Pure.

use fhir::Resource;
use serde_json::Value;
use trust::conventions::is_by_video;

/// Milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// The most that FHIR's `positiveInt` can be: what is more is no length.
const MINUTES_MAX: u64 = (1 << 31) - 1;

/// How a visit stands for who wants to go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It isn't by video, or is held elsewhere.
    Elsewhere,
    /// Nobody has booked it yet.
    NotBooked,
    /// It doesn't say when it begins and ends, so nobody knows for how long to let people in.
    Untimed,
    /// It is too early.
    Early {
        /// From when on people are let in, care clock.
        opens_ms: u64,
    },
    /// Now.
    Open {
        /// When it ends, care clock.
        until_ms: u64,
    },
    /// Its time is over.
    Over,
    /// It has taken place.
    Done,
    /// It was called off, or was never meant to be.
    CalledOff,
    /// The patient is noted as not having come.
    Missed,
}

fn time(visit: &Resource, name: &str) -> Option<u64> {
    let date = fhir::date::parse(visit.text_at(&[name])?)?;
    u64::try_from(date.start_ms).ok()
}

/// How a visit stands at a moment of the care clock, where people are let in so long before it begins.
#[must_use]
pub fn standing(visit: &Resource, now_ms: u64, before_ms: u64) -> Standing {
    if !is_by_video(visit) {
        return Standing::Elsewhere;
    }
    match visit.text_at(&["status"]).unwrap_or_default() {
        "booked" | "arrived" | "checked-in" => {}
        "fulfilled" => return Standing::Done,
        "cancelled" | "entered-in-error" => return Standing::CalledOff,
        "noshow" => return Standing::Missed,
        _ => return Standing::NotBooked,
    }
    let Some(start_ms) = time(visit, "start") else {
        return Standing::Untimed;
    };
    let minutes = visit.get("minutesDuration").and_then(Value::as_u64);
    let minutes = minutes.filter(|minutes| *minutes <= MINUTES_MAX);
    let by_length = minutes.map(|minutes| start_ms.saturating_add(minutes * MINUTE_MS));
    let until_ms = time(visit, "end").or(by_length);
    let Some(until_ms) = until_ms.filter(|until_ms| *until_ms > start_ms) else {
        return Standing::Untimed;
    };
    let opens_ms = start_ms.saturating_sub(before_ms);
    if now_ms < opens_ms {
        Standing::Early { opens_ms }
    } else if now_ms < until_ms {
        Standing::Open { until_ms }
    } else {
        Standing::Over
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trust::conventions::{VIRTUAL_SERVICE_URL, by_video};

    use super::*;

    fn visit(change: impl FnOnce(&mut Value)) -> Resource {
        let mut visit = json!({
            "resourceType": "Appointment", "id": "v", "status": "booked", "extension": by_video(),
            "start": "1970-01-01T01:00:00Z", "end": "1970-01-01T01:30:00Z", "participant": []
        });
        change(&mut visit);
        Resource::from_value(visit).expect("a resource")
    }

    #[test]
    fn it_opens_some_time_before_and_closes_at_the_end() {
        const HOUR_MS: u64 = 3_600_000;
        let (before_ms, ends_ms) = (15 * MINUTE_MS, HOUR_MS + 30 * MINUTE_MS);
        let opens_ms = HOUR_MS - before_ms;
        for (now_ms, expected) in [
            (0, Standing::Early { opens_ms }),
            (opens_ms - 1, Standing::Early { opens_ms }),
            (opens_ms, Standing::Open { until_ms: ends_ms }),
            (HOUR_MS, Standing::Open { until_ms: ends_ms }),
            (ends_ms - 1, Standing::Open { until_ms: ends_ms }),
            (ends_ms, Standing::Over),
        ] {
            assert_eq!(
                standing(&visit(|_| ()), now_ms, before_ms),
                expected,
                "{now_ms}"
            );
        }
        // By its length, where no end is there.
        let of_length = visit(|visit| {
            visit["minutesDuration"] = json!(20);
            visit.as_object_mut().expect("members").remove("end");
        });
        let until_ms = HOUR_MS + 20 * MINUTE_MS;
        assert_eq!(
            standing(&of_length, HOUR_MS, 0),
            Standing::Open { until_ms }
        );
        // What can be no length is none.
        for odd in [
            json!(u64::MAX),
            json!(i64::MAX),
            json!(1_u64 << 31),
            json!(-20),
            json!(0),
            json!("20"),
        ] {
            let odd = visit(|visit| {
                visit["minutesDuration"] = odd;
                visit.as_object_mut().expect("members").remove("end");
            });
            assert_eq!(standing(&odd, HOUR_MS, 0), Standing::Untimed, "{odd:?}");
        }
    }

    #[test]
    fn what_a_visit_is_says_whether_there_is_a_door() {
        let during_ms = 3_700_000;
        let of_status = |status: &str| visit(|visit| visit["status"] = json!(status));
        for (what, expected) in [
            (of_status("proposed"), Standing::NotBooked),
            (of_status("pending"), Standing::NotBooked),
            (of_status("waitlist"), Standing::NotBooked),
            (of_status("fulfilled"), Standing::Done),
            (of_status("cancelled"), Standing::CalledOff),
            (of_status("entered-in-error"), Standing::CalledOff),
            (of_status("noshow"), Standing::Missed),
            (
                visit(|visit| visit["extension"] = json!([])),
                Standing::Elsewhere,
            ),
            (
                visit(|visit| {
                    visit["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] =
                        json!("AMB");
                }),
                Standing::Elsewhere,
            ),
            (
                visit(|visit| {
                    visit["extension"] =
                        json!([visit["extension"][0].clone(), {"url": VIRTUAL_SERVICE_URL}]);
                }),
                Standing::Elsewhere,
            ),
            (
                visit(|visit| visit["end"] = visit["start"].clone()),
                Standing::Untimed,
            ),
            (
                visit(|visit| {
                    visit.as_object_mut().expect("members").remove("start");
                }),
                Standing::Untimed,
            ),
        ] {
            assert_eq!(standing(&what, during_ms, 0), expected, "{what:?}");
        }
        for open in ["booked", "arrived", "checked-in"] {
            let found = standing(&of_status(open), during_ms, 0);
            assert!(matches!(found, Standing::Open { .. }), "{open}: {found:?}");
        }
    }
}

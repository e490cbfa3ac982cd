//! Leap days, changes of the clocks in the north and in the south, ages of those who were born on a leap day, and
//! patients who move to another zone.

use super::{Act, perform};
use crate::dates::{NAME, ahead, began, change, source, visit};
use crate::world::{DAY, HOUR, Mail, START, World};
use serde_json::json;

fn ms(instant: &str) -> u64 {
    u64::try_from(fhir::date::parse(instant).unwrap().start_ms).unwrap()
}

/// Tells something at a moment, a day later, and on the second day at nine.
fn told_at(zone: &str, moment: &str) -> String {
    format!(
        "name: moments
title: Moments
owner: Team
purpose: TREAT
time_zone: {zone}
at_most: 500d
entry:
  event: Encounter
  where: status = 'finished' and class.code = 'IMP'
  anchors: {{discharge: period.end}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: [moment, nine]
steps:
  moment: {{title: A moment, wait: {{until: {moment}, past_due: run}}, next: first}}
  first:
    title: At the moment
    send: {{title: First, words: It is time., channels: [portal]}}
    next: length
    on_failure: end
  length: {{title: A length, wait: {{for: 24h}}, next: second}}
  second:
    title: A day later
    send: {{title: Second, words: A day has gone., channels: [portal]}}
    next: end
    on_failure: end
  nine: {{title: Nine, wait: {{until: discharge + 2d at 09:00, past_due: run}}, next: third}}
  third:
    title: At nine
    send: {{title: Third, words: It is nine., channels: [portal]}}
    next: end
    on_failure: end
"
    )
}

/// When each of the messages was sent.
async fn sent(world: &World, patient: &str) -> Vec<(String, String)> {
    let view = world.view(patient).await;
    let trail = view.trail.iter();
    let messages = trail.filter(|entry| entry.what.starts_with("Message by portal"));
    let mut sent: Vec<(String, String)> = messages
        .map(|entry| (entry.step.clone(), fhir::date::instant(entry.at_ms)))
        .collect();
    sent.sort();
    sent
}

#[tokio::test]
async fn moments_of_journeys_through_leap_days_and_both_changes_of_the_clocks() {
    for (zone, discharge, moment, first, third) in [
        // The hour that there isn't comes as much later; of the one that there is twice it is the first.
        (
            "Europe/Berlin",
            "2027-03-27T12:00:00Z",
            "discharge + 1d at 02:30",
            "2027-03-28T01:30:00",
            "2027-03-29T07:00:00",
        ),
        (
            "Europe/Berlin",
            "2027-10-30T12:00:00Z",
            "discharge + 1d at 02:30",
            "2027-10-31T00:30:00",
            "2027-11-01T08:00:00",
        ),
        (
            "Australia/Sydney",
            "2027-04-03T01:00:00Z",
            "discharge + 1d at 02:30",
            "2027-04-03T15:30:00",
            "2027-04-04T23:00:00",
        ),
        (
            "Australia/Sydney",
            "2027-10-02T01:00:00Z",
            "discharge + 1d at 02:30",
            "2027-10-02T16:30:00",
            "2027-10-03T22:00:00",
        ),
        // Without a time of day a day is a length, whatever the clocks on the wall say.
        (
            "Europe/Berlin",
            "2027-03-27T12:00:00Z",
            "discharge + 1d",
            "2027-03-28T12:00:00",
            "2027-03-29T07:00:00",
        ),
        // Into, on and out of a leap day, and a year of days after it.
        (
            "UTC",
            "2028-02-27T12:00:00Z",
            "discharge + 1d at 09:00",
            "2028-02-28T09:00:00",
            "2028-02-29T09:00:00",
        ),
        (
            "UTC",
            "2028-02-28T12:00:00Z",
            "discharge + 1d at 09:00",
            "2028-02-29T09:00:00",
            "2028-03-01T09:00:00",
        ),
        (
            "UTC",
            "2028-02-29T12:00:00Z",
            "discharge + 1d at 09:00",
            "2028-03-01T09:00:00",
            "2028-03-02T09:00:00",
        ),
        (
            "UTC",
            "2028-02-29T12:00:00Z",
            "discharge + 365d at 09:00",
            "2029-02-28T09:00:00",
            "2028-03-02T09:00:00",
        ),
        (
            "Australia/Sydney",
            "2028-02-28T12:00:00Z",
            "discharge + 1d at 09:00",
            "2028-02-28T22:00:00",
            "2028-02-29T22:00:00",
        ),
    ] {
        let world = World::with(Mail::Delivers, &told_at(zone, moment)).await;
        let patient = world.patient().await;
        world.clock.set(ms(discharge));
        perform(&world, &patient, Act::Stay("IMP")).await;
        world.until(ms(discharge) - START + 400 * DAY).await;
        let first_ms = ms(&format!("{first}Z"));
        let second = fhir::date::instant(first_ms + 24 * HOUR);
        let expected = [
            ("first", format!("{first}.000Z")),
            ("second", second),
            ("third", format!("{third}.000Z")),
        ];
        let expected = expected.map(|(step, at)| (step.to_owned(), at));
        assert_eq!(
            sent(&world, &patient).await,
            expected,
            "{zone} {discharge} {moment}"
        );
    }
}

/// Who was born on 29 February is a year older on 1 March of other years: FHIRPath counts a year back from today.
#[tokio::test]
async fn ages_of_who_was_born_on_a_leap_day() {
    let look = |years: u32| {
        told_at("UTC", "discharge + 1d").replace(
            "start: [moment, nine]\nsteps:\n",
            &format!(
                "start: old\nsteps:\n  old:\n    title: Old enough?\n    check: {{has: Patient, where: birthDate <= today() - {years} years}}\n    yes: [moment, nine]\n    no: end\n"
            ),
        )
    };
    for (today, years, is_old) in [
        ("2027-02-27T12:00:00Z", 15, false),
        ("2027-02-28T12:00:00Z", 15, false),
        ("2027-03-01T12:00:00Z", 15, true),
        ("2028-02-28T12:00:00Z", 16, false),
        ("2028-02-29T00:00:01Z", 16, true),
        ("2028-03-01T12:00:00Z", 16, true),
    ] {
        let world = World::with(Mail::Delivers, &look(years)).await;
        let patient = world.patient().await;
        change(&world, &patient, "birthDate", json!("2012-02-29")).await;
        world.clock.set(ms(today));
        perform(&world, &patient, Act::Stay("IMP")).await;
        world.drain().await;
        let view = world.view(&patient).await;
        assert_eq!(view.ended.is_none(), is_old, "{years} on {today}");
    }
}

/// A year after 29 February, by the calendar: the last day of the month in other years.
#[tokio::test]
async fn a_year_after_a_leap_day_journeys_begin() {
    let entry = "  date: {of: Appointment, where: status = 'booked', begins: visit + 1y at 09:00, past_due: skip}
  anchors: {visit: start}
  per: event
";
    let world = World::with(Mail::Delivers, &source(entry)).await;
    let patient = world.patient().await;
    visit(&world, &patient, "leap", "2028-02-29T12:00:00Z", "booked").await;
    visit(&world, &patient, "before", "2027-02-28T12:00:00Z", "booked").await;
    world.drain().await;
    let mut planned = ahead(&world, &patient).await;
    planned.sort();
    assert_eq!(
        planned,
        ["2028-02-28T09:00:00.000Z", "2029-02-28T09:00:00.000Z"]
    );
    world.until(ms("2029-03-01T00:00:00Z") - START).await;
    assert_eq!(began(&world, &patient).await, planned, "{NAME}");
}

/// From the north to the south, across both changes, and back: each date is that of where the patient is then.
#[tokio::test]
async fn who_moves_to_another_zone_is_met_by_the_clocks_there() {
    let entry = "  date: {of: Appointment, where: status = 'booked', begins: visit - 14d at 09:00, past_due: skip}
  anchors: {visit: start}
  per: event
";
    let world = World::with(Mail::Delivers, &source(entry)).await;
    let patient = world.patient().await;
    let lives = async |zone: &str| {
        let url = "http://hl7.org/fhir/StructureDefinition/tz-code";
        let extension = json!([{"url": url, "valueCode": zone}]);
        change(&world, &patient, "extension", extension).await;
        world.drain().await;
        let mut planned = ahead(&world, &patient).await;
        planned.sort();
        planned
    };
    // The days before the visits: 29 March and 4 October 2027, each after a change of the clocks there.
    for (name, at) in [
        ("march", "2027-04-12T02:00:00Z"),
        ("october", "2027-10-18T02:00:00Z"),
    ] {
        visit(&world, &patient, name, at, "booked").await;
    }
    assert_eq!(
        lives("Europe/Berlin").await,
        ["2027-03-29T07:00:00.000Z", "2027-10-04T07:00:00.000Z"]
    );
    assert_eq!(
        lives("Australia/Sydney").await,
        ["2027-03-28T22:00:00.000Z", "2027-10-03T22:00:00.000Z"]
    );
    world.until(ms("2027-03-28T22:00:00Z") - START).await;
    assert_eq!(began(&world, &patient).await, ["2027-03-28T22:00:00.000Z"]);
    // Back in the north, where that morning is still to come, what has begun doesn't begin again.
    lives("Europe/Berlin").await;
    world.until(ms("2027-10-05T00:00:00Z") - START).await;
    assert_eq!(
        began(&world, &patient).await,
        ["2027-03-28T22:00:00.000Z", "2027-10-04T07:00:00.000Z"]
    );
}

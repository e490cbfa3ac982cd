//! Whatever is written in whichever order, and however time passes, servers end or crash between: after a look a
//! patient is in the journey exactly where a fresh look at the record says so.

use super::{MINUTE, NAME, ends, measure, of_it, overdue};
use crate::world::{DAY, HOUR, Mail, START, World};
use fhir::ResourceType;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Happens {
    /// A value of so many days ago is written or corrected; whether it counts.
    Measured(u8, u16, bool),
    Diagnosed,
    /// Every diagnosis is deleted.
    Healthy,
    /// So many hours pass, with or without somebody who follows.
    Passes(u16, bool),
    /// Nobody has read what was written when it happens.
    Restart,
    Crash,
    Compare,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0u8..3, 0u16..500, any::<bool>()).prop_map(|(which, ago, counts)| Happens::Measured(which, ago, counts)),
        1 => Just(Happens::Diagnosed),
        1 => Just(Happens::Healthy),
        3 => (1u16..4000, any::<bool>()).prop_map(|(hours, followed)| Happens::Passes(hours, followed)),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Crash),
        3 => Just(Happens::Compare),
    ]
}

#[derive(Debug, Default)]
struct Model {
    diagnosed: bool,
    values: BTreeMap<u8, (u64, bool)>,
}

impl Model {
    /// Twelve months are counted by the calendar: a year of these days has 365 of them but for 2028.
    fn is_overdue(&self, now_ms: u64, months: i32) -> bool {
        let fresh = |(at_ms, counts): &(u64, bool)| {
            let there = jiff::Timestamp::from_millisecond(i64::try_from(*at_ms).unwrap());
            let there = there.unwrap().to_zoned_datetime(jiff::tz::TimeZone::UTC);
            let until = there.checked_add(jiff::Span::new().months(months)).unwrap();
            let until_ms = until.timestamp().as_millisecond();
            *counts && now_ms < u64::try_from(until_ms).unwrap()
        };
        self.diagnosed && !self.values.values().any(fresh)
    }
}

async fn compare(world: &World, patient: &str, model: &Model) -> Result<(), TestCaseError> {
    world.pass(2 * MINUTE).await;
    let running = of_it(world, patient).await;
    let running = running.iter().filter(|view| view.ended.is_none()).count();
    let expected = usize::from(model.is_overdue(world.now(), 12));
    prop_assert_eq!(
        running,
        expected,
        "{:?} {:?}",
        model,
        ends(world, patient).await
    );
    prop_assert_eq!(world.letters().await.len(), 0);
    Ok(())
}

/// Another journey, with a segment of its own of the same name: overdue after half a year.
const OTHER: &str = "segmented-otherwise";

/// How often the patient has come into the segments of both journeys, as the model has it.
#[derive(Debug, Default)]
struct Edges {
    inside: [bool; 2],
    times: [usize; 2],
}

/// Each time that the patient has come in is one journey, of each of the two.
async fn count(
    world: &World,
    patient: &str,
    model: &Model,
    edges: &mut Edges,
) -> Result<(), TestCaseError> {
    world.pass(2 * MINUTE).await;
    for (place, (name, months)) in [(NAME, 12), (OTHER, 6)].into_iter().enumerate() {
        let inside = model.is_overdue(world.now(), months);
        edges.times[place] += usize::from(inside && !edges.inside[place]);
        edges.inside[place] = inside;
        let views = world.views(patient).await;
        let begun = views.iter().filter(|view| view.journey == name).count();
        prop_assert_eq!(
            begun,
            edges.times[place],
            "{} {:?} {:?}",
            name,
            model,
            edges
        );
    }
    Ok(())
}

/// With `each` after everything that happens is compared how often the patient has begun.
async fn play(all: Vec<Happens>, each: bool) -> Result<(), TestCaseError> {
    let mut world = World::with(Mail::Delivers, &overdue("")).await;
    let other = overdue("").replace("within: 12mo", "within: 6mo");
    let other = other.replace(&format!("name: {NAME}"), &format!("name: {OTHER}"));
    world.publish(&other).await;
    let mut edges = Edges::default();
    let patient = world.patient().await;
    let mut model = Model {
        diagnosed: true,
        ..Model::default()
    };
    for one in all {
        world.clock.advance(1);
        match one {
            Happens::Measured(which, ago, counts) => {
                let at_ms = world.now() - u64::from(ago) * DAY;
                let status = if counts { "final" } else { "cancelled" };
                measure(&world, &patient, &which.to_string(), at_ms, status).await;
                model.values.insert(which, (at_ms, counts));
            }
            Happens::Diagnosed => {
                world.condition(&patient).await;
                model.diagnosed = true;
            }
            Happens::Healthy if model.diagnosed => {
                while !world.of(&patient, ResourceType::Condition).await.is_empty() {
                    world.delete(&patient, ResourceType::Condition).await;
                }
                model.diagnosed = false;
            }
            Happens::Healthy => {}
            Happens::Passes(hours, followed) => {
                let to_ms = world.now() + u64::from(hours) * HOUR;
                if followed {
                    world.until(to_ms - START).await;
                } else {
                    world.clock.set(to_ms);
                }
            }
            Happens::Restart => world = world.reopen().await,
            Happens::Crash => world = world.after_crash(),
            Happens::Compare => compare(&world, &patient, &model).await?,
        }
        if each {
            count(&world, &patient, &model, &mut edges).await?;
        }
    }
    compare(&world, &patient, &model).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn who_is_in_the_journey_is_in_the_segment(all in prop::collection::vec(happens(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(all, false))?;
    }

    #[test]
    fn each_time_in_the_segment_is_one_journey(all in prop::collection::vec(happens(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(all, true))?;
    }
}

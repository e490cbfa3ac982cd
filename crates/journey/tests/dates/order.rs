//! Whatever the order in which things are written, and however time passes between: as many beginnings as keys.

use super::{before_a_visit, began, refused, visit};
use crate::world::{DAY, HOUR, Mail, START, World};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Happens {
    /// A visit is booked or moved: which, and how many days from the beginning.
    Visit(u8, u8),
    Cancelled(u8),
    /// So many hours pass, with or without somebody who follows.
    Passes(u16, bool),
    Restart,
    Crash,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0u8..3, 16u8..60).prop_map(|(which, day)| Happens::Visit(which, day)),
        1 => (0u8..3).prop_map(Happens::Cancelled),
        4 => (1u16..300, any::<bool>()).prop_map(|(hours, followed)| Happens::Passes(hours, followed)),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Crash),
    ]
}

/// What a visit says, and when it came to say it.
#[derive(Debug, Clone, Copy)]
struct Said {
    day: Option<u8>,
}

/// Which dates come: those that a visit says when they come, written before that.
#[derive(Debug, Default)]
struct Model {
    said: BTreeMap<u8, Said>,
    now_ms: u64,
    due: BTreeMap<(u8, u8), u64>,
}

impl Model {
    fn at_ms(day: u8) -> u64 {
        // 2026-11-02T09:00Z and so many days.
        START - 5 * HOUR + (u64::from(day) - 14) * DAY
    }
    /// Time passes; what comes due is due by what is said now.
    fn pass(&mut self, to_ms: u64) {
        for (which, said) in &self.said {
            let Some(day) = said.day else { continue };
            let at_ms = Self::at_ms(day);
            if at_ms > self.now_ms && at_ms <= to_ms {
                self.due.entry((*which, day)).or_insert(at_ms);
            }
        }
        self.now_ms = to_ms;
    }
}

async fn play(all: Vec<Happens>) -> Result<(), TestCaseError> {
    let source = before_a_visit("skip", "  per: date\n  while_running: beside\n");
    let mut world = World::with(Mail::Delivers, &source).await;
    let patient = world.patient().await;
    let mut model = Model {
        now_ms: world.now(),
        ..Model::default()
    };
    for one in all {
        match one {
            Happens::Visit(which, day) => {
                // A millisecond, so that no two things are of one.
                world.clock.advance(1);
                model.pass(world.now());
                let start = fhir::date::instant(START - 4 * HOUR + u64::from(day) * DAY);
                visit(&world, &patient, &which.to_string(), &start, "booked").await;
                model.said.insert(which, Said { day: Some(day) });
                // What is written is read before time passes: what nobody has read is not known to be ahead.
                world.drain().await;
            }
            Happens::Cancelled(which) => {
                world.clock.advance(1);
                model.pass(world.now());
                if let Some(said) = model.said.get_mut(&which) {
                    said.day = None;
                    let start = fhir::date::instant(START + 90 * DAY);
                    visit(&world, &patient, &which.to_string(), &start, "cancelled").await;
                    world.drain().await;
                }
            }
            Happens::Passes(hours, followed) => {
                let to_ms = world.now() + u64::from(hours) * HOUR;
                if followed {
                    world.until(to_ms - START).await;
                } else {
                    world.clock.set(to_ms);
                    world.drain().await;
                }
                model.pass(to_ms);
            }
            Happens::Restart => world = world.reopen().await,
            Happens::Crash => world = world.after_crash(),
        }
    }
    let to_ms = START + 80 * DAY;
    model.pass(to_ms);
    world.until(to_ms - START).await;
    let began = began(&world, &patient).await;
    let expected: usize = model.due.len();
    prop_assert_eq!(began.len(), expected, "{:?} {:?}", began, model.due);
    let _ = refused(&world, &patient).await;
    prop_assert_eq!(world.letters().await.len(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn as_many_beginnings_as_dates(all in prop::collection::vec(happens(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(all))?;
    }
}

//! Every step of each starter journey, failed and repeated.
//!
//! The scenarios of the files are played over a real store, all of them once, so that every step is gone through; and
//! those that together go through every step are played again with something going wrong at every single moment at
//! which anything moves: at each act, and at each timer.

use super::scene::{Scene, scenes, since_start};
use super::{Wrong, all, break_off, go_wrong, visited};
use crate::world::{DAY, Mail, TENANT, World};
use journey::STARTERS;
use std::collections::BTreeSet;
use trust::{Action, Role};

/// How long after its last act a play goes on.
const AFTER_MS: u64 = 60 * DAY;
/// After so many moments everything that was ever written is told once more.
const AGAIN: usize = 50;

/// The steps to which nobody comes in these plays, each with why.
const EXEMPT: &[&str] = &[];

struct Cast<'a> {
    scenes: Vec<&'a Scene>,
    patients: Vec<String>,
}

/// Leads them to the end, with something going wrong at each moment, one after the other of these.
async fn lead(mut world: World, cast: &Cast<'_>, wrongs: &[Wrong]) -> (Vec<Vec<String>>, usize) {
    let mut acts: Vec<u64> = cast.scenes.iter().flat_map(|scene| scene.times()).collect();
    acts.sort_unstable();
    acts.dedup();
    let end_ms = acts.last().unwrap() + AFTER_MS;
    let mut acts = acts.into_iter().peekable();
    let (mut moment, mut struck) = (0, 0);
    loop {
        let ledger = world.trust.vault().ledger();
        let due = ledger.next_timer_ms().await.unwrap();
        let due = due.filter(|due_ms| *due_ms <= end_ms);
        // Time passes before somebody does something.
        let act = acts.next_if(|act_ms| due.is_none_or(|due_ms| *act_ms < due_ms));
        let Some(at_ms) = act.or(due) else { break };
        world.clock.set(at_ms.max(world.now()));
        for (scene, patient) in cast.scenes.iter().zip(&cast.patients) {
            if let Some(act_ms) = act {
                scene.act(&world, patient, act_ms).await;
            }
        }
        if let Some(wrong) = wrongs.get(moment % wrongs.len().max(1)) {
            (world, struck) = strike(world, *wrong, struck).await;
            if moment % AGAIN == AGAIN - 1 {
                (world, struck) = strike(world, Wrong::Again, struck).await;
            }
        }
        world.drain().await;
        moment += 1;
    }
    let letters = world.letters().await;
    assert!(letters.is_empty(), "{wrongs:?}: {letters:?}");
    (all(&world, &cast.patients).await, struck)
}

async fn strike(world: World, wrong: Wrong, struck: usize) -> (World, usize) {
    let (world, times) = match wrong {
        // The process ends, and another one begins with what is on the disk.
        Wrong::Unread => (world.after_crash(), 1),
        Wrong::Moved => {
            world.journeys.drain(TENANT).await.unwrap();
            (world.after_crash(), 1)
        }
        Wrong::Broken => {
            let broke = usize::from(break_off(&world).await);
            (world, broke)
        }
        wrong => go_wrong(world, wrong, None).await,
    };
    (world, struck + times)
}

/// The scenes that together come to every step to which any comes, the most useful first.
fn fewest(told: &[Vec<String>]) -> Vec<usize> {
    let steps = |lines: &Vec<String>| -> BTreeSet<String> {
        let lines = lines.iter().filter_map(|line| {
            let (_, rest) = line.split_once(' ')?;
            let (step, _) = rest.split_once(": ")?;
            step.contains('/').then(|| step.to_owned())
        });
        lines.collect()
    };
    let all: Vec<BTreeSet<String>> = told.iter().map(steps).collect();
    let mut missing: BTreeSet<&String> = all.iter().flatten().collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gain = |place: &usize| {
            all[*place]
                .iter()
                .filter(|step| missing.contains(step))
                .count()
        };
        let best = (0..all.len()).rev().max_by_key(gain).unwrap();
        for step in &all[best] {
            missing.remove(step);
        }
        chosen.push(best);
    }
    chosen
}

/// Plays the scenarios of a starter; `others` are live beside it.
async fn failed_and_repeated(name: &str, others: &[&str]) {
    let starter = |name: &str| {
        STARTERS
            .iter()
            .find(|starter| starter.name == name)
            .unwrap()
    };
    let own = starter(name);
    let scenes = scenes(own.journey, own.scenarios);
    let (mut seen, mut steps) = (BTreeSet::new(), BTreeSet::new());
    let mut times = 0;
    for mail in [Mail::Delivers, Mail::Refuses, Mail::Silent] {
        let of_mail: Vec<&Scene> = scenes.iter().filter(|scene| scene.mail == mail).collect();
        if of_mail.is_empty() {
            continue;
        }
        let mut sources = others.iter().map(|other| starter(other).journey);
        let first = sources.next().unwrap_or(own.journey);
        let world = World::with(mail, first).await;
        for source in sources.chain((!others.is_empty()).then_some(own.journey)) {
            world.publish(source).await;
        }
        let mut cast = Cast {
            scenes: of_mail,
            patients: Vec::new(),
        };
        for scene in &cast.scenes {
            since_start(scene.times().next().unwrap());
            cast.patients.push(scene.patient(&world).await);
        }
        world.drain().await;
        let (told, _) = Box::pin(lead(world.after_crash(), &cast, &[])).await;
        seen.extend(visited(&told));
        let permit = world.staff(Role::Squad, Action::Observe).await;
        let graph = world.journeys.graph(&permit, name, None).await.unwrap();
        let nodes = graph.nodes.into_iter();
        let nodes = nodes.filter(|node| !["start", "end"].contains(&node.id.as_str()));
        // What only watches is come to by nobody.
        let nodes = nodes.filter(|node| !["observe", "goal"].contains(&node.kind.as_str()));
        steps.extend(nodes.map(|node| format!("{name}/{}", node.id)));
        let chosen = fewest(&told[..cast.patients.len()]);
        let cast = Cast {
            scenes: chosen.iter().map(|place| cast.scenes[*place]).collect(),
            patients: chosen
                .iter()
                .map(|place| cast.patients[*place].clone())
                .collect(),
        };
        let (expected, _) = Box::pin(lead(world.after_crash(), &cast, &[])).await;
        let in_turn = [Wrong::Unread, Wrong::Moved, Wrong::Cut];
        #[allow(
            clippy::disallowed_methods,
            reason = "how somebody asks for a long run"
        )]
        let all_turns = std::env::var_os("CAIRN_TEST_LARGE").is_some();
        let mut plays: Vec<Vec<Wrong>> = vec![vec![Wrong::Broken], in_turn.to_vec()];
        for turn in (1..in_turn.len()).filter(|_| all_turns) {
            plays.push([&in_turn[turn..], &in_turn[..turn]].concat());
        }
        for wrongs in plays {
            let (found, struck) = Box::pin(lead(world.after_crash(), &cast, &wrongs)).await;
            for (nth, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let scene = cast.scenes.get(nth).map_or("counts", |scene| &scene.name);
                assert_eq!(found, expected, "{wrongs:?} {mail:?}: {scene}");
            }
            times += struck;
        }
    }
    let missed: Vec<&String> = steps.difference(&seen).collect();
    let missed: Vec<&&String> = missed
        .iter()
        .filter(|step| !EXEMPT.contains(&step.as_str()))
        .collect();
    assert!(missed.is_empty(), "nobody comes to {missed:?}");
    assert!(
        times > steps.len(),
        "{times} faults for {} steps",
        steps.len()
    );
}

macro_rules! failed {
    ($($test:ident: $name:literal $others:expr;)*) => {$(
        #[tokio::test]
        async fn $test() {
            Box::pin(failed_and_repeated($name, &$others)).await;
        }
    )*};
}

failed! {
    no_step_of_heart_failure_is_lost_or_doubled: "heart-failure-discharge" [];
    no_step_before_a_hip_replacement_is_lost_or_doubled: "hip-replacement" ["hip-replacement-recovery"];
    no_step_after_a_hip_replacement_is_lost_or_doubled: "hip-replacement-recovery" [];
    no_step_of_a_hip_replacement_called_off_is_lost_or_doubled: "hip-replacement-called-off" [];
    no_step_of_maternity_is_lost_or_doubled: "maternity" ["maternity-after-birth", "maternity-loss"];
    no_step_after_a_birth_is_lost_or_doubled: "maternity-after-birth" [];
    no_step_after_a_loss_is_lost_or_doubled: "maternity-loss" [];
    no_step_of_the_diabetes_review_is_lost_or_doubled: "diabetes-annual-review" [];
    no_step_of_a_preparation_is_lost_or_doubled: "colonoscopy-preparation" [];
    no_step_of_a_colonoscopy_is_lost_or_doubled: "colonoscopy" ["colonoscopy-preparation"];
    no_step_of_an_urgent_referral_is_lost_or_doubled: "cancer-two-week-referral" ["cancer-referral-taken-back"];
    no_step_of_a_referral_taken_back_is_lost_or_doubled: "cancer-referral-taken-back" [];
}

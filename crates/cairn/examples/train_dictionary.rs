//! Makes the compression dictionary of new stores from synthetic patients: our own, and those of
//! gzipped NDJSON files of bundles if some are given.
//!
//! ```text
//! cargo run -p cairn --example train_dictionary -- crates/cairn/assets/fhir-r4-1.dict [BUNDLES.ndjson.gz]
//! ```
//!
//! The one in the tree was made with 206 bundles of Synthea's beside our own, so that it knows more
//! than one program's way of writing FHIR.
//!
//! A dictionary holds pieces of what it was made from, so it is made from nobody's records. Stores
//! keep the dictionaries that they were written with; a new one takes a new file name.

use synthetic::CohortOptions;

/// Above this the gain on single resources is small, and every open body pays for its size in cache.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Enough for zstd's advice of a hundred times the dictionary.
const PATIENTS: u64 = 400;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: train_dictionary FILE")?;
    // Spread over years, so that no year of a date is worth more than others.
    let mut samples = Vec::new();
    for index in 0..PATIENTS {
        let options = CohortOptions {
            seed: index,
            now_ms: 1_600_000_000_000 + index * 1_000_000_000,
            heart_failure_share: 0.25,
        };
        let bundle = synthetic::patient_bundle(&options, index);
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            samples.push(serde_json::to_vec(&entry["resource"])?);
        }
    }
    for path in std::env::args().skip(2) {
        let reader = std::io::BufReader::new(flate2::read::MultiGzDecoder::new(
            std::fs::File::open(path)?,
        ));
        let mut number: usize = 0;
        for line in std::io::BufRead::lines(reader) {
            let bundle: serde_json::Value = serde_json::from_str(&line?)?;
            for entry in bundle["entry"].as_array().into_iter().flatten() {
                // As many as of our own, from all over the file.
                number += 1;
                if number.is_multiple_of(10) {
                    samples.push(serde_json::to_vec(&entry["resource"])?);
                }
            }
        }
    }
    let dictionary = zstd::dict::from_samples(&samples, DICTIONARY_BYTES)?;
    std::fs::write(&path, &dictionary)?;

    // What it is worth, on patients that it has not seen.
    let (mut plain_bytes, mut alone_bytes, mut with_bytes) = (0, 0, 0);
    let mut alone = zstd::bulk::Compressor::new(3)?;
    let mut with = zstd::bulk::Compressor::with_dictionary(3, &dictionary)?;
    for index in PATIENTS..PATIENTS + 50 {
        let options = CohortOptions {
            seed: index,
            now_ms: 1_764_000_000_000,
            heart_failure_share: 0.25,
        };
        let bundle = synthetic::patient_bundle(&options, index);
        for entry in bundle["entry"].as_array().into_iter().flatten() {
            let body = serde_json::to_vec(&entry["resource"])?;
            plain_bytes += body.len();
            alone_bytes += alone.compress(&body)?.len();
            with_bytes += with.compress(&body)?.len();
        }
    }
    use std::io::Write;
    writeln!(
        std::io::stdout(),
        "{} samples; unseen resources: {plain_bytes} bytes plain, {alone_bytes} compressed alone, {with_bytes} with the dictionary",
        samples.len(),
    )?;
    Ok(())
}

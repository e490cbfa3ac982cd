//! The same set by Splink (Ministry of Justice, MIT), in a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::curve::Scored;
use super::{Record, Set};

/// Where `scripts/test` has put the Python with Splink.
#[must_use]
pub fn python() -> PathBuf {
    crate::peers::root().join("target/peers/matching/bin/python")
}

/// What Splink says of a set.
pub struct Answer {
    /// Pairs that it scored, with their bits (log₂ of the odds).
    pub scored: Vec<Scored>,
    /// Its version.
    pub version: String,
    /// Seconds for training and predicting, without the start of Python.
    pub seconds: f64,
}

/// Lets Splink learn on a set without labels, as its own example for FEBRL does, and score its pairs.
///
/// # Errors
/// When Python or Splink fails; what they said is in the error.
pub fn run(set: &Set) -> Result<Answer> {
    let space = tempfile::tempdir()?;
    let (input, output) = (
        space.path().join("records.csv"),
        space.path().join("pairs.csv"),
    );
    fs::write(&input, csv(set))?;
    let script = space.path().join("splink_set.py");
    fs::write(&script, include_str!("splink.py"))?;
    let result = Command::new(python())
        .arg(&script)
        .arg(&input)
        .arg(&output)
        .arg(
            set.second
                .map_or_else(|| "none".to_owned(), |second| second.to_string()),
        )
        .output()
        .with_context(|| format!("{}: scripts/test installs it", python().display()))?;
    let said = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        bail!("Splink failed: {}", String::from_utf8_lossy(&result.stderr));
    }
    let word = |name: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.trim().to_owned())
            .with_context(|| format!("Splink told no {name}: {said}"))
    };
    let mut scored = Vec::new();
    for line in fs::read_to_string(&output)?.lines().skip(1) {
        let mut cells = line.split(',');
        let mut next = || {
            cells
                .next()
                .with_context(|| format!("a pair of Splink's: {line}"))
        };
        let (one, other): (u32, u32) = (next()?.parse()?, next()?.parse()?);
        scored.push((next()?.parse()?, set.is_same(one, other)));
    }
    Ok(Answer {
        scored,
        version: word("version")?,
        seconds: word("seconds")?.parse()?,
    })
}

fn csv(set: &Set) -> String {
    let mut text =
        "unique_id,given_name,middle,surname,sex,date_of_birth,street_number,address_1,address_2,\
                    suburb,postcode,state,soc_sec_id,phone,email\n"
            .to_owned();
    for (number, record) in set.records.iter().enumerate() {
        let Record {
            given,
            middle,
            family,
            sex,
            birth,
            number: house,
            street,
            further,
            city,
            postcode,
            state,
            identifier,
            phone,
            email,
        } = record;
        text += &format!(
            "{number},{given},{middle},{family},{sex},{birth},{house},{street},{further},{city},{postcode},{state},{identifier},{phone},{email}\n"
        );
    }
    text
}

//! What a run of the tests came to, from the JUnit file of `cargo nextest`.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::Test;

/// How a test came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It passed at the first try.
    Passed,
    /// It passed, but not at the first try.
    Flaky,
    /// It failed.
    Failed,
    /// It is not among those that were run.
    NotRun,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Flaky => "passed at another try",
            Self::Failed => "failed",
            Self::NotRun => "not run",
        }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The run's own id, where it has one.
    pub run: Option<String>,
    /// When it began.
    pub began: Option<String>,
    tests: BTreeMap<Test, Ran>,
}

/// One test of a run.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) when: Option<String>,
}

impl Evidence {
    /// Reads a JUnit file.
    ///
    /// # Errors
    /// A sentence, if it is none or is cut.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        let mut evidence = Self::default();
        let mut is_junit = false;
        let mut open = 0_usize;
        let mut under_way: Option<(Test, Ran)> = None;
        loop {
            let event = reader
                .read_event()
                .map_err(|error| format!("not XML at byte {}: {error}", reader.error_position()))?;
            match event {
                Event::Start(start) => {
                    open += 1;
                    is_junit |= evidence.element(&start, &mut under_way)?;
                }
                Event::Empty(start) => {
                    is_junit |= evidence.element(&start, &mut under_way)?;
                    if start.name().as_ref() == "testcase" {
                        evidence.keep(under_way.take());
                    }
                }
                Event::End(end) => {
                    open = open.saturating_sub(1);
                    if end.name().as_ref() == "testcase" {
                        evidence.keep(under_way.take());
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        if !is_junit {
            return Err("no JUnit file: it has no element testsuites".to_owned());
        }
        if open > 0 {
            return Err("the file is cut".to_owned());
        }
        Ok(evidence)
    }

    /// Takes in an element; whether it is that of all suites.
    fn element(
        &mut self,
        start: &BytesStart<'_>,
        under_way: &mut Option<(Test, Ran)>,
    ) -> Result<bool, String> {
        match start.name().as_ref() {
            "testsuites" => {
                self.run = attribute(start, "uuid")?;
                self.began = attribute(start, "timestamp")?;
                return Ok(true);
            }
            "testcase" => {
                let binary = attribute(start, "classname")?;
                let name = attribute(start, "name")?;
                let (Some(binary), Some(name)) = (binary, name) else {
                    return Err("a testcase has no name, or no classname".to_owned());
                };
                let ran = Ran {
                    outcome: Outcome::Passed,
                    when: attribute(start, "timestamp")?,
                };
                *under_way = Some((Test { binary, name }, ran));
            }
            "failure" | "error" => {
                if let Some((_, ran)) = under_way {
                    ran.outcome = Outcome::Failed;
                }
            }
            "flakyFailure" | "flakyError" => {
                if let Some((_, ran)) = under_way
                    && ran.outcome == Outcome::Passed
                {
                    ran.outcome = Outcome::Flaky;
                }
            }
            "skipped" => {
                if let Some((_, ran)) = under_way {
                    ran.outcome = Outcome::NotRun;
                }
            }
            _ => {}
        }
        Ok(false)
    }

    fn keep(&mut self, ran: Option<(Test, Ran)>) {
        let Some((test, ran)) = ran else {
            return;
        };
        // One that is there twice has passed if it has passed each time.
        match self.tests.get(&test) {
            Some(known) if known.outcome == Outcome::Failed => {}
            _ => {
                self.tests.insert(test, ran);
            }
        }
    }

    pub(super) fn of(&self, test: &Test) -> Ran {
        let ran = self.tests.get(test).cloned();
        ran.unwrap_or(Ran {
            outcome: Outcome::NotRun,
            when: None,
        })
    }

    /// How many tests were run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tests.len()
    }

    /// Whether none was run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let found = start
        .try_get_attribute(name)
        .map_err(|error| format!("an attribute can't be read: {error}"))?;
    let Some(found) = found else {
        return Ok(None);
    };
    let text = unescape(&found.value).map_err(|error| format!("the attribute {name}: {error}"))?;
    Ok(Some(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="1" errors="0" uuid="u-1" timestamp="2026-06-01T10:00:00.000+00:00" time="4.2">
  <testsuite name="trust" tests="5" disabled="0" errors="0" failures="1">
    <testcase name="a::passes" classname="trust" timestamp="2026-06-01T10:00:01.000+00:00" time="0.1"/>
    <testcase name="a::fails" classname="trust" time="0.1"><failure type="test failure">&lt;failure/></failure></testcase>
    <testcase name="a::flaky" classname="trust" time="0.1"><flakyFailure type="test failure"/><system-out>x</system-out></testcase>
    <testcase name="a::passes" classname="ledger::postgres" time="0.1"></testcase>
    <testcase name="a::skipped" classname="trust"><skipped/></testcase>
  </testsuite>
</testsuites>"#;

    #[test]
    fn outcomes_are_read() {
        let evidence = Evidence::read(RUN).expect("JUnit");
        assert_eq!(evidence.run.as_deref(), Some("u-1"));
        assert_eq!(
            evidence.began.as_deref(),
            Some("2026-06-01T10:00:00.000+00:00")
        );
        let outcome = |binary: &str, name: &str| {
            let test = Test {
                binary: binary.to_owned(),
                name: name.to_owned(),
            };
            evidence.of(&test).outcome
        };
        assert_eq!(outcome("trust", "a::passes"), Outcome::Passed);
        assert_eq!(outcome("trust", "a::fails"), Outcome::Failed);
        assert_eq!(outcome("trust", "a::flaky"), Outcome::Flaky);
        assert_eq!(outcome("trust", "a::skipped"), Outcome::NotRun);
        assert_eq!(outcome("ledger::postgres", "a::passes"), Outcome::Passed);
        assert_eq!(outcome("ledger::postgres", "a::fails"), Outcome::NotRun);
        assert_eq!(evidence.len(), 5);
    }

    #[test]
    fn what_is_no_whole_run_is_refused() {
        let cut = &RUN[..RUN.len() - 40];
        for (text, words) in [
            ("", "no JUnit file"),
            ("<html></html>", "no JUnit file"),
            (cut, "cut"),
            (
                "<testsuites><testcase name='x'/></testsuites>",
                "no classname",
            ),
            ("<testsuites></other>", "not XML"),
        ] {
            let error = Evidence::read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

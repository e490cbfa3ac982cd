//! Cases as an event log that other tools read: XES (IEEE 1849-2016) and OCEL 2.0 in JSON.
//!
//! A case is written when it comes and not kept. Of the patient there is nothing but activities and times: no name,
//! no id, no value of the record, no word that anybody wrote. Who is who is told by pseudonyms that are made with a
//! key of this log alone, so two logs can't be put together by them. Times are those since each case's start, unless
//! real ones are asked for: dates are what people are found by.

use super::case::{Case, CaseEvent, What};
use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// 2000-01-01T00:00:00Z: when each case starts in a log without real times.
const EPOCH_MS: u64 = 946_684_800_000;

/// Which times stand in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Each case starts on 2000-01-01, and what follows comes as long after that as it did.
    SinceStart,
    /// The real ones.
    Real,
}

impl Times {
    fn of(self, case: &Case, at_ms: u64) -> String {
        fhir::date::instant(match self {
            Self::SinceStart => EPOCH_MS + at_ms.saturating_sub(case.started_ms),
            Self::Real => at_ms,
        })
    }
}

/// Makes the pseudonyms of one log.
#[derive(Clone)]
pub struct Pseudonyms(blake3::Hasher);

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pseudonyms")
    }
}

impl Pseudonyms {
    /// With a key that is used for one log and forgotten.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(key))
    }
    pub(crate) fn of(&self, what: &str, id: &str) -> String {
        let mut hasher = self.0.clone();
        hasher.update(what.as_bytes());
        hasher.update(b"/");
        hasher.update(id.as_bytes());
        let hash = hasher.finalize().to_hex();
        format!("{what}-{}", &hash[..20])
    }
}

/// Where cases go.
pub trait LogSink {
    /// Writes a case, by its pseudonym and its patient's.
    ///
    /// # Errors
    /// What writing fails with.
    fn case(&mut self, id: &str, patient: &str, case: &Case) -> io::Result<()>;
    /// Writes what comes after the last.
    ///
    /// # Errors
    /// What writing fails with.
    fn finish(&mut self) -> io::Result<()>;
}

/// An event's standard transition of its activity's life cycle, and the way that was gone.
fn transitions(event: &CaseEvent) -> &'static [&'static str] {
    match event.what {
        What::Came => &["start"],
        What::Left { .. } => &["complete"],
        What::BrokenOff => &["pi_abort"],
        What::Done => &["start", "complete"],
        What::HandedOver => &["reassign"],
        What::Undelivered | What::ByHand => &[],
    }
}

fn way(event: &CaseEvent) -> Option<&str> {
    match &event.what {
        What::Left { way, .. } => Some(way),
        _ => None,
    }
}

fn state(case: &Case) -> &'static str {
    if case.ended.is_some() {
        "ended"
    } else {
        "running"
    }
}

pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no other control characters.
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A log in XES.
#[derive(Debug)]
pub struct Xes<W> {
    to: W,
    times: Times,
}

impl<W: Write> Xes<W> {
    /// Begins the log of a journey.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn new(mut to: W, journey: &str, times: Times) -> io::Result<Self> {
        write!(
            to,
            r#"<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849-2016" xes.features="" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
<extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
<global scope="trace"><string key="concept:name" value=""/></global>
<global scope="event"><string key="concept:name" value=""/><date key="time:timestamp" value="2000-01-01T00:00:00.000Z"/><string key="lifecycle:transition" value="start"/></global>
<classifier name="Step" keys="concept:name"/>
<classifier name="Step and transition" keys="concept:name lifecycle:transition"/>
<string key="concept:name" value="{}"/>
<string key="lifecycle:model" value="standard"/>
"#,
            escape(journey)
        )?;
        Ok(Self { to, times })
    }
}

impl<W: Write> LogSink for Xes<W> {
    fn case(&mut self, id: &str, patient: &str, case: &Case) -> io::Result<()> {
        let to = &mut self.to;
        let string = |to: &mut W, key: &str, value: &str| {
            let (key, value) = (escape(key), escape(value));
            write!(to, "<string key=\"{key}\" value=\"{value}\"/>")
        };
        to.write_all(b"<trace>")?;
        string(to, "concept:name", id)?;
        string(to, "patient", patient)?;
        write!(to, "<int key=\"version\" value=\"{}\"/>", case.version)?;
        string(to, "state", state(case))?;
        for (experiment, arm) in &case.arms {
            string(to, &format!("arm:{experiment}"), arm)?;
        }
        to.write_all(b"\n")?;
        for event in &case.events {
            for transition in transitions(event) {
                to.write_all(b"<event>")?;
                string(to, "concept:name", &event.activity)?;
                let time = self.times.of(case, event.at_ms);
                write!(to, "<date key=\"time:timestamp\" value=\"{time}\"/>")?;
                string(to, "lifecycle:transition", transition)?;
                if let Some(way) = way(event) {
                    string(to, "way", way)?;
                }
                to.write_all(b"</event>\n")?;
            }
        }
        to.write_all(b"</trace>\n")
    }
    fn finish(&mut self) -> io::Result<()> {
        self.to.write_all(b"</log>\n")?;
        self.to.flush()
    }
}

/// A log in OCEL 2.0, as JSON. The objects are journeys and patients.
#[derive(Debug)]
pub struct Ocel<W, S> {
    to: W,
    /// The objects, which stand behind the events.
    objects: S,
    times: Times,
    activities: BTreeSet<String>,
    experiments: BTreeSet<String>,
    /// Patients that were written, by a hash: there is one object for each, however many journeys they have.
    patients: HashSet<[u8; 16]>,
    events: u64,
    cases: u64,
}

fn json(value: &str) -> serde_json::Value {
    serde_json::Value::from(value)
}

impl<W: Write, S: Read + Write + Seek> Ocel<W, S> {
    /// Begins a log; what is written to `objects` meanwhile is of no use to anybody else.
    ///
    /// # Errors
    /// What writing fails with.
    pub fn new(mut to: W, objects: S, times: Times) -> io::Result<Self> {
        to.write_all(b"{\"events\":[")?;
        Ok(Self {
            to,
            objects,
            times,
            activities: BTreeSet::new(),
            experiments: BTreeSet::new(),
            patients: HashSet::new(),
            events: 0,
            cases: 0,
        })
    }
}

impl<W: Write, S: Read + Write + Seek> LogSink for Ocel<W, S> {
    fn case(&mut self, id: &str, patient: &str, case: &Case) -> io::Result<()> {
        let time = self.times.of(case, case.started_ms);
        let attribute = |name: &str, value: serde_json::Value| serde_json::json!({"name": name, "time": time, "value": value});
        let mut attributes = vec![
            attribute("version", case.version.into()),
            attribute("state", json(state(case))),
        ];
        for (experiment, arm) in &case.arms {
            let name = format!("arm:{experiment}");
            attributes.push(attribute(&name, json(arm)));
            self.experiments.insert(name);
        }
        let object = serde_json::json!({
            "id": id, "type": "journey", "attributes": attributes,
            "relationships": [{"objectId": patient, "qualifier": "of"}],
        });
        let comma = if self.cases == 0 { "" } else { "," };
        write!(self.objects, "{comma}\n{object}")?;
        self.cases += 1;
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(patient.as_bytes()).as_bytes()[..16]);
        if self.patients.insert(hash) {
            let person = serde_json::json!({"id": patient, "type": "patient", "attributes": []});
            write!(self.objects, ",\n{person}")?;
        }
        for event in &case.events {
            for transition in transitions(event) {
                let mut attributes =
                    vec![serde_json::json!({"name": "lifecycle", "value": transition})];
                if let Some(way) = way(event) {
                    attributes.push(serde_json::json!({"name": "way", "value": way}));
                }
                let written = serde_json::json!({
                    "id": format!("e{}", self.events),
                    "type": event.activity,
                    "time": self.times.of(case, event.at_ms),
                    "attributes": attributes,
                    "relationships": [{"objectId": id, "qualifier": "in"}],
                });
                let comma = if self.events == 0 { "" } else { "," };
                write!(self.to, "{comma}\n{written}")?;
                self.events += 1;
            }
            if !self.activities.contains(&event.activity) && !transitions(event).is_empty() {
                self.activities.insert(event.activity.clone());
            }
        }
        Ok(())
    }
    fn finish(&mut self) -> io::Result<()> {
        let text = |name: &str| serde_json::json!({"name": name, "type": "string"});
        let types: Vec<serde_json::Value> = self
            .activities
            .iter()
            .map(|activity| {
                serde_json::json!({"name": activity, "attributes": [text("lifecycle"), text("way")]})
            })
            .collect();
        let mut of_journey = vec![
            serde_json::json!({"name": "version", "type": "integer"}),
            text("state"),
        ];
        of_journey.extend(self.experiments.iter().map(|name| text(name)));
        let objects = serde_json::json!([
            {"name": "journey", "attributes": of_journey},
            {"name": "patient", "attributes": []},
        ]);
        write!(
            self.to,
            "],\n\"eventTypes\":{},\n\"objectTypes\":{objects},\n\"objects\":[",
            serde_json::Value::from(types)
        )?;
        self.objects.flush()?;
        self.objects.seek(SeekFrom::Start(0))?;
        io::copy(&mut self.objects, &mut self.to)?;
        self.to.write_all(b"]}\n")?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        Case {
            version: 2,
            started_ms: 1_793_628_000_000,
            ended: Some((1_793_628_060_000, "completed".to_owned())),
            arms: [("two".to_owned(), "a<b".to_owned())].into(),
            events: vec![
                CaseEvent {
                    at_ms: 1_793_628_000_000,
                    activity: "form".to_owned(),
                    what: What::Came,
                },
                CaseEvent {
                    at_ms: 1_793_628_060_000,
                    activity: "form".to_owned(),
                    what: What::Left {
                        way: "answered".to_owned(),
                        since_ms: 1_793_628_000_000,
                    },
                },
                CaseEvent {
                    at_ms: 1_793_628_060_000,
                    activity: "end:completed".to_owned(),
                    what: What::Done,
                },
            ],
            ..Case::default()
        }
    }

    #[test]
    fn a_log_has_times_since_the_start_unless_real_ones_are_asked_for() {
        let mut text = Vec::new();
        let mut log = Xes::new(&mut text, "small", Times::SinceStart).unwrap();
        log.case("journey-1", "patient-1", &case()).unwrap();
        log.finish().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("2000-01-01T00:01:00.000Z") && !text.contains("2026-"),
            "{text}"
        );
        assert!(text.contains("value=\"a&lt;b\""), "{text}");
        assert_eq!(text.matches("<event>").count(), 4);
        let mut text = Vec::new();
        let mut log = Xes::new(&mut text, "small", Times::Real).unwrap();
        log.case("journey-1", "patient-1", &case()).unwrap();
        assert!(
            String::from_utf8(text)
                .unwrap()
                .contains("2026-11-02T14:00:00.000Z")
        );
    }

    #[test]
    fn objects_of_an_ocel_log_are_there_once() {
        let mut text = Vec::new();
        let objects = io::Cursor::new(Vec::new());
        let mut log = Ocel::new(&mut text, objects, Times::SinceStart).unwrap();
        log.case("journey-1", "patient-1", &case()).unwrap();
        log.case("journey-2", "patient-1", &case()).unwrap();
        log.finish().unwrap();
        let log: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(log["objects"].as_array().unwrap().len(), 3);
        assert_eq!(log["events"].as_array().unwrap().len(), 8);
        assert_eq!(log["eventTypes"].as_array().unwrap().len(), 2);
        let mut text = Vec::new();
        let objects = io::Cursor::new(Vec::new());
        let mut empty = Ocel::new(&mut text, objects, Times::SinceStart).unwrap();
        empty.finish().unwrap();
        let log: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(log["objects"], serde_json::json!([]));
    }

    #[test]
    fn pseudonyms_are_of_one_log() {
        let (one, other) = (Pseudonyms::new(&[1; 32]), Pseudonyms::new(&[2; 32]));
        assert_eq!(one.of("journey", "x"), one.of("journey", "x"));
        assert_ne!(one.of("journey", "x"), other.of("journey", "x"));
        assert_ne!(one.of("journey", "x")[8..], one.of("patient", "x")[8..]);
    }
}

//! What is asked of a server, of any server: the same for all that are measured.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::load;
use super::wire::{Door, Wire};
use crate::random::Random;

/// All of a patient's record, the one measure whose answers differ in size by much.
pub(super) const EVERYTHING: &str = "Patient $everything";

/// All kinds of requests.
///
/// # Errors
/// When there is nothing to ask for.
pub(super) fn all(ids: &Ids) -> Result<Vec<(&'static str, load::Request)>> {
    let patients = ids.patients.len() as u64;
    let observations = ids.observations.len() as u64;
    ensure!(
        patients > 0 && observations > 0,
        "the input has patients and observations"
    );
    Ok(vec![
        (
            "read Observation",
            Box::new({
                let ids = ids.observations.clone();
                move |random: &mut Random| {
                    load::Call::Get(format!(
                        "Observation/{}",
                        ids[random.below(observations) as usize]
                    ))
                }
            }),
        ),
        (
            "search Patient by family and birthdate",
            Box::new({
                let ids = ids.names.clone();
                move |random: &mut Random| {
                    let (family, born) = &ids[random.below(patients) as usize];
                    load::Call::Get(format!("Patient?family={family}&birthdate={born}"))
                }
            }),
        ),
        (
            "search Observation by subject, code, date (20 rows)",
            Box::new({
                let ids = ids.patients.clone();
                move |random: &mut Random| {
                    load::Call::Get(format!(
                        "Observation?subject=Patient/{}&code=http://loinc.org|29463-7&date=ge2000-01-01&_count=20",
                        ids[random.below(patients) as usize]
                    ))
                }
            }),
        ),
        (
            EVERYTHING,
            Box::new({
                let ids = ids.patients.clone();
                move |random: &mut Random| {
                    let patient = &ids[random.below(patients) as usize];
                    load::Call::Get(format!("Patient/{patient}/$everything?_count=1000"))
                }
            }),
        ),
        (
            "create Observation",
            Box::new({
                let ids = ids.patients.clone();
                move |random: &mut Random| {
                    load::Call::Post(
                        "Observation".to_owned(),
                        weight(&ids[random.below(patients) as usize], random),
                    )
                }
            }),
        ),
    ])
}

fn weight(patient: &str, random: &mut Random) -> Bytes {
    let weight = json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "effectiveDateTime": "2026-01-15T08:00:00Z",
        "valueQuantity": {"value": 60 + random.below(40), "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    });
    weight.to_string().into()
}

/// What there is to ask for.
pub(super) struct Ids {
    patients: Vec<String>,
    names: Vec<(String, String)>,
    observations: Vec<String>,
}

impl Ids {
    /// Walks the pages of a search; about `most` resources.
    async fn pages(wire: &mut Wire, query: &str, most: usize) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut path = query.to_owned();
        loop {
            let bundle = get(wire, &path).await?;
            for entry in bundle["entry"].as_array().into_iter().flatten() {
                found.push(entry["resource"].clone());
            }
            let next = bundle["link"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|link| link["relation"] == "next")
                .and_then(|link| link["url"].as_str());
            // Servers differ in what they call themselves, but not in how a search is asked.
            let kind = query.split('?').next().unwrap_or_default();
            match next.and_then(|url| Some(&url[url.find(&format!("{kind}?"))?..])) {
                Some(next) if found.len() < most => next.clone_into(&mut path),
                _ => return Ok(found),
            }
        }
    }

    /// Some patients and observations of a server.
    ///
    /// # Errors
    /// When it answers wrongly.
    pub(super) async fn collect(door: &Door) -> Result<Self> {
        let mut wire = Wire::open(door).await?;
        let all = Self::pages(&mut wire, "Patient?_count=200", 2000).await?;
        let observations = Self::pages(&mut wire, "Observation?_count=200", 2000).await?;
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        Ok(Self {
            patients: all.iter().map(|patient| text(&patient["id"])).collect(),
            names: all
                .iter()
                .map(|patient| {
                    (
                        text(&patient["name"][0]["family"]).replace(' ', "%20"),
                        text(&patient["birthDate"]),
                    )
                })
                .collect(),
            observations: observations
                .iter()
                .map(|observation| text(&observation["id"]))
                .collect(),
        })
    }
}

async fn get(wire: &mut Wire, path: &str) -> Result<Value> {
    let (status, body) = wire.ask(Method::GET, path, Bytes::new()).await?;
    ensure!(status == 200, "GET {path}: {status}");
    serde_json::from_slice(&body).context("an answer that is no JSON")
}

/// How many resources a server says that it has.
///
/// # Errors
/// When it answers wrongly.
pub(super) async fn count(door: &Door) -> Result<u64> {
    let mut wire = Wire::open(door).await?;
    let capabilities = get(&mut wire, "metadata").await?;
    let kinds = capabilities["rest"][0]["resource"].as_array();
    // The audit grows with each question.
    let kinds = (kinds.into_iter().flatten())
        .filter_map(|resource| resource["type"].as_str())
        .filter(|kind| *kind != "AuditEvent");
    let mut total = 0;
    for kind in kinds {
        let bundle = get(&mut wire, &format!("{kind}?_count=1&_total=accurate")).await?;
        total += bundle["total"].as_u64().unwrap_or(0);
    }
    Ok(total)
}

//! What clients write: the story of each patient, and the hands of patients and staff who do what journeys ask of
//! them. All that is acknowledged is noted in a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::door::Door;
use super::people;
use crate::random::Random;

const DAY_MS: u64 = 86_400_000;
/// Times that journeys wait for lie so far ahead at most: among the kills.
const AHEAD_MS: u64 = 6_000;
/// The longest pause between two facts of one patient.
const PAUSE_MS: u64 = 300;
/// How often the lists of work are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Rows of one look.
const AT_ONCE: usize = 50;

/// Something that the server said was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Where it lies: `Observation/ID`.
    pub place: String,
    /// The `Idempotency-Key` under which it was asked for, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// All that was acknowledged, in a file.
pub struct Facts(Mutex<File>);

impl Facts {
    /// A new file.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).with_context(|| path.display().to_string())?;
        Ok(Self(Mutex::new(file)))
    }

    fn acknowledged(&self, fact: &Fact) -> Result<()> {
        let mut line = serde_json::to_vec(fact)?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)?;
        Ok(())
    }

    /// What is in a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(path: &Path) -> Result<Vec<Fact>> {
        let text = std::fs::read_to_string(path)?;
        let facts = text.lines().map(serde_json::from_str);
        Ok(facts.collect::<Result<_, _>>()?)
    }
}

/// A place without its version.
fn place(location: &str) -> String {
    let place = location.split("/_history/").next().unwrap_or(location);
    place.to_owned()
}

async fn put(door: &Door, facts: &Facts, resource: &Value) -> Result<()> {
    let part = |name: &str| resource[name].as_str().unwrap_or_default();
    let path = format!("{}/{}", part("resourceType"), part("id"));
    door.ask(Method::PUT, &path, &[], Some(resource)).await?;
    let fact = Fact {
        place: path,
        key: None,
    };
    facts.acknowledged(&fact)
}

async fn post(door: &Door, facts: &Facts, key: &str, resource: &Value) -> Result<()> {
    let path = resource["resourceType"].as_str().unwrap_or_default();
    let headers = [("idempotency-key", key)];
    let (_, location, _) = door
        .ask(Method::POST, path, &headers, Some(resource))
        .await?;
    facts.acknowledged(&Fact {
        place: place(&location),
        key: Some(key.to_owned()),
    })
}

/// Everything that is written of a patient, in order; each until it is acknowledged.
///
/// # Errors
/// When the server turns something down.
pub async fn story(door: &Door, facts: &Facts, number: usize, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut rest = async || sleep(Duration::from_millis(random.below(PAUSE_MS))).await;
    let mut ahead = Random::new(!seed);
    let mut soon = |more_ms: u64| {
        let at = people::now_ms() + more_ms + 1_000 + ahead.below(AHEAD_MS - 1_000);
        fhir::date::instant(at)
    };
    put(door, facts, &people::patient(number)).await?;
    rest().await;
    put(door, facts, &people::encounter(number, &soon(0))).await?;
    for (day, kg) in [(2, 80.0), (1, 81.0), (0, 83.5)] {
        rest().await;
        // After the end of the stay, from which on a weight counts that has risen.
        let at = fhir::date::instant(people::now_ms() + AHEAD_MS - day * DAY_MS);
        let key = format!("weight-{number}-{day}");
        post(door, facts, &key, &people::weight(number, kg, &at)).await?;
    }
    rest().await;
    put(
        door,
        facts,
        &people::visit(number, &soon(14 * DAY_MS), "booked"),
    )
    .await?;
    rest().await;
    let key = format!("operation-{number}");
    post(door, facts, &key, &people::operation(number)).await
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The header by which nobody overwrites what they haven't read.
fn version(resource: &Value) -> String {
    format!("W/\"{}\"", text(&resource["meta"], "versionId"))
}

/// Writes what was read and changed, unless somebody else has changed it since.
async fn change(door: &Door, facts: &Facts, resource: &Value) -> Result<()> {
    let path = format!(
        "{}/{}",
        text(resource, "resourceType"),
        text(resource, "id")
    );
    let version = version(resource);
    let headers = [("if-match", version.as_str())];
    let (status, ..) = door
        .ask(Method::PUT, &path, &headers, Some(resource))
        .await?;
    if status == 412 {
        // It was changed by the attempt of which no answer came, or by the journey. The next look tells.
        return Ok(());
    }
    facts.acknowledged(&Fact {
        place: path,
        key: None,
    })
}

/// Answers a form, as the portal does: the answers and the end of the task in one.
async fn answer(door: &Door, facts: &Facts, mut form: Value) -> Result<()> {
    let (id, subject) = (text(&form, "id").to_owned(), form["for"].clone());
    form["status"] = json!("completed");
    let response = json!({
        "resourceType": "QuestionnaireResponse", "status": "completed",
        "authored": fhir::date::instant(people::now_ms()),
        "identifier": {"system": "urn:cairn:task", "value": id},
        "questionnaire": form["input"][0]["valueCanonical"],
        "subject": subject, "source": subject,
        "item": [{"linkId": "well", "answer": [{"valueBoolean": false}]}],
    });
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"resource": response, "request": {"method": "POST", "url": "QuestionnaireResponse"}},
        {"resource": form, "request": {"method": "PUT", "url": format!("Task/{id}")}},
    ]});
    let key = format!("answer-{id}");
    let headers = [("idempotency-key", key.as_str())];
    let (_, _, said) = door.ask(Method::POST, "", &headers, Some(&bundle)).await?;
    for entry in said["entry"].as_array().into_iter().flatten() {
        let location = entry["response"]["location"].as_str().unwrap_or_default();
        let location = location.rsplit("/fhir/r4/").next().unwrap_or("");
        facts.acknowledged(&Fact {
            place: place(location),
            key: Some(key.clone()),
        })?;
    }
    Ok(())
}

/// Has a visit booked and then take place.
async fn visit(door: &Door, facts: &Facts, id: &str) -> Result<()> {
    loop {
        let mut visit = door.get(&format!("Appointment/{id}")).await?;
        let next = match text(&visit, "status") {
            "proposed" => "booked",
            "booked" => "fulfilled",
            _ => return Ok(()),
        };
        visit["status"] = json!(next);
        change(door, facts, &visit).await?;
    }
}

async fn done(door: &Door, facts: &Facts, mut task: Value) -> Result<()> {
    task["status"] = json!("completed");
    change(door, facts, &task).await
}

/// Patients and staff: what journeys ask of them they do, until there is nothing to do when they are told to stop.
///
/// # Errors
/// When the server turns something down.
pub async fn hands(
    door: Door,
    facts: std::sync::Arc<Facts>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        let last = *stop.borrow();
        let mut work = JoinSet::new();
        let look = |query: &str| format!("{query}&_count={AT_ONCE}");
        let open = "Task?status=requested&code=";
        for form in page(&door, &look(&format!("{open}complete-questionnaire"))).await? {
            let (door, facts) = (door.clone(), facts.clone());
            work.spawn(async move { answer(&door, &facts, form).await });
        }
        for task in page(&door, &look(&format!("{open}staff-task"))).await? {
            let (door, facts) = (door.clone(), facts.clone());
            work.spawn(async move { done(&door, &facts, task).await });
        }
        for proposed in page(&door, &look("Appointment?status=proposed")).await? {
            let (door, facts) = (door.clone(), facts.clone());
            let id = text(&proposed, "id").to_owned();
            work.spawn(async move { visit(&door, &facts, &id).await });
        }
        if work.is_empty() {
            if last {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        while let Some(one) = work.join_next().await {
            one??;
        }
    }
}

/// The first page of a search; the next look has the others.
async fn page(door: &Door, query: &str) -> Result<Vec<Value>> {
    Ok(people::entries(&door.get(query).await?))
}

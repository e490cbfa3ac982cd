//! The service: what is asked for, done under the caller's own permit over the patients of the record.

mod beside;
mod choosing;
mod writing;

use std::sync::Arc;

use fhir::search::SearchQuery;
use fhir::{IssueCode, Resource, ResourceType};
use record::{Caller, Record, RecordError};
use serde_json::{Value, json};
use trust::{
    Action, Agent, Permit, Role, Shelf, Shelved, Target, Trust, TrustError, Vault, Versioned,
};

use self::choosing::{Chosen, Limit, Way};
use super::alike::Alike;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::score::{hides, score};
use super::trace::{Mode, Trace};
use super::view::{self, Confidentiality};
use crate::matching::Person;

/// The most rows of the record that one trace goes through. A trace that would need more is told to say more.
pub const LOOKED_AT_MAX: usize = 2_000;
/// How often a record can have been replaced by another that was.
const REPLACED_MAX: usize = 8;

/// What is answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// HTTP status.
    pub status: u16,
    /// Version of the patient, for the `ETag`.
    pub version: Option<u32>,
    /// The body.
    pub body: Value,
}

/// What a client asks of what was changed: parameters of a history.
pub type Changes = Vec<(String, String)>;

/// Why something is not answered, and the story inside for the log.
#[derive(Debug)]
pub struct Failure {
    /// What is told.
    pub refusal: Refusal,
    /// What isn't, without patient details.
    pub inside: Option<String>,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            inside: None,
        }
    }
}

/// Demographics of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Demographics {
    trust: Trust,
    record: Record,
    rules: Arc<Rules>,
    /// Where the service is reached, without a slash at the end.
    base: Arc<str>,
    /// Patients who are looked for again and again, kept opened, with who they are to the matcher.
    shelf: Arc<Shelf<Person>>,
}

/// A patient who was found by number.
struct Found {
    row: Versioned,
    /// Whether another record has taken the place of the one that the number was of.
    superseded: bool,
}

impl Demographics {
    /// Over the record, reached at `base`.
    #[must_use]
    pub fn new(trust: Trust, record: Record, rules: Rules, base: &str) -> Self {
        Self {
            trust,
            record,
            rules: Arc::new(rules),
            base: base.into(),
            shelf: Arc::new(Shelf::new(2 * LOOKED_AT_MAX, |resource| {
                Person::of(resource.as_value())
            })),
        }
    }
    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
    /// How the rules know somebody.
    #[must_use]
    pub fn mode(agent: &Agent) -> Mode {
        match agent.role {
            Role::Patient | Role::Proxy => Mode::Patient,
            Role::Client | Role::System | Role::Steerer => Mode::Application,
            _ => Mode::Worker,
        }
    }
    fn vault(&self) -> &Vault {
        self.trust.vault()
    }
    fn now(&self) -> String {
        let now_ms = self.vault().ledger().clock().now_ms();
        let instant = fhir::date::instant(now_ms);
        format!("{}+00:00", instant.get(..19).unwrap_or(&instant))
    }
    /// Today, by the clock that records are numbered by.
    fn today(&self) -> String {
        self.now().get(..10).unwrap_or_default().to_owned()
    }
    async fn permit(
        &self,
        caller: &Caller,
        action: Action,
        (kind, patient): (ResourceType, Option<String>),
    ) -> Result<Permit, Failure> {
        let target = Target {
            kind: Some(kind),
            patient,
        };
        let (agent, purpose) = (&caller.agent, caller.purpose);
        let decided = self
            .trust
            .decide(agent, purpose, action, target, &caller.request_id);
        let permit = decided.await.map_err(|error| of_trust(caller, error))?;
        Ok(permit
            .with(caller.freshness.clone())
            .once(caller.once.clone()))
    }

    /// A patient by number.
    ///
    /// # Errors
    /// That the number can be nobody's, that there is nobody of it, that the record is not to be used, or what
    /// the record refuses.
    pub async fn retrieve(&self, caller: &Caller, number: &str) -> Result<Told, Failure> {
        let found = self.find(caller, number).await?;
        self.told_whole(200, &found.row.resource, found.row.version)
    }

    fn told_whole(&self, status: u16, resource: &Resource, version: u32) -> Result<Told, Failure> {
        let body = view::whole(&self.rules, resource, version).ok_or_else(nobody)?;
        Ok(Told {
            status,
            version: Some(version),
            body,
        })
    }

    /// The patient of a number, or whose record has taken the place of that one.
    async fn find(&self, caller: &Caller, number: &str) -> Result<Found, Failure> {
        if !self.rules.is_number(number) {
            return Err(Refusal::bare(Code::InvalidResourceId).into());
        }
        let mode = Self::mode(&caller.agent);
        let mut rows = match mode {
            Mode::Patient => {
                let own = caller.agent.patient.as_deref().unwrap_or_default();
                let row = self.read(caller, own).await?;
                let row = row.filter(|row| has_number(&self.rules, &row.resource, number));
                vec![row.ok_or_else(|| denied(Mode::Patient))?]
            }
            _ => self.rows_of(caller, number).await?,
        };
        // A record that has the number now is before one that had it once, and one that is used before others.
        let is_now = |row: &Versioned| view::number(&self.rules, &row.resource) == Some(number);
        if rows.iter().any(is_now) {
            rows.retain(is_now);
        }
        let is_used = |row: &Versioned| {
            view::replaced_by(&row.resource).is_none()
                && Confidentiality::of(&row.resource) != Confidentiality::Redacted
        };
        if rows.iter().any(is_used) {
            rows.retain(is_used);
        }
        if rows.len() > 1 {
            let words = "several records have this number";
            let refusal = Refusal::new(Code::MultipleMatches, words);
            return Err(Refusal {
                status: Some(409),
                ..refusal
            }
            .into());
        }
        let mut row = rows.pop().ok_or_else(nobody)?;
        let mut superseded = view::number(&self.rules, &row.resource) != Some(number);
        for _ in 0..REPLACED_MAX {
            let Some(next) = view::replaced_by(&row.resource).map(str::to_owned) else {
                break;
            };
            superseded = true;
            row = self.read(caller, &next).await?.ok_or_else(nobody)?;
        }
        if view::replaced_by(&row.resource).is_some() {
            return Err(nobody());
        }
        if Confidentiality::of(&row.resource) == Confidentiality::Redacted {
            return Err(Refusal::bare(Code::InvalidatedResource).into());
        }
        Ok(Found { row, superseded })
    }

    async fn read(&self, caller: &Caller, id: &str) -> Result<Option<Versioned>, Failure> {
        let kind = ResourceType::Patient;
        let target = (kind, Some(id.to_owned()));
        let permit = self.permit(caller, Action::Read, target).await?;
        let row = self.vault().read(&permit, kind, id).await;
        let row = row.map_err(|error| of_trust(caller, error))?;
        Ok(row.filter(|row| !row.deleted))
    }

    async fn rows_of(&self, caller: &Caller, number: &str) -> Result<Vec<Versioned>, Failure> {
        let kind = ResourceType::Patient;
        let permit = self.permit(caller, Action::Search, (kind, None)).await?;
        let identifier = format!("{}|{number}", self.rules.identifier_system);
        let query = query(kind, &[("identifier", &identifier)], 10)?;
        let page = self.vault().search(&permit, &query, None).await;
        Ok(page.map_err(|error| of_trust(caller, error))?.rows)
    }

    /// Patients who are as the parameters say. `standard` answers a list with a total, and the best of them,
    /// where there are more than fit.
    ///
    /// # Errors
    /// What is wrong with the parameters, or what the record refuses.
    pub async fn search(
        &self,
        caller: &Caller,
        parameters: &[(String, String)],
        standard: bool,
    ) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode == Mode::Patient {
            return Err(denied(mode));
        }
        let trace = Trace::parse(&self.rules, mode, parameters)?;
        let limit = Limit {
            most: trace.results_max,
            best: standard && mode != Mode::Application,
        };
        let today = self.today();
        let chosen = if trace.fuzzy {
            let alike = Alike::of(&trace);
            let scored = |row: &Shelved<Person>, told: Option<&Resource>| {
                let is_hidden = told.is_some_and(|told| hides(&trace, told));
                let score = || alike.score(&trace, row.resource(), row.made(), &today);
                if is_hidden { None } else { score() }
            };
            self.choose(caller, &alike.ways(&trace), &scored, limit)
                .await?
        } else {
            let scored = |row: &Shelved<Person>, told: Option<&Resource>| {
                let is_hidden = told.is_some_and(|told| hides(&trace, told));
                let score = || score(&trace, row.resource(), &today);
                if is_hidden { None } else { score() }
            };
            self.choose(caller, &[way(&trace)], &scored, limit).await?
        };
        let Chosen { total, rows, .. } = chosen;
        if total > limit.most && !limit.best {
            return Err(Refusal::bare(Code::TooManyMatches).into());
        }
        let mut entries: Vec<Value> = rows
            .iter()
            .filter_map(|(score, row)| self.entry(*score, row, standard))
            .collect();
        if total > trace.results_max {
            let words = format!("the best {} of {total} are shown", entries.len());
            let outcome = Refusal::new(Code::TooManyMatches, words).to_json(&self.rules);
            entries.push(json!({"resource": outcome, "search": {"mode": "outcome"}}));
        }
        Ok(self.bundle(total, entries, None))
    }

    fn entry(&self, score: f64, row: &Versioned, standard: bool) -> Option<Value> {
        let resource = view::found(&self.rules, &row.resource, row.version)?;
        let url = format!(
            "{}/Patient/{}",
            self.base,
            resource["id"].as_str().unwrap_or_default()
        );
        let mut entry = json!({"fullUrl": url, "search": {"score": score}, "resource": resource});
        if standard {
            entry["search"]["mode"] = json!("match");
        }
        Some(entry)
    }

    fn bundle(&self, total: usize, entries: Vec<Value>, version: Option<u32>) -> Told {
        let mut body = json!({
            "resourceType": "Bundle",
            "type": "searchset",
            "timestamp": self.now(),
            "total": total,
        });
        if !entries.is_empty() {
            body["entry"] = Value::Array(entries);
        }
        Told {
            status: 200,
            version,
            body,
        }
    }
}

/// What the record is asked for, so that whoever is just as a trace says is among the rows.
fn way(trace: &Trace) -> Way {
    let mut asked = Vec::new();
    if let Some(family) = &trace.family {
        asked.push(("family", family.prefix().to_owned()));
    }
    if let Some(given) = trace.given.first() {
        asked.push(("given", given.prefix().to_owned()));
    }
    if let Some(gender) = &trace.gender {
        asked.push(("gender", gender.clone()));
    }
    if let Some(birth) = &trace.birth {
        asked.extend(birth.asked("birthdate"));
    }
    asked
}

fn query(kind: ResourceType, asked: &[(&str, &str)], count: usize) -> Result<SearchQuery, Failure> {
    let pairs: Vec<(String, String)> = asked
        .iter()
        .map(|(name, value)| {
            // A filter's texts are marked as it is made.
            let is_filter = *name == "_filter";
            let value = if is_filter {
                (*value).to_owned()
            } else {
                escaped(value)
            };
            ((*name).to_owned(), value)
        })
        .collect();
    let mut query = parsed(kind, &pairs)?;
    query.count = count;
    Ok(query)
}

fn parsed(kind: ResourceType, pairs: &[(String, String)]) -> Result<SearchQuery, Failure> {
    let query = SearchQuery::parse(kind, pairs, false);
    // What the rules have let through the record may still not take: a name of nothing but marks.
    let query = query.map_err(|_| Refusal::search("the parameters can't be searched for"))?;
    Ok(query)
}

/// A value in which `,`, `$` and `\` mean themselves (R4, section 3.1.1.3.1); `|` keeps its meaning.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, ',' | '$' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Whether a patient has a number, or had it.
fn has_number(rules: &Rules, resource: &Resource, number: &str) -> bool {
    let identifiers = resource.get("identifier").and_then(Value::as_array);
    let mut identifiers = identifiers.into_iter().flatten();
    identifiers
        .any(|one| one["system"] == rules.identifier_system.as_str() && one["value"] == number)
}

fn nobody() -> Failure {
    Refusal::bare(Code::ResourceNotFound).into()
}

fn no_version() -> Failure {
    let words =
        "Invalid request with error - If-Match header must be supplied to update this resource";
    Refusal::new(Code::PreconditionFailed, words).into()
}

fn named(mode: Mode) -> &'static str {
    match mode {
        Mode::Worker => "healthcare-worker",
        Mode::Application => "application-restricted",
        Mode::Patient => "patient-access",
    }
}

/// Who may not.
fn denied(mode: Mode) -> Failure {
    let refusal = Refusal::bare(Code::AccessDenied);
    let refusal = match mode {
        Mode::Patient => Refusal {
            words: Some("Your access token has insufficient permissions.".to_owned()),
            ..refusal
        },
        mode => Refusal {
            words: Some("Your app has insufficient permissions to use this operation.".to_owned()),
            ..refusal
        }
        .shown(format!(
            "Cannot use resource with {} access token",
            named(mode)
        )),
    };
    refusal.into()
}

/// What trust or the store said, as this service tells it.
fn of_trust(caller: &Caller, error: TrustError) -> Failure {
    if let TrustError::TooCostly(_) = error {
        return Refusal::bare(Code::TooManyMatches).into();
    }
    of_record(caller, RecordError::of(error, caller))
}

/// What the record said.
fn of_record(caller: &Caller, error: RecordError) -> Failure {
    let RecordError {
        status,
        outcome,
        inside,
    } = error;
    let issue = outcome.issues.first();
    let is_reused = issue.is_some_and(|issue| issue.code == IssueCode::Duplicate);
    let bare = |code| Failure {
        refusal: Refusal::bare(code),
        inside: inside.clone(),
    };
    match status {
        401 => bare(Code::Unauthorised),
        403 => denied(Demographics::mode(&caller.agent)),
        404 | 410 => bare(Code::ResourceNotFound),
        408 => bare(Code::UnableToCallService),
        409 | 412 => bare(Code::ResourceVersionMismatch),
        422 if is_reused => {
            let words = "Invalid value - in header 'X-Request-ID': it was used for another request";
            Refusal::new(Code::InvalidValue, words).into()
        }
        429 => bare(Code::TooManyRequests),
        // There is no room: a code of its own there isn't, but its status says so, and the log.
        507 => Failure {
            refusal: Refusal {
                status: Some(507),
                ..Refusal::bare(Code::UnknownError)
            },
            inside: Some(inside.unwrap_or_else(|| "there is no room in the store".to_owned())),
        },
        503 => bare(Code::ServiceUnavailable),
        400..=499 => {
            let refusal = Refusal::bare(Code::ValidationError);
            let refusal = Refusal {
                status: (status == 413).then_some(413),
                words: Some("Validation error - the record does not take it".to_owned()),
                ..refusal
            };
            refusal.into()
        }
        _ => bare(Code::UnknownError),
    }
}

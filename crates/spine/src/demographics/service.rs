//! The service: what is asked for, done under the caller's own permit over the patients of the record.

use std::sync::Arc;

use fhir::search::SearchQuery;
use fhir::{IssueCode, OperationOutcome, Resource, ResourceType};
use ledger::Kind;
use record::{Answer, Caller, Preconditions, PreferReturn, Record, RecordError};
use serde_json::{Value, json};
use trust::{Action, Agent, Permit, Role, Target, Trust, TrustError, Vault, Versioned};

use super::change::Change;
use super::coverage::{self, Card};
use super::newcomer::Newcomer;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::score::score;
use super::trace::{Mode, Trace};
use super::view::{self, Confidentiality};
use super::feed;

/// The most rows of the record that one trace goes through. A trace that would need more is told to say more.
pub const LOOKED_AT_MAX: usize = 2_000;
/// Rows of the record in one piece.
const PIECE: usize = 200;
/// How often a record can have been replaced by another that was.
const REPLACED_MAX: usize = 8;
/// How many numbers are tried for one person: each of them is somebody else's, or can't be one.
const NUMBERS_MAX: u64 = 64;
/// The most related persons of one, and cards of one.
const RELATED_MAX: usize = 200;

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
        let mut matches = if trace.fuzzy {
            self.alike(caller, &trace).await?
        } else {
            self.matches(caller, &trace).await?
        };
        // Best first; those that are as good in an order of their own.
        matches.sort_by(|(a, one), (b, other)| {
            let number = |row: &Versioned| view::number(&self.rules, &row.resource).map(str::to_owned);
            b.total_cmp(a).then_with(|| number(one).cmp(&number(other)))
        });
        let total = matches.len();
        let too_many = Refusal::bare(Code::TooManyMatches);
        if total > trace.results_max {
            if !standard || mode == Mode::Application {
                return Err(too_many.into());
            }
            matches.truncate(trace.results_max);
        }
        let mut entries: Vec<Value> = matches
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

    /// Who is just as the parameters say, each with how closely.
    async fn matches(
        &self,
        caller: &Caller,
        trace: &Trace,
    ) -> Result<Vec<(f64, Versioned)>, Failure> {
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
            let ends = [("ge", &birth.from), ("le", &birth.until)];
            for (sign, day) in ends {
                if let Some(day) = day {
                    asked.push(("birthdate", format!("{sign}{day}")));
                }
            }
        }
        let today = self.today();
        let rows = self
            .looked_through(caller, &asked, |row| score(trace, row, &today))
            .await?;
        self.present(caller, rows).await
    }

    /// Who is like what the parameters say, for a fuzzy search.
    #[allow(clippy::unused_async, clippy::unused_self)]
    async fn alike(
        &self,
        _caller: &Caller,
        _trace: &Trace,
    ) -> Result<Vec<(f64, Versioned)>, Failure> {
        let words = "_fuzzy-match=true is not available here";
        Err(Refusal::new(Code::UnsupportedService, words).into())
    }

    /// The patients of a query whom a function scores. Only they are in the audit as shown.
    async fn looked_through(
        &self,
        caller: &Caller,
        asked: &[(&str, String)],
        scored: impl Fn(&Resource) -> Option<f64> + Send,
    ) -> Result<Vec<(f64, Versioned)>, Failure> {
        let kind = ResourceType::Patient;
        let permit = self.permit(caller, Action::Search, (kind, None)).await?;
        let pairs: Vec<(&str, &str)> = asked
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let query = query(kind, &pairs, PIECE)?;
        let part = self
            .vault()
            .search_part(&permit, &query, LOOKED_AT_MAX, |rows| {
                let scored = rows.iter().enumerate();
                let scored = scored.filter_map(|(place, row)| {
                    Some((place, scored(&row.resource)?))
                });
                scored.unzip::<usize, f64, Vec<_>, Vec<_>>()
            })
            .await;
        let part = match part {
            Err(TrustError::TooCostly(_)) => {
                return Err(Refusal::bare(Code::TooManyMatches).into());
            }
            part => part.map_err(|error| of_trust(caller, error))?,
        };
        if part.incomplete {
            return Err(Refusal::bare(Code::TooManyMatches).into());
        }
        Ok(part.whole.into_iter().zip(part.rows).collect())
    }

    /// In the place of records that others have replaced, these; each once, and only whom a number is known of.
    async fn present(
        &self,
        caller: &Caller,
        rows: Vec<(f64, Versioned)>,
    ) -> Result<Vec<(f64, Versioned)>, Failure> {
        let mut present: Vec<(f64, Versioned)> = Vec::with_capacity(rows.len());
        for (score, mut row) in rows {
            for _ in 0..REPLACED_MAX {
                let Some(next) = view::replaced_by(&row.resource).map(str::to_owned) else {
                    break;
                };
                match self.read(caller, &next).await? {
                    Some(next) => row = next,
                    None => break,
                }
            }
            let told = view::replaced_by(&row.resource).is_none()
                && Confidentiality::of(&row.resource) < Confidentiality::VeryRestricted
                && view::number(&self.rules, &row.resource).is_some();
            let id = row.resource.id();
            let known = present.iter_mut().find(|(_, one)| one.resource.id() == id);
            match known {
                Some((best, _)) => *best = best.max(score),
                None if told => present.push((score, row)),
                None => {}
            }
        }
        Ok(present)
    }

    /// Makes a record of somebody of whom there is none, and gives them a number.
    ///
    /// # Errors
    /// That there is one, or several; what is wrong with the request; what the record refuses.
    pub async fn create(&self, caller: &Caller, body: &[u8]) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode != Mode::Worker {
            return Err(not_by(mode, "create"));
        }
        let newcomer = Newcomer::parse(&self.rules, body, &self.today())?;
        let answer = self
            .once(caller, async |caller| {
                self.make(caller, &newcomer).await
            })
            .await?;
        self.told_written(201, &answer)
    }

    async fn make(&self, caller: &Caller, newcomer: &Newcomer) -> Result<Answer, Failure> {
        for slot in 0..NUMBERS_MAX {
            let Some(number) = self.number_for(caller, newcomer, slot) else {
                continue;
            };
            self.check_new(caller, newcomer).await?;
            let resource = newcomer.resource(&self.rules, &number);
            let criteria = format!("identifier={}%7C{number}", self.rules.identifier_system);
            let made = self.record.conditional_create(
                caller,
                ResourceType::Patient,
                &criteria,
                resource.to_string().as_bytes(),
            );
            match made.await {
                Ok(answer) if answer.status == 201 => return Ok(answer),
                // Somebody else has the number: perhaps this person, whose record was made at the same time.
                Ok(_) => {}
                Err(error) if error.status == 412 => {}
                Err(error) => return Err(of_record(caller, error)),
            }
        }
        Err(Failure {
            refusal: Refusal::bare(Code::UnknownError),
            inside: Some("there is no number left to give out".to_owned()),
        })
    }

    /// The number that a person is given: it follows from who they are said to be, so that of two who say the
    /// same at once one is let through, and nothing can be learnt of it without the tenant's key.
    fn number_for(&self, caller: &Caller, newcomer: &Newcomer, slot: u64) -> Option<String> {
        let kind = Kind(ResourceType::Patient.code());
        let text = format!("{slot}\n{}", newcomer.canonical());
        let ledger = self.vault().ledger();
        let token = ledger.token(caller.agent.tenant, kind, "_number", &text);
        self.rules.number_of(token.0)
    }

    /// Refuses to make a second record of a person.
    async fn check_new(&self, caller: &Caller, newcomer: &Newcomer) -> Result<(), Failure> {
        let asked = [
            ("family", newcomer.family().to_owned()),
            ("birthdate", newcomer.birth_date().to_owned()),
        ];
        let today = self.today();
        let same = |row: &Resource| newcomer.is(row, &today).then_some(1.0);
        let rows = match self.looked_through(caller, &asked, same).await {
            Err(failure) if failure.refusal.code == Code::TooManyMatches => {
                return Err(several_there().into());
            }
            rows => rows?,
        };
        let found = self.present(caller, rows).await?;
        match found.as_slice() {
            [] => Ok(()),
            [(_, row)] => {
                let number = view::number(&self.rules, &row.resource).unwrap_or_default();
                // The one place where words hold a number: clients read it there.
                let words = format!(
                    "Unable to create new patient. NHS number {number} found for supplied demographic data."
                );
                Err(Refusal::new(Code::SingleMatch, words).into())
            }
            _ => Err(several_there().into()),
        }
    }

    /// Changes a patient: all of the patches, or nothing.
    ///
    /// # Errors
    /// What is wrong with the request; that it is of an older version; what the record refuses.
    pub async fn change(
        &self,
        caller: &Caller,
        number: &str,
        if_match: Option<u32>,
        body: &[u8],
    ) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode == Mode::Application {
            return Err(not_by(mode, "update"));
        }
        if !self.rules.is_number(number) {
            return Err(Refusal::bare(Code::InvalidResourceId).into());
        }
        let version = if_match.ok_or_else(no_version)?;
        let change = Change::parse(body)?;
        let answer = self
            .once(caller, async |caller| {
                let (id, resource) = self
                    .changed(caller, (mode, number, version), &change)
                    .await?;
                let tag = format!("W/\"{version}\"");
                let preconditions = Preconditions {
                    if_match: Some(&tag),
                    ..Preconditions::default()
                };
                let body = resource.to_json();
                let kind = ResourceType::Patient;
                let updated = self
                    .record
                    .update_if(caller, kind, &id, preconditions, &body);
                updated.await.map_err(|error| of_record(caller, error))
            })
            .await?;
        self.told_written(200, &answer)
    }

    /// What a change makes of a patient at a version: the record's id of it, and all of it.
    async fn changed(
        &self,
        caller: &Caller,
        (mode, number, version): (Mode, &str, u32),
        change: &Change,
    ) -> Result<(String, Resource), Failure> {
        let found = self.find(caller, number).await?;
        if found.superseded {
            let words = "Update Failed - NHS No. supplied has been superseded in a merge";
            return Err(Refusal::forbidden(words).into());
        }
        if found.row.version != version {
            return Err(Refusal::bare(Code::ResourceVersionMismatch).into());
        }
        if Confidentiality::of(&found.row.resource) != Confidentiality::Unrestricted {
            let words = "source not permitted to update a sensitive patient";
            return Err(Refusal::forbidden(words).into());
        }
        let kind = ResourceType::Patient;
        let permit = self.permit(caller, Action::Update, (kind, None)).await?;
        let id = found.row.resource.id().unwrap_or_default().to_owned();
        // As it is kept: what is told of it may have labels that aren't.
        let kept = self.vault().load(&permit, kind, &id).await;
        let kept = kept.map_err(|error| of_trust(caller, error))?;
        let kept = kept.filter(|row| !row.deleted).ok_or_else(nobody)?;
        let told = view::whole(&self.rules, &kept.resource, kept.version).ok_or_else(nobody)?;
        let after = change.apply((&self.rules, mode), &told, &self.today())?;
        let mut resource = kept.resource;
        view::put_back(&self.rules, &mut resource, &after);
        Ok((id, resource))
    }

    /// Carries a request out once, however often it comes: [`Record::once`], where what is told may be other
    /// than what the record knows.
    async fn once(
        &self,
        caller: &Caller,
        work: impl AsyncFnOnce(&Caller) -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let caller = &Caller {
            prefer_return: PreferReturn::Representation,
            ..caller.clone()
        };
        let mut failed = None;
        let work = async {
            work(caller).await.map_err(|failure| {
                // The record looks whether its like was faster where a client is told to be wrong.
                let status = failure.refusal.status();
                failed = Some(failure);
                RecordError {
                    status,
                    outcome: OperationOutcome::error(IssueCode::Processing, ""),
                    inside: None,
                }
            })
        };
        let answer = self.record.once(caller, work).await;
        match (answer, failed) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(of_record(caller, error)),
        }
    }

    fn told_written(&self, status: u16, answer: &Answer) -> Result<Told, Failure> {
        let resource = Resource::parse(&answer.body).map_err(|_| nobody())?;
        let version = answer.version.ok_or_else(nobody)?;
        self.told_whole(status, &resource, version)
    }

    /// The people around a patient. None of a restricted one.
    ///
    /// # Errors
    /// As [`Demographics::retrieve`].
    pub async fn related(&self, caller: &Caller, number: &str) -> Result<Told, Failure> {
        let Found { row, .. } = self.find(caller, number).await?;
        if Confidentiality::of(&row.resource) != Confidentiality::Unrestricted {
            return Ok(self.bundle(0, Vec::new(), Some(row.version)));
        }
        let id = row.resource.id().unwrap_or_default();
        let kind = ResourceType::RelatedPerson;
        let rows = self.all_of(caller, kind, ("patient", id)).await?;
        let own = view::number(&self.rules, &row.resource).unwrap_or_default();
        let entries: Vec<Value> = rows
            .iter()
            .map(|row| {
                let resource = related(&self.rules, &row.resource);
                let id = row.resource.id().unwrap_or_default();
                let url = format!("{}/Patient/{own}/RelatedPerson/{id}", self.base);
                json!({"fullUrl": url, "resource": resource})
            })
            .collect();
        Ok(self.bundle(entries.len(), entries, Some(row.version)))
    }

    /// All rows of a type that belong to a patient.
    async fn all_of(
        &self,
        caller: &Caller,
        kind: ResourceType,
        (name, id): (&str, &str),
    ) -> Result<Vec<Versioned>, Failure> {
        let target = (kind, Some(id.to_owned()));
        let permit = self.permit(caller, Action::Search, target).await?;
        let patient = format!("Patient/{id}");
        let query = query(kind, &[(name, &patient)], RELATED_MAX)?;
        let page = self.vault().search(&permit, &query, None).await;
        let page = page.map_err(|error| of_trust(caller, error))?;
        if page.next.is_some() {
            return Err(Failure {
                refusal: Refusal::bare(Code::UnknownError),
                inside: Some(format!("a patient has more than {RELATED_MAX} of a type")),
            });
        }
        Ok(page.rows)
    }

    /// A patient's card.
    ///
    /// # Errors
    /// As [`Demographics::retrieve`]; that others than patients ask.
    pub async fn coverage(
        &self,
        caller: &Caller,
        parameters: &[(String, String)],
    ) -> Result<Told, Failure> {
        self.check_own_cards(caller)?;
        let [(name, number)] = parameters else {
            return Err(coverage_search());
        };
        if name != "subscriber:identifier" {
            return Err(coverage_search());
        }
        let Found { row, .. } = self.find(caller, number).await?;
        let card = self.card_of(caller, &row).await?;
        Ok(self.told_card(number, card.as_ref(), row.version))
    }

    fn told_card(&self, number: &str, card: Option<&Resource>, version: u32) -> Told {
        let url = format!("{}/Coverage?subscriber:identifier={number}", self.base);
        let card = card.and_then(coverage::told);
        let entries: Vec<Value> = card
            .map(|card| json!({"fullUrl": url, "resource": card}))
            .into_iter()
            .collect();
        let mut told = self.bundle(entries.len(), entries, Some(version));
        told.body["meta"] = json!({"versionId": version.to_string()});
        told
    }

    #[allow(clippy::unused_self)]
    fn check_own_cards(&self, caller: &Caller) -> Result<(), Failure> {
        match Self::mode(&caller.agent) {
            Mode::Patient => Ok(()),
            mode => Err(denied(mode)),
        }
    }

    async fn card_of(&self, caller: &Caller, row: &Versioned) -> Result<Option<Resource>, Failure> {
        let id = row.resource.id().unwrap_or_default();
        let kind = ResourceType::Coverage;
        let rows = self.all_of(caller, kind, ("beneficiary", id)).await?;
        let mut rows = rows.into_iter().map(|row| row.resource);
        Ok(rows.find(coverage::is_card))
    }

    /// Puts a card in the place of a patient's card, if there is one; the patient has another version then.
    ///
    /// # Errors
    /// As [`Demographics::change`].
    pub async fn cover(
        &self,
        caller: &Caller,
        if_match: Option<u32>,
        body: &[u8],
    ) -> Result<Told, Failure> {
        self.check_own_cards(caller)?;
        let version = if_match.ok_or_else(no_version)?;
        let card = Card::parse(&self.rules, body, &self.today())?;
        let found = self.find(caller, &card.number).await?;
        if found.superseded {
            let words = "Update Failed - NHS No. supplied has been superseded in a merge";
            return Err(Refusal::forbidden(words).into());
        }
        let id = found.row.resource.id().unwrap_or_default().to_owned();
        let before = self.card_of(caller, &found.row).await?;
        let permit = self
            .permit(caller, Action::Update, (ResourceType::Patient, None))
            .await?;
        let kept = self.vault().load(&permit, ResourceType::Patient, &id).await;
        let kept = kept.map_err(|error| of_trust(caller, error))?;
        let kept = kept.ok_or_else(nobody)?;
        let there = before.as_ref().and_then(Resource::id);
        let method = if there.is_some() { "PUT" } else { "POST" };
        let url = there.map_or_else(|| "Coverage".to_owned(), |id| format!("Coverage/{id}"));
        // Both in one commit: whoever writes the patient meanwhile is told, and so is this request.
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": kept.resource.as_value(), "request": {
                "method": "PUT", "url": format!("Patient/{id}"), "ifMatch": format!("W/\"{version}\"")}},
            {"resource": card.resource(&id, there), "request": {"method": method, "url": url}},
        ]});
        let written = self.record.bundle(caller, bundle.to_string().as_bytes());
        let answer = written.await.map_err(|error| of_record(caller, error))?;
        let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let version = feed::version(&answer["entry"][0]).unwrap_or(version + 1);
        let resource = Resource::from_value(card.resource(&id, there)).ok();
        let mut told = self.told_card(&card.number, resource.as_ref(), version);
        told.status = 201;
        Ok(told)
    }

    /// What was changed since (`_since`, `_count`): a history of the patients who have a number, newest first.
    ///
    /// # Errors
    /// What is wrong with the parameters, or what the record refuses.
    pub async fn changes(&self, caller: &Caller, asked: &Changes) -> Result<Told, Failure> {
        let mode = Self::mode(&caller.agent);
        if mode == Mode::Patient {
            return Err(denied(mode));
        }
        let known = ["_since", "_count", "_cursor"];
        if asked
            .iter()
            .any(|(name, _)| !known.contains(&name.as_str()))
        {
            let words = "Invalid request with error - Additional properties are not allowed";
            return Err(Refusal::new(Code::AdditionalProperties, words).into());
        }
        let kind = ResourceType::Patient;
        let answer = self.record.past(caller, Some(kind), asked).await;
        let answer = answer.map_err(|error| of_record(caller, error))?;
        let mut bundle: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let entries = match bundle["entry"].take() {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        };
        let mut told = Vec::with_capacity(entries.len());
        for entry in &entries {
            if entry.get("resource").is_some() {
                told.extend(feed::told(&self.rules, &self.base, entry));
            } else {
                told.extend(self.deleted(caller, entry).await?);
            }
        }
        if let Some(members) = bundle.as_object_mut() {
            members.remove("entry");
            members.remove("total");
        }
        if !told.is_empty() {
            bundle["entry"] = Value::Array(told);
        }
        for link in bundle["link"].as_array_mut().into_iter().flatten() {
            let url = link["url"].as_str().unwrap_or_default();
            if let Some(rest) = url.strip_prefix(&caller.base) {
                link["url"] = json!(format!("{}{rest}", self.base));
            }
        }
        Ok(Told {
            status: 200,
            version: None,
            body: bundle,
        })
    }

    /// The entry of a deletion, by the number that the version before had.
    async fn deleted(&self, caller: &Caller, entry: &Value) -> Result<Option<Value>, Failure> {
        let url = entry["request"]["url"].as_str().unwrap_or_default();
        let id = url.strip_prefix("Patient/").map(str::to_owned);
        let before = feed::version(entry).and_then(|version| version.checked_sub(1));
        let (Some(id), Some(before)) = (id, before.filter(|version| *version > 0)) else {
            return Ok(None);
        };
        let kind = ResourceType::Patient;
        let target = (kind, Some(id.clone()));
        let permit = self.permit(caller, Action::Read, target).await?;
        let row = self.vault().read_version(&permit, kind, &id, before).await;
        let row = row.map_err(|error| of_trust(caller, error))?;
        let number = row
            .as_ref()
            .and_then(|row| view::number(&self.rules, &row.resource));
        Ok(number.map(|number| {
            let address = format!("{}/Patient/{number}", self.base);
            feed::gone(&address, number, entry)
        }))
    }
}

fn query(
    kind: ResourceType,
    asked: &[(&str, &str)],
    count: usize,
) -> Result<SearchQuery, Failure> {
    let pairs: Vec<(String, String)> = asked
        .iter()
        .map(|(name, value)| ((*name).to_owned(), escaped(value)))
        .collect();
    let query = SearchQuery::parse(kind, &pairs, false);
    // What the rules have let through the record may still not take: a name of nothing but marks.
    let mut query = query.map_err(|_| Refusal::search("the parameters can't be searched for"))?;
    query.count = count;
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
    identifiers.any(|one| {
        one["system"] == rules.identifier_system.as_str() && one["value"] == number
    })
}

/// What is told of a related person: themselves, and their own number if it is known.
fn related(rules: &Rules, resource: &Resource) -> Value {
    let mut value = resource.as_value().clone();
    let number = value["identifier"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["system"] == rules.identifier_system.as_str())
        .map(|one| json!({"system": one["system"], "value": one["value"]}));
    let kept = [
        "id",
        "resourceType",
        "active",
        "period",
        "name",
        "address",
        "telecom",
        "relationship",
        "extension",
    ];
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| kept.contains(&name.as_str()));
    }
    value["patient"] = match number {
        Some(identifier) => json!({"identifier": identifier}),
        None => json!({}),
    };
    value
}

fn nobody() -> Failure {
    Refusal::bare(Code::ResourceNotFound).into()
}

fn several_there() -> Refusal {
    let words =
        "Unable to create new patient. Multiple matches found for supplied demographic data.";
    Refusal::new(Code::MultipleMatches, words)
}

fn no_version() -> Failure {
    let words =
        "Invalid request with error - If-Match header must be supplied to update this resource";
    Refusal::new(Code::PreconditionFailed, words).into()
}

fn coverage_search() -> Failure {
    let words = "Coverage search request must follow the format /Coverage?subscriber:identifier=NHS_NUMBER";
    Refusal::search(words).into()
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
        .shown(format!("Cannot use resource with {} access token", named(mode))),
    };
    refusal.into()
}

/// What a mode of access does not do at all.
fn not_by(mode: Mode, verb: &str) -> Failure {
    if mode == Mode::Patient {
        return denied(mode);
    }
    let words = "Your app has insufficient permissions to use this method.";
    Refusal::new(Code::InvalidMethod, words)
        .shown(format!(
            "Cannot {verb} resource with {} access token",
            named(mode)
        ))
        .into()
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
    let issue = error.outcome.issues.first();
    let is_reused = issue.is_some_and(|issue| issue.code == IssueCode::Duplicate);
    let bare = |code| Failure {
        refusal: Refusal::bare(code),
        inside: error.inside.clone(),
    };
    match error.status {
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
        503 => bare(Code::ServiceUnavailable),
        400..=499 => {
            let refusal = Refusal::bare(Code::ValidationError);
            let refusal = Refusal {
                status: (error.status == 413).then_some(413),
                words: Some("Validation error - the record does not take it".to_owned()),
                ..refusal
            };
            refusal.into()
        }
        _ => bare(Code::UnknownError),
    }
}

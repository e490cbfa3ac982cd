//! What is beside a patient: people, the card, and what was changed since.

use std::collections::{BTreeSet, HashMap};

use fhir::{Resource, ResourceType};
use ledger::LedgerError;
use record::Caller;
use serde_json::{Value, json};
use trust::{Action, TrustError, Versioned};

use super::super::coverage;
use super::super::feed::{self, Now};
use super::super::refusal::{Code, Refusal};
use super::super::rules::Rules;
use super::super::trace::Mode;
use super::super::view::{self, Confidentiality};
use super::choosing::{Row, of_ids};
use super::{
    Changes, Demographics, Failure, Found, Told, denied, of_record, of_trust, parsed, query,
};

/// The most related persons of one, and cards of one.
const RELATED_MAX: usize = 200;
/// The most entries of one page of what was changed: as many patients as one query takes ids.
const CHANGES_MAX: usize = 200;

impl Demographics {
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
        let levels = self.levels_of(caller, &rows).await?;
        let entries: Vec<Value> = rows
            .iter()
            .filter_map(|row| {
                let theirs = known_number(&self.rules, &row.resource);
                // A patient of the number who isn't seen may be restricted.
                let level = theirs.map_or(Confidentiality::Unrestricted, |number| {
                    let known = levels.get(number).copied();
                    known.unwrap_or(Confidentiality::Restricted)
                });
                let resource = related(&self.rules, &row.resource, level)?;
                let id = row.resource.id().unwrap_or_default();
                let url = format!("{}/Patient/{own}/RelatedPerson/{id}", self.base);
                Some(json!({"fullUrl": url, "resource": resource}))
            })
            .collect();
        Ok(self.bundle(entries.len(), entries, Some(row.version)))
    }

    /// How confidential the records of related persons are who are patients themselves, by their numbers.
    async fn levels_of(
        &self,
        caller: &Caller,
        rows: &[Versioned],
    ) -> Result<HashMap<String, Confidentiality>, Failure> {
        let numbers = (rows.iter()).filter_map(|row| known_number(&self.rules, &row.resource));
        let numbers = numbers.filter(|number| self.rules.is_number(number));
        let tokens: BTreeSet<String> = numbers
            .map(|number| format!("{}|{number}", self.rules.identifier_system))
            .collect();
        let mut levels = HashMap::new();
        if tokens.is_empty() {
            return Ok(levels);
        }
        let tokens: Vec<String> = tokens.into_iter().collect();
        let pairs = [("identifier".to_owned(), tokens.join(","))];
        let query = parsed(ResourceType::Patient, &pairs)?;
        let found = self.part(caller, &query, |rows: &[Row]| (Vec::new(), rows.to_vec()));
        for row in found.await? {
            let level = Confidentiality::of(row.resource());
            let identifiers = row.resource().get("identifier").and_then(Value::as_array);
            let values = identifiers
                .into_iter()
                .flatten()
                .filter_map(|one| one["value"].as_str());
            for value in values {
                let known = levels.entry(value.to_owned()).or_insert(level);
                *known = level.max(*known);
            }
        }
        Ok(levels)
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
        let mode = Self::mode(&caller.agent);
        if mode != Mode::Patient {
            return Err(denied(mode));
        }
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

    async fn card_of(&self, caller: &Caller, row: &Versioned) -> Result<Option<Resource>, Failure> {
        let id = row.resource.id().unwrap_or_default();
        let kind = ResourceType::Coverage;
        let rows = self.all_of(caller, kind, ("beneficiary", id)).await?;
        let mut rows = rows.into_iter().map(|row| row.resource);
        Ok(rows.find(coverage::is_card))
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
        let counts = asked.iter().filter(|(name, _)| name == "_count");
        let is_few = |text: &str| {
            text.parse::<usize>()
                .is_ok_and(|count| count <= CHANGES_MAX)
        };
        if !counts.map(|(_, text)| text.as_str()).all(is_few) {
            return Err(Refusal::value("_count").into());
        }
        let kind = ResourceType::Patient;
        let answer = self.record.past(caller, Some(kind), asked).await;
        let answer = answer.map_err(|error| of_record(caller, error))?;
        let read = serde_json::from_slice::<Value>(&answer.body);
        let mut bundle = read.map_err(|error| Failure {
            refusal: Refusal::bare(Code::UnknownError),
            inside: Some(format!("a history is no JSON: {error}")),
        })?;
        let entries = match bundle["entry"].take() {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        };
        let mut told = Vec::with_capacity(entries.len());
        let now = self.as_now(caller, &entries).await?;
        for entry in &entries {
            if let Some(id) = entry["resource"]["id"].as_str() {
                // Whom the caller no longer may see is not told of.
                let Some(now) = now.get(id) else { continue };
                told.extend(feed::told(&self.rules, &self.base, entry, *now));
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

    /// How the patients of a page are now, by the record's id; those who may be seen, and those who are deleted.
    async fn as_now(
        &self,
        caller: &Caller,
        entries: &[Value],
    ) -> Result<HashMap<String, Now>, Failure> {
        let ids = entries
            .iter()
            .filter_map(|entry| entry["resource"]["id"].as_str());
        let ids: BTreeSet<&str> = ids.collect();
        let mut now = HashMap::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(now);
        }
        // Who is shown is in the audit by their versions already.
        let query = of_ids(ids.iter().copied())?;
        let rows = self.part(caller, &query, |rows: &[Row]| (Vec::new(), rows.to_vec()));
        for row in rows.await? {
            let id = row.resource().id().unwrap_or_default().to_owned();
            now.insert(id, Now::of(row.resource()));
        }
        let missing = ids.into_iter().filter(|id| !now.contains_key(*id));
        for id in missing.collect::<Vec<_>>() {
            let kind = ResourceType::Patient;
            let permit = self.permit(caller, Action::Read, (kind, Some(id.to_owned())));
            let permit = match permit.await {
                Err(failure) if failure.refusal.code == Code::AccessDenied => continue,
                permit => permit?,
            };
            let row = match self.vault().read(&permit, kind, id).await {
                Err(TrustError::Ledger(LedgerError::KeyDestroyed)) => {
                    now.insert(id.to_owned(), Now::GONE);
                    continue;
                }
                row => row.map_err(|error| of_trust(caller, error))?,
            };
            if row.is_some_and(|row| row.deleted) {
                now.insert(id.to_owned(), Now::GONE);
            }
        }
        Ok(now)
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

fn coverage_search() -> Failure {
    let words =
        "Coverage search request must follow the format /Coverage?subscriber:identifier=NHS_NUMBER";
    Refusal::search(words).into()
}

/// The number of a related person, if it is known.
fn known_number<'r>(rules: &Rules, resource: &'r Resource) -> Option<&'r str> {
    let identifiers = resource.get("identifier").and_then(Value::as_array)?;
    let mut own = identifiers
        .iter()
        .filter(|one| one["system"] == rules.identifier_system.as_str());
    own.find_map(|one| one["value"].as_str())
}

/// What is told of a related person: themselves, and their own number if it is known. Of one who is restricted, by a
/// mark of theirs or as a patient, nothing of where they are; of one whom nothing is told of, nothing.
fn related(rules: &Rules, resource: &Resource, level: Confidentiality) -> Option<Value> {
    let level = Confidentiality::of(resource).max(level);
    if level >= Confidentiality::VeryRestricted {
        return None;
    }
    let hides = level >= Confidentiality::Restricted;
    let mut value = resource.as_value().clone();
    let number = known_number(rules, resource)
        .map(|number| json!({"system": rules.identifier_system, "value": number}));
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
    let place = ["address", "telecom"];
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| {
            kept.contains(&name.as_str()) && !(hides && place.contains(&name.as_str()))
        });
        let told = |item: &Value| {
            let extension = item["url"].as_str().and_then(|url| rules.extension(url));
            extension.is_some_and(|extension| !(hides && extension.place))
        };
        let mut is_empty = false;
        if let Some(Value::Array(items)) = members.get_mut("extension") {
            items.retain(told);
            is_empty = items.is_empty();
        }
        if is_empty {
            members.remove("extension");
        }
    }
    value["patient"] = match number {
        Some(identifier) => json!({"identifier": identifier}),
        None => json!({}),
    };
    Some(value)
}

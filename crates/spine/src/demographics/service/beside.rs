//! What is beside a patient: people, the card, and what was changed since.

use fhir::{Resource, ResourceType};
use record::Caller;
use serde_json::{Value, json};
use trust::{Action, Versioned};

use super::super::coverage;
use super::super::feed;
use super::super::refusal::{Code, Refusal};
use super::super::rules::Rules;
use super::super::trace::Mode;
use super::super::view::{self, Confidentiality};
use super::{Changes, Demographics, Failure, Found, Told, denied, of_record, of_trust, query};

/// The most related persons of one, and cards of one.
const RELATED_MAX: usize = 200;

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

fn coverage_search() -> Failure {
    let words =
        "Coverage search request must follow the format /Coverage?subscriber:identifier=NHS_NUMBER";
    Refusal::search(words).into()
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

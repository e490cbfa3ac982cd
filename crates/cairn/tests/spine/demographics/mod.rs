//! Demographics as published (the Personal Demographics Service FHIR API): each rule and each code over HTTP.
//! Here is what all of these tests ask with.

mod alike;
mod changing;
mod hiding;
mod making;
mod own;
mod retrieving;
mod tracing;

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use trust::Role;

use crate::house::{House, header, house_with, put, token};

pub(crate) const BASE: &str = "/personal-demographics/FHIR/R4";
pub(crate) const NUMBERS: &str = "https://fhir.nhs.uk/Id/nhs-number";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";
const ERRORS: &str = "https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode";

/// A house that serves demographics, and somebody of its staff.
pub(crate) struct Spine {
    pub(crate) house: House,
    pub(crate) worker: String,
}

/// An answer, read whole.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: String,
    pub(crate) request_id: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("an answer");
        let kind = header(&answer, "content-type");
        assert!(kind.starts_with("application/fhir+json"), "{kind}");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        Self {
            status: answer.status(),
            etag: header(&answer, "etag").to_owned(),
            request_id: header(&answer, "x-request-id").to_owned(),
            body: answer.json().await.expect("JSON"),
        }
    }
    /// The code of an `OperationOutcome` of the published form.
    pub(crate) fn code(&self) -> &str {
        assert_eq!(self.body["resourceType"], "OperationOutcome", "{self:?}");
        let issue = &self.body["issue"][0];
        let coding = &issue["details"]["coding"][0];
        assert_eq!(coding["system"], ERRORS);
        assert_eq!(coding["version"], "1");
        for text in [&coding["display"], &issue["severity"], &issue["code"]] {
            assert!(text.is_string(), "{self:?}");
        }
        coding["code"].as_str().expect("a code")
    }
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code()),
            (status, code),
            "{self:?}"
        );
    }
    #[track_caller]
    pub(crate) fn fine(&self) -> &Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert_ne!(self.body["resourceType"], "OperationOutcome", "{self:?}");
        &self.body
    }
    /// The numbers of whom a search found.
    #[track_caller]
    pub(crate) fn numbers(&self) -> Vec<String> {
        let body = self.fine();
        assert_eq!(body["type"], "searchset");
        let entries = body["entry"].as_array().into_iter().flatten();
        let numbers: Vec<String> = entries
            .filter_map(|entry| entry["resource"]["id"].as_str())
            .map(str::to_owned)
            .collect();
        numbers
    }
}

static IDS: AtomicU32 = AtomicU32::new(1);

/// An id that no request had.
pub(crate) fn new_id() -> String {
    format!(
        "60e0b220-8136-4ca5-ae46-{:012x}",
        IDS.fetch_add(1, Ordering::Relaxed)
    )
}

impl Spine {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }
    pub(crate) async fn with(change: impl FnOnce(&mut cairn::ServerOptions)) -> Self {
        let house = house_with(|options| {
            options.demographics.serve = true;
            options.demographics.per_second = 10_000;
            change(options);
        })
        .await;
        let worker = token(&house.server, Role::Clinician).await;
        Self { house, worker }
    }
    /// A request of a worker, with an id of its own.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as(&self.worker, method, path)
    }
    pub(crate) fn ask_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.house
            .bare(method, &format!("{BASE}{path}"))
            .bearer_auth(token)
            .header("x-request-id", new_id())
    }
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.ask(Method::GET, path)).await
    }
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Answer {
        Answer::of(self.ask_as(token, Method::GET, path)).await
    }
    pub(crate) fn patch(&self, number: &str, version: u32, patches: &Value) -> RequestBuilder {
        self.ask(Method::PATCH, &format!("/Patient/{number}"))
            .header("if-match", format!("W/\"{version}\""))
            .header("content-type", "application/json-patch+json")
            .body(json!({"patches": patches}).to_string())
    }
    pub(crate) fn post(&self, body: &Value) -> RequestBuilder {
        self.ask(Method::POST, "/Patient")
            .header("content-type", "application/fhir+json")
            .body(body.to_string())
    }
    /// Keeps a patient in the record, as any other client of it does.
    pub(crate) async fn keep(&self, patient: &Value) {
        put(&self.house, patient).await;
    }
    /// The versions that there are of patients.
    pub(crate) async fn versions(&self) -> usize {
        let path = "/fhir/r4/Patient/_history?_count=1000";
        let answer = self.house.asked(Method::GET, path).send().await;
        let bundle: Value = answer.expect("an answer").json().await.expect("JSON");
        bundle["entry"].as_array().map_or(0, Vec::len)
    }
}

/// A patient of the record with a number, and what changes of it.
pub(crate) fn patient(id: &str, number: &str, changes: &Value) -> Value {
    let mut patient = json!({
        "resourceType": "Patient", "id": id,
        "identifier": [{"system": NUMBERS, "value": number}],
        "name": [{"id": "n0", "use": "usual", "family": "Smith", "given": ["Jane", "Anne"], "period": {"start": "2020-01-01"}}],
        "gender": "female", "birthDate": "2010-10-22",
        "address": [{"id": "a0", "use": "home", "line": ["1 Boar Lane", "Leeds"], "postalCode": "LS1 6AE", "period": {"start": "2020-01-01"}}],
        "telecom": [
            {"id": "t0", "system": "phone", "use": "home", "value": "01632960587"},
            {"id": "t1", "system": "email", "use": "home", "value": "jane.smith@example.com"},
        ],
        "generalPractitioner": [{"id": "g0", "type": "Organization", "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Y12345"}}],
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        patient[name] = value.clone();
    }
    patient
}

/// A mark of confidentiality.
pub(crate) fn marked(code: &str) -> Value {
    json!({"security": [{"system": CONFIDENTIALITY, "code": code}]})
}

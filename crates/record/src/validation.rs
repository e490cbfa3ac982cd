//! What becomes of a resource that FHIR's tables don't allow.
use fhir::search::define;
use fhir::subset::is_subsetted;
use fhir::{Issue, IssueCode, OperationOutcome, Resource, ResourceType, Severity, validate};
use serde_json::Value;
use trust::conventions;

use crate::write::homeless;
use crate::{Answer, Caller, PreferReturn, Record};

/// What is done with resources whose structure is wrong. It never concerns what nobody could keep
/// safely: a resource in no patient's record that holds a patient's data is always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// They are refused, with what is wrong.
    #[default]
    Reject,
    /// They are written; who asks by `Prefer: return=OperationOutcome` is told what is wrong.
    Warn,
}

impl Record {
    /// The same service with another way to treat resources whose structure is wrong.
    #[must_use]
    pub fn with_validation(mut self, validation: Validation) -> Self {
        self.validation = validation;
        self
    }

    /// All that keeps a resource from being written, its references being what they will be.
    pub(crate) fn check_valid(&self, resource: &Resource) -> Result<(), OperationOutcome> {
        let mut issues = validate::check(resource);
        if self.validation == Validation::Warn && !issues.is_empty() {
            metrics::counter!("record_resources_with_warnings_total", "type" => resource.kind().name())
                .increment(1);
            issues.clear();
        }
        if asks_for_a_journey(resource) {
            issues.push(Issue {
                severity: Severity::Error,
                code: IssueCode::BusinessRule,
                diagnostics: "asks to start a journey, and stored like this it would start nothing: create it alone, by POST to Task"
                    .to_owned(),
                expression: Some("Task.status".to_owned()),
            });
        }
        refused(issues, resource)
    }

    /// What is wrong with a resource that is written all the same, for an answer that tells it.
    pub(crate) fn warnings(&self, caller: &Caller, resource: &Resource) -> Vec<Issue> {
        if self.validation == Validation::Reject
            || caller.prefer_return != PreferReturn::OperationOutcome
        {
            return Vec::new();
        }
        let mut issues = validate::check(resource);
        for issue in &mut issues {
            issue.severity = Severity::Warning;
        }
        issues
    }
}

/// Whether a resource is a `Task` that asks to start a journey. What starts it stores the task as completed.
#[must_use]
pub fn asks_for_a_journey(resource: &Resource) -> bool {
    if resource.kind() != ResourceType::Task || resource.text_at(&["status"]) != Some("requested") {
        return false;
    }
    let codings = resource.at(&["code", "coding"]).and_then(Value::as_array);
    codings.into_iter().flatten().any(|coding| {
        coding["system"] == conventions::TASK_SYSTEM && coding["code"] == conventions::START_JOURNEY
    })
}

/// The same for an import, whose rejects are kept with the reason and can be put right.
pub(crate) fn check_strictly(resource: &Resource) -> Result<(), OperationOutcome> {
    refused(validate::check(resource), resource)
}

fn refused(mut issues: Vec<Issue>, resource: &Resource) -> Result<(), OperationOutcome> {
    issues.extend(homeless(resource));
    if let Err(outcome) = define(resource) {
        issues.extend(outcome.issues);
    }
    if is_subsetted(resource) {
        issues.push(Issue {
            severity: Severity::Error,
            code: IssueCode::BusinessRule,
            diagnostics:
                "says SUBSETTED: this is a part of a resource, and storing it would lose the rest"
                    .to_owned(),
            expression: Some(format!("{}.meta.tag", resource.kind())),
        });
    }
    if issues.is_empty() {
        Ok(())
    } else {
        Err(OperationOutcome { issues })
    }
}

/// An answer that is an `OperationOutcome` already, with these issues added.
pub(crate) fn with_warnings(mut answer: Answer, warnings: Vec<Issue>) -> Answer {
    if warnings.is_empty() {
        return answer;
    }
    let more = OperationOutcome { issues: warnings }.to_resource();
    let said = Resource::parse(&answer.body).ok();
    if let (Some(mut said), Some(serde_json::Value::Array(more))) =
        (said, more.get("issue").cloned())
    {
        let mut issues = said.get("issue").cloned().unwrap_or_default();
        if let Some(issues) = issues.as_array_mut() {
            issues.extend(more);
        }
        said.set("issue", issues);
        answer.body = said.to_json();
    }
    answer
}

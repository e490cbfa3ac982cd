//! Lists of work, whose rows are a reason to look by themselves: staff see the name of a patient because
//! something is to be done for them. That explains an access in the audit; it opens nothing that needs a
//! relationship, since every member of a role would have one with every patient who waits.
use fhir::search::SearchQuery;
use fhir::{Resource, ResourceType, date};
use serde::Deserialize;
use serde_json::Value;

use super::relations::DAY_MS;
use crate::Agent;
use crate::conventions::{ACCOUNT_SYSTEM, ROLE_SYSTEM};

/// What a rule pack says of lists of work.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Worklist {
    /// What the audit calls it that a task waits for somebody's role, and what patients are told, in words that go
    /// on from "because".
    queue: String,
    #[serde(default)]
    queue_words: String,
    /// The same of a task that somebody has claimed, or ended not long ago.
    own: String,
    #[serde(default)]
    own_words: String,
    /// Statuses of tasks that wait, and of those that have ended.
    open: Vec<String>,
    #[serde(default)]
    ended: Vec<String>,
    /// So many days after its last change one that has ended counts.
    #[serde(default)]
    days_after: u16,
    /// Types that a waiting task explains the sight of; nothing else of the patient.
    shows: Vec<String>,
}

/// What a task is to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It waits for somebody of their role.
    Queue,
    /// They have claimed it, or ended it.
    Own,
}

impl Worklist {
    pub(super) fn check(&self) -> Result<(), String> {
        let unknown = self
            .shows
            .iter()
            .find(|one| ResourceType::parse(one).is_none());
        if let Some(unknown) = unknown {
            return Err(format!("`{unknown}` is no resource type of FHIR R4"));
        }
        if self.query("p").is_none() {
            return Err("the statuses of a list of work are none of a Task".to_owned());
        }
        Ok(())
    }

    pub(super) fn names(&self) -> [&str; 2] {
        [&self.queue, &self.own]
    }

    pub(super) fn words(&self, name: &str) -> Option<&str> {
        match name {
            _ if name == self.own => Some(&self.own_words),
            _ if name == self.queue => Some(&self.queue_words),
            _ => None,
        }
    }

    /// Whether a task that waits explains the sight of a row of this type.
    pub(crate) fn shows(&self, kind: ResourceType) -> bool {
        self.shows.iter().any(|one| one == kind.name())
    }

    /// Tasks for a patient that may be a reason.
    pub(crate) fn query(&self, patient: &str) -> Option<SearchQuery> {
        let statuses = self.open.iter().chain(&self.ended).cloned();
        let parameters = [
            ("patient".to_owned(), patient.to_owned()),
            ("status".to_owned(), statuses.collect::<Vec<_>>().join(",")),
        ];
        SearchQuery::parse(ResourceType::Task, &parameters, false).ok()
    }

    /// What a task is to somebody at a time.
    pub(crate) fn work(&self, task: &Resource, agent: &Agent, now_ms: i64) -> Option<Work> {
        let status = task.text_at(&["status"])?;
        let is_one = |statuses: &[String]| statuses.iter().any(|one| one == status);
        let owner = task.at(&["owner", "identifier"]);
        let is_theirs = owner.is_some_and(|owner| {
            owner["system"] == ACCOUNT_SYSTEM && owner["value"] == agent.id.as_str()
        });
        if is_one(&self.open) {
            let types = task.get("performerType").and_then(Value::as_array);
            let mut codings = types.into_iter().flatten().flat_map(|one| {
                let codings = one.get("coding").and_then(Value::as_array);
                codings.into_iter().flatten()
            });
            let is_role = |coding: &Value| {
                coding["system"] == ROLE_SYSTEM && coding["code"] == agent.role.name()
            };
            // What somebody was handed and has not claimed waits for them.
            let handed_on = is_theirs && status == "requested";
            if is_theirs && !handed_on {
                return Some(Work::Own);
            }
            return (handed_on || codings.any(is_role)).then_some(Work::Queue);
        }
        let changed = task
            .text_at(&["meta", "lastUpdated"])
            .and_then(date::parse)?;
        let until_ms = changed
            .end_ms
            .saturating_add(i64::from(self.days_after) * DAY_MS);
        (is_theirs && is_one(&self.ended) && now_ms < until_ms).then_some(Work::Own)
    }

    /// What the audit says of a task.
    pub(crate) fn told(&self, work: Work, task: &Resource) -> String {
        let name = match work {
            Work::Queue => &self.queue,
            Work::Own => &self.own,
        };
        format!("{name} {}/{}", task.kind(), task.id().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use ledger::TenantId;
    use serde_json::json;

    use super::*;
    use crate::Role;
    use crate::consent::Rules;

    #[test]
    fn a_task_is_work_of_a_role_until_somebody_has_it() {
        let rules = Rules::load(Rules::DEFAULT).expect("rules");
        let worklist = rules.relationships().worklist().expect("a list");
        let agent = Agent {
            role: Role::Coordinator,
            ..Agent::system(TenantId(1), "c")
        };
        let task = |status: &str, role: &str, owner: &str| {
            let value = json!({"resourceType": "Task", "id": "t", "status": status,
                "meta": {"lastUpdated": "2026-06-01T12:00:00Z"}, "for": {"reference": "Patient/p"},
                "owner": {"identifier": {"system": ACCOUNT_SYSTEM, "value": owner}},
                "performerType": [{"coding": [{"system": ROLE_SYSTEM, "code": role}]}]});
            Resource::from_value(value).expect("a task")
        };
        let now = date::parse("2026-06-10").expect("a date").start_ms;
        let late = date::parse("2026-06-20").expect("a date").start_ms;
        for (status, role, owner, at, expected) in [
            ("requested", "coordinator", "", now, Some(Work::Queue)),
            ("requested", "clinician", "", now, None),
            // Handed to them, and not claimed yet.
            ("requested", "clinician", "c", now, Some(Work::Queue)),
            ("in-progress", "clinician", "c", late, Some(Work::Own)),
            (
                "in-progress",
                "coordinator",
                "other",
                now,
                Some(Work::Queue),
            ),
            ("completed", "coordinator", "c", now, Some(Work::Own)),
            ("completed", "coordinator", "c", late, None),
            ("completed", "coordinator", "other", now, None),
            ("cancelled", "coordinator", "c", now, None),
        ] {
            let found = worklist.work(&task(status, role, owner), &agent, at);
            assert_eq!(found, expected, "{status} {role} {owner}");
        }
    }
}

//! Who completed a task for staff: not whom it names as its owner, but who signed in and wrote that it is done. One
//! person at a page and with an application is one, whatever owner the application writes.

use fhir::{Resource, ResourceType};
use serde_json::{Value, json};

use crate::conventions::{
    ACCOUNT_SYSTEM, CLIENT_SYSTEM, COMPLETED_BY_URL, STAFF_TASK, TASK_SYSTEM,
};
use crate::{Agent, Role};

fn is_for_staff(task: &Resource) -> bool {
    let codings = task.at(&["code", "coding"]).and_then(Value::as_array);
    let mut codings = codings.into_iter().flatten();
    task.kind() == ResourceType::Task
        && codings.any(|coding| coding["system"] == TASK_SYSTEM && coding["code"] == STAFF_TASK)
}

fn is_completed(task: &Resource) -> bool {
    task.text_at(&["status"]) == Some("completed")
}

/// What is noted of who completed it.
fn noted(task: &Resource) -> Option<Value> {
    let extensions = task.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.into_iter().flatten();
    extensions
        .find(|extension| extension["url"] == COMPLETED_BY_URL)
        .cloned()
}

/// Notes in a task for staff who completes it; what somebody else has written there is no note. What parts of Cairn
/// write goes on as it is.
pub(super) fn note(agent: &Agent, task: &mut Resource, before: Option<&Resource>) {
    if task.kind() != ResourceType::Task || agent.role == Role::System {
        return;
    }
    let ours = is_for_staff(task) || before.is_some_and(is_for_staff);
    let extensions = task.get("extension").and_then(Value::as_array);
    let mut extensions = extensions.cloned().unwrap_or_default();
    let all = extensions.len();
    extensions.retain(|extension| extension["url"] != COMPLETED_BY_URL);
    if !ours && extensions.len() == all {
        return;
    }
    if ours && is_completed(task) {
        let done = before.filter(|before| is_for_staff(before) && is_completed(before));
        extensions.extend(match done {
            // Who changes it afterwards has not done it, and who has isn't known of what an older program wrote.
            Some(before) => noted(before),
            None => {
                let system = match agent.role {
                    Role::Client => CLIENT_SYSTEM,
                    _ => ACCOUNT_SYSTEM,
                };
                Some(json!({
                    "url": COMPLETED_BY_URL,
                    "valueIdentifier": {"system": system, "value": agent.id}
                }))
            }
        });
    }
    if extensions.is_empty() {
        task.remove("extension");
    } else {
        task.set("extension", Value::Array(extensions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SignedIn;
    use ledger::TenantId;

    fn agent(role: Role, id: &str) -> Agent {
        Agent {
            tenant: TenantId(1),
            id: id.to_owned(),
            name: String::new(),
            role,
            patient: None,
            access: None,
            signed_in: SignedIn::default(),
        }
    }

    fn task(status: &str, extension: Value) -> Resource {
        let mut task = json!({
            "resourceType": "Task", "id": "t", "status": status,
            "code": {"coding": [{"system": TASK_SYSTEM, "code": STAFF_TASK}]}
        });
        if extension != Value::Null {
            task["extension"] = extension;
        }
        Resource::from_value(task).expect("a task")
    }

    fn by(system: &str, id: &str) -> Value {
        json!({"url": COMPLETED_BY_URL, "valueIdentifier": {"system": system, "value": id}})
    }

    #[test]
    fn who_signed_in_is_noted_and_nobody_else() {
        let carla = by(ACCOUNT_SYSTEM, "carla");
        let other = json!({"url": "urn:other", "valueString": "x"});
        let open = task("accepted", Value::Null);
        let done = task("completed", json!([carla]));
        let unknown = task("completed", Value::Null);
        let nothing = Value::Null;
        for (what, role, id, written, before, expected) in [
            (
                "done",
                Role::Coordinator,
                "carla",
                task("completed", nothing.clone()),
                Some(&open),
                json!([carla]),
            ),
            (
                "as somebody else",
                Role::Coordinator,
                "carla",
                task("completed", json!([by(ACCOUNT_SYSTEM, "devi"), other])),
                Some(&open),
                json!([other, carla]),
            ),
            (
                "a system",
                Role::Client,
                "ehr",
                task("completed", nothing.clone()),
                Some(&open),
                json!([by(CLIENT_SYSTEM, "ehr")]),
            ),
            (
                "changed later",
                Role::Clinician,
                "devi",
                task("completed", nothing.clone()),
                Some(&done),
                json!([carla]),
            ),
            (
                "changed later, done under an older program",
                Role::Clinician,
                "devi",
                task("completed", json!([by(ACCOUNT_SYSTEM, "devi"), other])),
                Some(&unknown),
                json!([other]),
            ),
            (
                "open again",
                Role::Clinician,
                "devi",
                task("requested", json!([carla])),
                Some(&done),
                nothing.clone(),
            ),
            (
                "made done",
                Role::Client,
                "ehr",
                task("completed", json!([carla])),
                None,
                json!([by(CLIENT_SYSTEM, "ehr")]),
            ),
            (
                "a part",
                Role::System,
                "importer",
                task("completed", json!([carla])),
                Some(&open),
                json!([carla]),
            ),
        ] {
            let mut written = written;
            note(&agent(role, id), &mut written, before);
            let found = written.get("extension").cloned().unwrap_or_default();
            assert_eq!(found, expected, "{what}");
        }
        // A note of ours stands in no other task, which may be made one for staff later.
        let mut other = task("completed", json!([carla]));
        other.remove("code");
        note(&agent(Role::Client, "ehr"), &mut other, None);
        assert_eq!(other.get("extension"), None);
        // A task of others is theirs.
        let mut foreign =
            Resource::from_value(json!({"resourceType": "Task", "id": "t", "status": "completed"}));
        let foreign = foreign.as_mut().expect("a task");
        note(&agent(Role::Client, "ehr"), foreign, None);
        assert_eq!(foreign.get("extension"), None);
    }
}

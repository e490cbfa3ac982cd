//! From a journey to a `Bundle` of definitions.

use super::SOURCE;
use crate::Finding;
use crate::definition::{Definition, ExitTrigger, Step};
use crate::time;
use crate::yaml::{Content, Node};
use fhir::ResourceType;
use serde_json::{Map, Value, json};
use trust::conventions::{JOURNEY_URL, STEP_SYSTEM};

/// A step's name as an id of FHIR, which has no underscores.
fn hyphened(step: &str) -> String {
    step.replace('_', "-")
}

/// A journey's file as a `Bundle` (`collection`): the `PlanDefinition` first, then what its actions are defined by.
///
/// What FHIR can say of it: the steps as actions with their words, what waits for a time as its length, what one step
/// alone leads to as an action after its end, tasks, messages and visits as `ActivityDefinition`s, forms as
/// `Questionnaire`s, and what starts it and what of the patient ends it. All of it is in the extension
/// `urn:cairn:journey-source`, as it was written.
///
/// # Errors
/// The checker's findings, where there are errors among them.
pub fn export(source: &str, version: u32) -> Result<Value, Vec<Finding>> {
    let definition = Definition::compile(source, version)?;
    exported(&definition, source)
}

/// The same of a version that was published: what the checker has learnt since is no fault of it.
///
/// # Errors
/// Where the file can't be read.
pub(crate) fn exported(definition: &Definition, source: &str) -> Result<Value, Vec<Finding>> {
    let root = Node::parse(source).map_err(|error| {
        vec![Finding {
            code: "J001".to_owned(),
            error: true,
            line: error.place.line,
            column: error.place.column,
            message: error.message,
        }]
    })?;
    let exporting = Exporting {
        definition,
        root: &root,
    };
    let mut entries = vec![exporting.plan(source)];
    entries.extend(
        definition
            .steps
            .iter()
            .filter_map(|step| exporting.defined(step)),
    );
    let entry = |resource: Value| {
        let url = resource["url"].as_str().unwrap_or_default();
        json!({"fullUrl": url, "resource": resource})
    };
    let entries: Vec<Value> = entries.into_iter().map(entry).collect();
    Ok(json!({"resourceType": "Bundle", "type": "collection", "entry": entries}))
}

struct Exporting<'a> {
    definition: &'a Definition,
    root: &'a Node,
}

impl Exporting<'_> {
    fn url(&self) -> String {
        format!("{JOURNEY_URL}{}", self.definition.name)
    }

    /// The address of what a step is defined by.
    fn url_of(&self, step: &Step) -> String {
        format!("{}:{}", self.url(), step.id)
    }

    fn node(&self, step: &Step) -> Option<&Node> {
        self.root.get("steps")?.get(&step.id)
    }

    fn text(&self, step: &Step, name: &str) -> Option<&str> {
        self.node(step)?.get(step.kind_name())?.get(name)?.text()
    }

    fn plan(&self, source: &str) -> Value {
        let definition = self.definition;
        let mut whole = json!({
            "id": "journey",
            "title": definition.title,
            "groupingBehavior": "logical-group",
            "action": definition.steps.iter().map(|step| self.action(step)).collect::<Vec<_>>(),
        });
        let triggers = self.triggers();
        if !triggers.is_empty() {
            whole["trigger"] = Value::Array(triggers);
        }
        // Of the exits those that look at the patient: others look at what comes, which no condition here can.
        let exits = definition
            .exits
            .iter()
            .filter_map(|exit| match exit.trigger {
                ExitTrigger::Event(condition) => {
                    let condition = definition.conditions.get(condition)?;
                    let path = condition.path.as_ref()?;
                    (condition.kind == ResourceType::Patient).then(|| {
                        json!({"kind": "stop", "expression": {"description": exit.title,
                        "language": "text/fhirpath", "expression": path.text}})
                    })
                }
                ExitTrigger::Segment(_) | ExitTrigger::ConsentWithdrawn => None,
            });
        let exits: Vec<Value> = exits.collect();
        if !exits.is_empty() {
            whole["condition"] = Value::Array(exits);
        }
        json!({
            "resourceType": "PlanDefinition",
            "id": definition.name.chars().take(64).collect::<String>(),
            "extension": [{"url": SOURCE, "valueString": source}],
            "url": self.url(),
            "version": definition.version.to_string(),
            "title": definition.title,
            "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/plan-definition-type", "code": "workflow-definition"}]},
            "status": if definition.version == 0 { "draft" } else { "active" },
            "subjectCodeableConcept": {"coding": [{"system": "http://hl7.org/fhir/resource-types", "code": "Patient"}]},
            "publisher": definition.owner,
            "action": [whole],
        })
    }

    fn triggers(&self) -> Vec<Value> {
        let mut triggers = Vec::new();
        let entry = &self.definition.entry;
        if let (Some(_), Some(event)) = (&entry.date, &entry.event) {
            // FHIR's `periodic` is a time of its own, not one that a resource says.
            let name = format!("date-of-{}", event.kind.name().to_ascii_lowercase());
            triggers.push(json!({"type": "named-event", "name": name}));
        } else if let Some(event) = &entry.event {
            triggers.push(json!({
                "type": "data-added",
                "data": [{"type": event.kind.name()}],
                "condition": {"language": "text/fhirpath", "expression": event.condition.text},
            }));
        }
        if let Some(segment) = self.definition.begins_by() {
            let name = format!("in-segment-{}", segment.name.replace('_', "-"));
            triggers.push(json!({"type": "named-event", "name": name}));
        }
        if self.definition.entry.request.is_some() {
            triggers.push(json!({"type": "named-event", "name": "start-journey"}));
        }
        triggers
    }

    fn action(&self, step: &Step) -> Value {
        let mut action = Map::new();
        action.insert("id".to_owned(), json!(hyphened(&step.id)));
        action.insert("title".to_owned(), json!(step.title));
        if let Some(words) = &step.plain {
            action.insert("description".to_owned(), json!(words));
        }
        let kind = json!([{"coding": [{"system": STEP_SYSTEM, "code": step.kind_name()}]}]);
        action.insert("code".to_owned(), kind);
        let related = self.after(step);
        if !related.is_empty() {
            action.insert("relatedAction".to_owned(), Value::Array(related));
        }
        let lasts = self.text(step, "for").or_else(|| self.text(step, "due"));
        if let Some(lasts) = lasts.and_then(|text| time::duration(text).ok()) {
            action.insert("timingDuration".to_owned(), length(lasts));
        }
        if let Some(role) = self.text(step, "role") {
            let role =
                json!({"coding": [{"system": trust::conventions::ROLE_SYSTEM, "code": role}]});
            let who = json!([{"type": "practitioner", "role": role}]);
            action.insert("participant".to_owned(), who);
        }
        if let Some(defined) = self.defined(step) {
            let url = defined["url"].as_str().unwrap_or_default();
            let canonical = format!("{url}|{}", self.definition.version);
            action.insert("definitionCanonical".to_owned(), json!(canonical));
        }
        Value::Object(action)
    }

    /// After which action a step comes: the only one that leads to it. Where several do, any of them is enough, and
    /// FHIR would have all of them.
    fn after(&self, step: &Step) -> Vec<Value> {
        let Some(own) = self.definition.index.get(&step.id) else {
            return Vec::new();
        };
        let leads = |other: &&Step| {
            let ways = other.ways();
            ways.iter().any(|way| way.target.steps.contains(own))
        };
        let before: Vec<&Step> = self.definition.steps.iter().filter(leads).collect();
        match before.as_slice() {
            [one] if one.id != step.id && !self.definition.start.steps.contains(own) => {
                // What lies within a part begins with it, and the part ends with all that lies within.
                let within = one.kind.encloses().is_some();
                let how = if within { "after-start" } else { "after-end" };
                vec![json!({"actionId": hyphened(&one.id), "relationship": how})]
            }
            _ => Vec::new(),
        }
    }

    /// What a step is defined by: a form, or what is asked of somebody.
    fn defined(&self, step: &Step) -> Option<Value> {
        let version = self.definition.version;
        let form = step
            .kind
            .questionnaire(self.definition, version, step, &hyphened(&step.id), 0);
        if let Some(mut form) = form {
            form.set("url", json!(self.url_of(step)));
            form.set("version", json!(version.to_string()));
            form.remove("date");
            return Some(form.into_value());
        }
        let kind = match step.kind_name() {
            "task" => "Task",
            "send" => "CommunicationRequest",
            "book" => "Appointment",
            _ => return None,
        };
        let title = self.text(step, "title").unwrap_or(&step.title);
        let words = self
            .text(step, "reason")
            .or_else(|| self.text(step, "words"));
        let mut activity = json!({
            "resourceType": "ActivityDefinition",
            "id": hyphened(&step.id),
            "url": self.url_of(step),
            "version": version.to_string(),
            "status": if version == 0 { "draft" } else { "active" },
            "title": title,
            "kind": kind,
        });
        if let Some(words) = words {
            activity["description"] = json!(words);
        }
        if kind == "CommunicationRequest" {
            activity["participant"] = json!([{"type": "patient"}]);
        }
        if let Some(Content::Text(priority)) = self
            .node(step)
            .and_then(|node| node.get("task")?.get("priority"))
            .map(|node| &node.content)
        {
            activity["priority"] = json!(priority);
        }
        Some(activity)
    }
}

/// A length of time, in the largest unit that it is whole in.
fn length(length_ms: u64) -> Value {
    for (unit_ms, code, words) in [
        (86_400_000, "d", "days"),
        (3_600_000, "h", "hours"),
        (60_000, "min", "minutes"),
    ] {
        if length_ms.is_multiple_of(unit_ms) {
            return json!({"value": length_ms / unit_ms, "unit": words, "system": "http://unitsofmeasure.org", "code": code});
        }
    }
    json!({"value": length_ms.div_ceil(1000), "unit": "seconds", "system": "http://unitsofmeasure.org", "code": "s"})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was published goes on being shown, whatever the checker has learnt since.
    #[test]
    fn a_published_version_is_exported_whatever_is_found_now() {
        let file = include_str!("../../../../journeys/heart-failure-discharge.yaml");
        let from = file.find("  weight_missing:\n").unwrap();
        let to = file.find("  weight_missing_task:\n").unwrap();
        let source = format!("{}{}", &file[..from], &file[to..]);
        assert!(export(&source, 1).is_err(), "it would not be published now");
        let (definition, _) = crate::check::compile(&source);
        let bundle = exported(&definition.unwrap(), &source).unwrap();
        assert_eq!(
            bundle["entry"][0]["resource"]["resourceType"],
            "PlanDefinition"
        );
    }
}

//! `PlanDefinition` to a `CarePlan` with what it is made of contained in it (R4, section 12.18.5). Pure.

use super::activity::{Within, activity, form};
use super::values::{Context, Scope, put};
use super::when::{Span, Timed, Times, instant, moved, timing_of};
use super::{ACTIONS_MAX, DEPTH_MAX, Fault, born_ms, canonical_of, check_modifiers, fault};
use fhir::IssueCode;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::HashMap;

/// The extension of an action that says on which days of a cycle it is done.
const DAYS_OF_CYCLE: &str = "http://hl7.org/fhir/StructureDefinition/timing-daysOfCycle";

/// The members that can refer to something that the same resource contains.
const REFERRING: [&str; 4] = ["reference", "valueCanonical", "answerValueSet", "valueSet"];

/// What of an action stands in a `RequestGroup` as it stands in the plan.
const CARRIED: [&str; 13] = [
    "prefix",
    "title",
    "description",
    "textEquivalent",
    "priority",
    "code",
    "documentation",
    "type",
    "groupingBehavior",
    "selectionBehavior",
    "requiredBehavior",
    "precheckBehavior",
    "cardinalityBehavior",
];

/// What a plan says that was decided on a record which may have been shown in part.
const LACKS: &str = "Parts of the record may be kept from whoever asked for this, and actions were decided as if those were not there.";

/// An action of a plan that applies.
struct Action<'a> {
    value: Cow<'a, Value>,
    place: String,
    scope: Scope<'a>,
    parent: Option<usize>,
    parts: Vec<usize>,
    definition: Option<Definition<'a>>,
}

/// What an action is defined by.
struct Definition<'a> {
    canonical: &'a str,
    value: &'a Value,
    /// The same with what it says is to be worked out.
    worked: Cow<'a, Value>,
    /// What contains what it refers to by `#`.
    holder: &'a Value,
}

/// A plan on its way.
struct Making<'a> {
    context: &'a Context,
    contained: Vec<Value>,
    /// What was taken along from what definitions contain, by where it lies, and how it is referred to.
    along: HashMap<usize, String>,
    notes: Vec<String>,
    /// The plans that are being applied, one within the other.
    within: Vec<String>,
    actions: usize,
}

/// The `CarePlan` of a plan.
///
/// # Errors
/// What the plan asks for and isn't done here, and what can't be.
pub(super) fn care_plan(context: &Context, plan: &Value) -> Result<Value, Fault> {
    let mut making = Making::of(context);
    if context.may_lack_rows {
        making.notes.push(LACKS.to_owned());
    }
    let goals = making.goals(plan, context.now_ms)?;
    let group = making.group(plan, "PlanDefinition", context.now_ms, "proposal")?;
    let group = making.contain("group", group, "PlanDefinition")?;
    let mut made = json!({"resourceType": "CarePlan", "status": "draft", "intent": "proposal"});
    let subject = json!({"reference": context.subject.0});
    made["subject"] = subject;
    if let Some(canonical) = canonical_of(plan) {
        made["instantiatesCanonical"] = json!([canonical]);
    }
    for member in ["title", "description"] {
        if let Some(text) = plan.get(member) {
            made[member] = text.clone();
        }
    }
    if let Some((encounter, _)) = &context.encounter {
        made["encounter"] = json!({"reference": encounter});
    }
    made["created"] = json!(instant(context.now_ms));
    let author = context
        .practitioner
        .as_ref()
        .or(context.organization.as_ref());
    if let Some((author, _)) = author {
        made["author"] = json!({"reference": author});
    }
    if !goals.is_empty() {
        made["goal"] = goals.iter().map(|id| json!({"reference": id})).collect();
    }
    made["activity"] = json!([{"reference": {"reference": group}}]);
    if !making.notes.is_empty() {
        let note = |words: &String| json!({"text": words});
        made["note"] = making.notes.iter().map(note).collect();
    }
    made["contained"] = Value::Array(making.contained);
    Ok(made)
}

/// Takes into a request of its own what its definition contains and it refers to.
pub(super) fn bring_along(
    context: &Context,
    definition: &Value,
    made: &mut Value,
) -> Result<(), Fault> {
    let mut making = Making::of(context);
    making.bring(made, definition, "ActivityDefinition")?;
    if !making.contained.is_empty() {
        made["contained"] = Value::Array(making.contained);
    }
    Ok(())
}

impl<'a> Making<'a> {
    fn of(context: &'a Context) -> Self {
        Self {
            context,
            contained: Vec::new(),
            along: HashMap::new(),
            notes: Vec::new(),
            within: Vec::new(),
            actions: 0,
        }
    }

    /// Takes along what something refers to in what its definition contains, and has it refer to it there.
    fn bring(&mut self, value: &mut Value, holder: &Value, place: &str) -> Result<(), Fault> {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.bring(item, holder, place)?;
                }
            }
            Value::Object(members) => {
                for (name, part) in members.iter_mut() {
                    let id = part.as_str().and_then(|text| text.strip_prefix('#'));
                    let id = id.filter(|_| REFERRING.contains(&name.as_str()));
                    match id {
                        Some(id) => *part = json!(self.taken_along(id, holder, place)?),
                        None => self.bring(part, holder, place)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn taken_along(&mut self, id: &str, holder: &Value, place: &str) -> Result<String, Fault> {
        let Some(found) = contained(holder, id) else {
            let words = "refers to something that the definition doesn't contain";
            return Err(fault(IssueCode::NotFound, place, words));
        };
        // Definitions stay where they are for as long as they are applied.
        let key = std::ptr::from_ref(found).addr();
        if let Some(reference) = self.along.get(&key) {
            return Ok(reference.clone());
        }
        self.context.make(found, place)?;
        let kind = found["resourceType"].as_str().unwrap_or_default();
        let at = self.contained.len();
        let id = format!("{}-{}", kind.to_ascii_lowercase(), at + 1);
        let reference = format!("#{id}");
        // It has its place before what it refers to, which may refer to it.
        self.contained.push(Value::Null);
        self.along.insert(key, reference.clone());
        let mut copy = found.clone();
        copy["id"] = json!(id);
        self.bring(&mut copy, holder, place)?;
        self.contained[at] = copy;
        Ok(reference)
    }

    /// Takes a resource into the plan. What refers to it there.
    fn contain(&mut self, name: &str, mut resource: Value, place: &str) -> Result<String, Fault> {
        self.context.make(&resource, place)?;
        let number = self.contained.len() + 1;
        resource["id"] = json!(format!("{name}-{number}"));
        self.contained.push(resource);
        Ok(format!("#{name}-{number}"))
    }

    fn goals(&mut self, plan: &Value, start_ms: i64) -> Result<Vec<String>, Fault> {
        let mut made = Vec::new();
        let goals = plan.get("goal").and_then(Value::as_array);
        for (number, goal) in goals.into_iter().flatten().enumerate() {
            let place = format!("PlanDefinition.goal[{number}]");
            let mut one = json!({"resourceType": "Goal", "lifecycleStatus": "proposed"});
            one["subject"] = json!({"reference": self.context.subject.0});
            if let Some(category) = goal.get("category") {
                one["category"] = json!([category]);
            }
            for (from, to) in [
                ("description", "description"),
                ("priority", "priority"),
                ("start", "startCodeableConcept"),
            ] {
                if let Some(value) = goal.get(from) {
                    one[to] = value.clone();
                }
            }
            if goal.get("addresses").is_some() {
                self.notes.push(format!(
                    "{place}.addresses are codes, and those of a Goal are resources"
                ));
            }
            let targets = goal.get("target").and_then(Value::as_array);
            let mut list = Vec::new();
            for (number, target) in targets.into_iter().flatten().enumerate() {
                let mut made = Map::new();
                for (name, value) in target.as_object().into_iter().flatten() {
                    if name == "due" {
                        let place = format!("{place}.target[{number}].due");
                        let due_ms = moved(start_ms, value, 1, &place)?;
                        let day = instant(due_ms).chars().take(10).collect::<String>();
                        made.insert("dueDate".to_owned(), json!(day));
                    } else if name != "id" {
                        made.insert(name.clone(), value.clone());
                    }
                }
                list.push(Value::Object(made));
            }
            if !list.is_empty() {
                one["target"] = Value::Array(list);
            }
            made.push(self.contain("goal", one, &place)?);
        }
        Ok(made)
    }

    /// The `RequestGroup` of a plan that begins at a moment.
    fn group(
        &mut self,
        plan: &'a Value,
        place: &str,
        start_ms: i64,
        intent: &str,
    ) -> Result<Value, Fault> {
        let canonical = canonical_of(plan);
        let name = canonical.clone().unwrap_or_default();
        if self.within.len() >= DEPTH_MAX || (!name.is_empty() && self.within.contains(&name)) {
            let words =
                format!("plans stand in each other in a circle, or more than {DEPTH_MAX} deep");
            return Err(fault(IssueCode::BusinessRule, place, words));
        }
        self.within.push(name);
        let mut actions = Vec::new();
        let scope = Scope::default();
        self.those_that_apply(plan, plan, place, None, &scope, &mut actions, 0)?;
        let timed: Vec<Timed<'_>> = actions.iter().map(timed).collect();
        let spans = Times::of(&timed, start_ms, born_ms(self.context))?;
        drop(timed);
        let mut made = json!({"resourceType": "RequestGroup", "status": "draft", "intent": intent});
        if let Some(canonical) = canonical {
            made["instantiatesCanonical"] = json!([canonical]);
        }
        made["subject"] = json!({"reference": self.context.subject.0});
        if let Some((encounter, _)) = &self.context.encounter {
            made["encounter"] = json!({"reference": encounter});
        }
        made["authoredOn"] = json!(instant(self.context.now_ms));
        if let Some((author, _)) = &self.context.practitioner {
            made["author"] = json!({"reference": author});
        }
        let tops = (0..actions.len()).filter(|of| actions[*of].parent.is_none());
        let mut list = Vec::new();
        for top in tops.collect::<Vec<_>>() {
            list.push(self.action(&actions, &spans, top)?);
        }
        if !list.is_empty() {
            made["action"] = Value::Array(list);
        }
        self.within.pop();
        Ok(made)
    }

    /// The actions that apply, each before its parts.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different part of where it stands"
    )]
    fn those_that_apply(
        &mut self,
        plan: &'a Value,
        holder: &'a Value,
        place: &str,
        parent: Option<usize>,
        scope: &Scope<'a>,
        actions: &mut Vec<Action<'a>>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            let words = format!("groups stand in each other more than {DEPTH_MAX} deep");
            return Err(fault(IssueCode::TooLong, place, words));
        }
        let list = holder.get("action").and_then(Value::as_array);
        for (number, value) in list.into_iter().flatten().enumerate() {
            let place = format!("{place}.action[{number}]");
            self.actions += 1;
            if self.actions > ACTIONS_MAX {
                let words = format!(
                    "a plan has at most {ACTIONS_MAX} actions, those of the plans in it counted"
                );
                return Err(fault(IssueCode::TooLong, &place, words));
            }
            check_modifiers(value, &place)?;
            let scope = self.context.with_inputs(scope, value, &place)?;
            if !self.applies(value, &scope, &place)? {
                continue;
            }
            if value.get("transform").is_some() {
                let words = "is not carried out here; values are set by dynamicValue";
                return Err(fault(
                    IssueCode::NotSupported,
                    &format!("{place}.transform"),
                    words,
                ));
            }
            let definition = self.definition(plan, value, &scope, &place)?;
            let own = actions.len();
            let but = ["action", "contained"];
            actions.push(Action {
                value: self.context.worked_out(value, &but, &scope, &place)?,
                place: place.clone(),
                scope: scope.clone(),
                parent,
                parts: Vec::new(),
                definition,
            });
            if let Some(parent) = parent {
                actions[parent].parts.push(own);
            }
            self.those_that_apply(plan, value, &place, Some(own), &scope, actions, depth + 1)?;
        }
        Ok(())
    }

    fn applies(&self, action: &Value, scope: &Scope<'_>, place: &str) -> Result<bool, Fault> {
        for (number, condition) in conditions(action).enumerate() {
            if condition.get("kind").and_then(Value::as_str) == Some("applicability") {
                let place = format!("{place}.condition[{number}]");
                if !self.context.holds(condition, scope, &place)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn definition(
        &mut self,
        plan: &'a Value,
        action: &'a Value,
        scope: &Scope<'_>,
        place: &str,
    ) -> Result<Option<Definition<'a>>, Fault> {
        if action.get("definitionUri").is_some() {
            self.notes.push(format!(
                "{place}.definitionUri is nothing that is looked up here"
            ));
        }
        let Some(canonical) = action.get("definitionCanonical").and_then(Value::as_str) else {
            return Ok(None);
        };
        let value = match canonical.strip_prefix('#') {
            Some(id) => contained(plan, id),
            None => self.context.definitions.get(canonical),
        };
        if let Some(value) = value {
            check_modifiers(value, &format!("{place}.definitionCanonical"))?;
        }
        let place = format!("{place}.definitionCanonical");
        let value = value.ok_or_else(|| {
            let words = "names no definition that is here for you";
            fault(IssueCode::NotFound, &place, words)
        })?;
        let worked = if value["resourceType"] == "ActivityDefinition" {
            self.context
                .worked_out(value, &["contained"], scope, &place)?
        } else {
            Cow::Borrowed(value)
        };
        Ok(Some(Definition {
            canonical,
            value,
            worked,
            holder: if canonical.starts_with('#') {
                plan
            } else {
                value
            },
        }))
    }

    /// An action of the `RequestGroup`.
    fn action(
        &mut self,
        actions: &[Action<'a>],
        spans: &[Span],
        of: usize,
    ) -> Result<Value, Fault> {
        let (action, span) = (&actions[of], &spans[of]);
        let mut made = Map::new();
        if let Some(id) = action.value.get("id") {
            made.insert("id".to_owned(), id.clone());
        }
        for member in CARRIED {
            if let Some(value) = action.value.get(member) {
                made.insert(member.to_owned(), value.clone());
            }
        }
        let carried: Vec<Value> = conditions(&action.value)
            .filter(|condition| {
                condition.get("kind").and_then(Value::as_str) != Some("applicability")
            })
            .cloned()
            .collect();
        if !carried.is_empty() {
            made.insert("condition".to_owned(), Value::Array(carried));
        }
        if let Some(related) = action.value.get("relatedAction") {
            made.insert("relatedAction".to_owned(), related.clone());
        }
        if let Some((of, value)) = &span.says {
            made.insert(format!("timing{of}"), value.clone());
        }
        let who = self.participants(&action.value);
        if !who.is_empty() {
            made.insert("participant".to_owned(), Value::Array(who));
        }
        let mut resource = self.defined(action, span)?;
        let context = self.context;
        let dynamic = action.value.get("dynamicValue");
        context.fill(dynamic, &action.scope, &action.place, |path, values| {
            let path = path.strip_prefix('%').unwrap_or(path);
            match (path.strip_prefix("action."), &mut resource) {
                (None, Some(Value::Object(resource))) => {
                    let kind = resource["resourceType"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    put(resource, &kind, path, values)
                }
                (within, _) => put(
                    &mut made,
                    "RequestGroup.action",
                    within.unwrap_or(path),
                    values,
                ),
            }
        })?;
        if let Some(mut resource) = resource {
            let name = if resource["resourceType"] == "RequestGroup" {
                "group"
            } else {
                if let Some(definition) = &action.definition {
                    self.bring(&mut resource, definition.holder, &action.place)?;
                }
                "activity"
            };
            let reference = self.contain(name, resource, &action.place)?;
            made.insert("resource".to_owned(), json!({"reference": reference}));
        }
        let mut parts = Vec::new();
        for part in &action.parts {
            parts.push(self.action(actions, spans, *part)?);
        }
        if !parts.is_empty() {
            if made.contains_key("resource") {
                let words =
                    "has both a definition and actions of its own, which a RequestGroup can't say";
                return Err(fault(IssueCode::BusinessRule, &action.place, words));
            }
            made.insert("action".to_owned(), Value::Array(parts));
        }
        Ok(Value::Object(made))
    }

    /// What an action's definition becomes.
    fn defined(&mut self, action: &Action<'a>, span: &Span) -> Result<Option<Value>, Fault> {
        let Some(definition) = &action.definition else {
            return Ok(None);
        };
        let place = format!("{}.definitionCanonical", action.place);
        let kind = definition.value.get("resourceType").and_then(Value::as_str);
        let canonical = canonical_of(definition.value);
        match kind.unwrap_or_default() {
            "ActivityDefinition" => {
                let within = Within {
                    action: &action.value,
                    span,
                };
                let notes = &mut self.notes;
                let made = activity(
                    self.context,
                    &action.scope,
                    &definition.worked,
                    canonical.as_deref(),
                    Some(within),
                    &place,
                    notes,
                );
                made.map(Some)
            }
            "PlanDefinition" => {
                let start_ms = span.start_ms;
                self.group(definition.value, &place, start_ms, "option")
                    .map(Some)
            }
            "Questionnaire" => {
                // One that is contained is there under that name alone.
                let canonical = canonical
                    .filter(|_| !definition.canonical.starts_with('#'))
                    .unwrap_or_else(|| definition.canonical.to_owned());
                let title = action
                    .value
                    .get("title")
                    .or_else(|| definition.value.get("title"));
                let title = title.and_then(Value::as_str);
                Ok(Some(form(self.context, &canonical, title, span)))
            }
            _ => {
                let words = "an action is defined by an ActivityDefinition, a PlanDefinition or a Questionnaire";
                Err(fault(IssueCode::NotSupported, &place, words))
            }
        }
    }

    /// Who takes part, as far as it is known who that is.
    fn participants(&mut self, action: &Value) -> Vec<Value> {
        let list = action.get("participant").and_then(Value::as_array);
        let mut found = Vec::new();
        for one in list.into_iter().flatten() {
            let who = match one.get("type").and_then(Value::as_str) {
                Some("patient") => Some(&self.context.subject.0),
                Some("practitioner") => self.context.practitioner.as_ref().map(|(who, _)| who),
                _ => None,
            };
            if let Some(who) = who {
                found.push(json!({"reference": who}));
            }
        }
        found
    }
}

fn conditions(action: &Value) -> impl Iterator<Item = &Value> {
    let list = action.get("condition").and_then(Value::as_array);
    list.into_iter().flatten()
}

/// An action as far as times go. Its own timing comes before that of the activity.
fn timed<'t>(action: &'t Action<'_>) -> Timed<'t> {
    let days = days(&action.value);
    let activity = (action.definition.as_ref())
        .map(|definition| definition.worked.as_ref())
        .filter(|value| value["resourceType"] == "ActivityDefinition" && days.is_empty());
    let related = action.value.get("relatedAction").and_then(Value::as_array);
    Timed {
        id: action.value.get("id").and_then(Value::as_str),
        place: action.place.clone(),
        parent: action.parent,
        parts: action.parts.clone(),
        timing: timing_of(&action.value).or_else(|| activity.and_then(timing_of)),
        days,
        related: related.into_iter().flatten().collect(),
    }
}

/// The days of a cycle on which an action is done.
fn days(action: &Value) -> Vec<i64> {
    let extensions = |holder: &Value| {
        let list = holder.get("extension").and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let of = extensions(action).into_iter();
    of.filter(|one| one["url"] == DAYS_OF_CYCLE)
        .flat_map(|one| extensions(&one))
        .filter(|one| one["url"] == "day")
        .filter_map(|one| one["valueInteger"].as_i64())
        .collect()
}

/// What a definition contains, by its id.
pub(super) fn contained<'a>(definition: &'a Value, id: &str) -> Option<&'a Value> {
    let list = definition.get("contained").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .find(|one| one.get("id").and_then(Value::as_str) == Some(id))
}

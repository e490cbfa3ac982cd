//! From a `PlanDefinition` of others to a draft of a journey.
//!
//! Times are carried out, not copied: what comes so long after something else is waited for, what comes before
//! something has that wait for it. A condition becomes a look at the patient, a group that others wait for a part of
//! the journey, a choice of one a task with outcomes. What is asked of somebody is work for staff, a message a
//! message. Whatever else the plan says is told, with its place.

use super::SOURCE;
use super::export::export;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The most actions that a journey is made of: each becomes up to three steps, and a journey has at most 200.
const ACTIONS_MAX: usize = 60;
/// How deep groups are looked into.
const DEPTH_MAX: usize = 8;

/// Something of a plan that its draft doesn't have, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    /// The element, as FHIRPath.
    pub place: String,
    /// What, and what to do about it.
    pub words: String,
}

/// A draft of a journey.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Draft {
    /// The file, in YAML; the checker may still want more of it.
    pub source: String,
    /// What of the plan it doesn't have; nothing where the plan was one of a journey.
    pub left: Vec<Left>,
}

/// A journey of a `PlanDefinition`, or of a `Bundle` of one and of what defines its actions. One that was exported
/// comes back as it was, unless somebody has changed it as a plan meanwhile.
///
/// # Errors
/// In words, where there is no plan, or one that is too large.
pub fn import(given: &Value) -> Result<Draft, String> {
    let resources: Vec<&Value> = match given["resourceType"].as_str() {
        Some("Bundle") => given["entry"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("resource"))
            .collect(),
        Some(_) => vec![given],
        None => return Err("this is no resource of FHIR".to_owned()),
    };
    let mut plans = resources
        .iter()
        .filter(|one| one["resourceType"] == "PlanDefinition");
    let plan = match (plans.next(), plans.next()) {
        (Some(plan), None) => *plan,
        (None, _) => return Err("there is no PlanDefinition".to_owned()),
        (Some(_), Some(_)) => {
            return Err("there are several PlanDefinitions; give one at a time".to_owned());
        }
    };
    let mut left = Vec::new();
    if let Some(source) = own(plan) {
        let version = plan["version"].as_str().and_then(|text| text.parse().ok());
        let same = export(source, version.unwrap_or(0));
        let same = same.ok().filter(|bundle| {
            let exported = &bundle["entry"][0]["resource"];
            ["action", "title", "publisher"]
                .into_iter()
                .all(|name| exported[name] == plan[name])
        });
        if same.is_some() {
            return Ok(Draft {
                source: source.to_owned(),
                left,
            });
        }
        left.push(Left {
            place: "PlanDefinition.extension".to_owned(),
            words: "the journey in it is no longer what the actions say, so the draft is made of the actions"
                .to_owned(),
        });
    }
    let mut importing = Importing {
        plan,
        resources: &resources,
        actions: Vec::new(),
        left,
        steps: BTreeMap::new(),
        order: Vec::new(),
    };
    importing.actions(&plan["action"], "PlanDefinition", None, 0)?;
    if importing.actions.is_empty() {
        return Err("the plan has no actions".to_owned());
    }
    Ok(importing.draft())
}

/// The journey's own text in a plan.
fn own(plan: &Value) -> Option<&str> {
    let extensions = plan.get("extension")?.as_array()?;
    let found = extensions.iter().find(|one| one["url"] == SOURCE)?;
    found["valueString"].as_str()
}

/// An action, with where it stands among the others.
struct Action<'a> {
    value: &'a Value,
    place: String,
    /// Its step's id.
    id: String,
    parent: Option<usize>,
    parts: Vec<usize>,
    /// What it waits for: another action, whether for its end, and how long after.
    after: Option<After>,
}

#[derive(Clone)]
struct After {
    of: usize,
    end: bool,
    wait: Option<String>,
}

struct Importing<'a> {
    plan: &'a Value,
    resources: &'a [&'a Value],
    actions: Vec<Action<'a>>,
    left: Vec<Left>,
    /// The steps by id, as text.
    steps: BTreeMap<String, String>,
    order: Vec<String>,
}

impl<'a> Importing<'a> {
    fn leave(&mut self, place: &str, words: impl Into<String>) {
        self.left.push(Left {
            place: place.to_owned(),
            words: words.into(),
        });
    }

    fn actions(
        &mut self,
        list: &'a Value,
        place: &str,
        parent: Option<usize>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!(
                "groups stand in each other more than {DEPTH_MAX} deep"
            ));
        }
        for (number, value) in list.as_array().into_iter().flatten().enumerate() {
            let place = format!("{place}.action[{number}]");
            if self.actions.len() >= ACTIONS_MAX {
                return Err(format!("a plan has at most {ACTIONS_MAX} actions here"));
            }
            let own = self.actions.len();
            let id = self.id(value, own);
            self.actions.push(Action {
                value,
                place: place.clone(),
                id,
                parent,
                parts: Vec::new(),
                after: None,
            });
            if let Some(parent) = parent {
                self.actions[parent].parts.push(own);
            }
            self.actions(&value["action"], &place, Some(own), depth + 1)?;
        }
        Ok(())
    }

    /// `lower_case_with_underscores`, once.
    fn id(&self, value: &Value, number: usize) -> String {
        let text = value["id"].as_str().or_else(|| value["title"].as_str());
        let id = name(text.unwrap_or_default(), '_');
        let id = if id.is_empty() || id == "end" {
            format!("action_{}", number + 1)
        } else {
            id
        };
        let taken = |id: &str| self.actions.iter().any(|action| action.id == id);
        if taken(&id) {
            format!("{id}_{}", number + 1)
        } else {
            id
        }
    }

    fn draft(mut self) -> Draft {
        self.relate();
        self.unsaid();
        let roots = self.first(None);
        let steps: Vec<usize> = (0..self.actions.len()).collect();
        for of in steps {
            self.step(of);
        }
        let start = self.target(&roots);
        let header = self.header(&start);
        let mut source = header;
        for id in &self.order {
            if let Some(text) = self.steps.get(id) {
                source.push_str(text);
            }
        }
        Draft {
            source,
            left: self.left,
        }
    }

    /// Reads how actions relate: each waits for one other at most.
    fn relate(&mut self) {
        let mut found: Vec<(usize, After, String)> = Vec::new();
        for of in 0..self.actions.len() {
            let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
            let related = value["relatedAction"].as_array();
            for (number, one) in related.into_iter().flatten().enumerate() {
                let place = format!("{place}.relatedAction[{number}]");
                let id = one["actionId"].as_str();
                let other = self
                    .actions
                    .iter()
                    .position(|other| other.value["id"].as_str() == id && id.is_some());
                let Some(other) = other.filter(|other| *other != of) else {
                    self.leave(&place, "names no other action of this plan");
                    continue;
                };
                let offset = one.get("offsetDuration").or_else(|| {
                    let range = one.get("offsetRange")?;
                    range.get("low").or_else(|| range.get("high"))
                });
                if one.get("offsetRange").is_some() {
                    self.leave(&place, "is a range; its beginning is waited for, and how late it may be is not watched");
                }
                let wait = offset.and_then(wait);
                if offset.is_some() && wait.is_none() {
                    self.leave(&place, "has an offset that no duration of a journey is (minutes to weeks, months as 30 days)");
                }
                let how = one["relationship"].as_str().unwrap_or_default();
                // What comes before another is what that one waits for.
                let (of, after) = match how {
                    "after" | "after-end" | "concurrent-with-end" => (
                        of,
                        After {
                            of: other,
                            end: true,
                            wait,
                        },
                    ),
                    "after-start" | "concurrent" | "concurrent-with-start" => (
                        of,
                        After {
                            of: other,
                            end: false,
                            wait,
                        },
                    ),
                    "before" | "before-start" => (
                        other,
                        After {
                            of,
                            end: true,
                            wait,
                        },
                    ),
                    _ => {
                        self.leave(&place, format!("`{how}` has no counterpart: nobody knows beforehand when a step will end"));
                        continue;
                    }
                };
                found.push((of, after, place));
            }
        }
        for (of, after, place) in found {
            let apart = self.actions[of].parent != self.actions[after.of].parent;
            if self.actions[of].after.is_some() {
                self.leave(&place, "is one of several; a step waits for the first that is named, so group what it comes after");
            } else if apart {
                self.leave(
                    &place,
                    "leads into or out of a group; the order within groups is kept, this is not",
                );
            } else if self.leads_to(of, after.of) {
                self.leave(&place, "goes in a circle");
            } else {
                self.actions[of].after = Some(after);
            }
        }
    }

    /// Whether an action comes before another already.
    fn leads_to(&self, first: usize, mut last: usize) -> bool {
        for _ in 0..=self.actions.len() {
            if last == first {
                return true;
            }
            match &self.actions[last].after {
                Some(after) => last = after.of,
                None => return false,
            }
        }
        true
    }

    /// What actions say that no step can.
    fn unsaid(&mut self) {
        let goals = self.plan["goal"].as_array().map_or(0, Vec::len);
        if goals > 0 {
            self.leave(
                "PlanDefinition.goal",
                "goals are not carried over; write `goal` steps for what can be measured",
            );
        }
        for of in 0..self.actions.len() {
            let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
            for (member, words) in [
                (
                    "dynamicValue",
                    "values that are worked out are not carried over; words can name what the journey learns",
                ),
                (
                    "input",
                    "what is looked at besides the patient is not carried over; write a `check`",
                ),
                ("output", "is not carried over"),
                ("transform", "is not carried over"),
                ("timingTiming", "repeats; write a `repeat` around the step"),
                ("timingAge", "is an age; write what starts the journey then"),
                ("timingRange", "is a range; say how soon it is due"),
                (
                    "timingDateTime",
                    "is one day for all patients; say after what it comes",
                ),
                (
                    "timingPeriod",
                    "is one time for all patients; say after what it comes",
                ),
                (
                    "requiredBehavior",
                    "whether it may be left out is for staff to decide: every step is begun",
                ),
                (
                    "precheckBehavior",
                    "is for choosing, and no step is chosen beforehand",
                ),
                (
                    "cardinalityBehavior",
                    "whether it is done several times is not carried over",
                ),
                ("definitionUri", "is not looked up"),
            ] {
                let is_usual = matches!(
                    (member, value[member].as_str()),
                    ("requiredBehavior", Some("must"))
                        | ("cardinalityBehavior", Some("single"))
                        | ("precheckBehavior", Some("no"))
                );
                if value.get(member).is_some() && !is_usual {
                    self.leave(&format!("{place}.{member}"), words);
                }
            }
            if of > 0 && value.get("trigger").is_some() {
                self.leave(
                    &format!("{place}.trigger"),
                    "is not carried over: a journey has one entry",
                );
            }
        }
    }

    /// The actions of a group, or of the plan, that wait for none of the others.
    fn first(&self, parent: Option<usize>) -> Vec<usize> {
        let all = 0..self.actions.len();
        all.filter(|of| self.actions[*of].parent == parent && self.actions[*of].after.is_none())
            .collect()
    }

    /// What waits for an action: for its end, or for its beginning.
    fn waiting(&self, of: usize, end: bool) -> Vec<usize> {
        let waits = |after: &After| after.of == of && after.end == end;
        let all = 0..self.actions.len();
        all.filter(|other| self.actions[*other].after.as_ref().is_some_and(waits))
            .collect()
    }

    /// Where to go for actions: to each with what waits for its beginning, side by side. An action that has to wait
    /// is entered by its wait.
    fn target(&self, of: &[usize]) -> String {
        let mut entries = Vec::new();
        let mut ahead: Vec<usize> = of.iter().rev().copied().collect();
        while let Some(one) = ahead.pop() {
            entries.push(self.entry(one));
            let mut beside = self.waiting(one, false);
            beside.reverse();
            ahead.extend(beside);
        }
        match entries.as_slice() {
            [] => "end".to_owned(),
            [one] => one.clone(),
            _ => format!("[{}]", entries.join(", ")),
        }
    }

    /// Where to go after an action: to what waits for its end; in a choice to what comes after that.
    fn next(&self, of: usize) -> String {
        let waiting = self.waiting(of, true);
        match self.actions[of].parent {
            Some(parent) if waiting.is_empty() && is_choice(self.actions[parent].value) => {
                self.next(parent)
            }
            _ => self.target(&waiting),
        }
    }

    /// The step by which an action is entered: its wait, its condition, or itself.
    fn entry(&self, of: usize) -> String {
        let action = &self.actions[of];
        let waits = action
            .after
            .as_ref()
            .is_some_and(|after| after.wait.is_some());
        if waits {
            format!("{}_wait", action.id)
        } else {
            self.decided(of)
        }
    }

    fn decided(&self, of: usize) -> String {
        let action = &self.actions[of];
        match condition(action.value) {
            Ok(Some(_)) => format!("{}_if", action.id),
            _ => action.id.clone(),
        }
    }

    fn put(&mut self, id: &str, text: String) {
        self.order.push(id.to_owned());
        self.steps.insert(id.to_owned(), text);
    }

    /// The steps of an action: a wait, a look at the patient, and what is done.
    fn step(&mut self, of: usize) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let title = title(value, &id);
        let next = self.next(of);
        if let Some(wait) = self.actions[of]
            .after
            .as_ref()
            .and_then(|after| after.wait.clone())
        {
            let then = self.decided(of);
            self.put(
                &format!("{id}_wait"),
                format!(
                    "  {id}_wait:\n    title: {}\n    wait: {{for: {wait}}}\n    next: {then}\n",
                    quoted(&format!("Until {title}"))
                ),
            );
        }
        match condition(value) {
            Ok(Some(expression)) => {
                let text = format!(
                    "  {id}_if:\n    title: {}\n    check:\n      has: Patient\n      where: {}\n    yes: {id}\n    no: {next}\n",
                    quoted(&format!("{title}?")),
                    quoted(&expression)
                );
                self.put(&format!("{id}_if"), text);
            }
            Ok(None) => {}
            Err(words) => self.leave(&format!("{place}.condition"), words),
        }
        if self.actions[of].parts.is_empty() {
            self.deed(of, &title, &next);
        } else {
            self.group(of, &title, &next);
        }
    }

    /// A group: a part of the journey that has ended when all within it has.
    fn group(&mut self, of: usize, title: &str, next: &str) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let first = self.first(Some(of));
        if value.get("definitionCanonical").is_some() {
            self.leave(
                &format!("{place}.definitionCanonical"),
                "stands at a group, whose actions count",
            );
        }
        let behaviour = value["selectionBehavior"].as_str().unwrap_or("all");
        if is_choice(value) {
            let mut text = format!(
                "  {id}:\n    title: {}\n    task:\n      title: {}\n      reason: One of several is to be chosen.\n      role: clinician\n      due: 1d\n      outcomes:\n",
                quoted(title),
                quoted(&format!("Choose: {title}"))
            );
            for one in &first {
                let target = self.target(&[*one]);
                let _ = writeln!(text, "        {}: {target}", self.actions[*one].id);
            }
            let _ = write!(
                text,
                "    next: {next}\n    overdue: {{role: clinician, priority: urgent}}\n"
            );
            self.put(&id, text);
            return;
        }
        if matches!(behaviour, "any" | "one-or-more" | "all-or-none") {
            self.leave(
                &format!("{place}.selectionBehavior"),
                format!("`{behaviour}` is a choice of people; all of them are begun"),
            );
        }
        let branches: Vec<String> = first.iter().map(|one| self.target(&[*one])).collect();
        // Branches are one step each here; several of a target are branches of their own.
        let branches: Vec<&str> = branches
            .iter()
            .flat_map(|branch| branch.trim_matches(['[', ']']).split(", "))
            .collect();
        let text = format!(
            "  {id}:\n    title: {}\n    parallel:\n      branches: [{}]\n    next: {next}\n",
            quoted(title),
            branches.join(", ")
        );
        self.put(&id, text);
    }

    /// What is done: a message, or work for staff.
    fn deed(&mut self, of: usize, title: &str, next: &str) {
        let (value, place) = (self.actions[of].value, self.actions[of].place.clone());
        let id = self.actions[of].id.clone();
        let definition = self.defined(of);
        let kind = definition.map_or("", |one| match one["resourceType"].as_str() {
            Some("ActivityDefinition") => one["kind"].as_str().unwrap_or("Task"),
            Some(other) => other,
            None => "",
        });
        let words = [&value["description"], &value["textEquivalent"]]
            .into_iter()
            .chain(definition.map(|one| &one["description"]))
            .find_map(Value::as_str)
            .unwrap_or(title)
            .to_owned();
        if kind == "CommunicationRequest" {
            let text = format!(
                "  {id}:\n    title: {}\n    send:\n      title: {}\n      words: {}\n      channels: [portal]\n    next: {next}\n    on_failure: {next}\n",
                quoted(title),
                quoted(title),
                quoted(&plain(&words))
            );
            self.leave(
                &place,
                "goes to the portal alone; say which channels, and what happens when none takes it",
            );
            self.put(&id, text);
            return;
        }
        let told = match kind {
            "" | "Task" => None,
            "Questionnaire" => Some(
                "is a form; staff are asked to see to it until an `ask` step has its questions",
            ),
            "Appointment" => {
                Some("is a visit; staff are asked to arrange it until a `book` step has its time")
            }
            "PlanDefinition" => {
                Some("is a plan of its own; import it by itself, or its actions here")
            }
            _ => Some("is an order; staff are asked to write it"),
        };
        if let Some(words) = told {
            self.leave(&format!("{place}.definitionCanonical"), words);
        }
        let due = value
            .get("timingDuration")
            .or_else(|| definition?.get("timingDuration"))
            .and_then(wait);
        if due.is_none() {
            self.leave(
                &place,
                "doesn't say how soon it is to be done; a day is written",
            );
        }
        let role = role(value.get("participant")).or_else(|| role(definition?.get("participant")));
        if role.is_none() {
            self.leave(
                &place,
                "doesn't say whose work it is; `clinician` is written",
            );
        }
        let priority = match value["priority"]
            .as_str()
            .or_else(|| definition?["priority"].as_str())
        {
            Some("urgent" | "asap" | "stat") => "      priority: urgent\n",
            _ => "",
        };
        let text = format!(
            "  {id}:\n    title: {}\n    task:\n      title: {}\n      reason: {}\n      role: {}\n{priority}      due: {}\n    next: {next}\n    overdue: {{role: clinician, priority: urgent}}\n",
            quoted(title),
            quoted(title),
            quoted(&plain(&words)),
            role.unwrap_or("clinician"),
            due.unwrap_or_else(|| "1d".to_owned()),
        );
        self.put(&id, text);
    }

    /// What an action is defined by, where it came along.
    fn defined(&mut self, of: usize) -> Option<&'a Value> {
        let action = &self.actions[of];
        let canonical = action.value["definitionCanonical"].as_str()?;
        let place = format!("{}.definitionCanonical", action.place);
        let found = match canonical.strip_prefix('#') {
            Some(id) => {
                let contained = self.plan["contained"].as_array();
                contained
                    .into_iter()
                    .flatten()
                    .find(|one| one["id"].as_str() == Some(id))
            }
            None => {
                let (url, version) = match canonical.split_once('|') {
                    Some((url, version)) => (url, Some(version)),
                    None => (canonical, None),
                };
                let is = |one: &&&Value| {
                    one["url"].as_str() == Some(url)
                        && version.is_none_or(|version| one["version"].as_str() == Some(version))
                };
                self.resources.iter().find(is).copied()
            }
        };
        if found.is_none() {
            self.leave(&place, "is not in the file; it is taken for work of staff");
        }
        found
    }

    fn header(&mut self, start: &str) -> String {
        let plan = self.plan;
        let title = plan["title"]
            .as_str()
            .or_else(|| plan["name"].as_str())
            .unwrap_or("A plan of others");
        let own = name(plan["name"].as_str().unwrap_or(title), '-');
        let own = if own.is_empty() {
            "imported".to_owned()
        } else {
            own
        };
        let owner = plan["publisher"].as_str();
        if owner.is_none() {
            self.leave(
                "PlanDefinition.publisher",
                "nobody is named who answers for it; `Nobody yet` is written",
            );
        }
        self.leave("PlanDefinition", "what ends the journey, and how long it may last, is not in plans; look at `exits` and `at_most`");
        let mut text = format!(
            "name: {own}\ntitle: {}\nowner: {}\npurpose: TREAT\nat_most: 365d\nentry:\n",
            quoted(title),
            quoted(owner.unwrap_or("Nobody yet")),
        );
        let triggers = self
            .actions
            .first()
            .and_then(|action| action.value["trigger"].as_array());
        let event = triggers.into_iter().flatten().find_map(|trigger| {
            let of = trigger["type"].as_str()?;
            let kind = trigger["data"][0]["type"].as_str()?;
            let condition = trigger["condition"]["expression"].as_str();
            let fhirpath = trigger["condition"]["language"] == "text/fhirpath";
            (of.starts_with("data-") && fhirpath)
                .then(|| Some((kind.to_owned(), condition?.to_owned())))?
        });
        let many = triggers.map_or(0, Vec::len);
        match event {
            Some((kind, condition)) => {
                let _ = write!(
                    text,
                    "  event: {kind}\n  where: {}\n  anchors: {{written: meta.lastUpdated}}\n  within: 30d\n",
                    quoted(&condition)
                );
                if many > 1 {
                    self.leave("PlanDefinition.action[0].trigger", "there are several; the first that is a resource with a FHIRPath condition starts the journey");
                }
            }
            None => {
                text.push_str("  request: {by: [clinician, system]}\n");
                if many > 0 {
                    self.leave("PlanDefinition.action[0].trigger", "is no resource with a condition in FHIRPath; the journey is started by request");
                }
            }
        }
        let _ = write!(
            text,
            "  per: event\nexits:\n  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}\n  consent: {{title: Consent withdrawn, consent: withdrawn}}\nstart: {start}\nsteps:\n"
        );
        text
    }
}

/// Whether one of a group's actions is chosen.
fn is_choice(group: &Value) -> bool {
    let behaviour = group["selectionBehavior"].as_str();
    let has_parts = group["action"]
        .as_array()
        .is_some_and(|parts| !parts.is_empty());
    has_parts && matches!(behaviour, Some("exactly-one" | "at-most-one"))
}

/// The applicability of an action as one FHIRPath of the patient; in words why not.
fn condition(action: &Value) -> Result<Option<String>, String> {
    let list = action["condition"].as_array();
    let mut all = Vec::new();
    for one in list.into_iter().flatten() {
        let expression = one["expression"]["expression"].as_str().unwrap_or_default();
        if one["kind"] != "applicability" {
            return Err(
                "start and stop conditions are not carried over; write `exits` or a `wait`"
                    .to_owned(),
            );
        }
        if one["expression"]["language"] != "text/fhirpath" {
            return Err(
                "is not in text/fhirpath, so nobody here can ask it; the step is always done"
                    .to_owned(),
            );
        }
        if expression.contains('%') || fhir::path::Expression::compile(expression).is_err() {
            return Err("asks what is not the patient's own entry, or doesn't compile; the step is always done (write a `check`)".to_owned());
        }
        all.push(expression);
    }
    Ok(match all.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        several => Some(
            several
                .iter()
                .map(|one| format!("({one})"))
                .collect::<Vec<_>>()
                .join(" and "),
        ),
    })
}

/// A length of time as a journey writes it. Months are 30 days, years 365.
fn wait(length: &Value) -> Option<String> {
    let value = length["value"].as_f64()?;
    let unit = length["code"]
        .as_str()
        .or_else(|| length["unit"].as_str())?;
    let minutes = match unit.trim() {
        "min" | "minute" | "minutes" => 1.0,
        "h" | "hour" | "hours" => 60.0,
        "d" | "day" | "days" => 1440.0,
        "wk" | "week" | "weeks" => 10_080.0,
        "mo" | "month" | "months" => 43_200.0,
        "a" | "year" | "years" => 525_600.0,
        _ => return None,
    };
    let minutes = (value * minutes).round();
    // Ten years at most, as everywhere in the language.
    if !(1.0..=5_256_000.0).contains(&minutes) {
        return None;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded above"
    )]
    let minutes = minutes as u64;
    Some(match minutes {
        whole if whole.is_multiple_of(1440) => format!("{}d", whole / 1440),
        whole if whole.is_multiple_of(60) => format!("{}h", whole / 60),
        _ => format!("{minutes}m"),
    })
}

/// The role of a journey that is named, if one is.
fn role(participants: Option<&Value>) -> Option<&'static str> {
    let list = participants?.as_array()?;
    let codes = list
        .iter()
        .flat_map(|one| one["role"]["coding"].as_array().into_iter().flatten());
    codes
        .filter(|code| code["system"] == trust::conventions::ROLE_SYSTEM)
        .find_map(|code| match code["code"].as_str() {
            Some("coordinator") => Some("coordinator"),
            Some("clinician") => Some("clinician"),
            _ => None,
        })
}

fn title(action: &Value, id: &str) -> String {
    let text = [
        &action["title"],
        &action["description"],
        &action["textEquivalent"],
    ];
    let text = text.into_iter().find_map(Value::as_str).unwrap_or(id);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(80).collect()
}

/// Words without what would be a variable in a template.
fn plain(words: &str) -> String {
    words.replace(['{', '}'], "")
}

/// A name of the language: small letters and digits with a mark between words.
fn name(text: &str, between: char) -> String {
    let mut name = String::new();
    let mut before = ' ';
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            // `LowRisk` is two words.
            if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
                name.push(between);
            }
            name.push(character.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with(between) {
            name.push(between);
        }
        before = character;
    }
    let name = name.trim_end_matches(between);
    let name = name.trim_start_matches(|first: char| !first.is_ascii_lowercase());
    let short: String = name.chars().take(40).collect();
    short.trim_end_matches(between).to_owned()
}

/// Text as YAML, in quotes.
fn quoted(text: &str) -> String {
    // A string of JSON is one of YAML.
    Value::String(text.to_owned()).to_string()
}

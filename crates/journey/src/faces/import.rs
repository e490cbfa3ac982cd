//! From a `PlanDefinition` of others to a draft of a journey; a form or an activity alone is one of a single step.
//!
//! Times are carried out, not copied: what comes so long after something else is waited for, what comes before
//! something has that wait for it, what comes after several waits for all of them, what repeats has rounds. A
//! condition becomes a look at the patient, a group that others wait for a part of the journey, a choice of one a task
//! with outcomes, a form its questions. What is asked of somebody is work for staff, a message a message. Whatever
//! else the plan says is told, with its place.

mod form;
mod lasting;
mod relate;
mod repeats;
mod steps;
mod texts;

use self::relate::target;
use self::repeats::Rounds;
use self::texts::{name, plain, quoted};
use super::SOURCE;
use super::export::export;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The most actions that a journey is made of. Each becomes up to five steps (its wait, its condition, its rounds, the
/// gap between these, and itself), so a draft can have more than the 200 that a journey has; the checker says so then.
const ACTIONS_MAX: usize = 60;
/// How deep groups are looked into.
const DEPTH_MAX: usize = 8;
/// How the steps end that an action has beside its own.
const BESIDE: [&str; 4] = ["_wait", "_if", "_rounds", "_gap"];

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

/// What an action says that stands for nothing in the plan.
static NOTHING: Value = Value::Null;

/// A journey of a `PlanDefinition`, or of a `Bundle` of one and of what defines its actions; of a `Questionnaire` or an
/// `ActivityDefinition` where there is no plan. A journey that was exported comes back as it was, unless somebody has
/// changed it as a plan meanwhile.
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
        (None, _) => return alone(&resources),
        (Some(_), Some(_)) => {
            return Err("there are several PlanDefinitions; give one at a time".to_owned());
        }
    };
    drafted(plan, &resources)
}

/// A journey of the one form or activity that there is.
fn alone(resources: &[&Value]) -> Result<Draft, String> {
    let kinds = ["ActivityDefinition", "Questionnaire"];
    let is_one = |one: &&&Value| kinds.iter().any(|kind| one["resourceType"] == *kind);
    let mut found = resources.iter().filter(is_one);
    let one = match (found.next(), found.next()) {
        (Some(one), None) => *one,
        (None, _) => {
            return Err(
                "there is no PlanDefinition, nor an ActivityDefinition or Questionnaire".to_owned(),
            );
        }
        (Some(_), Some(_)) => {
            return Err(
                "there are several forms and activities and no PlanDefinition; give one at a time"
                    .to_owned(),
            );
        }
    };
    let kind = one["resourceType"].as_str().unwrap_or_default();
    let mut contained = one.clone();
    contained["id"] = json!("alone");
    let mut plan = json!({
        "resourceType": "PlanDefinition",
        "contained": [contained],
        "action": [{"definitionCanonical": "#alone"}],
    });
    for member in ["name", "title", "publisher"] {
        if let Some(value) = one.get(member) {
            plan[member] = value.clone();
        }
    }
    let title = ["title", "name", "description"];
    if let Some(title) = title.iter().find_map(|name| one.get(name)) {
        plan["action"][0]["title"] = title.clone();
    }
    let mut draft = drafted(&plan, resources)?;
    for left in &mut draft.left {
        // As whoever has the form or activity looks for it.
        for place in [
            "PlanDefinition.action[0].definitionCanonical",
            "PlanDefinition.action[0]",
            "PlanDefinition",
        ] {
            if let Some(rest) = left.place.strip_prefix(place) {
                left.place = format!("{kind}{rest}");
                break;
            }
        }
    }
    Ok(draft)
}

fn drafted(plan: &Value, resources: &[&Value]) -> Result<Draft, String> {
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
        resources,
        actions: Vec::new(),
        legs: Vec::new(),
        days: 0,
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
    /// How often it is done, where that is more than once.
    rounds: Option<Rounds>,
    /// Whether it is none of the plan, and holds what another one comes after.
    joins: bool,
}

#[derive(Clone)]
struct After {
    of: usize,
    end: bool,
    wait: Option<String>,
}

/// A wait after one of several actions that another comes after.
struct Leg {
    of: usize,
    end: bool,
    /// Its step's id.
    id: String,
    wait: String,
    /// What is waited for.
    words: String,
}

struct Importing<'a> {
    plan: &'a Value,
    resources: &'a [&'a Value],
    actions: Vec<Action<'a>>,
    legs: Vec<Leg>,
    /// How many days it may last.
    days: u64,
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
            if value.get("modifierExtension").is_some() {
                return Err(format!(
                    "{place}.modifierExtension may change what all the rest means, and is not known here"
                ));
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
                rounds: None,
                joins: false,
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
        } else if BESIDE.iter().any(|beside| id.ends_with(beside)) {
            // Steps beside an action's own are called so.
            format!("{id}_step")
        } else {
            id
        };
        if self.is_taken(&id) {
            self.free(format!("{id}_{}", number + 1))
        } else {
            id
        }
    }

    fn is_taken(&self, id: &str) -> bool {
        self.actions.iter().any(|action| action.id == id)
            || self.legs.iter().any(|leg| leg.id == id)
    }

    /// An id that no step has.
    fn free(&self, id: String) -> String {
        let mut free = id;
        while self.is_taken(&free) {
            free.push_str("_more");
        }
        free
    }

    fn draft(mut self) -> Draft {
        for of in 0..self.actions.len() {
            self.read_rounds(of);
        }
        self.relate();
        self.days = self.days();
        self.unsaid();
        let roots = self.first(None);
        for of in 0..self.actions.len() {
            self.step(of);
        }
        let start = target(&self.targets(&roots));
        self.waits_of_legs();
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
            self.unsaid_by_definition(of);
            if of > 0 && value.get("trigger").is_some() {
                self.leave(
                    &format!("{place}.trigger"),
                    "is not carried over: a journey has one entry",
                );
            }
        }
    }

    /// What an activity says that no step can.
    fn unsaid_by_definition(&mut self, of: usize) {
        let Some(definition) = self.definition(of) else {
            return;
        };
        let place = format!("{}.definitionCanonical", self.actions[of].place);
        for (member, words) in [
            (
                "dynamicValue",
                "values that are worked out are not carried over; words can name what the journey learns",
            ),
            ("transform", "is not carried over"),
            ("location", "where it is done is not carried over"),
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
                "modifierExtension",
                "may change what all the rest means: look at it before anything else",
            ),
        ] {
            if definition.get(member).is_some() {
                self.leave(&format!("{place}.{member}"), words);
            }
        }
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
            "name: {own}\ntitle: {}\nowner: {}\npurpose: TREAT\nat_most: {}d\nentry:\n",
            quoted(&plain(title)),
            quoted(&plain(owner.unwrap_or("Nobody yet"))),
            self.days,
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

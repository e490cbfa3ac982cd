//! Changes to a person: JSON Patch (RFC 6902) with the published rules around it, all of them or none.
//!
//! Lists could be changed at the wrong place by who has seen an older one, so that an item is named by its id
//! (or an extension by its address) beside its place: what is removed is tested immediately before, what is
//! replaced or added to is named in the same request.

use fhir::Resource;
use fhir::patch::Patch;
use serde_json::{Map, Value, json};

use super::refusal::{Code, Refusal};
use super::rules::Rules;
use super::valid::{Names, check};
use super::view::{LISTS, SINGLE};

/// The most operations of one request.
pub const OPERATIONS_MAX: usize = 200;
const OPERATIONS: [&str; 4] = ["add", "remove", "replace", "test"];
/// What nobody changes.
const FIXED: [&str; 4] = ["id", "identifier", "meta", "resourceType"];
/// What can't be taken away.
const KEPT: [&str; 3] = ["birthDate", "deceasedDateTime", "gender"];

/// What a request asks to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    operations: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Operation {
    op: String,
    path: String,
    value: Option<Value>,
    /// The steps of its path.
    steps: Vec<String>,
}

impl Operation {
    fn parse(place: usize, value: &Value) -> Result<Self, Refusal> {
        let field = |name: &str| format!("{place}/{name}");
        let text = |name: &str| match value.get(name) {
            None => Err(Refusal::missing(&field(name))),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Refusal::value(&field(name))),
        };
        let op = text("op")?;
        if !OPERATIONS.contains(&op.as_str()) {
            return Err(Refusal::value(&field("op")));
        }
        let path = text("path")?;
        let Some(steps) = path.strip_prefix('/') else {
            return Err(Refusal::value(&field("path")));
        };
        let steps = steps
            .split('/')
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect();
        let given = value.get("value").cloned();
        if op != "remove" && given.is_none() {
            return Err(Refusal::missing(&field("value")));
        }
        Ok(Self {
            op,
            path,
            value: given.filter(|_| value["op"] != "remove"),
            steps,
        })
    }
    /// The element of the person that it is about.
    fn root(&self) -> &str {
        &self.steps[0]
    }
    /// The item of a list that it is about: list and place.
    fn item(&self) -> Option<(&str, usize)> {
        let list = self.root();
        let place = self.steps.get(1)?.parse().ok()?;
        is_list(list).then_some((list, place))
    }
    /// Whether it is about a whole item.
    fn is_whole(&self) -> bool {
        self.steps.len() == 2
    }
    /// The name by which it names an item, if it does: the item's own id or address.
    fn names(&self) -> Option<&Value> {
        match (self.steps.get(2), &self.value) {
            (Some(step), Some(value)) if self.steps.len() == 3 && is_naming(self.root(), step) => {
                Some(value)
            }
            (None, Some(value)) if self.is_whole() => value.get(naming(self.root())),
            _ => None,
        }
    }
}

fn is_list(name: &str) -> bool {
    LISTS.contains(&name) || name == "extension"
}

/// What items of a list are named by.
fn naming(list: &str) -> &'static str {
    if list == "extension" { "url" } else { "id" }
}

fn is_naming(list: &str, step: &str) -> bool {
    step == naming(list) || step == "id"
}

impl Change {
    /// Understands the body of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::update("the body is no JSON object with patches"))?;
        let patches = value.get("patches").and_then(Value::as_array);
        let patches = patches.filter(|patches| !patches.is_empty());
        let Some(patches) = patches else {
            return Err(Refusal::update("No patches found"));
        };
        if patches.len() > OPERATIONS_MAX {
            let words =
                format!("Too many values submitted - at most {OPERATIONS_MAX} in field 'patches'");
            return Err(Refusal::new(Code::TooManyValues, words));
        }
        let operations = patches.iter().enumerate();
        let operations = operations.map(|(place, operation)| Operation::parse(place, operation));
        Ok(Self {
            operations: operations.collect::<Result<_, _>>()?,
        })
    }

    /// What the change makes of what is told of a person ([`super::view::whole`]). Today is `YYYY-MM-DD`.
    ///
    /// # Errors
    /// Which of its parts can't be done, and why.
    pub fn apply(
        &self,
        rules: &Rules,
        told: &Value,
        today: &str,
    ) -> Result<Map<String, Value>, Refusal> {
        self.check_form()?;
        let mut now = Resource::from_value(told.clone()).map_err(|_| refused_as_a_whole())?;
        for operation in &self.operations {
            check_named(operation, now.as_value())?;
            check_kept(rules, operation, now.as_value())?;
            now = apply_one(operation, &now)?;
        }
        let before = told.as_object().cloned().unwrap_or_default();
        let mut after = now.members().clone();
        if FIXED
            .iter()
            .any(|name| before.get(*name) != after.get(*name))
        {
            return Err(Refusal::forbidden(
                "number, version and confidentiality are not changed by patches",
            ));
        }
        check((rules, today, Names::Update), &before, &mut after)?;
        check_still_there(rules, &before, &after)?;
        Ok(after)
    }

    /// Rules of the request itself.
    fn check_form(&self) -> Result<(), Refusal> {
        let mut previous: Option<&Operation> = None;
        for (place, operation) in self.operations.iter().enumerate() {
            let root = operation.root();
            if !is_list(root) && !SINGLE.contains(&root) && !FIXED.contains(&root) {
                return Err(Refusal::update(&format!(
                    "Update unsupported for the resource that patch {place} names"
                )));
            }
            // Items have ids, which a list as a whole would be put around.
            if is_list(root) && operation.steps.len() == 1 && operation.op != "test" {
                let what = match operation.op.as_str() {
                    "remove" => "removal",
                    _ => "change",
                };
                return Err(Refusal::update(&format!(
                    "{what} '/{root}' is of a whole list; items are changed one by one"
                )));
            }
            // Who takes away what an item is named by takes the rules from it.
            let third = operation
                .steps
                .get(2)
                .filter(|_| operation.steps.len() == 3);
            if operation.op == "remove"
                && third.is_some_and(|step| is_list(root) && is_naming(root, step))
            {
                return Err(Refusal::update(&format!(
                    "removal '{}' is of what an item is named by",
                    operation.path
                )));
            }
            let is_base = is_list(root) && operation.is_whole();
            if operation.op == "add" && is_base && operation.steps[1] != "-" {
                return Err(Refusal::update(&format!(
                    "an addition to a list is at its end: '/{root}/-'"
                )));
            }
            if let Some((list, at)) = operation.item() {
                let told = format!("/{list}/{at}");
                match operation.op.as_str() {
                    "remove" => {
                        let what = match previous {
                            None => "instead it is the first item",
                            Some(before) if is_test_of(before, operation) => "",
                            Some(_) => "instead another one comes before",
                        };
                        if !what.is_empty() {
                            return Err(Refusal::update(&format!(
                                "removal '{told}' is not immediately preceded by equivalent test - {what}"
                            )));
                        }
                    }
                    "add" | "replace" if !self.names_item(list, at) => {
                        return Err(Refusal::update(&format!(
                            "no id or url found for path with root {told}"
                        )));
                    }
                    _ => {}
                }
            }
            previous = Some(operation);
        }
        Ok(())
    }

    /// Whether something in the request names the item at a place of a list.
    fn names_item(&self, list: &str, place: usize) -> bool {
        let mut all = self.operations.iter();
        all.any(|one| one.item() == Some((list, place)) && one.names().is_some())
    }
}

fn refused_as_a_whole() -> Refusal {
    Refusal::update("what the patches make is no patient")
}

/// Whether one operation makes sure of what the next one takes away.
fn is_test_of(test: &Operation, removal: &Operation) -> bool {
    if test.op != "test" || test.item() != removal.item() {
        return false;
    }
    // The item itself, what names it, or just what is taken away.
    test.is_whole() || test.names().is_some() || test.path == removal.path
}

/// Whoever names an item names the one that is there.
fn check_named(operation: &Operation, now: &Value) -> Result<(), Refusal> {
    let (Some((list, place)), Some(name)) = (operation.item(), operation.names()) else {
        return Ok(());
    };
    if operation.op == "test" {
        return Ok(());
    }
    let by = operation.steps.get(2).map_or(naming(list), String::as_str);
    let items = now[list].as_array();
    let Some(item) = items.and_then(|items| items.get(place)) else {
        return Err(Refusal::update(&format!(
            "Invalid patch - index '{place}' is out of bounds"
        )));
    };
    if item.get(by) == Some(name) {
        return Ok(());
    }
    let words = match items
        .into_iter()
        .flatten()
        .any(|item| item.get(by) == Some(name))
    {
        true => format!("the {by} of '/{list}/{place}' is another"),
        false => format!("no '{list}' resources with that object {by}"),
    };
    Err(Refusal::update(&words))
}

/// What can't be taken away.
fn check_kept(rules: &Rules, operation: &Operation, now: &Value) -> Result<(), Refusal> {
    if operation.op != "remove" || operation.steps.len() > 2 {
        return Ok(());
    }
    let root = operation.root();
    let not = |what: &str| {
        Err(Refusal::forbidden(&format!(
            "source not permitted to remove '{what}'"
        )))
    };
    if KEPT.contains(&root) {
        return not(root);
    }
    let Some((list, place)) = operation.item() else {
        return Ok(());
    };
    let item = &now[list][place];
    match list {
        "name" if item["use"] == "usual" => {
            Err(Refusal::forbidden("not permitted to remove usual name"))
        }
        "generalPractitioner" => not(list),
        "extension" if is_death(rules, item) => not("deathNotificationStatus"),
        _ => Ok(()),
    }
}

fn is_death(rules: &Rules, item: &Value) -> bool {
    let extension = item["url"].as_str().and_then(|url| rules.extension(url));
    extension.is_some_and(|extension| extension.death)
}

/// What was there is there still, however it was reached: a usual name, a practice, how a death became known.
fn check_still_there(
    rules: &Rules,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Result<(), Refusal> {
    let has = |members: &Map<String, Value>, list: &str, is: &dyn Fn(&Value) -> bool| {
        let items = members.get(list).and_then(Value::as_array);
        items.into_iter().flatten().any(is)
    };
    let is_gone =
        |list: &str, is: &dyn Fn(&Value) -> bool| has(before, list, is) && !has(after, list, is);
    if is_gone("name", &|name| name["use"] == "usual") {
        return Err(Refusal::forbidden("not permitted to remove usual name"));
    }
    for (list, what, is) in [
        (
            "generalPractitioner",
            "generalPractitioner",
            &(|_: &Value| true) as &dyn Fn(&Value) -> bool,
        ),
        ("extension", "deathNotificationStatus", &|item: &Value| {
            is_death(rules, item)
        }),
    ] {
        if is_gone(list, is) {
            return Err(Refusal::forbidden(&format!(
                "source not permitted to remove '{what}'"
            )));
        }
    }
    Ok(())
}

fn apply_one(operation: &Operation, now: &Resource) -> Result<Resource, Refusal> {
    let mut patch = json!({"op": operation.op, "path": operation.path});
    if let Some(value) = &operation.value {
        patch["value"] = value.clone();
    }
    // An item that is named by its id is there already; an id is not given.
    let mut list = now.clone();
    if operation.op == "add" && operation.is_whole() && is_list(operation.root()) {
        if let Some(value) = patch["value"].as_object_mut() {
            value.remove("id");
        }
        if list.get(operation.root()).is_none() {
            list.set(operation.root(), json!([]));
        }
    }
    let invalid = |words: &str| Refusal::update(&format!("Invalid patch - {words}"));
    let text = json!([patch]).to_string();
    let patch = Patch::parse_json(text.as_bytes()).map_err(|_| invalid("it is no JSON Patch"))?;
    patch.apply(&list).map_err(|outcome| {
        let words = match (operation.op.as_str(), operation.item()) {
            ("test", _) => "a test does not hold",
            (_, Some((list, place))) if now.as_value()[list].get(place).is_none() => {
                return invalid(&format!("index '{place}' is out of bounds"));
            }
            ("remove", _) => "can't remove non-existent object",
            ("replace", _) => "can't replace non-existent object",
            _ => return invalid(&outcome.issues[0].diagnostics),
        };
        invalid(words)
    })
}

#[cfg(test)]
mod tests;

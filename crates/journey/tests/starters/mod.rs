//! The starter journeys: each can be published, passes its scenarios, is gone through whole by them, and has a page
//! that is made of its file and of a simulated cohort.

use journey::{
    Behaviour, Definition, Drawing, STARTERS, Simulated, Size, Starter, check, draw, format,
    simulate, test,
};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Long enough for a pregnancy.
const SIZE: Size = Size {
    patients: 300,
    days: 365,
    seed: 1,
    threads: 2,
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn compiled(starter: &Starter) -> Arc<Definition> {
    Definition::compile(starter.journey, 1).unwrap()
}

fn cohort(starter: &Starter, definition: &Arc<Definition>) -> Simulated {
    let behaviour = Behaviour::parse(definition, starter.behaviour);
    let behaviour = behaviour.unwrap_or_else(|found| panic!("{}: {found:#?}", starter.name));
    simulate(definition, &behaviour, SIZE)
}

#[test]
fn starters_can_be_published_and_do_what_their_scenarios_say() {
    for starter in STARTERS {
        let name = starter.name;
        assert_eq!(check(starter.journey), [], "{name}");
        let definition = compiled(starter);
        assert_eq!(definition.name, name, "a starter has the name of its file");
        let tested = test(&definition, starter.scenarios);
        let tested = tested.unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        assert!(tested.passed(), "{name}\n{}", tested.text());
        assert_eq!(tested.coverage(), 100, "{name}\n{}", tested.text());
        let canonical = format(starter.journey).unwrap();
        assert_eq!(canonical, starter.journey, "{name} is not in its form");
    }
}

/// What nobody may leave out who copies one: whose it is to say, and what ends it.
#[test]
fn starters_say_whose_their_times_are_and_stop_for_who_is_gone() {
    for starter in STARTERS {
        let (name, intro) = (starter.name, intro(starter));
        assert!(intro.contains("clinicians own"), "{name}: {intro}");
        for exit in ["deceased.exists()", "consent: withdrawn"] {
            assert!(starter.journey.contains(exit), "{name}: {exit}");
        }
    }
}

#[test]
fn all_files_of_starters_are_shipped_and_named() {
    let named = fs::read_to_string(root().join("docs/journeys/starters/README.md")).unwrap();
    let mut files = 0;
    for entry in fs::read_dir(root().join("journeys")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let stem = file.split('.').next().unwrap();
        let known = STARTERS.iter().any(|starter| starter.name == stem);
        assert!(known, "{file} is no starter's");
        files += 1;
    }
    assert_eq!(files, STARTERS.len() * 3);
    for starter in STARTERS {
        let name = starter.name;
        assert!(named.contains(&format!("[{name}]({name}.md)")), "{name}");
    }
}

/// The comment at the head of the file: what it does, and where its times come from.
fn intro(starter: &Starter) -> String {
    let lines = starter.journey.lines().skip(1);
    let lines = lines.take_while(|line| line.starts_with('#'));
    let lines: Vec<&str> = lines.map(|line| line[1..].trim()).collect();
    let text = lines.join("\n");
    let paragraphs = text
        .split("\n\n")
        .map(|part| part.trim().replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path)?.as_str()
}

fn several(value: &Value) -> String {
    match value {
        Value::Array(all) => all.iter().map(several).collect::<Vec<_>>().join(" and "),
        Value::String(one) => one.clone(),
        other => panic!("{other} is no way"),
    }
}

/// Who does a step's work, and by when.
fn who(kind: &str, body: &Value, step: &Value) -> (String, String) {
    let at = |name: &str| text(body, name).unwrap_or_default().to_owned();
    match kind {
        "send" => {
            let channels = several(&body["channels"]).replace(" and ", ", then ");
            let window = body.get("window").map(|_| "in its hours".to_owned());
            (
                format!("written to the patient ({channels})"),
                window.unwrap_or_default(),
            )
        }
        "ask" => {
            let remind =
                text(body, "/remind_after").map(|after| format!("reminded after {after}, "));
            let by = format!(
                "{}given up after {}",
                remind.unwrap_or_default(),
                at("/give_up_after")
            );
            ("the patient answers".to_owned(), by)
        }
        "task" => {
            let mut who = at("/role");
            if body.get("four_eyes") == Some(&Value::Bool(true)) {
                who.push_str(", and a second person");
            }
            let mut by = format!(
                "{} ({})",
                at("/due"),
                text(body, "/priority").unwrap_or("routine")
            );
            for rung in body["ladder"].as_array().into_iter().flatten() {
                let rung = |name: &str| text(rung, name).unwrap_or_default();
                let (after, role, priority) = (rung("/after"), rung("/role"), rung("/priority"));
                let _ = write!(by, "; after {after} {role}, {priority}");
            }
            if let Some(role) = text(step, "/overdue/role") {
                let priority = text(step, "/overdue/priority").unwrap_or_default();
                let _ = write!(by, "; then {role}, {priority}");
            }
            (who, by)
        }
        "book" => (
            "the patient books".to_owned(),
            format!("{}, by {}", at("/time"), at("/book_by")),
        ),
        "wait" => {
            let until = ["/until", "/for"].iter().find_map(|name| text(body, name));
            let at_most = text(body, "/at_most").map(|most| format!("{most} at most"));
            (
                String::new(),
                until.map(str::to_owned).or(at_most).unwrap_or_default(),
            )
        }
        "observe" => {
            let rules = ["rises_more_than", "above", "mean_above", "none_for"];
            let rule = rules.iter().find_map(|name| Some((name, body.get(name)?)));
            let (rule, value) = rule.unwrap();
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let rule = rule.replace('_', " ");
            (
                "the patient measures".to_owned(),
                format!("{} {rule} {value}", at("/code")),
            )
        }
        "journey" => (format!("[{0}]({0}.md)", at("/begins")), at("/up_to")),
        _ => (String::new(), String::new()),
    }
}

/// Where a step leads.
fn leads(kind: &str, body: &Value, step: &Value) -> String {
    let mut ways = Vec::new();
    let mut way = |label: &str, to: &Value| ways.push(format!("{label} → {}", several(to)));
    for name in ["outcomes", "endings"] {
        for (outcome, to) in body[name].as_object().into_iter().flatten() {
            way(outcome, to);
        }
    }
    for list in ["cases", "first_of", "arms"] {
        for one in body[list].as_array().into_iter().flatten() {
            let label = ["/label", "/id", "/event", "/until"];
            let label = label.iter().find_map(|name| text(one, name)).unwrap();
            way(label, &one["next"]);
        }
    }
    if let Some(to) = body.get("otherwise") {
        way("otherwise", to);
    }
    if let Some(parts) = body.get("branches") {
        way("side by side", parts);
    }
    for (name, to) in step.as_object().unwrap() {
        let is_way = to.is_array() || to.is_string();
        if is_way && name != "title" && name != "plain" && name != kind {
            way(&name.replace('_', " "), to);
        }
    }
    ways.join("; ")
}

fn steps(starter: &Starter) -> String {
    let file: Value = serde_saphyr::from_str(starter.journey).unwrap();
    let steps = file["steps"].as_object().unwrap();
    let place = |id: &str| starter.journey.find(&format!("\n  {id}:\n")).unwrap();
    let mut order: Vec<&String> = steps.keys().collect();
    order.sort_by_key(|id| place(id));
    let mut page = "| step | what | who | when | leads to |\n|---|---|---|---|---|\n".to_owned();
    for id in order {
        let step = &steps[id];
        let kinds = [
            "send", "ask", "task", "book", "wait", "branch", "check", "split", "observe", "goal",
            "journey", "parallel", "repeat", "exit",
        ];
        let kind = kinds.iter().find(|kind| step.get(**kind).is_some());
        let kind = kind.unwrap_or_else(|| panic!("{}: {id}", starter.name));
        let body = &step[*kind];
        let title = text(step, "/title").unwrap();
        let (who, when) = who(kind, body, step);
        let leads = leads(kind, body, step);
        let _ = writeln!(
            page,
            "| `{id}` | {kind}: {title} | {who} | {when} | {leads} |"
        );
    }
    page
}

fn page(starter: &Starter) -> String {
    let definition = compiled(starter);
    let tested = test(&definition, starter.scenarios).unwrap();
    let (scenarios, title) = (tested.scenarios.len(), &definition.title);
    let found = cohort(starter, &definition);
    assert!(
        found.refused.is_empty(),
        "{}: {:?}",
        starter.name,
        found.refused
    );
    let (name, intro) = (starter.name, intro(starter));
    let (steps, graph) = (steps(starter), draw(&definition, Drawing::Mermaid));
    format!(
        "# {title}

Made of [{name}.yaml](../../../journeys/{name}.yaml) and of a simulated cohort; a test keeps this page equal to them. Its {scenarios} scenarios stand in [{name}.test.yaml](../../../journeys/{name}.test.yaml) and go through every step and every way, and each of its steps is failed and repeated over a real store ([decision 136](../../decisions/0136-starter-journeys.md)). It belongs to {owner}.

{intro}

## Who does what

{steps}
## The graph

```mermaid
{graph}```

## A simulated cohort

By `cairn journey simulate journeys/{name}.yaml --patients {patients} --days {days} --seed {seed}`, with the assumptions of [{name}.behaviour.yaml](../../../journeys/{name}.behaviour.yaml). Change those to your own. **None of it is data.**

```text
{report}```
",
        owner = definition.owner,
        patients = SIZE.patients,
        days = SIZE.days,
        seed = SIZE.seed,
        report = found.text(),
    )
}

/// `WRITE_DOCS=1` writes the pages anew.
#[test]
fn each_starter_has_a_page_that_is_true() {
    let folder = root().join("docs/journeys/starters");
    for starter in STARTERS {
        let (path, made) = (folder.join(format!("{}.md", starter.name)), page(starter));
        #[allow(
            clippy::disallowed_methods,
            reason = "how a developer asks for the pages to be written anew"
        )]
        if std::env::var_os("WRITE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "{} is out of date; WRITE_DOCS=1 writes it anew",
            path.display()
        );
    }
}

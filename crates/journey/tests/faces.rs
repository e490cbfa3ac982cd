//! Journeys as definitions of FHIR, both ways.

use journey::{Definition, export, import};
use serde_json::{Value, json};

const HEART: &str = include_str!("../../../journeys/heart-failure-discharge.yaml");

/// A journey with a step of most other kinds.
const KINDS: &str = r#"# A comment that comes back.
name: after-surgery
title: After surgery
owner: Surgical team
purpose: TREAT
at_most: 60d
entry:
  request: {by: [system, clinician], asks: {surgery: Day of the operation}}
  per: event
exits:
  death: {title: Died, event: Patient, where: deceased.exists() and deceased != false}
  consent: {title: Consent withdrawn, consent: withdrawn}
start: both
steps:
  both:
    title: Side by side
    parallel:
      branches: [pause, known]
    next: end
  pause:
    title: Two days
    wait: {for: 2d}
    next: call
  known:
    title: Is a weight known?
    check:
      has: Observation
      where: code.coding.exists(code = '29463-7')
    yes: end
    no: weigh
  weigh:
    title: Weigh
    task: {title: Weigh, reason: No weight, role: coordinator, due: 12h, priority: urgent}
    next: end
    overdue: {role: clinician, priority: urgent}
  call:
    title: Call
    task: {title: Call the patient, reason: Surgery, role: coordinator, due: 1d}
    next: end
    overdue: end
"#;

fn resources(bundle: &Value) -> Vec<&Value> {
    let entries = bundle["entry"].as_array().expect("entries");
    entries.iter().map(|entry| &entry["resource"]).collect()
}

fn actions(bundle: &Value) -> &Vec<Value> {
    bundle["entry"][0]["resource"]["action"][0]["action"]
        .as_array()
        .expect("actions")
}

#[test]
fn a_journey_comes_back_as_it_was() {
    for source in [
        HEART.to_owned(),
        KINDS.to_owned(),
        KINDS.replace("entry:\n", "care_plan: false\nentry:\n"),
    ] {
        for version in [0, 7] {
            let bundle = export(&source, version).expect("a journey");
            for resource in resources(&bundle) {
                let resource = fhir::Resource::from_value(resource.clone()).expect("a resource");
                let issues = fhir::validate::check(&resource);
                assert!(issues.is_empty(), "{issues:?}");
            }
            // As others send it, with their order of members and what they add to the plan.
            let text = bundle.to_string();
            let mut sent: Value = serde_json::from_str(&text).expect("JSON");
            sent["entry"][0]["resource"]["meta"] = json!({"versionId": "3"});
            let draft = import(&sent).expect("a plan");
            assert_eq!(draft.source, source);
            assert_eq!(draft.left, []);
        }
    }
    let findings = export("name: broken\n", 1).expect_err("findings");
    assert!(!findings.is_empty());
}

#[test]
fn a_plan_says_of_a_journey_what_fhir_can_say() {
    let bundle = export(KINDS, 7).expect("a journey");
    let plan = &bundle["entry"][0]["resource"];
    assert_eq!(plan["url"], "urn:cairn:journey:after-surgery");
    assert_eq!(
        (&plan["version"], &plan["status"]),
        (&json!("7"), &json!("active"))
    );
    let whole = &plan["action"][0];
    assert_eq!(whole["trigger"][0]["name"], "start-journey");
    assert_eq!(whole["condition"][0]["kind"], "stop");
    let action = |id: &str| {
        let found = actions(&bundle).iter().find(|action| action["id"] == id);
        found.expect("an action")
    };
    assert_eq!(action("pause")["timingDuration"]["value"], 2);
    assert_eq!(
        action("pause")["relatedAction"][0]["relationship"],
        "after-start"
    );
    assert_eq!(
        action("call")["relatedAction"][0],
        json!({"actionId": "pause", "relationship": "after-end"})
    );
    assert_eq!(action("weigh")["timingDuration"]["code"], "h");
    let canonical = "urn:cairn:journey:after-surgery:weigh|7";
    assert_eq!(action("weigh")["definitionCanonical"], canonical);
    let weigh = resources(&bundle)
        .into_iter()
        .find(|one| one["id"] == "weigh")
        .expect("an activity");
    assert_eq!(
        (&weigh["kind"], &weigh["priority"]),
        (&json!("Task"), &json!("urgent"))
    );
    // Forms, messages and visits of the other one.
    let heart = export(HEART, 1).expect("a journey");
    let kinds: Vec<&str> = resources(&heart)
        .iter()
        .filter_map(|one| {
            one["kind"]
                .as_str()
                .or_else(|| one["resourceType"].as_str())
        })
        .collect();
    for kind in [
        "PlanDefinition",
        "Questionnaire",
        "CommunicationRequest",
        "Appointment",
        "Task",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
}

#[test]
fn a_plan_that_others_changed_is_read_anew() {
    let mut bundle = export(KINDS, 1).expect("a journey");
    bundle["entry"][0]["resource"]["action"][0]["action"][1]["timingDuration"]["value"] = json!(9);
    let draft = import(&bundle).expect("a plan");
    assert_ne!(draft.source, KINDS);
    assert_eq!(draft.left[0].place, "PlanDefinition.extension");
}

/// A draft that the checker has nothing against, and what it leaves out.
fn drafted(plan: &Value) -> (String, Vec<String>) {
    let draft = import(plan).expect("a plan");
    let errors: Vec<_> = journey::check(&draft.source)
        .into_iter()
        .filter(|finding| finding.error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}\n{}", draft.source);
    let left = draft.left.iter().map(|left| left.place.clone()).collect();
    (draft.source, left)
}

/// Leads a patient along a draft.
fn played(source: &str, scenarios: &str) {
    let definition = Definition::compile(source, 1).expect("a journey");
    let tested = journey::test(&definition, scenarios).expect("scenarios");
    assert!(tested.passed(), "{}\n{source}", tested.text());
}

/// After `options-example`: a group of two, the second an hour after the end of the first.
#[test]
fn what_comes_after_an_end_is_waited_for() {
    let order = |id: &str, title: &str| json!({"resourceType": "ActivityDefinition", "id": id, "status": "draft", "kind": "Task", "title": title});
    let role = json!({"coding": [{"system": "urn:cairn:role", "code": "coordinator"}]});
    let who = json!([{"type": "practitioner", "role": role}]);
    let hours = |value: i64| json!({"value": value, "unit": "h"});
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "title": "Two drugs", "publisher": "Ward 3",
        "contained": [order("a", "First"), order("b", "Second")],
        "action": [{"id": "all", "title": "Drugs", "groupingBehavior": "logical-group", "selectionBehavior": "all", "action": [
            {"id": "first-dose", "title": "Give the first", "definitionCanonical": "#a", "timingDuration": hours(4), "participant": who},
            {"id": "second-dose", "title": "Give the second", "definitionCanonical": "#b", "timingDuration": hours(4), "participant": who,
                "relatedAction": [{"actionId": "first-dose", "relationship": "after-end", "offsetDuration": hours(1)}]}]},
        {"id": "report", "title": "Report", "timingDuration": hours(4), "participant": who,
            "relatedAction": [{"actionId": "all", "relationship": "after"}]}]});
    let (source, left) = drafted(&plan);
    assert_eq!(left, ["PlanDefinition"], "{source}");
    played(
        &source,
        "given:\n  now: 2026-03-02T11:00:00Z\n  request: {}\nscenarios:\n  - name: One after the other\n    when:\n      - after: 2h\n        task: {step: first_dose}\n      - after: 2h\n        task: {step: second_dose}\n    then:\n      tasks:\n        - {step: first_dose, role: coordinator, at: start}\n        - {step: second_dose, role: coordinator, at: start + 3h}\n        - {step: report, role: coordinator, at: start + 4h}\n",
    );
}

/// After `low-suicide-risk-order-set` and `KDN5`: something before something, a choice of one, a message, a condition
/// on the patient, cycles, and much that a journey can't say.
#[test]
fn choices_conditions_and_what_comes_before() {
    let message = json!({"resourceType": "ActivityDefinition", "url": "http://x.test/tell", "status": "active", "kind": "CommunicationRequest",
        "description": "Don't eat from {midnight} on."});
    let plan = json!({"resourceType": "PlanDefinition", "status": "active", "name": "KneeProtocol", "title": "Knee",
    "goal": [{"description": {"text": "Walks"}}],
    "action": [
        {"id": "tell", "title": "Tell about food", "definitionCanonical": "http://x.test/tell",
            "relatedAction": [{"actionId": "operate", "relationship": "before-start", "offsetDuration": {"value": 12, "unit": "h"}}]},
        {"id": "operate", "title": "Operate", "timingDuration": {"value": 1, "unit": "d"},
            "condition": [{"kind": "applicability", "expression": {"language": "text/fhirpath", "expression": "birthDate < today() - 18 years"}}]},
        {"id": "choose", "title": "Therapy", "selectionBehavior": "exactly-one", "relatedAction": [{"actionId": "operate", "relationship": "after-end"}],
            "action": [{"id": "water", "title": "In water"}, {"id": "land", "title": "On land", "requiredBehavior": "could"}]},
        {"id": "late", "title": "Look again", "relatedAction": [
            {"actionId": "choose", "relationship": "after-end", "offsetRange": {"low": {"value": 2, "unit": "wk"}, "high": {"value": 4, "unit": "wk"}}}]},
        {"id": "odd", "title": "Odd", "timingTiming": {"repeat": {"frequency": 1}},
            "condition": [{"kind": "applicability", "expression": {"language": "text/cql", "expression": "exists [Condition]"}}],
            "dynamicValue": [{"path": "title", "expression": {"language": "text/fhirpath", "expression": "'x'"}}],
            "relatedAction": [{"actionId": "gone", "relationship": "after"}, {"actionId": "late", "relationship": "before-end"}]}
    ]});
    let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": message}, {"resource": plan}]});
    let (source, left) = drafted(&bundle);
    for place in [
        "PlanDefinition.goal",
        "PlanDefinition.action[2].action[1].requiredBehavior",
        "PlanDefinition.action[3].relatedAction[0]",
        "PlanDefinition.action[4].condition",
        "PlanDefinition.action[4].dynamicValue",
        "PlanDefinition.action[4].relatedAction[0]",
        "PlanDefinition.action[4].relatedAction[1]",
        "PlanDefinition.action[4].timingTiming",
        "PlanDefinition.publisher",
    ] {
        assert!(left.iter().any(|left| left == place), "{place}: {left:?}");
    }
    assert!(source.starts_with("name: knee-protocol\n"), "{source}");
    let given = |born: &str| {
        format!(
            "given:\n  now: 2026-03-02T11:00:00Z\n  request: {{}}\n  patient: {{birthDate: \"{born}\"}}\nscenarios:\n"
        )
    };
    let adult = given("1960-05-05");
    played(
        &source,
        &format!(
            "{adult}  - name: An adult\n    when:\n      - after: 13h\n        task: {{step: operate}}\n      - after: 1h\n        task: {{step: choose, outcome: land}}\n      - after: 1h\n        task: {{step: land}}\n      - after: 14d\n    then:\n      sent:\n        - {{step: tell, by: portal, at: start}}\n      tasks:\n        - {{step: odd, at: start}}\n        - {{step: operate, at: start + 12h}}\n        - {{step: choose, at: start + 13h}}\n        - {{step: land, at: start + 14h}}\n        - {{step: late, at: start + 351h}}\n"
        ),
    );
    let child = given("2020-05-05");
    played(
        &source,
        &format!(
            "{child}  - name: A child has no operation\n    when:\n      - after: 13h\n    then:\n      tasks:\n        - {{step: odd, at: start}}\n        - {{step: choose, at: start + 12h}}\n"
        ),
    );
}

#[test]
fn what_is_no_plan_is_said() {
    let many: Vec<Value> = (0..61)
        .map(|number| json!({"title": number.to_string()}))
        .collect();
    let circle = json!([
        {"id": "a", "title": "a", "relatedAction": [{"actionId": "b", "relationship": "after"}]},
        {"id": "b", "title": "b", "relatedAction": [{"actionId": "a", "relationship": "after"}]}]);
    for (given, words) in [
        (json!({"a": 1}), "no resource"),
        (json!({"resourceType": "Patient"}), "no PlanDefinition"),
        (
            json!({"resourceType": "PlanDefinition", "status": "draft"}),
            "no actions",
        ),
        (
            json!({"resourceType": "PlanDefinition", "status": "draft", "action": many}),
            "at most",
        ),
    ] {
        let said = import(&given).expect_err("no plan");
        assert!(said.contains(words), "{said}");
    }
    let (_, left) =
        drafted(&json!({"resourceType": "PlanDefinition", "status": "draft", "action": circle}));
    assert!(
        left.contains(&"PlanDefinition.action[1].relatedAction[0]".to_owned()),
        "{left:?}"
    );
}

/// One Questionnaire has all languages, as FHIR's `translation` beside each text; a plan that comes back has them too.
#[test]
fn a_form_is_exported_with_its_languages() {
    let source = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/journeys/recipes/questions-in-two-languages.yaml"
    ))
    .expect("a recipe");
    let bundle = export(&source, 3).expect("a journey");
    let form = resources(&bundle)
        .into_iter()
        .find(|one| one["resourceType"] == "Questionnaire")
        .expect("a form");
    let said = |words: &str| {
        json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/translation", "extension": [
            {"url": "lang", "valueCode": "es"}, {"url": "content", "valueString": words}]}]})
    };
    assert_eq!(form["language"], "en");
    assert_eq!(form["_title"], said("¿Cómo va la herida?"));
    let question = &form["item"][0];
    assert_eq!(
        (&question["text"], &question["_text"]),
        (
            &json!("How does the wound look?"),
            &said("¿Qué aspecto tiene la herida?")
        )
    );
    assert_eq!(question["item"][0]["_text"], said("Mírela con buena luz."));
    let option = &question["answerOption"][1]["valueCoding"];
    assert_eq!(
        (&option["display"], &option["_display"]),
        (&json!("Red"), &said("Roja"))
    );
    let checked = fhir::Resource::from_value(form.clone()).expect("a resource");
    let issues = fhir::validate::check(&checked);
    assert!(issues.is_empty(), "{issues:?}");
    let draft = import(&bundle).expect("a plan");
    assert_eq!((draft.source, draft.left), (source, Vec::new()));
}

//! Journeys as definitions of FHIR, both ways.

mod imports;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

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

fn hours(value: i64) -> Value {
    json!({"value": value, "unit": "h"})
}

fn coordinator() -> Value {
    let role = json!({"coding": [{"system": "urn:cairn:role", "code": "coordinator"}]});
    json!([{"type": "practitioner", "role": role}])
}

/// An action for a coordinator, due in four hours.
fn work(id: &str, more: &Value) -> Value {
    let mut action =
        json!({"id": id, "title": id, "timingDuration": hours(4), "participant": coordinator()});
    let members = more.as_object().expect("members").clone();
    action.as_object_mut().expect("an action").extend(members);
    action
}

fn plan(actions: &Value) -> Value {
    json!({"resourceType": "PlanDefinition", "status": "draft", "title": "A plan", "publisher": "Ward 3", "action": actions})
}

fn after(of: &str, wait: Option<i64>) -> Value {
    let mut related = json!({"actionId": of, "relationship": "after-end"});
    if let Some(wait) = wait {
        related["offsetDuration"] = hours(wait);
    }
    related
}

const REQUESTED: &str = "given:\n  now: 2026-03-02T11:00:00Z\n  request: {}\nscenarios:\n";

/// What comes after several waits for all of them, with the offset of each; who is done first changes nothing.
#[test]
fn what_comes_after_several_waits_for_all() {
    let plan = plan(&json!([
        work("blood", &json!({})),
        work("scan", &json!({})),
        work("read", &json!({"relatedAction": [after("scan", None)]})),
        work(
            "talk",
            &json!({"relatedAction": [after("blood", Some(2)), after("read", None), after("scan", None)]})
        ),
        work("write", &json!({"relatedAction": [after("talk", None)]})),
    ]));
    let (source, left) = drafted(&plan);
    assert_eq!(left, ["PlanDefinition"], "{source}");
    let done = |first: (&str, u32),
                second: (&str, u32),
                third: (&str, u32),
                read: u32,
                talk: u32| {
        let when = |(step, after): (&str, u32)| {
            format!("      - after: {after}h\n        task: {{step: {step}}}\n")
        };
        format!(
            "  - name: {} first\n    when:\n{}{}{}      - after: 3h\n        task: {{step: talk}}\n    then:\n      tasks:\n        - {{step: blood, at: start}}\n        - {{step: scan, at: start}}\n        - {{step: read, at: start + {read}h}}\n        - {{step: talk, role: coordinator, at: start + {talk}h}}\n        - {{step: write, role: coordinator}}\n",
            first.0,
            when(first),
            when(second),
            when(third),
        )
    };
    // The wait after the blood is over before the scan is read, or after.
    let first = done(("blood", 1), ("scan", 1), ("read", 3), 2, 5);
    let second = done(("scan", 1), ("read", 1), ("blood", 1), 1, 5);
    played(&source, &format!("{REQUESTED}{first}{second}"));
}

/// Two that are joined for one are joined for another as well, and what hangs on one of them alone comes along.
#[test]
fn what_is_joined_twice_is_told() {
    let plan = plan(&json!([
        work("a", &json!({})),
        work("b", &json!({})),
        work("aside", &json!({"relatedAction": [after("a", None)]})),
        work(
            "c",
            &json!({"relatedAction": [after("a", None), after("b", None)]})
        ),
        work(
            "d",
            &json!({"relatedAction": [after("a", None), after("c", None)]})
        ),
        work(
            "e",
            &json!({"relatedAction": [after("b", Some(1)), after("d", None)]})
        ),
    ]));
    let (source, left) = drafted(&plan);
    assert_eq!(
        left,
        [
            "PlanDefinition.action[2]",
            "PlanDefinition.action[5].relatedAction[0]",
            "PlanDefinition"
        ],
        "{source}"
    );
    let done = |step: &str| format!("      - after: 1h\n        task: {{step: {step}}}\n");
    let steps: String = ["a", "aside", "b", "c", "d"]
        .into_iter()
        .map(done)
        .collect();
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: One after the other\n    when:\n{steps}      - after: 2h\n        task: {{step: e}}\n    then:\n      tasks:\n        - {{step: a, at: start}}\n        - {{step: b, at: start}}\n        - {{step: aside, at: start + 1h}}\n        - {{step: c, at: start + 3h}}\n        - {{step: d, at: start + 4h}}\n        - {{step: e, at: start + 5h}}\n      ended: completed\n"
        ),
    );
}

/// Rounds begin a period after each other, however soon one is done; what comes after comes after the last period.
#[test]
fn what_repeats_has_rounds() {
    let daily = json!({"repeat": {"count": 3, "frequency": 1, "period": 1, "periodUnit": "d", "duration": 2, "durationUnit": "h"}});
    let plan = plan(&json!([
        {"id": "weigh", "title": "Weigh", "timingTiming": daily, "participant": coordinator()},
        work("report", &json!({"relatedAction": [after("weigh", None)]})),
        {"id": "cycle", "title": "Cycle", "timingTiming": {"repeat": {"count": 2, "duration": 21, "durationUnit": "d"}},
            "action": [work("give", &json!({})), work("look", &json!({"relatedAction": [after("give", Some(24))]}))]},
    ]));
    let (source, left) = drafted(&plan);
    assert_eq!(left, ["PlanDefinition"], "{source}");
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: Three days, two cycles\n    when:\n      - after: 1h\n        task: {{step: weigh}}\n      - after: 1h\n        task: {{step: give}}\n      - after: 23h\n        task: {{step: weigh}}\n      - after: 24h\n        task: {{step: weigh}}\n      - after: 24h\n        task: {{step: report}}\n      - after: 1h\n        task: {{step: look}}\n      - after: 20d\n        task: {{step: give}}\n    then:\n      tasks:\n        - {{step: weigh, role: coordinator, at: start}}\n        - {{step: give, at: start}}\n        - {{step: weigh, at: start + 24h}}\n        - {{step: look, at: start + 26h}}\n        - {{step: weigh, at: start + 48h}}\n        - {{step: report, at: start + 71h59m}}\n        - {{step: give, at: start + 21d}}\n"
        ),
    );
}

fn weighed(code: &str, words: &str, weight: i64) -> Value {
    let ordinal = json!([{"url": "http://hl7.org/fhir/StructureDefinition/ordinalValue", "valueDecimal": weight}]);
    json!({"valueCoding": {"system": "http://x.test/codes", "code": code, "display": words, "extension": ordinal}})
}

/// After `phq-9-questionnaire`, `gcs` and `zika-virus-exposure-assessment`: what can be asked is, and all else is told.
fn form() -> Value {
    let sum = json!([{"url": "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression",
        "valueExpression": {"language": "text/fhirpath", "expression": "%resource.item.answer.value.ordinal().sum()"}}]);
    let bound = |name: &str, value: i64| json!({"url": format!("http://hl7.org/fhir/StructureDefinition/{name}"), "valueInteger": value});
    json!({"resourceType": "Questionnaire", "url": "http://x.test/mood", "status": "active", "title": "Mood", "publisher": "Ward 3",
    "description": "How have you been?", "subjectType": ["Patient"],
    "contained": [{"resourceType": "ValueSet", "id": "eyes", "status": "active", "compose": {"include": [{"system": "http://loinc.org",
        "concept": [{"code": "LA6553-6", "display": "Never"}, {"code": "LA6556-9", "display": "By themselves"}]}]}}],
    "item": [
        {"linkId": "top", "type": "display", "text": "Please answer."},
        {"linkId": "1", "type": "group", "text": "Two weeks", "item": [
            {"linkId": "1.1", "type": "choice", "text": "Little pleasure?", "required": true,
                "answerOption": [weighed("LA6568-5", "Not at all", 0), weighed("LA6571-9", "Nearly every day", 3)]},
            {"linkId": "1.2", "type": "choice", "text": "Feeling down?", "required": true,
                "answerOption": [weighed("LA6568-5", "Not at all", 0), weighed("LA6571-9", "Nearly every day", 3)],
                "item": [{"linkId": "1.2.h", "type": "display", "text": "In the last two weeks."}]}]},
        {"linkId": "score", "type": "integer", "text": "Total", "extension": sum},
        {"linkId": "eyes", "type": "choice", "text": "Eyes?", "answerValueSet": "#eyes"},
        {"linkId": "pain", "type": "integer", "text": "Pain?", "required": true, "extension": [bound("minValue", 0), bound("maxValue", 10)]},
        {"linkId": "weight", "type": "quantity", "text": "Weight in kg?"},
        {"linkId": "since", "type": "date", "text": "Since when?", "enableWhen": [{"question": "pain", "operator": ">", "answerInteger": 0}], "required": true},
        {"linkId": "sure", "type": "boolean", "text": "Sure?", "required": true},
        {"linkId": "more", "type": "text", "text": "Anything else?", "maxLength": 100},
        {"linkId": "picture", "type": "attachment", "text": "A picture"},
        {"linkId": "elsewhere", "type": "choice", "text": "Which?", "answerValueSet": "http://loinc.org/vs/LL358-3"}
    ]})
}

#[test]
fn a_form_alone_is_asked() {
    let (source, left) = drafted(&form());
    for place in [
        "Questionnaire.item[0]",
        "Questionnaire.item[1]",
        "Questionnaire.item[2]",
        "Questionnaire.item[5]",
        "Questionnaire.item[6]",
        "Questionnaire.item[8].maxLength",
        "Questionnaire.item[9]",
        "Questionnaire.item[10].answerValueSet",
        "Questionnaire.item[10]",
        "Questionnaire",
    ] {
        assert!(left.iter().any(|left| left == place), "{place}: {left:?}");
    }
    let expected = "      questions:
        - id: q_1_1
          text: \"Little pleasure?\"
          type: choice
          options:
            la6568_5: \"Not at all\"
            la6571_9: \"Nearly every day\"
          weights: {la6568_5: 0, la6571_9: 3}
        - id: q_1_2
          text: \"Feeling down?\"
          type: choice
          help: \"In the last two weeks.\"
          options:
            la6568_5: \"Not at all\"
            la6571_9: \"Nearly every day\"
          weights: {la6568_5: 0, la6571_9: 3}
        - id: eyes
          text: \"Eyes?\"
          type: choice
          required: false
          options:
            la6553_6: \"Never\"
            la6556_9: \"By themselves\"
        - id: pain
          text: \"Pain?\"
          type: whole-number
          least: 0
          most: 10
        - id: weight
          text: \"Weight in kg?\"
          type: number
          required: false
        - id: since
          text: \"Since when?\"
          type: date
          required: false
        - id: sure
          text: \"Sure?\"
          type: yes-no
        - id: more
          text: \"Anything else?\"
          type: text
          required: false
      scores:
        score: {sum: [q_1_1, q_1_2]}
      give_up_after: 7d
";
    assert!(source.contains(expected), "{source}");
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: It is asked\n    when:\n      - after: 1h\n        answers: {{step: mood, with: {{q_1_1: la6571_9, q_1_2: la6571_9, pain: 3, sure: true}}}}\n    then:\n      ended: completed\n      ended_at: start + 1h\n"
        ),
    );
}

/// In a plan a form is asked of the patient, in rounds where it repeats, and left to staff where they fill it in.
#[test]
fn forms_of_plans_are_asked() {
    let mut plan = plan(&json!([
        {"id": "ask", "title": "Ask", "definitionCanonical": "http://x.test/mood", "participant": [{"type": "patient"}],
            "timingTiming": {"repeat": {"count": 2, "period": 1, "periodUnit": "wk"}}},
        work("assess", &json!({"definitionCanonical": "http://x.test/mood"})),
    ]));
    plan["contained"] = json!([]);
    let bundle =
        json!({"resourceType": "Bundle", "entry": [{"resource": plan}, {"resource": form()}]});
    let (source, left) = drafted(&bundle);
    assert!(
        source.contains("  ask:\n    title: \"Ask\"\n    ask:\n"),
        "{source}"
    );
    assert!(
        source.contains("  assess:\n    title: \"assess\"\n    task:\n"),
        "{source}"
    );
    assert!(
        left.contains(&"PlanDefinition.action[1].definitionCanonical".to_owned()),
        "{left:?}"
    );
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: Twice, whether it was answered or not\n    when:\n      - after: 8d\n        answers: {{step: ask, with: {{q_1_1: la6568_5, q_1_2: la6568_5, pain: 0, sure: true}}}}\n      - after: 7d\n    then:\n      sent:\n        - {{step: ask, which: invitation, at: start}}\n        - {{step: ask, which: invitation, at: start + 7d}}\n"
        ),
    );
}

/// What others write in braces is no variable of ours.
#[test]
fn braces_of_plans_are_left_out() {
    let mut plan = plan(&json!([
        {"id": "ask", "title": "Ask {name}", "definitionCanonical": "http://x.test/mood", "participant": [{"type": "patient"}]},
        work("assess", &json!({"title": "Give {dose}", "description": "Give {dose} again"})),
    ]));
    plan["title"] = json!("Give {dose}");
    plan["publisher"] = json!("Ward {number}");
    let mut form = form();
    form["title"] = json!("Mood {of}");
    form["item"][0]["text"] = json!("How is {name}?");
    let bundle =
        json!({"resourceType": "Bundle", "entry": [{"resource": plan}, {"resource": form}]});
    let (source, _) = drafted(&bundle);
    assert!(source.contains("title: \"Give dose\""), "{source}");
    let found = journey::check(&source);
    assert!(
        found.iter().all(|found| found.code != "J018"),
        "{found:?}\n{source}"
    );
    assert!(
        !source.contains("{dose}") && !source.contains("{name}"),
        "{source}"
    );
}

#[test]
fn an_activity_alone_is_a_step() {
    let of = |more: Value| {
        let mut activity = json!({"resourceType": "ActivityDefinition", "url": "http://x.test/call", "status": "active", "kind": "Task",
            "title": "Call the patient", "publisher": "Ward 3", "participant": coordinator()});
        activity
            .as_object_mut()
            .expect("members")
            .extend(more.as_object().expect("members").clone());
        activity
    };
    let (source, left) = drafted(&of(json!({"timingDuration": hours(6)})));
    assert_eq!(left, ["ActivityDefinition"], "{source}");
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: Once\n    when:\n      - after: 1h\n        task: {{step: call_the_patient}}\n    then:\n      tasks:\n        - {{step: call_the_patient, role: coordinator, at: start}}\n      ended: completed\n"
        ),
    );
    // What repeats, as an activity says itself; what it says that no step can; what is not to be done.
    let (source, left) = drafted(&of(json!({
        "timingTiming": {"repeat": {"count": 2, "period": 1, "periodUnit": "d"}}, "doNotPerform": true,
        "dynamicValue": [{"path": "x", "expression": {"language": "text/cql", "expression": "x"}}]})));
    assert!(
        source.contains("repeat:") && source.contains("Not to be done: Call the patient"),
        "{source}"
    );
    for place in [
        "ActivityDefinition.doNotPerform",
        "ActivityDefinition.dynamicValue",
    ] {
        assert!(left.iter().any(|left| left == place), "{place}: {left:?}");
    }
    let two = json!({"resourceType": "Bundle", "entry": [{"resource": of(json!({}))}, {"resource": form()}]});
    assert!(import(&two).expect_err("two").contains("one at a time"));
    let mut odd = plan(&json!([work(
        "a",
        &json!({"modifierExtension": [{"url": "http://x.test/not"}]})
    )]));
    assert!(
        import(&odd)
            .expect_err("not known")
            .contains("modifierExtension")
    );
    // Steps beside an action's own take no other action's place.
    odd["action"] = json!([
        work("a", &json!({})),
        work("b", &json!({"relatedAction": [after("a", Some(1))]})),
        work("b_wait", &json!({}))
    ]);
    let (source, _) = drafted(&odd);
    assert!(
        source.contains("  b_wait:\n") && source.contains("  b_wait_step:\n"),
        "{source}"
    );
}

/// All journeys that come with the program, with the segments that they share.
fn shipped() -> BTreeMap<String, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = BTreeMap::new();
    for folder in ["journeys", "docs/journeys/recipes"] {
        let shared = fs::read_to_string(root.join(folder).join("segments.yaml")).ok();
        for entry in fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            let Some(stem) = name.strip_suffix(".yaml") else {
                continue;
            };
            if stem.contains('.') || stem == "segments" {
                continue;
            }
            let own = fs::read_to_string(&path).expect("a file");
            let source = match &shared {
                Some(shared) => journey::with_segments(&own, shared).expect("a journey"),
                None => own,
            };
            found.insert(stem.to_owned(), source);
        }
    }
    assert!(found.len() > 10, "{:?}", found.keys());
    found
}

/// The steps of an exported journey with their kinds.
fn kinds(bundle: &Value) -> Vec<(String, String)> {
    let of = |action: &Value| {
        let kind = action["code"][0]["coding"][0]["code"]
            .as_str()
            .expect("a kind");
        (
            action["id"].as_str().expect("an id").to_owned(),
            kind.to_owned(),
        )
    };
    actions(bundle).iter().map(of).collect()
}

/// Every journey comes back as it was by its extension. Without it, as others would write it down, it is a draft that
/// the checker has nothing against, and `docs/journeys/as-plans.md` has what is lost.
#[test]
fn every_journey_comes_back_and_what_fhir_loses_is_listed() {
    let mut page = String::from(
        "# Journeys as plans, and back\n\nWhat becomes of the journeys that come with Cairn on the way through FHIR's `PlanDefinition` (`cairn journey export` and `import`, [decision 101](../decisions/0101-journeys-as-plans.md)). With the extension `urn:cairn:journey-source` each comes back as it was written, letter by letter. This page has what is left where that extension is taken away, as by a system that doesn't keep it: which step comes back as which kind, and what the import says. A test makes the page (`crates/journey/tests/faces.rs`; `UPDATE_DOCS=1` writes it anew) and fails where it is not so; the checker has no errors in any of the drafts.\n",
    );
    for (name, source) in shipped() {
        let mut bundle =
            export(&source, 3).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        let text = bundle.to_string();
        let draft = import(&serde_json::from_str(&text).expect("JSON")).expect("a plan");
        assert_eq!(draft.source, source, "{name}");
        assert_eq!(draft.left, [], "{name}");
        let before = kinds(&bundle);
        let plan = bundle["entry"][0]["resource"]
            .as_object_mut()
            .expect("a plan");
        plan.shift_remove("extension");
        let draft = import(&bundle).expect("a plan");
        let (again, _) = drafted(&bundle);
        assert_eq!(draft.source, again, "the same again");
        let back = export(&again, 0).expect("a journey");
        let back: BTreeMap<String, String> = kinds(&back).into_iter().collect();
        let _ = write!(
            page,
            "\n## {name}\n\n| step | kind | comes back as |\n|---|---|---|\n"
        );
        for (id, kind) in &before {
            let came = back.get(id).map_or("–", String::as_str);
            let _ = writeln!(page, "| `{id}` | {kind} | {came} |");
        }
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        for left in &draft.left {
            *told.entry(left.words.as_str()).or_default() += 1;
        }
        page.push_str("\nWhat the import says:\n\n");
        for (words, times) in told {
            let _ = match times {
                1 => writeln!(page, "- {words}"),
                times => writeln!(page, "- {words} ({times} times)"),
            };
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/journeys/as-plans.md");
    #[allow(
        clippy::disallowed_methods,
        reason = "how a developer asks for the pages to be written anew"
    )]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("the page is written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/journeys/as-plans.md is not what comes back; run the test with UPDATE_DOCS=1"
    );
}

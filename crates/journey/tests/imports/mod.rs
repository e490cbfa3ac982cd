//! What imports of plans once lost without a word.

use super::{REQUESTED, after, coordinator, drafted, plan, played, work};
use serde_json::{Value, json};

/// What begins with an action waits as long as that does, and isn't begun where the action isn't.
#[test]
fn what_begins_with_another_stands_behind_its_wait_and_its_condition() {
    let days = |value: i64| json!({"value": value, "unit": "d"});
    let beside = |of: &str, wait: Option<i64>| {
        let mut related = json!({"actionId": of, "relationship": "concurrent"});
        if let Some(wait) = wait {
            related["relationship"] = json!("after-start");
            related["offsetDuration"] = days(wait);
        }
        json!({"relatedAction": [related]})
    };
    let adults = json!([{"kind": "applicability",
        "expression": {"language": "text/fhirpath", "expression": "birthDate < today() - 18 years"}}]);
    let of = |condition: &Value| {
        let mut second = json!({"relatedAction": [{"actionId": "a", "relationship": "after-end", "offsetDuration": days(7)}]});
        if !condition.is_null() {
            second["condition"] = condition.clone();
        }
        plan(&json!([
            work("a", &json!({})),
            work("b", &second),
            work("c", &beside("b", None)),
            work("d", &beside("b", Some(1))),
        ]))
    };
    let scenario = |born: &str, tasks: &str| {
        format!(
            "given:\n  now: 2026-03-02T11:00:00Z\n  request: {{}}\n  patient: {{birthDate: \"{born}\"}}\nscenarios:\n  - name: A week later\n    when:\n      - after: 1h\n        task: {{step: a}}\n      - after: 10d\n    then:\n      tasks:\n        - {{step: a, at: start}}\n{tasks}"
        )
    };
    let done = "        - {step: b, at: start + 169h}\n        - {step: c, at: start + 169h}\n        - {step: d, at: start + 193h}\n";
    let (source, left) = drafted(&of(&Value::Null));
    assert_eq!(left, ["PlanDefinition"], "{source}");
    played(&source, &scenario("2020-05-05", done));
    let (source, left) = drafted(&of(&adults));
    assert_eq!(
        left,
        ["PlanDefinition.action[1].condition", "PlanDefinition"],
        "{source}"
    );
    played(&source, &scenario("1960-05-05", done));
    played(&source, &scenario("2020-05-05", ""));
    // So do the waits of what is joined.
    let joined = plan(&json!([
        work("a", &json!({})),
        work(
            "b",
            &json!({"relatedAction": [{"actionId": "a", "relationship": "after-end", "offsetDuration": days(7)}]})
        ),
        work("e", &json!({})),
        work(
            "f",
            &json!({"relatedAction": [after("e", None), {"actionId": "b", "relationship": "after-start", "offsetDuration": days(2)}]})
        ),
    ]));
    let (source, _) = drafted(&joined);
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: Two days after the second began\n    when:\n      - after: 1h\n        task: {{step: a}}\n      - after: 1h\n        task: {{step: e}}\n      - after: 168h\n        task: {{step: b}}\n      - after: 3d\n    then:\n      tasks:\n        - {{step: a, at: start}}\n        - {{step: e, at: start}}\n        - {{step: b, at: start + 169h}}\n        - {{step: f, at: start + 217h}}\n"
        ),
    );
}

/// The journey lasts as long as its plan; what is longer than the longest is told.
#[test]
fn a_journey_lasts_as_long_as_its_plan() {
    let monthly = json!({"repeat": {"count": 24, "period": 1, "periodUnit": "mo"}});
    let (source, left) = drafted(&plan(&json!([
        {"id": "look", "title": "Look", "timingTiming": monthly, "participant": coordinator()},
        work("report", &json!({"relatedAction": [after("look", None)]})),
    ])));
    assert!(source.contains("at_most: 751d"), "{source}");
    assert_eq!(left, ["PlanDefinition.action[0]", "PlanDefinition"]);
    let mut when = String::new();
    let mut then = String::new();
    for round in 0..24 {
        let after = if round == 0 { "1h" } else { "30d" };
        when.push_str(&format!(
            "      - after: {after}\n        task: {{step: look}}\n"
        ));
        let at = match round {
            0 => "start".to_owned(),
            round => format!("start + {}d", 30 * round),
        };
        then.push_str(&format!("        - {{step: look, at: {at}}}\n"));
    }
    played(
        &source,
        &format!(
            "{REQUESTED}  - name: Two years\n    when:\n{when}      - after: 30d\n    then:\n      tasks:\n{then}        - {{step: report, at: start + 719d23h59m}}\n"
        ),
    );
    let years = |value: i64| {
        plan(&json!([
            work("a", &json!({})),
            work(
                "b",
                &json!({"relatedAction": [{"actionId": "a", "relationship": "after-end", "offsetDuration": {"value": value, "unit": "a"}}]})
            ),
            work(
                "c",
                &json!({"relatedAction": [{"actionId": "b", "relationship": "after-end", "offsetDuration": {"value": value, "unit": "a"}}]})
            ),
        ]))
    };
    let (source, left) = drafted(&years(2));
    assert!(source.contains("at_most: 1491d"), "{source}");
    assert_eq!(left, ["PlanDefinition"]);
    let (source, left) = drafted(&years(6));
    assert!(source.contains("at_most: 3650d"), "{source}");
    assert_eq!(left, ["PlanDefinition.action[2]", "PlanDefinition"]);
}

/// A stop condition, or one that nobody here can ask, takes away no other.
#[test]
fn conditions_that_are_not_asked_leave_the_others() {
    let condition = |kind: &str, language: &str, expression: &str| json!({"kind": kind, "expression": {"language": language, "expression": expression}});
    let adults = condition(
        "applicability",
        "text/fhirpath",
        "birthDate < today() - 18 years",
    );
    for other in [
        condition("stop", "text/fhirpath", "deceased.exists()"),
        condition("applicability", "text/cql", "exists [Condition]"),
    ] {
        for conditions in [json!([adults, other]), json!([other, adults])] {
            let (source, left) = drafted(&plan(&json!([work(
                "a",
                &json!({"condition": conditions})
            )])));
            assert_eq!(
                left,
                ["PlanDefinition.action[0].condition", "PlanDefinition"],
                "{source}"
            );
            for (born, tasks) in [
                ("1960-05-05", "[{step: a, at: start}]"),
                ("2020-05-05", "[]"),
            ] {
                played(
                    &source,
                    &format!(
                        "given:\n  now: 2026-03-02T11:00:00Z\n  request: {{}}\n  patient: {{birthDate: \"{born}\"}}\nscenarios:\n  - name: Asked\n    when:\n      - after: 1h\n    then:\n      tasks: {tasks}\n"
                    ),
                );
            }
        }
    }
}

/// Of a value set that isn't listed as it stands no answers are offered.
#[test]
fn answers_that_are_left_out_of_a_value_set_are_not_offered() {
    let listed = json!({"system": "http://x.test", "concept": [{"code": "red"}, {"code": "blue"}]});
    for (compose, asked) in [
        (json!({"include": [listed]}), true),
        (
            json!({"include": [listed], "exclude": [{"system": "http://x.test", "concept": [{"code": "red"}]}]}),
            false,
        ),
        (
            json!({"include": [{"system": "http://x.test", "concept": listed["concept"], "valueSet": ["http://x.test/others"]}]}),
            false,
        ),
    ] {
        let form = json!({"resourceType": "Questionnaire", "status": "active", "title": "Colours", "subjectType": ["Patient"],
            "contained": [{"resourceType": "ValueSet", "id": "all", "status": "active", "compose": compose}],
            "item": [{"linkId": "colour", "text": "Which?", "type": "choice", "answerValueSet": "#all"},
                {"linkId": "sure", "text": "Sure?", "type": "boolean"}]});
        let (source, left) = drafted(&form);
        assert_eq!(source.contains("id: colour"), asked, "{source}");
        let told = left
            .iter()
            .any(|left| left.ends_with("item[0].answerValueSet"));
        assert_eq!(told, !asked, "{left:?}");
    }
}

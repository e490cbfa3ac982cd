//! Plans and activities applied to a patient. The plans are shaped after the examples of R4, as each says.

use super::values::Context;
use super::*;
use serde_json::json;

/// 1 March 2026, noon.
const NOON_MS: i64 = 1_772_366_400_000;

fn context() -> Context {
    let ida = json!({"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "1950-05-17"});
    Context {
        now_ms: NOON_MS,
        subject: ("Patient/p".to_owned(), ida),
        encounter: Some((
            "Encounter/e".to_owned(),
            json!({"resourceType": "Encounter", "id": "e", "class": {"code": "AMB"}}),
        )),
        practitioner: Some((
            "Practitioner/d".to_owned(),
            json!({"resourceType": "Practitioner", "id": "d"}),
        )),
        organization: None,
        given: Vec::new(),
        definitions: HashMap::new(),
        inputs: HashMap::new(),
        may_lack_rows: false,
        budget: Budget::new(STEPS_MAX, BYTES_MAX),
    }
}

/// What comes of a definition; it has to be FHIR.
fn made(context: &Context, definition: &Value) -> Value {
    let made = applied(context, definition).unwrap_or_else(|fault| panic!("{fault:?}"));
    let resource = Resource::from_value(made).expect("a resource");
    let issues = fhir::validate::check(&resource);
    assert!(issues.is_empty(), "{issues:?}");
    resource.into_value()
}

fn group(care_plan: &Value) -> &Value {
    let reference = care_plan["activity"][0]["reference"]["reference"].as_str();
    inside(care_plan, reference.expect("a reference"))
}

fn inside<'a>(care_plan: &'a Value, reference: &str) -> &'a Value {
    plan::contained(care_plan, reference.strip_prefix('#').expect("contained")).expect("there")
}

fn fhirpath(text: &str) -> Value {
    json!({"language": "text/fhirpath", "expression": text})
}

fn when(text: &str) -> Value {
    json!({"kind": "applicability", "expression": fhirpath(text)})
}

/// After `options-example`: two orders in a group, the second an hour after the end of the first.
#[test]
fn two_orders_one_after_the_other() {
    let order = |id: &str| {
        json!({"resourceType": "ActivityDefinition", "id": id, "status": "draft", "kind": "MedicationRequest",
            "productCodeableConcept": {"text": id}})
    };
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "url": "http://x.test/two", "version": "3",
    "contained": [order("first"), order("second")],
    "action": [{"groupingBehavior": "logical-group", "selectionBehavior": "all", "action": [
        {"id": "one", "title": "Give the first", "definitionCanonical": "#first",
            "timingDuration": {"value": 2, "unit": "h"}},
        {"id": "two", "title": "Give the second", "definitionCanonical": "#second",
            "relatedAction": [{"actionId": "one", "relationship": "after-end", "offsetDuration": {"value": 1, "unit": "h"}}]}
    ]}]});
    let made = made(&context(), &plan);
    assert_eq!(
        made["instantiatesCanonical"],
        json!(["http://x.test/two|3"])
    );
    assert_eq!(made["subject"]["reference"], "Patient/p");
    assert_eq!(made["author"]["reference"], "Practitioner/d");
    let top = &group(&made)["action"][0];
    assert_eq!(top["selectionBehavior"], "all");
    let [one, two] = [&top["action"][0], &top["action"][1]];
    assert_eq!(one["timingPeriod"]["end"], "2026-03-01T14:00:00.000Z");
    assert_eq!(two["timingDateTime"], "2026-03-01T15:00:00.000Z");
    assert_eq!(two["relatedAction"][0]["actionId"], "one");
    let order = inside(&made, two["resource"]["reference"].as_str().unwrap());
    assert_eq!(order["resourceType"], "MedicationRequest");
    assert_eq!(order["intent"], "option");
    assert_eq!(order["medicationCodeableConcept"]["text"], "second");
    assert_eq!(order["requester"]["reference"], "Practitioner/d");
    assert_eq!(
        order["dispenseRequest"]["validityPeriod"]["start"],
        "2026-03-01T15:00:00.000Z"
    );
}

/// After `low-suicide-risk-order-set`: groups in each other of which one or any are chosen, goals, contained
/// activities with dynamic values, one of which asks for the time in the words that CQL and FHIRPath nearly share.
#[test]
fn an_order_set_of_groups_to_choose_from() {
    let plan = json!({"resourceType": "PlanDefinition", "status": "active", "title": "Sleep",
    "goal": [{"category": {"text": "Treatment"}, "description": {"text": "Sleeps six hours"},
        "target": [{"measure": {"text": "hours"}, "detailQuantity": {"value": 6, "unit": "h"}, "due": {"value": 2, "unit": "mo"}}]}],
    "contained": [
        {"resourceType": "ActivityDefinition", "id": "refer", "status": "active", "kind": "ServiceRequest",
            "code": {"text": "Sleep clinic"}, "participant": [{"type": "practitioner", "role": {"text": "Neurologist"}}],
            "dynamicValue": [
                {"path": "occurrenceTiming.event", "expression": {"language": "text/cql", "expression": "Now()"}},
                {"path": "reasonCode", "expression": fhirpath("%encounter.class.code.select('because of ' + $this).first()")}]},
        {"resourceType": "ActivityDefinition", "id": "drug", "status": "active", "kind": "MedicationRequest",
            "productCodeableConcept": {"text": "Melatonin"}, "dosage": [{"text": "one at night"}],
            "timingTiming": {"repeat": {"boundsDuration": {"value": 3, "unit": "wk"}, "frequency": 1, "period": 1, "periodUnit": "d"}},
            "dynamicValue": [{"path": "dispenseRequest.numberOfRepeatsAllowed", "expression": {"language": "text/cql", "expression": "2"}}]}
    ],
    "action": [{"title": "Help", "groupingBehavior": "visual-group", "selectionBehavior": "any", "action": [
        {"title": "Refer", "definitionCanonical": "#refer", "requiredBehavior": "could", "precheckBehavior": "yes",
            "reason": [{"text": "Bad sleep"}],
            "dynamicValue": [{"path": "action.description", "expression": fhirpath("'Born ' + birthDate.toString()")},
                {"path": "reasonCode", "expression": fhirpath("%nothing-is-said")}]},
        {"title": "Drugs", "groupingBehavior": "logical-group", "selectionBehavior": "at-most-one", "action": [
            {"title": "Melatonin", "definitionCanonical": "#drug"},
            {"title": "For children", "condition": [when("birthDate > today() - 18 years")], "definitionCanonical": "#gone"}
        ]}
    ]}]});
    // An unknown variable is a mistake, not nothing.
    let fault = applied(&context(), &plan).unwrap_err();
    assert_eq!(
        fault.place,
        "PlanDefinition.action[0].action[0].dynamicValue[1].expression"
    );
    let mut plan = plan;
    plan["action"][0]["action"][0]["dynamicValue"]
        .as_array_mut()
        .unwrap()
        .pop();
    plan["contained"][0]["dynamicValue"][1]["expression"] =
        fhirpath("%encounter.class.select(code)");
    let fault = applied(&context(), &plan).map(|made| {
        let made = Resource::from_value(made).unwrap();
        fhir::validate::check(&made).remove(0).expression
    });
    assert_eq!(
        fault.unwrap().unwrap(),
        "CarePlan.contained[1].reasonCode[0]",
        "a code is no CodeableConcept"
    );
    plan["contained"][0]["dynamicValue"]
        .as_array_mut()
        .unwrap()
        .pop();
    let made = made(&context(), &plan);
    let goal = inside(&made, made["goal"][0]["reference"].as_str().unwrap());
    assert_eq!(goal["target"][0]["dueDate"], "2026-05-01");
    let top = &group(&made)["action"][0];
    assert_eq!(top["groupingBehavior"], "visual-group");
    let refer = &top["action"][0];
    assert_eq!(refer["description"], "Born 1950-05-17");
    assert_eq!(refer["precheckBehavior"], "yes");
    let request = inside(&made, refer["resource"]["reference"].as_str().unwrap());
    assert_eq!(
        request["occurrenceTiming"]["event"][0],
        "2026-03-01T12:00:00.000Z"
    );
    assert_eq!(request["reasonCode"][0]["text"], "Bad sleep");
    assert_eq!(request["performerType"]["text"], "Neurologist");
    let drugs = &top["action"][1];
    assert_eq!(
        drugs["action"].as_array().unwrap().len(),
        1,
        "what doesn't apply isn't there"
    );
    let request = inside(
        &made,
        drugs["action"][0]["resource"]["reference"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(request["dispenseRequest"]["numberOfRepeatsAllowed"], 2);
    let bounds = &request["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"];
    assert_eq!(bounds["end"], "2026-03-22T12:00:00.000Z");
}

/// After `protocol-example`: one step whose condition is in CQL. It is refused as a whole, with the place.
#[test]
fn what_is_in_cql_is_refused() {
    let condition = json!({"kind": "applicability", "expression": {"language": "text/cql", "expression": "exists [Condition]"}});
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "Measure", "condition": [condition]}]});
    let fault = applied(&context(), &plan).unwrap_err();
    assert_eq!(fault.code, IssueCode::NotSupported);
    assert_eq!(
        fault.place,
        "PlanDefinition.action[0].condition[0].expression"
    );
    assert!(fault.words.contains("text/fhirpath"), "{}", fault.words);
}

/// After `KDN5`: cycles of a treatment as nested groups, each with orders at days of the cycle.
#[test]
fn cycles_with_days() {
    let day = |id: &str, days: i64| {
        json!({"id": id, "title": id, "relatedAction": [{"actionId": "cycle-1", "relationship": "after-start",
            "offsetDuration": {"value": days, "unit": "d"}}]})
    };
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [
        {"id": "cycle-1", "title": "First cycle", "action": [
            {"id": "day-1", "title": "day-1"}, day("day-8", 7),
        ]},
        {"id": "cycle-2", "title": "Second cycle",
            "condition": [{"kind": "stop", "expression": fhirpath("false")}],
            "relatedAction": [{"actionId": "cycle-1", "relationship": "after-end", "offsetDuration": {"value": 2, "unit": "wk"}}],
            "action": [{"id": "again", "title": "again", "participant": [{"type": "patient"}, {"type": "device"}]}]}
    ]});
    let made = made(&context(), &plan);
    let actions = &group(&made)["action"];
    assert_eq!(
        actions[0]["action"][1]["timingDateTime"],
        "2026-03-08T12:00:00.000Z"
    );
    // Two weeks after the last day of the first.
    assert_eq!(actions[1]["timingDateTime"], "2026-03-22T12:00:00.000Z");
    assert_eq!(
        actions[1]["condition"][0]["kind"], "stop",
        "stop conditions are for whoever carries it out"
    );
    assert_eq!(
        actions[1]["action"][0]["participant"],
        json!([{"reference": "Patient/p"}])
    );
}

/// After the opioid recommendations: actions whose conditions look at the record.
#[test]
fn conditions_look_at_inputs_of_the_record() {
    let requirement = json!({"id": "pressures", "type": "Observation",
        "codeFilter": [{"path": "code", "code": [{"system": "http://loinc.org", "code": "8480-6"}]}]});
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "High", "input": [requirement], "action": [
        {"title": "Treat", "condition": [when("%pressures.where(valueQuantity.value > 160).count() > 1")]},
        {"title": "Watch", "condition": [when("%pressures.exists()"), when("gender = 'female'")]},
    ]}]});
    let mut wanted = Wanted::default();
    wanted.look(&plan).unwrap();
    let asked = wanted.inputs.into_iter().next().unwrap();
    assert_eq!(
        asked.parameters,
        [("code".to_owned(), "http://loinc.org|8480-6".to_owned())]
    );
    let of = |values: &[i64]| {
        let rows = values
            .iter()
            .map(|value| json!({"resourceType": "Observation", "valueQuantity": {"value": value}}));
        let mut context = context();
        context.inputs.insert(asked.clone(), rows.collect());
        let made = made(&context, &plan);
        let titles = group(&made)["action"][0]["action"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        titles
            .iter()
            .map(|one| one["title"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&[170, 180]), ["Treat", "Watch"]);
    assert_eq!(of(&[170, 120]), ["Watch"]);
    assert_eq!(of(&[]), Vec::<String>::new());
}

#[test]
fn plans_stand_in_plans_but_not_in_themselves() {
    let mut context = context();
    let inner = json!({"resourceType": "PlanDefinition", "status": "active", "url": "http://x.test/inner", "action": [
        {"id": "a", "title": "a", "timingDuration": {"value": 1, "unit": "d"}}, {"title": "form", "definitionCanonical": "http://x.test/form"}]});
    let form = json!({"resourceType": "Questionnaire", "status": "active", "url": "http://x.test/form", "version": "2"});
    let outer = json!({"resourceType": "PlanDefinition", "status": "active", "url": "http://x.test/outer", "action": [
        {"title": "first", "id": "f"},
        {"title": "all of it", "definitionCanonical": "http://x.test/inner",
            "relatedAction": [{"actionId": "f", "relationship": "after", "offsetDuration": {"value": 1, "unit": "d"}}]}]});
    context
        .definitions
        .insert("http://x.test/inner".to_owned(), inner);
    context
        .definitions
        .insert("http://x.test/form".to_owned(), form);
    context
        .definitions
        .insert("http://x.test/outer".to_owned(), outer.clone());
    let done = made(&context, &outer);
    let inner = inside(
        &done,
        group(&done)["action"][1]["resource"]["reference"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(
        (&inner["resourceType"], &inner["intent"]),
        (&json!("RequestGroup"), &json!("option"))
    );
    // It begins when its action does.
    assert_eq!(
        inner["action"][0]["timingPeriod"]["start"],
        "2026-03-02T12:00:00.000Z"
    );
    let task = inside(
        &done,
        inner["action"][1]["resource"]["reference"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(task["input"][0]["valueCanonical"], "http://x.test/form|2");
    assert_eq!(task["for"]["reference"], "Patient/p");

    let itself = json!({"resourceType": "PlanDefinition", "status": "active", "url": "http://x.test/outer", "action": [
        {"title": "again", "definitionCanonical": "http://x.test/outer"}]});
    context
        .definitions
        .insert("http://x.test/outer".to_owned(), itself.clone());
    assert!(
        applied(&context, &itself)
            .unwrap_err()
            .words
            .contains("circle")
    );
}

/// Each kind of activity, as what is asked for by it.
#[test]
fn activities_become_requests() {
    let of = |kind: &str, more: Value| {
        let mut definition = json!({"resourceType": "ActivityDefinition", "status": "active", "url": "http://x.test/a",
            "kind": kind, "code": {"text": "What"}, "intent": "order", "priority": "urgent",
            "timingPeriod": {"start": "2026-04-01", "end": "2026-04-02"}});
        definition
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        definition
    };
    let drug = json!({"productCodeableConcept": {"text": "Drug"}, "quantity": {"value": 3}});
    for (kind, more, pointer, value) in [
        (
            "Task",
            json!({"participant": [{"type": "patient"}]}),
            "/owner/reference",
            json!("Patient/p"),
        ),
        (
            "Task",
            json!({}),
            "/restriction/period/end",
            json!("2026-04-02"),
        ),
        (
            "ServiceRequest",
            json!({"doNotPerform": true}),
            "/doNotPerform",
            json!(true),
        ),
        (
            "ServiceRequest",
            json!({}),
            "/occurrencePeriod/start",
            json!("2026-04-01"),
        ),
        (
            "ServiceRequest",
            json!({}),
            "/encounter/reference",
            json!("Encounter/e"),
        ),
        ("ServiceRequest", json!({}), "/intent", json!("order")),
        (
            "MedicationRequest",
            drug.clone(),
            "/dispenseRequest/quantity/value",
            json!(3),
        ),
        (
            "CommunicationRequest",
            json!({"description": "Call"}),
            "/payload/0/contentString",
            json!("Call"),
        ),
        (
            "DeviceRequest",
            json!({}),
            "/codeCodeableConcept/text",
            json!("What"),
        ),
        (
            "NutritionOrder",
            json!({}),
            "/oralDiet/type/0/text",
            json!("What"),
        ),
        (
            "SupplyRequest",
            drug,
            "/itemCodeableConcept/text",
            json!("Drug"),
        ),
        (
            "Appointment",
            json!({}),
            "/requestedPeriod/0/start",
            json!("2026-04-01"),
        ),
        (
            "Appointment",
            json!({}),
            "/participant/1/actor/reference",
            json!("Practitioner/d"),
        ),
    ] {
        let made = made(&context(), &of(kind, more));
        assert_eq!(made["resourceType"], kind);
        assert_eq!(made.pointer(pointer), Some(&value), "{kind}: {made}");
    }
    // What has no place in it is said.
    let made = made(
        &context(),
        &of("Task", json!({"bodySite": [{"text": "arm"}]})),
    );
    assert!(
        made["extension"][0]["valueString"]
            .as_str()
            .unwrap()
            .contains("bodySite")
    );
    for (kind, more, place) in [
        ("Claim", json!({}), "ActivityDefinition.kind"),
        (
            "Task",
            json!({"doNotPerform": true}),
            "ActivityDefinition.doNotPerform",
        ),
        (
            "Task",
            json!({"intent": "directive"}),
            "ActivityDefinition.intent",
        ),
        (
            "Task",
            json!({"transform": "http://x.test/map"}),
            "ActivityDefinition.transform",
        ),
        ("MedicationRequest", json!({}), "ActivityDefinition.product"),
        ("SupplyRequest", json!({}), "ActivityDefinition.quantity"),
    ] {
        let fault = applied(&context(), &of(kind, more)).unwrap_err();
        assert_eq!(fault.place, place);
    }
}

#[test]
fn conditions_that_can_not_be_decided_are_said() {
    for (condition, code) in [
        (json!({"kind": "applicability"}), IssueCode::Required),
        (when("gender"), IssueCode::Value),
        (when("name.where("), IssueCode::Invalid),
        (
            json!({"kind": "applicability", "expression": {"language": "text/fhirpath", "reference": "http://x.test/lib"}}),
            IssueCode::NotSupported,
        ),
    ] {
        let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "x", "condition": [condition]}]});
        assert_eq!(applied(&context(), &plan).unwrap_err().code, code, "{plan}");
    }
}

#[test]
fn plans_are_bounded() {
    let many: Vec<Value> = (0..=ACTIONS_MAX)
        .map(|number| json!({"title": number.to_string()}))
        .collect();
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": many});
    assert_eq!(
        applied(&context(), &plan).unwrap_err().code,
        IssueCode::TooLong
    );
    let mut deep = json!({"title": "x"});
    for _ in 0..=DEPTH_MAX {
        deep = json!({"title": "x", "action": [deep]});
    }
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [deep]});
    assert_eq!(
        applied(&context(), &plan).unwrap_err().code,
        IssueCode::TooLong
    );
}

#[test]
fn what_costs_too_much_is_refused() {
    let of = |text: &str| json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "x", "condition": [when(text)]}]});
    let long = "a".repeat(100);
    for text in [
        "(1).repeat($this + 1).exists()",
        &format!(
            "'a'{}.exists()",
            format!(".replace('a', '{long}')").repeat(8)
        ),
    ] {
        let fault = applied(&context(), &of(text)).unwrap_err();
        assert_eq!(fault.code, IssueCode::TooCostly, "{fault:?}");
        assert!(fault.place.contains("condition[0]"), "{fault:?}");
    }
    // Each of these is cheap, and all of them are not.
    let one = when("(1 | 2 | 3).aggregate($total + $this, 0) = 6");
    let conditions = vec![one; 100_000];
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "x", "condition": conditions}]});
    let fault = applied(&context(), &plan).unwrap_err();
    assert_eq!(fault.code, IssueCode::TooCostly);
    // An activity that is long, and made many times.
    let activity = json!({"resourceType": "ActivityDefinition", "id": "long", "status": "active", "kind": "Task",
        "code": {"text": "x".repeat(1 << 20)}});
    let action = json!({"title": "x", "definitionCanonical": "#long"});
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft", "contained": [activity], "action": vec![action; 100]});
    let fault = applied(&context(), &plan).unwrap_err();
    assert_eq!(fault.code, IssueCode::TooCostly, "{fault:?}");
}

#[test]
fn plans_that_are_named_again_and_again_are_not_all_looked_at() {
    let mut inner = json!({"resourceType": "PlanDefinition", "id": "in", "status": "draft", "action": [{"title": "x"}]});
    for _ in 0..DEPTH_MAX {
        let action = json!({"title": "x", "definitionCanonical": "#in"});
        inner = json!({"resourceType": "PlanDefinition", "id": "in", "status": "draft", "contained": [inner],
            "action": vec![action; 50]});
    }
    let fault = Wanted::default().look(&inner).unwrap_err();
    assert_eq!(fault.code, IssueCode::TooLong);
}

#[test]
fn filters_of_inputs_narrow_or_are_refused() {
    let of = |filter: Value| {
        input(
            &json!({"id": "rows", "type": "Observation", "codeFilter": [filter]}),
            "action[0].input[0]",
        )
    };
    for (filter, place) in [
        (json!({"path": "code"}), "action[0].input[0].codeFilter[0]"),
        (
            json!({"path": "code", "code": []}),
            "action[0].input[0].codeFilter[0]",
        ),
        (
            json!({"path": "code", "code": [{"code": "1"}, {"display": "Weight"}]}),
            "action[0].input[0].codeFilter[0].code[1]",
        ),
        (
            json!({"path": "code", "valueSet": "http://x.test/set", "code": [{"system": "http://loinc.org"}]}),
            "action[0].input[0].codeFilter[0].code[0]",
        ),
    ] {
        let fault = of(filter).unwrap_err();
        assert_eq!(
            (fault.code, fault.place.as_str()),
            (IssueCode::NotSupported, place)
        );
    }
    let both = json!({"path": "code", "valueSet": "http://x.test/set", "code": [{"code": "1"}]});
    let (_, found) = of(both).unwrap().unwrap();
    assert_eq!(found.parameters.len(), 2);
}

#[test]
fn what_is_retired_is_not_taken() {
    let row = |status: &str, id: &str| json!({"status": status, "id": id});
    let id = |rows: Vec<Value>| best(rows).map(|row| row["id"].clone());
    let rows = vec![
        row("retired", "3"),
        row("draft", "2"),
        row("active", "1"),
        row("active", "0"),
    ];
    assert_eq!(id(rows), Some(json!("1")));
    assert_eq!(
        id(vec![row("unknown", "2"), row("draft", "1")]),
        Some(json!("1"))
    );
    assert_eq!(id(vec![row("retired", "1"), row("unknown", "0")]), None);
}

#[test]
fn a_plan_says_that_rows_may_have_been_kept() {
    let plan =
        json!({"resourceType": "PlanDefinition", "status": "draft", "action": [{"title": "x"}]});
    assert!(made(&context(), &plan).get("note").is_none());
    let mut context = context();
    context.may_lack_rows = true;
    let made = made(&context, &plan);
    let note = made["note"][0]["text"].as_str().unwrap();
    assert!(note.contains("may be kept"), "{note}");
}

fn cql(text: &str) -> Value {
    json!({"language": "text/cql", "expression": text})
}

fn worked_out(expression: &Value) -> Value {
    json!({"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/cqf-expression", "valueExpression": expression}]})
}

/// After `heart-valve-replacement` and `citalopramPrescription`: elements that say how they are worked out, an amount
/// that CQL and FHIRPath write the same way, and what the definition contains.
#[test]
fn elements_are_worked_out_and_what_is_contained_comes_along() {
    let drug = |id: &str| {
        json!({"resourceType": "ActivityDefinition", "id": id, "status": "active", "kind": "MedicationRequest",
        "productReference": {"reference": "#product"}, "dosage": [{"text": "one a day"}],
        "timingTiming": {"_event": [worked_out(&cql("Now()")), null, worked_out(&fhirpath("now() + 1 day"))], "event": [null, "2026-03-05"]},
        "dynamicValue": [{"path": "dispenseRequest.quantity", "expression": cql("30 '{tbl}'")}]})
    };
    let product = json!({"resourceType": "Medication", "id": "product", "code": {"text": "Citalopram"},
        "ingredient": [{"itemReference": {"reference": "#substance"}}]});
    let substance =
        json!({"resourceType": "Substance", "id": "substance", "code": {"text": "Citalopram"}});
    let mut alone = drug("drug");
    alone["contained"] = json!([product, substance]);
    let checked = |value: &Value| {
        assert_eq!(
            value["dosageInstruction"][0]["timing"]["event"],
            json!([
                "2026-03-01T12:00:00.000Z",
                "2026-03-05",
                "2026-03-02T12:00:00.000Z"
            ])
        );
        let quantity = &value["dispenseRequest"]["quantity"];
        assert_eq!(
            (&quantity["value"], &quantity["unit"]),
            (&json!(30), &json!("{tbl}"))
        );
    };
    let alone = made(&context(), &alone);
    checked(&alone);
    let product_of = |whole: &Value, request: &Value| {
        let reference = request["medicationReference"]["reference"]
            .as_str()
            .unwrap();
        let product = inside(whole, reference).clone();
        let reference = product["ingredient"][0]["itemReference"]["reference"].as_str();
        assert_eq!(
            inside(whole, reference.unwrap())["resourceType"],
            "Substance"
        );
        product
    };
    assert_eq!(product_of(&alone, &alone)["code"]["text"], "Citalopram");

    // In a plan, once for all that refer to it; a form that it contains too.
    let form = json!({"resourceType": "Questionnaire", "id": "form", "status": "active", "url": "http://x.test/form"});
    let plan = json!({"resourceType": "PlanDefinition", "status": "active",
        "contained": [drug("a"), drug("b"), product, substance, form],
        "action": [{"_title": worked_out(&fhirpath("'For ' + gender")), "title": "x", "definitionCanonical": "#a"},
            {"title": "again", "definitionCanonical": "#b"}, {"title": "ask", "definitionCanonical": "#form"}]});
    let plan = made(&context(), &plan);
    let actions = &group(&plan)["action"];
    assert_eq!(actions[0]["title"], "For female");
    let request = |number: usize| {
        inside(
            &plan,
            actions[number]["resource"]["reference"].as_str().unwrap(),
        )
    };
    checked(request(0));
    assert_eq!(product_of(&plan, request(0)), product_of(&plan, request(1)));
    let form = request(2)["input"][0]["valueCanonical"].as_str().unwrap();
    assert_eq!(inside(&plan, form)["url"], "http://x.test/form");
}

/// After `KDN5`: doses on days of cycles, of an activity that says no kind.
#[test]
fn doses_on_days_of_a_cycle() {
    let days = |days: &[i64]| {
        let days: Vec<Value> = days
            .iter()
            .map(|day| json!({"url": "day", "valueInteger": day}))
            .collect();
        json!([{"url": "http://hl7.org/fhir/StructureDefinition/timing-daysOfCycle", "extension": days}])
    };
    let plan = json!({"resourceType": "PlanDefinition", "status": "draft",
        "contained": [{"resourceType": "ActivityDefinition", "id": "drug", "status": "draft", "productCodeableConcept": {"text": "Drug"},
            "dosage": [{"text": "in half an hour", "timing": {"repeat": {"duration": 30, "durationUnit": "min"}}}]}],
        "action": [{"timingTiming": {"repeat": {"count": 2, "duration": 21, "durationUnit": "d"}}, "action": [
            {"extension": days(&[1, 8]), "definitionCanonical": "#drug"}]}]});
    let made = made(&context(), &plan);
    let cycle = &group(&made)["action"][0];
    let bounds = &cycle["timingTiming"]["repeat"]["boundsPeriod"];
    assert_eq!(bounds["end"], "2026-04-12T12:00:00.000Z");
    let events = json!([
        "2026-03-01T12:00:00.000Z",
        "2026-03-08T12:00:00.000Z",
        "2026-03-22T12:00:00.000Z",
        "2026-03-29T12:00:00.000Z"
    ]);
    let action = &cycle["action"][0];
    assert_eq!(action["timingTiming"]["event"], events);
    let request = inside(&made, action["resource"]["reference"].as_str().unwrap());
    assert_eq!(request["resourceType"], "MedicationRequest");
    let timing = &request["dosageInstruction"][0]["timing"];
    assert_eq!(
        (&timing["event"], &timing["repeat"]["duration"]),
        (&events, &json!(30))
    );
    assert!(
        made["note"][0]["text"]
            .as_str()
            .unwrap()
            .contains("no kind"),
        "{made}"
    );
}

#[test]
fn what_is_not_there_or_not_known_is_refused() {
    let with = |more: Value| {
        let mut action = json!({"title": "x"});
        action
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"resourceType": "PlanDefinition", "status": "draft", "action": [action],
            "contained": [{"resourceType": "ActivityDefinition", "id": "drug", "status": "draft", "kind": "MedicationRequest",
                "productReference": {"reference": "#gone"}}]})
    };
    for (more, code, place, words) in [
        (
            json!({"definitionCanonical": "#drug"}),
            IssueCode::NotFound,
            "PlanDefinition.action[0]",
            "doesn't contain",
        ),
        (
            json!({"modifierExtension": [{"url": "http://x.test/not", "valueBoolean": true}]}),
            IssueCode::NotSupported,
            "PlanDefinition.action[0].modifierExtension",
            "not known",
        ),
        (
            json!({"timingTiming": {"_event": [worked_out(&cql("Due"))]}}),
            IssueCode::NotSupported,
            "PlanDefinition.action[0].timingTiming.event[0]",
            "CQL",
        ),
        (
            json!({"_title": worked_out(&fhirpath("'a' | 'b'"))}),
            IssueCode::Value,
            "PlanDefinition.action[0].title",
            "several",
        ),
        // A name of CQL, though a number can be called so.
        (
            json!({"dynamicValue": [{"path": "title", "expression": cql("inf")}]}),
            IssueCode::NotSupported,
            "PlanDefinition.action[0].dynamicValue[0].expression",
            "CQL",
        ),
    ] {
        let fault = applied(&context(), &with(more)).unwrap_err();
        assert_eq!((fault.code, fault.place.as_str()), (code, place));
        assert!(fault.words.contains(words), "{}", fault.words);
    }
}

/// What is stored although its structure is wrong brings nobody down.
#[test]
fn doses_that_are_none_are_passed_over() {
    for dose in [json!("one a day"), json!({"timing": "daily"})] {
        let drug = json!({"resourceType": "ActivityDefinition", "id": "drug", "status": "active", "kind": "MedicationRequest",
            "productCodeableConcept": {"text": "Melatonin"}, "dosage": [dose],
            "timingTiming": {"event": ["2026-03-05"]}});
        let made = applied(&context(), &drug).expect("a request");
        assert_eq!(made["dosageInstruction"], drug["dosage"]);
    }
}

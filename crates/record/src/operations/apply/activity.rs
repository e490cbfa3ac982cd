//! `ActivityDefinition` to the resource that asks for the activity (R4, section 12.16.4). Pure.

use super::values::{Context, Scope, put};
use super::when::{Span, instant};
use super::{Fault, fault};
use fhir::IssueCode;
use serde_json::{Map, Value, json};
use trust::conventions::TASK_SYSTEM;

/// Members of an activity about a product, its doses and its place, for which some requests have none.
const OF_PRODUCTS: [&str; 6] = [
    "productCodeableConcept",
    "productReference",
    "quantity",
    "dosage",
    "bodySite",
    "location",
];

/// What of an activity depends on the type that is made of it.
struct Kind {
    name: &'static str,
    status: &'static str,
    /// The intents that the type has, of those that an activity can have; empty where it has none.
    intents: &'static [&'static str],
    /// The member for whom it is.
    subject: &'static str,
    encounter: Option<&'static str>,
    requester: Option<&'static str>,
    /// When it was written down.
    authored: Option<&'static str>,
    /// What says what it is an instance of.
    instantiates: Instantiates,
    may_forbid: bool,
}

#[derive(Clone, Copy)]
enum Instantiates {
    No,
    One,
    List,
}

const INTENTS: &[&str] = &[
    "proposal",
    "plan",
    "directive",
    "order",
    "original-order",
    "reflex-order",
    "filler-order",
    "instance-order",
    "option",
];
/// Those of types that know no `directive`.
const ORDERS: &[&str] = &[
    "proposal",
    "plan",
    "order",
    "original-order",
    "reflex-order",
    "filler-order",
    "instance-order",
    "option",
];

const KINDS: [Kind; 8] = [
    Kind {
        name: "Task",
        status: "draft",
        intents: ORDERS,
        subject: "for",
        encounter: Some("encounter"),
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::One,
        may_forbid: false,
    },
    Kind {
        name: "ServiceRequest",
        status: "draft",
        intents: INTENTS,
        subject: "subject",
        encounter: Some("encounter"),
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::List,
        may_forbid: true,
    },
    Kind {
        name: "MedicationRequest",
        status: "draft",
        intents: ORDERS,
        subject: "subject",
        encounter: Some("encounter"),
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::List,
        may_forbid: true,
    },
    Kind {
        name: "CommunicationRequest",
        status: "draft",
        intents: &[],
        subject: "subject",
        encounter: Some("encounter"),
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::No,
        may_forbid: true,
    },
    Kind {
        name: "DeviceRequest",
        status: "draft",
        intents: INTENTS,
        subject: "subject",
        encounter: Some("encounter"),
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::List,
        may_forbid: false,
    },
    Kind {
        name: "NutritionOrder",
        status: "draft",
        intents: INTENTS,
        subject: "patient",
        encounter: Some("encounter"),
        requester: Some("orderer"),
        authored: Some("dateTime"),
        instantiates: Instantiates::List,
        may_forbid: false,
    },
    Kind {
        name: "SupplyRequest",
        status: "draft",
        intents: &[],
        subject: "deliverTo",
        encounter: None,
        requester: Some("requester"),
        authored: Some("authoredOn"),
        instantiates: Instantiates::No,
        may_forbid: false,
    },
    Kind {
        name: "Appointment",
        status: "proposed",
        intents: &[],
        subject: "",
        encounter: None,
        requester: None,
        authored: Some("created"),
        instantiates: Instantiates::No,
        may_forbid: false,
    },
];

/// What the plan's action says of an activity that stands in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) action: &'a Value,
    pub(super) span: &'a Span,
}

/// The resource that an activity is made to, and what of the activity it can't carry.
///
/// # Errors
/// A kind that is not made here, and what the resource can't be without.
pub(super) fn activity(
    context: &Context,
    scope: &Scope<'_>,
    definition: &Value,
    canonical: Option<&str>,
    within: Option<Within<'_>>,
    place: &str,
    notes: &mut Vec<String>,
) -> Result<Value, Fault> {
    let kind_name = match definition.get("kind").and_then(Value::as_str) {
        Some(kind) => kind,
        // R4 describes `dosage` as that of a MedicationRequest. As a task it would lose what is to be taken.
        None if definition.get("dosage").is_some() => {
            notes.push(format!(
                "{place} says no kind; as it has a dosage, it is taken for a MedicationRequest"
            ));
            "MedicationRequest"
        }
        None => "Task",
    };
    let Some(kind) = KINDS.iter().find(|kind| kind.name == kind_name) else {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let words = format!(
            "is of a kind that is not made here; there are {}",
            names.join(", ")
        );
        return Err(fault(
            IssueCode::NotSupported,
            &format!("{place}.kind"),
            words,
        ));
    };
    for member in ["transform", "profile"] {
        if definition.get(member).is_some() {
            let words = "is not carried out here; values are set by dynamicValue";
            let place = format!("{place}.{member}");
            if member == "transform" {
                return Err(fault(IssueCode::NotSupported, &place, words));
            }
            notes.push(format!("{place}: the profile is not checked"));
        }
    }
    let mut made = Map::new();
    made.insert("resourceType".to_owned(), json!(kind.name));
    let text = |name: &str| definition.get(name).and_then(Value::as_str);
    let action = within.map(|within| within.action);
    let of_action = |name: &str| action.and_then(|action| action.get(name));
    made.insert("status".to_owned(), json!(kind.status));
    if !kind.intents.is_empty() {
        let intent = if within.is_some() {
            "option"
        } else {
            text("intent").unwrap_or("proposal")
        };
        if !kind.intents.contains(&intent) {
            let words = format!("a {} has no such intent", kind.name);
            return Err(fault(IssueCode::Value, &format!("{place}.intent"), words));
        }
        made.insert("intent".to_owned(), json!(intent));
    }
    let subject = json!({"reference": context.subject.0});
    if !kind.subject.is_empty() {
        made.insert(kind.subject.to_owned(), subject.clone());
    }
    let mut refer = |member: Option<&str>, to: Option<&(String, Value)>| {
        if let (Some(member), Some((reference, _))) = (member, to) {
            made.insert(member.to_owned(), json!({"reference": reference}));
        }
    };
    refer(kind.encounter, context.encounter.as_ref());
    let by = context.practitioner.as_ref();
    // An organisation orders no diets in R4.
    let by = by.or(context
        .organization
        .as_ref()
        .filter(|_| kind.name != "NutritionOrder"));
    refer(kind.requester, by);
    if let Some(member) = kind.authored {
        made.insert(member.to_owned(), json!(instant(context.now_ms)));
    }
    if let Some(canonical) = canonical {
        match kind.instantiates {
            Instantiates::No => {}
            Instantiates::One => {
                made.insert("instantiatesCanonical".to_owned(), json!(canonical));
            }
            Instantiates::List => {
                made.insert("instantiatesCanonical".to_owned(), json!([canonical]));
            }
        }
    }
    if definition.get("doNotPerform").and_then(Value::as_bool) == Some(true) {
        if !kind.may_forbid {
            let words = format!("a {} can't say that something is not to be done", kind.name);
            let place = format!("{place}.doNotPerform");
            return Err(fault(IssueCode::NotSupported, &place, words));
        }
        made.insert("doNotPerform".to_owned(), json!(true));
    }
    let priority = of_action("priority").or_else(|| definition.get("priority"));
    let reasons = of_action("reason");
    let activity = Activity {
        definition,
        action,
        place,
        reasons,
        priority,
        subject: &subject,
        practitioner: context
            .practitioner
            .as_ref()
            .map(|(reference, _)| reference),
        when: when(definition, within, context, place)?,
    };
    match kind.name {
        "Task" => activity.task(&mut made, notes),
        "ServiceRequest" => activity.service(&mut made, notes),
        "MedicationRequest" => activity.medication(&mut made, notes)?,
        "CommunicationRequest" => activity.communication(&mut made, notes),
        "DeviceRequest" => activity.device(&mut made, notes)?,
        "NutritionOrder" => activity.nutrition(&mut made, notes),
        "SupplyRequest" => activity.supply(&mut made, notes)?,
        _ => activity.appointment(&mut made, notes),
    }
    context.fill(
        definition.get("dynamicValue"),
        scope,
        place,
        |path, values| put(&mut made, kind.name, path, values),
    )?;
    Ok(Value::Object(made))
}

/// A form that is to be filled in, as a task.
pub(super) fn form(context: &Context, canonical: &str, title: Option<&str>, span: &Span) -> Value {
    let mut made = json!({
        "resourceType": "Task",
        "status": "draft",
        "intent": "option",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": "complete-questionnaire"}]},
        "for": {"reference": context.subject.0},
        "owner": {"reference": context.subject.0},
        "authoredOn": instant(context.now_ms),
        "input": [{"type": {"text": "questionnaire"}, "valueCanonical": canonical}],
    });
    if let Some(title) = title {
        made["description"] = json!(title);
    }
    if let Some((encounter, _)) = &context.encounter {
        made["encounter"] = json!({"reference": encounter});
    }
    if span.says.is_some() {
        made["restriction"] = json!({"period": span.period()});
    }
    made
}

/// When an activity is: as the plan says, or by its own timing from now on.
fn when(
    definition: &Value,
    within: Option<Within<'_>>,
    context: &Context,
    place: &str,
) -> Result<Option<Span>, Fault> {
    if let Some(within) = within {
        return Ok(within.span.says.is_some().then(|| within.span.clone()));
    }
    let timed = super::when::Timed {
        place: place.to_owned(),
        timing: super::when::timing_of(definition),
        ..super::when::Timed::default()
    };
    let list = [timed];
    let mut spans = super::when::Times::of(&list, context.now_ms, super::born_ms(context))?;
    Ok(spans.pop().filter(|span| span.says.is_some()))
}

/// Whether the `Timing` of a dose says how long one takes, and not when they are.
fn says_no_times(timing: &Value) -> bool {
    let repeat = timing.get("repeat").and_then(Value::as_object);
    let lengths = ["duration", "durationMax", "durationUnit"];
    let of_length = |name: &String| lengths.contains(&name.as_str());
    timing.get("event").is_none()
        && timing.get("code").is_none()
        && repeat.is_none_or(|repeat| repeat.keys().all(of_length))
}

/// An activity on its way to a resource.
struct Activity<'a> {
    definition: &'a Value,
    action: Option<&'a Value>,
    place: &'a str,
    reasons: Option<&'a Value>,
    priority: Option<&'a Value>,
    subject: &'a Value,
    practitioner: Option<&'a String>,
    when: Option<Span>,
}

impl Activity<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.definition.get(name)
    }
    fn title(&self) -> Option<&str> {
        let of_action = |name: &str| self.action?.get(name)?.as_str();
        let own = |name: &str| self.get(name)?.as_str();
        of_action("title")
            .or_else(|| own("title"))
            .or_else(|| of_action("description"))
            .or_else(|| own("description"))
    }
    fn set(&self, made: &mut Map<String, Value>, member: &str, value: Option<&Value>) {
        if let Some(value) = value {
            made.insert(member.to_owned(), value.clone());
        }
    }
    /// Says of members that the resource has no place for them.
    fn leaves(&self, notes: &mut Vec<String>, members: &[&str]) {
        for member in members {
            if self.get(member).is_some() {
                notes.push(format!(
                    "{}.{member} has no place in what is made",
                    self.place
                ));
            }
        }
    }
    /// `occurrence[x]` of types that have it as a moment, a period or a timing.
    fn occurrence(&self, made: &mut Map<String, Value>) {
        if let Some((of, value)) = self.when.as_ref().and_then(|span| span.says.as_ref()) {
            made.insert(format!("occurrence{of}"), value.clone());
        }
    }
    /// The roles of who takes part, those of the plan before the activity's own.
    fn roles(&self) -> Vec<&Value> {
        let plan = self.action.and_then(|action| action.get("participant"));
        let own = self.get("participant");
        let from = plan.or(own).and_then(Value::as_array);
        from.into_iter()
            .flatten()
            .filter_map(|one| one.get("role"))
            .collect()
    }
    fn is_for_patient(&self) -> bool {
        let plan = self.action.and_then(|action| action.get("participant"));
        let from = plan.or(self.get("participant")).and_then(Value::as_array);
        from.into_iter()
            .flatten()
            .any(|one| one.get("type").and_then(Value::as_str) == Some("patient"))
    }
    /// The product, by the member that the resource has it under.
    fn product(&self, made: &mut Map<String, Value>, of: &str) -> bool {
        for form in ["CodeableConcept", "Reference"] {
            if let Some(product) = self.get(&format!("product{form}")) {
                made.insert(format!("{of}{form}"), product.clone());
                return true;
            }
        }
        false
    }

    /// The product or else the code, by the member that the resource has it under.
    fn product_or_code(
        &self,
        made: &mut Map<String, Value>,
        of: &str,
        words: &str,
    ) -> Result<(), Fault> {
        let mut said = self.product(made, of);
        if !said && let Some(code) = self.get("code") {
            made.insert(format!("{of}CodeableConcept"), code.clone());
            said = true;
        }
        self.needs(said, of, "product", words)
    }
    /// What the resource can't be without has to be said by the activity, or by a dynamic value.
    fn needs(&self, said: bool, member: &str, by: &str, words: &str) -> Result<(), Fault> {
        if said || self.fills(member) {
            return Ok(());
        }
        let place = format!("{}.{by}", self.place);
        Err(fault(IssueCode::Required, &place, words))
    }

    fn task(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) {
        self.set(made, "code", self.get("code"));
        if let Some(title) = self.title() {
            made.insert("description".to_owned(), json!(title));
        }
        self.set(made, "priority", self.priority);
        if let Some(span) = &self.when {
            made.insert("restriction".to_owned(), json!({"period": span.period()}));
        }
        let roles = self.roles();
        if !roles.is_empty() {
            made.insert("performerType".to_owned(), json!(roles));
        }
        if self.is_for_patient() {
            made.insert("owner".to_owned(), self.subject.clone());
        }
        self.set(made, "location", self.get("location"));
        self.set(
            made,
            "reasonCode",
            self.reasons.and_then(|reasons| reasons.get(0)),
        );
        self.leaves(
            notes,
            &[
                "productCodeableConcept",
                "productReference",
                "quantity",
                "dosage",
                "bodySite",
            ],
        );
    }

    fn service(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) {
        self.set(made, "code", self.get("code"));
        self.set(made, "priority", self.priority);
        self.occurrence(made);
        self.set(made, "performerType", self.roles().first().copied());
        self.set(made, "quantityQuantity", self.get("quantity"));
        self.set(made, "bodySite", self.get("bodySite"));
        if let Some(location) = self.get("location") {
            made.insert("locationReference".to_owned(), json!([location]));
        }
        self.set(made, "reasonCode", self.reasons);
        self.leaves(
            notes,
            &["productCodeableConcept", "productReference", "dosage"],
        );
    }

    fn medication(
        &self,
        made: &mut Map<String, Value>,
        notes: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let said = self.product(made, "medication");
        let words = "a MedicationRequest is of a product, and none is said";
        self.needs(said, "medication", "product", words)?;
        self.set(made, "priority", self.priority);
        self.set(made, "dosageInstruction", self.get("dosage"));
        let mut dispensed = Map::new();
        self.set(&mut dispensed, "quantity", self.get("quantity"));
        if let Some(span) = &self.when {
            dispensed.insert("validityPeriod".to_owned(), span.period());
            // The schedule of the activity is that of the doses, where these have none.
            let schedule = (span.says.as_ref()).filter(|(of, _)| *of == "Timing");
            if let Some((_, timing)) = schedule {
                let doses = made
                    .entry("dosageInstruction")
                    .or_insert_with(|| json!([{}]));
                let doses = doses.as_array_mut().into_iter().flatten();
                for dose in doses.filter(|dose| dose.is_object()) {
                    match (dose.get_mut("timing"), timing.get("event")) {
                        (None, _) => dose["timing"] = timing.clone(),
                        (Some(own), Some(event)) if own.is_object() && says_no_times(own) => {
                            own["event"] = event.clone();
                        }
                        _ => {}
                    }
                }
            }
        }
        if !dispensed.is_empty() {
            made.insert("dispenseRequest".to_owned(), Value::Object(dispensed));
        }
        self.set(made, "performerType", self.roles().first().copied());
        self.set(made, "reasonCode", self.reasons);
        self.leaves(notes, &["code", "location", "bodySite"]);
        Ok(())
    }

    fn communication(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) {
        let own = |name: &str| self.get(name)?.as_str();
        let words = own("description").or_else(|| self.title());
        if let Some(words) = words {
            made.insert("payload".to_owned(), json!([{"contentString": words}]));
        }
        if let Some(code) = self.get("code") {
            made.insert("category".to_owned(), json!([code]));
        }
        self.set(made, "priority", self.priority);
        if let Some(span) = &self.when {
            let (of, value) = match &span.says {
                Some(("DateTime", at)) => ("DateTime", at.clone()),
                _ => ("Period", span.period()),
            };
            made.insert(format!("occurrence{of}"), value);
        }
        if self.is_for_patient() {
            made.insert("recipient".to_owned(), json!([self.subject]));
        }
        self.set(made, "reasonCode", self.reasons);
        self.leaves(notes, &OF_PRODUCTS);
    }

    fn device(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), Fault> {
        let words = "a DeviceRequest is of a product or a code, and neither is said";
        self.product_or_code(made, "code", words)?;
        self.set(made, "priority", self.priority);
        self.occurrence(made);
        self.set(made, "performerType", self.roles().first().copied());
        self.set(made, "reasonCode", self.reasons);
        self.leaves(notes, &["quantity", "dosage", "bodySite", "location"]);
        Ok(())
    }

    fn nutrition(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) {
        if let Some(code) = self.get("code") {
            made.insert("oralDiet".to_owned(), json!({"type": [code]}));
        }
        if let Some(title) = self.title() {
            made.insert("note".to_owned(), json!([{"text": title}]));
        }
        self.leaves(notes, &OF_PRODUCTS);
        if self.when.is_some() {
            notes.push(format!(
                "{}: a NutritionOrder has no time of its own",
                self.place
            ));
        }
    }

    fn supply(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), Fault> {
        let words = "a SupplyRequest is of a product or a code, and neither is said";
        self.product_or_code(made, "item", words)?;
        self.set(made, "quantity", self.get("quantity"));
        let words = "a SupplyRequest says how much";
        self.needs(made.contains_key("quantity"), "quantity", "quantity", words)?;
        self.set(made, "priority", self.priority);
        self.occurrence(made);
        self.set(made, "reasonCode", self.reasons);
        self.leaves(notes, &["dosage", "bodySite", "location"]);
        Ok(())
    }

    fn appointment(&self, made: &mut Map<String, Value>, notes: &mut Vec<String>) {
        if let Some(code) = self.get("code") {
            made.insert("serviceType".to_owned(), json!([code]));
        }
        if let Some(title) = self.title() {
            made.insert("description".to_owned(), json!(title));
        }
        if let Some(span) = &self.when {
            made.insert("requestedPeriod".to_owned(), json!([span.period()]));
        }
        let mut taking_part = vec![json!({"actor": self.subject, "status": "needs-action"})];
        if let Some(practitioner) = self.practitioner {
            taking_part
                .push(json!({"actor": {"reference": practitioner}, "status": "needs-action"}));
        }
        if let Some(location) = self.get("location") {
            taking_part.push(json!({"actor": location, "status": "needs-action"}));
        }
        made.insert("participant".to_owned(), Value::Array(taking_part));
        self.set(made, "reasonCode", self.reasons);
        self.leaves(
            notes,
            &[
                "productCodeableConcept",
                "productReference",
                "quantity",
                "dosage",
                "bodySite",
            ],
        );
        if self.priority.is_some() {
            notes.push(format!(
                "{}.priority has no place in an Appointment",
                self.place
            ));
        }
    }

    /// Whether a dynamic value of the activity puts something at an element.
    fn fills(&self, element: &str) -> bool {
        let list = self.get("dynamicValue").and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|one| one.get("path")?.as_str())
            .any(|path| path.starts_with(element))
    }
}

//! CDS Hooks 2.0: what journeys have to say while somebody works in an EHR.
//!
//! Each request is signed by the EHR, a system that is registered here with its keys, and what it is told is what that
//! system may read of the patient's record for treatment: cards are made of the plans and tasks that a search of its
//! own would find. Of what the EHR sends along, the stay that ends is looked at (`prefetch`), as its word on it is
//! newer; `fhirAuthorization` is checked for its form and goes no further, because the record is here.

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use fhir::{Resource, ResourceType};
use journey::JourneyError;
use ledger::Owner;
use record::{Caller, PreferReturn, RecordError};
use serde_json::{Value, json};
use trust::conventions::{INSTANCE_SYSTEM, START_JOURNEY, START_SYSTEM, TASK_SYSTEM};
use trust::identity::OauthError;
use trust::{Action, Agent, Permit, Purpose, Target};

use super::Doors;
use super::api::{bearer_token, internal, refuse, unauthorised};
use super::layers::RequestId;
use super::oauth;

/// Where services are found.
pub(super) const SERVICES: &str = "/cds-services";
/// The topic of the card that says that there is more.
const MORE: &str = "more";
/// The most cards of an answer: nobody reads more.
const CARDS_MAX: usize = 10;
/// The most care plans of a patient, and tasks of a plan, that are looked at.
const FOUND_MAX: usize = 50;
/// The most characters of a card's summary (CDS Hooks 2.0, "Card Attributes").
const SUMMARY_MAX: usize = 139;
/// The most orders or visits that are looked at.
const DRAFTS_MAX: usize = 50;

/// A service: its id, its hook, and what it does.
struct Service {
    id: &'static str,
    hook: &'static str,
    title: &'static str,
    description: &'static str,
    /// What it would have sent along, by name.
    prefetch: &'static [(&'static str, &'static str)],
}

/// The stay that ends, in `prefetch`.
const STAY: &str = "encounter";

const ALL: [Service; 4] = [
    Service {
        id: "journeys-of-patient",
        hook: "patient-view",
        title: "Journeys of the patient",
        description: "The journeys that the patient is in, and what they wait for.",
        prefetch: &[],
    },
    Service {
        id: "journeys-and-orders",
        hook: "order-sign",
        title: "Journeys that deal with an order",
        description: "Journeys of the patient that look at what is being ordered.",
        prefetch: &[],
    },
    Service {
        id: "journeys-at-discharge",
        hook: "encounter-discharge",
        title: "Journeys that begin with the discharge",
        description: "Journeys that begin when this stay is over, and those that can be asked for.",
        prefetch: &[(STAY, "Encounter/{{context.encounterId}}")],
    },
    Service {
        id: "journeys-at-booking",
        hook: "appointment-book",
        title: "Journeys that begin with a visit",
        description: "Journeys that begin when these visits are booked, and those that can be asked for.",
        prefetch: &[],
    },
];

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route(SERVICES, get(discovery))
        .route("/cds-services/{service}", post(call))
        .route("/cds-services/{service}/feedback", post(feedback))
}

/// Whether pages of EHRs on other origins may ask here.
pub(super) fn is_hooks(path: &str) -> bool {
    let rest = path.strip_prefix(SERVICES);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn discovery() -> Response {
    let one = |service: &Service| {
        let mut told = json!({
            "hook": service.hook,
            "id": service.id,
            "title": service.title,
            "description": service.description,
            "usageRequirements": "The client is registered here as a system with its keys, and reads this record. A token in fhirAuthorization is not used.",
        });
        for (name, template) in service.prefetch {
            told["prefetch"][name] = json!(template);
        }
        told
    };
    Json(json!({"services": ALL.iter().map(one).collect::<Vec<_>>()})).into_response()
}

/// Why a request gets no cards.
enum Refused {
    Response(Box<Response>),
    Words(StatusCode, &'static str),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Response(response) => *response,
            Self::Words(status, words) => (status, Json(json!({"error": words}))).into_response(),
        }
    }
}

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        Self::Response(Box::new(response))
    }
}

impl From<RecordError> for Refused {
    fn from(error: RecordError) -> Self {
        if let Some(inside) = &error.inside {
            tracing::error!(inside, "a CDS Hooks request failed");
        }
        let status = StatusCode::from_u16(error.status);
        let words = Json(json!({"error": error.outcome.summary()}));
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), words)
            .into_response()
            .into()
    }
}

impl From<JourneyError> for Refused {
    fn from(error: JourneyError) -> Self {
        if let JourneyError::Trust(error) = error {
            return refuse(&error).into();
        }
        tracing::error!(%error, "a CDS Hooks request failed");
        internal().into()
    }
}

fn malformed<T>(words: &'static str) -> Result<T, Refused> {
    Err(Refused::Words(StatusCode::BAD_REQUEST, words))
}

/// Who asks. Of a stranger nothing else is looked at.
async fn client(doors: &Doors, headers: &HeaderMap, path: &str) -> Result<Agent, Refused> {
    let Some(token) = bearer_token(headers) else {
        return Err(unauthorised("Bearer realm=\"cairn\"").into());
    };
    let audience = format!("{}{path}", doors.base_url);
    match oauth::hook_client(doors, token, audience).await {
        Ok(agent) => Ok(agent),
        Err(OauthError::Inside(error)) => Err(refuse(&error).into()),
        Err(error) => {
            let words = Json(json!({"error": error.to_string()}));
            let challenge = "Bearer realm=\"cairn\", error=\"invalid_token\"";
            let headers = [(header::WWW_AUTHENTICATE, challenge)];
            Err((StatusCode::UNAUTHORIZED, headers, words)
                .into_response()
                .into())
        }
    }
}

async fn body(request: Request) -> Result<Value, Refused> {
    let Ok(bytes) = Bytes::from_request(request, &()).await else {
        return malformed("the body could not be read, or is too large");
    };
    serde_json::from_slice(&bytes).or_else(|_| malformed("the body is no JSON"))
}

fn service(id: &str) -> Result<&'static Service, Refused> {
    let found = ALL.iter().find(|service| service.id == id);
    found.ok_or(Refused::Words(
        StatusCode::NOT_FOUND,
        "there is no such service",
    ))
}

/// Whether what is sent along has the form that it has to have (CDS Hooks 2.0, "HTTP Request", "Passing the Access
/// Token to the CDS Service"). The token is neither used nor kept.
fn check_sent_along(asked: &Value, patient: &str) -> Result<(), Refused> {
    // What is null isn't there.
    let said = |of: &str| asked.get(of).filter(|value| !value.is_null());
    if said("prefetch").is_some_and(|sent| !sent.is_object()) {
        return malformed("`prefetch` is an object");
    }
    let server = said("fhirServer");
    let is_address = |server: &Value| {
        let server = server.as_str().unwrap_or_default();
        server.starts_with("https://") || server.starts_with("http://")
    };
    if server.is_some_and(|server| !is_address(server)) {
        return malformed("`fhirServer` is no address");
    }
    let Some(token) = said("fhirAuthorization") else {
        return Ok(());
    };
    if server.is_none() {
        return malformed("`fhirServer` is missing beside `fhirAuthorization`");
    }
    let is_text = |name: &str| token[name].as_str().is_some_and(|text| !text.is_empty());
    if !["access_token", "scope", "subject"]
        .into_iter()
        .all(is_text)
    {
        return malformed("`fhirAuthorization` has an `access_token`, a `scope` and a `subject`");
    }
    if token["token_type"] != "Bearer" {
        return malformed("`fhirAuthorization.token_type` is Bearer");
    }
    if token["expires_in"]
        .as_u64()
        .is_none_or(|seconds| seconds == 0)
    {
        return malformed("`fhirAuthorization.expires_in` is a number of seconds");
    }
    match token.get("patient") {
        Some(of) if !of.is_null() && of != patient => {
            malformed("`fhirAuthorization.patient` is another than `context.patientId`")
        }
        _ => Ok(()),
    }
}

/// What is asked at a hook.
struct Asking<'a> {
    doors: &'a Doors,
    caller: Caller,
    permit: Permit,
    patient: String,
    instance: String,
    context: Value,
    prefetch: Value,
    /// Where the EHR's own resources are.
    server: Option<String>,
    cards: Vec<Value>,
    /// Whether the patient has more care plans than were looked at.
    are_more: bool,
}

async fn call(
    State(doors): State<Doors>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let path = request.uri().path().to_owned();
    let agent = client(&doors, request.headers(), &path).await?;
    let service = service(&id)?;
    let asked = body(request).await?;
    if asked["hook"] != service.hook {
        return malformed("`hook` is not that of this service");
    }
    let instance = asked["hookInstance"].as_str().filter(|id| id.len() <= 64);
    let Some(instance) = instance else {
        return malformed("`hookInstance` is missing");
    };
    let patient = asked["context"]["patientId"].as_str();
    let patient = patient.map(|id| id.strip_prefix("Patient/").unwrap_or(id));
    let Some(patient) = patient.filter(|id| fhir::is_id(id)) else {
        return malformed("`context.patientId` is missing, or no id");
    };
    check_sent_along(&asked, patient)?;
    let caller = Caller {
        agent,
        purpose: Purpose::Treatment,
        request_id: request_id.0,
        base: super::fhir_base(&doors.base_url),
        lenient: false,
        freshness: trust::Freshness::default(),
        prefer_return: PreferReturn::default(),
        once: None,
    };
    let target = Target {
        kind: Some(ResourceType::CarePlan),
        patient: None,
    };
    let decided = doors.trust.decide(
        &caller.agent,
        caller.purpose,
        Action::Read,
        target,
        &caller.request_id,
    );
    let permit = decided
        .await
        .map_err(|error| Refused::from(refuse(&error)))?;
    match doors
        .record
        .read(&caller, ResourceType::Patient, patient)
        .await
    {
        Ok(_) => {}
        // Whom this record doesn't know has no journeys here.
        Err(error) if matches!(error.status, 404 | 410) => return Ok(answer(service, &[])),
        Err(error) => return Err(error.into()),
    }
    let kept = doors
        .trust
        .vault()
        .kept_from(&permit, patient, caller.purpose);
    if kept
        .await
        .map_err(|error| Refused::from(refuse(&error)))?
        .unrelated
    {
        return Ok(answer(service, &[]));
    }
    let mut asking = Asking {
        doors: &doors,
        caller,
        permit,
        patient: patient.to_owned(),
        instance: instance.to_owned(),
        context: asked["context"].clone(),
        prefetch: asked["prefetch"].clone(),
        server: asked["fhirServer"].as_str().map(str::to_owned),
        cards: Vec::new(),
        are_more: false,
    };
    match service.hook {
        "patient-view" => asking.running().await?,
        "order-sign" => asking.orders().await?,
        "encounter-discharge" => asking.discharge().await?,
        _ => asking.booking().await?,
    }
    Ok(answer(service, &asking.shown()))
}

/// The cards that are shown, the pressing ones first, and how many are left out. Where something is left out there is
/// place for a card that says so.
fn arranged(mut cards: Vec<Value>, are_more: bool) -> (Vec<Value>, usize) {
    cards.sort_by_key(|card| match card["indicator"].as_str() {
        Some("critical") => 0,
        Some("warning") => 1,
        _ => 2,
    });
    let all = cards.len();
    if are_more || all > CARDS_MAX {
        cards.truncate(CARDS_MAX - 1);
    }
    let left = all - cards.len();
    (cards, left)
}

fn answer(service: &Service, cards: &[Value]) -> Response {
    metrics::counter!("cds_cards_total", "service" => service.id).increment(cards.len() as u64);
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, Json(json!({"cards": cards}))).into_response()
}

/// The codes of orders.
fn codes(orders: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for order in orders {
        for member in ["code", "medicationCodeableConcept", "codeCodeableConcept"] {
            let codings = order[member]["coding"].as_array();
            let codes = codings
                .into_iter()
                .flatten()
                .filter_map(|coding| coding["code"].as_str());
            found.extend(codes.map(str::to_owned));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

impl Asking<'_> {
    /// The cards of the answer, the last of which says what isn't shown.
    fn shown(mut self) -> Vec<Value> {
        let made = std::mem::take(&mut self.cards);
        let count = made.len();
        let (cards, left) = arranged(made, self.are_more);
        let summary = match (left, self.are_more) {
            (0, false) => return cards,
            (left, false) => format!("There are {left} more that are not shown here"),
            (_, true) => {
                format!("The patient has more care plans than the {FOUND_MAX} that were looked at")
            }
        };
        let detail = match left {
            0 => String::new(),
            left => format!(
                "{count} cards were made; {left} of them are not shown. The record itself has all care plans and tasks."
            ),
        };
        let indicator = if self.are_more || cards.iter().all(|card| card["indicator"] != "info") {
            "warning"
        } else {
            "info"
        };
        self.cards = cards;
        self.card(&summary, indicator, &detail, MORE);
        self.cards
    }

    /// The rows of a search of the client's own, and whether there are more.
    async fn found(
        &self,
        kind: ResourceType,
        more: &[(&str, &str)],
    ) -> Result<(Vec<Value>, bool), Refused> {
        let mut parameters = vec![
            ("patient".to_owned(), format!("Patient/{}", self.patient)),
            ("_count".to_owned(), FOUND_MAX.to_string()),
        ];
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parameters.extend(more);
        let answer = self
            .doors
            .record
            .search(&self.caller, kind, &parameters)
            .await?;
        let bundle: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let links = bundle["link"].as_array();
        let are_more = links
            .into_iter()
            .flatten()
            .any(|link| link["relation"] == "next");
        let rows = entries
            .into_iter()
            .map(|mut entry| entry["resource"].take());
        Ok((rows.collect(), are_more))
    }

    /// The plans of journeys that the patient is in.
    async fn plans(&mut self) -> Result<Vec<Value>, Refused> {
        let (mut plans, are_more) = self
            .found(ResourceType::CarePlan, &[("status", "active,on-hold")])
            .await?;
        self.are_more |= are_more;
        plans.retain(|plan| {
            let identifiers = plan["identifier"].as_array();
            identifiers
                .into_iter()
                .flatten()
                .any(|one| one["system"] == INSTANCE_SYSTEM)
        });
        Ok(plans)
    }

    fn card(&mut self, summary: &str, indicator: &str, detail: &str, topic: &str) -> &mut Value {
        let of = Owner::Patient(self.patient.clone());
        // None of the cards before it is called so.
        let number = self.cards.len();
        let name = match topic {
            MORE => format!("card/{}/{MORE}", self.instance),
            _ => format!("card/{}/{number}", self.instance),
        };
        let tenant = self.doors.pages.tenant;
        let mut card = json!({
            "uuid": self.doors.ledger.derive_id(tenant, &of, &name),
            "summary": summary.chars().take(SUMMARY_MAX).collect::<String>(),
            "indicator": indicator,
            "source": {"label": "Cairn", "topic": {"system": trust::conventions::STEP_SYSTEM, "code": topic}},
        });
        if !detail.is_empty() {
            card["detail"] = json!(detail);
        }
        self.cards.push(card);
        let last = self.cards.len() - 1;
        &mut self.cards[last]
    }

    /// The journeys that the patient is in, and what they wait for.
    async fn running(&mut self) -> Result<(), Refused> {
        for plan in self.plans().await? {
            let of_plan = format!("CarePlan/{}", plan["id"].as_str().unwrap_or_default());
            let open = "requested,received,accepted,ready,in-progress,on-hold";
            let (tasks, are_more) = self
                .found(
                    ResourceType::Task,
                    &[("based-on", &of_plan), ("status", open)],
                )
                .await?;
            let now_ms = i64::try_from(self.doors.ledger.clock().now_ms()).unwrap_or(i64::MAX);
            let mut is_late = false;
            let mut lines = Vec::new();
            for task in &tasks {
                let words = task["description"]
                    .as_str()
                    .or_else(|| task["code"]["text"].as_str());
                let mut line = format!("- {}", words.unwrap_or("A form to fill in"));
                if let Some(due) = task["restriction"]["period"]["end"].as_str() {
                    is_late |= fhir::date::parse(due).is_some_and(|due| due.start_ms < now_ms);
                    line.push_str(&format!(
                        ", due {}",
                        due.chars().take(10).collect::<String>()
                    ));
                }
                lines.push(line);
            }
            let title = plan["title"].as_str().unwrap_or("A journey");
            let held = if plan["status"] == "on-hold" {
                " (held)"
            } else {
                ""
            };
            let waits = match tasks.len() {
                0 => "nothing is to be done now".to_owned(),
                1 => "one thing is to be done".to_owned(),
                many if are_more => format!("more than {many} things are to be done"),
                many => format!("{many} things are to be done"),
            };
            if are_more {
                lines.push("- and more, which are not listed here".to_owned());
            }
            let indicator = if is_late { "warning" } else { "info" };
            let summary = format!("{title}{held}: {waits}");
            self.card(&summary, indicator, &lines.join("\n"), "running");
        }
        Ok(())
    }

    /// Journeys of the patient that look at what is being ordered.
    async fn orders(&mut self) -> Result<(), Refused> {
        let orders = bundled(&self.context["draftOrders"])?;
        let codes = codes(&orders);
        if codes.is_empty() {
            return Ok(());
        }
        for plan in self.plans().await? {
            let canonical = plan["instantiatesCanonical"][0]
                .as_str()
                .unwrap_or_default();
            let journeys = &self.doors.journeys;
            let about = journeys.asks_about(&self.permit, canonical, &codes).await?;
            if about.is_empty() {
                continue;
            }
            let title = plan["title"].as_str().unwrap_or("A journey");
            let summary = format!("{title}, which the patient is in, looks at this already");
            let detail = format!("It asks about: {}", about.join(", "));
            self.card(&summary, "info", &detail, "orders");
        }
        Ok(())
    }

    /// The stay as the EHR has it. None where it sent none, or one that is not as FHIR R4 has it: then the record's own
    /// is looked at.
    fn sent_stay(&self, id: &str) -> Result<Option<Value>, Refused> {
        let mut stay = self.prefetch[STAY].clone();
        if stay.is_null() {
            return Ok(None);
        }
        let kind = ResourceType::Encounter;
        if stay["resourceType"] != kind.name() || stay["id"] != id {
            return malformed(
                "`prefetch.encounter` is not the Encounter that `context.encounterId` names",
            );
        }
        let resource = Resource::from_value(stay.clone()).ok();
        if resource.is_none_or(|one| !fhir::validate::check(&one).is_empty()) {
            return Ok(None);
        }
        // A patient at the address of the EHR is the one that it calls so here.
        let subject = stay["subject"]["reference"].as_str();
        let server = self.server.as_deref().map(|one| one.trim_end_matches('/'));
        let relative = subject.zip(server).and_then(|(subject, server)| {
            let rest = subject.strip_prefix(server)?.strip_prefix('/')?;
            Some(rest.to_owned())
        });
        if let Some(relative) = relative {
            stay["subject"]["reference"] = json!(relative);
        }
        Ok(Some(stay))
    }

    /// What begins when this stay is over.
    async fn discharge(&mut self) -> Result<(), Refused> {
        let id = self.context["encounterId"].as_str();
        let id = id.map(|id| id.strip_prefix("Encounter/").unwrap_or(id));
        let Some(id) = id.filter(|id| fhir::is_id(id)) else {
            return malformed("`context.encounterId` is missing, or no id");
        };
        let kind = ResourceType::Encounter;
        let mut stay = match self.sent_stay(id)? {
            Some(stay) => stay,
            None => match self.doors.record.read(&self.caller, kind, id).await {
                Ok(answer) => serde_json::from_slice(&answer.body).unwrap_or_default(),
                Err(error) if matches!(error.status, 404 | 410) => {
                    return self.begin(Vec::new()).await;
                }
                Err(error) => return Err(error.into()),
            },
        };
        if stay["subject"]["reference"] != format!("Patient/{}", self.patient) {
            return malformed("`context.encounterId` is no encounter of the patient");
        }
        // As it will be.
        stay["status"] = json!("finished");
        if stay["period"]["end"].is_null() {
            let now_ms = self.doors.ledger.clock().now_ms();
            stay["period"]["end"] = json!(fhir::date::instant(now_ms));
        }
        self.begin(vec![stay]).await
    }

    /// What begins when these visits are booked.
    async fn booking(&mut self) -> Result<(), Refused> {
        let mut visits = bundled(&self.context["appointments"])?;
        for visit in &mut visits {
            visit["status"] = json!("booked");
        }
        self.begin(visits).await
    }

    async fn begin(&mut self, written: Vec<Value>) -> Result<(), Refused> {
        let written = written.into_iter().map(Resource::from_value);
        let Ok(written) = written.collect::<Result<Vec<_>, _>>() else {
            return malformed("`context` has something that is no resource of FHIR R4");
        };
        let under_way: Vec<String> = self
            .plans()
            .await?
            .iter()
            .filter_map(|plan| plan["instantiatesCanonical"][0].as_str())
            .filter_map(|canonical| Some(canonical.split_once('|')?.0.to_owned()))
            .collect();
        let journeys = &self.doors.journeys;
        let found = journeys.could_begin(&self.permit, &written).await?;
        // Whoever may write a task here can start what other systems may start. Nothing is asked for yet, so it is no
        // request of theirs and no denial of it.
        let may_start =
            (self.doors.trust).would_let(&self.permit, Action::Create, ResourceType::Task);
        for one in found {
            let url = format!("{}{}", trust::conventions::JOURNEY_URL, one.name);
            if under_way.contains(&url) {
                continue;
            }
            if !one.by_request {
                let summary = format!("{} will begin", one.title);
                let detail = format!(
                    "{} answers for it. Whom it is for, and whether the patient agrees, is asked when it begins.",
                    one.owner
                );
                self.card(&summary, "info", &detail, "begins");
                continue;
            }
            let patient = json!({"reference": format!("Patient/{}", self.patient)});
            let words = format!("Start the journey: {}", one.title);
            let mut task = json!({
                "resourceType": "Task",
                "status": "draft",
                "intent": "proposal",
                "instantiatesUri": url,
                "code": {"text": words},
                "for": patient,
            });
            // Times are for people to say.
            let starts = may_start && !one.asks;
            let summary = format!("{} can be asked for", one.title);
            let detail = format!(
                "{} answers for it. It is started by `Patient/[id]/$start-journey`, journey `{}`.",
                one.owner, one.name
            );
            let (label, description) = if starts {
                let label = format!("Start {}", one.title);
                (
                    label,
                    "A task that starts the journey when it is created in this record",
                )
            } else {
                let label = format!("Have somebody start {}", one.title);
                (label, "A task to start the journey")
            };
            // By its name: what stands at the same place of another answer is another journey's.
            let of = Owner::Patient(self.patient.clone());
            let name = format!("start/{}/{}", self.instance, one.name);
            let uuid = json!(
                self.doors
                    .ledger
                    .derive_id(self.doors.pages.tenant, &of, &name)
            );
            let card = self.card(&summary, "info", &detail, "on-request");
            if starts {
                task["status"] = json!("requested");
                task["intent"] = json!("order");
                task["code"]["coding"] = json!([{"system": TASK_SYSTEM, "code": START_JOURNEY}]);
                task["identifier"] = json!([{"system": START_SYSTEM, "value": uuid}]);
                task["description"] = json!("Suggested by CDS Hooks, and taken up");
            }
            card["suggestions"] = json!([{"label": label, "uuid": uuid, "actions": [
                {"type": "create", "description": description, "resource": task}]}]);
            card["selectionBehavior"] = json!("any");
        }
        Ok(())
    }
}

/// The resources of a bundle in a context.
fn bundled(bundle: &Value) -> Result<Vec<Value>, Refused> {
    let entries = bundle["entry"].as_array();
    let Some(entries) = entries.filter(|_| bundle["resourceType"] == "Bundle") else {
        return malformed("the `context` of this hook has a Bundle, and there is none");
    };
    if entries.len() > DRAFTS_MAX {
        return malformed("the Bundle in `context` has more than 50 entries");
    }
    Ok(entries
        .iter()
        .map(|entry| entry["resource"].clone())
        .collect())
}

/// What became of cards: counted, and nothing of it kept.
async fn feedback(
    State(doors): State<Doors>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let path = request.uri().path().to_owned();
    client(&doors, request.headers(), &path).await?;
    let service = service(&id)?;
    let given = body(request).await?;
    let Some(list) = given["feedback"]
        .as_array()
        .filter(|list| list.len() <= 100)
    else {
        return malformed("`feedback` is a list, of up to 100");
    };
    for one in list {
        let outcome = match one["outcome"].as_str() {
            Some("accepted") => "accepted",
            Some("overridden") => "overridden",
            _ => return malformed("`outcome` is accepted or overridden"),
        };
        if one["card"].as_str().is_none() {
            return malformed("`card` is missing");
        }
        metrics::counter!("cds_feedback_total", "service" => service.id, "outcome" => outcome)
            .increment(1);
    }
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::{CARDS_MAX, arranged};
    use serde_json::{Value, json};

    #[test]
    fn what_presses_comes_first_and_there_is_place_to_say_what_is_left_out() {
        let cards = |infos: usize| -> Vec<Value> {
            let infos = (0..infos).map(|_| json!({"indicator": "info"}));
            infos
                .chain([
                    json!({"indicator": "warning"}),
                    json!({"indicator": "critical"}),
                ])
                .collect()
        };
        let (shown, left) = arranged(cards(CARDS_MAX - 2), false);
        assert_eq!((shown.len(), left), (CARDS_MAX, 0));
        assert_eq!(shown[0]["indicator"], "critical");
        assert_eq!(shown[1]["indicator"], "warning");
        let (shown, left) = arranged(cards(CARDS_MAX), false);
        assert_eq!((shown.len(), left), (CARDS_MAX - 1, 3));
        assert_eq!(shown[1]["indicator"], "warning");
        assert_eq!(arranged(cards(CARDS_MAX - 2), true).1, 1);
        assert_eq!(arranged(cards(1), true).1, 0);
    }
}

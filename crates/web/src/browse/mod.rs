//! The record as it is kept: a search by FHIR's own parameters, one resource as a tree or as JSON with
//! its references as links, its versions and what changed between two of them;
//! and how a search is made.
//!
//! What is searched for is posted, and further pages have it sealed in their address, so that no
//! patient's detail gets into one. Everything goes through [`record::Record`], so pages show exactly
//! what its answers hold, and each of them is audited as what it is: a search, a read, a history.

mod explain;
mod history;
mod indexing;
mod resource;
mod tree;

pub(crate) use history::{change, list as history, version};
pub(crate) use resource::{file, page as resource};

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::search::ParameterKind;
use fhir::{Resource, ResourceType};
use maud::{Markup, html};
use record::{Answer, Caller, RecordError};
use serde_json::Value;
use trust::identity::EmergencyAccess;
use trust::{Action, Purpose, Role};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, console, csrf};
use crate::time::{fhir_time, iso};

/// Rows of a page where the search does not say how many.
const PAGE: &str = "50";

/// The type that an address names.
fn kind(name: &str) -> Result<ResourceType, PageError> {
    ResourceType::parse(name)
        .filter(|kind| record::is_searchable(*kind))
        .ok_or(PageError::NotFound)
}

/// Who asks the record, and the emergency access under which they do: that to the patient of what is asked for,
/// while it stands.
struct Asks {
    caller: Caller,
    open: Option<EmergencyAccess>,
}

impl Asks {
    /// For one resource.
    async fn for_one(ctx: &Ctx, kind: ResourceType, id: &str) -> Result<Self, PageError> {
        let open = if ctx.role() == Role::Clinician {
            let identity = ctx.app.web.trust.identity();
            identity
                .emergency_about(&ctx.session.agent, kind, id)
                .await?
        } else {
            None
        };
        Ok(Self::under(ctx, open))
    }

    /// For a list that is about a patient, or about none alone.
    async fn for_list(ctx: &Ctx, patient: Option<&str>) -> Result<Self, PageError> {
        let open = match patient {
            Some(patient) => ctx.emergency(patient).await?,
            None => None,
        };
        Ok(Self::under(ctx, open))
    }

    fn under(ctx: &Ctx, open: Option<EmergencyAccess>) -> Self {
        let purpose = match open {
            Some(_) => Purpose::Emergency,
            None => ctx.role().purpose(),
        };
        Self {
            caller: caller(ctx, purpose),
            open,
        }
    }
}

/// As the record wants to know who asks.
fn caller(ctx: &Ctx, purpose: Purpose) -> Caller {
    Caller {
        agent: ctx.session.agent.clone(),
        purpose,
        request_id: ctx.request.id.clone(),
        base: String::new(),
        lenient: false,
        freshness: ctx.freshness.clone(),
        prefer_return: record::PreferReturn::Representation,
        once: None,
    }
}

/// An error that takes the place of the page.
fn failed(error: RecordError) -> PageError {
    match error.status {
        401 => PageError::SignedOut(None),
        403 => PageError::Refused(error.outcome.summary()),
        404 => PageError::NotFound,
        409 => PageError::Conflict,
        413 => PageError::TooLong,
        500.. => PageError::Internal(error.inside.unwrap_or_else(|| error.outcome.summary())),
        _ => PageError::Invalid(error.outcome.summary()),
    }
}

/// The JSON of an answer.
fn json(answer: &Answer) -> Result<Value, PageError> {
    serde_json::from_slice(&answer.body).map_err(|error| PageError::Internal(error.to_string()))
}

/// The entries of a bundle.
fn entries(bundle: &Value) -> &[Value] {
    bundle["entry"].as_array().map_or(&[], Vec::as_slice)
}

/// What the link to the next page carries, if there is a next page.
fn next_cursor(bundle: &Value) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let next = links.iter().find(|link| link["relation"] == "next")?;
    let (_, query) = next["url"].as_str()?.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "_cursor")
        .map(|(_, cursor)| cursor.into_owned())
}

/// What is typed into the search, as parameters: `code=29463-7&date=ge2026`.
pub(crate) fn typed(text: &str) -> Vec<(String, String)> {
    let text = text.trim().trim_start_matches('?');
    form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

/// How a value of a parameter is written.
fn example(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::Token => "code, or system|code",
        ParameterKind::String => "the beginning of the words",
        ParameterKind::Date => "2026-03, ge2026-01-01, lt2026-07",
        ParameterKind::Reference => "Patient/ID",
        ParameterKind::Uri => "the whole address",
        ParameterKind::Number => "5, gt5, le10",
        ParameterKind::Quantity => "gt70, or 70||kg",
        ParameterKind::Composite => "value$value, of one element",
        ParameterKind::Special => "latitude|longitude|distance|km",
    }
}

/// The parameters of a type, for who doesn't know them by heart.
fn help(ctx: &Ctx, kind: ResourceType) -> Markup {
    let web = &ctx.app.web;
    let owns = web.trust.vault().owns(web.tenant);
    html! {
        details class="section" {
            summary { "What " (kind.name()) " can be searched by" }
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "Parameter" } th scope="col" { "Type" } th scope="col" { "Value" } th scope="col" { "Looks at" } } }
                    tbody {
                        @for own in owns.of(kind) {
                            tr {
                                th scope="row" class="mono" { (own.code()) }
                                td { (own.kind().code()) ", your own" }
                                td class="quiet" { (example(own.kind())) }
                                td class="mono quiet wrap" { (own.expression()) }
                            }
                        }
                        @for parameter in fhir::search::parameters(kind).iter().chain(&fhir::search::COMMON) {
                            tr {
                                th scope="row" class="mono" { (parameter.name) }
                                td { (parameter.kind.code()) }
                                td class="quiet" { (example(parameter.kind)) }
                                td class="mono quiet wrap" { (parameter.expression) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn form(ctx: &Ctx, kind: Option<ResourceType>, query: &str) -> Markup {
    html! {
        form class="filters inline-fields" method="post" action="/console/record" role="search" {
            (csrf(ctx))
            label { "Type"
                select name="kind" required {
                    @if kind.is_none() { option value="" selected { "choose" } }
                    @for one in ResourceType::all().filter(|one| record::is_searchable(*one)) {
                        option value=(one.name()) selected[kind == Some(one)] { (one.name()) }
                    }
                }
            }
            label class="grows" { "Parameters, joined by &"
                input type="text" name="query" value=(query) autocomplete="off" spellcheck="false" maxlength="4000" placeholder="code=29463-7&date=ge2026";
            }
            button class="primary" type="submit" { "Search" }
            button type="submit" name="do" value="explain" { "Explain" }
        }
    }
}

fn shell(ctx: &Ctx, kind: Option<ResourceType>, query: &str, results: &Markup) -> Response {
    let body = html! {
        (layout::head("Record", &html! { "Every resource as it is kept, by FHIR's own search parameters. What you search for is recorded in the audit." }, &html! {}))
        (form(ctx, kind, query))
        (results)
        @if let Some(kind) = kind { (help(ctx, kind)) }
    };
    console(ctx, "Record", Section::Record, None, &body)
}

/// Where a resource's own page is.
fn address(kind: &str, id: &str) -> String {
    format!("/console/record/{kind}/{id}")
}

/// The first date that says when a thing was.
pub(crate) fn when(resource: &Value) -> Option<&str> {
    const DATES: [&str; 14] = [
        "effectiveDateTime",
        "effectiveInstant",
        "performedDateTime",
        "occurrenceDateTime",
        "onsetDateTime",
        "authoredOn",
        "started",
        "start",
        "sent",
        "authored",
        "recordedDate",
        "date",
        "issued",
        "created",
    ];
    const PERIODS: [&str; 5] = [
        "period",
        "effectivePeriod",
        "performedPeriod",
        "occurrencePeriod",
        "billablePeriod",
    ];
    DATES
        .iter()
        .find_map(|name| resource[*name].as_str())
        .or_else(|| {
            PERIODS
                .iter()
                .find_map(|name| resource[*name]["start"].as_str())
        })
}

/// Whose or what it is about.
fn subject(resource: &Value) -> Option<&Value> {
    ["subject", "patient", "beneficiary", "for", "individual"]
        .iter()
        .map(|name| &resource[*name])
        .find(|value| value["reference"].is_string())
}

/// What a resource is, in a few words.
fn words(resource: &Value) -> String {
    let Ok(resource) = Resource::from_value(resource.clone()) else {
        return String::new();
    };
    let (what, value) = (
        resource.display(),
        crate::patient::words::value_of(&resource),
    );
    match (what.is_empty(), value.is_empty()) {
        (_, true) => what,
        (true, false) => value,
        (false, false) => format!("{what}: {value}"),
    }
}

fn rows(ctx: &Ctx, kind: ResourceType, bundle: &Value, open: Option<&EmergencyAccess>) -> Markup {
    let (found, more): (Vec<&Value>, Vec<&Value>) =
        (entries(bundle).iter()).partition(|entry| entry["search"]["mode"] == "match");
    let (others, told): (Vec<&Value>, Vec<&Value>) =
        (more.into_iter()).partition(|entry| entry["search"]["mode"] != "outcome");
    let cursor = next_cursor(bundle);
    html! {
        @for entry in told { (issues("Told by the search", &entry["resource"])) }
        @if found.is_empty() {
            (layout::empty("Nothing found", "Nothing that you may see matches. Take a parameter away, or look at what the type can be searched by."))
        } @else {
            p class="quiet" aria-live="polite" {
                (layout::count_of(found.len(), "resource"))
                @if cursor.is_some() { " on this page, newest first." } @else { " found, newest first." }
                @if let Some(total) = bundle["total"].as_u64() { " " (layout::thousands(total)) " in all." }
            }
            (table(ctx, &found, false))
        }
        @if !others.is_empty() {
            section class="section stack" aria-labelledby="included" {
                h2 id="included" { "Included with them" }
                (table(ctx, &others, true))
            }
        }
        @if let Some(cursor) = cursor {
            p class="pager" { a class="button" rel="next" href={ "/console/record/" (kind.name()) "?cursor=" (crate::context::escape(&cursor)) @if let Some(open) = open { "&of=" (open.patient) } } { "Next page" } }
        }
    }
}

fn table(ctx: &Ctx, entries: &[&Value], with_type: bool) -> Markup {
    html! {
        div class="scroll" {
            table {
                thead { tr {
                    @if with_type { th scope="col" { "Type" } }
                    th scope="col" { "What" } th scope="col" { "Of" } th scope="col" { "When" } th scope="col" { "Status" } th scope="col" { "Changed" }
                } }
                tbody data-rows {
                    @for entry in entries {
                        @let resource = &entry["resource"];
                        @let kind = resource["resourceType"].as_str().unwrap_or_default();
                        @let id = resource["id"].as_str().unwrap_or_default();
                        @let what = words(resource);
                        tr data-key=(id) {
                            @if with_type { td { (kind) } }
                            th scope="row" { a data-act="open" href=(address(kind, id)) { @if what.is_empty() { (kind) " " (layout::short_id(id)) } @else { (what) } } }
                            td { @if let Some(subject) = subject(resource) { (tree::reference(subject)) } }
                            td class="nowrap" { @if let Some((_, when, _)) = when(resource).and_then(|when| fhir_time(&ctx.times, when)) { (when) } }
                            td { (resource["status"].as_str().unwrap_or("")) }
                            td class="nowrap" { (changed(ctx, resource)) }
                        }
                    }
                }
            }
        }
    }
}

/// When a version was written.
fn changed(ctx: &Ctx, resource: &Value) -> Markup {
    let at = resource["meta"]["lastUpdated"].as_str();
    match at.and_then(fhir::date::parse).map(|at| at.start_ms) {
        Some(at_ms) => {
            html! { time datetime=(iso(at_ms)) title=(ctx.times.exact(at_ms)) { (crate::time::relative(at_ms, ctx.times.care_ms)) } }
        }
        None => html! {},
    }
}

/// The issues of an `OperationOutcome`.
fn issues(title: &str, outcome: &Value) -> Markup {
    let issues = outcome["issue"].as_array().map_or(&[][..], Vec::as_slice);
    html! {
        div class="problem" role="alert" {
            strong { (title) }
            ul {
                @for issue in issues {
                    li {
                        @if let Some(place) = issue["expression"][0].as_str() { span class="mono" { (place) } " " }
                        (issue["diagnostics"].as_str().or_else(|| issue["code"].as_str()).unwrap_or("it can't be done"))
                    }
                }
            }
        }
    }
}

/// What a search gives: its rows, or what is wrong with it.
fn outcome(
    ctx: &Ctx,
    kind: ResourceType,
    answer: Result<Answer, RecordError>,
    open: Option<&EmergencyAccess>,
) -> Result<Markup, PageError> {
    match answer {
        Ok(answer) => {
            let rows = rows(ctx, kind, &json(&answer)?, open);
            Ok(html! { (crate::emergency::note(ctx, open)) (rows) })
        }
        Err(error) if matches!(error.status, 400 | 413 | 422 | 501) => Ok(issues(
            "This can't be searched for",
            error.outcome.to_resource().as_value(),
        )),
        Err(error) => Err(failed(error)),
    }
}

/// `GET /console/record`: the search, before there is one.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let chosen = match fields.get("kind") {
        Some(name) => Some(kind(name)?),
        None => None,
    };
    ctx.permit(Action::Search, chosen, None).await?;
    let none = layout::empty(
        "No search yet",
        "Choose a type. Without parameters you get the newest of it; below the search stands what it can be searched by.",
    );
    Ok(shell(&ctx, chosen, "", &none))
}

/// `POST /console/record`: the first page of a search, or how it is searched.
pub(crate) async fn search(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let Some(name) = fields.get("kind") else {
        return Ok(Redirect::to("/console/record").into_response());
    };
    let kind = kind(name)?;
    let query = fields.get("query").unwrap_or_default();
    let mut parameters = typed(query);
    if !parameters.iter().any(|(name, _)| name == "_count") {
        parameters.push(("_count".to_owned(), PAGE.to_owned()));
    }
    let record = &ctx.app.web.record;
    let patient = record::named_patient(Some(kind), &parameters);
    let asks = Asks::for_list(&ctx, patient.as_deref()).await?;
    if fields.get("do") == Some("explain") {
        let answer = record.explain(&asks.caller, kind, &parameters).await;
        let results = explain::outcome(kind, answer)?;
        return Ok(shell(&ctx, Some(kind), query, &results));
    }
    let answer = record.search_by_post(&asks.caller, kind, &parameters).await;
    let results = outcome(&ctx, kind, answer, asks.open.as_ref())?;
    Ok(shell(&ctx, Some(kind), query, &results))
}

/// `GET /console/record/{kind}?cursor=…`: a further page, whose parameters are sealed in the cursor.
pub(crate) async fn further(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let Some(cursor) = fields.get("cursor") else {
        let form = format!("/console/record?kind={}", kind.name());
        return Ok(Redirect::to(&form).into_response());
    };
    let parameters = [("_cursor".to_owned(), cursor.to_owned())];
    let record = &ctx.app.web.record;
    // What was asked for is sealed; which patient it was about stands beside it.
    let patient = fields.get("of").filter(|id| fhir::is_id(id));
    let asks = Asks::for_list(&ctx, patient).await?;
    let answer = record.search_by_post(&asks.caller, kind, &parameters).await;
    let results = outcome(&ctx, kind, answer, asks.open.as_ref())?;
    Ok(shell(&ctx, Some(kind), "", &results))
}

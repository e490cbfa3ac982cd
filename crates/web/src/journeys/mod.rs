//! Journeys: the list, one version's graph with how many patients are where, and publishing. One step
//! is in `step.rs`, the lists that its numbers lead to in `people.rs`.

pub(crate) mod analysis;
pub(crate) mod checks;
mod cohort;
mod costs;
mod funnel;
mod outcomes;
pub(crate) mod people;
pub(crate) mod stages;
pub(crate) mod step;
pub(crate) mod studio;
pub(crate) mod typing;

use std::sync::Arc;

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{Finding, GraphView, JourneyError, VersionView};
use maud::{Markup, html};
use trust::{Action, Role, kinds};

use crate::context::{Ctx, Fields, Posted, Watching, escape};
use crate::drawing::{self, Bar, Told};
use crate::error::PageError;
use crate::layout::{self, Section, console, csrf, thousands};
use crate::live::{self, Parts};
use crate::time::signed;
use crate::worklist::last_event_id;
use people::{Numbers, may_see};
use stages::version_state;

/// `GET /console/journeys`.
pub(crate) async fn list(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let versions = ctx.app.web.journeys.versions(&permit).await?;
    let may_publish = ctx.role() == Role::Squad;
    let may_steer = ctx.role() == Role::Coordinator;
    let actions = html! { a class="button" href="/console/stuck" { "Who is stuck" } @if may_steer { a class="button" href="/console/batches" { "Act on many at once" } } a class="button" href="/console/studio" { "Studio" } @if may_publish { a class="button primary" href="/console/journeys/publish" { "Publish a journey" } } };
    let body = html! {
        (layout::head("Journeys", &html! { "What patients go through after an event, step by step." }, &actions))
        @if versions.is_empty() {
            (layout::empty("No journey is published", "A squad publishes one from a file; the example is journeys/heart-failure-discharge.yaml."))
        } @else {
            div class="scroll" {
                table {
                    thead { tr { th scope="col" { "Journey" } th scope="col" { "Version" } th scope="col" class="number" { "In it now" } th scope="col" class="number" { "Have left" } th scope="col" { "Published" } th scope="col" { "State" } } }
                    tbody {
                        @for version in &versions {
                            @let href = format!("/console/journeys/{}?version={}", version.name, version.version);
                            @let numbers = Numbers { version, people: may_see(&ctx) };
                            tr {
                                th scope="row" { a href=(href) { (version.title) } div class="quiet small mono" { (version.name) } }
                                td { (version.version) }
                                td class="number" { (numbers.number(version.running, &[("list", "here")])) }
                                td class="number" { (numbers.number(version.ended, &[("list", "ended")])) }
                                td { (ctx.times.ago(signed(version.published_ms))) div class="quiet small" { "by " (version.published_by) } }
                                td { (version_state(version)) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(console(&ctx, "Journeys", Section::Journeys, None, &body))
}

fn graph_part(graph: &GraphView, fields: &Fields, people: bool) -> Markup {
    let chosen = fields.get("step");
    let told = funnel::told(graph, fields);
    let numbers = Numbers {
        version: &graph.version,
        people,
    };
    let endings: Vec<Bar> = graph
        .endings
        .iter()
        .map(|(reason, count)| Bar {
            name: reason.clone(),
            count: *count,
            href: numbers.leads(*count, &[("list", "ended"), ("reason", reason)]),
        })
        .collect();
    html! {
        div id="graph" class="stack-wide" {
            p {
                span class="strong" { (numbers.number(graph.version.running, &[("list", "here")])) } " in it now, "
                span class="strong" { (numbers.number(graph.version.ended, &[("list", "ended")])) } @if graph.version.ended == 1 { " has left it." } @else { " have left it." }
                @if chosen.is_none() { span class="quiet" { " Choose a step to see who is there, how long they stay and what it says to the patient." } }
            }
            (funnel::switch(graph, fields))
            (drawing::draw(graph, chosen, people, told))
            details id="as-table" {
                summary { "The same as tables" }
                @if let Told::Funnel { started } = told { (funnel::tables(graph, started)) }
                @else { div class="stack" {
                    div class="scroll" {
                        table {
                            caption { "Steps" }
                            thead { tr { th scope="col" { "Step" } th scope="col" { "Kind" } th scope="col" class="number" { "Here now" } th scope="col" class="number" { "Came here" } th scope="col" class="number" { "Went on" } th scope="col" class="number" { "Left the journey here" } th scope="col" { "Half stay less than" } } }
                            tbody {
                                @for node in &graph.nodes {
                                    tr {
                                        th scope="row" { a href=(step_href(graph, &node.id)) { (node.title) } }
                                        td { (node.kind) }
                                        @for (list, count) in [("here", node.here), ("came", node.entered), ("left", node.left), ("ended", node.ended_here)] {
                                            td class="number" { @if list != "left" || node.passes { (numbers.number(count, &[("list", list), ("step", &node.id)])) } }
                                        }
                                        td { @if let Some(median) = node.dwell_median_ms { (step::stayed(median)) } }
                                    }
                                }
                            }
                        }
                    }
                    div class="scroll" tabindex="0" role="region" aria-label="Ways between them" {
                        table {
                            caption { "Ways between them" }
                            thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "When" } th scope="col" class="number" { "Went this way" } } }
                            tbody { @for edge in &graph.edges { tr { td { (title_of(graph, &edge.from)) } td { (title_of(graph, &edge.to)) } td { (spoken(&edge.label)) } td class="number" { (step::way(numbers, edge)) } } } }
                        }
                    }
                } }
            }
            section class="stack" aria-labelledby="endings" {
                h2 id="endings" { "How it ended" }
                @if graph.endings.is_empty() { p class="quiet" { "Nobody has left this version yet." } }
                @else { (drawing::bars(&endings, "Reason", "Patients")) }
            }
        }
    }
}

/// The address of a step's panel.
pub(crate) fn step_href(graph: &GraphView, step: &str) -> String {
    format!(
        "/console/journeys/{}?version={}&step={}#step",
        graph.version.name,
        graph.version.version,
        escape(step)
    )
}

pub(crate) fn title_of<'a>(graph: &'a GraphView, id: &'a str) -> &'a str {
    graph
        .nodes
        .iter()
        .find(|node| node.id == id)
        .map_or(id, |node| node.title.as_str())
}

/// A label from the file as it is spoken: `not_reached` as `not reached`.
pub(crate) fn spoken(label: &str) -> String {
    label.replace('_', " ")
}

async fn load(ctx: &Ctx, name: &str, fields: &Fields) -> Result<GraphView, PageError> {
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let version = match fields.get("version") {
        Some(version) => Some(version.parse().map_err(|_| PageError::NotFound)?),
        None => None,
    };
    Ok(ctx.app.web.journeys.graph(&permit, name, version).await?)
}

async fn parts(ctx: &Ctx, name: &str, fields: &Fields) -> Result<(GraphView, Parts), PageError> {
    let graph = load(ctx, name, fields).await?;
    let chosen = fields.get("step");
    let step = step::panel(ctx, &graph, chosen).await?;
    let graph_part = graph_part(&graph, fields, may_see(ctx));
    let parts = vec![("graph", graph_part), ("step", step)];
    Ok((graph, parts))
}

/// `GET /console/journeys/{name}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let journeys = &ctx.app.web.journeys;
    if let Some(version) = fields.get("version").and_then(|text| text.parse().ok()) {
        let stage = journeys.stage(&permit, &name, version).await?;
        // A draft has no graph: it may have errors.
        let put_away = !journeys.has_graph(&permit, &name, version).await?;
        if put_away {
            return Ok(stages::draft_page(&ctx, &stage));
        }
    }
    let live = live::address(
        &ctx,
        &format!("/console/live/journeys/{}", escape(&name)),
        &fields.to_query(&["after"]),
    );
    let (graph, parts) = parts(&ctx, &name, &fields).await?;
    let number = graph.version.version;
    let stage = journeys.stage(&permit, &name, number).await?;
    let versions: Vec<VersionView> = journeys
        .versions(&permit)
        .await?
        .into_iter()
        .filter(|version| version.name == name)
        .collect();
    let version = &graph.version;
    let body = html! {
        div class="spread" { p class="crumbs" { a href="/console/journeys" { "Journeys" } } (layout::live_light()) }
        div class="head" {
            div {
                h1 { (version.title) }
                p class="quiet" { "Version " (version.version) ", published " (ctx.times.ago(signed(version.published_ms))) " by " (version.published_by) }
                p { (version_state(version)) }
            }
            a class="button" href=(analysis::address(version)) { "How it goes" }
            @if ctx.role() == Role::Coordinator && versions.len() > 1 && version.running > 0 {
                a class="button" href={ "/console/journeys/" (escape(&name)) "/move?from=" (version.version) } { "Move patients to another version" }
            }
            a class="button" href={ "/console/studio?open=" (escape(&name)) "%2F" (version.version) } { "Open in the studio" }
            @if ctx.role() == Role::Squad {
                a class="button" href={ "/console/journeys/publish?from=" (escape(&name)) "&version=" (version.version) } { "Edit as a new version" }
            }
        }
        @if versions.len() > 1 {
            nav class="tabs" aria-label="Versions" {
                @for other in &versions {
                    a href={ "/console/journeys/" (name) "?version=" (other.version) (funnel::kept(&fields)) } aria-current=[(other.version == version.version).then_some("page")] {
                        "Version " (other.version) " " span class="quiet" { (thousands(other.running)) " now" }
                    }
                }
            }
        }
        div class={ "columns" @if fields.get("step").is_some() { " side" } } {
            @for (_, part) in &parts { (part) }
        }
        (stages::section(&ctx, &stage))
        section class="stack" aria-labelledby="source" {
            h2 id="source" { "The file" }
            details id="source-text" { summary { "Show the " (graph.source.lines().count()) " lines" } pre tabindex="0" { code { (graph.source) } } }
        }
    };
    Ok(console(
        &ctx,
        &version.title,
        Section::Journeys,
        Some(&live),
        &body,
    ))
}

/// Whether an event can change what a journey's pages show.
fn matters(kind: ledger::Kind) -> bool {
    kind == kinds::JOURNEY_INSTANCE
        || kind == kinds::JOURNEY_TRAIL
        || kind == kinds::JOURNEY_DEFINITION
        || kind == kinds::JOURNEY_STAGE
}

/// `GET /console/live/journeys/{name}`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    Path(name): Path<String>,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    ctx.staff()?;
    load(&ctx, &name, &fields).await?;
    let (shown, name) = (Arc::new(live::shown(&fields)), Arc::new(name));
    let source = live::Source {
        shard: None,
        matters,
        render: Box::new(move |ctx| {
            let (fields, name) = (shown.clone(), name.clone());
            Box::pin(async move { Ok(parts(&ctx, &name, &fields).await?.1) })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}

fn publish_page(ctx: &Ctx, source: &str, checked: Option<&[Finding]>) -> Response {
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        (layout::head("Publish a journey", &html! { "Paste the file. It is checked first; what has errors can't be published. Patients who are in an older version stay there." }, &html! { a class="button" href="/console/studio" { "Studio" } }))
        @if let Some(findings) = checked {
            div class="stack" role="status" {
                p { (checks::verdict(findings)) }
                (checks::list(findings, source, Some("source")))
            }
        }
        form class="stack" method="post" action="/console/journeys/publish" {
            (csrf(ctx))
            label { "Journey file (YAML)" textarea id="source" class="source" name="source" spellcheck="false" wrap="off" required { "\n" (source) } }
            div class="cluster" {
                button class="primary" type="submit" name="do" value="publish" { "Publish" }
                button type="submit" name="do" value="draft" { "Keep as a draft" }
                button type="submit" name="do" value="check" { "Check only" }
            }
        }
    };
    console(ctx, "Publish a journey", Section::Journeys, None, &body)
}

/// `GET /console/journeys/publish`.
pub(crate) async fn publish_form(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Publish, None, None).await?;
    let source = match fields.get("from") {
        Some(name) => match fields.get("version").and_then(|text| text.parse().ok()) {
            Some(version) => {
                let permit = ctx.permit(Action::Observe, None, None).await?;
                ctx.app.web.journeys.source(&permit, name, version).await?
            }
            None => load(&ctx, name, &fields).await?.source,
        },
        None => String::new(),
    };
    Ok(publish_page(&ctx, &source, None))
}

fn to_version(version: &VersionView) -> Response {
    let href = format!(
        "/console/journeys/{}?version={}",
        version.name, version.version
    );
    Redirect::to(&href).into_response()
}

/// `POST /console/journeys/publish`.
pub(crate) async fn publish(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Publish, None, None).await?;
    // Browsers send line ends as CR LF; a file has LF, and the same text again must stay the same.
    let source = fields
        .raw("source")
        .unwrap_or_default()
        .replace("\r\n", "\n");
    if fields.get("do") == Some("draft") {
        let journeys = &ctx.app.web.journeys;
        return match journeys
            .keep_draft(&permit, &source, "Kept in the console")
            .await
        {
            Ok(version) => Ok(to_version(&version)),
            Err(JourneyError::Findings(findings)) => {
                Ok(publish_page(&ctx, &source, Some(&findings)))
            }
            Err(error) => Err(error.into()),
        };
    }
    if fields.get("do") != Some("publish") {
        let looked = studio::look(&ctx.app, permit, &source).await?;
        let (looked, _) =
            looked.ok_or_else(|| PageError::Invalid(studio::NOT_LOOKED_AT.to_owned()))?;
        return Ok(publish_page(&ctx, &source, Some(&looked.findings)));
    }
    match ctx.app.web.journeys.publish(&permit, &source).await {
        Ok(version) => Ok(to_version(&version)),
        Err(JourneyError::Findings(findings)) => Ok(publish_page(&ctx, &source, Some(&findings))),
        Err(error) => Err(error.into()),
    }
}

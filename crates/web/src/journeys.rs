//! Journeys: the list, one version's graph with how many patients are where, who is at a step, and
//! publishing.

use std::sync::Arc;

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{Finding, GraphView, JourneyError, VersionView};
use maud::{Markup, html};
use trust::{Action, Role, kinds};

use crate::context::{Ctx, Fields, Posted, Watching, escape};
use crate::drawing;
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf, thousands};
use crate::live::{self, Parts};
use crate::time::{DAY_MS, duration, signed};
use crate::worklist::{last_event_id, patient_lines};

/// People listed at a step.
const PEOPLE_MAX: usize = 200;

fn version_state(version: &VersionView) -> Markup {
    if version.live {
        layout::state(State::Running, "New patients start here")
    } else {
        layout::state(State::Waiting, "No new patients")
    }
}

/// `GET /console/journeys`.
pub(crate) async fn list(ctx: Ctx) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let versions = ctx.app.web.journeys.versions(&permit).await?;
    let may_publish = ctx.role() == Role::Squad;
    let actions = html! { @if may_publish { a class="button primary" href="/console/journeys/publish" { "Publish a journey" } } };
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
                            tr {
                                th scope="row" { a href=(href) { (version.title) } div class="quiet small mono" { (version.name) } }
                                td { (version.version) }
                                td class="number" { a href=(href) { (thousands(version.running)) } }
                                td class="number" { a href={ (href) "#endings" } { (thousands(version.ended)) } }
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

fn graph_part(graph: &GraphView, chosen: Option<&str>) -> Markup {
    html! {
        div id="graph" class="stack" {
            p {
                span class="strong" { (thousands(graph.version.running)) } " in it now, "
                span class="strong" { (thousands(graph.version.ended)) } @if graph.version.ended == 1 { " has left it." } @else { " have left it." }
                @if chosen.is_none() { span class="quiet" { " Choose a step to see who is there, how long they stay and what it says to the patient." } }
            }
            (drawing::draw(graph, chosen))
            details id="as-table" {
                summary { "The same as tables" }
                div class="stack" {
                    div class="scroll" {
                        table {
                            caption { "Steps" }
                            thead { tr { th scope="col" { "Step" } th scope="col" { "Kind" } th scope="col" class="number" { "Here now" } th scope="col" class="number" { "Came here" } th scope="col" class="number" { "Left the journey here" } th scope="col" { "Half stay less than" } } }
                            tbody {
                                @for node in &graph.nodes {
                                    tr {
                                        th scope="row" { a href=(step_href(graph, &node.id)) { (node.title) } }
                                        td { (node.kind) }
                                        td class="number" { (thousands(node.here)) }
                                        td class="number" { (thousands(node.entered)) }
                                        td class="number" { (thousands(node.ended_here)) }
                                        td { @if let Some(median) = node.dwell_median_ms { (duration(signed(median))) } }
                                    }
                                }
                            }
                        }
                    }
                    div class="scroll" {
                        table {
                            caption { "Ways between them" }
                            thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "When" } th scope="col" class="number" { "Went this way" } } }
                            tbody { @for edge in &graph.edges { tr { td { (title_of(graph, &edge.from)) } td { (title_of(graph, &edge.to)) } td { (edge.label) } td class="number" { (thousands(edge.count)) } } } }
                        }
                    }
                }
            }
            section aria-labelledby="endings" {
                h2 id="endings" { "How it ended" }
                @if graph.endings.is_empty() { p class="quiet" { "Nobody has left this version yet." } }
                @else { (drawing::bars(&graph.endings, "Reason", "Patients")) }
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

fn title_of<'a>(graph: &'a GraphView, id: &'a str) -> &'a str {
    graph
        .nodes
        .iter()
        .find(|node| node.id == id)
        .map_or(id, |node| node.title.as_str())
}

/// How long people have been waiting at a step, in classes that people think in.
fn waits(now_ms: i64, people: &[(String, u64)]) -> Vec<(String, u64)> {
    let classes: [(&str, i64); 5] = [
        ("under 1 day", DAY_MS),
        ("1 to 3 days", 3 * DAY_MS),
        ("3 to 7 days", 7 * DAY_MS),
        ("7 to 30 days", 30 * DAY_MS),
        ("longer", i64::MAX),
    ];
    let mut counts = classes.map(|(name, _)| (name.to_owned(), 0u64));
    for (_, since_ms) in people {
        let waited = now_ms - signed(*since_ms);
        if let Some(place) = classes.iter().position(|(_, limit)| waited < *limit) {
            counts[place].1 += 1;
        }
    }
    counts.into_iter().collect()
}

async fn step_part(ctx: &Ctx, graph: &GraphView, step: Option<&str>) -> Result<Markup, PageError> {
    let Some(node) = step.and_then(|step| graph.nodes.iter().find(|node| node.id == step)) else {
        return Ok(html! { div id="step" hidden {} });
    };
    // Squads see how many, not who.
    let may_see = matches!(ctx.role(), Role::Coordinator | Role::Clinician);
    let people = if may_see {
        let permit = ctx
            .permit(Action::Search, Some(fhir::ResourceType::Patient), None)
            .await?;
        ctx.app
            .web
            .journeys
            .at_step(
                &permit,
                &graph.version.name,
                graph.version.version,
                &node.id,
                PEOPLE_MAX,
            )
            .await?
    } else {
        Vec::new()
    };
    let names = patient_lines(ctx, people.iter().map(|(id, _)| id.clone())).await?;
    let now = ctx.times.care_ms;
    Ok(html! {
        aside id="step" class="card raised stack" aria-labelledby="step-title" {
            p class="quiet small" { (node.kind) " · " span class="mono" { (node.id) } }
            h2 id="step-title" { (node.title) }
            dl class="facts" {
                dt { "Here now" } dd { (thousands(node.here)) }
                dt { "Came here" } dd { (thousands(node.entered)) }
                dt { "Left the journey from here" } dd { (thousands(node.ended_here)) }
                @if let Some(median) = node.dwell_median_ms { dt { "Half stay less than" } dd { (duration(signed(median))) } }
            }
            @if let Some(words) = &node.words { h3 { "Words to the patient" } p class="words" { (words) } }
            @if may_see {
                h3 { "Who is here" }
                @if people.is_empty() { p class="quiet" { "Nobody at the moment." } }
                @else {
                    (drawing::bars(&waits(now, &people), "Waiting for", "Patients"))
                    @if node.here > people.len() as u64 { p class="quiet small" { "The " (people.len()) " who wait longest." } }
                    ul data-rows {
                        @for (id, since_ms) in &people {
                            li class="spread" data-key=(id) {
                                a data-act="open" href={ "/console/patients/" (id) } { @match names.get(id) { Some(line) => (line.name), None => { "Patient " (layout::short_id(id)) } } }
                                span class="quiet small" { "came " (ctx.times.ago(signed(*since_ms))) }
                            }
                        }
                    }
                }
            } @else { p class="quiet small" { "Your role sees how many patients are here, not who." } }
        }
    })
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
    let step = step_part(ctx, &graph, chosen).await?;
    let parts = vec![("graph", graph_part(&graph, chosen)), ("step", step)];
    Ok((graph, parts))
}

/// `GET /console/journeys/{name}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let live = live::address(
        &ctx.app,
        &format!("/console/live/journeys/{}", escape(&name)),
        &fields.to_query(&["after"]),
    );
    let (graph, parts) = parts(&ctx, &name, &fields).await?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let versions: Vec<VersionView> = ctx
        .app
        .web
        .journeys
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
            @if ctx.role() == Role::Squad {
                a class="button" href={ "/console/journeys/publish?from=" (escape(&name)) "&version=" (version.version) } { "Edit as a new version" }
            }
        }
        @if versions.len() > 1 {
            nav class="tabs" aria-label="Versions" {
                @for other in &versions {
                    a href={ "/console/journeys/" (name) "?version=" (other.version) } aria-current=[(other.version == version.version).then_some("page")] {
                        "Version " (other.version) " " span class="quiet" { (thousands(other.running)) " now" }
                    }
                }
            }
        }
        div class={ "columns" @if fields.get("step").is_some() { " side" } } {
            @for (_, part) in &parts { (part) }
        }
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

/// `GET /console/live/journeys/{name}`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    Path(name): Path<String>,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    ctx.staff()?;
    load(&ctx, &name, &fields).await?;
    let (shown, name) = (Arc::new(Fields(fields.0.clone())), Arc::new(name));
    let source = live::Source {
        shard: None,
        matters: |kind| {
            kind == kinds::JOURNEY_INSTANCE
                || kind == kinds::JOURNEY_TRAIL
                || kind == kinds::JOURNEY_DEFINITION
        },
        render: Box::new(move |ctx| {
            let (fields, name) = (shown.clone(), name.clone());
            Box::pin(async move { Ok(parts(&ctx, &name, &fields).await?.1) })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}

fn publish_page(ctx: &Ctx, source: &str, checked: Option<&[Finding]>) -> Response {
    let errors = checked.map_or(0, |findings| {
        findings.iter().filter(|finding| finding.error).count()
    });
    let lines: Vec<&str> = source.lines().collect();
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        (layout::head("Publish a journey", &html! { "Paste the file. It is checked first; what has errors can't be published. Patients who are in an older version stay there." }, &html! {}))
        @if let Some(findings) = checked {
            div class="stack" role="status" {
                @if findings.is_empty() { p { (layout::state(State::Done, "No findings: it can be published")) } }
                @else {
                    p { @if errors > 0 { (layout::state(State::Failed, &layout::count_of(errors, "error"))) } @else { (layout::state(State::NeedsYou, "Only warnings: it can be published")) } }
                    ol class="stack" {
                        @for finding in findings {
                            li class={ @if finding.error { "problem" } @else { "note" } } {
                                span class="strong" { "Line " (finding.line) ", column " (finding.column) } " · " span class="mono" { (finding.code) }
                                div { (finding.message) }
                                @if let Some(line) = lines.get(finding.line.saturating_sub(1)) { div class="mono quiet" { (line.trim()) } }
                            }
                        }
                    }
                }
            }
        }
        form class="stack" method="post" action="/console/journeys/publish" {
            (csrf(ctx))
            label { "Journey file (YAML)" textarea class="source" name="source" spellcheck="false" wrap="off" required { (source) } }
            div class="cluster" {
                button class="primary" type="submit" name="do" value="publish" { "Publish" }
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
        Some(name) => load(&ctx, name, &fields).await?.source,
        None => String::new(),
    };
    Ok(publish_page(&ctx, &source, None))
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
    if fields.get("do") != Some("publish") {
        return Ok(publish_page(&ctx, &source, Some(&journey::check(&source))));
    }
    match ctx.app.web.journeys.publish(&permit, &source).await {
        Ok(version) => Ok(Redirect::to(&format!(
            "/console/journeys/{}?version={}",
            version.name, version.version
        ))
        .into_response()),
        Err(JourneyError::Findings(findings)) => Ok(publish_page(&ctx, &source, Some(&findings))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fall_into_classes() {
        let now = 100 * DAY_MS;
        let at = |days: i64| ("p".to_owned(), u64::try_from(now - days * DAY_MS).unwrap());
        let counts: Vec<u64> = waits(now, &[at(0), at(0), at(2), at(5), at(10), at(60)])
            .into_iter()
            .map(|(_, count)| count)
            .collect();
        assert_eq!(counts, [2, 1, 1, 1, 1]);
    }
}

//! How far a version of a journey is, how it came there, and moving it on.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{Rollout, StageMove, StageView, VersionStage, VersionView};
use maud::{Markup, html};
use trust::{Action, Role};

use super::checks;
use crate::context::{Ctx, Fields, Posted, escape};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::stopping::REASON_MAX;
use crate::time::signed;

/// Which new patients start on it.
pub(crate) fn version_state(version: &VersionView) -> Markup {
    match version.stage {
        VersionStage::Draft => layout::state(State::Waiting, "Draft"),
        VersionStage::Checked => layout::state(State::Waiting, "Checked, starts nobody yet"),
        VersionStage::Staged => layout::state(State::Running, &whom(&version.rollout())),
        VersionStage::Live => layout::state(State::Running, "New patients start here"),
        VersionStage::Retired => layout::state(State::Waiting, "No new patients"),
    }
}

fn whom(rollout: &Rollout) -> String {
    let sites = match rollout.sites.as_slice() {
        [] => String::new(),
        [one] => format!(" at {one}"),
        many => format!(" at {} sites", many.len()),
    };
    if rollout.share == 100 {
        format!("Staged: all new patients{sites}")
    } else {
        format!("Staged: {} % of new patients{sites}", rollout.share)
    }
}

fn deed(to: VersionStage, from: VersionStage) -> &'static str {
    match (to, from) {
        (VersionStage::Checked, VersionStage::Staged) => "Take it back: nobody else starts on it",
        (VersionStage::Draft | VersionStage::Checked, _) => {
            "Check it: it stays as it is from there on"
        }
        (VersionStage::Staged, VersionStage::Staged) => "Stage it for others",
        (VersionStage::Staged, _) => "Stage it for some of the new patients",
        (VersionStage::Live, _) => "Make it live for all new patients",
        (VersionStage::Retired, _) => "Retire it: it starts nobody any more",
    }
}

fn step(ctx: &Ctx, step: &StageMove) -> Markup {
    let to = match &step.rollout {
        Some(rollout) => whom(rollout),
        None => match step.to {
            VersionStage::Draft => "Kept as a draft".to_owned(),
            VersionStage::Checked => "Checked".to_owned(),
            VersionStage::Staged => "Staged".to_owned(),
            VersionStage::Live => "Live".to_owned(),
            VersionStage::Retired => "Retired".to_owned(),
        },
    };
    html! {
        li { span class="strong" { (to) } " " (ctx.times.ago(signed(step.at_ms))) " by " (step.by) ": " (step.why) }
    }
}

/// Its stage, for its page: how it came there, and the form that moves it on.
pub(crate) fn section(ctx: &Ctx, stage: &StageView) -> Markup {
    let version = &stage.version;
    let from = version.stage;
    let may = ctx.role() == Role::Squad && !stage.next.is_empty();
    let stages = stage.next.contains(&VersionStage::Staged);
    html! {
        @if may || !stage.history.is_empty() {
            section class="stack" aria-labelledby="stage" {
                h2 id="stage" { "Stage" }
                @if !stage.history.is_empty() { ol { @for one in &stage.history { (step(ctx, one)) } } }
                @if may {
                    form class="ask stack" method="post" action={ "/console/journeys/" (escape(&version.name)) "/stage" } {
                        (csrf(ctx))
                        input type="hidden" name="version" value=(version.version);
                        label { "What" select name="to" { @for to in &stage.next { option value=(to.name()) { (deed(*to, from)) } } } }
                        @if stages {
                            label { "So many in a hundred" span class="hint" { "When it is staged. Who is drawn stays so, and a greater share has all of a smaller one" }
                                input type="number" name="share" min="1" max="100" value=(if from == VersionStage::Staged { version.share } else { 10 });
                            }
                            label { "Only at these sites" span class="hint" { "Ids of organizations, with spaces between them; all where none is named" }
                                input type="text" name="sites" autocomplete="off" spellcheck="false" maxlength="4000" value=(version.sites.join(" "));
                            }
                        }
                        label { "Why" input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off"; }
                        div { button type="submit" { "Move it on" } }
                    }
                }
            }
        }
    }
}

/// `POST /console/journeys/{name}/stage`.
pub(crate) async fn set(
    Path(name): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Publish, None, None).await?;
    let version = fields.get("version").and_then(|text| text.parse().ok());
    let version = version.ok_or(PageError::NotFound)?;
    let to = fields.get("to").and_then(VersionStage::parse);
    let to = to.ok_or_else(|| PageError::Invalid("Say what is to be done.".to_owned()))?;
    let why = fields.get("reason").unwrap_or_default();
    let journeys = &ctx.app.web.journeys;
    let view = journeys
        .set_stage(&permit, &name, version, to, &rollout(&fields)?, why)
        .await?;
    let href = format!("/console/journeys/{}?version={}", view.name, view.version);
    Ok(Redirect::to(&href).into_response())
}

fn rollout(fields: &Fields) -> Result<Rollout, PageError> {
    let share = fields.get("share").map_or(Ok(100), str::parse);
    let share = share.map_err(|_| PageError::Invalid("A share is 1 to 100.".to_owned()))?;
    let sites = fields.get("sites").unwrap_or_default();
    let sites = sites.split(|at: char| at.is_whitespace() || at == ',');
    let sites = sites.filter(|site| !site.is_empty()).map(str::to_owned);
    Ok(Rollout {
        share,
        sites: sites.collect(),
    })
}

/// The page of a version that has no graph yet: a draft, or one that was put away as such.
pub(crate) fn draft_page(ctx: &Ctx, stage: &StageView) -> Response {
    let version = &stage.version;
    let errors = stage
        .findings
        .iter()
        .filter(|finding| finding.error)
        .count();
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        div class="head" {
            div {
                h1 { (version.title) }
                p class="quiet" { "Version " (version.version) ", kept " (ctx.times.ago(signed(version.published_ms))) " by " (version.published_by) }
                p { (version_state(version)) }
                @if errors > 0 { p { (layout::state(State::Failed, &layout::count_of(errors, "error"))) } }
            }
            a class="button" href={ "/console/studio?open=" (escape(&version.name)) "%2F" (version.version) } { "Open in the studio" }
            @if ctx.role() == Role::Squad {
                a class="button" href={ "/console/journeys/publish?from=" (escape(&version.name)) "&version=" (version.version) } { "Go on with it" }
            }
        }
        (checks::list(&stage.findings, &stage.source, None))
        (section(ctx, stage))
        section class="stack" aria-labelledby="source" {
            h2 id="source" { "The file" }
            pre tabindex="0" { code { (stage.source) } }
        }
    };
    console(ctx, &version.title, Section::Journeys, None, &body)
}

//! The versions of a resource, one of them, and what changed between two.

use std::time::Duration;

use axum::extract::Path;
use axum::response::Response;
use fhir::ResourceType;
use maud::{Markup, html};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::resource::{SHOWN_BYTES_MAX, Tab, content, head, line, title};
use super::{Asks, address, entries, failed, json, kind, next_cursor};
use crate::context::{Ctx, Fields};
use crate::error::PageError;
use crate::layout::{self, Section, State, console};
use crate::time::iso;

/// Versions on a page.
const PAGE: &str = "50";
/// Lines around a change that are shown with it.
const AROUND: usize = 3;
/// After this long a comparison settles for a longer list of changes than need be.
const COMPARED_WITHIN: Duration = Duration::from_millis(500);

/// A version, as an entry of a history tells it.
struct Version {
    number: u32,
    at_ms: Option<i64>,
    is_deleted: bool,
}

fn version_of(entry: &Value) -> Option<Version> {
    let tag = entry["response"]["etag"].as_str()?;
    let at = entry["response"]["lastModified"].as_str();
    Some(Version {
        number: tag
            .trim_start_matches("W/")
            .trim_matches('"')
            .parse()
            .ok()?,
        at_ms: at.and_then(fhir::date::parse).map(|at| at.start_ms),
        is_deleted: entry["request"]["method"] == "DELETE",
    })
}

/// `GET /console/record/{kind}/{id}/history`.
pub(crate) async fn list(
    ctx: Ctx,
    Path((name, id)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let mut parameters = vec![("_count".to_owned(), PAGE.to_owned())];
    if let Some(cursor) = fields.get("cursor") {
        parameters.push(("_cursor".to_owned(), cursor.to_owned()));
    }
    let record = &ctx.app.web.record;
    let asks = Asks::for_one(&ctx, kind, &id).await?;
    let answer = record.history(&asks.caller, kind, &id, &parameters).await;
    let bundle = json(&answer.map_err(failed)?)?;
    let versions: Vec<Version> = entries(&bundle).iter().filter_map(version_of).collect();
    let newest = entries(&bundle)
        .first()
        .map_or(&Value::Null, |entry| &entry["resource"]);
    let here = address(kind.name(), &id);
    let body = html! {
        (head(kind, &id, &title(kind, &id, newest), &html! { span class="mono" { (kind.name()) "/" (id) } }, Tab::History))
        (crate::emergency::note(&ctx, asks.open.as_ref()))
        div class="scroll" {
            table {
                thead { tr { th scope="col" { "Version" } th scope="col" { "Written" } th scope="col" { "What happened" } th scope="col" { span class="visually-hidden" { "Compare" } } } }
                tbody data-rows {
                    @for version in &versions {
                        tr data-key=(version.number) {
                            th scope="row" {
                                @if version.is_deleted { (version.number) }
                                @else { a data-act="open" href={ (here) "/history/" (version.number) } { (version.number) } }
                            }
                            td { @if let Some(at_ms) = version.at_ms { time datetime=(iso(at_ms)) { (ctx.times.both(at_ms)) } } }
                            td {
                                @if version.is_deleted { (layout::state(State::Failed, "Deleted")) }
                                @else if version.number == 1 { "Created" }
                                @else { "Changed" }
                            }
                            td {
                                @if !version.is_deleted && version.number > 1 {
                                    a href={ (here) "/changes/" (version.number) } { "What changed" span class="visually-hidden" { " in version " (version.number) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if let Some(cursor) = next_cursor(&bundle) {
            p class="pager" { a class="button" rel="next" href={ (here) "/history?cursor=" (crate::context::escape(&cursor)) } { "Older versions" } }
        }
    };
    Ok(console(&ctx, kind.name(), Section::Record, None, &body))
}

/// A version's JSON and its length; `None` where it is a deletion.
async fn read(
    ctx: &Ctx,
    kind: ResourceType,
    id: &str,
    number: u32,
) -> Result<Option<(Value, usize)>, PageError> {
    let record = &ctx.app.web.record;
    let asks = Asks::for_one(ctx, kind, id).await?;
    let answer = record
        .version(&asks.caller, kind, id, &number.to_string())
        .await;
    match answer {
        Ok(answer) => Ok(Some((json(&answer)?, answer.body.len()))),
        Err(error) if error.status == 410 => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// `GET /console/record/{kind}/{id}/history/{version}`.
pub(crate) async fn version(
    ctx: Ctx,
    Path((name, id, number)): Path<(String, String, u32)>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let as_json = fields.get("as") == Some("json");
    let Some((resource, bytes)) = read(&ctx, kind, &id, number).await? else {
        return Err(PageError::NotFound);
    };
    let here = format!("{}/history/{number}", address(kind.name(), &id));
    let body = html! {
        (head(kind, &id, &title(kind, &id, &resource), &line(&ctx, kind, &id, &resource), Tab::Version))
        p class="note" { "This is version " (number) ", as it was. " a href=(address(kind.name(), &id)) { "The record as it is now" } }
        (content(&resource, bytes, as_json, &format!("{}/file?version={number}", address(kind.name(), &id))))
        p class="pager" {
            @if as_json { a class="button" href=(here) { "As elements" } } @else { a class="button" href={ (here) "?as=json" } { "As JSON" } }
            @if number > 1 { a class="button" href={ (address(kind.name(), &id)) "/changes/" (number) } { "What changed" } }
        }
    };
    Ok(console(&ctx, kind.name(), Section::Record, None, &body))
}

/// One line of a comparison.
struct Line {
    tag: ChangeTag,
    text: String,
}

/// The changes from one text to another, in groups with the lines around them.
fn compare(old: &str, new: &str) -> Vec<Vec<Line>> {
    let diff = TextDiff::configure()
        .timeout(COMPARED_WITHIN)
        .diff_lines(old, new);
    let groups = diff.grouped_ops(AROUND);
    let lines = groups.iter().map(|group| {
        let changes = group.iter().flat_map(|op| diff.iter_changes(op));
        let line = |change: similar::Change<&str>| Line {
            tag: change.tag(),
            text: change.value().trim_end_matches('\n').to_owned(),
        };
        changes.map(line).collect()
    });
    lines.collect()
}

fn shown(groups: &[Vec<Line>]) -> Markup {
    html! {
        @for group in groups {
            pre class="diff" tabindex="0" {
                @for line in group {
                    @match line.tag {
                        ChangeTag::Delete => del { span aria-hidden="true" { "− " } (layout::escaped(&line.text)) },
                        ChangeTag::Insert => ins { span aria-hidden="true" { "+ " } (layout::escaped(&line.text)) },
                        ChangeTag::Equal => span { "  " (layout::escaped(&line.text)) },
                    }
                    "\n"
                }
            }
        }
    }
}

/// `GET /console/record/{kind}/{id}/changes/{version}`: from the version before.
pub(crate) async fn change(
    ctx: Ctx,
    Path((name, id, number)): Path<(String, String, u32)>,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let kind = kind(&name)?;
    let Some(before) = number.checked_sub(1).filter(|before| *before > 0) else {
        return Err(PageError::NotFound);
    };
    let Some((new, new_bytes)) = read(&ctx, kind, &id, number).await? else {
        return Err(PageError::NotFound);
    };
    let old = read(&ctx, kind, &id, before).await?;
    // Number and time of a version differ each time, and stand on the page anyway.
    let pretty = |value: &Value| {
        let mut value = value.clone();
        if let Some(meta) = value["meta"].as_object_mut() {
            meta.remove("versionId");
            meta.remove("lastUpdated");
        }
        serde_json::to_string_pretty(&value).map_err(|error| PageError::Internal(error.to_string()))
    };
    let here = address(kind.name(), &id);
    let too_long = new_bytes.max(old.as_ref().map_or(0, |(_, bytes)| *bytes)) > SHOWN_BYTES_MAX;
    let changes = match &old {
        Some((old, _)) if !too_long => compare(&pretty(old)?, &pretty(&new)?),
        _ => Vec::new(),
    };
    let body = html! {
        (head(kind, &id, &title(kind, &id, &new), &line(&ctx, kind, &id, &new), Tab::Version))
        @if too_long {
            (layout::empty("Too long to compare on a page", "Open the versions one by one."))
        } @else if old.is_none() {
            p class="note" { "Version " (before) " deleted it; version " (number) " wrote it anew." }
        } @else {
            p class="note" { "From version " (before) " to version " (number) ": " del { "− what was" } ", " ins { "+ what is" } "." }
            @if changes.is_empty() { (layout::empty("Nothing changed", "It was written again as it was.")) }
            (shown(&changes))
        }
        p class="pager" {
            a class="button" href={ (here) "/history/" (before) } { "Version " (before) }
            a class="button" href={ (here) "/history/" (number) } { "Version " (number) }
        }
    };
    Ok(console(&ctx, kind.name(), Section::Record, None, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_shows_what_changed_and_little_around_it() {
        let old: Vec<String> = (0..100).map(|line| format!("line {line}\n")).collect();
        let mut new = old.clone();
        new[50] = "another\n".to_owned();
        let groups = compare(&old.concat(), &new.concat());
        assert_eq!(groups.len(), 1);
        let signs: Vec<ChangeTag> = groups[0].iter().map(|line| line.tag).collect();
        assert_eq!(signs.len(), 2 + 2 * AROUND);
        assert_eq!(
            signs[AROUND..AROUND + 2],
            [ChangeTag::Delete, ChangeTag::Insert]
        );
        assert!(compare("a\n", "a\n").is_empty());
    }
}

//! What the checker finds in a journey's file: the list of it, and the page of each code.

use axum::extract::Path;
use axum::response::Response;
use journey::Finding;
use maud::{Markup, PreEscaped, html};
use trust::Action;

use crate::context::Ctx;
use crate::error::PageError;
use crate::layout::{self, Section, State, console, escaped};

/// Findings that are listed at once; more are told with the next check.
const LISTED_MAX: usize = 100;
/// Characters of a line of the file that are shown beneath a finding.
const LINE_MAX: usize = 160;

/// The address of a code's page.
fn href(code: &str) -> String {
    format!("/console/checks/{}", crate::context::escape(code))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is found in a file, each with its line, why it matters and the page of its code. Where the file stands in a
/// field, whose id is given, the place leads to its line there.
pub(crate) fn list(findings: &[Finding], source: &str, field: Option<&str>) -> Markup {
    let lines: Vec<&str> = source.lines().collect();
    html! {
        ol class="stack findings" {
            @for finding in findings.iter().take(LISTED_MAX) {
                li class={ @if finding.error { "problem" } @else { "note" } } data-key={ (finding.code) "-" (finding.line) "-" (finding.column) } {
                    div {
                        @match field {
                            Some(field) => a class="strong" href={ "#" (field) } data-act="place" data-line=(finding.line) data-column=(finding.column) { "Line " (finding.line) ", column " (finding.column) },
                            None => span class="strong" { "Line " (finding.line) ", column " (finding.column) },
                        } " · "
                        (layout::state(if finding.error { State::Failed } else { State::NeedsYou }, if finding.error { "Error" } else { "Warning" }))
                        " " a href=(href(&finding.code)) { (finding.code) }
                    }
                    div { (finding.message) }
                    @if let Some(line) = lines.get(finding.line.saturating_sub(1)) { div { code class="quiet" { (cut(line.trim())) } } }
                    @if let Some((why, _)) = journey::why(&finding.code) { div class="quiet small" { "Why it matters: " (inline(why)) } }
                }
            }
        }
        @if findings.len() > LISTED_MAX { p class="quiet" { "The first " (LISTED_MAX) " of " (layout::thousands(findings.len() as u64)) "; the others are shown when these are mended." } }
    }
}

/// How it stands, in a line.
pub(crate) fn verdict(findings: &[Finding]) -> Markup {
    let errors = findings.iter().filter(|finding| finding.error).count();
    html! {
        @if findings.is_empty() { (layout::state(State::Done, "No findings")) }
        @else if errors > 0 { (layout::state(State::Failed, &layout::count_of(errors, "error"))) }
        @else { (layout::state(State::NeedsYou, "Only warnings")) }
    }
}

/// The same for those who hear it: how much is wrong, and where it begins.
pub(crate) fn spoken(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.error).count();
    let warnings = findings.len() - errors;
    let first = findings.iter().filter(|one| one.error || errors == 0);
    let Some(line) = first.map(|one| one.line).min() else {
        return "No findings.".to_owned();
    };
    let parts = [(errors, "error"), (warnings, "warning")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts
        .map(|(count, one)| layout::count_of(*count, one))
        .collect();
    format!("{}, the first in line {line}.", parts.join(" and "))
}

/// Bold and code of a line of Markdown; links are only their words, for they lead to files beside the page.
fn inline(text: &str) -> Markup {
    let mut out = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 1 {
            out += &format!("<code>{}</code>", escaped(part).0);
            continue;
        }
        for (place, part) in part.split("**").enumerate() {
            let words = escaped(&without_links(part)).0;
            if place % 2 == 1 {
                out += &format!("<strong>{words}</strong>");
            } else {
                out += &words;
            }
        }
    }
    PreEscaped(out)
}

/// `[words](address)` as `words`.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('[') {
        match from
            .split_once("](")
            .and_then(|(words, after)| Some((words, after.split_once(')')?.1)))
        {
            Some((words, after)) => {
                out.push_str(before);
                out.push_str(words);
                rest = after;
            }
            None => {
                out.push_str(before);
                out.push('[');
                rest = from;
            }
        }
    }
    out + rest
}

/// Paragraphs and blocks of code.
fn shown(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split("```").enumerate() {
            @if place % 2 == 1 { pre tabindex="0" { code { (part.split_once('\n').map_or(part, |(_, code)| code).trim_end()) } } }
            @else { @for words in part.split("\n\n").map(str::trim).filter(|words| !words.is_empty()) { p { (inline(words)) } } }
        }
    }
}

/// `GET /console/checks/{code}`: what a code of the checker means.
pub(crate) async fn page(ctx: Ctx, Path(code): Path<String>) -> Result<Response, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Observe, None, None).await?;
    let (heading, text) = journey::section(&code).ok_or(PageError::NotFound)?;
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } " / " a href="/console/studio" { "Studio" } }
        h1 { (heading) }
        div class="stack prose" { (shown(text)) }
    };
    Ok(console(&ctx, heading, Section::Journeys, None, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_of_the_page_is_shown_and_nothing_else() {
        let text = "**A <b>.** See `x<y` in the [reference](reference.md).\n\n```yaml\na: [b]\n```\n\nWhat to do: [a, b]";
        assert_eq!(
            shown(text).into_string(),
            "<p><strong>A &lt;b&gt;.</strong> See <code>x&lt;y</code> in the reference.</p><pre tabindex=\"0\"><code>a: [b]</code></pre><p>What to do: [a, b]</p>"
        );
        for (code, _) in journey::CODES {
            let (_, text) = journey::section(code).expect("a section");
            let shown = shown(text).into_string();
            assert!(
                !shown.contains("**") && !shown.contains("```") && !shown.contains("]("),
                "{code}: {shown}"
            );
        }
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(cut("ü"), "ü");
        let long = "ü".repeat(LINE_MAX + 1);
        assert_eq!(cut(&long).chars().count(), LINE_MAX + 1);
        assert!(cut(&long).ends_with('…'));
    }
}

//! SVG of a journey's graph and of bars. Attributes only: the pages' policy allows no inline style.

use std::collections::{BTreeMap, HashMap};

use journey::{FEW_CASES, GraphView, Marks, NodeView};
use maud::{Markup, html};

use crate::graph::{self, BOX_HEIGHT, BOX_WIDTH, Point};
use crate::journeys::analysis::share;
use crate::journeys::people::Numbers;
use crate::journeys::step::stayed;
use crate::journeys::{spoken, step_href, title_of};
use crate::layout::{count_of, thousands};

/// Characters of what is written across a box that is no step.
const LINE: usize = 22;
/// What a line of a title has of a box's width, pixels.
const LINE_WIDTH: f64 = BOX_WIDTH - 16.0;
/// Characters of a label that fit between two layers.
const LABEL: usize = 30;
/// Width that a letter of a label takes, on average, and height of a row, pixels.
const LABEL_ADVANCE: f64 = 6.6;
const LABEL_ROW: f64 = 14.0;
/// Height that a label can be hit in at least.
const LABEL_TARGET: f64 = 28.0;
/// Width and height of the mark where a branch ends.
const END_SIDE: f64 = 16.0;

/// About the width of a title's letters, pixels: 600 weight at 13 px, in one of the wider sans-serifs.
fn title_width(text: &str) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'l' | 'j' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.37,
        't' | 'f' | 'r' | '(' | ')' | '-' | '/' | 'J' => 0.49,
        'm' | 'w' | 'M' | 'W' | '…' | '@' | '%' => 1.04,
        letter if letter.is_uppercase() => 0.8,
        letter if letter.is_ascii() => 0.69,
        // Letters of other scripts may be as wide as they are high.
        letter if letter.is_alphabetic() && u32::from(letter) > 0x24f => 1.0,
        _ => 0.75,
    };
    text.chars().map(em).sum::<f64>() * 13.0
}

/// As much of a word as fits into a line of a box, and that something was left out.
fn cut_to_line(text: &str) -> String {
    let mut cut = String::new();
    for letter in text.chars() {
        if title_width(&cut) + title_width("…") + 13.0 > LINE_WIDTH {
            break;
        }
        cut.push(letter);
    }
    cut + "…"
}

/// Breaks a title into at most two lines.
fn two_lines(title: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in title.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() || title_width(line) + title_width(" ") + title_width(word) <= LINE_WIDTH
        {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    let more = lines.len() > 2;
    lines.truncate(2);
    for (place, line) in lines.iter_mut().enumerate() {
        if title_width(line) > LINE_WIDTH {
            *line = cut_to_line(line);
        } else if more && place == 1 {
            let with_mark = format!("{line}…");
            *line = if title_width(&with_mark) > LINE_WIDTH {
                cut_to_line(line)
            } else {
                with_mark
            };
        }
    }
    lines
}

fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        text.to_owned()
    } else {
        text.chars().take(limit - 1).chain(['…']).collect()
    }
}

/// A step as drawn.
enum Drawn<'a> {
    Step(&'a NodeView),
    /// An ending that is no step of its own.
    Ending(&'a str),
    /// Where a branch ends. Each step has its own, since lines from everywhere to one place would
    /// hide the graph.
    BranchEnd,
}

/// A line, with all that goes along it: label and count.
struct Way<'a> {
    from: usize,
    to: usize,
    labels: Vec<(&'a str, u64)>,
}

impl Way<'_> {
    fn count(&self) -> u64 {
        self.labels.iter().map(|(_, count)| count).sum()
    }
}

/// What is drawn: steps, endings, and one line for all edges between the same two.
fn drawn(graph: &GraphView) -> (Vec<Drawn<'_>>, Vec<Way<'_>>) {
    let ends = |id: &str| {
        graph
            .nodes
            .iter()
            .any(|node| node.id == id && node.kind == "end")
    };
    let mut drawn: Vec<Drawn<'_>> = Vec::new();
    let mut places: HashMap<(&str, Option<usize>), usize> = HashMap::new();
    for node in graph.nodes.iter().filter(|node| node.kind != "end") {
        places.insert((&node.id, None), drawn.len());
        drawn.push(Drawn::Step(node));
    }
    let mut ways: Vec<Way<'_>> = Vec::new();
    for edge in &graph.edges {
        let from = *places.entry((&edge.from, None)).or_insert_with(|| {
            drawn.push(Drawn::Ending(&edge.from));
            drawn.len() - 1
        });
        let branch_end = ends(&edge.to);
        let to = *places
            .entry((&edge.to, branch_end.then_some(from)))
            .or_insert_with(|| {
                drawn.push(if branch_end {
                    Drawn::BranchEnd
                } else {
                    Drawn::Ending(&edge.to)
                });
                drawn.len() - 1
            });
        let label = (edge.label.as_str(), edge.count);
        match ways.iter_mut().find(|way| way.from == from && way.to == to) {
            Some(way) => way.labels.push(label),
            None => ways.push(Way {
                from,
                to,
                labels: vec![label],
            }),
        }
    }
    (drawn, ways)
}

fn size(known: &Drawn<'_>) -> (f64, f64) {
    match known {
        Drawn::BranchEnd => (END_SIDE, END_SIDE),
        _ => (BOX_WIDTH, BOX_HEIGHT),
    }
}

fn areas(boxes: &[Point], sizes: &[(f64, f64)]) -> Vec<Area> {
    let boxes = boxes.iter().zip(sizes);
    boxes
        .map(|((x, y), (width, height))| (*x, *y, x + width, y + height))
        .collect()
}

/// What stands at steps and along ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// How many are here now, left the journey here, and went a way.
    Counts,
    /// Which part of those who started came here, left the journey here, and went a way; and how long they stay.
    Funnel {
        /// How many started.
        started: u64,
    },
}

impl Told {
    fn number(self, count: u64) -> String {
        match self {
            Self::Counts => thousands(count),
            Self::Funnel { started } => share(count, started),
        }
    }
    /// The address of a step, where the graph goes on saying the same.
    fn href(self, graph: &GraphView, step: &str) -> String {
        let href = step_href(graph, step);
        match self {
            Self::Counts => href,
            Self::Funnel { .. } => href.replacen("#step", "&show=funnel#step", 1),
        }
    }
}

/// The graph. `chosen` is the step whose panel is open; with `people`, what stands on edges leads to lists.
pub(crate) fn draw(graph: &GraphView, chosen: Option<&str>, people: bool, told: Told) -> Markup {
    let (drawn, ways) = drawn(graph);
    let sizes: Vec<(f64, f64)> = drawn.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = ways.iter().map(|way| (way.from, way.to)).collect();
    let layout = graph::layout(&sizes, &edges);
    let most = ways.iter().map(Way::count).max().unwrap_or(0);
    let areas = areas(&layout.boxes, &sizes);
    let places = label_places(&ways, &layout.lines, &areas, told);
    html! {
        div class="graph" tabindex="0" role="region" aria-label="Graph of the journey" {
            svg width=(px(layout.width)) height=(px(layout.height)) viewBox={ "0 0 " (px(layout.width)) " " (px(layout.height)) } role="group" aria-label={ "Steps of " (graph.version.title) ". The same is in the tables below." } {
                @for (way, line) in ways.iter().zip(&layout.lines) { (edge_line(line, way.count(), most)) }
                @for (known, corner) in drawn.iter().zip(&layout.boxes) { (step_box(graph, known, *corner, chosen, told)) }
                @for (way, place) in ways.iter().zip(places) { (way_label(graph, &drawn, way, place, (people, told))) }
            }
        }
    }
}

/// The graph of what nobody has gone along, with where in it something is wrong: no counts, and nothing to open.
pub(crate) fn draft(graph: &GraphView, marks: &BTreeMap<String, Marks>) -> Markup {
    let (drawn, ways) = drawn(graph);
    let sizes: Vec<(f64, f64)> = drawn.iter().map(size).collect();
    let edges: Vec<(usize, usize)> = ways.iter().map(|way| (way.from, way.to)).collect();
    let layout = graph::layout(&sizes, &edges);
    let areas = areas(&layout.boxes, &sizes);
    let places = label_places(&ways, &layout.lines, &areas, Told::Counts);
    html! {
        div class="graph" tabindex="0" role="region" aria-label="Graph of the journey" {
            svg width=(px(layout.width)) height=(px(layout.height)) viewBox={ "0 0 " (px(layout.width)) " " (px(layout.height)) } role="img" aria-label={ "Steps of " (graph.version.title) ". The same is in the table below." } {
                @for line in &layout.lines { (edge_line(line, 1, u64::MAX)) }
                @for (known, corner) in drawn.iter().zip(&layout.boxes) { (draft_box(known, *corner, marks)) }
                @for (way, (x, y)) in ways.iter().zip(places) {
                    text class="label" x=(px(x)) y=(px(y + 4.0 - LABEL_ROW / 2.0 * (rows(way) - 1.0))) {
                        @for (row, (label, _)) in way.labels.iter().enumerate() {
                            tspan x=(px(x)) dy=[(row > 0).then_some(LABEL_ROW)] { (shorten(&spoken(label), LABEL)) " " }
                        }
                    }
                }
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn rows(way: &Way<'_>) -> f64 {
    way.labels.len() as f64
}

fn draft_box(known: &Drawn<'_>, (x, y): Point, marks: &BTreeMap<String, Marks>) -> Markup {
    let Drawn::Step(node) = known else {
        return no_step(known, (x, y));
    };
    let found = marks.get(&node.id).copied().unwrap_or_default();
    let lines = two_lines(&node.title);
    html! {
        g class={ @if found.errors > 0 { "wrong" } @else if node.kind == "exit" { "ending" } } {
            rect class="box" x=(px(x)) y=(px(y)) width=(BOX_WIDTH) height=(BOX_HEIGHT) rx="6" {}
            text class="kind" x=(px(x + 12.0)) y=(px(y + 18.0)) { (node.kind) " " }
            @for (text, drop) in lines.iter().zip([37.0, 54.0]) { text class="title" x=(px(x + 12.0)) y=(px(y + drop)) { (text) " " } }
            @if found.errors > 0 { text class="left" x=(px(x + BOX_WIDTH - 10.0)) y=(px(y + 18.0)) text-anchor="end" { "✕ " (count_of(found.errors, "error")) } }
            @else if found.warnings > 0 { text class="left warns" x=(px(x + BOX_WIDTH - 10.0)) y=(px(y + 18.0)) text-anchor="end" { "◆ " (count_of(found.warnings, "warning")) } }
        }
    }
}

fn px(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn width(count: u64, most: u64) -> f64 {
    if count == 0 || most == 0 {
        1.25
    } else {
        1.5 + 6.5 * (count as f64 / most as f64).sqrt()
    }
}

fn edge_line(line: &[Point], count: u64, most: u64) -> Markup {
    let width = width(count, most);
    let mut points: Vec<Point> = line.to_vec();
    let Some(end) = points.pop() else {
        return html! {};
    };
    let before = points.last().copied().unwrap_or(end);
    // The line ends where its head begins, so that a broad one does not stick out.
    let (dx, dy) = (end.0 - before.0, end.1 - before.1);
    let length = dx.hypot(dy).max(1.0);
    let (ux, uy) = (dx / length, dy / length);
    let head = 6.0 + width;
    points.push((end.0 - ux * head, end.1 - uy * head));
    let half = 3.0 + width * 0.8;
    let (bx, by) = (end.0 - ux * head, end.1 - uy * head);
    let path: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    html! {
        polyline class={ "edge" @if count == 0 { " idle" } } points=(path.join(" ")) stroke-width=(px(width)) {}
        path class="head-shape" d=(format!("M{:.1} {:.1} L{:.1} {:.1} L{:.1} {:.1} Z", end.0, end.1, bx - uy * half, by + ux * half, bx + uy * half, by - ux * half)) {}
    }
}

/// A rectangle: left, top, right, bottom.
type Area = (f64, f64, f64, f64);

fn overlap(left: Area, right: Area) -> f64 {
    let width = left.2.min(right.2) - left.0.max(right.0);
    let height = left.3.min(right.3) - left.1.max(right.1);
    width.max(0.0) * height.max(0.0)
}

/// Where the middle of each label goes: on its line, where it covers least of the boxes and of the
/// labels before it; near the middle of the first stretch where all is free.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn label_places(ways: &[Way<'_>], lines: &[Vec<Point>], boxes: &[Area], told: Told) -> Vec<Point> {
    let mut taken: Vec<Area> = boxes.to_vec();
    let mut places = Vec::new();
    for (way, line) in ways.iter().zip(lines) {
        let longest = way.labels.iter().map(|(label, count)| {
            label.chars().count().min(LABEL) + 1 + told.number(*count).chars().count()
        });
        let half_width = longest.max().unwrap_or(0) as f64 * LABEL_ADVANCE / 2.0;
        let half_height = way.labels.len() as f64 * LABEL_ROW / 2.0;
        let area = |(x, y): Point| {
            (
                x - half_width,
                y - half_height,
                x + half_width,
                y + half_height,
            )
        };
        let stretches = line.windows(2).flat_map(|ends| {
            [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74].map(|share| {
                let along = |from: f64, to: f64| from + (to - from) * share;
                (along(ends[0].0, ends[1].0), along(ends[0].1, ends[1].1))
            })
        });
        let covered = |place: &Point| {
            taken
                .iter()
                .map(|other| overlap(area(*place), *other))
                .sum::<f64>()
        };
        let mut best: Option<(f64, Point)> = None;
        for place in stretches {
            let covers = covered(&place);
            if best.is_none_or(|(least, _)| covers < least) {
                best = Some((covers, place));
            }
            if covers <= 0.0 {
                break;
            }
        }
        let place = best.map_or((0.0, 0.0), |(_, place)| place);
        taken.push(area(place));
        places.push(place);
    }
    places
}

/// The id of what is drawn, as edges name it.
fn id_of<'a>(drawn: &'a Drawn<'_>) -> &'a str {
    match drawn {
        Drawn::Step(node) => &node.id,
        Drawn::Ending(id) => id,
        Drawn::BranchEnd => "end",
    }
}

/// The label of a line, which leads to those who went there.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn way_label(
    graph: &GraphView,
    drawn: &[Drawn<'_>],
    way: &Way<'_>,
    place: Point,
    (people, told): (bool, Told),
) -> Markup {
    let text = edge_label(place, &way.labels, told);
    let numbers = Numbers {
        version: &graph.version,
        people,
    };
    let (from, to) = (id_of(&drawn[way.from]), id_of(&drawn[way.to]));
    let mut list = vec![("list", "way"), ("step", from), ("to", to)];
    if let [(label, _)] = way.labels.as_slice()
        && !label.is_empty()
    {
        list.push(("label", label));
    }
    let Some(href) = numbers.leads(way.count(), &list) else {
        return text;
    };
    let words: Vec<String> = way
        .labels
        .iter()
        .map(|(label, count)| {
            format!("{} {}", shorten(&spoken(label), LABEL), told.number(*count))
                .trim_start()
                .to_owned()
        })
        .collect();
    let width = words
        .iter()
        .map(|words| words.chars().count())
        .max()
        .unwrap_or(0) as f64
        * LABEL_ADVANCE
        + 8.0;
    let height = LABEL_TARGET.max(way.labels.len() as f64 * LABEL_ROW + 10.0);
    let whom = match told {
        Told::Counts => "",
        Told::Funnel { .. } => "of those who started ",
    };
    let about = format!(
        "{} ({whom}went from {} to {})",
        words.join(" "),
        title_of(graph, from),
        title_of(graph, to)
    );
    html! {
        a class="way" href=(href) aria-label=(about) {
            rect class="target" x=(px(place.0 - width / 2.0)) y=(px(place.1 - height / 2.0)) width=(px(width)) height=(px(height)) rx="4" {}
            (text)
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn edge_label((x, y): Point, labels: &[(&str, u64)], told: Told) -> Markup {
    let first = y + 4.0 - LABEL_ROW / 2.0 * (labels.len() as f64 - 1.0);
    html! {
        text class="label" x=(px(x)) y=(px(first)) {
            @for (row, (label, count)) in labels.iter().enumerate() {
                tspan x=(px(x)) dy=[(row > 0).then_some(LABEL_ROW)] {
                    (shorten(&spoken(label), LABEL))
                    @if !label.is_empty() { " " }
                    tspan class="count" { (told.number(*count)) } " "
                }
            }
        }
    }
}

/// What is drawn and is no step.
fn no_step(known: &Drawn<'_>, (x, y): Point) -> Markup {
    html! {
        @match known {
            Drawn::Step(_) => {},
            Drawn::Ending(words) => g class="ending" {
                rect class="box" x=(px(x)) y=(px(y)) width=(BOX_WIDTH) height=(BOX_HEIGHT) rx="6" {}
                text class="title" x=(px(x + BOX_WIDTH / 2.0)) y=(px(y + BOX_HEIGHT / 2.0 + 5.0)) text-anchor="middle" { (shorten(words, LINE)) }
            },
            Drawn::BranchEnd => circle class="branch-end" cx=(px(x + END_SIDE / 2.0)) cy=(px(y + END_SIDE / 2.0)) r="7" { title { "This part ends here" } },
        }
    }
}

/// What stands at a step: beside its top, at its foot, in its corner, and the same in words.
struct Beside {
    badge: Option<String>,
    foot: Option<String>,
    corner: Option<String>,
    about: String,
}

impl Beside {
    fn of(node: &NodeView, told: Told) -> Self {
        let number = |count: u64| told.number(count);
        match told {
            Told::Counts => Self {
                badge: (node.here > 0).then(|| number(node.here)),
                foot: (node.ended_here > 0).then(|| format!("−{}", number(node.ended_here))),
                corner: None,
                about: format!(
                    "({} here now, {} left the journey here)",
                    node.here, node.ended_here
                ),
            },
            Told::Funnel { .. } => {
                let half = half_stay(node);
                let came = (node.kind != "entry").then(|| number(node.entered));
                let mut about = Vec::new();
                if let Some(came) = &came {
                    about.push(format!("{came} of those who started came here"));
                    about.push(format!("{} left the journey here", number(node.ended_here)));
                }
                if let Some(half) = &half {
                    about.push(format!("half stay less than {half}"));
                }
                Self {
                    badge: came,
                    foot: (node.ended_here > 0).then(|| format!("−{}", number(node.ended_here))),
                    corner: half.map(|half| format!("½ {}", shorten(&half, 15))),
                    about: match about.as_slice() {
                        [] => String::new(),
                        about => format!("({})", about.join(", ")),
                    },
                }
            }
        }
    }
}

/// How long half of those stay at most who went on from a step, where so many went on that it tells of nobody alone.
pub(crate) fn half_stay(node: &NodeView) -> Option<String> {
    node.dwell_median_ms
        .filter(|_| node.left >= FEW_CASES)
        .map(stayed)
}

fn step_box(
    graph: &GraphView,
    known: &Drawn<'_>,
    (x, y): Point,
    chosen: Option<&str>,
    told: Told,
) -> Markup {
    let Drawn::Step(node) = known else {
        return no_step(known, (x, y));
    };
    let lines = two_lines(&node.title);
    let beside = Beside::of(node, told);
    let badge = beside.badge.as_deref();
    #[allow(clippy::cast_precision_loss, reason = "pixels")]
    let badge_width = 18.0 + 8.0 * badge.map_or(0, |badge| badge.chars().count()) as f64;
    let class = format!(
        "{}{}{}",
        if node.here > 0 && told == Told::Counts {
            "here"
        } else {
            ""
        },
        if chosen == Some(node.id.as_str()) {
            " chosen"
        } else {
            ""
        },
        if node.kind == "exit" { " ending" } else { "" }
    );
    // The name begins with what can be seen, so that people who speak to their computer can say it.
    let mut about = format!("{} {}", node.kind, node.title);
    let seen = [badge, beside.corner.as_deref(), beside.foot.as_deref()];
    for part in seen.into_iter().chain([Some(beside.about.as_str())]) {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            about += " ";
            about += part;
        }
    }
    html! {
        a href=(told.href(graph, &node.id)) aria-label=(about) {
            g class=(class.trim()) {
                rect class="box" x=(px(x)) y=(px(y)) width=(BOX_WIDTH) height=(BOX_HEIGHT) rx="6" {}
                text class="kind" x=(px(x + 12.0)) y=(px(y + 18.0)) { (node.kind) " " }
                @for (text, drop) in lines.iter().zip([37.0, 54.0]) { text class="title" x=(px(x + 12.0)) y=(px(y + drop)) { (text) " " } }
                g aria-hidden="true" {
                    @if let Some(badge) = badge {
                        rect class="badge" x=(px(x + BOX_WIDTH - badge_width + 8.0)) y=(px(y - 10.0)) width=(px(badge_width)) height="22" rx="11" {}
                        text class="badge-text" x=(px(x + BOX_WIDTH - badge_width / 2.0 + 8.0)) y=(px(y + 5.5)) { (badge) }
                    }
                    @if let Some(corner) = &beside.corner { text class="stay" x=(px(x + BOX_WIDTH - 10.0)) y=(px(y + 22.0)) text-anchor="end" { (corner) } }
                    @if let Some(foot) = &beside.foot { text class="left" x=(px(x + BOX_WIDTH - 10.0)) y=(px(y + BOX_HEIGHT - 8.0)) text-anchor="end" { (foot) } }
                }
            }
        }
    }
}

/// A bar: what it stands for, how many, and the list of those.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) href: Option<String>,
}

/// Horizontal bars from zero, each with its number, as a table that draws itself: who doesn't see the
/// bars hears names and numbers.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
pub(crate) fn bars(rows: &[Bar], what: &str, how_many: &str) -> Markup {
    let most = rows.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    html! {
        table class="bars" {
            thead class="visually-hidden" { tr { th scope="col" { (what) } th scope="col" { (how_many) } th scope="col" { "Bar" } } }
            tbody {
                @for bar in rows {
                    tr {
                        th scope="row" class="nowrap" { (bar.name) }
                        td class="number" { @match &bar.href { Some(href) => a href=(href) { (thousands(bar.count)) }, None => (thousands(bar.count)) } }
                        td width="60%" { svg width="100%" height="14" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true" { rect class="barfill" x="0" y="1" height="12" width=(px(bar.count as f64 / most as f64 * 100.0)) {} } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use journey::{EdgeView, VersionView};

    pub(crate) fn graph() -> GraphView {
        let node = |id: &str, kind: &str, here| NodeView {
            id: id.into(),
            kind: kind.into(),
            title: format!("Step {id} <b>"),
            here,
            entered: 9,
            ended_here: 1,
            left: 8,
            stays: vec![0; journey::Stay::COUNT],
            dwell_median_ms: Some(1),
            words: None,
            passes: !matches!(kind, "entry" | "end"),
        };
        let edge = |from: &str, to: &str, count| EdgeView {
            from: from.into(),
            to: to.into(),
            label: "after 24 h".into(),
            count,
        };
        GraphView {
            version: VersionView {
                stage: journey::VersionStage::Live,
                share: 100,
                sites: Vec::new(),
                findings: Vec::new(),
                name: "j".into(),
                title: "J".into(),
                version: 1,
                published_ms: 0,
                published_by: "sam".into(),
                running: 3,
                ended: 1,
                live: true,
            },
            started: 4,
            moved_in: 0,
            moved_out: 0,
            nodes: vec![
                node("a", "send", 3),
                node("b", "ask", 0),
                node("end", "end", 0),
            ],
            edges: vec![
                edge("a", "b", 9),
                edge("b", "gone", 0),
                edge("b", "end", 0),
                edge("a", "b", 2),
            ],
            endings: vec![("Completed".into(), 1)],
            source: String::new(),
        }
    }

    #[test]
    fn titles_break_into_two_lines() {
        assert_eq!(two_lines("Welcome"), ["Welcome"]);
        assert_eq!(
            two_lines("Ask them how it goes on the second day"),
            ["Ask them how it goes", "on the second day"]
        );
        assert_eq!(
            two_lines("one two three four five six seven eight nine ten eleven twelve thirteen")
                .len(),
            2
        );
        // By how wide the letters are, not by how many.
        assert_eq!(
            two_lines("A warm welcome message"),
            ["A warm welcome", "message"]
        );
        assert_eq!(
            two_lines("Month after discharge"),
            ["Month after discharge"]
        );
        for title in [
            "x".repeat(90),
            "W".repeat(30),
            "Donaudampfschifffahrtsgesellschaft und Weiteres".to_owned(),
            "mmm www mmm www mmm www mmm www mmm www mmm".to_owned(),
        ] {
            let lines = two_lines(&title);
            let widest = lines
                .iter()
                .map(|line| title_width(line))
                .fold(0.0, f64::max);
            assert!(widest <= LINE_WIDTH, "{lines:?} {widest}");
        }
    }

    #[test]
    fn the_graph_is_safe_svg_with_links_and_an_ending() {
        let drawn = draw(&graph(), Some("a"), false, Told::Counts).into_string();
        assert!(drawn.contains("href=\"/console/journeys/j?version=1&amp;step=a#step\""));
        assert!(
            drawn.contains(">gone<")
                && drawn.contains("branch-end")
                && drawn.contains("chosen")
                && drawn.contains("edge idle")
        );
        assert!(!drawn.contains("style=") && !drawn.contains("<b>"));
        assert!(!drawn.contains("/people"));
    }

    #[test]
    fn a_draft_is_drawn_without_counts_and_with_what_is_wrong() {
        let of = |errors, warnings| Marks { errors, warnings };
        let marks = [("a".to_owned(), of(2, 1)), ("b".to_owned(), of(0, 1))];
        let drawn = draft(&graph(), &BTreeMap::from(marks)).into_string();
        assert!(drawn.contains("✕ 2 errors") && drawn.contains("◆ 1 warning"));
        assert!(drawn.contains("&lt;b&gt;") && !drawn.contains("<b>"));
        assert!(drawn.contains("after 24 h"));
        assert!(
            !drawn.contains("href=")
                && !drawn.contains("here now")
                && !drawn.contains("class=\"count\"")
        );
    }

    #[test]
    fn counts_on_lines_lead_to_those_who_went_there() {
        let drawn = draw(&graph(), None, true, Told::Counts).into_string();
        // Two edges between the same two steps are one line, which leads to both.
        assert!(
            drawn.contains(
                "/console/journeys/j/people?version=1&amp;list=way&amp;step=a&amp;to=b\""
            )
        );
        assert!(drawn.contains("aria-label=\"after 24 h 9 after 24 h 2 (went from"));
        assert!(!drawn.contains("&amp;to=gone"), "nobody went there");
    }

    #[test]
    fn the_funnel_tells_parts_of_those_who_started_and_of_few_no_stay() {
        let mut graph = graph();
        graph.nodes[0].entered = 20;
        graph.nodes[0].left = 11;
        graph.nodes[0].dwell_median_ms = Some(2 * 86_400_000);
        let drawn = draw(&graph, None, true, Told::Funnel { started: 20 }).into_string();
        assert!(
            drawn
                .contains("href=\"/console/journeys/j?version=1&amp;step=a&amp;show=funnel#step\"")
        );
        // What stands in the corner is in the name, where it stands between the others.
        assert!(drawn.contains("aria-label=\"send Step a &lt;b&gt; 100 % ½ "));
        assert!(drawn.contains(
            " −5 % (100 % of those who started came here, 5 % left the journey here, half stay less than"
        ));
        // Nine came to the second, and eight went on: too few for a time.
        assert!(drawn.contains("ask Step b &lt;b&gt; 45 % −5 % (45 % of those who started came here, 5 % left the journey here)\""));
        assert!(drawn.contains("after 24 h 45 % after 24 h 10 % (of those who started went from"));
        assert!(!drawn.contains("here now"));
    }

    #[test]
    fn labels_keep_clear_of_each_other() {
        let way = || Way {
            from: 0,
            to: 1,
            labels: vec![("answered", 12)],
        };
        // Two lines that leave the same place side by side.
        let lines = [
            vec![(0.0, 0.0), (-20.0, 80.0)],
            vec![(4.0, 0.0), (30.0, 80.0)],
        ];
        let places = label_places(&[way(), way()], &lines, &[], Told::Counts);
        assert!((places[0].1 - places[1].1).abs() >= LABEL_ROW);
    }

    #[test]
    fn flow_makes_lines_broader() {
        assert!(width(0, 10) < width(1, 10) && width(1, 10) < width(10, 10));
    }
}

//! Precision and recall at every threshold, and a picture of them.

use std::fmt::Write;

/// A scored pair: its score (any scale, more is likelier) and whether it is of one person.
pub type Scored = (f64, bool);

/// Precision and recall at a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Pairs of at least this score are taken as of one person.
    pub threshold: f64,
    /// Share of those taken that are.
    pub precision: f64,
    /// Share of those that are that were taken.
    pub recall: f64,
    /// Pairs that were taken wrongly.
    pub wrong: usize,
    /// Pairs that were missed.
    pub missed: usize,
}

impl Point {
    /// Harmonic mean of precision and recall.
    #[must_use]
    pub fn f1(&self) -> f64 {
        if self.precision + self.recall == 0.0 {
            return 0.0;
        }
        2.0 * self.precision * self.recall / (self.precision + self.recall)
    }
}

fn point(threshold: f64, right: usize, taken: usize, all: usize) -> Point {
    Point {
        threshold,
        precision: if taken == 0 {
            1.0
        } else {
            right as f64 / taken as f64
        },
        recall: right as f64 / all.max(1) as f64,
        wrong: taken - right,
        missed: all - right,
    }
}

/// At one threshold. `all` is how many pairs are of one person, those that were never scored included.
#[must_use]
pub fn at(scored: &[Scored], all: usize, threshold: f64) -> Point {
    let taken = scored.iter().filter(|(score, _)| *score >= threshold);
    let (taken, right) = taken.fold((0, 0), |(taken, right), (_, is_same)| {
        (taken + 1, right + usize::from(*is_same))
    });
    point(threshold, right, taken, all)
}

/// At each score that a pair has, the highest first.
#[must_use]
pub fn curve(scored: &[Scored], all: usize) -> Vec<Point> {
    let mut scored = scored.to_vec();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (mut taken, mut right) = (0, 0);
    let mut points = Vec::new();
    for equal in scored.chunk_by(|one, other| one.0 == other.0) {
        taken += equal.len();
        right += equal.iter().filter(|(_, is_same)| *is_same).count();
        points.push(point(equal[0].0, right, taken, all));
    }
    points
}

/// The point with the highest F1.
#[must_use]
pub fn best(points: &[Point]) -> Option<Point> {
    points
        .iter()
        .copied()
        .max_by(|one, other| one.f1().total_cmp(&other.f1()))
}

/// A line of a picture.
pub struct Line {
    /// Whose it is.
    pub name: String,
    /// Its points.
    pub points: Vec<Point>,
    /// The point that is marked.
    pub marked: Point,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 46.0;
/// Of Okabe and Ito's palette, which people who see colours differently tell apart.
const COLOURS: [&str; 2] = ["#0072b2", "#d55e00"];

/// Pictures beside each other: recall to the right, precision upwards, each from `from` to 1. Lines of
/// a picture differ in dashes as well as in colour.
#[must_use]
pub fn svg(title: &str, pictures: &[(String, f64, Vec<Line>)]) -> String {
    let columns = 2;
    let (cell_width, cell_height) = (LEFT + WIDTH + 24.0, TOP + HEIGHT + 58.0);
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (
        cell_width * columns as f64,
        cell_height * rows as f64 + 30.0,
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (at, (name, from, lines)) in pictures.iter().enumerate() {
        let (x, y) = (
            cell_width * (at % columns) as f64 + LEFT,
            cell_height * (at / columns) as f64 + TOP,
        );
        draw(&mut out, (x, y), name, *from, lines);
    }
    let y = height - 10.0;
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{y}\">Precision upwards, recall to the right, over all thresholds. Marked: the threshold that is used.</text>\n</svg>"
    );
    out
}

fn draw(out: &mut String, (x, y): (f64, f64), name: &str, from: f64, lines: &[Line]) {
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{:.1}\" font-size=\"14\" font-weight=\"bold\">{name}</text>\n\
         <rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#888\"/>",
        y - 28.0
    );
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let value = from + (1.0 - from) * share;
        let (across, up) = (x + WIDTH * share, y + HEIGHT * (1.0 - share));
        let _ = writeln!(
            out,
            "<path d=\"M{x} {up:.1}h{WIDTH}M{across:.1} {y}v{HEIGHT}\" stroke=\"#ddd\" fill=\"none\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.4}</text>\n\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.4}</text>",
            x - 5.0,
            up + 4.0,
            y + HEIGHT + 16.0
        );
    }
    let place = |point: &Point| {
        let share = |value: f64| ((value - from) / (1.0 - from)).clamp(0.0, 1.0);
        (
            x + WIDTH * share(point.recall),
            y + HEIGHT * (1.0 - share(point.precision)),
        )
    };
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let dashes = if at == 0 { "none" } else { "6 4" };
        let mut path = String::new();
        let mut last = (f64::NAN, f64::NAN);
        for point in line
            .points
            .iter()
            .filter(|point| point.recall >= from && point.precision >= from)
        {
            let next = place(point);
            // Points closer than half a pixel are one.
            if (next.0 - last.0).abs() < 0.5 && (next.1 - last.1).abs() < 0.5 {
                continue;
            }
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", next.0, next.1);
            last = next;
        }
        let (marked_x, marked_y) = place(&line.marked);
        let left = x + WIDTH * 0.5 * at as f64;
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
             <circle cx=\"{marked_x:.1}\" cy=\"{marked_y:.1}\" r=\"4.5\" fill=\"{colour}\"/>\n\
             <path d=\"M{left:.1} {:.1}h24\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}: F1 {:.4}</text>",
            y - 12.0,
            left + 28.0,
            y - 8.0,
            line.name,
            line.marked.f1()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_count_what_was_missed_and_what_was_wrong() {
        let scored = [
            (3.0, true),
            (2.0, true),
            (2.0, false),
            (1.0, true),
            (0.0, false),
        ];
        let point = at(&scored, 4, 2.0);
        assert_eq!((point.wrong, point.missed), (1, 2));
        assert!((point.precision - 2.0 / 3.0).abs() < 1e-12 && (point.recall - 0.5).abs() < 1e-12);
        let points = curve(&scored, 4);
        assert_eq!(points.len(), 4);
        assert_eq!(points[1], point);
        assert_eq!(best(&points).map(|best| best.threshold), Some(1.0));
        assert_eq!(at(&[], 4, 0.0).f1(), 0.0);
    }
}

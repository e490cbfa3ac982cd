//! Where the boxes and lines of a journey's graph go: layers from top to bottom, few crossings,
//! straight lines. Pure; `journeys.rs` draws.
//!
//! The usual four steps (Sugiyama): turn backward edges round, put nodes into layers by the longest
//! way from a start, order each layer by the middle of its neighbours, and move boxes under what
//! they hang on. Long edges pass through every layer between by a bend of their own.

/// Width of a box.
pub(crate) const BOX_WIDTH: f64 = 184.0;
/// Height of a box.
pub(crate) const BOX_HEIGHT: f64 = 68.0;
const GAP_X: f64 = 28.0;
const GAP_Y: f64 = 80.0;
const MARGIN: f64 = 32.0;
/// Space that a bend of a long edge keeps around it.
const BEND_WIDTH: f64 = 28.0;
/// How much a neighbour pulls a slot towards itself: long edges pull hardest along themselves, so that
/// they run straight.
const PULL_ALONG: f64 = 8.0;
const PULL_END: f64 = 2.0;
/// What keeps a slot without neighbours where it is.
const PULL_ALONE: f64 = 0.01;
/// A bend that lies this close to the straight line is none.
const STRAIGHT: f64 = 8.0;
/// Sweeps of ordering; journeys have tens of steps, so this costs less than a millisecond.
const SWEEPS: usize = 60;

/// A point.
pub(crate) type Point = (f64, f64);

/// Where everything goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Upper left corner of each box, in the order given.
    pub(crate) boxes: Vec<Point>,
    /// Corners of each edge from its start to its end, in the order given.
    pub(crate) lines: Vec<Vec<Point>>,
}

/// A place in a layer: a box, or the bend of a long edge.
#[derive(Debug, Clone, Copy)]
struct Slot {
    layer: usize,
    width: f64,
    height: f64,
}

struct Draft {
    /// How many of the slots are boxes; the rest are bends.
    boxes: usize,
    slots: Vec<Slot>,
    /// Slots by layer, in order.
    layers: Vec<Vec<usize>>,
    /// Short edges between neighbouring layers.
    up: Vec<Vec<usize>>,
    down: Vec<Vec<usize>>,
    x: Vec<f64>,
}

/// Edges that go back to a node from which they were reached.
fn backward(count: usize, edges: &[(usize, usize)]) -> Vec<bool> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut entered = vec![false; count];
    for (place, (from, to)) in edges.iter().enumerate() {
        out[*from].push(place);
        entered[*to] |= from != to;
    }
    let mut back = vec![false; edges.len()];
    // 0 not seen, 1 on the way, 2 done.
    let mut mark = vec![0u8; count];
    let starts = (0..count).filter(|node| !entered[*node]).chain(0..count);
    for start in starts {
        if mark[start] != 0 {
            continue;
        }
        mark[start] = 1;
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            let Some(edge) = out[node].get(next) else {
                mark[node] = 2;
                continue;
            };
            stack.push((node, next + 1));
            let to = edges[*edge].1;
            match mark[to] {
                0 => {
                    mark[to] = 1;
                    stack.push((to, 0));
                }
                1 => back[*edge] = true,
                _ => {}
            }
        }
    }
    back
}

/// The layer of each node: the longest way to it.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; count];
    // Without cycles this settles after at most `count` rounds.
    for _ in 0..count {
        let mut moved = false;
        for (from, to) in edges {
            if layer[*to] < layer[*from] + 1 {
                layer[*to] = layer[*from] + 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    layer
}

impl Draft {
    fn crossings(&self) -> usize {
        let mut position = vec![0; self.slots.len()];
        for layer in &self.layers {
            for (place, slot) in layer.iter().enumerate() {
                position[*slot] = place;
            }
        }
        let mut crossings = 0;
        for layer in &self.layers {
            let short: Vec<(usize, usize)> = layer
                .iter()
                .flat_map(|slot| {
                    self.down[*slot]
                        .iter()
                        .map(|to| (position[*slot], position[*to]))
                })
                .collect();
            for (place, left) in short.iter().enumerate() {
                crossings += short[place + 1..]
                    .iter()
                    .filter(|right| {
                        (left.0 < right.0 && left.1 > right.1)
                            || (left.0 > right.0 && left.1 < right.1)
                    })
                    .count();
            }
        }
        crossings
    }

    /// Orders layers by the middle of their neighbours, down and up in turn; keeps the best.
    #[allow(clippy::cast_precision_loss, reason = "places in a layer")]
    fn order(&mut self) {
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..SWEEPS {
            let downwards = sweep % 2 == 0;
            let count = self.layers.len();
            let mut position = vec![0usize; self.slots.len()];
            for layer in &self.layers {
                for (place, slot) in layer.iter().enumerate() {
                    position[*slot] = place;
                }
            }
            for step in 1..count {
                let layer = if downwards { step } else { count - 1 - step };
                let near = if downwards { &self.up } else { &self.down };
                let mut keyed: Vec<(f64, usize, usize)> = self.layers[layer]
                    .iter()
                    .enumerate()
                    .map(|(place, slot)| {
                        let neighbours = &near[*slot];
                        let middle = if neighbours.is_empty() {
                            place as f64
                        } else {
                            neighbours
                                .iter()
                                .map(|other| position[*other] as f64)
                                .sum::<f64>()
                                / neighbours.len() as f64
                        };
                        (middle, place, *slot)
                    })
                    .collect();
                keyed.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
                self.layers[layer] = keyed.into_iter().map(|(_, _, slot)| slot).collect();
                for (place, slot) in self.layers[layer].iter().enumerate() {
                    position[*slot] = place;
                }
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    fn pull(&self, left: usize, right: usize) -> f64 {
        match (left < self.boxes, right < self.boxes) {
            (true, true) => 1.0,
            (false, false) => PULL_ALONG,
            _ => PULL_END,
        }
    }

    fn apart(&self, left: usize, right: usize) -> f64 {
        (self.slots[left].width + self.slots[right].width) / 2.0 + GAP_X
    }

    /// Moves the slots of a layer to where they are pulled (place and force), in order and apart, so
    /// that the pulls are met best in the sense of least squares: neighbours that would come too
    /// close move as one block, to where the block is pulled (pool adjacent violators).
    fn settle(&mut self, layer: usize, pulled: &[(f64, f64)]) {
        let order = &self.layers[layer];
        let mut offsets = vec![0.0; order.len()];
        for place in 1..order.len() {
            offsets[place] = offsets[place - 1] + self.apart(order[place - 1], order[place]);
        }
        // Blocks: sum of place times force, sum of forces, how many slots.
        let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
        for ((place, force), offset) in pulled.iter().zip(&offsets) {
            let mut block = ((place - offset) * force, *force, 1);
            while let Some(last) = blocks.last().copied()
                && last.0 / last.1 > block.0 / block.1
            {
                block = (last.0 + block.0, last.1 + block.1, last.2 + block.2);
                blocks.pop();
            }
            blocks.push(block);
        }
        let places = blocks
            .iter()
            .flat_map(|(sum, force, count)| std::iter::repeat_n(sum / force, *count));
        for ((slot, place), offset) in order.iter().zip(places).zip(&offsets) {
            self.x[*slot] = place + offset;
        }
    }

    /// Packs each layer, then lets neighbours pull, layer by layer, down and up. Each step makes the
    /// sum of squared pulls smaller, so it settles.
    fn place(&mut self) {
        for layer in 0..self.layers.len() {
            let wanted = vec![(0.0, 1.0); self.layers[layer].len()];
            self.settle(layer, &wanted);
        }
        let count = self.layers.len();
        for sweep in 0..SWEEPS {
            for step in 0..count {
                let layer = if sweep % 2 == 0 {
                    step
                } else {
                    count - 1 - step
                };
                let pulled: Vec<(f64, f64)> = self.layers[layer]
                    .iter()
                    .map(|slot| {
                        let near = self.up[*slot].iter().chain(&self.down[*slot]);
                        let (sum, force) = near.fold((0.0, 0.0), |(sum, force), other| {
                            let pull = self.pull(*slot, *other);
                            (sum + pull * self.x[*other], force + pull)
                        });
                        if force > 0.0 {
                            (sum / force, force)
                        } else {
                            (self.x[*slot], PULL_ALONE)
                        }
                    })
                    .collect();
                self.settle(layer, &pulled);
            }
        }
    }
}

/// Lays out nodes of these sizes (width, height) with these edges (from, to).
#[allow(clippy::cast_precision_loss, reason = "pixels")]
pub(crate) fn layout(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Layout {
    let count = sizes.len();
    if count == 0 {
        return Layout::default();
    }
    let back = backward(count, edges);
    let turned: Vec<(usize, usize)> = edges
        .iter()
        .zip(&back)
        .map(|((from, to), back)| if *back { (*to, *from) } else { (*from, *to) })
        .collect();
    let proper: Vec<(usize, usize)> = turned
        .iter()
        .copied()
        .filter(|(from, to)| from != to)
        .collect();
    let layer = layers(count, &proper);
    let depth = layer.iter().max().map_or(0, |deepest| deepest + 1);
    let mut draft = Draft {
        boxes: count,
        slots: layer
            .iter()
            .zip(sizes)
            .map(|(layer, (width, height))| Slot {
                layer: *layer,
                width: *width,
                height: *height,
            })
            .collect(),
        layers: vec![Vec::new(); depth],
        up: vec![Vec::new(); count],
        down: vec![Vec::new(); count],
        x: Vec::new(),
    };
    // The chain of slots of each edge, from top to bottom.
    let chains: Vec<Vec<usize>> = turned
        .iter()
        .map(|(from, to)| {
            let mut chain = vec![*from];
            for layer in layer[*from] + 1..layer[*to].max(layer[*from] + 1) {
                draft.slots.push(Slot {
                    layer,
                    width: BEND_WIDTH,
                    height: BOX_HEIGHT,
                });
                draft.up.push(Vec::new());
                draft.down.push(Vec::new());
                chain.push(draft.slots.len() - 1);
            }
            if from != to {
                chain.push(*to);
            }
            for pair in chain.windows(2) {
                draft.down[pair[0]].push(pair[1]);
                draft.up[pair[1]].push(pair[0]);
            }
            chain
        })
        .collect();
    for (slot, place) in draft.slots.iter().enumerate() {
        draft.layers[place.layer].push(slot);
    }
    draft.x = vec![0.0; draft.slots.len()];
    draft.order();
    draft.place();

    let left = draft
        .slots
        .iter()
        .zip(&draft.x)
        .map(|(slot, x)| x - slot.width / 2.0)
        .fold(f64::MAX, f64::min);
    let right = draft
        .slots
        .iter()
        .zip(&draft.x)
        .map(|(slot, x)| x + slot.width / 2.0)
        .fold(f64::MIN, f64::max);
    for x in &mut draft.x {
        *x += MARGIN - left;
    }
    let top = |slot: usize| MARGIN + draft.slots[slot].layer as f64 * (BOX_HEIGHT + GAP_Y);
    let bottom = (0..count)
        .map(|node| top(node) + sizes[node].1)
        .fold(0.0, f64::max);
    let lines = lines(&draft, &chains, &back, &top);
    Layout {
        width: right - left + 2.0 * MARGIN,
        height: MARGIN + bottom,
        boxes: (0..count)
            .map(|node| (draft.x[node] - sizes[node].0 / 2.0, top(node)))
            .collect(),
        lines,
    }
}

/// The lines: out of the bottom of a box and into the top of the next, side by side where several
/// meet, through the bends between.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
fn lines(
    draft: &Draft,
    chains: &[Vec<usize>],
    back: &[bool],
    top: &dyn Fn(usize) -> f64,
) -> Vec<Vec<Point>> {
    // Where each edge leaves and meets a box: in the order of where it comes from and goes to.
    let port = |node: usize, at_bottom: bool, edge: usize| {
        let mut here: Vec<(f64, usize)> = chains
            .iter()
            .enumerate()
            .filter(|(_, chain)| chain.len() > 1)
            .filter_map(|(other, chain)| {
                if at_bottom {
                    (chain[0] == node).then(|| (draft.x[chain[1]], other))
                } else {
                    (chain[chain.len() - 1] == node)
                        .then(|| (draft.x[chain[chain.len() - 2]], other))
                }
            })
            .collect();
        here.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        let place = here
            .iter()
            .position(|(_, other)| *other == edge)
            .unwrap_or(0);
        let spread = (draft.slots[node].width * 0.6).min(36.0 * (here.len() as f64 - 1.0));
        let step = if here.len() > 1 {
            spread / (here.len() as f64 - 1.0)
        } else {
            0.0
        };
        draft.x[node] - spread / 2.0 + place as f64 * step
    };
    chains
        .iter()
        .enumerate()
        .map(|(edge, chain)| {
            if chain.len() == 1 {
                // A step that leads to itself: a small loop at its right side.
                let (x, y) = (
                    draft.x[chain[0]] + draft.slots[chain[0]].width / 2.0,
                    top(chain[0]),
                );
                return vec![
                    (x, y + 18.0),
                    (x + 20.0, y + 18.0),
                    (x + 20.0, y + BOX_HEIGHT - 18.0),
                    (x, y + BOX_HEIGHT - 18.0),
                ];
            }
            let mut line = Vec::new();
            for (place, slot) in chain.iter().enumerate() {
                let y = top(*slot);
                if place == 0 {
                    line.push((port(*slot, true, edge), y + draft.slots[*slot].height));
                } else if place + 1 == chain.len() {
                    line.push((port(*slot, false, edge), y));
                } else {
                    debug_assert!(*slot >= draft.boxes, "only bends lie between");
                    line.extend(bend(draft, chain, place, y));
                }
            }
            let mut line = straighten(&line);
            if back[edge] {
                line.reverse();
            }
            line
        })
        .collect()
}

/// How a long edge passes a layer: straight on where that stays clear of the boxes beside it, else
/// upright.
fn bend(draft: &Draft, chain: &[usize], place: usize, y: f64) -> Vec<Point> {
    let x = draft.x[chain[place]];
    let lean = (draft.x[chain[place + 1]] - draft.x[chain[place - 1]]).abs() / 2.0;
    // What the line moves sideways between the middle of the layer and its edge.
    let sideways = lean * BOX_HEIGHT / 2.0 / (BOX_HEIGHT + GAP_Y);
    if sideways < GAP_X {
        vec![(x, y + BOX_HEIGHT / 2.0)]
    } else {
        vec![(x, y), (x, y + BOX_HEIGHT)]
    }
}

/// Leaves out bends that hardly bend (Douglas and Peucker).
fn straighten(line: &[Point]) -> Vec<Point> {
    let (Some(first), Some(last)) = (line.first(), line.last()) else {
        return Vec::new();
    };
    let (dx, dy) = (last.0 - first.0, last.1 - first.1);
    let length = dx.hypot(dy).max(1.0);
    let off = |point: &Point| ((point.0 - first.0) * dy - (point.1 - first.1) * dx).abs() / length;
    let inner = line.len().saturating_sub(1).max(1);
    let farthest =
        (1..inner).max_by(|left, right| off(&line[*left]).total_cmp(&off(&line[*right])));
    match farthest {
        Some(place) if off(&line[place]) > STRAIGHT => {
            let mut out = straighten(&line[..=place]);
            out.pop();
            out.extend(straighten(&line[place..]));
            out
        }
        _ => vec![*first, *last],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(count: usize, edges: &[(usize, usize)]) -> Layout {
        super::layout(&vec![(BOX_WIDTH, BOX_HEIGHT); count], edges)
    }

    fn overlap(layout: &Layout) -> bool {
        layout.boxes.iter().enumerate().any(|(place, a)| {
            layout.boxes[place + 1..]
                .iter()
                .any(|b| (a.0 - b.0).abs() < BOX_WIDTH && (a.1 - b.1).abs() < BOX_HEIGHT)
        })
    }

    #[test]
    fn a_chain_is_a_straight_column() {
        let layout = self::layout(3, &[(0, 1), (1, 2)]);
        assert!((layout.boxes[0].0 - layout.boxes[2].0).abs() < 0.5);
        assert!(layout.boxes[0].1 < layout.boxes[1].1 && layout.boxes[1].1 < layout.boxes[2].1);
        for line in &layout.lines {
            assert_eq!(line.len(), 2);
            assert!((line[0].0 - line[1].0).abs() < 0.5, "straight down");
        }
    }

    #[test]
    fn branches_lie_side_by_side_and_join_below() {
        let layout = self::layout(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert!((layout.boxes[1].1 - layout.boxes[2].1).abs() < 0.5);
        assert!(layout.boxes[3].1 > layout.boxes[1].1);
        assert!(!overlap(&layout));
    }

    #[test]
    fn a_way_back_points_up_and_a_loop_stays_small() {
        let layout = self::layout(3, &[(0, 1), (1, 2), (2, 1), (1, 1)]);
        let back = &layout.lines[2];
        assert!(
            back[0].1 > back[back.len() - 1].1,
            "it starts below where it ends"
        );
        assert_eq!(layout.lines[3].len(), 4);
    }

    #[test]
    fn long_edges_bend_round_boxes() {
        let layout = self::layout(4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        let long = &layout.lines[3];
        assert!(long.len() > 2, "it can't go straight through");
        for (x, y) in &long[1..long.len() - 1] {
            for (left, top) in &layout.boxes {
                let inside =
                    *x > *left && *x < left + BOX_WIDTH && *y > *top && *y < top + BOX_HEIGHT;
                assert!(!inside, "a bend lies in a box");
            }
        }
    }

    #[test]
    fn crossings_are_undone_where_they_can_be() {
        // Two parents, each with two children given in the wrong order.
        let layout = self::layout(7, &[(0, 1), (0, 2), (1, 5), (1, 6), (2, 3), (2, 4)]);
        let mut crossed = 0;
        for (place, left) in layout.lines.iter().enumerate() {
            for right in &layout.lines[place + 1..] {
                let same = (left[0].1 - right[0].1).abs() < 0.5;
                crossed +=
                    usize::from(same && (left[0].0 - right[0].0) * (left[1].0 - right[1].0) < 0.0);
            }
        }
        assert_eq!(crossed, 0);
        assert!(!overlap(&layout));
    }

    #[test]
    fn anything_is_laid_out_within_its_size() {
        let edges: Vec<(usize, usize)> = (0..40).map(|n| (n * 7 % 20, n * 11 % 20)).collect();
        let layout = self::layout(20, &edges);
        assert!(!overlap(&layout));
        for (x, y) in layout.boxes.iter().chain(layout.lines.iter().flatten()) {
            assert!(
                *x >= 0.0 && *x <= layout.width && *y >= 0.0 && *y <= layout.height,
                "{x} {y} in {} {}",
                layout.width,
                layout.height
            );
        }
        assert!(self::layout(0, &[]).boxes.is_empty());
    }
}

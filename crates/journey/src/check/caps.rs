//! Whether a journey and others that are live send one patient more than the limits let out.
//!
//! It counts ahead: the most messages that reach out to a patient within a day and within a week of the start, along
//! whichever way sends the most. Every step is counted once on a way, but for the rounds of a `repeat`; what is
//! clinical goes out beyond every limit and isn't counted; where nobody can know how long a patient stays somewhere,
//! it is no time at all.

use crate::Finding;
use crate::definition::{Definition, Path, Target};
use crate::room::{Own, Urgency, reaches_out};
use crate::time::DAY_MS;
use crate::yaml::Place;
use std::cell::RefCell;
use std::collections::HashMap;
use trust::consent::MessageRules;

/// The windows that limits are of.
const WINDOWS: [(u64, &str); 2] = [(DAY_MS, "day"), (7 * DAY_MS, "week")];

/// How many messages reach out to one patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) routine: u32,
    pub(crate) important: u32,
}

impl Load {
    fn all(self) -> u32 {
        self.routine.saturating_add(self.important)
    }
    fn and(self, other: Self) -> Self {
        Self {
            routine: self.routine.saturating_add(other.routine),
            important: self.important.saturating_add(other.important),
        }
    }
    fn times(self, times: u32) -> Self {
        Self {
            routine: self.routine.saturating_mul(times),
            important: self.important.saturating_mul(times),
        }
    }
    fn or(self, other: Self) -> Self {
        if self.all() < other.all() {
            other
        } else {
            self
        }
    }
}

/// Steps and times that are looked at of one journey. One that comes to more of them, by a short wait that is
/// waited again and again, isn't counted.
const CELLS_MAX: usize = 50_000;

/// The most messages that a journey sends one patient within so long from its start; nothing where it has too many
/// ways to be counted.
pub(crate) fn most(definition: &Definition, window_ms: u64) -> Option<Load> {
    let mut ahead = Ahead {
        definition,
        window_ms,
        known: HashMap::new(),
    };
    // What watches may fire on the first day.
    let watches = definition.steps.iter().enumerate();
    let watches = watches.filter(|(_, step)| step.kind.watches());
    let watches: Vec<usize> = watches.map(|(step, _)| step).collect();
    let late = definition.entry.late();
    let roots = definition.start.steps.iter();
    let roots = roots.chain(late.iter().flat_map(|late| &late.steps));
    let roots: Vec<usize> = roots.chain(&watches).copied().collect();
    for root in roots {
        ahead.work_out((root, 0))?;
    }
    let start = ahead.target(&definition.start, 0);
    let start = match late {
        Some(late) => start.or(ahead.target(late, 0)),
        None => start,
    };
    let watches = watches.into_iter();
    Some(watches.fold(start, |load, step| load.and(ahead.get((step, 0)))))
}

struct Ahead<'a> {
    definition: &'a Definition,
    window_ms: u64,
    /// By step and how long after the start it is come to; nothing while it is being worked out, so that a way that
    /// leads back adds nothing.
    known: HashMap<(usize, u64), Load>,
}

impl Ahead<'_> {
    /// A step at a time, with all that it rests on. It isn't worked out by calls within calls: a short wait that is
    /// waited again and again would be too many of them. Nothing where there is too much.
    fn work_out(&mut self, root: (usize, u64)) -> Option<()> {
        // What is to be looked at, and whether all that it rests on has been.
        let mut work = vec![(root, false)];
        while let Some((cell, rests)) = work.pop() {
            if rests {
                let load = self.load(cell, &|cell| self.get(cell));
                self.known.insert(cell, load);
                continue;
            }
            if cell.1 >= self.window_ms || self.known.contains_key(&cell) {
                continue;
            }
            if self.known.len() >= CELLS_MAX {
                return None;
            }
            self.known.insert(cell, Load::default());
            work.push((cell, true));
            let on = RefCell::new(Vec::new());
            self.load(cell, &|cell| {
                on.borrow_mut().push((cell, false));
                Load::default()
            });
            work.extend(on.into_inner().into_iter().rev());
        }
        Some(())
    }

    fn get(&self, cell: (usize, u64)) -> Load {
        self.known.get(&cell).copied().unwrap_or_default()
    }

    fn target(&self, target: &Target, at_ms: u64) -> Load {
        of_target(target, at_ms, &|cell| self.get(cell))
    }

    /// What goes out from a step on, by what goes out from those that follow.
    fn load(&self, (index, at_ms): (usize, u64), of: &dyn Fn((usize, u64)) -> Load) -> Load {
        let definition = self.definition;
        let step = &definition.steps[index];
        let mut own = Load::default();
        let reaches = |channel: &&crate::Channel| reaches_out(**channel);
        for (message, after_ms) in step.kind.sends() {
            // The first channel that takes it is the last, and the portal takes everything.
            let goes_out = message.channels.first().as_ref().is_some_and(reaches)
                && at_ms.saturating_add(after_ms) < self.window_ms;
            match message.urgency {
                Urgency::Routine if goes_out => own.routine += 1,
                Urgency::Important if goes_out => own.important += 1,
                _ => {}
            }
        }
        let ways = step.kind.ways();
        let next: Vec<(u64, &Target)> = ways
            .iter()
            .map(|way| (step.kind.arrives(definition, &way.label, at_ms), way.target))
            .collect();
        if let Some((branches, after)) = step.kind.branches() {
            let sides = branches.iter();
            let sides = sides.fold(own, |load, branch| load.and(of_target(branch, at_ms, of)));
            sides.and(of_target(after, at_ms, of))
        } else if let Some((body, after)) = step.kind.encloses() {
            let rounds = step
                .kind
                .rounds_within(self.window_ms.saturating_sub(at_ms));
            let bodies = body.iter();
            let bodies = bodies.fold(Load::default(), |load, body| {
                load.and(of_target(body, at_ms, of))
            });
            let after = after.into_iter().fold(Load::default(), |load, target| {
                load.or(of_target(target, at_ms, of))
            });
            own.and(bodies.times(rounds)).and(after)
        } else {
            let ways = next
                .into_iter()
                .fold(Load::default(), |load, (at_ms, target)| {
                    load.or(of_target(target, at_ms, of))
                });
            own.and(ways)
        }
    }
}

fn of_target(target: &Target, at_ms: u64, of: &dyn Fn((usize, u64)) -> Load) -> Load {
    let steps = target.steps.iter();
    steps.fold(Load::default(), |load, step| load.and(of((*step, at_ms))))
}

/// What a condition asks for by `=` alone, in a row of `and`; nothing of another form is known.
fn equals(condition: &Path) -> Vec<(&str, &str)> {
    let text = condition.text.as_str();
    if text.contains(" or ") || text.contains(" xor ") || text.contains(" implies ") {
        return Vec::new();
    }
    let parts = text.split(" and ");
    let asked = parts.filter_map(|part| {
        let (path, value) = part.split_once('=')?;
        let (path, value) = (path.trim(), value.trim());
        let is_path = !path.is_empty()
            && path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let is_text = value.len() > 1 && value.starts_with('\'') && value.ends_with('\'');
        let is_text = is_text && !value[1..value.len() - 1].contains('\'');
        (is_path && is_text).then_some((path, value))
    });
    asked.collect()
}

/// How one patient may be in two journeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    /// One resource, or coming into one segment, begins both.
    ByOne,
    /// Each begins by its own, and nothing keeps that from being at the same time.
    AtOnce,
}

/// Whether one patient can be in both journeys from their start on, as far as the file shows: not where both begin by
/// the same type and ask for different values of one element, or by segments of different ages.
fn meets(one: &Definition, other: &Definition) -> Option<Meets> {
    let segment = |of: &Definition| of.entry.segment.and_then(|at| of.segments.get(at).cloned());
    if let (Some(one), Some(other)) = (segment(one), segment(other)) {
        let ((from, to), (other_from, other_to)) = (one.ages(), other.ages());
        return if from > other_to || other_from > to {
            None
        } else if one.key == other.key {
            Some(Meets::ByOne)
        } else {
            Some(Meets::AtOnce)
        };
    }
    let (Some(event), Some(theirs)) = (&one.entry.event, &other.entry.event) else {
        return Some(Meets::AtOnce);
    };
    if event.kind != theirs.kind {
        return Some(Meets::AtOnce);
    }
    let (asked, their) = (equals(&event.condition), equals(&theirs.condition));
    let differ = asked.iter().any(|(path, value)| {
        let mut their = their.iter();
        their.any(|(other, theirs)| path == other && value != theirs)
    });
    if differ {
        return None;
    }
    let dated = one.entry.date.is_some() == other.entry.date.is_some();
    Some(if dated { Meets::ByOne } else { Meets::AtOnce })
}

fn cap(rules: &MessageRules, own: &Own, window_ms: u64) -> Option<u32> {
    let (org, own) = if window_ms == DAY_MS {
        (rules.per_day, own.per_day)
    } else {
        (rules.per_week, own.per_week)
    };
    org.into_iter().chain(own).min()
}

fn place_of(definition: &Definition) -> Place {
    let event = definition.entry.event.as_ref();
    event.map_or(Place { line: 1, column: 1 }, |event| event.condition.place)
}

/// So many other journeys are counted together at most, those that send the most first.
const TOGETHER_MAX: usize = 12;
/// So many findings are told with their numbers; of the rest, how many there are.
const TOLD_MAX: usize = 20;

/// So many journeys that begin otherwise are named in one finding.
const NAMED_MAX: usize = 5;

/// Another journey that one patient may be in as well.
struct Beside<'a> {
    definition: &'a Definition,
    meets: Meets,
    /// What it sends, by window.
    loads: [Option<Load>; 2],
}

/// What the messages of a journey and of the others that are live come to, against the organisation's limits and their
/// own.
pub(crate) fn conflicts<'a>(
    definition: &'a Definition,
    others: impl Iterator<Item = &'a Definition>,
    rules: &MessageRules,
) -> Vec<Finding> {
    let loads = |of: &Definition| WINDOWS.map(|(window_ms, _)| most(of, window_ms));
    let ours = loads(definition);
    if ours.iter().flatten().all(|load| load.all() == 0) {
        return Vec::new();
    }
    let others = others.filter(|other| other.name != definition.name);
    let besides: Vec<Beside<'a>> = others
        .filter_map(|other| {
            Some(Beside {
                definition: other,
                meets: meets(definition, other)?,
                loads: loads(other),
            })
        })
        .collect();
    let mut told = Vec::new();
    let mut paired = [false; 2];
    // Those that begin otherwise: nothing says that a patient ever is in both.
    let mut otherwise = Vec::new();
    for beside in &besides {
        let mut words = Vec::new();
        for (window, load) in ours.into_iter().enumerate() {
            if let Some(pair) = pair(definition, load, beside, window, rules) {
                paired[window] = true;
                words.extend(pair);
            }
        }
        match beside.meets {
            Meets::ByOne => told.extend(words),
            Meets::AtOnce if words.is_empty() => {}
            Meets::AtOnce => otherwise.push((beside, words)),
        }
    }
    for (window, load) in ours.into_iter().enumerate() {
        // Where two are too many, more of them are no news.
        if !paired[window] {
            told.extend(together(definition, load, &besides, window, rules));
        }
    }
    let left = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    if left > 0 {
        told.push(format!(
            "{left} more of this kind are not listed: so many journeys that are live send what is too much beside this one"
        ));
    }
    told.extend(summed(definition, otherwise));
    let place = place_of(definition);
    let found = told.into_iter().map(|message| Finding {
        code: "J072".to_owned(),
        // Limits are there to hold messages back, so that some wait may be meant.
        error: false,
        line: place.line.max(1),
        column: place.column.max(1),
        message,
    });
    found.collect()
}

/// What is told of journeys that begin otherwise: of one what the two come to, and several by their names, those that
/// send the most first.
fn summed(definition: &Definition, mut others: Vec<(&Beside<'_>, Vec<String>)>) -> Vec<String> {
    if others.len() < 2 {
        return others.pop().map_or_else(Vec::new, |(_, words)| words);
    }
    let sent = |beside: &Beside<'_>| beside.loads[1].map_or(0, Load::all);
    others.sort_by(|(one, _), (other, _)| {
        (sent(other), &one.definition.name).cmp(&(sent(one), &other.definition.name))
    });
    let named = others.iter().take(NAMED_MAX);
    let named: Vec<String> = named
        .map(|(beside, _)| format!("`{}` ({} in a week)", beside.definition.name, sent(beside)))
        .collect();
    let left = others.len().saturating_sub(NAMED_MAX);
    let more = match left {
        0 => String::new(),
        left => format!(", and {left} more"),
    };
    vec![format!(
        "{} journeys that are live begin by something else than `{}`, and a patient who comes into one of them at the same time may get more messages than are allowed: {}{more}. The rest waits. Say by `urgency` which comes first, if many patients are in both",
        others.len(),
        definition.name,
        named.join(", ")
    )]
}

/// How a patient comes to be in both, in words.
fn who(one: &Definition, other: &Definition, meets: Meets) -> String {
    let how = match meets {
        Meets::ByOne if one.entry.segment.is_some() => "by the same segment",
        Meets::ByOne => "by the same resource",
        Meets::AtOnce => "at the same time",
    };
    let (one, other) = (&one.name, &other.name);
    format!("a patient who comes into `{one}` and `{other}` {how}")
}

/// What two journeys come to in a window, where that is too much.
fn pair(
    definition: &Definition,
    ours: Option<Load>,
    beside: &Beside<'_>,
    window: usize,
    rules: &MessageRules,
) -> Option<Vec<String>> {
    let (window_ms, said) = WINDOWS[window];
    let (ours, theirs) = (ours?, beside.loads[window]?);
    let other = beside.definition;
    if ours.all() == 0 || theirs.all() == 0 {
        return None;
    }
    let who = who(definition, other, beside.meets);
    let mut told = Vec::new();
    let sides = [
        (definition, ours, other, theirs),
        (other, theirs, definition, ours),
    ];
    for (of, load, by, fills) in sides {
        let Some(cap) = cap(rules, &of.limits, window_ms) else {
            continue;
        };
        let room = cap.saturating_sub(rules.kept_for_important);
        if load.routine > 0 && fills.important >= room {
            told.push(format!(
                "{who} may get {} important messages of `{}` in a {said}, and {room} leave no room for what is routine: the {} of `{}` wait until that time is over, and are not sent if theirs is over before. Send fewer, or raise the limit",
                fills.important, by.name, load.routine, of.name
            ));
        }
    }
    let caps = [&definition.limits, &other.limits];
    let caps = caps.map(|own| cap(rules, own, window_ms));
    let least = caps.into_iter().flatten().min();
    if let Some(cap) = least.filter(|cap| told.is_empty() && ours.all() + theirs.all() > *cap) {
        told.push(format!(
            "{who} may get {} messages in a {said} ({} of `{}`, {} of `{}`), and {cap} are allowed: the rest waits. Begin one of them later, or say by `urgency` which comes first",
            ours.all() + theirs.all(),
            ours.all(),
            definition.name,
            theirs.all(),
            other.name
        ));
    }
    (!told.is_empty()).then_some(told)
}

/// What a journey and several others come to in a window, where that is too much: as few of them as it takes, those
/// that send the most first.
fn together(
    definition: &Definition,
    ours: Option<Load>,
    besides: &[Beside<'_>],
    window: usize,
    rules: &MessageRules,
) -> Option<String> {
    let (window_ms, said) = WINDOWS[window];
    let ours = ours?.all();
    let sending = besides.iter().filter_map(|beside| {
        let load = beside.loads[window]?.all();
        (load > 0).then_some((beside.definition, load))
    });
    let mut sending: Vec<(&Definition, u32)> = sending.collect();
    sending.sort_by(|(one, load), (other, more)| (more, &one.name).cmp(&(load, &other.name)));
    let mut all = vec![(definition, ours)];
    let mut sum = ours;
    let mut least = cap(rules, &definition.limits, window_ms);
    for (other, load) in sending {
        if all.len() > TOGETHER_MAX {
            break;
        }
        // Two versions of one journey are taken by nobody at once.
        let fits = |(known, _): &(&Definition, u32)| {
            known.name != other.name && meets(known, other).is_some()
        };
        if ours == 0 || !all.iter().all(fits) {
            continue;
        }
        all.push((other, load));
        sum = sum.saturating_add(load);
        least = least
            .into_iter()
            .chain(cap(rules, &other.limits, window_ms))
            .min();
        if let Some(cap) = least.filter(|cap| sum > *cap) {
            let names = all.iter().map(|(one, _)| format!("`{}`", one.name));
            let loads = all
                .iter()
                .map(|(one, load)| format!("{load} of `{}`", one.name));
            return Some(format!(
                "a patient who is in {} at the same time may get {sum} messages in a {said} ({}), and {cap} are allowed: the rest waits. Begin some of them later, or say by `urgency` which comes first",
                names.collect::<Vec<_>>().join(", "),
                loads.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, entry: &str, steps: &str) -> std::sync::Arc<Definition> {
        let source = format!(
            "name: {name}
title: A journey
owner: Team
purpose: TREAT
at_most: 60d
entry:
  event: Encounter
  where: {entry}
  anchors: {{discharge: period.end}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
{steps}"
        );
        let (definition, found) = crate::check::compile(&source);
        // That nobody learns of a message that wasn't delivered is no matter here.
        let wrong = found
            .iter()
            .any(|found| found.error && found.code != "J080");
        assert!(!wrong, "{source}{found:#?}");
        std::sync::Arc::new(definition.expect("a definition"))
    }

    fn send(id: &str, channels: &str, more: &str, next: &str) -> String {
        format!(
            "  {id}:
    title: Send
    send:
      title: News
      words: There is news.
      channels: {channels}
      email: {{subject: News, text: 'Read it at {{link}}'}}
{more}    next: {next}
    on_failure: {next}
"
        )
    }

    fn chain(count: usize, pause: &str, more: &str) -> String {
        let mut steps = "start: s0\nsteps:\n".to_owned();
        for n in 0..count {
            let last = n + 1 == count;
            let next = if last {
                "end".to_owned()
            } else {
                format!("p{n}")
            };
            steps.push_str(&send(&format!("s{n}"), "[email, portal]", more, &next));
            if !last {
                steps.push_str(&format!(
                    "  p{n}: {{title: Pause, wait: {{for: {pause}}}, next: s{}}}\n",
                    n + 1
                ));
            }
        }
        steps
    }

    const FINISHED: &str = "status = 'finished'";

    #[test]
    fn messages_are_counted_along_the_way_that_sends_the_most() {
        let load = |steps: &str| {
            let definition = definition("one", FINISHED, steps);
            [DAY_MS, 7 * DAY_MS].map(|window_ms| {
                let load = most(&definition, window_ms).unwrap();
                (load.routine, load.important)
            })
        };
        assert_eq!(load(&chain(4, "2d", "")), [(1, 0), (4, 0)]);
        assert_eq!(load(&chain(4, "12h", "")), [(2, 0), (4, 0)]);
        assert_eq!(
            load(&chain(2, "1h", "      urgency: important\n")),
            [(0, 2), (0, 2)]
        );
        let clinical = "      urgency: clinical\n      because: It bleeds.\n";
        assert_eq!(load(&chain(2, "1h", clinical)), [(0, 0), (0, 0)]);
        let portal = format!(
            "start: s\nsteps:\n{}",
            send("s", "[portal]", "", "end").replace(
                "      email: {subject: News, text: 'Read it at {link}'}\n",
                ""
            )
        );
        assert_eq!(load(&portal), [(0, 0), (0, 0)]);
        // Side by side they add up; of two ways the larger counts.
        let side = format!(
            "start: fork\nsteps:\n  fork: {{title: Fork, parallel: {{branches: [a, b]}}, next: c}}\n{}{}{}",
            send("a", "[email]", "", "end"),
            send("b", "[email]", "", "end"),
            send("c", "[email]", "", "end")
        );
        assert_eq!(load(&side), [(3, 0), (3, 0)]);
        let either = format!(
            "start: draw\nsteps:\n  draw: {{title: Draw, split: {{arms: [{{id: a, weight: 50, next: a}}, {{id: b, weight: 50, next: b}}]}}}}\n{}{}{}",
            send("a", "[email]", "", "end"),
            send("b", "[email]", "", "c"),
            send("c", "[email]", "", "end")
        );
        assert_eq!(load(&either), [(2, 0), (2, 0)]);
        let rounds = format!(
            "start: again\nsteps:\n  again: {{title: Again, repeat: {{body: a, times: 5, pause: 2d}}, next: end}}\n{}",
            send("a", "[email]", "", "end")
        );
        assert_eq!(load(&rounds), [(1, 0), (4, 0)]);
        let asks = "start: ask
steps:
  ask:
    title: Ask
    ask:
      title: How are you?
      words: Please answer.
      questions: [{id: well, text: Are you well?, type: yes-no}]
      remind_after: 24h
      give_up_after: 72h
      channels: [email]
      email: {subject: A question, text: 'Answer at {link}'}
    answered: end
    no_answer: end
";
        assert_eq!(load(asks), [(1, 0), (2, 0)]);
    }

    /// What asks again each minute is looked at ten thousand times in a week, and that takes neither all of the stack
    /// nor all of the time; where there are too many steps on the way round, nothing is counted.
    #[test]
    fn short_waits_that_are_waited_again_and_again() {
        let polls = |name: &str, looks: usize| {
            let mut steps = send("s", "[email]", "", "pause");
            steps.push_str("  pause: {title: Pause, wait: {for: 1m}, next: look0}\n");
            for n in 0..looks {
                let next = match n + 1 == looks {
                    true => "pause".to_owned(),
                    false => format!("look{}", n + 1),
                };
                steps.push_str(&format!(
                    "  look{n}: {{title: Look, branch: {{cases: [{{when: 'false', next: end}}], otherwise: {next}}}}}\n"
                ));
            }
            definition(name, FINISHED, &format!("start: s\nsteps:\n{steps}"))
        };
        let few = polls("few", 1);
        let load = most(&few, 7 * DAY_MS);
        assert_eq!(load.map(|load| load.routine), Some(1));
        let many = polls("many", 6);
        assert_eq!(most(&many, 7 * DAY_MS), None);
        assert_eq!(most(&many, DAY_MS).map(|load| load.routine), Some(1));
        let rules = MessageRules {
            per_week: Some(1),
            per_day: None,
            ..MessageRules::default()
        };
        let others = [&*many];
        assert_eq!(conflicts(&few, others.into_iter(), &rules), []);
    }

    #[test]
    fn conditions_that_ask_for_different_values_share_nobody() {
        let one = |entry: &str| definition("one", entry, &chain(1, "1d", ""));
        for (a, b, same) in [
            (FINISHED, FINISHED, true),
            (FINISHED, "status = 'planned'", false),
            (
                "status = 'finished' and class.code = 'IMP'",
                "status = 'finished' and class.code = 'AMB'",
                false,
            ),
            ("status = 'finished' and class.code = 'IMP'", FINISHED, true),
            (
                "status = 'finished' or status = 'planned'",
                "status = 'planned'",
                true,
            ),
            (
                "type.coding.where(code = 'a').exists()",
                "type.coding.where(code = 'b').exists()",
                true,
            ),
        ] {
            assert_eq!(meets(&one(a), &one(b)).is_some(), same, "{a} / {b}");
        }
    }

    #[test]
    fn conflicts_name_the_other_journey_and_the_numbers() {
        let rules = |day: Option<u32>, week: Option<u32>, kept: u32| MessageRules {
            per_day: day,
            per_week: week,
            kept_for_important: kept,
            ..MessageRules::default()
        };
        let ours = definition("ours", FINISHED, &chain(3, "2h", ""));
        let theirs = definition("theirs", FINISHED, &chain(2, "2h", ""));
        let important = definition(
            "loud",
            FINISHED,
            &chain(3, "2h", "      urgency: important\n"),
        );
        let elsewhere = definition("elsewhere", "status = 'planned'", &chain(9, "1h", ""));
        let found = |other: &Definition, rules: &MessageRules| {
            let found = conflicts(&ours, [other].into_iter(), rules);
            let of = |finding: Finding| {
                assert_eq!((finding.code.as_str(), finding.line), ("J072", 8));
                (finding.error, finding.message)
            };
            found.into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(found(&theirs, &rules(None, None, 0)), []);
        assert_eq!(found(&theirs, &rules(Some(5), Some(5), 0)), []);
        assert_eq!(found(&elsewhere, &rules(Some(1), Some(1), 0)), []);
        assert_eq!(found(&ours, &rules(Some(1), Some(1), 0)), [], "itself");
        let day = found(&theirs, &rules(Some(4), Some(9), 0));
        assert_eq!(day.len(), 1);
        assert!(
            !day[0].0
                && day[0].1.contains(
                    "5 messages in a day (3 of `ours`, 2 of `theirs`), and 4 are allowed"
                ),
            "{day:?}"
        );
        let starved = found(&important, &rules(Some(4), Some(20), 1));
        assert_eq!(starved.len(), 1);
        assert!(
            !starved[0].0
                && starved[0]
                    .1
                    .contains("3 important messages of `loud` in a day"),
            "{starved:?}"
        );
        // A journey's own limit counts like the organisation's.
        let narrow = definition(
            "narrow",
            FINISHED,
            &format!("messages: {{per_day: 2}}\n{}", chain(1, "1h", "")),
        );
        assert_eq!(found(&narrow, &rules(None, None, 0)).len(), 1);
    }

    /// The entry of a journey, in place of an event of an `Encounter`.
    fn entered(name: &str, entry: &str, steps: &str) -> std::sync::Arc<Definition> {
        let source = format!(
            "name: {name}
title: A journey
owner: Team
purpose: TREAT
at_most: 60d
{entry}
exits:
  death: {{title: Died, event: Patient, where: deceased.exists() and deceased != false}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
{steps}"
        );
        let (definition, found) = crate::check::compile(&source);
        let wrong = found
            .iter()
            .any(|found| found.error && found.code != "J080");
        assert!(!wrong, "{source}{found:#?}");
        std::sync::Arc::new(definition.expect("a definition"))
    }

    fn aged(name: &str, from: u8, to: u8, steps: &str) -> std::sync::Arc<Definition> {
        let entry = format!(
            "segments:\n  some: {{title: Some, all: [{{aged: {{from: {from}, to: {to}}}}}]}}\nentry:\n  segment: some\n  per: event"
        );
        entered(name, &entry, steps)
    }

    /// However they begin, one patient may be in several at a time.
    #[test]
    fn journeys_that_begin_otherwise_are_counted_beside_each_other() {
        let two = chain(2, "2h", "");
        let event = definition("event", FINISHED, &two);
        let dated = entered(
            "dated",
            "entry:\n  date: {of: Appointment, where: status = 'booked', begins: visit - 7d at 09:00, past_due: skip}\n  anchors: {visit: start}\n  per: event",
            &two,
        );
        let asked = entered(
            "asked",
            "entry:\n  request: {by: [clinician]}\n  per: event",
            &two,
        );
        let young = aged("young", 18, 39, &two);
        let old = aged("old", 65, 99, &two);
        let rules = MessageRules {
            per_day: Some(3),
            ..MessageRules::default()
        };
        let all = [&event, &dated, &asked, &young, &old];
        for one in all {
            for other in all {
                let found = conflicts(one, [&**other].into_iter(), &rules);
                let names = [one.name.as_str(), other.name.as_str()];
                let apart =
                    one.name == other.name || (names.contains(&"young") && names.contains(&"old"));
                assert_eq!(found.is_empty(), apart, "{names:?}: {found:?}");
                if let Some(found) = found.first() {
                    assert!(
                        found
                            .message
                            .contains("at the same time may get 4 messages in a day"),
                        "{found:?}"
                    );
                }
            }
        }
    }

    /// No two are too much, and three are.
    #[test]
    fn several_together_are_found_by_as_few_as_it_takes() {
        let of = |name: &str, count| definition(name, FINISHED, &chain(count, "2h", ""));
        let (ours, a, b, c) = (of("ours", 2), of("few", 1), of("most", 3), of("some", 2));
        let elsewhere = definition("elsewhere", "status = 'planned'", &chain(9, "1h", ""));
        let rules = |day| MessageRules {
            per_day: Some(day),
            ..MessageRules::default()
        };
        let others = [&*a, &*b, &*c, &*elsewhere];
        let found = |rules: &MessageRules, others: &[&Definition]| {
            let found = conflicts(&ours, others.iter().copied(), rules).into_iter();
            found.map(|found| found.message).collect::<Vec<_>>()
        };
        assert_eq!(found(&rules(8), &others), [""; 0]);
        let three = found(&rules(6), &others);
        assert_eq!(three.len(), 1, "{three:?}");
        let words = "in `ours`, `most`, `some` at the same time may get 7 messages in a day (2 of `ours`, 3 of `most`, 2 of `some`), and 6 are allowed";
        assert!(three[0].contains(words), "{three:?}");
        let four = found(&rules(7), &others);
        assert!(
            four.len() == 1 && four[0].contains("may get 8 messages"),
            "{four:?}"
        );
        // What two come to is told by itself.
        let two = found(&rules(4), &others);
        assert!(
            two.len() == 1 && two[0].contains("5 messages in a day"),
            "{two:?}"
        );
        // Two versions of one journey are one.
        let again = of("most", 3);
        assert_eq!(found(&rules(7), &[&b, &again]), [""; 0]);
    }

    /// However many are live, those that begin otherwise are one finding, after those that begin by the same.
    #[test]
    fn journeys_that_begin_otherwise_are_summed_up() {
        let ours = definition("ours", FINISHED, &chain(1, "2h", ""));
        let same = definition("same", FINISHED, &chain(1, "2h", ""));
        let asked = "entry:\n  request: {by: [clinician]}\n  per: event";
        let many: Vec<_> = (0..30)
            .map(|n| entered(&format!("other-{n:02}"), asked, &chain(1 + n % 3, "2h", "")))
            .collect();
        let rules = MessageRules {
            per_day: Some(1),
            per_week: Some(1),
            ..MessageRules::default()
        };
        let found = |many: &[std::sync::Arc<Definition>]| {
            let others = many.iter().chain([&same]).map(|one| &**one);
            let found = conflicts(&ours, others, &rules).into_iter();
            found.map(|found| found.message).collect::<Vec<_>>()
        };
        let all = found(&many);
        assert_eq!(all.len(), 3, "{all:#?}");
        assert!(
            all[..2]
                .iter()
                .all(|one| one.contains("by the same resource")),
            "{all:#?}"
        );
        let named = "`other-02` (3 in a week), `other-05` (3 in a week), `other-08` (3 in a week), `other-11` (3 in a week), `other-14` (3 in a week), and 25 more";
        assert!(
            all[2].starts_with("30 journeys that are live") && all[2].contains(named),
            "{all:#?}"
        );
        // Five are all named; of one the numbers are told.
        let five = found(&many[..5]);
        assert!(
            five.len() == 3 && !five[2].contains("more. The"),
            "{five:#?}"
        );
        let one = found(&many[..1]);
        assert!(
            one.len() == 4 && one[2].contains("at the same time may get 2 messages in a day"),
            "{one:#?}"
        );
    }

    /// Nothing is left out without saying so, and the number that is counted together has an end.
    #[test]
    fn many_journeys_are_told_within_bounds() {
        let ours = definition("ours", FINISHED, &chain(1, "2h", ""));
        let many: Vec<_> = (0..40)
            .map(|n| definition(&format!("other-{n}"), FINISHED, &chain(1, "2h", "")))
            .collect();
        let rules = |day| MessageRules {
            per_day: Some(day),
            ..MessageRules::default()
        };
        let found = |day| conflicts(&ours, many.iter().map(|one| &**one), &rules(day));
        let pairs = found(1);
        assert_eq!(pairs.len(), TOLD_MAX + 1);
        assert!(pairs[TOLD_MAX].message.starts_with("20 more"), "{pairs:?}");
        let most = u32::try_from(TOGETHER_MAX).unwrap();
        assert_eq!(found(most).len(), 1);
        assert_eq!(found(most + 1), []);
    }
}

//! A definition as a Petri net, which process mining holds paths against.
//!
//! A place stands for a step that is to be begun or that somebody is at, within the parts (`parallel`, `repeat`)
//! around it; a visible transition is an activity of the log, a silent one a way between steps. The net allows a
//! little more than the engine does: how often a round is gone through, when a rule fires or a late answer comes
//! and how often, and that a part goes on while a branch that forked within it isn't over. What it forbids, the engine
//! never does by itself.

use super::{ending, late_answer, reply};
use crate::counts::BRANCH;
use crate::definition::{Definition, Step, Target};
use crate::engine::{RESERVED_ENDINGS, gives_up};
use crate::passages::{LATE_ANSWER, UNCLEAR};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

/// Most places of a net. A definition whose parts lie within each other so that there would be more has none.
const PLACES_MAX: usize = 4_000;
/// How deep parts may lie within each other.
const DEPTH_MAX: usize = 12;

/// Where the journey is begun, goes on, is broken off, and over: the first four places.
const BEGIN: u16 = 0;
const RUN: u16 = 1;
const DRAIN: u16 = 2;
const OVER: u16 = 3;

/// A Petri net. It begins with one token at its first place and is over when there is one, at [`Net::over`], and no
/// other.
#[derive(Debug, Clone)]
pub struct Net {
    places: Vec<String>,
    pub(crate) labels: Vec<String>,
    pub(crate) transitions: Vec<Transition>,
}

/// What takes tokens from places and gives tokens to places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transition {
    /// The activity, by its place in the net's labels; a silent one has none.
    pub(crate) label: Option<u32>,
    /// The first is a place that few other transitions take from.
    pub(crate) takes: Vec<u16>,
    pub(crate) gives: Vec<u16>,
}

/// The parts that a step lies within, the innermost last, each with which of its branches that is. Each branch ends at
/// a place of its own, so that no arc has a weight: not all tools that read nets mind those.
type Within = Vec<(usize, usize)>;

struct Builder<'a> {
    definition: &'a Definition,
    places: Vec<String>,
    known: BTreeMap<String, u16>,
    labels: Vec<String>,
    transitions: BTreeSet<Transition>,
    begun: BTreeSet<(usize, Within)>,
    ahead: VecDeque<(usize, Within)>,
    too_much: bool,
}

impl Net {
    /// The net of a definition; nothing where its parts lie too deep within each other.
    #[must_use]
    pub fn of(definition: &Definition) -> Option<Self> {
        let mut builder = Builder {
            definition,
            places: ["begin", "running", "breaking off", "over"]
                .map(str::to_owned)
                .to_vec(),
            known: BTreeMap::new(),
            labels: Vec::new(),
            transitions: BTreeSet::new(),
            begun: BTreeSet::new(),
            ahead: VecDeque::new(),
            too_much: false,
        };
        builder.whole();
        let Builder {
            places,
            labels,
            transitions,
            too_much,
            ..
        } = builder;
        (!too_much).then(|| Self {
            places,
            labels,
            transitions: transitions.into_iter().collect(),
        })
    }

    /// The place where it begins.
    pub(crate) fn begin() -> u16 {
        BEGIN
    }
    /// The place that says that it goes on.
    pub(crate) fn running() -> u16 {
        RUN
    }
    /// The place where it is over.
    pub(crate) fn over() -> u16 {
        OVER
    }

    /// The net in PNML, as other tools read it.
    #[must_use]
    pub fn pnml(&self, name: &str) -> String {
        let escape = super::log::escape;
        let mut text = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<pnml>\n  <net id=\"net\" type=\"http://www.pnml.org/version-2009/grammar/pnmlcoremodel\">\n",
        );
        let _ = writeln!(text, "    <name><text>{}</text></name>", escape(name));
        text.push_str("    <page id=\"page\">\n");
        for (number, place) in self.places.iter().enumerate() {
            let first = match number == usize::from(BEGIN) {
                true => "<initialMarking><text>1</text></initialMarking>",
                false => "",
            };
            let _ = writeln!(
                text,
                "      <place id=\"p{number}\"><name><text>{}</text></name>{first}</place>",
                escape(place)
            );
        }
        for (number, transition) in self.transitions.iter().enumerate() {
            let (words, silent) = match transition.label.and_then(|label| self.label(label)) {
                Some(label) => (escape(label), ""),
                None => (
                    format!("silent {number}"),
                    "<toolspecific tool=\"ProM\" version=\"6.4\" activity=\"$invisible$\" localNodeID=\"\"/>",
                ),
            };
            let _ = writeln!(
                text,
                "      <transition id=\"t{number}\"><name><text>{words}</text></name>{silent}</transition>"
            );
        }
        let mut arcs = 0;
        let mut arc = |text: &mut String, from: String, to: String, weight: usize| {
            let _ = writeln!(
                text,
                "      <arc id=\"a{arcs}\" source=\"{from}\" target=\"{to}\"><inscription><text>{weight}</text></inscription></arc>"
            );
            arcs += 1;
        };
        for (number, transition) in self.transitions.iter().enumerate() {
            for (place, weight) in counted(&transition.takes) {
                arc(&mut text, format!("p{place}"), format!("t{number}"), weight);
            }
            for (place, weight) in counted(&transition.gives) {
                arc(&mut text, format!("t{number}"), format!("p{place}"), weight);
            }
        }
        let _ = write!(
            text,
            "    </page>\n    <finalmarkings><marking><place idref=\"p{OVER}\"><text>1</text></place></marking></finalmarkings>\n  </net>\n</pnml>\n"
        );
        text
    }

    pub(crate) fn label(&self, label: u32) -> Option<&str> {
        let place = usize::try_from(label).ok()?;
        self.labels.get(place).map(String::as_str)
    }
}

fn counted(places: &[u16]) -> BTreeMap<u16, usize> {
    let mut counted = BTreeMap::new();
    for place in places {
        *counted.entry(*place).or_default() += 1;
    }
    counted
}

impl Builder<'_> {
    fn place(&mut self, name: String) -> u16 {
        if let Some(place) = self.known.get(&name) {
            return *place;
        }
        let place = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        if self.places.len() >= PLACES_MAX {
            self.too_much = true;
            return OVER;
        }
        self.places.push(name.clone());
        self.known.insert(name, place);
        place
    }

    /// A place of a step within the parts around it.
    fn place_of(&mut self, what: &str, step: usize, within: &Within) -> u16 {
        let steps = &self.definition.steps;
        let around = within.iter();
        let around = around.map(|(part, branch)| format!("{}.{branch}", steps[*part].id));
        let path: Vec<String> = around.chain([steps[step].id.clone()]).collect();
        self.place(format!("{what} {}", path.join("/")))
    }

    fn adds(&mut self, label: Option<String>, takes: Vec<u16>, gives: Vec<u16>) {
        let label = label.map(|label| {
            let known = self.labels.iter().position(|known| *known == label);
            let place = known.unwrap_or_else(|| {
                self.labels.push(label);
                self.labels.len() - 1
            });
            u32::try_from(place).unwrap_or(u32::MAX)
        });
        self.transitions.insert(Transition {
            label,
            takes,
            gives,
        });
    }

    /// The places to which a target leads within these parts.
    fn goes(&mut self, target: &Target, within: &Within) -> Vec<u16> {
        let mut gives = Vec::new();
        for step in &target.steps {
            gives.push(self.place_of("to", *step, within));
            if self.begun.insert((*step, within.clone())) {
                self.ahead.push_back((*step, within.clone()));
            }
        }
        let Some(((part, branch), around)) = within.split_last() else {
            return gives;
        };
        let around = around.to_vec();
        let ended = self.ended(*part, *branch, &around);
        if target.steps.is_empty() {
            gives.push(ended);
        }
        // One place of the branch is gone, as many as the target names have come, and each of them ends.
        for more in 1..target.steps.len() {
            let extra = self.place_of(
                &format!("{more} more in branch {branch} of"),
                *part,
                &around,
            );
            gives.push(extra);
            self.adds(None, vec![extra, ended], Vec::new());
        }
        gives
    }

    /// The place where a branch of a part has ended.
    fn ended(&mut self, part: usize, branch: usize, around: &Within) -> u16 {
        self.place_of(&format!("ended branch {branch} of"), part, around)
    }

    /// Begins the branches of a part: where they begin, and where they end.
    fn branches(
        &mut self,
        part: usize,
        targets: &[Target],
        within: &Within,
    ) -> (Vec<u16>, Vec<u16>) {
        let (mut begin, mut end) = (Vec::new(), Vec::new());
        for (branch, step) in targets.iter().flat_map(|target| &target.steps).enumerate() {
            let one = Target {
                steps: vec![*step],
                ..Target::default()
            };
            let inner: Within = within.iter().copied().chain([(part, branch)]).collect();
            begin.extend(self.goes(&one, &inner));
            end.push(self.ended(part, branch, within));
        }
        if begin.is_empty() {
            let ended = self.ended(part, 0, within);
            (begin, end) = (vec![ended], vec![ended]);
        }
        (begin, end)
    }

    fn whole(&mut self) {
        let definition = self.definition;
        let root = Within::new();
        let starts = std::iter::once(&definition.start).chain(definition.entry.late());
        for start in starts {
            let mut gives = vec![RUN];
            gives.extend(self.goes(start, &root));
            self.adds(None, vec![BEGIN], gives);
        }
        for step in &definition.steps {
            self.beside(step);
        }
        while let Some((step, within)) = self.ahead.pop_front() {
            if within.len() > DEPTH_MAX {
                self.too_much = true;
            }
            if self.too_much {
                return;
            }
            self.step(step, &within);
        }
        // When nothing is under way any more the journey is completed; it can be broken off at any time.
        self.adds(Some(ending("completed")), vec![RUN], vec![OVER]);
        let exits = definition.exits.iter().map(|exit| exit.id.as_str());
        for code in exits.chain(RESERVED_ENDINGS) {
            if gives_up(definition, code) {
                self.adds(Some(ending(code)), vec![RUN], vec![DRAIN]);
            }
        }
        let places = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        for place in (OVER + 1)..places {
            self.adds(None, vec![place, DRAIN], vec![DRAIN]);
        }
        self.adds(None, vec![DRAIN], vec![OVER]);
    }

    /// What may happen beside everything else: rules that fire, goals, late answers.
    fn beside(&mut self, step: &Step) {
        let root = Within::new();
        let index = self.definition.index.get(&step.id).copied();
        if step.kind.aims().is_some() {
            let mut gives = vec![RUN];
            if let Some(index) = index.filter(|_| step.kind.may_end()) {
                let reached = self.place_of("reached", index, &root);
                gives.push(reached);
                self.adds(Some(ending(&step.id)), vec![reached, RUN], vec![DRAIN]);
            }
            self.adds(Some(step.id.clone()), vec![RUN], gives);
            return;
        }
        for way in step.ways() {
            let activity = match way.label.as_str() {
                label if !step.kind.starts_branch(label) => continue,
                LATE_ANSWER => late_answer(&step.id),
                UNCLEAR => reply(&step.id),
                _ => step.id.clone(),
            };
            let mut gives = vec![RUN];
            gives.extend(self.goes(way.target, &root));
            self.adds(Some(activity), vec![RUN], gives);
        }
    }

    fn step(&mut self, index: usize, within: &Within) {
        let definition = self.definition;
        let step = &definition.steps[index];
        let to = self.place_of("to", index, within);
        let enters = Some(step.id.clone());
        if let Some((branches, next)) = step.kind.branches() {
            let (begin, end) = self.branches(index, branches, within);
            let gives = [vec![RUN], begin].concat();
            self.adds(enters, vec![to, RUN], gives);
            let next = self.goes(next, within);
            self.adds(None, end, next);
            return;
        }
        let at = self.place_of("at", index, within);
        self.adds(enters, vec![to, RUN], vec![at, RUN]);
        if step.kind.ends() {
            self.adds(Some(ending(&step.id)), vec![at, RUN], vec![DRAIN]);
            return;
        }
        if let Some((bodies, after)) = step.kind.encloses() {
            let (begin, end) = self.branches(index, bodies, within);
            let between = self.place_of("between rounds of", index, within);
            self.adds(None, vec![at], begin.clone());
            self.adds(None, vec![between], begin);
            self.adds(None, end, vec![between]);
            for target in after {
                let next = self.goes(target, within);
                self.adds(None, vec![between], next);
            }
            return;
        }
        for way in step.ways() {
            if way.label == BRANCH || step.kind.starts_branch(&way.label) {
                continue;
            }
            let next = self.goes(way.target, within);
            self.adds(None, vec![at], next);
        }
    }
}

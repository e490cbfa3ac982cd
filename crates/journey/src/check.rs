//! The checker: what must be true of a journey before patients are led along it.

mod caps;
mod clinical;
mod codes;
mod connectors;
mod dates;
mod entry;
mod graph;
mod languages;
mod limits;
mod names;
mod others;
mod pages;
mod partners;
mod paths;
mod requests;
mod risk;
mod segments;

pub(crate) use caps::conflicts;
pub(crate) use connectors::shared_connectors;
pub(crate) use names::{names_in, paths_in};
pub(crate) use others::others;
pub use pages::{section, why};
pub(crate) use partners::partners;
pub(crate) use segments::{named_segments, shared_segments};

use crate::Finding;
use crate::decode::{self, Findings};
use crate::definition::{Definition, ExitTrigger, Step, Who};
use crate::engine::RESERVED_ENDINGS;
use crate::kinds::NOT_LOOKED_AT;
use crate::spec::START_ANCHOR;
use crate::template::Template;
use crate::yaml::{Node, Place};
use fhir::ResourceType;
use std::cell::OnceCell;

/// Characters of the link in a text message: 40 of the portal's address, and what signs the patient in and leads to the
/// message (`/sign-in/link/`, 45 of the secret, `?next=/portal/inbox/` and 36 of the message).
const LINK_CHARS: usize = 160;
/// Parts on the air that a text message may take: the link needs one of the default alphabet, and two and a half of others,
/// which leaves these about a hundred characters.
const PARTS_MAX: usize = 4;

/// Every code of the checker with its one-line meaning; `docs/journeys/checks.md` has a section for each.
pub const CODES: &[(&str, &str)] = &[
    ("J001", "The file is no YAML."),
    ("J002", "A member is not known."),
    ("J003", "A member is missing."),
    ("J004", "A value has the wrong form."),
    ("J005", "A step has no kind, or more than one."),
    ("J006", "A step is named that isn't there."),
    ("J007", "A name or id is malformed."),
    ("J008", "The purpose of use is missing or unknown."),
    ("J009", "A duration, moment or time of day is malformed."),
    ("J010", "A step can't be reached."),
    ("J011", "A step can't be left, or never leads to an end."),
    ("J012", "A wait has no end."),
    ("J013", "A failure has no way on."),
    (
        "J014",
        "A task isn't due, or nothing happens when it is overdue.",
    ),
    ("J015", "A FHIRPath expression doesn't compile."),
    (
        "J016",
        "A condition names something that the journey never learns.",
    ),
    (
        "J017",
        "Health information would flow into an open channel.",
    ),
    (
        "J018",
        "A template is malformed, or a variable isn't known there.",
    ),
    ("J019", "A variable that may be empty has no fallback."),
    ("J020", "A channel isn't known."),
    ("J021", "The check digit of a code is wrong."),
    (
        "J022",
        "A unit isn't known, or doesn't fit what is measured.",
    ),
    ("J023", "A threshold or window makes no sense."),
    ("J024", "Something stands twice."),
    ("J025", "An anchor isn't known."),
    ("J026", "A loop goes round without waiting."),
    (
        "J027",
        "A step is both inside a parallel branch or a repeated part and after it.",
    ),
    (
        "J028",
        "Nothing ends the journey on death or withdrawal of consent.",
    ),
    ("J029", "The journey has no longest duration."),
    ("J030", "The reminder comes after giving up."),
    ("J031", "The time zone isn't known."),
    ("J032", "An observation rule is used as a target."),
    ("J033", "A question doesn't fit its type."),
    ("J034", "An e-mail or a text message has no link."),
    ("J035", "The file or the journey is too large."),
    ("J036", "Old events would start the journey."),
    (
        "J037",
        "A moment lies beyond the journey's longest duration.",
    ),
    (
        "J038",
        "A condition asks what its resource, or a step, can't have.",
    ),
    ("J039", "The arms of an experiment don't fit together."),
    ("J040", "The rounds of a repeated part can't be gone."),
    ("J041", "A wait names what can't come to anything."),
    ("J042", "A score can't be worked out, or may be missing."),
    (
        "J043",
        "A task's ladder, or its second person, makes no sense.",
    ),
    (
        "J044",
        "A date may be past, and the file doesn't say what happens then.",
    ),
    ("J049", "A condition may come out otherwise than it reads."),
    (
        "J050",
        "A request can't start the journey as the entry says.",
    ),
    (
        "J051",
        "A message's urgency, or what limits messages, makes no sense.",
    ),
    (
        "J055",
        "A language isn't known, or is that which the words are in already.",
    ),
    (
        "J056",
        "A message is harder to read than the journey says that messages are.",
    ),
    (
        "J057",
        "A message is not there in a language that others are in.",
    ),
    ("J058", "A journey begins itself, or one that isn't there."),
    (
        "J059",
        "The reminders of a visit don't fit together, or come when nobody needs them.",
    ),
    (
        "J060",
        "A partner isn't known, or no contract with it is in force.",
    ),
    ("J061", "A partner would be told what it isn't cleared for."),
    (
        "J062",
        "A call can't be made, or taken back, as it is written.",
    ),
    ("J063", "A secret stands in the file."),
    (
        "J064",
        "The reminders of a visit that isn't booked don't fit together, or are never sent.",
    ),
    (
        "J065",
        "A form isn't whole in a language that it is in, or has there what it doesn't have.",
    ),
    (
        "J066",
        "What a patient replies, or isn't asked, would come to nobody.",
    ),
    (
        "J067",
        "A text message may take more parts on the air than is sensible.",
    ),
    ("J069", "A form can't be answered by reply."),
    ("J070", "A date can't begin the journey as the entry says."),
    (
        "J071",
        "The rule for taking a journey again makes no sense.",
    ),
    (
        "J072",
        "This journey and another that is live send one patient more than the limits let out.",
    ),
    ("J080", "What can't wait may be seen by nobody."),
    (
        "J081",
        "Readings that a rule about a risk needs may stop coming, and nobody learns of it.",
    ),
    (
        "J082",
        "The words of an open channel may tell what a patient is treated for.",
    ),
    (
        "J083",
        "A measurement or a score that may tell of a risk comes to no person.",
    ),
    ("J084", "A number that is replied has no bounds."),
    (
        "J085",
        "The hours in which a message may go out can't be, or it can't wait for them.",
    ),
    ("J086", "A connector makes no sense."),
    (
        "J087",
        "A step calls by a connector that isn't there, or otherwise than the connector says.",
    ),
    (
        "J088",
        "A letter or a telephone call would go by nobody, or by a partner who isn't cleared for it.",
    ),
    (
        "J089",
        "What is spoken can't be said, or a letter has less time than the post takes.",
    ),
    ("J090", "A segment is named that isn't there."),
    ("J091", "A segment's conditions make no sense."),
    (
        "J092",
        "A segment can't begin the journey as the entry says.",
    ),
    ("J093", "Nothing names a segment, or a connector."),
    (
        "J094",
        "What becomes of a message to who is in hospital can't be, or is never asked.",
    ),
];

/// Reads and checks a file.
pub(crate) fn compile(source: &str) -> (Option<Definition>, Vec<Finding>) {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    let decoded = decode::decode(&mut findings);
    let definition = decoded.map(|decoded| {
        Check {
            findings: &mut findings,
            root: decoded.root(),
            written: &decoded.written,
            definition: &decoded.definition,
            own: OnceCell::new(),
        }
        .all();
        decoded.definition
    });
    findings
        .list
        .sort_by(|a, b| (a.line, a.column, &a.code).cmp(&(b.line, b.column, &b.code)));
    findings.list.dedup();
    (definition, findings.list)
}

/// What was found, where it stops nothing.
pub(crate) fn as_warnings(findings: Vec<Finding>) -> impl Iterator<Item = Finding> {
    let warning = |finding| Finding {
        error: false,
        ..finding
    };
    findings.into_iter().map(warning)
}

/// Reads a file that was checked when it was published.
pub(crate) fn read(source: &str) -> Option<Definition> {
    let mut findings = Findings {
        source,
        list: Vec::new(),
    };
    decode::decode(&mut findings).map(|decoded| decoded.definition)
}

/// A file being checked. The kinds of steps add what they find.
pub(crate) struct Check<'a, 'b> {
    pub(crate) findings: &'a mut Findings<'b>,
    /// With each call written out.
    root: &'a Node,
    /// As it is written.
    written: &'a Node,
    pub(crate) definition: &'a Definition,
    /// What it says of itself, once it is asked for.
    own: OnceCell<clinical::Own>,
}

impl Check<'_, '_> {
    fn all(&mut self) {
        // What a step comes to whose connector makes no sense can't be told.
        if !self.connectors() {
            return;
        }
        self.entry_and_exits();
        self.elements();
        for step in &self.definition.steps {
            step.kind.check(self, step);
            self.words(step);
        }
        self.lines();
        self.endings();
        self.limits();
        self.languages();
        self.moments();
        self.dates();
        self.graph();
        self.loops();
        self.branches_and_after();
        self.risks();
    }

    /// Node of a step's member, by path below the step.
    pub(crate) fn node(&self, step: &Step, path: &[&str]) -> Option<&Node> {
        path.iter()
            .try_fold(self.root.get("steps")?.get(&step.id)?, |node, name| {
                node.get(name)
            })
    }
    pub(crate) fn at(&self, step: &Step, path: &[&str]) -> Place {
        self.node(step, path).map_or(step.place, |node| node.place)
    }

    fn entry_and_exits(&mut self) {
        let place = |name: &str| {
            self.root
                .members()
                .iter()
                .find(|(key, _)| key.name == name)
                .map_or(Place { line: 1, column: 1 }, |(key, _)| key.place)
        };
        let (entry, exits) = (place("entry"), place("exits"));
        self.requests(entry);
        self.dated_entry(entry);
        self.taken_again();
        self.segments(entry);
        let by_event =
            self.definition.entry.event.is_some() && self.definition.entry.date.is_none();
        if by_event && self.definition.entry.within_ms.is_none() {
            self.findings.warning("J036", entry, "`entry` has no `within`: an imported history would start the journey for events of any age. Add e.g. `within: 3d`");
        }
        for who in &self.definition.entry.who {
            if let Who::Has {
                kind,
                condition: None,
            } = who
            {
                self.findings.warning("J036", entry, format!("`has: {kind}` without `where` holds for every patient with any {kind}; add a `where`"));
            }
        }
        let consent = self
            .definition
            .exits
            .iter()
            .any(|exit| exit.trigger == ExitTrigger::ConsentWithdrawn);
        let death = self.definition.exits.iter().any(|exit| matches!(exit.trigger, ExitTrigger::Event(index) if self.definition.conditions[index].kind == ResourceType::Patient));
        if !consent {
            self.findings.error(
                "J028",
                exits,
                "no exit for withdrawal of consent; add one with `consent: withdrawn`",
            );
        }
        if !death {
            self.findings.error("J028", exits, "no exit for death; add one with `event: Patient` and `where: deceased.exists() and deceased != false`");
        }
        let entry_kind = self.definition.entry.kind();
        let has = self
            .definition
            .entry
            .who
            .iter()
            .filter_map(|who| match who {
                Who::Has { kind, .. } => Some((*kind, entry)),
                Who::This(_) => None,
            });
        let events = self.definition.conditions.iter().map(|condition| {
            (
                condition.kind,
                condition.path.as_ref().map_or(exits, |path| path.place),
            )
        });
        for (kind, at) in has
            .chain(events)
            .chain(entry_kind.map(|kind| (kind, entry)))
            .collect::<Vec<_>>()
        {
            self.in_a_record(kind, at, "no journey can wait for one or start from one");
            self.looked_at(kind, at);
        }
        for (name, _) in &self.definition.entry.anchors {
            if name == START_ANCHOR {
                self.findings.error(
                    "J024",
                    entry,
                    "the anchor `start` is always there; name this one differently",
                );
            }
        }
    }

    /// Each way to end has a name of its own: what became of patients is told by it.
    fn endings(&mut self) {
        let definition = self.definition;
        let exits = self.root.get("exits").map(Node::members);
        let exits = exits.unwrap_or_default().iter();
        let exits: Vec<(&str, Place)> = exits
            .map(|(key, _)| (key.name.as_str(), key.place))
            .collect();
        let steps = definition.steps.iter().filter(|step| step.kind.may_end());
        let steps: Vec<(&str, Place)> = steps.map(|step| (step.id.as_str(), step.place)).collect();
        for (name, place) in exits.iter().chain(&steps) {
            if RESERVED_ENDINGS.contains(name) {
                let words = format!(
                    "`{name}` is how Cairn names an ending of its own; name this one differently"
                );
                self.findings.error("J024", *place, words);
            }
        }
        for (name, place) in &steps {
            if exits.iter().any(|(exit, _)| exit == name) {
                let words = format!(
                    "an exit is called `{name}` as well; who ended which way could not be told apart"
                );
                self.findings.error("J024", *place, words);
            }
        }
    }

    /// What the policy of the journeys' engine doesn't let it look at, no condition of a journey is ever told of.
    pub(crate) fn looked_at(&mut self, kind: ResourceType, at: Place) {
        if NOT_LOOKED_AT.contains(&kind) {
            let words = format!(
                "journeys don't look at a {kind}: bills and the audit are no matter of care"
            );
            self.findings.error("J004", at, words);
        }
    }

    /// Resources of a type that belong to no patient can't be found in a record.
    pub(crate) fn in_a_record(&mut self, kind: ResourceType, at: Place, so: &str) {
        let belongs = fhir::search::parameters(kind)
            .iter()
            .any(|parameter| parameter.name == "patient");
        if kind != ResourceType::Patient && !belongs {
            let words = format!("a {kind} is in nobody's record, so {so}");
            self.findings.error("J004", at, words);
        }
    }

    /// What is wrong with the messages of a step: a channel that stands twice, an e-mail that leads nowhere.
    pub(crate) fn messages(&mut self, step: &Step) {
        for (within, message) in step.kind.messages() {
            let path = [&[step.kind_name()], within].concat();
            self.channels(step, &path);
            self.urgency(step, &path, message);
            self.while_admitted(step, &path, message);
            if let Some(node) = self.node(step, &path).cloned() {
                let language = self.definition.language.clone();
                self.leads_to_the_message(&node, step, &language);
            }
        }
    }

    /// An e-mail and a text message of a message, in one language, have a link.
    fn leads_to_the_message(&mut self, message: &Node, step: &Step, language: &str) {
        let sms = message.get("sms").and_then(|sms| sms.get("words"));
        if let Some(words) = sms
            && words.text().is_some_and(|text| !text.contains("{link}"))
        {
            let said = "this text message has no `{link}`, so the link is put behind its words when it is sent";
            self.findings.warning("J034", words.place, said);
        }
        if let Some(words) = sms {
            let options = (step.kind.by_reply(language)).map(|asked| asked.options);
            self.parts(words, &options.unwrap_or_default());
        }
        let text = message.get("email").and_then(|email| email.get("text"));
        if let Some(text) = text
            && text.text().is_some_and(|text| !text.contains("{link}"))
        {
            self.findings.warning(
                "J034",
                text.place,
                "this e-mail has no `{link}`, so the patient can't get from it to the message",
            );
        }
    }

    /// A text message is cut into parts on the air, and each of them is paid for. `behind` is what is put behind its words.
    fn parts(&mut self, words: &Node, behind: &str) {
        let Some(Ok(template)) = words.text().map(Template::parse) else {
            return;
        };
        let text = template.longest(LINK_CHARS) + behind;
        let found = trust::sms::segments(&text);
        if found.count > PARTS_MAX {
            let said = format!(
                "this text message takes {} parts on the air ({}, with {LINK_CHARS} characters for the link), and each is paid for; {PARTS_MAX} are enough for a notice: shorten it",
                found.count,
                found.alphabet.name()
            );
            self.findings.warning("J067", words.place, said);
        }
    }

    fn channels(&mut self, step: &Step, path: &[&str]) {
        let Some(node) = self.node(step, &[path, &["channels"]].concat()) else {
            return;
        };
        let names: Vec<(String, Place)> = node
            .items()
            .iter()
            .filter_map(|item| Some((item.text()?.to_owned(), item.place)))
            .collect();
        for (place, (name, at)) in names.iter().enumerate() {
            if names[..place].iter().any(|(earlier, _)| earlier == name) {
                self.findings
                    .error("J024", *at, format!("channel `{name}` stands twice"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "name: notes
title: Notes
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {done: performedDateTime}
  within: 3d
  per: event
exits:
  death:
    title: Died
    event: Patient
    where: deceased.exists()
start: tell
steps:
  tell:
    title: Tell
    send:
      title: News
      words: News for you.
      channels: [sms, email]
      sms: {words: 'See {link}'}
    next: end
    on_failure: end
";

    fn is_read(source: &str) -> bool {
        let mut findings = Findings {
            source,
            list: Vec::new(),
        };
        let found = decode::decode(&mut findings).is_some();
        assert!(found || !findings.list.is_empty());
        found
    }

    /// A program of before text messages knows no channel `sms`, as this one knows none of later. It doesn't read such a
    /// version at all: it would send an e-mail in its place.
    #[test]
    fn a_version_with_a_channel_that_is_not_known_is_not_read() {
        let mut findings = Findings {
            source: SOURCE,
            list: Vec::new(),
        };
        let found = decode::decode(&mut findings).is_some();
        assert!(found, "{:?}", findings.list);
        assert!(!is_read(&SOURCE.replacen(
            "[sms, email]",
            "[pigeon, email]",
            1
        )));
        let words = SOURCE.replacen("[sms, email]", "[email]", 1);
        assert!(is_read(&words));
        assert!(!is_read(&words.replacen("sms:", "pigeon:", 1)));
    }
}

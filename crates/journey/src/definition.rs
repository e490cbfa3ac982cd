//! A journey, compiled: what the engine runs.

use crate::dates::{EntryDate, Past};
use crate::kinds::{Question, StepKind};
use crate::languages::Translation;
use crate::room::{Own, Urgency, Window};
use crate::segments::{Membership, Segment};
use crate::state::Which;
use crate::template::Template;
use crate::yaml::{Node, Place};
use fhir::ResourceType;
use fhir::path::Expression;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use trust::consent::{Pressing, Sort, Via};
use trust::outgoing::WhileAdmitted;

/// One version of a journey, compiled.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name.
    pub name: String,
    /// Title.
    pub title: String,
    /// The team that answers for it.
    pub owner: String,
    /// The purpose that consent must cover.
    pub purpose: trust::Purpose,
    /// The version; 0 for a draft.
    pub version: u32,
    /// Whether others see each patient's journey as a `CarePlan`.
    pub(crate) care_plan: bool,
    /// The longest that one patient can be in it, milliseconds.
    pub at_most_ms: u64,
    pub(crate) zone: TimeZone,
    /// What its words are written in (BCP 47, canonical).
    pub(crate) language: String,
    /// The highest school grade that its messages may take to be read.
    pub(crate) reading_level: Option<u8>,
    pub(crate) entry: Entry,
    pub(crate) exits: Vec<ExitRule>,
    pub(crate) start: Target,
    pub(crate) steps: Vec<Step>,
    pub(crate) index: BTreeMap<String, usize>,
    /// Every condition on events: of exits and of waits.
    pub(crate) conditions: Vec<Condition>,
    /// Whether it has messages that reach out by several channels.
    pub(crate) has_ways: bool,
    /// What it adds to the organisation's limits of messages.
    pub(crate) limits: Own,
    /// The named populations that it asks about.
    pub(crate) segments: Vec<Segment>,
}

/// A compiled expression with its text.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) expression: Expression,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What is written to the record; none where requests alone start the journey.
    pub(crate) event: Option<EntryEvent>,
    /// When it begins, where that is a date which such a resource says and not the moment of its writing.
    pub(crate) date: Option<EntryDate>,
    /// The segment by which it begins, by its place among those of the journey.
    pub(crate) segment: Option<usize>,
    /// Who else may start it.
    pub(crate) request: Option<Request>,
    /// The times that moments hang on, each with where an event has it.
    pub(crate) anchors: Vec<(String, Option<Path>)>,
    pub(crate) within_ms: Option<u64>,
    pub(crate) once: bool,
    /// Whether each date of a resource starts it anew.
    pub(crate) each_date: bool,
    /// When it may be taken again.
    pub(crate) again: Again,
    /// Whether several runs of one patient may go on side by side.
    pub(crate) beside: bool,
    pub(crate) who: Vec<Who>,
}

/// A resource that starts a journey when it is written.
#[derive(Debug, Clone)]
pub(crate) struct EntryEvent {
    pub(crate) kind: ResourceType,
    pub(crate) condition: Path,
}

/// When a patient who has taken a journey may take it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Again {
    /// Not within so long.
    pub(crate) after_ms: Option<u64>,
    /// Whether that is counted from the beginning of the last time, or else from its end.
    pub(crate) since_began: bool,
    /// So many times in all.
    pub(crate) at_most: Option<usize>,
}

/// Who may ask for a journey, and what they have to say.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) by: Vec<trust::Role>,
    /// The anchors in words.
    pub(crate) asks: Vec<(String, String)>,
}

impl Entry {
    /// Where it begins for those whose date was past when it was learnt, if that is elsewhere.
    pub(crate) fn late(&self) -> Option<&Target> {
        match self.date.as_ref().map(|date| &date.past) {
            Some(Past::Escalate(late)) => Some(late),
            _ => None,
        }
    }
    /// How long before the journey's start the first anchor may lie; nothing where nobody knows.
    pub(crate) fn before_ms(&self) -> Option<u64> {
        self.within_ms.filter(|_| self.date.is_none())
    }
    /// The type of the resources that start the journey, if such do.
    pub(crate) fn kind(&self) -> Option<ResourceType> {
        self.event.as_ref().map(|event| event.kind)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Who {
    This(Path),
    Has {
        kind: ResourceType,
        condition: Option<Path>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct ExitRule {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) close_tasks: bool,
    pub(crate) trigger: ExitTrigger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitTrigger {
    /// Index into [`Definition::conditions`].
    Event(usize),
    Segment(Membership),
    ConsentWithdrawn,
}

/// A condition on an event.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) kind: ResourceType,
    pub(crate) path: Option<Path>,
}

/// Where to go: steps side by side, or nowhere (the branch ends).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) steps: Vec<usize>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) plain: Option<String>,
    pub(crate) place: Place,
    /// What the file says of it, for comparing versions.
    pub(crate) said: Node,
    pub(crate) kind: Arc<dyn StepKind>,
}

/// Words and channels of a message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) title: String,
    pub(crate) words: Template,
    pub(crate) channels: Vec<Channel>,
    pub(crate) email: Option<(Template, Template)>,
    pub(crate) sms: Option<Template>,
    pub(crate) voice: Option<Template>,
    /// The number of a recording, of those that the partner has who calls.
    pub(crate) script: Option<String>,
    pub(crate) urgency: Urgency,
    /// Why it can't wait, where it can't at all.
    pub(crate) because: Option<String>,
    /// When it may go out, where it has such hours of its own.
    pub(crate) window: Option<Window>,
    /// What becomes of it where the patient is in hospital, if the file says it.
    pub(crate) while_admitted: Option<WhileAdmitted>,
    /// The same in other languages.
    pub(crate) translations: Vec<Translation>,
}

impl Message {
    /// What becomes of it where the patient is in hospital when it would leave.
    pub(crate) fn while_admitted(&self) -> WhileAdmitted {
        self.while_admitted.unwrap_or(match self.urgency {
            Urgency::Clinical => WhileAdmitted::Send,
            Urgency::Routine | Urgency::Important => WhileAdmitted::Hold,
        })
    }
}

/// A channel of the language.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// E-mail with a link.
    Email,
    /// A text message with a link.
    Sms,
    /// A notification on the patient's own devices, with words of ours alone.
    Push,
    /// A letter, printed and posted by a partner.
    Letter,
    /// A telephone call by a partner, with words that are spoken.
    Voice,
    /// The portal's inbox.
    Portal,
}

impl Channel {
    /// As the language and people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Push => "push",
            Self::Letter => "letter",
            Self::Voice => "voice",
            Self::Portal => "portal",
        }
    }
}

impl Channel {
    /// That with this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [
            Self::Email,
            Self::Sms,
            Self::Push,
            Self::Letter,
            Self::Voice,
            Self::Portal,
        ]
        .into_iter()
        .find(|channel| channel.name() == name)
    }
    /// As patients choose it, where it reaches out.
    pub(crate) fn reach(self) -> Option<Via> {
        match self {
            Self::Email => Some(Via::Email),
            Self::Sms => Some(Via::Sms),
            Self::Push => Some(Via::Push),
            Self::Letter => Some(Via::Letter),
            Self::Voice => Some(Via::Voice),
            Self::Portal => None,
        }
    }
    /// The outbox channel that messages leave by, if they do.
    pub(crate) fn outbox(self) -> Option<u16> {
        match self {
            Self::Email => Some(trust::outgoing::CHANNEL_EMAIL),
            Self::Sms => Some(trust::outgoing::CHANNEL_SMS),
            Self::Push => Some(trust::outgoing::CHANNEL_PUSH),
            Self::Letter => Some(trust::outgoing::CHANNEL_LETTER),
            Self::Voice => Some(trust::outgoing::CHANNEL_VOICE),
            Self::Portal => None,
        }
    }
}

/// A way out of a step, for graph and checker.
pub(crate) struct Way<'a> {
    pub(crate) label: String,
    pub(crate) target: &'a Target,
    /// Whether it can be gone without any waiting, as far as loops are concerned.
    pub(crate) at_once: bool,
}

impl Step {
    /// What a patient's wishes are asked about one of its messages.
    pub(crate) fn sort(&self, which: Which) -> Option<Sort> {
        let message = self.kind.message_of(which)?;
        Some(Sort {
            topic: self.kind.topic(),
            pressing: match message.urgency {
                Urgency::Routine => Pressing::Routine,
                Urgency::Important => Pressing::Important,
                Urgency::Clinical => Pressing::Clinical,
            },
        })
    }
    /// The kind's name.
    pub(crate) fn kind_name(&self) -> &'static str {
        self.kind.table().name
    }
    /// The ways out, in reading order. Labels are those of the engine, so that counts fit edges.
    pub(crate) fn ways(&self) -> Vec<Way<'_>> {
        self.kind.ways()
    }
    /// Words that the patient sees here; what is filled in for each stands in brackets.
    pub(crate) fn words(&self) -> Option<String> {
        let show = |template: &Template| {
            template
                .pieces
                .iter()
                .map(|piece| match piece {
                    crate::template::Piece::Text(text) => text.clone(),
                    crate::template::Piece::Variable { name, .. } => match name.as_str() {
                        "patient.given" => "[first name]".to_owned(),
                        "patient.family" => "[last name]".to_owned(),
                        name => format!("[{}]", name.replace(['.', '_'], " ")),
                    },
                })
                .collect::<String>()
        };
        self.kind
            .shown()
            .map(|(title, words)| format!("{title}\n{}", show(words)))
    }
}

impl Definition {
    /// A step by id.
    pub(crate) fn step(&self, id: &str) -> Option<&Step> {
        self.index.get(id).and_then(|index| self.steps.get(*index))
    }
    /// When the message of a step may go out, where it has hours of its own.
    pub(crate) fn window(&self, id: &str, which: Which) -> Option<&Window> {
        self.step(id)?.kind.message_of(which)?.window.as_ref()
    }
    /// The languages that its messages are there in.
    pub(crate) fn languages(&self) -> Vec<String> {
        let messages = self.steps.iter().flat_map(|step| step.kind.messages());
        let others = messages.flat_map(|(_, message)| &message.translations);
        let others = others.map(|other| other.language.clone());
        std::iter::once(self.language.clone())
            .chain(others)
            .collect()
    }
    /// What a patient's wishes are asked about a message of a step.
    pub(crate) fn sort(&self, id: &str, which: Which) -> Option<Sort> {
        self.step(id)?.sort(which)
    }
    /// Compiles a checked file as a version.
    ///
    /// # Errors
    /// The checker's errors, when there are some.
    pub fn compile(source: &str, version: u32) -> Result<Arc<Self>, Vec<crate::Finding>> {
        let (definition, findings) = crate::check::compile(source);
        match definition {
            Some(mut definition) if findings.iter().all(|finding| !finding.error) => {
                definition.version = version;
                Ok(Arc::new(definition))
            }
            _ => Err(findings
                .into_iter()
                .filter(|finding| finding.error)
                .collect()),
        }
    }
    /// The resource types that it goes by, and makes for the patient to read.
    pub(crate) fn about(&self) -> Vec<ResourceType> {
        let mut kinds = self.kinds();
        kinds.extend([ResourceType::Communication, ResourceType::Patient]);
        // What stands in the file for an analysis alone is no matter of care.
        let watched = self.watched().into_iter();
        let named = watched.filter_map(|place| self.segments.get(place));
        kinds.extend(named.chain(self.begins_by()).flat_map(Segment::kinds));
        kinds.extend(
            self.steps
                .iter()
                .filter_map(|step| match step.kind.asks()? {
                    Question::Has(kind, _) => Some(*kind),
                    Question::Coverage => Some(ResourceType::Coverage),
                    Question::Eligible => Some(ResourceType::CoverageEligibilityResponse),
                    Question::Consent(_) => None,
                }),
        );
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
    /// What it does, as consents are asked about it.
    pub(crate) fn act(&self, known_as: Vec<String>) -> trust::consent::Act {
        trust::consent::Act {
            purpose: self.purpose,
            about: self.about(),
            known_as,
        }
    }
    /// The resource types whose events can mean something to this journey.
    pub(crate) fn kinds(&self) -> Vec<ResourceType> {
        let mut kinds = vec![ResourceType::Consent];
        kinds.extend(self.asked_of());
        for step in &self.steps {
            kinds.extend(step.kind.types());
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The resource types of which something is asked, whoever writes them: by whom it is for, and by conditions on
    /// events.
    fn asked_of(&self) -> impl Iterator<Item = ResourceType> {
        let conditions = self.conditions.iter().map(|condition| condition.kind);
        self.begins_of().chain(conditions)
    }

    /// The resource types by which it begins: that of the entry, and those that whom it is for is known by.
    pub(crate) fn begins_of(&self) -> impl Iterator<Item = ResourceType> {
        let who = self.entry.who.iter().filter_map(|who| match who {
            Who::Has { kind, .. } => Some(*kind),
            Who::This(_) => None,
        });
        self.entry.kind().into_iter().chain(who)
    }

    /// Whether of a type only what others write means something to this journey. What became of a message that a move
    /// hands out or refuses, the move itself says; later, whoever delivers it.
    pub(crate) fn is_told_by_others(&self, kind: ResourceType) -> bool {
        kind == ResourceType::Communication && self.asked_of().all(|one| one != kind)
    }
}

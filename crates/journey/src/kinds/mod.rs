//! The kinds of steps, each whole in a file of its own: its table of the language, what it is compiled
//! to, its ways out, its checks, what the engine does at it, its words and the resources it makes.
//!
//! Everything else asks through [`StepKind`] and knows no kind by name. A new kind is a file here and a
//! line in [`KINDS`]. What is stored of a place is [`crate::state::Stand`], which all programs beside each
//! other read; that is why it isn't here.

mod ask;
mod book;
mod branch;
mod call;
mod check;
mod exit;
mod goal;
mod journey;
mod observe;
mod parallel;
mod repeat;
mod send;
mod split;
mod task;
mod wait;

pub(crate) use ask::ByReply;
pub(crate) use call::{
    classes_of_value, is_order as is_call, learnt as learnt_of_call, rules as call_rules,
    table as call_table,
};
pub(crate) use check::{NOT_LOOKED_AT, Question};
pub(crate) use observe::{Observe, Rule};

use crate::check::Check;
use crate::definition::{Channel, Definition, Message, Step, Target, Way};
use crate::engine::{Calendar, Effect, Engine, EngineError, Fact, Ids};
use crate::resources::Maker;
use crate::room::Urgency;
use crate::segments::Membership;
use crate::spec;
use crate::state::{Late, Owed, Stand, State, Token, What, Which};
use crate::template::Template;
use crate::time::Moment;
use crate::watch::Watch;
use crate::words;
use crate::yaml::{Node, Place};
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use std::collections::BTreeSet;
use trust::consent::Topic;
use trust::partners::DataClass;

/// Whether a record is the body of a call, or that of a connector, which people don't read.
pub(crate) fn goes_outside(record: &'static spec::Record) -> bool {
    let calls = [&call_table::CALL, &call_table::CALL_OF_A_CONNECTOR];
    calls.into_iter().any(|call| std::ptr::eq(call, record))
}

/// All step kinds, in the order of the reference.
pub(crate) static KINDS: &[&spec::Kind] = &[
    &send::KIND,
    &ask::KIND,
    &wait::KIND,
    &observe::KIND,
    &goal::KIND,
    &branch::KIND,
    &check::KIND,
    &split::KIND,
    &task::KIND,
    &book::KIND,
    &call::KIND,
    &parallel::KIND,
    &repeat::KIND,
    &journey::KIND,
    &exit::KIND,
];

/// Where a message stands that is a step's own part of the file as a whole.
const WHOLE: &[&str] = &[];

/// What is waited for at a place, in words.
pub(crate) struct Waiting {
    /// To staff.
    pub(crate) what: String,
    /// To the patient; empty if it is none of their concern.
    pub(crate) plain: String,
    pub(crate) until_ms: Option<u64>,
}

/// What is planned, in words.
pub(crate) struct Plan {
    /// To staff.
    pub(crate) what: String,
    /// To the patient; empty if it is none of their concern.
    pub(crate) plain: String,
}

/// Whom a step calls.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The partner, by name.
    pub(crate) partner: String,
}

/// A rule over measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruled<'a> {
    /// LOINC code of what it is about.
    pub(crate) code: &'a str,
    /// Whether it is about there being none.
    pub(crate) silence: bool,
    /// How long its window is, where it compares readings; of a silence, how long that is.
    pub(crate) within_ms: Option<u64>,
    /// When it stops watching, if not with the journey.
    pub(crate) until: Option<&'a Moment>,
    /// What it starts.
    pub(crate) then: &'a Target,
}

/// What becomes of a place when another version of the journey leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It is as it was, and its times are those of the other version.
    As,
    /// What is open there is called off, and the step begins anew.
    Anew,
    /// Something is under way that has to end first; what, in words.
    Later(&'static str),
    /// It can't be told what it would be there; why, in words.
    Not(&'static str),
}

/// A step of one kind: all that the rest of the crate asks of it. What a kind has nothing to say to, it
/// leaves as it is here.
pub(crate) trait StepKind: std::fmt::Debug + std::marker::Send + Sync {
    // The language and its graph.

    /// Its table of the language.
    fn table(&self) -> &'static spec::Kind;
    /// The ways out, in reading order. Labels are those of the engine, so that counts fit edges.
    fn ways(&self) -> Vec<Way<'_>>;
    /// Members that it gives to what the journey has learnt, and what each may be. Whoever reads what was published
    /// before goes by the names alone.
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        Vec::new()
    }
    /// The resource types whose events can mean something to it.
    fn types(&self) -> &'static [ResourceType] {
        &[]
    }
    /// Whether it watches from the journey's start beside everything else, so that nobody goes to it.
    fn watches(&self) -> bool {
        false
    }
    /// The condition on an event by which it is reached, once, from wherever the patient is: an index into
    /// [`Definition::conditions`].
    fn aims(&self) -> Option<usize> {
        None
    }
    /// Whether it is work for staff.
    fn is_work(&self) -> bool {
        false
    }
    /// Whether it is about a risk for the patient: what it sends, or asks of staff, can't wait.
    fn cannot_wait(&self) -> bool {
        let mut messages = self.messages().into_iter();
        messages.any(|(_, message)| message.urgency == Urgency::Clinical)
    }
    /// The rule over measurements that it is.
    fn rule(&self) -> Option<Ruled<'_>> {
        None
    }
    /// The ways by which it is left when something that can't wait was not seen by whom it is for.
    fn unseen(&self) -> Vec<Way<'_>> {
        Vec::new()
    }
    /// Whether its way with this label starts a branch beside the place, which stays. Other kinds have ways whose labels
    /// are their authors' own.
    fn starts_branch(&self, label: &str) -> bool {
        self.watches() && label == crate::passages::FIRES
    }
    /// The way by which somebody comes to read what the patient wrote that is no answer.
    fn unread_way(&self) -> Option<Way<'_>> {
        None
    }
    /// Whether it is left by this way because time had run out before what it waits for came.
    fn ran_out(&self, _label: &str) -> bool {
        false
    }
    /// Whether it is left by this way because a patient did not come.
    fn missed(&self, _label: &str) -> bool {
        false
    }
    /// Members that it gives by which somebody may be seen to be at risk, as far as that can be told.
    fn tells_risk(&self) -> Vec<&str> {
        Vec::new()
    }
    /// Whether a person outside comes to see the patient by it, or another journey or partner goes on with it.
    fn hands_on(&self) -> bool {
        let visit = |(kind, _): (ResourceType, &str)| kind == ResourceType::Appointment;
        self.is_work()
            || self.calls().is_some()
            || self.begins().is_some()
            || self.makes().is_some_and(visit)
    }
    /// Whether the patient answers it.
    fn is_answered(&self) -> bool {
        false
    }
    /// What it asks of the record.
    fn asks(&self) -> Option<&Question> {
        None
    }
    /// The journey that it begins, by name.
    fn begins(&self) -> Option<&str> {
        None
    }
    /// Whom it calls outside.
    fn calls(&self) -> Option<&Outside> {
        None
    }
    /// What it tells whom it calls: where each value stands in its part of the file, and its data classes.
    fn tells(&self, _: &Definition) -> Vec<(Vec<&str>, BTreeSet<DataClass>)> {
        Vec::new()
    }
    /// What a member that it gives tells of a person.
    fn class_of(&self, _member: &str) -> DataClass {
        DataClass::Health
    }
    /// Whether what it has called a partner for can be taken back.
    fn can_be_taken_back(&self) -> bool {
        false
    }
    /// Branches that it waits for, and where it leads when all have ended.
    fn branches(&self) -> Option<(&[Target], &Target)> {
        None
    }
    /// What is gone through before its place is left, and where it may lead after that.
    fn encloses(&self) -> Option<(&[Target], Vec<&Target>)> {
        let (branches, next) = self.branches()?;
        Some((branches, vec![next]))
    }
    /// The experiment that it draws for, and its arms with their weights.
    fn experiment<'a>(&'a self, _step: &'a Step) -> Option<(&'a str, Vec<(&'a str, u64)>)> {
        None
    }
    /// Whether it ends the journey.
    fn ends(&self) -> bool {
        false
    }
    /// Whether it may end the journey, with the step's id as what is told of it.
    fn may_end(&self) -> bool {
        self.ends()
    }

    // The checker.

    /// Finds what is wrong with it.
    fn check(&self, _check: &mut Check<'_, '_>, _step: &Step) {}
    /// Its moments, and where they stand in the file.
    fn moments(&self, _check: &Check<'_, '_>, _step: &Step) -> Vec<(&Moment, Place)> {
        Vec::new()
    }
    /// How long after coming here this way is gone at the latest; nothing where nobody can know.
    fn leaves_within(&self, _: &Definition, _label: &str) -> Option<u64> {
        None
    }
    /// When this way is gone at the earliest by who comes here so long after the journey's start, as far as is known.
    fn arrives(&self, _: &Definition, _label: &str, here_ms: u64) -> u64 {
        here_ms
    }
    /// How many rounds begin within so long, of what goes round.
    fn rounds_within(&self, _length_ms: u64) -> u32 {
        1
    }
    /// What it sends, and how long after somebody comes here.
    fn sends(&self) -> Vec<(&Message, u64)> {
        self.message()
            .map(|message| (message, 0))
            .into_iter()
            .collect()
    }
    /// The moment that is waited for here, if the file doesn't say what happens when it is past.
    fn comes_to_late(&self) -> Option<&Moment> {
        None
    }
    /// Whether a variable of its own time has a meaning in its words (`due.day`, `visit.time`, ...).
    fn has_time(&self, _variable: &str) -> bool {
        false
    }

    // The engine.

    /// What is waited for by who has just come.
    fn stand(&self, _definition: &Definition, _state: &State, _now_ms: u64) -> Stand {
        Stand::Waiting
    }
    /// The resource that somebody acts on here, and the name that its id is made from.
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        None
    }
    /// The resource that somebody acts on at a place now, and the name that its id is made from.
    fn acts_on(&self, _token: &Token) -> Option<(ResourceType, String)> {
        let (kind, slot) = self.makes()?;
        Some((kind, slot.to_owned()))
    }
    /// Does what is to be done when a patient comes here.
    fn enter(&self, _engine: &mut Engine<'_>, _step: &Step, _n: u32) {}
    /// Does what follows when it was told whether what it asks is so.
    fn seen(&self, _engine: &mut Engine<'_>, _step: &Step, _n: u32, _holds: bool) {}
    /// Does what follows when all that it had begun has come to its end.
    fn joined(&self, _engine: &mut Engine<'_>, _step: &Step, _n: u32) {}
    /// When a place here wants to be woken, by name.
    fn timers(
        &self,
        _definition: &Definition,
        _state: &State,
        _token: &Token,
    ) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// Does what is due.
    fn due(
        &self,
        _engine: &mut Engine<'_>,
        _step: &Step,
        token: &Token,
        _slot: &str,
    ) -> Result<(), EngineError> {
        Err(EngineError::NoStep(token.step.clone()))
    }
    /// Whether a fact is about what is waited for at a place here.
    fn claims(&self, _engine: &Engine<'_>, _token: &Token, _fact: &Fact) -> bool {
        false
    }
    /// Does what follows from a fact that it claimed.
    fn told(&self, _engine: &mut Engine<'_>, _step: &Step, _token: &Token, _fact: &Fact) {}
    /// Whether a fact is about what was given up on here.
    fn claims_late(&self, _engine: &Engine<'_>, _late: &Late, _fact: &Fact) -> bool {
        false
    }
    /// Does what follows from a fact that came late.
    fn told_late(&self, _engine: &mut Engine<'_>, _step: &Step, _late: &Late, _fact: &Fact) {}
    /// Gives somebody what a patient wrote that is no answer.
    fn unread(&self, _engine: &mut Engine<'_>, _step: &Step) {}
    /// The conditions on events that are waited for here: indices into [`Definition::conditions`].
    fn awaits(&self) -> Vec<usize> {
        Vec::new()
    }
    /// The segments that are waited for here.
    fn segments(&self) -> Vec<Membership> {
        Vec::new()
    }
    /// Does what follows for a place that waits when these conditions hold of an event, or when a form was
    /// answered by it.
    fn heard(&self, _engine: &mut Engine<'_>, _n: u32, _holds: &[usize]) {}
    /// Remembers a measurement, if it watches for such.
    fn measured(&self, _engine: &mut Engine<'_>, _step: &Step, _fact: &Fact) {}
    /// Looks whether what it watches for has happened; if so, starts what follows.
    fn look(&self, _engine: &mut Engine<'_>, _step: &Step) -> bool {
        false
    }
    /// When what it watches for wants to be looked at though nothing was measured.
    fn watch_timer(&self, _: &Definition, _: &State, _watch: &Watch) -> Option<u64> {
        None
    }
    /// Does what follows when it was reached.
    fn reached(&self, _engine: &mut Engine<'_>, _step: &Step) {}
    /// The LOINC code of the measurements that it compares, and how long ago they may be.
    fn compares(&self) -> Option<(&str, u64)> {
        None
    }
    /// The ways on that somebody can send a place here, as if what it waits for were done.
    fn skips(&self, stand: &Stand) -> Vec<Way<'_>> {
        match stand {
            // What it waits for stands there itself.
            Stand::Joining { .. } | Stand::Repeating { .. } => Vec::new(),
            _ => self.ways(),
        }
    }
    /// Leaves a place by such a way. What was open there is closed already.
    fn skip(&self, engine: &mut Engine<'_>, _step: &Step, token: &Token, way: &Way<'_>) {
        engine.leave(token.n, &way.label, way.target);
    }
    /// Ends a place when the journey does, or when somebody leads it on.
    fn close(&self, _engine: &mut Engine<'_>, _token: &Token, _why: &str, _close_tasks: bool) {}
    /// Ends what was given up on here when the journey does.
    fn close_late(&self, _engine: &mut Engine<'_>, _late: &Late, _why: &str) {}

    /// Holds back what a place has under way outside, where a journey is held.
    fn held(&self, _engine: &mut Engine<'_>, _token: &Token) {}
    /// Lets that go on.
    fn let_go(&self, _engine: &mut Engine<'_>, _step: &Step, _token: &Token) {}
    /// Takes back what a partner was called for at a place, behind what is taken back before it. The `Task` of that.
    fn take_back(
        &self,
        _engine: &mut Engine<'_>,
        _step: &Step,
        _owed: Owed,
        _after: Option<String>,
    ) -> Option<String> {
        None
    }

    // Other versions.

    /// What becomes of who is at a place here when another version leads on, where `after` says what `before`,
    /// this step, says here. Both are of this kind; where they lead may differ.
    fn carried(&self, _stand: &Stand, _before: &Node, _after: &Node) -> Carried {
        Carried::As
    }
    /// Sees to a place that went along to this step, where `before` said something else.
    fn taken_over(&self, _engine: &mut Engine<'_>, _step: &Step, _n: u32, _before: &Node) {}
    /// Whether what it has seen of a patient is what `after` would have seen.
    fn keeps_watch(&self, _before: &Node, _after: &Node) -> bool {
        true
    }

    // Messages.

    /// What it sends, where all of that goes by the same channels.
    fn message(&self) -> Option<&Message> {
        None
    }
    /// What its messages are about.
    fn topic(&self) -> Topic {
        Topic::Care
    }
    /// All that it sends, each with where it stands in the step's own part of the file.
    fn messages(&self) -> Vec<(&'static [&'static str], &Message)> {
        self.message()
            .map(|message| (WHOLE, message))
            .into_iter()
            .collect()
    }
    /// That of its messages which has these words.
    fn message_of(&self, _which: Which) -> Option<&Message> {
        self.message()
    }
    /// Words and heading of one of its messages.
    fn wording(&self, _which: Which) -> Option<(&Template, String)> {
        self.message()
            .map(|message| (&message.words, message.title.clone()))
    }
    /// Of a form that is answered by replying to its text message: what follows the words of that in a language, and what
    /// is said to a reply that is no answer.
    fn by_reply(&self, _language: &str) -> Option<ByReply<'_>> {
        None
    }
    /// By when somebody has to act at a place here, where its messages say so.
    fn by_ms(&self, _definition: &Definition, _state: &State, _token: &Token) -> Option<u64> {
        None
    }
    /// Its messages that are under way, with the places of their channels.
    fn under_way(&self, _stand: &Stand) -> Vec<(Which, u8)> {
        Vec::new()
    }
    /// The entry in the patient's calendar of a visit that is booked here, where messages bring one.
    fn calendar(&self, _stand: &Stand) -> Option<Calendar> {
        None
    }
    /// Notes that a message goes out by the channel at a place, and says until when it may.
    fn goes_out(
        &self,
        _stand: &mut Stand,
        _which: Which,
        _channel: u8,
        _since_ms: u64,
        _now_ms: u64,
    ) -> Option<u64> {
        None
    }
    /// Does what follows when a message was delivered.
    fn delivered(&self, _engine: &mut Engine<'_>, _step: &Step, _n: u32, _channel: Channel) {}
    /// Does what follows when no channel is left for a message.
    fn undelivered(&self, _engine: &mut Engine<'_>, _n: u32, _which: Which) {}

    // Words.

    /// Heading and words that the patient sees here.
    fn shown(&self) -> Option<(&str, &Template)> {
        self.message()
            .map(|message| (message.title.as_str(), &message.words))
    }
    /// What the patient is told when it is ahead. Empty if it is none of their concern.
    fn promise(&self) -> String {
        String::new()
    }
    /// What is waited for at a place here.
    fn waiting(&self, _definition: &Definition, _state: &State, _token: &Token) -> Option<Waiting> {
        None
    }
    /// What is watched for beside everything else.
    fn watching(&self, _definition: &Definition, _state: &State, _step: &Step) -> Option<Waiting> {
        None
    }
    /// That somebody came here; `None` where the next entry says it better.
    fn entered(&self, _title: &str) -> Option<String> {
        None
    }
    /// That somebody left; `None` where another entry says it better.
    fn left(&self, title: &str, label: &str) -> Option<String> {
        Some(words::left(title, label))
    }
    /// What is said of an entry that lies ahead.
    fn plan(&self, _step: &Step, _what: &What) -> Option<Plan> {
        None
    }
    /// What has been arranged at a place here, and when it will be.
    fn arranged(
        &self,
        _definition: &Definition,
        _step: &Step,
        _token: &Token,
    ) -> Option<(u64, Plan)> {
        None
    }

    // Resources.

    /// Whether what it makes may name the patient.
    fn names_patient(&self) -> bool {
        false
    }
    /// The resource that an effect of it opens.
    fn resource(
        &self,
        _maker: &Maker<'_>,
        _ids: &dyn Ids,
        _step: &Step,
        _effect: &Effect,
    ) -> Option<Resource> {
        None
    }
    /// The call to a partner that an effect of it makes; nothing where a value that it needs is not there.
    fn order(
        &self,
        _maker: &Maker<'_>,
        _step: &Step,
        _effect: &Effect,
    ) -> Option<trust::outgoing::Call> {
        None
    }
    /// Its form, which is published with the journey.
    fn questionnaire(
        &self,
        _definition: &Definition,
        _version: u32,
        _step: &Step,
        _id: &str,
        _now_ms: u64,
    ) -> Option<Resource> {
        None
    }
}

/// Whether two steps of one kind say the same of these members.
fn same_of(before: &Node, after: &Node, kind: &str, members: &[&str]) -> bool {
    let of = |step: &Node, name: &str| step.get(kind).and_then(|body| body.get(name)).cloned();
    members
        .iter()
        .all(|name| crate::diff::same(of(before, name).as_ref(), of(after, name).as_ref()))
}

/// A way out with its label.
fn way<'a>(label: &str, target: &'a Target, at_once: bool) -> Way<'a> {
    Way {
        label: label.to_owned(),
        target,
        at_once,
    }
}

//! The language as tables: every object, its members, their shapes and what they mean.
//!
//! The checker, the JSON Schema and the reference page are all made from these tables, so they
//! can't disagree. The tables of the step kinds are with the kinds.

mod connectors;
mod segments;
mod steps;

pub(crate) use crate::kinds::KINDS;
pub(crate) use connectors::SHARED_CONNECTORS;
pub(crate) use segments::{MEMBERSHIP, SHARED};
pub(crate) use steps::{
    BECAUSE, CHANNELS, EMAIL_MEMBER, OPEN_TASKS, PRIORITIES, REPLY, ROLES, SMS_MEMBER, STEP_COMMON,
    TOPIC, TRANSLATION, TRANSLATION_OF_A_CONFIRMATION, TRANSLATION_OF_A_PROPOSAL,
    TRANSLATION_OF_A_VISIT, TRANSLATIONS, TRANSLATIONS_OF_A_FORM, URGENCY, VOICE_MEMBER,
    WHILE_ADMITTED,
};

use crate::decode::build::Parts;
use crate::kinds::StepKind;
use crate::kinds::call_table::{CALL_OF_A_CONNECTOR, INPUT, TAKES_BACK, TOLD, TOLD_BACK};
use std::sync::Arc;

/// Shape of a member's value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// One line of plain text for staff and lists.
    Line,
    /// Words with variables.
    Words(Clearance),
    /// `lower-case-with-hyphens`.
    Name,
    /// A length of time.
    Duration,
    /// A point in time that hangs on an anchor.
    Moment,
    /// The same at which a journey begins, in calendar years and months too.
    Begins,
    /// A length of calendar time.
    Span,
    /// A FHIRPath expression.
    Path(Focus),
    /// Where to go: a step, several steps side by side, or `end`.
    Target,
    /// An IANA time zone.
    Zone,
    /// A time of day.
    Clock,
    /// A LOINC code.
    Loinc,
    /// A UCUM unit.
    Unit,
    /// A FHIR R4 resource type.
    Resource,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number greater than zero.
    Positive,
    /// `true` or `false`.
    Flag,
    /// One of these values (value, meaning).
    Choice(&'static [(&'static str, &'static str)]),
    /// A list with at least one item.
    List(&'static Shape),
    /// A map from identifiers of this kind.
    Map(&'static str, &'static Shape),
    /// An object.
    Record(&'static Record),
    /// A target or an object.
    TargetOr(&'static Record),
    /// A language (BCP 47).
    Language,
    /// A map from languages.
    Languages(&'static Record),
    /// The map of steps.
    Steps,
}

/// Where words may be shown, which decides what may stand in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clearance {
    /// Behind the patient's login or to staff: everything may be named.
    Closed,
    /// On an open channel: nothing that tells of a person's health.
    Open,
    /// On the telephone, which is open too; and what is spoken has no link.
    Spoken,
}

impl Clearance {
    /// Whether others than the patient may see or hear it.
    pub(crate) fn is_open(self) -> bool {
        self != Self::Closed
    }
}

/// What a FHIRPath expression is evaluated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    /// A FHIR resource.
    Resource,
    /// What the journey has learnt: one member per step.
    Facts,
    /// What a partner answers.
    Answer,
}

/// A member of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) doc: &'static str,
}

/// An object.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) fields: &'static [Field],
    /// Exactly one of these members must be there; empty when there is no such rule.
    pub(crate) one_of: &'static [&'static str],
}

/// A step kind: its body, and the ways out, which stand beside the body.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) body: Shape,
    pub(crate) ways: &'static [Field],
    pub(crate) example: &'static str,
    /// Makes a step of it from a file of the right form.
    pub(crate) decode: fn(&mut Parts<'_>) -> Option<Arc<dyn StepKind>>,
}

pub(crate) const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field {
        name,
        shape,
        required: true,
        doc,
    }
}
pub(crate) const fn may(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field {
        name,
        shape,
        required: false,
        doc,
    }
}

/// Name of the target that ends a branch.
pub(crate) const END: &str = "end";
/// The record that says what starts a journey.
pub(crate) const ENTRY: &str = "entry";
/// The record of a call to a partner.
pub(crate) const CALL: &str = "call";
/// Name of the anchor that every journey has.
pub(crate) const START_ANCHOR: &str = "start";

static WHO: Record = Record {
    name: "who",
    doc: "For whom the journey is: `any` of these must hold.",
    one_of: &[],
    fields: &[must(
        "any",
        Shape::List(&Shape::Record(&WHO_ITEM)),
        "Conditions; one is enough.",
    )],
};

static WHO_ITEM: Record = Record {
    name: "condition",
    doc: "A condition on the entry event or on the patient's record.",
    one_of: &["this", "has"],
    fields: &[
        may(
            "this",
            Shape::Path(Focus::Resource),
            "What must hold of the entry event's resource; a request has none.",
        ),
        may(
            "has",
            Shape::Resource,
            "The patient's record has a resource of this type ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "... of which this holds.",
        ),
    ],
};

static REQUEST: Record = Record {
    name: "request",
    doc: "People or systems may start the journey for a patient, each time with a key of their own: the same key again is the same request, and starts nothing more. Whom the journey is for (`who`), consents and the exits are asked as ever; what keeps it from starting is told to who asked.",
    one_of: &[],
    fields: &[
        must(
            "by",
            Shape::List(&Shape::Choice(&[
                ("clinician", "Clinicians."),
                ("coordinator", "Care coordinators."),
                ("system", "Other systems that are registered here."),
            ])),
            "Who may, as far as policies let them.",
        ),
        may(
            "asks",
            Shape::Map("anchor", &Shape::Line),
            "The times that a request has to give, each with what it is in words: an anchor of the journey. Beside an `event` they are those of `anchors`.",
        ),
    ],
};

static DATE: Record = Record {
    name: "date",
    doc: "The journey begins at a date that the record says, and not when that is written. The date is looked at again whenever the resource is written: it moves with it, and is called off when the resource is deleted, its condition no longer holds, or the patient has died. It comes by a timer, so a server that was down then begins it later. Whom it is for (`who`), `again`, consents and the exits are asked when the date comes; what keeps it from beginning is written down on the patient's page, and it doesn't begin by that date any more. Patients who are in the record when the journey goes live are taken in as well.",
    one_of: &[],
    fields: &[
        must(
            "of",
            Shape::Resource,
            "Resources of this type say the date, `Patient` for a birthday ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "... those of which this holds; all if not given.",
        ),
        must(
            "begins",
            Shape::Begins,
            "When it begins: an anchor of `anchors`, with a distance. Days, weeks, months and years are counted by the calendar of the patient's own time zone (the extension `tz-code` of the patient or of an address), or else the journey's. Without a time of day a day begins at midnight. A date that a year doesn't have is the last one of its month: who was born on 29 February has a birthday on the 28th in other years.",
        ),
        may(
            "every",
            Shape::Choice(&[(
                "year",
                "It begins again each year, counted from the date itself; with `per: date`.",
            )]),
            "Whether the date comes again.",
        ),
        must(
            "past_due",
            Shape::Choice(&[
                ("run", "It begins at once."),
                (
                    "skip",
                    "It doesn't begin. Of a date that comes each year that is nothing to tell; else it is written down.",
                ),
                (
                    "escalate",
                    "It begins at once, at the step `late`, which is a task for staff.",
                ),
            ]),
            "What happens when the date is past already when it is learnt, because it was written down late or the journey went live later. `within` says how long past it may be for `run` and `escalate`; what is older is as with `skip`. Of dates that come each year only the latest is looked at.",
        ),
        may(
            "late",
            Shape::Target,
            "Where it begins with `past_due: escalate`.",
        ),
    ],
};

static AGAIN: Record = Record {
    name: "again",
    doc: "When a patient who has taken the journey may take it again, in whichever version; what was started in error doesn't count. It is asked after `while_running`. What it refuses doesn't begin later either: that is written down on the patient's page, and who asked for it is told.",
    one_of: &[],
    fields: &[
        may(
            "after",
            Shape::Duration,
            "Not within so long after the last time.",
        ),
        may(
            "since",
            Shape::Choice(&[("ended", "From its end."), ("began", "From its beginning.")]),
            "From when `after` is counted; `ended` if not given.",
        ),
        may(
            "at_most",
            Shape::Integer(2, 1000),
            "So many times in a patient's life; for once there is `per: patient`.",
        ),
    ],
};

static ENTRY_RULE: Record = Record {
    name: ENTRY,
    doc: "What starts the journey: an `event`, a `date`, a `segment`, a `request`, or a request besides one of the others. When the resource turns out to be no entry (it is deleted, or the condition no longer holds of it, as when it was entered in error), the journey ends as *started in error*; should it be one again later, the journey starts anew.",
    one_of: &[],
    fields: &[
        may(
            "event",
            Shape::Resource,
            "A resource of this type was written to the patient's record ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "... of which this holds. Needed beside `event`.",
        ),
        may(
            "date",
            Shape::Record(&DATE),
            "A date that the record says has come.",
        ),
        may(
            "segment",
            Shape::Line,
            "The patient comes into this segment, by what is written or by time alone. Once for each time that they come into it (`per: event`), or once in a life. Patients who are in it when the journey goes live begin then. Whom it is for (`who`), `again`, consents and the exits are asked as for dates.",
        ),
        may("request", Shape::Record(&REQUEST), "Somebody asks for it."),
        may(
            "anchors",
            Shape::Map("anchor", &Shape::Path(Focus::Resource)),
            "Needed beside `event` and `date`: times in that resource that moments hang on. When the resource is corrected, what still waits moves along. `start`, the time when the journey began, is always there.",
        ),
        may(
            "within",
            Shape::Duration,
            "How long ago the first anchor may be at most; older events (an imported history) start nothing, and no request with an older time is taken. Beside `date`: how long the beginning may be past when it is learnt.",
        ),
        must(
            "per",
            Shape::Choice(&[
                (
                    "event",
                    "Once for each resource of the entry type (a later stay in hospital starts the journey again), for each time that the patient comes into the segment, and for each key of a request.",
                ),
                (
                    "date",
                    "Once for each date of each resource that says one: a visit that is moved after its journey began starts it again at the new date.",
                ),
                ("patient", "Once in a patient's life."),
            ]),
            "How often one patient may take this journey.",
        ),
        may(
            "while_running",
            Shape::Choice(&[
                (
                    "skip",
                    "It starts nothing; a patient takes a journey once at a time.",
                ),
                (
                    "beside",
                    "It starts the journey again beside the one under way; the patient gets the messages of both.",
                ),
            ]),
            "What a further entry event, date or request does while the patient is in this journey; `skip` if not given. What starts nothing is written down on the patient's page. An exit rule that the event fulfils comes first.",
        ),
        may(
            "again",
            Shape::Record(&AGAIN),
            "When a patient may take it again.",
        ),
        may(
            "who",
            Shape::Record(&WHO),
            "For whom; everybody with the event or request if not given.",
        ),
    ],
};

static EXIT_RULE: Record = Record {
    name: "exit rule",
    doc: "An event, or a segment, that ends the journey from wherever the patient is.",
    one_of: &["event", "segment", "consent"],
    fields: &[
        must("title", Shape::Line, "Why, as shown in lists."),
        may(
            "event",
            Shape::Resource,
            "A resource of this type was written to the patient's record (never the one that started the journey) ...",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "... of which this holds.",
        ),
        may(
            "segment",
            Shape::Record(&MEMBERSHIP),
            "The patient is in a segment, or is not. Where that is so already when the journey would start, it doesn't begin by a date, a segment or a request, and ends at once that an event begins.",
        ),
        may(
            "consent",
            Shape::Choice(&[(
                "withdrawn",
                "The patient's consents no longer allow the journey's purpose.",
            )]),
            "A change of consent.",
        ),
        may(
            "open_tasks",
            OPEN_TASKS,
            "What becomes of tasks of staff that are open; `close` if not given.",
        ),
    ],
};

static QUIET: Record = Record {
    name: "quiet hours",
    doc: "Hours of the day by the patient's own time zone (the extension `tz-code` of the patient or of an address), or else the journey's.",
    one_of: &[],
    fields: &[
        must("from", Shape::Clock, "When they begin."),
        must(
            "until",
            Shape::Clock,
            "When they end; before `from`, it is on the next day.",
        ),
    ],
};

/// Days of the week, Monday first.
pub(crate) const DAYS: &[(&str, &str)] = &[
    ("mon", "Monday."),
    ("tue", "Tuesday."),
    ("wed", "Wednesday."),
    ("thu", "Thursday."),
    ("fri", "Friday."),
    ("sat", "Saturday."),
    ("sun", "Sunday."),
];

/// Hours in which one message may go out.
pub(crate) static WINDOW: Record = Record {
    name: "window",
    doc: "Hours of the day by the patient's own time zone, or else the journey's, in which a message goes out by channels that reach out. What comes to it at another time waits for the next opening, as it does for quiet hours; in the portal it is at once.",
    one_of: &[],
    fields: &[
        must("from", Shape::Clock, "From when on."),
        must("until", Shape::Clock, "Until when; later than `from`."),
        may(
            "days",
            Shape::List(&Shape::Choice(DAYS)),
            "On which days of the week; on all if not given.",
        ),
    ],
};

static MESSAGES: Record = Record {
    name: "messages",
    doc: "When and how often this journey's messages may reach out to a patient. The organisation's rules (`[messages]` of its rule pack) hold besides, and all journeys of a patient are counted together. What lies in the portal wakes nobody and doesn't count. A message that has to wait goes out later, in its turn by `urgency`, or by its next channel where it could not go in its time.",
    one_of: &[],
    fields: &[
        may(
            "quiet",
            Shape::Record(&QUIET),
            "When no message of it goes out.",
        ),
        may(
            "per_day",
            Shape::Integer(1, 50),
            "It sends nothing where the patient has had so many messages, of whichever journey, in 24 hours.",
        ),
        may(
            "per_week",
            Shape::Integer(1, 200),
            "The same in seven days.",
        ),
    ],
};

/// The whole file.
pub(crate) static JOURNEY: Record = Record {
    name: "journey",
    doc: "A journey: a pathway that patients are led along.",
    one_of: &[],
    fields: &[
        must(
            "name",
            Shape::Name,
            "The journey's name; with the version, it identifies the file.",
        ),
        must("title", Shape::Line, "Title for people."),
        must("owner", Shape::Line, "The team that answers for it."),
        must(
            "purpose",
            Shape::Choice(&[("TREAT", "Treatment."), ("CAREMGT", "Care management.")]),
            "Purpose of use (HL7 v3 `PurposeOfUse`) that the patient's consent must cover.",
        ),
        may(
            "time_zone",
            Shape::Zone,
            "IANA time zone of times of day; `UTC` if not given.",
        ),
        must(
            "at_most",
            Shape::Duration,
            "The longest that one patient can be in this journey; then it ends, so nobody waits for ever.",
        ),
        may(
            "language",
            Shape::Language,
            "The language (BCP 47) that the words are written in; `en` if not given.",
        ),
        may(
            "reading_level",
            Shape::Integer(1, 13),
            "The highest school grade that a message may take to be read; `check` warns above it. Six is what guides for patients advise. English is measured by Flesch and Kincaid's grade, other languages by Anderson's rate of long words (RIX).",
        ),
        may(
            "care_plan",
            Shape::Flag,
            "Whether others see the patient's journey as a `CarePlan` that is active, on hold and over with it, and can hold and end it by that; `true` if not given.",
        ),
        may(
            "messages",
            Shape::Record(&MESSAGES),
            "Limits of messages, where they are to be narrower than the organisation's.",
        ),
        segments::SEGMENTS,
        connectors::CONNECTORS,
        must("entry", Shape::Record(&ENTRY_RULE), "What starts it."),
        must(
            "exits",
            Shape::Map("exit", &Shape::Record(&EXIT_RULE)),
            "Events that end it from anywhere.",
        ),
        must("start", Shape::Target, "The first step."),
        must(
            "steps",
            Shape::Steps,
            "The steps by id (`lower_case_with_underscores`).",
        ),
    ],
};

/// The records of the language, for the reference page, in reading order.
pub(crate) fn records() -> Vec<&'static Record> {
    vec![
        &JOURNEY,
        &MESSAGES,
        &ENTRY_RULE,
        &DATE,
        &AGAIN,
        &REQUEST,
        &WHO,
        &WHO_ITEM,
        &EXIT_RULE,
        &MEMBERSHIP,
        &segments::SEGMENT,
        &segments::CONDITION,
        &segments::AGE,
        &segments::ONE,
        &connectors::CONNECTOR,
        &INPUT,
        &CALL_OF_A_CONNECTOR,
        &TOLD,
        &TAKES_BACK,
        &TOLD_BACK,
    ]
}

/// A kind by name.
pub(crate) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).copied()
}

/// Records inside a shape, for the reference page.
pub(crate) fn record_in(shape: &'static Shape) -> Option<&'static Record> {
    match shape {
        Shape::Record(record) | Shape::TargetOr(record) | Shape::Languages(record) => Some(record),
        Shape::List(inner) | Shape::Map(_, inner) => record_in(inner),
        _ => None,
    }
}

//! The step kinds.

use super::{Clearance, Field, Focus, Kind, Record, Shape, may, must};

const CHANNELS: Shape = Shape::List(&Shape::Choice(&[
    (
        "email",
        "E-mail with a link to the portal. Open: its words may hold no PHI.",
    ),
    (
        "portal",
        "The patient's inbox in the portal. Behind login: it may hold PHI.",
    ),
]));
const ROLES: Shape = Shape::Choice(&[
    ("coordinator", "Care coordinators' worklist."),
    ("clinician", "Clinicians' worklist."),
]);
const PRIORITIES: Shape = Shape::Choice(&[
    ("routine", "In its turn."),
    ("urgent", "Before routine work."),
    ("asap", "As soon as possible."),
    ("stat", "At once; a patient may be in danger."),
]);

static EMAIL: Record = Record {
    name: "email",
    doc: "Words of an e-mail. E-mail isn't cleared for PHI: only the variable `{link}` may stand in them, and the fixed words must not tell what the patient is treated for.",
    one_of: &[],
    fields: &[
        must("subject", Shape::Words(Clearance::Open), "Subject line."),
        must(
            "text",
            Shape::Words(Clearance::Open),
            "Text; `{link}` becomes the link into the portal.",
        ),
    ],
};

static SEND: Record = Record {
    name: "send",
    doc: "A message to the patient.",
    one_of: &[],
    fields: &[
        must(
            "title",
            Shape::Line,
            "Heading of the message, as the patient sees it in the portal.",
        ),
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "The message, as shown in the portal behind login.",
        ),
        must(
            "channels",
            CHANNELS,
            "Channels in order of fall-back: the next is tried when one fails.",
        ),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, a plain notice with a link.",
        ),
        may(
            "expires",
            Shape::Duration,
            "How long one channel may take before the next is tried; `24h` if not given.",
        ),
    ],
};

static QUESTION: Record = Record {
    name: "question",
    doc: "A question of a form.",
    one_of: &[],
    fields: &[
        must(
            "id",
            Shape::Line,
            "Its `linkId`; answers are named `step.id` in conditions.",
        ),
        must("text", Shape::Line, "The question, in plain words."),
        must(
            "type",
            Shape::Choice(&[
                ("yes-no", "Yes or no (`boolean`)."),
                ("whole-number", "A whole number (`integer`)."),
                ("number", "A number (`decimal`)."),
                ("text", "Free text (`text`)."),
                ("choice", "One of `options` (`choice`)."),
                ("date", "A date (`date`)."),
            ]),
            "Type of the answer.",
        ),
        may(
            "help",
            Shape::Line,
            "A sentence of help under the question.",
        ),
        may(
            "required",
            Shape::Flag,
            "Whether an answer is needed; `true` if not given.",
        ),
        may(
            "least",
            Shape::Integer(-1_000_000, 1_000_000),
            "Smallest number allowed.",
        ),
        may(
            "most",
            Shape::Integer(-1_000_000, 1_000_000),
            "Greatest number allowed.",
        ),
        may(
            "options",
            Shape::Map("code", &Shape::Line),
            "Codes and their words, for `choice`.",
        ),
    ],
};

static ASK: Record = Record {
    name: "ask",
    doc: "A form for the patient, answered in the portal. It becomes a FHIR `Questionnaire` when the journey is published and a `Task` when a patient comes here.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "Heading of the form."),
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "What is said above the questions and in the invitation, behind login.",
        ),
        must(
            "questions",
            Shape::List(&Shape::Record(&QUESTION)),
            "The questions.",
        ),
        must(
            "give_up_after",
            Shape::Duration,
            "How long to wait for the answer before `no_answer` is gone.",
        ),
        may(
            "remind_after",
            Shape::Duration,
            "When to remind, counted from the invitation; no reminder if not given.",
        ),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "Words of the reminder; the words of the invitation if not given.",
        ),
        may(
            "channels",
            CHANNELS,
            "Channels of invitation and reminder, in order of fall-back; `[email, portal]` if not given.",
        ),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, a plain notice with a link.",
        ),
    ],
};

static ALTERNATIVE: Record = Record {
    name: "alternative",
    doc: "One of several things that are waited for.",
    one_of: &["for", "until", "event"],
    fields: &[
        may(
            "for",
            Shape::Duration,
            "A length of time since the step was entered.",
        ),
        may(
            "until",
            Shape::Moment,
            "A point in time that hangs on an anchor. When it has passed already, the journey goes on at once.",
        ),
        may(
            "event",
            Shape::Resource,
            "An event of the patient's record: a resource of this type was written.",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "With `event`: what must hold of the resource.",
        ),
        must("next", Shape::Target, "Where to go when this comes first."),
    ],
};

static WAIT: Record = Record {
    name: "wait",
    doc: "A pause: for a time, until a moment, until an event, or until the first of several.",
    one_of: &["for", "until", "event", "first_of"],
    fields: &[
        may(
            "for",
            Shape::Duration,
            "A length of time since the step was entered.",
        ),
        may(
            "until",
            Shape::Moment,
            "A point in time that hangs on an anchor. When it has passed already, the journey goes on at once.",
        ),
        may(
            "event",
            Shape::Resource,
            "An event of the patient's record: a resource of this type was written.",
        ),
        may(
            "where",
            Shape::Path(Focus::Resource),
            "With `event`: what must hold of the resource.",
        ),
        may(
            "at_most",
            Shape::Duration,
            "With `event`: how long to wait; then `not_come` is gone.",
        ),
        may(
            "first_of",
            Shape::List(&Shape::Record(&ALTERNATIVE)),
            "Several things, each with its own `next`; the first that comes decides.",
        ),
    ],
};

static OBSERVE: Record = Record {
    name: "observe",
    doc: "A rule over the patient's measurements. It watches from the journey's start, beside everything else, and starts `then` each time it fires.",
    one_of: &["rises_more_than", "falls_more_than"],
    fields: &[
        must("code", Shape::Loinc, "LOINC code of the `Observation`."),
        must(
            "unit",
            Shape::Unit,
            "UCUM unit of the threshold; measurements in other units of the same dimension are converted.",
        ),
        may(
            "rises_more_than",
            Shape::Positive,
            "Fires when a value is greater than an earlier one by more than this, in `unit`.",
        ),
        may(
            "falls_more_than",
            Shape::Positive,
            "Fires when a value is less than an earlier one by more than this, in `unit`.",
        ),
        must(
            "within",
            Shape::Duration,
            "The most time that may lie between the two measurements.",
        ),
        may(
            "quiet_for",
            Shape::Duration,
            "After it fired, how long it stays quiet; `24h` if not given. Whatever this says, the same rise never fires twice: after firing, only measurements from the one that fired on are compared.",
        ),
        may(
            "until",
            Shape::Moment,
            "When to stop watching; the end of the journey if not given.",
        ),
    ],
};

static CASE: Record = Record {
    name: "case",
    doc: "One case of a branch.",
    one_of: &[],
    fields: &[
        must(
            "when",
            Shape::Path(Focus::Facts),
            "What must hold. Answers and outcomes are named `step.id`, e.g. `symptoms.breathless = true`.",
        ),
        must("next", Shape::Target, "Where to go then."),
        may("label", Shape::Line, "What the case means, for the graph."),
    ],
};

static BRANCH: Record = Record {
    name: "branch",
    doc: "A decision on what the journey has learnt: the first case that holds is gone.",
    one_of: &[],
    fields: &[
        must(
            "cases",
            Shape::List(&Shape::Record(&CASE)),
            "The cases, in order.",
        ),
        must(
            "otherwise",
            Shape::Target,
            "Where to go when no case holds.",
        ),
    ],
};

static ESCALATION: Record = Record {
    name: "escalation",
    doc: "The same task is handed on: to another role, with another priority.",
    one_of: &[],
    fields: &[
        must("role", ROLES, "To whom."),
        must("priority", PRIORITIES, "With which priority."),
    ],
};

static TASK: Record = Record {
    name: "task",
    doc: "Work for staff, in the worklist of a role.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What is to be done."),
        must(
            "reason",
            Shape::Words(Clearance::Closed),
            "Why, in a sentence for staff; `{step.member}` names what the journey has learnt, e.g. `{weight_watch.rise}`.",
        ),
        must("role", ROLES, "Whose worklist."),
        may("priority", PRIORITIES, "`routine` if not given."),
        must(
            "due",
            Shape::Duration,
            "How soon, counted from when the step was entered.",
        ),
        may(
            "outcomes",
            Shape::Map("outcome", &Shape::Target),
            "Outcomes that staff can choose from, and where each leads; any other outcome takes `next`.",
        ),
    ],
};

static BOOK: Record = Record {
    name: "book",
    doc: "A visit is proposed and waits to be booked, in the portal or by staff.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What the visit is for."),
        may(
            "words",
            Shape::Words(Clearance::Closed),
            "What the patient is told with the proposal, behind login.",
        ),
        must(
            "time",
            Shape::Moment,
            "The proposed time, e.g. `discharge + 7d at 10:00`.",
        ),
        must(
            "minutes",
            Shape::Integer(5, 480),
            "How long the visit takes.",
        ),
        must(
            "book_by",
            Shape::Moment,
            "By when it must be booked; then `not_booked` is gone.",
        ),
    ],
};

static EXIT: Record = Record {
    name: "exit",
    doc: "The journey ends here, whatever else is under way.",
    one_of: &[],
    fields: &[
        must(
            "reason",
            Shape::Line,
            "Why, as shown in lists (`Completed`).",
        ),
        may(
            "open_tasks",
            OPEN_TASKS,
            "What becomes of tasks of staff that are open; `keep` if not given.",
        ),
    ],
};

pub(super) const OPEN_TASKS: Shape = Shape::Choice(&[
    (
        "close",
        "They are cancelled, with the exit's title as reason.",
    ),
    ("keep", "They stay in the worklist."),
]);

static PARALLEL: Record = Record {
    name: "parallel",
    doc: "Several branches side by side. When all of them have come to `end`, `next` is gone.",
    one_of: &[],
    fields: &[must(
        "branches",
        Shape::List(&Shape::Target),
        "The first step of each branch.",
    )],
};

/// All step kinds, in the order of the reference.
pub(crate) static KINDS: &[Kind] = &[
    Kind {
        name: "send",
        doc: SEND.doc,
        body: Shape::Record(&SEND),
        ways: &[
            must(
                "next",
                Shape::Target,
                "Where to go once the message has been delivered.",
            ),
            may(
                "on_failure",
                Shape::Target,
                "Where to go when no channel could deliver it.",
            ),
        ],
        example: "welcome:\n  title: Welcome message\n  send:\n    title: Welcome home\n    words: Hello {patient.given|there}. We will be in touch over the next weeks.\n    channels: [email, portal]\n  next: symptoms\n  on_failure: welcome_call\n",
    },
    Kind {
        name: "ask",
        doc: ASK.doc,
        body: Shape::Record(&ASK),
        ways: &[
            must(
                "answered",
                Shape::Target,
                "Where to go when the form was answered.",
            ),
            may(
                "no_answer",
                Shape::Target,
                "Where to go when `give_up_after` has passed without an answer.",
            ),
            may(
                "late_answer",
                Shape::Target,
                "Where a side branch starts when the answer comes after `no_answer` was gone; without it the form is closed then.",
            ),
        ],
        example: "symptoms:\n  title: Symptom questions\n  ask:\n    title: How are you today?\n    words: Please answer a short question.\n    questions:\n      - id: breathless\n        text: Are you more out of breath than usual?\n        type: yes-no\n    remind_after: 24h\n    give_up_after: 48h\n  answered: assess\n  no_answer: call\n",
    },
    Kind {
        name: "wait",
        doc: WAIT.doc,
        body: Shape::Record(&WAIT),
        ways: &[
            may(
                "next",
                Shape::Target,
                "Where to go then (not with `first_of`, where each alternative has its own).",
            ),
            may(
                "not_come",
                Shape::Target,
                "Where to go when `at_most` has passed without the event.",
            ),
        ],
        example: "day_two:\n  title: Until the second day\n  wait:\n    until: discharge + 2d at 09:00\n  next: symptoms\n",
    },
    Kind {
        name: "observe",
        doc: OBSERVE.doc,
        body: Shape::Record(&OBSERVE),
        ways: &[must(
            "then",
            Shape::Target,
            "Where a side branch starts each time the rule fires.",
        )],
        example: "weight_watch:\n  title: Weight watch\n  observe:\n    code: 29463-7\n    unit: kg\n    rises_more_than: 2\n    within: 3d\n    quiet_for: 24h\n  then: weight_task\n",
    },
    Kind {
        name: "branch",
        doc: BRANCH.doc,
        body: Shape::Record(&BRANCH),
        ways: &[],
        example: "assess:\n  title: Alarming symptoms?\n  branch:\n    cases:\n      - when: symptoms.breathless = true\n        label: breathless\n        next: review\n    otherwise: end\n",
    },
    Kind {
        name: "task",
        doc: TASK.doc,
        body: Shape::Record(&TASK),
        ways: &[
            must(
                "next",
                Shape::Target,
                "Where to go when the task was completed.",
            ),
            may(
                "not_done",
                Shape::Target,
                "Where to go when the task was cancelled, rejected or failed; `next` if not given.",
            ),
            may(
                "overdue",
                Shape::TargetOr(&ESCALATION),
                "What happens when it isn't done in time: a step (the task is closed and the journey goes there) or a hand-over (`role`, `priority`).",
            ),
        ],
        example: "call:\n  title: Call the patient\n  task:\n    title: Call the patient\n    reason: The symptom questions were not answered.\n    role: coordinator\n    priority: urgent\n    due: 24h\n  next: end\n  overdue: {role: clinician, priority: urgent}\n",
    },
    Kind {
        name: "book",
        doc: BOOK.doc,
        body: Shape::Record(&BOOK),
        ways: &[
            must(
                "next",
                Shape::Target,
                "Where to go when the visit has taken place.",
            ),
            may(
                "not_booked",
                Shape::Target,
                "Where to go when it wasn't booked in time, was declined, or was cancelled.",
            ),
            may(
                "missed",
                Shape::Target,
                "Where to go when the patient did not come (`noshow`); `not_booked` if not given.",
            ),
        ],
        example: "visit:\n  title: Visit on day 7\n  book:\n    title: Check-up after your stay\n    time: discharge + 7d at 10:00\n    minutes: 30\n    book_by: discharge + 5d at 12:00\n  next: end\n  not_booked: visit_task\n",
    },
    Kind {
        name: "parallel",
        doc: PARALLEL.doc,
        body: Shape::Record(&PARALLEL),
        ways: &[must(
            "next",
            Shape::Target,
            "Where to go when all branches have ended.",
        )],
        example: "follow_up:\n  title: Follow-up\n  parallel:\n    branches: [day_two, visit]\n  next: finished\n",
    },
    Kind {
        name: "exit",
        doc: EXIT.doc,
        body: Shape::Record(&EXIT),
        ways: &[],
        example: "finished:\n  title: Completed\n  exit:\n    reason: Completed\n",
    },
];

/// Members that every step has besides its kind and its ways out.
pub(crate) static STEP_COMMON: &[Field] = &[
    must(
        "title",
        Shape::Line,
        "Short title for staff: timeline, graph, worklist.",
    ),
    may(
        "plain",
        Shape::Line,
        "What the patient is told when this is ahead (`What happens next`); a plain sentence is made from the step's kind if not given.",
    ),
];

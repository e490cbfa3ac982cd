//! What several step kinds share: channels, roles, words of an e-mail, and the members of every step.

use super::{Clearance, Field, Record, Shape, may, must};

pub(crate) const CHANNELS: Shape = Shape::List(&Shape::Choice(&[
    (
        "email",
        "E-mail with a link to the portal. Open: its words may hold no PHI.",
    ),
    (
        "sms",
        "A text message with a link to the portal. Open: its words may hold no PHI.",
    ),
    (
        "push",
        "A notification on the devices where the patient has turned notifications on, with a link to the portal. It says who writes and that there is a message, and nothing else: it has no words of the journey's.",
    ),
    (
        "letter",
        "A letter to the patient's own address, printed and posted by a partner. In a sealed envelope: it holds `title` and `words`, and they may hold PHI if the partner is cleared for it.",
    ),
    (
        "voice",
        "A telephone call by a partner, who speaks the words of `voice`. Open: they may hold no PHI.",
    ),
    (
        "portal",
        "The patient's inbox in the portal. Behind login: it may hold PHI.",
    ),
]));
pub(crate) const ROLES: Shape = Shape::Choice(&[
    ("coordinator", "Care coordinators' worklist."),
    ("clinician", "Clinicians' worklist."),
]);
pub(crate) const PRIORITIES: Shape = Shape::Choice(&[
    ("routine", "In its turn."),
    ("urgent", "Before routine work."),
    ("asap", "As soon as possible."),
    ("stat", "At once; a patient may be in danger."),
]);

pub(crate) const URGENCY: Shape = Shape::Choice(&[
    ("routine", "In its turn."),
    (
        "important",
        "Before what is routine, and in the places that are kept for it.",
    ),
    (
        "clinical",
        "At once, in quiet hours too and whatever else was sent; `because` says why.",
    ),
]);
/// What a message of a `send` is about. Forms and visits say it by what they are.
pub(crate) const TOPIC: Shape = Shape::Choice(&[
    (
        "visits",
        "A visit, or a stay: reminders, what to bring, that it was moved.",
    ),
    (
        "forms",
        "Questions and forms, as what asks somebody to answer one.",
    ),
    ("care", "All else of the care plan."),
]);

/// What becomes of a message whose patient is in hospital when it would leave.
pub(crate) const WHILE_ADMITTED: Field = may(
    "while_admitted",
    Shape::Choice(&[
        ("send", "It goes."),
        (
            "hold",
            "It waits until the patient is out; where its time is over before, it was not sent, and goes that way.",
        ),
        (
            "skip",
            "It is not sent: the next channel is tried, and the portal has it if it is one.",
        ),
    ]),
    "What becomes of it by e-mail, text message, notification, letter or call where the patient is in hospital when it would leave: an inpatient, under observation, or in the emergency department. If not given, what is `clinical` is sent, and all else held. What lies in the portal, and word that a visit was called off, always goes.",
);

/// What `because` is for.
pub(crate) const BECAUSE: &str =
    "Why it can't wait; needed where `urgency` is `clinical`, and only there.";

pub(crate) static EMAIL: Record = Record {
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

pub(crate) static SMS: Record = Record {
    name: "sms",
    doc: "Words of a text message. It isn't cleared for PHI: only the variable `{link}` may stand in them, and the fixed words must not tell what the patient is treated for.",
    one_of: &[],
    fields: &[must(
        "words",
        Shape::Words(Clearance::Open),
        "Text; `{link}` becomes the link into the portal.",
    )],
};

pub(crate) static VOICE: Record = Record {
    name: "voice",
    doc: "Words that are spoken on the telephone. A call isn't cleared for PHI, because anybody may answer it: no variable may stand in them, and the fixed words must not tell what the patient is treated for.",
    one_of: &[],
    fields: &[
        must("words", Shape::Words(Clearance::Spoken), "What is said."),
        may(
            "script",
            Shape::Line,
            "The number of a recording that the partner has, which says these words.",
        ),
    ],
};

/// What a message says of its e-mail.
pub(crate) const EMAIL_MEMBER: Field = may(
    "email",
    Shape::Record(&EMAIL),
    "Words of the e-mail; without it, a plain notice with a link.",
);

/// What a message says of its text message.
pub(crate) const SMS_MEMBER: Field = may(
    "sms",
    Shape::Record(&SMS),
    "Words of the text message; without it, a plain notice with a link.",
);

/// What a message says of its telephone call.
pub(crate) const VOICE_MEMBER: Field = may(
    "voice",
    Shape::Record(&VOICE),
    "Words of the telephone call; without them, that there is a message in the portal.",
);

/// The same in another language.
const VOICE_OF_A_TRANSLATION: Field = may(
    "voice",
    Shape::Record(&VOICE),
    "Words of the telephone call; without them, those of the journey's own language.",
);

/// The same in another language.
const SMS_OF_A_TRANSLATION: Field = may(
    "sms",
    Shape::Record(&SMS),
    "Words of the text message; without it, those of the journey's own language.",
);

/// That a form is answered by replying to its text message.
pub(crate) static REPLY: Record = Record {
    name: "reply",
    doc: "A form with one question that is answered by replying to its text message: `yes` or `no`, a number within its bounds, the number of an option or its words, and nothing besides. The words of the question are those of `sms`; the options of a choice are put behind them with their numbers, so they may hold no PHI either. What is more than an answer, or none, is kept in the record, and goes the way `unclear`.",
    one_of: &[],
    fields: &[must(
        "again",
        Shape::Words(Clearance::Open),
        "What is said to a reply that is no answer, twice at most: what to send, as in `Please reply YES or NO.` What the organisation says of its number (`sms.help`) stands behind it.",
    )],
};

/// The same in another language.
const REPLY_OF_A_TRANSLATION: Field = may(
    "reply",
    Shape::Record(&REPLY),
    "Words to a reply that is no answer; without them, those of the journey's own language.",
);

/// The words of a message in another language.
pub(crate) static TRANSLATION: Record = Record {
    name: "translation",
    doc: "A message in another language, for patients who prefer it (`Patient.communication`). Days in it are dates (`2026-12-03`).",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "The heading."),
        must("words", Shape::Words(Clearance::Closed), "The words."),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, those of the journey's own language.",
        ),
        SMS_OF_A_TRANSLATION,
        VOICE_OF_A_TRANSLATION,
    ],
};

/// A question in another language.
static QUESTION: Record = Record {
    name: "question in another language",
    doc: "A question in another language, for patients who prefer it. What isn't there is shown in the journey's own.",
    one_of: &[],
    fields: &[
        must("id", Shape::Line, "The question's `id`."),
        must("text", Shape::Line, "The question, in plain words."),
        may(
            "help",
            Shape::Line,
            "A sentence of help under the question.",
        ),
        may(
            "options",
            Shape::Map("code", &Shape::Line),
            "The words of its options by code.",
        ),
    ],
};

/// The same of a form's invitation, reminder and questions.
pub(crate) static TRANSLATIONS_OF_A_FORM: Record = Record {
    name: "invitation in another language",
    doc: "A form in another language: invitation, reminder, heading and questions. Days in it are dates (`2026-12-03`).",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "The heading."),
        must("words", Shape::Words(Clearance::Closed), "The invitation."),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "The reminder; the words of the invitation if not given.",
        ),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, those of the journey's own language.",
        ),
        SMS_OF_A_TRANSLATION,
        VOICE_OF_A_TRANSLATION,
        REPLY_OF_A_TRANSLATION,
        may(
            "questions",
            Shape::List(&Shape::Record(&QUESTION)),
            "The questions; those that aren't there are asked in the journey's own language.",
        ),
    ],
};

/// The same of a visit's reminders.
pub(crate) static TRANSLATION_OF_A_VISIT: Record = Record {
    name: "reminder in another language",
    doc: "A visit's reminders in another language. Days in them are dates (`2026-12-03`).",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What the visit is for."),
        must("reminder", Shape::Words(Clearance::Closed), "The reminder."),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, those of the journey's own language.",
        ),
        SMS_OF_A_TRANSLATION,
        VOICE_OF_A_TRANSLATION,
    ],
};

/// The same of what asks the patient to book a visit.
pub(crate) static TRANSLATION_OF_A_PROPOSAL: Record = Record {
    name: "proposal in another language",
    doc: "What asks the patient to book a visit, in another language. Days in it are dates (`2026-12-03`).",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What the visit is for."),
        must("words", Shape::Words(Clearance::Closed), "The words."),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "The reminder while it isn't booked; `words` if not given.",
        ),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, those of the journey's own language.",
        ),
        SMS_OF_A_TRANSLATION,
        VOICE_OF_A_TRANSLATION,
    ],
};

/// The same of what confirms a booked visit.
pub(crate) static TRANSLATION_OF_A_CONFIRMATION: Record = Record {
    name: "confirmation in another language",
    doc: "What says that a visit is booked, was moved or was called off, in another language. Days in it are dates (`2026-12-03`).",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What the visit is for."),
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "The message when it is booked, and when it was moved.",
        ),
        must(
            "called_off",
            Shape::Words(Clearance::Closed),
            "The message when it was called off.",
        ),
        may(
            "email",
            Shape::Record(&EMAIL),
            "Words of the e-mail; without it, those of the journey's own language.",
        ),
        SMS_OF_A_TRANSLATION,
        VOICE_OF_A_TRANSLATION,
    ],
};

/// Member of a message that has it in other languages.
pub(crate) const TRANSLATIONS: &str = "translations";

pub(crate) const OPEN_TASKS: Shape = Shape::Choice(&[
    (
        "close",
        "They are cancelled, with the exit's title as reason.",
    ),
    ("keep", "They stay in the worklist."),
]);

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

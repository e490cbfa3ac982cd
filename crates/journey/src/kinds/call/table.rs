//! The table of a call, and that of a connector: the same call, written once for many journeys.

use super::values::{IS, LEARNT, OF_PATIENT, OR, SENT_AS, VALUE};
use crate::spec::{Field, Focus, Record, Shape, may, must};

const CLASSES: Shape = Shape::Choice(&[
    ("identity", "Who the patient is."),
    ("contact", "How they are reached."),
    (
        "health",
        "What they are treated for, and all else that is in their record.",
    ),
]);

static OPERATION: Record = Record {
    name: "operation",
    doc: "A FHIR operation: the values go as a `Parameters` resource.",
    one_of: &[],
    fields: &[
        must(
            "name",
            Shape::Line,
            "Its name, `$` before it: `$evaluate-measure`.",
        ),
        may(
            "on",
            Shape::Line,
            "The type or resource that it is asked of: `Measure` or `Measure/heart-failure`; the whole service if not given.",
        ),
    ],
};

static LEARNS: Record = Record {
    name: "what is learnt",
    doc: "Something that is taken from the answer. Nothing else of the answer is kept.",
    one_of: &[],
    fields: &[
        must(
            "path",
            Shape::Path(Focus::Answer),
            "FHIRPath on the answer's JSON: `booking.id`. It has to give one text, number, or yes or no; the journey learns nothing otherwise.",
        ),
        must(
            "class",
            CLASSES,
            "What it tells of a person. Partners that aren't cleared for it are not told it.",
        ),
    ],
};

static RETRY: Record = Record {
    name: "retry",
    doc: "How often and how soon a call is tried again that had no answer, or an answer that may be another one later: a status from 500, 408, 425 or 429. Where the answer says `Retry-After`, in seconds or as a date, that is waited for, four hours at most.",
    one_of: &[],
    fields: &[
        must(
            "times",
            Shape::Integer(0, 50),
            "How many times it is tried again.",
        ),
        may(
            "backoff_s",
            Shape::Integer(1, 3600),
            "The first pause, seconds; each is twice as long as the one before, up to four hours, give or take a fifth. 60 if not given.",
        ),
    ],
};

static COMPENSATE: Record = Record {
    name: "compensation",
    doc: "What takes the call back: a `POST` with a key of its own, the call's key in the header `Compensates`, and a body of the call's form. It is made once: when the journey ends by an exit rule, a stop, its longest time, an entry that was none, or with the journey that began it; when this call fails or isn't answered in time, or somebody leads the patient away from here by hand before the answer; and when a later call fails that names this step in `takes_back`. It is not made where the partner is known to have done nothing. Of several the newest goes first; of one journey the newest hundred are taken back. A journey that comes to its end takes back what was not answered yet, and nothing else. The patient's consents are not asked again, so it may name nothing but fixed words and what this call has learnt itself. A coordinator gets a task when the partner can't be told in seven days.",
    one_of: &[],
    fields: &[
        must("path", Shape::Line, "The path below the partner's address."),
        may(
            "values",
            Shape::Map("value", &Shape::Record(&VALUE)),
            "What is sent; one that isn't there is left out.",
        ),
    ],
};

const PATH: Field = may(
    "path",
    Shape::Line,
    "The path below the partner's address: `/bookings`. Fixed words: nothing of a patient is ever in an address.",
);
const METHOD: Field = may(
    "method",
    Shape::Choice(&[("post", "`POST`."), ("put", "`PUT`.")]),
    "`post` if not given.",
);
const BODY: Field = may(
    "body",
    Shape::Choice(&[
        ("json", "A JSON object with a member for each value."),
        (
            "nested",
            "JSON objects within each other, where the name under which a value is sent has dots: `booking.time.start`.",
        ),
        (
            "form",
            "A form as pages send it (`application/x-www-form-urlencoded`). The answer is JSON all the same.",
        ),
    ]),
    "How the values go; `json` if not given. Those of an `operation` go as FHIR says.",
);
static EACH: Shape = Shape::Record(&LEARNS);
const LEARNT_OF_IT: Field = may(
    "learns",
    Shape::Map("member", &EACH),
    "What the journey learns from the answer; conditions name it `step.member`. `step.status` is the status of the answer.",
);
const ACCEPTS: Field = may(
    "accepts",
    Shape::List(&Shape::Integer(400, 499)),
    "Statuses that are answers, too, besides those from 200 to 299: `[404, 409]`.",
);
const PATIENCE: Field = may(
    "timeout_s",
    Shape::Integer(1, 300),
    "How long one attempt may take, seconds: 10 if not given, and never longer than `partners.toml` lets it.",
);
const AGAIN: Field = may("retry", Shape::Record(&RETRY), RETRY.doc);
const ASKED: Field = may("operation", Shape::Record(&OPERATION), OPERATION.doc);

static GIVEN: Record = Record {
    name: "input of a connector",
    doc: "What a step gives a connector for one of its inputs, with the data class that a value of a call has.",
    one_of: &["is", "patient", "learnt"],
    fields: &[IS, OF_PATIENT, LEARNT, OR],
};

pub(crate) static CALL: Record = Record {
    name: crate::spec::CALL,
    doc: "A call to a partner over HTTP, and its answer. Each attempt has the same `Idempotency-Key`, so that the partner can tell a repeat. When it goes out, consents are asked again, and so is whether the partner is bound by a contract in force and cleared for the purpose and for each data class that it would be told.",
    one_of: &["path", "operation", "connector"],
    fields: &[
        may(
            "partner",
            Shape::Name,
            "The partner, as `partners.toml` names it. Needed, unless it is the connector's.",
        ),
        PATH,
        ASKED,
        may(
            "connector",
            Shape::Line,
            "A connector, which says the rest: one of `connectors`. Beside it stand `with`, `up_to` and `takes_back` alone, and `partner` where the connector leaves that to the step.",
        ),
        may(
            "with",
            Shape::Map("input", &Shape::Record(&GIVEN)),
            "What the connector takes, by the names of its inputs.",
        ),
        METHOD,
        BODY,
        may(
            "values",
            Shape::Map("value", &Shape::Record(&VALUE)),
            "What is sent, by name. Nothing else of the patient leaves.",
        ),
        LEARNT_OF_IT,
        ACCEPTS,
        PATIENCE,
        AGAIN,
        must(
            "up_to",
            Shape::Duration,
            "How long the answer is waited for, with all attempts.",
        ),
        may("compensate", Shape::Record(&COMPENSATE), COMPENSATE.doc),
        may(
            "takes_back",
            Shape::List(&Shape::Line),
            "Earlier calls that are taken back when this one fails or is not answered in time: steps with `compensate`.",
        ),
    ],
};

/// What a step says itself where it names a connector.
pub(crate) const BESIDE_A_CONNECTOR: [&str; 5] =
    ["connector", "with", "partner", "up_to", "takes_back"];

pub(crate) static INPUT: Record = Record {
    name: "input",
    doc: "Something that a connector takes.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What it is for, for people."),
        may(
            "classes",
            Shape::List(&CLASSES),
            "What it may tell of a person. A step can give nothing that tells more; without it, fixed words alone.",
        ),
        may(
            "needed",
            Shape::Flag,
            "Whether each step has to give it; `true` if not given. What isn't given is left out of what is sent, or `or` stands for it. What a step gives and isn't there when the call is made stops the call all the same, unless the step or the connector says `or`.",
        ),
    ],
};

const TAKEN: Field = may("input", Shape::Line, "This input, as the step gives it.");

pub(crate) static TOLD: Record = Record {
    name: "value of a connector",
    doc: "A value that the partner is told. What journeys have learnt comes by an `input`, because a connector knows no journey.",
    one_of: &["is", "patient", "input"],
    fields: &[IS, OF_PATIENT, TAKEN, SENT_AS, OR],
};

pub(crate) static TOLD_BACK: Record = Record {
    name: "value that takes a call back",
    doc: "A value that the partner is told when the call is taken back: fixed words, or what the call has learnt. An `input` may stand here that takes fixed words alone.",
    one_of: &["is", "answer", "input"],
    fields: &[
        IS,
        may(
            "answer",
            Shape::Line,
            "What the call itself has learnt under this name (`learns`).",
        ),
        TAKEN,
        SENT_AS,
        OR,
    ],
};

pub(crate) static TAKES_BACK: Record = Record {
    name: "compensation of a connector",
    doc: "What takes the call back, as `compensate` of a call does.",
    one_of: &[],
    fields: &[
        must("path", Shape::Line, "The path below the partner's address."),
        may(
            "values",
            Shape::Map("value", &Shape::Record(&TOLD_BACK)),
            "What is sent; one that isn't there is left out.",
        ),
    ],
};

pub(crate) static CALL_OF_A_CONNECTOR: Record = Record {
    name: "call of a connector",
    doc: "The call that a connector stands for.",
    one_of: &["path", "operation"],
    fields: &[
        may(
            "partner",
            Shape::Name,
            "The partner, as `partners.toml` names it. Without it each step names one: a connector may be of a kind of partners.",
        ),
        PATH,
        ASKED,
        METHOD,
        BODY,
        may(
            "values",
            Shape::Map("value", &Shape::Record(&TOLD)),
            "What is sent, by name. Nothing else of the patient leaves.",
        ),
        LEARNT_OF_IT,
        ACCEPTS,
        PATIENCE,
        AGAIN,
        may(
            "compensate",
            Shape::Record(&TAKES_BACK),
            "What takes the call back, as `compensate` of a call does.",
        ),
    ],
};

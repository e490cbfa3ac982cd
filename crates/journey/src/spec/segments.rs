//! Segments: named populations, in a journey's own file or in `segments.yaml` beside it.

use super::{Field, Focus, Record, Shape, may, must};

const AGED: Field = may(
    "aged",
    Shape::Record(&AGE),
    "The patient's age in whole years. Who has no whole date of birth in the record has no age.",
);
const HAS: Field = may(
    "has",
    Shape::Resource,
    "The record has a resource of this type ...",
);
const HAS_NO: Field = may(
    "has_no",
    Shape::Resource,
    "The record has no resource of this type ...",
);
const WHERE: Field = may(
    "where",
    Shape::Path(Focus::Resource),
    "... of which this holds. It can't ask what time it is: say that with `dated` and `within`.",
);
const DATED: Field = may(
    "dated",
    Shape::Path(Focus::Resource),
    "... that counts by a date, time or `Period` which it says here: from then on, and of a `Period` until its end. What says none doesn't count.",
);
const WITHIN: Field = may(
    "within",
    Shape::Span,
    "With `dated`: ... and for so long after it (`12mo`, `1y`, `90d`, `36h`), by the calendar of the patient's own time zone, or else the journey's.",
);

pub(super) static AGE: Record = Record {
    name: "age",
    doc: "An age in whole years: at least one of the two is given.",
    one_of: &[],
    fields: &[
        may(
            "from",
            Shape::Integer(0, 150),
            "This old at least: from that birthday on.",
        ),
        may(
            "to",
            Shape::Integer(0, 150),
            "This old at most: until the birthday after.",
        ),
    ],
};

pub(super) static ONE: Record = Record {
    name: "one of several conditions",
    doc: "One condition of several, of which one is enough.",
    one_of: &["aged", "has", "has_no"],
    fields: &[AGED, HAS, HAS_NO, WHERE, DATED, WITHIN],
};

pub(super) static CONDITION: Record = Record {
    name: "condition of a segment",
    doc: "One condition on the patient's record.",
    one_of: &["aged", "has", "has_no", "any"],
    fields: &[
        AGED,
        HAS,
        HAS_NO,
        WHERE,
        DATED,
        WITHIN,
        may(
            "any",
            Shape::List(&Shape::Record(&ONE)),
            "Several conditions; one that holds is enough.",
        ),
    ],
};

pub(super) static SEGMENT: Record = Record {
    name: "segment",
    doc: "A named population: the patients of whose record all of this holds. Who has died, or whose record another has replaced, is in none. What a patient's consents, labels or seals keep from those who coordinate care counts for nothing, and who has anything of a type kept from them is not taken to have none of it (`has_no`). A condition that can't be evaluated leaves a patient in or out as they were.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "Who they are, for people."),
        must(
            "all",
            Shape::List(&Shape::Record(&CONDITION)),
            "Conditions that all have to hold.",
        ),
    ],
};

static EACH: Shape = Shape::Record(&SEGMENT);

/// The member that holds segments, in a journey and in a file of its own.
pub(super) const SEGMENTS: Field = may(
    "segments",
    Shape::Map("segment", &EACH),
    "Named populations that the entry, exits and waits of this journey name, beside those of `segments.yaml` in the same folder. Those that it names are published with it, and stay as they are for the patients of this version.",
);

/// A file of segments.
pub(crate) static SHARED: Record = Record {
    name: "segments",
    doc: "Named populations that journeys in the same folder share.",
    one_of: &[],
    fields: &[must(
        "segments",
        Shape::Map("segment", &EACH),
        "The segments by name (`lower_case_with_underscores`).",
    )],
};

/// Being in a segment or not, for exits and waits.
pub(crate) static MEMBERSHIP: Record = Record {
    name: "membership",
    doc: "Whether the patient is in a segment. It is looked at when what the segment asks for is written, a few seconds later, and at the moment when time alone changes the answer.",
    one_of: &["entered", "left"],
    fields: &[
        may(
            "entered",
            Shape::Line,
            "The patient is in this segment, since now or since before.",
        ),
        may(
            "left",
            Shape::Line,
            "The patient is not in this segment, any more or at all.",
        ),
    ],
};

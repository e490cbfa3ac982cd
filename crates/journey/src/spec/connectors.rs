//! Connectors: calls that are written once, in a journey's own file or in `connectors.yaml` beside it.

use super::{Field, Record, Shape, may, must};
use crate::kinds::call_table::{CALL_OF_A_CONNECTOR, INPUT};

pub(super) static CONNECTOR: Record = Record {
    name: "connector",
    doc: "A named call to a partner, or to a kind of partners, that steps make with what they give it. A step that names one makes the same call as one that has it written out.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "What it does, for people."),
        may(
            "takes",
            Shape::Map("input", &Shape::Record(&INPUT)),
            "What steps give it, by name.",
        ),
        must(
            "call",
            Shape::Record(&CALL_OF_A_CONNECTOR),
            "The call that it stands for.",
        ),
    ],
};

static EACH: Shape = Shape::Record(&CONNECTOR);

/// The member that holds connectors, in a journey and in a file of its own.
pub(super) const CONNECTORS: Field = may(
    "connectors",
    Shape::Map("connector", &EACH),
    "Calls that steps of this journey name, beside those of `connectors.yaml` in the same folder. Those that it names are published with it, and stay as they are for the patients of this version.",
);

/// A file of connectors.
pub(crate) static SHARED_CONNECTORS: Record = Record {
    name: "connectors",
    doc: "Calls to partners that journeys in the same folder share.",
    one_of: &[],
    fields: &[must(
        "connectors",
        Shape::Map("connector", &EACH),
        "The connectors by name (`lower_case_with_underscores`).",
    )],
};

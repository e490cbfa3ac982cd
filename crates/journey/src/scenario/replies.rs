//! Replies to text messages in scenarios: what a file says of one.

use super::file::Happens;
use crate::decode::build::line;
use crate::form::{Form, Table, needs};
use crate::yaml::Node;

pub(super) static REPLY: Table = Table {
    name: "reply",
    doc: "The patient replies to the text message of a step's newest form, which is answered so (`reply`).",
    one_of: &[],
    members: &[
        needs("step", Form::Step, "The step."),
        needs(
            "says",
            Form::Line,
            "What they write, as it is: in quotes where it is a number, `yes` or `no`.",
        ),
    ],
};

pub(super) fn happens(node: &Node) -> Option<Happens> {
    Some(Happens::Reply {
        step: line(node, "step")?,
        says: line(node, "says")?,
    })
}
